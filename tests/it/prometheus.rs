//! What Prometheus makes of the metrics, the alerts and the dashboard, by its own tool.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use http::Method;
use serde_json::{Value, json};

use crate::pages::{metrics, metrics_in, metrics_named, read, root};
use crate::process::setup;
use crate::relay::{Relay, Setup, TOKEN, payload, within};
use crate::upstream::{Gate, Reply, Upstream};

const ALERTS: &str = "config/deploy/prometheus/alerts.yaml";
const ALERTS_TEST: &str = "config/deploy/prometheus/alerts_test.yaml";
const SCRAPE: &str = "config/deploy/prometheus/scrape.yaml";
const DASHBOARD: &str = "config/deploy/prometheus/dashboard.json";

/// Runs promtool in a folder; returns what it says, and panics if it finds fault.
fn promtool(folder: &Path, arguments: &[&str], input: &str) -> String {
    let mut promtool = Command::new("promtool");
    promtool.current_dir(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap_or_else(|error| {
        panic!("promtool can't be run ({error}): `apt-get install --no-install-recommends prometheus` installs it")
    });
    let mut stdin = promtool.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let ended = promtool.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "promtool {arguments:?}: {said}");
    said.into_owned()
}

/// Holds both forms against the parsers of Prometheus, and the names and helps against its rules of style.
fn sound(text: &str, openmetrics: &str) {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(promtool(folder.path(), &["check", "metrics"], text), "");
    // It reads OpenMetrics to fill a database, for which each sample needs a time.
    let dated: Vec<String> = openmetrics
        .lines()
        .map(|line| if line.starts_with('#') { line.to_owned() } else { format!("{line} 1700000000") })
        .collect();
    std::fs::write(folder.path().join("metrics"), dated.join("\n") + "\n").unwrap();
    promtool(folder.path(), &["tsdb", "create-blocks-from", "openmetrics", "metrics", "data"], "");
    let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(samples(text), samples(openmetrics));
}

/// All series, without their values.
fn series(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// What a scraper gets: the content type and the text.
async fn scrape(relay: &Relay, accept: Option<&str>) -> (String, String) {
    let url = format!("http://127.0.0.1:{}/metrics", relay.ports().1);
    let headers: Vec<_> = accept.into_iter().map(|accept| ("accept", accept)).collect();
    let answer = relay.client.send(Method::GET, &url, &headers, String::new()).await;
    (answer.content_type, answer.json.as_str().unwrap().to_owned())
}

/// Answers each key as it says.
fn as_the_key_says() -> impl Fn(&crate::upstream::Call, usize) -> Reply {
    |call, _| {
        let done = |triggered: bool| json!({"triggered": {"created": false, "duplicate": triggered}});
        match call.key() {
            "unmatched" => Reply::json(202, &done(false)),
            "duplicate" => Reply::json(200, &done(true)),
            "rejected" => Reply::status(422),
            "accepted" => Reply::status(200),
            _ => Reply::Done,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_every_series_from_the_start_and_none_comes_with_an_event() {
    within(async {
        let upstream = Upstream::start(as_the_key_says()).await;
        let relay = Relay::start(&upstream, &Setup { source: vec!["respond: delivered".into()], ..setup() }).await;
        let (kind, before) = scrape(&relay, None).await;
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        let (kind, openmetrics) = scrape(&relay, Some("application/openmetrics-text")).await;
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert!(openmetrics.ends_with("# EOF\n"));
        sound(&before, &openmetrics);

        let hook = relay.hook("servicepilot");
        let bearer = format!("Bearer {TOKEN}");
        let authorized = [("authorization", bearer.as_str())];
        for (id, state) in [
            ("e1", "CRITICAL"),
            ("e1", "CRITICAL"),
            ("e1", "OK"),
            ("unmatched", "CRITICAL"),
            ("duplicate", "CRITICAL"),
            ("rejected", "CRITICAL"),
            ("accepted", "CRITICAL"),
            ("e2", "nothing that a rule knows"),
        ] {
            relay.post(&payload(id, state)).await;
        }
        relay.client.send(Method::POST, &hook, &authorized, "{".to_owned()).await;
        relay.client.send(Method::POST, &hook, &[], "{}".to_owned()).await;
        relay.client.send(Method::GET, &hook, &authorized, String::new()).await;
        relay.client.send(Method::POST, &relay.hook("other"), &authorized, "{}".to_owned()).await;
        let odd = [authorized[0], ("content-type", "application/pdf")];
        relay.client.send(Method::POST, &hook, &odd, "{}".to_owned()).await;
        let odd = [authorized[0], ("content-encoding", "br")];
        relay.client.send(Method::POST, &hook, &odd, "{}".to_owned()).await;

        let (_, after) = scrape(&relay, None).await;
        for line in [
            r#"gander_events_accepted_total{source="servicepilot",action="trigger"} 5"#,
            r#"gander_events_duplicate_total{source="servicepilot",action="trigger"} 1"#,
            r#"gander_events_delivered_total{source="servicepilot",action="trigger",outcome="unmatched"} 1"#,
            r#"gander_events_ended_total{state="dead",reason="rejected"} 1"#,
            "gander_dead_letters 1",
            r#"gander_requests_refused_total{source="servicepilot",reason="unprocessable"} 1"#,
            r#"gander_requests_refused_total{source="servicepilot",reason="not_json"} 1"#,
            r#"gander_requests_refused_total{source="servicepilot",reason="not_authenticated"} 1"#,
            r#"gander_requests_refused_total{source="none",reason="unknown_source"} 1"#,
        ] {
            assert!(after.lines().any(|found| found == line), "{line} in {after}");
        }
        assert_eq!(series(&after).difference(&series(&before)).collect::<Vec<_>>(), [""; 0], "each was there with 0");
        sound(&after, &scrape(&relay, Some("application/openmetrics-text")).await.1);
        assert_eq!(metrics_in(&after), metrics(), "the pages are held against these");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_process_and_its_files_take_is_shown_as_it_is() {
    within(async {
        // Nothing is answered, so that nothing is written meanwhile.
        let upstream = Upstream::start(|_, _| Reply::After(Gate::closed(), Box::new(Reply::Done))).await;
        let sections = vec!["journal: { max_events: 4 }".to_owned()];
        let relay = Relay::start(&upstream, &Setup { sections, ..Setup::default() }).await;
        relay.post(&payload("e1", "CRITICAL")).await;
        relay.post(&payload("e2", "CRITICAL")).await;
        let wait_for = |text: &Value| text.as_str().unwrap().contains("gander_queue_events 2\n");
        let text = relay.admin_once("/metrics", wait_for).await.as_str().unwrap().to_owned();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
        };
        let length =
            |name: &str| std::fs::metadata(relay.directory.path().join("data").join(name)).unwrap().len() as f64;
        assert!((value("gander_journal_used_ratio") - 0.5).abs() < f64::EPSILON);
        assert!((value("gander_journal_database_bytes") - length("journal.db")).abs() < f64::EPSILON);
        assert!((value("gander_journal_log_bytes") - length("journal.db-wal")).abs() < f64::EPSILON);
        assert!(value("gander_journal_volume_free_bytes") <= value("gander_journal_volume_size_bytes"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let started = now - value("process_start_time_seconds");
        assert!((0.0..600.0).contains(&started), "{started}");
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("process_open_fds") > 5.0 && value("process_open_fds") < value("process_max_fds"));
        assert!(value("process_resident_memory_bytes") > 4_000_000.0);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        let expiry = value(r#"gander_certificate_expiry_timestamp_seconds{listener="listen"}"#);
        assert!(
            text.contains(concat!("gander_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\",commit=\"")),
            "{text}"
        );
        assert!(expiry > now + 86_400.0 && !text.contains(r#"listener="admin""#), "admin has no certificate here");
    })
    .await;
}

#[test]
fn the_alerts_are_sound_and_fire_as_their_tests_say() {
    promtool(root(), &["check", "rules", ALERTS], "");
    promtool(root(), &["test", "rules", ALERTS_TEST], "");
    let tested = read(ALERTS_TEST);
    let untested: Vec<_> = alerts().into_iter().map(|alert| alert.name).filter(|name| !tested.contains(name)).collect();
    assert_eq!(untested, [""; 0]);
}

#[test]
fn prometheus_takes_the_scrape_example_beside_the_alerts() {
    let folder = tempfile::tempdir().unwrap();
    for path in [ALERTS, SCRAPE] {
        std::fs::write(folder.path().join(root().join(path).file_name().unwrap()), read(path)).unwrap();
    }
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("gander.pem"), pair.cert.pem()).unwrap();
    std::fs::write(folder.path().join("admin.token"), "a token").unwrap();
    promtool(folder.path(), &["check", "config", "scrape.yaml"], "");
}

#[test]
fn every_metric_in_alerts_and_dashboard_exists() {
    let metrics = metrics();
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<&str> = asked.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 20, "{queries:?}");
    for text in [read(ALERTS), read(ALERTS_TEST), read(DASHBOARD)] {
        for name in metrics_named(&text) {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
            assert!(metrics.contains(of_histogram.unwrap_or(&name)), "{name}");
        }
    }
}

#[test]
fn each_alert_ends_with_a_command_that_can_be_run_and_is_on_the_page() {
    let page = read("config/MONITORING.md");
    let section = page.split("\n## What to alert on\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: BTreeSet<&str> =
        section.split('`').skip(1).step_by(2).filter(|word| word.starts_with("Gander")).collect();
    let alerts = alerts();
    assert_eq!(alerts.iter().map(|alert| alert.name.as_str()).collect::<BTreeSet<_>>(), named);
    for Alert { name, command } in &alerts {
        let command =
            command.replace("{{ $labels.source }}", "servicepilot").replace("{{ $labels.outcome }}", "accepted");
        let arguments = command.strip_prefix("gander ").unwrap_or_else(|| panic!("{name}: {command}"));
        let mut gander = Command::new(env!("CARGO_BIN_EXE_gander"));
        // With --help all before it is understood, and nothing is done.
        let ended = gander.args(arguments.split(' ')).arg("--help").output().unwrap();
        assert!(ended.status.success(), "{name}: {command}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

/// An alert with the last line of its description.
struct Alert {
    name: String,
    command: String,
}

fn alerts() -> Vec<Alert> {
    let text = read(ALERTS);
    let alerts = text.split("- alert: ").skip(1).map(|alert| {
        let description = alert.split("description: |-\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let (name, command) = (alert.lines().next().unwrap(), description.trim_end().lines().last().unwrap());
        Alert { name: name.to_owned(), command: command.trim().to_owned() }
    });
    alerts.collect()
}
