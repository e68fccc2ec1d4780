//! No rule matched: the reasons, of which first what would have decided; and the rule that lacked least.

use std::collections::HashMap;

use super::RuleSet;
use super::budget::Budget;
use super::condition::{Condition, Test};
use super::path::{JsonPath, Scope};
use super::trace::{ConditionTrace, Nearest};
use super::value::shown;
use crate::event::Violation;

/// The reasons: each names a value that the rules looked at. First come those that no test knows, such as a new state word:
/// of them the values on which an event fails alone, then what is there before what is missing, which may be there at
/// will. `ordering` is for that order only: where it ends, the reasons are as true in the order of the rules.
pub(super) fn reasons(rules: &RuleSet, scope: Scope<'_>, ordering: &Budget) -> Vec<Violation> {
    let mut read: Vec<&JsonPath> = rules.rules.iter().flat_map(|rule| &rule.reads).take(PATHS_MAX).collect();
    let ordered = Scope { budget: ordering, ..scope };
    if let Some(ranks) = ranks(rules, ordered) {
        read.sort_by_cached_key(|path| {
            let Rank { known, tests } = ranks.get(path.as_str()).copied().unwrap_or(Rank::NONE);
            (known, tests, path.first(ordered).is_none())
        });
    }
    let reasons: Vec<Violation> = read.into_iter().take(REASONS_MAX).map(|path| reason(path, scope)).collect();
    if reasons.is_empty() {
        let problem = "no rule matches this payload".to_owned();
        return vec![Violation { path: "$".to_owned(), problem, found: None }];
    }
    reasons
}

/// The first of the rules that lack least, where none matched: the fewest tests would have to come out otherwise, and of
/// those the seen values are nearest.
pub(super) fn nearest(rules: &RuleSet, scope: Scope<'_>) -> Option<Nearest> {
    let lacking = rules.rules.iter().filter_map(|rule| {
        let mut lacks = Vec::new();
        for test in failing(rule.when.as_ref()?, true, scope) {
            test.holds(scope, Some(&mut lacks));
        }
        Some((rule, lacks))
    });
    let (rule, lacks) = lacking.min_by_key(|(_, lacks)| (lacks.len(), lacks.iter().map(distance).sum::<u32>()))?;
    Some(Nearest { spot: rule.spot, rule: rule.name.to_string(), lacks })
}

/// The distance of the seen value from the one that a test asks for: it would nearly do, is another, or none.
fn distance(test: &ConditionTrace) -> u32 {
    match test {
        ConditionTrace::Test { seen, .. } if seen.iter().any(|seen| seen.nearly) => 0,
        ConditionTrace::Test { seen, .. } if seen.iter().all(|seen| seen.kind == "missing") => 2,
        _ => 1,
    }
}

fn reason(path: &JsonPath, scope: Scope<'_>) -> Violation {
    let found = path.first(scope);
    let problem = if found.is_some() { "no rule matches this" } else { "no rule matches, and this is missing" };
    Violation { path: path.as_str().to_owned(), problem: problem.to_owned(), found: found.map(shown) }
}

/// The place of a path among the reasons: the lowest comes first.
#[derive(Clone, Copy)]
struct Rank {
    /// Some test holds there.
    known: bool,
    /// The fewest tests that would have to come out otherwise for a rule to match that failed there.
    tests: usize,
}

impl Rank {
    /// No test holds there and no rule failed.
    const NONE: Rank = Rank { known: false, tests: usize::MAX };
}

/// The rank of each path that a test reads, by its text; none where the budget does not suffice for all of them.
fn ranks<'r>(rules: &'r RuleSet, scope: Scope<'_>) -> Option<HashMap<&'r str, Rank>> {
    // Each element of a batch asks: once nothing is left, nothing is done for the rest.
    if scope.budget.is_exhausted() {
        return None;
    }
    let mut ranks: HashMap<&str, Rank> = HashMap::new();
    let pay = |path: &JsonPath| scope.budget.spend_bytes(path.as_str().len() as u64);
    for path in known(rules, scope).into_iter().take_while(|path| pay(path)) {
        ranks.entry(path.as_str()).or_insert(Rank::NONE).known = true;
    }
    for Failed { path, tests } in failed(rules, scope).into_iter().take_while(|failed| pay(failed.path)) {
        let rank = ranks.entry(path.as_str()).or_insert(Rank::NONE);
        rank.tests = rank.tests.min(tests);
    }
    (!scope.budget.is_exhausted()).then_some(ranks)
}

/// The paths at which some test holds.
fn known<'r>(rules: &'r RuleSet, scope: Scope<'_>) -> Vec<&'r JsonPath> {
    let conditions = rules.rules.iter().take(RULES_MAX).filter_map(|rule| rule.when.as_ref());
    let tests = conditions.flat_map(Condition::tests);
    tests.filter(|test| test.holds(scope, None)).map(|test| &test.path).collect()
}

/// A path at which a rule failed.
struct Failed<'r> {
    path: &'r JsonPath,
    /// The tests that would have to come out otherwise for the rule to match, this one among them.
    tests: usize,
}

/// The paths at which rules failed that make events. The others, for tests and notes, often read what else may be there.
fn failed<'r>(rules: &'r RuleSet, scope: Scope<'_>) -> Vec<Failed<'r>> {
    let rules = rules.rules.iter().filter(|rule| rule.then.makes_events()).take(RULES_MAX);
    let conditions = rules.filter_map(|rule| rule.when.as_ref());
    conditions
        .flat_map(|when| {
            let tests = failing(when, true, scope);
            let count = tests.len();
            tests.into_iter().map(move |test| Failed { path: &test.path, tests: count })
        })
        .collect()
}

/// The fewest tests that would have to come out otherwise for the condition to come out as wanted.
fn failing<'c>(condition: &'c Condition, wanted: bool, scope: Scope<'_>) -> Vec<&'c Test> {
    let (parts, needs_all) = match condition {
        Condition::Test(test) if test.holds(scope, None) == wanted => return Vec::new(),
        Condition::Test(test) => return vec![test],
        Condition::Not(inner) => return failing(inner, !wanted, scope),
        // `all` comes true by each of its parts and false by one of them, `any` the other way round.
        Condition::All(parts) => (parts, wanted),
        Condition::Any(parts) => (parts, !wanted),
    };
    let each = parts.iter().map(|part| failing(part, wanted, scope));
    if needs_all { each.flatten().collect() } else { each.min_by_key(Vec::len).unwrap_or_default() }
}

/// A refusal names the values that matter, not all.
const REASONS_MAX: usize = 5;
/// A file may have thousands of rules; its first ones show what it is about.
const PATHS_MAX: usize = 50;
const RULES_MAX: usize = 50;
