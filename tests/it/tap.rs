//! The live stream of what becomes of events: what it tells, to whom, and that nothing waits for who follows.

use std::io::{BufRead, BufReader};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gander::exports::server::{self, AnswerBody, Answering, BadHead, Limits, Observer, Peer, RequestBody, Service};
use gander::exports::shutdown::Shutdown;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Sleep, sleep, timeout};

use crate::process::{self, Process};
use crate::relay::{Relay, Setup, TOKEN, payload, within, write_configuration};
use crate::support::{PATIENCE, read_to_end, statuses, write};
use crate::upstream::{Reply, Upstream};

/// A stream that is followed over a bare socket.
struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    async fn open(admin_port: u16, query: &str) -> Stream {
        Stream::over(TcpStream::connect(("127.0.0.1", admin_port)).await.unwrap(), query).await
    }

    /// Returns once the relay says that nothing is missed from now on.
    async fn over(mut socket: TcpStream, query: &str) -> Stream {
        write(&mut socket, format!("GET /api/v1/stream{query} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let mut stream = Stream { socket, text: String::new() };
        while !stream.text.contains(": following\n") {
            assert!(stream.read().await, "{}", stream.text);
        }
        assert!(stream.text.contains("\r\ncontent-type: text/event-stream\r\n"), "{}", stream.text);
        stream
    }

    /// Reads more; false at the end.
    async fn read(&mut self) -> bool {
        let mut piece = vec![0; 65_536];
        let read = timeout(PATIENCE, self.socket.read(&mut piece)).await.expect("more of the stream").unwrap();
        self.text.push_str(&String::from_utf8_lossy(&piece[..read]));
        read > 0
    }

    /// The data of the next event.
    async fn next(&mut self) -> Value {
        loop {
            while let Some((line, rest)) = self.text.split_once('\n') {
                let found = line.strip_prefix("data: ").map(|data| serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                if let Some(found) = found {
                    return found;
                }
            }
            assert!(self.read().await, "the stream ended");
        }
    }

    /// Some members of the next events, as `queued e1`.
    async fn words(&mut self, count: usize, members: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for _ in 0..count {
            let line = self.next().await;
            let words = members.iter().filter_map(|name| line[*name].as_str());
            found.push(words.collect::<Vec<_>>().join(" "));
        }
        found
    }
}

/// CRITICAL is rejected for the key `bad`.
async fn upstream() -> Upstream {
    Upstream::start(|call, _| if call.key() == "bad" { Reply::status(422) } else { Reply::Done }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_each_event_is_told_as_it_happens() {
    within(async {
        let upstream = upstream().await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let mut stream = Stream::open(relay.ports().1, "").await;
        relay.post_with(&payload("e1", "CRITICAL"), &[("prefer", "wait=10")]).await;
        relay.post(&payload("e1", "CRITICAL")).await;
        relay.post_with(&payload("bad", "CRITICAL"), &[("prefer", "wait=10")]).await;
        relay.post(&json!({ "state": "CRITICAL" })).await;
        let told = stream.words(6, &["state", "action", "incident_key", "outcome", "reason"]).await;
        assert_eq!(
            told,
            [
                "queued trigger e1",
                "delivered trigger e1 created",
                "duplicate trigger e1",
                "queued trigger bad",
                "dead trigger bad rejected: payload",
                "refused unprocessable"
            ]
        );
        relay.client.send(http::Method::POST, &relay.hook("servicepilot"), &[], "{}".into()).await;
        let dead = &relay.admin("/api/v1/events?state=dead").await.json["events"][0];
        let id = dead["id"].as_str().unwrap();
        let discard = format!("http://127.0.0.1:{}/api/v1/events/{id}/discard", relay.ports().1);
        let json = [("content-type", "application/json")];
        relay.client.send(http::Method::POST, &discard, &json, "{}".into()).await;
        assert_eq!(stream.next().await["reason"], "not_authenticated");
        let line = stream.next().await;
        let expected = json!({
            "at": line["at"], "state": "ended", "id": id, "source": "servicepilot", "incident_key": "bad", "reason": "discarded",
        });
        assert_eq!(line, expected, "the key is known, though who discarded it named none");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_holds_what_a_list_shows_and_the_time_that_it_took() {
    within(async {
        let upstream = upstream().await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let mut stream = Stream::open(relay.ports().1, "?state=delivered").await;
        let posted = relay.post(&payload("e1", "CRITICAL")).await;
        let line = stream.next().await;
        let listed = &relay.admin("/api/v1/events").await.json["events"][0];
        for name in ["id", "source", "action", "incident_key", "state", "outcome", "attempts"] {
            assert!(!line[name].is_null() && line[name] == listed[name], "{name}: {line} {listed}");
        }
        assert_eq!(line["id"], posted.json["id"]);
        assert!(line["age_seconds"].as_f64().unwrap() < PATIENCE.as_secs_f64(), "{line}");
        assert!(!line.to_string().contains("title"), "no payload: {line}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_take_the_words_of_a_list_and_what_is_misspelt_is_refused() {
    within(async {
        let upstream = upstream().await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let port = relay.ports().1;
        let mut dead = Stream::open(port, "?state=dead,refused&source=servicepilot").await;
        let mut disk = Stream::open(port, "?key_contains=DISK&state=queued").await;
        let mut created = Stream::open(port, "?outcome=created").await;
        for key in ["bad", "host/disk", "host/cpu"] {
            relay.post_with(&payload(key, "CRITICAL"), &[("prefer", "wait=10")]).await;
        }
        assert_eq!(dead.next().await["incident_key"], "bad");
        assert_eq!(disk.next().await["incident_key"], "host/disk");
        assert_eq!(created.words(2, &["state", "incident_key"]).await, ["delivered host/disk", "delivered host/cpu"]);
        for (query, said) in [
            ("stat=dead", "did you mean `state`?"),
            ("key-contains=x", "did you mean `key_contains`?"),
            ("state=ded", "did you mean `dead`?"),
            ("state=dead,gone", "it is `gone`"),
            ("outcome=fine", "created, resolved"),
            ("source=servicepilt", "did you mean `servicepilot`?"),
        ] {
            let answer = relay.admin(&format!("/api/v1/stream?{query}")).await;
            assert_eq!(answer.status, 400, "{query}");
            assert!(answer.json["detail"].as_str().unwrap().contains(said), "{query}: {answer:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_may_follow_at_once_and_who_goes_makes_room() {
    within(async {
        let upstream = upstream().await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let port = relay.ports().1;
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(Stream::open(port, "").await);
        }
        let answer = relay.admin("/api/v1/stream").await;
        assert_eq!(answer.status, 503);
        assert!(answer.json["detail"].as_str().unwrap().contains("end one of them"), "{answer:?}");
        streams.pop();
        loop {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            write(&mut socket, "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            let mut head = vec![0; 64];
            let read = socket.read(&mut head).await.unwrap();
            if statuses(&String::from_utf8_lossy(&head[..read])) == [200] {
                break;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_streams_and_waits_for_none() {
    within(async {
        let upstream = upstream().await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let mut stream = Stream::open(relay.ports().1, "").await;
        let began = Instant::now();
        let rest = tokio::spawn(async move { read_to_end(&mut stream.socket).await });
        relay.stop().await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert!(rest.await.unwrap().ends_with("0\r\n\r\n"), "the answer is whole");
    })
    .await;
}

/// Ignores all elements of a batch by a rule with a long name.
fn ignoring() -> String {
    let name = "x".repeat(60);
    format!("version: 1\nsplit: $[*]\nrules: [{{ name: {name}, then: ignore }}]\nincident_key: $.id\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_follower_that_does_not_read_and_it_is_told_what_it_missed() {
    within(async {
        let upstream = upstream().await;
        let source = vec!["rate_limit: { per_second: 1000000, burst: 1000000 }".to_owned()];
        let setup = Setup { rules: Some(ignoring()), source, ..process::setup() };
        let relay = Relay::start(&upstream, &setup).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let address = format!("127.0.0.1:{}", relay.ports().1).parse().unwrap();
        let mut stream = Stream::over(socket.connect(address).await.unwrap(), "").await;
        let (elements, requests) = (2_000, 12);
        let batch = json!(vec![json!({}); elements]);
        for _ in 0..requests {
            assert_eq!(relay.post(&batch).await.status, 200);
        }
        let (mut lines, mut missed) = (0, 0);
        while lines + missed < elements as u64 * requests {
            match stream.next().await["missed"].as_u64() {
                Some(more) => missed += more,
                None => lines += 1,
            }
        }
        assert!(missed > 0 && lines >= 1_024, "{lines} came, {missed} were missed");
        assert_eq!(lines + missed, elements as u64 * requests, "each is a line or counted");
    })
    .await;
}

/// A body of a few pieces with pauses between them.
struct Pauses(u32, Pin<Box<Sleep>>);

impl Body for Pauses {
    type Data = Bytes;
    type Error = server::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, server::BoxError>>> {
        std::task::ready!(self.1.as_mut().poll(cx));
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        *self = Pauses(self.0 - 1, Box::pin(sleep(PAUSE)));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece\n")))))
    }
}

struct Streaming;

impl Service for Streaming {
    fn answer(self: Arc<Self>, _: Request<RequestBody>, _: Peer) -> Answering {
        let body = Pauses(4, Box::pin(sleep(PAUSE))).boxed_unsync();
        Box::pin(async move { Response::new(AnswerBody::Streamed(body)) })
    }

    fn refuse(&self, _: BadHead, _: Peer) -> Response<Bytes> {
        Response::default()
    }
}

/// So long that the whole answer takes longer than a connection may idle and then take to end.
const PAUSE: Duration = Duration::from_millis(1_600);

#[tokio::test]
async fn a_connection_whose_answer_goes_on_is_not_idle() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        connections_max: 10,
        connections_of_address_max: None,
        header_timeout: PAUSE,
        idle_timeout: PAUSE / 10,
        write_timeout: PAUSE,
        drain_timeout: PAUSE,
        connection_age_max: 100 * PAUSE,
    };
    let (addresses, service) = (server::Addresses::default(), Arc::new(Streaming));
    let observer = Observer::of("test");
    tokio::spawn(server::serve(listener, None, addresses, limits, service, observer, Shutdown::new()));
    let mut socket = TcpStream::connect(address).await.unwrap();
    write(&mut socket, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n").await;
    let text = read_to_end(&mut socket).await;
    assert_eq!(text.matches("piece").count(), 4, "{text}");
    assert!(text.ends_with("0\r\n\r\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gander_tap_prints_what_happens_until_the_relay_stops() {
    within(async {
        let upstream = upstream().await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let relay = Relay::start_in(Arc::clone(&directory), &upstream, &process::setup()).await;
        let setup = Setup { admin: Some(format!("address: '127.0.0.1:{}'", relay.ports().1)), ..process::setup() };
        let other = tempfile::tempdir().unwrap();
        let configuration = write_configuration(other.path(), &upstream, &setup);
        let follow = |arguments: &[&str]| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_gander"))
                .arg("tap")
                .args(arguments)
                .arg("--config")
                .arg(&configuration)
                .env("SERVICEPILOT_TOKEN", TOKEN)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut said = BufReader::new(child.stderr.take().unwrap());
            let mut first = String::new();
            said.read_line(&mut first).unwrap();
            assert!(first.starts_with("following http://127.0.0.1:"), "{first}");
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            (child, lines, said)
        };
        let (mut text, mut lines, mut said) = follow(&["--state", "queued,delivered", "--key-contains", "e1"]);
        let (mut json, mut objects, _) = follow(&["--json", "--outcome", "created"]);
        for key in ["other", "e1"] {
            relay.post_with(&payload(key, "CRITICAL"), &[("prefer", "wait=10")]).await;
        }
        let line = tokio::task::spawn_blocking(move || {
            let pair = [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()];
            let object = objects.next().unwrap().unwrap();
            // Still open: whoever prints into a closed pipe ends.
            (pair, object, (lines, objects))
        });
        let ([first, second], object, _open) = line.await.unwrap();
        assert!(first.contains("  queued     servicepilot  trigger  e1  event "), "{first}");
        assert!(second.contains("  delivered  servicepilot  trigger  e1  event "), "{second}");
        assert!(second.contains(", created, 1 attempt, ") && second.ends_with(" s"), "{second}");
        let object: Value = serde_json::from_str(&object).unwrap();
        assert_eq!((&object["state"], &object["incident_key"]), (&json!("delivered"), &json!("other")));

        relay.stop().await;
        let ended = tokio::task::spawn_blocking(move || {
            let mut rest = String::new();
            said.read_line(&mut rest).unwrap();
            (text.wait().unwrap().code(), json.wait().unwrap().code(), rest)
        });
        let (text, json, rest) = ended.await.unwrap();
        assert_eq!((text, json), (Some(1), Some(1)));
        assert!(rest.contains("the relay ended the stream"), "{rest}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_deliverys_end_is_a_line_of_the_log() {
    within(async {
        let upstream = Upstream::start(|call, number| match (call.key(), number) {
            ("e1", 0) => {
                Reply::Answer { status: 503, headers: vec![("retry-after", "1".to_owned())], body: String::new() }
            }
            ("bad", _) => Reply::status(422),
            _ => Reply::Done,
        })
        .await;
        let directory = tempfile::tempdir().unwrap();
        let setup = Setup { upstream: vec!["retry: { initial: 10ms, factor: 1, max: 5s }".into()], ..Setup::default() };
        let process = Process::start(write_configuration(directory.path(), &upstream, &setup)).await;
        let posted = process.post(&payload("e1", "CRITICAL")).await;
        let line = process.logged("delivered");
        assert_eq!(line["event"], posted.json["id"]);
        let fields =
            ["source", "action", "incident_key", "outcome", "attempts", "suppressed"].map(|name| line[name].clone());
        let expected = [json!("servicepilot"), json!("trigger"), json!("e1"), json!("created"), json!(2), json!(0)];
        assert_eq!(fields, expected, "{line}");
        assert!(line["age_seconds"].as_f64().is_some_and(|age| age >= 1.0), "{line}");
        process.post(&payload("bad", "CRITICAL")).await;
        let line = process.logged("the event is a dead letter; it is kept until a person replays or discards it");
        assert_eq!((&line["incident_key"], &line["attempts"]), (&json!("bad"), &json!(1)), "{line}");
    })
    .await;
}
