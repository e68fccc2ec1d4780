//! The open connections of a listener. At the limit the one that achieved nothing for longest gives way.
//!
//! Turning new connections away instead would let a few thousand idle or slow ones lock everyone out for as long as they
//! please.

use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::deadlines::Deadlines;

/// Every connection of a listener. The accept loop owns it.
pub(super) struct ConnectionTable {
    connections: Vec<Entry>,
    max: usize,
    free: Arc<Semaphore>,
    close_all: CancellationToken,
}

struct Entry {
    /// Gone when the connection has ended.
    deadlines: Weak<Deadlines>,
    close: CancellationToken,
}

/// A connection's place in the table; free again when it is dropped.
pub(super) struct Slot {
    pub(super) deadlines: Arc<Deadlines>,
    /// Cancelled when the connection must close at once.
    pub(super) close: CancellationToken,
    _free: OwnedSemaphorePermit,
}

impl ConnectionTable {
    pub(super) fn new(max: usize) -> ConnectionTable {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(max));
        ConnectionTable { connections: Vec::new(), max, free, close_all: CancellationToken::new() }
    }

    /// Takes a slot for one more connection; none at the limit.
    pub(super) fn take(&mut self) -> Option<Slot> {
        let free = Arc::clone(&self.free).try_acquire_owned().ok()?;
        // Not each time: searching thousands for the few that ended would make every accept slow.
        let open = self.max - self.free.available_permits();
        if self.connections.len() > 2 * open + ENDED_MAX {
            self.connections.retain(|connection| connection.deadlines.strong_count() > 0);
        }
        let slot = Slot { deadlines: Arc::default(), close: self.close_all.child_token(), _free: free };
        self.connections.push(Entry { deadlines: Arc::downgrade(&slot.deadlines), close: slot.close.clone() });
        Some(slot)
    }

    /// Waits until a slot may be free.
    pub(super) async fn freed(&self) {
        // An error means that the semaphore is closed, which it never is.
        let _ = self.free.acquire().await;
    }

    /// Closes the connections that achieved nothing for longest; returns how many.
    ///
    /// More than one at once, so that a flood of new connections does not search the whole table for each. None while
    /// every connection has a request in flight: those end soon.
    pub(super) fn evict(&self) -> usize {
        let open = self.connections.iter().filter(|connection| !connection.close.is_cancelled());
        let idle = open.filter_map(|Entry { deadlines, close }| Some((deadlines.upgrade()?.idle_since()?, close)));
        let mut idle: Vec<_> = idle.collect();
        let count = (self.max / EVICTED_PART).max(1).min(idle.len());
        if count < idle.len() {
            idle.select_nth_unstable_by_key(count, |(since, _)| *since);
        }
        for (_, close) in &idle[..count] {
            close.cancel();
        }
        count
    }

    pub(super) fn close_all(&self) {
        self.close_all.cancel();
    }
}

/// Entries of connections that ended, beside as many as are open: so long they wait to be forgotten.
const ENDED_MAX: usize = 64;

/// So much of the table gives way at once.
const EVICTED_PART: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_gives_way_and_the_busy_stay() {
        let mut table = ConnectionTable::new(3);
        let busy = table.take().unwrap();
        let _request = busy.deadlines.request();
        let idle = table.take().unwrap();
        let newest = table.take().unwrap();
        assert!(table.take().is_none());
        assert_eq!(table.evict(), 1);
        assert_eq!([&idle, &busy, &newest].map(|slot| slot.close.is_cancelled()), [true, false, false]);
        drop(idle);
        assert!(table.take().is_some());
    }

    #[test]
    fn nobody_gives_way_while_all_are_busy() {
        let mut table = ConnectionTable::new(1);
        let busy = table.take().unwrap();
        let _request = busy.deadlines.request();
        assert!(table.take().is_none());
        assert_eq!(table.evict(), 0);
    }

    #[test]
    fn connections_that_ended_are_forgotten() {
        let mut table = ConnectionTable::new(10_000);
        for _ in 0..1_000 {
            drop(table.take());
        }
        assert!(table.connections.len() <= ENDED_MAX + 3 && table.evict() == 0);
    }
}
