//! The open connections, and room for one more: at the limit the one that achieved nothing for longest gives way.
//!
//! Turning new senders away instead would let a few thousand idle or slow connections lock everyone out for as
//! long as they please.

use std::sync::Arc;

use tokio::sync::Notify;

use super::deadlines::{Activity, Order};

/// Every connection of the listener. The accept loop owns it.
pub(super) struct Room {
    connections: Vec<Arc<Activity>>,
    max: usize,
    freed: Arc<Notify>,
}

/// A place in the room; free again when it is dropped.
pub(super) struct Place {
    pub(super) activity: Arc<Activity>,
    freed: Arc<Notify>,
}

impl Room {
    pub(super) fn new(max: usize) -> Room {
        Room { connections: Vec::new(), max: max.max(1), freed: Arc::new(Notify::new()) }
    }

    /// Whether a connection more would be one too many, after all that closed are forgotten.
    pub(super) fn is_full(&mut self) -> bool {
        if self.connections.len() >= self.max {
            self.connections.retain(|connection| !connection.is_closed());
        }
        self.connections.len() >= self.max
    }

    /// Asks connections that achieved nothing for longest to close; returns how many.
    ///
    /// More than one at once, so that a flood of new connections does not search the whole room for each. None
    /// while every connection has a request in flight: those end soon.
    pub(super) fn evict(&self) -> usize {
        let mut idle: Vec<&Arc<Activity>> =
            self.connections.iter().filter(|connection| !connection.is_busy()).collect();
        let count = (self.max / EVICTED_PART).max(1).min(idle.len());
        if count < idle.len() {
            idle.select_nth_unstable_by_key(count, |connection| connection.unproductive_since());
        }
        for connection in &idle[..count] {
            connection.order(Order::Close);
        }
        count
    }

    /// Waits until a place may be free.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    pub(super) fn take(&mut self) -> Place {
        let activity = Arc::new(Activity::new());
        self.connections.push(Arc::clone(&activity));
        Place { activity, freed: Arc::clone(&self.freed) }
    }

    pub(super) fn order_all(&self, order: Order) {
        for connection in &self.connections {
            connection.order(order);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.activity.close();
        self.freed.notify_one();
    }
}

const EVICTED_PART: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(place: &Place) -> bool {
        use std::task::{Context, Poll, Waker};
        let mut order = std::pin::pin!(place.activity.ordered());
        matches!(order.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Order::Close))
    }

    #[test]
    fn the_longest_idle_gives_way_and_the_busy_stay() {
        let mut room = Room::new(3);
        let busy = room.take();
        let _request = busy.activity.in_flight();
        let idle = room.take();
        assert!(!room.is_full());
        let newest = room.take();
        assert!(room.is_full());
        assert_eq!(room.evict(), 1);
        assert!(ordered(&idle) && !ordered(&busy) && !ordered(&newest));
        drop(idle);
        assert!(!room.is_full());
    }

    #[test]
    fn nobody_gives_way_while_all_are_busy() {
        let mut room = Room::new(1);
        let busy = room.take();
        let _request = busy.activity.in_flight();
        assert!(room.is_full());
        assert_eq!(room.evict(), 0);
    }
}
