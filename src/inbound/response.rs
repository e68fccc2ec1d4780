//! The response to a request that was recorded: one object, or a list for a batch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::handshake::Echo;
use super::preference;
use super::refusal::{PROBLEM_JSON, Problem, UNPROCESSABLE, problem_type, to_json};
use crate::callgoose::confirmation::{IncidentAction, Relation, Told};
use crate::event::{Action, EventId, Outcome, Reason, Settlement, State, Violation};
use crate::journal::request::Confirmed;

/// The reply to one element of a payload.
#[derive(Debug)]
pub(super) enum Reply {
    Event(EventReply),
    Ignored { rule: Option<Arc<str>> },
    Refused { id: EventId, violations: Vec<Violation> },
}

/// The reply to an element that is an event.
#[derive(Debug)]
pub(super) struct EventReply {
    pub(super) action: Action,
    pub(super) incident_key: String,
    /// The event that was taken, or the one that a duplicate copies.
    pub(super) id: EventId,
    pub(super) duplicate: bool,
    /// The sender waits for the event to be settled.
    pub(super) waits: bool,
    /// Present once the event is settled, while its sender waited.
    pub(super) settled: Option<Settlement>,
}

/// Ranks replies: the highest of a request decides the status of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    Nothing,
    Refused,
    Done,
    Created,
    Failed,
    Pending,
}

/// A reply as its sender reads it.
#[derive(Default, Serialize)]
struct ReplyJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<EventId>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incident_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [Violation]>,
}

#[derive(Serialize)]
struct BatchJson<'a> {
    events: Vec<ReplyJson<'a>>,
}

#[derive(Serialize)]
struct UnprocessableJson<'a> {
    #[serde(flatten)]
    problem: Problem<'a>,
    errors: Vec<IndexedViolation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<ReplyJson<'a>>>,
}

#[derive(Serialize)]
struct IndexedViolation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(flatten)]
    violation: &'a Violation,
}

/// The response with these replies. `batch`: the payload was split, so its sender expects a list. `preferred`: the
/// wait of the sender's own preference, where it was followed.
pub(super) fn recorded(
    replies: &[Reply],
    batch: bool,
    preferred: Option<Duration>,
    request_id: &str,
) -> Response<Bytes> {
    let status = status(replies);
    let list = || replies.iter().enumerate().map(|(index, reply)| reply.json(batch.then_some(index))).collect();
    let (content_type, body) = match replies {
        _ if status == StatusCode::UNPROCESSABLE_ENTITY => {
            (PROBLEM_JSON, to_json(&unprocessable(replies, batch.then(list), request_id)))
        }
        [reply] if !batch => (JSON, to_json(&reply.json(None))),
        _ => (JSON, to_json(&BatchJson { events: list() })),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().extend(preferred.and_then(preference::applied));
    response
}

/// The response to a confirmation that is on disk.
pub(super) fn confirmed(confirmed: Confirmed, told: &Told, relation: Relation) -> Response<Bytes> {
    #[derive(Serialize)]
    struct ConfirmedJson<'a> {
        id: String,
        status: &'static str,
        result: &'static str,
        event: Option<EventId>,
        incident_key: Option<&'a str>,
        action: Option<&'static str>,
    }
    let body = to_json(&ConfirmedJson {
        id: confirmed.id.to_string(),
        status: "kept",
        result: relation.as_str(),
        event: confirmed.event,
        incident_key: told.incident_key.as_deref(),
        action: told.action.map(IncidentAction::as_str),
    });
    let mut response = with_type(JSON, body);
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// The response to a confirmation that was acknowledged before.
pub(super) fn repeated() -> Response<Bytes> {
    let mut response = Response::new(to_json(&ReplyJson { status: DUPLICATE, ..ReplyJson::default() }));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The response to a probe, the same whatever the state of the relay: `/readyz` tells that, to operators.
pub(super) fn probe() -> Response<Bytes> {
    with_type(JSON, Bytes::from_static(br#"{"status":"ok"}"#))
}

/// The response to a handshake.
pub(super) fn echo(echo: Echo) -> Response<Bytes> {
    match echo {
        Echo::Text(text) => with_type(TEXT, text.into()),
        Echo::Json(json) => with_type(JSON, json.into()),
    }
}

fn with_type(content_type: HeaderValue, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    // The text is the sender's: nothing may take it for a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The status of a response; a batch of which every element was ignored is fine.
fn status(replies: &[Reply]) -> StatusCode {
    match replies.iter().map(Reply::precedence).max().unwrap_or(Precedence::Nothing) {
        Precedence::Nothing | Precedence::Done => StatusCode::OK,
        Precedence::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Precedence::Created => StatusCode::CREATED,
        Precedence::Failed => StatusCode::BAD_GATEWAY,
        Precedence::Pending => StatusCode::ACCEPTED,
    }
}

fn unprocessable<'a>(
    replies: &'a [Reply],
    events: Option<Vec<ReplyJson<'a>>>,
    request_id: &'a str,
) -> UnprocessableJson<'a> {
    let mut errors = Vec::new();
    let mut only_id = None;
    for (index, reply) in replies.iter().enumerate() {
        if let Reply::Refused { id, violations } = reply {
            let index = events.is_some().then_some(index);
            errors.extend(violations.iter().map(|violation| IndexedViolation { index, violation }));
            only_id = Some(*id);
        }
    }
    let problem = Problem {
        kind: problem_type(UNPROCESSABLE),
        title: "Unprocessable Content",
        status: StatusCode::UNPROCESSABLE_ENTITY.as_u16(),
        detail: "The rules of this source can't use the payload; `errors` says why. It is kept as it came.",
        request_id,
        id: only_id.filter(|_| events.is_none()),
        line: None,
        column: None,
    };
    UnprocessableJson { problem, errors, events }
}

impl Reply {
    /// The event or refused payload that is kept of the element, or the event that it copies; none of an ignored one.
    pub(super) fn id(&self) -> Option<EventId> {
        match self {
            Reply::Event(event) => Some(event.id),
            Reply::Ignored { .. } => None,
            Reply::Refused { id, .. } => Some(*id),
        }
    }

    fn precedence(&self) -> Precedence {
        match self {
            Reply::Ignored { .. } => Precedence::Nothing,
            Reply::Refused { .. } => Precedence::Refused,
            Reply::Event(EventReply { duplicate, waits, settled, .. }) => match settled {
                None if *duplicate && !waits => Precedence::Nothing,
                None => Precedence::Pending,
                Some(settled) if !reached(settled) => Precedence::Failed,
                Some(_) if *duplicate => Precedence::Nothing,
                Some(settled) if settled.outcome == Some(Outcome::Created) => Precedence::Created,
                Some(_) => Precedence::Done,
            },
        }
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self.json(None)).unwrap_or_default()
    }

    fn json(&self, index: Option<usize>) -> ReplyJson<'_> {
        let json = ReplyJson { index, ..ReplyJson::default() };
        match self {
            Reply::Ignored { rule } => ReplyJson { status: "ignored", rule: rule.as_deref(), ..json },
            Reply::Refused { id, violations } => {
                ReplyJson { status: State::Refused.as_str(), id: Some(*id), errors: Some(violations), ..json }
            }
            Reply::Event(event) => {
                let settled = event.settled.as_ref();
                ReplyJson {
                    status: event.status(),
                    id: (!event.duplicate).then_some(event.id),
                    of: event.duplicate.then_some(event.id),
                    outcome: settled.and_then(|settled| settled.outcome).map(Outcome::as_str),
                    reason: settled.and_then(|settled| settled.reason.as_ref().map(Reason::to_string)),
                    action: Some(event.action.as_str()),
                    incident_key: Some(&event.incident_key),
                    ..json
                }
            }
        }
    }
}

impl EventReply {
    /// The word for its status in the response and in the log.
    pub(super) fn status(&self) -> &'static str {
        match &self.settled {
            _ if self.duplicate => DUPLICATE,
            Some(settled) => settled.state.as_str(),
            None => State::Queued.as_str(),
        }
    }
}

/// The upstream did what the event asks for.
fn reached(settled: &Settlement) -> bool {
    settled.state == State::Delivered && !settled.outcome.is_some_and(Outcome::leaves_key_unknown)
}

const DUPLICATE: &str = "duplicate";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::WallTime;

    fn event(id: u64, duplicate: bool, waits: bool, settled: Option<Settlement>) -> Reply {
        let (action, incident_key, id) = (Action::Trigger, "k1".into(), EventId(id));
        Reply::Event(EventReply { action, incident_key, id, duplicate, waits, settled })
    }

    fn queued() -> Reply {
        event(7, false, false, None)
    }

    fn duplicate(waits: bool) -> Reply {
        event(5, true, waits, None)
    }

    fn taken_and(settled: Settlement) -> Reply {
        event(7, false, true, Some(settled))
    }

    fn copied_and(settled: Settlement) -> Reply {
        event(5, true, true, Some(settled))
    }

    fn settled(state: State, outcome: Option<Outcome>) -> Settlement {
        Settlement { id: EventId(7), state, outcome, reason: None, attempts: 1, at: WallTime(0) }
    }

    fn delivered(outcome: Outcome) -> Reply {
        taken_and(settled(State::Delivered, Some(outcome)))
    }

    fn ignored() -> Reply {
        Reply::Ignored { rule: Some("noise".into()) }
    }

    fn refused() -> Reply {
        let violation = Violation { path: "$.state".into(), problem: "is required".into(), found: None };
        Reply::Refused { id: EventId(9), violations: vec![violation] }
    }

    fn told(replies: &[Reply], batch: bool) -> (u16, String, Value) {
        let response = recorded(replies, batch, None, "01J");
        let status = response.status().as_u16();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        (status, content_type, serde_json::from_slice(response.body()).unwrap())
    }

    #[test]
    fn one_event_is_told_as_one_object() {
        let dead = Settlement { reason: Some(Reason::Other("http_422".into())), ..settled(State::Dead, None) };
        let rows = [
            (
                "queued",
                queued(),
                202,
                json!({"id": "7", "status": "queued", "action": "trigger", "incident_key": "k1"}),
            ),
            (
                "a duplicate",
                duplicate(false),
                200,
                json!({"status": "duplicate", "of": "5", "action": "trigger", "incident_key": "k1"}),
            ),
            ("ignored", ignored(), 200, json!({"status": "ignored", "rule": "noise"})),
            ("ignored by no rule", Reply::Ignored { rule: None }, 200, json!({"status": "ignored"})),
            (
                "waited for and created",
                delivered(Outcome::Created),
                201,
                json!({"id": "7", "status": "delivered", "outcome": "created", "action": "trigger", "incident_key": "k1"}),
            ),
            (
                "waited for and dead",
                taken_and(dead),
                502,
                json!({"id": "7", "status": "dead", "reason": "http_422", "action": "trigger", "incident_key": "k1"}),
            ),
        ];
        for (claim, reply, status, body) in rows {
            assert_eq!(told(&[reply], false), (status, "application/json".to_owned(), body), "{claim}");
        }
    }

    #[test]
    fn what_the_upstream_said_decides_the_status_of_who_waited() {
        let rows = [
            (delivered(Outcome::Created), 201),
            (delivered(Outcome::Resolved), 200),
            (delivered(Outcome::Duplicate), 200),
            (delivered(Outcome::Accepted), 200),
            (delivered(Outcome::Unmatched), 502),
            (delivered(Outcome::NotResolved), 502),
            (taken_and(settled(State::Dead, None)), 502),
            (taken_and(settled(State::Ended, None)), 502),
            (duplicate(true), 202),
            (copied_and(settled(State::Delivered, Some(Outcome::Created))), 200),
            (copied_and(settled(State::Dead, None)), 502),
        ];
        for (reply, status) in rows {
            let text = format!("{reply:?}");
            assert_eq!(told(&[reply], false).0, status, "{text}");
        }
    }

    #[test]
    fn a_refused_payload_is_a_problem_with_its_errors() {
        let (status, content_type, body) = told(&[refused()], false);
        assert_eq!((status, content_type.as_str()), (422, "application/problem+json"));
        assert_eq!(body["errors"], json!([{"path": "$.state", "problem": "is required", "found": null}]));
        assert_eq!((&body["id"], &body["request_id"], &body["status"]), (&json!("9"), &json!("01J"), &json!(422)));
    }

    #[test]
    fn a_mixture_is_told_by_its_heaviest_part() {
        type Row<'a> = (&'a str, &'a [fn() -> Reply], u16);
        let rows: &[Row<'_>] = &[
            ("anything queued", &[refused, queued, ignored], 202),
            ("nothing queued, something refused", &[refused, ignored, || duplicate(false)], 422),
            ("nothing queued, nothing refused", &[ignored, || duplicate(false)], 200),
            ("nothing at all", &[], 200),
            (
                "waited for, all done, one created",
                &[|| delivered(Outcome::Resolved), || delivered(Outcome::Created)],
                201,
            ),
            ("waited for, one failed", &[|| delivered(Outcome::Created), || delivered(Outcome::Unmatched)], 502),
            ("waited for, one still open", &[|| delivered(Outcome::Unmatched), queued], 202),
            ("waited for, done, beside one refused", &[refused, || delivered(Outcome::Resolved)], 200),
        ];
        for (claim, makers, expected) in rows {
            let replies: Vec<Reply> = makers.iter().map(|make| make()).collect();
            let (status, _, body) = told(&replies, true);
            assert_eq!(status, *expected, "{claim}");
            let events = body["events"].as_array().unwrap();
            assert_eq!(events.len(), replies.len(), "{claim}");
            assert!(events.iter().enumerate().all(|(index, line)| line["index"] == json!(index)), "{claim}: {body}");
        }
    }

    #[test]
    fn a_refused_batch_names_the_element_of_each_error() {
        let (_, content_type, body) = told(&[ignored(), refused()], true);
        assert_eq!(content_type, "application/problem+json");
        assert_eq!(body["errors"][0]["index"], json!(1));
        assert_eq!(body["events"][1]["status"], json!("refused"));
        assert_eq!(body["events"][1]["errors"][0]["path"], json!("$.state"));
    }
}
