//! The messages that were acknowledged a moment ago, so that one that comes again pages nobody again.
//!
//! A message is remembered once its request was answered by a success, and no sooner: a sender that got no answer, or one
//! that tells it to try again, sends the same message, and that must be taken. It is kept in memory alone; what comes
//! again after a restart is left to deduplication, as with senders that give no ids.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::clock::Monotonic;
use crate::credential::{KEEP_MESSAGES, MessageId};
use crate::event::EventId;

/// The messages of one source.
#[derive(Debug, Default)]
pub(super) struct SeenMessages(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The first event of each, if it had one.
    first: HashMap<MessageId, Option<EventId>>,
    /// The same messages with the times until which they are kept, in the order in which they came.
    until: VecDeque<(Monotonic, MessageId)>,
}

impl SeenMessages {
    /// None where the message was not acknowledged yet; else its first event, if it had one.
    pub(super) fn first(&self, message: MessageId, now: Monotonic) -> Option<Option<EventId>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget(now, MESSAGES_MAX);
        table.first.get(&message).copied()
    }

    pub(super) fn remember(&self, message: MessageId, first: Option<EventId>, now: Monotonic) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget(now, MESSAGES_MAX - 1);
        if table.first.insert(message, first).is_none() {
            table.until.push_back((now.after(KEEP_MESSAGES), message));
        }
    }
}

impl Table {
    /// Forgets what has had its time, and of the rest the oldest beyond `count`.
    fn forget(&mut self, now: Monotonic, count: usize) {
        while let Some((until, message)) = self.until.front()
            && (*until < now || self.until.len() > count)
        {
            self.first.remove(message);
            self.until.pop_front();
        }
    }
}

/// The messages of a source that are remembered, in about a megabyte. Of more the oldest is left to deduplication.
const MESSAGES_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize) -> MessageId {
        MessageId::of(number.to_string().as_bytes(), b"{}")
    }

    #[test]
    fn a_message_is_known_for_as_long_as_its_signature_can_be_good() {
        let seen = SeenMessages::default();
        let (start, end) = (Monotonic(5), Monotonic(5).after(KEEP_MESSAGES));
        assert_eq!(seen.first(message(1), start), None);
        seen.remember(message(1), Some(EventId(7)), start);
        seen.remember(message(2), None, start);
        assert_eq!(seen.first(message(1), end), Some(Some(EventId(7))));
        assert_eq!(seen.first(message(2), end), Some(None));
        assert_eq!(seen.first(message(3), end), None);
        assert_eq!(seen.first(message(1), Monotonic(end.0 + 1)), None);
        let table = seen.0.lock().unwrap();
        assert_eq!((table.first.len(), table.until.len()), (0, 0));
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
            seen.remember(message(number), None, Monotonic(0));
        }
        assert_eq!(seen.first(message(0), Monotonic(0)), None);
        assert_eq!(seen.first(message(1), Monotonic(0)), Some(None));
        assert_eq!(seen.first(message(MESSAGES_MAX), Monotonic(0)), Some(None));
    }
}
