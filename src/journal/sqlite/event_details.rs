//! All details of one event, as people see them.

use rusqlite::{OptionalExtension, Row};
use serde::Serialize;

use super::event_list::{SUMMARY, Summary, TRACE, differences, replays, summary};
use super::values::{bytes, shown, sql, trace};
use super::{Error, Reader, schema};
use crate::callgoose::answer::Trouble;
use crate::clock::WallTime;
use crate::event::{EventId, State};
use crate::trace_context::SpanId;

/// All details of one event.
#[derive(Clone, Debug, Serialize)]
pub struct Details {
    #[serde(flatten)]
    pub summary: Summary,
    pub novelty: Option<String>,
    /// None for normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    pub settled_at: Option<String>,
    /// When the next call is due, if it is queued and was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    pub duplicates: u64,
    pub request_id: String,
    /// The sender's request id, shortened and without characters that could forge a log line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_request_id: Option<String>,
    /// The sender's span, where it named the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_span_id: Option<SpanId>,
    /// The event of which this is a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
    /// The request's raw body; none once it is pruned.
    pub received: Option<String>,
    /// The raw body in hexadecimal, if it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_hex: Option<String>,
    /// The declared charset of a body that is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// The refused element of a batch; `received` is the whole batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<serde_json::Value>,
    /// The body for the upstream; none for a refused payload.
    pub sent: Option<serde_json::Value>,
    /// The errors of a refused payload, each with the reason of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<serde_json::Value>,
    pub deliveries: Vec<AttemptDetails>,
}

/// One call, as displayed.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptDetails {
    pub number: u32,
    pub started_at: String,
    pub took_ms: i64,
    pub result: String,
    pub status: Option<u16>,
    /// The side on which it failed: `network`, `proxy`, `upstream`, or `relay` for its configuration or the event.
    pub fault: Option<&'static str>,
    pub detail: Option<String>,
    pub answer: Option<String>,
}

impl Reader {
    /// All details of an event; none if it is not kept.
    pub fn details(&self, id: EventId) -> Result<Option<Details>, Error> {
        self.with(|connection| {
            let summary_columns = schema::of_event(connection, SUMMARY)?;
            let details = connection
                .prepare_cached(&format!(
                    "SELECT {summary_columns}, novelty, settled_at, duplicates, request, \
                     (SELECT raw FROM content WHERE content.id = event.raw_in), \
                     (SELECT body FROM content WHERE content.id = event.id), replay_of, charset, \
                     (SELECT element FROM content WHERE content.id = event.id), priority, sender_request, \
                     CASE state WHEN 'queued' THEN retry_at END FROM event WHERE id = ?1"
                ))?
                .query_row([sql(id)], |row| {
                    let (raw, body) = (bytes(row, 15)?, bytes(row, 16)?);
                    let body = body.and_then(|body| serde_json::from_slice(&body).ok());
                    let summary = summary(row)?;
                    let element = bytes(row, 19)?;
                    // A refused payload never had an action; a dead letter without one has only its body left.
                    let refused = summary.action.is_none() && summary.state != State::Dead.as_str();
                    let (sent, errors) = if refused { (None, body) } else { (body, None) };
                    Ok(Details {
                        summary,
                        novelty: shown(row, 11)?,
                        priority: shown(row, 20)?,
                        settled_at: row.get(12).ok().flatten().map(|at| WallTime(at).rfc3339()),
                        next_attempt_at: row.get(22).ok().flatten().map(|at| WallTime(at).rfc3339()),
                        duplicates: row.get(13).unwrap_or(0),
                        request_id: shown(row, 14)?.unwrap_or_default(),
                        sender_request_id: shown(row, 21)?,
                        sender_span_id: trace(row, TRACE)?.and_then(|trace| trace.sender_span()),
                        replay_of: shown(row, 17)?,
                        received_hex: raw.as_deref().filter(|raw| std::str::from_utf8(raw).is_err()).map(hex::encode),
                        received: raw.map(|raw| String::from_utf8_lossy(&raw).into_owned()),
                        charset: shown(row, 18)?,
                        element: element.map(|element| serde_json::from_slice(&element).unwrap_or_default()),
                        sent,
                        errors,
                        deliveries: Vec::new(),
                    })
                })
                .optional()?;
            let Some(mut details) = details else {
                return Ok(None);
            };
            // A journal last opened by an earlier version has no such table.
            if connection.table_exists(None, "difference")? {
                details.summary.differences = differences(connection, sql(id))?;
            }
            details.deliveries = connection
                .prepare_cached(
                    "SELECT number, started_at, took_ms, result, status, detail, answer FROM attempt \
                     WHERE event = ?1 ORDER BY number",
                )?
                .query_map([sql(id)], attempt)?
                .collect::<Result<_, _>>()?;
            details.summary.replayed_by = replays(connection, &details.summary)?;
            Ok(Some(details))
        })
    }
}

fn attempt(row: &Row<'_>) -> Result<AttemptDetails, rusqlite::Error> {
    let answer = bytes(row, 6)?;
    let result = shown(row, 3)?.unwrap_or_default();
    let fault = Trouble::read(&result).map(|trouble| trouble.attribution().as_str());
    Ok(AttemptDetails {
        number: row.get(0).unwrap_or(0),
        started_at: WallTime(row.get(1).unwrap_or(0)).rfc3339(),
        took_ms: row.get(2).unwrap_or(0),
        result,
        status: row.get(4).unwrap_or_default(),
        fault,
        detail: shown(row, 5)?,
        answer: answer.map(|answer| String::from_utf8_lossy(&answer).into_owned()),
    })
}
