//! `gander status`: how things are, on one screen, and what to do about what is not as it should be.

mod screen;

use std::time::Duration;

use clap::Args;

use super::admin_client::Relay;
use super::terminal::Terminal;
use super::{ConfigArguments, Exit, Stop};
use crate::advice::status::is_well;
use crate::clock::WallTime;

/// Show how things are on one screen, and what to do
///
/// A sentence says whether events are taken and delivered, and since when; below it stand numbers, the sources, and a
/// remedy for each thing that is not as it should be. Asks the admin API of the running relay.
///
/// Exit codes: 0 events are taken and delivered, and nothing waits for a person; 1 the last calls failed, /readyz names
/// something that is not as it should be, or dead, refused or unmatched is not 0; 2 the relay could not be asked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander status\n  gander status --watch\n  gander status --json | jq .by_source")]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Show it anew each second, until ctrl-c
    #[arg(short, long)]
    watch: bool,
    /// Print the API's answer, with --watch one in each line
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let relay = Relay::open(&arguments.config)?;
    if !arguments.watch {
        let (text, exit) = look(&relay, arguments.json, terminal)?;
        terminal.print(&text);
        return Ok(exit);
    }
    let redraw = terminal.is_terminal() && !arguments.json;
    while !terminal.is_unread() {
        match look(&relay, arguments.json, terminal) {
            Ok((text, _)) if redraw => terminal.redraw(&text),
            Ok((text, _)) if arguments.json => terminal.print(&text),
            Ok((text, _)) => terminal.print(&format!("{text}\n")),
            // It may be starting again just now.
            Err(Stop::Problem(problem) | Stop::Refused(problem)) if redraw => terminal.redraw(&problem),
            Err(Stop::Problem(problem) | Stop::Refused(problem)) => terminal.say(&problem),
            Err(stop) => return Err(stop),
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(Exit::Fine)
}

fn look(relay: &Relay, json: bool, terminal: &Terminal) -> Result<(String, Exit), Stop> {
    let status = relay.ask("/api/v1/status")?;
    let exit = if is_well(&status) { Exit::Fine } else { Exit::No };
    if json {
        return Ok((status.to_string(), exit));
    }
    Ok((screen::draw(&status, WallTime::now(), terminal.colour()), exit))
}

const INTERVAL: Duration = Duration::from_secs(1);
