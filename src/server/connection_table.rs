//! The open connections of a listener, by the addresses that hold them. At the limit some give way, as
//! [`super::shares`] chooses.
//!
//! Turning new connections away instead would let a few thousand idle or slow ones lock everyone out for as long as they
//! please.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::deadlines::Deadlines;
use super::shares::{Held, Holder, to_give_way, to_give_way_within};

/// Every connection of a listener. The accept loop keeps it; a connection comes to it once, where only its first bytes
/// tell whose it is.
pub(super) struct ConnectionTable {
    connections: Vec<Entry>,
    addresses: HashMap<Holder, Known>,
    max: usize,
    /// Of one address; none: as many as there is room for.
    of_address_max: Option<usize>,
    /// The time that a peer has to begin.
    grace: Duration,
    free: Arc<Semaphore>,
    /// Connections that are giving way and hold their slots still.
    closing: Vec<Weak<Share>>,
    /// The newcomer for whom nobody gave way, and when.
    in_vain: Option<(Option<Holder>, Instant)>,
    close_all: CancellationToken,
}

struct Entry {
    /// Gone when the connection has ended. Requests of HTTP/2 may keep the deadlines for longer.
    share: Weak<Share>,
    deadlines: Weak<Deadlines>,
    close: CancellationToken,
}

/// The address that a connection counts as a part of; nothing while it is nobody's share. Its slot alone holds it.
type Share = OnceLock<Arc<Address>>;

/// An address, as the table knows it.
struct Known {
    address: Arc<Address>,
    /// When none of its connections gave way to one more of its own.
    in_vain: Option<Instant>,
}

/// An address with open connections, each of which holds this once.
struct Address {
    holder: Holder,
    /// Its TLS handshakes that have something to compute: further ones take turns, so that a flood of them does not take
    /// all of the processor.
    handshakes: Semaphore,
}

/// For one more connection of an address, within what one address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// Another of its connections gives way.
    Made,
    /// All that it has is of use.
    No,
}

/// A connection's place in the table; free again when it is dropped.
pub(super) struct Slot {
    pub(super) deadlines: Arc<Deadlines>,
    share: Arc<Share>,
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
            self.connections.retain(|connection| connection.share.strong_count() > 0);
            self.addresses.retain(|_, known| Arc::strong_count(&known.address) > 1);
        }
        let close = self.close_all.child_token();
        let slot = Slot { deadlines: Arc::default(), share: Arc::default(), close, _free: free };
        self.connections.push(Entry {
            share: Arc::downgrade(&slot.share),
            deadlines: Arc::downgrade(&slot.deadlines),
            close: slot.close.clone(),
        });
        if let Some(holder) = holder {
            self.count_for(&slot, holder);
        }
        Some(slot)
    }

    /// Counts a connection as one of this address from now on.
    pub(super) fn count_for(&mut self, slot: &Slot, holder: Holder) {
        let known = self.addresses.entry(holder).or_insert_with(|| Known::new(holder));
        slot.share.get_or_init(|| Arc::clone(&known.address));
    }

    /// Waits until a slot may be free.
    pub(super) fn freed(&self) -> impl Future<Output = ()> + use<> {
        let free = Arc::clone(&self.free);
        async move {
            // An error means that the semaphore is closed, which it never is.
            let _ = free.acquire().await;
        }
    }

    /// The number of connections that an address has.
    pub(super) fn count(&self, holder: Option<Holder>) -> usize {
        // The table itself holds each once.
        holder.and_then(|holder| self.addresses.get(&holder)).map_or(0, |known| Arc::strong_count(&known.address) - 1)
    }

    /// Makes room for one more connection of this address, beside so many that wait for a slot.
    pub(super) fn room_of(&mut self, holder: Option<Holder>, waiting: usize, now: Instant) -> Room {
        match holder {
            Some(holder) if self.has_all(holder, waiting) => {
                if self.evict_of(holder, now) {
                    Room::Made
                } else {
                    Room::No
                }
            }
            _ => Room::Free,
        }
    }

    /// The address has as many connections as one may have, with so many that wait for a slot.
    fn has_all(&self, holder: Holder, waiting: usize) -> bool {
        self.of_address_max.is_some_and(|max| self.count(Some(holder)) + waiting >= max)
    }

    /// Closes the connection of this address that achieved the least; false where all are of use.
    fn evict_of(&mut self, holder: Holder, now: Instant) -> bool {
        let in_vain = self.addresses.get(&holder).and_then(|known| known.in_vain);
        if in_vain.is_some_and(|at| now.saturating_duration_since(at) < SEARCH_AGAIN) {
            return false;
        }
        let (held, places) = self.held();
        let chosen = to_give_way_within(&held, holder);
        if let Some(known) = self.addresses.get_mut(&holder) {
            known.in_vain = chosen.is_none().then_some(now);
        }
        let Some(at) = chosen else { return false };
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
        let held = open.filter_map(|(at, Entry { share, deadlines, .. })| {
            let holder = share.upgrade()?.get().map(|address| address.holder);
            Some((Held { holder, standing: deadlines.upgrade()?.standing(now, self.grace) }, at))
        });
        held.unzip()
    }

    fn close(&mut self, at: usize) {
        let Entry { share, close, .. } = &self.connections[at];
        close.cancel();
        self.closing.push(Weak::clone(share));
    }

    pub(super) fn close_all(&self) {
        self.close_all.cancel();
    }
}

impl Slot {
    /// It is known whose share this is.
    pub(super) fn is_counted(&self) -> bool {
        self.share.get().is_some()
    }

    /// Does a TLS handshake, each step of it in its address's turn. A turn ends where the handshake waits for its peer: it
    /// covers what the processor does, and one who says nothing more keeps nobody waiting.
    pub(super) async fn in_turns<T>(&self, handshake: impl Future<Output = T>) -> T {
        let mut handshake = pin!(handshake);
        loop {
            let turn = self.turn().await;
            // Among the tasks that are ready to run there are no more of this address than have a turn.
            yield_now().await;
            if let Poll::Ready(done) = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await {
                return done;
            }
            drop(turn);
            woken().await;
        }
    }

    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // An error means that the semaphore is closed, which it never is.
        self.share.get()?.handshakes.acquire().await.ok()
    }
}

/// Waits until something wakes this task.
async fn woken() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl Known {
    fn new(holder: Holder) -> Known {
        let address = Arc::new(Address { holder, handshakes: Semaphore::new(HANDSHAKES_MAX) });
        Known { address, in_vain: None }
    }
}

/// Entries of connections that ended, beside as many as are open: so long they wait to be forgotten.
const ENDED_MAX: usize = 64;

/// After a search in vain: so long nothing changes that matters.
const SEARCH_AGAIN: Duration = Duration::from_millis(20);

/// A peer has this part of the time for a head, before a connection that asked for nothing counts for nothing.
const GRACE_PART: u32 = 5;

/// Of one address at once, ready to run: so many milliseconds of a processor at most.
const HANDSHAKES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::Pin;
    use std::task::{Context, Waker};

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
        let now = Instant::now();
        assert_eq!([table.room_of(holder(2), 1, now), table.room_of(None, 9, now)], [Room::Free; 2]);
        assert!(table.room_of(holder(1), 0, now) == Room::Made && second.close.is_cancelled());
        assert_eq!(table.room_of(holder(1), 0, now), Room::No, "what is left is being answered");
        drop(second);
        assert_eq!(table.room_of(holder(1), 0, now), Room::Free);
        assert_eq!(table.room_of(holder(1), 1, now), Room::No);
    }

    #[test]
    fn an_address_that_has_all_and_uses_all_is_searched_for_once_in_a_while() {
        let mut table = table(10, Some(1));
        let only = table.take(holder(1)).unwrap();
        let request = only.deadlines.request();
        let now = Instant::now();
        assert_eq!(table.room_of(holder(1), 0, now), Room::No);
        drop(request);
        assert_eq!(table.room_of(holder(1), 0, now + SEARCH_AGAIN / 2), Room::No, "nobody looked");
        assert_eq!(table.room_of(holder(1), 0, now + SEARCH_AGAIN), Room::Made);
    }

    #[test]
    fn a_connection_is_counted_from_when_it_is_known_whose_it_is() {
        let mut table = table(3, Some(2));
        let slots: Vec<_> = (0..3).map(|_| table.take(None).unwrap()).collect();
        assert!(slots.iter().all(|slot| !slot.is_counted()) && table.count(holder(1)) == 0);
        let now = Instant::now();
        for slot in &slots[..2] {
            assert_eq!(table.room_of(holder(1), 0, now), Room::Free);
            table.count_for(slot, holder(1).unwrap());
        }
        assert_eq!((table.count(holder(1)), table.room_of(holder(1), 0, now)), (2, Room::Made));
        assert_eq!([0, 1, 2].map(|at: usize| slots[at].close.is_cancelled()), [true, false, false]);
    }

    #[test]
    fn a_place_is_free_with_its_slot_whatever_still_holds_the_deadlines() {
        let mut table = table(1, None);
        let slot = table.take(holder(1)).unwrap();
        let stream = Arc::clone(&slot.deadlines);
        assert_eq!(table.evict(holder(2), 1), 1);
        assert!(table.is_closing());
        drop(slot);
        assert!(!table.is_closing() && table.count(holder(1)) == 0);
        drop(stream);
    }

    #[tokio::test]
    async fn a_handshake_keeps_its_turn_while_it_computes_and_not_while_it_waits_for_its_peer() {
        fn ends(handshake: Pin<&mut impl Future>) -> bool {
            handshake.poll(&mut Context::from_waker(Waker::noop())).is_ready()
        }
        let mut table = table(100, None);
        let (first, second) = (table.take(holder(1)).unwrap(), table.take(holder(1)).unwrap());
        let turns = &first.share.get().unwrap().handshakes;
        let others = turns.acquire_many(u32::try_from(HANDSHAKES_MAX).unwrap()).await.unwrap();
        let mut waits = pin!(second.in_turns(async {}));
        assert!(!ends(waits.as_mut()), "all have a turn");
        drop(others);
        assert!(!ends(waits.as_mut()), "others that are ready go first");
        assert_eq!(turns.available_permits(), HANDSHAKES_MAX - 1);
        assert!(ends(waits.as_mut()));

        let mut silent = pin!(first.in_turns(std::future::pending::<()>()));
        assert!(!ends(silent.as_mut()));
        assert_eq!(turns.available_permits(), HANDSHAKES_MAX - 1);
        assert!(!ends(silent.as_mut()));
        assert_eq!(turns.available_permits(), HANDSHAKES_MAX, "it waits for its peer");
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
