//! Rules that no payload reaches, because an earlier one always matches first, and rules that nothing can match.

use super::super::Rule;
use super::super::condition::Condition;
use super::super::constraints::Fixed;
use super::super::implies::{Contradiction, Prover};
use super::super::validate::Validation;
use super::Kept;
use super::earlier::Earlier;
use crate::yaml::{Findings, Node, Place, Value};

/// Warns of each rule that can never match. `kept` says where each of the `rules` stands.
pub(super) fn unreached(rules: &[Rule], kept: &[Kept<'_>], validations: &[Validation], findings: &mut Findings) {
    let prover = Prover::new();
    let valid: Vec<(&Validation, Condition)> =
        validations.iter().filter_map(|validation| Some((validation, validation.condition()?))).collect();
    let always = Condition::All(Vec::new());
    let mut earlier = Earlier::default();
    for (rule, kept) in rules.iter().zip(kept) {
        if prover.is_exhausted() {
            return;
        }
        if !kept.readable {
            continue;
        }
        let when = rule.when.as_ref().unwrap_or(&always);
        let (candidates, conditions) = earlier.candidates(when);
        let when_place = kept.node.get("when").map(|node| node.place.clone());
        let name_place = || kept.node.get("name").map_or(&kept.node.place, |name| &name.place).clone();
        if let Some(contradiction) = prover.contradiction(when) {
            let (part, message, help) = match contradiction {
                Contradiction::Between(first, second) => (
                    Some(second),
                    "this rule never matches: no payload fulfils this and what stands above it",
                    excluding(kept.node, first, second),
                ),
                Contradiction::Inside(part) => (
                    part,
                    "this rule never matches: no payload fulfils what is asked here",
                    "what stands in it excludes itself; `any` takes alternatives".to_owned(),
                ),
                Contradiction::Within(part) => (
                    part,
                    "this rule never matches: no value fulfils all that is asked here",
                    "all of it must hold for one and the same value; `any` takes alternatives".to_owned(),
                ),
            };
            findings.warning(part_of(kept.node, part), kept.path.as_str(), message).code("unreachable-rule").help(help);
        } else if let Some(validation) = forbidding(&prover, when, validations, &valid) {
            let (path, line) = (validation.path.as_str(), validation.spot.line);
            findings
                .warning(
                    when_place.unwrap_or_else(name_place),
                    kept.path.as_str(),
                    "this rule never matches: `validate` refuses what it asks for",
                )
                .code("unreachable-rule")
                .help(format!("line {line}: `{path}` is {}", validation.describe().join(", ")));
        } else if let Some(covering) = prover.covered_by(when, &conditions) {
            let first = conditions[covering[0]];
            let covering: Vec<(&Rule, &Kept<'_>)> = covering.iter().map(|index| candidates[*index]).collect();
            let names: Vec<String> = covering.iter().map(|(rule, kept)| named(rule, kept)).collect();
            let names = names.join(" or ");
            let rule_name = &covering[0].0.name;
            match covering.len() == 1 && prover.always(first) {
                true => findings
                    .warning(
                        name_place(),
                        kept.path.as_str(),
                        format!("this rule is never reached: {names} matches always"),
                    )
                    .code("unreachable-rule")
                    .help(format!("put it before `{rule_name}`, or give that rule a narrower `when`")),
                false => findings
                    .warning(
                        when_place.unwrap_or_else(name_place),
                        kept.path.as_str(),
                        format!("this rule is never reached: whatever it matches, {names} matches first"),
                    )
                    .code("unreachable-rule")
                    .help(format!("put it before `{rule_name}`, or remove it")),
            };
        }
        earlier.add(rule, kept, when);
    }
}

/// The validation that refuses whatever fulfils a condition.
fn forbidding<'v>(
    prover: &Prover,
    when: &Condition,
    validations: &'v [Validation],
    valid: &[(&'v Validation, Condition)],
) -> Option<&'v Validation> {
    let excluded =
        valid.iter().find(|(_, condition)| prover.exclude(when, condition)).map(|(validation, _)| *validation);
    excluded.or_else(|| {
        let fixed = Fixed::by(Some(when));
        validations.iter().find(|validation| {
            let values = fixed.values(&validation.path).filter(|values| !values.is_empty());
            values.is_some_and(|values| values.iter().all(|value| prover.refuses(validation, value)))
        })
    })
}

fn named(rule: &Rule, kept: &Kept<'_>) -> String {
    let line = kept.node.get("name").and_then(|name| name.place.line_column());
    let line = line.map_or_else(String::new, |(line, _)| format!(" in line {line}"));
    format!("`{}`{line}", rule.name)
}

/// Which two parts of a rule's `all` exclude each other, by their indices.
fn excluding(rule: &Node, first: usize, second: usize) -> String {
    let line = part_of(rule, Some(first)).line_column();
    let line = line.map_or_else(String::new, |(line, _)| format!(" in line {line}"));
    format!("of `all`, number {}{line} and number {} exclude each other", first + 1, second + 1)
}

/// The condition in a rule's `all` that has this index; without one the whole `when`.
fn part_of(rule: &Node, index: Option<usize>) -> Place {
    let when = rule.get("when").unwrap_or(rule);
    let part = match (when.get("all").map(|all| &all.value), index) {
        (Some(Value::List(parts)), Some(index)) => parts.get(index),
        _ => None,
    };
    part.unwrap_or(when).place.clone()
}
