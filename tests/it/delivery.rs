//! From an acknowledged event to a confirmed one: order, retry, restart.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::relay::{Relay, Setup, UPSTREAM_TOKEN, payload, within};
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

fn short(calls: &[Call]) -> Vec<String> {
    calls.iter().map(Call::short).collect()
}

fn short_of<'a>(calls: &'a [Call], key: &str) -> Vec<&'a str> {
    calls.iter().filter(|call| call.key() == key).map(Call::state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_examples_open_and_close_an_incident() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let answer = relay.post_with(&payload("sp-evt-1001", "CRITICAL"), &[("prefer", "wait=10")]).await;
        assert_eq!((answer.status, &answer.json["outcome"]), (StatusCode::CREATED, &json!("created")));
        let answer = relay.post_with(&payload("sp-evt-1001", "OK"), &[("prefer", "wait=10")]).await;
        assert_eq!((answer.status, &answer.json["outcome"]), (StatusCode::OK, &json!("resolved")));

        let calls = upstream.calls();
        assert_eq!(short(&calls), ["sp-evt-1001 CRITICAL", "sp-evt-1001 OK"]);
        for call in &calls {
            assert_eq!(call.path_and_query, "/sqibs-api/v1/process?from=ServicePilot");
            assert_eq!(call.headers["authorization"], format!("Bearer {UPSTREAM_TOKEN}"));
            assert_eq!(call.headers["content-type"], "application/json");
            assert!(call.headers.contains_key("content-length"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trigger_resolve_trigger_within_the_window_is_three_calls() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        for state in ["CRITICAL", "OK", "CRITICAL", "CRITICAL"] {
            relay.post(&payload("e1", state)).await;
        }
        // Another key's event comes last: whatever else was to come of the first key has come by then.
        relay.post_with(&payload("e2", "CRITICAL"), &[("prefer", "wait=10")]).await;
        let calls = upstream.calls_once(4).await;
        assert_eq!(short_of(&calls, "e1"), ["CRITICAL", "OK", "CRITICAL"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_sent_concurrently_are_one_call() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let event = payload("e1", "CRITICAL");
        let answers = futures(20, || relay.post_with(&event, &[("prefer", "wait=10")])).await;
        let created = answers.iter().filter(|answer| answer.json["status"] == "delivered").count();
        assert_eq!(created, 1, "{answers:?}");
        let copies = answers.iter().filter(|answer| answer.json["status"] == "duplicate").count();
        assert_eq!(copies, 19, "{answers:?}");
        assert_eq!(upstream.calls().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolve_never_overtakes_its_trigger_while_the_trigger_is_being_retried() {
    within(async {
        // The first three answers to the trigger are failures of three kinds.
        let upstream = Upstream::start(|call, number| match (call.state(), number) {
            ("CRITICAL", 0) => Reply::status(503),
            ("CRITICAL", 1) => Reply::HangUp,
            ("CRITICAL", 2) => Reply::status(500),
            _ => Reply::Done,
        })
        .await;
        let relay = Relay::start(&upstream, &impatient()).await;
        relay.post(&payload("e1", "CRITICAL")).await;
        let answer = relay.post_with(&payload("e1", "OK"), &[("prefer", "wait=10")]).await;
        assert_eq!(answer.json["outcome"], "resolved");
        assert_eq!(short_of(&upstream.calls(), "e1"), ["CRITICAL", "CRITICAL", "CRITICAL", "CRITICAL", "OK"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_fails_holds_up_no_other() {
    within(async {
        let upstream =
            Upstream::start(|call, _| if call.key() == "poison" { Reply::status(503) } else { Reply::Done }).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        relay.post(&payload("poison", "CRITICAL")).await;
        for id in 0..20 {
            let answer = relay.post_with(&payload(&format!("e{id}"), "CRITICAL"), &[("prefer", "wait=10")]).await;
            assert_eq!(answer.json["outcome"], "created");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_event_is_a_dead_letter_and_its_key_goes_on() {
    within(async {
        let upstream = Upstream::start(|call, _| match call.state() {
            "CRITICAL" => Reply::json(422, &json!({ "error": "title too long" })),
            _ => Reply::Done,
        })
        .await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        assert_eq!((answer.status, &answer.json["status"]), (StatusCode::BAD_GATEWAY, &json!("dead")));
        let answer = relay.post_with(&payload("e1", "OK"), &[("prefer", "wait=10")]).await;
        assert_eq!(answer.json["outcome"], "resolved");

        let dead = relay.admin("/api/v1/events?state=dead").await.json;
        let id = dead["events"][0]["id"].as_str().unwrap();
        let details = relay.admin(&format!("/api/v1/events/{id}")).await.json;
        assert_eq!(details["deliveries"][0]["status"], 422);
        assert!(details["deliveries"][0]["answer"].as_str().unwrap().contains("title too long"), "{details}");
        // It had no effect there, so the same trigger is new again.
        let answer = relay.post(&payload("e1", "CRITICAL")).await;
        assert_eq!(answer.json["status"], "queued");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_alerts_nobody_is_no_success_and_the_next_trigger_is_sent() {
    within(async {
        let neither = json!({
            "id": "1",
            "resolved": { "duplicate": false, "resolved": false },
            "triggered": { "duplicate": false, "created": false },
        });
        let upstream = Upstream::start(move |_, _| Reply::json(202, &neither)).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        for _ in 0..2 {
            let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
            assert_eq!((answer.status, &answer.json["outcome"]), (StatusCode::BAD_GATEWAY, &json!("unmatched")));
        }
        let listed = relay.admin("/api/v1/events?outcome=unmatched").await.json;
        assert_eq!(listed["events"].as_array().map(Vec::len), Some(2));
        let line = r#"gander_events_delivered_total{source="servicepilot",action="trigger",outcome="unmatched"} 2"#;
        relay.admin_once("/metrics", |metrics| metrics.as_str().unwrap().contains(line)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pauses_is_retried_and_nothing_is_given_up_for_it() {
    within(async {
        for status in [401, 403, 407, 301, 404, 405, 410, 414] {
            let upstream =
                Upstream::start(move |_, number| if number < 3 { Reply::status(status) } else { Reply::Done }).await;
            let mut setup = impatient();
            setup.upstream[0] = "retry: { initial: 10ms, factor: 1, max: 20ms, give_up_after: 1ms }".into();
            let relay = Relay::start(&upstream, &setup).await;
            let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
            assert_eq!(answer.json["outcome"], "created", "{status}");
            assert_eq!(upstream.calls().len(), 4, "{status}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_tried_too_long_is_a_dead_letter() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let mut setup = impatient();
        setup.upstream[0] = "retry: { initial: 10ms, factor: 1, max: 20ms, give_up_after: 100ms }".into();
        let relay = Relay::start(&upstream, &setup).await;
        let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        assert_eq!((answer.status, &answer.json["status"]), (StatusCode::BAD_GATEWAY, &json!("dead")));
        assert!(upstream.calls().len() > 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_instead_of_json_is_tried_again() {
    within(async {
        let upstream = Upstream::start(|_, number| match number {
            0 => Reply::Answer {
                status: 200,
                headers: vec![("content-type", "text/html".into())],
                body: "<html>blocked</html>".into(),
            },
            _ => Reply::Done,
        })
        .await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        assert_eq!(answer.json["outcome"], "created");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_at_a_stop_is_delivered_after_the_start_in_its_order() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        for state in ["CRITICAL", "OK", "CRITICAL"] {
            let answer = relay.post(&payload("e1", state)).await;
            assert_eq!(answer.json["status"], "queued");
        }
        upstream.calls_once(1).await;
        let directory = relay.stop().await;
        let before = upstream.calls().len();
        upstream.follow(|_, _| Reply::Done);
        let relay = Relay::start_in(directory, &upstream, &impatient()).await;
        // A repeat is still a duplicate, and waits for the event that it copies.
        let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        assert_eq!((&answer.json["status"], &answer.json["outcome"]), (&json!("duplicate"), &json!("created")));
        assert_eq!(short_of(&upstream.calls()[before..], "e1"), ["CRITICAL", "OK", "CRITICAL"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_calls_are_under_way_than_allowed() {
    within(async {
        let gate = Gate::closed();
        let opened = gate.clone();
        let upstream = Upstream::start(move |_, _| Reply::After(opened.clone(), Box::new(Reply::Done))).await;
        let mut setup = impatient();
        setup.upstream.push("concurrency: 3".into());
        let relay = Relay::start(&upstream, &setup).await;
        for id in 0..10 {
            relay.post(&payload(&format!("e{id}"), "CRITICAL")).await;
        }
        upstream.calls_once(3).await;
        relay
            .admin_once("/api/v1/status", |status| {
                (&status["upstream"]["in_flight"], &status["queue"]["events"]) == (&json!(3), &json!(10))
            })
            .await;
        assert_eq!(upstream.calls().len(), 3);
        gate.open();
        upstream.calls_once(10).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_no_answer_and_no_file() {
    within(async {
        // The upstream repeats the token that it was shown.
        let upstream = Upstream::start(|_, number| match number {
            0 => Reply::Answer {
                status: 401,
                headers: vec![("location", format!("https://u:{UPSTREAM_TOKEN}@example.org/{UPSTREAM_TOKEN}"))],
                body: format!("no such token: {UPSTREAM_TOKEN}"),
            },
            _ => Reply::Done,
        })
        .await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        let id = answer.json["id"].as_str().unwrap().to_owned();
        let mut shown = format!("{answer:?}");
        let details = format!("/api/v1/events/{id}");
        for path in ["/readyz", "/metrics", "/api/v1/status", "/api/v1/events", "/api/v1/incidents", details.as_str()] {
            shown += &relay.admin(path).await.json.to_string();
        }
        let directory = relay.stop().await;
        for entry in std::fs::read_dir(directory.path().join("data")).unwrap() {
            shown += &String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap());
        }
        for secret in [crate::relay::TOKEN, UPSTREAM_TOKEN] {
            assert!(!shown.contains(secret), "{secret} is shown");
        }
        assert!(shown.contains("High CPU Usage"), "the journal was looked through");
        assert!(shown.contains("no such token: ***"), "the rest of the answer is kept");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_holds_the_token_by_chance_is_understood_all_the_same() {
    within(async {
        for token in ["created", "triggered", "t"] {
            let upstream = Upstream::start(|_, _| Reply::Done).await;
            let setup = Setup { upstream_token: Some(token.to_owned()), ..impatient() };
            let relay = Relay::start(&upstream, &setup).await;
            let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
            assert_eq!(
                (&answer.json["status"], &answer.json["outcome"]),
                (&json!("delivered"), &json!("created")),
                "{token}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_what_is_wrong_and_what_to_do_and_forgets_it_when_it_is_mended() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(401)).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        relay.post(&payload("e1", "CRITICAL")).await;
        let is_degraded = |json: &Value| json["degraded"].as_array().is_some_and(|all| !all.is_empty());
        let readiness = relay.admin_once("/readyz", is_degraded).await;
        assert_eq!(readiness["ready"], true, "events are taken all the while");
        assert_eq!(readiness["degraded"][0]["reason"], "upstream_auth");
        assert_eq!(readiness["degraded"][0]["status"], 401);
        let called = relay.admin("/api/v1/status").await.json["upstream"]["url"].as_str().unwrap().to_owned();
        assert!(called.starts_with("http"), "{called}");
        assert_eq!(readiness["degraded"][0]["detail"], format!("unauthorized at {called}"));
        assert!(readiness["degraded"][0]["remedy"].as_str().unwrap().contains("upstream.authorization"));
        upstream.follow(|_, _| Reply::Done);
        relay.admin_once("/readyz", |json| json["degraded"] == json!([])).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_gets_one_probe_at_a_time_and_everything_when_it_is_back() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let mut setup = impatient();
        setup.upstream[0] = "retry: { initial: 1ms, factor: 1, max: 1h }".into();
        setup.upstream.push("breaker: { failures: 5, open: 300ms }".into());
        setup.upstream.push("concurrency: 1".into());
        let relay = Relay::start(&upstream, &setup).await;
        for id in 0..20 {
            relay.post(&payload(&format!("e{id}"), "CRITICAL")).await;
        }
        let degraded = |json: &Value| json["degraded"][0]["reason"] == "breaker_open";
        let readiness = relay.admin_once("/readyz", degraded).await;
        assert_eq!((&readiness["ready"], &readiness["degraded"][0]["status"]), (&json!(true), &json!(503)));
        let metrics = relay.admin("/metrics").await.json;
        assert!(metrics.as_str().unwrap().contains("gander_upstream_breaker_open 1"), "{metrics}");
        let called = upstream.calls_once(8).await;
        let probed: std::collections::BTreeSet<&str> = called[5..].iter().map(Call::key).collect();
        assert_eq!(probed.len(), called.len() - 5, "each probe is another event");
        let tried = relay.admin("/api/v1/events").await.json;
        let untried = tried["events"].as_array().unwrap().iter().filter(|event| event["attempts"] == 0).count();
        assert!(untried > 5, "the others are not tried at all: {untried}");
        upstream.follow(|_, _| Reply::Done);
        relay.admin_once("/api/v1/status", |status| status["queue"]["events"] == 0).await;
        relay.admin_once("/readyz", |json| json["degraded"] == json!([])).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_token_file_ends_the_pause_at_once() {
    within(async {
        let upstream = Upstream::start(|call, _| match call.headers["authorization"].to_str() {
            Ok("Bearer renewed") => Reply::Done,
            _ => Reply::status(401),
        })
        .await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let token = directory.path().join("token");
        std::fs::write(&token, "expired\n").unwrap();
        let mut setup = impatient();
        // Without the change the next probe would be an hour away.
        setup.upstream[0] = "retry: { initial: 1ms, factor: 1, max: 1h }".into();
        setup.upstream_token = Some(format!("{{ file: '{}' }}", token.display()));
        let relay = Relay::start_in(directory, &upstream, &setup).await;
        relay.post(&payload("e1", "CRITICAL")).await;
        relay.admin_once("/readyz", |json| json["degraded"][0]["reason"] == "upstream_auth").await;
        std::fs::write(&token, "renewed\n").unwrap();
        relay.admin_once("/api/v1/events?outcome=created", |json| json["events"][0]["state"] == "delivered").await;
    })
    .await;
}

/// What Callgoose answers to a resolve that finds no incident, and to a call that it takes for a repeat.
fn answer(resolved: bool, duplicate: bool) -> Reply {
    Reply::json(
        200,
        &json!({
            "id": "1",
            "resolved": { "duplicate": duplicate, "resolved": resolved },
            "triggered": { "duplicate": duplicate, "created": false },
        }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolve_that_came_too_early_is_sent_again_also_after_a_restart() {
    for restarts in [false, true] {
        within(async {
            let upstream = Upstream::start(|call, number| match (call.state(), number) {
                ("OK", 1 | 2) => answer(false, false),
                _ => Reply::Done,
            })
            .await;
            let mut setup = impatient();
            setup.upstream[0] = "retry: { unresolved: { attempts: 20, over: 5s } }".into();
            let mut relay = Relay::start(&upstream, &setup).await;
            relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
            if restarts {
                relay = Relay::start_in(relay.stop().await, &upstream, &setup).await;
            }
            let answer = relay.post_with(&payload("e1", "OK"), &[("prefer", "wait=10")]).await;
            assert_eq!(answer.json["outcome"], "resolved", "{answer:?}");
            assert_eq!(short_of(&upstream.calls(), "e1"), ["CRITICAL", "OK", "OK", "OK"]);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_event_does_not_wait_for_a_better_answer() {
    within(async {
        let upstream = Upstream::start(|call, _| match call.state() {
            "OK" => answer(false, false),
            _ => Reply::Done,
        })
        .await;
        let mut setup = impatient();
        setup.upstream[0] = "retry: { unresolved: { attempts: 3, over: 1h } }".into();
        let relay = Relay::start(&upstream, &setup).await;
        relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        let resolve = relay.post(&payload("e1", "OK")).await.json["id"].as_str().unwrap().to_owned();
        upstream.calls_once(2).await;
        relay
            .admin_once(&format!("/api/v1/events/{resolve}"), |event| {
                event["deliveries"][0]["result"] == "not_resolved"
            })
            .await;
        let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        assert_eq!(answer.json["outcome"], "created");
        let event = relay.admin(&format!("/api/v1/events/{resolve}")).await.json;
        assert_eq!((&event["state"], &event["outcome"]), (&json!("delivered"), &json!("not_resolved")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_trigger_after_a_resolve_that_is_taken_for_a_repeat_is_sent_again() {
    within(async {
        let upstream = Upstream::start(|_, number| if number == 2 { answer(false, true) } else { Reply::Done }).await;
        let mut setup = impatient();
        setup.upstream[0] = "retry: { unresolved: { attempts: 20, over: 5s } }".into();
        let relay = Relay::start(&upstream, &setup).await;
        for (state, outcome) in [("CRITICAL", "created"), ("OK", "resolved"), ("CRITICAL", "created")] {
            let answer = relay.post_with(&payload("e1", state), &[("prefer", "wait=10")]).await;
            assert_eq!(answer.json["outcome"], outcome, "{answer:?}");
        }
        assert_eq!(short_of(&upstream.calls(), "e1"), ["CRITICAL", "OK", "CRITICAL", "CRITICAL"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_retries_stand_survives_a_restart() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let id = relay.post(&payload("e1", "CRITICAL")).await.json["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/events/{id}");
        relay.admin_once(&path, |event| event["attempts"].as_u64() >= Some(3)).await;
        let directory = relay.stop().await;
        upstream.follow(|_, _| Reply::Done);
        let relay = Relay::start_in(directory, &upstream, &impatient()).await;
        let event = relay.admin_once(&path, |event| event["state"] == "delivered").await;
        let numbers: Vec<u64> =
            event["deliveries"].as_array().unwrap().iter().map(|call| call["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=event["attempts"].as_u64().unwrap()).collect::<Vec<_>>(), "no number twice");
        assert!(numbers.len() >= 4);
    })
    .await;
}

/// Runs `count` of the same at once.
async fn futures<F: Future>(count: usize, start: impl Fn() -> F) -> Vec<F::Output> {
    let mut running: Vec<_> = (0..count).map(|_| Box::pin(start())).collect();
    let mut done = Vec::with_capacity(count);
    std::future::poll_fn(|context| {
        let mut at = 0;
        while at < running.len() {
            match running[at].as_mut().poll(context) {
                std::task::Poll::Ready(output) => {
                    done.push(output);
                    drop(running.swap_remove(at));
                }
                std::task::Poll::Pending => at += 1,
            }
        }
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
