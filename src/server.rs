//! The public face: sockets, TLS, HTTP/1.1 and HTTP/2, and the limits that hold before a byte is believed.
//!
//! It knows nothing of sources, rules or events: each request goes to [`Ingest`], with the peer it came from and
//! what is doubtful about its framing.

mod connection;
mod connection_table;
mod deadlines;
mod framing;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::inbound::Ingest;
use crate::logging::LogThrottle;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::tls;

use connection::{End, Server};
use connection_table::{Place, Room};
use deadlines::{Order, Overdue, Timeouts};

/// The `listen` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub address: SocketAddr,
    /// None: plain HTTP.
    pub tls: Option<tls::Config>,
    pub body_bytes_max: usize,
    pub connections_max: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
}

/// Serves `socket`, which the caller bound, until `shutdown` begins; then finishes the requests in flight and
/// returns, at the latest after `drain`.
///
/// `tls` is what `config.tls` names; none serves plain HTTP/1.1.
pub async fn serve(
    socket: TcpListener,
    tls: Option<Arc<tls::Served>>,
    config: &Config,
    ingest: Ingest,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    drain: Duration,
) {
    let tasks = TaskTracker::new();
    let certificate_asked = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let timeouts = Timeouts { header: config.header_timeout, idle: config.idle_timeout };
    let server = Server::new(tls, certificate_asked, timeouts, ingest.clone(), tasks.clone());
    let mut accepting = Accepting {
        server: Arc::new(server),
        room: Room::new(affordable(config.connections_max)),
        metrics,
        full: None,
        log: Arc::new(Log { throttle: LogThrottle::default(), clock: Clock::start() }),
        tasks: tasks.clone(),
    };
    tokio::select! {
        () = accepting.run(&socket) => {}
        () = shutdown.begun() => {}
    }
    accepting.take_the_last(socket);
    let room = accepting.room;
    room.order_all(Order::Finish);
    tasks.close();
    let finished = async {
        tasks.wait().await;
        ingest.finished().await;
    };
    if tokio::time::timeout(drain, finished).await.is_err() {
        warn!(connections = tasks.len(), "closing connections that did not finish in time");
        room.order_all(Order::Close);
        tasks.wait().await;
    }
}

/// As many connections as are wished for, or as there are file descriptors left for beside the journal's and the
/// upstream's: a flood of senders must not keep events from being written and delivered.
fn affordable(wished: usize) -> usize {
    let Some(open_files) = open_files_max(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default()) else {
        return wished;
    };
    let affordable = open_files.saturating_sub(OTHER_FILES).max(open_files / 2);
    if affordable < wished {
        warn!(
            wished,
            affordable,
            open_files,
            "listen.max_connections is more than this process may open files; raise `ulimit -n` (systemd: LimitNOFILE)"
        );
    }
    affordable.min(wished)
}

/// The soft limit on open files, out of `/proc/self/limits`.
fn open_files_max(limits: &str) -> Option<usize> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

/// The accept loop.
struct Accepting {
    server: Arc<Server>,
    room: Room,
    metrics: Arc<Metrics>,
    /// When the limit was last met.
    full: Option<Instant>,
    log: Arc<Log>,
    tasks: TaskTracker,
}

/// What is said of connections that came to nothing.
struct Log {
    throttle: LogThrottle,
    clock: Clock,
}

impl Accepting {
    async fn run(&mut self, socket: &TcpListener) {
        let mut failing = None;
        loop {
            match socket.accept().await {
                Ok((stream, address)) => {
                    if failing.take().is_some() {
                        info!("connections are accepted again");
                    }
                    self.make_room().await;
                    self.take(stream, address);
                }
                // The peer went away before we came to it.
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if failing != Some(error.kind()) {
                        warn!(%error, "no connection can be accepted; trying on (check `ulimit -n`)");
                        failing = Some(error.kind());
                    }
                    self.metrics.connection_refused("accept");
                    self.room.evict();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes the connections that the kernel made already, whose senders would see them cut, and no more.
    fn take_the_last(&mut self, socket: TcpListener) {
        // Of the standard library's kind, so that it is closed at the very moment that none is left.
        let Ok(socket) = socket.into_std() else {
            return;
        };
        while !self.room.is_full()
            && let Ok((stream, address)) = socket.accept()
        {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.take(stream, address);
            }
        }
    }

    /// Returns when there is room for one connection more. Until then others wait in the kernel's queue.
    async fn make_room(&mut self) {
        while self.room.is_full() {
            let evicted = self.room.evict();
            for _ in 0..evicted {
                self.metrics.connection_refused("evicted");
            }
            if self.full.replace(Instant::now()).is_none_or(|last| last.elapsed() > CALM) {
                warn!("listen.max_connections is reached: the connections that achieved nothing for longest give way");
            }
            self.room.freed().await;
        }
    }

    fn take(&mut self, stream: TcpStream, address: SocketAddr) {
        // Answers are one small write: waiting for more to send would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY");
        }
        let place = self.room.take();
        let (server, metrics, log) = (Arc::clone(&self.server), Arc::clone(&self.metrics), Arc::clone(&self.log));
        metrics.connections.inc();
        self.tasks.spawn(async move {
            let open = Open { place, metrics };
            let end = server.serve(stream, address.ip(), &open.place.activity).await;
            log.end(&end, address, &open.metrics);
        });
    }
}

/// A connection that is counted while it is open, also if its task panics.
struct Open {
    place: Place,
    metrics: Arc<Metrics>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl Log {
    fn end(&self, end: &End, peer: SocketAddr, metrics: &Metrics) {
        match end {
            End::Served | End::Closed | End::Overdue(Overdue::Idle | Overdue::End) => {}
            End::Handshake(error) => {
                metrics.connection_refused("tls_handshake");
                let hint = handshake_hint(error);
                self.say(|suppressed| info!(%peer, %error, hint, suppressed, "a TLS handshake failed"));
            }
            End::Overdue(Overdue::Head) => {
                metrics.connection_refused("header_timeout");
                self.say(|suppressed| info!(%peer, suppressed, "a request's head did not come in time"));
            }
            End::Overdue(Overdue::Write) => {
                metrics.connection_refused("write_timeout");
                self.say(|suppressed| info!(%peer, suppressed, "a sender did not read its answer"));
            }
        }
    }

    fn say(&self, line: impl FnOnce(u64)) {
        if let Some(suppressed) = self.throttle.permit(self.clock.now().monotonic) {
            line(suppressed);
        }
    }
}

/// What the two commonest faults of a new installation mean.
fn handshake_hint(error: &io::Error) -> Option<&'static str> {
    use rustls::{AlertDescription, Error, InvalidMessage};
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("the sender does not speak TLS: its URL must begin with https://")
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown,
        ) => Some("the sender does not trust this server's certificate"),
        _ => None,
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// So long the limit must not have been met before it is worth a new line.
const CALM: Duration = Duration::from_secs(60);

/// While file descriptors or memory are short: long enough not to spin, short enough to be back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// File descriptors for the journal, the upstream, the administration and the runtime.
const OTHER_FILES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             62852                62852                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_max(limits), Some(1_024));
        assert_eq!(open_files_max(&limits.replace("1024  ", "unlimited")), None);
        assert_eq!(open_files_max(""), None);
    }

    #[test]
    fn the_commonest_handshake_faults_are_explained() {
        let wrapped = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let plain = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert!(handshake_hint(&wrapped(plain)).unwrap().contains("https://"));
        let distrust = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        assert!(handshake_hint(&wrapped(distrust)).unwrap().contains("trust"));
        assert_eq!(handshake_hint(&io::ErrorKind::TimedOut.into()), None);
    }
}
