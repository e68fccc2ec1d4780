//! Credentials: what a request proves its sender by, put on the requests that are sent and checked on those that come.
//!
//! Some are shown in the head of a request, and nothing more of it is needed. A signature covers the body too: the head
//! says only that there is one, and [`Signature`] is checked once the body is there.

mod hmac;
mod signature;
mod standard_webhooks;
mod subject_name;

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::clock::WallTime;
use crate::secret::Secret;

pub use hmac::{Algorithm, Encoding, Hmac, SignedText, Timestamp};
pub(crate) use signature::{MessageId, Signature};
pub(crate) use standard_webhooks::{KEEP_MESSAGES, key_of};
pub use subject_name::SubjectName;

/// A secret, or a name, and where a request carries it.
#[derive(Clone, Debug)]
pub enum Credential {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(Secret),
    Header {
        name: HeaderName,
        secret: Secret,
    },
    /// A query parameter.
    Query {
        name: String,
        secret: Secret,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        user: String,
        password: Secret,
    },
    /// A keyed hash of the body in a header.
    Hmac(Hmac),
    /// The signature of Standard Webhooks, with its key.
    StandardWebhooks(Secret),
    /// A client certificate with one of these names.
    Certificate(Vec<SubjectName>),
}

/// A credential can't be put on a request: only the hash of its secret is known, the secret holds characters that a
/// header can't, or it is none that a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsendable;

/// The parts of a request that come before its body.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    pub headers: &'a HeaderMap,
    pub query: Option<&'a str>,
    /// The names of the sender's certificate, which TLS verified; empty where there is none.
    pub names: &'a [SubjectName],
    /// The time at which it came, for signatures that expire.
    pub now: WallTime,
}

/// The head of a request has what a credential asks for.
#[derive(Debug)]
pub enum Shown {
    /// It is right, whatever the body.
    Right,
    /// It has a signature that could be right: the body tells.
    Signed(Box<Signature>),
}

/// The reason why a request does not show a credential: for the log, never for the sender. Of several the last of this
/// order is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// It shows no credential where one is looked for.
    Missing,
    /// It shows none but in an Authorization header without the word `Basic`.
    NotBasic,
    /// It shows none but in an Authorization header without the word `Bearer`.
    NotBearer,
    /// Its client certificate has another name.
    OtherName,
    /// It shows a signature, a timestamp or a user with a password that can't be read.
    Malformed,
    /// It was signed too long ago.
    Expired,
    /// It was signed at a time that is still to come.
    Early,
    /// It shows another one.
    Wrong,
    /// It shows one twice, in one place. Two readers of such a request could take different values, so neither counts.
    Repeated,
}

impl Credential {
    /// None where it is no secret.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Credential::Bearer(secret)
            | Credential::Header { secret, .. }
            | Credential::Query { secret, .. }
            | Credential::Basic { password: secret, .. }
            | Credential::Hmac(Hmac { secret, .. })
            | Credential::StandardWebhooks(secret) => Some(secret),
            Credential::Certificate(_) => None,
        }
    }

    /// The secret is known in clear text, not only by its hash.
    pub fn is_sendable(&self) -> bool {
        self.secret().is_some_and(|secret| secret.expose(|_| ()).is_some())
    }

    /// Puts the credential on a request that is to be sent; leaves the request as it is where that can't be done, as
    /// with a signature, which needs the body.
    pub fn present<B>(&self, request: &mut Request<B>) -> Result<(), Unsendable> {
        match self {
            Credential::Bearer(secret) => {
                let value = secret.expose(|token| sensitive(&format!("Bearer {token}"))).flatten();
                request.headers_mut().insert(AUTHORIZATION, value.ok_or(Unsendable)?);
            }
            Credential::Header { name, secret } => {
                let value = secret.expose(sensitive).flatten();
                request.headers_mut().insert(name.clone(), value.ok_or(Unsendable)?);
            }
            Credential::Query { name, secret } => {
                let url = secret.expose(|token| with_parameter(request.uri(), name, token)).flatten();
                *request.uri_mut() = url.ok_or(Unsendable)?;
            }
            Credential::Basic { user, password } => {
                let pair = |password: &str| BASE64_STANDARD.encode(format!("{user}:{password}"));
                let value = password.expose(|password| sensitive(&format!("Basic {}", pair(password)))).flatten();
                request.headers_mut().insert(AUTHORIZATION, value.ok_or(Unsendable)?);
            }
            Credential::Hmac(_) | Credential::StandardWebhooks(_) | Credential::Certificate(_) => {
                return Err(Unsendable);
            }
        }
        Ok(())
    }

    /// Puts the credential on a request with this body. `id`: the message's, where its signature covers one.
    pub fn present_with_body<B>(
        &self,
        request: &mut Request<B>,
        body: &[u8],
        id: &str,
        now: WallTime,
    ) -> Result<(), Unsendable> {
        match self {
            Credential::Hmac(hmac) => hmac.sign(request.headers_mut(), body, now),
            Credential::StandardWebhooks(secret) => {
                standard_webhooks::sign(secret, request.headers_mut(), body, id, now)
            }
            other => other.present(request),
        }
    }

    /// Looks for the credential in the head of a request, in a time that does not tell how much of it is right.
    pub fn check_head(&self, head: &RequestHead<'_>) -> Result<Shown, Denied> {
        match self {
            Credential::Bearer(secret) => {
                let value = only(head.headers, &AUTHORIZATION)?;
                right(secret, of_scheme(value, BEARER).ok_or(Denied::NotBearer)?)
            }
            Credential::Header { name, secret } => right(secret, only(head.headers, name)?),
            Credential::Query { name, secret } => {
                let mut values = parameters(head.query.unwrap_or_default(), name);
                let value = values.next().ok_or(Denied::Missing)?;
                if values.next().is_some() {
                    return Err(Denied::Repeated);
                }
                right(secret, &value)
            }
            Credential::Basic { user, password } => {
                let value = only(head.headers, &AUTHORIZATION)?;
                let pair = BASE64_STANDARD.decode(of_scheme(value, BASIC).ok_or(Denied::NotBasic)?);
                let pair = pair.map_err(|_| Denied::Malformed)?;
                // A user has no colon (RFC 7617, 2), a password may have some.
                let colon = pair.iter().position(|byte| *byte == b':').ok_or(Denied::Malformed)?;
                let checked = right(password, &pair[colon + 1..]);
                if pair[..colon] == *user.as_bytes() { checked } else { Err(Denied::Wrong) }
            }
            Credential::Hmac(hmac) => hmac.signature(head).map(Box::new).map(Shown::Signed),
            Credential::StandardWebhooks(secret) => {
                standard_webhooks::signature(secret, head).map(Box::new).map(Shown::Signed)
            }
            Credential::Certificate(_) if head.names.is_empty() => Err(Denied::Missing),
            Credential::Certificate(names) if names.iter().any(|name| head.names.contains(name)) => Ok(Shown::Right),
            Credential::Certificate(_) => Err(Denied::OtherName),
        }
    }
}

impl<'a> RequestHead<'a> {
    /// One of which the headers alone are looked at, for the credentials that need no more.
    pub fn of_headers(headers: &'a HeaderMap) -> RequestHead<'a> {
        RequestHead { headers, query: None, names: &[], now: WallTime(0) }
    }
}

impl Denied {
    /// The words for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Denied::Missing => "none",
            Denied::NotBasic => "not Basic",
            Denied::NotBearer => "not Bearer",
            Denied::OtherName => "another certificate",
            Denied::Malformed => "malformed",
            Denied::Expired => "expired",
            Denied::Early => "from the future",
            Denied::Wrong => "wrong",
            Denied::Repeated => "shown twice",
        }
    }
}

/// The value of a header that stands once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h [u8], Denied> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Denied::Missing)?;
    if values.next().is_some() { Err(Denied::Repeated) } else { Ok(value.as_bytes()) }
}

fn right(secret: &Secret, presented: &[u8]) -> Result<Shown, Denied> {
    // An empty secret would let in whoever presents nothing.
    if secret.matches(presented) & !presented.is_empty() { Ok(Shown::Right) } else { Err(Denied::Wrong) }
}

/// The URL with one more parameter in its query.
pub(crate) fn with_parameter(url: &Uri, name: &str, value: &str) -> Option<Uri> {
    let parameter =
        format!("{}={}", utf8_percent_encode(name, NON_ALPHANUMERIC), utf8_percent_encode(value, NON_ALPHANUMERIC));
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&{parameter}"),
        _ => parameter,
    };
    let mut parts = url.clone().into_parts();
    parts.path_and_query = format!("{}?{query}", url.path()).parse().ok();
    Uri::from_parts(parts).ok()
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The credentials of `SCHEME CREDENTIALS`; the scheme is compared without case (RFC 9110, 11.1), one or more spaces
/// follow it.
fn of_scheme<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let (found, rest) = value.split_at_checked(scheme.len())?;
    (found.eq_ignore_ascii_case(scheme) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii_start())
}

/// The values of a query's parameters of this name.
fn parameters<'a>(query: &'a str, name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| *percent_decoded(key) == *name.as_bytes()).map(|(_, value)| percent_decoded(value))
}

/// Decodes `%XX`; a `%` that begins no escape stands for itself. A plus sign stays one: tokens hold plus signs (base64)
/// and no spaces.
fn percent_decoded(text: &str) -> Cow<'_, [u8]> {
    percent_decode_str(text).into()
}

const BEARER: &[u8] = b"bearer";
const BASIC: &[u8] = b"basic";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn every_kind(text: &str) -> [Credential; 4] {
        [
            Credential::Bearer(secret(text)),
            Credential::Basic { user: "gander".to_owned(), password: secret(text) },
            Credential::Header { name: HeaderName::from_static("x-token"), secret: secret(text) },
            Credential::Query { name: "api.token".to_owned(), secret: secret(text) },
        ]
    }

    fn request(url: &str) -> Request<()> {
        Request::builder().uri(url).header("accept", "*/*").body(()).unwrap()
    }

    /// None where it is right.
    fn checked(credential: &Credential, request: &Request<()>) -> Option<Denied> {
        let head = RequestHead { query: request.uri().query(), ..RequestHead::of_headers(request.headers()) };
        credential.check_head(&head).err()
    }

    #[test]
    fn a_credential_that_is_sent_is_the_one_that_is_checked_and_no_other() {
        for url in ["https://example.org/process", "https://example.org/process?a=b&from=x", "/hooks/s"] {
            for (index, sent) in every_kind("tok+en=/~%41").iter().enumerate() {
                let mut request = request(url);
                sent.present(&mut request).unwrap();
                for (other, (same, wrong)) in every_kind("tok+en=/~%41").iter().zip(&every_kind("token")).enumerate() {
                    let expected = match (index, other) {
                        _ if index == other => [None, Some(Denied::Wrong)],
                        (0, 1) => [Some(Denied::NotBasic); 2],
                        (1, 0) => [Some(Denied::NotBearer); 2],
                        _ => [Some(Denied::Missing); 2],
                    };
                    let found = [same, wrong].map(|credential| checked(credential, &request));
                    assert_eq!(found, expected, "{sent:?} at {url}, checked as {same:?}");
                }
            }
        }
    }

    #[test]
    fn what_stood_in_the_request_stays() {
        let [bearer, basic, header, query] = every_kind("t").map(|credential| {
            let mut request = request("https://example.org/process?a=b");
            credential.present(&mut request).unwrap();
            assert_eq!(request.headers()["accept"], "*/*");
            request
        });
        assert_eq!(bearer.uri(), "https://example.org/process?a=b");
        assert_eq!(basic.headers()["authorization"], "Basic Z2FuZGVyOnQ=");
        assert_eq!(header.uri(), "https://example.org/process?a=b");
        assert_eq!(query.uri(), "https://example.org/process?a=b&api%2Etoken=t");
        assert!(bearer.headers()["authorization"].is_sensitive() && basic.headers()["authorization"].is_sensitive());
        assert!(header.headers()["x-token"].is_sensitive());
    }

    #[test]
    fn a_secret_that_can_not_be_sent_leaves_the_request_as_it_is() {
        let hash_only = || Secret::from_sha256([7; 32]);
        let credentials = [
            Credential::Bearer(hash_only()),
            Credential::Header { name: HeaderName::from_static("x-token"), secret: hash_only() },
            Credential::Query { name: "token".to_owned(), secret: hash_only() },
            Credential::Bearer(secret("two\nlines")),
            Credential::Basic { user: "gander".to_owned(), password: hash_only() },
            Credential::StandardWebhooks(secret("whsec_AAAA")),
            Credential::Certificate(vec![SubjectName::read("sender.example").unwrap()]),
        ];
        for credential in credentials {
            let mut request = request("https://example.org/process");
            assert_eq!(credential.present(&mut request), Err(Unsendable), "{credential:?}");
            assert_eq!((request.headers().len(), request.uri().query()), (1, None), "{credential:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        for credential in every_kind("hunter2") {
            let text = format!("{credential:?}");
            assert!(text.contains("Secret(…)") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_parameter_is_added_to_what_the_url_has() {
        for (url, value, expected) in [
            ("https://example.org/process", "ServicePilot", "https://example.org/process?from=ServicePilot"),
            ("https://example.org/process?a=b", "x", "https://example.org/process?a=b&from=x"),
            ("https://example.org/", "a b&c=d#é", "https://example.org/?from=a%20b%26c%3Dd%23%C3%A9"),
        ] {
            let url = with_parameter(&url.parse().unwrap(), "from", value).unwrap();
            assert_eq!(url.to_string(), expected);
        }
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        for (text, decoded) in
            [("%", "%"), ("%2", "%2"), ("%zz", "%zz"), ("%%41", "%A"), ("a%20b", "a b"), ("%+1", "%+1")]
        {
            assert_eq!(*percent_decoded(text), *decoded.as_bytes(), "{text}");
        }
    }

    #[test]
    fn a_user_and_a_password_are_both_compared() {
        let credential = Credential::Basic { user: "gander".to_owned(), password: secret("a:b") };
        let pair = |pair: &[u8]| format!("Basic {}", BASE64_STANDARD.encode(pair));
        let rows: &[(&str, &[&str], Option<Denied>)] = &[
            ("both right", &[&pair(b"gander:a:b")], None),
            ("the scheme has no case", &["bASIC Z2FuZGVyOmE6Yg=="], None),
            ("another password", &[&pair(b"gander:a")], Some(Denied::Wrong)),
            ("the password and more", &[&pair(b"gander:a:b ")], Some(Denied::Wrong)),
            ("another user", &[&pair(b"Gander:a:b")], Some(Denied::Wrong)),
            ("no user", &[&pair(b":a:b")], Some(Denied::Wrong)),
            ("no password", &[&pair(b"gander:")], Some(Denied::Wrong)),
            ("no colon", &[&pair(b"gander")], Some(Denied::Malformed)),
            ("no base64", &["Basic gander:a:b"], Some(Denied::Malformed)),
            ("bytes that are no text", &[&pair(b"gander:\xff")], Some(Denied::Wrong)),
            ("nothing behind the scheme", &["Basic "], Some(Denied::Malformed)),
            ("the scheme alone", &["Basic"], Some(Denied::NotBasic)),
            ("another scheme", &["Bearer Z2FuZGVyOmE6Yg=="], Some(Denied::NotBasic)),
            ("nothing", &[], Some(Denied::Missing)),
            ("twice", &[&pair(b"gander:a:b"), &pair(b"gander:a:b")], Some(Denied::Repeated)),
        ];
        for (claim, values, expected) in rows {
            let mut request = request("/hooks/s");
            for value in *values {
                request.headers_mut().append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(checked(&credential, &request), *expected, "{claim}");
        }
    }

    #[test]
    fn a_certificate_is_known_by_any_of_its_names() {
        let name = |text: &str| SubjectName::read(text).unwrap();
        let credential = Credential::Certificate(vec![name("sender.example"), name("spiffe://corp/sender")]);
        let rows: &[(&str, &[&str], Option<Denied>)] = &[
            ("the first", &["sender.example"], None),
            ("the second beside another", &["10.0.0.1", "spiffe://corp/sender"], None),
            ("the case of a domain says nothing", &["SENDER.example"], None),
            ("another one", &["other.example"], Some(Denied::OtherName)),
            ("one below it", &["a.sender.example"], Some(Denied::OtherName)),
            ("a wildcard that would cover it", &["*.example"], Some(Denied::OtherName)),
            ("the case of a path does", &["spiffe://corp/Sender"], Some(Denied::OtherName)),
            ("none", &[], Some(Denied::Missing)),
        ];
        for (claim, shown, expected) in rows {
            let names: Vec<SubjectName> = shown.iter().map(|text| name(text)).collect();
            let headers = HeaderMap::new();
            let head = RequestHead { names: &names, ..RequestHead::of_headers(&headers) };
            assert_eq!(credential.check_head(&head).err(), *expected, "{claim}");
        }
    }
}
