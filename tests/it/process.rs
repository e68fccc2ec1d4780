//! The real program as a process of its own, to be killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::relay::{self, HttpsClient, Setup, TOKEN, UPSTREAM_TOKEN, payload, within};
use crate::support::{PATIENCE, write};
use crate::upstream::{Call, Reply, Upstream};

/// `gander run`, started and taking events.
pub struct Process {
    child: Child,
    pub port: u16,
    admin_port: u16,
    pub client: HttpsClient,
    /// The lines of its log before it took events.
    started: Vec<String>,
    /// The lines of its log from then on.
    log: Mutex<Receiver<String>>,
}

impl Process {
    /// Starts over `directory` and waits for the line that says that events are taken.
    pub async fn start(configuration: PathBuf) -> Process {
        tokio::task::spawn_blocking(move || Process::start_blocking(&configuration)).await.unwrap()
    }

    /// Starts where another one listened: whoever took its port meanwhile is waited for.
    pub async fn start_again(configuration: PathBuf) -> Process {
        loop {
            let path = configuration.clone();
            match tokio::task::spawn_blocking(move || Process::try_start(&path)).await.unwrap() {
                Ok(process) => return process,
                Err(said) if said.contains("in use") => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(said) => panic!("gander did not start:\n{said}"),
            }
        }
    }

    fn start_blocking(configuration: &Path) -> Process {
        Process::try_start(configuration).unwrap_or_else(|said| panic!("gander did not start:\n{said}"))
    }

    /// The process, or the lines of one that ended.
    pub fn try_start(configuration: &Path) -> Result<Process, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gander"))
            .args(["run", "--config"])
            .arg(configuration)
            .env("SERVICEPILOT_TOKEN", TOKEN)
            .env("CALLGOOSE_TOKEN", UPSTREAM_TOKEN)
            .env("NO_PROXY", "*")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut started = Vec::new();
        let (port, admin_port) = loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.wait();
                return Err(started.join("\n"));
            };
            if let Some(ports) = ports_of(&line) {
                break ports;
            }
            started.push(line);
        };
        // The rest is read whether it is wanted or not, so that the process never waits for a full pipe.
        let (sender, log) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let client = HttpsClient::trusting(&configuration.with_file_name("server.pem"));
        Ok(Process { child, port, admin_port, client, started, log: Mutex::new(log) })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens for senders and for its operator.
    pub fn ports(&self) -> (u16, u16) {
        (self.port, self.admin_port)
    }

    pub async fn post(&self, payload: &Value) -> relay::Answer {
        self.post_with(payload, &[]).await
    }

    pub async fn post_with(&self, payload: &Value, headers: &[(&str, &str)]) -> relay::Answer {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [&[("authorization", bearer.as_str()), ("content-type", "application/json")], headers].concat();
        let url = format!("https://localhost:{}/hooks/servicepilot", self.port);
        self.client.send(http::Method::POST, &url, &headers, payload.to_string()).await
    }

    /// Asks the admin API.
    pub async fn admin(&self, path: &str) -> relay::Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.admin_port);
        self.client.send(http::Method::GET, &url, &[], String::new()).await
    }

    /// Asks again and again until the answer is as wanted; the test's own time limit ends it.
    pub async fn admin_once(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let answer = self.admin(path).await;
            if wanted(&answer.json) {
                return answer.json;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells whether a line of the log before it took events holds this.
    pub fn started_with(&self, part: &str) -> bool {
        self.started.iter().any(|line| line.contains(part))
    }

    /// The fields of the next line of the log with this message.
    pub fn logged(&self, message: &str) -> Value {
        self.logged_where(message, |said| said == message)
    }

    /// The fields of the next line of the log whose message holds this.
    pub fn logged_with(&self, part: &str) -> Value {
        self.logged_where(part, |said| said.contains(part))
    }

    fn logged_where(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Value {
        loop {
            let line =
                self.log.lock().unwrap().recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no `{what}`: {error}"));
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            let fields = line.get("fields").unwrap_or(&line);
            if fields["message"].as_str().is_some_and(&wanted) {
                return fields.clone();
            }
        }
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// SIGTERM; returns the exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal("TERM");
        tokio::task::spawn_blocking(move || self.child.wait().unwrap().code()).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// The ports of senders and of operators in the line that says that events are taken; none in any other line.
fn ports_of(line: &str) -> Option<(u16, u16)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    if fields["message"] != "gander takes events" {
        return None;
    }
    let port = |name: &str| fields[name].as_str()?.rsplit(':').next()?.parse().ok();
    Some((port("listen")?, port("admin")?))
}

pub fn setup() -> Setup {
    Setup {
        upstream: vec![
            "retry: { initial: 10ms, factor: 1, max: 50ms }".into(),
            "rate_limit: { per_second: 10000, burst: 10000 }".into(),
        ],
        ..Setup::default()
    }
}

fn states_of<'a>(calls: &'a [Call], key: &str) -> Vec<&'a str> {
    let mut states: Vec<&str> = calls.iter().filter(|call| call.key() == key).map(Call::state).collect();
    // At least once: the same call may come again, never an earlier one after a later one.
    states.dedup();
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_kill_is_delivered_after_it_in_order() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup());
        let process = Process::start(configuration.clone()).await;
        let keys: Vec<String> = (0..20).map(|number| format!("e{number}")).collect();
        for key in &keys {
            for state in ["CRITICAL", "OK"] {
                let answer = process.post(&payload(key, state)).await;
                assert_eq!(answer.json["status"], "queued", "{answer:?}");
            }
        }
        upstream.calls_once(1).await;
        process.kill();

        upstream.follow(|_, _| Reply::Done);
        let before = upstream.calls().len();
        let process = Process::start(configuration).await;
        let calls = upstream.calls_once(before + 2 * keys.len()).await;
        for key in &keys {
            assert_eq!(states_of(&calls[before..], key), ["CRITICAL", "OK"], "{key}");
        }
        // An event that was seen before the kill is still known.
        assert_eq!(process.post(&payload("e0", "OK")).await.json["status"], "duplicate");
        assert_eq!(process.terminate().await, Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_kill_cut_off_is_made_again() {
    within(async {
        let gate = crate::upstream::Gate::closed();
        let waiting = gate.clone();
        let upstream = Upstream::start(move |_, _| Reply::After(waiting.clone(), Box::new(Reply::Done))).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup());
        let process = Process::start(configuration.clone()).await;
        assert_eq!(process.post(&payload("e1", "CRITICAL")).await.json["status"], "queued");
        upstream.calls_once(1).await;
        process.kill();
        gate.open();
        let _process = Process::start(configuration).await;
        assert_eq!(states_of(&upstream.calls_once(2).await, "e1"), ["CRITICAL"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_senders_own_request_id_is_found_in_the_log() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup());
        let process = Process::start(configuration).await;
        let long = format!("a\tb\"{}", "x".repeat(1_000));
        let unusable = json!({ "state": "CRITICAL" });
        let [took, refused] = ["took a request", "refused what the rules can't use; it is kept"];
        for (payload, message) in [(&payload("e1", "CRITICAL"), took), (&unusable, refused)] {
            process.post_with(payload, &[("x-request-id", &long)]).await;
            let fields = process.logged(message);
            let kept = fields["sender_request_id"].as_str().unwrap();
            assert!(kept.starts_with(r#"a\tb\"xxx"#) && kept.len() < 200, "bounded and escaped: {fields}");
        }
        process.post(&payload("e1", "OK")).await;
        assert!(process.logged(took).get("sender_request_id").is_none(), "nothing where nothing was given");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_no_credential_from_a_wrong_one_and_where_a_broken_body_is_kept() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup());
        let process = Process::start(configuration).await;
        let url = format!("https://localhost:{}/hooks/servicepilot", process.port);
        let send = async |headers: &[(&str, &str)], body: &str| {
            process.client.send(http::Method::POST, &url, headers, body.to_owned()).await
        };
        let mut answers = Vec::new();
        for (credential, headers) in [("none", &[][..]), ("wrong", &[("authorization", "Bearer nearly")])] {
            let mut answer = send(headers, "{}").await;
            let fields = process.logged("refused a request");
            assert_eq!((&fields["reason"], &fields["credential"]), (&json!("not_authenticated"), &json!(credential)));
            assert!(!fields.to_string().contains("nearly"), "{fields}");
            answer.json["request_id"] = Value::Null;
            answers.push((answer.status, answer.json));
        }
        assert_eq!(answers[0], answers[1], "the sender is not told which");

        for (rest, hint) in [
            (format!("t?token={TOKEN}"), "spelled otherwise"),
            (format!("&token={TOKEN}"), "begin with `?`"),
            (format!("/{TOKEN}/"), "has to end"),
            (format!("%26token%3D{TOKEN}"), "has to end"),
        ] {
            process.client.send(http::Method::POST, &format!("{url}{rest}"), &[], "{}".to_owned()).await;
            let fields = process.logged("refused a request");
            assert_eq!(
                (&fields["reason"], &fields["nearest"]),
                (&json!("unknown_source"), &json!("servicepilot")),
                "{fields}"
            );
            assert!(fields["hint"].as_str().is_some_and(|told| told.contains(hint)), "{fields}");
            assert!(!fields.to_string().contains(TOKEN), "{fields}");
        }

        let answer = send(&[("authorization", &format!("Bearer {TOKEN}"))], "{").await;
        let fields = process.logged("refused a request");
        assert_eq!((&fields["reason"], &fields["event"]), (&json!("not_json"), &answer.json["id"]), "{fields}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authenticated_sender_that_is_refused_is_told_once_with_the_remedy_and_shown_on_readyz() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup());
        let process = Process::start(configuration).await;
        let url = format!("https://localhost:{}/hooks/servicepilot", process.port);
        let authorization = format!("Bearer {TOKEN}");
        let send = async |credential: &str, kind: &str, body: &str| {
            let headers = [("authorization", credential), ("content-type", kind)];
            process.client.send(http::Method::POST, &url, &headers, body.to_owned()).await
        };
        let refused = async || {
            let ready = process.admin("/readyz").await.json;
            assert_eq!(ready["ready"], true, "{ready}");
            ready["degraded"].as_array().unwrap().clone()
        };
        send("Bearer wrong", "text/html; charset=x", "").await;
        assert_eq!(process.logged("refused a request")["level"], "INFO");
        assert_eq!(refused().await, [] as [Value; 0], "a stranger makes nothing degraded");

        let json = "application/json";
        let large = "x".repeat(1024 * 1024 + 1);
        for (kind, body, reason, remedy, logged) in [
            (json, "{", "not_json", "template", "refused a request"),
            ("application/pdf", "{}", "content_type", "Content-Type: application/json", "refused a request"),
            (json, &large, "body_too_large", "listen.max_body", "refused a request"),
            (json, "{}", "unprocessable", "fix the rules", "refused what the rules can't use; it is kept"),
        ] {
            for level in ["WARN", "INFO"] {
                let answer = send(&authorization, kind, body).await;
                let fields = process.logged(logged);
                assert_eq!((&fields["level"], &fields["event"]), (&json!(level), &answer.json["id"]), "{fields}");
                let told = fields["remedy"].as_str().is_some_and(|text| text.contains(remedy));
                assert_eq!(told, level == "WARN", "{fields}");
            }
            let all = refused().await;
            let entry = all.iter().find(|entry| entry["detail"].as_str().unwrap().contains(reason)).unwrap();
            assert_eq!(entry["reason"], "sender_refused");
            assert!(entry["detail"].as_str().unwrap().contains("source servicepilot: 2 refused"), "{entry}");
            assert!(entry["remedy"].as_str().unwrap().contains(remedy), "{entry}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_300_alerts_in_one_request_is_taken_by_the_defaults() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let preset = std::fs::read_to_string(format!("{}/config/rules/alertmanager.yaml", env!("CARGO_MANIFEST_DIR")));
        let setup = Setup { rules: Some(preset.unwrap()), ..Setup::default() };
        let process = Process::start(relay::write_configuration(directory.path(), &upstream, &setup)).await;
        let alert = |number: usize| {
            json!({
                "status": "firing",
                "labels": { "alertname": "InstanceDown", "instance": format!("10.0.{}.{}:9100", number / 250, number % 250) },
                "annotations": { "summary": "the instance is down", "description": "x".repeat(700) },
                "startsAt": "2026-11-29T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus:9090/graph", "fingerprint": format!("{number:016x}"),
            })
        };
        let alerts: Vec<Value> = (0..300).map(alert).collect();
        let batch = json!({ "version": "4", "groupKey": "{}", "status": "firing", "receiver": "callgoose",
                            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "alerts": alerts });
        assert!(batch.to_string().len() > 256 * 1024);
        let answer = process.post(&batch).await;
        assert_eq!(answer.status, 202, "{:.500}", answer.json.to_string());
        let events = answer.json["events"].as_array().unwrap();
        assert_eq!(events.iter().filter(|event| event["status"] == "queued").count(), 300);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_about_a_connection_names_its_listener_unless_it_is_that_of_senders() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup());
        let process = Process::start(configuration).await;
        let connect = async |port| TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut sender, mut operator) = (connect(process.ports().0).await, connect(process.ports().1).await);
        write(&mut sender, "GET / HTTP/1.1\r\n").await;
        write(&mut operator, "GET / HTTP/1.1\r\n").await;
        let fields = process.logged("a TLS handshake failed");
        assert!(fields.get("listener").is_none() && fields["peer"].is_string(), "{fields}");
        let fields = process.logged("a request's head did not come in time");
        assert_eq!(fields["listener"], "admin", "{fields}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_directory_is_refused_with_exit_2() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup());
        let _first = Process::start(configuration.clone()).await;
        let second = tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_gander"))
                .args(["run", "--config"])
                .arg(&configuration)
                .env("SERVICEPILOT_TOKEN", TOKEN)
                .env("CALLGOOSE_TOKEN", UPSTREAM_TOKEN)
                .output()
                .unwrap()
        })
        .await
        .unwrap();
        assert_eq!(second.status.code(), Some(2));
        let message = String::from_utf8_lossy(&second.stderr);
        assert!(message.contains("another gander uses this directory"), "{message}");
        assert!(second.stdout.is_empty(), "results only");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_answers_what_is_under_way_and_exits_0() {
    within(async {
        let gate = crate::upstream::Gate::closed();
        let waiting = gate.clone();
        let upstream = Upstream::start(move |_, _| Reply::After(waiting.clone(), Box::new(Reply::Done))).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let setup = Setup { source: vec!["respond: delivered".into()], ..setup() };
        let configuration = relay::write_configuration(directory.path(), &upstream, &setup);
        let process = Process::start(configuration).await;
        let (port, client) = (process.port, process.client.clone());
        let waiter = tokio::spawn(async move {
            let bearer = format!("Bearer {TOKEN}");
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let url = format!("https://localhost:{port}/hooks/servicepilot");
            client.send(http::Method::POST, &url, &headers, payload("e1", "CRITICAL").to_string()).await
        });
        upstream.calls_once(1).await;
        let terminated = tokio::spawn(process.terminate());
        let answer = waiter.await.unwrap();
        assert_eq!((answer.status, &answer.json["status"]), (http::StatusCode::ACCEPTED, &json!("queued")));
        gate.open();
        assert_eq!(terminated.await.unwrap(), Some(0));
    })
    .await;
}
