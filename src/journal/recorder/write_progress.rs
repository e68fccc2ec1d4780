//! Detects a recorder that is stuck: a write to a hanging disk never returns, so another thread must notice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The state of the current write, shared by the recorder's thread and those who wait for it.
#[derive(Debug)]
pub(super) struct WriteProgress {
    start: Instant,
    /// The start of the current write in milliseconds since the recorder's start; 0 while there is none.
    began: AtomicU64,
    told: AtomicBool,
}

impl WriteProgress {
    pub(super) fn new() -> WriteProgress {
        WriteProgress { start: Instant::now(), began: AtomicU64::new(0), told: AtomicBool::new(false) }
    }

    /// Marks the start of a write.
    pub(super) fn begin(&self) {
        self.began.store(self.now().max(1), Ordering::Relaxed);
    }

    /// Marks its end.
    pub(super) fn end(&self) {
        self.began.store(0, Ordering::Relaxed);
        if self.told.swap(false, Ordering::Relaxed) {
            tracing::info!("the disk of `data_dir` answers again");
        }
    }

    /// The time that the current write has taken, if that is too long for a working disk.
    pub(super) fn stalled(&self) -> Option<Duration> {
        let began = self.began.load(Ordering::Relaxed);
        let took = Duration::from_millis(self.now().saturating_sub(began));
        if began == 0 || took < STALLED {
            return None;
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!(
                seconds = took.as_secs(),
                "a write to the journal does not return: the disk of `data_dir` hangs; events are refused with 503 until it \
                 answers"
            );
        }
        Some(took)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Twice as long as we wait for another program's lock.
const STALLED: Duration = Duration::from_secs(10);
/// The interval at which a waiting sender checks for a stalled disk.
pub(super) const LOOK: Duration = Duration::from_secs(1);
