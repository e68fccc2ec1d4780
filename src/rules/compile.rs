//! From a rule file to a [`RuleSet`]: every mistake in it becomes a finding at its place, all at once.

mod condition;
mod emit;
mod key;
mod reach;
mod scalar;
mod validation;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::condition::Condition;
use super::emit::EmitMap;
use super::index::Index;
use super::key::KeyPart;
use super::path::JsonPath;
use super::placeholder::Placeholders;
use super::template::Templates;
use super::trace::Spot;
use super::{Otherwise, Rule, RuleSet, Then};
use crate::event::Priority;
use crate::yaml::{Fields, Findings, Node, Place, Source, Value, fields, parse};

pub(super) use key::parts as key_parts;

/// Compiles a rule file; none if there is an error in it.
pub(super) fn rule_set(source: &Arc<Source>, findings: &mut Findings) -> Option<RuleSet> {
    let mut found = Findings::new();
    let rules = read(source, &mut found);
    let usable = !found.has_errors();
    findings.extend(found);
    rules.filter(|_| usable)
}

fn read(source: &Arc<Source>, findings: &mut Findings) -> Option<RuleSet> {
    let file = parse(source, findings)?;
    if file.is_null() {
        findings
            .error(file.place.clone(), "", "this rule file is empty")
            .help("it begins with `version: 1` and needs `rules` and `incident_key`");
        return None;
    }
    let otherwise = if file.get("otherwise").is_some() { "otherwise" } else { "rules" };
    let otherwise_spot = Spot::of(&file.key_place(otherwise));
    let mut file = Fields::of(&file, "", findings)?;
    let mut templates = Templates::new();
    version(&mut file, findings);
    let unwrap = whole_path(&mut file, "unwrap", findings);
    let split = whole_path(&mut file, "split", findings);
    let validations = match file.take_some("validate") {
        Some(node) => validation::validations(node, findings),
        None => Vec::new(),
    };
    let rules_node = file.require("rules", findings);
    let otherwise = file.choice("otherwise", &OTHERWISE, findings).unwrap_or(Otherwise::Reject);
    let key_node = file.take_some("incident_key");
    let incident_key = key_node.map(|node| key::parts(node, "incident_key", findings)).unwrap_or_default();
    let occurrence = file.take_some("occurrence").map(|node| paths(node, "occurrence", findings)).unwrap_or_default();
    let update_on = file.take_some("update_on").map(|node| paths(node, "update_on", findings)).unwrap_or_default();
    let placeholders_node = file.take_some("placeholders");
    let placeholders = placeholders_node.map(|node| placeholders(node, findings)).unwrap_or_default();
    let emit = file.take_some("emit").and_then(|node| emit::body(node, "emit", &mut templates, findings));
    let place = file.place();
    file.finish(findings);
    let rules = rules_node.map(|node| rules(node, emit.as_ref(), &mut templates, findings)).unwrap_or_default();
    let is_each = |node: &Node| matches!(&node.value, Value::List(items) if items.len() == rules.len());
    let all_read = !rules.is_empty() && rules_node.is_some_and(is_each);
    if key_node.is_none() {
        needed_key(place, &rules, all_read, findings);
    }
    if let (Some(node), Placeholders::RefuseExceptAt(allowed), true) = (placeholders_node, &placeholders, all_read) {
        unread(node, allowed, &rules, &incident_key, findings);
    }
    if let (true, Some(node)) = (all_read, rules_node) {
        sends_nothing(node, &rules, findings);
    }
    let index = Index::of(&rules, placeholders.are_refused());
    Some(RuleSet {
        unwrap,
        split,
        validations,
        rules,
        index,
        otherwise,
        otherwise_spot,
        incident_key,
        occurrence,
        update_on,
        placeholders,
        templates,
        file: source.name.clone(),
        head: head(&source.text),
    })
}

/// The comment at the head of a file, without what is for editors.
fn head(text: &str) -> String {
    let comment = text.lines().map_while(|line| line.strip_prefix('#'));
    let lines = comment.filter(|line| !line.trim_start().starts_with("yaml-language-server")).take(HEAD_LINES_MAX);
    lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

/// Warns of a file in which no rule makes events.
fn sends_nothing(node: &Node, rules: &[Rule], findings: &mut Findings) {
    if !rules.iter().any(|rule| rule.then.makes_events()) {
        findings
            .warning(node.place.clone(), "rules", "no rule here triggers or resolves: nothing is ever sent")
            .help("`then: trigger` opens an incident, `then: resolve` closes it");
    }
}

/// Reads where placeholders are refused: everywhere, nowhere, or everywhere but at some paths.
fn placeholders(node: &Node, findings: &mut Findings) -> Placeholders {
    let Value::Map(_) = &node.value else {
        return match fields::choice(node, "placeholders", &PLACEHOLDERS, findings) {
            Some(false) => Placeholders::Allow,
            _ => Placeholders::default(),
        };
    };
    let Some(mut fields) = Fields::of(node, "placeholders", findings) else {
        return Placeholders::default();
    };
    let allowed = match fields.take_some("allow") {
        Some(node) => paths(node, "placeholders.allow", findings),
        None if fields.misnamed() => Vec::new(),
        None => {
            findings
                .error(node.place.clone(), "placeholders", "`allow` is required here and missing")
                .help("such as `{ allow: [$.text] }`; at all other paths they are refused");
            Vec::new()
        }
    };
    fields.finish(findings);
    Placeholders::RefuseExceptAt(allowed)
}

/// Warns of paths at which placeholders are allowed and nothing looks for them.
fn unread(node: &Node, allowed: &[JsonPath], rules: &[Rule], incident_key: &[KeyPart], findings: &mut Findings) {
    let at = &node.get("allow").unwrap_or(node).place;
    let keys = rules.iter().filter_map(|rule| rule.incident_key.as_deref()).chain([incident_key]);
    let parts = keys.flatten().flat_map(|part| &part.paths);
    let read: Vec<&JsonPath> = rules.iter().flat_map(|rule| &rule.reads).chain(parts).collect();
    for path in allowed.iter().filter(|path| !read.iter().any(|read| read.is_same(path))) {
        findings
            .warning(at.clone(), "placeholders.allow", format!("no `when` and no key part reads `{path}`"))
            .help("placeholders are looked for nowhere else: take it off, or write it as it is written there");
    }
}

/// Reports that a rule has no incident key, neither the file's nor its own.
fn needed_key(place: Place, rules: &[Rule], all_read: bool, findings: &mut Findings) {
    let own = rules.iter().any(|rule| rule.incident_key.is_some());
    let lacking = rules.iter().find(|rule| rule.then.makes_events() && rule.incident_key.is_none());
    let message = match lacking {
        Some(rule) if own => {
            format!("`incident_key` is required and missing: the rule `{}` has none of its own", rule.name)
        }
        // Rules that can't be read may need one too.
        None if own || all_read => return,
        _ => "`incident_key` is required and missing".to_owned(),
    };
    findings
        .error(place, "incident_key", message)
        .help("name what a trigger and its resolve have in common: `incident_key: [$.servicepilot_event_id]`");
}

fn version(file: &mut Fields<'_>, findings: &mut Findings) {
    let supported = format!("this build reads version {VERSION}: write `version: {VERSION}`");
    match file.take_some("version") {
        None => {
            let start = match file.place() {
                Place::Text { source, span } => Place::Text { source, span: span.start..span.start },
                other => other,
            };
            findings.error(start, "version", "`version` is required and missing").help(supported);
        }
        Some(node) if matches!(&node.value, Value::Number(number) if number.as_u64() == Some(VERSION)) => {}
        Some(node) => {
            let found = match &node.value {
                Value::Number(number) => format!("version {number} is not supported"),
                _ => format!("`version` is a number, found {}", node.kind()),
            };
            findings.error(node.place.clone(), "version", found).help(supported);
        }
    }
}

/// A path of `unwrap` or `split`, for which `$` is the whole payload already.
fn whole_path(file: &mut Fields<'_>, name: &'static str, findings: &mut Findings) -> Option<JsonPath> {
    let node = file.take_some(name)?;
    let path = path(node, name, findings)?;
    if path.is_whole() {
        findings
            .error(node.place.clone(), name, format!("`$$` means the payload after `unwrap`; in `{name}` that is `$`"))
            .help(format!("write `{}`", &path.as_str()[1..]));
    }
    Some(path)
}

fn rules(node: &Node, emit: Option<&EmitMap>, templates: &mut Templates, findings: &mut Findings) -> Vec<Rule> {
    let Value::List(items) = &node.value else {
        findings
            .error(node.place.clone(), "rules", format!("expected a list of rules, found {}", node.kind()))
            .help("each begins with `- name: …`");
        return Vec::new();
    };
    if items.is_empty() {
        findings
            .error(node.place.clone(), "rules", "there is no rule here")
            .help("without one nothing is ever triggered or resolved");
    }
    let mut names = HashMap::new();
    let mut read = HashSet::new();
    let mut rules = Vec::new();
    let mut kept = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("rules[{index}]");
        let Some(mut fields) = Fields::of(item, path.clone(), findings) else {
            continue;
        };
        let name = name(&mut fields, &mut names, findings);
        let when_node = fields.take("when");
        let mut found = Findings::new();
        let when = when_node.and_then(|node| condition::condition(node, &fields.path_of("when"), &mut found));
        let readable = !found.has_errors();
        findings.extend(found);
        let then = then(&mut fields, findings);
        let priority = priority(&mut fields, then, findings);
        let incident_key = own_key(&mut fields, then, findings);
        let own =
            fields.take_some("emit").and_then(|node| emit::body(node, &fields.path_of("emit"), templates, findings));
        fields.finish(findings);
        let (Some(name), Some(then)) = (name, then) else {
            continue;
        };
        let reads = new_paths(when.as_ref(), &mut read);
        let emit = emit::laid_over(emit, own);
        kept.push(Kept { path, node: item, readable });
        let spot = Spot::of(&item.place);
        rules.push(Rule { name: name.into(), spot, when, reads, then, incident_key, priority, emit });
    }
    reach::unreached(&rules, &kept, findings);
    rules
}

/// The place at which a rule is written.
struct Kept<'a> {
    path: String,
    node: &'a Node,
    /// Its `when` could be read.
    readable: bool,
}

fn name(fields: &mut Fields<'_>, names: &mut HashMap<String, Place>, findings: &mut Findings) -> Option<String> {
    let node = fields.require("name", findings)?;
    let path = fields.path_of("name");
    let name = fields::string(node, &path, findings)?;
    if name.trim().is_empty() {
        findings.error(node.place.clone(), path, "a rule's name can't be blank");
    } else if let Some(first) = names.get(&name) {
        let line = first.line_column().map_or_else(String::new, |(line, _)| format!(" in line {line}"));
        findings
            .error(node.place.clone(), path, format!("`{name}` is the name of another rule{line}"))
            .help("events name the rule that made them: give each its own name");
    } else {
        names.insert(name.clone(), node.place.clone());
    }
    Some(name)
}

fn then(fields: &mut Fields<'_>, findings: &mut Findings) -> Option<Then> {
    let node = fields.require("then", findings)?;
    fields::choice(node, &fields.path_of("then"), &THEN, findings)
}

/// A rule that makes no events has none that could be urgent.
fn priority(fields: &mut Fields<'_>, then: Option<Then>, findings: &mut Findings) -> Priority {
    let Some(node) = fields.take_some("priority") else {
        return Priority::default();
    };
    let path = fields.path_of("priority");
    idle(node, &path, then, ("that could go earlier", "`priority` orders the events"), findings);
    let words = Priority::ALL.map(|priority| (priority.as_str(), priority));
    fields::choice(node, &path, &words, findings).unwrap_or_default()
}

/// A rule's own incident key; empty if it can't be read.
fn own_key(fields: &mut Fields<'_>, then: Option<Then>, findings: &mut Findings) -> Option<Vec<KeyPart>> {
    let node = fields.take_some("incident_key")?;
    let path = fields.path_of("incident_key");
    idle(node, &path, then, ("that would have a key", "`incident_key` ties the events together"), findings);
    Some(key::parts(node, &path, findings))
}

/// Warns of a key that is about events in a rule that makes none.
fn idle(node: &Node, path: &str, then: Option<Then>, (what, does): (&str, &str), findings: &mut Findings) {
    if let Some(then) = then.filter(|then| !then.makes_events()) {
        findings
            .warning(node.place.clone(), path, format!("`then: {}` makes no event {what}", then.as_str()))
            .help(format!("{does} of rules that trigger or resolve"));
    }
}

/// The paths of a condition that no earlier rule reads.
fn new_paths(when: Option<&Condition>, read: &mut HashSet<String>) -> Vec<JsonPath> {
    let tests = when.map(Condition::tests).unwrap_or_default();
    tests.into_iter().map(|test| &test.path).filter(|path| read.insert(path.as_str().to_owned())).cloned().collect()
}

/// One path or a list of them.
fn paths(node: &Node, at: &str, findings: &mut Findings) -> Vec<JsonPath> {
    items(node, at, findings).into_iter().filter_map(|(item, at)| path(item, &at, findings)).collect()
}

/// A node's items with their paths: those of a list, which may not be empty, or the one that stands for it.
fn items<'n>(node: &'n Node, at: &str, findings: &mut Findings) -> Vec<(&'n Node, String)> {
    match &node.value {
        Value::List(items) => {
            if items.is_empty() {
                findings
                    .error(node.place.clone(), at, "this list needs a path")
                    .help("such as `[$.servicepilot_event_id]`");
            }
            items.iter().enumerate().map(|(index, item)| (item, format!("{at}[{index}]"))).collect()
        }
        _ => vec![(node, at.to_owned())],
    }
}

/// Reads each of a list's items; none if one of them can't be used.
fn all<T>(items: &[Node], at: &str, read: impl FnMut(&Node, &str) -> Option<T>) -> Option<Vec<T>> {
    Some(fields::each(items, at, read)).filter(|read| read.len() == items.len())
}

/// A part that may be absent; none if it is there and can't be used.
fn usable<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    part.map_or(Some(None), |part| part.map(Some))
}

/// A path; the finding points at the very part that is wrong.
pub(crate) fn path(node: &Node, at: &str, findings: &mut Findings) -> Option<JsonPath> {
    let Value::String(text) = &node.value else {
        findings
            .error(node.place.clone(), at, format!("expected a path, found {}", node.kind()))
            .help("a path begins with `$`, such as `$.state`");
        return None;
    };
    match JsonPath::parse(text) {
        Ok(path) => Some(path),
        Err(error) => {
            let finding = findings.error(node.place.within(text, error.range), at, error.message).code("invalid-path");
            if let Some(help) = error.help {
                finding.help(help);
            }
            None
        }
    }
}

/// More than a person reads at the head of a file.
const HEAD_LINES_MAX: usize = 200;
/// The version of the rule language that this build reads.
const VERSION: u64 = 1;
const THEN: [(&str, Then); 4] =
    [("trigger", Then::Trigger), ("resolve", Then::Resolve), ("ignore", Then::Ignore), ("reject", Then::Reject)];
const OTHERWISE: [(&str, Otherwise); 2] = [("reject", Otherwise::Reject), ("ignore", Otherwise::Ignore)];
const PLACEHOLDERS: [(&str, bool); 2] = [("refuse", true), ("allow", false)];
