//! `gander sandbox`: a local stand-in for Callgoose, for trying rules and filters. It is not Callgoose.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::terminal::{Terminal, plain};
use super::{ConfigFile, Exit, Stop, environment, input, stop_signal};
use crate::callgoose::filters::Filters;
use crate::callgoose::sandbox::{self, Report, Sandbox};
use crate::config::{self, FILTERS_BESIDE};
use crate::logging;
use crate::relay::bind_remedy;
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::yaml::{Findings, Source};

/// Run a local stand-in for Callgoose, for trying rules and filters
///
/// Takes what the relay sends, decides by filters as Callgoose documents them, prints a line for each call, and lists
/// the incidents that it would have opened at GET /incidents. It is not Callgoose and alerts nobody. Runs until it is
/// interrupted.
///
/// Exit codes: 0 it was stopped; 2 it could not start.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to listen, by plain HTTP
    #[arg(long, value_name = "ADDRESS", default_value = ADDRESS)]
    listen: SocketAddr,
    #[command(flatten)]
    config: ConfigFile,
    /// The filters, as one would type them into Callgoose [default: callgoose-filters.yaml beside the configuration, else
    /// as shipped]
    #[arg(long, value_name = "FILE")]
    filters: Option<PathBuf>,
}

impl Arguments {
    /// The file that was named, else the one beside the configuration where there is one, else the shipped one. A
    /// stand-in needs no configuration.
    fn filters(&self) -> Result<Arc<Source>, Stop> {
        let found = input::filters(self.filters.as_deref(), self.config.locate().ok().as_deref())?;
        Ok(found.unwrap_or_else(shipped_filters))
    }
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let source = arguments.filters()?;
    let mut findings = Findings::new();
    let filters = Filters::read(&source, &mut findings);
    let token = match filters.as_ref().and_then(|filters| filters.token.as_ref()) {
        Some(node) => config::secret(node, "token", &environment(), &mut findings),
        None => None,
    };
    if findings.has_errors() {
        return Err(Stop::Invalid(findings));
    }
    terminal.say_findings(&findings);
    let (Some(filters), Some(token)) = (filters, token) else {
        let problem = format!("{}: `token` is missing: write token: {{ env: CALLGOOSE_TOKEN }}", source.name);
        return Err(problem.into());
    };
    let log = logging::Config { level: tracing::Level::WARN, format: logging::Format::Auto };
    let runtime = logging::start(log)
        .and_then(|()| terminal.detach())
        .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
    let served =
        runtime.and_then(|runtime| runtime.block_on(serve(arguments.listen, &source.name, filters, token, terminal)));
    served.map_err(|error| error.to_string())?;
    Ok(Exit::Fine)
}

async fn serve(
    listen: SocketAddr,
    filters_name: &str,
    filters: Filters,
    token: Secret,
    terminal: &mut Terminal,
) -> io::Result<()> {
    let shutdown = Shutdown::new();
    let served = run(listen, filters_name, filters, token, shutdown.clone(), terminal);
    tokio::pin!(served);
    tokio::select! {
        served = served.as_mut() => return served,
        () = stop_signal() => {}
    }
    shutdown.begin();
    served.await
}

/// The filters that the binary carries.
pub(super) fn shipped_filters() -> Arc<Source> {
    Arc::new(Source::new(format!("{FILTERS_BESIDE} (as shipped)"), SHIPPED.to_owned()))
}

/// Serves until `shutdown` begins. Where it listens, what to set in gander.yaml and a line for each call are written to
/// `out`.
pub(crate) async fn run(
    listen: SocketAddr,
    filters_name: &str,
    filters: Filters,
    token: Secret,
    shutdown: Shutdown,
    out: &mut impl Write,
) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("can't listen on {listen}: {error}; {}, as --listen 127.0.0.1:18090", bind_remedy(error.kind())),
        )
    })?;
    out.write_all(greeting(listener.local_addr()?, filters_name).as_bytes())?;
    out.flush()?;
    let (reports, mut calls) = mpsc::channel(REPORTS_MAX);
    let config = sandbox::Config { reports: Some(reports), ..sandbox::Config::new(filters, token) };
    let served = Sandbox::new(config).serve(listener, None, shutdown);
    tokio::pin!(served);
    loop {
        tokio::select! {
            () = served.as_mut() => return Ok(()),
            Some(report) = calls.recv() => writeln!(out, "{}", line(&report))?,
        }
    }
}

/// `12:03:04  201 created incident 1 (e1), trigger filter 1 of payments: CPU`, in UTC.
pub(super) fn line(report: &Report) -> String {
    let at = report.at.rfc3339();
    plain(&format!("{}  {report}", at.get(11..19).unwrap_or(&at)))
}

fn greeting(address: SocketAddr, filters_name: &str) -> String {
    let beyond = if address.ip().is_loopback() {
        ""
    } else {
        "\nIt listens beyond this machine and speaks plain HTTP: whoever reaches it can list the incidents,\n\
         and the token travels in clear text. Use one that opens nothing else.\n"
    };
    format!(
        "A local stand-in for Callgoose. It alerts nobody.\n\
         \n\
         listening on   http://{address}\n\
         filters        {filters_name}\n\
         incidents      http://{address}/incidents\n\
         {beyond}\n\
         To put it behind a relay, in another terminal with the same token:\n\
         \n  \
           gander run --set upstream.url=http://{address}/sqibs-api/v1/process\n"
    )
}

/// Calls wait for their line, so that none is left out.
const REPORTS_MAX: usize = 16;
/// Where it listens when nothing else is said.
pub(crate) const ADDRESS: &str = "127.0.0.1:8090";
/// So that the binary alone is enough to try things.
const SHIPPED: &str = include_str!("../../config/callgoose-filters.yaml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, WallTime};

    #[tokio::test]
    async fn it_says_where_it_listens_and_what_to_set() {
        let source = shipped_filters();
        let filters = Filters::read(&source, &mut Findings::new()).unwrap();
        let shutdown = Shutdown::new();
        shutdown.begin();
        let mut out = Vec::new();
        let address = "127.0.0.1:0".parse().unwrap();
        run(address, &source.name, filters, Secret::new("t".into()), shutdown, &mut out).await.unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("stand-in") && out.contains("/sqibs-api/v1/process\n"), "{out}");
        assert!(!out.contains(":0/"), "the port that was chosen is told: {out}");
    }

    #[test]
    fn each_call_has_a_line() {
        let filters = Filters::read(&shipped_filters(), &mut Findings::new()).unwrap();
        let mut callgoose = sandbox::Callgoose::new(filters, sandbox::DUPLICATE_WINDOW);
        let now = Clock::start().now();
        for (body, expected) in [
            (
                r#"{"servicepilot_event_id":"e1","state":"CRITICAL","title":"Disk full\u001b[2J"}"#,
                "201 created incident 1 (e1), trigger filter 1 of ServicePilot: Disk full\\u{1b}[2J",
            ),
            (
                r#"{"servicepilot_event_id":"e1","state":"CRITICAL","title":"again"}"#,
                "200 duplicate: incident 1 is open (e1), trigger filter 1 of ServicePilot: again",
            ),
            (
                r#"{"servicepilot_event_id":"e1","state":"OK"}"#,
                "200 resolved incident 1 (e1), resolve filter of ServicePilot",
            ),
            (
                r#"{"servicepilot_event_id":"e1","state":"OK"}"#,
                "200 duplicate of a call a moment ago (e1), resolve filter of ServicePilot",
            ),
            (
                r#"{"servicepilot_event_id":"e2","state":"OK"}"#,
                "200 not resolved: no such incident is open (e2), resolve filter of ServicePilot",
            ),
            (
                r#"{"servicepilot_event_id":"e1","state":"WARNING"}"#,
                "202 unmatched, nobody is alerted: service ServicePilot, trigger filter 1: `state` is \"WARNING\", which \
                 does not contain \"CRITICAL\" (and 1 more)",
            ),
        ] {
            let answer = callgoose.process(sandbox::Call { body: body.as_bytes(), from: None }, now);
            let line = line(&Report::of_answer(&answer, WallTime(1_700_000_000_000)));
            assert_eq!(line, format!("22:13:20  {expected}"), "{body}");
        }
        let line = line(&Report::of_status(http::StatusCode::UNAUTHORIZED, WallTime(0)));
        assert_eq!(line, "00:00:00  401 unauthorized");
    }

    #[test]
    fn an_address_beyond_this_machine_is_warned_of() {
        assert!(greeting("0.0.0.0:80".parse().unwrap(), "f").contains("clear text"));
        assert!(!greeting("[::1]:80".parse().unwrap(), "f").contains("clear text"));
    }
}
