//! Puts a journal back in its place after its files were deleted, moved or replaced, from the files that are still
//! open.
//!
//! Such files can be read as long as they are open, so nothing that was acknowledged is lost. A crash at any moment
//! leaves either the state from before, or the complete new journal under a name that a start moves to its place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::names::{FILE, PARTIAL, REBUILT};
use super::open_files::{self, PutBackBy, Stat, Wrote};
use super::readers;
use super::salvage::{self, Repairs};
use super::{Error, FileStates, Journal, Lock, OpenError};
use crate::clock::WallTime;

/// The repairs by which a journal was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutBack {
    /// Foreign files that were in the place of the journal's files.
    pub aside: Vec<PathBuf>,
    /// Repairs, if not everything could be read.
    pub repairs: Repairs,
}

/// A journal with no open files, which are not in their place yet.
#[derive(Debug)]
pub struct ClosedJournal {
    how: PutBackBy,
    /// The files that were open.
    ours: Vec<Stat>,
    identity: Option<u64>,
}

impl Journal {
    /// The states of the files after an error, without modification times: failed writes of this process changed them
    /// too.
    pub fn file_states(&mut self) -> FileStates {
        let times = std::mem::replace(&mut self.times, false);
        let states = self.look(Wrote::Us);
        self.times = times;
        states
    }

    /// Writes a complete copy of the open journal beside its place, and sets aside foreign files there. Takes as long
    /// as copying everything.
    pub fn copy_out(&mut self, lock: &Lock, now: WallTime) -> Result<PutBack, Error> {
        let directory = lock.directory();
        let failed = |doing: &str, error: &io::Error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full(format!("{doing}: {error}")),
            _ => Error::Fault(format!("{doing}: {error}")),
        };
        let salvage = match self.copy_into(&directory.join(PARTIAL)) {
            Ok(()) => None,
            Err(Error::Full(text)) => {
                // A partial copy would only take needed room.
                salvage::clear(directory).map_err(|error| failed("removing a copy that is not complete", &error))?;
                return Err(Error::Full(text));
            }
            // Not all of it can be read: it is copied event by event.
            Err(_) => Some(salvage::rebuild_from(directory, &self.connection, now)?),
        };
        let repairs = Repairs { journal: salvage, log: None };
        let ours = self.open_files.files();
        let aside = set_aside(directory, &["", "-wal"], &ours, now)
            .map_err(|error| failed("setting aside what is there", &error))?;
        finish(directory).map_err(|error| failed("keeping the copy", &error))?;
        Ok(PutBack { aside, repairs })
    }

    fn copy_into(&self, path: &Path) -> Result<(), Error> {
        let fault = |error: io::Error| Error::Fault(format!("making a copy of the journal: {error}"));
        path.parent().map_or(Ok(()), salvage::clear).map_err(fault)?;
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(fault)?;
        self.connection.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
        Ok(())
    }

    /// Closes every file, once their content is where a start finds it. Returns none if a reader is still busy: then
    /// the caller tries again.
    pub fn close_files(&mut self, how: PutBackBy, lock: &Lock) -> Result<Option<ClosedJournal>, Error> {
        if how == PutBackBy::Copy && open_files::stat(&lock.directory().join(REBUILT)).is_none() {
            return Err(Error::Fault("the copy of the journal was removed".to_owned()));
        }
        if !self.readers.close() {
            return Ok(None);
        }
        let ours = self.open_files.files();
        // Every query on this one fails.
        let nothing = Connection::open_in_memory()?;
        std::mem::replace(&mut self.connection, nothing).close().map_err(|(_, error)| error)?;
        Ok(Some(ClosedJournal { how, ours, identity: self.identity }))
    }
}

impl ClosedJournal {
    /// Moves the journal to its place, where it can be opened.
    pub fn put_back(&self, lock: &Lock, now: WallTime) -> Result<PutBack, OpenError> {
        let directory = lock.directory();
        let put = || -> io::Result<Vec<PathBuf>> {
            match self.how {
                PutBackBy::Copy => salvage::replace(directory).map(|()| Vec::new()),
                PutBackBy::Checkpoint => {
                    let aside = set_aside(directory, &["-wal"], &self.ours, now)?;
                    // The index belongs to the log that is gone.
                    for beside in ["-wal", "-shm"] {
                        open_files::remove(&directory.join(format!("{FILE}{beside}")))?;
                    }
                    File::open(directory)?.sync_all()?;
                    Ok(aside)
                }
                PutBackBy::Reopen | PutBackBy::Reread => Ok(Vec::new()),
            }
        };
        let fail = |error: io::Error| OpenError {
            path: directory.to_owned(),
            problem: format!("can't put the journal in its place: {error}"),
            remedy: "check the permissions of `data_dir` and that there is room",
        };
        let mut aside = put().map_err(fail)?;
        let repairs = if self.how == PutBackBy::Reread { salvage::repair(lock, now)? } else { Repairs::default() };
        if self.how == PutBackBy::Reread && repairs.journal.is_none() && self.is_another(directory) {
            aside = clear(directory, now).map_err(fail)?;
        }
        Ok(PutBack { aside, repairs })
    }

    /// Returns true if another journal was written over ours: its events are not ours.
    fn is_another(&self, directory: &Path) -> bool {
        let found = readers::open(&directory.join(FILE)).ok().and_then(|connection| super::identity_in(&connection));
        found.is_some() && found != self.identity
    }

    pub fn how(&self) -> PutBackBy {
        self.how
    }
}

/// Renames foreign files that are in the place of the journal's.
fn set_aside(directory: &Path, besides: &[&str], ours: &[Stat], now: WallTime) -> io::Result<Vec<PathBuf>> {
    let mut aside = Vec::new();
    for beside in besides {
        let path = directory.join(format!("{FILE}{beside}"));
        match open_files::stat(&path) {
            // An empty file.
            Some(found) if found.bytes == 0 => continue,
            Some(found) if ours.iter().any(|own| own.is_same_file(&found)) && *beside == "-wal" => continue,
            Some(_) => {}
            None => continue,
        }
        let to = directory.join(format!("journal-replaced-{}.db{beside}", now.0));
        open_files::remove(&to)?;
        // If links are not supported, our complete copy stands beside it.
        fs::hard_link(&path, &to).or_else(|_| fs::rename(&path, &to))?;
        aside.push(to);
    }
    if !aside.is_empty() {
        salvage::keep_newest(directory, now);
    }
    Ok(aside)
}

/// Sets aside all files in the place of the journal.
fn clear(directory: &Path, now: WallTime) -> io::Result<Vec<PathBuf>> {
    let aside = set_aside(directory, &["", "-wal"], &[], now)?;
    for beside in ["", "-wal", "-shm"] {
        open_files::remove(&directory.join(format!("{FILE}{beside}")))?;
    }
    File::open(directory)?.sync_all()?;
    Ok(aside)
}

/// Renames the complete copy to its final name.
fn finish(directory: &Path) -> io::Result<()> {
    File::open(directory.join(PARTIAL))?.sync_all()?;
    fs::rename(directory.join(PARTIAL), directory.join(REBUILT))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_others_put_in_the_place_of_the_journal_the_newest_files_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        for at in 1..=10 {
            fs::write(directory.path().join(FILE), format!("the copy of {at}")).unwrap();
            let aside = set_aside(directory.path(), &["", "-wal"], &[], WallTime(at)).unwrap();
            assert_eq!(aside, [directory.path().join(format!("journal-replaced-{at}.db"))]);
            fs::remove_file(directory.path().join(FILE)).unwrap();
        }
        let kept: Vec<i64> =
            (1..=10).filter(|at| directory.path().join(format!("journal-replaced-{at}.db")).exists()).collect();
        assert_eq!(kept, [8, 9, 10]);
    }
}
