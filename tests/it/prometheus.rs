//! What Prometheus makes of the metrics, the alerts and the dashboard, by its own tool.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use http::Method;
use regex::Regex;
use serde_json::{Value, json};

use crate::pages::{metrics, metrics_in, metrics_named, read, root};
use crate::process::setup;
use crate::relay::{Relay, Setup, TOKEN, payload, within};
use crate::upstream::{Gate, Reply, Upstream};

const ALERTS: &str = "config/deploy/prometheus/alerts.yaml";
const ALERTS_TEST: &str = "config/deploy/prometheus/alerts_test.yaml";
const SCRAPE: &str = "config/deploy/prometheus/scrape.yaml";
const DASHBOARD: &str = "config/deploy/prometheus/dashboard.json";
/// Labels that a scrape adds, or a histogram has.
const OF_PROMETHEUS: [&str; 3] = ["job", "instance", "le"];

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
        let of_admin = r#"gander_certificate_expiry_timestamp_seconds{listener="admin"}"#;
        assert!(expiry > now + 86_400.0 && !text.contains(of_admin), "admin has no certificate here");
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

fn is_of_prometheus(label: &str) -> bool {
    OF_PROMETHEUS.contains(&label)
}

/// The labels of each metric, with the values that they have.
type Labels = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn labels_in(text: &str) -> Labels {
    let label = Regex::new(r#"(\w+)="([^"]*)""#).unwrap();
    let mut labels = Labels::new();
    for sample in series(text) {
        let (name, rest) = sample.split_once('{').unwrap_or((&sample, ""));
        let of_metric = labels.entry(name.to_owned()).or_default();
        for found in label.captures_iter(rest) {
            of_metric.entry(found[1].to_owned()).or_default().insert(found[2].to_owned());
        }
    }
    labels
}

/// The labels and values that a text of PromQL and templates names, and that its metrics have not.
fn misfits(text: &str, labels: &Labels) -> Vec<String> {
    let every = |pattern: &str| {
        let found = Regex::new(pattern).unwrap();
        found.captures_iter(text).map(|found| found[1].to_owned()).collect::<Vec<_>>()
    };
    let mut wrong = Vec::new();
    let selector = Regex::new(r"(\w+)\{([^{}]*)\}").unwrap();
    let matcher = Regex::new(r#"(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)""#).unwrap();
    for selector in selector.captures_iter(text) {
        let Some(of_metric) = labels.get(&selector[1]) else { continue };
        for found in matcher.captures_iter(&selector[2]).filter(|found| !is_of_prometheus(&found[1])) {
            let values = of_metric.get(&found[1]);
            let has = |pattern: &str| {
                let pattern = Regex::new(&format!("^(?:{pattern})$")).unwrap();
                values.is_some_and(|values| values.iter().any(|value| pattern.is_match(value)))
            };
            let missing = found[2].split('|').filter(|pattern| !has(pattern));
            wrong.extend(missing.map(|value| format!("{}{{{}={value}}}", &selector[1], &found[1])));
        }
    }
    let named = metrics_named(text);
    let of_them: BTreeSet<&str> =
        named.iter().filter_map(|name| labels.get(name)).flat_map(BTreeMap::keys).map(String::as_str).collect();
    let by = every(r"\bby\s*\(([^)]*)\)");
    let by = by.iter().flat_map(|list| list.split(',')).map(|label| label.trim().to_owned());
    let shown = every(r"\$labels\.(\w+)").into_iter().chain(every(r"\{\{\s*(\w+)\s*\}\}"));
    let unknown = by.chain(shown).filter(|label| !of_them.contains(&**label) && !is_of_prometheus(label));
    wrong.extend(unknown);
    wrong
}

/// Of each target of each panel its query with the text of its legend.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let text = |target: &Value, name: &str| target[name].as_str().unwrap_or_default().to_owned();
    targets.map(|target| (text(target, "expr"), text(target, "legendFormat"))).collect()
}

#[test]
fn every_query_of_the_dashboard_is_one_that_prometheus_takes() {
    // As Grafana fills them in.
    let filled = |query: &str| query.replace("$job", ".+").replace("$instance", ".+").replace("$__rate_interval", "5m");
    let rules: Vec<Value> = (1..)
        .zip(panels())
        .map(|(number, (query, _))| {
            let query = filled(&query);
            assert!(!query.contains('$'), "a variable that is not known: {query}");
            json!({ "record": format!("panel:target:{number}"), "expr": query })
        })
        .collect();
    let count = rules.len();
    let folder = tempfile::tempdir().unwrap();
    // JSON is YAML.
    let rules = json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    std::fs::write(folder.path().join("dashboard.yaml"), rules).unwrap();
    let said = promtool(folder.path(), &["check", "rules", "dashboard.yaml"], "");
    assert!(said.contains(&format!("{count} rules found")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_ask_for_labels_and_values_that_the_metrics_have() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let labels = labels_in(&scrape(&relay, None).await.1);
        let alerts = read(ALERTS);
        let texts = panels().into_iter().map(|(query, legend)| format!("{query} {legend}"));
        for text in texts.chain(alerts.split("- alert: ").skip(1).map(str::to_owned)) {
            assert_eq!(misfits(&text, &labels), [""; 0], "{text}");
        }
        for (text, wrong) in [
            ("sum by (sorce) (gander_queue_source_events)", "sorce"),
            ("gander_events_delivered_total{outcom=\"created\"}", "gander_events_delivered_total{outcom=created}"),
            (
                "gander_events_delivered_total{outcome=~\"created|creatd\"}",
                "gander_events_delivered_total{outcome=creatd}",
            ),
            ("sum by (lane) (gander_queue_lane_drain_seconds) {{ line }}", "line"),
            ("gander_dead_letters > 0 {{ $labels.source }}", "source"),
        ] {
            assert_eq!(misfits(text, &labels), [wrong]);
        }
    })
    .await;
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
