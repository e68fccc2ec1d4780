//! Reads the credentials of `auth` that are no shown secret: signatures of bodies, and names of client certificates.

use std::time::Duration;

use http::HeaderName;

use super::Reader;
use super::secrets::{Direction, Use};
use super::sources::Sources;
use crate::credential::{Algorithm, Credential, Encoding, Hmac, SignedText, SubjectName, Timestamp};
use crate::inbound;
use crate::inbound::auth::Policy;
use crate::yaml::{Fields, Node, Value, fields, shown};

/// The signature of a sender that many know; keys beside `preset` count instead.
#[derive(Clone, Copy, Debug)]
enum Preset {
    GitHub,
    Grafana,
    Slack,
}

impl Preset {
    fn header(self) -> &'static str {
        match self {
            Preset::GitHub => "x-hub-signature-256",
            Preset::Grafana => "x-grafana-alerting-signature",
            Preset::Slack => "x-slack-signature",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Preset::GitHub => "sha256=",
            Preset::Grafana => "",
            Preset::Slack => "v0=",
        }
    }

    /// Grafana signs a timestamp only where its contact point names a header for it.
    fn timestamp_header(self) -> Option<&'static str> {
        match self {
            Preset::GitHub | Preset::Grafana => None,
            Preset::Slack => Some("x-slack-request-timestamp"),
        }
    }

    fn signed(self, has_timestamp: bool) -> &'static str {
        match self {
            Preset::Slack => "v0:{timestamp}:{body}",
            Preset::Grafana if has_timestamp => "{timestamp}:{body}",
            Preset::Grafana | Preset::GitHub => "{body}",
        }
    }
}

impl Reader<'_> {
    /// `{ header, secret, … }`, or `{ preset, secret }`.
    pub(super) fn hmac(&mut self, node: &Node, path: &str) -> Option<Vec<Credential>> {
        let mut section = Fields::of(node, path, &mut self.findings)?;
        let preset_node = section.take_some("preset");
        let preset =
            preset_node.and_then(|node| fields::choice(node, &format!("{path}.preset"), &PRESETS, &mut self.findings));
        // A preset that is misspelled is one mistake, not two.
        let header = match preset_node.is_some() {
            true => section.take_some("header"),
            false => section.require("header", &mut self.findings),
        };
        let secret = section.require("secret", &mut self.findings);
        let algorithm = section.choice("algorithm", &ALGORITHMS, &mut self.findings).unwrap_or(Algorithm::Sha256);
        let encoding = section.choice("encoding", &ENCODINGS, &mut self.findings).unwrap_or(Encoding::Hex);
        let prefix = self.prefix(&mut section, preset);
        let timestamp_node = section.take_some("timestamp_header");
        let tolerance_node = section.take_some("tolerance");
        let signed_node = section.take_some("signed");
        section.finish(&mut self.findings);

        let secrets = secret.and_then(|node| self.secrets(node, &format!("{path}.secret"), Use::Key, Direction::Signs));
        let header = match (header, preset) {
            (Some(node), _) => self.header_name(node, &format!("{path}.header"), "carry a signature", "X-Signature"),
            (None, preset) => preset.map(|preset| HeaderName::from_static(preset.header())),
        };
        let timestamp = self.timestamp(timestamp_node, tolerance_node, preset, path);
        let signed = self.signed(signed_node, preset, timestamp.as_ref().ok()?.is_some(), path);
        let (signed, timestamp) = (signed?, timestamp.ok()?);
        match (&timestamp, signed.has_timestamp()) {
            (None, true) => {
                self.error(
                    signed_node.unwrap_or(node),
                    &format!("{path}.signed"),
                    "no header is named that has the timestamp",
                )
                .help("name it in `timestamp_header`");
                return None;
            }
            (Some(_), false) => {
                let message = "the timestamp is not signed: whoever repeats a request could write another";
                self.error(signed_node.or(timestamp_node).unwrap_or(node), &format!("{path}.signed"), message).help(
                    "such as '{timestamp}.{body}', as the sender's manual has it; or leave `timestamp_header` out",
                );
                return None;
            }
            _ => {}
        }
        let (header, prefix) = (header?, prefix?);
        let hmac = |secret| Hmac {
            header: header.clone(),
            secret,
            algorithm,
            encoding,
            prefix: prefix.clone(),
            timestamp: timestamp.clone(),
            signed: signed.clone(),
        };
        Some(secrets?.into_iter().map(|secret| Credential::Hmac(hmac(secret))).collect())
    }

    /// The text before the hash, which a preset knows.
    fn prefix(&mut self, section: &mut Fields<'_>, preset: Option<Preset>) -> Option<String> {
        let path = section.path_of("prefix");
        let Some(node) = section.take_some("prefix") else {
            return Some(preset.map_or("", Preset::prefix).to_owned());
        };
        let prefix = fields::string(node, &path, &mut self.findings)?;
        if prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            self.error(node, &path, "this is no text that can stand before a signature in a header")
                .help("up to 64 characters of visible ASCII, such as sha256=");
            return None;
        }
        Some(prefix)
    }

    /// None where no time is signed; an error where what is written is none.
    fn timestamp(
        &mut self,
        header: Option<&Node>,
        tolerance: Option<&Node>,
        preset: Option<Preset>,
        path: &str,
    ) -> Result<Option<Timestamp>, ()> {
        let at = format!("{path}.tolerance");
        let header = match (header, preset.and_then(Preset::timestamp_header)) {
            (Some(node), _) => {
                let path = format!("{path}.timestamp_header");
                Some(self.header_name(node, &path, "carry a timestamp", "X-Timestamp").ok_or(())?)
            }
            (None, known) => known.map(HeaderName::from_static),
        };
        let written = tolerance.map(|node| fields::duration_within(node, &at, TOLERANCE, &mut self.findings).ok_or(()));
        let written = written.transpose()?;
        match (header, tolerance) {
            (Some(header), _) => Ok(Some(Timestamp { header, tolerance: written.unwrap_or(TOLERANCE_USUAL) })),
            (None, None) => Ok(None),
            (None, Some(node)) => {
                self.error(node, &at, "there is no timestamp that it could be about")
                    .help("name its header in `timestamp_header`, or leave `tolerance` out");
                Err(())
            }
        }
    }

    fn signed(
        &mut self,
        node: Option<&Node>,
        preset: Option<Preset>,
        has_timestamp: bool,
        path: &str,
    ) -> Option<SignedText> {
        let at = format!("{path}.signed");
        let Some(node) = node else {
            let usual = if has_timestamp { "{timestamp}.{body}" } else { "{body}" };
            return SignedText::parse(preset.map_or(usual, |preset| preset.signed(has_timestamp))).ok();
        };
        let text = fields::string(node, &at, &mut self.findings)?;
        match SignedText::parse(&text) {
            Ok(signed) => Some(signed),
            Err(problem) => {
                self.error(node, &at, format!("this can't be what is signed: {problem}"))
                    .help("`{body}` once and perhaps `{timestamp}`, such as '{timestamp}.{body}'");
                None
            }
        }
    }

    /// `{ secrets: [ … ] }`.
    pub(super) fn standard_webhooks(&mut self, node: &Node, path: &str) -> Option<Vec<Credential>> {
        let mut section = Fields::of(node, path, &mut self.findings)?;
        let secrets = section.require("secrets", &mut self.findings);
        section.finish(&mut self.findings);
        let secrets = self.secrets(secrets?, &format!("{path}.secrets"), Use::WebhookKey, Direction::Signs)?;
        Some(secrets.into_iter().map(Credential::StandardWebhooks).collect())
    }

    /// `{ san: [ … ] }`.
    pub(super) fn certificate_names(&mut self, node: &Node, path: &str) -> Option<Vec<Credential>> {
        let mut section = Fields::of(node, path, &mut self.findings)?;
        let names = section.require("san", &mut self.findings);
        section.finish(&mut self.findings);
        let (names, path) = (names?, format!("{path}.san"));
        let Value::List(items) = &names.value else {
            self.error(names, &path, format!("expected a list of names, found {}", names.kind())).help(NAMES_HELP);
            return None;
        };
        if items.is_empty() {
            self.error(names, &path, "the list is empty: no certificate would do").help(NAMES_HELP);
            return None;
        }
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match item.as_str().and_then(SubjectName::read) {
                Some(name) => read.push(name),
                None => {
                    let message = format!("expected a name in a certificate, found {}", shown(item, &path, &[]));
                    self.error(item, &path, message).help(NAMES_HELP);
                }
            }
        }
        (read.len() == items.len()).then(|| vec![Credential::Certificate(read)])
    }

    /// A source that knows its senders by their certificates needs a listener that asks for them.
    pub(super) fn certificates_are_asked_for(&mut self, tree: &Node, listen: &inbound::Config, sources: &Sources) {
        if listen.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
            return;
        }
        let asks = |credential: &Credential| matches!(credential, Credential::Certificate(_));
        let alerts = sources.alerts.iter().map(|source| (&source.name, &source.auth));
        let confirmations = sources.confirmations.iter().map(|source| (&source.name, &source.auth));
        for (name, auth) in alerts.chain(confirmations) {
            if let Policy::AnyOf(credentials) = auth
                && credentials.iter().any(asks)
            {
                let auth = tree.get("sources").and_then(|sources| sources.get(name)?.get("auth"));
                let path = format!("sources.{name}.auth");
                self.error(auth.unwrap_or(tree), &path, "no sender is asked for a certificate, so none has the name")
                    .help("name the authority of the senders' certificates in `listen.tls.client_ca`");
            }
        }
    }
}

const PRESETS: [(&str, Preset); 3] =
    [("github", Preset::GitHub), ("grafana", Preset::Grafana), ("slack", Preset::Slack)];
const ALGORITHMS: [(&str, Algorithm); 3] =
    [("sha256", Algorithm::Sha256), ("sha1", Algorithm::Sha1), ("sha512", Algorithm::Sha512)];
const ENCODINGS: [(&str, Encoding); 2] = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];

const PREFIX_BYTES_MAX: usize = 64;
/// Senders and this machine have clocks that differ by seconds; a request that is good for hours can be replayed for hours.
const TOLERANCE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
const TOLERANCE_USUAL: Duration = Duration::from_secs(300);
const NAMES_HELP: &str =
    "such as [sender.example, spiffe://example/sender, ops@sender.example, 192.0.2.7]: its subject alternative names";
