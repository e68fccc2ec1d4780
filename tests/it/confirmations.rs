//! Confirmations: what Callgoose's outgoing webhooks say, from their source to the event's story.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::process::{self, Process};
use crate::relay::{Answer, HttpsClient, Relay, Setup, TOKEN, UPSTREAM_TOKEN, payload, within, write_configuration};
use crate::upstream::{Reply, Upstream};

/// A relay with a source `callgoose` of confirmations, which has these lines beside its `kind` and `auth`.
pub fn confirming(lines: &[&str]) -> Setup {
    let lines: String = lines.iter().map(|line| format!("\n    {line}")).collect();
    let auth = "auth: [{ query: { name: token, secret: { env: SERVICEPILOT_TOKEN } } }]";
    let source = format!("probe: refuse\n  callgoose:\n    kind: confirmation\n    {auth}{lines}");
    Setup { source: vec![source], ..process::setup() }
}

/// Posts a webhook as Callgoose would.
pub async fn confirm(client: &HttpsClient, port: u16, token: &str, body: &str) -> Answer {
    let url = format!("https://localhost:{port}/hooks/callgoose?token={token}");
    client.send(Method::POST, &url, &[("content-type", "application/json")], body.to_owned()).await
}

/// A webhook in one of the shapes that are tried without paths.
pub fn webhook(event: &str, key: &str) -> Value {
    json!({ "event": format!("incident.{event}"), "incident": { "id": 1, "title": "CPU", "mapped_with": key } })
}

/// The output of a command that asks the relay.
async fn gander(relay: &Relay, upstream: &Upstream, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup { admin: Some(format!("address: '127.0.0.1:{}'", relay.ports().1)), ..confirming(&[]) };
    let mut command = Command::new(env!("CARGO_BIN_EXE_gander"));
    command.args(arguments).arg("--config").arg(write_configuration(folder.path(), upstream, &setup));
    let ended = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output().unwrap());
    let Output { status, stdout, stderr } = ended.await.unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

async fn page(relay: &Relay, path: &str) -> String {
    relay.admin(path).await.json.as_str().unwrap().to_owned()
}

async fn metric(relay: &Relay, result: &str) -> String {
    let text = page(relay, "/metrics").await;
    let series = format!("gander_confirmations_total{{result=\"{result}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("no {series}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_that_was_really_opened_and_closed_is_on_the_story_of_its_events() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::HangUp).await;
        let mut sandbox = Command::new(env!("CARGO_BIN_EXE_gander"))
            .args(["sandbox", "--listen", "127.0.0.1:0"])
            .env("CALLGOOSE_TOKEN", UPSTREAM_TOKEN)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(sandbox.stdout.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| Some(line.split_once("upstream.url=")?.1.to_owned())).unwrap();
        let incidents = url.replace("/sqibs-api/v1/process", "/incidents");
        let relay = Relay::start(&upstream, &Setup { url: Some(url), ..confirming(&[]) }).await;
        let (port, _) = relay.ports();
        let wait = [("prefer", "wait=10")];

        let trigger = relay.post_with(&payload("e1", "CRITICAL"), &wait).await;
        assert_eq!(trigger.json["outcome"], "created", "{trigger:?}");
        let there = relay.client.send(Method::GET, &incidents, &[], String::new()).await.json;
        let key = there["incidents"][0]["key"].as_str().unwrap().to_owned();
        let open = relay.admin("/api/v1/incidents").await.json;
        assert!(open["incidents"][0].get("confirmation").is_none(), "{open}");

        let opened = webhook("opened", &key).to_string();
        let answer = confirm(&relay.client, port, TOKEN, &opened).await;
        assert_eq!((answer.status.as_u16(), &answer.json["result"]), (202, &json!("matched")), "{answer:?}");
        assert_eq!((&answer.json["event"], &answer.json["action"]), (&trigger.json["id"], &json!("opened")));

        let id = trigger.json["id"].as_str().unwrap();
        let event = relay.admin(&format!("/api/v1/events/{id}")).await.json;
        let [told] = event["confirmations"].as_array().unwrap().as_slice() else { panic!("{event}") };
        assert_eq!((&told["action"], &told["raw"]), (&json!("opened"), &json!(opened)));
        let open = relay.admin("/api/v1/incidents").await.json;
        assert_eq!(open["incidents"][0]["confirmation"]["action"], "opened", "{open}");
        let story = page(&relay, &format!("/events/{id}")).await;
        assert!(story.contains("Callgoose says: incident <b>opened</b>"), "{story}");
        assert!(page(&relay, "/incidents").await.contains("<th scope=\"col\">Callgoose says</th>"));
        let shown = gander(&relay, &upstream, &["events", "show", id]).await;
        assert!(shown.contains(": incident opened (through callgoose)") && shown.contains("mapped_with"), "{shown}");

        // Another one that Callgoose says it created, of which no webhook comes.
        relay.post_with(&payload("e2", "CRITICAL"), &wait).await;
        let open = relay.admin("/api/v1/incidents").await.json;
        let flags: Vec<&Value> =
            open["incidents"].as_array().unwrap().iter().map(|one| &one["not_confirmed"]).collect();
        assert_eq!(flags, [&json!(true), &Value::Null], "{open}");
        assert!(page(&relay, "/incidents").await.contains("not confirmed"));

        // Closed by a person; the other is resolved by its sender.
        confirm(&relay.client, port, TOKEN, &webhook("resolved", "e2").to_string()).await;
        let open = relay.admin("/api/v1/incidents").await.json;
        assert_eq!(open["incidents"][0]["confirmation"]["action"], "closed", "{open}");
        let resolve = relay.post_with(&payload("e1", "OK"), &wait).await;
        let answer = confirm(&relay.client, port, TOKEN, &webhook("closed", &key).to_string()).await;
        assert_eq!((&answer.json["event"], &answer.json["action"]), (&resolve.json["id"], &json!("closed")));
        assert_eq!(metric(&relay, "matched").await, "3");
        sandbox.kill().unwrap();
        sandbox.wait().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_an_unknown_shape_is_kept_and_shown_raw_and_escaped_and_makes_no_event() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &confirming(&[])).await;
        let (port, _) = relay.ports();
        let naughty = "</pre><script>alert(1)</script>";
        let bodies = ["[1]".to_owned(), String::new(), json!({ "text": naughty }).to_string(), naughty.to_owned()];
        for body in &bodies {
            let answer = confirm(&relay.client, port, TOKEN, body).await;
            assert_eq!((answer.status.as_u16(), &answer.json["result"]), (202, &json!("unknown_shape")), "{answer:?}");
        }
        let unmatched = confirm(&relay.client, port, TOKEN, &webhook("opened", "nobody's").to_string()).await;
        assert_eq!((unmatched.status.as_u16(), &unmatched.json["result"]), (202, &json!("unmatched")));
        assert_eq!(
            (metric(&relay, "unknown_shape").await, metric(&relay, "unmatched").await),
            ("4".into(), "1".into())
        );

        let listed = relay.admin("/api/v1/confirmations?result=unknown_shape").await.json;
        let raw: Vec<&str> =
            listed["confirmations"].as_array().unwrap().iter().rev().map(|one| one["raw"].as_str().unwrap()).collect();
        assert_eq!(raw, bodies);
        let connect = page(&relay, "/connect").await;
        assert!(connect.contains("&lt;script&gt;alert(1)"), "{connect}");
        assert_eq!(connect.matches("<script").count(), 1, "its own: {connect}");
        assert!(connect.contains("/hooks/callgoose?token=TOKEN") && !connect.contains(TOKEN), "{connect}");
        let raw = ["events", "confirmations", "--result", "unknown-shape", "--raw"];
        let shown = gander(&relay, &upstream, &raw).await;
        assert!(shown.contains(naughty) && shown.contains("unknown_shape"), "{shown}");

        assert_eq!(relay.admin("/api/v1/events").await.json["events"], json!([]), "none became an event");
        assert_eq!(upstream.calls().len(), 0, "nothing was sent on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_stranger_and_nothing_beyond_the_limits_is_kept() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let limited = confirming(&["rate_limit: { per_second: 1, burst: 2, answer: 429 }"]);
        let relay = Relay::start(&upstream, &limited).await;
        let (port, _) = relay.ports();
        let body = webhook("opened", "e1").to_string();
        for token in ["", "wrong"] {
            assert_eq!(confirm(&relay.client, port, token, &body).await.status, 401);
        }
        let mut kept = 0;
        for _ in 0..200 {
            let answer = confirm(&relay.client, port, TOKEN, &body).await;
            kept += usize::from(answer.status == 202);
            assert!([202, 429].contains(&answer.status.as_u16()), "{answer:?}");
        }
        // A slow machine earns a further place each second.
        assert!((2..200).contains(&kept), "{kept}");
        let listed = relay.admin("/api/v1/confirmations?limit=200").await.json;
        assert_eq!(listed["confirmations"].as_array().unwrap().len(), kept);

        let relay = Relay::start(&upstream, &confirming(&[])).await;
        let large = "x".repeat((1 << 20) + 1);
        assert_eq!(confirm(&relay.client, relay.ports().0, TOKEN, &large).await.status, 413);
        assert_eq!(relay.admin("/api/v1/confirmations").await.json["confirmations"], json!([]));
        assert_eq!(relay.admin("/api/v1/events").await.json["events"], json!([]), "nor as a refused payload");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_written_for_another_shape() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let shape = r"confirmation: { incident_key: { path: $.text, capture: '\[(\S+)\]' }, action: { path: $.code, opened: [RAISED], closed: [DONE] }, source: servicepilot }";
        let relay = Relay::start(&upstream, &confirming(&[shape])).await;
        let trigger = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        for (body, result, action) in [
            (json!({ "text": "CPU [e1]", "code": "raised" }), "matched", json!("opened")),
            (json!({ "text": "CPU [e1]", "code": "ACKNOWLEDGED" }), "matched", Value::Null),
            (json!({ "text": "CPU [e7]", "code": "DONE" }), "unmatched", json!("closed")),
            (webhook("opened", "e1"), "unknown_shape", Value::Null),
        ] {
            let answer = confirm(&relay.client, relay.ports().0, TOKEN, &body.to_string()).await.json;
            assert_eq!((&answer["result"], &answer["action"]), (&json!(result), &action), "{body}");
        }
        let story = page(&relay, &format!("/events/{}", trigger.json["id"].as_str().unwrap())).await;
        assert!(story.contains("Callgoose sent a webhook about this incident"), "{story}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_was_answered_outlives_a_kill() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let configuration = write_configuration(directory.path(), &upstream, &confirming(&[]));
        let process = Process::start(configuration.clone()).await;
        let trigger = process.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        let answer = confirm(&process.client, process.ports().0, TOKEN, &webhook("opened", "e1").to_string()).await;
        assert_eq!(answer.json["event"], trigger.json["id"], "{answer:?}");
        process.kill();
        let process = Process::start(configuration).await;
        let listed = process.admin("/api/v1/confirmations").await.json;
        let [one] = listed["confirmations"].as_array().unwrap().as_slice() else { panic!("{listed}") };
        assert_eq!((&one["id"], &one["event"]), (&answer.json["id"], &trigger.json["id"]));
        assert_eq!(process.terminate().await, Some(0));
    })
    .await;
}
