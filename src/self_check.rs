//! The self check: a synthetic trigger and its resolve that go the whole way again and again, as a dead man's switch.
//!
//! It is off unless the section `self_check` is there. A round begins at the start and then `every` so often:
//!
//! ```text
//! due ─▶ trigger submitted ─▶ delivered ─▶ resolve submitted ─▶ delivered ─▶ round whole ─▶ due
//!              └────────── no end within `limit`, or another end than these: the check fails ──────────┘
//! ```
//!
//! - **The whole way** begins at the rules, in this process: `inbound` decides both payloads by the rules of the source, as
//!   it decides a payload that came, and hands them to the recorder. From there they are events like any other: journal,
//!   deduplication, dispatcher, Callgoose, verdict. Not checked are the listener and the sender's token, of which the relay
//!   may know a hash only.
//! - **Nothing is left open while the relay runs.** A trigger is submitted only if the rules make a resolve with the same
//!   incident key of the other payload. Both are decided once, when the round begins, and a round is followed to its end by
//!   the settings that it began with: no reload comes between a trigger and its resolve. A resolve that the journal does
//!   not take is submitted again. Where a stop left a trigger open, that of the next round is a duplicate of it if it has
//!   the same key, and its resolve clears it away. Such a round proves nothing, counts for nothing, and is followed by
//!   another at once.
//! - **Nothing piles up.** An event that waits is followed for as long as it waits, also beyond `limit`, and no other round
//!   begins before it has ended. A dead letter of the check is discarded by it.
//! - **It presses nobody.** What the journal does not take is not submitted again before `every` has passed.
//! - **Marked.** The sender's request id in the journal is [`MARK`]; the built-in payloads have it as their key.
//!
//! This room decides, and reads no clock; `relay/self_check.rs` submits, waits and reports.

mod failure;
mod rounds;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::WallTime;
use crate::event::{Action, Draft};
use crate::lenient_json::{JsonReading, Repairs};
use crate::rules::{Context, Decision, Element, RuleSet};

pub(crate) use failure::Failure;
pub(crate) use failure::{RESULTS, SUCCESS};
pub(crate) use rounds::{Rounds, Step};

/// The `self_check` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The source by whose rules the payloads are decided.
    pub source: Arc<str>,
    /// From the beginning of one round to that of the next.
    pub every: Duration,
    /// The time that a round may take; a longer silence is a failure.
    pub limit: Duration,
    /// Payloads that the rules have to make a trigger and its resolve of. A text that is [`TIME`] stands for the time when
    /// the round began.
    pub trigger: Value,
    pub resolve: Value,
}

/// The state of the check, for `/readyz` and the status.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub source: Arc<str>,
    pub every: Duration,
    pub limit: Duration,
    /// When a round last came whole, and how long it took.
    pub last_success: Option<(WallTime, Duration)>,
    pub failing: Option<Failing>,
}

/// No round came whole since then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failing {
    pub since: WallTime,
    /// The newest.
    pub failure: Failure,
}

impl Settings {
    /// The payload for this action in the round that began at `started`.
    pub fn payload(&self, action: Action, started: WallTime) -> Value {
        let mut payload = match action {
            Action::Trigger => self.trigger.clone(),
            Action::Resolve => self.resolve.clone(),
        };
        fill_in(&mut payload, &started.rfc3339());
        payload
    }

    /// The payload where none is configured, in the shape of ServicePilot's.
    pub fn built_in(action: Action) -> Value {
        let state = match action {
            Action::Trigger => "CRITICAL",
            Action::Resolve => "OK",
        };
        json!({
            "servicepilot_event_id": MARK,
            "self_check": true,
            "state": state,
            "severity": "LOW",
            "title": "Gander self check",
            "description": "Gander sent this to see that its way to Callgoose is whole. Nothing is to be done.",
            // Callgoose takes two equal requests for one.
            "startTime": TIME,
        })
    }

    /// The events that the rules make of both payloads: a trigger and a resolve with the same key. None of them is
    /// submitted if this fails.
    pub fn drafts(&self, rules: &RuleSet, json: JsonReading, started: WallTime) -> Result<[Draft; 2], Failure> {
        let received_at = started.rfc3339();
        let context = Context { source: &self.source, received_at: &received_at, json, repairs: Repairs::NONE };
        let draft = |action| only_event(rules.decide(&self.payload(action, started), context), action);
        let (trigger, resolve) = (draft(Action::Trigger)?, draft(Action::Resolve)?);
        if trigger.incident_key != resolve.incident_key {
            let problem = format!("the trigger has the key `{}`, this another", trigger.incident_key);
            return Err(Failure::Undecided { action: Action::Resolve, problem });
        }
        Ok([trigger, resolve])
    }
}

impl Report {
    pub(crate) fn new(settings: &Settings) -> Report {
        let Settings { source, every, limit, .. } = settings;
        Report { source: Arc::clone(source), every: *every, limit: *limit, last_success: None, failing: None }
    }

    /// The report under other settings: what was found by the ones before holds until a round has ended, unless it was
    /// found with another source.
    pub(crate) fn with(self, settings: &Settings) -> Report {
        let new = Report::new(settings);
        match self.source == new.source {
            true => Report { last_success: self.last_success, failing: self.failing, ..new },
            false => new,
        }
    }

    /// True before the first round has ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.last_success.is_none() && self.failing.is_none()
    }

    /// Notes a round that came whole; returns true if those before failed.
    pub(crate) fn succeeded(&mut self, at: WallTime, took: Duration) -> bool {
        self.last_success = Some((at, took));
        self.failing.take().is_some()
    }

    /// Notes a round that failed; returns true if the one before did not, or otherwise.
    pub(crate) fn failed(&mut self, at: WallTime, failure: Failure) -> bool {
        let (since, known) = match &self.failing {
            Some(failing) => (failing.since, failing.failure.label() == failure.label()),
            None => (at, false),
        };
        self.failing = Some(Failing { since, failure });
        !known
    }
}

/// The action whose event deduplication would take for a copy, by the events of two rounds: the rules find the same
/// occurrence in both.
pub(crate) fn repeated(earlier: &[Draft; 2], later: &[Draft; 2]) -> Option<Action> {
    let mut both = earlier.iter().zip(later);
    let same = both.find(|(one, next)| one.occurrence.is_some() && one.occurrence == next.occurrence);
    same.map(|(one, _)| one.action)
}

/// The one event of a decision, if it is of this action.
fn only_event(decision: Decision, action: Action) -> Result<Draft, Failure> {
    let mut elements = decision.elements.into_iter();
    let problem = match (elements.next(), elements.next()) {
        (Some(Element::Event(draft)), None) if draft.action == action => return Ok(draft),
        (Some(Element::Event(draft)), None) => format!("the rule `{}` makes it a {}", draft.rule, draft.action),
        (Some(Element::Ignored { rule: Some(rule) }), None) => format!("the rule `{rule}` ignores it"),
        (Some(Element::Ignored { rule: None }), None) => "no rule matches it, and it is ignored".to_owned(),
        (Some(Element::Refused { violations, .. }), None) => {
            let first = violations.first().map(|first| format!(": {}: {}", first.path, first.problem));
            format!("the rules refuse it{}", first.unwrap_or_default())
        }
        _ => "the rules do not make one event of it".to_owned(),
    };
    Err(Failure::Undecided { action, problem })
}

/// Puts the time where a text asks for it.
fn fill_in(value: &mut Value, time: &str) {
    match value {
        Value::String(text) if text == TIME => *text = time.to_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(item, time)),
        Value::Object(members) => members.values_mut().for_each(|member| fill_in(member, time)),
        _ => {}
    }
}

/// The sender's request id of the check's events, and the key of the built-in payloads.
pub(crate) const MARK: &str = "gander-self-check";
/// Stands in a payload for the time when the round began.
pub(crate) const TIME: &str = "$time";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Findings, Source};

    const RULES: &str = "
version: 1
rules:
  - { name: noise, when: { path: $.state, equals: INFO }, then: ignore }
  - { name: problem, when: { path: $.state, equals: CRITICAL }, then: trigger }
  - { name: recovery, when: { path: $.state, equals: OK }, then: resolve }
incident_key: $.servicepilot_event_id
";

    fn settings(trigger: Value, resolve: Value) -> Settings {
        let (every, limit) = (Duration::from_secs(900), Duration::from_secs(300));
        Settings { source: "s".into(), every, limit, trigger, resolve }
    }

    fn drafts(settings: &Settings, rules: &str) -> Result<[Draft; 2], Failure> {
        drafts_at(settings, rules, WallTime(0))
    }

    fn drafts_at(settings: &Settings, rules: &str, started: WallTime) -> Result<[Draft; 2], Failure> {
        let source = Arc::new(Source::new("rules.yaml".to_owned(), rules.to_owned()));
        let rules = RuleSet::compile(&source, &mut Findings::new()).unwrap();
        settings.drafts(&rules, JsonReading::default(), started)
    }

    #[test]
    fn the_built_in_payloads_are_a_trigger_and_its_resolve_by_the_shipped_rules() {
        let settings = settings(Settings::built_in(Action::Trigger), Settings::built_in(Action::Resolve));
        let [trigger, resolve] = drafts(&settings, include_str!("../config/rules/servicepilot.yaml")).unwrap();
        assert_eq!((trigger.action, resolve.action), (Action::Trigger, Action::Resolve));
        assert_eq!((trigger.incident_key.as_str(), resolve.incident_key.as_str()), (MARK, MARK));
        // Two rounds never send the same text.
        assert_eq!(trigger.body.value()["startTime"], "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn no_event_is_made_unless_both_are_and_belong_together() {
        let payload = |id: &str, state: &str| json!({ "servicepilot_event_id": id, "state": state });
        for (trigger, resolve, problem) in [
            (payload("a", "OK"), payload("a", "OK"), "the trigger: the rule `recovery` makes it a resolve"),
            (payload("a", "CRITICAL"), payload("a", "INFO"), "the resolve: the rule `noise` ignores it"),
            (payload("a", "CRITICAL"), payload("b", "OK"), "the resolve: the trigger has the key `a`, this another"),
        ] {
            let failure = drafts(&settings(trigger, resolve), RULES).unwrap_err();
            assert_eq!((failure.label(), failure.detail()), ("rules", problem.to_owned()));
        }
        let failure = drafts(&settings(payload("a", "CRITICAL"), json!({ "state": "?" })), RULES).unwrap_err();
        assert!(failure.detail().starts_with("the resolve: the rules refuse it"), "{failure:?}");
    }

    #[test]
    fn the_time_is_put_in_at_any_depth_and_nowhere_else() {
        let settings = settings(json!({ "a": [TIME, "at $time"], "b": { "c": TIME } }), Value::Null);
        let time = "1970-01-01T00:00:01.000Z";
        let expected = json!({ "a": [time, "at $time"], "b": { "c": time } });
        assert_eq!(settings.payload(Action::Trigger, WallTime(1_000)), expected);
    }

    #[test]
    fn an_occurrence_that_stays_the_same_makes_a_round_a_copy_of_the_one_before() {
        let payload = |state: &str, at: &str| json!({ "servicepilot_event_id": "a", "state": state, "at": at });
        for (trigger, resolve, occurrence, expected) in [
            (TIME, TIME, "occurrence: $.at", None),
            ("noon", TIME, "occurrence: $.at", Some(Action::Trigger)),
            (TIME, "noon", "occurrence: $.at", Some(Action::Resolve)),
            // Then the key alone tells events apart.
            ("noon", "noon", "occurrence: $.elsewhere", None),
            ("noon", "noon", "", None),
        ] {
            let settings = settings(payload("CRITICAL", trigger), payload("OK", resolve));
            let rules = format!("{RULES}{occurrence}\n");
            let round = |started| drafts_at(&settings, &rules, WallTime(started)).unwrap();
            assert_eq!(repeated(&round(0), &round(1_000)), expected, "{trigger} {resolve} {occurrence}");
        }
    }

    #[test]
    fn other_settings_keep_what_was_found_with_their_source_only() {
        let before = settings(Value::Null, Value::Null);
        let mut report = Report::new(&before);
        assert!(report.is_empty());
        report.succeeded(WallTime(1), Duration::ZERO);
        report.failed(WallTime(2), Failure::Journal { action: Action::Trigger, why: "backlog" });
        let often = Settings { every: Duration::from_secs(60), ..before.clone() };
        let kept = Report { every: often.every, ..report.clone() };
        assert_eq!(report.clone().with(&often), kept);
        let elsewhere = Settings { source: "other".into(), ..before };
        assert_eq!(report.with(&elsewhere), Report::new(&elsewhere));
    }

    #[test]
    fn a_failure_is_told_since_the_first_of_its_row_and_again_when_it_is_another() {
        let failure = |why| Failure::Journal { action: Action::Trigger, why };
        let late = Failure::Timeout { action: Action::Trigger, after: Duration::from_secs(300) };
        let mut report = Report::new(&settings(Value::Null, Value::Null));
        assert!(!report.succeeded(WallTime(1), Duration::ZERO), "nothing had failed");
        assert!(report.failed(WallTime(2), failure("backlog")));
        assert!(!report.failed(WallTime(3), failure("disk_full")), "one kind, told once");
        assert!(report.failed(WallTime(4), late.clone()));
        assert_eq!(report.failing, Some(Failing { since: WallTime(2), failure: late }));
        assert!(report.succeeded(WallTime(5), Duration::ZERO));
        assert_eq!((report.failing, report.last_success), (None, Some((WallTime(5), Duration::ZERO))));
    }
}
