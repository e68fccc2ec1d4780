//! Reads of the journal for the API: off the tasks that serve others, and not waited for where the disk hangs.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::Semaphore;

use super::problem::problem;
use crate::clock::WallTime;
use crate::journal::{self, Reader};

/// The journal as a person looks at it.
#[derive(Clone, Debug)]
pub struct JournalView {
    reader: Arc<Reader>,
    /// One read at a time, so that one that hangs holds one thread, and not all that there are.
    turn: Arc<Semaphore>,
    read_max: Duration,
}

impl JournalView {
    /// Over a connection that nothing else waits for.
    pub fn new(reader: Arc<Reader>) -> JournalView {
        JournalView { reader, turn: Arc::new(Semaphore::new(1)), read_max: READ_MAX }
    }

    /// Reads from the journal, off the tasks that serve others, and waits for no disk that hangs.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, journal::Error> + Send + 'static,
    ) -> Result<T, Response> {
        match tokio::time::timeout(self.read_max, self.read_in_turn(read)).await {
            Ok(read) => read,
            Err(_) => {
                let detail = "the disk of `data_dir` does not answer; ask again when it does";
                Err(problem(StatusCode::SERVICE_UNAVAILABLE, detail))
            }
        }
    }

    async fn read_in_turn<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, journal::Error> + Send + 'static,
    ) -> Result<T, Response> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let reader = Arc::clone(&self.reader);
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read(&reader)
        });
        match read.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the journal can't be read for the admin API");
                Err(problem(StatusCode::SERVICE_UNAVAILABLE, "the journal can't be read now; see the log"))
            }
            Err(_) => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "reading the journal failed; see the log")),
        }
    }

    /// When the event that waits longest was received; none where that can't be told at once.
    pub(super) async fn oldest_queued(&self) -> Option<WallTime> {
        tokio::time::timeout(GLANCE_MAX, self.read(|reader| reader.oldest_queued())).await.ok()?.ok().flatten()
    }
}

/// Longer than any read of a disk that answers: a search stops by itself before.
const READ_MAX: Duration = Duration::from_secs(10);
/// Less than a scraper waits.
const GLANCE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Config, Journal, Lock, Shares};

    #[tokio::test]
    async fn nobody_waits_for_a_read_that_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: directory.path().to_owned(),
            max_events: 100,
            max_bytes: 1 << 20,
            keep_delivered: Duration::from_secs(60),
            keep_refused: 10,
            shares: Shares::default(),
            reserve: None,
        };
        let _journal = Journal::open(&config, &Lock::take(directory.path()).unwrap(), WallTime(0)).unwrap();
        let mut view = JournalView::new(Arc::new(Reader::open(directory.path()).unwrap()));
        assert!(view.read(|reader| reader.newest()).await.is_ok());
        view.read_max = Duration::from_millis(50);
        let _hangs = Arc::clone(&view.turn).acquire_owned().await;
        assert_eq!(view.oldest_queued().await, None);
        assert_eq!(view.read(|reader| reader.newest()).await.unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
