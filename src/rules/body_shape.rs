//! The body of a rule's events, as far as the rule file writes it out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::budget::Budget;
use super::condition::{Asks, Condition, Operator, Test};
use super::emit::{Emit, Operators, Source};
use super::path::JsonPath;
use super::{Rule, RuleSet, Then};
use crate::event::Action;

/// The body of the events of one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct BodyShape {
    /// The rule's place in its file, from 0.
    pub rule: usize,
    pub name: String,
    pub action: Action,
    /// The keys at its top.
    pub keys: BTreeMap<String, Known>,
    /// The key at its top whose value is the incident key, where the payload's own member is that as it came.
    pub incident_key: Option<String>,
    /// There may be other keys: it is the payload, or holds members of it.
    pub open: bool,
}

/// A value as far as it is written out.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It is one of these.
    OneOf(Vec<Value>),
    Anything,
}

impl Rule {
    /// Its events hold all members of the element: the element itself, or what is laid over it.
    pub(super) fn sends_element(&self) -> bool {
        self.emit.as_ref().is_none_or(|emit| emit.merge.as_ref().is_some_and(|merged| merged.as_str() == "$"))
    }
}

/// The body shapes of the rules that make events.
pub(super) fn body_shapes(rules: &RuleSet) -> Vec<BodyShape> {
    let all = rules.rules.iter().enumerate();
    all.filter_map(|(index, rule)| {
        let action = match rule.then {
            Then::Trigger => Action::Trigger,
            Then::Resolve => Action::Resolve,
            Then::Ignore | Then::Reject => return None,
        };
        let open = rule.emit.as_ref().is_none_or(|emit| emit.merge.is_some());
        let compared = rule.when.as_ref().map(compared).unwrap_or_default();
        let entries = rule.emit.iter().flat_map(|emit| &emit.entries);
        let keys = entries.filter_map(|(key, emit)| match written(emit, action, &compared, open) {
            // Where there is no value, a member of the payload may stand.
            Some(values) if values.is_empty() && !open => None,
            Some(values) if !values.is_empty() => Some((key.clone(), Known::OneOf(values))),
            _ => Some((key.clone(), Known::Anything)),
        });
        // A payload that is sent as it is keeps the texts by which its rule matched, but where an entry stands.
        let kept = compared.iter().filter(|_| rule.sends_element());
        let kept = kept.filter_map(|(path, texts)| Some((path.member()?.to_owned(), Known::OneOf(texts.to_vec()))));
        Some(BodyShape {
            rule: index,
            name: rule.name.to_string(),
            action,
            keys: kept.chain(keys).collect(),
            incident_key: incident_key(rule, rules),
            open,
        })
    })
    .collect()
}

fn incident_key(rule: &Rule, rules: &RuleSet) -> Option<String> {
    let [part] = rule.incident_key.as_ref().unwrap_or(&rules.incident_key).as_slice() else { return None };
    let member = part.member().filter(|_| rule.sends_element())?;
    let is_laid_over = rule.emit.iter().flat_map(|emit| &emit.entries).any(|(key, _)| key == member);
    (!is_laid_over).then(|| member.to_owned())
}

/// The values that a condition compares with texts, and these; one in any case has too many spellings.
fn compared(condition: &Condition) -> Vec<(&JsonPath, &[Value])> {
    let Test { path, asks: Asks::Nodes(operators), .. } = (match condition {
        Condition::All(parts) => return parts.iter().flat_map(compared).collect(),
        Condition::Test(test) => test,
        Condition::Any(_) | Condition::Not(_) => return Vec::new(),
    }) else {
        return Vec::new();
    };
    let texts = operators.iter().filter_map(|operator| match operator {
        Operator::Equals(texts) | Operator::OneOf(texts)
            if path.is_singular() && !texts.any_case && texts.values.iter().all(Value::is_string) =>
        {
            Some((path, texts.values.as_slice()))
        }
        _ => None,
    });
    texts.collect()
}

/// The values of a key where all that it can have are written out; empty where it is never sent. `compared`: what the rule
/// asks of the payload is written out, too.
fn written(emit: &Emit, action: Action, compared: &[(&JsonPath, &[Value])], open: bool) -> Option<Vec<Value>> {
    let texts = |path: &JsonPath| compared.iter().find(|(compared, _)| compared.is_same(path)).map(|(_, texts)| *texts);
    let operators = match emit {
        Emit::Path(path) => return texts(path).map(<[Value]>::to_vec),
        Emit::Operators(operators) => operators,
        _ => return Some(vec![literal(emit)?.clone()]),
    };
    let Operators { source, map, default, .. } = &**operators;
    // Where the text has no match, a member of the payload may stand.
    if open && operators.capture.is_some() {
        return None;
    }
    let values = match (source, map, default) {
        (Source::Path(path), None, _) => texts(path)?.iter().collect(),
        (Source::Path(path), Some(map), None) => {
            let mapped = texts(path)?.iter().map(|text| map.get(text.as_str()?).map_or(Some(text), literal));
            mapped.collect::<Option<Vec<_>>>()?
        }
        // The table has whatever comes, and the default stands for the rest.
        (_, Some(map), Some(default)) => map.values().chain([default]).map(literal).collect::<Option<Vec<_>>>()?,
        (Source::ByAction { trigger, resolve }, None, default) => {
            let own = match action {
                Action::Trigger => trigger,
                Action::Resolve => resolve,
            };
            let own = own.iter().map(literal).collect::<Option<Vec<_>>>()?;
            let lacks = own.first().is_none_or(|value| value.is_null());
            let default = default.iter().filter(|_| lacks).map(literal).collect::<Option<Vec<_>>>()?;
            if default.is_empty() { own } else { default }
        }
        _ => return None,
    };
    let budget = Budget::new(SHAPING_STEPS_MAX);
    let shaped = values.into_iter().filter_map(|value| operators.shape(Cow::Borrowed(value), &budget));
    let mut values: Vec<Value> = shaped.map(Cow::into_owned).collect();
    if budget.is_exhausted() {
        return None;
    }
    // A table has no order of its own; the same file is always told alike.
    values.sort_by_cached_key(Value::to_string);
    values.dedup_by_key(|value| value.to_string());
    Some(values)
}

fn literal(emit: &Emit) -> Option<&Value> {
    match emit {
        Emit::Literal(value) => Some(value),
        _ => None,
    }
}

/// More than the values that a person writes out take.
const SHAPING_STEPS_MAX: u64 = 1_000_000;
