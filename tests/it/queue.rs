//! The queue: by source, lane and key, by the API, the command and the page.

use std::process::{Command, Stdio};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::commands::command as command_relay;
use crate::relay::{Answer, Relay, Setup, TOKEN, payload, within, write_configuration};
use crate::upstream::{Gate, Reply, Upstream};

/// Two sources; what failed is tried again when the upstream says.
fn two_sources() -> Setup {
    let other = "\n  second:\n    rules: rules.yaml\n    auth: [ { bearer: { env: SERVICEPILOT_TOKEN } } ]";
    Setup {
        source: vec![format!("max_queued: auto{other}")],
        upstream: vec![
            "concurrency: 2".into(),
            "rate_limit: { per_second: 10000, burst: 10000 }".into(),
            "breaker: { failures: 1000 }".into(),
        ],
        ..Setup::default()
    }
}

async fn post(relay: &Relay, source: &str, id: &str) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    relay.client.send(Method::POST, &relay.hook(source), &headers, payload(id, "CRITICAL").to_string()).await
}

/// The upstream is busy for the key `bad`, for fifty seconds, and answers for all others when the gate opens.
async fn upstream(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::start(move |call, _| match call.key() {
        "bad" => {
            let headers = vec![("retry-after", "50".to_owned())];
            Reply::Answer { status: 503, headers, body: String::new() }
        }
        _ => Reply::After(gate.clone(), Box::new(Reply::Done)),
    })
    .await
}

fn source<'a>(queue: &'a Value, name: &str) -> &'a Value {
    queue["sources"].as_array().unwrap().iter().find(|source| source["source"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_told_by_source_lane_and_key() {
    within(async {
        let gate = Gate::closed();
        let upstream = upstream(&gate).await;
        let relay = Relay::start(&upstream, &two_sources()).await;
        let nothing = relay.admin("/api/v1/queue").await.json;
        assert_eq!((&nothing["queue"]["events"], &nothing["keys"]), (&json!(0), &json!([])), "{nothing}");
        assert_eq!(source(&nothing, "second")["drain_seconds"], 0.0, "{nothing}");

        post(&relay, "servicepilot", "bad").await;
        relay.admin_once("/api/v1/queue", |queue| queue["keys"][0]["next_attempt_at"].is_string()).await;
        // Two calls hang, the rest waits for its turn.
        for key in ["a", "b", "c", "d", "e"] {
            post(&relay, "servicepilot", key).await;
        }
        post(&relay, "second", "other").await;
        command_relay(&relay, "/hold", &json!({ "source": "second" })).await;
        command_relay(&relay, "/hold", &json!({ "source": "servicepilot", "key": "e" })).await;
        upstream.calls_once(3).await;
        let is_told = |queue: &Value| queue["queue"]["events"] == 7 && source(queue, "servicepilot")["held"] == 1;
        let queue = relay.admin_once("/api/v1/queue", is_told).await;
        let first = source(&queue, "servicepilot");
        let counts = ["events", "keys", "retry", "backoff", "held", "settling", "backlog"].map(|name| &first[name]);
        let expected = [6, 6, 0, 1, 1, 0, 0].map(|count| json!(count));
        assert_eq!(counts, expected.each_ref(), "{queue}");
        let going = ["fresh", "under_way"].map(|name| first[name].as_u64().unwrap());
        assert_eq!(going.iter().sum::<u64>(), 4, "{queue}");
        assert_eq!(first["calls"], first["under_way"], "one event a key: {queue}");
        assert_eq!(first["drain_seconds"], Value::Null, "nothing of it is delivered: {queue}");
        assert!(first["oldest_received_at"].is_string(), "{queue}");
        assert_eq!(source(&queue, "second")["source_held"], true, "{queue}");

        let bad = &queue["keys"][0];
        let told = ["incident_key", "source", "standing", "attempts", "reason", "events"].map(|name| bad[name].clone());
        let expected = [json!("bad"), json!("servicepilot"), json!("backoff"), json!(1), json!("busy (503)"), json!(1)];
        assert_eq!(told, expected, "what fails comes first: {queue}");
        assert!(bad["next_attempt_at"].is_string(), "{queue}");
        let held = queue["keys"].as_array().unwrap().iter().find(|key| key["incident_key"] == "e").unwrap();
        assert_eq!(held["standing"], "held", "{queue}");

        let some = relay.admin("/api/v1/queue?source=servicepilot&limit=2").await.json;
        assert_eq!((some["sources"].as_array().unwrap().len(), &some["more_keys"]), (1, &json!(4)), "{some}");
        assert_eq!(some["keys"].as_array().unwrap().len(), 2, "{some}");
        for (query, said) in [
            ("source=secnd", "did you mean `second`?"),
            ("limit=5000", "at most 1000"),
            ("key=a", "there is no `key` here"),
        ] {
            let answer = relay.admin(&format!("/api/v1/queue?{query}")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
            assert!(answer.json["detail"].as_str().unwrap().contains(said), "{query}: {answer:?}");
        }

        gate.open();
        let is_drained = |queue: &Value| source(queue, "servicepilot")["events"] == 2;
        let queue = relay.admin_once("/api/v1/queue", is_drained).await;
        assert_eq!(queue["keys"][0]["incident_key"], "bad", "{queue}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_and_the_page_show_what_waits() {
    within(async {
        let gate = Gate::closed();
        let upstream = upstream(&gate).await;
        let relay = Relay::start(&upstream, &two_sources()).await;
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup { admin: Some(format!("address: '127.0.0.1:{}'", relay.ports().1)), ..two_sources() };
        let configuration = write_configuration(folder.path(), &upstream, &setup);
        let gander = async |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_gander"));
            command.arg("queue").args(arguments).arg("--config").arg(&configuration).env("SERVICEPILOT_TOKEN", TOKEN);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
        };
        let (code, text, _) = gander(&[]).await;
        assert!(code == Some(0) && text.starts_with("Nothing waits.\n"), "{code:?} {text}");
        assert!(text.contains("\nservicepilot  0        -       0      0        0         0     0      -\n"), "{text}");

        post(&relay, "servicepilot", "bad").await;
        post(&relay, "second", "<b>").await;
        relay.admin_once("/api/v1/queue", |queue| queue["keys"][0]["next_attempt_at"].is_string()).await;
        let (code, text, said) = gander(&["--limit", "1"]).await;
        assert!(code == Some(0) && text.starts_with("2 events of 2 keys wait: oldest from "), "{code:?} {text}");
        assert!(text.contains("  next attempt at ") && text.contains("  busy (503)"), "{text}");
        assert!(text.lines().find(|line| line.starts_with("servicepilot")).unwrap().ends_with("  unknown"), "{text}");
        assert!(said.contains("one more key waits: --limit NUMBER"), "{said}");
        let (code, text, _) = gander(&["--source", "second", "--json"]).await;
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &json["keys"][0]["incident_key"], &json["more_keys"]), (Some(0), &json!("<b>"), &json!(0)));
        let (code, _, said) = gander(&["--source", "secnd"]).await;
        assert!(code == Some(1) && said.contains("did you mean `second`?"), "{code:?} {said}");

        let page = relay.admin("/queue").await;
        let Value::String(page) = &page.json else { panic!("{page:?}") };
        for part in ["2 events of 2 keys wait", "&lt;b&gt;", "busy (503)", "next attempt at ", "events/", "unknown"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        for (query, said) in [("source=secnd", "(did you mean <code>second</code>?)"), ("limit=5000", "at most 1000")] {
            let answer = relay.admin(&format!("/queue?{query}")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
            assert!(answer.json.as_str().unwrap().contains(said), "as the API says: {query}: {answer:?}");
        }
        gate.open();
    })
    .await;
}
