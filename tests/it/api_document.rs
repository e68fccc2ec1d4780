//! The admin API's OpenAPI document, held against the routes and the answers that there are.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::{Value, json};

use crate::process;
use crate::relay::{Answer, Relay, payload, within};
use crate::upstream::{Reply, Upstream};

fn document() -> Value {
    serde_json::from_str(include_str!("../../config/schema/api.json")).unwrap()
}

#[test]
fn every_route_of_the_admin_server_is_in_the_document_and_the_other_way_round() {
    let mut routes = BTreeSet::new();
    for line in include_str!("../../src/admin.rs").lines() {
        let Some(route) = line.trim().strip_prefix(".route(\"") else { continue };
        let (path, handler) = route.split_once("\", ").unwrap();
        routes.insert(format!("{} {path}", handler.split('(').next().unwrap()));
    }
    let document = document();
    let documented = document["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
    });
    assert_eq!(documented.collect::<BTreeSet<_>>(), routes);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_such_as_the_document_tells() {
    within(async {
        let upstream =
            Upstream::start(|call, _| if call.key() == "bad" { Reply::status(422) } else { Reply::Done }).await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        for (key, state) in [("e1", "CRITICAL"), ("e2", "CRITICAL"), ("e2", "OK"), ("bad", "CRITICAL")] {
            relay.post_with(&payload(key, state), &[("prefer", "wait=10")]).await;
        }
        let listed = relay.admin("/api/v1/events").await.json;
        let id = listed["events"][0]["id"].as_str().unwrap().to_owned();
        let document = document();
        for (path, asked, status) in [
            ("/healthz", "/healthz".to_owned(), 200),
            ("/readyz", "/readyz".to_owned(), 200),
            ("/api/v1/events", "/api/v1/events".to_owned(), 200),
            ("/api/v1/events", "/api/v1/events?key=none".to_owned(), 200),
            ("/api/v1/events", "/api/v1/events?limit=0".to_owned(), 400),
            ("/api/v1/events/{id}", format!("/api/v1/events/{id}"), 200),
            ("/api/v1/events/{id}", "/api/v1/events/99999999".to_owned(), 404),
            ("/api/v1/commands", "/api/v1/commands?limit=1000".to_owned(), 200),
            ("/api/v1/commands", "/api/v1/commands?limit=1001".to_owned(), 400),
            ("/api/v1/confirmations", "/api/v1/confirmations?limit=200".to_owned(), 200),
            ("/api/v1/confirmations", "/api/v1/confirmations?limit=201".to_owned(), 400),
            ("/api/v1/queue", "/api/v1/queue?limit=1000".to_owned(), 200),
            ("/api/v1/queue", "/api/v1/queue?limit=1001".to_owned(), 400),
            ("/api/v1/incidents", "/api/v1/incidents".to_owned(), 200),
            ("/api/v1/holds", "/api/v1/holds".to_owned(), 200),
            ("/api/v1/status", "/api/v1/status".to_owned(), 200),
        ] {
            let answer = relay.admin(&asked).await;
            assert_eq!(answer.status, status, "{asked}");
            fits(&document, path, "get", &answer);
        }
        for (path, asked, body, status) in [
            ("/api/v1/events/hold", "hold".to_owned(), r#"{"source":"servicepilot"}"#, 200),
            ("/api/v1/events/release", "release".to_owned(), r#"{"source":"servicepilot"}"#, 200),
            ("/api/v1/events/release", "release".to_owned(), r#"{"source":"servicepilot"}"#, 404),
            ("/api/v1/events/hold", "hold".to_owned(), "{", 400),
            ("/api/v1/events/replay", "replay".to_owned(), r#"{"state":"dead","dry_run":true}"#, 200),
            ("/api/v1/events/replay", "replay".to_owned(), "{}", 400),
            ("/api/v1/events/discard", "discard".to_owned(), r#"{"state":"refused"}"#, 200),
            ("/api/v1/events/{id}/discard", format!("{id}/discard"), "", 200),
            ("/api/v1/events/{id}/discard", format!("{id}/discard"), "", 409),
            ("/api/v1/events/{id}/replay", "99999999/replay".to_owned(), "", 404),
            (
                "/api/v1/dedup",
                "../dedup".to_owned(),
                r#"{"source":"servicepilot","events":[{"incident_key":"e1","action":"trigger"}]}"#,
                200,
            ),
        ] {
            let url = format!("http://127.0.0.1:{}/api/v1/events/{asked}", relay.ports().1).replace("/events/..", "");
            let json = [("content-type", "application/json")];
            let answer = relay.client.send(Method::POST, &url, &json, body.to_owned()).await;
            assert_eq!(answer.status, status, "{asked}: {}", answer.json);
            fits(&document, path, "post", &answer);
            let answer = relay.client.send(Method::POST, &url, &[], body.to_owned()).await;
            assert_eq!(answer.status, 415, "{asked}");
            fits(&document, path, "post", &answer);
        }
    })
    .await;
}

/// The status, the type and the body are documented for this operation.
fn fits(document: &Value, path: &str, method: &str, answer: &Answer) {
    let status = answer.status.as_u16();
    let kind = if answer.status.is_success() { "application/json" } else { "application/problem+json" };
    assert_eq!(answer.content_type, kind, "{method} {path}");
    let schema = &document["paths"][path][method]["responses"][status.to_string()]["content"][kind]["schema"];
    assert!(schema.is_object(), "{method} {path}: {status} is not in the document");
    let whole = json!({ "components": document["components"], "allOf": [schema] });
    let problems: Vec<_> = jsonschema::draft202012::new(&whole)
        .unwrap()
        .iter_errors(&answer.json)
        .map(|problem| problem.to_string())
        .collect();
    assert!(problems.is_empty(), "{method} {path}: {problems:?} in {}", answer.json);
}
