//! Many events wait: how long a start over them takes, what memory they cost, whether senders notice them, and how
//! fast they are delivered.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use gander::exports::clock::WallTime;
use gander::exports::event::{Action, Outcome, Priority, Settlement, State, UpdateHash};
use gander::exports::journal::Shares;
use gander::exports::journal::dedup::Occurrences;
use gander::exports::journal::{self, Journal, Lock, NewEvent, Raw};
use gander::exports::trace_context::TraceContext;

use crate::load::{self, Pace, TOKEN};
use crate::machine::Machine;
use crate::process::Process;
use crate::systems::{self, Setup, Upstream};
use crate::{Result, pki};

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// Events that wait, each of a key of its own
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Seconds that each state of affairs is watched
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// `upstream.rate_limit` while they are delivered
    #[arg(long, default_value_t = 2_000)]
    per_second: u32,
    #[command(flatten)]
    machine: Machine,
}

pub(crate) fn measure(plan: &Plan) -> Result<()> {
    let (scratch, facts) = plan.machine.prepare()?;
    facts.iter().for_each(|fact| println!("{fact}"));
    let data = scratch.path().join("data");
    eprintln!("writing {} events …", plan.events);
    fill(&data, plan.events, State::Queued)?;

    // Nobody listens there.
    let nowhere = systems::free_address()?;
    let setup = Setup { scratch: scratch.path(), data: &data, upstream: nowhere, concurrency: 16 };
    let relay = Relay::start(plan.machine.core, &setup, 1_000_000)?;
    println!("ready after a start over {} events: {:.2} s", plan.events, relay.ready.as_secs_f64());
    relay.tell_memory("at the start")?;
    relay.tell_latency(plan, scratch.path(), "while all of them wait")?;
    relay.tell_memory("while all of them wait")?;
    drop(relay);

    let served = ["upstream".to_owned(), "--pki".to_owned(), scratch.path().display().to_string()];
    let upstream = Upstream::start(plan.machine.load_core, &std::env::current_exe()?, &served)?;
    let setup = Setup { upstream: upstream.address, ..setup };
    let relay = Relay::start(plan.machine.core, &setup, plan.per_second)?;
    // The allowed burst is over by then.
    sleep(Duration::from_secs(2));
    let (before, start) = (upstream.answered()?, Instant::now());
    relay.tell_latency(plan, scratch.path(), "while they are delivered")?;
    let rate = (upstream.answered()? - before) as f64 / start.elapsed().as_secs_f64();
    println!("delivered: {rate:.0} a second of {} allowed", plan.per_second);
    relay.tell_memory("while they are delivered")
}

/// A journal with this many triggers of 1 KB, which wait or are delivered. Returns the id of the first.
pub(crate) fn fill(data: &Path, events: u64, state: State) -> Result<u64> {
    let config = journal::Config {
        data_dir: data.to_owned(),
        max_events: events + 1,
        max_bytes: u64::MAX / 2,
        keep_delivered: Duration::from_secs(86_400),
        keep_refused: 1,
        shares: Shares::default(),
        reserve: None,
    };
    let failed = |error: journal::Error| error.to_string();
    let lock = Lock::take(data).map_err(|error| error.to_string())?;
    let now = WallTime(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?);
    let mut journal = Journal::open(&config, &lock, now).map_err(|error| error.to_string())?;
    journal.restore(|_| {}).map_err(failed)?;
    let mut first = None;
    for start in (0..events).step_by(FILLED_AT_ONCE) {
        let mut batch = journal.begin().map_err(failed)?;
        for number in start..events.min(start + FILLED_AT_ONCE as u64) {
            let key = format!("backlog-{number:012}");
            let body = load::body(&key);
            let trace = TraceContext::begin(u128::MAX - u128::from(number));
            let event = NewEvent {
                source: "bench",
                action: Action::Trigger,
                incident_key: &key,
                rule: "problem",
                priority: Priority::Normal,
                novelty: "first",
                acknowledged_at: now,
                request: "00000000-0000-0000-0000-000000000000",
                sender_request: None,
                trace: Some(&trace),
                raw: Raw::Bytes(body.as_bytes()),
                charset: None,
                body: body.as_bytes(),
                update: UpdateHash(number),
                occurrences: Occurrences::default(),
                follows: None,
                replay_of: None,
            };
            let id = batch.append(event).map_err(failed)?;
            first.get_or_insert(id.0);
            if state == State::Delivered {
                let outcome = Some(Outcome::Created);
                batch.settle(&Settlement { id, state, outcome, reason: None, attempts: 1, at: now }).map_err(failed)?;
            }
        }
        batch.commit().map_err(failed)?;
    }
    Ok(first.unwrap_or(0))
}

pub(crate) struct Relay {
    pub(crate) process: Process,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) admin: std::net::SocketAddr,
    /// From the start of the process until it takes events.
    pub(crate) ready: Duration,
}

impl Relay {
    pub(crate) fn start(core: usize, setup: &Setup<'_>, per_second: u32) -> Result<Relay> {
        let (address, admin) = (systems::free_address()?, systems::free_address()?);
        let config = setup.write(address, admin, per_second)?;
        let arguments = ["run".to_owned(), "--config".to_owned(), config.display().to_string()];
        let tls = Arc::new(pki::client(setup.scratch)?);
        let started = Instant::now();
        let relay = Path::new(env!("CARGO_BIN_EXE_gander"));
        let mut process = Process::start(core, relay, &arguments, &[("GANDER_BENCH_TOKEN", TOKEN)])?;
        while !systems::answers(address, PATH, &tls) {
            if process.has_ended()? || started.elapsed() > READY_MAX {
                return Err("it gave no 2xx".into());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(Relay { process, address, admin, ready: started.elapsed() })
    }

    fn tell_memory(&self, when: &str) -> Result<()> {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let (now, peak) = (mib(self.process.resident_kib()?), mib(self.process.resident_peak_kib()?));
        println!("resident {when}: {now:.1} MiB, at most {peak:.1} MiB so far");
        Ok(())
    }

    fn tell_latency(&self, plan: &Plan, scratch: &Path, when: &str) -> Result<()> {
        let pace = Pace::Kept { seconds: plan.seconds, rate: Some(RATE) };
        let sent = systems::send(plan.machine.load_core, scratch, self.address, PATH, CONNECTIONS, pace)?;
        println!(
            "{RATE} events a second {when}: {} acknowledged, p50 {:.2} ms, p99 {:.2} ms, refused {:?}, failed {}",
            sent.acknowledged,
            f64::from(sent.p50_us) / 1000.0,
            f64::from(sent.p99_us) / 1000.0,
            sent.refused,
            sent.failed
        );
        Ok(())
    }
}

const PATH: &str = "/hooks/bench";
const FILLED_AT_ONCE: usize = 10_000;
const READY_MAX: Duration = Duration::from_secs(120);
const RATE: u64 = 300;
const CONNECTIONS: usize = 16;
