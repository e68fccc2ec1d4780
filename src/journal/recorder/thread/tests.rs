use std::path::Path;

use bytes::Bytes;

use super::restore::open_writable;
use super::*;
use crate::clock::WallTime;
use crate::event::{
    Action, Body, Draft, HoldTarget, KeyId, Outcome, Outgoing, Pending, Priority, Reason, Settlement, SourceId, State,
    UpdateHash,
};
use crate::journal::recorder::QueueCopy;
use crate::journal::recorder::reply::Reply;
use crate::journal::request::{Entry, Request, Settle, Submission};
use crate::journal::{AttemptRecord, CommandOrigin, Reader, Rewritten, Shares};
use crate::trace_context::TraceContext;

/// A recorder's thread that a test drives itself.
struct Fixture {
    thread: RecorderThread,
    recorder: Recorder,
    committed: mpsc::Receiver<Committed>,
}

fn open(directory: &Path) -> Fixture {
    let (sender, committed) = mpsc::channel(1_000);
    let parts = RecorderParts {
        journal: journal::Config {
            data_dir: directory.to_owned(),
            max_events: 1_000_000,
            max_bytes: 1 << 30,
            keep_delivered: Duration::from_secs(60),
            keep_refused: 10,
            shares: Shares::default(),
            reserve: None,
        },
        lock: Lock::take(directory).unwrap(),
        dedup: dedup::Settings { window: Duration::from_secs(600), remind: true, max_keys: 100_000 },
        superseded: Default::default(),
        clock: Clock::start(),
        metrics: Arc::new(Metrics::new()),
        committed: sender,
    };
    let (recorder, thread) = RecorderThread::open(parts, |_, _| ()).unwrap();
    Fixture { thread, recorder, committed }
}

fn submission(keys: std::ops::Range<u64>) -> Submission {
    let entry = |key: u64| {
        let draft = Draft {
            action: Action::Trigger,
            incident_key: key.to_string(),
            rule: Arc::from("problem"),
            occurrence: None,
            update: UpdateHash(0),
            priority: Priority::Normal,
            body: Body::of(&serde_json::json!({})),
        };
        Entry::Event { key: KeyId::new("servicepilot", &draft.incident_key), draft }
    };
    Submission {
        source: Arc::from("servicepilot"),
        request_id: Arc::from("01REQUEST"),
        sender_request_id: None,
        trace: None,
        received_at: WallTime::now(),
        raw: Bytes::from_static(b"[]"),
        charset: None,
        entries: keys.map(entry).collect(),
        wait_for_settlement: false,
        earlier: Arc::default(),
    }
}

type Replied = oneshot::Receiver<Reply>;

fn record(keys: std::ops::Range<u64>) -> (Message, Replied) {
    let (reply, replied) = oneshot::channel();
    (Message { request: Request::Record(submission(keys)), reply: Some(reply) }, replied)
}

fn settle(settle: Settle) -> Message {
    Message { request: Request::Settle(settle), reply: None }
}

/// A waiting trigger.
fn waits(event: u64) -> Pending {
    Pending { event: EventId(event), source: SourceId(0), action: Action::Trigger, priority: Priority::Normal }
}

fn ended(event: u64) -> Settle {
    let attempt = AttemptRecord {
        event: EventId(event),
        number: 1,
        started_at: WallTime(1),
        took: Duration::from_millis(1),
        result: "created",
        status: Some(202),
        detail: None,
        answer: Vec::new(),
    };
    let settlement = Settlement {
        id: EventId(event),
        state: State::Delivered,
        outcome: Some(Outcome::Created),
        reason: None,
        attempts: 1,
        at: WallTime(1),
    };
    Settle {
        attempt: Some(attempt),
        settlement,
        key: KeyId::new("servicepilot", "any"),
        awaited: false,
        commanded: None,
    }
}

impl Fixture {
    /// Records an event of each key; returns their numbers.
    fn take(&mut self, keys: std::ops::Range<u64>) -> Vec<u64> {
        self.thread.turn(&mut vec![record(keys).0]);
        assert!(self.thread.fault.is_none());
        self.committed.try_recv().unwrap().accepted.iter().map(|accepted| accepted.event.id.0).collect()
    }

    /// The journal can't be written, and these settlements were reported meanwhile.
    fn fails_with(&mut self, held: impl IntoIterator<Item = Settle>) {
        self.thread.fault = Some(Fault::default());
        for settle in held {
            assert!(self.thread.core.hold(Request::Settle(settle)).is_none());
        }
    }

    /// The settlements published since the last call.
    fn told(&mut self) -> Vec<u64> {
        let mut told = Vec::new();
        while let Ok(committed) = self.committed.try_recv() {
            told.extend(committed.settled.iter().map(|settlement| settlement.id.0));
        }
        told
    }
}

#[test]
fn ends_that_were_written_after_a_fault_are_told_and_not_written_again_where_a_later_one_fails() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path());
    let at_once = fixture.thread.journal.space().unwrap().ends_at_once() as u64;
    let ids = fixture.take(0..2 * at_once + 1);
    let (last, before) = ids.split_last().unwrap();
    fixture.fails_with(ids.iter().copied().map(ended));
    let full = format!(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON attempt WHEN new.event = {last} BEGIN SELECT RAISE(ABORT, 'full'); END"
    );
    fixture.thread.journal.execute(&full);
    for _ in 0..2 {
        assert!(fixture.thread.write_held().is_err());
    }
    let held = fixture.thread.core.held(usize::MAX);
    let [Request::Settle(held)] = held.as_slice() else { panic!("{held:?}") };
    assert_eq!(held.settlement.id.0, *last);
    assert_eq!(fixture.told(), before);
    fixture.thread.journal.execute("DROP TRIGGER full");
    fixture.thread.write_held().unwrap();
    assert_eq!((fixture.told(), fixture.thread.journal.totals().queued), (vec![*last], 0));
}

#[test]
fn whoever_waits_for_a_change_is_woken_by_ends_that_are_written_after_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path());
    let ids = fixture.take(0..2);
    let mut commits = fixture.recorder.commits();
    fixture.fails_with(ids.iter().copied().map(ended));
    fixture.thread.turn(&mut Vec::new());
    assert!(fixture.thread.fault.is_none());
    assert_eq!(fixture.told(), ids);
    assert!(commits.has_changed().unwrap(), "the ends");

    // A part of them, before the disk fails again.
    let ids = fixture.take(2..4);
    commits.mark_unchanged();
    fixture.fails_with(ids.iter().copied().map(ended));
    let at = fixture.thread.journal.space().unwrap().ends_at_once();
    assert!(at >= ids.len(), "they are one part");
    fixture.thread.write_held().unwrap();
    fixture.thread.publish_commits();
    assert!(commits.has_changed().unwrap(), "the part that was written");

    // Nothing was held, but events may have come or gone with the journal that was opened.
    commits.mark_unchanged();
    fixture.thread.fault = Some(Fault::default());
    fixture.thread.turn(&mut Vec::new());
    assert!(fixture.thread.fault.is_none() && commits.has_changed().unwrap(), "the reopened journal");
}

#[test]
fn whoever_waits_for_a_change_is_woken_where_an_event_is_pruned() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path());
    let ids = fixture.take(0..2);
    fixture.thread.turn(&mut vec![settle(ended(ids[0]))]);
    fixture.thread.journal.execute("UPDATE event SET received_at = 0, settled_at = 0, sum = NULL, state_sum = NULL");
    let commits = fixture.recorder.commits();
    // A round may have other things to sweep.
    for _ in 0..3 {
        fixture.thread.prune().unwrap();
    }
    fixture.thread.publish_state();
    assert!(commits.has_changed().unwrap());
}

#[test]
fn a_discard_of_a_commit_in_doubt_is_noted_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path());
    let id = fixture.take(0..1)[0];
    let origin = CommandOrigin { request_id: "01COMMAND".into(), by: "loopback".into(), selection: None };
    let Settle { settlement, .. } = ended(id);
    let settlement = Settlement { state: State::Ended, outcome: None, reason: Some(Reason::Discarded), ..settlement };
    let end = Settle { settlement, commanded: Some(Arc::new(origin)), ..ended(id) };
    fixture.thread.turn(&mut vec![settle(end.clone())]);
    // As if that commit had failed: it reached the disk, and is written again.
    fixture.fails_with([end]);
    fixture.thread.turn(&mut Vec::new());
    assert!(fixture.thread.fault.is_none());
    let noted = Reader::open(directory.path()).unwrap().commands(None, None, 10).unwrap().commands;
    let noted: Vec<(&str, u64)> = noted.iter().map(|one| (&*one.command, one.count)).collect();
    assert_eq!(noted, [("discard", 1)]);
}

#[test]
fn a_hold_of_a_commit_that_failed_and_reached_the_disk_is_not_in_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path());
    let origin = Arc::new(CommandOrigin { request_id: "01COMMAND".into(), by: "loopback".into(), selection: None });
    let turn = |fixture: &mut Fixture, key: &str, held| {
        let target = HoldTarget { source: "servicepilot".into(), incident_key: Some(key.into()) };
        let message = Message { request: Request::Hold { target, held, origin: Arc::clone(&origin) }, reply: None };
        fixture.thread.turn(&mut vec![message]);
    };
    turn(&mut fixture, "a", true);
    let told = Arc::clone(&fixture.thread.holds.borrow());
    turn(&mut fixture, "a", false);
    turn(&mut fixture, "b", true);
    let noted = || -> Vec<String> {
        let noted = Reader::open(directory.path()).unwrap().commands(None, None, 10).unwrap().commands;
        noted.iter().map(|one| format!("{} {}", one.command, one.key.as_deref().unwrap_or_default())).collect()
    };
    assert_eq!(noted(), ["hold b", "release a", "hold a"]);
    // As if the last two commits had failed: nobody was told.
    fixture.thread.holds.send_replace(told);
    fixture.thread.fault = Some(Fault::default());
    fixture.thread.turn(&mut Vec::new());
    assert!(fixture.thread.fault.is_none());
    assert_eq!(noted(), ["hold a"]);
    let held = fixture.thread.journal.holds().unwrap();
    assert_eq!(held.iter().map(|held| held.target.incident_key.as_deref()).collect::<Vec<_>>(), [Some("a")]);
    // Where the file itself may have lost something, nothing is taken back.
    fixture.thread.holds.send_replace(Arc::default());
    fixture.thread.fault = Some(Fault { altered: true, ..Fault::default() });
    fixture.thread.write_held().unwrap();
    assert_eq!(noted(), ["hold a"]);
}

#[test]
fn senders_are_answered_while_the_queue_is_brought_together_with_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path());
    let waiting = fixture.take(0..2_001).into_iter().map(waits).collect();
    fixture.recorder.leave_queue(QueueCopy { waiting, ..QueueCopy::default() });
    drop(fixture.committed);
    fixture.thread.fault = Some(Fault { altered: true, why: Unavailable::JournalReplaced, ..Fault::default() });
    let (message, mut reply) = record(3_000..3_001);
    fixture.recorder.put(message).unwrap();
    let journal = open_writable(&fixture.thread.parts).unwrap();
    fixture.thread.rewrite_missing(journal).unwrap();
    assert!(matches!(reply.try_recv(), Ok(Reply::Unavailable(Unavailable::JournalReplaced))));
}

#[test]
fn what_the_dispatcher_left_and_what_became_durable_since_is_made_good() {
    let directory = tempfile::tempdir().unwrap();
    let mut fixture = open(directory.path());
    let ids = fixture.take(0..3);
    let outgoing = Outgoing {
        source: Arc::from("servicepilot"),
        incident_key: Arc::from("0"),
        body: Bytes::from_static(b"{}"),
        acknowledged: WallTime(1),
        trace: Some(TraceContext::begin(7)),
    };
    fixture.recorder.leave_queue(QueueCopy {
        waiting: ids.iter().copied().map(waits).collect(),
        bodies: HashMap::from([(EventId(ids[0]), outgoing)]),
        ..QueueCopy::default()
    });
    drop(fixture.committed);
    // One more comes, and one ends, and nobody is there to be told.
    fixture.thread.turn(&mut vec![record(3..4).0, settle(ended(ids[1]))]);
    fixture.thread.journal.execute(&format!("DELETE FROM event WHERE id IN ({}, {})", ids[0], ids[2]));
    fixture.thread.fault = Some(Fault { altered: true, why: Unavailable::JournalReplaced, ..Fault::default() });
    let journal = open_writable(&fixture.thread.parts).unwrap();
    let journal = fixture.thread.rewrite_missing(journal).unwrap();
    assert_eq!(journal.queued().unwrap(), [EventId(ids[0]), EventId(ids[2] + 1)]);
    let rewritten = fixture.thread.fault.as_ref().and_then(|fault| fault.rewritten);
    assert_eq!(rewritten, Some(Rewritten { again: 1, lost: 1, ended: 0 }));
    let again = Reader::open(directory.path()).unwrap().details(EventId(ids[0])).unwrap().unwrap();
    assert_eq!(again.summary.trace_id, Some(TraceContext::begin(7).id()));
}

#[test]
fn without_an_answer_of_what_waits_the_journal_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let Fixture { mut thread, recorder, committed } = open(directory.path());
    drop((committed, recorder));
    thread.fault = Some(Fault { altered: true, why: Unavailable::JournalReplaced, ..Fault::default() });
    let journal = open_writable(&thread.parts).unwrap();
    let error = thread.rewrite_missing(journal).unwrap_err();
    assert!(error.to_string().contains("does not answer what else is queued"), "{error}");
}
