//! Tells how the rules that are loaded now decide a payload, and takes nothing.

use std::sync::Arc;

use super::{Decoded, Ingest, read_kept};
use crate::clock::WallTime;
use crate::event::Violation;
use crate::lenient_json::Repairs;
use crate::rules::{Context, Decision, RuleSet, Trace};

/// A decision, with how it came about.
#[derive(Debug)]
pub struct Explained {
    /// The repairs that the payload needed.
    pub repairs: Repairs,
    pub decision: Decision,
    pub trace: Trace,
}

impl Ingest {
    /// The rules of a source as they are loaded now.
    pub fn rules_of(&self, name: &str) -> Option<Arc<RuleSet>> {
        Some(self.0.rules.of(name)?.live)
    }

    /// Explains a payload as if it came now; none if there is no such source. The error says why it can't be read. It
    /// computes for as long as a decision may: not for a task that others wait for.
    pub fn explain(&self, name: &str, raw: Vec<u8>) -> Option<Result<Explained, Violation>> {
        let shared = &self.0;
        let (source, rules) = (shared.sources.named(name)?, shared.rules.of(name)?);
        let read = read_kept(raw, None, source.accept, shared.limits.bytes_max);
        Some(read.map(|Decoded { value, repairs }| {
            let received_at = WallTime::now().rfc3339();
            let json = source.accept.json;
            let context = Context { source: &source.name, received_at: &received_at, json, repairs };
            let (decision, trace) = rules.live.explain(&value, context);
            Explained { repairs: repairs.and(decision.repairs), decision, trace }
        }))
    }
}
