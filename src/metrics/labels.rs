//! The sets of labels. Their fields' names are the labels' names.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

use crate::event::{Action, Outcome};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SourceLabel {
    pub(super) source: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SourceLane {
    pub(super) source: Arc<str>,
    pub(super) lane: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct LaneLabel {
    pub(super) lane: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SourceAction {
    pub(super) source: Arc<str>,
    pub(super) action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SourceResult {
    pub(super) source: Arc<str>,
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SourceReason {
    pub(super) source: Arc<str>,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SourceRepair {
    pub(super) source: Arc<str>,
    pub(super) repair: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SourceOutcome {
    pub(super) source: Arc<str>,
    pub(super) action: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ResultLabel {
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct StateReason {
    pub(super) state: &'static str,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct PartLabel {
    pub(super) part: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct PhaseLabel {
    pub(super) phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ListenerLabel {
    pub(super) listener: &'static str,
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
