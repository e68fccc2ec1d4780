//! Clocks that are turned between two runs, by days: what waits is neither given up nor kept waiting for that.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::process::{Process, Site, words};
use crate::senders::{Client, Connections, payload};
use crate::upstream::{Reply, Upstream};

#[test]
fn a_clock_that_is_turned_on_by_days_between_two_runs_gives_nothing_up() {
    let upstream = Upstream::start(|| Reply::Unavailable);
    let site = Site::new(&upstream);
    fill_and_try(&site, &upstream);

    let process = site.start(&turned("+2d"));
    let before = upstream.arrivals().len();
    assert!(upstream.until(PATIENCE, |arrivals| arrivals.len() >= before + 3 * KEYS), "tried on");
    assert_eq!(states(&process, "dead"), 0);
    upstream.follow(|| Reply::Done);
    delivered(&process);
}

#[test]
fn a_clock_that_is_turned_back_by_days_between_two_runs_keeps_nothing_waiting() {
    let upstream = Upstream::start(|| Reply::Unavailable);
    let site = Site::new(&upstream);
    fill_and_try(&site, &upstream);

    upstream.follow(|| Reply::Done);
    let process = site.start(&turned("-10d"));
    delivered(&process);
}

/// Has events wait whose first tries failed, and ends the relay.
fn fill_and_try(site: &Site, upstream: &Upstream) {
    let process = site.start(&[]);
    let mut client = Client { port: process.port, connections: Connections::Kept, stream: None };
    for key in 0..KEYS {
        let answer = client.post(&payload(&format!("k{key}"), 0)).unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let tried_again = |key: usize| {
        let name = format!("k{key}");
        move |arrivals: &[crate::upstream::Arrival]| arrivals.iter().filter(|arrival| arrival.key == name).count() > 2
    };
    for key in 0..KEYS {
        assert!(upstream.until(PATIENCE, tried_again(key)), "k{key} was tried");
    }
    assert_eq!(process.terminate().0, Some(0));
}

/// Starts a program whose wall clock differs by so much. Its monotonic clock is left alone, as a time server leaves it.
fn turned(by: &str) -> Vec<String> {
    sweep();
    words(&format!("env FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 faketime -f {by}"))
}

/// Removes what faketime leaves when it is killed: the files bear its process id, and another one of that id would not
/// start.
fn sweep() {
    for file in fs::read_dir("/dev/shm").unwrap().map_while(Result::ok) {
        let name = file.file_name().into_string().unwrap_or_default();
        let process = name.rsplit_once('_').filter(|(kind, _)| kind.contains("faketime"));
        if process.is_some_and(|(_, id)| !Path::new("/proc").join(id).exists()) {
            let _ = fs::remove_file(file.path());
        }
    }
}

fn delivered(process: &Process) {
    let end = std::time::Instant::now() + PATIENCE;
    while states(process, "delivered") < KEYS {
        assert!(std::time::Instant::now() < end, "{} of {KEYS} are delivered", states(process, "delivered"));
        std::thread::sleep(Duration::from_millis(50));
    }
    process.assert_no_panic();
}

fn states(process: &Process, state: &str) -> usize {
    process.get(&format!("/api/v1/events?state={state}&limit=1000")).1["events"].as_array().unwrap().len()
}

const KEYS: usize = 20;
/// Far less than the five minutes for which a wait was kept once.
const PATIENCE: Duration = Duration::from_secs(60);
