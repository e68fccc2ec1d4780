//! Out to the upstream: through proxies, to fixed addresses, by certificates; and what is said when that fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gander::exports::config::{self, Failure, Inputs, Secrets};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::process::Process;
use crate::proxies::{Does, ESTABLISHED, Forwarder, Proxy};
use crate::relay::{self, Relay, Setup, payload, within};
use crate::upstream::{Pair, Reply, Shown, Upstream};

/// Retries that a test can wait for, and lines under `upstream`.
fn setup(lines: &[String]) -> Setup {
    let retry = ["retry: { initial: 10ms, factor: 1, max: 20ms }".to_owned(), "timeout: 1s".to_owned()];
    Setup { upstream: retry.into_iter().chain(lines.iter().cloned()).collect(), ..Setup::default() }
}

/// What became of the first attempt at a new event.
async fn first_attempt(relay: &Relay) -> Value {
    let answer = relay.post(&payload("e1", "CRITICAL")).await;
    let path = format!("/api/v1/events/{}", answer.json["id"].as_str().unwrap());
    relay.admin_once(&path, |event| event["deliveries"][0].is_object()).await["deliveries"][0].clone()
}

/// The entry of `/readyz` about the upstream, once there is one.
async fn trouble(relay: &Relay) -> Value {
    relay.admin_once("/readyz", |ready| ready["degraded"][0].is_object()).await["degraded"][0].clone()
}

async fn is_delivered(relay: &Relay) {
    let answer = relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
    assert_eq!(answer.json["outcome"], "created", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_through_a_proxy_that_wants_credentials_and_a_header() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        // `user:pass@word` in base64.
        let proxy = Proxy::http(|head| match head.contains("proxy-authorization: Basic dXNlcjpwYXNzQHdvcmQ=\r\n") {
            true => Does::Tunnel(ESTABLISHED),
            false => Does::Say("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n".to_owned()),
        })
        .await;
        let line = format!(
            "proxy: {{ url: 'http://{}', credentials: {{ env: PAIR }}, headers: {{ X-Team: payments }} }}",
            proxy.address
        );
        let mut setup = setup(&[line]);
        setup.environment.push(("PAIR".to_owned(), "user:pass@word".to_owned()));
        let relay = Relay::start(&upstream, &setup).await;
        is_delivered(&relay).await;
        let [head] = &proxy.seen()[..] else { panic!("{:?}", proxy.seen()) };
        let target = format!("localhost:{}", upstream.address.port());
        assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains(&format!("host: {target}\r\n")) && head.contains("x-team: payments\r\n"), "{head}");
        let status = relay.admin("/api/v1/status").await.json;
        let expected = json!({ "url": format!("http://{}", proxy.address), "named_by": "upstream.proxy" });
        assert_eq!(status["upstream"]["proxy"], expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_a_proxy_is_told_as_what_it_is() {
    let say = |text: &str| Does::Say(text.to_owned());
    for (does, result, status, detail, pauses) in [
        (
            say(
                "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Negotiate\r\nProxy-Authenticate: Basic realm=\"s3cret\"\r\n\r\n",
            ),
            "proxy_unauthorized",
            json!(407),
            "it answered 407 to CONNECT localhost:PORT; it takes Negotiate, Basic",
            Some("upstream_proxy"),
        ),
        // As tinyproxy does.
        (say("HTTP/1.0 401 Unauthorized\r\n\r\n"), "proxy_unauthorized", json!(401), "", Some("upstream_proxy")),
        (say("HTTP/1.1 403 Forbidden\r\n\r\n"), "proxy_refused", json!(403), "it answered 403", Some("upstream_proxy")),
        (
            say("HTTP/1.1 302 Found\r\nlocation: http://login\r\n\r\n"),
            "proxy_refused",
            json!(302),
            "",
            Some("upstream_proxy"),
        ),
        (say("HTTP/1.1 503 Service Unavailable\r\n\r\n"), "proxy", json!(503), "it answered 503", None),
        (say("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nxyz"), "proxy", json!(502), "", None),
        (say("SSH-2.0-OpenSSH_9.2\r\n"), "proxy", Value::Null, "http://PROXY: ", None),
        (say(&format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(20_000))), "proxy", Value::Null, "", None),
        (Does::SayAndClose(""), "proxy", Value::Null, "", None),
        (Does::SayAndClose("HTTP/1.1 200 Connection est"), "proxy", Value::Null, "", None),
        (Does::Silence, "proxy", Value::Null, "http://PROXY: no answer in time", None),
        (Does::Drip, "proxy", Value::Null, "no answer in time", None),
        // A tunnel that leads nowhere.
        (Does::SayAndClose(ESTABLISHED), "tls", Value::Null, "", None),
        (say("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n"), "tls", Value::Null, "", None),
    ] {
        within(async {
            let upstream = Upstream::start(|_, _| Reply::Done).await;
            let said = does.clone();
            let proxy = Proxy::http(move |_| said.clone()).await;
            let relay = Relay::start(&upstream, &setup(&[format!("proxy: http://{}", proxy.address)])).await;
            let attempt = first_attempt(&relay).await;
            assert_eq!((&attempt["result"], &attempt["status"]), (&json!(result), &status), "{does:?}: {attempt}");
            let fault = if result == "tls" { "network" } else { "proxy" };
            assert_eq!(attempt["fault"], fault, "{does:?}: {attempt}");
            let detail = detail.replace("PORT", &upstream.address.port().to_string());
            let detail = detail.replace("PROXY", &proxy.address.to_string());
            let found = attempt["detail"].as_str().unwrap();
            assert!(found.contains(&detail) && !found.contains("s3cret"), "{does:?}: {found}");
            if let Some(reason) = pauses {
                let trouble = trouble(&relay).await;
                assert_eq!((&trouble["reason"], &trouble["fault"]), (&json!(reason), &json!("proxy")), "{trouble}");
                assert!(
                    trouble["detail"].as_str().unwrap().contains(&format!("http://{}", proxy.address)),
                    "{trouble}"
                );
            }
            assert!(upstream.calls().is_empty());
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_success_opens_a_tunnel() {
    for answer in [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 201 Created\r\nvia: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
    ] {
        within(async {
            let upstream = Upstream::start(|_, _| Reply::Done).await;
            let proxy = Proxy::http(move |_| Does::Tunnel(answer)).await;
            let relay = Relay::start(&upstream, &setup(&[format!("proxy: http://{}", proxy.address)])).await;
            is_delivered(&relay).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_spoken_where_it_is_offered_and_one_connection_through_a_proxy_is_enough() {
    within(async {
        let pair = Pair::signed_by_itself(|_| ());
        let mut config = pair.server(|tls| tls.with_no_client_auth());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Once for each way the stream is reset.
        let resets = Arc::new(AtomicBool::new(false));
        let reset = Arc::clone(&resets);
        let upstream = Upstream::start_with(listener, config, &pair.pem, move |call, _| {
            match call.key() == "e3" && reset.swap(false, Ordering::SeqCst) {
                true => Reply::HangUp,
                false => Reply::Done,
            }
        })
        .await;
        let (connect, socks) = (Proxy::http(|_| Does::Tunnel(ESTABLISHED)).await, Proxy::socks5(None, 0).await);
        for (line, proxy) in [
            ("proxy: off".to_owned(), None),
            (format!("proxy: http://{}", connect.address), Some(&connect)),
            (format!("proxy: socks5h://{}", socks.address), Some(&socks)),
        ] {
            let before = upstream.calls().len();
            resets.store(true, Ordering::SeqCst);
            let relay = Relay::start(&upstream, &setup(&[line])).await;
            is_delivered(&relay).await;
            let tunnels = proxy.map(|proxy| proxy.seen().len());
            for number in 2..8 {
                let event = payload(&format!("e{number}"), "CRITICAL");
                let answer = relay.post_with(&event, &[("prefer", "wait=10")]).await;
                assert_eq!(answer.json["outcome"], "created", "{answer:?}");
            }
            let calls = upstream.calls();
            assert!(calls[before..].iter().all(|call| call.version == http::Version::HTTP_2));
            assert!(!resets.load(Ordering::SeqCst), "nothing was reset");
            // After the reset another connection is made, and no more.
            assert_eq!(proxy.map(|proxy| proxy.seen().len()), tunnels.map(|tunnels| tunnels + 1));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socks5_proxy_is_told_the_name_or_the_address() {
    within(async {
        let proxy = Proxy::socks5(Some("user:pa:ss"), 0).await;
        for (bind, scheme, addresses, told) in [
            ("127.0.0.1:0", "socks5h", "[]", "localhost:PORT"),
            ("127.0.0.1:0", "socks5", "[]", "127.0.0.1:PORT"),
            ("[::1]:0", "socks5", "['[::1]:PORT']", "[::1]:PORT"),
            ("[::1]:0", "socks5h", "['[::1]:PORT']", "[::1]:PORT"),
        ] {
            let upstream = Upstream::start_on(TcpListener::bind(bind).await.unwrap(), |_, _| Reply::Done).await;
            let port = upstream.address.port().to_string();
            let lines = [
                format!("proxy: {scheme}://user:pa%3Ass@{}", proxy.address),
                format!("addresses: {}", addresses.replace("PORT", &port)),
            ];
            let relay = Relay::start(&upstream, &setup(&lines)).await;
            is_delivered(&relay).await;
            assert_eq!(proxy.seen().last(), Some(&told.replace("PORT", &port)));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_a_socks5_proxy_is_told_as_what_it_is() {
    for (credentials, shown, code, result, pauses) in [
        (Some("user:right"), "user:wrong@", 0, "proxy_unauthorized", true),
        (Some("user:right"), "", 0, "proxy_unauthorized", true),
        (None, "", 2, "proxy_refused", true),
        (None, "", 5, "proxy", false),
        (None, "", 1, "proxy", false),
        (None, "", 99, "proxy", false),
    ] {
        within(async {
            let upstream = Upstream::start(|_, _| Reply::Done).await;
            let proxy = Proxy::socks5(credentials, code).await;
            let line = format!("proxy: socks5h://{shown}{}", proxy.address);
            let relay = Relay::start(&upstream, &setup(&[line])).await;
            let attempt = first_attempt(&relay).await;
            assert_eq!(attempt["result"], result, "{code} {attempt}");
            let detail = attempt["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("socks5h://{}", proxy.address)) && !detail.contains("wrong"), "{detail}");
            if pauses {
                assert_eq!(trouble(&relay).await["reason"], "upstream_proxy");
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environments_proxy_is_used_and_never_gone_around() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let proxy = Proxy::http(|_| Does::Tunnel(ESTABLISHED)).await;
        let through = |value: String, exceptions: &str| {
            let mut setup = setup(&[]);
            setup.environment = vec![("HTTPS_PROXY".into(), value), ("NO_PROXY".into(), exceptions.into())];
            setup
        };
        let relay = Relay::start(&upstream, &through(proxy.address.to_string(), "example.com")).await;
        is_delivered(&relay).await;
        assert_eq!(proxy.seen().len(), 1);
        let status = relay.admin("/api/v1/status").await.json;
        assert_eq!(status["upstream"]["proxy"]["named_by"], "HTTPS_PROXY");
        let relay = Relay::start(&upstream, &through(proxy.address.to_string(), "localhost")).await;
        is_delivered(&relay).await;
        assert_eq!((proxy.seen().len(), upstream.calls().len()), (1, 2));
        // Nobody listens there.
        let relay = Relay::start(&upstream, &through("http://127.0.0.1:1".into(), "")).await;
        let attempt = first_attempt(&relay).await;
        assert_eq!(attempt["result"], "proxy", "{attempt}");
        assert!(attempt["detail"].as_str().unwrap().starts_with("http://127.0.0.1:1: "), "{attempt}");
        assert_eq!(upstream.calls().len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_over_tls_is_trusted_by_its_own_ca_and_a_renewed_one_is_taken_over() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let pair = Pair::signed_by_itself(|_| ());
        let other = Pair::signed_by_itself(|_| ());
        let proxy = Proxy::https(pair.server(|tls| tls.with_no_client_auth()), |_| Does::Tunnel(ESTABLISHED)).await;
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("proxy-ca.pem");
        std::fs::write(&ca, &other.pem).unwrap();
        let url = format!("https://localhost:{}", proxy.address.port());
        let line = format!("proxy: {{ url: '{url}', ca: '{}' }}", ca.display());
        let process = start(directory.path(), &upstream, &setup(&[line])).await;
        process.post(&payload("e1", "CRITICAL")).await;
        let ready = process.admin_once("/readyz", |ready| ready["degraded"][0].is_object()).await;
        assert_eq!(ready["degraded"][0]["reason"], "upstream_proxy", "{ready}");
        assert!(ready["degraded"][0]["remedy"].as_str().unwrap().contains("upstream.proxy.ca"), "{ready}");
        replace(&ca, &pair.pem);
        upstream.calls_once(1).await;
        let line = process.logged("new connections to the upstream use the renewed certificates");
        assert!(!line.to_string().contains("BEGIN"));
    })
    .await;
}

async fn start(directory: &Path, upstream: &Upstream, setup: &Setup) -> Process {
    Process::start(relay::write_configuration(directory, upstream, setup)).await
}

/// Puts a file in another's place at once, as `mv` does.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_of_tls_has_its_own_remedy_and_lasting_ones_pause() {
    let plain = |_: &mut rcgen::CertificateParams| ();
    let past = |parameters: &mut rcgen::CertificateParams| {
        (parameters.not_before, parameters.not_after) =
            (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    };
    let future = |parameters: &mut rcgen::CertificateParams| {
        (parameters.not_before, parameters.not_after) =
            (rcgen::date_time_ymd(2090, 1, 1), rcgen::date_time_ymd(2091, 1, 1));
    };
    type Change = fn(&mut rcgen::CertificateParams);
    let old: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    let both: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    for (change, versions, trusted, wants_certificate, line, remedy) in [
        (plain as Change, both, true, false, "server_name: other.example", "`upstream.tls.server_name`"),
        (past as Change, both, true, false, "", "has expired"),
        (future as Change, both, true, false, "", "not valid yet"),
        (plain as Change, both, false, false, "", "name the authority in `upstream.tls.ca`"),
        (plain as Change, old, true, false, "min_version: 1.3", "`upstream.tls.min_version`"),
        (plain as Change, both, true, true, "", "`upstream.tls.client_certificate`"),
        (plain as Change, old, true, true, "", "`upstream.tls.client_certificate`"),
    ] {
        within(async {
            let pair = Pair::signed_by_itself(change);
            let other = Pair::signed_by_itself(|_| ());
            let clients = client_verifier(&other);
            let config = pair.server_of(versions, |tls| match wants_certificate {
                true => tls.with_client_cert_verifier(Arc::clone(&clients)),
                false => tls.with_no_client_auth(),
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let ca = if trusted { &pair.pem } else { &other.pem };
            let upstream = Upstream::start_with(listener, config, ca, |_, _| Reply::Done).await;
            let relay = Relay::start(&upstream, &Setup { tls: vec![line.to_owned()], ..setup(&[]) }).await;
            let attempt = first_attempt(&relay).await;
            assert_eq!(attempt["result"], "tls", "{line} {attempt}");
            let trouble = trouble(&relay).await;
            assert_eq!(trouble["reason"], "upstream_tls", "{line} {trouble}");
            assert_eq!(trouble["fault"], "network", "{line} {trouble}");
            assert!(trouble["remedy"].as_str().unwrap().contains(remedy), "{remedy}: {trouble}");
            assert!(upstream.calls().is_empty());
        })
        .await;
    }
}

fn client_verifier(ca: &Pair) -> Arc<dyn rustls::server::danger::ClientCertVerifier> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_and_a_renewed_one_is_taken_over() {
    within(async {
        let (pair, right, wrong) =
            (Pair::signed_by_itself(|_| ()), Pair::signed_by_itself(|_| ()), Pair::signed_by_itself(|_| ()));
        let clients = client_verifier(&right);
        let config = pair.server(|tls| tls.with_client_cert_verifier(Arc::clone(&clients)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::start_with(listener, config, &pair.pem, |_, _| Reply::Done).await;
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let put = |pair: &Pair| {
            replace(&file("own.key"), &pair.key_pem);
            replace(&file("own.pem"), &pair.pem);
        };
        put(&wrong);
        let line = |key: &str, name: &str| format!("{key}: '{}'", file(name).display());
        let tls = vec![line("client_certificate", "own.pem"), line("client_key", "own.key")];
        let process = start(directory.path(), &upstream, &Setup { tls, ..setup(&[]) }).await;
        process.post(&payload("e1", "CRITICAL")).await;
        let ready = process.admin_once("/readyz", |ready| ready["degraded"][0].is_object()).await;
        assert_eq!(ready["degraded"][0]["reason"], "upstream_tls", "{ready}");
        put(&right);
        upstream.calls_once(1).await;
        // A trusted CA that is no longer the upstream's: what goes out from then on waits, and says why.
        replace(&upstream.ca, &wrong.pem);
        process.logged("new connections to the upstream use the renewed certificates");
        process.logged("new connections to the upstream use the renewed certificates");
        process.post(&payload("e2", "CRITICAL")).await;
        let ready = process.admin_once("/readyz", |ready| ready["degraded"][0].is_object()).await;
        assert!(ready["degraded"][0]["remedy"].as_str().unwrap().contains("`upstream.tls.ca`"), "{ready}");
        assert_eq!(upstream.calls().len(), 1);
        replace(&upstream.ca, &pair.pem);
        upstream.calls_once(2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_upstream_and_proxy_rotate_under_load_lose_nothing() {
    within(async {
        let pair = || Pair::signed_by_itself(|_| ());
        let (first, proxys) = (pair(), pair());
        let (shown, proxy_shown) = (Shown::new(&first), Shown::new(&proxys));
        // Every third connection is new, so that each certificate is looked at.
        let script = |_: &crate::upstream::Call, number: usize| match number % 3 {
            0 => Reply::HangUp,
            _ => Reply::Done,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::start_with(listener, shown.server(&first), &first.pem, script).await;
        let proxy = Proxy::https(proxy_shown.server(&proxys), |_| Does::Tunnel(ESTABLISHED)).await;
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("proxy-ca.pem");
        std::fs::write(&ca, &proxys.pem).unwrap();
        let url = format!("https://localhost:{}", proxy.address.port());
        let line = format!("proxy: {{ url: '{url}', ca: '{}' }}", ca.display());
        let lines = [line, "rate_limit: { per_second: 10000, burst: 10000 }".to_owned()];
        let process = start(directory.path(), &upstream, &setup(&lines)).await;
        let (rotated, mut sent) = (AtomicBool::new(false), 0);
        let load = async {
            while !rotated.load(Ordering::Relaxed) {
                let answer = process.post(&payload(&format!("e{sent}"), "CRITICAL")).await;
                assert_eq!(answer.status, 202, "{answer:?}");
                sent += 1;
                // A steady load, not as much as this machine can write.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let rotation = async {
            for round in 0..6 {
                upstream.calls_once(upstream.calls().len() + 20).await;
                let next = pair();
                let (shown, file, key) = match round % 2 {
                    0 => (&shown, &upstream.ca, "upstream.tls.ca"),
                    _ => (&proxy_shown, &ca, "upstream.proxy.ca"),
                };
                shown.change(&next);
                // Not trusted yet: deliveries pause, and events are taken all the same.
                let named = |ready: &Value| ready["degraded"][0]["remedy"].as_str().is_some_and(|it| it.contains(key));
                process.admin_once("/readyz", named).await;
                replace(file, &next.pem);
            }
            rotated.store(true, Ordering::Relaxed);
        };
        tokio::join!(load, rotation);
        process.admin_once("/api/v1/events?state=queued", |page| page["events"] == json!([])).await;
        let dead = process.admin("/api/v1/events?state=dead").await.json;
        assert_eq!(dead["events"], json!([]));
        let calls = upstream.calls();
        let arrived: std::collections::HashSet<&str> = calls.iter().map(crate::upstream::Call::key).collect();
        assert!(sent > 50 && arrived.len() == sent, "{} of {sent}", arrived.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fixed_addresses_stand_instead_of_the_name_and_the_certificate_is_still_for_it() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        // Nobody listens on the first, and the URL's port is another one.
        let addresses = format!("addresses: ['127.0.0.1:1', 'localhost:{}']", upstream.address.port());
        let url = Some("https://localhost:1/v1".to_owned());
        let relay = Relay::start(&upstream, &Setup { url, ..setup(std::slice::from_ref(&addresses)) }).await;
        is_delivered(&relay).await;
        assert_eq!(upstream.calls()[0].headers["host"], "localhost:1");
        let url = Some("https://other.example/v1".to_owned());
        let relay = Relay::start(&upstream, &Setup { url, ..setup(std::slice::from_ref(&addresses)) }).await;
        assert_eq!(first_attempt(&relay).await["result"], "tls");
        assert_eq!(upstream.calls().len(), 1);
        // Through a proxy they are what it is asked for, one after the other; each has its part of the time.
        for does in [Does::Say("HTTP/1.1 502 Bad Gateway\r\n\r\n".to_owned()), Does::Silence] {
            let proxy = Proxy::http(move |head| match head.contains("127.0.0.1:1 ") {
                true => does.clone(),
                false => Does::Tunnel(ESTABLISHED),
            })
            .await;
            let url = Some("https://localhost:1/v1".to_owned());
            let lines = [addresses.clone(), format!("proxy: http://{}", proxy.address)];
            let relay = Relay::start(&upstream, &Setup { url, ..setup(&lines) }).await;
            is_delivered(&relay).await;
            assert_eq!(proxy.seen().len(), 2);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_way_forgot_cost_one_attempt() {
    within(async {
        // Four calls at once make four connections.
        let gate = crate::upstream::Gate::closed();
        let waiting = gate.clone();
        let upstream = Upstream::start(move |_, number| match number {
            0..4 => Reply::After(waiting.clone(), Box::new(Reply::Done)),
            _ => Reply::Done,
        })
        .await;
        let forwarder = Forwarder::start(upstream.address).await;
        let relay = Relay::start(&upstream, &setup(&[format!("addresses: ['{}']", forwarder.address)])).await;
        for number in 0..4 {
            relay.post(&payload(&format!("e{number}"), "CRITICAL")).await;
        }
        upstream.calls_once(4).await;
        gate.open();
        relay.admin_once("/api/v1/events?state=delivered", |page| page["events"][3].is_object()).await;
        forwarder.forget();
        let answer = relay.post_with(&payload("late", "CRITICAL"), &[("prefer", "wait=10")]).await;
        assert_eq!(answer.json["outcome"], "created", "{answer:?}");
        let id = answer.json["id"].as_str().unwrap();
        let event = relay.admin(&format!("/api/v1/events/{id}")).await.json;
        let results: Vec<&str> =
            event["deliveries"].as_array().unwrap().iter().map(|one| one["result"].as_str().unwrap()).collect();
        assert_eq!(results, ["timeout", "created"], "{event}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_answers_badly_is_met_on_another_connection_the_next_time() {
    within(async {
        let bad = Upstream::start(|_, _| Reply::status(503)).await;
        let good = Upstream::start(|_, _| Reply::Done).await;
        // The way leads to `bad` for the first connection only.
        let (to_bad, to_good) = (bad.address, good.address);
        let first = AtomicBool::new(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let to = if first.swap(false, Ordering::Relaxed) { to_bad } else { to_good };
                tokio::spawn(async move {
                    let mut onward = tokio::net::TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
                });
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let both = directory.path().join("both.pem");
        let text = [&bad.ca, &good.ca].map(|file| std::fs::read_to_string(file).unwrap()).concat();
        std::fs::write(&both, text).unwrap();
        std::fs::copy(&both, &good.ca).unwrap();
        let relay = Relay::start(&good, &setup(&[format!("addresses: ['{address}']")])).await;
        is_delivered(&relay).await;
        assert_eq!((bad.calls().len(), good.calls().len()), (1, 1));
    })
    .await;
}

#[test]
fn a_proxy_of_the_environment_that_is_no_proxy_is_an_error_and_not_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("gander.yaml");
    std::fs::write(directory.path().join("r.yaml"), "{ version: 1, rules: [{ name: a, then: ignore }] }").unwrap();
    let text = "sources: { s: { rules: r.yaml, auth: none } }
upstream: { url: 'https://up.example/', authorization: { bearer: { env: UP } } }\n";
    std::fs::write(&path, text).unwrap();
    let environment = [("UP", "token"), ("HTTPS_PROXY", "quic://proxy")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let inputs = Inputs { path, environment, flags: Vec::new(), secrets: Secrets::Required };
    let Err(Failure::Invalid(findings)) = config::load(&inputs) else { panic!("it was taken") };
    assert!(findings.render(false).contains("HTTPS_PROXY"), "{}", findings.render(false));
}
