//! `gander demo` that stays up: what it prints can be used as it stands.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::relay::within;

/// A demonstration that stays up.
struct Demo {
    child: Child,
    /// Held open: it goes on printing.
    stdout: BufReader<ChildStdout>,
}

impl Demo {
    fn start() -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gander")).arg("demo").stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Demo { child, stdout }
    }

    /// The lines that it prints until it has said how to go on.
    fn told(&mut self) -> String {
        let mut text = String::new();
        while !text.contains("\nTo begin in earnest") {
            assert_ne!(self.stdout.read_line(&mut text).unwrap(), 0, "it ended: {text}");
        }
        text
    }
}

/// Ends in order, so that its directory is removed, also where the test fails.
impl Drop for Demo {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// The commands in a text: in one line each, or in several behind backslashes.
fn commands(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let begins = |line: &str| line.find("gander events ").or_else(|| line.find("  curl "));
    text.lines().filter_map(|line| begins(line).map(|at| line[at..].trim().to_owned())).collect()
}

/// What a shell elsewhere makes of a command.
fn pasted(command: &str) -> String {
    let program = env!("CARGO_BIN_EXE_gander");
    let command = command.replace("gander events", &format!("'{program}' events"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).current_dir("/").env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let ended = shell.stdin(Stdio::null()).output().unwrap();
    assert!(ended.status.success(), "{command}: {ended:?}");
    String::from_utf8(ended.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_demonstration_prints_is_true_when_it_is_pasted_at_its_end() {
    let told = tokio::task::spawn_blocking(|| {
        let mut demo = Demo::start();
        let text = demo.told();
        let url = text.lines().next().unwrap().strip_prefix("relay").unwrap().trim();
        let (_, end) = text.split_once("It stays up until Ctrl-C").unwrap();
        assert!(end.contains(url), "the relay is where it was before it was killed: {text}");
        let results: Vec<String> = commands(&text).iter().map(|command| pasted(command)).collect();
        let [show, curl, list, incidents, metrics] = &results[..] else { panic!("{text}") };
        assert!(show.contains("not_json") && show.contains("sp-evt-1002"), "the broken payload: {show}");
        assert!(curl.contains("delivered"), "a payload of one's own: {curl}");
        let is_listed = |key: &str| list.split_whitespace().any(|word| word == key);
        assert!(is_listed("sp-evt-1003") && is_listed("e1"), "the list: {list}");
        assert!(incidents.contains("sp-evt-1003") && metrics.contains("gander_"), "{incidents}\n{metrics}");
    });
    within(told).await.unwrap();
}
