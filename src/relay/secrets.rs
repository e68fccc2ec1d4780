//! Reads secret files again, so that a rotated token needs no restart, and tells of those that can't be read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::admin::UnreadableSecret;
use crate::clock::WallTime;
use crate::config::{Refreshed, SecretFiles};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::supervision::panicked;

/// The secret files, and which of them can't be read now.
pub(super) struct SecretWatch {
    files: Arc<Mutex<SecretFiles>>,
    metrics: Arc<Metrics>,
    unreadable: watch::Sender<Vec<UnreadableSecret>>,
}

impl SecretWatch {
    /// The start has read all of them.
    pub(super) fn new(files: SecretFiles, metrics: Arc<Metrics>) -> SecretWatch {
        SecretWatch { files: Arc::new(Mutex::new(files)), metrics, unreadable: watch::Sender::default() }
    }

    /// The files that can't be read.
    pub(super) fn unreadable(&self) -> watch::Receiver<Vec<UnreadableSecret>> {
        self.unreadable.subscribe()
    }

    /// Reads changed files from now on.
    pub(super) fn start(self, resume: Arc<Notify>, shutdown: Shutdown) {
        if self.files.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        tokio::spawn(async move { while panicked("secrets", self.run(&resume, &shutdown)).await {} });
    }

    async fn run(&self, resume: &Notify, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                () = tokio::time::sleep(READ_EVERY) => {}
            }
            let files = Arc::clone(&self.files);
            let read = tokio::task::spawn_blocking(move || {
                let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
                let changes = files.refresh();
                let unreadable = files.unreadable().map(|(path, problem)| (path.to_owned(), problem.to_owned()));
                (changes, unreadable.collect::<Vec<_>>())
            });
            // After a panic, which is logged, they are read again.
            let Ok((changes, unreadable)) = read.await else { continue };
            for change in changes {
                self.tell(change, resume);
            }
            self.publish(unreadable);
        }
    }

    fn tell(&self, change: Refreshed, resume: &Notify) {
        match change {
            Refreshed::Changed { path } => {
                tracing::info!(path = %path.display(), "a secret file changed; its new value is in use");
                resume.notify_one();
            }
            Refreshed::Failed { path, problem } => {
                tracing::error!(path = %path.display(), problem, "a secret file can't be used; the previous value stays in use");
            }
        }
    }

    fn publish(&self, unreadable: Vec<(PathBuf, String)>) {
        let (told, now) = (self.unreadable.borrow().clone(), WallTime::now());
        let since = |file: &PathBuf| told.iter().find(|one| one.file == *file).map_or(now, |one| one.since);
        let unreadable: Vec<UnreadableSecret> = unreadable
            .into_iter()
            .map(|(file, problem)| UnreadableSecret { since: since(&file), file, problem })
            .collect();
        for gone in told.iter().filter(|one| !unreadable.iter().any(|known| known.file == one.file)) {
            tracing::info!(path = %gone.file.display(), "a secret file can be used again");
        }
        self.metrics.secret_files_unreadable(unreadable.len());
        if unreadable != told {
            self.unreadable.send_replace(unreadable);
        }
    }
}

/// The longest delay before a rotated secret is used.
const READ_EVERY: Duration = Duration::from_secs(1);
