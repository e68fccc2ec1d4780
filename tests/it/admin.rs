//! Who may ask the admin API, what it tells whom, and how its listener protects itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Version};
use http_body_util::Full;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::relay::{Answer, Relay, Setup, payload, within};
use crate::support::{answer_of, client, read_answer, read_to_end, statuses, write};
use crate::upstream::{Reply, Upstream};

const ADMIN_TOKEN: &str = "admin-canary-51c0";

/// Asks `path` with these headers.
async fn ask(relay: &Relay, path: &str, headers: &[(&str, &str)]) -> Answer {
    let url = format!("http://127.0.0.1:{}{path}", relay.ports().1);
    relay.client.send(Method::GET, &url, headers, String::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_show_the_token_learns_whether_it_lives_and_is_ready_and_no_more() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let admin = format!("address: '{address}', insecure: true, token: {ADMIN_TOKEN}");
            let setup = Setup { admin: Some(admin), ..Setup::default() };
            let right = format!("Bearer {ADMIN_TOKEN}");
            let basic = format!("Basic {ADMIN_TOKEN}");
            let longer = format!("{right}x");
            for shown in [None, Some("Bearer wrong"), Some("Bearer"), Some(&*basic), Some(&*longer)] {
                let headers: Vec<_> = shown.map(|shown| ("authorization", shown)).into_iter().collect();
                // Each time another one: after ten wrong tokens the answers come late.
                let relay = Relay::start(&upstream, &setup).await;
                for path in [
                    "/metrics",
                    "/api/v1/events",
                    "/api/v1/events/1",
                    "/api/v1/incidents",
                    "/api/v1/queue",
                    "/api/v1/status",
                ] {
                    let answer = ask(&relay, path, &headers).await;
                    assert_eq!(answer.status, 401, "{address} {path} with {shown:?}");
                    assert!(answer.json["detail"].as_str().unwrap().contains("Bearer TOKEN"), "{answer:?}");
                }
                assert_eq!(ask(&relay, "/healthz", &headers).await.status, 200, "{address} with {shown:?}");
                let ready = ask(&relay, "/readyz", &headers).await;
                assert_eq!((ready.status.as_u16(), keys(&ready.json)), (200, vec!["ready"]), "no details: {ready:?}");
            }
            let relay = Relay::start(&upstream, &setup).await;
            let headers = [("authorization", &*right)];
            assert_eq!(ask(&relay, "/api/v1/status", &headers).await.status, 200);
            let ready = ask(&relay, "/readyz", &headers).await;
            assert!(keys(&ready.json).contains(&"degraded"), "{ready:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_in_a_browser_is_turned_away() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let own = format!("http://127.0.0.1:{}", relay.ports().1);
        for (header, status) in [
            (("origin", &*own), 200),
            (("origin", "http://evil.example"), 403),
            (("origin", "http://127.0.0.1:1"), 403),
            (("origin", "null"), 403),
            (("sec-fetch-site", "same-origin"), 200),
            (("sec-fetch-site", "none"), 200),
            (("sec-fetch-site", "same-site"), 403),
            (("sec-fetch-site", "cross-site"), 403),
            (("host", "localhost"), 200),
            (("host", "evil.example"), 403),
            (("host", "localhost:abc"), 400),
            (("host", "user@localhost"), 400),
        ] {
            for path in ["/healthz", "/readyz", "/metrics", "/api/v1/events"] {
                assert_eq!(ask(&relay, path, &[header]).await.status, status, "{path} with {header:?}");
            }
        }
        let ready = ask(&relay, "/readyz", &[]).await;
        assert!(keys(&ready.json).contains(&"degraded"), "on loopback without a token details are shown: {ready:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_http_1_0_names_no_host_and_is_answered() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        for (path, status) in [("/healthz", "200"), ("/readyz", "200"), ("/api/v1/status", "403")] {
            let mut stream = TcpStream::connect(("127.0.0.1", relay.ports().1)).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.split(' ').nth(1), Some(status), "{path}: {answer}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_of_this_host_is_accepted_where_it_is_configured_or_comes_with_the_token() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let service = ("host", "gander.monitoring.svc:9180");
        let hosts =
            Setup { admin: Some("address: '127.0.0.1:0', hosts: [gander.monitoring.svc]".into()), ..Setup::default() };
        let relay = Relay::start(&upstream, &hosts).await;
        for (headers, status) in [
            (&[service][..], 200),
            (&[("host", "Gander.Monitoring.SVC")], 200),
            (&[("host", "gander.monitoring.svc.:9180")], 200),
            (&[("host", "gander.monitoring.svc.evil.example")], 403),
            (&[service, ("sec-fetch-site", "cross-site")], 403),
            (&[("host", "evil.example")], 403),
            // Nothing asks for a token here: one that is shown proves nothing.
            (&[("host", "evil.example"), ("authorization", "Bearer x")], 403),
        ] {
            assert_eq!(ask(&relay, "/api/v1/status", headers).await.status, status, "{headers:?}");
        }

        let admin = format!("address: '0.0.0.0:0', insecure: true, token: {ADMIN_TOKEN}");
        let relay = Relay::start(&upstream, &Setup { admin: Some(admin), ..Setup::default() }).await;
        let right = format!("Bearer {ADMIN_TOKEN}");
        for (headers, status) in [
            (&[service, ("authorization", &*right)][..], 200),
            (&[("host", "gander.monitoring.svc.cluster.local."), ("authorization", &*right)], 200),
            (&[("host", "[2001:db8::7]:9180"), ("authorization", &*right)], 200),
            (&[service, ("authorization", &*right), ("origin", "http://evil.example")], 403),
            (&[service, ("authorization", "Bearer wrong")], 403),
            (&[service], 403),
        ] {
            for path in ["/readyz", "/api/v1/status"] {
                let answer = ask(&relay, path, headers).await;
                assert_eq!(answer.status, status, "{path} with {headers:?}");
                let detail = answer.json["detail"].as_str().unwrap_or_default();
                let remedy = detail.contains("`admin.hosts`") && detail.contains("Bearer TOKEN");
                assert!(status == 200 || remedy || headers.len() == 3, "{answer:?}");
            }
        }
        // Bound to every address, any literal one is the listener's: here only the token is missing.
        let literal = ("host", "[2001:db8::7]:9180");
        assert_eq!(ask(&relay, "/api/v1/status", &[literal, ("authorization", "Bearer wrong")]).await.status, 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_not_understood_is_refused_instead_of_half_followed() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        for (query, said) in [
            ("events?colour=red", "no `colour`"),
            ("events?stat=dead", "did you mean `state`?"),
            ("events?limit=1&key-contains=x", "did you mean `key_contains`?"),
            ("events?search=", "`search` takes a text"),
            ("incidents?source=x", "no `source` here: this takes nothing in its query"),
            ("status?x", "nothing in its query"),
            ("events/1?x=y", "no `x` here; there are after, wait"),
            ("events?state=ded", "queued, delivered, dead, refused, ended; it is `ded` (did you mean `dead`?)"),
            ("events?state=dead,refusd", "did you mean `refused`?"),
            ("events?outcome=fine", "created, resolved"),
            ("events?outcome=unmached", "did you mean `unmatched`?"),
            ("events?after=x", "`next`"),
            ("events?limit=0", "`limit`"),
            ("events?limit=-1", "limit"),
            ("events?limit=many", "limit"),
        ] {
            let answer = ask(&relay, &format!("/api/v1/{query}"), &[]).await;
            assert_eq!(answer.status, 400, "{query}");
            assert!(answer.json["detail"].as_str().unwrap().contains(said), "{query}: {answer:?}");
        }
        assert_eq!(ask(&relay, "/api/v1/events?limit=1&state=dead", &[]).await.status, 200);
        assert_eq!(ask(&relay, "/api/v1/none", &[]).await.status, 404);
    })
    .await;
}

/// Probes as orchestrators send them, each on a connection of its own; all are answered long before anything that others
/// do here is overdue.
async fn probes_get_through(relay: &Relay, claim: &str) {
    let address = ("127.0.0.1", relay.ports().1);
    let mut probes = tokio::task::JoinSet::new();
    for count in 0..8 {
        let path = ["/healthz", "/readyz"][count % 2];
        probes.spawn(async move {
            let asked = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            write(&mut stream, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
            (path, read_to_end(&mut stream).await, asked.elapsed())
        });
    }
    for (path, answer, took) in probes.join_all().await {
        assert_eq!(statuses(&answer), [200], "{claim}, {path}: {answer}");
        assert!(took < PROBE_TIMEOUT, "{claim}, {path}: {took:?}");
    }
}

/// Less than the listener lets any head take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections to the admin listener that have sent these bytes.
async fn connections(relay: &Relay, count: usize, sent: &str) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(("127.0.0.1", relay.ports().1)).await.unwrap();
        write(&mut stream, sent).await;
        connections.push(stream);
    }
    connections
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_half_send_or_do_not_read_keeps_no_probe_from_its_answer() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answered_then_half = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /readyz HT";
        for (claim, count, sent) in [
            ("nothing sent", 400, ""),
            ("half a head", 400, "GET /readyz HT"),
            ("half a head, more often than there are places for all", 1_000, "GET /readyz HT"),
            ("a second head that is half", 400, answered_then_half),
            ("answers that nobody reads", 300, &*metrics.repeat(200)),
        ] {
            let mut slow = connections(&relay, count, sent).await;
            probes_get_through(&relay, claim).await;
            if sent.len() < 20 {
                let gone = read_to_end(&mut slow[0]).await;
                assert_eq!(gone, "", "{claim}: those that achieved nothing for longest gave way");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_heads_that_come_back_whenever_they_are_closed_keep_no_probe_from_its_answer() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let address = ("127.0.0.1", relay.ports().1);
        let mut slow = tokio::task::JoinSet::new();
        for _ in 0..400 {
            slow.spawn(async move {
                loop {
                    if let Ok(mut stream) = TcpStream::connect(address).await {
                        write(&mut stream, "GET /readyz HT").await;
                        let _ = stream.read(&mut [0]).await;
                    }
                }
            });
        }
        for _ in 0..4 {
            probes_get_through(&relay, "half heads that come back").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_take_long_leave_places_for_probes() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let receipt = relay.post(&payload("e1", "CRITICAL")).await;
        let id = receipt.json["id"].as_str().unwrap();
        relay.admin_once(&format!("/api/v1/events/{id}"), |event| event["state"] == "delivered").await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut streams = connections(&relay, 8, &get("/api/v1/stream")).await;
        for stream in &mut streams {
            assert_eq!(statuses(&read_answer(stream).await), [200]);
        }
        let waiting = connections(&relay, 32, &get(&format!("/api/v1/events/{id}?wait=60"))).await;
        let head = "POST /api/v1/dedup HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let mut bodies = connections(&relay, 120, head).await;
        let mut answers = [0, 0];
        for body in &mut bodies {
            match statuses(&read_answer(body).await)[..] {
                // Asked for its body, so it is being answered.
                [100] => answers[0] += 1,
                [503] => answers[1] += 1,
                _ => panic!("neither asked nor refused"),
            }
        }
        assert!((40..=96).contains(&answers[0]) && answers[0] + answers[1] == 120, "{answers:?}");
        probes_get_through(&relay, "as many requests in flight as may be").await;
        let refused = relay.admin("/api/v1/status").await;
        assert_eq!(refused.status, 503);
        assert!(refused.json["detail"].as_str().unwrap().contains("ask again"), "{refused:?}");
        drop((streams, waiting, bodies));
        relay.admin_once("/api/v1/status", |status| status["version"].is_string()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_to_a_port_that_speaks_tls_is_told_so_in_one_sentence() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let folder = tempfile::tempdir().unwrap();
        let shown = folder.path().display();
        let admin =
            format!("address: '127.0.0.1:0', tls: {{ certificate: '{shown}/a.pem', private_key: '{shown}/a.key' }}");
        let relay = Relay::start(&upstream, &Setup { admin: Some(admin), ..Setup::default() }).await;
        let (listen, admin) = relay.ports();
        let large = format!("POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\n\r\n{}", "x".repeat(300_000));
        for (request, port) in [
            ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", listen),
            ("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", admin),
            (&*large, listen),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", listen),
        ] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            write(&mut stream, request).await;
            // The client is done with sending; until then the port waits so that the answer is not lost.
            stream.shutdown().await.unwrap();
            let answer = read_to_end(&mut stream).await;
            assert_eq!(statuses(&answer), [400], "{answer}");
            assert!(answer.contains("\r\ncontent-type: text/plain\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nthis port speaks TLS: use https://\n"), "{answer}");
        }
        // What is neither HTTP nor TLS gets no sentence, and TLS is spoken as before.
        let mut stream = TcpStream::connect(("127.0.0.1", listen)).await.unwrap();
        write(&mut stream, "\0\0\0\0\0\0\0\0").await;
        assert!(!read_to_end(&mut stream).await.contains("HTTP"));
        assert_eq!(relay.post(&payload("e1", "CRITICAL")).await.status, 202);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_flight_is_answered_before_the_relay_stops() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let mut stream = TcpStream::connect(("127.0.0.1", relay.ports().1)).await.unwrap();
        let head = "POST /api/v1/events/1/replay HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        write(&mut stream, head).await;
        // Asked for its body, so it is being answered.
        assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 100 "));
        let stopped = tokio::spawn(relay.stop());
        // As a body that is still on its way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        write(&mut stream, "{}").await;
        assert_eq!(statuses(&read_to_end(&mut stream).await), [404], "there is no such event");
        stopped.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_it_speaks_both_versions_and_asks_for_the_certificate_that_is_configured() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let shown = directory.path().display();
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap().self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), ca.pem()).unwrap();
        let pair = format!("certificate: '{shown}/server.pem', private_key: '{shown}/server.key'");
        for (client_ca, status, details) in
            [(String::new(), 200, true), (format!(", client_ca: '{shown}/ca.pem'"), 403, false)]
        {
            let admin = format!("address: '127.0.0.1:0', tls: {{ {pair}{client_ca} }}");
            let setup = Setup { admin: Some(admin), ..Setup::default() };
            let relay = Relay::start_in(Arc::clone(&directory), &upstream, &setup).await;
            for http2 in [true, false] {
                let client = client(Some(&directory.path().join("server.pem")), http2);
                let get = async |path: &str| {
                    let url = format!("https://localhost:{}{path}", relay.ports().1);
                    let request = Request::get(url).body(Full::default()).unwrap();
                    let response = client.request(request).await.unwrap();
                    assert_eq!(response.version() == Version::HTTP_2, http2);
                    answer_of(response).await
                };
                assert_eq!(get("/api/v1/status").await.status, status, "{client_ca:?}");
                let ready = get("/readyz").await;
                assert_eq!((ready.status, keys(&ready.body).contains(&"degraded")), (200, details), "{client_ca:?}");
            }
            relay.stop().await;
        }
    })
    .await;
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_never_end_keep_out_nobody_who_shows_the_token() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let admin = format!("address: '127.0.0.1:0', token: {ADMIN_TOKEN}");
        let relay = Relay::start(&upstream, &Setup { admin: Some(admin), ..Setup::default() }).await;
        let begun = "POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
        let (started, mut forms, mut read) = (Instant::now(), Vec::new(), 0);
        for _ in 0..100 {
            let mut stream = TcpStream::connect(("127.0.0.1", relay.ports().1)).await.unwrap();
            write(&mut stream, begun).await;
            let mut said = [0; 12];
            stream.read_exact(&mut said).await.unwrap();
            read += usize::from(&said == b"HTTP/1.1 100");
            forms.push(stream);
            if &said == b"HTTP/1.1 503" {
                break;
            }
        }
        let right = format!("Bearer {ADMIN_TOKEN}");
        let answer = ask(&relay, "/api/v1/status", &[("authorization", &right)]).await;
        assert_eq!(answer.status, 200, "{read} forms are being read");
        assert!(read_to_end(&mut forms[0]).await.contains("HTTP/1.1 408 "));
        assert!(started.elapsed() < Duration::from_secs(8), "a form has 2 s: {:?}", started.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_anybody_may_ask_for_is_no_guess_of_the_token_whatever_a_proxy_shows() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let admin = format!("address: '127.0.0.1:0', token: {ADMIN_TOKEN}");
        let relay = Relay::start(&upstream, &Setup { admin: Some(admin), ..Setup::default() }).await;
        let basic = [("authorization", "Basic b3BlcmF0b3I6d29yZA==")];
        for path in ["/style.css", "/script.js", "/icon.svg"].repeat(8) {
            assert_eq!(ask(&relay, path, &basic).await.status, 200, "{path}");
        }
        let right = format!("Bearer {ADMIN_TOKEN}");
        let metrics = ask(&relay, "/metrics", &[("authorization", &right)]).await;
        let line = "gander_failed_attempts_slowed_total{listener=\"admin\",answer=\"delayed\"} 0";
        assert!(metrics.json.as_str().unwrap().contains(line), "{metrics:?}");
    })
    .await;
}
