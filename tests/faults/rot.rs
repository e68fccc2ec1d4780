//! Bits that flip in the journal's files, and files that are cut off: whatever it is, a start ends in a running relay,
//! nothing that was altered is sent, and what is lost is told.
//!
//! `GANDER_FLIPS` says how many places of each file are tried (250), spread evenly; `all` is every byte.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gander::exports::clock::{Clock, WallTime};
use gander::exports::event::{
    Action, Body, Draft, EventId, KeyId, Outcome, Priority, Settlement, State, Superseded, UpdateHash,
};
use gander::exports::journal::Shares;
use gander::exports::journal::dedup::{self, Occurrences};
use gander::exports::journal::recorder::{RecorderParts, RecorderThread};
use gander::exports::journal::request::{Entry, Submission};
use gander::exports::journal::{
    self, AttemptRecord, Journal, Lock, NewEvent, NewRefusal, Raw, Reader, Repairs, Sendable, StoredRetry,
};
use gander::exports::metrics::Metrics;
use gander::exports::trace_context::TraceContext;
use tokio::sync::mpsc;

use crate::seeded;

/// What was acknowledged, and where it stood.
#[derive(Clone, Debug)]
struct Truth {
    key: String,
    action: Action,
    body: Vec<u8>,
    state: State,
}

/// A journal as a kill left it, and what is in it.
struct Base {
    database: Vec<u8>,
    log: Vec<u8>,
    events: BTreeMap<EventId, Truth>,
    /// What the last commit made: of a log that ends in it nobody can say whether it was synced.
    last: HashSet<EventId>,
}

fn config(directory: &Path) -> journal::Config {
    journal::Config {
        data_dir: directory.to_owned(),
        max_events: 1_000_000,
        max_bytes: 1 << 40,
        keep_delivered: Duration::from_secs(3_600),
        keep_refused: 1_000,
        shares: Shares::default(),
        reserve: None,
    }
}

impl Base {
    /// Some hundred events in every state, of which the newer ones are in the log only; or all in the database.
    fn written(checkpointed: bool) -> Base {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::take(directory.path()).unwrap();
        let now = WallTime::now();
        let mut journal = Journal::open(&config(directory.path()), &lock, now).unwrap();
        journal.restore(|_| {}).unwrap();
        let mut events = BTreeMap::new();
        let mut last = HashSet::new();
        for number in 0..COMMITS {
            last = commit(&mut journal, number, now, &mut events);
            if number == COMMITS * 3 / 4 {
                assert!(journal.checkpoint().unwrap());
            }
        }
        if checkpointed {
            assert!(journal.checkpoint().unwrap());
        }
        let read = |beside: &str| fs::read(directory.path().join(format!("journal.db{beside}"))).unwrap();
        let log = if checkpointed { Vec::new() } else { read("-wal") };
        Base { database: read(""), log, events, last }
    }

    fn put(&self, directory: &Path, database: &[u8], log: &[u8]) {
        fs::write(directory.join("journal.db"), database).unwrap();
        if !log.is_empty() {
            fs::write(directory.join("journal.db-wal"), log).unwrap();
        }
    }
}

/// One commit of a few events, and of what became of earlier ones.
fn commit(
    journal: &mut Journal,
    number: usize,
    now: WallTime,
    events: &mut BTreeMap<EventId, Truth>,
) -> HashSet<EventId> {
    let mut made = HashSet::new();
    let mut batch = journal.begin().unwrap();
    for place in 0..1 + number % 3 {
        // Each key has its events one after the other; some bodies go on in pages of their own.
        let key = format!("host-{}", number % 50);
        let action = if (number / 50).is_multiple_of(2) { Action::Trigger } else { Action::Resolve };
        let filler = "x".repeat(if number.is_multiple_of(23) { 30_000 } else { 200 });
        let body = format!("{{\"commit\":{number},\"place\":{place},\"text\":\"{filler}\"}}").into_bytes();
        let id = batch
            .append(NewEvent {
                source: SOURCE,
                action,
                incident_key: &key,
                rule: "problem",
                priority: Priority::Normal,
                novelty: "opening",
                acknowledged_at: now,
                request: &format!("01REQUEST{number}-{place}"),
                sender_request: Some("4711"),
                trace: Some(&TraceContext::begin(u128::MAX - number as u128)),
                raw: Raw::Bytes(&body),
                charset: None,
                body: &body,
                update: UpdateHash(number as u64),
                occurrences: Occurrences::default(),
                replay_of: None,
                follows: None,
            })
            .unwrap();
        events.insert(id, Truth { key, action, body, state: State::Queued });
        made.insert(id);
    }
    if number.is_multiple_of(10) {
        let errors = b"[{\"path\":\"$.state\",\"problem\":\"is missing\"}]";
        batch
            .refuse(NewRefusal {
                source: SOURCE,
                received_at: now,
                request: &format!("01REFUSED{number}"),
                sender_request: None,
                trace: None,
                raw: Raw::Bytes(b"{\"n\":1}"),
                charset: None,
                element: None,
                reason: "validation",
                errors: errors.into(),
            })
            .unwrap();
    }
    // Events end in the order in which they came, some way behind.
    let ends: Vec<EventId> = events.keys().copied().skip(number).take(1).filter(|_| number > 20).collect();
    for id in ends {
        let truth = events.get_mut(&id).unwrap();
        if number.is_multiple_of(7) {
            let tried =
                StoredRetry { attempts: 2, age: Duration::from_secs(9), retry_at: WallTime(now.0 + 10), asked: None };
            batch.store_retry(id, tried, now).unwrap();
            continue;
        }
        let (state, outcome) = match number % 5 {
            0 => (State::Dead, None),
            _ => (State::Delivered, Some(Outcome::Created)),
        };
        let attempt = AttemptRecord {
            event: id,
            number: 1,
            started_at: now,
            took: Duration::from_millis(3),
            result: "created",
            status: Some(201),
            detail: None,
            answer: b"{}".to_vec(),
        };
        batch.attempt(&attempt).unwrap();
        let reason = (state == State::Dead).then(|| "rejected".to_owned());
        batch
            .settle(&Settlement {
                id,
                state,
                outcome,
                reason: reason.as_deref().map(gander::exports::event::Reason::read),
                attempts: 1,
                at: now,
            })
            .unwrap();
        truth.state = state;
    }
    batch.commit().unwrap();
    made
}

/// What starts over damaged files came to.
#[derive(Debug, Default)]
struct Seen {
    repairs: Vec<Repairs>,
    starts: usize,
    /// Events that these relays took.
    taken: HashSet<EventId>,
    /// Events that were acknowledged and are not there at all.
    missing: HashSet<EventId>,
    /// Dead letters because of damage.
    buried: usize,
    /// Events that are further behind than they were.
    behind: HashSet<EventId>,
}

impl Seen {
    fn unreadable(&self) -> u64 {
        let of = |repairs: &Repairs| {
            repairs.journal.as_ref().map_or(0, |salvage| salvage.unreadable)
                + repairs.log.as_ref().map_or(0, |log| log.unreadable + log.damaged)
        };
        self.repairs.iter().map(of).sum()
    }

    fn is_told(&self) -> bool {
        self.repairs.iter().any(|repairs| repairs.journal.is_some() || repairs.log.is_some())
    }
}

/// Starts until a relay runs that takes an event and shows every event, as whatever supervises it does.
fn start(directory: &Path, events: &BTreeMap<EventId, Truth>, what: &str) -> Seen {
    let mut seen = Seen::default();
    loop {
        seen.starts += 1;
        assert!(seen.starts <= 3, "{what}: no start ends in a running relay");
        if once(directory, events, what, &mut seen) && look(directory, events, what, &mut seen) {
            return seen;
        }
    }
}

/// Looks at everything that is kept; returns whether it could be read.
fn look(directory: &Path, events: &BTreeMap<EventId, Truth>, what: &str, seen: &mut Seen) -> bool {
    let reader = Reader::open(directory).unwrap();
    (seen.missing, seen.buried, seen.behind) = Default::default();
    for (id, truth) in events {
        let details = match reader.details(*id) {
            Ok(Some(details)) => details,
            Ok(None) => {
                seen.missing.insert(*id);
                continue;
            }
            // The next start knows.
            Err(journal::Error::Damaged(_)) => return false,
            Err(error) => panic!("{what}: {id}: {error}"),
        };
        let reason = details.summary.reason.unwrap_or_default();
        let state: State = details.summary.state.parse().unwrap_or_else(|()| panic!("{what}: {id}"));
        match (truth.state, state) {
            _ if reason.starts_with("damaged") => seen.buried += 1,
            (before, now) if before == now => {}
            // What was settled is sent again: the record of that was lost.
            (_, State::Queued) => drop(seen.behind.insert(*id)),
            other => panic!("{what}: event {id} is {other:?}: {reason}"),
        }
    }
    true
}

/// One start; returns whether the relay took an event.
fn once(directory: &Path, events: &BTreeMap<EventId, Truth>, what: &str, seen: &mut Seen) -> bool {
    let lock = Lock::take(directory).unwrap();
    let repairs = journal::repair(&lock, WallTime::now()).unwrap_or_else(|error| panic!("{what}: {error}"));
    seen.repairs.push(repairs);
    // Nobody delivers: what is left is in the files.
    let (committed, _) = mpsc::channel(1);
    let parts = RecorderParts {
        journal: config(directory),
        lock,
        dedup: dedup::Settings { window: Duration::from_secs(600), remind: true, max_keys: 1_000 },
        superseded: Superseded::Send,
        clock: Clock::start(),
        metrics: Arc::new(Metrics::new()),
        committed,
    };
    let mut queued = Vec::new();
    let opened = RecorderThread::open(parts, |event, _| queued.push(event));
    let (recorder, writer) = match opened {
        Ok(opened) => opened,
        // It was noted, and the next start sets the journal aside.
        Err(_) if journal::is_marked_damaged(directory) => return false,
        Err(error) => panic!("{what}: {error}"),
    };
    let reader = Reader::open(directory).unwrap();
    for event in queued.iter().filter(|event| !seen.taken.contains(&event.id)) {
        match reader.outgoing(event.id) {
            Ok(Sendable::Sound(outgoing)) => {
                let truth = events.get(&event.id).unwrap_or_else(|| panic!("{what}: {} never was", event.id));
                assert_eq!(outgoing.body, truth.body, "{what}: {} was altered", event.id);
                assert_eq!(&*outgoing.source, SOURCE, "{what}: {}", event.id);
                assert_eq!(event.key, KeyId::new(SOURCE, &truth.key), "{what}: {}", event.id);
                assert_eq!(event.action, truth.action, "{what}: {}", event.id);
            }
            Ok(Sendable::Damaged(_)) => seen.buried += 1,
            Err(_) => {}
        }
    }
    drop(reader);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    let thread = std::thread::spawn(move || writer.run(&handle));
    let key = format!("new-{}", seen.starts);
    let draft = Draft {
        action: Action::Trigger,
        incident_key: key,
        rule: Arc::from("problem"),
        occurrence: None,
        update: UpdateHash(0),
        priority: Priority::Normal,
        body: Body::of(&serde_json::json!({ "state": "CRITICAL" })),
    };
    let submission = Submission {
        source: Arc::from(SOURCE),
        request_id: Arc::from("01NEW"),
        sender_request_id: None,
        trace: None,
        received_at: WallTime::now(),
        raw: Bytes::from_static(b"{}"),
        charset: None,
        entries: vec![Entry::Event { key: KeyId::new(SOURCE, &draft.incident_key), draft }],
        wait_for_settlement: false,
        earlier: Arc::default(),
    };
    let taken = runtime.block_on(async { recorder.record(submission).await });
    drop(recorder);
    thread.join().unwrap();
    let Ok(recorded) = taken else {
        return false;
    };
    seen.taken.extend(recorded.iter().map(|recorded| recorded.receipt.id()));
    true
}

/// The places of a file that are tried.
fn places(bytes: usize) -> Vec<usize> {
    let text = std::env::var("GANDER_FLIPS").unwrap_or_else(|_| "250".to_owned());
    match text.as_str() {
        "all" => (0..bytes).collect(),
        count => {
            let count: usize = count.parse().unwrap_or_else(|_| panic!("GANDER_FLIPS={count}"));
            // An odd step, so that they are anywhere in a page; and the first bytes, where the headers are.
            let step = (bytes / count.max(1)).max(1) | 1;
            (0..bytes).step_by(step).collect()
        }
    }
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (at * 5 % 8);
    bytes
}

#[test]
fn a_bit_that_flips_in_the_database_alters_nothing_that_is_sent_and_each_loss_is_told() {
    let base = Base::written(true);
    let mut worst = (0, 0);
    for at in places(base.database.len()) {
        let directory = tempfile::tempdir().unwrap();
        let what = format!("byte {at} of the database");
        base.put(directory.path(), &flipped(&base.database, at), &[]);
        let seen = start(directory.path(), &base.events, &what);
        assert!(seen.missing.len() as u64 <= seen.unreadable(), "{what}: {seen:?}");
        assert!(seen.behind.is_empty() || seen.is_told(), "{what}: {seen:?}");
        worst = worst.max((seen.missing.len(), at));
    }
    eprintln!("at worst {} events were lost, at byte {}", worst.0, worst.1);
    assert!(worst.0 <= 2, "one bit costs {} events at {}", worst.0, worst.1);
}

#[test]
fn a_bit_that_flips_in_the_log_loses_none_of_what_is_behind_it() {
    let base = Base::written(false);
    assert!(base.log.len() > 1 << 20);
    let mut worst = (0, 0);
    for at in places(base.log.len()) {
        let directory = tempfile::tempdir().unwrap();
        let what = format!("byte {at} of the log");
        base.put(directory.path(), &base.database, &flipped(&base.log, at));
        let seen = start(directory.path(), &base.events, &what);
        let lost: Vec<_> = seen.missing.iter().filter(|id| !base.last.contains(id)).collect();
        assert!(lost.is_empty() || lost.len() as u64 <= seen.unreadable(), "{what}: {seen:?}");
        worst = worst.max((seen.missing.len(), at));
    }
    eprintln!("at worst {} events were lost, at byte {}", worst.0, worst.1);
    assert!(worst.0 <= 2, "one bit costs {} events at {}", worst.0, worst.1);
}

#[test]
fn a_sector_or_block_that_is_lost_costs_what_was_in_it_and_that_is_told() {
    let base = Base::written(false);
    let whole = Base::written(true);
    let mut dice = seeded("lost blocks");
    let mut worst = 0;
    for (place, part) in places(base.log.len()).into_iter().step_by(5).enumerate() {
        let bytes = [512, 4_096, 8_192][place % 3];
        let mut spoil = |file: &[u8]| {
            let mut file = file.to_vec();
            let at = (part % file.len()) / bytes * bytes;
            let end = file.len().min(at + bytes);
            if dice.bool() {
                file[at..end].fill(0);
            } else {
                file[at..end].fill_with(|| dice.u8(..));
            }
            (file, at)
        };
        let (log, in_log) = spoil(&base.log);
        let (database, in_database) = spoil(&whole.database);
        let directory = tempfile::tempdir().unwrap();
        let what = format!("{bytes} bytes from {in_log} of the log");
        base.put(directory.path(), &base.database, &log);
        let seen = start(directory.path(), &base.events, &what);
        let lost: Vec<_> = seen.missing.iter().filter(|id| !base.last.contains(id)).collect();
        assert!(lost.is_empty() || seen.unreadable() > 0, "{what}: {seen:?}");

        let directory = tempfile::tempdir().unwrap();
        let what = format!("{bytes} bytes from {in_database} of the database");
        base.put(directory.path(), &database, &[]);
        let seen = start(directory.path(), &whole.events, &what);
        assert!(seen.missing.len() as u64 <= seen.unreadable(), "{what}: {seen:?}");
        worst = worst.max(seen.missing.len());
    }
    eprintln!("at worst {worst} events were lost");
}

#[test]
fn of_a_database_that_was_cut_off_all_is_kept_that_is_still_there() {
    let base = Base::written(true);
    // What comes first are the first pages of all tables and indexes, most of them empty.
    for part in (4..16).rev() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = base.database.len() * part / 16;
        let what = format!("the first {bytes} bytes of the database");
        base.put(directory.path(), &base.database[..bytes], &[]);
        let seen = start(directory.path(), &base.events, &what);
        let kept = base.events.len() - seen.missing.len();
        eprintln!("{what}: {kept} of {} events, {} of them damaged", base.events.len(), seen.buried);
        assert!(seen.is_told(), "{what}: {seen:?}");
        assert!(kept * 32 >= base.events.len() * part, "{what}: {kept} of {}", base.events.len());
    }
}

#[test]
fn a_log_that_ends_within_a_commit_is_no_damage() {
    let base = Base::written(false);
    for at in places(base.log.len()).into_iter().step_by(5) {
        let directory = tempfile::tempdir().unwrap();
        let what = format!("the first {at} bytes of the log");
        base.put(directory.path(), &base.database, &base.log[..at]);
        let seen = start(directory.path(), &base.events, &what);
        assert!(!seen.is_told() && seen.buried == 0, "{what}: {seen:?}");
    }
}

const SOURCE: &str = "servicepilot";
/// Each makes one to three events.
const COMMITS: usize = 140;
