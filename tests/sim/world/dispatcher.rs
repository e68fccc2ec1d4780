//! The dispatcher's part: asks the schedule what to do, calls, judges, and tells the recorder how it ended.

use std::collections::BTreeMap;

use gander::event::{KeyId, Queued, State};
use gander::outcome::{Verdict, judge};
use gander::retry::{self, Attempt, Next};
use gander::schedule::{self, KeySlot};
use gander::time::Monotonic;

use super::recorder::Settle;
use super::{Step, World};
use crate::ledger::{Broken, Promise};
use crate::plan::Without;
use crate::upstream::Reply;

/// What the dispatcher has under way.
#[derive(Debug, Default)]
pub(super) struct Calls {
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
    /// The attempt that ended, and when.
    ended: Option<(Attempt, Monotonic)>,
}

impl World {
    pub(super) fn enqueue(&mut self, events: Vec<(usize, Queued)>) -> Result<(), Broken> {
        for (key, mut event) in events {
            self.ledger.offered(key, event.id);
            if self.without == Without::Order {
                event.key = KeyId(u128::from(event.id.0) << 64);
            }
            self.relay().schedule.enqueue(&event);
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
                self.relay().schedule.next(now)
            };
            match step {
                schedule::Step::Start(delivery) => self.call(delivery)?,
                schedule::Step::WaitUntil(at) => {
                    self.ledger.idle(step, self.time)?;
                    if self.without != Without::Waking {
                        self.wake(self.time_of(at));
                    }
                    return Ok(());
                }
                schedule::Step::Wait => return self.ledger.idle(step, self.time),
            }
        }
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
        let Some(key) = self.disk.get(delivery.id).map(|row| row.key) else {
            return Err(Broken { promise: Promise::Order, how: format!("{} is called and not on disk", delivery.id) });
        };
        self.ledger.call_started(key, delivery.id, self.time)?;
        let now = self.now();
        let reply = self.upstream.call(key, delivery.action, now, &mut self.rng);
        self.note(|| format!("event {} of key {key} is called: {:?} {reply:?}", delivery.id, delivery.action));
        let calls = &mut self.relay().calls;
        calls.number += 1;
        let (number, took) = (calls.number, reply.took);
        calls.under_way.insert(number, Call { delivery, key, reply, ended: None });
        self.soon(took, Step::Answered(number));
        Ok(())
    }

    pub(super) fn answered(&mut self, number: u64) -> Result<(), Broken> {
        let (now, time) = (self.now(), self.time);
        let Some(call) = self.relay().calls.under_way.get_mut(&number) else {
            return Ok(());
        };
        let (verdict, asked) = match &call.reply.answer {
            Ok(answer) => (
                judge(call.delivery.action, answer.status, answer.body.as_bytes()),
                answer.retry_after.as_deref().and_then(|value| retry::retry_after(value, now)),
            ),
            Err(trouble) => (Verdict::Again(*trouble), None),
        };
        let attempt = Attempt::ended(call.delivery.before, verdict, asked, now.monotonic);
        call.ended = Some((attempt, now.monotonic));
        let (key, id, kind) = (call.key, call.delivery.id, call.reply.kind);
        self.relay().schedule.ended();
        self.ledger.call_ended(key, id, kind, time);
        let wait = self.rng.i64(0..4);
        self.soon(wait, Step::Follow(number));
        self.start_what_may()
    }

    /// What follows from an attempt.
    pub(super) fn follow(&mut self, number: u64) -> Result<(), Broken> {
        let Some(Call { delivery, key, ended: Some((attempt, now)), .. }) =
            self.relay().calls.under_way.remove(&number)
        else {
            return Ok(());
        };
        let next = match retry::next(self.plan.retry, attempt, now, self.rng.f64()) {
            Next::Again { .. } if self.without == Without::Patience => Next::Dead(retry::Death::TooOld),
            Next::Again { .. } if self.without == Without::Judgement => {
                Next::Delivered(gander::event::Outcome::Accepted)
            }
            next => next,
        };
        self.note(|| format!("event {}: {next:?}", delivery.id));
        let (state, outcome) = match next {
            Next::Delivered(outcome) => (State::Delivered, Some(outcome)),
            Next::Dead(_) => (State::Dead, None),
            Next::Again { at } => return self.again(key, delivery, attempt, at),
        };
        let settle = Settle { key, slot: delivery.key, id: delivery.id, state, outcome };
        self.relay().desk.settle(settle);
        self.call_recorder();
        if self.without == Without::SettlingFirst { self.release(key, delivery.key) } else { Ok(()) }
    }

    fn again(
        &mut self,
        key: usize,
        delivery: schedule::Delivery,
        attempt: Attempt,
        at: Monotonic,
    ) -> Result<(), Broken> {
        if self.without == Without::Retry {
            return self.release(key, delivery.key);
        }
        let time = self.time_of(at);
        self.ledger.tried_again_at(key, delivery.id, time);
        let relay = self.relay();
        relay.schedule.again(delivery.key, attempt.trial(), at);
        if self.without == Without::IndependentKeys {
            self.relay().calls.held_until = time;
        }
        self.start_what_may()
    }

    pub(super) fn release(&mut self, key: usize, slot: KeySlot) -> Result<(), Broken> {
        self.ledger.released(key);
        self.relay().schedule.release(slot);
        self.start_what_may()
    }

    /// A moment of this life's clock on the world's.
    fn time_of(&self, at: Monotonic) -> i64 {
        at.0 + self.relay.as_ref().map_or(0, |relay| relay.started)
    }
}
