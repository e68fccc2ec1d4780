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

/// What happened within a span of time.
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

    /// What happened within the last `count` spans of so many minutes, the oldest first; the last one goes on until `now`.
    pub(super) fn spans(&self, minutes: usize, count: usize, now: (WallTime, Counters)) -> Vec<Span> {
        let noted = self.lock();
        let marks: Vec<(WallTime, Counters)> = noted.iter().copied().chain([now]).collect();
        let begun = marks.len().saturating_sub(1).saturating_sub((count - 1) * minutes + 1);
        let starts = (begun..marks.len() - 1).rev().step_by(minutes).collect::<Vec<_>>();
        let mut end = marks.len() - 1;
        let mut spans = Vec::with_capacity(count);
        for start in starts {
            let ((at, before), (_, after)) = (marks[start], marks[end]);
            spans.push(Span { at, happened: after.since(before) });
            end = start;
        }
        spans.reverse();
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

    fn accepted(spans: &[Span]) -> Vec<(i64, u64)> {
        spans.iter().map(|span| (span.at.0, span.happened.accepted)).collect()
    }

    #[test]
    fn each_span_has_what_happened_in_it_and_the_last_goes_on_until_now() {
        let history = History::default();
        let now = (WallTime(100), counters(5));
        assert_eq!(history.spans(1, 60, now), []);
        for (minute, so_far) in [0, 3, 3, 10, 11].into_iter().enumerate() {
            history.note(WallTime(minute as i64), counters(so_far));
        }
        let now = (WallTime(5), counters(13));
        assert_eq!(accepted(&history.spans(1, 60, now)), [(0, 3), (1, 0), (2, 7), (3, 1), (4, 2)]);
        assert_eq!(accepted(&history.spans(1, 2, now)), [(3, 1), (4, 2)]);
        let spans = history.spans(2, 2, now);
        assert_eq!(spans.iter().map(|span| span.happened.accepted).sum::<u64>(), 10, "{spans:?}");
        assert_eq!(spans.last().unwrap().happened.acknowledge.mean(), Some(Duration::from_micros(1_500)));
        assert_eq!(Sum::default().mean(), None);
    }

    #[test]
    fn no_more_than_a_day_is_kept() {
        let history = History::default();
        (0..2_000).for_each(|minute| history.note(WallTime(minute), counters(minute as u64)));
        let spans = history.spans(15, 96, (WallTime(2_000), counters(2_000)));
        assert_eq!((spans.len(), history.lock().len()), (96, MINUTES_MAX));
    }
}
