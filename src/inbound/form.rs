//! Forms: bodies as browsers and scripts encode them (`application/x-www-form-urlencoded`), read as JSON objects.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};
use percent_encoding::percent_decode;
use serde_json::map::Entry;
use serde_json::{Map, Value};

/// Tells a form by its shape: `name=…`, with nothing in the name that an encoder would not leave there. JSON begins
/// otherwise.
pub(super) fn is_form(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let name = text.iter().position(|byte| *byte == b'=').and_then(|at| text.get(..at)).unwrap_or_default();
    let is_plain = |byte: &u8| !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"\"'<>{}".contains(byte);
    name.first().is_some_and(|first| *first != b'[') && name.iter().all(is_plain)
}

/// Reads a form as an object: each field a string, a repeated one a list of its strings. What is percent-encoded is in
/// the charset of the form, as the rest of it is. The error is a sentence, and the place in bytes.
pub(super) fn decode(form: &[u8], charset: &'static Encoding) -> Result<Value, (String, usize)> {
    let mut fields = Map::new();
    let mut at = 0;
    for (count, field) in form.split(|byte| *byte == b'&').enumerate() {
        if count >= FIELDS_MAX {
            return Err((format!("the form has more than {FIELDS_MAX} fields"), at));
        }
        let text = |part: &[u8]| {
            text(part, charset)
                .ok_or_else(|| (format!("a field of the form holds bytes that are not {}", name(charset)), at))
        };
        let trimmed = field.trim_ascii();
        let (name, value) = match trimmed.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&trimmed[..equals], &trimmed[equals + 1..]),
            None => (trimmed, &[][..]),
        };
        if !trimmed.is_empty() {
            add(&mut fields, text(name)?, text(value)?.into());
        }
        at += field.len() + 1;
    }
    Ok(Value::Object(fields))
}

fn add(fields: &mut Map<String, Value>, name: String, value: Value) {
    match fields.entry(name) {
        Entry::Vacant(vacant) => drop(vacant.insert(value)),
        Entry::Occupied(mut occupied) => match occupied.get_mut() {
            Value::Array(values) => values.push(value),
            first => *first = Value::Array(vec![first.take(), value]),
        },
    }
}

/// The text of a name or a value; none where it is not of this charset.
fn text(part: &[u8], charset: &'static Encoding) -> Option<String> {
    let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes: Cow<'_, [u8]> = percent_decode(&spaced).into();
    charset.decode_without_bom_handling_and_without_replacement(&bytes).map(Cow::into_owned)
}

fn name(charset: &'static Encoding) -> String {
    let remedy = if charset == UTF_8 { "; send UTF-8, or `charset=…` in the Content-Type header" } else { "" };
    format!("{}{remedy}", charset.name())
}

/// As many as a batch may have elements. Senders of alerts fill in a dozen.
const FIELDS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use encoding_rs::WINDOWS_1252;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_form_is_an_object_of_strings() {
        for (claim, form, expected) in [
            ("a field", "a=1", json!({"a": "1"})),
            ("several", "Status=Down&StatusCode=503", json!({"Status": "Down", "StatusCode": "503"})),
            ("an empty one", "Tags=&a=b", json!({"Tags": "", "a": "b"})),
            ("one without a value", "a=b&flag", json!({"a": "b", "flag": ""})),
            (
                "what is encoded",
                "URL=https%3A%2F%2Fshop.example&Name=Shop+DE",
                json!({"URL": "https://shop.example", "Name": "Shop DE"}),
            ),
            ("an encoded plus sign", "a=1%2B1", json!({"a": "1+1"})),
            ("a value with an equals sign", "a=b=c", json!({"a": "b=c"})),
            ("a repeated one", "t=a&x=1&t=b&t=", json!({"t": ["a", "b", ""], "x": "1"})),
            ("a name with brackets", "tags[]=a&tags%5B%5D=b", json!({"tags[]": ["a", "b"]})),
            ("nothing between two", "&a=1&&b=2&", json!({"a": "1", "b": "2"})),
            ("a line end behind it", "a=1&b=2\r\n", json!({"a": "1", "b": "2"})),
            ("what is no escape", "a=100%&b=%zz&c=%4", json!({"a": "100%", "b": "%zz", "c": "%4"})),
            ("UTF-8, encoded and not", "ort=Z%C3%BCrich&stadt=Zürich", json!({"ort": "Zürich", "stadt": "Zürich"})),
            ("JSON in a field", "payload=%7B%22id%22%3A7%7D", json!({"payload": "{\"id\":7}"})),
        ] {
            assert!(is_form(form.as_bytes()), "{claim}");
            assert_eq!(decode(form.as_bytes(), UTF_8), Ok(expected), "{claim}");
        }
    }

    #[test]
    fn a_form_is_read_in_its_charset() {
        let latin: &[u8] = b"a=Z%FCrich&b=Z\xfcrich";
        assert_eq!(decode(latin, WINDOWS_1252), Ok(json!({"a": "Zürich", "b": "Zürich"})));
        let (problem, at) = decode(b"ok=1&a=Z%FCrich", UTF_8).unwrap_err();
        assert!(problem.contains("UTF-8") && problem.contains("charset="), "{problem}");
        assert_eq!(at, "ok=1&".len());
    }

    #[test]
    fn a_form_has_as_many_fields_as_a_batch_elements() {
        let fields = |count: usize| vec!["a"; count].join("&");
        let many = decode(fields(FIELDS_MAX).as_bytes(), UTF_8).unwrap();
        assert_eq!(many["a"].as_array().unwrap().len(), FIELDS_MAX);
        assert!(decode(fields(FIELDS_MAX + 1).as_bytes(), UTF_8).unwrap_err().0.contains("fields"));
    }

    #[test]
    fn what_is_no_form_is_told_by_its_shape() {
        for text in [
            "",
            "a",
            "=",
            "=a",
            "{\"a\": \"b=c\"}",
            "{a=b}",
            "[a=b]",
            "\"a=b\"",
            "'a=b'",
            "<a b=\"c\">",
            "<a=b>",
            "Disk full: free=0",
            "a\u{0}=b",
        ] {
            assert!(!is_form(text.as_bytes()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_of_any_form_is_json_with_strings_and_lists_of_them(bytes in "[a-c=&%+\\[\\]0-9 üF]{0,40}") {
            let read = decode(bytes.as_bytes(), UTF_8);
            if let Ok(value) = read {
                prop_assert_eq!(&serde_json::from_str::<Value>(&value.to_string()).unwrap(), &value);
                for value in value.as_object().unwrap().values() {
                    let strings = |values: &Vec<Value>| values.len() > 1 && values.iter().all(Value::is_string);
                    prop_assert!(value.is_string() || value.as_array().is_some_and(strings));
                }
            }
        }

        #[test]
        fn what_is_encoded_comes_back(fields in prop::collection::btree_map("\\PC{1,8}", "\\PC{0,8}", 1..5)) {
            let encoded = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
            let form: Vec<String> =
                fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
            let form = form.join("&");
            prop_assert!(is_form(form.as_bytes()));
            prop_assert_eq!(decode(form.as_bytes(), UTF_8), Ok(json!(fields)));
        }
    }
}
