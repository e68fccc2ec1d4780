//! Who may send: a request is checked against the credentials of its source, its head first and then its body.
//!
//! The answer is yes or no and nothing else: a sender does not learn which part of a wrong request was nearly right.

use http::HeaderMap;

use crate::credential::{Credential, Match};

/// The `auth` of a source.
#[derive(Debug)]
pub enum Policy {
    /// `auth: none`, written out by the operator.
    Open,
    /// Any one of these lets a request in.
    AnyOf(Vec<Credential>),
}

/// Proves that the head of a request satisfies the policy: its body may be read, and is to be checked next.
#[derive(Debug)]
pub struct HeadChecked(());

/// Proves that a request satisfies the policy as a whole: its body may be decoded and kept.
#[derive(Debug)]
pub struct Authenticated(());

/// The reason why a request does not satisfy the policy: for the log, never for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It shows no credential where one is looked for.
    Missing,
    /// It shows another one.
    Wrong,
    /// It shows none but in an Authorization header without the word `Bearer`.
    NotBearer,
    /// It shows one twice, in one place.
    Repeated,
}

impl Policy {
    /// Checks headers and query, before anything of the body is read.
    ///
    /// Every credential is compared, also after one matched, so that the time taken does not tell which.
    pub fn check_head(&self, headers: &HeaderMap, query: Option<&str>) -> Result<HeadChecked, Denied> {
        let credentials = match self {
            Policy::Open => return Ok(HeadChecked(())),
            Policy::AnyOf(credentials) => credentials,
        };
        let [mut matched, mut repeated, mut wrong, mut not_bearer] = [false; 4];
        for credential in credentials {
            match credential.check_head(headers, query) {
                Match::Right => matched = true,
                Match::Repeated => repeated = true,
                Match::Wrong => wrong = true,
                Match::NotBearer => not_bearer = true,
                Match::Missing => {}
            }
        }
        match () {
            () if repeated => Err(Denied::Repeated),
            () if matched => Ok(HeadChecked(())),
            () if wrong => Err(Denied::Wrong),
            () if not_bearer => Err(Denied::NotBearer),
            () => Err(Denied::Missing),
        }
    }
}

impl Denied {
    /// The words for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Denied::Missing => "none",
            Denied::Wrong => "wrong",
            Denied::NotBearer => "not Bearer",
            Denied::Repeated => "shown twice",
        }
    }
}

impl HeadChecked {
    /// Checks the whole body, as it came, before it is decoded. No kind of credential covers the body yet, so a head that
    /// was accepted is enough.
    pub fn check_body(&self, _body: &[u8]) -> Result<Authenticated, Denied> {
        Ok(Authenticated(()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

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
        policy.check_head(&map, query).and_then(|head| head.check_body(b"{}")).is_ok()
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
            assert_eq!(policy().check_head(&headers.collect(), *query).err(), Some(*denied), "{claim}");
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
}
