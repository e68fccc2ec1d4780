//! The delivery schedule: which event goes next. Events of a key go in order, one at a time, no key waits for another's
//! retries, and the pace, the concurrency and the breaker are respected.
//!
//! Sources take turns first, then the lanes of a source, then priorities, then keys. Retries get at most a quarter of
//! the calls and of the slots, so that an event that always fails or hangs delays only its own key.
//!
//! It stores event numbers only, in some sixty bytes each, so that a million may wait. It starts nothing and reads no
//! clock: the dispatcher asks for the next step and reports results.

mod alternation;
mod lanes;
mod queues;
mod rate;
mod survey;
mod turns;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::callgoose::answer::Verdict;
use crate::clock::Monotonic;
use crate::delivery::breaker::{self, Breaker, CallKind, FailureOf, Permit};
use crate::delivery::retry::RetryState;
use crate::delivery::staleness::StaleDecision;
use crate::event::{EventId, KeyId, Outcome, Pending, Queued, Reason, SourceId, Superseded};
use crate::token_bucket::TokenBucket;

pub(crate) use lanes::Lane;
pub use queues::KeySlot;
use queues::{KeyPosition, Queues};
use rate::Rate;
pub(crate) use survey::{SourceSurvey, Standing, Survey, WaitingKey};
use turns::Turns;

/// The limits of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent calls.
    pub concurrency: usize,
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    /// Finished calls whose settlement is not on disk yet: their keys are still blocked.
    pub unsettled: usize,
    pub breaker: breaker::Settings,
    pub superseded: Superseded,
}

/// All events waiting for delivery.
#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    breaker: Breaker,
    pace: TokenBucket,
    queues: Queues,
    turns: Turns,
    timers: BinaryHeap<Reverse<Timer>>,
    /// No key waits for longer, but for holds.
    last_timer: Monotonic,
    /// Keys whose first event was tried before; most keys are never here.
    retries: HashMap<KeySlot, RetryState>,
    /// Keys on hold, with or without waiting events.
    held: HashMap<KeyId, Monotonic>,
    held_sources: HashMap<SourceId, Monotonic>,
    /// Keys whose cancelled first event is being settled.
    undone: HashSet<KeySlot>,
    in_flight: usize,
    unsettled: usize,
    left: Rate,
    left_fresh: Rate,
    left_backlog: Rate,
    left_by_source: HashMap<SourceId, Rate>,
}

/// The time at which a key continues. An entry that no longer fits the key's state is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    at: Monotonic,
    key: KeySlot,
    event: EventId,
    attempts: u32,
}

/// A delivery to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub event: Queued,
    pub key: KeySlot,
    /// None on the first attempt.
    pub before: Option<RetryState>,
    /// True if it alone goes through an open breaker.
    pub probe: bool,
    /// Its age, if it must be marked as stale.
    pub stale: Option<Duration>,
    /// The lane from which it came.
    pub lane: Lane,
    pub started: Monotonic,
}

/// The next step of the dispatcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start this delivery.
    Start(Delivery),
    /// Settle this event without a call.
    Settle(ToSettle),
    /// Wait until then, or until something happens.
    WaitUntil(Monotonic),
    /// Wait until something happens.
    Wait,
}

/// An event to settle without a call, or without a further one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToSettle {
    pub event: Queued,
    /// None if it is not the first of its key, which then does not wait for it.
    pub key: Option<KeySlot>,
    pub attempts: u32,
    /// The answer that it has, if it was only sent again for a better one; else the reason why it ends unsent.
    pub result: Result<Outcome, Reason>,
}

/// The result of discarding an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Settle it; if it was the first of its key, the key continues once that is on disk.
    Settle(ToSettle),
    /// A call is under way, or it is being settled already.
    UnderWay,
    /// It is not waiting.
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
            last_timer: Monotonic(i64::MIN),
            retries: HashMap::new(),
            held: HashMap::new(),
            held_sources: HashMap::new(),
            undone: HashSet::new(),
            in_flight: 0,
            unsettled: 0,
            left: Rate::default(),
            left_fresh: Rate::default(),
            left_backlog: Rate::default(),
            left_by_source: HashMap::new(),
        }
    }

    /// Appends an event to its key. Returns the event before it, if that one need not wait any longer.
    pub fn enqueue(&mut self, event: &Queued, now: Monotonic) -> Option<ToSettle> {
        // The key's position depends on all its events.
        let (known, is_next) = match self.queues.slot(event.key) {
            Some(key) => match self.queues.place(key) {
                KeyPosition::Lane(spot) => {
                    self.turns.remove(key, &mut self.queues);
                    (false, spot.is_next())
                }
                _ => (true, false),
            },
            None => (false, false),
        };
        let (key, _) = self.queues.push(event);
        if known {
            return self.cut_short(key);
        }
        self.go_on(key, is_next, now);
        None
    }

    /// Adds an event with its retries from before a restart. It is the first of its key.
    pub fn enqueue_tried(&mut self, event: &Queued, retry: RetryState, at: Monotonic) {
        match self.queues.push(event) {
            (key, true) => self.wait(key, retry, at),
            (_, false) => debug_assert!(false, "only the first event of a key was tried"),
        }
    }

    /// Chooses the next step. A started delivery is under way until [`Schedule::call_ended`] is called; the key of an
    /// event that ends unsent is blocked until [`Schedule::settled`]. `decide` decides about an event, and is told if a
    /// resolve of its key waits after it.
    pub fn next(&mut self, now: Monotonic, decide: impl FnOnce(&Queued, bool) -> StaleDecision) -> Step {
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
            StaleDecision::Send => (None, None),
            StaleDecision::SendMarked { age } => (Some(age), None),
            StaleDecision::End => (None, Some(Reason::Stale)),
        };
        if let Some(reason) = reason {
            if self.unsettled >= UNSENT_AT_ONCE {
                return Step::Wait;
            }
            // Without a call, it uses no pace and says nothing about the upstream.
            self.turns.take(turn, &mut self.queues);
            return Step::Settle(self.end_unsent(key, reason));
        }
        if let Err(wait) = self.pace.take(now) {
            // Whole milliseconds, rounded up: waking earlier would only ask again.
            let wait = Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
            return Step::WaitUntil(now.after(wait.max(Duration::from_millis(1))));
        }
        let lane = turn.choice.lane;
        self.turns.start(turn, &mut self.queues, now);
        self.queues.put(key, KeyPosition::Called);
        self.in_flight += 1;
        match lane {
            Lane::Fresh => self.left_fresh.count(now),
            Lane::Backlog => self.left_backlog.count(now),
            Lane::Retry => {}
        }
        let probe = self.breaker.started(if lane == Lane::Retry { CallKind::Tried } else { CallKind::Untried });
        let before = self.retries.get_mut(&key).map(|retry| {
            // While its call is under way, a later event can't shorten its wait.
            RetryState { answered: retry.answered.take(), ..*retry }
        });
        Step::Start(Delivery { event, key, before, probe, stale, lane, started: now })
    }

    /// Notes the end of a delivery's call and frees its slot. The key stays blocked: the result must be on disk first,
    /// then [`Schedule::settled`] or [`Schedule::again`] follows. Returns the owner of the failure, if it failed.
    pub fn call_ended(
        &mut self,
        delivery: &Delivery,
        verdict: Verdict,
        retry_after: Option<Duration>,
        now: Monotonic,
    ) -> Option<FailureOf> {
        self.leave(delivery, now);
        self.unsettled += 1;
        self.queues.put(delivery.key, KeyPosition::Away);
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

    /// Notes that a delivery's call was not made, for a reason that says nothing about the upstream. It is retried at
    /// `at`.
    pub fn not_called(&mut self, delivery: &Delivery, at: Monotonic, now: Monotonic) {
        self.leave(delivery, now);
        self.breaker.not_called(delivery.probe);
        let retry = delivery.before.unwrap_or(RetryState { attempts: 0, since: at, resends: 0, answered: None });
        self.wait(delivery.key, retry, at);
    }

    /// Notes that a delivery's call can't be made: its event ends. The key is free after [`Schedule::settled`].
    pub fn unsendable(&mut self, delivery: &Delivery, now: Monotonic) {
        self.leave(delivery, now);
        self.unsettled += 1;
        self.queues.put(delivery.key, KeyPosition::Away);
        self.breaker.not_called(delivery.probe);
    }

    /// Removes the key's first event, whose settlement is on disk, and continues with the next. `done`: the upstream
    /// did what the event asked.
    pub fn settled(&mut self, key: KeySlot, done: bool, now: Monotonic) {
        self.unsettled -= 1;
        self.retries.remove(&key);
        self.left.count(now);
        self.left_by_source.entry(self.queues.source(key)).or_default().count(now);
        let undone = self.undone.remove(&key);
        let has_next = if undone { self.queues.pop_undone(key) } else { self.queues.pop(key, done) };
        if has_next {
            self.go_on(key, !undone, now);
        }
    }

    /// Schedules a retry of the key's first event. Only its own key waits for it.
    pub fn again(&mut self, key: KeySlot, retry: RetryState, at: Monotonic) {
        self.unsettled -= 1;
        self.wait(key, retry, at);
    }

    /// Removes an event that a person discards.
    pub fn discard(&mut self, key: KeyId, event: EventId, now: Monotonic) -> Discard {
        let Some(slot) = self.queues.slot(key) else { return Discard::NotWaiting };
        if self.queues.first(slot).id == event {
            return match self.queues.place(slot) {
                KeyPosition::Away | KeyPosition::Called => Discard::UnderWay,
                KeyPosition::Lane(_) | KeyPosition::Retry | KeyPosition::Held | KeyPosition::Backoff => {
                    self.turns.remove(slot, &mut self.queues);
                    Discard::Settle(self.end_unsent(slot, Reason::Discarded))
                }
            };
        }
        let place = self.queues.place(slot);
        if matches!(place, KeyPosition::Lane(_)) {
            // The key's position depends on all its events.
            self.turns.remove(slot, &mut self.queues);
        }
        let removed = self.queues.remove_behind(slot, event);
        if let KeyPosition::Lane(spot) = place {
            self.turns.insert(slot, &mut self.queues, spot.is_next(), now);
        }
        let result = Err(Reason::Discarded);
        removed.map_or(Discard::NotWaiting, |event| Discard::Settle(ToSettle { event, key: None, attempts: 0, result }))
    }

    /// Holds a key until it is released; a call under way is finished.
    pub fn hold_key(&mut self, key: KeyId, now: Monotonic) {
        self.held.entry(key).or_insert(self.breaker.running(now));
        if let Some(slot) = self.queues.slot(key)
            && matches!(self.queues.place(slot), KeyPosition::Lane(_) | KeyPosition::Retry)
        {
            self.turns.remove(slot, &mut self.queues);
            self.queues.put(slot, KeyPosition::Held);
        }
    }

    /// Releases a held key.
    pub fn release_key(&mut self, key: KeyId, now: Monotonic) {
        let (Some(since), Some(slot)) = (self.held.remove(&key), self.queues.slot(key)) else { return };
        self.forgive(since, now, |queues, held| queues.first(held).key == key);
        if self.queues.place(slot) == KeyPosition::Held {
            self.go_on(slot, false, now);
        }
    }

    /// Holds all events of a source until it is released; calls under way are finished.
    pub fn hold_source(&mut self, source: SourceId, now: Monotonic) {
        self.held_sources.entry(source).or_insert(self.breaker.running(now));
        self.turns.hold(source, now);
    }

    /// Releases a held source.
    pub fn release_source(&mut self, source: SourceId, now: Monotonic) {
        let Some(since) = self.held_sources.remove(&source) else { return };
        self.forgive(since, now, |queues, held| queues.source(held) == source);
        self.turns.release(source, now);
    }

    /// Returns true if a later event of this key waits after the first.
    pub fn has_later(&self, key: KeySlot) -> bool {
        self.queues.has_next(key)
    }

    /// The breaker, for its state and its clock.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Probes a paused upstream at once, after a secret changed.
    pub fn resume(&mut self, now: Monotonic) {
        self.breaker.resume(now);
    }

    /// All events that wait or are under way, in no order.
    pub fn events(&self) -> impl Iterator<Item = Pending> {
        self.queues.events()
    }

    /// The number of waiting events, including those under way.
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if no call is under way, and all settlements are on disk.
    pub fn is_quiet(&self) -> bool {
        self.in_flight == 0 && self.unsettled == 0
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The time until all that waits was sent, at the rate of the last minute, and not before the last retry is due;
    /// none while nothing ends, or may go out.
    pub fn drain_time(&self, now: Monotonic) -> Option<Duration> {
        if self.is_empty() {
            return Some(Duration::ZERO);
        }
        let is_idle = self.in_flight == 0 && self.is_nothing_due() && self.timers.is_empty();
        if is_idle || self.breaker.open_by().is_some() {
            return None;
        }
        Some(self.left.time_for(self.len(), now)?.max(self.last_timer.since(now)))
    }

    /// When the next call is due, if all that waits was tried before and waits for that.
    pub fn next_retry(&self) -> Option<Monotonic> {
        if self.in_flight > 0 || !self.is_nothing_due() || self.breaker.open_by().is_some() {
            return None;
        }
        self.timers.peek().map(|Reverse(timer)| timer.at)
    }

    /// Returns true if no event may go out at once.
    fn is_nothing_due(&self) -> bool {
        Lane::ALL.into_iter().all(|lane| self.turns.events(lane) == 0)
    }

    /// The time for the events of one lane, by the rate of their first attempts.
    pub fn lane_drain_time(&self, lane: Lane, now: Monotonic) -> Option<Duration> {
        let rate = match lane {
            Lane::Fresh => &self.left_fresh,
            Lane::Backlog => &self.left_backlog,
            Lane::Retry => &self.left,
        };
        let events = self.turns.events(lane);
        rate.time_for(events, now).filter(|_| events == 0 || self.breaker.open_by().is_none())
    }

    /// Ends the wait of a first event for a better answer, after a later event came for its key.
    fn cut_short(&mut self, key: KeySlot) -> Option<ToSettle> {
        let answered = self.retries.get(&key).and_then(|retry| retry.answered)?;
        let retry = self.retries.remove(&key)?;
        // It may be in a lane again already.
        self.turns.remove(key, &mut self.queues);
        self.unsettled += 1;
        let event = self.queues.first(key);
        Some(ToSettle { event, key: Some(key), attempts: retry.attempts, result: Ok(answered) })
    }

    fn end_unsent(&mut self, key: KeySlot, reason: Reason) -> ToSettle {
        self.queues.put(key, KeyPosition::Away);
        self.unsettled += 1;
        if reason == Reason::Superseded {
            self.undone.insert(key);
        }
        let attempts = self.retries.remove(&key).map_or(0, |retry| retry.attempts);
        ToSettle { event: self.queues.first(key), key: Some(key), attempts, result: Err(reason) }
    }

    fn is_superseded(&self, key: KeySlot) -> bool {
        self.limits.superseded == Superseded::End && !self.retries.contains_key(&key) && self.queues.is_undone(key)
    }

    fn leave(&mut self, delivery: &Delivery, now: Monotonic) {
        self.in_flight -= 1;
        self.turns.end(delivery.event.source, delivery.lane, delivery.started, now);
    }

    /// Makes the key's first event available. `is_next`: the event before it was delivered a moment ago.
    fn go_on(&mut self, key: KeySlot, is_next: bool, now: Monotonic) {
        if self.is_held(key) {
            self.queues.put(key, KeyPosition::Held);
        } else if self.retries.contains_key(&key) {
            self.turns.insert_retry(key, &mut self.queues, now);
        } else {
            self.turns.insert(key, &mut self.queues, is_next, now);
        }
    }

    /// Subtracts the time of a hold from the age of held events.
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
        self.queues.put(key, KeyPosition::Backoff);
        self.retries.insert(key, retry);
        self.last_timer = self.last_timer.max(at);
        self.timers.push(Reverse(Timer { at, key, event, attempts: retry.attempts }));
    }

    fn wake(&mut self, now: Monotonic) {
        while let Some(Reverse(timer)) = self.timers.peek().copied() {
            let waits = self.retries.get(&timer.key).is_some_and(|retry| retry.attempts == timer.attempts)
                && self.queues.first(timer.key).id == timer.event
                && self.queues.place(timer.key) == KeyPosition::Backoff;
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

/// The limit of unsent settlements that wait for the disk. They use no pace, so after a long outage there may be a
/// million at once, and new events need the recorder too.
const UNSENT_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests;
