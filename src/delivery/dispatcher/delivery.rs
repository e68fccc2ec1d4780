//! One delivery: reads the body, calls the upstream, reports; and the log lines when an event has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::callgoose::answer::Verdict;
use crate::clock::{Now, WallTime};
use crate::delivery::client::{Answer, CallError};
use crate::delivery::retry;
use crate::delivery::schedule::Delivery;
use crate::delivery::staleness::{self, Marked};
use crate::event::{Action, EventId, Outcome, Outgoing, Queued, Reason, Settlement, State};
use crate::journal::{AttemptRecord, Sendable};
use crate::tap::TapLine;

use super::settling::Unwritten;
use super::{Context, Report};

/// A finished call.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) delivery: Delivery,
    pub(super) incident_key: Arc<str>,
    /// When its event was acknowledged.
    pub(super) acknowledged: WallTime,
    pub(super) answer: Result<Answer, CallError>,
    pub(super) took: Duration,
    /// A description of the mark in the sent body, if it was sent as stale.
    mark: Option<String>,
    started_at: WallTime,
}

/// Makes one call and reports the result. `body` is none if it must be read from the journal.
pub(super) async fn deliver(context: Arc<Context>, delivery: Delivery, body: Option<Outgoing>) {
    let mut promise = Promise { context: &context, delivery: Some(delivery) };
    let sendable = match body {
        Some(outgoing) => Some(Sendable::Sound(outgoing)),
        None => read_back(&context, delivery.event.id).await,
    };
    let outgoing = match sendable {
        Some(Sendable::Sound(outgoing)) => outgoing,
        Some(Sendable::Damaged(damage)) => {
            promise.delivery = None;
            context.report(Report::Damaged(delivery, damage)).await;
            return;
        }
        None => {
            promise.delivery = None;
            context.report(Report::NotCalled(delivery)).await;
            return;
        }
    };
    let Outgoing { source, incident_key, body, acknowledged } = outgoing;
    let (body, mark) = match delivery.stale {
        Some(age) => {
            let Marked { body, mark } = staleness::mark(&body, age);
            (body, Some(mark))
        }
        None => (body, None),
    };
    let (started_at, started) = (context.clock.now().wall, Instant::now());
    let answer = context.upstream.call(&source, body).await;
    let took = started.elapsed();
    let called = Called { delivery, incident_key, acknowledged, answer, took, mark, started_at };
    promise.delivery = None;
    context.report(Report::Called(Box::new(called))).await;
}

/// A guard that reports even if the task fails, so that the delivery's slot and key are released.
struct Promise<'a> {
    context: &'a Context,
    delivery: Option<Delivery>,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery {
            // The task failed, or was aborted at the end of the process, when nobody receives: it must not block.
            let _ = self.context.reports.try_send(Report::NotCalled(delivery));
        }
    }
}

async fn read_back(context: &Context, id: EventId) -> Option<Sendable> {
    // Fails only if the semaphore is closed, which never happens.
    let _turn = context.reading.acquire().await.ok()?;
    let reader = Arc::clone(&context.reader);
    match tokio::task::spawn_blocking(move || reader.outgoing(id)).await {
        Ok(Ok(sendable)) => Some(sendable),
        Ok(Err(error)) => {
            tracing::error!(event = %id, error = %error, "an event can't be read back from the journal; it is tried again");
            None
        }
        Err(_) => None,
    }
}

impl Called {
    pub(super) fn status(&self) -> Option<u16> {
        self.answer.as_ref().map_or_else(|error| error.status, |answer| Some(answer.status))
    }

    /// Details for a person, beside the status.
    pub(super) fn detail(&self) -> Option<String> {
        match &self.answer {
            Ok(answer) => {
                let location = answer.location.as_ref().map(|location| format!("Location: {location}"));
                let cut = answer.cut.map(|cut| cut.explain().to_owned());
                let parts: Vec<String> = location.into_iter().chain(cut).collect();
                (!parts.is_empty()).then(|| parts.join("; "))
            }
            Err(error) => Some(error.detail.clone()),
        }
    }

    pub(super) fn retry_after(&self, now: Now) -> Option<Duration> {
        retry::retry_after(self.answer.as_ref().ok()?.retry_after.as_deref()?, now)
    }

    /// The call as a record for the journal.
    pub(super) fn record(self, number: u32, verdict: Verdict) -> AttemptRecord {
        let status = self.status();
        let detail: Vec<String> = self.mark.clone().into_iter().chain(self.detail()).collect();
        let detail = (!detail.is_empty()).then(|| detail.join("; "));
        let answer = self.answer.map(|answer| answer.shown).unwrap_or_default();
        let kept = answer.len().min(ANSWER_BYTES_KEPT);
        AttemptRecord {
            event: self.delivery.event.id,
            number,
            started_at: self.started_at,
            took: self.took,
            result: verdict.as_str(),
            status,
            detail,
            answer: answer[..kept].to_vec(),
        }
    }
}

/// Counts and logs a settlement, once it is on disk. Lines about what needs nobody are throttled.
pub(super) fn tell(context: &Context, source: &Arc<str>, unwritten: &Unwritten, settlement: &Settlement) {
    let Unwritten { event, age, in_doubt, .. } = unwritten;
    let (metrics, label) = (&context.metrics, source);
    context.recorder.activity().settled(source, settlement);
    context.recorder.tap().tell(|| tap_line(source, unwritten, settlement));
    let (id, action, source) = (event.id, event.action.as_str(), &**label);
    let (incident_key, attempts) = (unwritten.incident_key.as_deref(), settlement.attempts);
    let age_seconds = rounded_seconds(*age);
    let permit = || context.ended_log.permit(context.clock.now().monotonic);
    let Some(reason) = settlement.reason.as_ref().filter(|_| settlement.state != State::Delivered) else {
        let outcome = settlement.outcome.unwrap_or(Outcome::Accepted);
        metrics.event_delivered(label, event.action, outcome, *age);
        if settlement.reason == Some(Reason::Stale) {
            metrics.event_marked_stale(label);
        }
        let (advice, outcome) = (advice(event, outcome, *in_doubt), outcome.as_str());
        if let Some(advice) = advice {
            tracing::warn!(event = %id, source, action, incident_key, outcome, attempts, age_seconds, "{advice}");
        } else if let Some(suppressed) = permit() {
            tracing::info!(
                event = %id,
                source,
                action,
                incident_key,
                outcome,
                attempts,
                age_seconds,
                suppressed,
                "delivered"
            );
        }
        return;
    };
    metrics.event_ended(settlement.state.as_str(), reason.label());
    if let Reason::Damaged(damage) = reason {
        metrics.event_damaged(damage.as_str());
        tracing::error!(
            event = %id,
            source,
            action,
            %reason,
            "an event in the journal is damaged: it is not sent, and kept as a dead letter; check the disk and the \
             memory of this machine"
        );
    } else if settlement.state == State::Dead {
        tracing::error!(
            event = %id,
            source,
            action,
            incident_key,
            %reason,
            attempts,
            age_seconds,
            "the event is a dead letter; it is kept until a person replays or discards it"
        );
    } else if let Some(suppressed) = permit() {
        tracing::info!(
            event = %id,
            source,
            action,
            incident_key,
            %reason,
            attempts,
            age_seconds,
            suppressed,
            "an event ended without delivery"
        );
    }
}

fn tap_line(source: &Arc<str>, unwritten: &Unwritten, settlement: &Settlement) -> TapLine {
    let Settlement { id, state, outcome, reason, attempts, at } = settlement;
    TapLine {
        id: Some(*id),
        source: Some(Arc::clone(source)),
        action: Some(unwritten.event.action.as_str()),
        incident_key: unwritten.incident_key.clone(),
        outcome: outcome.map(Outcome::as_str),
        reason: reason.as_ref().map(ToString::to_string),
        attempts: Some(*attempts),
        age_seconds: Some(rounded_seconds(unwritten.age)),
        ..TapLine::new(state.as_str(), *at)
    }
}

/// To the millisecond.
fn rounded_seconds(duration: Duration) -> f64 {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// Advice for a person, if the outcome is no success.
fn advice(event: &Queued, outcome: Outcome, in_doubt: bool) -> Option<&'static str> {
    match outcome {
        Outcome::Unmatched => Some(
            "the upstream accepted the event and no filter there matched: nobody was alerted; compare its API Filters with \
             what was sent",
        ),
        Outcome::NotResolved => Some(
            "the upstream found no open incident for this key: compare `Incident Mapped With` there with what was sent",
        ),
        Outcome::Accepted => Some("the upstream answered 2xx and did not say what it did"),
        Outcome::Duplicate if event.action == Action::Trigger && event.reopening && !in_doubt => Some(
            "the upstream answered the first trigger after a resolve as a duplicate: perhaps nobody was alerted; its window \
             for duplicates compares the bodies, so let the body carry a start time",
        ),
        Outcome::Created | Outcome::Resolved | Outcome::Duplicate => None,
    }
}

/// The part of an answer that is enough to see what happened.
const ANSWER_BYTES_KEPT: usize = 2_048;
