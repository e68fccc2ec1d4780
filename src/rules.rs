//! The rule language: from a payload to triggers, resolves and refusals, by declarative rules.

use std::sync::Arc;

use crate::document::{Findings, Source};
use crate::event::{Draft, Violation};

/// A compiled rule file. Everything that can be wrong with it was found when it was compiled.
#[derive(Debug)]
pub struct RuleSet {}

/// What a decision may know beside the payload.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The source's name.
    pub source: &'a str,
    /// RFC 3339.
    pub received_at: &'a str,
}

/// What the rules say of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Whether `split` is set: the answer to the sender then lists elements.
    pub batch: bool,
    /// One for the payload, or one for each element that `split` selects, in their order.
    pub elements: Vec<Element>,
}

/// What the rules say of one element.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    Event(Draft),
    /// By a rule's `ignore`, or by `otherwise: ignore` (no rule).
    Ignored {
        rule: Option<Arc<str>>,
    },
    Refused {
        /// Never empty.
        violations: Vec<Violation>,
        /// The element itself where `split` made it, so that it can be kept; none where it is the whole payload.
        element: Option<Box<serde_json::Value>>,
    },
}

impl RuleSet {
    /// Compiles a rule file. Every mistake leaves a finding; none if any is an error.
    pub fn compile(_source: &Arc<Source>, _findings: &mut Findings) -> Option<RuleSet> {
        None
    }

    /// Decides a payload.
    pub fn decide(&self, _payload: &serde_json::Value, _context: Context<'_>) -> Decision {
        Decision { batch: false, elements: Vec::new() }
    }
}
