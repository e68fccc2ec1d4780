//! Metrics of what senders send: connections, requests, and what the rules make of them.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{ListenerAnswer, ReasonLabel, SourceAction, SourceLabel, SourceReason, SourceRepair, SourceResult};
use super::registration::{FAST_SECONDS, Registration};
use super::timing::{Sum, Timing};
use super::{Metrics, count};
use crate::event::Action;
use crate::lenient_json::{Repair, Repairs};

/// The result of a payload's second decision by shadow rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shadowed {
    Same,
    Differs,
    /// Skipped, because too many payloads waited.
    Skipped,
}

/// The metrics of requests.
#[derive(Debug)]
pub struct RequestMetrics {
    accepted: Family<SourceAction, Counter>,
    duplicates: Family<SourceAction, Counter>,
    ignored: Family<SourceLabel, Counter>,
    refused: Family<SourceReason, Counter>,
    connections_refused: Family<ReasonLabel, Counter>,
    attempts_slowed: Family<ListenerAnswer, Counter>,
    template_failures: Family<SourceLabel, Counter>,
    repaired: Family<SourceRepair, Counter>,
    handshakes: Family<SourceLabel, Counter>,
    messages_repeated: Family<SourceLabel, Counter>,
    shadowed: Family<SourceResult, Counter>,
    acknowledge: Timing,
    /// Open connections of senders.
    pub connections: Gauge,
    /// The memory used by request bodies, of the amount reserved for them.
    pub body_bytes: Gauge,
}

impl RequestMetrics {
    pub(super) fn register(all: &mut Registration<'_>) -> RequestMetrics {
        RequestMetrics {
            accepted: all.count("events_accepted", "Events made durable, by source and action"),
            duplicates: all.count("events_duplicate", "Duplicates of accepted events, by source and action"),
            shadowed: all.count("shadow_decisions", "Payloads that shadow rules decided too, by result"),
            ignored: all.count("events_ignored", "Payloads or elements that a rule ignored"),
            refused: all.count("requests_refused", "Requests or elements refused, by source and reason"),
            connections_refused: all
                .count("connections_refused", "Connections closed before a request was read, by reason"),
            attempts_slowed: all.count(
                "failed_attempts_slowed",
                "Wrong credentials of an address that showed many, by listener and how they were answered",
            ),
            template_failures: all.count("template_failures", "Templates that failed at run time and rendered empty"),
            repaired: all.count(
                "payloads_repaired",
                "Payloads of sources with json: lenient that were repaired, by kind of repair",
            ),
            handshakes: all.count(
                "handshakes",
                "Payloads that were answered as a handshake: no rule saw them, and nothing is kept",
            ),
            messages_repeated: all.count(
                "messages_repeated",
                "Messages that came again under the id under which they were acknowledged, by source",
            ),
            acknowledge: Timing::new(all.histogram(
                "acknowledge",
                "Time from a request's head to its answer, for requests that were recorded",
                FAST_SECONDS,
            )),
            connections: all.count("connections", "Connections of senders that are open"),
            body_bytes: all.bytes(
                "request_bodies",
                "Bodies of requests in memory: being read, or waiting to be written to the journal",
            ),
        }
    }

    /// Shows the series of a configured source, with 0.
    pub(super) fn show_source(&self, source: &Arc<str>) {
        for action in Action::ALL {
            let labels = SourceAction::of(source, action);
            drop((self.accepted.get_or_create(&labels), self.duplicates.get_or_create(&labels)));
        }
        let labels = SourceLabel::of(source);
        for family in [&self.ignored, &self.template_failures, &self.handshakes, &self.messages_repeated] {
            drop(family.get_or_create(&labels));
        }
        for result in Shadowed::ALL.map(Shadowed::as_str) {
            drop(self.shadowed.get_or_create(&SourceResult { source: Arc::clone(source), result }));
        }
        for repair in Repair::ALL.map(Repair::as_str) {
            drop(self.repaired.get_or_create(&SourceRepair { source: Arc::clone(source), repair }));
        }
    }
}

impl Metrics {
    /// Shows the refusals for these reasons, with 0; `source` is none where a request names no known source.
    pub fn show_refusals(&self, source: Option<&Arc<str>>, reasons: impl IntoIterator<Item = &'static str>) {
        for reason in reasons {
            drop(self.requests.refused.get_or_create(&SourceReason::of(source, reason)));
        }
    }

    /// Shows connections refused for these reasons, with 0.
    pub fn show_connections_refused(&self, reasons: impl IntoIterator<Item = &'static str>) {
        for reason in reasons {
            drop(self.requests.connections_refused.get_or_create(&ReasonLabel { reason }));
        }
    }

    /// Shows wrong credentials that were answered so, with 0.
    pub fn show_attempts_slowed(&self, listener: &'static str, answers: impl IntoIterator<Item = &'static str>) {
        for answer in answers {
            drop(self.requests.attempts_slowed.get_or_create(&ListenerAnswer { listener, answer }));
        }
    }

    pub fn attempt_slowed(&self, listener: &'static str, answer: &'static str) {
        count(&self.requests.attempts_slowed, &ListenerAnswer { listener, answer });
    }

    pub fn event_accepted(&self, source: &Arc<str>, action: Action) {
        self.requests.accepted.get_or_create(&SourceAction::of(source, action)).inc();
    }

    pub fn event_duplicate(&self, source: &Arc<str>, action: Action) {
        self.requests.duplicates.get_or_create(&SourceAction::of(source, action)).inc();
    }

    /// Counts the result of a payload's decision by shadow rules.
    pub fn shadow_decided(&self, source: &Arc<str>, result: Shadowed) {
        let result = result.as_str();
        self.requests.shadowed.get_or_create(&SourceResult { source: Arc::clone(source), result }).inc();
    }

    pub fn event_ignored(&self, source: &Arc<str>) {
        self.requests.ignored.get_or_create(&SourceLabel::of(source)).inc();
    }

    /// `source` is none if the request named no known source.
    pub fn request_refused(&self, source: Option<&Arc<str>>, reason: &'static str) {
        count(&self.requests.refused, &SourceReason::of(source, reason));
    }

    pub fn connection_refused(&self, reason: &'static str) {
        count(&self.requests.connections_refused, &ReasonLabel { reason });
    }

    /// The number of connections of senders that ended for one of these reasons.
    pub fn refused_connections(&self, reasons: &[&'static str]) -> u64 {
        let counters = reasons.iter().filter_map(|reason| {
            self.requests.connections_refused.get(&ReasonLabel { reason }).as_deref().map(Counter::get)
        });
        counters.sum()
    }

    pub fn template_failed(&self, source: &Arc<str>) {
        self.requests.template_failures.get_or_create(&SourceLabel::of(source)).inc();
    }

    /// Counts a payload by each kind of repair that it needed.
    pub fn payload_repaired(&self, source: &Arc<str>, repairs: Repairs) {
        for repair in repairs.iter().map(Repair::as_str) {
            self.requests.repaired.get_or_create(&SourceRepair { source: Arc::clone(source), repair }).inc();
        }
    }

    /// Shows the repeated messages of a source, with 0.
    pub fn show_messages_repeated(&self, source: &Arc<str>) {
        drop(self.requests.messages_repeated.get_or_create(&SourceLabel::of(source)));
    }

    pub fn message_repeated(&self, source: &Arc<str>) {
        count(&self.requests.messages_repeated, &SourceLabel::of(source));
    }

    pub fn handshake_answered(&self, source: &Arc<str>) {
        count(&self.requests.handshakes, &SourceLabel::of(source));
    }

    pub fn acknowledged(&self, took: Duration) {
        self.requests.acknowledge.observe(took);
    }

    /// The requests that were recorded, and the time until they were answered.
    pub fn acknowledge_sum(&self) -> Sum {
        self.requests.acknowledge.sum()
    }
}

impl Shadowed {
    pub(super) const ALL: [Shadowed; 3] = [Shadowed::Same, Shadowed::Differs, Shadowed::Skipped];

    fn as_str(self) -> &'static str {
        match self {
            Shadowed::Same => "same",
            Shadowed::Differs => "differs",
            Shadowed::Skipped => "skipped",
        }
    }
}
