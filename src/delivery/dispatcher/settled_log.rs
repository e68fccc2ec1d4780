//! Counts and log lines for an event that has ended, once its settlement is on disk.

use std::sync::Arc;
use std::time::Duration;

use tracing::field::display;

use crate::event::{Action, Outcome, Queued, Reason, Settlement, State};
use crate::tap::TapLine;

use super::Context;
use super::settling::Unwritten;

/// Counts and logs a settlement, once it is on disk. Lines about what needs nobody are throttled.
pub(super) fn tell(context: &Context, source: &Arc<str>, unwritten: &Unwritten, settlement: &Settlement) {
    context.recorder.activity().settled(source, settlement);
    context.recorder.tap().tell(|| tap_line(source, unwritten, settlement));
    match settlement.reason.as_ref().filter(|_| settlement.state != State::Delivered) {
        None => tell_delivered(context, source, unwritten, settlement),
        Some(reason) => tell_ended(context, source, unwritten, settlement, reason),
    }
}

fn tell_delivered(context: &Context, label: &Arc<str>, unwritten: &Unwritten, settlement: &Settlement) {
    let Unwritten { event, age, in_doubt, .. } = unwritten;
    let outcome = settlement.outcome.unwrap_or(Outcome::Accepted);
    context.metrics.event_delivered(label, event.action, outcome, *age);
    if settlement.reason == Some(Reason::Stale) {
        context.metrics.event_marked_stale(label);
    }
    let (id, action, source) = (event.id, event.action.as_str(), &**label);
    let (incident_key, attempts) = (unwritten.incident_key.as_deref(), settlement.attempts);
    let trace_id = unwritten.trace_id.map(display);
    let age_seconds = rounded_seconds(*age);
    let (advice, outcome) = (advice(event, outcome, *in_doubt), outcome.as_str());
    if let Some(advice) = advice {
        tracing::warn!(
            event = %id,
            trace_id,
            source,
            action,
            incident_key,
            outcome,
            attempts,
            age_seconds,
            "{advice}"
        );
    } else if let Some(suppressed) = context.permit_line() {
        tracing::info!(
            event = %id,
            trace_id,
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
}

fn tell_ended(context: &Context, label: &Arc<str>, unwritten: &Unwritten, settlement: &Settlement, reason: &Reason) {
    let (id, action, source) = (unwritten.event.id, unwritten.event.action.as_str(), &**label);
    let (incident_key, attempts) = (unwritten.incident_key.as_deref(), settlement.attempts);
    let trace_id = unwritten.trace_id.map(display);
    let age_seconds = rounded_seconds(unwritten.age);
    context.metrics.event_ended(settlement.state.as_str(), reason.label());
    if let Reason::Damaged(damage) = reason {
        context.metrics.event_damaged(damage.as_str());
        tracing::error!(
            event = %id,
            trace_id,
            source,
            action,
            %reason,
            "an event in the journal is damaged: it is not sent, and kept as a dead letter; check the disk and the \
             memory of this machine"
        );
    } else if settlement.state == State::Dead {
        tracing::error!(
            event = %id,
            trace_id,
            source,
            action,
            incident_key,
            %reason,
            attempts,
            age_seconds,
            "the event is a dead letter; it is kept until a person replays or discards it"
        );
    } else if let Some(suppressed) = context.permit_line() {
        tracing::info!(
            event = %id,
            trace_id,
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

impl Context {
    /// Permits a line about what needs nobody; returns the number of lines that were suppressed before it.
    fn permit_line(&self) -> Option<u64> {
        self.ended_log.permit(self.clock.now().monotonic)
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
