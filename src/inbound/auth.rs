//! Who may send: credentials checked in constant time, before anything of the body is read.
//!
//! It says yes or no and nothing else: which part of a wrong request was nearly right is nobody's business.

use std::borrow::Cow;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use crate::secret::Secret;

/// What lets a request in.
#[derive(Debug)]
pub enum Policy {
    /// `auth: none`, written out by the operator.
    Open,
    /// Any one of these.
    AnyOf(Vec<Credential>),
}

/// Where a request carries a secret, and which.
#[derive(Debug)]
pub enum Credential {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(Secret),
    Header {
        name: HeaderName,
        secret: Secret,
    },
    /// A query parameter; a repeated one is refused.
    Query {
        name: String,
        secret: Secret,
    },
}

/// The proof that a request satisfied its source's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authenticated(());

/// It did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied;

/// What a request presents at one place.
#[derive(Debug, PartialEq, Eq)]
enum Presented<'a> {
    Nothing,
    Once(Cow<'a, [u8]>),
    /// Two readers of such a request could take different ones, so it is nobody's.
    Repeated,
}

impl Policy {
    /// Whether a request with these headers and this query may go on.
    ///
    /// Every credential is compared, also after one matched, so that the time taken does not tell which.
    pub fn admits(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Authenticated, Denied> {
        let credentials = match self {
            Policy::Open => return Ok(Authenticated(())),
            Policy::AnyOf(credentials) => credentials,
        };
        let mut matched = false;
        let mut doubtful = false;
        for credential in credentials {
            match credential.presented(headers, query) {
                Presented::Nothing => {}
                Presented::Once(text) => matched |= !text.is_empty() & credential.secret().matches(&text),
                Presented::Repeated => doubtful = true,
            }
        }
        if matched & !doubtful { Ok(Authenticated(())) } else { Err(Denied) }
    }
}

impl Credential {
    fn secret(&self) -> &Secret {
        match self {
            Credential::Bearer(secret) | Credential::Header { secret, .. } | Credential::Query { secret, .. } => secret,
        }
    }

    fn presented<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Presented<'a> {
        match self {
            Credential::Bearer(_) => match header(headers, &AUTHORIZATION) {
                Presented::Once(Cow::Borrowed(value)) => {
                    bearer_token(value).map_or(Presented::Nothing, |token| Presented::Once(Cow::Borrowed(token)))
                }
                other => other,
            },
            Credential::Header { name, .. } => header(headers, name),
            Credential::Query { name, .. } => parameter(query.unwrap_or_default(), name),
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Presented<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Presented::Nothing,
        (Some(value), None) => Presented::Once(Cow::Borrowed(value.as_bytes())),
        (Some(_), Some(_)) => Presented::Repeated,
    }
}

/// The token of `Bearer TOKEN`; the scheme is compared without case (RFC 9110, 11.1), one or more spaces follow it.
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(BEARER.len())?;
    (scheme.eq_ignore_ascii_case(BEARER) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii_start())
}

fn parameter<'a>(query: &'a str, name: &str) -> Presented<'a> {
    let mut found = Presented::Nothing;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if *percent_decoded(key) != *name.as_bytes() {
            continue;
        }
        if found != Presented::Nothing {
            return Presented::Repeated;
        }
        found = Presented::Once(percent_decoded(value));
    }
    found
}

/// Decodes `%XX`; a `%` that begins no escape stands for itself. A plus sign stays one: tokens hold plus signs (base64)
/// and no spaces.
fn percent_decoded(text: &str) -> Cow<'_, [u8]> {
    percent_decode_str(text).into()
}

const BEARER: &[u8] = b"bearer";

#[cfg(test)]
mod tests {
    use super::*;

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
        policy.admits(&map, query).is_ok()
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
    fn a_broken_escape_stays_as_it_is() {
        for (text, decoded) in
            [("%", "%"), ("%2", "%2"), ("%zz", "%zz"), ("%%41", "%A"), ("a%20b", "a b"), ("%+1", "%+1")]
        {
            assert_eq!(*percent_decoded(text), *decoded.as_bytes(), "{text}");
        }
    }
}
