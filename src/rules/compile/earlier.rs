//! The rules before a rule, found by what both name: where a thousand rules each ask for a value of their own, each is
//! compared with the few that ask for the same one.

use std::collections::HashMap;

use serde_json::Value;

use super::super::Rule;
use super::super::casefold::folded;
use super::super::condition::{Asks, Condition, Operator, Test};
use super::super::text::OneOf;
use super::Kept;

/// The rules so far, in the order of the file.
#[derive(Default)]
pub(super) struct Earlier<'a> {
    rules: Vec<(&'a Rule, &'a Kept<'a>, &'a Condition)>,
    /// Those which any condition may fall under.
    anywhere: Vec<usize>,
    /// Those which only a condition falls under that names one of these values of a path.
    by_value: HashMap<Named, Vec<usize>>,
}

/// A path in its canonical spelling, and a value of it as a text in one case.
type Named = (String, String);

impl<'a> Earlier<'a> {
    pub(super) fn add(&mut self, rule: &'a Rule, kept: &'a Kept<'a>, condition: &'a Condition) {
        let index = self.rules.len();
        self.rules.push((rule, kept, condition));
        match required(condition) {
            Some(values) => values.into_iter().for_each(|value| self.by_value.entry(value).or_default().push(index)),
            None => self.anywhere.push(index),
        }
    }

    /// The rules that `later` may fall under, in the order of the file, and their conditions.
    pub(super) fn candidates(&self, later: &Condition) -> (Vec<(&'a Rule, &'a Kept<'a>)>, Vec<&'a Condition>) {
        let mut indices = self.anywhere.clone();
        for test in later.tests() {
            // An earlier one has all values of an operator, or it does not cover it: one is enough to find it by.
            indices.extend(operators(test).filter_map(|mut values| self.by_value.get(&values.next()?)).flatten());
        }
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().map(|index| self.rules[index]).map(|(rule, kept, when)| ((rule, kept), when)).unzip()
    }
}

/// What any condition must name that is known to hold only where this one does: one of these values. None where it need
/// not name a value.
fn required(condition: &Condition) -> Option<Vec<Named>> {
    match condition {
        Condition::Test(test) => {
            let values: Vec<Named> = operators(test).flatten().collect();
            Some(values).filter(|values| !values.is_empty())
        }
        Condition::All(parts) => parts.iter().find_map(required),
        Condition::Any(parts) => parts.iter().map(required).collect::<Option<Vec<_>>>().map(|values| values.concat()),
        Condition::Not(_) => None,
    }
}

/// The values that a test asks for, operator by operator.
fn operators(test: &Test) -> impl Iterator<Item = impl Iterator<Item = Named>> {
    let operators = match &test.asks {
        Asks::Nodes(operators) => operators.as_slice(),
        Asks::Absent => &[],
    };
    let values = operators.iter().filter_map(|operator| match operator {
        Operator::Equals(OneOf { values, .. }) | Operator::OneOf(OneOf { values, .. }) => Some(values),
        _ => None,
    });
    // Numbers that are equal may have different texts.
    let text = |value: &Value| value.as_str().map_or_else(String::new, folded);
    values.map(move |values| values.iter().map(move |value| (test.path.canonical().into_owned(), text(value))))
}
