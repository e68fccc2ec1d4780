//! Other programs' hands in the data directory while the relay runs: files deleted, moved, replaced.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failing::AGAIN;
use crate::locks::assert_locked;
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
    assert_eq!(senders.settle(upstream, Duration::from_secs(60)), Vec::<String>::new(), "{said}");
    assert_eq!(process.terminate().0, Some(0), "{said}");
}

#[test]
fn files_that_are_deleted_moved_or_replaced_under_load_cost_no_event() {
    for (said, deed) in DEEDS {
        let (upstream, site, mut senders, process) = with_waiting(said);
        let before = senders.acknowledged();
        let mut done = Instant::now();
        let process = {
            let port = process.port;
            senders.work(port, Connections::Kept, || {
                std::thread::sleep(Duration::from_millis(50));
                deed(&site.data());
                done = Instant::now();
                process.until_logged("events are taken");
                process.until_logged("the journal can be written again");
                std::thread::sleep(Duration::from_millis(100));
            });
            process
        };
        assert!(done.elapsed() < AGAIN, "{said}: taken again within five seconds");
        let last = senders.answers().into_iter().rfind(|(_, answer)| answer.status != 200).unwrap();
        assert_eq!(last.1.status, 202, "{said}");
        assert!(senders.acknowledged() > before, "{said}");
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
    assert_eq!(senders.settle(&upstream, Duration::from_secs(60)), Vec::<String>::new());
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
