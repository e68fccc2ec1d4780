//! The rate limit of a source, checked after authentication.
//!
//! The caller passes the time in; nothing here reads a clock.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::token_bucket::TokenBucket;

/// A source's `rate_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    pub answer: OverLimit,
}

/// The status of the refusal: many senders retry a 503 and give up on a 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    TooManyRequests,
    ServiceUnavailable,
}

/// The rate limit of one source, and how much of it is used.
#[derive(Debug)]
pub(crate) struct Limiter {
    bucket: TokenBucket,
    answer: OverLimit,
}

/// The request does not fit the limit and was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    pub answer: OverLimit,
    /// After how many whole seconds one request fits again.
    pub retry_after_seconds: u64,
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit) -> Limiter {
        Limiter { bucket: TokenBucket::new(limit.per_second, limit.burst), answer: limit.answer }
    }

    /// Counts one request, before its body is read.
    pub(crate) fn check(&self, now: Monotonic) -> Result<(), Exceeded> {
        self.bucket.take(now).map_err(|wait| self.exceeded(wait))
    }

    /// Counts the other elements of a request that turned out to be a batch of `elements`.
    ///
    /// A batch fits as long as the source owes nothing, however large it is: a batch that is larger than the burst would
    /// otherwise be refused for ever. What it takes beyond the burst is owed, and nothing of the source fits until
    /// that is made up for. So there is one such batch at a time, and in the long run no more than the rate.
    pub(crate) fn count_batch(&self, elements: usize, now: Monotonic) -> Result<(), Exceeded> {
        match u64::try_from(elements.saturating_sub(1)).unwrap_or(u64::MAX) {
            0 => Ok(()),
            others => self.bucket.overdraw(others, now).map_err(|wait| self.exceeded(wait)),
        }
    }

    fn exceeded(&self, wait: Duration) -> Exceeded {
        Exceeded { answer: self.answer, retry_after_seconds: whole_seconds(wait) }
    }
}

/// Rounded up, and at least one: a sender that waits as told is not refused again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
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

    /// The number of `tried` requests at `at` that fit.
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

    #[test]
    fn a_batch_spends_what_it_holds() {
        let limiter = limiter(10, 30);
        assert!(limiter.check(Monotonic(0)).is_ok() && limiter.count_batch(20, Monotonic(0)).is_ok());
        assert_eq!(fitting(&limiter, 0, 100), 10, "of thirty");
        assert_eq!(fitting(&limiter, 1_000, 100), 10);
        assert!(limiter.count_batch(1, Monotonic(1_000)).is_ok(), "one element is the request itself");
    }

    #[test]
    fn a_batch_that_is_larger_than_the_burst_is_taken_and_made_up_for() {
        for (per_second, burst) in [(10, 30), (10, 1), (1, 1)] {
            let limiter = limiter(per_second, burst);
            assert!(limiter.check(Monotonic(0)).is_ok());
            assert!(limiter.count_batch(100, Monotonic(0)).is_ok(), "{burst}");
            let exceeded = limiter.check(Monotonic(0)).unwrap_err();
            assert_eq!(exceeded.answer, OverLimit::ServiceUnavailable);
            let owed = f64::from(100 - (burst - 1)) / f64::from(per_second);
            assert_eq!(exceeded.retry_after_seconds, owed.ceil() as u64, "{per_second} a second, burst {burst}");
            assert!(limiter.check(Monotonic((owed * 1_000.0) as i64 - 1)).is_err());
            assert!(limiter.check(Monotonic((owed * 1_000.0) as i64)).is_ok(), "as told");
        }
    }

    #[test]
    fn while_something_is_owed_no_other_batch_is_taken() {
        let limiter = limiter(10, 30);
        // Both were let in before either was decoded.
        assert!(limiter.check(Monotonic(0)).is_ok() && limiter.check(Monotonic(0)).is_ok());
        assert!(limiter.count_batch(1_000, Monotonic(0)).is_ok());
        assert_eq!(limiter.count_batch(2, Monotonic(0)).unwrap_err().retry_after_seconds, 98);
        assert!(limiter.count_batch(1, Monotonic(0)).is_ok(), "what is no batch was counted already");
    }

    proptest::proptest! {
        /// Whatever is sent in whatever pieces, over any time no more passes than the rate, the burst and one batch.
        #[test]
        fn the_rate_holds_in_the_long_run(
            per_second in 1_u32..50, burst in 1_u32..50,
            requests in proptest::collection::vec((0_i64..2_000, 1_usize..200), 1..200),
        ) {
            let limiter = limiter(per_second, burst);
            let (mut at, mut passed, mut largest) = (0, 0, 0);
            for (wait, elements) in requests {
                at += wait;
                if limiter.check(Monotonic(at)).is_ok() {
                    passed += 1;
                    if limiter.count_batch(elements, Monotonic(at)).is_ok() {
                        passed += elements as u64 - 1;
                        largest = largest.max(elements as u64);
                    }
                }
                let allowed = u64::from(burst) + u64::from(per_second) * (at as u64 + 1_000) / 1_000;
                proptest::prop_assert!(passed <= allowed + largest, "{} of {} after {} ms", passed, allowed, at);
            }
        }
    }
}
