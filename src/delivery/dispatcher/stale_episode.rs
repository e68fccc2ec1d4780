//! Counts stale triggers, for one log line when an episode begins and one when it is over.

use std::time::Duration;

use crate::clock::Monotonic;

/// The current episode of stale triggers, if there is one.
#[derive(Debug, Default)]
pub(super) struct StaleEpisode(Option<StaleCounts>);

/// The counts of an episode, and the time of its last stale trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StaleCounts {
    pub(super) marked: u64,
    pub(super) unsent: u64,
    last: Monotonic,
}

impl StaleEpisode {
    /// Counts one that is sent marked. Returns true if an episode begins with it.
    pub(super) fn sent(&mut self, now: Monotonic) -> bool {
        self.met(now).0
    }

    /// Counts one that was delivered with its mark.
    pub(super) fn delivered(&mut self, now: Monotonic) {
        self.met(now).1.marked += 1;
    }

    /// Counts one that ends unsent. Returns true if an episode begins with it.
    pub(super) fn unsent(&mut self, now: Monotonic) -> bool {
        let (begins, counts) = self.met(now);
        counts.unsent += 1;
        begins
    }

    /// The finished episode, returned once: the queue is empty, or no trigger was stale for a while.
    pub(super) fn over(&mut self, nothing_waits: bool, now: Monotonic) -> Option<StaleCounts> {
        self.0.take_if(|counts| nothing_waits || now.since(counts.last) >= OVER_AFTER)
    }

    fn met(&mut self, now: Monotonic) -> (bool, &mut StaleCounts) {
        let begins = self.0.is_none();
        let counts = self.0.get_or_insert(StaleCounts { marked: 0, unsent: 0, last: now });
        counts.last = now;
        (begins, counts)
    }
}

/// Longer than the usual `max` of a backoff, so that retries of one event belong to one episode.
const OVER_AFTER: Duration = Duration::from_secs(600);

/// Events that waited too long: one line for all that follow, at whose end another tells how many they were.
pub(super) fn tell_stale_episode() {
    tracing::warn!(
        "triggers are older than `delivery.stale.trigger`: they are sent marked with their age, or end unsent where that \
         is configured and a resolve of their key waits"
    );
}

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
        assert_eq!(late.over(false, at(13)), Some(StaleCounts { marked: 1, unsent: 1, last: at(3) }));
        assert_eq!(late.over(true, at(13)), None, "told once");
        assert!(late.unsent(at(14)), "another begins");
        assert_eq!(late.over(true, at(14)), Some(StaleCounts { marked: 0, unsent: 1, last: at(14) }));
    }
}
