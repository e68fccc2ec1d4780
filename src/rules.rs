//! The rule language: from a payload to triggers, resolves and refusals, by declarative rules.
//!
//! A rule file is compiled once ([`RuleSet::compile`]) and finds all its mistakes then. Deciding is pure: the same
//! payload gives the same [`Decision`], in bounded time, whoever wrote it. [`RuleSet::explain`] is the same
//! evaluation with its eyes open.
//!
//! Reading: `decide` is the order of things, `condition`, `validate`, `key` and `emit` are its steps, `compile`
//! turns YAML into them, `index` leaves out the rules that can't match, `path` is JSONPath, `text`, `pattern`,
//! `casefold`, `canonical`, `template` and `value` are what the steps are made of; `unmatched` says why no rule matched,
//! `trace` is what an explained decision saw, `coverage` adds traces up, `diff` compares two decisions.

mod body_shape;
pub(crate) mod budget;
mod canonical;
mod casefold;
mod compile;
mod condition;
mod coverage;
pub(crate) mod diff;
mod emit;
mod evaluate;
mod implies;
mod index;
mod key;
mod key_elsewhere;
pub(crate) mod path;
mod pattern;
mod placeholder;
mod template;
mod text;
mod trace;
mod unmatched;
mod validate;
mod value;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

pub(crate) use self::body_shape::{BodyShape, Known};
pub(crate) use self::compile::path as read_path;
#[cfg(test)]
pub(crate) use self::coverage::Lack;
pub(crate) use self::coverage::{Coverage, Gap, PartKind};
pub(crate) use self::evaluate::ELEMENTS_MAX;
pub(crate) use self::key_elsewhere::KeyElsewhere;
pub(crate) use self::trace::{
    ConditionTrace, ElementTrace, Missed, Nearest, PartTrace, PathTrace, RuleTrace, Seen, Spot, Trace, ValidationTrace,
};
pub(crate) use self::value::shortened;
use crate::event::{Draft, Priority, Violation};
use crate::lenient_json::{JsonReading, Repairs};
use crate::yaml::{Findings, Source};

/// A compiled rule file. Everything that can be wrong with it was found when it was compiled.
#[derive(Debug)]
pub struct RuleSet {
    unwrap: Option<path::JsonPath>,
    split: Option<path::JsonPath>,
    validations: Vec<validate::Validation>,
    rules: Vec<Rule>,
    index: index::Index,
    otherwise: Otherwise,
    otherwise_spot: Spot,
    incident_key: Vec<key::KeyPart>,
    occurrence: Vec<path::JsonPath>,
    update_on: Vec<path::JsonPath>,
    placeholders: placeholder::Placeholders,
    templates: template::Templates,
    file: String,
    head: String,
}

/// One rule.
#[derive(Debug)]
struct Rule {
    name: Arc<str>,
    spot: Spot,
    when: Option<condition::Condition>,
    /// The paths that `when` reads and no rule before it does: where placeholders are looked for.
    reads: Vec<path::JsonPath>,
    then: Then,
    /// Takes the place of the file's.
    incident_key: Option<Vec<key::KeyPart>>,
    /// The urgency of its events.
    priority: Priority,
    /// The canonical body, with the file's `emit` under the rule's own; none sends the payload itself.
    emit: Option<emit::EmitMap>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Trigger,
    Resolve,
    Ignore,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Otherwise {
    Reject,
    Ignore,
}

/// The facts that a decision may use beside the payload.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The source's name.
    pub source: &'a str,
    /// RFC 3339.
    pub received_at: &'a str,
    /// The reading of JSON in its texts, for `unwrap`.
    pub json: JsonReading,
    /// The repairs that the payload needed.
    pub repairs: Repairs,
}

/// The decision on one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// `split` is set: the answer to the sender then lists elements.
    pub batch: bool,
    /// One for the payload, or one for each element that `split` selects, in their order.
    pub elements: Vec<Element>,
    /// The templates that failed and rendered as an empty text: a warning and a metric, never a refusal.
    pub template_failures: TemplateFailures,
    /// The repairs that the text needed which `unwrap` reads.
    pub repairs: Repairs,
}

/// The decision on one element.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    Event(Draft),
    /// By a rule's `ignore`, or by `otherwise: ignore` (no rule).
    Ignored {
        rule: Option<Arc<str>>,
    },
    Refused {
        /// Never empty.
        violations: Vec<Violation>,
        /// The element itself, as JSON, where `split` made it, so that it can be kept; none where it is the whole payload.
        element: Option<Bytes>,
    },
}

/// Templates that failed while one request was decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateFailures {
    pub count: u32,
    /// The first of them: the key in `emit` and what went wrong.
    pub first: Option<String>,
}

impl RuleSet {
    /// Compiles a rule file. Every mistake leaves a finding; none if any is an error.
    pub fn compile(source: &Arc<Source>, findings: &mut Findings) -> Option<RuleSet> {
        compile::rule_set(source, findings)
    }

    /// Decides a payload.
    pub fn decide(&self, payload: &Value, context: Context<'_>) -> Decision {
        evaluate::payload(self, payload, None, context, None)
    }

    /// Decides one element of `payload` that is kept apart from it, as [`RuleSet::decide`] would within it. It is no
    /// batch any more.
    pub fn decide_element(&self, element: &Value, payload: &Value, context: Context<'_>) -> Decision {
        evaluate::payload(self, payload, Some(element), context, None)
    }

    /// The name of the file, as the operator wrote it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The comment at the head of the file: the shipped ones say what to enter in the sender.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The names of the rules, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| &*rule.name)
    }

    /// The bodies of the rules that make events, as far as they are written out.
    pub fn body_shapes(&self) -> Vec<BodyShape> {
        body_shape::body_shapes(self)
    }

    /// The paths that the file's `incident_key` can't do without and that `validate` says nothing of.
    pub fn unvalidated_keys(&self) -> Vec<&str> {
        let validated =
            |path: &path::JsonPath| self.validations.iter().any(|validation| validation.path.as_str() == path.as_str());
        let needed = self.incident_key.iter().filter_map(key::KeyPart::needed);
        needed.filter(|path| !validated(path)).map(path::JsonPath::as_str).collect()
    }

    /// Tells a path that a part of an incident key reads and can do without.
    pub fn is_optional(&self, path: &str) -> bool {
        let optional = self.key_parts().filter(|part| part.needed().is_none());
        let mut paths = optional.flat_map(|part| &part.paths);
        path::JsonPath::parse(path).is_ok_and(|path| paths.any(|optional| optional.is_same(&path)))
    }

    /// The parts of the file's incident key and of the rules' own.
    fn key_parts(&self) -> impl Iterator<Item = &key::KeyPart> {
        self.rules.iter().filter_map(|rule| rule.incident_key.as_ref()).chain([&self.incident_key]).flatten()
    }

    /// Tells whether the events of a rule are the payload as it came, perhaps with something laid over it.
    pub fn sends_payload(&self, rule: usize) -> bool {
        self.rules.get(rule).is_some_and(Rule::sends_element)
    }

    /// Tells whether a path of the file, outside of `emit`, reads this member of an element.
    pub fn reads_member(&self, name: &str) -> bool {
        let validated = self.validations.iter().map(|validation| &validation.path);
        let mut paths = validated
            .chain(self.rules.iter().flat_map(|rule| &rule.reads))
            .chain(self.key_parts().flat_map(|part| &part.paths))
            .chain(self.occurrence.iter().chain(&self.update_on));
        paths.any(|path| path.member() == Some(name))
    }

    /// Decides a payload and tells how.
    pub fn explain(&self, payload: &Value, context: Context<'_>) -> (Decision, Trace) {
        let mut trace = Trace::default();
        let decision = evaluate::payload(self, payload, None, context, Some(&mut trace));
        (decision, trace)
    }

    /// Decides one element that is kept apart from its payload, and tells how.
    pub fn explain_element(&self, element: &Value, payload: &Value, context: Context<'_>) -> (Decision, Trace) {
        let mut trace = Trace::default();
        let decision = evaluate::payload(self, payload, Some(element), context, Some(&mut trace));
        (decision, trace)
    }
}

impl Decision {
    /// `events` if there is any, else `refused` if anything is, else `ignored`.
    pub fn verdict(&self) -> &'static str {
        let any = |which: fn(&Element) -> bool| self.elements.iter().any(which);
        if any(|element| matches!(element, Element::Event(_))) {
            "events"
        } else if any(|element| matches!(element, Element::Refused { .. })) {
            "refused"
        } else {
            "ignored"
        }
    }
}

impl Then {
    fn makes_events(self) -> bool {
        matches!(self, Then::Trigger | Then::Resolve)
    }

    fn as_str(self) -> &'static str {
        match self {
            Then::Trigger => "trigger",
            Then::Resolve => "resolve",
            Then::Ignore => "ignore",
            Then::Reject => "reject",
        }
    }
}

impl TemplateFailures {
    fn add(&mut self, key: &str, problem: &str) {
        self.count = self.count.saturating_add(1);
        if self.first.is_none() {
            self.first = Some(format!("{key}: {problem}"));
        }
    }
}

#[cfg(test)]
mod tests;
