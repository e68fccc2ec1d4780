//! A source of `kind: confirmation`: it takes what Callgoose's outgoing webhooks say, and nothing becomes an event.

use std::sync::Arc;

use super::Reader;
use super::partial::source_names;
use crate::callgoose::confirmation::{ActionAt, Shape};
use crate::inbound::ConfirmationSource;
use crate::rules::{KeyElsewhere, read_path};
use crate::yaml::{Fields, Node, Value, fields, shown};

/// The kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Alerts,
    Confirmation,
}

pub(super) const KIND: [(&str, Kind); 2] = [("alerts", Kind::Alerts), ("confirmation", Kind::Confirmation)];

impl Reader<'_> {
    pub(super) fn confirmation_source(
        &mut self,
        tree: &Node,
        name: &str,
        section: &mut Fields<'_>,
    ) -> Option<ConfirmationSource> {
        self.refuse_keys_of_alerts(section);
        let auth = self.auth(section);
        let allow_from = self.networks(section, "allow_from", "an empty list means anywhere");
        let rate_limit = self.source_rate_limit(section, RATE);
        let accept = self.accept(section);
        let probes = self.probes(section);
        let shape = match section.section("confirmation", &mut self.findings) {
            Some(fields) => self.shape(tree, fields),
            None => Shape::default(),
        };
        Some(ConfirmationSource { name: Arc::from(name), auth: auth?, allow_from, rate_limit, accept, probes, shape })
    }

    /// Refuses the paths of confirmations in a source that takes alerts.
    pub(super) fn refuse_confirmation(&mut self, tree: &Node, section: &mut Fields<'_>) {
        let at = section.path_of("confirmation");
        let Some(node) = section.take_some("confirmation") else { return };
        self.error(node, &at, "this source takes alerts, and confirms no incident")
            .help("write `kind: confirmation` beside it, in a source of its own");
        // What is misspelt in it is told as well.
        if let Some(fields) = Fields::of(node, at, &mut self.findings) {
            self.shape(tree, fields);
        }
    }

    /// Refuses what would have no effect, or would seem to make events.
    fn refuse_keys_of_alerts(&mut self, section: &mut Fields<'_>) {
        for (key, why) in OF_ALERTS {
            if let Some(node) = section.take_some(key) {
                let message = format!("`{key}` has no meaning for a source of `kind: confirmation`");
                self.error(node, &section.path_of(key), message).help(why);
            }
        }
    }

    fn shape(&mut self, tree: &Node, mut section: Fields<'_>) -> Shape {
        let at = section.path_of("incident_key");
        let incident_key =
            section.take_some("incident_key").and_then(|node| KeyElsewhere::read(node, &at, &mut self.findings));
        let action = section.section("action", &mut self.findings).and_then(|fields| self.action_at(fields));
        let source = self.confirmed_source(tree, &mut section);
        section.finish(&mut self.findings);
        Shape { incident_key, action, source }
    }

    fn action_at(&mut self, mut section: Fields<'_>) -> Option<ActionAt> {
        let at = section.path_of("path");
        let node = section.require("path", &mut self.findings);
        let path = node.and_then(|node| read_path(node, &at, &mut self.findings));
        let (opened, closed) = (self.words(&mut section, "opened"), self.words(&mut section, "closed"));
        let mut all = opened.iter().flatten();
        if all.any(|word| closed.iter().flatten().any(|other| other.eq_ignore_ascii_case(word))) {
            let message = "a word stands for both opened and closed";
            self.findings.error(section.place(), section.path(), message).help("leave it in one of the two lists");
        }
        section.finish(&mut self.findings);
        Some(ActionAt { path: path?, opened: opened?, closed: closed? })
    }

    /// One word or a list of them.
    fn words(&mut self, section: &mut Fields<'_>, name: &'static str) -> Option<Vec<String>> {
        let (node, at) = (section.require(name, &mut self.findings)?, section.path_of(name));
        let words = match &node.value {
            Value::List(items) => items.iter().map(word).collect::<Option<Vec<_>>>().filter(|words| !words.is_empty()),
            _ => word(node).map(|word| vec![word]),
        };
        if words.is_none() {
            let message = format!("expected a word or a list of words, found {}", node.kind());
            self.error(node, &at, message).help("such as [incident.opened]; capitals don't matter");
        }
        words
    }

    fn confirmed_source(&mut self, tree: &Node, section: &mut Fields<'_>) -> Option<Arc<str>> {
        let (node, at) = (section.take_some("source")?, section.path_of("source"));
        let name = fields::string(node, &at, &mut self.findings)?;
        let names: Vec<&str> = source_names(tree).collect();
        if !names.contains(&name.as_str()) {
            let message =
                format!("expected the name of a source that takes alerts, found {}", shown(node, &at, &names));
            self.error(node, &at, message).suggest(&name, names);
            return None;
        }
        Some(Arc::from(name))
    }
}

/// A text, a number or a boolean, as it is compared.
fn word(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// A second, and at once: many times as many as incidents are opened. For each, the recorder looks for its event.
const RATE: (u32, u32) = (50, 200);
/// The keys that only sources of alerts take, each with the reason.
const OF_ALERTS: [(&str, &str); 7] = [
    ("rules", NO_EVENT),
    ("rules_shadow", NO_EVENT),
    ("from", NO_EVENT),
    ("max_queued", NO_EVENT),
    ("respond", "it is answered as soon as it is on disk"),
    ("respond_timeout", "it is answered as soon as it is on disk"),
    ("handshake", "what it takes is kept as it came, whatever is in it"),
];
const NO_EVENT: &str = "what it takes never becomes an event and is never sent on: remove the key";
