//! The trace of a decision for `explain`: every place that it looked at, with the value there. Made by the evaluation
//! itself, on demand.

use serde::Serialize;
use serde_json::Value;

use super::path::{JsonPath, MEANT, Scope};
use super::value::{kind_of, shortened_size, shown};
use crate::event::Violation;
use crate::yaml::Place;

/// The trace of one element's decision.
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
    /// Where no rule matched, the one that lacked least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Nearest>,
    /// The values that `incident_key`, `occurrence` and `update_on` read, where a rule made it an event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<PathTrace>,
    /// Paths of `emit` that found nothing, where a rule made it an event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<Missed>,
    /// Paths of `emit` that found something.
    #[serde(skip)]
    pub found: Vec<String>,
    /// Why it is refused; empty otherwise.
    pub errors: Vec<Violation>,
}

/// A path of `emit` that selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// The key of the body, dotted.
    pub key: String,
    /// As it is written; of a template the variable, as `payload.title`.
    pub path: String,
    /// Another value is sent in its place.
    pub instead: bool,
    /// The probable meaning, or the reason why it leads nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Where something is written in the rule file, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Spot {
    pub line: usize,
    pub column: usize,
}

/// A path that is read for what it selects, of which nothing is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathTrace {
    /// The key of the rule file, as `split`.
    pub key: &'static str,
    pub path: String,
    /// The number of nodes that it selects.
    pub selected: usize,
    pub seen: Vec<Seen>,
    /// Its part in the incident key, where that is more than the value as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<PartTrace>,
}

/// A path as a part of the incident key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartTrace {
    /// The operators beside the path in the rule file, as `capture #(\d+)`, `optional`.
    pub how: Vec<String>,
    /// `taken`, `next` where another path is asked, `left out` or `refused`.
    pub verdict: &'static str,
    /// The text that is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The trace of a payload's decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The values that `unwrap` and `split` found.
    pub payload: Vec<PathTrace>,
    /// One for each element, in their order.
    pub elements: Vec<ElementTrace>,
}

/// One entry of `validate`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValidationTrace {
    #[serde(flatten)]
    pub spot: Spot,
    pub path: String,
    /// Its words, as `required`, `max_length 200`.
    pub checks: Vec<String>,
    /// The number of nodes that the path selects; the first of them are in `seen`.
    pub selected: usize,
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
    /// None where it is normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<&'static str>,
    /// `matched`, `not matched`, `not reached`, or `unreadable` where a value that it reads is a placeholder.
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
        /// Its words, as `contains_word [CRITICAL, ALARM], any case`.
        operators: Vec<String>,
        every: bool,
        /// The number of nodes that the path selects; the first of them are in `seen`.
        selected: usize,
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
    /// Its length where it is shortened: characters of a string, items of an array, members of an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    pub holds: bool,
    /// Why it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// True where little would make it hold, and `why` says what.
    #[serde(skip)]
    pub nearly: bool,
}

/// The rule of which the fewest tests would have to come out otherwise; of several such the one that lacks least in them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nearest {
    #[serde(flatten)]
    pub spot: Spot,
    pub rule: String,
    /// Those tests, as they came out.
    pub lacks: Vec<ConditionTrace>,
}

impl Missed {
    /// A name is nearly right, so that this is probably a mistake.
    pub fn is_near(&self) -> bool {
        self.why.as_deref().is_some_and(|why| why.starts_with(MEANT))
    }
}

impl Spot {
    pub(super) fn of(place: &Place) -> Spot {
        place.line_column().map_or_else(Spot::default, |(line, column)| Spot { line, column })
    }
}

impl Seen {
    /// That the path selects nothing, and why, where that does not hold.
    pub(super) fn missing(path: &JsonPath, scope: Scope<'_>, holds: bool) -> Seen {
        let why = if holds { None } else { path.why_missing(scope) };
        Seen { kind: "missing", value: None, size: None, holds, nearly: why.is_some(), why }
    }

    /// A node, and why it does not hold; none if it does.
    pub(super) fn node(node: &Value, why: Option<String>) -> Seen {
        let value = match node {
            Value::Null | Value::Bool(_) | Value::Number(_) => node.clone(),
            other => Value::String(shown(other)),
        };
        let (kind, size, holds) = (kind_of(node), shortened_size(node), why.is_none());
        Seen { kind, value: Some(value), size, holds, why, nearly: false }
    }
}

impl PathTrace {
    pub(super) fn of(key: &'static str, path: &JsonPath, scope: Scope<'_>) -> PathTrace {
        let nodes = path.select(scope);
        let nodes = nodes.as_slice();
        let seen = match nodes {
            [] => vec![Seen::missing(path, scope, false)],
            nodes => nodes.iter().take(SEEN_MAX).map(|node| Seen::node(node, None)).collect(),
        };
        PathTrace { key, path: path.as_str().to_owned(), selected: nodes.len(), seen, part: None }
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
