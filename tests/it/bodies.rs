//! What a source takes beside JSON by POST, where it says so: forms, gzip, probes and handshakes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use gander::exports::inbound::{Accept, Handshake};
use gander::exports::rules::path::JsonPath;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::cli::{fed, gander_beside};
use crate::commands::command;
use crate::relay::{self, Relay, within};
use crate::support::{BATCH_RULES, Edge, PATIENCE, Setup, client, rules, sized_request};
use crate::upstream::{Reply, Upstream};

const FORM: &str = "application/x-www-form-urlencoded";

/// Fields as a monitoring service posts them.
const DOWN: &str =
    "Token=abc&Status=Down&StatusCode=503&URL=https%3A%2F%2Fshop.example&IP=192.0.2.1&Tags=&Checkrate=60&Name=Shop+DE";

const FORM_RULES: &str = "
version: 1
rules:
  - { name: down, when: { path: $.Status, equals: Down }, then: trigger }
  - { name: up, when: { path: $.Status, equals: Up }, then: resolve }
incident_key: $.URL
emit: { id: $.URL, title: $.Name, tags: $.Tags }
";

/// A source that takes everything.
async fn edge(text: &str) -> Edge {
    let mut setup = Setup::new();
    setup.source().rules = rules(text);
    setup.source().accept = Accept { form: true, gzip: true, ..Accept::default() };
    setup.start().await
}

pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_form_is_taken_as_an_object_and_kept_as_it_came() {
    let edge = edge(FORM_RULES).await;
    let answer = edge.send(edge.post().header("content-type", FORM), DOWN).await;
    assert_eq!((answer.status, &answer.body["incident_key"]), (202, &json!("https://shop.example")), "{answer:?}");
    let kept = edge.kept(&answer.body["id"]);
    assert_eq!(kept.received.as_deref(), Some(DOWN));
    assert_eq!(kept.sent, Some(json!({"id": "https://shop.example", "title": "Shop DE", "tags": ""})));

    let up = DOWN.replace("Down", "Up");
    for (claim, content_type, body, key) in [
        (
            "in its charset",
            "application/x-www-form-urlencoded; charset=iso-8859-1",
            "Status=Down&URL=Z%FCrich",
            "Zürich",
        ),
        ("as a text", "text/plain", "Status=Down&URL=b", "b"),
        ("without a type", "", "Status=Down&URL=c", "c"),
        ("JSON with the type of a form", FORM, "{\"Status\":\"Down\",\"URL\":\"d\"}", "d"),
        ("JSON", "application/json", "{\"Status\":\"Down\",\"URL\":\"e\"}", "e"),
        ("a recovery", FORM, &up, "https://shop.example"),
    ] {
        let answer = edge.send(edge.post().header("content-type", content_type), body.to_owned()).await;
        assert_eq!((answer.status, &answer.body["incident_key"]), (202, &json!(key)), "{claim}: {answer:?}");
    }
    let neither = edge.send(edge.post().header("content-type", FORM), "Shop DE is down").await;
    assert_eq!((neither.status, &neither.body["line"]), (400, &json!(1)), "{neither:?}");
    let multipart = edge.send(edge.post().header("content-type", "multipart/form-data; boundary=x"), "--x--").await;
    assert_eq!(
        (multipart.status, multipart.header("accept")),
        (415, "application/json, application/x-www-form-urlencoded")
    );
}

#[tokio::test]
async fn the_shipped_rules_for_a_sender_of_forms_take_them() {
    let edge = edge(include_str!("../../config/rules/statuscake.yaml")).await;
    for (form, action) in [(DOWN.to_owned(), "trigger"), (DOWN.replace("Down", "Up").replace("503", "200"), "resolve")]
    {
        let answer = edge.send(edge.post().header("content-type", FORM), form).await;
        assert_eq!((answer.status, &answer.body["action"]), (202, &json!(action)), "{answer:?}");
        assert_eq!(answer.body["incident_key"], "Shop DE/https:%2F%2Fshop.example");
    }
}

#[tokio::test]
async fn json_in_a_field_of_a_form_is_unwrapped() {
    let edge = edge("{ version: 1, unwrap: $.payload, incident_key: $.id, rules: [{ name: a, then: trigger }] }").await;
    let form = "payload=%7B%22id%22%3A%22e1%22%2C%22text%22%3A%22100%25+%2B+1%22%7D";
    let answer = edge.send(edge.post().header("content-type", FORM), form).await;
    assert_eq!((answer.status, &answer.body["incident_key"]), (202, &json!("e1")), "{answer:?}");
    assert_eq!(edge.kept(&answer.body["id"]).sent, Some(json!({"id": "e1", "text": "100% + 1"})));
}

#[tokio::test]
async fn a_source_that_takes_json_alone_names_the_key_for_forms() {
    let edge = Setup::new().start().await;
    let answer = edge.send(edge.post().header("content-type", FORM), DOWN).await;
    assert_eq!((answer.status, answer.header("accept")), (415, "application/json"));
    assert!(answer.body["detail"].as_str().unwrap().contains("`accept: [json, form]`"), "{answer:?}");
    let answer = edge.send(edge.post(), DOWN).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["detail"].as_str().unwrap().contains("`accept: [json, form]`"), "{answer:?}");
}

#[tokio::test]
async fn gzip_is_taken_and_kept_as_what_came_out() {
    let edge = edge(FORM_RULES).await;
    for http2 in [false, true] {
        for (name, body) in [("gzip", DOWN), ("x-gzip", "{\"Status\":\"Down\",\"URL\":\"b\"}")] {
            let answer = edge.send_by(edge.post().header("content-encoding", name), gzip(body.as_bytes()), http2).await;
            assert!([200, 202].contains(&answer.status), "{answer:?}");
            let id = if answer.body["id"].is_null() { &answer.body["of"] } else { &answer.body["id"] };
            assert_eq!(edge.kept(id).received.as_deref(), Some(body));
        }
        let other = edge.send_by(edge.post().header("content-encoding", "br"), "x", http2).await;
        assert_eq!((other.status, other.header("accept-encoding")), (415, "gzip, identity"));
    }
    let plain = Setup::new().start().await;
    let answer = plain.send(plain.post().header("content-encoding", "gzip"), gzip(DOWN.as_bytes())).await;
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, "identity"));
    assert!(answer.body["detail"].as_str().unwrap().contains("`accept_encoding: [gzip]`"), "{answer:?}");
    for (kind, status) in [("application/json", 400), ("application/gzip", 415)] {
        let answer = plain.send(plain.post().header("content-type", kind), gzip(DOWN.as_bytes())).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains("looks like gzip") && detail.contains("`Content-Encoding: gzip`"), "{detail}");
    }
}

#[tokio::test]
async fn what_comes_out_of_gzip_is_no_larger_than_a_body() {
    let edge = edge(FORM_RULES).await;
    let fits = format!("Status=Down&URL=a&Text={}", "x".repeat(60_000));
    assert_eq!(edge.send(edge.post().header("content-encoding", "gzip"), gzip(fits.as_bytes())).await.status, 202);
    let bomb = gzip(&vec![b'x'; 8 << 20]);
    assert!(bomb.len() < 64 * 1024, "what is too large is what comes out: {}", bomb.len());
    let answer = edge.send(edge.post().header("content-encoding", "gzip"), bomb).await;
    assert_eq!((answer.status, &answer.body["type"]), (413, &json!("urn:problem-type:gander:body_too_large")));
    assert_eq!(edge.kept(&answer.body["id"]).received, Some("x".repeat(64 * 1024)), "its beginning is kept");
    assert_eq!(edge.metric("gander_body_bytes"), "0", "the memory is given back");
}

#[tokio::test]
async fn what_is_no_gzip_is_refused_and_kept_as_it_came() {
    let edge = edge(FORM_RULES).await;
    let packed = gzip(DOWN.as_bytes());
    for body in [DOWN.as_bytes(), &packed[..packed.len() - 3]] {
        let answer = edge.send(edge.post().header("content-encoding", "gzip"), body.to_vec()).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().contains("not the gzip"), "{answer:?}");
        let kept = edge.kept(&answer.body["id"]);
        let bytes = kept.received_hex.map_or(kept.received.unwrap().into_bytes(), |text| hex::decode(text).unwrap());
        assert_eq!(bytes, body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_was_kept_is_read_again_as_a_form() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let setup = |down: &str| relay::Setup {
            source: vec!["accept: [json, form]".to_owned(), "handshake: { path: $.Ask }".to_owned()],
            rules: Some(FORM_RULES.replace("equals: Down", &format!("equals: {down}"))),
            ..relay::Setup::default()
        };
        let relay = Relay::start(&upstream, &setup("Lost")).await;
        let bearer = format!("Bearer {}", relay::TOKEN);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        let post = async |form: &str| {
            relay.client.send(Method::POST, &relay.hook("servicepilot"), &headers, form.to_owned()).await
        };
        let refused = post(DOWN).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.json["errors"][0]["found"]),
            (422, &json!("Down")),
            "{refused:?}"
        );
        let taken = post("Status=Up&URL=Z%C3%BCrich").await;
        assert_eq!(taken.status, 202, "{taken:?}");
        let id = |answer: &relay::Answer| answer.json["id"].as_str().unwrap().to_owned();

        let explained = async |arguments: &[&str], input: &str| {
            let ended =
                fed(gander_beside(&relay, &[&["explain", "--json"], arguments].concat()), input.to_owned()).await;
            serde_json::from_str::<Value>(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"))
        };
        let told = explained(&["--event", &id(&taken)], "").await;
        assert_eq!(told["events"][0]["incident_key"], "Zürich", "{told}");
        let told = explained(&["--event", &id(&refused)], "").await;
        assert_eq!(told["errors"][0]["path"], "$.Status", "{told}");
        let told = explained(&["--source", "servicepilot"], "Status=Up&URL=x\n").await;
        assert_eq!(told["events"][0]["incident_key"], "x", "{told}");
        let ended =
            fed(gander_beside(&relay, &["explain", "--source", "servicepilot"]), "Ask=me&Status=Up".into()).await;
        assert!(ended.out.contains("warning: the relay answers this with its text"), "{ended:?}");

        let directory = relay.stop().await;
        let relay = Relay::start_in(directory, &upstream, &setup("Down")).await;
        let answer = command(&relay, &format!("/{}/replay", id(&refused)), &json!({})).await;
        assert_eq!((answer.status.as_u16(), &answer.json["status"]), (200, &json!("replayed")), "{answer:?}");
        assert_eq!(answer.json["events"][0]["incident_key"], "https://shop.example", "{answer:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_for_its_headers_is_taken_once_the_source_takes_such_and_never_a_part_for_the_whole() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let mut setup = relay::Setup { rules: Some(FORM_RULES.to_owned()), ..relay::Setup::default() };
        let relay = Relay::start(&upstream, &setup).await;
        let bearer = format!("Bearer {}", relay::TOKEN);
        let post = async |header: (&str, &str), body: Vec<u8>| {
            let headers = [("authorization", bearer.as_str()), header];
            relay.client.send_bytes(Method::POST, &relay.hook("servicepilot"), &headers, body).await
        };
        let form = post(("content-type", FORM), DOWN.into()).await;
        let latin_form = format!("{FORM}; charset=iso-8859-1");
        let latin = post(("content-type", &latin_form), b"Status=Down&URL=Z\xfcrich".to_vec()).await;
        let packed = gzip(DOWN.replace("shop", "other").as_bytes());
        let packed = post(("content-encoding", "gzip"), packed).await;
        let bomb = post(("content-encoding", "gzip"), gzip(&vec![b'x'; 2 << 20])).await;
        let text = format!("{DOWN}&Text={}", "x".repeat(1 << 20)).replace("shop", "third");
        let large = post(("content-type", "text/plain"), text.clone().into()).await;
        // Both its type and its length are wrong.
        let large_form = post(("content-type", FORM), text.into()).await;
        let kept = [(form, 415), (latin, 415), (packed, 415), (bomb, 415), (large, 413), (large_form, 413)];
        let kept = kept.map(|(answer, status)| {
            assert_eq!(answer.status.as_u16(), status, "{answer:?}");
            answer.json["id"].as_str().unwrap().to_owned()
        });
        let again = command(&relay, &format!("/{}/replay", kept[0]), &json!({})).await;
        assert_eq!(again.status, 422, "{again:?}");
        let again = command(&relay, &format!("/{}/replay", kept[2]), &json!({})).await;
        let problem = again.json["errors"][0]["problem"].as_str().unwrap_or_default();
        let remedy = "write `accept_encoding: [gzip]` under `sources.servicepilot`";
        assert!(again.status == 422 && problem.contains(remedy), "what helps is here, not at the sender: {again:?}");

        let directory = relay.stop().await;
        setup.source.extend(["accept: [json, form]".to_owned(), "accept_encoding: [gzip]".to_owned()]);
        let relay = Relay::start_in(directory, &upstream, &setup).await;
        let told = async |arguments: &[&str]| fed(gander_beside(&relay, arguments), String::new()).await;
        let explained = told(&["explain", "--event", &kept[2]]).await;
        assert!(explained.out.contains("https://other.example"), "{explained:?}");
        std::fs::write(relay.directory.path().join("same.yaml"), FORM_RULES).unwrap();
        let against = told(&["events", "replay", &kept[2], "--against", "same.yaml", "--dry-run"]).await;
        assert!(against.err.contains("1 tried, 1 would be decided otherwise"), "{against:?}");
        let [form, latin, packed, bomb, large, large_form] = kept.map(|id| format!("/{id}/replay"));
        for (path, key) in [(form, "https://shop.example"), (latin, "Zürich"), (packed, "https://other.example")] {
            let answer = command(&relay, &path, &json!({})).await;
            assert_eq!(answer.json["events"][0]["incident_key"], key, "{answer:?}");
        }
        let too_large = command(&relay, &bomb, &json!({})).await;
        let problem = too_large.json["errors"][0]["problem"].as_str().unwrap_or_default();
        assert!(too_large.status == 422 && problem.contains("larger than 1048576 bytes"), "{too_large:?}");
        for path in [large, large_form] {
            let is_cut_off = async |options: Value| {
                let part = command(&relay, &path, &options).await;
                assert_eq!((part.status.as_u16(), &part.json["reason"]), (409, &json!("cut_off")), "{part:?}");
            };
            is_cut_off(json!({})).await;
            let discarded = command(&relay, &path.replace("replay", "discard"), &json!({})).await;
            assert_eq!(discarded.status, 200, "{discarded:?}");
            is_cut_off(json!({ "force": true })).await;
            let event = path.split('/').nth(1).unwrap();
            let ended = told(&["explain", "--event", event]).await;
            assert!(ended.err.contains("only its beginning is kept"), "{ended:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_probe_is_answered_without_a_token_and_leaves_no_trace() {
    let mut setup = Setup::new();
    setup.source().probes = true;
    let edge = setup.start().await;
    let probe = |method: Method| Request::builder().method(method).uri(edge.url("/hooks/servicepilot"));
    for http2 in [false, true] {
        let get = edge.send_by(probe(Method::GET), "", http2).await;
        assert_eq!((get.status, &get.body), (200, &json!({"status": "ok"})), "{get:?}");
        let head = edge.send_by(probe(Method::HEAD), "", http2).await;
        assert_eq!((head.status, head.header("content-length"), &head.body), (200, "15", &Value::Null), "{head:?}");
        let put = edge.send_by(probe(Method::PUT), "", http2).await;
        assert_eq!((put.status, put.header("allow")), (405, "POST, GET, HEAD"));
        assert_eq!(edge.send_by(probe(Method::POST), "{}", http2).await.status, 401, "an alert shows its token");
    }
    assert_eq!(edge.kept_count(), 0);
}

#[tokio::test]
async fn a_head_is_answered_without_a_body_and_as_the_get() {
    let edge = Setup::new().start().await;
    for http2 in [false, true] {
        let [get, head] = [Method::GET, Method::HEAD].map(|method| edge.send_by(edge.post().method(method), "", http2));
        let (get, head) = (get.await, head.await);
        assert_eq!((get.status, head.status), (405, 405));
        assert_eq!((head.header("content-length"), &head.body), (get.header("content-length"), &Value::Null));
        assert!(!get.body.is_null() && !head.header("content-length").is_empty(), "{head:?}");
        assert_eq!((head.header("allow"), head.header("content-type")), ("POST", "application/problem+json"));
    }
}

#[tokio::test]
async fn a_connection_goes_on_after_a_head() {
    let edge = Setup::new().start().await;
    let client = client(Some(&edge.ca()), true);
    for _ in 0..3 {
        let head = edge.post().method(Method::HEAD).body(http_body_util::Full::<bytes::Bytes>::default()).unwrap();
        let answer = tokio::time::timeout(PATIENCE, client.request(head)).await.unwrap().unwrap();
        assert_eq!(answer.status(), 405);
        let left = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
        assert!(left.to_bytes().is_empty());
    }
}

#[tokio::test]
async fn a_handshake_is_answered_with_its_text_and_nothing_is_kept() {
    for (member, expected, content_type) in [
        (None, Value::Null, "text/plain; charset=utf-8"),
        (Some("validationResponse"), json!({"validationResponse": "3eZbrw1a"}), "application/json"),
    ] {
        let mut setup = Setup::new();
        let path = JsonPath::parse("$.challenge").unwrap();
        setup.source().handshake = Some(Handshake { path, member: member.map(str::to_owned) });
        let edge = setup.start().await;
        let counted = || edge.metric("gander_handshakes_total{source=\"servicepilot\"}");
        assert_eq!(counted(), "0");
        let asks = json!({"type": "url_verification", "challenge": "3eZbrw1a"});
        let answer = edge.alert(asks.clone()).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, content_type));
        assert_eq!((answer.header("x-content-type-options"), &answer.body), ("nosniff", &expected));
        let stranger = Request::builder().method(Method::POST).uri(edge.url("/hooks/servicepilot"));
        let stranger = edge.send(stranger, asks.to_string()).await;
        assert!(stranger.status == 401 && !stranger.body.to_string().contains("3eZ"), "{stranger:?}");
        assert_eq!(edge.kept_count(), 0);
        assert_eq!(edge.alert(json!({"id": "a", "state": "CRITICAL"})).await.status, 202, "an alert is one");
        assert_eq!(edge.alert(json!({"id": "b", "state": "OK", "challenge": 7})).await.status, 202);
        assert_eq!(counted(), "1", "what no rule saw is counted");
    }
}

#[tokio::test]
async fn the_text_of_a_handshake_goes_back_as_it_came() {
    let mut setup = Setup::plain();
    setup.source().handshake = Some(Handshake { path: JsonPath::parse("$.challenge").unwrap(), member: None });
    let edge = setup.start().await;
    let answer = edge.raw(sized_request("Connection: close\r\n", r#"{"challenge": "a <b> \u00fc"}"#)).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\na <b> ü"), "{answer}");
}

#[tokio::test]
async fn an_answer_names_the_key_that_a_payload_of_another_kind_needs() {
    let edge = Setup::new().start().await;
    let alert = json!({"id": "a1", "state": "CRITICAL"});
    let batch = json!({"alerts": [alert]});
    for (rules, payload, problem) in [
        (None, json!([alert, alert]), "`split: $[*]`"),
        (None, json!(alert.to_string()), "`unwrap: $`"),
        (Some(BATCH_RULES.replace("$.alerts[*]", "$.alerts")), batch, "`split: $.alerts[*]` its items"),
        (Some(BATCH_RULES.to_owned()), json!([alert]), "(`$` is an array, not an object: `split: $[*]`"),
        (None, json!({"id": "a", "state": "{{ state }}"}), "`placeholders: { allow: [$.state] }`"),
    ] {
        let mut setup = Setup::new();
        if let Some(text) = &rules {
            setup.source().rules = crate::support::rules(text);
        }
        let edge = if rules.is_some() { &setup.start().await } else { &edge };
        let answer = edge.alert(payload.clone()).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        let first = &answer.body["errors"][0];
        assert!(first["problem"].as_str().unwrap().contains(problem), "{first}");
    }
}
