//! A world in which time is a number: senders, the relay's process, its disk and the upstream, one step at a time.
//!
//! The decisions are the relay's own: the recorder's core from requests to facts, schedule, outcome and retry. What stands
//! between them in the relay, channels, threads and files, is here a list of steps with random short waits between, before
//! any of which the process may be killed. One seed is one world, whatever machine it runs on.

mod dispatcher;
mod recorder;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use gander::exports::clock::{Monotonic, Now, WallTime};
use gander::exports::delivery::breaker;
use gander::exports::delivery::schedule::{KeySlot, Limits, Schedule};
use gander::exports::event::{Action, EventId, State};
use gander::exports::journal::decide::EntryNumber;
use gander::exports::journal::dedup::{AcceptReason, Dedup, DedupDecision};
use gander::exports::journal::recorder::core::Core;
use gander::exports::journal::request::Settle;
use gander::exports::journal::state::restore_key;
use gander::exports::journal::{RestoredEvent, StoredRetry};

use crate::disk::Disk;
use crate::files::Files;
use crate::ledger::{Broken, Ledger, Promise, Seen};
use crate::plan::{Plan, Without};
use crate::senders::{Element, Request, key_id, stories};
use crate::upstream::{Mode, Upstream};

use dispatcher::Calls;
use recorder::{Desk, new_core};

pub struct World {
    plan: Plan,
    without: Without,
    rng: Rng,
    /// Milliseconds since the world began.
    time: i64,
    /// What the wall clock is ahead of the time.
    wall_ahead: i64,
    steps: BTreeMap<(i64, u64), (Option<u32>, Step)>,
    number: u64,
    requests: Vec<Request>,
    disk: Disk,
    upstream: Upstream,
    /// Keys that a person holds.
    held: BTreeSet<usize>,
    ledger: Ledger,
    relay: Option<Relay>,
    /// Counts the process's lives: a step of an earlier one never happens.
    life: u32,
    trace: Option<Vec<String>>,
}

/// One life of the process: all that a kill takes.
struct Relay {
    started: i64,
    /// The same moment on its own clocks.
    start: Now,
    core: Core,
    schedule: Schedule,
    desk: Desk,
    calls: Calls,
}

#[derive(Debug)]
enum Step {
    Arrive(usize),
    Boot,
    Jump(i64),
    Turn(Mode),
    /// A person holds a key, or lets it go.
    Hold(usize, bool),
    // What follows belongs to one life of the process.
    Decide,
    Commit,
    Heal,
    Answer {
        request: usize,
        receipts: Vec<EntryNumber>,
    },
    Refuse {
        request: usize,
    },
    HandOver,
    Wake,
    Answered(u64),
    Tell(Box<Settle>),
    Note {
        id: EventId,
        tried: StoredRetry,
    },
    Release {
        key: usize,
        slot: KeySlot,
        done: bool,
    },
}

/// How a world went.
pub struct End {
    pub result: Result<Seen, Broken>,
    pub trace: Vec<String>,
}

/// Runs a seed's world to its end, or to the first broken promise.
pub fn run(seed: u64, without: Without, traced: bool) -> End {
    World::new(seed, without, traced).end()
}

/// The same with the real journal beside the model of it.
pub fn run_on_files(seed: u64) -> End {
    let mut world = World::new(seed, Without::Nothing, false);
    world.disk = Disk::new(Some(Files::new()));
    world.end()
}

impl World {
    fn end(mut self) -> End {
        let result = self.live().map(|()| self.ledger.seen);
        End { result, trace: self.trace.unwrap_or_default() }
    }

    fn new(seed: u64, without: Without, traced: bool) -> World {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let (requests, arrivals) = stories(&plan, &mut rng);
        let mut world = World {
            without,
            time: 0,
            wall_ahead: 0,
            steps: BTreeMap::new(),
            number: 0,
            requests,
            disk: Disk::new(None),
            upstream: Upstream::new(plan.keys, plan.poison),
            held: BTreeSet::new(),
            ledger: Ledger::new(&plan),
            relay: None,
            life: 0,
            trace: traced.then(|| vec![format!("{plan:?}")]),
            rng,
            plan,
        };
        world.at(0, Step::Boot);
        for (time, request) in arrivals {
            world.at(time, Step::Arrive(request));
        }
        for _ in 0..world.plan.jumps {
            let far = [1_000, 60_000, 10_000_000][world.rng.usize(0..3)];
            let (time, by) = (world.rng.i64(0..world.plan.chaos), world.rng.i64(-far..=far));
            world.at(time, Step::Jump(by));
        }
        let mut time = 0;
        while time < world.plan.chaos {
            let mode = Mode::any(&mut world.rng);
            world.at(time, Step::Turn(mode));
            time += world.rng.i64(1_000..30_000);
        }
        world.at(world.plan.chaos, Step::Turn(Mode::Up));
        for _ in 0..world.plan.holds {
            let (key, time) = (world.rng.usize(0..world.plan.keys), world.rng.i64(0..world.plan.chaos));
            let until = world.rng.i64(time..world.plan.chaos);
            world.at(time, Step::Hold(key, true));
            world.at(until, Step::Hold(key, false));
        }
        world
    }

    fn live(&mut self) -> Result<(), Broken> {
        while let Some(((time, number), (life, step))) = self.steps.pop_first() {
            if life.is_some_and(|life| life != self.life) {
                continue;
            }
            self.time = time;
            if number > STEPS_MAX || time > self.plan.chaos + REST_MAX {
                return Err(Broken { promise: Promise::Quiesces, how: format!("{step:?} still happens") });
            }
            if life.is_some() && self.troubled() && self.rng.f64() < self.plan.crash {
                self.crash(&step)?;
                continue;
            }
            self.note(|| format!("{step:?}"));
            self.step(step)?;
        }
        self.compare()?;
        if let Some(relay) = &self.relay
            && !(relay.schedule.is_empty() && relay.schedule.is_quiet())
        {
            let how = format!("{} events wait in the schedule", relay.schedule.len());
            return Err(Broken { promise: Promise::Quiesces, how });
        }
        self.ledger.at_rest(&self.disk, &self.upstream)
    }

    fn step(&mut self, step: Step) -> Result<(), Broken> {
        match step {
            Step::Arrive(request) => self.arrive(request),
            Step::Boot => return self.boot(),
            Step::Jump(by) => self.wall_ahead += by,
            Step::Turn(mode) => self.upstream.turn(mode),
            Step::Hold(key, held) => return self.hold(key, held),
            Step::Decide => return self.decide(),
            Step::Commit => return self.commit(),
            Step::Heal => return self.heal(),
            Step::Answer { request, receipts } => return self.answer(request, &receipts),
            Step::Refuse { request } => {
                self.relay().desk.waiting.remove(&request);
                self.send_again(request);
            }
            Step::HandOver => return self.hand_over(),
            Step::Wake => {
                self.relay().calls.wake_at = None;
                return self.start_what_may();
            }
            Step::Answered(call) => return self.answered(call),
            Step::Tell(settle) => {
                self.relay().desk.settle(*settle);
                self.call_recorder();
            }
            Step::Note { id, tried } => {
                self.relay().desk.attempted(id, tried);
                self.call_recorder();
            }
            Step::Release { key, slot, done } => return self.release(key, slot, done),
        }
        Ok(())
    }

    /// A request reaches the relay, or finds nobody.
    fn arrive(&mut self, request: usize) {
        self.requests[request].sent += 1;
        if self.relay.is_none() {
            self.send_again(request);
            return;
        }
        self.submit(request);
        self.call_recorder();
    }

    /// A sender who was not told that it is kept comes again, as long as its patience lasts.
    fn send_again(&mut self, request: usize) {
        if self.requests[request].sent < SENDS_MAX {
            let later = self.rng.i64(500..8_000);
            self.at(later, Step::Arrive(request));
        }
    }

    fn answer(&mut self, request: usize, receipts: &[EntryNumber]) -> Result<(), Broken> {
        self.relay().desk.waiting.remove(&request);
        for receipt in receipts {
            self.ledger.acknowledged(receipt.id)?;
        }
        // Some senders never hear the answer.
        if self.rng.u32(0..20) == 0 {
            self.send_again(request);
        }
        Ok(())
    }

    /// The process is killed: what is not on disk is gone.
    fn crash(&mut self, before: &Step) -> Result<(), Broken> {
        self.note(|| format!("killed before {before:?}"));
        if self.relay().desk.is_clean() {
            self.compare()?;
        }
        self.ledger.seen.crashes += 1;
        self.life += 1;
        let waiting = self.relay.take().map(|relay| relay.desk.waiting).unwrap_or_default();
        for request in waiting {
            self.send_again(request);
        }
        let down = self.rng.i64(10..5_000);
        self.at(down, Step::Boot);
        Ok(())
    }

    /// The journal keeps what is held, so that a restart knows it.
    fn hold(&mut self, key: usize, held: bool) -> Result<(), Broken> {
        self.ledger.hold(key, held);
        if held {
            self.held.insert(key)
        } else {
            self.held.remove(&key)
        };
        let now = self.now().monotonic;
        let Some(relay) = self.relay.as_mut().filter(|_| self.without != Without::Holds) else { return Ok(()) };
        if held {
            relay.schedule.hold_key(key_id(key), now);
            return Ok(());
        }
        relay.schedule.release_key(key_id(key), now);
        self.start_what_may()
    }

    fn boot(&mut self) -> Result<(), Broken> {
        let limits = match (self.without, self.plan.limits) {
            (Without::Concurrency, limits) => Limits { concurrency: usize::MAX, ..limits },
            (Without::Breaker, limits) => {
                Limits { breaker: breaker::Settings { failures: u32::MAX, ..limits.breaker }, ..limits }
            }
            (Without::Pace, limits) => Limits { per_second: MANY, burst: MANY, ..limits },
            (Without::UnsettledLimit, limits) => Limits { unsettled: usize::MAX, ..limits },
            (_, limits) => limits,
        };
        let mut relay = Relay {
            started: self.time,
            start: Now { monotonic: Monotonic(0), wall: self.now().wall },
            core: new_core(Dedup::new(self.plan.dedup), &self.plan, self.disk.last()),
            schedule: Schedule::new(limits),
            desk: Desk::default(),
            calls: Calls::new(self.plan.retry.unresolved.over),
        };
        if self.without != Without::Holds {
            self.held.iter().for_each(|key| relay.schedule.hold_key(key_id(*key), Monotonic(0)));
        }
        self.relay = Some(relay);
        if self.life > 0 {
            self.disk.opened();
            self.ledger.restored(&self.disk)?;
        }
        self.ledger.started(self.time);
        let core = new_core(self.restored_dedup(), &self.plan, self.disk.last());
        self.relay().core = core;
        let found_at = self.now();
        let queued: Vec<_> = self
            .disk
            .rows()
            .filter(|row| match self.without {
                Without::RecoveredQueue => false,
                Without::RecoveredEnds => true,
                _ => row.state == State::Queued,
            })
            // Without order several events of a key may have been tried, which the schedule rules out.
            .map(|row| (row.key, row.queued(found_at), row.tried.filter(|_| self.without == Without::Nothing)))
            .collect();
        let now = self.now();
        for (key, event, tried) in queued {
            self.ledger.offered(key, event.id);
            if tried.is_some() {
                // How long it waits goes by a clock that may have been turned; that it goes on at all is seen at the end.
                self.ledger.waits_until(event.id, i64::MAX);
            }
            if self.without == Without::UntriedOnly {
                let event = gander::exports::event::Queued { continues: false, ..event };
                self.relay().schedule.enqueue(&event, now.monotonic);
                continue;
            }
            let retry = self.plan.retry;
            gander::exports::delivery::dispatcher::restore(&mut self.relay().schedule, &event, tried, retry, now);
        }
        self.start_what_may()
    }

    /// Deduplication as the journal restores it.
    fn restored_dedup(&self) -> Dedup {
        let mut dedup = Dedup::new(self.plan.dedup);
        if self.without == Without::RecoveredKeys {
            return dedup;
        }
        let now = self.now();
        for row in self.disk.rows() {
            let (state, outcome) = match self.without {
                Without::RecoveredEndings => (State::Queued, None),
                _ => (row.state, row.outcome),
            };
            restore_key(&mut dedup, &RestoredEvent { state, outcome, ..row.restored() }, now);
        }
        dedup
    }

    /// What a restart would restore now decides like what is there, whatever came next. Where the wall clock
    /// jumped only decisions after every window are the same. Where there are too many keys a restart may forget others,
    /// since it sees at once how events ended; what both know is the same.
    fn compare(&self) -> Result<(), Broken> {
        let Some(relay) = &self.relay else {
            return Ok(());
        };
        let restored = self.restored_dedup();
        let now = self.now();
        let later = |monotonic| Now { monotonic, ..now };
        let mut moments = vec![later(Monotonic(i64::MAX / 4))];
        if self.plan.jumps == 0 {
            let window = self.plan.dedup.window;
            moments.extend([now, later(now.monotonic.after(window / 2)), later(now.monotonic.after(window))]);
        }
        for key in 0..self.plan.keys {
            let probe = |action, update, occurrence| Element { key, action, update, occurrence };
            let opening = probe(Action::Trigger, 0, None);
            let unknown =
                |dedup: &Dedup| dedup.decide(opening.arrival(None), now) == DedupDecision::Take(AcceptReason::Opening);
            if self.plan.forgets() && (unknown(relay.core.state.dedup()) || unknown(&restored)) {
                continue;
            }
            let occurrences = if self.plan.occurrences { 0..self.requests.len() as u64 } else { 0..0 };
            let occurrences = std::iter::once(None).chain(occurrences.step_by(2).map(Some));
            for occurrence in occurrences {
                for element in [
                    probe(Action::Trigger, 0, occurrence),
                    probe(Action::Trigger, 1, occurrence),
                    probe(Action::Resolve, 0, occurrence),
                ] {
                    let named = element.named();
                    let arrival = element.arrival(named.as_ref());
                    for at in &moments {
                        let (live, again) =
                            (relay.core.state.dedup().decide(arrival, *at), restored.decide(arrival, *at));
                        if live != again {
                            let how = format!("{element:?} at {at:?} is {live:?}, after a restart {again:?}");
                            return Err(Broken { promise: Promise::RestoredExactly, how });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let started = self.relay.as_ref().map_or(0, |relay| relay.started);
        Now { monotonic: Monotonic(self.time - started), wall: WallTime(WALL_START + self.time + self.wall_ahead) }
    }

    /// Whether troubles may still come.
    fn troubled(&self) -> bool {
        self.time < self.plan.chaos
    }

    fn relay(&mut self) -> &mut Relay {
        self.relay.as_mut().expect("a step of the relay happens only while it lives")
    }

    /// Something happens in the world, whatever becomes of the relay.
    fn at(&mut self, wait: i64, step: Step) {
        self.push(wait, None, step);
    }

    /// Something happens in this life of the relay.
    fn soon(&mut self, wait: i64, step: Step) {
        let life = self.life;
        self.push(wait, Some(life), step);
    }

    fn push(&mut self, wait: i64, life: Option<u32>, step: Step) {
        self.number += 1;
        self.steps.insert((self.time + wait, self.number), (life, step));
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9} {}", self.time, line()));
        }
    }
}

impl Relay {
    fn rests_on(&self, key: usize, id: EventId) -> bool {
        self.core.state.dedup().rests_on(key_id(key), id)
    }
}

/// More steps than any world takes that comes to rest.
const STEPS_MAX: u64 = 200_000;
/// The longest `Retry-After` of the script, the longest backoff and the slowest pace end well within it.
const REST_MAX: i64 = 600_000;
/// A sender's patience.
const SENDS_MAX: u32 = 12;
const WALL_START: i64 = 1_735_689_600_000;
const MANY: std::num::NonZeroU32 = std::num::NonZeroU32::new(1_000_000).unwrap();
