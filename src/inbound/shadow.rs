//! Decides payloads a second time by shadow rules, and records where they would decide otherwise.
//!
//! A payload is decided again, by both rule sets, once it is recorded; what differs goes to the recorder. Only
//! so much waits: beyond that payloads are skipped and counted, and no sender waits for any of it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

use super::charset::Charset;
use super::loaded_rules::SourceRules;
use super::payload;
use crate::clock::{Clock, WallTime};
use crate::event::EventId;
use crate::journal::recorder::{Recorder, Unlike};
use crate::logging::LogThrottle;
use crate::metrics::{Metrics, Shadowed};
use crate::rules::diff::{Difference, differences};
use crate::rules::{Context, RuleSet};
use crate::shutdown::Shutdown;
use crate::supervision::panicked;

/// Where payloads wait to be decided again. Nothing runs until the first one comes.
#[derive(Debug)]
pub(super) struct Shadow {
    queue: OnceLock<Sender<Waiting>>,
    bytes: Arc<Semaphore>,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    clock: Clock,
    shutdown: Shutdown,
}

/// A payload that was decided.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) source: Arc<str>,
    pub(super) raw: Bytes,
    pub(super) charset: Charset,
    pub(super) received_at: WallTime,
    pub(super) rules: SourceRules,
    /// The events that it became or repeats, by element; none where an element was ignored.
    pub(super) events: Vec<Option<EventId>>,
}

/// One that waits, with the room that it takes.
#[derive(Debug)]
struct Waiting {
    sighting: Sighting,
    shadow: Arc<RuleSet>,
    _room: OwnedSemaphorePermit,
}

impl Shadow {
    pub(super) fn new(recorder: Recorder, metrics: Arc<Metrics>, clock: Clock, shutdown: Shutdown) -> Shadow {
        let bytes = Arc::new(Semaphore::new(BYTES_MAX));
        Shadow { queue: OnceLock::new(), bytes, recorder, metrics, clock, shutdown }
    }

    /// Has a payload decided again, unless too much waits for that.
    pub(super) fn see(&self, sighting: Sighting) {
        let Some(shadow) = sighting.rules.shadow.clone() else {
            return;
        };
        let source = Arc::clone(&sighting.source);
        let share = u32::try_from(sighting.raw.len().min(BYTES_MAX)).unwrap_or(u32::MAX);
        let sent = match Arc::clone(&self.bytes).try_acquire_many_owned(share) {
            Ok(room) => self.queue().try_send(Waiting { sighting, shadow, _room: room }).is_ok(),
            Err(_) => false,
        };
        if !sent {
            self.metrics.shadow_decided(&source, Shadowed::Skipped);
        }
    }

    fn queue(&self) -> &Sender<Waiting> {
        self.queue.get_or_init(|| {
            let (queue, mut waiting) = mpsc::channel(PAYLOADS_MAX);
            let mut worker = Worker {
                recorder: self.recorder.clone(),
                metrics: Arc::clone(&self.metrics),
                clock: self.clock,
                throttle: LogThrottle::default(),
                unlike: Vec::new(),
            };
            let shutdown = self.shutdown.clone();
            tokio::spawn(async move { while panicked("shadow", worker.run(&mut waiting, &shutdown)).await {} });
            queue
        })
    }
}

/// Decides again, one payload after the other.
struct Worker {
    recorder: Recorder,
    metrics: Arc<Metrics>,
    clock: Clock,
    throttle: LogThrottle,
    /// What is to be recorded.
    unlike: Vec<Unlike>,
}

impl Worker {
    /// Until the relay stops: what waits then is not decided.
    async fn run(&mut self, waiting: &mut Receiver<Waiting>, shutdown: &Shutdown) {
        loop {
            let next = tokio::select! {
                biased;
                () = shutdown.begun() => return,
                next = waiting.recv() => next,
            };
            let Some(Waiting { sighting, shadow, _room }) = next else {
                return;
            };
            let source = Arc::clone(&sighting.source);
            let decided = tokio::task::spawn_blocking(move || (decided_otherwise(&sighting, &shadow), sighting)).await;
            let Ok((differences, sighting)) = decided else {
                // It panicked, which the log tells.
                self.metrics.shadow_decided(&source, Shadowed::Skipped);
                continue;
            };
            self.take(&sighting, differences);
            if waiting.is_empty() || self.unlike.len() >= RECORDED_AT_ONCE {
                self.record();
            }
        }
    }

    fn take(&mut self, sighting: &Sighting, differences: Vec<Difference>) {
        let Some(first) = differences.first() else {
            return self.metrics.shadow_decided(&sighting.source, Shadowed::Same);
        };
        self.metrics.shadow_decided(&sighting.source, Shadowed::Differs);
        let event = sighting.events.get(first.index).copied().flatten();
        if let Some(suppressed) = self.throttle.permit(self.clock.now().monotonic) {
            // The values that differ are a matter for those who may see events.
            let (source, event) = (&*sighting.source, event.map(|event| event.to_string()));
            let (what, path) = (first.what.as_str(), first.path.as_deref());
            info!(source, event, what, path, suppressed, "the shadow rules would decide otherwise");
        }
        let mut of: Vec<(EventId, Vec<Difference>)> = Vec::new();
        for difference in differences {
            // What the rules ignored left no event that it could be recorded with.
            let Some(event) = sighting.events.get(difference.index).copied().flatten() else {
                continue;
            };
            match of.last_mut() {
                Some((last, differences)) if *last == event => differences.push(difference),
                _ => of.push((event, vec![difference])),
            }
        }
        let told = of.into_iter().filter_map(|(event, differences)| {
            Some(Unlike { event, differences: serde_json::to_string(&differences).ok()? })
        });
        self.unlike.extend(told.take(UNRECORDED_MAX - self.unlike.len().min(UNRECORDED_MAX)));
    }

    /// Hands over what was found, unless the recorder has better things to do; then it is tried again with what is found
    /// next.
    fn record(&mut self) {
        if !self.unlike.is_empty()
            && let Err(unlike) = self.recorder.differ(std::mem::take(&mut self.unlike))
        {
            self.unlike = unlike;
        }
    }
}

/// What the shadow rules would have decided otherwise.
fn decided_otherwise(sighting: &Sighting, shadow: &RuleSet) -> Vec<Difference> {
    let Ok(payload) = payload::decode(&sighting.raw, sighting.charset) else {
        return Vec::new();
    };
    let received_at = sighting.received_at.rfc3339();
    let context = Context { source: &sighting.source, received_at: &received_at };
    differences(&sighting.rules.live.decide(&payload, context), &shadow.decide(&payload, context))
}

/// Payloads that wait, and the bytes of them all.
const PAYLOADS_MAX: usize = 256;
const BYTES_MAX: usize = 8 << 20;
/// Differences that are recorded together while more payloads wait.
const RECORDED_AT_ONCE: usize = 64;
/// Differences that are kept while the recorder is busy.
const UNRECORDED_MAX: usize = 1_024;
