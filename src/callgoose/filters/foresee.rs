//! Checks without a payload whether the filters can match what a rule sends.

use std::fmt;

use super::{Filters, KeyFilter, Service, text_of};
use crate::event::Action;
use crate::rules::{Known, Outline};

/// A *Payload JSON Key* with items, and where it stands in its file.
#[derive(Clone, Copy, Debug)]
pub struct FilterKey<'f> {
    pub key: &'f str,
    pub action: Action,
    pub service: usize,
    /// None for the resolve filter.
    pub trigger: Option<usize>,
    /// Which of the filter's keys.
    pub index: usize,
    contains: &'f [String],
}

impl FilterKey<'_> {
    /// Whether this text holds all that is asked of the key.
    pub fn accepts(&self, text: &str) -> bool {
        self.contains.iter().all(|item| text.contains(item))
    }
}

/// Why a filter can't match the events of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Never<'f> {
    service: &'f str,
    trigger: Option<usize>,
    key: &'f str,
    lacks: Lacks<'f>,
    /// What the rule sends there; none where it does not send the key.
    sends: Option<Vec<String>>,
}

/// What the texts of a key lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lacks<'f> {
    /// An item that none of them contains.
    One(&'f str),
    /// Each item is in one of them, and no text contains them all.
    All(&'f [String]),
}

impl Filters {
    /// Why no filter can match the events of this rule, a reason for each filter; none if one might.
    pub fn never(&self, outline: &Outline) -> Option<Vec<Never<'_>>> {
        let mut reasons = Vec::new();
        for (service, trigger, keys) in self.filters(outline.action) {
            let excluded = keys.iter().find_map(|key| excluded(key, outline));
            let (key, lacks, sends) = excluded?;
            reasons.push(Never { service: &self.services[service].name, trigger, key, lacks, sends });
        }
        Some(reasons)
    }

    /// Every key that some item is compared with.
    pub fn compared(&self) -> Vec<FilterKey<'_>> {
        let mut compared = Vec::new();
        for action in [Action::Trigger, Action::Resolve] {
            for (service, trigger, keys) in self.filters(action) {
                compared.extend(keys.iter().enumerate().map(|(index, filter)| FilterKey {
                    key: &filter.key,
                    action,
                    service,
                    trigger,
                    index,
                    contains: &filter.contains,
                }));
            }
        }
        compared
    }

    /// The keys that titles and descriptions are taken from: the key, the service, which of its trigger filters, and
    /// the field that names it.
    pub fn shown(&self) -> Vec<(&str, usize, usize, &'static str)> {
        let mut shown = Vec::new();
        for (number, service) in self.services.iter().enumerate() {
            for (index, trigger) in service.triggers.iter().enumerate() {
                for (key, field) in
                    [(&trigger.title_from, "title_from"), (&trigger.description_from, "description_from")]
                {
                    shown.extend(key.as_deref().map(|key| (key, number, index, field)));
                }
            }
        }
        shown
    }

    /// Every key of a body that is read for anything; none where some incident is described by the whole body.
    pub fn reads(&self) -> Option<Vec<&str>> {
        let described = |service: &Service| service.triggers.iter().all(|trigger| trigger.description_from.is_some());
        if !self.services.iter().all(described) {
            return None;
        }
        let mut reads: Vec<&str> = self.compared().iter().map(|key| key.key).collect();
        for service in &self.services {
            for trigger in &service.triggers {
                let named = [&trigger.title_from, &trigger.description_from, &trigger.map_incident_with];
                reads.extend(named.into_iter().flatten().map(String::as_str));
            }
            reads.extend(service.resolve.iter().map(|resolve| resolve.incident_mapped_with.as_str()));
        }
        Some(reads)
    }

    /// The filters for an action: the service, which of its trigger filters, and the keys.
    pub(super) fn filters(&self, action: Action) -> impl Iterator<Item = (usize, Option<usize>, &[KeyFilter])> {
        self.services.iter().enumerate().flat_map(move |(index, service)| {
            let (triggers, resolve) = match action {
                Action::Trigger => (service.triggers.as_slice(), None),
                Action::Resolve => (&[][..], service.resolve.as_ref()),
            };
            let triggers = triggers.iter().enumerate();
            let triggers = triggers.map(move |(number, trigger)| (index, Some(number), trigger.keys.as_slice()));
            triggers.chain(resolve.map(|resolve| (index, None, resolve.keys.as_slice())))
        })
    }
}

/// The key whose texts can't contain what is asked, what they lack, and what a rule sends there.
pub(super) fn excluded<'f>(
    filter: &'f KeyFilter,
    outline: &Outline,
) -> Option<(&'f str, Lacks<'f>, Option<Vec<String>>)> {
    let first = filter.contains.first()?;
    let texts: Vec<String> = match outline.keys.get(&filter.key) {
        None if outline.open => return None,
        None => return Some((&filter.key, Lacks::One(first), None)),
        Some(Known::Anything) => return None,
        Some(Known::OneOf(values)) => values.iter().filter_map(text_of).collect(),
    };
    // All items must be in one and the same text.
    if texts.iter().any(|text| filter.contains.iter().all(|item| text.contains(item))) {
        return None;
    }
    let nowhere = filter.contains.iter().find(|item| !texts.iter().any(|text| text.contains(*item)));
    let lacks = nowhere.map_or(Lacks::All(&filter.contains), |item| Lacks::One(item));
    Some((&filter.key, lacks, Some(texts)))
}

/// Which filter it is, for a person.
pub(super) fn standing(service: &str, trigger: Option<usize>) -> String {
    match trigger {
        Some(trigger) => format!("service {service}, trigger filter {}", trigger + 1),
        None => format!("service {service}, resolve filter"),
    }
}

impl fmt::Display for Lacks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lacks::One(item) => write!(f, "{item:?}"),
            Lacks::All(items) => {
                let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
                write!(f, "all of {}", items.join(", "))
            }
        }
    }
}

impl fmt::Display for Never<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Never { service, key, lacks, .. } = self;
        write!(f, "{}: ", standing(service, self.trigger))?;
        match self.sends.as_deref() {
            None => write!(f, "`{key}` is not among the keys that it sends"),
            Some([]) => write!(f, "`{key}` has no text that could contain {lacks}"),
            Some([one]) => write!(f, "`{key}` has no text but {one:?}, which does not contain {lacks}"),
            Some(several) => write!(f, "`{key}` is one of {}, and none contains {lacks}", several.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::{Resolve, Trigger};
    use super::*;

    fn filters(triggers: Vec<Vec<KeyFilter>>, resolve: Option<Vec<KeyFilter>>) -> Filters {
        let trigger = |keys| Trigger {
            urgency: "high".into(),
            keys,
            title_from: None,
            description_from: None,
            map_incident_with: None,
        };
        let resolve = resolve.map(|keys| Resolve { keys, incident_mapped_with: "id".into() });
        let triggers = triggers.into_iter().map(trigger).collect();
        Filters { token: None, services: vec![Service { name: Arc::from("pay"), triggers, resolve }] }
    }

    fn key(key: &str, contains: &[&str]) -> KeyFilter {
        KeyFilter { key: key.to_owned(), contains: contains.iter().map(|item| (*item).to_owned()).collect() }
    }

    fn outline(action: Action, keys: &[(&str, Known)], open: bool) -> Outline {
        let keys: BTreeMap<String, Known> =
            keys.iter().map(|(key, known)| ((*key).to_owned(), known.clone())).collect();
        Outline { rule: 0, name: "rule".to_owned(), action, keys, open }
    }

    fn one_of(values: &Value) -> Known {
        Known::OneOf(values.as_array().unwrap().clone())
    }

    /// The first reason why a trigger filter with one key can't match; none if it might.
    fn reason(contains: &[&str], known: Known) -> Option<String> {
        let never = filters(vec![vec![key("state", contains)]], None);
        let reasons = never.never(&outline(Action::Trigger, &[("state", known)], false));
        reasons.map(|reasons| reasons[0].to_string())
    }

    #[test]
    fn a_filter_is_excluded_by_what_it_reads() {
        for (claim, contains, values) in [
            ("contained in one of them", vec!["CRIT"], json!(["OK", "CRITICAL"])),
            ("a number has its JSON text", vec!["1.5"], json!([1.5])),
            ("all items in the same text", vec!["a", "b"], json!(["a", "ab"])),
            ("no item asks for nothing", vec![], json!(["x"])),
        ] {
            assert_eq!(reason(&contains, one_of(&values)), None, "{claim}");
        }
        assert_eq!(reason(&["x"], Known::Anything), None);
        let start = "service pay, trigger filter 1: `state` ";
        for (contains, values, expected) in [
            (vec!["critical"], json!(["CRITICAL"]), r#"has no text but "CRITICAL", which does not contain "critical""#),
            (vec!["a", "b"], json!(["a", "b"]), r#"is one of a, b, and none contains all of "a", "b""#),
            (vec!["a", "c"], json!(["a", "b"]), r#"is one of a, b, and none contains "c""#),
            (vec!["true"], json!([true]), r#"has no text that could contain "true""#),
            (vec!["null"], json!([null, ["null"], { "null": 1 }]), r#"has no text that could contain "null""#),
            (vec!["x"], json!([null, "y"]), r#"has no text but "y", which does not contain "x""#),
        ] {
            assert_eq!(reason(&contains, one_of(&values)), Some(format!("{start}{expected}")));
        }
    }

    #[test]
    fn only_filters_of_the_action_and_keys_that_may_be_sent_count() {
        let filters = filters(vec![vec![key("a", &["x"]), key("b", &["y"])]], Some(vec![key("c", &["z"])]));
        let x = || one_of(&json!(["x"]));
        let never = |action, keys: &[(&str, Known)], open| filters.never(&outline(action, keys, open)).is_some();
        assert!(never(Action::Trigger, &[("a", x())], false), "b is not sent");
        assert!(!never(Action::Trigger, &[("a", x())], true), "b may be the payload's");
        assert!(never(Action::Trigger, &[("a", x()), ("b", x())], true), "both keys must match");
        assert!(never(Action::Resolve, &[("a", x()), ("b", Known::Anything)], false), "c is not sent");
        assert!(!never(Action::Resolve, &[("c", Known::Anything)], false));
    }

    fn values() -> impl Strategy<Value = Value> {
        let values = [json!("A"), json!("a"), json!("AB"), json!("1"), json!(1), json!(1.5), json!(true), json!(null)];
        prop::sample::select([values.as_slice(), &[json!(["A"]), json!({ "A": 1 }), json!("")]].concat())
    }

    /// What is known of a key, and a value that it may have then.
    fn known() -> impl Strategy<Value = (Known, Option<Value>)> {
        let among = prop::collection::vec(values(), 1..4).prop_flat_map(|values| {
            (Just(Known::OneOf(values.clone())), prop::option::weighted(0.9, prop::sample::select(values)))
        });
        prop_oneof![3 => among, 1 => prop::option::of(values()).prop_map(|value| (Known::Anything, value))]
    }

    fn key_filters(most: usize) -> impl Strategy<Value = Vec<KeyFilter>> {
        let item = prop::sample::select(vec!["A", "a", "B", "1", "1.5", "true", "null"]);
        let one = (prop::sample::select(vec!["k", "l"]), prop::collection::vec(item, 0..3));
        prop::collection::vec(one.prop_map(|(name, items)| key(name, &items)), 1..=most)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn what_never_matches_does_not_match(
            triggers in prop::collection::vec(key_filters(2), 1..3),
            resolve in prop::option::of(key_filters(1)),
            (k, l) in (prop::option::of(known()), prop::option::of(known())),
            (open, others) in (any::<bool>(), (values(), values())),
        ) {
            let filters = filters(triggers, resolve);
            let (mut keys, mut body) = (Vec::new(), json!({}));
            for (name, own, other) in [("k", k, others.0), ("l", l, others.1)] {
                match own {
                    Some((known, value)) => {
                        keys.push((name, known));
                        value.into_iter().for_each(|value| body[name] = value);
                    }
                    None if open => body[name] = other,
                    None => {}
                }
            }
            let matched = filters.evaluate(&body, None);
            for (action, does) in [(Action::Trigger, matched.opens()), (Action::Resolve, matched.closes())] {
                let never = filters.never(&outline(action, &keys, open));
                prop_assert!(never.is_none() || !does, "{body} matches {filters:?}, and {never:?} was told");
            }
        }
    }
}
