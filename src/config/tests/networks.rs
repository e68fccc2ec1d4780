//! The proxies before the listeners.

use super::*;

/// The base with a line more under `listen`.
fn with(line: &str) -> String {
    BASE.replace("  max_body: 1MiB\n", &format!("  max_body: 1MiB\n  {line}\n"))
}

#[test]
fn proxies_are_trusted_where_they_are_listed_and_a_header_is_asked_for_where_it_is_required() {
    let listen = with("trusted_proxies: [10.1.2.3/8, '2001:db8::7']\n  proxy_protocol: required");
    let Loaded { config, warnings, .. } =
        Desk::new(&format!("{listen}admin: {{ trusted_proxies: [127.0.0.1] }}\n")).load();
    assert!(warnings.is_empty(), "{}", warnings.render(false));
    let addresses = config.listen.addresses;
    let shown: Vec<_> = addresses.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!((shown, addresses.proxy_protocol), (vec!["10.0.0.0/8".into(), "2001:db8::7/128".into()], true));
    assert_eq!(config.admin.trusted_proxies, ["127.0.0.1/32".parse().unwrap()]);

    // What reaches loopback is on this machine.
    let local = with("proxy_protocol: required");
    assert!(Desk::new(&local).load().warnings.is_empty());

    let off = Desk::new(&with("trusted_proxies: []\n  proxy_protocol: 'off'")).load().config;
    assert_eq!(off.listen.addresses, crate::server::Addresses::default());
}

#[test]
fn a_proxy_that_is_no_network_and_trust_in_everybody_are_told() {
    let open = with("proxy_protocol: required").replace("address: 127.0.0.1:8443", "address: 0.0.0.0:8443");
    assert_eq!(
        listed(&Desk::new(&open).findings()),
        [
            "4:19 listen.proxy_protocol: whoever reaches 0.0.0.0:8443 may choose its address: no proxy is named (list the addresses of the load balancers alone in `listen.trusted_proxies`, or listen on loopback)"
        ]
    );
    for (listen, expected) in [
        (
            "trusted_proxies: 10.0.0.0/8",
            "4:20 listen.trusted_proxies: expected a list of networks, found a string (such as [10.0.0.0/8, 2001:db8::/32]; an empty list means none)",
        ),
        (
            "trusted_proxies: [proxy.example]",
            "4:21 listen.trusted_proxies[0]: expected a network in CIDR notation or an address, found a string (such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32)",
        ),
        (
            "trusted_proxies: [0.0.0.0/0]",
            "4:20 listen.trusted_proxies: 0.0.0.0/0 trusts everybody: whoever sends may choose its address (list the addresses of the proxies alone)",
        ),
        (
            "proxy_protocol: optional",
            "4:19 listen.proxy_protocol: expected one of off, required, found a string (valid here: off, required)",
        ),
    ] {
        let findings = Desk::new(&with(listen)).findings();
        assert_eq!(listed(&findings), [expected]);
    }
}
