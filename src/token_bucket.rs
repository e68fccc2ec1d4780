//! A rate: governor's token bucket, told the time by its caller; it reads no clock.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::clock::Monotonic;

/// A token bucket that may be overdrawn once.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    limiter: RateLimiter<NotKeyed, Due, LatestTime, NoOpMiddleware<Nanos>>,
    due: Due,
    quota: Quota,
}

/// When all that was taken will have been made up for. A full bucket has it in the past, an empty one `burst` intervals
/// ahead; beyond that tokens are owed.
#[derive(Clone, Debug, Default)]
struct Due(Arc<InMemoryState>);

/// The latest time that a caller told.
#[derive(Debug, Default)]
struct LatestTime(AtomicU64);

impl TokenBucket {
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> TokenBucket {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let due = Due::default();
        TokenBucket { limiter: RateLimiter::new(quota, due.clone(), LatestTime::default()), due, quota }
    }

    /// Takes one, or says how long to wait for it.
    pub(crate) fn take(&self, now: Monotonic) -> Result<(), Duration> {
        let now = self.limiter.clock().tell(now);
        self.limiter.check().map_err(|not_until| not_until.wait_time_from(now))
    }

    /// Takes many, also more than there are, unless some are owed already; or says how long to wait until one can be
    /// taken.
    pub(crate) fn overdraw(&self, count: u64, now: Monotonic) -> Result<(), Duration> {
        let now = self.limiter.clock().tell(now).as_u64();
        let interval = u64::try_from(self.quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX);
        let ahead = |tokens: u64| now.saturating_add(tokens.saturating_mul(interval));
        let burst = u64::from(self.quota.burst_size().get());
        self.due.measure_and_replace(&NotKeyed::NonKey, |due| {
            let due = due.map_or(now, Nanos::as_u64).max(now);
            if due > ahead(burst) {
                return Err(Duration::from_nanos(due.saturating_sub(ahead(burst - 1))));
            }
            Ok(((), Nanos::from(due.saturating_add(count.saturating_mul(interval)))))
        })
    }
}

impl StateStore for Due {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, decide)
    }
}

impl LatestTime {
    fn tell(&self, now: Monotonic) -> Nanos {
        let nanos = u64::try_from(now.0).unwrap_or(0).saturating_mul(NANOS_PER_MILLI);
        // Requests race; the bucket's time never goes back.
        Nanos::from(self.0.fetch_max(nanos, Ordering::Relaxed).max(nanos))
    }
}

impl Clock for LatestTime {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;
