//! Senders that sign what they send: who is let in by which body, what a stranger can take, and messages that come again.

use std::time::Duration;

use bytes::Bytes;
use gander::exports::clock::WallTime;
use gander::exports::credential::{Algorithm, Credential, Encoding, Hmac, SignedText, Timestamp};
use gander::exports::event::{Outcome, State};
use gander::exports::inbound::Accept;
use gander::exports::inbound::auth::Policy;
use gander::exports::secret::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::bodies::gzip;
use crate::cli::{fed, gander_beside};
use crate::relay::{self, Relay, payload, within};
use crate::support::{Answer, Edge, PATIENCE, Setup, TOKEN, read_answer, request, sized_request, statuses};
use crate::upstream::{Reply, Upstream};

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn hmac(header: &'static str, key: &str, prefix: &str) -> Hmac {
    Hmac {
        header: HeaderName::from_static(header),
        secret: secret(key),
        algorithm: Algorithm::Sha256,
        encoding: Encoding::Hex,
        prefix: prefix.to_owned(),
        timestamp: None,
        signed: SignedText::body(),
    }
}

fn github(key: &str) -> Credential {
    Credential::Hmac(hmac("x-hub-signature-256", key, "sha256="))
}

fn slack(key: &str) -> Credential {
    let header = HeaderName::from_static("x-slack-request-timestamp");
    Credential::Hmac(Hmac {
        timestamp: Some(Timestamp { header, tolerance: Duration::from_secs(300) }),
        signed: SignedText::parse("v0:{timestamp}:{body}").unwrap(),
        ..hmac("x-slack-signature", key, "v0=")
    })
}

fn hooks(key: &str) -> Credential {
    Credential::StandardWebhooks(secret(key))
}

fn basic(password: &str) -> Credential {
    Credential::Basic { user: "gander".to_owned(), password: secret(password) }
}

/// The headers of a request that is signed so many seconds from now.
fn signed(credential: &Credential, body: &[u8], id: &str, later: i64) -> HeaderMap {
    let mut request = Request::new(());
    let at = WallTime(WallTime::now().0 + later * 1_000);
    credential.present_with_body(&mut request, body, id, at).unwrap();
    request.into_parts().0.headers
}

fn alert(id: &str, state: &str) -> String {
    json!({"id": id, "state": state}).to_string()
}

/// An edge whose first source has these credentials.
async fn edge(credentials: Vec<Credential>) -> Edge {
    let mut setup = Setup::new();
    setup.source().auth = Policy::AnyOf(credentials);
    setup.start().await
}

async fn post(edge: &Edge, headers: HeaderMap, body: impl Into<Bytes>, http2: bool) -> Answer {
    let mut request = Request::builder().method(Method::POST).uri(edge.url("/hooks/servicepilot"));
    request.headers_mut().unwrap().extend(headers);
    edge.send_by(request, body, http2).await
}

/// The headers with this one changed, or more of it.
fn with(mut headers: HeaderMap, name: &'static str, change: impl Fn(&str) -> String, more: bool) -> HeaderMap {
    let changed = HeaderValue::from_str(&change(headers[name].to_str().unwrap())).unwrap();
    match more {
        true => drop(headers.append(name, changed)),
        false => drop(headers.insert(name, changed)),
    }
    headers
}

#[tokio::test]
async fn each_way_to_sign_lets_in_what_was_signed_and_nothing_else() {
    for (kind, make, shown, at) in [
        ("github", github as fn(&str) -> Credential, "x-hub-signature-256", None),
        ("slack", slack, "x-slack-signature", Some("x-slack-request-timestamp")),
        ("standard webhooks", hooks, "webhook-signature", Some("webhook-timestamp")),
        ("basic", basic, "authorization", None),
    ] {
        // Two live secrets, of which senders have either.
        let edge = edge(vec![make("b2xk"), make("bmV3")]).await;
        for http2 in [false, true] {
            let post_row = async |claim: &str, status: u16, headers: HeaderMap, body: &str| {
                let answer = post(&edge, headers, body.to_owned(), http2).await;
                assert_eq!(answer.status, status, "{kind}, {claim}: {answer:?}");
                assert!(status == 202 || answer.body["type"] == "urn:problem-type:gander:not_authenticated");
            };
            let version = if http2 { "two" } else { "one" };
            let body = alert(&format!("{kind} {version}"), "CRITICAL");
            let sign = |key: &str, later| signed(&make(key), body.as_bytes(), "msg", later);
            for (claim, headers) in [
                ("nothing", HeaderMap::new()),
                ("another source's key", sign("b3RoZXI=", 0)),
                ("a signature twice", with(sign("bmV3", 0), shown, str::to_owned, true)),
                ("something before it", with(sign("bmV3", 0), shown, |value| format!("x{value}"), false)),
                ("something behind it", with(sign("bmV3", 0), shown, |value| format!("{value}0"), false)),
                ("cut off", with(sign("bmV3", 0), shown, |value| value[..value.len() - 2].to_owned(), false)),
            ] {
                post_row(claim, 401, headers, &body).await;
            }
            if kind != "basic" {
                post_row("another body", 401, sign("bmV3", 0), &body.replace("CRITICAL", "OK")).await;
                post_row("a blank more", 401, sign("bmV3", 0), &format!("{body} ")).await;
                post_row("no body", 401, sign("bmV3", 0), "").await;
            }
            if let Some(at) = at {
                let timestamp = |text: &'static str| with(sign("bmV3", 0), at, |_| text.to_owned(), false);
                for (claim, headers) in [
                    ("long ago", sign("bmV3", -310)),
                    ("far ahead", sign("bmV3", 310)),
                    ("the largest timestamp", timestamp("18446744073709551615")),
                    ("one that overflows", timestamp("99999999999999999999999")),
                    ("a negative one", timestamp("-9223372036854775808")),
                    ("no timestamp", {
                        let mut headers = sign("bmV3", 0);
                        headers.remove(at);
                        headers
                    }),
                ] {
                    post_row(claim, 401, headers, &body).await;
                }
            }
            post_row("by the old secret", 202, sign("b2xk", 0), &body).await;
            let body = alert(&format!("{kind} {version} more"), "CRITICAL");
            post_row("by the new secret", 202, signed(&make("bmV3"), body.as_bytes(), "m2", -60), &body).await;
        }
        assert_eq!(edge.kept_count(), 4, "{kind}: nothing of a stranger is kept");
    }
}

#[tokio::test]
async fn a_signature_is_of_the_body_as_it_came() {
    let mut setup = Setup::new();
    setup.source().auth = Policy::AnyOf(vec![github("key")]);
    setup.source().accept = Accept { gzip: true, ..Accept::default() };
    let edge = setup.start().await;
    let (plain, packed) = (alert("k1", "CRITICAL").into_bytes(), gzip(alert("k1", "CRITICAL").as_bytes()));
    let sent = async |of: &[u8]| {
        let mut headers = signed(&github("key"), of, "", 0);
        headers.insert("content-encoding", HeaderValue::from_static("gzip"));
        post(&edge, headers, packed.clone(), true).await.status
    };
    assert_eq!((sent(&plain).await, sent(&packed).await), (401, 202));
    // Signed and no JSON: its sender is known, so that it is kept.
    let answer = post(&edge, signed(&github("key"), b"{", "", 0), "{", true).await;
    assert!(answer.status == 400 && answer.body["id"].is_string(), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_nobody_could_have_signed_is_not_waited_for() {
    let mut setup = Setup::plain();
    setup.source().auth = Policy::AnyOf(vec![slack("key")]);
    let edge = setup.start().await;
    let post = async |headers: &str| {
        let mut stream = edge.connect().await;
        let head = "POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
        stream.write_all(format!("{head}{headers}\r\n").as_bytes()).await.unwrap();
        statuses(&read_answer(&mut stream).await)
    };
    let now = WallTime::now().0 / 1_000;
    let well_formed = format!("X-Slack-Signature: v0={}\r\nX-Slack-Request-Timestamp: {now}\r\n", "0".repeat(64));
    let sized = |length: usize, headers: &str| format!("Content-Length: {length}\r\n{headers}");
    assert_eq!(post(&sized(9, "")).await, [401], "no signature");
    assert_eq!(post(&sized(9, &well_formed.replace("v0=0", "v0=x"))).await, [401], "none that can be read");
    assert_eq!(post(&sized(9, &well_formed.replace(&now.to_string(), "1"))).await, [401], "an old one");
    assert_eq!(post(&sized(9, &well_formed)).await, [100], "one that could be right");
    assert_eq!(post(&sized(64 * 1024 + 1, &well_formed)).await, [413], "a body that is too large, unread");
    let rest = "0".repeat(64 * 1024 + 1);
    let chunked = format!(
        "POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n{well_formed}\r\n\
         {:x}\r\n{rest}\r\n0\r\n\r\n",
        rest.len()
    );
    let answer = edge.raw(chunked).await;
    assert_eq!(statuses(&answer), [413], "one that turns out to be");
    assert!(!answer.contains("kept"), "{answer}");
    assert_eq!(edge.kept_count(), 0);
}

#[tokio::test]
async fn strangers_spend_nothing_of_a_sources_rate_limit() {
    let mut setup = Setup::new();
    setup.source().auth = Policy::AnyOf(vec![github("key")]);
    let limit = &mut setup.source().rate_limit;
    (limit.per_second, limit.burst) = (1.try_into().unwrap(), 1.try_into().unwrap());
    let edge = setup.start().await;
    let body = alert("k1", "CRITICAL");
    for _ in 0..5 {
        let answer = post(&edge, signed(&github("other"), body.as_bytes(), "", 0), body.clone(), true).await;
        assert_eq!(answer.status, 401);
    }
    let answer = post(&edge, signed(&github("key"), body.as_bytes(), "", 0), body, true).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn bodies_of_strangers_take_no_memory_of_senders_who_are_known() {
    let mut setup = Setup::plain();
    setup.listen.bodies.timeout = PATIENCE;
    setup.source().auth = Policy::AnyOf(vec![github("key"), Credential::Bearer(secret(TOKEN))]);
    let edge = setup.start().await;
    let signature = format!("X-Hub-Signature-256: sha256={}\r\n", "0".repeat(64));
    let unsigned = |headers: &str, body: &str| request(headers, body).replace("Authorization", "X-Nothing");
    let mut held = Vec::new();
    // All but the last byte of so many bodies fills what strangers may take, and an eighth of what there is.
    for count in 1..=8 * 1024 * 1024 / (80 * 1024) {
        let mut stream = edge.connect().await;
        let head = format!("Content-Length: {}\r\n{signature}", 64 * 1024);
        stream.write_all(unsigned(&head, &"x".repeat(64 * 1024 - 1)).as_bytes()).await.unwrap();
        held.push(stream);
        let is_held = || edge.metric("gander_request_bodies_bytes").parse::<u64>().unwrap() >= count * (64 * 1024 - 1);
        let held = async {
            while !is_held() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, held).await.expect("the body is held");
    }

    let body = alert("k1", "CRITICAL") + &" ".repeat(60 * 1024);
    let mut stream = edge.connect().await;
    let head = format!("Content-Length: {}\r\n{signature}", body.len());
    stream.write_all(unsigned(&head, &body).as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(statuses(&answer) == [503] && answer.contains("unverified_bodies"), "{answer}");
    let mut stream = edge.connect().await;
    stream.write_all(sized_request("", &body).as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!(statuses(&answer), [202], "{answer}");
    drop(held);
}

#[tokio::test]
async fn a_message_that_was_acknowledged_pages_nobody_again() {
    let edge = edge(vec![hooks("a2V5")]).await;
    let (trigger, resolve) = (alert("k1", "CRITICAL"), alert("k1", "OK"));
    let send = async |body: &str, id: &str, later| {
        let answer = post(&edge, signed(&hooks("a2V5"), body.as_bytes(), id, later), body.to_owned(), true).await;
        (answer.status, answer.body)
    };
    let copied = async |body: &str, id: &str, later| {
        let (status, copy) = send(body, id, later).await;
        (status, copy["status"].clone(), copy["of"].clone())
    };
    let (status, first) = send(&trigger, "msg_1", 0).await;
    assert_eq!(status, 202);
    assert_eq!(send(&resolve, "msg_2", 0).await.0, 202);
    let copy = (200, json!("duplicate"), first["id"].clone());
    assert_eq!(copied(&trigger, "msg_1", 0).await, copy, "as it was");
    edge.settle_next(State::Delivered, Some(Outcome::Created)).await;
    edge.settle_next(State::Delivered, Some(Outcome::Resolved)).await;
    assert_eq!(copied(&trigger, "msg_1", 60).await, copy, "as its sender tries again");
    assert_eq!(edge.kept_count(), 2);
    assert_eq!(edge.metric("gander_messages_repeated_total{source=\"servicepilot\"}"), "2");
    let (status, other) = send(&alert("k2", "CRITICAL"), "msg_1", 0).await;
    assert!(status == 202 && other["id"].is_string(), "another body under an id that was there: {other}");
    let (status, again) = send(&trigger, "msg_3", 0).await;
    assert!(status == 202 && again["id"].is_string(), "the same body as a new message: {again}");
}

#[tokio::test]
async fn a_message_whose_event_came_to_nothing_is_taken_when_it_comes_again() {
    let edge = edge(vec![hooks("a2V5")]).await;
    let body = alert("k1", "CRITICAL");
    let headers = signed(&hooks("a2V5"), body.as_bytes(), "msg_1", 0);
    let send = async || post(&edge, headers.clone(), body.clone(), true).await;
    let mut before = send().await;
    for (state, outcome) in [(State::Dead, None), (State::Delivered, Some(Outcome::Unmatched)), (State::Ended, None)] {
        edge.settle_next(state, outcome).await;
        let again = send().await;
        assert!(again.status == 202 && again.body["id"] != before.body["id"], "{state:?}: {again:?}");
        before = again;
    }
    edge.settle_next(State::Delivered, Some(Outcome::Created)).await;
    let copy = send().await;
    assert_eq!((copy.status, &copy.body["of"]), (200, &before.body["id"]), "{copy:?}");
}

#[tokio::test]
async fn a_message_that_was_not_taken_is_taken_when_it_comes_again() {
    let mut setup = Setup::new();
    setup.source().auth = Policy::AnyOf(vec![hooks("a2V5")]);
    setup.journal_max_events = 1;
    let edge = setup.start().await;
    let post = async |headers: &HeaderMap, body: &str| post(&edge, headers.clone(), body.to_owned(), true).await;
    let (first, second) = (alert("k1", "CRITICAL"), alert("k2", "CRITICAL"));
    let [of_first, of_second] =
        [(&first, "msg_1"), (&second, "msg_2")].map(|(body, id)| signed(&hooks("a2V5"), body.as_bytes(), id, 0));
    assert_eq!(post(&of_first, &first).await.status, 202);
    assert_eq!(post(&of_second, &second).await.status, 503, "the queue is full");
    edge.settle_next(State::Delivered, Some(Outcome::Created)).await;
    let answer = post(&of_second, &second).await;
    assert!(answer.status == 202 && answer.body["id"].is_string(), "{answer:?}");
    assert_eq!(post(&of_second, &second).await.body["of"], answer.body["id"]);
}

/// A configuration as people write it, a sender that signs, and what all of it leaves behind.
#[tokio::test(flavor = "multi_thread")]
async fn send_signs_as_the_source_asks_and_no_key_goes_further() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        for (entry, key) in [
            ("hmac: { preset: github, secret: [{ env: OTHER }, { env: KEY }] }", "canary-github-5f2e"),
            ("hmac: { preset: slack, secret: { env: KEY } }", "canary-slack-5f2e"),
            ("hmac: { preset: grafana, timestamp_header: X-At, secret: { env: KEY } }", "canary-grafana-5f2e"),
            ("standard_webhooks: { secrets: [{ env: KEY }] }", "whsec_Y2FuYXJ5"),
            ("basic: { user: gander, password: { env: KEY } }", "canary-basic-5f2e"),
        ] {
            let environment =
                [("KEY", key), ("OTHER", "other")].map(|(name, value)| (name.into(), value.into())).into();
            let setup = relay::Setup { source: vec![format!("  - {entry}")], environment, ..relay::Setup::default() };
            let relay = Relay::start(&upstream, &setup).await;
            let mut send = gander_beside(&relay, &["send", "--source", "servicepilot"]);
            send.env_remove("SERVICEPILOT_TOKEN").env_remove("OTHER").env("KEY", key);
            let ended = fed(send, payload("e1", "CRITICAL").to_string()).await;
            assert_eq!(ended.code, Some(0), "{entry}: {ended:?}");
            assert!(ended.out.starts_with("trigger of e1: delivered, created"), "{entry}: {ended:?}");
            let mut stranger = gander_beside(&relay, &["send", "--source", "servicepilot"]);
            stranger.env_remove("SERVICEPILOT_TOKEN").env_remove("OTHER").env("KEY", "whsec_b3RoZXI=");
            let ended = fed(stranger, payload("e2", "CRITICAL").to_string()).await;
            assert_eq!(ended.code, Some(1), "{entry}: {ended:?}");

            let event: Value = relay.admin("/api/v1/events").await.json;
            assert!(!event.to_string().contains(key) && !ended.err.contains(key), "{entry}");
            for call in upstream.calls() {
                assert!(!format!("{:?}{}", call.headers, call.body).contains(key), "{entry}");
            }
            let directory = relay.stop().await;
            for file in std::fs::read_dir(directory.path().join("data")).unwrap() {
                let path = file.unwrap().path();
                if std::fs::metadata(&path).unwrap().len() > 16 * 1024 * 1024 {
                    // Room that is kept for a full disk.
                    continue;
                }
                let bytes = std::fs::read(path).unwrap();
                assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "{entry}: in the journal");
            }
        }
    })
    .await;
}
