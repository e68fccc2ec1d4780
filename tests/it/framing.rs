//! Where one request ends: what has two readings is refused, and the connection ends with it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use gander::exports::tls;
use http::{Request, Version};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::relay::{self, Relay};
use crate::support::{
    Edge, PATIENCE, Setup, TOKEN, answer_of, read_answer, read_to_end, request, sized_request, statuses, write,
};
use crate::upstream::{Reply, Upstream};

fn alert() -> String {
    json!({"id": "k1", "state": "CRITICAL"}).to_string()
}

/// A listener of the program, and a POST that it takes.
struct Listener {
    name: &'static str,
    port: u16,
    /// Of the request line.
    path: &'static str,
    authorization: String,
    body: String,
}

impl Listener {
    fn request(&self, headers: &str, body: &str) -> String {
        let Listener { path, authorization, .. } = self;
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}{headers}\r\n{body}")
    }

    fn sized(&self, headers: &str) -> String {
        self.request(&format!("Content-Length: {}\r\n{headers}", self.body.len()), &self.body)
    }

    /// Sends bytes over TCP and returns all that comes until the listener closes.
    async fn raw(&self, bytes: String) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        write(&mut stream, bytes).await;
        read_to_end(&mut stream).await
    }
}

/// The program's three listeners: senders, administration, sandbox.
struct Listeners {
    all: [Listener; 3],
    edge: Edge,
    _relay: Relay,
    sandbox: Child,
}

impl Listeners {
    async fn start() -> Listeners {
        let edge = Setup::plain().start().await;
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &relay::Setup::default()).await;
        let mut sandbox = Command::new(env!("CARGO_BIN_EXE_gander"))
            .args(["sandbox", "--listen", "127.0.0.1:0"])
            .env("CALLGOOSE_TOKEN", TOKEN)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(sandbox.stdout.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| Some(line.split_once("upstream.url=http://127.0.0.1:")?.1.to_owned())).unwrap();
        // Read on, so that it never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
        let dedup = json!({"source": "servicepilot", "events": []}).to_string();
        let all = [
            Listener {
                name: "senders",
                port: edge.address.port(),
                path: "/hooks/servicepilot",
                authorization: bearer.clone(),
                body: alert(),
            },
            Listener {
                name: "admin",
                port: relay.ports().1,
                path: "/api/v1/dedup",
                authorization: "Content-Type: application/json\r\n".to_owned(),
                body: dedup,
            },
            Listener {
                name: "sandbox",
                port: url.split('/').next().unwrap().parse().unwrap(),
                path: "/sqibs-api/v1/process",
                authorization: format!("Content-Type: application/json\r\n{bearer}"),
                body: alert(),
            },
        ];
        Listeners { all, edge, _relay: relay, sandbox }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        let _ = self.sandbox.kill().and_then(|()| self.sandbox.wait());
    }
}

/// Requests that can be read in two ways, or ask for what is not spoken here.
fn doubtful(to: &Listener) -> Vec<(&'static str, String)> {
    // Whoever reads the head differently finds this second request in the body.
    let (body, length, path) = (&to.body, to.body.len(), to.path);
    let smuggled = format!("0\r\n\r\n{}", to.sized(""));
    let auth = &to.authorization;
    let host = |host: &str| to.sized("").replace("Host: localhost", &format!("Host: {host}"));
    let target = |target: &str| to.sized("").replace(&format!("POST {path} "), &format!("POST {target} "));
    vec![
        ("two equal lengths", to.request(&format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), body)),
        ("two different lengths", to.request(&format!("Content-Length: {length}\r\nContent-Length: 1\r\n"), body)),
        ("a list of lengths", to.request(&format!("Content-Length: {length}, {length}\r\n"), body)),
        ("a signed length", to.request(&format!("Content-Length: +{length}\r\n"), body)),
        ("a negative length", to.request("Content-Length: -1\r\n", body)),
        ("a hexadecimal length", to.request("Content-Length: 0x1f\r\n", body)),
        ("a length beyond all bounds", to.request("Content-Length: 99999999999999999999999\r\n", body)),
        ("a length, then chunks", to.request("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &smuggled)),
        ("chunks, then a length", to.request("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &smuggled)),
        ("chunked twice", to.request("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &smuggled)),
        ("chunked in disguise", to.request("Transfer-Encoding: xchunked\r\n", &smuggled)),
        ("chunks before compression", to.request("Transfer-Encoding: chunked, gzip\r\n", &smuggled)),
        ("compression before chunks", to.request("Transfer-Encoding: gzip, chunked\r\n", &smuggled)),
        ("chunks in HTTP/1.0", to.request("Transfer-Encoding: chunked\r\n", &smuggled).replace("HTTP/1.1", "HTTP/1.0")),
        ("a blank before the colon", to.request(&format!("Content-Length : {length}\r\n"), body)),
        ("a folded header", to.request(&format!("X: a\r\n b\r\nContent-Length: {length}\r\n"), body)),
        ("bare line feeds", to.sized("").replace("\r\n", "\n")),
        ("one bare line feed", to.sized("X: y\r\n").replace("X: y\r\n", "X: y\n")),
        ("a carriage return in a header", to.sized("X: a\rb\r\n")),
        ("a NUL in a header", to.sized("X: a\0b\r\n")),
        ("no Host", to.sized("").replace("Host: localhost\r\n", "")),
        ("two Hosts", to.sized("Host: localhost\r\n")),
        ("a malformed Host", host("a b")),
        ("a user in the Host", host("user@localhost")),
        ("a user and a password in the Host", host("user:password@localhost:80")),
        ("a port beyond all ports", host("localhost:99999")),
        ("a port that is none", host("localhost:abc")),
        ("a colon without a port", host("localhost:")),
        ("a port with a sign", host("localhost:+80")),
        ("a port without a host", host(":80")),
        ("two ports", host("localhost:80:80")),
        ("a name behind an address", host("[::1].evil.example")),
        ("a fragment", target(&format!("{path}#b"))),
        ("a fragment in a query", target(&format!("{path}?a=b#c"))),
        ("nothing but a fragment", target("/#")),
        ("a whole URL", target(&format!("http://localhost{path}"))),
        ("a whole URL of another host", target(&format!("http://evil.example{path}"))),
        ("a whole URL with a user", target(&format!("http://user@localhost{path}"))),
        ("CONNECT", format!("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n")),
        ("an upgrade", to.sized("Connection: upgrade\r\nUpgrade: websocket\r\n")),
        ("an upgrade or HTTP/2", to.sized("Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n")),
        ("no HTTP", "hello\r\n\r\n".to_owned()),
        ("an unknown version", to.sized("").replace("HTTP/1.1", "HTTP/3.0")),
        ("a header without a name", to.sized(": x\r\n")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn doubtful_framing_is_refused_once_by_every_listener_and_the_connection_closes() {
    let listeners = Listeners::start().await;
    for to in &listeners.all {
        let good = to.raw(to.sized("Connection: close\r\n")).await;
        assert!(matches!(statuses(&good)[..], [200..203]), "{}: {good}", to.name);
        for (claim, bytes) in doubtful(to) {
            let answer = to.raw(format!("{bytes}{}", to.sized(""))).await;
            assert_eq!(statuses(&answer), [400], "{}, {claim}: {answer}", to.name);
            assert!(answer.contains("\r\nconnection: close\r\n"), "{}, {claim}: {answer}", to.name);
            // A sentence, and not hyper's silence.
            assert!(
                answer.trim_end().split("\r\n\r\n").nth(1).is_some_and(|body| body.len() > 20),
                "{claim}: {answer}"
            );
            if to.name != "sandbox" {
                assert!(answer.contains("application/problem+json"), "{}, {claim}: {answer}", to.name);
            }
            assert_eq!(answer.contains("\r\nx-request-id: "), to.name == "senders", "{claim}: {answer}");
        }
    }
    assert_eq!(listeners.edge.kept_count(), 1, "nothing is kept but the good one");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_chunks_are_refused_by_every_listener_and_nothing_behind_them_is_read() {
    let listeners = Listeners::start().await;
    let lines =
        ["zz\r\n", "N\n", "N\0\r\n", "N;a=\0\r\n", "N;a\x1fb\r\n", "N;\x7f\r\n", "N;a\rb\r\n", "fffffffffffffffff\r\n"];
    for to in &listeners.all {
        let chunked = |line: &str| {
            let line = line.replace('N', &format!("{:x}", to.body.len()));
            to.request("Transfer-Encoding: chunked\r\n", &format!("{line}{}\r\n0\r\n\r\n", to.body))
        };
        let last = to.sized("Connection: close\r\n");
        let answer = to.raw(format!("{}{last}", chunked("N;a=\tb;c=\"d\"\r\n"))).await;
        assert!(matches!(statuses(&answer)[..], [200..203, 200..203]), "{}: {answer}", to.name);
        for line in lines {
            let answer = to.raw(format!("{}{last}", chunked(line))).await;
            assert_eq!(statuses(&answer), [400], "{}, {line:?}: {answer}", to.name);
            // The same in two pieces, the second of which begins with the line.
            let (head, chunks) =
                chunked(line).split_once("\r\n\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            let mut stream = TcpStream::connect(("127.0.0.1", to.port)).await.unwrap();
            write(&mut stream, format!("{head}\r\nExpect: 100-continue\r\n\r\n")).await;
            let asked = read_answer(&mut stream).await;
            assert!(asked.starts_with("HTTP/1.1 100 "), "{}: {asked}", to.name);
            write(&mut stream, format!("{chunks}{last}")).await;
            let answer = read_to_end(&mut stream).await;
            assert_eq!(statuses(&answer), [400], "{}, {line:?}: {answer}", to.name);
        }
    }
    assert_eq!(listeners.edge.kept_count(), 1);
}

/// The answer of a listener that speaks TLS to a request over HTTP/2: the status, and the words of the problem.
async fn over_http2(port: u16, ca: &Path, request: Request<Empty<Bytes>>) -> (u16, String) {
    let mut config = tls::client_config(Some(ca)).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = answer_of(sender.send_request(request).await.unwrap()).await;
    // The connection goes on: a stream of HTTP/2 ends without it.
    sender.ready().await.unwrap();
    (answer.status, answer.body["detail"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_one_authority_and_the_scheme_of_the_connection_are_asked_for() {
    let edge = Setup::new().start().await;
    let upstream = Upstream::start(|_, _| Reply::Done).await;
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().display();
    let pair = format!("certificate: '{shown}/a.pem', private_key: '{shown}/a.key'");
    let admin = format!("address: '127.0.0.1:0', tls: {{ {pair} }}");
    let relay = Relay::start(&upstream, &relay::Setup { admin: Some(admin), ..relay::Setup::default() }).await;
    let rows: [(&str, &[&str], &str); 12] = [
        ("https://localhost", &[], ""),
        ("https://LOCALHOST:443", &["localhost"], ""),
        ("https://localhost:8443", &["localhost:8443"], ""),
        ("http://localhost", &[], ":scheme"),
        ("ftp://localhost", &[], ":scheme"),
        ("https://localhost", &["evil.example"], "not its `:authority`"),
        ("https://localhost:8443", &["localhost:8444"], "not its `:authority`"),
        ("https://localhost", &["localhost", "localhost"], "Host twice"),
        ("https://localhost", &["user@localhost"], "user name"),
        ("https://user@localhost", &[], "user name"),
        ("https://localhost:99999", &[], "port"),
        ("https://localhost:abc", &[], "port"),
    ];
    for (listener, port, ca, path, good) in [
        ("senders", edge.address.port(), edge.ca(), "/hooks/servicepilot", 405),
        ("admin", relay.ports().1, folder.path().join("a.pem"), "/readyz", 200),
    ] {
        for (authority, hosts, said) in rows {
            let request = Request::get(format!("{authority}{path}")).version(Version::HTTP_2);
            let request = hosts.iter().fold(request, |request, host| request.header("host", *host));
            let (status, detail) = over_http2(port, &ca, request.body(Empty::new()).unwrap()).await;
            let expected = if said.is_empty() { good } else { 400 };
            assert_eq!(status, expected, "{listener}, {authority} {hosts:?}: {detail}");
            assert!(detail.contains(said), "{listener}, {authority} {hosts:?}: {detail}");
        }
        // Without `:authority`, which h2 sends for a request of HTTP/1.1 without one.
        for (host, expected) in [(Some("localhost"), good), (Some("localhost:"), 400), (None, 400)] {
            let request = Request::get(path).version(Version::HTTP_11);
            let request = host.into_iter().fold(request, |request, host| request.header("host", host));
            let (status, detail) = over_http2(port, &ca, request.body(Empty::new()).unwrap()).await;
            assert_eq!(status, expected, "{listener}, {host:?}: {detail}");
        }
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
