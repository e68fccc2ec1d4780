//! The coverage of a rule file by its tests: which rules decided, which conditions held and failed.
//!
//! It adds up the traces of decisions. A condition that never held, or never failed, could be left out and no test
//! would tell.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::condition::Condition;
use super::trace::{ConditionTrace, ElementTrace, Missed, Spot};
use super::{Otherwise, RuleSet};

/// The parts of a rule file, with the behaviour that tests showed of each.
#[derive(Clone, Debug)]
pub struct Coverage {
    parts: Vec<Part>,
    by_spot: HashMap<Spot, usize>,
    /// The part that stands for `otherwise`, unless the last rule matches whatever comes.
    otherwise: Option<usize>,
    /// Paths of `emit` that found nothing in some payload.
    missed: BTreeMap<String, Missed>,
    /// Paths of `emit` that found something in some payload.
    found: HashSet<String>,
}

/// A part of which the tests leave something open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    #[serde(flatten)]
    pub spot: Spot,
    pub kind: PartKind,
    /// The rule's name, what the condition or the validation asks, what `otherwise` says.
    pub subject: String,
    pub lack: Lack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    Rule,
    Condition,
    Validation,
    Otherwise,
}

/// The behaviour of a part that no test showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "they are the words of the report")]
pub enum Lack {
    /// Nothing at all.
    NeverReached,
    /// That it holds; of a rule and of `otherwise`, that it decides.
    NeverHeld,
    /// That it does not hold; of a validation, that it refuses.
    NeverFailed,
}

#[derive(Clone, Debug)]
struct Part {
    spot: Spot,
    kind: PartKind,
    subject: String,
    held: bool,
    failed: bool,
}

impl Coverage {
    /// Of a rule file of which nothing was seen yet.
    pub fn of(rules: &RuleSet) -> Coverage {
        let mut coverage = Coverage {
            parts: Vec::new(),
            by_spot: HashMap::new(),
            otherwise: None,
            missed: BTreeMap::new(),
            found: HashSet::new(),
        };
        for validation in &rules.validations {
            let subject = format!("{} {}", validation.path.as_str(), validation.describe().join(", "));
            coverage.part(PartKind::Validation, validation.spot, subject);
        }
        for rule in &rules.rules {
            coverage.part(PartKind::Rule, rule.spot, rule.name.to_string());
            for test in rule.when.as_ref().map(Condition::tests).unwrap_or_default() {
                let subject = format!("{} {}", test.path.as_str(), test.describe().join(", "));
                coverage.part(PartKind::Condition, test.spot, subject);
            }
        }
        if rules.rules.last().is_some_and(|last| last.when.is_some()) {
            let subject = match rules.otherwise {
                Otherwise::Reject => "reject",
                Otherwise::Ignore => "ignore",
            };
            coverage.otherwise = Some(coverage.parts.len());
            coverage.parts.push(Part::new(PartKind::Otherwise, rules.otherwise_spot, subject.into()));
        }
        coverage
    }

    /// Adds what one decision showed.
    pub fn add(&mut self, trace: &ElementTrace) {
        for validation in &trace.validations {
            self.note(validation.spot, validation.holds);
        }
        for rule in &trace.rules {
            match rule.verdict {
                "matched" => self.note(rule.spot, true),
                "not matched" => self.note(rule.spot, false),
                _ => {}
            }
            if let Some(when) = &rule.when {
                self.note_conditions(when);
            }
        }
        self.found.extend(trace.found.iter().cloned());
        for missed in &trace.missed {
            let known = self.missed.entry(missed.path.clone()).or_insert_with(|| missed.clone());
            known.instead |= missed.instead;
        }
        let undecided = !trace.rules.is_empty() && trace.rules.iter().all(|rule| rule.verdict == "not matched");
        if let (true, Some(otherwise)) = (undecided, self.otherwise) {
            self.parts[otherwise].held = true;
        }
    }

    /// The parts that are left open, in the order of the file.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = self.parts.iter().filter_map(Part::gap).collect();
        gaps.sort_by_key(|gap| gap.spot);
        gaps
    }

    /// The paths of `emit` that found nothing in any payload, each as it was missed first; with `instead` where the file says
    /// somewhere what is sent in its stead.
    pub fn unread(&self) -> impl Iterator<Item = &Missed> {
        self.missed.values().filter(|missed| !self.found.contains(&missed.path))
    }

    /// The number of things that tests have shown, and of those that they can show: that a rule decides, that a
    /// condition holds and that it fails, that a validation refuses, that `otherwise` decides.
    pub fn shown(&self) -> (usize, usize) {
        let needs = self.parts.iter().flat_map(Part::needs);
        needs.fold((0, 0), |(shown, all), seen| (shown + usize::from(seen), all + 1))
    }

    /// That share in whole per cent, rounded down: only what is complete is 100.
    pub fn percent(&self) -> usize {
        let (shown, all) = self.shown();
        (shown * 100).checked_div(all).unwrap_or(100)
    }

    fn part(&mut self, kind: PartKind, spot: Spot, subject: String) {
        // What an alias repeats is written once.
        self.by_spot.entry(spot).or_insert_with(|| {
            self.parts.push(Part::new(kind, spot, subject));
            self.parts.len() - 1
        });
    }

    fn note(&mut self, spot: Spot, holds: bool) {
        if let Some(part) = self.by_spot.get(&spot) {
            let part = &mut self.parts[*part];
            part.held |= holds;
            part.failed |= !holds;
        }
    }

    fn note_conditions(&mut self, condition: &ConditionTrace) {
        match condition {
            ConditionTrace::Combined { conditions, .. } => {
                conditions.iter().for_each(|condition| self.note_conditions(condition));
            }
            ConditionTrace::Test { spot, holds, .. } => self.note(*spot, *holds),
        }
    }
}

impl Part {
    fn new(kind: PartKind, spot: Spot, subject: String) -> Part {
        Part { spot, kind, subject, held: false, failed: false }
    }

    /// For each thing that tests can show of it: it was shown.
    fn needs(&self) -> impl Iterator<Item = bool> {
        let (held, failed) = match self.kind {
            PartKind::Rule | PartKind::Otherwise => (Some(self.held), None),
            PartKind::Condition => (Some(self.held), Some(self.failed)),
            PartKind::Validation => (None, Some(self.failed)),
        };
        held.into_iter().chain(failed)
    }

    fn gap(&self) -> Option<Gap> {
        if self.needs().all(|seen| seen) {
            return None;
        }
        let lack = match (self.held, self.failed) {
            (false, false) => Lack::NeverReached,
            (false, true) => Lack::NeverHeld,
            (true, _) => Lack::NeverFailed,
        };
        Some(Gap { spot: self.spot, kind: self.kind, subject: self.subject.clone(), lack })
    }
}

impl Gap {
    /// The side of it that no test showed, in words that continue the part's name.
    pub fn lack(&self) -> &'static str {
        match (self.kind, self.lack) {
            (PartKind::Rule | PartKind::Condition, Lack::NeverReached) => "was never reached",
            (PartKind::Rule | PartKind::Otherwise, _) => "never decided",
            (PartKind::Validation, _) => "never refused",
            (PartKind::Condition, Lack::NeverHeld) => "never held",
            (PartKind::Condition, Lack::NeverFailed) => "never failed",
        }
    }
}
