//! `GET /api/v1/dedup`: what deduplication would say of an event that did not come yet. Changes nothing.

use axum::Json;
use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::State;
use super::problem::problem;
use crate::dedup::{Decision, Foresight};
use crate::event::{Action, KeyId, Occurrence, UpdateHash};
use crate::recorder::Expected;

/// An event as the rules made it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    source: String,
    key: String,
    action: String,
    /// A JSON list.
    occurrence: Option<String>,
    /// The hash of the `update_on` values.
    #[serde(default)]
    update_hash: u64,
}

pub(super) async fn foresee(
    Extract(state): Extract<State>,
    question: Result<Query<Question>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let question = match question {
        Ok(Query(question)) => question,
        Err(rejection) => return problem(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let Some(action) = [Action::Trigger, Action::Resolve].into_iter().find(|a| a.as_str() == question.action) else {
        let detail = format!("`action` takes trigger or resolve; it is `{}`", question.action);
        return problem(StatusCode::BAD_REQUEST, &detail);
    };
    let arrival = Expected {
        key: KeyId::new(&question.source, &question.key),
        action,
        update: UpdateHash(question.update_hash),
        occurrence: question.occurrence.map(|text| Occurrence(text.into())),
    };
    match state.view.recorder.foresee(arrival).await {
        Some(foresight) => Json(answer(&foresight)).into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "the journal can't be written now; see /readyz"),
    }
}

/// The decision, and what is known of the key.
pub fn answer(foresight: &Foresight) -> Value {
    let (decision, why, of) = match foresight.decision {
        Decision::Take(novelty) => ("taken", novelty.as_str(), None),
        Decision::Duplicate { of, why } => ("duplicate", why.as_str(), Some(of.to_string())),
    };
    let known = foresight.known.as_ref().map(|known| {
        json!({
            "state": match known.last_action {
                Action::Trigger => "open",
                Action::Resolve => "resolved",
            },
            "event": known.last.to_string(),
            "taken_seconds_ago": foresight.now.since(known.taken).as_secs(),
            "waiting": known.waiting,
            "occurrence": known.occurrences.last.as_ref().map(|occurrence| &*occurrence.0),
        })
    });
    json!({ "decision": decision, "why": why, "of": of, "known": known })
}
