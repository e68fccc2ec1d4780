//! Metrics of deliveries: the queue, the calls to the upstream, and how events end.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::labels::{LaneLabel, PartLabel, ResultLabel, SourceLabel, SourceLane, SourceOutcome, StateReason};
use super::registration::{Registration, SLOW_SECONDS};
use super::timing::{Sum, Timing};
use super::{Metrics, count};
use crate::callgoose::answer::Trouble;
use crate::delivery::schedule::Lane;
use crate::event::Reason::{self, Damaged, Discarded, Rejected, Stale, Superseded, TooOld};
use crate::event::{Action, Damage, Outcome, State};

/// The metrics of deliveries.
#[derive(Debug)]
pub struct DeliveryMetrics {
    attempts: Family<ResultLabel, Counter>,
    outcomes: Family<SourceOutcome, Counter>,
    ended: Family<StateReason, Counter>,
    damaged: Family<PartLabel, Counter>,
    marked_stale: Family<SourceLabel, Counter>,
    delivery: Timing,
    first_attempt: Family<SourceLane, Histogram, fn() -> Histogram>,
    attempt: Histogram,
    /// The age of the oldest event that waits.
    pub queue_oldest_age: Gauge<f64, AtomicU64>,
    /// The time to deliver the queue at the rate of the last minute; infinite while nothing is delivered.
    pub queue_drain: Gauge<f64, AtomicU64>,
    lane_drain: Family<LaneLabel, Gauge<f64, AtomicU64>>,
    /// 1 while the circuit breaker is open.
    pub breaker_open: Gauge,
    /// 1 while deliveries are paused because token, proxy, certificate or endpoint is wrong.
    pub paused: Gauge,
    /// Calls to the upstream under way now.
    pub in_flight: Gauge,
}

impl DeliveryMetrics {
    pub(super) fn register(all: &mut Registration<'_>) -> DeliveryMetrics {
        let first_attempt = Family::new_with_constructor((|| Histogram::new(SLOW_SECONDS)) as fn() -> Histogram);
        DeliveryMetrics {
            attempts: all
                .count("delivery_attempts", "Calls to the upstream, by result: an outcome, or the kind of failure"),
            outcomes: all.count("events_delivered", "Events the upstream answered, by source, action and outcome"),
            ended: all.count("events_ended", "Events that ended without delivery, by state and reason"),
            damaged: all.count("events_damaged", "Damaged events in the journal, by damaged part; they are never sent"),
            marked_stale: all.count(
                "events_marked_stale",
                "Triggers delivered later than delivery.stale.trigger, and marked as that, by source",
            ),
            delivery: Timing::new(all.histogram(
                "delivery",
                "Time from an event's acknowledgement to its delivery",
                SLOW_SECONDS,
            )),
            first_attempt: all.with_unit(
                "first_attempt",
                "Time from an event's acknowledgement to the start of its first call, by source and lane",
                Unit::Seconds,
                first_attempt,
            ),
            attempt: all.histogram("attempt", "Time of one call to the upstream", SLOW_SECONDS),
            queue_oldest_age: all
                .seconds("queue_oldest_age", "Age of the oldest event that waits for delivery; 0 when none does"),
            queue_drain: all.seconds(
                "queue_drain",
                "How long the events that wait take at the rate of the last minute; +Inf while none is delivered",
            ),
            lane_drain: all.seconds(
                "queue_lane_drain",
                "How long the events of a lane take at the rate of the last minute; +Inf while none is sent",
            ),
            breaker_open: all.count("upstream_breaker_open", "1 while the circuit breaker is open, else 0"),
            paused: all.count(
                "upstream_paused",
                "1 while deliveries are paused because token, proxy, certificate or endpoint is wrong, else 0",
            ),
            in_flight: all.count("deliveries_in_flight", "Calls to the upstream under way"),
        }
    }

    /// Shows the series whose labels are this program's words, with 0.
    pub(super) fn show(&self) {
        let results =
            Outcome::ALL.into_iter().map(Outcome::as_str).chain(Trouble::ALL.into_iter().map(Trouble::as_str));
        results.for_each(|result| drop(self.attempts.get_or_create(&ResultLabel { result })));
        for (state, reasons) in ENDS {
            for reason in reasons.iter().map(Reason::label) {
                drop(self.ended.get_or_create(&StateReason { state: state.as_str(), reason }));
            }
        }
        for part in Damage::ALL.map(Damage::as_str) {
            drop(self.damaged.get_or_create(&PartLabel { part }));
        }
        for lane in Lane::DRAINED.map(Lane::as_str) {
            self.lane_drain.get_or_create(&LaneLabel { lane }).set(0.0);
        }
    }

    /// Shows the series of a configured source, with 0.
    pub(super) fn show_source(&self, source: &Arc<str>) {
        for action in Action::ALL {
            for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.is_of(action)) {
                drop(self.outcomes.get_or_create(&SourceOutcome::of(source, action, outcome)));
            }
        }
        drop(self.marked_stale.get_or_create(&SourceLabel::of(source)));
        for lane in Lane::ALL.map(Lane::as_str) {
            drop(self.first_attempt.get_or_create(&SourceLane { source: Arc::clone(source), lane }));
        }
    }
}

impl Metrics {
    /// Records the wait from an event's acknowledgement to its first call.
    pub fn first_attempt(&self, source: &Arc<str>, lane: &'static str, wait: Duration) {
        let labels = SourceLane { source: Arc::clone(source), lane };
        self.delivery.first_attempt.get_or_create(&labels).observe(wait.as_secs_f64());
    }

    /// Sets the time to deliver the events of a lane, in seconds.
    pub fn lane_drain(&self, lane: &'static str, seconds: f64) {
        self.delivery.lane_drain.get_or_create(&LaneLabel { lane }).set(seconds);
    }

    /// One call: `result` is an outcome, or the kind of failure.
    pub fn attempted(&self, result: &'static str, took: Duration) {
        count(&self.delivery.attempts, &ResultLabel { result });
        self.delivery.attempt.observe(took.as_secs_f64());
    }

    pub fn event_delivered(&self, source: &Arc<str>, action: Action, outcome: Outcome, age: Duration) {
        self.delivery.outcomes.get_or_create(&SourceOutcome::of(source, action, outcome)).inc();
        self.delivery.delivery.observe(age);
    }

    /// The events that were delivered, and the time from their acknowledgement until then.
    pub fn delivery_sum(&self) -> Sum {
        self.delivery.delivery.sum()
    }

    pub fn event_ended(&self, state: &'static str, reason: &'static str) {
        count(&self.delivery.ended, &StateReason { state, reason });
    }

    /// Counts a damaged event by its damaged part.
    pub fn event_damaged(&self, part: &'static str) {
        count(&self.delivery.damaged, &PartLabel { part });
    }

    pub fn event_marked_stale(&self, source: &Arc<str>) {
        self.delivery.marked_stale.get_or_create(&SourceLabel::of(source)).inc();
    }
}

/// The ends of events without delivery while the relay runs.
const ENDS: [(State, [Reason; 3]); 2] = [
    (State::Dead, [Rejected(Cow::Borrowed("")), TooOld(Cow::Borrowed("")), Damaged(Damage::Row)]),
    (State::Ended, [Stale, Superseded, Discarded]),
];
