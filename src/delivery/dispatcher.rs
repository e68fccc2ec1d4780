//! The dispatcher: one task takes queued events to the upstream, in order per key, until each is settled.
//!
//! One task owns the [`Schedule`]: it asks what to do, starts calls, learns how they ended, and takes the
//! [`NextStep`]. Calls run in tasks of their own; settlements go to the recorder. A key is free for its next event when
//! the settlement of the one before is on disk, so that no restart turns the two around.

mod bodies;
mod deliver;
mod delivery_progress;
mod finished_call;
mod next_step;
mod queue_commands;
mod recent_triggers;
mod restored_queue;
mod settled_log;
mod settling;
mod stale_episode;
mod stuck;
#[cfg(test)]
mod tests;
mod upstream_status;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Monotonic, Now, WallTime};
use crate::delivery::breaker;
use crate::delivery::client::Upstream;
use crate::delivery::retry;
use crate::delivery::schedule::{Delivery, Discard, Limits, Schedule, Step};
use crate::delivery::staleness;
use crate::event::{Damage, EventId, KeyId, Outcome, Pending, Queued, Reason, Settlement, State, Superseded};
use crate::journal::decide::Accepted;
use crate::journal::recorder::{Committed, QueueCopy, Recorder};
use crate::journal::{CommandOrigin, Reader};
use crate::logging::LogThrottle;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

use bodies::Bodies;
use deliver::FinishedCall;
pub(crate) use delivery_progress::{DeliveryProgress, FailedCalls};
pub use next_step::{JudgedCall, next_step, tried_before};
use queue_commands::QueueCommand;
pub(crate) use queue_commands::{Discarding, QueueHandle};
pub use recent_triggers::RecentTriggers;
pub use restored_queue::restore;
pub(crate) use restored_queue::{recent_triggers, restore_holds};
use settling::Settling;
use stale_episode::{StaleEpisode, tell_stale_episode};
pub(crate) use stuck::{Failing, Stuck};
pub(crate) use upstream_status::UpstreamStatus;

/// The `upstream` section, as far as pacing and retrying are concerned, and the `delivery` section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub concurrency: usize,
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    pub retry: retry::Settings,
    pub breaker: BreakerConfig,
    /// None: nothing goes stale.
    pub stale: Option<staleness::Settings>,
    pub superseded: Superseded,
}

/// The `upstream.breaker` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    pub failures: u32,
    pub open: Duration,
}

/// The task that delivers.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    schedule: Schedule,
    bodies: Bodies,
    recent_triggers: RecentTriggers,
    stale_episode: StaleEpisode,
    settling: Settling,
    /// Events that a person discards, until that is on disk. One whose call is under way ends with it.
    discarded: HashMap<EventId, Arc<CommandOrigin>>,
    /// When each call that is under way began: no more than `concurrency`.
    calls: HashMap<EventId, WallTime>,
    commands: mpsc::Receiver<QueueCommand>,
    stuck: watch::Sender<Stuck>,
    progress: watch::Sender<DeliveryProgress>,
    /// When it began: events found in the journal age from there.
    started: Now,
    committed: mpsc::Receiver<Committed>,
    reports: mpsc::Receiver<CallReport>,
    /// Notified when a secret changed.
    resume: Arc<Notify>,
    context: Arc<Context>,
    upstream_status: watch::Sender<UpstreamStatus>,
    tasks: TaskTracker,
    cut_off: CancellationToken,
    backlog_told: Monotonic,
}

/// The handles that all its tasks share.
#[derive(Debug)]
struct Context {
    upstream: Arc<Upstream>,
    recorder: Recorder,
    reader: Arc<Reader>,
    /// One read at a time: who waits for it holds no thread.
    reading: Semaphore,
    clock: Clock,
    metrics: Arc<Metrics>,
    config: Config,
    reports: mpsc::Sender<CallReport>,
    /// For lines about events that ended as they should.
    ended_log: LogThrottle,
}

/// The dispatcher as others see and command it.
#[derive(Debug)]
pub(crate) struct Watched {
    pub upstream_status: watch::Receiver<UpstreamStatus>,
    pub stuck: watch::Receiver<Stuck>,
    pub progress: watch::Receiver<DeliveryProgress>,
    pub queue: QueueHandle,
}

/// The parts that the dispatcher is put together from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub config: Config,
    pub upstream: Arc<Upstream>,
    pub recorder: Recorder,
    /// A connection of its own, so that deliveries wait for no other reader.
    pub reader: Arc<Reader>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// The events that were queued before this start, see [`restore`].
    pub schedule: Schedule,
    /// The keys that were triggered shortly before this start, see [`recent_triggers`].
    pub recent_triggers: RecentTriggers,
    pub committed: mpsc::Receiver<Committed>,
    pub resume: Arc<Notify>,
}

/// The end of a delivery's task.
#[derive(Debug)]
enum CallReport {
    /// A call ended.
    Finished(Box<FinishedCall>),
    /// No call was made: the body could not be read back, or the task failed.
    NotCalled(Delivery),
    /// No call was made: what was to be sent is not what was written.
    Damaged(Delivery, Damage),
}

impl CallReport {
    fn event(&self) -> EventId {
        match self {
            CallReport::Finished(call) => call.delivery.event.id,
            CallReport::NotCalled(delivery) | CallReport::Damaged(delivery, _) => delivery.event.id,
        }
    }
}

impl Config {
    /// The limits that the schedule keeps. Neither an open breaker nor a pause outlasts `retry.max` without a probe.
    pub fn limits(&self) -> Limits {
        Limits {
            concurrency: self.concurrency,
            per_second: self.per_second,
            burst: self.burst,
            unsettled: UNSETTLED_MAX,
            breaker: breaker::Settings {
                failures: self.breaker.failures,
                open: self.breaker.open.min(self.retry.max),
                pause: PAUSE.min(self.retry.max),
            },
            superseded: self.superseded,
        }
    }
}

impl Dispatcher {
    /// Puts it together. The receivers show how deliveries go.
    pub(crate) fn new(parts: Parts) -> (Dispatcher, Watched) {
        let Parts { config, upstream, recorder, reader, clock, metrics, schedule, recent_triggers, committed, resume } =
            parts;
        let (sender, reports) = mpsc::channel(REPORTS);
        let (upstream_status, status_watched) = watch::channel(UpstreamStatus::Answering { since: clock.now().wall });
        let (stuck, stuck_watched) = watch::channel(Stuck::default());
        let (progress, progress_watched) = watch::channel(DeliveryProgress::default());
        let (queue, commands) = QueueHandle::new();
        let context = Context {
            upstream,
            recorder,
            reader,
            reading: Semaphore::new(1),
            clock,
            metrics,
            config,
            reports: sender,
            ended_log: LogThrottle::default(),
        };
        let dispatcher = Dispatcher {
            schedule,
            bodies: Bodies::default(),
            recent_triggers,
            stale_episode: StaleEpisode::default(),
            settling: Settling::default(),
            discarded: HashMap::new(),
            calls: HashMap::new(),
            commands,
            stuck,
            progress,
            started: clock.now(),
            committed,
            reports,
            resume,
            context: Arc::new(context),
            upstream_status,
            tasks: TaskTracker::new(),
            cut_off: CancellationToken::new(),
            backlog_told: Monotonic(i64::MIN / 2),
        };
        let watched =
            Watched { upstream_status: status_watched, stuck: stuck_watched, progress: progress_watched, queue };
        (dispatcher, watched)
    }

    /// Delivers until the stop is told; then finishes what is under way, for at most `limit`. What is not finished
    /// stays queued on disk.
    pub(crate) async fn run(mut self, shutdown: Shutdown, limit: Duration) {
        loop {
            self.handle_pending();
            let wake = self.start_deliveries();
            tokio::select! {
                () = shutdown.begun() => break,
                Some(committed) = self.committed.recv() => self.handle_commit(committed),
                Some(report) = self.reports.recv() => self.handle_report(report),
                Some(command) = self.commands.recv() => self.handle_command(command),
                () = self.resume.notified() => self.schedule.resume(self.context.clock.now().monotonic),
                () = sleep_until(&self.context.clock, wake) => {}
            }
        }
        let drained = tokio::time::timeout(limit, async {
            while !self.schedule.is_quiet() {
                tokio::select! {
                    Some(report) = self.reports.recv() => self.handle_report(report),
                    // A fresh event is not delivered any more, but is known: the recorder may ask for all that waits.
                    Some(committed) = self.committed.recv() => self.handle_commit(committed),
                }
            }
        });
        if drained.await.is_err() {
            self.cut_off.cancel();
            let in_flight = self.schedule.in_flight();
            tracing::warn!(in_flight, "calls under way were cut off; their events stay queued");
        }
        self.finish().await;
    }

    /// Hears the last tasks, and leaves what is known of the queue to the recorder, which ends later.
    async fn finish(mut self) {
        self.tasks.close();
        let tasks = self.tasks.clone();
        loop {
            tokio::select! {
                // Whatever was told before the last task ended is heard.
                biased;
                Some(report) = self.reports.recv() => self.handle_report(report),
                // The recorder, which the last tasks write to, must not wait for its place.
                Some(committed) = self.committed.recv() => self.handle_commit(committed),
                () = tasks.wait() => break,
            }
        }
        // The recorder notes for itself what it can't tell here any more.
        self.committed.close();
        while let Some(committed) = self.committed.recv().await {
            self.handle_commit(committed);
        }
        self.context.recorder.leave_queue(self.queue_copy());
    }

    /// Handles what has come by now, so that one round of the schedule serves it all.
    fn handle_pending(&mut self) {
        for _ in 0..HANDLED_AT_ONCE {
            if let Ok(committed) = self.committed.try_recv() {
                self.handle_commit(committed);
            } else if let Ok(report) = self.reports.try_recv() {
                self.handle_report(report);
            } else {
                return;
            }
        }
    }

    /// Starts every delivery that may start now; returns when to look again.
    fn start_deliveries(&mut self) -> Option<Monotonic> {
        let wake = loop {
            let now = self.context.clock.now();
            let (settings, started) = (self.context.config.stale, self.started);
            let decide = |event: &Queued, resolve_waits| {
                staleness::decide(settings, event, staleness::age(event, started, now), resolve_waits)
            };
            match self.schedule.next(now.monotonic, decide) {
                Step::Start(delivery) => {
                    if delivery.stale.is_some() && self.stale_episode.sent(now.monotonic) {
                        tell_stale_episode();
                    }
                    let body = self.bodies.get(delivery.event.id);
                    self.count_first_attempt(&delivery, body.as_ref().map(|body| body.acknowledged), now);
                    self.calls.insert(delivery.event.id, now.wall);
                    self.spawn(deliver::deliver(Arc::clone(&self.context), delivery, body));
                }
                Step::Settle(to_settle) => self.settle_without_call(to_settle, now),
                Step::WaitUntil(at) => break Some(at),
                Step::Wait => break None,
            }
        };
        self.publish_progress();
        wake
    }

    fn handle_commit(&mut self, Committed { accepted, settled, queue_copy_request }: Committed) {
        self.settlements_durable(settled);
        if let Some(reply) = queue_copy_request {
            let _ = reply.send(self.queue_copy());
        }
        for Accepted { event, outgoing } in accepted {
            let now = self.context.clock.now();
            if let Some(to_settle) = self.schedule.enqueue(&event, now.monotonic) {
                self.settle_without_call(to_settle, now);
            }
            // Behind a long backlog it waits for a while: until then the journal keeps its body.
            if let Some(outgoing) = outgoing.filter(|_| self.schedule.len() <= bodies::WAITING_MAX) {
                self.bodies.put(event.id, outgoing);
            }
        }
    }

    /// These settlements are on disk.
    fn settlements_durable(&mut self, settled: Vec<Settlement>) {
        let now = self.context.clock.now().monotonic;
        for settlement in settled {
            let Some(unwritten) = self.settling.take(settlement.id) else {
                continue;
            };
            let event = unwritten.event;
            let source = self.context.recorder.sources().name(event.source);
            settled_log::tell(&self.context, &source, &unwritten, &settlement);
            self.discarded.remove(&event.id);
            self.stuck.send_if_modified(|stuck| stuck.remove(event.id));
            if let Some(key) = unwritten.key {
                let done = settlement.state == State::Delivered && settlement.outcome != Some(Outcome::Unmatched);
                self.schedule.settled(key, done, now);
            }
            if let Some(told) = unwritten.told {
                let _ = told.send(());
            }
        }
    }

    /// A copy of the queue, for a journal that lacks some of it.
    fn queue_copy(&self) -> QueueCopy {
        let mut waiting: Vec<Pending> = self.schedule.events().collect();
        waiting.retain(|waits| !self.settling.contains(waits.event));
        QueueCopy { waiting, ending: self.settling.events().collect(), bodies: self.bodies.all() }
    }

    fn handle_command(&mut self, command: QueueCommand) {
        let now = self.context.clock.now();
        match command {
            QueueCommand::Discard { events, origin, reply } => {
                let discard = |(event, key)| self.discard(event, key, &origin, now);
                let results = events.into_iter().map(discard).collect();
                let _ = reply.send(results);
            }
            QueueCommand::Hold { target, held, done } => {
                let sources = self.context.recorder.sources();
                queue_commands::set_hold(&mut self.schedule, &target, held, sources, now.monotonic);
                let _ = done.send(());
            }
            QueueCommand::CallSince { event, reply } => {
                let _ = reply.send(self.calls.get(&event).copied());
            }
            QueueCommand::Survey { mut survey, reply } => {
                let is_whole = self.schedule.survey(&mut survey, now.monotonic);
                let _ = reply.send((survey, is_whole));
            }
        }
    }

    fn discard(&mut self, event: EventId, key: KeyId, origin: &Arc<CommandOrigin>, now: Now) -> Discarding {
        let (told, written) = oneshot::channel();
        match self.schedule.discard(key, event, now.monotonic) {
            Discard::Settle(to_settle) => {
                self.discarded.insert(event, Arc::clone(origin));
                self.settle_without_call(to_settle, now);
                self.settling.tell(event, told);
            }
            Discard::UnderWay if self.settling.contains(event) => return Discarding::NotWaiting,
            Discard::UnderWay => {
                // Whoever was first ended it.
                self.discarded.entry(event).or_insert_with(|| Arc::clone(origin));
                return Discarding::UnderWay;
            }
            Discard::NotWaiting => return Discarding::NotWaiting,
        }
        Discarding::Ends(written)
    }

    fn handle_report(&mut self, report: CallReport) {
        let now = self.context.clock.now();
        self.calls.remove(&report.event());
        match report {
            CallReport::Finished(call) => self.call_finished(*call, now),
            CallReport::NotCalled(delivery) if self.discarded.contains_key(&delivery.event.id) => {
                self.settle_uncalled(&delivery, State::Ended, Reason::Discarded, now);
            }
            CallReport::NotCalled(delivery) => {
                // The event waits like one whose call failed; it says nothing about the upstream, and is not given up.
                self.schedule.not_called(&delivery, now.monotonic.after(self.context.config.retry.max), now.monotonic);
            }
            // Its body fails its checksum: it is never sent.
            CallReport::Damaged(delivery, damage) => {
                self.settle_uncalled(&delivery, State::Dead, Reason::Damaged(damage), now);
            }
        }
    }

    fn count_first_attempt(&self, delivery: &Delivery, acknowledged: Option<WallTime>, now: Now) {
        if delivery.before.is_none() {
            let source = self.context.recorder.sources().name(delivery.event.source);
            let wait = now.monotonic.since(delivery.event.acknowledged);
            let wait = staleness::precise_age(wait, acknowledged, now.wall);
            self.context.metrics.first_attempt(&source, delivery.lane.as_str(), wait);
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut_off = self.cut_off.clone();
        // A call's task is several kilobytes large, and moved from hand to hand on its way to the runtime.
        let task = Box::pin(task);
        self.tasks.spawn(async move { cut_off.run_until_cancelled(task).await });
    }
}

impl Context {
    async fn report(&self, report: CallReport) {
        // Fails only when the dispatcher has stopped listening, at the end of the process.
        let _ = self.reports.send(report).await;
    }
}

async fn sleep_until(clock: &Clock, at: Option<Monotonic>) {
    match at {
        Some(at) => tokio::time::sleep_until(clock.instant(at).into()).await,
        None => std::future::pending().await,
    }
}

/// Settlements that wait for the disk. Beyond this, while the disk is full, deliveries stop too.
const UNSETTLED_MAX: usize = 10_000;
/// Reports that wait to be handled; one takes a microsecond.
const REPORTS: usize = 1_024;
/// Messages that are handled before deliveries are started.
const HANDLED_AT_ONCE: usize = 256;
/// The length of a pause before a probe, if `retry.max` does not say less.
const PAUSE: Duration = Duration::from_secs(10);
