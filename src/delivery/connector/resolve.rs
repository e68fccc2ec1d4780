//! Looks up names by the system's resolver, and remembers what was found for a few seconds.
//!
//! The system's resolver knows what every other program of the machine knows: `/etc/hosts`, search domains, other
//! sources than DNS, and a changed `resolv.conf`. It tells no TTL, so nothing is believed for longer than [`FRESH`]; the
//! caches on the way keep the TTL. Its call can't be interrupted: one at a time runs for a name, whatever waits for it.
//! While a name can't be looked up its last known addresses are used: the certificate still says whether it is the
//! right host.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{ConnectError, Endpoint, Step};

/// A name, and what is known of it.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) endpoint: Endpoint,
    known: watch::Sender<Known>,
    running: AtomicBool,
    /// The wait for a resolver that is slow, where other or earlier addresses are known.
    patience: Duration,
    /// The time for which addresses are used while the name can't be looked up.
    stale: Duration,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// When they were found.
    found: Option<Instant>,
    /// When the last look-up ended, and its error.
    ended: Option<Instant>,
    problem: Option<String>,
}

/// The addresses of all targets, in their order. One that can't be looked up, or takes much longer than another, is left
/// out.
pub(super) async fn all(targets: &[Arc<Lookup>]) -> Result<Vec<SocketAddr>, ConnectError> {
    let mut lookups = JoinSet::new();
    for (index, target) in targets.iter().cloned().enumerate() {
        lookups.spawn(async move { (index, target.addresses().await) });
    }
    let patience = targets.first().map_or(PATIENCE, |target| target.patience);
    let (mut found, mut problem, mut until) = (BTreeMap::new(), String::new(), None);
    loop {
        let limit = until.map_or(Duration::MAX, |until: Instant| until.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(limit, lookups.join_next()).await {
            Ok(Some(Ok((index, Ok(addresses))))) => {
                until.get_or_insert_with(|| Instant::now() + patience);
                found.insert(index, addresses);
            }
            Ok(Some(Ok((_, Err(error))))) => problem = error,
            Ok(Some(Err(error))) => problem = error.to_string(),
            Ok(None) | Err(_) if found.is_empty() => return Err(Step::Resolve.because(problem)),
            Ok(None) | Err(_) => return Ok(found.into_values().flatten().collect()),
        }
    }
}

impl Lookup {
    pub(super) fn new(endpoint: Endpoint, patience: Duration, stale: Duration) -> Arc<Lookup> {
        let (known, running) = (watch::Sender::default(), AtomicBool::new(false));
        Arc::new(Lookup { endpoint, known, running, patience, stale })
    }

    /// The addresses, or the reason why there are none. Waits for as long as the look-up takes, unless earlier addresses
    /// can be used.
    pub(super) async fn addresses(self: &Arc<Self>) -> Result<Vec<SocketAddr>, String> {
        let Endpoint { host, port } = &self.endpoint;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, *port)]);
        }
        let asked = Instant::now();
        let mut watched = self.known.subscribe();
        if let Some(addresses) = watched.borrow().within(FRESH) {
            return Ok(addresses);
        }
        if !self.running.swap(true, Ordering::AcqRel) {
            let lookup = Arc::clone(self);
            tokio::spawn(async move {
                let found = tokio::net::lookup_host((lookup.endpoint.host.as_str(), lookup.endpoint.port)).await;
                lookup.learn(found.map(Iterator::collect));
            });
        }
        let remembered = watched.borrow().within(self.stale);
        let limit = if remembered.is_some() { self.patience } else { Duration::MAX };
        let ended = watched.wait_for(|known| known.ended.is_some_and(|ended| ended >= asked));
        match tokio::time::timeout(limit, ended).await {
            Ok(Ok(known)) if known.problem.is_none() => Ok(known.addresses.clone()),
            Ok(Ok(known)) => {
                let problem = known.problem.clone().unwrap_or_default();
                remembered.ok_or_else(|| format!("{host}: {problem}"))
            }
            Ok(Err(_)) | Err(_) => remembered.ok_or_else(|| format!("{host}: no answer")),
        }
    }

    fn learn(&self, found: io::Result<Vec<SocketAddr>>) {
        let name = &self.endpoint.host;
        // In this order: whoever found it running asked before it ended.
        self.running.store(false, Ordering::Release);
        let now = Instant::now();
        self.known.send_modify(|known| {
            known.ended = Some(now);
            let failed = known.problem.take().is_some();
            match found {
                Ok(addresses) if !addresses.is_empty() => {
                    if failed && known.found.is_some() {
                        tracing::info!(name, "the name is found again");
                    }
                    (known.addresses, known.found) = (addresses, Some(now));
                }
                other => {
                    let problem = other.err().map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
                    if !failed && known.found.is_some() {
                        tracing::warn!(name, problem, "a name can't be looked up; its last known addresses are used");
                    }
                    known.problem = Some(problem);
                }
            }
        });
    }
}

impl Known {
    fn within(&self, age: Duration) -> Option<Vec<SocketAddr>> {
        self.found.filter(|found| found.elapsed() < age).map(|_| self.addresses.clone())
    }
}

/// Short beside the time in which a name that moved must be followed, long enough that not every connection asks.
const FRESH: Duration = Duration::from_secs(5);
/// The time for which addresses are used while the name can't be looked up (RFC 8767 allows days).
pub(super) const STALE: Duration = Duration::from_secs(3_600);
/// That time where no certificate proves who is there.
pub(super) const STALE_UNPROVEN: Duration = Duration::from_secs(60);
/// The longest wait for a resolver that is slow, where other or earlier addresses are known.
const PATIENCE: Duration = Duration::from_secs(2);

/// The wait for a slow resolver within the limit for a connection.
pub(super) fn patience(limit: Duration) -> Duration {
    PATIENCE.min(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(host: &str) -> Arc<Lookup> {
        Lookup::new(Endpoint { host: host.to_owned(), port: 443 }, PATIENCE, STALE)
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up_and_a_name_of_the_hosts_file_is_known() {
        assert_eq!(lookup("::1").addresses().await.unwrap(), ["[::1]:443".parse().unwrap()]);
        let found = lookup("localhost").addresses().await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()) && !found.is_empty(), "{found:?}");
    }

    #[tokio::test]
    async fn while_a_name_can_not_be_looked_up_its_last_addresses_are_used() {
        // No query leaves this machine: a label of a name is never empty.
        let gone = lookup("no..such");
        let problem = gone.addresses().await.unwrap_err();
        assert!(problem.starts_with("no..such: "), "{problem}");
        let before = Instant::now().checked_sub(FRESH).unwrap();
        let address: SocketAddr = "192.0.2.1:443".parse().unwrap();
        gone.known.send_modify(|known| (known.addresses, known.found) = (vec![address], Some(before)));
        assert_eq!(gone.addresses().await.unwrap(), [address]);
        let long_ago = Instant::now().checked_sub(STALE);
        gone.known.send_modify(|known| known.found = long_ago);
        assert!(long_ago.is_none() || gone.addresses().await.is_err());
    }

    #[tokio::test]
    async fn one_target_that_is_not_found_or_takes_long_hides_no_other() {
        let slow = lookup("slow.example");
        // Somebody else's look-up runs, and does not end.
        slow.running.store(true, Ordering::Release);
        let found = all(&[lookup("no..such"), slow, lookup("192.0.2.2"), lookup("192.0.2.1")]).await.unwrap();
        assert_eq!(found, ["192.0.2.2:443".parse().unwrap(), "192.0.2.1:443".parse().unwrap()]);
        assert_eq!(all(&[lookup("no..such")]).await.unwrap_err().step, Step::Resolve);
    }
}
