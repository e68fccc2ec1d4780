//! The state of the stand-in and its judgement of a call: filters, open incidents, repeated calls.
//!
//! Pure: the time is passed in, so that `gander test` and tables can play hours. Where Callgoose's documentation is
//! silent, this was chosen:
//!
//! - a call repeats another when body and `from` are equal byte for byte within the window, and the first one opened or
//!   closed something: a call without effect may be tried again;
//! - a repeated call is answered 200 with `duplicate` set in the parts whose filters match it;
//! - a trigger for an open incident only increases its count of repeats and is answered as a duplicate: no second
//!   incident;
//! - a trigger whose mapped value is missing opens an incident each time, and no resolve finds any of them;
//! - a body that matches both filters of a service opens first and closes then, so that careless filters show.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use aws_lc_rs::digest::{Context, SHA256};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::effect::{Effect, Happened};
use crate::callgoose::filters::{Closing, Filters, Match, Miss, Opening};
use crate::clock::{Monotonic, Now, WallTime};

/// The state of the stand-in.
#[derive(Debug)]
pub(crate) struct Callgoose {
    filters: Filters,
    window: Duration,
    calls: u64,
    incidents: BTreeMap<u64, Incident>,
    /// The open incidents by service and mapped value.
    open: HashMap<(Arc<str>, String), u64>,
    /// The time of each effective call in the window, and the same in order of time.
    seen: HashMap<CallHash, Monotonic>,
    seen_order: VecDeque<(Monotonic, CallHash)>,
}

/// One authenticated call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The raw body; empty if Callgoose does not read its content type.
    pub body: &'a [u8],
    pub from: Option<&'a str>,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SandboxAnswer {
    #[serde(skip)]
    pub status: StatusCode,
    pub id: String,
    pub resolved: ResolvedPart,
    pub triggered: TriggeredPart,
    /// Its effect, for those who watch the stand-in.
    #[serde(skip)]
    pub effects: Vec<Effect>,
    /// The filters that were asked in vain, if none matched.
    #[serde(skip)]
    pub misses: Vec<Miss>,
    /// The reason why there was nothing to ask filters about, if there was none.
    #[serde(skip)]
    pub unread: Option<Unread>,
}

/// A body that has no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Also where its type is one that Callgoose does not read.
    Empty,
    NotJson,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ResolvedPart {
    pub duplicate: bool,
    pub resolved: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct TriggeredPart {
    pub duplicate: bool,
    pub created: bool,
}

/// An incident as `GET /incidents` shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Incident {
    pub id: u64,
    #[serde(serialize_with = "text")]
    pub service: Arc<str>,
    pub title: String,
    pub description: String,
    #[serde(serialize_with = "text")]
    pub urgency: Arc<str>,
    /// The value it is mapped with.
    pub key: Option<String>,
    pub state: IncidentState,
    /// The number of triggers while it was open.
    pub repeats: u64,
    #[serde(serialize_with = "rfc3339")]
    pub opened_at: WallTime,
    #[serde(serialize_with = "rfc3339_or_null")]
    pub resolved_at: Option<WallTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IncidentState {
    Open,
    Resolved,
}

type CallHash = [u8; 32];

impl Callgoose {
    pub(crate) fn new(filters: Filters, window: Duration) -> Callgoose {
        Callgoose {
            filters,
            window,
            calls: 0,
            incidents: BTreeMap::new(),
            open: HashMap::new(),
            seen: HashMap::new(),
            seen_order: VecDeque::new(),
        }
    }

    /// All remembered incidents, newest last.
    pub(crate) fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    /// Judges a call.
    pub(crate) fn process(&mut self, call: Call<'_>, now: Now) -> SandboxAnswer {
        self.calls += 1;
        let id = format!("call-{}", self.calls);
        let mut answer = SandboxAnswer {
            status: StatusCode::ACCEPTED,
            id,
            resolved: ResolvedPart::default(),
            triggered: TriggeredPart::default(),
            effects: Vec::new(),
            misses: Vec::new(),
            unread: None,
        };
        // A body that is no JSON has no keys, so no filter matches it.
        let body = serde_json::from_slice(call.body).unwrap_or_else(|_| {
            answer.unread = Some(if call.body.is_empty() { Unread::Empty } else { Unread::NotJson });
            Value::Null
        });
        let matched = self.filters.evaluate(&body, call.from);
        if matched.is_empty() {
            answer.misses = matched.misses;
            return answer;
        }
        answer.status = StatusCode::OK;
        self.forget_calls_before(now.monotonic);
        let hash = call.hash();
        if self.seen.contains_key(&hash) {
            answer.triggered.duplicate = matched.opens();
            answer.resolved.duplicate = matched.closes();
            answer.effects = repeated(matched);
            return answer;
        }
        for service in matched.services {
            if let Some(opening) = service.trigger {
                let effect = self.open(&service.service, opening, now.wall);
                answer.triggered.created |= matches!(effect.happened, Happened::Created(_));
                answer.triggered.duplicate |= matches!(effect.happened, Happened::StillOpen(_));
                answer.effects.push(effect);
            }
            if let Some(closing) = service.resolve {
                let effect = self.close(&service.service, closing, now.wall);
                answer.resolved.resolved |= matches!(effect.happened, Happened::Resolved(_));
                answer.effects.push(effect);
            }
        }
        if answer.triggered.created {
            answer.status = StatusCode::CREATED;
        }
        if answer.triggered.created || answer.resolved.resolved {
            self.remember_call(hash, now.monotonic);
        }
        answer
    }

    fn open(&mut self, service: &Arc<str>, opening: Opening, at: WallTime) -> Effect {
        let mut effect = Effect::of_opening(service, &opening);
        let mapped = opening.key.clone().map(|key| (Arc::clone(service), key));
        if let Some(incident) = mapped.as_ref().and_then(|m| self.open.get(m)).and_then(|id| self.incidents.get_mut(id))
        {
            incident.repeats += 1;
            effect.happened = Happened::StillOpen(incident.id);
            return effect;
        }
        self.make_room();
        let id = self.incidents.last_key_value().map_or(1, |(id, _)| id + 1);
        self.incidents.insert(
            id,
            Incident {
                id,
                service: Arc::clone(service),
                title: opening.title.chars().take(TITLE_CHARS_MAX).collect(),
                description: opening.description.chars().take(DESCRIPTION_CHARS_MAX).collect(),
                urgency: opening.urgency,
                key: opening.key,
                state: IncidentState::Open,
                repeats: 0,
                opened_at: at,
                resolved_at: None,
            },
        );
        if let Some(mapped) = mapped {
            self.open.insert(mapped, id);
        }
        effect.happened = Happened::Created(id);
        effect
    }

    fn close(&mut self, service: &Arc<str>, closing: Closing, at: WallTime) -> Effect {
        let mut effect = Effect::of_closing(service, &closing);
        let open = closing.key.and_then(|key| self.open.remove(&(Arc::clone(service), key)));
        if let Some(incident) = open.and_then(|id| self.incidents.get_mut(&id)) {
            incident.state = IncidentState::Resolved;
            incident.resolved_at = Some(at);
            effect.happened = Happened::Resolved(incident.id);
        }
        effect
    }

    /// Drops the oldest resolved incident, or the oldest of all, if one more would be too many.
    fn make_room(&mut self) {
        if self.incidents.len() < INCIDENTS_MAX {
            return;
        }
        let resolved = self.incidents.values().find(|incident| incident.state == IncidentState::Resolved);
        let Some(id) = resolved.or(self.incidents.values().next()).map(|incident| incident.id) else { return };
        if let Some(Incident { service, key: Some(key), state: IncidentState::Open, .. }) = self.incidents.remove(&id) {
            self.open.remove(&(service, key));
        }
    }

    fn remember_call(&mut self, hash: CallHash, at: Monotonic) {
        if self.seen_order.len() >= CALLS_MAX
            && let Some((_, oldest)) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.seen.insert(hash, at);
        self.seen_order.push_back((at, hash));
    }

    fn forget_calls_before(&mut self, now: Monotonic) {
        while let Some((at, hash)) = self.seen_order.front().copied() {
            if now.since(at) < self.window {
                return;
            }
            self.seen_order.pop_front();
            self.seen.remove(&hash);
        }
    }
}

impl Call<'_> {
    fn hash(&self) -> CallHash {
        let mut context = Context::new(&SHA256);
        // The length separates `from` and body.
        let from = self.from.unwrap_or_default();
        context.update(&from.len().to_be_bytes());
        context.update(from.as_bytes());
        context.update(self.body);
        let mut hash = CallHash::default();
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

/// The effects of a call that repeats another: none but to be noticed.
fn repeated(matched: Match) -> Vec<Effect> {
    let noticed = |mut effect: Effect| {
        effect.happened = Happened::RepeatedCall;
        effect
    };
    let of = |service: &Arc<str>, trigger: Option<Opening>, resolve: Option<Closing>| {
        let opened = trigger.map(|opening| Effect::of_opening(service, &opening));
        let closed = resolve.map(|closing| Effect::of_closing(service, &closing));
        [opened, closed].into_iter().flatten().map(noticed).collect::<Vec<_>>()
    };
    matched.services.into_iter().flat_map(|service| of(&service.service, service.trigger, service.resolve)).collect()
}

fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn rfc3339<S: Serializer>(at: &WallTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.rfc3339())
}

fn rfc3339_or_null<S: Serializer>(at: &Option<WallTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(WallTime::rfc3339).serialize(serializer)
}

/// The limit of remembered incidents; with the limits below some 25 MB at most for ASCII texts.
const INCIDENTS_MAX: usize = 10_000;
const TITLE_CHARS_MAX: usize = 500;
const DESCRIPTION_CHARS_MAX: usize = 2_000;
/// The limit of remembered calls in the duplicate window; the oldest are dropped.
const CALLS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Findings, Source};

    const WINDOW: Duration = Duration::from_secs(5);

    fn callgoose() -> Callgoose {
        let text = "
services:
  - name: payments
    trigger:
      - urgency: high
        keys: [{ key: state, contains: [CRITICAL] }]
        title_from: title
        description_from: description
        map_incident_with: id
    resolve: { keys: [{ key: state, contains: [OK] }], incident_mapped_with: id }
  - name: night shift
    trigger:
      - urgency: low
        keys: [{ key: severity, contains: [night] }]
        map_incident_with: id
";
        let mut findings = Findings::new();
        let source = Arc::new(Source::new("filters.yaml".into(), text.into()));
        let filters = Filters::read(&source, &mut findings).unwrap_or_else(|| panic!("{}", findings.render(false)));
        Callgoose::new(filters, WINDOW)
    }

    fn at(millis: i64) -> Now {
        Now { monotonic: Monotonic(millis), wall: WallTime(1_700_000_000_000 + millis) }
    }

    /// The answer's status, with the names of its true members.
    fn told(answer: &SandboxAnswer) -> String {
        let flags = [
            (answer.triggered.created, "created"),
            (answer.triggered.duplicate, "trigger duplicate"),
            (answer.resolved.resolved, "resolved"),
            (answer.resolved.duplicate, "resolve duplicate"),
        ];
        let set: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        format!("{} {}", answer.status.as_u16(), set.join(", ")).trim_end().to_owned()
    }

    /// Plays calls of (milliseconds, body) and checks every answer.
    fn play(calls: &[(i64, &str, &str)]) -> Callgoose {
        let mut callgoose = callgoose();
        for (millis, body, expected) in calls {
            let answer = callgoose.process(Call { body: body.as_bytes(), from: None }, at(*millis));
            assert_eq!(told(&answer), *expected, "{body} at {millis} ms");
        }
        callgoose
    }

    fn states(callgoose: &Callgoose) -> Vec<IncidentState> {
        callgoose.incidents().map(|incident| incident.state).collect()
    }

    const T1: &str = r#"{"id":"e1","state":"CRITICAL"}"#;
    const R1: &str = r#"{"id":"e1","state":"OK"}"#;
    const R2: &str = r#"{"id":"e2","state":"OK"}"#;

    #[test]
    fn a_trigger_opens_an_incident_and_its_resolve_closes_it() {
        let callgoose = play(&[(0, T1, "201 created"), (2_000, R1, "200 resolved")]);
        let incident = callgoose.incidents().next().unwrap();
        assert_eq!(incident.state, IncidentState::Resolved);
        assert_eq!(incident.resolved_at.unwrap().since(incident.opened_at), Duration::from_secs(2));
    }

    #[test]
    fn what_no_filter_matches_is_202_and_opens_nothing() {
        let callgoose = play(&[
            (0, r#"{"id":"e1","state":"UNKNOWN"}"#, "202"),
            (1, "", "202"),
            (2, "{broken", "202"),
            (3, "[]", "202"),
        ]);
        assert_eq!(callgoose.incidents().count(), 0);
    }

    #[test]
    fn a_resolve_without_an_open_incident_resolves_nothing() {
        play(&[(0, R1, "200"), (1, T1, "201 created"), (2, R2, "200"), (3, R1, "200 resolved"), (9_000, R1, "200")]);
    }

    #[test]
    fn the_same_body_is_a_duplicate_within_the_window_and_not_after_it() {
        let callgoose = play(&[
            (0, T1, "201 created"),
            (4_999, T1, "200 trigger duplicate"),
            (4_999, R1, "200 resolved"),
            (5_000, T1, "201 created"),
            (9_998, R1, "200 resolve duplicate"),
            (9_999, R1, "200 resolved"),
        ]);
        assert_eq!(states(&callgoose), [IncidentState::Resolved, IncidentState::Resolved]);
    }

    #[test]
    fn a_call_without_effect_may_be_tried_again_at_once() {
        play(&[(0, R1, "200"), (1, T1, "201 created"), (2, R1, "200 resolved")]);
    }

    #[test]
    fn the_same_body_from_somebody_else_is_no_repeated_call() {
        let mut callgoose = callgoose();
        let body = br#"{"state":"CRITICAL"}"#;
        for (from, expected) in
            [(Some("a"), "201 created"), (Some("b"), "201 created"), (Some("a"), "200 trigger duplicate")]
        {
            assert_eq!(told(&callgoose.process(Call { body, from }, at(0))), expected);
        }
    }

    #[test]
    fn another_trigger_for_an_open_incident_opens_no_second_one() {
        let callgoose =
            play(&[(0, T1, "201 created"), (1, r#"{"id":"e1","state":"CRITICAL","n":2}"#, "200 trigger duplicate")]);
        assert_eq!(callgoose.incidents().map(|incident| incident.repeats).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn unmapped_incidents_are_opened_each_time_and_never_closed() {
        let callgoose = play(&[
            (0, r#"{"state":"CRITICAL","n":1}"#, "201 created"),
            (1, r#"{"state":"CRITICAL","n":2}"#, "201 created"),
            (2, r#"{"state":"OK"}"#, "200"),
        ]);
        assert_eq!(states(&callgoose), [IncidentState::Open, IncidentState::Open]);
    }

    #[test]
    fn one_call_may_open_incidents_in_several_services_and_close_in_one() {
        let callgoose = play(&[
            (0, r#"{"id":"e1","state":"CRITICAL","severity":"night"}"#, "201 created"),
            (1, R1, "200 resolved"),
            (2, r#"{"id":"e1","state":"OK","severity":"night"}"#, "200 trigger duplicate"),
        ]);
        assert_eq!(states(&callgoose), [IncidentState::Resolved, IncidentState::Open]);
    }

    #[test]
    fn a_body_that_matches_both_filters_opens_and_closes() {
        let callgoose = play(&[(0, r#"{"id":"e1","state":"CRITICAL, then OK"}"#, "201 created, resolved")]);
        assert_eq!(states(&callgoose), [IncidentState::Resolved]);
    }

    #[test]
    fn memory_is_bounded_and_resolved_incidents_go_first() {
        let mut callgoose = callgoose();
        let mut process = |body: String| {
            callgoose.process(Call { body: body.as_bytes(), from: None }, at(0));
        };
        for n in 0..INCIDENTS_MAX {
            process(format!(r#"{{"id":"{n}","state":"CRITICAL","title":"{}"}}"#, "t".repeat(TITLE_CHARS_MAX + 1)));
        }
        process(r#"{"id":"7","state":"OK"}"#.into());
        for n in ["a", "b"] {
            process(format!(r#"{{"id":"{n}","state":"CRITICAL"}}"#));
        }
        assert_eq!(callgoose.incidents.len(), INCIDENTS_MAX);
        assert_eq!(callgoose.open.len(), INCIDENTS_MAX);
        let first: Vec<u64> = callgoose.incidents().map(|incident| incident.id).take(7).collect();
        assert_eq!(first, [2, 3, 4, 5, 6, 7, 9], "8 was resolved and went first, then 1, the oldest");
        assert!(callgoose.incidents().all(|incident| incident.title.chars().count() <= TITLE_CHARS_MAX));
    }

    #[test]
    fn repeated_calls_are_remembered_up_to_a_limit() {
        let mut callgoose = callgoose();
        for n in 0..=CALLS_MAX {
            let mut hash = CallHash::default();
            hash[..8].copy_from_slice(&n.to_be_bytes());
            callgoose.remember_call(hash, Monotonic(0));
        }
        assert_eq!((callgoose.seen.len(), callgoose.seen_order.len()), (CALLS_MAX, CALLS_MAX));
    }
}
