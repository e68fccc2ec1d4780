//! The `upstream` section: where events go, how the upstream knows us, and how hard it is tried.

use std::net::IpAddr;
use std::time::Duration;

use http::Uri;

use super::secrets::Direction;
use super::{Reader, place_of};
use crate::credential::Credential;
use crate::delivery::client::Config;
use crate::delivery::dispatcher;
use crate::delivery::retry;
use crate::delivery::staleness;
use crate::event::Superseded;
use crate::yaml::{Fields, Node, fields};

impl Reader<'_> {
    pub(super) fn upstream(
        &mut self,
        top: &mut Fields<'_>,
        stale: Option<staleness::Settings>,
        superseded: Superseded,
    ) -> Option<(Config, dispatcher::Config)> {
        let node = top.require("upstream", &mut self.findings)?;
        let mut section = Fields::of(node, "upstream", &mut self.findings)?;
        let url = section.require("url", &mut self.findings).and_then(|node| self.url(node));
        let authorization = self.authorization(&mut section);
        let timeout = section.duration_within("timeout", MOMENT..=Duration::from_secs(600), &mut self.findings);
        let concurrency = section.integer("concurrency", 1..=1_024, &mut self.findings).unwrap_or(16);
        let (per_second, burst, limit) = self.rate_limit(&mut section, 20, 40);
        limit.finish(&mut self.findings);
        let retry = self.retry(node, &mut section);
        let mut tls = section.section_or_empty("tls", &mut self.findings);
        let ca = tls.file("ca", &mut self.findings);
        if let Some(ca) = &ca {
            self.roots(ca, place_of(node, &["tls", "ca"]), "upstream.tls.ca");
        }
        tls.refuse(&["client_certificate", "client_key"], &mut self.findings);
        tls.finish(&mut self.findings);
        let breaker = self.breaker(&mut section);
        section.refuse(&["proxy"], &mut self.findings);
        section.finish(&mut self.findings);
        let concurrency = usize::try_from(concurrency).ok()?;
        let config = Config {
            url: url?,
            authorization: authorization?,
            timeout: timeout.unwrap_or(Duration::from_secs(10)),
            ca,
            concurrency,
        };
        Some((config, dispatcher::Config { concurrency, per_second, burst, retry, breaker, stale, superseded }))
    }

    fn url(&mut self, node: &Node) -> Option<Uri> {
        const PATH: &str = "upstream.url";
        const HELP: &str = "such as https://sqibs.callgoose.com/sqibs-api/v1/process";
        let text = fields::string(node, PATH, &mut self.findings)?;
        let Some(uri) = text.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty())) else {
            self.error(node, PATH, "this is not a URL").help(HELP);
            return None;
        };
        if !matches!(uri.scheme_str(), Some("https" | "http")) {
            self.error(node, PATH, "expected a URL that begins with https:// or http://").help(HELP);
            return None;
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            self.error(node, PATH, "a URL here carries no user name or password")
                .help("write the token as `authorization: { bearer: { env: NAME } }`");
            return None;
        }
        if text.contains(['?', '#']) {
            self.error(node, PATH, "a URL here ends with its path").help(
                "`from` is a key of the source; a token is written as \
                 `authorization: { query: { name: token, secret: { env: NAME } } }` or, better, `bearer`",
            );
            return None;
        }
        if uri.port().is_some_and(|port| port.as_str().parse::<u16>().is_ok_and(|port| port == 0)) {
            self.error(node, PATH, "port 0 can't be connected to").help(HELP);
            return None;
        }
        if uri.scheme_str() == Some("http") && !uri.host().is_some_and(is_loopback) {
            self.findings
                .warning(node.place.clone(), PATH, "token and alerts travel unencrypted by http://")
                .help("use https:// unless this is a proxy on a network of your own");
        }
        Some(uri)
    }

    fn authorization(&mut self, section: &mut Fields<'_>) -> Option<Credential> {
        let node = section.require("authorization", &mut self.findings)?;
        let credential = self.credential(node, "upstream.authorization", Direction::Sent)?;
        if matches!(&credential, Credential::Query { name, .. } if name == "from") {
            let place = place_of(node, &["query", "name"]);
            self.findings
                .error(place, "upstream.authorization.query.name", "`from` is the parameter that names the sender")
                .help("Callgoose reads a token from the parameter `token`");
            return None;
        }
        Some(credential)
    }

    fn retry(&mut self, around: &Node, section: &mut Fields<'_>) -> retry::Settings {
        let mut section = section.section_or_empty("retry", &mut self.findings);
        let place = match section.has("initial") {
            true => place_of(around, &["retry", "initial"]),
            false => place_of(around, &["retry", "max"]),
        };
        let findings = &mut self.findings;
        let initial = section.duration_within("initial", MOMENT..=HOUR, findings).unwrap_or(Duration::from_millis(500));
        let factor = section.number("factor", 1.0..=10.0, findings).unwrap_or(2.0);
        let max = section.duration_within("max", MOMENT..=24 * HOUR, findings).unwrap_or(Duration::from_secs(60));
        let give_up_after = section.duration_within("give_up_after", MOMENT..=365 * 24 * HOUR, findings);
        let mut again = section.section_or_empty("unresolved", findings);
        let attempts = again.integer("attempts", 0..=20, findings).unwrap_or(3);
        let over = again.duration_within("over", MOMENT..=HOUR, findings).unwrap_or(Duration::from_secs(300));
        again.finish(findings);
        section.finish(findings);
        if initial > max {
            findings
                .error(
                    place,
                    "upstream.retry",
                    format!(
                        "`initial` ({}) is longer than `max` ({})",
                        fields::spell_duration(initial),
                        fields::spell_duration(max)
                    ),
                )
                .help("the first wait is `initial`, and it grows up to `max`");
        }
        let unresolved = retry::Unresolved { attempts: u32::try_from(attempts).unwrap_or(3), over };
        retry::Settings { initial, factor, max, give_up_after: give_up_after.unwrap_or(24 * HOUR), unresolved }
    }

    fn breaker(&mut self, section: &mut Fields<'_>) -> dispatcher::Breaker {
        let mut section = section.section_or_empty("breaker", &mut self.findings);
        let findings = &mut self.findings;
        let failures = section.integer("failures", 1..=1_000, findings).unwrap_or(5);
        let open = section.duration_within("open", MOMENT..=HOUR, findings).unwrap_or(Duration::from_secs(10));
        section.finish(findings);
        dispatcher::Breaker { failures: u32::try_from(failures).unwrap_or(5), open }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The shortest wait that is one.
const MOMENT: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
