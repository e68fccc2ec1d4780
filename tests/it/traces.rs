//! A trace: taken from the sender, kept with the event, passed on with each call.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::commands::command;
use crate::process::{self, Process};
use crate::relay::{self, Relay, Setup, payload, within};
use crate::support::BATCH_RULES;
use crate::upstream::{Call, Gate, Reply, Upstream};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SENT: (&str, &str) = ("traceparent", TRACEPARENT);
const STATE: (&str, &str) = ("tracestate", "congo=t61rcWkgMzE, rojo=00f067aa0ba902b7");
const WAIT: (&str, &str) = ("prefer", "wait=10");

fn impatient() -> Setup {
    Setup { upstream: vec!["retry: { initial: 10ms, factor: 1, max: 20ms }".into()], ..Setup::default() }
}

/// The trace, the span and the flags of a call.
fn parts(call: &Call) -> [&str; 3] {
    let text = call.headers["traceparent"].to_str().unwrap();
    let parts: Vec<&str> = text.split('-').collect();
    assert_eq!((parts.len(), parts[0]), (4, "00"), "{text}");
    [parts[1], parts[2], parts[3]]
}

async fn event(relay: &Relay, id: &Value) -> Value {
    relay.admin(&format!("/api/v1/events/{}", id.as_str().unwrap())).await.json
}

#[tokio::test(flavor = "multi_thread")]
async fn a_senders_trace_goes_on_with_a_span_of_its_own_for_each_attempt() {
    within(async {
        let upstream = Upstream::start(|_, number| if number == 0 { Reply::status(503) } else { Reply::Done }).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let answer = relay.post_with(&payload("e1", "CRITICAL"), &[SENT, STATE, WAIT]).await;
        assert_eq!(answer.json["outcome"], "created", "{answer:?}");
        let calls = upstream.calls();
        let mut spans = BTreeSet::from([SPAN]);
        for call in &calls {
            let [trace, span, flags] = parts(call);
            assert_eq!((trace, flags), (TRACE, "01"));
            assert!(spans.insert(span), "{span} is not new");
            assert_eq!(call.headers["tracestate"], "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
        }
        assert_eq!(calls.len(), 2);

        let shown = event(&relay, &answer.json["id"]).await;
        assert_eq!((&shown["trace_id"], &shown["sender_span_id"]), (&json!(TRACE), &json!(SPAN)));
        let story = relay.admin(&format!("/events/{}", answer.json["id"].as_str().unwrap())).await.json.to_string();
        assert!(story.contains(TRACE) && story.contains(SPAN), "{story}");
        let upper = format!("request={}", TRACE.to_uppercase());
        for (query, found) in
            [("", 1), (&format!("request={TRACE}")[..], 1), (&upper, 1), (&format!("request={}", "f".repeat(32)), 0)]
        {
            let listed = relay.admin(&format!("/api/v1/events?{query}")).await.json;
            let traces: Vec<&Value> =
                listed["events"].as_array().unwrap().iter().map(|event| &event["trace_id"]).collect();
            assert_eq!(traces, vec![TRACE; found], "{query}: {listed}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_valid_trace_is_named_the_relay_begins_one_that_is_not_sampled() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let mut known = BTreeSet::from([TRACE.to_owned()]);
        let upper = TRACEPARENT.to_uppercase();
        for (number, headers) in
            [&[][..], &[STATE], &[("traceparent", upper.as_str()), STATE], &[SENT, SENT]].into_iter().enumerate()
        {
            let payload = payload(&format!("e{number}"), "CRITICAL");
            let answer = relay.post_with(&payload, &[headers, &[WAIT]].concat()).await;
            let shown = event(&relay, &answer.json["id"]).await;
            let call = upstream.calls().pop().unwrap();
            let [trace, _, flags] = parts(&call);
            assert_eq!((&shown["trace_id"], flags), (&json!(trace), "00"), "{headers:?}");
            assert!(known.insert(trace.to_owned()), "{headers:?}: {trace} is not new");
            assert!(shown.get("sender_span_id").is_none() && !call.headers.contains_key("tracestate"), "{headers:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_batch_share_its_trace() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup { rules: Some(BATCH_RULES.to_owned()), ..impatient() }).await;
        let batch = json!({ "alerts": [{ "id": "a", "state": "CRITICAL" }, { "id": "b", "state": "CRITICAL" }] });
        assert_eq!(relay.post_with(&batch, &[SENT]).await.status, StatusCode::ACCEPTED);
        let calls = upstream.calls_once(2).await;
        let [[one, span, _], [two, other, _]] = [parts(&calls[0]), parts(&calls[1])];
        assert_eq!([one, two], [TRACE; 2]);
        assert_ne!(span, other);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_still_that_of_its_event_after_a_restart() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        relay.post_with(&payload("e1", "CRITICAL"), &[SENT, STATE]).await;
        upstream.calls_once(1).await;
        let directory = relay.stop().await;
        let before = upstream.calls().len();
        upstream.follow(|_, _| Reply::Done);
        let _relay = Relay::start_in(directory, &upstream, &impatient()).await;
        let calls = upstream.calls_once(before + 1).await;
        let [trace, span, flags] = parts(&calls[before]);
        assert_eq!((trace, flags), (TRACE, "01"));
        assert!(calls[..before].iter().all(|earlier| parts(earlier)[1] != span));
        assert_eq!(calls[before].headers["tracestate"], "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_keeps_the_trace_of_what_it_replays() {
    within(async {
        let upstream = Upstream::start(|_, number| if number == 0 { Reply::status(400) } else { Reply::Done }).await;
        let relay = Relay::start(&upstream, &impatient()).await;
        let dead = relay.post_with(&payload("e1", "CRITICAL"), &[SENT, WAIT]).await;
        assert_eq!(dead.json["status"], "dead", "{dead:?}");
        let refused = relay.post_with(&json!({ "state": "CRITICAL" }), &[SENT]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        let mended = json!({ "payload": payload("e2", "CRITICAL").to_string() });
        for (place, (answer, body)) in [(dead, json!({})), (refused, mended)].into_iter().enumerate() {
            let id = answer.json["id"].as_str().unwrap();
            let answer = command(&relay, &format!("/{id}/replay"), &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            let calls = upstream.calls_once(place + 2).await;
            assert_eq!(parts(&calls[place + 1])[0], TRACE);
            assert_eq!(event(&relay, &answer.json["events"][0]["id"]).await["trace_id"], TRACE);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_trace_where_a_request_came_and_where_its_event_ended() {
    within(async {
        let gate = Gate::closed();
        let waiting = gate.clone();
        let upstream = Upstream::start(move |_, _| Reply::After(waiting.clone(), Box::new(Reply::Done))).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let configuration = relay::write_configuration(directory.path(), &upstream, &process::setup());
        let process = Process::start(configuration).await;
        process.post_with(&payload("e1", "CRITICAL"), &[SENT]).await;
        assert_eq!(process.logged("took a request")["trace_id"], TRACE);
        gate.open();
        assert_eq!(process.logged("delivered")["trace_id"], TRACE);
        process.post_with(&json!({ "state": "CRITICAL" }), &[SENT]).await;
        assert_eq!(process.logged("refused what the rules can't use; it is kept")["trace_id"], TRACE);
        let hook = format!("https://localhost:{}/hooks/servicepilot", process.ports().0);
        let stranger = process.client.send(Method::POST, &hook, &[SENT], "{}".to_owned()).await;
        assert_eq!(stranger.status, 401, "{stranger:?}");
        let line = process.logged("refused a request");
        assert_eq!((&line["reason"], &line["trace_id"]), (&json!("not_authenticated"), &json!(TRACE)));
    })
    .await;
}
