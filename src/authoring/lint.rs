//! Warns of rules whose events Callgoose's filters can't use, by what is written out in both files.
//!
//! A warning holds for every payload. Values that a payload decides are told by playing the tests beside the rules
//! through the filters.

mod against_filters;
mod self_check;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use against_filters::unsent;

pub(crate) use self_check::{self_check, self_check_beside};

use super::rule_tests::{self, TestFile};
use crate::callgoose::filters::Filters;
use crate::config::{FileStamps, read_source};
use crate::event::Action;
use crate::inbound::{Handshake, SourceConfig};
use crate::rules::{BodyShape, Coverage, RuleSet};
use crate::yaml::{Findings, Node, Source, Value as Yaml, parse};

/// A rule file, compiled and as a tree with places.
struct Rules {
    path: PathBuf,
    set: Arc<RuleSet>,
    tree: Node,
    shapes: Vec<BodyShape>,
}

/// Looks at every rule file that compiled, and at the filters if there are any. `complete`: these are all rules there are.
pub(crate) fn look(
    rules: &BTreeMap<PathBuf, Arc<RuleSet>>,
    sources: &[SourceConfig],
    complete: bool,
    filters: Option<&Arc<Source>>,
    findings: &mut Findings,
) {
    let rules: Vec<Rules> = rules.iter().filter_map(|(path, set)| Rules::read(path, set)).collect();
    for rules in &rules {
        rules.keys(findings);
        rules.directions(findings);
        rules.unread(findings);
        rules.echoed(sources, findings);
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
        rules.unsaid(&filters, &source.name, findings);
        for shape in &rules.shapes {
            rules.unmatched(shape, &filters, &source.name, findings);
            rules.unmapped(shape, &filters, &source.name, findings);
        }
    }
    // A rule that can't be read yet may send what the others do not.
    if complete {
        for action in [Action::Trigger, Action::Resolve] {
            let shapes: Vec<&BodyShape> =
                rules.iter().flat_map(|rules| &rules.shapes).filter(|shape| shape.action == action).collect();
            if !shapes.is_empty() {
                unsent(&shapes, action, &filters, &tree, findings);
            }
        }
    }
}

impl Rules {
    /// Reads the file once more, for the places in it.
    fn read(path: &Path, set: &Arc<RuleSet>) -> Option<Rules> {
        let tree = parse(&read_source(path).ok()?, &mut Findings::new())?;
        Some(Rules { path: path.to_owned(), set: Arc::clone(set), tree, shapes: set.body_shapes() })
    }

    /// Notes parts of the incident key that only the key itself asks for. Where `validate` asks for a type and does not
    /// require it, somebody decided so.
    fn keys(&self, findings: &mut Findings) {
        let Some(node) = self.tree.get("incident_key") else {
            return;
        };
        let unvalidated = self.set.unvalidated_keys();
        for part in items(node).unwrap_or(std::slice::from_ref(node)) {
            let part = part.get("path").unwrap_or(part);
            if let Some(path) = part.as_str().filter(|path| unvalidated.contains(path)) {
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

    /// Notes a file that only opens, or only closes.
    fn directions(&self, findings: &mut Findings) {
        let has = |action| self.shapes.iter().any(|shape| shape.action == action);
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

    /// Warns of paths of `emit` that find nothing in any payload of the tests beside the file.
    fn unread(&self, findings: &mut Findings) {
        let Some(coverage) = self.coverage() else {
            return;
        };
        for missed in coverage.unread() {
            let (path, key) = (&missed.path, format!("emit.{}", missed.key));
            let place = self.emitted(path).map_or_else(|| self.tree.key_place("emit"), |node| node.place.clone());
            let message = format!("`{path}` finds nothing in any payload of the tests beside this file");
            // A name that is nearly there is a mistake, also where the file can do without it.
            let finding = match (missed.is_near(), missed.instead, self.set.is_optional(path)) {
                (false, true, _) => findings.note(place, key, format!("{message}; another value is sent")),
                (false, false, true) => {
                    findings.note(place, key, format!("{message}; the incident key says that it may"))
                }
                _ => findings.warning(place, key, message),
            };
            let add = "a payload that has it, among the tests, shows what comes of it";
            let help = missed.why.as_ref().map_or_else(|| add.to_owned(), |why| format!("{why}; or {add}"));
            finding.code("unread-path").help(help);
        }
    }

    /// Warns of tests beside the file with an alert that a source of these rules answers as a handshake.
    fn echoed(&self, sources: &[SourceConfig], findings: &mut Findings) {
        let sources = sources.iter().filter(|source| Arc::ptr_eq(&source.rules.live, &self.set));
        let asking: Vec<_> = sources.filter_map(|source| Some((&source.name, source.handshake.as_ref()?))).collect();
        let Some(tests) = (!asking.is_empty()).then(|| self.tests()).flatten() else {
            return;
        };
        for (index, payload, place) in tests.alerts() {
            let answered = asking.iter().filter(|(_, handshake)| handshake.is_asked_for(payload));
            for (source, Handshake { path, .. }) in answered {
                let message = format!(
                    "the source `{source}` answers this payload as a `handshake`, for it has a text at `{path}`: no rule \
                     sees it, and nobody would be alerted"
                );
                findings
                    .warning(place.clone(), format!("tests[{index}].expect"), message)
                    .code("alert-as-handshake")
                    .help(format!("let `sources.{source}.handshake.path` be one that no alert has"));
            }
        }
    }

    /// The tests beside the file; none where they can't be played, or are about other rules.
    fn tests(&self) -> Option<TestFile> {
        let mut found = Findings::new();
        let source = read_source(&rule_tests::beside(&self.path)?).ok()?;
        let tests = rule_tests::read(&source, None, &mut FileStamps::default(), &mut found)?;
        if found.has_errors() || tests.rules.file_name() != self.path.file_name() {
            return None;
        }
        Some(tests)
    }

    /// The coverage by the tests beside the file; none without tests that can be played.
    fn coverage(&self) -> Option<Coverage> {
        let tests = self.tests()?;
        let mut coverage = Coverage::of(&self.set);
        tests.play_covering(&self.set, &mut coverage);
        Some(coverage)
    }

    /// The place in `emit` at which a path is written, or a template that reads it.
    fn emitted(&self, path: &str) -> Option<&Node> {
        let rules = items_of(self.tree.get("rules")).iter().filter_map(|rule| rule.get("emit"));
        self.tree.get("emit").into_iter().chain(rules).find_map(|emit| written(emit, path))
    }
}

/// The first text below a node that is this path, or a template that holds it.
fn written<'n>(node: &'n Node, path: &str) -> Option<&'n Node> {
    match &node.value {
        Yaml::String(text) => (text == path || text.contains("{{") && text.contains(path)).then_some(node),
        Yaml::List(items) => items.iter().find_map(|item| written(item, path)),
        Yaml::Map(entries) => entries.iter().find_map(|(_, node)| written(node, path)),
        _ => None,
    }
}

fn items_of(list: Option<&Node>) -> &[Node] {
    list.and_then(items).unwrap_or_default()
}

fn items(list: &Node) -> Option<&[Node]> {
    match &list.value {
        Yaml::List(items) => Some(items),
        _ => None,
    }
}

fn item(list: Option<&Node>, index: usize) -> Option<&Node> {
    items(list?)?.get(index)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::yaml::Place;

    /// The findings about a rule file beside tests with these payloads, as `severity code key`.
    fn told_beside(emit: &str, payloads: &[&Value]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.yaml");
        let rules = format!(
            "version: 1\nincident_key: [$.id, {{ path: $.disk, optional: true }}, {{ $first: [$.id, $.other] }}]\nvalidate: [{{ path: $.id, required: true }}]\nrules:
  - {{ name: up, when: {{ path: $.up, exists: true }}, then: resolve }}\n  - {{ name: down, then: trigger }}\nemit: {emit}\n"
        );
        std::fs::write(&path, rules).unwrap();
        let named = payloads.iter().enumerate();
        let tests: Vec<Value> = named
            .map(|(name, payload)| json!({ "name": name.to_string(), "payload": payload, "expect": { "verdict": "events" } }))
            .collect();
        if !tests.is_empty() {
            let tests = json!({ "rules": "rules.yaml", "tests": tests }).to_string();
            std::fs::write(folder.path().join("rules.test.yaml"), tests).unwrap();
        }
        let set = RuleSet::compile(&read_source(&path).unwrap(), &mut Findings::new()).unwrap();
        let mut findings = Findings::new();
        look(&BTreeMap::from([(path, Arc::new(set))]), &[], true, None, &mut findings);
        let told = findings.iter().map(|finding| {
            let marked = match &finding.place {
                Place::Text { source, span } => source.text[span.clone()].to_owned(),
                other => format!("{other:?}"),
            };
            format!("{} {} {} at {marked}", finding.severity.as_str(), finding.code, finding.path)
        });
        told.collect()
    }

    #[test]
    fn what_emit_reads_and_no_payload_of_the_tests_has_is_told() {
        let (id, titled) = (json!({"id": "x"}), json!({"id": "x", "title": "t", "host": "h"}));
        let disc = json!({"id": "x", "disc": "d"});
        for (emit, payloads, told) in [
            ("{ title: $.title }", vec![], vec![]),
            ("{ title: $.title }", vec![&id, &titled], vec![]),
            ("{ title: $.title }", vec![&id], vec!["warning unread-path emit.title at $.title"]),
            ("{ a: { b: [$.id, $.titel] } }", vec![&titled], vec!["warning unread-path emit.a.b[1] at $.titel"]),
            (
                "{ title: '{{ payload.titel }} on {{ payload.disk }}' }",
                vec![&titled],
                vec!["warning unread-path emit.title at '{{ payload.titel }} on {{ payload.disk }}'"],
            ),
            (
                "{ title: { $first: [$.titel, $.name, none] } }",
                vec![&titled],
                vec!["note unread-path emit.title at $.name", "warning unread-path emit.title at $.titel"],
            ),
            ("{ level: { $path: $.level, $default: low } }", vec![&id], vec!["note unread-path emit.level at $.level"]),
            // What the file can do without in one place it can do without.
            (
                "{ level: $.level, or: { $path: $.level, $default: low } }",
                vec![&id],
                vec!["note unread-path emit.level at $.level"],
            ),
            (
                "{ title: { $first: [$.long, $.title] } }",
                vec![&id, &titled],
                vec!["note unread-path emit.title at $.long"],
            ),
            ("{ disk: $.disk }", vec![&id], vec!["note unread-path emit.disk at $.disk"]),
            ("{ other: \"$['other']\" }", vec![&id], vec!["note unread-path emit.other at \"$['other']\""]),
            // A name that is nearly there is a mistake in any case.
            ("{ disk: $.disk }", vec![&disc], vec!["warning unread-path emit.disk at $.disk"]),
            // What only an action reads that no test has is left to the coverage of the rules.
            ("{ t: { $by_action: { trigger: $.id, resolve: $.end } } }", vec![&id], vec![]),
            ("{ id: { $path: $.title, $capture: '(x)' } }", vec![&titled], vec![]),
        ] {
            let mut found = told_beside(emit, &payloads);
            found.sort();
            assert_eq!(found, told, "{emit} with {payloads:?}");
        }
    }

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
            look(&rules, &[], complete, Some(&filters), &mut findings);
            findings.iter().any(|finding| finding.message.contains("no rule that triggers sends `region`"))
        };
        assert!(told(true), "no other rules are there");
        assert!(!told(false), "others may send it");
    }
}
