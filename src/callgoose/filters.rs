//! Callgoose's API Filters, as documented: decides whether a body would open or close an incident there.
//!
//! A service has up to ten trigger filters and one resolve filter. A filter names keys of the payload and, for each,
//! texts that its value must all contain; the first trigger filter that matches opens the incident. `gander check`,
//! `gander test` and the sandbox share this evaluation, so that events that match no filter are found before an alert
//! reaches nobody.
//!
//! Incidents are not tracked here: [`crate::callgoose::sandbox`] knows which are open and which calls repeat another.
//!
//! Where Callgoose's documentation is silent the stricter reading is taken, so that what matches here may be
//! expected to match there:
//!
//! - texts are compared as they are written, upper and lower case apart;
//! - the two keys of a filter must both match, as the items of one key must;
//! - a key is looked up at the top level only, by its whole name, dots included;
//! - only strings and numbers (by their JSON text) have a text: a boolean, null, object or list matches nothing;
//! - a mapped value that is missing, blank, no text or over [`KEY_BYTES_MAX`] maps nothing: the incident opens,
//!   and no resolve will ever find it.

mod read_filters;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::yaml::Node;

/// A file of API Filters, checked: what a person would type into Callgoose.
#[derive(Debug)]
pub struct Filters {
    /// The `token` key as written: `{ env: NAME }`, `{ file: PATH }` or the text. The sandbox resolves it; the
    /// evaluation needs no token.
    pub token: Option<Node>,
    pub(crate) services: Vec<Service>,
}

/// The filters beside a configuration.
#[derive(Clone, Debug, Default)]
pub enum FiltersBeside {
    #[default]
    None,
    /// There is a file of this name that can't be used.
    Unusable {
        name: String,
        problem: String,
    },
    Read {
        name: String,
        filters: Arc<Filters>,
    },
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: Arc<str>,
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) resolve: Option<Resolve>,
}

/// A trigger filter.
#[derive(Debug)]
pub(crate) struct Trigger {
    pub(crate) urgency: Arc<str>,
    pub(crate) keys: Vec<KeyFilter>,
    pub(crate) title_from: Option<String>,
    pub(crate) description_from: Option<String>,
    pub(crate) map_incident_with: Option<String>,
}

/// The resolve filter.
#[derive(Debug)]
pub(crate) struct Resolve {
    pub(crate) keys: Vec<KeyFilter>,
    pub(crate) incident_mapped_with: String,
}

/// A *Payload JSON Key* with its *Key Value Contains*.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    pub(crate) key: String,
    pub(crate) contains: Vec<String>,
}

/// The filters that matched a payload, and the reasons why others did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The services in which a filter matched, in the order of the file.
    pub services: Vec<ServiceMatch>,
    /// The reason for each filter that did not match, in the order of the file. Trigger filters after the first match
    /// are not evaluated.
    pub misses: Vec<Miss>,
}

/// The outcome in one service: an incident to open, one to close, or (with careless filters) both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceMatch {
    pub service: Arc<str>,
    pub trigger: Option<Opening>,
    pub resolve: Option<Closing>,
}

/// An incident that a trigger filter opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The number of the trigger filter that matched, counted from 1.
    pub filter: usize,
    pub urgency: Arc<str>,
    pub title: String,
    pub description: String,
    /// The value the incident is mapped with; none: no resolve can find it.
    pub key: Option<String>,
}

/// An incident that the resolve filter closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The value the incident was mapped with; none: it closes nothing.
    pub key: Option<String>,
}

/// The first reason why a filter did not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    pub service: Arc<str>,
    /// Counted from 1; none for the resolve filter.
    pub trigger_filter: Option<usize>,
    pub key: String,
    /// The item that the value does not contain.
    pub item: String,
    /// The value's text, shortened; none if the payload has no text there.
    pub found: Option<String>,
}

impl Filters {
    /// Evaluates the filters on `body`. `from` is the query parameter of that name: it is put before the title.
    pub fn evaluate(&self, body: &Value, from: Option<&str>) -> Match {
        let mut result = Match::default();
        for service in &self.services {
            let trigger = service.opening(body, from, &mut result.misses);
            let resolve = service.closing(body, &mut result.misses);
            if trigger.is_some() || resolve.is_some() {
                result.services.push(ServiceMatch { service: Arc::clone(&service.name), trigger, resolve });
            }
        }
        result
    }
}

impl Match {
    /// Returns true if no filter of any service matched: Callgoose answers 202 and nobody is alerted.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Returns true if a trigger filter matched.
    pub fn opens(&self) -> bool {
        self.services.iter().any(|service| service.trigger.is_some())
    }

    /// Returns true if a resolve filter matched.
    pub fn closes(&self) -> bool {
        self.services.iter().any(|service| service.resolve.is_some())
    }
}

impl Service {
    fn opening(&self, body: &Value, from: Option<&str>, misses: &mut Vec<Miss>) -> Option<Opening> {
        for (index, trigger) in self.triggers.iter().enumerate() {
            match first_miss(&trigger.keys, body) {
                None => return Some(trigger.open(index + 1, body, from)),
                Some(miss) => misses.push(self.miss(Some(index + 1), &miss)),
            }
        }
        None
    }

    fn closing(&self, body: &Value, misses: &mut Vec<Miss>) -> Option<Closing> {
        let resolve = self.resolve.as_ref()?;
        match first_miss(&resolve.keys, body) {
            None => Some(Closing { key: mapped_value(body, &resolve.incident_mapped_with) }),
            Some(miss) => {
                misses.push(self.miss(None, &miss));
                None
            }
        }
    }

    fn miss(&self, trigger_filter: Option<usize>, miss: &KeyMiss<'_>) -> Miss {
        Miss {
            service: Arc::clone(&self.name),
            trigger_filter,
            key: miss.key.to_owned(),
            item: miss.item.to_owned(),
            found: miss.found.as_deref().map(|text| text.chars().take(FOUND_CHARS_MAX).collect()),
        }
    }
}

impl KeyFilter {
    /// Returns true if a text contains all items of the key.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        self.contains.iter().all(|item| text.contains(item))
    }
}

impl Trigger {
    fn open(&self, filter: usize, body: &Value, from: Option<&str>) -> Opening {
        let from = from.filter(|from| !from.trim().is_empty());
        let title =
            self.title_from.as_deref().and_then(|key| text_at(body, key)).filter(|text| !text.trim().is_empty());
        let title = match (from, title) {
            (Some(from), Some(title)) => format!("{from} - {title}"),
            (None, Some(title)) => title,
            (Some(from), None) => format!("Incident from {from}"),
            (None, None) => "Incident from unknown source".to_owned(),
        };
        let described = self.description_from.as_deref().and_then(|key| body.get(key));
        let description = match described.filter(|value| !value.is_null()).unwrap_or(body) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let key = self.map_incident_with.as_deref().and_then(|key| mapped_value(body, key));
        Opening { filter, urgency: Arc::clone(&self.urgency), title, description, key }
    }
}

struct KeyMiss<'a> {
    key: &'a str,
    item: &'a str,
    found: Option<String>,
}

/// The first missing item of a filter; none if all are contained.
fn first_miss<'a>(keys: &'a [KeyFilter], body: &Value) -> Option<KeyMiss<'a>> {
    keys.iter().find_map(|filter| {
        let found = text_at(body, &filter.key);
        let item = filter.contains.iter().find(|item| !found.as_deref().is_some_and(|text| text.contains(*item)))?;
        Some(KeyMiss { key: &filter.key, item, found })
    })
}

/// The text of a top-level key; none if it has no text.
fn text_at(body: &Value, key: &str) -> Option<String> {
    text_of(body.get(key)?)
}

/// The text that items are compared with: a string, or a number as JSON.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn mapped_value(body: &Value, key: &str) -> Option<String> {
    text_at(body, key).filter(|text| !text.trim().is_empty() && text.len() <= KEY_BYTES_MAX)
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Miss { service, key, item, .. } = self;
        match self.trigger_filter {
            Some(filter) => write!(f, "service {service}, trigger filter {filter}: ")?,
            None => write!(f, "service {service}, resolve filter: ")?,
        }
        match &self.found {
            Some(found) => write!(f, "`{key}` is {found:?}, which does not contain {item:?}"),
            None => {
                write!(f, "`{key}` is not a string or number at the top of the payload, so it can't contain {item:?}")
            }
        }
    }
}

/// The maximum of trigger filters in a service.
pub(crate) const TRIGGER_FILTERS_MAX: usize = 10;
/// The maximum of Payload JSON Keys in a trigger filter.
pub(crate) const TRIGGER_KEYS_MAX: usize = 2;
/// The maximum of Payload JSON Keys in the resolve filter.
pub(crate) const RESOLVE_KEYS_MAX: usize = 1;
/// The maximum of Key Value Contains items for a key.
pub(crate) const ITEMS_MAX: usize = 10;
/// The maximum of characters in an item.
pub(crate) const ITEM_CHARS_MAX: usize = 50;
/// A mapped value longer than this maps nothing; twice what the relay lets an incident key have.
pub(crate) const KEY_BYTES_MAX: usize = 1024;
/// The length of a value shown in a miss.
const FOUND_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::yaml::{Findings, Source};

    fn filters(text: &str) -> Filters {
        let mut findings = Findings::new();
        let source = Arc::new(Source::new("filters.yaml".into(), text.into()));
        let filters = Filters::read(&source, &mut findings);
        filters.unwrap_or_else(|| panic!("{}", findings.render(false)))
    }

    /// Two services: one as shipped, one with rarer settings.
    fn example() -> Filters {
        filters(
            "
services:
  - name: payments
    trigger:
      - urgency: high
        keys: [{ key: state, contains: [CRITICAL] }]
        title_from: title
        description_from: description
        map_incident_with: id
    resolve: { keys: [{ key: state, contains: [OK] }], incident_mapped_with: id }
  - name: database
    trigger:
      - urgency: high
        keys: [{ key: host, contains: [db, eu] }, { key: load, contains: ['9'] }]
      - urgency: low
        keys: [{ key: host, contains: [db] }]
",
        )
    }

    #[rstest]
    #[case::one_item_contained(json!({"state": "CRITICAL"}), &["payments trigger 1"])]
    #[case::contained_is_enough_it_need_not_be_equal(json!({"state": "now CRITICAL!"}), &["payments trigger 1"])]
    #[case::upper_and_lower_case_differ(json!({"state": "critical"}), &[])]
    #[case::resolve(json!({"state": "OK"}), &["payments resolve"])]
    #[case::contains_knows_no_words(json!({"state": "BROKEN TOKEN"}), &["payments resolve"])]
    #[case::one_body_may_match_both(json!({"state": "CRITICAL, was OK"}), &["payments trigger 1", "payments resolve"])]
    #[case::every_item_of_every_key_must_be_contained(json!({"host": "db-eu-1", "load": 95}), &["database trigger 1"])]
    #[case::one_item_missing_falls_to_the_next_filter(json!({"host": "db-us-1", "load": 95}), &["database trigger 2"])]
    #[case::one_key_missing_falls_to_the_next_filter(json!({"host": "db-eu-1"}), &["database trigger 2"])]
    #[case::the_second_key_must_match_too(json!({"host": "db-eu-1", "load": 15}), &["database trigger 2"])]
    #[case::every_service_is_asked(json!({"state": "CRITICAL", "host": "db"}), &["payments trigger 1", "database trigger 2"])]
    #[case::a_nested_key_is_not_found(json!({"event": {"state": "CRITICAL"}}), &[])]
    #[case::a_list_has_no_text(json!({"state": ["CRITICAL"]}), &[])]
    #[case::a_boolean_has_no_text(json!({"state": true}), &[])]
    #[case::an_empty_payload_matches_nothing(json!({}), &[])]
    #[case::no_object_matches_nothing(json!("CRITICAL"), &[])]
    fn filters_match(#[case] body: Value, #[case] expected: &[&str]) {
        let mut matched = Vec::new();
        for service in example().evaluate(&body, None).services {
            if let Some(trigger) = &service.trigger {
                matched.push(format!("{} trigger {}", service.service, trigger.filter));
            }
            if service.resolve.is_some() {
                matched.push(format!("{} resolve", service.service));
            }
        }
        assert_eq!(matched, expected);
    }

    #[rstest]
    #[case::from_stands_before_the_title(json!("CPU"), Some("ServicePilot"), "ServicePilot - CPU")]
    #[case::without_from_the_title_stands_alone(json!("CPU"), None, "CPU")]
    #[case::a_number_is_a_title(json!(42), None, "42")]
    #[case::no_title(json!(null), Some("ServicePilot"), "Incident from ServicePilot")]
    #[case::a_blank_title_is_none(json!("  "), Some("ServicePilot"), "Incident from ServicePilot")]
    #[case::a_blank_from_is_none(json!("CPU"), Some(" "), "CPU")]
    #[case::neither(json!(null), None, "Incident from unknown source")]
    fn titles(#[case] title: Value, #[case] from: Option<&str>, #[case] expected: &str) {
        let body = json!({"state": "CRITICAL", "title": title});
        assert_eq!(opening(&body, from).title, expected);
    }

    #[rstest]
    #[case::a_text(json!({"state": "CRITICAL", "description": "disk full"}), "disk full")]
    #[case::an_object_is_shown_as_json(json!({"state": "CRITICAL", "description": {"a": 1}}), r#"{"a":1}"#)]
    #[case::null_means_the_whole_payload(json!({"state": "CRITICAL", "description": null}), r#"{"state":"CRITICAL","description":null}"#)]
    #[case::a_missing_key_means_the_whole_payload(json!({"state": "CRITICAL", "b": 1}), r#"{"state":"CRITICAL","b":1}"#)]
    fn descriptions(#[case] body: Value, #[case] expected: &str) {
        assert_eq!(opening(&body, None).description, expected);
    }

    #[test]
    fn no_description_key_means_the_whole_payload() {
        let matched = example().evaluate(&json!({"host": "db", "description": "x"}), None);
        let trigger = matched.services[0].trigger.as_ref().unwrap();
        assert_eq!(trigger.description, r#"{"host":"db","description":"x"}"#);
        assert_eq!(trigger.key, None, "without Map Incident With nothing is mapped");
    }

    #[rstest]
    #[case::a_text(json!("e1"), Some("e1"))]
    #[case::a_number_by_its_json_text(json!(1.50), Some("1.5"))]
    #[case::missing(json!(null), None)]
    #[case::blank_would_tie_strangers_together(json!(" "), None)]
    #[case::an_object(json!({"id": 1}), None)]
    #[case::too_long(json!("x".repeat(KEY_BYTES_MAX + 1)), None)]
    fn trigger_and_resolve_are_mapped_alike(#[case] id: Value, #[case] expected: Option<&str>) {
        assert_eq!(opening(&json!({"state": "CRITICAL", "id": id}), None).key.as_deref(), expected);
        let matched = example().evaluate(&json!({"state": "OK", "id": id}), None);
        assert_eq!(matched.services[0].resolve.as_ref().unwrap().key.as_deref(), expected);
    }

    #[test]
    fn a_miss_says_what_was_found_and_what_was_not() {
        let matched = example().evaluate(&json!({"state": "critical"}), None);
        assert!(matched.is_empty() && !matched.opens() && !matched.closes());
        let misses: Vec<String> = matched.misses.iter().map(Miss::to_string).collect();
        assert_eq!(
            misses,
            [
                r#"service payments, trigger filter 1: `state` is "critical", which does not contain "CRITICAL""#,
                r#"service payments, resolve filter: `state` is "critical", which does not contain "OK""#,
                r#"service database, trigger filter 1: `host` is not a string or number at the top of the payload, so it can't contain "db""#,
                r#"service database, trigger filter 2: `host` is not a string or number at the top of the payload, so it can't contain "db""#,
            ]
        );
    }

    fn opening(body: &Value, from: Option<&str>) -> Opening {
        example().evaluate(body, from).services.remove(0).trigger.unwrap()
    }
}
