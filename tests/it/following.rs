//! One event followed to its end: by the command, and by a question that waits for a change.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::commands::command as command_relay;
use crate::process::{self, Process};
use crate::relay::{Answer, Relay, Setup, TOKEN, payload, within, write_configuration};
use crate::support::PATIENCE;
use crate::upstream::{Gate, Reply, Upstream};

fn follow(configuration: &Path, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>, BufReader<ChildStderr>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gander"))
        .args(["events", "follow"])
        .args(arguments)
        .arg("--config")
        .arg(configuration)
        .env("SERVICEPILOT_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = BufReader::new(child.stderr.take().unwrap());
    (child, lines, said)
}

/// Its exit code, the lines that it printed, and those that it said.
async fn ended(configuration: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let (mut child, lines, said) = follow(configuration, arguments);
    let ended = tokio::task::spawn_blocking(move || {
        let out: Vec<String> = lines.map(Result::unwrap).collect();
        let said: Vec<String> = said.lines().map(Result::unwrap).collect();
        (child.wait().unwrap().code(), out.join("\n"), said.join("\n"))
    });
    ended.await.unwrap()
}

/// A configuration in `folder` by which the command reaches `relay`.
fn beside(relay: &Relay, upstream: &Upstream, folder: &Path) -> std::path::PathBuf {
    let setup = Setup { admin: Some(format!("address: '127.0.0.1:{}'", relay.ports().1)), ..process::setup() };
    write_configuration(folder, upstream, &setup)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_followed_from_its_receipt_over_each_call_to_its_end() {
    within(async {
        let upstream = Upstream::start(|_, number| if number < 2 { Reply::status(503) } else { Reply::Done }).await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = beside(&relay, &upstream, folder.path());
        let posted = relay.post(&payload("e1", "CRITICAL")).await.json;
        let id = posted["id"].as_str().unwrap();
        let (code, text, said) = ended(&configuration, &[id]).await;
        assert_eq!((code, said.as_str()), (Some(0), ""), "{text}");
        for part in [
            "  received from servicepilot: trigger of e1 by rule problem\n",
            "  call 1: busy, status 503, fault of the upstream, took ",
            "  call 2: busy, status 503, ",
            "  call 3: created, status 201, took ",
            "\n  answer: ",
        ] {
            assert_eq!(text.matches(part).count(), 1, "{part}: {text}");
        }
        assert!(text.ends_with("  delivered, created"), "{text}");
        let (code, text, _) = ended(&configuration, &[id, "--json"]).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &object["state"], &object["change"]), (Some(0), &json!("delivered"), &json!("delivered.3")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_waits_for_is_told_and_other_ends_are_exit_code_1() {
    within(async {
        let upstream = Upstream::start(|call, _| match call.key() {
            "bad" => Reply::status(422),
            _ => Reply::status(401),
        })
        .await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = beside(&relay, &upstream, folder.path());
        let dead = relay.post_with(&payload("bad", "CRITICAL"), &[("prefer", "wait=10")]).await.json;
        let (code, text, _) = ended(&configuration, &[dead["id"].as_str().unwrap()]).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("  dead, rejected: payload\n  why: ") && text.contains("\n  what to do: "), "{text}");

        let paused = relay.post(&payload("e1", "CRITICAL")).await.json;
        relay.admin_once("/readyz", |ready| ready["degraded"][0]["reason"] == "upstream_auth").await;
        let (code, text, said) = ended(&configuration, &[paused["id"].as_str().unwrap(), "--timeout", "1"]).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("  why: deliveries are paused since ") && text.contains("  what to do: "), "{text}");
        assert!(said.contains("is still queued: it is kept"), "{said}");

        let is_number = "an event's id is a number";
        for (id, exit, hint) in [("17", 1, "gander events list"), ("x", 2, is_number), ("", 2, is_number)] {
            let (code, text, said) = ended(&configuration, &[id]).await;
            assert!(code == Some(exit) && text.is_empty() && said.contains(hint), "{id}: {code:?} {text} {said}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_wants_another_token_could_not_be_asked() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let folder = tempfile::tempdir().unwrap();
        let setup =
            Setup { admin: Some("address: '127.0.0.1:0', token: admin-canary-51c0".to_owned()), ..process::setup() };
        let relay = Relay::start(&upstream, &setup).await;
        let (code, text, said) = ended(&beside(&relay, &upstream, folder.path()), &["17"]).await;
        assert!(code == Some(2) && text.is_empty(), "{code:?} {text} {said}");
        assert!(said.contains("the relay wants its admin token"), "{said}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_over_a_restart_of_the_relay() {
    within(async {
        let gate = Gate::closed();
        let held = gate.clone();
        let upstream = Upstream::start(move |_, _| Reply::After(held.clone(), Box::new(Reply::Done))).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let setup = Setup { admin: Some("address: '127.0.0.1:0'".to_owned()), ..process::setup() };
        let configuration = write_configuration(directory.path(), &upstream, &setup);
        let process = Process::start(configuration.clone()).await;
        // From now on the port that it got.
        let text = std::fs::read_to_string(&configuration).unwrap();
        let port = process.ports().1;
        assert!(text.contains("'127.0.0.1:0'"));
        std::fs::write(&configuration, text.replace("'127.0.0.1:0'", &format!("'127.0.0.1:{port}'"))).unwrap();
        let posted = process.post(&payload("e1", "CRITICAL")).await.json;
        let (mut child, mut lines, mut said) = follow(&configuration, &[posted["id"].as_str().unwrap()]);
        let first = tokio::task::spawn_blocking(move || (lines.next().unwrap().unwrap(), lines)).await.unwrap();
        let (line, lines) = first;
        assert!(line.contains("  received from servicepilot"), "{line}");
        process.kill();
        let gone = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            (line, said)
        });
        let (gone, _said) = gone.await.unwrap();
        assert!(gone.contains("; asking again for "), "{gone}");
        gate.open();
        let _process = Process::start_again(configuration).await;
        let rest = tokio::task::spawn_blocking(move || {
            let rest: Vec<String> = lines.map(Result::unwrap).collect();
            (child.wait().unwrap().code(), rest.join("\n"))
        });
        let (code, rest) = rest.await.unwrap();
        assert_eq!(code, Some(0), "{rest}");
        assert!(rest.ends_with("  delivered, created"), "{rest}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_waits_is_answered_by_the_change_and_not_before() {
    within(async {
        let gate = Gate::closed();
        let held = gate.clone();
        let upstream = Upstream::start(move |call, _| match call.key() {
            "e1" => Reply::After(held.clone(), Box::new(Reply::Done)),
            _ => Reply::Done,
        })
        .await;
        let relay = Arc::new(Relay::start(&upstream, &process::setup()).await);
        let posted = relay.post(&payload("e1", "CRITICAL")).await.json;
        let path = format!("/api/v1/events/{}", posted["id"].as_str().unwrap());
        let change = relay.admin(&path).await.json["change"].clone();
        assert_eq!(change, "queued.0");
        let waits = tokio::spawn({
            let (relay, path) = (Arc::clone(&relay), format!("{path}?after=queued.0&wait=60"));
            async move { relay.admin(&path).await.json }
        });
        // Commits of other events are no change of this one.
        for number in 0..5 {
            relay.post_with(&payload(&format!("other{number}"), "CRITICAL"), &[("prefer", "wait=10")]).await;
        }
        assert!(!waits.is_finished());
        command_relay(&relay, "/hold", &json!({ "key": "e1" })).await;
        let answer = waits.await.unwrap();
        assert_eq!((&answer["change"], &answer["held"]), (&json!("queued.0.key"), &json!("key")), "{answer}");

        let began = Instant::now();
        let known = relay.admin(&format!("{path}?after=queued.0&wait=60")).await.json;
        assert_eq!(known["change"], "queued.0.key", "what has changed already is answered at once");
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        let unchanged = relay.admin(&format!("{path}?wait=1")).await.json;
        assert_eq!(unchanged["change"], "queued.0.key", "after the time, as it is");
        assert_eq!(relay.admin(&format!("{path}?wait=100")).await.status, 400);
        assert_eq!(relay.admin("/api/v1/events/17?wait=60").await.status, 404, "nothing is waited for");

        let waits = tokio::spawn({
            let (relay, path) = (Arc::clone(&relay), format!("{path}?after=queued.0.key&wait=60"));
            async move { relay.admin(&path).await.json }
        });
        gate.open();
        assert_eq!(waits.await.unwrap()["state"], "delivered");
    })
    .await;
}

/// Asks so often with `wait` that no place is left; those that wait.
async fn take_all_places(relay: &Relay, url: &str) -> JoinSet<Answer> {
    let mut waiting = JoinSet::new();
    // One more than have a place: when it is refused, all others wait.
    for _ in 0..33 {
        let (client, url) = (relay.client.clone(), url.to_owned());
        waiting.spawn(async move { client.send(http::Method::GET, &url, &[], String::new()).await });
    }
    let refused = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.json["detail"].as_str().unwrap().contains("ask without `wait`"), "{refused:?}");
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_followed_where_no_place_is_left_for_a_question_that_waits() {
    within(async {
        let (gate, other) = (Gate::closed(), Gate::closed());
        let (held, held_too) = (gate.clone(), other.clone());
        let upstream = Upstream::start(move |call, _| match call.key() {
            "e1" => Reply::After(held.clone(), Box::new(Reply::Done)),
            _ => Reply::After(held_too.clone(), Box::new(Reply::Done)),
        })
        .await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = beside(&relay, &upstream, folder.path());
        let followed = relay.post(&payload("e1", "CRITICAL")).await.json;
        let waits = relay.post(&payload("e2", "CRITICAL")).await.json;
        let (admin, id) = (relay.ports().1, waits["id"].as_str().unwrap());
        let _waiting = take_all_places(&relay, &format!("http://127.0.0.1:{admin}/api/v1/events/{id}?wait=60")).await;
        let (mut child, mut lines, said) = follow(&configuration, &[followed["id"].as_str().unwrap()]);
        let (line, lines) = tokio::task::spawn_blocking(move || (lines.next().unwrap().unwrap(), lines)).await.unwrap();
        assert!(line.contains("  received from servicepilot"), "{line}");
        // It was queued: the next question finds no place.
        gate.open();
        let ended = tokio::task::spawn_blocking(move || {
            let rest: Vec<String> = lines.map(Result::unwrap).collect();
            let said: Vec<String> = said.lines().map(Result::unwrap).collect();
            (child.wait().unwrap().code(), rest.join("\n"), said.join("\n"))
        });
        let (code, rest, said) = ended.await.unwrap();
        assert_eq!((code, said.as_str()), (Some(0), ""), "{rest}");
        assert!(rest.ends_with("  delivered, created"), "{rest}");
        other.open();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_few_questions_wait_at_once_and_a_stop_answers_them() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let posted = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await.json;
        let id = posted["id"].as_str().unwrap();
        let url = format!("http://127.0.0.1:{}/api/v1/events/{id}?wait=60", relay.ports().1);
        let mut waiting = take_all_places(&relay, &url).await;
        let began = Instant::now();
        relay.stop().await;
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        while let Some(one) = waiting.join_next().await {
            assert_eq!(one.unwrap().json["state"], "delivered");
        }
    })
    .await;
}
