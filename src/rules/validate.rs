//! Validations: what an element must look like before any rule reads it. Every violation is reported.

use serde_json::Value;

use super::budget::Budget;
use super::path::{JsonPath, Scope};
use super::pattern::Pattern;
use super::text::OneOf;
use super::trace::{SEEN_MAX, Seen, Spot, ValidationTrace};
use super::value::{Kind, kind_of, shown, text_of};
use crate::event::Violation;

/// One entry of `validate`.
#[derive(Clone, Debug)]
pub(super) struct Validation {
    pub(super) spot: Spot,
    pub(super) path: JsonPath,
    pub(super) required: bool,
    pub(super) checks: Vec<Check>,
}

/// A check of every node that the path selects. A missing one is no matter of these.
#[derive(Clone, Debug)]
pub(super) enum Check {
    Type(Vec<Kind>),
    OneOf(OneOf),
    MinLength(usize),
    MaxLength(usize),
    Matches(Vec<Pattern>),
    NotMatches(Vec<Pattern>),
}

impl Validation {
    /// Adds what is violated.
    pub(super) fn check(
        &self,
        scope: Scope<'_>,
        violations: &mut Vec<Violation>,
        trace: Option<&mut Vec<ValidationTrace>>,
    ) {
        let before = violations.len();
        let nodes = self.path.select(scope);
        let nodes = nodes.as_slice();
        if self.required && nodes.is_empty() {
            violations.push(self.violation("is required and missing".into(), None));
        }
        for node in nodes {
            for problem in self.problems(node, scope) {
                if scope.budget.spend(VIOLATION_STEPS) {
                    violations.push(self.violation(problem, Some(node)));
                }
            }
        }
        if let Some(trace) = trace {
            let seen = match nodes {
                [] => vec![Seen::missing(&self.path, scope, !self.required)],
                nodes => nodes
                    .iter()
                    .take(SEEN_MAX)
                    .map(|node| Seen::node(node, self.problems(node, scope).next()))
                    .collect(),
            };
            trace.push(ValidationTrace {
                spot: self.spot,
                path: self.path.as_str().to_owned(),
                checks: self.describe(),
                selected: nodes.len(),
                seen,
                holds: violations.len() == before,
            });
        }
    }

    fn problems<'a>(&'a self, node: &'a Value, scope: Scope<'a>) -> impl Iterator<Item = String> + 'a {
        let null = self.required && node.is_null();
        // That a required value is null says it all; its type and length would only repeat it.
        let checks: &[Check] = if null { &[] } else { &self.checks };
        let null = null.then(|| "is required and null".to_owned());
        null.into_iter().chain(checks.iter().filter_map(move |check| check.problem(node, scope)))
    }

    fn violation(&self, problem: String, found: Option<&Value>) -> Violation {
        Violation { path: self.path.as_str().to_owned(), problem, found: found.map(shown) }
    }

    pub(super) fn describe(&self) -> Vec<String> {
        let required = self.required.then(|| "required".to_owned());
        required.into_iter().chain(self.checks.iter().map(Check::describe)).collect()
    }
}

impl Check {
    fn problem(&self, node: &Value, scope: Scope<'_>) -> Option<String> {
        match self {
            Check::Type(kinds) => (!kinds.iter().any(|kind| kind.is(node)))
                .then(|| format!("has to be of type {}, not {}", names(kinds), kind_of(node))),
            Check::OneOf(values) => (!values.holds(node, scope.budget)).then(|| {
                let values = values.values.iter().take(LISTED_MAX).map(shown).collect::<Vec<_>>().join(", ");
                format!("has to be one of {values}")
            }),
            Check::MinLength(min) => {
                let length = length_of(node, scope.budget);
                (length < *min).then(|| format!("has length {length}, at least {min} is required"))
            }
            Check::MaxLength(max) => {
                let length = length_of(node, scope.budget);
                (length > *max).then(|| format!("has length {length}, at most {max} is allowed"))
            }
            Check::Matches(patterns) => {
                let matches = text_of(node)
                    .is_some_and(|text| patterns.iter().any(|pattern| scope.budget.search(pattern, &text)));
                (!matches).then(|| format!("has to match {}", shapes(patterns)))
            }
            Check::NotMatches(patterns) => {
                let text = text_of(node)?;
                let matched = patterns.iter().find(|pattern| scope.budget.search(pattern, &text))?;
                Some(format!("must not match /{}/", matched.as_str()))
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Check::Type(kinds) => format!("type {}", names(kinds)),
            Check::OneOf(values) => {
                format!("one_of [{}]", values.values.iter().map(shown).collect::<Vec<_>>().join(", "))
            }
            Check::MinLength(min) => format!("min_length {min}"),
            Check::MaxLength(max) => format!("max_length {max}"),
            Check::Matches(patterns) => format!("matches {}", shapes(patterns)),
            Check::NotMatches(patterns) => format!("not_matches {}", shapes(patterns)),
        }
    }
}

/// Characters of a text, of a number's JSON text or of a boolean's; items of an array, members of an object; null has none.
fn length_of(value: &Value, budget: &Budget) -> usize {
    match value {
        Value::Null => 0,
        Value::String(text) => {
            budget.spend_bytes(text.len() as u64);
            text.chars().count()
        }
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        scalar => scalar.to_string().len(),
    }
}

fn names(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" or ")
}

fn shapes(patterns: &[Pattern]) -> String {
    patterns.iter().map(|pattern| format!("/{}/", pattern.as_str())).collect::<Vec<_>>().join(" or ")
}

/// The price of reporting a violation: some hundred bytes are written, and a hostile batch could have millions.
const VIOLATION_STEPS: u64 = 100;
/// A sender reads the problem in an HTTP answer.
const LISTED_MAX: usize = 10;
