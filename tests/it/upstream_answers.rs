//! What an upstream's answer comes to when its body is long, late, broken off or oddly written: what its status says.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::relay::{Answer, Relay, Setup, UPSTREAM_TOKEN, payload, within};
use crate::upstream::{Reply, Then, Upstream};

const CREATED: &str =
    r#"{"id":"1","resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":true}"#;

fn setup() -> Setup {
    Setup {
        upstream: vec![
            "timeout: 20s".into(),
            "retry: { initial: 10ms, factor: 1, max: 20ms }".into(),
            "breaker: { failures: 1000, open: 10ms }".into(),
        ],
        ..Setup::default()
    }
}

/// The documented answer, so long.
fn long(bytes: usize) -> String {
    format!("{CREATED},\"more\":\"{}\"}}", "x".repeat(bytes))
}

fn answer(status: u16, body: String) -> Reply {
    Reply::Answer { status, headers: vec![("content-type", "application/json".into())], body }
}

fn endless(status: u16, body: &str, then: Then) -> Reply {
    Reply::Endless { status, headers: vec![("content-type", "application/json".into())], body: body.to_owned(), then }
}

/// Every way in which a body may be more than what is read of it.
fn too_much(status: u16) -> Vec<(&'static str, Reply)> {
    vec![
        ("long", answer(status, long(80_000))),
        ("very long", answer(status, long(5_000_000))),
        ("broken off", endless(status, CREATED, Then::Break)),
        ("broken off at once", endless(status, "", Then::Break)),
        ("silent", endless(status, CREATED, Then::Silence)),
        ("dripping", endless(status, CREATED, Then::Drip)),
        ("without end", endless(status, &long(80_000), Then::Drip)),
    ]
}

/// Sends one trigger to an upstream that always answers so, and waits for what came of it.
async fn ask(reply: Reply) -> (Relay, Upstream, Answer) {
    let upstream = Upstream::start(move |_, _| reply.clone()).await;
    let relay = Relay::start(&upstream, &setup()).await;
    let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
    (relay, upstream, answer)
}

async fn details(relay: &Relay, id: &Value) -> Value {
    relay.admin(&format!("/api/v1/events/{}", id.as_str().unwrap())).await.json
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_is_one_whatever_becomes_of_its_body_and_is_never_sent_again() {
    within(async {
        for (sentence, reply) in too_much(201) {
            let said = !sentence.contains("at once");
            let (relay, upstream, answer) = ask(reply).await;
            let outcome = if said { "created" } else { "accepted" };
            assert_eq!(answer.json["outcome"], outcome, "{sentence}: {answer:?}");
            assert_eq!(upstream.calls().len(), 1, "{sentence}");
            let details = details(&relay, &answer.json["id"]).await;
            let told = details["deliveries"][0]["detail"].as_str().unwrap();
            assert!(told.contains("the answer's body"), "{sentence}: {told}");
            assert!(details["deliveries"][0]["answer"].as_str().unwrap().len() <= 2_048, "{sentence}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_one_whatever_becomes_of_its_body() {
    within(async {
        for (sentence, reply) in too_much(422) {
            let started = Instant::now();
            let (_relay, upstream, answer) = ask(reply).await;
            assert_eq!((answer.json["status"].as_str(), upstream.calls().len()), (Some("dead"), 1), "{sentence}");
            assert!(started.elapsed() < Duration::from_secs(15), "{sentence}: {:?}", started.elapsed());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_token_pauses_whatever_becomes_of_its_body() {
    within(async {
        let (denied, elsewhere) = (too_much(403), too_much(404));
        let rows = denied.into_iter().map(|row| (row, "upstream_auth"));
        for ((sentence, reply), reason) in rows.chain(elsewhere.into_iter().map(|row| (row, "upstream_endpoint"))) {
            let upstream = Upstream::start(move |_, _| reply.clone()).await;
            let relay = Relay::start(&upstream, &setup()).await;
            relay.post(&payload("e1", "CRITICAL")).await;
            let ready = relay.admin_once("/readyz", |ready| ready["degraded"][0]["reason"].is_string()).await;
            assert_eq!(ready["degraded"][0]["reason"], reason, "{sentence}: {ready}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_obeyed_whatever_becomes_of_the_body() {
    within(async {
        for status in [429, 503] {
            for (sentence, reply) in too_much(status) {
                let reply = match reply {
                    Reply::Answer { status, body, .. } => Reply::Answer { status, headers: retry_after(), body },
                    Reply::Endless { status, body, then, .. } => {
                        Reply::Endless { status, headers: retry_after(), body, then }
                    }
                    other => other,
                };
                let upstream =
                    Upstream::start(move |_, number| if number == 0 { reply.clone() } else { Reply::Done }).await;
                let relay = Relay::start(&upstream, &setup()).await;
                let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=1")]).await;
                assert_eq!(answer.json["status"], "queued", "{status} {sentence}");
                let id = answer.json["id"].clone();
                let tried = |details: &Value| !details["deliveries"].as_array().is_none_or(Vec::is_empty);
                let path = format!("/api/v1/events/{}", id.as_str().unwrap());
                let details = relay.admin_once(&path, tried).await;
                assert_eq!(details["deliveries"][0]["status"], status, "{sentence}");
                assert_eq!(upstream.calls().len(), 1, "{status} {sentence}");
            }
        }
    })
    .await;
}

fn retry_after() -> Vec<(&'static str, String)> {
    vec![("retry-after", "60".to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn json_behind_a_byte_order_mark_is_json() {
    within(async {
        let (_relay, upstream, answer) = ask(answer(201, format!("\u{feff}{CREATED}}}"))).await;
        assert_eq!((&answer.json["outcome"], upstream.calls().len()), (&json!("created"), 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_no_delivery_however_long_or_broken_off_it_is() {
    within(async {
        let html = || vec![("content-type", "text/html; charset=utf-8".to_owned())];
        let page = format!("<!doctype html><html>{}", "x".repeat(80_000));
        let part = |body: &str, then| Reply::Endless { status: 200, headers: html(), body: body.to_owned(), then };
        for (sentence, reply) in [
            ("long", Reply::Answer { status: 200, headers: html(), body: page.clone() }),
            ("broken off", part("<!doctype html>", Then::Break)),
            ("broken off before it said anything", part("", Then::Break)),
        ] {
            let upstream = Upstream::start(move |_, number| if number < 2 { reply.clone() } else { Reply::Done }).await;
            let relay = Relay::start(&upstream, &setup()).await;
            let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
            assert_eq!((&answer.json["outcome"], upstream.calls().len()), (&json!("created"), 3), "{sentence}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_a_body_that_broke_off_holds_no_part_of_the_token() {
    within(async {
        let body = format!("your token {UPSTREAM_TOKEN} and again {}", &UPSTREAM_TOKEN[..UPSTREAM_TOKEN.len() - 1]);
        let (relay, _upstream, answer) = ask(endless(422, &body, Then::Break)).await;
        let kept = details(&relay, &answer.json["id"]).await["deliveries"][0]["answer"].clone();
        assert_eq!(kept, "your token *** and again ***");
    })
    .await;
}
