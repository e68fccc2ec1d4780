//! Copies rows, event by event through SQLite, out of an open journal whose files have lost their names.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::intake::Intake;
use super::salvage_error::Error;
use crate::journal::sqlite::key_state;

/// Imports all readable rows; after an error it continues with the next event number. Returns the number of unreadable
/// places.
pub(super) fn connection(old: &Connection, intake: &mut Intake<'_>) -> Result<u64, Error> {
    let Ok(mut statement) = old.prepare("SELECT * FROM event NOT INDEXED WHERE id >= ?1 ORDER BY id") else {
        return Ok(1);
    };
    let (mut next, mut misses, mut unreadable) = (0_i64, 0, 0);
    let mut taken = Vec::new();
    while misses < MISSES_MAX {
        let Ok(mut rows) = statement.query([next]) else {
            break;
        };
        loop {
            match rows.next() {
                Ok(None) => misses = MISSES_MAX,
                Ok(Some(row)) => {
                    misses = 0;
                    let id = row.get(0).unwrap_or(next);
                    if let Some(row) = columns(row) {
                        intake.event(id, &row, false)?;
                        taken.push(id);
                    }
                    next = id.saturating_add(1);
                    continue;
                }
                Err(_) => {}
            }
            break;
        }
        if misses == MISSES_MAX {
            break;
        }
        // If nothing was read yet the first number is unknown: it is searched from the other end.
        unreadable += 1;
        match next {
            0 => next = first_readable(old).unwrap_or(i64::MAX),
            _ => (next, misses) = (next.saturating_add(1), misses + 1),
        }
        if next == i64::MAX {
            break;
        }
    }
    for id in taken {
        beside(old, id, intake)?;
    }
    key_states_and_holds(old, intake)?;
    Ok(unreadable)
}

/// Imports the readable states of keys, and the holds.
fn key_states_and_holds(old: &Connection, intake: &mut Intake<'_>) -> Result<(), Error> {
    if let Ok(mut statement) = old.prepare(&format!("SELECT {} FROM key_state", key_state::COLUMNS))
        && let Ok(mut rows) = statement.query([])
    {
        while let Ok(Some(row)) = rows.next() {
            if let (Ok(id), Some(row)) = (row.get(0), columns(row)) {
                intake.key_state(id, &row)?;
            }
        }
    }
    if let Ok(mut statement) = old.prepare("SELECT kind, source, incident_key, since FROM hold")
        && let Ok(mut rows) = statement.query([])
    {
        while let Ok(Some(row)) = rows.next() {
            if let Some(row) = columns(row) {
                intake.hold(&row)?;
            }
        }
    }
    Ok(())
}

/// The lowest event number that can be read when going down from the newest.
fn first_readable(old: &Connection) -> Option<i64> {
    let mut statement = old.prepare("SELECT id FROM event NOT INDEXED ORDER BY id DESC").ok()?;
    let mut rows = statement.query([]).ok()?;
    let mut first = None;
    while let Ok(Some(row)) = rows.next() {
        first = row.get(0).ok().or(first);
    }
    first
}

/// Imports an event's bodies and calls.
fn beside(old: &Connection, id: i64, intake: &mut Intake<'_>) -> Result<(), Error> {
    if let Ok(mut statement) = old.prepare_cached("SELECT * FROM content WHERE id = ?1")
        && let Ok(mut rows) = statement.query([id])
        && let Ok(Some(row)) = rows.next()
        && let Some(row) = columns(row)
    {
        intake.content(id, &row, false)?;
    }
    if let Ok(mut statement) = old.prepare_cached("SELECT * FROM attempt WHERE event = ?1")
        && let Ok(mut rows) = statement.query([id])
    {
        while let Ok(Some(row)) = rows.next() {
            if let Some(row) = columns(row) {
                intake.attempt(&row)?;
            }
        }
    }
    Ok(())
}

fn columns<'r>(row: &'r Row<'_>) -> Option<Vec<ValueRef<'r>>> {
    (0..row.as_ref().column_count()).map(|column| row.get_ref(column).ok()).collect()
}

/// Event numbers tried in a row: many times what a damaged page can hold.
const MISSES_MAX: u32 = 100_000;
