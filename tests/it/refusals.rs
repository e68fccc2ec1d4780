//! Every refusal of the contract's table, over TLS, by HTTP/1.1 and HTTP/2: its status, its words, and that nothing
//! is kept that should not be.

use std::num::NonZeroU32;
use std::time::Duration;

use gander::exports::credential::Credential;
use gander::exports::inbound::auth::Policy;
use gander::exports::inbound::limits::{OverLimit, RateLimit};
use gander::exports::secret::Secret;
use http::{HeaderName, Method, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    BATCH_RULES, Edge, Setup, TOKEN, read_answer, read_to_end, request, rules, sized_request, source, statuses,
};

fn alert() -> String {
    json!({"id": "k1", "state": "CRITICAL"}).to_string()
}

/// A setup with one source for each way to be turned away.
fn setup() -> Setup {
    let mut setup = Setup::new();
    let mut elsewhere = source("elsewhere");
    elsewhere.allow_from = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let mut here = source("here");
    here.allow_from = vec!["192.0.2.0/24".parse().unwrap(), "127.0.0.0/8".parse().unwrap()];
    let mut query = source("query");
    query.auth =
        Policy::AnyOf(vec![Credential::Query { name: "token".into(), secret: Secret::new("a b+c".to_owned()) }]);
    let mut header = source("header");
    let name = HeaderName::from_static("x-token");
    header.auth = Policy::AnyOf(vec![Credential::Header { name, secret: Secret::new(TOKEN.to_owned()) }]);
    let mut other = source("other");
    other.auth = Policy::AnyOf(vec![Credential::Bearer(Secret::new("other's".to_owned()))]);
    setup.sources.extend([elsewhere, here, query, header, other]);
    setup
}

fn to(edge: &Edge, path_and_query: &str) -> http::request::Builder {
    Request::builder().method(Method::POST).uri(edge.url(path_and_query))
}

#[tokio::test]
async fn each_refusal_has_its_status_and_says_how_to_mend_it() {
    let edge = setup().start().await;
    let bearer = format!("Bearer {TOKEN}");
    let large = "x".repeat(64 * 1024 + 1);
    let body = alert();
    for http2 in [false, true] {
        type Made = (&'static str, http::request::Builder, String, u16, &'static str, &'static str);
        let rows: Vec<Made> = vec![
            ("an unknown path", to(&edge, "/"), body.clone(), 404, "unknown_source", "/hooks/SOURCE"),
            ("an unknown source", to(&edge, "/hooks/nobody"), body.clone(), 404, "unknown_source", "sources"),
            ("a slash too many", to(&edge, "/hooks/servicepilot/"), body.clone(), 404, "unknown_source", ""),
            ("a GET", edge.post().method("GET"), String::new(), 405, "method", "POST"),
            ("a PUT", edge.post().method("PUT"), body.clone(), 405, "method", "POST"),
            ("no credentials", to(&edge, "/hooks/servicepilot"), body.clone(), 401, "not_authenticated", ""),
            (
                "another source's token",
                to(&edge, "/hooks/other").header("authorization", &bearer),
                body.clone(),
                401,
                "not_authenticated",
                "",
            ),
            (
                "the token as a parameter where it is a header",
                to(&edge, &format!("/hooks/servicepilot?token={TOKEN}")),
                body.clone(),
                401,
                "not_authenticated",
                "",
            ),
            (
                "a repeated parameter",
                to(&edge, "/hooks/query?token=a%20b%2Bc&token=a%20b%2Bc"),
                body.clone(),
                401,
                "not_authenticated",
                "",
            ),
            (
                "a repeated header",
                edge.post().header("authorization", &bearer),
                body.clone(),
                401,
                "not_authenticated",
                "",
            ),
            (
                "a wrong header",
                to(&edge, "/hooks/header").header("x-token", "x"),
                body.clone(),
                401,
                "not_authenticated",
                "",
            ),
            (
                "another address",
                to(&edge, "/hooks/elsewhere").header("authorization", &bearer),
                body.clone(),
                403,
                "forbidden",
                "",
            ),
            (
                "a form",
                edge.post().header("content-type", "application/x-www-form-urlencoded"),
                body.clone(),
                415,
                "content_type",
                "Content-Type: application/json",
            ),
            (
                "an unknown charset",
                edge.post().header("content-type", "application/json; charset=klingon"),
                body.clone(),
                415,
                "charset",
                "UTF-8",
            ),
            (
                "a compressed body",
                edge.post().header("content-encoding", "gzip"),
                body.clone(),
                415,
                "content_encoding",
                "uncompressed",
            ),
            ("a large body", edge.post(), large.clone(), 413, "body_too_large", "65536"),
            (
                "a large form",
                edge.post().header("content-type", "application/x-www-form-urlencoded"),
                large.clone(),
                413,
                "body_too_large",
                "65536",
            ),
            ("no JSON", edge.post(), "{\"title\": \"say \"hi\"\"}".to_owned(), 400, "not_json", "line 1"),
            ("an empty body", edge.post(), String::new(), 400, "not_json", "empty"),
            (
                "200 levels",
                edge.post(),
                format!("{}{}", "[".repeat(200), "]".repeat(200)),
                400,
                "not_json",
                "recursion",
            ),
            (
                "nothing that the rules can use",
                edge.post(),
                "{\"state\": \"CRITICAL\"}".to_owned(),
                422,
                "unprocessable",
                "",
            ),
        ];
        for (claim, request, body, status, kind, words) in rows {
            let answer = edge.send_by(request, body, http2).await;
            assert_eq!(answer.status, status, "{claim}: {answer:?}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{claim}");
            assert_eq!(answer.body["type"], format!("urn:problem-type:gander:{kind}"), "{claim}");
            assert_eq!(answer.body["status"], status, "{claim}");
            assert_eq!(answer.body["request_id"], answer.header("x-request-id"), "{claim}");
            assert_eq!(answer.header("x-request-id").len(), 26, "{claim}");
            assert!(answer.body["detail"].as_str().unwrap().contains(words), "{claim}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn what_is_right_beside_what_is_wrong_is_let_in() {
    let edge = setup().start().await;
    let bearer = format!("Bearer {TOKEN}");
    let requests = [
        to(&edge, "/hooks/here").header("authorization", &bearer),
        to(&edge, "/hooks/query?a=b&token=a%20b+c"),
        to(&edge, "/hooks/header").header("x-token", TOKEN),
        to(&edge, "/hooks/servicepilot?token=whatever").header("authorization", &bearer),
    ];
    for request in requests {
        let text = format!("{request:?}");
        assert_eq!(edge.send(request, alert()).await.status, 202, "{text}");
    }
}

#[tokio::test]
async fn headers_tell_a_program_what_the_words_tell_a_person() {
    let edge = setup().start().await;
    assert_eq!(edge.send(edge.post().method("GET"), "").await.header("allow"), "POST");
    let unknown = edge.send(to(&edge, "/hooks/servicepilot"), alert()).await;
    assert_eq!(unknown.header("www-authenticate"), "Bearer realm=\"gander\"");
    let form = edge.send(edge.post().header("content-type", "application/x-www-form-urlencoded"), alert()).await;
    assert_eq!(form.header("accept"), "application/json");
    let not_json = edge.send(edge.post(), "{\n  oops").await;
    assert_eq!((&not_json.body["line"], &not_json.body["column"]), (&json!(2), &json!(3)));
}

#[tokio::test]
async fn only_what_an_authenticated_sender_sent_is_kept() {
    let edge = setup().start().await;
    edge.send(to(&edge, "/hooks/servicepilot"), alert()).await;
    edge.send(to(&edge, "/hooks/nobody"), alert()).await;
    edge.send(to(&edge, "/hooks/servicepilot").header("content-encoding", "gzip"), alert()).await;
    edge.send(to(&edge, "/hooks/servicepilot"), "x".repeat(64 * 1024 + 1)).await;
    assert_eq!(edge.kept_count(), 0, "nothing of a stranger");

    let refused = edge.alert(json!({"state": "CRITICAL"})).await;
    let kept = edge.kept(&refused.body["id"]);
    assert_eq!((kept.summary.state.as_str(), kept.received.as_deref()), ("refused", Some("{\"state\":\"CRITICAL\"}")));
    assert_eq!(kept.request_id, refused.header("x-request-id"));
    assert_eq!(kept.errors.unwrap()[0]["path"], refused.body["errors"][0]["path"]);

    let not_json = edge.send(edge.post(), "{\"title\": \"say \"hi\"\"}").await;
    assert_eq!(edge.kept_count(), 2, "also what is no JSON");
    let kept = edge.kept(&not_json.body["id"]);
    assert_eq!(kept.received.as_deref(), Some("{\"title\": \"say \"hi\"\"}"));
}

#[tokio::test]
async fn what_is_refused_by_its_headers_is_kept_and_of_what_is_too_large_the_beginning() {
    let mut setup = setup();
    setup.listen.bodies.bytes_max = 128 * 1024;
    let edge = setup.start().await;
    for http2 in [false, true] {
        for (header, value, reason) in [
            ("content-type", "application/x-www-form-urlencoded", "content_type"),
            ("content-type", "application/json; charset=klingon", "charset"),
            ("content-encoding", "br", "content_encoding"),
        ] {
            let answer = edge.send_by(edge.post().header(header, value), alert(), http2).await;
            assert_eq!(answer.status, 415, "{answer:?}");
            let kept = edge.kept(&answer.body["id"]);
            assert_eq!((kept.summary.reason.as_deref(), kept.received), (Some(reason), Some(alert())));
            let error = &kept.errors.unwrap()[0];
            assert!(error["problem"].as_str().unwrap().starts_with("came with"), "{error}");
            assert!(error["found"].as_str().unwrap().contains(value), "{error}");
        }
        let large = format!("{{\"id\":\"{}\"}}", "ü".repeat(100 * 1024));
        let answer = edge.send_by(edge.post(), large.clone(), http2).await;
        assert_eq!(answer.status, 413, "{answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().contains("beginning is kept"), "{answer:?}");
        let kept = edge.kept(&answer.body["id"]);
        assert_eq!(kept.summary.reason.as_deref(), Some("body_too_large"));
        assert_eq!(kept.received.as_deref(), Some(&large[..64 * 1024 - 1]), "64 KiB, to a whole character");
        assert!(kept.errors.unwrap()[0]["problem"].as_str().unwrap().contains("131072 bytes"));
    }
    assert_eq!(edge.kept_count(), 8);
}

#[tokio::test]
async fn over_its_limit_a_source_is_told_to_come_again() {
    for (answer, status) in [(OverLimit::ServiceUnavailable, 503), (OverLimit::TooManyRequests, 429)] {
        let mut setup = Setup::new();
        let one = NonZeroU32::new(1).unwrap();
        setup.source().rate_limit = RateLimit { per_second: one, burst: one, answer };
        setup.sources.push(source("calm"));
        let edge = setup.start().await;
        // A stranger does not spend the limit.
        for _ in 0..3 {
            assert_eq!(edge.send(to(&edge, "/hooks/servicepilot"), alert()).await.status, 401);
        }
        let first = edge.alert(json!({"id": "a", "state": "CRITICAL"})).await;
        assert_eq!(first.status, 202);
        let second = edge.alert(json!({"id": "b", "state": "CRITICAL"})).await;
        assert_eq!((second.status, second.header("retry-after")), (status, "1"));
        let calm = to(&edge, "/hooks/calm").header("authorization", format!("Bearer {TOKEN}"));
        assert_eq!(edge.send(calm, alert()).await.status, 202, "another source has its own");
        assert_eq!(edge.kept_count(), 2);
    }
}

#[tokio::test]
async fn a_batch_spends_as_much_of_the_limit_as_it_holds() {
    let (one, ten) = (NonZeroU32::new(1).unwrap(), NonZeroU32::new(10).unwrap());
    for (answer, status) in [(OverLimit::ServiceUnavailable, 503), (OverLimit::TooManyRequests, 429)] {
        let mut setup = Setup::new();
        setup.source().rules = rules(BATCH_RULES);
        setup.source().rate_limit = RateLimit { per_second: one, burst: ten, answer };
        let edge = setup.start().await;
        let batch = |name: &str, count: usize| {
            let alerts: Vec<_> =
                (0..count).map(|number| json!({"id": format!("{name}{number}"), "state": "CRITICAL"})).collect();
            json!({"alerts": alerts})
        };
        // More than the burst: it would never fit, so it is taken, and what follows waits until it is made up for.
        let large = edge.alert(batch("a", 70)).await;
        assert_eq!(large.status, 202);
        let next = edge.alert(batch("b", 1)).await;
        let wait: u32 = next.header("retry-after").parse().unwrap();
        assert_eq!((next.status, next.body["type"].as_str()), (status, Some("urn:problem-type:gander:rate_limit")));
        assert!((50..=61).contains(&wait), "sixty were owed a moment ago, and it is told to wait {wait} s");
        assert_eq!(edge.kept_count(), 70);
    }
}

#[tokio::test]
async fn a_full_journal_sends_everyone_away_for_a_while() {
    let mut setup = Setup::new();
    setup.journal_max_events = 1;
    let edge = setup.start().await;
    assert_eq!(edge.alert(json!({"id": "a", "state": "CRITICAL"})).await.status, 202);
    let full = edge.alert(json!({"id": "b", "state": "CRITICAL"})).await;
    assert_eq!(full.status, 503);
    assert_eq!(full.body["type"], "urn:problem-type:gander:backlog");
    assert!(full.header("retry-after").parse::<u32>().unwrap() > 0);
}

#[tokio::test]
async fn a_sender_that_is_refused_early_can_read_why() {
    let edge = Setup::plain().start().await;
    let half_a_megabyte = "x".repeat(512 * 1024);
    // Authenticated or not, the whole body is sent before the answer is read.
    for (claim, bytes, status) in [
        ("a stranger", sized_request("", &half_a_megabyte).replace(TOKEN, "wrong"), 401),
        ("too large", sized_request("", &half_a_megabyte), 413),
        (
            "too large, in chunks",
            request("Transfer-Encoding: chunked\r\n", &format!("80000\r\n{half_a_megabyte}\r\n0\r\n\r\n")),
            413,
        ),
        ("a framing fault", sized_request("Content-Length: 1\r\n", &half_a_megabyte), 400),
    ] {
        let mut stream = edge.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap_or_else(|error| panic!("{claim}: {error}"));
        assert_eq!(statuses(&read_answer(&mut stream).await), [status], "{claim}");
    }
}

#[tokio::test]
async fn a_connection_survives_a_small_refused_body() {
    let edge = Setup::plain().start().await;
    let mut stream = edge.connect().await;
    let refused = sized_request("", &alert()).replace(TOKEN, "wrong");
    // Head and body in pieces, as many clients send them.
    let (head, body) = refused.split_at(refused.find("\r\n\r\n").unwrap() + 4);
    for _ in 0..3 {
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(statuses(&read_answer(&mut stream).await), [401]);
        stream.write_all(body.as_bytes()).await.unwrap();
    }
    stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    assert_eq!(statuses(&read_answer(&mut stream).await), [202]);
}

#[tokio::test]
async fn what_a_refused_sender_goes_on_sending_has_an_end() {
    let edge = Setup::plain().start().await;
    let mut stream = edge.connect().await;
    stream.write_all(request("Transfer-Encoding: chunked\r\n", "").replace(TOKEN, "wrong").as_bytes()).await.unwrap();
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0_usize;
    while stream.write_all(piece.as_bytes()).await.is_ok() {
        sent += piece.len();
        assert!(sent < 64 * 1024 * 1024, "the relay goes on reading");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let mut setup = Setup::plain();
    setup.listen.bodies.timeout = Duration::from_millis(50);
    let edge = setup.start().await;
    let mut stream = edge.connect().await;
    stream.write_all(request("Content-Length: 100\r\n", "{\"id\":").as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 408");
    // It may have closed by now, which is its right.
    let _ = stream.shutdown().await;
    read_to_end(&mut stream).await;
    assert_eq!(edge.kept_count(), 0);
}

#[tokio::test]
async fn refusals_are_counted_by_source_and_reason() {
    let edge = setup().start().await;
    edge.send(to(&edge, "/hooks/nobody"), "").await;
    edge.send(to(&edge, "/hooks/servicepilot"), "").await;
    edge.send(edge.post(), "{").await;
    let counted = |source: &str, reason: &str| {
        edge.metric(&format!("gander_requests_refused_total{{source=\"{source}\",reason=\"{reason}\"}}"))
    };
    assert_eq!(
        counted("none", "unknown_source"),
        "1",
        "{}",
        edge.metrics.encode(gander::exports::metrics::Exposition::Text)
    );
    assert_eq!(counted("servicepilot", "not_authenticated"), "1");
    assert_eq!(counted("servicepilot", "not_json"), "1");
}
