//! The tables, and the additions since the layout got its number.
//!
//! An addition keeps the number, so that an earlier version can still open the journal: it names the columns that it
//! writes, and needs no others. So an added column may be NULL, and NULL has the meaning from before.

use rusqlite::{Connection, params};

/// A list of columns of events, written as `event.…`, with NULL for added columns that a journal does not have yet.
pub(super) fn of_event(connection: &Connection, columns: &str) -> Result<String, rusqlite::Error> {
    let mut columns = columns.to_owned();
    for (table, column, _) in COLUMNS_ADDED.iter().filter(|(table, ..)| *table == "event") {
        if !has_column(connection, table, column)? {
            columns = columns.replace(&format!("event.{column}"), "NULL");
        }
    }
    Ok(columns)
}

/// The number of the layout below.
pub(super) const VERSION: i64 = 2;

/// Adds the tables and columns that a journal of an earlier version lacks. Called within a transaction, so that a kill
/// leaves no partial additions.
pub(super) fn add_missing(connection: &Connection) -> Result<(), rusqlite::Error> {
    for (table, column, kind) in COLUMNS_ADDED {
        if !has_column(connection, table, column)? {
            connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {kind}"))?;
        }
    }
    for (name, statement) in ADDED {
        if !has(connection, name)? {
            connection.execute_batch(statement)?;
        }
    }
    Ok(())
}

/// Returns true if [`add_missing`] has something to do.
pub(super) fn is_missing_any(connection: &Connection) -> Result<bool, rusqlite::Error> {
    for (table, column, _) in COLUMNS_ADDED {
        if !has_column(connection, table, column)? {
            return Ok(true);
        }
    }
    for (name, _) in ADDED {
        if !has(connection, name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has(connection: &Connection, name: &str) -> Result<bool, rusqlite::Error> {
    connection.prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = ?1")?.exists([name])
}

/// Returns true if a table has an added column: a journal last opened by an earlier version does not.
pub(super) fn has_column(connection: &Connection, table: &str, column: &str) -> Result<bool, rusqlite::Error> {
    connection.prepare_cached("SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2")?.exists(params![table, column])
}

pub(super) const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
-- One row an event, in the order of acknowledgement. Narrow: it is read whole at a start.
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    action TEXT,
    incident_key TEXT,
    state TEXT NOT NULL,
    outcome TEXT,
    reason TEXT,
    rule TEXT,
    novelty TEXT,
    received_at INTEGER NOT NULL,
    settled_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- While it is tried again: when the first attempt ended, not counting pauses, and when the next is due.
    tried_since INTEGER,
    retry_at INTEGER,
    duplicates INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL,
    request TEXT NOT NULL,
    -- The row whose content holds the request's raw body: itself, or another of its batch.
    raw_in INTEGER NOT NULL,
    update_hash INTEGER,
    -- What its key knew with it: the occurrence that was named last, and the one before that.
    occurrence TEXT,
    past_occurrence TEXT,
    replay_of INTEGER,
    -- In which the raw body of a refused request is to be read; none for UTF-8.
    charset TEXT
);
-- What is not delivered is found without reading history. A query must say `state <> 'delivered'` to be served by it.
CREATE INDEX event_undelivered ON event (state, id) WHERE state <> 'delivered';
-- Of these events nobody remembers the incident key otherwise.
CREATE INDEX event_without_effect ON event (incident_key, source, id)
    WHERE state IN ('dead', 'ended') OR outcome IN ('unmatched', 'not_resolved');
CREATE INDEX event_replay ON event (replay_of) WHERE replay_of IS NOT NULL;
-- What came, and what is sent or, for what was refused, the list of errors. Written once. `element` is the refused
-- element of a batch.
CREATE TABLE content (id INTEGER PRIMARY KEY, raw BLOB, body BLOB, element BLOB);
-- What became of each call.
CREATE TABLE attempt (
    event INTEGER NOT NULL,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    took_ms INTEGER NOT NULL,
    result TEXT NOT NULL,
    status INTEGER,
    detail TEXT,
    answer BLOB,
    PRIMARY KEY (event, number)
) WITHOUT ROWID;
";

/// Added columns by table, in the order of their addition, after those of the layout.
pub(super) const COLUMNS_ADDED: &[(&str, &str, &str)] = &[
    // The rule's word; NULL for normal.
    ("event", "priority", "TEXT"),
    // The checksums of the fixed part of the row and of its state; NULL in rows of earlier versions.
    ("event", "sum", "INTEGER"),
    ("event", "state_sum", "INTEGER"),
    // The checksums of the body with the event's number, and of the raw body with its request's id.
    ("content", "sum", "INTEGER"),
    ("content", "raw_sum", "INTEGER"),
    // While it is retried: for how long so far, without pauses and the time between two runs; and the wait that the
    // upstream asked for. NULL: an earlier version tried it; the upstream did not ask.
    ("event", "tried_ms", "INTEGER"),
    ("event", "asked_ms", "INTEGER"),
    // The sender's request id, shortened and escaped; NULL if it sent none.
    ("event", "sender_request", "TEXT"),
    // For a dead letter: the newest later event of its key that had an effect and is pruned.
    ("event", "later", "INTEGER"),
    // Its trace: the id in 16 bytes; where the sender named it also that one's span in 8, the flags in one, and its
    // `tracestate`. Without a checksum, since no event waits for its trace. NULL: an earlier version took it.
    ("event", "trace", "BLOB"),
];

/// All other additions by name.
pub(super) const ADDED: &[(&str, &str)] = &[
    (
        "difference",
        "-- What rules in the shadow of others would have decided otherwise, as a JSON list; of the newest such events only.
         CREATE TABLE difference (event INTEGER PRIMARY KEY, found TEXT NOT NULL)",
    ),
    (
        "key_state",
        "-- What the state of an incident key rests on, of a delivered event whose row is pruned: read at a start in its
         -- place. The number is the event's.
         CREATE TABLE IF NOT EXISTS key_state (
             id INTEGER PRIMARY KEY,
             source TEXT NOT NULL,
             incident_key TEXT NOT NULL,
             action TEXT NOT NULL,
             rule TEXT,
             received_at INTEGER NOT NULL,
             update_hash INTEGER NOT NULL,
             occurrence TEXT,
             past_occurrence TEXT,
             outcome TEXT,
             reason TEXT,
             attempts INTEGER NOT NULL,
             settled_at INTEGER,
             sum INTEGER
         )",
    ),
    (
        "hold",
        "-- What a person holds back: the events of one key (kind 'key') or of a whole source (kind 'source', where
         -- incident_key is empty).
         CREATE TABLE hold (
             kind TEXT NOT NULL,
             source TEXT NOT NULL,
             incident_key TEXT NOT NULL DEFAULT '',
             since INTEGER NOT NULL,
             PRIMARY KEY (kind, source, incident_key)
         ) WITHOUT ROWID",
    ),
    (
        "event_unmatched",
        "-- The few of which nobody was alerted are found without reading history.
         CREATE INDEX event_unmatched ON event (id) WHERE outcome = 'unmatched'",
    ),
    (
        "event_unsummed",
        "-- Whoever changes where an event stands and knows of no checksum, as the version before or a person, leaves none.
         CREATE TRIGGER event_unsummed
         AFTER UPDATE OF state, outcome, reason, attempts, settled_at, tried_since, retry_at, tried_ms, asked_ms, bytes
         ON event
         WHEN new.state_sum = old.state_sum
         BEGIN UPDATE event SET state_sum = NULL WHERE id = new.id; END",
    ),
    (
        "command_log",
        "-- Commands of people, the newest: one row for each request, or for a sweep by one filter within some minutes,
         -- which takes many requests; with that filter, or the source and key that were held. `events` lists the first
         -- numbers, each between two commas; `count` counts all.
         CREATE TABLE command_log (
             id INTEGER PRIMARY KEY,
             at INTEGER NOT NULL,
             command TEXT NOT NULL,
             request TEXT NOT NULL,
             given_by TEXT NOT NULL,
             selection TEXT,
             source TEXT,
             incident_key TEXT,
             count INTEGER NOT NULL,
             events TEXT NOT NULL
         )",
    ),
    (
        "confirmation",
        "-- What Callgoose's outgoing webhooks said, the newest: `raw` is the body as it came, or its beginning. `event` is
         -- the one that it is about, of the source `event_source`; NULL: of no event that is kept.
         CREATE TABLE confirmation (
             id INTEGER PRIMARY KEY,
             received_at INTEGER NOT NULL,
             source TEXT NOT NULL,
             request TEXT NOT NULL,
             result TEXT NOT NULL,
             action TEXT,
             incident_key TEXT,
             event INTEGER,
             event_source TEXT,
             bytes INTEGER NOT NULL,
             raw BLOB NOT NULL
         )",
    ),
    ("confirmation_event", "CREATE INDEX confirmation_event ON confirmation (event)"),
    ("confirmation_key", "CREATE INDEX confirmation_key ON confirmation (incident_key) WHERE event IS NOT NULL"),
];
