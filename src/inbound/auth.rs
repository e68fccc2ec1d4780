//! Who may send: a request is checked against the credentials of its source, its head first and then its body.
//!
//! The answer is yes or no and nothing else: a sender does not learn which part of a wrong request was nearly right.

use crate::credential::{Credential, MessageId, RequestHead, Shown, Signature};

pub(crate) use crate::credential::Denied;

/// The `auth` of a source.
#[derive(Debug)]
pub enum Policy {
    /// `auth: none`, written out by the operator.
    Open,
    /// Any one of these lets a request in.
    AnyOf(Vec<Credential>),
}

/// Proves that the head of a request satisfies the policy, or will if one of its signatures is that of the body: its body
/// may be read, and is to be checked next.
#[derive(Debug)]
pub struct HeadChecked {
    /// Empty where the head is enough.
    signatures: Vec<Signature>,
}

/// Proves that a request satisfies the policy as a whole: its body may be decoded and kept.
#[derive(Debug)]
pub struct Authenticated {
    message: Option<MessageId>,
}

impl Policy {
    /// Checks what is there before anything of the body is read.
    ///
    /// Every credential is compared, also after one matched, so that the time taken does not tell which.
    pub fn check_head(&self, head: &RequestHead<'_>) -> Result<HeadChecked, Denied> {
        let credentials = match self {
            Policy::Open => return Ok(HeadChecked { signatures: Vec::new() }),
            Policy::AnyOf(credentials) => credentials,
        };
        let (mut matched, mut signatures, mut denied) = (false, Vec::new(), Denied::Missing);
        for credential in credentials {
            match credential.check_head(head) {
                Ok(Shown::Right) => matched = true,
                Ok(Shown::Signed(signature)) => signatures.push(*signature),
                Err(why) => denied = denied.max(why),
            }
        }
        match () {
            () if denied == Denied::Repeated => Err(denied),
            () if matched => Ok(HeadChecked { signatures: Vec::new() }),
            () if !signatures.is_empty() => Ok(HeadChecked { signatures }),
            () => Err(denied),
        }
    }
}

impl HeadChecked {
    /// Only the body will tell who sent it.
    pub fn awaits_body(&self) -> bool {
        !self.signatures.is_empty()
    }

    /// Checks the whole body, as it came, before it is decoded.
    pub fn check_body(&self, body: &[u8]) -> Result<Authenticated, Denied> {
        if !self.awaits_body() {
            return Ok(Authenticated { message: None });
        }
        // All of them, so that the time taken does not tell which.
        let right = self.signatures.iter().fold(None, |right, signature| match signature.is_of(body) {
            true => Some(signature),
            false => right,
        });
        let signature = right.ok_or(Denied::Wrong)?;
        Ok(Authenticated { message: signature.message(body) })
    }
}

impl Authenticated {
    /// The message that was sent, where its sender gave it an id that it signed: it sends it again until it is answered.
    pub fn message(&self) -> Option<MessageId> {
        self.message
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;
    use crate::secret::Secret;

    /// A claim, headers, and a query.
    type Row<'a> = (&'a str, &'a [(&'static str, &'a str)], Option<&'a str>);

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn policy() -> Policy {
        Policy::AnyOf(vec![
            Credential::Bearer(secret("bearer+secret=")),
            Credential::Bearer(secret("rotated")),
            Credential::Header { name: HeaderName::from_static("x-token"), secret: secret("header secret") },
            Credential::Query { name: "token".to_owned(), secret: secret("query+secret/%") },
        ])
    }

    fn admitted(policy: &Policy, headers: &[(&'static str, &str)], query: Option<&str>) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let head = RequestHead { query, ..RequestHead::of_headers(&map) };
        policy.check_head(&head).and_then(|head| head.check_body(b"{}")).is_ok()
    }

    #[test]
    fn any_one_credential_lets_a_request_in() {
        let rows: &[Row<'_>] = &[
            ("a bearer token", &[("authorization", "Bearer bearer+secret=")], None),
            ("the scheme has no case", &[("authorization", "bEARER bearer+secret=")], None),
            ("several spaces may follow the scheme", &[("authorization", "Bearer   bearer+secret=")], None),
            ("a second bearer secret, as while rotating", &[("authorization", "Bearer rotated")], None),
            ("a header of the operator's choice", &[("x-token", "header secret")], None),
            ("a query parameter, percent-encoded", &[], Some("a=b&token=query%2bsecret%2F%25")),
            ("a query parameter with a bare plus sign", &[], Some("token=query+secret/%25&c")),
            ("an encoded parameter name", &[], Some("%74oken=query+secret/%25")),
            (
                "one right beside one wrong",
                &[("authorization", "Bearer wrong"), ("x-token", "header secret")],
                Some("token=wrong"),
            ),
            (
                "another scheme beside a right header",
                &[("authorization", "Basic eA=="), ("x-token", "header secret")],
                None,
            ),
        ];
        for (claim, headers, query) in rows {
            assert!(admitted(&policy(), headers, *query), "{claim}");
        }
    }

    #[test]
    fn everything_else_is_denied() {
        let rows: &[Row<'_>] = &[
            ("nothing presented", &[], None),
            ("a wrong token", &[("authorization", "Bearer wrong")], None),
            ("a prefix of the token", &[("authorization", "Bearer bearer+secret")], None),
            ("the token and more", &[("authorization", "Bearer bearer+secret=x")], None),
            ("the token in another case", &[("authorization", "Bearer BEARER+SECRET=")], None),
            ("no space after the scheme", &[("authorization", "Bearerbearer+secret=")], None),
            ("the scheme alone", &[("authorization", "Bearer ")], None),
            ("no scheme", &[("authorization", "bearer+secret=")], None),
            ("another scheme", &[("authorization", "Basic bearer+secret=")], None),
            ("the bearer secret in the header's place", &[("x-token", "bearer+secret=")], None),
            ("the header's secret as a bearer token", &[("authorization", "Bearer header secret")], None),
            ("an empty parameter", &[], Some("token=")),
            ("a parameter without a value", &[], Some("token")),
            ("a parameter of another name", &[], Some("Token=query+secret/%25")),
            (
                "a repeated Authorization header, one of them right",
                &[("authorization", "Bearer rotated"), ("authorization", "Bearer wrong")],
                None,
            ),
            ("the same header twice", &[("x-token", "header secret"), ("x-token", "header secret")], None),
            ("a repeated parameter", &[], Some("token=query+secret/%25&token=query+secret/%25")),
            ("a parameter repeated in disguise", &[], Some("token=query+secret/%25&t%6Fken=x")),
            (
                "a repeated parameter beside a right bearer token",
                &[("authorization", "Bearer rotated")],
                Some("token=a&token=b"),
            ),
        ];
        for (claim, headers, query) in rows {
            assert!(!admitted(&policy(), headers, *query), "{claim}");
        }
    }

    #[test]
    fn a_wrong_credential_is_told_from_none() {
        let rows: &[(Denied, Row<'_>)] = &[
            (Denied::Missing, ("nothing", &[], None)),
            (Denied::Missing, ("another place", &[("x-other", "rotated")], Some("key=rotated"))),
            (Denied::NotBearer, ("another scheme", &[("authorization", "Basic eA==")], None)),
            (Denied::NotBearer, ("the token without its scheme", &[("authorization", "rotated")], None)),
            (
                Denied::Wrong,
                ("no scheme beside another one's secret", &[("authorization", "x"), ("x-token", "y")], None),
            ),
            (Denied::Wrong, ("another token", &[("authorization", "Bearer x")], None)),
            (Denied::Wrong, ("an empty parameter", &[], Some("token="))),
            (Denied::Wrong, ("another one's secret", &[("x-token", "rotated")], None)),
            (Denied::Repeated, ("a repeated parameter", &[], Some("token=a&token=b"))),
        ];
        for (denied, (claim, headers, query)) in rows {
            let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            let headers = headers.collect();
            let head = RequestHead { query: *query, ..RequestHead::of_headers(&headers) };
            assert_eq!(policy().check_head(&head).err(), Some(*denied), "{claim}");
        }
    }

    #[test]
    fn an_empty_secret_lets_nobody_in() {
        let policy = Policy::AnyOf(vec![
            Credential::Bearer(secret("")),
            Credential::Query { name: "token".to_owned(), secret: secret("") },
        ]);
        assert!(!admitted(&policy, &[("authorization", "Bearer ")], Some("token=")));
        assert!(!admitted(&Policy::AnyOf(Vec::new()), &[], None));
    }

    #[test]
    fn an_open_source_asks_for_nothing() {
        assert!(admitted(&Policy::Open, &[], None));
        assert!(admitted(&Policy::Open, &[("authorization", "Bearer x")], Some("token=a&token=b")));
    }

    #[test]
    fn a_signature_counts_beside_the_others_and_only_with_its_body() {
        let hooks = |key: &str| Credential::StandardWebhooks(secret(key));
        let policy = Policy::AnyOf(vec![hooks("b2xk"), hooks("bmV3"), Credential::Bearer(secret("token"))]);
        let signed = |key: &str| {
            let mut request = http::Request::new(());
            hooks(key).present_with_body(&mut request, b"{}", "msg_1", crate::clock::WallTime(0)).unwrap();
            request.into_parts().0.headers
        };
        let with_token = |mut headers: HeaderMap, token: &str| {
            headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
            headers
        };
        type Row = (&'static str, HeaderMap, &'static [u8], Result<bool, Denied>);
        let rows: [Row; 7] = [
            ("by the old key", signed("b2xk"), b"{}", Ok(true)),
            ("by the new key", signed("bmV3"), b"{}", Ok(true)),
            ("by another source's key", signed("b3RoZXI="), b"{}", Err(Denied::Wrong)),
            ("another body", signed("bmV3"), b"[]", Err(Denied::Wrong)),
            ("a token is enough", with_token(signed("b3RoZXI="), "token"), b"[]", Ok(false)),
            ("a wrong token beside a right signature", with_token(signed("bmV3"), "x"), b"{}", Ok(true)),
            ("nothing", HeaderMap::new(), b"{}", Err(Denied::Missing)),
        ];
        for (claim, headers, body, expected) in rows {
            let head = policy.check_head(&RequestHead::of_headers(&headers));
            let checked = head.and_then(|head| head.check_body(body)).map(|proof| proof.message().is_some());
            assert_eq!(checked, expected, "{claim}");
        }
    }
}
