//! Says of what waits how it stands and how long it will take, by what `/api/v1/queue` tells.

use serde_json::{Value, json};

use super::list;
use super::status::{is_all_held, waiting};
use crate::clock::WallTime;
use crate::text::{due, grouped, length, plain};

/// The queue in a sentence: `12 events of 3 keys wait: oldest from 12:01 UTC (2 min); sent by about 12:04 UTC.`
/// Where one source was asked for, it is about that.
pub(crate) fn sentence(answer: &Value, source: Option<&str>, now: WallTime) -> String {
    let entry = source.and_then(|name| list(answer, "sources").iter().find(|entry| entry["source"] == name));
    let scope = entry.map(|entry| json!({ "queue": entry, "upstream": answer["upstream"], "sources": [entry] }));
    let of = entry.map_or_else(String::new, |_| format!(" of source {}", plain(source.unwrap_or_default())));
    let answer = scope.as_ref().unwrap_or(answer);
    let count = |name: &str| answer["queue"][name].as_u64().unwrap_or(0);
    let is_held = list(answer, "sources").iter().any(|source| source["held"].as_u64() > Some(0));
    let held = if is_held && !is_all_held(answer) { "; what a person holds back waits longer" } else { "" };
    let counted = |count: u64, one: &str| match count {
        1 => format!("one {one}"),
        _ => format!("{} {one}s", grouped(count)),
    };
    match (count("events"), count("keys")) {
        (0, _) => format!("Nothing{of} waits."),
        (events, keys) => {
            let verb = if events == 1 { "waits" } else { "wait" };
            let (events, keys) = (counted(events, "event"), counted(keys, "key"));
            let sentence = format!("{events} of {keys}{of} {verb}: {}{held}.", waiting(answer, now));
            sentence[..1].to_uppercase() + &sentence[1..]
        }
    }
}

/// The time until the events of a source, or of a lane, were sent: `4 min`, `unknown` while nobody can tell.
pub(crate) fn drain(entry: &Value) -> String {
    if entry["events"] == 0 {
        return "-".to_owned();
    }
    match entry["drain_seconds"].as_f64() {
        _ if entry["source_held"] == true => "held".to_owned(),
        Some(seconds) => length((seconds.ceil() as u64).max(1)),
        None => "unknown".to_owned(),
    }
}

/// The events of a source that failed, and wait for their turn or for the time of their next attempt.
pub(crate) fn retrying(source: &Value) -> u64 {
    ["retry", "backoff"].into_iter().filter_map(|name| source[name].as_u64()).sum()
}

/// The thing that a key waits for, in words. `upstream` is the answer's: while it is paused, nothing has a turn.
pub(crate) fn standing(key: &Value, upstream: &Value, now: WallTime) -> String {
    let next = key["next_attempt_at"].as_str().and_then(WallTime::parse_rfc3339).filter(|at| *at > now);
    let said = match (key["standing"].as_str().unwrap_or_default(), next) {
        ("fresh" | "backlog" | "retry" | "backoff", _) if upstream["state"] == "paused" => "the pause to end",
        ("fresh" | "backlog" | "retry", _) | ("backoff", None) if upstream["state"] == "breaker_open" => {
            "Callgoose to answer again"
        }
        ("fresh", _) => "its turn",
        ("backlog", _) => "its turn in the backlog",
        ("backoff", Some(at)) => return format!("next attempt at {}", due(at, now)),
        ("retry" | "backoff", _) => "its turn to be tried again",
        ("held", _) => "held back by a person",
        ("under_way", _) => "a call is under way",
        ("settling", _) => "its end is being written down",
        (other, _) => return plain(other),
    };
    said.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::advice::status::tests::NOW;

    #[test]
    fn the_queue_is_told_in_a_sentence() {
        let answer = |events: u64, keys: u64, drain: Value, state: &str, held: u64| {
            json!({
                "queue": { "events": events, "keys": keys, "drain_seconds": drain, "next_attempt_at": null,
                           "oldest_received_at": "2025-11-24T16:01:00.000Z" },
                "upstream": { "state": state },
                "sources": [{ "source": "s", "held": held }],
            })
        };
        for (answer, said) in [
            (answer(0, 0, json!(0.0), "answering", 0), "Nothing waits."),
            (
                answer(1, 1, json!(0.5), "answering", 0),
                "One event of one key waits: oldest from 16:01 UTC (3 min); sent within a minute.",
            ),
            (
                answer(1_234, 56, json!(90.0), "answering", 0),
                "1,234 events of 56 keys wait: oldest from 16:01 UTC (3 min); sent by about 16:05 UTC.",
            ),
            (
                answer(2, 2, Value::Null, "answering", 1),
                "2 events of 2 keys wait: oldest from 16:01 UTC (3 min); nobody can tell until when; what a person \
                 holds back waits longer.",
            ),
            (
                answer(2, 2, json!(5.0), "paused", 0),
                "2 events of 2 keys wait: oldest from 16:01 UTC (3 min); not sent while deliveries are paused.",
            ),
        ] {
            assert_eq!(sentence(&answer, None, NOW), said);
        }
    }

    #[test]
    fn of_one_source_its_own_queue_is_told() {
        let source = |name: &str, events: u64, held: u64, drain: Value| {
            json!({ "source": name, "events": events, "keys": events, "held": held, "drain_seconds": drain,
                    "oldest_received_at": "2025-11-24T16:01:00.000Z" })
        };
        let answer = json!({
            "queue": { "events": 9, "keys": 9, "drain_seconds": 90.0, "next_attempt_at": "2025-11-24T16:05:40.000Z",
                       "oldest_received_at": "2025-11-24T15:01:00.000Z" },
            "upstream": { "state": "answering" },
            "sources": [source("a", 2, 0, json!(5.0)), source("b", 7, 7, Value::Null), source("c", 0, 0, json!(0.0))],
        });
        for (name, said) in [
            ("a", "2 events of 2 keys of source a wait: oldest from 16:01 UTC (3 min); sent within a minute."),
            (
                "b",
                "7 events of 7 keys of source b wait: oldest from 16:01 UTC (3 min); held back by a person until it is \
                 released.",
            ),
            ("c", "Nothing of source c waits."),
        ] {
            assert_eq!(sentence(&answer, Some(name), NOW), said);
        }
    }

    #[test]
    fn a_time_to_drain_is_told_where_there_is_one() {
        for (entry, said) in [
            (json!({ "events": 0, "drain_seconds": 0.0 }), "-"),
            (json!({ "events": 3, "drain_seconds": null }), "unknown"),
            (json!({ "events": 3, "drain_seconds": 0.2 }), "1 s"),
            (json!({ "events": 3, "drain_seconds": 240.0 }), "4 min"),
            (json!({ "events": 3, "drain_seconds": null, "source_held": true }), "held"),
        ] {
            assert_eq!(drain(&entry), said, "{entry}");
        }
    }

    #[test]
    fn a_key_is_told_with_what_it_waits_for() {
        let key = |standing: &str, at: Value| json!({ "standing": standing, "next_attempt_at": at });
        for (key, said) in [
            (key("fresh", Value::Null), "its turn"),
            (key("backoff", json!("2025-11-24T16:05:40.000Z")), "next attempt at 16:05:40 UTC"),
            (key("backoff", json!("2025-11-24T16:03:00.000Z")), "its turn to be tried again"),
            (key("retry", json!("2025-11-24T16:03:00.000Z")), "its turn to be tried again"),
            (key("held", json!("2025-11-24T16:05:40.000Z")), "held back by a person"),
            (key("a\u{7}", Value::Null), "a\\u{7}"),
        ] {
            assert_eq!(standing(&key, &json!({ "state": "answering" }), NOW), said, "{key}");
        }
        let later = json!("2025-11-24T16:05:39.001Z");
        for (state, key, said) in [
            ("answering", key("backoff", later.clone()), "next attempt at 16:05:40 UTC"),
            ("paused", key("backoff", later.clone()), "the pause to end"),
            ("paused", key("retry", Value::Null), "the pause to end"),
            ("paused", key("fresh", Value::Null), "the pause to end"),
            ("paused", key("held", Value::Null), "held back by a person"),
            ("paused", key("under_way", Value::Null), "a call is under way"),
            ("breaker_open", key("retry", Value::Null), "Callgoose to answer again"),
            ("breaker_open", key("backoff", later), "next attempt at 16:05:40 UTC"),
        ] {
            assert_eq!(standing(&key, &json!({ "state": state }), NOW), said, "{state} {key}");
        }
    }
}
