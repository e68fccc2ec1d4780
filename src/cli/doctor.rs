//! `gander doctor`: everything between this machine and Callgoose, looked at one after another.

mod answer;
mod configuration;
mod machine;
mod report;
mod way;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;

use super::terminal::Terminal;
use super::{ConfigArguments, Exit, Stop, runtime};
use crate::clock::WallTime;
use crate::config::{Inputs, Secrets};
use crate::delivery::client::{self, Upstream};
use crate::delivery::connector::{self, Route};
use report::{Check, Found};

/// Find what keeps events from Callgoose, step by step
///
/// Looks at the configuration, the relay that runs by it, data_dir and its disk, the addresses and certificates of the
/// listeners, and then goes the way to Callgoose as the relay does: name, proxy, connection, TLS, an answer to HTTP, this
/// machine's clock. Each is a line with its verdict, the time that it took and what was found; where something is not as
/// it should be, the line below says what to do. What needs a step that failed is not tried.
///
/// It runs beside a running relay, and without one, and changes nothing. Run it as the relay's user, in its directory and
/// with its environment: permissions, paths, proxies and secrets are those of whoever runs it.
///
/// What is sent: one connection is made and closed, and one GET of `upstream.url` goes out, without a token and a body.
/// HTTP calls GET safe, and Callgoose asks for a token. A refusal (401, 405) shows that it answers. With --token one POST
/// follows. The connection and each request have the time of `upstream.timeout`, each look at this machine 10 s.
///
/// Exit codes: 0 nothing is wrong; 1 something failed, or is doubtful; 2 it could not run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander doctor\n  gander doctor --token\n  \
                        gander doctor --json | jq '.[] | select(.verdict == \"failed\")'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Also send the token: one POST of {} to `upstream.url`, from `gander doctor`
    ///
    /// Callgoose documents no call that only checks a token. An empty object has none of the keys that API Filters
    /// compare, so it should be answered 202, no filter matched. If there is a filter that matches everything, an
    /// incident `Incident from gander doctor` is opened, and the line says so.
    #[arg(long)]
    token: bool,
    /// Print a JSON list of {check, verdict, took_ms, found, remedy}; verdict is ok, warning, failed or not_tried
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let [required, optional] = [Secrets::Required, Secrets::Optional].map(|secrets| arguments.config.inputs(secrets));
    let runtime = runtime()?;
    let mut checks = Checks { list: Vec::new(), json: arguments.json, terminal };
    let examined = runtime.block_on(examine(required?, optional?, arguments.token, &mut checks));
    // A file system or a resolver that does not answer keeps a thread.
    runtime.shutdown_background();
    examined?;
    let Checks { list, terminal, .. } = checks;
    if arguments.json {
        terminal.print(&report::to_json(&list).to_string());
    }
    Ok(report::exit(&list))
}

/// The checks so far. A person sees each as soon as it is done.
struct Checks<'t> {
    list: Vec<Check>,
    json: bool,
    terminal: &'t mut Terminal,
}

impl Checks<'_> {
    fn add(&mut self, check: Check) {
        if !self.json {
            let colour = self.terminal.colour();
            check.lines(colour).iter().for_each(|line| self.terminal.print(line));
        }
        self.list.push(check);
    }

    fn not_tried(&mut self, names: &[&'static str], why: &str) {
        names.iter().for_each(|name| self.add(Check::not_tried(name, why)));
    }
}

async fn examine(required: Inputs, optional: Inputs, token: bool, checks: &mut Checks<'_>) -> Result<(), Stop> {
    let started = Instant::now();
    let read = configuration::read(required, optional).await?;
    checks.add(Check::new("configuration", started.elapsed(), read.found));
    let wrong = way::because("configuration");
    match &read.addresses {
        Some(addresses) => {
            let url = read.upstream.as_ref().map(|config| client::shown(&config.url));
            let looked = machine::look(addresses, read.journal, &wrong, url.as_deref()).await;
            looked.into_iter().for_each(|check| checks.add(check));
        }
        None => checks.not_tried(&machine::NAMES, &wrong),
    }
    let way = if token { &WAY[..] } else { &WAY[..WAY.len() - 1] };
    match read.upstream {
        Some(config) => go(config, way, checks).await,
        None => checks.not_tried(way, &wrong),
    }
    Ok(())
}

/// Goes the way to the upstream, for these checks.
async fn go(config: client::Config, names: &[&'static str], checks: &mut Checks<'_>) {
    let (rest, with_token) = (&names[4..], names.len() == WAY.len());
    let way = config.way.clone();
    let has_token = config.authorization.is_sendable();
    let origin = config.authorization.secret().and_then(|secret| secret.origin()).cloned();
    let started = Instant::now();
    let upstream = match Upstream::new(config, [(Arc::from(SOURCE), Some(FROM.to_owned()))]) {
        Ok(upstream) => upstream,
        Err(error) => {
            checks.not_tried(&names[..3], &way::because("tls"));
            let found = Found::failed(error.to_string(), "`gander check` shows the key that names it");
            checks.add(Check::new("tls", started.elapsed(), found));
            return checks.not_tried(rest, &way::because("tls"));
        }
    };
    let trace = match lacks_credentials(&way) {
        true => way::without_credentials(),
        false => upstream.connector().trace().await,
    };
    way::checks(&way, &trace, WallTime::now()).into_iter().for_each(|check| checks.add(check));
    if let Err(error) = &trace.ended {
        return checks.not_tried(rest, &way::because(way::name(error.step)));
    }

    ask(&upstream, checks).await;
    if with_token {
        let started = Instant::now();
        let found = match has_token {
            true => answer::token(&send_token(&upstream, checks.terminal).await, origin.as_ref()),
            false => Found::failed(
                "it is not at hand here",
                "set the variable or file that `upstream.authorization` names, as it is for the relay",
            ),
        };
        checks.add(Check::new("token", started.elapsed(), found));
    }
}

/// Asks for the URL, and looks at this machine's clock beside the answer.
async fn ask(upstream: &Upstream, checks: &mut Checks<'_>) {
    let (asked, started) = (WallTime::now(), Instant::now());
    let answer = upstream.look().await;
    let (answered, took) = (WallTime::now(), started.elapsed());
    checks.add(Check::new("http", took, answer::http(&answer)));
    checks.add(match &answer {
        Err(_) => Check::not_tried("clock", way::because("http")),
        Ok(answer) => match answer::clock(answer.date.as_deref(), asked, answered) {
            Some(found) => Check::new("clock", Duration::ZERO, found),
            None => Check::not_tried("clock", "the upstream's answer has no `Date`"),
        },
    });
}

/// Posts an empty event with the token.
async fn send_token(upstream: &Upstream, terminal: &mut Terminal) -> Result<client::Answer, client::CallError> {
    let url = upstream.shown_url();
    terminal.say(&format!("sending the token: POST {{}} to {url}, from `{FROM}`"));
    upstream.call(&Arc::from(SOURCE), Bytes::from_static(b"{}"), None).await
}

/// A secret for the proxy is not at hand: without it the proxy would seem to refuse.
fn lacks_credentials(way: &connector::Config) -> bool {
    let Route::Through(proxy) = &way.route else { return false };
    let mut secrets = proxy.credentials.iter().chain(proxy.headers.iter().map(|(_, secret)| secret));
    secrets.any(|secret| secret.expose(|_| ()).is_none())
}

/// The checks of the way to the upstream, in their order; the last only where it is asked for.
const WAY: [&str; 7] = ["dns", "proxy", "connect", "tls", "http", "clock", "token"];
const SOURCE: &str = "doctor";
/// Callgoose puts it before the title of an incident.
const FROM: &str = "gander doctor";
