//! Checkpoints, SQLite's word for writing the log into the main file; and free pages returned to the volume.

use std::time::Duration;

use rusqlite::Connection;

use super::connect::{BUSY_TIMEOUT, PAGE_BYTES};
use super::open_files::Wrote;
use super::verify::{frames, knows_frames};
use super::{Error, Journal};

impl Journal {
    /// Writes the whole log into the main file and syncs that, so that the log is reset. This frees its room, and no
    /// page depends on a sync that may have failed but which the kernel treats as done. Returns false if another
    /// process reads.
    pub fn checkpoint(&mut self) -> Result<bool, Error> {
        self.verify_frames()?;
        self.connection.busy_timeout(CHECKPOINT_TIMEOUT)?;
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        let checkpointed = !busy?;
        // This process made these changes. If a restart would not find them, the next commit reports that.
        self.look(Wrote::UsCheckpointing);
        Ok(checkpointed)
    }

    /// Checkpoints the log if it is long, as far as readers permit. Called after each commit. If space is short the
    /// limit is lower, to leave more room for the next batch.
    pub fn checkpoint_long_log(&mut self, short: bool) -> Result<(), Error> {
        let long = if short { self.volume.split.log / 4 } else { self.volume.split.log };
        // If SQLite can't report more than the file's length, that suffices: it only checkpoints more often.
        let bytes = if knows_frames() { frames(&self.connection)?.log * PAGE_BYTES } else { self.log_bytes() };
        if bytes < long { Ok(()) } else { self.checkpoint_passively() }
    }

    /// Checkpoints the log as far as readers permit, so that the file ends where the database does.
    fn checkpoint_passively(&mut self) -> Result<(), Error> {
        let checkpoint = |connection: &Connection| {
            connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
        };
        self.verify_frames()?;
        match checkpoint(&self.connection) {
            Ok(()) => self.verify_after(Wrote::UsCheckpointing),
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
            self.checkpoint_passively()?;
        } else {
            self.checkpoint_long_log(true)?;
        }
        Ok(pages > at_once)
    }
}

/// In pages: a megabyte, which does not delay the next batch noticeably.
const GIVEN_BACK_AT_ONCE: u64 = 128;
/// Longer than our own reads; an operator's long one is not waited for.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_millis(500);
