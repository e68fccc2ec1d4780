//! Queries for restart, delivery and people.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OpenFlags, OptionalExtension, Row, params};
use serde::Serialize;

use super::names::FILE;
use super::readers::{self, Readers, Slot};
use super::recovered::{Read, RecoveredRow, shared};
use super::sum::{self, FIXED, FIXED_READ, Fixed, STANDING, Standing};
use super::values::{action, event, priority, sql};
use super::{Error, Found, OpenError, Recovered, Tried, data_dir, key_state, salvage, schema};
use crate::callgoose::answer::Trouble;
use crate::clock::WallTime;
use crate::event::{
    Action, Damage, EventId, KeyId, Occurrence, Outcome, Outgoing, Priority, Reason, Settlement, State, UpdateHash,
};
use crate::journal::dedup::Occurrences;
use crate::yaml::is_sensitive;

/// A read-only connection. It never waits for the writing end, nor the writing end for it.
#[derive(Debug)]
pub struct Reader {
    slot: Arc<Slot>,
    /// The readers of the same journal; none if nobody writes, or another process does.
    readers: Option<Arc<Readers>>,
    /// The directory in which to note damage; none if the journal belongs to another process.
    directory: Option<PathBuf>,
}

/// A filter for events; every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Any of these; empty means all.
    pub states: Vec<State>,
    pub outcome: Option<Outcome>,
    pub key: Option<String>,
    pub source: Option<String>,
    /// The reason of an event that has ended.
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

/// A refused payload for a new decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPayload {
    pub id: EventId,
    pub source: String,
    pub received_at: WallTime,
    /// The request's raw body; none if it is not kept any more.
    pub raw: Option<Vec<u8>>,
    /// The charset of `raw`; none for UTF-8.
    pub charset: Option<String>,
    /// The refused element of `raw`, as JSON; none if all of it was refused.
    pub element: Option<Vec<u8>>,
    /// The reason for which it was refused.
    pub reason: Option<String>,
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

/// The extent of the journal, to explain why nothing was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The time at which the oldest kept event was received.
    pub oldest: Option<WallTime>,
    /// True if there are refused payloads.
    pub refused: bool,
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
    pub deliveries: Vec<Attempt>,
}

/// One call, as displayed.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
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

/// Texts to search for; all that are set must be found, in upper or lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// A part of the incident key.
    pub key: Option<String>,
    /// A part of the sent body or of the received payload.
    pub payload: Option<String>,
    /// The request id, the relay's or the sender's own; a whole, exact match.
    pub request: Option<String>,
}

/// The extent of a search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Searched {
    /// Events searched.
    pub looked_at: usize,
    /// Searched events whose payload is not kept any more.
    pub without_payload: usize,
    /// The time of the oldest event searched.
    pub back_to: Option<String>,
    /// True if the search stopped at its limit: the page's `next` continues it.
    pub stopped: bool,
}

/// A delivered event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub key: KeyId,
    pub action: Action,
    pub outcome: Outcome,
    pub at: WallTime,
}

/// The body of an event, as read back.
#[derive(Clone, Debug, PartialEq)]
pub enum Sendable {
    Sound(Outgoing),
    /// Damaged: never sent.
    Damaged(Damage),
}

impl Reader {
    /// Opens the journal of a directory beside its writing end.
    pub fn open(directory: &Path) -> Result<Reader, Error> {
        Ok(Reader {
            slot: Arc::new(Slot::new(Some(readers::open(&directory.join(FILE))?))),
            readers: None,
            directory: Some(directory.to_owned()),
        })
    }

    /// Opens the journal beside the writing end of this process; follows it when it is reopened in another file.
    pub fn beside(readers: &Arc<Readers>) -> Result<Reader, Error> {
        let directory = Some(readers.directory().to_owned());
        let reader = Reader { slot: readers.enter(), readers: Some(Arc::clone(readers)), directory };
        reader.with(|_| Ok(()))?;
        Ok(reader)
    }

    /// Opens the journal of a directory that no relay uses. Leaves no trace there: no log files are made, and damage is
    /// not noted.
    pub fn open_stopped(directory: &Path) -> Result<Reader, OpenError> {
        let path = directory.join(FILE);
        let fail = |problem: String, remedy| OpenError { path: path.clone(), problem, remedy };
        let file = std::path::absolute(&path).map_err(|error| fail(error.to_string(), EXISTS))?;
        if let Err(error) = data_dir::readable(&file) {
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
            Ok((connection, schema::VERSION)) => {
                Ok(Reader { slot: Arc::new(Slot::new(Some(connection))), readers: None, directory: None })
            }
            Ok((_, other)) => Err(fail(
                format!("it has layout {other}, and this version of gander knows layout {}", schema::VERSION),
                "use the version of gander that wrote it",
            )),
            Err(error) => Err(OpenError::of(&path, &error)),
        }
    }

    /// Reads every kept event, oldest first.
    pub fn recover(&self, mut each: impl FnMut(Found)) -> Result<(), Error> {
        self.connected(|connection| {
            recover(connection, |row| {
                if let Some(found) = row.found() {
                    each(found);
                }
            })
        })
    }

    /// Reads the body of an event.
    pub fn outgoing(&self, id: EventId) -> Result<Sendable, Error> {
        self.with(|connection| outgoing(connection, id))
    }

    /// The delivered events since a time, in that order, among the newest ones.
    pub fn delivered_since(&self, since: WallTime) -> Result<Vec<Delivered>, Error> {
        self.with(|connection| {
            let mut statement = connection.prepare(
                "SELECT source, incident_key, action, outcome, settled_at \
                 FROM (SELECT source, incident_key, action, outcome, settled_at, state \
                       FROM event ORDER BY id DESC LIMIT ?2) \
                 WHERE state = 'delivered' AND settled_at >= ?1 ORDER BY settled_at",
            )?;
            let mut rows = statement.query([since.0, NEWEST_LOOKED_AT])?;
            let mut delivered = Vec::new();
            while let Some(row) = rows.next()? {
                delivered.extend(read_delivered(row));
            }
            Ok(delivered)
        })
    }

    /// The time at which the oldest queued event was received.
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

    /// The number of the newest row; zero if there is none.
    pub fn newest(&self) -> Result<EventId, Error> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT coalesce(max(id), 0) FROM event")?
                .query_row([], |row| row.get(0).map(event))
        })
    }

    /// The extent of the journal.
    pub fn scope(&self) -> Result<Scope, Error> {
        self.with(|connection| {
            let oldest = connection
                .prepare_cached("SELECT received_at FROM event ORDER BY id LIMIT 1")?
                .query_row([], |row| row.get(0).map(WallTime))
                .optional()?;
            let refused = connection
                .prepare_cached("SELECT 1 FROM event WHERE state = 'refused' AND state <> 'delivered'")?
                .exists([])?;
            Ok(Scope { oldest, refused })
        })
    }

    /// A refused payload, also one that ended since; none if it is not kept, is an event, or is damaged.
    pub fn refused(&self, id: EventId) -> Result<Option<RefusedPayload>, Error> {
        self.with(|connection| {
            let fixed = schema::of_event(connection, FIXED)?;
            let has_sums = schema::has_column(connection, "content", "raw_sum")?;
            let of = |column| if has_sums { sum::of_event_with_sum(column) } else { "NULL".to_owned() };
            let (raw_sum, own_sum) = (of("held.raw_sum"), of("own.sum"));
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {fixed}, held.raw, {raw_sum}, own.element, own.body, {own_sum}, event.reason \
                 FROM event LEFT JOIN content AS held ON held.id = event.raw_in LEFT JOIN content AS own ON own.id = event.id \
                 WHERE event.id = ?1 AND event.action IS NULL"
            ))?;
            let mut rows = statement.query([sql(id)])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let Ok(fixed) = Fixed::read(row, 0) else {
                return Ok(None);
            };
            let (raw, raw_sum) = (bytes(row, FIXED_READ)?, row.get_ref(FIXED_READ + 1)?);
            let is_raw = |raw: &Vec<u8>| sum::is_sum(raw_sum, || sum::of_raw(fixed.request, raw));
            let (element, body) = (bytes(row, FIXED_READ + 2)?, bytes(row, FIXED_READ + 3)?);
            let own = || sum::of_content(id, body.as_deref().unwrap_or_default(), element.as_deref());
            if !sum::is_sum(row.get_ref(FIXED_READ + 4)?, own) {
                return Ok(None);
            }
            Ok(Some(RefusedPayload {
                id,
                source: fixed.source.to_owned(),
                received_at: WallTime(fixed.received_at),
                raw: raw.filter(is_raw),
                charset: fixed.charset.map(str::to_owned),
                element,
                // An end wrote over that of the row; an earlier version kept it nowhere else.
                reason: body.as_deref().and_then(refused_for).or(shown(row, FIXED_READ + 5)?),
            }))
        })
    }

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

    /// All details of an event; none if it is not kept.
    pub fn details(&self, id: EventId) -> Result<Option<Details>, Error> {
        self.with(|connection| {
            let details = connection
                .prepare_cached(&format!(
                    "SELECT {SUMMARY}, novelty, settled_at, duplicates, request, \
                     (SELECT raw FROM content WHERE content.id = event.raw_in), \
                     (SELECT body FROM content WHERE content.id = event.id), replay_of, charset, \
                     (SELECT element FROM content WHERE content.id = event.id), priority, sender_request, \
                     CASE state WHEN 'queued' THEN retry_at END FROM event WHERE id = ?1"
                ))?
                .query_row([sql(id)], |row| {
                    let (raw, body) = (bytes(row, 14)?, bytes(row, 15)?);
                    let body = body.and_then(|body| serde_json::from_slice(&body).ok());
                    let summary = summary(row)?;
                    let element = bytes(row, 18)?;
                    // A refused payload never had an action; a dead letter without one has only its body left.
                    let refused = summary.action.is_none() && summary.state != State::Dead.as_str();
                    let (sent, errors) = if refused { (None, body) } else { (body, None) };
                    Ok(Details {
                        summary,
                        novelty: shown(row, 10)?,
                        priority: shown(row, 19)?,
                        settled_at: row.get(11).ok().flatten().map(|at| WallTime(at).rfc3339()),
                        next_attempt_at: row.get(21).ok().flatten().map(|at| WallTime(at).rfc3339()),
                        duplicates: row.get(12).unwrap_or(0),
                        request_id: shown(row, 13)?.unwrap_or_default(),
                        sender_request_id: shown(row, 20)?,
                        replay_of: shown(row, 16)?,
                        received_hex: raw.as_deref().filter(|raw| std::str::from_utf8(raw).is_err()).map(hex::encode),
                        received: raw.map(|raw| String::from_utf8_lossy(&raw).into_owned()),
                        charset: shown(row, 17)?,
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

    pub(super) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>) -> Result<T, Error> {
        self.connected(|connection| {
            read(connection).map_err(|error| {
                let error = Error::from(error);
                if let (Error::Damaged(_), Some(directory)) = (&error, &self.directory) {
                    // The recorder checks for this mark, and so does the next start.
                    salvage::mark_damaged(directory);
                }
                error
            })
        })
    }

    fn connected<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        loop {
            // Before the slot is locked, so that nobody holds it while the files must be closed.
            self.readers.as_ref().map_or(Ok(()), |readers| readers.wait())?;
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(connection) = &*slot {
                return read(connection);
            }
            let Some(readers) = &self.readers else {
                return Err(Error::Fault("the journal is closed".to_owned()));
            };
            if let Some(connection) = readers.connect()? {
                return read(slot.insert(connection));
            }
        }
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
             AND (?10 IS NULL OR reason = ?10)"
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
            self.reason.clone(),
        )
    }
}

/// Reads a delivered event. None if a column can't be read; the checksum is not compared.
fn read_delivered(row: &Row<'_>) -> Option<Delivered> {
    let text = |column| row.get_ref(column).ok()?.as_str().ok();
    Some(Delivered {
        key: KeyId::new(text(0)?, text(1)?),
        action: action(text(2)?)?,
        outcome: text(3)?.parse().ok()?,
        at: WallTime(row.get(4).ok()?),
    })
}

pub(super) fn outgoing(connection: &Connection, id: EventId) -> Result<Sendable, rusqlite::Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {FIXED}, content.body, content.element, {} FROM event \
         LEFT JOIN content ON content.id = event.id WHERE event.id = ?1",
        sum::of_event_with_sum("content.sum")
    ))?;
    let mut rows = statement.query([sql(id)])?;
    let Some(row) = rows.next()? else {
        return Ok(Sendable::Damaged(Damage::NoRow));
    };
    let fixed = match Fixed::read(row, 0) {
        Ok(fixed) => fixed,
        Err(damage) => return Ok(Sendable::Damaged(damage)),
    };
    let (body, element) = (row.get_ref(FIXED_READ)?, row.get_ref(FIXED_READ + 1)?);
    let (body, element) = match (body.as_bytes_or_null(), element.as_bytes_or_null()) {
        (Ok(Some(body)), Ok(element)) => (body, element),
        (Ok(None), _) => return Ok(Sendable::Damaged(Damage::NoBody)),
        _ => return Ok(Sendable::Damaged(Damage::Body)),
    };
    if !sum::is_sum(row.get_ref(FIXED_READ + 2)?, || sum::of_content(id, body, element)) {
        return Ok(Sendable::Damaged(Damage::Body));
    }
    Ok(Sendable::Sound(Outgoing {
        source: Arc::from(fixed.source),
        incident_key: Arc::from(fixed.incident_key.unwrap_or_default()),
        body: Bytes::copy_from_slice(body),
        acknowledged: WallTime(fixed.received_at),
    }))
}

/// Reads every row, oldest first, with the states of keys whose last event is pruned in the place of that event.
pub(super) fn recover(connection: &Connection, mut each: impl FnMut(RecoveredRow)) -> Result<(), Error> {
    let columns = schema::of_event(connection, &format!("{FIXED}, {STANDING}"))?;
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM event ORDER BY id"))?;
    let mut rows = statement.query([])?;
    let mut sources = HashSet::new();
    let mut of_keys = key_state::statement(connection)?;
    let mut keys = key_state::Reading::new(of_keys.as_mut(), &mut sources)?;
    while let Some(row) = rows.next()? {
        let id = event(row.get(0)?);
        while let Some(before) = keys.before(Some(id), &mut sources)? {
            each(before);
        }
        let source = shared(row.get_ref(1)?.as_str().unwrap_or_default(), &mut sources);
        let standing = Standing::read(row, FIXED_READ, id);
        let read = standing.as_ref().map_err(|damage| *damage).and_then(|standing| recovered(row, standing, &source));
        each(RecoveredRow { id, source, read, standing: standing.ok(), is_event: true });
    }
    while let Some(last) = keys.before(None, &mut sources)? {
        each(last);
    }
    Ok(())
}

/// The settlement of an event; none while it is queued, or if it can't be read.
pub(super) fn settlement(connection: &Connection, id: EventId) -> Result<Option<Settlement>, Error> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {STANDING} FROM event WHERE id = ?1 AND state <> 'queued'"))?;
    let mut rows = statement.query([sql(id)])?;
    let Some(row) = rows.next()? else {
        return Ok(key_state::settlement(connection, id)?);
    };
    let standing = Standing::read(row, 0, id).ok();
    Ok(standing.map(|Standing { state, outcome, reason, attempts, settled_at, .. }| Settlement {
        id,
        state,
        outcome,
        reason: reason.as_deref().map(Reason::read),
        attempts,
        at: WallTime(settled_at.unwrap_or(0)),
    }))
}

fn recovered(row: &Row<'_>, standing: &Standing, source: &Arc<str>) -> Result<Read, Damage> {
    let fixed = Fixed::read(row, 0)?;
    let Some(word) = fixed.action else {
        return Ok(Read::Refused);
    };
    let occurrence = |text: Option<&str>| text.map(|text| Occurrence(Arc::from(text)));
    let is_queued = standing.state == State::Queued;
    Ok(Read::Event(Recovered {
        id: fixed.id,
        key: KeyId::new(fixed.source, fixed.incident_key.ok_or(Damage::Row)?),
        source: Arc::clone(source),
        action: action(word).ok_or(Damage::Row)?,
        priority: if is_queued { priority(fixed.priority) } else { Priority::default() },
        taken_at: WallTime(fixed.received_at),
        state: standing.state,
        outcome: standing.outcome,
        update: UpdateHash(fixed.update_hash.unwrap_or(0).cast_unsigned()),
        occurrences: Occurrences { last: occurrence(fixed.occurrence), past: occurrence(fixed.past_occurrence) },
        reopening: is_queued && fixed.novelty == Some("reopening"),
        tried: match (standing.state, standing.retry_at) {
            (State::Queued, Some(retry_at)) => Some(Tried {
                attempts: standing.attempts,
                age: duration(standing.tried_ms.unwrap_or(0)),
                retry_at: WallTime(retry_at),
                asked: standing.asked_ms.map(duration),
            }),
            _ => None,
        },
    }))
}

/// The different decisions of shadow rules about an event.
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
        held: None,
        replayed_by: Vec::new(),
        error: None,
        differences: None,
    })
}

/// The reason of a refusal, from its errors.
fn refused_for(errors: &[u8]) -> Option<String> {
    let errors: serde_json::Value = serde_json::from_slice(errors).ok()?;
    errors[0]["reason"].as_str().map(str::to_owned)
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

/// The text in a column of a possibly damaged row.
fn shown(row: &Row<'_>, column: usize) -> Result<Option<String>, rusqlite::Error> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => None,
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    })
}

/// The bytes in a column.
fn bytes(row: &Row<'_>, column: usize) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    Ok(row.get_ref(column)?.as_bytes_or_null().unwrap_or_default().map(<[u8]>::to_vec))
}

fn attempt(row: &Row<'_>) -> Result<Attempt, rusqlite::Error> {
    let answer = bytes(row, 6)?;
    let result = shown(row, 3)?.unwrap_or_default();
    let fault = Trouble::read(&result).map(|trouble| trouble.attribution().as_str());
    Ok(Attempt {
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

const EXISTS: &str = "name the `data_dir` of a relay that ran, and be a user who may read it";
/// Characters that need no escape in the path of SQLite's URI (https://www.sqlite.org/uri.html).
const URI_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
/// The columns of a [`Summary`], in its order. A queued event's reason is the result of its last call.
pub(super) const SUMMARY: &str = "id, source, action, incident_key, state, outcome, CASE state WHEN 'queued' THEN \
     (SELECT result || coalesce(' (' || status || ')', '') FROM attempt WHERE attempt.event = event.id \
     ORDER BY number DESC LIMIT 1) ELSE reason END, rule, received_at, attempts";
/// The longest page.
const LIST_MAX: usize = 1_000;
/// More replays of one event than a person makes.
const REPLAYS_SHOWN: usize = 100;
/// The newest events that are searched for recent deliveries: more than go out in some minutes.
const NEWEST_LOOKED_AT: i64 = 100_000;
