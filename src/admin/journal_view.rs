//! Reads of the journal for the API: off the tasks that serve others, and not waited for where the disk hangs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::Semaphore;

use super::problem::problem;
use crate::clock::WallTime;
use crate::journal::{self, Reader};

/// The journal as a person looks at it.
#[derive(Clone, Debug)]
pub(crate) struct JournalView {
    reader: Arc<Reader>,
    /// One read at a time, so that one that hangs holds one thread, and not all that there are.
    turn: Arc<Semaphore>,
    /// As it was known last; never held across an await.
    oldest: Arc<Mutex<Option<WallTime>>>,
    read_max: Duration,
}

impl JournalView {
    /// Over a connection that nothing else waits for.
    pub(crate) fn new(reader: Arc<Reader>) -> JournalView {
        JournalView { reader, turn: Arc::new(Semaphore::new(1)), oldest: Arc::default(), read_max: READ_MAX }
    }

    /// Reads from the journal, off the tasks that serve others, and does not wait for a disk that hangs.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, journal::Error> + Send + 'static,
    ) -> Result<T, Response> {
        let unanswered = |_| {
            let detail = "the journal is busy with another question, or its disk does not answer; ask again";
            problem(StatusCode::SERVICE_UNAVAILABLE, detail)
        };
        let turn = Arc::clone(&self.turn).acquire_owned();
        let turn = tokio::time::timeout(self.read_max, turn).await.map_err(unanswered)?;
        let reader = Arc::clone(&self.reader);
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read(&reader)
        });
        match tokio::time::timeout(self.read_max, read).await.map_err(unanswered)? {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the journal can't be read for the admin API");
                Err(problem(StatusCode::SERVICE_UNAVAILABLE, "the journal can't be read now; see the log"))
            }
            Err(_) => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "reading the journal failed; see the log")),
        }
    }

    /// When the event that waits longest was received; as it was known last, where the journal does not tell at once.
    pub(super) async fn oldest_queued(&self) -> Option<WallTime> {
        let read = self.read(|reader| reader.oldest_queued());
        let read = tokio::time::timeout(GLANCE_MAX.min(self.read_max), read).await;
        let mut known = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Ok(oldest)) = read {
            *known = oldest;
        }
        *known
    }
}

/// For a read to begin, and again for it to end: a cold disk takes seconds to list a key among a million events.
const READ_MAX: Duration = Duration::from_secs(25);
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
        *view.oldest.lock().unwrap() = Some(WallTime(7));
        let started = std::time::Instant::now();
        let scrapes = (0..20).map(|_| {
            let view = view.clone();
            tokio::spawn(async move { view.oldest_queued().await })
        });
        for scrape in scrapes.collect::<Vec<_>>() {
            assert_eq!(scrape.await.unwrap(), Some(WallTime(7)), "as it was known");
        }
        assert!(started.elapsed() < view.read_max * 10, "no scrape waits for another: {:?}", started.elapsed());
        assert_eq!(view.read(|reader| reader.newest()).await.unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
