//! Writing: a batch is one transaction and one sync.

mod key_states;
mod prune;

use std::borrow::Borrow;
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, params};

use super::key_state::KeyStates;
use super::open_files::Wrote;
use super::sum::{self, Fixed, STANDING, STANDING_READ, Standing};
use super::values::sql;
use super::{Error, Journal};
use crate::clock::WallTime;
use crate::event::{EventId, Outcome, Priority, Reason, Settlement, State};
use crate::journal::fact::{CommandTarget, Fact, NewCommand, NewEvent, NewRefusal};
use crate::journal::request::{AttemptRecord, Command, ShadowDifferences, StoredRetry};
use crate::journal::space::Space;
use crate::journal::state::Room;
use crate::journal::totals::TotalsBySource;
use crate::trace_context::{STORED_BYTES_MAX, TraceContext};

/// A group of changes that become durable together. Dropped without a commit, it has no effect.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) journal: &'a mut Journal,
    next_id: EventId,
    pub(super) totals: TotalsBySource,
    pub(super) key_states: KeyStates,
    done: bool,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(journal: &'a mut Journal) -> Result<Batch<'a>, Error> {
        journal.start_transaction()?;
        let (next_id, totals, key_states) = (journal.next_id, journal.totals.clone(), journal.key_states);
        Ok(Batch { journal, next_id, totals, key_states, done: false })
    }

    /// The room for new events, as this batch finds it.
    pub(in crate::journal) fn room(&self, space: Space, refusing: bool) -> Room {
        Room { totals: self.totals.clone(), space, refusing, next: self.next_id }
    }

    /// Writes facts in their order. Refused payloads give way to them.
    pub fn apply(&mut self, facts: &[Fact<'_>]) -> Result<(), Error> {
        for fact in facts {
            self.apply_one(fact)?;
        }
        if facts.iter().any(|fact| matches!(fact, Fact::Refused { .. })) {
            self.trim_refused()?;
        }
        if facts.iter().any(|fact| matches!(fact, Fact::Taken { .. })) { self.keep_limits() } else { Ok(()) }
    }

    fn apply_one(&mut self, fact: &Fact<'_>) -> Result<(), Error> {
        match fact {
            Fact::Taken { id, event, .. } => {
                let given = self.append(event)?;
                is_number(*id, given)
            }
            Fact::Refused { id, payload } => {
                let given = self.refuse(payload)?;
                is_number(*id, given)
            }
            Fact::Tried { event, attempt, retry, at } => {
                attempt.map_or(Ok(()), |attempt| self.attempt(attempt))?;
                self.store_retry(*event, *retry, *at)
            }
            Fact::Settled { settlement, attempt, discarded_by, .. } => {
                attempt.as_ref().map_or(Ok(()), |attempt| self.attempt(attempt))?;
                // An event that ended already, by a commit that failed and reached the disk nevertheless, has its command
                // noted.
                let ends = self.settle(settlement)?;
                let Some(origin) = discarded_by.filter(|_| ends) else { return Ok(()) };
                let (command, on) = (Command::Discard.as_str(), CommandTarget::Events(vec![settlement.id]));
                self.note_command(&NewCommand { at: settlement.at, command, origin, on })
            }
            Fact::Ended { id, reason, at, .. } => self.end(*id, reason, *at),
            Fact::Held(hold) => self.hold(hold),
            Fact::Released(target) => self.release(target),
            Fact::Commanded(command) => self.note_command(command),
            Fact::Confirmed { id, confirmation } => self.keep_confirmation(*id, *confirmation),
            Fact::Differed(differences) => self.store_differences(differences),
            Fact::Repeated { of, times } => self.count_duplicates(*of, *times),
            Fact::Forgotten(last) => self.drop_key_state(*last),
        }
    }

    /// Removes refused payloads, oldest first, while the limits are exceeded, unless that would not suffice.
    pub(super) fn keep_limits(&mut self) -> Result<(), Error> {
        if !self.totals.all.without_refused().fits(0, 0, &self.journal.limits) {
            return Ok(());
        }
        while !self.totals.all.fits(0, 0, &self.journal.limits) {
            if !self.drop_oldest_refused()? {
                break;
            }
        }
        Ok(())
    }

    /// Appends an event as queued.
    pub fn append<'e>(&mut self, event: impl Borrow<NewEvent<'e>>) -> Result<EventId, Error> {
        let (event, id) = (event.borrow(), self.number());
        let bytes = event.bytes();
        let fixed = Fixed {
            id,
            source: event.source,
            action: Some(event.action.as_str()),
            incident_key: Some(event.incident_key),
            rule: Some(event.rule),
            novelty: Some(event.novelty),
            received_at: event.acknowledged_at.0,
            request: event.request,
            update_hash: Some(event.update.0.cast_signed()),
            occurrence: event.occurrences.last.as_ref().map(|occurrence| &*occurrence.0),
            past_occurrence: event.occurrences.past.as_ref().map(|occurrence| &*occurrence.0),
            replay_of: event.replay_of.map(sql),
            charset: event.charset,
            sender_request: event.sender_request,
            priority: Some(event.priority).filter(|priority| *priority != Priority::Normal).map(Priority::as_str),
        };
        self.insert(&fixed, &Standing::new(State::Queued, bytes), event.raw.holder(id), event.trace)?;
        self.insert_content(&fixed, event.raw.stored(), event.body, None)?;
        self.totals.add(event.source, State::Queued, bytes);
        event.follows.map_or(Ok(()), |before| self.drop_key_state(before))?;
        Ok(id)
    }

    /// Stores a refused payload.
    pub fn refuse<'r>(&mut self, refusal: impl Borrow<NewRefusal<'r>>) -> Result<EventId, Error> {
        let (refusal, id) = (refusal.borrow(), self.number());
        let bytes = refusal.bytes();
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
        self.insert(&fixed, &standing, refusal.raw.holder(id), refusal.trace)?;
        self.insert_content(&fixed, refusal.raw.stored(), &refusal.errors, refusal.element)?;
        self.totals.add(refusal.source, State::Refused, bytes);
        Ok(id)
    }

    /// Records a settlement. An event that ended before stays as it is; returns true if it ends with this.
    pub fn settle(&mut self, settlement: &Settlement) -> Result<bool, Error> {
        let queued = self.standing_in_source(settlement.id)?.filter(|(standing, _)| standing.state == State::Queued);
        let Some((before, source)) = queued else {
            return Ok(false);
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
        self.totals.remove(&source, State::Queued, after.bytes);
        self.totals.add(&source, settlement.state, after.bytes);
        Ok(true)
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
    pub fn store_retry(&mut self, id: EventId, tried: StoredRetry, now: WallTime) -> Result<(), Error> {
        let Some(before) = self.standing(id)?.filter(|standing| standing.state == State::Queued) else {
            return Ok(());
        };
        let StoredRetry { attempts, age, retry_at, asked } = tried;
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
        Ok(self.journal.volume.space(connection(self.journal), self.totals.all.queued)?)
    }

    /// Records different decisions of shadow rules; the oldest are removed beyond the limit.
    pub fn store_differences(&mut self, found: &[ShadowDifferences]) -> Result<(), Error> {
        let mut insert = self.prepare("INSERT OR REPLACE INTO difference (event, found) VALUES (?1, ?2)")?;
        for ShadowDifferences { event, differences } in found {
            insert.execute(params![sql(*event), differences])?;
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
        self.journal.totals = std::mem::take(&mut self.totals);
        self.journal.key_states = self.key_states;
        let mark = self.journal.content_of_mark(true);
        self.journal.marker.update(mark);
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

    pub(super) fn insert(
        &self,
        fixed: &Fixed<'_>,
        standing: &Standing,
        raw_in: EventId,
        trace: Option<&TraceContext>,
    ) -> Result<(), Error> {
        let mut buffer = [0; STORED_BYTES_MAX];
        self.prepare(
            "INSERT INTO event (id, source, action, incident_key, state, reason, rule, novelty, received_at, settled_at, \
             bytes, request, raw_in, update_hash, occurrence, past_occurrence, replay_of, charset, priority, sum, state_sum, \
             sender_request, trace) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
             ?23)",
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
            trace.map(|trace| trace.store(&mut buffer)),
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
        Ok(self.standing_in_source(id)?.map(|(standing, _)| standing))
    }

    /// The state of an event, with its source.
    pub(super) fn standing_in_source(&self, id: EventId) -> Result<Option<(Standing, String)>, Error> {
        // A query first, because for `RETURNING` SQLite builds a table and a journal each time.
        let mut statement = self.prepare(&format!("SELECT {STANDING}, source FROM event WHERE id = ?1"))?;
        let mut rows = statement.query([sql(id)])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let source = row.get_ref(STANDING_READ)?.as_str().unwrap_or_default().to_owned();
        Ok(Standing::read(row, 0, id).ok().map(|standing| (standing, source)))
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
    fn change_bytes(&self, id: EventId, bytes: impl FnOnce(u64) -> u64) -> Result<(), Error> {
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

/// Facts are decided with the numbers that a batch gives.
fn is_number(decided: EventId, given: EventId) -> Result<(), Error> {
    if decided == given {
        return Ok(());
    }
    Err(Error::Fault(format!("event {decided} would be written with the number {given}")))
}

fn connection(journal: &Journal) -> &Connection {
    &journal.connection
}

const FIRST_ATTEMPTS_KEPT: u32 = 5;
const LAST_ATTEMPTS_KEPT: u32 = 15;
/// More than a person reads.
const DIFFERENCES_KEPT: i64 = 5_000;

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
