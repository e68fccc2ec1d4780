//! Reads a file of API Filters, within Callgoose's documented limits.

use std::sync::Arc;

use super::{
    Filters, ITEM_CHARS_MAX, ITEMS_MAX, KeyFilter, RESOLVE_KEYS_MAX, Resolve, Service, TRIGGER_FILTERS_MAX,
    TRIGGER_KEYS_MAX, Trigger,
};
use crate::yaml::fields::{each, string};
use crate::yaml::{Fields, Findings, Node, Source, Value, parse};

impl Filters {
    /// Reads a filters file. Every mistake is a finding; returns none if any is an error.
    pub fn read(source: &Arc<Source>, findings: &mut Findings) -> Option<Filters> {
        let mut found = Findings::new();
        // The file may hold the token.
        let filters = read(&Arc::new(source.as_private()), &mut found);
        let usable = !found.has_errors();
        findings.extend(found);
        filters.filter(|_| usable)
    }
}

fn read(source: &Arc<Source>, findings: &mut Findings) -> Option<Filters> {
    let document = parse(source, findings)?;
    let mut fields = Fields::of(&document, "", findings)?;
    let token = fields.take_some("token").cloned();
    let services = match fields.require("services", findings) {
        Some(node) => services(node, findings),
        None => Vec::new(),
    };
    fields.finish(findings);
    Some(Filters { token, services })
}

fn services(node: &Node, findings: &mut Findings) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for (index, node) in list(node, "services", 1, usize::MAX, "services", findings).iter().enumerate() {
        let path = format!("services[{index}]");
        let Some(service) = service(node, &path, findings) else { continue };
        if services.iter().any(|other| other.name == service.name) {
            let place = node.get("name").map_or(&node.place, |name| &name.place);
            findings.error(
                place.clone(),
                format!("{path}.name"),
                format!("a service `{}` stands above already", service.name),
            );
        }
        services.push(service);
    }
    services
}

fn service(node: &Node, path: &str, findings: &mut Findings) -> Option<Service> {
    let mut fields = Fields::of(node, path, findings)?;
    let name = required_text(&mut fields, "name", findings);
    let triggers = match fields.require("trigger", findings) {
        Some(node) => triggers(node, &fields.path_of("trigger"), findings),
        None => Vec::new(),
    };
    let resolve = match fields.take_some("resolve") {
        Some(node) => resolve(node, &fields.path_of("resolve"), findings),
        None => None,
    };
    if let (Some(_), Some(node)) = (&resolve, node.get("trigger"))
        && !triggers.is_empty()
        && triggers.iter().all(|trigger| trigger.map_incident_with.is_none())
    {
        findings
            .warning(
                node.place.clone(),
                fields.path_of("trigger"),
                "no trigger filter says `map_incident_with`, so the resolve filter can never find an incident",
            )
            .help("name the key that a trigger and its resolve share, such as servicepilot_event_id");
    }
    fields.finish(findings);
    Some(Service { name: name.unwrap_or_default().into(), triggers, resolve })
}

fn triggers(node: &Node, path: &str, findings: &mut Findings) -> Vec<Trigger> {
    let triggers = list(node, path, 1, TRIGGER_FILTERS_MAX, "trigger filters in a service", findings);
    each(triggers, path, |node, path| trigger(node, path, findings))
}

fn trigger(node: &Node, path: &str, findings: &mut Findings) -> Option<Trigger> {
    let mut fields = Fields::of(node, path, findings)?;
    let urgency = required_text(&mut fields, "urgency", findings);
    let keys = keys(&mut fields, TRIGGER_KEYS_MAX, findings);
    let title_from = key_name(&mut fields, "title_from", findings);
    let description_from = key_name(&mut fields, "description_from", findings);
    let map_incident_with = key_name(&mut fields, "map_incident_with", findings);
    fields.finish(findings);
    Some(Trigger { urgency: urgency.unwrap_or_default().into(), keys, title_from, description_from, map_incident_with })
}

fn resolve(node: &Node, path: &str, findings: &mut Findings) -> Option<Resolve> {
    let mut fields = Fields::of(node, path, findings)?;
    let keys = keys(&mut fields, RESOLVE_KEYS_MAX, findings);
    let incident_mapped_with = match fields.require("incident_mapped_with", findings) {
        Some(node) => top_level_key(node, &fields.path_of("incident_mapped_with"), findings),
        None => None,
    };
    fields.finish(findings);
    Some(Resolve { keys, incident_mapped_with: incident_mapped_with.unwrap_or_default() })
}

fn keys(fields: &mut Fields<'_>, max: usize, findings: &mut Findings) -> Vec<KeyFilter> {
    let path = fields.path_of("keys");
    let Some(node) = fields.require("keys", findings) else {
        return Vec::new();
    };
    let what = if max == TRIGGER_KEYS_MAX { "keys in a trigger filter" } else { "key in the resolve filter" };
    let keys = list(node, &path, 1, max, what, findings);
    each(keys, &path, |node, path| key_filter(node, path, findings))
}

fn key_filter(node: &Node, path: &str, findings: &mut Findings) -> Option<KeyFilter> {
    let mut fields = Fields::of(node, path, findings)?;
    let key = match fields.require("key", findings) {
        Some(node) => top_level_key(node, &fields.path_of("key"), findings),
        None => None,
    };
    let path = fields.path_of("contains");
    let contains = match fields.require("contains", findings) {
        Some(node) => {
            let items = list(node, &path, 1, ITEMS_MAX, "items in a key", findings);
            each(items, &path, |node, path| item(node, path, findings))
        }
        None => Vec::new(),
    };
    fields.finish(findings);
    Some(KeyFilter { key: key?, contains })
}

fn item(node: &Node, path: &str, findings: &mut Findings) -> Option<String> {
    let text = text(node, path, findings)?;
    let length = text.chars().count();
    if length > ITEM_CHARS_MAX {
        findings.error(
            node.place.clone(),
            path,
            format!("Callgoose takes at most {ITEM_CHARS_MAX} characters in an item, found {length}"),
        );
    }
    Some(text)
}

/// The name of a payload key; empty means none, as an empty field does in Callgoose.
fn key_name(fields: &mut Fields<'_>, name: &'static str, findings: &mut Findings) -> Option<String> {
    let node = fields.take_some(name)?;
    if node.as_str().is_some_and(str::is_empty) {
        return None;
    }
    top_level_key(node, &fields.path_of(name), findings)
}

/// Warns of a key that looks like a path: Callgoose documents no nested keys.
fn top_level_key(node: &Node, path: &str, findings: &mut Findings) -> Option<String> {
    let key = text(node, path, findings)?;
    if key.contains(['.', '[', '/']) || key.starts_with('$') {
        findings
            .warning(
                node.place.clone(),
                path,
                format!("`{key}` looks like a path; it is read as the name of one key at the top of the payload"),
            )
            .help("Callgoose documents no nested keys: let the rules emit the value under a key of its own");
    }
    Some(key)
}

fn required_text(fields: &mut Fields<'_>, name: &'static str, findings: &mut Findings) -> Option<String> {
    let node = fields.require(name, findings)?;
    text(node, &fields.path_of(name), findings)
}

fn text(node: &Node, path: &str, findings: &mut Findings) -> Option<String> {
    let text = string(node, path, findings)?;
    if text.trim().is_empty() {
        findings.error(node.place.clone(), path, "expected a text, found a blank one");
        return None;
    }
    Some(text)
}

fn list<'a>(node: &'a Node, path: &str, min: usize, max: usize, what: &str, findings: &mut Findings) -> &'a [Node] {
    let Value::List(items) = &node.value else {
        findings.error(node.place.clone(), path, format!("expected a list, found {}", node.kind()));
        return &[];
    };
    if items.len() < min {
        findings.error(node.place.clone(), path, "expected at least one, found an empty list");
    }
    if items.len() > max {
        let place = items.get(max).map_or(&node.place, |extra| &extra.place);
        findings.error(place.clone(), path, format!("Callgoose takes at most {max} {what}, found {}", items.len()));
    }
    items
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Each finding as `line:column path: message`.
    fn findings(text: &str) -> Vec<String> {
        let mut findings = Findings::new();
        let source = Arc::new(Source::new("filters.yaml".into(), text.into()));
        let filters = Filters::read(&source, &mut findings);
        assert_eq!(filters.is_none(), findings.has_errors());
        let shown = findings.iter().map(|finding| {
            let (line, column) = finding.place.line_column().unwrap();
            format!("{line}:{column} {}: {}", finding.path, finding.message)
        });
        shown.collect()
    }

    /// A file with one service whose trigger filter and the rest are as given.
    fn with(trigger: &str, rest: &str) -> String {
        format!("services:\n- name: a\n  trigger:\n  - {trigger}\n{rest}")
    }

    const TRIGGER: &str = "{ urgency: high, keys: [{ key: state, contains: [A] }], map_incident_with: id }";

    #[test]
    fn the_documented_shape_is_read_without_a_finding() {
        let rest =
            "  resolve: { keys: [{ key: state, contains: [OK] }], incident_mapped_with: id }\ntoken: { env: T }\n";
        assert_eq!(findings(&with(TRIGGER, rest)), [""; 0]);
    }

    #[test]
    fn the_shipped_file_is_read_without_a_finding() {
        assert_eq!(findings(include_str!("../../../config/callgoose-filters.yaml")), [""; 0]);
    }

    #[test]
    fn the_token_is_handed_out_as_it_stands() {
        let text = with(TRIGGER, "token: { env: CALLGOOSE_TOKEN }\n");
        let source = Arc::new(Source::new("filters.yaml".into(), text));
        let filters = Filters::read(&source, &mut Findings::new()).unwrap();
        assert_eq!(filters.token.unwrap().get("env").and_then(Node::as_str), Some("CALLGOOSE_TOKEN"));
    }

    #[rstest]
    #[case::nothing_at_all("{}", "1:1 services: `services` is required here and missing")]
    #[case::no_service("services: []", "1:11 services: expected at least one, found an empty list")]
    #[case::a_service_without_triggers(
        "services: [{ name: a }]",
        "1:12 services[0].trigger: `trigger` is required here and missing"
    )]
    #[case::unknown_key(
        "service: a\nservices: [{ name: a, trigger: [{ urgency: low, keys: [{ key: a, contains: [b] }] }] }]",
        "1:1 service: unknown key `service`"
    )]
    fn shape(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(findings(text), [expected]);
    }

    #[rstest]
    #[case::no_urgency(
        "{ keys: [{ key: state, contains: [A] }] }",
        "4:5 services[0].trigger[0].urgency: `urgency` is required here and missing"
    )]
    #[case::no_keys(
        "{ urgency: high, keys: [] }",
        "4:28 services[0].trigger[0].keys: expected at least one, found an empty list"
    )]
    #[case::three_keys(
        "{ urgency: high, keys: [{ key: a, contains: [A] }, { key: b, contains: [A] }, { key: c, contains: [A] }] }",
        "4:83 services[0].trigger[0].keys: Callgoose takes at most 2 keys in a trigger filter, found 3"
    )]
    #[case::eleven_items(
        "{ urgency: high, keys: [{ key: a, contains: [A, A, A, A, A, A, A, A, A, A, B] }] }",
        "4:80 services[0].trigger[0].keys[0].contains: Callgoose takes at most 10 items in a key, found 11"
    )]
    #[case::an_item_is_measured_in_characters(
        "{ urgency: high, keys: [{ key: a, contains: [ééééééééééééééééééééééééééééééééééééééééééééééééééé] }] }",
        "4:50 services[0].trigger[0].keys[0].contains[0]: Callgoose takes at most 50 characters in an item, found 51"
    )]
    #[case::an_empty_item_would_match_everything(
        "{ urgency: high, keys: [{ key: a, contains: [''] }] }",
        "4:50 services[0].trigger[0].keys[0].contains[0]: expected a text, found a blank one"
    )]
    #[case::a_lone_text_is_no_list(
        "{ urgency: high, keys: [{ key: a, contains: A }] }",
        "4:49 services[0].trigger[0].keys[0].contains: expected a list, found a string"
    )]
    #[case::a_number_is_no_text(
        "{ urgency: high, keys: [{ key: a, contains: [500] }] }",
        "4:50 services[0].trigger[0].keys[0].contains[0]: expected a string, found 500"
    )]
    #[case::a_nested_key_is_doubtful(
        "{ urgency: high, keys: [{ key: tags.policy, contains: [A] }] }",
        "4:36 services[0].trigger[0].keys[0].key: `tags.policy` looks like a path; it is read as the name of one key at the top of the payload"
    )]
    fn a_trigger_filter(#[case] trigger: &str, #[case] expected: &str) {
        assert_eq!(findings(&with(trigger, "")), [expected]);
    }

    #[rstest]
    #[case::two_keys(
        "  resolve: { keys: [{ key: a, contains: [A] }, { key: b, contains: [A] }], incident_mapped_with: id }\n",
        "5:48 services[0].resolve.keys: Callgoose takes at most 1 key in the resolve filter, found 2"
    )]
    #[case::nothing_to_find_the_incident_by(
        "  resolve: { keys: [{ key: a, contains: [A] }] }\n",
        "5:12 services[0].resolve.incident_mapped_with: `incident_mapped_with` is required here and missing"
    )]
    #[case::a_second_service_of_the_same_name(
        "- { name: a, trigger: [{ urgency: low, keys: [{ key: a, contains: [b] }] }] }\n",
        "5:11 services[1].name: a service `a` stands above already"
    )]
    fn what_stands_beside_a_trigger_filter(#[case] rest: &str, #[case] expected: &str) {
        assert_eq!(findings(&with(TRIGGER, rest)), [expected]);
    }

    #[test]
    fn eleven_trigger_filters_are_too_many() {
        let text = format!("services:\n- name: a\n  trigger:\n{}", format!("  - {TRIGGER}\n").repeat(11));
        assert_eq!(
            findings(&text),
            ["14:5 services[0].trigger: Callgoose takes at most 10 trigger filters in a service, found 11"]
        );
    }

    #[test]
    fn a_resolve_filter_needs_mapped_triggers() {
        let text = with(
            "{ urgency: high, keys: [{ key: state, contains: [A] }] }",
            "  resolve: { keys: [{ key: state, contains: [OK] }], incident_mapped_with: id }\n",
        );
        let found = findings(&text);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("no trigger filter says `map_incident_with`"), "{found:?}");
    }

    #[test]
    fn all_mistakes_are_shown_at_once() {
        let text = "services:\n- nam: a\n  trigger: [{ urgency: 1, keys: 2, title_form: t }]\n";
        assert_eq!(findings(text).len(), 5, "{:?}", findings(text));
    }

    #[test]
    fn the_token_is_shown_by_no_finding() {
        for token in [
            "token: CANARY\nsrvices: []",
            "token: \"CANARY",
            "tokn: CANARY",
            "token: {{ CANARY }}",
            "token: { ? { bearer: CANARY } : CANARY }",
            "{ token: CANARY, services: 5 }",
            "token: CANARY\n  services: [",
        ] {
            let source = Arc::new(Source::new("filters.yaml".into(), token.into()));
            let mut findings = Findings::new();
            assert!(Filters::read(&source, &mut findings).is_none(), "{token}");
            let shown = format!("{}{}", findings.render(false), findings.to_json());
            assert!(!shown.contains("CANARY"), "{token}: {shown}");
        }
    }
}
