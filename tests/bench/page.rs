//! Many delivered events: how long lists and searches take, and what a page that stays open costs the relay.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gander::exports::event::State;

use crate::backlog::{Relay, fill};
use crate::load::Pace;
use crate::systems::{self, Setup, Upstream, get};
use crate::{Result, machine::Machine};

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// Delivered events, each of a key of its own
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Requests for each view
    #[arg(long, default_value_t = 20)]
    times: usize,
    /// Events while a page is open, and as many while none is
    #[arg(long, default_value_t = 10_000)]
    while_open: u64,
    /// Rounds, each without a page and with one
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    machine: Machine,
}

pub(crate) fn measure(plan: &Plan) -> Result<()> {
    let (scratch, facts) = plan.machine.prepare()?;
    facts.iter().for_each(|fact| println!("{fact}"));
    let data = scratch.path().join("data");
    eprintln!("writing {} events …", plan.events);
    let middle = fill(&data, plan.events, State::Delivered)? + plan.events / 2;
    let served = ["upstream".to_owned(), "--pki".to_owned(), scratch.path().display().to_string()];
    let upstream = Upstream::start(plan.machine.load_core, &std::env::current_exe()?, &served)?;
    let setup = Setup { scratch: scratch.path(), data: &data, upstream: upstream.address, concurrency: 16 };
    let relay = Relay::start(plan.machine.core, &setup, 1_000_000)?;
    println!("ready after a start over {} events: {:.2} s", plan.events, relay.ready.as_secs_f64());
    println!("search index made: {:.1} s after the start", indexed(relay.admin)?.as_secs_f64());
    tell_views(plan, relay.admin, middle)?;
    for _ in 0..plan.rounds {
        let without = Cost::of(plan, &relay, scratch.path())?;
        without.tell("no page", 0);
        let page = OpenPage::open(relay.admin)?;
        let with = Cost::of(plan, &relay, scratch.path())?;
        with.tell("a page open", page.close()?);
    }
    Ok(())
}

/// Waits until the search index has all but the newest events; returns how long that took.
fn indexed(admin: SocketAddr) -> Result<Duration> {
    let started = Instant::now();
    while started.elapsed() < INDEXED_WITHIN {
        let answer = get(admin, "/api/v1/events?key_or_title=nowhere")?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a body")?;
        let list: serde_json::Value = serde_json::from_str(body)?;
        let count = |name: &str| list["searched"][name].as_u64().unwrap_or(0);
        if list["searched"]["stopped"] == false && count("looked_at") < count("by_index") + READ_MAX {
            return Ok(started.elapsed());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Err("the search index was not made".into())
}

/// Prints the time of each view: the median and the longest. `middle`: an event's id.
fn tell_views(plan: &Plan, admin: SocketAddr, middle: u64) -> Result<()> {
    let key = plan.events / 2;
    let views = [
        ("overview", "/".to_owned()),
        ("newest events", "/events".to_owned()),
        ("by state", "/events?state=delivered".to_owned()),
        ("by a state that no event has", "/events?state=dead".to_owned()),
        ("by source", "/events?source=bench".to_owned()),
        ("by an outcome that no event has", "/events?outcome=unmatched".to_owned()),
        ("an old page", format!("/events?after={middle}")),
        ("one event", format!("/events/{middle}")),
        ("open incidents", "/incidents".to_owned()),
        ("needs attention", "/attention".to_owned()),
        ("a whole key", format!("/events?key=backlog-{key:012}")),
        ("part of an old key", "/events?key_contains=0000000012".to_owned()),
        ("part of a key that no event has", "/events?key_contains=nowhere".to_owned()),
        ("part of an old key, or of a title", "/events?key_or_title=0000000012".to_owned()),
        ("part of a title", "/events?key_or_title=cpu+usage".to_owned()),
        ("part of a title that no event has", "/events?key_or_title=nowhere".to_owned()),
        ("two letters that no title has", "/events?key_or_title=qq".to_owned()),
        ("text that no event has", "/events?search=nowhere".to_owned()),
    ];
    for (name, path) in views {
        let mut took = Vec::new();
        for _ in 0..plan.times {
            let started = Instant::now();
            let answer = get(admin, &path)?;
            took.push(started.elapsed());
            if !answer.starts_with("HTTP/1.1 200") {
                return Err(format!("{path}: {}", answer.lines().next().unwrap_or_default()).into());
            }
        }
        took.sort_unstable();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
        println!("{name}: p50 {:.1} ms, longest {:.1} ms", ms(took.get(took.len() / 2)), ms(took.last()));
    }
    Ok(())
}

/// The cost of events that arrive at a calm pace.
struct Cost {
    us_an_event: f64,
    resident_kib: u64,
}

impl Cost {
    fn of(plan: &Plan, relay: &Relay, scratch: &std::path::Path) -> Result<Cost> {
        let before = relay.process.cpu_seconds()?;
        let pace = Pace::Kept { seconds: plan.while_open / RATE, rate: Some(RATE) };
        let sent = systems::send(plan.machine.load_core, scratch, relay.address, PATH, CONNECTIONS, pace)?;
        systems::drained(relay.admin)?;
        let cpu = relay.process.cpu_seconds()? - before;
        Ok(Cost { us_an_event: cpu * 1e6 / sent.acknowledged as f64, resident_kib: relay.process.resident_kib()? })
    }

    fn tell(&self, when: &str, views: u64) {
        println!(
            "{when}: {:.1} µs CPU an event, {:.1} MiB resident, asked for {views} views",
            self.us_an_event,
            self.resident_kib as f64 / 1024.0
        );
    }
}

/// A page as a browser keeps it up to date: it reads the stream, and asks for its view at each word.
struct OpenPage {
    closed: Arc<AtomicBool>,
    views: Arc<AtomicU64>,
    reader: thread::JoinHandle<()>,
}

impl OpenPage {
    fn open(admin: SocketAddr) -> Result<OpenPage> {
        let mut stream = TcpStream::connect(admin)?;
        write!(stream, "GET /changes HTTP/1.1\r\nHost: {admin}\r\n\r\n")?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let (closed, views) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_closed, counted) = (Arc::clone(&closed), Arc::clone(&views));
        let reader = thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(std::io::Result::ok) {
                if is_closed.load(Ordering::Relaxed) {
                    return;
                }
                if line.starts_with("data: changed") && get(admin, "/").is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(OpenPage { closed, views, reader })
    }

    /// Closes it and returns how many views it asked for.
    fn close(self) -> Result<u64> {
        self.closed.store(true, Ordering::Relaxed);
        self.reader.join().map_err(|_| "the page's reader failed")?;
        Ok(self.views.load(Ordering::Relaxed))
    }
}

const INDEXED_WITHIN: Duration = Duration::from_secs(300);
/// The newest events are read, and not in the index.
const READ_MAX: u64 = 1_000;
const PATH: &str = "/hooks/bench";
const RATE: u64 = 300;
const CONNECTIONS: usize = 16;
