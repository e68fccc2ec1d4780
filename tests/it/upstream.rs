//! A scripted upstream: speaks TLS, notes every call, and answers as the test says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

/// One call that arrived whole.
#[derive(Clone, Debug)]
pub struct Call {
    pub version: Version,
    pub method: Method,
    pub path_and_query: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Call {
    pub fn key(&self) -> &str {
        self.body["servicepilot_event_id"].as_str().unwrap_or_default()
    }

    pub fn state(&self) -> &str {
        self.body["state"].as_str().unwrap_or_default()
    }

    /// Key and state, as `e1 CRITICAL`.
    pub fn short(&self) -> String {
        format!("{} {}", self.key(), self.state())
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// What Callgoose would: 201 created for CRITICAL, 200 resolved for OK.
    Done,
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Answer with the head and so much of a body, and then not end it.
    Endless {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
        then: Then,
    },
    /// Read the request and close the connection without an answer.
    HangUp,
    /// Answer with the inner reply once the gate is open.
    After(Gate, Box<Reply>),
}

/// How a body goes on that does not end.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// The connection breaks.
    Break,
    /// Nothing more comes.
    Silence,
    /// A space comes every hundredth of a second.
    Drip,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply::Answer { status, headers: Vec::new(), body: String::new() }
    }

    pub fn json(status: u16, body: &Value) -> Reply {
        Reply::Answer { status, headers: vec![("content-type", "application/json".into())], body: body.to_string() }
    }
}

/// Closed until opened, for everyone who waits.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn closed() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn pass(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A certificate with its key.
pub struct Pair {
    pub pem: String,
    pub key_pem: String,
    certificate: CertificateDer<'static>,
}

impl Pair {
    /// For localhost and its addresses, unless `change` has it otherwise.
    pub fn signed_by_itself(change: impl Fn(&mut rcgen::CertificateParams)) -> Pair {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        change(&mut parameters);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Pair { pem: certificate.pem(), key_pem: key.serialize_pem(), certificate: certificate.der().clone() }
    }

    /// TLS for a server that shows it.
    pub fn server(&self, clients: impl Fn(WantsVerifier) -> WantsCertificate) -> rustls::ServerConfig {
        self.server_of(&[&rustls::version::TLS13, &rustls::version::TLS12], clients)
    }

    pub fn server_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        clients: impl Fn(WantsVerifier) -> WantsCertificate,
    ) -> rustls::ServerConfig {
        let builder =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(versions)
                .unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap();
        clients(builder).with_single_cert(vec![self.certificate.clone()], key).unwrap()
    }
}

/// What a server shows at each handshake; it can be exchanged while the server runs.
#[derive(Debug)]
pub struct Shown(Mutex<Arc<CertifiedKey>>);

impl Shown {
    pub fn new(pair: &Pair) -> Arc<Shown> {
        Arc::new(Shown(Mutex::new(Shown::key(pair))))
    }

    pub fn change(&self, pair: &Pair) {
        *self.0.lock().unwrap() = Shown::key(pair);
    }

    /// TLS for a server that shows it. No session is taken up again: each connection sees what is shown now.
    pub fn server(self: &Arc<Shown>, pair: &Pair) -> rustls::ServerConfig {
        let mut config = pair.server(|builder| builder.with_no_client_auth());
        config.cert_resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        config.send_tls13_tickets = 0;
        config
    }

    fn key(pair: &Pair) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Arc::new(CertifiedKey::from_der(vec![pair.certificate.clone()], key, &provider).unwrap())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

pub type WantsVerifier = rustls::ConfigBuilder<rustls::ServerConfig, rustls::WantsVerifier>;
pub type WantsCertificate = rustls::ConfigBuilder<rustls::ServerConfig, rustls::server::WantsServerCert>;

type Script = dyn Fn(&Call, usize) -> Reply + Send + Sync;

/// The upstream. It ends with the test's runtime.
pub struct Upstream {
    pub address: SocketAddr,
    /// The certificate to trust.
    pub ca: PathBuf,
    shared: Arc<Shared>,
    _directory: tempfile::TempDir,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    calls: Mutex<Vec<Call>>,
    arrived: Notify,
}

impl Upstream {
    /// Answers by `script`, which gets each call and its number, from 0.
    pub async fn start(script: impl Fn(&Call, usize) -> Reply + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Upstream::start_on(listener, script).await
    }

    /// The same on a socket that the test bound.
    pub async fn start_on(
        listener: TcpListener,
        script: impl Fn(&Call, usize) -> Reply + Send + Sync + 'static,
    ) -> Upstream {
        let pair = Pair::signed_by_itself(|_| ());
        Upstream::start_with(listener, pair.server(|builder| builder.with_no_client_auth()), &pair.pem, script).await
    }

    /// The same with TLS of the test's own; `ca` is the text of [`Upstream::ca`].
    pub async fn start_with(
        listener: TcpListener,
        mut config: rustls::ServerConfig,
        ca: &str,
        script: impl Fn(&Call, usize) -> Reply + Send + Sync + 'static,
    ) -> Upstream {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("upstream.pem");
        std::fs::write(&file, ca).unwrap();
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            calls: Mutex::new(Vec::new()),
            arrived: Notify::new(),
        });
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&shared)));
        Upstream { address, ca: file, shared, _directory: directory }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/sqibs-api/v1/process", self.address.port())
    }

    /// Answers differently from now on.
    pub fn follow(&self, script: impl Fn(&Call, usize) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Waits until `count` calls have arrived; returns all that have.
    pub async fn calls_once(&self, count: usize) -> Vec<Call> {
        loop {
            let arrived = self.shared.arrived.notified();
            let calls = self.calls();
            if calls.len() >= count {
                return calls;
            }
            arrived.await;
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            stream.set_nodelay(true).unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            let _ = match is_http2 {
                true => http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
                false => http1::Builder::new().serve_connection(io, service).await,
            };
        });
    }
}

/// An error makes hyper close the connection without an answer.
#[derive(Debug)]
struct HungUp;

impl std::fmt::Display for HungUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hung up as scripted")
    }
}

impl std::error::Error for HungUp {}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, HungUp> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| HungUp)?.to_bytes();
    let call = Call {
        version: head.version,
        method: head.method,
        path_and_query: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let script = Arc::clone(&shared.script.lock().unwrap());
    let number = {
        let mut calls = shared.calls.lock().unwrap();
        calls.push(call.clone());
        calls.len() - 1
    };
    shared.arrived.notify_waiters();
    let mut reply = script(&call, number);
    while let Reply::After(gate, then) = reply {
        gate.pass().await;
        reply = *then;
    }
    match reply {
        Reply::HangUp => Err(HungUp),
        Reply::Done => Ok(done(&call)),
        Reply::Answer { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(whole(body)).unwrap())
        }
        Reply::Endless { status, headers, body, then } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response
                .body(
                    Endless {
                        body: Some(body),
                        then,
                        drip: tokio::time::interval_at(tokio::time::Instant::now() + DRIP, DRIP),
                    }
                    .boxed(),
                )
                .unwrap())
        }
        Reply::After(..) => unreachable!("unwrapped above"),
    }
}

fn done(call: &Call) -> Response<Body> {
    let resolve = call.state() == "OK";
    let body = json!({
        "id": "1",
        "resolved": { "duplicate": false, "resolved": resolve },
        "triggered": { "duplicate": false, "created": !resolve },
    });
    Response::builder()
        .status(if resolve { 200 } else { 201 })
        .header("content-type", "application/json")
        .body(whole(body.to_string()))
        .unwrap()
}

fn whole(body: String) -> Body {
    Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed()
}

/// A body of which only the beginning comes.
struct Endless {
    body: Option<String>,
    then: Then,
    drip: tokio::time::Interval,
}

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = HungUp;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HungUp>>> {
        if let Some(body) = self.body.take().filter(|body| !body.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(body)))));
        }
        match self.then {
            Then::Break => {
                // What came before is sent by then.
                std::task::ready!(self.drip.poll_tick(context));
                Poll::Ready(Some(Err(HungUp)))
            }
            Then::Silence => Poll::Pending,
            Then::Drip => {
                std::task::ready!(self.drip.poll_tick(context));
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
            }
        }
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, HungUp>;
const DRIP: std::time::Duration = std::time::Duration::from_millis(10);
