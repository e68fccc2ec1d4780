//! Lenient JSON: repairs what strict JSON refuses though it can be read in only one way.
//!
//! One pass over the text, without recursion: it knows strings from what stands between them, and leaves the grammar to
//! the parser of its result. What could be read in several ways, such as an unescaped quote in a string, stays as it is,
//! so that the parser refuses it. A repaired text is at most six times as long.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use serde_json::Value;

use crate::bounded_json::{self, Room};

/// The reading of a source's payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JsonReading {
    #[default]
    Strict,
    /// Repairs a text that strict JSON refuses, where it can be read in only one way.
    Lenient,
}

/// A kind of repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    ByteOrderMark,
    Windows1252,
    Cesu8,
    ReplacedBytes,
    ControlCharacter,
    Escape,
    Surrogate,
    TrailingComma,
    NotANumber,
}

impl serde::Serialize for Repair {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The kinds of repairs of one payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs(u16);

impl JsonReading {
    pub const CHOICES: [(&'static str, JsonReading); 2] =
        [("strict", JsonReading::Strict), ("lenient", JsonReading::Lenient)];
}

impl Repair {
    pub const ALL: [Repair; 9] = [
        Repair::ByteOrderMark,
        Repair::Windows1252,
        Repair::Cesu8,
        Repair::ReplacedBytes,
        Repair::ControlCharacter,
        Repair::Escape,
        Repair::Surrogate,
        Repair::TrailingComma,
        Repair::NotANumber,
    ];

    /// The word for metrics and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Repair::ByteOrderMark => "byte_order_mark",
            Repair::Windows1252 => "windows_1252",
            Repair::Cesu8 => "cesu_8",
            Repair::ReplacedBytes => "replaced_bytes",
            Repair::ControlCharacter => "control_character",
            Repair::Escape => "escape",
            Repair::Surrogate => "surrogate",
            Repair::TrailingComma => "trailing_comma",
            Repair::NotANumber => "not_a_number",
        }
    }

    /// The repair with this word.
    pub fn read(word: &str) -> Option<Repair> {
        Repair::ALL.into_iter().find(|repair| repair.as_str() == word)
    }

    /// The repair in words.
    pub fn explain(self) -> &'static str {
        match self {
            Repair::ByteOrderMark => "byte order marks left out",
            Repair::Windows1252 => "read as Windows-1252, since it is not UTF-8",
            Repair::Cesu8 => "characters whose halves were encoded one by one (CESU-8) put together",
            Repair::ReplacedBytes => "bytes outside of its charset replaced by U+FFFD",
            Repair::ControlCharacter => "raw control characters escaped in strings, left out elsewhere",
            Repair::Escape => "backslashes that begin no escape kept as backslashes, `\\u{…}` read as its character",
            Repair::Surrogate => "halves of characters (lone surrogates) replaced by U+FFFD",
            Repair::TrailingComma => "commas after the last element left out",
            Repair::NotANumber => "NaN and infinite numbers read as null",
        }
    }
}

impl Repairs {
    pub const NONE: Repairs = Repairs(0);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Repair> {
        Repair::ALL.into_iter().filter(move |repair| self.0 & bit(*repair) != 0)
    }

    /// The repairs in words, in a sentence.
    pub fn explain(self) -> String {
        self.iter().map(Repair::explain).collect::<Vec<_>>().join("; ")
    }

    /// Tells that something could not be read, and U+FFFD stands in its place.
    pub fn replaced_text(self) -> bool {
        self.iter().any(|repair| matches!(repair, Repair::ReplacedBytes | Repair::Surrogate))
    }

    /// These and those.
    pub fn and(self, others: Repairs) -> Repairs {
        Repairs(self.0 | others.0)
    }

    fn add(&mut self, repair: Repair) {
        self.0 |= bit(repair);
    }
}

impl FromIterator<Repair> for Repairs {
    fn from_iter<I: IntoIterator<Item = Repair>>(repairs: I) -> Repairs {
        Repairs(repairs.into_iter().fold(0, |all, repair| all | bit(repair)))
    }
}

fn bit(repair: Repair) -> u16 {
    1 << repair as u8
}

/// Decodes a text in which bytes may be wrong. Two halves of a character that were encoded one by one, as CESU-8 does, are
/// the character. What is neither UTF-8 in any of its characters nor marked as it is Windows-1252, the charset of senders
/// that name none; any other wrong byte becomes U+FFFD.
pub(crate) fn decode<'t>(
    text: &'t [u8],
    encoding: &'static Encoding,
    marked: bool,
    repairs: &mut Repairs,
) -> Cow<'t, str> {
    if encoding == UTF_8 {
        if let Ok(text) = str::from_utf8(text) {
            return Cow::Borrowed(text);
        }
        if let Some(joined) = joined(text) {
            repairs.add(Repair::Cesu8);
            let (decoded, malformed) = UTF_8.decode_without_bom_handling(&joined);
            if malformed {
                repairs.add(Repair::ReplacedBytes);
            }
            return Cow::Owned(decoded.into_owned());
        }
        if !marked && text.utf8_chunks().all(|chunk| chunk.valid().is_ascii()) {
            repairs.add(Repair::Windows1252);
            return WINDOWS_1252.decode_without_bom_handling(text).0;
        }
    }
    let (decoded, malformed) = encoding.decode_without_bom_handling(text);
    if malformed {
        repairs.add(Repair::ReplacedBytes);
    }
    decoded
}

/// A text of UTF-8 with the characters put together whose halves were encoded one by one; none where there are no such.
fn joined(text: &[u8]) -> Option<Vec<u8>> {
    let mut joined = Vec::new();
    let mut rest = text;
    while let Some((before, character, after)) = next_pair(rest) {
        joined.extend_from_slice(before);
        joined.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after;
    }
    if joined.is_empty() {
        return None;
    }
    joined.extend_from_slice(rest);
    Some(joined)
}

/// The first pair of surrogates that are encoded as if they were characters: what is before it, its character, the rest.
fn next_pair(text: &[u8]) -> Option<(&[u8], char, &[u8])> {
    let half = |upper: u8, lower: u8| (u32::from(upper & 0x0f) << 6) | u32::from(lower & 0x3f);
    text.windows(6).enumerate().find_map(|(at, window)| match *window {
        [0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, 0xed, c @ 0xb0..=0xbf, d @ 0x80..=0xbf] => {
            let character = char::from_u32(0x1_0000 + ((half(a, b) << 10) | half(c, d)))?;
            Some((&text[..at], character, &text[at + 6..]))
        }
        _ => None,
    })
}

/// Makes JSON of a text that is nearly that, of at most so many bytes; none where it would be longer. Where it is not JSON,
/// and why, is for the parser of the result to say.
pub(crate) fn repair(text: &str, bytes_max: usize, repairs: &mut Repairs) -> Option<Vec<u8>> {
    let mut pass = Pass { bytes_max, ..Pass::over(text) };
    while pass.at < pass.text.len() && !pass.full {
        pass.step();
    }
    *repairs = repairs.and(pass.repairs);
    (!pass.full).then_some(pass.made)
}

/// Reads a text that strict JSON refuses, with what was repaired for that; none where no repair helps.
pub(crate) fn read(text: &str, room: Room) -> Option<(Value, Repairs)> {
    let mut repairs = Repairs::NONE;
    let made = repair(text, room.text_bytes_max(), &mut repairs)?;
    if repairs.is_empty() {
        return None;
    }
    Some((bounded_json::read(&made, room.beside(made.capacity())).ok()?, repairs))
}

/// The place in `text` of what became the byte `made` of its repair.
pub(crate) fn place(text: &str, made: usize) -> usize {
    let mut pass = Pass { bytes_max: made, ..Pass::over(text) };
    while pass.at < pass.text.len() {
        let (at, before) = (pass.at, pass.made.len());
        pass.step();
        if pass.full {
            return (at + (made - before)).min(pass.at - 1);
        }
    }
    text.len()
}

/// One pass over a text.
struct Pass<'t> {
    text: &'t [u8],
    at: usize,
    made: Vec<u8>,
    bytes_max: usize,
    /// It would be longer than that.
    full: bool,
    repairs: Repairs,
    in_string: bool,
    /// The last token ends a value.
    after_value: bool,
    /// The comma in `made` behind a value, while only blanks follow it.
    comma: Option<usize>,
}

impl Pass<'_> {
    fn over(text: &str) -> Pass<'_> {
        Pass {
            text: text.as_bytes(),
            at: 0,
            made: Vec::with_capacity(text.len() + text.len() / 8),
            bytes_max: usize::MAX,
            full: false,
            repairs: Repairs::NONE,
            in_string: false,
            after_value: false,
            comma: None,
        }
    }

    /// Takes the next token, or the next part of a string.
    fn step(&mut self) {
        if self.in_string { self.within() } else { self.between() }
    }

    /// The next token between strings, or one blank.
    fn between(&mut self) {
        let rest = &self.text[self.at..];
        match rest[0] {
            b' ' | b'\t' | b'\n' | b'\r' => self.keep(1),
            0..=0x1f => self.replace(1, b" ", Repair::ControlCharacter),
            _ if rest.starts_with(MARK) => self.replace(MARK.len(), b" ", Repair::ByteOrderMark),
            b',' => {
                self.comma = self.after_value.then_some(self.made.len());
                self.after_value = false;
                self.keep(1);
            }
            token => {
                if let (Some(comma), b']' | b'}') = (self.comma.take(), token) {
                    self.made[comma] = b' ';
                    self.repairs.add(Repair::TrailingComma);
                }
                self.in_string = token == b'"';
                self.after_value = !matches!(token, b'[' | b'{' | b':');
                match token {
                    b'"' | b'[' | b']' | b'{' | b'}' | b':' => self.keep(1),
                    _ => self.word(),
                }
            }
        }
    }

    /// A number, a name, or what stands in its place.
    fn word(&mut self) {
        let length = word_length(&self.text[self.at..]);
        if is_not_finite(&self.text[self.at..self.at + length]) {
            self.replace(length, b"null", Repair::NotANumber);
        } else {
            self.keep(length);
        }
    }

    /// The next part of a string.
    fn within(&mut self) {
        let rest = &self.text[self.at..];
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
        match rest[0] {
            _ if plain > 0 => self.keep(plain),
            b'"' => {
                self.in_string = false;
                self.keep(1);
            }
            b'\\' => self.escape(),
            b'\n' => self.replace(1, b"\\n", Repair::ControlCharacter),
            b'\r' => self.replace(1, b"\\r", Repair::ControlCharacter),
            b'\t' => self.replace(1, b"\\t", Repair::ControlCharacter),
            control => self.replace(1, &escaped(u16::from(control)), Repair::ControlCharacter),
        }
    }

    /// A backslash in a string, with what it escapes.
    fn escape(&mut self) {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.keep(2),
            Some(b'u') => self.unicode(),
            Some(_) => self.replace(1, b"\\\\", Repair::Escape),
            // The string has no end.
            None => self.keep(1),
        }
    }

    /// A `\u` in a string: four digits, two times four of one character, or digits in braces.
    fn unicode(&mut self) {
        let rest = &self.text[self.at..];
        match unit(rest) {
            Some(0xd800..=0xdbff) if matches!(unit(&rest[6..]), Some(0xdc00..=0xdfff)) => self.keep(12),
            Some(0xd800..=0xdfff) => self.replace(6, REPLACEMENT, Repair::Surrogate),
            Some(_) => self.keep(6),
            None => self.braced(),
        }
    }

    /// A `\u` in a string without four digits.
    fn braced(&mut self) {
        let (code, length) = braced(&self.text[self.at..]).unwrap_or((u32::MAX, 1));
        match (char::from_u32(code), code) {
            (Some(character), _) => {
                let units =
                    character.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| escaped(*unit)).collect::<Vec<_>>();
                self.replace(length, &units, Repair::Escape);
            }
            (None, 0..=0xffff) => self.replace(length, REPLACEMENT, Repair::Surrogate),
            (None, _) => self.replace(1, b"\\\\", Repair::Escape),
        }
    }

    /// Takes so many bytes as they are.
    fn keep(&mut self, length: usize) {
        self.make(&self.text[self.at..self.at + length]);
        self.at += length;
    }

    /// Adds to what is made, which grows by doubling up to its limit.
    fn make(&mut self, bytes: &[u8]) {
        let length = self.made.len() + bytes.len();
        if length > self.bytes_max {
            self.full = true;
            return;
        }
        if length > self.made.capacity() {
            let wished = self.made.capacity().saturating_mul(2).min(self.bytes_max).max(length);
            self.made.reserve_exact(wished - self.made.len());
        }
        self.made.extend_from_slice(bytes);
    }

    fn replace(&mut self, length: usize, by: &[u8], repair: Repair) {
        self.make(by);
        self.at += length;
        self.repairs.add(repair);
    }
}

/// The word of which a byte of the text is a part: what stands between blanks and JSON's own signs.
pub(crate) fn word_at(text: &[u8], at: usize) -> &[u8] {
    let before = text[..at.min(text.len())].iter().rposition(|byte| is_sign(*byte)).map_or(0, |sign| sign + 1);
    &text[before..before + word_length(&text[before..])]
}

/// The word is a number that JSON can't write, as printf, Go, Java, JavaScript and Python write it.
pub(crate) fn is_not_finite(word: &[u8]) -> bool {
    let name = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
    ["nan", "inf", "infinity"].iter().any(|not_finite| name.eq_ignore_ascii_case(not_finite.as_bytes()))
}

/// The length of the word at the beginning of a text.
fn word_length(text: &[u8]) -> usize {
    let ends = |at: &usize| is_sign(text[*at]) || text[*at..].starts_with(MARK);
    (0..text.len()).find(ends).unwrap_or(text.len())
}

fn is_sign(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | b'"' | b',' | b':' | b'[' | b']' | b'{' | b'}')
}

/// The UTF-16 unit that a text begins with, as `\u` and four digits.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::try_from(hexadecimal(digits)?).ok()
}

/// The number that a text begins with, as `\u{…}` with one to six digits, and the length of that.
fn braced(text: &[u8]) -> Option<(u32, usize)> {
    let digits = text.strip_prefix(b"\\u{")?;
    let length = digits.iter().take(7).position(|byte| *byte == b'}').filter(|length| *length > 0)?;
    Some((hexadecimal(&digits[..length])?, length + 4))
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

fn escaped(unit: u16) -> Vec<u8> {
    format!("\\u{unit:04x}").into_bytes()
}

/// U+FEFF in UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();
/// U+FFFD, escaped.
const REPLACEMENT: &[u8] = b"\\ufffd";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repaired(text: &str) -> (String, Vec<Repair>) {
        let mut repairs = Repairs::NONE;
        let made = repair(text, usize::MAX, &mut repairs).unwrap();
        (String::from_utf8(made).unwrap(), repairs.iter().collect())
    }

    #[test]
    fn each_repair_has_one_reading() {
        use Repair::*;
        let rows: &[(&str, &str, &[Repair])] = &[
            // Control characters.
            ("\"a\nb\r\tc\"", r#""a\nb\r\tc""#, &[ControlCharacter]),
            ("\"\0\u{8}\u{c}\u{1f}\u{7f}\u{85}\"", "\"\\u0000\\u0008\\u000c\\u001f\u{7f}\u{85}\"", &[ControlCharacter]),
            ("{\"a\nb\": 1}\0", "{\"a\\nb\": 1} ", &[ControlCharacter]),
            // Escapes.
            (r#""C:\Program \x41 \' \e""#, r#""C:\\Program \\x41 \\' \\e""#, &[Escape]),
            (r#""C:\users \u12G4 \u+123 \u""#, r#""C:\\users \\u12G4 \\u+123 \\u""#, &[Escape]),
            (r#""\u{1F600} \u{a} \u{22} \u{5C}""#, r#""\ud83d\ude00 \u000a \u0022 \u005c""#, &[Escape]),
            (r#""\u{} \u{110000} \u{1234567} \u{41""#, r#""\\u{} \\u{110000} \\u{1234567} \\u{41""#, &[Escape]),
            ("\"a\\\nb\"", r#""a\\\nb""#, &[ControlCharacter, Escape]),
            (r#""\" \\ \/ \b \f \n \r \t \u00fC""#, r#""\" \\ \/ \b \f \n \r \t \u00fC""#, &[]),
            // Halves of characters.
            (r#""\ud83d\ude00 \ud83d \ude00""#, r#""\ud83d\ude00 \ufffd \ufffd""#, &[Surrogate]),
            (
                r#""\uD83D\uD83D\uDE00 \ud83d\u0041 \u{d83d}""#,
                r#""\ufffd\uD83D\uDE00 \ufffd\u0041 \ufffd""#,
                &[Surrogate],
            ),
            (r#""\ud83d\n""#, r#""\ufffd\n""#, &[Surrogate]),
            // Commas.
            ("[1,]", "[1 ]", &[TrailingComma]),
            ("{\"a\": [{}, \"]\" ,\n\t] , }", "{\"a\": [{}, \"]\"  \n\t]   }", &[TrailingComma]),
            ("[,] [1,,] {,} [1,2] \",]\" 1,", "[,] [1,,] {,} [1,2] \",]\" 1,", &[]),
            // Numbers that are none.
            ("[NaN,-NaN,Infinity,-Infinity,+Inf,inf,nan]", "[null,null,null,null,null,null,null]", &[NotANumber]),
            (
                r#"["NaN", NaNs, xNaN, NaN.0, --Inf, "-Infinity"]"#,
                r#"["NaN", NaNs, xNaN, NaN.0, --Inf, "-Infinity"]"#,
                &[],
            ),
            // Byte order marks.
            ("\u{feff} {\u{feff}\"a\u{feff}\":1\u{feff}}", "  { \"a\u{feff}\":1 }", &[ByteOrderMark]),
            ("[1\u{feff}2, Na\u{feff}N, 1,\u{feff}]", "[1 2, Na N, 1  ]", &[ByteOrderMark, TrailingComma]),
            // What could be meant in several ways stays.
            (r#"{"title":"expected "200" got 502"}"#, r#"{"title":"expected "200" got 502"}"#, &[]),
            (r#"{'a': 1, b: .5, c: 007, d: True} // x"#, r#"{'a': 1, b: .5, c: 007, d: True} // x"#, &[]),
            ("\"C:\\", "\"C:\\", &[]),
            ("", "", &[]),
        ];
        for (text, expected, repairs) in rows {
            assert_eq!(repaired(text), ((*expected).to_owned(), repairs.to_vec()), "{text:?}");
        }
    }

    #[test]
    fn a_text_without_utf_8_is_windows_1252_unless_it_is_marked() {
        for (text, marked, expected, repairs) in [
            (&b"Z\xfcrich \x80"[..], false, "Zürich €", vec![Repair::Windows1252]),
            (b"Z\xfcrich", true, "Z\u{fffd}rich", vec![Repair::ReplacedBytes]),
            (b"Z\xfcrich \xe2\x82\xac", false, "Z\u{fffd}rich €", vec![Repair::ReplacedBytes]),
            (b"Z\xc3\xbcrich", false, "Zürich", vec![]),
            // Two halves of a character, each encoded as if it were one; of a half alone nothing is known.
            (b"\xed\xa0\xbd\xed\xb8\x80 full", false, "😀 full", vec![Repair::Cesu8]),
            (b"\xc3\xbc \xed\xaf\xbf\xed\xbf\xbf", true, "ü \u{10ffff}", vec![Repair::Cesu8]),
            (b"\xed\xa0\x80\xed\xb0\x80 \xff", false, "\u{10000} \u{fffd}", vec![Repair::Cesu8, Repair::ReplacedBytes]),
            (b"\xc3\xbc \xed\xb8\x80", false, "ü \u{fffd}\u{fffd}\u{fffd}", vec![Repair::ReplacedBytes]),
        ] {
            let mut found = Repairs::NONE;
            assert_eq!(decode(text, UTF_8, marked, &mut found), expected);
            assert_eq!(found.iter().collect::<Vec<_>>(), repairs);
        }
    }

    #[test]
    fn the_time_is_that_of_one_pass() {
        for part in [",", ",]", "\\", "\\u{", "\"\\ud800", "\u{feff}", "[", "NaN", "\n", "\"\n", " ,"] {
            // The least of several: the machine may do much else.
            let took = |times: usize| {
                let text = part.repeat(times);
                let once = || {
                    let start = std::time::Instant::now();
                    std::hint::black_box(repaired(&text));
                    start.elapsed()
                };
                (0..4).map(|_| once()).min().unwrap()
            };
            let (short, long) = (took(1 << 14), took(1 << 18));
            assert!(long < short * 16 * 16, "{part:?}: {short:?}, sixteen times as much {long:?}");
        }
    }

    /// Values as JSON has them.
    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![any::<String>(), "[\"\\\\/\u{0}-\u{1f}\u{feff}a-u,{}:\\[\\]]{0,12}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            let members = prop::collection::vec((text.clone(), inner.clone()), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Writes a value as careless templates do, each time another way.
    struct Careless<I>(I);

    impl<I: Iterator<Item = u8>> Careless<I> {
        fn pick<'a>(&mut self, ways: &[&'a str]) -> &'a str {
            ways[usize::from(self.0.next().unwrap()) % ways.len()]
        }

        fn value(&mut self, value: &Value, out: &mut String) {
            *out += self.pick(&["", " ", "\n", "\u{feff}", "\0"]);
            match value {
                Value::Null => *out += self.pick(&["null", "NaN", "-Infinity", "inf"]),
                Value::String(text) => self.string(text, out),
                Value::Array(items) => {
                    *out += "[";
                    self.list(items, out, |this, item, out| this.value(item, out));
                    *out += "]";
                }
                Value::Object(members) => {
                    *out += "{";
                    self.list(members, out, |this, (name, value), out| {
                        this.string(name, out);
                        *out += ":";
                        this.value(value, out);
                    });
                    *out += "}";
                }
                other => *out += &other.to_string(),
            }
            *out += self.pick(&["", " ", "\r\n", "\u{feff}"]);
        }

        fn list<T>(
            &mut self,
            items: impl IntoIterator<Item = T>,
            out: &mut String,
            each: impl Fn(&mut Self, T, &mut String),
        ) {
            let mut separator = "";
            for item in items {
                *out += separator;
                each(self, item, out);
                separator = ",";
            }
            if !separator.is_empty() {
                *out += self.pick(&["", ",", ", ", ",\u{feff}\n"]);
            }
        }

        fn string(&mut self, text: &str, out: &mut String) {
            out.push('"');
            for character in text.chars() {
                let code = u32::from(character);
                match character {
                    '"' => *out += self.pick(&["\\\"", "\\u0022", "\\u{22}"]),
                    '\\' => *out += self.pick(&["\\\\", "\\u005C", "\\u{5c}"]),
                    '\0'..'\u{20}' if self.pick(&["raw", ""]) == "raw" => out.push(character),
                    '\0'..'\u{20}' => *out += &format!("\\u{code:04X}"),
                    _ if self.pick(&["", "", "", "braced"]) == "braced" => *out += &format!("\\u{{{code:x}}}"),
                    _ => out.push(character),
                }
            }
            out.push('"');
        }
    }

    fn read(text: &[u8]) -> Option<Value> {
        serde_json::from_slice(text).ok()
    }

    proptest! {
        #[test]
        fn what_is_written_carelessly_is_read_as_it_was_meant(value in values(), ways in any::<[u8; 32]>()) {
            let mut text = String::new();
            Careless(ways.into_iter().cycle()).value(&value, &mut text);
            let mut repairs = Repairs::NONE;
            prop_assert_eq!(read(&repair(&text, usize::MAX, &mut repairs).unwrap()), Some(value.clone()), "{:?}", text);
            prop_assert_eq!(repairs.is_empty(), read(text.as_bytes()).is_some(), "{:?}", text);
        }

        #[test]
        fn strict_json_is_not_touched(value in values()) {
            let text = format!("{value:#}");
            prop_assert_eq!(repaired(&text), (text, Vec::new()));
        }

        #[test]
        fn a_repaired_text_needs_no_more_repairs(
            text in prop_oneof![any::<String>(), "([\"\\\\\u{0}\n\u{feff},:{}\\[\\] ]|u|NaN|-|Inf|\\\\u\\{?d8|00|41\\}?|1){0,24}"]
        ) {
            let (made, repairs) = repaired(&text);
            prop_assert_eq!(repaired(&made), (made.clone(), Vec::new()), "{:?}", text);
            prop_assert!(made.len() <= 6 * text.len());
            // Where strict JSON has a reading there is nothing to repair.
            if let Some(value) = read(text.as_bytes()) {
                prop_assert_eq!((read(made.as_bytes()), repairs), (Some(value), Vec::new()));
            }
        }

        #[test]
        fn a_place_in_what_was_made_is_one_in_what_came(text in "([\"\\\\\u{0}\n\u{feff},a\\]]|NaN|\\\\u\\{41\\}){0,12}") {
            let (made, _) = repaired(&text);
            let places: Vec<usize> = (0..=made.len()).map(|at| place(&text, at)).collect();
            prop_assert!(places.is_sorted() && places.iter().all(|at| *at <= text.len()), "{:?}", places);
            prop_assert_eq!(places.last(), Some(&text.len()));
        }
    }

    #[test]
    fn what_is_not_repaired_is_at_its_place() {
        let text = "[\"a\n\\P\", NaN, 'x']";
        let (made, _) = repaired(text);
        for (sign, at) in [("'", text.find('\'').unwrap()), ("null", text.find("NaN").unwrap()), ("\\\\P", 4)] {
            assert_eq!(place(text, made.find(sign).unwrap()), at, "{sign}");
        }
    }
}
