//! Metrics, and the only room with their names: those of the relay begin with `gander_`, those of the process with
//! `process_`.
//!
//! Labels come from configuration (source names) and from this program's own enums, never from a payload, so
//! the number of series is bounded. Every series is there with 0 before anything happened, so that a rate includes the
//! first event: whoever counts by words of its own names them here at the start.

mod confirmation_metrics;
mod delivery_metrics;
mod exposition;
mod journal_metrics;
mod labels;
mod process;
mod registration;
mod relay_metrics;
mod request_metrics;
mod self_check_metrics;
mod timing;

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::clock::WallTime;
use confirmation_metrics::ConfirmationMetrics;
use delivery_metrics::DeliveryMetrics;
use journal_metrics::JournalMetrics;
use process::Process;
use registration::Registration;
use relay_metrics::RelayMetrics;
use request_metrics::RequestMetrics;
use self_check_metrics::SelfCheckMetrics;

pub use exposition::Exposition;
pub(crate) use request_metrics::Shadowed;
pub(crate) use timing::Sum;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub requests: RequestMetrics,
    pub delivery: DeliveryMetrics,
    pub journal: JournalMetrics,
    relay: RelayMetrics,
    self_check: SelfCheckMetrics,
    confirmations: ConfirmationMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process::starting(WallTime::now())));
        let all = &mut Registration(registry.sub_registry_with_prefix("gander"));
        let (requests, delivery) = (RequestMetrics::register(all), DeliveryMetrics::register(all));
        let (journal, relay) = (JournalMetrics::register(all), RelayMetrics::register(all));
        let (self_check, confirmations) = (SelfCheckMetrics::register(all), ConfirmationMetrics::register(all));
        delivery.show();
        journal.show();
        relay.show();
        self_check.show();
        confirmations.show();
        Metrics { registry, requests, delivery, journal, relay, self_check, confirmations }
    }

    /// Shows the series of a configured source, with 0; but for its refusals, whose reasons are not known here.
    pub fn show_source(&self, source: &Arc<str>) {
        self.requests.show_source(source);
        self.delivery.show_source(source);
        self.journal.show_source(source);
    }

    /// The metrics as a scraper reads them.
    pub fn encode(&self, exposition: Exposition) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        exposition.of_openmetrics(text)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::callgoose::answer::Trouble;
    use crate::callgoose::confirmation::Relation;
    use crate::delivery::schedule::Lane;
    use crate::event::{Action, Damage, Outcome};
    use crate::lenient_json::Repair;
    use crate::self_check;

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
        metrics.message_repeated(&source);
        metrics.payload_repaired(&source, Repair::ALL.into_iter().collect());
        metrics.event_marked_stale(&source);
        metrics.source_uses(&source, 1, 1);
        Shadowed::ALL.into_iter().for_each(|result| metrics.shadow_decided(&source, result));
        Lane::ALL.into_iter().for_each(|lane| metrics.first_attempt(&source, lane.as_str(), Duration::ZERO));
        Trouble::ALL.into_iter().for_each(|trouble| metrics.attempted(trouble.as_str(), Duration::ZERO));
        Outcome::ALL.into_iter().for_each(|outcome| metrics.attempted(outcome.as_str(), Duration::ZERO));
        Damage::ALL.into_iter().for_each(|damage| metrics.event_damaged(damage.as_str()));
        metrics.keys_evicted(1, 1);
        self_check::RESULTS.into_iter().for_each(|result| metrics.self_check_failed(result));
        metrics.self_check_succeeded(WallTime(0), Duration::ZERO);
        Relation::ALL.into_iter().for_each(|relation| metrics.confirmed(relation));
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
