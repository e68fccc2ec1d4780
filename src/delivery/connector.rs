//! Makes connections to the upstream: looks up a name, dials, passes a proxy, and speaks TLS.
//!
//! The way is decided once, from the configuration. One deadline covers all steps, and an error says by its type which
//! step failed. It keeps no connection: [`crate::delivery::client`] does.

mod dial;
mod ending;
mod proxy;
mod resolve;
mod tls;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::callgoose::answer::{HandshakeFault, Trouble};
use crate::tls::{ClientFiles, ClientTls, Error, ServerName};

pub(crate) use dial::listed;
pub(crate) use ending::Ending;
use ending::Watched;
use proxy::Tunnel;
pub(crate) use proxy::{Protocol, Proxy};
use resolve::{Lookup, STALE, STALE_UNPROVEN};
use tls::Encryption;
pub(crate) use tls::{Agreed, handshake_problem};

/// The way to the upstream.
#[derive(Clone, Debug)]
pub struct Config {
    /// The URL's host and port, or what `upstream.addresses` names instead.
    pub targets: Vec<Endpoint>,
    pub route: Route,
    /// None for `http://`.
    pub tls: Option<TlsConfig>,
}

/// The route to the targets.
#[derive(Clone, Debug)]
pub enum Route {
    Direct,
    Through(Proxy),
}

/// A name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An IPv6 address has no brackets.
    pub host: String,
    pub port: u16,
}

/// The TLS of one peer.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    pub files: ClientFiles,
    /// The name that the peer's certificate must have.
    pub name: ServerName<'static>,
}

/// Makes connections. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct Connector(Arc<Way>);

#[derive(Debug)]
struct Way {
    targets: Vec<Arc<Lookup>>,
    tunnel: Option<Tunnel>,
    encryption: Option<Encryption>,
    limit: Duration,
}

/// A connection that was made to see the way, and closed.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The steps before the last, each with the time that it took.
    pub passed: Vec<(Passed, Duration)>,
    /// The TLS of the connection, none for `http://`; or the reason why there is none.
    pub ended: Result<Option<Agreed>, ConnectError>,
    /// The time since the last step that was passed.
    pub took: Duration,
}

/// A step that was passed, with what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// The addresses of the targets were looked up.
    Resolve(Vec<SocketAddr>),
    /// This address took the connection.
    Dial(SocketAddr),
    /// The proxy opened a tunnel to this target.
    Proxy(Endpoint),
}

/// The steps of a connection so far.
#[derive(Debug)]
struct Steps {
    passed: Vec<(Passed, Duration)>,
    /// When the last of them ended.
    since: Instant,
}

/// The reason why there is no connection.
#[derive(Debug)]
pub(crate) struct ConnectError {
    pub step: Step,
    /// The cause in the words of the layer that failed; without secrets.
    pub detail: String,
}

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A name of the upstream can't be looked up.
    Resolve,
    /// No address of the upstream takes a connection.
    Dial,
    /// The proxy. `status` is its answer to CONNECT.
    Proxy { fault: ProxyFault, status: Option<u16> },
    /// The handshake with the upstream.
    Tls(HandshakeFault),
}

/// The trouble with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyFault {
    /// It can't be reached, speaks another protocol, or could not reach the upstream.
    Failed,
    /// It wants other credentials.
    Unauthorized,
    /// It does not let this connection through.
    Refused,
    /// Its certificate does not verify.
    Certificate,
}

/// Any stream of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, perhaps through a proxy.
pub(crate) type Io = Box<dyn Stream>;

/// The connection that requests are sent on.
type Link = Watched<MaybeHttpsStream<TokioIo<Io>>>;

impl Connector {
    /// Reads the files of the configuration. `limit` is for one connection with all its steps.
    pub(crate) fn new(config: &Config, limit: Duration) -> Result<Connector, Error> {
        let patience = resolve::patience(limit);
        // Without TLS nothing proves that an address is still the name's.
        let stale = if config.tls.is_some() { STALE } else { STALE_UNPROVEN };
        let tunnel = match &config.route {
            Route::Direct => None,
            Route::Through(proxy) => Some(Tunnel::new(proxy.clone(), patience)?),
        };
        let encryption = config.tls.as_ref().map(|tls| Encryption::new(tls, &ALPN)).transpose()?;
        let targets = config.targets.iter().cloned().map(|target| Lookup::new(target, patience, stale)).collect();
        Ok(Connector(Arc::new(Way { targets, tunnel, encryption, limit })))
    }

    /// Makes a connection as for a call, and closes it.
    pub(crate) async fn trace(&self) -> Trace {
        let mut steps = Steps::begin();
        let ended = self.0.connect(&mut steps).await;
        let took = steps.since.elapsed();
        let ended = ended.map(|stream| match stream.stream() {
            MaybeHttpsStream::Http(_) => None,
            MaybeHttpsStream::Https(stream) => Some(Agreed::of(stream.inner())),
        });
        Trace { passed: steps.passed, ended, took }
    }

    /// The parts whose files may change while it is in use.
    pub(crate) fn tls(&self) -> impl Iterator<Item = &Arc<ClientTls>> {
        let of_proxy = self.0.tunnel.as_ref().and_then(|tunnel| tunnel.encryption.as_ref());
        self.0.encryption.iter().chain(of_proxy).map(|encryption| &encryption.tls)
    }
}

impl Way {
    async fn connect(&self, steps: &mut Steps) -> Result<Link, ConnectError> {
        let deadline = Instant::now() + self.limit;
        let io: Io = match &self.tunnel {
            Some(tunnel) => tunnel.open(&self.targets, deadline, steps).await?,
            None => {
                let addresses = by(deadline, Step::Resolve, "no answer in time", resolve::all(&self.targets)).await?;
                steps.pass(Passed::Resolve(addresses.clone()));
                let dialed = async { dial::race(&addresses).await.map_err(|error| Step::Dial.because(error)) };
                let late = format!("no answer from {}", listed(&addresses));
                let stream = by(deadline, Step::Dial, &late, dialed).await?;
                stream.peer_addr().into_iter().for_each(|address| steps.pass(Passed::Dial(address)));
                Box::new(stream)
            }
        };
        let Some(encryption) = &self.encryption else {
            return Ok(Watched::new(MaybeHttpsStream::Http(TokioIo::new(io))));
        };
        let encrypted = async {
            encryption
                .begin(TokioIo::new(TokioIo::new(io)))
                .await
                .map_err(|(problem, error)| Step::Tls(problem).because(error))
        };
        let late = "the TLS handshake did not end in time";
        let stream = by(deadline, Step::Tls(HandshakeFault::Other), late, encrypted).await?;
        Ok(Watched::new(MaybeHttpsStream::Https(TokioIo::new(stream))))
    }
}

impl Steps {
    fn begin() -> Steps {
        Steps { passed: Vec::new(), since: Instant::now() }
    }

    fn pass(&mut self, step: Passed) {
        let now = Instant::now();
        self.passed.push((step, now - self.since));
        self.since = now;
    }
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    /// The destination is the configuration's, not the request's.
    fn call(&mut self, _: Uri) -> Self::Future {
        let way = Arc::clone(&self.0);
        Box::pin(async move { way.connect(&mut Steps::begin()).await })
    }
}

impl Connection for Io {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Step {
    fn because(self, detail: impl fmt::Display) -> ConnectError {
        ConnectError { step: self, detail: detail.to_string() }
    }

    /// The status that a proxy answered.
    pub(crate) fn status(self) -> Option<u16> {
        match self {
            Step::Proxy { status, .. } => status,
            Step::Resolve | Step::Dial | Step::Tls(_) => None,
        }
    }

    pub(crate) fn trouble(self) -> Trouble {
        match self {
            Step::Resolve => Trouble::Dns,
            Step::Dial => Trouble::Connect,
            Step::Tls(problem) => Trouble::Tls(problem),
            Step::Proxy { fault: ProxyFault::Failed, .. } => Trouble::Proxy,
            Step::Proxy { fault: ProxyFault::Unauthorized, .. } => Trouble::ProxyUnauthorized,
            Step::Proxy { fault: ProxyFault::Refused, .. } => Trouble::ProxyRefused,
            Step::Proxy { fault: ProxyFault::Certificate, .. } => Trouble::ProxyCertificate,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for ConnectError {}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Ends a step at the deadline.
async fn by<T>(
    deadline: Instant,
    step: Step,
    late: &str,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(step.because(late)))
}

const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
