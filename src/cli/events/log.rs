//! `gander events log`: who commanded what, and when.

use clap::Args;
use serde_json::Value;

use super::text;
use crate::advice::list;
use crate::cli::admin_client::Relay;
use crate::cli::terminal::{Terminal, cell, plain, table};
use crate::cli::{ConfigArguments, Exit, Stop};

/// List what people commanded, newest first: replays, discards, holds and releases
///
/// By command line, API or page. What was declined changed nothing, and is not listed.
///
/// Exit codes: 0 fine, also when there are none; 1 the relay refused; 2 it could not be asked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander events log\n  gander events log --event 4711")]
pub(super) struct Log {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only what was about this event
    #[arg(long, value_name = "ID")]
    event: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only commands before this one, where the list before ended
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// Print the API's answer: {"commands": […], "next": …}
    #[arg(long)]
    json: bool,
}

impl Log {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let relay = Relay::open(&self.config)?;
        let body = relay.ask(&self.path())?;
        if self.json {
            terminal.print(&body.to_string());
            return Ok(Exit::Fine);
        }
        let commands = list(&body, "commands");
        if commands.is_empty() {
            terminal.say(&self.nothing(&relay)?);
            return Ok(Exit::Fine);
        }
        let mut rows = vec![["AT", "COMMAND", "TO WHAT", "BY WHOM"].map(str::to_owned).to_vec()];
        rows.extend(commands.iter().map(row));
        table(&rows).iter().for_each(|line| terminal.print(line));
        if let Some(next) = body["next"].as_str() {
            terminal.say(&format!("there are more: --after {}", plain(next)));
        }
        Ok(Exit::Fine)
    }

    /// Why there is nothing: of an event that is not kept nobody knows any more.
    fn nothing(&self, relay: &Relay) -> Result<String, Stop> {
        let Some(id) = self.event else { return Ok("nobody commanded anything".to_owned()) };
        Ok(match relay.event(&id.to_string())? {
            Some(_) => format!("nobody commanded anything about event {id}"),
            None => {
                format!("there is no event {id}, or it is not kept any more; `gander events list` shows those that are")
            }
        })
    }

    fn path(&self) -> String {
        let asked = [("event", self.event), ("after", self.after)];
        let asked = asked.into_iter().filter_map(|(name, value)| Some(format!("&{name}={}", value?)));
        format!("/api/v1/commands?limit={}{}", self.limit, asked.collect::<String>())
    }
}

fn row(command: &Value) -> Vec<String> {
    let said = |name: &str| cell(&text(&command[name]));
    let events: Vec<String> = list(command, "events").iter().map(text).collect();
    let target = match (command["source"].as_str(), command["key"].as_str(), &command["selection"]) {
        (Some(source), Some(key), _) => format!("key {key} of source {source}"),
        (Some(source), None, _) => format!("source {source}"),
        (None, _, Value::Null) => events.join(", "),
        (None, _, selection) => format!("{} by {selection}", said("count")),
    };
    vec![said("at"), said("command"), cell(&target), said("by")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_is_a_line() {
        let events = json!(["7"]);
        for (command, target) in [
            (json!({ "events": events, "count": 1 }), "7"),
            (json!({ "events": events, "count": 1, "selection": { "state": "dead" } }), "1 by {\"state\":\"dead\"}"),
            (json!({ "events": [], "count": 0, "source": "s", "key": "k\u{1b}" }), "key k\\u{1b} of source s"),
            (json!({ "events": [], "count": 0, "source": "s" }), "source s"),
        ] {
            assert_eq!(row(&command)[2], target);
        }
    }
}
