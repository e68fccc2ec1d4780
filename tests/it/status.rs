//! `gander status` and the document that it draws.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::commands::command as command_relay;
use crate::process;
use crate::relay::{Relay, Setup, TOKEN, payload, within, write_configuration};
use crate::upstream::{Reply, Upstream};

/// A configuration in `folder` by which the commands reach `relay`.
fn beside(relay: &Relay, upstream: &Upstream, folder: &Path) -> PathBuf {
    let setup = Setup { admin: Some(format!("address: '127.0.0.1:{}'", relay.ports().1)), ..process::setup() };
    write_configuration(folder, upstream, &setup)
}

fn command(configuration: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gander"));
    command.arg("status").args(arguments).arg("--config").arg(configuration).env("SERVICEPILOT_TOKEN", TOKEN);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the command printed, and its exit code.
async fn status(configuration: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = command(configuration, arguments);
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    (ended.status.code(), String::from_utf8(ended.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_something_else_answers_is_told_from_a_relay_that_refuses() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = beside(&relay, &upstream, folder.path());
        let mut command = command(&configuration, &["--set", &format!("admin.address=127.0.0.1:{}", relay.ports().0)]);
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains("is no relay's admin API (400") && said.contains("`admin.address`"), "{said}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_counts_what_happened_and_what_waits() {
    within(async {
        let upstream =
            Upstream::start(|call, _| if call.key() == "bad" { Reply::status(422) } else { Reply::Done }).await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        for (key, state) in
            [("e1", "CRITICAL"), ("e1", "CRITICAL"), ("e2", "CRITICAL"), ("e2", "OK"), ("bad", "CRITICAL")]
        {
            relay.post_with(&payload(key, state), &[("prefer", "wait=10")]).await;
        }
        relay.post(&json!({ "state": "CRITICAL" })).await;
        let status = relay.admin_once("/api/v1/status", |status| status["kept"]["dead"] == 1).await;
        let expected =
            [("taken", 4), ("duplicate", 1), ("ignored", 0), ("refused", 1), ("delivered", 3), ("unmatched", 0)];
        let source = &status["by_source"][0];
        for (name, count) in expected {
            assert_eq!(
                (&status["since_start"][name], &source[name]),
                (&json!(count), &json!(count)),
                "{name}: {status}"
            );
        }
        assert_eq!(
            status["kept"],
            json!({ "dead": 1, "refused": 1, "unmatched": 0, "open_incidents": 1, "open_waiting": 0 }),
            "{status}"
        );
        assert_eq!(
            [&source["name"], &source["queued"], &source["dead"]],
            [&json!("servicepilot"), &json!(0), &json!(1)]
        );
        assert_eq!(source["last_refused"]["reason"], "unprocessable", "{status}");
        assert_eq!(source["last_refused_sender"], source["last_refused"], "{status}");
        assert!(source["last_event_at"].is_string() && source["last_delivered_at"].is_string(), "{status}");
        assert_eq!(status["upstream"]["state"], "answering", "{status}");
        // As it was before these members were.
        assert_eq!(status["sources"], json!(["servicepilot"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_screen_tells_how_things_are_and_the_exit_code_whether_they_are_well() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = beside(&relay, &upstream, folder.path());
        let (code, text) = status(&configuration, &[]).await;
        assert!(code == Some(0) && text.starts_with("Ready, since "), "{code:?} {text}");
        relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        let (code, text) = status(&configuration, &[]).await;
        assert!(code == Some(0) && text.starts_with("Delivering, since "), "{code:?} {text}");
        for line in [
            "\ntaken               1  since the start ",
            "\ndelivered           1  last ",
            "\nopen                1  incidents\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.lines().last().unwrap().starts_with("servicepilot  "), "{text}");
        assert!(!text.contains('\u{1b}'), "no colour off a terminal: {text}");

        upstream.follow(|_, _| Reply::status(401));
        relay.post(&payload("e2", "CRITICAL")).await;
        relay.admin_once("/readyz", |ready| ready["degraded"][0]["reason"] == "upstream_auth").await;
        let (code, text) = status(&configuration, &[]).await;
        let (sentence, rest) = text.split_once('\n').unwrap();
        assert_eq!(code, Some(1), "{text}");
        assert!(
            sentence.starts_with("Deliveries are paused since ")
                && sentence.contains(": Callgoose refuses the token (401); unauthorized at http"),
            "{text}"
        );
        assert!(rest.starts_with("-> check the token in `upstream.authorization`"), "{text}");
        assert!(text.contains("\nwaiting             1  oldest from "), "{text}");
        assert!(text.contains("; not sent while deliveries are paused\n"), "{text}");
        assert!(text.contains("\nopen                1  incidents; of one more key the trigger waits\n"), "{text}");

        let (code, text) = status(&configuration, &["--json"]).await;
        let printed: Value = serde_json::from_str(&text).unwrap();
        let asked = relay.admin("/api/v1/status").await.json;
        let names = |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!((code, names(&printed)), (Some(1), names(&asked)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_fail_before_the_breaker_opens_are_told_with_what_to_do() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let setup = Setup {
            upstream: vec![
                "retry: { initial: 10ms, factor: 1, max: 60s }".into(),
                "breaker: { failures: 1000 }".into(),
            ],
            ..Setup::default()
        };
        let relay = Relay::start(&upstream, &setup).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = beside(&relay, &upstream, folder.path());
        relay.post(&payload("e1", "CRITICAL")).await;
        let failed = |status: &Value| status["upstream"]["failed_calls"]["count"].as_u64() >= Some(2);
        let document = relay.admin_once("/api/v1/status", failed).await;
        let calls = &document["upstream"]["failed_calls"];
        assert_eq!((&calls["result"], &calls["status"]), (&json!("busy"), &json!(503)), "{document}");
        assert_eq!(document["upstream"]["state"], "answering");
        let (code, text) = status(&configuration, &[]).await;
        assert!(code == Some(1) && text.contains(" calls to Callgoose failed, since "), "{code:?} {text}");
        assert!(text.contains(": busy (503).\n-> wait: "), "{text}");
        assert!(text.contains("\nopen                0  incidents; of one more key the trigger waits\n"), "{text}");

        upstream.follow(|_, _| Reply::Done);
        relay.admin_once("/api/v1/status", |status| status["since_start"]["delivered"] == 1).await;
        let (code, text) = status(&configuration, &[]).await;
        assert!(code == Some(0) && text.starts_with("Delivering, since "), "{code:?} {text}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_alerted_nobody_counts_until_it_was_replayed() {
    within(async {
        let nothing = json!({ "id": "c", "triggered": { "created": false, "duplicate": false } });
        let upstream = Upstream::start(move |_, _| Reply::json(202, &nothing)).await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = beside(&relay, &upstream, folder.path());
        for key in ["e1", "e2"] {
            relay.post_with(&payload(key, "CRITICAL"), &[("prefer", "wait=10")]).await;
        }
        let (code, text) = status(&configuration, &[]).await;
        assert!(code == Some(1) && text.lines().next().unwrap().ends_with("; 2 keys' last events matched no filter."), "{text}");
        let row = "\nunmatched           2  keys whose last event matched no filter: gander events list --outcome unmatched\n";
        assert!(text.contains(row), "{text}");
        upstream.follow(|_, _| Reply::Done);
        let body = json!({ "outcome": "unmatched" });
        command_relay(&relay, "/replay", &body).await;
        let replayed = |status: &Value| status["since_start"]["delivered"] == 4;
        let document = relay.admin_once("/api/v1/status", replayed).await;
        assert_eq!(document["since_start"]["unmatched"], 2, "{document}");
        let (code, text) = status(&configuration, &[]).await;
        assert!(code == Some(0) && text.contains("\nunmatched           0\n"), "{code:?} {text}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_of_what_a_person_closed_is_shown_and_is_no_trouble() {
    within(async {
        let nothing = json!({ "id": "c", "resolved": { "resolved": false, "duplicate": false } });
        let upstream = Upstream::start(move |_, _| Reply::json(200, &nothing)).await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = beside(&relay, &upstream, folder.path());
        let page = async || {
            let url = format!("http://127.0.0.1:{}/", relay.ports().1);
            relay.client.send(http::Method::GET, &url, &[], String::new()).await.json.as_str().unwrap().to_owned()
        };
        let (_, before) = status(&configuration, &[]).await;
        assert!(!before.contains("not_resolved") && !page().await.contains("not_resolved"), "{before}");

        relay.post_with(&payload("e1", "OK"), &[("prefer", "wait=10")]).await;
        let document = relay.admin_once("/api/v1/status", |status| status["since_start"]["not_resolved"] == 1).await;
        assert_eq!(document["by_source"][0]["not_resolved"], 1, "{document}");
        let (code, text) = status(&configuration, &[]).await;
        assert!(code == Some(0) && text.starts_with("Delivering, since "), "{code:?} {text}");
        let shown = "found no open incident at Callgoose (`not_resolved`): fine where a person had closed it there";
        assert!(text.contains("\n\nsince the start one recovery, the last at ") && text.contains(shown), "{text}");
        let page = page().await;
        assert!(page.contains("found no open incident") && page.contains("events?outcome=not_resolved"), "{page}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watched_it_is_told_again_and_again() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let folder = tempfile::tempdir().unwrap();
        let mut child = command(&beside(&relay, &upstream, folder.path()), &["--watch", "--json"]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let documents = tokio::task::spawn_blocking(move || {
            let two = lines
                .take(2)
                .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["readiness"]["ready"].clone());
            let two: Vec<Value> = two.collect();
            child.kill().unwrap();
            child.wait().unwrap();
            two
        });
        assert_eq!(documents.await.unwrap(), [true, true]);
    })
    .await;
}
