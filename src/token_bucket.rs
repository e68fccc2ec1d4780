//! A token bucket, told the time by its caller: it reads no clock.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Monotonic;

/// A token bucket that may be overdrawn once.
#[derive(Debug)]
pub struct TokenBucket {
    /// The time, in nanoseconds, at which all that was taken is made up for. It is in the past while the bucket is full
    /// and `burst` intervals ahead when it is empty; beyond that tokens are owed.
    due: AtomicU64,
    /// Nanoseconds in which one token is made up for.
    interval: u64,
    burst: u64,
}

impl TokenBucket {
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> TokenBucket {
        let interval = NANOS_PER_SECOND / u64::from(per_second.get());
        TokenBucket { due: AtomicU64::new(0), interval, burst: burst.get().into() }
    }

    /// Takes one, or says how long to wait for it.
    pub fn take(&self, now: Monotonic) -> Result<(), Duration> {
        self.take_unless_missing(self.burst, 1, now)
    }

    /// Takes many, also more than there are, unless some are owed already; or says how long to wait until one can be
    /// taken.
    pub fn overdraw(&self, count: u64, now: Monotonic) -> Result<(), Duration> {
        self.take_unless_missing(self.burst + 1, count, now)
    }

    /// Takes `count` unless `missing` tokens or more are out.
    fn take_unless_missing(&self, missing: u64, count: u64, now: Monotonic) -> Result<(), Duration> {
        let now = u64::try_from(now.0).unwrap_or(0).saturating_mul(NANOS_PER_MILLI);
        let after = |time: u64, tokens: u64| time.saturating_add(tokens.saturating_mul(self.interval));
        let taken = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            let due = due.max(now);
            (due <= after(now, missing - 1)).then(|| after(due, count))
        });
        taken.map(drop).map_err(|due| Duration::from_nanos(due.saturating_sub(after(now, self.burst - 1))))
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MILLI: u64 = 1_000_000;
