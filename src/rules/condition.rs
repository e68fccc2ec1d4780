//! Conditions: what a rule's `when` asks of an element.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::budget::Budget;
use super::path::{JsonPath, Scope};
use super::text::{Ask, OneOf, TextTest};
use super::trace::{ConditionTrace, SEEN_MAX, Seen, Spot};
use super::value::{Kind, compare_numbers, kind_of, number_of, shown, text_of};

#[derive(Clone, Debug)]
pub(super) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Test(Test),
}

/// A path and what must hold, all of it for the same node.
#[derive(Clone, Debug)]
pub(super) struct Test {
    pub(super) spot: Spot,
    pub(super) path: JsonPath,
    pub(super) every: bool,
    pub(super) asks: Asks,
}

#[derive(Clone, Debug)]
pub(super) enum Asks {
    /// `exists: false`: the path selects nothing.
    Absent,
    /// Some node (or every) passes all of these. None: it is enough that it exists.
    Nodes(Vec<Operator>),
}

#[derive(Clone, Debug)]
pub(super) enum Operator {
    /// `exists: true`, which every node fulfils.
    Exists,
    Equals(OneOf),
    OneOf(OneOf),
    Type(Vec<Kind>),
    Text(TextTest),
    Number(Comparison, Number),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Condition {
    /// Returns true if it holds. With a trace every part is looked at; without, no more than is needed.
    pub(super) fn holds(&self, scope: Scope<'_>, trace: Option<&mut Vec<ConditionTrace>>) -> bool {
        match self {
            Condition::All(conditions) => combine("all", conditions, true, scope, trace),
            Condition::Any(conditions) => combine("any", conditions, false, scope, trace),
            Condition::Not(condition) => {
                let mut inner = trace.is_some().then(Vec::new);
                let holds = !condition.holds(scope, inner.as_mut());
                if let (Some(trace), Some(conditions)) = (trace, inner) {
                    trace.push(ConditionTrace::Combined { combine: "not", holds, conditions });
                }
                holds
            }
            Condition::Test(test) => test.holds(scope, trace),
        }
    }

    /// Every test that is made here, in their order.
    pub(super) fn tests(&self) -> Vec<&Test> {
        match self {
            Condition::All(conditions) | Condition::Any(conditions) => {
                conditions.iter().flat_map(Condition::tests).collect()
            }
            Condition::Not(condition) => condition.tests(),
            Condition::Test(test) => vec![test],
        }
    }
}

/// `all` begins with true and ends at the first false; `any` the other way round.
fn combine(
    word: &'static str,
    conditions: &[Condition],
    begin: bool,
    scope: Scope<'_>,
    trace: Option<&mut Vec<ConditionTrace>>,
) -> bool {
    let mut inner = trace.is_some().then(Vec::new);
    let mut holds = begin;
    for condition in conditions {
        if condition.holds(scope, inner.as_mut()) != begin {
            holds = !begin;
            if inner.is_none() {
                break;
            }
        }
    }
    if let (Some(trace), Some(conditions)) = (trace, inner) {
        trace.push(ConditionTrace::Combined { combine: word, holds, conditions });
    }
    holds
}

impl Test {
    pub(super) fn holds(&self, scope: Scope<'_>, trace: Option<&mut Vec<ConditionTrace>>) -> bool {
        let nodes = self.path.select(scope);
        let nodes = nodes.as_slice();
        let holds = match &self.asks {
            Asks::Absent => nodes.is_empty(),
            Asks::Nodes(operators) => {
                let passes = |node: &&Value| operators.iter().all(|operator| operator.holds(node, scope.budget));
                if self.every { !nodes.is_empty() && nodes.iter().all(passes) } else { nodes.iter().any(passes) }
            }
        };
        if let Some(trace) = trace {
            trace.push(ConditionTrace::Test {
                spot: self.spot,
                path: self.path.as_str().to_owned(),
                operators: self.describe(),
                every: self.every,
                selected: nodes.len(),
                seen: self.seen(nodes, scope),
                holds,
            });
        }
        holds
    }

    pub(super) fn describe(&self) -> Vec<String> {
        match &self.asks {
            Asks::Absent => vec!["exists false".into()],
            Asks::Nodes(operators) => operators.iter().map(Operator::describe).collect(),
        }
    }

    fn seen(&self, nodes: &[&Value], scope: Scope<'_>) -> Vec<Seen> {
        if nodes.is_empty() {
            return vec![Seen::missing(&self.path, scope, matches!(self.asks, Asks::Absent))];
        }
        let seen = |node: &Value| match &self.asks {
            Asks::Absent => Seen::node(node, Some("it exists".to_owned())),
            Asks::Nodes(operators) => {
                let failed = operators.iter().find(|operator| !operator.holds(node, scope.budget));
                let nearly = failed.and_then(|operator| operator.nearly(node, scope.budget));
                match nearly {
                    Some(hint) => Seen { nearly: true, ..Seen::node(node, Some(hint)) },
                    None => Seen::node(node, failed.map(|operator| operator.why_not(node))),
                }
            }
        };
        nodes.iter().take(SEEN_MAX).map(|node| seen(node)).collect()
    }
}

impl Operator {
    pub(super) fn holds(&self, node: &Value, budget: &Budget) -> bool {
        match self {
            Operator::Exists => true,
            Operator::Equals(values) | Operator::OneOf(values) => values.holds(node, budget),
            Operator::Type(kinds) => kinds.iter().any(|kind| kind.is(node)),
            Operator::Text(test) => text_of(node).is_some_and(|text| test.holds(&text, budget)),
            Operator::Number(comparison, than) => {
                number_of(node).is_some_and(|number| comparison.holds(compare_numbers(&number, than)))
            }
        }
    }

    /// Why a node does not pass, where it does not.
    fn why_not(&self, node: &Value) -> String {
        let kind = kind_of(node);
        match self {
            Operator::Text(test) if text_of(node).is_none() => {
                format!("{} reads strings and numbers, this is {kind}", test.ask.as_str())
            }
            Operator::Number(comparison, _) if number_of(node).is_none() => match node {
                Value::String(_) => format!("{} reads numbers, this text is none", comparison.as_str()),
                _ => format!("{} reads numbers, this is {kind}", comparison.as_str()),
            },
            Operator::Equals(values) | Operator::OneOf(values)
                if !values.values.iter().any(|value| kind_of(value) == kind) =>
            {
                format!("not {}: another type ({kind})", self.describe())
            }
            Operator::Type(_) => format!("it is {kind}"),
            _ => format!("not {}", self.describe()),
        }
    }

    /// The change that would make it hold, where a small one would.
    fn nearly(&self, node: &Value, budget: &Budget) -> Option<String> {
        let text = text_of(node)?;
        let holds = |text: &str, any_case: bool| match self {
            Operator::Equals(values) | Operator::OneOf(values) => {
                node.is_string() && OneOf::new(values.values.clone(), any_case).holds(&Value::from(text), budget)
            }
            Operator::Text(test) => {
                TextTest::new(test.ask, test.words.clone(), any_case).is_ok_and(|test| test.holds(text, budget))
            }
            _ => false,
        };
        if holds(&text, true) {
            return Some("only the case differs: `ignore_case: true` takes it".to_owned());
        }
        if text.trim() != text && holds(text.trim(), true) {
            return Some("only blanks around it differ: `matches: '^\\s*…\\s*$'` takes them".to_owned());
        }
        match self {
            Operator::Text(test) if test.ask == Ask::ContainsWord => {
                let part = TextTest::new(Ask::Contains, test.words.clone(), test.any_case).ok()?;
                part.holds(&text, budget).then(|| "only as a part of a longer word: `contains` takes it".to_owned())
            }
            _ => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Operator::Exists => "exists true".into(),
            Operator::Equals(values) => format!("equals {}{}", list(&values.values, false), case(values.any_case)),
            Operator::OneOf(values) => format!("one_of {}{}", list(&values.values, true), case(values.any_case)),
            Operator::Type(kinds) => {
                format!("type {}", kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" or "))
            }
            Operator::Text(test) => {
                let words = match test.words.as_slice() {
                    [word] => format!("'{word}'"),
                    words => format!("[{}]", words.join(", ")),
                };
                format!("{} {words}{}", test.ask.as_str(), case(test.any_case))
            }
            Operator::Number(comparison, than) => format!("{} {than}", comparison.as_str()),
        }
    }
}

impl Comparison {
    pub(super) const ALL: [Comparison; 4] =
        [Comparison::Greater, Comparison::GreaterOrEqual, Comparison::Less, Comparison::LessOrEqual];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Comparison::Greater => "gt",
            Comparison::GreaterOrEqual => "gte",
            Comparison::Less => "lt",
            Comparison::LessOrEqual => "lte",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
        }
    }
}

fn list(values: &[Value], brackets: bool) -> String {
    let values = values.iter().map(|value| match value {
        Value::String(text) => format!("'{text}'"),
        other => shown(other),
    });
    let values = values.collect::<Vec<_>>().join(", ");
    if brackets { format!("[{values}]") } else { values }
}

fn case(any: bool) -> &'static str {
    if any { ", any case" } else { "" }
}
