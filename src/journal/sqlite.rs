//! The durable log of events: SQLite behind a narrow interface.
//!
//! One [`Journal`] writes, in batches that are synced as a whole; any number of [`Reader`]s read beside it. It decides
//! nothing about deduplication and delivery: it stores and returns their data.
//!
//! Repairs, by the kind of damage:
//!
//! | file | when | damage | source |
//! | --- | --- | --- | --- |
//! | `salvage` | a start, or damage met while running | a damaged file, or a log that continues after its end | the pages of the files |
//! | `damaged_rows` | a start, and before sending | a row or body whose checksum does not match | nothing: it becomes a dead letter |
//! | `marker` | a start | files that differ from those of the last run | reported only |
//! | `open_files` and `put_back` | while running | files deleted, moved or replaced | the files that are still open |
//! | `rewrite_from_queue` | while running | files cut off or overwritten | the dispatcher's queue in memory |
//!
//! The layout keeps large data apart from data that changes: `event` rows are narrow and their state is updated in
//! place, `content` rows hold payload and body and are never touched again, `attempt` rows are only added. An
//! operator may look into `journal.db` with `sqlite3 -readonly` at any time; words are stored as words.

mod batch;
mod checkpoint;
mod command_log;
mod confirmations;
mod connect;
mod damaged_rows;
mod data_dir;
mod errors;
mod event_details;
mod event_list;
mod hold_rows;
mod key_state;
mod lookup;
mod marker;
mod names;
mod open_files;
mod pages;
mod put_back;
mod reader;
mod readers;
mod refused_payload;
mod restore_rows;
mod restored_row;
mod rewrite_from_queue;
mod salvage;
mod schema;
mod search;
mod search_block;
mod search_feed;
mod search_index;
mod sectors;
mod source_totals;
mod sqlite_version;
mod sum;
mod unmatched;
mod values;
mod verify;
mod volume;
mod wal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::clock::WallTime;
use crate::event::{Damage, EventId};
use crate::journal::Shares;
use crate::journal::space::Space;
use crate::journal::state::RestoredEvent;
use crate::journal::totals::{Limits, Totals, TotalsBySource};
use connect::connect;
use errors::{MAKE_ROOM, is_of_damage};
use key_state::KeyStates;
use marker::{Mark, Marker};
use names::FILE;
use open_files::{OpenFiles, Wrote};
use verify::note_files;
use volume::Volume;

pub use batch::Batch;
pub(crate) use command_log::CommandRecord;
pub(crate) use confirmations::{ConfirmationFilter, ConfirmationRecord, IncidentConfirmation, LastConfirmation};
pub use data_dir::Lock;
pub(crate) use data_dir::{inspect, is_used, make_directory};
pub use errors::Error;
pub(crate) use errors::OpenError;
pub(crate) use event_details::AttemptDetails;
pub use event_details::Details;
pub use event_list::Filter;
#[cfg(test)]
pub(crate) use event_list::Searched;
pub(crate) use event_list::{LIST_MAX, Order, Page, Summary, Texts};
pub(crate) use marker::{FilesAtStart, Lack};
pub(crate) use open_files::{FileStates, PutBackBy};
pub(crate) use put_back::{ClosedJournal, PutBack};
pub(crate) use reader::{Delivered, Scope};
pub use reader::{Reader, Sendable};
pub(crate) use readers::Readers;
pub(crate) use refused_payload::RefusedPayload;
pub(crate) use rewrite_from_queue::Rewritten;
pub(crate) use salvage::{ASIDE_KEPT, mark_damaged};
pub(crate) use salvage::{LogSalvage, Salvage};
pub use salvage::{Repairs, is_marked_damaged, repair};
pub(crate) use search_feed::Fed;
pub(crate) use search_index::SearchIndex;
pub(crate) use sqlite_version::linked as sqlite_version;
pub(crate) use volume::{Outlook, Reserve, TooSmall, outlook, too_small};

/// `data_dir` and the `journal` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub max_events: u64,
    pub max_bytes: u64,
    pub keep_delivered: Duration,
    pub keep_refused: u64,
    /// The shares of the configured sources in `max_events` and `max_bytes`.
    pub shares: Shares,
    /// The size of the reserve for a full disk, in bytes; none: a part of the volume.
    pub reserve: Option<u64>,
}

impl Config {
    pub(in crate::journal) fn limits(&self) -> Limits {
        Limits { max_events: self.max_events, max_bytes: self.max_bytes, shares: self.shares.clone() }
    }
}

/// The writing end: one in a process, and one process for a data directory.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    /// The files that it has open.
    open_files: OpenFiles,
    readers: Arc<Readers>,
    marker: Marker,
    /// Its random identity; none if that could not be read or written.
    identity: Option<u64>,
    /// True if modification times are reliable.
    times: bool,
    config: Config,
    limits: Limits,
    volume: Volume,
    next_id: EventId,
    /// The first event number of a new journal: the time in milliseconds since 1970.
    opened_at: u64,
    totals: TotalsBySource,
    key_states: KeyStates,
    /// The position at which pruning goes on.
    prune_after: EventId,
}

/// A row for a restart.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Event(RestoredEvent),
    /// A damaged row: its key is unknown.
    Damaged(EventId),
}

/// A row whose checksum does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub id: EventId,
    pub damage: Damage,
}

impl Journal {
    /// Opens or creates the journal in a directory whose [`Lock`] is held.
    pub fn open(config: &Config, lock: &Lock, now: WallTime) -> Result<Journal, OpenError> {
        let path = lock.directory().join(FILE);
        data_dir::private(&path)?;
        let before = open_files::stat(&path);
        let volume = Volume::of(lock.directory(), config.reserve);
        let failed = |error: &rusqlite::Error| {
            let failed = OpenError::of(&path, error);
            // SQLite reports an I/O error if its shared memory finds no room.
            if volume::is_full(lock.directory()) { OpenError { remedy: MAKE_ROOM, ..failed } } else { failed }
        };
        let connection = connect(&path, now).map_err(|error| {
            if is_of_damage(&error) {
                mark_damaged(lock.directory());
            }
            failed(&error)
        })?;
        // Closing would delete the log by its path, which may be another file by now.
        let noted = connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .and_then(|_| connection.pragma_update(None, "journal_size_limit", volume.split.log_max()))
            .and_then(|()| note_files(lock.directory(), &connection));
        let open_files = noted.map_err(|error| failed(&error))?;
        match (before, open_files.database()) {
            (Some(before), Some(opened)) if opened.is_same_file(&before) => lock.readers().allow(opened),
            _ => {
                return Err(OpenError {
                    path,
                    problem: "another program replaced it while it was opened".to_owned(),
                    remedy: open_files::LEAVE_ALONE,
                });
            }
        }
        let identity = identity_of(&connection);
        Ok(Journal {
            connection,
            open_files,
            readers: lock.readers(),
            marker: Marker::new(lock.directory()),
            identity,
            times: true,
            config: config.clone(),
            limits: config.limits(),
            volume,
            next_id: EventId(0),
            opened_at: now.0.max(1).cast_unsigned(),
            totals: TotalsBySource::default(),
            key_states: KeyStates::UNREAD,
            prune_after: EventId(0),
        })
    }

    /// Reads every kept event, oldest first, and continues their numbers. Called once, before the first batch. Returns
    /// the damaged rows that are no dead letters yet. A damaged state of a key is dropped at the next pruning.
    pub fn restore(&mut self, mut each: impl FnMut(Found)) -> Result<Vec<Damaged>, Error> {
        let (mut totals, mut last, mut damaged) = (TotalsBySource::default(), 0, Vec::new());
        let mut key_states = KeyStates::UNREAD;
        restore_rows::restore(&self.connection, |row| {
            last = last.max(row.id.0);
            if !row.is_event {
                key_states.found(&row);
                row.found().into_iter().for_each(&mut each);
                return;
            }
            match (&row.standing, &row.read) {
                (Some(standing), Err(damage)) if !sum::is_reason_of_damage(standing.reason.as_deref()) => {
                    damaged.push(Damaged { id: row.id, damage: *damage });
                }
                (None, Err(damage)) => damaged.push(Damaged { id: row.id, damage: *damage }),
                (Some(standing), _) => totals.add(&row.source, standing.state, standing.bytes),
                (None, Ok(_)) => {}
            }
            if let Some(found) = row.found() {
                each(found);
            }
        })?;
        if last > ID_MAX {
            return Err(Error::Damaged("an event has a number that was never given".to_owned()));
        }
        self.next_id = EventId(self.first_id()?.max(last + 1));
        (self.totals, self.key_states) = (totals, key_states);
        Ok(damaged)
    }

    /// The number of the first event in a new journal. The newest row is never removed, so the number after it is
    /// unused: the first number only matters while there is no row, and any higher one will do if it can't be read.
    fn first_id(&self) -> Result<u64, Error> {
        let mut statement = self.connection.prepare("SELECT value FROM meta WHERE name = 'first_id'")?;
        let mut rows = statement.query([])?;
        let first: Option<u64> = rows.next()?.and_then(|row| row.get(0).ok());
        Ok(first.filter(|first| *first <= ID_MAX).unwrap_or(self.opened_at))
    }

    /// The space on the volume now.
    pub fn space(&self) -> Result<Space, Error> {
        Ok(self.volume.space(&self.connection, self.totals.all.queued)?)
    }

    /// Allocates the reserve.
    pub fn take_reserve(&self) -> std::io::Result<()> {
        self.volume.take_reserve()
    }

    /// The part of the last run's journal that is missing; called after everything was read. Numbers of missing events
    /// are not used again.
    pub fn lack(&mut self, files: &FilesAtStart, salvaged: bool) -> Option<Lack> {
        let lack = files.lack(self.identity, self.next_id, salvaged)?;
        if let Lack::LogGone { events } | Lack::Older { events } = lack {
            self.skip(events);
        }
        Some(lack)
    }

    /// Skips all numbers that `before` has used, also after a restart.
    pub fn continue_after(&mut self, before: &Journal) {
        self.skip(before.next_id.0.saturating_sub(self.next_id.0));
    }

    /// Sets whether modification times are reliable.
    pub fn trust_times(&mut self, trust: bool) {
        self.times = trust;
    }

    /// Skips the next numbers, also after a restart.
    fn skip(&mut self, numbers: u64) {
        if numbers == 0 {
            return;
        }
        self.next_id = EventId(self.next_id.0.saturating_add(numbers).min(ID_MAX));
        let raised = self
            .connection
            .execute("UPDATE meta SET value = max(value, ?1) WHERE name = 'first_id'", [self.next_id.0.cast_signed()]);
        if let Err(error) = raised {
            tracing::warn!(%error, "can't write down which numbers were given before; after a restart they may be given again");
        }
    }

    /// Writes `journal.id`, which each commit updates from now on. Before the first one after a checkpoint the log is empty,
    /// and its absence says nothing.
    pub fn mark(&mut self) -> std::io::Result<()> {
        let mark = self.content_of_mark(self.log_bytes() > 0);
        self.marker.renew(mark)
    }

    /// Writes that the journal is closed in order: no log need be there.
    fn mark_closed(&mut self) -> std::io::Result<()> {
        let mark = self.content_of_mark(false);
        self.marker.renew(mark)
    }

    /// Returns true if `journal.id` was removed, or could not be written.
    pub fn is_mark_gone(&self) -> bool {
        self.marker.is_gone()
    }

    fn content_of_mark(&self, log: bool) -> Mark {
        let last = EventId(self.next_id.0.saturating_sub(1));
        Mark { identity: self.identity.unwrap_or(0), last, waiting: self.totals().queued, log }
    }

    /// Programs that keep the log from being reset.
    pub fn log_holders(&self) -> Vec<String> {
        self.open_files.log_holders()
    }

    /// The log's maximum length while nothing keeps it from being reset.
    pub fn log_bytes_usual(&self) -> u64 {
        2 * self.volume.split.log
    }

    /// The length of the database.
    pub fn database_bytes(&self) -> u64 {
        self.open_files.database().map_or(0, |database| database.bytes)
    }

    /// The length of the log.
    pub fn log_bytes(&self) -> u64 {
        self.open_files.log_bytes()
    }

    /// Checkpoints the log and closes the journal in order, after all its readers: only the main file stays, unless
    /// another program has it open.
    pub fn close(mut self) {
        let checkpointed = self.verify().is_ok()
            && self.readers.close()
            && matches!(self.checkpoint(), Ok(true))
            && self.verify_after(Wrote::Us).is_ok();
        if !checkpointed {
            return;
        }
        if !self.marker.is_gone()
            && let Err(error) = self.mark_closed()
        {
            tracing::warn!(%error, "can't note that the journal was closed in order");
        }
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    }

    /// A statement of a test, to cause a fault.
    #[cfg(test)]
    pub(crate) fn execute(&self, statement: &str) {
        self.connection.execute_batch(statement).unwrap();
    }

    /// Starts a batch: all of it becomes durable on commit, or nothing.
    pub fn begin(&mut self) -> Result<Batch<'_>, Error> {
        Batch::begin(self)
    }

    /// The counts for the limits.
    pub fn totals(&self) -> Totals {
        self.totals.all
    }

    /// Returns true if no further event fits.
    pub fn is_full(&self) -> bool {
        !self.totals().without_refused().fits(1, 1, &self.limits)
    }

    /// The part of `max_events` or of `max_bytes` in use, whichever is greater.
    pub fn used(&self) -> f64 {
        let Limits { max_events, max_bytes, .. } = self.limits;
        let used = self.totals().without_refused();
        let part = |used: u64, max: u64| used as f64 / max.max(1) as f64;
        part(used.events(), max_events).max(part(used.bytes, max_bytes))
    }

    /// Returns true if payloads, bodies and history together exceed `max_bytes`.
    pub fn is_large(&self) -> Result<bool, Error> {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let free: i64 = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        let bytes: u64 = self.connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let used = u64::try_from(pages - free).unwrap_or(0) * bytes;
        Ok(used > self.limits.max_bytes)
    }
}

/// Reads a journal's random identity; creates one if there is none.
fn identity_of(connection: &Connection) -> Option<u64> {
    identity_in(connection).or_else(|| {
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?1)", [fastrand::i64(1..)]).ok()?;
        identity_in(connection)
    })
}

fn identity_in(connection: &Connection) -> Option<u64> {
    connection.query_row("SELECT value FROM meta WHERE name = 'identity'", [], |row| row.get(0)).ok()
}

/// Numbers begin with the milliseconds since 1970 and grow by one: a higher one was never used.
const ID_MAX: u64 = 1 << 52;

#[cfg(test)]
mod tests;
