//! Says why an event stands as it does, and what a person can do about it.

pub(crate) mod connect;
pub(crate) mod decision;
mod ended;
pub(crate) mod filter_verdict;
pub(crate) mod queue;
mod queued;
pub(crate) mod readiness;
pub(crate) mod status;

use serde_json::Value;

use self::readiness::{degradation, degraded};
use crate::event::Reason;
use crate::text::{plain, quoted};

pub(crate) use self::ended::LOOK_THERE;
pub(crate) use self::queued::{left_waiting, of_kept_back, of_queued};

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

/// The list of this name in an answer of the API.
pub(crate) fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Advice on an event as the API or the answer to a sender tells it; none where all is well. `replay`: the newest of its
/// replays.
pub(crate) fn of_event(event: &Value, replay: Option<&Value>, beside: Beside) -> Option<Advice> {
    let advice = ended::of_ended(event, beside)?;
    match newest_of(&event["replayed_by"]) {
        Some(newest) => Some(after_replay(advice, event, newest, replay)),
        None => Some(advice),
    }
}

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

/// The way to the trigger of a resolve that found no incident.
fn look_for_trigger(key: &str) -> String {
    format!(
        "see what became of its trigger: `gander events list --key {}`; then compare `Incident Mapped With` of the Resolve \
         filter with `Map Incident With` of the Trigger filter",
        quoted(&plain(key))
    )
}

/// A sentence on an event that was taken, and of which the admin API could not be asked.
pub(crate) fn left_unasked(id: &str) -> String {
    format!(
        "what was taken is on disk and goes out by itself: once that is mended, `gander events show {}` tells its outcome",
        plain(id)
    )
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
        403 => vec![format!(
            "`sources.{source}.allow_from` leaves this machine out, or the listener asks for a client certificate \
             (`listen.tls.client_ca`), which this command does not send"
        )],
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
    use crate::event::{Action, Outcome, State};

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
