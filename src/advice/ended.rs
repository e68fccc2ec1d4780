//! Advice on an event that has ended, or was refused, and is not as it should be.

use serde_json::Value;

use super::{Advice, Beside, KEEP_APART, list, look_for_trigger};
use crate::callgoose::answer::Trouble;
use crate::event::{Action, Outcome, Reason};
use crate::journal::dedup::AcceptReason;
use crate::text::plain;

/// Advice on an event that was not replayed.
pub(super) fn of_ended(event: &Value, beside: Beside) -> Option<Advice> {
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

/// A trigger after a resolve of which each call was answered: Callgoose can't have had it before.
fn is_first_of_occurrence(event: &Value) -> bool {
    let calls = list(event, "deliveries");
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
    let last = list(event, "deliveries").last();
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::advice::of_event;

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
}
