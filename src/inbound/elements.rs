//! The elements of a payload: those that the recorder keeps, those that the rules ignored, and the reply to each.

use std::sync::Arc;

use super::refusal::UNPROCESSABLE;
use super::response::{EventReply, Reply};
use crate::event::{Draft, KeyId};
use crate::journal::recorder::{PendingSettlement, Recorded};
use crate::journal::request::{Earlier, Entry};
use crate::rules::{Decision, Element};

/// The elements of a decision: what there is to record, and what there is not.
pub(super) struct Elements {
    /// In the order of the payload.
    pub(super) entries: Vec<Entry>,
    pub(super) ignored: Vec<Ignored>,
    /// The sender expects a list.
    pub(super) batch: bool,
}

/// An element that the rules ignored. Nothing is kept of it.
#[derive(Debug)]
pub(super) struct Ignored {
    /// Its place in the payload.
    index: usize,
    rule: Option<Arc<str>>,
}

impl Elements {
    pub(super) fn of(source: &str, decision: Decision) -> Elements {
        // A payload that could not even be split is refused as one.
        let unsplit = matches!(decision.elements[..], [Element::Refused { element: None, .. }]);
        let mut entries = Vec::with_capacity(decision.elements.len());
        let mut ignored = Vec::new();
        for (index, element) in decision.elements.into_iter().enumerate() {
            match element {
                Element::Event(draft) => {
                    let key = KeyId::new(source, &draft.incident_key);
                    entries.push(Entry::Event { key, draft });
                }
                Element::Ignored { rule } => ignored.push(Ignored { index, rule }),
                Element::Refused { violations, element } => {
                    entries.push(Entry::Refused { element, reason: UNPROCESSABLE, violations });
                }
            }
        }
        Elements { entries, ignored, batch: decision.batch && !unsplit }
    }
}

/// The events that a message became, each new or known before.
pub(super) fn became(recorded: &[Recorded]) -> Arc<[Earlier]> {
    let event = |Recorded { entry, receipt }: &Recorded| match entry {
        Entry::Event { key, draft } => Some(Earlier { key: *key, action: draft.action, event: receipt.id() }),
        Entry::Refused { .. } => None,
    };
    recorded.iter().filter_map(event).collect()
}

/// The reply to every element, in the order of the payload, with the settlement that its sender may wait for.
pub(super) fn replies(ignored: Vec<Ignored>, recorded: Vec<Recorded>) -> Vec<(Reply, Option<PendingSettlement>)> {
    let mut replies = Vec::with_capacity(ignored.len() + recorded.len());
    let mut recorded = recorded.into_iter();
    for Ignored { index, rule } in ignored {
        let before = index.saturating_sub(replies.len());
        replies.extend(recorded.by_ref().take(before).map(reply));
        replies.push((Reply::Ignored { rule }, None));
    }
    replies.extend(recorded.map(reply));
    replies
}

fn reply(Recorded { entry, receipt }: Recorded) -> (Reply, Option<PendingSettlement>) {
    let (id, duplicate, pending) = (receipt.id(), receipt.is_duplicate(), receipt.into_pending_settlement());
    let reply = match entry {
        Entry::Event { draft: Draft { action, incident_key, .. }, .. } => {
            Reply::Event(EventReply { action, incident_key, id, duplicate, waits: pending.is_some(), settled: None })
        }
        Entry::Refused { violations, .. } => Reply::Refused { id, violations },
    };
    (reply, pending)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{Action, Body, EventId, Priority, UpdateHash, Violation};
    use crate::journal::recorder::Receipt;
    use crate::lenient_json::Repairs;
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
        Element::Refused { violations: vec![violation], element: element.map(|element| element.to_string().into()) }
    }

    fn elements(batch: bool, elements: Vec<Element>) -> Elements {
        Elements::of(
            "s",
            Decision { batch, elements, template_failures: TemplateFailures::default(), repairs: Repairs::NONE },
        )
    }

    #[test]
    fn an_ignored_element_is_answered_and_not_kept() {
        let elements = elements(true, vec![event("a"), Element::Ignored { rule: None }, refused(Some(json!(7)))]);
        assert!(elements.batch);
        assert_eq!((elements.entries.len(), elements.ignored.len()), (2, 1));
        let [Entry::Event { key, draft }, Entry::Refused { element, .. }] = &elements.entries[..] else { panic!() };
        assert_eq!((*key, &draft.body.bytes()[..]), (KeyId::new("s", "a"), &br#"{"key":"a"}"#[..]));
        assert_eq!(draft.priority, Priority::High);
        assert_eq!(element.as_deref(), Some(&b"7"[..]));
    }

    #[test]
    fn a_payload_that_could_not_be_split_is_no_batch() {
        assert!(!elements(true, vec![refused(None)]).batch);
        assert!(elements(true, vec![refused(Some(json!(1)))]).batch);
        assert!(!elements(false, vec![event("a")]).batch);
    }

    #[test]
    fn each_element_is_answered_by_its_own_receipt() {
        let made = vec![ignored(), event("a"), ignored(), ignored(), refused(None), event("b"), event("b"), ignored()];
        let elements = elements(true, made);
        let receipts = [(1, false), (2, false), (3, false), (3, true)];
        let receipts = receipts.map(|(id, duplicate)| Receipt::for_test(EventId(id), duplicate));
        let recorded = elements.entries.into_iter().zip(receipts);
        let recorded = recorded.map(|(entry, receipt)| Recorded { entry, receipt }).collect();
        let told: Vec<String> = replies(elements.ignored, recorded).iter().map(|(reply, _)| line(reply)).collect();
        assert_eq!(
            told,
            ["ignored", "a queued 1", "ignored", "ignored", "refused 2", "b queued 3", "b duplicate 3", "ignored"]
        );
    }

    fn ignored() -> Element {
        Element::Ignored { rule: None }
    }

    fn line(reply: &Reply) -> String {
        match reply {
            Reply::Ignored { .. } => "ignored".to_owned(),
            Reply::Refused { id, .. } => format!("refused {id}"),
            Reply::Event(event) => format!("{} {} {}", event.incident_key, event.status(), event.id),
        }
    }
}
