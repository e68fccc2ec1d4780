//! Metrics of the self check.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::labels::ResultLabel;
use super::registration::{Registration, SLOW_SECONDS};
use super::{Metrics, count, epoch_seconds};
use crate::clock::WallTime;
use crate::self_check::{RESULTS, SUCCESS};

/// The metrics of the self check; all stay 0 while it is off.
#[derive(Debug)]
pub(super) struct SelfCheckMetrics {
    rounds: Family<ResultLabel, Counter>,
    failing: Gauge,
    succeeded_at: Gauge<f64, AtomicU64>,
    round_trip: Histogram,
}

impl SelfCheckMetrics {
    pub(super) fn register(all: &mut Registration<'_>) -> SelfCheckMetrics {
        SelfCheckMetrics {
            rounds: all.count("self_check", "Rounds of the self check, by result"),
            failing: all.count("self_check_failing", "1 while the last round of the self check did not come whole"),
            succeeded_at: all.seconds(
                "self_check_last_success_timestamp",
                "Time at which a round of the self check last came whole, since 1970; 0 before the first",
            ),
            round_trip: all.histogram(
                "self_check_round_trip",
                "From the trigger of a round of the self check to the delivery of its resolve",
                SLOW_SECONDS,
            ),
        }
    }

    /// Shows the series whose labels are this program's words, with 0.
    pub(super) fn show(&self) {
        RESULTS.into_iter().for_each(|result| drop(self.rounds.get_or_create(&ResultLabel { result })));
    }
}

impl Metrics {
    /// Records a round of the self check that came whole.
    pub fn self_check_succeeded(&self, at: WallTime, took: Duration) {
        count(&self.self_check.rounds, &ResultLabel { result: SUCCESS });
        self.self_check.failing.set(0);
        self.self_check.succeeded_at.set(epoch_seconds(at));
        self.self_check.round_trip.observe(took.as_secs_f64());
    }

    /// Records a round of the self check that did not; with the word for the reason.
    pub fn self_check_failed(&self, result: &'static str) {
        count(&self.self_check.rounds, &ResultLabel { result });
        self.self_check.failing.set(1);
    }

    /// Records that the self check is switched off, so that nothing fails and no success grows old.
    pub fn self_check_off(&self) {
        self.self_check.failing.set(0);
        self.self_check.succeeded_at.set(0.0);
    }
}
