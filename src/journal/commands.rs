//! What a person's commands ask of the journal: an event as it is kept, its end, and what came after it.

use std::str::FromStr;
use std::sync::Arc;

use rusqlite::{OptionalExtension, Row, params};

use super::batch::{Batch, event, sql};
use super::{Error, read};
use crate::event::{Action, EventId, Occurrence, Priority, State, UpdateHash};
use crate::time::WallTime;

/// A row as a command finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub id: EventId,
    pub source: Arc<str>,
    pub state: State,
    pub reason: Option<String>,
    /// What it counts against the limits.
    pub bytes: u64,
    /// The row that holds the raw body of its request.
    pub raw_in: EventId,
    /// In which that is to be read; none for UTF-8.
    pub charset: Option<String>,
    /// None for what was refused.
    pub decided: Option<Decided>,
}

/// What the rules made of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub action: Action,
    pub incident_key: String,
    pub rule: String,
    pub priority: Priority,
    pub update: UpdateHash,
    pub occurrence: Option<Occurrence>,
}

/// Whether an event of a key came after another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    None,
    Event(EventId),
    /// More rows came since than may be looked at.
    Unknown,
}

impl Batch<'_> {
    /// An event or refused payload; none if it is not kept.
    pub fn kept(&self, id: EventId) -> Result<Option<Kept>, Error> {
        let row = self
            .prepare(
                "SELECT source, state, reason, bytes, raw_in, action, incident_key, rule, update_hash, occurrence, charset, priority \
                 FROM event WHERE id = ?1",
            )?
            .query_row([sql(id)], |row| kept(id, row))
            .optional()?;
        let Some((word, kept)) = row else {
            return Ok(None);
        };
        match State::from_str(&word) {
            Ok(state) => Ok(Some(Kept { state, ..kept })),
            Err(()) => Err(Error::Fault(format!("event {id} has the unknown state {word}"))),
        }
    }

    /// The body that an event sends; none once history is pruned.
    pub fn body(&self, id: EventId) -> Result<Option<Vec<u8>>, Error> {
        self.blob("SELECT body FROM content WHERE id = ?1", id)
    }

    /// The raw body that this row holds.
    pub fn raw(&self, raw_in: EventId) -> Result<Option<Vec<u8>>, Error> {
        self.blob("SELECT raw FROM content WHERE id = ?1", raw_in)
    }

    /// Ends what a person decided on: a dead letter or a refused payload. Anything else stays as it is.
    pub fn end(&mut self, id: EventId, reason: &str, at: WallTime) -> Result<(), Error> {
        let Some(Kept { state: state @ (State::Dead | State::Refused), bytes, .. }) = self.kept(id)? else {
            return Ok(());
        };
        self.prepare("UPDATE event SET state = 'ended', reason = ?2, settled_at = ?3 WHERE id = ?1")?
            .execute(params![sql(id), reason, at.0])?;
        self.totals.remove(state, bytes);
        Ok(())
    }

    /// Whether an event of this key came after `id`, for a key that deduplication does not know: its last event
    /// ended without effect, and those are found by an index.
    pub fn later_without_effect(&self, source: &str, incident_key: &str, id: EventId) -> Result<Later, Error> {
        let later: Option<i64> = self
            .prepare(
                "SELECT id FROM event INDEXED BY event_without_effect \
                 WHERE incident_key = ?1 AND source = ?2 AND id > ?3 \
                 AND (state IN ('dead', 'ended') OR outcome IN ('unmatched', 'not_resolved')) ORDER BY id DESC LIMIT 1",
            )?
            .query_row(params![incident_key, source, sql(id)], |row| row.get(0))
            .optional()?;
        Ok(later.map_or(Later::None, |later| Later::Event(event(later))))
    }

    /// The same for a key that may have been forgotten: looks at every row after `id`, but at no more than `rows`,
    /// which it counts down.
    pub fn later_of_any(
        &self,
        source: &str,
        incident_key: &str,
        id: EventId,
        rows: &mut usize,
    ) -> Result<Later, Error> {
        let mut statement =
            self.prepare("SELECT id, incident_key, source FROM event WHERE id > ?1 ORDER BY id DESC")?;
        let mut found = statement.query([sql(id)])?;
        while let Some(row) = found.next()? {
            if *rows == 0 {
                return Ok(Later::Unknown);
            }
            *rows -= 1;
            if row.get_ref(1)?.as_str() == Ok(incident_key) && row.get_ref(2)?.as_str() == Ok(source) {
                return Ok(Later::Event(event(row.get(0)?)));
            }
        }
        Ok(Later::None)
    }

    /// Whether a dead letter of this key is older: while it may be replayed, what came later must be known.
    pub(super) fn follows_a_dead_letter(&self, id: EventId, source: &str, incident_key: &str) -> Result<bool, Error> {
        let older: Option<i64> = self
            .prepare(
                "SELECT 1 FROM event INDEXED BY event_without_effect \
                 WHERE incident_key = ?1 AND source = ?2 AND id < ?3 AND state = 'dead' \
                 AND (state IN ('dead', 'ended') OR outcome IN ('unmatched', 'not_resolved')) LIMIT 1",
            )?
            .query_row(params![incident_key, source, sql(id)], |row| row.get(0))
            .optional()?;
        Ok(older.is_some())
    }

    fn blob(&self, query: &str, id: EventId) -> Result<Option<Vec<u8>>, Error> {
        let blob: Option<Option<Vec<u8>>> = self.prepare(query)?.query_row([sql(id)], |row| row.get(0)).optional()?;
        Ok(blob.flatten())
    }
}

/// The state's word, and the rest with a state that is still to be put in.
fn kept(id: EventId, row: &Row<'_>) -> Result<(String, Kept), rusqlite::Error> {
    let action: Option<String> = row.get(5)?;
    let decided = match action.as_deref().and_then(read::action) {
        None => None,
        Some(action) => Some(Decided {
            action,
            incident_key: row.get(6)?,
            rule: row.get::<_, Option<String>>(7)?.unwrap_or_default(),
            priority: read::priority(row.get_ref(11)?),
            update: UpdateHash(row.get::<_, Option<i64>>(8)?.unwrap_or(0).cast_unsigned()),
            occurrence: row.get::<_, Option<String>>(9)?.map(|text| Occurrence(Arc::from(text))),
        }),
    };
    let source: String = row.get(0)?;
    let kept = Kept {
        id,
        source: Arc::from(source),
        state: State::Queued,
        reason: row.get(2)?,
        bytes: row.get(3)?,
        raw_in: event(row.get(4)?),
        charset: row.get(10)?,
        decided,
    };
    Ok((row.get(1)?, kept))
}
