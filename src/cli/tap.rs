//! `gander tap`: what becomes of requests and events, as it happens.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use http_body_util::BodyExt;
use serde_json::Value;

use super::admin_client::{Relay, encode};
use super::terminal::{Paint, Terminal, painted, plain};
use super::{ConfigArguments, Exit, Stop};
use crate::event::{Outcome, State};
use crate::tap::{DUPLICATE, IGNORED, STATES};

/// Follow what becomes of events, as it happens
///
/// One line for each event that is taken, refused, delivered or ended, and for each duplicate and ignored payload, until
/// ctrl-c. It begins with what comes next: `gander events list` has what came before. Whoever reads it too slowly misses
/// lines, and is told how many; no event waits for it.
///
/// Exit codes: 1 the relay refused, or ended the stream because it stops; 2 it could not be asked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander tap\n  gander tap --source servicepilot --state refused,dead\n  \
                        gander tap --key-contains db-1 --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    filter: Filter,
    /// Print one JSON object a line; {"missed": NUMBER} stands for lines that are missing
    #[arg(long)]
    json: bool,
}

/// The wanted lines; everything that is given must hold.
#[derive(Debug, Default, Args)]
struct Filter {
    /// Only events in this state; several with commas
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(STATES))]
    state: Vec<String>,
    /// Only events with this outcome, by Callgoose's answer
    #[arg(long, value_parser = PossibleValuesParser::new(Outcome::ALL.map(Outcome::as_str)))]
    outcome: Option<String>,
    /// Only events of this source
    #[arg(long)]
    source: Option<String>,
    /// Only events of this incident key
    #[arg(long)]
    key: Option<String>,
    /// Only events with this in their incident key
    #[arg(long, value_name = "TEXT")]
    key_contains: Option<String>,
}

/// Takes server-sent events out of the pieces of a stream.
#[derive(Debug, Default)]
struct Events {
    /// The begun line.
    rest: Vec<u8>,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let relay = Relay::open(&arguments.config)?;
    let stream = relay.open_stream(&arguments.filter.path())?;
    terminal.say(&format!("following {}; ctrl-c ends it", relay.base()));
    relay.block_on(follow(stream, arguments.json, terminal))
}

impl Filter {
    fn path(&self) -> String {
        let states = (!self.state.is_empty()).then(|| self.state.join(","));
        let words = [
            ("state", &states),
            ("outcome", &self.outcome),
            ("source", &self.source),
            ("key", &self.key),
            ("key_contains", &self.key_contains),
        ];
        let given = words.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let query: Vec<String> = given.map(|(name, value)| format!("{name}={}", encode(value))).collect();
        format!("/api/v1/stream?{}", query.join("&"))
    }
}

async fn follow(mut stream: hyper::body::Incoming, json: bool, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let mut events = Events::default();
    loop {
        let frame = match tokio::time::timeout(SILENCE_MAX, stream.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(Stop::Problem(format!("the stream broke off: {error}"))),
            Ok(None) => return Err(Stop::Refused("the relay ended the stream: it stops, or starts anew".to_owned())),
            Err(_) => return Err(Stop::Problem("the relay is silent: nothing came for a minute".to_owned())),
        };
        let Ok(piece) = frame.into_data() else { continue };
        for line in events.take(&piece)? {
            tell(&line, json, terminal);
        }
        if terminal.is_unread() {
            return Ok(Exit::Fine);
        }
    }
}

fn tell(line: &Value, json: bool, terminal: &mut Terminal) {
    match &line["missed"] {
        _ if json => terminal.print(&line.to_string()),
        Value::Null => {
            let colour = terminal.colour();
            terminal.print(&shown(line, colour));
        }
        missed => terminal.say(&format!("… {missed} lines are missing here: they came faster than they were read")),
    }
}

impl Events {
    /// The data of the events that a piece completes. Comments and names of events are passed over.
    fn take(&mut self, piece: &[u8]) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(part);
            if self.rest.len() > LINE_BYTES_MAX {
                return Err("what answers is no stream of a relay: a line has no end".to_owned());
            }
            if self.rest.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                let data = line.strip_prefix(b"data: ").map(serde_json::from_slice::<Value>);
                found.extend(data.transpose().map_err(|error| format!("the stream broke: {error}"))?);
            }
        }
        Ok(found)
    }
}

/// `12:03:05  delivered  servicepilot  trigger  e1  event 7, created, 1 attempt, 0.312 s`.
fn shown(line: &Value, colour: bool) -> String {
    let text = |name: &str| plain(line[name].as_str().unwrap_or_default());
    let at = text("at");
    let time = at.get(11..19).unwrap_or(&at).to_owned();
    let state = text("state");
    let state = painted(&format!("{state:<9}"), paint(&state), colour);
    let mut words = vec![painted(&time, Paint::Dim, colour), state, format!("{:<12}", text("source"))];
    words.extend(["action", "incident_key"].map(text).into_iter().filter(|word| !word.is_empty()));
    words.push(details(line));
    words.join("  ").trim_end().to_owned()
}

/// The event in few words: `event 7, created, 1 attempt, 0.312 s`.
fn details(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().map(plain);
    let parts = [
        text("id").map(|id| format!("event {id}")),
        text("of").map(|of| format!("of event {of}")),
        text("outcome"),
        text("reason"),
        text("rule").map(|rule| format!("rule {rule}")),
        line["attempts"]
            .as_u64()
            .map(|attempts| if attempts == 1 { "1 attempt".into() } else { format!("{attempts} attempts") }),
        line["age_seconds"].as_f64().map(|seconds| format!("{seconds:.3} s")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn paint(state: &str) -> Paint {
    match state {
        _ if state == State::Delivered.as_str() => Paint::Green,
        _ if state == State::Dead.as_str() || state == State::Refused.as_str() => Paint::Red,
        _ if state == State::Ended.as_str() => Paint::Yellow,
        DUPLICATE | IGNORED => Paint::Dim,
        _ => Paint::Bold,
    }
}

/// Some times the pause between two signs of life of the relay.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Many times a line with the longest key.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let stream = ": following\n\ndata: {\"id\":\"1\"}\n\nevent: missed\ndata: {\"missed\":5}\n\n: still here\n\n";
        let expected = [json!({ "id": "1" }), json!({ "missed": 5 })];
        for size in [1, 7, 1_000] {
            let mut events = Events::default();
            let found: Vec<Value> =
                stream.as_bytes().chunks(size).flat_map(|piece| events.take(piece).unwrap()).collect();
            assert_eq!(found, expected, "{size}");
        }
        assert!(Events::default().take(&vec![b'x'; LINE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_line_tells_what_happened_to_what() {
        for (line, expected) in [
            (
                json!({
                    "at": "2025-11-24T12:03:05.000Z", "state": "delivered", "id": "7", "source": "servicepilot",
                    "action": "trigger", "incident_key": "e1\u{1b}[2J", "outcome": "created", "attempts": 1, "age_seconds": 0.3121,
                }),
                "12:03:05  delivered  servicepilot  trigger  e1\\u{1b}[2J  event 7, created, 1 attempt, 0.312 s",
            ),
            (
                json!({
                    "at": "2025-11-24T12:03:05.000Z", "state": "ignored", "source": "s", "rule": "maintenance",
                }),
                "12:03:05  ignored    s             rule maintenance",
            ),
            (
                json!({ "at": "2025-11-24T12:03:05.000Z", "state": "refused", "reason": "not_found" }),
                "12:03:05  refused                  not_found",
            ),
        ] {
            assert_eq!(shown(&line, false), expected);
        }
        assert!(shown(&json!({ "state": "dead" }), true).contains("\u{1b}[31mdead"));
    }

    #[test]
    fn filters_travel_encoded() {
        let filter = Filter {
            state: vec!["dead".into(), "refused".into()],
            source: Some("s".into()),
            key_contains: Some("a&b".into()),
            ..Filter::default()
        };
        assert_eq!(filter.path(), "/api/v1/stream?state=dead%2Crefused&source=s&key_contains=a%26b");
    }
}
