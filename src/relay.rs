//! The composition of the relay: starts and stops all parts in order.

mod certificates;
mod confine;
mod reload;
mod search_index;
mod secrets;
mod self_check;
pub(crate) mod systemd;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::admin;
use crate::admin::Reload;
use crate::advice::connect::SourceEntry;
use crate::callgoose::filters::FiltersBeside;
use crate::clock::{Clock, Now, WallTime};
use crate::config::{Config, Inputs, SelfCheckSection, Snapshot};
use crate::delivery::client::Upstream;
use crate::delivery::connector::Route;
use crate::delivery::dispatcher::{self, Dispatcher, RecentTriggers};
use crate::delivery::retry;
use crate::delivery::schedule::Schedule;
use crate::inbound::{BodyLimits, ConfirmationSource, Ingest, SourceConfig};
use crate::inherited::Sockets;
use crate::journal::recorder::{Committed, Recorder, RecorderParts, RecorderThread};
use crate::journal::{self, Lock, OpenError, Reader, Readers};
use crate::metrics::Metrics;
use crate::server;
use crate::shutdown::{DRAIN, Shutdown};
use crate::supervision::panicked;
use crate::tls;
use crate::version::{COMMIT, VERSION};

use certificates::Certificates;
pub(crate) use confine::confine;
pub(crate) use confine::log as log_confinement;
pub(crate) use reload::Reloads;
use secrets::SecretWatch;
use self_check::SelfCheck;

/// A running relay. Dropped, it continues until its runtime ends; [`Running::stop`] stops it in order.
#[derive(Debug)]
pub struct Running {
    /// The address for senders, with the actual port if port 0 was configured.
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    shutdown: Shutdown,
    listener: JoinHandle<()>,
    admin_listener: JoinHandle<()>,
    dispatcher: JoinHandle<()>,
    recorder: Recorder,
    /// Resolves when the recorder's thread has ended.
    recorder_end: oneshot::Receiver<()>,
    in_force: reload::InForce,
}

/// The reason why the relay can't start: one sentence that says what to fix.
#[derive(Debug)]
pub enum StartError {
    Bind { key: &'static str, address: SocketAddr, error: std::io::Error },
    Tls(tls::Error),
    Journal(OpenError),
    Thread(std::io::Error),
}

/// The handles that the parts share.
struct Shared {
    clock: Clock,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    upstream: Arc<Upstream>,
    /// Tells the dispatcher that a paused delivery may succeed now.
    resume: Arc<Notify>,
}

/// Starts all parts; returns when events are accepted. After an error nothing is left running.
///
/// `sockets` are used in place of new ones at the configured addresses.
pub async fn start(config: Config, sockets: Sockets) -> Result<Running, StartError> {
    let started = Instant::now();
    let (listen_socket, listen) = bind("listen.address", config.listen.address, sockets.listen).await?;
    let (admin_socket, admin) = bind("admin.address", config.admin.address, sockets.admin).await?;
    let lock = Lock::take(&config.journal.data_dir).map_err(StartError::Journal)?;
    let readers = lock.readers();
    let record = tls::Record::in_directory(&config.journal.data_dir);
    let [listen_tls, admin_tls] = [&config.listen.tls, &config.admin.tls]
        .map(|config| config.as_ref().map(|config| server_tls(config, &record)).transpose());
    let (listen_tls, admin_tls) = (listen_tls?, admin_tls?);
    let certificates: Vec<_> = [("listen", &listen_tls), ("admin", &admin_tls)]
        .into_iter()
        .filter_map(|(section, tls)| Some((section, Arc::clone(tls.as_ref()?))))
        .collect();
    let shared = Shared::new(&config)?;
    let watch = Certificates::new(certificates.clone(), Arc::clone(&shared.upstream), shared.clock.now().wall);

    let opened = shared.open_journal(&config, lock).await?;
    let (waiting, recorder) = (opened.schedule.len(), opened.recorder);
    let searcher = shared.open_search(&readers, &config.journal.data_dir, &recorder)?;
    let reader = open_reader(&readers, &config.journal.data_dir)?;
    let (dispatcher, watched) = shared.deliver(&config, &recorder, reader, opened.schedule, opened.committed).await;

    let sources = config.sources.iter().map(|source| source.name.to_string()).collect();
    let entries = config.sources.iter().map(source_entry).chain(config.confirmations.iter().map(confirmation_entry));
    let (entries, upstream_proxy) = (entries.collect(), shown_proxy(&config.upstream.way.route));
    let ingest = shared.ingest(config.sources, config.confirmations, config.listen.bodies, &recorder);
    let served = certificates.iter().map(|(_, served)| Arc::clone(served)).collect();
    let in_force = shared.in_force(&ingest, (served, record), config.filters, config.self_check);
    let report = watch::Sender::new(None);
    let secrets = SecretWatch::new(config.secret_files, Arc::clone(&shared.metrics));
    let view = admin::View {
        recorder: recorder.clone(),
        ingest: ingest.clone(),
        journal: admin::JournalView::new(searcher),
        metrics: Arc::clone(&shared.metrics),
        certificates,
        missing_files: watch.missing(),
        unreadable_secrets: secrets.unreadable(),
        upstream_status: watched.upstream_status,
        stuck: watched.stuck,
        progress: watched.progress,
        queue: watched.queue,
        hold_lock: Arc::default(),
        reload: in_force.state.subscribe(),
        filters: in_force.filters.subscribe(),
        listen,
        proxy_protocol: config.listen.addresses.proxy_protocol,
        self_check: report.subscribe(),
        sources,
        entries,
        upstream: Arc::clone(&shared.upstream),
        upstream_proxy: upstream_proxy.clone(),
        started,
    };
    let (metrics, shutdown) = (|| Arc::clone(&shared.metrics), || shared.shutdown.clone());
    SelfCheck { ingest: ingest.clone(), metrics: metrics(), clock: shared.clock, report, shutdown: shutdown() }
        .start(in_force.self_check.subscribe());
    let limits = (config.listen.addresses, config.listen.limits);
    let listener = tokio::spawn(serve_senders(listen_socket, listen_tls, limits, ingest, metrics(), shutdown()));
    let admin_listener = tokio::spawn(serve_admin(admin_socket, admin_tls, access(config.admin), view, shutdown()));
    secrets.start(Arc::clone(&shared.resume), shutdown());
    watch.start(shutdown());
    shared.tell_start(listen, admin, upstream_proxy, waiting);
    let (shutdown, recorder_end) = (shared.shutdown, opened.recorder_end);
    Ok(Running { listen, admin, shutdown, listener, admin_listener, dispatcher, recorder, recorder_end, in_force })
}

impl Shared {
    fn new(config: &Config) -> Result<Shared, StartError> {
        let from = config.sources.iter().map(|source| (Arc::clone(&source.name), source.from.clone()));
        let upstream = Arc::new(Upstream::new(config.upstream.clone(), from).map_err(StartError::Tls)?);
        let (metrics, resume) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
        Ok(Shared { clock: Clock::start(), shutdown: Shutdown::new(), metrics, upstream, resume })
    }

    /// Opens the journal, fills the schedule with what waits in it, and starts the recorder.
    async fn open_journal(&self, config: &Config, lock: Lock) -> Result<Opened, StartError> {
        let clock = self.clock;
        let (commits_sender, committed) = mpsc::channel(COMMITS_MAX);
        let parts = RecorderParts {
            journal: config.journal.clone(),
            lock,
            dedup: config.dedup,
            superseded: config.dispatch.superseded,
            clock,
            metrics: Arc::clone(&self.metrics),
            committed: commits_sender,
        };
        let (mut schedule, retry) = (Schedule::new(config.dispatch.limits()), config.dispatch.retry);
        let (recorder, thread, schedule) = blocking(move || {
            let now = clock.now();
            let (recorder, thread) = RecorderThread::open(parts, |event, tried| {
                dispatcher::restore(&mut schedule, &event, tried, retry, now);
            })?;
            dispatcher::restore_holds(&mut schedule, &recorder.holds(), recorder.sources(), now);
            Ok((recorder, thread, schedule))
        })
        .await
        .map_err(StartError::Journal)?;
        Ok(Opened { recorder, recorder_end: run_recorder(thread)?, schedule, committed })
    }

    /// A reader that searches with the index, which is kept up to date from now on.
    fn open_search(
        &self,
        readers: &Arc<Readers>,
        data_dir: &Path,
        recorder: &Recorder,
    ) -> Result<Arc<Reader>, StartError> {
        let unreadable = |error| unreadable(data_dir, &error);
        let searcher = Reader::beside(readers).map_err(unreadable)?;
        let Some(index) = searcher.search_index().map_err(unreadable)?.map(Arc::new) else {
            return Ok(Arc::new(searcher));
        };
        let searcher = Arc::new(searcher.searching_in(Arc::clone(&index)));
        let (reader, recorder, shutdown) = (open_reader(readers, data_dir)?, recorder.clone(), self.shutdown.clone());
        search_index::Feeder { reader, index, recorder, shutdown }.start();
        Ok(searcher)
    }

    /// Starts the dispatcher over what waits.
    async fn deliver(
        &self,
        config: &Config,
        recorder: &Recorder,
        reader: Arc<Reader>,
        schedule: Schedule,
        committed: mpsc::Receiver<Committed>,
    ) -> (JoinHandle<()>, dispatcher::Watched) {
        let recent_triggers = recent_triggers(&reader, config.dispatch.retry, self.clock.now()).await;
        let (dispatcher, watched) = Dispatcher::new(dispatcher::Parts {
            config: config.dispatch,
            upstream: Arc::clone(&self.upstream),
            recorder: recorder.clone(),
            reader,
            clock: self.clock,
            metrics: Arc::clone(&self.metrics),
            schedule,
            recent_triggers,
            committed,
            resume: Arc::clone(&self.resume),
        });
        (tokio::spawn(dispatcher.run(self.shutdown.clone(), DRAIN)), watched)
    }

    fn ingest(
        &self,
        sources: Vec<SourceConfig>,
        confirmations: Vec<ConfirmationSource>,
        bodies: BodyLimits,
        recorder: &Recorder,
    ) -> Ingest {
        let (metrics, shutdown) = (Arc::clone(&self.metrics), self.shutdown.clone());
        Ingest::new(sources, confirmations, bodies, recorder.clone(), metrics, self.clock, shutdown)
    }

    /// The parts that a reload exchanges, as the start has them.
    fn in_force(
        &self,
        ingest: &Ingest,
        (served, record): (Vec<Arc<tls::Served>>, tls::Record),
        filters: FiltersBeside,
        self_check: Option<SelfCheckSection>,
    ) -> reload::InForce {
        let now = self.clock.now().wall;
        self.metrics.configured(now);
        reload::InForce {
            ingest: ingest.clone(),
            served,
            record,
            upstream: Arc::clone(&self.upstream),
            resume: Arc::clone(&self.resume),
            metrics: Arc::clone(&self.metrics),
            filters: watch::Sender::new(filters),
            state: watch::Sender::new(Reload::started(now)),
            self_check: watch::Sender::new(self_check.map(|section| section.settings)),
            shutdown: self.shutdown.clone(),
        }
    }

    /// Logs that events are taken, where, and how they go on.
    fn tell_start(&self, listen: SocketAddr, admin: SocketAddr, proxy: Option<admin::ShownProxy>, waiting: usize) {
        if let Some(admin::ShownProxy { url, named_by }) = proxy {
            tracing::info!(proxy = url, named_by, "deliveries go through a proxy");
        }
        let upstream = self.upstream.shown_url();
        tracing::info!(version = VERSION, commit = COMMIT, %listen, %admin, upstream, waiting, "gander takes events");
    }
}

impl Running {
    /// Starts reloads, on request and when a file of the start's `snapshot` changes. `lacking`: the reasons why the
    /// start ran without some shadow rules, which counts as a failed reload.
    pub fn reload(&self, inputs: Inputs, snapshot: Snapshot, lacking: Vec<String>) -> Reloads {
        Reloads::start(inputs, snapshot, lacking, self.in_force.clone())
    }

    /// A handle of the recorder. It ends when all of them are dropped.
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// The result of the last reload.
    pub fn reload_state(&self) -> watch::Receiver<Reload> {
        self.in_force.state.subscribe()
    }

    /// Returns the name of an essential part that has ended by itself: a fault of this program.
    pub async fn failed(&mut self) -> &'static str {
        tokio::select! {
            _ = &mut self.recorder_end => "the recorder ended",
            _ = &mut self.dispatcher => "the dispatcher ended",
            _ = &mut self.listener => "the listener ended",
        }
    }

    /// Stops in order: no new connections, current requests answered, current calls finished or left queued, everything
    /// synced. Returns true if that was done within the limit; nothing is lost either way.
    pub async fn stop(self) -> bool {
        let Running { shutdown, listener, admin_listener, dispatcher, recorder, recorder_end, in_force, .. } = self;
        // The recorder ends when all its handles are dropped.
        drop((in_force, recorder));
        tracing::info!("stopping: finishing requests and calls under way");
        shutdown.begin();
        let ended = tokio::time::timeout(LIMIT, async {
            let _ = tokio::join!(listener, admin_listener, dispatcher);
            let _ = recorder_end.await;
        })
        .await
        .is_ok();
        if ended {
            tracing::info!("stopped");
        } else {
            tracing::warn!("stopped at the limit; what was not delivered is still queued on disk");
        }
        ended
    }
}

/// The recorder's handle, the end of its thread, and what it hands to the dispatcher.
struct Opened {
    recorder: Recorder,
    recorder_end: oneshot::Receiver<()>,
    schedule: Schedule,
    committed: mpsc::Receiver<Committed>,
}

/// Takes requests of senders until the stop, and waits for those that are under way.
async fn serve_senders(
    socket: TcpListener,
    tls: Option<Arc<tls::Served>>,
    (addresses, limits): (server::Addresses, server::Limits),
    ingest: Ingest,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) {
    let (service, observer) = (Arc::new(ingest.clone()), server::Observer::of_senders(metrics));
    server::serve(socket, tls, addresses, limits, service, observer, shutdown).await;
    ingest.finished().await;
}

/// The proxy of deliveries, as the admin API shows it.
fn shown_proxy(route: &Route) -> Option<admin::ShownProxy> {
    match route {
        Route::Direct => None,
        Route::Through(proxy) => Some(admin::ShownProxy { url: proxy.to_string(), named_by: proxy.named_by.clone() }),
    }
}

/// A source as the page shows it to those who connect its sender, without its secrets.
fn source_entry(source: &SourceConfig) -> SourceEntry {
    let allow_from = source.allow_from.iter().map(ToString::to_string).collect();
    SourceEntry::new(&source.name, source.from.as_deref(), &source.auth, source.accept.form, allow_from)
}

/// A source of confirmations, likewise.
fn confirmation_entry(source: &ConfirmationSource) -> SourceEntry {
    let allow_from = source.allow_from.iter().map(ToString::to_string).collect();
    SourceEntry::new(&source.name, None, &source.auth, source.accept.form, allow_from).of_confirmations()
}

/// Listens with a queue in the kernel that bears a storm of new connections: where it overflows, a peer tries again only
/// after a second, then three, then seven.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As after a restart, where connections of before are still in the kernel's books.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes a socket that the service manager bound. What the configuration was checked for is its own address.
fn inherited(socket: std::net::TcpListener, configured: SocketAddr) -> std::io::Result<TcpListener> {
    let bound = socket.local_addr()?;
    if bound.ip() != configured.ip() || ![0, bound.port()].contains(&configured.port()) {
        return Err(std::io::Error::other(format!("the service manager bound {bound} for it: write the same in both")));
    }
    TcpListener::from_std(socket)
}

/// The ways in which the admin listener lets requests in.
fn access(config: admin::Config) -> admin::Access {
    admin::Access {
        token: config.token,
        hosts: config.hosts.into(),
        addresses: server::Addresses { trusted_proxies: config.trusted_proxies, proxy_protocol: false },
    }
}

/// Binds a socket, unless it is bound; returns its address, too, with the actual port.
async fn bind(
    key: &'static str,
    address: SocketAddr,
    bound: Option<std::net::TcpListener>,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Bind { key, address, error };
    let socket = match bound {
        Some(bound) => inherited(bound, address).map_err(failed)?,
        None => listen(address).map_err(failed)?,
    };
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// Loads the configured certificates, and makes the first before if it is missing and that is allowed.
fn server_tls(config: &tls::Config, record: &tls::Record) -> Result<Arc<tls::Served>, StartError> {
    let now = WallTime::now();
    let made = tls::make_pair(config, record, now).map_err(StartError::Tls)?;
    if let Some(made) = &made {
        tracing::warn!(
            certificate = %config.certificate.display(), sha256 = made.fingerprint, names = made.names.join(", "),
            "made a self-signed certificate; senders must be told to trust it, or given a better one"
        );
    }
    let (served, warnings) = tls::Served::load(config.clone(), now).map_err(StartError::Tls)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    served.remember(record);
    let lacking = served.lacks_names();
    if !lacking.is_empty() {
        tracing::warn!(
            certificate = %config.certificate.display(), names = lacking.join(", "),
            "the certificate is not for all of `names`, and is left as it is: it was not made by this relay"
        );
    }
    Ok(Arc::new(served))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(OpenError { path: PathBuf::new(), problem: "opening the journal failed".to_owned(), remedy: "see the log" })
    })
}

/// Serves the admin API, again and again should its listener fail: events are taken all the same.
async fn serve_admin(
    socket: TcpListener,
    tls: Option<Arc<tls::Served>>,
    access: admin::Access,
    view: admin::View,
    shutdown: Shutdown,
) {
    let Ok(socket) = socket.into_std() else { return };
    loop {
        let listener = match socket.try_clone().and_then(TcpListener::from_std) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the admin listener is gone: restart the relay to have it back");
                return;
            }
        };
        let serve = admin::serve(listener, tls.clone(), access.clone(), view.clone(), shutdown.clone());
        if !panicked("admin", serve).await {
            return;
        }
    }
}

/// The keys that were triggered shortly before this start. Without them an early resolve is not sent again, which is no
/// reason not to start.
async fn recent_triggers(reader: &Arc<Reader>, retry: retry::Settings, now: Now) -> RecentTriggers {
    let reader = Arc::clone(reader);
    let read = tokio::task::spawn_blocking(move || dispatcher::recent_triggers(&reader, retry, now));
    match read.await {
        Ok(Ok(recent)) => return recent,
        Ok(Err(error)) => tracing::warn!(%error, "the deliveries of the last minutes can't be read from the journal"),
        Err(_) => {}
    }
    RecentTriggers::new(retry.unresolved.over)
}

fn open_reader(readers: &Arc<Readers>, data_dir: &Path) -> Result<Arc<Reader>, StartError> {
    Reader::beside(readers).map(Arc::new).map_err(|error| unreadable(data_dir, &error))
}

fn unreadable(data_dir: &Path, error: &journal::Error) -> StartError {
    let remedy = "check the owner and the permissions of `data_dir`";
    StartError::Journal(OpenError { path: data_dir.to_owned(), problem: error.to_string(), remedy })
}

/// Runs the recorder on a thread of its own, since a sync blocks; the receiver resolves when it has ended.
fn run_recorder(thread: RecorderThread) -> Result<oneshot::Receiver<()>, StartError> {
    let runtime = tokio::runtime::Handle::current();
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("recorder".to_owned())
        .spawn(move || {
            // Dropped even if the thread panics.
            let _ended = ended;
            thread.run(&runtime);
        })
        .map_err(StartError::Thread)?;
    Ok(end)
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { key, address, error } => {
                write!(f, "{key}: can't listen on {address}: {error}; {}", bind_remedy(error.kind()))
            }
            StartError::Tls(error) => error.fmt(f),
            StartError::Journal(error) => write!(f, "data_dir: {error}"),
            StartError::Thread(error) => write!(f, "can't start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Advice on an address that can't be listened on.
pub(crate) fn bind_remedy(kind: std::io::ErrorKind) -> &'static str {
    match kind {
        std::io::ErrorKind::AddrInUse => "another process listens there: stop it, or choose another port",
        std::io::ErrorKind::PermissionDenied => "choose a port above 1023, or allow this user to bind it",
        _ => "choose an address of this machine",
    }
}

/// The kernel takes less where net.core.somaxconn is less.
const BACKLOG: u32 = 4_096;
/// Group commits waiting for the dispatcher, which handles one in microseconds.
const COMMITS_MAX: usize = 4;
/// The limit for a stop without the log, whose last lines may take two seconds more: orchestrators usually grant
/// thirty.
const LIMIT: Duration = Duration::from_secs(23);
