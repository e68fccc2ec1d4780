//! Warns of rules whose events Callgoose's filters can't use, by what is written out in both files.
//!
//! A warning holds for every payload. Values that a payload decides are told by playing the tests beside the rules
//! through the filters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::rule_tests::{self, TestFile};
use crate::callgoose::filters::{Filters, KEY_BYTES_MAX, KeyFilter, text_of};
use crate::config::{FileStamps, read_source};
use crate::event::Action;
use crate::inbound::{Handshake, SourceConfig};
use crate::rules::{Coverage, Known, Outline, RuleSet};
use crate::yaml::{Findings, Node, Place, Source, Value as Yaml, nearest, parse};

/// A rule file, compiled and as a tree with places.
struct Rules {
    path: PathBuf,
    set: Arc<RuleSet>,
    tree: Node,
    outlines: Vec<Outline>,
}

/// One API Filter.
struct Filter<'f> {
    service: usize,
    /// Its number among the trigger filters of its service; none for the resolve filter.
    trigger: Option<usize>,
    /// For a person.
    name: String,
    keys: &'f [KeyFilter],
    /// The key that ties a trigger to its resolve; none where there is no such tie.
    mapped_with: Option<&'f str>,
}

/// Looks at every rule file that compiled, and at the filters if there are any. `complete`: these are all rules there are.
pub fn look(
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
        for outline in &rules.outlines {
            rules.unmatched(outline, &filters, &source.name, findings);
            rules.unmapped(outline, &filters, &source.name, findings);
        }
    }
    // A rule that can't be read yet may send what the others do not.
    if complete {
        for action in [Action::Trigger, Action::Resolve] {
            let outlines: Vec<&Outline> =
                rules.iter().flat_map(|rules| &rules.outlines).filter(|outline| outline.action == action).collect();
            if !outlines.is_empty() {
                unsent(&outlines, action, &filters, &tree, findings);
            }
        }
    }
}

impl Rules {
    /// Reads the file once more, for the places in it.
    fn read(path: &Path, set: &Arc<RuleSet>) -> Option<Rules> {
        let tree = parse(&read_source(path).ok()?, &mut Findings::new())?;
        Some(Rules { path: path.to_owned(), set: Arc::clone(set), tree, outlines: set.outlines() })
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

    /// Warns of payloads that are sent as they came beside filters that read what nothing here says of them.
    fn unsaid(&self, filters: &Filters, name: &str, findings: &mut Findings) {
        let plain = |action: &Action| {
            self.outlines.iter().find(|outline| outline.action == *action && self.set.sends_payload(outline.rule))
        };
        let told = Action::ALL.iter().filter_map(plain).find_map(|outline| {
            let unsaid = |filter: &Filter<'_>| {
                let reads = filter.keys.iter().filter(|key| !key.contains.is_empty());
                let is_said = |key: &str| self.set.reads_member(key) || outline.keys.contains_key(key);
                let mut unsaid = reads.filter(|key| !is_said(&key.key));
                unsaid.next().map(|key| key.key.clone())
            };
            let filters = filters_of(filters, outline.action);
            let keys: Option<Vec<String>> = filters.iter().map(unsaid).collect();
            Some((outline, keys?.into_iter().next()?))
        });
        let Some((outline, key)) = told else {
            return;
        };
        let action = outline.action;
        let own = item(self.tree.get("rules"), outline.rule).filter(|rule| rule.get("emit").is_some());
        let (node, at, how) = match own.or(self.tree.get("emit").map(|_| &self.tree)) {
            Some(node) => (node, "emit", "`$merge: $` sends the payload as it came"),
            None => (&self.tree, "rules", "without `emit` the payload is sent as it came"),
        };
        let effect = match action {
            Action::Trigger => "nobody would be alerted",
            Action::Resolve => "no incident would be closed",
        };
        let message = format!(
            "{how}, and nothing here says that it has `{key}`, which the {action} filters in {name} read: {effect}"
        );
        findings.warning(node.key_place(at), "emit", message).code("no-emit").help(format!(
            "write an `emit` with `{key}`, such as `{key}: {{ $by_action: {{ trigger: CRITICAL, resolve: OK }} }}`; if \
             the payload does have it, `- {{ path: $.{key}, required: true }}` under `validate` says so"
        ));
    }

    /// Warns of a rule whose events no filter can match.
    fn unmatched(&self, outline: &Outline, filters: &Filters, name: &str, findings: &mut Findings) {
        let Some(reasons) = unmatched(filters, outline) else {
            return;
        };
        let (kind, effect) = match outline.action {
            Action::Trigger => ("trigger", "nobody would be alerted"),
            Action::Resolve => ("resolve", "no incident would be closed"),
        };
        let message = format!("no {kind} filter in {name} can match what this rule sends: {effect}");
        let (place, path) = self.place(outline);
        let finding = findings.warning(place, path, message).code("unmatched-rule");
        if !reasons.is_empty() {
            finding.help(reasons.into_iter().take(REASONS_MAX).collect::<Vec<_>>().join("; "));
        }
    }

    /// Warns of a rule whose events do not send what incidents are mapped with.
    fn unmapped(&self, outline: &Outline, filters: &Filters, name: &str, findings: &mut Findings) {
        let asked = asked(filters, outline);
        let mut unmapped = asked.iter().filter_map(|filter| Some((filter, unmapping(filter.mapped_with?, outline)?)));
        let Some((filter, (key, problem))) = unmapped.next() else {
            return;
        };
        let effect = match outline.action {
            Action::Trigger => "no resolve will find the incident that this rule opens",
            Action::Resolve => "this rule will find no incident to close",
        };
        let message = format!("{effect}: {problem} ({name}, {})", filter.name);
        let near = nearest(key, outline.keys.keys().map(String::as_str)).filter(|near| *near != key);
        let near = near.map_or_else(String::new, |near| format!("it sends `{near}`; "));
        let (place, path) = self.place(outline);
        let finding = match filter.keys.iter().all(|key| texts(outline, &key.key).is_some()) {
            true => findings.warning(place, path, message),
            false => findings.note(place, path, format!("where that filter matches, {message}")),
        };
        finding
            .code("unmapped-incident")
            .help(format!("{near}emit as `{key}` a text that a trigger and its resolve share"));
    }

    /// The place of a rule's name, and the rule's path.
    fn place(&self, outline: &Outline) -> (Place, String) {
        let rule = item(self.tree.get("rules"), outline.rule).unwrap_or(&self.tree);
        let place = rule.get("name").map_or(&rule.place, |name| &name.place).clone();
        (place, format!("rules[{}]", outline.rule))
    }
}

/// The filters that read the events of an action, in the order of their file.
fn filters_of(filters: &Filters, action: Action) -> Vec<Filter<'_>> {
    let mut found = Vec::new();
    for (index, service) in filters.services.iter().enumerate() {
        let filter = |trigger: Option<usize>, keys, mapped_with| {
            let name = match trigger {
                Some(number) => format!("service {}, trigger filter {}", service.name, number + 1),
                None => format!("service {}, resolve filter", service.name),
            };
            Filter { service: index, trigger, name, keys, mapped_with }
        };
        match action {
            Action::Trigger => found.extend(service.triggers.iter().enumerate().map(|(number, trigger)| {
                let mapped_with = trigger.map_incident_with.as_deref().filter(|_| service.resolve.is_some());
                filter(Some(number), trigger.keys.as_slice(), mapped_with)
            })),
            Action::Resolve => found.extend(
                service.resolve.iter().map(|resolve| filter(None, &resolve.keys, Some(&resolve.incident_mapped_with))),
            ),
        }
    }
    found
}

/// The reasons why no filter can match the events of a rule, one for each filter; none if one might.
fn unmatched(filters: &Filters, outline: &Outline) -> Option<Vec<String>> {
    let reason = |filter: &Filter<'_>| {
        let lacking = filter.keys.iter().find_map(|key| lacking(key, outline))?;
        Some(format!("{}: {lacking}", filter.name))
    };
    filters_of(filters, outline.action).iter().map(reason).collect()
}

/// The filters that may match the events of a rule. A service asks its trigger filters in their order, up to one that matches.
fn asked<'f>(filters: &'f Filters, outline: &Outline) -> Vec<Filter<'f>> {
    let mut asked: Vec<Filter<'f>> = Vec::new();
    for filter in filters_of(filters, outline.action) {
        let never = filter.keys.iter().any(|key| lacking(key, outline).is_some());
        let mut earlier = asked.iter().filter(|earlier| earlier.service == filter.service);
        if !never && !earlier.any(|earlier| forestalls(earlier, &filter, outline)) {
            asked.push(filter);
        }
    }
    asked
}

/// Tells whether a filter matches whatever a later one does, by the values that a rule has written out.
fn forestalls(earlier: &Filter<'_>, later: &Filter<'_>, outline: &Outline) -> bool {
    let passes = |key: &KeyFilter, value: &Value| {
        key.contains.is_empty() || text_of(value).is_some_and(|text| key.accepts(&text))
    };
    earlier.keys.iter().all(|key| match outline.keys.get(&key.key) {
        Some(Known::OneOf(values)) => {
            let reaches = |value: &&Value| later.keys.iter().all(|own| own.key != key.key || passes(own, value));
            values.iter().filter(reaches).all(|value| passes(key, value))
        }
        _ => key.contains.is_empty(),
    })
}

/// The texts that a rule sends in a key; none where a payload decides.
fn texts(outline: &Outline, key: &str) -> Option<Vec<String>> {
    match outline.keys.get(key) {
        Some(Known::OneOf(values)) => Some(values.iter().filter_map(text_of).collect()),
        Some(Known::Anything) => None,
        None => (!outline.open).then(Vec::new),
    }
}

/// Tells why no event of a rule has what a filter asks of a key; none if one may.
fn lacking(filter: &KeyFilter, outline: &Outline) -> Option<String> {
    let texts = texts(outline, &filter.key)?;
    if filter.contains.is_empty() || texts.iter().any(|text| filter.accepts(text)) {
        return None;
    }
    let (key, asked) = (&filter.key, filter.contains.join("` and `"));
    Some(match texts.as_slice() {
        [] => format!("it sends no text as `{key}`"),
        [one] => format!("its `{key}` is {one:?}, which does not contain `{asked}`"),
        several => format!("its `{key}` is one of {}, and none contains `{asked}`", several.join(", ")),
    })
}

/// Tells why no event of a rule has a value that incidents could be mapped with, after the key; none if one may.
fn unmapping<'f>(key: &'f str, outline: &Outline) -> Option<(&'f str, String)> {
    let texts = texts(outline, key)?;
    let maps = |text: &String| !text.trim().is_empty() && text.len() <= KEY_BYTES_MAX;
    (!texts.iter().any(maps)).then(|| match outline.keys.contains_key(key) {
        true => (key, format!("its `{key}` maps nothing")),
        false => (key, format!("it does not send `{key}`")),
    })
}

/// Keys that filters read and that no rule of their kind sends. Others than this relay's sources may send them, so it is
/// a note, unless a key that is sent is spelled nearly so.
fn unsent(outlines: &[&Outline], action: Action, filters: &Filters, tree: &Node, findings: &mut Findings) {
    let sends = |key: &str| outlines.iter().any(|one| one.open || one.keys.contains_key(key));
    let mut tell = |key: &str, node: &Node, path: String, message: String| {
        let sent = outlines.iter().flat_map(|outline| outline.keys.keys().map(String::as_str));
        match nearest(key, sent) {
            Some(near) => findings
                .warning(node.place.clone(), path, message)
                .code("unsent-key")
                .help(format!("did you mean `{near}`?")),
            None => findings.note(node.place.clone(), path, message).code("unsent-key"),
        };
    };
    for filter in filters_of(filters, action) {
        let service = item(tree.get("services"), filter.service).unwrap_or(tree);
        let (node, path, kind) = match filter.trigger {
            Some(trigger) => (item(service.get("trigger"), trigger), format!("trigger[{trigger}]"), "triggers"),
            None => (service.get("resolve"), "resolve".to_owned(), "resolves"),
        };
        let (node, path) = (node.unwrap_or(service), format!("services[{}].{path}", filter.service));
        for (index, key) in filter.keys.iter().enumerate().filter(|(_, key)| !sends(&key.key)) {
            let message = format!("no rule that {kind} sends `{}`, so this matches nothing that they send", key.key);
            let place = item(node.get("keys"), index).and_then(|key| key.get("key")).unwrap_or(node);
            tell(&key.key, place, format!("{path}.keys[{index}].key"), message);
        }
        // A filter that matches none of these rules shows nothing of them.
        if outlines.iter().all(|outline| filter.keys.iter().any(|key| lacking(key, outline).is_some())) {
            continue;
        }
        for (field, effect) in [
            ("title_from", "every incident has the title that Callgoose gives it"),
            ("description_from", "every incident shows the whole payload"),
        ] {
            let shown = node.get(field).and_then(|node| Some((node, node.as_str()?)));
            if let Some((node, key)) = shown.filter(|(_, key)| !sends(key)) {
                tell(key, node, format!("{path}.{field}"), format!("no rule that triggers sends `{key}`: {effect}"));
            }
        }
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

/// More than a person needs to see why.
const REASONS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn filters(text: &str) -> Filters {
        let mut findings = Findings::new();
        let filters = Filters::read(&Arc::new(Source::new("filters.yaml".into(), text.into())), &mut findings);
        filters.unwrap_or_else(|| panic!("{}", findings.render(false)))
    }

    /// A rule that sends these keys, each one of some values or, with null, anything.
    fn outline(action: Action, sent: &Value, open: bool) -> Outline {
        let known = |value: &Value| value.as_array().map_or(Known::Anything, |values| Known::OneOf(values.clone()));
        let keys = sent.as_object().unwrap().iter().map(|(key, value)| (key.clone(), known(value))).collect();
        Outline { rule: 0, name: "rule".to_owned(), action, keys, open }
    }

    #[test]
    fn a_filter_that_can_not_match_is_told_with_its_reason() {
        let one = |key: &str, items: &str| {
            filters(&format!(
                "services: [{{ name: pay, trigger: [{{ urgency: high, keys: [{{ key: {key}, contains: {items} }}] }}] }}]\n"
            ))
        };
        for (items, sent, reason) in [
            ("[CRIT]", json!({ "state": ["CRITICAL"] }), None),
            ("[CRIT]", json!({ "state": null }), None),
            ("[CRIT]", json!({ "state": ["OK", "CRITICAL"] }), None),
            ("[CRIT]", json!({ "other": null }), Some("it sends no text as `state`")),
            ("[CRIT]", json!({ "state": [true, null] }), Some("it sends no text as `state`")),
            ("['5']", json!({ "state": [1.5] }), None),
            ("[CRIT]", json!({ "state": ["crit"] }), Some("its `state` is \"crit\", which does not contain `CRIT`")),
            (
                "[a, b]",
                json!({ "state": ["a", "b"] }),
                Some("its `state` is one of a, b, and none contains `a` and `b`"),
            ),
        ] {
            let expected = reason.map(|reason| vec![format!("service pay, trigger filter 1: {reason}")]);
            let told = unmatched(&one("state", items), &outline(Action::Trigger, &sent, false));
            assert_eq!(told, expected, "{items} and {sent}");
        }
        let open = unmatched(&one("state", "[CRIT]"), &outline(Action::Trigger, &json!({}), true));
        assert_eq!(open, None, "it may be the payload's");
    }

    #[test]
    fn what_maps_no_incident_is_told() {
        for (sent, open, told) in [
            (json!({"id": null}), false, None),
            (json!({"id": ["", "b"]}), false, None),
            (json!({}), true, None),
            (json!({}), false, Some("it does not send `id`")),
            (json!({"id": [""]}), false, Some("its `id` maps nothing")),
            (json!({"id": [null, {}, true]}), false, Some("its `id` maps nothing")),
        ] {
            let found = unmapping("id", &outline(Action::Trigger, &sent, open)).map(|(_, problem)| problem);
            assert_eq!(found.as_deref(), told, "{sent}");
        }
    }

    #[test]
    fn a_filter_that_is_not_asked_raises_no_doubt() {
        let filters = filters(
            "services:
  - name: pay
    trigger:
      - { urgency: high, keys: [{ key: state, contains: [CRIT] }], map_incident_with: id }
      - { urgency: low, keys: [{ key: state, contains: [C] }], map_incident_with: other }
    resolve: { keys: [{ key: state, contains: [OK] }], incident_mapped_with: id }
  - name: all
    trigger: [{ urgency: low, keys: [{ key: state, contains: [C] }] }]
",
        );
        let (first, second, other) =
            ("service pay, trigger filter 1", "service pay, trigger filter 2", "service all, trigger filter 1");
        for (states, expected) in [
            (json!(["CRITICAL"]), vec![first, other]),
            (json!(["CRITICAL", "DOWN"]), vec![first, other]),
            (json!(["CRITICAL", "C"]), vec![first, second, other]),
            (json!(null), vec![first, second, other]),
            (json!(["DOWN"]), vec![]),
        ] {
            let outline = outline(Action::Trigger, &json!({ "state": states, "id": null }), false);
            let asked: Vec<String> = asked(&filters, &outline).into_iter().map(|filter| filter.name).collect();
            assert_eq!(asked, expected, "{states}");
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

    fn values() -> impl Strategy<Value = Value> {
        let values = [json!("A"), json!("a"), json!("AB"), json!("1"), json!(1), json!(1.5), json!(true), json!(null)];
        prop::sample::select([values.as_slice(), &[json!(["A"]), json!({ "A": 1 }), json!("")]].concat())
    }

    /// A key's known values or null, and a value that it may have then.
    fn known() -> impl Strategy<Value = (Value, Value)> {
        let among = prop::collection::vec(values(), 1..4)
            .prop_flat_map(|values| (Just(json!(values)), prop::sample::select(values)));
        prop_oneof![3 => among, 1 => values().prop_map(|value| (json!(null), value))]
    }

    /// The keys of a filter, one or two.
    fn keys(most: usize) -> impl Strategy<Value = Value> {
        let item = prop::sample::subsequence(vec!["A", "a", "B", "1", "1.5", "true", "null"], 1..3);
        let all = (item.clone(), item, prop::sample::select(vec![1, 2]), any::<bool>());
        all.prop_map(move |(first, second, count, swapped)| {
            let names = if swapped { ["l", "k"] } else { ["k", "l"] };
            let both = [json!({ "key": names[0], "contains": first }), json!({ "key": names[1], "contains": second })];
            json!(both[..count.min(most)])
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn a_rule_that_is_told_as_unmatched_matches_by_no_payload(
            triggers in prop::collection::vec(keys(2), 1..4),
            resolve in keys(1),
            (k, l) in (prop::option::of(known()), prop::option::of(known())),
            (open, others) in (any::<bool>(), (values(), values())),
        ) {
            let triggers: Vec<Value> = triggers.iter().map(|keys| json!({ "urgency": "high", "keys": keys })).collect();
            let resolve = json!({ "keys": resolve, "incident_mapped_with": "id" });
            let filters = filters(&json!({ "services": [{ "name": "pay", "trigger": triggers, "resolve": resolve }] }).to_string());
            let (mut sent, mut body) = (json!({}), json!({}));
            for (name, own, other) in [("k", k, others.0), ("l", l, others.1)] {
                match own {
                    Some((known, value)) => {
                        sent[name] = known;
                        body[name] = value;
                    }
                    None if open => body[name] = other,
                    None => {}
                }
            }
            let matched = filters.evaluate(&body, None);
            for (action, does) in [(Action::Trigger, matched.opens()), (Action::Resolve, matched.closes())] {
                let never = unmatched(&filters, &outline(action, &sent, open));
                prop_assert!(never.is_none() || !does, "{body} matches {filters:?}, and {never:?} was told");
            }
            let asked = asked(&filters, &outline(Action::Trigger, &sent, open));
            for opening in matched.services.iter().filter_map(|service| service.trigger.as_ref()) {
                let is_asked = asked.iter().any(|filter| filter.trigger == Some(opening.filter - 1));
                prop_assert!(is_asked, "{body} opens by filter {} of {filters:?}", opening.filter);
            }
        }
    }
}
