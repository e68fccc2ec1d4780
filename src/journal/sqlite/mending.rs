//! Brings a journal whose files were deleted, moved or replaced back to its place, out of the files that are still
//! open.
//!
//! Files that were deleted, moved or replaced can be read as long as they are open, so nothing that was acknowledged is
//! lost. A crash at any moment of it leaves either what was there before, or the new journal complete under a name that a
//! start puts in its place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::names::{FILE, PARTIAL, REBUILT};
use super::place::{self, Mending, Stat, Wrote};
use super::readers;
use super::salvage::{self, Repairs};
use super::{Error, Fates, Journal, Lock, OpenError};
use crate::clock::WallTime;

/// What was done to bring a journal back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// What others put in the place of the journal's files.
    pub aside: Vec<PathBuf>,
    /// Where not everything could be read.
    pub repairs: Repairs,
}

/// A journal of which nothing is open any more, and whose files are not yet in their place.
#[derive(Debug)]
pub struct LetGo {
    how: Mending,
    /// The files that were open.
    ours: Vec<Stat>,
    identity: Option<u64>,
}

impl Journal {
    /// What became of the files where something failed, so that times of writing tell nothing: what this process wrote in
    /// vain has changed them, too.
    pub fn fates(&mut self) -> Fates {
        let times = std::mem::replace(&mut self.times, false);
        let fates = self.look(Wrote::Us);
        self.times = times;
        fates
    }

    /// Makes a complete journal beside the place, of what is open, and sets aside what others put there. Takes as long as
    /// it takes to copy everything.
    pub fn copy_out(&mut self, lock: &Lock, now: WallTime) -> Result<Mended, Error> {
        let directory = lock.directory();
        let failed = |doing: &str, error: &io::Error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full(format!("{doing}: {error}")),
            _ => Error::Fault(format!("{doing}: {error}")),
        };
        let salvage = match self.copy_into(&directory.join(PARTIAL)) {
            Ok(()) => None,
            Err(Error::Full(text)) => {
                // What there is of it would only take the room from what must be written.
                salvage::clear(directory).map_err(|error| failed("removing a copy that is not complete", &error))?;
                return Err(Error::Full(text));
            }
            // Not all of it can be read. Event by event, then.
            Err(_) => Some(salvage::rebuild_from(directory, &self.connection, now)?),
        };
        let repairs = Repairs { journal: salvage, log: None };
        let ours = self.place.files();
        let aside = set_aside(directory, &["", "-wal"], &ours, now)
            .map_err(|error| failed("setting aside what is there", &error))?;
        finish(directory).map_err(|error| failed("keeping the copy", &error))?;
        Ok(Mended { aside, repairs })
    }

    fn copy_into(&self, path: &Path) -> Result<(), Error> {
        let fault = |error: io::Error| Error::Fault(format!("making a copy of the journal: {error}"));
        path.parent().map_or(Ok(()), salvage::clear).map_err(fault)?;
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(fault)?;
        self.connection.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
        Ok(())
    }

    /// Lets go of every file, once all that is in them is where a start finds it. Returns none where a reader is still
    /// busy: then this is to be asked again.
    pub fn let_go(&mut self, how: Mending, lock: &Lock) -> Result<Option<LetGo>, Error> {
        if how == Mending::Copy && place::stat(&lock.directory().join(REBUILT)).is_none() {
            return Err(Error::Fault("the copy of the journal was taken away".to_owned()));
        }
        if !self.readers.close() {
            return Ok(None);
        }
        let ours = self.place.files();
        // Whatever is asked of this one fails.
        let nothing = Connection::open_in_memory()?;
        std::mem::replace(&mut self.connection, nothing).close().map_err(|(_, error)| error)?;
        Ok(Some(LetGo { how, ours, identity: self.identity }))
    }
}

impl LetGo {
    /// Puts the journal in its place, where it can be opened.
    pub fn put_back(&self, lock: &Lock, now: WallTime) -> Result<Mended, OpenError> {
        let directory = lock.directory();
        let put = || -> io::Result<Vec<PathBuf>> {
            match self.how {
                Mending::Copy => salvage::replace(directory).map(|()| Vec::new()),
                Mending::Fold => {
                    let aside = set_aside(directory, &["-wal"], &self.ours, now)?;
                    // What is known of the log that is gone goes with it.
                    for beside in ["-wal", "-shm"] {
                        place::remove(&directory.join(format!("{FILE}{beside}")))?;
                    }
                    File::open(directory)?.sync_all()?;
                    Ok(aside)
                }
                Mending::Reopen | Mending::Reread => Ok(Vec::new()),
            }
        };
        let fail = |error: io::Error| OpenError {
            path: directory.to_owned(),
            problem: format!("can't put the journal in its place: {error}"),
            remedy: "check the permissions of `data_dir` and that there is room",
        };
        let mut aside = put().map_err(fail)?;
        let repairs = if self.how == Mending::Reread { salvage::mend(lock, now)? } else { Repairs::default() };
        if self.how == Mending::Reread && repairs.journal.is_none() && self.is_another(directory) {
            aside = clear(directory, now).map_err(fail)?;
        }
        Ok(Mended { aside, repairs })
    }

    /// Another journal was written over ours: its events are none of ours.
    fn is_another(&self, directory: &Path) -> bool {
        let found = readers::open(&directory.join(FILE)).ok().and_then(|connection| super::identity_in(&connection));
        found.is_some() && found != self.identity
    }

    pub fn how(&self) -> Mending {
        self.how
    }
}

/// Gives files that are in the place of the journal's, and are none of ours, a name of their own beside it.
fn set_aside(directory: &Path, besides: &[&str], ours: &[Stat], now: WallTime) -> io::Result<Vec<PathBuf>> {
    let mut aside = Vec::new();
    for beside in besides {
        let path = directory.join(format!("{FILE}{beside}"));
        match place::stat(&path) {
            // There is nothing in it.
            Some(found) if found.bytes == 0 => continue,
            Some(found) if ours.iter().any(|own| own.is_same_file(&found)) && *beside == "-wal" => continue,
            Some(_) => {}
            None => continue,
        }
        let to = directory.join(format!("journal-replaced-{}.db{beside}", now.0));
        place::remove(&to)?;
        // Where links can't be made, what is ours is complete beside it.
        fs::hard_link(&path, &to).or_else(|_| fs::rename(&path, &to))?;
        aside.push(to);
    }
    if !aside.is_empty() {
        salvage::keep_newest(directory, now);
    }
    Ok(aside)
}

/// Sets aside what is in the place of the journal, all of it.
fn clear(directory: &Path, now: WallTime) -> io::Result<Vec<PathBuf>> {
    let aside = set_aside(directory, &["", "-wal"], &[], now)?;
    for beside in ["", "-wal", "-shm"] {
        place::remove(&directory.join(format!("{FILE}{beside}")))?;
    }
    File::open(directory)?.sync_all()?;
    Ok(aside)
}

/// Gives the copy, which is complete, the name that says so.
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
