//! The HTTP client for the upstream: one call and its answer, or the error.
//!
//! It decides nothing: [`crate::callgoose::answer`] classifies answers, [`crate::delivery::retry`] decides about
//! retries. The URL is fixed by configuration; a payload chooses neither host nor path nor header.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::callgoose::answer::{self, HandshakeFault, Trouble};
use crate::credential::{Credential, Unsendable, with_parameter};
use crate::delivery::connector::{self, ConnectError, Connector, Ending, Route, handshake_problem};
use crate::delivery::mask::Mask;
use crate::secret::Origin;
use crate::tls::{self, ClientTls};
use crate::trace_context::{SpanId, TraceContext};

/// The settings of the `upstream` section that one call needs.
#[derive(Clone, Debug)]
pub struct Config {
    pub url: Uri,
    pub authorization: Credential,
    /// The limit for one whole attempt: connect, TLS, request and answer.
    pub timeout: Duration,
    /// The maximum number of concurrent calls.
    pub concurrency: usize,
    pub way: connector::Config,
}

/// The upstream, with its pool of connections.
#[derive(Debug)]
pub(crate) struct Upstream {
    config: Config,
    connector: Connector,
    pool: ArcSwap<Pool>,
    /// The URL for each source that is named to the upstream, with `from` in its query.
    urls: HashMap<Arc<str>, Uri>,
}

/// Connections that were made since it began. Another pool takes its place when it is old, so that a name that moved is
/// followed whatever its old address answers; and when a connection was silent or broke, since whatever lost it on the
/// way has lost the others, too.
#[derive(Debug)]
struct Pool {
    client: Client<Connector, Full<Bytes>>,
    began: Instant,
}

/// The answer of the upstream.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    /// The `Location` header, with the token masked.
    pub location: Option<String>,
    /// The `Date` header.
    pub date: Option<String>,
    /// The raw body, as far as it was read. An error page may repeat the token: classify it, but do not keep it.
    pub body: Bytes,
    /// The reason why the body is incomplete, if it is.
    pub cut: Option<Cut>,
    /// True if its `Content-Type` is HTML.
    pub page: bool,
    /// The body with the token masked, which may be kept, logged or shown.
    pub shown: Bytes,
}

/// The reason why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Longer than [`ANSWER_BYTES_MAX`].
    TooLong,
    /// Not finished within its time limit.
    TooLate,
    /// The connection broke.
    Broken,
}

/// An error in place of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    pub trouble: Trouble,
    /// The status that a proxy answered in place of the upstream.
    pub status: Option<u16>,
    /// The cause in the words of the layer that failed; without secrets and query.
    pub detail: String,
}

impl Upstream {
    /// Makes the client. `from` gives the name of each source for the upstream. Fails if the trusted CAs can't be
    /// loaded.
    pub(crate) fn new(
        config: Config,
        from: impl IntoIterator<Item = (Arc<str>, Option<String>)>,
    ) -> Result<Upstream, tls::Error> {
        // A step that takes too long is named, before the call as a whole is given up.
        let limit = config.timeout - (config.timeout / 10).min(CONNECT_MARGIN);
        let connector = Connector::new(&config.way, limit)?;
        let pool = ArcSwap::from_pointee(Pool::new(&connector, config.concurrency));
        let urls = from
            .into_iter()
            .filter_map(|(source, from)| Some((source, with_parameter(&config.url, "from", &from?)?)))
            .collect();
        Ok(Upstream { config, connector, pool, urls })
    }

    /// Posts one body as a new span of a trace, and reads the answer.
    pub(crate) async fn call(
        &self,
        source: &Arc<str>,
        body: Bytes,
        trace: Option<&TraceContext>,
    ) -> Result<Answer, CallError> {
        self.send(self.request(source, body, trace)?).await
    }

    /// Asks for the URL by GET, without credentials and body: nothing can come of it but an answer.
    pub(crate) async fn look(&self) -> Result<Answer, CallError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.config.url.clone();
        *request.headers_mut() = headers();
        self.send(request).await
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let started = Instant::now();
        let pool = self.pool();
        let connection = capture_connection(&mut request);
        let response = match tokio::time::timeout(self.config.timeout, pool.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let mut failed = broken(&error);
                if let Some((problem, detail)) = ending(&connection).filter(|_| failed.trouble == Trouble::Reset) {
                    failed = CallError { trouble: Trouble::Tls(problem), status: None, detail };
                }
                if failed.trouble == Trouble::Reset {
                    self.begin_pool(&pool);
                }
                return Err(failed);
            }
            Err(_) => {
                self.begin_pool(&pool);
                return Err(CallError {
                    trouble: Trouble::Timeout,
                    status: None,
                    detail: format!("no answer within {:.1} s", started.elapsed().as_secs_f64()),
                });
            }
        };
        if is_doubtful(response.status())
            && let Some(connection) = connection.connection_metadata().as_ref()
        {
            connection.poison();
        }
        let limit = body_time(response.status(), self.config.timeout.saturating_sub(started.elapsed()));
        let mut answer = read(response, limit).await;
        self.mask(&mut answer);
        Ok(answer)
    }

    /// The pool for a call that begins now.
    fn pool(&self) -> Arc<Pool> {
        let pool = self.pool.load_full();
        if pool.began.elapsed() < POOL_AGE_MAX {
            return pool;
        }
        self.begin_pool(&pool);
        self.pool.load_full()
    }

    /// Begins another pool in place of this one, unless another call did. Calls under way end on their connections.
    fn begin_pool(&self, old: &Arc<Pool>) {
        self.pool.compare_and_swap(old, Arc::new(Pool::new(&self.connector, self.config.concurrency)));
    }

    /// Uses no connection again that was made before now.
    pub(crate) fn retire_connections(&self) {
        self.begin_pool(&self.pool.load_full());
    }

    /// The parts whose certificates may change while it is in use.
    pub(crate) fn tls(&self) -> impl Iterator<Item = &Arc<ClientTls>> {
        self.connector.tls()
    }

    /// Makes its connections.
    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The URL for display, without its query.
    pub(crate) fn shown_url(&self) -> String {
        shown(&self.config.url)
    }

    /// Advice on a trouble for a person. Of a token that is refused it names the place, never the value.
    pub(crate) fn remedy(&self, trouble: Trouble) -> Cow<'static, str> {
        let remedy = trouble.remedy();
        match self.config.authorization.secret().and_then(|secret| secret.origin()) {
            Some(Origin::Variable(name)) if trouble == Trouble::Unauthorized => format!(
                "{remedy}; it was read from the environment variable {name} at the start: set the right one there, and \
                 restart the relay"
            )
            .into(),
            Some(Origin::File(file)) if trouble == Trouble::Unauthorized => format!(
                "{remedy}; it is read from the file {}: write the right one there, which is taken within seconds, without \
                 a restart",
                file.display()
            )
            .into(),
            _ => remedy.into(),
        }
    }

    /// Masks token and proxy credentials in everything that may be shown.
    fn mask(&self, answer: &mut Answer) {
        let mut mask = Mask::default();
        self.config.authorization.secret().and_then(|secret| secret.expose(|token| mask.add(token)));
        if let Route::Through(proxy) = &self.config.way.route {
            proxy.credentials.as_ref().and_then(|secret| {
                secret.expose(|pair| {
                    mask.add(pair);
                    pair.split_once(':').into_iter().for_each(|(_, password)| mask.add(password));
                })
            });
        }
        if let Some(masked) = answer.location.as_deref().and_then(|text| mask.masked(text, false)) {
            answer.location = Some(masked);
        }
        if let Some(masked) = mask.masked(&String::from_utf8_lossy(&answer.body), answer.cut.is_some()) {
            answer.shown = Bytes::from(masked);
        }
    }

    fn request(
        &self,
        source: &Arc<str>,
        body: Bytes,
        trace: Option<&TraceContext>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.urls.get(source).unwrap_or(&self.config.url).clone();
        *request.headers_mut() = headers();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(trace) = trace {
            trace.put_on(SpanId::new(fastrand::u64(..)), request.headers_mut());
        }
        self.config.authorization.present(&mut request).map_err(|Unsendable| CallError {
            trouble: Trouble::Unauthorized,
            status: None,
            detail:
                "the secret of `upstream.authorization` can't be sent: it holds characters that a header or URL can't"
                    .to_owned(),
        })?;
        Ok(request)
    }
}

impl Pool {
    fn new(connector: &Connector, idle_max: usize) -> Pool {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(POOL_AGE_MAX)
            .pool_max_idle_per_host(idle_max)
            .http2_adaptive_window(true)
            // A firewall may drop a connection silently: without pings every call on it would time out.
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector.clone());
        Pool { client, began: Instant::now() }
    }
}

/// Shows only masked parts: the raw body may repeat the token.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { status, retry_after, location, cut, shown, .. } = self;
        write!(f, "Answer({status}, {retry_after:?}, {location:?}, {cut:?}, {shown:?})")
    }
}

impl Answer {
    /// The body for classification.
    pub(crate) fn body(&self) -> answer::Body<'_> {
        answer::Body { bytes: &self.body, cut: self.cut.is_some(), page: self.page }
    }
}

impl Cut {
    /// An explanation for people.
    pub(crate) fn explain(self) -> &'static str {
        match self {
            Cut::TooLong => "the answer's body is longer than 64 KiB and was not read to its end",
            Cut::TooLate => "the answer's body did not end in time and was not read to its end",
            Cut::Broken => "the answer's body broke off",
        }
    }
}

/// The headers of every request.
fn headers() -> HeaderMap {
    // Also for those of one call, and of HTTP itself.
    let mut headers = HeaderMap::with_capacity(8);
    // Otherwise a server may compress as it likes (RFC 9110, section 12.5.3).
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("gander/", env!("CARGO_PKG_VERSION"))));
    headers
}

/// The time limit for a body after its status, with `left` for the whole attempt. Only a success is classified by its
/// body; any other body is just kept for a person. A status in the last moment still counts, so its body gets a
/// minimum.
fn body_time(status: StatusCode, left: Duration) -> Duration {
    let most = if status.is_success() { OUTCOME_TIME_MAX } else { BODY_TIME_MAX };
    left.min(most).max(BODY_TIME_MIN)
}

/// Reads an answer after its status: an error in the body does not change the status.
async fn read(response: Response<Incoming>, body_time: Duration) -> Answer {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, retry_after, date) = (response.status().as_u16(), text(RETRY_AFTER), text(DATE));
    let location = text(LOCATION).map(|location| without_secrets(&location));
    let page = text(CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().contains("html"));
    let mut body = BytesMut::new();
    let end = tokio::time::timeout(body_time, collect(response.into_body(), &mut body)).await;
    let cut = end.unwrap_or(Err(Cut::TooLate)).err();
    let body = body.freeze();
    Answer { status, retry_after, location, date, shown: body.clone(), body, cut, page }
}

async fn collect(mut body: Incoming, into: &mut BytesMut) -> Result<(), Cut> {
    while let Some(frame) = body.frame().await {
        // A frame of trailers holds no data.
        let data = frame.map_err(|_| Cut::Broken)?.into_data().unwrap_or_default();
        let room = ANSWER_BYTES_MAX - into.len();
        into.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Err(Cut::TooLong);
        }
    }
    Ok(())
}

/// A URL without user information, query and fragment.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// A URL for display, without its query.
pub(crate) fn shown(url: &Uri) -> String {
    let host = url.authority().map_or("", |authority| authority.as_str());
    format!("{}://{host}{}", url.scheme_str().unwrap_or("https"), url.path())
}

/// A status after which another connection may be answered otherwise: it may lead to another host. What is said of the
/// event, and a request to wait, say nothing against the connection.
fn is_doubtful(status: StatusCode) -> bool {
    !status.is_success() && !matches!(status.as_u16(), 400 | 413 | 422 | 429)
}

/// The TLS error with which the connection of a request ended.
fn ending(connection: &CaptureConnection) -> Option<(HandshakeFault, String)> {
    let mut extras = Extensions::new();
    connection.connection_metadata().as_ref()?.get_extras(&mut extras);
    extras.get::<Ending>()?.problem()
}

/// Finds the failed layer in the chain of causes.
fn broken(error: &legacy::Error) -> CallError {
    let (mut detail, mut trouble) = (error.to_string(), Trouble::Reset);
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(failed) = error.downcast_ref::<ConnectError>() {
            let ConnectError { step, detail } = failed;
            return CallError { trouble: step.trouble(), status: step.status(), detail: detail.clone() };
        }
        let text = error.to_string();
        if !detail.ends_with(&text) {
            detail = format!("{detail}: {text}");
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        // A client certificate is refused by an alert after the handshake (TLS 1.3).
        if let Some(error) = inner.or_else(|| error.downcast_ref()) {
            trouble = Trouble::Tls(handshake_problem(error));
        }
        cause = error.source();
    }
    CallError { trouble, status: None, detail }
}

/// The documented answer has a hundred bytes; an error page may be longer, and is useful.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// An upstream may send its status before it acts, and only the body tells if it alerted anyone.
const OUTCOME_TIME_MAX: Duration = Duration::from_secs(5);
/// A normal answer ends sooner, and a slow one blocks a call slot.
const BODY_TIME_MAX: Duration = Duration::from_secs(1);
const BODY_TIME_MIN: Duration = Duration::from_millis(250);

const PING_EVERY: Duration = Duration::from_secs(3);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A name that moved is followed within half a minute, together with the age of what is known of it. A connection is
/// made anew this often at most, which costs less than a thousandth of a core.
const POOL_AGE_MAX: Duration = Duration::from_secs(20);
/// By how much a connection has less time than its call, a tenth at most.
const CONNECT_MARGIN: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[tokio::test]
    async fn a_name_that_can_not_be_looked_up_is_told_as_that() {
        // No query leaves this machine: a label of a name is never empty.
        let target = connector::Endpoint { host: "no..such".to_owned(), port: 1 };
        let config = Config {
            url: "http://no..such:1/".parse().unwrap(),
            authorization: Credential::Bearer(Secret::new("token".to_owned())),
            timeout: Duration::from_secs(10),
            concurrency: 1,
            way: connector::Config { targets: vec![target], route: Route::Direct, tls: None },
        };
        let upstream = Upstream::new(config, []).unwrap();
        let failed = upstream.call(&Arc::from("s"), Bytes::from_static(b"{}"), None).await.unwrap_err();
        assert_eq!(failed.trouble, Trouble::Dns, "{}", failed.detail);
    }

    #[test]
    fn the_place_of_a_token_that_is_refused_is_named_and_not_its_value() {
        let remedy = |secret: Secret, trouble| {
            let way = connector::Config {
                targets: vec![connector::Endpoint { host: "localhost".to_owned(), port: 1 }],
                route: Route::Direct,
                tls: None,
            };
            let config = Config {
                url: "http://localhost:1/v1".parse().unwrap(),
                authorization: Credential::Bearer(secret),
                timeout: Duration::from_secs(10),
                concurrency: 1,
                way,
            };
            Upstream::new(config, []).unwrap().remedy(trouble).into_owned()
        };
        let secret = || Secret::new("hunter2".to_owned());
        let variable = || secret().read_from(Origin::Variable("CALLGOOSE_TOKEN".to_owned()));
        let told = remedy(variable(), Trouble::Unauthorized);
        assert!(told.contains("variable CALLGOOSE_TOKEN") && told.ends_with("restart the relay"), "{told}");
        let told = remedy(secret().read_from(Origin::File("run/token".into())), Trouble::Unauthorized);
        assert!(told.contains("the file run/token:") && told.ends_with("without a restart"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        assert_eq!(remedy(secret(), Trouble::Unauthorized), Trouble::Unauthorized.remedy());
        assert_eq!(remedy(variable(), Trouble::Endpoint), Trouble::Endpoint.remedy());
    }

    /// TLS that wants a client certificate, with the file of its CA.
    fn wants_certificates(directory: &std::path::Path) -> (rustls::ServerConfig, std::path::PathBuf) {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let file = directory.join("ca.pem");
        std::fs::write(&file, pair.cert.pem()).unwrap();
        let certificate: CertificateDer<'static> = pair.cert.der().clone();
        let key = PrivateKeyDer::from_pem_slice(pair.signing_key.serialize_pem().as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        (config, file)
    }

    /// So many at once that some refusals are read before their request is begun.
    #[tokio::test(flavor = "multi_thread", worker_threads = 8)]
    async fn a_missing_client_certificate_is_told_however_early_the_refusal_arrives() {
        let directory = tempfile::tempdir().unwrap();
        let (server, ca) = wants_certificates(directory.path());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
                while let Ok((stream, _)) = listener.accept().await {
                    drop(tokio::spawn(acceptor.accept(stream)));
                }
            });
        });
        let files = tls::ClientFiles { ca: Some(ca), ..tls::ClientFiles::default() };
        let way = connector::Config {
            targets: vec![connector::Endpoint { host: "127.0.0.1".to_owned(), port }],
            route: Route::Direct,
            tls: Some(connector::TlsConfig { files, name: "localhost".try_into().unwrap() }),
        };
        let config = Config {
            url: format!("https://localhost:{port}/").parse().unwrap(),
            authorization: Credential::Bearer(Secret::new("token".to_owned())),
            timeout: Duration::from_secs(60),
            concurrency: 64,
            way,
        };
        let upstream = Arc::new(Upstream::new(config, []).unwrap());
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..600 {
            let upstream = Arc::clone(&upstream);
            calls.spawn(async move { upstream.call(&Arc::from("s"), Bytes::from_static(b"{}"), None).await });
        }
        for result in calls.join_all().await {
            let failed = result.unwrap_err();
            assert_eq!(failed.trouble, Trouble::Tls(HandshakeFault::ClientCertificate), "{}", failed.detail);
        }
    }

    #[test]
    fn a_location_is_kept_without_what_may_be_secret() {
        for (url, expected) in [
            ("https://u:p@example.org/login?token=x#y", "https://example.org/login"),
            ("https://example.org", "https://example.org"),
            ("/login?next=a@b", "/login"),
        ] {
            assert_eq!(without_secrets(url), expected);
        }
    }

    #[test]
    fn a_body_has_the_time_that_is_left_up_to_its_own_limit_and_never_none() {
        for (status, left, expected) in [
            (201, 10_000, 5_000),
            (201, 3_000, 3_000),
            (201, 0, 250),
            (422, 10_000, 1_000),
            (503, 300, 300),
            (403, 1, 250),
        ] {
            let found = body_time(StatusCode::from_u16(status).unwrap(), Duration::from_millis(left));
            assert_eq!(found, Duration::from_millis(expected), "{status} {left}");
        }
    }

    #[test]
    fn a_shown_url_has_no_query() {
        let url: Uri = "https://example.org:8443/process?token=hunter2".parse().unwrap();
        assert_eq!(shown(&url), "https://example.org:8443/process");
    }
}
