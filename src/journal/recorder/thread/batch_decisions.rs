//! Handles the recorder's messages within one batch: each is decided and appended in one step.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::clock::{Now, WallTime};
use crate::event::{
    Action, Draft, EventId, HoldRecord, KeyId, Outgoing, Queued, Settlement, SourceNames, State, Superseded, Violation,
};
use crate::journal::dedup::{AcceptReason, Arrival, Dedup, DedupDecision, DedupResult, Effect, Occurrences, Preview};
use crate::journal::recorder::{
    Accepted, Command, Commanded, Confirmed, Declined, Entry, Expected, HoldChange, Message, PendingSettlement,
    Receipt, Settle, Submission, Unavailable,
};
use crate::journal::{self, Batch, CommandTarget, Fit, NewCommand, NewEvent, NewRefusal, Raw, Space, Stored};
use crate::trace_context::TraceContext;

use super::super::earlier::stands;
use super::shortage::shortened;

/// The reply to one message, owed once the batch is on disk.
#[derive(Debug)]
pub(super) enum Owed {
    Receipts(Result<Vec<Receipt>, Unavailable>),
    Ids(Option<Vec<EventId>>),
    Previews(Vec<Preview>),
    Commanded(Vec<Commanded>),
    HoldChange(HoldChange),
    Replaced(Result<Result<Vec<Receipt>, Declined>, Unavailable>),
    Confirmed(Result<Confirmed, Unavailable>),
    Done,
}

/// Where a submission comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'o> {
    Sender,
    /// A payload that the rules refused before and take now. `force`: past deduplication.
    Refused {
        payload: &'o Stored,
        force: bool,
    },
}

/// The decisions of one batch, and all that they change.
pub(super) struct BatchDecisions<'a> {
    pub(super) dedup: &'a mut Dedup,
    pub(super) sources: &'a SourceNames,
    pub(super) superseded: Superseded,
    pub(super) settlement_waiters: &'a mut HashMap<EventId, Vec<oneshot::Sender<Settlement>>>,
    pub(super) duplicates: &'a mut HashMap<EventId, u64>,
    /// The holds in force, with the changes of this batch.
    pub(super) holds: Arc<Vec<HoldRecord>>,
    pub(super) batch: Batch<'a>,
    pub(super) accepted: Vec<Accepted>,
    pub(super) wrote: bool,
    pub(super) space: Space,
    /// Nothing new is taken for want of room.
    pub(super) refusing: bool,
    pub(super) now: Now,
}

impl BatchDecisions<'_> {
    pub(super) fn handle(&mut self, message: &Message) -> Result<Owed, journal::Error> {
        match message {
            Message::Record { submission, .. } => self.record(submission, Origin::Sender).map(Owed::Receipts),
            Message::Confirm { confirmation, .. } => self.confirm(confirmation).map(Owed::Confirmed),
            Message::Attempt(attempt, tried) => {
                // While there is little room calls that came to nothing are not listed: it is kept for those that end
                // something.
                if !self.space.is_short() {
                    self.batch.attempt(attempt)?;
                }
                self.batch.store_retry(attempt.event, *tried, self.now.wall)?;
                self.wrote = true;
                Ok(Owed::Done)
            }
            Message::Settle(end @ Settle { settlement, key, .. }) => {
                write_settlement(&mut self.batch, end, self.space.is_short())?;
                settle(self.dedup, *key, settlement);
                self.wrote = true;
                Ok(Owed::Done)
            }
            Message::Tally { .. } => Ok(Owed::Done),
            Message::Open { limit, .. } => Ok(Owed::Ids(Some(self.dedup.open(*limit)))),
            Message::ShadowDifferences(_) if self.space.is_short() => Ok(Owed::Done),
            Message::ShadowDifferences(differences) => {
                self.batch.store_differences(differences.iter().map(|one| (one.event, one.differences.as_str())))?;
                self.wrote = true;
                Ok(Owed::Done)
            }
            Message::Preview { arrivals, .. } => {
                let arrivals = arrivals.iter().map(Expected::arrival);
                Ok(Owed::Previews(self.dedup.preview(arrivals, self.now)))
            }
            Message::Hold { target, held, origin, .. } => self.hold(target, *held, origin).map(Owed::HoldChange),
            Message::Command { command, ids, origin, .. } => self.command(*command, ids, origin).map(Owed::Commanded),
            Message::Replace { of, submission, force, origin, .. } => {
                self.replace(*of, submission, *force, origin).map(Owed::Replaced)
            }
        }
    }

    pub(super) fn record(
        &mut self,
        submission: &Submission,
        origin: Origin<'_>,
    ) -> Result<Result<Vec<Receipt>, Unavailable>, journal::Error> {
        let room = match self.room_for(submission, origin)? {
            Fit::Fits => Ok(()),
            Fit::Full => Err(Unavailable::Backlog),
            Fit::BeyondShare => Err(Unavailable::SourceShare),
        };
        if let Err(why) = room
            && !self.is_known(submission)
        {
            return Ok(Err(why));
        }
        let footprint = footprint(submission);
        let writes = submission.entries.iter().any(|entry| matches!(entry, Entry::Refused { .. }));
        if !self.fits(footprint) && (writes || !self.is_known(submission)) {
            return Ok(Err(Unavailable::DiskFull));
        }
        let mut raw_in = None;
        let mut receipts = Vec::with_capacity(submission.entries.len());
        for entry in &submission.entries {
            receipts.push(match entry {
                Entry::Event { key, draft } => self.event(submission, *key, draft, origin, &mut raw_in)?,
                Entry::Refused { element, reason, violations } => {
                    let errors = errors_of(reason, violations);
                    let id = self.batch.refuse(NewRefusal {
                        source: &submission.source,
                        received_at: submission.received_at,
                        request: &submission.request_id,
                        sender_request: submission.sender_request_id.as_deref(),
                        trace: submission.trace.as_ref(),
                        raw: raw_of(submission, raw_in),
                        charset: submission.charset,
                        element: element.as_deref(),
                        reason,
                        errors: &errors,
                    })?;
                    raw_in.get_or_insert(id);
                    self.wrote = true;
                    Receipt { id, duplicate: false, pending_settlement: None }
                }
            });
        }
        if writes {
            self.batch.trim_refused()?;
        }
        if raw_in.is_some() {
            self.space.promise(footprint);
        }
        Ok(Ok(receipts))
    }

    /// Returns whether the volume has room for so many bytes more. Once it has none for a small payload, nothing new is
    /// taken until there is plenty.
    pub(super) fn fits(&mut self, bytes: u64) -> bool {
        let fits = !self.refusing && self.space.takes(bytes);
        self.refusing |= !fits && bytes <= self.space.headroom();
        fits
    }

    /// Checks `max_events`, `max_bytes` and the source's share. Refused payloads have limits of their own and make room for
    /// events, so that who sends nonsense keeps no alert out; events made of one take its place.
    pub(super) fn room_for(&mut self, submission: &Submission, origin: Origin<'_>) -> Result<Fit, journal::Error> {
        let trace_state = submission.trace.as_ref().map_or(0, TraceContext::state_bytes);
        let bodies = submission.entries.iter().filter_map(|entry| match entry {
            Entry::Event { draft, .. } => Some(draft.body.bytes().len() + trace_state),
            Entry::Refused { .. } => None,
        });
        let (events, bytes) =
            bodies.fold((0_u64, submission.raw.len()), |(events, bytes), body| (events + 1, bytes + body));
        if events == 0 {
            return Ok(Fit::Fits);
        }
        let (freed_events, freed_bytes) = match origin {
            Origin::Refused { payload: Stored { state: State::Refused, bytes, .. }, .. } => (1, *bytes),
            _ => (0, 0),
        };
        // A person's command is kept out by no share.
        let source = matches!(origin, Origin::Sender).then_some(&*submission.source);
        self.make_room(source, events.saturating_sub(freed_events), (bytes as u64).saturating_sub(freed_bytes))
    }

    pub(super) fn make_room(&mut self, source: Option<&str>, events: u64, bytes: u64) -> Result<Fit, journal::Error> {
        let before = self.batch.refused();
        let room = self.batch.make_room(source, events, bytes)?;
        self.wrote |= self.batch.refused() != before;
        Ok(room)
    }

    /// Returns whether all of it are duplicates, which need no room.
    pub(super) fn is_known(&self, submission: &Submission) -> bool {
        submission.entries.iter().all(|entry| match entry {
            Entry::Event { key, draft } => {
                matches!(self.dedup.decide(arrival(*key, draft), self.now), DedupDecision::Duplicate { .. })
                    || matches!(self.standing(submission, *key, draft), Ok(Some(_)))
            }
            Entry::Refused { .. } => true,
        })
    }

    pub(super) fn event(
        &mut self,
        submission: &Submission,
        key: KeyId,
        draft: &Draft,
        origin: Origin<'_>,
        raw_in: &mut Option<EventId>,
    ) -> Result<Receipt, journal::Error> {
        let arrival = arrival(key, draft);
        let (replay_of, force) = match origin {
            Origin::Sender => (None, false),
            Origin::Refused { payload, force } => (Some(payload.id), force),
        };
        if !force
            && let DedupDecision::Take(_) = self.dedup.decide(arrival, self.now)
            && let Some(of) = self.standing(submission, key, draft)?
        {
            return self.duplicate(submission, draft, of, SAME_MESSAGE);
        }
        let open = draft.action == Action::Trigger && self.dedup.is_open(key);
        let follows = self.dedup.last(key);
        let (batch, acknowledged_at) = (&mut self.batch, self.now.wall);
        let append = |reason: AcceptReason, occurrences: &Occurrences| {
            batch.append(NewEvent {
                source: &submission.source,
                action: draft.action,
                incident_key: &draft.incident_key,
                rule: &draft.rule,
                priority: draft.priority,
                novelty: reason.as_str(),
                acknowledged_at,
                request: &submission.request_id,
                sender_request: submission.sender_request_id.as_deref(),
                trace: submission.trace.as_ref(),
                raw: raw_of(submission, *raw_in),
                charset: submission.charset,
                body: draft.body.bytes(),
                update: draft.update,
                occurrences,
                follows,
                replay_of,
            })
        };
        let (id, reason) = match self.dedup.admit(arrival, self.now, force, append)? {
            DedupResult::Taken { id, reason } => (id, reason),
            DedupResult::Duplicate { of, why } => return self.duplicate(submission, draft, of, why.as_str()),
        };
        raw_in.get_or_insert(id);
        self.wrote = true;
        self.accepted.push(Accepted {
            event: Queued {
                id,
                key,
                source: self.sources.id(&submission.source),
                action: draft.action,
                priority: draft.priority,
                reopening: reason == AcceptReason::Reopening,
                continues: open || self.may_be_open(submission, draft, reason, id)?,
                acknowledged: self.now.monotonic,
            },
            outgoing: Some(outgoing(submission, draft, self.now.wall)),
        });
        Ok(Receipt { id, duplicate: false, pending_settlement: self.pending_settlement(submission, id)? })
    }

    /// The event that an earlier copy of the same message became, where that leaves nothing to do. One that came to
    /// nothing does not keep its message out: deduplication decides about it as about any other.
    fn standing(&self, submission: &Submission, key: KeyId, draft: &Draft) -> Result<Option<EventId>, journal::Error> {
        for one in submission.earlier.iter().filter(|one| one.key == key && one.action == draft.action) {
            if stands(self.batch.settlement(one.event)?.as_ref()) {
                return Ok(Some(one.event));
            }
        }
        Ok(None)
    }

    fn duplicate(
        &mut self,
        submission: &Submission,
        draft: &Draft,
        of: EventId,
        why: &'static str,
    ) -> Result<Receipt, journal::Error> {
        tracing::debug!(source = &*submission.source, incident_key = draft.incident_key, of = of.0, why, "duplicate");
        *self.duplicates.entry(of).or_default() += 1;
        Ok(Receipt { id: of, duplicate: true, pending_settlement: self.pending_settlement(submission, of)? })
    }

    /// Returns whether an incident of a key that deduplication does not know may be open at the upstream. It matters only
    /// where a trigger and its resolve may end unsent: that resolve would close it.
    fn may_be_open(
        &self,
        submission: &Submission,
        draft: &Draft,
        reason: AcceptReason,
        id: EventId,
    ) -> Result<bool, journal::Error> {
        if self.superseded == Superseded::Send || reason != AcceptReason::Opening {
            return Ok(false);
        }
        Ok(self.dedup.has_evicted() || self.batch.may_be_open(&submission.source, &draft.incident_key, id)?)
    }

    pub(super) fn pending_settlement(
        &mut self,
        submission: &Submission,
        id: EventId,
    ) -> Result<Option<PendingSettlement>, journal::Error> {
        if !submission.wait_for_settlement {
            return Ok(None);
        }
        let (sender, receiver) = oneshot::channel();
        match self.batch.settlement(id)? {
            Some(settlement) => drop(sender.send(settlement)),
            None => {
                let waiters = self.settlement_waiters.entry(id).or_default();
                // Whoever stopped waiting leaves its place to the next.
                waiters.retain(|waiter| !waiter.is_closed());
                waiters.push(sender);
            }
        }
        Ok(Some(PendingSettlement(receiver)))
    }
}

/// Writes a settlement, and the call or the command that led to it.
pub(super) fn write_settlement(batch: &mut Batch<'_>, end: &Settle, short: bool) -> Result<(), journal::Error> {
    let Settle { attempt, settlement, commanded, .. } = end;
    if let Some(attempt) = attempt {
        if short { batch.attempt(&shortened(attempt))? } else { batch.attempt(attempt)? }
    }
    // An event that ended already, by a commit that failed and reached the disk nevertheless, has its command noted.
    let ends = batch.settle(settlement)?;
    if let Some(origin) = commanded.as_ref().filter(|_| ends) {
        let (command, on) = (Command::Discard.as_str(), CommandTarget::Events(&[settlement.id]));
        batch.note_command(NewCommand { at: settlement.at, command, origin, on })?;
    }
    Ok(())
}

/// The bytes that a submission takes on the volume.
fn footprint(submission: &Submission) -> u64 {
    // Each row has a copy of it.
    let trace_state = submission.trace.as_ref().map_or(0, TraceContext::state_bytes);
    let bytes = |entry: &Entry| match entry {
        Entry::Event { draft, .. } => draft.body.bytes().len() + 2 * draft.incident_key.len() + trace_state,
        Entry::Refused { element, violations, .. } => {
            element.as_ref().map_or(0, Bytes::len) + violations.len() * VIOLATION_BYTES + trace_state
        }
    };
    let bytes = submission.raw.len() + submission.entries.iter().map(bytes).sum::<usize>();
    journal::footprint(submission.entries.len() as u64, bytes as u64)
}

/// The errors of a refused payload as JSON. Each bears the reason of the refusal too, since its end writes over that of
/// the row.
fn errors_of(reason: &str, violations: &[Violation]) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Kept<'v> {
        #[serde(flatten)]
        violation: &'v Violation,
        reason: &'v str,
    }
    let errors: Vec<Kept<'_>> = violations.iter().map(|violation| Kept { violation, reason }).collect();
    serde_json::to_vec(&errors).unwrap_or_default()
}

/// The request's raw body, which its first row holds for all.
pub(super) fn raw_of(submission: &Submission, raw_in: Option<EventId>) -> Raw<'_> {
    raw_in.map_or(Raw::Bytes(&submission.raw), Raw::In)
}

fn outgoing(submission: &Submission, draft: &Draft, acknowledged: WallTime) -> Outgoing {
    Outgoing {
        source: Arc::clone(&submission.source),
        incident_key: Arc::from(&*draft.incident_key),
        body: draft.body.bytes().clone(),
        acknowledged,
        trace: submission.trace.clone(),
    }
}

pub(super) fn arrival(key: KeyId, draft: &Draft) -> Arrival<'_> {
    Arrival { key, action: draft.action, update: draft.update, occurrence: draft.occurrence.as_ref() }
}

/// Why an event is a duplicate that deduplication would have taken.
const SAME_MESSAGE: &str = "same_message";
/// The size of a violation as JSON, about.
const VIOLATION_BYTES: usize = 256;

pub(super) fn settle(dedup: &mut Dedup, key: KeyId, settlement: &Settlement) {
    if let Some(ending) = Effect::of(settlement.state, settlement.outcome) {
        dedup.settle(key, settlement.id, ending);
    }
}
