//! One delivery: reads the body, calls the upstream, reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::callgoose::answer::Verdict;
use crate::clock::{Now, WallTime};
use crate::delivery::client::{Answer, CallError};
use crate::delivery::retry;
use crate::delivery::schedule::Delivery;
use crate::delivery::staleness::{self, Marked};
use crate::event::{EventId, Outgoing};
use crate::journal::{AttemptRecord, Sendable};
use crate::trace_context::{TraceContext, TraceId};

use super::{CallReport, Context};

/// A finished call.
#[derive(Debug)]
pub(super) struct FinishedCall {
    pub(super) delivery: Delivery,
    pub(super) incident_key: Arc<str>,
    pub(super) trace_id: Option<TraceId>,
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
            context.report(CallReport::Damaged(delivery, damage)).await;
            return;
        }
        None => {
            promise.delivery = None;
            context.report(CallReport::NotCalled(delivery)).await;
            return;
        }
    };
    let Outgoing { source, incident_key, body, acknowledged, trace } = outgoing;
    let (body, mark) = match delivery.stale {
        Some(age) => {
            let Marked { body, mark } = staleness::mark(&body, age);
            (body, Some(mark))
        }
        None => (body, None),
    };
    let (started_at, started) = (context.clock.now().wall, Instant::now());
    let answer = context.upstream.call(&source, body, trace.as_ref()).await;
    let took = started.elapsed();
    let trace_id = trace.as_ref().map(TraceContext::id);
    let called = FinishedCall { delivery, incident_key, trace_id, acknowledged, answer, took, mark, started_at };
    promise.delivery = None;
    context.report(CallReport::Finished(Box::new(called))).await;
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
            let _ = self.context.reports.try_send(CallReport::NotCalled(delivery));
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

impl FinishedCall {
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

/// The part of an answer that is enough to see what happened.
const ANSWER_BYTES_KEPT: usize = 2_048;
