//! Checks that the open files are those that a restart would find, and that nobody else wrote to them.

use std::path::Path;

use rusqlite::Connection;

use super::open_files::{FileStates, Frames, OpenFiles, Wrote};
use super::{Error, Journal, wal};

impl Journal {
    /// Checks that the open files are those that a restart would find. Called outside of a batch.
    pub fn verify(&mut self) -> Result<(), Error> {
        self.verify_after(Wrote::Nobody)
    }

    pub(super) fn verify_after(&mut self, wrote: Wrote) -> Result<(), Error> {
        let states = self.look(wrote);
        if states.is_intact() { Ok(()) } else { Err(Error::Replaced(states)) }
    }

    /// Checks that the log still holds what was written to it, before it is checkpointed: SQLite checkpoints whatever
    /// is there, and so would ruin good pages of the main file.
    pub fn verify_frames(&self) -> Result<(), Error> {
        for _ in 0..STARTS_MAX {
            let before = frames(&self.connection)?;
            if before.log == before.checkpointed {
                return Ok(());
            }
            let read = |error: std::io::Error| Error::Fault(format!("reading the log of the journal: {error}"));
            let Some(log) = self.open_files.open_log().map_err(read)? else { return Ok(()) };
            if wal::begins_with(log, before.log).map_err(read)? {
                return Ok(());
            }
            if frames(&self.connection)? == before {
                return Err(Error::Replaced(FileStates::LOG_OVERWRITTEN));
            }
            // Another program checkpointed it meanwhile, or wrote.
        }
        Err(Error::Fault("another program writes to the journal all the time".to_owned()))
    }

    /// Checks, within a transaction, that the log was not truncated. After the commit its size would prove nothing.
    pub(super) fn verify_log(&self) -> Result<(), Error> {
        if self.open_files.is_log_shorter() { Err(Error::Replaced(FileStates::LOG_CUT)) } else { Ok(()) }
    }

    /// Begins a transaction, after a check that the files are in their place.
    pub(super) fn start_transaction(&mut self) -> Result<(), Error> {
        for _ in 0..STARTS_MAX {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            if self.open_files.is_untouched() {
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

    /// Compares the open files with those at their paths. `wrote`: the last writer since the previous look.
    pub(super) fn look(&mut self, wrote: Wrote) -> FileStates {
        let connection = &self.connection;
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, u64>(0)).ok();
        let database_bytes = || Some(number("PRAGMA page_count")? * number("PRAGMA page_size")?);
        let times = self.times && knows_frames();
        self.open_files.look(wrote, times, || frames(connection).ok(), database_bytes)
    }
}

/// Notes the files that a connection has open.
pub(super) fn note_files(directory: &Path, connection: &Connection) -> Result<OpenFiles, rusqlite::Error> {
    let page_bytes = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    OpenFiles::note(directory, frames(connection)?, page_bytes).map_err(|error| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
    })
}

/// SQLite's figures of its log.
pub(super) fn frames(connection: &Connection) -> Result<Frames, rusqlite::Error> {
    if !knows_frames() {
        return Ok(Frames::default());
    }
    // Negative if there is no log.
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| Ok(Frames { log: number(row.get(1)?), checkpointed: number(row.get(2)?) }))
}

/// Returns true if SQLite reports these figures without a checkpoint, as it does since 3.51.0.
pub(super) fn knows_frames() -> bool {
    rusqlite::version_number() >= 3_051_000
}

/// A person's program does not write before each of so many attempts.
const STARTS_MAX: u32 = 3;
