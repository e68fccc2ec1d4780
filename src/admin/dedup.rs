//! `POST /api/v1/dedup`: previews what deduplication would decide on events that did not come yet. Changes nothing.

use axum::Json;
use axum::extract::{Request, State as Extract};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::State;
use super::body::json_body;
use super::problem::{Reply, bad_request, problem};
use crate::event::{Action, Draft, EventId, KeyId, Occurrence, UpdateHash};
use crate::journal::dedup::{DedupDecision, Preview};
use crate::journal::request::Expected;
use crate::rules::ELEMENTS_MAX;

/// Events that would come together, one after the other, as the elements of a batch do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    pub source: String,
    pub events: Vec<Asked>,
}

/// An event as the rules made it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    incident_key: String,
    action: String,
    /// A JSON list, as text.
    #[serde(default)]
    occurrence: Option<String>,
    /// The hash of the `update_on` values.
    #[serde(default)]
    update_hash: u64,
}

pub(super) async fn preview(Extract(state): Extract<State>, request: Request) -> Reply {
    let bytes = json_body(&state, request, BODY_BYTES_MAX).await?;
    let question: Question =
        serde_json::from_slice(&bytes).map_err(|error| bad_request(format!("{error}; it takes {SHAPE}")))?;
    if question.events.len() > ELEMENTS_MAX {
        return Err(bad_request(format!("a question is about at most {ELEMENTS_MAX} events")));
    }
    let expected: Result<Vec<Expected>, String> =
        question.events.into_iter().map(|asked| asked.expected(&question.source)).collect();
    match state.view.recorder.preview(expected.map_err(bad_request)?).await {
        Some(previews) => Ok(Json(answer(&previews)).into_response()),
        None => Err(problem(StatusCode::SERVICE_UNAVAILABLE, "the journal can't be written now; see /readyz")),
    }
}

impl Asked {
    pub(crate) fn of(draft: &Draft) -> Asked {
        Asked {
            incident_key: draft.incident_key.clone(),
            action: draft.action.as_str().to_owned(),
            occurrence: draft.occurrence.as_ref().map(|occurrence| occurrence.0.to_string()),
            update_hash: draft.update.0,
        }
    }

    pub(crate) fn expected(self, source: &str) -> Result<Expected, String> {
        let Some(action) = [Action::Trigger, Action::Resolve].into_iter().find(|a| a.as_str() == self.action) else {
            return Err(format!("`action` takes trigger or resolve; it is `{}`", self.action));
        };
        Ok(Expected {
            key: KeyId::new(source, &self.incident_key),
            action,
            update: UpdateHash(self.update_hash),
            occurrence: self.occurrence.map(|text| Occurrence(text.into())),
        })
    }
}

/// The decision of each, and what would be known of its key.
pub(crate) fn answer(previews: &[Preview]) -> Value {
    json!({ "events": previews.iter().map(one).collect::<Vec<Value>>() })
}

fn one(preview: &Preview) -> Value {
    let rests_on = preview.rests_on;
    // An event that did not come yet has a place instead of a number.
    let number = |event: EventId| rests_on.is_none().then(|| event.to_string());
    let (decision, why, of) = match preview.decision {
        DedupDecision::Take(novelty) => ("taken", novelty.as_str(), None),
        DedupDecision::Duplicate { of, why } => ("duplicate", why.as_str(), Some(of)),
    };
    let known = preview.known.as_ref().map(|known| {
        json!({
            "state": match known.last_action {
                Action::Trigger => "open",
                Action::Resolve => "resolved",
            },
            "event": number(known.last),
            "event_index": rests_on,
            "taken_seconds_ago": preview.now.since(known.taken).as_secs(),
            "waiting": known.waiting,
            "occurrence": known.occurrences.last.as_ref().map(|occurrence| &*occurrence.0),
        })
    });
    let of_index = of.and(rests_on);
    json!({ "decision": decision, "why": why, "of": of.and_then(number), "of_index": of_index, "known": known })
}

/// The keys of the largest batch that may be.
const BODY_BYTES_MAX: usize = 16 << 20;
const SHAPE: &str =
    "{\"source\": NAME, \"events\": [{\"incident_key\": TEXT, \"action\": \"trigger\" or \"resolve\", …}]}";
