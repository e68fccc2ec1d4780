//! Decides payloads again by shadow rules, and records where these differ from the rules in force.
//!
//! A payload is decided again, by both rule sets, after it was recorded; the differences go to the recorder. The queue
//! is bounded: beyond it payloads are skipped and counted. No sender waits for any of this.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

use super::loaded_rules::SourceRules;
use super::payload::{self, Decoded, Payload, Reading};
use crate::clock::{Clock, WallTime};
use crate::event::EventId;
use crate::journal::recorder::Recorder;
use crate::journal::request::ShadowDifferences;
use crate::logging::LogThrottle;
use crate::metrics::{Metrics, Shadowed};
use crate::rules::diff::{Difference, differences};
use crate::rules::{Context, RuleSet};
use crate::shutdown::Shutdown;
use crate::supervision::panicked;

/// The queue of payloads to be decided again. Its worker starts with the first one.
#[derive(Debug)]
pub(super) struct Shadow {
    queue: OnceLock<Sender<ShadowTask>>,
    bytes: Arc<Semaphore>,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    clock: Clock,
    shutdown: Shutdown,
}

/// A payload that was decided and recorded.
#[derive(Debug)]
struct DecidedPayload {
    source: Arc<str>,
    raw: Bytes,
    reading: Reading,
    received_at: WallTime,
    rules: SourceRules,
    /// The events that it became or copies, by element; none where an element was ignored.
    events: Vec<Option<EventId>>,
}

/// A payload that waits, with the bytes that it takes of the queue.
#[derive(Debug)]
struct ShadowTask {
    payload: DecidedPayload,
    shadow: Arc<RuleSet>,
    _room: OwnedSemaphorePermit,
}

impl Shadow {
    pub(super) fn new(recorder: Recorder, metrics: Arc<Metrics>, clock: Clock, shutdown: Shutdown) -> Shadow {
        let bytes = Arc::new(Semaphore::new(BYTES_MAX));
        Shadow { queue: OnceLock::new(), bytes, recorder, metrics, clock, shutdown }
    }

    /// Queues a payload to be decided again, unless the queue is full or the source has no shadow rules. `events`: those
    /// that it became or copies, by element; none where an element was ignored.
    pub(super) fn decide_again(
        &self,
        source: &Arc<str>,
        payload: Payload,
        rules: SourceRules,
        received_at: WallTime,
        events: Vec<Option<EventId>>,
    ) {
        let Some(shadow) = rules.shadow.clone() else {
            return;
        };
        let (reading, raw) = (payload.reading(), payload.into_raw());
        let payload = DecidedPayload { source: Arc::clone(source), raw, reading, received_at, rules, events };
        let share = u32::try_from(payload.raw.len().min(BYTES_MAX)).unwrap_or(u32::MAX);
        let sent = match Arc::clone(&self.bytes).try_acquire_many_owned(share) {
            Ok(room) => self.queue().try_send(ShadowTask { payload, shadow, _room: room }).is_ok(),
            Err(_) => false,
        };
        if !sent {
            self.metrics.shadow_decided(source, Shadowed::Skipped);
        }
    }

    fn queue(&self) -> &Sender<ShadowTask> {
        self.queue.get_or_init(|| {
            let (queue, mut waiting) = mpsc::channel(PAYLOADS_MAX);
            let mut worker = Worker {
                recorder: self.recorder.clone(),
                metrics: Arc::clone(&self.metrics),
                clock: self.clock,
                throttle: LogThrottle::default(),
                unrecorded: Vec::new(),
            };
            let shutdown = self.shutdown.clone();
            tokio::spawn(async move { while panicked("shadow", worker.run(&mut waiting, &shutdown)).await {} });
            queue
        })
    }
}

/// Decides payloads again, one after the other.
struct Worker {
    recorder: Recorder,
    metrics: Arc<Metrics>,
    clock: Clock,
    throttle: LogThrottle,
    /// Differences that are not recorded yet.
    unrecorded: Vec<ShadowDifferences>,
}

impl Worker {
    /// Runs until the relay stops; payloads that wait then are not decided again.
    async fn run(&mut self, waiting: &mut Receiver<ShadowTask>, shutdown: &Shutdown) {
        loop {
            let next = tokio::select! {
                biased;
                () = shutdown.begun() => return,
                next = waiting.recv() => next,
            };
            let Some(ShadowTask { payload, shadow, _room }) = next else {
                return;
            };
            let source = Arc::clone(&payload.source);
            let decided = tokio::task::spawn_blocking(move || (decided_otherwise(&payload, &shadow), payload)).await;
            let Ok((differences, payload)) = decided else {
                // It panicked, which is in the log.
                self.metrics.shadow_decided(&source, Shadowed::Skipped);
                continue;
            };
            self.note(&payload, differences);
            if waiting.is_empty() || self.unrecorded.len() >= RECORDED_AT_ONCE {
                self.record();
            }
        }
    }

    fn note(&mut self, payload: &DecidedPayload, differences: Vec<Difference>) {
        let Some(first) = differences.first() else {
            return self.metrics.shadow_decided(&payload.source, Shadowed::Same);
        };
        self.metrics.shadow_decided(&payload.source, Shadowed::Differs);
        let event = payload.events.get(first.index).copied().flatten();
        if let Some(suppressed) = self.throttle.permit(self.clock.now().monotonic) {
            // The values that differ are for those who may see events: the log gets their path only.
            let (source, event) = (&*payload.source, event.map(|event| event.to_string()));
            let (what, path) = (first.what.as_str(), first.path.as_deref());
            info!(source, event, what, path, suppressed, "the shadow rules would decide otherwise");
        }
        let mut of: Vec<(EventId, Vec<Difference>)> = Vec::new();
        for difference in differences {
            // An ignored element has no event that the difference could be recorded with.
            let Some(event) = payload.events.get(difference.index).copied().flatten() else {
                continue;
            };
            match of.last_mut() {
                Some((last, differences)) if *last == event => differences.push(difference),
                _ => of.push((event, vec![difference])),
            }
        }
        let told = of.into_iter().filter_map(|(event, differences)| {
            Some(ShadowDifferences { event, differences: serde_json::to_string(&differences).ok()? })
        });
        self.unrecorded.extend(told.take(UNRECORDED_MAX - self.unrecorded.len().min(UNRECORDED_MAX)));
    }

    /// Records the differences. Where the recorder is busy they stay for the next time.
    fn record(&mut self) {
        if !self.unrecorded.is_empty()
            && let Err(differences) = self.recorder.record_differences(std::mem::take(&mut self.unrecorded))
        {
            self.unrecorded = differences;
        }
    }
}

/// Where the shadow rules differ from the rules in force.
fn decided_otherwise(payload: &DecidedPayload, shadow: &RuleSet) -> Vec<Difference> {
    let Ok(Decoded { value, repairs }) = payload::decode(&payload.raw, payload.reading) else {
        return Vec::new();
    };
    let received_at = payload.received_at.rfc3339();
    let context = Context { source: &payload.source, received_at: &received_at, json: payload.reading.json, repairs };
    differences(&payload.rules.live.decide(&value, context), &shadow.decide(&value, context))
}

/// Limits of the queue.
const PAYLOADS_MAX: usize = 256;
const BYTES_MAX: usize = 8 << 20;
/// Differences that are recorded together while more payloads wait.
const RECORDED_AT_ONCE: usize = 64;
/// Differences that are kept while the recorder is busy.
const UNRECORDED_MAX: usize = 1_024;
