//! A call ended: another one follows later, or the event is settled.

use std::sync::Arc;

use super::deliver::FinishedCall;
use super::next_step::{JudgedCall, is_in_doubt, next_step, tried_before};
use super::settling::Unwritten;
use super::stuck::{self, Failing};
use super::{Dispatcher, upstream_status};
use crate::callgoose::answer::{self, Verdict};
use crate::clock::{Now, WallTime};
use crate::delivery::breaker::FailureOf;
use crate::delivery::retry::{NextStep, RetryState};
use crate::delivery::staleness;
use crate::event::{Queued, Reason, Settlement, State};

impl Dispatcher {
    /// A call ended: another one follows later, or the event is settled.
    pub(super) fn call_finished(&mut self, called: FinishedCall, now: Now) {
        let delivery = called.delivery;
        let id = delivery.event.id;
        let verdict = match &called.answer {
            Ok(answer) => answer::judge(delivery.event.action, answer.status, answer.body()),
            Err(error) => answer::judge_failure(error.trouble),
        };
        let retry_after = called.retry_after(now);
        let failure = self.schedule.call_ended(&delivery, verdict, retry_after, now.monotonic);
        self.context.metrics.attempted(verdict.as_str(), called.took);
        // An event that was rejected was answered.
        let trouble = failure.and(verdict.trouble());
        self.progress.send_modify(|progress| progress.call_finished(trouble, called.status(), now.wall));
        let open = self.schedule.breaker().open_by();
        upstream_status::update(&self.upstream_status, open, verdict, &called, &self.context, now.wall);

        let (judged, settings) = (JudgedCall { delivery, verdict, failure, retry_after }, self.context.config.retry);
        let (schedule, recent) = (&self.schedule, &self.recent_triggers);
        let (attempts, result) = match next_step(judged, settings, schedule, recent, now, fastrand::f64()) {
            NextStep::Retry { state, .. } if self.discarded.contains_key(&id) => {
                (state.attempts, Err(Reason::Discarded))
            }
            NextStep::Retry { state, at } => {
                self.note_failing(&called, verdict, failure, state, now);
                let tried = tried_before(state, at, retry_after, &self.schedule, now);
                self.schedule.again(delivery.key, state, at);
                let record = called.record(state.attempts, verdict);
                let context = Arc::clone(&self.context);
                return self.spawn(async move { context.recorder.attempted(record, tried).await });
            }
            NextStep::Settle { attempts, result } => (attempts, result),
        };
        let is_stale = delivery.stale.is_some();
        if let Ok(outcome) = result {
            let Queued { key, action, .. } = delivery.event;
            self.recent_triggers.delivered(key, action, outcome, now.monotonic);
            if is_stale {
                self.stale_episode.delivered(now.monotonic);
            }
        }
        let (state, outcome, reason) = match result {
            Ok(outcome) => (State::Delivered, Some(outcome), is_stale.then_some(Reason::Stale)),
            Err(Reason::Discarded) => (State::Ended, None, Some(Reason::Discarded)),
            Err(reason) => (State::Dead, None, Some(reason)),
        };
        let settlement = Settlement { id, state, outcome, reason, attempts, at: now.wall };
        let unwritten = self.unwritten(delivery.event, Some(delivery.key), now);
        let unwritten = Unwritten {
            in_doubt: is_in_doubt(&delivery),
            incident_key: Some(Arc::clone(&called.incident_key)),
            trace_id: called.trace_id,
            age: staleness::precise_age(unwritten.age, Some(called.acknowledged), now.wall),
            ..unwritten
        };
        let awaited = self.schedule.has_later(delivery.key);
        self.settle(unwritten, Some(called.record(attempts, verdict)), settlement, awaited);
    }

    /// An event that fails for long while others are taken is told once, and shown until it ends.
    fn note_failing(
        &self,
        called: &FinishedCall,
        verdict: Verdict,
        failure: Option<FailureOf>,
        retry: RetryState,
        now: Now,
    ) {
        let (Some(FailureOf::Event), Some(trouble)) = (failure, verdict.trouble()) else {
            return;
        };
        let failing_for = self.schedule.breaker().running(now.monotonic).since(retry.since);
        if failing_for < stuck::STUCK_AFTER {
            return;
        }
        let (event, status) = (called.delivery.event.id, called.status());
        let since = WallTime(now.wall.0.saturating_sub(i64::try_from(failing_for.as_millis()).unwrap_or(i64::MAX)));
        let mut is_new = false;
        self.stuck.send_modify(|stuck| is_new = stuck.put(event, Failing { since, trouble, status }));
        if is_new {
            let (source, reason) =
                (self.context.recorder.sources().name(called.delivery.event.source), trouble.as_str());
            tracing::warn!(
                event = %event,
                trace_id = called.trace_id.map(tracing::field::display),
                source = &*source,
                attempts = retry.attempts,
                reason,
                status,
                remedy = %self.context.upstream.remedy(trouble),
                "an event fails again and again while others are taken; only its own incident key waits; \
                 `gander events show` tells what was answered, `gander events discard` ends it"
            );
        }
    }
}
