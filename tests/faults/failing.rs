//! Writes and syncs that fail, one after so many or for a while, under load.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use gander::exports::journal::{Filter, Reader};

use crate::process::{Site, words};
use crate::seeded;
use crate::senders::{Answer, Connections, Key, Senders};
use crate::upstream::{Reply, Upstream};

/// Runs under load while strace makes calls fail as `inject` says, for so many seconds and at least until so many did;
/// returns what was answered in the order of time.
fn with_failing_calls(test: &str, inject: &str, seconds: u64, faults: usize) -> Vec<(Instant, Answer)> {
    let mut dice = seeded(test);
    let upstream = Upstream::flapping(dice.fork());
    let site = Site::new(&upstream);
    let mut senders = Senders::new(4, &mut dice);
    let log = site.directory.path().join("calls");
    let calls = inject.split(':').next().unwrap();
    let process = site
        .start(&words(&format!("strace -D -f --seccomp-bpf -o {} -e trace={calls} -e inject={inject}", log.display())));
    let mut unready = Vec::new();
    let ((), stops) = senders.work(process.port, Connections::Kept, || {
        let began = Instant::now();
        let goes_on =
            || began.elapsed() < Duration::from_secs(seconds) || injected(&log) < faults && began.elapsed() < PATIENCE;
        while goes_on() {
            let (status, body) = process.get("/readyz");
            if status == 503 {
                unready.push(body);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(injected(&log) >= faults, "{} calls were made to fail", injected(&log));
    assert!(stops.iter().all(|stop| matches!(stop, crate::senders::Stop::Told)), "{stops:?}");
    process.assert_no_panic();
    let reasons: Vec<_> = unready.iter().map(|body| body["degraded"][0]["reason"].clone()).collect();
    assert!(!reasons.is_empty() && reasons.iter().all(|reason| reason == "journal"), "/readyz said {unready:?}");

    // What went wrong is over with the process at the latest; what it acknowledged is not.
    upstream.follow(|| Reply::Done);
    assert_eq!(process.terminate().0, Some(0));
    assert_eq!(missing(&site.data(), &senders.keys()), Vec::<String>::new());
    let process = site.start(&[]);
    assert_eq!(senders.settle(&upstream, Duration::from_secs(180)), Vec::<String>::new());
    assert_eq!(process.terminate().0, Some(0));
    eprintln!("{test}: {} acknowledged", senders.acknowledged());
    senders.answers()
}

/// Calls that strace made fail so far.
fn injected(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap_or_default().matches("(INJECTED)").count()
}

/// Keys of which the journal holds fewer events than were acknowledged.
fn missing(data: &Path, keys: &[Key]) -> Vec<String> {
    let reader = Reader::open(data).unwrap();
    let mut kept: HashMap<String, usize> = HashMap::new();
    let mut filter = Filter { limit: 1_000, ..Filter::default() };
    loop {
        let page = reader.list(&filter).unwrap();
        for event in page.events {
            *kept.entry(event.incident_key.unwrap_or_default()).or_default() += 1;
        }
        let Some(next) = page.next else { break };
        filter.after = Some(next.parse().unwrap());
    }
    keys.iter()
        .filter(|key| kept.get(&key.name).copied().unwrap_or(0) < key.acknowledged)
        .map(|key| format!("{key:?}: the journal holds {:?}", kept.get(&key.name)))
        .collect()
}

/// How long no event was taken, each time; the last one only if it ended.
fn outages(answers: &[(Instant, Answer)]) -> Vec<Duration> {
    let (mut since, mut outages) = (None, Vec::new());
    for (at, answer) in answers {
        match (answer.status, since) {
            (503, None) => since = Some(*at),
            (200 | 202, Some(began)) => {
                outages.push(at.duration_since(began));
                since = None;
            }
            _ => {}
        }
    }
    outages
}

fn assert_refused_with(reason: &str, answers: &[(Instant, Answer)]) {
    let refused: Vec<_> = answers.iter().map(|(_, answer)| answer).filter(|answer| answer.status == 503).collect();
    assert!(!refused.is_empty());
    for answer in refused {
        assert!(answer.json.to_string().contains(reason), "{answer:?}");
    }
}

/// Every fault ends by itself with the call that failed, so events are taken again soon after each.
fn assert_mended_each_time(answers: &[(Instant, Answer)], reason: &str) {
    assert_refused_with(reason, answers);
    let outages = outages(answers);
    assert!(outages.len() >= 2, "{outages:?}");
    assert!(outages.iter().all(|outage| *outage < AGAIN), "{outages:?}");
}

/// Often enough to meet the mending, too, and seldom enough that it is not met each time: it takes several syncs itself.
#[test]
fn every_nineteenth_sync_fails() {
    let answers = with_failing_calls("every nineteenth sync", "fdatasync,fsync:error=EIO:when=20+19", 10, 6);
    assert_mended_each_time(&answers, "could not be written");
}

#[test]
fn every_hundredth_write_fails() {
    let answers = with_failing_calls("every hundredth write", "pwrite64:error=EIO:when=120+101", 10, 6);
    assert_mended_each_time(&answers, "could not be written");
}

#[test]
fn every_hundredth_write_finds_the_disk_full() {
    let answers = with_failing_calls("every hundredth write, full", "pwrite64:error=ENOSPC:when=120+101", 10, 6);
    assert_mended_each_time(&answers, "full");
}

#[test]
fn syncs_fail_for_a_while() {
    // One fails under load; those after it are the tries to mend it, one a second.
    let answers = with_failing_calls("syncs fail for a while", "fdatasync,fsync:error=EIO:when=20..23", 9, 4);
    assert_refused_with("could not be written", &answers);
    let mut outages = outages(&answers);
    // Answers that overtook each other on their way here look like another one.
    outages.retain(|outage| *outage > Duration::from_millis(500));
    assert_eq!(outages.len(), 1, "{outages:?}");
    assert!(outages[0] > Duration::from_secs(2) && outages[0] < Duration::from_secs(3) + AGAIN, "{outages:?}");
}

/// The control: a journal that does not hold what was acknowledged is found wanting.
#[test]
fn control_an_acknowledgement_that_the_journal_does_not_hold_is_seen() {
    let mut dice = seeded("failing calls, control");
    let upstream = Upstream::start(|| Reply::Done);
    let site = Site::new(&upstream);
    let mut senders = Senders::new(2, &mut dice);
    let process = site.start(&[]);
    senders.work_for(process.port, Connections::Kept, 10);
    process.terminate();
    let mut keys = senders.keys();
    assert_eq!(missing(&site.data(), &keys), Vec::<String>::new());
    keys[0].acknowledged += 1;
    assert_eq!(missing(&site.data(), &keys).len(), 1);
}

/// Longer than some faults take to be met, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
/// How soon events are to be taken after the cause of a fault is gone.
pub const AGAIN: Duration = Duration::from_secs(5);
