//! Measures the cost of an event: a bare server, a bare proxy and the relay, in one run on this machine.
//!
//! ```text
//! cargo bench --bench relay -- run
//! ```
//!
//! The cost of a backlog, a million events unless told otherwise:
//!
//! ```text
//! cargo bench --bench relay -- backlog
//! ```
//!
//! Lists, searches and an open page over a million delivered events:
//!
//! ```text
//! cargo bench --bench relay -- page
//! ```
//!
//! The cost of deciding by the number of rules, in instructions (needs valgrind):
//!
//! ```text
//! cargo bench --bench relay -- rules
//! ```
//!
//! Without one of these words it does nothing, so that `cargo bench` and `cargo test --all-targets` stay short. It uses 127.0.0.1
//! only, and needs two cores, `taskset` and `/proc`: the system under test has one core for itself, the load and the
//! upstream have the other.
//!
//! The two yardsticks are built from the same crates as the relay: a *bare server* (TLS in, 202, nothing else) and a
//! *bare proxy* (TLS in, pooled TLS out, no parsing, no disk). The relay runs as an operator would run it, with
//! rules, deduplication, journal and delivery to the same local TLS upstream; only its rate limits are lifted. An
//! event's cost is the CPU time of the process from the first request until the last event is delivered, divided
//! by the events.

mod backlog;
mod load;
mod machine;
mod page;
mod pki;
mod process;
mod report;
mod rules;
mod systems;
mod yardsticks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures what an event costs: bare server, bare proxy, relay.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench relay --")]
enum Command {
    /// Measure everything and print one table
    Run(Run),
    /// Measure a start over many queued events, and what they cost while they wait and are delivered
    Backlog(backlog::Plan),
    /// Measure lists and searches over many delivered events, and what a page that stays open costs
    Page(page::Plan),
    /// Count the instructions to decide an event by ten, a hundred, a thousand and ten thousand rules
    Rules(rules::Plan),
    /// (part of `rules`) Reads events
    #[command(hide = true)]
    Read(rules::Read),
    /// (part of `rules`) Decides events
    #[command(hide = true)]
    Decide(rules::Decided),
    /// (part of a run) Answers 202 to everything
    #[command(hide = true)]
    BareServer(Served),
    /// (part of a run) Passes everything on
    #[command(hide = true)]
    BareProxy {
        #[command(flatten)]
        served: Served,
        #[arg(long)]
        upstream: SocketAddr,
    },
    /// (part of a run) Answers as Callgoose does to what opens an incident, and counts
    #[command(hide = true)]
    Upstream(Served),
    /// (part of a run) Sends events and prints what became of them
    #[command(hide = true)]
    Load(load::Plan),
}

#[derive(Args, Debug)]
struct Run {
    /// Seconds of load at full speed over connections that are kept
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Connections of the load, each with one request under way
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests of the phase that opens a connection for each
    #[arg(long, default_value_t = 10_000)]
    new_connections: u64,
    /// Events a second of the phase that is far from saturation
    #[arg(long, default_value_t = 300)]
    rate: u64,
    /// How often everything is measured, in turns; the best of each system's phases is shown
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What to measure: bare-server, bare-proxy, relay
    #[arg(long, value_delimiter = ',', default_values_t = ["bare-server", "bare-proxy", "relay"].map(String::from))]
    only: Vec<String>,
    /// The relay's `upstream.concurrency`, one run each
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64])]
    concurrency: Vec<usize>,
    /// URL of a running proxy to deliver through, one run each besides those without one
    #[arg(long, value_delimiter = ',')]
    proxy: Vec<String>,
    /// Let the upstream offer HTTP/2
    #[arg(long)]
    h2: bool,
    #[command(flatten)]
    machine: machine::Machine,
}

/// The arguments of every server of a run.
#[derive(Args, Debug)]
struct Served {
    /// Directory with the certificate, its key and the trusted root
    #[arg(long)]
    pki: PathBuf,
    #[arg(long)]
    h2: bool,
}

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`; nothing else of its protocol is spoken.
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    if arguments.len() == 1 {
        eprintln!("nothing measured; to measure: cargo bench --bench relay -- run");
        return ExitCode::SUCCESS;
    }
    let done = match Command::parse_from(arguments) {
        Command::Run(run) => measure(&run),
        Command::Backlog(plan) => backlog::measure(&plan),
        Command::Page(plan) => page::measure(&plan),
        Command::Rules(plan) => rules::measure(&plan),
        Command::Decide(decided) => rules::decide(&decided),
        Command::Read(read) => rules::read(&read),
        Command::BareServer(served) => yardsticks::bare_server(&served),
        Command::BareProxy { served, upstream } => yardsticks::bare_proxy(&served, upstream),
        Command::Upstream(served) => yardsticks::upstream(&served),
        Command::Load(plan) => load::run(&plan),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(run: &Run) -> Result<()> {
    let (scratch, machine) = run.machine.prepare()?;
    let systems = systems::chosen(run)?;
    let mut rows: Vec<report::Measured> = Vec::new();
    for round in 1..=run.rounds {
        for system in &systems {
            eprintln!("round {round}: {} …", system.name());
            match measure_one(run, system, scratch.path()) {
                Ok(measured) => match rows.iter_mut().find(|row| row.name == measured.name) {
                    Some(row) => row.improve(measured),
                    None => rows.push(measured),
                },
                // One system that does not run must not cost the others' figures.
                Err(error) => eprintln!("{} was not measured: {error}", system.name()),
            }
        }
    }
    print!("{}", report::render(run, &machine, &rows));
    if rows.is_empty() { Err("nothing could be measured".into()) } else { Ok(()) }
}

fn measure_one(run: &Run, system: &systems::System, scratch: &std::path::Path) -> Result<report::Measured> {
    let running = systems::start(run, system, scratch)?;
    std::thread::sleep(SETTLE);
    let idle_kib = running.process.resident_kib()?;
    running.phase("warm-up", load::Pace::Kept { seconds: 2, rate: None })?;
    let kept = running.phase("connections kept", load::Pace::Kept { seconds: run.seconds, rate: None })?;
    let peak_kib = running.process.resident_peak_kib()?;
    let fresh = running.phase("new connection each", load::Pace::Fresh { requests: run.new_connections })?;
    let calm = running.phase("paced", load::Pace::Kept { seconds: run.seconds, rate: Some(run.rate) })?;
    Ok(report::Measured {
        name: system.name(),
        first_answer: running.first_answer,
        idle_kib,
        peak_kib,
        phases: vec![kept, fresh, calm],
    })
}

/// A process's work after its first answer (freeing, background work) is over by then.
const SETTLE: Duration = Duration::from_secs(1);
