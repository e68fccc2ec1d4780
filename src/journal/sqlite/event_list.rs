//! Lists of events, as people see them: filters, pages, summaries.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::values::{bytes, shown, sql, trace};
use super::{Error, Reader, key_state};
use crate::clock::WallTime;
use crate::event::{EventId, Outcome, State};
use crate::trace_context::{TraceContext, TraceId};
use crate::yaml::is_sensitive;

/// A filter for events; every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Any of these; empty means all.
    pub states: Vec<State>,
    pub outcome: Option<Outcome>,
    pub key: Option<String>,
    pub source: Option<String>,
    /// The reason of an event that has ended; empty: those without one.
    pub reason: Option<String>,
    /// Only events for which shadow rules decided differently.
    pub differs: bool,
    /// Received at this time or later.
    pub since: Option<WallTime>,
    /// Received before this time.
    pub before: Option<WallTime>,
    /// Texts to search for, newest events first.
    pub texts: Texts,
    pub order: Order,
    /// The last event of the previous page, in the same order.
    pub after: Option<EventId>,
    /// No event older than this one.
    pub from: Option<EventId>,
    /// No event newer than this one.
    pub until: Option<EventId>,
    pub limit: usize,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// Texts to search for; all that are set must be found, in upper or lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// A part of the incident key.
    pub key: Option<String>,
    /// A part of the incident key, or of the title of what is sent.
    pub key_or_title: Option<String>,
    /// A part of the sent body or of the received payload.
    pub payload: Option<String>,
    /// The request id, the relay's or the sender's own, or the id of its trace; a whole, exact match.
    pub request: Option<String>,
}

/// A page of events, and where the next one starts.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    pub events: Vec<Summary>,
    pub next: Option<String>,
    /// The extent of a search for a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub searched: Option<Searched>,
}

/// The extent of a search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Searched {
    /// Events searched.
    pub looked_at: usize,
    /// Those of them for which the search index was enough, or told where to look.
    pub by_index: usize,
    /// Searched events whose payload is not kept any more.
    pub without_payload: usize,
    /// The time of the oldest event searched.
    pub back_to: Option<String>,
    /// True if the search stopped at its limit: the page's `next` continues it.
    pub stopped: bool,
}

/// An event in a list.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub id: String,
    pub source: String,
    pub action: Option<String>,
    pub incident_key: Option<String>,
    pub state: String,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub rule: Option<String>,
    pub received_at: String,
    pub attempts: u32,
    /// None if an earlier version took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// The hold of its key or source, if it is queued and held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<&'static str>,
    /// Its replays; only in details and lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replayed_by: Vec<String>,
    /// The first error of a refused payload, with the number of further ones; only in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<serde_json::Value>,
    /// Different decisions of shadow rules; only in details, and in lists filtered by them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<serde_json::Value>,
}

impl Reader {
    /// The number of matching events, counted up to `max`.
    pub fn count(&self, filter: &Filter, max: usize) -> Result<usize, Error> {
        let query = format!("SELECT count(*) FROM (SELECT 1 FROM event WHERE {} LIMIT ?9)", filter.condition());
        self.with(|connection| {
            let limit = i64::try_from(max).unwrap_or(i64::MAX);
            connection.prepare_cached(&query)?.query_row(filter.parameters(limit), |row| row.get(0))
        })
    }

    /// Lists events.
    pub fn list(&self, filter: &Filter) -> Result<Page, Error> {
        if !filter.texts.is_empty() {
            return self.search(filter);
        }
        let direction = match filter.order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let query =
            format!("SELECT {SUMMARY} FROM event WHERE {} ORDER BY id {direction} LIMIT ?9", filter.condition());
        let limit = filter.limit();
        let events = self.with(|connection| {
            let mut events = connection
                .prepare_cached(&query)?
                .query_map(filter.parameters(i64::try_from(limit).unwrap_or(i64::MAX)), summary)?
                .collect::<Result<Vec<_>, _>>()?;
            for event in &mut events {
                event.error = first_error(connection, event)?;
                event.replayed_by = replays(connection, event)?;
                if filter.differs {
                    event.differences = differences(connection, event.id.parse().unwrap_or(0))?;
                }
            }
            Ok(events)
        })?;
        let next = if events.len() == limit { events.last().map(|last| last.id.clone()) } else { None };
        Ok(Page { events, next, searched: None })
    }

    /// When the next call of each of these queued events is due; those that were never tried are left out.
    pub fn next_attempts(&self, ids: &[EventId]) -> Result<Vec<(EventId, WallTime)>, Error> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT retry_at FROM event WHERE id = ?1 AND state = 'queued' AND retry_at IS NOT NULL",
            )?;
            let due = ids.iter().filter_map(|id| {
                let at = statement.query_row([sql(*id)], |row| row.get(0).map(WallTime)).optional();
                at.map(|at| at.map(|at| (*id, at))).transpose()
            });
            due.collect()
        })
    }

    /// The given events in the given order, without those that are not kept. For a pruned event that set its key's
    /// state, the known part.
    pub fn summaries(&self, ids: &[EventId]) -> Result<Vec<Summary>, Error> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT {SUMMARY} FROM event WHERE id = ?1"))?;
            // A journal last opened by an earlier version has no such table.
            let of_keys = format!("SELECT {} FROM key_state WHERE id = ?1", key_state::SUMMARY);
            let mut of_keys =
                connection.table_exists(None, "key_state")?.then(|| connection.prepare_cached(&of_keys)).transpose()?;
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                let event = statement.query_row([sql(*id)], summary).optional()?;
                let of_key = |statement: &mut CachedStatement<'_>| statement.query_row([sql(*id)], summary).optional();
                found.extend(match (event, &mut of_keys) {
                    (None, Some(statement)) => of_key(statement)?,
                    (event, _) => event,
                });
            }
            Ok(found)
        })
    }
}

impl Filter {
    /// The SQL condition. States are literals, not parameters, so that SQLite can use the index of undelivered events.
    pub(super) fn condition(&self) -> String {
        let states: Vec<String> = self.states.iter().map(|state| format!("'{}'", state.as_str())).collect();
        let mut condition =
            "id > ?1 AND id < ?2 AND (?3 IS NULL OR outcome = ?3) AND (?4 IS NULL OR incident_key = ?4) \
             AND (?5 IS NULL OR source = ?5) AND (?6 IS NULL OR received_at >= ?6) \
             AND (?7 IS NULL OR received_at < ?7) AND id <= ?8 \
             AND (?10 IS NULL OR ifnull(reason, '') = ?10)"
                .to_owned();
        if self.differs {
            condition.push_str(" AND id IN (SELECT event FROM difference)");
        }
        if !states.is_empty() {
            condition.push_str(&format!(" AND state IN ({})", states.join(", ")));
            if !self.states.contains(&State::Delivered) {
                condition.push_str(" AND state <> 'delivered'");
            }
        }
        condition
    }

    /// The maximum number of events on a page.
    pub(super) fn limit(&self) -> usize {
        self.limit.clamp(1, LIST_MAX)
    }

    pub(super) fn parameters(&self, limit: i64) -> impl rusqlite::Params {
        let before_first = self.from.map_or(0, |from| sql(from).saturating_sub(1));
        let (above, below) = match (self.order, self.after) {
            (_, None) => (before_first, i64::MAX),
            (Order::NewestFirst, Some(after)) => (before_first, sql(after)),
            (Order::OldestFirst, Some(after)) => (before_first.max(sql(after)), i64::MAX),
        };
        (
            above,
            below,
            self.outcome.map(Outcome::as_str),
            self.key.clone(),
            self.source.clone(),
            self.since.map(|at| at.0),
            self.before.map(|at| at.0),
            self.until.map_or(i64::MAX, sql),
            limit,
            self.reason.clone(),
        )
    }
}

/// Reads a summary even if the row is damaged: a person needs to see the rest.
pub(super) fn summary(row: &Row<'_>) -> Result<Summary, rusqlite::Error> {
    Ok(Summary {
        id: row.get::<_, i64>(0)?.to_string(),
        source: shown(row, 1)?.unwrap_or_default(),
        action: shown(row, 2)?,
        incident_key: shown(row, 3)?,
        state: shown(row, 4)?.unwrap_or_default(),
        outcome: shown(row, 5)?,
        reason: shown(row, 6)?,
        rule: shown(row, 7)?,
        received_at: WallTime(row.get(8).unwrap_or(0)).rfc3339(),
        attempts: row.get(9).unwrap_or(0),
        trace_id: trace(row, TRACE)?.as_ref().map(TraceContext::id),
        held: None,
        replayed_by: Vec::new(),
        error: None,
        differences: None,
    })
}

/// The different decisions of shadow rules about an event.
pub(super) fn differences(connection: &Connection, id: i64) -> Result<Option<serde_json::Value>, rusqlite::Error> {
    let found: Option<String> = connection
        .prepare_cached("SELECT found FROM difference WHERE event = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    Ok(found.and_then(|found| serde_json::from_str(&found).ok()))
}

/// The first error of a refused payload: path, problem and what was found, unless the path is named as a secret is.
pub(super) fn first_error(
    connection: &Connection,
    event: &Summary,
) -> Result<Option<serde_json::Value>, rusqlite::Error> {
    if event.state != State::Refused.as_str() {
        return Ok(None);
    }
    let id: i64 = event.id.parse().unwrap_or(0);
    let errors = connection
        .prepare_cached("SELECT body FROM content WHERE id = ?1")?
        .query_row([id], |row| bytes(row, 0))
        .optional()?
        .flatten();
    let errors: Vec<serde_json::Value> =
        errors.and_then(|errors| serde_json::from_slice(&errors).ok()).unwrap_or_default();
    let more = errors.len().saturating_sub(1);
    Ok(errors.into_iter().next().map(|mut error| {
        if error["path"].as_str().is_some_and(is_sensitive) {
            error["found"] = serde_json::Value::Null;
        }
        error["more"] = more.into();
        error
    }))
}

/// The newest replays of an event, oldest of them first.
pub(super) fn replays(connection: &Connection, event: &Summary) -> Result<Vec<String>, rusqlite::Error> {
    let id: i64 = event.id.parse().unwrap_or(0);
    connection
        .prepare_cached(
            "SELECT id FROM (SELECT id FROM event WHERE replay_of = ?1 ORDER BY id DESC LIMIT ?2) ORDER BY id",
        )?
        .query_map(params![id, REPLAYS_SHOWN as i64], |row| row.get(0).map(|id: i64| id.to_string()))?
        .collect()
}

/// The columns of a [`Summary`], in its order. A queued event's reason is the result of its last call.
pub(super) const SUMMARY: &str = "id, source, action, incident_key, state, outcome, CASE state WHEN 'queued' THEN \
     (SELECT result || coalesce(' (' || status || ')', '') FROM attempt WHERE attempt.event = event.id \
     ORDER BY number DESC LIMIT 1) ELSE reason END, rule, received_at, attempts, event.trace";
/// The index of the trace in [`SUMMARY`], which is its last column.
pub(super) const TRACE: usize = 10;

/// The longest page.
pub(crate) const LIST_MAX: usize = 1_000;
/// More replays of one event than a person makes.
const REPLAYS_SHOWN: usize = 100;
