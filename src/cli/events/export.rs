//! `gander events export`: everything about many events, for a program or an archive.

use clap::Args;

use super::progress::Progress;
use super::selection::{Selection, Texts};
use crate::cli::admin_client::Relay;
use crate::cli::terminal::Terminal;
use crate::cli::{ConfigArguments, Exit, Stop};

/// Print everything about the events as JSON, one event a line, newest first
///
/// Each line is what `show --json` prints: what came, what was decided, what was sent, each attempt and its answer.
/// Payloads may hold what is confidential.
///
/// Exit codes: 0 fine, also when there are none; 1 the relay refused; 2 it could not be asked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander events export --state dead,refused > kept.jsonl\n  \
                        gander events export --since 24h | jq -r 'select(.outcome == \"unmatched\") | .incident_key'")]
pub(super) struct Export {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    texts: Texts,
}

impl Export {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let relay = Relay::open(&self.config)?;
        let mut progress = Progress::new("exported");
        let query = |page: &[_]| self.selection.query(&[page, &self.texts.words()].concat());
        relay.each_event(query, |id| {
            // One that was pruned meanwhile is not missed.
            if let Some(event) = relay.event(id)? {
                terminal.print(&event.to_string());
                progress.add(1, terminal);
            }
            Ok(!terminal.is_unread())
        })?;
        if !terminal.is_unread() {
            progress.end(terminal);
        }
        Ok(Exit::Fine)
    }
}
