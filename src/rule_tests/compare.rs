//! What differs between what a test expects and what came of its payload.

use serde_json::{Map, Value};

use super::Difference;
use super::play::Played;
use super::read::{Expect, ExpectedError, ExpectedEvent};
use crate::event::Violation;
use crate::rules::{Decision, Element};

pub(super) fn differences(expect: &Expect, decision: &Decision, played: &[Played<'_>]) -> Vec<Difference> {
    let mut differences = Vec::new();
    let violations: Vec<&Violation> = decision
        .elements
        .iter()
        .filter_map(|element| match element {
            Element::Refused { violations, .. } => Some(violations),
            _ => None,
        })
        .flatten()
        .collect();
    if let Some(expected) = expect.verdict
        && expected != decision.verdict()
    {
        add(&mut differences, "verdict", expected, summary(decision, &violations));
    }
    if let Some(expected) = &expect.events {
        events(expected, decision, &violations, played, &mut differences);
    }
    if let Some(expected) = &expect.errors {
        errors(expected, &violations, &mut differences);
    }
    differences
}

fn events(
    expected: &[ExpectedEvent],
    decision: &Decision,
    violations: &[&Violation],
    played: &[Played<'_>],
    differences: &mut Vec<Difference>,
) {
    if expected.len() != played.len() {
        let found = match played.len() {
            0 => summary(decision, violations),
            count => {
                let told: Vec<String> =
                    played.iter().map(|event| format!("{} {}", event.draft.action, event.draft.incident_key)).collect();
                format!("{} ({})", plural(count), told.join(", "))
            }
        };
        // A verdict that differs has said why there are none.
        if !differences.iter().any(|difference| difference.at == "verdict") {
            add(differences, "events", plural(expected.len()), found);
        }
    }
    for (index, (expected, played)) in expected.iter().zip(played).enumerate() {
        event(&format!("events[{index}]"), expected, played, differences);
    }
}

fn event(at: &str, expected: &ExpectedEvent, played: &Played<'_>, differences: &mut Vec<Difference>) {
    let draft = played.draft;
    let mut same = |name: &str, expected: Option<&str>, found: &str| {
        if let Some(expected) = expected
            && expected != found
        {
            add(differences, &format!("{at}.{name}"), expected, found);
        }
    };
    same("action", expected.action.map(|action| action.as_str()), draft.action.as_str());
    same("rule", expected.rule.as_deref(), &draft.rule);
    same("incident_key", expected.incident_key.as_deref(), &draft.incident_key);
    if let Some(status) = expected.status
        && status != played.status
    {
        let why = played.why.as_ref().map_or_else(String::new, |why| format!(", {why}"));
        add(differences, &format!("{at}.status"), status, format!("{}{why}", played.status));
    }
    if let Some(outcome) = expected.outcome
        && Some(outcome) != played.outcome
    {
        let found = match played.outcome {
            Some(found) if played.misses.is_empty() => found.as_str().to_owned(),
            Some(found) => format!("{}: {}", found.as_str(), played.misses.join("; ")),
            None => "none, it is a duplicate and not sent".to_owned(),
        };
        add(differences, &format!("{at}.outcome"), outcome.as_str(), found);
    }
    if let Some(body) = &expected.body {
        values(&format!("{at}.body"), body, &draft.body.value(), Whole::Subset, differences);
    }
    if let Some(body) = &expected.body_exact {
        values(&format!("{at}.body"), body, &draft.body.value(), Whole::Exact, differences);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Whole {
    Exact,
    /// Members that are not named are not looked at.
    Subset,
}

fn values(at: &str, expected: &Value, found: &Value, whole: Whole, differences: &mut Vec<Difference>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => members(at, expected, found, whole, differences),
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                values(&format!("{at}[{index}]"), expected, found, whole, differences);
            }
        }
        // YAML and JSON write 1.0 and 1 for one number.
        (Value::Number(expected), Value::Number(found)) if expected.as_f64() == found.as_f64() => {}
        (expected, found) if expected == found => {}
        (expected, found) => add(differences, at, expected.to_string(), found.to_string()),
    }
}

fn members(
    at: &str,
    expected: &Map<String, Value>,
    found: &Map<String, Value>,
    whole: Whole,
    differences: &mut Vec<Difference>,
) {
    for (name, expected) in expected {
        let at = format!("{at}.{name}");
        match found.get(name) {
            Some(found) => values(&at, expected, found, whole, differences),
            None => add(differences, &at, expected.to_string(), "nothing"),
        }
    }
    for (name, found) in found {
        if whole == Whole::Exact && !expected.contains_key(name) {
            add(differences, &format!("{at}.{name}"), "nothing", found.to_string());
        }
    }
}

/// Every error that is named must be among the violations; an empty list asks that there are none.
fn errors(expected: &[ExpectedError], violations: &[&Violation], differences: &mut Vec<Difference>) {
    let found = || match violations {
        [] => "no error".to_owned(),
        violations => told(violations),
    };
    if expected.is_empty() && !violations.is_empty() {
        add(differences, "errors", "no error", found());
    }
    for (index, error) in expected.iter().enumerate() {
        let matches = |violation: &&&Violation| {
            violation.path == error.path
                && error.problem.as_ref().is_none_or(|problem| violation.problem.contains(problem))
        };
        if !violations.iter().any(|violation| matches(&violation)) {
            let problem = error.problem.as_ref().map_or_else(String::new, |problem| format!(" {problem}"));
            add(differences, &format!("errors[{index}]"), format!("{}{problem}", error.path), found());
        }
    }
}

fn summary(decision: &Decision, violations: &[&Violation]) -> String {
    match decision.verdict() {
        "refused" => format!("refused: {}", told(violations)),
        "ignored" => {
            let rules = decision.elements.iter().filter_map(|element| match element {
                Element::Ignored { rule } => Some(rule.as_deref().unwrap_or("otherwise")),
                _ => None,
            });
            format!("ignored by {}", rules.collect::<Vec<_>>().join(", "))
        }
        other => other.to_owned(),
    }
}

fn told(violations: &[&Violation]) -> String {
    let told = violations.iter().map(|violation| {
        let found = violation.found.as_ref().map_or_else(String::new, |found| format!(" (found: {found})"));
        format!("{} {}{found}", violation.path, violation.problem)
    });
    told.collect::<Vec<_>>().join("; ")
}

fn plural(count: usize) -> String {
    if count == 1 { "1 event".into() } else { format!("{count} events") }
}

fn add(differences: &mut Vec<Difference>, at: &str, expected: impl Into<String>, found: impl Into<String>) {
    differences.push(Difference { at: at.to_owned(), expected: expected.into(), found: found.into() });
}
