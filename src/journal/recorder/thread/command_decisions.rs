//! Replaying, discarding and holding: each command is decided in the batch that carries it out.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch_decisions::{BatchDecisions, Origin};
use crate::event::{EventId, HoldRecord, HoldTarget, KeyId, Outgoing, Queued, Reason, State};
use crate::journal::dedup::{AcceptReason, Arrival, Effect, Occurrences};
use crate::journal::recorder::{
    Accepted, Command, Commanded, Declined, Entry, HOLDS_MAX, HoldChange, Receipt, Submission, Unavailable,
};
use crate::journal::{
    self, Blob, CommandOrigin, CommandTarget, Decided, Fit, Later, NewCommand, NewEvent, Raw, Stored,
};
use crate::trace_context::TraceContext;

/// The state that the commands of one message share.
struct Round<'r> {
    request_id: &'r str,
    /// The row that holds each raw body now: events of one request still share theirs.
    raws: HashMap<EventId, EventId>,
    /// Rows that may still be looked at in search of later events.
    rows: usize,
}

impl BatchDecisions<'_> {
    /// Carries out one command for each of these events, in their order.
    pub(super) fn command(
        &mut self,
        command: Command,
        ids: &[EventId],
        origin: &CommandOrigin,
    ) -> Result<Vec<Commanded>, journal::Error> {
        let mut round = Round { request_id: &origin.request_id, raws: HashMap::new(), rows: ROWS_LOOKED_AT_MAX };
        let done = ids
            .iter()
            .map(|id| match command {
                Command::Replay { force } => self.replay(*id, force, &mut round),
                Command::Discard => self.discard(*id),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let carried_out = ids.iter().zip(&done).filter(|(_, done)| !matches!(done, Commanded::Declined(_)));
        let carried_out: Vec<EventId> = carried_out.map(|(id, _)| *id).collect();
        self.note(command.as_str(), origin, CommandTarget::Events(&carried_out))?;
        Ok(done)
    }

    /// Notes who commanded what this batch carries out.
    fn note(&mut self, command: &str, origin: &CommandOrigin, on: CommandTarget<'_>) -> Result<(), journal::Error> {
        self.batch.note_command(NewCommand { at: self.now.wall, command, origin, on })
    }

    /// Records what the rules make of a refused payload now, and ends the payload with it: all or nothing.
    pub(super) fn replace(
        &mut self,
        of: EventId,
        submission: &Submission,
        force: bool,
        origin: &CommandOrigin,
    ) -> Result<Result<Result<Vec<Receipt>, Declined>, Unavailable>, journal::Error> {
        let declined = |why| Ok(Ok(Err(why)));
        let stored = match self.batch.stored(of)? {
            None => return declined(Declined::NotKept),
            Some(Err(_)) => return declined(Declined::Damaged),
            Some(Ok(Stored { decided: Some(_), .. })) => return declined(Declined::Ended),
            Some(Ok(stored)) => stored,
        };
        if !force {
            match (stored.state, &stored.reason) {
                (State::Ended, Some(Reason::Replayed)) => return declined(self.declined_replay(of, Declined::Ended)?),
                (State::Ended, Some(Reason::Discarded)) => {
                    return declined(self.declined_replay(of, Declined::Discarded)?);
                }
                _ => {}
            }
            let mut rows = ROWS_LOOKED_AT_MAX;
            for entry in &submission.entries {
                if let Entry::Event { key, draft } = entry
                    && let Some(why) = self.later(*key, &submission.source, &draft.incident_key, of, &mut rows)?
                {
                    return declined(self.declined_replay(of, why)?);
                }
            }
        }
        let receipts = match self.record(submission, Origin::Refused { payload: &stored, force })? {
            Ok(receipts) => receipts,
            Err(Unavailable::Backlog) => return declined(Declined::Backlog),
            Err(Unavailable::DiskFull) => return declined(Declined::DiskFull),
            Err(why) => return Ok(Err(why)),
        };
        self.batch.end(of, &Reason::Replayed, self.now.wall)?;
        self.note(Command::Replay { force }.as_str(), origin, CommandTarget::Events(&[of]))?;
        self.wrote = true;
        Ok(Ok(Ok(receipts)))
    }

    fn replay(&mut self, id: EventId, force: bool, round: &mut Round<'_>) -> Result<Commanded, journal::Error> {
        let declined = |why| Ok(Commanded::Declined(why));
        let mut stored = match self.batch.stored(id)? {
            None => return declined(Declined::NotKept),
            Some(Err(_)) => return declined(Declined::Damaged),
            Some(Ok(stored)) => stored,
        };
        let Some(decided) = stored.decided.take() else {
            return declined(Declined::Undecided);
        };
        if let Some(why) = self.declines_replay(&stored, &decided, force, &mut round.rows)? {
            return declined(why);
        }
        let body = match self.batch.body(id)? {
            Blob::Sound(body) => body,
            Blob::Gone if stored.state == State::Dead => return declined(Declined::Damaged),
            Blob::Gone => return declined(Declined::Pruned),
            Blob::Damaged => return declined(Declined::Damaged),
        };
        let shared = round.raws.get(&stored.raw_in).copied();
        let raw = match shared {
            Some(_) => Blob::Gone,
            None => self.batch.raw(&stored.request, stored.raw_in)?,
        };
        // What came is only kept for a person to see: the event does not rest on it.
        let raw = if let Blob::Sound(raw) = raw { Some(raw) } else { None };
        let trace_state = stored.trace.as_ref().map_or(0, TraceContext::state_bytes);
        let bytes = (raw.as_ref().map_or(0, Vec::len) + body.len() + trace_state) as u64;
        if let Some(why) = self.lacks_room(&stored, bytes)? {
            return declined(why);
        }
        let raw = match (shared, &raw) {
            (Some(other), _) => Raw::In(other),
            (None, Some(raw)) => Raw::Bytes(raw),
            (None, None) => Raw::Gone,
        };
        let new = self.append_again(&stored, &decided, raw, body, round.request_id)?;
        round.raws.entry(stored.raw_in).or_insert(new);
        self.batch.end(id, &Reason::Replayed, self.now.wall)?;
        self.wrote = true;
        let Decided { action, incident_key, .. } = decided;
        Ok(Commanded::Replayed { id: new, source: stored.source, action, incident_key })
    }

    /// The reason to decline the replay of an event by its state, or by what came after it; none to carry it out.
    fn declines_replay(
        &self,
        stored: &Stored,
        decided: &Decided,
        force: bool,
        rows: &mut usize,
    ) -> Result<Option<Declined>, journal::Error> {
        if stored.state == State::Queued {
            let next = stored.retry_at.filter(|at| *at > self.now.wall);
            return Ok(Some(Declined::Waiting { next }));
        }
        if force {
            return Ok(None);
        }
        if stored.state == State::Ended && stored.reason == Some(Reason::Discarded) {
            return self.declined_replay(stored.id, Declined::Discarded).map(Some);
        }
        let key = KeyId::new(&stored.source, &decided.incident_key);
        let later = self.later(key, &stored.source, &decided.incident_key, stored.id, rows)?;
        later.map(|why| self.declined_replay(stored.id, why)).transpose()
    }

    /// Takes the room for the replay of an event; returns what is missing where there is none.
    fn lacks_room(&mut self, stored: &Stored, bytes: u64) -> Result<Option<Declined>, journal::Error> {
        // A dead letter makes room for its own replay.
        let freed = if stored.state == State::Dead { (1, stored.bytes) } else { (0, 0) };
        if self.make_room(None, 1 - freed.0, bytes.saturating_sub(freed.1))? != Fit::Fits {
            return Ok(Some(Declined::Backlog));
        }
        let footprint = journal::footprint(1, bytes);
        if !self.fits(footprint) {
            return Ok(Some(Declined::DiskFull));
        }
        self.space.promise(footprint);
        Ok(None)
    }

    /// Appends an event anew, and hands it to the dispatcher.
    fn append_again(
        &mut self,
        stored: &Stored,
        decided: &Decided,
        raw: Raw<'_>,
        body: Vec<u8>,
        request_id: &str,
    ) -> Result<EventId, journal::Error> {
        let Decided { action, incident_key, rule, priority, update, occurrence } = decided;
        let (action, priority, update) = (*action, *priority, *update);
        let key = KeyId::new(&stored.source, incident_key);
        let arrival = Arrival { key, action, update, occurrence: occurrence.as_ref() };
        let follows = self.dedup.last(key);
        let (batch, now) = (&mut self.batch, self.now);
        let append = |occurrences: &Occurrences| {
            batch.append(NewEvent {
                source: &stored.source,
                action,
                incident_key,
                rule,
                priority,
                novelty: AcceptReason::Replay.as_str(),
                acknowledged_at: now.wall,
                request: request_id,
                sender_request: None,
                trace: stored.trace.as_ref(),
                raw,
                charset: stored.charset.as_deref(),
                body: &body,
                update,
                occurrences,
                follows,
                replay_of: Some(stored.id),
            })
        };
        let id = self.dedup.take(arrival, now.monotonic, append)?;
        self.accepted.push(Accepted {
            event: Queued {
                id,
                key,
                source: self.sources.id(&stored.source),
                action,
                priority,
                reopening: false,
                // Whatever was sent before it may have opened its incident.
                continues: true,
                acknowledged: now.monotonic,
            },
            outgoing: Some(Outgoing {
                source: Arc::clone(&stored.source),
                incident_key: Arc::from(&**incident_key),
                body: body.into(),
                acknowledged: now.wall,
                trace: stored.trace.clone(),
            }),
        });
        Ok(id)
    }

    fn discard(&mut self, id: EventId) -> Result<Commanded, journal::Error> {
        let (state, source, key) = match self.batch.stored(id)? {
            None => return Ok(Commanded::Declined(Declined::NotKept)),
            Some(Ok(stored)) => {
                let key = stored.decided.map(|decided| KeyId::new(&stored.source, &decided.incident_key));
                (stored.state, stored.source, key)
            }
            Some(Err(_)) => match self.batch.state_of_damaged(id)? {
                Some((state, source)) => (state, source, None),
                None => return Ok(Commanded::Declined(Declined::Damaged)),
            },
        };
        match state {
            State::Queued => return Ok(Commanded::Declined(Declined::Waiting { next: None })),
            State::Delivered => return Ok(Commanded::Declined(Declined::Delivered)),
            State::Ended => return Ok(Commanded::Declined(Declined::Ended)),
            State::Dead | State::Refused => {}
        }
        self.batch.end(id, &Reason::Discarded, self.now.wall)?;
        self.wrote = true;
        if let Some(key) = key {
            self.dedup.settle(key, id, Effect::None);
        }
        Ok(Commanded::Discarded { source })
    }

    /// Puts a hold in force, or releases it.
    pub(super) fn hold(
        &mut self,
        target: &HoldTarget,
        held: bool,
        origin: &CommandOrigin,
    ) -> Result<HoldChange, journal::Error> {
        let place = self.holds.binary_search_by(|known| known.target.cmp(target));
        match (place, held) {
            (Ok(_), true) | (Err(_), false) => return Ok(HoldChange::AsItWas),
            (Err(_), true) if self.holds.len() >= HOLDS_MAX => return Ok(HoldChange::TooMany),
            (Err(at), true) => {
                let held = HoldRecord { target: target.clone(), since: self.now.wall };
                Arc::make_mut(&mut self.holds).insert(at, held);
            }
            (Ok(at), false) => drop(Arc::make_mut(&mut self.holds).remove(at)),
        }
        self.batch.set_holds(&self.holds)?;
        self.note(if held { "hold" } else { "release" }, origin, CommandTarget::Held(target))?;
        self.wrote = true;
        Ok(HoldChange::Changed)
    }

    /// The reason to decline a replay: that the event was replayed before, else `why`. Who replays it again should hear
    /// what became of it, and not how to page everybody once more.
    fn declined_replay(&self, id: EventId, why: Declined) -> Result<Declined, journal::Error> {
        Ok(self.batch.newest_replay(id)?.map_or(why, Declined::Replayed))
    }

    /// Looks for an event of the key that was taken after `id`.
    ///
    /// Deduplication knows the last event of every key, but for keys whose last event ended without effect, which an
    /// index finds, and for keys that it forgot, for which what was pruned is noted and the newest rows are searched.
    fn later(
        &self,
        key: KeyId,
        source: &str,
        incident_key: &str,
        id: EventId,
        rows: &mut usize,
    ) -> Result<Option<Declined>, journal::Error> {
        if let Some(last) = self.dedup.last(key) {
            return Ok((last > id).then_some(Declined::LaterEvent(last)));
        }
        let mut later = self.batch.later_without_effect(source, incident_key, id)?;
        if later == Later::None {
            later = self.batch.later_noted(id)?;
        }
        if later == Later::None && self.dedup.has_evicted() {
            later = self.batch.later_of_any(source, incident_key, id, rows)?;
        }
        Ok(match later {
            Later::None => None,
            Later::Event(later) => Some(Declined::LaterEvent(later)),
            Later::Unknown => Some(Declined::LaterUnknown),
        })
    }
}

/// Some tens of milliseconds: senders wait for the same thread.
const ROWS_LOOKED_AT_MAX: usize = 100_000;
