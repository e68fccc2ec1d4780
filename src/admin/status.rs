//! `GET /api/v1/status`: the state of affairs at a glance.

use std::time::Duration;

use axum::Json;
use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::holds;
use super::readiness::readiness;
use super::{State, View};
use crate::activity::SourceActivity;
use crate::clock::WallTime;
use crate::confinement;
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
    let progress = view.progress.borrow().clone();
    let events = u64::try_from(view.metrics.journal.queue_events.get()).unwrap_or(0);
    let is_held = is_all_held(view, events, tally.as_ref());
    json!({
        "version": version::VERSION,
        "commit": version::COMMIT,
        "uptime_seconds": uptime.as_secs(),
        "started_at": WallTime::now().before(uptime).rfc3339(),
        "readiness": readiness(view),
        "reload": view.reload.borrow().to_json(),
        "confinement": confinement::report().map(confined),
        "self_check": view.self_check.borrow().as_ref().map(self_check),
        "sources": view.sources,
        "upstream": upstream(view),
        "queue": {
            "events": events,
            "drain_seconds": drain_seconds(&progress, events, is_held, WallTime::now()),
            "next_attempt_at": progress.next_attempt.filter(|_| !is_held).map(WallTime::rfc3339),
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

fn confined(report: &confinement::Report) -> Value {
    let mut shown: Map<_, Value> =
        report.parts().into_iter().map(|(part, outcome)| (part.to_owned(), outcome.with_error().into())).collect();
    let remedies: Map<_, Value> = report.remedies().map(|(part, remedy)| (part.to_owned(), remedy.into())).collect();
    if !remedies.is_empty() {
        shown.insert("remedies".to_owned(), remedies.into());
    }
    shown.into()
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

/// Tells that all that waits is of sources that a person holds back. Held keys are not counted here.
fn is_all_held(view: &View, events: u64, tally: Option<&Tally>) -> bool {
    let holds = view.recorder.holds();
    let is_held =
        |name: &str| holds.iter().any(|held| *held.target.source == *name && held.target.incident_key.is_none());
    let queued = |tally: &Tally| -> u64 {
        tally.by_source.iter().filter(|(name, _)| is_held(name)).map(|(_, totals)| totals.queued).sum()
    };
    events > 0 && tally.is_some_and(|tally| queued(tally) >= events)
}

/// The seconds until so many events were sent; none while nobody can tell: all of them are held, or calls fail.
pub(super) fn drain_seconds(progress: &DeliveryProgress, events: u64, is_held: bool, now: WallTime) -> Option<f64> {
    match events {
        0 => Some(0.0),
        _ if is_held || are_calls_failing(progress) => None,
        _ => progress.drained_by.map(|by| by.since(now).as_secs_f64()),
    }
}

/// Tells that the last calls failed, so that the rate of the last minute says nothing of the next. One alone may fail.
pub(super) fn are_calls_failing(progress: &DeliveryProgress) -> bool {
    progress.failed_calls.is_some_and(|failed| failed.count > 1)
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

/// The ends of connections before their first request: their sender may not trust the certificate, or a proxy in front
/// does not say whose they are.
const HANDSHAKES: [&str; 3] = ["proxy_header", "tls_handshake", "no_request"];
/// Less than a person waits; the recorder answers at once unless its disk hangs.
const TALLY_MAX: Duration = Duration::from_secs(2);
/// Read within milliseconds, unless somebody searches the journal.
const UNMATCHED_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    use crate::callgoose::answer::Trouble;
    use crate::confinement::Outcome;

    #[test]
    fn a_connection_that_ends_before_its_first_request_counts_as_a_failed_handshake() {
        let metrics = crate::metrics::Metrics::new();
        let reasons = ["proxy_header", "tls_handshake", "no_request", "address_limit"];
        metrics.show_connections_refused(reasons);
        for reason in reasons {
            metrics.connection_refused(reason);
        }
        assert_eq!(metrics.refused_connections(&HANDSHAKES), 3);
    }

    #[test]
    fn a_confinement_that_is_not_whole_is_shown_with_its_error_and_its_remedy() {
        let whole = confinement::Report {
            files: Outcome::Enforced,
            system_calls: Outcome::Enforced,
            memory: Outcome::Enforced,
        };
        let enforced = json!({ "files": "enforced", "system_calls": "enforced", "memory": "enforced" });
        assert_eq!(confined(&whole), enforced);
        let failed = Outcome::Failed("no rights".to_owned());
        let shown = confined(&confinement::Report { files: Outcome::Partly, memory: failed, ..whole });
        assert_eq!((&shown["files"], &shown["memory"]), (&json!("partly enforced"), &json!("failed: no rights")));
        let remedies = &shown["remedies"];
        assert!(remedies["files"].as_str().unwrap().contains("6.10"), "{shown}");
        assert!(remedies["memory"].as_str().unwrap().contains("`confinement: off`"), "{shown}");
        assert!(remedies["system_calls"].is_null(), "{shown}");
    }

    #[test]
    fn a_time_to_drain_is_promised_only_where_something_goes_out() {
        let failed = |count: u64| FailedCalls { count, since: WallTime(0), trouble: Trouble::Connect, status: None };
        let progress = |failed_calls: Option<FailedCalls>| DeliveryProgress {
            drained_by: Some(WallTime(90_000)),
            next_attempt: None,
            failed_calls,
        };
        for (failed_calls, events, is_held, expected) in [
            (None, 3, false, Some(90.0)),
            (Some(failed(1)), 3, false, Some(90.0)),
            (Some(failed(2)), 3, false, None),
            (None, 3, true, None),
            (None, 0, false, Some(0.0)),
            (Some(failed(2)), 0, false, Some(0.0)),
        ] {
            let told = drain_seconds(&progress(failed_calls), events, is_held, WallTime(0));
            assert_eq!(told, expected, "{failed_calls:?} {events} {is_held}");
        }
    }
}
