//! Random requests: what is decided of them is written, read back, and is the state that was.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::decide::{Accepted, Owed};
use super::dedup::{Arrival, Dedup, KeyState, Settings};
use super::recorder::core::{Core, Due};
use super::request::{
    AttemptRecord, Command, CommandOrigin, Commanded, Declined, Entry, Request, Settle, ShadowDifferences, StoredRetry,
    Submission, Unavailable,
};
use super::state::{RecorderState, restore_key};
use super::{Config, Found, Journal, Limits, Lock, Shares};
use crate::clock::{Monotonic, Now, WallTime};
use crate::event::{
    Action, Body, Draft, EventId, HoldTarget, KeyId, Occurrence, Outcome, Priority, Settlement, SourceNames, State,
    Superseded, UpdateHash,
};

const KEYS: u8 = 4;
const SETTINGS: Settings = Settings { window: Duration::from_secs(600), remind: true, max_keys: 3 };

/// One request, before it is known which events there are.
#[derive(Clone, Debug)]
enum Step {
    Record(Vec<(u8, bool, u64, Option<u8>)>),
    Refuse,
    Settle { which: usize, state: State, outcome: Option<Outcome> },
    Attempt { which: usize },
    Command { which: usize, command: Command },
    Hold { key: u8, held: bool },
    Differ { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let entry = (0..KEYS, any::<bool>(), 0..2_u64, proptest::option::of(0..3_u8));
    let end = prop_oneof![
        3 => Just((State::Delivered, Some(Outcome::Created))),
        1 => Just((State::Delivered, Some(Outcome::Unmatched))),
        1 => Just((State::Dead, None)),
        1 => Just((State::Ended, None)),
    ];
    let command = prop_oneof![
        Just(Command::Replay { force: false }),
        Just(Command::Replay { force: true }),
        Just(Command::Discard)
    ];
    prop_oneof![
        6 => proptest::collection::vec(entry, 1..4).prop_map(Step::Record),
        1 => Just(Step::Refuse),
        5 => (any::<prop::sample::Index>(), end)
            .prop_map(|(which, (state, outcome))| Step::Settle { which: which.index(50), state, outcome }),
        1 => (0..50_usize).prop_map(|which| Step::Attempt { which }),
        3 => (0..50_usize, command).prop_map(|(which, command)| Step::Command { which, command }),
        1 => (0..KEYS, any::<bool>()).prop_map(|(key, held)| Step::Hold { key, held }),
        1 => (0..50_usize).prop_map(|which| Step::Differ { which }),
    ]
}

fn config(directory: &Path) -> Config {
    Config {
        data_dir: directory.to_owned(),
        max_events: 30,
        max_bytes: 1 << 20,
        keep_delivered: Duration::from_secs(60),
        keep_refused: 3,
        shares: Shares::default(),
        reserve: None,
    }
}

fn request(step: &Step, taken: &[(EventId, KeyId)]) -> Option<Request> {
    let event = |which: usize| taken.get(which % taken.len().max(1)).copied();
    let origin = || Arc::new(CommandOrigin { request_id: "01COMMAND".into(), by: "test".into(), selection: None });
    let submission = |entries| Submission {
        source: "servicepilot".into(),
        request_id: "01REQUEST".into(),
        sender_request_id: None,
        trace: None,
        received_at: WallTime(1),
        raw: Bytes::from_static(b"{}"),
        charset: None,
        entries,
        wait_for_settlement: false,
        earlier: Arc::default(),
    };
    Some(match step {
        Step::Record(entries) => Request::Record(submission(entries.iter().map(entry).collect())),
        Step::Refuse => {
            let refused = Entry::Refused { element: None, reason: "not_json", violations: Vec::new() };
            Request::Record(submission(vec![refused]))
        }
        Step::Settle { which, state, outcome } => {
            let (id, key) = event(*which)?;
            let (state, outcome) = (*state, *outcome);
            let settlement = Settlement { id, state, outcome, reason: None, attempts: 1, at: WallTime(2) };
            Request::Settle(Settle { attempt: None, settlement, key, awaited: false, commanded: None })
        }
        Step::Attempt { which } => {
            let attempt = AttemptRecord {
                event: event(*which)?.0,
                number: 1,
                started_at: WallTime(1),
                took: Duration::ZERO,
                result: "connect",
                status: None,
                detail: None,
                answer: Vec::new(),
            };
            let retry = StoredRetry { attempts: 1, age: Duration::ZERO, retry_at: WallTime(9), asked: None };
            Request::Attempt(attempt, retry)
        }
        Step::Command { which, command } => {
            Request::Command { command: *command, ids: vec![event(*which)?.0], origin: origin() }
        }
        Step::Hold { key, held } => {
            let target = HoldTarget { source: "servicepilot".into(), incident_key: Some(key.to_string().into()) };
            Request::Hold { target, held: *held, origin: origin() }
        }
        Step::Differ { which } => {
            Request::Differ(vec![ShadowDifferences { event: event(*which)?.0, differences: "[]".to_owned() }])
        }
    })
}

fn entry((key, trigger, update, occurrence): &(u8, bool, u64, Option<u8>)) -> Entry {
    let draft = Draft {
        action: if *trigger { Action::Trigger } else { Action::Resolve },
        rule: "rule".into(),
        incident_key: key.to_string(),
        occurrence: occurrence.map(|one| Occurrence(format!("[{one}]").into())),
        update: UpdateHash(*update),
        priority: Priority::Normal,
        body: Body::of(key),
    };
    Entry::Event { key: key_id(*key), draft }
}

fn key_id(key: u8) -> KeyId {
    KeyId::new("servicepilot", &key.to_string())
}

/// The states of all keys.
fn keys(dedup: &Dedup, now: Now) -> Vec<Option<KeyState>> {
    let arrival = |key| Arrival { key: key_id(key), action: Action::Trigger, update: UpdateHash(0), occurrence: None };
    (0..KEYS).flat_map(|key| dedup.preview([arrival(key)], now)).map(|preview| preview.known).collect()
}

/// A journal with the recorder's core, without its thread.
struct Fixture {
    journal: Journal,
    core: Core,
    now: Now,
    taken: Vec<(EventId, KeyId)>,
    ended: BTreeSet<EventId>,
    _lock: Lock,
}

impl Fixture {
    fn open(directory: &Path) -> Fixture {
        let lock = Lock::take(directory).unwrap();
        let config = config(directory);
        let mut journal = Journal::open(&config, &lock, WallTime(1)).unwrap();
        journal.restore(|_| {}).unwrap();
        let state = RecorderState::new(Dedup::new(SETTINGS), Vec::new(), config.limits());
        let core = Core::new(state, Superseded::End, Arc::new(SourceNames::default()), EventId(0));
        let now = Now { monotonic: Monotonic(1_000), wall: WallTime(1_700_000_000_000) };
        Fixture { journal, core, now, taken: Vec::new(), ended: BTreeSet::new(), _lock: lock }
    }

    /// Decides a batch, and writes it. Returns the new events.
    fn turn(&mut self, steps: &[Step]) -> Vec<Accepted> {
        self.decide(steps).accepted
    }

    /// The same; returns all that is due.
    fn decide(&mut self, steps: &[Step]) -> Due {
        let requests = steps.iter().filter_map(|step| request(step, &self.taken));
        // The dispatcher settles an event once.
        let ended = &mut self.ended;
        let requests = requests.filter(|request| match request {
            Request::Settle(settle) => ended.insert(settle.settlement.id),
            _ => true,
        });
        let requests: Vec<Request> = requests.collect();
        let mut batch = self.journal.begin().unwrap();
        let space = batch.space().unwrap();
        self.core.state.room = batch.room(space, false);
        let known = batch.look_up(requests.iter(), &self.core.state, true).unwrap();
        let (facts, due) = self.core.decide(&known, requests.iter(), self.now);
        batch.apply(&facts).unwrap();
        batch.commit().unwrap();
        assert!(due.owed.iter().all(|owed| !matches!(owed, Owed::Tally)));
        self.taken.extend(due.accepted.iter().map(|accepted| (accepted.event.id, accepted.event.key)));
        self.now = Now { monotonic: Monotonic(self.now.monotonic.0 + 10), wall: WallTime(self.now.wall.0 + 10) };
        // What is counted while a batch is decided is never less than what it then takes.
        let (counted, taken) = (self.core.state.room.totals.all, self.journal.totals());
        assert!(counted.queued >= taken.queued && counted.dead + counted.queued >= taken.dead + taken.queued);
        due
    }

    /// The state that a start would restore.
    fn restored(&mut self) -> Dedup {
        let (mut dedup, now) = (Dedup::new(SETTINGS), self.now);
        let restored = self.journal.restore(|found| match found {
            Found::Event(event) => restore_key(&mut dedup, &event, now),
            Found::Damaged(id) => panic!("event {id} is damaged"),
        });
        assert!(restored.unwrap().is_empty());
        dedup
    }
}

fn command(which: usize, command: Command) -> Step {
    Step::Command { which, command }
}

const REPLAY: Command = Command::Replay { force: false };

fn commanded(owed: &[Owed]) -> Vec<&Commanded> {
    owed.iter().flat_map(|owed| if let Owed::Commanded(done) = owed { done.as_slice() } else { &[] }).collect()
}

/// As many triggers of keys of their own as fit, which are dead letters then.
fn full_of_dead_letters(directory: &Path) -> Fixture {
    let mut fixture = Fixture::open(directory);
    fixture.core.state.limits = Limits { max_events: 3, ..fixture.core.state.limits.clone() };
    for key in 0..3 {
        fixture.turn(&[Step::Record(vec![(key, true, 0, None)])]);
        fixture.turn(&[Step::Settle { which: usize::from(key), state: State::Dead, outcome: None }]);
    }
    fixture
}

#[test]
fn each_dead_letter_makes_room_for_its_own_replay_and_each_end_for_what_comes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = full_of_dead_letters(directory.path());
    let due = fixture.decide(&[command(0, REPLAY), command(1, REPLAY), command(2, REPLAY)]);
    for one in commanded(&due.owed) {
        assert!(matches!(one, Commanded::Replayed { .. }), "{one:?}");
    }

    let directory = tempfile::tempdir().unwrap();
    let mut fixture = full_of_dead_letters(directory.path());
    let new = Step::Record(vec![(3, true, 0, None)]);
    let due = fixture.decide(std::slice::from_ref(&new));
    assert_eq!(due.owed, [Owed::Unavailable(Unavailable::Backlog)]);
    let due = fixture.decide(&[command(0, Command::Discard), new.clone()]);
    assert!(matches!(due.owed[1], Owed::Recorded(_)), "{due:?}");

    let resolve = Step::Record(vec![(0, false, 0, None)]);
    let delivered = Step::Settle { which: 3, state: State::Delivered, outcome: Some(Outcome::Created) };
    let due = fixture.decide(&[delivered, resolve]);
    assert!(matches!(due.owed[1], Owed::Recorded(_)), "{due:?}");
}

#[test]
fn a_replay_beside_a_discard_of_the_same_event_is_carried_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = full_of_dead_letters(directory.path());
    let due = fixture.decide(&[command(0, REPLAY), command(0, Command::Discard)]);
    let done = commanded(&due.owed);
    assert!(matches!(done[0], Commanded::Replayed { .. }), "{done:?}");
    assert_eq!(done[1], &Commanded::Declined(Declined::Ended));
}

#[test]
fn a_trigger_whose_key_is_evicted_beside_its_replay_is_not_replayed_past_a_later_event() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(directory.path());
    let trigger = |key| Step::Record(vec![(key, true, 0, None)]);
    fixture.turn(&[trigger(0)]);
    fixture.turn(&[Step::Settle { which: 0, state: State::Dead, outcome: None }]);
    fixture.turn(&[trigger(0)]);
    fixture.turn(&[Step::Settle { which: 1, state: State::Delivered, outcome: Some(Outcome::Created) }]);
    // One key more than are kept.
    let due = fixture.decide(&[trigger(1), trigger(2), trigger(3), command(0, REPLAY)]);
    assert_eq!(commanded(&due.owed), [&Commanded::Declined(Declined::LaterUnknown)]);
}

#[test]
fn what_is_delivered_beside_its_replay_waited_and_can_not_be_discarded() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(directory.path());
    fixture.turn(&[Step::Record(vec![(0, true, 0, None)])]);
    let delivered = Step::Settle { which: 0, state: State::Delivered, outcome: Some(Outcome::Created) };
    let due = fixture.decide(&[delivered, command(0, REPLAY), command(0, Command::Discard)]);
    let done = commanded(&due.owed);
    assert_eq!(
        done,
        [&Commanded::Declined(Declined::Waiting { next: None }), &Commanded::Declined(Declined::Delivered)]
    );
}

#[test]
fn refused_payloads_stay_where_they_take_nobodys_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(directory.path());
    for number in 0..30 {
        let trigger = number % 2 == 0;
        fixture.turn(&[Step::Record(vec![(0, trigger, 0, None)])]);
    }
    assert_eq!(fixture.journal.totals().queued, 30, "full");
    for _ in 0..3 {
        fixture.turn(&[Step::Refuse]);
    }
    assert_eq!(fixture.journal.totals().refused, 3);
}

/// Where superseded events end unsent, its resolve must close what may be open.
#[test]
fn a_trigger_beside_the_end_of_a_resolve_that_closed_nothing_may_continue_an_incident() {
    let trigger = Step::Record(vec![(0, true, 0, None)]);
    let resolve = Step::Record(vec![(0, false, 0, None)]);
    let ends = |state, outcome| Step::Settle { which: 1, state, outcome };
    for (end, continues) in [
        (ends(State::Delivered, Some(Outcome::Resolved)), false),
        (ends(State::Dead, None), true),
        (ends(State::Delivered, Some(Outcome::NotResolved)), true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::open(directory.path());
        fixture.turn(&[trigger.clone(), resolve.clone()]);
        let accepted = fixture.turn(&[trigger.clone(), end.clone()]);
        let [Accepted { event, .. }] = accepted.as_slice() else { panic!("{accepted:?}") };
        assert!(event.reopening, "{end:?}");
        assert_eq!(event.continues, continues, "{end:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any requests a start restores the keys that both know, the holds, the numbers and the totals.
    #[test]
    fn what_a_start_reads_back_is_the_state_that_was(
        batches in proptest::collection::vec(proptest::collection::vec(step(), 1..6), 1..12),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::open(directory.path());
        for steps in &batches {
            fixture.turn(steps);
        }
        let room = fixture.core.state.room.clone();
        let (totals, next) = (fixture.journal.totals(), room.next);
        let restored = fixture.restored();
        prop_assert_eq!(fixture.journal.totals(), totals);
        let batch = fixture.journal.begin().unwrap();
        let space = batch.space().unwrap();
        prop_assert_eq!(batch.room(space, false).next, next);
        drop(batch);
        prop_assert_eq!(&fixture.journal.holds().unwrap(), &*fixture.core.state.holds);
        // Of more keys than are kept a start may forget others, since it sees at once how events ended.
        let live = keys(fixture.core.state.dedup(), fixture.now);
        for (live, again) in live.iter().zip(keys(&restored, fixture.now)) {
            if let (Some(live), Some(again)) = (live, again) {
                prop_assert_eq!(live, &again);
            }
        }
    }

    /// With room for all keys they are all the same.
    #[test]
    fn facts_are_folded_live_as_at_a_start(
        batches in proptest::collection::vec(proptest::collection::vec(step(), 1..6), 1..12),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::open(directory.path());
        let settings = Settings { max_keys: 100, ..SETTINGS };
        fixture.core.state.dedup = Dedup::new(settings);
        for steps in &batches {
            fixture.turn(steps);
        }
        let (mut dedup, now) = (Dedup::new(settings), fixture.now);
        fixture
            .journal
            .restore(|found| {
                if let Found::Event(event) = found {
                    restore_key(&mut dedup, &event, now);
                }
            })
            .unwrap();
        prop_assert_eq!(keys(fixture.core.state.dedup(), now), keys(&dedup, now));
    }
}
