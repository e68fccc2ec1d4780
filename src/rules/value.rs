//! A JSON value's kind, text, equality and order in the rule language.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::budget::Budget;

/// The kinds that `type` can ask for. A number without a fraction is an integer, however it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Number,
    Integer,
    Boolean,
    Object,
    Array,
    Null,
}

impl Kind {
    pub(super) const CHOICES: [(&'static str, Kind); 7] = [
        ("string", Kind::String),
        ("number", Kind::Number),
        ("integer", Kind::Integer),
        ("boolean", Kind::Boolean),
        ("object", Kind::Object),
        ("array", Kind::Array),
        ("null", Kind::Null),
    ];

    pub(super) fn is(self, value: &Value) -> bool {
        match self {
            Kind::String => value.is_string(),
            Kind::Number => value.is_number(),
            Kind::Integer => value.as_number().is_some_and(is_integer),
            Kind::Boolean => value.is_boolean(),
            Kind::Object => value.is_object(),
            Kind::Array => value.is_array(),
            Kind::Null => value.is_null(),
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        Kind::CHOICES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| *name)
    }
}

/// The JSON word for a value's type.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The text that operators read: a string, or a number by its JSON text.
pub(super) fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

/// The number that numeric operators read: a number, or a string that is wholly a JSON number.
pub(super) fn number_of(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => parse_number(text),
        _ => None,
    }
}

/// Compares two values by type and value. 1 equals 1.0; the order of an object's members is no difference.
pub(super) fn equal(left: &Value, right: &Value, budget: &Budget) -> bool {
    if !budget.spend(1) {
        return false;
    }
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right) == Ordering::Equal,
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right, budget))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| {
                    budget.spend_bytes(name.len() as u64)
                        && right.get(name).is_some_and(|right| equal(left, right, budget))
                })
        }
        (Value::String(left), Value::String(right)) => {
            left.len() == right.len() && budget.spend_bytes(left.len() as u64) && left == right
        }
        (left, right) => left == right,
    }
}

/// Which number is larger, exactly: integers are never rounded to doubles on the way.
pub(super) fn compare_numbers(left: &Number, right: &Number) -> Ordering {
    match (integer_of(left), integer_of(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(left), None) => compare_with_double(left, double_of(right)),
        (None, Some(right)) => compare_with_double(right, double_of(left)).reverse(),
        (None, None) => double_of(left).total_cmp(&double_of(right)),
    }
}

/// A text for people, at most [`SHOWN_CHARACTERS_MAX`] characters: a string as it is, anything else as JSON.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => shortened(text),
        Value::Array(items) if items.len() > SHOWN_CHARACTERS_MAX => format!("an array of {} items", items.len()),
        Value::Object(members) if members.len() > SHOWN_CHARACTERS_MAX => {
            format!("an object of {} members", members.len())
        }
        other => shortened(&other.to_string()),
    }
}

/// The size of a value of which [`shown`] shows less: characters, items or members.
pub(super) fn shortened_size(value: &Value) -> Option<usize> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    shown(value).ends_with('…').then_some(size)
}

/// The first characters of a text, with an ellipsis where it goes on.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        None => text.to_owned(),
        Some(_) => {
            let end = text.char_indices().nth(SHOWN_CHARACTERS_MAX - 1).map_or(text.len(), |(end, _)| end);
            format!("{}…", &text[..end])
        }
    }
}

fn is_integer(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || double_of(number).fract() == 0.0
}

fn integer_of(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn double_of(number: &Number) -> f64 {
    // Minus zero is zero.
    number.as_f64().unwrap_or(0.0) + 0.0
}

fn compare_with_double(integer: i128, double: f64) -> Ordering {
    // The cast saturates, and every integer here is far inside its range: the order stays right.
    #[expect(clippy::cast_possible_truncation, reason = "the fraction is compared next")]
    let whole = double.trunc() as i128;
    integer.cmp(&whole).then_with(|| 0.0_f64.total_cmp(&(double.fract() + 0.0)))
}

/// Reads a text that is a JSON number from its first to its last character.
fn parse_number(text: &str) -> Option<Number> {
    let well_formed =
        text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && text.ends_with(|c: char| c.is_ascii_digit());
    if !well_formed {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Enough of a value for a person to recognise it.
pub(super) const SHOWN_CHARACTERS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_compared_exactly() {
        for (left, order, right) in [
            (json!(1), Ordering::Equal, json!(1.0)),
            (json!(0), Ordering::Equal, json!(-0.0)),
            (json!(9_007_199_254_740_993_u64), Ordering::Greater, json!(9_007_199_254_740_992.0)),
            (json!(u64::MAX), Ordering::Less, json!(18_446_744_073_709_551_616.0)),
            (json!(i64::MIN), Ordering::Greater, json!(-1e300)),
            (json!(-1), Ordering::Greater, json!(-1.5)),
            (json!(1), Ordering::Less, json!(1.5)),
            (json!(2.5), Ordering::Greater, json!(2)),
        ] {
            let (left, right) = (left.as_number().unwrap(), right.as_number().unwrap());
            assert_eq!(compare_numbers(left, right), order, "{left} and {right}");
            assert_eq!(compare_numbers(right, left), order.reverse(), "{right} and {left}");
        }
    }

    #[test]
    fn a_string_is_a_number_only_if_it_is_wholly_one() {
        for text in ["0", "-1", "42", "1.5", "1e3", "1E-3", "18446744073709551616"] {
            assert!(parse_number(text).is_some(), "{text}");
        }
        for text in ["", " 1", "1 ", "+1", "01", ".5", "5.", "1e", "0x10", "1_000", "NaN", "1,5", "90%", "[1]"] {
            assert!(parse_number(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_short() {
        assert_eq!(shown(&json!("CRITICAL")), "CRITICAL");
        assert_eq!(shown(&json!({"a": null})), r#"{"a":null}"#);
        assert_eq!(shown(&json!("é".repeat(100))).chars().count(), 100);
        let long = shown(&json!("é".repeat(101)));
        assert_eq!((long.chars().count(), long.chars().last()), (100, Some('…')));
    }

    #[test]
    fn an_integer_is_a_number_without_a_fraction() {
        for value in [json!(1), json!(-1), json!(1.0), json!(u64::MAX)] {
            assert!(Kind::Integer.is(&value), "{value}");
        }
        for value in [json!(1.5), json!("1"), json!(null)] {
            assert!(!Kind::Integer.is(&value), "{value}");
        }
    }
}
