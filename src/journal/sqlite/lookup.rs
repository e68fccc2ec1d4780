//! What a person's commands ask of the journal: an event as it is kept, its end, and what came after it.

use std::sync::Arc;

use rusqlite::{OptionalExtension, Row, params};

use super::batch::Batch;
use super::sum::{self, FIXED, FIXED_READ, Fixed, STANDING, STANDING_READ, Standing};
use super::values::{event, sql};
use super::{Error, values};
use crate::clock::WallTime;
use crate::event::{Action, Damage, EventId, Occurrence, Priority, Reason, State, UpdateHash};

/// A row as a command finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub id: EventId,
    pub source: Arc<str>,
    pub state: State,
    pub reason: Option<Reason>,
    /// What it counts against the limits.
    pub bytes: u64,
    /// The row that holds the raw body of its request.
    pub raw_in: EventId,
    /// In which that is to be read; none for UTF-8.
    pub charset: Option<String>,
    /// None for what was refused.
    pub decided: Option<Decided>,
    /// In which request it came.
    pub request: String,
}

/// A body as a command finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blob {
    Sound(Vec<u8>),
    /// It was pruned with history.
    Gone,
    /// It is not what was written.
    Damaged,
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
    /// An event or refused payload; none if it is not kept. The damage, if it is not what was written.
    pub fn stored(&self, id: EventId) -> Result<Option<Result<Stored, Damage>>, Error> {
        let mut statement =
            self.prepare(&format!("SELECT {FIXED}, {STANDING}, raw_in FROM event WHERE event.id = ?1"))?;
        let mut rows = statement.query([sql(id)])?;
        Ok(rows.next()?.map(stored))
    }

    /// Where a row stands that [`Batch::kept`] says is damaged, and of which source it is said to be; none where that is
    /// not known either.
    pub fn aside(&self, id: EventId) -> Result<Option<(State, Arc<str>)>, Error> {
        let mut statement = self.prepare(&format!("SELECT {STANDING}, source FROM event WHERE id = ?1"))?;
        let mut rows = statement.query([sql(id)])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let source = row.get_ref(STANDING_READ)?.as_str().map(Arc::from);
        Ok(Standing::read(row, 0, id).ok().and_then(|standing| Some((standing.state, source.ok()?))))
    }

    /// The body that an event sends.
    pub fn body(&self, id: EventId) -> Result<Blob, Error> {
        let mut statement = self.prepare(&format!(
            "SELECT body, element, {} FROM content JOIN event ON event.id = content.id WHERE content.id = ?1",
            sum::of_event_with_sum("content.sum")
        ))?;
        let mut rows = statement.query([sql(id)])?;
        let Some(row) = rows.next()? else {
            return Ok(Blob::Gone);
        };
        let (Ok(Some(body)), Ok(element)) = (row.get_ref(0)?.as_bytes_or_null(), row.get_ref(1)?.as_bytes_or_null())
        else {
            return Ok(Blob::Damaged);
        };
        let is_sound = sum::is_sum(row.get_ref(2)?, || sum::of_content(id, body, element));
        Ok(if is_sound { Blob::Sound(body.to_owned()) } else { Blob::Damaged })
    }

    /// The raw body of a request, which this row holds.
    pub fn raw(&self, request: &str, raw_in: EventId) -> Result<Blob, Error> {
        let mut statement = self.prepare(&format!(
            "SELECT raw, {} FROM content JOIN event ON event.id = content.id WHERE content.id = ?1",
            sum::of_event_with_sum("raw_sum")
        ))?;
        let mut rows = statement.query([sql(raw_in)])?;
        let Some(row) = rows.next()? else {
            return Ok(Blob::Gone);
        };
        Ok(match row.get_ref(0)?.as_bytes_or_null() {
            Ok(None) => Blob::Gone,
            Ok(Some(raw)) if sum::is_sum(row.get_ref(1)?, || sum::of_raw(request, raw)) => Blob::Sound(raw.to_owned()),
            _ => Blob::Damaged,
        })
    }

    /// Ends what a person decided on: a dead letter or a refused payload. Anything else stays as it is.
    pub fn end(&mut self, id: EventId, reason: &Reason, at: WallTime) -> Result<(), Error> {
        let Some(mut standing) = self.standing(id)? else {
            return Ok(());
        };
        let before = standing.state;
        if !matches!(before, State::Dead | State::Refused) {
            return Ok(());
        }
        standing.state = State::Ended;
        standing.reason = Some(reason.to_string());
        standing.settled_at = Some(at.0);
        self.write_end(id, &standing)?;
        let source = self.journal.source_of(id)?;
        self.holdings.remove(&source, before, standing.bytes);
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

    /// Notes on the dead letters of a key that this event, which is about to be pruned, was taken after them.
    pub(super) fn note_later(&self, id: EventId, source: &str, incident_key: &str) -> Result<(), Error> {
        self.prepare(
            "UPDATE event INDEXED BY event_without_effect SET later = ?3 \
             WHERE incident_key = ?1 AND source = ?2 AND id < ?3 AND state = 'dead' \
             AND (state IN ('dead', 'ended') OR outcome IN ('unmatched', 'not_resolved')) AND coalesce(later, 0) < ?3",
        )?
        .execute(params![incident_key, source, sql(id)])?;
        Ok(())
    }

    /// The event of the same key that was noted on this one as a later one, when that was pruned.
    pub fn later_noted(&self, id: EventId) -> Result<Later, Error> {
        let later: Option<Option<i64>> =
            self.prepare("SELECT later FROM event WHERE id = ?1")?.query_row([sql(id)], |row| row.get(0)).optional()?;
        Ok(later.flatten().map_or(Later::None, |later| Later::Event(event(later))))
    }

    /// Whether an incident of this key may be open at the upstream although nothing is known of the key: its last event
    /// before `id` that left it unknown was not a resolve that ended because nothing of its incident was sent.
    pub fn may_be_open(&self, source: &str, incident_key: &str, id: EventId) -> Result<bool, Error> {
        let closed: Option<bool> = self
            .prepare(
                "SELECT action = 'resolve' AND state = 'ended' AND reason = 'superseded' \
                 FROM event INDEXED BY event_without_effect \
                 WHERE incident_key = ?1 AND source = ?2 AND id < ?3 \
                 AND (state IN ('dead', 'ended') OR outcome IN ('unmatched', 'not_resolved')) \
                 ORDER BY id DESC LIMIT 1",
            )?
            .query_row(params![incident_key, source, sql(id)], |row| row.get(0))
            .optional()?;
        Ok(closed == Some(false))
    }
}

fn stored(row: &Row<'_>) -> Result<Stored, Damage> {
    let fixed = Fixed::read(row, 0)?;
    let standing = Standing::read(row, FIXED_READ, fixed.id)?;
    let decided = match (fixed.action, fixed.incident_key) {
        (None, _) => None,
        (Some(action), Some(incident_key)) => Some(Decided {
            action: values::action(action).ok_or(Damage::Row)?,
            incident_key: incident_key.to_owned(),
            rule: fixed.rule.unwrap_or_default().to_owned(),
            priority: values::priority(fixed.priority),
            update: UpdateHash(fixed.update_hash.unwrap_or(0).cast_unsigned()),
            occurrence: fixed.occurrence.map(|text| Occurrence(Arc::from(text))),
        }),
        (Some(_), None) => return Err(Damage::Row),
    };
    Ok(Stored {
        id: fixed.id,
        source: Arc::from(fixed.source),
        state: standing.state,
        reason: standing.reason.as_deref().map(Reason::read),
        bytes: standing.bytes,
        raw_in: row.get(FIXED_READ + STANDING_READ).map(event).map_err(|_| Damage::Row)?,
        charset: fixed.charset.map(str::to_owned),
        decided,
        request: fixed.request.to_owned(),
    })
}
