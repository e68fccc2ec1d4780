//! Metrics, and the only room with their names: those of the relay begin with `gander_`, those of the process with
//! `process_`.
//!
//! Labels come from configuration (source names) and from this program's own enums, never from a payload, so
//! the number of series is bounded. Every series is there with 0 before anything happened, so that a rate includes the
//! first event: whoever counts by words of its own names them here at the start.

mod exposition;
mod labels;
mod process;

use std::borrow::Cow;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::callgoose::answer::Trouble;
use crate::clock::WallTime;
use crate::delivery::schedule::Lane;
use crate::event::Reason::{Damaged, Discarded, Rejected, Stale, Superseded, TooOld};
use crate::event::{self, Action, Damage, Outcome, State};
use crate::inbound::repair::{Repair, Repairs};
use crate::version::{COMMIT, VERSION};

pub use exposition::Exposition;
use labels::{
    LaneLabel, Listener, Part, Phase, Reason, ResultLabel, Source, SourceAction, SourceLane, SourceOutcome,
    SourceReason, SourceRepair, SourceResult, StateReason,
};
use process::Process;

/// The result of a payload's second decision by shadow rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shadowed {
    Same,
    Differs,
    /// Skipped, because too many payloads waited.
    Skipped,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    accepted: Family<SourceAction, Counter>,
    duplicates: Family<SourceAction, Counter>,
    ignored: Family<Source, Counter>,
    refused: Family<SourceReason, Counter>,
    connections_refused: Family<Reason, Counter>,
    template_failures: Family<Source, Counter>,
    repaired: Family<SourceRepair, Counter>,
    handshakes: Family<Source, Counter>,
    shadowed: Family<SourceResult, Counter>,
    attempts: Family<ResultLabel, Counter>,
    outcomes: Family<SourceOutcome, Counter>,
    ended: Family<StateReason, Counter>,
    damaged: Family<Part, Counter>,
    marked_stale: Family<Source, Counter>,
    source_events: Family<Source, Gauge>,
    source_bytes: Family<Source, Gauge>,
    forgotten: Family<Phase, Counter>,
    log_lines_dropped: Counter,
    panics: Counter,
    acknowledge: Histogram,
    delivery: Histogram,
    first_attempt: Family<SourceLane, Histogram, fn() -> Histogram>,
    attempt: Histogram,
    commit: Histogram,
    /// Open connections of senders.
    pub connections: Gauge,
    /// The memory used by request bodies, of the amount reserved for them.
    pub body_bytes: Gauge,
    /// Events acknowledged and not yet settled.
    pub queue_events: Gauge,
    /// Dead letters that wait for a person.
    pub dead_letters: Gauge,
    /// The age of the oldest of them.
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
    /// Incident keys that deduplication remembers.
    pub dedup_keys: Gauge,
    /// Keys and sources on hold.
    pub holds: Gauge,
    /// 1 while the journal can be written, else 0.
    pub journal_writable: Gauge,
    /// The part of `journal.max_events` or `max_bytes` in use, whichever is greater.
    pub journal_used: Gauge<f64, AtomicU64>,
    /// The length of the journal's database.
    pub journal_database_bytes: Gauge,
    /// The length of the journal's log.
    pub journal_log_bytes: Gauge,
    /// 1 while `journal.reserve` is held, else 0.
    pub journal_reserve: Gauge,
    /// The free space on the volume of `data_dir`.
    pub volume_free: Gauge,
    /// The size of that volume.
    pub volume_size: Gauge,
    certificate_expiry: Family<Listener, Gauge<f64, AtomicU64>>,
    reloads: Family<ResultLabel, Counter>,
    reload_successful: Gauge,
    reload_succeeded_at: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut all = Registry::default();
        let registry = all.sub_registry_with_prefix("gander");
        macro_rules! register {
            ($metric:expr, $name:literal, $help:literal) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let seconds = |registry: &mut Registry, name: &str, help: &str, buckets: &[f64]| {
            let histogram = Histogram::new(buckets.iter().copied());
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
            histogram
        };
        let acknowledge = seconds(
            registry,
            "acknowledge",
            "Time from a request's head to its answer, for requests that were recorded",
            &FAST_SECONDS,
        );
        let delivery =
            seconds(registry, "delivery", "Time from an event's acknowledgement to its delivery", &SLOW_SECONDS);
        let first_attempt = Family::new_with_constructor((|| Histogram::new(SLOW_SECONDS)) as fn() -> Histogram);
        registry.register_with_unit(
            "first_attempt",
            "Time from an event's acknowledgement to the start of its first call, by source and lane",
            Unit::Seconds,
            first_attempt.clone(),
        );
        let attempt = seconds(registry, "attempt", "Time of one call to the upstream", &SLOW_SECONDS);
        let commit = seconds(registry, "journal_commit", "Time of one synced journal commit", &FAST_SECONDS);
        let queue_oldest_age = Gauge::<f64, AtomicU64>::default();
        registry.register_with_unit(
            "queue_oldest_age",
            "Age of the oldest event that waits for delivery; 0 when none does",
            Unit::Seconds,
            queue_oldest_age.clone(),
        );
        let queue_drain = Gauge::<f64, AtomicU64>::default();
        registry.register_with_unit(
            "queue_drain",
            "How long the events that wait take at the rate of the last minute; +Inf while none is delivered",
            Unit::Seconds,
            queue_drain.clone(),
        );
        let lane_drain = Family::<LaneLabel, Gauge<f64, AtomicU64>>::default();
        registry.register_with_unit(
            "queue_lane_drain",
            "How long the events of a lane take at the rate of the last minute; +Inf while none is sent",
            Unit::Seconds,
            lane_drain.clone(),
        );
        let reload_succeeded_at = Gauge::<f64, AtomicU64>::default();
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "Time at which the configuration in force was read, since 1970",
            Unit::Seconds,
            reload_succeeded_at.clone(),
        );
        let certificate_expiry = Family::<Listener, Gauge<f64, AtomicU64>>::default();
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "Time at which the first certificate of a listener's chain expires, since 1970",
            Unit::Seconds,
            certificate_expiry.clone(),
        );
        let journal_used = Gauge::<f64, AtomicU64>::default();
        registry.register_with_unit(
            "journal_used",
            "Part of journal.max_events or journal.max_bytes, whichever is greater, that waiting events and dead letters use",
            Unit::Other("ratio".to_owned()),
            journal_used.clone(),
        );
        let bytes = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::<i64>::default();
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
            gauge
        };
        let journal_database_bytes = bytes(registry, "journal_database", "Size of the journal's database");
        let journal_log_bytes = bytes(registry, "journal_log", "Size of the journal's write-ahead log");
        let volume_free =
            bytes(registry, "journal_volume_free", "Free space on the volume of data_dir, without the reserve");
        let volume_size = bytes(registry, "journal_volume_size", "Size of the volume of data_dir");
        let body_bytes = bytes(
            registry,
            "request_bodies",
            "Bodies of requests in memory: being read, or waiting to be written to the journal",
        );
        registry.register(
            "build",
            "The running version, and the commit that it was built from",
            Info::new(vec![("version", VERSION), ("commit", COMMIT)]),
        );
        let metrics = Metrics {
            accepted: register!(Family::default(), "events_accepted", "Events made durable, by source and action"),
            duplicates: register!(
                Family::default(),
                "events_duplicate",
                "Duplicates of accepted events, by source and action"
            ),
            shadowed: register!(
                Family::default(),
                "shadow_decisions",
                "Payloads that shadow rules decided too, by result"
            ),
            ignored: register!(Family::default(), "events_ignored", "Payloads or elements that a rule ignored"),
            refused: register!(
                Family::default(),
                "requests_refused",
                "Requests or elements refused, by source and reason"
            ),
            connections_refused: register!(
                Family::default(),
                "connections_refused",
                "Connections closed before a request was read, by reason"
            ),
            template_failures: register!(
                Family::default(),
                "template_failures",
                "Templates that failed at run time and rendered empty"
            ),
            repaired: register!(
                Family::default(),
                "payloads_repaired",
                "Payloads of sources with json: lenient that were repaired, by kind of repair"
            ),
            handshakes: register!(
                Family::default(),
                "handshakes",
                "Payloads that were answered as a handshake: no rule saw them, and nothing is kept"
            ),
            attempts: register!(
                Family::default(),
                "delivery_attempts",
                "Calls to the upstream, by result: an outcome, or the kind of failure"
            ),
            outcomes: register!(
                Family::default(),
                "events_delivered",
                "Events the upstream answered, by source, action and outcome"
            ),
            ended: register!(
                Family::default(),
                "events_ended",
                "Events that ended without delivery, by state and reason"
            ),
            damaged: register!(
                Family::default(),
                "events_damaged",
                "Damaged events in the journal, by damaged part; they are never sent"
            ),
            marked_stale: register!(
                Family::default(),
                "events_marked_stale",
                "Triggers delivered later than delivery.stale.trigger, and marked as that, by source"
            ),
            source_events: register!(
                Family::default(),
                "queue_source_events",
                "Events that count against a source's share: those that wait for delivery, and dead letters"
            ),
            source_bytes: register!(
                Family::default(),
                "queue_source_bytes",
                "Payloads and bodies of the events that count against a source's share"
            ),
            forgotten: register!(
                Family::default(),
                "dedup_keys_forgotten",
                "Incident keys forgotten because dedup.max_keys was reached, by phase"
            ),
            log_lines_dropped: register!(
                Counter::default(),
                "log_lines_dropped",
                "Log lines dropped, because the log could not be written or was not read fast enough"
            ),
            panics: register!(Counter::default(), "panics", "Panics of a task or thread: faults of this program"),
            connections: register!(Gauge::default(), "connections", "Connections of senders that are open"),
            queue_events: register!(Gauge::default(), "queue_events", "Events that wait for delivery"),
            dead_letters: register!(
                Gauge::default(),
                "dead_letters",
                "Events that were given up and wait until a person replays or discards them"
            ),
            in_flight: register!(Gauge::default(), "deliveries_in_flight", "Calls to the upstream under way"),
            dedup_keys: register!(Gauge::default(), "dedup_keys", "Incident keys that deduplication remembers"),
            holds: register!(Gauge::default(), "holds", "Incident keys and sources that a person holds back"),
            journal_writable: register!(
                Gauge::default(),
                "journal_writable",
                "1 while the journal can be written, else 0"
            ),
            journal_reserve: register!(
                Gauge::default(),
                "journal_reserve",
                "1 while journal.reserve is held, 0 while the disk is too full for it"
            ),
            breaker_open: register!(
                Gauge::default(),
                "upstream_breaker_open",
                "1 while the circuit breaker is open, else 0"
            ),
            paused: register!(
                Gauge::default(),
                "upstream_paused",
                "1 while deliveries are paused because token, proxy, certificate or endpoint is wrong, else 0"
            ),
            reloads: register!(Family::default(), "config_reloads", "Reloads of the configuration, by result"),
            reload_successful: register!(
                Gauge::default(),
                "config_last_reload_successful",
                "1 if the configuration that was read last is in force, 0 if it could not be used"
            ),
            reload_succeeded_at,
            certificate_expiry,
            journal_used,
            journal_database_bytes,
            journal_log_bytes,
            volume_free,
            volume_size,
            body_bytes,
            queue_drain,
            lane_drain,
            queue_oldest_age,
            acknowledge,
            delivery,
            first_attempt,
            attempt,
            commit,
            registry: Registry::default(),
        };
        metrics.show_all();
        all.register_collector(Box::new(Process::starting(WallTime::now())));
        Metrics { registry: all, ..metrics }
    }

    /// Shows the series whose labels are this program's words, with 0.
    fn show_all(&self) {
        let results =
            Outcome::ALL.into_iter().map(Outcome::as_str).chain(Trouble::ALL.into_iter().map(Trouble::as_str));
        results.for_each(|result| drop(self.attempts.get_or_create(&ResultLabel { result })));
        for (state, reasons) in ENDS {
            for reason in reasons.iter().map(event::Reason::label) {
                drop(self.ended.get_or_create(&StateReason { state: state.as_str(), reason }));
            }
        }
        Damage::ALL.into_iter().for_each(|part| drop(self.damaged.get_or_create(&Part { part: part.as_str() })));
        PHASES.into_iter().for_each(|phase| drop(self.forgotten.get_or_create(&Phase { phase })));
        Lane::DRAINED.into_iter().for_each(|lane| self.lane_drain(lane.as_str(), 0.0));
        [SUCCESS, FAILURE].into_iter().for_each(|result| drop(self.reloads.get_or_create(&ResultLabel { result })));
    }

    /// Shows the series of a configured source, with 0; but for its refusals, whose reasons are not known here.
    pub fn show_source(&self, source: &Arc<str>) {
        for action in Action::ALL {
            let labels = SourceAction { source: Arc::clone(source), action: action.as_str() };
            drop((self.accepted.get_or_create(&labels), self.duplicates.get_or_create(&labels)));
            for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.is_of(action)) {
                drop(self.outcomes.get_or_create(&SourceOutcome::of(source, action, outcome)));
            }
        }
        let labels = Source { source: Arc::clone(source) };
        for family in [&self.ignored, &self.template_failures, &self.marked_stale, &self.handshakes] {
            drop(family.get_or_create(&labels));
        }
        for result in Shadowed::ALL.map(Shadowed::as_str) {
            drop(self.shadowed.get_or_create(&SourceResult { source: Arc::clone(source), result }));
        }
        for repair in Repair::ALL.map(Repair::as_str) {
            drop(self.repaired.get_or_create(&SourceRepair { source: Arc::clone(source), repair }));
        }
        for lane in Lane::ALL.map(Lane::as_str) {
            drop(self.first_attempt.get_or_create(&SourceLane { source: Arc::clone(source), lane }));
        }
        drop((self.source_events.get_or_create(&labels), self.source_bytes.get_or_create(&labels)));
    }

    /// Shows the refusals for these reasons, with 0; `source` is none where a request names no known source.
    pub fn show_refusals(&self, source: Option<&Arc<str>>, reasons: impl IntoIterator<Item = &'static str>) {
        for reason in reasons {
            drop(self.refused.get_or_create(&SourceReason::of(source, reason)));
        }
    }

    /// Shows connections refused for these reasons, with 0.
    pub fn show_connections_refused(&self, reasons: impl IntoIterator<Item = &'static str>) {
        reasons.into_iter().for_each(|reason| drop(self.connections_refused.get_or_create(&Reason { reason })));
    }

    /// The metrics as a scraper reads them.
    pub fn encode(&self, exposition: Exposition) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        exposition.of_openmetrics(text)
    }

    pub fn event_accepted(&self, source: &Arc<str>, action: Action) {
        self.accepted.get_or_create(&SourceAction { source: Arc::clone(source), action: action.as_str() }).inc();
    }

    /// Records the wait from an event's acknowledgement to its first call.
    pub fn first_attempt(&self, source: &Arc<str>, lane: &'static str, wait: Duration) {
        let labels = SourceLane { source: Arc::clone(source), lane };
        self.first_attempt.get_or_create(&labels).observe(wait.as_secs_f64());
    }

    /// Sets the time to deliver the events of a lane, in seconds.
    pub fn lane_drain(&self, lane: &'static str, seconds: f64) {
        self.lane_drain.get_or_create(&LaneLabel { lane }).set(seconds);
    }

    pub fn event_duplicate(&self, source: &Arc<str>, action: Action) {
        self.duplicates.get_or_create(&SourceAction { source: Arc::clone(source), action: action.as_str() }).inc();
    }

    /// Counts the result of a payload's decision by shadow rules.
    pub fn shadow_decided(&self, source: &Arc<str>, result: Shadowed) {
        let result = result.as_str();
        self.shadowed.get_or_create(&SourceResult { source: Arc::clone(source), result }).inc();
    }

    pub fn event_ignored(&self, source: &Arc<str>) {
        self.ignored.get_or_create(&Source { source: Arc::clone(source) }).inc();
    }

    /// `source` is none if the request named no known source.
    pub fn request_refused(&self, source: Option<&Arc<str>>, reason: &'static str) {
        count(&self.refused, &SourceReason::of(source, reason));
    }

    pub fn connection_refused(&self, reason: &'static str) {
        count(&self.connections_refused, &Reason { reason });
    }

    pub fn template_failed(&self, source: &Arc<str>) {
        self.template_failures.get_or_create(&Source { source: Arc::clone(source) }).inc();
    }

    /// Counts a payload by each kind of repair that it needed.
    pub fn payload_repaired(&self, source: &Arc<str>, repairs: Repairs) {
        for repair in repairs.iter().map(Repair::as_str) {
            self.repaired.get_or_create(&SourceRepair { source: Arc::clone(source), repair }).inc();
        }
    }

    pub fn handshake_answered(&self, source: &Arc<str>) {
        count(&self.handshakes, &Source { source: Arc::clone(source) });
    }

    pub fn acknowledged(&self, took: Duration) {
        self.acknowledge.observe(took.as_secs_f64());
    }

    /// One call: `result` is an outcome, or the kind of failure.
    pub fn attempted(&self, result: &'static str, took: Duration) {
        count(&self.attempts, &ResultLabel { result });
        self.attempt.observe(took.as_secs_f64());
    }

    pub fn event_delivered(&self, source: &Arc<str>, action: Action, outcome: Outcome, age: Duration) {
        self.outcomes.get_or_create(&SourceOutcome::of(source, action, outcome)).inc();
        self.delivery.observe(age.as_secs_f64());
    }

    pub fn event_ended(&self, state: &'static str, reason: &'static str) {
        count(&self.ended, &StateReason { state, reason });
    }

    /// Counts a damaged event by its damaged part.
    pub fn event_damaged(&self, part: &'static str) {
        count(&self.damaged, &Part { part });
    }

    pub fn event_marked_stale(&self, source: &Arc<str>) {
        self.marked_stale.get_or_create(&Source { source: Arc::clone(source) }).inc();
    }

    /// Sets what a source uses of the shared limits.
    pub fn source_holds(&self, source: &Arc<str>, events: u64, bytes: u64) {
        let labels = Source { source: Arc::clone(source) };
        for (gauge, value) in [(&self.source_events, events), (&self.source_bytes, bytes)] {
            gauge.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// Counts incident keys that deduplication forgot while they were resolved, and while they were open.
    pub fn keys_forgotten(&self, resolved: u64, open: u64) {
        for (phase, count) in PHASES.into_iter().zip([resolved, open]) {
            self.forgotten.get_or_create(&Phase { phase }).inc_by(count);
        }
    }

    /// Sets the time at which the certificate of a listener expires.
    pub fn certificate_expires(&self, listener: &'static str, at: WallTime) {
        self.certificate_expiry.get_or_create(&Listener { listener }).set(epoch_seconds(at));
    }

    /// Takes over the counts of the whole process: dropped log lines and panics.
    pub fn process_counted(&self, log_lines_dropped: u64, panics: u64) {
        // The log and the panic hook count by themselves, since they exist before and without any metric.
        self.log_lines_dropped.inner().store(log_lines_dropped, Ordering::Relaxed);
        self.panics.inner().store(panics, Ordering::Relaxed);
    }

    /// Records that the configuration of the start is in force.
    pub fn configured(&self, at: WallTime) {
        self.reload_successful.set(1);
        self.reload_succeeded_at.set(epoch_seconds(at));
    }

    /// Records a reload; after a failed one the previous configuration stays in force.
    pub fn reloaded(&self, success: bool, at: WallTime) {
        let result = if success { SUCCESS } else { FAILURE };
        self.reloads.get_or_create(&ResultLabel { result }).inc();
        self.reload_successful.set(i64::from(success));
        if success {
            self.reload_succeeded_at.set(epoch_seconds(at));
        }
    }

    pub fn committed(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }
}

impl Shadowed {
    const ALL: [Shadowed; 3] = [Shadowed::Same, Shadowed::Differs, Shadowed::Skipped];

    fn as_str(self) -> &'static str {
        match self {
            Shadowed::Same => "same",
            Shadowed::Differs => "differs",
            Shadowed::Skipped => "skipped",
        }
    }
}

/// Counts one in a series that was shown at the start: a rate does not see the first event of one that comes later.
fn count<L: Clone + Hash + Eq + Debug>(family: &Family<L, Counter>, labels: &L) {
    debug_assert!(family.get(labels).is_some(), "{labels:?} was not shown at the start");
    family.get_or_create(labels).inc();
}

fn epoch_seconds(at: WallTime) -> f64 {
    at.since(WallTime(0)).as_secs_f64()
}

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";

/// The phases of keys that are forgotten.
const PHASES: [&str; 2] = ["resolved", "open"];

/// How events end without delivery while the relay runs.
const ENDS: [(State, [event::Reason; 3]); 2] = [
    (State::Dead, [Rejected(Cow::Borrowed("")), TooOld(Cow::Borrowed("")), Damaged(Damage::Row)]),
    (State::Ended, [Stale, Superseded, Discarded]),
];

/// From a tenth of a millisecond, a synced append on a quiet disk, to ten seconds.
const FAST_SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0];

/// From a millisecond, a call on the same host, to the hours of an outage.
const SLOW_SECONDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_event_appears_in_both_forms() {
        let metrics = Metrics::new();
        metrics.event_accepted(&Arc::from("servicepilot"), Action::Trigger);
        for form in [Exposition::Text, Exposition::OpenMetrics] {
            let text = metrics.encode(form);
            let line = r#"gander_events_accepted_total{source="servicepilot",action="trigger"} 1"#;
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }

    #[test]
    fn a_source_has_all_its_series_before_its_first_event_and_none_that_can_not_be() {
        let metrics = Metrics::new();
        let source = Arc::from("servicepilot");
        metrics.show_source(&source);
        let series = |metrics: &Metrics| {
            let text = metrics.encode(Exposition::Text);
            let series =
                text.lines().filter(|line| !line.starts_with(['#', 'p'])).filter_map(|line| line.rsplit_once(' '));
            series.map(|(series, _)| series.to_owned()).collect::<Vec<_>>()
        };
        let before = series(&metrics);
        let has = |series: &str| before.iter().any(|found| found == series);
        assert!(has(r#"gander_events_delivered_total{source="servicepilot",action="trigger",outcome="unmatched"}"#));
        assert!(!has(r#"gander_events_delivered_total{source="servicepilot",action="trigger",outcome="resolved"}"#));
        for action in Action::ALL {
            metrics.event_accepted(&source, action);
            metrics.event_duplicate(&source, action);
            for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.is_of(action)) {
                metrics.event_delivered(&source, action, outcome, Duration::ZERO);
            }
        }
        metrics.event_ignored(&source);
        metrics.template_failed(&source);
        metrics.handshake_answered(&source);
        metrics.payload_repaired(&source, Repair::ALL.into_iter().collect());
        metrics.event_marked_stale(&source);
        metrics.source_holds(&source, 1, 1);
        Shadowed::ALL.into_iter().for_each(|result| metrics.shadow_decided(&source, result));
        Lane::ALL.into_iter().for_each(|lane| metrics.first_attempt(&source, lane.as_str(), Duration::ZERO));
        Trouble::ALL.into_iter().for_each(|trouble| metrics.attempted(trouble.as_str(), Duration::ZERO));
        Outcome::ALL.into_iter().for_each(|outcome| metrics.attempted(outcome.as_str(), Duration::ZERO));
        Damage::ALL.into_iter().for_each(|damage| metrics.event_damaged(damage.as_str()));
        metrics.keys_forgotten(1, 1);
        metrics.reloaded(true, WallTime(0));
        metrics.reloaded(false, WallTime(0));
        let later: Vec<_> = series(&metrics).into_iter().filter(|series| !has(series)).collect();
        assert_eq!(later, [""; 0]);
    }

    #[test]
    fn what_the_process_counts_is_shown_as_it_counts() {
        let metrics = Metrics::new();
        for (lines, panics) in [(0, 0), (7, 1)] {
            metrics.process_counted(lines, panics);
            let text = metrics.encode(Exposition::OpenMetrics);
            let shown = format!("gander_log_lines_dropped_total {lines}\n");
            assert!(text.contains(&shown) && text.contains(&format!("gander_panics_total {panics}\n")), "{text}");
        }
    }
}
