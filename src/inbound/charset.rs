//! The charset of a body, by its Content-Type; other types than JSON and text, and compressed bodies, are refused.

use encoding_rs::{Encoding, UTF_8};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::refusal::Refusal;

/// The charset of a body of an accepted type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Charset(&'static Encoding);

impl Charset {
    /// Reads the charset from the headers of a request. Accepted are a missing type, JSON, `+json` and `text/…`,
    /// uncompressed.
    pub(super) fn of(headers: &HeaderMap) -> Result<Charset, Refusal> {
        if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| !is_identity(encoding)) {
            return Err(Refusal::ContentEncoding);
        }
        let Some(value) = only(headers, &CONTENT_TYPE)? else {
            return Ok(Charset(UTF_8));
        };
        let text = value.to_str().map_err(|_| Refusal::ContentType)?;
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        if !is_accepted(essence.trim()) {
            return Err(Refusal::ContentType);
        }
        match charset_label(parameters) {
            None => Ok(Charset(UTF_8)),
            Some(label) => Encoding::for_label_no_replacement(label.as_bytes()).map(Charset).ok_or(Refusal::Charset),
        }
    }

    /// The charset with a label as [`Charset::label`] gives it.
    pub(super) fn named(label: &str) -> Option<Charset> {
        Encoding::for_label_no_replacement(label.as_bytes()).map(Charset)
    }

    /// The name under which the charset is kept; none for UTF-8.
    pub(super) fn label(self) -> Option<&'static str> {
        (self.0 != UTF_8).then(|| self.0.name())
    }

    pub(super) fn encoding(self) -> &'static Encoding {
        self.0
    }
}

/// UTF-8, the charset of JSON where the headers name none (RFC 8259, section 8.1).
impl Default for Charset {
    fn default() -> Charset {
        Charset(UTF_8)
    }
}

/// The value of a header that may occur once; an empty one counts as missing.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter().filter(|value| !value.is_empty());
    let first = values.next();
    if values.next().is_some() { Err(Refusal::ContentType) } else { Ok(first) }
}

fn is_identity(encoding: &HeaderValue) -> bool {
    encoding.is_empty() || encoding.as_bytes().eq_ignore_ascii_case(b"identity")
}

fn is_accepted(essence: &str) -> bool {
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let json = kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("json");
    let suffix = subtype.len().checked_sub("+json".len()).filter(|&at| at > 0).and_then(|at| subtype.get(at..));
    json || kind.eq_ignore_ascii_case("text") || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// The value of the first `charset` parameter, without its quotes.
fn charset_label(parameters: &str) -> Option<&str> {
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(headers: &[(&'static str, &str)]) -> Result<&'static str, &'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Charset::of(&map).map(|charset| charset.0.name()).map_err(|refusal| refusal.label())
    }

    #[test]
    fn content_types_are_accepted_as_promised() {
        let rows: &[(&str, Result<&str, &str>)] = &[
            ("application/json", Ok("UTF-8")),
            ("Application/JSON", Ok("UTF-8")),
            ("application/json;charset=utf-8", Ok("UTF-8")),
            ("application/json; Charset=\"UTF-8\"", Ok("UTF-8")),
            ("application/json; profile=x ; charset=iso-8859-1", Ok("windows-1252")),
            ("application/json; charset=UTF-16LE", Ok("UTF-16LE")),
            ("application/cloudevents+json", Ok("UTF-8")),
            ("application/vnd.api+JSON; v=1", Ok("UTF-8")),
            ("text/plain", Ok("UTF-8")),
            ("text/plain; charset=shift_jis", Ok("Shift_JIS")),
            ("", Ok("UTF-8")),
            ("application/x-www-form-urlencoded", Err("content_type")),
            ("multipart/form-data; boundary=x", Err("content_type")),
            ("application/xml", Err("content_type")),
            ("application/jsonp", Err("content_type")),
            ("application/+json", Err("content_type")),
            ("json", Err("content_type")),
            (";charset=utf-8", Err("content_type")),
            ("t\u{fc}xt/plain", Err("content_type")),
            ("application/json; charset=klingon", Err("charset")),
            ("application/json; charset=", Err("charset")),
            ("application/json; charset=utf-7", Err("charset")),
            ("application/json; charset=iso-2022-cn", Err("charset")),
        ];
        for (value, expected) in rows {
            assert_eq!(judged(&[("content-type", value)]), *expected, "{value:?}");
        }
        assert_eq!(judged(&[]), Ok("UTF-8"), "a missing one");
        assert_eq!(
            judged(&[("content-type", "text/plain"), ("content-type", "application/json")]),
            Err("content_type")
        );
    }

    #[test]
    fn a_compressed_body_is_refused() {
        for (value, expected) in [
            ("identity", Ok("UTF-8")),
            ("", Ok("UTF-8")),
            ("gzip", Err("content_encoding")),
            ("br", Err("content_encoding")),
            ("identity, gzip", Err("content_encoding")),
        ] {
            assert_eq!(judged(&[("content-encoding", value)]), expected, "{value:?}");
        }
        assert_eq!(judged(&[("content-encoding", "identity"), ("content-encoding", "zstd")]), Err("content_encoding"));
    }
}
