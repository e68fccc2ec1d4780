//! The self check: rounds that come whole, and what is told where one does not.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Process, setup};
use crate::relay::{Relay, Setup, TOKEN, UPSTREAM_TOKEN, payload, within, write_configuration};
use crate::upstream::{Reply, Upstream};

const KEY: &str = "gander-self-check";

/// A relay whose self check goes round each second.
fn checked(section: &str) -> Setup {
    Setup { sections: vec![section.to_owned()], ..setup() }
}

const OFTEN: &str = "self_check: { source: servicepilot, every: 1s, limit: 60s }";
/// A relay with these sections that tries at once what its upstream takes again.
fn impatient(sections: &[&str]) -> Setup {
    let mut setup = setup();
    setup.upstream.push("breaker: { failures: 5, open: 100ms }".to_owned());
    Setup { sections: sections.iter().map(|&section| section.to_owned()).collect(), ..setup }
}

/// Rules that find the same occurrence in each round.
const SAME_OCCURRENCE: &str = "\noccurrence: [$.servicepilot_event_id]\n";
/// One round at the start, and then none.
const ONCE: &str = "self_check: { source: servicepilot, every: 24h, limit: 60s }";

/// The value of a series.
async fn metric(relay: &Relay, series: &str) -> f64 {
    value_of(&relay.admin("/metrics").await.json, series)
}

/// Waits until a counter has come so far: it may be further before anybody looks.
async fn metric_reaches(relay: &Relay, series: &str, least: f64) {
    relay.admin_once("/metrics", |text| value_of(text, series) >= least).await;
}

fn value_of(metrics: &Value, series: &str) -> f64 {
    let text = metrics.as_str().unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

fn result(label: &str) -> String {
    format!("gander_self_check_total{{result=\"{label}\"}}")
}

/// The entry of `/readyz` about the self check once there is one. `takes`: events are taken all the same.
async fn failed(relay: &Relay, takes: bool) -> Value {
    let ready = relay.admin_once("/readyz", |ready| check_of(ready).is_some()).await;
    assert_eq!(ready["ready"], takes);
    check_of(&ready).unwrap().clone()
}

fn check_of(ready: &Value) -> Option<&Value> {
    ready["degraded"].as_array()?.iter().find(|entry| entry["reason"] == "self_check_failed")
}

fn is_whole(status: &Value) -> bool {
    let check = &status["self_check"];
    check["last_success_at"].is_string() && check["failing_since"].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_and_its_resolve_go_the_whole_way_again_and_again() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &checked(OFTEN)).await;
        let calls = upstream.calls_once(4).await;
        let short: Vec<String> = calls.iter().take(4).map(|call| call.short()).collect();
        let [trigger, resolve] = ["CRITICAL", "OK"].map(|state| format!("{KEY} {state}"));
        assert_eq!(short, [&*trigger, &*resolve, &*trigger, &*resolve]);
        // Callgoose takes two equal requests for one.
        assert_ne!(calls[0].body, calls[2].body);
        assert!(calls[0].body["startTime"].as_str().unwrap().starts_with("20"), "{:?}", calls[0].body);

        let status = relay.admin_once("/api/v1/status", is_whole).await;
        let check = &status["self_check"];
        assert_eq!((&check["source"], &check["every_seconds"]), (&json!("servicepilot"), &json!(1.0)), "{check}");
        assert!(check["round_trip_seconds"].as_f64().unwrap() < 60.0, "{check}");
        assert!(metric(&relay, &result("success")).await >= 1.0);
        assert!(metric(&relay, "gander_self_check_round_trip_seconds_count").await >= 1.0);
        assert!(metric(&relay, "gander_self_check_last_success_timestamp_seconds").await > 1.7e9);
        assert!(metric(&relay, "gander_self_check_failing").await.abs() < f64::EPSILON);

        // Found by its mark, whoever looks.
        let events = relay.admin(&format!("/api/v1/events?request={KEY}")).await.json;
        let event = &events["events"][0];
        assert_eq!((&event["incident_key"], &event["source"]), (&json!(KEY), &json!("servicepilot")), "{events}");
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_by_default_and_sends_nothing() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &setup()).await;
        relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=60")]).await;
        assert_eq!(upstream.calls().iter().map(|call| call.short()).collect::<Vec<_>>(), ["e1 CRITICAL"]);
        let status = relay.admin("/api/v1/status").await.json;
        assert_eq!(status["self_check"], Value::Null);
        for label in ["success", "rules", "journal", "timeout", "unmatched", "not_resolved", "accepted", "ended"] {
            assert!(metric(&relay, &result(label)).await.abs() < f64::EPSILON, "{label}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_told_with_a_remedy_and_what_waits_is_cleared_away_when_it_is_right() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(401)).await;
        let often = "self_check: { source: servicepilot, every: 2s, limit: 2s }";
        let retry = vec!["breaker: { failures: 5, open: 100ms }".to_owned()];
        let relay = Relay::start(&upstream, &Setup { upstream: retry, ..checked(often) }).await;
        let entry = failed(&relay, true).await;
        assert_eq!(entry["detail"], "source servicepilot: the trigger was not delivered within 2.0 s", "{entry}");
        assert!(entry["remedy"].as_str().unwrap().contains("`gander doctor`"), "{entry}");
        assert!(entry["since"].is_string(), "{entry}");
        assert!(metric(&relay, &result("timeout")).await >= 1.0);
        assert!((metric(&relay, "gander_self_check_failing").await - 1.0).abs() < f64::EPSILON);
        // However often that is told, one trigger waits.
        metric_reaches(&relay, &result("timeout"), 2.0).await;
        let queued = relay.admin("/api/v1/events?state=queued").await.json;
        assert_eq!(queued["events"].as_array().map(Vec::len), Some(1), "{queued}");

        upstream.follow(|_, _| Reply::Done);
        relay.admin_once("/readyz", |ready| check_of(ready).is_none()).await;
        assert!(metric(&relay, "gander_self_check_failing").await.abs() < f64::EPSILON);
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_other_end_is_told_by_its_name() {
    within(async {
        let done = |created: bool| json!({ "triggered": { "created": created, "duplicate": false } });
        let unmatched = Reply::json(202, &done(false));
        let not_resolved = Reply::json(200, &json!({ "resolved": { "resolved": false, "duplicate": false } }));
        for (trigger, resolve, label, detail) in [
            (unmatched, Reply::Done, "unmatched", "matched no filter at Callgoose"),
            (Reply::Done, not_resolved, "not_resolved", "found no open incident at Callgoose"),
            (Reply::status(422), Reply::Done, "ended", "is dead: rejected: payload"),
        ] {
            let by_state = move |call: &crate::upstream::Call, _: usize| match call.state() {
                "CRITICAL" => trigger.clone(),
                _ => resolve.clone(),
            };
            let upstream = Upstream::start(by_state).await;
            let at_once = vec!["retry: { unresolved: { attempts: 0, over: 1s } }".to_owned()];
            let relay = Relay::start(&upstream, &Setup { upstream: at_once, ..checked(ONCE) }).await;
            let entry = failed(&relay, true).await;
            assert!(entry["detail"].as_str().unwrap().ends_with(detail), "{entry}");
            assert!((metric(&relay, &result(label)).await - 1.0).abs() < f64::EPSILON, "{label}");
            relay.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rules_do_not_make_a_pair_of_is_told_and_nothing_is_sent() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let section = "self_check:
  source: servicepilot
  every: 24h
  trigger: { servicepilot_event_id: a, state: CRITICAL }
  resolve: { servicepilot_event_id: b, state: OK }";
        let relay = Relay::start(&upstream, &checked(section)).await;
        let entry = failed(&relay, true).await;
        let expected = "source servicepilot: the resolve: the trigger has the key `a`, this another";
        assert_eq!(entry["detail"], expected, "{entry}");
        assert!(entry["remedy"].as_str().unwrap().contains("`self_check.trigger`"), "{entry}");
        assert_eq!(upstream.calls().len(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_is_told_and_not_pressed() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let sections = vec!["journal: { max_events: 1 }".to_owned()];
        let relay = Relay::start(&upstream, &Setup { sections, ..setup() }).await;
        relay.post(&payload("e1", "CRITICAL")).await;
        // It waits for delivery: the next start finds the journal full.
        let directory = relay.stop().await;
        let sections = vec!["journal: { max_events: 1 }".to_owned(), OFTEN.to_owned()];
        let begun = Instant::now();
        let relay = Relay::start_in(directory, &upstream, &Setup { sections, ..setup() }).await;
        let entry = failed(&relay, false).await;
        assert_eq!(entry["detail"], "source servicepilot: the trigger was not taken: backlog", "{entry}");
        metric_reaches(&relay, &result("journal"), 3.0).await;
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1_900), "three rounds, one a second, within {took:?}");
        let events = relay.admin("/api/v1/events").await.json;
        assert_eq!(events["events"].as_array().map(Vec::len), Some(1), "{events}");
        assert_ne!(events["events"][0]["incident_key"], KEY, "{events}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_the_check_is_discarded_by_it_and_no_other_is() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(422)).await;
        let relay = Relay::start(&upstream, &checked(OFTEN)).await;
        relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=60")]).await;
        metric_reaches(&relay, &result("ended"), 3.0).await;
        // The newest may be discarded at this moment.
        let of_check = relay.admin(&format!("/api/v1/events?request={KEY}")).await.json;
        let states: Vec<&str> =
            of_check["events"].as_array().unwrap().iter().filter_map(|event| event["state"].as_str()).collect();
        let not_ended = states.iter().filter(|state| **state != "ended").count();
        assert!(states.len() >= 3 && not_ended <= 1, "{of_check}");
        let dead = relay.admin("/api/v1/events?state=dead").await.json;
        let dead: Vec<&Value> =
            dead["events"].as_array().unwrap().iter().filter(|event| event["incident_key"] != KEY).collect();
        assert_eq!(dead.len(), 1, "{dead:?}");
        let commands = relay.admin("/api/v1/commands").await.json;
        let command = &commands["commands"][0];
        assert_eq!((&command["command"], &command["by"]), (&json!("discard"), &json!("self check")), "{commands}");
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_passes_for_a_duplicate_of_the_one_before_is_told_as_that() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let rules = Some(crate::pages::read("config/rules/servicepilot.yaml") + SAME_OCCURRENCE);
        let relay = Relay::start(&upstream, &Setup { rules, ..checked(OFTEN) }).await;
        let entry = failed(&relay, true).await;
        let detail = entry["detail"].as_str().unwrap();
        let expected = "source servicepilot: the trigger was not sent: it passes for a duplicate of event ";
        assert!(detail.starts_with(expected), "{entry}");
        assert!(entry["remedy"].as_str().unwrap().contains("`$time`"), "{entry}");
        assert!(metric(&relay, &result("rules")).await >= 1.0);
        assert!((metric(&relay, &result("success")).await - 1.0).abs() < f64::EPSILON, "the first round came whole");
        assert_eq!(upstream.calls().len(), 2);
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_in_the_middle_of_a_round_left_open_is_resolved_by_the_next() {
    within(async {
        // The trigger is delivered, its resolve fails until the stop.
        let upstream = Upstream::start(|call, _| match call.state() {
            "CRITICAL" => Reply::Done,
            _ => Reply::status(503),
        })
        .await;
        let relay = Relay::start(&upstream, &checked(ONCE)).await;
        upstream.calls_once(2).await;
        let directory = relay.stop().await;
        let before = upstream.calls().len();
        upstream.follow(|_, _| Reply::Done);
        let relay = Relay::start_in(directory, &upstream, &checked(ONCE)).await;
        relay.admin_once("/api/v1/status", is_whole).await;
        let calls: Vec<String> = upstream.calls()[before..].iter().map(|call| call.short()).collect();
        // The resolve that waited, then a round; whatever came between, nothing is left open.
        assert_eq!(calls.first(), Some(&format!("{KEY} OK")), "{calls:?}");
        assert_eq!(calls.last(), Some(&format!("{KEY} OK")), "{calls:?}");
        let open = relay.admin("/api/v1/incidents").await.json;
        assert_eq!(open["incidents"], json!([]), "{open}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_was_left_open_is_cleared_away_before_a_round_counts() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &setup()).await;
        // As a check left it that was stopped between its two events.
        let mut left = payload(KEY, "CRITICAL");
        left["severity"] = "LOW".into();
        relay.post_with(&left, &[("prefer", "wait=60")]).await;
        let directory = relay.stop().await;
        let relay = Relay::start_in(directory, &upstream, &checked(ONCE)).await;
        relay.admin_once("/api/v1/status", is_whole).await;
        let states: Vec<String> = upstream.calls().iter().map(|call| call.state().to_owned()).collect();
        assert_eq!(states, ["CRITICAL", "OK", "CRITICAL", "OK"]);
        assert!((metric(&relay, &result("success")).await - 1.0).abs() < f64::EPSILON, "one round came whole");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_stops_in_the_middle_of_a_round() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let relay = Relay::start(&upstream, &checked(ONCE)).await;
        upstream.calls_once(1).await;
        // It asserts that this is done within the limit.
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_switches_it_on_and_off() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(write_configuration(folder.path(), &upstream, &setup())).await;
        assert_eq!(process.admin("/api/v1/status").await.json["self_check"], Value::Null);
        write_configuration(folder.path(), &upstream, &checked(ONCE));
        process.signal("HUP");
        let status = process.admin_once("/api/v1/status", is_whole).await;
        assert_eq!(status["reload"]["restart_needed"], json!([]), "{status}");
        write_configuration(folder.path(), &upstream, &setup());
        process.signal("HUP");
        process.admin_once("/api/v1/status", |status| status["self_check"].is_null()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_a_reload_warn_of_a_check_that_would_page_somebody() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let folder = tempfile::tempdir().unwrap();
        let filters = crate::pages::read("config/callgoose-filters.yaml");
        std::fs::write(folder.path().join("callgoose-filters.yaml"), filters).unwrap();
        let process = Process::start(write_configuration(folder.path(), &upstream, &checked(ONCE))).await;
        let told = "the self check opens incidents of urgency high";
        assert!(process.started_with(told));
        process.signal("HUP");
        process.logged_with(told);
        process.logged("reloaded: these rules decide from now on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_between_a_trigger_and_its_resolve_leaves_nothing_open() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(write_configuration(folder.path(), &upstream, &impatient(&[ONCE]))).await;
        upstream.calls_once(1).await;
        // By these no round would begin.
        let ignore = "\nrules:\n  - { name: none, when: { path: $.self_check, equals: true }, then: ignore }\n";
        let rules = crate::pages::read("config/rules/servicepilot.yaml").replacen("\nrules:\n", ignore, 1);
        write_configuration(folder.path(), &upstream, &Setup { rules: Some(rules), ..impatient(&[ONCE]) });
        process.signal("HUP");
        process.logged("reloaded: these rules decide from now on");
        upstream.follow(|_, _| Reply::Done);
        process.admin_once("/api/v1/status", is_whole).await;
        assert_eq!(upstream.calls().last().map(|call| call.short()), Some(format!("{KEY} OK")));
        let open = process.admin("/api/v1/incidents").await.json;
        assert_eq!(open["incidents"], json!([]), "{open}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_finished_when_its_section_is_changed_or_taken_out_however_late_it_is() {
    within(async {
        for (after, delivered) in [(impatient(&[]), 2), (impatient(&[ONCE]), 4)] {
            let upstream = Upstream::start(|_, _| Reply::status(503)).await;
            let folder = tempfile::tempdir().unwrap();
            let late = impatient(&["self_check: { source: servicepilot, every: 24h, limit: 1s }"]);
            let process = Process::start(write_configuration(folder.path(), &upstream, &late)).await;
            process.admin_once("/readyz", |ready| check_of(ready).is_some()).await;
            let is_off = after.sections.is_empty();
            write_configuration(folder.path(), &upstream, &after);
            process.signal("HUP");
            process.logged("reloaded: these rules decide from now on");
            if is_off {
                // Nothing is told of it any more.
                process.admin_once("/api/v1/status", |status| status["self_check"].is_null()).await;
                assert_eq!(check_of(&process.admin("/readyz").await.json), None);
            }
            upstream.follow(|_, _| Reply::Done);
            let of_check = format!("/api/v1/events?request={KEY}&state=delivered");
            let is_done = |found: &Value| found["events"].as_array().is_some_and(|events| events.len() == delivered);
            process.admin_once(&of_check, is_done).await;
            let open = process.admin("/api/v1/incidents").await.json;
            assert_eq!(open["incidents"], json!([]), "{open}");
            assert_eq!(process.admin("/api/v1/status").await.json["self_check"].is_null(), is_off);
        }
    })
    .await;
}

/// `gander sandbox` with these filters, and the URL that it takes calls at.
fn sandbox(folder: &Path, filters: &str) -> (Child, String) {
    let file = folder.join("callgoose-filters.yaml");
    std::fs::write(&file, filters).unwrap();
    let mut sandbox = Command::new(env!("CARGO_BIN_EXE_gander"))
        .args(["sandbox", "--listen", "127.0.0.1:0", "--filters"])
        .arg(&file)
        .env("CALLGOOSE_TOKEN", UPSTREAM_TOKEN)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(sandbox.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| Some(line.split_once("upstream.url=")?.1.to_owned())).unwrap();
    // Read on, so that it never waits for a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (sandbox, url)
}

/// The rules and the filters as config/OPERATING.md has them, laid before and beside the shipped ones.
fn on_the_page() -> (String, String) {
    let page = crate::pages::read("config/OPERATING.md");
    let section = page.split("\n## The self check\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let fences: Vec<&str> = section.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let fence = |start: &str| *fences.iter().find(|fence| fence.starts_with(start)).unwrap();
    let own = fence("rules:").strip_prefix("rules:\n").unwrap();
    let shipped = crate::pages::read("config/rules/servicepilot.yaml");
    let rules = shipped.replacen("\nrules:\n", &format!("\nrules:\n{own}"), 1);
    assert_ne!(rules, shipped);
    let shipped = crate::pages::read("config/callgoose-filters.yaml");
    let filters = shipped.trim_end().to_owned() + "\n" + fence("services:").strip_prefix("services:\n").unwrap();
    (rules, filters)
}

#[tokio::test(flavor = "multi_thread")]
async fn by_what_the_page_says_a_round_opens_and_closes_one_incident_that_pages_nobody() {
    within(async {
        let (rules, filters) = on_the_page();
        let folder = tempfile::tempdir().unwrap();
        let (mut child, url) = sandbox(folder.path(), &filters);
        let stub = Upstream::start(|_, _| Reply::HangUp).await;
        let setup = Setup { url: Some(url.clone()), rules: Some(rules.clone()), ..checked(ONCE) };
        let relay = Relay::start(&stub, &setup).await;
        relay.admin_once("/api/v1/status", is_whole).await;
        let incidents = url.replace("/sqibs-api/v1/process", "/incidents");
        let answer = relay.client.send(http::Method::GET, &incidents, &[], String::new()).await;
        let text = answer.json.to_string();
        assert!(text.contains(KEY), "{text}");
        assert!(!text.contains("\"high\""), "the filter of the alerts did not match: {text}");
        relay.stop().await;
        child.kill().unwrap();
        child.wait().unwrap();

        // And `gander check` finds nothing to say of it, as it does without them.
        let warned = |rules: &str, filters: &str| {
            let folder = tempfile::tempdir().unwrap();
            let rules = Some(rules.to_owned());
            let path = write_configuration(folder.path(), &stub, &Setup { rules, ..checked(ONCE) });
            std::fs::write(folder.path().join("callgoose-filters.yaml"), filters).unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_gander"));
            check.args(["check", "--json", "--config"]).arg(path);
            check.env("SERVICEPILOT_TOKEN", TOKEN).env("CALLGOOSE_TOKEN", "b");
            let found: Value = serde_json::from_slice(&check.output().unwrap().stdout).unwrap();
            let codes = found.as_array().unwrap().iter().filter_map(|one| one["code"].as_str());
            codes.filter(|code| code.starts_with("self-check")).map(str::to_owned).collect::<Vec<_>>()
        };
        let shipped = |path| crate::pages::read(path);
        let ordinary = (shipped("config/rules/servicepilot.yaml"), shipped("config/callgoose-filters.yaml"));
        assert_eq!(warned(&rules, &filters), [""; 0]);
        assert_eq!(warned(&ordinary.0, &ordinary.1), ["self-check-pages"]);
        assert_eq!(warned(&rules, &ordinary.1), ["self-check-unmatched"]);
        assert_eq!(warned(&(rules.clone() + SAME_OCCURRENCE), &filters), ["self-check-repeats"]);
        let none = "version: 1\nrules: [{ name: all, then: trigger }]\nincident_key: $.servicepilot_event_id\n";
        assert_eq!(warned(none, &ordinary.1), ["self-check-undecided"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_says_when_a_round_last_came_whole() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &checked(ONCE)).await;
        relay.admin_once("/api/v1/status", is_whole).await;
        let page = relay.admin("/").await.json;
        let told = "Self check by servicepilot: last came whole at ";
        assert!(page.as_str().unwrap().contains(told), "{page}");
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let admin = Some(format!("address: '127.0.0.1:{}'", relay.ports().1));
        let path = write_configuration(folder.path(), &upstream, &Setup { admin, ..setup() });
        let mut status = Command::new(env!("CARGO_BIN_EXE_gander"));
        status.arg("status").arg("--config").arg(path).env("SERVICEPILOT_TOKEN", TOKEN).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || status.output().unwrap()).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("\n\n{told}")), "{text}");
    })
    .await;
}
