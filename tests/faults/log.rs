//! The log's reader is gone, asleep, or a disk that is full; and threads that panic.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::full::{fill, with_mount};
use crate::process::{Process, Reader, Site};
use crate::seeded;
use crate::senders::{Client, Connections, Senders, Stop};
use crate::upstream::{Reply, Upstream};

/// A relay that logs much, in front of an upstream that gives it cause to.
struct World {
    upstream: Upstream,
    site: Site,
    senders: Senders,
}

impl World {
    fn new(test: &str) -> World {
        let mut dice = seeded(test);
        let upstream = Upstream::flapping(dice.fork());
        let site = Site::with_log(&upstream, "{ format: json, level: debug }");
        World { upstream, site, senders: Senders::new(4, &mut dice) }
    }

    /// Senders and a stranger are at work for a while, and each of their requests is answered.
    fn everyone_is_answered(&mut self, process: &Process) {
        let (statuses, stops) = self.senders.work(process.port, Connections::Kept, || {
            let mut stranger = Client { port: process.port, connections: Connections::Kept, stream: None };
            let until = Instant::now() + Duration::from_millis(500);
            std::iter::from_fn(|| {
                (Instant::now() < until).then(|| stranger.post_as("wrong", &json!({})).unwrap().status)
            })
            .collect::<Vec<u16>>()
        });
        assert!(stops.iter().all(|stop| matches!(stop, Stop::Told)), "{stops:?}");
        assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 401), "{statuses:?}");
    }

    /// The same, until lines of the log were dropped and so many events more were taken.
    fn everyone_is_answered_while_lines_are_dropped(&mut self, process: &Process) {
        let end = Instant::now() + PATIENCE;
        let mut before = self.senders.acknowledged();
        while self.senders.acknowledged() < before + ENOUGH {
            assert!(Instant::now() < end, "{} lines are dropped", process.metric(DROPPED));
            self.everyone_is_answered(process);
            if process.metric(DROPPED) == 0 {
                before = self.senders.acknowledged();
            }
        }
    }

    /// All that was acknowledged arrives.
    fn everything_is_delivered(&self) {
        self.upstream.follow(|| Reply::Done);
        assert_eq!(self.senders.settle(&self.upstream, PATIENCE), Vec::<String>::new());
    }
}

fn assert_stops(mut process: Process) {
    let started = Instant::now();
    process.signal("TERM");
    assert_eq!(process.ended(PATIENCE), Some(0));
    assert!(started.elapsed() < STOP_MAX, "{:?}", started.elapsed());
}

/// How many lines the log itself says are missing. Each of its lines is whole but for those that it says were cut off.
fn said_to_be_missing(log: &[String]) -> u64 {
    let mut missing = 0;
    let mut cut_off = 0;
    for line in log {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            cut_off += 1;
            continue;
        };
        if line["message"].as_str().is_some_and(|message| message.starts_with("lines of the log are missing here")) {
            assert_eq!(line["level"], "WARN", "{line}");
            missing += line["lines"].as_u64().unwrap();
        }
    }
    assert!(cut_off <= missing, "{cut_off} lines are no JSON, {missing} are said to be missing");
    missing
}

fn last_message(log: &[String]) -> Value {
    serde_json::from_str::<Value>(log.last().unwrap()).unwrap()["message"].clone()
}

#[test]
fn a_log_reader_that_is_gone_ends_no_connection_and_no_delivery() {
    let mut world = World::new("log reader gone");
    let process = world.site.start_with(&[], Reader::Gone);
    world.everyone_is_answered_while_lines_are_dropped(&process);
    world.everything_is_delivered();
    assert_eq!(process.metric("gander_panics_total"), 0);
    assert_stops(process);
}

#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting_nor_the_stop() {
    let mut world = World::new("log reader asleep");
    let process = world.site.start_with(&[], Reader::Asleep);
    world.everyone_is_answered_while_lines_are_dropped(&process);
    world.everything_is_delivered();
    assert_stops(process);
}

#[test]
fn a_log_that_is_read_again_says_how_many_lines_are_missing() {
    let mut world = World::new("log reader awakes");
    let mut process = world.site.start_with(&[], Reader::Asleep);
    world.everyone_is_answered_while_lines_are_dropped(&process);
    process.read_log();
    world.everyone_is_answered(&process);
    world.everything_is_delivered();
    let dropped = process.metric(DROPPED);
    process.signal("TERM");
    assert_eq!(process.ended(PATIENCE), Some(0));
    let log = process.whole_log();
    assert_eq!(said_to_be_missing(&log), dropped);
    assert_eq!(last_message(&log), "stopped");
}

#[test]
fn a_stop_writes_the_log_to_its_last_line_where_somebody_reads() {
    let mut world = World::new("last lines");
    let mut process = world.site.start_with(&[], Reader::Asleep);
    // More than the pipe holds, so that lines wait.
    let end = Instant::now() + PATIENCE;
    while world.senders.acknowledged() < 500 {
        assert!(Instant::now() < end, "{} acknowledged", world.senders.acknowledged());
        world.everyone_is_answered(&process);
    }
    assert_eq!(process.metric(DROPPED), 0, "the test is about what is not dropped");
    process.signal("TERM");
    until("all but the log has stopped", || process.thread("recorder").is_none());
    process.read_log();
    assert_eq!(process.ended(PATIENCE), Some(0));
    let log = process.whole_log();
    assert!(log.iter().map(String::len).sum::<usize>() > 2 * PIPE_BYTES, "{} lines", log.len());
    assert_eq!((said_to_be_missing(&log), last_message(&log)), (0, json!("stopped")));
}

#[test]
fn a_log_file_on_a_full_disk_costs_lines_and_nothing_else() {
    let mut world = World::new("log on a full disk");
    let volume = tempfile::tempdir().unwrap();
    let shown = volume.path().display().to_string();
    let under = with_mount(&format!("mount -t tmpfs -o size=8m none {shown} && exec 2>>{shown}/gander.log"));
    // The volume as the process sees it.
    let seen = |id: u32, name: &str| PathBuf::from(format!("/proc/{id}/root{shown}/{name}"));
    let process = world.site.start_with_log_at(&under, |id| seen(id, "gander.log"));
    let (log, ballast) = (seen(process.id(), "gander.log"), seen(process.id(), "ballast"));
    let lines = || -> Vec<String> { fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect() };

    world.everyone_is_answered(&process);
    fill(&ballast);
    world.everyone_is_answered_while_lines_are_dropped(&process);
    world.everything_is_delivered();
    let told = || lines().into_iter().find(|line| line.contains("missing here"));
    assert_eq!(told(), None, "there is no room to");
    fs::remove_file(&ballast).unwrap();
    until("it is told", || told().is_some());
    assert!(told().unwrap().contains("No space left on device"), "{told:?}", told = told());
    assert_eq!(said_to_be_missing(&lines()), process.metric(DROPPED));
    world.everyone_is_answered(&process);
    assert_stops(process);
}

#[test]
fn a_recorder_that_panics_ends_the_process_with_1_and_the_log_says_why() {
    let mut world = World::new("recorder panics");
    let mut process = world.site.start(&[]);
    // A thread names itself, once it runs.
    until("the recorder runs", || process.thread("recorder").is_some());
    let recorder = process.thread("recorder").unwrap();
    let strace = fail_to_wake(&process, recorder);
    let (code, _) = world.senders.work(process.port, Connections::Kept, || process.ended(PATIENCE));
    assert_eq!(code, Some(1));
    drop(strace);
    assert_told_of_panic(&mut process, "recorder");
    assert!(process.log().iter().any(|line| line.contains("a part of gander failed") && line.contains("the recorder")));
}

#[test]
fn a_main_thread_that_panics_ends_the_process_with_1_too() {
    let world = World::new("main thread panics");
    let mut process = world.site.start(&[]);
    let strace = fail_to_wake(&process, process.id());
    // To tell another thread of a signal is all that it has to do, until the other one sleeps so that it is woken.
    until("it ends", || {
        let ended = process.has_ended();
        if !ended {
            process.signal("HUP");
        }
        ended
    });
    assert_eq!(process.ended(PATIENCE), Some(1));
    drop(strace);
    assert_told_of_panic(&mut process, "main");
}

/// Has a thread's next wake-up of another one fail, which is a panic: nothing else is written by this call there.
fn fail_to_wake(process: &Process, thread: u32) -> Killed {
    let strace = Command::new("strace")
        .args(["-qq", "-e", "trace=write", "-e", "inject=write:error=EIO:when=1", "-o", "/dev/null"])
        .args(["-p", &thread.to_string()])
        .spawn();
    let strace = Killed(strace.unwrap());
    let status = format!("/proc/{}/task/{thread}/status", process.id());
    until("strace is there", || !fs::read_to_string(&status).unwrap().contains("TracerPid:\t0\n"));
    strace
}

fn assert_told_of_panic(process: &mut Process, thread: &str) {
    let log = process.whole_log();
    let mut told = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = told.find(|line| line["message"].as_str().is_some_and(|message| message.contains("panicked")));
    let told = told.unwrap_or_else(|| panic!("no panic in {}", log.join("\n")));
    assert!(told["location"].as_str().unwrap().contains(".rs:"), "{told}");
    assert_eq!((&told["level"], &told["thread"]), (&json!("ERROR"), &json!(thread)), "{told}");
}

/// A pipe that is full, and the end of it that keeps it open.
fn full_pipe() -> (Stdio, impl Sized) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b'\n'; PIPE_BYTES]).unwrap();
    (writer.into(), reader)
}

#[test]
fn the_demonstration_and_the_sandbox_wait_for_no_reader() {
    for arguments in [&["demo"][..], &["sandbox", "--listen", "127.0.0.1:0"]] {
        let ((out, _out), (err, _err)) = (full_pipe(), full_pipe());
        let child = Command::new(env!("CARGO_BIN_EXE_gander"))
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CALLGOOSE_TOKEN", "upstream-canary-93ab")
            .stdout(out)
            .stderr(err)
            .spawn();
        let mut child = Killed(child.unwrap());
        until("it waits for a signal", || catches_sigterm(&child.0));
        let started = Instant::now();
        assert!(Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().unwrap().success());
        until("it ends", || child.0.try_wait().unwrap().is_some());
        assert_eq!(child.0.wait().unwrap().code(), Some(0), "{arguments:?}");
        assert!(started.elapsed() < STOP_MAX, "{arguments:?}: {:?}", started.elapsed());
    }
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether the process has said what it does about SIGTERM.
fn catches_sigterm(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (15 - 1) != 0
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}: never");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Events that show that all goes on.
const ENOUGH: usize = 50;
const DROPPED: &str = "gander_log_lines_dropped_total";
/// What a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;
/// For the stop of a relay that has little left to do, and for what its log may take then.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Longer than any of it takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
