//! `gander queue`: what waits by source, lane and key, and how long it will take.

use clap::Args;
use serde_json::Value;

use super::admin_client::{Relay, encode};
use super::terminal::{Paint, Terminal, cell, painted, plain, table};
use super::{ConfigArguments, Exit, Stop};
use crate::advice::list;
use crate::advice::queue::{drain, retrying, sentence, standing};
use crate::clock::WallTime;
use crate::text::{grouped, since};

/// Show what waits by source, lane and key, and how long it will take
///
/// A line for each source: what waits in its lanes, what is tried again, what a person holds back, the calls under way,
/// and the time until it was sent at the rate of the last minute. Then the keys that fail, and those that wait longest,
/// each with its first event. Asks the admin API of the running relay, whose deliveries do not wait for it.
///
/// Exit codes: 0 fine, also when nothing waits; 1 the relay refused; 2 it could not be asked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander queue\n  gander queue --source servicepilot --limit 100\n  \
                        gander queue --json | jq '.sources[] | {source, events, drain_seconds}'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// At most so many keys
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    limit: u32,
    /// Print the API's answer: {"queue", "upstream", "sources": […], "keys": […], "more_keys"}
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let answer = Relay::open(&arguments.config)?.ask(&path(arguments))?;
    if arguments.json {
        terminal.print(&answer.to_string());
        return Ok(Exit::Fine);
    }
    for line in draw(&answer, arguments.source.as_deref(), WallTime::now(), terminal.colour()) {
        terminal.print(&line);
    }
    if let Some(more) = answer["more_keys"].as_u64().filter(|more| *more > 0) {
        let more =
            if more == 1 { "one more key waits".to_owned() } else { format!("{} more keys wait", grouped(more)) };
        terminal.say(&format!("{more}: --limit NUMBER, or gander events list --state queued"));
    }
    Ok(Exit::Fine)
}

fn path(arguments: &Arguments) -> String {
    let source = arguments.source.as_ref().map(|source| format!("&source={}", encode(source)));
    format!("/api/v1/queue?limit={}{}", arguments.limit, source.unwrap_or_default())
}

/// A sentence, the sources, then the keys.
fn draw(answer: &Value, source: Option<&str>, now: WallTime, colour: bool) -> Vec<String> {
    let mut lines = vec![sentence(answer, source, now), String::new()];
    lines.extend(headed(&sources(answer, now), colour));
    let keys = keys(answer, now);
    if keys.len() > 1 {
        lines.push(String::new());
        lines.extend(headed(&keys, colour));
    }
    lines
}

fn sources(answer: &Value, now: WallTime) -> Vec<Vec<String>> {
    let head = ["SOURCE", "WAITING", "OLDEST", "FRESH", "BACKLOG", "RETRYING", "HELD", "CALLS", "DRAINED IN"];
    let row = |source: &Value| {
        let count = |name: &str| source[name].as_u64().map_or_else(|| "?".to_owned(), grouped);
        let oldest = source["oldest_received_at"].as_str().map_or_else(|| "-".to_owned(), |at| since(at, now));
        let name = plain(source["source"].as_str().unwrap_or_default());
        let retrying = grouped(retrying(source));
        let (waiting, fresh, backlog) = (count("events"), count("fresh"), count("backlog"));
        vec![name, waiting, oldest, fresh, backlog, retrying, count("held"), count("calls"), drain(source)]
    };
    let rows = list(answer, "sources").iter().map(row);
    std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect()
}

fn keys(answer: &Value, now: WallTime) -> Vec<Vec<String>> {
    let head = ["EVENT", "SINCE", "SOURCE", "KEY", "WAITING", "TRIES", "WAITS FOR", "LAST RESULT"];
    let row = |key: &Value| {
        let text = |name: &str| cell(key[name].as_str().unwrap_or("?"));
        let count = |name: &str| key[name].as_u64().map_or_else(|| "?".to_owned(), grouped);
        let received = key["received_at"].as_str().map_or_else(|| "?".to_owned(), |at| since(at, now));
        let result = cell(key["reason"].as_str().unwrap_or_default());
        let (source, incident_key) = (text("source"), text("incident_key"));
        let waits_for = standing(key, &answer["upstream"], now);
        vec![text("id"), received, source, incident_key, count("events"), count("attempts"), waits_for, result]
    };
    let rows = list(answer, "keys").iter().map(row);
    std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect()
}

/// A table whose first row is a heading.
fn headed(rows: &[Vec<String>], colour: bool) -> Vec<String> {
    let mut lines = table(rows);
    if let Some(head) = lines.first_mut() {
        *head = painted(head, Paint::Dim, colour);
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::advice::status::tests::NOW;

    #[test]
    fn each_source_and_each_key_has_a_line() {
        let answer = json!({
            "queue": { "events": 14, "keys": 3, "drain_seconds": 90.0, "next_attempt_at": null,
                       "oldest_received_at": "2025-11-24T16:01:00.000Z" },
            "upstream": { "state": "answering" },
            "sources": [
                { "source": "a", "events": 14, "oldest_received_at": "2025-11-24T16:01:00.000Z", "fresh": 7, "backlog": 2,
                  "retry": 1, "backoff": 1, "held": 0, "under_way": 3, "calls": 1, "drain_seconds": 90.0, "source_held": false },
                { "source": "b", "events": 0, "oldest_received_at": null, "fresh": 0, "backlog": 0, "retry": 0,
                  "backoff": 0, "held": 0, "under_way": 0, "calls": 0, "drain_seconds": 0.0, "source_held": false },
            ],
            "keys": [{ "id": "7", "received_at": "2025-11-24T16:01:00.000Z", "source": "a", "incident_key": "k\u{1b}[2J",
                       "events": 2, "attempts": 3, "standing": "backoff", "next_attempt_at": "2025-11-24T16:05:40.000Z",
                       "reason": "busy (503)" }],
        });
        let text = draw(&answer, None, NOW, false).join("\n");
        assert_eq!(
            text,
            "14 events of 3 keys wait: oldest from 16:01 UTC (3 min); sent by about 16:05 UTC.\n\
             \n\
             SOURCE  WAITING  OLDEST             FRESH  BACKLOG  RETRYING  HELD  CALLS  DRAINED IN\n\
             a       14       16:01 UTC (3 min)  7      2        2         0     1      90 s\n\
             b       0        -                  0      0        0         0     0      -\n\
             \n\
             EVENT  SINCE              SOURCE  KEY         WAITING  TRIES  WAITS FOR                     LAST RESULT\n\
             7      16:01 UTC (3 min)  a       k\\u{1b}[2J  2        3      next attempt at 16:05:40 UTC  busy (503)"
        );
        let nothing = json!({ "queue": { "events": 0, "keys": 0 }, "sources": [], "keys": [] });
        assert!(draw(&nothing, None, NOW, false)[0].starts_with("Nothing waits."));
    }
}
