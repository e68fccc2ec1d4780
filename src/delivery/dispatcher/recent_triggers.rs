//! The keys whose trigger was delivered within the last minutes: a resolve of such a key that found no incident may
//! have come too early.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Monotonic;
use crate::event::{Action, KeyId, Outcome};

/// The keys opened within `within`, the last [`KEYS_MAX`] at most.
#[derive(Debug)]
pub struct RecentTriggers {
    within: Duration,
    opened: HashMap<KeyId, Monotonic>,
    /// In the order of time, including keys that were resolved or triggered again since.
    order: VecDeque<(Monotonic, KeyId)>,
}

impl RecentTriggers {
    pub fn new(within: Duration) -> RecentTriggers {
        RecentTriggers { within, opened: HashMap::new(), order: VecDeque::new() }
    }

    /// Notes a delivered event.
    pub fn delivered(&mut self, key: KeyId, action: Action, outcome: Outcome, now: Monotonic) {
        self.forget(now);
        if action == Action::Resolve {
            self.opened.remove(&key);
            return;
        }
        if outcome.leaves_key_unknown() || self.within.is_zero() {
            return;
        }
        self.opened.insert(key, now);
        self.order.push_back((now, key));
    }

    pub fn opened(&self, key: KeyId, now: Monotonic) -> bool {
        self.opened.get(&key).is_some_and(|at| now.since(*at) < self.within)
    }

    /// Drops keys that are too old, and the oldest if there is no room for another.
    fn forget(&mut self, now: Monotonic) {
        while let Some((at, key)) = self.order.front().copied()
            && (now.since(at) >= self.within || self.order.len() >= KEYS_MAX)
        {
            self.order.pop_front();
            if self.opened.get(&key) == Some(&at) {
                self.opened.remove(&key);
            }
        }
    }
}

/// Five minutes at eighty a second, in two megabytes. For keys beyond it an early answer is accepted.
const KEYS_MAX: usize = 25_000;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyId = KeyId(1);

    #[test]
    fn a_key_was_opened_recently_until_the_time_is_over_or_it_is_resolved() {
        let mut recent = RecentTriggers::new(Duration::from_secs(300));
        assert!(!recent.opened(KeyId(1), Monotonic(0)));
        recent.delivered(KEY, Action::Trigger, Outcome::Created, Monotonic(0));
        assert!(recent.opened(KeyId(1), Monotonic(299_999)));
        assert!(!recent.opened(KeyId(1), Monotonic(300_000)));
        recent.delivered(KEY, Action::Resolve, Outcome::Resolved, Monotonic(1));
        assert!(!recent.opened(KeyId(1), Monotonic(2)));
        recent.delivered(KEY, Action::Trigger, Outcome::Unmatched, Monotonic(3));
        assert!(!recent.opened(KeyId(1), Monotonic(4)), "nothing was opened");
    }

    #[test]
    fn a_storm_of_keys_makes_room_for_the_latest_and_leaves_nothing_behind() {
        let mut recent = RecentTriggers::new(Duration::from_secs(300));
        let keys = KEYS_MAX as u64 * 2;
        for number in 1..=keys {
            recent.delivered(KeyId(u128::from(number)), Action::Trigger, Outcome::Created, Monotonic(0));
        }
        assert_eq!((recent.opened.len(), recent.order.len()), (KEYS_MAX, KEYS_MAX));
        assert!(recent.opened(KeyId(u128::from(keys)), Monotonic(0)));
        assert!(!recent.opened(KeyId(1), Monotonic(0)));
        recent.delivered(KEY, Action::Resolve, Outcome::Resolved, Monotonic(300_000));
        assert_eq!((recent.opened.len(), recent.order.len()), (0, 0));
    }

    #[test]
    fn a_key_that_was_opened_again_is_remembered_from_then_on() {
        let mut recent = RecentTriggers::new(Duration::from_secs(300));
        recent.delivered(KEY, Action::Trigger, Outcome::Created, Monotonic(0));
        recent.delivered(KEY, Action::Trigger, Outcome::Created, Monotonic(200_000));
        recent.delivered(KeyId(2), Action::Trigger, Outcome::Created, Monotonic(400_000));
        assert!(recent.opened(KeyId(1), Monotonic(400_000)));
    }
}
