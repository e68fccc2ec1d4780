//! The search index: the keys and titles of all events but the newest, in blocks, in a file beside the journal.
//!
//! Everything in it comes from the journal, and can be made again from there. So it is written without syncs, each block
//! has a checksum, and on any error the file is deleted. A block that is missing costs time and no result: a search reads
//! those events from the journal itself.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::connect;
use super::names::SEARCH;
use super::search_block::{SearchBlock, block_sum};
use super::values::{event, sql};
use super::volume;
use crate::event::EventId;

/// The index of one journal: one in a process.
#[derive(Debug)]
pub struct SearchIndex {
    path: PathBuf,
    /// The identity of the journal.
    journal: i64,
    /// None while there is no file.
    file: Mutex<Option<Connection>>,
}

/// Why the index can't be used: it is made again.
#[derive(Debug)]
pub(super) enum Unusable {
    Sqlite(rusqlite::Error),
    Io(io::Error),
    Damaged,
}

impl SearchIndex {
    /// Opens the index of a journal. One that is of another journal, or knows events that this one never had, as beside a
    /// journal that was put back from a copy, is deleted.
    pub(super) fn open(directory: &Path, journal: i64, newest: EventId) -> SearchIndex {
        let index = SearchIndex { path: directory.join(SEARCH), journal, file: Mutex::default() };
        if !index.path.exists() {
            return index;
        }
        let reach = index.with(|connection| Ok(reach(connection)?));
        if reach.is_some_and(|reach| reach > newest) {
            tracing::info!("the search index is of another state of the journal: it is made again");
            index.remove(&mut index.lock());
        }
        index
    }

    /// The newest event in it; zero if there is none.
    pub(super) fn reach(&self) -> EventId {
        self.with(|connection| Ok(reach(connection)?)).unwrap_or(EventId(0))
    }

    /// Looks at the newest block that has an event before this one. None if there is no such block.
    pub(super) fn before<T>(
        &self,
        below: EventId,
        look: impl FnOnce(&StoredBlock<'_>) -> Result<T, Unusable>,
    ) -> Option<T> {
        let found = self.with(|connection| {
            let whole = "SELECT first, last, since, sum, data FROM block WHERE last >= ?1 ORDER BY last LIMIT 1";
            let lower = "SELECT first, last, since, sum, data FROM block WHERE last < ?1 ORDER BY last DESC LIMIT 1";
            for (query, at) in [(whole, sql(below).saturating_sub(1)), (lower, sql(below))] {
                let mut statement = connection.prepare_cached(query)?;
                let mut rows = statement.query([at])?;
                if let Some(row) = rows.next()? {
                    let block = StoredBlock::read(row)?;
                    if block.first < below {
                        return look(&block).map(Some);
                    }
                }
            }
            Ok(None)
        });
        found.flatten()
    }

    /// Looks at the oldest block after this event.
    pub(super) fn after<T>(&self, id: EventId, look: impl FnOnce(&StoredBlock<'_>) -> T) -> Option<T> {
        let found = self.with(|connection| {
            let query = "SELECT first, last, since, sum, data FROM block WHERE last > ?1 ORDER BY last LIMIT 1";
            let mut statement = connection.prepare_cached(query)?;
            let mut rows = statement.query([sql(id)])?;
            rows.next()?.map(|row| StoredBlock::read(row).map(|block| look(&block))).transpose()
        });
        found.flatten()
    }

    /// Writes a block, in the place of one that ends with the same event. Makes the file if there is none.
    pub(super) fn write(&self, block: &SearchBlock) {
        let mut file = self.lock();
        if file.is_none() {
            match self.create() {
                Ok(connection) => *file = Some(connection),
                Err(problem) => return self.unusable(&mut file, &problem),
            }
        }
        drop(file);
        self.with(|connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO block (last, first, since, sum, data) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![sql(block.last), sql(block.first), block.since, block.sum(), block.data])?;
            Ok(())
        });
    }

    pub(super) fn drop_block(&self, last: EventId) {
        self.with(|connection| {
            connection.prepare_cached("DELETE FROM block WHERE last = ?1")?.execute([sql(last)])?;
            Ok(())
        });
    }

    /// Returns true if the volume has room for the index. It is deleted where the journal may soon need what it takes.
    pub(super) fn has_room(&self) -> bool {
        let room = volume::room_beside(self.path.parent().unwrap_or(Path::new(".")));
        let mut file = self.lock();
        if !room.keeps_index && file.is_some() {
            tracing::info!(
                "the volume of `data_dir` is short of room: the search index is deleted, searches read the journal"
            );
            self.remove(&mut file);
        }
        room.takes_index
    }

    /// None if the index has no file, or is unusable; then it is deleted.
    fn with<T>(&self, use_it: impl FnOnce(&Connection) -> Result<T, Unusable>) -> Option<T> {
        let mut file = self.lock();
        if file.is_none() && self.path.exists() {
            match self.connect() {
                Ok(connection) => *file = Some(connection),
                Err(problem) => self.unusable(&mut file, &problem),
            }
        }
        match use_it(file.as_ref()?) {
            Ok(result) => Some(result),
            Err(problem) => {
                self.unusable(&mut file, &problem);
                None
            }
        }
    }

    fn unusable(&self, file: &mut Option<Connection>, problem: &Unusable) {
        tracing::warn!(%problem, "the search index can't be used: it is made again from the journal");
        self.remove(file);
    }

    fn remove(&self, file: &mut Option<Connection>) {
        *file = None;
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "the search index can't be deleted: delete it by hand");
        }
    }

    fn create(&self) -> Result<Connection, Unusable> {
        fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.path)?;
        let connection = self.open_file()?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.execute_batch(SCHEMA)?;
        connection.execute("INSERT INTO meta VALUES (?1)", [self.journal])?;
        Ok(connection)
    }

    /// Connects to a file that is there.
    fn connect(&self) -> Result<Connection, Unusable> {
        let connection = self.open_file()?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != VERSION {
            return Err(Unusable::Damaged);
        }
        let journal: Option<i64> = connection.query_row("SELECT journal FROM meta", [], |row| row.get(0)).optional()?;
        if journal == Some(self.journal) { Ok(connection) } else { Err(Unusable::Damaged) }
    }

    fn open_file(&self) -> Result<Connection, Unusable> {
        let connection = connect::open(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.pragma_update(None, "cache_size", CACHE_KIB)?;
        connection.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))?;
        // Another program that has it open can't keep anyone waiting: the index is made again.
        connection.execute_batch("PRAGMA synchronous = OFF")?;
        Ok(connection)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block in the file, with a sound checksum.
pub(super) struct StoredBlock<'r> {
    pub(super) first: EventId,
    pub(super) last: EventId,
    pub(super) since: i64,
    pub(super) data: &'r [u8],
}

impl<'r> StoredBlock<'r> {
    fn read(row: &'r Row<'_>) -> Result<StoredBlock<'r>, Unusable> {
        let (first, last) = (event(row.get(0)?), event(row.get(1)?));
        let since = row.get(2)?;
        let data = row.get_ref(4)?.as_blob().map_err(|_| Unusable::Damaged)?;
        if row.get::<_, i64>(3)? != block_sum(first, last, since, data) || first > last {
            return Err(Unusable::Damaged);
        }
        Ok(StoredBlock { first, last, since, data })
    }
}

fn reach(connection: &Connection) -> Result<EventId, rusqlite::Error> {
    connection.prepare_cached("SELECT coalesce(max(last), 0) FROM block")?.query_row([], |row| row.get(0).map(event))
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Unusable {
        Unusable::Sqlite(error)
    }
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Unusable {
        Unusable::Io(error)
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unusable::Sqlite(error) => error.fmt(f),
            Unusable::Io(error) => error.fmt(f),
            Unusable::Damaged => f.write_str("it is damaged, or of another journal or version"),
        }
    }
}

/// The number of the layout below, and of what the blocks hold.
const VERSION: i64 = 1;
const SCHEMA: &str = "
BEGIN;
CREATE TABLE meta (journal INTEGER NOT NULL);
-- The keys and titles of the events from `first` to `last`.
CREATE TABLE block (last INTEGER PRIMARY KEY, first INTEGER NOT NULL, since INTEGER NOT NULL, sum INTEGER NOT NULL,
    data BLOB NOT NULL);
PRAGMA user_version = 1;
COMMIT;
";
/// A block is read whole.
const PAGE_BYTES: i64 = 16_384;
/// A block is read once. Negative: KiB.
const CACHE_KIB: i64 = -64;
