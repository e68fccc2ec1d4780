//! A damaged journal: set aside whole, and what can be read of it carried over into a new one.
//!
//! It happens at a start, before anything else is open. A crash at any moment of it leaves either the damaged journal
//! in its place, and it begins again, or the new one complete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, params, params_from_iter};

use super::{FILE, Lock, OpenError, connect, holds};
use crate::event::{Action, HoldRecord, State};
use crate::time::WallTime;

/// What became of a damaged journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// The damaged journal, whole.
    pub aside: PathBuf,
    /// Events carried over, in whatever state.
    pub events: u64,
    /// Of these, the ones that are still to be delivered.
    pub queued: u64,
    /// Of these, the ones that could no longer be: their bodies are gone. They are dead letters.
    pub without_body: u64,
    /// Places where an event may have been and nothing could be read.
    pub unreadable: u64,
}

/// Looks whether the journal can be read, and if not sets it aside and makes a new one of what can.
pub fn mend(lock: &Lock, now: WallTime) -> Result<Option<Salvage>, OpenError> {
    let directory = lock.directory();
    mend_in(directory, now).map_err(|problem| OpenError {
        path: directory.join(FILE),
        problem,
        remedy: "it is damaged and can't be set aside: make room for a copy of it, and check that `data_dir` can be written",
    })
}

/// Notes for the next start that the journal is damaged, where a start by itself may not see it.
pub fn mark_damaged(directory: &Path) {
    if let Err(error) = File::create(directory.join(MARK)) {
        tracing::error!(%error, "can't note that the journal is damaged");
    }
}

pub fn is_marked_damaged(directory: &Path) -> bool {
    directory.join(MARK).exists()
}

fn mend_in(directory: &Path, now: WallTime) -> Result<Option<Salvage>, String> {
    let failed = |doing: &'static str| move |error: io::Error| format!("{doing}: {error}");
    if directory.join(REBUILT).exists() {
        replace(directory).map_err(failed("putting the new journal in its place"))?;
    }
    if !is_marked_damaged(directory) && !is_orphaned(directory) && !is_damaged(&directory.join(FILE)) {
        return Ok(None);
    }
    let name = format!("journal-damaged-{}.db", now.0);
    let aside = directory.join(&name);
    for beside in ["", "-wal"] {
        let from = directory.join(format!("{FILE}{beside}"));
        if from.exists() {
            let to = directory.join(format!("{name}{beside}"));
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(drop))
                .map_err(failed("setting the damaged journal aside"))?;
        }
    }
    let salvage = rebuild(directory, aside, now).map_err(|error| format!("making a new journal: {error}"))?;
    fs::rename(directory.join(PARTIAL), directory.join(REBUILT)).map_err(failed("keeping the new journal"))?;
    replace(directory).map_err(failed("putting the new journal in its place"))?;
    Ok(Some(salvage))
}

/// Puts a complete new journal where the damaged one is, which has another name already.
pub(super) fn replace(directory: &Path) -> io::Result<()> {
    let sync = || File::open(directory)?.sync_all();
    sync()?;
    for beside in ["-wal", "-shm"] {
        remove(&directory.join(format!("{FILE}{beside}")))?;
    }
    fs::rename(directory.join(REBUILT), directory.join(FILE))?;
    remove(&directory.join(MARK))?;
    sync()
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a log is there without the file that it belongs to: SQLite would delete it.
fn is_orphaned(directory: &Path) -> bool {
    let bytes = |name: &str| fs::metadata(directory.join(name)).map_or(0, |file| file.len());
    bytes(FILE) == 0 && bytes(&format!("{FILE}-wal")) > 0
}

/// Whether SQLite says so when it reads every event. It does not see a changed byte in a text.
fn is_damaged(path: &Path) -> bool {
    if fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return false;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.query_row("SELECT total(received_at) FROM event NOT INDEXED", [], |_| Ok(()))?;
        connection.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))
    };
    matches!(
        read().map_err(|error: rusqlite::Error| error.sqlite_error_code()),
        Err(Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    )
}

fn rebuild(directory: &Path, aside: PathBuf, now: WallTime) -> Result<Salvage, rusqlite::Error> {
    // It can't write, so that what is set aside stays as it was found.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let old = Connection::open_with_flags(&aside, flags).ok();
    let salvage = rebuild_of(directory, old.as_ref(), aside, now)?;
    drop(old);
    // The name in which its shared memory was does not matter any more.
    let _ = remove(&salvage.aside.with_extension("db-shm"));
    Ok(salvage)
}

/// Makes a new journal of what can be read of an old one.
pub(super) fn rebuild_of(
    directory: &Path,
    old: Option<&Connection>,
    aside: PathBuf,
    now: WallTime,
) -> Result<Salvage, rusqlite::Error> {
    let partial = directory.join(PARTIAL);
    for beside in ["", "-wal", "-shm"] {
        let _ = remove(&directory.join(format!("{PARTIAL}{beside}")));
    }
    let mut new = connect(&partial, now)?;
    let mut salvage = Salvage { aside, events: 0, queued: 0, without_body: 0, unreadable: 0 };
    if let Some(old) = old {
        let batch = new.transaction()?;
        carry_over(old, &batch, &mut salvage)?;
        carry_over_holds(old, &batch)?;
        batch.commit()?;
    }
    new.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    new.close().map_err(|(_, error)| error)?;
    Ok(salvage)
}

/// Reads event by event; where that fails, from the next number on, until one can be read again.
fn carry_over(old: &Connection, new: &Transaction<'_>, salvage: &mut Salvage) -> Result<(), rusqlite::Error> {
    let Ok(mut statement) = old.prepare("SELECT * FROM event NOT INDEXED WHERE id >= ?1 ORDER BY id") else {
        salvage.unreadable += 1;
        return Ok(());
    };
    let (mut next, mut misses) = (0_i64, 0);
    while misses < MISSES_MAX {
        let Ok(mut rows) = statement.query([next]) else { return Ok(()) };
        loop {
            match rows.next() {
                Ok(None) => return Ok(()),
                Ok(Some(row)) => {
                    misses = 0;
                    match columns(row) {
                        Some((id, values)) => {
                            keep(old, new, id, values, salvage)?;
                            next = id + 1;
                        }
                        None => {
                            salvage.unreadable += 1;
                            next = row.get(0).unwrap_or(next) + 1;
                        }
                    }
                }
                Err(_) => break,
            }
        }
        // Where nothing has been read yet, the first number is unknown: it is looked for from the other end.
        if next == 0 {
            next = first_readable(old).unwrap_or(i64::MAX);
            salvage.unreadable += 1;
            if next == i64::MAX {
                return Ok(());
            }
            continue;
        }
        salvage.unreadable += 1;
        misses += 1;
        next += 1;
    }
    Ok(())
}

/// Takes over what a person holds back, as far as it can be read.
fn carry_over_holds(old: &Connection, new: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    for HoldRecord { target, since } in holds::read(old).unwrap_or_default() {
        new.prepare_cached("INSERT OR IGNORE INTO hold (kind, source, incident_key, since) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
            target.kind(),
            &*target.source,
            target.incident_key.as_deref().unwrap_or_default(),
            since.0
        ])?;
    }
    Ok(())
}

/// Goes down from the newest event as far as that can be read.
fn first_readable(old: &Connection) -> Option<i64> {
    let mut statement = old.prepare("SELECT id FROM event NOT INDEXED ORDER BY id DESC").ok()?;
    let mut rows = statement.query([]).ok()?;
    let mut first = None;
    while let Ok(Some(row)) = rows.next() {
        first = row.get(0).ok().or(first);
    }
    first
}

/// The columns of an event that makes sense.
fn columns(row: &Row<'_>) -> Option<(i64, Vec<Value>)> {
    let id = row.get(0).ok()?;
    let state = State::from_str(row.get_ref(STATE).ok()?.as_str().ok()?).ok()?;
    row.get_ref(SOURCE).ok()?.as_str().ok()?;
    if state != State::Refused {
        let action = row.get_ref(ACTION).ok()?.as_str().ok()?;
        if action != Action::Trigger.as_str() && action != Action::Resolve.as_str() {
            return None;
        }
        row.get_ref(INCIDENT_KEY).ok()?.as_str().ok()?;
    }
    (0..row.as_ref().column_count()).map(|index| row.get(index).ok()).collect::<Option<_>>().map(|values| (id, values))
}

fn keep(
    old: &Connection,
    new: &Transaction<'_>,
    id: i64,
    mut values: Vec<Value>,
    salvage: &mut Salvage,
) -> Result<(), rusqlite::Error> {
    let content = old
        .prepare_cached("SELECT body, raw, element FROM content WHERE id = ?1")
        .and_then(|mut statement| {
            statement.query_row([id], |row| Ok([row.get::<_, Value>(0)?, row.get(1)?, row.get(2)?])).optional()
        })
        .ok()
        .flatten();
    let queued = values[STATE] == Value::Text(State::Queued.as_str().to_owned());
    match (queued, &content) {
        (true, Some([Value::Blob(_), ..])) => salvage.queued += 1,
        (true, _) => {
            salvage.without_body += 1;
            values[STATE] = Value::Text(State::Dead.as_str().to_owned());
            values[REASON] = Value::Text("damaged: its body could not be read".to_owned());
        }
        (false, _) => {}
    }
    new.prepare_cached(&insert_event(new, values.len())?)?.execute(params_from_iter(&values))?;
    if let Some([body, raw, element]) = content {
        new.prepare_cached("INSERT OR IGNORE INTO content (id, raw, body, element) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![id, raw, body, element])?;
    }
    for attempt in attempts(old, id).unwrap_or_default() {
        new.prepare_cached("INSERT OR IGNORE INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?
            .execute(params_from_iter(&attempt))?;
    }
    new.prepare_cached("UPDATE meta SET value = max(value, ?1) WHERE name = 'first_id'")?.execute([id + 1])?;
    salvage.events += 1;
    Ok(())
}

/// Columns that were added stand last, so a journal that was made before them has the first ones.
fn insert_event(new: &Connection, columns: usize) -> Result<String, rusqlite::Error> {
    let mut statement = new.prepare_cached("SELECT name FROM pragma_table_info('event') ORDER BY cid LIMIT ?1")?;
    let names = statement.query_map([columns as i64], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let places = vec!["?"; names.len()].join(", ");
    Ok(format!("INSERT OR IGNORE INTO event ({}) VALUES ({places})", names.join(", ")))
}

fn attempts(old: &Connection, id: i64) -> Result<Vec<Vec<Value>>, rusqlite::Error> {
    old.prepare_cached("SELECT * FROM attempt WHERE event = ?1")?
        .query_map([id], |row| (0..ATTEMPT_COLUMNS).map(|index| row.get(index)).collect())?
        .collect()
}

/// There while the journal is known to be damaged.
const MARK: &str = "damaged";
/// The new journal while it is being made, and when it is complete.
pub(super) const PARTIAL: &str = "journal-partial.db";
pub(super) const REBUILT: &str = "journal-rebuilt.db";
/// Numbers tried in a row: many times what a damaged page may have held.
const MISSES_MAX: u32 = 100_000;

/// Columns of `event`, as the schema has them.
const SOURCE: usize = 1;
const ACTION: usize = 2;
const INCIDENT_KEY: usize = 3;
const STATE: usize = 4;
const REASON: usize = 6;
const ATTEMPT_COLUMNS: usize = 8;
