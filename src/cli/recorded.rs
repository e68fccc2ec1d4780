//! An event that a relay has recorded, with the payload that it came in.

use serde_json::Value;

use super::input::BYTES_MAX;
use super::terminal::plain;
use crate::clock::WallTime;
use crate::event::{Action, Body, Draft, Occurrence, Priority, UpdateHash};
use crate::inbound::{Accept, Decoded, read_kept, request_time};
use crate::lenient_json::{JsonReading, Repairs};
use crate::rules::Element;

/// A recorded event.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) source: String,
    pub(crate) received_at: String,
    pub(crate) payload: Value,
    /// The repairs that it needed.
    pub(crate) repairs: Repairs,
    /// The reading of JSON in its texts.
    pub(crate) json: JsonReading,
    /// The element of a batch that was refused; `payload` is then the whole.
    pub(crate) element: Option<Value>,
    /// The event as the API tells it.
    pub(crate) details: Value,
}

impl Recorded {
    /// From what the API tells of it; the error says why there is nothing to decide. `accept`: what its source takes now.
    pub(crate) fn of(details: Value, accept: Accept) -> Result<Recorded, String> {
        let text = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
        let payload = payload(&details, accept).ok_or(NOT_KEPT)?;
        let Decoded { value: payload, repairs } = payload.map_err(|problem| {
            let id = details["id"].as_str().unwrap_or("ID");
            format!("what was received can't be read: {problem} (`gander events show {id}` shows it)")
        })?;
        let element = details.get("element").cloned();
        // What came to an event or an element was read, whatever its source does today.
        let was_read = element.is_some() || details["action"].is_string();
        let json = if was_read { JsonReading::Lenient } else { accept.json };
        // The rules knew when the request came, the journal when it was written.
        let received_at = request_time(&text("request_id")).map_or_else(|| text("received_at"), WallTime::rfc3339);
        Ok(Recorded { source: text("source"), received_at, payload, repairs, json, element, details })
    }

    /// The draft has its action and incident key.
    pub(crate) fn is_of(&self, draft: &Draft) -> bool {
        self.details["action"] == draft.action.as_str() && self.details["incident_key"] == draft.incident_key.as_str()
    }

    /// The draft has its body too.
    pub(crate) fn is_exactly(&self, draft: &Draft) -> bool {
        self.is_of(draft) && draft.body.value() == self.details["sent"]
    }

    /// The rules' decision of then. The journal does not keep the occurrence, so it is given.
    pub(crate) fn decided(&self, occurrence: Option<&Occurrence>) -> Element {
        let text = |name: &str| self.details[name].as_str();
        let action = [Action::Trigger, Action::Resolve].into_iter().find(|one| text("action") == Some(one.as_str()));
        match (action, text("incident_key")) {
            (Some(action), Some(key)) => Element::Event(Draft {
                action,
                rule: text("rule").unwrap_or_default().into(),
                incident_key: key.to_owned(),
                occurrence: occurrence.cloned(),
                update: UpdateHash::default(),
                // No difference that anyone looks at.
                priority: Priority::default(),
                body: Body::of(&self.details["sent"]),
            }),
            _ => Element::Refused { violations: Vec::new(), element: None },
        }
    }

    /// A line on what became of it.
    pub(crate) fn told(&self) -> String {
        let word = |name: &str| self.details[name].as_str();
        let event = match (word("action"), word("incident_key")) {
            (Some(action), Some(key)) => format!("{action} {key} by the rule {}, ", word("rule").unwrap_or("-")),
            _ => String::new(),
        };
        let state = word("state").unwrap_or("-");
        let why = word("outcome").or(word("reason")).map_or_else(String::new, |why| format!(" ({why})"));
        plain(&format!("{event}{state}{why}, received {}", word("received_at").unwrap_or("-")))
    }
}

/// The payload as it came; none where it is not kept any more.
pub(crate) fn received(details: &Value) -> Option<Vec<u8>> {
    match details["received_hex"].as_str() {
        Some(text) => hex::decode(text).ok(),
        None => details["received"].as_str().map(|text| text.as_bytes().to_vec()),
    }
}

/// The payload as the relay read it, and what it repaired for that, or why it can't be read; none where it is not kept any
/// more. `accept`: what its source takes now, for what was refused as no JSON.
pub(crate) fn payload(details: &Value, accept: Accept) -> Option<Result<Decoded, String>> {
    let raw = received(details)?;
    let accept = match refused_for(details) {
        Some(NOT_JSON | "content_type" | "charset" | "content_encoding") => accept,
        // The beginning of a form looks like a whole one.
        Some("body_too_large") => return Some(Err(CUT_OFF.to_owned())),
        // What was decided was read, whatever the source takes today.
        _ => Accept { json: JsonReading::Lenient, form: true, ..Accept::default() },
    };
    let read = read_kept(raw, details["charset"].as_str(), accept, BYTES_MAX);
    Some(read.map_err(|violation| violation.problem))
}

/// The reason for which a payload was refused; an end writes over that of the event, not over that of its errors.
pub(crate) fn refused_for(details: &Value) -> Option<&str> {
    details["errors"][0]["reason"].as_str().or(details["reason"].as_str())
}

pub(crate) const NOT_KEPT: &str = "what was received is not kept any more; see `journal.keep_delivered`";
const CUT_OFF: &str = "it is larger than `listen.max_body` was, and only its beginning is kept";
/// The reason of a payload that could not be read.
pub(crate) const NOT_JSON: &str = "not_json";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_refused_is_read_alike_before_and_after_its_end() {
        let forms = Accept { form: true, ..Accept::default() };
        for (reason, received, accept, is_read) in [
            ("not_json", "{\"a\": 1,}", Accept::default(), false),
            ("content_type", "a=1", Accept::default(), false),
            ("content_type", "a=1", forms, true),
            ("body_too_large", "a=1", forms, false),
            ("unprocessable", "{\"a\": 1,}", Accept::default(), true),
        ] {
            let errors = json!([{"path": "$", "problem": "p", "found": null, "reason": reason}]);
            for reason in [reason, "discarded", "replayed"] {
                let event = json!({"id": "7", "reason": reason, "received": received, "errors": errors});
                let read = payload(&event, accept).unwrap();
                assert_eq!(read.is_ok(), is_read, "{event}: {read:?}");
            }
            // An earlier version kept the reason nowhere else.
            let event = json!({"id": "7", "reason": reason, "received": received, "errors": []});
            assert_eq!(payload(&event, accept).unwrap().is_ok(), is_read, "{event}");
        }
    }
}
