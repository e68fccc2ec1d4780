//! A limit for log lines about refusals: each refusal is counted, but a flood of them is not logged.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::clock::Monotonic;

/// Permits a number of lines a second.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle {
    second: AtomicI64,
    lines: AtomicU64,
}

impl LogThrottle {
    /// Permits one more line and returns the number suppressed before it; none if the limit is reached.
    pub(crate) fn permit(&self, now: Monotonic) -> Option<u64> {
        let second = now.0.div_euclid(1_000);
        if self.second.swap(second, Ordering::Relaxed) != second {
            return Some(self.lines.swap(1, Ordering::Relaxed).saturating_sub(LINES_PER_SECOND));
        }
        (self.lines.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND).then_some(0)
    }
}

/// Enough for a person, too few to fill a disk.
const LINES_PER_SECOND: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_written_in_part_and_the_rest_is_told() {
        let throttle = LogThrottle::default();
        let written = |at| (0..100).filter(|_| throttle.permit(Monotonic(at)).is_some()).count() as u64;
        assert_eq!(written(5_000), LINES_PER_SECOND);
        assert_eq!(throttle.permit(Monotonic(6_000)), Some(100 - LINES_PER_SECOND));
        assert_eq!(throttle.permit(Monotonic(6_001)), Some(0));
        assert_eq!(throttle.permit(Monotonic(60_000)), Some(0));
    }
}
