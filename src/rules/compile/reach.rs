//! Warns of rules that no payload reaches: an earlier rule always matches first, or the parts of an `all` exclude each other.

use super::super::Rule;
use super::super::budget::Budget;
use super::super::condition::Condition;
use super::super::implies::{exclude, excludes_itself, implies};
use super::Kept;
use crate::yaml::{Findings, Node, Place, Value};

/// Warns of each rule that can never match. `kept` has the place of each of the `rules`.
pub(super) fn unreached(rules: &[Rule], kept: &[Kept<'_>], findings: &mut Findings) {
    let budget = Budget::new(STEPS_MAX);
    let rules: Vec<(&Rule, &Kept<'_>)> = rules.iter().zip(kept).filter(|(_, kept)| kept.readable).collect();
    for (index, (rule, kept)) in rules.iter().enumerate() {
        let contradiction = rule.when.as_ref().and_then(|when| contradiction(when, kept.node, &budget));
        let (place, message, help) = match contradiction {
            Some(contradiction) => contradiction,
            None => match rules[..index].iter().find(|(earlier, _)| covers(earlier, rule, &budget)) {
                Some((earlier, at)) => covered(earlier, at, kept),
                None => continue,
            },
        };
        findings.warning(place, kept.path.as_str(), message).code("unreachable-rule").help(help);
    }
}

/// Tells whether an earlier rule matches whatever a later one does.
fn covers(earlier: &Rule, later: &Rule, budget: &Budget) -> bool {
    match (&earlier.when, &later.when) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => implies(later, earlier, budget),
    }
}

/// The place, the message and the help for a rule that an earlier one forestalls.
fn covered(earlier: &Rule, at: &Kept<'_>, rule: &Kept<'_>) -> (Place, String, String) {
    let name = |kept: &Kept<'_>| kept.node.get("name").map_or(&kept.node.place, |name| &name.place).clone();
    let line = name(at).line_column().map_or_else(String::new, |(line, _)| format!(" in line {line}"));
    let first = format!("`{}`{line}", earlier.name);
    match (&earlier.when, rule.node.get("when")) {
        (Some(_), Some(when)) => (
            when.place.clone(),
            format!("this rule is never reached: whatever it matches, {first} matches first"),
            format!("put it before `{}`, or remove it", earlier.name),
        ),
        _ => (
            name(rule),
            format!("this rule is never reached: {first} matches always"),
            format!("put it before `{}`, or give that rule a narrower `when`", earlier.name),
        ),
    }
}

/// The place, the message and the help for a condition that no payload fulfils.
fn contradiction(when: &Condition, rule: &Node, budget: &Budget) -> Option<(Place, String, String)> {
    let node = rule.get("when").unwrap_or(rule);
    let parts = match when {
        Condition::All(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    let nodes = match node.get("all").map(|all| &all.value) {
        Some(Value::List(nodes)) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    for (second, (part, node)) in parts.iter().zip(nodes).enumerate() {
        if matches!(part, Condition::Test(test) if excludes_itself(test, budget)) {
            return Some((
                node.place.clone(),
                "this rule never matches: no value fulfils all that is asked here".to_owned(),
                "all of it must hold for one and the same value; `any` takes alternatives".to_owned(),
            ));
        }
        if let Some(first) = parts[..second].iter().position(|first| exclude(first, part, budget)) {
            let line = nodes[first].place.line_column();
            let line = line.map_or_else(String::new, |(line, _)| format!(" in line {line}"));
            return Some((
                node.place.clone(),
                "this rule never matches: no payload fulfils this and what stands above it".to_owned(),
                format!("of `all`, number {}{line} and number {} exclude each other", first + 1, second + 1),
            ));
        }
    }
    None
}

/// Some hundred milliseconds. Of more than some two thousand rules the later ones are not compared.
const STEPS_MAX: u64 = 4_000_000;
