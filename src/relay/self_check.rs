//! Runs the self check: submits its events, waits for their ends, and reports.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Monotonic, WallTime};
use crate::event::{Action, Settlement};
use crate::inbound::Ingest;
use crate::journal::recorder::Unavailable;
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
    /// first, unless it is overdue.
    async fn check(&self, settings: &Settings, changes: &mut Changes) -> bool {
        self.report.send_modify(|report| {
            *report = Some(report.take().map_or_else(|| Report::new(settings), |report| report.with(settings)));
        });
        let mut rounds = Rounds::new(settings.every, settings.limit, self.clock.now().monotonic);
        let mut end: Option<End> = None;
        loop {
            if let Some(failure) = rounds.elapse(self.clock.now()) {
                self.failed(failure);
            }
            let step = rounds.step();
            tokio::select! {
                biased;
                () = self.shutdown.begun() => return false,
                changed = changes.changed(), if may_end_here(step) => return changed.is_ok(),
                () = self.take(step, settings, &mut rounds, &mut end) => {}
            }
        }
    }

    /// Takes one step.
    async fn take(&self, step: Step, settings: &Settings, rounds: &mut Rounds, end: &mut Option<End>) {
        match step {
            Step::Wait(until) => self.sleep_until(until).await,
            Step::Submit { action, started } => match self.ingest.self_check(settings, action, started).await {
                Ok(follow) => {
                    *end = Some(Box::pin(follow.settled()));
                    rounds.submitted();
                }
                Err(failure) => {
                    rounds.failed(self.clock.now());
                    self.failed(failure);
                }
            },
            Step::Follow { until, .. } => {
                let settled = tokio::select! {
                    biased;
                    settled = ended(end) => settled,
                    () = self.sleep_until(until) => return,
                };
                *end = None;
                let now = self.clock.now();
                let Some(settlement) = settled else {
                    // The recorder is gone, which it is only when the relay stops.
                    rounds.failed(now);
                    let why = Unavailable::Stopping.as_str();
                    return self.failed(Failure::Journal { action: Action::Trigger, why });
                };
                match rounds.settled(&settlement, now) {
                    Some(Ok(took)) => self.succeeded(now.wall, took),
                    Some(Err(failure)) => self.failed(failure),
                    None => {}
                }
            }
        }
    }

    async fn sleep_until(&self, until: Monotonic) {
        tokio::time::sleep_until(self.clock.instant(until).into()).await;
    }

    fn succeeded(&self, at: WallTime, took: Duration) {
        self.metrics.self_check_succeeded(at, took);
        let mut again = false;
        self.report.send_modify(|report| again = report.as_mut().is_some_and(|report| report.succeeded(at, took)));
        if again {
            tracing::info!(took_seconds = took.as_secs_f64(), "the self check came whole again");
        }
    }

    fn failed(&self, failure: Failure) {
        self.metrics.self_check_failed(failure.label());
        let (now, reason, detail, remedy) =
            (self.clock.now().wall, failure.label(), failure.detail(), failure.remedy());
        let mut tell = false;
        self.report.send_modify(|report| tell = report.as_mut().is_some_and(|report| report.failed(now, failure)));
        if tell {
            tracing::warn!(reason, detail, remedy, "the self check fails");
        }
    }

    fn off(&self) {
        self.metrics.self_check_off();
        self.report.send_replace(None);
    }
}

/// Other settings may begin: no round is under way that is not lost already.
fn may_end_here(step: Step) -> bool {
    matches!(step, Step::Wait(_) | Step::Follow { overdue: true, .. })
}

async fn ended(end: &mut Option<End>) -> Option<Settlement> {
    match end {
        Some(end) => end.await,
        None => None,
    }
}
