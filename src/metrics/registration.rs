//! Registers metrics, each under its name and with its help.

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// The part of a registry whose names begin with `gander_`.
pub(super) struct Registration<'r>(pub(super) &'r mut Registry);

impl Registration<'_> {
    /// Registers a metric without a unit.
    pub(super) fn count<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// Registers a metric in bytes.
    pub(super) fn bytes<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.with_unit(name, help, Unit::Bytes, M::default())
    }

    /// Registers a metric in seconds.
    pub(super) fn seconds<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.with_unit(name, help, Unit::Seconds, M::default())
    }

    /// Registers a histogram of seconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, buckets: [f64; 14]) -> Histogram {
        self.with_unit(name, help, Unit::Seconds, Histogram::new(buckets))
    }

    pub(super) fn with_unit<M: Metric + Clone>(&mut self, name: &str, help: &str, unit: Unit, metric: M) -> M {
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }
}

/// From a tenth of a millisecond, a synced append on a quiet disk, to ten seconds.
pub(super) const FAST_SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0];

/// From a millisecond, a call on the same host, to the hours of an outage.
pub(super) const SLOW_SECONDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];
