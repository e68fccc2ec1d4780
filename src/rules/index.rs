//! A look-up that leaves out rules which can't match: a file of a thousand rules costs little more than one of ten.
//!
//! Of all paths that rules compare by `equals` or `one_of`, one is looked at first: that at which the most rules differ.
//! A rule whose `when` can only hold where this path has one of some texts, numbers, booleans or nulls is filed under
//! them. The candidates for an element are the rules filed under its value, and the rules that are not filed, in the
//! order of the file. Nothing is decided here: a rule that is left out could not hold, and a candidate is judged as it
//! would be without the index.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::Rule;
use super::casefold::folded;
use super::condition::{Asks, Condition, Operator, Test};
use super::path::{JsonPath, Scope};

/// The rules of a file by the value that they need.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The rules that are judged whatever the element holds.
    always: Vec<usize>,
    filed: Option<Filed>,
}

/// The rules that need one of some values at a path; each list in the order of the file.
#[derive(Debug)]
struct Filed {
    path: JsonPath,
    rules: HashMap<Key, Vec<usize>>,
    /// The characters of the longest text: a longer one needs no folding to be in none of the lists.
    characters_max: usize,
}

/// A value as it is looked up. Values that are equal have one key; that some others share it makes a candidate more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Null,
    Boolean(bool),
    /// The bits of the nearest double, so that 1 is 1.0.
    Number(u64),
    /// Folded: a rule that minds the case is a candidate in any case.
    Text(String),
}

/// The candidates for one element, by their place among the rules.
pub(super) struct Candidates<'i> {
    always: &'i [usize],
    filed: &'i [usize],
}

/// A path, and the values of which it must select one.
struct Need<'r> {
    path: &'r JsonPath,
    keys: Vec<Key>,
}

impl Index {
    /// Files the rules. `reading_is_checked` says that a rule is judged for what it reads, even if it can't hold.
    pub(super) fn of(rules: &[Rule], reading_is_checked: bool) -> Index {
        let needs: Vec<Vec<Need<'_>>> = rules
            .iter()
            .map(|rule| match &rule.when {
                Some(when) if !reading_is_checked || rule.reads.is_empty() => needs(when),
                _ => Vec::new(),
            })
            .collect();
        let Some(path) = most_telling(&needs) else {
            return Index { always: (0..rules.len()).collect(), filed: None };
        };
        let mut always = Vec::new();
        let mut filed = Filed { path: path.clone(), rules: HashMap::new(), characters_max: 0 };
        for (rule, needs) in needs.iter().enumerate() {
            match need_at(needs, path) {
                Some(need) => need.keys.iter().for_each(|key| filed.add(rule, key)),
                None => always.push(rule),
            }
        }
        Index { always, filed: Some(filed) }
    }

    /// One that leaves no rule out, to compare with.
    #[cfg(test)]
    pub(super) fn plain(rules: usize) -> Index {
        Index { always: (0..rules).collect(), filed: None }
    }

    /// The rules that may hold, in the order of the file. Where the budget ends, some are missing.
    pub(super) fn candidates<'i>(&'i self, scope: Scope<'_>) -> Candidates<'i> {
        let filed = self.filed.as_ref().map_or(&[][..], |filed| filed.look_up(scope));
        Candidates { always: &self.always, filed }
    }
}

impl Filed {
    fn add(&mut self, rule: usize, key: &Key) {
        if let Key::Text(text) = key {
            self.characters_max = self.characters_max.max(text.chars().count());
        }
        let list = self.rules.entry(key.clone()).or_default();
        // A rule may name a value twice.
        if list.last() != Some(&rule) {
            list.push(rule);
        }
    }

    fn look_up(&self, scope: Scope<'_>) -> &[usize] {
        let Some(node) = self.path.first(scope) else {
            return &[];
        };
        if let Value::String(text) = node {
            scope.budget.spend_bytes(text.len() as u64);
            // A character takes four bytes at most.
            if text.len() > 4 * self.characters_max {
                return &[];
            }
        }
        Key::of(node).and_then(|key| self.rules.get(&key)).map_or(&[], Vec::as_slice)
    }
}

impl Key {
    fn of(value: &Value) -> Option<Key> {
        match value {
            Value::Null => Some(Key::Null),
            Value::Bool(value) => Some(Key::Boolean(*value)),
            // Minus zero is zero.
            Value::Number(number) => number.as_f64().map(|number| Key::Number((number + 0.0).to_bits())),
            Value::String(text) => Some(Key::Text(folded(text))),
            Value::Array(_) | Value::Object(_) => None,
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let from = match (self.always.first(), self.filed.first()) {
            (Some(always), Some(filed)) if always > filed => &mut self.filed,
            (None, _) => &mut self.filed,
            _ => &mut self.always,
        };
        let (next, rest) = from.split_first()?;
        *from = rest;
        Some(*next)
    }
}

/// The values that a condition needs: its own, those of a part of its `all`, or those of all parts of its `any`.
fn needs(condition: &Condition) -> Vec<Need<'_>> {
    match condition {
        Condition::Test(test) => need_of(test).into_iter().collect(),
        Condition::All(parts) => parts.iter().flat_map(needs).collect(),
        Condition::Any(parts) => {
            parts.iter().map(needs).reduce(|needs, others| either(needs, &others)).unwrap_or_default()
        }
        Condition::Not(_) => Vec::new(),
    }
}

/// The values at the paths that both compare.
fn either<'r>(needs: Vec<Need<'r>>, others: &[Need<'r>]) -> Vec<Need<'r>> {
    let both = needs.into_iter().filter_map(|mut need| {
        need.keys.extend_from_slice(&need_at(others, need.path)?.keys);
        Some(need)
    });
    both.collect()
}

/// The values of which a test needs one: its path selects one node at most, and no list or object is among them.
fn need_of(test: &Test) -> Option<Need<'_>> {
    let operators = match &test.asks {
        Asks::Nodes(operators) if test.path.is_singular() => operators,
        _ => return None,
    };
    operators.iter().find_map(|operator| match operator {
        Operator::Equals(values) | Operator::OneOf(values) => {
            Some(Need { path: &test.path, keys: values.values.iter().map(Key::of).collect::<Option<_>>()? })
        }
        _ => None,
    })
}

fn need_at<'n, 'r>(needs: &'n [Need<'r>], path: &JsonPath) -> Option<&'n Need<'r>> {
    needs.iter().find(|need| need.path.as_str() == path.as_str())
}

/// The path at which the most rules need values of their own; none where a look-up would cost more than it spares.
fn most_telling<'r>(needs: &[Vec<Need<'r>>]) -> Option<&'r JsonPath> {
    let mut paths: HashMap<&str, (usize, HashSet<&Key>, &'r JsonPath)> = HashMap::new();
    for need in needs.iter().flatten() {
        let (rules, keys, _) = paths.entry(need.path.as_str()).or_insert_with(|| (0, HashSet::new(), need.path));
        *rules += 1;
        keys.extend(&need.keys);
    }
    // Many rules may share one value, and one rule may have a long list of them.
    let told = paths.into_values().map(|(rules, keys, path)| (rules.min(keys.len()), path));
    // By their spelling where they tell alike, so that a file is always indexed in one way.
    let most = told.max_by_key(|(told, path)| (*told, path.as_str()));
    most.filter(|(told, _)| *told >= TOLD_MIN).map(|(_, path)| path)
}

/// A look-up costs as much as judging some rules.
const TOLD_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::rules::RuleSet;
    use crate::rules::budget::Budget;
    use crate::yaml::{Findings, Source};

    /// The number of candidates among a thousand rules for an element that matches the last but one.
    fn candidates(when: &str) -> usize {
        candidates_among((0..1_000).map(|rule| when.replace('#', &rule.to_string())))
    }

    fn candidates_among(whens: impl Iterator<Item = String>) -> usize {
        let rules: String = whens
            .enumerate()
            .map(|(rule, when)| format!("  - {{ name: r{rule}, when: {when}, then: trigger }}\n"))
            .collect();
        let text = format!("version: 1\nincident_key: $.id\nrules:\n{rules}");
        let mut findings = Findings::new();
        let source = Arc::new(Source::new("rules.yaml".into(), text));
        let rules = RuleSet::compile(&source, &mut findings).unwrap_or_else(|| panic!("{}", findings.render(false)));
        let element = json!({"id": "e1", "state": "DOWN", "host": "H-998", "number": 998, "list": [{"host": "H-998"}]});
        let budget = Budget::new(1_000_000);
        let scope = Scope { element: &element, root: &element, budget: &budget };
        let candidates: Vec<usize> = rules.index.candidates(scope).collect();
        assert!(candidates.contains(&998), "{candidates:?}");
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
            "{ path: $.number, equals: # }",
            "{ path: $.number, one_of: [#.0, true, null] }",
            "{ any: [{ path: $.host, equals: H-# }, { path: $.host, equals: I-# }] }",
            "{ any: [{ path: $.host, equals: H-# }, { all: [{ path: $.state, equals: UP }, { path: $.host, equals: # }] }] }",
            "{ all: [{ path: $.state, equals: DOWN }, { path: $.host, equals: H-# }] }",
            "{ all: [{ path: $.host, equals: H-# }, { not: { path: $.state, equals: UP } }] }",
        ] {
            assert_eq!(candidates(when), 2, "{when}");
        }
        for when in [
            "{ path: $.host, starts_with: H- }",
            "{ not: { path: $.host, equals: h-# } }",
            "{ any: [{ path: $.host, equals: H-# }, { path: $.state, contains: DOWN }] }",
            "{ path: '$.list[*].host', equals: H-# }",
            "{ path: $.state, equals: DOWN }",
            "{ any: [{ path: $.host, equals: H-# }, { path: $.number, equals: # }] }",
            "{ path: $.list, equals: [#] }",
        ] {
            assert_eq!(candidates(when), 1_000, "{when} can't be left out");
        }
    }

    #[test]
    fn a_long_list_in_one_rule_does_not_decide_what_is_looked_at() {
        let states: Vec<String> = (0..2_000).map(|state| format!("S-{state}")).collect();
        let long = format!("{{ path: $.state, one_of: [{}] }}", states.join(", "));
        let few = ["{ path: $.state, equals: DOWN }".to_owned(), long].into_iter();
        let others = (2..1_000).map(|rule| format!("{{ path: $.host, equals: H-{rule} }}"));
        // Beside the long list, the first that read each of the paths are always judged.
        assert_eq!(candidates_among(few.chain(others)), 4);
    }
}
