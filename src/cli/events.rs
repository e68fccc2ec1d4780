//! `gander events`: the journal of a running relay, through its admin API.

mod against;
mod command;
mod confirmations;
mod export;
mod following;
mod hold;
mod log;
mod progress;
mod selection;

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin_client::{Relay, as_flags, event_path};
use super::recorded::{NOT_JSON, NOT_KEPT, payload, received};
use super::terminal::{Paint, Terminal, cell, painted_table, plain, table};
use super::{ConfigArguments, Exit, Stop};
use crate::advice::{self, Beside, list};
use crate::clock::WallTime;
use crate::inbound::Accept;
use crate::lenient_json::Repair;
use crate::text::visible;

use selection::{Selection, Texts};

/// Look at the journal of a running relay; replay, discard and hold
///
/// Talks to the admin API at the configured `admin.address`, with `admin.token` where one is set.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Show(Show),
    Follow(following::Follow),
    Replay(command::Replay),
    Discard(command::Discard),
    Hold(hold::Hold),
    Release(hold::Release),
    Log(log::Log),
    Confirmations(confirmations::Confirmations),
    Export(export::Export),
}

/// List events, newest first
///
/// Exit codes: 0 fine, also when there are none; 1 the relay refused; 2 it could not be asked.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gander events list --state dead\n  gander events list --outcome unmatched --json\n  \
                        gander events list --key host42/disk --since 24h\n  \
                        gander events list --search 'disk full' --since 2h"
)]
struct List {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    texts: Texts,
    /// Only events that the rules in `rules_shadow` would have decided otherwise, each with what would be otherwise
    #[arg(long)]
    differs: bool,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where a list ended: only events older than this one
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Print the API's answer: {"events": […], "next": …}
    #[arg(long)]
    json: bool,
}

/// Show one event: what came, what was decided, what was sent, each attempt and its answer
///
/// Exit codes: 0 fine; 1 there is no such event; 2 the relay could not be asked.
#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    config: ConfigArguments,
    /// The event's id
    #[arg(value_parser = event_id)]
    id: String,
    /// Print the API's answer
    #[arg(long)]
    json: bool,
    /// Write what came, byte by byte, and nothing else
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    match &arguments.command {
        Command::List(list) => list.run(terminal),
        Command::Show(show) => show.run(terminal),
        Command::Follow(follow) => follow.run(terminal),
        Command::Replay(replay) => replay.run(terminal),
        Command::Discard(discard) => discard.run(terminal),
        Command::Hold(hold) => hold.run(terminal),
        Command::Release(release) => release.run(terminal),
        Command::Log(log) => log.run(terminal),
        Command::Confirmations(confirmations) => confirmations.run(terminal),
        Command::Export(export) => export.run(terminal),
    }
}

impl List {
    fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let body = Relay::open(&self.config)?.ask(&self.path())?;
        if self.json {
            terminal.print(&body.to_string());
            return Ok(Exit::Fine);
        }
        let events = list(&body, "events");
        if events.is_empty() {
            terminal.say("no such events");
            for sentence in list(&body, "not_looked_at") {
                terminal.say(&format!("  {}", as_flags(&plain(&text(sentence)))));
            }
            return Ok(Exit::Fine);
        }
        if self.differs {
            for event in events {
                terminal.print(&table(&[heading(event)]).join(""));
                list(event, "differences").iter().for_each(|one| terminal.print(&format!("  {}", difference(one))));
            }
        } else {
            self.print(events, terminal);
        }
        if let Some(next) = body["next"].as_str() {
            let what = match &body["searched"]["stopped"] {
                Value::Bool(true) => {
                    let looked_at = text(&body["searched"]["looked_at"]);
                    format!("the search stopped after {looked_at} events, there may be more")
                }
                _ => "there are more".to_owned(),
            };
            terminal.say(&format!("{what}: --after {}", plain(next)));
        }
        Ok(Exit::Fine)
    }

    fn print(&self, events: &[Value], terminal: &mut Terminal) {
        let head = ["ID", "RECEIVED", "SOURCE", "STATE", "OUTCOME", "ACTION", "TRIES", "KEY", "REASON"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(events.iter().map(row));
        let colour = terminal.colour();
        let paint = |index: usize, column: usize| match index {
            _ if !colour => None,
            0 => Some(Paint::Dim),
            index => paint(&rows[index][column]).filter(|_| ["STATE", "OUTCOME"].contains(&head[column])),
        };
        for line in painted_table(&rows, paint) {
            terminal.print(&line);
        }
    }

    fn path(&self) -> String {
        let mut more = vec![("limit", self.limit.to_string())];
        more.extend(self.texts.words());
        more.extend(self.differs.then(|| ("differs", "true".to_owned())));
        more.extend(self.after.clone().map(|after| ("after", after)));
        format!("/api/v1/events?{}", self.selection.query(&more))
    }
}

impl Show {
    fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let relay = Relay::open(&self.config)?;
        let body = relay.ask(&event_path(&self.id))?;
        if self.raw {
            let raw = received(&body).ok_or(NOT_KEPT.to_owned())?;
            if terminal.is_terminal() && commands_a_terminal(&raw) {
                return Err(
                    "what came holds characters that a terminal would obey; `--raw > FILE` writes it to a file"
                        .to_owned()
                        .into(),
                );
            }
            // The terminal remembers what can't be written.
            let _ = terminal.write_all(&raw);
            return Ok(Exit::Fine);
        }
        if self.json {
            terminal.print(&body.to_string());
            return Ok(Exit::Fine);
        }
        for line in details(&body) {
            terminal.print(&line);
        }
        let advice = match body["state"].as_str() {
            Some("queued") => Some(advice::of_queued(&body, &relay.readiness()?, WallTime::now())),
            _ => advice::of_event(&body, relay.newest_replay(&body)?.as_ref(), Beside::Details),
        };
        if let Some(advice) = advice {
            terminal.print("");
            advice.lines().iter().for_each(|line| terminal.print(line));
        }
        Ok(Exit::Fine)
    }
}

/// Control characters but for line breaks and tabs, and bytes that are no text.
fn commands_a_terminal(raw: &[u8]) -> bool {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    str::from_utf8(raw).map_or(true, |text| text.contains(obeyed))
}

fn row(event: &Value) -> Vec<String> {
    let mut row = ["id", "received_at", "source", "state", "outcome", "action", "attempts", "incident_key", "reason"]
        .map(|name| cell(&text(&event[name])));
    if event["error"].is_object() {
        let [.., reason] = &mut row;
        let more = event["error"]["more"].as_u64().filter(|more| *more > 0);
        let more = more.map_or_else(String::new, |more| format!(" (and {more} more)"));
        *reason = cell(&format!("{}{more}", brief(&event["error"])));
    }
    if let Some(newest) = list(event, "replayed_by").last() {
        let [.., reason] = &mut row;
        let replayed = format!("replayed as {}", plain(&text(newest)));
        *reason = match reason.as_str() {
            "" | "replayed" => replayed,
            reason => cell(&format!("{replayed}; {reason}")),
        };
    }
    if let Some(by) = event["held"].as_str() {
        let [.., reason] = &mut row;
        *reason = if reason.is_empty() { format!("held ({by})") } else { format!("held ({by}); {reason}") };
    }
    row.to_vec()
}

/// The colour of a state or an outcome.
fn paint(word: &str) -> Option<Paint> {
    match word {
        "delivered" | "created" | "resolved" | "duplicate" => Some(Paint::Green),
        "dead" | "refused" | "unmatched" | "not_resolved" => Some(Paint::Red),
        "queued" | "accepted" => Some(Paint::Yellow),
        "ended" => Some(Paint::Dim),
        _ => None,
    }
}

/// `$.state disaster: no rule matches this`.
fn brief(error: &Value) -> String {
    let said = |name: &str| plain(&text(&error[name]));
    let found = found(error).map_or_else(String::new, |found| format!(" {found}"));
    format!("{}{found}: {}", said("path"), said("problem"))
}

/// `$.state: no rule matches this (found disaster)`.
pub(super) fn violation(error: &Value) -> String {
    let said = |name: &str| plain(&text(&error[name]));
    let found = found(error).map_or_else(String::new, |found| format!(" (found {found})"));
    format!("{}: {}{found}", said("path"), said("problem"))
}

/// The value that an error is about; none where there was none.
fn found(error: &Value) -> Option<String> {
    (!error["found"].is_null()).then(|| plain(&visible(&text(&error["found"]))))
}

/// An event above what differs of it.
fn heading(event: &Value) -> Vec<String> {
    ["id", "received_at", "source", "action", "incident_key", "rule"].map(|name| cell(&text(&event[name]))).to_vec()
}

/// A line on one thing that rules in the shadow of others would have decided otherwise.
fn difference(one: &Value) -> String {
    let word = |name: &str| plain(&text(&one[name]));
    let value = |name: &str| if one[name].is_null() { "missing".to_owned() } else { visible(&word(name)).into_owned() };
    let path = if one["path"].is_null() { String::new() } else { format!(" {}", word("path")) };
    format!("{}{path}: {}, would be {}", word("what"), value("is"), value("would_be"))
}

/// The lines on what was wrong with a refused payload.
fn errors(event: &Value) -> Vec<String> {
    let title = "\nwhat was wrong with it:".to_owned();
    let errors = list(event, "errors");
    if !errors.is_empty() {
        let errors = errors.iter().map(|error| format!("  {}", violation(error)));
        return std::iter::once(title).chain(errors).collect();
    }
    // Such as an earlier version kept has none.
    match payload(event, Accept::default()) {
        Some(Err(problem)) if event["reason"] == NOT_JSON => vec![title, format!("  {}", plain(&problem))],
        _ => Vec::new(),
    }
}

/// The lines on what was repaired in a payload that was taken.
fn repairs(event: &Value) -> Vec<String> {
    let words: Vec<String> = list(event, "repaired").iter().map(text).collect();
    let title = (!words.is_empty()).then(|| "\nwhat was repaired in it:".to_owned());
    // A newer relay may know of repairs that have no words here.
    let explained = words.iter().map(|word| Repair::read(word).map_or(&**word, |repair| repair.explain()));
    title.into_iter().chain(explained.map(|words| format!("  {}", plain(words)))).collect()
}

/// An event over several lines: its fields, then the bodies, then the attempts.
fn details(event: &Value) -> Vec<String> {
    let fields = [
        "id",
        "source",
        "action",
        "incident_key",
        "state",
        "outcome",
        "reason",
        "rule",
        "novelty",
        "received_at",
        "settled_at",
        "attempts",
        "next_attempt_at",
        "call_since",
        "duplicates",
        "request_id",
        "sender_request_id",
        "trace_id",
        "sender_span_id",
        "replay_of",
        "charset",
    ];
    let known = fields.iter().filter(|name| !event[**name].is_null());
    let mut rows: Vec<Vec<String>> = known.map(|name| vec![format!("{name}:"), plain(&text(&event[*name]))]).collect();
    let replays: Vec<String> = list(event, "replayed_by").iter().map(|id| plain(&text(id))).collect();
    if !replays.is_empty() {
        rows.push(vec!["replayed_by:".to_owned(), replays.join(", ")]);
    }
    let mut lines = table(&rows);
    for (name, title) in [
        ("received", "what came"),
        ("received_hex", "what came, in hexadecimal"),
        ("element", "the element of it that this is about"),
        ("sent", "what is sent"),
    ] {
        if !event[name].is_null() {
            lines.push(format!("\n{title}:"));
            lines.extend(body(&event[name]));
        }
    }
    lines.extend(errors(event));
    lines.extend(repairs(event));
    let differences = list(event, "differences");
    if !differences.is_empty() {
        lines.push("\nwhat the shadow rules would decide otherwise:".to_owned());
        lines.extend(differences.iter().map(|one| format!("  {}", difference(one))));
    }
    lines.extend(list(event, "deliveries").iter().flat_map(attempt));
    lines.extend(list(event, "confirmations").iter().rev().flat_map(confirmations::of_event));
    lines
}

/// A call to the upstream, with its answer.
fn attempt(attempt: &Value) -> Vec<String> {
    let said = |name: &str| plain(&text(&attempt[name]));
    let (number, at, took, result) = (said("number"), said("started_at"), said("took_ms"), said("result"));
    let more = ["status", "fault", "detail"].into_iter().filter(|name| !attempt[*name].is_null());
    let rows: Vec<Vec<String>> = more.map(|name| vec![format!("  {name}:"), said(name)]).collect();
    let mut lines = vec![format!("\nattempt {number} at {at}, {took} ms: {result}")];
    lines.extend(table(&rows));
    match attempt["answer"].as_str() {
        // No answer came, or nobody knows.
        None => {}
        Some("") if attempt["status"].is_null() => {}
        Some("") => lines.push("  answer: (empty)".to_owned()),
        Some(_) => {
            lines.push("  answer:".to_owned());
            lines.extend(body(&attempt["answer"]).iter().map(|line| format!("  {line}")));
        }
    }
    lines
}

/// A body indented; JSON is laid out.
fn body(value: &Value) -> Vec<String> {
    let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let laid_out = match (parsed, value) {
        (Some(parsed), _) => serde_json::to_string_pretty(&parsed).unwrap_or_default(),
        (None, Value::String(text)) => text.clone(),
        (None, value) => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    laid_out.lines().map(|line| format!("  {}", plain(line))).collect()
}

/// The id of an event as it was typed, refused before it is part of a path.
fn event_id(text: &str) -> Result<String, String> {
    let is_id = text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok();
    is_id
        .then(|| text.to_owned())
        .ok_or_else(|| "an event's id is a number; `gander events list` shows those that are kept".to_owned())
}

/// A value of the API as text: nothing for null.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_shown_with_its_bodies_and_attempts() {
        let event = json!({
            "id": "7", "source": "s", "action": "trigger", "incident_key": "k\u{1b}[2J", "state": "delivered",
            "outcome": "created", "reason": null, "attempts": 1, "received": "{\"a\":1}", "sent": {"state": "CRITICAL"},
            "deliveries": [{ "number": 1, "started_at": "t", "took_ms": 12, "result": "delivered", "status": 201,
                             "answer": "{\"id\":\"call-1\"}" },
                           { "number": 2, "started_at": "t", "took_ms": 1, "result": "dns", "fault": "network", "answer": "" },
                           { "number": 3, "started_at": "t", "took_ms": 1, "result": "accepted", "status": 204, "answer": "" }],
        });
        let text = details(&event).join("\n");
        assert!(text.contains("attempt 2 at t, 1 ms: dns\n  fault:  network\n\nattempt 3"), "no answer came: {text}");
        assert!(text.ends_with("  status:  204\n  answer: (empty)"), "{text}");
        assert!(text.contains("incident_key:  k\\u{1b}[2J\n"), "{text}");
        assert!(text.contains("what came:\n  {\n    \"a\": 1\n  }"), "{text}");
        assert!(text.contains("attempt 1 at t, 12 ms: delivered\n  status:  201"), "{text}");
        assert!(text.contains("\n  answer:\n    {\n      \"id\": \"call-1\"\n    }"), "{text}");
        assert!(!text.contains("reason"), "{text}");
    }

    #[test]
    fn an_event_is_shown_with_its_trace() {
        let event =
            json!({"id": "7", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "sender_span_id": "00f067aa0ba902b7"});
        let text = details(&event).join("\n");
        for (name, value) in
            [("trace_id:", "4bf92f3577b34da6a3ce929d0e0e4736"), ("sender_span_id:", "00f067aa0ba902b7")]
        {
            assert!(text.lines().any(|line| line.starts_with(name) && line.ends_with(value)), "{text}");
        }
    }

    #[test]
    fn a_replayed_event_is_marked_in_the_list() {
        for (event, reason) in [
            (json!({"state": "delivered", "outcome": "unmatched", "replayed_by": ["8", "9"]}), "replayed as 9"),
            (json!({"state": "ended", "reason": "replayed", "replayed_by": ["9"]}), "replayed as 9"),
            (json!({"state": "delivered", "reason": "stale", "replayed_by": ["9"]}), "replayed as 9; stale"),
            (json!({"state": "ended", "reason": "replayed"}), "replayed"),
            (json!({"state": "delivered", "outcome": "unmatched"}), ""),
        ] {
            assert_eq!(row(&event)[8], reason, "{event}");
        }
    }

    #[test]
    fn a_refused_event_is_listed_with_the_path_and_the_value() {
        let error = json!({"path": "$.state", "problem": "no rule matches this", "found": "disaster\u{7}", "more": 2});
        let event = json!({"id": "7", "state": "refused", "reason": "unprocessable", "error": error});
        assert_eq!(row(&event)[8], "$.state disaster\\u{7}: no rule matches this (and 2 more)");
        for (blank, seen) in [("", "\"\""), ("  ", "\"  \"")] {
            let error = json!({"path": "$.state", "problem": "no rule matches this", "found": blank});
            assert_eq!(brief(&error), format!("$.state {seen}: no rule matches this"));
            assert_eq!(violation(&error), format!("$.state: no rule matches this (found {seen})"));
        }
        let text = details(&json!({"id": "7", "errors": [error]})).join("\n");
        assert!(text.contains("wrong with it:\n  $.state: no rule matches this (found disaster\\u{7})"), "{text}");
        let error = json!({"path": "$", "problem": "the body is not JSON", "reason": "not_json"});
        let event = json!({"id": "7", "state": "ended", "reason": "discarded", "received": "[1,]", "errors": [error]});
        let text = details(&event).join("\n");
        assert!(text.contains("$: the body is not JSON") && !text.contains("repaired"), "{text}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_told_from_text() {
        for (raw, obeyed) in [
            (&b"{\"a\": \"b\"}\r\n\t"[..], false),
            ("Zürich".as_bytes(), false),
            (b"\x1b]0;title\x07", true),
            ("\u{9b}2J".as_bytes(), true),
            (b"caf\xe9", true),
            (b"\x1f\x8b", true),
        ] {
            assert_eq!(commands_a_terminal(raw), obeyed, "{raw:?}");
        }
    }
}
