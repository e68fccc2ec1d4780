//! `gander demo`: relay and sandbox in one process, with throw-away certificates, tokens and data, and the guide's
//! two examples sent through both over HTTPS.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::client::Client;
use super::terminal::Terminal;
use super::{Exit, Stop, sandbox as sandbox_command};
use crate::callgoose::filters::Filters;
use crate::callgoose::sandbox;
use crate::clock::WallTime;
use crate::config::{self, Inputs, Secrets};
use crate::credential::Credential;
use crate::logging;
use crate::relay::{self, Running};
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::tls;
use crate::yaml::Findings;

/// Try the whole way: relay and a stand-in for Callgoose in one process
///
/// Starts both with throw-away certificates, tokens and data, sends a problem and its recovery over HTTPS, prints what
/// became of each (`created`, `resolved`), then stays up for more until it is interrupted.
///
/// Exit codes: 0 both were confirmed; 1 one was not; 2 it could not start.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// End when both examples were confirmed
    #[arg(long)]
    once: bool,
}

/// The parts of a demonstration that runs. The directory is removed with it.
struct Stage {
    directory: tempfile::TempDir,
    relay: Running,
    shutdown: Shutdown,
    sandbox: JoinHandle<()>,
    sandbox_url: String,
    token: String,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let log = logging::Config { level: tracing::Level::WARN, format: logging::Format::Auto };
    let runtime = logging::start(log)
        .and_then(|()| terminal.detach())
        .and_then(|()| tokio::runtime::Builder::new_multi_thread().enable_all().build());
    let runtime = runtime.map_err(|error| error.to_string())?;
    let result = runtime.block_on(async {
        let mut stage = Stage::set_up().await?;
        let confirmed = stage.play(terminal).await;
        if !arguments.once && confirmed {
            stage.tell_how_to_go_on(terminal);
            tokio::select! {
                () = stop_signal() => {}
                part = stage.failed() => return Err(Stop::Refused(part.to_owned())),
            }
        }
        stage.strike().await;
        Ok(if confirmed { Exit::Fine } else { Exit::No })
    });
    runtime.shutdown_background();
    result
}

impl Stage {
    async fn set_up() -> Result<Stage, Stop> {
        let directory = tempfile::tempdir().map_err(|error| format!("can't make a temporary directory: {error}"))?;
        let at = directory.path();
        let (token, upstream_token) = (throw_away_token()?, throw_away_token()?);
        let shutdown = Shutdown::new();
        let (sandbox_url, sandbox) = start_sandbox(at, &upstream_token, shutdown.clone()).await?;
        let path = at.join("gander.yaml");
        let write = |path: &Path, text: &str| {
            std::fs::write(path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
        };
        // Made here rather than by the relay, which would warn of it.
        tls::make_missing_pair(&pair(at, "relay"), WallTime::now()).map_err(|error| error.to_string())?;
        write(&at.join("servicepilot.yaml"), RULES)?;
        write(&path, &configuration(at, &sandbox_url))?;
        let environment = BTreeMap::from([
            ("SERVICEPILOT_TOKEN".to_owned(), token.clone()),
            ("CALLGOOSE_TOKEN".to_owned(), upstream_token),
        ]);
        let inputs = Inputs { path, environment, flags: Vec::new(), secrets: Secrets::Required };
        let loaded = config::load(&inputs)?;
        let relay = relay::start(loaded.config).await.map_err(|error| error.to_string())?;
        Ok(Stage { directory, relay, shutdown, sandbox, sandbox_url, token })
    }

    /// Sends the guide's two examples; returns whether both did what they should.
    async fn play(&self, terminal: &mut Terminal) -> bool {
        terminal.print(&format!("relay     https://localhost:{}/hooks/servicepilot", self.relay.listen.port()));
        terminal.print(&format!("sandbox   {}   (a stand-in for Callgoose; it alerts nobody)", self.sandbox_url));
        terminal.print("");
        let mut confirmed = true;
        for (name, payload, expected) in [("problem", PROBLEM, "created"), ("recovery", RECOVERY, "resolved")] {
            match self.send(payload).await {
                Ok(answer) => {
                    let outcome = answer["outcome"].as_str().unwrap_or("no outcome");
                    let key = answer["incident_key"].as_str().unwrap_or_default();
                    let action = answer["action"].as_str().unwrap_or_default();
                    terminal.print(&format!("{name:<9} {key}   {action:<8} {outcome}"));
                    confirmed &= outcome == expected;
                }
                Err(problem) => {
                    terminal.say(&format!("error: {name}: {problem}"));
                    confirmed = false;
                }
            }
        }
        confirmed
    }

    async fn send(&self, payload: &'static str) -> Result<Value, String> {
        let token = Credential::Bearer(Secret::new(self.token.clone()));
        let client = Client::new(self.relay.listen, Some(&pair(self.directory.path(), "relay")), Some(token))?;
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (HeaderName::from_static("prefer"), HeaderValue::from_static("wait=10")),
        ];
        let body = Bytes::from_static(payload.as_bytes());
        let answer = client.request(Method::POST, "/hooks/servicepilot", &headers, body, PATIENCE).await?;
        answer.json().ok_or_else(|| format!("the relay answered {}", answer.status))
    }

    fn tell_how_to_go_on(&self, terminal: &mut Terminal) {
        let directory = self.directory.path().display();
        terminal.print(&format!(
            "
It stays up until Ctrl-C. Send more, and see what becomes of it:

  curl --cacert {directory}/relay.pem -H 'Authorization: Bearer {token}' \\
       -H 'Content-Type: application/json' -H 'Prefer: wait=10' \\
       -d '{{\"servicepilot_event_id\": \"e1\", \"state\": \"CRITICAL\", \"title\": \"my own\"}}' \\
       https://localhost:{port}/hooks/servicepilot

  curl --cacert {directory}/sandbox.pem {sandbox}/incidents
  curl http://{admin}/api/v1/events
  curl http://{admin}/metrics",
            token = self.token,
            port = self.relay.listen.port(),
            sandbox = self.sandbox_url,
            admin = self.relay.admin,
        ));
    }

    /// Returns if a part of it has ended by itself.
    async fn failed(&mut self) -> &'static str {
        tokio::select! {
            part = self.relay.failed() => part,
            _ = &mut self.sandbox => "the sandbox ended",
        }
    }

    async fn strike(self) {
        self.relay.stop().await;
        self.shutdown.begin();
    }
}

/// Starts the stand-in over TLS; returns its URL without a path, and its task.
async fn start_sandbox(directory: &Path, token: &str, shutdown: Shutdown) -> Result<(String, JoinHandle<()>), String> {
    let source = sandbox_command::shipped_filters();
    let mut findings = Findings::new();
    let filters = Filters::read(&source, &mut findings).ok_or("the shipped filters are wrong")?;
    let pair = pair(directory, "sandbox");
    let now = WallTime::now();
    tls::make_missing_pair(&pair, now).map_err(|error| error.to_string())?;
    let (served, _) = tls::Served::load(pair, now).map_err(|error| error.to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("can't listen: {error}"))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let config = sandbox::Config::new(filters, Secret::new(token.to_owned()));
    let task = tokio::spawn(sandbox::serve(listener, Some(Arc::new(served)), config, shutdown));
    Ok((format!("https://localhost:{port}"), task))
}

fn pair(directory: &Path, name: &str) -> tls::Config {
    tls::Config {
        certificate: directory.join(format!("{name}.pem")),
        private_key: directory.join(format!("{name}.key")),
        client_ca: None,
        self_signed: true,
    }
}

fn configuration(directory: &Path, sandbox_url: &str) -> String {
    // JSON strings are YAML strings, whatever the directory's name holds.
    let path = |name: &str| Value::String(directory.join(name).display().to_string());
    format!(
        "listen:
  address: 127.0.0.1:0
  tls: {{ certificate: {certificate}, private_key: {key} }}
admin: {{ address: '127.0.0.1:0' }}
data_dir: {data}
sources:
  servicepilot:
    rules: servicepilot.yaml
    from: ServicePilot
    auth: [{{ bearer: {{ env: SERVICEPILOT_TOKEN }} }}]
upstream:
  url: {sandbox_url}/sqibs-api/v1/process
  authorization: {{ bearer: {{ env: CALLGOOSE_TOKEN }} }}
  tls: {{ ca: {ca} }}
",
        certificate = path("relay.pem"),
        key = path("relay.key"),
        data = path("data"),
        ca = path("sandbox.pem"),
    )
}

fn throw_away_token() -> Result<String, String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system has no random numbers".to_owned())?;
    Ok(hex::encode(bytes))
}

async fn stop_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

const RULES: &str = include_str!("../../config/rules/servicepilot.yaml");

/// The trigger example of ServicePilot's integration guide.
const PROBLEM: &str = r#"{
  "servicepilot_event_id": "sp-evt-1001",
  "source": "servicepilot",
  "state": "CRITICAL",
  "severity": "HIGH",
  "title": "High CPU Usage - payments-service",
  "description": "CPU > 90% for 5 minutes on payments-service",
  "host": "payments-01",
  "service": "payments-service",
  "startTime": "2025-11-24T07:30:00Z",
  "tags": { "policy": "High CPU Alert", "policy_id": "pol-77" },
  "metadata": { "console_link": "servicepilot-console-link" }
}"#;

/// The resolve example of the same guide.
const RECOVERY: &str = r#"{
  "servicepilot_event_id": "sp-evt-1001",
  "source": "servicepilot",
  "state": "OK",
  "severity": "INFO",
  "title": "CPU Normal - payments-service",
  "description": "CPU returned to normal",
  "host": "payments-01",
  "service": "payments-service",
  "startTime": "2025-11-24T07:30:00Z",
  "endTime": "2025-11-24T07:40:00Z",
  "tags": { "policy": "High CPU Alert", "policy_id": "pol-77" }
}"#;

/// Longer than the relay's own wait.
const PATIENCE: Duration = Duration::from_secs(15);
