//! The locks that keep other programs from the journal's files: there at each moment, whatever happened before.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failing::AGAIN;
use crate::full::fill;
use crate::other::{Other, count, count_under};
use crate::process::{Process, Site};
use crate::seeded;
use crate::senders::{Connections, Senders};
use crate::upstream::{Reply, Upstream};
use crate::volume::Volume;

/// Locks of a process on a file, by what it is for.
fn locks(process: &Process, file: &Path) -> usize {
    let inode = fs::metadata(file).unwrap().ino().to_string();
    let process = process.id().to_string();
    let held = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1] == "POSIX" && words[4] == process && words[5].rsplit(':').next() == Some(&inode)
    };
    fs::read_to_string("/proc/locks").unwrap().lines().filter(held).count()
}

/// Who opens the journal sees by these two that the relay has it open. The kernel's list is read piece by piece, and a
/// lock that another process gives up between two pieces may hide this one: it is looked for again. One that is gone
/// stays gone, since SQLite takes it once for each connection.
pub fn assert_locked(process: &Process, data: &Path, when: &str) {
    for file in ["journal.db", "journal.db-shm"] {
        let end = Instant::now() + Duration::from_secs(2);
        while locks(process, &data.join(file)) == 0 {
            assert!(Instant::now() < end, "{when}: no lock on {file}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Another program comes, counts and goes. It must not take itself for the last one: the log stays, and so does what
/// the relay acknowledges from now on, though the relay is killed.
fn another_comes_and_goes(site: &Site, data: &Path, process: Process, senders: &mut Senders, upstream: &Upstream) {
    assert_locked(&process, data, "before another program comes");
    assert!(count(&data.join("journal.db")) > 0);
    assert!(data.join("journal.db-wal").exists(), "the log is still there");
    assert_locked(&process, data, "after another program went");
    senders.work_for(process.port, Connections::Kept, ENOUGH);
    assert!(data.join("journal.db-wal").exists(), "the log is still there");
    process.kill();
    upstream.follow(|| Reply::Done);
    let process = site.start(&[]);
    assert_eq!(senders.settle(upstream, Duration::from_secs(180)), Vec::<String>::new());
    process.assert_no_panic();
}

/// Has events come until one is taken.
pub fn work_until_taken(process: &Process, senders: &mut Senders, since: Instant) {
    loop {
        senders.work(process.port, Connections::Kept, || std::thread::sleep(Duration::from_millis(100)));
        if senders.answers().iter().any(|(at, answer)| *at > since && answer.status == 202) {
            return;
        }
        assert!(since.elapsed() < AGAIN, "events are taken again within five seconds");
    }
}

#[test]
fn a_start_a_reload_and_another_program_leave_the_locks_in_place() {
    let upstream = Upstream::start(|| Reply::Unavailable);
    let site = Site::new(&upstream);
    let mut senders = Senders::new(2, &mut seeded("locks, start"));
    // Once more over a journal that is there.
    assert_eq!(site.start(&[]).terminate().0, Some(0));
    let process = site.start(&[]);
    assert_locked(&process, &site.data(), "after a start");
    senders.work_for(process.port, Connections::Kept, ENOUGH);
    process.signal("HUP");
    process.until_logged("reload");
    assert_locked(&process, &site.data(), "after a reload");
    another_comes_and_goes(&site, &site.data(), process, &mut senders, &upstream);
}

#[test]
fn a_lock_that_another_program_holds_too_long_leaves_ours_in_place() {
    let upstream = Upstream::start(|| Reply::Unavailable);
    let site = Site::new(&upstream);
    let mut senders = Senders::new(2, &mut seeded("locks, busy"));
    let process = site.start(&[]);
    senders.work_for(process.port, Connections::Kept, ENOUGH);

    let mut other = Other::open(&site.data().join("journal.db"));
    other.does("BEGIN IMMEDIATE").unwrap();
    senders.work(process.port, Connections::Kept, || {
        process.until_logged("the journal can't be written");
        // Reopening is tried, in vain, until the other one lets go.
        std::thread::sleep(Duration::from_secs(7));
    });
    assert_locked(&process, &site.data(), "while another program keeps it from writing");
    other.does("COMMIT").unwrap();
    let freed = Instant::now();
    work_until_taken(&process, &mut senders, freed);
    assert_locked(&process, &site.data(), "after it could write again");
    other.close();
    assert!(site.data().join("journal.db-wal").exists(), "the log is still there");
    another_comes_and_goes(&site, &site.data(), process, &mut senders, &upstream);
}

#[test]
fn a_full_disk_that_is_freed_leaves_the_locks_in_place() {
    let volume = Volume::new(8, Upstream::start(|| Reply::Unavailable));
    let mut senders = Senders::new(2, &mut seeded("locks, full")).paced(Duration::from_millis(20));
    let process = volume.start();
    senders.work_for(process.port, Connections::Kept, ENOUGH);
    // In order, so that the log is gone and a write needs room.
    assert_eq!(process.terminate().0, Some(0));
    let process = volume.start();
    let data = volume.file("");

    let ballast = volume.file("ballast");
    fill(&ballast);
    process.until_logged("the journal can't be written");
    assert_locked(&process, &data, "while the disk is full");
    fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    work_until_taken(&process, &mut senders, freed);
    assert_locked(&process, &data, "after there is room again");

    assert!(count_under(&volume.under, &volume.site.data().join("journal.db")) > 0);
    assert!(data.join("journal.db-wal").exists(), "the log is still there");
    assert_locked(&process, &data, "after another program went");
    process.kill();
    let process = volume.start();
    volume.upstream.follow(|| Reply::Done);
    assert_eq!(senders.settle(&volume.upstream, Duration::from_secs(180)), Vec::<String>::new());
    assert_eq!(process.terminate().0, Some(0));
}

/// Events that give the journal something to keep.
const ENOUGH: usize = 20;
