//! Says why an event stands as it does, and what a person can do about it.

use serde_json::Value;

use super::readiness::{degradation, degraded, minute, of_deliveries};
use super::terminal::{plain, quoted};
use crate::callgoose::answer::Trouble;
use crate::event::{Outcome, Reason};

/// A reason and what to do about it, each a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) why: String,
    /// None where nothing is to be done.
    pub(super) remedy: Option<String>,
}

impl Advice {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Advice {
        Advice { why: why.into(), remedy: Some(remedy.into()) }
    }

    /// As lines below an event.
    pub(super) fn lines(&self) -> Vec<String> {
        let remedy = self.remedy.iter().map(|remedy| format!("what to do: {remedy}"));
        std::iter::once(format!("why: {}", self.why)).chain(remedy).collect()
    }
}

/// Advice on an event as the API or the answer to a sender tells it; none where all is well.
pub(super) fn of_event(event: &Value) -> Option<Advice> {
    let word = |name: &str| event[name].as_str().unwrap_or_default();
    let id = ["id", "of"].into_iter().map(word).find(|id| !id.is_empty()).map_or_else(|| "ID".to_owned(), plain);
    let state = [word("state"), word("status")].into_iter().find(|state| !state.is_empty()).unwrap_or_default();
    match (word("outcome"), state) {
        ("unmatched", _) if word("action") == "resolve" => Some(Advice::new(
            "Callgoose took it, and no Resolve filter matched: no incident was closed",
            format!(
                "compare what is sent (`gander events show {id}`) with the Resolve filter of the service; then `gander \
                 events replay {id}`"
            ),
        )),
        ("unmatched", _) => Some(Advice::new(
            "Callgoose took it, and none of its API Filters matched: nobody was alerted",
            format!(
                "compare what is sent (`gander events show {id}`) with the filters of the service; then `gander events \
                 replay {id}`"
            ),
        )),
        ("not_resolved", _) => Some(Advice::new(
            "Callgoose has no open incident that is mapped with this key: nothing was closed",
            look_for_trigger(word("incident_key")),
        )),
        ("accepted", _) => Some(Advice::new(
            "Callgoose's answer does not say what came of it",
            "look there; if nothing did, check that `upstream.url` is the endpoint that takes events",
        )),
        (_, "refused") => Some(refused(event, &id)),
        (_, "dead") => Some(dead(word("reason"), &id)),
        (_, "ended") => ended(word("reason"), &id),
        _ => None,
    }
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
                "mend the sender's template; this one stays as it came: save `received` of `gander events show {id} --json`, \
                 correct it, `gander send` it, `gander events discard {id}`"
            ),
        ),
        _ => Advice::new(
            "the rules can't use it",
            format!(
                "`gander explain --event {id}` shows what they see: mend the rules, then `gander events replay {id}`; or \
                 mend the sender's template, for those that come"
            ),
        ),
    }
}

fn dead(reason: &str, id: &str) -> Advice {
    let trouble = |word: &str| match Trouble::read(word) {
        Some(trouble) => trouble.remedy(),
        None => "see the last answer",
    };
    match Reason::read(reason) {
        Reason::Rejected(word) => Advice::new(
            format!("Callgoose rejected it for good ({}); `gander events show {id}` has its answer", plain(&word)),
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
pub(super) fn of_queued(event: &Value, readiness: &Value) -> Advice {
    if let Some(by) = event["held"].as_str() {
        let by = plain(by);
        return Advice::new(format!("a person holds its {by} back"), format!("`gander events release --{by} …`"));
    }
    if let Some(advice) = degraded(readiness).iter().find_map(of_upstream) {
        return advice;
    }
    let result = plain(event["reason"].as_str().unwrap_or_default());
    if result.starts_with(Outcome::NotResolved.as_str()) {
        return Advice::new(
            "Callgoose has no open incident that is mapped with this key; it is tried again (`upstream.retry.unresolved`)",
            look_for_trigger(event["incident_key"].as_str().unwrap_or_default()),
        );
    }
    match Trouble::read(result.split(' ').next().unwrap_or_default()) {
        Some(trouble) => Advice::new(format!("its last call failed: {result}; it is tried again"), trouble.remedy()),
        None => Advice::new(
            "it waits for its turn",
            "`gander events list --state queued` shows what else waits; `upstream.rate_limit` and `concurrency` pace it",
        ),
    }
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
pub(super) fn of_refusal(status: u16, source: &str, readiness: Option<&Value>) -> Vec<String> {
    match status {
        401 => vec![
            "does the relay run with this configuration and these secrets? Its log tells no credential from a \
                     wrong one"
                .to_owned(),
        ],
        403 => vec![format!("`sources.{source}.allow_from` leaves this machine out")],
        404 => vec![format!("the relay that runs knows no source `{source}`: a new one needs a restart")],
        429 | 503 => readiness.map(degraded).unwrap_or_default().iter().flat_map(degradation).collect(),
        _ => Vec::new(),
    }
}

/// Tells an event that did what it should: created, resolved, duplicate or accepted, for a copy as for its original.
pub(super) fn is_fine(event: &Value) -> bool {
    matches!(event["outcome"].as_str(), Some("created" | "resolved" | "duplicate" | "accepted"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_end_that_is_not_well_has_a_reason_and_a_remedy() {
        for (event, why, remedy) in [
            (json!({"id": "7", "state": "delivered", "outcome": "unmatched"}), "nobody was alerted", "replay 7`"),
            (
                json!({"id": "7", "state": "delivered", "outcome": "unmatched", "action": "resolve"}),
                "no incident was closed",
                "Resolve filter",
            ),
            (json!({"status": "duplicate", "of": "7", "outcome": "unmatched"}), "nobody was alerted", "replay 7`"),
            (
                json!({"id": "7", "status": "not_resolved", "outcome": "not_resolved", "incident_key": "a b"}),
                "nothing was closed",
                "--key 'a b'`",
            ),
            (json!({"id": "7", "outcome": "accepted"}), "does not say", "`upstream.url`"),
            (json!({"id": "7", "state": "refused", "reason": "not_json"}), "not JSON", "events discard 7`"),
            (json!({"id": "7", "state": "refused", "reason": "unprocessable"}), "the rules", "explain --event 7`"),
            (json!({"id": "7", "state": "dead", "reason": "rejected: payload"}), "for good (payload)", "compare what"),
            (json!({"id": "7", "state": "dead", "reason": "too_old: dns"}), "the last time by dns", "the host name"),
            (
                json!({"id": "7", "state": "dead", "reason": "damaged: its body could not be read"}),
                "not what was written",
                "disk and memory",
            ),
            (json!({"id": "7", "state": "dead", "reason": "other"}), "other", "discard 7`"),
            (json!({"id": "7", "state": "ended", "reason": "discarded"}), "a person", "--force 7`"),
        ] {
            let advice = of_event(&event).unwrap_or_else(|| panic!("{event}"));
            assert!(advice.why.contains(why), "{event}: {advice:?}");
            assert!(advice.remedy.as_deref().is_some_and(|said| said.contains(remedy)), "{event}: {advice:?}");
        }
        for event in [
            json!({"id": "7", "state": "delivered", "outcome": "created"}),
            json!({"id": "7", "status": "queued"}),
            json!({"status": "ignored", "rule": "r"}),
        ] {
            assert_eq!(of_event(&event), None, "{event}");
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
            (json!({"held": "key"}), &paused, "holds its key", "release"),
            (json!({"reason": "unauthorized (401)"}), &paused, "refuses the token (401)", "check the token"),
            (json!({"reason": "server_error (500)"}), &ready, "server_error (500)", "wait"),
            (json!({"reason": "not_resolved (200)", "incident_key": "k"}), &ready, "no open incident", "--key k`"),
            (json!({"reason": null}), &ready, "its turn", "--state queued"),
        ] {
            let advice = of_queued(&event, readiness);
            assert!(advice.why.contains(why) && !advice.why.contains('\u{1b}'), "{event}: {advice:?}");
            assert!(advice.remedy.as_deref().is_some_and(|said| said.contains(remedy)), "{event}: {advice:?}");
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
