//! One HTTP server for every listener: sockets, TLS, HTTP/1.1 and HTTP/2, and the limits that hold before a byte is
//! believed.
//!
//! It knows nothing of what is asked: each request goes to the listener's [`Service`] with the [`Peer`] that sent it. What
//! can be read in two ways never gets there ([`BadHead`]).

mod addresses;
mod attempt_log;
mod connection;
mod connection_table;
mod deadlines;
mod failed_attempts;
mod forwarded;
mod framing;
mod observer;
mod plain_http;
mod proxy_header;
mod proxy_protocol;
mod request_body;
mod retirement;
mod service;
mod shares;
mod slow_answers;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::shutdown::Shutdown;
use crate::tls;

use connection::{End, Server};
use connection_table::{ConnectionTable, Room, Slot};
use slow_answers::SlowAnswers;

pub(crate) use addresses::Doubt;
pub use addresses::{Addresses, Origin};
pub use observer::Observer;
pub use proxy_header::{LOCAL as LOCAL_PROXY_HEADER, Progress, parse as parse_proxy_header};
pub use request_body::RequestBody;
pub(crate) use service::ClientCertificate;
pub use service::{AnswerBody, Answering, BadHead, BoxError, Peer, Service};
pub(crate) use service::{Authenticated, FailedAttempt};
pub(crate) use shares::Holder;

/// The number of connections that a listener serves, and the time that each may take for each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open at once.
    pub connections_max: usize,
    /// Open at once from one address; none: as many as there is room for, and where there is none who has most gives way.
    pub connections_of_address_max: Option<usize>,
    /// For the TLS handshake, for the first head to begin, and for each head to end.
    pub header_timeout: Duration,
    /// For nothing at all between two requests.
    pub idle_timeout: Duration,
    /// For the peer to take more bytes of an answer.
    pub write_timeout: Duration,
    /// For the requests in flight when the stop is told.
    pub drain_timeout: Duration,
    /// The age at which a connection is ended in good order, a tenth more or less.
    pub connection_age_max: Duration,
}

/// Serves `socket`, which the caller bound, until `shutdown` begins; then finishes the requests in flight and returns.
///
/// Without `tls` it speaks plain HTTP/1.1. `addresses` tells which proxies stand before it.
pub async fn serve(
    socket: TcpListener,
    tls: Option<Arc<tls::Served>>,
    addresses: Addresses,
    limits: Limits,
    service: Arc<dyn Service>,
    observer: Observer,
    shutdown: Shutdown,
) {
    let (tasks, observer) = (TaskTracker::new(), Arc::new(observer));
    let slow_answers = SlowAnswers::new(observer.attempts(), shutdown.clone());
    let mut accepting = Accepting {
        table: Table::new(ConnectionTable::new(affordable(limits.connections_max, &observer), limits)),
        server: Arc::new(Server::new(tls, addresses, limits, service, slow_answers, tasks.clone(), shutdown.clone())),
        waiting: Vec::new(),
        full: None,
        observer,
        tasks: tasks.clone(),
    };
    tokio::select! {
        () = accepting.run(&socket) => {}
        () = shutdown.begun() => {}
    }
    accepting.take_the_last(socket);
    tasks.close();
    if tokio::time::timeout(limits.drain_timeout, tasks.wait()).await.is_err() {
        accepting.observer.drain_timed_out(tasks.len());
        accepting.table.lock().close_all();
        tasks.wait().await;
    }
}

/// As many connections as are wished for, or as there are file descriptors left for beside the journal's and the
/// upstream's: a flood of senders must not keep events from being written and delivered.
fn affordable(wished: usize, observer: &Observer) -> usize {
    let open_files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    let Some(open_files) = open_files else {
        return wished;
    };
    let affordable = open_files.saturating_sub(OTHER_FILES).max(open_files / 2);
    if affordable < wished {
        observer.limit_lowered(wished, affordable, open_files);
    }
    affordable.min(wished)
}

/// The accept loop.
struct Accepting {
    server: Arc<Server>,
    table: Table,
    /// Connections that wait for a slot, in the order in which they came.
    waiting: Vec<Newcomer>,
    /// When the limit was last met.
    full: Option<Instant>,
    observer: Arc<Observer>,
    tasks: TaskTracker,
}

/// The table, which a connection needs too, once the PROXY protocol told whose it is.
#[derive(Clone)]
struct Table(Arc<Mutex<ConnectionTable>>);

/// A connection that has no slot yet.
struct Newcomer {
    stream: TcpStream,
    address: SocketAddr,
    holder: Option<Holder>,
}

impl Accepting {
    async fn run(&mut self, socket: &TcpListener) {
        let mut failing = None;
        loop {
            // Also while some wait for a slot: one that comes later may hold less, and goes first. But who gave way ends
            // as soon as its task runs, within milliseconds and whatever its peer does, which the kernel's queue bears.
            // Each slot that comes free is one of the waiting less, so that the next is taken from that queue.
            let is_room_due = self.waiting.len() >= WAITING_MAX && self.table.lock().is_closing();
            let freed = self.table.lock().freed();
            let accepted = tokio::select! {
                biased;
                () = freed, if !self.waiting.is_empty() => None,
                accepted = socket.accept(), if !is_room_due => Some(accepted),
                () = tokio::time::sleep(LOOK_AGAIN), if !self.waiting.is_empty() => None,
            };
            match accepted {
                Some(Ok((stream, address))) => {
                    if failing.take().is_some() {
                        self.observer.accepts_again();
                    }
                    let holder = self.server.addresses.holder_of_socket(address.ip());
                    self.arrive(Newcomer { stream, address, holder });
                }
                // The peer went away before we came to it.
                Some(Err(error)) if is_about_one_connection(&error) => {}
                Some(Err(error)) => {
                    if failing.replace(error.kind()) != Some(error.kind()) {
                        self.observer.accept_failed(&error);
                    }
                    self.observer.refused("accept");
                    self.evict(None, 1);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => {}
            }
            self.admit();
        }
    }

    /// Takes the connections that the kernel made already, whose peers would see them cut, and no more.
    fn take_the_last(&mut self, socket: TcpListener) {
        self.fill_slots();
        // Of the standard library's kind, so that it is closed at the very moment that none is left.
        let Ok(socket) = socket.into_std() else {
            return;
        };
        while let Ok((stream, address)) = socket.accept()
            && let Some(slot) = self.take(self.server.addresses.holder_of_socket(address.ip()))
        {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.serve(slot, stream, address);
            }
        }
    }

    /// Puts a newcomer among those that wait, unless its address has all that it may have and all of that is of use.
    fn arrive(&mut self, newcomer: Newcomer) {
        let waiting = self.waiting.iter().filter(|other| other.holder == newcomer.holder).count();
        if self.table.make_room(newcomer.holder, waiting, &self.observer) {
            self.waiting.push(newcomer);
        }
    }

    /// Serves those that wait, as far as there are slots, and makes room for the others.
    fn admit(&mut self) {
        self.fill_slots();
        let Some(next) = self.next() else { return };
        if self.full.replace(Instant::now()).is_none_or(|last| last.elapsed() > CALM) {
            self.observer.full();
        }
        self.evict(self.waiting[next].holder, self.waiting.len());
        if self.waiting.len() > WAITING_MAX
            && !self.table.lock().is_closing()
            && let Some(most) = (0..self.waiting.len()).max_by_key(|at| (self.holds(*at), *at))
        {
            self.waiting.remove(most);
            self.observer.refused("no_room");
        }
    }

    fn fill_slots(&mut self) {
        while let Some(next) = self.next()
            && let Some(slot) = self.take(self.waiting[next].holder)
        {
            let Newcomer { stream, address, .. } = self.waiting.remove(next);
            self.serve(slot, stream, address);
        }
    }

    fn take(&self, holder: Option<Holder>) -> Option<Slot> {
        self.table.lock().take(holder)
    }

    /// The place of the newcomer that is next: the first of the address that holds least.
    fn next(&self) -> Option<usize> {
        let table = self.table.lock();
        (0..self.waiting.len()).min_by_key(|at| (table.count(self.waiting[*at].holder), *at))
    }

    /// The connections of a newcomer's address, and its newcomers.
    fn holds(&self, at: usize) -> usize {
        let holder = self.waiting[at].holder;
        let waiting = self.waiting.iter().filter(|other| other.holder == holder && holder.is_some()).count();
        self.table.lock().count(holder) + waiting
    }

    fn evict(&mut self, newcomer: Option<Holder>, wanted: usize) {
        let evicted = self.table.lock().evict(newcomer, wanted);
        for _ in 0..evicted {
            self.observer.refused("evicted");
        }
    }

    fn serve(&self, slot: Slot, mut stream: TcpStream, address: SocketAddr) {
        // Answers are one small write: waiting for more to send would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY");
        }
        let (server, table) = (Arc::clone(&self.server), self.table.clone());
        let (observer, open) = (Arc::clone(&self.observer), self.observer.opened());
        self.tasks.spawn(async move {
            let mut peer = address.ip();
            let served = async {
                let origin = match server.origin(&mut stream, peer).await {
                    Ok(origin) => origin,
                    Err(end) => return end,
                };
                peer = origin.address;
                if let Some(holder) = server.addresses.holder(peer)
                    && !table.count_for(&slot, holder, &observer)
                {
                    return End::Closed;
                }
                server.serve(stream, origin, &slot).await
            };
            let end = slot.close.run_until_cancelled(served).await.unwrap_or(End::Closed);
            observer.ended(&end, peer);
            drop((slot, open));
        });
    }
}

impl Table {
    fn new(table: ConnectionTable) -> Table {
        Table(Arc::new(Mutex::new(table)))
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        // A panic while it is held leaves one connection uncounted at worst.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection for whose it is, if that was not known before; false where its address may have no more.
    fn count_for(&self, slot: &Slot, holder: Holder, observer: &Observer) -> bool {
        if slot.is_counted() {
            return true;
        }
        let has_room = self.make_room(Some(holder), 0, observer);
        if has_room {
            self.lock().count_for(slot, holder);
        }
        has_room
    }

    /// Makes room for one more connection of an address, beside so many that wait for a slot; false where it may have no
    /// more and all that it has is of use.
    fn make_room(&self, holder: Option<Holder>, waiting: usize, observer: &Observer) -> bool {
        let room = self.lock().room_of(holder, waiting, Instant::now());
        match room {
            Room::Free => {}
            Room::Made => observer.refused("evicted"),
            Room::No => observer.refused("address_limit"),
        }
        room != Room::No
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The limit is logged again only after this long without meeting it.
const CALM: Duration = Duration::from_secs(60);

/// Connections that wait for a slot: they have a file descriptor each, and nothing else.
const WAITING_MAX: usize = 32;

/// While some wait: so long until a connection may have become one that gives way.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// While file descriptors or memory are short: long enough not to spin, short enough to be back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// File descriptors for the journal, the upstream, the administration and the runtime.
const OTHER_FILES: usize = 128;
