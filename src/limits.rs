//! How much one source may send: governor's token bucket, asked after authentication.

use std::num::NonZeroU32;

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
