//! No 2xx leaves before the sync that covers its record: read off the system calls.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::{Site, words};
use crate::senders::{Connections, Senders};
use crate::upstream::Upstream;
use crate::{seeded, setting};

/// A system call, as far as the proof needs it, at the moment it began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    /// Frames were written to the journal's log: the step that they hold, if it is one whose like we sent.
    LogWritten(Vec<Step>),
    SyncBegan {
        thread: u32,
    },
    SyncEnded {
        thread: u32,
        done: bool,
    },
    /// A 202 began to leave.
    Answered(String),
}

/// A key, or with a number the step of it: what an answer names, and what a record holds.
type Step = String;

/// Follows the calls in their order.
#[derive(Default)]
struct Proof {
    /// Written steps, by how many writes had been made at that time.
    written: HashMap<Step, u64>,
    writes: u64,
    /// Syncs under way, with the writes made before they began.
    syncing: HashMap<u32, u64>,
    /// So many writes are covered by a sync that succeeded.
    synced: u64,
    answered: HashMap<String, usize>,
    answers: u64,
    wrong: Vec<String>,
}

impl Proof {
    fn see(&mut self, call: Call) {
        match call {
            Call::LogWritten(steps) => {
                self.writes += 1;
                for step in steps {
                    // A page is written again with every later row on it; its first time is the record's own.
                    self.written.entry(step).or_insert(self.writes);
                }
            }
            Call::SyncBegan { thread } => drop(self.syncing.insert(thread, self.writes)),
            Call::SyncEnded { thread, done } => {
                let covers = self.syncing.remove(&thread).unwrap_or(0);
                if done {
                    self.synced = self.synced.max(covers);
                }
            }
            Call::Answered(key) => {
                self.answers += 1;
                let number = self.answered.entry(key.clone()).or_default();
                let step = format!("{key} step {number}");
                *number += 1;
                match self.written.get(&step) {
                    None => self.wrong.push(format!("{step}: acknowledged, and never written")),
                    Some(at) if *at > self.synced => self.wrong.push(format!("{step}: acknowledged before its sync")),
                    Some(_) => {}
                }
            }
        }
    }
}

/// What a line of strace says; two for a call that was not interrupted by another thread's.
fn calls_of(line: &str) -> Vec<Call> {
    let Some((thread, rest)) = line.split_once(' ') else { return Vec::new() };
    let (Ok(thread), rest) = (thread.parse(), rest.trim_start()) else { return Vec::new() };
    // A call that strace only pretended to make did nothing.
    let done = rest.trim_end().ends_with("= 0");
    if rest.starts_with("<... fdatasync resumed>") || rest.starts_with("<... fsync resumed>") {
        return vec![Call::SyncEnded { thread, done }];
    }
    if rest.starts_with("fdatasync(") || rest.starts_with("fsync(") {
        if !rest.contains("journal.db-wal>") {
            return Vec::new();
        }
        let began = Call::SyncBegan { thread };
        return if rest.contains("<unfinished") { vec![began] } else { vec![began, Call::SyncEnded { thread, done }] };
    }
    if rest.starts_with("pwrite64(") && rest.contains("journal.db-wal>") {
        return vec![Call::LogWritten(steps_in(rest))];
    }
    if rest.contains("HTTP/1.1 202") {
        let key = between(rest, "\\\"incident_key\\\":\\\"", "\\\"").expect("a 202 names the key");
        return vec![Call::Answered(key.to_owned())];
    }
    Vec::new()
}

/// The steps of which this page holds the payload as it came.
fn steps_in(page: &str) -> Vec<Step> {
    page.split("{\\\"servicepilot_event_id\\\":\\\"")
        .skip(1)
        .filter_map(|row| {
            let key = row.split_once("\\\"")?.0;
            let step = between(row, "\\\"title\\\":\\\"", "\\\"")?;
            Some(format!("{key} {step}"))
        })
        .collect()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

/// Sends until so many were acknowledged, under strace, which also does what `meddling` says; returns the log's file.
fn trace(test: &str, requests: usize, meddling: &str, log: &Path) {
    let mut dice = seeded(test);
    let upstream = Upstream::flapping(dice.fork());
    let site = Site::new(&upstream);
    let mut senders = Senders::new(4, &mut dice);
    let process = site.start(&words(&format!(
        "strace -D -f --seccomp-bpf -y -s 10000 -o {} \
         -e trace=pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg {meddling}",
        log.display()
    )));
    let started = Instant::now();
    let port = process.port;
    while senders.acknowledged() < requests && started.elapsed() < Duration::from_secs(600) {
        senders.work(port, Connections::Kept, || std::thread::sleep(Duration::from_millis(500)));
    }
    process.assert_no_panic();
    assert!(senders.acknowledged() >= requests);
    assert_eq!(process.terminate().0, Some(0));
}

fn prove(lines: impl Iterator<Item = String>) -> Proof {
    let mut proof = Proof::default();
    lines.flat_map(|line| calls_of(&line)).for_each(|call| proof.see(call));
    proof
}

fn lines_of(log: &Path) -> impl Iterator<Item = String> {
    BufReader::new(File::open(log).unwrap())
        .split(b'\n')
        .map(|line| String::from_utf8_lossy(&line.unwrap()).into_owned())
}

#[test]
fn no_2xx_leaves_before_the_sync_that_covers_its_record() {
    let requests = setting("GANDER_REQUESTS", 300);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("calls");
    trace("syncs", requests as usize, "", &log);
    let proof = prove(lines_of(&log));
    eprintln!("{} answers 202, {} writes to the log", proof.answers, proof.writes);
    assert_eq!(proof.wrong, Vec::<String>::new());
    assert!(proof.answers >= requests, "only {} answers were seen", proof.answers);

    // The control: the same calls, had the program not synced, or had it not waited.
    let unsynced = prove(lines_of(&log).filter(|line| !line.contains("sync")));
    assert_eq!(unsynced.wrong.len() as u64, proof.answers, "without a sync nothing is covered");
    let mut calls: Vec<Call> = lines_of(&log).flat_map(|line| calls_of(&line)).collect();
    let answer = calls.iter().position(|call| matches!(call, Call::Answered(_))).unwrap();
    let Call::Answered(key) = calls.remove(answer) else { unreachable!("it was looked for") };
    let holds = |call: &Call| matches!(call, Call::LogWritten(steps) if steps.contains(&format!("{key} step 0")));
    let written = calls.iter().position(holds).unwrap();
    calls.insert(written + 1, Call::Answered(key));
    let mut hasty = Proof::default();
    calls.into_iter().for_each(|call| hasty.see(call));
    assert_eq!(hasty.wrong.len(), 1, "one answer that did not wait: {:?}", hasty.wrong);
}

/// The control with the mechanism really off: strace lets no sync reach the kernel and tells the program it did.
#[test]
fn control_a_relay_whose_syncs_do_nothing_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("calls");
    trace("syncs, control", 20, "-e inject=fdatasync,fsync:retval=0", &log);
    let proof = prove(lines_of(&log));
    assert!(proof.answers >= 20);
    assert_eq!(proof.wrong.len() as u64, proof.answers);
}

#[test]
fn calls_are_read_off_the_lines_of_strace() {
    let sync = "7 fdatasync(9</d/journal.db-wal>) = 0";
    let began = Call::SyncBegan { thread: 7 };
    for (sentence, line, calls) in [
        ("a sync", sync, vec![began.clone(), Call::SyncEnded { thread: 7, done: true }]),
        (
            "one that another thread interrupts",
            "7 fdatasync(9</d/journal.db-wal> <unfinished ...>",
            vec![began.clone()],
        ),
        ("its end", "7 <... fdatasync resumed>) = 0", vec![Call::SyncEnded { thread: 7, done: true }]),
        (
            "one that failed",
            "7 fdatasync(9</d/journal.db-wal>) = -1 EIO (Input/output error)",
            vec![began.clone(), Call::SyncEnded { thread: 7, done: false }],
        ),
        (
            "one that was not made",
            "7 fdatasync(9</d/journal.db-wal>) = 0 (INJECTED)",
            vec![began, Call::SyncEnded { thread: 7, done: false }],
        ),
        ("of another file", "7 fdatasync(9</d/journal.db>) = 0", vec![]),
        (
            "a page",
            r#"7 pwrite64(9</d/journal.db-wal>, "\0{\"servicepilot_event_id\":\"k\",\"state\":\"OK\",\"title\":\"step 3\"}", 96, 0) = 96"#,
            vec![Call::LogWritten(vec!["k step 3".into()])],
        ),
        (
            "an answer",
            r#"8 sendto(4<socket:[1]>, "HTTP/1.1 202 Accepted\r\n\r\n{\"id\":\"1\",\"incident_key\":\"k\"}", 9, 0, NULL, 0) = 9"#,
            vec![Call::Answered("k".into())],
        ),
    ] {
        assert_eq!(calls_of(line), calls, "{sentence}");
    }
}
