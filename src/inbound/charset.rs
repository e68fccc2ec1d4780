//! The charset of a body, by its Content-Type; types that the source does not take are refused.

use encoding_rs::{Encoding, UTF_8};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::refusal::Refusal;

/// The charset of a body of an accepted type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Charset(&'static Encoding);

impl Charset {
    /// Reads the charset from the headers of a request. Accepted are a missing type, JSON, `+json` and `text/…`, and
    /// forms where the source takes them.
    pub(super) fn of(headers: &HeaderMap, forms: bool) -> Result<Charset, Refusal> {
        let refused = |is_form| Refusal::ContentType { forms, is_form, looks_packed: false };
        let mut values = headers.get_all(CONTENT_TYPE).iter().filter(|value| !value.is_empty());
        let Some(value) = values.next() else {
            return Ok(Charset(UTF_8));
        };
        if values.next().is_some() {
            return Err(refused(false));
        }
        let text = value.to_str().map_err(|_| refused(false))?;
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let is_form = essence.trim().eq_ignore_ascii_case(FORM);
        if !(is_form && forms || is_accepted(essence.trim())) {
            return Err(refused(is_form));
        }
        match charset_label(parameters) {
            None => Ok(Charset(UTF_8)),
            Some(label) => Encoding::for_label_no_replacement(label.as_bytes()).map(Charset).ok_or(Refusal::Charset),
        }
    }

    /// The charset that the headers name, also of a type that no source takes; UTF-8 where they name none that is known.
    pub(super) fn declared(headers: &HeaderMap) -> Charset {
        let mut values = headers.get_all(CONTENT_TYPE).iter().filter_map(|value| value.to_str().ok());
        let label = values.find_map(|value| charset_label(value.split_once(';')?.1));
        label.and_then(Charset::named).unwrap_or_default()
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

/// The name of a charset of wide characters that bytes without a byte order mark seem to be in. JSON begins with two
/// ASCII characters nearly always, whose zero bytes tell it (RFC 4627, section 3); in UTF-8 it holds none.
pub(super) fn looks_wide(text: &[u8]) -> Option<&'static str> {
    match *text {
        [0, 0, 0, 1..=u8::MAX, ..] | [1..=u8::MAX, 0, 0, 0, ..] => Some("UTF-32"),
        [0, 1..=u8::MAX, 0, 1..=u8::MAX, ..] => Some("UTF-16BE"),
        [1..=u8::MAX, 0, 1..=u8::MAX, 0, ..] => Some("UTF-16LE"),
        _ => None,
    }
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

/// The type of a form.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judged(values: &[&str], forms: bool) -> Result<&'static str, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_TYPE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Charset::of(&headers, forms).map(|charset| charset.0.name()).map_err(|refusal| refusal.label())
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
            assert_eq!(judged(&[value], false), *expected, "{value:?}");
            let is_form = value.contains("form-urlencoded");
            assert_eq!(judged(&[value], true), if is_form { Ok("UTF-8") } else { *expected }, "{value:?}");
        }
        assert_eq!(judged(&[], false), Ok("UTF-8"), "a missing one");
        assert_eq!(judged(&["text/plain", "application/json"], false), Err("content_type"));
    }

    #[test]
    fn the_charset_of_what_is_refused_is_known_too() {
        for (value, expected) in [
            ("application/x-www-form-urlencoded; charset=iso-8859-1", "windows-1252"),
            ("application/xml;charset=\"Shift_JIS\"", "Shift_JIS"),
            ("application/x-www-form-urlencoded", "UTF-8"),
            ("application/json; charset=klingon", "UTF-8"),
            ("", "UTF-8"),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(Charset::declared(&headers).0.name(), expected, "{value:?}");
        }
        assert_eq!(Charset::declared(&HeaderMap::new()), Charset::default());
    }

    #[test]
    fn a_form_has_a_charset_too() {
        let latin = "Application/X-WWW-Form-Urlencoded; charset=iso-8859-1";
        assert_eq!(judged(&[latin], true), Ok("windows-1252"));
        assert_eq!(judged(&[&format!("{FORM}; charset=klingon")], true), Err("charset"));
    }
}
