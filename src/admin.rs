//! The operators' side: health, readiness, metrics, the journal and commands, as an API and as a page.
//!
//! It reads snapshots and a read-only connection of its own; it never holds anything that an event waits for. It
//! listens apart from senders, on loopback unless a token is set.

mod api;
mod body;
mod certificate_status;
mod commands;
mod confirmations;
pub(crate) mod dedup;
mod discard;
mod event_changes;
mod guard;
mod history;
mod holds;
mod journal_view;
mod kept_event;
mod metrics;
mod page;
mod problem;
mod queue;
mod readiness;
mod reload_status;
mod secret_status;
mod selection;
mod sessions;
mod status;
mod stream;
mod unseen;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};

use self::event_changes::WAITERS_MAX;
use self::history::History;
use self::page::changes::FOLLOWERS_MAX;
use self::sessions::Sessions;
use crate::advice::connect::SourceEntry;
use crate::callgoose::filters::FiltersBeside;
use crate::delivery::client::Upstream;
use crate::delivery::dispatcher::{DeliveryProgress, QueueHandle, Stuck, UpstreamStatus};
use crate::inbound::Ingest;
use crate::journal::recorder::Recorder;
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::self_check;
use crate::server::{self, AnswerBody, Answering, BadHead, BoxError, Limits, Observer, Peer, RequestBody, Service};
use crate::shutdown::Shutdown;
use crate::tls;

pub(crate) use certificate_status::{MissingFile, certificate_files, certificates_in_use};
pub(crate) use journal_view::JournalView;
pub(crate) use reload_status::{Reload, ReloadFailure};
pub(crate) use secret_status::UnreadableSecret;
pub(crate) use selection::{OPTIONS, SELECTION};

/// The `admin` section.
#[derive(Clone, Debug)]
pub struct Config {
    pub address: SocketAddr,
    pub token: Option<Secret>,
    pub tls: Option<tls::Config>,
    /// Names and addresses that a request may give as its host, besides those that the listener has.
    pub hosts: Vec<String>,
    /// The proxies whose headers tell who asks, for the log of commands. It opens nothing.
    pub trusted_proxies: Vec<IpNet>,
}

/// The token and the host names that let a request in; a client certificate is asked for by TLS.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub token: Option<Secret>,
    pub hosts: Arc<[String]>,
    pub addresses: server::Addresses,
}

/// The parts of the relay that the API reads and commands.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub recorder: Recorder,
    /// Replays refused payloads.
    pub ingest: Ingest,
    pub journal: JournalView,
    pub metrics: Arc<Metrics>,
    /// The certificates of listeners, by the section that configures them.
    pub certificates: Vec<(&'static str, Arc<tls::Served>)>,
    /// The files of certificates in use that are gone.
    pub missing_files: watch::Receiver<Vec<MissingFile>>,
    /// The secret files that can't be read.
    pub unreadable_secrets: watch::Receiver<Vec<UnreadableSecret>>,
    pub upstream_status: watch::Receiver<UpstreamStatus>,
    /// Events that fail for long while others are taken.
    pub stuck: watch::Receiver<Stuck>,
    /// Until when the queue is sent, and the calls that failed.
    pub progress: watch::Receiver<DeliveryProgress>,
    /// Ends and holds what waits.
    pub queue: QueueHandle,
    /// Taken for each change of what is held back.
    pub hold_lock: Arc<Mutex<()>>,
    pub reload: watch::Receiver<Reload>,
    /// Callgoose's filters beside the configuration, as they are loaded now.
    pub filters: watch::Receiver<FiltersBeside>,
    /// Where senders are listened to.
    pub listen: SocketAddr,
    /// They come through a load balancer, and not otherwise.
    pub proxy_protocol: bool,
    /// None while the self check is off.
    pub self_check: watch::Receiver<Option<self_check::Report>>,
    pub sources: Vec<String>,
    /// The sources as they are configured, for those who connect their senders.
    pub entries: Vec<SourceEntry>,
    pub upstream: Arc<Upstream>,
    pub upstream_proxy: Option<ShownProxy>,
    pub started: Instant,
}

/// The proxy on the way to the upstream.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShownProxy {
    /// Without credentials.
    pub url: String,
    /// The key or the environment variable that names it.
    pub named_by: String,
}

/// The state that every request's handler gets.
#[derive(Clone, Debug)]
struct State {
    view: View,
    bound: SocketAddr,
    access: Access,
    /// Browsers that showed the token.
    sessions: Arc<Sessions>,
    is_tls: bool,
    history: Arc<History>,
    /// Places of pages that are kept up to date.
    followers: Arc<Semaphore>,
    /// Places of requests that wait for a change of an event.
    event_waiters: Arc<Semaphore>,
    /// Ends what would go on for as long as its client wishes.
    shutdown: Shutdown,
}

/// The API as a service of the server.
struct Api {
    router: Router,
    state: State,
    /// Places of requests beside probes. A request has its place until its answer has been handed over.
    places: Arc<Semaphore>,
    /// Places of their own for those who did not show what lets them in.
    strangers: Arc<Semaphore>,
}

/// Serves `socket`, which the caller bound, until `shutdown` begins.
pub(crate) async fn serve(
    socket: TcpListener,
    tls: Option<Arc<tls::Served>>,
    access: Access,
    view: View,
    shutdown: Shutdown,
) {
    let Ok(bound) = socket.local_addr() else {
        return;
    };
    let sessions = Arc::new(Sessions::new());
    let is_tls = tls.is_some();
    let addresses = access.addresses.clone();
    let (history, seen, stop) = (Arc::new(History::default()), view.clone(), shutdown.clone());
    let state = State {
        view,
        bound,
        access,
        sessions,
        is_tls,
        history: Arc::clone(&history),
        followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        event_waiters: Arc::new(Semaphore::new(WAITERS_MAX)),
        shutdown: shutdown.clone(),
    };
    let observer = Observer::of_operators(Arc::clone(&state.view.metrics));
    let api = Arc::new(Api {
        router: router(state.clone()),
        state,
        places: Arc::new(Semaphore::new(REQUESTS_MAX)),
        strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
    });
    let served = server::serve(socket, tls, addresses, LIMITS, api, observer, shutdown);
    tokio::join!(served, history.follow(&seen, &stop));
}

impl Service for Api {
    fn answer(self: Arc<Self>, mut request: Request<RequestBody>, peer: Peer) -> Answering {
        let is_probe = guard::PROBES.contains(&request.uri().path());
        let places = if guard::is_let_in(&self.state, &request, &peer) { &self.places } else { &self.strangers };
        let place = if is_probe { None } else { Arc::clone(places).try_acquire_owned().ok() };
        if place.is_none() && !is_probe {
            let full = problem::document(StatusCode::SERVICE_UNAVAILABLE, NO_PLACE, &[]);
            return Box::pin(async move { full.map(AnswerBody::from) });
        }
        request.extensions_mut().insert(peer);
        let answer = TowerToHyperService::new(self.router.clone()).call(request);
        Box::pin(async move {
            let Ok(response) = answer.await;
            let (head, body) = response.into_parts();
            let body = match body.size_hint().exact() {
                // It is whole already: this neither waits nor fails.
                Some(_) => axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default().into(),
                None => AnswerBody::Streamed(with_place(body, place).boxed_unsync()),
            };
            http::Response::from_parts(head, body)
        })
    }

    fn refuse(&self, head: BadHead, _: Peer) -> http::Response<Bytes> {
        problem::document(head.status(), head.detail(), &[])
    }
}

/// Keeps the place of a request until its streamed answer has ended.
fn with_place(
    body: axum::body::Body,
    place: Option<OwnedSemaphorePermit>,
) -> impl Body<Data = Bytes, Error = BoxError> {
    body.map_frame(move |frame| {
        let _ = &place;
        frame
    })
    .map_err(Into::into)
}

fn router(state: State) -> Router {
    let api = Router::new()
        .route("/api/v1/events/{id}/replay", post(commands::replay))
        .route("/api/v1/events/{id}/discard", post(commands::discard))
        .route("/api/v1/events/replay", post(commands::replay_selected))
        .route("/api/v1/events/discard", post(commands::discard_selected))
        .route("/api/v1/events/hold", post(holds::hold))
        .route("/api/v1/events/release", post(holds::release))
        .route("/api/v1/holds", get(holds::list))
        .route("/api/v1/incidents", get(confirmations::incidents))
        .route("/api/v1/dedup", post(dedup::preview))
        .route("/api/v1/status", get(status::status))
        .route_layer(middleware::from_fn(api::without_query))
        .route("/metrics", get(metrics::scrape))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/commands", get(api::commands))
        .route("/api/v1/confirmations", get(confirmations::confirmations))
        .route("/api/v1/events/{id}", get(event_changes::event))
        .route("/api/v1/queue", get(queue::queue))
        .route("/api/v1/stream", get(stream::stream))
        .route_layer(middleware::from_fn_with_state(state.clone(), guard::authenticated));
    Router::new()
        .route("/healthz", get(api::health))
        .route("/readyz", get(api::ready))
        .merge(page::routes(&state))
        .merge(api)
        .fallback(api::unknown)
        .method_not_allowed_fallback(api::wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), guard::same_site))
        .layer(middleware::from_fn_with_state(state.clone(), guard::attempts))
        .with_state(state)
}

/// Requests of strangers that are answered at once: the sign-in page with its parts, and refusals.
const STRANGERS_MAX: usize = 8;
/// Requests beside probes that are answered at once. The other connections have none in flight, and the one of them that
/// achieved nothing for longest gives way to a new one: a probe always gets through.
const REQUESTS_MAX: usize = LIMITS.connections_max - PROBES_RESERVED - STRANGERS_MAX;
/// More than probe at once, with such as have only just connected.
const PROBES_RESERVED: usize = 32;
const NO_PLACE: &str = "too many requests are being answered here, and the rest is for probes: ask again in a while";

const LIMITS: Limits = Limits {
    // Scrapers, probes and a few people.
    connections_max: 128,
    connections_of_address_max: None,
    // Whoever asks here is near, and has its request ready.
    header_timeout: Duration::from_secs(5),
    // Longer than scrapes are usually apart, so that they keep their connection.
    idle_timeout: Duration::from_secs(75),
    // Lists and payloads may be read by a person, page by page.
    write_timeout: Duration::from_secs(300),
    // For a command under way; whoever only looks need not be waited for.
    drain_timeout: Duration::from_secs(5),
    connection_age_max: Duration::from_secs(3_600),
};
