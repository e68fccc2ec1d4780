//! `gander health`: the check of a container or load balancer that has no HTTP client at hand.
//!
//! It prints what it asked and the answer in one line, and below it each thing that is not as it should be.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::Value;

use super::client::{Answer, Client};
use super::terminal::{Terminal, plain};
use super::{ConfigArguments, Exit, Stop, runtime};
use crate::advice::readiness::{NO_DETAILS, degradation, degraded};
use crate::config::load_addresses;

/// Ask a running relay whether it is alive, or ready
///
/// Reads `/healthz`, or `/readyz` with --ready, at the configured admin address. Of the configuration it uses `listen` and
/// `admin` only: with a mistake elsewhere in it a running relay still looks well.
///
/// Exit codes: 0 it is; 1 it is not; 2 the configuration can't be used.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Ask whether events are taken, not only whether the process is alive
    #[arg(long)]
    ready: bool,
    /// Print the answer's body instead
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let mut admin = arguments.config.part(load_addresses)?.admin;
    // Neither path needs the token; with it `/readyz` says more.
    admin.token = admin.token.filter(|token| token.expose(|_| ()).is_some());
    let client = Client::admin(&admin)?;
    let path = if arguments.ready { "/readyz" } else { "/healthz" };
    let answer = runtime()?.block_on(client.request(Method::GET, path, &[], Bytes::new(), PATIENCE));
    match answer {
        Ok(answer) => {
            if arguments.json {
                terminal.print(&plain(String::from_utf8_lossy(&answer.body).trim_end()));
            } else {
                let asked = format!("{}{path}", client.base());
                said(&asked, &answer).iter().for_each(|line| terminal.print(line));
            }
            Ok(if answer.status.is_success() { Exit::Fine } else { Exit::No })
        }
        Err(problem) => {
            terminal.say(&problem);
            Ok(Exit::No)
        }
    }
}

/// The answer in lines: what was asked and the verdict, then each entry of `degraded`.
fn said(asked: &str, answer: &Answer) -> Vec<String> {
    let (status, body) = (answer.status.as_u16(), answer.json().unwrap_or_default());
    let verdict = match (&body["ready"], body["status"].as_str()) {
        (Value::Bool(true), _) => "ready".to_owned(),
        (Value::Bool(false), _) => "not ready".to_owned(),
        (_, Some("alive")) => "alive".to_owned(),
        _ => answer.detail(),
    };
    let entries = degraded(&body).iter().flat_map(degradation);
    let untold = (body["ready"].is_boolean() && body["degraded"].is_null()).then(|| format!("-> {NO_DETAILS}"));
    std::iter::once(format!("{asked} answers {status}: {verdict}"))
        .chain(entries.chain(untold).map(|line| format!("  {line}")))
        .collect()
}

/// Who runs this as a probe waits little longer, and then learns nothing.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said_of(status: u16, body: &Value) -> String {
        let answer = Answer { status: http::StatusCode::from_u16(status).unwrap(), body: body.to_string().into() };
        said("http://127.0.0.1:9180/readyz", &answer).join("\n")
    }

    #[test]
    fn one_line_tells_the_answer_and_further_ones_the_reasons_with_their_remedies() {
        assert_eq!(said_of(200, &json!({ "status": "alive" })), "http://127.0.0.1:9180/readyz answers 200: alive");
        assert_eq!(said_of(403, &json!({ "detail": "name it" })), "http://127.0.0.1:9180/readyz answers 403: name it");
        let untold = said_of(200, &json!({ "ready": true }));
        assert!(untold.contains("answers 200: ready\n  -> the relay tells the rest"), "{untold}");
        assert!(!said_of(200, &json!({ "ready": true, "degraded": [] })).contains('\n'));
        let entry = json!({
            "reason": "journal", "since": "2026-01-02T03:04:05.678Z", "status": null, "detail": "disk_full: no room",
            "remedy": "make room",
        });
        assert_eq!(
            said_of(503, &json!({ "ready": false, "degraded": [entry] })),
            "http://127.0.0.1:9180/readyz answers 503: not ready\n  \
             journal since 2026-01-02 03:04 UTC: disk_full: no room\n  -> make room"
        );
    }
}
