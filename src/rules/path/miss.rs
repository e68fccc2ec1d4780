//! Explains why a singular path selects nothing: where it leaves the document, and which name it probably meant.

use serde_json::Value;

use super::query::Step;
use crate::yaml::nearest;

/// A sentence where there is more to say than that the last name is missing: a value on the way that has no members, a
/// name on the way that is missing, a name that is nearly there.
pub(super) fn why_missing(steps: &[Step], start: &str, root: &Value) -> Option<String> {
    let mut node = root;
    let mut at = start.to_owned();
    for (index, step) in steps.iter().enumerate() {
        let last = index + 1 == steps.len();
        match (step, node) {
            (Step::Name(name), Value::Object(members)) => match members.get(name) {
                Some(member) => {
                    node = member;
                    at.push_str(&spelled(name));
                }
                None => {
                    let near = nearest(name, members.keys().take(NAMES_MAX).map(String::as_str));
                    return match near {
                        Some(near) => Some(format!("{MEANT} `{at}{}`?", spelled(near))),
                        None if last => None,
                        None => Some(format!("`{at}` has no `{name}`")),
                    };
                }
            },
            (Step::Name(_), other) => return Some(format!("`{at}` is {}", described(other))),
            (Step::Index(wanted), Value::Array(items)) => {
                let position = match usize::try_from(*wanted) {
                    Ok(position) => Some(position),
                    Err(_) => {
                        usize::try_from(wanted.unsigned_abs()).ok().and_then(|back| items.len().checked_sub(back))
                    }
                };
                match position.and_then(|position| items.get(position)) {
                    Some(item) => {
                        node = item;
                        at.push_str(&format!("[{wanted}]"));
                    }
                    None => return Some(format!("`{at}` has {} items", items.len())),
                }
            }
            (Step::Index(_), other) => return Some(format!("`{at}` is {}", described(other))),
        }
    }
    None
}

fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array: `[0]` is its first item, `[*]` are all of them",
        Value::Object(_) => "an object, its members have names",
    }
}

/// A name as it continues a path, in RFC 9535's shorthand where that allows it.
pub(in crate::rules) fn spelled(name: &str) -> String {
    let short = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_numeric());
    if short && !name.is_empty() { format!(".{name}") } else { format!("[{}]", Value::from(name)) }
}

/// The beginning of a sentence that names what was meant.
pub(in crate::rules) const MEANT: &str = "did you mean";
/// An object with more members is a table, not a record.
const NAMES_MAX: usize = 1_000;
