//! What a decision looked at and what it saw there, for `explain`. Made by the evaluation itself, on demand.

use serde::Serialize;
use serde_json::Value;

use super::value::{kind_of, shown};
use crate::document::Place;
use crate::event::Violation;

/// How one element was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ElementTrace {
    pub index: usize,
    /// `event`, `ignored` or `refused`.
    pub verdict: &'static str,
    /// The rule that decided, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub validations: Vec<ValidationTrace>,
    pub rules: Vec<RuleTrace>,
    /// Why it is refused; empty otherwise.
    pub errors: Vec<Violation>,
}

/// Where something is written in the rule file, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Spot {
    pub line: usize,
    pub column: usize,
}

/// One entry of `validate`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValidationTrace {
    #[serde(flatten)]
    pub spot: Spot,
    pub path: String,
    /// What it asks, as `required`, `max_length 200`.
    pub checks: Vec<String>,
    pub seen: Vec<Seen>,
    pub holds: bool,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleTrace {
    #[serde(flatten)]
    pub spot: Spot,
    pub name: String,
    pub then: &'static str,
    /// `matched`, `not matched`, `not reached`, or `unreadable` where a value that it reads holds a placeholder.
    pub verdict: &'static str,
    /// None where it has no `when`, or was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<ConditionTrace>,
}

/// One condition, with what it found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ConditionTrace {
    Combined {
        /// `all`, `any` or `not`.
        combine: &'static str,
        holds: bool,
        conditions: Vec<ConditionTrace>,
    },
    Test {
        #[serde(flatten)]
        spot: Spot,
        path: String,
        /// What it asks, as `contains_word [CRITICAL, ALARM], any case`.
        operators: Vec<String>,
        every: bool,
        seen: Vec<Seen>,
        holds: bool,
    },
}

/// One node that a path selected, or that it selected none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// `missing`, or the JSON type.
    pub kind: &'static str,
    /// The value, shortened; none where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    pub holds: bool,
    /// Why it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Spot {
    pub(super) fn of(place: &Place) -> Spot {
        place.line_column().map_or_else(Spot::default, |(line, column)| Spot { line, column })
    }
}

impl Seen {
    pub(super) fn missing(holds: bool) -> Seen {
        Seen { kind: "missing", value: None, holds, why: None }
    }

    /// A node, and why it does not hold; none if it does.
    pub(super) fn node(node: &Value, why: Option<String>) -> Seen {
        let value = match node {
            Value::Null | Value::Bool(_) | Value::Number(_) => node.clone(),
            other => Value::String(shown(other)),
        };
        Seen { kind: kind_of(node), value: Some(value), holds: why.is_none(), why }
    }
}

impl ConditionTrace {
    pub fn holds(&self) -> bool {
        match self {
            ConditionTrace::Combined { holds, .. } | ConditionTrace::Test { holds, .. } => *holds,
        }
    }
}

/// A path may select thousands of nodes; a person reads the first few.
pub(super) const SEEN_MAX: usize = 20;
