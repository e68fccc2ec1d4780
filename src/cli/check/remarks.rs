//! What is doubtful about rules and filters together: events that no filter would match, and what is worth knowing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::callgoose::filters::{Doubt, DoubtKind, FilterKey, Filters, ITEM_CHARS_MAX};
use crate::config::read_source;
use crate::event::Action;
use crate::rules::{Known, Outline, RuleSet};
use crate::yaml::{Findings, Node, Place, Source, Value as Yaml, nearest, parse};

/// A rule file, compiled and as a tree with places.
struct Rules {
    set: Arc<RuleSet>,
    tree: Node,
    outlines: Vec<Outline>,
}

/// Looks at every rule file that compiled, and at the filters if there are any. `complete`: these are all rules there are.
pub(super) fn look(
    rules: &BTreeMap<PathBuf, Arc<RuleSet>>,
    complete: bool,
    filters: Option<&Arc<Source>>,
    findings: &mut Findings,
) {
    let rules: Vec<Rules> = rules.iter().filter_map(|(path, set)| Rules::read(path, set)).collect();
    for rules in &rules {
        rules.keys(findings);
        rules.directions(findings);
    }
    let Some(source) = filters else {
        return;
    };
    let Some(filters) = Filters::read(source, findings) else {
        return;
    };
    let Some(tree) = parse(source, &mut Findings::new()) else {
        return;
    };
    for rules in &rules {
        rules.unmatched(&filters, &source.name, findings);
        rules.doubts(&filters, &source.name, findings);
        rules.long_values(&filters, findings);
        rules.unread(&filters, &source.name, findings);
    }
    // A rule that can't be read yet may send what the others do not.
    if complete {
        unsent(&rules, &filters, &tree, findings);
        unshown(&rules, &filters, &tree, findings);
    }
}

impl Rules {
    /// Reads the file once more, for the places in it.
    fn read(path: &Path, set: &Arc<RuleSet>) -> Option<Rules> {
        let tree = parse(&read_source(path).ok()?, &mut Findings::new())?;
        Some(Rules { set: Arc::clone(set), tree, outlines: set.outlines() })
    }

    /// Parts of the incident key that only the key itself asks for.
    fn keys(&self, findings: &mut Findings) {
        let Some(node) = self.tree.get("incident_key") else {
            return;
        };
        let parts = match &node.value {
            Yaml::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let unrequired = self.set.unrequired_keys();
        for part in parts {
            if let Some(path) = part.as_str().filter(|path| unrequired.contains(path)) {
                findings
                    .note(part.place.clone(), "incident_key", format!("`validate` does not require `{path}`"))
                    .code("key-not-required")
                    .help(format!(
                        "a payload without it is refused only where a rule triggers or resolves; to refuse it at once, \
                         and to say what it has to be: `- {{ path: {path}, required: true, type: string }}`"
                    ));
            }
        }
    }

    /// Triggers that no resolve here can meet, and files that only open or only close.
    fn directions(&self, findings: &mut Findings) {
        for (rule, path) in self.set.unmet() {
            let message = format!("no resolve here can have the incident key of this rule: they differ in `{path}`");
            findings
                .warning(self.rule_place(rule), format!("rules[{rule}]"), message)
                .code("unmet-trigger")
                .help("the incident key is made of what a trigger and its resolve have in common");
        }
        let has = |action| self.outlines.iter().any(|outline| outline.action == action);
        let (message, help) = match (has(Action::Trigger), has(Action::Resolve)) {
            (true, false) => {
                ("no rule here resolves: a person closes the incidents", "`then: resolve` closes what a rule opened")
            }
            (false, true) => {
                ("no rule here triggers: nobody is alerted by this file", "`then: trigger` opens an incident")
            }
            _ => return,
        };
        findings.note(self.tree.key_place("rules"), "rules", message).code("one-direction").help(help);
    }

    /// Rules whose events no filter can match.
    fn unmatched(&self, filters: &Filters, name: &str, findings: &mut Findings) {
        for outline in &self.outlines {
            let Some(reasons) = filters.never(outline) else {
                continue;
            };
            let (kind, effect) = match outline.action {
                Action::Trigger => ("trigger", "nobody would be alerted"),
                Action::Resolve => ("resolve", "no incident would be closed"),
            };
            let message = format!("no {kind} filter in {name} can match what this rule sends: {effect}");
            let reasons: Vec<String> = reasons.iter().take(REASONS_MAX).map(ToString::to_string).collect();
            let finding = findings.warning(self.place(outline), self.path(outline), message).code("unmatched-rule");
            if !reasons.is_empty() {
                finding.help(reasons.join("; "));
            }
        }
    }

    /// Rules whose incidents are not closed as they should be, or are one for all. What is said of several is said once.
    fn doubts(&self, filters: &Filters, name: &str, findings: &mut Findings) {
        let mut told: Vec<(&Outline, Doubt<'_>, Vec<&str>)> = Vec::new();
        for outline in &self.outlines {
            for doubt in filters.doubts(outline) {
                match told.iter_mut().find(|(first, one, _)| first.action == outline.action && *one == doubt) {
                    Some((_, _, others)) => others.push(&outline.name),
                    None => told.push((outline, doubt, Vec::new())),
                }
            }
        }
        for (outline, doubt, others) in told {
            let effect = match (&doubt.kind, outline.action) {
                (DoubtKind::Unmapped { .. }, Action::Trigger) => {
                    "no resolve will find the incident that this rule opens"
                }
                (DoubtKind::Unmapped { .. }, Action::Resolve) => "this rule will find no incident to close",
                (DoubtKind::Constant { .. }, Action::Trigger) => {
                    "all incidents that this rule opens are one to Callgoose"
                }
                (DoubtKind::Constant { .. }, Action::Resolve) => {
                    "whatever is over, this rule closes one and the same incident"
                }
                (DoubtKind::Both { .. }, Action::Trigger) => {
                    "Callgoose closes incidents by what this rule opens them with"
                }
                (DoubtKind::Both { .. }, Action::Resolve) => {
                    "Callgoose opens an incident by what this rule closes one with"
                }
            };
            let message = format!("{effect}: {doubt} ({name}, {})", doubt.filter);
            let (place, path) = (self.place(outline), self.path(outline));
            let mut help = match doubt.kind {
                DoubtKind::Unmapped { key, sends: None } => {
                    let sent = outline.keys.keys().map(String::as_str);
                    let near = nearest(key, sent).map_or_else(String::new, |near| format!("it sends `{near}`; "));
                    format!("{near}emit as `{key}` a text that a trigger and its resolve share")
                }
                DoubtKind::Unmapped { key, .. } => {
                    format!("emit as `{key}` a text that a trigger and its resolve share")
                }
                DoubtKind::Constant { .. } => {
                    "right for one thing that is watched; else emit what tells incidents apart".to_owned()
                }
                DoubtKind::Both { .. } => {
                    "let the states that are sent contain only what one of the two filters asks for".to_owned()
                }
            };
            if !others.is_empty() {
                help.push_str(&format!("; so it is with {}", listed(&others)));
            }
            match doubt.kind {
                DoubtKind::Constant { .. } => findings.note(place, path, message).code("constant-incident"),
                DoubtKind::Unmapped { .. } if !doubt.certain => findings
                    .note(place, path, format!("where that filter matches, {message}"))
                    .code("unmapped-incident"),
                DoubtKind::Unmapped { .. } => findings.warning(place, path, message).code("unmapped-incident"),
                DoubtKind::Both { .. } => findings.warning(place, path, message).code("opens-and-closes"),
            }
            .help(help);
        }
    }

    /// Values that filters compare, that no item can name whole, and of which none names a part.
    fn long_values(&self, filters: &Filters, findings: &mut Findings) {
        for outline in &self.outlines {
            let compared = filters.compared();
            let compared: Vec<&FilterKey<'_>> = compared.iter().filter(|key| key.action == outline.action).collect();
            for key in compared.iter().map(|key| key.key).collect::<BTreeSet<_>>() {
                let Some(Known::OneOf(values)) = outline.keys.get(key) else {
                    continue;
                };
                let texts = values.iter().filter_map(Value::as_str);
                let accepted = |text: &str| compared.iter().any(|filter| filter.key == key && filter.accepts(text));
                for text in texts.filter(|text| text.chars().count() > ITEM_CHARS_MAX && !accepted(text)) {
                    let message = format!(
                        "`{key}` is {text:?}, and Callgoose's filters compare with at most {ITEM_CHARS_MAX} characters"
                    );
                    findings
                        .warning(self.place(outline), self.path(outline), message)
                        .code("long-value")
                        .help("emit a shorter word, or let the filter ask for a part of it");
                }
            }
        }
    }

    /// Keys that are sent and that no filter reads.
    fn unread(&self, filters: &Filters, name: &str, findings: &mut Findings) {
        let Some(reads) = filters.reads() else {
            return;
        };
        let sent: BTreeSet<&str> =
            self.outlines.iter().flat_map(|outline| outline.keys.keys().map(String::as_str)).collect();
        let unread: Vec<&str> = sent.into_iter().filter(|key| !reads.contains(key)).collect();
        if !unread.is_empty() {
            let message = format!("no filter in {name} reads {}", unread.join(", "));
            findings.note(self.tree.key_place("emit"), "emit", message).code("unread-keys").help(
                "no incident shows them unless its description is missing; leave `description_from` out, and \
                     Callgoose shows the whole payload",
            );
        }
    }

    /// The rule's name.
    fn place(&self, outline: &Outline) -> Place {
        self.rule_place(outline.rule)
    }

    fn rule_place(&self, rule: usize) -> Place {
        let rules = self.tree.get("rules").map(|rules| &rules.value);
        let rule = match rules {
            Some(Yaml::List(items)) => items.get(rule),
            _ => None,
        };
        let rule = rule.unwrap_or(&self.tree);
        rule.get("name").map_or(&rule.place, |name| &name.place).clone()
    }

    fn path(&self, outline: &Outline) -> String {
        format!("rules[{}]", outline.rule)
    }
}

/// Keys that filters compare and that no rule of their kind sends. Others than this relay's sources may send them, so it is a note,
/// unless a key that is sent is spelled nearly so.
fn unsent(rules: &[Rules], filters: &Filters, tree: &Node, findings: &mut Findings) {
    for filter in filters.compared() {
        let outlines = rules.iter().flat_map(|rules| &rules.outlines).filter(|outline| outline.action == filter.action);
        let outlines: Vec<&Outline> = outlines.collect();
        if outlines.is_empty() || outlines.iter().any(|one| one.open || one.keys.contains_key(filter.key)) {
            continue;
        }
        let sent = outlines.iter().flat_map(|outline| outline.keys.keys().map(String::as_str));
        let kind = match filter.action {
            Action::Trigger => "triggers",
            Action::Resolve => "resolves",
        };
        let message = format!("no rule that {kind} sends `{}`, so this matches nothing that they send", filter.key);
        let (place, path) = placed(&filter, tree);
        match nearest(filter.key, sent) {
            Some(near) => {
                findings.warning(place, path, message).code("unsent-key").help(format!("did you mean `{near}`?"));
            }
            None => {
                findings.note(place, path, message).code("unsent-key");
            }
        }
    }
}

/// Keys that titles and descriptions are taken from and that no rule that triggers sends.
fn unshown(rules: &[Rules], filters: &Filters, tree: &Node, findings: &mut Findings) {
    let outlines = rules.iter().flat_map(|rules| &rules.outlines).filter(|outline| outline.action == Action::Trigger);
    let outlines: Vec<&Outline> = outlines.collect();
    for (key, service, trigger, field) in filters.shown() {
        let sent_by_some = outlines.iter().any(|one| one.open || one.keys.contains_key(key));
        if sent_by_some || filters.never_asked(service, trigger, &outlines) {
            continue;
        }
        let sent = outlines.iter().flat_map(|outline| outline.keys.keys().map(String::as_str));
        let path = format!("services[{service}].trigger[{trigger}].{field}");
        let filter = item(tree.get("services"), service).and_then(|node| item(node.get("trigger"), trigger));
        let place = filter.and_then(|filter| filter.get(field)).unwrap_or(tree).place.clone();
        let effect = match field {
            "title_from" => "every incident has the title that Callgoose gives it",
            _ => "every incident shows the whole payload",
        };
        let message = format!("no rule that triggers sends `{key}`: {effect}");
        match nearest(key, sent) {
            Some(near) => {
                findings.warning(place, path, message).code("unsent-key").help(format!("did you mean `{near}`?"));
            }
            None => {
                findings.note(place, path, message).code("unsent-key");
            }
        }
    }
}

/// Some names for a person.
fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(REASONS_MAX).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(REASONS_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Where a filter's key stands.
fn placed(filter: &FilterKey<'_>, tree: &Node) -> (Place, String) {
    let mut path = format!("services[{}]", filter.service);
    let mut node = item(tree.get("services"), filter.service);
    match filter.trigger {
        Some(trigger) => {
            path.push_str(&format!(".trigger[{trigger}]"));
            node = item(node.and_then(|node| node.get("trigger")), trigger);
        }
        None => {
            path.push_str(".resolve");
            node = node.and_then(|node| node.get("resolve"));
        }
    }
    path.push_str(&format!(".keys[{}].key", filter.index));
    let key = item(node.and_then(|node| node.get("keys")), filter.index).and_then(|node| node.get("key"));
    (key.or(node).unwrap_or(tree).place.clone(), path)
}

fn item(list: Option<&Node>, index: usize) -> Option<&Node> {
    match &list?.value {
        Yaml::List(items) => items.get(index),
        _ => None,
    }
}

/// More than a person needs to see why.
const REASONS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_sent_by_rules_that_can_not_be_read_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.yaml");
        let rules = "version: 1\nincident_key: $.id\nrules: [{ name: all, then: trigger }]\nemit: { state: BAD }\n";
        std::fs::write(&path, rules).unwrap();
        let set = RuleSet::compile(&read_source(&path).unwrap(), &mut Findings::new()).unwrap();
        let rules = BTreeMap::from([(path, Arc::new(set))]);
        let keys = "{ key: state, contains: [BAD] }, { key: region, contains: [eu] }";
        let text = format!("services: [{{ name: pay, trigger: [{{ urgency: high, keys: [{keys}] }}] }}]\n");
        let filters = Arc::new(Source::new("filters.yaml".into(), text));
        let told = |complete| {
            let mut findings = Findings::new();
            look(&rules, complete, Some(&filters), &mut findings);
            findings.iter().any(|finding| finding.message.contains("no rule that triggers sends `region`"))
        };
        assert!(told(true), "no other rules are there");
        assert!(!told(false), "others may send it");
    }
}
