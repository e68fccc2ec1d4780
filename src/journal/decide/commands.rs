//! Replaying, discarding and holding.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Decisions, EntryNumber, Origin, Owed};
use crate::event::{EventId, HoldRecord, HoldTarget, KeyId, Outgoing, Queued, Reason, State};
use crate::journal::dedup::{AcceptReason, Arrival};
use crate::journal::fact::{CommandTarget, Counted, Fact, NewCommand, NewEvent, Raw};
use crate::journal::known::{Blob, Decided as DecidedBefore, KnownEvent, Later, Stored, StoredRow};
use crate::journal::request::{
    Command, CommandOrigin, Commanded, Declined, Entry, HOLDS_MAX, HoldChange, Replay, Submission, Unavailable,
};
use crate::journal::space::footprint;
use crate::journal::totals::Fit;
use crate::trace_context::TraceContext;

/// The rows that hold each raw body now: events of one request still share theirs.
type Raws = HashMap<EventId, EventId>;

impl<'a> Decisions<'_, 'a> {
    /// Carries out one command for each of these events, in their order.
    pub(super) fn command(&mut self, command: Command, ids: &[EventId], origin: &'a CommandOrigin) -> Owed {
        let mut raws = Raws::new();
        let mut done = Vec::with_capacity(ids.len());
        for id in ids {
            let one = match command {
                Command::Replay { force } => self.replay(*id, force, &mut raws, origin),
                Command::Discard => self.discard(*id),
            };
            done.push(one.unwrap_or_else(Commanded::Declined));
        }
        let carried_out = ids.iter().zip(&done).filter(|(_, done)| !matches!(done, Commanded::Declined(_)));
        let carried_out: Vec<EventId> = carried_out.map(|(id, _)| *id).collect();
        if !carried_out.is_empty() {
            self.note(command.as_str(), origin, CommandTarget::Events(carried_out));
        }
        Owed::Commanded(done)
    }

    /// Notes who commanded what this batch carries out.
    fn note(&mut self, command: &'static str, origin: &'a CommandOrigin, on: CommandTarget<'a>) {
        self.add(Fact::Commanded(NewCommand { at: self.context.now.wall, command, origin, on }));
    }

    /// Records what the rules make of a refused payload now, and ends the payload with it: all or nothing.
    pub(super) fn replace(
        &mut self,
        of: EventId,
        submission: &'a Submission,
        force: bool,
        origin: &'a CommandOrigin,
    ) -> Result<Owed, Owed> {
        let stored = self.kept(of).map_err(Owed::Declined)?;
        if stored.decided.is_some() {
            return Err(Owed::Declined(Declined::Ended));
        }
        if !force {
            self.declines_replacement(stored, submission).map_err(Owed::Declined)?;
        }
        let entries = match self.record(submission, Origin::Refused { payload: stored, force }) {
            Ok(entries) => entries,
            Err(Unavailable::Backlog) => return Err(Owed::Declined(Declined::Backlog)),
            Err(Unavailable::DiskFull) => return Err(Owed::Declined(Declined::DiskFull)),
            Err(why) => return Err(Owed::Unavailable(why)),
        };
        let is_new =
            |(entry, number): &(&Entry, &EntryNumber)| matches!(entry, Entry::Event { .. }) && !number.duplicate;
        if let Some((_, EntryNumber { id, .. })) = submission.entries.iter().zip(&entries).rfind(is_new) {
            self.replayed.insert(of, *id);
        }
        self.end(of, None, Reason::Replayed, self.counted(stored));
        self.note(Command::Replay { force }.as_str(), origin, CommandTarget::Events(vec![of]));
        Ok(Owed::Recorded(entries))
    }

    /// Declines to replace a refused payload that a person ended before, or after which events of its keys were taken.
    fn declines_replacement(&self, stored: &Stored, submission: &Submission) -> Result<(), Declined> {
        match self.stands(stored) {
            (State::Ended, Some(Reason::Replayed)) => {
                return Err(self.declined_replay(stored.id, Declined::Ended));
            }
            (State::Ended, Some(Reason::Discarded)) => {
                return Err(self.declined_replay(stored.id, Declined::Discarded));
            }
            _ => {}
        }
        for entry in &submission.entries {
            if let Entry::Event { key, .. } = entry {
                self.no_later(*key, stored.id)?;
            }
        }
        Ok(())
    }

    fn replay(
        &mut self,
        id: EventId,
        force: bool,
        raws: &mut Raws,
        origin: &'a CommandOrigin,
    ) -> Result<Commanded, Declined> {
        let stored = self.kept(id)?;
        let decided = stored.decided.as_ref().ok_or(Declined::Undecided)?;
        self.declines_replay(stored, decided, force)?;
        let (state, _) = self.stands(stored);
        let Some(KnownEvent { body, .. }) = self.known.events.get(&id) else {
            return Err(Declined::NotKept);
        };
        let body = match body {
            Blob::Sound(body) => body,
            Blob::Gone if state == State::Dead => return Err(Declined::Damaged),
            Blob::Gone => return Err(Declined::Pruned),
            Blob::Damaged => return Err(Declined::Damaged),
        };
        let raw = match (raws.get(&stored.raw_in), self.known.raws.get(&stored.raw_in)) {
            (Some(other), _) => Raw::In(*other),
            (None, Some(Blob::Sound(raw))) => Raw::Bytes(raw),
            // What came is only kept for a person to see: the event does not rest on it.
            (None, _) => Raw::Gone,
        };
        let key = KeyId::new(&stored.source, &decided.incident_key);
        let arrival =
            Arrival { key, action: decided.action, update: decided.update, occurrence: decided.occurrence.as_ref() };
        let event = NewEvent {
            source: &stored.source,
            action: decided.action,
            incident_key: &decided.incident_key,
            rule: &decided.rule,
            priority: decided.priority,
            novelty: AcceptReason::Replay.as_str(),
            acknowledged_at: self.context.now.wall,
            request: &origin.request_id,
            sender_request: None,
            trace: stored.trace.as_ref(),
            raw,
            charset: stored.charset.as_deref(),
            body,
            update: decided.update,
            occurrences: self.state.dedup.occurrences_after(arrival),
            follows: self.state.dedup.last(key),
            replay_of: Some(id),
        };
        self.reserve_room(&event, stored, state)?;
        let new = self.append_again(stored, decided, key, event, body.clone());
        raws.entry(stored.raw_in).or_insert(new);
        self.replayed.insert(id, new);
        self.end(id, None, Reason::Replayed, self.counted(stored));
        let DecidedBefore { action, incident_key, .. } = decided;
        let (source, incident_key) = (Arc::clone(&stored.source), incident_key.clone());
        Ok(Commanded::Replayed { id: new, source, action: *action, incident_key })
    }

    /// Appends an event anew, and hands it to the dispatcher.
    fn append_again(
        &mut self,
        stored: &Stored,
        decided: &DecidedBefore,
        key: KeyId,
        event: NewEvent<'a>,
        body: bytes::Bytes,
    ) -> EventId {
        let now = self.context.now;
        let queued = Queued {
            id: self.state.room.next,
            key,
            source: self.context.sources.id(&stored.source),
            action: decided.action,
            priority: decided.priority,
            reopening: false,
            // Whatever was sent before it may have opened its incident.
            continues: true,
            acknowledged: now.monotonic,
        };
        let outgoing = Outgoing {
            source: Arc::clone(&stored.source),
            incident_key: Arc::from(&*decided.incident_key),
            body,
            acknowledged: now.wall,
            trace: stored.trace.clone(),
        };
        self.take(queued, event, outgoing);
        queued.id
    }

    /// Declines the replay of an event by its state, or by what came after it.
    fn declines_replay(&self, stored: &Stored, decided: &DecidedBefore, force: bool) -> Result<(), Declined> {
        let (state, reason) = self.stands(stored);
        // One that ends in this batch is still one that waited when it was asked for: its body was not read.
        if stored.state == State::Queued {
            let next = stored.retry_at.filter(|at| *at > self.context.now.wall);
            return Err(Declined::Waiting { next });
        }
        if force {
            return Ok(());
        }
        if state == State::Ended && reason == Some(&Reason::Discarded) {
            return Err(self.declined_replay(stored.id, Declined::Discarded));
        }
        let key = KeyId::new(&stored.source, &decided.incident_key);
        self.no_later(key, stored.id)
    }

    /// Takes the room for the replay of an event. A dead letter makes room for its own.
    fn reserve_room(&mut self, event: &NewEvent<'_>, stored: &Stored, state: State) -> Result<(), Declined> {
        let trace_state = event.trace.map_or(0, TraceContext::state_bytes);
        let bytes = (event.raw.stored().map_or(0, <[u8]>::len) + event.body.len() + trace_state) as u64;
        let freed = if state == State::Dead { (1, stored.bytes) } else { (0, 0) };
        if self.fits(None, 1 - freed.0, bytes.saturating_sub(freed.1)) != Fit::Fits {
            return Err(Declined::Backlog);
        }
        let footprint = footprint(1, bytes);
        if !self.takes(footprint) {
            return Err(Declined::DiskFull);
        }
        self.state.room.space.promise(footprint);
        Ok(())
    }

    fn discard(&mut self, id: EventId) -> Result<Commanded, Declined> {
        let row = self.known.events.get(&id).map(|known| &known.row);
        let (state, source, key, frees) = match row {
            None | Some(StoredRow::NotKept) => return Err(Declined::NotKept),
            Some(StoredRow::Damaged(None)) => return Err(Declined::Damaged),
            Some(StoredRow::Damaged(Some((state, source)))) => {
                (self.ended.get(&id).map_or(*state, |(state, _)| *state), source, None, None)
            }
            Some(StoredRow::Sound(stored)) => {
                let key = stored.decided.as_ref().map(|decided| KeyId::new(&stored.source, &decided.incident_key));
                (self.stands(stored).0, &stored.source, key, self.counted(stored))
            }
        };
        match state {
            State::Queued => return Err(Declined::Waiting { next: None }),
            State::Delivered => return Err(Declined::Delivered),
            State::Ended => return Err(Declined::Ended),
            State::Dead | State::Refused => {}
        }
        self.end(id, key, Reason::Discarded, frees);
        Ok(Commanded::Discarded { source: Arc::clone(source) })
    }

    /// Ends a dead letter or a refused payload. Anything else stays as it is.
    fn end(&mut self, id: EventId, key: Option<KeyId>, reason: Reason, frees: Option<Counted>) {
        if frees.is_some() || self.is_damaged(id) {
            self.ended.insert(id, (State::Ended, Some(reason.clone())));
            self.add(Fact::Ended { id, key, reason, at: self.context.now.wall, frees });
        }
    }

    fn is_damaged(&self, id: EventId) -> bool {
        matches!(self.known.events.get(&id).map(|known| &known.row), Some(StoredRow::Damaged(_)))
    }

    /// The room that a dead letter or a refused payload takes.
    fn counted(&self, stored: &Stored) -> Option<Counted> {
        let (state, _) = self.stands(stored);
        let counts = matches!(state, State::Dead | State::Refused);
        counts.then(|| Counted { source: Arc::clone(&stored.source), state, bytes: stored.bytes })
    }

    /// Puts a hold in force, or releases it.
    pub(super) fn hold(&mut self, target: &'a HoldTarget, held: bool, origin: &'a CommandOrigin) -> Owed {
        let is_held = self.state.holds.binary_search_by(|known| known.target.cmp(target)).is_ok();
        if is_held == held {
            return Owed::HoldChange(HoldChange::AsItWas);
        }
        if held && self.state.holds.len() >= HOLDS_MAX {
            return Owed::HoldChange(HoldChange::TooMany);
        }
        if held {
            self.add(Fact::Held(HoldRecord { target: target.clone(), since: self.context.now.wall }));
        } else {
            self.add(Fact::Released(target));
        }
        self.note(if held { "hold" } else { "release" }, origin, CommandTarget::Held(target));
        Owed::HoldChange(HoldChange::Changed)
    }

    /// A sound row.
    fn kept(&self, id: EventId) -> Result<&'a Stored, Declined> {
        match self.known.events.get(&id).map(|known| &known.row) {
            None | Some(StoredRow::NotKept) => Err(Declined::NotKept),
            Some(StoredRow::Damaged(_)) => Err(Declined::Damaged),
            Some(StoredRow::Sound(stored)) => Ok(stored),
        }
    }

    /// The state of an event and its reason, after the facts of this batch.
    pub(super) fn stands<'s>(&'s self, stored: &'s Stored) -> (State, Option<&'s Reason>) {
        match self.ended.get(&stored.id) {
            Some((state, reason)) => (*state, reason.as_ref()),
            None => (stored.state, stored.reason.as_ref()),
        }
    }

    /// The reason to decline a replay: that the event was replayed before, else `why`. Who replays it again should hear
    /// what became of it, and not how to page everybody once more.
    fn declined_replay(&self, id: EventId, why: Declined) -> Declined {
        let of_batch =
            |of: EventId| self.replayed.get(&of).map(|new| Replay { id: *new, state: State::Queued, outcome: None });
        let known = || self.known.events.get(&id).and_then(|known| known.newest_replay);
        let Some(mut newest) = of_batch(id).or_else(known) else { return why };
        while let Some(newer) = of_batch(newest.id) {
            newest = newer;
        }
        if let Some((state, _)) = self.ended.get(&newest.id) {
            newest = Replay { state: *state, ..newest };
        }
        Declined::Replayed(newest)
    }

    /// Declines where an event of the key was taken after `id`.
    ///
    /// Deduplication knows the last event of every key, but for keys whose last event ended without effect, and for keys
    /// that it forgot: of those the store knows.
    fn no_later(&self, key: KeyId, id: EventId) -> Result<(), Declined> {
        let last = self.state.dedup.last(key).or_else(|| self.let_go.get(&key).map(|let_go| let_go.last));
        let why = match last {
            Some(last) if last > id => Declined::LaterEvent(last),
            Some(_) => return Ok(()),
            None => match self.known.later.get(&(id, key)) {
                Some(Later::None) => return Ok(()),
                Some(Later::Event(later)) => Declined::LaterEvent(*later),
                // It is asked for every key that deduplication did not know: this one was evicted in this batch.
                None | Some(Later::Unknown) => Declined::LaterUnknown,
            },
        };
        Err(self.declined_replay(id, why))
    }
}
