//! The durable log of events: SQLite behind a narrow interface.

use std::path::PathBuf;
use std::time::Duration;

/// `data_dir` and the `journal` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub max_events: u64,
    pub max_bytes: u64,
    pub keep_delivered: Duration,
    pub keep_refused: u64,
}
