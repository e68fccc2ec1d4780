//! The header of the PROXY protocol, version 2, with which a proxy begins a connection to tell whose it is.
//!
//! The text is HAProxy's `proxy-protocol.txt`, section 2.2. Written here rather than taken from a crate: those there are
//! read from a whole buffer, also version 1 and all extensions, where the relay needs the one address, and to know at each
//! byte how many more belong to the header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The state of a header that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on: so many bytes are there to be read in all before more can be told, and not one too many.
    Needs(usize),
    /// It was read.
    Whole(Told),
}

/// The content of a header: the client's address, or that it tells none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The proxy speaks for itself, as a probe: the socket's address counts.
    Local,
    /// The address of who called the proxy.
    Source(IpAddr),
    /// A connection of another kind, such as a Unix socket.
    Nothing,
}

/// Why a connection is refused before its first byte of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It left without a byte.
    Silent,
    /// It ended within the header.
    Cut,
    /// The header did not come in time.
    Late,
    /// It begins otherwise, perhaps with TLS.
    Missing,
    /// Version 1, which is text.
    Version1,
    /// It breaks the protocol; the text says how.
    Malformed(&'static str),
    TooLong,
    /// It names a client, and comes from none of `trusted_proxies`.
    Untrusted,
}

/// Reads the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Result<Progress, Problem> {
    let signature = &bytes[..bytes.len().min(SIGNATURE.len())];
    if !SIGNATURE.starts_with(signature) {
        return match (bytes.starts_with(VERSION_1), VERSION_1.starts_with(bytes)) {
            (true, _) => Err(Problem::Version1),
            (_, true) => Ok(Progress::Needs(VERSION_1.len())),
            _ => Err(Problem::Missing),
        };
    }
    let Some((&[version_and_command, family_and_transport, high, low], rest)) =
        bytes.get(SIGNATURE.len()..).and_then(|after| after.split_first_chunk())
    else {
        return Ok(Progress::Needs(START_BYTES));
    };
    if version_and_command >> 4 != 2 {
        return Err(Problem::Malformed("it is of an unknown version"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > BLOCK_BYTES_MAX {
        return Err(Problem::TooLong);
    }
    let Some(block) = rest.get(..length) else {
        return Ok(Progress::Needs(START_BYTES + length));
    };
    match version_and_command & 0x0f {
        // What else it says of itself does not count.
        0 => Ok(Progress::Whole(Told::Local)),
        1 => source(family_and_transport, block).map(Progress::Whole),
        _ => Err(Problem::Malformed("it has an unknown command")),
    }
}

/// The source in the addresses at the front of the block; extensions behind them are skipped.
fn source(family_and_transport: u8, block: &[u8]) -> Result<Told, Problem> {
    const SHORT: Problem = Problem::Malformed("it is too short for its addresses");
    let (family, transport) = (family_and_transport >> 4, family_and_transport & 0x0f);
    if family > UNIX || transport > DATAGRAM {
        return Err(Problem::Malformed("it has an unknown family or transport"));
    }
    let address: IpAddr = match family {
        INET if block.len() < 12 => return Err(SHORT),
        INET => Ipv4Addr::from(*block.first_chunk::<4>().ok_or(SHORT)?).into(),
        INET6 if block.len() < 36 => return Err(SHORT),
        INET6 => Ipv6Addr::from(*block.first_chunk::<16>().ok_or(SHORT)?).into(),
        UNIX if block.len() < 216 => return Err(SHORT),
        _ => return Ok(Told::Nothing),
    };
    // The addresses of a transport that the proxy does not name are not to be used.
    Ok(if transport == UNSPECIFIED { Told::Nothing } else { Told::Source(address.to_canonical()) })
}

/// A header that says that the connection is of the one who made it.
pub const LOCAL: [u8; START_BYTES] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_1: &[u8] = b"PROXY ";
/// Signature, version and command, family and transport, length.
const START_BYTES: usize = 16;

/// Of addresses and extensions together. Of extensions real proxies send some hundred bytes; a client's certificate is the
/// longest.
pub(super) const BLOCK_BYTES_MAX: usize = 4 * 1024;

const UNSPECIFIED: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const DATAGRAM: u8 = 2;

impl Problem {
    /// The fault, and what to do, for the log.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Problem::Silent => "it left without a word, as a probe does",
            Problem::Cut => "the connection ended within the PROXY header",
            Problem::Late => "the PROXY header did not come within `listen.header_timeout`",
            Problem::Missing => {
                "`listen.proxy_protocol` is required, and the connection begins without a PROXY header: let the proxy \
                 send version 2 (HAProxy: send-proxy-v2), or connect through it"
            }
            Problem::Version1 => {
                "the PROXY header is of version 1: let the proxy send version 2 (HAProxy: send-proxy-v2)"
            }
            Problem::Malformed(how) => how,
            Problem::TooLong => "the PROXY header is longer than 4 KiB: let the proxy send fewer extensions",
            Problem::Untrusted => "the PROXY header names a client, and its sender is not in `listen.trusted_proxies`",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header with this version and command, family and transport, and block.
    fn header(version_and_command: u8, family_and_transport: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_and_command, family_and_transport], &length, block].concat()
    }

    fn inet(source: [u8; 4]) -> Vec<u8> {
        [&source[..], &[10, 0, 0, 2, 0xd4, 0x31, 0x20, 0xfb]].concat()
    }

    #[test]
    fn a_header_tells_the_source_of_its_connection() {
        let (v4, client) = (inet([203, 0, 113, 7]), "203.0.113.7".parse().unwrap());
        let six: IpAddr = "2001:db8::7".parse().unwrap();
        let IpAddr::V6(source) = six else { unreachable!() };
        let v6 = [&source.octets()[..], &[0; 20]].concat();
        let mapped = [&Ipv4Addr::new(203, 0, 113, 7).to_ipv6_mapped().octets()[..], &[0; 20]].concat();
        let extensions = [&v4[..], &[0x04, 0, 1, 9, 0xe2, 0, 0]].concat();
        let short = Err(Problem::Malformed("it is too short for its addresses"));
        for (bytes, expected) in [
            (header(0x21, 0x11, &v4), Ok(Told::Source(client))),
            (header(0x21, 0x12, &v4), Ok(Told::Source(client))),
            (header(0x21, 0x11, &extensions), Ok(Told::Source(client))),
            (header(0x21, 0x21, &v6), Ok(Told::Source(six))),
            (header(0x21, 0x21, &mapped), Ok(Told::Source(client))),
            (header(0x21, 0x11, &[&v4[..], &vec![0; BLOCK_BYTES_MAX - 12]].concat()), Ok(Told::Source(client))),
            // Without an address that could be used.
            (header(0x21, 0x00, &[]), Ok(Told::Nothing)),
            (header(0x21, 0x00, &v4), Ok(Told::Nothing)),
            (header(0x21, 0x10, &v4), Ok(Told::Nothing)),
            (header(0x21, 0x31, &[b'/'; 216]), Ok(Told::Nothing)),
            // The proxy for itself, whatever else it says.
            (header(0x20, 0x00, &[]), Ok(Told::Local)),
            (header(0x20, 0x11, &v4), Ok(Told::Local)),
            (header(0x20, 0xff, &[1, 2, 3]), Ok(Told::Local)),
            // Against the protocol.
            (header(0x21, 0x11, &v4[..11]), short),
            (header(0x21, 0x21, &v6[..35]), short),
            (header(0x21, 0x31, &[b'/'; 215]), short),
            (header(0x21, 0x41, &v4), Err(Problem::Malformed("it has an unknown family or transport"))),
            (header(0x21, 0x13, &v4), Err(Problem::Malformed("it has an unknown family or transport"))),
            (header(0x22, 0x11, &v4), Err(Problem::Malformed("it has an unknown command"))),
            (header(0x11, 0x11, &v4), Err(Problem::Malformed("it is of an unknown version"))),
            (header(0x21, 0x11, &[0; BLOCK_BYTES_MAX + 1]), Err(Problem::TooLong)),
        ] {
            assert_eq!(parse(&bytes), expected.map(Progress::Whole), "{bytes:?}");
        }
        assert_eq!(parse(&LOCAL), Ok(Progress::Whole(Told::Local)));
    }

    #[test]
    fn another_beginning_is_told_at_its_first_byte_and_version_1_by_its_name() {
        for (bytes, expected) in [
            (&b""[..], Ok(Progress::Needs(16))),
            (b"\r\n\r\n", Ok(Progress::Needs(16))),
            (b"\x16", Err(Problem::Missing)),
            (b"GET / HTTP/1.1\r\n", Err(Problem::Missing)),
            (b"\r\n\r\n\0\r\nQUIT\r", Err(Problem::Missing)),
            (b"P", Ok(Progress::Needs(6))),
            (b"POST", Err(Problem::Missing)),
            (b"PROXY TCP4 203.0.113.7 10.0.0.2 54321 8443\r\n", Err(Problem::Version1)),
            (b"PROXY ", Err(Problem::Version1)),
            (b"PROXY", Ok(Progress::Needs(6))),
        ] {
            assert_eq!(parse(bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        /// Read as the reader does, by what is needed, a header takes all its bytes and none of what follows.
        #[test]
        fn exactly_the_header_is_taken(
            source in any::<[u8; 4]>(),
            extensions in prop::collection::vec(any::<u8>(), 0..300),
            pieces in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let whole = header(0x21, 0x11, &[inet(source), extensions].concat());
            let stream = [&whole[..], b"\x16\x03\x01"].concat();
            let (mut read, mut pieces) = (0, pieces.into_iter().cycle());
            let told = loop {
                match parse(&stream[..read]).unwrap() {
                    Progress::Needs(bytes) => {
                        prop_assert!(bytes > read, "it goes on");
                        read += pieces.next().unwrap().min(bytes - read);
                    }
                    Progress::Whole(told) => break told,
                }
            };
            prop_assert_eq!(read, whole.len());
            prop_assert_eq!(told, Told::Source(Ipv4Addr::from(source).into()));
        }
    }
}
