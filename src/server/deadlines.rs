//! Tracks what one connection does, and when it will have taken too long.
//!
//! The connection's own tasks write it; the accept loop reads it when it looks for a connection to close.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Limits;
use super::shares::{Claim, Standing};

/// The state of one connection, with the moment at which each part of it began.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    state: Mutex<State>,
    requested: Notify,
}

#[derive(Debug)]
struct State {
    began: Instant,
    /// A byte came from the peer, beside those of its TLS handshake.
    heard: bool,
    /// Requests that are being answered.
    in_flight: u32,
    /// When the last answer was given.
    answered: Option<Instant>,
    /// When the last answer was given that was of use.
    achieved: Option<Instant>,
    /// Since when the answers say that the peer may not.
    refused: Option<Instant>,
    /// Requests whose refusal is being delayed.
    delayed: u32,
    /// Since when a body is being read.
    body: Option<Instant>,
    /// Since when a head is being read.
    head: Option<Instant>,
    /// Since when the peer takes no more bytes.
    stalled: Option<Instant>,
    /// Since when the connection is to end.
    ending: Option<Instant>,
    /// The next answer is the last.
    retired: bool,
    /// It is to take no more requests.
    last: bool,
}

/// The next deadline of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) what: Overdue,
}

/// The step that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A head never begins, or never ends.
    Head,
    /// Nothing more is asked.
    Idle,
    /// The peer does not read its answer.
    Write,
    /// The connection was to end and did not.
    End,
}

/// A request in flight; over when it is dropped.
pub(super) struct InFlight(Arc<Deadlines>);

/// An answer that is being delayed, until this is dropped.
pub(super) struct Delay(Arc<Deadlines>);

impl Deadlines {
    /// The peer sent something.
    pub(super) fn hear(&self) {
        self.state().heard = true;
    }

    /// The peer sent something by now.
    pub(super) fn was_heard(&self) -> bool {
        self.state().heard
    }

    /// A head is being read, or not.
    pub(super) fn head(&self, open: bool) {
        mark(&mut self.state().head, open);
    }

    /// A body is being read, or not.
    pub(super) fn body(&self, open: bool) {
        mark(&mut self.state().body, open);
    }

    /// The answer to a request is known. A refusal of who may not is no use of a connection, however many there are.
    pub(super) fn answer(&self, of_use: bool) {
        let mut state = self.state();
        if of_use {
            state.achieved = Some(Instant::now());
        }
        mark(&mut state.refused, !of_use);
    }

    /// The answer to a request is being delayed.
    pub(super) fn delay(self: &Arc<Self>) -> Delay {
        self.state().delayed += 1;
        Delay(Arc::clone(self))
    }

    /// The connection takes no more requests.
    pub(super) fn last(&self) {
        self.state().last = true;
    }

    /// The peer takes no more bytes, or takes them again.
    pub(super) fn stalled(&self, stalled: bool) {
        mark(&mut self.state().stalled, stalled);
    }

    /// The connection is to end as soon as nothing is in flight.
    pub(super) fn ending(&self) {
        mark(&mut self.state().ending, true);
    }

    /// The next answer of a connection of HTTP/1 is to be the last.
    pub(super) fn retire(&self) {
        self.state().retired = true;
    }

    pub(super) fn is_retired(&self) -> bool {
        self.state().retired
    }

    /// A request was read, and is in flight from now on.
    pub(super) fn request(self: &Arc<Self>) -> InFlight {
        self.state().in_flight += 1;
        self.requested.notify_one();
        InFlight(Arc::clone(self))
    }

    /// Returns once a request was read; at once if one was. For one who waits.
    pub(super) async fn first_request(&self) {
        self.requested.notified().await;
    }

    /// The next deadline; none while a request is in flight, which has limits of its own.
    pub(super) fn next(&self, limits: Limits) -> Option<Due> {
        let (since, timeout, what) = match *self.state() {
            State { last: true, ending: None, began, .. } => (began, Duration::ZERO, Overdue::Idle),
            State { stalled: Some(since), .. } => (since, limits.write_timeout, Overdue::Write),
            State { in_flight: 1.., .. } => return None,
            State { ending: Some(since), .. } => (since, END_TIMEOUT, Overdue::End),
            State { head: Some(since), .. } => (since, limits.header_timeout, Overdue::Head),
            State { answered: Some(since), .. } => (since, limits.idle_timeout, Overdue::Idle),
            State { began, .. } => (began, limits.header_timeout, Overdue::Head),
        };
        // None for a timeout beyond all time.
        Some(Due { at: since.checked_add(timeout)?, what })
    }

    /// Its reason to stay where connections have to give way. `grace` is the time that a peer has to begin.
    pub(super) fn standing(&self, now: Instant, grace: Duration) -> Standing {
        let state = self.state();
        let is_late = |since: Instant| now.saturating_duration_since(since) >= grace;
        let (claim, since) = match *state {
            State { delayed: 1.., began, .. } => (Claim::Refused, began),
            State { in_flight: 1.., body: Some(since), achieved, .. } => {
                // Of the bodies of several streams the oldest may have ended long ago.
                let since = achieved.map_or(since, |achieved| achieved.max(since));
                (if is_late(since) { Claim::Dribbling } else { Claim::Sending }, since)
            }
            State { in_flight: 1.., began, .. } => (Claim::Served, began),
            State { refused: Some(since), .. } => (Claim::Refused, since),
            State { achieved: Some(since), .. } => (Claim::Idle, since),
            State { began, .. } => (if is_late(began) { Claim::Nothing } else { Claim::Fresh }, began),
        };
        Standing { claim, since }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each step changes one field, so that a panic can't have left it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mark(since: &mut Option<Instant>, on: bool) {
    if on {
        since.get_or_insert_with(Instant::now);
    } else {
        *since = None;
    }
}

impl Default for State {
    fn default() -> State {
        State {
            began: Instant::now(),
            heard: false,
            in_flight: 0,
            answered: None,
            achieved: None,
            refused: None,
            delayed: 0,
            body: None,
            head: None,
            stalled: None,
            ending: None,
            retired: false,
            last: false,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answered = Some(Instant::now());
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.body = None;
        }
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.0.state().delayed -= 1;
    }
}

/// For the peer to see the end and close its side.
const END_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connections_max: 1,
        connections_of_address_max: None,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        write_timeout: Duration::from_secs(10),
        drain_timeout: Duration::ZERO,
        connection_age_max: Duration::MAX,
    };

    #[test]
    fn what_is_due_follows_what_the_connection_does() {
        let deadlines = Arc::new(Deadlines::default());
        let next = || deadlines.next(LIMITS).map(|due| due.what);
        assert_eq!(next(), Some(Overdue::Head), "the first head must begin in time");
        deadlines.head(true);
        assert_eq!(next(), Some(Overdue::Head), "and end in time");
        deadlines.head(false);
        let request = deadlines.request();
        assert_eq!(next(), None, "a request in flight has its own limits");
        drop(request);
        assert_eq!(next(), Some(Overdue::Idle), "after its answer the connection may rest");
        deadlines.head(true);
        assert_eq!(next(), Some(Overdue::Head), "until the next head begins");
        deadlines.ending();
        assert_eq!(next(), Some(Overdue::End), "an end does not take long");
        let request = deadlines.request();
        assert_eq!(next(), None, "but waits for what is in flight");
        deadlines.stalled(true);
        assert_eq!(next(), Some(Overdue::Write), "unless its answer is not taken");
        deadlines.stalled(false);
        assert_eq!(next(), None);
        drop(request);
    }
    #[test]
    fn a_connection_stays_by_what_it_achieved() {
        const GRACE: Duration = Duration::from_secs(2);
        let deadlines = Arc::new(Deadlines::default());
        let claim = |later| deadlines.standing(Instant::now() + Duration::from_secs(later), GRACE).claim;
        assert_eq!([claim(0), claim(3)], [Claim::Fresh, Claim::Nothing], "it has a little time to begin");
        let request = deadlines.request();
        assert_eq!(claim(99), Claim::Served, "the relay owes it an answer");
        deadlines.body(true);
        assert_eq!([claim(0), claim(3)], [Claim::Sending, Claim::Dribbling]);
        deadlines.body(false);
        assert_eq!(claim(99), Claim::Served);
        let delay = deadlines.delay();
        assert_eq!(claim(0), Claim::Refused, "it waits to hear that it may not");
        drop(delay);
        deadlines.answer(false);
        drop(request);
        assert_eq!(claim(0), Claim::Refused);
        let request = deadlines.request();
        assert_eq!(claim(0), Claim::Served, "it may be let in this time");
        deadlines.answer(true);
        drop(request);
        assert_eq!([claim(0), claim(99)], [Claim::Idle; 2]);
        deadlines.answer(false);
        assert_eq!(claim(0), Claim::Refused, "whatever it achieved before");
    }

    #[test]
    fn a_connection_of_several_streams_does_not_dribble_while_any_ends() {
        let deadlines = Arc::new(Deadlines::default());
        let (_one, other) = (deadlines.request(), deadlines.request());
        deadlines.body(true);
        deadlines.state().body = Instant::now().checked_sub(Duration::from_secs(60));
        let claim = || deadlines.standing(Instant::now(), Duration::from_secs(2)).claim;
        assert_eq!(claim(), Claim::Dribbling);
        deadlines.answer(true);
        drop(other);
        assert_eq!(claim(), Claim::Sending);
    }

    #[test]
    fn the_last_answer_of_a_connection_ends_it() {
        let deadlines = Arc::new(Deadlines::default());
        let request = deadlines.request();
        deadlines.last();
        assert_eq!(deadlines.next(LIMITS).map(|due| due.what), Some(Overdue::Idle));
        deadlines.ending();
        assert_eq!(deadlines.next(LIMITS), None, "what is in flight is finished");
        drop(request);
        assert_eq!(deadlines.next(LIMITS).map(|due| due.what), Some(Overdue::End));
    }
}
