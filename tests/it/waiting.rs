//! What waits, and what came, can be found: by a part of its key, by a text in it, by the request that brought it.

use serde_json::{Value, json};

use crate::relay::{Relay, Setup, TOKEN, payload, within};
use crate::upstream::{Reply, Upstream};

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
            let printed = events(&relay, &["list", &format!("--{name}"), value]).await;
            assert!(printed.contains("no such events") && printed.contains(said), "{query}: {printed}");
        }
        let list = relay.admin("/api/v1/events?search=r1").await.json;
        assert_eq!(list["not_looked_at"], Value::Null, "something was found: {list}");
        assert_eq!(list["searched"]["stopped"], false);
    })
    .await;
}

/// What `gander events …` says beside the relay.
async fn events(relay: &Relay, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gander"));
    command.current_dir(relay.directory.path()).env_clear().arg("events").args(arguments);
    command.env("SERVICEPILOT_TOKEN", TOKEN).stdin(std::process::Stdio::null());
    command.args(["--config", "gander.yaml", "--set"]).arg(format!("admin.address=127.0.0.1:{}", relay.ports().1));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    String::from_utf8(output.stderr).unwrap()
}
