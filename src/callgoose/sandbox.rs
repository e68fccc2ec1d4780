//! A local stand-in for Callgoose: its documented calls, filters and answers. It is not Callgoose.
//!
//! It shows a person what an alert would do there, and gives tests an upstream that judges bodies as Callgoose
//! documents it. Where the documentation is silent, [`Callgoose`] and [`crate::callgoose::filters`] decide, and say so.
//! It keeps nothing on disk, alerts nobody and knows one token, valid for every service of its filters file.
//!
//! The caller binds the socket, owns the stop signal and chooses TLS or plain HTTP.

mod callgoose;
mod effect;
mod http;
mod report;

pub(crate) use callgoose::{Call, Callgoose, Incident};
pub(crate) use report::Report;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::{Request, Response};
use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::callgoose::filters::Filters;
use crate::clock::Clock;
use crate::secret::Secret;
use crate::server::{self, AnswerBody, Answering, BadHead, Limits, Observer, Peer, RequestBody, Service};
use crate::shutdown::Shutdown;
use crate::tls;

/// The settings of the stand-in.
#[derive(Debug)]
pub(crate) struct Config {
    pub filters: Filters,
    /// The API token; a call without it is answered 401.
    pub token: Secret,
    /// The time within which a repeated call is a duplicate. Callgoose does not document its own window.
    pub duplicate_window: Duration,
    /// Receives each call before it is answered.
    pub reports: Option<mpsc::Sender<Report>>,
}

impl Config {
    /// With [`DUPLICATE_WINDOW`], and nobody who watches.
    pub(crate) fn new(filters: Filters, token: Secret) -> Config {
        Config { filters, token, duplicate_window: DUPLICATE_WINDOW, reports: None }
    }
}

/// The stand-in. Its clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox(Arc<Shared>);

/// The state shared by all requests.
#[derive(Debug)]
struct Shared {
    token: ArcSwap<Secret>,
    available: AtomicBool,
    clock: Clock,
    reports: Option<mpsc::Sender<Report>>,
    /// Locked for one pure step at a time, never across an await.
    callgoose: Mutex<Callgoose>,
}

impl Sandbox {
    pub(crate) fn new(config: Config) -> Sandbox {
        Sandbox(Arc::new(Shared {
            token: ArcSwap::from_pointee(config.token),
            available: AtomicBool::new(true),
            clock: Clock::start(),
            reports: config.reports,
            callgoose: Mutex::new(Callgoose::new(config.filters, config.duplicate_window)),
        }))
    }

    /// Serves until `shutdown` begins, then finishes the requests in flight.
    pub(crate) async fn serve(self, listener: TcpListener, tls: Option<Arc<tls::Served>>, shutdown: Shutdown) {
        server::serve(listener, tls, server::Addresses::default(), LIMITS, self.0, Observer::of("sandbox"), shutdown)
            .await;
    }

    /// From now on calls are answered, or else each with 503.
    pub(crate) fn set_available(&self, available: bool) {
        self.0.available.store(available, Ordering::Relaxed);
    }

    /// From now on only this token is valid.
    pub(crate) fn set_token(&self, token: Secret) {
        self.0.token.store(Arc::new(token));
    }

    /// All remembered incidents, newest last.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        self.0.callgoose().incidents().cloned().collect()
    }
}

impl Shared {
    fn callgoose(&self) -> MutexGuard<'_, Callgoose> {
        self.callgoose.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn report(&self, report: Report) {
        if let Some(reports) = &self.reports {
            // Who watched may have gone.
            let _ = reports.send(report).await;
        }
    }
}

impl Service for Shared {
    fn answer(self: Arc<Self>, request: Request<RequestBody>, _: Peer) -> Answering {
        Box::pin(async move { http::answer(&self, request).await.map(AnswerBody::from) })
    }

    fn refuse(&self, head: BadHead, _: Peer) -> Response<Bytes> {
        http::fault(head.status(), head.detail())
    }
}

/// Long enough for a button pressed twice, short enough for the next try.
pub(crate) const DUPLICATE_WINDOW: Duration = Duration::from_secs(5);

const LIMITS: Limits = Limits {
    // The relay and a few viewers, within the usual limit on open files.
    connections_max: 500,
    connections_of_address_max: None,
    header_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(60),
    write_timeout: Duration::from_secs(10),
    // A stand-in may drop slow requests.
    drain_timeout: Duration::from_secs(5),
    connection_age_max: Duration::from_secs(3_600),
};

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rstest::rstest;
    use rustls::pki_types::ServerName;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::clock::WallTime;
    use crate::yaml::{Findings, Source};

    const TOKEN: &str = "t0k3n";
    const TRIGGER: &str = r#"{"id":"e1","state":"CRITICAL","title":"CPU"}"#;
    const RESOLVE: &str = r#"{"id":"e1","state":"OK"}"#;

    fn config() -> Config {
        let text = "
services:
  - name: payments
    trigger:
      - { urgency: high, keys: [{ key: state, contains: [CRITICAL] }], title_from: title, map_incident_with: id }
    resolve: { keys: [{ key: state, contains: [OK] }], incident_mapped_with: id }
";
        let source = Arc::new(Source::new("filters.yaml".into(), text.into()));
        let filters = Filters::read(&source, &mut Findings::new()).expect("the filters above are valid");
        Config::new(filters, Secret::new(TOKEN.into()))
    }

    struct Sandbox {
        address: std::net::SocketAddr,
        shutdown: Shutdown,
        server: JoinHandle<()>,
    }

    async fn sandbox(tls: Option<Arc<tls::Served>>) -> Sandbox {
        started(config(), tls).await
    }

    async fn started(config: Config, tls: Option<Arc<tls::Served>>) -> Sandbox {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let server = tokio::spawn(super::Sandbox::new(config).serve(listener, tls, shutdown.clone()));
        Sandbox { address, shutdown, server }
    }

    impl Sandbox {
        /// Sends one request as written (its `Host` and framing are added) and returns status and body.
        async fn request(&self, line: &str, headers: &str, body: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let length = body.len();
            let text = format!(
                "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            );
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head[9..12].parse().unwrap(), body.to_owned())
        }

        async fn call(&self, body: &str) -> (u16, Value) {
            let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
            let (status, body) = self.request("POST /sqibs-api/v1/process?from=ServicePilot", &headers, body).await;
            (status, serde_json::from_str(&body).unwrap())
        }

        async fn incidents(&self) -> Vec<Value> {
            let (status, body) = self.request("GET /incidents", "", "").await;
            assert_eq!(status, 200);
            let Value::Array(incidents) = serde_json::from_str::<Value>(&body).unwrap()["incidents"].take() else {
                panic!("no list: {body}");
            };
            incidents
        }
    }

    #[tokio::test]
    async fn a_trigger_and_its_resolve_are_answered_and_listed_as_documented() {
        let sandbox = sandbox(None).await;
        let (status, answer) = sandbox.call(TRIGGER).await;
        assert_eq!(status, 201);
        assert_eq!(
            answer,
            json!({"id": "call-1", "resolved": {"duplicate": false, "resolved": false}, "triggered": {"duplicate": false, "created": true}})
        );
        let open = sandbox.incidents().await;
        assert_eq!(open.len(), 1);
        for (name, expected) in [
            ("id", json!(1)),
            ("service", json!("payments")),
            ("title", json!("ServicePilot - CPU")),
            ("description", json!(TRIGGER)),
            ("urgency", json!("high")),
            ("key", json!("e1")),
            ("state", json!("open")),
            ("resolved_at", Value::Null),
        ] {
            assert_eq!(open[0][name], expected, "{name}");
        }
        assert!(WallTime::parse_rfc3339(open[0]["opened_at"].as_str().unwrap()).is_some());

        assert_eq!(sandbox.call(TRIGGER).await.1["triggered"], json!({"duplicate": true, "created": false}));
        let (status, answer) = sandbox.call(RESOLVE).await;
        assert_eq!((status, &answer["resolved"]), (200, &json!({"duplicate": false, "resolved": true})));
        assert_eq!(sandbox.incidents().await[0]["state"], "resolved");
        assert_eq!(sandbox.call(r#"{"state":"UNKNOWN"}"#).await.0, 202);
    }

    #[rstest]
    #[case::bearer("POST /sqibs-api/v1/process", "Authorization: Bearer t0k3n\r\n", 201)]
    #[case::scheme_in_any_case("POST /sqibs-api/v1/process", "Authorization: bearer t0k3n\r\n", 201)]
    #[case::query("POST /sqibs-api/v1/process?from=a%20b&token=t0k3n", "", 201)]
    #[case::header("POST /sqibs-api/v1/process", "X-Callgoose-Auth: t0k3n\r\n", 201)]
    #[case::the_other_endpoint("POST /api/v1/process?token=t0k3n", "", 201)]
    #[case::none("POST /sqibs-api/v1/process", "", 401)]
    #[case::wrong("POST /sqibs-api/v1/process", "Authorization: Bearer t0k3\r\n", 401)]
    #[case::empty("POST /sqibs-api/v1/process?token=", "", 401)]
    #[case::other_scheme("POST /sqibs-api/v1/process", "Authorization: Basic t0k3n\r\n", 401)]
    #[case::not_post("PUT /sqibs-api/v1/process?token=t0k3n", "", 405)]
    #[case::unknown_path("POST /sqibs-api/v2/process?token=t0k3n", "", 404)]
    #[case::the_list_is_read_only("POST /incidents", "", 405)]
    #[tokio::test]
    async fn who_may_call_what(#[case] line: &str, #[case] headers: &str, #[case] expected: u16) {
        let sandbox = sandbox(None).await;
        let headers = format!("{headers}Content-Type: application/json\r\n");
        let (status, body) = sandbox.request(line, &headers, TRIGGER).await;
        assert_eq!(status, expected, "{body}");
        assert_eq!(sandbox.incidents().await.len(), usize::from(expected == 201));
        assert!(!body.contains(TOKEN));
    }

    #[rstest]
    #[case::json("Content-Type: application/json; charset=utf-8\r\n", 201)]
    #[case::text("Content-Type: text/plain\r\n", 201)]
    #[case::json_suffix("Content-Type: application/cloudevents+json\r\n", 201)]
    #[case::other("Content-Type: application/octet-stream\r\n", 202)]
    #[case::missing("", 202)]
    #[tokio::test]
    async fn a_payload_that_is_no_text_counts_as_empty(#[case] headers: &str, #[case] expected: u16) {
        let sandbox = sandbox(None).await;
        let headers = format!("{headers}Authorization: Bearer {TOKEN}\r\n");
        assert_eq!(sandbox.request("POST /api/v1/process", &headers, TRIGGER).await.0, expected);
    }

    #[tokio::test]
    async fn a_wrong_path_and_a_body_that_is_not_json_are_reported() {
        let (reports, mut told) = mpsc::channel(10);
        let sandbox = started(Config { reports: Some(reports), ..config() }, None).await;
        let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
        for (line, body, expected) in [
            (
                "POST /process?token=t0k3n",
                TRIGGER,
                "404 not found: POST /process; calls go to POST /sqibs-api/v1/process",
            ),
            ("POST /v1/process", "{", "202 unmatched, nobody is alerted: the body is not JSON"),
            (
                "POST /v1/process",
                "",
                "202 unmatched, nobody is alerted: the body is empty, or its Content-Type is neither JSON nor text",
            ),
        ] {
            sandbox.request(line, &headers, body).await;
            assert_eq!(told.recv().await.unwrap().to_string(), expected);
        }
    }

    #[tokio::test]
    async fn a_payload_over_the_limit_is_refused() {
        let sandbox = sandbox(None).await;
        let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: text/plain\r\n");
        let length = (1 << 20) + 1;
        let mut stream = TcpStream::connect(sandbox.address).await.unwrap();
        let head = format!("POST /api/v1/process HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 413");
    }

    #[tokio::test]
    async fn it_stops_when_told_and_closes_idle_connections() {
        let sandbox = sandbox(None).await;
        let mut idle = TcpStream::connect(sandbox.address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 1];
        idle.read_exact(&mut first).await.unwrap();
        sandbox.shutdown.begin();
        sandbox.server.await.unwrap();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        assert!(TcpStream::connect(sandbox.address).await.is_err());
    }

    #[tokio::test]
    async fn a_call_in_flight_is_answered_before_it_stops() {
        let sandbox = sandbox(None).await;
        let mut call = TcpStream::connect(sandbox.address).await.unwrap();
        let length = TRIGGER.len();
        let head = format!(
            "POST /api/v1/process?token={TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\
             Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        call.write_all(head.as_bytes()).await.unwrap();
        // The server has asked for the payload, so the request is in progress.
        let mut asked = [0; 25];
        call.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        sandbox.shutdown.begin();
        // The payload arrives late.
        tokio::time::sleep(Duration::from_millis(100)).await;
        call.write_all(TRIGGER.as_bytes()).await.unwrap();
        let mut answer = String::new();
        call.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        sandbox.server.await.unwrap();
    }

    #[rstest]
    #[case::http_1(&[])]
    #[case::http_2(&[b"h2".as_slice()])]
    #[tokio::test]
    async fn it_speaks_what_alpn_chose_over_tls(#[case] alpn: &[&[u8]]) {
        let (server, client) = tls_pair(alpn);
        let sandbox = sandbox(Some(server)).await;
        let stream = TcpStream::connect(sandbox.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TokioIo::new(tokio_rustls::TlsConnector::from(client).connect(name, stream).await.unwrap());
        let origin = if alpn.is_empty() { "" } else { "https://localhost" };
        let request = Request::post(format!("{origin}/sqibs-api/v1/process"))
            .header("host", "localhost")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(TRIGGER)))
            .unwrap();
        let response = if alpn.is_empty() {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let executor = TokioExecutor::new();
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        assert_eq!(response.status(), 201);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["triggered"]["created"], true);
    }

    /// TLS of a certificate made for this test, and a client that trusts it and offers these protocols.
    fn tls_pair(alpn: &[&[u8]]) -> (Arc<tls::Served>, Arc<rustls::ClientConfig>) {
        let directory = tempfile::tempdir().unwrap();
        let config = tls::Config {
            certificate: directory.path().join("a.pem"),
            private_key: directory.path().join("a.key"),
            ..tls::Config::default()
        };
        tls::make_missing_pair(&config, WallTime::now()).unwrap();
        let mut client = tls::client_config(Some(&config.certificate)).unwrap();
        client.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let (served, _) = tls::Served::load(config, WallTime::now()).unwrap();
        (Arc::new(served), Arc::new(client))
    }
}
