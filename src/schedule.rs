//! Which event goes next: in order within a key, one at a time, without one key waiting for another, at the pace
//! and concurrency that the upstream is allowed.
//!
//! It knows events by number only and holds some fifty bytes for each, so that a million may wait. It starts
//! nothing and reads no clock: the dispatcher asks what to do and tells what happened.

mod backlog;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::event::{Action, EventId, KeyId, Queued};
use crate::retry::Trial;
use crate::time::Monotonic;

use backlog::Backlog;
pub use backlog::KeySlot;

/// How fast and how wide events may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls under way at once.
    pub concurrency: usize,
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    /// Calls that ended and whose end is not yet on disk: their keys are not free yet.
    pub unsettled: usize,
}

/// Everything that waits for delivery.
#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    backlog: Backlog,
    ready: VecDeque<KeySlot>,
    timers: BinaryHeap<Reverse<(Monotonic, KeySlot)>>,
    /// Keys whose first event was tried before; most never enter.
    trials: HashMap<KeySlot, Trial>,
    in_flight: usize,
    unsettled: usize,
    pace: Pace,
}

/// One delivery to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub id: EventId,
    pub action: Action,
    pub key: KeySlot,
    pub key_id: KeyId,
    /// None on the first attempt.
    pub before: Option<Trial>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start this delivery.
    Start(Delivery),
    /// Nothing until then, or until something happens.
    WaitUntil(Monotonic),
    /// Nothing until something happens.
    Wait,
}

impl Schedule {
    pub fn new(limits: Limits) -> Schedule {
        Schedule {
            limits,
            backlog: Backlog::default(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            trials: HashMap::new(),
            in_flight: 0,
            unsettled: 0,
            pace: Pace::new(limits.per_second, limits.burst),
        }
    }

    /// Puts an event at the end of its key.
    pub fn enqueue(&mut self, event: &Queued) {
        if let Some(key) = self.backlog.push(event.key, event.id, event.action) {
            self.ready.push_back(key);
        }
    }

    /// What to do now. A started delivery counts as under way until [`Schedule::ended`] is told.
    pub fn next(&mut self, now: Monotonic) -> Step {
        self.wake(now);
        if self.in_flight >= self.limits.concurrency || self.unsettled >= self.limits.unsettled {
            return Step::Wait;
        }
        if self.ready.is_empty() {
            return match self.timers.peek() {
                Some(Reverse((at, _))) => Step::WaitUntil(*at),
                None => Step::Wait,
            };
        }
        if let Err(wait) = self.pace.take(now) {
            return Step::WaitUntil(now.after(wait));
        }
        let Some(key) = self.ready.pop_front() else {
            return Step::Wait;
        };
        self.in_flight += 1;
        let (id, action) = self.backlog.first(key);
        Step::Start(Delivery { id, action, key, key_id: self.backlog.key(key), before: self.trials.get(&key).copied() })
    }

    /// The call of a delivery ended; its place among those under way is free. The key is not: what came of it
    /// must be on disk first, then [`Schedule::release`] or [`Schedule::again`] follows.
    pub fn ended(&mut self) {
        self.in_flight -= 1;
        self.unsettled += 1;
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
        self.trials.insert(key, trial);
        self.timers.push(Reverse((at, key)));
    }

    /// Events that wait, those under way included.
    pub fn len(&self) -> usize {
        self.backlog.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls under way, or ended and not yet on disk.
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

    fn wake(&mut self, now: Monotonic) {
        while let Some(Reverse((at, key))) = self.timers.peek() {
            if *at > now {
                return;
            }
            self.ready.push_back(*key);
            self.timers.pop();
        }
    }
}

/// The upstream's `rate_limit`: governor's token bucket, told the time instead of asking for it.
#[derive(Debug)]
struct Pace {
    clock: Told,
    bucket: RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>,
}

#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

impl Pace {
    fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Pace {
        let clock = Told::default();
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Pace { bucket: RateLimiter::direct_with_clock(quota, clock.clone()), clock }
    }

    /// Takes one call's allowance, or says how long to wait for it.
    fn take(&mut self, now: Monotonic) -> Result<(), Duration> {
        let nanos = u64::try_from(now.0).unwrap_or(0).saturating_mul(1_000_000);
        self.clock.0.fetch_max(nanos, Ordering::Relaxed);
        self.bucket.check().map_err(|refused| {
            // Whole milliseconds, rounded up: waking before the time would only ask again.
            let wait = refused.earliest_possible().duration_since(self.clock.now());
            Duration::from_millis(wait.as_u64().div_ceil(1_000_000).max(1))
        })
    }
}

#[cfg(test)]
mod tests;
