//! Which rules an element can match at all, found by a look-up: a file of a thousand rules costs little more than
//! one of ten.
//!
//! A rule whose `when` can only hold where a path selects one of some values is filed under these values. The
//! candidates for an element are the rules that are filed under what it has there, and the rules that are not filed,
//! in the order of the file. Nothing is decided here: a rule that is left out could not hold, and a candidate is
//! judged as it would be without the index.

use std::collections::HashMap;

use serde_json::Value;

use super::Rule;
use super::casefold::folded;
use super::condition::{Asks, Condition, Operator, Test};
use super::path::{JsonPath, Scope};
use super::text::OneOf;
use super::value::{Exact, exact};

/// The rules of a file by what they need.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The rules that are judged whatever the element holds.
    always: Vec<usize>,
    filed: Vec<Filed>,
}

/// The rules that need one of some values at one path; each list in the order of the file.
#[derive(Debug)]
struct Filed {
    path: JsonPath,
    scalars: HashMap<Scalar, Vec<usize>>,
    texts: HashMap<String, Vec<usize>>,
    /// By [`folded`] texts, for `ignore_case`.
    folded: HashMap<String, Vec<usize>>,
    /// What the longest folded text has: a longer one needs no folding to be in none of the lists.
    folded_characters_max: usize,
}

/// The candidates for one element, by their place among the rules.
pub(super) struct Candidates<'i> {
    lists: [&'i [usize]; LISTS_MAX],
    used: usize,
}

/// A value that a path must select.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Scalar(Scalar),
    Text(String),
    Folded(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scalar {
    Null,
    Boolean(bool),
    Number(Exact),
}

/// A path, and the values of which it must select one.
struct Need<'r> {
    path: &'r JsonPath,
    keys: Vec<Key>,
}

/// How many rules need one value at one path: the fewer, the more a look-up leaves out.
type Shares<'r> = HashMap<(&'r str, Key), usize>;

impl Index {
    /// Files the rules. `reading_is_checked` says that a rule is judged for what it reads, even if it can't hold.
    pub(super) fn of(rules: &[Rule], reading_is_checked: bool) -> Index {
        let mut shares = Shares::new();
        for when in rules.iter().filter_map(|rule| rule.when.as_ref()) {
            count(when, &mut shares);
        }
        let needs: Vec<Option<Vec<Need<'_>>>> = rules
            .iter()
            .map(|rule| {
                let is_checked = reading_is_checked && !rule.reads.is_empty();
                let when = rule.when.as_ref().filter(|_| !is_checked)?;
                needed(when, &shares).map(|(_, needs)| needs)
            })
            .collect();
        let mut filed: Vec<Filed> = chosen_paths(&needs).into_iter().map(Filed::at).collect();
        let mut always = Vec::new();
        for (rule, needs) in needs.into_iter().enumerate() {
            let places: Option<Vec<(usize, Need<'_>)>> = needs.and_then(|needs| {
                let place = |need: &Need<'_>| filed.iter().position(|filed| filed.path.as_str() == need.path.as_str());
                needs.into_iter().map(|need| Some((place(&need)?, need))).collect()
            });
            match places {
                Some(places) => places.into_iter().for_each(|(place, need)| filed[place].add(rule, need.keys)),
                None => always.push(rule),
            }
        }
        Index { always, filed }
    }

    /// One that leaves no rule out, to compare with.
    #[cfg(test)]
    pub(super) fn plain(rules: usize) -> Index {
        Index { always: (0..rules).collect(), filed: Vec::new() }
    }

    /// The rules that may hold, in the order of the file. Where the budget ends, some are missing.
    pub(super) fn candidates<'i>(&'i self, scope: Scope<'_>) -> Candidates<'i> {
        let mut candidates = Candidates { lists: [&[]; LISTS_MAX], used: 0 };
        candidates.add(&self.always);
        for filed in &self.filed {
            if let Some(node) = filed.path.first(scope) {
                filed.look_up(node, scope, &mut candidates);
            }
        }
        candidates
    }
}

impl Filed {
    fn at(path: &JsonPath) -> Filed {
        Filed {
            path: path.clone(),
            scalars: HashMap::new(),
            texts: HashMap::new(),
            folded: HashMap::new(),
            folded_characters_max: 0,
        }
    }

    fn add(&mut self, rule: usize, keys: Vec<Key>) {
        for key in keys {
            let list = match key {
                Key::Scalar(scalar) => self.scalars.entry(scalar).or_default(),
                Key::Text(text) => self.texts.entry(text).or_default(),
                Key::Folded(text) => {
                    self.folded_characters_max = self.folded_characters_max.max(text.chars().count());
                    self.folded.entry(text).or_default()
                }
            };
            // Rules come in their order, and one may name a value twice.
            if list.last() != Some(&rule) {
                list.push(rule);
            }
        }
    }

    fn look_up<'i>(&'i self, node: &Value, scope: Scope<'_>, candidates: &mut Candidates<'i>) {
        match node {
            Value::String(text) => {
                scope.budget.spend_bytes(text.len() as u64);
                candidates.add(self.texts.get(text.as_str()).map_or(&[], Vec::as_slice));
                // A character takes four bytes at most.
                if text.len() <= 4 * self.folded_characters_max {
                    candidates.add(self.folded.get(&folded(text)).map_or(&[], Vec::as_slice));
                }
            }
            other => {
                let list = Scalar::of(other).and_then(|scalar| self.scalars.get(&scalar));
                candidates.add(list.map_or(&[], Vec::as_slice));
            }
        }
    }
}

impl<'i> Candidates<'i> {
    fn add(&mut self, list: &'i [usize]) {
        if !list.is_empty() {
            self.lists[self.used] = list;
            self.used += 1;
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let lists = &mut self.lists[..self.used];
        let next = *lists.iter().filter_map(|list| list.first()).min()?;
        for list in lists {
            if list.first() == Some(&next) {
                *list = &list[1..];
            }
        }
        Some(next)
    }
}

impl Scalar {
    fn of(value: &Value) -> Option<Scalar> {
        match value {
            Value::Null => Some(Scalar::Null),
            Value::Bool(value) => Some(Scalar::Boolean(*value)),
            Value::Number(number) => Some(Scalar::Number(exact(number))),
            Value::String(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// Counts what the parts of a condition need.
fn count<'r>(condition: &'r Condition, shares: &mut Shares<'r>) {
    match condition {
        Condition::All(conditions) | Condition::Any(conditions) => {
            conditions.iter().for_each(|condition| count(condition, shares));
        }
        Condition::Not(_) => {}
        Condition::Test(test) => {
            if let Some(need) = need_of(test) {
                for key in need.keys {
                    *shares.entry((need.path.as_str(), key)).or_default() += 1;
                }
            }
        }
    }
}

/// What must be there for a condition to hold, one need of several, and how many rules share these values; none if
/// nothing is known to be needed. Of `all`, what the fewest rules share.
fn needed<'r>(condition: &'r Condition, shares: &Shares<'r>) -> Option<(usize, Vec<Need<'r>>)> {
    match condition {
        Condition::All(conditions) => {
            conditions.iter().filter_map(|condition| needed(condition, shares)).min_by_key(|(shared, _)| *shared)
        }
        Condition::Any(conditions) => {
            let all: Vec<(usize, Vec<Need<'r>>)> =
                conditions.iter().map(|condition| needed(condition, shares)).collect::<Option<_>>()?;
            let shared = all.iter().map(|(shared, _)| shared).sum();
            Some((shared, all.into_iter().flat_map(|(_, needs)| needs).collect()))
        }
        Condition::Not(_) => None,
        Condition::Test(test) => {
            let need = need_of(test)?;
            let share = |key: &Key| shares.get(&(need.path.as_str(), key.clone())).copied().unwrap_or_default();
            Some((need.keys.iter().map(share).sum(), vec![need]))
        }
    }
}

/// What a test needs: its path selects one node at most, which must equal one of some values that are no lists and no
/// objects.
fn need_of(test: &Test) -> Option<Need<'_>> {
    let Asks::Nodes(operators) = &test.asks else {
        return None;
    };
    if !test.path.is_singular() {
        return None;
    }
    operators.iter().find_map(|operator| match operator {
        Operator::Equals(values) | Operator::OneOf(values) => {
            let keys = values.values.iter().map(|value| key_of(value, values)).collect::<Option<_>>()?;
            Some(Need { path: &test.path, keys })
        }
        _ => None,
    })
}

fn key_of(value: &Value, among: &OneOf) -> Option<Key> {
    match value {
        Value::String(text) if among.any_case => Some(Key::Folded(folded(text))),
        Value::String(text) => Some(Key::Text(text.clone())),
        other => Scalar::of(other).map(Key::Scalar),
    }
}

/// The paths by which most rules can be filed. One that serves few costs each element more than it spares.
fn chosen_paths<'r>(needs: &[Option<Vec<Need<'r>>>]) -> Vec<&'r JsonPath> {
    let mut served: HashMap<&str, (usize, &JsonPath)> = HashMap::new();
    for need in needs.iter().flatten().flatten() {
        served.entry(need.path.as_str()).or_insert((0, need.path)).0 += 1;
    }
    let mut paths: Vec<(usize, &JsonPath)> = served.into_values().filter(|(rules, _)| *rules >= RULES_MIN).collect();
    // By their text where they serve alike, so that a file is always indexed in one way.
    paths.sort_by(|(left, one), (right, other)| right.cmp(left).then_with(|| one.as_str().cmp(other.as_str())));
    paths.truncate(PATHS_MAX);
    paths.into_iter().map(|(_, path)| path).collect()
}

/// How many paths are looked at before a rule is. A file for one sender asks for two or three things.
const PATHS_MAX: usize = 8;
/// The rules that are always judged, and for each path those under a text and under a text in any case.
const LISTS_MAX: usize = 1 + 2 * PATHS_MAX;
/// A look-up costs as much as judging some rules.
const RULES_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::rules::RuleSet;
    use crate::rules::budget::Budget;
    use crate::yaml::{Findings, Source};

    /// How many of a thousand rules are candidates for an element that matches the last but one.
    fn candidates(when: &str) -> usize {
        let rules: String = (0..1_000)
            .map(|rule| {
                format!("  - {{ name: r{rule}, when: {}, then: trigger }}\n", when.replace('#', &rule.to_string()))
            })
            .collect();
        let text = format!("version: 1\nincident_key: $.id\nrules:\n{rules}");
        let mut findings = Findings::new();
        let source = Arc::new(Source::new("rules.yaml".into(), text));
        let rules = RuleSet::compile(&source, &mut findings).unwrap_or_else(|| panic!("{}", findings.render(false)));
        let element = json!({"id": "e1", "state": "DOWN", "host": "H-998", "number": 998, "list": [{"host": "H-998"}]});
        let budget = Budget::new(1_000_000);
        let scope = Scope { element: &element, root: &element, budget: &budget };
        let candidates: Vec<usize> = rules.index.candidates(scope).collect();
        assert!(candidates.contains(&998), "{when}");
        candidates.len()
    }

    #[test]
    fn of_a_thousand_rules_only_those_that_can_match_are_judged() {
        // The first rule is always judged: it is the one that looks for placeholders in what all of them read.
        for when in [
            "{ path: $.host, equals: H-# }",
            "{ path: $$.host, equals: H-# }",
            "{ path: \"$['list'][0].host\", equals: H-# }",
            "{ path: $.host, equals: h-#, ignore_case: true }",
            "{ path: $.host, one_of: [H-#, h-#] }",
            "{ path: $.host, equals: H-#, starts_with: H }",
            "{ path: $.number, equals: #.0 }",
            "{ all: [{ path: $.state, equals: DOWN }, { path: $.host, equals: H-# }] }",
            "{ all: [{ path: $.host, equals: H-# }, { not: { path: $.state, equals: UP } }] }",
            "{ any: [{ path: $.host, equals: H-# }, { path: $.number, equals: '#' }] }",
        ] {
            assert_eq!(candidates(when), 2, "{when}");
        }
        for when in [
            "{ path: $.host, starts_with: H- }",
            "{ not: { path: $.host, equals: h-# } }",
            "{ any: [{ path: $.host, equals: H-# }, { path: $.state, contains: DOWN }] }",
            "{ path: '$.list[*].host', equals: H-# }",
            "{ path: $.state, equals: DOWN }",
        ] {
            assert_eq!(candidates(when), 1_000, "{when} can't be left out");
        }
    }
}
