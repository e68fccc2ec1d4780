//! Counts and logs the connections of one listener.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tracing::{info, warn};

use super::attempt_log::AttemptLog;
use super::connection::End;
use super::deadlines::Overdue;
use crate::clock::Clock;
use crate::logging::LogThrottle;
use crate::metrics::Metrics;

/// Watches one listener. Only connections of senders have metrics.
pub struct Observer {
    /// The log's name for the listener; none for that of senders.
    listener: Option<&'static str>,
    metrics: Option<Arc<Metrics>>,
    attempts: Arc<AttemptLog>,
    throttle: LogThrottle,
    clock: Clock,
}

/// A connection that is counted while it is open, also if its task panics.
pub(super) struct Open(Arc<Observer>);

impl Observer {
    /// For the listener that senders meet.
    pub fn of_senders(metrics: Arc<Metrics>) -> Observer {
        metrics.show_connections_refused(REASONS);
        let attempts = AttemptLog::new("listen", Some(Arc::clone(&metrics)));
        Observer { metrics: Some(metrics), ..Observer::new(None, attempts) }
    }

    /// For the listener of operators.
    pub fn of_operators(metrics: Arc<Metrics>) -> Observer {
        Observer::new(Some("admin"), AttemptLog::new("admin", Some(metrics)))
    }

    /// For another listener.
    pub fn of(listener: &'static str) -> Observer {
        Observer::new(Some(listener), AttemptLog::new(listener, None))
    }

    fn new(listener: Option<&'static str>, attempts: AttemptLog) -> Observer {
        let (attempts, throttle) = (Arc::new(attempts), LogThrottle::default());
        Observer { listener, metrics: None, attempts, throttle, clock: Clock::start() }
    }

    pub(super) fn attempts(&self) -> Arc<AttemptLog> {
        Arc::clone(&self.attempts)
    }

    pub(super) fn opened(self: &Arc<Self>) -> Open {
        if let Some(metrics) = &self.metrics {
            metrics.requests.connections.inc();
        }
        Open(Arc::clone(self))
    }

    pub(super) fn refused(&self, reason: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.connection_refused(reason);
        }
    }

    pub(super) fn limit_lowered(&self, wished: usize, affordable: usize, open_files: usize) {
        let (listener, limit) = (self.listener, self.limit());
        warn!(
            listener,
            wished,
            affordable,
            open_files,
            "{limit} is more than this process may open files; raise `ulimit -n` (systemd: LimitNOFILE)"
        );
    }

    pub(super) fn full(&self) {
        let (listener, limit) = (self.listener, self.limit());
        warn!(listener, "{limit} is reached: connections of who holds the most give way");
    }

    pub(super) fn accept_failed(&self, error: &io::Error) {
        warn!(listener = self.listener, %error, "no connection can be accepted; trying on (check `ulimit -n`)");
    }

    pub(super) fn accepts_again(&self) {
        info!(listener = self.listener, "connections are accepted again");
    }

    pub(super) fn drain_timed_out(&self, connections: usize) {
        warn!(listener = self.listener, connections, "closing connections that did not finish in time");
    }

    /// Counts and logs a connection that came to nothing.
    pub(super) fn ended(&self, end: &End, peer: IpAddr) {
        let reason = match end {
            End::Served | End::Closed | End::Overdue(Overdue::Idle | Overdue::End) => return,
            End::ProxyHeader(_) => "proxy_header",
            End::Handshake(_) => "tls_handshake",
            End::NotAdmitted => "client_ca",
            End::Unasked => "no_request",
            End::Overdue(Overdue::Head) => "header_timeout",
            End::Overdue(Overdue::Write) => "write_timeout",
        };
        self.refused(reason);
        let Some(suppressed) = self.throttle.permit(self.clock.now().monotonic) else { return };
        let listener = self.listener;
        match end {
            End::ProxyHeader(problem) => {
                let hint = problem.hint();
                info!(listener, %peer, hint, suppressed, "a connection began without a PROXY header that counts");
            }
            End::NotAdmitted => {
                info!(listener, %peer, suppressed, "the new client CA does not admit an open connection");
            }
            End::Unasked => info!(listener, %peer, hint = UNASKED, suppressed, "a sender left after the TLS handshake"),
            End::Handshake(error) => {
                let hint = handshake_hint(error);
                info!(listener, %peer, %error, hint, suppressed, "a TLS handshake failed");
            }
            End::Overdue(Overdue::Write) => info!(listener, %peer, suppressed, "a sender did not read its answer"),
            _ => info!(listener, %peer, suppressed, "a request's head did not come in time"),
        }
    }

    /// The operator's word for the limit on connections.
    fn limit(&self) -> &'static str {
        if self.listener.is_none() { "listen.max_connections" } else { "the limit on connections" }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(metrics) = &self.0.metrics {
            metrics.requests.connections.dec();
        }
    }
}

/// The reasons why connections are refused.
const REASONS: [&str; 10] = [
    "accept",
    "evicted",
    "no_room",
    "address_limit",
    "proxy_header",
    "tls_handshake",
    "client_ca",
    "no_request",
    "header_timeout",
    "write_timeout",
];

const UNASKED: &str = "a probe does so, and a sender that calls this server by a name that is not in its certificate";

/// Explains the commonest faults of a new installation.
fn handshake_hint(error: &io::Error) -> Option<&'static str> {
    use rustls::{AlertDescription, Error, InvalidMessage};
    if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
        return Some(
            "it left without a word: a probe does so, and a sender that does not trust this server's certificate",
        );
    }
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("the sender does not speak TLS: its URL must begin with https://")
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown,
        ) => Some("the sender does not trust this server's certificate, or calls it by a name that is not in it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commonest_handshake_faults_are_explained() {
        let wrapped = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let plain = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert!(handshake_hint(&wrapped(plain)).unwrap().contains("https://"));
        let distrust = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        assert!(handshake_hint(&wrapped(distrust)).unwrap().contains("trust"));
        assert!(handshake_hint(&io::ErrorKind::UnexpectedEof.into()).unwrap().contains("trust"));
        assert_eq!(handshake_hint(&io::ErrorKind::TimedOut.into()), None);
    }
}
