//! Where one request ends: what has two readings is refused, and the connection ends with it.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{PATIENCE, Setup, TOKEN, read_answer, read_to_end, request, sized_request, statuses};

fn alert() -> String {
    json!({"id": "k1", "state": "CRITICAL"}).to_string()
}

#[tokio::test]
async fn doubtful_framing_is_refused_once_and_the_connection_closes() {
    let edge = Setup::plain().start().await;
    // Whoever reads the head differently finds this second request in the body.
    let body = alert();
    let length = body.len();
    let smuggled = format!("0\r\n\r\n{}", sized_request("", &alert()));
    let auth = format!("Authorization: Bearer {TOKEN}");
    let rows = [
        ("two equal lengths", request(&format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), &body)),
        ("two different lengths", request(&format!("Content-Length: {length}\r\nContent-Length: 1\r\n"), &body)),
        ("a list of lengths", request(&format!("Content-Length: {length}, {length}\r\n"), &body)),
        ("a signed length", request(&format!("Content-Length: +{length}\r\n"), &body)),
        ("a negative length", request("Content-Length: -1\r\n", &body)),
        ("a hexadecimal length", request("Content-Length: 0x1f\r\n", &body)),
        ("a length beyond all bounds", request("Content-Length: 99999999999999999999999\r\n", &body)),
        ("a length, then chunks", request("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &smuggled)),
        ("chunks, then a length", request("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &smuggled)),
        ("chunked twice", request("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &smuggled)),
        ("chunked in disguise", request("Transfer-Encoding: xchunked\r\n", &smuggled)),
        ("chunks before compression", request("Transfer-Encoding: chunked, gzip\r\n", &smuggled)),
        ("compression before chunks", request("Transfer-Encoding: gzip, chunked\r\n", &smuggled)),
        ("chunks in HTTP/1.0", request("Transfer-Encoding: chunked\r\n", &smuggled).replace("HTTP/1.1", "HTTP/1.0")),
        ("a blank before the colon", request(&format!("Content-Length : {length}\r\n"), &body)),
        ("a folded header", request(&format!("X: a\r\n b\r\nContent-Length: {length}\r\n"), &body)),
        ("bare line feeds", sized_request("", &body).replace("\r\n", "\n")),
        ("one bare line feed", sized_request("X: y\r\n", &body).replace("X: y\r\n", "X: y\n")),
        ("a carriage return in a header", sized_request("X: a\rb\r\n", &body)),
        ("a NUL in a header", sized_request("X: a\0b\r\n", &body)),
        ("no Host", sized_request("", &body).replace("Host: localhost\r\n", "")),
        ("two Hosts", sized_request("Host: localhost\r\n", &body)),
        ("a malformed Host", sized_request("", &body).replace("Host: localhost", "Host: a b")),
        ("a whole URL", sized_request("", &body).replace("POST /", "POST http://localhost/")),
        ("CONNECT", format!("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n\r\n")),
        ("an upgrade", sized_request("Connection: upgrade\r\nUpgrade: websocket\r\n", &body)),
        ("an upgrade or HTTP/2", sized_request("Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n", &body)),
        ("no HTTP", "hello\r\n\r\n".to_owned()),
        ("an unknown version", sized_request("", &body).replace("HTTP/1.1", "HTTP/3.0")),
        ("a header without a name", sized_request(": x\r\n", &body)),
    ];
    let mut kept = edge.kept_count();
    for (claim, bytes) in rows {
        let answer = edge.raw(format!("{bytes}{}", sized_request("", &body))).await;
        assert_eq!(statuses(&answer), [400], "{claim}: {answer}");
        assert!(answer.contains("\r\nx-request-id: "), "{claim}: {answer}");
        assert!(answer.contains("application/problem+json"), "{claim}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{claim}: {answer}");
        kept += edge.kept_count() - kept;
        assert_eq!(kept, 0, "{claim}: nothing is kept");
    }
}

#[tokio::test]
async fn a_good_request_before_a_doubtful_one_is_answered() {
    let edge = Setup::plain().start().await;
    let doubtful = request("Content-Length: 2\r\nContent-Length: 2\r\n", "{}");
    let answer = edge.raw(format!("{}{doubtful}", sized_request("", &alert()))).await;
    assert_eq!(statuses(&answer), [202, 400], "{answer}");
}

#[tokio::test]
async fn who_offers_to_speak_http_2_is_answered_in_http_1() {
    let edge = Setup::plain().start().await;
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
    let next = json!({"id": "k2", "state": "CRITICAL"}).to_string();
    let last = sized_request("Connection: close\r\n", &next);
    let answer = edge.raw(format!("{}{last}", sized_request(offer, &alert()))).await;
    assert_eq!(statuses(&answer), [202, 202], "the connection goes on as it was: {answer}");
    assert_eq!(edge.kept_count(), 2);
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_readably() {
    let edge = Setup::plain().start().await;
    let many = "X: y\r\n".repeat(200);
    let rows = [("a header of 100 KB", format!("X: {}\r\n", "x".repeat(100_000)), 431), ("200 headers", many, 431)];
    for (claim, headers, status) in rows {
        let answer = edge.raw(sized_request(&headers, &alert())).await;
        assert_eq!(statuses(&answer), [status], "{claim}: {answer}");
        assert!(answer.contains("\r\nx-request-id: "), "{claim}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_told_so_over_either_version_of_http() {
    let edge = Setup::new().start().await;
    for (count, http2) in [("1", false), ("2", true)] {
        let answer = edge.send_by(edge.post().header("x-long", "x".repeat(20_000)), alert(), http2).await;
        assert_eq!(
            (answer.status, &answer.body["type"]),
            (431, &json!("urn:problem-type:gander:head_too_large")),
            "{answer:?}"
        );
        assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
        let counted = edge.metric("gander_requests_refused_total{source=\"none\",reason=\"head_too_large\"}");
        assert_eq!(counted, count, "http2: {http2}");
        // The largest head that is taken is the same, but for some bytes.
        let answer = edge.send_by(edge.post().header("x-long", "x".repeat(15_000)), alert(), http2).await;
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    }
}

#[tokio::test]
async fn chunks_and_pipelines_are_read_as_they_are_meant() {
    let edge = Setup::plain().start().await;
    let chunked = |key: &str| {
        let (one, two) = (format!("{{\"id\":\"{key}\","), "\"state\":\"CRITICAL\"}".to_owned());
        let chunks = format!("{:x};a=b\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\nX: y\r\n\r\n", one.len(), two.len());
        request("Transfer-Encoding: chunked\r\n", &chunks)
    };
    let last = sized_request("Connection: close\r\n", &json!({"id": "c", "state": "CRITICAL"}).to_string());
    let answer = edge.raw(format!("{}\r\n{}{last}", chunked("a"), chunked("b"))).await;
    assert_eq!(statuses(&answer), [202, 202, 202], "{answer}");
    assert_eq!(edge.kept_count(), 3);
}

#[tokio::test]
async fn malformed_chunks_are_refused_and_nothing_behind_them_is_read() {
    let edge = Setup::plain().start().await;
    for chunks in ["zz\r\n{}\r\n0\r\n\r\n", "2\n{}\r\n0\r\n\r\n", "2\r\n{}}\r\n0\r\n\r\n", "fffffffffffffffff\r\n{}"] {
        let bytes = format!("{}{}", request("Transfer-Encoding: chunked\r\n", chunks), sized_request("", &alert()));
        let answer = edge.raw(bytes).await;
        assert_eq!(statuses(&answer), [400], "{chunks:?}: {answer}");
    }
    assert_eq!(edge.kept_count(), 0);
}

#[tokio::test]
async fn a_sender_that_ends_its_side_first_is_answered() {
    let edge = Setup::plain().start().await;
    let mut stream = edge.connect().await;
    stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut stream).await), [202]);
}

#[tokio::test]
async fn a_body_that_ends_early_is_not_taken() {
    let edge = Setup::plain().start().await;
    let mut stream = edge.connect().await;
    stream.write_all(request("Content-Length: 1000\r\n", &alert()).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut stream).await), [400]);
    assert_eq!(edge.kept_count(), 0);
}

#[tokio::test]
async fn a_sender_that_waits_to_be_asked_for_its_body_is_asked() {
    let edge = Setup::plain().start().await;
    let mut stream = edge.connect().await;
    let body = alert();
    let head = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
    stream.write_all(request(&head, "").as_bytes()).await.unwrap();
    let asked = tokio::time::timeout(PATIENCE, read_answer(&mut stream)).await.unwrap();
    assert!(asked.starts_with("HTTP/1.1 100 "), "{asked}");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(statuses(&read_answer(&mut stream).await), [202]);
}

#[tokio::test]
async fn a_sender_that_waits_to_be_asked_and_is_refused_is_told_at_once() {
    let edge = Setup::plain().start().await;
    let mut stream = edge.connect().await;
    let head = request("Expect: 100-continue\r\nContent-Length: 1000\r\n", "").replace(TOKEN, "wrong");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!(statuses(&answer), [401]);
    assert!(answer.contains("\r\nconnection: close\r\n"), "its body may never come: {answer}");
}
