//! The checks of a connection to the upstream: name, proxy, connection, TLS.

use std::net::IpAddr;
use std::time::Duration;

use super::report::{Check, Found};
use crate::clock::WallTime;
use crate::delivery::connector::{
    Agreed, Config, ConnectError, Passed, Protocol, Proxy, ProxyFault, Route, Step, Trace, listed,
};
use crate::tls;

/// The checks of one connection, in the order of its steps.
pub(super) fn checks(way: &Config, trace: &Trace, now: WallTime) -> [Check; 4] {
    let look = Look { way, trace, now };
    [
        look.check("dns", look.resolve()),
        look.check("proxy", look.proxy()),
        look.check("connect", look.dial()),
        look.check("tls", look.tls()),
    ]
}

/// The name of the check that a step belongs to: the word for its failure, where there is one.
pub(super) fn name(step: Step) -> &'static str {
    match step {
        Step::Resolve => "dns",
        Step::Proxy { .. } => "proxy",
        Step::Dial => "connect",
        Step::Tls(_) => "tls",
    }
}

/// The connection that is not tried, since the proxy's credentials are not at hand.
pub(super) fn without_credentials() -> Trace {
    let step = Step::Proxy { fault: ProxyFault::Unauthorized, status: None };
    let detail = "its credentials are not at hand here".to_owned();
    Trace { passed: Vec::new(), ended: Err(ConnectError { step, detail }), took: Duration::ZERO }
}

/// Why what comes after a failed check is not tried.
pub(super) fn because(failed: &str) -> String {
    format!("`{failed}` failed")
}

struct Look<'a> {
    way: &'a Config,
    trace: &'a Trace,
    now: WallTime,
}

/// The time that a step took, and what it found; none if it was not tried.
type Seen = Option<(Duration, Found)>;

impl Look<'_> {
    fn check(&self, name: &'static str, seen: Seen) -> Check {
        match (seen, &self.trace.ended) {
            (Some((took, found)), _) => Check::new(name, took, found),
            (None, Err(error)) => Check::not_tried(name, because(self::name(error.step))),
            (None, Ok(_)) => Check::not_tried(name, "it was not needed"),
        }
    }

    fn resolve(&self) -> Seen {
        if let Some((addresses, took)) = self.passed(|passed| match passed {
            Passed::Resolve(addresses) => Some(listed(addresses)),
            _ => None,
        }) {
            let names = self.targets(|host| host.parse::<IpAddr>().is_err());
            let text = if names.is_empty() { addresses } else { format!("{names}: {addresses}") };
            return Some((took, Found::ok(text)));
        }
        self.failed("dns", |error| error.detail.clone()).or_else(|| {
            let by_proxy = self.proxied().is_some_and(|proxy| !matches!(proxy.protocol, Protocol::Socks5));
            by_proxy.then(|| (Duration::ZERO, Found::ok(format!("{}: the proxy looks it up", self.targets(|_| true)))))
        })
    }

    fn proxy(&self) -> Seen {
        let Some(proxy) = self.proxied() else {
            return Some((Duration::ZERO, Found::ok("none")));
        };
        let named_by = &proxy.named_by;
        if let Some((target, took)) = self.passed(|passed| match passed {
            Passed::Proxy(target) => Some(target.to_string()),
            _ => None,
        }) {
            return Some((took, Found::ok(format!("{proxy}, named by {named_by}, opened a tunnel to {target}"))));
        }
        self.failed("proxy", |error| format!("{}; the proxy is named by {named_by}", error.detail))
    }

    fn dial(&self) -> Seen {
        if let Some((address, took)) = self.passed(|passed| match passed {
            Passed::Dial(address) => Some(address.to_string()),
            _ => None,
        }) {
            return Some((took, Found::ok(format!("{address} takes connections"))));
        }
        let through = |passed: &Passed| matches!(passed, Passed::Proxy(_)).then_some(());
        self.failed("connect", |error| error.detail.clone())
            .or_else(|| self.passed(through).map(|_| (Duration::ZERO, Found::ok("done by the proxy"))))
    }

    fn tls(&self) -> Seen {
        let took = self.trace.took;
        match &self.trace.ended {
            Ok(None) => Some((Duration::ZERO, Found::ok("none: `upstream.url` begins with http://"))),
            Ok(Some(agreed)) => Some((took, encrypted(agreed, self.now))),
            Err(_) => self.failed("tls", |error| error.detail.clone()),
        }
    }

    fn proxied(&self) -> Option<&Proxy> {
        match &self.way.route {
            Route::Direct => None,
            Route::Through(proxy) => Some(proxy),
        }
    }

    /// The targets whose host is as wanted.
    fn targets(&self, wanted: impl Fn(&str) -> bool) -> String {
        let targets = self.way.targets.iter().filter(|target| wanted(&target.host));
        targets.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn passed<T>(&self, read: impl Fn(&Passed) -> Option<T>) -> Option<(T, Duration)> {
        self.trace.passed.iter().find_map(|(passed, took)| Some((read(passed)?, *took)))
    }

    /// The finding where the connection failed in this check.
    fn failed(&self, name: &str, text: impl FnOnce(&ConnectError) -> String) -> Seen {
        let error = self.trace.ended.as_ref().err().filter(|error| self::name(error.step) == name)?;
        Some((self.trace.took, Found::failed(text(error), error.step.trouble().remedy())))
    }
}

fn encrypted(agreed: &Agreed, now: WallTime) -> Found {
    let Agreed { version, certificates, expires_at } = agreed;
    let chain = match certificates {
        1 => "1 certificate".to_owned(),
        many => format!("{many} certificates"),
    };
    let Some(at) = *expires_at else {
        return Found::ok(format!("{version}, {chain}"));
    };
    let text = format!("{version}, {chain}, {}", expiry(at, now));
    match tls::expires_soon(at, now) {
        true => Found::warning(text, "have whoever runs the upstream renew it: an expired one pauses deliveries"),
        false => Found::ok(text),
    }
}

/// `valid until 2027-03-01 (91 days)`.
pub(super) fn expiry(at: WallTime, now: WallTime) -> String {
    let date = at.rfc3339();
    let days = at.since(now).as_secs() / 86_400;
    format!("valid until {} ({days} days)", date.get(..10).unwrap_or(&date))
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;
    use crate::callgoose::answer::HandshakeFault;
    use crate::delivery::connector::{Endpoint, TlsConfig};
    use crate::tls::{ClientFiles, ServerName};

    const NOW: WallTime = WallTime(1_764_000_000_000);
    const DAY: i64 = 86_400_000;

    fn way(route: Route) -> Config {
        let name = ServerName::try_from("callgoose.example").unwrap();
        Config {
            targets: vec![Endpoint { host: "callgoose.example".to_owned(), port: 443 }],
            route,
            tls: Some(TlsConfig { files: ClientFiles::default(), name }),
        }
    }

    fn through(protocol: Protocol) -> Route {
        Route::Through(Proxy {
            protocol,
            endpoint: Endpoint { host: "proxy".to_owned(), port: 3128 },
            credentials: None,
            headers: Vec::new(),
            named_by: "HTTPS_PROXY".to_owned(),
        })
    }

    fn trace(passed: &[Passed], ended: Result<Option<Agreed>, Step>) -> Trace {
        let took = Duration::from_millis(3);
        let passed = passed.iter().map(|passed| (passed.clone(), took)).collect();
        let ended = ended.map_err(|step| ConnectError { step, detail: "the detail".to_owned() });
        Trace { passed, ended, took }
    }

    fn agreed(days: i64) -> Agreed {
        Agreed { version: "TLS 1.3", certificates: 2, expires_at: Some(WallTime(NOW.0 + days * DAY)) }
    }

    /// A line a check: its verdict, its name, what was found.
    fn lines(way: &Config, trace: &Trace) -> Vec<String> {
        let line = |check: &Check| format!("{:?} {}: {}", check.found.verdict, check.name, check.found.text);
        checks(way, trace, NOW).iter().map(line).collect()
    }

    #[test]
    fn a_connection_that_is_made_shows_all_its_steps() {
        let addresses = vec!["192.0.2.1:443".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap()];
        let direct = [Passed::Resolve(addresses.clone()), Passed::Dial(addresses[1])];
        assert_eq!(
            lines(&way(Route::Direct), &trace(&direct, Ok(Some(agreed(91))))),
            [
                "Ok dns: callgoose.example:443: 192.0.2.1:443, [2001:db8::1]:443",
                "Ok proxy: none",
                "Ok connect: [2001:db8::1]:443 takes connections",
                "Ok tls: TLS 1.3, 2 certificates, valid until 2026-02-23 (91 days)",
            ]
        );
        let tunnel = Passed::Proxy(Endpoint { host: "callgoose.example".to_owned(), port: 443 });
        assert_eq!(
            lines(&way(through(Protocol::Http)), &trace(std::slice::from_ref(&tunnel), Ok(Some(agreed(91)))))[..3],
            [
                "Ok dns: callgoose.example:443: the proxy looks it up",
                "Ok proxy: http://proxy:3128, named by HTTPS_PROXY, opened a tunnel to callgoose.example:443",
                "Ok connect: done by the proxy",
            ]
        );
        let looked_up = [Passed::Resolve(addresses), tunnel];
        let socks = lines(&way(through(Protocol::Socks5)), &trace(&looked_up, Ok(None)));
        assert_eq!(socks[0], "Ok dns: callgoose.example:443: 192.0.2.1:443, [2001:db8::1]:443");
        assert_eq!(socks[3], "Ok tls: none: `upstream.url` begins with http://");
    }

    #[test]
    fn what_comes_after_a_failed_step_is_not_tried() {
        let address = "192.0.2.1:443".parse().unwrap();
        let (resolved, dialed) = (Passed::Resolve(vec![address]), Passed::Dial(address));
        let refused = Step::Proxy { fault: ProxyFault::Refused, status: Some(403) };
        for (route, passed, step, expected) in [
            (Route::Direct, vec![], Step::Resolve, ["Failed", "Ok", "NotTried", "NotTried"]),
            (Route::Direct, vec![resolved.clone()], Step::Dial, ["Ok", "Ok", "Failed", "NotTried"]),
            (Route::Direct, vec![resolved, dialed], Step::Tls(HandshakeFault::Expired), ["Ok", "Ok", "Ok", "Failed"]),
            (through(Protocol::Http), vec![], refused, ["Ok", "Failed", "NotTried", "NotTried"]),
            (through(Protocol::Socks5), vec![], Step::Resolve, ["Failed", "NotTried", "NotTried", "NotTried"]),
        ] {
            let checks = checks(&way(route), &trace(&passed, Err(step)), NOW);
            let verdicts = checks.clone().map(|check| format!("{:?}", check.found.verdict));
            assert_eq!(verdicts, expected, "{step:?}");
            for Check { name, took, found } in &checks {
                match found.verdict {
                    Verdict::Failed => {
                        assert_eq!(found.remedy.as_deref(), Some(step.trouble().remedy()), "{name}");
                        assert!(found.text.starts_with("the detail"), "{found:?}");
                    }
                    Verdict::NotTried => {
                        assert_eq!((took, &found.text), (&None, &because(self::name(step))), "{name}");
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn a_certificate_that_expires_soon_is_doubtful() {
        for (days, verdict) in [(30, Verdict::Ok), (9, Verdict::Warning)] {
            assert_eq!(encrypted(&agreed(days), NOW).verdict, verdict, "{days}");
        }
        let undated = Agreed { version: "TLS 1.2", certificates: 1, expires_at: None };
        assert_eq!(encrypted(&undated, NOW), Found::ok("TLS 1.2, 1 certificate"));
    }
}
