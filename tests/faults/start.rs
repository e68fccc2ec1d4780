//! Starts over data that can't be used, or not all of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use serde_json::Value;

use crate::full::with_mount;
use crate::process::{Process, Site, preloaded, words};
use crate::seeded;
use crate::senders::{Connections, Key, Senders};
use crate::upstream::{Arrival, Reply, Upstream};

/// What a relay left behind that took events and delivered none.
struct Left {
    upstream: Upstream,
    site: Site,
    senders: Senders,
    /// Calls that arrived in vain.
    tried_before: usize,
}

impl Left {
    /// `kill`: with its log as it was at that moment; else folded and closed.
    fn behind(test: &str, kill: bool) -> Left {
        let mut dice = seeded(test);
        let upstream = Upstream::start(|| Reply::Unavailable);
        let site = Site::new(&upstream);
        let mut senders = Senders::new(3, &mut dice);
        let process = site.start(&[]);
        while senders.acknowledged() < 300 {
            senders.work(process.port, Connections::Kept, || std::thread::sleep(Duration::from_millis(100)));
        }
        if kill {
            process.kill();
        } else {
            assert_eq!(process.terminate().0, Some(0));
        }
        let tried_before = upstream.arrivals().len();
        Left { upstream, site, senders, tried_before }
    }

    fn journal(&self, beside: &str) -> PathBuf {
        self.site.data().join(format!("journal.db{beside}"))
    }

    /// Starts again, delivers what is there, and returns what the log says of the journal that was set aside.
    fn start(&self) -> (Process, Option<Value>) {
        self.start_under(&[])
    }

    fn start_under(&self, under: &[String]) -> (Process, Option<Value>) {
        self.upstream.follow(|| Reply::Done);
        let process = self.site.start(under);
        let said = process.said("the journal was damaged");
        (process, said)
    }

    fn aside(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.site.data()).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("journal-damaged-")).collect()
    }

    fn lost(&self, limit: Duration) -> usize {
        let keys = self.senders.keys();
        // What was tried and refused before does not count.
        let missing = |arrivals: &[Arrival]| {
            keys.iter().map(|key| missing_of(key, &arrivals[self.tried_before..])).sum::<usize>()
        };
        self.upstream.until(limit, |arrivals| missing(arrivals) == 0);
        missing(&self.upstream.arrivals())
    }
}

fn missing_of(key: &Key, arrivals: &[Arrival]) -> usize {
    let arrived = |step: &usize| arrivals.iter().any(|arrival| arrival.key == key.name && arrival.step == *step);
    (0..key.acknowledged).filter(|step| !arrived(step)).count()
}

/// A page of the events' own table, in the middle of it: a leaf with many events, in its first sector too, and no payload.
fn page_of_events(journal: &[u8]) -> usize {
    let pages: Vec<usize> = (1..journal.len() / PAGE)
        .filter(|number| {
            let at = number * PAGE;
            let queued = |bytes: &[u8]| String::from_utf8_lossy(bytes).matches("queued").count();
            let page = &journal[at..at + PAGE];
            let full = queued(page) > 10 && queued(&page[..SECTOR]) > 0;
            page[0] == 0x0D && full && !String::from_utf8_lossy(page).contains("{\"")
        })
        .collect();
    assert!(pages.len() >= 3, "{pages:?}");
    pages[pages.len() / 2]
}

/// A page of payloads and bodies, in the middle of them.
fn page_of_bodies(journal: &[u8]) -> usize {
    let is_body = |page: &[u8]| page[0] == 0x0D && String::from_utf8_lossy(page).contains("{\"servicepilot_event_id");
    let pages: Vec<usize> = (1..journal.len() / PAGE).filter(|at| is_body(&journal[at * PAGE..][..PAGE])).collect();
    pages[pages.len() / 2]
}

#[test]
fn a_damaged_page_costs_what_was_on_it_and_the_rest_is_delivered() {
    let left = Left::behind("damaged page", false);
    let mut journal = fs::read(left.journal("")).unwrap();
    let at = page_of_events(&journal) * PAGE;
    let on_it = String::from_utf8_lossy(&journal[at..at + PAGE]).matches("queued").count();
    journal[at..at + PAGE].fill(0xFF);
    fs::write(left.journal(""), &journal).unwrap();

    let (process, said) = left.start();
    let said = said.expect("a damaged journal is never passed over in silence");
    // An event that was tried may be on the page twice by its old bytes; never fewer times than it is lost.
    let lost = left.lost(Duration::from_secs(5));
    assert!(lost > 0 && lost <= on_it, "{lost} lost of {on_it} on the page");
    // Of each of these the body is left, and kept as a dead letter.
    assert_eq!(said["events"].as_u64().unwrap() as usize, left.senders.acknowledged(), "{said}");
    assert_eq!((said["without_row"].as_u64().unwrap() as usize, &said["unreadable"]), (lost, &0.into()), "{said}");
    let aside = left.aside();
    assert!(aside.iter().any(|file| fs::read(file).unwrap() == journal), "set aside whole: {aside:?}");
    assert_eq!(process.terminate().0, Some(0));
    // Once is enough.
    assert_eq!(left.start().1, None);
}

#[test]
fn a_body_that_is_lost_is_noticed_when_it_is_to_be_sent_and_its_event_becomes_a_dead_letter() {
    let left = Left::behind("damaged bodies", false);
    let mut journal = fs::read(left.journal("")).unwrap();
    let at = page_of_bodies(&journal) * PAGE;
    journal[at..at + PAGE].fill(0xFF);
    fs::write(left.journal(""), &journal).unwrap();

    let (process, said) = left.start();
    assert_eq!(said, None, "events are all there");
    let lost = left.lost(Duration::from_secs(5));
    let said = process.until_said("the journal was damaged", Duration::from_secs(120)).expect("it says what it did");
    assert_eq!(
        (said["events"].as_u64().unwrap() as usize, &said["unreadable"]),
        (left.senders.acknowledged(), &0.into())
    );
    assert!(lost > 0 && lost as u64 == said["without_body"].as_u64().unwrap(), "{lost}: {said}");
    let (status, ready) = process.get("/readyz");
    let reasons = ready["degraded"].as_array().unwrap().iter().map(|degraded| &degraded["reason"]);
    assert!(status == 200 && reasons.into_iter().any(|reason| reason == "journal_damaged"), "{ready}");
    let mut senders = Senders::new(1, &mut seeded("damaged bodies, then"));
    senders.work(process.port, Connections::Kept, || std::thread::sleep(Duration::from_millis(200)));
    assert!(senders.acknowledged() > 0, "events are taken all the while");
    assert_eq!(process.terminate().0, Some(0));
    assert_eq!(left.start().1, None, "once is enough");
}

#[test]
fn a_file_that_is_no_journal_is_set_aside_and_said_to_have_given_nothing() {
    let left = Left::behind("no journal", false);
    fs::write(left.journal(""), "this was a journal".repeat(1_000)).unwrap();
    let (process, said) = left.start();
    let said = said.expect("a damaged journal is never passed over in silence");
    assert_eq!(said["events"], 0, "{said}");
    assert_eq!(fs::read(&left.aside()[0]).unwrap(), fs::read(said["aside"].as_str().unwrap()).unwrap());
    let mut senders = Senders::new(1, &mut seeded("no journal, then"));
    senders.work(process.port, Connections::Kept, || std::thread::sleep(Duration::from_millis(200)));
    assert!(senders.acknowledged() > 0, "events are taken again");
}

/// What starts a program for which some bytes of a file can't be read, whatever its name is meanwhile.
fn with_bad_sector(site: &Site, file: &Path, at: usize, bytes: usize, error: Errno) -> Vec<String> {
    let inode = fs::metadata(file).unwrap().ino();
    let bad = format!("BAD_INODE={inode} BAD_FROM={at} BAD_UNTIL={} BAD_ERRNO={}", at + bytes, error.raw_os_error());
    preloaded(site, "bad_sector", &bad)
}

#[test]
fn a_sector_of_events_that_can_not_be_read_costs_what_was_in_it() {
    let left = Left::behind("bad sector of events", false);
    let at = page_of_events(&fs::read(left.journal("")).unwrap()) * PAGE;
    let under = with_bad_sector(&left.site, &left.journal(""), at, SECTOR, Errno::IO);
    let (process, said) = left.start_under(&under);
    let said = said.expect("a damaged journal is never passed over in silence");
    let lost = left.lost(Duration::from_secs(5));
    assert!(lost > 0 && lost < 100, "{lost}: {said}");
    // Of each of these the body is left, and kept as a dead letter.
    assert_eq!(said["events"].as_u64().unwrap() as usize, left.senders.acknowledged(), "{said}");
    assert_eq!((said["without_row"].as_u64().unwrap() as usize, &said["unreadable"]), (lost, &0.into()), "{said}");
    assert_eq!(process.terminate().0, Some(0));
    assert_eq!(left.start_under(&under).1, None, "the new file is elsewhere");
}

#[test]
fn a_body_that_can_not_be_read_is_a_dead_letter_and_its_key_goes_on() {
    // What a disk says, and what a file system or a layer below it says that checks what it reads.
    for error in [Errno::IO, Errno::NODATA] {
        let left = Left::behind("bad sector of bodies", false);
        let journal = fs::read(left.journal("")).unwrap();
        let at = page_of_bodies(&journal) * PAGE;
        let (process, said) = left.start_under(&with_bad_sector(&left.site, &left.journal(""), at, PAGE, error));
        assert_eq!(said, None, "events are all there");
        let said =
            process.until_said("the journal was damaged", Duration::from_secs(120)).expect("it says what it did");
        assert_eq!(
            (said["events"].as_u64().unwrap() as usize, &said["unreadable"]),
            (left.senders.acknowledged(), &0.into())
        );
        let lost = left.lost(Duration::from_secs(5));
        assert!(lost > 0 && lost as u64 == said["without_body"].as_u64().unwrap(), "{lost}: {said}");
        let (status, dead) = process.get("/api/v1/events?state=dead&limit=1000");
        let dead = dead["events"].as_array().unwrap();
        assert_eq!((status, dead.len()), (200, lost));
        assert!(dead.iter().all(|event| event["reason"].as_str().unwrap().starts_with("damaged")), "{dead:?}");
        assert_eq!(process.terminate().0, Some(0));
    }
}

#[test]
fn a_sector_of_the_log_that_can_not_be_read_loses_nothing_behind_it() {
    let left = Left::behind("bad sector of the log", true);
    let bytes = fs::metadata(left.journal("-wal")).unwrap().len() as usize;
    let at = bytes / 2 / SECTOR * SECTOR;
    let (process, said) = left.start_under(&with_bad_sector(&left.site, &left.journal("-wal"), at, SECTOR, Errno::IO));
    let said = said.expect("a damaged journal is never passed over in silence");
    let lost = left.lost(Duration::from_secs(5));
    assert!(lost as u64 <= 2 + said["unreadable"].as_u64().unwrap(), "{lost}: {said}");
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn a_log_without_its_journal_is_set_aside() {
    let left = Left::behind("orphaned log", true);
    let log = fs::read(left.journal("-wal")).unwrap();
    fs::remove_file(left.journal("")).unwrap();
    let (_process, said) = left.start();
    assert!(said.is_some(), "a log without its journal is never deleted in silence");
    assert!(left.aside().iter().any(|path| fs::read(path).unwrap() == log));
}

#[test]
fn a_journal_noted_as_damaged_is_rebuilt_without_a_loss() {
    let left = Left::behind("noted as damaged", true);
    fs::write(left.site.data().join("damaged"), "").unwrap();
    let (_process, said) = left.start();
    let said = said.expect("it says what it did");
    assert_eq!(
        (said["events"].as_u64().unwrap() as usize, &said["unreadable"]),
        (left.senders.acknowledged(), &0.into())
    );
    assert_eq!(left.senders.settle(&left.upstream, Duration::from_secs(180)), Vec::<String>::new());
    assert!(!left.site.data().join("damaged").exists());
}

#[test]
fn a_rebuilt_journal_that_a_crash_kept_from_its_place_takes_it() {
    let left = Left::behind("crash while rebuilding", false);
    fs::rename(left.journal(""), left.site.data().join("journal-rebuilt.db")).unwrap();
    fs::write(left.journal(""), vec![0xFF; PAGE]).unwrap();
    let (_process, said) = left.start();
    assert_eq!(said, None, "the one before has said it");
    assert_eq!(left.senders.settle(&left.upstream, Duration::from_secs(180)), Vec::<String>::new());
}

#[test]
fn a_log_that_a_kill_left_over_is_read_whole_whatever_is_in_the_shared_memory() {
    let left = Left::behind("log left over", true);
    assert!(fs::metadata(left.journal("-wal")).unwrap().len() > 0);
    fs::write(left.journal("-shm"), vec![0xA5; 32 * 1024]).unwrap();
    let (_process, said) = left.start();
    assert_eq!(said, None);
    assert_eq!(left.senders.settle(&left.upstream, Duration::from_secs(180)), Vec::<String>::new());
}

/// Starts where it can't, and returns what it said.
fn refused(site: &Site, under: &[String]) -> String {
    let output = site.run_to_its_end(under);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_read_only_directory_is_refused_with_exit_2() {
    let left = Left::behind("read-only", false);
    let data = left.site.data().display().to_string();
    let under = with_mount(&format!("mount --bind {data} {data} && mount -o remount,ro,bind {data}"));
    let said = refused(&left.site, &under);
    assert!(said.contains("data_dir") && said.contains("Read-only file system"), "{said}");
    assert_eq!(left.aside(), Vec::<PathBuf>::new());
}

#[test]
fn a_directory_of_another_user_is_refused_with_exit_2() {
    let left = Left::behind("wrong owner", false);
    let nobody = Some(65_534);
    let own = |path: &Path| std::os::unix::fs::chown(path, nobody, nobody).expect("the tests run as root");
    own(&left.site.data());
    fs::read_dir(left.site.data()).unwrap().for_each(|file| own(&file.unwrap().path()));
    // Root without its powers is a user like others.
    let said = refused(&left.site, &words("setpriv --bounding-set=-all --inh-caps=-all"));
    assert!(said.contains("data_dir") && said.contains("owner"), "{said}");
}

/// A directory of an owner and group, with a mode and perhaps a journal of somebody's, and whether a user can have it.
struct Case {
    said: &'static str,
    /// User and group.
    owner: (u32, u32),
    mode: u32,
    journal: Option<(u32, u32)>,
    user: u32,
    usable: bool,
}

#[test]
fn check_and_run_agree_about_a_directory_whoever_runs_them() {
    const OURS: u32 = 10_001;
    let upstream = Upstream::start(|| Reply::Done);
    let case = |said, owner, mode, user, usable| Case { said, owner, mode, journal: None, user, usable };
    for Case { said, owner, mode, journal, user, usable } in [
        case("its own", (OURS, OURS), 0o700, OURS, true),
        case("its own, open to all, is tightened", (OURS, OURS), 0o777, OURS, true),
        case("root's, for a group, as Kubernetes makes a volume", (0, OURS), 0o2775, OURS, true),
        case("root's, for a group alone", (0, OURS), 0o2770, OURS, true),
        case("the same, and root comes", (0, OURS), 0o2775, 0, true),
        case("root's, and a group may only look", (0, OURS), 0o755, OURS, false),
        case("root's, open to all, can't be tightened", (0, OURS), 0o2777, OURS, false),
        case("root's own", (0, 0), 0o700, OURS, false),
        case("root's own, and root comes", (0, 0), 0o755, 0, true),
        case("another user's", (10_002, 10_002), 0o700, OURS, false),
        Case { journal: Some((0, 0o600)), ..case("a journal that root made", (OURS, OURS), 0o700, OURS, false) },
        Case { journal: Some((0, 0o660)), ..case("one that a group may write", (0, OURS), 0o2770, OURS, true) },
        Case { journal: Some((0, 0o666)), ..case("one that all may write", (0, OURS), 0o2770, OURS, false) },
    ] {
        let site = Site::new(&upstream);
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let chown = |path: &Path, user, group| std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
        chmod(site.directory.path(), 0o755);
        fs::create_dir(site.data()).unwrap();
        chown(&site.data(), owner.0, owner.1);
        chmod(&site.data(), mode);
        if let Some((owner, mode)) = journal {
            let path = site.data().join("journal.db");
            fs::write(&path, "").unwrap();
            chown(&path, owner, OURS);
            chmod(&path, mode);
        }
        let under = match user {
            0 => Vec::new(),
            user => words(&format!("setpriv --reuid={user} --regid={user} --clear-groups")),
        };
        let errors = site.checked_data_dir(&under);
        assert_eq!(errors.is_empty(), usable, "{said}: check says {errors:?}");
        if !usable {
            let said_by_run = refused(&site, &under);
            assert!(said_by_run.contains("data_dir"), "{said}: {said_by_run}");
            continue;
        }
        let process = site.start(&under);
        assert_eq!(process.get("/readyz").0, 200, "{said}");
        for file in ["journal.db-wal", "lock"] {
            let mode = fs::metadata(site.data().join(file)).unwrap().permissions().mode() & 0o007;
            assert_eq!(mode, 0, "{said}: others may not read {file}");
        }
        if user != owner.0 && user != 0 {
            process.until_logged("stays open to its group");
        }
        assert_eq!(process.terminate().0, Some(0), "{said}");
    }
}

/// As the journal's pages are.
const PAGE: usize = 8192;
/// What can't be read of a disk is this much at least, to a file.
const SECTOR: usize = 4096;
