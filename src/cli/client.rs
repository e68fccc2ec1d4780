//! A client for the relay that runs on this machine by the same configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::local_connector::LocalConnector;
use crate::admin;
use crate::clock::WallTime;
use crate::credential::{Credential, Unsendable};
use crate::inbound;
use crate::tls;

/// Requests to one address of the relay.
#[derive(Debug)]
pub(crate) struct Client {
    /// Scheme, host and port.
    base: String,
    pool: Pool<HttpsConnector<LocalConnector>, Full<Bytes>>,
    /// For each request, where the address wants one.
    credential: Option<Credential>,
}

/// An answer of the relay.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Client {
    /// For the relay's public address.
    pub(crate) fn public(listen: &inbound::Config, credential: Option<Credential>) -> Result<Client, String> {
        Client::connecting(listen.address, listen.tls.as_ref(), credential, listen.addresses.proxy_protocol)
    }

    /// For the relay's admin address, with its token.
    pub(crate) fn admin(admin: &admin::Config) -> Result<Client, String> {
        let credential = admin.token.clone().map(Credential::Bearer);
        if credential.as_ref().is_some_and(|credential| !credential.is_sendable()) {
            return Err(
                "the admin token is not at hand: set the variable or file that `admin.token` names, or put the \
                        token into GANDER_ADMIN__TOKEN"
                    .to_owned(),
            );
        }
        Client::new(admin.address, admin.tls.as_ref(), credential)
    }

    pub(super) fn new(
        address: SocketAddr,
        tls: Option<&tls::Config>,
        credential: Option<Credential>,
    ) -> Result<Client, String> {
        Client::connecting(address, tls, credential, false)
    }

    fn connecting(
        address: SocketAddr,
        tls: Option<&tls::Config>,
        credential: Option<Credential>,
        proxy_protocol: bool,
    ) -> Result<Client, String> {
        if address.port() == 0 {
            return Err("the configured port is 0, so only the relay's log says where it listens".to_owned());
        }
        let address = SocketAddr::new(reachable(address.ip()), address.port());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut connecting = HttpConnector::new();
        connecting.enforce_http(false);
        connecting.set_nodelay(true);
        connecting.set_connect_timeout(Some(CONNECT));
        let tls = match tls {
            Some(tls) => tls::pinned_client(&tls.certificate).map_err(|error| unpinned(tls, &error))?,
            // Never used, but the connector wants one.
            None => tls::untrusting_client().map_err(|error| error.to_string())?,
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let connector = connector.wrap_connector(LocalConnector::new(connecting, proxy_protocol));
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Ok(Client { base: format!("{scheme}://{address}"), pool, credential })
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a GET whose answer goes on for as long as it may take; waits for its head.
    pub(crate) async fn open(&self, path: &str) -> Result<Response<Incoming>, String> {
        let request = self.prepare(Method::GET, path, &[], Bytes::new())?;
        self.within(ANSWER, async { self.pool.request(request).await.map_err(|error| self.explain(&error)) }).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, String> {
        self.request(Method::GET, path, &[], Bytes::new(), ANSWER).await
    }

    /// Sends a request and reads the answer, within `timeout` as a whole.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, HeaderValue)],
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, String> {
        let request = self.prepare(method, path, headers, body)?;
        let exchange = async {
            let response = self.pool.request(request).await.map_err(|error| self.explain(&error))?;
            self.whole(response).await
        };
        self.within(timeout, exchange).await
    }

    /// The rest of an answer.
    pub(crate) async fn whole(&self, response: Response<Incoming>) -> Result<Answer, String> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer of {} broke off: {error}", self.base))?.to_bytes();
        Ok(Answer { status: head.status, body })
    }

    fn prepare(
        &self,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(USER_AGENT, concat!("gander/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| format!("this request can't be made: {error}"))?;
        if let Some(credential) = &self.credential {
            let unsendable = |Unsendable| "the configured secret holds characters that a header can't".to_owned();
            let now = WallTime::now();
            let (body, id) = (request.body().clone(), format!("msg_{}", inbound::request_id(now)));
            credential.present_with_body(&mut request, &body, &id, now).map_err(unsendable)?;
        }
        for (name, value) in headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        Ok(request.map(Full::new))
    }

    async fn within<T>(
        &self,
        timeout: Duration,
        exchange: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let unanswered = |_| format!("{} did not answer within {} s", self.base, timeout.as_secs());
        tokio::time::timeout(timeout, exchange).await.map_err(unanswered)?
    }

    fn explain(&self, error: &hyper_util::client::legacy::Error) -> String {
        let mut causes = Vec::new();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        let detail = causes.last().cloned().unwrap_or_default();
        if causes.iter().any(|cause| cause.contains("ApplicationVerificationFailure")) {
            return format!(
                "what answers at {} shows another certificate than the one in the configured file: it is not this \
                 configuration's relay, or was started before the certificate changed",
                self.base
            );
        }
        if error.is_connect() {
            return format!(
                "no relay answers at {} ({detail}): is `gander run` up with this configuration?",
                self.base
            );
        }
        format!("the conversation with {} broke off: {detail}", self.base)
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// It says by a problem document what is wrong.
    pub(crate) fn is_problem(&self) -> bool {
        self.json().is_some_and(|body| body["detail"].is_string())
    }

    /// The `detail` of a problem document; else the status, with what stands beside it in plain text.
    pub(crate) fn detail(&self) -> String {
        let detail = self.json().and_then(|body| Some(body.get("detail")?.as_str()?.to_owned()));
        super::terminal::plain(&detail.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&self.body);
            let line = text.lines().next().filter(|line| !line.is_empty() && !line.starts_with(['<', '{', '[']));
            match line {
                Some(line) => format!("{}: {}", self.status, line.chars().take(TEXT_CHARS_MAX).collect::<String>()),
                None => self.status.to_string(),
            }
        }))
    }
}

/// Says why the relay's certificate can't be read. Before its first start there may be none.
fn unpinned(tls: &tls::Config, error: &tls::Error) -> String {
    let is_absent = |file: &std::path::Path| matches!(file.try_exists(), Ok(false));
    if !is_absent(&tls.certificate) {
        return error.to_string();
    }
    let made = match tls.self_signed && is_absent(&tls.private_key) {
        true => "; the first start of `gander run` makes it: start the relay, then give this command again",
        false => "",
    };
    let elsewhere =
        if tls.certificate.is_relative() { "; the path is relative: run this where the relay runs" } else { "" };
    format!("the relay's certificate {} does not exist{made}{elsewhere}", tls.certificate.display())
}

/// One listens on every address and is reached on loopback.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
const TEXT_CHARS_MAX: usize = 200;
/// A page of a thousand events fits many times.
const ANSWER_BYTES_MAX: usize = 64 << 20;
