//! Reading: what a restart needs, what the dispatcher sends, what a person looks at.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde::Serialize;

use super::batch::{event, sql};
use super::{Error, FILE, OpenError, Recovered, Settlement, Tried, files, salvage, schema};
use crate::dedup::Occurrences;
use crate::event::{Action, EventId, KeyId, Occurrence, Outcome, Outgoing, Priority, State, UpdateHash};
use crate::time::WallTime;

/// A connection that can't write. It never waits for the writing end, nor the writing end for it.
#[derive(Debug)]
pub struct Reader {
    connection: Mutex<Connection>,
    /// Where damage is to be noted; none where another is to be left alone.
    directory: Option<PathBuf>,
}

/// Which events to list; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Any of these; empty: all.
    pub states: Vec<State>,
    pub outcome: Option<Outcome>,
    pub key: Option<String>,
    pub source: Option<String>,
    /// Of which rules in the shadow of others would have decided otherwise.
    pub differs: bool,
    /// Received at this time or later.
    pub since: Option<WallTime>,
    /// Received before this time.
    pub before: Option<WallTime>,
    pub order: Order,
    /// Where the page before ended, in that order.
    pub after: Option<EventId>,
    /// No event that is newer than this one.
    pub until: Option<EventId>,
    pub limit: usize,
}

/// In which order events are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// A refused payload as it is to be decided again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPayload {
    pub id: EventId,
    pub source: String,
    pub received_at: WallTime,
    /// The request's body as it came; none if it is not kept any more.
    pub raw: Option<Vec<u8>>,
    /// In which `raw` is to be read; none for UTF-8.
    pub charset: Option<String>,
    /// The element of `raw` that was refused, as JSON; none where the whole was.
    pub element: Option<Vec<u8>>,
}

/// Some events in the order asked for, and where the next page starts.
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
    /// What rules in the shadow of others would have decided otherwise; in a list of such events and in details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<serde_json::Value>,
}

/// Everything about one event.
#[derive(Clone, Debug, Serialize)]
pub struct Details {
    #[serde(flatten)]
    pub summary: Summary,
    pub novelty: Option<String>,
    /// None where it is normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    pub settled_at: Option<String>,
    pub duplicates: u64,
    pub request_id: String,
    /// What this is a replay of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
    /// The events that were made of this one when it was replayed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replayed_by: Vec<String>,
    /// The request's body as it came; none once history is pruned.
    pub received: Option<String>,
    /// The same bytes in hexadecimal, where they are no UTF-8 and the text above can't show them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_hex: Option<String>,
    /// The charset that the sender declared for a body that is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// The element of a batch that was refused; `received` is then the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<serde_json::Value>,
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
        let connection = files::connect(&directory.join(FILE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(super::BUSY_TIMEOUT)?;
        connection.pragma_update(None, "cache_size", super::READER_CACHE_KIB)?;
        Ok(Reader { connection: Mutex::new(connection), directory: Some(directory.to_owned()) })
    }

    /// Opens the journal of a directory that no relay uses, and leaves no trace there: not even the files that a log
    /// needs are made, and damage is not noted.
    pub fn open_stopped(directory: &Path) -> Result<Reader, OpenError> {
        let path = directory.join(FILE);
        let fail = |problem: String, remedy| OpenError { path: path.clone(), problem, remedy };
        let file = std::path::absolute(&path).map_err(|error| fail(error.to_string(), EXISTS))?;
        if let Err(error) = files::readable(&file) {
            return Err(fail(error.to_string(), EXISTS));
        }
        let log = directory.join(format!("{FILE}-wal"));
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(fail(
                "a relay uses it, or did not stop in order and left its log behind".to_owned(),
                "ask the running relay; or start the relay once and stop it in order",
            ));
        }
        let name = utf8_percent_encode(&file.to_string_lossy(), URI_PATH).to_string();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let opened = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags).and_then(|connection| {
            let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok((connection, version))
        });
        match opened {
            Ok((connection, schema::VERSION)) => Ok(Reader { connection: Mutex::new(connection), directory: None }),
            Ok((_, other)) => Err(fail(
                format!("it has layout {other}, and this version of gander knows layout {}", schema::VERSION),
                "use the version of gander that wrote it",
            )),
            Err(error) => Err(OpenError::of(&path, &error)),
        }
    }

    /// Every event that is kept, oldest first.
    pub fn recover(&self, mut each: impl FnMut(Recovered)) -> Result<(), Error> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        recover(&connection, |row| {
            if let Some(event) = row.event {
                each(event);
            }
        })
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

    /// The newest row's number; zero where there is none.
    pub fn newest(&self) -> Result<EventId, Error> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT coalesce(max(id), 0) FROM event")?
                .query_row([], |row| row.get(0).map(event))
        })
    }

    /// A refused payload, also one that was ended since; none if it is not kept or is an event.
    pub fn refused(&self, id: EventId) -> Result<Option<RefusedPayload>, Error> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT source, received_at, (SELECT raw FROM content WHERE content.id = event.raw_in), charset, \
                     (SELECT element FROM content WHERE content.id = event.id) \
                     FROM event WHERE id = ?1 AND action IS NULL",
                )?
                .query_row([sql(id)], |row| {
                    Ok(RefusedPayload {
                        id,
                        source: row.get(0)?,
                        received_at: WallTime(row.get(1)?),
                        raw: row.get(2)?,
                        charset: row.get(3)?,
                        element: row.get(4)?,
                    })
                })
                .optional()
        })
    }

    /// How many events there are, counted up to `max`.
    pub fn count(&self, filter: &Filter, max: usize) -> Result<usize, Error> {
        let query = format!("SELECT count(*) FROM (SELECT 1 FROM event WHERE {} LIMIT ?9)", filter.condition());
        self.with(|connection| {
            let limit = i64::try_from(max).unwrap_or(i64::MAX);
            connection.prepare_cached(&query)?.query_row(filter.parameters(limit), |row| row.get(0))
        })
    }

    /// Lists events.
    pub fn list(&self, filter: &Filter) -> Result<Page, Error> {
        let direction = match filter.order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let query =
            format!("SELECT {SUMMARY} FROM event WHERE {} ORDER BY id {direction} LIMIT ?9", filter.condition());
        let limit = filter.limit.clamp(1, LIST_MAX);
        let events = self.with(|connection| {
            let mut events = connection
                .prepare_cached(&query)?
                .query_map(filter.parameters(i64::try_from(limit).unwrap_or(i64::MAX)), summary)?
                .collect::<Result<Vec<_>, _>>()?;
            for event in events.iter_mut().filter(|_| filter.differs) {
                event.differences = differences(connection, event.id.parse().unwrap_or(0))?;
            }
            Ok(events)
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
                     (SELECT body FROM content WHERE content.id = event.id), replay_of, charset, \
                     (SELECT element FROM content WHERE content.id = event.id), priority FROM event WHERE id = ?1"
                ))?
                .query_row([sql(id)], |row| {
                    let raw: Option<Vec<u8>> = row.get(14)?;
                    let body: Option<Vec<u8>> = row.get(15)?;
                    let body = body.and_then(|body| serde_json::from_slice(&body).ok());
                    let summary = summary(row)?;
                    let element: Option<Vec<u8>> = row.get(18)?;
                    // What was refused had no action decided, whatever became of it since.
                    let refused = summary.action.is_none();
                    let (sent, errors) = if refused { (None, body) } else { (body, None) };
                    Ok(Details {
                        summary,
                        novelty: row.get(10)?,
                        priority: row.get(19)?,
                        settled_at: row.get::<_, Option<i64>>(11)?.map(|at| WallTime(at).rfc3339()),
                        duplicates: row.get(12)?,
                        request_id: row.get(13)?,
                        replay_of: row.get::<_, Option<i64>>(16)?.map(|id| id.to_string()),
                        replayed_by: Vec::new(),
                        received_hex: raw.as_deref().filter(|raw| std::str::from_utf8(raw).is_err()).map(hex),
                        received: raw.map(|raw| String::from_utf8_lossy(&raw).into_owned()),
                        charset: row.get(17)?,
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
            // A journal that no relay opened since has no such table.
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
            details.replayed_by = connection
                .prepare_cached("SELECT id FROM event WHERE replay_of = ?1 ORDER BY id LIMIT ?2")?
                .query_map(params![sql(id), REPLAYS_SHOWN as i64], |row| row.get(0).map(|id: i64| id.to_string()))?
                .collect::<Result<_, _>>()?;
            Ok(Some(details))
        })
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>) -> Result<T, Error> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        read(&connection).map_err(|error| {
            let error = Error::from(error);
            if let (Error::Damaged(_), Some(directory)) = (&error, &self.directory) {
                // The recorder looks for this note, and the next start.
                salvage::mark_damaged(directory);
            }
            error
        })
    }
}

impl Filter {
    /// The condition that SQLite is asked. States are spelled out rather than bound, so that it sees that the index of
    /// what is undelivered serves.
    fn condition(&self) -> String {
        let states: Vec<String> = self.states.iter().map(|state| format!("'{}'", state.as_str())).collect();
        let mut condition =
            "id > ?1 AND id < ?2 AND (?3 IS NULL OR outcome = ?3) AND (?4 IS NULL OR incident_key = ?4) \
             AND (?5 IS NULL OR source = ?5) AND (?6 IS NULL OR received_at >= ?6) \
             AND (?7 IS NULL OR received_at < ?7) AND id <= ?8"
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

    fn parameters(&self, limit: i64) -> impl rusqlite::Params {
        let (above, below) = match (self.order, self.after) {
            (_, None) => (0, i64::MAX),
            (Order::NewestFirst, Some(after)) => (0, sql(after)),
            (Order::OldestFirst, Some(after)) => (sql(after), i64::MAX),
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
        )
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
    // A journal may be read that no relay of this version opened yet.
    let added = |column: &'static str| match schema::has_column(connection, "event", column)? {
        true => Ok::<_, Error>(column),
        false => Ok("NULL"),
    };
    let (priority, tried_ms, asked_ms) = (added("priority")?, added("tried_ms")?, added("asked_ms")?);
    let mut statement = connection.prepare(&format!(
        "SELECT id, state, bytes, source, incident_key, action, received_at, outcome, update_hash, occurrence, \
         attempts, retry_at, novelty = 'reopening', past_occurrence, novelty IN ('update', 'reminder'), {priority}, \
         {tried_ms}, {asked_ms} FROM event ORDER BY id"
    ))?;
    let mut rows = statement.query([])?;
    let mut sources = HashSet::new();
    while let Some(row) = rows.next()? {
        each(recovered(row, &mut sources)?);
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

/// `sources` holds the names that were met, so that a million events share a few texts.
fn recovered(row: &Row<'_>, sources: &mut HashSet<Arc<str>>) -> Result<RecoveredRow, Error> {
    let id = event(row.get(0)?);
    let word = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
    let state = State::from_str(word).map_err(|()| Error::Fault(format!("event {id} has the unknown state {word}")))?;
    let bytes = row.get(2)?;
    let text = |index| Ok::<_, Error>(row.get_ref(index)?.as_str().map_err(rusqlite::Error::from)?);
    let word: Option<&str> = row.get_ref(5)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    let Some(word) = word else {
        // A refused payload, or one that a person ended since.
        return Ok(RecoveredRow { id, state, bytes, event: None });
    };
    let action = action(word).ok_or_else(|| Error::Fault(format!("event {id} has the unknown action {word}")))?;
    let outcome: Option<&str> = row.get_ref(7)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    let occurrence = |index| {
        let text: Option<&str> = row.get_ref(index)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        Ok::<_, Error>(text.map(|text| Occurrence(Arc::from(text))))
    };
    let name = text(3)?;
    let source = match sources.get(name) {
        Some(source) => Arc::clone(source),
        None => {
            let source: Arc<str> = Arc::from(name);
            sources.insert(Arc::clone(&source));
            source
        }
    };
    let event = Recovered {
        id,
        key: KeyId::new(name, text(4)?),
        source,
        action,
        priority: priority(row.get_ref(15)?),
        taken_at: WallTime(row.get(6)?),
        state,
        outcome: outcome.and_then(|word| Outcome::from_str(word).ok()),
        update: UpdateHash(row.get::<_, Option<i64>>(8)?.unwrap_or(0).cast_unsigned()),
        occurrences: Occurrences { last: occurrence(9)?, past: occurrence(13)? },
        reopening: row.get(12)?,
        continues: row.get(14)?,
        tried: match (state, row.get::<_, Option<i64>>(11)?) {
            (State::Queued, Some(retry_at)) => Some(Tried {
                attempts: row.get(10)?,
                age: duration(row.get::<_, Option<i64>>(16)?.unwrap_or(0)),
                retry_at: WallTime(retry_at),
                asked: row.get::<_, Option<i64>>(17)?.map(duration),
            }),
            _ => None,
        },
    };
    Ok(RecoveredRow { id, state, bytes, event: Some(event) })
}

/// NULL stands for normal.
pub(super) fn priority(word: ValueRef<'_>) -> Priority {
    word.as_str().ok().and_then(|word| Priority::from_str(word).ok()).unwrap_or_default()
}

pub(super) fn action(word: &str) -> Option<Action> {
    [Action::Trigger, Action::Resolve].into_iter().find(|action| action.as_str() == word)
}

/// What rules in the shadow of others would have decided otherwise of an event.
fn differences(connection: &Connection, id: i64) -> Result<Option<serde_json::Value>, rusqlite::Error> {
    let found: Option<String> = connection
        .prepare_cached("SELECT found FROM difference WHERE event = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    Ok(found.and_then(|found| serde_json::from_str(&found).ok()))
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
        differences: None,
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

const EXISTS: &str = "name the `data_dir` of a relay that ran, and be a user who may read it";
/// What stands for itself in the path of SQLite's URI (https://www.sqlite.org/uri.html).
const URI_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
/// The columns of a [`Summary`], in its order.
const SUMMARY: &str = "id, source, action, incident_key, state, outcome, reason, rule, received_at, attempts";
/// The longest page.
const LIST_MAX: usize = 1_000;
/// More replays of one event than anyone made.
const REPLAYS_SHOWN: usize = 100;
