//! Opens SQLite files, and lays out new ones.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::schema::{self, SCHEMA, VERSION};
use crate::clock::WallTime;

/// Opens a SQLite file in a directory. The directory's path may contain links, but the file must not be one.
pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let whole = path.parent().and_then(|directory| directory.canonicalize().ok()).zip(path.file_name());
    let path = whole.map_or_else(|| path.to_owned(), |(directory, name)| directory.join(name));
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags)
}

pub(super) fn connect(path: &Path, now: WallTime) -> Result<Connection, rusqlite::Error> {
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
pub(super) fn connect_unlogged(path: &Path, now: WallTime) -> Result<Connection, rusqlite::Error> {
    let connection = connect_file(path)?;
    connection.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = OFF")?;
    lay_out(&connection, now)?;
    Ok(connection)
}

fn connect_file(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
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

/// A 1 KB alert takes 2 KB with its body, and only one such pair fits on a page of 4 KiB.
pub(super) const PAGE_BYTES: u64 = 8192;
/// Enough for the pages with the newest events; older ones are seldom read. Negative: KiB.
const CACHE_KIB: i64 = -1024;
/// More than the number of statements of this module.
const STATEMENTS: usize = 48;
/// A reader's lock on the file lasts for microseconds; an operator's `sqlite3` may hold it longer.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
