//! Reads a part of a configuration alone, for commands that ask a running relay: the rest of the file may be wrong while
//! the relay runs well by what it said before.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Failure, Inputs, Reader};
use crate::admin;
use crate::delivery::client;
use crate::event::Superseded;
use crate::inbound::auth::Policy;
use crate::inbound::{self, Accept, Handshake};
use crate::journal;
use crate::journal::Shares;
use crate::journal::dedup;
use crate::rules::RuleSet;
use crate::yaml::{Fields, Node, Value};

/// The relay's own addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub listen: inbound::Config,
    pub admin: admin::Config,
}

/// The rules of one source and what else decides its payloads.
#[derive(Debug)]
pub(crate) struct LoadedRules {
    pub rules: Arc<RuleSet>,
    pub rules_file: PathBuf,
    /// Callgoose puts it before every title.
    pub from: Option<String>,
    pub accept: Accept,
    pub handshake: Option<Handshake>,
}

/// The `listen` and `admin` sections.
pub(crate) fn load_addresses(inputs: &Inputs) -> Result<Addresses, Failure> {
    part(inputs, |reader, tree| {
        let mut top = Fields::of(tree, "", &mut reader.findings)?;
        let (listen, admin) = (reader.listen(tree, &mut top), reader.admin(tree, &mut top));
        Some(Addresses { listen: listen?, admin: admin? })
    })
}

/// `data_dir` and the `journal` section, without the shares of sources.
pub(crate) fn load_journal(inputs: &Inputs) -> Result<journal::Config, Failure> {
    part(inputs, |reader, tree| {
        let mut top = Fields::of(tree, "", &mut reader.findings)?;
        let data_dir = reader.data_dir(tree, &mut top);
        Some(reader.journal(tree, &mut top, data_dir, Shares::default()))
    })
}

/// The configuration that calls to the upstream need.
pub(crate) fn load_upstream(inputs: &Inputs) -> Result<client::Config, Failure> {
    part(inputs, |reader, tree| {
        let mut top = Fields::of(tree, "", &mut reader.findings)?;
        let (client, _) = reader.upstream(&mut top, None, Superseded::default())?;
        Some(client)
    })
}

/// The `dedup` section.
pub(crate) fn load_dedup(inputs: &Inputs) -> Result<dedup::Settings, Failure> {
    part(inputs, |reader, tree| {
        let mut top = Fields::of(tree, "", &mut reader.findings)?;
        Some(reader.dedup(&mut top))
    })
}

/// The names of the sources that take alerts.
pub(crate) fn load_source_names(inputs: &Inputs) -> Result<Vec<String>, Failure> {
    part(inputs, |_, tree| Some(source_names(tree).map(str::to_owned).collect()))
}

/// The credentials of the source `name`.
pub(crate) fn load_policy(inputs: &Inputs, name: &str) -> Result<Policy, Failure> {
    part(inputs, |reader, tree| {
        let mut section = reader.section_of(tree, name)?;
        reader.auth(&mut section)
    })
}

/// The rules of the source `name`, and what else decides its payloads.
pub(crate) fn load_rules(inputs: &Inputs, name: &str) -> Result<LoadedRules, Failure> {
    part(inputs, |reader, tree| {
        let mut section = reader.section_of(tree, name)?;
        if !source_names(tree).any(|alerts| alerts == name) {
            let finding = reader.findings.error(section.place(), format!("sources.{name}"), NO_RULES);
            finding.help("`gander events confirmations` shows what came in through it");
            return None;
        }
        let rules = reader.rules(&mut section);
        let from = reader.sender_name(&mut section);
        let (accept, handshake) = (reader.accept(&mut section), reader.handshake(&mut section));
        let (rules, rules_file) = rules?;
        Some(LoadedRules { rules, rules_file, from, accept, handshake })
    })
}

/// The `from` of the source `name`, and the bodies that it takes.
pub(crate) fn load_sender(inputs: &Inputs, name: &str) -> Result<(Option<String>, Accept), Failure> {
    part(inputs, |reader, tree| {
        let mut section = reader.section_of(tree, name)?;
        Some((reader.sender_name(&mut section), reader.accept(&mut section)))
    })
}

fn part<T>(inputs: &Inputs, read: impl FnOnce(&mut Reader<'_>, &Node) -> Option<T>) -> Result<T, Failure> {
    let mut reader = Reader::new(inputs);
    let part = match reader.tree()? {
        Some(tree) => read(&mut reader, &tree),
        None => None,
    };
    match part {
        Some(part) if !reader.findings.has_errors() => Ok(part),
        _ => Err(Failure::Invalid(reader.findings)),
    }
}

impl Reader<'_> {
    /// The section of one source.
    fn section_of<'t>(&mut self, tree: &'t Node, name: &str) -> Option<Fields<'t>> {
        let sources = tree.get("sources");
        let Some(node) = sources.and_then(|sources| sources.get(name)) else {
            let names: Vec<&str> = source_names(tree).collect();
            let place = sources.unwrap_or(tree).place.clone();
            let finding = self.findings.error(place, "sources", format!("there is no source `{name}`"));
            if !names.is_empty() {
                finding.suggest(name, names);
            }
            return None;
        };
        Fields::of(node, format!("sources.{name}"), &mut self.findings)
    }
}

/// The names of the sources that take alerts.
pub(super) fn source_names(tree: &Node) -> impl Iterator<Item = &str> {
    let entries = match tree.get("sources").map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let confirms = |node: &Node| node.get("kind").and_then(Node::as_str) == Some("confirmation");
    entries.iter().filter(move |(_, node)| !confirms(node)).map(|(key, _)| key.name.as_str())
}

const NO_RULES: &str = "a source of `kind: confirmation` has no rules: what it takes never becomes an event";
