//! What a condition fixes: the values that a path can only have where the condition holds.

use serde_json::Value;

use super::condition::{Asks, Condition, Operator, Test};
use super::path::JsonPath;

/// The paths that are fixed, each once; no values where a path selects nothing.
#[derive(Debug, Default)]
pub(super) struct Fixed<'c>(Vec<(&'c JsonPath, Vec<&'c Value>)>);

impl<'c> Fixed<'c> {
    pub(super) fn by(condition: Option<&'c Condition>) -> Fixed<'c> {
        condition.map(of).unwrap_or_default()
    }

    /// The values that are possible; none where anything is.
    pub(super) fn values(&self, path: &JsonPath) -> Option<&[&'c Value]> {
        self.0.iter().find(|(fixed, _)| fixed.is_same(path)).map(|(_, values)| values.as_slice())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'c JsonPath, &[&'c Value])> {
        self.0.iter().map(|(path, values)| (*path, values.as_slice()))
    }

    fn add(&mut self, path: &'c JsonPath, values: Vec<&'c Value>) {
        if self.values(path).is_none() {
            self.0.push((path, values));
        }
    }
}

fn of(condition: &Condition) -> Fixed<'_> {
    let mut fixed = Fixed::default();
    match condition {
        Condition::Test(test) => {
            if let Some(values) = values(test) {
                fixed.add(&test.path, values);
            }
        }
        Condition::All(parts) => {
            parts.iter().flat_map(|part| of(part).0).for_each(|(path, values)| fixed.add(path, values));
        }
        // What each part fixes in its own way.
        Condition::Any(parts) => {
            let parts: Vec<Fixed<'_>> = parts.iter().map(of).collect();
            for (path, _) in parts.iter().flat_map(Fixed::iter) {
                let each: Option<Vec<&[&Value]>> = parts.iter().map(|part| part.values(path)).collect();
                // A part by which it is missing would be lost among values.
                if let Some(each) = each.filter(|each| each.iter().all(|values| !values.is_empty())) {
                    fixed.add(path, each.concat());
                }
            }
        }
        Condition::Not(_) => {}
    }
    fixed
}

/// The values that a test leaves to its path. Equal numbers have different texts, and a text in any case many
/// spellings: those fix nothing.
fn values(test: &Test) -> Option<Vec<&Value>> {
    if !test.path.is_singular() {
        return None;
    }
    let Asks::Nodes(operators) = &test.asks else {
        return Some(Vec::new());
    };
    operators.iter().find_map(|operator| match operator {
        Operator::Equals(one_of) | Operator::OneOf(one_of) => {
            let exact = |value: &Value| match value {
                Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
                Value::String(_) => !one_of.any_case,
                Value::Null | Value::Bool(_) => true,
            };
            one_of.values.iter().all(exact).then(|| one_of.values.iter().collect())
        }
        _ => None,
    })
}
