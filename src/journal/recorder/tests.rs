use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use bytes::Bytes;

use super::*;
use crate::clock::Clock;
use crate::event::{Action, Body, Draft, Outcome, Priority, Queued, State, UpdateHash};
use crate::journal::dedup;
use crate::journal::request::{Declined, Entry, HOLDS_MAX};
use crate::journal::{self, Filter, Lock, Reader};
use crate::journal::{Share, Shares};
use crate::metrics::Metrics;

/// A recorder on its thread over a directory, and what it hands to the dispatcher.
struct Fixture {
    recorder: Recorder,
    committed: mpsc::Receiver<Committed>,
    /// The events handed to the dispatcher.
    handed: Vec<Accepted>,
    restored: Vec<Queued>,
    thread: std::thread::JoinHandle<()>,
}

fn open(directory: &Path, max_events: u64) -> Fixture {
    open_sharing(directory, max_events, Shares::default())
}

fn open_sharing(directory: &Path, max_events: u64, shares: Shares) -> Fixture {
    let (sender, committed) = mpsc::channel(1_000);
    let parts = RecorderParts {
        journal: journal::Config {
            data_dir: directory.to_owned(),
            max_events,
            max_bytes: 1 << 30,
            keep_delivered: Duration::from_secs(60),
            keep_refused: 10,
            shares,
            reserve: None,
        },
        lock: Lock::take(directory).unwrap(),
        dedup: dedup::Settings { window: Duration::from_secs(600), remind: true, max_keys: 1_000 },
        superseded: Default::default(),
        clock: Clock::start(),
        metrics: Arc::new(Metrics::new()),
        committed: sender,
    };
    let mut restored = Vec::new();
    let (recorder, thread) = RecorderThread::open(parts, |event, _| restored.push(event)).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::spawn(move || thread.run(&runtime));
    Fixture { recorder, committed, handed: Vec::new(), restored, thread }
}

impl Fixture {
    /// Ends an event by one call, and waits until that is on disk.
    async fn settle(&mut self, id: EventId, key: &str, settlement: Settlement) {
        let key = KeyId::new("servicepilot", key);
        self.recorder
            .settle(Settle { attempt: Some(attempt(id)), settlement, key, awaited: false, commanded: None })
            .unwrap();
        while !self.hear().await.iter().any(|ended| ended.id == id) {}
    }

    /// Receives one commit; returns its settlements.
    async fn hear(&mut self) -> Vec<Settlement> {
        let Committed { accepted, settled: ended, .. } = self.committed.recv().await.unwrap();
        self.handed.extend(accepted);
        ended
    }

    /// Closes the handle and waits for the journal to be closed.
    async fn close(self) {
        let Fixture { recorder, thread, .. } = self;
        drop(recorder);
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    }
}

fn event(action: Action, key: &str) -> Entry {
    let draft = Draft {
        action,
        incident_key: key.to_owned(),
        rule: Arc::from("problem"),
        occurrence: None,
        update: UpdateHash(0),
        priority: Priority::Normal,
        body: Body::of(&serde_json::json!({ "state": "CRITICAL" })),
    };
    Entry::Event { key: KeyId::new("servicepilot", key), draft }
}

fn submission(entries: Vec<Entry>) -> Submission {
    Submission {
        source: Arc::from("servicepilot"),
        request_id: Arc::from("01REQUEST"),
        sender_request_id: None,
        trace: None,
        received_at: WallTime::now(),
        raw: Bytes::from_static(b"{}"),
        charset: None,
        entries,
        wait_for_settlement: false,
        earlier: Arc::default(),
    }
}

/// `q` queued, `d` duplicate, `r` refused; in order.
fn words(recorded: &[Recorded]) -> String {
    recorded
        .iter()
        .map(|Recorded { entry, receipt }| match entry {
            Entry::Refused { .. } => 'r',
            Entry::Event { .. } if receipt.duplicate => 'd',
            Entry::Event { .. } => 'q',
        })
        .collect()
}

/// The word and the number of the only recorded entry.
fn only(recorded: &[Recorded]) -> (String, EventId) {
    let [Recorded { receipt, .. }] = recorded else { panic!("{recorded:?}") };
    (words(recorded), receipt.id)
}

/// The number of the only recorded entry, which must be new.
fn queued(recorded: &[Recorded]) -> EventId {
    let (word, id) = only(recorded);
    assert_eq!(word, "q");
    id
}

fn attempt(event: EventId) -> AttemptRecord {
    AttemptRecord {
        event,
        number: 1,
        started_at: WallTime::now(),
        took: Duration::from_millis(1),
        result: "created",
        status: Some(201),
        detail: None,
        answer: Vec::new(),
    }
}

fn settlement(id: EventId, state: State, outcome: Option<Outcome>) -> Settlement {
    Settlement { id, state, outcome, reason: None, attempts: 1, at: WallTime::now() }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_copies_of_one_event_are_one_event() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = open(directory.path(), 1_000);
    let copies: Vec<_> = (0..50)
        .map(|_| {
            let recorder = fixture.recorder.clone();
            tokio::spawn(async move { recorder.record(submission(vec![event(Action::Trigger, "a")])).await.unwrap() })
        })
        .collect();
    let mut queued = Vec::new();
    let mut copied = Vec::new();
    for copy in copies {
        let (word, id) = only(&copy.await.unwrap());
        if word == "q" { queued.push(id) } else { copied.push(id) }
    }
    assert_eq!((queued.len(), copied.len()), (1, 49));
    assert!(copied.iter().all(|of| *of == queued[0]));
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_decided_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = open(directory.path(), 1_000);
    let (trigger, resolve) = (Action::Trigger, Action::Resolve);
    for (entries, expected) in [
        (vec![event(trigger, "a"), event(resolve, "a"), event(trigger, "a")], "qqq"),
        (vec![event(trigger, "b"), event(trigger, "b")], "qd"),
    ] {
        let receipts = fixture.recorder.record(submission(entries)).await.unwrap();
        assert_eq!(words(&receipts), expected);
    }
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_knows_what_is_queued_and_what_was_seen() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 1_000);
    let entries = vec![event(Action::Trigger, "a"), event(Action::Trigger, "b"), event(Action::Trigger, "c")];
    let receipts = fixture.recorder.record(submission(entries)).await.unwrap();
    assert_eq!(words(&receipts), "qqq");
    let ids: Vec<EventId> = receipts.iter().map(|recorded| recorded.receipt.id).collect();
    let key = |key| KeyId::new("servicepilot", key);
    let done = settlement(ids[0], State::Delivered, Some(Outcome::Created));
    fixture.settle(ids[0], "a", done).await;
    let lost = settlement(ids[1], State::Delivered, Some(Outcome::Unmatched));
    fixture.settle(ids[1], "b", lost).await;
    fixture.close().await;

    let fixture = open(directory.path(), 1_000);
    let [Queued { acknowledged, .. }] = fixture.restored[..] else { panic!("{:?}", fixture.restored) };
    assert_eq!(fixture.restored, [Queued { id: ids[2], key: key("c"), acknowledged, ..fixture.restored[0] }]);
    for (name, expected, why) in [
        ("a", "d", "it was delivered"),
        ("b", "q", "it matched nothing there, so its key is unknown"),
        ("c", "d", "it still waits"),
    ] {
        let receipts = fixture.recorder.record(submission(vec![event(Action::Trigger, name)])).await.unwrap();
        assert_eq!(words(&receipts), expected, "{name}: {why}");
    }
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_events_are_handed_over_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 1_000);
    for key in ["a", "b", "a"] {
        let action = if key == "b" { Action::Resolve } else { Action::Trigger };
        fixture.recorder.record(submission(vec![event(action, key)])).await.unwrap();
    }
    while fixture.handed.len() < 2 {
        fixture.hear().await;
    }
    let handed = &fixture.handed;
    assert!(handed[0].event.id < handed[1].event.id);
    assert_eq!(handed[0].outgoing.clone().unwrap().body, Bytes::from_static(b"{\"state\":\"CRITICAL\"}"));
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_waits_learns_the_end_whether_it_came_before_or_after() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 1_000);
    let waiting = || Submission { wait_for_settlement: true, ..submission(vec![event(Action::Trigger, "a")]) };
    let pending = |mut recorded: Vec<Recorded>| {
        recorded.pop().unwrap().receipt.into_pending_settlement().expect("not waited for")
    };
    let first = fixture.recorder.record(waiting()).await.unwrap();
    let id = queued(&first);
    let second = fixture.recorder.record(waiting()).await.unwrap();
    assert_eq!(words(&second), "d");
    let end = settlement(id, State::Delivered, Some(Outcome::Created));
    fixture.settle(id, "a", end.clone()).await;
    let third = fixture.recorder.record(waiting()).await.unwrap();
    assert_eq!(words(&third), "d");
    for settlement in [first, second, third].map(pending) {
        assert_eq!(settlement.settled().await, Some(end.clone()));
    }
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_still_waits_for_others_is_written_when_the_relay_stops() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = open(directory.path(), 100);
    let receipts = fixture.recorder.record(submission(vec![event(Action::Trigger, "a")])).await.unwrap();
    let id = queued(&receipts);
    let end = settlement(id, State::Delivered, Some(Outcome::Created));
    let key = KeyId::new("servicepilot", "a");
    fixture
        .recorder
        .settle(Settle { attempt: Some(attempt(id)), settlement: end, key, awaited: false, commanded: None })
        .unwrap();
    fixture.close().await;
    let fixture = open(directory.path(), 100);
    assert_eq!(fixture.restored, [], "it is not queued any more");
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_closed_is_whole_in_its_main_file_even_while_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = open(directory.path(), 100);
    // A connection that stays open: without it the last one to close would checkpoint the log anyway.
    let reader = Reader::open(directory.path()).unwrap();
    fixture.recorder.record(submission(vec![event(Action::Trigger, "a")])).await.unwrap();
    let kept = |reader: &Reader| reader.list(&Filter { limit: 5, ..Filter::default() }).unwrap().events.len();
    assert_eq!(kept(&reader), 1);
    fixture.close().await;
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("journal.db"), copy.path().join("journal.db")).unwrap();
    assert_eq!(kept(&Reader::open(copy.path()).unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backlog_refuses_what_is_new_and_knows_what_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 2);
    let recorder = fixture.recorder.clone();
    let record = |key| recorder.record(submission(vec![event(Action::Trigger, key)]));
    let receipts = record("a").await.unwrap();
    let id = queued(&receipts);
    record("b").await.unwrap();
    assert_eq!(record("c").await.unwrap_err(), Unavailable::Backlog);
    assert!(matches!(fixture.recorder.health(), Health::Refusing { why: Unavailable::Backlog, .. }));
    assert_eq!(words(&record("a").await.unwrap()), "d");
    let end = settlement(id, State::Delivered, Some(Outcome::Created));
    fixture.settle(id, "a", end).await;
    assert_eq!(words(&record("c").await.unwrap()), "q");
    drop(recorder);
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_counted_on_the_event_they_copy() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = open(directory.path(), 100);
    for _ in 0..3 {
        fixture.recorder.record(submission(vec![event(Action::Trigger, "a")])).await.unwrap();
    }
    fixture.close().await;
    let reader = Reader::open(directory.path()).unwrap();
    let page = reader.list(&Filter { limit: 5, ..Filter::default() }).unwrap();
    let details = reader.details(page.events[0].id.parse().unwrap()).unwrap().unwrap();
    assert_eq!(details.duplicates, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_incidents_are_those_with_a_trigger_and_no_resolve() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = open(directory.path(), 100);
    for (action, key) in
        [(Action::Trigger, "a"), (Action::Trigger, "b"), (Action::Resolve, "a"), (Action::Trigger, "c")]
    {
        fixture.recorder.record(submission(vec![event(action, key)])).await.unwrap();
    }
    let open = fixture.recorder.open_incidents(10).await.unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let keys: Vec<_> = reader.summaries(&open).unwrap().into_iter().map(|event| event.incident_key.unwrap()).collect();
    assert_eq!(keys, ["c", "b"]);
    fixture.close().await;
}

/// What happened to one key before a person commands, in words: `T` or `R` takes a trigger or resolve; the letter after
/// it ends it: `c` as the upstream should, `u` unmatched, `d` dead, `x` discarded after it was dead, none: it waits.
async fn played(fixture: &mut Fixture, story: &str) -> Vec<EventId> {
    let mut ids = Vec::new();
    for word in story.split(' ').filter(|word| !word.is_empty()) {
        let action = if word.starts_with('T') { Action::Trigger } else { Action::Resolve };
        let receipts = fixture.recorder.record(submission(vec![event(action, "k")])).await.unwrap();
        let id = queued(&receipts);
        ids.push(id);
        let (state, outcome) = match (&word[1..], action) {
            ("", _) => continue,
            ("c", Action::Trigger) => (State::Delivered, Some(Outcome::Created)),
            ("c", Action::Resolve) => (State::Delivered, Some(Outcome::Resolved)),
            ("u", _) => (State::Delivered, Some(Outcome::Unmatched)),
            _ => (State::Dead, None),
        };
        fixture.settle(id, "k", settlement(id, state, outcome)).await;
        if word.ends_with('x') {
            assert!(matches!(command(fixture, Command::Discard, id).await, Commanded::Discarded { .. }), "{story}");
        }
    }
    ids
}

async fn command(fixture: &Fixture, command: Command, id: EventId) -> Commanded {
    fixture.recorder.command(command, &[id], &origin()).await.unwrap().remove(0)
}

fn origin() -> Arc<CommandOrigin> {
    Arc::new(CommandOrigin { request_id: "01COMMAND".into(), by: "loopback".into(), selection: None })
}

const REPLAY: Command = Command::Replay { force: false };
const FORCED: Command = Command::Replay { force: true };

/// The reason to decline what a queued event is the replay of.
fn replayed_as(id: EventId) -> Declined {
    Declined::Replayed(journal::request::Replay { id, state: State::Queued, outcome: None })
}

/// Stories of one key: the replayed event, the result, and the reason.
const REPLAYS: [(&str, usize, &str, &str); 16] = [
    ("Td", 0, "replayed", "nothing came after it"),
    ("Tu", 0, "replayed", "nobody was alerted, and the filters may be right now"),
    ("Tc", 0, "replayed", "it was delivered, and a person wants it again"),
    ("Tx", 0, "discarded", "a person ended it"),
    ("T", 0, "waiting", "it will be delivered"),
    ("Td Rc", 0, "later_event", "the resolve was delivered: nobody would close the incident"),
    ("Td R", 0, "later_event", "the resolve is to be delivered"),
    ("Td Rd", 0, "later_event", "the service is well again, although nobody could be told"),
    ("Td Rd", 1, "replayed", "it is the last word on the key"),
    ("Td Ru", 0, "later_event", "a resolve without effect is a resolve"),
    ("Td Rx", 0, "later_event", "a discarded resolve was taken"),
    ("Td Td", 0, "later_event", "the later trigger says what is true now"),
    ("Td Td", 1, "replayed", "it is the later one"),
    ("Tc Rd", 1, "replayed", "the incident is still open"),
    ("Tc Rd", 0, "later_event", "its resolve is a dead letter"),
    ("Tc Rc Tc", 1, "later_event", "an old resolve would close the new incident"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_declined_where_a_later_event_of_the_key_was_taken() {
    for restarted in [false, true] {
        for (story, at, expected, why) in REPLAYS {
            let directory = tempfile::tempdir().unwrap();
            let mut fixture = open(directory.path(), 1_000);
            let ids = played(&mut fixture, story).await;
            // Other keys' events do not count.
            fixture.recorder.record(submission(vec![event(Action::Resolve, "other")])).await.unwrap();
            if restarted {
                fixture.close().await;
                fixture = open(directory.path(), 1_000);
            }
            let word = |commanded: &Commanded| match commanded {
                Commanded::Replayed { .. } => "replayed",
                Commanded::Discarded { .. } => "discarded",
                Commanded::Declined(declined) => declined.as_str(),
            };
            let plain = command(&fixture, REPLAY, ids[at]).await;
            assert_eq!(word(&plain), expected, "{story}[{at}], restarted {restarted}: {why}");
            if expected == "later_event" {
                let forced = command(&fixture, FORCED, ids[at]).await;
                assert_eq!(word(&forced), "replayed", "{story}[{at}]: a person insists");
            }
            fixture.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_replayed_is_declined_with_what_became_of_its_newest_replay() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 1_000);
    let first = played(&mut fixture, "Tu").await[0];
    let mut last = first;
    for (outcome, said) in [
        (Outcome::Unmatched, ": delivered, unmatched; replay that one instead"),
        (Outcome::Created, ": delivered, created"),
    ] {
        let Commanded::Replayed { id, .. } = command(&fixture, REPLAY, last).await else { panic!("declined") };
        assert_eq!(command(&fixture, REPLAY, first).await, Commanded::Declined(replayed_as(id)));
        let waits = Declined::Waiting { next: None };
        assert_eq!(command(&fixture, REPLAY, id).await, Commanded::Declined(waits), "the replay itself");
        fixture.settle(id, "k", settlement(id, State::Delivered, Some(outcome))).await;
        let Commanded::Declined(declined) = command(&fixture, REPLAY, first).await else { panic!("replayed") };
        assert_eq!(declined.explain(), format!("already replayed as {id}{said}"));
        last = id;
    }
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_which_nobody_was_alerted_counts_until_something_later_of_its_key_is_taken() {
    for (story, count, why) in [
        ("Tu", 1, "nobody was alerted"),
        ("Tu Tu", 1, "the later one says it"),
        ("Tu Tc", 0, "the later one alerted somebody"),
        ("Tu T", 0, "the later one will"),
        ("Tu Td", 0, "the later one is a dead letter"),
        ("Tu Ru", 1, "the resolve closed nothing"),
        ("Tc Rc", 0, "all is well"),
    ] {
        for restarted in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let mut fixture = open(directory.path(), 1_000);
            let ids = played(&mut fixture, story).await;
            if restarted {
                fixture.close().await;
                fixture = open(directory.path(), 1_000);
            }
            let reader = Reader::open(directory.path()).unwrap();
            let unmatched = async || fixture.recorder.tally(reader.unmatched().unwrap()).await.unwrap().unmatched;
            assert_eq!(unmatched().await, count, "{story}, restarted {restarted}: {why}");
            if count > 0 {
                let replayed = command(&fixture, REPLAY, *ids.last().unwrap()).await;
                assert!(matches!(replayed, Commanded::Replayed { .. }), "{story}");
                assert_eq!(unmatched().await, 0, "{story}: it was replayed");
            }
            fixture.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_has_its_share_is_turned_away_and_named_and_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let shares = Shares::new(["servicepilot", "other"].map(|name| (name.into(), Share::Auto)));
    let mut fixture = open_sharing(directory.path(), 8, shares.clone());
    let record = async |fixture: &Fixture, source: &str, keys: &[&str]| {
        let events = keys.iter().map(|key| event(Action::Trigger, key)).collect();
        fixture.recorder.record(Submission { source: source.into(), ..submission(events) }).await
    };
    for key in ["a", "b", "c", "d"] {
        assert!(record(&fixture, "servicepilot", &[key]).await.is_ok());
    }
    assert_eq!(fixture.recorder.turned_away(), []);
    assert_eq!(record(&fixture, "servicepilot", &["e"]).await.unwrap_err(), Unavailable::SourceShare);
    assert_eq!(words(&record(&fixture, "servicepilot", &["a"]).await.unwrap()), "d");
    assert_eq!(fixture.recorder.health(), Health::Taking);
    let [TurnedAway { source, totals: SourceTotals { queued: 4, dead: 0, .. }, .. }] =
        &fixture.recorder.turned_away()[..]
    else {
        panic!("{:?}", fixture.recorder.turned_away())
    };
    assert_eq!(&**source, "servicepilot");
    assert!(record(&fixture, "other", &["x", "y"]).await.is_ok(), "as many as it leaves free");
    assert_eq!(record(&fixture, "other", &["z"]).await.unwrap_err(), Unavailable::SourceShare);
    let names: Vec<_> = fixture.recorder.turned_away().into_iter().map(|turned| turned.source.to_string()).collect();
    assert_eq!(names, ["other", "servicepilot"]);

    // A delivered event makes room, a dead letter does not.
    while fixture.handed.len() < 6 {
        fixture.hear().await;
    }
    let ids: Vec<EventId> = fixture.handed.iter().map(|accepted| accepted.event.id).collect();
    fixture.settle(ids[0], "a", settlement(ids[0], State::Dead, None)).await;
    assert_eq!(record(&fixture, "servicepilot", &["e"]).await.unwrap_err(), Unavailable::SourceShare);
    for (id, key) in [(ids[1], "b"), (ids[2], "c")] {
        fixture.settle(id, key, settlement(id, State::Delivered, Some(Outcome::Created))).await;
    }
    assert!(record(&fixture, "servicepilot", &["e"]).await.is_ok());
    assert_eq!(fixture.recorder.turned_away().len(), 2, "that it is over is told when it has been for a while");
    fixture.close().await;
    let fixture = open_sharing(directory.path(), 8, shares);
    assert_eq!(record(&fixture, "servicepilot", &["f"]).await.unwrap_err(), Unavailable::SourceShare, "three of five");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatcher_knows_source_priority_and_open_keys_also_after_a_restart_and_of_a_replay() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 1_000);
    let urgent = |update| match event(Action::Trigger, "k") {
        Entry::Event { key, draft } => {
            let draft = Draft { priority: Priority::High, update: UpdateHash(update), ..draft };
            Entry::Event { key, draft }
        }
        refused => refused,
    };
    fixture.recorder.record(submission(vec![urgent(1), urgent(2)])).await.unwrap();
    let other = Submission { source: "gone".into(), ..submission(vec![event(Action::Trigger, "g")]) };
    fixture.recorder.record(other).await.unwrap();
    while fixture.handed.len() < 3 {
        fixture.hear().await;
    }
    let told = |fixture: &Fixture, events: &[Queued]| {
        let names = fixture.recorder.sources();
        let told = events.iter().map(|event| (names.name(event.source).to_string(), event.priority, event.continues));
        told.collect::<Vec<_>>()
    };
    let accepted: Vec<Queued> = fixture.handed.iter().map(|accepted| accepted.event).collect();
    let (here, gone) = ("servicepilot".to_owned(), "gone".to_owned());
    let expected =
        [(here.clone(), Priority::High, false), (here.clone(), Priority::High, true), (gone, Priority::Normal, false)];
    assert_eq!(told(&fixture, &accepted), expected);
    let dead = settlement(accepted[0].id, State::Dead, None);
    fixture.settle(accepted[0].id, "k", dead).await;
    let Commanded::Replayed { .. } = command(&fixture, Command::Replay { force: true }, accepted[0].id).await else {
        panic!("declined")
    };
    while fixture.handed.len() < 4 {
        fixture.hear().await;
    }
    let replayed = (here, Priority::High, true);
    assert_eq!(told(&fixture, &[fixture.handed[3].event]), std::slice::from_ref(&replayed));
    fixture.close().await;
    let fixture = open(directory.path(), 1_000);
    let [_, update, (gone, normal, _)] = expected;
    let restored = [update, (gone, normal, true), replayed];
    assert_eq!(told(&fixture, &fixture.restored), restored, "calls may have been under way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_on_disk_when_it_is_told_and_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = open(directory.path(), 1_000);
    let target =
        |source: &str, key: Option<&str>| HoldTarget { source: source.into(), incident_key: key.map(Into::into) };
    let (source, key, other) = (target("b", None), target("a", Some("k")), target("b", Some("")));
    for (target, held, expected) in [
        (&source, true, HoldChange::Changed),
        (&key, true, HoldChange::Changed),
        (&other, true, HoldChange::Changed),
        (&source, true, HoldChange::AsItWas),
        (&other, false, HoldChange::Changed),
        (&other, false, HoldChange::AsItWas),
    ] {
        assert_eq!(fixture.recorder.hold(target.clone(), held, &origin()).await, Ok(expected), "{target} {held}");
    }
    let held = |fixture: &Fixture| fixture.recorder.holds().iter().map(|hold| hold.target.clone()).collect::<Vec<_>>();
    assert_eq!(held(&fixture), [key.clone(), source.clone()]);
    fixture.close().await;
    let fixture = open(directory.path(), 1_000);
    assert_eq!(held(&fixture), [key, source]);
    for number in 2..HOLDS_MAX {
        fixture.recorder.hold(target("c", Some(&number.to_string())), true, &origin()).await.unwrap();
    }
    assert_eq!(fixture.recorder.hold(target("d", None), true, &origin()).await, Ok(HoldChange::TooMany));
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_noted_with_what_it_does_and_one_that_does_nothing_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 1_000);
    let id = queued(&fixture.recorder.record(submission(vec![event(Action::Trigger, "k")])).await.unwrap());
    fixture.settle(id, "k", settlement(id, State::Dead, None)).await;
    assert!(matches!(command(&fixture, Command::Discard, id).await, Commanded::Discarded { .. }));
    assert_eq!(command(&fixture, Command::Discard, id).await, Commanded::Declined(Declined::Ended));
    let target = HoldTarget { source: "servicepilot".into(), incident_key: None };
    for expected in [HoldChange::Changed, HoldChange::AsItWas] {
        assert_eq!(fixture.recorder.hold(target.clone(), true, &origin()).await, Ok(expected));
    }
    fixture.close().await;
    let noted = Reader::open(directory.path()).unwrap().commands(None, None, 10).unwrap().commands;
    let noted: Vec<(&str, &str, &[String])> =
        noted.iter().map(|one| (&*one.command, &*one.by, one.events.as_slice())).collect();
    assert_eq!(noted, [("hold", "loopback", &[][..]), ("discard", "loopback", &[id.to_string()][..])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_discarded_is_replayed_only_where_a_person_insists() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 1_000);
    let entries = vec![event(Action::Trigger, "k"), refused_entry()];
    let receipts = fixture.recorder.record(submission(entries)).await.unwrap();
    assert_eq!(words(&receipts), "qr");
    let (id, refused) = (receipts[0].receipt.id, receipts[1].receipt.id);
    fixture.settle(id, "k", settlement(id, State::Dead, None)).await;
    for id in [id, refused] {
        assert!(matches!(command(&fixture, Command::Discard, id).await, Commanded::Discarded { .. }));
    }
    assert_eq!(command(&fixture, REPLAY, id).await, Commanded::Declined(Declined::Discarded));
    let replaced =
        fixture.recorder.replace(refused, submission(vec![event(Action::Trigger, "r")]), false, &origin()).await;
    assert!(matches!(replaced, Err(NotReplaced::Declined(Declined::Discarded))), "{replaced:?}");
    assert!(matches!(command(&fixture, FORCED, id).await, Commanded::Replayed { .. }));
    let replaced =
        fixture.recorder.replace(refused, submission(vec![event(Action::Trigger, "r")]), true, &origin()).await;
    assert!(replaced.is_ok(), "{replaced:?}");
    fixture.close().await;
}

fn refused_entry() -> Entry {
    Entry::Refused { element: None, reason: "not_json", violations: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_the_last_event_of_its_key_and_is_replayed_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 1_000);
    let dead = played(&mut fixture, "Td").await[0];
    let Commanded::Replayed { id: new, action, .. } = command(&fixture, REPLAY, dead).await else { panic!("declined") };
    assert!(new > dead && action == Action::Trigger);
    while fixture.handed.len() < 2 {
        fixture.hear().await;
    }
    let handed = &fixture.handed;
    let Queued { acknowledged, .. } = handed[1].event;
    assert_eq!(
        handed[1].event,
        Queued {
            id: new,
            key: KeyId::new("servicepilot", "k"),
            source: handed[0].event.source,
            action: Action::Trigger,
            priority: Priority::Normal,
            reopening: false,
            continues: true,
            acknowledged
        }
    );
    assert!(acknowledged >= handed[0].event.acknowledged, "its age counts anew");
    assert_eq!(handed[1].outgoing.as_ref().unwrap().body, Bytes::from_static(b"{\"state\":\"CRITICAL\"}"));

    let again = fixture.recorder.record(submission(vec![event(Action::Trigger, "k")])).await.unwrap();
    assert_eq!(only(&again), ("d".to_owned(), new));
    assert_eq!(command(&fixture, REPLAY, dead).await, Commanded::Declined(replayed_as(new)));
    assert_eq!(command(&fixture, Command::Discard, dead).await, Commanded::Declined(Declined::Ended));
    assert_eq!(command(&fixture, REPLAY, EventId(1)).await, Commanded::Declined(Declined::NotKept));
    fixture.close().await;

    let fixture = open(directory.path(), 1_000);
    assert_eq!(
        fixture.restored.iter().map(|event| event.id).collect::<Vec<_>>(),
        [new],
        "and so it is after a restart"
    );
    let reader = Reader::open(directory.path()).unwrap();
    let (old, new) = (reader.details(dead).unwrap().unwrap(), reader.details(new).unwrap().unwrap());
    assert_eq!((old.summary.state.as_str(), old.summary.reason.as_deref()), ("ended", Some("replayed")));
    assert_eq!(
        (old.summary.replayed_by.as_slice(), new.replay_of.as_deref()),
        (&[new.summary.id.clone()][..], Some(&*old.summary.id))
    );
    assert_eq!((new.novelty.as_deref(), new.received.as_deref()), (Some("replay"), Some("{}")));
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_fill_the_journal_can_be_replayed_and_discarded() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 1);
    let dead = played(&mut fixture, "Td").await[0];
    let other = || submission(vec![event(Action::Trigger, "other")]);
    assert_eq!(fixture.recorder.record(other()).await.unwrap_err(), Unavailable::Backlog);
    let Commanded::Replayed { id, .. } = command(&fixture, REPLAY, dead).await else { panic!("declined") };
    assert_eq!(command(&fixture, Command::Discard, id).await, Commanded::Declined(Declined::Waiting { next: None }));
    let end = settlement(id, State::Dead, None);
    fixture.settle(id, "k", end).await;
    assert_eq!(
        command(&fixture, FORCED, dead).await,
        Commanded::Declined(Declined::Backlog),
        "ended ones free nothing"
    );
    assert!(matches!(command(&fixture, Command::Discard, id).await, Commanded::Discarded { .. }));
    assert_eq!(words(&fixture.recorder.record(other()).await.unwrap()), "q");
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_payload_ends_with_what_replaces_it() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = open(directory.path(), 1_000);
    let refusal = || Entry::Refused { element: None, reason: "unprocessable", violations: Vec::new() };
    let refused = |recorded: Vec<Recorded>| recorded[0].receipt.id;
    let first = refused(fixture.recorder.record(submission(vec![refusal()])).await.unwrap());
    let second = refused(fixture.recorder.record(submission(vec![refusal()])).await.unwrap());
    assert_eq!(command(&fixture, REPLAY, first).await, Commanded::Declined(Declined::Undecided));

    let trigger = || submission(vec![event(Action::Trigger, "k")]);
    let receipts = fixture.recorder.replace(first, trigger(), false, &origin()).await.unwrap();
    let id = queued(&receipts);
    let again = fixture.recorder.replace(first, trigger(), false, &origin()).await;
    assert_eq!(again.unwrap_err(), NotReplaced::Declined(replayed_as(id)), "and not how it is forced");
    // The second came before the first was replayed, so its trigger is the older one.
    let later = fixture.recorder.replace(second, trigger(), false, &origin()).await;
    assert_eq!(later.unwrap_err(), NotReplaced::Declined(Declined::LaterEvent(id)));
    assert_eq!(words(&fixture.recorder.replace(second, trigger(), true, &origin()).await.unwrap()), "q");

    let third = refused(fixture.recorder.record(submission(vec![refusal()])).await.unwrap());
    let copy = fixture.recorder.replace(third, trigger(), false, &origin()).await.unwrap();
    assert_eq!(words(&copy), "d", "it says what is known; the payload is done with");
    let fourth = refused(fixture.recorder.record(submission(vec![refusal()])).await.unwrap());
    assert!(matches!(command(&fixture, Command::Discard, fourth).await, Commanded::Discarded { .. }));
    fixture.close().await;

    let fixture = open(directory.path(), 1_000);
    let reader = Reader::open(directory.path()).unwrap();
    let kept = reader.summaries(&[first, second, third, fourth]).unwrap();
    let ends: Vec<_> = kept.iter().map(|event| (event.state.as_str(), event.reason.as_deref().unwrap())).collect();
    let replayed = ("ended", "replayed");
    assert_eq!(ends, [replayed, replayed, replayed, ("ended", "discarded")], "also after a restart");
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_evicted_is_looked_for_in_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path(), 10_000);
    let ids = played(&mut fixture, "Td Rc").await;
    // More keys than are remembered: the resolved one goes first.
    for round in 0..11 {
        let entries = (0..100).map(|key| event(Action::Trigger, &format!("{round}-{key}"))).collect();
        fixture.recorder.record(submission(entries)).await.unwrap();
    }
    assert_eq!(command(&fixture, REPLAY, ids[0]).await, Commanded::Declined(Declined::LaterEvent(ids[1])));
    fixture.close().await;
}
