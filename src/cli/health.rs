//! `gander health`: the check of a container or load balancer that has no HTTP client at hand.

use clap::Args;

use super::client::Client;
use super::terminal::Terminal;
use super::{ConfigArguments, Exit, Stop, block_on};
use crate::config::load_addresses;

/// Ask a running relay whether it is alive, or ready
///
/// Reads `/healthz`, or `/readyz` with --ready, at the configured admin address. Of the configuration only `listen` and
/// `admin` matter here: a mistake in the rest of it makes no running relay look unwell.
///
/// Exit codes: 0 it is; 1 it is not; 2 the configuration can't be used.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Ask whether events are taken, not only whether the process is alive
    #[arg(long)]
    ready: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let mut admin = arguments.config.part(load_addresses)?.admin;
    // Neither path needs the token; with it `/readyz` says more.
    admin.token = admin.token.filter(|token| token.expose(|_| ()).is_some());
    let client = Client::admin(&admin)?;
    let path = if arguments.ready { "/readyz" } else { "/healthz" };
    let answer = block_on(client.get(path))?;
    match answer {
        Ok(answer) => {
            terminal.print(String::from_utf8_lossy(&answer.body).trim_end());
            Ok(if answer.status.is_success() { Exit::Fine } else { Exit::No })
        }
        Err(problem) => {
            terminal.say(&problem);
            Ok(Exit::No)
        }
    }
}
