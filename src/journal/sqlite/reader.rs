//! A read-only connection, and the queries for delivery.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::names::FILE;
use super::readers::{self, ReaderSlot, Readers};
use super::search_index::SearchIndex;
use super::sum::{self, FIXED, FIXED_READ, Fixed};
use super::values::{action, event, sql, trace};
use super::{Error, Found, OpenError, data_dir, restore_rows, salvage, schema};
use crate::clock::WallTime;
use crate::event::{Action, Damage, EventId, KeyId, Outcome, Outgoing};

/// A read-only connection. It never waits for the writing end, nor the writing end for it.
#[derive(Debug)]
pub struct Reader {
    slot: Arc<ReaderSlot>,
    /// The readers of the same journal; none if nobody writes, or another process does.
    readers: Option<Arc<Readers>>,
    /// The directory in which to note damage; none if the journal belongs to another process.
    directory: Option<PathBuf>,
    /// Looked into by a search; none if it reads the journal alone.
    index: Option<Arc<SearchIndex>>,
}

/// The extent of the journal, to explain why nothing was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The time at which the oldest kept event was received.
    pub oldest: Option<WallTime>,
    /// True if there are refused payloads.
    pub refused: bool,
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
            slot: Arc::new(ReaderSlot::new(Some(readers::open(&directory.join(FILE))?))),
            readers: None,
            directory: Some(directory.to_owned()),
            index: None,
        })
    }

    /// Opens the journal beside the writing end of this process; follows it when it is reopened in another file.
    pub fn beside(readers: &Arc<Readers>) -> Result<Reader, Error> {
        let directory = Some(readers.directory().to_owned());
        let reader = Reader { slot: readers.enter(), readers: Some(Arc::clone(readers)), directory, index: None };
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
                let slot = Arc::new(ReaderSlot::new(Some(connection)));
                Ok(Reader { slot, readers: None, directory: None, index: None })
            }
            Ok((_, other)) => Err(fail(
                format!("it has layout {other}, and this version of gander knows layout {}", schema::VERSION),
                "use the version of gander that wrote it",
            )),
            Err(error) => Err(OpenError::of(&path, &error)),
        }
    }

    /// Searches with the help of this index of the same journal.
    pub fn searching_in(self, index: Arc<SearchIndex>) -> Reader {
        Reader { index: Some(index), ..self }
    }

    pub(super) fn index(&self) -> Option<&SearchIndex> {
        self.index.as_deref()
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Reads every kept event, oldest first.
    pub fn restore(&self, mut each: impl FnMut(Found)) -> Result<(), Error> {
        self.connected(|connection| {
            restore_rows::restore(connection, |row| {
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
        "SELECT {FIXED}, content.body, content.element, {}, event.trace FROM event \
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
        trace: trace(row, FIXED_READ + 3)?,
    }))
}

const EXISTS: &str = "name the `data_dir` of a relay that ran, and be a user who may read it";
/// Characters that need no escape in the path of SQLite's URI (https://www.sqlite.org/uri.html).
const URI_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
/// The newest events that are searched for recent deliveries: more than go out in some minutes.
const NEWEST_LOOKED_AT: i64 = 100_000;
