//! Reads a credential, inbound or outbound: a secret as a bearer token, in a header, or in the query.

use http::HeaderName;

use super::Reader;
use super::secrets::{Direction, Use, one_of};
use crate::credential::Credential;
use crate::yaml::{Fields, Node, Value, fields};

impl Reader<'_> {
    /// `{ bearer: SECRET }`, `{ header: { name, secret } }` or `{ query: { name, secret } }`.
    pub(super) fn credential(&mut self, node: &Node, path: &str, direction: Direction) -> Option<Credential> {
        let Value::Map(_) = node.value else {
            self.error(node, path, format!("expected how the secret is carried, found {}", node.kind()))
                .help("write `bearer: { env: NAME }`, or `header:` or `query:` with a name and a secret");
            return None;
        };
        let mut section = Fields::of(node, path, &mut self.findings)?;
        let bearer = section.take_some("bearer");
        let header = section.take_some("header");
        let query = section.take_some("query");
        let misnamed = section.misnamed();
        section.finish(&mut self.findings);
        match one_of([bearer, header, query]) {
            Some((0, node)) => {
                let secret = self.secret(node, &format!("{path}.bearer"), Use::Bearer, direction)?;
                Some(Credential::Bearer(secret))
            }
            Some((1, node)) => self.named(node, &format!("{path}.header"), Use::Header, direction),
            Some((_, node)) => self.named(node, &format!("{path}.query"), Use::Query, direction),
            None if misnamed => None,
            None => {
                self.error(node, path, "expected exactly one of `bearer`, `header` and `query`");
                None
            }
        }
    }

    /// `{ name, secret }` of a header or query parameter.
    fn named(&mut self, node: &Node, path: &str, used: Use, direction: Direction) -> Option<Credential> {
        let mut section = Fields::of(node, path, &mut self.findings)?;
        let name_node = section.require("name", &mut self.findings);
        let secret_node = section.require("secret", &mut self.findings);
        section.finish(&mut self.findings);
        let secret = secret_node.and_then(|node| self.secret(node, &format!("{path}.secret"), used, direction));
        let name_node = name_node?;
        let name = fields::string(name_node, &format!("{path}.name"), &mut self.findings)?;
        if used == Use::Query {
            if !is_parameter_name(&name) {
                self.error(name_node, &format!("{path}.name"), "this is no name of a query parameter")
                    .help("use 1 to 64 letters, digits, `.`, `_`, `~` and `-`");
                return None;
            }
            return Some(Credential::Query { name, secret: secret? });
        }
        let header = HeaderName::from_bytes(name.as_bytes()).ok().filter(|header| !RESERVED.contains(&header.as_str()));
        let Some(header) = header else {
            self.error(name_node, &format!("{path}.name"), "this is no name of a header that can carry a secret")
                .help("such as X-Webhook-Token");
            return None;
        };
        Some(Credential::Header { name: header, secret: secret? })
    }
}

fn is_parameter_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'))
}

/// Headers that HTTP itself gives a meaning which a secret would break, and those of traces, which are logged and passed
/// on.
const RESERVED: [&str; 11] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "traceparent",
    "tracestate",
];
