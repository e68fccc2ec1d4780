//! The checks of this machine: running relay, data directory, disk, addresses, certificates.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::report::{Check, Found, Verdict};
use super::way::expiry;
use crate::admin;
use crate::advice::readiness::{NO_DETAILS, degradation, degraded};
use crate::cli::client::Client;
use crate::cli::terminal::quoted;
use crate::clock::WallTime;
use crate::config::Addresses;
use crate::journal::{self, OpenError, Outlook, Size, TooSmall};
use crate::relay::bind_remedy;
use crate::tls::{self, Warning};

/// Looks at what the relay uses on this machine. `wrong`: why there is no `journal`, if there is none; `url`: where this
/// configuration delivers to.
pub(super) async fn look(
    addresses: &Addresses,
    journal: Option<journal::Config>,
    wrong: &str,
    url: Option<&str>,
) -> Vec<Check> {
    let Addresses { listen, admin } = addresses;
    let [listening, managing] = [listen.address, admin.address].map(|address| timed(|| bind(address)));
    let used = match journal.clone() {
        Some(config) => in_time(move || journal::is_used(&config.data_dir)).await.flatten(),
        None => None,
    };
    let started = Instant::now();
    let (runs, found) = relay(admin, &managing.0, used, url).await;
    let mut checks = vec![Check::new("relay", started.elapsed(), found)];
    let record = journal.as_ref().map(|config| tls::Record::in_directory(&config.data_dir));
    match journal {
        Some(config) => {
            let of_disk = config.clone();
            checks.push(within("data_dir", move || data_dir(&config.data_dir, used, runs)).await);
            checks.push(within("disk", move || disk(&of_disk)).await);
        }
        None => checks.extend(["data_dir", "disk"].map(|name| Check::not_tried(name, wrong))),
    }
    for (name, address, (bound, took)) in
        [("listen.address", listen.address, listening), ("admin.address", admin.address, managing)]
    {
        checks.push(Check::new(name, took, listener(address, &bound, runs)));
    }
    let record = record.as_ref();
    match listen.tls.clone() {
        Some(tls) => checks.push(within("listen.tls", look_at(tls, record)).await),
        None => checks.push(Check::new("listen.tls", Duration::ZERO, Found::ok("off: senders speak plain HTTP"))),
    }
    if let Some(tls) = admin.tls.clone() {
        checks.push(within("admin.tls", look_at(tls, record)).await);
    }
    checks
}

/// Asks the relay that may run, and tells whether one does. `bound`: whether its admin address can be bound.
async fn relay(admin: &admin::Config, bound: &io::Result<()>, used: Option<bool>, url: Option<&str>) -> (bool, Found) {
    let address = admin.address;
    if address.port() == 0 {
        return (false, Found::ok("not asked: `admin.address` has port 0"));
    }
    if bound.is_ok() {
        let found = match used {
            Some(true) => Found::warning(
                format!("none answers at {address}, and another process uses `data_dir`"),
                "a relay with another `admin.address` may run, or one in another container",
            ),
            _ => Found::ok(format!("none runs: nobody listens at {address}")),
        };
        return (false, found);
    }
    let mut admin = admin.clone();
    // `/readyz` needs no token, and says more with it.
    admin.token = admin.token.filter(|token| token.expose(|_| ()).is_some());
    let late = |_| Err("no answer in time".to_owned());
    let asked = async {
        let client = Client::admin(&admin)?;
        let answer = timeout(LIMIT, client.get("/readyz")).await.unwrap_or_else(late)?;
        // Without the token there is no answer to this.
        let status = timeout(LIMIT, client.get("/api/v1/status")).await.unwrap_or_else(late);
        Ok::<_, String>((answer, status.ok().and_then(|answer| answer.json()).unwrap_or_default()))
    };
    match asked.await {
        Ok((answer, status)) => {
            let (runs, found) = readiness(address, answer.status.as_u16(), &answer.json().unwrap_or_default());
            (runs, beside(found, &status, url))
        }
        Err(problem) if is_used(bound) => (false, Found::failed(problem, OTHER)),
        Err(_) => (false, Found::ok(format!("none answers at {address}"))),
    }
}

/// The finding on a relay by its own answer.
fn readiness(address: SocketAddr, status: u16, body: &Value) -> (bool, Found) {
    let Some(ready) = body["ready"].as_bool() else {
        return (false, Found::failed(format!("what answers at {address} ({status}) is no relay"), OTHER));
    };
    let entries = degraded(body);
    let what: Vec<String> = entries.iter().map(|entry| degradation(entry)[0].clone()).collect();
    let named = |entry: &Value| Some(format!("{}: {}", entry["reason"].as_str()?, entry["remedy"].as_str()?));
    let remedies: Vec<String> = entries.iter().filter_map(named).collect();
    let remedy = remedies.join("\n");
    let state = if ready { "takes events" } else { "does not take events" };
    let text = match what.is_empty() {
        true => format!("runs at {address}, and {state}"),
        false => format!("runs at {address}, and {state}; {}", what.join("; ")),
    };
    let found = match (ready, what.is_empty()) {
        (true, true) if body["degraded"].is_null() => Found::warning(format!("{text}; no more is told"), NO_DETAILS),
        (true, true) => Found::ok(text),
        (true, false) => Found::warning(text, remedy),
        (false, true) => Found::failed(text, "it is stopping: wait, or start it again"),
        (false, false) => Found::failed(text, remedy),
    };
    (true, found)
}

/// A finding on the relay, with more where it was started with another `upstream.url` than `url`: what is tried after this is not its way.
fn beside(found: Found, status: &Value, url: Option<&str>) -> Found {
    let (Some(theirs), Some(ours)) = (status["upstream"]["url"].as_str(), url) else { return found };
    if theirs == ours {
        return found;
    }
    let remedy = format!(
        "what is tried below is the way to {ours}: `gander doctor --set {}` tries the relay's; a restart without `--set` \
         and variables of its own has it take this one",
        quoted(&format!("upstream.url={theirs}"))
    );
    let remedies = found.remedy.into_iter().chain([remedy]).collect::<Vec<_>>().join("\n");
    let text = format!("{}; it delivers to {theirs}, and this configuration says {ours}", found.text);
    match found.verdict {
        Verdict::Failed => Found::failed(text, remedies),
        _ => Found::warning(text, remedies),
    }
}

fn data_dir(directory: &Path, used: Option<bool>, runs: bool) -> Found {
    let shown = directory.display();
    let note = match journal::inspect(directory) {
        Ok(note) => note.map(|note| format!("; {note}")).unwrap_or_default(),
        Err(OpenError { path, problem, remedy }) => {
            return Found::failed(format!("{}: {problem}", path.display()), remedy);
        }
    };
    let exists = directory.exists();
    match used {
        Some(true) if !runs => Found::warning(
            format!("{shown}: another process uses it{note}"),
            "if it is another relay, stop it, or give this one a `data_dir` of its own",
        ),
        // Nothing tells that it is the one that answers at `admin.address`.
        Some(true) => Found::ok(format!("{shown}: a running relay uses it{note}")),
        Some(false) if runs => Found::warning(
            format!("{shown}: the relay that runs does not use it{note}"),
            "it runs by another configuration, or was started in another directory: run this as it was started",
        ),
        _ if exists => Found::ok(format!("{shown}: no relay uses it{note}")),
        _ => Found::ok(format!("{shown}: the start makes it{note}")),
    }
}

fn disk(config: &journal::Config) -> Found {
    let Some(Outlook { volume, free, needed }) = journal::outlook(config) else {
        return Found::ok("the file system does not tell its size");
    };
    let text = format!("{} free of {}", Size(free), Size(volume));
    if free < needed {
        return Found::failed(
            format!("{text}, and {} must be free for events to be taken", Size(needed)),
            "make room on the volume of `data_dir`, or give it a larger one",
        );
    }
    match journal::too_small(config) {
        Some(TooSmall { needed, max_bytes, .. }) => Found::warning(
            format!("{text}, and the journal may need {}, with its log and the reserve", Size(needed)),
            format!("set `journal.max_bytes` to {} or less, or give `data_dir` a larger volume", Size(max_bytes)),
        ),
        None => Found::ok(text),
    }
}

/// Binds an address and lets go of it. Nothing listens there meanwhile, so that nobody is answered, and a relay that
/// starts is not kept from it.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

fn is_used(bound: &io::Result<()>) -> bool {
    bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn listener(address: SocketAddr, bound: &io::Result<()>, runs: bool) -> Found {
    match bound {
        _ if address.port() == 0 => Found::ok(format!("{address}: any free port")),
        Ok(()) if runs => Found::warning(
            format!("{address} is free, and a relay runs"),
            "it was started with another address: restart it to have this one",
        ),
        Ok(()) => Found::ok(format!("{address} is free")),
        Err(_) if runs && is_used(bound) => Found::ok(format!("{address}: the running relay listens there")),
        // It may be allowed to the relay's user.
        Err(error) if runs && error.kind() == io::ErrorKind::PermissionDenied => {
            Found::ok(format!("{address} is not for this user to bind, and a relay runs"))
        }
        Err(error) => Found::failed(format!("can't listen on {address}: {error}"), bind_remedy(error.kind())),
    }
}

fn look_at(config: tls::Config, record: Option<&tls::Record>) -> impl FnOnce() -> Found + Send + 'static {
    let record = record.cloned();
    move || certificate(&config, record.as_ref(), WallTime::now())
}

/// The pairs of a listener.
fn certificate(config: &tls::Config, record: Option<&tls::Record>, now: WallTime) -> Found {
    let file = config.certificate.display();
    if let Some(Err(error)) = record.map(|record| record.refuse_where_another_was_served(config)) {
        return Found::failed(error.to_string(), "put the pair back from a backup, or have it issued again");
    }
    let (served, warnings) = match tls::Served::load(config.clone(), now) {
        Ok(loaded) => loaded,
        Err(tls::Error::PairMissing { .. }) if config.self_signed => {
            return Found::ok(format!("{file} does not exist: the start makes a self-signed pair"));
        }
        Err(error) => return Found::failed(error.to_string(), "put a pair there that the relay's user can read"),
    };
    if warnings.is_empty() {
        let ends = served.in_use(now).into_iter().filter(|one| !one.is_client_ca).map(|one| one.expiry.at);
        let until = ends.min().map(|at| format!(", {}", expiry(at, now)));
        return Found::ok(format!("{file}{}", until.unwrap_or_default()));
    }
    let text = warnings.iter().map(Warning::problem).collect::<Vec<_>>().join("; ");
    let remedy = warnings.iter().map(Warning::remedy).collect::<Vec<_>>().join("\n");
    let is_refused = |warning: &Warning| matches!(warning, Warning::Expired { .. } | Warning::NotYetValid { .. });
    match warnings.iter().any(is_refused) {
        true => Found::failed(text, remedy),
        false => Found::warning(text, remedy),
    }
}

/// Looks at files for a check.
async fn within(name: &'static str, look: impl FnOnce() -> Found + Send + 'static) -> Check {
    let started = Instant::now();
    let found = in_time(look).await.unwrap_or_else(unanswered);
    Check::new(name, started.elapsed(), found)
}

/// The result of work with files, which may be on a file system that does not answer; none at the limit.
pub(super) async fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    timeout(LIMIT, spawn_blocking(work)).await.ok()?.ok()
}

pub(super) fn unanswered() -> Found {
    Found::failed(
        format!("no answer within {} s", LIMIT.as_secs()),
        "a file system does not answer: look at the mounts of the files that the configuration names",
    )
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    (work(), started.elapsed())
}

/// The checks of this room, where none is tried.
pub(super) const NAMES: [&str; 6] = ["relay", "data_dir", "disk", "listen.address", "admin.address", "listen.tls"];
/// For each look at this machine.
const LIMIT: Duration = Duration::from_secs(10);
const OTHER: &str = "what uses `admin.address` is no relay with this configuration: stop it, or choose another port";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 8443))
    }

    #[test]
    fn a_relay_is_what_it_says_of_itself() {
        let entry = |reason: &str| json!({ "reason": reason, "since": "2026-01-02T03:04:05Z", "remedy": format!("fix {reason}") });
        for (body, runs, verdict, text, remedy) in [
            (json!({ "ready": true, "degraded": [] }), true, Verdict::Ok, "takes events", None),
            (
                json!({ "ready": true, "degraded": [entry("held"), entry("breaker_open")] }),
                true,
                Verdict::Warning,
                "held since 2026-01-02 03:04 UTC; breaker_open since",
                Some("held: fix held\nbreaker_open: fix breaker_open"),
            ),
            (
                json!({ "ready": false, "degraded": [entry("journal")] }),
                true,
                Verdict::Failed,
                "does not take events; journal since",
                Some("journal: fix journal"),
            ),
            (
                json!({ "ready": false, "degraded": [] }),
                true,
                Verdict::Failed,
                "does not take events",
                Some("it is stopping: wait, or start it again"),
            ),
            (json!({ "ready": true }), true, Verdict::Warning, "no more is told", Some(NO_DETAILS)),
            (json!("hello"), false, Verdict::Failed, "is no relay", Some(OTHER)),
        ] {
            let (found_runs, found) = readiness(address(), 200, &body);
            assert_eq!((found_runs, found.verdict, found.remedy.as_deref()), (runs, verdict, remedy), "{body}");
            assert!(found.text.contains(text), "{found:?}");
        }
    }

    #[test]
    fn a_relay_that_delivers_elsewhere_is_told_from_this_configuration() {
        let status = json!({ "upstream": { "url": "http://127.0.0.1:8090/v1" } });
        let well = || Found::ok("runs");
        assert_eq!(beside(well(), &status, Some("http://127.0.0.1:8090/v1")), well());
        assert_eq!(beside(well(), &json!({}), Some("https://callgoose.example/v1")), well(), "it does not tell");
        let found = beside(well(), &status, Some("https://callgoose.example/v1"));
        assert_eq!(found.verdict, Verdict::Warning);
        let told = "it delivers to http://127.0.0.1:8090/v1, and this configuration says https://callgoose.example/v1";
        assert!(found.text.ends_with(told), "{found:?}");
        let remedy = found.remedy.unwrap();
        assert!(remedy.contains("`gander doctor --set 'upstream.url=http://127.0.0.1:8090/v1'`"), "{remedy}");
        let failed = beside(Found::failed("does not take events", "make room"), &status, Some("https://x/"));
        assert_eq!((failed.verdict, failed.remedy.unwrap().lines().next()), (Verdict::Failed, Some("make room")));
    }

    #[test]
    fn an_address_is_free_or_the_relays_or_another_ones() {
        let bound = |kind: Option<io::ErrorKind>| kind.map_or(Ok(()), |kind| Err(kind.into()));
        let (used, denied) = (Some(io::ErrorKind::AddrInUse), Some(io::ErrorKind::PermissionDenied));
        for (kind, runs, verdict, text) in [
            (None, false, Verdict::Ok, "127.0.0.1:8443 is free"),
            (None, true, Verdict::Warning, "127.0.0.1:8443 is free, and a relay runs"),
            (used, true, Verdict::Ok, "127.0.0.1:8443: the running relay listens there"),
            (used, false, Verdict::Failed, "can't listen on 127.0.0.1:8443: address in use"),
            (denied, true, Verdict::Ok, "127.0.0.1:8443 is not for this user to bind, and a relay runs"),
            (denied, false, Verdict::Failed, "can't listen on 127.0.0.1:8443: permission denied"),
        ] {
            let found = listener(address(), &bound(kind), runs);
            assert_eq!((found.verdict, found.text.as_str()), (verdict, text));
        }
    }

    #[test]
    fn an_address_that_is_looked_at_can_be_listened_on_at_the_same_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        assert!(std::net::TcpListener::bind(address).is_ok(), "a relay starts meanwhile");
    }

    #[test]
    fn a_data_directory_is_there_or_will_be_and_is_used_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(data_dir(&data, Some(false), false).text.ends_with("data: the start makes it"));
        std::fs::create_dir(&data).unwrap();
        assert!(data_dir(&data, Some(false), false).text.ends_with("data: no relay uses it"));
        let used = data_dir(&data, Some(true), true);
        assert!(used.verdict == Verdict::Ok && used.text.ends_with("data: a running relay uses it"), "{used:?}");
        for (used, runs) in [(Some(true), false), (Some(false), true)] {
            assert_eq!(data_dir(&data, used, runs).verdict, Verdict::Warning, "{used:?} {runs}");
        }
        std::fs::write(data.join("theirs"), "").unwrap();
        let found = data_dir(&data, Some(false), false);
        assert!(found.verdict == Verdict::Failed && found.remedy.is_some(), "{found:?}");
    }

    #[test]
    fn a_certificate_that_is_refused_fails_and_one_that_will_be_is_doubtful() {
        let folder = tempfile::tempdir().unwrap();
        let config = |self_signed| tls::Config {
            certificate: folder.path().join("server.pem"),
            private_key: folder.path().join("server.key"),
            self_signed,
            ..tls::Config::default()
        };
        let now = WallTime::now();
        assert!(certificate(&config(true), None, now).text.ends_with("the start makes a self-signed pair"));
        assert_eq!(certificate(&config(false), None, now).verdict, Verdict::Failed);
        tls::make_missing_pair(&config(true), now).unwrap().unwrap();
        let end = tls::Served::load(config(true), now).unwrap().0.in_use(now)[0].expiry.at;
        for (at, verdict, words) in [
            (now.0, Verdict::Ok, "server.pem, valid until "),
            (end.0 - 86_400_000, Verdict::Warning, "expires at"),
            (end.0 + 86_400_000, Verdict::Failed, "expired at"),
        ] {
            let found = certificate(&config(true), None, WallTime(at));
            assert!(found.verdict == verdict && found.text.contains(words), "{found:?}");
        }
    }
}
