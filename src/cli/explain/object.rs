//! An explanation for a program.

use serde_json::{Value, json};

use super::Explanation;
use super::callgoose::Sent;
use crate::event::{Draft, Violation};
use crate::rules::Element;

pub(super) fn object(explanation: &Explanation) -> Value {
    let Explanation { decision, trace, .. } = explanation;
    let elements = decision.elements.iter().enumerate();
    let events = elements.filter_map(|(index, element)| match element {
        Element::Event(draft) => Some(event(index, draft, explanation.sent(index))),
        _ => None,
    });
    let errors: Vec<&Violation> = decision.elements.iter().flat_map(violations).collect();
    let mut object = json!({
        "verdict": decision.verdict(),
        "events": events.collect::<Value>(),
        "errors": errors,
        "trace": trace.elements,
    });
    if !trace.payload.is_empty() {
        object["reads"] = json!(trace.payload);
    }
    if let Some(callgoose) = &explanation.callgoose {
        object["filters"] = json!(callgoose.name);
    }
    if let Some(warning) = explanation.warning() {
        object["warnings"] = json!([warning]);
    }
    object
}

fn event(index: usize, draft: &Draft, sent: Option<&Sent>) -> Value {
    let mut event = json!({
        "index": index,
        "action": draft.action.as_str(),
        "rule": &*draft.rule,
        "incident_key": draft.incident_key,
        "body": draft.body.value(),
    });
    if let Some(occurrence) = &draft.occurrence {
        event["occurrence"] = json!(&*occurrence.0);
    }
    if let Some(sent) = sent {
        event["callgoose"] = sent.to_json();
    }
    event
}

fn violations(element: &Element) -> &[Violation] {
    match element {
        Element::Refused { violations, .. } => violations,
        _ => &[],
    }
}
