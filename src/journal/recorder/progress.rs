//! Watches whether the recorder's thread gets on. A disk that hangs returns from no call, so only others can see it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shared by the thread that writes and by those who wait for it.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    /// When the work that is under way began, in milliseconds since the start; 0 while there is none.
    began: AtomicU64,
    told: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { start: Instant::now(), began: AtomicU64::new(0), told: AtomicBool::new(false) }
    }

    /// The thread begins with what it was given.
    pub(super) fn begin(&self) {
        self.began.store(self.now().max(1), Ordering::Relaxed);
    }

    /// It is done with that.
    pub(super) fn end(&self) {
        self.began.store(0, Ordering::Relaxed);
        if self.told.swap(false, Ordering::Relaxed) {
            tracing::info!("the disk of `data_dir` answers again");
        }
    }

    /// For how long the work under way has taken, where that is too long for a disk that works.
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

/// Twice as long as a lock of another program is waited for.
const STALLED: Duration = Duration::from_secs(10);
/// How often who waits looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);
