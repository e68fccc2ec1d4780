//! Whole numbers that no 64 bits hold. serde_json would round them, so that two incidents whose numbers differ only in
//! the last digits were one: they are read as texts, digit by digit.

use serde_json::Value;

/// Reads JSON.
pub fn read_json(text: &[u8]) -> serde_json::Result<Value> {
    let value = serde_json::from_slice(text)?;
    Ok(quoted(text).and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or(value))
}

/// The same JSON with each such number in quotes; none where there is none. `text` is JSON.
fn quoted(text: &[u8]) -> Option<Vec<u8>> {
    if !has_long_run(text) {
        return None;
    }
    let mut quoted = Vec::with_capacity(text.len() + 16);
    let (mut at, mut found) = (0, false);
    while let Some(&byte) = text.get(at) {
        let end = match byte {
            b'"' => string_end(text, at),
            b'-' | b'0'..=b'9' => number_end(text, at),
            _ => at + 1,
        };
        let token = &text[at..end];
        let is_large = byte != b'"' && token.len() >= DIGITS_MIN && is_rounded(token);
        if is_large {
            found = true;
            quoted.push(b'"');
        }
        quoted.extend_from_slice(token);
        if is_large {
            quoted.push(b'"');
        }
        at = end;
    }
    found.then_some(quoted)
}

/// Whether so many digits stand in a row that they may be such a number: each row of them covers one of these bytes.
fn has_long_run(text: &[u8]) -> bool {
    text.iter().enumerate().skip(DIGITS_MIN - 1).step_by(DIGITS_MIN).any(|(at, byte)| {
        let is_digit = |byte: &&u8| byte.is_ascii_digit();
        byte.is_ascii_digit() && {
            let before = text[..at].iter().rev().take_while(is_digit).take(DIGITS_MIN).count();
            let behind = text[at..].iter().take_while(is_digit).take(DIGITS_MIN).count();
            before + behind >= DIGITS_MIN
        }
    })
}

/// Where the string ends that begins at `at`.
fn string_end(text: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    loop {
        match text.get(next) {
            Some(b'"') => return next + 1,
            Some(b'\\') => next += 2,
            Some(_) => next += 1,
            None => return text.len(),
        }
    }
}

fn number_end(text: &[u8], at: usize) -> usize {
    let part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    at + text[at..].iter().take_while(part).count()
}

/// Whether it is a whole number, and none that 64 bits hold.
fn is_rounded(number: &[u8]) -> bool {
    let Ok(number) = str::from_utf8(number) else {
        return false;
    };
    !number.contains(['.', 'e', 'E']) && number.parse::<u64>().is_err() && number.parse::<i64>().is_err()
}

/// What the smallest of them has.
const DIGITS_MIN: usize = 19;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_whole_numbers_beyond_64_bits_become_texts() {
        for (text, expected) in [
            ("18446744073709551615", None),
            ("18446744073709551616", Some("\"18446744073709551616\"")),
            ("[-9223372036854775808]", None),
            ("[-9223372036854775809]", Some("[\"-9223372036854775809\"]")),
            ("{\"12345678901234567890123\":1}", None),
            (
                "{\"a\\\"12345678901234567890123\":12345678901234567890123 }",
                Some("{\"a\\\"12345678901234567890123\":\"12345678901234567890123\" }"),
            ),
            ("[12345678901234567890123.5,12345678901234567890123e1]", None),
            ("0.12345678901234567890123", None),
        ] {
            assert_eq!(quoted(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_such_number_is_overlooked(before in "[ \\[a]{0,40}", digits in "[1-9][0-9]{20,30}", after in "[ \\]]{0,40}") {
            let text = format!("{before}{digits}{after}");
            prop_assert_eq!(quoted(text.as_bytes()), Some(format!("{before}\"{digits}\"{after}").into_bytes()));
        }

        #[test]
        fn whatever_the_text_it_ends(text in prop::collection::vec(any::<u8>(), 0..200), digits in "[0-9]{0,40}") {
            let _ = quoted(&[text.as_slice(), digits.as_bytes()].concat());
            let _ = quoted(&[digits.as_bytes(), b"\"\\"].concat());
        }
    }
}
