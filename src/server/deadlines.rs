//! Tracks what one connection does and how long it may go on, for whoever must end it.
//!
//! The connection's own task writes most of it; the accept loop reads it when it looks for a connection to close.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::framing::{Doubt, Scanner};

/// How long a connection may take for each thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    /// For the handshake, for the first head to begin, and for each head to end.
    pub(super) header: Duration,
    /// For nothing at all between two requests.
    pub(super) idle: Duration,
}

/// One connection, seen from outside. Times are milliseconds since its beginning, plus one; 0 is never.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    /// Requests that are being answered.
    in_flight: AtomicU32,
    /// Requests that were handed over to be answered.
    requests: AtomicU64,
    begun: Notify,
    /// When the last answer was given.
    answered: AtomicU64,
    /// Since when a head is being read.
    head_since: AtomicU64,
    /// Since when the peer takes no more bytes.
    stalled_since: AtomicU64,
    /// Since when the connection is to end.
    ending_since: AtomicU64,
    /// Heads that the scanner saw.
    heads: AtomicU64,
    doubt: OnceLock<Doubt>,
    /// What the accept loop wants of it: one of the constants below.
    order: AtomicU8,
    ordered: Notify,
    closed: AtomicBool,
}

/// What is due next, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) what: Overdue,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A head that never begins, or never ends.
    Head,
    /// Nothing more is asked.
    Idle,
    /// The peer does not read its answer.
    Write,
    /// The connection was to end and did not.
    End,
}

/// What the accept loop can ask of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Finish what is in flight, then close.
    Finish,
    /// Close now.
    Close,
}

/// One request in flight; over when it is dropped.
pub(super) struct InFlight<'a>(&'a Activity);

impl Activity {
    pub(super) fn new() -> Activity {
        Activity {
            began: Instant::now(),
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            begun: Notify::new(),
            answered: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            stalled_since: AtomicU64::new(0),
            ending_since: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            doubt: OnceLock::new(),
            order: AtomicU8::new(NO_ORDER),
            ordered: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Notes what the scanner saw in the bytes that just came.
    pub(super) fn scanned(&self, scanner: &Scanner) {
        self.heads.store(scanner.heads(), Ordering::Relaxed);
        if let Some(doubt) = scanner.doubt() {
            let _ = self.doubt.set(doubt);
        }
        match (scanner.in_head(), self.head_since.load(Ordering::Relaxed)) {
            (true, NEVER) => self.head_since.store(self.millis(), Ordering::Relaxed),
            (false, since) if since != NEVER => self.head_since.store(NEVER, Ordering::Relaxed),
            _ => {}
        }
    }

    pub(super) fn stalled(&self, stalled: bool) {
        match (stalled, self.stalled_since.load(Ordering::Relaxed)) {
            (true, NEVER) => self.stalled_since.store(self.millis(), Ordering::Relaxed),
            (false, since) if since != NEVER => self.stalled_since.store(NEVER, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Counts a request; returns its number on this connection, from 1.
    pub(super) fn request(&self) -> u64 {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.begun.notify_one();
        number
    }

    /// Returns once a request was read; at once if one was.
    pub(super) async fn first_request(&self) {
        while self.requests.load(Ordering::Relaxed) == 0 {
            self.begun.notified().await;
        }
    }

    pub(super) fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Whether the scanner doubts this request, or does not know it: then it and hyper read the bytes differently,
    /// and one of them is wrong.
    pub(super) fn framing_doubt(&self, request: u64) -> Option<&'static str> {
        match self.doubt.get() {
            Some(doubt) if doubt.head <= request => Some(doubt.why),
            _ => (request > self.heads.load(Ordering::Relaxed)).then_some("The request begins inside another one."),
        }
    }

    /// The connection is to end as soon as nothing is in flight.
    pub(super) fn ending(&self) {
        if self.ending_since.load(Ordering::Relaxed) == NEVER {
            self.ending_since.store(self.millis(), Ordering::Relaxed);
        }
    }

    /// What this connection runs out of time with next; none while a request is in flight, which has limits of its
    /// own.
    pub(super) fn due(&self, timeouts: Timeouts) -> Option<Due> {
        let due = |since: u64, timeout: Duration, what| {
            let since = self.began + Duration::from_millis(since.saturating_sub(1));
            // None for a timeout beyond all time.
            Some(Due { at: since.checked_add(timeout)?, what })
        };
        let stalled = self.stalled_since.load(Ordering::Relaxed);
        if stalled != NEVER {
            return due(stalled, WRITE_TIMEOUT, Overdue::Write);
        }
        if self.is_busy() {
            return None;
        }
        let ending = self.ending_since.load(Ordering::Relaxed);
        if ending != NEVER {
            return due(ending, END_TIMEOUT, Overdue::End);
        }
        let head = self.head_since.load(Ordering::Relaxed);
        if head != NEVER {
            return due(head, timeouts.header, Overdue::Head);
        }
        match self.answered.load(Ordering::Relaxed) {
            NEVER => due(NEVER, timeouts.header, Overdue::Head),
            answered => due(answered, timeouts.idle, Overdue::Idle),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Since when nothing was achieved on this connection.
    pub(super) fn unproductive_since(&self) -> Instant {
        self.began + Duration::from_millis(self.answered.load(Ordering::Relaxed).saturating_sub(1))
    }

    pub(super) fn order(&self, order: Order) {
        let order = match order {
            Order::Finish => FINISH,
            Order::Close => CLOSE,
        };
        self.order.fetch_max(order, Ordering::Relaxed);
        self.ordered.notify_one();
    }

    /// Waits for the next order.
    pub(super) async fn ordered(&self) -> Order {
        loop {
            self.ordered.notified().await;
            match self.order.load(Ordering::Relaxed) {
                NO_ORDER => {}
                FINISH => return Order::Finish,
                _ => return Order::Close,
            }
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.answered.store(self.0.millis(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

const NEVER: u64 = 0;

const NO_ORDER: u8 = 0;
const FINISH: u8 = 1;
const CLOSE: u8 = 2;

/// Answers are small: a peer that takes none of it for so long is gone, or holds the connection on purpose.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// For the peer to see the end and close its side.
const END_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts { header: Duration::from_secs(10), idle: Duration::from_secs(75) };

    fn what(activity: &Activity) -> Option<Overdue> {
        activity.due(TIMEOUTS).map(|due| due.what)
    }

    #[test]
    fn what_is_due_follows_what_the_connection_does() {
        let activity = Activity::new();
        let mut scanner = Scanner::default();
        assert_eq!(what(&activity), Some(Overdue::Head), "the first head must begin in time");
        scanner.feed(b"POST / HT");
        activity.scanned(&scanner);
        assert_eq!(what(&activity), Some(Overdue::Head), "and end in time");
        scanner.feed(b"TP/1.1\r\nHost: a\r\n\r\n");
        activity.scanned(&scanner);
        let request = activity.in_flight();
        assert_eq!(what(&activity), None, "a request in flight has its own limits");
        drop(request);
        assert_eq!(what(&activity), Some(Overdue::Idle), "after its answer the connection may rest");
        scanner.feed(b"P");
        activity.scanned(&scanner);
        assert_eq!(what(&activity), Some(Overdue::Head), "until the next head begins");
        activity.ending();
        assert_eq!(what(&activity), Some(Overdue::End), "an end does not take long");
        let request = activity.in_flight();
        assert_eq!(what(&activity), None, "but waits for what is in flight");
        activity.stalled(true);
        assert_eq!(what(&activity), Some(Overdue::Write), "unless its answer is not taken");
        activity.stalled(false);
        assert_eq!(what(&activity), None);
        drop(request);
    }

    #[test]
    fn a_request_that_the_scanner_did_not_see_begin_is_doubted() {
        let activity = Activity::new();
        let mut scanner = Scanner::default();
        scanner.feed(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n");
        activity.scanned(&scanner);
        assert_eq!(activity.framing_doubt(activity.request()), None);
        assert!(activity.framing_doubt(activity.request()).is_some());
    }
}
