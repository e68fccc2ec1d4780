//! Whether and when to try again: a pure function of attempt, answer, age and now.

use std::time::Duration;

/// The `upstream.retry` section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    pub initial: Duration,
    pub factor: f64,
    pub max: Duration,
    pub give_up_after: Duration,
}
