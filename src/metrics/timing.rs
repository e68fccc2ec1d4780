//! Durations that a scraper reads as a histogram, and a person as a mean.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

/// A histogram whose number and sum can be read in the process, too.
#[derive(Debug)]
pub(super) struct Timing {
    histogram: Histogram,
    count: AtomicU64,
    micros: AtomicU64,
}

/// A number of durations and their sum in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    pub micros: u64,
}

impl Timing {
    pub(super) fn new(histogram: Histogram) -> Timing {
        Timing { histogram, count: AtomicU64::new(0), micros: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, took: Duration) {
        self.histogram.observe(took.as_secs_f64());
        self.count.fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn sum(&self) -> Sum {
        Sum { count: self.count.load(Relaxed), micros: self.micros.load(Relaxed) }
    }
}

impl Sum {
    pub fn since(self, before: Sum) -> Sum {
        Sum { count: self.count.saturating_sub(before.count), micros: self.micros.saturating_sub(before.micros) }
    }

    pub fn and(self, more: Sum) -> Sum {
        Sum { count: self.count + more.count, micros: self.micros.saturating_add(more.micros) }
    }

    pub fn mean(self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_micros(self.micros / self.count))
    }
}
