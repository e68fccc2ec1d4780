//! Names of certificates, as a configuration lists them and as a client certificate has them.

use std::fmt;
use std::net::IpAddr;

/// A subject alternative name (RFC 5280, 4.2.1.6). Two are equal where they are the same name: the case of a domain says
/// nothing, and a wildcard is no more than a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectName {
    Dns(String),
    Email(String),
    Uri(String),
    Ip(IpAddr),
}

impl SubjectName {
    /// A name as a person writes it; its kind shows in its form. None if it is no name.
    pub fn read(text: &str) -> Option<SubjectName> {
        let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(SubjectName::Ip(ip.to_canonical()));
        }
        if !is_name(text) {
            return None;
        }
        if text.contains(':') {
            return text.starts_with(|c: char| c.is_ascii_alphabetic()).then(|| SubjectName::uri(text));
        }
        match text.split_once('@') {
            Some((local, domain)) if is_name(local) && is_domain(domain) => Some(SubjectName::email(text)),
            Some(_) => None,
            None => is_domain(text.strip_prefix("*.").unwrap_or(text)).then(|| SubjectName::dns(text)),
        }
    }

    pub fn dns(name: &str) -> SubjectName {
        SubjectName::Dns(name.trim_end_matches('.').to_ascii_lowercase())
    }

    pub fn email(address: &str) -> SubjectName {
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        SubjectName::Email(format!("{local}@{}", domain.to_ascii_lowercase()))
    }

    pub fn uri(uri: &str) -> SubjectName {
        // Scheme and host have no case (RFC 3986, 6.2.2.1), the rest has.
        let folded = uri.split_once("://").map(|(scheme, rest)| {
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            format!("{}://{}{path}", scheme.to_ascii_lowercase(), authority.to_ascii_lowercase())
        });
        SubjectName::Uri(folded.unwrap_or_else(|| uri.to_owned()))
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubjectName::Dns(text) | SubjectName::Email(text) | SubjectName::Uri(text) => f.write_str(text),
            SubjectName::Ip(ip) => ip.fmt(f),
        }
    }
}

fn is_domain(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_name_shows_its_kind() {
        for (text, expected) in [
            ("Sender.Example", Some(SubjectName::Dns("sender.example".to_owned()))),
            ("sender.example.", Some(SubjectName::Dns("sender.example".to_owned()))),
            ("*.example", Some(SubjectName::Dns("*.example".to_owned()))),
            ("Ops@Example.org", Some(SubjectName::Email("Ops@example.org".to_owned()))),
            ("spiffe://Corp/ServicePilot", Some(SubjectName::Uri("spiffe://corp/ServicePilot".to_owned()))),
            ("urn:uuid:F81D", Some(SubjectName::Uri("urn:uuid:F81D".to_owned()))),
            ("192.0.2.7", Some(SubjectName::Ip("192.0.2.7".parse().unwrap()))),
            ("2001:DB8::1", Some(SubjectName::Ip("2001:db8::1".parse().unwrap()))),
            ("", None),
            ("two words", None),
            ("@example.org", None),
            ("a@b@c", None),
            ("exämple", None),
            ("a/b", None),
            ("://x", None),
        ] {
            assert_eq!(SubjectName::read(text), expected, "{text}");
        }
    }
}
