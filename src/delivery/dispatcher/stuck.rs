//! Stuck events: they fail for long while others succeed. Each is logged once, and shown until it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::callgoose::answer::Trouble;
use crate::clock::WallTime;
use crate::event::EventId;

/// The currently stuck events, up to a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stuck {
    events: BTreeMap<EventId, Failing>,
    /// Stuck events beyond the limit, since the start.
    pub more: u64,
}

/// The failure of a stuck event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    pub since: WallTime,
    pub trouble: Trouble,
    pub status: Option<u16>,
}

impl Stuck {
    /// The event that has failed longest.
    pub(crate) fn first(&self) -> Option<(EventId, &Failing)> {
        self.events.iter().min_by_key(|(_, failing)| failing.since).map(|(id, failing)| (*id, failing))
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Notes that an event failed again. Returns true if it is new.
    pub(super) fn put(&mut self, event: EventId, failing: Failing) -> bool {
        if let Some(known) = self.events.get_mut(&event) {
            (known.trouble, known.status) = (failing.trouble, failing.status);
            return false;
        }
        if self.events.len() >= EVENTS_MAX {
            self.more += 1;
            return false;
        }
        self.events.insert(event, failing);
        true
    }

    /// Removes an event that ended. Returns true if it was stuck.
    pub(super) fn remove(&mut self, event: EventId) -> bool {
        self.events.remove(&event).is_some()
    }
}

/// The time after which an event that fails alone needs a person.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(300);
/// More than a person reads.
const EVENTS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_event_is_new_once_and_shown_until_it_ends() {
        let failing = |since| Failing { since: WallTime(since), trouble: Trouble::ServerError, status: Some(500) };
        let mut stuck = Stuck::default();
        assert!(stuck.put(EventId(2), failing(20)) && !stuck.put(EventId(2), failing(30)));
        assert!(stuck.put(EventId(9), failing(10)));
        assert_eq!(stuck.first(), Some((EventId(9), &failing(10))));
        assert!(stuck.remove(EventId(9)) && !stuck.remove(EventId(9)));
        assert_eq!(stuck.first(), Some((EventId(2), &failing(20))));
        for id in 100..300 {
            stuck.put(EventId(id), failing(40));
        }
        assert_eq!((stuck.len(), stuck.more), (EVENTS_MAX, 101));
    }
}
