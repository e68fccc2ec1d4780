//! The `admin` section: where operators reach the relay, and how it is protected there.

use std::net::{IpAddr, SocketAddr};

use super::listen::is_off;
use super::secrets::{Direction, Use};
use super::{Reader, place_of};
use crate::admin;
use crate::yaml::{Fields, Node, Value, shown};

impl Reader<'_> {
    pub(super) fn admin(&mut self, tree: &Node, top: &mut Fields<'_>) -> Option<admin::Config> {
        let mut section = top.section_or_empty("admin", &mut self.findings);
        let place = place_of(tree, &["admin", "address"]);
        let address = self.address(&mut section, "address", "127.0.0.1:9180");
        let token_node = section.take_some("token");
        let token = token_node.map(|node| self.secret(node, "admin.token", Use::Bearer, Direction::Checked));
        let tls_node = section.take_some("tls").filter(|node| !is_off(node));
        let tls = tls_node.map(|node| match self.names_a_whole_pair(node) {
            true => self.tls(Some(node), node, "admin.tls"),
            false => None,
        });
        let insecure = section.boolean("insecure", &mut self.findings).unwrap_or(false);
        let hosts = self.hosts(&mut section);
        let trusted_proxies = self.trusted_proxies(tree, &mut section, "admin");
        section.finish(&mut self.findings);
        let address = address?;
        if !address.ip().is_loopback() {
            if token_node.is_none() {
                self.findings
                    .error(
                        place.clone(),
                        "admin.token",
                        format!("{address} can be reached from outside without a token"),
                    )
                    .help("set `token`, or use an address on loopback such as 127.0.0.1:9180");
            }
            if tls_node.is_none() && !insecure {
                self.findings
                    .error(place, "admin.tls", format!("plain HTTP on {address} would let others read the token"))
                    .help("set `tls`, use an address on loopback, or write `insecure: true` beside it");
            }
        }
        Some(admin::Config {
            address,
            token: token.map_or(Some(None), |token| token.map(Some))?,
            tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
            hosts,
            trusted_proxies,
        })
    }

    /// Of a pair both files are named, or neither: half of one would be completed by half of the senders' pair.
    fn names_a_whole_pair(&mut self, tls: &Node) -> bool {
        let [certificate, private_key] =
            ["certificate", "private_key"].map(|key| tls.get(key).is_some_and(|node| !node.is_null()));
        let (there, missing) = match (certificate, private_key) {
            (true, false) => ("certificate", "private_key"),
            (false, true) => ("private_key", "certificate"),
            _ => return true,
        };
        let message = format!("expected `{missing}` beside `{there}`, found none");
        self.findings.error(tls.place.clone(), format!("admin.tls.{missing}"), message).code("missing-key");
        false
    }

    fn hosts(&mut self, section: &mut Fields<'_>) -> Vec<String> {
        let path = section.path_of("hosts");
        let Some(node) = section.take_some("hosts") else {
            return Vec::new();
        };
        let help = "such as [gander.monitoring.svc, 192.0.2.7]: as a client names this host, without scheme and port";
        let Value::List(items) = &node.value else {
            self.error(node, &path, format!("expected a list of names, found {}", node.kind())).help(help);
            return Vec::new();
        };
        if items.len() > HOSTS_MAX {
            self.error(node, &path, format!("expected at most {HOSTS_MAX} names, found {}", items.len()));
        }
        let mut hosts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match item.as_str().filter(|text| is_host(text)) {
                Some(host) => hosts.push(host.to_owned()),
                None => {
                    let message = format!("expected a host's name or an address, found {}", shown(item, &path, &[]));
                    self.error(item, &path, message).help(help);
                }
            }
        }
        hosts
    }

    /// Two listeners on one port can't both start.
    pub(super) fn one_address_each(&mut self, tree: &Node, listen: SocketAddr, admin: SocketAddr) {
        let same_ip = listen.ip() == admin.ip() || listen.ip().is_unspecified() || admin.ip().is_unspecified();
        if listen.port() == admin.port() && listen.port() != 0 && same_ip {
            self.findings
                .error(
                    place_of(tree, &["admin", "address"]),
                    "admin.address",
                    format!("{admin} is taken by listen.address ({listen})"),
                )
                .help("give one of them another port");
        }
    }
}

/// A host as `Host` may name it: an address, or the labels of a name. A `*` would let in whatever name is made to point
/// here.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    text.parse::<IpAddr>().is_ok() || text.len() <= 253 && text.split('.').all(is_label)
}

/// Each is compared with the host of each request that names another.
const HOSTS_MAX: usize = 100;
