//! Several sources before one queue: one that floods leaves room for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::relay::{Answer, Relay, Setup, TOKEN, payload, within};
use crate::support::{self, source};
use crate::upstream::{Reply, Upstream};

/// Three sources before a queue of ninety; their events go out slowly, or not at all until `open`.
async fn three_sources(open: &Arc<AtomicBool>) -> (Upstream, Relay) {
    let gate = Arc::clone(open);
    let upstream =
        Upstream::start(move |_, _| if gate.load(Ordering::SeqCst) { Reply::Done } else { Reply::status(503) }).await;
    let others = ["second", "third"].map(|name| {
        format!("\n  {name}:\n    rules: rules.yaml\n    auth: [ {{ bearer: {{ env: SERVICEPILOT_TOKEN }} }} ]")
    });
    let setup = Setup {
        source: vec![format!("max_queued: auto{}", others.concat())],
        upstream: vec![
            "rate_limit: { per_second: 10000, burst: 10000 }".into(),
            "retry: { initial: 10ms, max: 50ms }".into(),
        ],
        sections: vec!["journal: { max_events: 90 }".into()],
        ..Setup::default()
    };
    let relay = Relay::start(&upstream, &setup).await;
    (upstream, relay)
}

async fn post(relay: &Relay, source: &str, id: &str) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    relay.client.send(Method::POST, &relay.hook(source), &headers, payload(id, "CRITICAL").to_string()).await
}

/// Posts until it was turned away `times` times; returns how many were taken.
async fn flood(relay: &Relay, source: &str, times: usize) -> usize {
    let (mut taken, mut turned_away) = (0, 0);
    for number in 0.. {
        let answer = post(relay, source, &format!("{source}-{number}")).await;
        match answer.status {
            StatusCode::ACCEPTED => taken += 1,
            _ => {
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
                assert_eq!(answer.json["type"], "urn:problem-type:gander:source_share", "{answer:?}");
                turned_away += 1;
                if turned_away == times {
                    return taken;
                }
            }
        }
    }
    taken
}

fn degraded<'a>(ready: &'a Value, source: &str) -> Option<&'a Value> {
    let entries = ready["degraded"].as_array()?;
    entries.iter().find(|entry| {
        let detail = entry["detail"].as_str().unwrap_or_default();
        entry["reason"] == "source_share" && detail.contains(&format!("source {source}:"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_that_flood_leave_room_for_a_third() {
    within(async {
        let open = Arc::default();
        let (_upstream, relay) = three_sources(&open).await;
        let (first, second) = tokio::join!(flood(&relay, "servicepilot", 5), flood(&relay, "second", 5));
        // A third each, or less for the one that came later; as much as the fuller of them had before its last event stays
        // free.
        assert!(first.max(second) <= 45 && first + second + first.max(second) <= 91, "{first} {second}");
        assert!(first.min(second) >= 20, "{first} {second}");
        let ready = relay.admin("/readyz").await;
        assert_eq!((ready.status, &ready.json["ready"]), (StatusCode::OK, &json!(true)));
        for source in ["servicepilot", "second"] {
            let entry = degraded(&ready.json, source).unwrap_or_else(|| panic!("{source}: {:#}", ready.json));
            assert!(entry["remedy"].as_str().unwrap().contains("max_queued"), "{entry}");
        }

        let third = flood(&relay, "third", 1).await;
        assert!(third >= 9, "half of what they left is a ninth of the whole; it got {third}");
        let metrics = relay.admin("/metrics").await.json.as_str().unwrap().to_owned();
        for line in [
            "gander_requests_refused_total{source=\"third\",reason=\"source_share\"} 1".to_owned(),
            format!("gander_queue_source_events{{source=\"third\"}} {third}"),
            format!("gander_queue_source_events{{source=\"servicepilot\"}} {first}"),
        ] {
            assert!(metrics.contains(&line), "{line} in {metrics}");
        }

        open.store(true, Ordering::SeqCst);
        for source in ["servicepilot", "second", "third"] {
            while post(&relay, source, &format!("{source}-later")).await.status != StatusCode::ACCEPTED {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_large_bodies_of_one_source_leave_memory_for_those_of_another() {
    within(async {
        let mut setup = support::Setup::plain();
        // Room for four of the largest bodies.
        setup.listen.bodies.bytes_max = LARGE;
        setup.sources.push(source("calm"));
        let edge = setup.start().await;
        let mut stalled = Vec::new();
        for _ in 0..2 {
            let mut stream = edge.connect().await;
            let head = format!(
                "POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
                 Content-Length: {LARGE}\r\n\r\n",
                support::TOKEN
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&vec![b' '; LARGE - 1]).await.unwrap();
            stalled.push(stream);
        }
        let post = async |source: &str, id: usize| {
            let request = Request::builder().method(Method::POST).uri(edge.url(&format!("/hooks/{source}")));
            let body = json!({"id": id.to_string(), "state": "CRITICAL", "text": "x".repeat(LARGE / 8)}).to_string();
            edge.send(request.header("authorization", format!("Bearer {}", support::TOKEN)), body).await
        };
        while edge.metric("gander_request_bodies_bytes") != (2 * (LARGE - 1)).to_string() {
            tokio::task::yield_now().await;
        }
        assert_eq!(post("calm", 0).await.status, StatusCode::ACCEPTED);
        let given_up = "gander_requests_refused_total{source=\"servicepilot\",reason=\"address_bodies\"}";
        assert_eq!(edge.metric(given_up), "0", "there was room");
        // A further one of the first source makes one of its own give way, once that was long enough in coming.
        loop {
            let answer = post("servicepilot", 0).await;
            if answer.status == StatusCode::ACCEPTED {
                break;
            }
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.body["type"], "urn:problem-type:gander:source_bodies");
            assert_eq!(answer.header("retry-after"), "1");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (first, second) = stalled.split_at_mut(1);
        let answer = tokio::select! {
            answer = support::read_answer(&mut first[0]) => answer,
            answer = support::read_answer(&mut second[0]) => answer,
        };
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("address_bodies"), "{answer:?}");
        assert_eq!(edge.metric(given_up), "1");
        drop(stalled);
        while edge.metric("gander_request_bodies_bytes") != "0" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// More than a quarter of the memory that is set aside for small bodies.
const LARGE: usize = 20 << 20;
