//! The dispatcher's part: asks the schedule what to do, calls, judges, and tells the recorder how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use gander::exports::callgoose::answer::{Body, Verdict, judge};
use gander::exports::clock::{Monotonic, WallTime};
use gander::exports::delivery::breaker::{Permit, Waiting};
use gander::exports::delivery::dispatcher::{JudgedCall, RecentTriggers, next_step, tried_before};
use gander::exports::delivery::retry::{self, NextStep, RetryState};
use gander::exports::delivery::schedule::{self, KeySlot, ToSettle};
use gander::exports::delivery::staleness::{self, StaleDecision};
use gander::exports::event::{Action, KeyId, Outcome, Queued, Reason, Settlement, State};
use gander::exports::journal::StoredRetry;
use gander::exports::journal::request::Settle;

use super::recorder::is_done;
use super::{Step, World};
use crate::ledger::{Broken, Promise};
use crate::plan::Without;
use crate::senders::key_id;
use crate::upstream::Reply;

/// What the dispatcher has under way.
#[derive(Debug)]
pub(super) struct Calls {
    recent_triggers: RecentTriggers,
    under_way: BTreeMap<u64, Call>,
    number: u64,
    /// When it looks again.
    pub(super) wake_at: Option<i64>,
    /// Where one key's backoff holds up all, until when.
    held_until: i64,
}

#[derive(Debug)]
struct Call {
    delivery: schedule::Delivery,
    key: usize,
    reply: Reply,
}

impl Calls {
    pub(super) fn new(lately: Duration) -> Calls {
        Calls {
            recent_triggers: RecentTriggers::new(lately),
            under_way: BTreeMap::new(),
            number: 0,
            wake_at: None,
            held_until: 0,
        }
    }
}

impl World {
    pub(super) fn enqueue(&mut self, events: Vec<(usize, Queued)>) -> Result<(), Broken> {
        for (key, mut event) in events {
            self.ledger.offered(key, event.id);
            if self.without == Without::Order {
                event.key = KeyId(u128::from(event.id.0) << 64);
            }
            let now = self.now().monotonic;
            if let Some(ToSettle { event, key: Some(slot), result: Ok(answered), .. }) =
                self.relay().schedule.enqueue(&event, now)
            {
                self.ledger.overtaken(key, event.id);
                self.settle(key, slot, &event, Ok(answered))?;
            }
        }
        self.start_what_may()
    }

    /// Starts every delivery that may start now.
    pub(super) fn start_what_may(&mut self) -> Result<(), Broken> {
        let now = self.now().monotonic;
        loop {
            let held = self.relay().calls.held_until - self.time;
            let step = if held > 0 {
                schedule::Step::WaitUntil(Monotonic(now.0 + held))
            } else {
                let decide = self.staleness();
                self.relay().schedule.next(now, decide)
            };
            match step {
                schedule::Step::Start(delivery) => self.call(delivery)?,
                schedule::Step::Settle(unsent) => self.end_unsent(unsent)?,
                schedule::Step::WaitUntil(at) => {
                    self.idle(&step)?;
                    if self.without != Without::Waking {
                        self.wake(self.time_of(at));
                    }
                    return Ok(());
                }
                schedule::Step::Wait => return self.idle(&step),
            }
        }
    }

    /// What becomes of events by their age now.
    fn staleness(&self) -> impl FnOnce(&Queued, bool) -> StaleDecision + use<> {
        let (settings, without, now) = (self.plan.stale, self.without, self.now());
        let start = self.relay.as_ref().map_or(now, |relay| relay.start);
        move |event, resolve_waits| {
            let age = match without {
                Without::SteadyAge => now.wall.since(WallTime(start.wall.0 + event.acknowledged.0)),
                _ => staleness::age(event, start, now),
            };
            match without {
                Without::Staleness => StaleDecision::Send,
                Without::ResolveBehind => staleness::decide(settings, event, age, true),
                Without::StaleTriggersOnly => {
                    staleness::decide(settings, &Queued { action: Action::Trigger, ..*event }, age, resolve_waits)
                }
                _ => staleness::decide(settings, event, age, resolve_waits),
            }
        }
    }

    /// An event ends without a call.
    fn end_unsent(&mut self, unsent: ToSettle) -> Result<(), Broken> {
        let ToSettle { event, key: Some(slot), result: Err(reason), .. } = unsent else {
            return Err(Broken { promise: Promise::Order, how: format!("{unsent:?}") });
        };
        let Some(key) = self.disk.get(event.id).map(|row| row.key) else {
            return Err(Broken { promise: Promise::Order, how: format!("{} ends and is not on disk", event.id) });
        };
        self.note(|| format!("event {} of key {key} ends unsent: {reason:?}", event.id));
        self.ledger.ends_unsent(key, event.id, &reason, &self.disk, self.time)?;
        self.settle(key, slot, &event, Err(reason))
    }

    fn idle(&mut self, step: &schedule::Step) -> Result<(), Broken> {
        let (now, time) = (self.now().monotonic, self.time);
        let schedule = &self.relay().schedule;
        let any = Waiting { untried: true, tried: true };
        if schedule.breaker().permit(schedule.in_flight(), any, now) != Permit::Call {
            return Ok(());
        }
        self.ledger.idle(step, time)
    }

    fn wake(&mut self, at: i64) {
        let calls = &mut self.relay().calls;
        if calls.wake_at.is_none_or(|known| at < known) {
            calls.wake_at = Some(at);
            let wait = (at - self.time).max(1);
            self.soon(wait, Step::Wake);
        }
    }

    fn call(&mut self, delivery: schedule::Delivery) -> Result<(), Broken> {
        let Some(key) = self.disk.get(delivery.event.id).map(|row| row.key) else {
            return Err(Broken {
                promise: Promise::Order,
                how: format!("{} is called and not on disk", delivery.event.id),
            });
        };
        self.ledger.call_started(key, delivery.event.id, delivery.stale, self.time)?;
        let now = self.now();
        let reply = self.upstream.call(key, delivery.event.action, now, &mut self.rng);
        self.note(|| {
            format!("event {} of key {key} is called: {:?} {reply:?}", delivery.event.id, delivery.event.action)
        });
        let calls = &mut self.relay().calls;
        calls.number += 1;
        let (number, took) = (calls.number, reply.took);
        calls.under_way.insert(number, Call { delivery, key, reply });
        self.soon(took, Step::Answered(number));
        Ok(())
    }

    /// A call ended: another one later, or the end of its event.
    pub(super) fn answered(&mut self, number: u64) -> Result<(), Broken> {
        let (now, random) = (self.now(), self.rng.f64());
        let Some(Call { delivery, key, reply }) = self.relay().calls.under_way.remove(&number) else {
            return Ok(());
        };
        let (verdict, retry_after) = match &reply.answer {
            Ok(answer) => (
                judge(delivery.event.action, answer.status, Body::whole(answer.body.as_bytes())),
                answer.retry_after.as_deref().and_then(|value| retry::retry_after(value, now)),
            ),
            Err(trouble) => (Verdict::Again(*trouble), None),
        };
        let id = delivery.event.id;
        self.ledger.call_ended(key, id, reply.kind, self.time);
        let (settings, without) = (self.plan.retry, self.without);
        let relay = self.relay();
        let failure = relay.schedule.call_ended(&delivery, verdict, retry_after, now.monotonic);
        let ended = JudgedCall { delivery, verdict, failure, retry_after };
        let (schedule, recent) = (&relay.schedule, &relay.calls.recent_triggers);
        let step = match next_step(ended, settings, schedule, recent, now, random) {
            NextStep::Retry { state, .. } if without == Without::Patience => {
                NextStep::Settle { attempts: state.attempts, result: Err(Reason::TooOld("connect".into())) }
            }
            NextStep::Retry { state, .. } if without == Without::Judgement => {
                NextStep::Settle { attempts: state.attempts, result: Ok(Outcome::Accepted) }
            }
            step => step,
        };
        self.note(|| format!("event {id}: {step:?}"));
        let result = match step {
            NextStep::Retry { state, at } => {
                let tried = tried_before(state, at, retry_after, &self.relay().schedule, now);
                self.again(key, &delivery, state, at, tried)?;
                return self.start_what_may();
            }
            NextStep::Settle { result: Ok(outcome), .. } => {
                let Queued { key, action, .. } = delivery.event;
                self.relay().calls.recent_triggers.delivered(key, action, outcome, now.monotonic);
                Ok(outcome)
            }
            NextStep::Settle { result: Err(reason), .. } => Err(reason),
        };
        self.settle(key, delivery.key, &delivery.event, result)?;
        self.start_what_may()
    }

    /// The end of an event is on its way to the recorder, in a task of its own.
    fn settle(
        &mut self,
        key: usize,
        slot: KeySlot,
        event: &Queued,
        result: Result<Outcome, Reason>,
    ) -> Result<(), Broken> {
        let (state, outcome, reason) = match result {
            Ok(outcome) => (State::Delivered, Some(outcome), None),
            Err(reason @ (Reason::Stale | Reason::Superseded)) => (State::Ended, None, Some(reason)),
            Err(reason) => (State::Dead, None, Some(reason)),
        };
        let settlement = Settlement { id: event.id, state, outcome, reason, attempts: 1, at: self.now().wall };
        let done = is_done(&settlement);
        self.relay().desk.settling(event.id, key, slot);
        // Without endings, of a key that is never told.
        let of = if self.without == Without::Endings { KeyId(u128::MAX) } else { key_id(key) };
        let settle = Settle { attempt: None, settlement, key: of, awaited: false, commanded: None };
        let wait = self.rng.i64(0..4);
        self.soon(wait, Step::Tell(Box::new(settle)));
        if self.without == Without::SettlingFirst { self.release(key, slot, done) } else { Ok(()) }
    }

    fn again(
        &mut self,
        key: usize,
        delivery: &schedule::Delivery,
        state: RetryState,
        at: Monotonic,
        tried: StoredRetry,
    ) -> Result<(), Broken> {
        if self.without == Without::Retry {
            return self.release(key, delivery.key, false);
        }
        let time = self.time_of(at);
        self.ledger.tried_again_at(key, delivery.event.id, time);
        self.relay().schedule.again(delivery.key, state, at);
        let wait = self.rng.i64(0..4);
        self.soon(wait, Step::Note { id: delivery.event.id, tried });
        if self.without == Without::IndependentKeys {
            self.relay().calls.held_until = time;
        }
        Ok(())
    }

    pub(super) fn release(&mut self, key: usize, slot: KeySlot, done: bool) -> Result<(), Broken> {
        self.ledger.released(key);
        let now = self.now().monotonic;
        self.relay().schedule.settled(slot, done, now);
        self.start_what_may()
    }

    /// A moment of this life's clock on the world's.
    fn time_of(&self, at: Monotonic) -> i64 {
        at.0 + self.relay.as_ref().map_or(0, |relay| relay.started)
    }
}
