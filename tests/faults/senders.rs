//! Senders that keep a ledger, and the join of what was acknowledged with what arrived.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::TOKEN;
use crate::upstream::{Arrival, Upstream};

/// Senders at work, each with keys of its own, so that the order of a key is the order in which it was acknowledged.
pub struct Senders {
    all: Vec<Sender>,
    /// Events of them all.
    acknowledged: Arc<AtomicUsize>,
}

/// One sender. Like a real one it sends an event again until it is acknowledged, and only then the key's next one.
pub struct Sender {
    name: String,
    dice: fastrand::Rng,
    pause: Duration,
    acknowledged: Arc<AtomicUsize>,
    padding: usize,
    pub keys: Vec<Key>,
    /// What was answered, and when.
    pub answers: Vec<(Instant, Answer)>,
    /// What must not be: answers that contradict what was sent.
    pub contradictions: Vec<String>,
}

/// An incident key: its even steps are triggers, its odd ones resolves.
#[derive(Clone, Debug)]
pub struct Key {
    pub name: String,
    /// So many steps were acknowledged.
    pub acknowledged: usize,
    /// The step after them was sent, and not acknowledged: it may have been kept all the same.
    pub uncertain: bool,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub json: Value,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No connection was made.
    Refused,
    /// A connection was made and ended before the answer was whole.
    Cut {
        /// The sender's port.
        port: u16,
        #[expect(dead_code, reason = "it is for the one who reads a failed assertion")]
        error: io::Error,
    },
}

/// How a sender treats its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    Kept,
    OneEach,
}

/// Why a sender stopped.
#[derive(Debug)]
pub enum Stop {
    Told,
    Failed(Failure),
}

/// Tells senders to stop when it is dropped.
struct Telling<'a>(&'a AtomicBool);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Senders {
    pub fn new(count: usize, dice: &mut fastrand::Rng) -> Senders {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let sender = |number| Sender {
            name: format!("s{number}"),
            dice: dice.fork(),
            pause: Duration::ZERO,
            acknowledged: Arc::clone(&acknowledged),
            padding: 0,
            keys: Vec::new(),
            answers: Vec::new(),
            contradictions: Vec::new(),
        };
        Senders { all: (0..count).map(sender).collect(), acknowledged }
    }

    /// The same, each with a pause between two events.
    pub fn paced(mut self, pause: Duration) -> Senders {
        self.all.iter_mut().for_each(|sender| sender.pause = pause);
        self
    }

    /// The same, with so many bytes more in each event.
    pub fn padded(mut self, bytes: usize) -> Senders {
        self.all.iter_mut().for_each(|sender| sender.padding = bytes);
        self
    }

    /// All send at once to a relay at `port`, until `meanwhile` is done with it; returns why each stopped.
    pub fn work<T>(&mut self, port: u16, connections: Connections, meanwhile: impl FnOnce() -> T) -> (T, Vec<Stop>) {
        let told = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let told = &told;
            let threads: Vec<_> =
                self.all.iter_mut().map(|sender| scope.spawn(move || sender.work(port, connections, told))).collect();
            // Also where it panics: who sends would go on for ever.
            let telling = Telling(told);
            let result = meanwhile();
            drop(telling);
            (result, threads.into_iter().map(|thread| thread.join().unwrap()).collect())
        })
    }

    /// The same, until so many events more were acknowledged, however long this machine takes for them.
    pub fn work_for(&mut self, port: u16, connections: Connections, events: usize) -> Vec<Stop> {
        let acknowledged = Arc::clone(&self.acknowledged);
        let wanted = acknowledged.load(Ordering::Relaxed) + events;
        let end = Instant::now() + LOAD_MAX;
        let (enough, stops) = self.work(port, connections, || {
            while acknowledged.load(Ordering::Relaxed) < wanted && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            acknowledged.load(Ordering::Relaxed) >= wanted
        });
        assert!(enough, "too little load to show anything: {stops:?}");
        stops
    }

    pub fn keys(&self) -> Vec<Key> {
        self.all.iter().flat_map(|sender| sender.keys.clone()).collect()
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// All answers, in the order of time.
    pub fn answers(&self) -> Vec<(Instant, Answer)> {
        let mut answers: Vec<_> = self.all.iter().flat_map(|sender| sender.answers.clone()).collect();
        answers.sort_by_key(|(at, _)| *at);
        answers
    }

    /// How many steps were acknowledged and have not arrived.
    pub fn missing(&self, upstream: &Upstream) -> usize {
        let arrivals = upstream.arrivals();
        let arrived: HashSet<(&str, usize)> =
            arrivals.iter().map(|arrival| (arrival.key.as_str(), arrival.step)).collect();
        let keys = self.keys();
        let missing = |key: &Key| (0..key.acknowledged).filter(|step| !arrived.contains(&(&key.name, *step))).count();
        keys.iter().map(missing).sum()
    }

    /// Waits until all that was acknowledged has arrived, and says what is wrong with it: nothing, if all is well.
    pub fn settle(&self, upstream: &Upstream, limit: Duration) -> Vec<String> {
        let keys = self.keys();
        upstream.until(limit, |arrivals| lost(&keys, arrivals).is_empty());
        let mut wrong = check(&keys, &upstream.arrivals());
        wrong.extend(self.all.iter().flat_map(|sender| sender.contradictions.clone()));
        wrong
    }
}

impl Sender {
    fn work(&mut self, port: u16, connections: Connections, told: &AtomicBool) -> Stop {
        let mut client = Client { port, connections, stream: None };
        while !told.load(Ordering::Relaxed) {
            std::thread::sleep(self.pause);
            let index = self.choose();
            let key = &mut self.keys[index];
            let mut payload = payload(&key.name, key.acknowledged);
            if self.padding > 0 {
                payload["description"] = "x".repeat(self.padding).into();
            }
            let sent_before = std::mem::replace(&mut key.uncertain, true);
            let answer = match client.post(&payload) {
                Ok(answer) => answer,
                Err(failure) => return Stop::Failed(failure),
            };
            match (answer.status, answer.json["status"].as_str().unwrap_or_default()) {
                (202, "queued") => self.was_acknowledged(index),
                (200, "duplicate") if sent_before => self.was_acknowledged(index),
                // Not to come again at once is what the answer asks for.
                (503, _) if answer.retry_after.is_some() => std::thread::sleep(PAUSE),
                _ => self.contradictions.push(format!("{payload} was answered {answer:?}")),
            }
            self.answers.push((Instant::now(), answer));
        }
        Stop::Told
    }

    fn was_acknowledged(&mut self, index: usize) {
        let key = &mut self.keys[index];
        (key.acknowledged, key.uncertain) = (key.acknowledged + 1, false);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// A fresh key, or one that is to go on.
    fn choose(&mut self) -> usize {
        let young: Vec<usize> =
            (0..self.keys.len()).rev().take(20).filter(|at| self.keys[*at].acknowledged < 6).collect();
        if !young.is_empty() && self.dice.u32(..100) < 70 {
            return young[self.dice.usize(..young.len())];
        }
        let name = format!("{}-k{:05}-", self.name, self.keys.len());
        self.keys.push(Key { name, acknowledged: 0, uncertain: false });
        self.keys.len() - 1
    }
}

/// One connection of a sender.
pub struct Client {
    pub port: u16,
    pub connections: Connections,
    pub stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn post(&mut self, payload: &Value) -> Result<Answer, Failure> {
        self.post_as(TOKEN, payload)
    }

    /// With this token.
    pub fn post_as(&mut self, token: &str, payload: &Value) -> Result<Answer, Failure> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).map_err(|_| Failure::Refused)?),
        };
        let port = stream.get_ref().local_addr().map_or(0, |address| address.port());
        let answer =
            converse(&mut stream, token, payload, self.connections).map_err(|error| Failure::Cut { port, error })?;
        if self.connections == Connections::Kept {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

fn converse(
    stream: &mut BufReader<TcpStream>,
    token: &str,
    payload: &Value,
    connections: Connections,
) -> io::Result<Answer> {
    stream.get_ref().set_nodelay(true)?;
    stream.get_ref().set_read_timeout(Some(PATIENCE))?;
    let body = payload.to_string();
    let connection = if connections == Connections::Kept { "keep-alive" } else { "close" };
    let request = format!(
        "POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nConnection: {connection}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(request.as_bytes())?;
    let mut status = String::new();
    stream.read_line(&mut status)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::UnexpectedEof)?;
    let (mut length, mut retry_after) = (0, None);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("retry-after", value)) => retry_after = value.parse().ok(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, retry_after, json: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

pub fn payload(key: &str, step: usize) -> Value {
    let state = if step.is_multiple_of(2) { "CRITICAL" } else { "OK" };
    json!({ "servicepilot_event_id": key, "state": state, "severity": "HIGH", "title": format!("step {step}") })
}

/// Joins the ledger of senders with what arrived. At least once: the same step may come several times in a row, while
/// no answer to it was written down; a step never comes after a later one of its key, and none is left out.
pub fn check(keys: &[Key], arrivals: &[Arrival]) -> Vec<String> {
    let mut wrong = lost(keys, arrivals);
    let sequences = sequences(arrivals);
    for key in keys {
        let sequence = sequences.get(key.name.as_str()).map_or(&[][..], Vec::as_slice);
        let known = key.acknowledged + usize::from(key.uncertain);
        if !sequence.iter().copied().eq(0..sequence.len()) || sequence.len() > known {
            wrong.push(format!("{}: arrived in the order {sequence:?}, of {known} steps sent", key.name));
        }
    }
    wrong
}

/// The control of a test that loses nothing: here the ledger has to find something lost.
pub fn assert_some_lost(wrong: &[String], acknowledged: usize) {
    assert!(acknowledged > 0);
    let lost = wrong.iter().any(|line| line.contains("acknowledged and lost"));
    assert!(lost, "{acknowledged} acknowledged, none missed");
}

/// What was acknowledged and never arrived.
fn lost(keys: &[Key], arrivals: &[Arrival]) -> Vec<String> {
    let sequences = sequences(arrivals);
    let steps = |key: &Key| sequences.get(key.name.as_str()).cloned().unwrap_or_default();
    let missing = |key: &Key| {
        let arrived = steps(key);
        (0..key.acknowledged).filter(|step| !arrived.contains(step)).collect::<Vec<_>>()
    };
    keys.iter()
        .map(|key| (key, missing(key)))
        .filter(|(_, missing)| !missing.is_empty())
        .map(|(key, missing)| format!("{}: acknowledged and lost: {missing:?}", key.name))
        .collect()
}

/// The steps of each key in the order of their arrival, repeats in a row counted once.
fn sequences(arrivals: &[Arrival]) -> HashMap<&str, Vec<usize>> {
    let mut sequences: HashMap<&str, Vec<usize>> = HashMap::new();
    for Arrival { key, step } in arrivals {
        let sequence = sequences.entry(key).or_default();
        if sequence.last() != Some(step) {
            sequence.push(*step);
        }
    }
    sequences
}

/// Between a 503 and the next try.
const PAUSE: Duration = Duration::from_millis(25);
/// Longer than a little load takes on a machine that does much else.
const LOAD_MAX: Duration = Duration::from_secs(120);
/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_ledger_sees_what_is_lost_turned_around_or_never_sent() {
    let key = |acknowledged, uncertain| Key { name: "k".into(), acknowledged, uncertain };
    let arrived =
        |steps: &[usize]| steps.iter().map(|step| Arrival { key: "k".into(), step: *step }).collect::<Vec<_>>();
    for (sentence, acknowledged, uncertain, steps, fine) in [
        ("each in its place", 3, false, &[0, 1, 2][..], true),
        ("repeats in a row are at least once", 3, false, &[0, 0, 1, 2, 2, 2], true),
        ("what was not acknowledged may have been kept", 2, true, &[0, 1, 2], true),
        ("or not", 2, true, &[0, 1], true),
        ("the last is missing", 3, false, &[0, 1], false),
        ("one in the middle is missing", 3, false, &[0, 2], false),
        ("everything is missing", 1, false, &[], false),
        ("an earlier one after a later one", 3, false, &[0, 1, 0, 2], false),
        ("two turned around", 2, false, &[1, 0], false),
        ("more than was sent", 2, false, &[0, 1, 2], false),
    ] {
        let wrong = check(&[key(acknowledged, uncertain)], &arrived(steps));
        assert_eq!(wrong.is_empty(), fine, "{sentence}: {wrong:?}");
    }
}
