//! What the body of a rule's events may hold, as far as the rule file tells without a payload.

use std::collections::BTreeMap;

use serde_json::Value;

use super::emit::{Emit, EmitMap, Operators, Source};
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
    /// It is one of these, or missing.
    OneOf(Vec<Value>),
    Anything,
}

/// The outlines of the rules that make events.
pub(super) fn outlines(rules: &RuleSet) -> Vec<Outline> {
    let rules = rules.rules.iter().enumerate();
    rules
        .filter_map(|(index, rule)| {
            let action = match rule.then {
                Then::Trigger => Action::Trigger,
                Then::Resolve => Action::Resolve,
                Then::Ignore | Then::Reject => return None,
            };
            let keys = rule.emit.iter().flat_map(|emit| &emit.entries);
            Some(Outline {
                rule: index,
                name: rule.name.to_string(),
                action,
                keys: keys.filter_map(|(key, emit)| Some((key.clone(), known(emit, action)?))).collect(),
                open: rule.emit.as_ref().is_none_or(|emit: &EmitMap| emit.merge.is_some()),
            })
        })
        .collect()
}

/// What is known of a value; none where it is missing always.
fn known(emit: &Emit, action: Action) -> Option<Known> {
    Some(match emit {
        Emit::Literal(value) => Known::OneOf(vec![value.clone()]),
        Emit::Operators(operators) => return operated(operators, action),
        Emit::Path(_) | Emit::Template { .. } | Emit::List(_) | Emit::Map(_) => Known::Anything,
    })
}

fn operated(operators: &Operators, action: Action) -> Option<Known> {
    let Operators { source, map, default, trim, case, truncate, .. } = operators;
    if *trim || case.is_some() || truncate.is_some() {
        return Some(Known::Anything);
    }
    let default = || default.as_ref().and_then(|default| known(default, action));
    match (map, source) {
        (Some(map), _) => {
            let values = map.values().filter_map(|value| known(value, action)).chain(default());
            Some(values.reduce(either).unwrap_or(Known::OneOf(Vec::new())))
        }
        (None, Source::ByAction { trigger, resolve }) => {
            let own = match action {
                Action::Trigger => trigger,
                Action::Resolve => resolve,
            };
            own.as_ref().and_then(|own| known(own, action)).or_else(default)
        }
        (None, Source::Path(_) | Source::First(_)) => Some(Known::Anything),
    }
}

fn either(one: Known, other: Known) -> Known {
    match (one, other) {
        (Known::OneOf(mut values), Known::OneOf(others)) => {
            values.extend(others);
            Known::OneOf(values)
        }
        _ => Known::Anything,
    }
}
