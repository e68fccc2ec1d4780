//! Reading: what a restart needs, what the dispatcher sends, what a person looks at.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde::Serialize;

use super::batch::{event, sql};
use super::{Error, FILE, Recovered, Settlement, Tried, salvage};
use crate::event::{Action, EventId, KeyId, Occurrence, Outcome, Outgoing, State, UpdateHash};
use crate::time::WallTime;

/// A connection that can't write. It never waits for the writing end, nor the writing end for it.
#[derive(Debug)]
pub struct Reader {
    connection: Mutex<Connection>,
    directory: PathBuf,
}

/// Which events to list; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub state: Option<State>,
    pub outcome: Option<Outcome>,
    pub key: Option<String>,
    pub source: Option<String>,
    /// Older than this one: where the page before ended.
    pub after: Option<EventId>,
    pub limit: usize,
}

/// Some events, newest first, and where the next page starts.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    pub events: Vec<Summary>,
    pub next: Option<String>,
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
}

/// Everything about one event.
#[derive(Clone, Debug, Serialize)]
pub struct Details {
    #[serde(flatten)]
    pub summary: Summary,
    pub novelty: Option<String>,
    pub settled_at: Option<String>,
    pub duplicates: u64,
    pub request_id: String,
    /// The request's body as it came; none once history is pruned.
    pub received: Option<String>,
    /// The body that is sent; none for what was refused.
    pub sent: Option<serde_json::Value>,
    /// What was wrong with what was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<serde_json::Value>,
    pub deliveries: Vec<Attempt>,
}

/// One call, as shown.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    pub number: u32,
    pub started_at: String,
    pub took_ms: i64,
    pub result: String,
    pub status: Option<u16>,
    pub detail: Option<String>,
    pub answer: Option<String>,
}

/// A row at a restart: what counts against the limits, and the event unless it was refused.
pub(super) struct RecoveredRow {
    pub(super) id: EventId,
    pub(super) state: State,
    pub(super) bytes: u64,
    pub(super) event: Option<Recovered>,
}

impl Reader {
    /// Opens the journal of a directory beside its writing end.
    pub fn open(directory: &Path) -> Result<Reader, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(directory.join(FILE), flags)?;
        connection.busy_timeout(super::BUSY_TIMEOUT)?;
        Ok(Reader { connection: Mutex::new(connection), directory: directory.to_owned() })
    }

    /// What is to be sent for an event; none if it is not kept.
    pub fn outgoing(&self, id: EventId) -> Result<Option<Outgoing>, Error> {
        self.with(|connection| outgoing(connection, id))
    }

    /// When the event that waits longest was received.
    pub fn oldest_queued(&self) -> Result<Option<WallTime>, Error> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT received_at FROM event WHERE state = 'queued' AND state <> 'delivered' ORDER BY id LIMIT 1",
                )?
                .query_row([], |row| row.get(0).map(WallTime))
                .optional()
        })
    }

    /// Lists events, newest first.
    pub fn list(&self, filter: &Filter) -> Result<Page, Error> {
        // The state is spelled out rather than bound, so that SQLite sees that the index of what is undelivered serves.
        let state = match filter.state {
            None => String::new(),
            Some(State::Delivered) => "AND state = 'delivered'".to_owned(),
            Some(state) => format!("AND state = '{}' AND state <> 'delivered'", state.as_str()),
        };
        let query = format!(
            "SELECT {SUMMARY} FROM event WHERE id < ?1 {state} AND (?2 IS NULL OR outcome = ?2) \
             AND (?3 IS NULL OR incident_key = ?3) AND (?4 IS NULL OR source = ?4) ORDER BY id DESC LIMIT ?5"
        );
        let limit = filter.limit.clamp(1, LIST_MAX);
        let events = self.with(|connection| {
            connection
                .prepare_cached(&query)?
                .query_map(
                    params![
                        filter.after.map_or(i64::MAX, sql),
                        filter.outcome.map(Outcome::as_str),
                        filter.key,
                        filter.source,
                        i64::try_from(limit).unwrap_or(i64::MAX)
                    ],
                    summary,
                )?
                .collect::<Result<Vec<_>, _>>()
        })?;
        let next = if events.len() == limit { events.last().map(|last| last.id.clone()) } else { None };
        Ok(Page { events, next })
    }

    /// The given events, in the given order; those that are not kept are left out.
    pub fn summaries(&self, ids: &[EventId]) -> Result<Vec<Summary>, Error> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT {SUMMARY} FROM event WHERE id = ?1"))?;
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                found.extend(statement.query_row([sql(*id)], summary).optional()?);
            }
            Ok(found)
        })
    }

    /// Everything about one event; none if it is not kept.
    pub fn details(&self, id: EventId) -> Result<Option<Details>, Error> {
        self.with(|connection| {
            let details = connection
                .prepare_cached(&format!(
                    "SELECT {SUMMARY}, novelty, settled_at, duplicates, request, \
                     (SELECT raw FROM content WHERE content.id = event.raw_in), \
                     (SELECT body FROM content WHERE content.id = event.id) FROM event WHERE id = ?1"
                ))?
                .query_row([sql(id)], |row| {
                    let raw: Option<Vec<u8>> = row.get(14)?;
                    let body: Option<Vec<u8>> = row.get(15)?;
                    let body = body.and_then(|body| serde_json::from_slice(&body).ok());
                    let summary = summary(row)?;
                    let refused = summary.state == State::Refused.as_str();
                    let (sent, errors) = if refused { (None, body) } else { (body, None) };
                    Ok(Details {
                        summary,
                        novelty: row.get(10)?,
                        settled_at: row.get::<_, Option<i64>>(11)?.map(|at| WallTime(at).rfc3339()),
                        duplicates: row.get(12)?,
                        request_id: row.get(13)?,
                        received: raw.map(|raw| String::from_utf8_lossy(&raw).into_owned()),
                        sent,
                        errors,
                        deliveries: Vec::new(),
                    })
                })
                .optional()?;
            let Some(mut details) = details else {
                return Ok(None);
            };
            details.deliveries = connection
                .prepare_cached(
                    "SELECT number, started_at, took_ms, result, status, detail, answer FROM attempt \
                     WHERE event = ?1 ORDER BY number",
                )?
                .query_map([sql(id)], attempt)?
                .collect::<Result<_, _>>()?;
            Ok(Some(details))
        })
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>) -> Result<T, Error> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        read(&connection).map_err(|error| {
            let error = Error::from(error);
            if matches!(error, Error::Damaged(_)) {
                // The recorder looks for this note, and the next start.
                salvage::mark_damaged(&self.directory);
            }
            error
        })
    }
}

/// What is to be sent for an event; none if it is not kept.
pub(super) fn outgoing(connection: &Connection, id: EventId) -> Result<Option<Outgoing>, rusqlite::Error> {
    connection
        .prepare_cached(
            "SELECT event.source, content.body, event.received_at FROM event \
             JOIN content ON content.id = event.id WHERE event.id = ?1",
        )?
        .query_row([sql(id)], |row| {
            let source: String = row.get(0)?;
            let body: Vec<u8> = row.get(1)?;
            Ok(Outgoing { source: Arc::from(source), body: Bytes::from(body), acknowledged: WallTime(row.get(2)?) })
        })
        .optional()
}

/// Reads every row, oldest first.
pub(super) fn recover(connection: &Connection, mut each: impl FnMut(RecoveredRow)) -> Result<(), Error> {
    let mut statement = connection.prepare(
        "SELECT id, state, bytes, source, incident_key, action, received_at, outcome, update_hash, occurrence, \
         attempts, tried_since, retry_at, novelty = 'reopening' FROM event ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(recovered(row)?);
    }
    Ok(())
}

/// How an event ended; none while it is queued.
pub(super) fn ending(connection: &Connection, id: EventId) -> Result<Option<Settlement>, Error> {
    let row = connection
        .prepare_cached(
            "SELECT state, outcome, reason, attempts, settled_at FROM event WHERE id = ?1 AND state <> 'queued'",
        )?
        .query_row([sql(id)], |row| {
            let word: String = row.get(0)?;
            let outcome: Option<String> = row.get(1)?;
            let settlement = Settlement {
                id,
                state: State::Queued,
                outcome: outcome.and_then(|word| Outcome::from_str(&word).ok()),
                reason: row.get(2)?,
                attempts: row.get(3)?,
                at: WallTime(row.get::<_, Option<i64>>(4)?.unwrap_or(0)),
            };
            Ok((word, settlement))
        })
        .optional()?;
    let Some((word, settlement)) = row else {
        return Ok(None);
    };
    Ok(State::from_str(&word).ok().map(|state| Settlement { state, ..settlement }))
}

fn recovered(row: &Row<'_>) -> Result<RecoveredRow, Error> {
    let id = event(row.get(0)?);
    let word = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
    let state = State::from_str(word).map_err(|()| Error::Fault(format!("event {id} has the unknown state {word}")))?;
    let bytes = row.get(2)?;
    if state == State::Refused {
        return Ok(RecoveredRow { id, state, bytes, event: None });
    }
    let text = |index| Ok::<_, Error>(row.get_ref(index)?.as_str().map_err(rusqlite::Error::from)?);
    let action = match text(5)? {
        "trigger" => Action::Trigger,
        "resolve" => Action::Resolve,
        other => return Err(Error::Fault(format!("event {id} has the unknown action {other}"))),
    };
    let outcome: Option<&str> = row.get_ref(7)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    let occurrence: Option<&str> = row.get_ref(9)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    let event = Recovered {
        id,
        key: KeyId::new(text(3)?, text(4)?),
        action,
        taken_at: WallTime(row.get(6)?),
        state,
        outcome: outcome.and_then(|word| Outcome::from_str(word).ok()),
        update: UpdateHash(row.get::<_, Option<i64>>(8)?.unwrap_or(0).cast_unsigned()),
        occurrence: occurrence.map(|text| Occurrence(Arc::from(text))),
        reopening: row.get(13)?,
        tried: match (state, row.get::<_, Option<i64>>(11)?, row.get::<_, Option<i64>>(12)?) {
            (State::Queued, Some(since), Some(retry_at)) => {
                Some(Tried { attempts: row.get(10)?, since: WallTime(since), retry_at: WallTime(retry_at) })
            }
            _ => None,
        },
    };
    Ok(RecoveredRow { id, state, bytes, event: Some(event) })
}

fn summary(row: &Row<'_>) -> Result<Summary, rusqlite::Error> {
    Ok(Summary {
        id: row.get::<_, i64>(0)?.to_string(),
        source: row.get(1)?,
        action: row.get(2)?,
        incident_key: row.get(3)?,
        state: row.get(4)?,
        outcome: row.get(5)?,
        reason: row.get(6)?,
        rule: row.get(7)?,
        received_at: WallTime(row.get(8)?).rfc3339(),
        attempts: row.get(9)?,
    })
}

fn attempt(row: &Row<'_>) -> Result<Attempt, rusqlite::Error> {
    let answer: Option<Vec<u8>> = row.get(6)?;
    Ok(Attempt {
        number: row.get(0)?,
        started_at: WallTime(row.get(1)?).rfc3339(),
        took_ms: row.get(2)?,
        result: row.get(3)?,
        status: row.get(4)?,
        detail: row.get(5)?,
        answer: answer.map(|answer| String::from_utf8_lossy(&answer).into_owned()),
    })
}

/// The columns of a [`Summary`], in its order.
const SUMMARY: &str = "id, source, action, incident_key, state, outcome, reason, rule, received_at, attempts";
/// The longest page.
const LIST_MAX: usize = 1_000;
