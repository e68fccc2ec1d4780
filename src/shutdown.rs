//! The stop signal: told once, heard by everyone.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Tells whether the process is to stop, and waits for it. Clones hear the same signal.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Tells everyone who holds a clone.
    pub fn begin(&self) {
        self.0.cancel();
    }

    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns once the stop was told; at once if it was already.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }
}

/// For the requests and the calls to the upstream that are under way when the stop is told.
pub(crate) const DRAIN: Duration = Duration::from_secs(20);
