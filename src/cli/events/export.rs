//! `gander events export`: everything about many events, for a program or an archive.

use clap::Args;

use super::progress::Progress;
use super::selection::{Selection, Texts};
use super::{encode, page_of};
use crate::cli::admin_client::Relay;
use crate::cli::terminal::Terminal;
use crate::cli::{ConfigArguments, Exit};

/// Print everything about the events as JSON, one event a line, newest first
///
/// Each line is what `show --json` prints: what came, what was decided, what was sent, each attempt and its answer.
/// Payloads may hold what should not leave the house.
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
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Exit> {
        let relay = Relay::open(&self.config, terminal)?;
        let mut progress = Progress::new("exported");
        let mut after = None;
        loop {
            let mut more = vec![("limit", PAGE.to_string())];
            more.extend(self.texts.words());
            more.extend(after.take().map(|after| ("after", after)));
            let page = relay.ask(&format!("/api/v1/events?{}", self.selection.query(&more)), terminal)?;
            for event in page_of(&page, "events") {
                let id = event["id"].as_str().unwrap_or_default();
                // One that was pruned meanwhile is not missed.
                let Some(event) = relay.find(&format!("/api/v1/events/{}", encode(id)), terminal)? else {
                    continue;
                };
                terminal.print(&event.to_string());
                progress.add(1, terminal);
            }
            if terminal.is_unread() {
                return Ok(Exit::Fine);
            }
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                progress.end(terminal);
                return Ok(Exit::Fine);
            }
        }
    }
}

const PAGE: usize = 200;
