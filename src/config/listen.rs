//! The `listen` section: where senders reach the relay, by which certificate, within which limits. Addresses of `admin`
//! are read alike.

use std::net::SocketAddr;
use std::time::Duration;

use super::Reader;
use crate::inbound;
use crate::server;
use crate::shutdown::DRAIN;
use crate::yaml::{Fields, Node, Value, fields, shown};

impl Reader<'_> {
    pub(super) fn listen(&mut self, tree: &Node, top: &mut Fields<'_>) -> Option<inbound::Config> {
        let around = tree.get("listen").unwrap_or(tree);
        let mut section = top.section_or_empty("listen", &mut self.findings);
        let address = self.address(&mut section, "address", "0.0.0.0:8443");
        let tls_node = section.take_some("tls");
        let off = tls_node.is_some_and(is_off);
        let tls = if off { None } else { self.tls(tls_node, around, "listen.tls") };
        let insecure = section.boolean("insecure", &mut self.findings).unwrap_or(false);
        if let (Some(node), Some(address)) = (tls_node, address)
            && off
            && !insecure
            && !address.ip().is_loopback()
        {
            self.error(node, "listen.tls", format!("plain HTTP on {address} would let others read tokens and alerts"))
                .help("remove `tls: off`, listen on 127.0.0.1, or write `insecure: true` beside it");
        }
        let findings = &mut self.findings;
        let body_bytes_max = section.size_within("max_body", 64..=64 << 20, findings).unwrap_or(1 << 20);
        let connections_max = section.integer("max_connections", 1..=1_000_000, findings).unwrap_or(10_000);
        let connections_of_address_max = self.of_address(&mut section);
        let findings = &mut self.findings;
        let header_timeout = section.duration_within("header_timeout", WAIT, findings);
        let body_timeout = section.duration_within("body_timeout", WAIT, findings);
        let idle_timeout = section.duration_within("idle_timeout", WAIT, findings);
        let connection_age_max = section.duration_within("max_connection_age", AGE, findings);
        let addresses = self.sender_addresses(tree, &mut section, address);
        section.finish(&mut self.findings);
        Some(inbound::Config {
            address: address?,
            tls: if off { None } else { Some(tls?) },
            limits: server::Limits {
                connections_max: usize::try_from(connections_max).ok()?,
                connections_of_address_max,
                header_timeout: header_timeout.unwrap_or(Duration::from_secs(10)),
                idle_timeout: idle_timeout.unwrap_or(Duration::from_secs(75)),
                // Answers are small: a sender that takes none of one for so long is gone, or holds the connection on purpose.
                write_timeout: Duration::from_secs(10),
                drain_timeout: DRAIN,
                connection_age_max: connection_age_max.unwrap_or(Duration::from_secs(3_600)),
            },
            addresses,
            bodies: inbound::BodyLimits {
                bytes_max: usize::try_from(body_bytes_max).ok()?,
                timeout: body_timeout.unwrap_or(Duration::from_secs(10)),
            },
        })
    }

    /// `max_connections_per_address`; none where it is `auto`.
    fn of_address(&mut self, section: &mut Fields<'_>) -> Option<usize> {
        let path = section.path_of("max_connections_per_address");
        let node = section.take_some("max_connections_per_address")?;
        let number = match &node.value {
            Value::Number(number) => number.as_u64().filter(|number| (1..=1_000_000).contains(number)),
            _ if node.as_str() == Some("auto") => return None,
            _ => None,
        };
        if number.is_none() {
            let found = shown(node, &path, &["auto"]);
            self.error(node, &path, format!("expected auto, or a whole number from 1 to 1000000, found {found}")).help(
                "auto: as many as there is room for; where there is none, who has most gives way. Behind NAT or a proxy \
                 many senders have one address",
            );
        }
        number.and_then(|number| usize::try_from(number).ok())
    }

    /// An IP address and a port.
    pub(super) fn address(
        &mut self,
        section: &mut Fields<'_>,
        name: &'static str,
        default: &str,
    ) -> Option<SocketAddr> {
        let path = section.path_of(name);
        let Some(node) = section.take_some(name) else {
            return default.parse().ok();
        };
        // A port alone is a number.
        let text = match &node.value {
            Value::Number(number) => number.to_string(),
            _ => fields::string(node, &path, &mut self.findings)?,
        };
        let parsed = text.parse();
        if parsed.is_err() {
            let message = format!("expected an IP address and a port, found {}", shown(node, &path, &[]));
            let finding = self.error(node, &path, message);
            let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(&text);
            let is_local = text.starts_with("localhost:") || default.starts_with("127.");
            match port.parse::<u16>() {
                Ok(port) if is_local => finding.help(format!("write 127.0.0.1:{port}")),
                Ok(port) => finding.help(format!("write 0.0.0.0:{port} or [::]:{port}")),
                Err(_) => finding.help(format!("such as {default}")),
            };
        }
        parsed.ok()
    }
}

/// `tls: off`, which YAML 1.2 reads as text.
pub(super) fn is_off(node: &Node) -> bool {
    node.as_str() == Some("off")
}

/// The time that a sender may make the relay wait: none is no wait, an hour is a leak.
const WAIT: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// The age of a connection: younger ones are mostly handshakes, older ones outlive certificates.
const AGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3_600);
