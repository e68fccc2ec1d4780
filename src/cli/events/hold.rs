//! `gander events hold` and `release`: what waits is kept back until a person lets it go.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::advice::list;
use crate::cli::admin_client::Relay;
use crate::cli::terminal::{Terminal, plain, table};
use crate::cli::{ConfigArguments, Exit, Stop};

/// Hold back the events of an incident key or of a source, until `release`
///
/// Events are still taken, and wait: nothing of what is held is sent, also after a restart. A call that is under way ends.
/// Without --key and --source it lists what is held.
///
/// Exit codes: 0 it is held, or listed; 1 the relay refused; 2 it could not be asked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander events hold --source servicepilot\n  \
                        gander events hold --key host42/disk\n  gander events hold")]
pub(super) struct Hold {
    #[command(flatten)]
    what: What,
}

/// Release what `hold` holds back
///
/// It is sent from then on, in order, at the configured pace. A key that was held by `--key` stays held when its source is
/// released.
///
/// Exit codes: 0 it is released; 1 it was not held, or the relay refused; 2 it could not be asked.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gander events release --source servicepilot\n  gander events release --key host42/disk"
)]
pub(super) struct Release {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
struct What {
    #[command(flatten)]
    config: ConfigArguments,
    /// This incident key
    #[arg(long)]
    key: Option<String>,
    /// This source: all of it, or the one that the key is of; may be left out beside --key where there is but one
    #[arg(long)]
    source: Option<String>,
    /// Print the API's answer
    #[arg(long)]
    json: bool,
}

impl Hold {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        if self.what.members().is_empty() { self.what.list(terminal) } else { self.what.give("hold", terminal) }
    }
}

impl Release {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        if self.what.members().is_empty() {
            let problem = "name what to release, by --key or --source; `gander events hold` lists what is held";
            return Err(problem.to_owned().into());
        }
        self.what.give("release", terminal)
    }
}

impl What {
    fn members(&self) -> Map<String, Value> {
        let given = [("key", &self.key), ("source", &self.source)];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?)))).collect()
    }

    fn give(&self, verb: &str, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let relay = Relay::open(&self.config)?;
        let answer = relay.command(&format!("/api/v1/events/{verb}"), &Value::Object(self.members()))?;
        let done = relay.understood(&answer)?;
        if self.json {
            terminal.print(&done.to_string());
        } else {
            terminal.print(&line(&done));
        }
        Ok(Exit::Fine)
    }

    fn list(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let body = Relay::open(&self.config)?.ask("/api/v1/holds")?;
        if self.json {
            terminal.print(&body.to_string());
            return Ok(Exit::Fine);
        }
        let holds = list(&body, "holds");
        if holds.is_empty() {
            terminal.say("nothing is held");
            return Ok(Exit::Fine);
        }
        let mut rows = vec![["SINCE", "SOURCE", "KEY"].map(str::to_owned).to_vec()];
        rows.extend(holds.iter().map(|hold| {
            let said = |name: &str| hold[name].as_str().map_or_else(String::new, plain);
            let key = if hold["key"].is_null() { "(all)".to_owned() } else { said("key") };
            vec![said("since"), said("source"), key]
        }));
        for line in table(&rows) {
            terminal.print(&line);
        }
        Ok(Exit::Fine)
    }
}

/// A line on what was done, for a person.
fn line(done: &Value) -> String {
    let said = |name: &str| done[name].as_str().map_or_else(String::new, plain);
    let what = match done["key"].as_str() {
        Some(_) => format!("key {} of source {}", said("key"), said("source")),
        None => format!("source {}", said("source")),
    };
    let already = if done["changed"] == false { " already" } else { "" };
    let waiting = match (&done["waiting"], done["status"] == "held") {
        (Value::Number(count), true) => format!("; {count} of its events waiting"),
        (Value::Number(count), false) if count.as_u64() > Some(0) => {
            format!("; {count} of its events waiting: each goes out as soon as its turn comes (`gander queue`)")
        }
        _ => String::new(),
    };
    format!("{what} is{already} {}{waiting}", said("status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_a_line() {
        for (done, expected) in [
            (
                json!({"status": "held", "source": "s", "key": null, "changed": true, "waiting": 7}),
                "source s is held; 7 of its events waiting",
            ),
            (
                json!({"status": "held", "source": "s", "key": "k\u{1b}", "changed": false, "waiting": 0}),
                "key k\\u{1b} of source s is already held; 0 of its events waiting",
            ),
            (
                json!({"status": "released", "source": "s", "key": "k", "changed": true, "waiting": 2}),
                "key k of source s is released; 2 of its events waiting: each goes out as soon as its turn comes \
                 (`gander queue`)",
            ),
            (
                json!({"status": "released", "source": "s", "key": null, "changed": true, "waiting": 0}),
                "source s is released",
            ),
        ] {
            assert_eq!(line(&done), expected);
        }
    }
}
