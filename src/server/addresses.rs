//! Addresses: where a request comes from, as far as the connection and the proxies that are trusted tell it.
//!
//! Pure: a connection's header of the PROXY protocol is read by [`super::proxy_protocol`], the lists of addresses in
//! `Forwarded` and `X-Forwarded-For` by [`super::forwarded`].

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use super::forwarded::{forwarded, x_forwarded_for};
use super::proxy_header::{Problem, Told};
use super::shares::Holder;

/// The proxies before a listener. None by default: each address is that of the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Their `Forwarded` or `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<IpNet>,
    /// Every connection begins with a header of the PROXY protocol. Where `trusted_proxies` is not empty, only those may
    /// name a client by it.
    pub proxy_protocol: bool,
}

/// The address of who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub address: IpAddr,
    /// Present where a proxy stands between and does not tell who is behind it: the address is that of the proxy.
    pub doubt: Option<Doubt>,
}

/// Why a client's address is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The part of a header that counts is no address.
    Unreadable,
    /// `Forwarded` and `X-Forwarded-For` do not name the same client. One of them may be the client's own, which a proxy
    /// that writes the other passed on.
    Disagreement,
    /// The PROXY protocol told of a connection without an address.
    Untold,
}

impl Addresses {
    /// The address belongs to a proxy that is trusted.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        // On a dual-stack socket an IPv4 peer has an IPv6 address that no IPv4 network contains.
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// The holder of a connection from this address; none where it is a proxy's, through which many senders come.
    pub(super) fn holder(&self, address: IpAddr) -> Option<Holder> {
        (!self.is_trusted(address)).then(|| Holder::of(address))
    }

    /// The holder of a connection that has just been accepted; none also where a header of the PROXY protocol may still
    /// name another address than the socket's.
    pub(super) fn holder_of_socket(&self, socket: IpAddr) -> Option<Holder> {
        let is_told = self.proxy_protocol && self.trusted_proxies.is_empty();
        if is_told { None } else { self.holder(socket) }
    }

    /// The origin of a connection that began with a header of the PROXY protocol.
    pub(super) fn of_connection(&self, socket: IpAddr, told: Told) -> Result<Origin, Problem> {
        // It names nobody, so that anybody may say it: a probe of the proxy does, and `gander send`.
        if told == Told::Local {
            return Ok(Origin::known(socket));
        }
        if !self.trusted_proxies.is_empty() && !self.is_trusted(socket) {
            return Err(Problem::Untrusted);
        }
        match told {
            Told::Source(address) => Ok(Origin::known(address)),
            Told::Local | Told::Nothing => Ok(Origin { address: socket, doubt: Some(Doubt::Untold) }),
        }
    }

    /// The origin of a request: the connection's, or the one that a trusted proxy names in a header.
    ///
    /// Where both headers are there they must lead to the same address. Taking one of them would let a client choose its
    /// address, where the proxy writes the other and passes this one on.
    pub fn of_request(&self, connection: Origin, headers: &HeaderMap) -> Origin {
        if connection.doubt.is_some() || !self.is_trusted(connection.address) {
            return connection;
        }
        let walk = |nodes| self.walk(connection.address, nodes);
        match (forwarded(headers).map(walk), x_forwarded_for(headers).map(walk)) {
            (None, None) => connection,
            (Some(only), None) | (None, Some(only)) => only,
            (Some(one), Some(other)) if one == other => one,
            (Some(_), Some(_)) => Origin { doubt: Some(Doubt::Disagreement), ..connection },
        }
    }

    /// The first address that is no trusted proxy's, from the last hop back. Of what is left of it nobody who is trusted
    /// has seen anything.
    fn walk(&self, connection: IpAddr, nodes: Box<dyn Iterator<Item = Option<IpAddr>> + '_>) -> Origin {
        let mut origin = Origin::known(connection);
        for node in nodes {
            let Some(address) = node else {
                return Origin { doubt: Some(Doubt::Unreadable), ..origin };
            };
            origin.address = address;
            if !self.is_trusted(address) {
                break;
            }
        }
        origin
    }
}

impl Origin {
    pub fn known(address: IpAddr) -> Origin {
        Origin { address, doubt: None }
    }
}

impl Doubt {
    /// The fault, and what to do, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Doubt::Unreadable => {
                "what the proxy wrote into Forwarded or X-Forwarded-For is no address: let it write the client's"
            }
            Doubt::Disagreement => {
                "Forwarded and X-Forwarded-For name different clients: let the proxy write one and remove the other"
            }
            Doubt::Untold => "the proxy told no address of this connection in its PROXY header",
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn trusting(networks: &[&str]) -> Addresses {
        let trusted_proxies = networks.iter().map(|network| network.parse().unwrap()).collect();
        Addresses { trusted_proxies, proxy_protocol: true }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Lines of headers, written `f: …` and `x: …` for short.
    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name = if name == "f" { "forwarded" } else { "x-forwarded-for" };
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    /// Trusted are 10.0.0.0/8 and 2001:db8:1::/48; the connection comes from 10.0.0.1.
    #[test]
    fn the_client_is_the_first_address_from_the_right_that_is_no_trusted_proxys() {
        let addresses = trusting(&["10.0.0.0/8", "2001:db8:1::/48"]);
        let unreadable = Some(Doubt::Unreadable);
        for (lines, address, doubt) in [
            (&[][..], "10.0.0.1", None),
            // One header.
            (&["x: 203.0.113.7"], "203.0.113.7", None),
            (&["f: for=203.0.113.7"], "203.0.113.7", None),
            // What stands left of the client is the client's own word.
            (&["x: 192.0.2.1, 203.0.113.7"], "203.0.113.7", None),
            (&["x: garbage\", 203.0.113.7"], "203.0.113.7", None),
            (&["f: for=192.0.2.1, for=203.0.113.7"], "203.0.113.7", None),
            // Trusted proxies are walked past; where all are, the request began at the farthest.
            (&["x: 203.0.113.7, 10.2.3.4, 2001:db8:1::5"], "203.0.113.7", None),
            (&["x: 10.2.3.4, 10.0.0.9"], "10.2.3.4", None),
            // Several lines are one list.
            (&["x: 192.0.2.1", "x: 203.0.113.7, 10.0.0.2", "x: 10.0.0.3"], "203.0.113.7", None),
            (&["f: for=203.0.113.7", "f: for=10.0.0.3"], "203.0.113.7", None),
            // What can't be read ends the walk at the last proxy that is known.
            (&["x: unknown"], "10.0.0.1", unreadable),
            (&["x: "], "10.0.0.1", unreadable),
            (&["x: 203.0.113.7, "], "10.0.0.1", unreadable),
            (&["x: 203.0.113.7, unknown, 10.0.0.2"], "10.0.0.2", unreadable),
            (&["f: for=_hidden"], "10.0.0.1", unreadable),
            (&["f: for=203.0.113.7, for=unknown"], "10.0.0.1", unreadable),
            (&["f: proto=https"], "10.0.0.1", unreadable),
            (&["f: for=\"203.0.113.7"], "10.0.0.1", unreadable),
            (&["f: for=\"", "f: for=203.0.113.7"], "203.0.113.7", None),
            // Both headers.
            (&["f: for=203.0.113.7", "x: 203.0.113.7"], "203.0.113.7", None),
            (&["f: for=192.0.2.1, for=203.0.113.7", "x: 203.0.113.7"], "203.0.113.7", None),
            (&["f: for=192.0.2.1", "x: 203.0.113.7"], "10.0.0.1", Some(Doubt::Disagreement)),
            (&["f: for=unknown", "x: 203.0.113.7"], "10.0.0.1", Some(Doubt::Disagreement)),
            (&["f: for=unknown", "x: unknown"], "10.0.0.1", unreadable),
        ] {
            let found = addresses.of_request(Origin::known(ip("10.0.0.1")), &headers(lines));
            assert_eq!(found, Origin { address: ip(address), doubt }, "{lines:?}");
        }
    }

    #[test]
    fn headers_of_a_stranger_are_not_looked_at() {
        let lines = headers(&["x: 203.0.113.7", "f: for=203.0.113.7"]);
        for (networks, connection) in [(&[][..], "10.0.0.1"), (&["10.0.0.0/8"], "192.0.2.1"), (&["10.0.0.0/8"], "::1")]
        {
            let connection = Origin::known(ip(connection));
            assert_eq!(trusting(networks).of_request(connection, &lines), connection);
        }
        let mapped = Origin::known(ip("::ffff:10.0.0.1"));
        assert_eq!(trusting(&["10.0.0.0/8"]).of_request(mapped, &lines), Origin::known(ip("203.0.113.7")));
        let untold = Origin { address: ip("10.0.0.1"), doubt: Some(Doubt::Untold) };
        assert_eq!(trusting(&["10.0.0.0/8"]).of_request(untold, &lines), untold, "whoever it is may have written them");
    }

    #[test]
    fn a_connection_is_its_clients_share_as_soon_as_it_is_known_whose_it_is() {
        let (proxy, client) = (ip("10.0.0.1"), ip("203.0.113.7"));
        let anybody = trusting(&[]);
        assert_eq!([proxy, client].map(|socket| anybody.holder_of_socket(socket)), [None; 2], "the header tells it");
        assert_eq!(anybody.holder(client), Some(Holder::of(client)));
        for proxy_protocol in [true, false] {
            let addresses = Addresses { proxy_protocol, ..trusting(&["10.0.0.0/8"]) };
            assert_eq!(addresses.holder_of_socket(proxy), None);
            assert_eq!(addresses.holder(proxy), None, "many come through it");
            assert_eq!(addresses.holder_of_socket(client), Some(Holder::of(client)), "it may name nobody else");
        }
    }

    #[test]
    fn a_header_of_the_proxy_protocol_is_believed_of_the_proxies_that_are_named() {
        let (told, socket) = (Told::Source(ip("203.0.113.7")), ip("10.0.0.1"));
        let client = Ok(Origin::known(ip("203.0.113.7")));
        let untold = Ok(Origin { address: socket, doubt: Some(Doubt::Untold) });
        for (networks, told, expected) in [
            (&[][..], told, client),
            (&["10.0.0.0/8"], told, client),
            (&["192.0.2.0/24"], told, Err(Problem::Untrusted)),
            (&["192.0.2.0/24"], Told::Nothing, Err(Problem::Untrusted)),
            (&["192.0.2.0/24"], Told::Local, Ok(Origin::known(socket))),
            (&["10.0.0.0/8"], Told::Local, Ok(Origin::known(socket))),
            (&["10.0.0.0/8"], Told::Nothing, untold),
        ] {
            assert_eq!(trusting(networks).of_connection(socket, told), expected, "{networks:?} {told:?}");
        }
    }

    #[test]
    fn a_list_as_long_as_a_head_may_be_is_walked_to_its_end() {
        let long = format!("x: 203.0.113.7{}", ", 10.0.0.9".repeat(1_600));
        let client = Origin::known(ip("203.0.113.7"));
        let connection = Origin::known(ip("10.0.0.1"));
        assert_eq!(trusting(&["10.0.0.0/8"]).of_request(connection, &headers(&[&long])), client);
        let commas = format!("x: {}", ",".repeat(16_000));
        let found = trusting(&["10.0.0.0/8"]).of_request(connection, &headers(&[&commas]));
        assert_eq!(found.doubt, Some(Doubt::Unreadable));
    }
}
