//! The readers beside the writing end: all of them close the files before these are reopened.
//!
//! While one connection of a process has a file open, further ones share its knowledge of the log, even if the path
//! leads to another file by now.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::Error;
use super::connect::{self, BUSY_TIMEOUT};
use super::names::FILE;
use super::open_files::{self, Stat};

/// A connection; none while the files are closed.
pub(super) type ReaderSlot = Mutex<Option<Connection>>;

/// All readers beside one writing end.
#[derive(Debug)]
pub struct Readers {
    directory: PathBuf,
    /// The main file that may be opened; none while it must not be.
    database: Mutex<Option<Stat>>,
    allowed: Condvar,
    slots: Mutex<Vec<Weak<ReaderSlot>>>,
}

impl Readers {
    pub(super) fn new(directory: &Path) -> Readers {
        Readers {
            directory: directory.to_owned(),
            database: Mutex::default(),
            allowed: Condvar::new(),
            slots: Mutex::default(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Registers a further reader.
    pub(super) fn enter(&self) -> Arc<ReaderSlot> {
        let slot = Arc::new(ReaderSlot::default());
        let mut slots = lock(&self.slots);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        slot
    }

    /// Waits until the files may be opened.
    pub(super) fn wait(&self) -> Result<(), Error> {
        let waited =
            self.allowed.wait_timeout_while(lock(&self.database), OPEN_WAIT_MAX, |database| database.is_none());
        let (database, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match *database {
            Some(_) => Ok(()),
            None => Err(Error::Fault("the journal is being put back".to_owned())),
        }
    }

    /// Opens the main file if it is the one that is written to; none while it must not be opened.
    pub(super) fn connect(&self) -> Result<Option<Connection>, Error> {
        let Some(allowed) = *lock(&self.database) else {
            return Ok(None);
        };
        let path = self.directory.join(FILE);
        let connection = open(&path)?;
        if open_files::stat(&path).is_some_and(|found| found.is_same_file(&allowed)) {
            Ok(Some(connection))
        } else {
            Err(Error::Fault("another file is in the place of the journal's".to_owned()))
        }
    }

    /// Allows readers to open this main file.
    pub(super) fn allow(&self, database: Stat) {
        *lock(&self.database) = Some(database);
        self.allowed.notify_all();
    }

    /// Closes the files of every reader until they may be opened again. Returns false if one is still reading: then the
    /// caller tries again.
    pub(crate) fn close(&self) -> bool {
        *lock(&self.database) = None;
        let end = Instant::now() + CLOSE_WAIT_MAX;
        let mut slots: Vec<Arc<ReaderSlot>> = lock(&self.slots).iter().filter_map(Weak::upgrade).collect();
        while !slots.is_empty() {
            slots.retain(|slot| match slot.try_lock() {
                Ok(mut connection) => {
                    *connection = None;
                    false
                }
                Err(_) => true,
            });
            if slots.is_empty() {
                break;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        true
    }
}

/// Opens a read-only connection, which leaves the log alone when it is closed.
pub(super) fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = connect::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", READER_CACHE_KIB)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longer than most repairs.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(10);
/// Nothing is acknowledged meanwhile, and trying again loses nothing.
const CLOSE_WAIT_MAX: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// A reader reads an event once.
const READER_CACHE_KIB: i64 = -256;
