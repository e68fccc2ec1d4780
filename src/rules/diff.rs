//! Compares two decisions of the same payload: for rules in the shadow of others, and for changed rules
//! that the past is tried with.
//!
//! It compares what others see of a decision: an event and its action, its key, its occurrence and its body. Which rule decided and how a refusal is worded are no differences, nor what `update_on` compares, which
//! matters only between one event and the next.

use serde::Serialize;
use serde_json::Value;

use super::path::spelled;
use super::value::{shortened, shown};
use super::{Decision, Element};
use crate::event::Draft;

/// One thing that the second decision would have made otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Of which element of the payload; 0 where it is no batch.
    pub index: usize,
    pub what: What,
    /// The path of the member of the body that differs, as `$.state`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The decision, shortened: a verdict in words, anything else as JSON; none where it is missing.
    pub is: Option<String>,
    /// The decision as it would have been.
    pub would_be: Option<String>,
}

/// The respect in which two decisions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// The payload falls into another number of elements; the elements are not compared then.
    Elements,
    /// One of the two makes no event, or they make events of different actions.
    Verdict,
    IncidentKey,
    Occurrence,
    Body,
}

/// The differences, element by element; empty if there is none. At most [`DIFFERENCES_MAX`].
pub(crate) fn differences(is: &Decision, would_be: &Decision) -> Vec<Difference> {
    let (count, other) = (is.elements.len(), would_be.elements.len());
    if count != other {
        return vec![difference(0, What::Elements, Some(count.to_string()), Some(other.to_string()))];
    }
    let pairs = is.elements.iter().zip(&would_be.elements).enumerate();
    pairs.flat_map(|(index, (is, would_be))| element_differences(index, is, would_be)).take(DIFFERENCES_MAX).collect()
}

/// The differences between two decisions of one element. At most [`DIFFERENCES_MAX`].
pub(crate) fn element_differences(index: usize, is: &Element, would_be: &Element) -> Vec<Difference> {
    let (Element::Event(event), Element::Event(other)) = (is, would_be) else {
        let alike = matches!(
            (is, would_be),
            (Element::Ignored { .. }, Element::Ignored { .. }) | (Element::Refused { .. }, Element::Refused { .. })
        );
        return if alike { Vec::new() } else { vec![verdicts(index, is, would_be)] };
    };
    let mut found = Vec::new();
    if event.action != other.action {
        found.push(verdicts(index, is, would_be));
    }
    if event.incident_key != other.incident_key {
        let [is, would_be] = [event, other].map(|event| Some(quoted(&event.incident_key)));
        found.push(difference(index, What::IncidentKey, is, would_be));
    }
    if event.occurrence != other.occurrence {
        let [is, would_be] =
            [event, other].map(|event| event.occurrence.as_ref().map(|occurrence| quoted(&occurrence.0)));
        found.push(difference(index, What::Occurrence, is, would_be));
    }
    bodies(index, event, other, &mut found);
    found
}

/// The differences between an event that was made of a batch and the events that the whole of it makes now, where no element is
/// known to be the one that it was.
pub(crate) fn event_differences(is: &Element, would_be: &[Element]) -> Vec<Difference> {
    let refused = would_be.iter().find(|element| matches!(element, Element::Refused { .. }));
    let event = would_be.iter().any(|element| matches!(element, Element::Event(_)));
    match (would_be, refused.or(would_be.first())) {
        (_, Some(none)) if !event => element_differences(0, is, none),
        ([only], _) => element_differences(0, is, only),
        _ => {
            let elements = format!("none of the {} elements makes this event", would_be.len());
            vec![difference(0, What::Verdict, Some(verdict(is)), Some(elements))]
        }
    }
}

fn verdicts(index: usize, is: &Element, would_be: &Element) -> Difference {
    difference(index, What::Verdict, Some(verdict(is)), Some(verdict(would_be)))
}

/// The verdict in a word, with the reason where there is no event.
fn verdict(element: &Element) -> String {
    match element {
        Element::Event(draft) => draft.action.as_str().to_owned(),
        Element::Ignored { rule: Some(rule) } => format!("ignored by the rule `{rule}`"),
        Element::Ignored { rule: None } => "ignored, no rule matches".to_owned(),
        Element::Refused { violations, .. } => match violations.first() {
            Some(violation) => format!("refused, {}: {}", violation.path, violation.problem),
            None => "refused".to_owned(),
        },
    }
}

fn bodies(index: usize, is: &Draft, would_be: &Draft, found: &mut Vec<Difference>) {
    if is.body == would_be.body {
        return;
    }
    // Texts may differ where the values do not: in the order of members.
    compare(index, "$", Some(&is.body.value()), Some(&would_be.body.value()), found);
}

/// Walks into objects that both have; anything else is compared as a whole.
fn compare(index: usize, path: &str, is: Option<&Value>, would_be: Option<&Value>, found: &mut Vec<Difference>) {
    if is == would_be || found.len() >= DIFFERENCES_MAX {
        return;
    }
    if let (Some(Value::Object(members)), Some(Value::Object(others))) = (is, would_be) {
        for (name, value) in members {
            compare(index, &format!("{path}{}", spelled(name)), Some(value), others.get(name), found);
        }
        for (name, value) in others.iter().filter(|(name, _)| !members.contains_key(*name)) {
            compare(index, &format!("{path}{}", spelled(name)), None, Some(value), found);
        }
        return;
    }
    let path = Some(shortened(path));
    found.push(Difference { path, ..difference(index, What::Body, is.map(exact), would_be.map(exact)) });
}

/// As JSON, so that a text is not taken for a number or for several values.
fn exact(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => shown(other),
    }
}

fn quoted(text: &str) -> String {
    Value::from(shortened(text)).to_string()
}

fn difference(index: usize, what: What, is: Option<String>, would_be: Option<String>) -> Difference {
    Difference { index, what, path: None, is, would_be }
}

impl What {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            What::Elements => "elements",
            What::Verdict => "verdict",
            What::IncidentKey => "incident_key",
            What::Occurrence => "occurrence",
            What::Body => "body",
        }
    }
}

/// More than a person reads of one payload; each is a few hundred bytes.
pub(crate) const DIFFERENCES_MAX: usize = 50;
