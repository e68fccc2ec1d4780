//! The `upstream` section: where events go, how the upstream knows us, and how hard it is tried.

use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use http::uri::Authority;

use super::{Reader, place_of};
use crate::credential::Credential;
use crate::delivery::client::Config;
use crate::delivery::connector::{self, Endpoint, Route};
use crate::delivery::dispatcher;
use crate::delivery::retry;
use crate::delivery::staleness;
use crate::event::Superseded;
use crate::tls;
use crate::yaml::{Fields, Node, Place, Value, fields, shown};

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
        let breaker = self.breaker(&mut section);
        let insecure = section.boolean("insecure", &mut self.findings).unwrap_or(false);
        let way = self.way(node, &mut section, url.as_ref());
        if let Some(way) = way.as_ref().filter(|way| way.tls.is_none() && !insecure) {
            self.stays_here(way, place_of(node, &["url"]));
        }
        section.finish(&mut self.findings);
        let concurrency = usize::try_from(concurrency).ok()?;
        let config = Config {
            url: url?,
            authorization: authorization?,
            timeout: timeout.unwrap_or(Duration::from_secs(10)),
            concurrency,
            way: way?,
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
        if uri.path() == "/" {
            self.findings
                .note(node.place.clone(), PATH, "this URL has no path, and Callgoose takes events below one")
                .code("url-without-path")
                .help(HELP);
        }
        if endpoint_of(&uri).is_none() {
            self.error(node, PATH, "expected a host, and a port from 1 to 65535 or none").help(HELP);
            return None;
        }
        Some(uri)
    }

    /// Without TLS nothing may leave this machine.
    fn stays_here(&mut self, way: &connector::Config, place: Place) {
        let proxy = match &way.route {
            Route::Direct => None,
            Route::Through(proxy) => Some(&proxy.endpoint),
        };
        if !way.targets.iter().chain(proxy).all(|endpoint| is_loopback(&endpoint.host)) {
            self.findings
                .error(place, "upstream.url", "token and alerts would travel unencrypted by http://")
                .help("use https://, or write `insecure: true` beside it for a network of your own");
        }
    }

    /// The targets, the proxy and the TLS on the way to them.
    fn way(&mut self, around: &Node, section: &mut Fields<'_>, url: Option<&Uri>) -> Option<connector::Config> {
        let tls = self.upstream_tls(around, section, url);
        let addresses = self.addresses(section);
        let route = self.route(section, url);
        let targets = match addresses? {
            addresses if !addresses.is_empty() => addresses,
            _ => vec![endpoint_of(url?)?],
        };
        let is_https = url?.scheme_str() == Some("https");
        if let Some(node) = around.get("tls").filter(|node| !is_https && !node.is_null()) {
            let message = "this has no effect: `upstream.url` begins with http://";
            self.findings.note(node.place.clone(), "upstream.tls", message).help("write https://, or take it out");
        }
        Some(connector::Config { targets, route: route?, tls: if is_https { Some(tls?) } else { None } })
    }

    fn upstream_tls(
        &mut self,
        around: &Node,
        section: &mut Fields<'_>,
        url: Option<&Uri>,
    ) -> Option<connector::TlsConfig> {
        const PATH: &str = "upstream.tls";
        let node = around.get("tls").unwrap_or(around);
        let mut section = section.section_or_empty("tls", &mut self.findings);
        let ca = section.file("ca", &mut self.findings);
        let certificate = section.file("client_certificate", &mut self.findings);
        let private_key = section.file("client_key", &mut self.findings);
        let server_name = section.string("server_name", &mut self.findings);
        let only_tls13 = section.take_some("min_version").and_then(|node| self.only_tls13(node)).unwrap_or(false);
        section.finish(&mut self.findings);
        if let Some(ca) = &ca {
            self.roots(ca, place_of(node, &["ca"]), "upstream.tls.ca");
        }
        let pair = match (certificate, private_key) {
            (Some(certificate), Some(private_key)) => Some(tls::Pair { certificate, private_key }),
            (None, None) => None,
            (certificate, _) => {
                let (there, missing) = match certificate {
                    Some(_) => ("client_certificate", "client_key"),
                    None => ("client_key", "client_certificate"),
                };
                self.findings
                    .error(
                        place_of(node, &[there]),
                        format!("{PATH}.{there}"),
                        format!("`{missing}` is missing beside it"),
                    )
                    .help("a certificate is shown with the key that belongs to it");
                None
            }
        };
        if let Some(pair) = &pair {
            self.client_pair(pair, node, PATH);
        }
        let is_given = server_name.is_some();
        let host = server_name.or_else(|| Some(endpoint_of(url?)?.host))?;
        let name = tls::ServerName::try_from(host).ok();
        if name.is_none() && (is_given || url.is_some_and(|url| url.scheme_str() == Some("https"))) {
            let (place, path) = match is_given {
                true => (place_of(node, &["server_name"]), "upstream.tls.server_name"),
                false => (place_of(around, &["url"]), "upstream.url"),
            };
            self.findings
                .error(place, path, "no certificate can be for this name")
                .help("expected a host name or an IP address");
        }
        let name = name.or_else(|| tls::ServerName::try_from("unnamed").ok())?;
        Some(connector::TlsConfig { files: tls::ClientFiles { ca, pair, only_tls13 }, name })
    }

    /// YAML reads 1.3 as a number unless it is quoted.
    fn only_tls13(&mut self, node: &Node) -> Option<bool> {
        let text = match &node.value {
            Value::Number(number) => Node::new(Value::String(number.to_string()), node.place.clone()),
            _ => node.clone(),
        };
        fields::choice(&text, "upstream.tls.min_version", &[("1.2", false), ("1.3", true)], &mut self.findings)
    }

    /// Empty if the URL's own host is meant.
    fn addresses(&mut self, section: &mut Fields<'_>) -> Option<Vec<Endpoint>> {
        const PATH: &str = "upstream.addresses";
        let Some(node) = section.take_some("addresses") else { return Some(Vec::new()) };
        let Value::List(items) = &node.value else {
            self.error(node, PATH, format!("expected a list, found {}", node.kind())).help(ADDRESS_HELP);
            return None;
        };
        if items.len() > ADDRESSES_MAX {
            let message = format!("expected at most {ADDRESSES_MAX} addresses, found {}", items.len());
            self.error(node, PATH, message);
            return None;
        }
        let read = items.iter().enumerate().map(|(index, node)| {
            let endpoint = node.as_str().and_then(|text| endpoint_in(text, None));
            if endpoint.is_none() {
                let path = format!("{PATH}[{index}]");
                let message = format!("expected a host and a port, found {}", shown(node, &path, &[]));
                self.error(node, &path, message).help(ADDRESS_HELP);
            }
            endpoint
        });
        read.collect::<Vec<_>>().into_iter().collect()
    }

    fn authorization(&mut self, section: &mut Fields<'_>) -> Option<Credential> {
        let node = section.require("authorization", &mut self.findings)?;
        let credential = self.credential(node, "upstream.authorization")?;
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

    fn breaker(&mut self, section: &mut Fields<'_>) -> dispatcher::BreakerConfig {
        let mut section = section.section_or_empty("breaker", &mut self.findings);
        let findings = &mut self.findings;
        let failures = section.integer("failures", 1..=1_000, findings).unwrap_or(5);
        let open = section.duration_within("open", MOMENT..=HOUR, findings).unwrap_or(Duration::from_secs(10));
        section.finish(findings);
        dispatcher::BreakerConfig { failures: u32::try_from(failures).unwrap_or(5), open }
    }
}

/// The host and port of a URL.
fn endpoint_of(url: &Uri) -> Option<Endpoint> {
    let port = if url.scheme_str() == Some("http") { 80 } else { 443 };
    endpoint_in(url.authority()?.as_str(), Some(port))
}

/// `HOST:PORT`, where the port may be left out if there is a default; an IPv6 address stands in brackets.
pub(super) fn endpoint_in(text: &str, default_port: Option<u16>) -> Option<Endpoint> {
    let authority: Authority = text.parse().ok().filter(|_| !text.contains('@'))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = match authority.as_str().len() > authority.host().len() {
        true => authority.port_u16().filter(|port| *port != 0),
        false => default_port,
    };
    let is_name = (1..=HOST_BYTES_MAX).contains(&host.len());
    is_name.then_some(Endpoint { host: host.to_owned(), port: port? })
}

pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

const ADDRESS_HELP: &str = "write [10.0.0.1:443, egress.example:443]; an IPv6 address as '[::1]:443'";
/// The longest name that DNS knows.
const HOST_BYTES_MAX: usize = 253;
/// More are not tried for one connection.
const ADDRESSES_MAX: usize = 16;

/// The shortest wait that is one.
const MOMENT: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
