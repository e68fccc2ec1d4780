//! Converts a rules decision to entries for the recorder, and its receipts to the parts of an answer.

use std::sync::Arc;

use super::refusal::{UNPROCESSABLE, to_json};
use super::response::{Part, Standing};
use crate::event::{Action, Draft, KeyId, Violation};
use crate::journal::recorder::{Entry, Follow, Receipt, Recordable};
use crate::rules::{Decision, Element};

/// A decision, taken apart.
pub(super) struct Handover {
    /// For the recorder, in the order of the payload.
    pub(super) entries: Vec<Entry>,
    /// For the sender: every element, also the ignored.
    pub(super) told: Vec<Told>,
    /// Whether the sender expects a list.
    pub(super) batch: bool,
}

/// One element as its sender knows it.
pub(super) enum Told {
    Event { action: Action, incident_key: String },
    Ignored { rule: Option<Arc<str>> },
    Refused { violations: Vec<Violation> },
}

impl Handover {
    pub(super) fn of(source: &str, decision: Decision) -> Handover {
        // A payload that could not even be split is refused as one.
        let unsplit = matches!(decision.elements[..], [Element::Refused { element: None, .. }]);
        let mut entries = Vec::with_capacity(decision.elements.len());
        let mut told = Vec::with_capacity(decision.elements.len());
        for element in decision.elements {
            match element {
                Element::Event(draft) => {
                    told.push(Told::Event { action: draft.action, incident_key: draft.incident_key.clone() });
                    entries.push(Entry::Event(recordable(source, draft)));
                }
                Element::Ignored { rule } => told.push(Told::Ignored { rule }),
                Element::Refused { violations, element } => {
                    told.push(Told::Refused { violations: violations.clone() });
                    let element = element.map(|element| to_json(&element));
                    entries.push(Entry::Refused { element, reason: UNPROCESSABLE, violations });
                }
            }
        }
        Handover { entries, told, batch: decision.batch && !unsplit }
    }
}

/// Joins each element with its receipt, and with the means to follow it where its sender waits.
pub(super) fn join(told: Vec<Told>, receipts: Vec<Receipt>) -> Vec<(Part, Option<Follow>)> {
    let mut receipts = receipts.into_iter();
    let joined = told.into_iter().filter_map(|told| match told {
        Told::Ignored { rule } => Some((Part::Ignored { rule }, None)),
        Told::Refused { violations } => match receipts.next() {
            Some(Receipt::Refused { id }) => Some((Part::Refused { id, violations }, None)),
            _ => None,
        },
        Told::Event { action, incident_key } => {
            let (standing, follow) = match receipts.next() {
                Some(Receipt::Queued { id, follow }) => (Standing::Queued { id }, follow),
                Some(Receipt::Duplicate { of, follow }) => (Standing::Duplicate { of, open: follow.is_some() }, follow),
                _ => return None,
            };
            Some((Part::Event { action, incident_key, standing }, follow))
        }
    });
    joined.collect()
}

fn recordable(source: &str, draft: Draft) -> Recordable {
    let Draft { action, rule, incident_key, occurrence, update, priority, body } = draft;
    let key = KeyId::new(source, &incident_key);
    Recordable { action, key, incident_key, rule, occurrence, update, priority, body: body.into_bytes() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{Body, EventId, Priority, UpdateHash};
    use crate::rules::TemplateFailures;

    fn event(key: &str) -> Element {
        Element::Event(Draft {
            action: Action::Trigger,
            rule: "problem".into(),
            incident_key: key.into(),
            occurrence: None,
            update: UpdateHash::default(),
            priority: Priority::High,
            body: Body::of(&json!({"key": key})),
        })
    }

    fn refused(element: Option<serde_json::Value>) -> Element {
        let violation = Violation { path: "$.id".into(), problem: "is required".into(), found: None };
        Element::Refused { violations: vec![violation], element: element.map(Box::new) }
    }

    fn handover(batch: bool, elements: Vec<Element>) -> Handover {
        Handover::of("s", Decision { batch, elements, template_failures: TemplateFailures::default() })
    }

    #[test]
    fn what_is_ignored_is_told_and_not_kept() {
        let handover = handover(true, vec![event("a"), Element::Ignored { rule: None }, refused(Some(json!(7)))]);
        assert!(handover.batch);
        assert_eq!((handover.entries.len(), handover.told.len()), (2, 3));
        let [Entry::Event(event), Entry::Refused { element, .. }] = &handover.entries[..] else { panic!() };
        assert_eq!((event.key, &event.body[..]), (KeyId::new("s", "a"), &br#"{"key":"a"}"#[..]));
        assert_eq!(event.priority, Priority::High);
        assert_eq!(element.as_deref(), Some(&b"7"[..]));
    }

    #[test]
    fn what_could_not_be_split_is_no_batch() {
        assert!(!handover(true, vec![refused(None)]).batch);
        assert!(handover(true, vec![refused(Some(json!(1)))]).batch);
        assert!(!handover(false, vec![event("a")]).batch);
    }

    #[test]
    fn each_element_gets_its_own_receipt() {
        let handover = handover(true, vec![event("a"), Element::Ignored { rule: None }, refused(None), event("b")]);
        let receipts = vec![
            Receipt::Queued { id: EventId(1), follow: None },
            Receipt::Refused { id: EventId(2) },
            Receipt::Duplicate { of: EventId(1), follow: None },
        ];
        let parts: Vec<Part> = join(handover.told, receipts).into_iter().map(|(part, _)| part).collect();
        let [
            Part::Event { standing: first, .. },
            Part::Ignored { .. },
            Part::Refused { id, .. },
            Part::Event { standing: last, .. },
        ] = &parts[..]
        else {
            panic!("{parts:?}")
        };
        assert_eq!(*first, Standing::Queued { id: EventId(1) });
        assert_eq!(*id, EventId(2));
        assert_eq!(*last, Standing::Duplicate { of: EventId(1), open: false });
    }
}
