//! The proxy on the way to the upstream: `upstream.proxy`, else the environment's, as curl reads it.

use http::{HeaderName, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;

use super::secrets::{Direction, Use, unusable};
use super::upstream::{endpoint_in, is_loopback};
use super::{Reader, place_of};
use crate::delivery::connector::{Protocol, Proxy, Route};
use crate::secret::Secret;
use crate::tls::ServerName;
use crate::yaml::{Fields, Node, Place, Value, fields};

impl Reader<'_> {
    /// The route to the upstream; none after an error.
    pub(super) fn route(&mut self, section: &mut Fields<'_>, url: Option<&Uri>) -> Option<Route> {
        match section.take_some("proxy") {
            Some(node) if node.as_str().is_some_and(|text| text.eq_ignore_ascii_case("off")) => Some(Route::Direct),
            Some(node) => self.configured_proxy(node).map(Route::Through),
            None => self.environment_proxy(url?),
        }
    }

    fn configured_proxy(&mut self, node: &Node) -> Option<Proxy> {
        match &node.value {
            Value::String(_) => self.proxy_url(node, PATH, PATH),
            Value::Map(_) => self.proxy_section(node),
            _ => {
                self.error(node, PATH, format!("expected a URL, a mapping or `off`, found {}", node.kind())).help(HELP);
                None
            }
        }
    }

    fn proxy_section(&mut self, node: &Node) -> Option<Proxy> {
        let mut section = Fields::of(node, PATH, &mut self.findings)?;
        let url = section.require("url", &mut self.findings);
        let credentials = section.take_some("credentials");
        let ca = section.file("ca", &mut self.findings);
        let headers = section.section("headers", &mut self.findings);
        section.finish(&mut self.findings);
        let proxy = url.and_then(|url| self.proxy_url(url, "upstream.proxy.url", PATH));
        if let Some(ca) = &ca {
            self.roots(ca, place_of(node, &["ca"]), "upstream.proxy.ca");
        }
        let secret = credentials
            .map(|node| self.secret(node, "upstream.proxy.credentials", Use::Proxy, Direction::Sent).ok_or(()));
        let headers = headers.map(|mut headers| self.proxy_headers(&mut headers)).unwrap_or(Some(Vec::new()));
        let mut proxy = proxy?;
        let useless = |key: &str| node.get(key).is_some_and(|node| !node.is_null());
        let is_socks = matches!(proxy.protocol, Protocol::Socks5 | Protocol::Socks5h);
        for (key, wrong, only) in [
            ("ca", !matches!(proxy.protocol, Protocol::Https { .. }), "https://"),
            ("headers", is_socks, "http:// and https://"),
        ] {
            if wrong && useless(key) {
                let message = format!("`{key}` has an effect with a proxy of {only} only");
                self.findings.error(place_of(node, &[key]), format!("{PATH}.{key}"), message);
                return None;
            }
        }
        if proxy.credentials.is_some() && secret.is_some() {
            let message = "the credentials stand here and in `url`";
            self.findings.error(place_of(node, &["credentials"]), "upstream.proxy.credentials", message);
            return None;
        }
        if let Some(secret) = secret {
            proxy.credentials = Some(secret.ok()?);
        }
        if let Protocol::Https { ca: of_proxy, .. } = &mut proxy.protocol {
            *of_proxy = ca;
        }
        let text = proxy.credentials.as_ref().and_then(|secret| secret.expose(str::to_owned));
        if is_socks && text.is_some_and(|text| !fits_socks(&text)) {
            let place = place_of(node, &["credentials"]);
            self.findings.error(place, "upstream.proxy.credentials", SOCKS_CREDENTIALS);
            return None;
        }
        Some(Proxy { headers: headers?, ..proxy })
    }

    /// Headers for CONNECT. A value is a text or a secret from elsewhere.
    fn proxy_headers(&mut self, section: &mut Fields<'_>) -> Option<Vec<(HeaderName, Secret)>> {
        let entries = section.rest();
        let read = entries.into_iter().map(|(key, node)| {
            let name = HeaderName::from_bytes(key.name.as_bytes()).ok();
            let path = name.as_ref().map_or(HEADERS.to_owned(), |name| format!("{HEADERS}.{name}"));
            let Some(name) = name.filter(|name| !RESERVED.contains(&name.as_str())) else {
                self.findings
                    .error(key.place.clone(), HEADERS, "this is no name of a header that can be added to CONNECT")
                    .help("such as X-Team; credentials are a key of their own");
                return None;
            };
            let secret = match &node.value {
                Value::String(text) if may_be_secret(name.as_str()) => {
                    self.literal_else(node, text, &path, Use::Header, "write { env: NAME } in its place")?
                }
                Value::String(text) => match unusable(text, Use::Header) {
                    None => Secret::new(text.clone()),
                    Some(problem) => {
                        self.error(node, &path, format!("this value {problem}"));
                        return None;
                    }
                },
                _ => self.secret(node, &path, Use::Header, Direction::Sent)?,
            };
            Some((name, secret))
        });
        read.collect::<Vec<_>>().into_iter().collect()
    }

    fn environment_proxy(&mut self, url: &Uri) -> Option<Route> {
        // A proxy elsewhere reaches another machine by this name, and without TLS it would get the token.
        if url.scheme_str() == Some("http") && url.host().is_some_and(is_loopback) {
            return Some(Route::Direct);
        }
        let variable = |name: &str| self.inputs.environment.get(name).filter(|value| !value.is_empty());
        // In the environment of a CGI program anyone can set HTTP_PROXY by a header, so curl reads the other spelling only.
        let names: &[&str] = match url.scheme_str() {
            Some("https") => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
            _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
        };
        let Some((name, text)) = names.iter().find_map(|name| Some((*name, variable(name)?.clone()))) else {
            return Some(Route::Direct);
        };
        let exceptions = variable("no_proxy").or_else(|| variable("NO_PROXY")).map_or("", String::as_str);
        if is_excepted(url, exceptions) {
            return Some(Route::Direct);
        }
        let node = Node::new(Value::String(text), Place::Environment(name.to_owned()));
        self.proxy_url(&node, PATH, name).map(Route::Through)
    }

    /// A proxy's URL, perhaps with credentials.
    fn proxy_url(&mut self, node: &Node, path: &str, named_by: &str) -> Option<Proxy> {
        let text = fields::string(node, path, &mut self.findings)?;
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", &text));
        let scheme = scheme.to_ascii_lowercase();
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user_info, authority) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        // As curl has it: 1080 for all but https.
        let default_port = if scheme == "https" { 443 } else { 1080 };
        let Some(endpoint) = endpoint_in(authority, Some(default_port)) else {
            self.error(node, path, "this is not the URL of a proxy").help(HELP);
            return None;
        };
        let protocol = match scheme.as_str() {
            "http" => Protocol::Http,
            "socks5" => Protocol::Socks5,
            "socks5h" => Protocol::Socks5h,
            "https" => match ServerName::try_from(endpoint.host.clone()) {
                Ok(name) => Protocol::Https { ca: None, name },
                Err(_) => {
                    self.error(node, path, "no certificate can be for this proxy's name").help(HELP);
                    return None;
                }
            },
            other => {
                self.error(node, path, "expected a URL that begins with http://, https://, socks5:// or socks5h://")
                    .suggest(other, SCHEMES);
                return None;
            }
        };
        let credentials = match user_info {
            None => None,
            Some(user_info) => {
                // A user alone has an empty password.
                let text = if user_info.contains(':') { user_info.to_owned() } else { format!("{user_info}:") };
                let Ok(text) = percent_decode_str(&text).decode_utf8() else {
                    self.error(node, path, "the credentials in this URL are no text").help(HELP);
                    return None;
                };
                let user = user_info.split(':').next().unwrap_or_default();
                if percent_decode_str(user).any(|byte| byte == b':') {
                    self.error(node, path, "a user name of a proxy can't hold a colon").help(HELP);
                    return None;
                }
                if matches!(protocol, Protocol::Socks5 | Protocol::Socks5h) && !fits_socks(&text) {
                    self.error(node, path, SOCKS_CREDENTIALS);
                    return None;
                }
                Some(self.literal_else(node, &text, path, Use::Proxy, CREDENTIALS_HELP)?)
            }
        };
        Some(Proxy { protocol, endpoint, credentials, headers: Vec::new(), named_by: named_by.to_owned() })
    }
}

/// Tells by `NO_PROXY` whether a URL is reached without a proxy: names with the names below them, addresses, networks,
/// and `*`; each perhaps with a port.
fn is_excepted(url: &Uri, exceptions: &str) -> bool {
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    // As curl, which also takes blanks between them, and a dot at the end of a name for nothing.
    let separated = exceptions.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|text| !text.is_empty());
    let for_this_port = separated.filter_map(|exception| {
        let bare = |host: &str| host.trim_matches(['[', ']']).trim_end_matches('.').to_owned();
        match exception.rsplit_once(':') {
            // Of an IPv6 address with a port the address stands in brackets.
            Some((host, of_port)) if !host.contains(':') || host.ends_with(']') => {
                (of_port.parse() == Ok(port)).then(|| bare(host))
            }
            _ => Some(bare(exception)),
        }
    });
    let exceptions: Vec<String> = for_this_port.collect();
    // The matcher has `*` match names only.
    let all = exceptions.iter().any(|exception| exception == "*");
    let exceptions = exceptions.join(",");
    let host = url.host().unwrap_or_default().trim_end_matches('.');
    let asked = format!("http://{host}/").parse::<Uri>().ok();
    let matcher = Matcher::builder().all("http://proxy").no(exceptions).build();
    all || matcher.intercept(asked.as_ref().unwrap_or(url)).is_none()
}

/// Tells by a whole word of its name whether a header may hold a secret; all else counts as none, since most are none.
fn may_be_secret(name: &str) -> bool {
    name.split(['-', '_']).any(|word| ["token", "secret", "password", "key", "auth", "authorization"].contains(&word))
}

/// Tells credentials that SOCKS5 can carry (RFC 1929).
fn fits_socks(credentials: &str) -> bool {
    let of_length = |text: &str| (1..=255).contains(&text.len());
    credentials.split_once(':').is_some_and(|(user, password)| of_length(user) && of_length(password))
}

const PATH: &str = "upstream.proxy";
const SOCKS_CREDENTIALS: &str = "a SOCKS5 proxy takes a user and a password of 1 to 255 bytes each";
const CREDENTIALS_HELP: &str = "write `proxy: { url: …, credentials: { env: NAME } }`, where NAME holds USER:PASSWORD";
const HEADERS: &str = "upstream.proxy.headers";
const HELP: &str =
    "such as http://proxy.example:3128 or socks5h://proxy.example:1080; special characters in credentials as %40";
const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];
/// Headers that have a meaning of their own in CONNECT.
const RESERVED: [&str; 5] = ["host", "connection", "content-length", "transfer-encoding", "proxy-authorization"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_names_suffixes_addresses_networks_and_all_perhaps_with_a_port() {
        for (exceptions, excepted, others) in [
            (
                "example.com",
                &["https://example.com/", "https://a.example.com:8443/"][..],
                &["https://notexample.com/"][..],
            ),
            (".example.com", &["https://a.example.com/", "https://example.com/"], &["https://example.org/"]),
            ("10.0.0.0/8, ::1", &["https://10.1.2.3/", "https://[::1]:8443/"], &["https://11.0.0.1/", "https://name/"]),
            ("*", &["https://example.com/", "https://10.0.0.1/"], &[]),
            ("example.com:8443", &["https://example.com:8443/"], &["https://example.com/"]),
            ("example.com:443", &["https://example.com/"], &["http://example.com/"]),
            ("[::1]:8443", &["https://[::1]:8443/"], &["https://[::1]/"]),
            (
                "a.example b.example,\tc.example",
                &["https://a.example/", "https://b.example/", "https://c.example/"],
                &[],
            ),
            ("example.com.", &["https://example.com/", "https://a.example.com./"], &["https://example.org/"]),
            ("example.com", &["https://example.com./"], &[]),
            ("", &[], &["https://example.com/"]),
        ] {
            for url in excepted {
                assert!(is_excepted(&url.parse().unwrap(), exceptions), "{url} by {exceptions}");
            }
            for url in others {
                assert!(!is_excepted(&url.parse().unwrap(), exceptions), "{url} by {exceptions}");
            }
        }
    }
}
