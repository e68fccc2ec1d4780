//! One attempt: call, judge, write down, report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{EventId, Outcome, Outgoing, State};
use crate::journal::{AttemptRecord, Settlement};
use crate::outcome::{self, Trouble, Verdict};
use crate::retry::{self, Attempt, Next, Trial};
use crate::schedule::Delivery;
use crate::time::WallTime;
use crate::upstream::{Answer, CallError};

use super::{Condition, Desk, Report};

/// Makes one attempt at an event and reports what is to follow. `body` is none where it must be read back.
pub(super) async fn deliver(desk: Arc<Desk>, delivery: Delivery, body: Option<Outgoing>) {
    let outgoing = match body {
        Some(outgoing) => Some(outgoing),
        None => read_back(&desk, delivery.id).await,
    };
    let Some(outgoing) = outgoing else {
        unreadable(&desk, delivery).await;
        return;
    };
    let started_at = desk.clock.now().wall;
    let started = Instant::now();
    let answer = desk.upstream.call(&outgoing.source, outgoing.body.clone()).await;
    let took = started.elapsed();
    let now = desk.clock.now();
    let verdict = match &answer {
        Ok(answer) => outcome::judge(delivery.action, answer.status, &answer.body),
        Err(error) => Verdict::Again(error.trouble),
    };
    let asked = answer.as_ref().ok().and_then(|answer| retry::retry_after(answer.retry_after.as_deref()?, now));
    let attempt = Attempt::ended(delivery.before, verdict, asked, now.monotonic);
    desk.report(Report::Ended).await;
    desk.notice(&attempt, &answer, now.wall);
    let record = record(delivery.id, attempt, started_at, took, answer);
    desk.metrics.attempted(record.result, took);

    let next = retry::next(desk.config.retry, attempt, now.monotonic, fastrand::f64());
    let (state, outcome, reason) = match next {
        Next::Again { at } => {
            desk.recorder.attempted(record).await;
            desk.report(Report::Again { key: delivery.key, trial: attempt.trial(), at }).await;
            return;
        }
        Next::Delivered(outcome) => (State::Delivered, Some(outcome), None),
        Next::Dead(death) => {
            let trouble = attempt.trouble().map_or("", Trouble::as_str);
            (State::Dead, None, Some((death.as_str(), format!("{}: {trouble}", death.as_str()))))
        }
    };
    let settlement = Settlement {
        id: delivery.id,
        state,
        outcome,
        reason: reason.as_ref().map(|(_, text)| text.clone()),
        attempts: attempt.number,
        at: now.wall,
    };
    if !desk.recorder.settle(record, settlement, delivery.key_id).await {
        // The recorder is gone: the process ends, and the event is still queued for the next start.
        return;
    }
    match (outcome, reason) {
        (Some(outcome), _) => delivered(&desk, delivery, &outgoing, outcome, now.wall),
        (None, Some((word, text))) => {
            desk.metrics.event_ended(State::Dead.as_str(), word);
            tracing::error!(
                event = delivery.id.0,
                source = &*outgoing.source,
                action = delivery.action.as_str(),
                reason = text,
                "the event is a dead letter; it is kept until a person replays or discards it"
            );
        }
        (None, None) => {}
    }
    desk.report(Report::Settled(delivery.key)).await;
}

async fn read_back(desk: &Arc<Desk>, id: EventId) -> Option<Outgoing> {
    let reader = Arc::clone(&desk.reader);
    match tokio::task::spawn_blocking(move || reader.outgoing(id)).await {
        Ok(Ok(Some(outgoing))) => Some(outgoing),
        Ok(Ok(None)) => {
            tracing::error!(
                event = id.0,
                "the body of a queued event is missing in the journal; it is looked for again"
            );
            None
        }
        Ok(Err(error)) => {
            tracing::error!(event = id.0, error = %error, "an event can't be read back from the journal");
            None
        }
        Err(_) => None,
    }
}

/// The journal can't be read now: the event waits, like one whose call failed, and is never given up for it.
async fn unreadable(desk: &Desk, delivery: Delivery) {
    let now = desk.clock.now().monotonic;
    let trial = delivery.before.unwrap_or(Trial { attempts: 0, first: now });
    desk.report(Report::Ended).await;
    desk.report(Report::Again { key: delivery.key, trial, at: now.after(desk.config.retry.max) }).await;
}

fn record(
    event: EventId,
    attempt: Attempt,
    started_at: WallTime,
    took: Duration,
    answer: Result<Answer, CallError>,
) -> AttemptRecord {
    let result = match attempt.verdict {
        Verdict::Done(outcome) => outcome.as_str(),
        Verdict::Again(trouble) | Verdict::Blocked(trouble) | Verdict::Rejected(trouble) => trouble.as_str(),
    };
    let (status, detail, answer) = match answer {
        Ok(answer) => {
            let kept = answer.body.len().min(ANSWER_BYTES_KEPT);
            (Some(answer.status), answer.location, answer.body[..kept].to_vec())
        }
        Err(error) => (None, Some(error.detail), Vec::new()),
    };
    AttemptRecord { event, number: attempt.number, started_at, took, result, status, detail, answer }
}

fn delivered(desk: &Desk, delivery: Delivery, outgoing: &Outgoing, outcome: Outcome, now: WallTime) {
    let age = now.since(outgoing.acknowledged);
    desk.metrics.event_delivered(&outgoing.source, delivery.action, outcome, age);
    let (event, source, action, outcome_word) =
        (delivery.id.0, &*outgoing.source, delivery.action.as_str(), outcome.as_str());
    if outcome.is_warning() {
        tracing::warn!(event, source, action, outcome = outcome_word, "{}", advice(outcome));
    } else {
        tracing::debug!(event, source, action, outcome = outcome_word, "delivered");
    }
}

/// What an outcome that is no success asks of a person.
fn advice(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unmatched => {
            "the upstream took the event and no filter there matched: nobody was alerted; compare its API Filters with what was sent"
        }
        Outcome::NotResolved => {
            "the upstream found no open incident for this key: compare `Incident Mapped With` there with what was sent"
        }
        Outcome::Accepted => "the upstream answered 2xx and did not say what it did",
        Outcome::Created | Outcome::Resolved | Outcome::Duplicate => "delivered",
    }
}

impl Desk {
    async fn report(&self, report: Report) {
        // Fails only when the dispatcher has stopped listening, at the end of the process.
        let _ = self.reports.send(report).await;
    }

    /// Logs when the state of affairs changes: one line at the beginning of an outage, one at its end.
    fn notice(&self, attempt: &Attempt, answer: &Result<Answer, CallError>, now: WallTime) {
        let status = answer.as_ref().ok().map(|answer| answer.status);
        let detail = match answer {
            Ok(answer) => answer.location.as_ref().map(|location| format!("Location: {location}")),
            Err(error) => Some(error.detail.clone()),
        };
        let condition = match attempt.verdict {
            // One event that is refused says nothing about the others.
            Verdict::Done(_) | Verdict::Rejected(_) => Condition::Fine,
            Verdict::Again(trouble) | Verdict::Blocked(trouble) => {
                Condition::Troubled { trouble, status, detail, since: now }
            }
        };
        let changed = self.condition.send_if_modified(|known| {
            let changed = !known.is_like(&condition);
            if changed {
                *known = condition.clone();
            }
            changed
        });
        if !changed {
            return;
        }
        let url = self.upstream.shown_url();
        match condition {
            Condition::Fine => tracing::info!(url, "the upstream answers again; deliveries go on"),
            Condition::Troubled { trouble, status, detail, .. } => {
                let (reason, fault) = (trouble.as_str(), trouble.attribution().as_str());
                let detail = detail.unwrap_or_default();
                if matches!(attempt.verdict, Verdict::Blocked(_)) {
                    tracing::error!(
                        url,
                        reason,
                        fault,
                        status,
                        detail,
                        remedy = trouble.remedy(),
                        "deliveries fail, and will until this is mended; nothing is lost"
                    );
                } else {
                    tracing::warn!(
                        url,
                        reason,
                        fault,
                        status,
                        detail,
                        remedy = trouble.remedy(),
                        "deliveries fail and are tried again; nothing is lost"
                    );
                }
            }
        }
    }
}

/// As much of an answer as tells what happened.
const ANSWER_BYTES_KEPT: usize = 2_048;
