//! Reads credentials: that of the upstream, and those by which a source knows its senders.

use http::HeaderName;

use super::Reader;
use super::secrets::{Direction, Use, one_of};
use crate::credential::Credential;
use crate::secret::Secret;
use crate::yaml::{Fields, Node, Value, fields};

impl Reader<'_> {
    /// The one that is sent: `{ bearer: SECRET }`, `{ header: { name, secret } }` or `{ query: { name, secret } }`.
    pub(super) fn credential(&mut self, node: &Node, path: &str) -> Option<Credential> {
        let mut section = self.carriers(
            node,
            path,
            "write `bearer: { env: NAME }`, or `header:` or `query:` with a name and a secret",
        )?;
        let shown = ["bearer", "header", "query"].map(|name| section.take_some(name));
        let misnamed = section.misnamed();
        section.finish(&mut self.findings);
        let found = one_of(shown);
        if found.is_none() && !misnamed {
            self.error(node, path, "expected exactly one of `bearer`, `header` and `query`");
        }
        let (kind, node) = found?;
        self.shown_secret(kind, node, path, Direction::Sent)?.into_iter().next()
    }

    /// Those of one entry of `auth`: one for each secret that it names.
    pub(super) fn credentials(&mut self, node: &Node, path: &str) -> Option<Vec<Credential>> {
        let mut section =
            self.carriers(node, path, "write `bearer: { env: NAME }`, or one of the others that SENDERS.md names")?;
        let kinds = KINDS.map(|name| section.take_some(name));
        let misnamed = section.misnamed();
        section.finish(&mut self.findings);
        let found = one_of(kinds);
        if found.is_none() && !misnamed {
            let names = KINDS.map(|name| format!("`{name}`")).join(", ");
            self.error(node, path, format!("expected exactly one of {names}"));
        }
        let (kind, node) = found?;
        let path_of = |name: &str| format!("{path}.{name}");
        match KINDS[kind] {
            "basic" => self.basic(node, &path_of("basic")),
            "hmac" => self.hmac(node, &path_of("hmac")),
            "standard_webhooks" => self.standard_webhooks(node, &path_of("standard_webhooks")),
            "certificate" => self.certificate_names(node, &path_of("certificate")),
            _ => self.shown_secret(kind, node, path, Direction::Checked),
        }
    }

    fn carriers<'n>(&mut self, node: &'n Node, path: &str, help: &str) -> Option<Fields<'n>> {
        if !matches!(node.value, Value::Map(_)) {
            let message = format!("expected how the secret is carried, found {}", node.kind());
            self.error(node, path, message).help(help);
            return None;
        }
        Fields::of(node, path, &mut self.findings)
    }

    /// The first three kinds, of which only inbound ones may have several secrets.
    fn shown_secret(&mut self, kind: usize, node: &Node, path: &str, direction: Direction) -> Option<Vec<Credential>> {
        match KINDS[kind] {
            "bearer" => {
                let secrets = self.one_or_more(node, &format!("{path}.bearer"), Use::Bearer, direction)?;
                Some(secrets.into_iter().map(Credential::Bearer).collect())
            }
            "header" => self.named(node, &format!("{path}.header"), Use::Header, direction),
            _ => self.named(node, &format!("{path}.query"), Use::Query, direction),
        }
    }

    fn one_or_more(&mut self, node: &Node, path: &str, used: Use, direction: Direction) -> Option<Vec<Secret>> {
        match direction {
            Direction::Sent => self.secret(node, path, used, direction).map(|secret| vec![secret]),
            Direction::Checked | Direction::Signs => self.secrets(node, path, used, direction),
        }
    }

    /// `{ name, secret }` of a header or query parameter.
    fn named(&mut self, node: &Node, path: &str, used: Use, direction: Direction) -> Option<Vec<Credential>> {
        let mut section = Fields::of(node, path, &mut self.findings)?;
        let name_node = section.require("name", &mut self.findings);
        let secret_node = section.require("secret", &mut self.findings);
        section.finish(&mut self.findings);
        let secrets = secret_node.and_then(|node| self.one_or_more(node, &format!("{path}.secret"), used, direction));
        let (name_node, name_path) = (name_node?, format!("{path}.name"));
        if used == Use::Query {
            let name = fields::string(name_node, &name_path, &mut self.findings)?;
            if !is_parameter_name(&name) {
                self.error(name_node, &name_path, "this is no name of a query parameter")
                    .help("use 1 to 64 letters, digits, `.`, `_`, `~` and `-`");
                return None;
            }
            return Some(secrets?.into_iter().map(|secret| Credential::Query { name: name.clone(), secret }).collect());
        }
        let name = self.header_name(name_node, &name_path, "carry a secret", "X-Webhook-Token")?;
        Some(secrets?.into_iter().map(|secret| Credential::Header { name: name.clone(), secret }).collect())
    }

    /// The name of a header that is free to `hold` something.
    pub(super) fn header_name(&mut self, node: &Node, path: &str, hold: &str, example: &str) -> Option<HeaderName> {
        let name = fields::string(node, path, &mut self.findings)?;
        let header = HeaderName::from_bytes(name.as_bytes()).ok().filter(|header| !RESERVED.contains(&header.as_str()));
        if header.is_none() {
            self.error(node, path, format!("this is no name of a header that can {hold}"))
                .help(format!("such as {example}"));
        }
        header
    }

    /// `{ user, password }`.
    fn basic(&mut self, node: &Node, path: &str) -> Option<Vec<Credential>> {
        let mut section = Fields::of(node, path, &mut self.findings)?;
        let user_node = section.require("user", &mut self.findings);
        let password = section.require("password", &mut self.findings);
        section.finish(&mut self.findings);
        let passwords = password
            .and_then(|node| self.secrets(node, &format!("{path}.password"), Use::Password, Direction::Checked));
        let (user_node, user_path) = (user_node?, format!("{path}.user"));
        let user = fields::string(user_node, &user_path, &mut self.findings)?;
        if user.is_empty() || user.len() > USER_BYTES_MAX || user.contains(|c: char| c == ':' || c.is_control()) {
            self.error(user_node, &user_path, "this is no user that a sender can give")
                .help("1 to 255 bytes on one line, without a colon, which ends it");
            return None;
        }
        Some(passwords?.into_iter().map(|password| Credential::Basic { user: user.clone(), password }).collect())
    }
}

fn is_parameter_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'))
}

/// The kinds of an entry of `auth`; the upstream takes the first three.
const KINDS: [&str; 7] = ["bearer", "header", "query", "basic", "hmac", "standard_webhooks", "certificate"];

const USER_BYTES_MAX: usize = 255;

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
