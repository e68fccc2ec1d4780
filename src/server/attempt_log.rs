//! Counts and logs failed attempts to authenticate that are slowed.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::warn;

use super::failed_attempts::Pace;
use crate::clock::Clock;
use crate::logging::LogThrottle;
use crate::metrics::Metrics;

/// Watches the failed attempts at one listener.
pub(super) struct AttemptLog {
    /// The section that configures the listener.
    listener: &'static str,
    metrics: Option<Arc<Metrics>>,
    throttle: LogThrottle,
    clock: Clock,
}

impl AttemptLog {
    pub(super) fn new(listener: &'static str, metrics: Option<Arc<Metrics>>) -> AttemptLog {
        if let Some(metrics) = &metrics {
            metrics.show_attempts_slowed(listener, Pace::SLOWED);
        }
        AttemptLog { listener, metrics, throttle: LogThrottle::default(), clock: Clock::start() }
    }

    /// An address failed again, and is answered at this pace.
    pub(super) fn failed(&self, peer: IpAddr, pace: Pace) {
        let (listener, Some(answer)) = (self.listener, pace.label()) else { return };
        if let Some(metrics) = &self.metrics {
            metrics.attempt_slowed(listener, answer);
        }
        if let Some(suppressed) = self.throttle.permit(self.clock.now().monotonic) {
            warn!(listener, %peer, answer, suppressed, "wrong credentials again and again are answered slowly");
        }
    }
}
