//! The messages that were acknowledged a moment ago with the events that they became, so that one that comes again pages
//! nobody again unless its event came to nothing.
//!
//! A message is remembered once its request was answered by a success, and no sooner: a sender that got no answer, or one
//! that tells it to try again, sends the same message, and that must be taken. It is kept in memory alone; what comes
//! again after a restart is left to deduplication, as with senders that give no ids.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Monotonic;
use crate::credential::{KEEP_MESSAGES, MessageId};
use crate::journal::request::Earlier;

/// The messages of one source.
#[derive(Debug, Default)]
pub(super) struct SeenMessages(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The events of each.
    became: HashMap<MessageId, Arc<[Earlier]>>,
    /// The number of all of these events.
    events: usize,
    /// The same messages with the times until which they are kept, in the order in which they came.
    until: VecDeque<(Monotonic, MessageId)>,
}

impl SeenMessages {
    /// None where the message was not acknowledged yet; else its events.
    pub(super) fn earlier(&self, message: MessageId, now: Monotonic) -> Option<Arc<[Earlier]>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget(now);
        table.became.get(&message).cloned()
    }

    pub(super) fn remember(&self, message: MessageId, became: Arc<[Earlier]>, now: Monotonic) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.events += became.len();
        match table.became.insert(message, became) {
            Some(before) => table.events -= before.len(),
            None => table.until.push_back((now.after(KEEP_MESSAGES), message)),
        }
        table.forget(now);
    }
}

impl Table {
    /// Forgets what has had its time, and of the rest the oldest beyond what may be kept.
    fn forget(&mut self, now: Monotonic) {
        while let Some((until, message)) = self.until.front()
            && (*until < now || self.until.len() > MESSAGES_MAX || self.events > EVENTS_MAX)
        {
            self.events -= self.became.remove(message).map_or(0, |became| became.len());
            self.until.pop_front();
        }
    }
}

/// The messages of a source that are remembered, and the events of all of them, in about three megabytes. Of more the
/// oldest are left to deduplication.
const MESSAGES_MAX: usize = 16_384;
const EVENTS_MAX: usize = 32_768;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, EventId, KeyId};

    fn events(count: u64) -> Arc<[Earlier]> {
        (0..count).map(|n| Earlier { key: KeyId(n.into()), action: Action::Trigger, event: EventId(n) }).collect()
    }

    fn message(number: usize) -> MessageId {
        MessageId::of(number.to_string().as_bytes(), b"{}")
    }

    #[test]
    fn a_message_is_known_for_as_long_as_its_signature_can_be_good() {
        let seen = SeenMessages::default();
        let (start, end) = (Monotonic(5), Monotonic(5).after(KEEP_MESSAGES));
        assert_eq!(seen.earlier(message(1), start), None);
        seen.remember(message(1), events(3), start);
        seen.remember(message(2), events(0), start);
        seen.remember(message(1), events(2), start);
        assert_eq!(seen.earlier(message(1), end), Some(events(2)));
        assert_eq!(seen.earlier(message(2), end), Some(events(0)));
        assert_eq!(seen.earlier(message(3), end), None);
        assert_eq!(seen.earlier(message(1), Monotonic(end.0 + 1)), None);
        let table = seen.0.lock().unwrap();
        assert_eq!((table.became.len(), table.until.len(), table.events), (0, 0, 0));
    }

    #[test]
    fn one_id_with_another_body_is_another_message() {
        assert_ne!(MessageId::of(b"a", b"b"), MessageId::of(b"a", b"c"));
        assert_ne!(MessageId::of(b"a", b"bc"), MessageId::of(b"ab", b"c"));
        assert_eq!(MessageId::of(b"a", b"b"), MessageId::of(b"a", b"b"));
    }

    #[test]
    fn of_too_many_the_oldest_is_forgotten() {
        let seen = SeenMessages::default();
        for number in 0..=MESSAGES_MAX {
            seen.remember(message(number), events(0), Monotonic(0));
        }
        assert_eq!(seen.earlier(message(0), Monotonic(0)), None);
        assert_eq!(seen.earlier(message(1), Monotonic(0)), Some(events(0)));
        assert_eq!(seen.earlier(message(MESSAGES_MAX), Monotonic(0)), Some(events(0)));
    }

    #[test]
    fn messages_of_many_events_take_no_more_memory_than_others() {
        let seen = SeenMessages::default();
        let half = events(EVENTS_MAX as u64 / 2);
        for number in 0..3 {
            seen.remember(message(number), Arc::clone(&half), Monotonic(0));
        }
        assert_eq!(seen.earlier(message(0), Monotonic(0)), None);
        assert_eq!(seen.earlier(message(2), Monotonic(0)), Some(half));
        assert_eq!(seen.0.lock().unwrap().events, EVENTS_MAX);
    }
}
