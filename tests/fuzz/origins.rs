//! Clients' addresses, as proxies tell them: `Forwarded`, `X-Forwarded-For` and the PROXY protocol.

use std::net::IpAddr;

use gander::exports::server::{Addresses, Origin, Progress, parse_proxy_header};
use http::{HeaderMap, HeaderValue};

/// Each line of an input is one of the header.
pub fn forwarded(input: &[u8]) -> String {
    // As a proxy adds what it saw: a pair of its own.
    walked("forwarded", input, |address| match address {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    })
}

/// Each line of an input is one of the header.
pub fn x_forwarded_for(input: &[u8]) -> String {
    walked("x-forwarded-for", input, |address| address.to_string())
}

fn walked(name: &'static str, input: &[u8], written: fn(IpAddr) -> String) -> String {
    let addresses = Addresses {
        trusted_proxies: ["10.0.0.0/8", "2001:db8:1::/48"].map(|network| network.parse().unwrap()).to_vec(),
        proxy_protocol: false,
    };
    let lines = input.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = lines.map(|line| (http::HeaderName::from_static(name), line)).collect();
    let proxy: IpAddr = "10.0.0.1".parse().unwrap();
    let of = |connection, headers: &HeaderMap| addresses.of_request(Origin::known(connection), headers);

    let found = of(proxy, &headers);
    if found.doubt.is_some() {
        assert!(addresses.is_trusted(found.address), "a doubt names another than a proxy: {found:?}");
    }
    let stranger: IpAddr = "192.0.2.9".parse().unwrap();
    assert_eq!(of(stranger, &headers), Origin::known(stranger), "a stranger is believed");
    // Whatever a client wrote, a line of the proxy itself decides; on the same line it decides, or nothing does.
    for client in ["203.0.113.99", "2001:db8:9::99"].map(|text| text.parse::<IpAddr>().unwrap()) {
        let mut added = headers.clone();
        added.append(name, HeaderValue::from_str(&written(client)).unwrap());
        assert_eq!(of(proxy, &added), Origin::known(client), "a client chose its address");
        if let Some(last) = headers.get_all(name).iter().next_back() {
            let line = [last.as_bytes(), b", ", written(client).as_bytes()].concat();
            let mut joined = HeaderMap::new();
            joined.insert(name, HeaderValue::from_bytes(&line).unwrap());
            let found = of(proxy, &joined);
            let decided = found == Origin::known(client);
            assert!(
                decided || found.doubt.is_some() && found.address == proxy,
                "a client chose its address: {found:?}"
            );
        }
    }
    // Through one more proxy that is trusted nothing changes.
    let mut further = headers.clone();
    further.append(name, HeaderValue::from_str(&written("10.9.9.9".parse().unwrap())).unwrap());
    if !headers.is_empty() && found.address != proxy {
        assert_eq!(of(proxy, &further), found);
    }
    format!("{:?} {}", found.doubt, addresses.is_trusted(found.address))
}

/// The beginning of a connection.
pub fn proxy_header(input: &[u8]) -> String {
    // As the reader does: no more than is needed, a byte at a time, to the first answer.
    let mut read = 0;
    loop {
        let answer = parse_proxy_header(&input[..read]);
        match answer {
            Ok(Progress::Needs(bytes)) => {
                assert!(bytes > read && bytes <= 16 + 4 * 1024, "it needs {bytes} after {read}");
                if read == input.len() {
                    return "more is needed".to_owned();
                }
                read += 1;
            }
            Ok(Progress::Whole(_)) => {
                let length = usize::from(u16::from_be_bytes([input[14], input[15]]));
                assert_eq!(read, 16 + length, "a header takes what is not its own");
                return format!("{answer:?}").chars().filter(char::is_ascii_alphabetic).collect();
            }
            Err(problem) => return format!("{problem:?}"),
        }
    }
}
