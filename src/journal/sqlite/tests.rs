use std::path::Path;
use std::time::Instant;

use super::connect::PAGE_BYTES;
use super::schema::{SCHEMA, VERSION};
use super::*;
use crate::event::{Action, KeyId, Occurrence, Outcome, Priority, Reason, Settlement, State, UpdateHash};
use crate::journal::dedup::Occurrences;
use crate::journal::fact::{NewEvent, NewRefusal, Raw};
use crate::journal::known::{Blob, Later};
use crate::journal::request::{AttemptRecord, ShadowDifferences, StoredRetry};
use crate::journal::totals::Fit;
use crate::trace_context::TraceContext;

pub(super) const NOW: WallTime = WallTime(1_700_000_000_000);
const NONE: Occurrences = Occurrences { last: None, past: None };

pub(super) fn config(directory: &Path) -> Config {
    Config {
        data_dir: directory.to_owned(),
        max_events: 100,
        max_bytes: 1 << 20,
        keep_delivered: Duration::from_secs(60),
        keep_refused: 3,
        shares: Shares::default(),
        reserve: None,
    }
}

pub(super) fn open(config: &Config) -> (Journal, Lock, Vec<RestoredEvent>) {
    let lock = Lock::take(&config.data_dir).unwrap();
    let mut journal = Journal::open(config, &lock, NOW).unwrap();
    let mut restored = Vec::new();
    let damaged = journal
        .restore(|found| match found {
            Found::Event(event) => restored.push(event),
            Found::Damaged(id) => panic!("{id}"),
        })
        .unwrap();
    assert_eq!(damaged, []);
    (journal, lock, restored)
}

pub(super) fn event<'a>(key: &'a str, body: &'a [u8]) -> NewEvent<'a> {
    NewEvent {
        source: "servicepilot",
        action: Action::Trigger,
        incident_key: key,
        rule: "problem",
        priority: Priority::Normal,
        novelty: "opening",
        acknowledged_at: NOW,
        request: "01REQUEST",
        sender_request: None,
        trace: None,
        raw: Raw::Bytes(b"{\"raw\":true}"),
        charset: None,
        body,
        update: UpdateHash(u64::MAX),
        occurrences: NONE,
        follows: None,
        replay_of: None,
    }
}

pub(super) fn delivered(id: EventId, at: WallTime) -> Settlement {
    Settlement { id, state: State::Delivered, outcome: Some(Outcome::Created), reason: None, attempts: 1, at }
}

#[test]
fn an_event_is_found_again_with_its_source_and_its_priority() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, lock, _) = open(&config);
    let mut batch = journal.begin().unwrap();
    let high = batch.append(NewEvent { priority: Priority::High, novelty: "update", ..event("a", b"{}") }).unwrap();
    batch
        .append(NewEvent { source: "other", priority: Priority::Low, novelty: "reminder", ..event("b", b"{}") })
        .unwrap();
    batch.append(event("c", b"{}")).unwrap();
    assert_eq!(
        batch.stored(high).unwrap().unwrap().unwrap().decided.unwrap().priority,
        Priority::High,
        "for its replay"
    );
    batch.commit().unwrap();
    drop((journal, lock));

    let (_journal, _lock, restored) = open(&config);
    let seen: Vec<_> = restored.iter().map(|event| (&*event.source, event.priority)).collect();
    assert_eq!(seen, [("servicepilot", Priority::High), ("other", Priority::Low), ("servicepilot", Priority::Normal)]);
    let details = Reader::open(directory.path()).unwrap().details(high).unwrap().unwrap();
    assert_eq!(details.priority.as_deref(), Some("high"));
}

#[test]
fn a_new_journal_whose_process_was_killed_is_no_damaged_one() {
    let (directory, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut journal, _lock, _) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    batch.append(event("a", b"{}")).unwrap();
    batch.commit().unwrap();
    // Nothing of it is in the database yet.
    for file in [FILE.to_owned(), format!("{FILE}-wal")] {
        std::fs::copy(directory.path().join(&file), killed.path().join(&file)).unwrap();
    }
    assert_eq!(repair(&Lock::take(killed.path()).unwrap(), NOW).unwrap(), Repairs::default());
    assert_eq!(open(&config(killed.path())).2.len(), 1);

    let made = tempfile::tempdir().unwrap();
    let connection = Connection::open(made.path().join(FILE)).unwrap();
    let made_only =
        format!("PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL");
    connection.execute_batch(&made_only).unwrap();
    drop(connection);
    assert_eq!(repair(&Lock::take(made.path()).unwrap(), NOW).unwrap(), Repairs::default());
    assert_eq!(open(&config(made.path())).2.len(), 0);
}

#[test]
fn a_journal_that_was_made_before_priorities_is_read_by_who_may_write_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, lock, _) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    batch.append(event("a", b"{}")).unwrap();
    batch.commit().unwrap();
    journal.connection.execute_batch("ALTER TABLE event DROP COLUMN priority").unwrap();
    journal.close();
    drop(lock);
    let mut read = Vec::new();
    Reader::open_stopped(directory.path())
        .unwrap()
        .restore(|found| match found {
            Found::Event(event) => read.push(event.priority),
            Found::Damaged(id) => panic!("{id}"),
        })
        .unwrap();
    assert_eq!(read, [Priority::Normal]);
}

#[test]
fn a_trace_is_read_back_and_a_damaged_one_stops_no_event() {
    let trace = TraceContext::begin(7);
    for (damage, kept) in [
        (None, Some(trace.clone())),
        (Some("NULL"), None),
        (Some("x'00'"), None),
        (Some("'text'"), None),
        (Some("9"), None),
        (Some("zeroblob(9000)"), None),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let (mut journal, lock, _) = open(&config);
        let mut batch = journal.begin().unwrap();
        let id = batch.append(NewEvent { trace: Some(&trace), ..event("a", b"{}") }).unwrap();
        batch.commit().unwrap();
        if let Some(damage) = damage {
            journal.connection.execute_batch(&format!("UPDATE event SET trace = {damage}")).unwrap();
        }
        drop((journal, lock));

        let (mut journal, _lock, recovered) = open(&config);
        assert_eq!(recovered.len(), 1, "{damage:?}");
        let reader = Reader::open(directory.path()).unwrap();
        let Sendable::Sound(outgoing) = reader.outgoing(id).unwrap() else { panic!("{damage:?}") };
        assert_eq!(outgoing.trace, kept, "{damage:?}");
        let shown = reader.details(id).unwrap().unwrap().summary.trace_id;
        assert_eq!(shown, kept.as_ref().map(TraceContext::id), "{damage:?}");
        let for_replay = journal.begin().unwrap().stored(id).unwrap().unwrap().unwrap();
        assert_eq!(for_replay.trace, kept, "{damage:?}");
    }
}

#[test]
fn what_was_committed_is_found_again_and_what_was_not_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, lock, _) = open(&config);
    let mut batch = journal.begin().unwrap();
    let first = batch.append(event("a", b"{}")).unwrap();
    let second = batch.append(event("b", b"{}")).unwrap();
    batch.settle(&delivered(second, NOW)).unwrap();
    batch.commit().unwrap();
    let mut batch = journal.begin().unwrap();
    batch.append(event("c", b"{}")).unwrap();
    drop(batch);
    drop((journal, lock));

    let (journal, _lock, restored) = open(&config);
    let seen: Vec<_> = restored.iter().map(|event| (event.id, event.key, event.state, event.outcome)).collect();
    let key = |key| KeyId::new("servicepilot", key);
    assert_eq!(
        seen,
        [(first, key("a"), State::Queued, None), (second, key("b"), State::Delivered, Some(Outcome::Created)),]
    );
    assert_eq!(restored[0].update, UpdateHash(u64::MAX));
    assert_eq!(journal.totals(), Totals { queued: 1, bytes: 14, ..Totals::default() });
}

#[test]
fn a_number_is_never_used_twice_even_when_its_event_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, lock, _) = open(&config);
    let mut batch = journal.begin().unwrap();
    let first = batch.append(event("a", b"{}")).unwrap();
    let newest = batch.append(event("b", b"{}")).unwrap();
    batch.settle(&delivered(first, NOW)).unwrap();
    batch.settle(&delivered(newest, NOW)).unwrap();
    batch.commit().unwrap();
    let mut batch = journal.begin().unwrap();
    batch.prune(None, 100, |_, _, _| false).unwrap();
    batch.commit().unwrap();
    drop((journal, lock));
    let (mut journal, _lock, restored) = open(&config);
    assert_eq!(restored.len(), 1);
    assert!(journal.begin().unwrap().append(event("c", b"{}")).unwrap() > newest);
}

#[test]
fn a_second_process_is_refused_and_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let _lock = Lock::take(directory.path()).unwrap();
    let error = Lock::take(directory.path()).unwrap_err().to_string();
    assert!(error.contains("another gander uses this directory"), "{error}");
}

#[test]
fn somebody_elses_directory_is_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let mode = || std::fs::metadata(directory.path()).unwrap().permissions().mode() & 0o7777;
    let open_to_all = || std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let theirs = directory.path().join("letter.txt");
    open_to_all();
    std::fs::write(&theirs, "dear").unwrap();
    let error = Lock::take(directory.path()).unwrap_err().to_string();
    assert!(error.contains("none of them is gander's") && error.contains("of its own"), "{error}");
    assert_eq!((mode(), std::fs::read_dir(directory.path()).unwrap().count()), (0o1777, 1), "untouched");

    std::fs::remove_file(&theirs).unwrap();
    drop(Lock::take(directory.path()).unwrap());
    assert_eq!(mode(), 0o700, "an empty one is tightened");
    std::fs::write(&theirs, "dear").unwrap();
    open_to_all();
    drop(Lock::take(directory.path()).unwrap());
    assert_eq!(mode(), 0o700, "so is ours, whatever was put beside our files");
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal", "journal.db-shm", "lock"] {
        let directory = tempfile::tempdir().unwrap();
        drop(open(&config(directory.path())));
        let (link, target) = (directory.path().join(name), outside.path().join(name));
        std::fs::write(&target, "precious").unwrap();
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let error = Lock::take(directory.path()).unwrap_err().to_string();
        assert!(error.contains("symbolic link") && error.contains(name), "{name}: {error}");
        assert_eq!(std::fs::read(&target).unwrap(), b"precious", "{name}");
    }
    // The link is not followed while the directory is locked either.
    let directory = tempfile::tempdir().unwrap();
    let lock = Lock::take(directory.path()).unwrap();
    let target = outside.path().join("elsewhere.db");
    std::os::unix::fs::symlink(&target, directory.path().join("journal.db")).unwrap();
    let error = Journal::open(&config(directory.path()), &lock, NOW).unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert!(Reader::open(directory.path()).is_err() && !target.exists());
}

#[test]
fn a_link_to_the_directory_is_followed() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::create_dir(parent.path().join("volume")).unwrap();
    let link = parent.path().join("data");
    std::os::unix::fs::symlink("volume", &link).unwrap();
    let (_journal, ..) = open(&config(&link));
    assert!(Reader::open(&link).is_ok() && parent.path().join("volume/journal.db").exists());
}

#[test]
fn directory_and_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let config = config(&parent.path().join("deep/data"));
    let (mut journal, ..) = open(&config);
    let mut batch = journal.begin().unwrap();
    batch.append(event("a", b"{}")).unwrap();
    batch.commit().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&config.data_dir), 0o700);
    for file in ["journal.db", "journal.db-wal", "journal.db-shm", "lock"] {
        assert_eq!(mode(&config.data_dir.join(file)), 0o600, "{file}");
    }
}

fn fit(batch: &Batch<'_>, events: u64, bytes: u64) -> Fit {
    batch.totals.fit(&batch.journal.limits, None, events, bytes)
}

#[test]
fn queued_dead_and_refused_count_against_the_limits_and_delivered_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&Config { max_events: 2, ..config(directory.path()) });
    let mut batch = journal.begin().unwrap();
    let first = batch.append(event("a", b"{}")).unwrap();
    let second = batch.append(event("b", b"{}")).unwrap();
    assert!(fit(&batch, 1, 0) != Fit::Fits);
    batch.settle(&delivered(first, NOW)).unwrap();
    assert!(fit(&batch, 1, 0) == Fit::Fits);
    batch.settle(&Settlement { state: State::Dead, ..delivered(second, NOW) }).unwrap();
    assert!(fit(&batch, 1, 0) == Fit::Fits && fit(&batch, 2, 0) != Fit::Fits);
    batch.commit().unwrap();
    let batch = journal.begin().unwrap();
    assert!(fit(&batch, 1, 0) == Fit::Fits && fit(&batch, 1, 2 << 20) != Fit::Fits);
}

#[test]
fn an_event_settles_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let id = batch.append(event("a", b"{}")).unwrap();
    batch.settle(&delivered(id, NOW)).unwrap();
    assert!(!batch.settle(&Settlement { state: State::Dead, ..delivered(id, NOW) }).unwrap(), "it ended before");
    batch.commit().unwrap();
    assert_eq!(journal.totals(), Totals::default());
}

#[test]
fn the_oldest_refused_payloads_make_room() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, ..) = open(&config);
    let mut batch = journal.begin().unwrap();
    for _ in 0..5 {
        let errors = br#"[{"path":"$","problem":"not JSON","found":null}]"#;
        let refusal = NewRefusal {
            source: "servicepilot",
            received_at: NOW,
            request: "01REQUEST",
            sender_request: None,
            trace: None,
            raw: Raw::Bytes(b"{broken"),
            charset: None,
            element: None,
            reason: "not_json",
            errors: errors.into(),
        };
        batch.refuse(refusal).unwrap();
        batch.trim_refused().unwrap();
    }
    batch.commit().unwrap();
    assert_eq!(journal.totals(), Totals { refused: 3, bytes: 21, refused_bytes: 21, ..Totals::default() });
    let reader = Reader::open(directory.path()).unwrap();
    let page = reader.list(&Filter { states: vec![State::Refused], limit: 10, ..Filter::default() }).unwrap();
    assert_eq!(page.events.len(), 3);
    let details = reader.details(page.events[0].id.parse().unwrap()).unwrap().unwrap();
    assert_eq!(details.received.as_deref(), Some("{broken"));
    assert_eq!(details.errors.unwrap()[0]["problem"], "not JSON");
}

#[test]
fn the_reason_of_a_refusal_outlives_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let refusal = |errors: &'static [u8]| NewRefusal {
        reason: "body_too_large",
        errors: errors.into(),
        element: None,
        ..element(Raw::Bytes(b"{"), b"")
    };
    let marked = batch.refuse(refusal(br#"[{"path":"$","problem":"p","reason":"body_too_large"}]"#)).unwrap();
    let earlier = batch.refuse(refusal(br#"[{"path":"$","problem":"p"}]"#)).unwrap();
    batch.commit().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let reasons = || [marked, earlier].map(|id| reader.refused(id).unwrap().unwrap().reason.unwrap());
    assert_eq!(reasons(), ["body_too_large", "body_too_large"]);
    let mut batch = journal.begin().unwrap();
    for id in [marked, earlier] {
        batch.end(id, &Reason::Discarded, NOW).unwrap();
    }
    batch.commit().unwrap();
    assert_eq!(reasons(), ["body_too_large", "discarded"]);
}

#[test]
fn a_list_has_the_first_error_of_what_was_refused_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    for errors in [
        br#"[{"path":"$.state","problem":"no","found":"odd"},{"path":"$","problem":"no","found":null}]"#.as_slice(),
        br#"[{"path":"$.api_token","problem":"no","found":"hunter2"}]"#,
    ] {
        let refusal = NewRefusal {
            source: "servicepilot",
            received_at: NOW,
            request: "01REQUEST",
            sender_request: None,
            trace: None,
            raw: Raw::Bytes(b"{}"),
            charset: None,
            element: None,
            reason: "unprocessable",
            errors: errors.into(),
        };
        batch.refuse(refusal).unwrap();
    }
    batch.commit().unwrap();
    let page = Reader::open(directory.path()).unwrap().list(&Filter { limit: 10, ..Filter::default() }).unwrap();
    let errors: Vec<String> = page.events.iter().map(|event| event.error.as_ref().unwrap().to_string()).collect();
    assert_eq!(
        errors,
        [
            r#"{"path":"$.api_token","problem":"no","found":null,"more":0}"#,
            r#"{"path":"$.state","problem":"no","found":"odd","more":1}"#,
        ]
    );
}

#[test]
fn pruning_takes_what_is_old_and_keeps_what_a_key_rests_on_in_a_row_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = ["a", "b", "c", "d"].iter().map(|key| batch.append(event(key, b"{}")).unwrap()).collect();
    batch.settle(&delivered(ids[0], NOW)).unwrap();
    batch.settle(&delivered(ids[1], NOW)).unwrap();
    batch.settle(&delivered(ids[2], WallTime(NOW.0 + 10))).unwrap();
    batch.commit().unwrap();
    let mut batch = journal.begin().unwrap();
    batch.prune(Some(WallTime(NOW.0 + 5)), 100, |_, source, key| (source, key) == ("servicepilot", "b")).unwrap();
    batch.commit().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let left = reader.summaries(&ids).unwrap();
    let left: Vec<_> = left.iter().map(|event| event.incident_key.clone().unwrap()).collect();
    assert_eq!(left, ["b", "c", "d"]);
    assert!(reader.details(ids[1]).unwrap().is_none(), "its history is gone");
    let kept = &reader.summaries(&ids[1..2]).unwrap()[0];
    assert_eq!((kept.state.as_str(), kept.outcome.as_deref(), kept.attempts), ("delivered", Some("created"), 1));
    assert!(matches!(reader.outgoing(ids[3]).unwrap(), Sendable::Sound(_)));
}

#[test]
fn what_a_key_rests_on_is_recovered_in_the_place_of_its_event_until_the_key_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, lock, _) = open(&config);
    let known = Occurrences { last: Some(Occurrence("[2]".into())), past: Some(Occurrence("[1]".into())) };
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|key| batch.append(NewEvent { occurrences: known.clone(), ..event(key, b"{}") }).unwrap())
        .collect();
    for id in [ids[0], ids[1], ids[3]] {
        batch.settle(&delivered(id, NOW)).unwrap();
    }
    batch.commit().unwrap();
    drop((journal, lock));
    let (mut journal, lock, before) = open(&config);
    let mut batch = journal.begin().unwrap();
    batch.prune(None, 100, |_, _, _| true).unwrap();
    batch.commit().unwrap();
    assert_eq!(journal.settlement(ids[1]).unwrap(), Some(delivered(ids[1], NOW)));
    drop((journal, lock));

    let (mut journal, lock, after) = open(&config);
    assert_eq!(after, before, "in the order of the events");
    let list = Reader::open(directory.path()).unwrap().list(&Filter { limit: 10, ..Filter::default() }).unwrap();
    assert_eq!(list.events.len(), 2, "what is queued, and the newest");
    // The next event of a key sets its state.
    let mut batch = journal.begin().unwrap();
    let next = batch.append(NewEvent { follows: Some(ids[1]), ..event("b", b"{}") }).unwrap();
    batch.commit().unwrap();
    drop((journal, lock));
    let (mut journal, lock, after) = open(&config);
    assert_eq!(after.iter().map(|event| event.id).collect::<Vec<_>>(), [ids[0], ids[2], ids[3], next]);
    // A state that was replaced is dropped before anything is pruned.
    let mut batch = journal.begin().unwrap();
    batch.prune(Some(WallTime(0)), 100, |_, _, _| false).unwrap();
    batch.commit().unwrap();
    drop((journal, lock));
    assert_eq!(open(&config).2.iter().map(|event| event.id).collect::<Vec<_>>(), [ids[2], ids[3], next]);
}

#[test]
fn of_a_key_whose_state_was_altered_nothing_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, lock, _) = open(&config);
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|key| batch.append(event(key, b"{}")).unwrap()).collect();
    ids[..2].iter().for_each(|id| assert!(batch.settle(&delivered(*id, NOW)).unwrap()));
    batch.prune(None, 100, |_, _, _| true).unwrap();
    batch.commit().unwrap();
    journal.connection.execute("UPDATE key_state SET action = 'resolve' WHERE id = ?1", [ids[0].0]).unwrap();
    drop((journal, lock));
    let lock = Lock::take(&config.data_dir).unwrap();
    let mut journal = Journal::open(&config, &lock, NOW).unwrap();
    let mut found = Vec::new();
    let damaged = journal
        .restore(|row| {
            found.push(match row {
                Found::Event(event) => (event.id, true),
                Found::Damaged(id) => (id, false),
            });
        })
        .unwrap();
    assert_eq!(found, [(ids[0], false), (ids[1], true), (ids[2], true)]);
    assert_eq!(damaged, [], "there is no event to set aside");
}

#[test]
fn an_event_is_not_pruned_before_an_older_one_however_the_clock_was_turned() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = (0..3).map(|_| batch.append(event("a", b"{}")).unwrap()).collect();
    // The second ended after the first, on a clock that was turned back meanwhile.
    for (id, at) in [(ids[0], NOW.0 + 10), (ids[1], NOW.0)] {
        batch.settle(&delivered(id, WallTime(at))).unwrap();
    }
    batch.commit().unwrap();
    for (before, left) in [(NOW.0 + 5, 3), (NOW.0 + 11, 1)] {
        let mut batch = journal.begin().unwrap();
        batch.prune(Some(WallTime(before)), 100, |_, _, _| false).unwrap();
        batch.commit().unwrap();
        let reader = Reader::open(directory.path()).unwrap();
        assert_eq!(reader.summaries(&ids).unwrap().len(), left);
    }
}

#[test]
fn lists_go_newest_first_by_pages_and_filters() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = (0..5).map(|n| batch.append(event(if n == 2 { "x" } else { "y" }, b"{}")).unwrap()).collect();
    batch.settle(&delivered(ids[4], NOW)).unwrap();
    batch.commit().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let list = |filter: Filter| {
        let page = reader.list(&filter).unwrap();
        let found: Vec<u64> = page.events.iter().map(|event| event.id.parse().unwrap()).collect();
        (found.iter().map(|id| ids.iter().position(|known| known.0 == *id).unwrap()).collect::<Vec<_>>(), page.next)
    };
    let all = Filter { limit: 10, ..Filter::default() };
    assert_eq!(list(all.clone()), (vec![4, 3, 2, 1, 0], None));
    let (page, next) = list(Filter { limit: 2, ..all.clone() });
    assert_eq!((page, next.as_deref()), (vec![4, 3], Some(ids[3].to_string().as_str())));
    assert_eq!(list(Filter { after: Some(ids[3]), limit: 2, ..all.clone() }).0, [2, 1]);
    assert_eq!(list(Filter { key: Some("x".into()), ..all.clone() }).0, [2]);
    assert_eq!(list(Filter { states: vec![State::Queued], ..all.clone() }).0, [3, 2, 1, 0]);
    assert_eq!(list(Filter { outcome: Some(Outcome::Created), ..all.clone() }).0, [4]);
    assert_eq!(list(Filter { source: Some("other".into()), ..all }).0, [0; 0]);
}

#[test]
fn of_many_attempts_the_first_and_the_last_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let id = batch.append(event("a", b"{}")).unwrap();
    for number in 1..=40 {
        let record = AttemptRecord {
            event: id,
            number,
            started_at: NOW,
            took: Duration::from_millis(7),
            result: "connect",
            status: None,
            detail: Some("connection refused".into()),
            answer: Vec::new(),
        };
        batch.attempt(&record).unwrap();
    }
    batch.commit().unwrap();
    let details = Reader::open(directory.path()).unwrap().details(id).unwrap().unwrap();
    let numbers: Vec<u32> = details.deliveries.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [(1..=5).collect::<Vec<_>>(), (26..=40).collect()].concat());
}

#[test]
fn a_file_that_is_no_journal_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    std::fs::write(&path, "this is not a database, and long enough to be sure of it".repeat(100)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let lock = Lock::take(directory.path()).unwrap();
    let error = Journal::open(&config(directory.path()), &lock, NOW).unwrap_err().to_string();
    assert!(error.contains("journal.db") && error.contains("damaged"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn what_is_not_delivered_is_found_without_reading_history() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, ..) = open(&config(directory.path()));
    for query in [
        "SELECT received_at FROM event WHERE state = 'queued' AND state <> 'delivered' ORDER BY id LIMIT 1",
        "SELECT id, bytes FROM event WHERE state = 'refused' AND state <> 'delivered' AND id < ?1 ORDER BY id LIMIT 1",
        "SELECT id FROM event WHERE id < ?1 AND state = 'dead' AND state <> 'delivered' ORDER BY id DESC LIMIT 5",
    ] {
        let mut statement = journal.connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let parameters = vec![0_i64; statement.parameter_count()];
        let plan: String = statement.query_row(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
        assert!(plan.contains("event_undelivered"), "{query}: {plan}");
    }
}

#[test]
fn pruning_goes_on_where_it_stopped_and_ends_at_what_is_young() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&Config { max_events: 10_000, ..config(directory.path()) });
    let mut batch = journal.begin().unwrap();
    for _ in 0..250 {
        let id = batch.append(event("old", b"{}")).unwrap();
        batch.settle(&delivered(id, NOW)).unwrap();
    }
    let young = WallTime(NOW.0 + 1_000);
    for _ in 0..3 {
        let id = batch.append(NewEvent { acknowledged_at: young, ..event("young", b"{}") }).unwrap();
        batch.settle(&delivered(id, young)).unwrap();
    }
    batch.commit().unwrap();
    let mut helpings = 0;
    loop {
        helpings += 1;
        let mut batch = journal.begin().unwrap();
        let more = batch.prune(Some(young), 100, |_, _, _| false).unwrap().more;
        batch.commit().unwrap();
        if !more {
            break;
        }
    }
    assert_eq!(helpings, 3);
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.list(&Filter { limit: 1_000, ..Filter::default() }).unwrap().events.len(), 3);
}

#[test]
fn where_retries_stand_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, lock, _) = open(&config);
    let failed =
        StoredRetry { attempts: 7, age: Duration::from_secs(90), retry_at: WallTime(NOW.0 + 5_000), asked: None };
    let asked = StoredRetry { asked: Some(Duration::from_millis(120_500)), ..failed };
    let mut batch = journal.begin().unwrap();
    for (key, tried) in [("a", failed), ("b", asked)] {
        let id = batch.append(event(key, b"{}")).unwrap();
        batch.store_retry(id, tried, NOW).unwrap();
    }
    batch.append(event("c", b"{}")).unwrap();
    batch.commit().unwrap();
    drop((journal, lock));
    let (journal, lock, restored) = open(&config);
    assert_eq!(restored.iter().map(|event| event.tried).collect::<Vec<_>>(), [Some(failed), Some(asked), None]);

    // An earlier version wrote only a time, which gives no age.
    drop((journal, lock));
    let other = Connection::open(directory.path().join(FILE)).unwrap();
    other.execute_batch("UPDATE event SET tried_ms = NULL, asked_ms = NULL").unwrap();
    drop(other);
    let (_journal, _lock, restored) = open(&config);
    let before = StoredRetry { age: Duration::ZERO, ..failed };
    assert_eq!(restored.iter().map(|event| event.tried).collect::<Vec<_>>(), [Some(before), Some(before), None]);
}

#[test]
fn refused_payloads_give_way_to_events_and_only_where_that_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&Config { max_events: 3, ..config(directory.path()) });
    let mut batch = journal.begin().unwrap();
    for _ in 0..2 {
        let (source, request) = ("servicepilot", "01REQUEST");
        let refusal = NewRefusal { source, request, raw: Raw::Bytes(b"{"), element: None, ..element(Raw::Gone, b"") };
        batch.refuse(refusal).unwrap();
    }
    batch.append(event("a", b"{}")).unwrap();
    assert!(fit(&batch, 3, 0) != Fit::Fits);
    batch.keep_limits().unwrap();
    assert_eq!(batch.totals.all.refused, 2, "nothing is thrown away in vain");
    assert!(fit(&batch, 1, 0) == Fit::Fits);
    batch.append(event("b", b"{}")).unwrap();
    batch.keep_limits().unwrap();
    assert_eq!(batch.totals.all.refused, 1);
    batch.settle(&delivered(EventId(batch.room(Space::endless(), false).next.0 - 1), NOW)).unwrap();
    batch.commit().unwrap();
    assert!(!journal.is_full());
}

fn element<'a>(raw: Raw<'a>, element: &'a [u8]) -> NewRefusal<'a> {
    NewRefusal {
        source: "servicepilot",
        received_at: NOW,
        request: "01REQUEST",
        sender_request: None,
        trace: None,
        raw,
        charset: None,
        element: Some(element),
        reason: "unprocessable",
        errors: b"[]".into(),
    }
}

/// Appends a request of many rows, the first `refused` of which are refused.
fn take_request(journal: &mut Journal, request: &str, refused: u32, raw: &[u8]) -> Vec<EventId> {
    let mut batch = journal.begin().unwrap();
    let mut ids = Vec::new();
    for number in 0..refused + 2 {
        let raw = ids.first().map_or(Raw::Bytes(raw), |first| Raw::In(*first));
        let id = match number < refused {
            true => batch.refuse(NewRefusal { request, ..element(raw, b"{}") }),
            false => batch.append(NewEvent { request, raw, ..event(&format!("{number}"), b"{}") }),
        };
        ids.push(id.unwrap());
    }
    batch.commit().unwrap();
    ids
}

#[test]
fn a_request_of_many_rows_goes_in_no_more_time_than_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { keep_refused: 0, ..config(directory.path()) };
    let config = Config { max_events: 100_000, max_bytes: 1 << 30, ..config };
    let (mut journal, ..) = open(&config);
    let raw = vec![b'x'; 30_000];
    for all_at_once in [true, false] {
        let begun = Instant::now();
        let request = format!("01REQUEST{all_at_once}");
        let ids = take_request(&mut journal, &request, MANY, &raw);
        let taking = begun.elapsed();
        let begun = Instant::now();
        let mut batch = journal.begin().unwrap();
        if all_at_once {
            batch.trim_refused().unwrap();
        } else {
            while batch.drop_refused(10).unwrap() > 0 {}
        }
        batch.commit().unwrap();
        let dropping = begun.elapsed();
        assert!(dropping < 3 * taking + Duration::from_secs(1), "{dropping:?} after {taking:?}");
        let left = ids.iter().rev().take(2).map(|id| {
            let details = Reader::open(directory.path()).unwrap().details(*id).unwrap().unwrap();
            details.received.map(String::into_bytes)
        });
        assert_eq!(left.collect::<Vec<_>>(), [Some(raw.clone()), Some(raw.clone())]);
    }
    assert_eq!((journal.totals().refused, journal.totals().queued), (0, 4));
}

#[test]
fn events_of_one_request_become_history_in_no_more_time_than_they_came() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { max_events: 100_000, max_bytes: 1 << 30, ..config(directory.path()) };
    let (mut journal, ..) = open(&config);
    let begun = Instant::now();
    let mut batch = journal.begin().unwrap();
    let first = batch.append(event("key", b"{}")).unwrap();
    let mut ids = vec![first];
    for _ in 1..MANY {
        ids.push(batch.append(NewEvent { raw: Raw::In(first), ..event("key", b"{}") }).unwrap());
    }
    // Half of them dead letters of the key that the others have, too.
    for (number, id) in ids.iter().enumerate() {
        let state = if number % 2 == 0 { State::Dead } else { State::Delivered };
        batch.settle(&Settlement { state, ..delivered(*id, NOW) }).unwrap();
    }
    batch.commit().unwrap();
    let taking = begun.elapsed();
    let begun = Instant::now();
    let mut batch = journal.begin().unwrap();
    while batch.prune(None, 1_000, |_, _, _| false).unwrap().more {}
    for some in ids.chunks(500) {
        some.iter().step_by(2).for_each(|id| batch.end(*id, &Reason::Discarded, NOW).unwrap());
        batch.prune(None, 250, |_, _, _| false).unwrap();
    }
    batch.commit().unwrap();
    let going = begun.elapsed();
    assert!(going < 3 * taking + Duration::from_secs(1), "{going:?} after {taking:?}");
}

/// So many rows of one request that a quadratic walk takes most of a minute.
const MANY: u32 = 10_000;

#[test]
fn what_has_to_stay_behind_a_dead_letter_is_removed_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = ["a", "a", "b"].iter().map(|key| batch.append(event(key, b"{}")).unwrap()).collect();
    batch.settle(&Settlement { state: State::Dead, outcome: None, ..delivered(ids[0], NOW) }).unwrap();
    batch.settle(&Settlement { outcome: Some(Outcome::Unmatched), ..delivered(ids[1], NOW) }).unwrap();
    let mut removed = || {
        let mut events = 0;
        loop {
            let pruned = batch.prune(None, 100, |_, _, _| false).unwrap();
            events += pruned.events;
            if !pruned.more {
                return events;
            }
        }
    };
    assert_eq!((removed(), removed()), (1, 0), "it stays, and there is no more to gain from it");
    assert!(batch.stored(ids[1]).unwrap().is_some());
}

#[test]
fn a_batch_keeps_its_raw_body_while_one_of_it_needs_a_person() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, lock, _) = open(&config);
    let mut batch = journal.begin().unwrap();
    let raw = br#"[{"n":1},{"n":2},{"n":3}]"#;
    let first = batch.append(NewEvent { raw: Raw::Bytes(raw), ..event("a", b"{}") }).unwrap();
    let refused = batch.refuse(element(Raw::In(first), br#"{"n":2}"#)).unwrap();
    let dead = batch.append(NewEvent { raw: Raw::In(first), ..event("b", b"{}") }).unwrap();
    batch.append(NewEvent { request: "01OTHER", ..event("c", b"{}") }).unwrap();
    batch.settle(&delivered(first, NOW)).unwrap();
    batch.settle(&Settlement { state: State::Dead, outcome: None, ..delivered(dead, NOW) }).unwrap();
    batch.commit().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let received = |id| reader.details(id).unwrap().and_then(|details| details.received);
    let whole = Some(String::from_utf8(raw.to_vec()).unwrap());

    let mut batch = journal.begin().unwrap();
    while batch.prune(None, 100, |_, _, _| false).unwrap().more {}
    batch.commit().unwrap();
    assert_eq!((received(first), received(refused), received(dead)), (None, whole.clone(), whole.clone()));
    assert_eq!(reader.refused(refused).unwrap().unwrap().element.as_deref(), Some(&br#"{"n":2}"#[..]));

    let mut batch = journal.begin().unwrap();
    batch.end(refused, &Reason::Discarded, NOW).unwrap();
    while batch.prune(None, 100, |_, _, _| false).unwrap().more {}
    batch.commit().unwrap();
    assert_eq!((received(refused), received(dead)), (None, whole));
    let totals = journal.totals();
    drop((journal, lock));
    let (journal, ..) = open(&config);
    assert_eq!(journal.totals(), totals, "what went over is counted where it is now");
}

#[test]
fn what_came_after_a_dead_letter_is_remembered_as_long_as_the_dead_letter() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = ["a", "a", "b", "c"].iter().map(|key| batch.append(event(key, b"{}")).unwrap()).collect();
    batch.settle(&Settlement { state: State::Dead, outcome: None, ..delivered(ids[0], NOW) }).unwrap();
    let unmatched = |id| Settlement { outcome: Some(Outcome::Unmatched), ..delivered(id, NOW) };
    batch.settle(&unmatched(ids[1])).unwrap();
    batch.settle(&unmatched(ids[2])).unwrap();
    batch.prune(None, 100, |_, _, _| false).unwrap();
    batch.commit().unwrap();
    let batch = journal.begin().unwrap();
    assert!(matches!(batch.stored(ids[1]).unwrap(), Some(Ok(_))) && batch.stored(ids[2]).unwrap().is_none());
    assert_eq!(batch.later_without_effect("servicepilot", "a", ids[0]).unwrap(), Later::Event(ids[1]));
    assert_eq!(batch.later_without_effect("other", "a", ids[0]).unwrap(), Later::None);
}

#[test]
fn what_keys_rest_on_is_taken_over_from_a_damaged_journal() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, lock, _) = open(&config);
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = (0..50).map(|number| batch.append(event(&format!("host-{number}"), b"{}")).unwrap()).collect();
    ids.iter().for_each(|id| assert!(batch.settle(&delivered(*id, NOW)).unwrap()));
    batch.prune(None, 100, |_, _, _| true).unwrap();
    batch.commit().unwrap();
    drop((journal, lock));
    let (journal, lock, before) = open(&config);
    assert_eq!(before.len(), ids.len());
    drop((journal, lock));

    // Read from its pages, at a start; and through a connection, while running.
    mark_damaged(directory.path());
    let (mut journal, lock, after) = open(&config);
    assert_eq!(after, before);
    salvage::rebuild_from(directory.path(), &journal.connection, NOW).unwrap();
    let kept = |connection: &Connection| -> u64 {
        connection.query_row("SELECT count(*) FROM key_state", [], |row| row.get(0)).unwrap()
    };
    let rebuilt = Connection::open(directory.path().join(names::PARTIAL)).unwrap();
    assert_eq!(kept(&rebuilt), kept(&journal.connection));
    // The newest number is of an event that is history; the next one is greater all the same.
    let mut batch = journal.begin().unwrap();
    batch.prune(None, 100, |_, _, _| true).unwrap();
    batch.commit().unwrap();
    drop((journal, lock));
    mark_damaged(directory.path());
    let (mut journal, _lock, _) = open(&config);
    let next = journal.begin().unwrap().append(event("another", b"{}")).unwrap();
    assert!(next > ids[49], "{next:?}");
}

#[test]
fn a_body_that_lost_its_checksum_is_not_sent_though_one_of_a_version_before_is() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = ["a", "b"].iter().map(|key| batch.append(event(key, b"{}")).unwrap()).collect();
    batch.commit().unwrap();
    journal.connection.execute_batch("UPDATE content SET sum = NULL, raw_sum = NULL, body = x'00'").unwrap();
    journal.connection.execute("UPDATE event SET sum = NULL WHERE id = ?1", [ids[1].0]).unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.outgoing(ids[0]).unwrap(), Sendable::Damaged(Damage::Body));
    assert!(matches!(reader.outgoing(ids[1]).unwrap(), Sendable::Sound(_)));
    let batch = journal.begin().unwrap();
    assert_eq!((batch.body(ids[0]).unwrap(), batch.raw("request", ids[0]).unwrap()), (Blob::Damaged, Blob::Damaged));
    assert!(matches!(batch.body(ids[1]).unwrap(), Blob::Sound(_)));
}

#[test]
fn a_start_mends_a_broken_page_of_what_keys_rest_on_before_it_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut journal, lock, _) = open(&config);
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|key| batch.append(event(key, b"{}")).unwrap()).collect();
    ids.iter().for_each(|id| assert!(batch.settle(&delivered(*id, NOW)).unwrap()));
    batch.prune(None, 100, |_, _, _| true).unwrap();
    batch.commit().unwrap();
    let root: u64 = journal
        .connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'key_state'", [], |row| row.get(0))
        .unwrap();
    journal.close();
    drop(lock);
    // The length of its first row.
    let path = directory.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let page = (root as usize - 1) * PAGE_BYTES as usize;
    let cell = page + usize::from(u16::from_be_bytes([bytes[page + 8], bytes[page + 9]]));
    bytes[cell..cell + 8].fill(0xFF);
    std::fs::write(&path, bytes).unwrap();

    let lock = Lock::take(directory.path()).unwrap();
    assert!(repair(&lock, NOW).unwrap().journal.is_some());
    drop(lock);
    let (_journal, _lock, restored) = open(&config);
    assert_eq!(restored.len(), 2, "what is on the page is kept, but for the row that is broken");
}

#[test]
fn that_an_event_came_after_a_dead_letter_is_noted_when_it_becomes_history() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = ["a", "a", "a", "b", "c"].iter().map(|key| batch.append(event(key, b"{}")).unwrap()).collect();
    batch.settle(&Settlement { state: State::Dead, outcome: None, ..delivered(ids[0], NOW) }).unwrap();
    ids[1..].iter().for_each(|id| assert!(batch.settle(&delivered(*id, NOW)).unwrap()));
    batch.prune(None, 100, |_, _, _| false).unwrap();
    batch.commit().unwrap();
    let batch = journal.begin().unwrap();
    assert!(ids[1..4].iter().all(|id| batch.stored(*id).unwrap().is_none()));
    assert_eq!(batch.later_noted(ids[0]).unwrap(), Later::Event(ids[2]));
    assert_eq!(batch.later_noted(ids[4]).unwrap(), Later::None);
}

#[test]
fn a_search_for_later_events_has_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = ["a", "b", "a", "c"].iter().map(|key| batch.append(event(key, b"{}")).unwrap()).collect();
    for (key, rows, expected) in
        [("a", 10, Later::Event(ids[2])), ("a", 1, Later::Unknown), ("b", 10, Later::None), ("b", 3, Later::None)]
    {
        let mut left = rows;
        let after = if key == "a" { ids[0] } else { ids[1] };
        let found = batch.later_of_any("servicepilot", key, after, &mut left).unwrap();
        assert_eq!(found, expected, "{key} within {rows}");
    }
}

#[test]
fn a_list_is_filtered_by_state_and_age_in_either_order() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let ids: Vec<_> = (0..4)
        .map(|at| batch.append(NewEvent { acknowledged_at: WallTime(NOW.0 + at), ..event("k", b"{}") }).unwrap())
        .collect();
    batch.settle(&delivered(ids[0], NOW)).unwrap();
    batch.settle(&Settlement { state: State::Dead, outcome: None, ..delivered(ids[2], NOW) }).unwrap();
    batch.commit().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let all = Filter { limit: 10, ..Filter::default() };
    let at = |at| Some(WallTime(NOW.0 + at));
    for (filter, expected) in [
        (Filter { states: vec![State::Dead, State::Delivered], ..all.clone() }, &[2, 0][..]),
        (Filter { states: vec![State::Dead], order: Order::OldestFirst, ..all.clone() }, &[2]),
        (Filter { since: at(1), before: at(3), ..all.clone() }, &[2, 1]),
        (Filter { order: Order::OldestFirst, after: Some(ids[0]), ..all.clone() }, &[1, 2, 3]),
        (Filter { order: Order::OldestFirst, until: Some(ids[1]), ..all }, &[0, 1]),
    ] {
        let page = reader.list(&filter).unwrap();
        let found: Vec<_> =
            page.events.iter().map(|event| ids.iter().position(|id| id.to_string() == event.id).unwrap()).collect();
        assert_eq!(found, expected, "{filter:?}");
        assert_eq!(reader.count(&filter, 100).unwrap(), expected.len(), "{filter:?}");
        assert_eq!(reader.count(&filter, 1).unwrap(), 1);
    }
}

#[test]
fn what_differs_is_listed_and_the_oldest_of_too_much_goes() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { max_events: 10_000, max_bytes: 1 << 30, ..config(directory.path()) };
    let (journal, lock, _) = open(&config);
    // A journal of a version without differences.
    journal.connection.execute_batch("DROP TABLE difference").unwrap();
    journal.close();
    drop(lock);
    let aside = Reader::open_stopped(directory.path()).unwrap();
    assert!(aside.details(EventId(1)).unwrap().is_none());
    drop(aside);
    let (mut journal, _lock, _) = open(&config);
    let mut batch = journal.begin().unwrap();
    let ids: Vec<EventId> = (0..5_002).map(|number| batch.append(event(&number.to_string(), b"{}")).unwrap()).collect();
    let differs = |event: EventId, found: &str| ShadowDifferences { event, differences: found.to_owned() };
    let old: Vec<_> = ids[1..].iter().map(|id| differs(*id, r#"["old"]"#)).collect();
    batch.store_differences(&old).unwrap();
    batch.store_differences(&[differs(ids[5_001], r#"["new"]"#)]).unwrap();
    batch.commit().unwrap();

    let reader = Reader::open(directory.path()).unwrap();
    let differing = Filter { differs: true, order: Order::OldestFirst, limit: 1, ..Filter::default() };
    assert_eq!(reader.list(&differing).unwrap().events[0].id, ids[2].to_string(), "the first of them made room");
    let newest = Filter { order: Order::NewestFirst, ..differing };
    assert_eq!(reader.list(&newest).unwrap().events[0].differences, Some(serde_json::json!(["new"])));
    assert_eq!(reader.details(ids[0]).unwrap().unwrap().summary.differences, None);

    let mut batch = journal.begin().unwrap();
    ids.iter().for_each(|id| assert!(batch.settle(&delivered(*id, NOW)).unwrap()));
    batch.commit().unwrap();
    loop {
        let mut batch = journal.begin().unwrap();
        let more = batch.prune(None, 100, |_, _, _| false).unwrap().more;
        batch.commit().unwrap();
        if !more {
            break;
        }
    }
    let left: Vec<String> = reader.list(&newest).unwrap().events.into_iter().map(|event| event.id).collect();
    assert_eq!(left, [ids[5_001].to_string()], "they go with their history; the newest row stays");
}

#[test]
fn a_journal_in_use_is_not_read_as_a_stopped_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let missing = Reader::open_stopped(directory.path()).unwrap_err();
    assert!(missing.to_string().contains("name the `data_dir`"), "{missing}");
    let (mut journal, _lock, _) = open(&config);
    let mut batch = journal.begin().unwrap();
    batch.append(event("a", b"{}")).unwrap();
    batch.commit().unwrap();
    let used = Reader::open_stopped(directory.path()).unwrap_err();
    assert!(used.to_string().contains("a relay uses it"), "{used}");
}

#[test]
fn a_journal_of_the_version_before_gets_what_was_added_and_keeps_what_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let path = directory.path().join(FILE);
    let before = Connection::open(&path).unwrap();
    before
        .execute_batch(&format!(
            "{SCHEMA} INSERT INTO meta VALUES ('first_id', 7), ('probe', 0); PRAGMA user_version = {VERSION};
             INSERT INTO event (id, source, action, incident_key, novelty, state, received_at, bytes, request, raw_in)
             VALUES (7, 's', 'trigger', 'k', 'opening', 'queued', 1, 2, 'r', 7);
             INSERT INTO content (id, raw, body) VALUES (7, x'7b7d', x'7b7d');"
        ))
        .unwrap();
    drop(before);
    let lock = Lock::take(directory.path()).unwrap();
    assert_eq!(repair(&lock, NOW).unwrap(), Repairs::default());
    drop(lock);
    let (mut journal, lock, restored) = open(&config);
    assert_eq!(restored.len(), 1);
    assert!(!schema::is_missing_any(&journal.connection).unwrap());
    let mut batch = journal.begin().unwrap();
    batch.append(event("a", b"{}")).unwrap();
    batch.commit().unwrap();
    drop((journal, lock));

    // Damage is also found before this version has opened the journal for the first time.
    let before = Connection::open(&path).unwrap();
    before
        .execute_batch(
            "DROP TRIGGER event_unsummed; ALTER TABLE event DROP COLUMN state_sum; ALTER TABLE event DROP COLUMN sum",
        )
        .unwrap();
    drop(before);
    mark_damaged(directory.path());
    let lock = Lock::take(directory.path()).unwrap();
    assert_eq!(repair(&lock, NOW).unwrap().journal.unwrap().queued, 2);
}

#[test]
fn a_journal_of_any_version_before_is_no_damaged_one() {
    // Without each single addition, since any may have been a version's newest; then without all up to each.
    let columns =
        schema::COLUMNS_ADDED.iter().map(|(table, column, _)| format!("ALTER TABLE {table} DROP COLUMN {column}"));
    let objects = schema::ADDED
        .iter()
        .filter(|(name, _)| *name != "event_unsummed")
        .map(|(name, sql)| format!("DROP {} {name}", if sql.contains("CREATE INDEX") { "INDEX" } else { "TABLE" }));
    let additions: Vec<String> = columns.chain(objects).collect();
    let each = additions.iter().map(|addition| vec![addition.clone()]);
    let newest = (0..additions.len()).map(|count| additions[count..].iter().rev().cloned().collect());
    for lacking in each.chain(newest).chain([Vec::new()]) {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let (mut journal, lock, _) = open(&config);
        let mut batch = journal.begin().unwrap();
        let id = batch.append(event("a", b"{}")).unwrap();
        batch.commit().unwrap();
        // The trigger was added with the columns that it names.
        journal.connection.execute_batch(&format!("DROP TRIGGER event_unsummed; {}", lacking.join("; "))).unwrap();
        journal.close();
        drop(lock);

        let lock = Lock::take(directory.path()).unwrap();
        assert_eq!(repair(&lock, NOW).unwrap(), Repairs::default(), "{lacking:?}");
        drop(lock);
        let lacks_checksum = lacking.len() == 1 && lacking[0].ends_with("COLUMN sum");
        if !lacks_checksum {
            let (journal, _lock, restored) = open(&config);
            assert_eq!(restored.iter().map(|event| event.id).collect::<Vec<_>>(), [id], "{lacking:?}");
            assert!(!schema::is_missing_any(&journal.connection).unwrap(), "{lacking:?}");
        }
    }
}

#[test]
fn a_table_whose_name_or_definition_rotted_is_damage_also_where_a_version_before_had_none() {
    for (name, rotted) in [
        ("hold", "hole"),
        ("key_state", "key_statd"),
        ("difference", "eifference"),
        ("event_unsummed", "event_unsummee"),
        ("event_unmatched", "event_unmatchee"),
    ] {
        for column in ["name", "sql"] {
            let directory = tempfile::tempdir().unwrap();
            let (journal, lock, _) = open(&config(directory.path()));
            journal.close();
            let connection = Connection::open(directory.path().join(FILE)).unwrap();
            connection
                .execute_batch(&format!(
                    "PRAGMA writable_schema = ON; \
                     UPDATE sqlite_schema SET {column} = replace({column}, '{name}', '{rotted}') WHERE name = '{name}'"
                ))
                .unwrap();
            drop(connection);
            let problem = repair(&lock, NOW).unwrap().journal.expect("it is damaged").problem;
            assert!(problem.contains(name), "{name}, {column}: {problem}");
        }
    }
}

#[test]
fn a_disk_that_damages_the_journal_again_and_again_does_not_fill_the_volume_with_copies() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, lock, _) = open(&config(directory.path()));
    journal.close();
    let mut newest = Vec::new();
    for at in 1..=6 {
        mark_damaged(directory.path());
        newest.extend(repair(&lock, WallTime(NOW.0 + at)).unwrap().journal.unwrap().aside);
    }
    let kept = newest.split_off(newest.len() - ASIDE_KEPT);
    assert!(kept.iter().all(|path| path.exists()) && !newest.iter().any(|path| path.exists()));
}

#[test]
fn a_relay_that_knows_none_of_the_additions_can_write_to_a_journal_that_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _lock, _) = open(&config(directory.path()));
    for statement in [
        "INSERT INTO event (id, source, action, incident_key, rule, novelty, state, received_at, bytes, request, raw_in, \
         update_hash, occurrence, past_occurrence, replay_of, charset) \
         VALUES (1, 's', 'trigger', 'k', 'r', 'opening', 'queued', 1, 2, 'r', 1, 0, NULL, NULL, NULL, NULL)",
        "INSERT INTO content (id, raw, body) VALUES (1, x'7b7d', x'7b7d')",
        "INSERT OR REPLACE INTO attempt VALUES (1, 1, 1, 1, 'created', 201, NULL, x'')",
        "INSERT OR REPLACE INTO difference (event, found) VALUES (1, '[]')",
        "INSERT INTO content (id, raw, body, element) VALUES (2, NULL, x'5b5d', NULL)",
        "UPDATE event SET state = 'delivered', outcome = 'created', reason = NULL, attempts = 1, settled_at = 2 WHERE id = 1",
    ] {
        journal.connection.execute(statement, []).unwrap();
    }
}

#[test]
fn a_text_is_searched_for_in_keys_in_payloads_and_in_requests() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut batch = journal.begin().unwrap();
    let sent = batch.append(event("db/Disk-7", b"{\"title\":\"Disk full\"}")).unwrap();
    let raw = batch
        .append(NewEvent {
            raw: Raw::Bytes(br#"{"host":"Z\u00fcrich-1"}"#),
            sender_request: Some("their-1"),
            trace: Some(&TraceContext::begin(0xabc)),
            ..event("web", b"{}")
        })
        .unwrap();
    // Three events of one batch, each sent by itself.
    let first =
        batch.append(NewEvent { raw: Raw::Bytes(b"[\"x1\",\"x2\",\"zz\"]"), ..event("x", b"[\"x1\"]") }).unwrap();
    let second = batch.append(NewEvent { raw: Raw::In(first), ..event("x", b"[\"x2\"]") }).unwrap();
    let third = batch.refuse(NewRefusal { reason: "unprocessable", ..element(Raw::In(first), b"\"zz\"") }).unwrap();
    let latin = Raw::Bytes(b"Disk voll in Z\xfcrich");
    let refused = batch
        .refuse(NewRefusal { raw: latin, charset: Some("windows-1252"), element: None, ..element(latin, b"") })
        .unwrap();
    batch.commit().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let payload = |found: &str| Texts { payload: text(found), ..Texts::default() };
    for (texts, found) in [
        (Texts { key: text("DISK"), ..Texts::default() }, vec![sent]),
        (Texts { key: text("%"), ..Texts::default() }, vec![]),
        (payload("disk full"), vec![sent]),
        (payload("DISK"), vec![refused, sent]),
        (payload("Zürich"), vec![refused, raw]),
        (payload("x2"), vec![second]),
        (payload("zz"), vec![third]),
        (Texts { key: text("web"), ..payload("disk full") }, vec![]),
        (Texts { request: text("their-1"), ..Texts::default() }, vec![raw]),
        (Texts { request: text("their"), ..Texts::default() }, vec![]),
        (Texts { request: text("00000000000000000000000000000abc"), ..Texts::default() }, vec![raw]),
        (Texts { request: text("00000000000000000000000000000abd"), ..Texts::default() }, vec![]),
        (Texts { request: text("01REQUEST"), ..payload("disk") }, vec![refused, sent]),
    ] {
        let page = reader.list(&Filter { texts: texts.clone(), limit: 10, ..Filter::default() }).unwrap();
        let ids: Vec<EventId> = page.events.iter().map(|event| event.id.parse().unwrap()).collect();
        assert_eq!(ids, found, "{texts:?}");
        let searched = page.searched.unwrap();
        assert_eq!((searched.looked_at, searched.stopped, searched.without_payload), (6, false, 0), "{texts:?}");
    }
    let filter = Filter { texts: payload("disk"), states: vec![State::Queued], limit: 10, ..Filter::default() };
    assert_eq!(
        reader.list(&filter).unwrap().searched.unwrap().looked_at,
        4,
        "what the filter leaves out costs nothing"
    );
    let details = reader.details(raw).unwrap().unwrap();
    assert_eq!(details.sender_request_id.as_deref(), Some("their-1"));
}

#[test]
fn a_search_stops_at_its_bounds_says_so_and_goes_on_from_there() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&Config { max_events: 10_000, ..config(directory.path()) });
    let mut batch = journal.begin().unwrap();
    for number in 0..1_200 {
        batch.append(event(if number % 400 == 0 { "needle" } else { "hay" }, b"{}")).unwrap();
    }
    batch.commit().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let texts = Texts { key: Some("needle".to_owned()), ..Texts::default() };
    let bounds = search::Bounds { events: 700, time: Duration::from_secs(60) };
    let mut filter = Filter { texts, limit: 10, ..Filter::default() };
    let mut pages = Vec::new();
    loop {
        let page = reader.search_within(&filter, bounds).unwrap();
        let searched = page.searched.unwrap();
        pages.push((page.events.len(), searched.looked_at, searched.stopped));
        let Some(next) = page.next else { break };
        filter.after = Some(next.parse().unwrap());
    }
    assert_eq!(pages, [(1, 700, true), (2, 500, false)]);

    // A full page does not count as stopped.
    filter = Filter { limit: 2, after: None, ..filter };
    let page = reader.search_within(&filter, bounds).unwrap();
    assert_eq!((page.events.len(), page.searched.map(|searched| searched.stopped)), (1, Some(true)));
    let page = reader.search(&filter).unwrap();
    assert_eq!(
        (page.events.len(), page.next.as_ref(), page.searched.map(|searched| searched.stopped)),
        (2, Some(&page.events[1].id), Some(false))
    );

    // Time is a limit too, but the first part is always searched.
    let page = reader.search_within(&filter, search::Bounds { time: Duration::ZERO, ..bounds }).unwrap();
    let searched = page.searched.unwrap();
    assert!(searched.stopped && (1..700).contains(&searched.looked_at), "{searched:?}");
}

#[test]
fn what_a_sender_says_of_its_trace_counts_as_its_payload_does() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let mut headers = http::HeaderMap::new();
    let state = format!("k={}", "x".repeat(200));
    headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
    headers.insert("tracestate", state.parse().unwrap());
    let trace = TraceContext::of_headers(&headers).unwrap();
    let mut bytes = Vec::new();
    for trace in [None, Some(&TraceContext::begin(7)), Some(&trace)] {
        let before = journal.totals();
        let mut batch = journal.begin().unwrap();
        batch.append(NewEvent { trace, ..event("a", b"{}") }).unwrap();
        batch.refuse(NewRefusal { trace, ..element(Raw::Bytes(b"{"), b"") }).unwrap();
        batch.commit().unwrap();
        let after = journal.totals();
        bytes.push((after.bytes - before.bytes, after.refused_bytes - before.refused_bytes));
    }
    let length = state.len() as u64;
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(bytes[2], (bytes[0].0 + 2 * length, bytes[0].1 + length));
    // A restart counts alike.
    let counted = journal.totals();
    drop(journal);
    let (journal, ..) = open(&config(directory.path()));
    assert_eq!(journal.totals().bytes, counted.bytes);
}

#[test]
fn the_journal_tells_what_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(&config(directory.path()));
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.scope().unwrap(), Scope { oldest: None, refused: false });
    let mut batch = journal.begin().unwrap();
    batch.append(event("a", b"{}")).unwrap();
    batch.commit().unwrap();
    assert_eq!(reader.scope().unwrap(), Scope { oldest: Some(NOW), refused: false });
    let mut batch = journal.begin().unwrap();
    batch.refuse(element(Raw::Bytes(b"{"), b"")).unwrap();
    batch.commit().unwrap();
    assert!(reader.scope().unwrap().refused);
}
