//! The `admin` section: where operators reach the relay, and how it is protected there.

use std::net::SocketAddr;

use super::listen::is_off;
use super::secrets::{Direction, Use};
use super::{Reader, place_of};
use crate::admin;
use crate::yaml::{Fields, Node};

impl Reader<'_> {
    pub(super) fn admin(&mut self, tree: &Node, top: &mut Fields<'_>) -> Option<admin::Config> {
        let mut section = top.section_or_empty("admin", &mut self.findings);
        let place = place_of(tree, &["admin", "address"]);
        let address = self.address(&mut section, "address", "127.0.0.1:9180");
        let token_node = section.take_some("token");
        let token = token_node.map(|node| self.secret(node, "admin.token", Use::Bearer, Direction::Checked));
        let tls_node = section.take_some("tls").filter(|node| !is_off(node));
        let tls = tls_node.map(|node| self.tls(Some(node), node, "admin.tls"));
        let insecure = section.boolean("insecure", &mut self.findings).unwrap_or(false);
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
        })
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
