//! Whether a condition can only hold where others hold: what shows that a rule is never reached.
//!
//! It is sound and not complete: a yes is certain for every payload, a no says only that no reason was found. It looks
//! at the conditions as they are written, and paths that select several nodes are the same only if they are spelled alike.

use std::cmp::Ordering;

use serde_json::Value;

use super::budget::Budget;
use super::condition::{Asks, Comparison, Condition, Operator, Test};
use super::text::{Ask, OneOf, TextTest};
use super::validate::Validation;
use super::value::{Kind, compare_numbers};

/// The work that one file's rules may cause, shared by all questions about them. When it is used up every answer is no.
#[derive(Debug)]
pub(super) struct Prover {
    budget: Budget,
}

/// Why a condition never holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contradiction {
    /// What is asked of one node excludes itself: in the condition of this index in an `all`, or in the only one.
    Within(Option<usize>),
    /// The condition of this index in an `all`, or the only one, holds others that exclude each other.
    Inside(Option<usize>),
    /// Two of an `all`, by index, exclude each other.
    Between(usize, usize),
}

impl Prover {
    pub(super) fn new() -> Prover {
        Prover { budget: Budget::new(STEPS_MAX) }
    }

    /// Whether no question is answered any more.
    pub(super) fn is_exhausted(&self) -> bool {
        self.budget.is_exhausted()
    }

    /// Whether it holds whatever the payload.
    pub(super) fn always(&self, condition: &Condition) -> bool {
        self.implies(&Condition::All(Vec::new()), condition) && !self.budget.is_exhausted()
    }

    /// The conditions among `earlier`, by index, of which one holds wherever `later` does; none if that can't be told.
    /// One that suffices by itself comes alone.
    pub(super) fn covered_by(&self, later: &Condition, earlier: &[&Condition]) -> Option<Vec<usize>> {
        if let Some(index) = earlier.iter().position(|earlier| self.implies(later, earlier)) {
            return self.sure(vec![index]);
        }
        // An `any` may be covered by several rules, each for a part of it.
        let Condition::Any(parts) = later else { return None };
        let mut indices = Vec::new();
        for part in parts {
            let index = earlier.iter().position(|earlier| self.implies(part, earlier))?;
            if !indices.contains(&index) {
                indices.push(index);
            }
        }
        indices.sort_unstable();
        self.sure(indices)
    }

    /// Whether no payload is known to fulfil both.
    pub(super) fn exclude(&self, one: &Condition, other: &Condition) -> bool {
        self.excludes(one, other) && !self.budget.is_exhausted()
    }

    /// Whether a validation refuses a value at its path.
    pub(super) fn refuses(&self, validation: &Validation, value: &Value) -> bool {
        validation.refuses(value, &self.budget) && !self.budget.is_exhausted()
    }

    /// What in a condition keeps it from ever holding.
    pub(super) fn contradiction(&self, condition: &Condition) -> Option<Contradiction> {
        let found = match condition {
            Condition::Test(test) => self.contradicts_itself(test).then_some(Contradiction::Within(None)),
            Condition::All(parts) => {
                let within =
                    parts.iter().enumerate().find_map(|(index, part)| match (part, self.contradiction(part)?) {
                        (Condition::Test(_), _) => Some(Contradiction::Within(Some(index))),
                        _ => Some(Contradiction::Inside(Some(index))),
                    });
                let pairs = (0..parts.len()).flat_map(|second| (0..second).map(move |first| (first, second)));
                let mut excluding = pairs.filter(|(first, second)| self.excludes(&parts[*first], &parts[*second]));
                within.or_else(|| {
                    let (first, second) = excluding.next()?;
                    Some(Contradiction::Between(first, second))
                })
            }
            Condition::Any(parts) => {
                parts.iter().all(|part| self.contradiction(part).is_some()).then_some(Contradiction::Inside(None))
            }
            Condition::Not(excluded) => self.always(excluded).then_some(Contradiction::Inside(None)),
        };
        self.sure(found?)
    }

    /// Whether no node passes all that a test asks of one.
    fn contradicts_itself(&self, test: &Test) -> bool {
        match &test.asks {
            Asks::Nodes(operators) => operators.iter().any(|operator| self.never_pass(operators, operator)),
            Asks::Absent => false,
        }
    }

    /// A part that the budget cut short may have said no where yes was right, and its opposite been believed.
    fn sure<T>(&self, answer: T) -> Option<T> {
        (!self.budget.is_exhausted()).then_some(answer)
    }

    /// Whether `consequence` holds wherever `condition` does.
    fn implies(&self, condition: &Condition, consequence: &Condition) -> bool {
        if !self.budget.spend(1) {
            return false;
        }
        match (condition, consequence) {
            (Condition::Any(parts), _) => parts.iter().all(|part| self.implies(part, consequence)),
            (_, Condition::All(parts)) => parts.iter().all(|part| self.implies(condition, part)),
            (Condition::Not(condition), Condition::Not(consequence)) => self.implies(consequence, condition),
            (_, Condition::Any(parts)) if parts.iter().any(|part| self.implies(condition, part)) => true,
            (Condition::All(parts), _) if parts.iter().any(|part| self.implies(part, consequence)) => true,
            (_, Condition::Any(parts)) if self.exhausts(parts) => true,
            (_, Condition::Not(excluded)) => self.excludes(condition, excluded),
            (_, Condition::Test(test)) if is_there(test) => true,
            (Condition::Test(condition), Condition::Test(consequence)) => self.test_implies(condition, consequence),
            (_, Condition::Test(test)) => self.each_operator(condition, test),
            _ => false,
        }
    }

    /// Whether one of the parts always holds, because of two one says no where the other says yes.
    fn exhausts(&self, parts: &[Condition]) -> bool {
        parts.iter().any(|part| match part {
            Condition::Not(excluded) => parts.iter().any(|other| self.implies(excluded, other)),
            Condition::Test(Test { path, asks: Asks::Absent, spot, .. }) => {
                let asks = Asks::Nodes(vec![Operator::Exists]);
                let exists = Condition::Test(Test { path: path.clone(), every: false, asks, spot: *spot });
                parts.iter().any(|other| self.implies(&exists, other))
            }
            _ => false,
        })
    }

    /// A test of one node that asks several things holds where the parts of an `all` see to each of them.
    fn each_operator(&self, condition: &Condition, test: &Test) -> bool {
        match &test.asks {
            Asks::Nodes(operators) if operators.len() > 1 && test.path.is_singular() => {
                operators.iter().all(|operator| {
                    let asks = Asks::Nodes(vec![operator.clone()]);
                    self.implies(
                        condition,
                        &Condition::Test(Test { path: test.path.clone(), every: test.every, asks, spot: test.spot }),
                    )
                })
            }
            _ => false,
        }
    }

    /// Whether no payload fulfils both.
    fn excludes(&self, one: &Condition, other: &Condition) -> bool {
        if !self.budget.spend(1) {
            return false;
        }
        match (one, other) {
            (Condition::Any(parts), other) | (other, Condition::Any(parts)) => {
                parts.iter().all(|part| self.excludes(part, other))
            }
            (Condition::Not(excluded), other) | (other, Condition::Not(excluded)) if self.implies(other, excluded) => {
                true
            }
            (Condition::All(parts), other) | (other, Condition::All(parts)) => {
                parts.iter().any(|part| self.excludes(part, other))
            }
            (Condition::Test(one), Condition::Test(other)) => self.test_excludes(one, other),
            _ => false,
        }
    }

    fn test_implies(&self, condition: &Test, consequence: &Test) -> bool {
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
        reaches && asked.iter().all(|asked| self.nodes_pass(has, asked))
    }

    /// Whether a node that passes all of `has` passes `asked`.
    fn nodes_pass(&self, has: &[Operator], asked: &Operator) -> bool {
        matches!(asked, Operator::Exists) || has.iter().any(|has| self.operator_implies(has, asked))
    }

    fn test_excludes(&self, one: &Test, other: &Test) -> bool {
        if !one.path.is_same(&other.path) {
            return false;
        }
        match (&one.asks, &other.asks) {
            (Asks::Absent, Asks::Nodes(_)) | (Asks::Nodes(_), Asks::Absent) => true,
            // Of several nodes one may pass the one and another the other.
            (Asks::Nodes(operators), Asks::Nodes(others)) if one.path.is_singular() => {
                operators.iter().any(|operator| self.never_pass(others, operator))
                    || others.iter().any(|operator| self.never_pass(operators, operator))
            }
            _ => false,
        }
    }

    /// Whether no node that passes `has` passes all of `others`.
    fn never_pass(&self, others: &[Operator], has: &Operator) -> bool {
        match has {
            Operator::Equals(values) | Operator::OneOf(values) => values.values.iter().all(|value| {
                let fails = |other: &Operator| self.value_fails(value, values.any_case, other);
                others.iter().any(fails)
            }),
            _ => others.iter().any(|other| operators_exclude(has, other)),
        }
    }

    /// Whether no node that equals `value` passes `asked`.
    fn value_fails(&self, value: &Value, any_case: bool, asked: &Operator) -> bool {
        let told_apart = match (value, asked) {
            // Equal numbers may have different texts, and a text that is read in any case has many spellings.
            (Value::Number(_), Operator::Text(_)) => false,
            (Value::String(_), Operator::Type(_)) => true,
            (Value::String(_), _) => !any_case,
            _ => true,
        };
        told_apart && !asked.holds(value, &self.budget) && !self.budget.is_exhausted()
    }

    fn operator_implies(&self, has: &Operator, asked: &Operator) -> bool {
        if !self.budget.spend(1) {
            return false;
        }
        match (has, asked) {
            (Operator::Equals(values) | Operator::OneOf(values), _) => {
                values.values.iter().all(|value| self.value_implies(value, values.any_case, asked))
            }
            (Operator::Type(kinds), Operator::Type(asked)) => kinds.iter().all(|kind| is_one_of(*kind, asked)),
            // Both read strings and numbers, and nothing else passes them.
            (Operator::Text(_) | Operator::Number(..), Operator::Type(asked)) => {
                is_one_of(Kind::String, asked) && is_one_of(Kind::Number, asked)
            }
            (Operator::Number(has, than), Operator::Number(asked, asked_than)) => {
                comparison_implies(*has, *asked, compare_numbers(than, asked_than))
            }
            (Operator::Text(has), Operator::Text(asked)) => self.text_implies(has, asked),
            _ => false,
        }
    }

    /// Whether a node that equals `value` passes `asked`.
    fn value_implies(&self, value: &Value, any_case: bool, asked: &Operator) -> bool {
        let Value::String(_) = value else {
            // Equal numbers may have different texts.
            return !matches!(asked, Operator::Text(_)) && asked.holds(value, &self.budget);
        };
        let folds_alike = match asked {
            Operator::Equals(OneOf { any_case, .. }) | Operator::OneOf(OneOf { any_case, .. }) => *any_case,
            // A pattern may switch its folding off within.
            Operator::Text(test) => test.any_case && test.ask != Ask::Matches,
            Operator::Type(_) | Operator::Exists => true,
            Operator::Number(..) => false,
        };
        (!any_case || folds_alike) && asked.holds(value, &self.budget)
    }

    fn text_implies(&self, has: &TextTest, asked: &TextTest) -> bool {
        if has.ask == Ask::Matches || asked.ask == Ask::Matches {
            let same = has.ask == asked.ask && has.any_case == asked.any_case;
            return same && has.words.iter().all(|word| asked.words.contains(word));
        }
        if has.any_case && !asked.any_case {
            return false;
        }
        let part = |word: &String| asked.holds(word, &self.budget);
        match (has.ask, asked.ask) {
            // All of the words are there: each that is asked has to be a part of one of them.
            (Ask::ContainsAll, Ask::ContainsAll) => asked.words.iter().all(|word| {
                let one = TextTest::new(Ask::Contains, vec![word.clone()], asked.any_case);
                one.is_ok_and(|one| has.words.iter().any(|has| one.holds(has, &self.budget)))
            }),
            (Ask::ContainsAll, Ask::Contains) => has.words.iter().any(part),
            // Whatever the operator, the word is there, and what is a part of it with it.
            (Ask::ContainsAll, _) => false,
            (_, Ask::Contains | Ask::ContainsAll) => has.words.iter().all(part),
            (has_ask, asked_ask) => has_ask == asked_ask && has.words.iter().all(part),
        }
    }
}

/// Whether a test asks for no more than that there is a payload.
fn is_there(test: &Test) -> bool {
    matches!(test.path.as_str(), "$" | "$$")
        && matches!(&test.asks, Asks::Nodes(operators) if operators.iter().all(|asked| matches!(asked, Operator::Exists)))
}

fn is_one_of(kind: Kind, asked: &[Kind]) -> bool {
    asked.contains(&kind) || kind == Kind::Integer && asked.contains(&Kind::Number)
}

/// Whether no node passes both, whatever its value.
fn operators_exclude(one: &Operator, other: &Operator) -> bool {
    let meet =
        |kind: Kind, kinds: &[Kind]| kinds.iter().any(|one| is_one_of(kind, &[*one]) || is_one_of(*one, &[kind]));
    match (one, other) {
        (Operator::Type(kinds), Operator::Type(others)) => !kinds.iter().any(|kind| meet(*kind, others)),
        // Both read strings and numbers.
        (Operator::Type(kinds), Operator::Text(_) | Operator::Number(..))
        | (Operator::Text(_) | Operator::Number(..), Operator::Type(kinds)) => {
            !meet(Kind::String, kinds) && !meet(Kind::Number, kinds)
        }
        (Operator::Number(one, bound), Operator::Number(other, other_bound)) => {
            bounds_exclude(*one, *other, compare_numbers(bound, other_bound))
        }
        _ => false,
    }
}

/// Whether no number is on the right side of both bounds, by how these compare.
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

/// Whether what passes `has` passes `asked`, by how their bounds compare.
fn comparison_implies(has: Comparison, asked: Comparison, bounds: Ordering) -> bool {
    use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
    match (has, asked) {
        (GreaterOrEqual, Greater) => bounds.is_gt(),
        (LessOrEqual, Less) => bounds.is_lt(),
        (Greater | GreaterOrEqual, Greater | GreaterOrEqual) => bounds.is_ge(),
        (Less | LessOrEqual, Less | LessOrEqual) => bounds.is_le(),
        _ => false,
    }
}

/// Some hundred milliseconds: two thousand rules that no value tells apart are compared each with each.
const STEPS_MAX: u64 = 4_000_000;
