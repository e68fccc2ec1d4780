//! What a sender is told of a request that was recorded: one object, or a list for a batch.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::refusal::{PROBLEM_JSON, Problem, UNPROCESSABLE, problem_type, to_json};
use crate::event::{Action, EventId, Outcome, State, Violation};
use crate::journal::recorder::Settled;

/// What became of one element of a payload.
#[derive(Debug)]
pub(super) enum Part {
    Event { action: Action, incident_key: String, standing: Standing },
    Ignored { rule: Option<Arc<str>> },
    Refused { id: EventId, violations: Vec<Violation> },
}

/// Where an event stands when its sender is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Queued {
        id: EventId,
    },
    /// `open` while its sender waited for the event it copies, in vain.
    Duplicate {
        of: EventId,
        open: bool,
    },
    Settled(Settled),
    DuplicateSettled {
        of: EventId,
        settled: Settled,
    },
}

/// What decides the status of the whole answer: the heaviest part does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Nothing,
    Refused,
    Done,
    Created,
    Failed,
    Pending,
}

#[derive(Serialize)]
struct Line<'a> {
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
    reason: Option<&'a str>,
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
struct Batch<'a> {
    events: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Unprocessable<'a> {
    #[serde(flatten)]
    problem: Problem<'a>,
    errors: Vec<Indexed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<Line<'a>>>,
}

#[derive(Serialize)]
struct Indexed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(flatten)]
    violation: &'a Violation,
}

/// The answer for these parts. `batch`: the payload was split, so its sender expects a list.
pub(super) fn answer(parts: &[Part], batch: bool, request_id: &str) -> Response<Bytes> {
    let status = status(parts);
    let lines = || parts.iter().enumerate().map(|(index, part)| part.line(batch.then_some(index))).collect();
    if status == StatusCode::UNPROCESSABLE_ENTITY {
        let events = batch.then(lines);
        return respond(status, PROBLEM_JSON, to_json(&unprocessable(parts, events, request_id)));
    }
    let body = match parts {
        [part] if !batch => to_json(&part.line(None)),
        _ => to_json(&Batch { events: lines() }),
    };
    respond(status, JSON, body)
}

/// The heaviest part decides; a payload that was split into nothing but ignored parts is fine.
fn status(parts: &[Part]) -> StatusCode {
    match parts.iter().map(Part::weight).max().unwrap_or(Weight::Nothing) {
        Weight::Nothing | Weight::Done => StatusCode::OK,
        Weight::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Weight::Created => StatusCode::CREATED,
        Weight::Failed => StatusCode::BAD_GATEWAY,
        Weight::Pending => StatusCode::ACCEPTED,
    }
}

fn unprocessable<'a>(parts: &'a [Part], events: Option<Vec<Line<'a>>>, request_id: &'a str) -> Unprocessable<'a> {
    let mut errors = Vec::new();
    let mut only_id = None;
    for (index, part) in parts.iter().enumerate() {
        if let Part::Refused { id, violations } = part {
            let index = events.is_some().then_some(index);
            errors.extend(violations.iter().map(|violation| Indexed { index, violation }));
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
    Unprocessable { problem, errors, events }
}

fn respond(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

impl Part {
    /// The event or refused payload that is kept of it, or that it repeats.
    pub(super) fn event(&self) -> Option<EventId> {
        match self {
            Part::Event { standing, .. } => Some(standing.event()),
            Part::Ignored { .. } => None,
            Part::Refused { id, .. } => Some(*id),
        }
    }

    /// The same once the upstream settled it.
    pub(super) fn settled(self, settled: Settled) -> Part {
        match self {
            Part::Event { action, incident_key, standing } => {
                let standing = match standing {
                    Standing::Duplicate { of, .. } => Standing::DuplicateSettled { of, settled },
                    _ => Standing::Settled(settled),
                };
                Part::Event { action, incident_key, standing }
            }
            other => other,
        }
    }

    fn weight(&self) -> Weight {
        match self {
            Part::Ignored { .. } => Weight::Nothing,
            Part::Refused { .. } => Weight::Refused,
            Part::Event { standing, .. } => match standing {
                Standing::Queued { .. } | Standing::Duplicate { open: true, .. } => Weight::Pending,
                Standing::Duplicate { open: false, .. } => Weight::Nothing,
                Standing::Settled(settled) if !reached(settled) => Weight::Failed,
                Standing::Settled(settled) if settled.outcome == Some(Outcome::Created) => Weight::Created,
                Standing::Settled(_) => Weight::Done,
                Standing::DuplicateSettled { settled, .. } if !reached(settled) => Weight::Failed,
                Standing::DuplicateSettled { .. } => Weight::Nothing,
            },
        }
    }

    /// The same as it is told to a program.
    pub(super) fn told(&self) -> serde_json::Value {
        serde_json::to_value(self.line(None)).unwrap_or_default()
    }

    fn line(&self, index: Option<usize>) -> Line<'_> {
        let mut line = Line {
            index,
            id: None,
            status: "",
            of: None,
            outcome: None,
            reason: None,
            action: None,
            incident_key: None,
            rule: None,
            errors: None,
        };
        match self {
            Part::Ignored { rule } => {
                line.status = "ignored";
                line.rule = rule.as_deref();
            }
            Part::Refused { id, violations } => {
                line.status = State::Refused.as_str();
                line.id = Some(*id);
                line.errors = Some(violations);
            }
            Part::Event { action, incident_key, standing } => {
                line.action = Some(action.as_str());
                line.incident_key = Some(incident_key);
                line.status = standing.word();
                match standing {
                    Standing::Queued { id } => line.id = Some(*id),
                    Standing::Duplicate { of, .. } => line.of = Some(*of),
                    Standing::Settled(settled) => {
                        line.id = Some(settled.id);
                        line.settled(settled);
                    }
                    Standing::DuplicateSettled { of, settled } => {
                        line.of = Some(*of);
                        line.settled(settled);
                    }
                }
            }
        }
        line
    }
}

impl Standing {
    /// The word that the sender is told and the log holds.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Standing::Queued { .. } => State::Queued.as_str(),
            Standing::Duplicate { .. } | Standing::DuplicateSettled { .. } => DUPLICATE,
            Standing::Settled(settled) => settled.state.as_str(),
        }
    }

    /// The event that stands there: the one taken, or the one that it copies.
    pub(super) fn event(&self) -> EventId {
        match self {
            Standing::Queued { id } => *id,
            Standing::Duplicate { of, .. } | Standing::DuplicateSettled { of, .. } => *of,
            Standing::Settled(settled) => settled.id,
        }
    }
}

impl<'a> Line<'a> {
    fn settled(&mut self, settled: &'a Settled) {
        self.outcome = settled.outcome.map(Outcome::as_str);
        self.reason = settled.reason.as_deref();
    }
}

/// Whether the upstream did what the event asks for.
fn reached(settled: &Settled) -> bool {
    settled.state == State::Delivered && !settled.outcome.is_some_and(Outcome::leaves_key_unknown)
}

const DUPLICATE: &str = "duplicate";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(standing: Standing) -> Part {
        Part::Event { action: Action::Trigger, incident_key: "k1".into(), standing }
    }

    fn queued() -> Part {
        event(Standing::Queued { id: EventId(7) })
    }

    fn duplicate(open: bool) -> Part {
        event(Standing::Duplicate { of: EventId(5), open })
    }

    fn settled(state: State, outcome: Option<Outcome>) -> Settled {
        Settled { id: EventId(7), state, outcome, reason: None }
    }

    fn delivered(outcome: Outcome) -> Part {
        event(Standing::Settled(settled(State::Delivered, Some(outcome))))
    }

    fn ignored() -> Part {
        Part::Ignored { rule: Some("noise".into()) }
    }

    fn refused() -> Part {
        let violation = Violation { path: "$.state".into(), problem: "is required".into(), found: None };
        Part::Refused { id: EventId(9), violations: vec![violation] }
    }

    fn told(parts: &[Part], batch: bool) -> (u16, String, Value) {
        let response = answer(parts, batch, "01J");
        let status = response.status().as_u16();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        (status, content_type, serde_json::from_slice(response.body()).unwrap())
    }

    #[test]
    fn one_event_is_told_as_one_object() {
        let dead = Settled { reason: Some("http_422".into()), ..settled(State::Dead, None) };
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
            ("ignored by no rule", Part::Ignored { rule: None }, 200, json!({"status": "ignored"})),
            (
                "waited for and created",
                delivered(Outcome::Created),
                201,
                json!({"id": "7", "status": "delivered", "outcome": "created", "action": "trigger", "incident_key": "k1"}),
            ),
            (
                "waited for and dead",
                event(Standing::Settled(dead)),
                502,
                json!({"id": "7", "status": "dead", "reason": "http_422", "action": "trigger", "incident_key": "k1"}),
            ),
        ];
        for (claim, part, status, body) in rows {
            assert_eq!(told(&[part], false), (status, "application/json".to_owned(), body), "{claim}");
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
            (event(Standing::Settled(settled(State::Dead, None))), 502),
            (event(Standing::Settled(settled(State::Ended, None))), 502),
            (duplicate(true), 202),
            (
                event(Standing::DuplicateSettled {
                    of: EventId(5),
                    settled: settled(State::Delivered, Some(Outcome::Created)),
                }),
                200,
            ),
            (event(Standing::DuplicateSettled { of: EventId(5), settled: settled(State::Dead, None) }), 502),
        ];
        for (part, status) in rows {
            let text = format!("{part:?}");
            assert_eq!(told(&[part], false).0, status, "{text}");
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
        type Row<'a> = (&'a str, &'a [fn() -> Part], u16);
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
            let parts: Vec<Part> = makers.iter().map(|make| make()).collect();
            let (status, _, body) = told(&parts, true);
            assert_eq!(status, *expected, "{claim}");
            let events = body["events"].as_array().unwrap();
            assert_eq!(events.len(), parts.len(), "{claim}");
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
