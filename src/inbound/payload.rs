//! Payloads: the body of an authenticated sender, decoded to JSON or to the place where it stops being JSON.

use std::borrow::Cow;

use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};
use http::HeaderMap;
use serde_json::Value;

use super::auth::Authenticated;
use super::body::BufferedBody;
use super::charset::{Charset, looks_wide};
use super::gzip::{self, StaysPacked, looks_packed, unpack};
use super::refusal::{NotJson, PACKED, Refusal, TakenBy};
use super::{Accept, form};
use crate::bounded_json::{self, Room, SEND_LESS, TOO_DENSE, Unread};
use crate::credential::MessageId;
use crate::event::Violation;
use crate::lenient_json::{self, JsonReading, Repairs};

/// A body whose sender is authenticated: it may be decoded, decided and kept.
#[derive(Debug)]
pub(super) struct Payload {
    body: BufferedBody,
    reading: Reading,
    /// The problem of a body that is not the gzip that its headers name.
    broken_gzip: Option<NotJson>,
    message: Option<MessageId>,
}

/// The charset of a body and the formats that its source takes, known before its bytes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) charset: Charset,
    /// A body that is no JSON may be a form.
    pub(super) form: bool,
    pub(super) json: JsonReading,
}

/// A payload as JSON, and what was repaired in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    pub repairs: Repairs,
}

impl Payload {
    pub(super) fn new(body: BufferedBody, reading: Reading, proof: &Authenticated) -> Payload {
        Payload { body, reading, broken_gzip: None, message: proof.message() }
    }

    /// The message that it is, where its sender signed an id for it.
    pub(super) fn message(&self) -> Option<MessageId> {
        self.message
    }

    /// Unpacks a body that came as gzip, if all of it came; from here on it is as if it had come so. One that is no gzip
    /// stays as it is, and is no JSON.
    pub(super) fn unpack(&mut self, bytes_max: usize) -> Result<(), Refusal> {
        if self.body.cut_off {
            return Ok(());
        }
        match unpack(&self.body, bytes_max) {
            Ok(body) => self.body = body,
            Err(StaysPacked::Refused(refusal)) => return Err(refusal),
            Err(StaysPacked::Broken(problem)) => {
                self.broken_gzip = Some(NotJson::at(problem, 1, 1));
            }
        }
        Ok(())
    }

    /// Refuses a body of which only the beginning was read.
    pub(super) fn check_whole(&self, bytes_max: usize) -> Result<(), Refusal> {
        if self.body.cut_off { Err(Refusal::BodyTooLarge { bytes_max }) } else { Ok(()) }
    }

    pub(super) fn decode(&self) -> Result<Decoded, NotJson> {
        match &self.broken_gzip {
            Some(not_json) => Err(not_json.clone()),
            None => decode(&self.body.bytes, self.reading),
        }
    }

    /// The body as it came, but for its compression.
    pub(super) fn raw(&self) -> &Bytes {
        &self.body.bytes
    }

    /// The body as it came, without the memory reserved for it.
    pub(super) fn into_raw(self) -> Bytes {
        self.body.bytes
    }

    pub(super) fn reading(&self) -> Reading {
        self.reading
    }
}

/// The beginning of a body that is too large, to be kept for a person. It can't be replayed, and must not crowd out
/// what can. It ends with a whole character, else nobody could read it as a text.
pub(super) fn beginning(body: &Bytes) -> Bytes {
    let mut beginning = body.slice(..body.len().min(BEGINNING_BYTES));
    if let Err(error) = str::from_utf8(&beginning)
        && error.error_len().is_none()
    {
        beginning.truncate(error.valid_up_to());
    }
    beginning
}

/// Decodes a body to JSON by the charset of its Content-Type.
pub fn json(headers: &HeaderMap, body: &[u8], accept: Accept) -> Result<Decoded, Refusal> {
    let charset = Charset::of(headers, accept.form)?;
    decode(body, Reading::new(charset, accept)).map_err(Refusal::NotJson)
}

/// Decodes a payload by the name of its charset; none is UTF-8.
pub(crate) fn read_payload(raw: &[u8], charset: Option<&str>, accept: Accept) -> Result<Decoded, NotJson> {
    decode(raw, Reading::named(charset, accept))
}

/// Decodes a payload that was kept as it came, perhaps compressed; `bytes_max` bounds what comes out.
pub(crate) fn read_kept(
    raw: Vec<u8>,
    charset: Option<&str>,
    accept: Accept,
    bytes_max: usize,
) -> Result<Decoded, Violation> {
    let raw = if accept.gzip { gzip::of_kept(raw, bytes_max)? } else { raw };
    read_payload(&raw, charset, accept).map_err(Violation::from)
}

impl Reading {
    pub(super) fn new(charset: Charset, accept: Accept) -> Reading {
        Reading { charset, form: accept.form, json: accept.json }
    }

    /// Of a payload that was kept, by the name of its charset.
    pub(super) fn named(charset: Option<&str>, accept: Accept) -> Reading {
        Reading::new(charset.and_then(Charset::named).unwrap_or_default(), accept)
    }
}

/// Decodes bytes to JSON. A byte order mark outweighs the charset, as everywhere on the web. What is no JSON and has the
/// shape of a form is read as one where the source takes forms, whatever its content type: many scripts send none, and
/// what is kept is read again without it. What strict JSON takes is never looked at by the lenient reading.
///
/// Nesting is limited by serde_json's own 128 levels, so that no body overflows the stack, and memory by a [`Room`].
pub(super) fn decode(body: &[u8], reading: Reading) -> Result<Decoded, NotJson> {
    let body = EncodedBody::new(body, reading.charset);
    let not_json = match body.strictly(reading.form) {
        Ok(value) => return Ok(Decoded { value, repairs: Repairs::NONE }),
        Err(not_json) => not_json,
    };
    if let Some(no_text) = body.no_text() {
        return Err(no_text);
    }
    match (reading.json, body.leniently(reading.form)) {
        (JsonReading::Lenient, Some(read)) => read,
        (JsonReading::Strict, Some(Ok(decoded))) => {
            Err(not_json.taken_by(TakenBy::Lenient, &lenient_would(decoded.repairs)))
        }
        _ => Err(not_json),
    }
}

/// The remedy for a text that the strict reading refuses and the lenient one takes.
fn lenient_would(repairs: Repairs) -> String {
    format!("With `json: lenient` the source would take it: {}.", repairs.explain())
}

/// A body with its encoding.
struct EncodedBody<'b> {
    text: &'b [u8],
    encoding: &'static Encoding,
    /// A byte order mark says the encoding.
    marked: bool,
    /// The memory for all that is made of it.
    room: Room,
}

impl EncodedBody<'_> {
    fn new(body: &[u8], charset: Charset) -> EncodedBody<'_> {
        let room = Room::of(body.len());
        match Encoding::for_bom(body) {
            Some((encoding, mark_length)) => EncodedBody { text: &body[mark_length..], encoding, marked: true, room },
            None => EncodedBody { text: body, encoding: charset.encoding(), marked: false, room },
        }
    }

    /// The reading of strict JSON, or of a form where the source takes forms.
    fn strictly(&self, forms: bool) -> Result<Value, NotJson> {
        let mut copied = 0;
        // serde_json checks UTF-8 itself.
        let text: Cow<'_, [u8]> = if self.encoding == UTF_8 {
            Cow::Borrowed(self.text)
        } else {
            match self.encoding.decode_without_bom_handling_and_without_replacement(self.text) {
                Some(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
                Some(Cow::Owned(text)) => {
                    copied = text.capacity();
                    Cow::Owned(text.into_bytes())
                }
                None => {
                    let problem = format!("it holds bytes that are not {}", self.encoding.name());
                    return Err(NotJson::at(problem, 1, 1));
                }
            }
        };
        match bounded_json::read(&text, self.room.beside(copied)) {
            Ok(value) => Ok(value),
            Err(_) if forms && form::is_form(&text) => {
                // Percent-encoded are bytes of the charset, which has to be one in which the signs between fields are bytes.
                let read = match self.encoding.is_ascii_compatible() {
                    true => form::decode(self.text, self.encoding),
                    false => form::decode(&text, UTF_8),
                };
                read.map_err(|(problem, at)| NotJson::at(problem, 1, at + 1))
            }
            Err(Unread::TooDense { at }) => Err(too_dense(&text, at)),
            Err(Unread::Syntax(problem)) => {
                let found = not_json(&text, offset(&text, &problem), &problem);
                Err(if form::is_form(&text) { found.taken_by(TakenBy::Forms, TAKES_FORMS) } else { found })
            }
        }
    }

    /// The words for bytes that are no text in the charset that is named, or in none, and that tell what they are: nothing
    /// in them is to be repaired.
    fn no_text(&self) -> Option<NotJson> {
        let told = |problem: String, remedy: &str| Some(NotJson::at(problem, 1, 1).with_remedy(remedy));
        if looks_packed(self.text) {
            return told("it looks like gzip".to_owned(), PACKED);
        }
        if self.encoding != UTF_8 || self.marked {
            return None;
        }
        match looks_wide(self.text)? {
            utf_32 @ "UTF-32" => told(format!("it looks like {utf_32}, which is not read here"), "Send UTF-8."),
            wide => {
                let label = wide.to_ascii_lowercase();
                let remedy =
                    format!("Send UTF-8, or name the charset: `Content-Type: application/json; charset={label}`.");
                told(format!("it looks like {wide} without a byte order mark"), &remedy)
            }
        }
    }

    /// The reading of the repaired text; none where there is nothing to repair, or it is a form.
    fn leniently(&self, forms: bool) -> Option<Result<Decoded, NotJson>> {
        let mut repairs = Repairs::NONE;
        let text = lenient_json::decode(self.text, self.encoding, self.marked, &mut repairs);
        let copied = if let Cow::Owned(text) = &text { text.capacity() } else { 0 };
        let room = self.room.beside(copied);
        let Some(repaired) = lenient_json::repair(&text, room.text_bytes_max(), &mut repairs) else {
            return Some(Err(NotJson::at(TOO_MANY_REPAIRS, 1, 1)));
        };
        if repairs.is_empty() || forms && form::is_form(text.as_bytes()) {
            return None;
        }
        let unread = match bounded_json::read(&repaired, room.beside(repaired.capacity())) {
            Ok(value) => return Some(Ok(Decoded { value, repairs })),
            Err(unread) => unread,
        };
        let at = match &unread {
            Unread::TooDense { at } => *at,
            Unread::Syntax(problem) => offset(&repaired, problem),
        };
        // Finding the place makes it once more.
        drop(repaired);
        let place = lenient_json::place(&text, at);
        Some(Err(match unread {
            Unread::TooDense { .. } => too_dense(text.as_bytes(), place),
            Unread::Syntax(problem) => not_json(text.as_bytes(), place, &problem),
        }))
    }
}

/// The words for a text that holds more values than there is memory for.
fn too_dense(text: &[u8], at: usize) -> NotJson {
    let (line, column) = line_and_column(text, at);
    NotJson::at(TOO_DENSE, line, column).with_remedy(SEND_LESS)
}

/// The words for a problem at this byte of the text.
fn not_json(text: &[u8], at: usize, problem: &serde_json::Error) -> NotJson {
    let told = |at: usize, problem: String| {
        let (line, column) = line_and_column(text, at);
        NotJson::at(problem, line, column)
    };
    if text.trim_ascii().is_empty() {
        return told(at, "it is empty".to_owned());
    }
    if let Err(invalid) = str::from_utf8(text)
        && invalid.valid_up_to() <= at
    {
        let found = told(invalid.valid_up_to(), "it holds bytes that are not UTF-8".to_owned());
        return found.with_remedy(NAME_CHARSET);
    }
    let words = problem.to_string();
    let suffix = format!(" at line {} column {}", problem.line(), problem.column());
    let words = words.strip_suffix(&suffix).unwrap_or(&words);
    let word = lenient_json::word_at(text, at);
    let words = match words {
        // The end of a text in C, which some senders count with it.
        words if text.get(at) == Some(&0) && !words.starts_with(IN_A_STRING) => NUL.to_owned(),
        words if SURROGATE.contains(&words) => HALF_A_CHARACTER.to_owned(),
        words if NO_VALUE.contains(&words) && word.starts_with(b"'") => SINGLE_QUOTES.to_owned(),
        words if NO_VALUE.contains(&words) && lenient_json::is_not_finite(word) => {
            format!("`{}` is no number in JSON", String::from_utf8_lossy(word))
        }
        words => words.to_owned(),
    };
    told(at, words)
}

/// The byte that a problem is about. serde_json counts a line break that it trips over as column 0 of the next line; a
/// person looks for it at the end of the line before.
fn offset(text: &[u8], problem: &serde_json::Error) -> usize {
    let line = text.split_inclusive(|byte| *byte == b'\n').take(problem.line().saturating_sub(1)).map(<[u8]>::len);
    (line.sum::<usize>() + problem.column()).saturating_sub(1)
}

/// Line and column of a byte, from 1.
fn line_and_column(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rposition(|byte| *byte == b'\n').map_or(at, |line_break| at - line_break - 1) + 1;
    (line, column)
}

/// The size of a beginning, some dozens of alerts.
const BEGINNING_BYTES: usize = 64 * 1024;
const TOO_MANY_REPAIRS: &str = "repairing all that is no JSON in it takes more than ten times its size in memory";
const TAKES_FORMS: &str = "It looks like a form, which a source with `accept: [json, form]` takes.";
/// serde_json's words for a high surrogate without its low one, and for a low one alone.
const SURROGATE: [&str; 2] = ["unexpected end of hex escape", "lone leading surrogate in hex escape"];
/// Its words for a control character in a string.
const IN_A_STRING: &str = "control character";
const NUL: &str = "a NUL byte (0x00) stands here, outside of any string";
const HALF_A_CHARACTER: &str =
    "a string holds half a character, a lone surrogate (one of \\ud800 to \\udfff without its other half)";
/// Its words for what is no value and no key.
const NO_VALUE: [&str; 4] = ["expected value", "expected ident", "invalid number", "key must be a string"];
const NAME_CHARSET: &str =
    "Send UTF-8, or name the charset, as in `Content-Type: application/json; charset=windows-1252`.";
const SINGLE_QUOTES: &str = "strings stand between double quotes, and this one between single quotes";

#[cfg(test)]
mod memory;

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::lenient_json::Repair;

    fn lenient() -> Reading {
        Reading { json: JsonReading::Lenient, ..Reading::default() }
    }

    fn charset(label: &str) -> Reading {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", format!("text/plain; charset={label}").parse().unwrap());
        Reading { charset: Charset::of(&headers, false).unwrap(), ..Reading::default() }
    }

    fn strictly(body: &[u8], label: &str) -> Result<Value, NotJson> {
        decode(body, charset(label)).map(|Decoded { value, repairs }| {
            assert!(repairs.is_empty(), "{repairs:?}");
            value
        })
    }

    #[test]
    fn what_is_no_json_is_a_form_where_the_source_takes_forms() {
        let forms = Reading { form: true, ..Reading::default() };
        let read = |body: &[u8], reading| decode(body, reading).map(|decoded| decoded.value);
        assert_eq!(read(b"Status=Down&Tags=", forms), Ok(json!({"Status": "Down", "Tags": ""})));
        let latin = Reading { form: true, ..charset("iso-8859-1") };
        assert_eq!(read(b"a=Z%FCrich&b=Z\xfcrich", latin), Ok(json!({"a": "Zürich", "b": "Zürich"})));
        let wide = Reading { form: true, ..charset("utf-16le") };
        assert_eq!(read(b"a\0=\0%\0C\x003\0%\0B\0C\0", wide), Ok(json!({"a": "ü"})));
        for json in ["{\"a\": \"b=c\"}", "[\"a=b\"]", "\"a=b\"", "7"] {
            assert_eq!(read(json.as_bytes(), forms), Ok(serde_json::from_str(json).unwrap()), "{json}");
        }
        for text in ["{\"a\": b=c}", "", "Disk full", "Disk full: free=0"] {
            let strict = decode(text.as_bytes(), Reading::default()).unwrap_err();
            assert_eq!(read(text.as_bytes(), forms), Err(strict), "{text}");
        }
        let refused = decode(b"Status=Down", Reading::default()).unwrap_err();
        assert!(refused.remedy.as_deref().unwrap_or_default().contains("accept: [json, form]"), "{refused:?}");
        let not_utf8 = decode(b"a=1&b=%FC", forms).unwrap_err();
        assert_eq!((not_utf8.line, not_utf8.column), (1, 5), "{not_utf8:?}");
    }

    #[test]
    fn what_tells_by_its_first_bytes_why_it_is_no_json_is_told_so() {
        let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let alert = r#"{"id": "Störung"}"#;
        let utf_32: Vec<u8> = alert.chars().flat_map(|character| u32::from(character).to_le_bytes()).collect();
        for (body, parts) in [
            (
                b"\x1f\x8b\x08\0\0\0\0\0".to_vec(),
                ["like gzip", "`Content-Encoding: gzip`", "`accept_encoding: [gzip]`"],
            ),
            (wide(alert, u16::to_le_bytes), ["UTF-16LE", "byte order mark", "; charset=utf-16le`"]),
            (wide(alert, u16::to_be_bytes), ["UTF-16BE", "byte order mark", "; charset=utf-16be`"]),
            (utf_32, ["UTF-32", "not read here", "Send UTF-8."]),
        ] {
            for json in [JsonReading::Strict, JsonReading::Lenient] {
                let refused =
                    decode(&body, Reading { json, form: true, ..Reading::default() }).unwrap_err().to_string();
                assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
            }
        }
        // As it is named it is read, and a text of zero bytes that is JSON but for these is repaired.
        assert_eq!(strictly(&wide(alert, u16::to_le_bytes), "utf-16le"), Ok(json!({"id": "Störung"})));
        assert_eq!(decode(b"\0{\"a\": 1}\0", lenient()).map(|read| read.value), Ok(json!({"a": 1})));
    }

    #[test]
    fn the_beginning_of_a_body_ends_with_a_whole_character() {
        let most = BEGINNING_BYTES;
        for (body, length) in [
            (b"{}".to_vec(), 2),
            (vec![b'x'; most + 1], most),
            ([&vec![b'x'; most - 1][..], "ü".as_bytes()].concat(), most - 1),
            ([&vec![b'x'; most - 2][..], "üx".as_bytes()].concat(), most),
            (vec![b'\xfc'; most + 1], most),
        ] {
            assert_eq!(beginning(&body.clone().into()), body[..length]);
        }
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
            assert_eq!(strictly(body, label), Ok(json!("Zürich")), "{claim}");
            let lenient = decode(body, Reading { json: JsonReading::Lenient, ..charset(label) }).unwrap();
            assert!(lenient.value == json!("Zürich") && lenient.repairs.is_empty(), "{claim}");
        }
    }

    #[test]
    fn what_is_not_json_has_a_place() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let rows: &[(&str, &[u8], usize, usize, &str)] = &[
            ("an empty body", b"", 1, 1, "empty"),
            ("blanks", b" \n ", 2, 1, "empty"),
            ("a raw quote in a title", b"{\n  \"title\": \"say \"hi\"\"\n}", 2, 18, "expected"),
            ("a raw newline in a title", b"{\"title\": \"a\nb\"}", 1, 13, "control character"),
            ("a body cut off", b"{\"a\": 1", 1, 7, "EOF"),
            ("a body cut off after a line", b"{\n", 1, 2, "EOF"),
            ("text after the value", b"{} {}", 1, 4, "trailing"),
            ("a form", b"payload=%7B%7D", 1, 1, "expected"),
            ("no UTF-8", b"{\n\"a\": \"b\xff\"}", 2, 8, "not UTF-8"),
            ("the end of a text in C", b"{\"a\": 1}\0", 1, 9, "a NUL byte (0x00)"),
            ("a NUL byte between two values", b"[1,\0 2]", 1, 4, "a NUL byte (0x00)"),
            ("a NUL byte in a text", b"[\"a\0\"]", 1, 4, "control character"),
            ("200 levels", deep.as_bytes(), 1, 128, "recursion limit"),
            ("a number beyond all bounds", b"1e999", 1, 5, "out of range"),
            ("half a character, its first half", br#"{"a": "x\ud800y"}"#, 1, 15, "a lone surrogate"),
            ("two first halves", br#"["\ud800\ud800"]"#, 1, 14, "a lone surrogate"),
            ("half a character, its second half", br#"["\udc00"]"#, 1, 8, "a lone surrogate"),
            ("no escape at all", br#"["\u12"]"#, 1, 8, "escape"),
            ("a comma too many", b"[1,]", 1, 4, "trailing comma"),
            ("no number", br#"{"a": 1, "value":NaN}"#, 1, 18, "`NaN` is no number"),
            ("no number, with a sign", b"[-Infinity]", 1, 3, "`-Infinity` is no number"),
            ("no number, as C writes it", b"[ nan]", 1, 4, "`nan` is no number"),
            ("single quotes around a name", b"{'a': 1}", 1, 2, "single quotes"),
            ("single quotes around a text", b"[\"a\", 'b c']", 1, 7, "single quotes"),
        ];
        for (claim, body, line, column, word) in rows {
            let found = strictly(body, "utf-8").expect_err(claim);
            assert_eq!((found.line, found.column), (*line, *column), "{claim}: {found:?}");
            assert!(found.problem.contains(word), "{claim}: {found:?}");
            assert!(!found.problem.contains(" line "), "{claim}: {found:?}");
        }
        let found = strictly(b"\"\x81\"", "shift_jis").unwrap_err();
        assert!(found.problem.contains("Shift_JIS"), "{found:?}");
    }

    #[test]
    fn a_strict_source_is_told_what_helps() {
        let lenient = "With `json: lenient` the source would take it: ";
        let charset = "charset=windows-1252";
        let rows: &[(&[u8], &[&str])] = &[
            (b"[\"a\nb\"]", &[lenient, "raw control characters"]),
            (b"[\"C:\\Program\"]", &[lenient, "backslashes"]),
            (b"[NaN, 1,]", &[lenient, "NaN", "commas"]),
            (b"{\"a\": 1}\0\0", &[lenient, "control characters", "left out"]),
            (b"[\"Z\xfcrich\"]", &["Send UTF-8", charset, lenient, "Windows-1252"]),
            // No reading of these: only the charset is known to be wrong.
            (b"[\"Z\xfcrich\"", &["Send UTF-8", charset]),
            (b"[\"say \"hi\"\"]", &[]),
            (b"['a']", &[]),
            (b"{", &[]),
        ];
        for (body, words) in rows {
            let found = strictly(body, "utf-8").unwrap_err();
            let remedy = found.remedy.clone().unwrap_or_default();
            assert!(words.iter().all(|word| remedy.contains(word)), "{found:?}");
            assert_eq!(remedy.contains(lenient), words.contains(&lenient), "{found:?}");
            assert_eq!(found.remedy.is_none(), words.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn a_lenient_source_takes_what_can_be_read_in_one_way_only() {
        type Row<'a> = (&'a [u8], Value, &'a [Repair]);
        let rows: &[Row<'_>] = &[
            (b"{\"title\":\"Event\r\nid: 30d0\"}", json!({"title": "Event\r\nid: 30d0"}), &[Repair::ControlCharacter]),
            (b"{\"value\":NaN}", json!({"value": null}), &[Repair::NotANumber]),
            (b"{\"id\":\"e1\"}\n\0\0\0", json!({"id": "e1"}), &[Repair::ControlCharacter]),
            (
                b"[\"St\xf6rung auf Ger\xe4t \x96 20 \x80\"]",
                json!(["Störung auf Gerät – 20 €"]),
                &[Repair::Windows1252],
            ),
            // Of a text that is UTF-8 elsewhere only the broken character is lost.
            (b"[\"Z\xc3\xbcrich\", \"gr\xc3\"]", json!(["Zürich", "gr\u{fffd}"]), &[Repair::ReplacedBytes]),
            (b"\xef\xbb\xbf[\"a\xfc\"]", json!(["a\u{fffd}"]), &[Repair::ReplacedBytes]),
            (b"\xef\xbb\xbf\xef\xbb\xbf{}\xef\xbb\xbf", json!({}), &[Repair::ByteOrderMark]),
            (
                b"\xff\xfe\xff\xfe[\0\"\0\x0a\0\"\0,\0]\0",
                json!(["\n"]),
                &[Repair::ByteOrderMark, Repair::ControlCharacter, Repair::TrailingComma],
            ),
        ];
        for (body, value, repairs) in rows {
            let lenient = decode(body, lenient());
            let lenient = lenient.unwrap_or_else(|not_json| panic!("{}: {not_json:?}", body.escape_ascii()));
            assert_eq!(&lenient.value, value, "{}", body.escape_ascii());
            assert_eq!(lenient.repairs.iter().collect::<Vec<_>>(), *repairs, "{}", body.escape_ascii());
            assert!(decode(body, Reading::default()).is_err(), "{}", body.escape_ascii());
        }
        let lenient = decode(b"\"a\x81\"", Reading { json: JsonReading::Lenient, ..charset("shift_jis") }).unwrap();
        assert_eq!(lenient.repairs, Repairs::from_iter([Repair::ReplacedBytes]), "also in a charset that is named");
    }

    #[test]
    fn what_strict_json_takes_costs_a_lenient_source_nothing() {
        let body =
            br#"{"id": "e1", "title": "C:\\Disk full\n", "values": [1, 2.5, null], "host": {"name": "Z\u00fcrich"}}"#;
        let broken = body.map(|byte| if byte == b' ' { b'\0' } else { byte });
        let allocated = |body: &[u8], reading| {
            allocation_counter::measure(|| drop(std::hint::black_box(decode(body, reading).unwrap()))).count_total
        };
        let strict = allocated(body, Reading::default());
        assert_eq!(allocated(body, lenient()), strict);
        assert!(allocated(&broken, lenient()) > strict, "a repair does cost something");
    }

    #[test]
    fn what_a_lenient_source_can_not_take_is_told_by_its_place_in_what_came() {
        let rows: &[(&[u8], usize, usize, &str)] = &[
            // Repairs stand before it, in its line and in others.
            (b"{\"a\":\"x\ny\",\n\"title\":\"say \"hi\"\"}", 3, 15, "expected `,`"),
            (b"[\"\\P\\Q\", NaN, 'b']", 1, 15, "single quotes"),
            (b"\xef\xbb\xbf\xef\xbb\xbf{\"a\" 1}", 1, 9, "expected `:`"),
            (b"[\"a\n\"", 2, 1, "EOF"),
            (b"[1,, ]", 1, 4, "expected value"),
            (b"{,}", 1, 2, "key must be a string"),
        ];
        for (body, line, column, word) in rows {
            let found = decode(body, lenient()).unwrap_err();
            assert_eq!((found.line, found.column), (*line, *column), "{}: {found:?}", body.escape_ascii());
            assert!(found.problem.contains(word), "{}: {found:?}", body.escape_ascii());
        }
    }

    #[test]
    fn limits_are_those_of_strict_json() {
        let deep = |levels: usize| format!("{}\"\n\"{}", "[".repeat(levels), ",]".repeat(levels));
        let lenient = |body: &str| decode(body.as_bytes(), lenient());
        assert!(lenient(&deep(127)).is_ok());
        assert!(lenient(&deep(128)).unwrap_err().problem.contains("recursion limit"));
        assert!(lenient("[1e999,]").unwrap_err().problem.contains("out of range"));
        assert_eq!(lenient("{\"a\":1,\"a\":2,}").unwrap().value, json!({"a": 2}), "the last of two, as in strict JSON");
    }

    #[test]
    fn numbers_keep_their_digits() {
        for body in
            ["[1.0, 9007199254740993, 0.1234567890123456789]", "[1.0, 9007199254740993, 0.1234567890123456789,]"]
        {
            let read = decode(body.as_bytes(), lenient()).unwrap();
            assert_eq!(read.value[1], json!(9_007_199_254_740_993_u64));
        }
    }
}
