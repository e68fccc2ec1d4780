//! Metrics of confirmations.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::labels::ResultLabel;
use super::registration::Registration;
use super::{Metrics, count};
use crate::callgoose::confirmation::Relation;

/// The metrics of confirmations; all stay 0 without a source of `kind: confirmation`.
#[derive(Debug)]
pub(super) struct ConfirmationMetrics {
    confirmations: Family<ResultLabel, Counter>,
}

impl ConfirmationMetrics {
    pub(super) fn register(all: &mut Registration<'_>) -> ConfirmationMetrics {
        ConfirmationMetrics {
            confirmations: all
                .count("confirmations", "Confirmations of Callgoose that were kept, by their relation to an event"),
        }
    }

    /// Shows the series whose labels are this program's words, with 0.
    pub(super) fn show(&self) {
        let labels = Relation::ALL.map(|relation| ResultLabel { result: relation.as_str() });
        labels.iter().for_each(|labels| drop(self.confirmations.get_or_create(labels)));
    }
}

impl Metrics {
    /// Counts a confirmation that is kept.
    pub fn confirmed(&self, relation: Relation) {
        count(&self.confirmations.confirmations, &ResultLabel { result: relation.as_str() });
    }
}
