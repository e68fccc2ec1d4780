//! JSON in which equal values have equal texts: members sorted by name, 1.0 as 1. For what is compared by a hash.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Number, Value};

use super::budget::Budget;

/// Appends the canonical text of a value.
pub(super) fn push(value: &Value, text: &mut String, budget: &Budget) {
    let before = text.len();
    push_value(value, text);
    budget.spend((text.len() - before) as u64 / BYTES_PER_STEP);
}

/// The hash of a value's canonical text: 32 hexadecimal digits.
pub(super) fn hash(value: &Value, budget: &Budget) -> String {
    let mut text = String::new();
    push(value, &mut text, budget);
    hex::encode(&digest(&SHA256, text.as_bytes()).as_ref()[..HASH_BYTES])
}

/// Tells a number that stands for others, too: an integer beyond 2^64 was read as the nearest double.
pub(super) fn is_inexact(number: &Number) -> bool {
    number.is_f64() && number.as_f64().is_some_and(|double| double.abs() >= EXACT_MAX)
}

fn push_value(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for item in items {
                push_value(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, member) in members {
                let _ = write!(text, "{}:", Value::from(name.as_str()));
                push_value(member, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Number(number) => match number.as_f64() {
            Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() < EXACT_MAX => {
                let _ = write!(text, "{:.0}", double + 0.0);
            }
            _ => {
                let _ = write!(text, "{number}");
            }
        },
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

/// From 2^53 on a double does not tell neighbouring integers apart.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// So much that no two of a sender's objects share a hash.
const HASH_BYTES: usize = 16;
/// Writing and hashing run slower than comparing: some ten nanoseconds for a few bytes.
const BYTES_PER_STEP: u64 = 4;
