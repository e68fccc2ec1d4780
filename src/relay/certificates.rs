//! Watches the certificates in use: tells of those that end, and of files that are gone.
//!
//! New contents are the business of reloads; this one sees what no change of a file tells.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::{MissingFile, certificate_files, certificates_in_use};
use crate::clock::WallTime;
use crate::delivery::client::Upstream;
use crate::shutdown::Shutdown;
use crate::supervision::panicked;
use crate::tls::{InUse, Served, Standing};

/// The certificates, and what was told of them.
pub(super) struct Certificates {
    listeners: Vec<(&'static str, Arc<Served>)>,
    upstream: Arc<Upstream>,
    /// The standings that were told.
    standings: BTreeMap<(&'static str, PathBuf), Standing>,
    /// The files that the last look did not find.
    unseen: Vec<(&'static str, PathBuf)>,
    missing: watch::Sender<Vec<MissingFile>>,
}

impl Certificates {
    /// The start has told how those are that it reads.
    pub(super) fn new(
        listeners: Vec<(&'static str, Arc<Served>)>,
        upstream: Arc<Upstream>,
        now: WallTime,
    ) -> Certificates {
        let in_use = certificates_in_use(&listeners, &upstream, now);
        let standings =
            in_use.into_iter().map(|(section, one)| ((section, one.file), one.expiry.standing(now))).collect();
        Certificates { listeners, upstream, standings, unseen: Vec::new(), missing: watch::Sender::default() }
    }

    /// The files that are gone.
    pub(super) fn missing(&self) -> watch::Receiver<Vec<MissingFile>> {
        self.missing.subscribe()
    }

    pub(super) fn start(mut self, shutdown: Shutdown) {
        tokio::spawn(async move { while panicked("certificates", self.run(&shutdown)).await {} });
    }

    async fn run(&mut self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let files: Vec<_> = certificate_files(&self.listeners, &self.upstream)
                .map(|(section, file)| (section, file.to_owned()))
                .collect();
            // One that can't be reached may be there.
            let is_gone = |(_, file): &(&str, PathBuf)| matches!(file.try_exists(), Ok(false));
            let looked = tokio::task::spawn_blocking(move || files.into_iter().filter(is_gone).collect());
            let Ok(unseen) = looked.await else { continue };
            let now = WallTime::now();
            self.tell_missing(unseen, now);
            for (section, one) in certificates_in_use(&self.listeners, &self.upstream, now) {
                self.tell_standing(section, one, now);
            }
        }
    }

    /// A file is missing once two looks do not find it: some programs replace one by removing it first.
    fn tell_missing(&mut self, unseen: Vec<(&'static str, PathBuf)>, now: WallTime) {
        let told = self.missing.borrow().clone();
        let gone = unseen.iter().filter(|one| self.unseen.contains(one));
        let missing: Vec<MissingFile> = gone
            .map(|(section, file)| {
                let known = told.iter().find(|known| known.section == *section && known.file == *file);
                known.cloned().unwrap_or_else(|| MissingFile { section, file: file.clone(), since: now })
            })
            .collect();
        for MissingFile { section, file, .. } in missing.iter().filter(|one| !told.contains(one)) {
            tracing::error!(
                section, file = %file.display(),
                "a certificate's file is gone: what was read from it is used until the relay stops; put it back"
            );
        }
        for MissingFile { section, file, .. } in told.iter().filter(|one| !missing.contains(one)) {
            tracing::info!(section, file = %file.display(), "a certificate's file is there again");
        }
        self.unseen = unseen;
        if missing != told {
            self.missing.send_replace(missing);
        }
    }

    fn tell_standing(&mut self, section: &'static str, one: InUse, now: WallTime) {
        let (standing, at, file) = (one.expiry.standing(now), one.expiry.at.rfc3339(), one.file);
        let before = self.standings.insert((section, file.clone()), standing);
        let file = file.display();
        if before == Some(standing) {
            return;
        }
        match standing {
            Standing::Valid => {}
            Standing::ExpiresSoon => {
                tracing::warn!(section, %file, at, "a certificate expires soon; put a new one there");
            }
            Standing::Expired => {
                tracing::error!(section, %file, at, "a certificate has expired; put a new one there");
            }
        }
    }
}

/// A handful of calls.
const LOOK_EVERY: Duration = Duration::from_secs(1);
