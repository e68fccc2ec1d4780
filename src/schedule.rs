//! Which event goes next: in order within a key, one at a time, without one key waiting for another, at the pace
//! and concurrency that the upstream is allowed, and while the gate to it is open.
//!
//! It knows events by number only and holds some fifty bytes for each, so that a million may wait. It starts
//! nothing and reads no clock: the dispatcher asks what to do and tells what happened.

mod backlog;
mod ready;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::event::{EventId, Outcome, Queued};
use crate::gate::{self, Gate, Leave};
use crate::limits::Bucket;
use crate::outcome::Verdict;
use crate::stale::Decision;
use crate::time::Monotonic;

use backlog::Backlog;
pub use backlog::KeySlot;
use ready::Ready;

/// How fast and how wide events may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls under way at once.
    pub concurrency: usize,
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    /// Calls that ended and whose end is not yet on disk: their keys are not free yet.
    pub unsettled: usize,
    pub gate: gate::Settings,
}

/// Everything that waits for delivery.
#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    gate: Gate,
    pace: Bucket,
    backlog: Backlog,
    ready: Ready,
    timers: BinaryHeap<Reverse<Timer>>,
    /// Keys whose first event was tried before; most never enter.
    trials: HashMap<KeySlot, Trial>,
    in_flight: usize,
    unsettled: usize,
}

/// What was tried of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// How many attempts have ended.
    pub attempts: u32,
    /// When the first of them ended, on the clock that stands still during pauses.
    pub since: Monotonic,
    /// How often it was sent again although it was answered.
    pub resends: u32,
    /// What the upstream said, where the event is only sent again in the hope of a better answer: a later event of
    /// its key does not wait for that.
    pub answered: Option<Outcome>,
}

/// When a key is to go on. One that no longer fits what the key waits for is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    at: Monotonic,
    key: KeySlot,
    event: EventId,
    attempts: u32,
}

/// One delivery to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub event: Queued,
    pub key: KeySlot,
    /// None on the first attempt.
    pub before: Option<Trial>,
    /// It alone goes through a shut gate.
    pub probe: bool,
    /// Its age, where it is to be sent marked with it.
    pub late: Option<Duration>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start this delivery.
    Start(Delivery),
    /// Settle this event: it ends without a call.
    End(Unsent),
    /// Nothing until then, or until something happens.
    WaitUntil(Monotonic),
    /// Nothing until something happens.
    Wait,
}

/// An event that was only sent again in the hope of a better answer, and that a later event of its key has overtaken:
/// it is to be settled with the answer it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken {
    pub event: Queued,
    pub key: KeySlot,
    pub attempts: u32,
    pub answered: Outcome,
}

/// An event that is to end unsent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    pub event: Queued,
    pub key: KeySlot,
    pub attempts: u32,
    pub age: Duration,
}

impl Schedule {
    pub fn new(limits: Limits) -> Schedule {
        Schedule {
            limits,
            gate: Gate::new(limits.gate),
            pace: Bucket::new(limits.per_second, limits.burst),
            backlog: Backlog::default(),
            ready: Ready::default(),
            timers: BinaryHeap::new(),
            trials: HashMap::new(),
            in_flight: 0,
            unsettled: 0,
        }
    }

    /// Puts an event at the end of its key. Returns the event before it, if that one is to wait no longer.
    pub fn enqueue(&mut self, event: &Queued) -> Option<Overtaken> {
        if let Some(key) = self.backlog.push(event) {
            self.ready.push_back(key);
            return None;
        }
        let key = self.backlog.slot(event.key)?;
        let answered = self.trials.get(&key).and_then(|trial| trial.answered)?;
        let trial = self.trials.remove(&key)?;
        // It may be its turn already.
        self.ready.remove(key);
        self.unsettled += 1;
        Some(Overtaken { event: self.backlog.first(key), key, attempts: trial.attempts, answered })
    }

    /// Puts an event that was tried before a restart where its retries stand. It is the first of its key.
    pub fn enqueue_tried(&mut self, event: &Queued, trial: Trial, at: Monotonic) {
        match self.backlog.push(event) {
            Some(key) => self.wait(key, trial, at),
            None => debug_assert!(false, "only the first event of a key was tried"),
        }
    }

    /// What to do now. A started delivery counts as under way until [`Schedule::ended`] is told; the key of an event that
    /// ends unsent is not free until [`Schedule::release`] follows. `decide` says which of these it is for an event, told
    /// whether a resolve of its key waits behind it.
    pub fn next(&mut self, now: Monotonic, decide: impl FnOnce(&Queued, bool) -> Decision) -> Step {
        self.wake(now);
        if self.in_flight >= self.limits.concurrency || self.unsettled >= self.limits.unsettled {
            return Step::Wait;
        }
        if self.ready.is_empty() {
            return match self.timers.peek() {
                Some(Reverse(timer)) => Step::WaitUntil(timer.at),
                None => Step::Wait,
            };
        }
        match self.gate.ask(self.in_flight, now) {
            Leave::Granted => {}
            Leave::NotBefore(at) => return Step::WaitUntil(at),
            Leave::NotNow => return Step::Wait,
        }
        let Some(key) = self.next_key() else {
            return Step::Wait;
        };
        let event = self.backlog.first(key);
        let late = match decide(&event, self.backlog.has_resolve_behind(key)) {
            Decision::Send => None,
            Decision::SendMarked { age } => Some(age),
            Decision::End { .. } if self.unsettled >= UNSENT_AT_ONCE => {
                self.ready.push_front(key);
                return Step::Wait;
            }
            Decision::End { age } => {
                // No call, so it costs nothing of the pace and tells nothing about the upstream.
                self.unsettled += 1;
                let attempts = self.trials.remove(&key).map_or(0, |trial| trial.attempts);
                return Step::End(Unsent { event, key, attempts, age });
            }
        };
        if let Err(wait) = self.pace.take(now) {
            self.ready.push_front(key);
            // Whole milliseconds, rounded up: waking before the time would only ask again.
            let wait = Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
            return Step::WaitUntil(now.after(wait.max(Duration::from_millis(1))));
        }
        self.in_flight += 1;
        let probe = self.gate.started();
        let before = self.trials.get_mut(&key).map(|trial| {
            // Under way it waits for nothing that a later event could cut short.
            Trial { answered: trial.answered.take(), ..*trial }
        });
        Step::Start(Delivery { event, key, before, probe, late })
    }

    /// The call of a delivery ended; its place among those under way is free. The key is not: what came of it
    /// must be on disk first, then [`Schedule::release`] or [`Schedule::again`] follows.
    pub fn ended(&mut self, delivery: &Delivery, verdict: Verdict, now: Monotonic) {
        self.in_flight -= 1;
        self.unsettled += 1;
        self.gate.heard(verdict, delivery.probe, now);
    }

    /// No call was made of a delivery, for a reason that says nothing about the upstream. It is tried again then.
    pub fn not_called(&mut self, delivery: &Delivery, at: Monotonic) {
        self.in_flight -= 1;
        self.gate.not_called(delivery.probe);
        let trial = delivery.before.unwrap_or(Trial { attempts: 0, since: at, resends: 0, answered: None });
        self.wait(delivery.key, trial, at);
    }

    /// No call was made of a delivery and none can be: its event ends. The key is free when [`Schedule::release`] follows.
    pub fn unsendable(&mut self, delivery: &Delivery) {
        self.in_flight -= 1;
        self.unsettled += 1;
        self.gate.not_called(delivery.probe);
    }

    /// The key's first event is settled, on disk. The key goes on with its next event.
    pub fn release(&mut self, key: KeySlot) {
        self.unsettled -= 1;
        self.trials.remove(&key);
        if self.backlog.pop(key) {
            self.ready.push_back(key);
        }
    }

    /// The key's first event is to be tried again then. Only its own key waits for it.
    pub fn again(&mut self, key: KeySlot, trial: Trial, at: Monotonic) {
        self.unsettled -= 1;
        self.wait(key, trial, at);
    }

    /// Whether a later event of this key waits behind the first.
    pub fn has_later(&self, key: KeySlot) -> bool {
        self.backlog.has_next(key)
    }

    /// The gate, to see why it is shut and how time runs for events that are tried again.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// A secret changed: a pause is probed at once.
    pub fn resume(&mut self, now: Monotonic) {
        self.gate.resume(now);
    }

    /// Events that wait, those under way included.
    pub fn len(&self) -> usize {
        self.backlog.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No call is under way, and none has ended whose end is not yet on disk.
    pub fn is_quiet(&self) -> bool {
        self.in_flight == 0 && self.unsettled == 0
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How long the backlog takes at the allowed rate.
    pub fn drain_time(&self) -> Duration {
        let events = u32::try_from(self.len()).unwrap_or(u32::MAX);
        Duration::from_secs_f64(f64::from(events) / f64::from(self.limits.per_second.get()))
    }

    /// The key that waited longest. Through a shut gate rather one that was not tried yet, so that a poisoned event
    /// does not use up every probe; among a few, since a probe is not worth a search through a million.
    fn next_key(&mut self) -> Option<KeySlot> {
        if self.gate.shut_by().is_some() {
            let untried = |key: &KeySlot| !self.trials.contains_key(key);
            let found = self.ready.iter().take(PROBE_CHOICE).find(untried);
            if let Some(key) = found {
                self.ready.remove(key);
                return Some(key);
            }
        }
        self.ready.pop_front()
    }

    fn wait(&mut self, key: KeySlot, trial: Trial, at: Monotonic) {
        let event = self.backlog.first(key).id;
        self.trials.insert(key, trial);
        self.timers.push(Reverse(Timer { at, key, event, attempts: trial.attempts }));
    }

    fn wake(&mut self, now: Monotonic) {
        while let Some(Reverse(timer)) = self.timers.peek().copied() {
            let waits = self.trials.get(&timer.key).is_some_and(|trial| trial.attempts == timer.attempts)
                && self.backlog.first(timer.key).id == timer.event;
            if waits && timer.at > now {
                return;
            }
            self.timers.pop();
            if waits {
                self.ready.push_back(timer.key);
            }
        }
    }
}

/// Ends without a call that wait for the disk. They cost no pace, so after a long outage there may be a million of them
/// at once, and new events come to the recorder beside them.
const UNSENT_AT_ONCE: usize = 256;
/// Keys looked at for a probe.
const PROBE_CHOICE: usize = 64;

#[cfg(test)]
mod tests;
