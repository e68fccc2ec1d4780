//! Replays and discards: one event, or a page of them by filter.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Request, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::body::{Members, json_body};
use super::discard::{DiscardResult, discard_queued};
use super::guard::who;
use super::holds;
use super::problem::{Reply, bad_request, meant, problem, problem_with, unavailable};
use super::selection::{Selection, cursor};
use super::{State, View};
use crate::clock::WallTime;
use crate::delivery::dispatcher::UpstreamStatus;
use crate::event::{self, EventId, KeyId, Violation};
use crate::inbound::{Replayed, request_id};
use crate::journal::request::{Command, Commanded, Declined, Unavailable};
use crate::journal::{CommandOrigin, Summary};

/// How a command for one event ended.
enum Done {
    /// One object for each event that was made of it.
    Replayed(Vec<Value>),
    Discarded,
    /// It is to be discarded, and a call of it is under way.
    UnderWay,
    /// A refused payload that the rules refuse as before.
    RefusedAgain(Vec<Violation>),
    Declined {
        reason: &'static str,
        detail: String,
    },
}

/// An event that a command is about, as it stood a moment ago.
#[derive(Clone, Copy)]
struct Chosen {
    id: EventId,
    /// A payload that the rules refused: they decide on it anew.
    refused: bool,
    /// Where it is queued, its key.
    queued: Option<KeyId>,
}

/// The options of a command, and the rest of its body.
struct Options {
    force: bool,
    dry_run: bool,
    rest: Map<String, Value>,
}

/// `POST /api/v1/events/ID/replay`, with `{"force": true}` or nothing; of a refused payload also with a corrected one
/// to stand in its stead, `{"payload": TEXT}`.
pub(super) async fn replay(extract: Extract<State>, path: Path<String>, request: Request) -> Reply {
    one(extract, path, request, |force| Command::Replay { force }).await
}

/// `POST /api/v1/events/ID/discard`.
pub(super) async fn discard(extract: Extract<State>, path: Path<String>, request: Request) -> Reply {
    one(extract, path, request, |_| Command::Discard).await
}

/// `POST /api/v1/events/replay`: a page by filter, oldest first, `next` being the `after` of the next page.
pub(super) async fn replay_selected(extract: Extract<State>, request: Request) -> Reply {
    selected(extract, request, |force| Command::Replay { force }).await
}

/// `POST /api/v1/events/discard`: likewise.
pub(super) async fn discard_selected(extract: Extract<State>, request: Request) -> Reply {
    selected(extract, request, |_| Command::Discard).await
}

async fn one(
    Extract(state): Extract<State>,
    Path(id): Path<String>,
    request: Request,
    command: impl FnOnce(bool) -> Command,
) -> Reply {
    let by = who(&state, &request);
    let payload_max = state.view.ingest.body_bytes_max();
    let mut options = options(&state, request, BODY_BYTES_MAX + ESCAPE_BYTES * payload_max).await?;
    let command = command(options.force);
    let corrected = match (command, options.rest.shift_remove("payload")) {
        (_, None) => None,
        (Command::Replay { .. }, Some(Value::String(text))) if text.len() <= payload_max => Some(Bytes::from(text)),
        (Command::Replay { .. }, Some(Value::String(text))) => {
            let detail = format!("`payload` has {} bytes, and `listen.max_body` is {payload_max}", text.len());
            return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, &detail));
        }
        (Command::Replay { .. }, Some(_)) => return Err(bad_request("`payload` takes the payload's text, a string")),
        (Command::Discard, Some(_)) => return Err(bad_request("only a replay takes a `payload`")),
    };
    if options.dry_run {
        return Err(bad_request(
            "`dry_run` counts what a filter chooses; a command for one event has nothing to count",
        ));
    }
    if let Some(unknown) = options.rest.keys().next() {
        return Err(bad_request(format!(
            "a command for one event takes `force` only, and a replay `payload`; not `{unknown}`"
        )));
    }
    let id: EventId = id.parse().map_err(|_| problem(StatusCode::NOT_FOUND, "an event's id is a number"))?;
    let mut found = state.view.journal.read(move |reader| reader.summaries(&[id])).await?;
    holds::mark(&mut found, &state.view.recorder.holds());
    let Some(summary) = found.first() else {
        return Ok(Done::of_declined(Declined::NotKept).alone(id));
    };
    let chosen = Chosen::of(id, summary);
    if corrected.is_some() && !chosen.refused {
        let detail = "only a refused payload is replayed with another; this one was decided, and is sent as it is";
        return Ok(Done::Declined { reason: "not_refused", detail: detail.to_owned() }.alone(id));
    }
    let origin = CommandOrigin { request_id: request_id(WallTime::now()), by, selection: None };
    let (mut done, stopped) = carry_out(&state.view, command, &[chosen], corrected, &Arc::new(origin)).await;
    match (done.pop(), stopped) {
        (Some((id, done)), _) => Ok(done.kept_by(summary.held, &state.view).alone(id)),
        (None, Some(why)) => Err(unavailable(why)),
        (None, None) => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "the command came to nothing; see the log")),
    }
}

async fn selected(Extract(state): Extract<State>, request: Request, command: impl Fn(bool) -> Command) -> Reply {
    let by = who(&state, &request);
    let Options { force, dry_run, rest } = options(&state, request, BODY_BYTES_MAX).await?;
    let (view, words) = (&state.view, chosen_by(&rest));
    let mut filter = Selection::of_command(rest)
        .and_then(|selection| selection.command(WallTime::now(), SELECTED_AT_ONCE))
        .map_err(bad_request)?;
    // One that is misspelt would pass for one of which nothing is left.
    let misspelt = filter.source.clone().filter(|source| filter.after.is_none() && !view.sources.contains(source));
    if let Some(source) = misspelt {
        let one = filter.clone();
        if view.journal.read(move |reader| reader.count(&one, 1)).await? == 0 {
            let meant = meant(&source, view.sources.iter().map(String::as_str));
            return Err(bad_request(format!("no source `{source}` is configured{meant}, and nothing of it matches")));
        }
    }
    if matches!(command(force), Command::Replay { .. }) && filter.states.contains(&event::State::Queued) {
        return Err(bad_request(WAITS));
    }
    if dry_run {
        let matching = view.journal.read(move |reader| reader.count(&filter, COUNTED_MAX)).await?;
        return Ok(Json(json!({ "matching": matching, "at_least": matching == COUNTED_MAX })).into_response());
    }
    let page = view.journal.read(move |reader| {
        let until = match filter.until {
            Some(until) => until,
            None => reader.newest()?,
        };
        filter.until = Some(until);
        Ok((until, reader.list(&filter)?))
    });
    let (until, page) = page.await?;
    let events: Vec<Chosen> =
        page.events.iter().filter_map(|event| Some(Chosen::of(event.id.parse().ok()?, event))).collect();
    let origin = CommandOrigin { request_id: request_id(WallTime::now()), by, selection: Some(words) };
    let (done, stopped) = carry_out(view, command(force), &events, None, &Arc::new(origin)).await;
    let next = match (&stopped, done.last()) {
        (None, Some((last, _))) if page.next.is_some() => Some(cursor(*last, until)),
        (Some(why), None) => return Err(unavailable(*why)),
        // What is left starts behind what was done.
        (Some(_), Some((last, _))) => Some(cursor(*last, until)),
        _ => None,
    };
    let results: Vec<Value> = done.into_iter().map(|(id, done)| done.listed(id)).collect();
    let stopped = stopped.map(Unavailable::as_str);
    Ok(Json(json!({ "results": results, "next": next, "stopped": stopped })).into_response())
}

/// Carries out a command for each event, in order: refused payloads are replayed through the rules, and what is queued is
/// discarded by the dispatcher. Where it can't go on, what was done until then and why. `corrected`: the payload to
/// replay in the stead of a refused one.
async fn carry_out(
    view: &View,
    command: Command,
    events: &[Chosen],
    corrected: Option<Bytes>,
    origin: &Arc<CommandOrigin>,
) -> (Vec<(EventId, Done)>, Option<Unavailable>) {
    let mut done = Vec::with_capacity(events.len());
    let mut stopped = None;
    let by = |chosen: &Chosen| match command {
        Command::Replay { .. } if chosen.refused => By::Rules,
        Command::Discard if chosen.queued.is_some() => By::Dispatcher,
        _ => By::Recorder,
    };
    for run in events.chunk_by(|one, next| by(one) == by(next)) {
        let ids: Vec<EventId> = run.iter().map(|chosen| chosen.id).collect();
        let (results, why) = match by(&run[0]) {
            By::Rules => {
                let force = command == Command::Replay { force: true };
                through_the_rules(view, &ids, force, corrected.as_ref(), origin).await
            }
            By::Dispatcher => {
                let queued: Vec<_> = run.iter().filter_map(|chosen| Some((chosen.id, chosen.queued?))).collect();
                let (discarded, why) = discard_queued(view, &queued, origin).await;
                (discarded.into_iter().map(Done::of_discard).collect(), why)
            }
            By::Recorder => match view.recorder.command(command, &ids, origin).await {
                Ok(commanded) => (commanded.into_iter().map(Done::of).collect(), None),
                Err(why) => (Vec::new(), Some(why)),
            },
        };
        done.extend(ids.into_iter().zip(results));
        if why.is_some() {
            stopped = why;
            break;
        }
    }
    tell(command, &done, events.len(), origin);
    (done, stopped)
}

/// Who carries a command out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rules,
    Dispatcher,
    Recorder,
}

async fn through_the_rules(
    view: &View,
    ids: &[EventId],
    force: bool,
    corrected: Option<&Bytes>,
    origin: &Arc<CommandOrigin>,
) -> (Vec<Done>, Option<Unavailable>) {
    let mut done = Vec::with_capacity(ids.len());
    for id in ids {
        match one_through_the_rules(view, *id, force, corrected, origin).await {
            Ok(one) => done.push(one),
            Err(why) => return (done, Some(why)),
        }
    }
    (done, None)
}

async fn one_through_the_rules(
    view: &View,
    id: EventId,
    force: bool,
    corrected: Option<&Bytes>,
    origin: &Arc<CommandOrigin>,
) -> Result<Done, Unavailable> {
    let payload = match view.journal.read(move |reader| reader.refused(id)).await {
        Ok(Some(payload)) => payload,
        Ok(None) => return Ok(Done::of_declined(Declined::NotKept)),
        Err(_) => return Err(Unavailable::JournalFault),
    };
    let source = payload.source.clone();
    Ok(match view.ingest.replay(payload, corrected.cloned(), force, origin).await {
        Replayed::Taken(events) => Done::Replayed(events),
        Replayed::RefusedAgain(violations) => Done::RefusedAgain(violations),
        Replayed::Declined(declined) => Done::of_declined(declined),
        Replayed::SeveralElements(elements) => Done::Declined {
            reason: "several_elements",
            detail: format!(
                "it is one element of a batch, and the payload in its stead holds {elements}: leave in the list only the \
                 one that is corrected, for the others were decided"
            ),
        },
        Replayed::NoSource => Done::Declined {
            reason: "no_source",
            detail: format!(
                "there is no source `{source}` in the configuration any more, so there are no rules for it"
            ),
        },
        Replayed::CutOff => Done::Declined {
            reason: "cut_off",
            detail:
                "it is larger than `listen.max_body` was, and only its beginning is kept; the sender must send it again"
                    .to_owned(),
        },
        Replayed::NoBatch => Done::Declined {
            reason: "no_batch",
            detail:
                "it is one element of a batch, and the batch as a whole is not kept any more; the sender must send it \
                     again"
                    .to_owned(),
        },
        Replayed::Unavailable(why) => return Err(why),
    })
}

/// One line a command: somebody changed what is delivered.
fn tell(command: Command, done: &[(EventId, Done)], asked: usize, origin: &CommandOrigin) {
    let Some((first, _)) = done.first() else {
        return;
    };
    let carried_out = |done: &Done| matches!(done, Done::Replayed(_) | Done::Discarded | Done::UnderWay);
    let carried_out = done.iter().filter(|(_, done)| carried_out(done)).count();
    let (CommandOrigin { request_id, by, .. }, event) = (origin, first.0);
    let (command, force) = (command.as_str(), command == Command::Replay { force: true });
    tracing::info!(
        request_id = &**request_id,
        by = &**by,
        command,
        force,
        event,
        asked,
        done = carried_out,
        "a person commanded over kept events"
    );
}

impl Chosen {
    fn of(id: EventId, summary: &Summary) -> Chosen {
        let queued = summary.state == event::State::Queued.as_str();
        let key = summary.incident_key.as_deref().filter(|_| queued);
        Chosen { id, refused: summary.action.is_none(), queued: key.map(|key| KeyId::new(&summary.source, key)) }
    }
}

impl Done {
    fn of(commanded: Commanded) -> Done {
        match commanded {
            Commanded::Replayed { id, action, incident_key, .. } => Done::Replayed(vec![json!({
                "id": id, "status": "queued", "action": action.as_str(), "incident_key": incident_key,
            })]),
            Commanded::Discarded { .. } => Done::Discarded,
            Commanded::Declined(declined) => Done::of_declined(declined),
        }
    }

    fn of_discard(result: DiscardResult) -> Done {
        match result {
            DiscardResult::Ended => Done::Discarded,
            DiscardResult::UnderWay => Done::UnderWay,
            DiscardResult::Declined(declined) => Done::of_declined(declined),
        }
    }

    /// Says of an event that waits what keeps it, where the journal does not know that: then no time is known either.
    fn kept_by(self, held: Option<&str>, view: &View) -> Done {
        let waiting = Declined::Waiting { next: None }.as_str();
        let Done::Declined { reason, detail } = self else { return self };
        let is_down = matches!(&*view.upstream_status.borrow(), UpstreamStatus::Unavailable { .. });
        let kept = match held {
            _ if reason != waiting => None,
            Some(by) => Some(format!("a person holds its {by} back: it goes out when that is released")),
            None => is_down.then(|| "it waits until the upstream takes events again, see /readyz".to_owned()),
        };
        let kept = kept.map(|kept| format!("{kept}; it can be replayed when it has ended"));
        Done::Declined { reason, detail: kept.unwrap_or(detail) }
    }

    fn of_declined(declined: Declined) -> Done {
        Done::Declined { reason: declined.as_str(), detail: declined.explain() }
    }

    /// As one of several results.
    fn listed(self, id: EventId) -> Value {
        match self {
            Done::Replayed(events) => json!({ "id": id, "status": "replayed", "events": events }),
            Done::Discarded => json!({ "id": id, "status": "discarded" }),
            Done::UnderWay => json!({ "id": id, "status": "under_way", "detail": UNDER_WAY }),
            Done::RefusedAgain(errors) => json!({ "id": id, "status": "refused", "errors": errors }),
            Done::Declined { reason, detail } => {
                json!({ "id": id, "status": "declined", "reason": reason, "detail": detail })
            }
        }
    }

    /// As the whole answer.
    fn alone(self, id: EventId) -> Response {
        match self {
            Done::RefusedAgain(errors) => problem_with(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the rules that are loaded now refuse it as well; it stays as it was",
                &[("errors", json!(errors))],
            ),
            Done::Declined { reason, detail } => {
                let status = match reason {
                    "not_kept" => StatusCode::NOT_FOUND,
                    "backlog" => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::CONFLICT,
                };
                problem_with(status, &detail, &[("reason", json!(reason))])
            }
            Done::UnderWay => (StatusCode::ACCEPTED, Json(Done::UnderWay.listed(id))).into_response(),
            done => Json(done.listed(id)).into_response(),
        }
    }
}

/// The words of a filter that chooses events, as JSON, without those that lead through its pages.
fn chosen_by(words: &Map<String, Value>) -> Arc<str> {
    let chosen = words.iter().filter(|(name, _)| !["after", "limit"].contains(&name.as_str()));
    let chosen: Map<String, Value> = chosen.map(|(name, value)| (name.clone(), value.clone())).collect();
    Value::Object(chosen).to_string().into()
}

/// Reads the body of a command.
async fn options(state: &State, request: Request, bytes_max: usize) -> Result<Options, Response> {
    let bytes = json_body(state, request, bytes_max).await?;
    let mut rest = match bytes.trim_ascii() {
        b"" => Map::new(),
        text => serde_json::from_slice(text)
            .map(|Members(members)| members)
            .map_err(|error| bad_request(format!("a command is a JSON object, as {{\"force\": true}}: {error}")))?,
    };
    let mut flag = |name: &str| match rest.shift_remove(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(other) => Err(format!("`{name}` takes true or false; it is {other}")),
    };
    let flags = flag("force").and_then(|force| Ok((force, flag("dry_run")?)));
    let (force, dry_run) = flags.map_err(bad_request)?;
    Ok(Options { force, dry_run, rest })
}

/// Events that one call by filter is about: it answers within a moment.
const SELECTED_AT_ONCE: usize = 100;
const WAITS: &str = "what is queued is sent anyway: replay what has ended, as `dead`, `refused` or `delivered`";
const UNDER_WAY: &str = "a call of it is under way: it ends after that, delivered or discarded, and is not tried again";
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The most that a byte of a payload takes within a JSON string: `\u0001`.
const ESCAPE_BYTES: usize = 6;
/// Counting further would only take time.
const COUNTED_MAX: usize = 100_000;
