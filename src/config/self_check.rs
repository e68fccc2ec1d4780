//! The `self_check` section.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::Reader;
use super::partial::source_names;
use crate::event::Action;
use crate::self_check::Settings;
use crate::yaml::{Fields, Node, Place, Value, fields, shown};

/// The section as it was read, for whoever holds it against rules and filters.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfCheckSection {
    pub settings: Settings,
    /// Of its `source`.
    pub place: Place,
}

impl Reader<'_> {
    /// None if it is off: it pages whoever has not made a filter for it.
    pub(super) fn self_check(&mut self, tree: &Node, top: &mut Fields<'_>) -> Option<SelfCheckSection> {
        let mut section = top.section("self_check", &mut self.findings)?;
        let source = self.checked_source(tree, &mut section);
        let (every_node, every_path) = (section.take_some("every"), section.path_of("every"));
        let every = every_node.map(|node| fields::duration_within(node, &every_path, EVERY, &mut self.findings));
        if let (Some(node), Some(Some(every))) = (every_node, every)
            && every < EVERY_USUAL
        {
            self.findings
                .warning(node.place.clone(), every_path, "each round is two events, and an incident at Callgoose")
                .code("doubtful")
                .help("a minute or more, such as the default of 15m, tells as much");
        }
        let limit = section.duration_within("limit", EVERY, &mut self.findings);
        let trigger = self.payload(&mut section, "trigger");
        let resolve = self.payload(&mut section, "resolve");
        section.finish(&mut self.findings);
        let (source, place) = source?;
        let settings = Settings {
            source,
            every: every.flatten().unwrap_or(Duration::from_secs(900)),
            limit: limit.unwrap_or(Duration::from_secs(300)),
            trigger: trigger.unwrap_or_else(|| Settings::built_in(Action::Trigger)),
            resolve: resolve.unwrap_or_else(|| Settings::built_in(Action::Resolve)),
        };
        Some(SelfCheckSection { settings, place })
    }

    /// The source by whose rules the check goes: one that there is.
    fn checked_source(&mut self, tree: &Node, section: &mut Fields<'_>) -> Option<(Arc<str>, Place)> {
        let (node, path) = (section.require("source", &mut self.findings)?, section.path_of("source"));
        let name = fields::string(node, &path, &mut self.findings)?;
        let names: Vec<&str> = source_names(tree).collect();
        if !names.contains(&name.as_str()) {
            // A source's name is no secret; what is no name of one may be anything.
            let is_name = name.len() <= NAME_BYTES_MAX && name.bytes().all(is_of_a_name);
            let found = if is_name { format!("`{name}`") } else { shown(node, &path, &names) };
            let message = format!("expected the name of a source, found {found}; there are {}", names.join(", "));
            self.error(node, &path, message).suggest(&name, names);
            return None;
        }
        Some((Arc::from(name), node.place.clone()))
    }

    /// A payload, written out: a mapping.
    fn payload(&mut self, section: &mut Fields<'_>, name: &'static str) -> Option<Json> {
        let (node, path) = (section.take_some(name)?, section.path_of(name));
        if !matches!(node.value, Value::Map(_)) {
            self.error(node, &path, format!("expected a payload as a mapping, found {}", node.kind()));
            return None;
        }
        Some(node.to_json())
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// A longer text is no mistyped name.
const NAME_BYTES_MAX: usize = 64;
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// Below it there is a warning.
const EVERY_USUAL: Duration = Duration::from_secs(60);
