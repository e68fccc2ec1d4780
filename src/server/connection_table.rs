//! The open connections of a listener, by the addresses that hold them. At the limit some give way, as
//! [`super::shares`] chooses.
//!
//! Turning new connections away instead would let a few thousand idle or slow ones lock everyone out for as long as they
//! please.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::deadlines::Deadlines;
use super::shares::{Held, Holder, to_give_way, to_give_way_within};

/// Every connection of a listener. The accept loop owns it.
pub(super) struct ConnectionTable {
    connections: Vec<Entry>,
    addresses: HashMap<Holder, Arc<Address>>,
    max: usize,
    /// Of one address; none: as many as there is room for.
    of_address_max: Option<usize>,
    /// The time that a peer has to begin.
    grace: Duration,
    free: Arc<Semaphore>,
    /// Connections that are giving way and hold their slots still.
    closing: Vec<Weak<Deadlines>>,
    /// The newcomer for whom nobody gave way, and when.
    in_vain: Option<(Option<Holder>, Instant)>,
    close_all: CancellationToken,
}

struct Entry {
    holder: Option<Holder>,
    /// Gone when the connection has ended.
    deadlines: Weak<Deadlines>,
    close: CancellationToken,
}

/// An address with open connections, each of which holds this once.
struct Address {
    /// Its TLS handshakes at once: further ones take turns, so that a flood of them does not take all of the processor.
    handshakes: Semaphore,
}

/// A connection's place in the table; free again when it is dropped.
pub(super) struct Slot {
    pub(super) deadlines: Arc<Deadlines>,
    /// None for a connection that is nobody's share.
    address: Option<Arc<Address>>,
    /// Cancelled when the connection must close at once.
    pub(super) close: CancellationToken,
    _free: OwnedSemaphorePermit,
}

impl ConnectionTable {
    /// A table with `max` places, which may be fewer than the limits wish for.
    pub(super) fn new(max: usize, limits: Limits) -> ConnectionTable {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        ConnectionTable {
            connections: Vec::new(),
            addresses: HashMap::new(),
            max,
            of_address_max: limits.connections_of_address_max,
            grace: limits.header_timeout / GRACE_PART,
            free: Arc::new(Semaphore::new(max)),
            closing: Vec::new(),
            in_vain: None,
            close_all: CancellationToken::new(),
        }
    }

    /// Takes a slot for one more connection; none at the limit.
    pub(super) fn take(&mut self, holder: Option<Holder>) -> Option<Slot> {
        let free = Arc::clone(&self.free).try_acquire_owned().ok()?;
        // Not each time: searching thousands for the few that ended would make every accept slow.
        let open = self.max - self.free.available_permits();
        if self.connections.len() > 2 * open + ENDED_MAX {
            self.connections.retain(|connection| connection.deadlines.strong_count() > 0);
            self.addresses.retain(|_, address| Arc::strong_count(address) > 1);
        }
        let address = holder.map(|holder| Arc::clone(self.addresses.entry(holder).or_insert_with(Address::new)));
        let slot = Slot { deadlines: Arc::default(), address, close: self.close_all.child_token(), _free: free };
        self.connections.push(Entry { holder, deadlines: Arc::downgrade(&slot.deadlines), close: slot.close.clone() });
        Some(slot)
    }

    /// Waits until a slot may be free.
    pub(super) async fn freed(&self) {
        // An error means that the semaphore is closed, which it never is.
        let _ = self.free.acquire().await;
    }

    /// The number of connections that an address has.
    pub(super) fn count(&self, holder: Option<Holder>) -> usize {
        // The table itself holds each once.
        holder.and_then(|holder| self.addresses.get(&holder)).map_or(0, |address| Arc::strong_count(address) - 1)
    }

    /// The address has as many connections as one may have, with so many that wait for a slot.
    pub(super) fn has_all(&self, holder: Option<Holder>, waiting: usize) -> bool {
        self.of_address_max.is_some_and(|max| holder.is_some() && self.count(holder) + waiting >= max)
    }

    /// Closes the connection of this address that achieved the least; false where all are of use.
    pub(super) fn evict_of(&mut self, holder: Option<Holder>) -> bool {
        let Some(holder) = holder else { return false };
        let (held, places) = self.held();
        let Some(at) = to_give_way_within(&held, holder) else { return false };
        self.close(places[at]);
        true
    }

    /// Connections are giving way, whose slots will be free in a moment.
    pub(super) fn is_closing(&mut self) -> bool {
        self.closing.retain(|closing| closing.strong_count() > 0);
        !self.closing.is_empty()
    }

    /// Closes connections so that `wanted` newcomers have room, of which the first is of this address; returns how many.
    pub(super) fn evict(&mut self, newcomer: Option<Holder>, wanted: usize) -> usize {
        if self.is_closing() && self.closing.len() >= wanted {
            return 0;
        }
        // A flood of newcomers does not search the table for each.
        if self.in_vain.is_some_and(|(holder, at)| holder == newcomer && at.elapsed() < SEARCH_AGAIN) {
            return 0;
        }
        let (held, places) = self.held();
        let chosen = to_give_way(&held, newcomer, self.max);
        self.in_vain = chosen.is_empty().then(|| (newcomer, Instant::now()));
        chosen.iter().for_each(|at| self.close(places[*at]));
        chosen.len()
    }

    /// The connections that are open and not closing, with their places.
    fn held(&self) -> (Vec<Held>, Vec<usize>) {
        let now = Instant::now();
        let open = self.connections.iter().enumerate().filter(|(_, entry)| !entry.close.is_cancelled());
        let held = open.filter_map(|(at, Entry { holder, deadlines, .. })| {
            Some((Held { holder: *holder, standing: deadlines.upgrade()?.standing(now, self.grace) }, at))
        });
        held.unzip()
    }

    fn close(&mut self, at: usize) {
        let Entry { deadlines, close, .. } = &self.connections[at];
        close.cancel();
        self.closing.push(Weak::clone(deadlines));
    }

    pub(super) fn close_all(&self) {
        self.close_all.cancel();
    }
}

impl Slot {
    /// Waits for the connection's turn to do its TLS handshake, which lasts until what is returned is dropped.
    pub(super) async fn handshake(&self) -> Option<SemaphorePermit<'_>> {
        // An error means that the semaphore is closed, which it never is.
        self.address.as_ref()?.handshakes.acquire().await.ok()
    }
}

impl Address {
    fn new() -> Arc<Address> {
        Arc::new(Address { handshakes: Semaphore::new(HANDSHAKES_MAX) })
    }
}

/// Entries of connections that ended, beside as many as are open: so long they wait to be forgotten.
const ENDED_MAX: usize = 64;

/// After a search in vain: so long nothing changes that matters.
const SEARCH_AGAIN: Duration = Duration::from_millis(20);

/// A peer has this part of the time for a head, before a connection that asked for nothing counts for nothing.
const GRACE_PART: u32 = 5;

/// Of one address at once: a few milliseconds of each processor, and enough for a whole site that connects anew.
const HANDSHAKES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn table(connections_max: usize, connections_of_address_max: Option<usize>) -> ConnectionTable {
        let limits = Limits {
            connections_max,
            connections_of_address_max,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(3_600),
            drain_timeout: Duration::ZERO,
        };
        ConnectionTable::new(connections_max, limits)
    }

    fn holder(name: u8) -> Option<Holder> {
        Some(Holder::of(Ipv4Addr::new(192, 0, 2, name).into()))
    }

    #[test]
    fn the_longest_idle_gives_way_and_the_busy_stay() {
        let mut table = table(3, None);
        let busy = table.take(holder(1)).unwrap();
        let _request = busy.deadlines.request();
        let idle = table.take(holder(1)).unwrap();
        let newest = table.take(holder(1)).unwrap();
        assert!(table.take(holder(1)).is_none());
        assert_eq!(table.evict(holder(1), 1), 1);
        assert_eq!([&idle, &busy, &newest].map(|slot| slot.close.is_cancelled()), [true, false, false]);
        assert_eq!(table.evict(holder(1), 1), 0, "one is giving way");
        drop(idle);
        assert!(table.take(holder(1)).is_some());
    }

    #[test]
    fn the_largest_holder_gives_way_to_another_address() {
        let mut table = table(3, None);
        let small = table.take(holder(1)).unwrap();
        let large = [table.take(holder(2)).unwrap(), table.take(holder(2)).unwrap()];
        assert_eq!((table.count(holder(1)), table.count(holder(2)), table.count(holder(3))), (1, 2, 0));
        assert_eq!(table.evict(holder(3), 1), 1);
        assert!(!small.close.is_cancelled() && large[0].close.is_cancelled());
        drop(large);
        assert_eq!(table.count(holder(2)), 0);
    }

    #[test]
    fn nobody_gives_way_while_all_are_busy() {
        let mut table = table(1, None);
        let busy = table.take(holder(1)).unwrap();
        let _request = busy.deadlines.request();
        assert!(table.take(holder(1)).is_none());
        assert_eq!(table.evict(holder(1), 1), 0);
    }

    #[test]
    fn an_address_may_have_so_many_and_no_more() {
        let mut table = table(10, Some(2));
        let (first, second) = (table.take(holder(1)).unwrap(), table.take(holder(1)).unwrap());
        let _request = first.deadlines.request();
        assert!(table.has_all(holder(1), 0) && !table.has_all(holder(2), 1) && !table.has_all(None, 0));
        assert!(table.evict_of(holder(1)) && second.close.is_cancelled());
        assert!(!table.evict_of(holder(1)), "what is left is being answered");
        drop(second);
        assert!(!table.has_all(holder(1), 0) && table.has_all(holder(1), 1));
    }

    #[test]
    fn connections_that_ended_are_forgotten() {
        let mut table = table(10_000, None);
        for name in 0..1_000_u32 {
            drop(table.take(Some(Holder::of(Ipv4Addr::from_bits(name).into()))));
        }
        assert!(table.connections.len() <= ENDED_MAX + 3 && table.evict(None, 1) == 0);
        assert!(table.addresses.len() <= ENDED_MAX + 3);
    }
}
