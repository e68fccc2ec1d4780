//! An incident key outside a rule file: where a payload that the rules never see carries it.

use serde_json::Value;

use super::budget::Budget;
use super::compile::key_parts;
use super::key::{self, KeyPart, Refuse};
use super::path::Scope;
use super::placeholder::Placeholders;
use crate::yaml::{Findings, Node};

/// The parts of a key, in the language of a rule file's `incident_key`.
#[derive(Clone, Debug)]
pub struct KeyElsewhere(Vec<KeyPart>);

impl KeyElsewhere {
    /// Reads a path, a part or a list of them; none if any of it is wrong.
    pub fn read(node: &Node, at: &str, findings: &mut Findings) -> Option<KeyElsewhere> {
        let mut found = Findings::new();
        let parts = key_parts(node, at, &mut found);
        let is_usable = !found.has_errors() && !parts.is_empty();
        findings.extend(found);
        is_usable.then_some(KeyElsewhere(parts))
    }

    /// The key that a payload carries; none where a rule file would refuse it.
    pub fn find(&self, payload: &Value, budget: &Budget) -> Option<String> {
        let scope = Scope { element: payload, root: payload, budget };
        let refuse = Refuse { placeholders: &Placeholders::default(), replaced: true };
        key::incident_key(&self.0, scope, refuse).ok()
    }
}
