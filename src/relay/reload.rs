//! Reload: what was changed is read, compiled and tried by the tests beside it, and only then decides.
//!
//! It is told by SIGHUP, or finds by itself that a file which the configuration was read from has changed. Rules and the
//! listeners' certificates are what it takes over; whatever else is read is checked as at the start, and a changed key
//! is named as waiting for a restart. What can't be used changes nothing: the log, `/readyz`, `/api/v1/status` and a
//! metric say why.

mod candidate;
mod debounce;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::admin::{Reload, ReloadFailure};
use crate::authoring::rule_tests;
use crate::clock::WallTime;
use crate::config::{Inputs, Settings, Snapshot};
use crate::inbound::Ingest;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::supervision::panicked;
use crate::tls;

use candidate::{Candidate, Usable};
use debounce::Debounce;

/// The parts of the relay that a reload acts on and reports to.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) ingest: Ingest,
    /// The listeners' certificates.
    pub(super) served: Vec<Arc<tls::Served>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) state: watch::Sender<Reload>,
    pub(super) shutdown: Shutdown,
}

/// Asks for a reload, as SIGHUP does.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<()>);

/// The task that reloads; it owns what is known of the files.
struct Reloader {
    inputs: Arc<Inputs>,
    /// The settings that the relay runs with, apart from rules.
    started: Settings,
    debounce: Debounce,
    in_force: InForce,
}

impl Reloads {
    /// Starts watching what `snapshot`, the one of the start, was read from.
    pub(super) fn start(inputs: Inputs, snapshot: Snapshot, lacking: Vec<String>, in_force: InForce) -> Reloads {
        let (sender, mut asked) = mpsc::channel(1);
        let Snapshot { mut files, rules, settings } = snapshot;
        // The start does not run tests; a change of them is one of what the next reload goes by.
        for name in rules.keys().flat_map(|path| rule_tests::names_beside(path)) {
            files.note(&name);
        }
        // A first start makes the pair after it was looked for.
        in_force.served.iter().flat_map(|served| served.files()).for_each(|file| files.note_made(file));
        let mut reloader =
            Reloader { inputs: Arc::new(inputs), started: settings, debounce: Debounce::new(files), in_force };
        if !lacking.is_empty() {
            reloader.lacks(lacking);
        }
        let rules: Vec<PathBuf> = rules.into_keys().collect();
        tokio::spawn(async move { while panicked("reload", reloader.run(&rules, &mut asked)).await {} });
        Reloads(sender)
    }

    /// Returns at once. Whatever is written by now will have been read: one reload that has not begun is enough.
    pub fn ask(&self) {
        let _ = self.0.try_send(());
    }
}

impl Reloader {
    async fn run(&mut self, rules: &[PathBuf], asked: &mut mpsc::Receiver<()>) {
        let shutdown = self.in_force.shutdown.clone();
        // What tests name is looked for beside the start, which does not wait for it.
        let (rules, mut files) = (rules.to_vec(), self.debounce.files().clone());
        let noted = tokio::task::spawn_blocking(move || {
            rules.iter().for_each(|path| candidate::note_named(path, &mut files));
            files
        });
        tokio::select! {
            () = shutdown.begun() => return,
            noted = tokio::time::timeout(SLOW_AFTER, noted) => match noted {
                Ok(Ok(files)) => self.debounce = Debounce::new(files),
                // They are noted again with the first reload.
                Ok(Err(_)) | Err(_) => tracing::warn!("what the tests beside the rules read is not watched yet"),
            },
        }
        loop {
            let cause = tokio::select! {
                () = shutdown.begun() => return,
                // Whoever asks may go away; files are still watched.
                Some(()) = asked.recv() => "SIGHUP".to_owned(),
                () = tokio::time::sleep(LOOK_EVERY) => match self.look().await {
                    Some(changed) => changed,
                    None => continue,
                },
            };
            tokio::select! {
                () = shutdown.begun() => return,
                () = self.reload(&cause) => {}
            }
        }
    }

    /// Looks at the files; names the changed ones once nobody writes to them any more.
    async fn look(&mut self) -> Option<String> {
        let files = self.debounce.files().clone();
        let now = tokio::task::spawn_blocking(move || files.now()).await.ok()?;
        self.debounce.look(now)
    }

    async fn reload(&mut self, cause: &str) {
        let (inputs, served) = (Arc::clone(&self.inputs), self.in_force.served.clone());
        let mut reading = tokio::task::spawn_blocking(move || candidate::read(&inputs, &served));
        let candidate = match tokio::time::timeout(SLOW_AFTER, &mut reading).await {
            Ok(candidate) => candidate,
            Err(_) => {
                // A file system that does not answer would otherwise end all reloading without a word.
                let problem = format!("still reading after {} s", SLOW_AFTER.as_secs());
                self.failed(cause, vec![problem], WallTime::now(), "no change is taken before this reading has ended");
                reading.await
            }
        };
        let Ok(candidate) = candidate else {
            // What panics is a fault of this program, and is in the log; the files are looked at again when they change.
            self.report(cause, Err(vec!["reading the configuration failed; see the log".to_owned()]));
            return;
        };
        let Candidate { files, result } = candidate;
        self.debounce = Debounce::new(files);
        let result = result.map(|usable| {
            let Usable { rules, renewed, settings, tests, warnings } = usable;
            self.in_force.ingest.exchange_rules(&rules);
            for (served, renewed) in renewed {
                tracing::info!(sha256 = renewed.fingerprint, "connections from now on meet a new certificate");
                served.exchange(renewed);
            }
            for warning in warnings {
                tracing::warn!("configuration: {warning}");
            }
            (tests, self.started.changed(&settings))
        });
        self.report(cause, result);
    }

    /// Tells that the start had to do without some shadow rules.
    fn lacks(&self, problems: Vec<String>) {
        let now = WallTime::now();
        self.in_force.metrics.reloaded(false, now);
        self.failed(
            "start",
            problems,
            now,
            "started without the shadow rules, which can't be used; they decide nothing",
        );
    }

    /// Tells how it went, everywhere where somebody may look.
    fn report(&self, cause: &str, result: Result<(usize, Vec<String>), Vec<String>>) {
        let now = WallTime::now();
        self.in_force.metrics.reloaded(result.is_ok(), now);
        match result {
            Ok((tests, restart_needed)) => {
                tracing::info!(cause, tests, "reloaded: these rules decide from now on");
                if !restart_needed.is_empty() {
                    let keys = restart_needed.join(", ");
                    tracing::warn!(
                        keys,
                        "only rules and certificates are reloaded: these keys were changed too, and wait for a restart"
                    );
                }
                self.in_force.state.send_replace(Reload { restart_needed, ..Reload::started(now) });
            }
            Err(problems) => {
                let effect = "not reloaded: what was read can't be used, and the rules before it stay in force; \
                              `gander check` and `gander test` show all of it";
                self.failed(cause, problems, now, effect);
            }
        }
    }

    fn failed(&self, cause: &str, problems: Vec<String>, now: WallTime, effect: &str) {
        for problem in &problems {
            tracing::error!("configuration: {problem}");
        }
        tracing::error!(cause, problems = problems.len(), "{effect}");
        self.in_force.state.send_modify(|state| {
            let since = state.failure.as_ref().map_or(now, |failure| failure.since);
            state.read_at = now;
            state.failure = Some(ReloadFailure { since, problems });
        });
    }
}

/// How often files are looked at: a handful of calls, and a change is in force within about two of these.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longer than the largest files and their tests take on a busy machine.
const SLOW_AFTER: Duration = Duration::from_secs(30);
