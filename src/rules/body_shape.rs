//! What the body of a rule's events may hold, as far as the rule file tells without a payload.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::constraints::Fixed;
use super::emit::{Emit, EmitMap, Operators, Source, is_empty};
use super::path::JsonPath;
use super::template::Templates;
use super::value::text_of;
use super::{RuleSet, Then};
use crate::event::Action;

/// The body of the events of one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// The rule's place in its file, from 0.
    pub rule: usize,
    pub name: String,
    pub action: Action,
    /// The keys at its top.
    pub keys: BTreeMap<String, Known>,
    /// Whether there may be others: it is the payload, or holds members of it.
    pub open: bool,
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It is one of these, each told once, or missing.
    OneOf(Vec<Value>),
    Anything,
}

/// The outlines of the rules that make events.
pub(super) fn outlines(rules: &RuleSet) -> Vec<Outline> {
    let templates = &rules.templates;
    let rules = rules.rules.iter().enumerate();
    rules
        .filter_map(|(index, rule)| {
            let action = match rule.then {
                Then::Trigger => Action::Trigger,
                Then::Resolve => Action::Resolve,
                Then::Ignore | Then::Reject => return None,
            };
            let fixed = Fixed::by(rule.when.as_ref());
            let sight = Sight { action, rule: &rule.name, fixed: &fixed, templates };
            let keys = rule.emit.iter().flat_map(|emit| &emit.entries);
            let open = rule.emit.as_ref().is_none_or(|emit: &EmitMap| emit.merge.is_some());
            let keys = keys.filter_map(|(key, emit)| Some((key.clone(), known(emit, &sight, open)?)));
            // Without an `emit` it is the element itself.
            let own = fixed.iter().filter(|_| rule.emit.is_none()).filter_map(|(path, values)| {
                Some((path.member()?.to_owned(), Known::OneOf(values.iter().copied().cloned().collect())))
            });
            Some(Outline { rule: index, name: rule.name.to_string(), action, keys: keys.chain(own).collect(), open })
        })
        .collect()
}

/// What is known of the value of a key; none where the key is always missing. `open`: where there is no value, a member
/// of the payload may stand.
fn known(emit: &Emit, sight: &Sight<'_>, open: bool) -> Option<Known> {
    let Possible { values, missing } = Possible::of(emit, sight);
    match values {
        Some(_) if missing && open => Some(Known::Anything),
        Some(values) if values.is_empty() => None,
        Some(values) => Some(Known::OneOf(values)),
        None => Some(Known::Anything),
    }
}

/// What is known where a rule makes its events.
struct Sight<'a> {
    action: Action,
    rule: &'a str,
    fixed: &'a Fixed<'a>,
    templates: &'a Templates,
}

/// The rules that trigger and whose incident key no rule that resolves can have, with the path by which they differ.
pub(super) fn unmet(rules: &RuleSet) -> Vec<(usize, &str)> {
    let fixed = |then: Then| {
        let rules = rules.rules.iter().enumerate().filter(move |(_, rule)| rule.then == then);
        rules.map(|(index, rule)| (index, Fixed::by(rule.when.as_ref()))).collect::<Vec<_>>()
    };
    let (triggers, resolves) = (fixed(Then::Trigger), fixed(Then::Resolve));
    if resolves.is_empty() || triggers.len() * resolves.len() > PAIRS_MAX {
        return Vec::new();
    }
    let differs = |path: &JsonPath, one: &Fixed<'_>, other: &Fixed<'_>| match (one.values(path), other.values(path)) {
        (Some(one), Some(other)) => {
            !one.is_empty() && !other.is_empty() && !one.iter().any(|value| other.contains(value))
        }
        _ => false,
    };
    let unmet = triggers.iter().filter_map(|(index, trigger)| {
        let apart = |resolve: &Fixed<'_>| rules.incident_key.iter().find(|path| differs(path, trigger, resolve));
        let paths: Option<Vec<&JsonPath>> = resolves.iter().map(|(_, resolve)| apart(resolve)).collect();
        Some((*index, paths?.first()?.as_str()))
    });
    unmet.collect()
}

/// What a value may be: as [`Emit`] makes it, with every payload at once.
#[derive(Clone, Debug)]
struct Possible {
    /// None: anything.
    values: Option<Vec<Value>>,
    /// Whether there may be none.
    missing: bool,
}

impl Possible {
    const NOTHING: Possible = Possible { values: Some(Vec::new()), missing: false };
    const MISSING: Possible = Possible { values: Some(Vec::new()), missing: true };

    fn of(emit: &Emit, sight: &Sight<'_>) -> Possible {
        match emit {
            Emit::Literal(value) => Possible { values: Some(vec![value.clone()]), missing: false },
            Emit::Operators(operators) => Possible::of_operators(operators, sight),
            Emit::Path(path) => Possible::at(path, sight),
            Emit::Template { id, .. } => {
                let text = sight.templates.constant(*id, sight.action.as_str(), sight.rule);
                Possible { values: text.map(|text| vec![text.into()]), missing: false }
            }
            Emit::List(_) | Emit::Map(_) => Possible { values: None, missing: false },
        }
    }

    /// What stands at a path of the payload.
    fn at(path: &JsonPath, sight: &Sight<'_>) -> Possible {
        match sight.fixed.values(path) {
            Some([]) => Possible::MISSING,
            Some(values) => Possible { values: distinct(values.iter().copied().cloned()), missing: false },
            None => Possible { values: None, missing: true },
        }
    }

    fn of_operators(operators: &Operators, sight: &Sight<'_>) -> Possible {
        let Operators { source, map, default, .. } = operators;
        let mut possible = match source {
            Source::Path(path) => Possible::at(path, sight),
            Source::First(candidates) => Possible::first(candidates, sight),
            Source::ByAction { trigger, resolve } => {
                let own = match sight.action {
                    Action::Trigger => trigger,
                    Action::Resolve => resolve,
                };
                own.as_ref().map_or(Possible::MISSING, |own| Possible::of(own, sight))
            }
        };
        if let Some(map) = map {
            possible = possible.mapped(map, default.is_some(), sight);
        }
        if let Some(default) = default {
            possible = possible.or_default(Possible::of(default, sight));
        }
        let shaped = |value: Value| operators.shape(Cow::Owned(value)).into_owned();
        possible.values = possible.values.and_then(|values| distinct(values.into_iter().map(shaped)));
        possible
    }

    /// The first that is neither missing nor empty.
    fn first(candidates: &[Emit], sight: &Sight<'_>) -> Possible {
        let mut first = Possible::MISSING;
        for candidate in candidates {
            let mut candidate = Possible::of(candidate, sight);
            if let Some(values) = &mut candidate.values {
                let all = values.len();
                values.retain(|value| !is_empty(value));
                candidate.missing |= values.len() < all;
            } else {
                candidate.missing = true;
            }
            first = Possible { missing: candidate.missing, ..first.or(candidate) };
            if !first.missing {
                break;
            }
        }
        first
    }

    /// By a table. What it does not hold passes, or is missing where there is a default.
    fn mapped(self, map: &HashMap<String, Emit>, has_default: bool, sight: &Sight<'_>) -> Possible {
        let Some(values) = self.values else {
            // A table has no order of its own: by its words, so that the same file is always told alike.
            let mut entries: Vec<(&String, &Emit)> = map.iter().collect();
            entries.sort_unstable_by_key(|(word, _)| *word);
            let all = entries.into_iter().map(|(_, emit)| Possible::of(emit, sight));
            let all = all.fold(Possible::NOTHING, Possible::or);
            return match has_default {
                true => Possible { missing: true, ..all },
                false => Possible { values: None, missing: self.missing || all.missing },
            };
        };
        let one = |value: Value| match text_of(&value).and_then(|text| map.get(text.as_ref())) {
            Some(mapped) => Possible::of(mapped, sight),
            None if has_default => Possible::MISSING,
            None => Possible { values: Some(vec![value]), missing: false },
        };
        let nothing = Possible { missing: self.missing, ..Possible::NOTHING };
        values.into_iter().map(one).fold(nothing, Possible::or)
    }

    /// What stands in for what is missing or null.
    fn or_default(self, default: Possible) -> Possible {
        let Some(mut values) = self.values else {
            return Possible { values: None, missing: default.missing };
        };
        let all = values.len();
        values.retain(|value| !value.is_null());
        let lacks = self.missing || values.len() < all;
        let present = Possible { values: Some(values), missing: false };
        if lacks { present.or(default) } else { present }
    }

    /// Either of two.
    fn or(self, other: Possible) -> Possible {
        let both = self.values.zip(other.values);
        let values = both.and_then(|(values, others)| distinct(values.into_iter().chain(others)));
        Possible { values, missing: self.missing || other.missing }
    }
}

/// The values, each once; none if they are too many to be told apart.
fn distinct(values: impl Iterator<Item = Value>) -> Option<Vec<Value>> {
    let mut found: Vec<Value> = Vec::new();
    for value in values {
        // Zero equals minus zero, and has another text.
        if found.iter().any(|one| *one == value && text_of(one) == text_of(&value)) {
            continue;
        }
        if found.len() == VALUES_MAX {
            return None;
        }
        found.push(value);
    }
    Some(found)
}

/// More rules than a person writes.
const PAIRS_MAX: usize = 250_000;
/// More than a table of severities or teams makes. Tables of tables would multiply without a limit.
const VALUES_MAX: usize = 256;
