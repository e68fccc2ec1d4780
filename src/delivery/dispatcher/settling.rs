//! Settlements that are being written: their keys wait, and who discarded an event is told once it is on disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Dispatcher;
use super::stale_episode::tell_stale_episode;
use crate::clock::Now;
use crate::delivery::schedule::{Delivery, KeySlot, ToSettle};
use crate::delivery::staleness;
use crate::event::{EventId, Queued, Reason, Settlement, State};
use crate::journal::AttemptRecord;
use crate::journal::request::Settle;
use crate::trace_context::{TraceContext, TraceId};

/// The settlements being written, by event.
#[derive(Debug, Default)]
pub(super) struct Settling(HashMap<EventId, Unwritten>);

/// An event whose settlement is being written.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) event: Queued,
    /// None where its body was not at hand.
    pub(super) incident_key: Option<Arc<str>>,
    /// None where its body was not at hand, or an earlier version took it.
    pub(super) trace_id: Option<TraceId>,
    /// None if it was not the first of its key, which then does not wait for it.
    pub(super) key: Option<KeySlot>,
    /// The time since its acknowledgement.
    pub(super) age: Duration,
    /// True if an earlier attempt may have taken effect without an answer.
    pub(super) in_doubt: bool,
    /// Notified when the settlement is on disk.
    pub(super) told: Option<oneshot::Sender<()>>,
}

impl Settling {
    pub(super) fn put(&mut self, unwritten: Unwritten) {
        self.0.insert(unwritten.event.id, unwritten);
    }

    /// Adds a receiver for the notice that this settlement is on disk.
    pub(super) fn tell(&mut self, id: EventId, told: oneshot::Sender<()>) {
        if let Some(unwritten) = self.0.get_mut(&id) {
            unwritten.told = Some(told);
        }
    }

    pub(super) fn contains(&self, id: EventId) -> bool {
        self.0.contains_key(&id)
    }

    pub(super) fn events(&self) -> impl Iterator<Item = EventId> {
        self.0.keys().copied()
    }

    /// Removes a settlement that is on disk.
    pub(super) fn take(&mut self, id: EventId) -> Option<Unwritten> {
        self.0.remove(&id)
    }
}

impl Dispatcher {
    /// An event whose call had begun and was not made ends without it.
    pub(super) fn settle_uncalled(&mut self, delivery: &Delivery, state: State, reason: Reason, now: Now) {
        self.schedule.unsendable(delivery, now.monotonic);
        let attempts = delivery.before.map_or(0, |retry| retry.attempts);
        let id = delivery.event.id;
        let settlement = Settlement { id, state, outcome: None, reason: Some(reason), attempts, at: now.wall };
        self.settle(self.unwritten(delivery.event, Some(delivery.key), now), None, settlement, true);
    }

    /// The schedule gave an event up.
    pub(super) fn settle_without_call(&mut self, to_settle: ToSettle, now: Now) {
        let ToSettle { event, key, attempts, result } = to_settle;
        let (state, outcome, reason) = match result {
            Ok(answered) => (State::Delivered, Some(answered), None),
            Err(reason) => (State::Ended, None, Some(reason)),
        };
        if reason == Some(Reason::Stale) && self.stale_episode.unsent(now.monotonic) {
            tell_stale_episode();
        }
        let settlement = Settlement { id: event.id, state, outcome, reason, attempts, at: now.wall };
        self.settle(self.unwritten(event, key, now), None, settlement, key.is_some());
    }

    pub(super) fn unwritten(&self, event: Queued, key: Option<KeySlot>, now: Now) -> Unwritten {
        let age = staleness::age(&event, self.started, now);
        Unwritten { event, incident_key: None, trace_id: None, key, age, in_doubt: false, told: None }
    }

    /// Sends a settlement to be written. The key is free when a commit has it. `awaited`: a later event of the key waits
    /// for it.
    pub(super) fn settle(
        &mut self,
        mut unwritten: Unwritten,
        attempt: Option<AttemptRecord>,
        settlement: Settlement,
        awaited: bool,
    ) {
        if let Some(body) = self.bodies.remove(unwritten.event.id) {
            unwritten.trace_id = unwritten.trace_id.or(body.trace.as_ref().map(TraceContext::id));
            unwritten.incident_key = unwritten.incident_key.or(Some(body.incident_key));
        }
        // A call that was under way may have done it all the same: then nobody's command ended it.
        let is_discarded = settlement.reason == Some(Reason::Discarded);
        let commanded = self.discarded.get(&unwritten.event.id).filter(|_| is_discarded).cloned();
        let settle = Settle { attempt, settlement, key: unwritten.event.key, awaited, commanded };
        self.settling.put(unwritten);
        if let Err(settle) = self.context.recorder.settle(settle) {
            let context = Arc::clone(&self.context);
            // Never cut off: it is no call, and what it tells happened.
            self.tasks.spawn(async move { context.recorder.settle_in_turn(*settle).await });
        }
    }
}
