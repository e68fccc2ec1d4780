//! The load: events of 1 KB, each with an id of its own, over TLS and HTTP/1.1.
//!
//! It writes requests and reads answers by itself: on its core it must cost less than what it measures.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Result, pki, process};

/// How requests follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Over connections that are kept: as fast as answers come, or `rate` a second in all.
    Kept { seconds: u64, rate: Option<u64> },
    /// A connection for each request.
    Fresh { requests: u64 },
}

/// What a load process is told.
#[derive(Args, Debug)]
pub(crate) struct Plan {
    #[arg(long)]
    pub(crate) target: SocketAddr,
    #[arg(long)]
    pub(crate) pki: PathBuf,
    #[arg(long)]
    pub(crate) path: String,
    /// The ids' first part: no two phases share one.
    #[arg(long)]
    pub(crate) phase: u32,
    #[arg(long)]
    pub(crate) connections: usize,
    #[arg(long)]
    pub(crate) seconds: u64,
    #[arg(long)]
    pub(crate) requests: u64,
    /// Requests a second in all; 0: as fast as answers come
    #[arg(long)]
    pub(crate) rate: u64,
    /// Open a connection for each request
    #[arg(long)]
    pub(crate) fresh: bool,
}

/// What became of the requests.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Sent {
    pub(crate) seconds: f64,
    /// Answered 2xx.
    pub(crate) acknowledged: u64,
    /// Other answers, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Without an answer.
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
    /// What sending itself cost.
    pub(crate) cpu_seconds: f64,
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
    pub(crate) p999_us: u32,
}

/// Carries out a plan and prints the result as one JSON line.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", serde_json::to_string(&runtime.block_on(send_all(plan))?)?);
    Ok(())
}

async fn send_all(plan: &Plan) -> Result<Sent> {
    let tls = TlsConnector::from(Arc::new(pki::client(&plan.pki)?));
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let clients: Vec<_> = (0..plan.connections)
        .map(|_| {
            let client = Client {
                target: plan.target,
                tls: tls.clone(),
                request: Request::new(&plan.path, plan.phase),
                next: Arc::clone(&next),
                requests: plan.requests,
                start,
                end: start + Duration::from_secs(plan.seconds),
                interval: (plan.rate > 0).then(|| Duration::from_secs(1).div_f64(plan.rate as f64)),
                fresh: plan.fresh,
            };
            tokio::spawn(client.run())
        })
        .collect();
    let mut sent = Sent::default();
    let mut latencies = Vec::new();
    for client in clients {
        let done = client.await?;
        latencies.extend(done.latencies_us);
        sent.failed += done.failed;
        sent.first_failure = sent.first_failure.or(done.first_failure);
        for (status, count) in done.refused {
            *sent.refused.entry(status).or_default() += count;
        }
    }
    sent.seconds = start.elapsed().as_secs_f64();
    sent.cpu_seconds = process::cpu_seconds("self")?;
    latencies.sort_unstable();
    sent.acknowledged = latencies.len() as u64;
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(0);
    (sent.p50_us, sent.p99_us, sent.p999_us) = (at(0.5), at(0.99), at(0.999));
    Ok(sent)
}

/// One connection's worth of load.
struct Client {
    target: SocketAddr,
    tls: TlsConnector,
    request: Request,
    /// The number of the next request of all clients.
    next: Arc<AtomicU64>,
    requests: u64,
    start: Instant,
    end: Instant,
    /// Between two requests of all clients.
    interval: Option<Duration>,
    fresh: bool,
}

#[derive(Default)]
struct Done {
    latencies_us: Vec<u32>,
    refused: BTreeMap<u16, u64>,
    failed: u64,
    first_failure: Option<String>,
}

impl Client {
    async fn run(mut self) -> Done {
        let mut done = Done::default();
        let mut connection = None;
        while done.failed < FAILURES_MAX {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests {
                break;
            }
            // Paced requests are measured from when they were due: a slow answer delays none of the others' clocks.
            let due = match self.interval {
                Some(interval) => self.start + interval.mul_f64(number as f64),
                None => Instant::now(),
            };
            if due >= self.end {
                break;
            }
            if self.interval.is_some() {
                sleep_until(due.into()).await;
            }
            match timeout(ANSWER_MAX, self.one(&mut connection, number)).await {
                Ok(Ok(status)) if (200..300).contains(&status) => {
                    done.latencies_us.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                Ok(Ok(status)) => *done.refused.entry(status).or_default() += 1,
                Ok(Err(error)) => self.failed(&mut done, &mut connection, error.to_string()),
                Err(_) => self.failed(&mut done, &mut connection, "no answer in time".to_owned()),
            }
        }
        done
    }

    fn failed(&self, done: &mut Done, connection: &mut Option<TlsStream<TcpStream>>, why: String) {
        *connection = None;
        done.failed += 1;
        done.first_failure.get_or_insert(why);
    }

    async fn one(&mut self, connection: &mut Option<TlsStream<TcpStream>>, number: u64) -> Result<u16> {
        let stream = match connection {
            Some(stream) => stream,
            None => connection.insert(self.connect().await?),
        };
        stream.write_all(self.request.numbered(number)).await?;
        stream.flush().await?;
        let status = read_answer(stream).await?;
        if self.fresh {
            *connection = None;
        }
        Ok(status)
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        Ok(self.tls.connect(ServerName::try_from("localhost")?, stream).await?)
    }
}

/// Reads one answer to its end and returns its status.
async fn read_answer(stream: &mut TlsStream<TcpStream>) -> Result<u16> {
    let mut buffer = [0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err("the answer broke off".into());
        }
        filled += read;
        let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
        let length: usize = match head.split("\r\ncontent-length:").nth(1) {
            Some(rest) => rest.split("\r\n").next().unwrap_or_default().trim().parse()?,
            None => return Err("an answer without a length".into()),
        };
        if filled >= end + 4 + length {
            return Ok(head.get(9..12).ok_or("no status")?.parse()?);
        }
    }
}

/// A request that is written once; only the id in it changes.
struct Request {
    bytes: Vec<u8>,
    /// Where the digits of the id are.
    id: std::ops::Range<usize>,
}

impl Request {
    fn new(path: &str, phase: u32) -> Request {
        let marker = "#".repeat(ID_DIGITS);
        let body = body(&format!("sp-{phase:04}-{marker}"));
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ServicePilot\r\nAccept: */*\r\n\
             Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let at = text.find(&marker).unwrap_or_default();
        Request { bytes: text.into_bytes(), id: at..at + ID_DIGITS }
    }

    fn numbered(&mut self, mut number: u64) -> &[u8] {
        for digit in self.bytes[self.id.clone()].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        &self.bytes
    }
}

/// An alert as ServicePilot sends it, its description long enough to make [`BODY_BYTES`].
pub(crate) fn body(id: &str) -> String {
    let with = |description: &str| {
        format!(
            r#"{{"servicepilot_event_id":"{id}","source":"servicepilot","state":"CRITICAL","severity":"HIGH","title":"High CPU Usage - payments-service","description":"{description}","host":"payments-01","service":"payments-service","startTime":"2025-11-24T07:30:00Z","tags":{{"policy":"High CPU Alert","policy_id":"pol-77"}},"metadata":{{"console_link":"https://servicepilot.example/console/events"}}}}"#
        )
    };
    let room = BODY_BYTES.saturating_sub(with("").len());
    let description: String = "CPU > 90% for 5 minutes on payments-service. ".chars().cycle().take(room).collect();
    with(&description)
}

/// What the relay asks of its senders in a run.
pub(crate) const TOKEN: &str = "a-token-for-the-benchmark-only";
const BODY_BYTES: usize = 1024;
const ID_DIGITS: usize = 12;
const ANSWER_BYTES_MAX: usize = 4096;
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// A connection that fails this often stops: the run is worth nothing any more.
const FAILURES_MAX: u64 = 20;
