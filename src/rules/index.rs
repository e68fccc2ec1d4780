//! A look-up that leaves out rules which can't match: a file of a thousand rules costs little more than one of ten.
//!
//! Of all paths that rules compare with texts (`equals`, `one_of`), the one that tells most rules apart is looked at
//! first. A rule whose `when` can only hold where this path has one of some texts is filed under them. The candidates for
//! an element are the rules filed under its text, and the rules that are not filed, in the order of the file. Nothing is
//! decided here: a rule that is left out could not hold, and a candidate is judged as it would be without the index.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::Rule;
use super::casefold::folded;
use super::condition::{Asks, Condition, Operator, Test};
use super::path::{JsonPath, Scope};

/// The rules of a file by the text that they need.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The rules that are judged whatever the element holds.
    always: Vec<usize>,
    filed: Option<Filed>,
}

/// The rules that need one of some texts at a path; each list in the order of the file.
#[derive(Debug)]
struct Filed {
    path: JsonPath,
    /// By [`folded`] texts: a rule that minds the case is a candidate in any case.
    rules: HashMap<String, Vec<usize>>,
    /// The characters of the longest text: a longer one needs no folding to be in none of the lists.
    characters_max: usize,
}

/// The candidates for one element, by their place among the rules.
pub(super) struct Candidates<'i> {
    always: &'i [usize],
    filed: &'i [usize],
}

/// A path, and the texts of which it must select one, folded.
struct Need<'r> {
    path: &'r JsonPath,
    texts: Vec<String>,
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
            match needs.iter().find(|need| need.path.as_str() == path.as_str()) {
                Some(need) => need.texts.iter().for_each(|text| filed.add(rule, text)),
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
    fn add(&mut self, rule: usize, text: &str) {
        self.characters_max = self.characters_max.max(text.chars().count());
        let list = self.rules.entry(text.to_owned()).or_default();
        // A rule may name a text twice.
        if list.last() != Some(&rule) {
            list.push(rule);
        }
    }

    fn look_up(&self, scope: Scope<'_>) -> &[usize] {
        let Some(Value::String(text)) = self.path.first(scope) else {
            return &[];
        };
        scope.budget.spend_bytes(text.len() as u64);
        // A character takes four bytes at most.
        if text.len() > 4 * self.characters_max {
            return &[];
        }
        self.rules.get(&folded(text)).map_or(&[], Vec::as_slice)
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

/// The texts that a condition needs: its own, or those of a part of its `all`.
fn needs(condition: &Condition) -> Vec<Need<'_>> {
    match condition {
        Condition::Test(test) => need_of(test).into_iter().collect(),
        Condition::All(parts) => parts.iter().flat_map(needs).collect(),
        Condition::Any(_) | Condition::Not(_) => Vec::new(),
    }
}

/// The texts of which a test needs one: its path selects one node at most, which is compared with nothing but texts.
fn need_of(test: &Test) -> Option<Need<'_>> {
    let operators = match &test.asks {
        Asks::Nodes(operators) if test.path.is_singular() => operators,
        _ => return None,
    };
    operators.iter().find_map(|operator| match operator {
        Operator::Equals(values) | Operator::OneOf(values) => {
            let texts = values.values.iter().map(|value| value.as_str().map(folded));
            Some(Need { path: &test.path, texts: texts.collect::<Option<_>>()? })
        }
        _ => None,
    })
}

/// The path that is compared with the most different texts; none where a look-up would cost more than it spares.
fn most_telling<'r>(needs: &[Vec<Need<'r>>]) -> Option<&'r JsonPath> {
    let mut texts: HashMap<&str, (HashSet<&str>, &'r JsonPath)> = HashMap::new();
    for need in needs.iter().flatten() {
        let (known, _) = texts.entry(need.path.as_str()).or_insert_with(|| (HashSet::new(), need.path));
        known.extend(need.texts.iter().map(String::as_str));
    }
    let most = texts.into_values().filter(|(texts, _)| texts.len() >= TEXTS_MIN);
    // By their spelling where they tell alike, so that a file is always indexed in one way.
    most.max_by_key(|(texts, path)| (texts.len(), path.as_str())).map(|(_, path)| path)
}

/// A look-up costs as much as judging some rules.
const TEXTS_MIN: usize = 4;

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
            "{ path: $.number, equals: # }",
            "{ any: [{ path: $.host, equals: H-# }, { path: $.host, equals: I-# }] }",
        ] {
            assert_eq!(candidates(when), 1_000, "{when} can't be left out");
        }
    }
}
