//! Compares two conditions as they are written: one that holds only where another does, and two that never hold together.
//!
//! A yes is certain for every payload; a no says only that nothing written shows it. Compared are equal conditions,
//! words and values of which one has only some of the other's, texts with words, and bounds.

use std::cmp::Ordering;

use serde_json::Value;

use super::budget::Budget;
use super::condition::{Asks, Comparison, Condition, Operator, Test};
use super::text::{Ask, OneOf, TextTest};
use super::value::{Kind, compare_numbers};

/// Tells whether `consequence` holds wherever `condition` does.
pub(super) fn implies(condition: &Condition, consequence: &Condition, budget: &Budget) -> bool {
    if !budget.spend(1) {
        return false;
    }
    match (condition, consequence) {
        (Condition::Any(parts), _) => parts.iter().all(|part| implies(part, consequence, budget)),
        (_, Condition::All(parts)) => parts.iter().all(|part| implies(condition, part, budget)),
        (_, Condition::Any(parts)) if parts.iter().any(|part| implies(condition, part, budget)) => true,
        (Condition::All(parts), _) => parts.iter().any(|part| implies(part, consequence, budget)),
        (Condition::Not(condition), Condition::Not(consequence)) => implies(consequence, condition, budget),
        (Condition::Test(condition), Condition::Test(consequence)) => test_implies(condition, consequence, budget),
        _ => false,
    }
}

/// Tells whether no payload fulfils both of two parts of an `all`.
pub(super) fn exclude(one: &Condition, other: &Condition, budget: &Budget) -> bool {
    match (one, other) {
        (Condition::Not(excluded), other) | (other, Condition::Not(excluded)) => implies(other, excluded, budget),
        // Of several nodes one may pass the one and another the other.
        (Condition::Test(one), Condition::Test(other)) if one.path.is_singular() && one.path.is_same(&other.path) => {
            match (&one.asks, &other.asks) {
                (Asks::Absent, Asks::Nodes(_)) | (Asks::Nodes(_), Asks::Absent) => true,
                (Asks::Nodes(one), Asks::Nodes(other)) => never_both(one, other, budget),
                (Asks::Absent, Asks::Absent) => false,
            }
        }
        _ => false,
    }
}

/// Tells whether no node passes all that a test asks of one.
pub(super) fn excludes_itself(test: &Test, budget: &Budget) -> bool {
    matches!(&test.asks, Asks::Nodes(operators) if never_both(operators, operators, budget))
}

fn test_implies(condition: &Test, consequence: &Test, budget: &Budget) -> bool {
    if !condition.path.is_same(&consequence.path) {
        return false;
    }
    let (has, asked) = match (&condition.asks, &consequence.asks) {
        (Asks::Absent, Asks::Absent) => return true,
        (Asks::Nodes(has), Asks::Nodes(asked)) => (has, asked),
        _ => return false,
    };
    // That one node passes says nothing of the others.
    let reaches = condition.every || !consequence.every || condition.path.is_singular();
    let passes = |asked: &Operator| has.iter().any(|has| operator_implies(has, asked, budget));
    reaches && asked.iter().all(|asked| matches!(asked, Operator::Exists) || passes(asked))
}

fn operator_implies(has: &Operator, asked: &Operator, budget: &Budget) -> bool {
    match (has, asked) {
        (Operator::Equals(has) | Operator::OneOf(has), Operator::Equals(asked) | Operator::OneOf(asked)) => {
            folds_alike(has, asked) && has.values.iter().all(|value| asked.holds(value, budget))
        }
        (Operator::Type(has), Operator::Type(asked)) => has.iter().all(|kind| asked.contains(kind)),
        (Operator::Equals(has) | Operator::OneOf(has), Operator::Text(asked)) => {
            // Equal numbers may have different texts, and a pattern may mind the case within.
            let folds_alike = !has.any_case || asked.any_case && asked.ask != Ask::Matches;
            let holds = |value: &Value| value.as_str().is_some_and(|text| asked.holds(text, budget));
            folds_alike && has.values.iter().all(holds)
        }
        (Operator::Number(has, than), Operator::Number(asked, asked_than)) => {
            bound_implies(*has, *asked, compare_numbers(than, asked_than))
        }
        (Operator::Text(has), Operator::Text(asked)) => text_implies(has, asked),
        _ => false,
    }
}

/// A text that equals one of `values` in any case has many spellings, of which another may know only one.
fn folds_alike(values: &OneOf, other: &OneOf) -> bool {
    !values.any_case || other.any_case
}

fn text_implies(has: &TextTest, asked: &TextTest) -> bool {
    // A pattern may say the opposite in any case, as `[^a]` does.
    let case = has.any_case == asked.any_case || asked.any_case && asked.ask != Ask::Matches;
    let (some, all) = if has.ask == Ask::ContainsAll { (asked, has) } else { (has, asked) };
    has.ask == asked.ask && case && some.words.iter().all(|word| all.words.contains(word))
}

/// Tells whether no node passes both all of `one` and all of `other`.
fn never_both(one: &[Operator], other: &[Operator], budget: &Budget) -> bool {
    let excluded = one.iter().any(|one| other.iter().any(|other| operators_exclude(one, other, budget)));
    // Without steps nothing is equal, which would look like an exclusion.
    excluded && !budget.is_exhausted()
}

fn operators_exclude(one: &Operator, other: &Operator, budget: &Budget) -> bool {
    match (one, other) {
        (Operator::Equals(one) | Operator::OneOf(one), Operator::Equals(other) | Operator::OneOf(other)) => {
            let apart = |one: &OneOf, other: &OneOf| {
                folds_alike(one, other) && !one.values.iter().any(|value| other.holds(value, budget))
            };
            apart(one, other) || apart(other, one)
        }
        (Operator::Type(kinds), Operator::Type(others)) => {
            let number = |kind: Kind| if kind == Kind::Integer { Kind::Number } else { kind };
            !kinds.iter().any(|kind| others.iter().any(|other| number(*kind) == number(*other)))
        }
        (Operator::Number(one, bound), Operator::Number(other, other_bound)) => {
            bounds_exclude(*one, *other, compare_numbers(bound, other_bound))
        }
        _ => false,
    }
}

/// Tells whether a number on the right side of the first bound is on that of the second, by how these compare.
fn bound_implies(has: Comparison, asked: Comparison, bounds: Ordering) -> bool {
    use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
    match (has, asked) {
        (GreaterOrEqual, Greater) => bounds.is_gt(),
        (LessOrEqual, Less) => bounds.is_lt(),
        (Greater | GreaterOrEqual, Greater | GreaterOrEqual) => bounds.is_ge(),
        (Less | LessOrEqual, Less | LessOrEqual) => bounds.is_le(),
        _ => false,
    }
}

/// Tells whether no number is on the right side of both bounds, by how these compare.
fn bounds_exclude(one: Comparison, other: Comparison, bounds: Ordering) -> bool {
    use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
    match (one, other) {
        (GreaterOrEqual, LessOrEqual) => bounds.is_gt(),
        (Greater | GreaterOrEqual, Less | LessOrEqual) => bounds.is_ge(),
        (LessOrEqual, GreaterOrEqual) => bounds.is_lt(),
        (Less | LessOrEqual, Greater | GreaterOrEqual) => bounds.is_le(),
        _ => false,
    }
}
