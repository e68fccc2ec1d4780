//! Volumes so small that the journal itself fills them: with history, with the backlog of an outage, or together with a
//! stranger's file. Whatever filled it, the relay goes on by itself as soon as there is room.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failing::AGAIN;
use crate::full::{beside, fill, with_mount};
use crate::other::Other;
use crate::process::{Process, Site};
use crate::senders::{Client, Connections};
use crate::upstream::{Reply, Upstream};

/// A site whose data directory is a volume of its own.
pub struct Volume {
    pub site: Site,
    pub upstream: Upstream,
    /// A mount ends with the last process that sees it; this one outlives every relay.
    holder: Child,
    /// What starts a process that sees it.
    pub under: Vec<String>,
}

/// What senders were told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: Vec<String>,
    refused: usize,
    /// The longest time in which nobody was acknowledged.
    longest_refusal: Duration,
}

impl Volume {
    pub fn new(mib: u64, upstream: Upstream) -> Volume {
        Volume::mounted(upstream, |data| format!("mount -t tmpfs -o size={mib}m none {data}"))
    }

    /// With blocks, metadata and a share that only root may use. It takes room of the disk below as it is written to.
    fn ext4(mib: u64, upstream: Upstream) -> Volume {
        Volume::mounted(upstream, |data| {
            let image = format!("{data}.image");
            File::create(&image).unwrap().set_len(mib << 20).unwrap();
            let made = Command::new("mkfs.ext4").args(["-q", &image]).output().expect("mkfs.ext4 is there (e2fsprogs)");
            assert!(made.status.success(), "{made:?}");
            format!("mount -o loop {image} {data}")
        })
    }

    fn mounted(upstream: Upstream, mount: impl Fn(&str) -> String) -> Volume {
        let site = Site::new(&upstream);
        let data = site.data();
        std::fs::create_dir(&data).unwrap();
        let before = std::fs::metadata(&data).unwrap().dev();
        let alone = with_mount(&mount(&data.display().to_string()));
        let holder = Command::new(&alone[0]).args(&alone[1..]).args(["sleep", "600"]).spawn().unwrap();
        let mut volume = Volume { site, upstream, holder, under: Vec::new() };
        let mounted = || std::fs::metadata(volume.file("")).is_ok_and(|file| file.dev() != before);
        let end = Instant::now() + Duration::from_secs(5);
        while !mounted() {
            assert!(Instant::now() < end, "the volume is not there");
            std::thread::sleep(Duration::from_millis(10));
        }
        volume.under = beside(volume.holder.id());
        volume
    }

    /// Runs a command on the mounted directory; returns whether it did what it should.
    fn does(&self, command: &[&str]) -> bool {
        let all = self.under.iter().map(String::as_str).chain(command.iter().copied());
        let all: Vec<String> = all.map(str::to_owned).chain([self.site.data().display().to_string()]).collect();
        Command::new(&all[0]).args(&all[1..]).status().is_ok_and(|status| status.success())
    }

    pub fn start(&self) -> Process {
        self.site.start(&self.under)
    }

    /// A file on the volume.
    pub fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}/{name}", self.holder.id(), self.site.data().display()))
    }

    fn length(&self, name: &str) -> u64 {
        std::fs::metadata(self.file(name)).map_or(0, |file| file.len())
    }

    /// Waits until the relay takes an event.
    fn takes_again(&self, process: &Process, limit: Duration) -> bool {
        !self.work(process, "again", TEXT, 1, limit).acknowledged.is_empty()
    }

    /// Fills the volume with events while nothing can be delivered, until none is taken any more.
    fn fill_with_backlog(&self, process: &Process, prefix: &str, text: usize) -> Told {
        let mut all = Told::default();
        for round in 0..60 {
            let told = self.work(process, &format!("{prefix}-{round}"), text, usize::MAX, Duration::from_secs(1));
            let full = told.acknowledged.is_empty() && told.refused > 0;
            all = all.and(told);
            if full {
                return all;
            }
        }
        panic!("{} events did not fill the volume", all.acknowledged.len());
    }

    /// Four senders at work, each event of a key of its own and with so much text, until enough were acknowledged or the
    /// time is over, or `until` says so.
    fn work(&self, process: &Process, prefix: &str, text: usize, events: usize, limit: Duration) -> Told {
        let (taken, end) = (AtomicUsize::new(0), Instant::now() + limit);
        let sender = |number: usize| {
            let mut client = Client { port: process.port, connections: Connections::Kept, stream: None };
            let mut told = Told::default();
            let mut since = Instant::now();
            for count in 0.. {
                let key = format!("{prefix}-{number}-{count}");
                let payload = payload(&key, text);
                loop {
                    if taken.load(Ordering::Relaxed) >= events || Instant::now() >= end {
                        told.longest_refusal = told.longest_refusal.max(since.elapsed());
                        return told;
                    }
                    let answer = client.post(&payload).unwrap();
                    if answer.status != 503 {
                        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
                        break;
                    }
                    assert!(
                        answer.retry_after.is_some() && answer.json["detail"].as_str().unwrap().contains("full"),
                        "{answer:?}"
                    );
                    told.refused += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                told.acknowledged.push(key);
                told.longest_refusal = told.longest_refusal.max(since.elapsed());
                since = Instant::now();
                taken.fetch_add(1, Ordering::Relaxed);
            }
            told
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || sender(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).fold(Told::default(), Told::and)
        })
    }
}

/// Events that the journal keeps, by their state; of any state where it is empty.
fn count(process: &Process, state: &str) -> usize {
    let state = if state.is_empty() { String::new() } else { format!("&state={state}") };
    let (mut found, mut after) = (0, String::new());
    loop {
        let (status, page) = process.get(&format!("/api/v1/events?limit=1000{state}{after}"));
        assert_eq!(status, 200, "{page}");
        found += page["events"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

fn none_waits(process: &Process) {
    let end = Instant::now() + PATIENCE;
    while count(process, "queued") > 0 {
        assert!(Instant::now() < end, "ends are not written");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Told {
    fn and(mut self, other: Told) -> Told {
        self.acknowledged.extend(other.acknowledged);
        self.refused += other.refused;
        self.longest_refusal = self.longest_refusal.max(other.longest_refusal);
        self
    }
}

fn payload(key: &str, text: usize) -> Value {
    json!({ "servicepilot_event_id": key, "state": "CRITICAL", "title": "step 0", "description": "x".repeat(text) })
}

fn missing(upstream: &Upstream, keys: &[String], limit: Duration) -> usize {
    missing_since(upstream, 0, keys, limit)
}

/// As much as in the events that fill a volume.
const TEXT: usize = 2_000;
/// Longer than all of it takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(240);

/// Keys that did not arrive after the first so many calls, if they do not within the time.
fn missing_since(upstream: &Upstream, called: usize, keys: &[String], limit: Duration) -> usize {
    let end = Instant::now() + limit;
    loop {
        let arrivals = upstream.arrivals();
        let arrived: HashSet<&str> = arrivals[called..].iter().map(|arrival| &*arrival.key).collect();
        let missing = keys.iter().filter(|key| !arrived.contains(&***key)).count();
        if missing == 0 || Instant::now() >= end {
            return missing;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// History that is many times as large as the volume goes through it.
fn history_goes_through(volume: &Volume, text: usize, events: usize) {
    let process = volume.start();
    let told = volume.work(&process, "k", text, events, PATIENCE);
    eprintln!("{} acknowledged, {} refused, longest {:?}", told.acknowledged.len(), told.refused, told.longest_refusal);
    assert!(told.acknowledged.len() >= events, "{} acknowledged, {} refused", told.acknowledged.len(), told.refused);
    assert!(told.longest_refusal < Duration::from_secs(2), "{:?}", told.longest_refusal);
    assert_eq!(missing(&volume.upstream, &told.acknowledged, PATIENCE), 0);
    assert!(volume.length("reserve") > 0, "it was never needed");
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn history_goes_through_a_volume_of_8_mib() {
    history_goes_through(&Volume::new(8, Upstream::start(|| Reply::Done)), 8_000, 6_000);
}

#[test]
fn history_goes_through_a_volume_of_64_mib() {
    history_goes_through(&Volume::new(64, Upstream::start(|| Reply::Done)), 32_000, 6_000);
}

#[test]
fn history_goes_through_an_ext4_volume() {
    history_goes_through(&Volume::ext4(24, Upstream::start(|| Reply::Done)), 16_000, 4_000);
}

/// A volume that nothing can be written to, and from which no call returns, until it is dropped.
struct Frozen<'v>(&'v Volume);

impl<'v> Frozen<'v> {
    fn freeze(volume: &'v Volume) -> Frozen<'v> {
        assert!(volume.does(&["fsfreeze", "--freeze"]), "fsfreeze is there (util-linux)");
        Frozen(volume)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.does(&["fsfreeze", "--unfreeze"]);
    }
}

#[test]
fn a_disk_that_hangs_is_told_and_senders_are_told_to_come_again() {
    let volume = Volume::ext4(24, Upstream::start(|| Reply::Done));
    let process = volume.start();
    let mut client = Client { port: process.port, connections: Connections::Kept, stream: None };
    assert_eq!(client.post(&payload("before", 100)).unwrap().status, 202);
    let frozen = Frozen::freeze(&volume);
    let mut refused = 0;
    for _ in 0..3 {
        refused += usize::from(client.post(&payload("meanwhile", 100)).unwrap().status == 503);
    }
    let (status, ready) = process.get("/readyz");
    // An operator's command ends, too.
    let (held, _) = process.post("/api/v1/events/hold", &serde_json::json!({ "source": "servicepilot" }));
    assert_eq!(held, 503);
    drop(frozen);
    assert_eq!((refused, status), (3, 503), "{ready}");
    assert!(ready["degraded"][0]["detail"].as_str().unwrap().contains("the disk hangs"), "{ready}");
    process.until_logged("the disk of `data_dir` answers again");
    assert_eq!(client.post(&payload("after", 100)).unwrap().status, 202);
    assert_eq!(process.get("/readyz").0, 200);
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
}

/// Open incidents without end: what is known of their keys would fill the volume.
#[test]
fn keys_that_would_fill_a_volume_are_forgotten_the_oldest_first() {
    let volume = Volume::new(2, Upstream::start(|| Reply::Done));
    let process = volume.start();
    leave_a_dead_letter(&volume, &process);
    let told = volume.work(&process, &"k".repeat(180), 10, 8_000, PATIENCE);
    assert!(told.acknowledged.len() >= 8_000, "{} acknowledged, {} refused", told.acknowledged.len(), told.refused);
    assert!(told.longest_refusal < Duration::from_secs(2), "{:?}", told.longest_refusal);
    assert_eq!(missing(&volume.upstream, &told.acknowledged, PATIENCE), 0);
    assert_eq!(faults(&process), Vec::<String>::new());
    let known = process.metric("gander_dedup_keys");
    assert!(known > 1_000 && known < 7_000, "{known}");
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
}

/// A dead letter, and behind it a resolve that was delivered without effect, which stays while the dead letter does.
fn leave_a_dead_letter(volume: &Volume, process: &Process) {
    let mut client = Client { port: process.port, connections: Connections::Kept, stream: None };
    volume.upstream.follow(|| Reply::Rejected);
    assert_eq!(client.post(&payload("dead", 100)).unwrap().status, 202);
    let end = Instant::now() + Duration::from_secs(5);
    while count(process, "dead") == 0 {
        assert!(Instant::now() < end, "it is no dead letter");
        std::thread::sleep(Duration::from_millis(20));
    }
    volume.upstream.follow(|| Reply::Unmatched);
    assert_eq!(client.post(&payload("dead", 100)).unwrap().status, 202);
    none_waits(process);
    volume.upstream.follow(|| Reply::Done);
}

#[test]
fn the_history_of_open_incidents_is_not_kept_for_ever_and_they_stay_open() {
    let volume = Volume::new(64, Upstream::start(|| Reply::Done));
    volume.site.configure(&format!("journal: {{ keep_delivered: 1s }}\ndedup: {{ max_keys: {KEYS} }}"));
    let process = volume.start();
    let told = volume.work(&process, "k", 100, 1_000, PATIENCE);
    none_waits(&process);
    std::thread::sleep(Duration::from_millis(1_100));
    // History is looked for at a start, and once a minute.
    assert_eq!(process.terminate().0, Some(0));
    let mut process = volume.start();
    let end = Instant::now() + Duration::from_secs(5);
    while count(&process, "") > 1 {
        assert!(Instant::now() < end, "{} events are kept, of {}", count(&process, ""), told.acknowledged.len());
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..2 {
        let (_, open) = process.get("/api/v1/incidents");
        let open = open["incidents"].as_array().unwrap();
        assert_eq!(open.len(), KEYS);
        let key = open[KEYS / 2]["incident_key"].as_str().unwrap();
        let mut client = Client { port: process.port, connections: Connections::Kept, stream: None };
        let again = client.post(&payload(key, 100)).unwrap();
        assert_eq!((again.status, &again.json["status"]), (200, &json!("duplicate")), "{key} is open");
        process.kill();
        process = volume.start();
    }
    // Of a key that is forgotten nothing is kept.
    assert!(volume.work(&process, "more", 100, KEYS / 2, PATIENCE).acknowledged.len() >= KEYS / 2);
    none_waits(&process);
    let mut other = Other::open_under(&volume.under, &volume.site.data().join("journal.db"));
    let kept = other.does("SELECT count(*) FROM key_state").unwrap();
    other.close();
    assert!(kept > 0 && kept as usize <= KEYS / 2, "{kept}");
    process.assert_no_panic();
}

/// As many as are remembered.
const KEYS: usize = 800;

/// What the log says of writes that failed.
fn faults(process: &Process) -> Vec<String> {
    process.log().into_iter().filter(|line| line.contains("can't be written")).collect()
}

/// The backlog of an outage fills the volume; the relay is killed and started again while it is full; then the upstream
/// answers again, in one way or the other.
fn backlog_fills(mib: u64, text: usize, then: Reply) -> (Volume, Process, Told) {
    let volume = Volume::new(mib, Upstream::start(|| Reply::Unavailable));
    let (mut process, mut told) = (volume.start(), Told::default());
    for life in 0..3 {
        told = told.and(volume.fill_with_backlog(&process, &format!("k{life}"), text));
        eprintln!("{mib} MiB: {} acknowledged", told.acknowledged.len());
        let (status, ready) = process.get("/readyz");
        let said = ready["degraded"][0]["detail"].as_str().unwrap_or_default();
        assert!(status == 503 && said.starts_with("disk_full"), "{ready}");
        assert_eq!(faults(&process), Vec::<String>::new(), "it is refused before a write fails");
        assert!(volume.length("reserve") > 0, "it was not needed");
        process.kill();
        process = volume.start();
    }
    assert_eq!(count(&process, "queued"), told.acknowledged.len());
    let called = volume.upstream.arrivals().len();
    volume.upstream.follow(move || then);
    assert_eq!(missing_since(&volume.upstream, called, &told.acknowledged, PATIENCE), 0);
    none_waits(&process);
    assert_eq!(faults(&process), Vec::<String>::new());
    (volume, process, told)
}

#[test]
fn the_backlog_of_an_outage_fills_a_volume_and_goes_out_when_the_outage_is_over() {
    for (mib, text) in [(8, 2_000), (24, 6_000)] {
        let (volume, process, _) = backlog_fills(mib, text, Reply::Done);
        assert!(volume.takes_again(&process, AGAIN));
        process.assert_no_panic();
        assert_eq!(process.terminate().0, Some(0));
    }
}

#[test]
fn a_volume_full_of_events_that_are_all_rejected_has_room_for_their_ends_and_takes_new_ones_when_they_are_discarded() {
    let (volume, process, mut told) = backlog_fills(8, TEXT, Reply::Rejected);
    // What was kept for the ends was more than they took.
    told = told.and(volume.fill_with_backlog(&process, "more", TEXT));
    none_waits(&process);
    assert_eq!(count(&process, "dead"), told.acknowledged.len());
    process.kill();
    let process = volume.start();
    let called = volume.upstream.arrivals().len();
    volume.fill_with_backlog(&process, "again", TEXT);
    none_waits(&process);
    let resent = volume.upstream.arrivals()[called..].iter().filter(|call| !call.key.starts_with("again")).count();
    assert_eq!(resent, 0, "their ends are on disk");

    while count(&process, "dead") > 0 {
        let (status, answer) = process.post("/api/v1/events/discard", &json!({ "state": "dead" }));
        assert_eq!(status, 200, "{answer}");
    }
    assert!(volume.takes_again(&process, AGAIN));
    assert_eq!(faults(&process), Vec::<String>::new());
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn a_volume_that_a_stranger_fills_is_no_end_of_deliveries_and_takes_events_when_it_is_freed() {
    let volume = Volume::new(64, Upstream::start(|| Reply::Unavailable));
    let process = volume.start();
    let told = volume.work(&process, "k", TEXT, 1_500, PATIENCE);
    assert_eq!((told.acknowledged.len() >= 1_500, told.refused), (true, 0));
    // In order, so that the log is gone and needs room again.
    assert_eq!(process.terminate().0, Some(0));
    let process = volume.start();
    let ballast = volume.file("ballast");
    assert!(fill(&ballast) > 0);
    assert!(!volume.takes_again(&process, Duration::from_millis(300)));

    let called = volume.upstream.arrivals().len();
    volume.upstream.follow(|| Reply::Done);
    assert_eq!(missing_since(&volume.upstream, called, &told.acknowledged, PATIENCE), 0);
    none_waits(&process);
    process.kill();
    // What it gave back is taken, too.
    fill(&volume.file("more"));
    let called = volume.upstream.arrivals().len();
    let process = volume.start();
    assert_eq!(count(&process, "queued"), 0);
    let calls = volume.upstream.arrivals();
    assert!(!calls[called..].iter().any(|call| call.key.starts_with("k-")), "what was delivered is sent again");
    for name in ["ballast", "more"] {
        std::fs::remove_file(volume.file(name)).unwrap();
    }
    let freed = Instant::now();
    assert!(volume.takes_again(&process, AGAIN));
    while volume.length("reserve") < 8 << 20 {
        assert!(freed.elapsed() < AGAIN, "the reserve is not taken again");
        std::thread::sleep(Duration::from_millis(50));
    }
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
}
