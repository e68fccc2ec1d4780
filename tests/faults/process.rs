//! `gander run` as a process: started, perhaps under another program, watched, and ended in every way.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::upstream::Upstream;

pub const TOKEN: &str = "sender-canary-41c7";

/// A configuration in a directory of its own, over which processes are started one after the other.
pub struct Site {
    pub directory: tempfile::TempDir,
    configuration: PathBuf,
}

/// A relay that takes events.
pub struct Process {
    child: Child,
    pub port: u16,
    pub admin: u16,
    log: Arc<Mutex<Vec<String>>>,
    /// The rest of the log, while nobody reads it.
    unread: Option<BufReader<ChildStderr>>,
    reading: Option<JoinHandle<()>>,
}

/// Who reads a relay's log once it has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Reads,
    /// Nobody, though somebody could: a pipe fills.
    Asleep,
    /// Nobody any more: a pipe is closed.
    Gone,
}

impl Site {
    pub fn new(upstream: &Upstream) -> Site {
        Site::with_log(upstream, "{ format: json }")
    }

    /// With a `log` section of its own.
    pub fn with_log(upstream: &Upstream, log: &str) -> Site {
        let directory = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(root.join("config/rules/servicepilot.yaml"), directory.path().join("rules.yaml")).unwrap();
        let text = format!(
            "listen: {{ address: '127.0.0.1:0', tls: off }}
admin: {{ address: '127.0.0.1:0' }}
data_dir: '{shown}/data'
sources:
  servicepilot:
    rules: rules.yaml
    auth: [ {{ bearer: {{ env: SERVICEPILOT_TOKEN }} }} ]
    rate_limit: {{ per_second: 100000, burst: 100000 }}
upstream:
  url: {url}
  authorization: {{ bearer: {{ env: CALLGOOSE_TOKEN }} }}
  timeout: 500ms
  rate_limit: {{ per_second: 10000, burst: 10000 }}
  retry: {{ initial: 5ms, factor: 2, max: 50ms }}
log: {log}
",
            shown = directory.path().display(),
            url = upstream.url(),
        );
        let configuration = directory.path().join("gander.yaml");
        fs::write(&configuration, text).unwrap();
        Site { directory, configuration }
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Adds a section to the configuration.
    pub fn configure(&self, section: &str) {
        let text = fs::read_to_string(&self.configuration).unwrap();
        fs::write(&self.configuration, format!("{text}{section}\n")).unwrap();
    }

    /// Starts `gander run` and waits until it takes events. `under` is the command that is to start it, empty for none.
    pub fn start(&self, under: &[String]) -> Process {
        self.start_with(under, Reader::Reads)
    }

    /// The same, for this reader of its log.
    pub fn start_with(&self, under: &[String], reader: Reader) -> Process {
        let mut child = self.command(under).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = BufReader::new(child.stderr.take().unwrap());
        let mut log = Vec::new();
        let (port, admin) = loop {
            let mut line = String::new();
            if !pipe.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                panic!("gander did not start:\n{}", log.join("\n"));
            }
            let ports = ports_of(&line);
            log.push(line.trim_end().to_owned());
            if let Some(ports) = ports {
                break ports;
            }
        };
        let log = Arc::new(Mutex::new(log));
        let unread = (reader != Reader::Gone).then_some(pipe);
        let mut process = Process { child, port, admin, log, unread, reading: None };
        if reader == Reader::Reads {
            process.read_log();
        }
        process
    }

    /// Starts it where it logs to a file, which is at `log` as this process sees it.
    pub fn start_with_log_at(&self, under: &[String], log: impl Fn(u32) -> PathBuf) -> Process {
        let child = self.command(under).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let path = log(child.id());
        let end = Instant::now() + PATIENCE;
        let (port, admin) = loop {
            let text = fs::read_to_string(&path).unwrap_or_default();
            if let Some(ports) = text.lines().find_map(ports_of) {
                break ports;
            }
            assert!(Instant::now() < end, "gander did not start: {text}");
            std::thread::sleep(Duration::from_millis(20));
        };
        Process { child, port, admin, log: Arc::default(), unread: None, reading: None }
    }

    /// The errors that `gander check` finds in `data_dir`, under the same command.
    pub fn checked_data_dir(&self, under: &[String]) -> Vec<String> {
        let output = self.command_of("check", under).arg("--json").output().unwrap();
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let errors = findings.as_array().unwrap().iter().filter(|found| found["severity"] == "error");
        errors
            .map(|found| format!("{}: {}", found["path"].as_str().unwrap(), found["message"].as_str().unwrap()))
            .collect()
    }

    /// Runs `gander run` where it is expected to end by itself.
    pub fn run_to_its_end(&self, under: &[String]) -> Output {
        self.command(under).output().unwrap()
    }

    fn command(&self, under: &[String]) -> Command {
        self.command_of("run", under)
    }

    fn command_of(&self, name: &str, under: &[String]) -> Command {
        let gander = env!("CARGO_BIN_EXE_gander").to_owned();
        let words: Vec<String> = under.iter().cloned().chain([gander, name.into(), "--config".into()]).collect();
        let mut command = Command::new(&words[0]);
        command
            .process_group(0)
            .args(&words[1..])
            .arg(&self.configuration)
            .env("SERVICEPILOT_TOKEN", TOKEN)
            .env("CALLGOOSE_TOKEN", "upstream-canary-93ab")
            .env("NO_PROXY", "*")
            .env("RUST_BACKTRACE", "1");
        command
    }
}

impl Process {
    /// The process of gander itself, also where another program started it: that one replaced itself.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP: none of its threads goes on.
    pub fn stop(&self) {
        self.signal("STOP");
        let end = Instant::now() + PATIENCE;
        let stopped = |task: &Path| {
            // Behind the name, which is in parentheses.
            let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('T'))
        };
        let tasks = || fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        while !tasks().all(|task| stopped(&task.unwrap().path())) {
            assert!(Instant::now() < end, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGTERM; returns the exit code and how long it took.
    pub fn terminate(mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        self.signal("TERM");
        (self.child.wait().unwrap().code(), started.elapsed())
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has ended; returns the exit code.
    pub fn ended(&mut self, limit: Duration) -> Option<i32> {
        let end = Instant::now() + limit;
        while !self.has_ended() {
            assert!(Instant::now() < end, "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.wait().unwrap().code()
    }

    /// Reads the log from now on, to its end.
    pub fn read_log(&mut self) {
        let Some(pipe) = self.unread.take() else { return };
        let log = Arc::clone(&self.log);
        self.reading = Some(std::thread::spawn(move || {
            pipe.lines().map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line));
        }));
    }

    /// The log of a process that has ended, to its last line.
    pub fn whole_log(&mut self) -> Vec<String> {
        self.reading.take().into_iter().for_each(|reading| reading.join().unwrap());
        self.log()
    }

    /// The id of its thread of this name; none if it has ended.
    pub fn thread(&self, name: &str) -> Option<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut tasks = tasks.map_while(|task| Some(task.ok()?.path()));
        let named = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        tasks.find(named)?.file_name()?.to_string_lossy().parse().ok()
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").1;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let told = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    /// Waits until a line of the log holds this text; returns the line.
    pub fn until_logged(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.log().into_iter().find(|line| line.contains(text)) {
                return line;
            }
            assert!(Instant::now() < end, "not logged: {text}\n{}", self.log().join("\n"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks the operator's face.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Commands, as an operator would.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let (status, body) = self.ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The fields of the first line of the log that says so.
    pub fn said(&self, words: &str) -> Option<Value> {
        self.log().iter().find(|line| line.contains(words)).map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line.get("fields").unwrap_or(&line).clone()
        })
    }

    /// The same, waited for.
    pub fn until_said(&self, words: &str, limit: Duration) -> Option<Value> {
        let end = Instant::now() + limit;
        loop {
            let said = self.said(words);
            if said.is_some() || Instant::now() >= end {
                return said;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Panics if the process did: it must not, whatever fails.
    pub fn assert_no_panic(&self) {
        let log = self.log();
        assert!(!log.iter().any(|line| line.contains("panicked")), "{}", log.join("\n"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // All of its group: some commands that start another one wait for its end.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// What starts a program with system calls that the library in `tests/faults/NAME.c` makes in its stead; `variables` tell
/// it how.
pub fn preloaded(site: &Site, name: &str, variables: &str) -> Vec<String> {
    let library = site.directory.path().join(format!("{name}.so"));
    let source = format!("{}/tests/faults/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    words(&format!("env LD_PRELOAD={} {variables}", library.display()))
}

/// A command that another one is started by, as its words.
pub fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// The ports of senders and operators, in the line that says that events are taken.
fn ports_of(line: &str) -> Option<(u16, u16)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    if fields["message"] != "gander takes events" {
        return None;
    }
    let port = |name: &str| fields[name].as_str()?.rsplit(':').next()?.parse().ok();
    Some((port("listen")?, port("admin")?))
}

/// Longer than a start, or whatever is logged, takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
