//! The progress of deliveries: until when the queue is sent, and the calls that failed since one succeeded.

use std::time::Duration;

use super::Dispatcher;
use crate::callgoose::answer::Trouble;
use crate::clock::{Monotonic, Now, WallTime};
use crate::delivery::schedule::Lane;

/// The progress of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeliveryProgress {
    /// When all that waits will have been tried, at the rate of the last minute; none while nobody can tell.
    pub drained_by: Option<WallTime>,
    /// When the next call is due, if all that waits was tried before.
    pub next_attempt: Option<WallTime>,
    /// None if the last call succeeded, or none was made.
    pub failed_calls: Option<FailedCalls>,
}

/// The calls that failed since one succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedCalls {
    pub count: u64,
    /// When the first of them ended.
    pub since: WallTime,
    /// The last one's.
    pub trouble: Trouble,
    pub status: Option<u16>,
}

impl DeliveryProgress {
    /// Notes a finished call; `trouble` is none if it succeeded.
    pub(super) fn call_finished(&mut self, trouble: Option<Trouble>, status: Option<u16>, now: WallTime) {
        self.failed_calls = trouble.map(|trouble| {
            let before = self.failed_calls;
            let since = before.map_or(now, |before| before.since);
            FailedCalls { count: before.map_or(0, |before| before.count) + 1, since, trouble, status }
        });
    }

    /// Notes how long the queue takes from `now` on.
    pub(super) fn waits(&mut self, drain_time: Option<Duration>, next_attempt: Option<Monotonic>, now: Now) {
        let after = |wait: Duration| {
            // To the second: nobody reads more, and it changes less often.
            let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            WallTime(now.wall.0.saturating_add(millis).saturating_add(999) / 1_000 * 1_000)
        };
        self.drained_by = drain_time.map(after);
        self.next_attempt = next_attempt.map(|at| after(at.since(now.monotonic)));
    }
}

impl Dispatcher {
    /// Shows how it stands to those who watch, and logs now and then how long a backlog will take.
    pub(super) fn publish_progress(&mut self) {
        let time = self.context.clock.now();
        let now = time.monotonic;
        if let Some(over) = self.stale_episode.over(self.schedule.is_empty(), now) {
            let (marked, ended) = (over.marked, over.unsent);
            tracing::info!(marked, ended, "no stale trigger was met for a while");
        }
        let metrics = &self.context.metrics;
        metrics.delivery.in_flight.set(i64::try_from(self.schedule.in_flight()).unwrap_or(i64::MAX));
        let drain_time = self.schedule.drain_time(now);
        metrics.delivery.queue_drain.set(seconds(drain_time));
        self.progress.send_modify(|progress| progress.waits(drain_time, self.schedule.next_retry(), time));
        for lane in Lane::DRAINED {
            metrics.lane_drain(lane.as_str(), seconds(self.schedule.lane_drain_time(lane, now)));
        }
        let Some(drain_time) = drain_time.filter(|time| *time >= BACKLOG_WORTH_TELLING) else {
            return;
        };
        if self.schedule.breaker().open_by().is_some() || now.since(self.backlog_told) < BACKLOG_TOLD_EVERY {
            return;
        }
        self.backlog_told = now;
        let (events, takes_s) = (self.schedule.len(), drain_time.as_secs());
        tracing::info!(
            events,
            takes_s,
            "a backlog is being delivered; it takes so long at the rate of the last minute"
        );
    }
}

/// As a gauge shows it: infinite while nothing is delivered.
fn seconds(drain_time: Option<Duration>) -> f64 {
    drain_time.map_or(f64::INFINITY, |time| time.as_secs_f64())
}

const BACKLOG_WORTH_TELLING: Duration = Duration::from_secs(30);
const BACKLOG_TOLD_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_calls_are_counted_from_the_first_one_until_one_succeeds() {
        let mut progress = DeliveryProgress::default();
        progress.call_finished(Some(Trouble::Connect), None, WallTime(1));
        progress.call_finished(Some(Trouble::Unauthorized), Some(401), WallTime(2));
        let expected = FailedCalls { count: 2, since: WallTime(1), trouble: Trouble::Unauthorized, status: Some(401) };
        assert_eq!(progress.failed_calls, Some(expected));
        progress.call_finished(None, Some(201), WallTime(3));
        assert_eq!(progress.failed_calls, None);
        progress.call_finished(Some(Trouble::Connect), None, WallTime(4));
        assert_eq!(progress.failed_calls.map(|failed| (failed.count, failed.since)), Some((1, WallTime(4))));
    }

    #[test]
    fn times_are_those_of_the_wall_and_never_before_the_event() {
        let now = Now { monotonic: Monotonic(5_000), wall: WallTime(70_000_100) };
        let mut progress = DeliveryProgress::default();
        progress.waits(Some(Duration::from_secs(90)), Some(Monotonic(105_000)), now);
        assert_eq!(progress.drained_by, Some(WallTime(70_091_000)));
        assert_eq!(progress.next_attempt, Some(WallTime(70_101_000)));
        progress.waits(None, None, now);
        assert_eq!(progress, DeliveryProgress::default());
    }
}
