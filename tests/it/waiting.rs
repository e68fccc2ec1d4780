//! What waits, and what came, can be found: by a part of its key, by a text in it, by the request that brought it. What
//! waits can be held back, released and ended.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::relay::{Answer, Relay, Setup, TOKEN, payload, within};
use crate::upstream::{Call, Gate, Reply, Upstream};

/// Retries that a test can wait for.
fn impatient() -> Setup {
    Setup {
        upstream: vec![
            "retry: { initial: 10ms, factor: 1, max: 20ms }".into(),
            "rate_limit: { per_second: 10000, burst: 10000 }".into(),
        ],
        ..Setup::default()
    }
}

async fn command(relay: &Relay, path: &str, body: &Value) -> Answer {
    let url = format!("http://127.0.0.1:{}/api/v1/events{path}", relay.ports().1);
    relay.client.send(Method::POST, &url, &[("content-type", "application/json")], body.to_string()).await
}

async fn hold(relay: &Relay, what: &Value) {
    let answer = command(relay, "/hold", what).await;
    assert_eq!((answer.status, &answer.json["status"]), (StatusCode::OK, &json!("held")), "{answer:?}");
}

async fn release(relay: &Relay, what: &Value) {
    let answer = command(relay, "/release", what).await;
    assert_eq!((answer.status, &answer.json["status"]), (StatusCode::OK, &json!("released")), "{answer:?}");
}

/// Posts a payload and returns the event's id.
async fn queue(relay: &Relay, key: &str, state: &str) -> String {
    let answer = relay.post(&payload(key, state)).await;
    answer.json["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// Posts a payload of another key and waits until it is delivered: what could go before it has gone.
async fn pass(relay: &Relay, key: &str) {
    let answer = relay.post_with(&payload(key, "CRITICAL"), &[("prefer", "wait=10")]).await;
    assert_eq!(answer.json["outcome"], "created", "{answer:?}");
}

fn short(calls: &[Call]) -> Vec<String> {
    calls.iter().map(Call::short).collect()
}

async fn event(relay: &Relay, id: &str) -> Value {
    relay.admin(&format!("/api/v1/events/{id}")).await.json
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_key_waits_also_after_a_restart_and_goes_on_in_order_when_it_is_released() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        hold(&relay, &json!({ "key": "e1" })).await;
        for state in ["CRITICAL", "OK", "CRITICAL"] {
            queue(&relay, "e1", state).await;
        }
        pass(&relay, "e2").await;
        assert_eq!(short(&upstream.calls()), ["e2 CRITICAL"]);
        let list = relay.admin("/api/v1/events?key=e1").await.json;
        assert!(list["events"].as_array().unwrap().iter().all(|event| event["held"] == "key"), "{list}");
        let ready = relay.admin("/readyz").await;
        assert_eq!((ready.status, &ready.json["degraded"][0]["reason"]), (StatusCode::OK, &json!("held")));
        assert!(ready.json["degraded"][0]["detail"].as_str().unwrap().contains("key `e1` of source `servicepilot`"));

        let relay = Relay::start_in(relay.stop().await, &upstream, &impatient()).await;
        pass(&relay, "e3").await;
        assert_eq!(short(&upstream.calls()), ["e2 CRITICAL", "e3 CRITICAL"], "held after the restart");
        let holds = relay.admin("/api/v1/holds").await.json;
        let (source, key) = (&holds["holds"][0]["source"], &holds["holds"][0]["key"]);
        assert_eq!((source, key), (&json!("servicepilot"), &json!("e1")), "{holds}");
        assert_eq!(relay.admin("/api/v1/status").await.json["holds"], holds["holds"]);

        release(&relay, &json!({ "key": "e1", "source": "servicepilot" })).await;
        let calls = upstream.calls_once(5).await;
        assert_eq!(short(&calls[2..]), ["e1 CRITICAL", "e1 OK", "e1 CRITICAL"]);
        assert_eq!(relay.admin("/api/v1/holds").await.json, json!({ "holds": [] }));
        relay.admin_once("/readyz", |ready| ready["degraded"] == json!([])).await;
        let relay = Relay::start_in(relay.stop().await, &upstream, &impatient()).await;
        assert_eq!(relay.admin("/api/v1/holds").await.json, json!({ "holds": [] }), "released after the restart");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_held_source_is_sent_not_even_what_was_tried() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let tried = queue(&relay, "e1", "CRITICAL").await;
        upstream.calls_once(3).await;
        let row = relay.admin_once(&format!("/api/v1/events/{tried}"), |event| event["reason"].is_string()).await;
        assert_eq!(row["reason"], "busy (503)", "a row says why it waits");

        hold(&relay, &json!({ "source": "servicepilot" })).await;
        queue(&relay, "e2", "CRITICAL").await;
        // A call that was under way ends; then there is none.
        let mut calls = upstream.calls().len();
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            match upstream.calls().len() {
                same if same == calls => break,
                more => calls = more,
            }
        }
        assert!(upstream.calls().iter().all(|call| call.key() == "e1"), "{:?}", short(&upstream.calls()));
        let list = relay.admin("/api/v1/events?state=queued").await.json;
        assert!(list["events"].as_array().unwrap().iter().all(|event| event["held"] == "source"), "{list}");

        upstream.follow(|_, _| Reply::Done);
        release(&relay, &json!({ "source": "servicepilot" })).await;
        for id in 1..3 {
            let path = format!("/api/v1/events?key=e{id}");
            relay.admin_once(&path, |list| list["events"][0]["state"] == "delivered").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_or_released_in_vain_is_told() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        for (path, body, status, said) in [
            ("/hold", json!({ "source": "servicepilo" }), 400, "did you mean `servicepilot`?"),
            ("/hold", json!({}), 400, "name a `source`"),
            ("/hold", json!({ "soruce": "x" }), 400, "soruce"),
            ("/release", json!({ "key": "e1" }), 404, "is not held"),
        ] {
            let answer = command(&relay, path, &body).await;
            assert_eq!(answer.status.as_u16(), status, "{body}: {answer:?}");
            assert!(answer.json["detail"].as_str().unwrap().contains(said), "{body}: {answer:?}");
        }
        hold(&relay, &json!({ "key": "e1" })).await;
        let again = command(&relay, "/hold", &json!({ "key": "e1" })).await;
        assert_eq!((again.status, &again.json["changed"]), (StatusCode::OK, &json!(false)), "{again:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_event_is_discarded_and_its_key_goes_on_without_it() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        hold(&relay, &json!({ "key": "e1" })).await;
        let mut ids = Vec::new();
        for state in ["CRITICAL", "OK", "CRITICAL"] {
            ids.push(queue(&relay, "e1", state).await);
        }
        // The first of its key, and one behind it.
        for id in [&ids[0], &ids[2]] {
            let answer = command(&relay, &format!("/{id}/discard"), &json!({})).await;
            assert_eq!((answer.status, &answer.json["status"]), (StatusCode::OK, &json!("discarded")), "{answer:?}");
            let event = event(&relay, id).await;
            assert_eq!((&event["state"], &event["reason"]), (&json!("ended"), &json!("discarded")), "{event}");
        }
        let again = command(&relay, &format!("/{}/discard", ids[0]), &json!({})).await;
        assert_eq!((again.status, &again.json["reason"]), (StatusCode::CONFLICT, &json!("ended")), "{again:?}");
        release(&relay, &json!({ "key": "e1" })).await;
        assert_eq!(short(&upstream.calls_once(1).await), ["e1 OK"]);

        let declined = command(&relay, &format!("/{}/replay", ids[2]), &json!({})).await;
        assert_eq!((declined.status, &declined.json["reason"]), (StatusCode::CONFLICT, &json!("discarded")));
        let forced = command(&relay, &format!("/{}/replay", ids[2]), &json!({ "force": true })).await;
        assert_eq!(forced.json["status"], "replayed", "{forced:?}");
        assert_eq!(short(&upstream.calls_once(2).await), ["e1 OK", "e1 CRITICAL"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_call_is_under_way_ends_after_it_and_is_not_tried_again() {
    within(async {
        for (answered, state) in [(Reply::status(503), "ended"), (Reply::Done, "delivered")] {
            let gate = Gate::closed();
            let reply = Reply::After(gate.clone(), Box::new(answered));
            let upstream = Upstream::start(move |call, _| match call.key() {
                "e1" if call.state() == "CRITICAL" => reply.clone(),
                _ => Reply::Done,
            })
            .await;
            let relay = Relay::start(&upstream, &impatient()).await;
            let id = queue(&relay, "e1", "CRITICAL").await;
            upstream.calls_once(1).await;
            let event = relay.admin(&format!("/api/v1/events/{id}")).await.json;
            assert!(event["call_since"].is_string(), "{event}");
            let answer = command(&relay, &format!("/{id}/discard"), &json!({})).await;
            assert_eq!((answer.status, &answer.json["status"]), (StatusCode::ACCEPTED, &json!("under_way")));
            queue(&relay, "e1", "OK").await;
            gate.open();
            let event = relay.admin_once(&format!("/api/v1/events/{id}"), |event| event["state"] != "queued").await;
            assert_eq!((&event["state"], &event["call_since"]), (&json!(state), &Value::Null), "{event}");
            assert_eq!(short(&upstream.calls_once(2).await), ["e1 CRITICAL", "e1 OK"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_discarded_by_filter_and_by_the_command_line() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let (code, out, _) = gander(&relay, &["hold", "--source", "servicepilot"]).await;
        assert_eq!((code, out.trim()), (0, "source servicepilot is held; 0 of its events waiting"));
        for key in 0..250 {
            queue(&relay, &format!("k{key}"), "CRITICAL").await;
        }
        let kept = queue(&relay, "kept", "CRITICAL").await;
        let (_, out, _) = gander(&relay, &["list", "--key", "kept"]).await;
        assert!(out.contains("held (source)"), "{out}");
        let (_, out, _) = gander(&relay, &["hold"]).await;
        assert!(out.contains("servicepilot") && out.contains("(all)"), "{out}");

        let (code, _, said) = gander(&relay, &["discard", "--state", "queued", "--older-than", "1h", "--yes"]).await;
        assert_eq!((code, said.trim()), (0, "0 discarded, 0 declined"), "nothing is that old");
        let (code, _, said) = gander(&relay, &["discard", "--key", "kept", "--yes"]).await;
        assert!(code == 0 && said.contains("a filter is about dead letters and refused payloads"), "{said}");
        let (code, out, _) = gander(&relay, &["discard", "--state", "queued", "--key", "k7", "--yes"]).await;
        assert!(code == 0 && out.contains(" discarded"), "{out}");
        let answer =
            command(&relay, "/discard", &json!({ "state": "queued", "source": "servicepilot", "limit": 100 })).await;
        assert_eq!(answer.json["results"].as_array().map(Vec::len), Some(100), "{answer:?}");
        let next = answer.json["next"].clone();
        let body = json!({ "state": "queued", "source": "servicepilot", "limit": 100, "after": next });
        let answer = command(&relay, "/discard", &body).await;
        assert_eq!(answer.json["results"].as_array().map(Vec::len), Some(100), "{answer:?}");
        let left = found(&relay, "state=queued&limit=1000").await;
        assert_eq!((left.len(), left[0].as_str()), (50, "kept"));

        let (code, out, _) = gander(&relay, &["release", "--source", "servicepilot"]).await;
        let said = "source servicepilot is released; 50 of its events waiting: each goes out as soon as its turn comes \
                    (`gander queue`)";
        assert_eq!((code, out.trim()), (0, said));
        upstream.calls_once(50).await;
        let path = format!("/api/v1/events/{kept}");
        relay.admin_once(&path, |event| event["state"] == "delivered").await;
        let (code, _, said) = gander(&relay, &["release", "--source", "servicepilot"]).await;
        assert!(code == 1 && said.contains("is not held"), "{said}");
    })
    .await;
}

async fn found(relay: &Relay, query: &str) -> Vec<String> {
    let list = relay.admin(&format!("/api/v1/events?{query}")).await.json;
    let events = list["events"].as_array().unwrap_or_else(|| panic!("{query}: {list}"));
    events.iter().map(|event| event["incident_key"].as_str().unwrap_or("-").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_found_by_a_text_in_their_key_and_payload_and_by_their_request() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let mut disk = payload("db7/disk", "CRITICAL");
        disk["title"] = json!("Disk full in Zürich");
        let headers = [("x-request-id", "theirs \"1\""), ("prefer", "wait=10")];
        let answer = relay.post_with(&disk, &headers).await;
        let id = answer.json["id"].as_str().unwrap().to_owned();
        let mut odd = payload("db7/odd", "CRITICAL");
        odd["note"] = json!("only in what came");
        relay.post_with(&odd, &[("prefer", "wait=10")]).await;
        relay.post_with(&json!({ "servicepilot_event_id": "r1", "state": 7 }), &[]).await;
        let own = relay.admin(&format!("/api/v1/events/{id}")).await.json["request_id"].as_str().unwrap().to_owned();

        for (query, expected) in [
            ("key_contains=DISK".to_owned(), vec!["db7/disk"]),
            ("key_contains=db7".to_owned(), vec!["db7/odd", "db7/disk"]),
            ("key_or_title=disk%20FULL".to_owned(), vec!["db7/disk"]),
            ("key_or_title=Z%C3%9CRICH".to_owned(), vec!["db7/disk"]),
            ("key_or_title=7/ODD".to_owned(), vec!["db7/odd"]),
            ("key_or_title=only%20in".to_owned(), vec![]),
            ("key_or_title=%25".to_owned(), vec![]),
            ("search=disk%20FULL".to_owned(), vec!["db7/disk"]),
            ("search=z%C3%BCrich&state=delivered".to_owned(), vec!["db7/disk"]),
            ("search=z%C3%BCrich&state=queued".to_owned(), vec![]),
            ("search=only%20in%20what%20came".to_owned(), vec!["db7/odd"]),
            ("search=r1".to_owned(), vec!["-"]),
            ("request=theirs%20%221%22".to_owned(), vec!["db7/disk"]),
            (format!("request={own}"), vec!["db7/disk"]),
        ] {
            assert_eq!(found(&relay, &query).await, expected, "{query}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_finds_nothing_says_what_it_did_not_look_at() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        relay.post_with(&json!({ "servicepilot_event_id": "r1", "state": 7 }), &[]).await;
        for (query, said) in [
            ("key=r1", "refused payloads are kept and have no incident key"),
            ("source=servicepilo", "did you mean `servicepilot`?"),
            ("search=nowhere", "of what came in a batch"),
            ("state=delivered", "journal.keep_delivered"),
        ] {
            let list = relay.admin(&format!("/api/v1/events?{query}")).await.json;
            let sentences: Vec<&str> =
                list["not_looked_at"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert!(sentences.iter().any(|sentence| sentence.contains(said)), "{query}: {sentences:?}");
            let (name, value) = query.split_once('=').unwrap();
            let (_, _, printed) = gander(&relay, &["list", &format!("--{name}"), value]).await;
            assert!(printed.contains("no such events") && printed.contains(said), "{query}: {printed}");
        }
        let list = relay.admin("/api/v1/events?search=r1").await.json;
        assert_eq!(list["not_looked_at"], Value::Null, "something was found: {list}");
        assert_eq!(list["searched"]["stopped"], false);
    })
    .await;
}

/// `gander events …` beside the relay: exit code, standard output, standard error.
async fn gander(relay: &Relay, arguments: &[&str]) -> (i32, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gander"));
    command.current_dir(relay.directory.path()).env_clear().arg("events").args(arguments);
    command.env("SERVICEPILOT_TOKEN", TOKEN).stdin(std::process::Stdio::null());
    command.args(["--config", "gander.yaml", "--set"]).arg(format!("admin.address=127.0.0.1:{}", relay.ports().1));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
