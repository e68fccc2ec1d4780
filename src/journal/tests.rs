//! Random requests: what is decided of them is written, read back, and is the state that was.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::decide::{Accepted, Owed};
use super::dedup::{Arrival, Dedup, KeyState, Settings};
use super::recorder::core::Core;
use super::request::{
    AttemptRecord, Command, CommandOrigin, Entry, Request, Settle, ShadowDifferences, StoredRetry, Submission,
};
use super::state::{RecorderState, restore_key};
use super::{Config, Found, Journal, Lock, Shares};
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
        let known = batch.look_up(requests.iter(), self.core.state.dedup(), true).unwrap();
        let (facts, due) = self.core.decide(&known, requests.iter(), self.now);
        batch.apply(&facts).unwrap();
        batch.commit().unwrap();
        assert!(due.owed.iter().all(|owed| !matches!(owed, Owed::Tally)));
        self.taken.extend(due.accepted.iter().map(|accepted| (accepted.event.id, accepted.event.key)));
        self.now = Now { monotonic: Monotonic(self.now.monotonic.0 + 10), wall: WallTime(self.now.wall.0 + 10) };
        due.accepted
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
