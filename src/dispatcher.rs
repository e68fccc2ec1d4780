//! Delivery: takes queued events, in order per key, to the upstream, until it has really done it.

use std::num::NonZeroU32;

use crate::retry;

/// The `upstream` section, as far as pacing and retrying are concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub concurrency: usize,
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
    pub retry: retry::Settings,
}
