//! `gander events replay` and `discard`: what a person does with what the relay could not.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use http::StatusCode;
use serde_json::{Value, json};

use super::against::{self, Past};
use super::progress::Progress;
use super::selection::Selection;
use super::text;
use crate::advice::{self, list};
use crate::cli::admin_client::{Relay, as_flags, event_path};
use crate::cli::client::Answer;
use crate::cli::follow::{Follow, advise};
use crate::cli::terminal::{Terminal, plain};
use crate::cli::{ConfigArguments, Exit, Stop, input};
use crate::clock::WallTime;

/// Send events again: dead letters, refused payloads, or what the upstream did not match
///
/// A replayed event is a new one at the end of its incident key, past deduplication. Where a later event of the key was
/// taken the replay is declined: an old trigger replayed after its resolve would open an incident that nobody closes. A
/// refused payload goes through the rules that are loaded now. Filters without --state and --outcome are about dead
/// letters and refused payloads.
///
/// With --against nothing is sent: what was recorded is decided again by the rules in a file, and what would be decided
/// otherwise is printed: another action or none, another incident key, another body. Filters are then about all events.
/// What was ignored is not recorded, and so not tried.
///
/// Exit codes: 0 all were replayed, nothing would differ; 1 one was declined or would differ, with --wait one came to
/// nothing, or the relay refused; 2 it could not be asked, with --against no event matches, an event that was named could not be tried, or --yes is missing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander events replay 1764000000123\n  \
                        gander events replay --state dead --older-than 1h --yes\n  \
                        gander events replay --outcome unmatched --source servicepilot --wait\n  \
                        gander events replay --state dead --from 1764000000123\n  \
                        gander events replay 1764000000123 --payload fixed.json\n  \
                        gander events replay --against new.yaml --since 24h --dry-run")]
pub(super) struct Replay {
    #[command(flatten)]
    which: Which,
    /// Decide again by the rules in this file, and print what would differ; needs --dry-run
    #[arg(long, value_name = "FILE", requires = "dry_run", conflicts_with_all = ["force", "yes"])]
    against: Option<PathBuf>,
    /// Also where a later event of the key was taken, or the payload repeats what is known
    #[arg(long)]
    force: bool,
    /// Replay this payload, in UTF-8, in place of the refused one that ID names; `-` is standard input. In place of one element
    /// of a batch it is a batch with that element alone
    #[arg(long, value_name = "FILE", conflicts_with_all = ["against", "dry_run"])]
    payload: Option<PathBuf>,
    /// Follow what is sent again to its outcome, for 60 s or so many, and say what became of it
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60",
        conflicts_with = "dry_run",
        value_parser = clap::value_parser!(u64).range(0..=86400)
    )]
    wait: Option<u64>,
}

/// End for good: dead letters, refused payloads, or queued events
///
/// They stay in the journal's history as ended, with the reason `discarded`, for `journal.keep_delivered`. Filters
/// without --state and --outcome are about dead letters and refused payloads; --state queued is about what waits. An event
/// whose call is under way ends after that, delivered or discarded.
///
/// Exit codes: 0 all were discarded, or end after their calls; 1 one was declined, or the relay refused; 2 it could not be asked, or --yes is missing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander events discard 1764000000123\n  \
                        gander events discard --state refused --older-than 7d --yes\n  \
                        gander events discard --state queued --source servicepilot --older-than 2h")]
pub(super) struct Discard {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    config: ConfigArguments,
    /// The events' ids
    #[arg(value_name = "ID", conflicts_with_all = ["state", "outcome", "key", "source", "since", "older_than", "from"])]
    ids: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Change nothing: only tell how many events it is about (with --against: what would differ)
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Print one JSON object a line for each event; with --dry-run {"matching", "at_least"}
    #[arg(long)]
    json: bool,
}

/// The command that the relay is given for each event.
struct Command {
    verb: &'static str,
    force: bool,
    /// The payload that stands in the stead of the one that is named.
    payload: Option<String>,
}

/// A command over events, and how many were carried out and declined.
struct Run<'r> {
    which: &'r Which,
    command: Command,
    relay: Relay,
    done: usize,
    declined: usize,
    /// The events that were made by it and wait for delivery.
    queued: Vec<String>,
    /// The events that it declined because they still wait.
    waiting: Vec<String>,
    /// The causes for which advice was given: one may keep many events.
    advised: BTreeSet<String>,
}

/// The number of events that filters match.
struct Matching {
    count: Value,
    at_least: bool,
}

impl fmt::Display for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.at_least { "at least " } else { "" };
        let events = if self.count == 1 { "event" } else { "events" };
        write!(f, "{more}{} {events}", self.count)
    }
}

impl Replay {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let Which { config, ids, selection, json, .. } = &self.which;
        match &self.against {
            Some(file) => against::run(file, &Past { config, selection, ids, json: *json }, terminal),
            None => {
                let command = Command { verb: "replay", force: self.force, payload: self.corrected()? };
                run(&self.which, command, self.wait, terminal)
            }
        }
    }

    /// The payload that stands in the stead of the refused one.
    fn corrected(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.payload else { return Ok(None) };
        if self.which.ids.len() != 1 {
            return Err("`--payload` needs the id of one refused payload".to_owned());
        }
        let text = String::from_utf8(input::read(Some(file))?);
        text.map(Some).map_err(|_| format!("{} is not UTF-8; save it as that", file.display()))
    }
}

/// Counts the events that a command would be about.
fn counted(which: &Which, command: Command, terminal: &mut Terminal) -> Result<Exit, Stop> {
    if which.selection.is_empty() {
        return Err("a dry run counts what filters match: add one, as `--state dead`".to_owned().into());
    }
    let run = Run::new(which, command)?;
    let matching = run.matching()?;
    if which.json {
        terminal.print(&json!({ "matching": matching.count, "at_least": matching.at_least }).to_string());
    } else {
        terminal.print(&format!("{matching}; nothing was done"));
    }
    Ok(Exit::Fine)
}

impl Discard {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        run(&self.which, Command { verb: "discard", force: false, payload: None }, None, terminal)
    }
}

fn run(which: &Which, command: Command, wait_seconds: Option<u64>, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let verb = command.verb;
    if which.ids.is_empty() && which.selection.is_empty() {
        return Err(format!("name the events to {verb} by id or by filter, as `--state dead`").into());
    }
    if which.dry_run {
        return counted(which, command, terminal);
    }
    let asks = !which.yes;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(format!("nobody is there to confirm: add --yes to {verb} without being asked").into());
    }
    let mut run = Run::new(which, command)?;
    if asks && !run.confirmed(terminal)? {
        terminal.say("nothing was done");
        return Ok(Exit::No);
    }
    if which.ids.is_empty() {
        run.selected(terminal)?;
    } else {
        run.named(terminal)?;
    }
    terminal.say(&format!("{} {}, {} declined", run.done, past(verb), run.declined));
    let names_no_state = which.selection.state.is_empty() && which.selection.outcome.is_none();
    if run.done + run.declined == 0 && names_no_state {
        terminal.say(NONE_MATCHES);
    }
    run.tell_what_keeps(wait_seconds.is_some(), terminal);
    let fine = match wait_seconds {
        Some(seconds) => run.follow(Duration::from_secs(seconds), terminal)?,
        None => true,
    };
    Ok(if run.declined > 0 || !fine { Exit::No } else { Exit::Fine })
}

impl<'r> Run<'r> {
    fn new(which: &'r Which, command: Command) -> Result<Run<'r>, Stop> {
        let relay = Relay::open(&which.config)?;
        let (queued, waiting) = (Vec::new(), Vec::new());
        Ok(Run { which, command, relay, done: 0, declined: 0, queued, waiting, advised: BTreeSet::new() })
    }

    /// Counts the events that the filters match.
    fn matching(&self) -> Result<Matching, Stop> {
        let mut body = self.body();
        body["dry_run"] = json!(true);
        let counted = self.relay.understood(&self.relay.command(&self.path(), &body)?)?;
        Ok(Matching { count: counted["matching"].clone(), at_least: counted["at_least"] == true })
    }

    fn confirmed(&self, terminal: &mut Terminal) -> Result<bool, Stop> {
        let count = match self.which.ids.len() {
            0 => self.matching()?,
            ids => Matching { count: json!(ids), at_least: false },
        };
        terminal.say(&format!("{} {count}? [y/N]", self.command.verb));
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        Ok(read.is_ok() && matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Each by its id.
    fn named(&mut self, terminal: &mut Terminal) -> Result<(), Stop> {
        let mut body = json!({ "force": self.command.force });
        if let Some(payload) = &self.command.payload {
            body["payload"] = json!(payload);
        }
        for id in &self.which.ids {
            let path = format!("{}/{}", event_path(id), self.command.verb);
            let answer = self.relay.command(&path, &body)?;
            let result = match declined(id, &answer) {
                Some(result) => result,
                None => self.relay.understood(&answer)?,
            };
            self.tell(&result, terminal)?;
        }
        Ok(())
    }

    /// All that match, page by page.
    fn selected(&mut self, terminal: &mut Terminal) -> Result<(), Stop> {
        let mut body = self.body();
        let mut progress = Progress::new("looked at");
        loop {
            let page = self.relay.understood(&self.relay.command(&self.path(), &body)?)?;
            let results = list(&page, "results");
            results.iter().try_for_each(|result| self.tell(result, terminal))?;
            progress.add(results.len(), terminal);
            if let Some(why) = page["stopped"].as_str() {
                terminal.say(&format!("{} {}, {} declined", self.done, past(self.command.verb), self.declined));
                let why = plain(why);
                return Err(Stop::Refused(format!("the relay takes no command now ({why}); give it again later")));
            }
            match page["next"].as_str() {
                Some(next) => body["after"] = json!(next),
                None => return Ok(()),
            }
        }
    }

    /// Says what keeps events that still wait: those that were declined for it and, unless they are `followed`, those that
    /// were made and don't go out in their turn. What was commanded is done, so a relay that does not answer is no error.
    fn tell_what_keeps(&mut self, followed: bool, terminal: &mut Terminal) {
        let made = self.queued.iter().filter(|_| !followed).map(|id| (id, true));
        let ids: Vec<_> = self.waiting.iter().map(|id| (id, false)).chain(made).take(ASKED_MAX).collect();
        if self.which.json || ids.is_empty() {
            return;
        }
        let Ok(readiness) = self.relay.readiness() else { return };
        for (id, is_new) in ids {
            let Ok(Some(event)) = self.relay.event(id) else { continue };
            let advice = match event["state"] == "queued" {
                true if is_new => advice::of_kept_back(&event, &readiness),
                true => Some(advice::of_queued(&event, &readiness, WallTime::now())),
                false => None,
            };
            if let Some(advice) = advice.filter(|advice| self.advised.insert(advice.lines().join("\n"))) {
                terminal.say(&format!("event {} waits", plain(id)));
                advice.lines().iter().for_each(|line| terminal.say(&format!("  {line}")));
            }
        }
    }

    /// Follows what was made to its outcome; whether all of it came to what it should.
    fn follow(&self, wait: Duration, terminal: &mut Terminal) -> Result<bool, Stop> {
        let mut follow = Follow::new(&self.relay, Instant::now() + wait);
        let mut fine = true;
        for id in &self.queued {
            let event = follow.end_of(id, terminal)?;
            fine &= advice::is_fine(&event);
            if self.which.json {
                terminal.print(&event.to_string());
                continue;
            }
            terminal.print(&format!("{} {}", plain(id), advice::standing(&event)));
            advise(&event, terminal);
        }
        Ok(fine)
    }

    fn path(&self) -> String {
        format!("/api/v1/events/{}", self.command.verb)
    }

    fn body(&self) -> Value {
        let mut body = Value::Object(self.which.selection.members());
        if self.command.force {
            body["force"] = json!(true);
        }
        body
    }

    fn tell(&mut self, result: &Value, terminal: &mut Terminal) -> Result<(), Stop> {
        if matches!(result["status"].as_str(), Some("replayed" | "discarded" | "under_way")) {
            self.done += 1;
        } else {
            self.declined += 1;
        }
        let made = list(result, "events").iter().filter(|event| event["status"] == "queued");
        self.queued.extend(made.map(|event| text(&event["id"])));
        if result["reason"] == WAITING {
            self.waiting.push(text(&result["id"]));
        }
        if self.which.json {
            terminal.print(&result.to_string());
            return Ok(());
        }
        terminal.print(&line(result));
        if result["status"] == "refused"
            && let Some(event) = self.relay.event(&text(&result["id"]))?
            && self.advised.insert(text(&event["reason"]))
        {
            advise(&event, terminal);
        }
        Ok(())
    }
}

/// The result that an answer other than a success is for one event; none where it is about something else.
fn declined(id: &str, answer: &Answer) -> Option<Value> {
    let body = answer.json()?;
    if answer.status == StatusCode::UNPROCESSABLE_ENTITY {
        return Some(json!({ "id": id, "status": "refused", "errors": body.get("errors")? }));
    }
    if answer.status.is_success() {
        return None;
    }
    let reason = body.get("reason")?;
    Some(json!({ "id": id, "status": "declined", "reason": reason, "detail": answer.detail() }))
}

/// A result for a person.
fn line(result: &Value) -> String {
    let said = |value: &Value| plain(&text(value));
    let id = said(&result["id"]);
    match result["status"].as_str() {
        Some("replayed") => {
            let events: Vec<String> = list(result, "events")
                .iter()
                .map(|event| match event["status"].as_str() {
                    Some("queued") => {
                        let (new, action, key) =
                            (said(&event["id"]), said(&event["action"]), said(&event["incident_key"]));
                        format!("{new} queued ({action} of {key})")
                    }
                    Some("duplicate") => format!("a duplicate of {}", said(&event["of"])),
                    Some("refused") => format!("{} refused again", said(&event["id"])),
                    _ => said(&event["status"]),
                })
                .collect();
            format!("{id} replayed: {}", events.join(", "))
        }
        Some("refused") => {
            let errors: Vec<String> = list(result, "errors")
                .iter()
                .map(|error| format!("{}: {}", said(&error["path"]), said(&error["problem"])))
                .collect();
            format!("{id} refused again: {}", errors.join("; "))
        }
        Some("declined") => format!("{id} declined: {}", as_flags(&said(&result["detail"]))),
        Some("under_way") => format!("{id} under way: {}", as_flags(&said(&result["detail"]))),
        _ => format!("{id} {}", said(&result["status"])),
    }
}

fn past(verb: &str) -> &'static str {
    if verb == "replay" { "replayed" } else { "discarded" }
}

/// The reason of the API where an event is queued.
const WAITING: &str = "waiting";
/// More causes than keep events at one time.
const ASKED_MAX: usize = 20;
const NONE_MATCHES: &str = "no event matches: without --state and --outcome a filter is about dead letters and refused \
                            payloads; `--outcome unmatched` or `--state queued` is about others";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_is_a_line() {
        for (result, expected) in [
            (
                json!({"id": "1", "status": "replayed", "events": [
                    {"id": "5", "status": "queued", "action": "trigger", "incident_key": "k\u{1b}"},
                    {"status": "duplicate", "of": "4"}, {"status": "ignored"}]}),
                "1 replayed: 5 queued (trigger of k\\u{1b}), a duplicate of 4, ignored",
            ),
            (json!({"id": "1", "status": "discarded"}), "1 discarded"),
            (
                json!({"id": "1", "status": "under_way", "detail": "it ends after that"}),
                "1 under way: it ends after that",
            ),
            (json!({"id": "1", "status": "declined", "reason": "later_event", "detail": "why"}), "1 declined: why"),
            (
                json!({"id": "1", "status": "refused", "errors": [{"path": "$.state", "problem": "is missing"}]}),
                "1 refused again: $.state: is missing",
            ),
        ] {
            assert_eq!(line(&result), expected);
        }
    }
}
