//! What a sender is told of what it sent: queued, duplicate, ignored, delivered; one by one and in batches.

use std::time::Duration;

use gander::exports::event::{Outcome, State};
use gander::exports::inbound::Respond;
use serde_json::{Value, json};

use crate::support::{BATCH_RULES, Setup, rules};

fn alert(key: &str, state: &str) -> Value {
    json!({"id": key, "state": state})
}

#[tokio::test]
async fn an_alert_is_acknowledged_once_it_is_kept() {
    let edge = Setup::new().start().await;
    let answer = edge.alert(alert("k1", "CRITICAL")).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("content-type"), "application/json");
    let id = answer.body["id"].clone();
    let expected = json!({"id": id, "status": "queued", "action": "trigger", "incident_key": "k1"});
    assert_eq!(answer.body, expected);
    let kept = edge.kept(&id);
    assert_eq!(kept.summary.state, "queued");
    assert_eq!(kept.received.unwrap(), alert("k1", "CRITICAL").to_string());
    assert_eq!(kept.request_id, answer.header("x-request-id"));
    assert_eq!(kept.sent.unwrap(), alert("k1", "CRITICAL"));
}

#[tokio::test]
async fn a_repeat_is_a_duplicate_of_what_it_copies() {
    let edge = Setup::new().start().await;
    let first = edge.alert(alert("k1", "CRITICAL")).await;
    let second = edge.alert(alert("k1", "CRITICAL")).await;
    assert_eq!(second.status, 200);
    assert_eq!(second.body["status"], "duplicate");
    assert_eq!(second.body["of"], first.body["id"]);
    let third = edge.alert(alert("k1", "OK")).await;
    assert_eq!((third.status, &third.body["action"]), (202, &json!("resolve")));
}

#[tokio::test]
async fn what_the_rules_ignore_is_not_kept() {
    let edge = Setup::new().start().await;
    let answer = edge.alert(alert("k1", "INFO")).await;
    assert_eq!((answer.status, answer.body), (200, json!({"status": "ignored", "rule": "noise"})));
    assert_eq!(edge.kept_count(), 0);
    assert_eq!(edge.metric("gander_events_ignored_total{source=\"servicepilot\"}"), "1");
}

#[tokio::test]
async fn who_waits_is_told_what_the_upstream_said() {
    let rows = [
        (State::Delivered, Some(Outcome::Created), 201),
        (State::Delivered, Some(Outcome::Accepted), 200),
        (State::Delivered, Some(Outcome::Unmatched), 502),
        (State::Dead, None, 502),
    ];
    for (state, outcome, status) in rows {
        let edge = Setup::new().start().await;
        let request = edge.post().header("prefer", "wait=5");
        let (answer, ()) =
            tokio::join!(edge.send(request, alert("k1", "CRITICAL").to_string()), edge.settle_next(state, outcome));
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.body["status"], state.as_str());
        assert_eq!(answer.body["outcome"], json!(outcome.map(Outcome::as_str)));
        assert_eq!(answer.header("preference-applied"), "wait=5");
        assert_eq!(edge.kept(&answer.body["id"]).summary.state, state.as_str());
    }
}

#[tokio::test]
async fn a_source_that_responds_when_delivered_needs_no_header() {
    let mut setup = Setup::new();
    setup.source().respond = Respond::Delivered;
    let edge = setup.start().await;
    let done = edge.settle_next(State::Delivered, Some(Outcome::Resolved));
    let (answer, ()) = tokio::join!(edge.alert(alert("k1", "OK")), done);
    assert_eq!((answer.status, &answer.body["outcome"]), (200, &json!("resolved")));
    assert_eq!(answer.header("preference-applied"), "", "no preference was stated");
}

#[tokio::test]
async fn a_duplicate_waits_for_what_it_copies() {
    let edge = Setup::new().start().await;
    let first = edge.alert(alert("k1", "CRITICAL")).await;
    let request = edge.post().header("prefer", "wait=5");
    let (second, ()) = tokio::join!(
        edge.send(request, alert("k1", "CRITICAL").to_string()),
        edge.settle_next(State::Delivered, Some(Outcome::Created))
    );
    assert_eq!(second.status, 200);
    let told = json!({"status": "duplicate", "of": first.body["id"], "outcome": "created", "action": "trigger", "incident_key": "k1"});
    assert_eq!(second.body, told);
}

#[tokio::test]
async fn who_waited_in_vain_is_told_that_it_is_queued() {
    let mut setup = Setup::new();
    setup.source().respond_timeout = Duration::from_millis(20);
    let edge = setup.start().await;
    let request = edge.post().header("prefer", "wait=3600");
    let answer = edge.send(request, alert("k1", "CRITICAL").to_string()).await;
    assert_eq!((answer.status, &answer.body["status"]), (202, &json!("queued")));
    let again = edge.send(edge.post().header("prefer", "wait=3600"), alert("k1", "CRITICAL").to_string()).await;
    assert_eq!((again.status, &again.body["status"]), (202, &json!("duplicate")));
}

#[tokio::test]
async fn a_stopping_relay_lets_nobody_wait() {
    let edge = Setup::new().start().await;
    let request = edge.post().header("prefer", "wait=10");
    let stop = async {
        // Once the event is durable its sender waits.
        while edge.kept_count() == 0 {
            tokio::task::yield_now().await;
        }
        edge.shutdown.begin();
    };
    let (answer, ()) = tokio::join!(edge.send(request, alert("k1", "CRITICAL").to_string()), stop);
    assert_eq!((answer.status, &answer.body["status"]), (202, &json!("queued")));
    edge.served.await.unwrap();
}

#[tokio::test]
async fn a_batch_is_told_element_by_element() {
    let mut setup = Setup::new();
    setup.source().rules = rules(BATCH_RULES);
    let edge = setup.start().await;
    let batch = |states: &[(&str, &str)]| json!({"alerts": states.iter().map(|(key, state)| alert(key, state)).collect::<Vec<_>>()});
    let mixed =
        edge.alert(batch(&[("a", "CRITICAL"), ("a", "CRITICAL"), ("b", "odd"), ("c", "INFO"), ("a", "OK")])).await;
    assert_eq!(mixed.status, 202, "{mixed:?}");
    let statuses: Vec<_> = mixed.body["events"].as_array().unwrap().iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, ["queued", "duplicate", "refused", "ignored", "queued"]);
    let indexes: Vec<_> = mixed.body["events"].as_array().unwrap().iter().map(|line| line["index"].clone()).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4]);
    assert_eq!(mixed.body["events"][1]["of"], mixed.body["events"][0]["id"]);
    let refused = edge.kept(&mixed.body["events"][2]["id"]);
    assert_eq!(refused.summary.state, "refused");

    let refused = edge.alert(batch(&[("c", "INFO"), ("d", "odd")])).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.body["events"][1]["status"], "refused");
    assert_eq!(refused.body["errors"][0]["index"], 1);

    let nothing = edge.alert(batch(&[("c", "INFO")])).await;
    assert_eq!(nothing.status, 200);

    let unsplit = edge.alert(json!({"alerts": []})).await;
    assert_eq!(unsplit.status, 422);
    assert_eq!((&unsplit.body["events"], unsplit.body["errors"].as_array().unwrap().len()), (&Value::Null, 1));
}

#[tokio::test]
async fn a_large_batch_has_a_large_answer() {
    for http2 in [false, true] {
        let mut setup = Setup::new();
        setup.source().rules = rules(BATCH_RULES);
        let edge = setup.start().await;
        let alerts: Vec<_> = (0..1_000).map(|number| alert(&format!("k{number}"), "CRITICAL")).collect();
        let answer = edge.send_by(edge.post(), json!({"alerts": alerts}).to_string(), http2).await;
        assert_eq!((answer.status, answer.body["events"].as_array().unwrap().len()), (202, 1_000));
        assert_eq!(edge.metric("gander_events_accepted_total{source=\"servicepilot\",action=\"trigger\"}"), "1000");
    }
}

#[tokio::test]
async fn a_batch_waits_for_all_its_events() {
    let mut setup = Setup::new();
    setup.source().rules = rules(BATCH_RULES);
    let edge = setup.start().await;
    let payload = json!({"alerts": [alert("a", "CRITICAL"), alert("b", "CRITICAL"), alert("c", "odd")]});
    let (answer, ()) = tokio::join!(
        edge.send(edge.post().header("prefer", "wait=5"), payload.to_string()),
        edge.settle_next(State::Delivered, Some(Outcome::Created))
    );
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.body["events"][1]["outcome"], "created");
}

#[tokio::test]
async fn request_ids_are_the_relays_own() {
    let edge = Setup::new().start().await;
    let first = edge.send(edge.post().header("x-request-id", "theirs"), alert("a", "CRITICAL").to_string()).await;
    let second = edge.send(edge.post().header("x-request-id", "theirs"), alert("b", "CRITICAL").to_string()).await;
    assert_ne!(first.header("x-request-id"), "theirs");
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[tokio::test]
async fn a_body_in_another_charset_is_read() {
    let edge = Setup::new().start().await;
    let body = b"{\"id\": \"Z\xfcrich\", \"state\": \"CRITICAL\"}".to_vec();
    let answer = edge.send(edge.post().header("content-type", "text/plain; charset=iso-8859-1"), body).await;
    assert_eq!((answer.status, &answer.body["incident_key"]), (202, &json!("Zürich")));
}
