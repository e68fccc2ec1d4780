//! Deduplication as a state machine per incident key: what is new, what was said already.

use std::time::Duration;

/// The `dedup` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub window: Duration,
    pub remind: bool,
    pub max_keys: usize,
}
