//! Compares what a test expects with what came of its payload.

use serde_json::{Map, Value};

use super::read::{ExpectedError, ExpectedEvent, Test};
use super::{Difference, Played};
use crate::event::Violation;
use crate::rules::{Decision, Element, RuleSet};
use crate::text::visible;
use crate::yaml::{self, Node, nearest};

pub(super) fn differences(test: &Test, rules: &RuleSet, decision: &Decision, played: &[Played<'_>]) -> Vec<Difference> {
    let expect = &test.expect;
    let at = At { path: String::new(), node: &test.expect_node };
    let mut comparing = Comparing { rules, decision, differences: Vec::new() };
    if let Some(expected) = expect.verdict
        && expected != decision.verdict()
    {
        comparing.add(&at.member("verdict"), expected, comparing.summary());
    }
    if let Some(expected) = &expect.events {
        comparing.events(&at.member("events"), expected, played);
    }
    if let Some(expected) = &expect.errors {
        comparing.errors(&at.member("errors"), expected);
    }
    comparing.differences
}

/// A place in what a test expects.
struct At<'a> {
    /// As a person writes it, `events[0].body.state`.
    path: String,
    /// The node there, or the nearest one around it that is written.
    node: &'a Node,
}

struct Comparing<'a> {
    rules: &'a RuleSet,
    decision: &'a Decision,
    differences: Vec<Difference>,
}

#[derive(Clone, Copy, PartialEq)]
enum Whole {
    Exact,
    /// Members that are not named are not looked at.
    Subset,
}

impl<'a> At<'a> {
    fn member(&self, name: &str) -> At<'a> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        At { path, node: self.node.get(name).unwrap_or(self.node) }
    }

    fn item(&self, index: usize) -> At<'a> {
        let node = match &self.node.value {
            yaml::Value::List(items) => items.get(index),
            _ => None,
        };
        At { path: format!("{}[{index}]", self.path), node: node.unwrap_or(self.node) }
    }
}

impl Comparing<'_> {
    fn events(&mut self, at: &At<'_>, expected: &[ExpectedEvent], played: &[Played<'_>]) {
        if expected.len() != played.len() {
            let found = match played.len() {
                0 => self.summary(),
                count => {
                    let told =
                        played.iter().map(|event| format!("{} {}", event.draft.action, event.draft.incident_key));
                    format!("{} ({})", plural(count), told.collect::<Vec<_>>().join(", "))
                }
            };
            // A verdict that differs has said why there are none.
            if !self.differences.iter().any(|difference| difference.at == "verdict") {
                self.add(at, plural(expected.len()), found);
            }
        }
        for (index, (expected, played)) in expected.iter().zip(played).enumerate() {
            self.event(&at.item(index), expected, played);
        }
    }

    fn event(&mut self, at: &At<'_>, expected: &ExpectedEvent, played: &Played<'_>) {
        let draft = played.draft;
        if let Some(action) = expected.action
            && action != draft.action
        {
            self.add(&at.member("action"), action.as_str(), draft.action.as_str());
        }
        if let Some(rule) = &expected.rule
            && **rule != *draft.rule
        {
            self.add(&at.member("rule"), rule.as_str(), format!("{}{}", draft.rule, self.unknown(rule)));
        }
        if let Some(key) = &expected.incident_key
            && *key != draft.incident_key
        {
            self.add(&at.member("incident_key"), key.as_str(), draft.incident_key.as_str());
        }
        if let Some(priority) = expected.priority
            && priority != draft.priority
        {
            self.add(&at.member("priority"), priority.as_str(), draft.priority.as_str());
        }
        if let Some(status) = expected.status
            && status != played.status
        {
            let why = played.why.as_ref().map_or_else(String::new, |why| format!(", {why}"));
            self.add(&at.member("status"), status, format!("{}{why}", played.status));
        }
        if let Some(outcome) = expected.outcome
            && Some(outcome) != played.outcome
        {
            let found = match played.outcome {
                Some(found) if played.misses.is_empty() => found.as_str().to_owned(),
                Some(found) => format!("{}: {}", found.as_str(), played.misses.join("; ")),
                None => "none, it is a duplicate and not sent".to_owned(),
            };
            self.add(&at.member("outcome"), outcome.as_str(), found);
        }
        let body = At { path: format!("{}.body", at.path), node: at.member("body").node };
        if let Some(expected) = &expected.body {
            self.values(&body, expected, &draft.body.value(), Whole::Subset);
        }
        if let Some(expected) = &expected.body_exact {
            let body = At { node: at.member("body_exact").node, ..body };
            self.values(&body, expected, &draft.body.value(), Whole::Exact);
        }
    }

    /// That the rule file has no rule of this name, where it has none.
    fn unknown(&self, rule: &str) -> String {
        if self.rules.names().any(|name| name == rule) {
            return String::new();
        }
        match nearest(rule, self.rules.names()) {
            Some(near) => format!("; no rule is named `{rule}`, did you mean `{near}`?"),
            None => format!("; no rule is named `{rule}`"),
        }
    }

    fn values(&mut self, at: &At<'_>, expected: &Value, found: &Value, whole: Whole) {
        match (expected, found) {
            (Value::Object(expected), Value::Object(found)) => self.members(at, expected, found, whole),
            (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
                for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                    self.values(&at.item(index), expected, found, whole);
                }
            }
            // YAML and JSON write 1.0 and 1 for one number.
            (Value::Number(expected), Value::Number(found)) if expected.as_f64() == found.as_f64() => {}
            (expected, found) if expected == found => {}
            (expected, found) => self.add(at, expected.to_string(), found.to_string()),
        }
    }

    fn members(&mut self, at: &At<'_>, expected: &Map<String, Value>, found: &Map<String, Value>, whole: Whole) {
        for (name, expected) in expected {
            let at = at.member(name);
            match found.get(name) {
                Some(found) => self.values(&at, expected, found, whole),
                None => self.add(&at, expected.to_string(), "nothing"),
            }
        }
        for (name, found) in found {
            if whole == Whole::Exact && !expected.contains_key(name) {
                self.add(&at.member(name), "nothing", found.to_string());
            }
        }
    }

    /// Every error that is named must be among the violations; an empty list asks that there are none.
    fn errors(&mut self, at: &At<'_>, expected: &[ExpectedError]) {
        let violations = self.violations();
        let found = match violations.as_slice() {
            [] => "no error".to_owned(),
            violations => told(violations),
        };
        if expected.is_empty() && !violations.is_empty() {
            self.add(at, "no error", found.as_str());
        }
        for (index, error) in expected.iter().enumerate() {
            let matches = |violation: &&&Violation| {
                violation.path == error.path
                    && error.problem.as_ref().is_none_or(|problem| violation.problem.contains(problem))
            };
            if !violations.iter().any(|violation| matches(&violation)) {
                let ExpectedError { path, problem } = error;
                let problem = problem.as_ref().map_or_else(String::new, |problem| format!(" {problem}"));
                self.add(&at.item(index), format!("{path}{problem}"), found.as_str());
            }
        }
    }

    fn summary(&self) -> String {
        match self.decision.verdict() {
            "refused" => format!("refused: {}", told(&self.violations())),
            "ignored" => {
                let rules = self.decision.elements.iter().filter_map(|element| match element {
                    Element::Ignored { rule } => Some(rule.as_deref().unwrap_or("otherwise")),
                    _ => None,
                });
                format!("ignored by {}", rules.collect::<Vec<_>>().join(", "))
            }
            other => other.to_owned(),
        }
    }
}

impl<'a> Comparing<'a> {
    fn violations(&self) -> Vec<&'a Violation> {
        let elements = self.decision.elements.iter();
        let refused = elements.filter_map(|element| match element {
            Element::Refused { violations, .. } => Some(violations),
            _ => None,
        });
        refused.flatten().collect()
    }

    fn add(&mut self, at: &At<'_>, expected: impl Into<String>, found: impl Into<String>) {
        let line = at.node.place.line_column().map_or(0, |(line, _)| line);
        let (expected, found) = (expected.into(), found.into());
        self.differences.push(Difference { at: at.path.clone(), line, expected, found });
    }
}

fn told(violations: &[&Violation]) -> String {
    let told = violations.iter().map(|violation| {
        let found = violation.found.as_deref();
        let found = found.map_or_else(String::new, |found| format!(" (found: {})", visible(found)));
        format!("{} {}{found}", violation.path, violation.problem)
    });
    told.collect::<Vec<_>>().join("; ")
}

fn plural(count: usize) -> String {
    if count == 1 { "1 event".into() } else { format!("{count} events") }
}
