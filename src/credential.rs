//! Credentials: a secret and its place in a request, put on the requests that are sent and checked on those that come.

use std::borrow::Cow;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::secret::Secret;

/// A secret and where a request carries it.
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
}

/// A credential can't be put on a request: only the hash of its secret is known, or the secret holds characters that
/// a header can't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsendable;

/// The result of comparing a credential with the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Right,
    /// The request has nothing in the credential's place.
    Missing,
    /// The request has something else there.
    Wrong,
    /// The request has an Authorization header that does not begin with `Bearer` and a space.
    NotBearer,
    /// The place is taken twice. Two readers of such a request could take different values, so neither counts.
    Repeated,
}

impl Credential {
    pub fn secret(&self) -> &Secret {
        match self {
            Credential::Bearer(secret) | Credential::Header { secret, .. } | Credential::Query { secret, .. } => secret,
        }
    }

    /// The secret is known in clear text, not only by its hash.
    pub fn is_sendable(&self) -> bool {
        self.secret().expose(|_| ()).is_some()
    }

    /// Puts the credential on a request that is to be sent; leaves the request as it is where that can't be done.
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
        }
        Ok(())
    }

    /// Compares the credential with the head of a request, in a time that does not tell how much of it is right.
    pub fn check_head(&self, headers: &HeaderMap, query: Option<&str>) -> Match {
        let header = |name| headers.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes())).take(2).collect();
        let presented: Vec<Cow<'_, [u8]>> = match self {
            Credential::Bearer(_) => header(&AUTHORIZATION),
            Credential::Header { name, .. } => header(name),
            Credential::Query { name, .. } => parameters(query.unwrap_or_default(), name).take(2).collect(),
        };
        let value = match &presented[..] {
            [] => return Match::Missing,
            [value] if matches!(self, Credential::Bearer(_)) => match bearer_token(value) {
                Some(token) => token,
                None => return Match::NotBearer,
            },
            [value] => value,
            _ => return Match::Repeated,
        };
        // An empty secret would let in whoever presents nothing.
        if self.secret().matches(value) & !value.is_empty() { Match::Right } else { Match::Wrong }
    }
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

/// The token of `Bearer TOKEN`; the scheme is compared without case (RFC 9110, 11.1), one or more spaces follow it.
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(BEARER.len())?;
    (scheme.eq_ignore_ascii_case(BEARER) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii_start())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn every_kind(text: &str) -> [Credential; 3] {
        [
            Credential::Bearer(secret(text)),
            Credential::Header { name: HeaderName::from_static("x-token"), secret: secret(text) },
            Credential::Query { name: "api.token".to_owned(), secret: secret(text) },
        ]
    }

    fn request(url: &str) -> Request<()> {
        Request::builder().uri(url).header("accept", "*/*").body(()).unwrap()
    }

    fn checked(credential: &Credential, request: &Request<()>) -> Match {
        credential.check_head(request.headers(), request.uri().query())
    }

    #[test]
    fn a_credential_that_is_sent_is_the_one_that_is_checked_and_no_other() {
        for url in ["https://example.org/process", "https://example.org/process?a=b&from=x", "/hooks/s"] {
            for (index, sent) in every_kind("tok+en=/~%41").iter().enumerate() {
                let mut request = request(url);
                sent.present(&mut request).unwrap();
                for (other, (same, wrong)) in every_kind("tok+en=/~%41").iter().zip(&every_kind("token")).enumerate() {
                    let expected = if index == other { [Match::Right, Match::Wrong] } else { [Match::Missing; 2] };
                    let found = [same, wrong].map(|credential| checked(credential, &request));
                    assert_eq!(found, expected, "{sent:?} at {url}, checked as {same:?}");
                }
            }
        }
    }

    #[test]
    fn what_stood_in_the_request_stays() {
        let [bearer, header, query] = every_kind("t").map(|credential| {
            let mut request = request("https://example.org/process?a=b");
            credential.present(&mut request).unwrap();
            assert_eq!(request.headers()["accept"], "*/*");
            request
        });
        assert_eq!(bearer.uri(), "https://example.org/process?a=b");
        assert_eq!(header.uri(), "https://example.org/process?a=b");
        assert_eq!(query.uri(), "https://example.org/process?a=b&api%2Etoken=t");
        assert!(bearer.headers()["authorization"].is_sensitive() && header.headers()["x-token"].is_sensitive());
    }

    #[test]
    fn a_secret_that_can_not_be_sent_leaves_the_request_as_it_is() {
        let hash_only = || Secret::from_sha256([7; 32]);
        let credentials = [
            Credential::Bearer(hash_only()),
            Credential::Header { name: HeaderName::from_static("x-token"), secret: hash_only() },
            Credential::Query { name: "token".to_owned(), secret: hash_only() },
            Credential::Bearer(secret("two\nlines")),
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
}
