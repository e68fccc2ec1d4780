use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::dedup;
use crate::journal::{self, Filter, Lock, Reader};
use crate::metrics::Metrics;
use crate::time::Clock;

/// A recorder on its thread over a directory, and what it hands to the dispatcher.
struct Desk {
    recorder: Recorder,
    fresh: mpsc::Receiver<Vec<Fresh>>,
    restored: Vec<Queued>,
    thread: std::thread::JoinHandle<()>,
}

fn open(directory: &Path, max_events: u64) -> Desk {
    let (sender, fresh) = mpsc::channel(1_000);
    let parts = WriterParts {
        journal: journal::Config {
            data_dir: directory.to_owned(),
            max_events,
            max_bytes: 1 << 30,
            keep_delivered: Duration::from_secs(60),
            keep_refused: 10,
        },
        lock: Lock::take(directory).unwrap(),
        dedup: dedup::Settings { window: Duration::from_secs(600), remind: true, max_keys: 1_000 },
        clock: Clock::start(),
        metrics: Arc::new(Metrics::new()),
        fresh: sender,
    };
    let mut restored = Vec::new();
    let (recorder, writer) = Writer::open(parts, |event, _| restored.push(event)).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::spawn(move || writer.run(&runtime));
    Desk { recorder, fresh, restored, thread }
}

impl Desk {
    /// Closes the handle and waits for the journal to be closed.
    async fn close(self) {
        let Desk { recorder, thread, .. } = self;
        drop(recorder);
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    }
}

fn event(action: Action, key: &str) -> Entry {
    Entry::Event(Recordable {
        action,
        key: KeyId::new("servicepilot", key),
        incident_key: key.to_owned(),
        rule: Arc::from("problem"),
        occurrence: None,
        update: UpdateHash(0),
        body: Bytes::from_static(b"{\"state\":\"CRITICAL\"}"),
    })
}

fn submission(entries: Vec<Entry>) -> Submission {
    Submission {
        source: Arc::from("servicepilot"),
        request_id: Arc::from("01REQUEST"),
        received_at: WallTime::now(),
        raw: Bytes::from_static(b"{}"),
        entries,
        follow: false,
    }
}

/// `q` queued, `d` duplicate, `r` refused; in order.
fn words(receipts: &[Receipt]) -> String {
    receipts
        .iter()
        .map(|receipt| match receipt {
            Receipt::Queued { .. } => 'q',
            Receipt::Duplicate { .. } => 'd',
            Receipt::Refused { .. } => 'r',
        })
        .collect()
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
    let desk = open(directory.path(), 1_000);
    let copies: Vec<_> = (0..50)
        .map(|_| {
            let recorder = desk.recorder.clone();
            tokio::spawn(async move { recorder.record(submission(vec![event(Action::Trigger, "a")])).await.unwrap() })
        })
        .collect();
    let mut queued = Vec::new();
    let mut copied = Vec::new();
    for copy in copies {
        match &copy.await.unwrap()[0] {
            Receipt::Queued { id, .. } => queued.push(*id),
            Receipt::Duplicate { of, .. } => copied.push(*of),
            Receipt::Refused { .. } => panic!("nothing was refused"),
        }
    }
    assert_eq!((queued.len(), copied.len()), (1, 49));
    assert!(copied.iter().all(|of| *of == queued[0]));
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_decided_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let desk = open(directory.path(), 1_000);
    let (trigger, resolve) = (Action::Trigger, Action::Resolve);
    for (entries, expected) in [
        (vec![event(trigger, "a"), event(resolve, "a"), event(trigger, "a")], "qqq"),
        (vec![event(trigger, "b"), event(trigger, "b")], "qd"),
    ] {
        let receipts = desk.recorder.record(submission(entries)).await.unwrap();
        assert_eq!(words(&receipts), expected);
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_knows_what_is_queued_and_what_was_seen() {
    let directory = tempfile::tempdir().unwrap();
    let desk = open(directory.path(), 1_000);
    let entries = vec![event(Action::Trigger, "a"), event(Action::Trigger, "b"), event(Action::Trigger, "c")];
    let receipts = desk.recorder.record(submission(entries)).await.unwrap();
    let ids: Vec<EventId> = receipts
        .iter()
        .map(|receipt| match receipt {
            Receipt::Queued { id, .. } => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    let key = |key| KeyId::new("servicepilot", key);
    let done = settlement(ids[0], State::Delivered, Some(Outcome::Created));
    assert!(desk.recorder.settle(Some(attempt(ids[0])), done, key("a")).await);
    let lost = settlement(ids[1], State::Delivered, Some(Outcome::Unmatched));
    assert!(desk.recorder.settle(Some(attempt(ids[1])), lost, key("b")).await);
    desk.close().await;

    let desk = open(directory.path(), 1_000);
    assert_eq!(desk.restored, [Queued { id: ids[2], key: key("c"), action: Action::Trigger, reopening: false }]);
    for (name, expected, why) in [
        ("a", "d", "it was delivered"),
        ("b", "q", "it matched nothing there, so its key is unknown"),
        ("c", "d", "it still waits"),
    ] {
        let receipts = desk.recorder.record(submission(vec![event(Action::Trigger, name)])).await.unwrap();
        assert_eq!(words(&receipts), expected, "{name}: {why}");
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_events_are_handed_over_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = open(directory.path(), 1_000);
    for key in ["a", "b", "a"] {
        let action = if key == "b" { Action::Resolve } else { Action::Trigger };
        desk.recorder.record(submission(vec![event(action, key)])).await.unwrap();
    }
    let mut handed: Vec<Fresh> = Vec::new();
    while handed.len() < 2 {
        handed.extend(desk.fresh.recv().await.unwrap());
    }
    assert!(handed[0].event.id < handed[1].event.id);
    assert_eq!(handed[0].outgoing.clone().unwrap().body, Bytes::from_static(b"{\"state\":\"CRITICAL\"}"));
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_learns_the_end_whether_it_came_before_or_after() {
    let directory = tempfile::tempdir().unwrap();
    let desk = open(directory.path(), 1_000);
    let follow = || Submission { follow: true, ..submission(vec![event(Action::Trigger, "a")]) };
    let mut receipts = desk.recorder.record(follow()).await.unwrap();
    let Some(Receipt::Queued { id, follow: Some(first) }) = receipts.pop() else { panic!("not followed") };
    let mut receipts = desk.recorder.record(follow()).await.unwrap();
    let Some(Receipt::Duplicate { follow: Some(second), .. }) = receipts.pop() else { panic!("not followed") };
    let end = settlement(id, State::Delivered, Some(Outcome::Created));
    desk.recorder.settle(Some(attempt(id)), end.clone(), KeyId::new("servicepilot", "a")).await;
    let mut receipts = desk.recorder.record(follow()).await.unwrap();
    let Some(Receipt::Duplicate { follow: Some(third), .. }) = receipts.pop() else { panic!("not followed") };
    for follow in [first, second, third] {
        assert_eq!(follow.settled().await, Some(Settled::from(end.clone())));
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backlog_refuses_what_is_new_and_knows_what_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let desk = open(directory.path(), 2);
    let record = |key| desk.recorder.record(submission(vec![event(Action::Trigger, key)]));
    let receipts = record("a").await.unwrap();
    let Receipt::Queued { id, .. } = receipts[0] else { panic!("{receipts:?}") };
    record("b").await.unwrap();
    assert_eq!(record("c").await.unwrap_err(), Unavailable::Backlog);
    assert!(matches!(desk.recorder.health(), Health::Refusing { why: Unavailable::Backlog, .. }));
    assert_eq!(words(&record("a").await.unwrap()), "d");
    let end = settlement(id, State::Delivered, Some(Outcome::Created));
    desk.recorder.settle(Some(attempt(id)), end, KeyId::new("servicepilot", "a")).await;
    assert_eq!(words(&record("c").await.unwrap()), "q");
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_counted_on_the_event_they_copy() {
    let directory = tempfile::tempdir().unwrap();
    let desk = open(directory.path(), 100);
    for _ in 0..3 {
        desk.recorder.record(submission(vec![event(Action::Trigger, "a")])).await.unwrap();
    }
    desk.close().await;
    let reader = Reader::open(directory.path()).unwrap();
    let page = reader.list(&Filter { limit: 5, ..Filter::default() }).unwrap();
    let details = reader.details(page.events[0].id.parse().unwrap()).unwrap().unwrap();
    assert_eq!(details.duplicates, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_incidents_are_those_with_a_trigger_and_no_resolve() {
    let directory = tempfile::tempdir().unwrap();
    let desk = open(directory.path(), 100);
    for (action, key) in
        [(Action::Trigger, "a"), (Action::Trigger, "b"), (Action::Resolve, "a"), (Action::Trigger, "c")]
    {
        desk.recorder.record(submission(vec![event(action, key)])).await.unwrap();
    }
    let open = desk.recorder.open_incidents(10).await.unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let keys: Vec<_> = reader.summaries(&open).unwrap().into_iter().map(|event| event.incident_key.unwrap()).collect();
    assert_eq!(keys, ["c", "b"]);
    desk.close().await;
}
