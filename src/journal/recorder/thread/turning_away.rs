//! Sources that are turned away because their share of the queue is full. At the limit this changes with every event,
//! so the start is logged once, and the end after a while without a refusal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::WallTime;

/// The sources that are turned away now.
#[derive(Debug, Default)]
pub(super) struct TurningAway(BTreeMap<Arc<str>, Episode>);

#[derive(Debug)]
struct Episode {
    since: WallTime,
    last: Instant,
}

impl TurningAway {
    /// Notes a refusal. Returns true if it is the first one.
    pub(super) fn note(&mut self, source: &Arc<str>, now: WallTime, at: Instant) -> bool {
        let known = self.0.len();
        self.0.entry(Arc::clone(source)).or_insert(Episode { since: now, last: at }).last = at;
        self.0.len() > known
    }

    /// Removes and returns the sources that have room again and were not turned away for a while.
    pub(super) fn over(&mut self, at: Instant, has_room: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let is_calm = |episode: &Episode| at.saturating_duration_since(episode.last) >= CALM_AFTER;
        let over = self.0.iter().filter(|(source, episode)| is_calm(episode) && has_room(source));
        let over: Vec<_> = over.map(|(source, _)| Arc::clone(source)).collect();
        self.0.retain(|source, _| !over.contains(source));
        over
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sources, each with the time of its first refusal.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&Arc<str>, WallTime)> {
        self.0.iter().map(|(source, episode)| (source, episode.since))
    }
}

/// Twice the retry delay that a refused sender is told.
pub(super) const CALM_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_when_it_begins_and_when_it_has_been_over_for_a_while() {
        let (mut turning, start) = (TurningAway::default(), Instant::now());
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(turning.note(&a, WallTime(1), at(0)));
        assert!(!turning.note(&a, WallTime(2), at(5)), "that is known");
        assert!(turning.note(&b, WallTime(3), at(6)));
        assert_eq!(turning.sources().collect::<Vec<_>>(), [(&a, WallTime(1)), (&b, WallTime(3))]);
        assert_eq!(turning.over(at(34), |_| true), [] as [Arc<str>; 0]);
        assert_eq!(turning.over(at(35), |_| true), [Arc::clone(&a)]);
        assert_eq!(turning.over(at(100), |_| false), [] as [Arc<str>; 0], "it would be turned away again");
        assert_eq!(turning.over(at(100), |_| true), [b]);
        assert!(turning.is_empty());
    }
}
