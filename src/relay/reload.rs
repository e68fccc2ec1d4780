//! Reloads: changed files are read, compiled and tested with the tests beside them before they take effect.
//!
//! A reload starts by SIGHUP, or when a file of the configuration changes. It applies rules, the contents of
//! certificate files and the section `self_check`; everything else is checked as at the start, and changed keys are
//! reported as waiting for a restart. A configuration with an error changes nothing: the log, `/readyz`,
//! `/api/v1/status` and a metric give the reason.

mod candidate;
mod debounce;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use crate::admin::{Reload, ReloadFailure};
use crate::authoring::rule_tests;
use crate::callgoose::filters::FiltersBeside;
use crate::clock::WallTime;
use crate::config::{Inputs, SettingsTree, Snapshot};
use crate::delivery::client::Upstream;
use crate::inbound::Ingest;
use crate::metrics::Metrics;
use crate::self_check;
use crate::shutdown::Shutdown;
use crate::supervision::panicked;
use crate::tls::{self, ClientTls, RenewedClient};

pub(super) use candidate::note_named;
use candidate::{Candidate, Usable};
use debounce::Debounce;

/// The parts of the relay that a reload acts on and reports to.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) ingest: Ingest,
    /// The TLS of the listeners.
    pub(super) served: Vec<Arc<tls::Served>>,
    /// Remembers the certificates that are served, for the next start.
    pub(super) record: tls::Record,
    pub(super) upstream: Arc<Upstream>,
    /// Tells the dispatcher that a paused delivery may succeed now.
    pub(super) resume: Arc<Notify>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) filters: watch::Sender<FiltersBeside>,
    pub(super) state: watch::Sender<Reload>,
    /// The settings of the self check; none: it is off.
    pub(super) self_check: watch::Sender<Option<self_check::Settings>>,
    pub(super) shutdown: Shutdown,
}

/// A handle to request a reload, as SIGHUP does.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<()>);

/// The task that reloads; it owns the state of the files.
struct Reloader {
    inputs: Arc<Inputs>,
    /// The settings in force, without rules.
    started: SettingsTree,
    debounce: Debounce,
    in_force: InForce,
}

impl Reloads {
    /// Starts to watch the files of the start's `snapshot`.
    pub(super) fn start(inputs: Inputs, snapshot: Snapshot, lacking: Vec<String>, in_force: InForce) -> Reloads {
        let (sender, mut asked) = mpsc::channel(1);
        let Snapshot { mut files, rules, settings, .. } = snapshot;
        // The start runs no tests; changed test files trigger the next reload.
        for name in rules.keys().flat_map(|path| rule_tests::names_beside(path)) {
            files.note(&name);
        }
        // A first start makes the pair after the files were recorded.
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

    /// Returns at once. The reload will see all files as they are now: one that has not begun is enough.
    pub fn ask(&self) {
        let _ = self.0.try_send(());
    }
}

impl Reloader {
    async fn run(&mut self, rules: &[PathBuf], asked: &mut mpsc::Receiver<()>) {
        let shutdown = self.in_force.shutdown.clone();
        // Files that tests name are looked up beside the start, which does not wait for them.
        let (rules, mut files) = (rules.to_vec(), self.debounce.files().clone());
        let noted = tokio::task::spawn_blocking(move || {
            rules.iter().for_each(|path| note_named(path, &mut files));
            files
        });
        tokio::select! {
            () = shutdown.begun() => return,
            noted = tokio::time::timeout(SLOW_AFTER, noted) => match noted {
                Ok(Ok(files)) => self.debounce = Debounce::new(files),
                // The first reload records them again.
                Ok(Err(_)) | Err(_) => tracing::warn!("files that the tests beside the rules read are not watched yet"),
            },
        }
        loop {
            let cause = tokio::select! {
                () = shutdown.begun() => return,
                // Requests may stop for good; files are still watched.
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

    /// Checks the files; returns the names of the changed ones once they are no longer being written.
    async fn look(&mut self) -> Option<String> {
        let files = self.debounce.files().clone();
        let now = tokio::task::spawn_blocking(move || files.now()).await.ok()?;
        self.debounce.look(now)
    }

    async fn reload(&mut self, cause: &str) {
        let (inputs, served) = (Arc::clone(&self.inputs), self.in_force.served.clone());
        let upstream = Arc::clone(&self.in_force.upstream);
        let mut reading = tokio::task::spawn_blocking(move || candidate::read(&inputs, &served, upstream.tls()));
        let candidate = match tokio::time::timeout(SLOW_AFTER, &mut reading).await {
            Ok(candidate) => candidate,
            Err(_) => {
                // Otherwise a file system that hangs would end all reloads silently.
                let problem = format!("still reading after {} s", SLOW_AFTER.as_secs());
                self.failed(cause, vec![problem], WallTime::now(), "no change is applied before this read has ended");
                reading.await
            }
        };
        let Ok(candidate) = candidate else {
            // A panic is a fault of this program, and is logged; the next change is read again.
            self.report(cause, Err(vec!["reading the configuration failed; see the log".to_owned()]));
            return;
        };
        let Candidate { files, mut result } = candidate;
        self.debounce = Debounce::new(files);
        if let Ok(Usable { renewed, .. }) = &mut result {
            self.exchange_certificates(std::mem::take(renewed)).await;
        }
        let result = result.map(|usable| {
            let Usable { rules, renewed_out, self_check, settings, filters, tests, warnings, .. } = usable;
            self.in_force.ingest.exchange_rules(&rules);
            self.in_force.filters.send_replace(filters);
            self.renew_upstream(renewed_out);
            self.exchange_self_check(self_check);
            for warning in warnings {
                tracing::warn!("configuration: {warning}");
            }
            (tests, self.started.changed(&settings))
        });
        self.report(cause, result);
    }

    /// New connections meet the new certificates; those that a new client CA does not admit end.
    async fn exchange_certificates(&self, renewed: Vec<(Arc<tls::Served>, tls::Renewed)>) {
        if renewed.is_empty() {
            return;
        }
        let record = self.in_force.record.clone();
        let exchanged = tokio::task::spawn_blocking(move || {
            for (served, renewed) in renewed {
                tracing::info!(sha256 = renewed.fingerprint, "new connections use the renewed certificate");
                served.exchange(renewed);
                served.remember(&record);
            }
        });
        // A panic is logged.
        let _ = exchanged.await;
    }

    fn exchange_self_check(&self, new: Option<self_check::Settings>) {
        self.in_force.self_check.send_if_modified(|current| {
            let changed = *current != new;
            *current = new;
            changed
        });
    }

    /// Calls from now on are made on new connections; what was paused is tried at once.
    fn renew_upstream(&self, renewed: Vec<(Arc<ClientTls>, RenewedClient)>) {
        if renewed.is_empty() {
            return;
        }
        for (tls, renewed) in renewed {
            tls.exchange(renewed);
        }
        tracing::info!("new connections to the upstream use the renewed certificates");
        self.in_force.upstream.retire_connections();
        self.in_force.resume.notify_one();
    }

    /// Reports that the start ran without some shadow rules.
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

    /// Reports the result in the log, the status and the metrics.
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
                        "only rules, certificates and the self check are reloaded: these keys were changed too, and wait for a restart"
                    );
                }
                self.in_force.state.send_modify(|state| {
                    let restart_needed = state.restart_needed.followed_by(restart_needed, now);
                    *state = Reload { restart_needed, ..Reload::started(now) };
                });
            }
            Err(problems) => {
                let effect = "not reloaded: the new configuration can't be used, and the previous rules stay in force; \
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

/// The interval at which files are checked: a handful of calls, and a change takes effect within two of these and a
/// little more, which is less than two seconds.
const LOOK_EVERY: Duration = Duration::from_millis(800);
/// Longer than the largest files and their tests take on a busy machine.
const SLOW_AFTER: Duration = Duration::from_secs(30);
