//! An explanation for a program.

use serde_json::{Value, json};

use super::{Explanation, callgoose};
use crate::event::{Draft, Priority, Violation};
use crate::lenient_json::Repair;
use crate::rules::Element;

pub(super) fn object(explanation: &Explanation) -> Value {
    let Explanation { decision, trace, .. } = explanation;
    let elements = decision.elements.iter().zip(&trace.elements).enumerate();
    let events = elements.filter_map(|(at, (element, trace))| match element {
        Element::Event(draft) => Some(event(at, trace.index, draft, explanation)),
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
    if !explanation.repairs.is_empty() {
        object["repaired"] = explanation.repairs.iter().map(Repair::as_str).collect();
    }
    if let Some(recorded) = &explanation.recorded {
        object["recorded"] = recorded.details.clone();
    }
    if let Some(callgoose) = &explanation.callgoose {
        object["filters"] = json!(callgoose.name);
    }
    if !explanation.warnings.is_empty() {
        object["warnings"] = json!(explanation.warnings);
    }
    object
}

/// The event of the element that is the `at`th here and was the `index`th of its payload.
fn event(at: usize, index: usize, draft: &Draft, explanation: &Explanation) -> Value {
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
    if draft.priority != Priority::default() {
        event["priority"] = json!(draft.priority.as_str());
    }
    if let Some(known) = explanation.known(at) {
        event["dedup"] = known.clone();
    }
    if let Some(sent) = explanation.sent(at) {
        event["callgoose"] = callgoose::to_json(sent);
    }
    event
}

fn violations(element: &Element) -> &[Violation] {
    match element {
        Element::Refused { violations, .. } => violations,
        _ => &[],
    }
}
