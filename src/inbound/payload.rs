//! Payloads: the body of an authenticated sender, decoded to JSON or to the place where it stops being JSON.

use std::borrow::Cow;

use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};
use http::HeaderMap;
use serde_json::Value;

use super::auth::Authenticated;
use super::body::BufferedBody;
use super::charset::Charset;
use super::refusal::{NotJson, Refusal};

/// A body whose sender is authenticated: it may be decoded, decided and kept.
#[derive(Debug)]
pub(super) struct Payload {
    body: BufferedBody,
    charset: Charset,
}

impl Payload {
    pub(super) fn new(body: BufferedBody, charset: Charset, _proof: Authenticated) -> Payload {
        Payload { body, charset }
    }

    pub(super) fn decode(&self) -> Result<Value, NotJson> {
        decode(&self.body.bytes, self.charset)
    }

    /// The body as it came.
    pub(super) fn raw(&self) -> &Bytes {
        &self.body.bytes
    }

    /// The body as it came, without the memory reserved for it.
    pub(super) fn into_raw(self) -> Bytes {
        self.body.bytes
    }

    pub(super) fn charset(&self) -> Charset {
        self.charset
    }
}

/// Decodes a body to JSON by the charset of its Content-Type.
pub fn json(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    decode(body, Charset::of(headers)?).map_err(Refusal::NotJson)
}

/// Decodes a payload that was kept as it came, by the name of its charset; none is UTF-8.
pub fn read_payload(raw: &[u8], charset: Option<&str>) -> Result<Value, NotJson> {
    decode(raw, charset.and_then(Charset::named).unwrap_or_default())
}

/// Decodes bytes to JSON. A byte order mark outweighs the charset, as everywhere on the web.
///
/// Nesting is limited by serde_json's own 128 levels, so that no body overflows the stack.
pub(super) fn decode(body: &[u8], charset: Charset) -> Result<Value, NotJson> {
    let (encoding, text) = match Encoding::for_bom(body) {
        Some((encoding, mark_length)) => (encoding, &body[mark_length..]),
        None => (charset.encoding(), body),
    };
    // serde_json checks UTF-8 itself and knows the place.
    let text: Cow<'_, [u8]> = if encoding == UTF_8 {
        Cow::Borrowed(text)
    } else {
        match encoding.decode_without_bom_handling_and_without_replacement(text) {
            Some(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            Some(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            None => {
                let problem = format!("it holds bytes that are not {}", encoding.name());
                return Err(NotJson { problem, line: 1, column: 1 });
            }
        }
    };
    serde_json::from_slice(&text).map_err(|problem| not_json(&text, &problem))
}

fn not_json(text: &[u8], problem: &serde_json::Error) -> NotJson {
    let (line, column) = position(text, problem);
    if text.trim_ascii().is_empty() {
        return NotJson { problem: "it is empty".to_owned(), line: line.max(1), column };
    }
    let words = problem.to_string();
    let suffix = format!(" at line {} column {}", problem.line(), problem.column());
    let words = words.strip_suffix(&suffix).unwrap_or(&words);
    let words = if SURROGATE.contains(&words) { HALF_A_CHARACTER } else { words };
    NotJson { problem: words.to_owned(), line: line.max(1), column }
}

/// Line and column of a problem, from 1. serde_json counts a line break that it trips over as column 0 of the next line; a person
/// looks for it at the end of the line before.
fn position(text: &[u8], problem: &serde_json::Error) -> (usize, usize) {
    let (line, column) = (problem.line(), problem.column());
    if column > 0 || line < 2 {
        return (line, column.max(1));
    }
    let broken = text.split(|byte| *byte == b'\n').nth(line - 2).unwrap_or_default();
    (line - 1, broken.len() + 1)
}

/// serde_json's words for a high surrogate without its low one, and for a low one alone.
const SURROGATE: [&str; 2] = ["unexpected end of hex escape", "lone leading surrogate in hex escape"];
const HALF_A_CHARACTER: &str =
    "a string holds half a character, a lone surrogate (one of \\ud800 to \\udfff without its other half)";

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;

    fn charset(label: &str) -> Charset {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", format!("text/plain; charset={label}").parse().unwrap());
        Charset::of(&headers).unwrap()
    }

    #[test]
    fn a_body_is_read_in_its_charset() {
        let rows: &[(&str, &[u8], &str)] = &[
            ("UTF-8", "\"Zürich\"".as_bytes(), "utf-8"),
            ("Latin-1", b"\"Z\xfcrich\"", "iso-8859-1"),
            ("UTF-16 as declared", b"\"\0Z\0\xfc\0r\0i\0c\0h\0\"\0", "utf-16le"),
            ("UTF-8 with a byte order mark", b"\xef\xbb\xbf\"Z\xc3\xbcrich\"", "utf-8"),
            ("a byte order mark that outweighs the charset", b"\xff\xfe\"\0Z\0\xfc\0r\0i\0c\0h\0\"\0", "utf-8"),
        ];
        for (claim, body, label) in rows {
            assert_eq!(decode(body, charset(label)), Ok(json!("Zürich")), "{claim}");
        }
    }

    #[test]
    fn what_is_not_json_has_a_place() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let rows: &[(&str, &[u8], usize, &str)] = &[
            ("an empty body", b"", 1, "empty"),
            ("blanks", b" \n ", 2, "empty"),
            ("a raw quote in a title", b"{\n  \"title\": \"say \"hi\"\"\n}", 2, "expected"),
            ("a raw newline in a title", b"{\"title\": \"a\nb\"}", 1, "control character"),
            ("a body cut off", b"{\"a\": 1", 1, "EOF"),
            ("text after the value", b"{} {}", 1, "trailing"),
            ("a form", b"payload=%7B%7D", 1, "expected"),
            ("no UTF-8", b"\"\xff\"", 1, "unicode"),
            ("200 levels", deep.as_bytes(), 1, "recursion limit"),
            ("a number beyond all bounds", b"1e999", 1, "out of range"),
            ("half a character, its first half", br#"{"a": "x\ud800y"}"#, 1, "a lone surrogate"),
            ("two first halves", br#"["\ud800\ud800"]"#, 1, "a lone surrogate"),
            ("half a character, its second half", br#"["\udc00"]"#, 1, "a lone surrogate"),
            ("no escape at all", br#"["\u12"]"#, 1, "escape"),
            ("a comma too many", b"[1,]", 1, "trailing comma"),
        ];
        for (claim, body, line, word) in rows {
            let found = decode(body, charset("utf-8")).expect_err(claim);
            assert_eq!(found.line, *line, "{claim}: {found:?}");
            assert!(found.problem.contains(word), "{claim}: {found:?}");
            assert!(!found.problem.contains(" line "), "{claim}: {found:?}");
        }
        let found = decode(b"\"\x81\"", charset("shift_jis")).unwrap_err();
        assert!(found.problem.contains("Shift_JIS"), "{found:?}");
    }

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(
            decode(b"[1.0, 9007199254740993, 0.1234567890123456789]", charset("utf-8")).unwrap()[1],
            json!(9_007_199_254_740_993_u64)
        );
    }
}
