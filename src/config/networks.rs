//! Networks: who may send, and the proxies before a listener.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Reader, place_of};
use crate::server::Addresses;
use crate::yaml::{Fields, Node, Value, shown};

impl Reader<'_> {
    /// A list of networks and addresses; `empty` says what an empty one means.
    pub(super) fn networks(&mut self, section: &mut Fields<'_>, name: &'static str, empty: &str) -> Vec<IpNet> {
        let path = section.path_of(name);
        let Some(node) = section.take_some(name) else {
            return Vec::new();
        };
        let Value::List(items) = &node.value else {
            self.error(node, &path, format!("expected a list of networks, found {}", node.kind()))
                .help(format!("such as [10.0.0.0/8, 2001:db8::/32]; {empty}"));
            return Vec::new();
        };
        let mut networks = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let text = item.as_str().unwrap_or_default();
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            match network {
                Ok(network) => networks.push(network.trunc()),
                Err(_) => {
                    let message =
                        format!("expected a network in CIDR notation or an address, found {}", shown(item, &path, &[]));
                    self.error(item, &path, message).help("such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32");
                }
            }
        }
        networks
    }

    /// The proxies before a listener, whose `section` has this name.
    pub(super) fn trusted_proxies(&mut self, tree: &Node, section: &mut Fields<'_>, name: &str) -> Vec<IpNet> {
        const KEY: &str = "trusted_proxies";
        let (path, place) = (section.path_of(KEY), place_of(tree, &[name, KEY]));
        let trusted = self.networks(section, KEY, "an empty list means none");
        if let Some(all) = trusted.iter().find(|network| network.prefix_len() == 0) {
            self.findings
                .warning(place, path, format!("{all} trusts everybody: whoever sends may choose its address"))
                .code("doubtful")
                .help("list the addresses of the proxies alone");
        }
        trusted
    }

    /// The proxies before `listen`, which tell the addresses of senders.
    pub(super) fn sender_addresses(
        &mut self,
        tree: &Node,
        section: &mut Fields<'_>,
        listen: Option<SocketAddr>,
    ) -> Addresses {
        const KEY: &str = "proxy_protocol";
        let trusted_proxies = self.trusted_proxies(tree, section, "listen");
        let (path, place) = (section.path_of(KEY), place_of(tree, &["listen", KEY]));
        let proxy_protocol = section.choice(KEY, &PROXY_PROTOCOL, &mut self.findings).unwrap_or(false);
        if proxy_protocol
            && trusted_proxies.is_empty()
            && let Some(listen) = listen.filter(|listen| !listen.ip().is_loopback())
        {
            let message = format!("whoever reaches {listen} may choose its address: no proxy is named");
            self.findings.warning(place, path, message).code("doubtful").help(
                "list the addresses of the load balancers alone in `listen.trusted_proxies`, or listen on loopback",
            );
        }
        Addresses { trusted_proxies, proxy_protocol }
    }
}

const PROXY_PROTOCOL: [(&str, bool); 2] = [("off", false), ("required", true)];
