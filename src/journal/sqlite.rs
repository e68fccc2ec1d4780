//! The durable log of events: SQLite behind a narrow interface.
//!
//! One [`Journal`] writes, in batches that are synced as a whole; any number of [`Reader`]s read beside it. It
//! decides nothing about deduplication and delivery: it keeps what it is told and tells it again.
//!
//! Repairs, by what is wrong:
//!
//! | file | when | what is wrong | from what |
//! | --- | --- | --- | --- |
//! | `salvage` | a start, or damage met while running | a file that is damaged, or a log that goes on behind its end | the pages of the files |
//! | `aside` | a start, and before sending | a row or body whose checksum does not match | nothing: it becomes a dead letter |
//! | `marker` | a start | files that are not those that were left | told only |
//! | `place` and `mending` | while running | files deleted, moved or replaced | the files that are still open |
//! | `rescue` | while running | files cut off or overwritten | what is known of the queue in memory |
//!
//! The layout keeps what is large apart from what changes: `event` rows are narrow and their state is updated in
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
pub use data_dir::{Lock, inspect};
pub use lookup::{Blob, Decided, Later, Stored};
pub use marker::{Lack, Left};
pub use mending::{LetGo, Mended};
pub use place::{Fates, Mending};
#[cfg(test)]
pub use read::Searched;
pub use read::{Delivered, Details, Filter, Order, Page, Reader, RefusedPayload, Scope, Sendable, Summary, Texts};
pub use readers::Readers;
pub use records::{AttemptRecord, NewEvent, NewRefusal, Raw};
pub use rescue::Rescue;
pub use room::{Fit, Held};
pub use salvage::{ASIDE_KEPT, LogSalvage, Repairs, Salvage, is_marked_damaged, mark_damaged, mend};
pub use volume::{Reserve, Size, Space, TooSmall, footprint, too_small};

/// `data_dir` and the `journal` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub max_events: u64,
    pub max_bytes: u64,
    pub keep_delivered: Duration,
    pub keep_refused: u64,
    /// How the configured sources share `max_events` and `max_bytes`.
    pub shares: Shares,
    /// Room kept for the moment when the disk is full, in bytes; none: by the size of the volume.
    pub reserve: Option<u64>,
}

/// The writing end. There is one a process, and one process a data directory.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    /// The files that it has open.
    place: Place,
    readers: Arc<Readers>,
    marker: Marker,
    /// The number that it has for itself; none where it could not be read or given.
    identity: Option<u64>,
    /// Whether times of writing are to be believed.
    times: bool,
    config: Config,
    volume: Volume,
    next_id: EventId,
    /// In milliseconds since 1970: numbers begin with that of the first start.
    opened_at: u64,
    holdings: Holdings,
    key_states: KeyStates,
    /// Where pruning goes on.
    prune_after: EventId,
}

/// What the journal holds and counts against its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub queued: u64,
    pub dead: u64,
    pub refused: u64,
    /// The payloads and bodies of all of these.
    pub bytes: u64,
    /// Of these, the refused ones' part.
    pub refused_bytes: u64,
}

/// One event as a restart needs it, in the order of acknowledgement.
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
    /// The occurrences that its key knew with it.
    pub occurrences: Occurrences,
    /// A trigger that followed a resolve and is still queued.
    pub reopening: bool,
    /// Where its retries stand, if it was tried and is still queued.
    pub tried: Option<Tried>,
}

/// A row as a restart finds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Event(Recovered),
    /// It is not what was written: the event was of a key that nobody knows any more.
    Damaged(EventId),
}

/// A row that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub id: EventId,
    pub damage: Damage,
}

/// Where an event's retries stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    pub attempts: u32,
    /// How long it has been tried since the first attempt ended, while a relay ran and was not paused. A duration, so that
    /// neither the time between two runs nor a clock that was turned meanwhile makes the event older.
    pub age: Duration,
    pub retry_at: WallTime,
    /// How long the wait is, where the upstream asked for it.
    pub asked: Option<Duration>,
}

/// Why the journal could not do something.
#[derive(Debug)]
pub enum Error {
    /// The disk has no room.
    Full(String),
    /// The file is damaged: what it holds can't be trusted, however often it is opened.
    Damaged(String),
    /// The open files are no longer those that a restart would find.
    Replaced(Fates),
    /// Anything else: a failed write or sync.
    Fault(String),
}

/// Why the journal can't be opened: what an operator must mend before a start.
#[derive(Debug)]
pub struct OpenError {
    pub path: PathBuf,
    pub problem: String,
    pub remedy: &'static str,
}

impl Journal {
    /// Opens or makes the journal in a directory whose [`Lock`] is held.
    pub fn open(config: &Config, lock: &Lock, now: WallTime) -> Result<Journal, OpenError> {
        let path = lock.directory().join(FILE);
        data_dir::private(&path)?;
        let before = place::stat(&path);
        let volume = Volume::of(lock.directory(), config.reserve);
        let failed = |error: &rusqlite::Error| {
            let failed = OpenError::of(&path, error);
            // SQLite calls it an I/O error where its shared memory finds no room.
            if volume::is_full(lock.directory()) { OpenError { remedy: MAKE_ROOM, ..failed } } else { failed }
        };
        let connection = connect(&path, now).map_err(|error| {
            if is_of_damage(&error) {
                mark_damaged(lock.directory());
            }
            failed(&error)
        })?;
        // A close would delete the log by its path, which may be another's by then.
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
                    remedy: place::HANDS_OFF,
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

    /// Reads every event that is kept, oldest first, and learns from them where to go on. To be called once,
    /// before the first batch. Returns the rows that are not what was written and were not set aside before; of a key's
    /// state that is not, the row is dropped when it is pruned next.
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

    /// The number of the first event. The newest row is never removed, so the number after it was never used: the first one
    /// is only needed as long as there is no row, and where it can't be read any higher one does.
    fn first_id(&self) -> Result<u64, Error> {
        let mut statement = self.connection.prepare("SELECT value FROM meta WHERE name = 'first_id'")?;
        let mut rows = statement.query([])?;
        let first: Option<u64> = rows.next()?.and_then(|row| row.get(0).ok());
        Ok(first.filter(|first| *first <= ID_MAX).unwrap_or(self.opened_at))
    }

    /// Brings everything of the write-ahead log into the main file and syncs that, so that the log begins anew: it
    /// gives back its room, and nothing rests on a page of it whose sync may have failed and which a kernel then takes
    /// for written. Returns whether it was done; it isn't while another process reads.
    pub fn fold_log(&mut self) -> Result<bool, Error> {
        self.connection.busy_timeout(FOLD_TIMEOUT)?;
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        let folded = !busy?;
        // What this wrote is ours. If it is not what a restart finds, the next commit says so.
        self.look(Wrote::UsFolding);
        Ok(folded)
    }

    /// Folds the log where it is long, as far as no reader still needs it. To be called after each commit. Where room is
    /// short it is long sooner, so that there is more of it for the next batch.
    pub fn fold_long_log(&mut self, short: bool) -> Result<(), Error> {
        let long = if short { self.volume.split.log / 4 } else { self.volume.split.log };
        // Where SQLite does not tell more than the file does, that is enough: it only folds more often.
        let bytes = if knows_frames() { frames(&self.connection)?.log * PAGE_BYTES } else { self.log_bytes() };
        if bytes < long { Ok(()) } else { self.fold_passively() }
    }

    /// Folds the log as far as no reader still needs it, so that the file ends where the database does.
    fn fold_passively(&mut self) -> Result<(), Error> {
        let fold = |connection: &Connection| {
            connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
        };
        match fold(&self.connection) {
            Ok(()) => self.verify_after(Wrote::UsFolding),
            Err(error) => {
                // What was written until it failed is ours.
                let fates = self.fates();
                if fates.is_intact() { Err(error.into()) } else { Err(Error::Replaced(fates)) }
            }
        }
    }

    /// Gives pages in which nothing is back to the volume, a few, where it lacks them or they are many. Returns whether
    /// there may be more to give.
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

    /// Takes the reserve.
    pub fn take_reserve(&self) -> std::io::Result<()> {
        self.volume.take_reserve()
    }

    /// What became of the files that are open, by what their paths name now. `wrote`: whether something was written since
    /// that was asked last.
    fn look(&mut self, wrote: Wrote) -> Fates {
        let connection = &self.connection;
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, u64>(0)).ok();
        let database_bytes = || Some(number("PRAGMA page_count")? * number("PRAGMA page_size")?);
        let times = self.times && knows_frames();
        self.place.look(wrote, times, || frames(connection).ok(), database_bytes)
    }

    /// Makes sure that what is open is what a restart would find. To be asked where no batch is under way.
    pub fn verify(&mut self) -> Result<(), Error> {
        self.verify_after(Wrote::Nobody)
    }

    fn verify_after(&mut self, wrote: Wrote) -> Result<(), Error> {
        let fates = self.look(wrote);
        if fates.is_intact() { Ok(()) } else { Err(Error::Replaced(fates)) }
    }

    /// Begins a transaction over files that are in their place.
    fn start_transaction(&mut self) -> Result<(), Error> {
        for _ in 0..STARTS_MAX {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            if self.place.is_untouched() {
                return Ok(());
            }
            // Another program wrote, or did worse. What SQLite knows of the log can't be asked within a transaction.
            self.connection.execute_batch("ROLLBACK")?;
            self.verify()?;
        }
        // It writes all the time. What it does is looked at after the commit.
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// Makes sure that a commit is written behind what the log holds. After it the size would tell nothing.
    fn verify_log(&self) -> Result<(), Error> {
        if self.place.is_log_shorter() { Err(Error::Replaced(Fates::LOG_CUT)) } else { Ok(()) }
    }

    /// What is missing of what a start found before it opened this journal; to be asked after everything was read. Numbers
    /// of events that are missing are not given again.
    pub fn lack(&mut self, left: &Left, salvaged: bool) -> Option<Lack> {
        let lack = left.lack(self.identity, self.next_id, salvaged)?;
        if let Lack::LogGone { events } | Lack::Older { events } = lack {
            self.skip(events);
        }
        Some(lack)
    }

    /// Gives no number that was given before, also after a restart.
    pub fn continue_after(&mut self, before: &Journal) {
        self.skip(before.next_id.0.saturating_sub(self.next_id.0));
    }

    /// Whether times of writing are to be believed.
    pub fn believe_times(&mut self, believe: bool) {
        self.times = believe;
    }

    /// Leaves out the next numbers, also after a restart.
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

    /// Writes down beside it what it holds, and from now on with each commit. `log`: a log may hold what the main file does
    /// not.
    pub fn mark(&mut self, log: bool) -> std::io::Result<()> {
        let memory = self.remember(log);
        self.marker.renew(memory)
    }

    /// Whether somebody took that away, or it could not be written.
    pub fn is_mark_gone(&self) -> bool {
        self.marker.is_gone()
    }

    fn remember(&self, log: bool) -> Memory {
        let last = EventId(self.next_id.0.saturating_sub(1));
        Memory { identity: self.identity.unwrap_or(0), last, waiting: self.totals().queued, log }
    }

    /// Programs that keep the log from beginning anew.
    pub fn log_holders(&self) -> Vec<String> {
        self.place.log_holders()
    }

    /// The log is no longer than this while nobody keeps it from beginning anew.
    pub fn log_bytes_usual(&self) -> u64 {
        2 * self.volume.split.log
    }

    /// How long the log is.
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

    /// For tests of faults that only a statement of theirs makes.
    #[cfg(test)]
    pub(crate) fn execute(&self, statement: &str) {
        self.connection.execute_batch(statement).unwrap();
    }

    /// Starts a batch: everything in it becomes durable together, when it is committed, or not at all.
    pub fn begin(&mut self) -> Result<Batch<'_>, Error> {
        Batch::begin(self)
    }

    /// What counts against the limits.
    pub fn totals(&self) -> Totals {
        self.holdings.totals
    }

    /// Whether no further event fits.
    pub fn is_full(&self) -> bool {
        !self.totals().without_refused().fits(1, 1, self.config.max_events, self.config.max_bytes)
    }

    /// Whether payloads, bodies and history together take more room than `max_bytes`.
    pub fn is_large(&self) -> Result<bool, Error> {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let free: i64 = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        let bytes: u64 = self.connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let used = u64::try_from(pages - free).unwrap_or(0) * bytes;
        Ok(used > self.config.max_bytes)
    }
}

impl Totals {
    /// What `max_events` counts.
    pub fn events(&self) -> u64 {
        self.queued + self.dead + self.refused
    }

    /// What no refused payload can make room for.
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

    /// An event that counts holds more than it did.
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

/// The number by which a journal is known again; it is given one where it has none.
fn identity_of(connection: &Connection) -> Option<u64> {
    identity_in(connection).or_else(|| {
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?1)", [fastrand::i64(1..)]).ok()?;
        identity_in(connection)
    })
}

fn identity_in(connection: &Connection) -> Option<u64> {
    connection.query_row("SELECT value FROM meta WHERE name = 'identity'", [], |row| row.get(0)).ok()
}

/// Notes which files a connection has open.
fn note_place(directory: &Path, connection: &Connection) -> Result<Place, rusqlite::Error> {
    let page_bytes = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    Place::note(directory, frames(connection)?, page_bytes).map_err(|error| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
    })
}

/// What SQLite knows of its log.
fn frames(connection: &Connection) -> Result<Frames, rusqlite::Error> {
    if !knows_frames() {
        return Ok(Frames::default());
    }
    // Negative where there is no log.
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| Ok(Frames { log: number(row.get(1)?), folded: number(row.get(2)?) }))
}

/// Whether SQLite tells that without doing anything, which it does since 3.51.0.
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

/// Connects to a file that is of no use until all of it is written: nothing in it survives a crash or an error, and it is
/// to be synced by whoever makes it.
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
        // A file that was made without it never becomes shorter: that would take a copy of it, and the room for one.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.execute_batch(&format!("PRAGMA cache_size = {CACHE_KIB}; PRAGMA temp_store = MEMORY"))?;
    Ok(connection)
}

/// Makes what a journal lacks of the tables.
fn lay_out(connection: &Connection, now: WallTime) -> Result<(), rusqlite::Error> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => {
            // One transaction with the version in it: a kill in the middle leaves an empty file, not half a layout. Numbers
            // start at the time in milliseconds, so that none is used again by a journal that replaces this one.
            let first = now.0.max(1);
            connection.execute_batch(&format!(
                "BEGIN; {SCHEMA} INSERT INTO meta VALUES ('first_id', {first}), ('probe', 0); \
                 PRAGMA user_version = {VERSION};"
            ))?;
            schema::add_missing(connection)?;
            connection.execute_batch("COMMIT")
        }
        VERSION => {
            // Nothing is written where nothing is missing: a full disk must not keep the relay from starting.
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

/// Whether an error of opening speaks of the file rather than of what is around it. What a definition names and a table
/// does not have is to SQLite an error of the statement.
fn is_of_damage(error: &rusqlite::Error) -> bool {
    let statement = error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_ERROR);
    let file = matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
    );
    statement || file || is_of_reading(error)
}

/// Whether what is written can't be read, by the disk or the file system: it is no more to be had than what is damaged.
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
            Error::Replaced(fates) => write!(f, "the journal's files are not those that are open: {fates}"),
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
/// The journal's file in `data_dir`.
/// An alert of 1 KB and the body made of it take two, and on a page of 4 KiB only one such pair finds room.
const PAGE_BYTES: u64 = 8192;
/// The pages to which events are appended and whose events end; what is older is seldom asked for. Negative: KiB.
const CACHE_KIB: i64 = -1024;
/// A reader looks at an event once.
const READER_CACHE_KIB: i64 = -256;
/// Pages: a megabyte, so that whoever waits for the next batch hardly notices.
const GIVEN_BACK_AT_ONCE: u64 = 128;
/// Numbers begin with the milliseconds since 1970 and grow by one: a higher one was never given.
const ID_MAX: u64 = 1 << 52;
/// Another program that writes each time is not one that a person uses.
const STARTS_MAX: u32 = 3;
/// More than all statements of this module.
const STATEMENTS: usize = 48;
/// A reader's lock on the file lasts for microseconds; an operator's `sqlite3` may hold it longer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than any read of ours; an operator's long one is not waited for.
const FOLD_TIMEOUT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
