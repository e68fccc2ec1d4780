//! Dials several addresses at once, as RFC 8305 ("Happy Eyeballs") wants it, and takes the first that answers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Begins with the next address when one fails or has not answered for a moment; fails when all have, with the reason
/// of each.
pub(super) async fn race(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut waiting = alternating(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        match waiting.next() {
            Some(address) => drop(attempts.spawn(dial(address))),
            None if attempts.is_empty() => {
                let more = failures.len().saturating_sub(FAILURES_TOLD);
                failures.truncate(FAILURES_TOLD);
                failures.extend((more > 0).then(|| format!("and {more} more")));
                return Err(failures.join("; "));
            }
            None => {}
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended.map_err(io::Error::other).and_then(|dialed| dialed) {
                Ok(stream) => return Ok(stream),
                Err(error) => failures.push(error.to_string()),
            },
            () = tokio::time::sleep(NEXT_AFTER), if waiting.len() > 0 => {}
        }
    }
}

/// The addresses for a message.
pub(crate) fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    let stream = TcpStream::connect(address).await.map_err(named)?;
    // Without it an HTTP/2 request waits for the acknowledgement of its first part.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The two families in turn, beginning with the system's choice; each in the system's order (RFC 8305, section 4).
fn alternating(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let begins_with_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == begins_with_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::with_capacity(addresses.len());
    while all.len() < addresses.len().min(ADDRESSES_MAX) {
        all.extend(first.next().into_iter().chain(second.next()));
    }
    all
}

/// The delay that RFC 8305, section 5, recommends.
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// Each attempt keeps what is told.
const FAILURES_TOLD: usize = 4;
/// More are not tried for one connection: at their pace they take longer than any timeout.
const ADDRESSES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_families_take_turns_and_the_order_of_each_stays() {
        let parsed = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        for (given, expected) in [
            (
                &["[::1]:1", "[::2]:1", "1.1.1.1:1", "2.2.2.2:1"][..],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1"][..],
            ),
            (&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"], &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]),
            (&["1.1.1.1:1"], &["1.1.1.1:1"]),
            (&[], &[]),
        ] {
            assert_eq!(alternating(&parsed(given)), parsed(expected));
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_or_is_silent_costs_a_moment_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // A listener whose queue is full answers nothing, as a host does that is gone.
        let full = tokio::net::TcpSocket::new_v4().unwrap();
        full.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let full = full.listen(0).unwrap();
        let silent = full.local_addr().unwrap();
        let _queued = TcpStream::connect(silent).await.unwrap();
        let refusing = SocketAddr::from((Ipv4Addr::new(127, 9, 9, 9), 1));
        let good = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let started = Instant::now();
        let stream = race(&[refusing, silent, silent, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let other = SocketAddr::from((Ipv4Addr::new(127, 9, 9, 8), 1));
        let error = race(&[refusing, other]).await.unwrap_err();
        assert!(error.starts_with("127.9.9.9:1: ") && error.contains("; 127.9.9.8:1: "), "{error}");
    }
}
