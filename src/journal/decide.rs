//! Decides what becomes of requests: from the state, what the store knows, and the time, to facts and replies. Pure.
//!
//! Requests are decided in their order, each on the state that the facts before it leave. Nothing of it is true before
//! the facts are on disk; where they can't be written, the state is restored from the journal.

mod commands;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;

use crate::callgoose::confirmation::{Candidate, IncidentAction, relate};
use crate::clock::Now;
use crate::event::{
    Action, Draft, EventId, KeyId, Outgoing, Queued, Reason, Settlement, SourceNames, State, Superseded, Violation,
};
use crate::journal::dedup::{AcceptReason, Arrival, DedupDecision, Effect, Preview};
use crate::journal::fact::{Fact, NewConfirmation, NewEvent, NewRefusal, Raw};
use crate::journal::known::{Known, Stored};
use crate::journal::request::{
    AttemptRecord, Commanded, Confirmation, Confirmed, Declined, Earlier, Entry, Expected, HoldChange, Request, Settle,
    ShadowDifferences, StoredRetry, Submission, Unavailable,
};
use crate::journal::space::footprint;
use crate::journal::state::RecorderState;
use crate::journal::totals::Fit;
use crate::trace_context::TraceContext;

/// The facts of a batch, and what is owed once they are on disk.
#[derive(Debug, Default)]
pub(crate) struct Decided<'a> {
    pub facts: Vec<Fact<'a>>,
    /// A reply to each request.
    pub owed: Vec<Owed>,
    /// New events, for the dispatcher.
    pub accepted: Vec<Accepted>,
}

/// The reply to a request, owed once the facts of its batch are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owed {
    /// To a submission: for each of its entries.
    Recorded(Vec<EntryNumber>),
    Confirmed(Confirmed),
    /// For each event that a command names.
    Commanded(Vec<Commanded>),
    HoldChange(HoldChange),
    Open(Vec<EventId>),
    Previews(Vec<Preview>),
    /// The recorder counts after the commit.
    Tally,
    /// Nobody waits for a reply.
    Nothing,
    Unavailable(Unavailable),
    Declined(Declined),
}

/// The event or refused payload that was written for an entry; for a duplicate, the event that it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryNumber {
    pub id: EventId,
    pub duplicate: bool,
}

/// A new event, for the dispatcher.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub event: Queued,
    /// The body to send; none where it is to be read back from the journal.
    pub outgoing: Option<Outgoing>,
}

/// The context that all decisions of a batch share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub now: Now,
    pub superseded: Superseded,
    pub sources: &'a SourceNames,
}

/// Decides all requests of a batch, in their order.
pub(crate) fn decide<'a>(
    state: &mut RecorderState,
    known: &'a Known,
    requests: impl IntoIterator<Item = &'a Request>,
    context: Context<'_>,
) -> Decided<'a> {
    let mut decisions = Decisions {
        state,
        known,
        context,
        decided: Decided::default(),
        ended: HashMap::new(),
        replayed: HashMap::new(),
        let_go: HashMap::new(),
        unclosed: HashSet::new(),
        came_to_nothing: HashSet::new(),
        confirmed: Vec::new(),
        confirmations: 0,
    };
    for request in requests {
        let owed = decisions.one(request);
        decisions.decided.owed.push(owed);
    }
    decisions.correct_accepted();
    decisions.decided
}

/// The facts that are written beside those of a batch: duplicates that were counted, and keys that were evicted.
pub(crate) fn kept_up(state: &mut RecorderState, facts: &mut Vec<Fact<'_>>) {
    facts.extend(state.repeated.drain().map(|(of, times)| Fact::Repeated { of, times }));
    facts.extend(state.dedup.take_evicted().into_iter().map(Fact::Forgotten));
}

/// Where a submission comes from.
#[derive(Clone, Copy, Debug)]
enum Origin<'a> {
    Sender,
    /// A payload that the rules refused before and take now. `force`: past deduplication.
    Refused {
        payload: &'a Stored,
        force: bool,
    },
}

/// The decisions of one batch so far.
struct Decisions<'s, 'a> {
    state: &'s mut RecorderState,
    known: &'a Known,
    context: Context<'s>,
    decided: Decided<'a>,
    /// How known events ended by facts of this batch.
    ended: HashMap<EventId, (State, Option<Reason>)>,
    /// The replays of this batch, by the event that was replayed.
    replayed: HashMap<EventId, EventId>,
    /// Keys that are not known any more by a fact of this batch, with the event that they rested on.
    let_go: HashMap<KeyId, LetGo>,
    /// Keys of which an event ended in this batch without having closed what may be open.
    unclosed: HashSet<KeyId>,
    /// These events.
    came_to_nothing: HashSet<EventId>,
    /// The events that confirmations of this batch are about, as opened and as closed.
    confirmed: Vec<(EventId, IncidentAction)>,
    confirmations: u64,
}

/// The last event of a key that ended without effect.
#[derive(Clone, Copy, Debug)]
struct LetGo {
    last: EventId,
    /// A resolve that ended because nothing of its incident was sent.
    nothing_sent: bool,
}

impl<'a> Decisions<'_, 'a> {
    fn one(&mut self, request: &'a Request) -> Owed {
        match request {
            Request::Record(submission) => match self.record(submission, Origin::Sender) {
                Ok(entries) => Owed::Recorded(entries),
                Err(why) => Owed::Unavailable(why),
            },
            Request::Confirm(confirmation) => self.confirm(confirmation),
            Request::Attempt(attempt, retry) => self.attempt(attempt, *retry),
            Request::Settle(settle) => self.settle(settle),
            Request::Differ(differences) => self.differ(differences),
            Request::Command { command, ids, origin } => self.command(*command, ids, origin),
            Request::Hold { target, held, origin } => self.hold(target, *held, origin),
            Request::Replace { of, submission, force, origin } => match self.replace(*of, submission, *force, origin) {
                Ok(owed) | Err(owed) => owed,
            },
            Request::Tally { .. } => Owed::Tally,
            Request::Open { limit } => Owed::Open(self.state.dedup.open(*limit)),
            Request::Preview(expected) => {
                let arrivals = expected.iter().map(Expected::arrival);
                Owed::Previews(self.state.dedup.preview(arrivals, self.context.now))
            }
        }
    }

    /// Adds a fact, on which what follows is decided.
    fn add(&mut self, fact: Fact<'a>) {
        self.state.apply(&fact, self.context.now);
        self.decided.facts.push(fact);
    }

    fn record(&mut self, submission: &'a Submission, origin: Origin<'a>) -> Result<Vec<EntryNumber>, Unavailable> {
        let room = match self.fit(submission, origin) {
            Fit::Fits => Ok(()),
            Fit::Full => Err(Unavailable::Backlog),
            Fit::BeyondShare => Err(Unavailable::SourceShare),
        };
        if let Err(why) = room
            && !self.is_known(submission)
        {
            return Err(why);
        }
        let footprint = footprint_of(submission);
        let writes = submission.entries.iter().any(|entry| matches!(entry, Entry::Refused { .. }));
        if !self.takes(footprint) && (writes || !self.is_known(submission)) {
            return Err(Unavailable::DiskFull);
        }
        let mut raw_in = None;
        let mut numbers = Vec::with_capacity(submission.entries.len());
        for entry in &submission.entries {
            let number = match entry {
                Entry::Event { key, draft } => self.event(submission, *key, draft, origin, raw_in),
                Entry::Refused { .. } => self.refused(submission, entry, raw_in),
            };
            if !number.duplicate {
                raw_in.get_or_insert(number.id);
            }
            numbers.push(number);
        }
        if raw_in.is_some() {
            self.state.room.space.promise(footprint);
        }
        Ok(numbers)
    }

    /// Returns whether the volume has room for so many bytes more. Once it has none for a small payload, nothing new is
    /// taken until there is plenty.
    fn takes(&mut self, bytes: u64) -> bool {
        let room = &mut self.state.room;
        let takes = !room.refusing && room.space.takes(bytes);
        room.refusing |= !takes && bytes <= room.space.headroom();
        takes
    }

    /// Checks `max_events`, `max_bytes` and the source's share. Refused payloads have limits of their own; events made of
    /// one take its place.
    fn fit(&self, submission: &Submission, origin: Origin<'_>) -> Fit {
        let (events, bytes) = submission.room();
        if events == 0 {
            return Fit::Fits;
        }
        let (freed_events, freed_bytes) = match origin {
            Origin::Refused { payload, .. } if self.stands(payload).0 == State::Refused => (1, payload.bytes),
            _ => (0, 0),
        };
        // A person's command is kept out by no share.
        let source = matches!(origin, Origin::Sender).then_some(&*submission.source);
        self.fits(source, events.saturating_sub(freed_events), bytes.saturating_sub(freed_bytes))
    }

    fn fits(&self, source: Option<&str>, events: u64, bytes: u64) -> Fit {
        self.state.room.totals.fit(&self.state.limits, source, events, bytes)
    }

    /// Returns whether all of it are duplicates, which need no room.
    fn is_known(&self, submission: &Submission) -> bool {
        submission.entries.iter().all(|entry| match entry {
            Entry::Event { key, draft } => {
                let decision = self.state.dedup.decide(arrival(*key, draft), self.context.now);
                matches!(decision, DedupDecision::Duplicate { .. }) || self.standing(submission, *key, draft).is_some()
            }
            Entry::Refused { .. } => true,
        })
    }

    fn event(
        &mut self,
        submission: &'a Submission,
        key: KeyId,
        draft: &'a Draft,
        origin: Origin<'_>,
        raw_in: Option<EventId>,
    ) -> EntryNumber {
        let now = self.context.now;
        let arrival = arrival(key, draft);
        let (replay_of, force) = match origin {
            Origin::Sender => (None, false),
            Origin::Refused { payload, force } => (Some(payload.id), force),
        };
        let reason = match self.state.dedup.decide(arrival, now) {
            DedupDecision::Take(reason) => match self.standing(submission, key, draft) {
                Some(of) if !force => return self.duplicate(submission, draft, of, SAME_MESSAGE),
                _ => reason,
            },
            DedupDecision::Duplicate { .. } if force => AcceptReason::Replay,
            DedupDecision::Duplicate { of, why } => return self.duplicate(submission, draft, of, why.as_str()),
        };
        let event = NewEvent {
            source: &submission.source,
            action: draft.action,
            incident_key: &draft.incident_key,
            rule: &draft.rule,
            priority: draft.priority,
            novelty: reason.as_str(),
            acknowledged_at: now.wall,
            request: &submission.request_id,
            sender_request: submission.sender_request_id.as_deref(),
            trace: submission.trace.as_ref(),
            raw: raw_of(submission, raw_in),
            charset: submission.charset,
            body: draft.body.bytes(),
            update: draft.update,
            occurrences: self.state.dedup.occurrences_after(arrival),
            follows: self.state.dedup.last(key),
            replay_of,
        };
        let open = draft.action == Action::Trigger && self.state.dedup.is_open(key);
        let queued = Queued {
            id: self.state.room.next,
            key,
            source: self.context.sources.id(&submission.source),
            action: draft.action,
            priority: draft.priority,
            reopening: reason == AcceptReason::Reopening,
            continues: open || self.may_be_open(key, reason),
            acknowledged: now.monotonic,
        };
        let outgoing = Outgoing {
            source: Arc::clone(&submission.source),
            incident_key: Arc::from(&*draft.incident_key),
            body: draft.body.bytes().clone(),
            acknowledged: now.wall,
            trace: submission.trace.clone(),
        };
        self.take(queued, event, outgoing);
        EntryNumber { id: queued.id, duplicate: false }
    }

    /// Takes an event, for the journal and for the dispatcher.
    fn take(&mut self, queued: Queued, event: NewEvent<'a>, outgoing: Outgoing) {
        self.add(Fact::Taken { id: queued.id, key: queued.key, event });
        self.decided.accepted.push(Accepted { event: queued, outgoing: Some(outgoing) });
    }

    /// The event that an earlier copy of the same message became, where that leaves nothing to do. One that came to
    /// nothing does not keep its message out: deduplication decides about it as about any other.
    fn standing(&self, submission: &Submission, key: KeyId, draft: &Draft) -> Option<EventId> {
        let is_same = |one: &&Earlier| one.key == key && one.action == draft.action;
        let stands = |event: &EventId| self.known.standing.contains(event) && !self.came_to_nothing.contains(event);
        submission.earlier.iter().filter(is_same).map(|one| one.event).find(stands)
    }

    fn duplicate(&mut self, submission: &Submission, draft: &Draft, of: EventId, why: &'static str) -> EntryNumber {
        let source = &*submission.source;
        tracing::debug!(source, incident_key = draft.incident_key, of = of.0, why, "duplicate");
        *self.state.repeated.entry(of).or_default() += 1;
        EntryNumber { id: of, duplicate: true }
    }

    fn refused(&mut self, submission: &'a Submission, entry: &'a Entry, raw_in: Option<EventId>) -> EntryNumber {
        let id = self.state.room.next;
        if let Entry::Refused { element, reason, violations } = entry {
            let payload = NewRefusal {
                source: &submission.source,
                received_at: submission.received_at,
                request: &submission.request_id,
                sender_request: submission.sender_request_id.as_deref(),
                trace: submission.trace.as_ref(),
                raw: raw_of(submission, raw_in),
                charset: submission.charset,
                element: element.as_deref(),
                reason,
                errors: Cow::Owned(errors_of(reason, violations)),
            };
            self.add(Fact::Refused { id, payload });
        }
        EntryNumber { id, duplicate: false }
    }

    /// Returns whether an incident of a key that deduplication does not know may be open at the upstream. It matters only
    /// where a trigger and its resolve may end unsent: that resolve would close it.
    fn may_be_open(&self, key: KeyId, reason: AcceptReason) -> bool {
        if self.context.superseded == Superseded::Send || reason != AcceptReason::Opening {
            return false;
        }
        let known = || match self.let_go.get(&key) {
            Some(let_go) => !let_go.nothing_sent,
            None => self.known.may_be_open.contains(&key),
        };
        self.state.dedup.has_evicted() || known()
    }

    /// Keeps a call that came to nothing.
    fn attempt(&mut self, attempt: &'a AttemptRecord, retry: StoredRetry) -> Owed {
        // While there is little room such calls are not listed: it is kept for those that end something.
        let listed = (!self.state.room.space.is_short()).then_some(attempt);
        self.add(Fact::Tried { event: attempt.event, attempt: listed, retry, at: self.context.now.wall });
        Owed::Nothing
    }

    fn settle(&mut self, settle: &'a Settle) -> Owed {
        let Settle { attempt, settlement, key, commanded, .. } = settle;
        let short = self.state.room.space.is_short();
        let attempt = attempt.as_ref();
        let attempt = attempt.map(|one| if short { Cow::Owned(one.shortened()) } else { Cow::Borrowed(one) });
        self.note_end(*key, settlement);
        let frees = self.known.counted.get(&settlement.id).filter(|counted| counted.state == State::Queued);
        self.add(Fact::Settled { key: *key, settlement, attempt, discarded_by: commanded.as_deref(), frees });
        Owed::Nothing
    }

    /// Notes the end of an event for later requests of this batch.
    fn note_end(&mut self, key: KeyId, settlement: &Settlement) {
        let Settlement { id, state, outcome, reason, .. } = settlement;
        let came_to_nothing = Effect::of(*state, *outcome) == Some(Effect::None);
        if came_to_nothing && *reason != Some(Reason::Superseded) {
            self.unclosed.insert(key);
            self.came_to_nothing.insert(*id);
        }
        if let Some((last, action)) = self.state.dedup.last_action(key)
            && last == *id
            && came_to_nothing
        {
            let nothing_sent = action == Action::Resolve && *reason == Some(Reason::Superseded);
            self.let_go.insert(key, LetGo { last, nothing_sent });
        }
        if self.known.events.contains_key(id) {
            self.ended.insert(*id, (*state, reason.clone()));
        }
    }

    /// A trigger that was taken as the first after a resolve may continue an incident after all: in the same batch that
    /// resolve came to nothing, and the dispatcher forgets it before it hears of the trigger.
    fn correct_accepted(&mut self) {
        for Accepted { event, .. } in &mut self.decided.accepted {
            event.continues |= event.action == Action::Trigger && self.unclosed.contains(&event.key);
        }
    }

    fn differ(&mut self, differences: &'a [ShadowDifferences]) -> Owed {
        if !self.state.room.space.is_short() {
            self.add(Fact::Differed(differences));
        }
        Owed::Nothing
    }

    /// Keeps a confirmation. Where the volume is nearly full it is refused before any event: nobody is alerted by it.
    fn confirm(&mut self, confirmation: &'a Confirmation) -> Owed {
        let Confirmation { source, request_id, received_at, raw, told, .. } = confirmation;
        let footprint = footprint(1, raw.len().min(RAW_BYTES_KEPT) as u64);
        let room = &mut self.state.room;
        if room.refusing || room.space.is_short() || !room.space.takes(footprint) {
            return Owed::Unavailable(Unavailable::DiskFull);
        }
        room.space.promise(footprint);
        let about = self.confirmed_event(confirmation);
        self.confirmed.extend(about.map(|(event, _)| event).zip(told.action));
        let id = self.known.next_confirmation + self.confirmations;
        self.confirmations += 1;
        let confirmation = NewConfirmation { received_at: *received_at, source, request: request_id, told, about, raw };
        self.add(Fact::Confirmed { id, confirmation });
        Owed::Confirmed(Confirmed { id, event: about.map(|(event, _)| event) })
    }

    /// The event that a confirmation is about, with its source: of several sources that know the key, the newest.
    fn confirmed_event(&self, confirmation: &Confirmation) -> Option<(EventId, &'a str)> {
        let mut about: Option<(EventId, &'a str)> = None;
        for (source, candidates) in self.known.candidates.get(&confirmation.request_id)? {
            let is = |id, action| self.confirmed.contains(&(id, action));
            let as_now = |one: &Candidate| {
                let opened = one.opened || is(one.id, IncidentAction::Opened);
                let closed = one.closed || is(one.id, IncidentAction::Closed);
                Ok::<_, Infallible>(Candidate { opened, closed, ..*one })
            };
            let Ok(event) = relate(confirmation.told.action, candidates.iter().map(as_now));
            about = about.max(event.map(|event| (event, &**source)));
        }
        about
    }
}

/// The bytes that a submission takes on the volume.
fn footprint_of(submission: &Submission) -> u64 {
    // Each row has a copy of it.
    let trace_state = submission.trace.as_ref().map_or(0, TraceContext::state_bytes);
    let bytes = |entry: &Entry| match entry {
        Entry::Event { draft, .. } => draft.body.bytes().len() + 2 * draft.incident_key.len() + trace_state,
        Entry::Refused { element, violations, .. } => {
            element.as_ref().map_or(0, Bytes::len) + violations.len() * VIOLATION_BYTES + trace_state
        }
    };
    let bytes = submission.raw.len() + submission.entries.iter().map(bytes).sum::<usize>();
    footprint(submission.entries.len() as u64, bytes as u64)
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
fn raw_of(submission: &Submission, raw_in: Option<EventId>) -> Raw<'_> {
    raw_in.map_or(Raw::Bytes(&submission.raw), Raw::In)
}

fn arrival(key: KeyId, draft: &Draft) -> Arrival<'_> {
    Arrival { key, action: draft.action, update: draft.update, occurrence: draft.occurrence.as_ref() }
}

/// Why an event is a duplicate that deduplication would have taken.
const SAME_MESSAGE: &str = "same_message";
/// The size of a violation as JSON, about.
const VIOLATION_BYTES: usize = 256;
/// Of a confirmation the journal keeps the body so far: more than a webhook about one incident has.
pub(crate) const RAW_BYTES_KEPT: usize = 16 * 1024;
