//! `gander events confirmations`: what Callgoose's outgoing webhooks said.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{body, text};
use crate::advice::list;
use crate::cli::admin_client::Relay;
use crate::cli::terminal::{Terminal, cell, plain, table};
use crate::cli::{ConfigArguments, Exit, Stop};

/// List what Callgoose's outgoing webhooks said, newest first
///
/// They come in through a source of `kind: confirmation`. With --raw each is shown as it came, so that the paths under
/// `confirmation` can be written from a real one.
///
/// Exit codes: 0 fine, also when there are none; 1 the relay refused; 2 it could not be asked.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gander events confirmations\n  gander events confirmations --result unknown-shape --raw"
)]
pub(super) struct Confirmations {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only what was about this event
    #[arg(long, value_name = "ID")]
    event: Option<u64>,
    /// Only those with this result
    #[arg(long, value_name = "RESULT")]
    result: Option<Relation>,
    /// Below each, print it as it came
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Only confirmations before this one, where the list before ended
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// Print the API's answer: {"confirmations": […], "next": …}
    #[arg(long)]
    json: bool,
}

/// The relation of a confirmation to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Relation {
    /// It is about an event that is kept
    Matched,
    /// No event of its key is kept
    Unmatched,
    /// No incident key was found in it
    UnknownShape,
}

impl Confirmations {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let answer = Relay::open(&self.config)?.ask(&self.path())?;
        if self.json {
            terminal.print(&answer.to_string());
            return Ok(Exit::Fine);
        }
        let confirmations = list(&answer, "confirmations");
        if confirmations.is_empty() {
            terminal.say("no such confirmations; Callgoose sends them to a source of `kind: confirmation`");
            return Ok(Exit::Fine);
        }
        if self.raw {
            for one in confirmations {
                terminal.print(&table(&[row(one)]).join(""));
                body(&one["raw"]).iter().for_each(|line| terminal.print(line));
            }
        } else {
            let mut rows = vec![["AT", "SOURCE", "RESULT", "ACTION", "EVENT", "KEY"].map(str::to_owned).to_vec()];
            rows.extend(confirmations.iter().map(row));
            table(&rows).iter().for_each(|line| terminal.print(line));
        }
        if let Some(next) = answer["next"].as_str() {
            terminal.say(&format!("there are more: --after {}", plain(next)));
        }
        Ok(Exit::Fine)
    }

    fn path(&self) -> String {
        let result = match self.result {
            None => "",
            Some(Relation::Matched) => "&result=matched",
            Some(Relation::Unmatched) => "&result=unmatched",
            Some(Relation::UnknownShape) => "&result=unknown_shape",
        };
        let asked = [("event", self.event), ("after", self.after)];
        let asked = asked.into_iter().filter_map(|(name, value)| Some(format!("&{name}={}", value?)));
        format!("/api/v1/confirmations?limit={}{result}{}", self.limit, asked.collect::<String>())
    }
}

fn row(one: &Value) -> Vec<String> {
    ["received_at", "source", "result", "action", "event", "incident_key"].map(|name| cell(&text(&one[name]))).to_vec()
}

/// The lines on a confirmation about the event that is shown.
pub(super) fn of_event(one: &Value) -> Vec<String> {
    let said = |name: &str| plain(&text(&one[name]));
    let (at, source) = (said("received_at"), said("source"));
    let what = match one["action"].as_str() {
        Some(action) => format!("Callgoose says at {at}: incident {}", plain(action)),
        None => format!("Callgoose sent a webhook at {at} about this incident"),
    };
    let mut lines = vec![format!("\n{what} (through {source})")];
    lines.extend(body(&one["raw"]));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_callgoose_says_is_told_and_no_terminal_obeys_it() {
        let one = json!({ "received_at": "T", "source": "callgoose", "action": "opened", "raw": "{\"a\":\"\u{1b}[2J\"}\u{1b}" });
        let lines = of_event(&one).join("\n");
        assert!(lines.contains("Callgoose says at T: incident opened (through callgoose)"), "{lines}");
        assert!(!lines.contains('\u{1b}'), "{lines}");
        let other = of_event(&json!({ "received_at": "T", "source": "c", "action": null, "raw": "hello" })).join("\n");
        assert!(other.contains("sent a webhook") && other.contains("hello"), "{other}");
    }
}
