//! Says why an event stands as it does, and what a person can do about it.

pub(crate) mod connect;
pub(crate) mod decision;
pub(crate) mod filter_verdict;
pub(crate) mod queue;
pub(crate) mod readiness;
pub(crate) mod status;

use serde_json::Value;

use self::readiness::{degradation, degraded, minute, of_deliveries};

use crate::callgoose::answer::Trouble;
use crate::clock::WallTime;
use crate::event::{Action, Outcome, Reason};
use crate::journal::dedup::AcceptReason;
use crate::text::{plain, quoted, second, up_to_second};

/// A reason and what to do about it, each a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    pub(crate) why: String,
    /// None where nothing is to be done.
    pub(crate) remedy: Option<String>,
}

/// The text beside the advice: nobody is told to look at text that is on the screen already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// The whole event, as `gander events show` prints it.
    Details,
    /// A line on the event.
    Line,
}

impl Advice {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Advice {
        Advice { why: why.into(), remedy: Some(remedy.into()) }
    }

    /// As lines below an event.
    pub(crate) fn lines(&self) -> Vec<String> {
        let remedy = self.remedy.iter().map(|remedy| format!("what to do: {remedy}"));
        std::iter::once(format!("why: {}", self.why)).chain(remedy).collect()
    }
}

/// Advice on an event as the API or the answer to a sender tells it; none where all is well. `replay`: the newest of its
/// replays.
pub(crate) fn of_event(event: &Value, replay: Option<&Value>, beside: Beside) -> Option<Advice> {
    let advice = of_ended(event, beside)?;
    match newest_of(&event["replayed_by"]) {
        Some(newest) => Some(after_replay(advice, event, newest, replay)),
        None => Some(advice),
    }
}

/// Advice on an event that was not replayed.
fn of_ended(event: &Value, beside: Beside) -> Option<Advice> {
    let word = |name: &str| event[name].as_str().unwrap_or_default();
    let id = ["id", "of"].into_iter().map(word).find(|id| !id.is_empty()).map_or_else(|| "ID".to_owned(), plain);
    let state = [word("state"), word("status")].into_iter().find(|state| !state.is_empty()).unwrap_or_default();
    match (word("outcome"), state) {
        ("unmatched", _) if word("action") == "resolve" => Some(Advice::new(
            "Callgoose took it, and no Resolve filter matched: no incident was closed",
            fix_and_replay("the Resolve filter", &id),
        )),
        ("unmatched", _) => Some(Advice::new(
            "Callgoose took it, and none of its API Filters matched: nobody was alerted",
            fix_and_replay("the API Filters", &id),
        )),
        ("not_resolved", _) => Some(Advice::new(
            "Callgoose has no open incident that is mapped with this key: nothing was closed, which is fine where a person had \
             closed it there",
            format!(
                "{}; where its incident is still open, fix the filter, then `gander events replay {id} --wait`",
                look_for_trigger(word("incident_key"))
            ),
        )),
        ("accepted", _) => Some(Advice::new("Callgoose's answer does not say what came of it", LOOK_THERE)),
        ("duplicate", _) if is_first_of_occurrence(event) => Some(Advice::new(
            "Callgoose took it for a repeat, although it is the first after a resolve: perhaps nobody was alerted",
            format!("{KEEP_APART}; `gander events replay {id} --wait` sends this one again"),
        )),
        (_, "refused") => Some(refused(event, &id)),
        (_, "dead") => Some(dead(event, &id, beside)),
        (_, "ended") => ended(word("reason"), &id),
        _ => None,
    }
}

/// The remedy where an answer of Callgoose does not say what came of a call.
pub(crate) const LOOK_THERE: &str =
    "look there; if nothing did, check that `upstream.url` is the endpoint that takes events";

/// Advice on an event of which there is a newer one: what becomes of it is up to that.
fn after_replay(advice: Advice, event: &Value, newest: &str, replay: Option<&Value>) -> Advice {
    let id = plain(replay.and_then(|replay| replay["id"].as_str()).unwrap_or(newest));
    let replayed = match Reason::read(event["reason"].as_str().unwrap_or_default()) {
        Reason::Replayed => advice.why,
        _ => format!("{}; it was replayed", advice.why),
    };
    Advice {
        why: match replay {
            Some(replay) => format!("{replayed} as {id}: {}", standing(replay)),
            None => format!("{replayed} as {id}"),
        },
        remedy: (!replay.is_some_and(is_fine)).then(|| format!("`gander events show {id}` says how the replay stands")),
    }
}

/// An event's state in words: `delivered, created`, `queued, last try: duplicate (200)`.
pub(crate) fn standing(event: &Value) -> String {
    let said = |name: &str| plain(event[name].as_str().unwrap_or_default());
    let [state, outcome, reason] = ["state", "outcome", "reason"].map(said);
    let words = match state.as_str() {
        "queued" if !reason.is_empty() => vec![state, format!("last try: {reason}")],
        // An answer to a sender that waited has the outcome as its state.
        _ if state == outcome => vec![state, reason],
        _ => vec![state, outcome, reason],
    };
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The newest id of a list of replays.
fn newest_of(replayed_by: &Value) -> Option<&str> {
    replayed_by.as_array()?.last()?.as_str()
}

/// A trigger after a resolve of which each call was answered: Callgoose can't have had it before.
fn is_first_of_occurrence(event: &Value) -> bool {
    let calls = event["deliveries"].as_array().map(Vec::as_slice).unwrap_or_default();
    event["action"] == Action::Trigger.as_str()
        && event["novelty"] == AcceptReason::Reopening.as_str()
        && calls.iter().all(|call| call["result"] == Outcome::Duplicate.as_str())
}

fn fix_and_replay(filters: &str, id: &str) -> String {
    format!(
        "`gander explain --event {id}` shows what is sent, and why; fix {filters} of the service, then `gander events \
         replay {id} --wait`"
    )
}

fn look_for_trigger(key: &str) -> String {
    format!(
        "see what became of its trigger: `gander events list --key {}`; then compare `Incident Mapped With` of the Resolve \
         filter with `Map Incident With` of the Trigger filter",
        quoted(&plain(key))
    )
}

fn refused(event: &Value, id: &str) -> Advice {
    match event["reason"].as_str() {
        Some("not_json") => Advice::new(
            "it is not JSON",
            format!(
                "fix the sender's template, or write `json: lenient` for its source where the answer names that. For this one: \
                 `gander events show {id} --raw` into a file, correct it, `gander events replay {id} --payload FILE`; or \
                 `gander events discard {id}`"
            ),
        ),
        Some("body_too_large") => Advice::new(
            "it is larger than `listen.max_body`; this is its beginning",
            format!(
                "raise `listen.max_body`, or let the sender send fewer alerts at once; read what is kept, alert by hand \
                 where nobody was, then `gander events discard {id}`"
            ),
        ),
        Some("content_type" | "charset" | "content_encoding") => Advice::new(
            "its headers say that it is no JSON that can be read",
            format!(
                "let the sender post UTF-8 with `Content-Type: application/json`, uncompressed, or the source take what it \
                 posts (`accept: [json, form]`, `accept_encoding: [gzip]`); `gander events replay {id}` then takes this one"
            ),
        ),
        _ => Advice::new(
            "the rules can't use it",
            format!(
                "`gander explain --event {id}` shows what they see: fix the rules, then `gander events replay {id}`; or \
                 fix the sender's template, for those that come"
            ),
        ),
    }
}

fn dead(event: &Value, id: &str, beside: Beside) -> Advice {
    let reason = event["reason"].as_str().unwrap_or_default();
    let last = event["deliveries"].as_array().and_then(|calls| calls.last());
    let status = last.and_then(|call| call["status"].as_u64());
    let status = status.map_or_else(String::new, |status| format!(", {status}"));
    let trouble = |word: &str| match Trouble::read(word) {
        Some(trouble) => trouble.remedy(),
        None => "see the last answer",
    };
    match Reason::read(reason) {
        Reason::Rejected(word) => Advice::new(
            match beside {
                Beside::Details => format!("Callgoose rejected it for good ({}{status})", plain(&word)),
                Beside::Line => {
                    format!(
                        "Callgoose rejected it for good ({}{status}); `gander events show {id}` has its answer",
                        plain(&word)
                    )
                }
            },
            format!("{}: `gander events replay {id}`, `gander events discard {id}`", trouble(&word)),
        ),
        Reason::TooOld(word) => Advice::new(
            format!("it failed for `upstream.retry.give_up_after`, the last time by {}", plain(&word)),
            format!("{}; then `gander events replay {id}`", trouble(&word)),
        ),
        Reason::Damaged(_) => Advice::new(
            "it is not what was written, and so is never sent",
            format!("check disk and memory of this machine; `gander events discard {id}`"),
        ),
        _ => Advice::new(
            plain(reason),
            format!("`gander events replay {id}` sends it again, `gander events discard {id}` ends it"),
        ),
    }
}

fn ended(reason: &str, id: &str) -> Option<Advice> {
    let (why, remedy) = match Reason::read(reason) {
        Reason::Stale => ("it was older than `delivery.stale.trigger`, and its resolve waited behind it", None),
        Reason::Superseded => ("later events of its key made it pointless (`delivery.superseded`)", None),
        Reason::Discarded => {
            ("a person discarded it", Some(format!("`gander events replay --force {id}` sends it nevertheless")))
        }
        Reason::Replayed => ("a person had it replayed", None),
        _ => return None,
    };
    Some(Advice { why: why.to_owned(), remedy })
}

/// Advice on an event that is still queued. `readiness` is the answer of `/readyz`.
pub(crate) fn of_queued(event: &Value, readiness: &Value, now: WallTime) -> Advice {
    if let (Some(since), true) = (call_since(event, now), event["reason"].is_null()) {
        let remedy = "wait: without an answer the call ends after `upstream.timeout`, and is made again";
        return Advice::new(format!("its call is under way since {since}; no answer yet"), remedy);
    }
    if let Some(advice) = of_kept_back(event, readiness) {
        return advice;
    }
    let key = event["incident_key"].as_str().unwrap_or_default();
    let result = plain(event["reason"].as_str().unwrap_or_default());
    let word = result.split(' ').next().unwrap_or_default();
    let again = again(event, now);
    match (word.parse(), Trouble::read(word)) {
        (Ok(Outcome::NotResolved), _) => Advice::new(
            format!(
                "Callgoose has no open incident that is mapped with this key, or none yet; it is sent {again} \
                 (`upstream.retry.unresolved`)"
            ),
            look_for_trigger(key),
        ),
        (Ok(Outcome::Duplicate), _) => Advice::new(
            format!(
                "Callgoose took it for a repeat, although it is the first after a resolve: perhaps nobody is alerted yet; \
                 it is sent {again} (`upstream.retry.unresolved`)"
            ),
            KEEP_APART,
        ),
        (Ok(_), _) => Advice { why: format!("Callgoose answered: {result}; that is being written down"), remedy: None },
        (_, Some(trouble)) => {
            Advice::new(format!("its last call failed: {result}; it is tried {again}"), trouble.remedy())
        }
        (_, None) => Advice::new(
            "it waits for its turn, behind an earlier event of its key or behind other keys",
            format!(
                "`gander events list --state queued --key {}` shows what else waits of its key; `upstream.rate_limit` and \
                 `concurrency` pace what goes out",
                quoted(&plain(key))
            ),
        ),
    }
}

/// Advice on a queued event that does not go out in its turn: a person holds it back, or nothing is delivered now.
pub(crate) fn of_kept_back(event: &Value, readiness: &Value) -> Option<Advice> {
    let Some(by) = event["held"].as_str() else {
        return degraded(readiness).iter().find_map(of_upstream);
    };
    let by = plain(by);
    let [source, key] = ["source", "incident_key"].map(|name| plain(event[name].as_str().unwrap_or_default()));
    let key = if by == "key" { format!(" --key {}", quoted(&key)) } else { String::new() };
    let release = format!("`gander events release --source {}{key}`", quoted(&source));
    Some(Advice::new(format!("a person holds its {by} back"), release))
}

/// When the call of an event began that is under way, if one is.
fn call_since(event: &Value, now: WallTime) -> Option<String> {
    Some(second(WallTime::parse_rfc3339(event["call_since"].as_str()?)?, now))
}

/// When an event goes out again: `again at 2026-01-02 03:04:05 UTC`.
fn again(event: &Value, now: WallTime) -> String {
    if let Some(since) = call_since(event, now) {
        return format!("again just now, by a call that is under way since {since}");
    }
    match event["next_attempt_at"].as_str().and_then(WallTime::parse_rfc3339) {
        Some(at) if at > now => format!("again at {}", up_to_second(at).to_second()),
        _ => "again as soon as its turn comes".to_owned(),
    }
}

/// A sentence on an event that is left waiting. `readiness` as above.
pub(crate) fn left_waiting(event: &Value, readiness: &Value, now: WallTime) -> String {
    let id = plain(event["id"].as_str().unwrap_or_default());
    let due = event["next_attempt_at"].as_str().and_then(WallTime::parse_rfc3339).filter(|at| *at > now);
    if let Some(since) = call_since(event, now) {
        return format!("event {id} is still queued: its call is under way since {since}, and has no answer yet");
    }
    let then = match due {
        _ if event["held"].is_string() => "goes out when it is released".to_owned(),
        _ if degraded(readiness).iter().any(|entry| of_deliveries(entry).is_some()) => {
            "goes out when Callgoose takes events again".to_owned()
        }
        Some(at) => format!("its next attempt is due at {}", up_to_second(at).to_second()),
        None => "goes out as soon as its turn comes".to_owned(),
    };
    format!("event {id} is still queued: it is kept, and {then}")
}

/// A sentence on an event that was taken, and of which the admin API could not be asked.
pub(crate) fn left_unasked(id: &str) -> String {
    format!(
        "what was taken is on disk and goes out by itself: once that is mended, `gander events show {}` tells its outcome",
        plain(id)
    )
}

/// Advice by an entry of `/readyz`, where that is about deliveries.
fn of_upstream(entry: &Value) -> Option<Advice> {
    let word = |name: &str| entry[name].as_str().map(plain).unwrap_or_default();
    let why = of_deliveries(entry)?;
    let what = if entry["reason"] == "breaker_open" { "nothing is delivered" } else { "deliveries are paused" };
    Some(Advice::new(format!("{what} since {}: {why}", minute(&word("since"))), word("remedy")))
}

/// Advice on a request that the relay answered with an error, beside what the answer says. `readiness` as above, where it
/// could be asked.
pub(crate) fn of_refusal(status: u16, source: &str, readiness: Option<&Value>) -> Vec<String> {
    match status {
        401 => vec![
            "does the relay run with this configuration and these secrets? Its log says whether it saw no `credential`, or \
                     a wrong one"
                .to_owned(),
        ],
        403 => vec![format!("`sources.{source}.allow_from` leaves this machine out")],
        404 => vec![format!("the relay that runs knows no source `{source}`: a new one needs a restart")],
        429 | 503 => readiness.map(degraded).unwrap_or_default().iter().flat_map(degradation).collect(),
        _ => Vec::new(),
    }
}

/// Tells an event that did what it should: created, resolved, duplicate or accepted, for a copy as for its original.
pub(crate) fn is_fine(event: &Value) -> bool {
    matches!(event["outcome"].as_str(), Some("created" | "resolved" | "duplicate" | "accepted"))
}

/// Callgoose's window for repeats compares bodies.
const KEEP_APART: &str = "let the body carry the alert's start time (`startTime` under `emit`), which keeps one occurrence \
                          apart from the one before";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::State;

    #[test]
    fn each_end_that_is_not_well_has_a_reason_and_a_remedy() {
        for (event, why, remedy) in [
            (
                json!({"id": "7", "state": "delivered", "outcome": "unmatched"}),
                "nobody was alerted",
                "replay 7 --wait`",
            ),
            (
                json!({"id": "7", "state": "delivered", "outcome": "unmatched", "action": "resolve"}),
                "no incident was closed",
                "Resolve filter",
            ),
            (
                json!({"status": "duplicate", "of": "7", "outcome": "unmatched"}),
                "nobody was alerted",
                "replay 7 --wait`",
            ),
            (
                json!({"id": "7", "status": "not_resolved", "outcome": "not_resolved", "incident_key": "a b"}),
                "nothing was closed",
                "--key 'a b'`",
            ),
            (
                json!({"id": "7", "state": "delivered", "outcome": "duplicate", "action": "trigger",
                       "novelty": "reopening", "deliveries": [{"result": "duplicate"}, {"result": "duplicate"}]}),
                "first after a resolve: perhaps nobody was alerted",
                "start time",
            ),
            (json!({"id": "7", "outcome": "accepted"}), "does not say", "`upstream.url`"),
            (json!({"id": "7", "state": "refused", "reason": "not_json"}), "not JSON", "events discard 7`"),
            (json!({"id": "7", "state": "refused", "reason": "unprocessable"}), "the rules", "explain --event 7`"),
            (json!({"id": "7", "state": "refused", "reason": "body_too_large"}), "its beginning", "`listen.max_body`"),
            (json!({"id": "7", "state": "refused", "reason": "content_type"}), "its headers", "events replay 7`"),
            (json!({"id": "7", "state": "dead", "reason": "rejected: payload"}), "for good (payload)", "compare what"),
            (
                json!({"id": "7", "state": "dead", "reason": "rejected: payload",
                       "deliveries": [{"result": "busy", "status": 503}, {"result": "payload", "status": 418}]}),
                "for good (payload, 418)",
                "compare what",
            ),
            (json!({"id": "7", "state": "dead", "reason": "too_old: dns"}), "the last time by dns", "the host name"),
            (
                json!({"id": "7", "state": "dead", "reason": "damaged: its body could not be read"}),
                "not what was written",
                "disk and memory",
            ),
            (json!({"id": "7", "state": "dead", "reason": "other"}), "other", "discard 7`"),
            (json!({"id": "7", "state": "ended", "reason": "discarded"}), "a person", "--force 7`"),
        ] {
            let advice = of_event(&event, None, Beside::Line).unwrap_or_else(|| panic!("{event}"));
            assert!(advice.why.contains(why), "{event}: {advice:?}");
            assert!(advice.remedy.as_deref().is_some_and(|said| said.contains(remedy)), "{event}: {advice:?}");
        }
        for event in [
            json!({"id": "7", "state": "delivered", "outcome": "created"}),
            json!({"id": "7", "status": "queued"}),
            json!({"status": "ignored", "rule": "r"}),
            json!({"id": "7", "state": "delivered", "outcome": "duplicate", "action": "trigger", "novelty": "reminder"}),
            // Perhaps the call that was not answered opened it.
            json!({"id": "7", "state": "delivered", "outcome": "duplicate", "action": "trigger", "novelty": "reopening",
                   "deliveries": [{"result": "timeout"}, {"result": "duplicate"}]}),
        ] {
            assert_eq!(of_event(&event, None, Beside::Line), None, "{event}");
        }
    }

    /// Every event that can be, with its id 7.
    fn events() -> Vec<Value> {
        let outcomes =
            Outcome::ALL.map(|outcome| (State::Delivered, Some(outcome.as_str()), vec![None, Some("stale")]));
        let dead = ["rejected: payload", "too_old: dns", "damaged: its body could not be read", "other"].map(Some);
        let ended = ["stale", "superseded", "discarded", "replayed"].map(Some);
        let queued = ["duplicate (200)", "not_resolved (202)", "connect"].map(Some);
        let rest = [
            (State::Dead, None, dead.to_vec()),
            (State::Ended, None, ended.to_vec()),
            (State::Refused, None, ["not_json", "unprocessable", "body_too_large", "charset"].map(Some).to_vec()),
            (State::Queued, None, std::iter::once(None).chain(queued).collect()),
        ];
        let all = outcomes.into_iter().chain(rest);
        all.flat_map(|(state, outcome, reasons)| {
            let each = |action: Action| {
                let of = move |reason: &Option<&str>| {
                    json!({"id": "7", "state": state.as_str(), "outcome": outcome, "reason": reason,
                           "action": action.as_str(), "incident_key": "k", "novelty": "reopening"})
                };
                reasons.iter().map(of).collect::<Vec<_>>()
            };
            Action::ALL.into_iter().flat_map(each).collect::<Vec<_>>()
        })
        .collect()
    }

    #[test]
    fn a_remedy_is_one_that_the_event_admits_and_names_nothing_that_was_done_or_is_shown() {
        let replayed = json!({"id": "9", "state": "delivered", "outcome": "created"});
        let missed = json!({"id": "9", "state": "delivered", "outcome": "unmatched"});
        for mut event in events() {
            let lines = |event: &Value, replay: Option<&Value>, beside| {
                of_event(event, replay, beside).map(|advice| advice.lines().join("\n"))
            };
            let plain = lines(&event, None, Beside::Details);
            let admits = match event["state"].as_str() {
                Some("queued") => [false, false],
                Some("delivered") => [true, false],
                Some("ended") => [event["reason"] == "discarded", false],
                _ => [true, true],
            };
            for (verb, admits) in ["replay", "discard"].into_iter().zip(admits) {
                let named = plain.as_deref().is_some_and(|text| text.contains(&format!("gander events {verb}")));
                assert!(admits || !named, "{verb}: {event}: {plain:?}");
            }
            let shown = plain.as_deref().unwrap_or_default().replace("`gander events show 7 --raw`", "");
            assert!(!shown.contains("gander events show 7"), "the command that was typed: {event}: {shown}");
            let is_well = is_fine(&event) && event["outcome"] != "accepted" || event["state"] == "queued";
            let is_repeat = event["outcome"] == "duplicate" && event["action"] == "trigger";
            assert_eq!(plain.is_none(), is_well && !is_repeat, "{event}: {plain:?}");

            event["replayed_by"] = json!(["8", "9"]);
            for (replay, is_done) in [(None, false), (Some(&replayed), true), (Some(&missed), false)] {
                let Some(text) = lines(&event, replay, Beside::Details) else {
                    assert!(plain.is_none(), "{event}");
                    continue;
                };
                assert!(text.contains("replayed as 9"), "{event}: {text}");
                assert!(!text.contains("gander events replay") && !text.contains("discard 7"), "{event}: {text}");
                assert_eq!(!text.contains("what to do"), is_done, "{event}: {text}");
            }
        }
    }

    #[test]
    fn the_state_of_an_event_is_told_in_few_words() {
        for (event, said) in [
            (json!({"state": "delivered", "outcome": "created"}), "delivered, created"),
            (json!({"state": "delivered", "outcome": "created", "reason": "stale"}), "delivered, created, stale"),
            (json!({"state": "queued", "reason": "duplicate (200)"}), "queued, last try: duplicate (200)"),
            (json!({"state": "queued"}), "queued"),
            (json!({"state": "unmatched", "outcome": "unmatched"}), "unmatched"),
            (json!({"state": "dead", "reason": "too_old: dns"}), "dead, too_old: dns"),
        ] {
            assert_eq!(standing(&event), said);
        }
    }

    #[test]
    fn what_keeps_a_queued_event_is_said_with_the_remedy() {
        let paused = json!({"degraded": [
            {"reason": "config_reload", "since": "t", "detail": "x", "remedy": "y"},
            {"reason": "upstream_auth", "since": "t", "status": 401, "detail": "unauthorized\u{1b}", "remedy": "check the token"},
        ]});
        let ready = json!({"ready": true, "degraded": []});
        for (event, readiness, why, remedy) in [
            (
                json!({"held": "key", "incident_key": "a b", "source": "s"}),
                &paused,
                "holds its key",
                "`gander events release --source s --key 'a b'`",
            ),
            (
                json!({"held": "source", "incident_key": "a b", "source": "s"}),
                &paused,
                "holds its source",
                "`gander events release --source s`",
            ),
            (json!({"reason": "unauthorized (401)"}), &paused, "refuses the token (401)", "check the token"),
            (json!({"reason": "server_error (500)"}), &ready, "server_error (500)", "wait"),
            (json!({"reason": "not_resolved (200)", "incident_key": "k"}), &ready, "no open incident", "--key k`"),
            (
                json!({"reason": "not_resolved (200)", "next_attempt_at": "2026-01-02T03:04:05.000Z"}),
                &ready,
                "sent again at 2026-01-02 03:04:05 UTC",
                "`Incident Mapped With`",
            ),
            (
                json!({"reason": "duplicate (200)", "next_attempt_at": "2026-01-02T03:04:05.000Z"}),
                &ready,
                "took it for a repeat, although it is the first after a resolve: perhaps nobody is alerted yet; it is sent \
                 again at 2026-01-02 03:04:05 UTC",
                "start time",
            ),
            (
                json!({"reason": "connect", "next_attempt_at": "2026-01-02T03:04:04.000Z"}),
                &ready,
                "connect; it is tried again as soon as its turn comes",
                "firewall",
            ),
            (json!({"reason": null}), &ready, "it waits for its turn", "--state queued"),
            (
                json!({"reason": null, "held": "key", "call_since": "2026-01-02T03:04:01.000Z"}),
                &ready,
                "its call is under way since 03:04:01 UTC; no answer yet",
                "`upstream.timeout`",
            ),
            (
                json!({"reason": "connect", "call_since": "2026-01-02T03:04:01.000Z"}),
                &ready,
                "connect; it is tried again just now, by a call that is under way since 03:04:01 UTC",
                "firewall",
            ),
        ] {
            let now = WallTime::parse_rfc3339("2026-01-02T03:04:04.500Z").unwrap();
            let advice = of_queued(&event, readiness, now);
            assert!(advice.why.contains(why) && !advice.why.contains('\u{1b}'), "{event}: {advice:?}");
            assert!(advice.remedy.as_deref().is_some_and(|said| said.contains(remedy)), "{event}: {advice:?}");
        }
    }

    #[test]
    fn what_is_left_waiting_is_told_when_it_goes_out() {
        let now = WallTime::parse_rfc3339("2026-01-02T03:04:04.500Z").unwrap();
        let down = json!({"degraded": [{"reason": "breaker_open"}]});
        let up = json!({"degraded": [{"reason": "events_failing"}]});
        let due = json!({"id": "7", "next_attempt_at": "2026-01-02T03:05:00.000Z"});
        let held = json!({"id": "7", "held": "key", "next_attempt_at": "2026-01-02T03:05:00.000Z"});
        for (event, readiness, said) in [
            (&due, &up, "its next attempt is due at 2026-01-02 03:05:00 UTC"),
            (&due, &down, "goes out when Callgoose takes events again"),
            (&held, &down, "goes out when it is released"),
            (&json!({"id": "7"}), &up, "goes out as soon as its turn comes"),
            (
                &json!({"id": "7", "next_attempt_at": "2026-01-02T03:04:00.000Z"}),
                &up,
                "goes out as soon as its turn comes",
            ),
        ] {
            let sentence = left_waiting(event, readiness, now);
            assert_eq!(sentence, format!("event 7 is still queued: it is kept, and {said}"));
        }
        let called = json!({"id": "7", "call_since": "2026-01-02T03:04:01.000Z"});
        assert_eq!(
            left_waiting(&called, &up, now),
            "event 7 is still queued: its call is under way since 03:04:01 UTC, and has no answer yet"
        );
    }

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
}
