//! How many triggers come late, for the one log line when that begins and the one when it is over.

use std::time::Duration;

use crate::clock::Monotonic;

/// Triggers that were stale when their turn came.
#[derive(Debug, Default)]
pub(super) struct StaleEpisode(Option<Spell>);

/// From the first of them to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spell {
    pub(super) marked: u64,
    pub(super) unsent: u64,
    last: Monotonic,
}

impl StaleEpisode {
    /// One is sent marked. Returns whether a spell begins with it.
    pub(super) fn sent(&mut self, now: Monotonic) -> bool {
        self.met(now).0
    }

    /// One was delivered with its mark.
    pub(super) fn delivered(&mut self, now: Monotonic) {
        self.met(now).1.marked += 1;
    }

    /// One ends unsent. Returns whether a spell begins with it.
    pub(super) fn unsent(&mut self, now: Monotonic) -> bool {
        let (begins, spell) = self.met(now);
        spell.unsent += 1;
        begins
    }

    /// The spell that is over, told once: nothing waits any more, or none was stale for a while.
    pub(super) fn over(&mut self, nothing_waits: bool, now: Monotonic) -> Option<Spell> {
        self.0.take_if(|spell| nothing_waits || now.since(spell.last) >= OVER_AFTER)
    }

    fn met(&mut self, now: Monotonic) -> (bool, &mut Spell) {
        let begins = self.0.is_none();
        let spell = self.0.get_or_insert(Spell { marked: 0, unsent: 0, last: now });
        spell.last = now;
        (begins, spell)
    }
}

/// Longer than any backoff's usual `max`, so that one event that is tried again and again is one spell.
const OVER_AFTER: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spell_begins_once_and_is_over_once() {
        let at = |minute: i64| Monotonic(minute * 60_000);
        let mut late = StaleEpisode::default();
        assert_eq!(late.over(true, at(0)), None, "none was late");
        assert!(late.sent(at(0)) && !late.sent(at(1)), "the same one again");
        late.delivered(at(2));
        assert!(!late.unsent(at(3)));
        assert_eq!(late.over(false, at(12)), None);
        assert_eq!(late.over(false, at(13)), Some(Spell { marked: 1, unsent: 1, last: at(3) }));
        assert_eq!(late.over(true, at(13)), None, "told once");
        assert!(late.unsent(at(14)), "another begins");
        assert_eq!(late.over(true, at(14)), Some(Spell { marked: 0, unsent: 1, last: at(14) }));
    }
}
