//! Draws the status of a relay as text: a sentence, numbers, a line for each source, remedies.

use serde_json::Value;

use crate::cli::readiness::{degradation, degraded, of_deliveries};
use crate::cli::terminal::{Paint, painted, plain, table};
use crate::clock::WallTime;

/// The whole screen, for a person at `now`.
pub(super) fn draw(status: &Value, now: WallTime, colour: bool) -> String {
    let Headline { sentence, paint, remedy, about } = headline(status, now);
    let mut lines = vec![painted(&sentence, paint, colour)];
    lines.extend(remedy.map(|remedy| format!("-> {remedy}")));
    lines.push(String::new());
    lines.extend(numbers(status, now, colour));
    lines.push(String::new());
    lines.extend(sources(status, now, colour));
    for entry in degraded(&status["readiness"]).iter().filter(|entry| Some(*entry) != about) {
        let [what, remedy] = degradation(entry);
        lines.extend([String::new(), painted(&what, Paint::Yellow, colour), remedy]);
    }
    lines.join("\n")
}

/// Tells that all is well: events are taken and delivered, and nothing waits for a person.
pub(super) fn is_well(status: &Value) -> bool {
    let readiness = &status["readiness"];
    let waits = |name: &str| status["kept"][name].as_u64().is_some_and(|count| count > 0);
    readiness["ready"] == true
        && degraded(readiness).is_empty()
        && failing(status).is_none()
        && !status["kept"].is_null()
        && !["dead", "refused", "unmatched"].into_iter().any(waits)
}

/// The calls that failed since one succeeded. One alone, among others that succeed, is told by what becomes of its event.
fn failing(status: &Value) -> Option<&Value> {
    let failed = &status["upstream"]["failed_calls"];
    let count = failed["count"].as_u64()?;
    (count > 1 || is_nothing_delivered(status)).then_some(failed)
}

fn is_nothing_delivered(status: &Value) -> bool {
    status["since_start"]["delivered"] == 0
}

/// How things are, in a sentence.
struct Headline<'a> {
    sentence: String,
    paint: Paint,
    remedy: Option<String>,
    /// The entry of `degraded`, or the failed calls, that it is about.
    about: Option<&'a Value>,
}

fn headline(status: &Value, now: WallTime) -> Headline<'_> {
    let entries = degraded(&status["readiness"]);
    let about = |reasons: &[&str]| entries.iter().find(|entry| reasons.iter().any(|reason| entry["reason"] == *reason));
    let of = |entry: &'_ Value, what: &str| {
        format!("{what} since {}", since(entry["since"].as_str().unwrap_or_default(), now))
    };
    let (sentence, paint, about) = if status["readiness"]["ready"] != true {
        let entry = about(&["journal", "journal_replaced"]);
        let sentence = match entry {
            Some(entry) => format!("{}: {}.", of(entry, "Events are refused with 503"), detail(entry)),
            None => "Events are not taken: the relay is stopping.".to_owned(),
        };
        (sentence, Paint::Red, entry)
    } else if let Some((entry, why)) = entries.iter().find_map(|entry| Some((entry, of_deliveries(entry)?))) {
        let what = if entry["reason"] == "breaker_open" { "Nothing is delivered" } else { "Deliveries are paused" };
        (format!("{}: {why}.", of(entry, what)), Paint::Red, Some(entry))
    } else if let Some(failed) = failing(status) {
        (failure(failed, now), Paint::Red, Some(failed))
    } else {
        let since = since(status["upstream"]["since"].as_str().unwrap_or_default(), now);
        let count = |section: &str, name: &str| status[section][name].as_u64().unwrap_or(0);
        let but = [
            (entries.len() as u64, "one thing is not as it should be", "things are not as they should be"),
            (count("kept", "dead"), "a dead letter waits for a person", "dead letters wait for a person"),
            (count("kept", "refused"), "a refused payload waits for a person", "refused payloads wait for a person"),
            (count("kept", "unmatched"), "one event matched no filter", "events matched no filter"),
            (u64::from(status["kept"].is_null()), "the journal does not answer at once", ""),
        ];
        let but = but.into_iter().filter(|(count, ..)| *count > 0).map(|(count, one, many)| match count {
            1 => format!("; {one}"),
            _ => format!("; {} {many}", grouped(count)),
        });
        let but: String = but.collect();
        let paint = if but.is_empty() { Paint::Green } else { Paint::Yellow };
        let how = match is_nothing_delivered(status) {
            true => format!("Ready, since {since}; nothing was delivered since the start"),
            false => format!("Delivering, since {since}"),
        };
        (format!("{how}{but}."), paint, None)
    };
    let remedy = about.map(|entry| plain(entry["remedy"].as_str().unwrap_or_default()));
    Headline { sentence, paint, remedy, about }
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

/// Numbers, each with what it means or what to do.
fn numbers(status: &Value, now: WallTime, colour: bool) -> Vec<String> {
    let (start, queue, kept) = (&status["since_start"], &status["queue"], &status["kept"]);
    let started = since(status["started_at"].as_str().unwrap_or_default(), now);
    let last = |time: &Value, word: &str| time.as_str().map(|at| format!("{word} {}", since(at, now)));
    let waits = queue["events"].as_u64().unwrap_or(0) > 0;
    let to_do = |count: &Value, command: &str| (count.as_u64().unwrap_or(0) > 0).then(|| command.to_owned());
    let rows = [
        ("taken", &start["taken"], Some(format!("since the start {started}")), false),
        ("duplicates", &start["duplicate"], None, false),
        ("ignored", &start["ignored"], None, false),
        ("delivered", &start["delivered"], last(&start["last_delivered_at"], "last"), false),
        ("waiting", &queue["events"], waits.then(|| waiting(status, now)), false),
        ("dead", &kept["dead"], to_do(&kept["dead"], "gander events list --state dead"), true),
        ("refused", &kept["refused"], to_do(&kept["refused"], "gander events list --state refused"), true),
        (
            "unmatched",
            &kept["unmatched"],
            to_do(&kept["unmatched"], "no filter there matched: gander events list --outcome unmatched"),
            true,
        ),
        ("open", &kept["open_incidents"], Some(open(kept)), false),
    ];
    let cells = rows.iter().map(|(name, count, note, _)| {
        let count = count.as_u64().map_or_else(|| "?".to_owned(), grouped);
        vec![(*name).to_owned(), format!("{count:>9}"), note.clone().unwrap_or_default()]
    });
    let lines = table(&cells.collect::<Vec<_>>());
    let worries = |count: &Value, worry: bool| worry && count.as_u64().is_some_and(|count| count > 0);
    let painted = |(line, (_, count, _, worry)): (String, &(_, &Value, _, bool))| match worries(count, *worry) {
        true => painted(&line, Paint::Yellow, colour),
        false => line,
    };
    lines.into_iter().zip(&rows).map(painted).collect()
}

/// `incidents; of 6 more keys the trigger waits`.
fn open(kept: &Value) -> String {
    match kept["open_waiting"].as_u64().unwrap_or(0) {
        0 => "incidents".to_owned(),
        1 => "incidents; of one more key the trigger waits".to_owned(),
        waiting => format!("incidents; of {} more keys the trigger waits", grouped(waiting)),
    }
}

/// `oldest from 12:01 UTC (2 min); sent by about 12:04 UTC`.
fn waiting(status: &Value, now: WallTime) -> String {
    let queue = &status["queue"];
    let oldest = queue["oldest_received_at"].as_str().map(|at| format!("oldest from {}; ", since(at, now)));
    let is_held = degraded(&status["readiness"]).iter().any(|entry| entry["reason"] == "held");
    let held = if is_held { "; what a person holds back waits longer" } else { "" };
    format!("{}{}{held}", oldest.unwrap_or_default(), until(status, now))
}

/// Until when what waits is sent.
fn until(status: &Value, now: WallTime) -> String {
    let queue = &status["queue"];
    match status["upstream"]["state"].as_str() {
        Some("paused") => return "not sent while deliveries are paused".to_owned(),
        Some("breaker_open") => return "not sent while Callgoose does not answer".to_owned(),
        _ => {}
    }
    if let Some(at) = queue["next_attempt_at"].as_str().and_then(WallTime::parse_rfc3339) {
        return match at > now {
            true => format!("next attempt at {}", second(at, now)),
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

/// A line for each source, under a heading.
fn sources(status: &Value, now: WallTime, colour: bool) -> Vec<String> {
    let head = ["SOURCE", "LAST EVENT", "TAKEN", "WAITING", "DEAD", "TROUBLE"].map(str::to_owned).to_vec();
    let by_source = status["by_source"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = by_source.iter().map(|source| {
        let count = |name: &str| source[name].as_u64().map_or_else(|| "?".to_owned(), grouped);
        let last =
            source["last_event_at"].as_str().map_or_else(|| "none since the start".to_owned(), |at| since(at, now));
        let name = plain(source["name"].as_str().unwrap_or_default());
        vec![name, last, count("taken"), count("queued"), count("dead"), trouble(source, status, now)]
    });
    let lines = table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    let mut lines = lines.into_iter();
    let head = lines.next().map(|head| painted(&head, Paint::Dim, colour));
    head.into_iter().chain(lines).collect()
}

/// The trouble of a source: held back, over its share, or requests of it were turned away.
fn trouble(source: &Value, status: &Value, now: WallTime) -> String {
    let name = source["name"].as_str().unwrap_or_default();
    let holds = status["holds"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_held = holds.iter().any(|hold| hold["source"] == name && hold["key"].is_null());
    let mut parts: Vec<String> = is_held.then(|| "held back by a person".to_owned()).into_iter().collect();
    let share = degraded(&status["readiness"]).iter().find(|entry| {
        entry["reason"] == "source_share"
            && entry["detail"].as_str().is_some_and(|detail| detail.starts_with(&format!("source {name}:")))
    });
    parts.extend(share.map(|_| "has its share of the queue, and is told 503".to_owned()));
    if let Some(at) = source["last_refused"]["at"].as_str() {
        let reason = plain(source["last_refused"]["reason"].as_str().unwrap_or_default());
        let refused = source["refused"].as_u64().map(grouped).unwrap_or_default();
        parts.push(format!("{refused} turned away, last {}: {reason}", since(at, now)));
    }
    parts.join("; ")
}

/// A time and how long ago it was: `12:03 UTC (4 min)`.
fn since(time: &str, now: WallTime) -> String {
    match WallTime::parse_rfc3339(time) {
        Some(at) => format!("{} ({})", clock(at, now), length(now.since(at).as_secs())),
        None => plain(time),
    }
}

/// A time to the minute, with its day where that is another one.
fn clock(at: WallTime, now: WallTime) -> String {
    let (at, now) = (at.rfc3339(), now.rfc3339());
    match (at.get(..10), at.get(11..16)) {
        (day, Some(minute)) if day == now.get(..10) => format!("{minute} UTC"),
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => at,
    }
}

/// A time to the second, with its day where that is another one.
fn second(at: WallTime, now: WallTime) -> String {
    let (time, today) = (at.to_second(), now.to_second());
    match (time.split_once(' '), today.split_once(' ')) {
        (Some((day, second)), Some((today, _))) if day == today => second.to_owned(),
        _ => time,
    }
}

/// A length of time in its largest unit.
fn length(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The screen tells times to the minute.
const SOON_SECONDS: f64 = 60.0;
/// A year: what takes longer is never sent.
const DRAIN_SECONDS_MAX: f64 = 31_536_000.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: WallTime = WallTime(1_764_000_240_000);

    fn status() -> Value {
        json!({
            "started_at": "2025-11-24T14:00:00.000Z",
            "readiness": { "ready": true, "degraded": [] },
            "upstream": { "state": "answering", "since": "2025-11-24T14:00:00.000Z", "failed_calls": null },
            "queue": { "events": 0, "drain_seconds": 0.0, "oldest_received_at": null },
            "kept": { "dead": 0, "refused": 0, "unmatched": 0, "open_incidents": 5, "open_waiting": 0 },
            "since_start": { "taken": 1234, "duplicate": 31, "ignored": 0, "delivered": 1230, "unmatched": 0,
                "last_delivered_at": "2025-11-24T16:03:58.000Z" },
            "by_source": [{ "name": "servicepilot", "last_event_at": "2025-11-24T16:03:57.000Z", "taken": 1234, "queued": 0,
                "dead": 0, "refused": 0, "last_refused": null }],
            "holds": [],
        })
    }

    fn entry(reason: &str, status: Option<u16>, detail: &str) -> Value {
        json!({ "reason": reason, "since": "2025-11-24T16:00:00.000Z", "status": status, "detail": detail, "remedy": "mend it" })
    }

    #[test]
    fn where_all_is_well_one_screen_says_so() {
        assert_eq!(
            draw(&status(), NOW, false),
            "Delivering, since 14:00 UTC (2 h).\n\
             \n\
             taken           1,234  since the start 14:00 UTC (2 h)\n\
             duplicates         31\n\
             ignored             0\n\
             delivered       1,230  last 16:03 UTC (2 s)\n\
             waiting             0\n\
             dead                0\n\
             refused             0\n\
             unmatched           0\n\
             open                5  incidents\n\
             \n\
             SOURCE        LAST EVENT       TAKEN  WAITING  DEAD  TROUBLE\n\
             servicepilot  16:03 UTC (3 s)  1,234  0        0"
        );
    }

    #[test]
    fn the_first_sentence_says_how_things_are_and_since_when() {
        let sentence = |entries: &[Value], ready: bool, dead: u64| {
            let mut status = status();
            status["readiness"] = json!({ "ready": ready, "degraded": entries });
            status["kept"]["dead"] = dead.into();
            let Headline { sentence, remedy, .. } = headline(&status, NOW);
            (sentence, remedy)
        };
        let remedy = Some("mend it".to_owned());
        for (entries, ready, dead, expected, with_remedy) in [
            (
                vec![entry("journal", None, "disk_full: no room")],
                false,
                0,
                "Events are refused with 503 since 16:00 UTC (4 min): disk_full: no room.",
                true,
            ),
            (vec![], false, 0, "Events are not taken: the relay is stopping.", false),
            (
                vec![entry("upstream_auth", Some(401), "unauthorized")],
                true,
                0,
                "Deliveries are paused since 16:00 UTC (4 min): Callgoose refuses the token (401); unauthorized.",
                true,
            ),
            (
                vec![entry("upstream_proxy", Some(403), "proxy_refused: http://p:1: no")],
                true,
                0,
                "Deliveries are paused since 16:00 UTC (4 min): the proxy does not let the calls through (403); \
                 proxy_refused: http://p:1: no.",
                true,
            ),
            (
                vec![entry("upstream_tls", None, "tls_issuer: x")],
                true,
                0,
                "Deliveries are paused since 16:00 UTC (4 min): no TLS connection to Callgoose can be made; tls_issuer: x.",
                true,
            ),
            (
                vec![entry("upstream_endpoint", Some(301), "endpoint: Location: https://x")],
                true,
                0,
                "Deliveries are paused since 16:00 UTC (4 min): what answers is not the endpoint that takes events (301); endpoint: Location: https://x.",
                true,
            ),
            (
                vec![entry("held", None, "x"), entry("breaker_open", None, "connect: refused")],
                true,
                3,
                "Nothing is delivered since 16:00 UTC (4 min): Callgoose fails again and again, or can't be reached; \
                 connect: refused.",
                true,
            ),
            (
                vec![entry("held", None, "x")],
                true,
                3,
                "Delivering, since 14:00 UTC (2 h); one thing is not as it should be; 3 dead letters wait for a person.",
                false,
            ),
            (vec![], true, 3, "Delivering, since 14:00 UTC (2 h); 3 dead letters wait for a person.", false),
        ] {
            let told = sentence(&entries, ready, dead);
            assert_eq!(told, (expected.to_owned(), remedy.clone().filter(|_| with_remedy)));
        }
    }

    #[test]
    fn all_is_well_where_events_are_delivered_and_nothing_waits_for_a_person() {
        let failed = |count: u64| {
            json!({ "count": count, "since": "2025-11-24T16:03:56.000Z", "result": "unauthorized", "status": 401,
                    "remedy": "mend it" })
        };
        for (path, value, sentence, well) in [
            ("/kept/open_waiting", json!(3), "Delivering, since 14:00 UTC (2 h).", true),
            ("/since_start/unmatched", json!(8), "Delivering, since 14:00 UTC (2 h).", true),
            ("/kept/unmatched", Value::Null, "Delivering, since 14:00 UTC (2 h).", true),
            ("/kept/dead", json!(1), "Delivering, since 14:00 UTC (2 h); a dead letter waits for a person.", false),
            (
                "/kept/refused",
                json!(2),
                "Delivering, since 14:00 UTC (2 h); 2 refused payloads wait for a person.",
                false,
            ),
            ("/kept/unmatched", json!(8), "Delivering, since 14:00 UTC (2 h); 8 events matched no filter.", false),
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
        assert_eq!((remedy.as_deref(), is_well(&never)), (Some("mend it"), false));
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

    #[test]
    fn what_waits_and_what_is_not_as_it_should_be_is_told_with_what_to_do() {
        let mut status = status();
        let share = entry("source_share", None, "source servicepilot: 14 events queued");
        status["readiness"]["degraded"] = json!([entry("upstream_auth", Some(401), "unauthorized"), share]);
        status["upstream"]["state"] = "paused".into();
        status["queue"] =
            json!({ "events": 14, "drain_seconds": 90.0, "oldest_received_at": "2025-11-24T16:01:00.000Z" });
        status["kept"] = json!({ "dead": 2, "refused": 1, "unmatched": 3, "open_incidents": 4, "open_waiting": 6 });
        status["since_start"]["unmatched"] = 8.into();
        status["holds"] = json!([{ "source": "servicepilot", "key": null }]);
        status["by_source"][0]["refused"] = 7.into();
        status["by_source"][0]["last_refused"] = json!({ "at": "2025-11-24T16:02:00.000Z", "reason": "not_json" });
        let text = draw(&status, NOW, false);
        for line in [
            "Deliveries are paused since 16:00 UTC (4 min): Callgoose refuses the token (401); unauthorized.\n-> mend it\n",
            "waiting            14  oldest from 16:01 UTC (3 min); not sent while deliveries are paused\n",
            "dead                2  gander events list --state dead\n",
            "unmatched           3  no filter there matched: gander events list --outcome unmatched\n",
            "open                4  incidents; of 6 more keys the trigger waits\n",
            "0     held back by a person; has its share of the queue, and is told 503; 7 turned away, last 16:02 UTC (2 min): not_json\n",
            "\nsource_share since 2025-11-24 16:00 UTC: source servicepilot: 14 events queued\n-> mend it",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(text.matches("upstream_auth").count(), 0, "it is told once");
        status["kept"] = Value::Null;
        assert!(draw(&status, NOW, false).contains("\nopen                ?  incidents\n"));
        status["kept"] = json!({ "dead": 2 });
        assert!(draw(&status, NOW, true).contains("\u{1b}[33mdead                2"));
    }

    #[test]
    fn another_day_is_named_and_lengths_are_short() {
        assert_eq!(since("2025-11-22T16:00:00.000Z", NOW), "2025-11-22 16:00 UTC (2 d)");
        assert_eq!([119, 120, 7_200, 172_800].map(length), ["119 s", "2 min", "2 h", "2 d"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
