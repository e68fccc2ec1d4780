//! `gander events follow`: one event to its end, as it happens.
//!
//! Each question waits at the relay until the event has changed, for a bounded time. A relay that starts again is asked
//! again for a while.

use std::time::{Duration, Instant};

use clap::Args;
use http::StatusCode;
use serde_json::Value;

use super::{event_id, paint};
use crate::advice::{self, Advice, Beside, of_queued};
use crate::cli::admin_client::Relay;
use crate::cli::client::Answer;
use crate::cli::terminal::{Paint, Terminal, painted, plain, shortened};
use crate::cli::{ConfigArguments, Exit, Stop};
use crate::clock::WallTime;
use crate::text::second;

/// Follow one event to its end: each call with its answer, what it waits for and until when
///
/// It begins with what happened so far, and ends with the event, also over a restart of the relay that takes no longer
/// than 120 seconds.
///
/// Exit codes: 0 created, resolved, duplicate or accepted; 1 it ended otherwise, is still queued when the time is up, or
/// there is no such event; 2 the relay could not be asked, as without its admin token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander events follow 1796012155412\n  \
                        gander events follow 1796012155412 --timeout 300 --json | jq .state")]
pub(super) struct Follow {
    #[command(flatten)]
    config: ConfigArguments,
    /// The event's id
    #[arg(value_parser = event_id)]
    id: String,
    /// How long to follow it, in seconds [default: to its end]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=604_800))]
    timeout: Option<u64>,
    /// Print the event, as the API tells it, once for each change
    #[arg(long)]
    json: bool,
}

/// The part of the story that was told.
#[derive(Debug, Default)]
struct Told {
    received: bool,
    /// The number of the last call.
    calls: u64,
    waits_for: Option<Advice>,
}

impl Follow {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let relay = Relay::open(&self.config)?;
        let until = self.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let first = relay.event_within(&self.id, None, Duration::ZERO)?;
        let mut event = self.understood(&relay, &first)?;
        let (mut told, mut is_new, mut waited) = (Told::default(), true, false);
        loop {
            if self.json && is_new {
                terminal.print(&event.to_string());
            } else if !self.json {
                self.tell(&event, waited, &relay, &mut told, terminal);
            }
            if event["state"] != "queued" {
                return Ok(self.end(&event, &relay, terminal));
            }
            if terminal.is_unread() {
                return Ok(Exit::No);
            }
            let left = until.map_or(WAIT, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                let readiness = relay.readiness().unwrap_or_default();
                terminal.say(&advice::left_waiting(&event, &readiness, WallTime::now()));
                return Ok(Exit::No);
            }
            // Most events are on their way at once: what keeps one is told after a moment.
            let wait = if waited { WAIT } else { SOON };
            let next = self.next(&relay, &event, wait.min(left), terminal)?;
            (is_new, waited) = (next["change"] != event["change"], true);
            event = next;
        }
    }

    /// The event once it has changed, or as it is after `wait`, or sooner where the relay lets no more requests wait. A
    /// relay that does not answer is asked again.
    fn next(&self, relay: &Relay, event: &Value, wait: Duration, terminal: &mut Terminal) -> Result<Value, Stop> {
        let patience = Instant::now() + wait + SILENCE_MAX;
        let mut is_said = false;
        loop {
            let problem = match relay.event_within(&self.id, event["change"].as_str(), wait) {
                Ok(answer) if answer.status != StatusCode::SERVICE_UNAVAILABLE => {
                    return self.understood(relay, &answer);
                }
                Ok(refused) => {
                    std::thread::sleep(ASK_AGAIN.min(wait));
                    // One that only has no place for a question that waits answers one that does not.
                    match relay.event_within(&self.id, None, Duration::ZERO) {
                        Ok(answer) if answer.status != StatusCode::SERVICE_UNAVAILABLE => {
                            return self.understood(relay, &answer);
                        }
                        _ => refused.detail(),
                    }
                }
                Err(problem) => problem,
            };
            if Instant::now() >= patience {
                return Err(Stop::Problem(problem));
            }
            if !is_said {
                is_said = true;
                terminal.say(&format!("{problem}; asking again for {} s", SILENCE_MAX.as_secs()));
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }

    fn understood(&self, relay: &Relay, answer: &Answer) -> Result<Value, Stop> {
        if answer.status == StatusCode::NOT_FOUND && answer.is_problem() {
            let (id, detail) = (plain(&self.id), answer.detail());
            return Err(Stop::Refused(format!("event {id}: {detail}; `gander events list` shows those that are kept")));
        }
        if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return relay.understood(answer).map_err(|stop| Stop::Problem(stop.to_string()));
        }
        relay.understood(answer)
    }

    fn tell(&self, event: &Value, waited: bool, relay: &Relay, told: &mut Told, terminal: &mut Terminal) {
        let now = WallTime::now();
        news(event, told, now).iter().for_each(|line| terminal.print(line));
        let is_kept = waited || event["held"].is_string() || event["attempts"].as_u64() > Some(0);
        if event["state"] == "queued" && is_kept {
            // Where it can't be asked, the event alone tells.
            let advice = of_queued(event, &relay.readiness().unwrap_or_default(), now);
            if told.waits_for.as_ref() != Some(&advice) {
                advice.lines().iter().for_each(|line| terminal.print(&format!("  {line}")));
                told.waits_for = Some(advice);
            }
        }
    }

    /// The last line, and what to do where it did not come to what it should.
    fn end(&self, event: &Value, relay: &Relay, terminal: &mut Terminal) -> Exit {
        if !self.json {
            let standing = advice::standing(event);
            let kind = paint(event["outcome"].as_str().or(event["state"].as_str()).unwrap_or_default());
            let colour = terminal.colour() && kind.is_some();
            let standing = painted(&standing, kind.unwrap_or(Paint::Bold), colour);
            let at = event["settled_at"].as_str().or(event["received_at"].as_str()).unwrap_or_default();
            terminal.print(&format!("{}  {standing}", moment(at, WallTime::now())));
            let advice = advice::of_event(event, relay.newest_replay(event).ok().flatten().as_ref(), Beside::Line);
            advice.iter().flat_map(Advice::lines).for_each(|line| terminal.print(&format!("  {line}")));
        }
        if advice::is_fine(event) { Exit::Fine } else { Exit::No }
    }
}

/// Lines on what happened since it was told last: the receipt, then each call with its answer.
fn news(event: &Value, told: &mut Told, now: WallTime) -> Vec<String> {
    let said = |value: &Value, name: &str| plain(value[name].as_str().unwrap_or_default());
    let mut lines = Vec::new();
    if !told.received {
        told.received = true;
        let what = match event["action"].as_str() {
            Some(action) => {
                format!("{} of {} by rule {}", plain(action), said(event, "incident_key"), said(event, "rule"))
            }
            None => "a payload".to_owned(),
        };
        let at = moment(&said(event, "received_at"), now);
        lines.push(format!("{at}  received from {}: {what}", said(event, "source")));
    }
    for call in event["deliveries"].as_array().into_iter().flatten() {
        let number = call["number"].as_u64().unwrap_or(0);
        if number <= told.calls {
            continue;
        }
        told.calls = number;
        let status = call["status"].as_u64().map_or_else(String::new, |status| format!(", status {status}"));
        let fault = call["fault"].as_str().map_or_else(String::new, |fault| format!(", fault of the {}", plain(fault)));
        let (at, result) = (moment(&said(call, "started_at"), now), said(call, "result"));
        let took = call["took_ms"].as_i64().unwrap_or(0);
        lines.push(format!("{at}  call {number}: {result}{status}{fault}, took {took} ms"));
        for name in ["detail", "answer"] {
            let text = shortened(call[name].as_str().unwrap_or_default().trim(), TEXT_CHARS_MAX);
            lines.extend((!text.is_empty()).then(|| format!("  {name}: {text}")));
        }
    }
    lines
}

/// A time of the API to the second, with its day where that is another one.
fn moment(time: &str, now: WallTime) -> String {
    WallTime::parse_rfc3339(time).map_or_else(|| plain(time), |at| second(at, now))
}

/// For one answer: shorter than the relay lets a request wait, and than this client does.
const WAIT: Duration = Duration::from_secs(20);
/// For the first.
const SOON: Duration = Duration::from_secs(1);
/// A relay starts within seconds, with a large journal within a minute or two.
const SILENCE_MAX: Duration = Duration::from_secs(120);
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A text of a call stands on one line; `gander events show` has the whole.
const TEXT_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// 2025-11-24 16:04 UTC.
    const NOW: WallTime = WallTime(1_764_000_240_000);

    #[test]
    fn each_part_of_the_story_is_told_once() {
        let call = |number: u64, result: &str, status: u64, answer: &str| {
            json!({ "number": number, "started_at": "2025-11-24T16:03:01.000Z", "took_ms": 12, "result": result,
                    "status": status, "fault": if number == 1 { json!("upstream") } else { Value::Null }, "answer": answer })
        };
        let mut event = json!({
            "id": "7", "source": "s", "action": "trigger", "incident_key": "k\u{1b}[2J", "rule": "problem",
            "received_at": "2025-11-23T16:03:00.000Z", "state": "queued", "deliveries": [],
        });
        let mut told = Told::default();
        assert_eq!(
            news(&event, &mut told, NOW),
            ["2025-11-23 16:03:00 UTC  received from s: trigger of k\\u{1b}[2J by rule problem"]
        );
        assert_eq!(news(&event, &mut told, NOW), [""; 0]);
        event["deliveries"] = json!([call(1, "busy", 503, "\u{7}later\n")]);
        assert_eq!(
            news(&event, &mut told, NOW),
            ["16:03:01 UTC  call 1: busy, status 503, fault of the upstream, took 12 ms", "  answer: \\u{7}later"]
        );
        event["deliveries"] = json!([call(1, "busy", 503, "x"), call(2, "created", 201, &"y".repeat(500))]);
        let lines = news(&event, &mut told, NOW);
        assert_eq!(lines[0], "16:03:01 UTC  call 2: created, status 201, took 12 ms");
        assert!(lines.len() == 2 && lines[1].chars().count() < 220 && lines[1].ends_with('…'), "{lines:?}");
        let refused =
            json!({ "id": "8", "source": "s", "received_at": "2025-11-24T16:03:00.000Z", "state": "refused" });
        assert_eq!(news(&refused, &mut Told::default(), NOW), ["16:03:00 UTC  received from s: a payload"]);
    }
}
