//! `gander run`: the relay as a process, from its configuration to its exit code.

use std::panic::{AssertUnwindSafe, catch_unwind};

use clap::Args;
use rustix::process::set_parent_process_death_signal;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigArguments, Exit, Stop};
use crate::authoring::lint;
use crate::config::{self, Inputs, Loaded, Secrets, Snapshot};
use crate::inherited::{self, Sockets};
use crate::logging;
use crate::relay::{self, systemd};
use crate::yaml::Findings;

/// Run the relay
///
/// Takes events at `listen.address` until it is stopped. SIGTERM and SIGINT stop it in order: no new connections, requests
/// and deliveries under way are finished or left queued on disk, then it exits with 0.
///
/// SIGHUP, and a change of the configuration file, of a rule file, of the tests beside it (rules.test.yaml beside
/// rules.yaml) or of a listener's certificate, reloads the rules of all sources and the certificates: the whole
/// configuration is checked and the tests are run; if anything is wrong, what was in force stays, and the log, /readyz,
/// /api/v1/status and gander_config_last_reload_successful say so. Any other changed key waits for a restart.
///
/// Exit codes: 0 it was stopped; 1 it failed while it ran; 2 it could not start.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Stop when the process that started this one has ended: for `gander demo`
    #[arg(long, hide = true)]
    with_parent: bool,
}

pub(crate) fn command(arguments: &Arguments) -> Result<Exit, Stop> {
    if arguments.with_parent {
        let asked = set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
        asked.map_err(|error| format!("can't stop with its parent: {error}"))?;
    }
    let inputs = arguments.config.inputs(Secrets::Required)?;
    let (loaded, snapshot) = config::read(&inputs);
    let loaded = loaded?;
    inherited::wipe_variables(snapshot.secret_variables.iter().map(String::as_str));
    // A large sort of a query goes to a file, which is removed as it is made; elsewhere the process may not write.
    inherited::set_variable_if_missing("SQLITE_TMPDIR", loaded.config.journal.data_dir.as_os_str());
    let sockets =
        inherited::sockets().map_err(|error| format!("can't use the sockets of the service manager: {error}"))?;
    let confined = relay::confine(&loaded.config, &snapshot).map_err(|error| error.to_string())?;
    logging::start(loaded.config.log).map_err(|error| format!("can't start the log: {error}"))?;
    relay::log_confinement(confined);
    log_warnings(&loaded.warnings);
    if !loaded.shadow.has_errors() {
        log_warnings(&loaded.shadow);
    }
    log_warnings(&lint::self_check_beside(&loaded.config));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("can't start: {error}"))?;
    let served = AssertUnwindSafe(|| runtime.block_on(serve(loaded, sockets, inputs, snapshot)));
    // The panic is in the log by now.
    let result = catch_unwind(served).unwrap_or(Ok(Exit::No));
    // What still runs was given its time by the stop.
    runtime.shutdown_background();
    Ok(result?)
}

async fn serve(loaded: Loaded, sockets: Sockets, inputs: Inputs, snapshot: Snapshot) -> Result<Exit, String> {
    // Before anything is started, so that a stop during the start is not missed.
    let mut signals = Signals::listen().map_err(|error| format!("can't listen for signals: {error}"))?;
    let lacking = loaded.shadow.error_lines();
    let mut running = relay::start(loaded.config, sockets).await.map_err(|error| error.to_string())?;
    let reloads = running.reload(inputs, snapshot, lacking);
    let mut reload_state = running.reload_state();
    let mut watchdog = Box::pin(systemd::feed_watchdog(running.recorder()));
    systemd::ready();
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Reload => {
                    systemd::reloading();
                    reloads.ask();
                }
                Told::Stop => break,
            },
            // Whatever came of it.
            Ok(()) = reload_state.changed() => systemd::ready(),
            () = &mut watchdog => {}
            part = running.failed() => {
                tracing::error!(part, "a part of gander failed; stopping, so that what supervises it starts it again");
                return Ok(Exit::No);
            }
        }
    }
    drop(watchdog);
    systemd::stopping();
    running.stop().await;
    Ok(Exit::Fine)
}

/// The warnings of a configuration as log lines: what reads the log may want one line each.
fn log_warnings(warnings: &Findings) {
    for line in warnings.lines() {
        tracing::warn!("configuration: {line}");
    }
}

/// A command that a signal gives.
enum Told {
    Stop,
    Reload,
}

/// The signals that the process obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }
}
