//! `GET /api/v1/queue`: what waits by source, lane and key, and how long it will take.
//!
//! The dispatcher counts, in parts that hold up no delivery; the journal knows the texts of the few keys that are shown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State as Extract};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::problem::{Reply, bad_request, meant, problem};
use super::status::{are_calls_failing, drain_seconds, upstream_state};
use super::{State, View, holds};
use crate::clock::WallTime;
use crate::delivery::schedule::{SourceSurvey, Standing, Survey, WaitingKey};
use crate::event::{self, EventId, HoldRecord, SourceId};
use crate::journal::Summary;

/// The parameters of the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Only this source.
    source: Option<String>,
    /// So many keys at most.
    limit: usize,
}

/// A question that is not answered, and why: for a problem document, or for the page.
pub(super) struct Unanswered {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

/// The journal's knowledge of the events that are shown. Nothing, where it does not answer soon.
#[derive(Default)]
struct Known {
    summaries: HashMap<String, Summary>,
    due: HashMap<EventId, WallTime>,
}

/// Counts by source, then the keys that fail or wait longest.
pub(super) async fn queue(Extract(state): Extract<State>, uri: Uri) -> Reply {
    let question = Question::of_query(&uri).map_err(bad_request)?;
    let queue = current(&state.view, &question).await.map_err(|Unanswered { status, why }| problem(status, &why))?;
    Ok(Json(queue).into_response())
}

/// The queue as it is now.
pub(super) async fn current(view: &View, question: &Question) -> Result<Value, Unanswered> {
    let names = view.recorder.sources();
    let wanted = question.source.as_deref().map(|source| names.find(source));
    // Of a source without a number nothing waits.
    let limit = if wanted == Some(None) { 0 } else { question.limit };
    let survey = view.queue.survey(Survey::new(wanted.flatten(), limit));
    let survey = tokio::time::timeout(SURVEY_MAX, survey).await.ok().flatten().ok_or_else(|| {
        let why = "what waits can't be counted now: the relay is stopping, or others ask too; ask again".to_owned();
        Unanswered { status: StatusCode::SERVICE_UNAVAILABLE, why }
    })?;
    let waiting = survey.sources.iter().map(|(id, counts)| (names.name(*id), *id, counts)).collect::<Vec<_>>();
    if let Some(source) = &question.source
        && !view.sources.contains(source)
        && !waiting.iter().any(|(name, ..)| **name == **source)
    {
        let meant = meant(source, view.sources.iter().map(String::as_str));
        let known = view.sources.join(", ");
        let why = format!("no source `{source}` is configured{meant}, and nothing of it waits; there are {known}");
        return Err(Unanswered { status: StatusCode::BAD_REQUEST, why });
    }
    let known = known(view, &survey).await;
    let keys: Vec<Value> = survey.keys().filter_map(|key| of_key(key, &known)).collect();
    let all = |count: fn(&SourceSurvey) -> usize| waiting.iter().map(|(.., counts)| count(counts)).sum::<usize>();
    let in_scope = waiting.iter().filter(|(_, id, _)| wanted.is_none_or(|wanted| wanted == Some(*id)));
    let in_scope: usize = in_scope.map(|(.., counts)| counts.keys).sum();
    let progress = view.progress.borrow().clone();
    let is_failing = are_calls_failing(&progress);
    let holds = view.recorder.holds();
    let held = waiting.iter().map(|(name, _, counts)| held(counts, is_source_held(&holds, name))).sum::<usize>();
    let events = all(SourceSurvey::waiting);
    let is_held = events > 0 && held == events;
    let oldest = waiting.iter().filter_map(|(.., counts)| counts.oldest).min();
    let lanes = survey.lanes().iter().map(|(lane, events, drain)| {
        let drain = drain.filter(|_| *events == 0 || !(is_held || is_failing));
        (lane.as_str().to_owned(), json!({ "events": events, "drain_seconds": drain.map(|drain| drain.as_secs_f64()) }))
    });
    Ok(json!({
        "queue": {
            "events": events,
            "keys": all(|counts| counts.keys),
            "oldest_received_at": known.received_at(oldest),
            "drain_seconds": drain_seconds(&progress, events as u64, is_held, WallTime::now()),
            "next_attempt_at": progress.next_attempt.filter(|_| !is_held).map(WallTime::rfc3339),
            "lanes": lanes.collect::<Map<_, _>>(),
        },
        "upstream": { "state": upstream_state(view).0 },
        "sources": sources(view, question, &waiting, &known),
        "more_keys": in_scope.saturating_sub(keys.len()),
        "keys": keys,
    }))
}

/// Reads what is shown of each source's oldest event and of the keys.
async fn known(view: &View, survey: &Survey) -> Known {
    let oldest = survey.sources.values().filter_map(|counts| counts.oldest).take(SOURCES_MAX);
    let shown: Vec<EventId> = survey.keys().map(|key| key.first).collect();
    let ids: Vec<EventId> = oldest.chain(shown.iter().copied()).collect();
    let read = view.journal.read(move |reader| Ok((reader.summaries(&ids)?, reader.next_attempts(&shown)?)));
    let Ok(Ok((mut summaries, due))) = tokio::time::timeout(READ_MAX, read).await else {
        return Known::default();
    };
    holds::mark(&mut summaries, &view.recorder.holds());
    let summaries = summaries.into_iter().map(|summary| (summary.id.clone(), summary));
    Known { summaries: summaries.collect(), due: due.into_iter().collect() }
}

/// A line for each source: those that are configured, and others of which something waits.
fn sources(
    view: &View,
    question: &Question,
    waiting: &[(Arc<str>, SourceId, &SourceSurvey)],
    known: &Known,
) -> Vec<Value> {
    let others =
        waiting.iter().map(|(name, ..)| &**name).filter(|name| !view.sources.iter().any(|known| known == name));
    let names = view.sources.iter().map(String::as_str).chain(others);
    let names = names.filter(|name| question.source.as_deref().is_none_or(|wanted| wanted == *name));
    let holds = view.recorder.holds();
    let is_failing = are_calls_failing(&view.progress.borrow());
    let nothing = SourceSurvey::default();
    let line = |name: &str| {
        let counts = waiting.iter().find(|(other, ..)| **other == *name).map_or(&nothing, |(.., counts)| counts);
        let mut shown = of_source(name, counts, is_source_held(&holds, name), known);
        if is_failing && counts.keys > 0 {
            shown["drain_seconds"] = Value::Null;
        }
        shown
    };
    names.map(line).collect()
}

fn is_source_held(holds: &[HoldRecord], name: &str) -> bool {
    holds.iter().any(|held| *held.target.source == *name && held.target.incident_key.is_none())
}

/// The events that a person holds back. Of a source that is held, it is all but what is on its way.
fn held(counts: &SourceSurvey, is_source_held: bool) -> usize {
    let going = [Standing::UnderWay, Standing::Settling].map(|standing| counts.events(standing));
    match is_source_held {
        true => counts.waiting() - going.iter().sum::<usize>(),
        false => counts.events(Standing::Held),
    }
}

fn of_source(name: &str, counts: &SourceSurvey, is_held: bool, known: &Known) -> Value {
    let mut shown = json!({
        "source": name,
        "events": counts.waiting(),
        "keys": counts.keys,
        "calls": counts.calls,
        "oldest_id": counts.oldest,
        "oldest_received_at": known.received_at(counts.oldest),
        "drain_seconds": if counts.keys == 0 { Some(0.0) } else { counts.drain_time.map(|drain| drain.as_secs_f64()) },
        "source_held": is_held,
    });
    for standing in Standing::ALL {
        shown[standing.as_str()] = match standing {
            // In its lanes it keeps its places, and goes nowhere.
            Standing::Fresh | Standing::Backlog | Standing::Retry | Standing::Backoff if is_held => 0.into(),
            Standing::Held => held(counts, is_held).into(),
            standing => counts.events(standing).into(),
        };
    }
    shown
}

/// A key with its first event; none if that has ended meanwhile.
fn of_key(key: &WaitingKey, known: &Known) -> Option<Value> {
    let summary = known.summaries.get(&key.first.to_string());
    if summary.is_some_and(|summary| summary.state != event::State::Queued.as_str()) {
        return None;
    }
    let is_going = matches!(key.standing, Standing::UnderWay | Standing::Settling);
    let is_held = summary.is_some_and(|summary| summary.held.is_some());
    let standing = if is_held && !is_going { Standing::Held } else { key.standing };
    Some(json!({
        "source": summary.map(|summary| &summary.source),
        "incident_key": summary.and_then(|summary| summary.incident_key.as_ref()),
        "events": key.events,
        "standing": standing.as_str(),
        "id": key.first,
        "action": summary.and_then(|summary| summary.action.as_ref()),
        "received_at": known.received_at(Some(key.first)),
        "attempts": key.attempts,
        "reason": summary.and_then(|summary| summary.reason.as_ref()),
        "next_attempt_at": known.due.get(&key.first).map(|at| at.rfc3339()),
    }))
}

impl Known {
    fn received_at(&self, event: Option<EventId>) -> Option<&str> {
        Some(&self.summaries.get(&event?.to_string())?.received_at)
    }
}

impl Question {
    /// All sources, with as many keys as fit on a screen.
    pub(super) fn of_all() -> Question {
        Question { source: None, limit: KEYS_SHOWN }
    }

    pub(super) fn of_query(uri: &Uri) -> Result<Question, String> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|rejection| rejection.body_text())?;
        let mut question = Question::of_all();
        for (name, value) in pairs {
            match name.as_str() {
                "source" => question.source = Some(value),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit <= KEYS_MAX);
                    question.limit = limit.ok_or_else(|| {
                        format!("`limit` takes a number of keys, at most {KEYS_MAX}; it is `{value}`")
                    })?;
                }
                unknown => {
                    let meant = meant(unknown, ["source", "limit"]);
                    return Err(format!("there is no `{unknown}` here{meant}; there are source, limit"));
                }
            }
        }
        Ok(question)
    }
}

/// Keys that fit on a screen.
const KEYS_SHOWN: usize = 20;
/// More keys than a person reads; a list of events has all.
const KEYS_MAX: usize = 1_000;
/// More sources than anybody has: of further ones no oldest event is told.
const SOURCES_MAX: usize = 1_000;
/// A million keys are counted within a second.
const SURVEY_MAX: Duration = Duration::from_secs(10);
/// A thousand rows are read within milliseconds, unless somebody searches the journal.
const READ_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_bounded_and_what_is_misspelt_is_told() {
        let read = |query: &str| Question::of_query(&format!("/api/v1/queue?{query}").parse().unwrap());
        assert_eq!(read(""), Ok(Question { source: None, limit: 20 }));
        assert_eq!(read("limit=0&source=s"), Ok(Question { source: Some("s".to_owned()), limit: 0 }));
        for (query, said) in [
            ("limit=1001", "at most 1000"),
            ("limit=-1", "it is `-1`"),
            ("sourc=s", "did you mean `source`?"),
            ("key=k", "there is no `key` here"),
        ] {
            assert!(read(query).unwrap_err().contains(said), "{query}");
        }
    }
}
