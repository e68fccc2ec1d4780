//! How much one source may send: governor's token bucket, asked after authentication.
//!
//! The caller passes the time in; nothing here reads a clock.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::time::Monotonic;

/// A source's `rate_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    pub answer: OverLimit,
}

/// The status that says "later": many senders retry a 503 and give up on a 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    TooManyRequests,
    ServiceUnavailable,
}

/// One source's limit.
#[derive(Debug)]
pub struct Limiter {
    bucket: Bucket,
    answer: OverLimit,
}

/// governor's token bucket, told the time instead of asking for it.
#[derive(Debug)]
pub struct Bucket(RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>);

/// The proof that a request fits the limit; it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WithinLimit(());

/// It does not fit; it was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    pub answer: OverLimit,
    /// After how many whole seconds one request fits again.
    pub retry_after_seconds: u64,
}

impl Limiter {
    pub fn new(limit: RateLimit) -> Limiter {
        Limiter { bucket: Bucket::new(limit.per_second, limit.burst), answer: limit.answer }
    }

    /// Counts one request.
    pub fn check(&self, now: Monotonic) -> Result<WithinLimit, Exceeded> {
        self.bucket
            .take(now)
            .map(|()| WithinLimit(()))
            .map_err(|wait| Exceeded { answer: self.answer, retry_after_seconds: whole_seconds(wait) })
    }
}

impl Bucket {
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Bucket {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Bucket(RateLimiter::direct_with_clock(quota, Told::default()))
    }

    /// Takes one, or says how long to wait for it.
    pub fn take(&self, now: Monotonic) -> Result<(), Duration> {
        let now = self.0.clock().tell(now);
        self.0.check().map_err(|not_until| not_until.wait_time_from(now))
    }
}

/// Rounded up, and at least one: a sender that waits as told is not refused again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The latest time that a caller told.
#[derive(Debug, Default)]
struct Told(AtomicU64);

impl Told {
    fn tell(&self, now: Monotonic) -> Nanos {
        let nanos = u64::try_from(now.0).unwrap_or(0).saturating_mul(1_000_000);
        // Requests race; the bucket's time never goes back.
        Nanos::from(self.0.fetch_max(nanos, Ordering::Relaxed).max(nanos))
    }
}

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_second: u32, burst: u32) -> Limiter {
        Limiter::new(RateLimit {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
            answer: OverLimit::ServiceUnavailable,
        })
    }

    /// How many of `tried` requests at `at` fit.
    fn fitting(limiter: &Limiter, at: i64, tried: usize) -> usize {
        (0..tried).filter(|_| limiter.check(Monotonic(at)).is_ok()).count()
    }

    #[test]
    fn a_burst_fits_and_then_the_rate_holds() {
        let limiter = limiter(10, 30);
        assert_eq!(fitting(&limiter, 0, 100), 30, "the burst");
        assert_eq!(fitting(&limiter, 50, 100), 0, "half a token is no token");
        assert_eq!(fitting(&limiter, 1_000, 100), 10, "a second's worth");
        assert_eq!(fitting(&limiter, 60_000, 100), 30, "after a pause the burst again, and no more");
    }

    #[test]
    fn who_waits_as_told_fits() {
        for (per_second, burst) in [(1, 1), (3, 1), (2_000, 5), (1_000_000, 1)] {
            let limiter = limiter(per_second, burst);
            fitting(&limiter, 0, burst as usize);
            let mut at = 0;
            for _ in 0..3 {
                if let Err(exceeded) = limiter.check(Monotonic(at)) {
                    assert!(exceeded.retry_after_seconds >= 1);
                    at += i64::try_from(exceeded.retry_after_seconds).unwrap() * 1_000;
                    assert!(limiter.check(Monotonic(at)).is_ok(), "{per_second} a second, burst {burst}");
                }
            }
        }
    }

    #[test]
    fn retry_after_is_rounded_up() {
        for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }

    #[test]
    fn a_time_that_goes_back_refills_nothing() {
        let limiter = limiter(10, 10);
        assert_eq!(fitting(&limiter, 10_000, 10), 10);
        assert_eq!(fitting(&limiter, 5_000, 10), 0);
        assert_eq!(fitting(&limiter, 10_100, 10), 1);
    }
}
