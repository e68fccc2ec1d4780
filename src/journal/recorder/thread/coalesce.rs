//! Settlements that nobody waits for share a batch: each waits a moment for others.
//!
//! Settling one event dirties as many pages as settling its hundred neighbours, since events that were acknowledged one
//! after another stand side by side. Until it is on disk no other event of its key is delivered,
//! and a restart would send its event once more.

use std::time::{Duration, Instant};

use crate::event::{EventId, State};
use crate::journal::recorder::Message;
use crate::journal::request::{Request, Settle};

/// Waiting settlements in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Coalesce {
    ends: Vec<Message>,
    until: Option<Instant>,
}

impl Coalesce {
    /// The latest time at which they must be written.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes out of `messages` what may wait, or puts everything that waited in front of them. `followed` returns true
    /// if a sender waits for an event's settlement; with `at_once` nothing waits.
    pub(super) fn sort_out(
        &mut self,
        messages: &mut Vec<Message>,
        now: Instant,
        at_once: bool,
        followed: impl Fn(EventId) -> bool,
    ) {
        self.ends.extend(messages.extract_if(.., |message| match &message.request {
            Request::Settle(end) => may_wait(end, followed(end.settlement.id)),
            _ => false,
        }));
        if self.ends.is_empty() {
            return;
        }
        let until = *self.until.get_or_insert_with(|| now + WAIT_MAX);
        // Other commands may depend on these settlements; new events and confirmations do not.
        let is_new = |message: &Message| matches!(message.request, Request::Record(_) | Request::Confirm(_));
        let only_new = messages.iter().all(is_new);
        if at_once || !only_new || now >= until || self.ends.len() >= SETTLEMENTS_MAX {
            let mut all = self.take();
            all.append(messages);
            *messages = all;
        }
    }

    /// Takes everything that waits.
    pub(super) fn take(&mut self) -> Vec<Message> {
        self.until = None;
        std::mem::take(&mut self.ends)
    }
}

/// Returns true if a settlement is not urgent: it leaves its key's state as it is, and neither a later event of the key
/// nor a sender waits for it.
fn may_wait(settle: &Settle, followed: bool) -> bool {
    let Settle { settlement, awaited, .. } = settle;
    let done = settlement.state == State::Delivered && settlement.outcome.is_some_and(|outcome| !outcome.is_warning());
    done && !awaited && !followed
}

/// Long enough for a few hundred settlements under load, too short to be noticed.
const WAIT_MAX: Duration = Duration::from_millis(25);
/// More in one batch would delay the senders that share it.
const SETTLEMENTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::event::{KeyId, Outcome, Settlement};

    fn end(id: u64, outcome: Outcome, awaited: bool) -> Message {
        let settlement = Settlement {
            id: EventId(id),
            state: State::Delivered,
            outcome: Some(outcome),
            reason: None,
            attempts: 1,
            at: WallTime(0),
        };
        Message::unanswered(Request::Settle(Settle {
            attempt: None,
            settlement,
            key: KeyId(0),
            awaited,
            commanded: None,
        }))
    }

    fn numbers(messages: &[Message]) -> Vec<u64> {
        let number = |message: &Message| match &message.request {
            Request::Settle(end) => Some(end.settlement.id.0),
            _ => None,
        };
        messages.iter().filter_map(number).collect()
    }

    #[test]
    fn only_an_end_that_changes_nothing_for_anyone_waits() {
        for (outcome, awaited, followed, waits) in [
            (Outcome::Created, false, false, true),
            (Outcome::Resolved, false, false, true),
            (Outcome::Duplicate, false, false, true),
            (Outcome::Created, true, false, false),
            (Outcome::Created, false, true, false),
            // The key becomes unknown, or a person must see it.
            (Outcome::Unmatched, false, false, false),
            (Outcome::NotResolved, false, false, false),
            (Outcome::Accepted, false, false, false),
        ] {
            let (mut coalesce, mut messages) = (Coalesce::default(), vec![end(1, outcome, awaited)]);
            coalesce.sort_out(&mut messages, Instant::now(), false, |_| followed);
            assert_eq!(messages.is_empty(), waits, "{outcome:?} {awaited} {followed}");
            assert_eq!(coalesce.until().is_some(), waits);
        }
    }

    #[test]
    fn what_waited_goes_first_when_the_time_is_over_when_there_are_many_or_when_something_rests_on_it() {
        let start = Instant::now();
        let waiting = || {
            let mut coalesce = Coalesce::default();
            coalesce.sort_out(&mut vec![end(1, Outcome::Created, false)], start, false, |_| false);
            coalesce
        };
        let sorted = |mut messages: Vec<Message>, at: Instant, at_once: bool| {
            waiting().sort_out(&mut messages, at, at_once, |_| false);
            numbers(&messages)
        };
        let unmatched = || vec![end(2, Outcome::Unmatched, false)];
        assert_eq!(sorted(vec![], start, false), [0; 0]);
        assert_eq!(sorted(vec![end(2, Outcome::Created, false)], start, false), [0; 0]);
        assert_eq!(sorted(vec![], start + WAIT_MAX, false), [1]);
        assert_eq!(sorted(vec![], start, true), [1]);
        assert_eq!(sorted(unmatched(), start, false), [1, 2]);
        let many = (2..).take(SETTLEMENTS_MAX - 1).map(|id| end(id, Outcome::Created, false)).collect();
        assert_eq!(sorted(many, start, false).len(), SETTLEMENTS_MAX);
    }
}
