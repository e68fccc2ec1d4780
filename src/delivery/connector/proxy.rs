//! Opens a tunnel through a proxy: HTTP CONNECT (RFC 9110, section 9.3.6), also over TLS, or SOCKS5 (RFC 1928).

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_socks::tcp::Socks5Stream;
use tokio_socks::{Error as SocksError, TargetAddr};

use super::resolve::{self, Lookup, STALE};
use super::tls::Encryption;
use super::{ConnectError, Endpoint, Io, Passed, ProxyFault, Step, Steps, TlsConfig, by, dial};
use crate::secret::Secret;
use crate::tls::{ClientFiles, Error, ServerName};

/// A proxy on the way to the upstream.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub protocol: Protocol,
    pub endpoint: Endpoint,
    /// `USER:PASSWORD`.
    pub credentials: Option<Secret>,
    /// Sent with CONNECT.
    pub headers: Vec<(HeaderName, Secret)>,
    /// The key or the environment variable that names it.
    pub named_by: String,
}

/// The protocol that a proxy speaks.
#[derive(Clone, Debug)]
pub enum Protocol {
    Http,
    /// HTTP over TLS.
    Https {
        ca: Option<PathBuf>,
        name: ServerName<'static>,
    },
    /// The relay looks names up.
    Socks5,
    /// The proxy does.
    Socks5h,
}

/// A proxy, ready for use.
#[derive(Debug)]
pub(super) struct Tunnel {
    proxy: Proxy,
    lookup: Arc<Lookup>,
    pub(super) encryption: Option<Encryption>,
}

/// The reason why a proxy gives no way to a target.
type Refusal = (Step, String);

impl Tunnel {
    pub(super) fn new(proxy: Proxy, patience: Duration) -> Result<Tunnel, Error> {
        let encryption = match &proxy.protocol {
            Protocol::Https { ca, name } => {
                let files = ClientFiles { ca: ca.clone(), ..ClientFiles::default() };
                Some(Encryption::new(&TlsConfig { files, name: name.clone() }, &[b"http/1.1"])?)
            }
            Protocol::Http | Protocol::Socks5 | Protocol::Socks5h => None,
        };
        Ok(Tunnel { lookup: Lookup::new(proxy.endpoint.clone(), patience, STALE), proxy, encryption })
    }

    /// Opens a tunnel to the first target that the proxy reaches.
    pub(super) async fn open(
        &self,
        targets: &[Arc<Lookup>],
        deadline: Instant,
        steps: &mut Steps,
    ) -> Result<Io, ConnectError> {
        let late = format!("{}: no answer in time", self.proxy);
        let mut last = FAILED.because("there is nothing to connect to");
        let targets = self.addressed(targets, deadline, steps).await?;
        for (index, target) in targets.iter().enumerate() {
            // One that is never answered for leaves the others their time.
            let left = deadline.saturating_duration_since(Instant::now());
            let until = Instant::now() + left / u32::try_from(targets.len() - index).unwrap_or(u32::MAX);
            match by(until, FAILED, &late, self.through(target)).await {
                // Another target may be reached where this one is not.
                Err(error) if matches!(error.step, Step::Proxy { fault: ProxyFault::Failed, .. }) => last = error,
                Err(error) => return Err(error),
                Ok(io) => {
                    steps.pass(Passed::Proxy(target.clone()));
                    return Ok(io);
                }
            }
        }
        Err(last)
    }

    /// The targets as the proxy is to be told them.
    async fn addressed(
        &self,
        targets: &[Arc<Lookup>],
        deadline: Instant,
        steps: &mut Steps,
    ) -> Result<Vec<Endpoint>, ConnectError> {
        if !matches!(self.proxy.protocol, Protocol::Socks5) {
            return Ok(targets.iter().map(|target| target.endpoint.clone()).collect());
        }
        let found = by(deadline, Step::Resolve, "no answer in time", resolve::all(targets)).await?;
        steps.pass(Passed::Resolve(found.clone()));
        Ok(found.iter().map(|address| Endpoint { host: address.ip().to_string(), port: address.port() }).collect())
    }

    async fn through(&self, target: &Endpoint) -> Result<Io, ConnectError> {
        let opened = async {
            let io = self.reach().await?;
            match self.proxy.protocol {
                Protocol::Http | Protocol::Https { .. } => self.connect(io, target).await,
                Protocol::Socks5 | Protocol::Socks5h => self.socks(io, target).await,
            }
        };
        opened.await.map_err(|(step, problem)| step.because(format_args!("{}: {problem}", self.proxy)))
    }

    /// A connection to the proxy itself.
    async fn reach(&self) -> Result<Io, Refusal> {
        let addresses = self.lookup.addresses().await.map_err(failed)?;
        let stream = dial::race(&addresses).await.map_err(failed)?;
        let Some(encryption) = &self.encryption else { return Ok(Box::new(stream)) };
        match encryption.begin(stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err((problem, error)) => {
                let fault = if problem.is_lasting() { ProxyFault::Certificate } else { ProxyFault::Failed };
                Err((Step::Proxy { fault, status: None }, error))
            }
        }
    }

    async fn connect(&self, io: Io, target: &Endpoint) -> Result<Io, Refusal> {
        let request = self.connect_request(target)?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(io)).await.map_err(failed)?;
        // Ends when the tunnel is handed over, or when `sender` is dropped.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(|error| failed(chain(&error)))?;
        let status = response.status();
        if !status.is_success() {
            let fault = match status.as_u16() {
                // 401 is an origin's, but some proxies say so.
                401 | 407 => ProxyFault::Unauthorized,
                408 | 425 | 429 | 500.. => ProxyFault::Failed,
                _ => ProxyFault::Refused,
            };
            let wanted = response.headers().get_all(PROXY_AUTHENTICATE).iter().filter_map(scheme).collect::<Vec<_>>();
            let wanted = if wanted.is_empty() { String::new() } else { format!("; it takes {}", wanted.join(", ")) };
            let problem = format!("it answered {} to CONNECT {target}{wanted}", status.as_u16());
            return Err((Step::Proxy { fault, status: Some(status.as_u16()) }, problem));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| failed(chain(&error)))?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }

    fn connect_request(&self, target: &Endpoint) -> Result<Request<Empty<Bytes>>, Refusal> {
        let authority = target.to_string();
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = authority.parse().map_err(failed)?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&authority).map_err(failed)?);
        let own = self.proxy.headers.iter().map(|(name, secret)| (name.clone(), secret.expose(str::to_owned)));
        let credentials = self.proxy.credentials.as_ref().map(|secret| {
            (PROXY_AUTHORIZATION, secret.expose(|text| format!("Basic {}", BASE64_STANDARD.encode(text))))
        });
        for (name, value) in own.chain(credentials) {
            let mut value = HeaderValue::from_str(&value.unwrap_or_default()).map_err(failed)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(request)
    }

    async fn socks(&self, io: Io, target: &Endpoint) -> Result<Io, Refusal> {
        let address = match target.host.parse::<IpAddr>() {
            Ok(ip) => TargetAddr::Ip((ip, target.port).into()),
            Err(_) => TargetAddr::Domain(target.host.as_str().into(), target.port),
        };
        let credentials = self.proxy.credentials.as_ref().and_then(|secret| secret.expose(str::to_owned));
        let opened = match credentials.as_ref().and_then(|text| text.split_once(':')) {
            None => Socks5Stream::connect_with_socket(io, address).await,
            Some((user, password)) => Socks5Stream::connect_with_password_and_socket(io, address, user, password).await,
        };
        opened.map(Socks5Stream::into_inner).map_err(|error| {
            let fault = match error {
                SocksError::NoAcceptableAuthMethods
                | SocksError::AuthorizationRequired
                | SocksError::InvalidAuthValues(_)
                | SocksError::PasswordAuthFailure(_) => ProxyFault::Unauthorized,
                SocksError::ConnectionNotAllowedByRuleset => ProxyFault::Refused,
                _ => ProxyFault::Failed,
            };
            (Step::Proxy { fault, status: None }, format!("{error} (SOCKS5 to {target})"))
        })
    }
}

/// The URL without credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http => "http",
            Protocol::Https { .. } => "https",
            Protocol::Socks5 => "socks5",
            Protocol::Socks5h => "socks5h",
        };
        write!(f, "{scheme}://{}", self.endpoint)
    }
}

fn failed(problem: impl fmt::Display) -> Refusal {
    (FAILED, problem.to_string())
}

/// The scheme of a challenge, as `Basic`; never more of what a proxy writes.
fn scheme(challenge: &HeaderValue) -> Option<&str> {
    let scheme = challenge.to_str().ok()?.split([' ', ',']).next()?;
    let is_token = |text: &str| (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    Some(scheme).filter(|text| is_token(text))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

const FAILED: Step = Step::Proxy { fault: ProxyFault::Failed, status: None };
/// The answer to CONNECT is short; hyper's least.
const HEAD_BYTES_MAX: usize = 8_192;
