//! The last day in minutes: how much was accepted, delivered and refused, and how long that took.
//!
//! Once a minute the counters that there are anyway are looked at, so that no event pays for it. A restart begins anew.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::View;
use crate::clock::WallTime;
use crate::metrics::Sum;
use crate::shutdown::Shutdown;

/// Counters since the start, as they stood at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) refused: u64,
    pub(super) acknowledge: Sum,
    pub(super) delivery: Sum,
}

/// The counts of a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its beginning.
    pub(super) at: WallTime,
    pub(super) happened: Counters,
}

/// The counters of each minute, a day of them.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<(WallTime, Counters)>>);

impl Counters {
    pub(super) fn of(view: &View) -> Counters {
        let total = view.recorder.activity().total();
        Counters {
            accepted: total.taken,
            delivered: total.delivered,
            refused: total.refused,
            acknowledge: view.metrics.acknowledge_sum(),
            delivery: view.metrics.delivery_sum(),
        }
    }

    fn and(self, more: Counters) -> Counters {
        Counters {
            accepted: self.accepted + more.accepted,
            delivered: self.delivered + more.delivered,
            refused: self.refused + more.refused,
            acknowledge: self.acknowledge.and(more.acknowledge),
            delivery: self.delivery.and(more.delivery),
        }
    }

    fn since(self, before: Counters) -> Counters {
        Counters {
            accepted: self.accepted.saturating_sub(before.accepted),
            delivered: self.delivered.saturating_sub(before.delivered),
            refused: self.refused.saturating_sub(before.refused),
            acknowledge: self.acknowledge.since(before.acknowledge),
            delivery: self.delivery.since(before.delivery),
        }
    }
}

impl History {
    /// Notes the counters of a relay each minute, until `shutdown` begins.
    pub(super) async fn follow(&self, view: &View, shutdown: &Shutdown) {
        let mut minutes = tokio::time::interval(Duration::from_secs(60));
        minutes.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                _ = minutes.tick() => self.note(WallTime::now(), Counters::of(view)),
            }
        }
    }

    /// Notes how the counters stand at `at`.
    pub(super) fn note(&self, at: WallTime, counters: Counters) {
        let mut noted = self.lock();
        noted.push_back((at, counters));
        if noted.len() > MINUTES_MAX {
            noted.pop_front();
        }
    }

    /// What happened within the last `count` spans of such a length, the oldest first, since the first note at most. Spans
    /// begin at multiples of their length, and the last one has not ended yet.
    pub(super) fn spans(&self, length: Duration, count: usize, now: (WallTime, Counters)) -> Vec<Span> {
        let noted = self.lock();
        let marks: Vec<(WallTime, Counters)> = noted.iter().copied().chain([now]).collect();
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1);
        let last = now.0.0.div_euclid(millis);
        let since = last - i64::try_from(count).unwrap_or(i64::MAX) + 1;
        let begun = marks.first().map_or(last, |(at, _)| at.0.div_euclid(millis)).max(since);
        let mut spans: Vec<Span> =
            (begun..=last).map(|slot| Span { at: WallTime(slot * millis), happened: Counters::default() }).collect();
        for pair in marks.windows(2) {
            let [(at, before), (_, after)] = pair else { continue };
            let place = usize::try_from(at.0.div_euclid(millis) - begun).ok();
            if let Some(span) = place.and_then(|place| spans.get_mut(place)) {
                span.happened = span.happened.and(after.since(*before));
            }
        }
        spans
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(WallTime, Counters)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A day, and the moment at which it began.
const MINUTES_MAX: usize = 24 * 60 + 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(accepted: u64) -> Counters {
        Counters { accepted, acknowledge: Sum { count: accepted, micros: accepted * 1_500 }, ..Counters::default() }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn minute(minute: i64) -> WallTime {
        WallTime(minute * 60_000)
    }

    fn accepted(spans: &[Span]) -> Vec<(i64, u64)> {
        spans.iter().map(|span| (span.at.0 / 60_000, span.happened.accepted)).collect()
    }

    #[test]
    fn each_span_has_what_happened_in_it_and_none_is_lost() {
        let history = History::default();
        let started = WallTime(minute(100).0 + 7);
        assert_eq!(accepted(&history.spans(MINUTE, 60, (started, counters(5)))), [(100, 0)]);
        for (number, so_far) in [0, 3, 3, 10, 11].into_iter().enumerate() {
            history.note(WallTime(started.0 + minute(number as i64).0), counters(so_far));
        }
        let now = (minute(105), counters(13));
        let minutes = history.spans(MINUTE, 60, now);
        assert_eq!(accepted(&minutes), [(100, 3), (101, 0), (102, 7), (103, 1), (104, 2), (105, 0)]);
        assert_eq!(minutes[0].happened.acknowledge.mean(), Some(Duration::from_micros(1_500)));
        assert_eq!(Sum::default().mean(), None);
        assert_eq!(accepted(&history.spans(MINUTE, 2, now)), [(104, 2), (105, 0)]);
        // Of whatever length the spans are, all that happened is in them.
        assert_eq!(accepted(&history.spans(3 * MINUTE, 40, now)), [(99, 3), (102, 10), (105, 0)]);
        assert_eq!(accepted(&history.spans(15 * MINUTE, 96, now)), [(90, 13), (105, 0)]);
    }

    #[test]
    fn no_more_than_a_day_is_kept() {
        let history = History::default();
        (0..2_000).for_each(|number| history.note(minute(number), counters(number as u64)));
        let spans = history.spans(15 * MINUTE, 96, (minute(2_000), counters(2_000)));
        assert_eq!((spans.len(), history.lock().len()), (96, MINUTES_MAX));
        assert_eq!(spans[5].happened.accepted, 15);
    }
}
