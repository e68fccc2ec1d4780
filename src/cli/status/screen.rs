//! Draws the status of a relay as text: a sentence, numbers, a line for each source, remedies.

use serde_json::Value;

use crate::advice::list;
use crate::advice::readiness::{degradation, degraded};
use crate::advice::status::{Headline, Level, headline, not_resolved, open, self_check, trouble, waiting};
use crate::cli::terminal::{Paint, painted, plain, table};
use crate::clock::WallTime;
use crate::text::{grouped, since};

/// The whole screen, for a person at `now`.
pub(super) fn draw(status: &Value, now: WallTime, colour: bool) -> String {
    let Headline { sentence, level, remedy, about } = headline(status, now);
    let mut lines = vec![painted(&sentence, paint(level), colour)];
    lines.extend(remedy.map(|remedy| format!("-> {remedy}")));
    lines.push(String::new());
    lines.extend(numbers(status, now, colour));
    lines.push(String::new());
    lines.extend(sources(status, now, colour));
    lines.extend(not_resolved(status, now).map(|told| format!("\n{told}")));
    lines.extend(handshakes(status));
    lines.extend(self_check(status, now).map(|told| format!("\n{told}")));
    for entry in degraded(&status["readiness"]).iter().filter(|entry| Some(*entry) != about) {
        let [what, remedy] = degradation(entry);
        lines.extend([String::new(), painted(&what, Paint::Yellow, colour), remedy]);
    }
    lines.join("\n")
}

fn paint(level: Level) -> Paint {
    match level {
        Level::Well => Paint::Green,
        Level::Warning => Paint::Yellow,
        Level::Bad => Paint::Red,
    }
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
            to_do(
                &kept["unmatched"],
                "keys whose last event matched no filter: gander events list --outcome unmatched",
            ),
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

/// A line for each source, under a heading.
fn sources(status: &Value, now: WallTime, colour: bool) -> Vec<String> {
    let head = ["SOURCE", "LAST EVENT", "TAKEN", "WAITING", "DEAD", "TROUBLE"].map(str::to_owned).to_vec();
    let rows = list(status, "by_source").iter().map(|source| {
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

/// The connections that ended before their first request.
fn handshakes(status: &Value) -> Option<String> {
    let count = status["failed_handshakes"].as_u64().filter(|count| *count > 0)?;
    Some(format!(
        "\nsince the start {} ended in the TLS handshake or the PROXY header, or without a request after it: the log names who, and why",
        if count == 1 { "one connection".to_owned() } else { format!("{} connections", grouped(count)) }
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::advice::status::tests::{NOW, entry, status};

    #[test]
    fn connections_that_ended_in_the_handshake_are_counted_where_there_are_any() {
        let with = |count: u64| {
            let status = json!({ "failed_handshakes": count });
            handshakes(&status)
        };
        assert_eq!((with(0), handshakes(&json!({}))), (None, None));
        assert!(with(1).unwrap().contains(" one connection ended in the TLS handshake"));
        assert!(with(1_234).unwrap().contains(" 1,234 connections ended in the TLS handshake"));
        let mut status = status();
        status["failed_handshakes"] = 3.into();
        assert!(draw(&status, NOW, false).contains("\n\nsince the start 3 connections ended"));
    }

    #[test]
    fn recoveries_that_closed_nothing_are_shown_where_there_are_any() {
        let mut status = status();
        status["since_start"]["not_resolved"] = 2.into();
        status["since_start"]["last_not_resolved_at"] = "2025-11-24T16:00:00.000Z".into();
        let text = draw(&status, NOW, false);
        assert!(text.starts_with("Delivering, since 14:00 UTC (2 h).\n"), "{text}");
        assert!(
            text.contains("\n\nsince the start 2 recoveries, the last at 16:00 UTC (4 min), found no open"),
            "{text}"
        );
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
        let remedy = Some("fix it".to_owned());
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
    fn what_waits_and_what_is_not_as_it_should_be_is_told_with_what_to_do() {
        let mut status = status();
        let share = entry("source_share", None, "source servicepilot: 14 events queued");
        status["readiness"]["degraded"] = json!([entry("upstream_auth", Some(401), "unauthorized"), share]);
        status["upstream"]["state"] = "paused".into();
        status["queue"] =
            json!({ "events": 14, "drain_seconds": 90.0, "oldest_received_at": "2025-11-24T16:01:00.000Z" });
        status["kept"] = json!({ "dead": 2, "refused": 1, "unmatched": 3, "open_incidents": 4, "open_waiting": 6 });
        status["since_start"]["unmatched"] = 8.into();
        status["holds"] = json!([{ "source": "servicepilot", "key": null, "since": "2025-11-24T16:00:00.000Z" }]);
        status["by_source"][0]["refused"] = 7.into();
        status["by_source"][0]["last_refused"] = json!({ "at": "2025-11-24T16:02:00.000Z", "reason": "not_json" });
        let text = draw(&status, NOW, false);
        for line in [
            "Source servicepilot is held back by a person since 16:00 UTC (4 min): what comes waits for the release. ",
            "Deliveries are paused since 16:00 UTC (4 min): Callgoose refuses the token (401); unauthorized.\n\
             -> `gander events release --source servicepilot`; fix it\n",
            "waiting            14  oldest from 16:01 UTC (3 min); not sent while deliveries are paused\n",
            "dead                2  gander events list --state dead\n",
            "unmatched           3  keys whose last event matched no filter: gander events list --outcome unmatched\n",
            "open                4  incidents; of 6 more keys the trigger waits\n",
            "0     held back by a person; has its share of the queue, and is told 503; 7 turned away, last 16:02 UTC (2 min): not_json\n",
            "\nsource_share since 2025-11-24 16:00 UTC: source servicepilot: 14 events queued\n-> fix it",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(text.matches("upstream_auth").count(), 0, "it is told once");
        status["by_source"][0]["last_refused_sender"] = status["by_source"][0]["last_refused"].take();
        status["by_source"][0]["last_refused"] =
            json!({ "at": "2025-11-24T16:03:00.000Z", "reason": "not_authenticated" });
        let told = "7 turned away, last with a valid credential 16:02 UTC (2 min): not_json; last without one 16:03 UTC (60 \
                    s): not_authenticated\n";
        assert!(draw(&status, NOW, false).contains(told), "a stranger hides no sender: {}", draw(&status, NOW, false));
        status["kept"] = Value::Null;
        assert!(draw(&status, NOW, false).contains("\nopen                ?  incidents\n"));
        status["kept"] = json!({ "dead": 2 });
        assert!(draw(&status, NOW, true).contains("\u{1b}[33mdead                2"));
    }
}
