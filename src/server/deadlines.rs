//! Tracks what one connection does, and when it will have taken too long.
//!
//! The connection's own tasks write it; the accept loop reads it when it looks for a connection to close.

use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Requests of many peers come on it.
    of_many: bool,
    /// Since when the answers say that the peer may not.
    refused: Option<Instant>,
    /// Requests whose refusal is being delayed.
    delayed: u32,
    /// Requests whose body is waited for.
    bodies: u32,
    /// Since when there is any.
    body: Option<Instant>,
    /// Since when a head is being read.
    head: Option<Instant>,
    /// Since when the peer takes no more bytes.
    stalled: Option<Instant>,
    /// Since when the connection is to end.
    ending: Option<Instant>,
    /// The next answer is the last.
    retired: bool,
    /// It is to take no more requests, because of a failed attempt.
    last: bool,
    /// It went on though it was to end.
    defied: bool,
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
pub(super) struct InFlight {
    pub(super) deadlines: Arc<Deadlines>,
    /// It began after the connection was to take no more of them.
    pub(super) is_after_last: bool,
    body: Option<Arc<Coming>>,
}

/// The body of a request that is waited for, until it ends.
pub(super) struct Coming {
    deadlines: Arc<Deadlines>,
    ended: AtomicBool,
}

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

    /// Requests of many peers come on the connection: it is a trusted proxy's. What one of them is refused says nothing of
    /// the others.
    pub(super) fn of_many(&self) {
        self.state().of_many = true;
    }

    pub(super) fn is_of_many(&self) -> bool {
        self.state().of_many
    }

    /// A request was answered to somebody who may ask.
    pub(super) fn achieve(&self) {
        let mut state = self.state();
        state.achieved = Some(Instant::now());
        state.refused = None;
    }

    /// A request was refused to somebody of whom it is not known that they may ask: no use of a connection, however many
    /// there are.
    pub(super) fn refuse(&self) {
        mark(&mut self.state().refused, true);
    }

    /// The answer to a request is being delayed.
    pub(super) fn delay(self: &Arc<Self>) -> Delay {
        self.state().delayed += 1;
        Delay(Arc::clone(self))
    }

    /// The connection is to take no more requests, because of a failed attempt. HTTP/2 only says so: a peer may send more
    /// all the same, and ends it at once by one that fails.
    pub(super) fn last(&self) {
        let mut state = self.state();
        state.last = !state.of_many;
    }

    /// The connection goes on though it was told to end: it ends at once.
    pub(super) fn defy(&self) {
        self.state().defied = true;
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

    /// A request was read, and is in flight from now on. One that comes long after its peer was told that the connection
    /// ends is the last: else a peer that is told nothing would stay for as long as it asks.
    pub(super) fn request(self: &Arc<Self>) -> InFlight {
        let mut state = self.state();
        state.in_flight += 1;
        state.defied |= state.ending.is_some_and(|since| since.elapsed() >= ON_ITS_WAY);
        let is_after_last = state.last;
        drop(state);
        self.requested.notify_one();
        InFlight { deadlines: Arc::clone(self), is_after_last, body: None }
    }

    /// Returns once a request was read; at once if one was. For one who waits.
    pub(super) async fn first_request(&self) {
        self.requested.notified().await;
    }

    /// The next deadline; none while a request is in flight, which has limits of its own.
    pub(super) fn next(&self, limits: Limits) -> Option<Due> {
        let (since, timeout, what) = match *self.state() {
            State { defied: true, began, .. } => (began, Duration::ZERO, Overdue::End),
            State { last: true, ending: None, began, .. } => (began, Duration::ZERO, Overdue::Idle),
            State { stalled: Some(since), .. } => (since, limits.write_timeout, Overdue::Write),
            State { in_flight: 1.., .. } => return None,
            // The answer that was in flight is still to be written, and to be read.
            State { ending: Some(since), answered, .. } => {
                (answered.map_or(since, |answered| answered.max(since)), END_TIMEOUT, Overdue::End)
            }
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
        let refused = |since| match state.of_many {
            true => (Claim::Idle, state.achieved.unwrap_or(since)),
            false => (Claim::Refused, since),
        };
        let (claim, since) = match *state {
            State { in_flight, bodies, delayed, began, .. } if in_flight > bodies + delayed => (Claim::Served, began),
            State { in_flight: 1.., body: Some(since), achieved, .. } => {
                // Of the bodies of several streams the oldest may have ended long ago.
                let since = achieved.map_or(since, |achieved| achieved.max(since));
                (if is_late(since) { Claim::Dribbling } else { Claim::Sending }, since)
            }
            State { delayed: 1.., began, .. } => refused(began),
            State { refused: Some(since), .. } => refused(since),
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
            of_many: false,
            refused: None,
            delayed: 0,
            bodies: 0,
            body: None,
            head: None,
            stalled: None,
            ending: None,
            retired: false,
            last: false,
            defied: false,
        }
    }
}

impl InFlight {
    /// Its body is waited for from now on.
    pub(super) fn await_body(&mut self) -> Arc<Coming> {
        let mut state = self.deadlines.state();
        state.bodies += 1;
        mark(&mut state.body, true);
        drop(state);
        let coming = Arc::new(Coming { deadlines: Arc::clone(&self.deadlines), ended: AtomicBool::new(false) });
        self.body = Some(Arc::clone(&coming));
        coming
    }

    /// Its answer is known. Nothing of its body is waited for any more, though it may still come.
    pub(super) fn answered(&self) {
        if let Some(body) = &self.body {
            body.end();
        }
    }
}

impl Coming {
    /// It is not waited for any more.
    pub(super) fn end(&self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            let mut state = self.deadlines.state();
            state.bodies -= 1;
            if state.bodies == 0 {
                state.body = None;
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.answered();
        let mut state = self.deadlines.state();
        state.answered = Some(Instant::now());
        state.in_flight -= 1;
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.0.state().delayed -= 1;
    }
}

/// Since a connection is to end: its peer is told within a second, and what it sent until then is here soon after.
const ON_ITS_WAY: Duration = Duration::from_secs(3);

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
        let mut request = deadlines.request();
        assert_eq!(claim(99), Claim::Served, "the relay owes it an answer");
        let body = request.await_body();
        assert_eq!([claim(0), claim(3)], [Claim::Sending, Claim::Dribbling]);
        body.end();
        assert_eq!(claim(99), Claim::Served);
        let delay = deadlines.delay();
        assert_eq!(claim(0), Claim::Refused, "it waits to hear that it may not");
        drop(delay);
        deadlines.refuse();
        drop(request);
        assert_eq!(claim(0), Claim::Refused);
        let request = deadlines.request();
        assert_eq!(claim(0), Claim::Served, "it may be let in this time");
        deadlines.achieve();
        drop(request);
        assert_eq!([claim(0), claim(99)], [Claim::Idle; 2]);
        deadlines.refuse();
        assert_eq!(claim(0), Claim::Refused, "whatever it achieved before");
    }

    #[test]
    fn a_connection_of_several_streams_does_not_dribble_while_any_ends() {
        let deadlines = Arc::new(Deadlines::default());
        let (mut one, mut other) = (deadlines.request(), deadlines.request());
        let _bodies = [one.await_body(), other.await_body()];
        deadlines.state().body = Instant::now().checked_sub(Duration::from_secs(60));
        let claim = || deadlines.standing(Instant::now(), Duration::from_secs(2)).claim;
        assert_eq!(claim(), Claim::Dribbling);
        deadlines.achieve();
        drop(other);
        assert_eq!(claim(), Claim::Sending);
    }

    #[test]
    fn a_request_whose_body_is_awaited_neither_hides_behind_others_nor_exposes_them() {
        let deadlines = Arc::new(Deadlines::default());
        let later = Instant::now() + Duration::from_secs(60);
        let claim = || deadlines.standing(later, Duration::from_secs(2)).claim;
        let (mut stalled, quick) = (deadlines.request(), deadlines.request());
        let _never = stalled.await_body();
        assert_eq!(claim(), Claim::Served, "one of two is owed an answer");
        quick.answered();
        drop(quick);
        assert_eq!(claim(), Claim::Dribbling, "none is");
        let mut whole = deadlines.request();
        whole.await_body().end();
        assert_eq!(claim(), Claim::Served, "it came whole, and waits");
    }

    #[test]
    fn one_refusal_says_nothing_of_the_other_requests_of_a_connection() {
        let deadlines = Arc::new(Deadlines::default());
        let claim = || deadlines.standing(Instant::now(), Duration::from_secs(2)).claim;
        let (guess, honest) = (deadlines.request(), deadlines.request());
        let _delay = deadlines.delay();
        assert_eq!(claim(), Claim::Served);
        drop(honest);
        assert_eq!(claim(), Claim::Refused);
        drop(guess);
    }

    #[test]
    fn no_failed_attempt_exposes_or_ends_the_connection_of_a_proxy() {
        let deadlines = Arc::new(Deadlines::default());
        deadlines.of_many();
        let claim = || deadlines.standing(Instant::now(), Duration::from_secs(2)).claim;
        let guess = deadlines.request();
        let delay = deadlines.delay();
        assert_eq!(claim(), Claim::Idle);
        drop(delay);
        deadlines.last();
        assert_eq!(deadlines.next(LIMITS), None);
        deadlines.refuse();
        drop(guess);
        assert_eq!(claim(), Claim::Idle);
    }

    #[test]
    fn a_request_long_after_the_end_was_told_ends_the_connection() {
        let deadlines = Arc::new(Deadlines::default());
        let what = || deadlines.next(LIMITS).map(|due| (due.what, due.at <= Instant::now()));
        let _waits = deadlines.request();
        deadlines.ending();
        let _on_its_way = deadlines.request();
        assert_eq!(what(), None, "what is in flight is finished");
        deadlines.state().ending = Instant::now().checked_sub(ON_ITS_WAY);
        assert_eq!(what(), None);
        let _late = deadlines.request();
        assert_eq!(what(), Some((Overdue::End, true)));
    }

    #[test]
    fn the_end_waits_until_the_last_answer_was_read() {
        let deadlines = Arc::new(Deadlines::default());
        let request = deadlines.request();
        deadlines.ending();
        deadlines.state().ending = Instant::now().checked_sub(10 * END_TIMEOUT);
        drop(request);
        assert!(deadlines.next(LIMITS).is_some_and(|due| due.what == Overdue::End && due.at > Instant::now()));
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
