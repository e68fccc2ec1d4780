//! Other programs' hands in the data directory while the relay runs: files deleted, moved, replaced.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::locks::{assert_locked, work_until_taken};
use crate::other::{Other, count};
use crate::process::{Process, Site};
use crate::seeded;
use crate::senders::{Connections, Senders};
use crate::upstream::{Reply, Upstream};

/// What somebody does, in the data directory.
type Deed = fn(&Path);

/// Deeds after which all that was acknowledged is still open, or there.
const DEEDS: [(&str, Deed); 13] = [
    ("the main file deleted", |data| remove(data, &["journal.db"])),
    ("the log deleted", |data| remove(data, &["journal.db-wal"])),
    ("the log and its index deleted", |data| remove(data, &["journal.db-wal", "journal.db-shm"])),
    ("the index deleted", |data| remove(data, &["journal.db-shm"])),
    ("the lock deleted", |data| remove(data, &["lock"])),
    ("all three deleted", |data| remove(data, &["journal.db", "journal.db-wal", "journal.db-shm"])),
    ("the directory deleted", |data| fs::remove_dir_all(data).unwrap()),
    ("the directory moved away", |data| fs::rename(data, data.with_extension("old")).unwrap()),
    ("another directory in its place", |data| {
        fs::rename(data, data.with_extension("old")).unwrap();
        fs::create_dir(data).unwrap();
    }),
    ("the main file moved away", |data| fs::rename(data.join("journal.db"), data.join("journal.old")).unwrap()),
    ("the main file restored from a copy, beside the log that was there", |data| restore(data, &[])),
    ("the same, and the log deleted", |data| restore(data, &["journal.db-wal", "journal.db-shm"])),
    ("something else in the place of the main file", |data| {
        fs::write(data.join("new"), "no journal at all").unwrap();
        fs::rename(data.join("new"), data.join("journal.db")).unwrap();
    }),
];

fn remove(data: &Path, names: &[&str]) {
    names.iter().for_each(|name| fs::remove_file(data.join(name)).unwrap());
}

/// As a backup program does it: a file beside it that takes its name.
fn restore(data: &Path, removed: &[&str]) {
    fs::copy(data.join("journal.db"), data.join("restored")).unwrap();
    remove(data, removed);
    fs::rename(data.join("restored"), data.join("journal.db")).unwrap();
}

/// Whether this deed puts something in the place of the journal that is worth keeping.
fn leaves_something(said: &str) -> bool {
    said.contains("restored") || said.contains("the same") || said.contains("something else")
}

fn work(process: &Process, senders: &mut Senders, millis: u64) {
    senders.work(process.port, Connections::Kept, || std::thread::sleep(Duration::from_millis(millis)));
}

/// A relay with events that wait, all in the journal.
fn with_waiting(test: &str) -> (Upstream, Site, Senders, Process) {
    let upstream = Upstream::start(|| Reply::Unavailable);
    let site = Site::new(&upstream);
    let mut senders = Senders::new(2, &mut seeded(test)).paced(Duration::from_millis(2));
    // Some from a run before, in the main file, and some in the log.
    let process = site.start(&[]);
    senders.work_for(process.port, Connections::Kept, 20);
    assert_eq!(process.terminate().0, Some(0));
    let process = site.start(&[]);
    senders.work_for(process.port, Connections::Kept, 20);
    (upstream, site, senders, process)
}

/// It was told, the journal is back, and everything that was acknowledged survives a kill.
fn nothing_is_lost(said: &str, upstream: &Upstream, site: &Site, senders: &Senders, process: Process) {
    let log = process.log().join("\n");
    assert!(log.contains("another program changed the journal's files"), "{said}: {log}");
    assert!(log.contains("nothing in it is lost"), "{said}: {log}");
    process.assert_no_panic();
    assert_locked(&process, &site.data(), said);
    let (status, ready) = process.get("/readyz");
    assert_eq!((status, &ready["ready"]), (200, &true.into()), "{said}: {ready}");
    let (status, events) = process.get("/api/v1/events?state=queued&limit=1");
    assert_eq!((status, events["events"].as_array().map(Vec::len)), (200, Some(1)), "{said}: readers follow");
    let aside = fs::read_dir(site.data()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let aside: Vec<String> = aside.filter(|name| name.starts_with("journal-replaced-")).collect();
    assert_eq!(!aside.is_empty(), leaves_something(said), "{said}: {aside:?}");
    process.kill();

    upstream.follow(|| Reply::Done);
    let process = site.start(&[]);
    assert_eq!(senders.settle(upstream, Duration::from_secs(180)), Vec::<String>::new(), "{said}");
    assert_eq!(process.terminate().0, Some(0), "{said}");
}

#[test]
fn files_that_are_deleted_moved_or_replaced_under_load_cost_no_event() {
    for (said, deed) in DEEDS {
        let (upstream, site, mut senders, process) = with_waiting(said);
        let mut done = Instant::now();
        senders.work(process.port, Connections::Kept, || {
            std::thread::sleep(Duration::from_millis(50));
            deed(&site.data());
            done = Instant::now();
            process.until_logged("the journal can be written again");
        });
        work_until_taken(&process, &mut senders, done);
        nothing_is_lost(said, &upstream, &site, &senders, process);
    }
}

#[test]
fn what_is_done_while_nothing_is_written_is_noticed_too() {
    for (said, deed) in [DEEDS[5], DEEDS[7], DEEDS[11]] {
        let (upstream, site, senders, process) = with_waiting(said);
        deed(&site.data());
        process.until_logged("the journal can be written again");
        nothing_is_lost(said, &upstream, &site, &senders, process);
    }
}

#[test]
fn a_stop_brings_the_journal_back_before_it_ends() {
    let (upstream, site, senders, process) = with_waiting("deleted at the stop");
    remove(&site.data(), &["journal.db", "journal.db-wal", "journal.db-shm"]);
    assert_eq!(process.terminate().0, Some(0));
    upstream.follow(|| Reply::Done);
    let process = site.start(&[]);
    assert_eq!(senders.settle(&upstream, Duration::from_secs(180)), Vec::<String>::new());
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn a_directory_that_another_relay_took_is_not_taken_from_it() {
    let (upstream, site, mut senders, process) = with_waiting("two relays");
    fs::rename(site.data(), site.data().with_extension("old")).unwrap();
    fs::create_dir(site.data()).unwrap();
    let lock = fs::File::create(site.data().join("lock")).unwrap();
    lock.try_lock().unwrap();
    let taken = Instant::now();
    senders.work(process.port, Connections::Kept, || process.until_logged("another gander uses this directory"));
    work(&process, &mut senders, 300);
    let (status, ready) = process.get("/readyz");
    assert_eq!((status, &ready["degraded"][0]["reason"]), (503, &"journal_replaced".into()), "{ready}");
    let detail = ready["degraded"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("another gander uses this directory"), "{ready}");
    let refused = senders.answers().into_iter().rfind(|(at, answer)| *at > taken && answer.status == 503).unwrap();
    assert!(refused.1.json["detail"].as_str().unwrap().contains("journal's files"), "{refused:?}");
    // It goes, and what waits is not lost.
    drop(lock);
    process.until_logged("the journal can be written again");
    nothing_is_lost("two relays", &upstream, &site, &senders, process);
}

/// Stops a relay with events that wait, by a kill or in order, does something to its files, and starts another over them.
/// Returns what that one says of the journal in the log and in `/readyz`, and whether it takes events.
fn said_at_a_start(said: &str, kill: bool, deed: impl FnOnce(&Path)) -> (Option<String>, Option<String>) {
    let (_upstream, site, mut senders, process) = with_waiting(said);
    if kill {
        process.kill();
    } else {
        assert_eq!(process.terminate().0, Some(0));
    }
    deed(&site.data());
    let process = site.start(&[]);
    work_until_taken(&process, &mut senders, Instant::now());
    let (status, ready) = process.get("/readyz");
    assert_eq!(status, 200, "{said}");
    let degraded = ready["degraded"].as_array().unwrap();
    let remark = degraded.iter().find(|one| one["reason"] == "journal_incomplete");
    let telling = ["the journal's log is gone", "shown until the next start"];
    let logged = process.log().into_iter().find(|line| telling.iter().any(|text| line.contains(text)));
    // Told once: what is there now is what the next start expects.
    process.kill();
    let process = site.start(&[]);
    let (_, ready) = process.get("/readyz");
    let again = ready["degraded"].as_array().unwrap().iter().any(|one| one["reason"] == "journal_incomplete");
    assert!(!again, "{said}: {ready}");
    (logged, remark.map(|remark| remark["detail"].as_str().unwrap().to_owned()))
}

#[test]
fn a_kill_before_the_first_event_of_a_start_leaves_nothing_that_the_next_one_lacks() {
    let (_upstream, site, _senders, process) = with_waiting("killed at once");
    assert_eq!(process.terminate().0, Some(0));
    for _ in 0..2 {
        site.start(&[]).kill();
    }
    let process = site.start(&[]);
    let (_, ready) = process.get("/readyz");
    let told = ready["degraded"].as_array().unwrap().iter().find(|one| one["reason"] == "journal_incomplete");
    assert_eq!(told, None);
}

#[test]
fn a_start_that_does_not_find_what_was_left_says_what_is_missing() {
    for (said, kill, deed, expected) in [
        ("stopped", false, (|_| ()) as Deed, None),
        ("killed", true, |_| (), None),
        ("stopped, and another program looked", false, |data| assert!(count(&data.join("journal.db")) > 0), None),
        (
            "killed, and the log deleted",
            true,
            |data| remove(data, &["journal.db-wal", "journal.db-shm"]),
            Some("log is gone, and with it up to"),
        ),
        (
            "killed, and the log folded",
            true,
            |data| assert!(count(&data.join("journal.db")) > 0),
            Some("no event is known to be missing"),
        ),
        ("stopped, and the main file deleted", false, |data| remove(data, &["journal.db"]), Some("is gone; ")),
        (
            "stopped, and the main file emptied",
            false,
            |data| drop(fs::File::create(data.join("journal.db"))),
            Some("is gone; "),
        ),
        (
            "an older copy in its place",
            false,
            |data| fs::copy(data.join("older"), data.join("journal.db")).map(drop).unwrap(),
            Some("is older than the one that was here: up to "),
        ),
        (
            "another journal in its place",
            false,
            |data| fs::copy(data.join("another"), data.join("journal.db")).map(drop).unwrap(),
            Some("another journal is in the place"),
        ),
    ] {
        let deed = |data: &Path| {
            put_copies(data);
            deed(data);
        };
        let (logged, remark) = said_at_a_start(said, kill, deed);
        match expected {
            None => assert_eq!((logged, remark), (None, None), "{said}"),
            Some(text) => {
                let (logged, remark) = (logged.unwrap_or_default(), remark.unwrap_or_default());
                assert!(remark.contains(text), "{said}: {remark}");
                let level = if text.starts_with("no event") { "\"WARN\"" } else { "\"ERROR\"" };
                assert!(logged.contains(level), "{said}: {logged}");
            }
        }
    }
}

/// An older copy of the journal, as a backup would hold it, and a journal of another relay.
fn put_copies(data: &Path) {
    let older = data.join("older");
    fs::copy(data.join("journal.db"), &older).unwrap();
    let mut other = Other::open(&older);
    for (table, id) in [("content", "id"), ("attempt", "event"), ("event", "id")] {
        other.does(&format!("DELETE FROM {table} WHERE {id} > (SELECT min(id) + 3 FROM event)")).unwrap();
    }
    other.does("PRAGMA journal_mode = DELETE").unwrap_or_default();
    other.close();
    let another = data.join("another");
    fs::copy(&older, &another).unwrap();
    let mut other = Other::open(&another);
    other.does("UPDATE meta SET value = 1 WHERE name = 'identity'").unwrap();
    other.close();
}

#[test]
fn a_log_that_another_program_keeps_from_beginning_anew_is_told_with_its_name() {
    let upstream = Upstream::start(|| Reply::Done);
    let site = Site::new(&upstream);
    let mut senders = Senders::new(8, &mut seeded("long log")).padded(60_000);
    let process = site.start(&[]);
    senders.work_for(process.port, Connections::Kept, 20);
    let mut other = Other::open(&site.data().join("journal.db"));
    other.does("BEGIN").unwrap();
    other.does("SELECT count(*) FROM event").unwrap();
    let told = senders.work(process.port, Connections::Kept, || process.until_logged("keeps the journal's log")).0;
    assert!(told.contains(&other.id().to_string()), "{told}");
    let (status, ready) = process.get("/readyz");
    let remark = ready["degraded"].as_array().unwrap().iter().find(|one| one["reason"] == "journal_log").cloned();
    let detail = remark.unwrap()["detail"].as_str().unwrap().to_owned();
    assert!(status == 200 && detail.contains(&other.id().to_string()), "{ready}");
    assert!(process.metric("gander_journal_log_bytes") > 32 << 20);

    other.does("COMMIT").unwrap();
    senders.work(process.port, Connections::Kept, || process.until_logged("as short again"));
    assert!(process.metric("gander_journal_log_bytes") <= 32 << 20);
    let (_, ready) = process.get("/readyz");
    assert!(!ready.to_string().contains("journal_log"), "{ready}");
    other.close();
    assert_eq!(process.terminate().0, Some(0));
}

fn cut(file: &Path, bytes: u64) {
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(bytes).unwrap();
}

#[test]
fn wherever_a_page_is_overwritten_under_load_events_are_taken_again() {
    for page in [1, 3, 4, 5, 6, 7, 9, 11] {
        let said = format!("page {page} overwritten");
        let (upstream, site, mut senders, process) = with_waiting(&said);
        senders.work(process.port, Connections::Kept, || {
            let file = fs::OpenOptions::new().write(true).open(site.data().join("journal.db")).unwrap();
            let bytes = file.metadata().unwrap().len();
            assert!(bytes > page * 4096, "{said}: the database has {bytes} bytes");
            let noise: Vec<u8> = (0..4096).map(|_| fastrand::u8(..)).collect();
            std::os::unix::fs::FileExt::write_all_at(&file, &noise, page * 4096).unwrap();
            process.until_logged("the journal can be written again");
        });
        work_until_taken(&process, &mut senders, Instant::now());
        process.assert_no_panic();
        upstream.follow(|| Reply::Done);
        senders.settle(&upstream, Duration::from_secs(5));
        let (_, dead) = process.get("/api/v1/events?state=dead&limit=1000");
        let (missing, told) = (senders.missing(&upstream), dead["events"].as_array().unwrap().len());
        assert!(missing <= told, "{said}: {missing} are missing and {told} were told");
        assert_eq!(process.terminate().0, Some(0), "{said}");
    }
}

/// Deeds that alter the files themselves, so that what is open is altered, too; and whether what waited since the start,
/// which is all in the log and in memory, and what waited before it, which is in the main file alone, survive.
const ALTERATIONS: [(&str, Deed, bool); 8] = [
    ("the log emptied", |data| cut(&data.join("journal.db-wal"), 0), true),
    (
        "the log cut in half",
        |data| {
            let log = data.join("journal.db-wal");
            cut(&log, fs::metadata(&log).unwrap().len() / 2);
        },
        true,
    ),
    (
        "the log overwritten",
        |data| {
            let log = data.join("journal.db-wal");
            let bytes = fs::metadata(&log).unwrap().len() as usize;
            let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xA5; bytes], 0).unwrap();
        },
        true,
    ),
    (
        "the log overwritten, with its time of modification as before",
        |data| {
            let log = data.join("journal.db-wal");
            let found = fs::metadata(&log).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xA5; found.len() as usize], 0).unwrap();
            file.set_modified(found.modified().unwrap()).unwrap();
        },
        true,
    ),
    (
        "the main file copied over itself",
        |data| {
            let whole = fs::read(data.join("journal.db")).unwrap();
            fs::write(data.join("journal.db"), whole).unwrap();
        },
        true,
    ),
    ("the main file emptied", |data| cut(&data.join("journal.db"), 0), false),
    (
        "an older copy written over the main file",
        |data| {
            put_copies(data);
            fs::copy(data.join("older"), data.join("journal.db")).unwrap();
        },
        false,
    ),
    (
        "another journal written over the main file",
        |data| {
            put_copies(data);
            fs::copy(data.join("another"), data.join("journal.db")).unwrap();
        },
        false,
    ),
];

#[test]
fn files_that_are_cut_off_or_overwritten_are_made_good_from_memory_and_what_is_lost_is_told() {
    for (said, deed, whole) in ALTERATIONS {
        let (upstream, site, mut senders, process) = with_waiting(said);
        let mut done = Instant::now();
        senders.work(process.port, Connections::Kept, || {
            deed(&site.data());
            done = Instant::now();
            process.until_logged("the journal can be written again");
        });
        work_until_taken(&process, &mut senders, done);
        let log = process.log().join("\n");
        assert!(tells_of_others(&log), "{said}: {log}");
        process.assert_no_panic();
        assert_locked(&process, &site.data(), said);
        let (_, dead) = process.get("/api/v1/events?state=dead&limit=1000");
        let dead = dead["events"].as_array().unwrap().clone();
        let told = |event: &serde_json::Value| {
            let reason = event["reason"].as_str().unwrap_or_default();
            reason.starts_with("lost") || reason.starts_with("damaged")
        };
        assert!(dead.iter().all(told), "{said}: {dead:?}");
        process.kill();
        what_waited_arrives_or_is_told(said, whole, &log, &upstream, &site, &senders);
    }
}

/// The log tells that the files were changed from outside. Where a reader meets the damage first it is told as damage, and
/// then what was missing.
fn tells_of_others(log: &str) -> bool {
    ["another program changed the journal's files", "the journal's files were cut off or overwritten"]
        .iter()
        .any(|told| log.contains(told))
}

/// A relay that starts over files that were made good delivers all that waited, or shows as many dead letters.
fn what_waited_arrives_or_is_told(
    said: &str,
    whole: bool,
    log: &str,
    upstream: &Upstream,
    site: &Site,
    senders: &Senders,
) {
    upstream.follow(|| Reply::Done);
    let process = site.start(&[]);
    let (_, dead) = process.get("/api/v1/events?state=dead&limit=1000");
    let dead = dead["events"].as_array().unwrap().len();
    if whole {
        assert_eq!((dead, log.contains("nothing that waited is lost")), (0, true), "{said}: {log}");
        assert_eq!(senders.settle(upstream, Duration::from_secs(180)), Vec::<String>::new(), "{said}");
    } else {
        senders.settle(upstream, Duration::from_secs(5));
        let missing = senders.missing(upstream);
        assert!(missing <= dead, "{said}: {missing} are missing and {dead} were told");
        assert!(missing < senders.acknowledged(), "{said}: everything is missing");
    }
    assert_eq!(process.terminate().0, Some(0), "{said}");
}

#[test]
fn files_that_are_cut_off_or_overwritten_just_before_a_stop_are_made_good_before_it_ends() {
    for (said, deed, whole) in [ALTERATIONS[0], ALTERATIONS[4], ALTERATIONS[5]] {
        let (upstream, site, senders, mut process) = with_waiting(said);
        deed(&site.data());
        process.signal("TERM");
        let code = process.ended(Duration::from_secs(30));
        let log = process.whole_log().join("\n");
        assert_eq!(code, Some(0), "{said}: {log}");
        assert!(tells_of_others(&log), "{said}: {log}");
        what_waited_arrives_or_is_told(said, whole, &log, &upstream, &site, &senders);
    }
}
