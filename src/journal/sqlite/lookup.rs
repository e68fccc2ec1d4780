//! Look-ups for decisions: kept events, their settlements, later events of their keys.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};

use super::batch::Batch;
use super::sum::{self, FIXED, FIXED_READ, Fixed, STANDING, STANDING_READ, Standing};
use super::values::{event, sql};
use super::{Error, Journal, key_state, values};
use crate::clock::WallTime;
use crate::event::{Damage, EventId, KeyId, Occurrence, Reason, Settlement, State, UpdateHash};
use crate::journal::dedup::Dedup;
use crate::journal::fact::Counted;
use crate::journal::known::{
    Blob, Decided, Known, KnownEvent, Later, LaterQuestion, OfSource, Question, Stored, StoredRow, later_questions,
    questions, stands,
};
use crate::journal::request::{Confirmation, Replay, Request};
use crate::journal::state::RecorderState;

impl Journal {
    /// The settlement of an event; none while it is queued, or if it can't be read.
    pub fn settlement(&self, id: EventId) -> Result<Option<Settlement>, Error> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {STANDING} FROM event WHERE id = ?1 AND state <> 'queued'"))?;
        let mut rows = statement.query([sql(id)])?;
        let Some(row) = rows.next()? else {
            return Ok(key_state::settlement(&self.connection, id)?);
        };
        let standing = Standing::read(row, 0, id).ok();
        Ok(standing.map(|Standing { state, outcome, reason, attempts, settled_at, .. }| Settlement {
            id,
            state,
            outcome,
            reason: reason.as_deref().map(Reason::read),
            attempts,
            at: WallTime(settled_at.unwrap_or(0)),
        }))
    }
}

impl Batch<'_> {
    /// Answers all that the requests of a batch ask for. `ends`: superseded events end unsent.
    pub(in crate::journal) fn look_up<'r>(
        &self,
        requests: impl Iterator<Item = &'r Request> + Clone,
        state: &RecorderState,
        ends: bool,
    ) -> Result<Known, Error> {
        let mut known = Known::default();
        for question in questions(requests.clone(), state, ends) {
            match question {
                Question::Event { id, bodies } => self.know_event(&mut known, id, bodies)?,
                Question::MayBeOpen { key, source, incident_key } => {
                    if self.may_be_open(source, incident_key)? {
                        known.may_be_open.insert(key);
                    }
                }
                Question::Counted(event) => {
                    if let Some((standing, source)) = self.standing_in_source(event)? {
                        let (state, bytes) = (standing.state, standing.bytes);
                        known.counted.insert(event, Counted { source: source.into(), state, bytes });
                    }
                }
                Question::Standing(event) => {
                    if self.still_stands(event)? {
                        known.standing.insert(event);
                    }
                }
                Question::Confirmed { confirmation, all } => {
                    known.next_confirmation = self.next_confirmation()?;
                    let candidates = self.candidates(confirmation, all, state.dedup())?;
                    known.candidates.insert(Arc::clone(&confirmation.request_id), candidates);
                }
            }
        }
        if known.events.is_empty() {
            return Ok(known);
        }
        let (dedup, mut rows) = (state.dedup(), ROWS_LOOKED_AT_MAX);
        for question in later_questions(requests, dedup, &known) {
            if let Entry::Vacant(place) = known.later.entry((question.of, question.key)) {
                place.insert(self.later(&question, dedup.has_evicted(), &mut rows)?);
            }
        }
        Ok(known)
    }

    /// Reads what is kept of an event; its bodies where it is to be replayed and may be.
    fn know_event(&self, known: &mut Known, id: EventId, bodies: bool) -> Result<(), Error> {
        if let Entry::Vacant(place) = known.events.entry(id) {
            let row = match self.stored(id)? {
                None => StoredRow::NotKept,
                Some(Err(_)) => StoredRow::Damaged(self.state_of_damaged(id)?),
                Some(Ok(stored)) => StoredRow::Sound(Box::new(stored)),
            };
            let newest_replay = self.newest_replay(id)?;
            place.insert(KnownEvent { row, body: Blob::Gone, newest_replay });
        }
        let Some(KnownEvent { row: StoredRow::Sound(stored), body, .. }) = known.events.get_mut(&id) else {
            return Ok(());
        };
        if bodies && stored.state != State::Queued && stored.decided.is_some() && *body == Blob::Gone {
            *body = self.body(id)?;
            if let Entry::Vacant(place) = known.raws.entry(stored.raw_in) {
                place.insert(self.raw(&stored.request, stored.raw_in)?);
            }
        }
        Ok(())
    }

    /// Returns whether an event leaves nothing for a copy of its message to do: it waits, the upstream holds it, or later
    /// events of its key made it pointless. Of one that is not kept nobody knows.
    fn still_stands(&self, event: EventId) -> Result<bool, Error> {
        match self.journal.settlement(event)? {
            Some(settlement) => Ok(stands(&settlement)),
            None => Ok(self.standing(event)?.is_some_and(|standing| standing.state == State::Queued)),
        }
    }

    /// Looks for an event of a key that was taken after another: an index finds those that ended without effect; for keys
    /// that were evicted, what was pruned is noted, and the newest rows are searched.
    fn later(&self, question: &LaterQuestion, evicted: bool, rows: &mut usize) -> Result<Later, Error> {
        let LaterQuestion { of, source, incident_key, .. } = question;
        let mut later = self.later_without_effect(source, incident_key, *of)?;
        if later == Later::None {
            later = self.later_noted(*of)?;
        }
        if later == Later::None && evicted {
            later = self.later_of_any(source, incident_key, *of, rows)?;
        }
        Ok(later)
    }

    /// The events that a confirmation may be about, of each source that knows its key.
    fn candidates(
        &self,
        Confirmation { told, of, .. }: &Confirmation,
        all: bool,
        dedup: &Dedup,
    ) -> Result<Vec<OfSource>, Error> {
        let Some(key) = &told.incident_key else { return Ok(Vec::new()) };
        let mut candidates = Vec::new();
        for source in of.iter() {
            // A call that was given up may have opened an incident all the same.
            let last = dedup.last(KeyId::new(source, key)).max(self.last_without_effect(source, key)?);
            let Some(last) = last else { continue };
            let of_source = self.candidates_of_key(told.action, (source, key), last, all)?;
            candidates.push((Arc::clone(source), of_source));
        }
        Ok(candidates)
    }

    /// An event or refused payload; none if it is not kept, an error if its checksum does not match.
    pub(super) fn stored(&self, id: EventId) -> Result<Option<Result<Stored, Damage>>, Error> {
        let mut statement =
            self.prepare(&format!("SELECT {FIXED}, {STANDING}, raw_in, trace FROM event WHERE event.id = ?1"))?;
        let mut rows = statement.query([sql(id)])?;
        Ok(rows.next()?.map(stored))
    }

    /// The state and source of a row that [`Batch::stored`] reports as damaged; none if these are unknown too.
    pub(super) fn state_of_damaged(&self, id: EventId) -> Result<Option<(State, Arc<str>)>, Error> {
        let mut statement = self.prepare(&format!("SELECT {STANDING}, source FROM event WHERE id = ?1"))?;
        let mut rows = statement.query([sql(id)])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let source = row.get_ref(STANDING_READ)?.as_str().map(Arc::from);
        Ok(Standing::read(row, 0, id).ok().and_then(|standing| Some((standing.state, source.ok()?))))
    }

    /// The body of an event for the upstream.
    pub(super) fn body(&self, id: EventId) -> Result<Blob, Error> {
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
        Ok(if is_sound { Blob::Sound(Bytes::copy_from_slice(body)) } else { Blob::Damaged })
    }

    /// The raw body of a request, held by this row.
    pub(super) fn raw(&self, request: &str, raw_in: EventId) -> Result<Blob, Error> {
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
            Ok(Some(raw)) if sum::is_sum(row.get_ref(1)?, || sum::of_raw(request, raw)) => {
                Blob::Sound(Bytes::copy_from_slice(raw))
            }
            _ => Blob::Damaged,
        })
    }

    /// The newest replay of an event, or of its replays; none if none is kept.
    pub(super) fn newest_replay(&self, of: EventId) -> Result<Option<Replay>, Error> {
        let mut statement =
            self.prepare("SELECT id, state, outcome FROM event WHERE replay_of = ?1 ORDER BY id DESC LIMIT 1")?;
        let (mut newest, mut of) = (None, of);
        for _ in 0..REPLAYS_FOLLOWED {
            let mut rows = statement.query([sql(of)])?;
            let Some(row) = rows.next()? else {
                break;
            };
            of = event(row.get(0)?);
            let word = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str_or_null().unwrap_or_default());
            // A damaged row tells nothing.
            let state = word(1)?.and_then(|word| word.parse().ok());
            let outcome = word(2)?.and_then(|word| word.parse().ok());
            newest = state.map(|state| Replay { id: of, state, outcome });
        }
        Ok(newest)
    }

    /// Ends a dead letter or a refused payload. Anything else stays as it is.
    pub fn end(&mut self, id: EventId, reason: &Reason, at: WallTime) -> Result<(), Error> {
        let Some((mut standing, source)) = self.standing_in_source(id)? else {
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
        self.totals.remove(&source, before, standing.bytes);
        Ok(())
    }

    /// Finds an event of this key after `id`, for a key unknown to deduplication: its last event ended without effect,
    /// and an index finds those.
    pub(super) fn later_without_effect(&self, source: &str, incident_key: &str, id: EventId) -> Result<Later, Error> {
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

    /// Finds an event after `id` for a key that may have been evicted: reads up to `rows` rows, and subtracts those
    /// read.
    pub(super) fn later_of_any(
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

    /// Returns true if this key has an older dead letter: while that may be replayed, later events must be known.
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

    /// Records on the dead letters of a key that this event, which is about to be pruned, came after them.
    pub(super) fn note_later(&self, id: EventId, source: &str, incident_key: &str) -> Result<(), Error> {
        self.prepare(
            "UPDATE event INDEXED BY event_without_effect SET later = ?3 \
             WHERE incident_key = ?1 AND source = ?2 AND id < ?3 AND state = 'dead' \
             AND (state IN ('dead', 'ended') OR outcome IN ('unmatched', 'not_resolved')) AND coalesce(later, 0) < ?3",
        )?
        .execute(params![incident_key, source, sql(id)])?;
        Ok(())
    }

    /// The pruned later event of the same key, as recorded on this one.
    pub(super) fn later_noted(&self, id: EventId) -> Result<Later, Error> {
        let later: Option<Option<i64>> =
            self.prepare("SELECT later FROM event WHERE id = ?1")?.query_row([sql(id)], |row| row.get(0)).optional()?;
        Ok(later.flatten().map_or(Later::None, |later| Later::Event(event(later))))
    }

    /// Returns true if the upstream may have an open incident of an unknown key: unless its last event was a resolve that
    /// ended because its trigger was never sent.
    pub(super) fn may_be_open(&self, source: &str, incident_key: &str) -> Result<bool, Error> {
        let closed: Option<bool> = self
            .prepare(
                "SELECT coalesce(action = 'resolve' AND state = 'ended' AND reason = 'superseded', 0) \
                 FROM event INDEXED BY event_without_effect \
                 WHERE incident_key = ?1 AND source = ?2 \
                 AND (state IN ('dead', 'ended') OR outcome IN ('unmatched', 'not_resolved')) \
                 ORDER BY id DESC LIMIT 1",
            )?
            .query_row([incident_key, source], |row| row.get(0))
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
        retry_at: standing.retry_at.filter(|_| standing.state == State::Queued).map(WallTime),
        bytes: standing.bytes,
        raw_in: row.get(FIXED_READ + STANDING_READ).map(event).map_err(|_| Damage::Row)?,
        trace: values::trace(row, FIXED_READ + STANDING_READ + 1).unwrap_or_default(),
        charset: fixed.charset.map(str::to_owned),
        decided,
        request: fixed.request.to_owned(),
    })
}

/// Rows that one batch searches for later events: some tens of milliseconds, and senders wait for the same thread.
const ROWS_LOOKED_AT_MAX: usize = 100_000;
/// More replays of replays than a person makes.
const REPLAYS_FOLLOWED: usize = 100;
