//! `GET /api/v1/events/ID`: one event, as it is or once it has changed.
//!
//! Who waits for a change costs nothing while nothing is committed. The journal's change feed wakes it, and it then looks
//! at its event's row, a few times a second at most.

use std::pin::pin;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::sleep;

use super::State;
use super::holds;
use super::kept_event::{self, KeptEvent};
use super::problem::{Reply, bad_request, meant, problem};
use crate::event::EventId;
use crate::journal::Summary;

/// The parameters beside the id.
#[derive(Debug, Default, PartialEq, Eq)]
struct Question {
    /// The `change` of an earlier answer.
    after: Option<String>,
    /// The time to wait for another one.
    wait: Option<Duration>,
}

/// An event as it is answered.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    event: KeptEvent,
    /// A word for how it stands. It is another one once the event was called, held, released or ended.
    change: String,
}

/// `GET /api/v1/events/ID`: the payload that came, the decision, the body that is sent, each attempt and answer. With
/// `wait` the answer comes when the event has changed, and at the latest after so many seconds.
pub(super) async fn event(Extract(state): Extract<State>, Path(id): Path<String>, uri: Uri) -> Reply {
    let question = Question::of_query(&uri).map_err(bad_request)?;
    let not_found = |detail| problem(StatusCode::NOT_FOUND, detail);
    let id: EventId = id.parse().map_err(|_| not_found("an event's id is a number"))?;
    if let Some(wait) = question.wait {
        until_changed(&state, id, question.after, wait).await?;
    }
    let not_kept = "no such event is kept; delivered events are kept for `journal.keep_delivered`";
    let event = kept_event::read(&state, id).await?.ok_or_else(|| not_found(not_kept))?;
    let change = change(&event.details.summary);
    Ok(Json(Shown { event, change }).into_response())
}

/// Waits until the event stands otherwise than `after`, or else than now; not longer than `wait`, and not while the relay
/// stops.
async fn until_changed(state: &State, id: EventId, after: Option<String>, wait: Duration) -> Result<(), Response> {
    let Ok(_place) = state.event_waiters.try_acquire() else {
        let detail = format!(
            "{WAITERS_MAX} requests wait for changes of events already, and no more are served: ask without `wait`, or \
             again in a while"
        );
        return Err(problem(StatusCode::SERVICE_UNAVAILABLE, &detail));
    };
    // Before the first look, so that nothing is missed between the two.
    let mut commits = state.view.recorder.commits();
    let Some(now) = standing(state, id).await? else { return Ok(()) };
    let after = after.unwrap_or_else(|| now.clone());
    if now != after {
        return Ok(());
    }
    let mut end = pin!(sleep(wait));
    loop {
        tokio::select! {
            () = state.shutdown.begun() => return Ok(()),
            () = &mut end => return Ok(()),
            committed = commits.changed() => if committed.is_err() { return Ok(()) },
        }
        if standing(state, id).await?.as_ref() != Some(&after) {
            return Ok(());
        }
        tokio::select! {
            () = &mut end => return Ok(()),
            () = sleep(BETWEEN_LOOKS) => {}
        }
    }
}

/// The event's standing now, in a word; none if it is not kept.
async fn standing(state: &State, id: EventId) -> Result<Option<String>, Response> {
    let mut found = state.view.journal.read(move |reader| reader.summaries(&[id])).await?;
    holds::mark(&mut found, &state.view.recorder.holds());
    Ok(found.first().map(change))
}

/// `queued.2`, `queued.2.key` while its key is held, `delivered.3`.
fn change(event: &Summary) -> String {
    let held = event.held.map_or_else(String::new, |by| format!(".{by}"));
    format!("{}.{}{held}", event.state, event.attempts)
}

impl Question {
    fn of_query(uri: &Uri) -> Result<Question, String> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|rejection| rejection.body_text())?;
        let mut question = Question::default();
        for (name, value) in pairs {
            match name.as_str() {
                "after" => question.after = Some(value),
                "wait" => {
                    let seconds = value.parse().ok().filter(|seconds| *seconds <= WAIT_SECONDS_MAX);
                    let seconds = seconds.ok_or_else(|| {
                        format!("`wait` takes whole seconds, at most {WAIT_SECONDS_MAX}; it is `{value}`")
                    })?;
                    question.wait = Some(Duration::from_secs(seconds));
                }
                unknown => {
                    let meant = meant(unknown, ["after", "wait"]);
                    return Err(format!("there is no `{unknown}` here{meant}; there are after, wait"));
                }
            }
        }
        if question.after.is_some() && question.wait.is_none() {
            return Err("`after` is what a `wait` begins with: give both, as `after=queued.2&wait=30`".to_owned());
        }
        Ok(question)
    }
}

/// Requests that wait at once: each may hold a connection for as long as it waits.
pub(super) const WAITERS_MAX: usize = 32;
/// Shorter than proxies usually let a request wait.
const WAIT_SECONDS_MAX: u64 = 60;
/// While there are many commits a second, an event is looked at less often.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Question, String> {
        Question::of_query(&format!("/api/v1/events/7?{query}").parse().unwrap())
    }

    #[test]
    fn a_wait_is_bounded_and_what_is_misspelt_is_told() {
        let waits = |after: Option<&str>, seconds| Question {
            after: after.map(str::to_owned),
            wait: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(read(""), Ok(Question::default()));
        assert_eq!(read("wait=0"), Ok(waits(None, 0)));
        assert_eq!(read("wait=60&after=queued.2"), Ok(waits(Some("queued.2"), 60)));
        for (query, said) in [
            ("wait=61", "at most 60"),
            ("wait=-1", "it is `-1`"),
            ("wait=", "whole seconds"),
            ("after=queued.2", "give both"),
            ("wai=3", "did you mean `wait`?"),
            ("x=1", "there is no `x` here"),
        ] {
            assert!(read(query).unwrap_err().contains(said), "{query}");
        }
    }
}
