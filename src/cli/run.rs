//! `gander run`: the relay as a process, from its configuration to its exit code.

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal::Terminal;
use super::{ConfigArguments, Exit};
use crate::app::{self, StartError};
use crate::config::{Loaded, Secrets};
use crate::document::Findings;
use crate::logging;

/// Run the relay
///
/// Takes events at `listen.address` until it is stopped. SIGTERM and SIGINT stop it in order: no new connections, requests
/// and deliveries under way are finished or left queued on disk, then it exits with 0.
///
/// Exit codes: 0 it was stopped; 1 it failed while it ran; 2 it could not start.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

pub(crate) fn run(arguments: &Arguments, terminal: &mut Terminal) -> Exit {
    let loaded = match arguments.config.load(Secrets::Required, terminal) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    logging::start(loaded.config.log);
    log_warnings(&loaded.warnings);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal.say(&format!("error: can't start: {error}"));
            return Exit::CouldNotRun;
        }
    };
    let exit = runtime.block_on(serve(loaded, terminal));
    // What still runs was given its time by the stop.
    runtime.shutdown_background();
    exit
}

async fn serve(loaded: Loaded, terminal: &mut Terminal) -> Exit {
    // Before anything is started, so that a stop during the start is not missed.
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            terminal.say(&format!("error: can't listen for signals: {error}"));
            return Exit::CouldNotRun;
        }
    };
    let mut running = match app::start(loaded.config).await {
        Ok(running) => running,
        Err(error) => {
            say_start_error(&error, terminal);
            return Exit::CouldNotRun;
        }
    };
    let failed = tokio::select! {
        () = signals.stop() => None,
        part = running.failed() => Some(part),
    };
    if let Some(part) = failed {
        tracing::error!(part, "a part of gander failed; stopping, so that what supervises it starts it again");
        return Exit::No;
    }
    running.stop().await;
    Exit::Fine
}

fn say_start_error(error: &StartError, terminal: &mut Terminal) {
    terminal.say(&format!("error: {error}"));
}

/// The warnings of a configuration as log lines: what reads the log may want one line each.
fn log_warnings(warnings: &Findings) {
    for line in warnings.lines() {
        tracing::warn!("configuration: {line}");
    }
}

/// What the process is told from outside.
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

    /// Returns when the process is to stop.
    async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // Its default would end the process without a drain.
                _ = self.hang_up.recv() => {
                    tracing::warn!("SIGHUP changes nothing in this version: restart to read a changed configuration");
                }
            }
        }
    }
}
