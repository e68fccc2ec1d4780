//! The operator's face: health, readiness, metrics and the journal's API.
//!
//! It reads snapshots and a read-only connection of its own; it never holds anything that an event waits for. It
//! listens apart from senders, on loopback unless a token is set.

mod api;
mod commands;
pub mod dedup;
mod guard;
mod holds;
mod problem;
mod readiness;
mod reload;
mod selection;
mod unseen;
mod withdraw;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::delivery::dispatcher::{Condition, QueueHandle, Stuck};
use crate::inbound::Ingest;
use crate::journal::recorder::Recorder;
use crate::journal::{self, Reader};
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::tls;

use problem::problem;
pub use reload::{Reload, ReloadFailure};

/// The `admin` section.
#[derive(Clone, Debug)]
pub struct Config {
    pub address: SocketAddr,
    pub token: Option<Secret>,
    pub tls: Option<tls::Config>,
}

/// What the operator's face looks at and commands.
#[derive(Clone, Debug)]
pub struct View {
    pub recorder: Recorder,
    /// Replays refused payloads.
    pub ingest: Ingest,
    /// A connection of its own: what a person looks at keeps no delivery waiting.
    pub reader: Arc<Reader>,
    pub metrics: Arc<Metrics>,
    pub condition: watch::Receiver<Condition>,
    /// Events that fail for long while others are taken.
    pub stuck: watch::Receiver<Stuck>,
    /// Ends and holds what waits.
    pub queue: QueueHandle,
    /// Taken for each change of what is held back.
    pub holding: Arc<Mutex<()>>,
    pub reload: watch::Receiver<Reload>,
    pub sources: Vec<String>,
    /// Without its query.
    pub upstream_url: String,
    pub started: Instant,
}

impl View {
    /// Reads from the journal, off the tasks that serve others.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, journal::Error> + Send + 'static,
    ) -> Result<T, Response> {
        let reader = Arc::clone(&self.reader);
        match tokio::task::spawn_blocking(move || read(&reader)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the journal can't be read for the admin API");
                Err(problem(StatusCode::SERVICE_UNAVAILABLE, "the journal can't be read now; see the log"))
            }
            Err(_) => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "reading the journal failed; see the log")),
        }
    }
}

/// How requests are let in.
#[derive(Debug)]
struct Door {
    bound: SocketAddr,
    token: Option<Secret>,
}

#[derive(Clone, Debug)]
struct State {
    view: View,
    door: Arc<Door>,
}

/// Serves until the stop is told. The caller bound the socket.
pub async fn serve(
    listener: &TcpListener,
    tls: Option<Arc<tls::Served>>,
    token: Option<Secret>,
    view: View,
    shutdown: Shutdown,
) {
    let Ok(bound) = listener.local_addr() else {
        return;
    };
    let router = router(State { view, door: Arc::new(Door { bound, token }) });
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.begun() => break,
            accepted = accept(listener, &connections) => accepted,
        };
        let Some((stream, place)) = accepted else {
            continue;
        };
        let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.current()));
        let (router, shutdown) = (router.clone(), shutdown.clone());
        tasks.spawn(async move {
            converse(stream, acceptor, router, shutdown).await;
            drop(place);
        });
    }
    tasks.close();
    let _ = tokio::time::timeout(GOODBYE, tasks.wait()).await;
}

fn router(state: State) -> Router {
    let api = Router::new()
        .route("/api/v1/events/{id}", get(api::event))
        .route("/api/v1/events/{id}/replay", post(commands::replay))
        .route("/api/v1/events/{id}/discard", post(commands::discard))
        .route("/api/v1/events/replay", post(commands::replay_selected))
        .route("/api/v1/events/discard", post(commands::discard_selected))
        .route("/api/v1/events/hold", post(holds::hold))
        .route("/api/v1/events/release", post(holds::release))
        .route("/api/v1/holds", get(holds::list))
        .route("/api/v1/incidents", get(api::incidents))
        .route("/api/v1/dedup", post(dedup::preview))
        .route("/api/v1/status", get(api::status))
        .route_layer(middleware::from_fn(api::without_query))
        .route("/metrics", get(api::metrics))
        .route("/api/v1/events", get(api::events))
        .route_layer(middleware::from_fn_with_state(state.clone(), guard::authenticated));
    Router::new()
        .route("/healthz", get(api::health))
        .route("/readyz", get(api::ready))
        .merge(api)
        .fallback(api::unknown)
        .method_not_allowed_fallback(api::wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), guard::same_site))
        .with_state(state)
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            // Out of file descriptors, for one: trying again at once would only burn the processor.
            tracing::warn!(error = %error, "the admin listener can't accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn converse(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router, shutdown: Shutdown) {
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => serve_connection(stream, router, shutdown).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                serve_connection(stream, router, shutdown).await;
            }
        }
    }
}

async fn serve_connection<S>(stream: S, router: Router, shutdown: Shutdown)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // An error here is a client that went away or spoke no HTTP; there is nobody to tell.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Scrapers, probes and a few people.
const CONNECTIONS_MAX: usize = 128;
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Also closes idle connections: the next request's header counts from the end of the answer before.
const HEADER: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const GOODBYE: Duration = Duration::from_secs(1);
