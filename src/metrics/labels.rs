//! The sets of labels. Their fields' names are the labels' names.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

use crate::event::{Action, Outcome};

/// Declares sets of labels.
macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),* })*) => {
        $(
            #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
            pub(super) struct $name {
                $(pub(super) $label: $kind),*
            }
        )*
    };
}

labels! {
    SourceLabel { source: Arc<str> }
    SourceLane { source: Arc<str>, lane: &'static str }
    LaneLabel { lane: &'static str }
    SourceAction { source: Arc<str>, action: &'static str }
    SourceResult { source: Arc<str>, result: &'static str }
    SourceReason { source: Arc<str>, reason: &'static str }
    SourceRepair { source: Arc<str>, repair: &'static str }
    SourceOutcome { source: Arc<str>, action: &'static str, outcome: &'static str }
    ReasonLabel { reason: &'static str }
    ResultLabel { result: &'static str }
    StateReason { state: &'static str, reason: &'static str }
    PartLabel { part: &'static str }
    PhaseLabel { phase: &'static str }
    CertificateLabels { section: &'static str, file: String }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ListenerAnswer {
    pub(super) listener: &'static str,
    pub(super) answer: &'static str,
}

impl SourceLabel {
    pub(super) fn of(source: &Arc<str>) -> SourceLabel {
        SourceLabel { source: Arc::clone(source) }
    }
}

impl SourceAction {
    pub(super) fn of(source: &Arc<str>, action: Action) -> SourceAction {
        SourceAction { source: Arc::clone(source), action: action.as_str() }
    }
}

impl SourceReason {
    /// `source` is none if a request named no known source.
    pub(super) fn of(source: Option<&Arc<str>>, reason: &'static str) -> SourceReason {
        SourceReason { source: source.map_or_else(|| Arc::from("none"), Arc::clone), reason }
    }
}

impl SourceOutcome {
    pub(super) fn of(source: &Arc<str>, action: Action, outcome: Outcome) -> SourceOutcome {
        SourceOutcome { source: Arc::clone(source), action: action.as_str(), outcome: outcome.as_str() }
    }
}
