//! The parts of a demonstration: a directory that is removed with it, the sandbox, and the relay as a process that can be
//! killed.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::callgoose::filters::Filters;
use crate::callgoose::sandbox::{self, Incident, Report, Sandbox};
use crate::cli::client::{Answer, Client};
use crate::cli::sandbox as sandbox_command;
use crate::cli::terminal::Terminal;
use crate::clock::WallTime;
use crate::credential::Credential;
use crate::relay::bind_remedy;
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::text::quoted;
use crate::tls;
use crate::yaml::Findings;

/// The parts of a demonstration that runs.
#[derive(Debug)]
pub(super) struct Stage {
    directory: tempfile::TempDir,
    /// The senders' credential.
    token: String,
    sandbox: Sandbox,
    sandbox_url: String,
    sandbox_task: JoinHandle<()>,
    shutdown: Shutdown,
    reports: mpsc::Receiver<Report>,
    relay: Relay,
}

/// The relay as a process.
#[derive(Debug)]
struct Relay {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    /// The events that waited when it was started.
    waiting: u64,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Stage {
    pub(super) async fn set_up() -> Result<Stage, String> {
        let directory = tempfile::tempdir().map_err(|error| format!("can't make a temporary directory: {error}"))?;
        let at = directory.path();
        let (token, upstream_token) = (throw_away_token()?, throw_away_token()?);
        let shutdown = Shutdown::new();
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let sandbox = sandbox(&upstream_token, sender)?;
        let (sandbox_url, sandbox_task) = serve(&sandbox, at, shutdown.clone()).await?;
        // Made here rather than by the relay, which would warn of it.
        tls::make_missing_pair(&pair(at, "relay"), WallTime::now()).map_err(|error| error.to_string())?;
        write(&at.join("servicepilot.yaml"), RULES)?;
        write_secret(&at.join(UPSTREAM_TOKEN), &upstream_token)?;
        write(&at.join(CONFIGURATION), &configuration(at, &sandbox_url, ANY_PORTS))?;
        let relay = Relay::start(at, &token).await?;
        Ok(Stage { directory, token, sandbox, sandbox_url, sandbox_task, shutdown, reports, relay })
    }

    /// Posts a payload; `prefer` is the header of that name.
    pub(super) async fn send(&self, payload: &str, prefer: Option<&'static str>) -> Result<Answer, String> {
        let token = Credential::Bearer(Secret::new(self.token.clone()));
        let client = Client::new(self.relay.listen, Some(&pair(self.directory.path(), "relay")), Some(token))?;
        let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        headers.extend(prefer.map(|prefer| (HeaderName::from_static("prefer"), HeaderValue::from_static(prefer))));
        let body = Bytes::copy_from_slice(payload.as_bytes());
        client.request(Method::POST, "/hooks/servicepilot", &headers, body, PATIENCE).await
    }

    /// The JSON of a GET at the relay's admin address.
    pub(super) async fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = Client::new(self.relay.admin, None, None)?.get(path).await?;
        answer.json().ok_or_else(|| format!("{path} was answered {}", answer.status))
    }

    /// The next call that the sandbox answers.
    pub(super) async fn next_call(&mut self) -> Result<Report, String> {
        let report = timeout(PATIENCE, self.reports.recv()).await;
        report.ok().flatten().ok_or_else(|| "the relay made no call".to_owned())
    }

    /// A call that the sandbox has answered already.
    pub(super) fn call_so_far(&mut self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    pub(super) fn set_sandbox_available(&self, available: bool) {
        self.sandbox.set_available(available);
    }

    /// Lets the token that the relay has expire; returns the new one.
    pub(super) fn renew_upstream_token(&self) -> Result<String, String> {
        let token = throw_away_token()?;
        self.sandbox.set_token(Secret::new(token.clone()));
        Ok(token)
    }

    /// Gives the relay another token for the sandbox.
    pub(super) fn write_upstream_token(&self, token: &str) -> Result<(), String> {
        write_secret(&self.directory.path().join(UPSTREAM_TOKEN), token)
    }

    /// Kills the relay, without a warning, and starts it again at the addresses that were printed; returns the number of
    /// events that wait then.
    pub(super) async fn kill_and_start(&mut self) -> Result<u64, String> {
        self.relay.child.kill().await.map_err(|error| format!("can't kill the relay: {error}"))?;
        let at = self.directory.path();
        // Only now: one that runs would take it for a change.
        let addresses = [self.relay.listen, self.relay.admin];
        write(&at.join(CONFIGURATION), &configuration(at, &self.sandbox_url, addresses))?;
        self.relay = Relay::start_again(at, &self.token).await?;
        Ok(self.relay.waiting)
    }

    pub(super) fn incidents(&self) -> Vec<Incident> {
        self.sandbox.incidents()
    }

    pub(super) fn relay_url(&self) -> String {
        format!("https://localhost:{}/hooks/servicepilot", self.relay.listen.port())
    }

    pub(super) fn sandbox_url(&self) -> &str {
        &self.sandbox_url
    }

    /// A command of the program about this relay, as a shell takes it. The addresses that it finds in the configuration are
    /// those of the relay once it was killed and started again.
    pub(super) fn command(&self, words: &str) -> String {
        let configuration = self.directory.path().join(CONFIGURATION);
        format!("gander {words} --config {}", quoted(&configuration.display().to_string()))
    }

    pub(super) fn how_to_go_on(&self) -> String {
        format!(
            "
See all of it in a browser: http://{admin}/

It stays up until Ctrl-C. Send more, and see what becomes of it:

  curl --cacert {directory}/relay.pem -H 'Authorization: Bearer {token}' \\
       -H 'Content-Type: application/json' -H 'Prefer: wait=10' \\
       -d '{{\"servicepilot_event_id\": \"e1\", \"state\": \"CRITICAL\", \"title\": \"my own\"}}' \\
       {relay}

  {list}
  curl --cacert {directory}/sandbox.pem {sandbox}/incidents
  curl http://{admin}/metrics

To begin in earnest: gander init --list",
            list = self.command("events list"),
            directory = self.directory.path().display(),
            token = self.token,
            relay = self.relay_url(),
            sandbox = self.sandbox_url,
            admin = self.relay.admin,
        )
    }

    /// A problem, with the last that the relay logged.
    pub(super) fn explain(&self, problem: &str) -> String {
        let log = self.relay.log.lock().unwrap_or_else(PoisonError::into_inner);
        let log: String = log.iter().map(|line| format!("\n  {line}")).collect();
        format!("{problem}. The relay's last lines:{log}")
    }

    /// Prints a line for each call; returns if the relay or the sandbox has ended by itself.
    pub(super) async fn show_calls(&mut self, terminal: &mut Terminal) {
        loop {
            tokio::select! {
                _ = self.relay.child.wait() => return,
                _ = &mut self.sandbox_task => return,
                Some(report) = self.reports.recv() => terminal.print(&sandbox_command::line(&report)),
            }
        }
    }

    pub(super) async fn strike(mut self) {
        self.relay.stop().await;
        self.shutdown.begin();
    }
}

impl Relay {
    async fn start(directory: &Path, token: &str) -> Result<Relay, String> {
        let program = std::env::current_exe().map_err(|error| format!("can't find the program itself: {error}"))?;
        let mut child = Command::new(program)
            .args(["run", "--with-parent", "--config"])
            .arg(directory.join(CONFIGURATION))
            // Variables of whoever tries this would change what is shown.
            .env_clear()
            .env("SERVICEPILOT_TOKEN", token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for the demonstration, which stops the relay.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("can't start the relay: {error}"))?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (started, start) = oneshot::channel();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(follow(stderr, Arc::clone(&log), started));
        }
        let failed = || {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let lines: Vec<&str> = log.iter().map(String::as_str).collect();
            format!("the relay did not start: {}", lines.join("\n"))
        };
        let line = timeout(PATIENCE, start).await.ok().and_then(Result::ok).ok_or_else(failed)?;
        let address = |name: &str| line[name].as_str().and_then(|address| address.parse().ok());
        let (Some(listen), Some(admin)) = (address("listen"), address("admin")) else { return Err(failed()) };
        Ok(Relay { child, listen, admin, waiting: line["waiting"].as_u64().unwrap_or_default(), log })
    }

    /// Starts it at the addresses that a killed one had: another program may have one of them for a moment.
    async fn start_again(directory: &Path, token: &str) -> Result<Relay, String> {
        for _ in 1..STARTS_MAX {
            match Relay::start(directory, token).await {
                Err(problem) if tells_of_taken_address(&problem) => sleep(START_PAUSE).await,
                started => return started,
            }
        }
        Relay::start(directory, token).await
    }

    async fn stop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn tells_of_taken_address(problem: &str) -> bool {
    problem.contains(bind_remedy(ErrorKind::AddrInUse))
}

/// Reads the relay's log: keeps its last lines, and hands on the line that says that it takes events.
async fn follow(stderr: ChildStderr, log: Arc<Mutex<VecDeque<String>>>, started: oneshot::Sender<Value>) {
    let (mut lines, mut started) = (BufReader::new(stderr).lines(), Some(started));
    while let Ok(Some(line)) = lines.next_line().await {
        if started.is_some()
            && let Ok(told) = serde_json::from_str::<Value>(&line)
            && told["message"] == "gander takes events"
        {
            let _ = started.take().map(|started| started.send(told));
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LOG_LINES_MAX {
            log.pop_front();
        }
        log.push_back(line);
    }
}

/// The stand-in, with the filters that the binary carries.
fn sandbox(token: &str, reports: mpsc::Sender<Report>) -> Result<Sandbox, String> {
    let filters = Filters::read(&sandbox_command::shipped_filters(), &mut Findings::new());
    let filters = filters.ok_or("the shipped filters are wrong")?;
    let config = sandbox::Config::new(filters, Secret::new(token.to_owned()));
    Ok(Sandbox::new(sandbox::Config { reports: Some(reports), ..config }))
}

/// Serves the stand-in over TLS; returns its URL without a path, and its task.
async fn serve(sandbox: &Sandbox, directory: &Path, shutdown: Shutdown) -> Result<(String, JoinHandle<()>), String> {
    let (pair, now) = (pair(directory, "sandbox"), WallTime::now());
    tls::make_missing_pair(&pair, now).map_err(|error| error.to_string())?;
    let (served, _) = tls::Served::load(pair, now).map_err(|error| error.to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("can't listen: {error}"))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let task = tokio::spawn(sandbox.clone().serve(listener, Some(Arc::new(served)), shutdown));
    Ok((format!("https://localhost:{port}"), task))
}

fn pair(directory: &Path, name: &str) -> tls::Config {
    tls::Config {
        certificate: directory.join(format!("{name}.pem")),
        private_key: directory.join(format!("{name}.key")),
        ..tls::Config::default()
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
}

fn write_secret(path: &Path, text: &str) -> Result<(), String> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("can't write {}: {error}", path.display()))
}

/// The relay's configuration, with the addresses of senders and of operators.
fn configuration(directory: &Path, sandbox_url: &str, [listen, admin]: [SocketAddr; 2]) -> String {
    // JSON strings are YAML strings, whatever the directory's name holds.
    let path = |name: &str| Value::String(directory.join(name).display().to_string());
    format!(
        "listen:
  address: {listen}
  tls: {{ certificate: {certificate}, private_key: {key} }}
admin: {{ address: '{admin}' }}
data_dir: {data}
sources:
  servicepilot:
    rules: servicepilot.yaml
    from: ServicePilot
    auth: [{{ bearer: {{ env: SERVICEPILOT_TOKEN }} }}]
upstream:
  url: {sandbox_url}/sqibs-api/v1/process
  authorization: {{ bearer: {{ file: {upstream_token} }} }}
  tls: {{ ca: {ca} }}
  retry: {{ initial: 200ms }}
  breaker: {{ open: 1s }}
log: {{ format: json }}
",
        certificate = path("relay.pem"),
        key = path("relay.key"),
        data = path("data"),
        upstream_token = path(UPSTREAM_TOKEN),
        ca = path("sandbox.pem"),
    )
}

fn throw_away_token() -> Result<String, String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system has no random numbers".to_owned())?;
    Ok(hex::encode(bytes))
}

const CONFIGURATION: &str = "gander.yaml";
/// Free ones, for the first start.
const ANY_PORTS: [SocketAddr; 2] = [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0); 2];
const UPSTREAM_TOKEN: &str = "callgoose.token";
const RULES: &str = include_str!("../../../config/rules/servicepilot.yaml");
/// Longer than the relay's own wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A port that a program got by chance, mostly for one connection, is free again within seconds.
const STARTS_MAX: usize = 10;
const START_PAUSE: Duration = Duration::from_millis(500);
/// Calls wait for their line, so that none is left out.
const REPORTS_MAX: usize = 1_000;
const LOG_LINES_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::StartError;

    #[test]
    fn a_taken_address_is_told_from_what_no_second_start_mends() {
        let told = |kind: ErrorKind| {
            let error = StartError::Bind { key: "listen.address", address: ANY_PORTS[0], error: kind.into() };
            tells_of_taken_address(&format!("the relay did not start: error: {error}"))
        };
        assert!(told(ErrorKind::AddrInUse));
        assert!(!told(ErrorKind::PermissionDenied) && !told(ErrorKind::AddrNotAvailable));
    }
}
