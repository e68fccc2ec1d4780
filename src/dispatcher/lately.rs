//! Which keys had a trigger delivered within the last minutes: a resolve that found nothing there may have come too
//! early.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::{Action, KeyId, Outcome, Queued};
use crate::time::Monotonic;

/// Remembers for `within`, and at most [`KEYS_MAX`] keys.
#[derive(Debug)]
pub struct Lately {
    within: Duration,
    opened: HashMap<KeyId, Monotonic>,
}

impl Lately {
    pub fn new(within: Duration) -> Lately {
        Lately { within, opened: HashMap::new() }
    }

    pub fn delivered(&mut self, event: &Queued, outcome: Outcome, now: Monotonic) {
        if event.action == Action::Resolve {
            self.opened.remove(&event.key);
            return;
        }
        if outcome.leaves_key_unknown() || self.within.is_zero() {
            return;
        }
        if self.opened.len() >= KEYS_MAX {
            let within = self.within;
            self.opened.retain(|_, at| now.since(*at) < within);
        }
        if self.opened.len() < KEYS_MAX {
            self.opened.insert(event.key, now);
        }
    }

    pub fn opened(&self, key: KeyId, now: Monotonic) -> bool {
        self.opened.get(&key).is_some_and(|at| now.since(*at) < self.within)
    }
}

/// A storm's worth. Of what is beyond it, an early answer is believed.
const KEYS_MAX: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;

    fn event(action: Action) -> Queued {
        Queued { id: EventId(1), key: KeyId(1), action, reopening: false, acknowledged: Monotonic(0) }
    }

    #[test]
    fn a_key_was_opened_lately_until_the_time_is_over_or_it_is_resolved() {
        let mut lately = Lately::new(Duration::from_secs(300));
        assert!(!lately.opened(KeyId(1), Monotonic(0)));
        lately.delivered(&event(Action::Trigger), Outcome::Created, Monotonic(0));
        assert!(lately.opened(KeyId(1), Monotonic(299_999)));
        assert!(!lately.opened(KeyId(1), Monotonic(300_000)));
        lately.delivered(&event(Action::Resolve), Outcome::Resolved, Monotonic(1));
        assert!(!lately.opened(KeyId(1), Monotonic(2)));
        lately.delivered(&event(Action::Trigger), Outcome::Unmatched, Monotonic(3));
        assert!(!lately.opened(KeyId(1), Monotonic(4)), "nothing was opened");
    }
}
