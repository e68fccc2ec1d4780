//! Advice on an event that is still queued: what keeps it, and when it goes out.

use serde_json::Value;

use super::readiness::{degraded, minute, of_deliveries};
use super::{Advice, KEEP_APART, look_for_trigger};
use crate::callgoose::answer::Trouble;
use crate::clock::WallTime;
use crate::event::Outcome;
use crate::text::{plain, quoted, second, up_to_second};

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

/// Advice by an entry of `/readyz`, where that is about deliveries.
fn of_upstream(entry: &Value) -> Option<Advice> {
    let word = |name: &str| entry[name].as_str().map(plain).unwrap_or_default();
    let why = of_deliveries(entry)?;
    let what = if entry["reason"] == "breaker_open" { "nothing is delivered" } else { "deliveries are paused" };
    Some(Advice::new(format!("{what} since {}: {why}", minute(&word("since"))), word("remedy")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
