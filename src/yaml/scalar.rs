//! The meaning of plain scalars: the core schema of YAML 1.2, read strictly.
//!
//! Only `true` and `false` are booleans (`yes`, `no`, `on` and `off` are text), and a number that a person may
//! have meant as text stays text: one with a leading zero (`007`) or with underscores (`1_000`).

use serde_json::Number;

use super::Value;

/// A number that has no value here: infinite, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotFinite;

/// The value of an unquoted, untagged scalar.
pub(crate) fn plain(text: &str) -> Result<Value, NotFinite> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(NotFinite);
    }
    match number(text, unsigned) {
        Some(number) => number.map(Value::Number),
        None => Ok(Value::String(text.to_owned())),
    }
}

/// The number that `text` spells, if it spells one.
fn number(text: &str, unsigned: &str) -> Option<Result<Number, NotFinite>> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(plain_digits(digits)?, 16).ok().map(|value| Ok(value.into()));
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return u64::from_str_radix(plain_digits(digits)?, 8).ok().map(|value| Ok(value.into()));
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let whole = unsigned.split(['.', 'e', 'E']).next().unwrap_or_default();
    if whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let written = text.strip_prefix('+').unwrap_or(text);
    if let Ok(value) = written.parse::<u64>() {
        return Some(Ok(value.into()));
    }
    if let Ok(value) = written.parse::<i64>() {
        return Some(Ok(value.into()));
    }
    if !unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-')) {
        return None;
    }
    let value = written.parse::<f64>().ok()?;
    Some(Number::from_f64(value).ok_or(NotFinite))
}

/// `from_str_radix` takes a sign too; after `0x` none belongs.
fn plain_digits(digits: &str) -> Option<&str> {
    Some(digits).filter(|digits| !digits.starts_with(['+', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema_strictly() {
        let text = |text: &str| Value::String(text.to_owned());
        let float = |value: f64| Value::Number(Number::from_f64(value).unwrap());
        let integer = |value: i64| Value::Number(value.into());
        for (written, meant) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("yes", text("yes")),
            ("off", text("off")),
            ("0", Value::Number(0_u64.into())),
            ("12", Value::Number(12_u64.into())),
            ("+12", Value::Number(12_u64.into())),
            ("-12", integer(-12)),
            ("18446744073709551615", Value::Number(u64::MAX.into())),
            ("18446744073709551616", float(18_446_744_073_709_551_616.0)),
            ("0x1F", Value::Number(31_u64.into())),
            ("0x+1", text("0x+1")),
            ("0o17", Value::Number(15_u64.into())),
            ("007", text("007")),
            ("1_000", text("1_000")),
            ("1.5", float(1.5)),
            ("-0.5e2", float(-50.0)),
            ("1.", float(1.0)),
            (".5", float(0.5)),
            (".", text(".")),
            ("1.2.3.4", text("1.2.3.4")),
            ("10s", text("10s")),
            ("2020-01-01", text("2020-01-01")),
            ("infinity", text("infinity")),
            ("1e5", float(100_000.0)),
            ("e5", text("e5")),
            ("-", text("-")),
            ("+-1", text("+-1")),
        ] {
            assert_eq!(plain(written), Ok(meant), "{written:?}");
        }
    }

    #[test]
    fn what_is_not_finite_has_no_value() {
        for written in [".inf", "-.INF", "+.Inf", ".nan", "1e999"] {
            assert_eq!(plain(written), Err(NotFinite), "{written:?}");
        }
    }
}
