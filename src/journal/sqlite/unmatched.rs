//! Finds events that nobody was alerted of, and after which no event of their key was without effect.

use rusqlite::Row;

use super::values::event;
use super::{Error, Reader};
use crate::event::{EventId, KeyId};

impl Reader {
    /// The unmatched events after which no event of their key ended without effect, among the newest ones. Those that a
    /// later event made good are known to deduplication.
    pub fn unmatched(&self) -> Result<Vec<(EventId, KeyId)>, Error> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT id, source, incident_key FROM \
                     (SELECT id, source, incident_key FROM event INDEXED BY event_unmatched \
                      WHERE outcome = 'unmatched' ORDER BY id DESC LIMIT ?1) AS newest \
                     WHERE NOT EXISTS (SELECT 1 FROM event AS later INDEXED BY event_without_effect \
                      WHERE later.incident_key = newest.incident_key AND later.source = newest.source \
                      AND later.id > newest.id \
                      AND (later.state IN ('dead', 'ended') OR later.outcome IN ('unmatched', 'not_resolved')))",
                )?
                .query_map([NEWEST_LOOKED_AT], read)?
                .filter_map(Result::transpose)
                .collect()
        })
    }
}

/// Reads an event with its key; none if a column can't be read.
fn read(row: &Row<'_>) -> Result<Option<(EventId, KeyId)>, rusqlite::Error> {
    let text = |column| row.get_ref(column).ok()?.as_str().ok();
    let id = event(row.get(0)?);
    Ok(text(1).zip(text(2)).map(|(source, incident_key)| (id, KeyId::new(source, incident_key))))
}

/// More than a person looks through, and read within milliseconds.
const NEWEST_LOOKED_AT: i64 = 1_000;
