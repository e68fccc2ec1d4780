//! What would come of the events of a rule that a filter matches, told without a payload: an incident that no resolve
//! finds, one that all of them share, one that is closed by what opens it.

use std::fmt;

use super::foresee::{excluded, standing};
use super::{Filters, KEY_BYTES_MAX, KeyFilter, Trigger, text_of};
use crate::event::Action;
use crate::rules::{Known, Outline};

/// A doubt about a rule whose events may match a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt<'f> {
    /// The filter, for a person.
    pub filter: String,
    /// Whether the filter matches by what is known to be sent, and not only by what a payload may hold.
    pub certain: bool,
    pub kind: DoubtKind<'f>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoubtKind<'f> {
    /// The key that incidents are mapped with has no value that could map one; `sends` where it is sent at all.
    Unmapped { key: &'f str, sends: Option<String> },
    /// Every event maps its incident with this value.
    Constant { key: &'f str, text: String },
    /// It is a filter of the other kind: one for resolves that triggers match, or the other way round.
    Both { key: &'f str, text: String },
}

impl Filters {
    /// What is doubtful of this rule's events, by the filters that might match them.
    pub fn doubts(&self, outline: &Outline) -> Vec<Doubt<'_>> {
        let mut doubts = Vec::new();
        // The service in which a trigger filter matches whatever is sent: those behind it are not asked.
        let mut decided = None;
        for (service, trigger, keys) in self.filters(outline.action) {
            if decided == Some(service) || keys.iter().any(|key| excluded(key, outline).is_some()) {
                continue;
            }
            if keys.iter().all(|key| always(key, outline).is_some()) {
                decided = Some(service);
            }
            if let Some(kind) = self.mapped_with(service, trigger).and_then(|key| mapping(key, outline)) {
                let certain = keys.iter().all(|key| may_hold(key, outline));
                doubts.push(Doubt { filter: standing(&self.services[service].name, trigger), certain, kind });
            }
        }
        let other = match outline.action {
            Action::Trigger => Action::Resolve,
            Action::Resolve => Action::Trigger,
        };
        // What opens nothing has nothing that could be closed by it, and is told as that.
        if outline.action == Action::Trigger && self.never(outline).is_some() {
            return doubts;
        }
        for (service, trigger, keys) in self.filters(other) {
            let maps = |trigger: &Trigger| trigger.map_incident_with.is_some();
            let closes_nothing = trigger.is_none()
                && (!self.services[service].triggers.iter().any(maps)
                    || self
                        .mapped_with(service, trigger)
                        .is_none_or(|key| matches!(mapping(key, outline), Some(DoubtKind::Unmapped { .. }))));
            let texts: Option<Vec<String>> = keys.iter().map(|key| always(key, outline)).collect();
            if let (Some([text, ..]), [key, ..], false) = (texts.as_deref(), keys, closes_nothing) {
                let kind = DoubtKind::Both { key: &key.key, text: text.clone() };
                doubts.push(Doubt { filter: standing(&self.services[service].name, trigger), certain: true, kind });
            }
        }
        doubts
    }

    /// Whether a trigger filter can match the events of none of these rules.
    pub fn never_asked(&self, service: usize, trigger: usize, outlines: &[&Outline]) -> bool {
        let keys = &self.services[service].triggers[trigger].keys;
        outlines.iter().all(|outline| keys.iter().any(|key| excluded(key, outline).is_some()))
    }

    /// The key that ties a trigger to its resolve; none where there is no such tie.
    fn mapped_with(&self, service: usize, trigger: Option<usize>) -> Option<&str> {
        let service = &self.services[service];
        let resolve = service.resolve.as_ref()?;
        match trigger {
            Some(trigger) => service.triggers[trigger].map_incident_with.as_deref(),
            None => Some(&resolve.incident_mapped_with),
        }
    }
}

/// What is doubtful of the value that incidents are mapped with.
fn mapping<'f>(key: &'f str, outline: &Outline) -> Option<DoubtKind<'f>> {
    let values = match outline.keys.get(key) {
        None if outline.open => return None,
        None => return Some(DoubtKind::Unmapped { key, sends: None }),
        Some(Known::Anything) => return None,
        Some(Known::OneOf(values)) => values,
    };
    let texts: Vec<String> = values.iter().filter_map(text_of).collect();
    if !texts.iter().any(|text| !text.trim().is_empty() && text.len() <= KEY_BYTES_MAX) {
        let sends = values.first().map(|value| value.to_string().chars().take(SHOWN_CHARS_MAX).collect());
        return Some(DoubtKind::Unmapped { key, sends });
    }
    match values.as_slice() {
        [_] => texts.into_iter().next().map(|text| DoubtKind::Constant { key, text }),
        _ => None,
    }
}

/// Whether a value that a rule is known to send holds all that a filter asks of its key.
fn may_hold(filter: &KeyFilter, outline: &Outline) -> bool {
    let holds = |text: String| filter.contains.iter().all(|item| text.contains(item));
    match outline.keys.get(&filter.key) {
        Some(Known::OneOf(values)) => values.iter().filter_map(text_of).any(holds),
        _ => false,
    }
}

/// A text that holds all that a filter asks of its key, if every value that a rule sends there does.
fn always(filter: &KeyFilter, outline: &Outline) -> Option<String> {
    let Some(Known::OneOf(values)) = outline.keys.get(&filter.key) else {
        return None;
    };
    let texts: Option<Vec<String>> = values.iter().map(text_of).collect();
    let holds = |text: &String| filter.contains.iter().all(|item| text.contains(item));
    texts.filter(|texts| texts.iter().all(holds))?.into_iter().next()
}

impl fmt::Display for Doubt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DoubtKind::Unmapped { key, sends: None } => write!(f, "it does not send `{key}`"),
            DoubtKind::Unmapped { key, sends: Some(value) } => {
                write!(f, "its `{key}` is {value}, which maps nothing")
            }
            DoubtKind::Constant { key, text } => write!(f, "its `{key}` is always {text:?}"),
            DoubtKind::Both { key, text } => write!(f, "its `{key}` is {text:?}"),
        }
    }
}

/// How much of a value is shown.
const SHOWN_CHARS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::yaml::{Findings, Source};

    const FILTERS: &str = "services:
  - name: pay
    trigger:
      - { urgency: high, keys: [{ key: state, contains: [CRIT] }], map_incident_with: id }
    resolve: { keys: [{ key: state, contains: [OK] }], incident_mapped_with: id }
";

    /// The doubts about a rule that sends these keys, each one of some values or, with null, anything.
    fn doubts(filters: &str, action: Action, sent: &Value, open: bool) -> Vec<String> {
        let source = Arc::new(Source::new("filters.yaml".into(), filters.into()));
        let filters = Filters::read(&source, &mut Findings::new()).unwrap();
        let known = |value: &Value| value.as_array().map_or(Known::Anything, |values| Known::OneOf(values.clone()));
        let keys: BTreeMap<String, Known> =
            sent.as_object().unwrap().iter().map(|(key, value)| (key.clone(), known(value))).collect();
        let outline = Outline { rule: 0, name: "rule".to_owned(), action, keys, open };
        filters.doubts(&outline).iter().map(|doubt| format!("{}: {doubt}", doubt.filter)).collect()
    }

    #[test]
    fn what_no_resolve_could_find_is_doubtful() {
        let trigger = "service pay, trigger filter 1: ";
        for (sent, open, told) in [
            (json!({"state": ["CRITICAL"], "id": null}), false, None),
            (json!({"state": ["CRITICAL"], "id": ["a", "b"]}), false, None),
            (json!({"state": ["CRITICAL"], "id": ["", "b"]}), false, None),
            (json!({"state": ["CRITICAL"]}), true, None),
            (json!({"state": ["WARNING"]}), false, None),
            (json!({"state": null}), false, Some("it does not send `id`")),
            (json!({"state": ["CRITICAL"]}), false, Some("it does not send `id`")),
            (json!({"state": ["CRITICAL"], "id": [""]}), false, Some(r#"its `id` is "", which maps nothing"#)),
            (json!({"state": ["CRITICAL"], "id": [null, {}]}), false, Some("its `id` is null, which maps nothing")),
            (json!({"state": ["CRITICAL"], "id": [true]}), false, Some("its `id` is true, which maps nothing")),
            (json!({"state": ["CRITICAL"], "id": ["x"]}), false, Some(r#"its `id` is always "x""#)),
        ] {
            let expected: Vec<String> = told.iter().map(|told| format!("{trigger}{told}")).collect();
            assert_eq!(doubts(FILTERS, Action::Trigger, &sent, open), expected, "{sent}");
        }
        let resolve = doubts(FILTERS, Action::Resolve, &json!({"state": ["OK"], "ID": null}), false);
        assert_eq!(resolve, ["service pay, resolve filter: it does not send `id`"]);
        let unresolved = FILTERS.replace("    resolve", "    # resolve");
        assert_eq!(doubts(&unresolved, Action::Trigger, &json!({"state": null}), false), [""; 0]);
    }

    #[test]
    fn a_filter_that_is_not_asked_raises_no_doubt() {
        let second =
            "      - { urgency: low, keys: [{ key: state, contains: [C] }], map_incident_with: other }\n    resolve";
        let filters = FILTERS.replace("    resolve", second);
        let sent = |states: Value| json!({"state": states, "id": null});
        assert_eq!(doubts(&filters, Action::Trigger, &sent(json!(["CRITICAL"])), false), [""; 0]);
        let told = ["service pay, trigger filter 2: it does not send `other`"];
        assert_eq!(doubts(&filters, Action::Trigger, &sent(json!(["CRITICAL", "C"])), false), told);
    }

    #[test]
    fn what_opens_and_closes_at_once_is_doubtful() {
        for (action, sent, told) in [
            (
                Action::Trigger,
                json!({"state": ["CRITICALOK"], "id": null}),
                Some("resolve filter: its `state` is \"CRITICALOK\""),
            ),
            (
                Action::Resolve,
                json!({"state": ["OKCRIT"], "id": null}),
                Some("trigger filter 1: its `state` is \"OKCRIT\""),
            ),
            (Action::Trigger, json!({"state": ["CRITICAL", "OK"], "id": null}), None),
            (Action::Trigger, json!({"state": null, "id": null}), None),
            (Action::Trigger, json!({"state": ["OK"], "id": null}), None),
            (
                Action::Trigger,
                json!({"state": ["CRITICALOK"], "id": [""]}),
                Some("trigger filter 1: its `id` is \"\", which maps nothing"),
            ),
        ] {
            let expected: Vec<String> = told.iter().map(|told| format!("service pay, {told}")).collect();
            assert_eq!(doubts(FILTERS, action, &sent, false), expected, "{sent}");
        }
        let unmapped = FILTERS.replacen(", map_incident_with: id", "", 1);
        let sent = json!({"state": ["CRITICALOK"], "id": null});
        assert_eq!(doubts(&unmapped, Action::Trigger, &sent, false), [""; 0], "nothing is mapped");
    }
}
