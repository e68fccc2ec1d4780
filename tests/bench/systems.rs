//! The systems under test: how each is started, when it is ready, when it has nothing more to do.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::load::{Pace, Sent, TOKEN};
use crate::process::Process;
use crate::report::Phase;
use crate::{Result, Run, pki};

#[derive(Clone, Debug)]
pub(crate) enum System {
    BareServer,
    BareProxy,
    Relay {
        concurrency: usize,
        /// `upstream.proxy`
        proxy: Option<String>,
    },
}

/// A system that has answered its first request.
pub(crate) struct Running<'a> {
    run: &'a Run,
    scratch: &'a Path,
    pub(crate) process: Process,
    address: SocketAddr,
    path: &'static str,
    /// From the start of the process to its first 2xx.
    pub(crate) first_answer: Duration,
    /// Where deliveries arrive; none for a system that delivers nothing.
    upstream: Option<Upstream>,
    /// Where the relay tells what it still has to do.
    admin: Option<SocketAddr>,
}

pub(crate) struct Upstream {
    process: Process,
    pub(crate) address: SocketAddr,
    counter: SocketAddr,
}

impl Upstream {
    pub(crate) fn start(core: usize, bench: &Path, arguments: &[String]) -> Result<Upstream> {
        let mut process = Process::start(core, bench, arguments, &[])?;
        let counter = process.line()?.parse()?;
        let address = process.line()?.parse()?;
        Ok(Upstream { process, address, counter })
    }

    /// How many calls it answered.
    pub(crate) fn answered(&self) -> Result<u64> {
        let mut text = String::new();
        TcpStream::connect(self.counter)?.read_to_string(&mut text)?;
        Ok(text.parse()?)
    }
}

impl System {
    pub(crate) fn name(&self) -> String {
        match self {
            System::BareServer => "bare server".to_owned(),
            System::BareProxy => "bare proxy".to_owned(),
            System::Relay { concurrency, proxy: None } => format!("relay, concurrency {concurrency}"),
            System::Relay { concurrency, proxy: Some(url) } => {
                let scheme = url.split(':').next().unwrap_or_default();
                format!("relay, concurrency {concurrency}, {scheme} proxy")
            }
        }
    }
}

/// What the run is to measure, in the order of the table.
pub(crate) fn chosen(run: &Run) -> Result<Vec<System>> {
    let mut systems = Vec::new();
    for name in &run.only {
        match name.as_str() {
            "bare-server" => systems.push(System::BareServer),
            "bare-proxy" => systems.push(System::BareProxy),
            "relay" => {
                for &concurrency in &run.concurrency {
                    let proxies = std::iter::once(None).chain(run.proxy.iter().cloned().map(Some));
                    systems.extend(proxies.map(|proxy| System::Relay { concurrency, proxy }));
                }
            }
            _ => return Err(format!("--only takes bare-server, bare-proxy and relay, not {name}").into()),
        }
    }
    Ok(systems)
}

/// Starts a system and waits for its first 2xx.
pub(crate) fn start<'a>(run: &'a Run, system: &System, scratch: &'a Path) -> Result<Running<'a>> {
    let bench = std::env::current_exe()?;
    let served = |name: &str| -> Vec<String> {
        let mut arguments = vec![name.to_owned(), "--pki".to_owned(), scratch.display().to_string()];
        arguments.extend((run.h2 && name == "upstream").then(|| "--h2".to_owned()));
        arguments
    };
    let upstream = match system {
        System::BareServer => None,
        _ => Some(Upstream::start(run.machine.load_core, &bench, &served("upstream"))?),
    };
    let started;
    let (mut process, address, path, admin) = match (system, &upstream) {
        (System::BareProxy, Some(upstream)) => {
            let mut arguments = served("bare-proxy");
            arguments.extend(["--upstream".to_owned(), upstream.address.to_string()]);
            started = Instant::now();
            let mut process = Process::start(run.machine.core, &bench, &arguments, &[])?;
            let address = process.line()?.parse()?;
            (process, address, "/", None)
        }
        (System::Relay { concurrency, proxy }, Some(upstream)) => {
            let (address, admin) = (free_address()?, free_address()?);
            // Its own for each start: the journal is to be empty.
            let data = tempfile::Builder::new().prefix("data-").tempdir_in(scratch)?.keep();
            let setup = Setup { scratch, data: &data, upstream: upstream.address, concurrency: *concurrency };
            let config = setup.write(address, admin, UNLIMITED)?;
            let arguments = ["run".to_owned(), "--config".to_owned(), config.display().to_string()];
            let mut environment = vec![("GANDER_BENCH_TOKEN", TOKEN)];
            environment.extend(proxy.as_deref().map(|url| ("GANDER_UPSTREAM__PROXY", url)));
            started = Instant::now();
            let process =
                Process::start(run.machine.core, Path::new(env!("CARGO_BIN_EXE_gander")), &arguments, &environment)?;
            (process, address, "/hooks/bench", Some(admin))
        }
        _ => {
            started = Instant::now();
            let mut process = Process::start(run.machine.core, &bench, &served("bare-server"), &[])?;
            let address = process.line()?.parse()?;
            (process, address, "/", None)
        }
    };
    let tls = Arc::new(pki::client(scratch)?);
    while !answers(address, path, &tls) {
        if process.has_ended()? || started.elapsed() > READY_MAX {
            return Err("it gave no 2xx".into());
        }
        sleep(Duration::from_millis(1));
    }
    let first_answer = started.elapsed();
    Ok(Running { run, scratch, process, address, path, first_answer, upstream, admin })
}

impl Running<'_> {
    /// Sends a load, waits until everything acknowledged is delivered, and counts the CPU time until then.
    pub(crate) fn phase(&self, name: &'static str, pace: Pace) -> Result<Phase> {
        self.drained()?;
        let (cpu, written) = (self.process.cpu_seconds()?, self.process.written_bytes().unwrap_or(0));
        let (delivered, upstream_cpu) = (self.delivered()?, self.upstream_cpu_seconds()?);
        let start = Instant::now();
        let sent = self.send(pace)?;
        self.drained()?;
        let seconds = start.elapsed().as_secs_f64();
        let delivered = match (delivered, self.delivered()?) {
            (Some(before), Some(after)) => Some(after - before),
            _ => None,
        };
        if sent.acknowledged == 0 {
            return Err(format!("nothing was acknowledged: {sent:?}").into());
        }
        Ok(Phase {
            name,
            cpu_seconds: self.process.cpu_seconds()? - cpu,
            written_bytes: self.process.written_bytes().unwrap_or(0) - written,
            load_core_seconds: sent.cpu_seconds + self.upstream_cpu_seconds()? - upstream_cpu,
            seconds,
            delivered,
            sent,
        })
    }

    fn send(&self, pace: Pace) -> Result<Sent> {
        let connections = self.run.connections;
        send(self.run.machine.load_core, self.scratch, self.address, self.path, connections, pace)
    }

    fn drained(&self) -> Result<()> {
        self.admin.map_or(Ok(()), drained)
    }

    fn upstream_cpu_seconds(&self) -> Result<f64> {
        self.upstream.as_ref().map_or(Ok(0.0), |upstream| upstream.process.cpu_seconds())
    }

    fn delivered(&self) -> Result<Option<u64>> {
        self.upstream.as_ref().map(Upstream::answered).transpose()
    }
}

/// Waits until the relay has nothing queued: delivered, and known to be. Asked twice, since the metric may lag behind an
/// acknowledgement for a moment.
pub(crate) fn drained(admin: SocketAddr) -> Result<()> {
    let start = Instant::now();
    let mut seen_empty = false;
    loop {
        let metrics = get(admin, "/metrics")?;
        let queued = metrics.lines().find_map(|line| line.strip_prefix("gander_queue_events "));
        match queued.map(|text| text.trim().parse::<f64>()) {
            Some(Ok(queued)) if queued < 0.5 && seen_empty => return Ok(()),
            Some(Ok(queued)) if start.elapsed() < DRAIN_MAX => {
                seen_empty = queued < 0.5;
                sleep(DRAIN_POLL);
            }
            Some(Ok(queued)) => return Err(format!("{queued} events are still queued after {DRAIN_MAX:?}").into()),
            _ => return Err("/metrics has no gander_queue_events".into()),
        }
    }
}

/// Sends a load from a process of its own.
pub(crate) fn send(
    core: usize,
    scratch: &Path,
    address: SocketAddr,
    path: &str,
    connections: usize,
    pace: Pace,
) -> Result<Sent> {
    let (seconds, requests, rate) = match pace {
        Pace::Kept { seconds, rate } => (seconds, REQUESTS_MAX, rate.unwrap_or(0)),
        Pace::Fresh { requests } => (FRESH_SECONDS_MAX, requests, 0),
    };
    let options = [
        ("--target", address.to_string()),
        ("--pki", scratch.display().to_string()),
        ("--path", path.to_owned()),
        ("--phase", PHASE.fetch_add(1, Ordering::Relaxed).to_string()),
        ("--connections", connections.to_string()),
        ("--seconds", seconds.to_string()),
        ("--requests", requests.to_string()),
        ("--rate", rate.to_string()),
    ];
    let mut arguments = vec!["load".to_owned()];
    arguments.extend(options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
    arguments.extend(matches!(pace, Pace::Fresh { .. }).then(|| "--fresh".to_owned()));
    let mut load = Process::start(core, &std::env::current_exe()?, &arguments, &[])?;
    Ok(serde_json::from_str(&load.line()?)?)
}

/// Whether a request is answered 2xx now.
pub(crate) fn answers(address: SocketAddr, path: &str, tls: &Arc<ClientConfig>) -> bool {
    let attempt = || -> Result<bool> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let connection = ClientConnection::new(Arc::clone(tls), ServerName::try_from("localhost")?)?;
        let mut stream = StreamOwned::new(connection, stream);
        let body = format!(
            r#"{{"servicepilot_event_id":"first-{}","state":"CRITICAL","title":"first"}}"#,
            PHASE.fetch_add(1, Ordering::Relaxed)
        );
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut status = [0; 10];
        stream.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 2")
    };
    attempt().unwrap_or(false)
}

/// The body of a plain HTTP answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// An address that was free a moment ago. The relay does not take port 0: senders must know where it listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The relay as an operator would run it, its rate limits lifted.
pub(crate) struct Setup<'a> {
    pub(crate) scratch: &'a Path,
    pub(crate) data: &'a Path,
    pub(crate) upstream: SocketAddr,
    pub(crate) concurrency: usize,
}

impl Setup<'_> {
    /// Writes the configuration. `per_second` is what the upstream is given at most.
    pub(crate) fn write(&self, address: SocketAddr, admin: SocketAddr, per_second: u32) -> Result<PathBuf> {
        let Setup { scratch, data, upstream, concurrency } = self;
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules/servicepilot.yaml");
        let text = format!(
            "\
listen:
  address: {address}
  tls: {{ certificate: '{certificate}', private_key: '{key}', self_signed: false }}
admin: {{ address: '{admin}' }}
data_dir: '{data}'
sources:
  bench:
    rules: '{rules}'
    from: ServicePilot
    auth: [{{ bearer: {{ env: GANDER_BENCH_TOKEN }} }}]
    rate_limit: {{ per_second: 1000000, burst: 1000000 }}
upstream:
  url: https://localhost:{port}/sqibs-api/v1/process
  authorization: {{ bearer: {{ env: GANDER_BENCH_TOKEN }} }}
  concurrency: {concurrency}
  rate_limit: {{ per_second: {per_second}, burst: {per_second} }}
  tls: {{ ca: '{certificate}' }}
journal: {{ max_events: 2000000 }}
log: {{ level: warn }}
",
            certificate = pki::certificate(scratch).display(),
            key = pki::private_key(scratch).display(),
            data = data.display(),
            rules = rules.display(),
            port = upstream.port(),
        );
        let path = scratch.join(format!("gander-{concurrency}.yaml"));
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// More than any machine sends.
const UNLIMITED: u32 = 1_000_000;

/// Numbers the phases of a run, so that no id comes twice.
static PHASE: AtomicU32 = AtomicU32::new(1);
const READY_MAX: Duration = Duration::from_secs(20);
/// Where the load stops by itself, should the clock not stop it: twenty times what one core can do.
const REQUESTS_MAX: u64 = 20_000_000;
const FRESH_SECONDS_MAX: u64 = 60;
const DRAIN_MAX: Duration = Duration::from_secs(300);
const DRAIN_POLL: Duration = Duration::from_millis(100);
