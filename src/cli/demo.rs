//! `gander demo`: a relay that is a process of its own, a sandbox in place of Callgoose, and the story of what can go
//! wrong between the two, played with both.

mod stage;
mod story;

use clap::Args;

use super::terminal::Terminal;
use super::{Exit, Stop, stop_signal};
use crate::logging;
use stage::Stage;
use story::Story;

/// See what it is for: an outage, a kill, an expired token, and no alert lost
///
/// Starts a relay and a stand-in for Callgoose with throw-away certificates, tokens and data, and tells step by step what
/// becomes of what is sent: a problem, its repetition, broken JSON, problems during an outage in which the relay is
/// killed, an expired token, recoveries. Then it stays up for payloads of your own until it is interrupted.
///
/// Exit codes: 0 everything was accounted for; 1 it was not; 2 it could not start.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// End when the story is told
    #[arg(long)]
    once: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let log = logging::Config { level: tracing::Level::WARN, format: logging::Format::Auto };
    let runtime = logging::start(log)
        .and_then(|()| terminal.detach())
        .and_then(|()| tokio::runtime::Builder::new_multi_thread().enable_all().build());
    let runtime = runtime.map_err(|error| error.to_string())?;
    let result = runtime.block_on(async {
        let mut interrupted = std::pin::pin!(stop_signal());
        let mut stage = Stage::set_up().await.map_err(Stop::Problem)?;
        let told = tokio::select! {
            told = Story::new(&mut stage, terminal, !arguments.once).tell() => Some(told),
            () = interrupted.as_mut() => None,
        };
        let exit = match told {
            // What was asked for was not shown.
            None => Ok(if arguments.once { Exit::No } else { Exit::Fine }),
            Some(Err(problem)) => Err(Stop::Refused(stage.explain(&problem))),
            Some(Ok(())) if arguments.once => {
                terminal.print(AFTER_ONCE);
                Ok(Exit::Fine)
            }
            Some(Ok(())) => {
                terminal.print(&stage.how_to_go_on());
                tokio::select! {
                    () = interrupted => Ok(Exit::Fine),
                    () = stage.show_calls(terminal) => {
                        Err(Stop::Refused(stage.explain("the relay or the sandbox ended")))
                    }
                }
            }
        };
        stage.strike().await;
        exit
    });
    runtime.shutdown_background();
    result
}

const AFTER_ONCE: &str = "
Without --once it stays up for payloads of your own. To begin in earnest: gander init --list";
