//! Holds back a key or a whole source until a person releases it.
//!
//! The journal takes a hold before the dispatcher is told, so that a restart holds what was held. One change is made at a
//! time, and to its end also when its sender is gone, so that the journal and the dispatcher agree.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::json_body;
use super::guard::who;
use super::problem::{Reply, bad_request, meant, problem, unavailable};
use super::{State, View};
use crate::clock::WallTime;
use crate::event::{self, HoldRecord, HoldTarget};
use crate::inbound::request_id;
use crate::journal::request::{HOLDS_MAX, HoldChange, Unavailable};
use crate::journal::{CommandOrigin, Filter, Summary};

/// A key or a source, as a command names it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    source: Option<String>,
    key: Option<String>,
}

/// `GET /api/v1/holds`: the holds in force.
pub(super) async fn list(Extract(state): Extract<State>) -> Response {
    Json(json!({ "holds": shown(&state.view.recorder.holds()) })).into_response()
}

/// `POST /api/v1/events/hold`, with `{"source": …}` or `{"key": …, "source": …}`; the source may be left out where there
/// is but one.
pub(super) async fn hold(extract: Extract<State>, request: Request) -> Reply {
    change(extract, request, true).await
}

/// `POST /api/v1/events/release`: likewise.
pub(super) async fn release(extract: Extract<State>, request: Request) -> Reply {
    change(extract, request, false).await
}

async fn change(Extract(state): Extract<State>, request: Request, held: bool) -> Reply {
    let by = who(&state, &request);
    let bytes = json_body(&state, request, BODY_BYTES_MAX).await?;
    let target = serde_json::from_slice(&bytes)
        .map_err(|error| format!("it takes {{\"source\": …}} or {{\"key\": …, \"source\": …}}: {error}"))
        .and_then(|named| target(named, &state.view.sources))
        .map_err(bad_request)?;
    let waiting = waiting(&state.view, &target).await?;
    let known = waiting > 0 || state.view.recorder.holds().iter().any(|held| held.target.source == target.source);
    if !known {
        check_source(&target.source, &state.view.sources).map_err(bad_request)?;
    }
    let (view, changing) = (state.view.clone(), target.clone());
    let origin = Arc::new(CommandOrigin { request_id: request_id(WallTime::now()), by, selection: None });
    let done = tokio::spawn(async move { carry_out(&view, changing, held, &origin).await })
        .await
        .map_err(|_| problem(StatusCode::INTERNAL_SERVER_ERROR, "the command failed; see the log"))?
        .map_err(unavailable)?;
    match (done, held) {
        (HoldChange::TooMany, _) => {
            let detail = format!("{HOLDS_MAX} holds are in force; release some, or hold a whole source");
            Err(problem(StatusCode::CONFLICT, &detail))
        }
        (HoldChange::AsItWas, false) => Err(problem(StatusCode::NOT_FOUND, &format!("{target} is not held"))),
        (done, _) => Ok(Json(json!({
            "status": if held { "held" } else { "released" },
            "source": &*target.source,
            "key": target.incident_key.as_deref(),
            "changed": done == HoldChange::Changed,
            "waiting": waiting,
        }))
        .into_response()),
    }
}

/// The target that a command names; its source may be left out where there is but one.
fn target(named: Named, sources: &[String]) -> Result<HoldTarget, String> {
    let source = match (named.source, sources) {
        (Some(source), _) => source,
        (None, _) if named.key.is_none() => return Err("name a `source`, or a `key`".to_owned()),
        (None, [source]) => source.clone(),
        (None, _) => return Err(format!("a key is one of a source: name the `source` too, of {}", sources.join(", "))),
    };
    Ok(HoldTarget { source: source.into(), incident_key: named.key.map(Into::into) })
}

fn check_source(source: &str, sources: &[String]) -> Result<(), String> {
    if sources.iter().any(|known| known == source) {
        return Ok(());
    }
    let meant = meant(source, sources.iter().map(String::as_str));
    Err(format!("no source `{source}` is configured{meant}, and nothing of it waits; there are {}", sources.join(", ")))
}

/// Counts the events of a target that are queued.
async fn waiting(view: &View, target: &HoldTarget) -> Result<usize, Response> {
    let filter = Filter {
        states: vec![event::State::Queued],
        source: Some(target.source.to_string()),
        key: target.incident_key.as_deref().map(str::to_owned),
        ..Filter::default()
    };
    view.journal.read(move |reader| reader.count(&filter, COUNTED_MAX)).await
}

async fn carry_out(
    view: &View,
    target: HoldTarget,
    held: bool,
    origin: &Arc<CommandOrigin>,
) -> Result<HoldChange, Unavailable> {
    let _one = view.hold_lock.lock().await;
    let done = view.recorder.hold(target.clone(), held, origin).await?;
    if done == HoldChange::TooMany {
        return Ok(done);
    }
    view.queue.hold(target.clone(), held).await;
    if done == HoldChange::Changed {
        let (source, incident_key) = (&*target.source, target.incident_key.as_deref());
        if held {
            tracing::warn!(
                source,
                incident_key,
                "a person holds this back: nothing of it is sent until it is released"
            );
        } else {
            tracing::info!(source, incident_key, "a person released this: it is sent again");
        }
    }
    Ok(done)
}

/// Holds as the API shows them.
pub(super) fn shown(holds: &[HoldRecord]) -> Vec<Value> {
    let one = |held: &HoldRecord| {
        json!({
            "source": &*held.target.source,
            "key": held.target.incident_key.as_deref(),
            "since": held.since.rfc3339(),
        })
    };
    holds.iter().map(one).collect()
}

/// Marks the events of a list that are held back.
pub(super) fn mark(events: &mut [Summary], holds: &[HoldRecord]) {
    if holds.is_empty() {
        return;
    }
    for event in events.iter_mut().filter(|event| event.state == event::State::Queued.as_str()) {
        let Some(key) = event.incident_key.as_deref() else { continue };
        let by = holds.iter().find(|held| held.target.covers(&event.source, key));
        event.held = by.map(|held| held.target.kind());
    }
}

const BODY_BYTES_MAX: usize = 16 * 1024;
/// Counting further would only take time.
const COUNTED_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_key_or_a_source_and_the_only_source_need_not_be_named() {
        let (one, two) = (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]);
        let text = |text: &str| Some(text.to_owned());
        for (source, key, sources, expected) in [
            (text("b"), None, &two, Ok("source `b`")),
            (text("b"), text("k"), &two, Ok("key `k` of source `b`")),
            (None, text("k"), &one, Ok("key `k` of source `a`")),
            (None, text("k"), &two, Err("name the `source` too, of a, b")),
            (None, None, &one, Err("name a `source`, or a `key`")),
        ] {
            let found = target(Named { source, key }, sources).map(|target| target.to_string());
            match expected {
                Ok(expected) => assert_eq!(found.as_deref(), Ok(expected)),
                Err(said) => assert!(found.unwrap_err().contains(said)),
            }
        }
        assert!(check_source("a", &two).is_ok());
        assert!(check_source("servicepilo", &["servicepilot".to_owned()]).unwrap_err().contains("`servicepilot`?"));
    }

    #[test]
    fn what_is_queued_and_held_is_marked() {
        let summary = |source: &str, key: &str, state: &str| Summary {
            id: "1".to_owned(),
            source: source.to_owned(),
            action: Some("trigger".to_owned()),
            incident_key: Some(key.to_owned()),
            state: state.to_owned(),
            outcome: None,
            reason: None,
            rule: None,
            received_at: String::new(),
            attempts: 0,
            trace_id: None,
            held: None,
            replayed_by: Vec::new(),
            error: None,
            differences: None,
        };
        let hold = |source: &str, key: Option<&str>| HoldRecord {
            target: HoldTarget { source: source.into(), incident_key: key.map(Into::into) },
            since: WallTime(0),
        };
        let mut events = [
            summary("a", "k", "queued"),
            summary("a", "other", "queued"),
            summary("b", "k", "queued"),
            summary("b", "k", "delivered"),
        ];
        mark(&mut events, &[hold("a", Some("k")), hold("b", None)]);
        assert_eq!(events.map(|event| event.held), [Some("key"), None, Some("source"), None]);
    }
}
