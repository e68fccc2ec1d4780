//! Writing: a batch is one transaction and one sync.

use std::collections::HashMap;
mod key_states;
mod room;

use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::key_state::KeyStates;
use super::place::Wrote;
use super::records::{AttemptRecord, NewEvent, NewRefusal, Raw};
use super::room::Holdings;
use super::sum::{self, Fixed, STANDING, Standing};
use super::values::{event, sql};
use super::{Error, Journal, Space, Tried, read};
use crate::clock::WallTime;
use crate::event::{EventId, Outcome, Priority, Reason, Settlement, State};

/// A group of changes that become durable together. Dropped without a commit, it has no effect.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) journal: &'a mut Journal,
    next_id: EventId,
    pub(super) holdings: Holdings,
    pub(super) key_states: KeyStates,
    done: bool,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(journal: &'a mut Journal) -> Result<Batch<'a>, Error> {
        journal.start_transaction()?;
        let (next_id, holdings, key_states) = (journal.next_id, journal.holdings.clone(), journal.key_states);
        Ok(Batch { journal, next_id, holdings, key_states, done: false })
    }

    /// The number of refused payloads that are kept.
    pub fn refused(&self) -> u64 {
        self.holdings.totals.refused
    }

    /// Appends an event as queued.
    pub fn append(&mut self, event: NewEvent<'_>) -> Result<EventId, Error> {
        let id = self.number();
        let (raw, raw_in) = match event.raw {
            Raw::Bytes(bytes) => (Some(bytes), id),
            Raw::In(other) => (None, other),
            Raw::Gone => (None, id),
        };
        let bytes = (raw.map_or(0, <[u8]>::len) + event.body.len()) as u64;
        let fixed = Fixed {
            id,
            source: event.source,
            action: Some(event.action.as_str()),
            incident_key: Some(event.incident_key),
            rule: Some(event.rule),
            novelty: Some(event.novelty),
            received_at: event.received_at.0,
            request: event.request,
            update_hash: Some(event.update.0.cast_signed()),
            occurrence: event.occurrences.last.as_ref().map(|occurrence| &*occurrence.0),
            past_occurrence: event.occurrences.past.as_ref().map(|occurrence| &*occurrence.0),
            replay_of: event.replay_of.map(sql),
            charset: event.charset,
            sender_request: event.sender_request,
            priority: Some(event.priority).filter(|priority| *priority != Priority::Normal).map(Priority::as_str),
        };
        self.insert(&fixed, &Standing::new(State::Queued, bytes), raw_in)?;
        self.insert_content(&fixed, raw, event.body, None)?;
        self.holdings.add(event.source, State::Queued, bytes);
        event.follows.map_or(Ok(()), |before| self.drop_key_state(before))?;
        Ok(id)
    }

    /// Stores a refused payload.
    pub fn refuse(&mut self, refusal: NewRefusal<'_>) -> Result<EventId, Error> {
        let id = self.number();
        let (raw, raw_in) = match refusal.raw {
            Raw::Bytes(bytes) => (Some(bytes), id),
            Raw::In(other) => (None, other),
            Raw::Gone => (None, id),
        };
        let bytes = (raw.map_or(0, <[u8]>::len) + refusal.element.map_or(0, <[u8]>::len)) as u64;
        let fixed = Fixed {
            id,
            source: refusal.source,
            action: None,
            incident_key: None,
            rule: None,
            novelty: None,
            received_at: refusal.received_at.0,
            request: refusal.request,
            update_hash: None,
            occurrence: None,
            past_occurrence: None,
            replay_of: None,
            charset: refusal.charset,
            sender_request: refusal.sender_request,
            priority: None,
        };
        let standing = Standing {
            reason: Some(refusal.reason.to_owned()),
            settled_at: Some(refusal.received_at.0),
            ..Standing::new(State::Refused, bytes)
        };
        self.insert(&fixed, &standing, raw_in)?;
        self.insert_content(&fixed, raw, refusal.errors, refusal.element)?;
        self.holdings.add(refusal.source, State::Refused, bytes);
        Ok(id)
    }

    /// Removes the oldest refused payloads beyond `keep_refused`. Called once a request is written whole, since its
    /// rows refer to each other.
    pub fn trim_refused(&mut self) -> Result<(), Error> {
        while self.holdings.totals.refused > self.journal.config.keep_refused
            || self.holdings.totals.refused_bytes > self.journal.config.max_bytes / REFUSED_SHARE
        {
            if !self.drop_oldest_refused()? {
                break;
            }
        }
        Ok(())
    }

    /// Removes at most `most` of the oldest refused payloads. Returns their number.
    pub fn drop_refused(&mut self, most: usize) -> Result<usize, Error> {
        for dropped in 0..most {
            if !self.drop_oldest_refused()? {
                return Ok(dropped);
            }
        }
        Ok(most)
    }

    /// Records a settlement. An event that ended before stays as it is.
    pub fn settle(&mut self, settlement: &Settlement) -> Result<(), Error> {
        let Some(before) = self.standing(settlement.id)?.filter(|standing| standing.state == State::Queued) else {
            return Ok(());
        };
        let after = Standing {
            state: settlement.state,
            outcome: settlement.outcome,
            reason: settlement.reason.as_ref().map(Reason::to_string),
            attempts: settlement.attempts,
            settled_at: Some(settlement.at.0),
            ..before
        };
        self.write_end(settlement.id, &after)?;
        let source = self.journal.source_of(settlement.id)?;
        self.holdings.remove(&source, State::Queued, after.bytes);
        self.holdings.add(&source, settlement.state, after.bytes);
        Ok(())
    }

    /// The settlement of an event; none while it is queued, or if it is not kept.
    pub fn settlement(&self, id: EventId) -> Result<Option<Settlement>, Error> {
        read::settlement(connection(self.journal), id)
    }

    /// Records a call. After many attempts the first few and the last few are kept.
    pub fn attempt(&mut self, attempt: &AttemptRecord) -> Result<(), Error> {
        self.prepare("INSERT OR REPLACE INTO attempt VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(params![
            sql(attempt.event),
            attempt.number,
            attempt.started_at.0,
            i64::try_from(attempt.took.as_millis()).unwrap_or(i64::MAX),
            attempt.result,
            attempt.status,
            attempt.detail,
            attempt.answer
        ])?;
        if attempt.number > FIRST_ATTEMPTS_KEPT + LAST_ATTEMPTS_KEPT {
            self.prepare("DELETE FROM attempt WHERE event = ?1 AND number > ?2 AND number <= ?3")?.execute(params![
                sql(attempt.event),
                FIRST_ATTEMPTS_KEPT,
                attempt.number - LAST_ATTEMPTS_KEPT
            ])?;
        }
        Ok(())
    }

    /// Records the state of an event's retries, so that a restart goes on with them.
    pub fn tried(&mut self, id: EventId, tried: Tried, now: WallTime) -> Result<(), Error> {
        let Some(before) = self.standing(id)?.filter(|standing| standing.state == State::Queued) else {
            return Ok(());
        };
        let Tried { attempts, age, retry_at, asked } = tried;
        let age = millis(age);
        let after = Standing {
            attempts,
            tried_since: Some(now.0.saturating_sub(age)),
            retry_at: Some(retry_at.0),
            tried_ms: Some(age),
            asked_ms: asked.map(millis),
            ..before
        };
        self.prepare(
            "UPDATE event SET attempts = ?2, tried_since = ?3, retry_at = ?4, tried_ms = ?5, asked_ms = ?6, \
             state_sum = ?7 WHERE id = ?1",
        )?
        .execute(params![
            sql(id),
            after.attempts,
            after.tried_since,
            after.retry_at,
            after.tried_ms,
            after.asked_ms,
            after.sum(id)
        ])?;
        Ok(())
    }

    /// Adds duplicates to the event that they repeat.
    pub fn count_duplicates(&mut self, of: EventId, count: u64) -> Result<(), Error> {
        self.prepare("UPDATE event SET duplicates = duplicates + ?2 WHERE id = ?1")?
            .execute(params![sql(of), count])?;
        Ok(())
    }

    /// Returns this many free pages to the volume.
    pub(super) fn give_back(&self, pages: u64) -> Result<(), Error> {
        let mut statement = connection(self.journal).prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        // Each row read frees one page.
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// The space on the volume, including this batch.
    pub fn space(&self) -> Result<Space, Error> {
        Ok(self.journal.volume.space(connection(self.journal), self.holdings.totals.queued)?)
    }

    /// Removes at most a given number of finished events that are older than `before`, or the oldest ones if `before`
    /// is none. If `keep` returns true, because an event set its key's state, that state is kept. The newest row always
    /// stays.
    ///
    /// It stops at the first finished event that is young: if the clock was turned back, a later event of its key may
    /// look older, and without that one a restart would restore the state of the earlier event.
    pub fn prune(
        &mut self,
        before: Option<WallTime>,
        most: usize,
        mut keep: impl FnMut(EventId, &str, &str) -> bool,
    ) -> Result<Pruned, Error> {
        if self.sweep_key_states(&mut keep)? {
            return Ok(Pruned { events: 0, more: true });
        }
        let before = before.map_or(i64::MAX, |at| at.0);
        let (mut last, mut ended, mut found) = (self.journal.prune_after, false, Vec::new());
        {
            let mut statement = self.prepare(
                "SELECT id, received_at, source, incident_key, state IN ('delivered', 'ended'), coalesce(settled_at, 0), \
                 state = 'delivered' AND coalesce(outcome, '') NOT IN ('unmatched', 'not_resolved') \
                 FROM event WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3",
            )?;
            let mut rows = statement.query(params![sql(last), sql(self.newest()), LOOKED_AT_AT_ONCE])?;
            while found.len() < most {
                let Some(row) = rows.next()? else {
                    break;
                };
                // A later event can't have ended earlier.
                let finished = row.get(4)?;
                if row.get::<_, i64>(1)? >= before || finished && row.get::<_, i64>(5)? >= before {
                    ended = true;
                    break;
                }
                last = event(row.get(0)?);
                if finished {
                    let key: Option<String> = row.get(3)?;
                    found.push((last, row.get::<_, String>(2)?, key.unwrap_or_default(), row.get::<_, bool>(6)?));
                }
            }
        }
        ended |= last == self.journal.prune_after;
        let (mut events, mut later) = (0, HashMap::new());
        for (id, source, key, had_effect) in &found {
            let lost_content = self.drop_content(*id)?;
            let follows_dead = self.follows_a_dead_letter(*id, source, key)?;
            if follows_dead && *had_effect {
                later.insert((source, key), *id);
            }
            // After a dead letter, an event that left its key unknown is looked up by itself.
            let goes = (!follows_dead || *had_effect) && (!keep(*id, source, key) || self.keep_key_state(*id)?);
            if goes {
                self.prepare("DELETE FROM event WHERE id = ?1")?.execute([sql(*id)])?;
            }
            // A row that has to stay is met again in each round, and does not count.
            events += usize::from(goes || lost_content);
        }
        // Only the newest one, since each is written to every dead letter of its key.
        for ((source, key), id) in later {
            self.note_later(id, source, key)?;
        }
        // The next round starts from the beginning: rows that had to stay may be removable by then.
        self.journal.prune_after = if ended { EventId(0) } else { last };
        Ok(Pruned { events, more: !ended })
    }

    /// Removes everything of a finished event but its row. Returns true if there was anything.
    fn drop_content(&mut self, id: EventId) -> Result<bool, Error> {
        if self.prepare("SELECT 1 FROM content WHERE id = ?1")?.exists([sql(id)])? {
            self.move_raw(id)?;
        }
        let mut dropped = 0;
        for statement in [
            "DELETE FROM content WHERE id = ?1",
            "DELETE FROM attempt WHERE event = ?1",
            "DELETE FROM difference WHERE event = ?1",
        ] {
            dropped += self.prepare(statement)?.execute([sql(id)])?;
        }
        Ok(dropped > 0)
    }

    /// Records, as JSON lists, different decisions of shadow rules; the oldest are removed beyond the limit.
    pub fn differ<'u>(&mut self, unlike: impl IntoIterator<Item = (EventId, &'u str)>) -> Result<(), Error> {
        let mut insert = self.prepare("INSERT OR REPLACE INTO difference (event, found) VALUES (?1, ?2)")?;
        for (event, differences) in unlike {
            insert.execute(params![sql(event), differences])?;
        }
        drop(insert);
        self.prepare(
            "DELETE FROM difference WHERE event IN (SELECT event FROM difference ORDER BY event \
             LIMIT max(0, (SELECT count(*) FROM difference) - ?1))",
        )?
        .execute([DIFFERENCES_KEPT])?;
        Ok(())
    }

    /// Writes a value, so that a commit proves that writing works.
    pub fn probe(&mut self, at: WallTime) -> Result<(), Error> {
        self.prepare("UPDATE meta SET value = ?1 WHERE name = 'probe'")?.execute([at.0])?;
        Ok(())
    }

    /// Makes the batch durable. When this returns, it is on disk, in the files that a restart will find.
    pub fn commit(mut self) -> Result<(), Error> {
        self.journal.verify_log()?;
        self.prepare("COMMIT")?.execute([])?;
        self.done = true;
        self.journal.verify_after(Wrote::Us)?;
        self.journal.next_id = self.next_id;
        self.journal.holdings = std::mem::take(&mut self.holdings);
        self.journal.key_states = self.key_states;
        let memory = self.journal.remember(true);
        self.journal.marker.update(memory);
        Ok(())
    }

    /// The newest row: while it stays, its number is not used again.
    fn newest(&self) -> EventId {
        EventId(self.next_id.0.saturating_sub(1))
    }

    fn number(&mut self) -> EventId {
        let id = self.next_id;
        self.next_id = EventId(id.0 + 1);
        id
    }

    pub(super) fn insert(&self, fixed: &Fixed<'_>, standing: &Standing, raw_in: EventId) -> Result<(), Error> {
        self.prepare(
            "INSERT INTO event (id, source, action, incident_key, state, reason, rule, novelty, received_at, settled_at, \
             bytes, request, raw_in, update_hash, occurrence, past_occurrence, replay_of, charset, priority, sum, state_sum, \
             sender_request) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)",
        )?
        .execute(params![
            sql(fixed.id),
            fixed.source,
            fixed.action,
            fixed.incident_key,
            standing.state.as_str(),
            standing.reason,
            fixed.rule,
            fixed.novelty,
            fixed.received_at,
            standing.settled_at,
            standing.bytes,
            fixed.request,
            sql(raw_in),
            fixed.update_hash,
            fixed.occurrence,
            fixed.past_occurrence,
            fixed.replay_of,
            fixed.charset,
            fixed.priority,
            fixed.sum(),
            standing.sum(fixed.id),
            fixed.sender_request,
        ])?;
        Ok(())
    }

    pub(super) fn insert_content(
        &self,
        fixed: &Fixed<'_>,
        raw: Option<&[u8]>,
        body: &[u8],
        element: Option<&[u8]>,
    ) -> Result<(), Error> {
        let raw_sum = raw.map(|raw| sum::of_raw(fixed.request, raw));
        self.prepare("INSERT INTO content (id, raw, body, element, sum, raw_sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![sql(fixed.id), raw, body, element, sum::of_content(fixed.id, body, element), raw_sum])?;
        Ok(())
    }

    /// The state of an event; none if it is not kept, or was altered: then it can't be built on, and the next start
    /// sets it aside.
    pub(super) fn standing(&self, id: EventId) -> Result<Option<Standing>, Error> {
        // A query first, because for `RETURNING` SQLite builds a table and a journal each time.
        let mut statement = self.prepare(&format!("SELECT {STANDING} FROM event WHERE id = ?1"))?;
        let mut rows = statement.query([sql(id)])?;
        Ok(rows.next()?.and_then(|row| Standing::read(row, 0, id).ok()))
    }

    /// Writes the state of a settled event.
    pub(super) fn write_end(&self, id: EventId, after: &Standing) -> Result<(), Error> {
        self.prepare(
            "UPDATE event SET state = ?2, outcome = ?3, reason = ?4, attempts = ?5, settled_at = ?6, state_sum = ?7 \
             WHERE id = ?1",
        )?
        .execute(params![
            sql(id),
            after.state.as_str(),
            after.outcome.map(Outcome::as_str),
            after.reason,
            after.attempts,
            after.settled_at,
            after.sum(id)
        ])?;
        Ok(())
    }

    /// Updates the number of bytes that a row counts for.
    fn hold(&self, id: EventId, bytes: impl FnOnce(u64) -> u64) -> Result<(), Error> {
        let Some(mut standing) = self.standing(id)? else {
            return Ok(());
        };
        standing.bytes = bytes(standing.bytes);
        self.prepare("UPDATE event SET bytes = ?2, state_sum = ?3 WHERE id = ?1")?.execute(params![
            sql(id),
            standing.bytes,
            standing.sum(id)
        ])?;
        Ok(())
    }

    pub(super) fn drop_oldest_refused(&mut self) -> Result<bool, Error> {
        let oldest: Option<(i64, u64)> = self
            .prepare("SELECT id, bytes FROM event WHERE state = 'refused' AND state <> 'delivered' AND id < ?1 ORDER BY id LIMIT 1")?
            .query_row([sql(self.newest())], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, mut bytes)) = oldest else {
            return Ok(false);
        };
        bytes = bytes.saturating_sub(self.move_raw(event(id))?);
        self.prepare("DELETE FROM content WHERE id = ?1")?.execute([id])?;
        self.prepare("DELETE FROM event WHERE id = ?1")?.execute([id])?;
        self.holdings.remove_refused(bytes);
        Ok(true)
    }

    /// Before a row with its request's raw body is removed, moves that body to the newest row of the request that is
    /// still queued, dead or refused. Returns the number of bytes moved.
    ///
    /// Not to the next oldest: that one is removed soon after, and each move updates all rows that refer to it.
    fn move_raw(&mut self, id: EventId) -> Result<u64, Error> {
        let Some(holder) = self.holder(id)? else {
            return Ok(0);
        };
        self.prepare(
            "UPDATE content SET (raw, raw_sum) = (SELECT raw, raw_sum FROM content WHERE id = ?1) WHERE id = ?2",
        )?
        .execute(params![sql(id), sql(holder.id)])?;
        self.prepare("UPDATE event SET raw_in = ?2 WHERE id >= ?3 AND id <= ?4 AND raw_in = ?1")?.execute(params![
            sql(id),
            sql(holder.id),
            sql(holder.first),
            sql(holder.last)
        ])?;
        self.hold(holder.id, |held| held.saturating_add(holder.bytes))?;
        self.hold(id, |held| held.saturating_sub(holder.bytes))?;
        let source = self.journal.source_of(holder.id)?;
        // The bytes of a finished row are not counted, so they are new to the totals only then.
        if holder.of_finished {
            self.holdings.grow(&source, holder.state, holder.bytes);
        } else if holder.state != State::Refused {
            self.holdings.take_over_refused(&source, holder.bytes);
        }
        Ok(holder.bytes)
    }

    fn holder(&self, id: EventId) -> Result<Option<RawHolder>, Error> {
        let own: Option<(bool, i64, String)> = self
            .prepare("SELECT state IN ('delivered', 'ended'), raw_in, request FROM event WHERE id = ?1")?
            .query_row([sql(id)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((of_finished, _, request)) = own.filter(|(_, raw_in, _)| *raw_in == sql(id)) else {
            return Ok(None);
        };
        let (mut first, mut last, mut newest) = (id, id, None);
        // The rows of a request are neighbours, so the search ends at the first row of another request.
        for beside in [
            "SELECT id, state, raw_in, request FROM event WHERE id > ?1 ORDER BY id",
            "SELECT id, state, raw_in, request FROM event WHERE id < ?1 ORDER BY id DESC",
        ] {
            let mut statement = self.prepare(beside)?;
            let mut rows = statement.query([sql(id)])?;
            while let Some(row) = rows.next()? {
                if row.get_ref(3)?.as_str() != Ok(request.as_str()) {
                    break;
                }
                if row.get::<_, i64>(2)? != sql(id) {
                    continue;
                }
                let other = event(row.get(0)?);
                (first, last) = (first.min(other), last.max(other));
                let state = match row.get_ref(1)?.as_str() {
                    Ok("queued") => State::Queued,
                    Ok("dead") => State::Dead,
                    Ok("refused") => State::Refused,
                    _ => continue,
                };
                if newest.is_none_or(|(newest, _)| other > newest) {
                    newest = Some((other, state));
                }
            }
        }
        let Some((holder, state)) = newest else {
            return Ok(None);
        };
        let bytes = self
            .prepare("SELECT coalesce(length(raw), 0) FROM content WHERE id = ?1")?
            .query_row([sql(id)], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        Ok(Some(RawHolder { id: holder, state, first, last, bytes, of_finished }))
    }

    pub(super) fn prepare(&self, statement: &str) -> Result<CachedStatement<'_>, Error> {
        Ok(connection(self.journal).prepare_cached(statement)?)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if !self.done {
            // The recorder reopens a connection that fails here too.
            let _ = self.journal.connection.execute_batch("ROLLBACK");
        }
    }
}

/// The result of a round of pruning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Events that were removed, or lost their content.
    pub events: usize,
    /// True if there may be more to remove now.
    pub more: bool,
}

/// The row that gets a request's raw body next.
struct RawHolder {
    id: EventId,
    state: State,
    /// The first and the last row that refer to the previous holder.
    first: EventId,
    last: EventId,
    bytes: u64,
    /// True if the previous holder was finished, and so not counted.
    of_finished: bool,
}

fn connection(journal: &Journal) -> &Connection {
    &journal.connection
}

/// The part of `max_bytes` for refused payloads: a sender of nonsense must not crowd out alerts.
const REFUSED_SHARE: u64 = 16;
const FIRST_ATTEMPTS_KEPT: u32 = 5;
const LAST_ATTEMPTS_KEPT: u32 = 15;
/// More than a person reads.
const DIFFERENCES_KEPT: i64 = 5_000;
/// Rows that one round of pruning looks at.
const LOOKED_AT_AT_ONCE: i64 = 1_000;

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
