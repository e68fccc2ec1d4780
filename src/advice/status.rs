//! Says how a relay is doing, by what `/api/v1/status` tells: in a sentence, and in notes beside its numbers.

use std::time::Duration;

use serde_json::Value;

use super::list;
use super::readiness::{degraded, of_deliveries};
use crate::clock::WallTime;
use crate::text::{clock, due, grouped, length_of, plain, quoted, since};

/// The calls that failed since one succeeded. One alone, among others that succeed, is told by what becomes of its event.
fn failing(status: &Value) -> Option<&Value> {
    let failed = &status["upstream"]["failed_calls"];
    let count = failed["count"].as_u64()?;
    (count > 1 || is_nothing_delivered(status)).then_some(failed)
}

fn is_nothing_delivered(status: &Value) -> bool {
    status["since_start"]["delivered"] == 0
}

/// The state of things in a sentence.
pub(crate) struct Headline<'a> {
    pub(crate) sentence: String,
    pub(crate) level: Level,
    pub(crate) remedy: Option<String>,
    /// The entry of `degraded`, or the failed calls, that it is about.
    pub(crate) about: Option<&'a Value>,
}

/// The severity of the state of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Well,
    /// Something waits for a person.
    Warning,
    /// Events are not taken, or not delivered.
    Bad,
}

/// The headline. What a person holds back comes first, as no trouble of the upstream keeps it; where that is all that
/// waits, it stands alone.
pub(crate) fn headline(status: &Value, now: WallTime) -> Headline<'_> {
    let beside = beside_holds(status, now);
    let Some(mut held) = held_back(status, now).filter(|_| status["readiness"]["ready"] == true) else {
        return beside;
    };
    if is_all_held(status) {
        return held;
    }
    held.sentence += &format!(" {}", beside.sentence);
    held.remedy = held.remedy.map(|release| match &beside.remedy {
        Some(remedy) => format!("{release}; {remedy}"),
        None => release,
    });
    let level = if beside.level == Level::Bad { Level::Bad } else { held.level };
    Headline { level, about: beside.about.or(held.about), ..held }
}

/// The sources that are held back, and how they are released: `Source s is held back by a person since 12:01 UTC (2 min):
/// 4 events wait for the release.`
fn held_back(status: &Value, now: WallTime) -> Option<Headline<'_>> {
    let holds = source_holds(status);
    let since_when = since(holds.iter().filter_map(|hold| hold["since"].as_str()).min().unwrap_or_default(), now);
    let name = |hold: &Value| plain(hold["source"].as_str().unwrap_or_default());
    let (who, release) = match holds.as_slice() {
        [] => return None,
        [one] => (
            format!("Source {} is held back by a person", name(one)),
            format!("`gander events release --source {}`", quoted(&name(one))),
        ),
        more => (
            format!("{} sources are held back by a person", more.len()),
            "`gander events release --source NAME` for each that `gander events hold` lists".to_owned(),
        ),
    };
    let waits = match held_events(status) {
        0 => "what comes waits for the release".to_owned(),
        1 => "one event waits for the release".to_owned(),
        events => format!("{} events wait for the release", grouped(events)),
    };
    let about = degraded(&status["readiness"]).iter().find(|entry| entry["reason"] == "held");
    let sentence = format!("{who} since {since_when}: {waits}.");
    Some(Headline { sentence, level: Level::Warning, remedy: Some(release), about })
}

fn source_holds(status: &Value) -> Vec<&Value> {
    list(status, "holds").iter().filter(|hold| hold["key"].is_null()).collect()
}

/// The events that a person holds back: by the counts of a queue, or those of the sources that are held, by a status.
fn held_events(answer: &Value) -> u64 {
    let holds = source_holds(answer);
    let is_held = |source: &&Value| holds.iter().any(|hold| hold["source"] == source["name"]);
    let queued = list(answer, "by_source").iter().filter(is_held).filter_map(|source| source["queued"].as_u64());
    let held = list(answer, "sources").iter().filter_map(|source| source["held"].as_u64());
    queued.chain(held).sum()
}

/// Tells that a person holds back all that waits.
pub(crate) fn is_all_held(answer: &Value) -> bool {
    let events = answer["queue"]["events"].as_u64().unwrap_or(0);
    events > 0 && held_events(answer) >= events
}

/// The headline but for the sources that are held.
fn beside_holds(status: &Value, now: WallTime) -> Headline<'_> {
    let entries = degraded(&status["readiness"]);
    let about = |reasons: &[&str]| entries.iter().find(|entry| reasons.iter().any(|reason| entry["reason"] == *reason));
    let of = |entry: &'_ Value, what: &str| {
        format!("{what} since {}", since(entry["since"].as_str().unwrap_or_default(), now))
    };
    let (sentence, level, about) = if status["readiness"]["ready"] != true {
        let entry = about(&["journal", "journal_replaced"]);
        let sentence = match entry {
            Some(entry) => format!("{}: {}.", of(entry, "Events are refused with 503"), detail(entry)),
            None => "Events are not taken: the relay is stopping.".to_owned(),
        };
        (sentence, Level::Bad, entry)
    } else if let Some((entry, why)) = entries.iter().find_map(|entry| Some((entry, of_deliveries(entry)?))) {
        let what = if entry["reason"] == "breaker_open" { "Nothing is delivered" } else { "Deliveries are paused" };
        (format!("{}: {why}.", of(entry, what)), Level::Bad, Some(entry))
    } else if let Some(failed) = failing(status) {
        (failure(failed, now), Level::Bad, Some(failed))
    } else {
        let since = since(status["upstream"]["since"].as_str().unwrap_or_default(), now);
        let count = |section: &str, name: &str| status[section][name].as_u64().unwrap_or(0);
        // The headline has told it.
        let is_told = |entry: &&Value| entry["reason"] == "held" && !source_holds(status).is_empty();
        let but = [
            (
                entries.iter().filter(|entry| !is_told(entry)).count() as u64,
                "one thing is not as it should be",
                "things are not as they should be",
            ),
            (count("kept", "dead"), "a dead letter waits for a person", "dead letters wait for a person"),
            (count("kept", "refused"), "a refused payload waits for a person", "refused payloads wait for a person"),
            (
                count("kept", "unmatched"),
                "one key's last event matched no filter",
                "keys' last events matched no filter",
            ),
            (u64::from(status["kept"].is_null()), "the journal does not answer at once", ""),
        ];
        let but = but.into_iter().filter(|(count, ..)| *count > 0).map(|(count, one, many)| match count {
            1 => format!("; {one}"),
            _ => format!("; {} {many}", grouped(count)),
        });
        let but: String = but.collect();
        let level = if but.is_empty() { Level::Well } else { Level::Warning };
        let how = match is_nothing_delivered(status) {
            true => format!("Ready, since {since}; nothing was delivered since the start"),
            false => format!("Delivering, since {since}"),
        };
        (format!("{how}{but}."), level, None)
    };
    let remedy = about.map(|entry| plain(entry["remedy"].as_str().unwrap_or_default()));
    Headline { sentence, level, remedy, about }
}

/// `The last 4 calls to Callgoose failed, since 12:03 UTC (4 s): unauthorized (401).`
fn failure(failed: &Value, now: WallTime) -> String {
    let at = since(failed["since"].as_str().unwrap_or_default(), now);
    let result = plain(failed["result"].as_str().unwrap_or_default());
    let status = failed["status"].as_u64().map_or_else(String::new, |status| format!(" ({status})"));
    match failed["count"].as_u64() {
        Some(count) if count > 1 => {
            format!("The last {} calls to Callgoose failed, since {at}: {result}{status}.", grouped(count))
        }
        _ => format!("The last call to Callgoose failed, at {at}: {result}{status}."),
    }
}

fn detail(entry: &Value) -> String {
    plain(entry["detail"].as_str().unwrap_or("the log tells why"))
}

/// Tells that all is well: events are taken and delivered, and nothing waits for a person.
pub(crate) fn is_well(status: &Value) -> bool {
    let readiness = &status["readiness"];
    let waits = |name: &str| status["kept"][name].as_u64().is_some_and(|count| count > 0);
    readiness["ready"] == true
        && degraded(readiness).is_empty()
        && failing(status).is_none()
        && !status["kept"].is_null()
        && !["dead", "refused", "unmatched"].into_iter().any(waits)
}

/// `incidents; of 6 more keys the trigger waits`.
pub(crate) fn open(kept: &Value) -> String {
    match kept["open_waiting"].as_u64().unwrap_or(0) {
        0 => "incidents".to_owned(),
        1 => "incidents; of one more key the trigger waits".to_owned(),
        waiting => format!("incidents; of {} more keys the trigger waits", grouped(waiting)),
    }
}

/// `oldest from 12:01 UTC (2 min); sent by about 12:04 UTC`.
pub(crate) fn waiting(status: &Value, now: WallTime) -> String {
    let queue = &status["queue"];
    let oldest = queue["oldest_received_at"].as_str().map(|at| format!("oldest from {}; ", since(at, now)));
    let is_held = degraded(&status["readiness"]).iter().any(|entry| entry["reason"] == "held");
    let held = if is_held && !is_all_held(status) { "; what a person holds back waits longer" } else { "" };
    format!("{}{}{held}", oldest.unwrap_or_default(), until(status, now))
}

/// The recoveries that closed nothing since the start, and where to look; none where there were none. It is no trouble by
/// itself: a person who closes an incident at Callgoose before its recovery comes leaves such an event.
pub(crate) fn not_resolved(status: &Value, now: WallTime) -> Option<String> {
    let start = &status["since_start"];
    let recoveries = match start["not_resolved"].as_u64()? {
        0 => return None,
        1 => "one recovery".to_owned(),
        count => format!("{} recoveries", grouped(count)),
    };
    let last = start["last_not_resolved_at"].as_str().map(|at| format!(", the last at {},", since(at, now)));
    Some(format!(
        "since the start {recoveries}{} found no open incident at Callgoose (`not_resolved`): fine where a person had \
         closed it there. `gander events list --outcome not_resolved` lists them; where an incident is still open, compare \
         `Incident Mapped With` of the Resolve filter with `Map Incident With` of the Trigger filter",
        last.unwrap_or_default()
    ))
}

/// The time by which what waits is sent.
fn until(status: &Value, now: WallTime) -> String {
    let queue = &status["queue"];
    match status["upstream"]["state"].as_str() {
        _ if is_all_held(status) => return "held back by a person until it is released".to_owned(),
        Some("paused") => return "not sent while deliveries are paused".to_owned(),
        Some("breaker_open") => return "not sent while Callgoose does not answer".to_owned(),
        _ => {}
    }
    if let Some(at) = queue["next_attempt_at"].as_str().and_then(WallTime::parse_rfc3339) {
        return match at > now {
            true => format!("next attempt at {}", due(at, now)),
            false => "the next attempt begins now".to_owned(),
        };
    }
    // It is 0 where it was not told anew while something takes longer than was thought.
    match queue["drain_seconds"].as_f64().filter(|seconds| *seconds > 0.0 && *seconds < DRAIN_SECONDS_MAX) {
        Some(seconds) if seconds < SOON_SECONDS => "sent within a minute".to_owned(),
        Some(seconds) => {
            let by = WallTime(now.0.saturating_add((seconds * 1_000.0) as i64));
            format!("sent by about {}", clock(by, now))
        }
        None => "nobody can tell until when".to_owned(),
    }
}

/// `Self check by servicepilot: last came whole at 16:03 UTC (2 min), in 340 ms.` None where it is off.
pub(crate) fn self_check(status: &Value, now: WallTime) -> Option<String> {
    let check = &status["self_check"];
    let source = plain(check["source"].as_str()?);
    let took = check["round_trip_seconds"].as_f64().and_then(|took| Duration::try_from_secs_f64(took).ok());
    let how = match (check["last_success_at"].as_str(), took, check["failing_since"].as_str()) {
        (Some(at), Some(took), _) => format!("last came whole at {}, in {}", since(at, now), length_of(took)),
        (_, _, Some(_)) => "no round came whole since the start".to_owned(),
        _ => "the first round is under way".to_owned(),
    };
    Some(format!("Self check by {source}: {how}."))
}

/// The trouble of a source: held back, over its share, or requests of it were turned away.
pub(crate) fn trouble(source: &Value, status: &Value, now: WallTime) -> String {
    let name = source["name"].as_str().unwrap_or_default();
    let is_held = source_holds(status).iter().any(|hold| hold["source"] == name);
    let mut parts: Vec<String> = is_held.then(|| "held back by a person".to_owned()).into_iter().collect();
    let share = degraded(&status["readiness"]).iter().find(|entry| {
        entry["reason"] == "source_share"
            && entry["detail"].as_str().is_some_and(|detail| detail.starts_with(&format!("source {name}:")))
    });
    parts.extend(share.map(|_| "has its share of the queue, and is told 503".to_owned()));
    parts.extend(turned_away(source, now));
    parts.join("; ")
}

/// `7 turned away, last 16:02 UTC (2 min): not_json`. A stranger's request that came after it is told beside.
fn turned_away(source: &Value, now: WallTime) -> Option<String> {
    let told = |refusal: &Value| {
        let reason = plain(refusal["reason"].as_str().unwrap_or_default());
        Some(format!("{}: {reason}", since(refusal["at"].as_str()?, now)))
    };
    let (last, of_sender) = (&source["last_refused"], &source["last_refused_sender"]);
    let refused = source["refused"].as_u64().map(grouped).unwrap_or_default();
    match told(of_sender).filter(|_| of_sender != last) {
        None => Some(format!("{refused} turned away, last {}", told(last)?)),
        Some(of_sender) => {
            let last = told(last)?;
            Some(format!("{refused} turned away, last with a valid credential {of_sender}; last without one {last}"))
        }
    }
}

/// The screen tells times to the minute.
const SOON_SECONDS: f64 = 60.0;
/// A year: what takes longer is never sent.
const DRAIN_SECONDS_MAX: f64 = 31_536_000.0;

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) const NOW: WallTime = WallTime(1_764_000_240_000);

    pub(crate) fn status() -> Value {
        json!({
            "started_at": "2025-11-24T14:00:00.000Z",
            "readiness": { "ready": true, "degraded": [] },
            "upstream": { "state": "answering", "since": "2025-11-24T14:00:00.000Z", "failed_calls": null },
            "queue": { "events": 0, "drain_seconds": 0.0, "oldest_received_at": null },
            "kept": { "dead": 0, "refused": 0, "unmatched": 0, "open_incidents": 5, "open_waiting": 0 },
            "since_start": { "taken": 1234, "duplicate": 31, "ignored": 0, "delivered": 1230, "unmatched": 0,
                "not_resolved": 0, "last_not_resolved_at": null, "last_delivered_at": "2025-11-24T16:03:58.000Z" },
            "by_source": [{ "name": "servicepilot", "last_event_at": "2025-11-24T16:03:57.000Z", "taken": 1234, "queued": 0,
                "dead": 0, "refused": 0, "last_refused": null }],
            "holds": [],
        })
    }

    pub(crate) fn entry(reason: &str, status: Option<u16>, detail: &str) -> Value {
        json!({ "reason": reason, "since": "2025-11-24T16:00:00.000Z", "status": status, "detail": detail, "remedy": "fix it" })
    }

    #[test]
    fn all_is_well_where_events_are_delivered_and_nothing_waits_for_a_person() {
        let failed = |count: u64| {
            json!({ "count": count, "since": "2025-11-24T16:03:56.000Z", "result": "unauthorized", "status": 401,
                    "remedy": "fix it" })
        };
        for (path, value, sentence, well) in [
            ("/kept/open_waiting", json!(3), "Delivering, since 14:00 UTC (2 h).", true),
            ("/since_start/unmatched", json!(8), "Delivering, since 14:00 UTC (2 h).", true),
            ("/since_start/not_resolved", json!(8), "Delivering, since 14:00 UTC (2 h).", true),
            ("/kept/unmatched", Value::Null, "Delivering, since 14:00 UTC (2 h).", true),
            ("/kept/dead", json!(1), "Delivering, since 14:00 UTC (2 h); a dead letter waits for a person.", false),
            (
                "/kept/refused",
                json!(2),
                "Delivering, since 14:00 UTC (2 h); 2 refused payloads wait for a person.",
                false,
            ),
            (
                "/kept/unmatched",
                json!(8),
                "Delivering, since 14:00 UTC (2 h); 8 keys' last events matched no filter.",
                false,
            ),
            ("/kept", Value::Null, "Delivering, since 14:00 UTC (2 h); the journal does not answer at once.", false),
            (
                "/readiness/degraded",
                json!([entry("held", None, "x")]),
                "Delivering, since 14:00 UTC (2 h); one thing is not as it should be.",
                false,
            ),
            (
                "/since_start/delivered",
                json!(0),
                "Ready, since 14:00 UTC (2 h); nothing was delivered since the start.",
                true,
            ),
            ("/upstream/failed_calls", failed(1), "Delivering, since 14:00 UTC (2 h).", true),
            (
                "/upstream/failed_calls",
                failed(4),
                "The last 4 calls to Callgoose failed, since 16:03 UTC (4 s): unauthorized (401).",
                false,
            ),
        ] {
            let mut status = status();
            *status.pointer_mut(path).unwrap() = value.clone();
            assert_eq!(
                (headline(&status, NOW).sentence.as_str(), is_well(&status)),
                (sentence, well),
                "{path} {value}"
            );
        }
        let mut never = status();
        never["since_start"]["delivered"] = 0.into();
        never["upstream"]["failed_calls"] = failed(1);
        let Headline { sentence, remedy, .. } = headline(&never, NOW);
        assert_eq!(sentence, "The last call to Callgoose failed, at 16:03 UTC (4 s): unauthorized (401).");
        assert_eq!((remedy.as_deref(), is_well(&never)), (Some("fix it"), false));
    }

    #[test]
    fn a_source_that_is_held_is_told_first_with_its_release() {
        let failed = json!({ "count": 4, "since": "2025-11-24T16:03:56.000Z", "result": "connect", "status": null,
                             "remedy": "it is tried again" });
        let told = |events: u64, failed: &Value| {
            let mut status = status();
            status["readiness"]["degraded"] = json!([entry("held", None, "a person holds back source `servicepilot`")]);
            status["holds"] = json!([{ "source": "servicepilot", "key": null, "since": "2025-11-24T16:00:00.000Z" }]);
            status["queue"] = json!({ "events": events, "drain_seconds": null, "next_attempt_at": null,
                                      "oldest_received_at": null });
            status["by_source"][0]["queued"] = 3.into();
            status["upstream"]["failed_calls"] = failed.clone();
            let Headline { sentence, level, remedy, .. } = headline(&status, NOW);
            (sentence, level, remedy.unwrap_or_default(), waiting(&status, NOW))
        };
        let held =
            "Source servicepilot is held back by a person since 16:00 UTC (4 min): 3 events wait for the release.";
        let release = "`gander events release --source servicepilot`";
        let (sentence, level, remedy, waits) = told(3, &failed);
        assert_eq!((sentence.as_str(), level, remedy.as_str()), (held, Level::Warning, release), "all is held");
        assert_eq!(waits, "held back by a person until it is released");
        let (sentence, level, remedy, waits) = told(5, &failed);
        assert_eq!(sentence, format!("{held} The last 4 calls to Callgoose failed, since 16:03 UTC (4 s): connect."));
        assert_eq!((level, remedy), (Level::Bad, format!("{release}; it is tried again")));
        assert_eq!(waits, "nobody can tell until when; what a person holds back waits longer");
        let (sentence, level, remedy, _) = told(5, &Value::Null);
        assert_eq!(sentence, format!("{held} Delivering, since 14:00 UTC (2 h)."));
        assert_eq!((level, remedy.as_str()), (Level::Warning, release));
    }

    #[test]
    fn the_self_check_is_told_where_there_is_one() {
        let said = |check: Value| {
            let mut status = status();
            status["self_check"] = check;
            self_check(&status, NOW)
        };
        let check = |at: Value, took: Value, failing: Value| json!({ "source": "s", "last_success_at": at, "round_trip_seconds": took, "failing_since": failing });
        let whole = json!("2025-11-24T16:02:00.000Z");
        for (told, expected) in [
            (Value::Null, None),
            (check(Value::Null, Value::Null, Value::Null), Some("the first round is under way")),
            (check(Value::Null, Value::Null, whole.clone()), Some("no round came whole since the start")),
            (check(whole, json!(0.34), Value::Null), Some("last came whole at 16:02 UTC (2 min), in 340 ms")),
        ] {
            assert_eq!(said(told), expected.map(|expected| format!("Self check by s: {expected}.")));
        }
    }

    #[test]
    fn recoveries_that_closed_nothing_are_told_with_what_that_means_and_where_to_look() {
        let mut status = status();
        assert_eq!(not_resolved(&status, NOW), None);
        assert_eq!(not_resolved(&json!({}), NOW), None, "an earlier relay does not tell");
        for (count, said) in [(1, "one recovery"), (1_234, "1,234 recoveries")] {
            status["since_start"]["not_resolved"] = count.into();
            status["since_start"]["last_not_resolved_at"] = "2025-11-24T16:00:00.000Z".into();
            let told = not_resolved(&status, NOW).unwrap();
            let begins = format!(
                "since the start {said}, the last at 16:00 UTC (4 min), found no open incident at Callgoose (`not_resolved`)"
            );
            assert!(told.starts_with(&begins), "{told}");
            for part in
                ["fine where a person had closed it", "`gander events list --outcome not_resolved`", "Resolve filter"]
            {
                assert!(told.contains(part), "{part}: {told}");
            }
        }
        assert!(is_well(&status), "it is no trouble by itself");
    }

    #[test]
    fn until_when_what_waits_is_sent_is_told_where_it_can_be() {
        for (state, next, drain, said) in [
            ("answering", None, json!(12.0), "sent within a minute"),
            ("answering", None, json!(90.0), "sent by about 16:05 UTC"),
            ("answering", None, json!(0.0), "nobody can tell until when"),
            ("answering", None, Value::Null, "nobody can tell until when"),
            ("answering", Some("2025-11-24T16:05:40.000Z"), json!(0.4), "next attempt at 16:05:40 UTC"),
            ("answering", Some("2025-11-24T16:04:00.000Z"), Value::Null, "the next attempt begins now"),
            ("paused", None, json!(12.0), "not sent while deliveries are paused"),
            ("breaker_open", Some("2025-11-24T16:05:40.000Z"), json!(12.0), "not sent while Callgoose does not answer"),
        ] {
            let mut status = status();
            status["upstream"]["state"] = state.into();
            status["queue"] =
                json!({ "events": 1, "drain_seconds": drain, "next_attempt_at": next, "oldest_received_at": null });
            assert_eq!(waiting(&status, NOW), said);
            status["readiness"]["degraded"] = json!([entry("held", None, "x")]);
            assert_eq!(waiting(&status, NOW), format!("{said}; what a person holds back waits longer"));
        }
    }
}
