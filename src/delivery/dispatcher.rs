//! The dispatcher: one task takes queued events to the upstream, in order per key, until each is settled.
//!
//! One task owns the [`Schedule`]: it asks what to do, starts calls, learns how they ended, and takes the
//! [`NextStep`]. Calls run in tasks of their own; settlements go to the recorder. A key is free for its next event when
//! the settlement of the one before is on disk, so that no restart turns the two around.

mod bodies;
mod delivery;
mod next_step;
mod progress;
mod queue_commands;
mod recent_triggers;
mod settling;
mod stale_episode;
mod stuck;
#[cfg(test)]
mod tests;
mod upstream_status;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callgoose::answer::{self, Verdict};
use crate::clock::{Clock, Monotonic, Now, WallTime};
use crate::delivery::breaker::{self, FailureOf};
use crate::delivery::client::Upstream;
use crate::delivery::retry::{self, NextStep, RetryState};
use crate::delivery::schedule::{Delivery, Discard, KeySlot, Lane, Limits, Schedule, Step, Withdrawn};
use crate::delivery::staleness;
use crate::event::{
    Damage, EventId, HoldRecord, KeyId, Outcome, Pending, Queued, Reason, Settlement, SourceNames, State, Superseded,
};
use crate::journal::recorder::{Accepted, Committed, QueueCopy, Recorder, Settle};
use crate::journal::{self, AttemptRecord, Delivered, Reader, Tried};
use crate::logging::LogThrottle;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

use bodies::Bodies;
use delivery::Called;
pub use next_step::{Ended, is_in_doubt, next_step, tried_before};
pub use progress::{DeliveryProgress, FailedCalls};
use queue_commands::QueueCommand;
pub use queue_commands::{Hold, QueueHandle, Withdrawal};
pub use recent_triggers::RecentTriggers;
use settling::{Settling, Unwritten};
use stale_episode::StaleEpisode;
pub use stuck::{Failing, Stuck};
pub use upstream_status::UpstreamStatus;

/// The `upstream` section, as far as pacing and retrying are concerned, and the `delivery` section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub concurrency: usize,
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    pub retry: retry::Settings,
    pub breaker: Breaker,
    /// None: nothing goes stale.
    pub stale: Option<staleness::Settings>,
    pub superseded: Superseded,
}

/// The `upstream.breaker` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    pub failures: u32,
    pub open: Duration,
}

/// The task that delivers.
#[derive(Debug)]
pub struct Dispatcher {
    schedule: Schedule,
    bodies: Bodies,
    recent_triggers: RecentTriggers,
    stale_episode: StaleEpisode,
    settling: Settling,
    /// Events that a person discarded while their call was under way: they end with it.
    discarded: HashSet<EventId>,
    commands: mpsc::Receiver<QueueCommand>,
    stuck: watch::Sender<Stuck>,
    progress: watch::Sender<DeliveryProgress>,
    /// When it began: events found in the journal age from there.
    started: Now,
    committed: mpsc::Receiver<Committed>,
    reports: mpsc::Receiver<Report>,
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
    reports: mpsc::Sender<Report>,
    /// For lines about events that ended as they should.
    ended_log: LogThrottle,
}

/// The dispatcher as others see and command it.
#[derive(Debug)]
pub struct Watched {
    pub upstream_status: watch::Receiver<UpstreamStatus>,
    pub stuck: watch::Receiver<Stuck>,
    pub progress: watch::Receiver<DeliveryProgress>,
    pub queue: QueueHandle,
}

/// The parts that the dispatcher is put together from.
#[derive(Debug)]
pub struct Parts {
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
enum Report {
    /// A call ended.
    Called(Box<Called>),
    /// No call was made: the body could not be read back, or the task failed.
    NotCalled(Delivery),
    /// No call was made: what was to be sent is not what was written.
    Damaged(Delivery, Damage),
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

/// Puts an event that was queued before this start into the schedule, where its retries stood.
pub fn restore(schedule: &mut Schedule, event: &Queued, tried: Option<Tried>, retry: retry::Settings, now: Now) {
    let Some(Tried { attempts, age, retry_at, asked }) = tried else {
        schedule.enqueue(event, now.monotonic);
        return;
    };
    let state = RetryState { attempts, since: now.monotonic.before(age), resends: 0, answered: None };
    let wait = retry::wait_left(retry, retry_at, asked, now.wall);
    schedule.enqueue_tried(event, state, now.monotonic.after(wait));
}

/// The keys that had a trigger delivered shortly before this start.
pub fn recent_triggers(reader: &Reader, retry: retry::Settings, now: Now) -> Result<RecentTriggers, journal::Error> {
    let within = retry.unresolved.over;
    let mut recent = RecentTriggers::new(within);
    for Delivered { key, action, outcome, at } in reader.delivered_since(now.wall.before(within))? {
        recent.delivered(key, action, outcome, now.monotonic.before(now.wall.since(at)));
    }
    Ok(recent)
}

/// Holds back what was held back before this start.
pub fn hold_again(schedule: &mut Schedule, holds: &[HoldRecord], sources: &SourceNames, now: Now) {
    for HoldRecord { target, .. } in holds {
        match &target.incident_key {
            Some(key) => schedule.hold_key(KeyId::new(&target.source, key), now.monotonic),
            None => schedule.hold_source(sources.id(&target.source), now.monotonic),
        }
    }
}

impl Dispatcher {
    /// Puts it together. The receivers show how deliveries go.
    pub fn new(parts: Parts) -> (Dispatcher, Watched) {
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
            discarded: HashSet::new(),
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
    pub async fn run(mut self, shutdown: Shutdown, limit: Duration) {
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
                    // What is fresh is not delivered any more, but is known: the recorder may ask for all that waits.
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
        self.context.recorder.leave(self.remembered());
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
                    self.spawn(delivery::deliver(Arc::clone(&self.context), delivery, body));
                }
                Step::Settle(withdrawn) => self.settle_withdrawn(withdrawn, now),
                Step::WaitUntil(at) => break Some(at),
                Step::Wait => break None,
            }
        };
        self.publish_progress();
        wake
    }

    fn handle_commit(&mut self, Committed { accepted, settled: ended, recall }: Committed) {
        self.release(ended);
        if let Some(reply) = recall {
            let _ = reply.send(self.remembered());
        }
        for Accepted { event, outgoing } in accepted {
            let now = self.context.clock.now();
            if let Some(withdrawn) = self.schedule.enqueue(&event, now.monotonic) {
                self.settle_withdrawn(withdrawn, now);
            }
            // Behind a long backlog it waits for a while: until then the journal keeps its body.
            if let Some(outgoing) = outgoing.filter(|_| self.schedule.len() <= bodies::WAITING_MAX) {
                self.bodies.put(event.id, outgoing);
            }
        }
    }

    /// A copy of the queue, for a journal that lacks some of it.
    fn remembered(&self) -> QueueCopy {
        let mut waiting: Vec<Pending> = self.schedule.events().collect();
        waiting.retain(|waits| !self.settling.contains(waits.event));
        QueueCopy { waiting, ending: self.settling.events().collect(), bodies: self.bodies.all() }
    }

    fn handle_command(&mut self, command: QueueCommand) {
        let now = self.context.clock.now();
        match command {
            QueueCommand::Discard { events, reply } => {
                let withdrawals = events.into_iter().map(|(event, key)| self.discard(event, key, now)).collect();
                let _ = reply.send(withdrawals);
            }
            QueueCommand::Hold { what, held, done } => {
                match (what, held) {
                    (Hold::Key(key), true) => self.schedule.hold_key(key, now.monotonic),
                    (Hold::Key(key), false) => self.schedule.let_go_key(key, now.monotonic),
                    (Hold::Source(source), true) => self.schedule.hold_source(source, now.monotonic),
                    (Hold::Source(source), false) => self.schedule.let_go_source(source, now.monotonic),
                }
                let _ = done.send(());
            }
        }
    }

    fn discard(&mut self, event: EventId, key: KeyId, now: Now) -> Withdrawal {
        let (told, written) = oneshot::channel();
        match self.schedule.discard(key, event, now.monotonic) {
            Discard::Settle(withdrawn) => {
                self.settle_withdrawn(withdrawn, now);
                self.settling.tell(event, told);
            }
            Discard::UnderWay if self.settling.contains(event) => return Withdrawal::NotWaiting,
            Discard::UnderWay => {
                self.discarded.insert(event);
                return Withdrawal::UnderWay;
            }
            Discard::NotWaiting => return Withdrawal::NotWaiting,
        }
        Withdrawal::Ends(written)
    }

    fn handle_report(&mut self, report: Report) {
        let now = self.context.clock.now();
        match report {
            Report::Called(called) => self.called(*called, now),
            Report::NotCalled(delivery) if self.discarded.remove(&delivery.event.id) => {
                self.settle_uncalled(&delivery, State::Ended, Reason::Discarded, now);
            }
            Report::NotCalled(delivery) => {
                // The event waits like one whose call failed; it says nothing about the upstream, and is not given up.
                self.schedule.not_called(&delivery, now.monotonic.after(self.context.config.retry.max), now.monotonic);
            }
            // Its body fails its checksum: it is never sent.
            Report::Damaged(delivery, damage) => {
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

    /// A call ended: another one follows later, or the event is settled.
    fn called(&mut self, called: Called, now: Now) {
        let delivery = called.delivery;
        let id = delivery.event.id;
        let verdict = match &called.answer {
            Ok(answer) => answer::judge(delivery.event.action, answer.status, answer.body()),
            Err(error) => answer::judge_failure(error.trouble),
        };
        let retry_after = called.retry_after(now);
        let failure = self.schedule.ended(&delivery, verdict, retry_after, now.monotonic);
        self.context.metrics.attempted(verdict.as_str(), called.took);
        // An event that was rejected was answered.
        let trouble = failure.and(verdict.trouble());
        self.progress.send_modify(|progress| progress.called(trouble, called.status(), now.wall));
        let open = self.schedule.breaker().open_by();
        upstream_status::update(&self.upstream_status, open, verdict, &called, &self.context, now.wall);

        let (ended, settings) = (Ended { delivery, verdict, failure, retry_after }, self.context.config.retry);
        let (schedule, recent) = (&self.schedule, &self.recent_triggers);
        let (attempts, result) = match next_step(ended, settings, schedule, recent, now, fastrand::f64()) {
            NextStep::Retry { state, .. } if self.discarded.remove(&id) => (state.attempts, Err(Reason::Discarded)),
            NextStep::Retry { state, at } => {
                self.note_failing(&called, verdict, failure, state, now);
                let tried = tried_before(state, at, retry_after, &self.schedule, now);
                self.schedule.again(delivery.key, state, at);
                let record = called.record(state.attempts, verdict);
                let context = Arc::clone(&self.context);
                return self.spawn(async move { context.recorder.attempted(record, tried).await });
            }
            NextStep::Settle { attempts, result } => (attempts, result),
        };
        let is_stale = delivery.stale.is_some();
        if let Ok(outcome) = result {
            let Queued { key, action, .. } = delivery.event;
            self.recent_triggers.delivered(key, action, outcome, now.monotonic);
            if is_stale {
                self.stale_episode.delivered(now.monotonic);
            }
        }
        let (state, outcome, reason) = match result {
            Ok(outcome) => (State::Delivered, Some(outcome), is_stale.then_some(Reason::Stale)),
            Err(Reason::Discarded) => (State::Ended, None, Some(Reason::Discarded)),
            Err(reason) => (State::Dead, None, Some(reason)),
        };
        let settlement = Settlement { id, state, outcome, reason, attempts, at: now.wall };
        let unwritten = self.unwritten(delivery.event, Some(delivery.key), now);
        let unwritten = Unwritten {
            in_doubt: is_in_doubt(&delivery),
            incident_key: Some(Arc::clone(&called.incident_key)),
            age: staleness::precise_age(unwritten.age, Some(called.acknowledged), now.wall),
            ..unwritten
        };
        let awaited = self.schedule.has_later(delivery.key);
        self.settle(unwritten, Some(called.record(attempts, verdict)), settlement, awaited);
    }

    /// An event that fails for long while others are taken is told once, and shown until it ends.
    fn note_failing(&self, called: &Called, verdict: Verdict, failure: Option<FailureOf>, retry: RetryState, now: Now) {
        let (Some(FailureOf::Event), Some(trouble)) = (failure, verdict.trouble()) else {
            return;
        };
        let failing_for = self.schedule.breaker().running(now.monotonic).since(retry.since);
        if failing_for < stuck::STUCK_AFTER {
            return;
        }
        let (event, status) = (called.delivery.event.id, called.status());
        let since = WallTime(now.wall.0.saturating_sub(i64::try_from(failing_for.as_millis()).unwrap_or(i64::MAX)));
        let mut is_new = false;
        self.stuck.send_modify(|stuck| is_new = stuck.put(event, Failing { since, trouble, status }));
        if is_new {
            let (source, reason) =
                (self.context.recorder.sources().name(called.delivery.event.source), trouble.as_str());
            tracing::warn!(
                event = %event,
                source = &*source,
                attempts = retry.attempts,
                reason,
                status,
                remedy = trouble.remedy(),
                "an event fails again and again while others are taken; only its own incident key waits; \
                 `gander events show` tells what was answered, `gander events discard` ends it"
            );
        }
    }

    /// An event whose call had begun and was not made ends without it.
    fn settle_uncalled(&mut self, delivery: &Delivery, state: State, reason: Reason, now: Now) {
        self.schedule.unsendable(delivery, now.monotonic);
        let attempts = delivery.before.map_or(0, |retry| retry.attempts);
        let id = delivery.event.id;
        let settlement = Settlement { id, state, outcome: None, reason: Some(reason), attempts, at: now.wall };
        self.settle(self.unwritten(delivery.event, Some(delivery.key), now), None, settlement, true);
    }

    /// The schedule gave an event up.
    fn settle_withdrawn(&mut self, withdrawn: Withdrawn, now: Now) {
        let Withdrawn { event, key, attempts, result } = withdrawn;
        let (state, outcome, reason) = match result {
            Ok(answered) => (State::Delivered, Some(answered), None),
            Err(reason) => (State::Ended, None, Some(reason)),
        };
        if reason == Some(Reason::Stale) && self.stale_episode.unsent(now.monotonic) {
            tell_stale_episode();
        }
        let settlement = Settlement { id: event.id, state, outcome, reason, attempts, at: now.wall };
        self.settle(self.unwritten(event, key, now), None, settlement, key.is_some());
    }

    fn unwritten(&self, event: Queued, key: Option<KeySlot>, now: Now) -> Unwritten {
        let age = staleness::age(&event, self.started, now);
        Unwritten { event, incident_key: None, key, age, in_doubt: false, told: None }
    }

    /// Sends a settlement to be written. The key is free when a commit has it. `awaited`: a later event of the key waits
    /// for it.
    fn settle(
        &mut self,
        mut unwritten: Unwritten,
        attempt: Option<AttemptRecord>,
        settlement: Settlement,
        awaited: bool,
    ) {
        let body = self.bodies.remove(unwritten.event.id);
        unwritten.incident_key = unwritten.incident_key.or_else(|| Some(body?.incident_key));
        let settle = Settle { attempt, settlement, key: unwritten.event.key, awaited };
        self.settling.put(unwritten);
        if let Err(settle) = self.context.recorder.settle(settle) {
            let context = Arc::clone(&self.context);
            // Never cut off: it is no call, and what it tells happened.
            self.tasks.spawn(async move { context.recorder.settle_in_turn(*settle).await });
        }
    }

    /// These settlements are on disk.
    fn release(&mut self, settled: Vec<Settlement>) {
        let now = self.context.clock.now().monotonic;
        for settlement in settled {
            let Some(unwritten) = self.settling.take(settlement.id) else {
                continue;
            };
            let event = unwritten.event;
            let source = self.context.recorder.sources().name(event.source);
            delivery::tell(&self.context, &source, &unwritten, &settlement);
            self.discarded.remove(&event.id);
            self.stuck.send_if_modified(|stuck| stuck.remove(event.id));
            if let Some(key) = unwritten.key {
                let done = settlement.state == State::Delivered && settlement.outcome != Some(Outcome::Unmatched);
                self.schedule.release(key, done, now);
            }
            if let Some(told) = unwritten.told {
                let _ = told.send(());
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut_off = self.cut_off.clone();
        // A call's task is several kilobytes large, and moved from hand to hand on its way to the runtime.
        let task = Box::pin(task);
        self.tasks.spawn(async move { cut_off.run_until_cancelled(task).await });
    }

    /// Shows how it stands to those who watch, and logs now and then how long a backlog will take.
    fn publish_progress(&mut self) {
        let time = self.context.clock.now();
        let now = time.monotonic;
        if let Some(over) = self.stale_episode.over(self.schedule.is_empty(), now) {
            let (marked, ended) = (over.marked, over.unsent);
            tracing::info!(marked, ended, "no stale trigger was met for a while");
        }
        let metrics = &self.context.metrics;
        metrics.in_flight.set(i64::try_from(self.schedule.in_flight()).unwrap_or(i64::MAX));
        let drain_time = self.schedule.drain_time(now);
        metrics.queue_drain.set(seconds(drain_time));
        self.progress.send_modify(|progress| progress.waits(drain_time, self.schedule.next_retry(), time));
        for lane in Lane::DRAINED {
            metrics.lane_drain(lane.as_str(), seconds(self.schedule.lane_drain_time(lane, now)));
        }
        let Some(drain_time) = drain_time.filter(|time| *time >= BACKLOG_WORTH_TELLING) else {
            return;
        };
        if self.schedule.breaker().open_by().is_some() || now.since(self.backlog_told) < BACKLOG_TOLD_EVERY {
            return;
        }
        self.backlog_told = now;
        let (events, takes_s) = (self.schedule.len(), drain_time.as_secs());
        tracing::info!(
            events,
            takes_s,
            "a backlog is being delivered; it takes so long at the rate of the last minute"
        );
    }
}

impl Context {
    async fn report(&self, report: Report) {
        // Fails only when the dispatcher has stopped listening, at the end of the process.
        let _ = self.reports.send(report).await;
    }
}

/// As a gauge shows it: infinite while nothing is delivered.
fn seconds(drain_time: Option<Duration>) -> f64 {
    drain_time.map_or(f64::INFINITY, |time| time.as_secs_f64())
}

/// Events that waited too long: one line for all that follow, at whose end another tells how many they were.
fn tell_stale_episode() {
    tracing::warn!(
        "triggers are older than `delivery.stale.trigger`: they are sent marked with their age, or end unsent where that \
         is configured and a resolve of their key waits"
    );
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
const BACKLOG_WORTH_TELLING: Duration = Duration::from_secs(30);
const BACKLOG_TOLD_EVERY: Duration = Duration::from_secs(60);
