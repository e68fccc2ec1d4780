//! Which sources are turned away because they have their share of the queue. At the edge of it one event more or less
//! waits every moment: that it began is told once, and that it is over when nothing was turned away for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::WallTime;

/// The sources that are turned away now.
#[derive(Debug, Default)]
pub(super) struct TurningAway(BTreeMap<Arc<str>, Spell>);

#[derive(Debug)]
struct Spell {
    since: WallTime,
    last: Instant,
}

impl TurningAway {
    /// Something of this source was turned away. Returns whether that is news.
    pub(super) fn note(&mut self, source: &Arc<str>, now: WallTime, at: Instant) -> bool {
        let known = self.0.len();
        self.0.entry(Arc::clone(source)).or_insert(Spell { since: now, last: at }).last = at;
        self.0.len() > known
    }

    /// The sources for which it is over: they have room, and nothing of theirs was turned away for a while.
    pub(super) fn over(&mut self, at: Instant, has_room: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let is_calm = |spell: &Spell| at.saturating_duration_since(spell.last) >= CALM_AFTER;
        let over = self.0.iter().filter(|(source, spell)| is_calm(spell) && has_room(source));
        let over: Vec<_> = over.map(|(source, _)| Arc::clone(source)).collect();
        self.0.retain(|source, _| !over.contains(source));
        over
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with when it began.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&Arc<str>, WallTime)> {
        self.0.iter().map(|(source, spell)| (source, spell.since))
    }
}

/// Twice what a sender that is turned away is told to wait.
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
