//! `gander send`: one payload to the running relay, followed to its outcome.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::admin_client::event_path;
use super::client::{Answer, Client};
use super::terminal::{Terminal, plain};
use super::{ConfigArguments, Exit, Stop, block_on, input};
use crate::admin;
use crate::config::{load_addresses, load_policy};
use crate::credential::Credential;
use crate::inbound::auth::Policy;

/// Post a payload to the running relay and follow it to its outcome
///
/// Uses the address, the certificate and a credential of the source from the configuration, waits for Callgoose's answer
/// and, if the event is still queued then, follows it through the admin API.
///
/// Exit codes: 0 created, resolved, duplicate or accepted; 1 anything else; 2 the relay could not be asked.
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
    let answer = block_on(client.request(Method::POST, &path, &headers, payload, patience))??;
    terminal.say(&format!("answered {}", answer.status));

    let mut events = parts(&answer);
    if events.iter().any(is_pending) {
        follow(&addresses.admin, &mut events, until, terminal);
    }
    report(arguments, &answer, &events, terminal);
    let fine = !events.is_empty() && events.iter().all(is_fine);
    Ok(if fine { Exit::Fine } else { Exit::No })
}

/// The first credential of a source whose secret is at hand; none where the source asks for none.
fn credential(source: &str, policy: &Policy) -> Result<Option<Credential>, String> {
    let Policy::AnyOf(credentials) = policy else {
        return Ok(None);
    };
    let sendable = credentials.iter().find(|credential| credential.is_sendable());
    sendable.cloned().map(Some).ok_or_else(|| {
        format!(
            "no credential of `{source}` is at hand: set the variable or file that its `auth` names, as it is for the \
             relay"
        )
    })
}

/// What became of each element, as the relay answered: one object, or a list for a batch.
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
fn follow(admin: &admin::Config, events: &mut [Value], until: Instant, terminal: &mut Terminal) {
    terminal.say("not delivered yet; following it through the admin API");
    let client = match Client::admin(admin) {
        Ok(client) => client,
        Err(problem) => return terminal.say(&format!("can't follow it: {problem}")),
    };
    let work = async {
        for event in events.iter_mut().filter(|event| is_pending(event)) {
            let Some(id) = id_of(event).or_else(|| original_of(event)) else { continue };
            loop {
                match client.get(&event_path(&id)).await {
                    Ok(answer) if answer.status == StatusCode::OK => {
                        let details = answer.json().unwrap_or_default();
                        if details["state"] != "queued" {
                            note_end(event, &details);
                            break;
                        }
                    }
                    Ok(answer) => return Err(answer.detail()),
                    Err(problem) => return Err(problem),
                }
                if Instant::now() >= until {
                    return Err(format!("event {id} is still queued"));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    };
    if let Err(problem) = block_on(work).flatten() {
        terminal.say(&format!("its outcome is not known: {problem}"));
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
    }
    if events.is_empty() {
        terminal.print(&format!("refused: {}", answer.detail()));
    }
    let body = answer.json().unwrap_or_default();
    for error in body["errors"].as_array().into_iter().flatten() {
        let said = |name: &str| plain(error[name].as_str().unwrap_or_default());
        let found = if error["found"].is_null() { String::new() } else { format!(" (found {})", said("found")) };
        terminal.print(&format!("  {}: {}{found}", said("path"), said("problem")));
    }
    if answer.status == StatusCode::UNAUTHORIZED {
        terminal.say("the relay refused the credential: does it run with this configuration and these secrets?");
    }
}

/// `trigger of e1: delivered, created (event 7)`.
fn line(event: &Value) -> String {
    let said = |name: &str| plain(event[name].as_str().unwrap_or_default());
    let mut line = match event["index"].as_u64() {
        Some(index) => format!("{index}: "),
        None => String::new(),
    };
    if event["action"].is_string() {
        line += &format!("{} of {}: ", said("action"), said("incident_key"));
    }
    line += &said("status");
    for name in ["outcome", "reason"] {
        if event[name].is_string() {
            line += &format!(", {}", said(name));
        }
    }
    if let Some(rule) = event["rule"].as_str() {
        line += &format!(" by rule {}", plain(rule));
    }
    match (id_of(event), original_of(event)) {
        (Some(id), _) => line += &format!(" (event {})", plain(&id)),
        (None, Some(of)) => line += &format!(" (of event {})", plain(&of)),
        (None, None) => {}
    }
    line
}

/// Queued, or a copy of one whose outcome the answer does not tell.
fn is_pending(event: &Value) -> bool {
    event["status"] == "queued" || event["status"] == "duplicate" && event["outcome"].is_null()
}

/// Created, resolved, duplicate or accepted, for a copy as for its original.
fn is_fine(event: &Value) -> bool {
    matches!(event["outcome"].as_str(), Some("created" | "resolved" | "duplicate" | "accepted"))
}

fn id_of(event: &Value) -> Option<String> {
    match &event["id"] {
        Value::Null => None,
        id => Some(spelled(id)),
    }
}

/// The event that a duplicate is a copy of.
fn original_of(event: &Value) -> Option<String> {
    match &event["of"] {
        Value::Null => None,
        of => Some(spelled(of)),
    }
}

fn spelled(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What one POST is asked to wait for Callgoose; the source's `respond_timeout` caps it.
const WAIT_MAX_S: u64 = 30;
/// Beyond the wait itself.
const ANSWER: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reached_the_upstream_as_asked_is_fine() {
        for (event, fine) in [
            (json!({ "status": "delivered", "outcome": "created" }), true),
            (json!({ "status": "delivered", "outcome": "resolved" }), true),
            (json!({ "status": "delivered", "outcome": "duplicate" }), true),
            (json!({ "status": "delivered", "outcome": "accepted" }), true),
            (json!({ "status": "duplicate", "of": "3", "outcome": "created" }), true),
            (json!({ "status": "duplicate", "of": "3" }), false),
            (json!({ "status": "duplicate", "of": "3", "reason": "400" }), false),
            (json!({ "status": "duplicate", "of": "3", "outcome": "unmatched" }), false),
            (json!({ "status": "unmatched", "outcome": "unmatched" }), false),
            (json!({ "status": "not_resolved", "outcome": "not_resolved" }), false),
            (json!({ "status": "dead", "reason": "400" }), false),
            (json!({ "status": "queued" }), false),
            (json!({ "status": "ignored", "rule": "maintenance" }), false),
        ] {
            assert_eq!(is_fine(&event), fine, "{event}");
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
                "trigger of e1: duplicate (of event 3)",
            ),
            (json!({ "index": 2, "status": "ignored", "rule": "maintenance" }), "2: ignored by rule maintenance"),
        ] {
            assert_eq!(line(&event), expected);
        }
    }
}
