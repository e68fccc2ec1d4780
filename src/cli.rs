//! The command line: what can be asked of Gander, and the shell around each answer.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 fine; 1 it ran and the answer is
//! no; 2 it could not run.

mod admin_client;
mod check;
mod client;
mod demo;
mod doctor;
mod events;
pub(crate) mod explain;
mod follow;
mod health;
mod init;
mod input;
mod local_connector;
pub(crate) mod query;
mod queue;
mod recorded;
mod run;
pub(crate) mod sandbox;
mod schema;
mod send;
mod shell;
mod status;
mod tap;
mod terminal;
pub mod test;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, Failure, Flag, Inputs, Secrets, Unreadable};
use crate::journal::sqlite_version;
use crate::version::{LONG, VERSION};
use crate::yaml::Findings;
use terminal::Terminal;

/// A sidecar and edge relay between ServicePilot and Callgoose SQIBS
///
/// Gander takes alert webhooks over HTTPS, decides by declarative rules what each one means, keeps it on disk before it
/// answers, drops repeats, and delivers the rest, in order, until Callgoose has really opened or closed the incident.
#[derive(Debug, Parser)]
#[command(name = "gander", version = VERSION, long_version = LONG_VERSION.as_str())]
#[command(after_help = SHORT_HELP, after_long_help = LONG_HELP, max_term_width = 110)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Arguments),
    // Other servers are started by this word.
    #[command(alias = "start")]
    Run(run::Arguments),
    #[command(visible_alias = "validate")]
    Check(check::Arguments),
    Test(test::Arguments),
    Explain(explain::Arguments),
    Query(query::Arguments),
    Send(send::Arguments),
    Events(events::Arguments),
    Status(status::Arguments),
    Queue(queue::Arguments),
    Doctor(doctor::Arguments),
    Tap(tap::Arguments),
    Sandbox(sandbox::Arguments),
    Demo(demo::Arguments),
    Health(health::Arguments),
    Schema(schema::Arguments),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// The end of a command, as its exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Fine,
    /// It ran and the answer is no.
    No,
    /// It could not run; standard error tells why.
    CouldNotRun,
}

/// The reason why a command stops early; `main` says it.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It can't run: a sentence on why.
    Problem(String),
    /// It can't run: a file that it needs is wrong.
    Invalid(Findings),
    /// The relay refused: a sentence on what and why.
    Refused(String),
}

/// Where the configuration is; the same for every command.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file [default: $GANDER_CONFIG, else the first that is there of gander.yaml, config/gander.yaml
    /// and /etc/gander/gander.yaml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Where the configuration is, and what is laid over it.
#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Set a key of the configuration, over the file and the environment, such as listen.address=127.0.0.1:9443
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<Flag>,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut terminal = Terminal::new();
    let result = match cli.command {
        Command::Init(arguments) => init::command(&arguments, &mut terminal),
        Command::Run(arguments) => run::command(&arguments),
        Command::Check(arguments) => check::command(&arguments, &mut terminal),
        Command::Test(arguments) => test::command(&arguments, &mut terminal),
        Command::Explain(arguments) => explain::command(&arguments, &mut terminal),
        Command::Query(arguments) => query::command(&arguments, &mut terminal),
        Command::Send(arguments) => send::command(&arguments, &mut terminal),
        Command::Events(arguments) => events::command(&arguments, &mut terminal),
        Command::Status(arguments) => status::command(&arguments, &mut terminal),
        Command::Queue(arguments) => queue::command(&arguments, &mut terminal),
        Command::Doctor(arguments) => doctor::command(&arguments, &mut terminal),
        Command::Tap(arguments) => tap::command(&arguments, &mut terminal),
        Command::Sandbox(arguments) => sandbox::command(&arguments, &mut terminal),
        Command::Demo(arguments) => demo::command(&arguments, &mut terminal),
        Command::Health(arguments) => health::command(&arguments, &mut terminal),
        Command::Schema(arguments) => Ok(schema::command(&arguments, &mut terminal)),
        Command::Completions(arguments) => Ok(arguments.command(&mut terminal)),
        Command::Man(arguments) => arguments.command(&mut terminal),
    };
    let exit = result.unwrap_or_else(|stop| terminal.say_stop(stop));
    terminal.finish(exit)
}

/// On one line, where a command goes on without what stopped.
impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Problem(problem) | Stop::Refused(problem) => f.write_str(problem),
            Stop::Invalid(findings) => f.write_str(&findings.error_lines().join("; ")),
        }
    }
}

impl From<String> for Stop {
    fn from(problem: String) -> Stop {
        Stop::Problem(problem)
    }
}

impl From<Unreadable> for Stop {
    fn from(unreadable: Unreadable) -> Stop {
        Stop::Problem(unreadable.to_string())
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        match failure {
            Failure::Unreadable(unreadable) => unreadable.into(),
            Failure::Invalid(findings) => Stop::Invalid(findings),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        match exit {
            Exit::Fine => ExitCode::SUCCESS,
            Exit::No => ExitCode::from(1),
            Exit::CouldNotRun => ExitCode::from(2),
        }
    }
}

impl ConfigFile {
    pub(crate) fn locate(&self) -> Result<PathBuf, String> {
        config::locate(self.config.as_deref(), std::env::var_os(config::FILE_VARIABLE).as_deref())
    }
}

impl ConfigArguments {
    /// The file, variables and flags that the configuration is read from.
    pub(crate) fn inputs(&self, secrets: Secrets) -> Result<Inputs, Stop> {
        let path = self.file.locate()?;
        Ok(Inputs { path, environment: environment(), flags: self.settings.clone(), secrets })
    }

    /// A part of the configuration, for a client of a running relay.
    pub(crate) fn part<T>(&self, read: impl FnOnce(&Inputs) -> Result<T, Failure>) -> Result<T, Stop> {
        Ok(read(&self.inputs(Secrets::Optional)?)?)
    }
}

/// The environment as text. What is not UTF-8 keeps a place, so that a message can speak of it.
pub(crate) fn environment() -> BTreeMap<String, String> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// Runs the conversations of a command; one thread is enough for them.
fn runtime() -> Result<Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("can't start: {error}"))
}

/// Returns when the process is told to stop.
async fn stop_signal() {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn setting(text: &str) -> Result<Flag, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key.split('.').all(|part| !part.is_empty()) => {
            Ok(Flag { name: format!("--set {key}"), key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err("write KEY=VALUE, such as listen.address=127.0.0.1:9443".to_owned()),
    }
}

impl Terminal {
    /// Says why a command stopped.
    fn say_stop(&mut self, stop: Stop) -> Exit {
        match stop {
            Stop::Problem(problem) => self.say_error(&problem),
            Stop::Invalid(findings) => self.say_findings(&findings),
            Stop::Refused(problem) => {
                self.say_error(&problem);
                return Exit::No;
            }
        }
        Exit::CouldNotRun
    }

    fn say_findings(&mut self, findings: &Findings) {
        if !findings.is_empty() {
            self.say(findings.render(self.colour_for_errors()).trim_end());
        }
    }
}

const SHORT_HELP: &str = "`gander --help` shows examples, exit codes and the environment.";

/// The answer to `--version`. The SQLite is the one that is linked in the end, which may be the system's.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| format!("{LONG}\nSQLite: {}", sqlite_version()));

const LONG_HELP: &str = "\
Examples:
  gander init grafana
      a starting configuration for a kind of sender; `gander init --list` shows them
  gander check
      everything that is wrong with a configuration, its rules, certificates and secrets
  gander test
      the rules, by the tests beside them
  gander explain --source servicepilot alert.json
      why this payload is decided as it is, and what would be sent
  gander run
      the relay, until SIGTERM
  gander send --source servicepilot alert.json
      posts a payload to the running relay and follows it to its outcome
  gander status
      how things are, on one screen, and what to do
  gander queue
      what waits, by source, lane and key, and how long it will take
  gander doctor
      the way to Callgoose, step by step: what works, what fails, what to do
  gander tap
      what becomes of events, as it happens
  gander events list --state dead
      what was given up
  gander events follow ID
      one event to its end: each call, its answer, and what it waits for
  gander events replay --state dead --older-than 1h
      sends it again, each event at the end of its incident key

Exit codes:
  0  fine
  1  it ran and the answer is no: `check` found something; a test failed; `query` selected
     nothing; `send` ended otherwise than created, resolved, duplicate or accepted; `doctor`
     found something; a running relay refused a command, or is not well
  2  it could not run: wrong usage, a file that can't be read, an invalid configuration

Environment:
  GANDER_CONFIG
             names the configuration
  GANDER_…   sets a key of the configuration, with `__` between levels:
             GANDER_LISTEN__ADDRESS is listen.address
  NO_COLOR   when set, nothing is coloured
  Secrets come from the variables that the configuration names, in the shipped one
  SERVICEPILOT_TOKEN and CALLGOOSE_TOKEN.

Files:
  gander.yaml               the configuration, else config/gander.yaml, else /etc/gander/gander.yaml
  rules/, callgoose-filters.yaml
                            beside it: the rules with their tests, and the filters
  data/                     the journal of events (data_dir)
  certs/server.pem, .key    the relay's certificate and key, made when both are missing";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn start_is_taken_for_run() {
        let cli = Cli::try_parse_from(["gander", "start", "--config", "x.yaml"]).unwrap();
        assert!(matches!(cli.command, Command::Run(_)), "{:?}", cli.command);
    }

    #[test]
    fn a_setting_is_a_key_and_a_value() {
        let flag = setting("log.level=debug=x").unwrap();
        assert_eq!((flag.key.as_str(), flag.value.as_str()), ("log.level", "debug=x"));
        assert_eq!(flag.name, "--set log.level", "the value may be a secret and is not in the name");
        for wrong in ["", "log.level", "=x", "log..level=x", ".=x"] {
            assert!(setting(wrong).is_err(), "{wrong:?}");
        }
    }
}
