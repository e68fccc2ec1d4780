//! Rules against the filters of Callgoose: what no filter matches, what no filter asks for, what ties no incident.

use super::{Rules, item};
use crate::callgoose::filters::{Filters, KEY_BYTES_MAX, KeyFilter, text_of};
use crate::event::Action;
use crate::rules::{BodyShape, Known};
use crate::yaml::{Findings, Node, Place, nearest};

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

impl Rules {
    /// Warns of payloads that are sent as they came beside filters that read what nothing here says of them.
    pub(super) fn unsaid(&self, filters: &Filters, name: &str, findings: &mut Findings) {
        let plain = |action: &Action| {
            self.shapes.iter().find(|shape| shape.action == *action && self.set.sends_payload(shape.rule))
        };
        let told = Action::ALL.iter().filter_map(plain).find_map(|shape| {
            let unsaid = |filter: &Filter<'_>| {
                let reads = filter.keys.iter().filter(|key| !key.contains.is_empty());
                let is_said = |key: &str| self.set.reads_member(key) || shape.keys.contains_key(key);
                let mut unsaid = reads.filter(|key| !is_said(&key.key));
                unsaid.next().map(|key| key.key.clone())
            };
            let filters = filters_of(filters, shape.action);
            let keys: Option<Vec<String>> = filters.iter().map(unsaid).collect();
            Some((shape, keys?.into_iter().next()?))
        });
        let Some((shape, key)) = told else {
            return;
        };
        let action = shape.action;
        let own = item(self.tree.get("rules"), shape.rule).filter(|rule| rule.get("emit").is_some());
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
    pub(super) fn unmatched(&self, shape: &BodyShape, filters: &Filters, name: &str, findings: &mut Findings) {
        let Some(reasons) = unmatched(filters, shape) else {
            return;
        };
        let (kind, effect) = match shape.action {
            Action::Trigger => ("trigger", "nobody would be alerted"),
            Action::Resolve => ("resolve", "no incident would be closed"),
        };
        let message = format!("no {kind} filter in {name} can match what this rule sends: {effect}");
        let (place, path) = self.place(shape);
        let finding = findings.warning(place, path, message).code("unmatched-rule");
        if !reasons.is_empty() {
            finding.help(reasons.into_iter().take(REASONS_MAX).collect::<Vec<_>>().join("; "));
        }
    }

    /// Warns of a rule whose events do not send what incidents are mapped with.
    pub(super) fn unmapped(&self, shape: &BodyShape, filters: &Filters, name: &str, findings: &mut Findings) {
        let asked = asked(filters, shape);
        let mut unmapped = asked.iter().filter_map(|filter| Some((filter, unmapping(filter.mapped_with?, shape)?)));
        let Some((filter, (key, problem))) = unmapped.next() else {
            return;
        };
        let effect = match shape.action {
            Action::Trigger => "no resolve will find the incident that this rule opens",
            Action::Resolve => "this rule will find no incident to close",
        };
        let message = format!("{effect}: {problem} ({name}, {})", filter.name);
        let near = nearest(key, shape.keys.keys().map(String::as_str)).filter(|near| *near != key);
        let near = near.map_or_else(String::new, |near| format!("it sends `{near}`; "));
        let (place, path) = self.place(shape);
        let finding = match filter.keys.iter().all(|key| texts(shape, &key.key).is_some()) {
            true => findings.warning(place, path, message),
            false => findings.note(place, path, format!("where that filter matches, {message}")),
        };
        finding
            .code("unmapped-incident")
            .help(format!("{near}emit as `{key}` a text that a trigger and its resolve share"));
    }

    /// The place of a rule's name, and the rule's path.
    fn place(&self, shape: &BodyShape) -> (Place, String) {
        let rule = item(self.tree.get("rules"), shape.rule).unwrap_or(&self.tree);
        let place = rule.get("name").map_or(&rule.place, |name| &name.place).clone();
        (place, format!("rules[{}]", shape.rule))
    }
}

/// Keys that filters read and that no rule of their kind sends. Others than this relay's sources may send them, so it is
/// a note, unless a key that is sent is spelled nearly so.
pub(super) fn unsent(shapes: &[&BodyShape], action: Action, filters: &Filters, tree: &Node, findings: &mut Findings) {
    let sends = |key: &str| shapes.iter().any(|one| one.open || one.keys.contains_key(key));
    let mut tell = |key: &str, node: &Node, path: String, message: String| {
        let sent = shapes.iter().flat_map(|shape| shape.keys.keys().map(String::as_str));
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
        if shapes.iter().all(|shape| filter.keys.iter().any(|key| lacking(key, shape).is_some())) {
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
fn unmatched(filters: &Filters, shape: &BodyShape) -> Option<Vec<String>> {
    let reason = |filter: &Filter<'_>| {
        let lacking = filter.keys.iter().find_map(|key| lacking(key, shape))?;
        Some(format!("{}: {lacking}", filter.name))
    };
    filters_of(filters, shape.action).iter().map(reason).collect()
}

/// The first filter of each service that may match the events of a rule: a later one is asked only where it does not.
fn asked<'f>(filters: &'f Filters, shape: &BodyShape) -> Vec<Filter<'f>> {
    let mut asked: Vec<Filter<'f>> = filters_of(filters, shape.action);
    asked.retain(|filter| filter.keys.iter().all(|key| lacking(key, shape).is_none()));
    asked.dedup_by_key(|filter| filter.service);
    asked
}

/// The texts that a rule sends in a key; none where a payload decides.
fn texts(shape: &BodyShape, key: &str) -> Option<Vec<String>> {
    match shape.keys.get(key) {
        Some(Known::OneOf(values)) => Some(values.iter().filter_map(text_of).collect()),
        Some(Known::Anything) => None,
        None => (!shape.open).then(Vec::new),
    }
}

/// Tells why no event of a rule has what a filter asks of a key; none if one may.
fn lacking(filter: &KeyFilter, shape: &BodyShape) -> Option<String> {
    let texts = texts(shape, &filter.key)?;
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
fn unmapping<'f>(key: &'f str, shape: &BodyShape) -> Option<(&'f str, String)> {
    let texts = texts(shape, key)?;
    let maps = |text: &String| !text.trim().is_empty() && text.len() <= KEY_BYTES_MAX;
    (!texts.iter().any(maps)).then(|| match shape.keys.contains_key(key) {
        true => (key, format!("its `{key}` maps nothing")),
        false => (key, format!("it does not send `{key}`")),
    })
}

/// More than a person needs to see why.
const REASONS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::yaml::Source;

    fn filters(text: &str) -> Filters {
        let mut findings = Findings::new();
        let filters = Filters::read(&Arc::new(Source::new("filters.yaml".into(), text.into())), &mut findings);
        filters.unwrap_or_else(|| panic!("{}", findings.render(false)))
    }

    /// A rule that sends these keys, each one of some values or, with null, anything.
    fn shape(action: Action, sent: &Value, open: bool) -> BodyShape {
        let known = |value: &Value| value.as_array().map_or(Known::Anything, |values| Known::OneOf(values.clone()));
        let keys = sent.as_object().unwrap().iter().map(|(key, value)| (key.clone(), known(value))).collect();
        BodyShape { rule: 0, name: "rule".to_owned(), action, keys, incident_key: None, open }
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
            let told = unmatched(&one("state", items), &shape(Action::Trigger, &sent, false));
            assert_eq!(told, expected, "{items} and {sent}");
        }
        let open = unmatched(&one("state", "[CRIT]"), &shape(Action::Trigger, &json!({}), true));
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
            let found = unmapping("id", &shape(Action::Trigger, &sent, open)).map(|(_, problem)| problem);
            assert_eq!(found.as_deref(), told, "{sent}");
        }
    }

    #[test]
    fn of_a_service_the_first_filter_that_may_match_is_asked() {
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
            (json!(["C"]), vec![second, other]),
            (json!(null), vec![first, other]),
            (json!(["DOWN"]), vec![]),
        ] {
            let shape = shape(Action::Trigger, &json!({ "state": states, "id": null }), false);
            let asked: Vec<String> = asked(&filters, &shape).into_iter().map(|filter| filter.name).collect();
            assert_eq!(asked, expected, "{states}");
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
                let never = unmatched(&filters, &shape(action, &sent, open));
                prop_assert!(never.is_none() || !does, "{body} matches {filters:?}, and {never:?} was told");
            }
        }
    }
}
