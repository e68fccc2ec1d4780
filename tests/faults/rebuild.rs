//! Damaged journals on volumes that have little room beside them: a start ends in a relay that delivers what waits.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use gander::exports::clock::WallTime;
use gander::exports::event::{Action, EventId, Outcome, Priority, Settlement, State, UpdateHash};
use gander::exports::journal::Shares;
use gander::exports::journal::dedup::Occurrences;
use gander::exports::journal::{self, AttemptRecord, Journal, Lock, NewEvent, Raw};
use serde_json::Value;

use crate::process::{Process, Site};
use crate::upstream::{Arrival, Reply, Upstream};
use crate::volume::Volume;

/// Writes a journal of so many bytes of delivered events, each with a payload, and then of so many queued ones.
pub fn write(directory: &Path, delivered: usize, queued: usize, folded: bool) {
    let config = journal::Config {
        data_dir: directory.to_owned(),
        max_events: 1_000_000,
        max_bytes: 1 << 40,
        keep_delivered: Duration::from_secs(86_400),
        keep_refused: 1_000,
        shares: Shares::default(),
        reserve: None,
    };
    let lock = Lock::take(directory).unwrap();
    let now = WallTime::now();
    let mut journal = Journal::open(&config, &lock, now).unwrap();
    journal.restore(|_| {}).unwrap();
    let mut write = |state: &str, count: usize, ends: bool| {
        for commit in (0..count).collect::<Vec<_>>().chunks(100) {
            let mut batch = journal.begin().unwrap();
            for number in commit {
                let key = format!("{state}-{number}");
                let id = batch.append(event(&key, now, &body(&key))).unwrap();
                if ends {
                    end(&mut batch, id, now);
                }
            }
            batch.commit().unwrap();
        }
    };
    write("delivered", delivered, true);
    write("queued", queued, false);
    if folded {
        journal.close();
    }
}

fn event<'a>(key: &'a str, now: WallTime, body: &'a [u8]) -> NewEvent<'a> {
    NewEvent {
        source: "servicepilot",
        action: Action::Trigger,
        incident_key: key,
        rule: "problem",
        priority: Priority::Normal,
        novelty: "opening",
        acknowledged_at: now,
        request: "01REQUEST",
        sender_request: None,
        trace: None,
        raw: Raw::Bytes(body),
        charset: None,
        body,
        update: UpdateHash(1),
        occurrences: Occurrences::default(),
        replay_of: None,
        follows: None,
    }
}

/// As the senders of these tests write it, so that the upstream knows it again.
fn body(key: &str) -> Vec<u8> {
    let text = "x".repeat(1_500);
    serde_json::json!({ "servicepilot_event_id": key, "state": "CRITICAL", "title": "step 0", "description": text })
        .to_string()
        .into_bytes()
}

fn end(batch: &mut journal::Batch<'_>, id: EventId, at: WallTime) {
    let attempt = AttemptRecord {
        event: id,
        number: 1,
        started_at: at,
        took: Duration::from_millis(3),
        result: "created",
        status: Some(201),
        detail: None,
        answer: b"{}".to_vec(),
    };
    batch.attempt(&attempt).unwrap();
    let outcome = Some(Outcome::Created);
    batch.settle(&Settlement { id, state: State::Delivered, outcome, reason: None, attempts: 1, at }).unwrap();
}

/// Starts over a damaged journal of so many events, on a volume of 16 MiB that another file fills by so many bytes.
/// Returns what the start said, and how long the journal was.
fn start_over(delivered: usize, queued: usize, other: &str, other_bytes: usize) -> (Volume, Process, Value, u64) {
    let made = tempfile::tempdir().unwrap();
    write(made.path(), delivered, queued, true);
    let volume = Volume::new(16, Upstream::start(|| Reply::Done));
    let bytes = fs::copy(made.path().join("journal.db"), volume.file("journal.db")).unwrap();
    fs::write(volume.file(other), vec![0; other_bytes]).unwrap();
    fs::write(volume.file("damaged"), "").unwrap();
    // As a crash leaves it.
    fs::write(volume.file("journal-partial.db"), vec![0; 256 << 10]).unwrap();
    let process = volume.start();
    let said = process.said("the journal was damaged").expect("a damaged journal is never passed over in silence");
    assert_eq!((&said["events"], &said["queued"]), (&(delivered + queued).into(), &queued.into()), "{said}");
    assert_eq!(said["unreadable"], 0, "{said}");
    let mode = fs::metadata(volume.file("journal.db")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    assert_delivered(&volume.upstream, queued);
    for entry in fs::read_dir(volume.file("")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(!name.contains("partial"), "{name}");
    }
    (volume, process, said, bytes)
}

fn assert_delivered(upstream: &Upstream, queued: usize) {
    let arrived = |arrivals: &[Arrival]| arrivals.iter().filter(|arrival| arrival.key.starts_with("queued-")).count();
    let all = upstream.until(Duration::from_secs(120), |arrivals| arrived(arrivals) == queued);
    assert!(all, "{} of {queued} were delivered", arrived(&upstream.arrivals()));
}

const MIB: u64 = 1 << 20;

#[test]
fn a_journal_that_fills_almost_half_of_its_volume_is_made_anew_whole() {
    let (_volume, process, said, bytes) = start_over(1_500, 30, "reserve", 0);
    assert!(bytes > 6 * MIB && bytes < 8 * MIB, "{bytes}");
    assert_eq!(said["left_out"], 0, "{said}");
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn the_reserve_gives_way_to_a_journal_that_is_made_anew() {
    let (_volume, process, said, bytes) = start_over(1_650, 30, "reserve", 3 << 20);
    assert!(bytes > 6 * MIB + MIB / 2 && bytes < 8 * MIB, "{bytes}: else the reserve is not in the way");
    assert_eq!(said["left_out"], 0, "{said}");
    assert!(process.said("the reserve was given up for a new journal").is_some());
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn where_a_whole_new_journal_has_no_room_what_ended_is_left_behind_and_that_is_said() {
    let (volume, process, said, bytes) = start_over(2_600, 30, "reserve", 1 << 20);
    assert!(bytes > 10 * MIB, "{bytes}");
    assert_eq!(said["left_out"], 2_600, "{said}");
    assert!(process.said("the volume of `data_dir` has no room for all of it").is_some());
    // Its keys are known as before: what it says again is no news.
    let (status, page) = process.get("/api/v1/events?state=delivered&limit=1000");
    assert_eq!((status, page["events"].as_array().unwrap().len()), (200, 1_000));
    let aside = fs::read_dir(volume.file(""))
        .unwrap()
        .map(|file| file.unwrap())
        .find(|file| file.file_name().to_string_lossy().starts_with("journal-damaged-"));
    assert_eq!(aside.unwrap().metadata().unwrap().len(), bytes);
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn where_even_what_waits_has_no_room_files_that_were_set_aside_before_give_way() {
    let older = "journal-damaged-1700000000000.db";
    let (volume, process, said, bytes) = start_over(1_500, 30, older, 9 << 20);
    assert!(bytes > 6 * MIB && bytes < 7 * MIB - MIB / 2, "{bytes}");
    assert!(!volume.file(older).exists());
    assert_eq!(said["left_out"], 0, "{said}");
    assert_eq!(process.terminate().0, Some(0));
}

/// Files of a journal whose log is damaged near its begin, and the length of the log.
fn with_damaged_log(delivered: usize, queued: usize) -> (tempfile::TempDir, u64) {
    let made = tempfile::tempdir().unwrap();
    write(made.path(), delivered, queued, false);
    let path = made.path().join("journal.db-wal");
    let mut log = fs::read(&path).unwrap();
    let at = log.len() / 5;
    log[at] ^= 4;
    fs::write(&path, &log).unwrap();
    (made, log.len() as u64)
}

#[test]
fn a_damaged_log_that_there_is_no_room_for_a_copy_of_is_taken_in_with_the_journal() {
    let (made, bytes) = with_damaged_log(1_800, 30);
    let volume = Volume::new(16, Upstream::start(|| Reply::Done));
    for file in ["journal.db", "journal.db-wal"] {
        fs::copy(made.path().join(file), volume.file(file)).unwrap();
    }
    assert!(bytes > 8 * MIB, "{bytes}");
    let process = volume.start();
    let said = process.said("the journal was damaged").expect("it is told");
    assert!(said["problem"].as_str().unwrap().contains("its log is damaged"), "{said}");
    assert_eq!((&said["events"], &said["queued"]), (&1_830.into(), &30.into()), "{said}");
    assert_delivered(&volume.upstream, 30);
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn a_damaged_log_is_read_a_page_at_a_time() {
    let (made, bytes) = with_damaged_log(24_000, 30);
    assert!(bytes > 100 * MIB, "{bytes}");
    let upstream = Upstream::start(|| Reply::Done);
    let site = Site::new(&upstream);
    fs::create_dir(site.data()).unwrap();
    for file in ["journal.db", "journal.db-wal"] {
        fs::copy(made.path().join(file), site.data().join(file)).unwrap();
    }
    let process = site.start(&[]);
    let said = process.said("the log of the journal was damaged").expect("it is told");
    assert!(said["events"].as_u64().unwrap() > 15_000, "{said}");
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let highest = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = highest.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib << 10 < bytes / 2, "{kib} KiB of memory for a log of {} KiB", bytes >> 10);
    assert_delivered(&upstream, 30);
    assert_eq!(process.terminate().0, Some(0));
}
