//! The lists of addresses that proxies write: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each hop adds the address of who called it at the right end. Several lines of a header are one list.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use http::header::FORWARDED;

/// The addresses of a list from its right end, None for each that can't be read.
pub(super) type Nodes<'a> = Box<dyn Iterator<Item = Option<IpAddr>> + 'a>;

/// The list of `Forwarded`; none without the header.
pub(super) fn forwarded(headers: &HeaderMap) -> Option<Nodes<'_>> {
    let lines = headers.get_all(FORWARDED).iter().rev();
    let nodes = lines.flat_map(|line| elements(line.as_bytes()).into_iter().rev());
    headers.contains_key(FORWARDED).then(|| Box::new(nodes) as Nodes<'_>)
}

/// The list of `X-Forwarded-For`; none without the header. Ports, as some add them, and brackets are read over.
pub(super) fn x_forwarded_for(headers: &HeaderMap) -> Option<Nodes<'_>> {
    let elements =
        headers.get_all(X_FORWARDED_FOR).iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let nodes = elements.map(|element| {
        let text = std::str::from_utf8(element).ok()?.trim_matches(BLANK);
        node(text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text))
    });
    headers.contains_key(X_FORWARDED_FOR).then(|| Box::new(nodes) as Nodes<'_>)
}

/// The `for` of each element of a line of `Forwarded`, in its order. A line that does not keep to the grammar has one
/// element, which can't be read: nobody can tell which part of it the last hop wrote.
fn elements(line: &[u8]) -> Vec<Option<IpAddr>> {
    std::str::from_utf8(line).ok().and_then(well_formed).unwrap_or_else(|| vec![None])
}

fn well_formed(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let (mut nodes, mut rest) = (Vec::new(), line);
    // The `for` of this element: none yet, or one that may not be readable.
    let mut named: Option<Option<IpAddr>> = None;
    loop {
        let (pair, after) = pair(rest)?;
        if let Some((name, value)) = pair
            && name.eq_ignore_ascii_case("for")
        {
            // Each parameter may be given once; of two neither counts.
            named = Some(if named.is_none() { node(&value) } else { None });
        }
        let ends = !after.starts_with(';');
        if ends {
            nodes.push(named.take().flatten());
        }
        match after.chars().next() {
            Some(',' | ';') => rest = &after[1..],
            Some(_) => return None,
            None => return Some(nodes),
        }
    }
}

/// A name and its value.
type Pair<'a> = (&'a str, Cow<'a, str>);

/// The first pair of a line, and what comes after it and its blanks; no pair where there is nothing before the next
/// separator. None where it is malformed.
fn pair(line: &str) -> Option<(Option<Pair<'_>>, &str)> {
    let line = line.trim_start_matches(BLANK);
    if line.is_empty() || line.starts_with([',', ';']) {
        return Some((None, line));
    }
    let (name, rest) = line.split_once('=')?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        return None;
    }
    let (value, after) = match rest.strip_prefix('"') {
        Some(rest) => quoted(rest)?,
        None => {
            let (value, after) = rest.split_at(rest.find([',', ';']).unwrap_or(rest.len()));
            (Cow::Borrowed(value.trim_end_matches(BLANK)), after)
        }
    };
    if matches!(value, Cow::Borrowed(value) if value.contains('"')) {
        return None;
    }
    Some((Some((name, value)), after.trim_start_matches(BLANK)))
}

/// The text of a quoted string whose first quote was taken, and what comes after its last.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(value), &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// The address of a hop, with or without a port. `unknown` and names made up, as `_hidden`, are none.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (address, after) = text.split_once(']')?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (IpAddr::from(address.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let (address, port) = text.split_once(':')?;
            (IpAddr::from(address.parse::<Ipv4Addr>().ok()?), Some(port))
        }
    };
    port.is_none_or(is_port).then(|| address.to_canonical())
}

/// A port as RFC 7239 has it: digits, or a name made up.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const BLANK: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_is_an_address_perhaps_with_a_port_and_nothing_else() {
        for (text, expected) in [
            ("192.0.2.43", Some("192.0.2.43")),
            ("192.0.2.43:47011", Some("192.0.2.43")),
            ("192.0.2.43:_port", Some("192.0.2.43")),
            ("2001:db8:cafe::17", Some("2001:db8:cafe::17")),
            ("[2001:db8:cafe::17]", Some("2001:db8:cafe::17")),
            ("[2001:db8:cafe::17]:4711", Some("2001:db8:cafe::17")),
            ("::ffff:192.0.2.43", Some("192.0.2.43")),
            ("[::ffff:192.0.2.43]:1", Some("192.0.2.43")),
            ("", None),
            ("unknown", None),
            ("_gazonk", None),
            ("client.example", None),
            ("192.0.2", None),
            ("192.0.2.043", None),
            ("192.0.2.43:", None),
            ("192.0.2.43:+80", None),
            ("192.0.2.43:123456", None),
            ("192.0.2.43:80:80", None),
            ("192.0.2.43/24", None),
            ("[192.0.2.43]", None),
            ("[2001:db8::17", None),
            ("[2001:db8::17]4711", None),
            ("2001:db8::17]", None),
            ("fe80::1%eth0", None),
            (" 192.0.2.43", None),
        ] {
            assert_eq!(node(text), expected.map(|text| text.parse().unwrap()), "{text:?}");
        }
    }

    #[test]
    fn each_element_of_forwarded_has_one_for_and_a_line_beyond_the_grammar_has_none() {
        let (one, other) = ("192.0.2.43", "2001:db8:cafe::17");
        for (line, expected) in [
            ("for=192.0.2.43", &[Some(one)][..]),
            ("FOR=192.0.2.43", &[Some(one)]),
            ("For=\"[2001:db8:cafe::17]:4711\"", &[Some(other)]),
            ("for=192.0.2.43;proto=http;by=203.0.113.43", &[Some(one)]),
            ("proto=http ; for=\"192.0.2.43\" ;by=_x", &[Some(one)]),
            ("for=192.0.2.43, for=\"[2001:db8:cafe::17]\"", &[Some(one), Some(other)]),
            ("for=192.0.2.43 ,\tfor=unknown,for=_x", &[Some(one), None, None]),
            ("for=\"192.0.2.\\43\"", &[Some(one)]),
            ("host=\"a, for=1.2.3.4\";for=192.0.2.43", &[Some(one)]),
            ("host=example.com:8443;for=192.0.2.43", &[Some(one)]),
            ("for=192.0.2.43;", &[Some(one)]),
            ("for=192.0.2.43,", &[Some(one), None]),
            (",", &[None, None]),
            ("", &[None]),
            ("by=192.0.2.43", &[None]),
            ("for=", &[None]),
            ("for=192.0.2.43;for=192.0.2.43", &[None]),
            ("for=192.0.2.43;for=192.0.2.43, for=192.0.2.43", &[None, Some(one)]),
            // Beyond the grammar.
            ("192.0.2.43", &[None]),
            ("for =192.0.2.43", &[None]),
            ("=192.0.2.43", &[None]),
            ("for=\"192.0.2.43", &[None]),
            ("for=\"192.0.2.43\\", &[None]),
            ("for=\"192.0.2.43\"x, for=192.0.2.43", &[None]),
            ("for=192.0.2.43\", for=192.0.2.43", &[None]),
            ("for=\", for=\"[2001:db8:cafe::17]\"", &[None]),
            ("for=192.0.2.43;x=\", for=192.0.2.43;host=\"a\"", &[None]),
        ] {
            let expected: Vec<Option<IpAddr>> =
                expected.iter().map(|text| text.map(|text| text.parse().unwrap())).collect();
            assert_eq!(elements(line.as_bytes()), expected, "{line:?}");
        }
        assert_eq!(elements(b"for=192.0.2.43, \xff"), [None]);
    }
}
