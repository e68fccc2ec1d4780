//! Triggers that come late: after an outage of hours, which the tests write into the journal while the relay is down.

use std::path::Path;

use serde_json::{Value, json};

use crate::relay::{Relay, Setup, payload, within};
use crate::upstream::{Call, Reply, Upstream};

/// Retries that a test can wait for, and what `delivery` says.
fn setup(delivery: &str) -> Setup {
    Setup {
        upstream: vec![
            "retry: { initial: 10ms, factor: 1, max: 20ms }".into(),
            "rate_limit: { per_second: 10000, burst: 10000 }".into(),
        ],
        sections: vec![format!("delivery: {delivery}")],
        ..Setup::default()
    }
}

/// What is called after these payloads came, in their order, and the upstream was down for more than six hours.
async fn after_an_outage(delivery: &str, payloads: &[Value]) -> (Relay, Upstream, Vec<Call>) {
    let upstream = Upstream::start(|_, _| Reply::status(503)).await;
    let relay = Relay::start(&upstream, &setup(delivery)).await;
    for payload in payloads {
        assert_eq!(relay.post(payload).await.json["status"], "queued");
    }
    // Some were tried, so that what may have taken effect unseen is among them.
    upstream.calls_once(payloads.len()).await;
    let directory = relay.stop().await;
    let before = upstream.calls().len();
    turn_back(&directory.path().join("data/journal.db"));
    upstream.follow(|_, _| Reply::Done);
    let relay = Relay::start_in(directory, &upstream, &setup(delivery)).await;
    relay.admin_once("/api/v1/events?state=queued", |page| page["events"] == json!([])).await;
    let calls = upstream.calls().split_off(before);
    (relay, upstream, calls)
}

/// As if everything had been acknowledged 6 hours, 12 minutes and a half earlier.
fn turn_back(journal: &Path) {
    let journal = rusqlite::Connection::open(journal).unwrap();
    // What is altered behind the relay's back has no checksum that fits.
    journal.execute("UPDATE event SET received_at = received_at - 22350000, sum = NULL, state_sum = NULL", []).unwrap();
}

fn only(calls: &[Call], key: &str) -> Value {
    let mut of_key = calls.iter().filter(|call| call.key() == key);
    let only = of_key.next().unwrap_or_else(|| panic!("{key} was not called: {calls:?}"));
    assert_eq!(of_key.count(), 0, "{key} was called again: {calls:?}");
    only.body.clone()
}

async fn counted(relay: &Relay, metric: &str) -> bool {
    let metrics = relay.admin("/metrics").await.json;
    metrics.as_str().unwrap().lines().any(|line| line == metric)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_trigger_says_so_and_a_resolve_never_does() {
    within(async {
        let payloads = [payload("e1", "CRITICAL"), payload("e2", "OK")];
        let (relay, _, calls) = after_an_outage("{ stale: { trigger: 6h } }", &payloads).await;

        let events = relay.admin("/api/v1/events").await.json["events"].clone();
        let (resolve, trigger) = (&events[0], &events[1]);
        let details = relay.admin(&format!("/api/v1/events/{}", trigger["id"].as_str().unwrap())).await.json;
        let mut expected = details["sent"].clone();
        expected["title"] = format!("[6h 12m late] {}", expected["title"].as_str().unwrap()).into();
        expected["stale"] = "6h 12m".into();
        assert_eq!(only(&calls, "e1").to_string(), expected.to_string(), "all else as it was, in its order");
        assert_eq!(only(&calls, "e2").get("stale"), None);

        assert_eq!((&trigger["outcome"], &trigger["reason"]), (&json!("created"), &json!("stale")));
        assert_eq!((&resolve["outcome"], &resolve["reason"]), (&json!("resolved"), &json!(null)));
        let attempts = details["deliveries"].as_array().unwrap();
        let (first, last) = (&attempts[0], &attempts[attempts.len() - 1]);
        assert_eq!(last["detail"], "sent 6h 12m late, with the member `stale` and `[6h 12m late] ` before the title");
        assert_eq!(first["detail"], json!(null), "it was news then");
        assert!(counted(&relay, "gander_events_marked_stale_total{source=\"servicepilot\"} 1").await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_trigger_ends_unsent_only_where_a_resolve_of_its_key_waits_behind_it() {
    within(async {
        let mut update = payload("updated", "CRITICAL");
        update["severity"] = "LOW".into();
        let payloads = [
            payload("closed", "CRITICAL"),
            payload("open", "CRITICAL"),
            payload("updated", "CRITICAL"),
            payload("resolve", "OK"),
            payload("closed", "OK"),
            update,
            payload("updated", "OK"),
        ];
        let (relay, upstream, calls) = after_an_outage("{ stale: { trigger: 6h, do: end } }", &payloads).await;

        for key in ["closed", "updated", "resolve"] {
            let body = only(&calls, key);
            assert_eq!((&body["state"], body.get("stale")), (&json!("OK"), None), "{key}");
        }
        let open = only(&calls, "open");
        assert_eq!((&open["state"], &open["stale"]), (&json!("CRITICAL"), &json!("6h 12m")), "nobody closed it");

        let ended = relay.admin("/api/v1/events?state=ended").await.json["events"].clone();
        let what = |event: &Value| (event["action"].clone(), event["incident_key"].clone(), event["reason"].clone());
        let expected = ["updated", "updated", "closed"].map(|key| (json!("trigger"), json!(key), json!("stale")));
        assert_eq!(ended.as_array().unwrap().iter().map(what).collect::<Vec<_>>(), expected);
        assert!(counted(&relay, "gander_events_ended_total{state=\"ended\",reason=\"stale\"} 3").await);

        // What ended changed nothing about its key, which the resolve closed.
        let answer = relay.post_with(&payload("closed", "CRITICAL"), &[("prefer", "wait=10")]).await;
        assert_eq!(answer.json["outcome"], "created", "{answer:?}");
        assert_eq!(upstream.calls().pop().unwrap().body.get("stale"), None, "this one is news");
        let path = format!("/api/v1/events/{}", answer.json["id"].as_str().unwrap());
        assert_eq!(relay.admin(&path).await.json["novelty"], "reopening");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stale_unless_it_is_asked_for() {
    within(async {
        let payloads = [payload("e1", "CRITICAL"), payload("e2", "CRITICAL"), payload("e2", "OK")];
        let (relay, _, calls) = after_an_outage("{ stale: ~ }", &payloads).await;
        let states: Vec<&str> = calls.iter().filter(|call| call.key() == "e2").map(Call::state).collect();
        assert_eq!(states, ["CRITICAL", "OK"]);
        assert!(calls.iter().all(|call| call.body.get("stale").is_none()), "{calls:?}");
        let events = relay.admin("/api/v1/events").await.json;
        assert!(events["events"].as_array().unwrap().iter().all(|event| event["reason"].is_null()), "{events}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_is_tried_until_it_is_stale_ends_when_it_is_resolved() {
    within(async {
        let upstream = Upstream::start(|call, _| match call.state() {
            "CRITICAL" => Reply::status(503),
            _ => Reply::Done,
        })
        .await;
        let relay = Relay::start(&upstream, &setup("{ stale: { trigger: 1ms, do: end } }")).await;
        let trigger = relay.post(&payload("e1", "CRITICAL")).await.json["id"].as_str().unwrap().to_owned();
        let late = |calls: &[Call]| calls.iter().any(|call| call.body.get("stale").is_some());
        let mut count = 1;
        while !late(&upstream.calls_once(count).await) {
            count += 1;
        }
        let answer = relay.post_with(&payload("e1", "OK"), &[("prefer", "wait=10")]).await;
        assert_eq!(answer.json["outcome"], "resolved", "{answer:?}");
        let event = relay.admin(&format!("/api/v1/events/{trigger}")).await.json;
        assert_eq!((&event["state"], &event["reason"]), (&json!("ended"), &json!("stale")));
        assert!(event["attempts"].as_u64().unwrap() > 1, "{event}");
        assert!(event["deliveries"][0]["detail"].is_null(), "{event}");
    })
    .await;
}
