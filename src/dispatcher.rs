//! Delivery: takes queued events, in order per key, to the upstream, until it has really done it.
//!
//! One task owns the [`Schedule`] and asks it what to do; each call runs in a task of its own and reports back.
//! What follows from an answer is decided by [`outcome`] and [`retry`]; this only carries it out. A key is free for
//! its next event when the end of the one before is on disk, so that no restart turns the two around.

mod bodies;
mod delivery;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::journal::Reader;
use crate::metrics::Metrics;
use crate::outcome::Trouble;
use crate::recorder::{Fresh, Recorder};
use crate::retry::{self, Trial};
use crate::schedule::{KeySlot, Limits, Schedule, Step};
use crate::shutdown::Shutdown;
use crate::time::{Clock, Monotonic, WallTime};
use crate::upstream::Upstream;

use bodies::Bodies;

/// The `upstream` section, as far as pacing and retrying are concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub concurrency: usize,
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    pub retry: retry::Settings,
}

/// Everything the dispatcher works with.
#[derive(Debug)]
pub struct Dispatcher {
    schedule: Schedule,
    bodies: Bodies,
    fresh: mpsc::Receiver<Vec<Fresh>>,
    reports: mpsc::Receiver<Report>,
    desk: Arc<Desk>,
    tasks: TaskTracker,
    cut_off: CancellationToken,
    backlog_told: Monotonic,
}

/// What the delivery tasks share.
#[derive(Debug)]
struct Desk {
    config: Config,
    upstream: Upstream,
    recorder: Recorder,
    reader: Arc<Reader>,
    clock: Clock,
    metrics: Arc<Metrics>,
    reports: mpsc::Sender<Report>,
    condition: watch::Sender<Condition>,
}

/// What the dispatcher needs to start.
#[derive(Debug)]
pub struct Parts {
    pub config: Config,
    pub upstream: Upstream,
    pub recorder: Recorder,
    pub reader: Arc<Reader>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// What was queued before this start, in order.
    pub schedule: Schedule,
    pub fresh: mpsc::Receiver<Vec<Fresh>>,
}

/// How deliveries go, for readiness and logs: it changes when the state of affairs does, not with every attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The last call was answered as it should be, or none was made yet.
    Fine,
    Troubled {
        trouble: Trouble,
        status: Option<u16>,
        detail: Option<String>,
        since: WallTime,
    },
}

/// What a delivery task tells.
#[derive(Clone, Copy, Debug)]
enum Report {
    /// The call ended; its place is free.
    Ended,
    /// The event is settled on disk.
    Settled(KeySlot),
    Again {
        key: KeySlot,
        trial: Trial,
        at: Monotonic,
    },
}

impl Config {
    /// The limits that the schedule keeps.
    pub fn limits(&self) -> Limits {
        Limits {
            concurrency: self.concurrency,
            per_second: self.per_second,
            burst: self.burst,
            unsettled: UNSETTLED_MAX,
        }
    }
}

impl Dispatcher {
    /// Puts it together. The receiver shows how deliveries go.
    pub fn new(parts: Parts) -> (Dispatcher, watch::Receiver<Condition>) {
        let Parts { config, upstream, recorder, reader, clock, metrics, schedule, fresh } = parts;
        let (sender, reports) = mpsc::channel(REPORTS);
        let (condition, watched) = watch::channel(Condition::Fine);
        let desk = Desk { config, upstream, recorder, reader, clock, metrics, reports: sender, condition };
        let dispatcher = Dispatcher {
            schedule,
            bodies: Bodies::default(),
            fresh,
            reports,
            desk: Arc::new(desk),
            tasks: TaskTracker::new(),
            cut_off: CancellationToken::new(),
            backlog_told: Monotonic(i64::MIN / 2),
        };
        (dispatcher, watched)
    }

    /// Delivers until the stop is told; then finishes what is under way, for at most `limit`. What is not finished
    /// stays queued on disk.
    pub async fn run(mut self, shutdown: Shutdown, limit: Duration) {
        loop {
            let wake = self.start_what_may();
            tokio::select! {
                () = shutdown.begun() => break,
                Some(fresh) = self.fresh.recv() => self.enqueue(fresh),
                Some(report) = self.reports.recv() => self.hear(report),
                () = sleep_until(&self.desk.clock, wake) => {}
            }
        }
        let drained = tokio::time::timeout(limit, async {
            while !self.schedule.is_quiet() {
                tokio::select! {
                    Some(report) = self.reports.recv() => self.hear(report),
                    // Not to be delivered now, but the recorder must not wait for its place.
                    Some(_) = self.fresh.recv() => {}
                }
            }
        });
        if drained.await.is_err() {
            self.cut_off.cancel();
            tracing::warn!(
                in_flight = self.schedule.in_flight(),
                "calls under way were cut off; their events stay queued"
            );
        }
    }

    /// Starts every delivery that may start now; returns when to look again.
    fn start_what_may(&mut self) -> Option<Monotonic> {
        loop {
            let now = self.desk.clock.now().monotonic;
            match self.schedule.next(now) {
                Step::Start(delivery) => {
                    let body = self.bodies.take(delivery.id);
                    let delivery = delivery::deliver(Arc::clone(&self.desk), delivery, body);
                    let cut_off = self.cut_off.clone();
                    self.tasks.spawn(async move { cut_off.run_until_cancelled(delivery).await });
                    self.show();
                }
                Step::WaitUntil(at) => {
                    self.tell_backlog(now);
                    return Some(at);
                }
                Step::Wait => return None,
            }
        }
    }

    fn enqueue(&mut self, fresh: Vec<Fresh>) {
        for Fresh { event, outgoing } in fresh {
            self.schedule.enqueue(&event);
            self.bodies.put(event.id, outgoing);
        }
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Ended => self.schedule.ended(),
            Report::Settled(key) => self.schedule.release(key),
            Report::Again { key, trial, at } => self.schedule.again(key, trial, at),
        }
        self.show();
    }

    fn show(&self) {
        self.desk.metrics.in_flight.set(i64::try_from(self.schedule.in_flight()).unwrap_or(i64::MAX));
    }

    /// A backlog that takes longer than a moment is logged with how long it will take, now and then.
    fn tell_backlog(&mut self, now: Monotonic) {
        let drain_time = self.schedule.drain_time();
        if drain_time < BACKLOG_WORTH_TELLING || now.since(self.backlog_told) < BACKLOG_TOLD_EVERY {
            return;
        }
        self.backlog_told = now;
        tracing::info!(
            events = self.schedule.len(),
            takes_s = drain_time.as_secs(),
            "a backlog is being delivered at `upstream.rate_limit`"
        );
    }
}

impl Condition {
    /// Whether the two are the same state of affairs, however long it has lasted.
    fn is_like(&self, other: &Condition) -> bool {
        match (self, other) {
            (Condition::Fine, Condition::Fine) => true,
            (Condition::Troubled { trouble, status, .. }, Condition::Troubled { trouble: other, status: code, .. }) => {
                trouble == other && status == code
            }
            _ => false,
        }
    }
}

async fn sleep_until(clock: &Clock, at: Option<Monotonic>) {
    match at {
        Some(at) => tokio::time::sleep_until(clock.instant(at).into()).await,
        None => std::future::pending().await,
    }
}

/// Ends that wait for the disk. More than this while the disk is full, and deliveries stop too.
const UNSETTLED_MAX: usize = 10_000;
/// Reports that wait to be heard; hearing one takes a microsecond.
const REPORTS: usize = 1_024;
const BACKLOG_WORTH_TELLING: Duration = Duration::from_secs(30);
const BACKLOG_TOLD_EVERY: Duration = Duration::from_secs(60);
