//! Follows where one HTTP/1 request ends and the next begins, and doubts what can be read in two ways.
//!
//! hyper forgives what RFC 9112 lets a server forgive: two lengths in one head, of which it drops one; lines that end in a
//! bare line feed. A proxy in front may have read the same bytes differently and seen another request in them (request
//! smuggling). The scanner reads the bytes on their way to hyper and decides nothing else: hyper parses every header and
//! body.

use http::header::{HOST, UPGRADE};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Version};

/// Follows the heads and bodies of one connection.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    state: State,
    /// The beginning of a line that has not ended yet.
    partial: Vec<u8>,
    /// The head that is being read.
    head: Head,
    /// The number of heads that began.
    heads: u64,
    /// The number of requests that hyper made of these bytes.
    requests: u64,
    doubt: Option<Doubt>,
}

/// Why a head can't be believed, and which one: the first of a connection is number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubt {
    head: u64,
    why: &'static str,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// Bytes of a body that are still to come.
    Body(u64),
    ChunkSize,
    /// Bytes of a chunk that are still to come, with the line end behind it.
    Chunk(u64),
    Trailers,
    /// Nothing that follows can be trusted.
    Lost,
}

#[derive(Debug, Default)]
struct Head {
    began: bool,
    /// The request line holds a `#`, which the parser of targets cuts off in silence.
    fragment: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Scanner {
    /// Takes the next bytes of the connection; returns the place of one at which hyper has to stumble.
    ///
    /// That is a control character in the line of a chunk's size, which hyper takes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.state == State::ChunkSize
                && let Some(at) = self.control_in_size(rest)
            {
                self.lose_from(self.heads + 1, MALFORMED_CHUNKS);
                return Some(bytes.len() - rest.len() + at);
            }
            rest = match self.state {
                State::Lost => return None,
                State::Body(left) | State::Chunk(left) => self.skip(left, rest),
                State::Head | State::ChunkSize | State::Trailers => self.line(rest),
            };
        }
        None
    }

    /// The place of a control character before the end of this line. From a carriage return on hyper looks by itself.
    fn control_in_size(&self, bytes: &[u8]) -> Option<usize> {
        let at = bytes.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t')?;
        (!matches!(bytes[at], b'\r' | b'\n') && self.partial.last() != Some(&b'\r')).then_some(at)
    }

    /// Counts a request that hyper made of these bytes; returns why it can't be believed.
    ///
    /// A request that did not begin for the scanner was read differently by hyper, and one of the two is wrong.
    pub(super) fn request(&mut self) -> Option<&'static str> {
        self.requests += 1;
        match self.doubt {
            Some(doubt) if doubt.head <= self.requests => Some(doubt.why),
            _ => (self.requests > self.heads).then_some("The request begins inside another one."),
        }
    }

    /// A head has begun and not ended.
    pub(super) fn in_head(&self) -> bool {
        self.state == State::Head && (self.head.began || !self.partial.is_empty())
    }

    fn skip<'a>(&mut self, left: u64, bytes: &'a [u8]) -> &'a [u8] {
        let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - skipped as u64;
        self.state = match self.state {
            State::Chunk(_) if left == 0 => State::ChunkSize,
            State::Chunk(_) => State::Chunk(left),
            _ if left == 0 => State::Head,
            _ => State::Body(left),
        };
        &bytes[skipped..]
    }

    /// Takes one line, or what there is of it.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        if self.state == State::Head && !self.head.began {
            self.head.fragment |= bytes[..end.unwrap_or(bytes.len())].contains(&b'#');
        }
        let Some(end) = end else {
            self.keep(bytes);
            return &[];
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.partial.is_empty() {
            self.whole_line(line);
        } else {
            self.keep(line);
            let line = std::mem::take(&mut self.partial);
            self.whole_line(&line);
        }
        rest
    }

    /// Keeps the beginning of a line, which is all that is needed of a long one, and its last byte, which tells how it ends.
    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room
            && let (Some(kept), Some(&last)) = (self.partial.last_mut(), bytes.last())
        {
            *kept = last;
        }
    }

    fn whole_line(&mut self, line: &[u8]) {
        if self.state == State::Head && !self.head.began && !matches!(line, b"" | b"\r") {
            self.head.began = true;
            self.heads += 1;
            if !line.ends_with(b"\r") {
                self.lose(BARE_LINE_FEED);
            } else if self.head.fragment {
                self.lose(FRAGMENT);
            }
            return;
        }
        let Some(line) = line.strip_suffix(b"\r") else { return self.lose(BARE_LINE_FEED) };
        match self.state {
            // Empty lines before a request are forgiven (RFC 9112, 2.2).
            State::Head if !self.head.began => {}
            State::Head if line.is_empty() => self.head_ended(),
            State::Head => self.field(line),
            State::ChunkSize => self.chunk_size(line),
            State::Trailers if line.is_empty() => self.state = State::Head,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Lost => {}
        }
    }

    fn field(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        let is_coding = name.eq_ignore_ascii_case(b"transfer-encoding");
        if (is_length || is_coding) && is_cut(line) {
            return self.lose("The request's Content-Length or Transfer-Encoding is far too long.");
        }
        if is_length {
            if self.head.length.is_some() {
                return self.lose("The request carries Content-Length twice.");
            }
            match number(value, 10) {
                Some(length) => self.head.length = Some(length),
                None => self.lose("The request's Content-Length is not a plain number."),
            }
        } else if is_coding {
            if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return self.lose("The request's Transfer-Encoding is not `chunked`, given once.");
            }
            self.head.chunked = true;
        }
    }

    fn head_ended(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.state = match (head.chunked, head.length) {
            (true, Some(_)) => return self.lose("The request carries both Content-Length and Transfer-Encoding."),
            (true, None) => State::ChunkSize,
            (false, Some(length)) if length > 0 => State::Body(length),
            (false, _) => State::Head,
        };
    }

    fn chunk_size(&mut self, line: &[u8]) {
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        match number(size.trim_ascii(), 16).filter(|_| !is_cut(size)) {
            Some(0) => self.state = State::Trailers,
            // With the line end behind the data.
            Some(size) if size < u64::MAX - 2 => self.state = State::Chunk(size + 2),
            // hyper refuses this body; whatever follows it is no request.
            _ => self.lose_from(self.heads + 1, MALFORMED_CHUNKS),
        }
    }

    fn lose(&mut self, why: &'static str) {
        self.lose_from(self.heads.max(1), why);
    }

    fn lose_from(&mut self, head: u64, why: &'static str) {
        self.state = State::Lost;
        self.doubt = Some(Doubt { head, why });
        self.partial = Vec::new();
    }
}

/// Why a head that hyper parsed can be read in two ways, or asks for what is not spoken here. `scheme` is that of the
/// connection.
pub(super) fn doubt<B>(request: &Request<B>, scheme: &Scheme) -> Option<&'static str> {
    if request.method() == Method::CONNECT {
        return Some("This is no proxy: CONNECT is not spoken here.");
    }
    if request.version() > Version::HTTP_11 {
        return http2_doubt(request, scheme);
    }
    if request.uri().authority().is_some() || request.uri().scheme().is_some() {
        return Some("This is no proxy: send the path alone, not a whole URL.");
    }
    if asks_for_another_protocol(request.headers()) {
        return Some("Only HTTP is spoken on this connection: send no Upgrade header.");
    }
    host_doubt(request.version(), request.headers())
}

/// RFC 9113, 8.3.1: the scheme is that of the connection, and there is one authority, by `:authority`, by Host or by both
/// alike. h2 refuses by itself what is malformed. Of a request without `:authority` it does not tell the scheme.
fn http2_doubt<B>(request: &Request<B>, scheme: &Scheme) -> Option<&'static str> {
    if request.uri().scheme().is_some_and(|asked| asked != scheme) {
        return Some("The request's `:scheme` is not that of this connection, which is `https` over TLS.");
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (request.uri().authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => Some(TWO_HOSTS),
        (Some(authority), None, _) => authority_doubt(authority),
        (None, Some(host), None) if !host.is_empty() => host_header_doubt(host),
        (None, _, _) => Some("The request names no host: send `:authority`."),
        (Some(authority), Some(host), _) => authority_doubt(authority)
            .or_else(|| host_header_doubt(host))
            .or_else(|| (!names(host, authority, scheme)).then_some("The request's Host is not its `:authority`.")),
    }
}

/// The size of a head as HTTP/2 counts it (RFC 9113, 6.5.2), but for the names of its pseudo-headers.
pub(super) fn head_bytes<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES);
    target + authority + fields.sum::<usize>()
}

/// `h2c` is what clients offer that speak HTTP/1.1 as well, and a server may ignore it (RFC 9110, 7.8). Whoever asks for
/// anything else waits for a protocol that never comes.
fn asks_for_another_protocol(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(UPGRADE).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    offers.map(<[u8]>::trim_ascii).any(|offer| !offer.eq_ignore_ascii_case(b"h2c"))
}

/// RFC 9112, 3.2: exactly one Host in HTTP/1.1, and a valid one.
fn host_doubt(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Some("The request carries no Host header."),
        (None, _) => None,
        (Some(_), Some(_)) => Some(TWO_HOSTS),
        (Some(host), None) if host.is_empty() => None,
        (Some(host), None) => host_header_doubt(host),
    }
}

fn host_header_doubt(host: &HeaderValue) -> Option<&'static str> {
    match Authority::try_from(host.as_bytes()) {
        Ok(authority) => authority_doubt(&authority),
        Err(_) => Some("The request's Host header is malformed."),
    }
}

/// A host is a name or an address, and perhaps a port. Whoever reads more in it may see another host.
fn authority_doubt(authority: &Authority) -> Option<&'static str> {
    if authority.as_str().contains('@') {
        return Some("The request's host carries a user name: send the name or address alone, and perhaps a port.");
    }
    let host = authority.host();
    match authority.as_str().strip_prefix(host) {
        _ if host.is_empty() => Some("The request's host is only a port."),
        Some("") => None,
        Some(port) if port.strip_prefix(':').is_some_and(is_port) => None,
        _ => Some("The request's host carries a port that is none: send a number from 1 to 65535, or no colon."),
    }
}

fn is_port(port: &str) -> bool {
    number(port.as_bytes(), 10).is_some_and(|port| (1..=65_535).contains(&port))
}

/// The Host header and the authority name one host, and one port where only one of the two names the scheme's own.
fn names(host: &HeaderValue, authority: &Authority, scheme: &Scheme) -> bool {
    let own = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(own);
    Authority::try_from(host.as_bytes())
        .is_ok_and(|host| host.host().eq_ignore_ascii_case(authority.host()) && port(&host) == port(authority))
}

/// This may be only the beginning of a longer line.
fn is_cut(line: &[u8]) -> bool {
    // Its carriage return is taken off already.
    line.len() >= LINE_BYTES - 1
}

/// A number of digits of this base and nothing else.
fn number(digits: &[u8], base: u32) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(|&byte| char::from(byte).is_digit(base)) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, base).ok()
}

const FRAGMENT: &str = "The request's target holds a `#`: what follows it is for the client alone.";
const MALFORMED_CHUNKS: &str = "The chunks of the request before are malformed.";
const TWO_HOSTS: &str = "The request carries Host twice.";
const BARE_LINE_FEED: &str = "A line of the request ends in a line feed without a carriage return.";

/// Counted for each header beside its name and value.
const FIELD_OVERHEAD_BYTES: usize = 32;

/// Longer than any line that matters here: `Transfer-Encoding: chunked`, or the longest number.
const LINE_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &str = "POST /hooks/a HTTP/1.1\r\nHost: a\r\n";

    /// Scans these bytes, however they are cut: returns heads, the doubt, whether a head is open.
    fn scanned(bytes: &str) -> (u64, Option<Doubt>, bool) {
        let whole = {
            let mut scanner = Scanner::default();
            scanner.feed(bytes.as_bytes());
            (scanner.heads, scanner.doubt, scanner.in_head())
        };
        for cut in [1, 2, 3, 7] {
            let mut scanner = Scanner::default();
            for piece in bytes.as_bytes().chunks(cut) {
                scanner.feed(piece);
            }
            assert_eq!((scanner.heads, scanner.doubt, scanner.in_head()), whole, "cut by {cut}: {bytes:?}");
        }
        whole
    }

    #[test]
    fn plain_requests_are_followed_from_head_to_head() {
        let rows = [
            ("nothing", String::new(), 0, false),
            ("half a request line", "POST /ho".into(), 0, true),
            ("half a head", POST.into(), 1, true),
            ("no body", format!("{POST}\r\n"), 1, false),
            ("two without a body", format!("{POST}\r\n{POST}\r\n"), 2, false),
            (
                "a body that looks like a head",
                format!("{POST}Content-Length: 24\r\n\r\nPOST / HTTP/1.1\r\nHost:\r\n{POST}\r\n"),
                2,
                false,
            ),
            ("half a body", format!("{POST}content-length:10\r\n\r\n12345"), 1, false),
            (
                "chunks",
                format!(
                    "{POST}Transfer-Encoding: Chunked\r\n\r\n5;x=y\r\n\n\n\n\n\n\r\n0a\r\n0123456789\r\n0\r\n\r\n{POST}\r\n"
                ),
                2,
                false,
            ),
            (
                "trailers",
                format!("{POST}transfer-encoding:chunked\r\n\r\n0\r\nX: y\r\nContent-Length: 9\r\n\r\n{POST}\r\n"),
                2,
                false,
            ),
            ("empty lines between requests", format!("\r\n{POST}\r\n\r\n\r\n{POST}\r\n"), 2, false),
            (
                "a very long chunk extension",
                format!("{POST}Transfer-Encoding: chunked\r\n\r\n1;{}\r\na\r\n0\r\n\r\n{POST}\r\n", "x".repeat(500)),
                2,
                false,
            ),
            ("a very long header", format!("{POST}X: {}\r\n\r\n{POST}\r\n", "x".repeat(5_000)), 2, false),
        ];
        for (claim, bytes, heads, in_head) in rows {
            assert_eq!(scanned(&bytes), (heads, None, in_head), "{claim}");
        }
    }

    #[test]
    fn two_readings_are_a_doubt_of_that_head() {
        let fields = [
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: -3\r\n",
            "Content-Length: 0x3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            &format!("Content-Length: {}3\r\n", "0".repeat(LINE_BYTES)),
            &format!("Transfer-Encoding: {}chunked\r\n", " ".repeat(LINE_BYTES)),
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "X: y\n",
            "X: y\nContent-Length: 3\r\n",
        ];
        for field in fields {
            let (heads, doubt, _) = scanned(&format!("{POST}{field}\r\nabc{POST}\r\n"));
            assert_eq!((heads, doubt.map(|doubt| doubt.head)), (1, Some(1)), "{field:?}");
            let (_, doubt, _) = scanned(&format!("{POST}\r\n{POST}{field}\r\nabc"));
            assert_eq!(doubt.map(|doubt| doubt.head), Some(2), "{field:?} in the second request");
        }
        let (_, doubt, _) = scanned("POST / HTTP/1.1\nHost: a\n\n");
        assert_eq!(doubt.map(|doubt| doubt.head), Some(1), "a bare line feed after the request line");
        let (_, doubt, _) = scanned(&format!("{POST}\n"));
        assert_eq!(doubt.map(|doubt| doubt.head), Some(1), "a bare line feed that ends the head");
    }

    #[test]
    fn nothing_after_malformed_chunks_is_believed() {
        let long = format!("{}5\r\nabcde\r\n", "0".repeat(LINE_BYTES));
        for chunks in
            [&*long, "5\nabcde\r\n", "\r\n", "xyz\r\n", "-1\r\n", "ffffffffffffffff\r\n", "fffffffffffffffff\r\n"]
        {
            let (_, doubt, _) = scanned(&format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunks}{POST}\r\n"));
            assert!(doubt.is_some(), "{chunks:?}");
        }
    }

    #[test]
    fn a_request_that_did_not_begin_for_the_scanner_is_not_believed() {
        let mut scanner = Scanner::default();
        scanner.feed(format!("{POST}\r\n").as_bytes());
        assert_eq!(scanner.request(), None);
        assert!(scanner.request().is_some());
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut scanner = Scanner::default();
        for _ in 0..1_000 {
            scanner.feed(&[b'x'; 1_000]);
        }
        assert!(scanner.partial.len() <= LINE_BYTES && scanner.in_head());
    }

    fn doubted(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> bool {
        let request = build(Request::builder().method("POST").uri("/hooks/a")).body(()).unwrap();
        doubt(&request, &Scheme::HTTPS).is_some()
    }

    #[test]
    fn a_head_is_doubted_for_what_it_asks() {
        assert!(!doubted(|request| request.header("host", "a.example:8443")));
        assert!(!doubted(|request| request.header("host", "[::1]:8443")));
        assert!(!doubted(|request| request.header("host", "")));
        assert!(!doubted(|request| request.version(Version::HTTP_10)));
        assert!(!doubted(|request| request.version(Version::HTTP_2).uri("https://a/hooks/a")));
        assert!(doubted(|request| request), "no Host");
        assert!(doubted(|request| request.header("host", "a").header("host", "a")));
        assert!(doubted(|request| request.version(Version::HTTP_10).header("host", "a").header("host", "b")));
        assert!(doubted(|request| request.header("host", "a b")));
        assert!(doubted(|request| request.header("host", "a/../b")));
        assert!(doubted(|request| request.header("host", "a").uri("http://a/hooks/a")));
        assert!(doubted(|request| request.header("host", "a").method("CONNECT").uri("a:1")));
        assert!(doubted(|request| request.header("host", "a").header("upgrade", "websocket")));
        assert!(doubted(|request| request.header("host", "a").header("upgrade", "h2c, websocket")));
        assert!(doubted(|request| request.header("host", "a").header("upgrade", "h2c").header("upgrade", "TLS/1.0")));
        assert!(!doubted(|request| request.header("host", "a").header("upgrade", "h2c")));
        assert!(!doubted(|request| request.header("host", "a").header("upgrade", "H2C ")));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in ["a", "a.example.", "A_b:1", "a:65535", "a:080", "192.0.2.7:80", "[2001:db8::7]", "[::1]:8443"] {
            assert!(!doubted(|request| request.header("host", host)), "{host}");
        }
        for host in
            ["user@a", "user:pass@a", "@a", "a:", "a:0", "a:65536", "a:99999", "a:abc", "a:+80", "a:-1", ":80", "a:1:2"]
        {
            assert!(doubted(|request| request.header("host", host)), "{host}");
        }
        for host in ["[::1].evil.example", "[::1]:1.evil.example", "[::1", "::1", "a/b", "a?b", "a#b", "a,b:x"] {
            assert!(doubted(|request| request.header("host", host)), "{host}");
        }
    }

    #[test]
    fn over_http_2_there_is_one_authority_and_the_scheme_of_the_connection() {
        let http2 = |uri: &str, hosts: &[&str]| {
            doubted(|request| {
                let request = request.version(Version::HTTP_2).uri(uri);
                hosts.iter().fold(request, |request, host| request.header("host", *host))
            })
        };
        assert!(!http2("https://a/hooks/a", &[]));
        assert!(!http2("https://a:8443/hooks/a", &["A:8443"]));
        assert!(!http2("https://a:443/hooks/a", &["a"]));
        assert!(!http2("/hooks/a", &["a:8443"]), "a proxy may have no authority to pass on, but a Host");
        assert!(http2("http://a/hooks/a", &[]));
        assert!(http2("ftp://a/hooks/a", &[]));
        assert!(http2("/hooks/a", &[]));
        assert!(http2("/hooks/a", &[""]));
        assert!(http2("/hooks/a", &["a:99999"]));
        assert!(http2("https://a/hooks/a", &["b"]));
        assert!(http2("https://a:8443/hooks/a", &["a:8444"]));
        assert!(http2("https://a:8443/hooks/a", &["a"]));
        assert!(http2("https://a/hooks/a", &["user@a"]));
        assert!(http2("https://a/hooks/a", &["a", "a"]));
        assert!(http2("https://user@a/hooks/a", &[]));
        assert!(http2("https://a:99999/hooks/a", &[]));
    }

    #[test]
    fn a_fragment_in_the_target_is_a_doubt_of_that_head_however_long_the_target_is() {
        for target in ["/a#b", "/#", "#", &format!("/{}#b", "a".repeat(5_000)), "/a?b=c#d"] {
            let (heads, doubt, _) = scanned(&format!("{POST}\r\nGET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!((heads, doubt.map(|doubt| doubt.head)), (2, Some(2)), "{target}");
        }
        let (_, doubt, _) = scanned("GET /a%23b HTTP/1.1\r\nHost: a\r\nX: #\r\n\r\n#".trim_end_matches('#'));
        assert_eq!(doubt, None);
    }

    #[test]
    fn hyper_stumbles_over_a_control_character_in_the_line_of_a_chunk() {
        let places = |chunks: &str, cut: usize| {
            let bytes = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunks}{POST}\r\n");
            let (mut scanner, head) = (Scanner::default(), bytes.len() - chunks.len() - POST.len() - 2);
            let pieces = bytes.as_bytes().chunks(cut).enumerate();
            let places = pieces.filter_map(|(count, piece)| Some(count * cut + scanner.feed(piece)? - head));
            (places.collect::<Vec<_>>(), scanner.doubt.is_some())
        };
        let long = format!("1;{}\0\r\na\r\n0\r\n\r\n", "x".repeat(500));
        for (chunks, place) in [
            ("1;a=\0\r\n", 4),
            ("1;a\x1fb\r\n", 3),
            ("1;\x7f\r\n", 2),
            ("1\0;a\r\n", 1),
            ("1\r\na\r\n0;\0\r\n\r\n", 8),
            (&*long, 502),
        ] {
            for cut in [1, 2, 3, 7, 10_000] {
                assert_eq!(places(chunks, cut), (vec![place], true), "{chunks:?} cut by {cut}");
            }
        }
        for chunks in ["1;a=\tb\r\n\0\r\n0\r\nX: \0\r\n\r\n", "1 ;a\r\n\0\r\n0\r\n\r\n"] {
            assert_eq!(places(chunks, 3), (vec![], false), "{chunks:?}");
        }
        // Overwritten by a line feed this would be the end of the line.
        assert_eq!(places("1\r\0\n", 1).0, Vec::<usize>::new());
    }
}
