//! Which event goes next: in order within a key, one at a time, without one key waiting for another's trouble, at the
//! pace and concurrency that the upstream is allowed, and while the breaker permits it.
//!
//! First the sources take turns, then the lanes of a source, then priorities, then keys. Events that failed before get
//! at most a quarter of the calls and of the slots, so that what always fails or hangs delays only its own key.
//!
//! It knows events by number only and holds some sixty bytes for each, so that a million may wait. It starts
//! nothing and reads no clock: the dispatcher asks what to do and tells what happened.

mod lanes;
mod queues;
mod rate;
mod share;
mod turns;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::callgoose::answer::Verdict;
use crate::clock::Monotonic;
use crate::delivery::breaker::{self, Breaker, FailureOf, Kind, Permit};
use crate::delivery::retry::RetryState;
use crate::delivery::staleness::Decision;
use crate::event::{EventId, KeyId, Outcome, Pending, Queued, Reason, SourceId, Superseded};
use crate::token_bucket::TokenBucket;

pub use lanes::Lane;
pub use queues::KeySlot;
use queues::{Place, Queues};
use rate::Rate;
use turns::Turns;

/// How fast and how wide events may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls under way at once.
    pub concurrency: usize,
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    /// Calls that ended and whose end is not yet on disk: their keys are not free yet.
    pub unsettled: usize,
    pub breaker: breaker::Settings,
    pub superseded: Superseded,
}

/// Everything that waits for delivery.
#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    breaker: Breaker,
    pace: TokenBucket,
    queues: Queues,
    turns: Turns,
    timers: BinaryHeap<Reverse<Timer>>,
    /// Keys whose first event was tried before; most never enter.
    retries: HashMap<KeySlot, RetryState>,
    /// Keys that a person holds, whether or not anything of them waits.
    held: HashMap<KeyId, Monotonic>,
    held_sources: HashMap<SourceId, Monotonic>,
    /// Keys whose first event ends because what waits behind it undoes it.
    undone: HashSet<KeySlot>,
    in_flight: usize,
    unsettled: usize,
    left: Rate,
    left_fresh: Rate,
    left_backlog: Rate,
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
    pub before: Option<RetryState>,
    /// It alone goes through an open breaker.
    pub probe: bool,
    /// Its age, where it is to be sent marked with it.
    pub stale: Option<Duration>,
    /// The lane that it stood in.
    pub lane: Lane,
    pub started: Monotonic,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start this delivery.
    Start(Delivery),
    /// Settle this event: it ends without a call.
    Settle(Withdrawn),
    /// Nothing until then, or until something happens.
    WaitUntil(Monotonic),
    /// Nothing until something happens.
    Wait,
}

/// An event to settle without a call, or without a further one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    pub event: Queued,
    /// None where it is not the first of its key, which then does not wait for it.
    pub key: Option<KeySlot>,
    pub attempts: u32,
    /// The answer that it has, where it was only sent again in the hope of a better one; else why it ends unsent.
    pub result: Result<Outcome, Reason>,
}

/// What becomes of an event that a person discards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discard {
    /// It is to be settled; where it was the first of its key, that goes on when it is released.
    Settle(Withdrawn),
    /// A call of it is under way, or it is ending by itself.
    UnderWay,
    /// It does not wait.
    NotWaiting,
}

impl Schedule {
    pub fn new(limits: Limits) -> Schedule {
        Schedule {
            limits,
            breaker: Breaker::new(limits.breaker),
            pace: TokenBucket::new(limits.per_second, limits.burst),
            queues: Queues::default(),
            turns: Turns::new(limits.concurrency),
            timers: BinaryHeap::new(),
            retries: HashMap::new(),
            held: HashMap::new(),
            held_sources: HashMap::new(),
            undone: HashSet::new(),
            in_flight: 0,
            unsettled: 0,
            left: Rate::default(),
            left_fresh: Rate::default(),
            left_backlog: Rate::default(),
        }
    }

    /// Puts an event at the end of its key. Returns the event before it, if that one is to wait no longer.
    pub fn enqueue(&mut self, event: &Queued, now: Monotonic) -> Option<Withdrawn> {
        // Where the key stands depends on all that waits in it.
        let (known, follows) = match self.queues.slot(event.key) {
            Some(key) => match self.queues.place(key) {
                Place::Lane(spot) => {
                    self.turns.remove(key, &mut self.queues);
                    (false, spot.follows())
                }
                _ => (true, false),
            },
            None => (false, false),
        };
        let (key, _) = self.queues.push(event);
        if known {
            return self.cut_short(key);
        }
        self.go_on(key, follows, now);
        None
    }

    /// Puts an event that was tried before a restart where its retries stand. It is the first of its key.
    pub fn enqueue_tried(&mut self, event: &Queued, retry: RetryState, at: Monotonic) {
        match self.queues.push(event) {
            (key, true) => self.wait(key, retry, at),
            (_, false) => debug_assert!(false, "only the first event of a key was tried"),
        }
    }

    /// Chooses the next step. A started delivery counts as under way until [`Schedule::ended`] is told; the key of an
    /// event that ends unsent is not free until [`Schedule::release`] follows. `decide` says which of these it is for
    /// an event, told whether a resolve of its key waits behind it.
    pub fn next(&mut self, now: Monotonic, decide: impl FnOnce(&Queued, bool) -> Decision) -> Step {
        self.wake(now);
        if self.in_flight >= self.limits.concurrency || self.unsettled >= self.limits.unsettled {
            return Step::Wait;
        }
        self.turns.age(&mut self.queues, now);
        let waiting = self.turns.waiting(now);
        if !waiting.untried && !waiting.tried {
            return self.wait_for_timer();
        }
        let probe = match self.breaker.permit(self.in_flight, waiting, now) {
            Permit::Call => None,
            Permit::Probe(kind) => Some(kind),
            Permit::NotBefore(at) => return Step::WaitUntil(at),
            Permit::NotNow => return Step::Wait,
        };
        let Some(turn) = self.turns.choose(probe, &self.queues, now) else {
            return self.wait_for_timer();
        };
        let key = turn.choice.key;
        let event = self.queues.first(key);
        let (stale, reason) = match decide(&event, self.queues.has_resolve_behind(key)) {
            _ if self.is_superseded(key) => (None, Some(Reason::Superseded)),
            Decision::Send => (None, None),
            Decision::SendMarked { age } => (Some(age), None),
            Decision::End => (None, Some(Reason::Stale)),
        };
        if let Some(reason) = reason {
            if self.unsettled >= UNSENT_AT_ONCE {
                return Step::Wait;
            }
            // No call, so it costs nothing of the pace and tells nothing about the upstream.
            self.turns.take(turn, &mut self.queues);
            return Step::Settle(self.end_unsent(key, reason));
        }
        if let Err(wait) = self.pace.take(now) {
            // Whole milliseconds, rounded up: waking before the time would only ask again.
            let wait = Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
            return Step::WaitUntil(now.after(wait.max(Duration::from_millis(1))));
        }
        let lane = turn.choice.lane;
        self.turns.start(turn, &mut self.queues, now);
        self.queues.put(key, Place::Called);
        self.in_flight += 1;
        match lane {
            Lane::Fresh => self.left_fresh.count(now),
            Lane::Backlog => self.left_backlog.count(now),
            Lane::Retry => {}
        }
        let probe = self.breaker.started(if lane == Lane::Retry { Kind::Tried } else { Kind::Untried });
        let before = self.retries.get_mut(&key).map(|retry| {
            // Under way it waits for nothing that a later event could cut short.
            RetryState { answered: retry.answered.take(), ..*retry }
        });
        Step::Start(Delivery { event, key, before, probe, stale, lane, started: now })
    }

    /// The call of a delivery ended; its place among those under way is free. The key is not: what came of it
    /// must be on disk first, then [`Schedule::release`] or [`Schedule::again`] follows. Returns whose failure
    /// it is, if it failed.
    pub fn ended(
        &mut self,
        delivery: &Delivery,
        verdict: Verdict,
        retry_after: Option<Duration>,
        now: Monotonic,
    ) -> Option<FailureOf> {
        self.leave(delivery, now);
        self.unsettled += 1;
        self.queues.put(delivery.key, Place::Away);
        if delivery.lane == Lane::Fresh && matches!(verdict, Verdict::Again(_) | Verdict::Blocked(_)) {
            self.turns.failed(self.queues.source(delivery.key), now);
        }
        let failing_since = delivery.before.filter(|retry| retry.attempts > 0).map(|retry| retry.since);
        let call = breaker::Call {
            event: delivery.event.id,
            started: delivery.started,
            failing_since,
            probe: delivery.probe,
            verdict,
            retry_after,
        };
        self.breaker.record(call, now)
    }

    /// No call was made of a delivery, for a reason that says nothing about the upstream. It is tried again then.
    pub fn not_called(&mut self, delivery: &Delivery, at: Monotonic, now: Monotonic) {
        self.leave(delivery, now);
        self.breaker.not_called(delivery.probe);
        let retry = delivery.before.unwrap_or(RetryState { attempts: 0, since: at, resends: 0, answered: None });
        self.wait(delivery.key, retry, at);
    }

    /// No call was made of a delivery and none can be: its event ends. The key is free when [`Schedule::release`] follows.
    pub fn unsendable(&mut self, delivery: &Delivery, now: Monotonic) {
        self.leave(delivery, now);
        self.unsettled += 1;
        self.queues.put(delivery.key, Place::Away);
        self.breaker.not_called(delivery.probe);
    }

    /// The key's first event is settled, on disk. The key goes on with its next event. `done`: the upstream did what the
    /// event asked.
    pub fn release(&mut self, key: KeySlot, done: bool, now: Monotonic) {
        self.unsettled -= 1;
        self.retries.remove(&key);
        self.left.count(now);
        let undone = self.undone.remove(&key);
        let has_next = if undone { self.queues.pop_undone(key) } else { self.queues.pop(key, done) };
        if has_next {
            self.go_on(key, !undone, now);
        }
    }

    /// The key's first event is to be tried again then. Only its own key waits for it.
    pub fn again(&mut self, key: KeySlot, retry: RetryState, at: Monotonic) {
        self.unsettled -= 1;
        self.wait(key, retry, at);
    }

    /// Takes an event out, for a person who discards it.
    pub fn discard(&mut self, key: KeyId, event: EventId, now: Monotonic) -> Discard {
        let Some(slot) = self.queues.slot(key) else { return Discard::NotWaiting };
        if self.queues.first(slot).id == event {
            return match self.queues.place(slot) {
                Place::Away | Place::Called => Discard::UnderWay,
                Place::Lane(_) | Place::Retry | Place::Held | Place::Backoff => {
                    self.turns.remove(slot, &mut self.queues);
                    Discard::Settle(self.end_unsent(slot, Reason::Discarded))
                }
            };
        }
        let place = self.queues.place(slot);
        if matches!(place, Place::Lane(_)) {
            // What it counts as there depends on all that waits in the key.
            self.turns.remove(slot, &mut self.queues);
        }
        let removed = self.queues.remove_behind(slot, event);
        if let Place::Lane(spot) = place {
            self.turns.insert(slot, &mut self.queues, spot.follows(), now);
        }
        let result = Err(Reason::Discarded);
        removed
            .map_or(Discard::NotWaiting, |event| Discard::Settle(Withdrawn { event, key: None, attempts: 0, result }))
    }

    /// Holds a key back until it is let go; what is under way ends.
    pub fn hold_key(&mut self, key: KeyId, now: Monotonic) {
        self.held.entry(key).or_insert(self.breaker.running(now));
        if let Some(slot) = self.queues.slot(key)
            && matches!(self.queues.place(slot), Place::Lane(_) | Place::Retry)
        {
            self.turns.remove(slot, &mut self.queues);
            self.queues.put(slot, Place::Held);
        }
    }

    /// Lets a held key go on.
    pub fn let_go_key(&mut self, key: KeyId, now: Monotonic) {
        let (Some(since), Some(slot)) = (self.held.remove(&key), self.queues.slot(key)) else { return };
        self.forgive(since, now, |queues, held| queues.first(held).key == key);
        if self.queues.place(slot) == Place::Held {
            self.go_on(slot, false, now);
        }
    }

    /// Holds all of a source back until it is let go; what is under way ends.
    pub fn hold_source(&mut self, source: SourceId, now: Monotonic) {
        self.held_sources.entry(source).or_insert(self.breaker.running(now));
        self.turns.hold(source, now);
    }

    /// Lets a held source go on.
    pub fn let_go_source(&mut self, source: SourceId, now: Monotonic) {
        let Some(since) = self.held_sources.remove(&source) else { return };
        self.forgive(since, now, |queues, held| queues.source(held) == source);
        self.turns.let_go(source, now);
    }

    /// Whether a later event of this key waits behind the first.
    pub fn has_later(&self, key: KeySlot) -> bool {
        self.queues.has_next(key)
    }

    /// The breaker, to see why it is open and how time runs for events that are tried again.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// A secret changed: a pause is probed at once.
    pub fn resume(&mut self, now: Monotonic) {
        self.breaker.resume(now);
    }

    /// Every event that waits or is under way, in no order.
    pub fn events(&self) -> impl Iterator<Item = Pending> {
        self.queues.events()
    }

    /// Events that wait, those under way included.
    pub fn len(&self) -> usize {
        self.queues.len()
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

    /// How long what waits takes at the rate of the last minute; none while nothing ends.
    pub fn drain_time(&self, now: Monotonic) -> Option<Duration> {
        self.left.time_for(self.len(), now)
    }

    /// The same for the events of one lane, by their first attempts.
    pub fn lane_drain_time(&self, lane: Lane, now: Monotonic) -> Option<Duration> {
        let rate = match lane {
            Lane::Fresh => &self.left_fresh,
            Lane::Backlog => &self.left_backlog,
            Lane::Retry => &self.left,
        };
        rate.time_for(self.turns.events(lane), now)
    }

    /// A later event came for a key that is nowhere in a lane: if its first event only waits for a better answer, it
    /// waits no longer.
    fn cut_short(&mut self, key: KeySlot) -> Option<Withdrawn> {
        let answered = self.retries.get(&key).and_then(|retry| retry.answered)?;
        let retry = self.retries.remove(&key)?;
        // It may be its turn already.
        self.turns.remove(key, &mut self.queues);
        self.unsettled += 1;
        let event = self.queues.first(key);
        Some(Withdrawn { event, key: Some(key), attempts: retry.attempts, result: Ok(answered) })
    }

    fn end_unsent(&mut self, key: KeySlot, reason: Reason) -> Withdrawn {
        self.queues.put(key, Place::Away);
        self.unsettled += 1;
        if reason == Reason::Superseded {
            self.undone.insert(key);
        }
        let attempts = self.retries.remove(&key).map_or(0, |retry| retry.attempts);
        Withdrawn { event: self.queues.first(key), key: Some(key), attempts, result: Err(reason) }
    }

    fn is_superseded(&self, key: KeySlot) -> bool {
        self.limits.superseded == Superseded::End && !self.retries.contains_key(&key) && self.queues.is_undone(key)
    }

    fn leave(&mut self, delivery: &Delivery, now: Monotonic) {
        self.in_flight -= 1;
        self.turns.end(delivery.event.source, delivery.lane, delivery.started, now);
    }

    /// The key's first event may go. `follows`: the event before it was delivered a moment ago.
    fn go_on(&mut self, key: KeySlot, follows: bool, now: Monotonic) {
        if self.is_held(key) {
            self.queues.put(key, Place::Held);
        } else if self.retries.contains_key(&key) {
            self.turns.insert_retry(key, &mut self.queues, now);
        } else {
            self.turns.insert(key, &mut self.queues, follows, now);
        }
    }

    /// What was held since then by a person is no older for it.
    fn forgive(&mut self, since: Monotonic, now: Monotonic, held: impl Fn(&Queues, KeySlot) -> bool) {
        let running = self.breaker.running(now);
        for (_, retry) in self.retries.iter_mut().filter(|(key, _)| held(&self.queues, **key)) {
            retry.since = retry.since.after(running.since(since.max(retry.since)));
        }
    }

    fn is_held(&self, key: KeySlot) -> bool {
        !self.held.is_empty() && self.held.contains_key(&self.queues.first(key).key)
    }

    fn wait(&mut self, key: KeySlot, retry: RetryState, at: Monotonic) {
        let event = self.queues.first(key).id;
        self.queues.put(key, Place::Backoff);
        self.retries.insert(key, retry);
        self.timers.push(Reverse(Timer { at, key, event, attempts: retry.attempts }));
    }

    fn wake(&mut self, now: Monotonic) {
        while let Some(Reverse(timer)) = self.timers.peek().copied() {
            let waits = self.retries.get(&timer.key).is_some_and(|retry| retry.attempts == timer.attempts)
                && self.queues.first(timer.key).id == timer.event
                && self.queues.place(timer.key) == Place::Backoff;
            if waits && timer.at > now {
                return;
            }
            self.timers.pop();
            if waits {
                self.go_on(timer.key, false, now);
            }
        }
    }

    fn wait_for_timer(&self) -> Step {
        match self.timers.peek() {
            Some(Reverse(timer)) => Step::WaitUntil(timer.at),
            None => Step::Wait,
        }
    }
}

/// Ends without a call that wait for the disk. They cost no pace, so after a long outage there may be a million of them
/// at once, and new events come to the recorder beside them.
const UNSENT_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests;
