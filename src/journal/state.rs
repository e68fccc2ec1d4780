//! The recorder's state: a fold over the facts, while it lives and at a start.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::{Now, WallTime};
use crate::event::{Action, EventId, HoldRecord, KeyId, Outcome, Priority, State, UpdateHash};
use crate::journal::dedup::{Dedup, Effect, Occurrences, Taken};
use crate::journal::fact::{Counted, Fact};
use crate::journal::request::StoredRetry;
use crate::journal::space::Space;
use crate::journal::totals::{Limits, TotalsBySource};

/// All that decisions rest on, but for what the store is asked.
#[derive(Debug)]
pub struct RecorderState {
    pub(super) dedup: Dedup,
    /// The holds in force, in the order of their targets.
    pub(super) holds: Arc<Vec<HoldRecord>>,
    /// Duplicates that were counted since the last commit, by the event that they repeat.
    pub(super) repeated: HashMap<EventId, u64>,
    pub(super) limits: Limits,
    pub(super) room: Room,
}

/// The room for new events: taken from the store for each batch, and kept up with its facts.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(super) totals: TotalsBySource,
    /// The space on the volume.
    pub(super) space: Space,
    /// Nothing new is taken for want of space.
    pub(super) refusing: bool,
    /// The number of the next event or refused payload.
    pub(super) next: EventId,
}

impl RecorderState {
    pub fn new(dedup: Dedup, holds: Vec<HoldRecord>, limits: Limits) -> RecorderState {
        let room =
            Room { totals: TotalsBySource::default(), space: Space::endless(), refusing: false, next: EventId(1) };
        RecorderState { dedup, holds: Arc::new(holds), repeated: HashMap::new(), limits, room }
    }

    pub fn dedup(&self) -> &Dedup {
        &self.dedup
    }

    pub fn dedup_mut(&mut self) -> &mut Dedup {
        &mut self.dedup
    }

    /// Sets the number of the next event, as the store says.
    pub fn set_next(&mut self, next: EventId) {
        self.room.next = next;
    }

    /// Applies a fact.
    pub fn apply(&mut self, fact: &Fact<'_>, now: Now) {
        match fact {
            Fact::Taken { id, key, event } => {
                self.room.next = EventId(id.0 + 1);
                self.room.totals.add(event.source, State::Queued, event.bytes());
                let (action, update, occurrences) = (event.action, event.update, event.occurrences.clone());
                let taken = Taken { id: *id, key: *key, action, update, occurrences };
                self.dedup.take(taken, now.monotonic_of(event.acknowledged_at));
            }
            Fact::Refused { id, payload } => {
                self.room.next = EventId(id.0 + 1);
                self.room.totals.add(payload.source, State::Refused, payload.bytes());
            }
            Fact::Settled { key, settlement, frees, .. } => {
                if let Some(Counted { source, state, bytes }) = frees {
                    self.room.totals.remove(source, *state, *bytes);
                    self.room.totals.add(source, settlement.state, *bytes);
                }
                if let Some(effect) = Effect::of(settlement.state, settlement.outcome) {
                    self.dedup.settle(*key, settlement.id, effect);
                }
            }
            Fact::Ended { id, key, frees, .. } => {
                if let Some(Counted { source, state, bytes }) = frees {
                    self.room.totals.remove(source, *state, *bytes);
                }
                if let Some(key) = key {
                    self.dedup.settle(*key, *id, Effect::None);
                }
            }
            Fact::Held(hold) => {
                if let Err(at) = self.holds.binary_search_by(|known| known.target.cmp(&hold.target)) {
                    Arc::make_mut(&mut self.holds).insert(at, hold.clone());
                }
            }
            Fact::Released(target) => {
                if let Ok(at) = self.holds.binary_search_by(|known| known.target.cmp(target)) {
                    Arc::make_mut(&mut self.holds).remove(at);
                }
            }
            Fact::Repeated { of, .. } => drop(self.repeated.remove(of)),
            Fact::Tried { .. }
            | Fact::Commanded(_)
            | Fact::Confirmed { .. }
            | Fact::Differed(_)
            | Fact::Forgotten(_) => {}
        }
    }
}

/// One event for a restart, in the order of acknowledgement.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredEvent {
    pub id: EventId,
    pub source: Arc<str>,
    pub key: KeyId,
    pub action: Action,
    pub priority: Priority,
    pub acknowledged_at: WallTime,
    pub state: State,
    pub outcome: Option<Outcome>,
    pub update: UpdateHash,
    /// The occurrences that its key knew after it.
    pub occurrences: Occurrences,
    /// True for a queued trigger that followed a resolve.
    pub reopening: bool,
    /// The state of its retries, if it was tried and is still queued.
    pub tried: Option<StoredRetry>,
}

/// Applies an event that the store kept to deduplication: that it was taken, and how it ended. All of them, in the order of
/// their numbers, restore the state.
pub fn restore_key(dedup: &mut Dedup, event: &RestoredEvent, now: Now) {
    let RestoredEvent { id, key, action, update, state, outcome, .. } = *event;
    let taken = Taken { id, key, action, update, occurrences: event.occurrences.clone() };
    dedup.take(taken, now.monotonic_of(event.acknowledged_at));
    if let Some(effect) = Effect::of(state, outcome) {
        dedup.settle(key, id, effect);
    }
}
