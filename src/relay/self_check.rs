//! Runs the self check: submits its events, waits for their ends, and reports.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Monotonic, WallTime};
use crate::event::{Action, Draft, Settlement, State};
use crate::inbound::{Ingest, Submitted};
use crate::journal::request::Unavailable;
use crate::metrics::Metrics;
use crate::self_check::{Failure, Report, Rounds, Settings, Step};
use crate::shutdown::Shutdown;
use crate::supervision::panicked;

/// The parts of the relay that the check goes through and reports to.
pub(super) struct SelfCheck {
    pub(super) ingest: Ingest,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// None while it is off.
    pub(super) report: watch::Sender<Option<Report>>,
    pub(super) shutdown: Shutdown,
}

/// The events of the round under way.
#[derive(Default)]
struct UnderWay {
    /// Trigger and resolve, decided when the round began: a reload may bring rules that make another key.
    drafts: Option<[Draft; 2]>,
    /// The end of the one that was submitted last.
    end: Option<End>,
    /// That one is a duplicate of an event that was there before.
    repeats: bool,
}

/// The end of an event that was submitted; none if nobody will tell it.
type End = Pin<Box<dyn Future<Output = Option<Settlement>> + Send>>;

/// Settings that a reload exchanges; none while the check is off.
type Changes = watch::Receiver<Option<Settings>>;

impl SelfCheck {
    /// Starts the task, which ends when the relay stops.
    pub(super) fn start(self, mut settings: Changes) {
        tokio::spawn(async move { while panicked("self_check", self.run(&mut settings)).await {} });
    }

    async fn run(&self, changes: &mut Changes) {
        loop {
            let settings = changes.borrow_and_update().clone();
            let goes_on = match settings {
                Some(settings) => self.check(&settings, changes).await,
                None => {
                    self.off();
                    tokio::select! {
                        () = self.shutdown.begun() => false,
                        changed = changes.changed() => changed.is_ok(),
                    }
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Goes round until the settings change, or the relay stops: then it returns false. A round under way is finished
    /// first, however long that takes: its trigger would stay open otherwise.
    async fn check(&self, settings: &Settings, changes: &mut Changes) -> bool {
        self.begin_report(settings);
        let mut rounds = Rounds::new(settings.every, settings.limit, self.clock.now().monotonic);
        let (mut round, mut leaves) = (UnderWay::default(), false);
        loop {
            if leaves && rounds.is_idle() {
                return true;
            }
            if let Some(failure) = rounds.elapse(self.clock.now()) {
                self.failed(failure);
            }
            let until = match rounds.step() {
                Step::Wait(until) | Step::Follow { until } => until,
                Step::Submit { action, started } => {
                    tokio::select! {
                        biased;
                        () = self.shutdown.begun() => return false,
                        () = self.submit(settings, action, started, &mut rounds, &mut round) => continue,
                    }
                }
            };
            tokio::select! {
                biased;
                () = self.shutdown.begun() => return false,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    leaves = true;
                    if changes.borrow_and_update().is_none() {
                        self.off();
                    }
                }
                settled = ended(&mut round.end) => self.settled(settled, &mut rounds, &mut round).await,
                () = self.sleep_until(until) => {}
            }
        }
    }

    fn begin_report(&self, settings: &Settings) {
        let report = self.report.borrow().clone();
        let report = report.map_or_else(|| Report::new(settings), |report| report.with(settings));
        if report.is_empty() {
            // Nothing of another source stays in the metrics.
            self.metrics.self_check_off();
        }
        self.report.send_replace(Some(report));
    }

    async fn submit(
        &self,
        settings: &Settings,
        action: Action,
        started: WallTime,
        rounds: &mut Rounds,
        round: &mut UnderWay,
    ) {
        match self.try_submit(settings, action, started, round).await {
            Ok(Submitted { end, repeats }) => {
                round.end = Some(Box::pin(end.settled()));
                round.repeats = repeats;
                rounds.submitted(repeats);
            }
            Err(failure) => {
                rounds.not_taken(self.clock.now());
                self.failed(failure);
            }
        }
    }

    async fn try_submit(
        &self,
        settings: &Settings,
        action: Action,
        started: WallTime,
        round: &mut UnderWay,
    ) -> Result<Submitted, Failure> {
        let drafts = match (action, round.drafts.take()) {
            (Action::Resolve, Some(drafts)) => drafts,
            _ => self.ingest.decide_self_check(settings, started)?,
        };
        let [trigger, resolve] = round.drafts.insert(drafts);
        let draft = match action {
            Action::Trigger => trigger.clone(),
            Action::Resolve => resolve.clone(),
        };
        self.ingest.submit_self_check(settings, draft, started).await
    }

    /// Goes on from the end of an event, or from the loss of it.
    async fn settled(&self, settled: Option<Settlement>, rounds: &mut Rounds, round: &mut UnderWay) {
        round.end = None;
        let now = self.clock.now();
        let Some(settlement) = settled else {
            // The recorder is gone, which it is only when the relay stops.
            if let Some(failure) = rounds.lost(Unavailable::Stopping.as_str(), now) {
                self.failed(failure);
            }
            return;
        };
        match rounds.settled(&settlement, now) {
            Some(Ok(took)) => self.succeeded(now.wall, took),
            Some(Err(failure)) => self.failed(failure),
            None => {}
        }
        // A duplicate may stand for an event that a sender posted: that is left to a person.
        if settlement.state == State::Dead
            && !round.repeats
            && let Err(why) = self.ingest.discard_self_check(settlement.id).await
        {
            tracing::debug!(event = settlement.id.0, reason = why.as_str(), "a dead letter of the self check is left");
        }
    }

    async fn sleep_until(&self, until: Monotonic) {
        tokio::time::sleep_until(self.clock.instant(until).into()).await;
    }

    fn succeeded(&self, at: WallTime, took: Duration) {
        if self.is_off() {
            return;
        }
        self.metrics.self_check_succeeded(at, took);
        let mut again = false;
        self.report.send_modify(|report| again = report.as_mut().is_some_and(|report| report.succeeded(at, took)));
        if again {
            tracing::info!(took_seconds = took.as_secs_f64(), "the self check came whole again");
        }
    }

    fn failed(&self, failure: Failure) {
        if self.is_off() {
            return;
        }
        self.metrics.self_check_failed(failure.label());
        let (now, reason, detail, remedy) =
            (self.clock.now().wall, failure.label(), failure.detail(), failure.remedy());
        let mut tell = false;
        self.report.send_modify(|report| tell = report.as_mut().is_some_and(|report| report.failed(now, failure)));
        if tell {
            tracing::warn!(reason, detail, remedy, "the self check fails");
        }
    }

    /// The section was taken out, and the round under way is only finished.
    fn is_off(&self) -> bool {
        self.report.borrow().is_none()
    }

    fn off(&self) {
        self.metrics.self_check_off();
        self.report.send_replace(None);
    }
}

/// Waits for the end of what was submitted; for ever if nothing was.
async fn ended(end: &mut Option<End>) -> Option<Settlement> {
    match end {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}
