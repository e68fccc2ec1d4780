//! Confirmations: what an outgoing webhook of Callgoose says of an incident, and which event that is about.
//!
//! Callgoose does not document the body of these webhooks. So the configuration names where a body has the incident key
//! and the word for what happened; without that, names and words are tried that incident tools use.

use std::sync::Arc;

use serde_json::Value;

use crate::event::{Action, EventId};
use crate::rules::KeyElsewhere;
use crate::rules::budget::Budget;
use crate::rules::path::{JsonPath, Scope};

/// The places of what is read in a confirmation.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// None: [`KEY_NAMES`] are tried.
    pub incident_key: Option<KeyElsewhere>,
    /// None: [`ACTION_NAMES`] are tried.
    pub action: Option<ActionAt>,
    /// The only source whose incidents are confirmed; none: any.
    pub source: Option<Arc<str>>,
}

/// The word for what happened.
#[derive(Clone, Debug)]
pub struct ActionAt {
    pub path: JsonPath,
    pub opened: Vec<String>,
    pub closed: Vec<String>,
}

/// An incident was opened, or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IncidentAction {
    Opened,
    Closed,
}

/// A confirmation as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// None: its shape is not known.
    pub incident_key: Option<String>,
    /// None: the incident was neither opened nor closed, such as when somebody acknowledged it; or the word is not known.
    pub action: Option<IncidentAction>,
}

/// The result of a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// It is about an event that is kept.
    Matched,
    /// It has a key, and no event of that key is kept.
    Unmatched,
    /// No key was found in it.
    UnknownShape,
}

/// An event of the key that a confirmation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub id: EventId,
    pub action: Action,
    /// A confirmation of its opening came before.
    pub opened: bool,
    /// One of its closing.
    pub closed: bool,
}

impl Shape {
    /// Reads a payload; what is not found is none.
    pub fn read(&self, payload: &Value) -> Told {
        let budget = Budget::new(STEPS_MAX);
        let incident_key = match &self.incident_key {
            Some(key) => key.find(payload, &budget),
            None => KEY_NAMES.iter().find_map(|name| named(payload, name, DEPTH_MAX)).map(str::to_owned),
        };
        let action = match &self.action {
            Some(action) => action.read(payload, &budget),
            None => ACTION_NAMES.iter().find_map(|name| usual(named(payload, name, DEPTH_MAX)?)),
        };
        Told { incident_key: incident_key.filter(|key| key.len() <= KEY_BYTES_MAX), action }
    }
}

impl ActionAt {
    fn read(&self, payload: &Value, budget: &Budget) -> Option<IncidentAction> {
        let found = match self.path.first(Scope { element: payload, root: payload, budget })? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let is_of = |words: &[String]| words.iter().any(|word| word.eq_ignore_ascii_case(found.trim()));
        match () {
            () if is_of(&self.opened) => Some(IncidentAction::Opened),
            () if is_of(&self.closed) => Some(IncidentAction::Closed),
            () => None,
        }
    }
}

impl IncidentAction {
    pub fn as_str(self) -> &'static str {
        match self {
            IncidentAction::Opened => "opened",
            IncidentAction::Closed => "closed",
        }
    }
}

impl Relation {
    pub const ALL: [Relation; 3] = [Relation::Matched, Relation::Unmatched, Relation::UnknownShape];

    pub fn of(told: &Told, event: Option<EventId>) -> Relation {
        match (event, &told.incident_key) {
            (Some(_), _) => Relation::Matched,
            (None, Some(_)) => Relation::Unmatched,
            (None, None) => Relation::UnknownShape,
        }
    }

    /// The word for the API, the metric and the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Relation::Matched => "matched",
            Relation::Unmatched => "unmatched",
            Relation::UnknownShape => "unknown_shape",
        }
    }
}

/// The event that a confirmation is about, among those of its key, newest first. They are looked at one by one, since
/// reading them costs something.
///
/// An opening is about the newest trigger. A closing is about the newest resolve that has none yet; where the incident was
/// opened after that, or there is none, a person closed it, and it is about the newest event.
pub(crate) fn relate<E>(
    action: Option<IncidentAction>,
    newest_first: impl IntoIterator<Item = Result<Candidate, E>>,
) -> Result<Option<EventId>, E> {
    let mut newest = None;
    for candidate in newest_first {
        let Candidate { id, action: of, opened, closed } = candidate?;
        newest.get_or_insert(id);
        match (action, of) {
            (Some(IncidentAction::Opened), Action::Trigger) => return Ok(Some(id)),
            (Some(IncidentAction::Closed), Action::Resolve) if !closed => return Ok(Some(id)),
            (Some(IncidentAction::Closed), Action::Trigger) if opened => break,
            (None, _) => break,
            _ => {}
        }
    }
    Ok(newest)
}

/// The text of a member of this name: of the object itself, else of the first of its members that has one, a few levels
/// deep.
fn named<'v>(value: &'v Value, name: &str, depth: usize) -> Option<&'v str> {
    let members = value.as_object()?;
    if let Some(text) = members.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty()) {
        return Some(text);
    }
    if depth == 0 {
        return None;
    }
    members.values().find_map(|member| named(member, name, depth - 1))
}

/// The usual meaning of a word such as `incident.triggered` or `Incident Resolved`: that of its last part.
fn usual(word: &str) -> Option<IncidentAction> {
    let last = word.split(|c: char| !c.is_ascii_alphanumeric()).rfind(|part| !part.is_empty())?.to_ascii_lowercase();
    match last.as_str() {
        "opened" | "open" | "created" | "create" | "triggered" | "trigger" => Some(IncidentAction::Opened),
        "closed" | "close" | "resolved" | "resolve" => Some(IncidentAction::Closed),
        _ => None,
    }
}

/// Members that may have the incident key: the one that the shipped filters map incidents with, and what others call it.
pub(crate) const KEY_NAMES: [&str; 4] = ["servicepilot_event_id", "incident_key", "mapped_with", "dedup_key"];
/// Members that may tell what happened.
const ACTION_NAMES: [&str; 6] = ["event", "event_type", "type", "action", "status", "state"];
/// The levels of a payload that are searched for a name: beside it, in `incident`, in `data.incident`.
const DEPTH_MAX: usize = 3;
/// As long as an incident key may be.
const KEY_BYTES_MAX: usize = 512;
const STEPS_MAX: u64 = 100_000;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;
    use crate::yaml::{Findings, Source, parse};

    fn told(key: Option<&str>, action: Option<IncidentAction>) -> Told {
        Told { incident_key: key.map(str::to_owned), action }
    }

    const OPENED: Option<IncidentAction> = Some(IncidentAction::Opened);
    const CLOSED: Option<IncidentAction> = Some(IncidentAction::Closed);

    #[test]
    fn without_paths_usual_names_and_words_are_tried() {
        let shape = Shape::default();
        for (payload, expected) in [
            (json!({"event": "incident.opened", "incident": {"mapped_with": "e1"}}), told(Some("e1"), OPENED)),
            (
                json!({"type": "Incident Resolved", "data": {"incident": {"incident_key": "e1"}}}),
                told(Some("e1"), CLOSED),
            ),
            (json!({"servicepilot_event_id": "e1", "state": "OPEN"}), told(Some("e1"), OPENED)),
            // The first name that has a word counts, not the first name that is there.
            (json!({"event": {"type": "incident_closed"}, "dedup_key": "e1"}), told(Some("e1"), CLOSED)),
            (json!({"event": "incident.acknowledged", "incident_key": "e1"}), told(Some("e1"), None)),
            // Of several names the one that the shipped filters map with.
            (json!({"incident_key": "other", "a": {"servicepilot_event_id": "e1"}}), told(Some("e1"), None)),
            (json!({"event": "incident.opened", "incident": {"id": 7, "title": "CPU"}}), told(None, OPENED)),
            (json!({"a": {"b": {"c": {"d": {"incident_key": "too deep"}}}}}), told(None, None)),
            (json!({"incident_key": " ", "event": 7}), told(None, None)),
            (json!({"incident_key": "k".repeat(513)}), told(None, None)),
            (json!(["incident.opened"]), told(None, None)),
            (json!("opened"), told(None, None)),
        ] {
            assert_eq!(shape.read(&payload), expected, "{payload}");
        }
    }

    #[test]
    fn configured_paths_are_the_only_ones() {
        let mut findings = Findings::new();
        let source = Arc::new(Source::new("key".into(), r"{ path: $.text, capture: '\[(\S+)\]' }".into()));
        let key = KeyElsewhere::read(&parse(&source, &mut findings).unwrap(), "", &mut findings).unwrap();
        let action = ActionAt {
            path: JsonPath::parse("$.code").unwrap(),
            opened: vec!["1".into(), "Raised".into()],
            closed: vec!["2".into(), "true".into()],
        };
        let shape = Shape { incident_key: Some(key), action: Some(action), source: None };
        for (payload, expected) in [
            (json!({"text": "CPU [e1]", "code": 1}), told(Some("e1"), OPENED)),
            (json!({"text": "CPU [e1]", "code": "RAISED "}), told(Some("e1"), OPENED)),
            (json!({"text": "CPU [e1]", "code": true}), told(Some("e1"), CLOSED)),
            (json!({"text": "CPU [e1]", "code": "opened"}), told(Some("e1"), None)),
            (json!({"text": "CPU", "incident_key": "e1", "event": "opened"}), told(None, None)),
            (json!({"text": "CPU [<%id%>]"}), told(None, None)),
        ] {
            assert_eq!(shape.read(&payload), expected, "{payload}");
        }
    }

    #[test]
    fn a_confirmation_is_about_the_event_that_led_to_it() {
        let trigger = |id, opened| Candidate { id: EventId(id), action: Action::Trigger, opened, closed: false };
        let resolve = |id, closed| Candidate { id: EventId(id), action: Action::Resolve, opened: false, closed };
        for (claim, action, newest_first, expected) in [
            ("the only trigger", OPENED, vec![trigger(1, false)], Some(1)),
            (
                "the trigger before a resolve that came at once",
                OPENED,
                vec![resolve(2, false), trigger(1, false)],
                Some(1),
            ),
            ("the newest trigger", OPENED, vec![trigger(3, false), resolve(2, true), trigger(1, true)], Some(3)),
            ("a webhook that came twice", OPENED, vec![trigger(1, true)], Some(1)),
            ("no trigger is kept", OPENED, vec![resolve(2, false)], Some(2)),
            ("the resolve", CLOSED, vec![resolve(2, false), trigger(1, true)], Some(2)),
            (
                "the resolve before a trigger that came at once",
                CLOSED,
                vec![trigger(3, false), resolve(2, false)],
                Some(2),
            ),
            ("a person closed it", CLOSED, vec![trigger(1, true)], Some(1)),
            ("an opening was never told", CLOSED, vec![trigger(1, false)], Some(1)),
            (
                "a person closed what was opened again",
                CLOSED,
                vec![trigger(3, true), resolve(2, false), trigger(1, true)],
                Some(3),
            ),
            ("another resolve has one", CLOSED, vec![resolve(3, true), resolve(2, false), trigger(1, true)], Some(2)),
            ("each resolve has one", CLOSED, vec![resolve(4, true), trigger(3, true), resolve(2, false)], Some(4)),
            ("something else", None, vec![trigger(3, true), resolve(2, false)], Some(3)),
            ("no event of the key", OPENED, vec![], None),
        ] {
            let found = relate(action, newest_first.into_iter().map(Ok::<_, Infallible>));
            assert_eq!(found, Ok(expected.map(EventId)), "{claim}");
        }
    }
}
