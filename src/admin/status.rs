//! `GET /api/v1/status`: the state of affairs at a glance.

use std::time::Duration;

use axum::Json;
use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::holds;
use super::readiness::readiness;
use super::{State, View};
use crate::activity::SourceActivity;
use crate::clock::WallTime;
use crate::delivery::breaker::Cause;
use crate::delivery::client::Upstream;
use crate::delivery::dispatcher::{DeliveryProgress, FailedCalls, UpstreamStatus};
use crate::journal::recorder::Tally;
use crate::self_check::Report;
use crate::version;

/// Answers with how things are now.
pub(super) async fn status(Extract(state): Extract<State>) -> Response {
    Json(current(&state.view).await).into_response()
}

/// Counts of what waits and of what happened since the start. Where the journal does not answer soon, what only it knows
/// is null.
pub(super) async fn current(view: &View) -> Value {
    let oldest = view.journal.oldest_queued().await;
    let (tally, unmatched) = tally(view).await;
    let uptime = view.started.elapsed();
    let DeliveryProgress { drained_by, next_attempt, .. } = *view.progress.borrow();
    json!({
        "version": version::VERSION,
        "commit": version::COMMIT,
        "uptime_seconds": uptime.as_secs(),
        "started_at": WallTime::now().before(uptime).rfc3339(),
        "readiness": readiness(view),
        "reload": view.reload.borrow().to_json(),
        "self_check": view.self_check.borrow().as_ref().map(self_check),
        "sources": view.sources,
        "upstream": upstream(view),
        "queue": {
            "events": view.metrics.journal.queue_events.get(),
            "drain_seconds": drained_by.map(|by| by.since(WallTime::now()).as_secs_f64()),
            "next_attempt_at": next_attempt.map(WallTime::rfc3339),
            "oldest_received_at": oldest.map(WallTime::rfc3339),
        },
        "kept": tally.as_ref().map(|tally| json!({
            "dead": tally.totals.dead,
            "refused": tally.totals.refused,
            "unmatched": unmatched,
            "open_incidents": tally.open_incidents,
            "open_waiting": tally.open_waiting,
        })),
        "failed_handshakes": view.metrics.refused_connections(&HANDSHAKES),
        "since_start": activity(&view.recorder.activity().total()),
        "by_source": view.sources.iter().map(|source| of_source(view, source, tally.as_ref())).collect::<Vec<_>>(),
        "holds": holds::shown(&view.recorder.holds()),
        "dedup": { "keys": view.metrics.journal.dedup_keys.get() },
    })
}

fn self_check(report: &Report) -> Value {
    let Report { source, every, limit, last_success, failing } = report;
    json!({
        "source": &**source,
        "every_seconds": every.as_secs_f64(),
        "limit_seconds": limit.as_secs_f64(),
        "last_success_at": last_success.map(|(at, _)| at.rfc3339()),
        "round_trip_seconds": last_success.map(|(_, took)| took.as_secs_f64()),
        "failing_since": failing.as_ref().map(|failing| failing.since.rfc3339()),
    })
}

/// Counts what is kept, and of it what alerted nobody; none where the journal does not answer soon, be it that it answers
/// another's question just now.
async fn tally(view: &View) -> (Option<Tally>, Option<usize>) {
    let read = tokio::time::timeout(UNMATCHED_MAX, view.journal.read(|reader| reader.unmatched())).await;
    let unmatched = read.ok().and_then(Result::ok);
    let is_read = unmatched.is_some();
    let tally = view.recorder.tally(unmatched.unwrap_or_default());
    let tally = tokio::time::timeout(TALLY_MAX, tally).await.ok().flatten();
    let unmatched = tally.as_ref().filter(|_| is_read).map(|tally| tally.unmatched);
    (tally, unmatched)
}

/// The state of the upstream in a word, and since when.
pub(super) fn upstream_state(view: &View) -> (&'static str, WallTime) {
    match &*view.upstream_status.borrow() {
        UpstreamStatus::Answering { since } => ("answering", *since),
        UpstreamStatus::Unavailable { why: Cause::Failures, since, .. } => ("breaker_open", *since),
        UpstreamStatus::Unavailable { why: Cause::Pause(_), since, .. } => ("paused", *since),
    }
}

fn upstream(view: &View) -> Value {
    let (state, since) = upstream_state(view);
    json!({
        "url": view.upstream.shown_url(),
        "proxy": view.upstream_proxy,
        "in_flight": view.metrics.delivery.in_flight.get(),
        "state": state,
        "since": since.rfc3339(),
        "failed_calls": view.progress.borrow().failed_calls.map(|failed| failed_calls(failed, &view.upstream)),
    })
}

fn failed_calls(failed: FailedCalls, upstream: &Upstream) -> Value {
    let FailedCalls { count, since, trouble, status } = failed;
    json!({
        "count": count,
        "since": since.rfc3339(),
        "result": trouble.as_str(),
        "status": status,
        "fault": trouble.attribution().as_str(),
        "remedy": upstream.remedy(trouble),
    })
}

fn of_source(view: &View, source: &str, tally: Option<&Tally>) -> Value {
    let mut shown = activity(&view.recorder.activity().of(source));
    let held = tally.and_then(|tally| tally.by_source.iter().find(|(name, _)| &**name == source));
    shown["name"] = source.into();
    shown["queued"] = held.map(|(_, held)| held.queued).into();
    shown["dead"] = held.map(|(_, held)| held.dead).into();
    shown
}

fn activity(activity: &SourceActivity) -> Value {
    let SourceActivity { last_event, last_delivered, last_not_resolved, last_refused, last_refused_sender, .. } =
        activity;
    let refusal = |(at, reason): &(WallTime, &str)| json!({ "at": at.rfc3339(), "reason": reason });
    json!({
        "taken": activity.taken,
        "duplicate": activity.duplicate,
        "ignored": activity.ignored,
        "refused": activity.refused,
        "delivered": activity.delivered,
        "unmatched": activity.unmatched,
        "not_resolved": activity.not_resolved,
        "last_event_at": last_event.map(WallTime::rfc3339),
        "last_delivered_at": last_delivered.map(WallTime::rfc3339),
        "last_not_resolved_at": last_not_resolved.map(WallTime::rfc3339),
        "last_refused": last_refused.as_ref().map(refusal),
        "last_refused_sender": last_refused_sender.as_ref().map(refusal),
    })
}

/// The ends of connections whose sender may not trust the certificate.
const HANDSHAKES: [&str; 2] = ["tls_handshake", "no_request"];
/// Less than a person waits; the recorder answers at once unless its disk hangs.
const TALLY_MAX: Duration = Duration::from_secs(2);
/// Read within milliseconds, unless somebody searches the journal.
const UNMATCHED_MAX: Duration = Duration::from_secs(1);
