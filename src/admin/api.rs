//! The API's answers to GET, path by path. Shapes as in config/MONITORING.md; errors are RFC 9457 problem documents.

use axum::Json;
use axum::extract::{Query, Request, State as Extract};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::State;
use super::guard::may_see_details;
use super::holds;
use super::problem::{Reply, bad_request, meant, problem};
use super::readiness::readiness;
use super::selection::Selection;
use super::unseen;
use crate::clock::WallTime;
use crate::event::EventId;
use crate::journal::{Filter, Page, Summary};

/// `GET /healthz`: the process is alive.
pub(super) async fn health() -> Response {
    Json(json!({ "status": "alive" })).into_response()
}

/// `GET /readyz`: 200 while events are taken, else 503.
pub(super) async fn ready(Extract(state): Extract<State>, request: Request) -> Response {
    let readiness = readiness(&state.view);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if may_see_details(&state, &request) {
        return (status, Json(readiness)).into_response();
    }
    (status, Json(json!({ "ready": readiness.ready }))).into_response()
}

/// `GET /api/v1/events`: newest first; `next` is the `after` of the next page. Where nothing is found, it is told what was
/// not looked at.
pub(super) async fn events(Extract(state): Extract<State>, uri: Uri) -> Reply {
    let filter =
        Selection::of_query(&uri).and_then(|selection| selection.list(WallTime::now())).map_err(bad_request)?;
    Ok(Json(list(&state, filter).await?).into_response())
}

/// The events that are selected.
pub(super) async fn list(state: &State, filter: Filter) -> Result<Listed, Response> {
    let found = state.view.journal.read(move |reader| {
        let page = reader.list(&filter)?;
        let scope = if page.events.is_empty() { Some(reader.scope()?) } else { None };
        Ok((filter, page, scope))
    });
    let (filter, mut page, scope) = found.await?;
    holds::mark(&mut page.events, &state.view.recorder.holds());
    let not_looked_at = scope.map(|scope| unseen::not_looked_at(&filter, &page, scope, &state.view.sources));
    Ok(Listed { page, not_looked_at })
}

/// A page of events.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    #[serde(flatten)]
    pub(super) page: Page,
    /// Where there are none: sentences on what the filter could not find.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_looked_at: Option<Vec<String>>,
}

/// The triggers on which open incidents rest, newest first.
pub(super) async fn open_incidents(state: &State) -> Result<Vec<Summary>, Response> {
    let Some(open) = state.view.recorder.open_incidents(INCIDENTS_MAX).await else {
        return Err(problem(StatusCode::SERVICE_UNAVAILABLE, "the journal can't be read now; see /readyz"));
    };
    state.view.journal.read(move |reader| reader.summaries(&open)).await
}

/// `GET /api/v1/commands`: what people commanded, newest first; with `event=ID` what was about it.
pub(super) async fn commands(Extract(state): Extract<State>, uri: Uri) -> Reply {
    let CommandsAsked { event, after, limit } = CommandsAsked::of_query(&uri).map_err(bad_request)?;
    let page = state.view.journal.read(move |reader| reader.commands(event.map(EventId), after, limit)).await?;
    Ok(Json(page).into_response())
}

/// The words of a query for commands.
#[derive(Debug, PartialEq, Eq)]
struct CommandsAsked {
    event: Option<u64>,
    /// The `next` of the page before.
    after: Option<u64>,
    limit: usize,
}

impl CommandsAsked {
    fn of_query(uri: &Uri) -> Result<CommandsAsked, String> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|rejection| rejection.body_text())?;
        let mut asked = CommandsAsked { event: None, after: None, limit: COMMANDS_DEFAULT };
        for (name, value) in pairs {
            let wrong = |takes: &str| format!("`{name}` takes {takes}; it is `{value}`");
            match name.as_str() {
                "event" => asked.event = Some(value.parse().map_err(|_| wrong("the id of an event, a number"))?),
                "after" => asked.after = Some(value.parse().map_err(|_| wrong("the `next` of the page before"))?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=COMMANDS_MAX).contains(limit));
                    asked.limit = limit.ok_or_else(|| wrong(&format!("a number from 1 to {COMMANDS_MAX}")))?;
                }
                unknown => {
                    let meant = meant(unknown, ["event", "after", "limit"]);
                    return Err(format!("there is no `{unknown}` here{meant}; there are event, after, limit"));
                }
            }
        }
        Ok(asked)
    }
}

/// Refuses a question in a query where none is understood: an answer would pass for one to it.
pub(super) async fn without_query(request: Request, next: Next) -> Response {
    if let Some(query) = request.uri().query().filter(|query| !query.is_empty()) {
        let name = query.split(['&', '=']).next().unwrap_or_default();
        let detail =
            format!("there is no `{name}` here: this takes nothing in its query; /api/v1/events takes a filter");
        return problem(StatusCode::BAD_REQUEST, &detail);
    }
    next.run(request).await
}

pub(super) async fn unknown() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "here are the page at /, /healthz, /readyz, /metrics, /api/v1/events, /api/v1/events/ID, /api/v1/events/ID/replay and /discard, \
         /api/v1/events/replay, /discard, /hold and /release, /api/v1/holds, /api/v1/commands, /api/v1/confirmations, /api/v1/incidents, \
         /api/v1/queue, /api/v1/dedup, /api/v1/status and /api/v1/stream",
    )
}

pub(super) async fn wrong_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "what is looked at takes GET, a command takes POST; see `Allow`")
}

const COMMANDS_DEFAULT: usize = 50;
const COMMANDS_MAX: usize = 1_000;
/// More open incidents than anyone reads.
pub(super) const INCIDENTS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_about_commands_is_bounded_and_what_is_misspelt_is_told() {
        let read = |query: &str| CommandsAsked::of_query(&format!("/api/v1/commands?{query}").parse().unwrap());
        assert_eq!(read(""), Ok(CommandsAsked { event: None, after: None, limit: 50 }));
        assert_eq!(read("event=7&after=9&limit=1"), Ok(CommandsAsked { event: Some(7), after: Some(9), limit: 1 }));
        for (query, said) in [
            ("evnt=1", "did you mean `event`?"),
            ("key=k", "there is no `key` here"),
            ("event=abc", "`event` takes the id of an event, a number; it is `abc`"),
            ("limit=0", "from 1 to 1000; it is `0`"),
            ("limit=1001", "it is `1001`"),
        ] {
            assert!(read(query).unwrap_err().contains(said), "{query}");
        }
    }
}
