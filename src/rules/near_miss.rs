//! Where no rule matched: the rule that lacked least, and what it lacked.

use super::trace::{ConditionTrace, Nearest, RuleTrace};

/// The first of the nearest rules; none where a rule matched or none was asked.
pub(super) fn nearest(rules: &[RuleTrace]) -> Option<Nearest> {
    if rules.iter().any(|rule| rule.verdict != "not matched") {
        return None;
    }
    let lacking = rules.iter().filter_map(|rule| Some((rule, lacks(rule.when.as_ref()?, true))));
    let (rule, lacks) = lacking.min_by_key(|(_, lacks)| cost(lacks))?;
    Some(Nearest { spot: rule.spot, rule: rule.name.clone(), lacks: lacks.into_iter().cloned().collect() })
}

fn cost(lacks: &[&ConditionTrace]) -> (usize, u32) {
    (lacks.len(), lacks.iter().map(|test| distance(test)).sum())
}

/// The distance of the seen value from the one that a test asks for: it would nearly do, is another, or none.
fn distance(test: &ConditionTrace) -> u32 {
    match test {
        ConditionTrace::Test { seen, .. } if seen.iter().any(|seen| seen.nearly) => 0,
        ConditionTrace::Test { seen, .. } if seen.iter().all(|seen| seen.kind == "missing") => 2,
        _ => 1,
    }
}

/// The fewest tests that would have to come out otherwise for the condition to come out as wanted.
fn lacks(condition: &ConditionTrace, wanted: bool) -> Vec<&ConditionTrace> {
    if condition.holds() == wanted {
        return Vec::new();
    }
    match condition {
        ConditionTrace::Test { .. } => vec![condition],
        ConditionTrace::Combined { combine, conditions, .. } => {
            // `not` wants the opposite of the one that it holds; `any` wants one and `all` every, `any` failed every.
            let wanted = if *combine == "not" { !wanted } else { wanted };
            let each = conditions.iter().map(|condition| lacks(condition, wanted));
            match (*combine == "any", wanted) {
                (true, true) | (false, false) => each.min_by_key(|lacks| cost(lacks)).unwrap_or_default(),
                (true, false) | (false, true) => each.flatten().collect(),
            }
        }
    }
}
