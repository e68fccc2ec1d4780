//! An event that a relay has recorded, with the payload that it came in.

use serde_json::Value;

use super::terminal::plain;
use crate::clock::WallTime;
use crate::event::{Action, Body, Draft, Occurrence, Priority, UpdateHash};
use crate::inbound::{NotJson, read_payload, request_time};
use crate::rules::Element;

/// A recorded event.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) source: String,
    pub(crate) received_at: String,
    pub(crate) payload: Value,
    /// The element of a batch that was refused; `payload` is then the whole.
    pub(crate) element: Option<Value>,
    /// The event as the API tells it.
    pub(crate) details: Value,
}

impl Recorded {
    /// From what the API tells of it; the error says why there is nothing to decide.
    pub(crate) fn of(details: Value) -> Result<Recorded, String> {
        let text = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
        let payload =
            payload(&details).ok_or("what was received is not kept any more; see `journal.keep_delivered`")?;
        let payload = payload.map_err(|not_json| {
            let id = details["id"].as_str().unwrap_or("ID");
            format!(
                "what was received is no JSON: {} (line {}, column {}); `gander events show {id}` shows it as it came",
                not_json.problem, not_json.line, not_json.column
            )
        })?;
        let element = details.get("element").cloned();
        // The rules knew when the request came, the journal when it was written.
        let received_at = request_time(&text("request_id")).map_or_else(|| text("received_at"), WallTime::rfc3339);
        Ok(Recorded { source: text("source"), received_at, payload, element, details })
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

/// The payload as the relay read it; none where it is not kept any more.
pub(crate) fn payload(details: &Value) -> Option<Result<Value, NotJson>> {
    let received = match details["received_hex"].as_str() {
        Some(text) => hex::decode(text).ok(),
        None => details["received"].as_str().map(|text| text.as_bytes().to_vec()),
    };
    Some(read_payload(&received?, details["charset"].as_str()))
}
