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
//! | `aside` | a start, and before sending | a row or body whose checksum does not match | nothing: it becomes a dead letter |
//! | `marker` | a start | files that differ from those of the last run | reported only |
//! | `place` and `mending` | while running | files deleted, moved or replaced | the files that are still open |
//! | `rescue` | while running | files cut off or overwritten | the dispatcher's queue in memory |
//!
//! The layout keeps large data apart from data that changes: `event` rows are narrow and their state is updated in
//! place, `content` rows hold payload and body and are never touched again, `attempt` rows are only added. An
//! operator may look into `journal.db` with `sqlite3 -readonly` at any time; words are stored as words.

mod aside;
mod batch;
mod connection;
mod data_dir;
mod holds;
mod key_state;
mod lookup;
mod marker;
mod mending;
mod names;
mod pages;
mod place;
mod read;
mod readers;
mod records;
mod recovered;
mod rescue;
mod room;
mod salvage;
mod schema;
mod search;
mod sectors;
mod sum;
mod unmatched;
mod values;
mod version;
mod volume;
mod wal;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::clock::WallTime;
use crate::event::{Action, Damage, EventId, KeyId, Outcome, Priority, State, UpdateHash};
use crate::journal::Shares;
use crate::journal::dedup::Occurrences;
use key_state::KeyStates;
use marker::{Marker, Memory};
use names::FILE;
use place::{Frames, Place, Wrote};
use room::Holdings;
use schema::{SCHEMA, VERSION};
use volume::Volume;

pub use batch::Batch;
pub use data_dir::{Lock, inspect, is_used};
pub use lookup::{Blob, Decided, Later, Replay, Stored};
pub use marker::{Lack, Left};
pub use mending::{LetGo, Mended};
pub use place::{FileStates, Mending};
#[cfg(test)]
pub use read::Searched;
pub use read::{Delivered, Details, Filter, Order, Page, Reader, RefusedPayload, Scope, Sendable, Summary, Texts};
pub use readers::Readers;
pub use records::{AttemptRecord, NewEvent, NewRefusal, Raw};
pub use rescue::Rescue;
pub use room::{Fit, Held};
pub use salvage::{ASIDE_KEPT, LogSalvage, Repairs, Salvage, is_marked_damaged, mark_damaged, mend};
pub use volume::{Outlook, Reserve, Size, Space, TooSmall, footprint, outlook, too_small};

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

/// The writing end: one in a process, and one process for a data directory.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    /// The files that it has open.
    place: Place,
    readers: Arc<Readers>,
    marker: Marker,
    /// Its random identity; none if that could not be read or written.
    identity: Option<u64>,
    /// True if modification times are reliable.
    times: bool,
    config: Config,
    volume: Volume,
    next_id: EventId,
    /// The first event number of a new journal: the time in milliseconds since 1970.
    opened_at: u64,
    holdings: Holdings,
    key_states: KeyStates,
    /// The position at which pruning goes on.
    prune_after: EventId,
}

/// Counts of the journal's content, for its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub queued: u64,
    pub dead: u64,
    pub refused: u64,
    /// The bytes of payloads and bodies of all of these.
    pub bytes: u64,
    /// The part of refused payloads.
    pub refused_bytes: u64,
}

/// One event for a restart, in the order of acknowledgement.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    pub id: EventId,
    pub source: Arc<str>,
    pub key: KeyId,
    pub action: Action,
    pub priority: Priority,
    pub taken_at: WallTime,
    pub state: State,
    pub outcome: Option<Outcome>,
    pub update: UpdateHash,
    /// The occurrences that its key knew after it.
    pub occurrences: Occurrences,
    /// True for a queued trigger that followed a resolve.
    pub reopening: bool,
    /// The state of its retries, if it was tried and is still queued.
    pub tried: Option<Tried>,
}

/// A row for a restart.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Event(Recovered),
    /// A damaged row: its key is unknown.
    Damaged(EventId),
}

/// A row whose checksum does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub id: EventId,
    pub damage: Damage,
}

/// The state of an event's retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    pub attempts: u32,
    /// How long it has been tried since the first attempt ended, without pauses and while a relay ran. A duration, so
    /// that neither downtime nor a changed clock makes the event older.
    pub age: Duration,
    pub retry_at: WallTime,
    /// The wait that the upstream asked for, if it did.
    pub asked: Option<Duration>,
}

/// An error of the journal.
#[derive(Debug)]
pub enum Error {
    /// The disk has no room.
    Full(String),
    /// The file is damaged: opening it again does not help.
    Damaged(String),
    /// The open files are not those that a restart would find.
    Replaced(FileStates),
    /// Anything else: a failed write or sync.
    Fault(String),
}

/// An error while the journal is opened: an operator must fix it before a start.
#[derive(Debug)]
pub struct OpenError {
    pub path: PathBuf,
    pub problem: String,
    pub remedy: &'static str,
}

impl Journal {
    /// Opens or creates the journal in a directory whose [`Lock`] is held.
    pub fn open(config: &Config, lock: &Lock, now: WallTime) -> Result<Journal, OpenError> {
        let path = lock.directory().join(FILE);
        data_dir::private(&path)?;
        let before = place::stat(&path);
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
            .and_then(|()| note_place(lock.directory(), &connection));
        let place = noted.map_err(|error| failed(&error))?;
        match (before, place.database()) {
            (Some(before), Some(opened)) if opened.is_same_file(&before) => lock.readers().allow(opened),
            _ => {
                return Err(OpenError {
                    path,
                    problem: "another program replaced it while it was opened".to_owned(),
                    remedy: place::LEAVE_ALONE,
                });
            }
        }
        let identity = identity_of(&connection);
        Ok(Journal {
            connection,
            place,
            readers: lock.readers(),
            marker: Marker::new(lock.directory()),
            identity,
            times: true,
            config: config.clone(),
            volume,
            next_id: EventId(0),
            opened_at: now.0.max(1).cast_unsigned(),
            holdings: Holdings::default(),
            key_states: KeyStates::UNREAD,
            prune_after: EventId(0),
        })
    }

    /// Reads every kept event, oldest first, and continues their numbers. Called once, before the first batch. Returns
    /// the damaged rows that were not set aside before. A damaged state of a key is dropped at the next pruning.
    pub fn recover(&mut self, mut each: impl FnMut(Found)) -> Result<Vec<Damaged>, Error> {
        let (mut holdings, mut last, mut damaged) = (Holdings::default(), 0, Vec::new());
        let mut key_states = KeyStates::UNREAD;
        read::recover(&self.connection, |row| {
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
                (Some(standing), _) => holdings.add(&row.source, standing.state, standing.bytes),
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
        (self.holdings, self.key_states) = (holdings, key_states);
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

    /// Writes the whole log into the main file and syncs that, so that the log is reset. This frees its room, and no
    /// page depends on a sync that may have failed but which the kernel treats as done. Returns false if another
    /// process reads.
    pub fn fold_log(&mut self) -> Result<bool, Error> {
        self.verify_frames()?;
        self.connection.busy_timeout(FOLD_TIMEOUT)?;
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        let folded = !busy?;
        // This process made these changes. If a restart would not find them, the next commit reports that.
        self.look(Wrote::UsFolding);
        Ok(folded)
    }

    /// Folds the log if it is long, as far as readers permit. Called after each commit. If space is short the limit is
    /// lower, to leave more room for the next batch.
    pub fn fold_long_log(&mut self, short: bool) -> Result<(), Error> {
        let long = if short { self.volume.split.log / 4 } else { self.volume.split.log };
        // If SQLite can't report more than the file's length, that suffices: it only folds more often.
        let bytes = if knows_frames() { frames(&self.connection)?.log * PAGE_BYTES } else { self.log_bytes() };
        if bytes < long { Ok(()) } else { self.fold_passively() }
    }

    /// Folds the log as far as readers permit, so that the file ends where the database does.
    fn fold_passively(&mut self) -> Result<(), Error> {
        let fold = |connection: &Connection| {
            connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
        };
        self.verify_frames()?;
        match fold(&self.connection) {
            Ok(()) => self.verify_after(Wrote::UsFolding),
            Err(error) => {
                // Writes before the error are ours.
                let states = self.file_states();
                if states.is_intact() { Err(error.into()) } else { Err(Error::Replaced(states)) }
            }
        }
    }

    /// Returns some free pages to the volume, if it lacks them or they are many. Returns true if there may be more to
    /// return.
    pub fn give_back(&mut self) -> Result<bool, Error> {
        let number = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, u64>(0));
        let page = number("PRAGMA page_size")?;
        let pages = self.space()?.spare(number("PRAGMA page_count")? * page).div_ceil(page);
        if pages == 0 {
            return Ok(false);
        }
        let at_once = pages.min(GIVEN_BACK_AT_ONCE);
        let batch = self.begin()?;
        batch.give_back(at_once)?;
        batch.commit()?;
        if pages == at_once {
            self.fold_passively()?;
        } else {
            self.fold_long_log(true)?;
        }
        Ok(pages > at_once)
    }

    /// The space on the volume now.
    pub fn space(&self) -> Result<Space, Error> {
        Ok(self.volume.space(&self.connection, self.holdings.totals.queued)?)
    }

    /// Allocates the reserve.
    pub fn take_reserve(&self) -> std::io::Result<()> {
        self.volume.take_reserve()
    }

    /// Compares the open files with those at their paths. `wrote`: the last writer since the previous look.
    fn look(&mut self, wrote: Wrote) -> FileStates {
        let connection = &self.connection;
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, u64>(0)).ok();
        let database_bytes = || Some(number("PRAGMA page_count")? * number("PRAGMA page_size")?);
        let times = self.times && knows_frames();
        self.place.look(wrote, times, || frames(connection).ok(), database_bytes)
    }

    /// Checks that the open files are those that a restart would find. Called outside of a batch.
    pub fn verify(&mut self) -> Result<(), Error> {
        self.verify_after(Wrote::Nobody)
    }

    /// Checks that the log still holds what was written to it, before it is folded: SQLite folds whatever is there, and
    /// so would ruin good pages of the main file.
    pub fn verify_frames(&self) -> Result<(), Error> {
        for _ in 0..STARTS_MAX {
            let before = frames(&self.connection)?;
            if before.log == before.folded {
                return Ok(());
            }
            let read = |error: std::io::Error| Error::Fault(format!("reading the log of the journal: {error}"));
            let Some(log) = self.place.open_log().map_err(read)? else { return Ok(()) };
            if wal::begins_with(log, before.log).map_err(read)? {
                return Ok(());
            }
            if frames(&self.connection)? == before {
                return Err(Error::Replaced(FileStates::LOG_OVERWRITTEN));
            }
            // Another program folded it meanwhile, or wrote.
        }
        Err(Error::Fault("another program writes to the journal all the time".to_owned()))
    }

    fn verify_after(&mut self, wrote: Wrote) -> Result<(), Error> {
        let states = self.look(wrote);
        if states.is_intact() { Ok(()) } else { Err(Error::Replaced(states)) }
    }

    /// Begins a transaction, after a check that the files are in their place.
    fn start_transaction(&mut self) -> Result<(), Error> {
        for _ in 0..STARTS_MAX {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            if self.place.is_untouched() {
                return Ok(());
            }
            // Another program wrote, or did worse. SQLite's figures of the log are only available outside of a
            // transaction.
            self.connection.execute_batch("ROLLBACK")?;
            self.verify()?;
        }
        // It writes all the time; the files are checked after the commit.
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// Checks, within a transaction, that the log was not truncated. After the commit its size would prove nothing.
    fn verify_log(&self) -> Result<(), Error> {
        if self.place.is_log_shorter() { Err(Error::Replaced(FileStates::LOG_CUT)) } else { Ok(()) }
    }

    /// The part of the last run's journal that is missing; called after everything was read. Numbers of missing events
    /// are not used again.
    pub fn lack(&mut self, left: &Left, salvaged: bool) -> Option<Lack> {
        let lack = left.lack(self.identity, self.next_id, salvaged)?;
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

    /// Writes `journal.id`, which each commit updates from now on. `log`: a log may hold more than the main file.
    pub fn mark(&mut self, log: bool) -> std::io::Result<()> {
        let memory = self.remember(log);
        self.marker.renew(memory)
    }

    /// Returns true if `journal.id` was removed, or could not be written.
    pub fn is_mark_gone(&self) -> bool {
        self.marker.is_gone()
    }

    fn remember(&self, log: bool) -> Memory {
        let last = EventId(self.next_id.0.saturating_sub(1));
        Memory { identity: self.identity.unwrap_or(0), last, waiting: self.totals().queued, log }
    }

    /// Programs that keep the log from being reset.
    pub fn log_holders(&self) -> Vec<String> {
        self.place.log_holders()
    }

    /// The log's maximum length while nothing keeps it from being reset.
    pub fn log_bytes_usual(&self) -> u64 {
        2 * self.volume.split.log
    }

    /// The length of the database.
    pub fn database_bytes(&self) -> u64 {
        self.place.database().map_or(0, |database| database.bytes)
    }

    /// The length of the log.
    pub fn log_bytes(&self) -> u64 {
        self.place.log_bytes()
    }

    /// Folds the log and closes the journal in order, after all its readers: only the main file stays, unless another
    /// program has it open.
    pub fn close(mut self) {
        let folded = self.verify().is_ok()
            && self.readers.close()
            && matches!(self.fold_log(), Ok(true))
            && self.verify_after(Wrote::Us).is_ok();
        if !folded {
            return;
        }
        if !self.marker.is_gone()
            && let Err(error) = self.mark(false)
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
        self.holdings.totals
    }

    /// Returns true if no further event fits.
    pub fn is_full(&self) -> bool {
        !self.totals().without_refused().fits(1, 1, self.config.max_events, self.config.max_bytes)
    }

    /// The part of `max_events` or of `max_bytes` in use, whichever is greater.
    pub fn used(&self) -> f64 {
        let Config { max_events, max_bytes, .. } = self.config;
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
        Ok(used > self.config.max_bytes)
    }
}

impl Totals {
    /// The number of events for `max_events`.
    pub fn events(&self) -> u64 {
        self.queued + self.dead + self.refused
    }

    /// The totals without refused payloads, which give way to events.
    fn without_refused(&self) -> Totals {
        Totals { refused: 0, refused_bytes: 0, bytes: self.bytes - self.refused_bytes, ..*self }
    }

    fn fits(&self, events: u64, bytes: u64, max_events: u64, max_bytes: u64) -> bool {
        self.events() + events <= max_events && self.bytes.saturating_add(bytes) <= max_bytes
    }

    fn add(&mut self, state: State, bytes: u64) {
        match state {
            State::Queued => self.queued += 1,
            State::Dead => self.dead += 1,
            State::Refused => {
                self.refused += 1;
                self.refused_bytes = self.refused_bytes.saturating_add(bytes);
            }
            State::Delivered | State::Ended => return,
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Adds bytes to an event that counts.
    fn grow(&mut self, state: State, bytes: u64) {
        match state {
            State::Refused => self.refused_bytes += bytes,
            State::Queued | State::Dead => {}
            State::Delivered | State::Ended => return,
        }
        self.bytes += bytes;
    }

    fn remove(&mut self, state: State, bytes: u64) {
        match state {
            State::Queued => self.queued = self.queued.saturating_sub(1),
            State::Dead => self.dead = self.dead.saturating_sub(1),
            State::Refused => {
                self.refused = self.refused.saturating_sub(1);
                self.refused_bytes = self.refused_bytes.saturating_sub(bytes);
            }
            State::Delivered | State::Ended => return,
        }
        self.bytes = self.bytes.saturating_sub(bytes);
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

/// Notes the files that a connection has open.
fn note_place(directory: &Path, connection: &Connection) -> Result<Place, rusqlite::Error> {
    let page_bytes = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    Place::note(directory, frames(connection)?, page_bytes).map_err(|error| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
    })
}

/// SQLite's figures of its log.
fn frames(connection: &Connection) -> Result<Frames, rusqlite::Error> {
    if !knows_frames() {
        return Ok(Frames::default());
    }
    // Negative if there is no log.
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| Ok(Frames { log: number(row.get(1)?), folded: number(row.get(2)?) }))
}

/// Returns true if SQLite reports these figures without a checkpoint, as it does since 3.51.0.
fn knows_frames() -> bool {
    rusqlite::version_number() >= 3_051_000
}

fn connect(path: &Path, now: WallTime) -> Result<Connection, rusqlite::Error> {
    let connection = connect_file(path)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
            Some("this file system has no shared memory, which write-ahead logging needs".to_owned()),
        ));
    }
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0")?;
    lay_out(&connection, now)?;
    Ok(connection)
}

/// Connects to a file that is useless until it is complete: nothing in it survives a crash or an error, and the caller
/// must sync it.
fn connect_unlogged(path: &Path, now: WallTime) -> Result<Connection, rusqlite::Error> {
    let connection = connect_file(path)?;
    connection.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = OFF")?;
    lay_out(&connection, now)?;
    Ok(connection)
}

fn connect_file(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = connection::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))? == 0 {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        // A file created without it never shrinks, except by a full copy, for which there may be no room.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.execute_batch(&format!("PRAGMA cache_size = {CACHE_KIB}; PRAGMA temp_store = MEMORY"))?;
    Ok(connection)
}

/// Creates missing tables.
fn lay_out(connection: &Connection, now: WallTime) -> Result<(), rusqlite::Error> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => {
            // One transaction with the version in it: a kill leaves an empty file, not half a layout. Numbers start at
            // the time in milliseconds, so that a journal that replaces this one does not use them again.
            let first = now.0.max(1);
            connection.execute_batch(&format!(
                "BEGIN; {SCHEMA} INSERT INTO meta VALUES ('first_id', {first}), ('probe', 0); \
                 PRAGMA user_version = {VERSION};"
            ))?;
            schema::add_missing(connection)?;
            connection.execute_batch("COMMIT")
        }
        VERSION => {
            // No write if nothing is missing: a full disk must not keep the relay from starting.
            if schema::is_missing_any(connection)? {
                connection.execute_batch("BEGIN IMMEDIATE")?;
                schema::add_missing(connection)?;
                connection.execute_batch("COMMIT")?;
            }
            Ok(())
        }
        other => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISMATCH),
            Some(format!("it has layout {other}, and this version of gander knows layout {VERSION}")),
        )),
    }
}

/// Returns true if an error on opening means a damaged file. If a table lacks a column that a definition names, SQLite
/// reports an error of the statement.
fn is_of_damage(error: &rusqlite::Error) -> bool {
    let statement = error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_ERROR);
    let file = matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
    );
    statement || file || is_of_reading(error)
}

/// Returns true if the disk or file system can't read the file: that is handled like damage.
fn is_of_reading(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ};
    let codes = [SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA];
    error.sqlite_error().is_some_and(|error| codes.contains(&error.extended_code))
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Error::Full(error.to_string()),
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Error::Damaged(error.to_string())
            }
            _ if is_of_reading(&error) => Error::Damaged(error.to_string()),
            _ => Error::Fault(error.to_string()),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Full(text) => write!(f, "the disk is full: {text}"),
            Error::Damaged(text) => write!(f, "the journal is damaged: {text}"),
            Error::Replaced(states) => write!(f, "the journal's files are not those that are open: {states}"),
            Error::Fault(text) => write!(f, "the journal failed: {text}"),
        }
    }
}

impl OpenError {
    fn of(path: &Path, error: &rusqlite::Error) -> OpenError {
        let remedy = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                "the file is damaged: keep it aside under another name and start again; \
                 `sqlite3 FILE .recover` saves what can be read"
            }
            Some(rusqlite::ErrorCode::DiskFull) => MAKE_ROOM,
            Some(rusqlite::ErrorCode::TypeMismatch) => "run the version of gander that wrote it",
            _ => "check the owner and the permissions of `data_dir` and that the disk works",
        };
        OpenError { path: path.to_owned(), problem: error.to_string(), remedy }
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.path.display(), self.problem, self.remedy)
    }
}

const MAKE_ROOM: &str = "the disk is full: make room on it";
/// A 1 KB alert takes 2 KB with its body, and only one such pair fits on a page of 4 KiB.
const PAGE_BYTES: u64 = 8192;
/// Enough for the pages with the newest events; older ones are seldom read. Negative: KiB.
const CACHE_KIB: i64 = -1024;
/// A reader reads an event once.
const READER_CACHE_KIB: i64 = -256;
/// In pages: a megabyte, which does not delay the next batch noticeably.
const GIVEN_BACK_AT_ONCE: u64 = 128;
/// Numbers begin with the milliseconds since 1970 and grow by one: a higher one was never used.
const ID_MAX: u64 = 1 << 52;
/// A person's program does not write before each of so many attempts.
const STARTS_MAX: u32 = 3;
/// More than the number of statements of this module.
const STATEMENTS: usize = 48;
/// A reader's lock on the file lasts for microseconds; an operator's `sqlite3` may hold it longer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than our own reads; an operator's long one is not waited for.
const FOLD_TIMEOUT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
