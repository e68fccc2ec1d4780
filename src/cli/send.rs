//! `gander send`: one payload to the running relay, followed to its outcome.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::admin_client::Relay;
use super::client::{Answer, Client};
use super::events::{text, violation};
use super::follow::{Follow, advise};
use super::terminal::{Terminal, plain};
use super::{ConfigArguments, Exit, Stop, input, runtime};
use crate::advice;
use crate::config::{load_addresses, load_policy};
use crate::credential::Credential;
use crate::event::Outcome;
use crate::inbound::auth::Policy;

/// Post a payload to the running relay and follow it to its outcome
///
/// Uses the address, the certificate and a credential of the source from the configuration, waits for Callgoose's answer
/// and, if the event is still queued then, follows it through the admin API. Where something went wrong it says why, and
/// what to do.
///
/// Exit codes: 0 created, resolved, duplicate or accepted, or kept by a source of `kind: confirmation`; 1 anything else;
/// 2 the relay could not be asked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander send --source servicepilot alert.json\n  \
                        echo '{\"servicepilot_event_id\":\"e1\",\"state\":\"CRITICAL\"}' | gander send --source servicepilot")]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The source to send as
    #[arg(short, long, value_name = "NAME")]
    source: String,
    /// The payload [default: standard input, as for `-`]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// How long to follow the event, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86400))]
    timeout: u64,
    /// Print one JSON object: {"status", "events": […], "answer"}
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let name = &arguments.source;
    let addresses = arguments.config.part(load_addresses)?;
    let policy = arguments.config.part(|inputs| load_policy(inputs, name))?;
    let credential = credential(name, &policy)?;
    let payload = Bytes::from(input::read(arguments.file.as_deref())?);
    let client = Client::public(&addresses.listen, credential)?;
    let path = format!("/hooks/{name}");
    let shown = format!("{}{path}", client.base());
    terminal.say(&format!("posting {} bytes to {shown}", payload.len()));

    let until = Instant::now() + Duration::from_secs(arguments.timeout);
    let wait = HeaderValue::try_from(format!("wait={}", arguments.timeout.min(WAIT_MAX_S)));
    let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    headers.extend(wait.ok().map(|wait| (HeaderName::from_static("prefer"), wait)));
    let patience = Duration::from_secs(arguments.timeout.min(WAIT_MAX_S)) + ANSWER;
    let answer = runtime()?.block_on(client.request(Method::POST, &path, &headers, payload, patience))?;
    terminal.say(&format!("answered {}", answer.status));

    if let Some(kept) = answer.json().filter(|body| body["status"] == "kept") {
        let status = answer.status.as_u16();
        terminal.print(&match arguments.json {
            true => json!({ "status": status, "events": [], "answer": kept }).to_string(),
            false => confirmation(&kept),
        });
        return Ok(Exit::Fine);
    }
    let mut events = parts(&answer);
    if events.iter().any(is_pending)
        && let Err(stop) = follow(&arguments.config, &mut events, until, terminal)
    {
        terminal.say(&format!("its outcome is not known: {stop}"));
        let kept = events.iter().filter(|event| event["status"] == "queued").filter_map(id_of).next();
        if let Some(id) = kept {
            terminal.say(&format!("  {}", advice::left_unasked(&id)));
        }
    }
    complete(&arguments.config, &mut events);
    report(arguments, &answer, &events, terminal);
    let fine = !events.is_empty() && events.iter().all(advice::is_fine);
    Ok(if fine { Exit::Fine } else { Exit::No })
}

/// The first credential of a source whose secret is at hand, shown or to sign with; none where the source asks for none.
fn credential(source: &str, policy: &Policy) -> Result<Option<Credential>, String> {
    let Policy::AnyOf(credentials) = policy else {
        return Ok(None);
    };
    let sendable = credentials.iter().find(|credential| credential.is_sendable());
    sendable.cloned().map(Some).ok_or_else(|| match credentials.iter().all(|one| one.secret().is_none()) {
        true => format!("`{source}` knows its senders by their certificates, and this command shows none: post with another one, such as `curl --cert`"),
        false => format!(
            "no credential of `{source}` is at hand: set the variable or file that its `auth` names, as it is for the \
             relay"
        ),
    })
}

/// The elements as the relay answered for them: one object, or a list for a batch.
fn parts(answer: &Answer) -> Vec<Value> {
    let Some(body) = answer.json() else {
        return Vec::new();
    };
    match body.get("events").and_then(Value::as_array) {
        Some(events) => events.clone(),
        None if body["status"].is_string() => vec![body],
        None => Vec::new(),
    }
}

/// Waits for events that are still queued, and for those that duplicates are copies of, by the admin API, and notes
/// their ends.
fn follow(config: &ConfigArguments, events: &mut [Value], until: Instant, terminal: &mut Terminal) -> Result<(), Stop> {
    terminal.say("not delivered yet; following it through the admin API");
    let relay = Relay::open(config)?;
    let mut follow = Follow::new(&relay, until);
    for event in events.iter_mut().filter(|event| is_pending(event)) {
        if let Some(id) = id_of(event).or_else(|| original_of(event)) {
            note_end(event, &follow.end_of(&id, terminal)?);
        }
    }
    Ok(())
}

/// Adds what only the journal knows of triggers that Callgoose took for repeats: a repeat of what came before is fine, and
/// the first after a resolve is not. Where the relay does not tell, nothing is added.
fn complete(config: &ConfigArguments, events: &mut [Value]) {
    let is_repeat =
        |event: &&mut Value| event["outcome"] == Outcome::Duplicate.as_str() && event["status"] == "delivered";
    let mut repeats = events.iter_mut().filter(is_repeat).peekable();
    if repeats.peek().is_none() {
        return;
    }
    let Ok(relay) = Relay::open(config) else { return };
    for event in repeats.take(REPEATS_MAX) {
        if let Some(Ok(Some(details))) = id_of(event).map(|id| relay.event(&id)) {
            for name in ["novelty", "deliveries"] {
                event[name] = details[name].clone();
            }
        }
    }
}

fn note_end(event: &mut Value, details: &Value) {
    // A copy has no state of its own.
    if event["status"] != "duplicate" {
        event["status"] = details["state"].clone();
    }
    for name in ["outcome", "reason", "attempts"] {
        if !details[name].is_null() {
            event[name] = details[name].clone();
        }
    }
}

fn report(arguments: &Arguments, answer: &Answer, events: &[Value], terminal: &mut Terminal) {
    if arguments.json {
        let body = answer.json().unwrap_or(Value::Null);
        terminal.print(&json!({ "status": answer.status.as_u16(), "events": events, "answer": body }).to_string());
        return;
    }
    for event in events {
        terminal.print(&line(event));
        advise(event, terminal);
    }
    let body = answer.json().unwrap_or_default();
    if events.is_empty() {
        terminal.print(&format!("refused: {}", answer.detail()));
    }
    for error in body["errors"].as_array().into_iter().flatten() {
        terminal.print(&format!("  {}", violation(error)));
    }
    if events.is_empty() {
        // What was kept is an event, of which a person can ask for more.
        let reason = body["type"].as_str().and_then(|kind| kind.rsplit(':').next());
        if let Some(id) = id_of(&body) {
            advise(&json!({ "id": id, "state": "refused", "reason": reason }), terminal);
        }
        let readiness = Relay::open(&arguments.config).and_then(|relay| relay.readiness()).ok();
        for sentence in advice::of_refusal(answer.status.as_u16(), &arguments.source, readiness.as_ref()) {
            terminal.say(&format!("  {sentence}"));
        }
    }
}

/// `trigger of e1: delivered, created (event 7)`; of a copy `trigger of e1: duplicate of event 7 (created)`.
fn line(event: &Value) -> String {
    let said = |name: &str| plain(event[name].as_str().unwrap_or_default());
    let mut line = match event["index"].as_u64() {
        Some(index) => format!("{index}: "),
        None => String::new(),
    };
    if event["action"].is_string() {
        line += &format!("{} of {}: ", said("action"), said("incident_key"));
    }
    if let (None, Some(of)) = (id_of(event), original_of(event)) {
        // Outcome and reason are those of the original.
        let original = ["outcome", "reason"].into_iter().filter(|name| event[*name].is_string()).map(said);
        let original = original.collect::<Vec<_>>().join(", ");
        let original = if original.is_empty() { original } else { format!(" ({original})") };
        return format!("{line}{} of event {}{original}", said("status"), plain(&of));
    }
    line += &advice::standing(&json!({
        "state": event["status"], "outcome": event["outcome"], "reason": event["reason"],
    }));
    if let Some(rule) = event["rule"].as_str() {
        line += &format!(" by rule {}", plain(rule));
    }
    if let Some(id) = id_of(event) {
        line += &format!(" (event {})", plain(&id));
    }
    line
}

/// The answer of a source of confirmations: `kept as confirmation 3, matched: e1 opened (event 7)`.
fn confirmation(kept: &Value) -> String {
    let said = |name: &str| kept[name].as_str().map(plain);
    let (id, result) = (said("id").unwrap_or_default(), said("result").unwrap_or_default());
    let mut line = format!("kept as confirmation {id}, {result}");
    line += &said("incident_key").map_or_else(String::new, |key| format!(": {key}"));
    line += &said("action").map_or_else(String::new, |action| format!(" {action}"));
    line + &said("event").map_or_else(String::new, |event| format!(" (event {event})"))
}

/// Queued, or a copy of one whose outcome the answer does not tell.
fn is_pending(event: &Value) -> bool {
    event["status"] == "queued" || event["status"] == "duplicate" && event["outcome"].is_null()
}

fn id_of(event: &Value) -> Option<String> {
    (!event["id"].is_null()).then(|| text(&event["id"]))
}

/// The event that a duplicate is a copy of.
fn original_of(event: &Value) -> Option<String> {
    (!event["of"].is_null()).then(|| text(&event["of"]))
}

/// The longest wait for Callgoose that one POST asks for; the source's `respond_timeout` caps it.
const WAIT_MAX_S: u64 = 30;
/// Of a batch no more are asked about.
const REPEATS_MAX: usize = 20;
/// Beyond the wait itself.
const ANSWER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_has_a_line() {
        for (kept, expected) in [
            (
                json!({ "id": "3", "result": "matched", "incident_key": "e1", "action": "opened", "event": "7" }),
                "kept as confirmation 3, matched: e1 opened (event 7)",
            ),
            (
                json!({ "id": "3", "result": "unknown_shape", "incident_key": null, "action": null, "event": null }),
                "kept as confirmation 3, unknown_shape",
            ),
        ] {
            assert_eq!(confirmation(&kept), expected);
        }
    }

    #[test]
    fn each_element_has_a_line() {
        for (event, expected) in [
            (
                json!({ "id": "7", "status": "delivered", "outcome": "created", "action": "trigger", "incident_key": "e1" }),
                "trigger of e1: delivered, created (event 7)",
            ),
            (
                json!({ "status": "duplicate", "of": 3, "action": "trigger", "incident_key": "e1" }),
                "trigger of e1: duplicate of event 3",
            ),
            (
                json!({ "status": "duplicate", "of": 3, "action": "trigger", "incident_key": "e1", "outcome": "created" }),
                "trigger of e1: duplicate of event 3 (created)",
            ),
            (
                json!({ "id": "7", "status": "queued", "action": "trigger", "incident_key": "e1", "reason": "duplicate (200)" }),
                "trigger of e1: queued, last try: duplicate (200) (event 7)",
            ),
            (json!({ "index": 2, "status": "ignored", "rule": "maintenance" }), "2: ignored by rule maintenance"),
        ] {
            assert_eq!(line(&event), expected);
        }
    }
}
