//! What must always hold, checked from outside: the ledger sees what came, what was answered, what was called and
//! what is on disk, and asks nothing of the relay's own state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use gander::exports::delivery::schedule::Step;
use gander::exports::delivery::staleness::Then;
use gander::exports::event::{Action, EventId, Outcome, Reason, State, Superseded};
use gander::exports::journal::decide::EntryNumber;
use gander::exports::journal::dedup::Effect;

use crate::disk::Disk;
use crate::plan::Plan;
use crate::senders::Element;
use crate::upstream::{Kind, Upstream};

/// A promise that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub promise: Promise,
    pub how: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What was acknowledged is on disk, and ends.
    NothingLost,
    /// A key's events are called in the order in which they were taken, each after the end of the one before.
    Order,
    /// An event that ended is not called again.
    EndedIsEnded,
    /// What says something new is taken.
    NewIsTaken,
    /// What says the same again is a duplicate of the event that said it.
    RepeatIsDuplicate,
    /// A restart finds deduplication as it was.
    RestoredExactly,
    Concurrency,
    OnePerKey,
    /// After a refusal of the token or the endpoint, and after `breaker.failures`, one call at a time goes out until
    /// one is answered.
    SingleProbe,
    Pace,
    UnsettledLimit,
    /// No key waits for another.
    NobodyWaits,
    /// An event is given up when the upstream refuses it or after `give_up_after`, and not before.
    GivenUpForCause,
    /// An event is delivered when the upstream took it.
    DeliveredForCause,
    /// A trigger ends unsent, or is marked as late, where that is configured and it is old; and it ends only where a
    /// resolve of its key was taken later.
    StaleForCause,
    /// A trigger that is old is not sent as if it were news.
    LateIsSaid,
    /// A trigger and its resolve end unsent only where that is configured, and nothing was tried of them.
    SupersededForCause,
    /// What a person holds is not called.
    HeldIsHeld,
    /// When the troubles end, everything comes to rest.
    Quiesces,
}

impl Promise {
    pub const ALL: [Promise; 19] = [
        Promise::NothingLost,
        Promise::Order,
        Promise::EndedIsEnded,
        Promise::NewIsTaken,
        Promise::RepeatIsDuplicate,
        Promise::RestoredExactly,
        Promise::Concurrency,
        Promise::OnePerKey,
        Promise::SingleProbe,
        Promise::Pace,
        Promise::UnsettledLimit,
        Promise::NobodyWaits,
        Promise::GivenUpForCause,
        Promise::DeliveredForCause,
        Promise::StaleForCause,
        Promise::LateIsSaid,
        Promise::SupersededForCause,
        Promise::HeldIsHeld,
        Promise::Quiesces,
    ];
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Ledger {
    plan: Plan,
    /// Each key's events, in the order in which they were taken.
    lines: Vec<Vec<Taken>>,
    acknowledged: BTreeSet<EventId>,
    first_answer: BTreeMap<EventId, (i64, u32)>,
    /// How often deduplication was restored: what it has of times before that goes by the wall clock.
    restores: u32,
    /// What was ever called, in any life.
    tried: BTreeSet<EventId>,
    /// Keys that a person holds.
    held: BTreeSet<usize>,
    life: Life,
    /// What was counted, so that a test can tell that its worlds do not stand still.
    pub seen: Seen,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub taken: u64,
    pub duplicates: u64,
    pub calls: u64,
    pub delivered: u64,
    pub dead: u64,
    pub marked: u64,
    pub unsent: u64,
    pub crashes: u64,
    pub faults: u64,
}

#[derive(Clone, Debug)]
struct Taken {
    id: EventId,
    element: Element,
    time: i64,
    restores: u32,
    on_disk: bool,
    end: Option<End>,
    true_now: bool,
}

#[derive(Clone, Copy, Debug)]
struct End {
    state: State,
    ending: Effect,
    on_disk: bool,
}

/// What one life of the process has under way.
#[derive(Debug, Default)]
struct Life {
    started: i64,
    /// What the dispatcher was given and did not yet see settled.
    offered: BTreeMap<usize, VecDeque<EventId>>,
    in_flight: BTreeMap<usize, EventId>,
    unsettled: BTreeMap<usize, EventId>,
    /// What was to end without a call.
    unsent: BTreeSet<EventId>,
    not_before: BTreeMap<EventId, i64>,
    last_answer: BTreeMap<EventId, (i64, Kind)>,
    /// Failures since the last answer that count against the upstream.
    failures: u32,
    /// When the upstream last took or rejected something.
    succeeded: Option<i64>,
    /// When the calls under way started.
    started_at: BTreeMap<EventId, i64>,
    /// What was called in this life.
    tried: BTreeSet<EventId>,
    /// What was tried before, and is under way again.
    retrying: BTreeSet<EventId>,
    /// Calls that started while the breaker had to be open.
    probes: BTreeSet<EventId>,
    /// Calls that may be made now, and when that was so.
    allowance: f64,
    allowance_at: i64,
}

type Checked = Result<(), Broken>;

impl Ledger {
    pub fn new(plan: &Plan) -> Ledger {
        let mut ledger = Ledger {
            plan: plan.clone(),
            lines: vec![Vec::new(); plan.keys],
            acknowledged: BTreeSet::new(),
            first_answer: BTreeMap::new(),
            restores: 0,
            tried: BTreeSet::new(),
            held: BTreeSet::new(),
            life: Life::default(),
            seen: Seen::default(),
        };
        ledger.started(0);
        ledger
    }

    /// A process started, with a full allowance and nothing under way.
    pub fn started(&mut self, time: i64) {
        let allowance = f64::from(self.plan.limits.burst.get());
        self.life = Life { started: time, allowance, allowance_at: time, ..Life::default() };
    }

    /// What the relay decided of an element, in the order of its decisions.
    pub fn decided(&mut self, element: &Element, decided: EntryNumber, time: i64) -> Checked {
        let last = self.lines[element.key].last();
        let what = || format!("{element:?} after {last:?}: {decided:?}");
        let EntryNumber { id, duplicate } = decided;
        match (self.expected(element, last, time), duplicate) {
            (Expected::New, true) => return broken(Promise::NewIsTaken, what()),
            (Expected::DuplicateReason, false) => {
                return broken(Promise::RepeatIsDuplicate, what());
            }
            (_, true) if last.is_none_or(|last| last.id != id) => {
                return broken(Promise::RepeatIsDuplicate, what());
            }
            (_, true) => self.seen.duplicates += 1,
            (_, false) => {
                self.seen.taken += 1;
                self.lines[element.key].push(Taken {
                    id,
                    element: element.clone(),
                    time,
                    restores: self.restores,
                    on_disk: false,
                    end: None,
                    true_now: false,
                });
            }
        }
        Ok(())
    }

    /// What delivery promises of an arrival, by what was taken last for its key and how that ended.
    fn expected(&self, element: &Element, last: Option<&Taken>, time: i64) -> Expected {
        let Some(last) = last else {
            return Expected::New;
        };
        if last.end.is_some_and(|end| end.ending == Effect::None) {
            return Expected::New;
        }
        // A key may have been forgotten; then it is new again, or it was not, and anything may be right.
        let repeat = if self.plan.forgets() { Expected::Either } else { Expected::DuplicateReason };
        match (element.occurrence, last.element.occurrence) {
            (Some(this), Some(known)) if this < known => return repeat,
            (Some(this), Some(known)) if this > known => return Expected::New,
            (Some(_), Some(_)) if last.element.action == Action::Resolve => return repeat,
            // The one before may have had one: what counts then is more than the last event tells.
            (Some(_), None) => return Expected::Either,
            (Some(_), Some(_)) | (None, _) => {}
        }
        if element.action != last.element.action {
            return Expected::New;
        }
        if element.action == Action::Trigger && element.update != last.element.update {
            return Expected::New;
        }
        if last.end.is_none() {
            return repeat;
        }
        if element.action == Action::Trigger && !self.plan.dedup.remind {
            return repeat;
        }
        if self.plan.jumps > 0 && last.restores != self.restores {
            return Expected::Either;
        }
        let window = i64::try_from(self.plan.dedup.window.as_millis()).unwrap();
        if time - last.time < window { repeat } else { Expected::New }
    }

    /// How the relay is about to record that an event ended.
    pub fn settled(&mut self, key: usize, id: EventId, state: State, outcome: Option<Outcome>) -> Checked {
        if state == State::Ended {
            if !self.life.unsent.contains(&id) {
                return broken(Promise::StaleForCause, format!("{id} ended {state} and is not stale"));
            }
            let end = End { state, ending: Effect::None, on_disk: false };
            self.taken(key, id)?.end.get_or_insert(end);
            return Ok(());
        }
        let Some((answered, kind)) = self.life.last_answer.get(&id).copied() else {
            return broken(Promise::GivenUpForCause, format!("{id} ended {state} without an attempt"));
        };
        let (first, restores) = self.first_answer[&id];
        // What is remembered of times before a restart goes by the wall clock.
        let turned = self.plan.jumps > 0 && restores != self.restores;
        let age = if turned { i64::MAX } else { answered - first };
        let give_up_after = i64::try_from(self.plan.retry.give_up_after.as_millis()).unwrap();
        let taken = self.taken(key, id)?;
        match (state, kind) {
            (State::Delivered, Kind::Done { true_now }) => taken.true_now = true_now,
            (State::Delivered, _) => return broken(Promise::DeliveredForCause, format!("{id} by {kind:?}")),
            (State::Dead, Kind::Rejected) => {}
            (State::Dead, Kind::Later | Kind::Blocked) if age >= give_up_after => {}
            _ => return broken(Promise::GivenUpForCause, format!("{id} {state} by {kind:?} after {age} ms")),
        }
        let lost = state != State::Delivered || matches!(outcome, Some(Outcome::Unmatched | Outcome::NotResolved));
        let ending = if lost { Effect::None } else { Effect::Confirmed };
        // Told twice where a failed commit reached the disk after all.
        taken.end.get_or_insert(End { state, ending, on_disk: false });
        Ok(())
    }

    /// Everything decided and settled until now is on disk.
    pub fn committed(&mut self) {
        for taken in self.lines.iter_mut().flatten() {
            taken.on_disk = true;
            if let Some(end) = taken.end.as_mut().filter(|end| !end.on_disk) {
                end.on_disk = true;
                match end.state {
                    State::Delivered => self.seen.delivered += 1,
                    State::Ended => self.seen.unsent += 1,
                    _ => self.seen.dead += 1,
                }
            }
        }
    }

    /// The relay goes on from what is on disk: what was not committed never was, and what was must be there.
    pub fn restored(&mut self, disk: &Disk) -> Checked {
        self.restores += 1;
        for line in &mut self.lines {
            line.retain(|taken| taken.on_disk || disk.get(taken.id).is_some());
            for taken in line {
                taken.on_disk = true;
                let row = disk.get(taken.id);
                let ended_before = taken.end.is_some_and(|end| end.on_disk);
                match row {
                    // Only what ended is pruned.
                    None if ended_before => {}
                    None => return broken(Promise::NothingLost, format!("{taken:?} is not on disk")),
                    Some(row) if row.state == State::Queued && ended_before => {
                        return broken(Promise::EndedIsEnded, format!("{taken:?} is queued again"));
                    }
                    Some(row) if row.state == State::Queued => taken.end = None,
                    Some(_) => {
                        if let Some(end) = &mut taken.end {
                            end.on_disk = true;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A sender was told that these are kept, as events or as what others said already.
    pub fn acknowledged(&mut self, id: EventId) -> Checked {
        let kept = self.lines.iter().flatten().any(|taken| taken.id == id && taken.on_disk);
        if !kept {
            return broken(Promise::NothingLost, format!("{id} was acknowledged and is not on disk"));
        }
        self.acknowledged.insert(id);
        Ok(())
    }

    /// The dispatcher got an event.
    pub fn offered(&mut self, key: usize, id: EventId) {
        self.life.offered.entry(key).or_default().push_back(id);
    }

    pub fn call_started(&mut self, key: usize, id: EventId, late: Option<Duration>, time: i64) -> Checked {
        self.seen.calls += 1;
        let limits = self.plan.limits;
        if self.life.in_flight.contains_key(&key) || self.life.unsettled.contains_key(&key) {
            return broken(Promise::OnePerKey, format!("{id}"));
        }
        if self.life.in_flight.len() >= limits.concurrency {
            return broken(Promise::Concurrency, format!("{id} while {:?} are under way", self.life.in_flight));
        }
        if self.life.unsettled.len() >= limits.unsettled {
            return broken(Promise::UnsettledLimit, format!("{id} while {:?} wait", self.life.unsettled));
        }
        let allowance = self.allowance(time);
        // Waits are whole milliseconds, and so is the time here.
        if allowance < 1.0 - 1e-6 {
            return broken(Promise::Pace, format!("{id} with an allowance of {allowance}"));
        }
        (self.life.allowance, self.life.allowance_at) = (allowance - 1.0, time);
        let line = &self.lines[key];
        let Some(at) = line.iter().position(|taken| taken.id == id) else {
            return broken(Promise::Order, format!("{id} was never taken"));
        };
        if line[at].end.is_some() {
            return broken(Promise::EndedIsEnded, format!("{:?} is called again", line[at]));
        }
        if let Some(before) = line[..at].iter().find(|taken| taken.end.is_none_or(|end| !end.on_disk)) {
            return broken(Promise::Order, format!("{id} is called before the end of {before:?} is on disk"));
        }
        if let Some(after) = line[at..].iter().find(|taken| taken.end.is_some()) {
            return broken(Promise::Order, format!("{id} is called after {after:?}"));
        }
        self.late_for_cause(&line[at], late.is_some(), time)?;
        let ends = self.plan.stale.is_some_and(|stale| stale.then == Then::End);
        if late.is_some() && ends && self.is_offered_a_resolve_behind(key, id) {
            return broken(Promise::LateIsSaid, format!("{:?} is called before a resolve", line[at]));
        }
        if self.held.contains(&key) {
            return broken(Promise::HeldIsHeld, format!("{:?} is called", self.lines[key][at]));
        }
        if self.life.failures >= limits.breaker.failures {
            if !self.life.probes.is_empty() {
                return broken(Promise::SingleProbe, format!("{id} while {:?} probe", self.life.probes));
            }
            self.life.probes.insert(id);
        }
        self.seen.marked += u64::from(late.is_some());
        self.life.in_flight.insert(key, id);
        self.life.started_at.insert(id, time);
        self.tried.insert(id);
        self.life.tried.insert(id);
        if self.life.not_before.contains_key(&id) {
            self.life.retrying.insert(id);
        }
        Ok(())
    }

    /// An event is about to end without a call.
    pub fn ends_unsent(&mut self, key: usize, id: EventId, reason: &Reason, disk: &Disk, time: i64) -> Checked {
        if self.life.in_flight.contains_key(&key) || self.life.unsettled.contains_key(&key) {
            return broken(Promise::OnePerKey, format!("{id}"));
        }
        if self.life.unsettled.len() >= self.plan.limits.unsettled {
            return broken(Promise::UnsettledLimit, format!("{id} while {:?} wait", self.life.unsettled));
        }
        let line = &self.lines[key];
        let Some(at) = line.iter().position(|taken| taken.id == id) else {
            return broken(Promise::Order, format!("{id} was never taken"));
        };
        if line[at].end.is_some() {
            return broken(Promise::EndedIsEnded, format!("{:?} ends again", line[at]));
        }
        if let Some(before) = line[..at].iter().find(|taken| taken.end.is_none_or(|end| !end.on_disk)) {
            return broken(Promise::Order, format!("{id} ends before the end of {before:?} is on disk"));
        }
        if *reason == Reason::Superseded {
            self.superseded_for_cause(key, at, disk)?;
            self.life.unsent.insert(id);
            self.life.unsettled.insert(key, id);
            return Ok(());
        }
        self.late_for_cause(&line[at], true, time)?;
        let closes = |taken: &Taken| taken.on_disk && taken.element.action == Action::Resolve;
        let may_end = self.plan.stale.is_some_and(|stale| stale.then == Then::End);
        if !may_end || !line[at + 1..].iter().any(closes) {
            return broken(Promise::StaleForCause, format!("{:?} ends and no resolve follows", line[at]));
        }
        self.life.unsent.insert(id);
        self.life.unsettled.insert(key, id);
        Ok(())
    }

    /// Nothing was tried of it, and a resolve of its key was taken later; or it is that resolve, and nothing was ever
    /// tried of the incident that it closes.
    fn superseded_for_cause(&self, key: usize, at: usize, disk: &Disk) -> Checked {
        let line = &self.lines[key];
        let tried = |taken: &Taken| self.tried.contains(&taken.id);
        let is = |taken: &Taken, action| taken.element.action == action;
        let ended = |taken: &Taken| taken.end.is_some_and(|end| end.state == State::Ended);
        let cause = match line[at].element.action {
            Action::Trigger => line[at + 1..].iter().any(|taken| taken.on_disk && is(taken, Action::Resolve)),
            Action::Resolve => {
                let triggers = line[..at].iter().rev().take_while(|taken| is(taken, Action::Trigger)).count();
                let (before, incident) = line[..at].split_at(at - triggers);
                // What is pruned nobody can know any more.
                let known = |taken: &&Taken| disk.get(taken.id).is_some();
                let closed = before.last().filter(known).and_then(|resolve| resolve.end);
                triggers > 0
                    && incident.iter().filter(known).all(|taken| ended(taken) && !tried(taken))
                    && closed.is_none_or(|end| matches!(end.state, State::Delivered | State::Ended))
            }
        };
        // Of a call before a restart nobody may know; then its resolve goes out.
        let tried = self.life.tried.contains(&line[at].id) || is(&line[at], Action::Resolve) && tried(&line[at]);
        if self.plan.limits.superseded == Superseded::Send || tried || !cause {
            return broken(Promise::SupersededForCause, format!("{:?} ends unsent in {line:?}", line[at]));
        }
        Ok(())
    }

    /// A person holds a key, or lets it go.
    pub fn hold(&mut self, key: usize, held: bool) {
        if held {
            self.held.insert(key)
        } else {
            self.held.remove(&key)
        };
    }

    /// Whether an event is said to be late, or not, as it should be by the time that passed in the world.
    fn late_for_cause(&self, taken: &Taken, said: bool, time: i64) -> Checked {
        let limit = self.plan.stale.map(|stale| i64::try_from(stale.trigger.as_millis()).unwrap());
        let age = time - taken.time;
        let old = taken.element.action == Action::Trigger && limit.is_some_and(|limit| age > limit);
        // What came in this life ages by no clock that can be turned.
        let steady = self.plan.jumps == 0 || taken.time >= self.life.started;
        let can_be = taken.element.action == Action::Trigger && limit.is_some();
        if said && !(can_be && (old || !steady)) {
            return broken(Promise::StaleForCause, format!("{taken:?} is late after {age} ms of {limit:?}"));
        }
        // What a fault left on disk though its commit failed is as old as its finding; and ages are rounded down to seconds.
        let came = taken.restores == self.restores;
        let found = self.plan.jumps == 0 && taken.time < self.life.started;
        if !said && old && (came || found) && limit.is_some_and(|limit| age > limit + 1_000) {
            return broken(Promise::LateIsSaid, format!("{taken:?} is news after {age} ms of {limit:?}"));
        }
        Ok(())
    }

    fn is_offered_a_resolve_behind(&self, key: usize, id: EventId) -> bool {
        let offered = |taken: &&Taken| self.life.offered.get(&key).is_some_and(|line| line.contains(&taken.id));
        let mut behind = self.lines[key].iter().filter(|taken| taken.id > id).filter(offered);
        behind.any(|taken| taken.element.action == Action::Resolve)
    }

    pub fn call_ended(&mut self, key: usize, id: EventId, kind: Kind, time: i64) {
        self.life.in_flight.remove(&key);
        self.life.probes.remove(&id);
        self.life.retrying.remove(&id);
        let started = self.life.started_at.remove(&id).unwrap_or(time);
        let first = self.first_answer.get(&id).map(|(at, _)| *at);
        // While others are taken it is the event's own fault.
        let open = i64::try_from(self.plan.limits.breaker.open.as_millis()).unwrap();
        let own = self.life.succeeded.is_some_and(|at| started - at < open || first.is_some_and(|first| first <= at));
        self.life.failures = match kind {
            Kind::Done { .. } | Kind::Rejected => 0,
            Kind::Blocked | Kind::Later if own => self.life.failures,
            Kind::Blocked => u32::MAX,
            Kind::Later => self.life.failures.saturating_add(1),
        };
        if matches!(kind, Kind::Done { .. } | Kind::Rejected) {
            self.life.succeeded = Some(time);
            self.life.probes.clear();
        }
        self.life.unsettled.insert(key, id);
        self.first_answer.entry(id).or_insert((time, self.restores));
        self.life.last_answer.insert(id, (time, kind));
    }

    pub fn tried_again_at(&mut self, key: usize, id: EventId, at: i64) {
        self.life.unsettled.remove(&key);
        self.waits_until(id, at);
    }

    pub fn waits_until(&mut self, id: EventId, at: i64) {
        self.life.not_before.insert(id, at);
    }

    /// A later event came while this one only waited for a better answer.
    pub fn overtaken(&mut self, key: usize, id: EventId) {
        self.life.unsettled.insert(key, id);
    }

    /// The dispatcher goes on with the key's next event.
    pub fn released(&mut self, key: usize) {
        self.life.unsettled.remove(&key);
        self.life.offered.entry(key).or_default().pop_front();
    }

    /// The dispatcher starts nothing more now, and the breaker would let it: then nothing may be ready.
    pub fn idle(&self, next: &Step, time: i64) -> Checked {
        let life = &self.life;
        let limits = self.plan.limits;
        // A tenth more than one call, for the milliseconds that waits are rounded up to.
        if life.in_flight.len() >= limits.concurrency
            || life.unsettled.len() >= limits.unsettled
            || self.allowance(time) < 1.1_f64.min(f64::from(limits.burst.get()))
        {
            return Ok(());
        }
        for (key, line) in &life.offered {
            let Some(first) = line.front() else { continue };
            let busy = life.in_flight.contains_key(key) || life.unsettled.contains_key(key);
            if self.held.contains(key) {
                continue;
            }
            // What failed before gets a quarter of the places.
            if life.not_before.contains_key(first) && life.retrying.len() >= (limits.concurrency / 4).max(1) {
                continue;
            }
            if !busy && life.not_before.get(first).is_none_or(|at| *at <= time) {
                return broken(Promise::NobodyWaits, format!("{first} is ready and {next:?} is said"));
            }
        }
        Ok(())
    }

    /// Nothing happens any more.
    pub fn at_rest(&self, disk: &Disk, upstream: &Upstream) -> Checked {
        for taken in self.lines.iter().flatten() {
            if taken.end.is_none_or(|end| !end.on_disk) {
                let promise =
                    if self.acknowledged.contains(&taken.id) { Promise::NothingLost } else { Promise::Quiesces };
                return broken(promise, format!("{taken:?} did not end"));
            }
        }
        if let Some(row) = disk.rows().find(|row| row.state == State::Queued) {
            return broken(Promise::Quiesces, format!("{row:?} is still queued"));
        }
        for (key, line) in self.lines.iter().enumerate() {
            let Some(last) = line.last().filter(|last| last.true_now) else { continue };
            if upstream.is_open(key) != (last.element.action == Action::Trigger) {
                return broken(
                    Promise::Order,
                    format!("{last:?} was delivered last and the upstream has it otherwise"),
                );
            }
        }
        Ok(())
    }

    fn allowance(&self, time: i64) -> f64 {
        let (limits, life) = (self.plan.limits, &self.life);
        let gained = (time - life.allowance_at) as f64 / 1_000.0 * f64::from(limits.per_second.get());
        (life.allowance + gained).min(f64::from(limits.burst.get()))
    }

    fn taken(&mut self, key: usize, id: EventId) -> Result<&mut Taken, Broken> {
        self.lines[key]
            .iter_mut()
            .find(|taken| taken.id == id)
            .ok_or_else(|| Broken { promise: Promise::Order, how: format!("{id} ended and was never taken") })
    }
}

enum Expected {
    New,
    DuplicateReason,
    Either,
}

fn broken(promise: Promise, how: String) -> Checked {
    Err(Broken { promise, how })
}

impl Seen {
    pub fn and(self, other: Seen) -> Seen {
        Seen {
            taken: self.taken + other.taken,
            duplicates: self.duplicates + other.duplicates,
            calls: self.calls + other.calls,
            delivered: self.delivered + other.delivered,
            dead: self.dead + other.dead,
            marked: self.marked + other.marked,
            unsent: self.unsent + other.unsent,
            crashes: self.crashes + other.crashes,
            faults: self.faults + other.faults,
        }
    }
}
