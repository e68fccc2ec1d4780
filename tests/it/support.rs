//! The edge of the relay in the test's own process: listener, ingest, recorder and journal, on port 0, with a
//! throw-away certificate; and clients for it, well-behaved and raw.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gander::exports::clock::{Clock, WallTime};
use gander::exports::credential::Credential;
use gander::exports::event::{EventId, Outcome, Settlement, State};
use gander::exports::inbound::auth::Policy;
use gander::exports::inbound::limits::{OverLimit, RateLimit};
use gander::exports::inbound::{
    self, Accept, BodyLimits, ConfirmationSource, Ingest, Respond, SourceConfig, SourceRules,
};
use gander::exports::journal;
use gander::exports::journal::decide::Accepted;
use gander::exports::journal::dedup;
use gander::exports::journal::recorder::{Committed, Recorder, RecorderParts, RecorderThread};
use gander::exports::journal::request::Settle;
use gander::exports::journal::{AttemptRecord, Details, Lock, Reader};
use gander::exports::journal::{Share, Shares};
use gander::exports::metrics::{Exposition, Metrics};
use gander::exports::rules::RuleSet;
use gander::exports::secret::Secret;
use gander::exports::server;
use gander::exports::shutdown::Shutdown;
use gander::exports::tls;
use gander::exports::yaml::{Findings, Source};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

/// How the edge is set up; a test changes what it is about.
pub struct Setup {
    pub listen: inbound::Config,
    pub sources: Vec<SourceConfig>,
    pub confirmations: Vec<ConfirmationSource>,
    pub journal_max_events: u64,
}

/// A running edge. It ends with the test's runtime.
pub struct Edge {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    pub recorder: Recorder,
    pub ingest: Ingest,
    pub directory: tempfile::TempDir,
    /// The certificates of its listener.
    pub tls: Option<Arc<tls::Served>>,
    /// Ends when the listener has drained.
    pub served: JoinHandle<()>,
    committed: Mutex<mpsc::Receiver<Committed>>,
    encrypted: bool,
}

/// What a client got.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

pub const TOKEN: &str = "correct-horse";

/// Longer than anything here takes on a machine that does much else, so that a test that hangs fails instead.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Setup {
    /// TLS on loopback, one source `servicepilot` with a bearer token and generous limits.
    pub fn new() -> Setup {
        Setup {
            listen: inbound::Config {
                address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
                tls: Some(tls::Config {
                    certificate: PathBuf::from("server.pem"),
                    private_key: PathBuf::from("server.key"),
                    ..tls::Config::default()
                }),
                limits: server::Limits {
                    connections_max: 1_000,
                    connections_of_address_max: None,
                    header_timeout: Duration::from_secs(10),
                    idle_timeout: Duration::from_secs(75),
                    write_timeout: Duration::from_secs(10),
                    drain_timeout: Duration::from_secs(5),
                    connection_age_max: Duration::from_secs(3_600),
                },
                addresses: server::Addresses::default(),
                bodies: BodyLimits { bytes_max: 64 * 1024, timeout: Duration::from_secs(10) },
            },
            sources: vec![source("servicepilot")],
            confirmations: Vec::new(),
            journal_max_events: 1_000_000,
        }
    }

    /// The same without TLS.
    pub fn plain() -> Setup {
        let mut setup = Setup::new();
        setup.listen.tls = None;
        setup
    }

    /// The first source.
    pub fn source(&mut self) -> &mut SourceConfig {
        &mut self.sources[0]
    }

    pub async fn start(mut self) -> Edge {
        let directory = tempfile::tempdir().unwrap();
        let config = self.listen.tls.as_mut().map(|tls| {
            tls.certificate = directory.path().join(&tls.certificate);
            tls.private_key = directory.path().join(&tls.private_key);
            tls::make_missing_pair(tls, WallTime::now()).unwrap();
            Arc::new(tls::Served::load(tls.clone(), WallTime::now()).unwrap().0)
        });
        let (metrics, clock, shutdown) = (Arc::new(Metrics::new()), Clock::start(), Shutdown::new());
        let (sender, committed) = mpsc::channel(1_024);
        let shares = self.sources.iter().map(|source| (Arc::clone(&source.name), source.max_queued));
        let parts = RecorderParts {
            journal: journal::Config {
                data_dir: directory.path().join("data"),
                max_events: self.journal_max_events,
                max_bytes: 1 << 30,
                keep_delivered: Duration::from_secs(3_600),
                keep_refused: 100,
                shares: Shares::new(shares),
                reserve: None,
            },
            lock: Lock::take(&directory.path().join("data")).unwrap(),
            dedup: dedup::Settings { window: Duration::from_secs(600), remind: true, max_keys: 1_000 },
            superseded: Default::default(),
            clock,
            metrics: Arc::clone(&metrics),
            committed: sender,
        };
        let (recorder, writer) = RecorderThread::open(parts, |_, _| {}).unwrap();
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || writer.run(&runtime));

        let bodies = self.listen.bodies;
        let (log, stop) = (Arc::clone(&metrics), shutdown.clone());
        let ingest = Ingest::new(self.sources, self.confirmations, bodies, recorder.clone(), log, clock, stop);
        let socket = TcpListener::bind(self.listen.address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let encrypted = config.is_some();
        let observer = server::Observer::of_senders(Arc::clone(&metrics));
        let addresses = self.listen.addresses;
        let (limits, service, stop) = (self.listen.limits, Arc::new(ingest.clone()), shutdown.clone());
        let served = tokio::spawn(server::serve(socket, config.clone(), addresses, limits, service, observer, stop));
        Edge {
            address,
            metrics,
            shutdown,
            recorder,
            ingest,
            directory,
            tls: config,
            served,
            committed: Mutex::new(committed),
            encrypted,
        }
    }
}

/// A source with [`TOKEN`] as its bearer token and the rules below.
pub fn source(name: &str) -> SourceConfig {
    SourceConfig {
        name: Arc::from(name),
        rules: rules(RULES),
        from: None,
        auth: Policy::AnyOf(vec![Credential::Bearer(Secret::new(TOKEN.to_owned()))]),
        allow_from: Vec::new(),
        rate_limit: RateLimit {
            per_second: NonZeroU32::new(10_000).unwrap(),
            burst: NonZeroU32::new(10_000).unwrap(),
            answer: OverLimit::ServiceUnavailable,
        },
        max_queued: Share::Auto,
        respond: Respond::Queued,
        respond_timeout: Duration::from_secs(10),
        accept: Accept::default(),
        probes: false,
        handshake: None,
    }
}

pub fn rules(text: &str) -> SourceRules {
    let mut findings = Findings::new();
    let source = Arc::new(Source::new("rules.yaml".to_owned(), text.to_owned()));
    let compiled = RuleSet::compile(&source, &mut findings);
    SourceRules { live: Arc::new(compiled.unwrap_or_else(|| panic!("{findings:?}"))), shadow: None }
}

/// CRITICAL triggers, OK resolves, INFO is ignored, anything else is refused.
pub const RULES: &str = "
version: 1
validate:
  - { path: $.id, required: true, type: string }
rules:
  - { name: problem, when: { path: $.state, equals: CRITICAL }, then: trigger }
  - { name: recovery, when: { path: $.state, equals: OK }, then: resolve }
  - { name: noise, when: { path: $.state, equals: INFO }, then: ignore }
incident_key: [$.id]
";

/// The same for each element of `alerts`.
pub const BATCH_RULES: &str = "
version: 1
split: $.alerts[*]
validate:
  - { path: $.id, required: true, type: string }
rules:
  - { name: problem, when: { path: $.state, equals: CRITICAL }, then: trigger }
  - { name: recovery, when: { path: $.state, equals: OK }, then: resolve }
  - { name: noise, when: { path: $.state, equals: INFO }, then: ignore }
incident_key: [$.id]
";

impl Edge {
    /// The certificate that its clients trust.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("server.pem")
    }

    pub fn url(&self, path_and_query: &str) -> String {
        let scheme = if self.encrypted { "https" } else { "http" };
        format!("{scheme}://localhost:{}{path_and_query}", self.address.port())
    }

    /// A POST to the first source, with its token.
    pub fn post(&self) -> http::request::Builder {
        Request::builder()
            .method(Method::POST)
            .uri(self.url("/hooks/servicepilot"))
            .header("authorization", format!("Bearer {TOKEN}"))
    }

    /// Sends by HTTP/2, or HTTP/1.1 where there is no TLS.
    pub async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        self.send_by(request, body, true).await
    }

    pub async fn send_by(&self, request: http::request::Builder, body: impl Into<Bytes>, http2: bool) -> Answer {
        let roots = self.encrypted.then(|| self.ca());
        let request = request.body(Full::new(body.into())).unwrap();
        answer_of(client(roots.as_deref(), http2).request(request).await.unwrap()).await
    }

    /// Posts a payload to the first source.
    pub async fn alert(&self, payload: Value) -> Answer {
        self.send(self.post(), payload.to_string()).await
    }

    /// A bare TCP connection.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes over TCP and returns all that comes until the relay closes.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        write(&mut stream, bytes).await;
        read_to_end(&mut stream).await
    }

    /// The value of a metric's line, as it is printed; 0 if there is none.
    pub fn metric(&self, line: &str) -> String {
        let text = self.metrics.encode(Exposition::Text);
        let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or("0").to_owned()
    }

    /// What the journal keeps of an event.
    pub fn kept(&self, id: &Value) -> Details {
        let id: EventId = id.as_str().unwrap().parse().unwrap();
        Reader::open(&self.directory.path().join("data")).unwrap().details(id).unwrap().unwrap()
    }

    /// How many events the journal keeps, refused ones included.
    pub fn kept_count(&self) -> usize {
        let reader = Reader::open(&self.directory.path().join("data")).unwrap();
        reader.list(&journal::Filter { limit: 1_000, ..journal::Filter::default() }).unwrap().events.len()
    }

    /// Plays the upstream for the next events that become durable: each ends in this way.
    pub async fn settle_next(&self, state: State, outcome: Option<Outcome>) {
        let accepted = tokio::time::timeout(PATIENCE, async {
            let mut committed = self.committed.lock().await;
            loop {
                // The ends that are told here are those of the events before.
                let Committed { accepted, .. } = committed.recv().await.unwrap();
                if !accepted.is_empty() {
                    return accepted;
                }
            }
        });
        for Accepted { event, .. } in accepted.await.unwrap() {
            let attempt = AttemptRecord {
                event: event.id,
                number: 1,
                started_at: WallTime::now(),
                took: Duration::ZERO,
                result: "scripted",
                status: None,
                detail: None,
                answer: Vec::new(),
            };
            let at = WallTime::now();
            let settlement = Settlement { id: event.id, state, outcome, reason: None, attempts: 1, at };
            self.recorder
                .settle(Settle { attempt: Some(attempt), settlement, key: event.key, awaited: false, commanded: None })
                .unwrap();
        }
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

type HttpsClient =
    Client<hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>, Full<Bytes>>;

/// A client that trusts `roots`, or speaks plain HTTP.
pub fn client(roots: Option<&Path>, http2: bool) -> HttpsClient {
    let config = match roots {
        Some(roots) => tls::client_config(Some(roots)).unwrap(),
        None => rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
    };
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    let connector = if http2 { connector.enable_all_versions().build() } else { connector.enable_http1().build() };
    Client::builder(TokioExecutor::new()).build(connector)
}

pub async fn answer_of(response: Response<hyper::body::Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

/// Sends bytes to a peer that may end the connection at any time: what it answered tells why.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: impl AsRef<[u8]>) {
    match stream.write_all(bytes.as_ref()).await {
        Err(error) if has_ended(&error) => {}
        written => written.unwrap(),
    }
}

/// All that comes until the peer closes. That it closes is part of what a test checks; that it does so while bytes are
/// on their way to it, which resets the connection, is not.
pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    match tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it closes") {
        Err(error) if has_ended(&error) => {}
        read => drop(read.unwrap()),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the peer has ended the connection.
fn has_ended(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// One answer with its body, on a connection that may stay open.
pub async fn read_answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_none_or(|length| body.len() >= length.parse().unwrap()) {
                return text.into_owned();
            }
        }
        let mut piece = [0; 4_096];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await.expect("an answer").unwrap();
        assert_ne!(read, 0, "closed before the answer was whole: {text}");
        bytes.extend_from_slice(&piece[..read]);
    }
}

/// A whole HTTP/1.1 request to the first source, with its token and whatever further headers.
pub fn request(headers: &str, body: &str) -> String {
    format!(
        "POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{headers}\r\n{body}"
    )
}

/// The same with a Content-Length.
pub fn sized_request(headers: &str, body: &str) -> String {
    request(&format!("Content-Length: {}\r\n{headers}", body.len()), body)
}

/// The statuses of the answers in a text that a connection gave.
pub fn statuses(text: &str) -> Vec<u16> {
    text.match_indices("HTTP/1.1 ").filter_map(|(at, found)| text[at + found.len()..].get(..3)?.parse().ok()).collect()
}
