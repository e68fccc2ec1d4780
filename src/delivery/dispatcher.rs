//! Delivery: takes queued events, in order per key, to the upstream, until it has really done it.
//!
//! One task owns the [`Schedule`]: it asks what to do, starts calls, hears how they ended, and carries out what
//! [`conclusion`] and [`retry`] decide. Calls run in tasks of their own; how they ended goes to the recorder. A key is free
//! for its next event when the end of the one before is on disk, so that no restart turns the two around.

mod bodies;
mod conclusion;
mod condition;
mod delivery;
mod ends;
mod queue_commands;
mod recent_triggers;
mod stale_episode;
mod stuck;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callgoose::answer::{self, Trouble, Verdict};
use crate::clock::{Clock, Monotonic, Now, WallTime};
use crate::delivery::breaker::{self, Fault};
use crate::delivery::client::Upstream;
use crate::delivery::retry;
use crate::delivery::schedule::{Delivery, Discard, Lane, Limits, Overtaken, RetryState, Schedule, Step, Unsent, Why};
use crate::delivery::staleness;
use crate::event::{EventId, HoldRecord, KeyId, Outcome, Queued, SourceNames, State, Superseded, Waits};
use crate::journal::recorder::{Durable, End, Fresh, Recorder, Remembered};
use crate::journal::{AttemptRecord, Damage, Reader, Settlement, Tried};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

use bodies::Bodies;
pub use conclusion::{Conclusion, Heard, conclude};
pub use condition::Condition;
use delivery::{Called, Ending, word};
use ends::{Ends, How, Written};
use queue_commands::QueueCommand;
pub use queue_commands::{Hold, QueueHandle, Withdrawal};
pub use recent_triggers::RecentTriggers;
use stale_episode::StaleEpisode;
pub use stuck::{Failing, Stuck};

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

/// Everything the dispatcher works with.
#[derive(Debug)]
pub struct Dispatcher {
    schedule: Schedule,
    bodies: Bodies,
    lately: RecentTriggers,
    late: StaleEpisode,
    ends: Ends,
    /// Events that end after the call that is under way.
    discarded: HashSet<EventId>,
    commands: mpsc::Receiver<QueueCommand>,
    stuck: watch::Sender<Stuck>,
    /// When it began: what was found in the journal ages from there.
    started: Now,
    durable: mpsc::Receiver<Durable>,
    reports: mpsc::Receiver<Report>,
    /// Told when a secret changed.
    resume: Arc<Notify>,
    context: Arc<Context>,
    condition: watch::Sender<Condition>,
    tasks: TaskTracker,
    cut_off: CancellationToken,
    backlog_told: Monotonic,
}

/// What the tasks share.
#[derive(Debug)]
struct Context {
    upstream: Upstream,
    recorder: Recorder,
    reader: Arc<Reader>,
    /// The reader serves one at a time; who waits for it holds no thread.
    reading: Semaphore,
    clock: Clock,
    metrics: Arc<Metrics>,
    config: Config,
    reports: mpsc::Sender<Report>,
}

/// What others see of the dispatcher, and what commands it.
#[derive(Debug)]
pub struct Watched {
    pub condition: watch::Receiver<Condition>,
    pub stuck: watch::Receiver<Stuck>,
    pub queue: QueueHandle,
}

/// What the dispatcher needs to start.
#[derive(Debug)]
pub struct Parts {
    pub config: Config,
    pub upstream: Upstream,
    pub recorder: Recorder,
    /// Its own: what others read must not be waited for here.
    pub reader: Arc<Reader>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// What was queued before this start, see [`restore`].
    pub schedule: Schedule,
    pub durable: mpsc::Receiver<Durable>,
    pub resume: Arc<Notify>,
}

/// What a task tells.
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
    let trial = RetryState { attempts, since: now.monotonic.before(age), resends: 0, answered: None };
    let wait = retry::wait_left(retry, retry_at, asked, now.wall);
    schedule.enqueue_tried(event, trial, now.monotonic.after(wait));
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
        let Parts { config, upstream, recorder, reader, clock, metrics, schedule, durable, resume } = parts;
        let (sender, reports) = mpsc::channel(REPORTS);
        let (condition, condition_watched) = watch::channel(Condition::Fine);
        let (stuck, stuck_watched) = watch::channel(Stuck::default());
        let (queue, commands) = QueueHandle::new();
        let context =
            Context { upstream, recorder, reader, reading: Semaphore::new(1), clock, metrics, config, reports: sender };
        let dispatcher = Dispatcher {
            schedule,
            bodies: Bodies::default(),
            lately: RecentTriggers::new(config.retry.unresolved.over),
            late: StaleEpisode::default(),
            ends: Ends::default(),
            discarded: HashSet::new(),
            commands,
            stuck,
            started: clock.now(),
            durable,
            reports,
            resume,
            context: Arc::new(context),
            condition,
            tasks: TaskTracker::new(),
            cut_off: CancellationToken::new(),
            backlog_told: Monotonic(i64::MIN / 2),
        };
        (dispatcher, Watched { condition: condition_watched, stuck: stuck_watched, queue })
    }

    /// Delivers until the stop is told; then finishes what is under way, for at most `limit`. What is not finished
    /// stays queued on disk.
    pub async fn run(mut self, shutdown: Shutdown, limit: Duration) {
        loop {
            self.hear_the_rest();
            let wake = self.start_what_may();
            tokio::select! {
                () = shutdown.begun() => break,
                Some(durable) = self.durable.recv() => self.take(durable),
                Some(report) = self.reports.recv() => self.hear(report),
                Some(command) = self.commands.recv() => self.carry_out(command),
                () = self.resume.notified() => self.schedule.resume(self.context.clock.now().monotonic),
                () = sleep_until(&self.context.clock, wake) => {}
            }
        }
        let drained = tokio::time::timeout(limit, async {
            while !self.schedule.is_quiet() {
                tokio::select! {
                    Some(report) = self.reports.recv() => self.hear(report),
                    // What is fresh is not delivered any more, but is known: the recorder may ask for all that waits.
                    Some(durable) = self.durable.recv() => self.take(durable),
                }
            }
        });
        if drained.await.is_err() {
            self.cut_off.cancel();
            let in_flight = self.schedule.in_flight();
            tracing::warn!(in_flight, "calls under way were cut off; their events stay queued");
        }
        self.end().await;
    }

    /// Hears the last tasks, and leaves what is known of the queue to the recorder, which ends later.
    async fn end(mut self) {
        self.tasks.close();
        let tasks = self.tasks.clone();
        loop {
            tokio::select! {
                // Whatever was told before the last task ended is heard.
                biased;
                Some(report) = self.reports.recv() => self.hear(report),
                // The recorder, which the last tasks write to, must not wait for its place.
                Some(durable) = self.durable.recv() => self.take(durable),
                () = tasks.wait() => break,
            }
        }
        // The recorder notes for itself what it can't tell here any more.
        self.durable.close();
        while let Some(durable) = self.durable.recv().await {
            self.take(durable);
        }
        self.context.recorder.leave(self.remembered());
    }

    /// Whatever has been told by now, so that one round serves it all.
    fn hear_the_rest(&mut self) {
        for _ in 0..HEARD_AT_ONCE {
            if let Ok(durable) = self.durable.try_recv() {
                self.take(durable);
            } else if let Ok(report) = self.reports.try_recv() {
                self.hear(report);
            } else {
                return;
            }
        }
    }

    /// Starts every delivery that may start now; returns when to look again.
    fn start_what_may(&mut self) -> Option<Monotonic> {
        let wake = loop {
            let now = self.context.clock.now();
            let (settings, started) = (self.context.config.stale, self.started);
            let decide = |event: &Queued, resolve_waits| {
                staleness::decide(settings, event, staleness::age(event, started, now), resolve_waits)
            };
            match self.schedule.next(now.monotonic, decide) {
                Step::Start(delivery) => {
                    if delivery.late.is_some() && self.late.sent(now.monotonic) {
                        late_begins();
                    }
                    self.count_first_attempt(&delivery, now);
                    let body = self.bodies.get(delivery.event.id);
                    self.spawn(delivery::deliver(Arc::clone(&self.context), delivery, body));
                }
                Step::End(unsent) => self.settle_unsent(unsent, now),
                Step::WaitUntil(at) => break Some(at),
                Step::Wait => break None,
            }
        };
        self.show();
        wake
    }

    fn take(&mut self, Durable { fresh, ended, recall }: Durable) {
        self.release(ended);
        if let Some(reply) = recall {
            let _ = reply.send(self.remembered());
        }
        for Fresh { event, outgoing } in fresh {
            let now = self.context.clock.now().monotonic;
            if let Some(overtaken) = self.schedule.enqueue(&event, now) {
                self.settle_overtaken(overtaken);
            }
            // Behind a long backlog it waits for a while: until then the journal keeps its body.
            if let Some(outgoing) = outgoing.filter(|_| self.schedule.len() <= bodies::WAITING_MAX) {
                self.bodies.put(event.id, outgoing);
            }
        }
    }

    /// A copy of the queue, for a journal that lacks some of it.
    fn remembered(&self) -> Remembered {
        let mut waiting: Vec<Waits> = self.schedule.events().collect();
        waiting.retain(|waits| !self.ends.contains(waits.event));
        Remembered { waiting, ending: self.ends.events().collect(), bodies: self.bodies.all() }
    }

    fn carry_out(&mut self, command: QueueCommand) {
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
            Discard::Unsent(unsent) => {
                self.settle_unsent(unsent, now);
                self.ends.tell(event, told);
            }
            Discard::Behind(behind) => {
                let why = Why::Discarded;
                let settlement = unsent_settlement(event, why, 0, now);
                self.write_down(Written::new(behind, None, How::Unsent { why }), None, settlement, false);
                self.ends.tell(event, told);
            }
            Discard::UnderWay if self.ends.contains(event) => return Withdrawal::NotWaiting,
            Discard::UnderWay => {
                self.discarded.insert(event);
                return Withdrawal::UnderWay;
            }
            Discard::NotWaiting => return Withdrawal::NotWaiting,
        }
        Withdrawal::Ends(written)
    }

    fn hear(&mut self, report: Report) {
        let now = self.context.clock.now();
        match report {
            Report::Called(called) => self.conclude(*called, now),
            Report::NotCalled(delivery) if self.discarded.remove(&delivery.event.id) => {
                self.settle_discarded(&delivery, now);
            }
            Report::NotCalled(delivery) => {
                // The event waits like one whose call failed; it says nothing about the upstream, and is not given up.
                self.schedule.not_called(&delivery, now.monotonic.after(self.context.config.retry.max), now.monotonic);
            }
            Report::Damaged(delivery, damage) => self.settle_damaged(&delivery, damage, now),
        }
    }

    fn count_first_attempt(&self, delivery: &Delivery, now: Now) {
        if delivery.before.is_none() {
            let source = self.context.recorder.sources().name(delivery.event.source);
            let wait = now.monotonic.since(delivery.event.acknowledged);
            self.context.metrics.first_attempt(&source, delivery.lane.as_str(), wait);
        }
    }

    /// What follows from a call: another one later, or the end of the event.
    fn conclude(&mut self, called: Called, now: Now) {
        let delivery = called.delivery;
        let action = delivery.event.action;
        let verdict = match &called.answer {
            Ok(answer) => answer::judge(action, answer.status, answer.body()),
            Err(error) if error.trouble == Trouble::Unauthorized => Verdict::Blocked(error.trouble),
            Err(error) => Verdict::Again(error.trouble),
        };
        let retry_after = called.retry_after(now);
        let fault = self.schedule.ended(&delivery, verdict, retry_after, now.monotonic);
        self.context.metrics.attempted(word(verdict), called.took);
        condition::notice(
            &self.condition,
            self.schedule.breaker().open_by(),
            verdict,
            &called,
            &self.context,
            now.wall,
        );

        let heard = Heard { delivery, verdict, fault, retry_after };
        let settings = self.context.config.retry;
        match conclude(heard, settings, &self.schedule, &self.lately, now, fastrand::f64()) {
            Conclusion::Again { trial, .. } if self.discarded.remove(&delivery.event.id) => {
                self.settle(called, trial.attempts, verdict, Ending::Discarded, now.wall);
            }
            Conclusion::Again { trial, at, tried } => {
                self.note_failing(&called, verdict, fault, trial, now);
                self.schedule.again(delivery.key, trial, at);
                let (record, _) = called.record(trial.attempts, verdict);
                let context = Arc::clone(&self.context);
                self.spawn(async move { context.recorder.attempted(record, tried).await });
            }
            Conclusion::Delivered { attempts, outcome, in_doubt } => {
                self.lately.delivered(&delivery.event, outcome, now.monotonic);
                let late = delivery.late.is_some();
                if late {
                    self.late.delivered(now.monotonic);
                }
                self.settle(called, attempts, verdict, Ending::Delivered { outcome, in_doubt, late }, now.wall);
            }
            Conclusion::Dead { attempts, death } => {
                self.settle(called, attempts, verdict, Ending::Dead(death), now.wall);
            }
        }
    }

    /// An event that fails for long while others are taken is told once, and shown until it ends.
    fn note_failing(&self, called: &Called, verdict: Verdict, fault: Option<Fault>, trial: RetryState, now: Now) {
        let (Some(Fault::Event), Verdict::Again(trouble) | Verdict::Blocked(trouble)) = (fault, verdict) else {
            return;
        };
        let failing_for = self.schedule.breaker().running(now.monotonic).since(trial.since);
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
                event = event.0,
                source = &*source,
                attempts = trial.attempts,
                reason,
                status,
                remedy = trouble.remedy(),
                "an event fails again and again while others are taken; only its own incident key waits; \
                 `gander events show` tells what was answered, `gander events discard` ends it"
            );
        }
    }

    /// The event ended by a call.
    fn settle(&mut self, called: Called, attempts: u32, verdict: Verdict, ending: Ending, at: WallTime) {
        let (event, key) = (called.delivery.event, called.delivery.key);
        let settlement = ending.settlement(event.id, verdict, attempts, at);
        let (record, outgoing) = called.record(attempts, verdict);
        let awaited = self.schedule.has_later(key);
        let how = How::Called { outgoing, ending };
        self.write_down(Written::new(event, Some(key), how), Some(record), settlement, awaited);
    }

    /// What was to be sent is not what was written: it is never sent.
    fn settle_damaged(&mut self, delivery: &Delivery, damage: Damage, now: Now) {
        self.schedule.unsendable(delivery, now.monotonic);
        let (event, key) = (delivery.event, delivery.key);
        let settlement = Settlement {
            id: event.id,
            state: State::Dead,
            outcome: None,
            reason: Some(damage.reason().to_owned()),
            attempts: delivery.before.map_or(0, |trial| trial.attempts),
            at: now.wall,
        };
        self.write_down(Written::new(event, Some(key), How::Damaged(damage)), None, settlement, true);
    }

    /// A person discarded it while its call was under way, and that call was not made, or was cut off.
    fn settle_discarded(&mut self, delivery: &Delivery, now: Now) {
        self.schedule.unsendable(delivery, now.monotonic);
        let (event, key, why) = (delivery.event, delivery.key, Why::Discarded);
        let attempts = delivery.before.map_or(0, |trial| trial.attempts);
        let settlement = unsent_settlement(event.id, why, attempts, now);
        self.write_down(Written::new(event, Some(key), How::Unsent { why }), None, settlement, true);
    }

    /// A later event came while this one only waited for a better answer: it is settled with the one it has.
    fn settle_overtaken(&mut self, overtaken: Overtaken) {
        let Overtaken { event, key, attempts, answered } = overtaken;
        let settlement = Settlement {
            id: event.id,
            state: State::Delivered,
            outcome: Some(answered),
            reason: None,
            attempts,
            at: self.context.clock.now().wall,
        };
        self.write_down(Written::new(event, Some(key), How::Overtaken), None, settlement, true);
    }

    /// An event ends without a call.
    fn settle_unsent(&mut self, unsent: Unsent, now: Now) {
        let Unsent { event, key, attempts, why } = unsent;
        if matches!(why, Why::Stale { .. }) && self.late.unsent(now.monotonic) {
            late_begins();
        }
        let settlement = unsent_settlement(event.id, why, attempts, now);
        self.write_down(Written::new(event, Some(key), How::Unsent { why }), None, settlement, true);
    }

    /// Has an end written down. The key is free when a [`Durable`] tells that it is on disk.
    fn write_down(&mut self, written: Written, attempt: Option<AttemptRecord>, settlement: Settlement, awaited: bool) {
        self.bodies.remove(written.event.id);
        let end = End { attempt, settlement, key: written.event.key, awaited };
        self.ends.put(written);
        if let Err(end) = self.context.recorder.settle(end) {
            let context = Arc::clone(&self.context);
            // Never cut off: it is no call, and what it tells happened.
            self.tasks.spawn(async move { context.recorder.settle_in_turn(*end).await });
        }
    }

    /// These ends are on disk.
    fn release(&mut self, ended: Vec<Settlement>) {
        let now = self.context.clock.now().monotonic;
        for settlement in ended {
            let Some(Written { event, key, how, told }) = self.ends.take(settlement.id) else {
                continue;
            };
            match how {
                How::Called { outgoing, ending } => {
                    delivery::tell(&self.context.metrics, &event, &outgoing, &settlement, ending);
                }
                How::Overtaken => {}
                How::Damaged(damage) => delivery::tell_damaged(&self.context.metrics, &event, damage),
                How::Unsent { why } => {
                    self.context.metrics.event_ended(State::Ended.as_str(), why.as_str());
                    tracing::debug!(event = event.id.0, reason = why.as_str(), "an event ended unsent");
                }
            }
            self.discarded.remove(&event.id);
            self.stuck.send_if_modified(|stuck| stuck.remove(event.id));
            if let Some(key) = key {
                let done = settlement.state == State::Delivered && settlement.outcome != Some(Outcome::Unmatched);
                self.schedule.release(key, done, now);
            }
            if let Some(told) = told {
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
    fn show(&mut self) {
        let now = self.context.clock.now().monotonic;
        if let Some(spell) = self.late.over(self.schedule.is_empty(), now) {
            let (marked, ended) = (spell.marked, spell.unsent);
            tracing::info!(marked, ended, "no stale trigger was met for a while");
        }
        let metrics = &self.context.metrics;
        metrics.in_flight.set(i64::try_from(self.schedule.in_flight()).unwrap_or(i64::MAX));
        let drain_time = self.schedule.drain_time(now);
        metrics.queue_drain.set(seconds(drain_time));
        for lane in [Lane::Fresh, Lane::Backlog] {
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

/// An end without a call.
fn unsent_settlement(id: EventId, why: Why, attempts: u32, now: Now) -> Settlement {
    let reason = Some(why.as_str().to_owned());
    Settlement { id, state: State::Ended, outcome: None, reason, attempts, at: now.wall }
}

/// As a gauge shows it: infinite while nothing is delivered.
fn seconds(drain_time: Option<Duration>) -> f64 {
    drain_time.map_or(f64::INFINITY, |time| time.as_secs_f64())
}

/// Events that waited too long: one line for all that follow, at whose end another tells how many they were.
fn late_begins() {
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

/// Ends that wait for the disk. More than this while the disk is full, and deliveries stop too.
const UNSETTLED_MAX: usize = 10_000;
/// Reports that wait to be heard; hearing one takes a microsecond.
const REPORTS: usize = 1_024;
/// Messages that are heard before what may start is started.
const HEARD_AT_ONCE: usize = 256;
/// How long a pause lasts before a probe, if `retry.max` does not say less.
const PAUSE: Duration = Duration::from_secs(10);
const BACKLOG_WORTH_TELLING: Duration = Duration::from_secs(30);
const BACKLOG_TOLD_EVERY: Duration = Duration::from_secs(60);
