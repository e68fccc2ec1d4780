//! The `sources` section: who may send what, and by which rules it is decided.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::confirmation::{KIND, Kind};
use super::{Reader, read_source};
use crate::inbound::auth::Policy;
use crate::inbound::limits::{OverLimit, RateLimit};
use crate::inbound::{Accept, ConfirmationSource, Handshake, Respond, SourceConfig, SourceRules};
use crate::journal::Share;
use crate::lenient_json::JsonReading;
use crate::rules::{RuleSet, read_path};
use crate::yaml::{Fields, Findings, Key, Node, Value, fields, shown};

/// The sources by their kinds.
pub(super) struct Sources {
    pub(super) alerts: Vec<SourceConfig>,
    pub(super) confirmations: Vec<ConfirmationSource>,
}

/// A source of one kind.
enum Entry {
    Alerts(SourceConfig),
    Confirmation(ConfirmationSource),
}

impl Reader<'_> {
    pub(super) fn sources(&mut self, tree: &Node, top: &mut Fields<'_>) -> Option<Sources> {
        let node = top.require("sources", &mut self.findings)?;
        let mut section = Fields::of(node, "sources", &mut self.findings)?;
        let entries = section.rest();
        if entries.is_empty() {
            self.error(node, "sources", "there is no source, so nothing can be received")
                .help("name at least one, with its `rules` and `auth`");
            return None;
        }
        let mut folded: HashMap<String, &str> = HashMap::new();
        for (key, _) in &entries {
            if let Some(other) = folded.insert(key.name.to_lowercase(), &key.name) {
                let message = format!("two sources differ only in capitals: `{other}` and `{}`", key.name);
                self.findings.error(key.place.clone(), "sources", message);
            }
        }
        let (mut sources, mut whole) = (Sources { alerts: Vec::new(), confirmations: Vec::new() }, true);
        for (key, node) in entries {
            match self.source(tree, key, node) {
                Some(Entry::Alerts(source)) => sources.alerts.push(source),
                Some(Entry::Confirmation(source)) => sources.confirmations.push(source),
                None => whole = false,
            }
        }
        if whole && sources.alerts.is_empty() {
            self.error(node, "sources", "every source is of `kind: confirmation`, so no alert can be received")
                .help("name one that takes alerts, with its `rules` and `auth`");
            return None;
        }
        whole.then_some(sources)
    }

    fn source(&mut self, tree: &Node, key: &Key, node: &Node) -> Option<Entry> {
        let path = format!("sources.{}", key.name);
        let named = is_source_name(&key.name);
        if !named {
            self.findings
                .error(key.place.clone(), path.as_str(), "a source's name is the last part of its URL")
                .help("use 1 to 64 letters, digits, `.`, `_` and `-`, beginning with a letter or digit");
        }
        if node.is_null() {
            self.findings.error(key.place.clone(), path, "this source is empty").help(AUTH_HELP);
            return None;
        }
        let mut section = Fields::of(node, path, &mut self.findings)?;
        let kind = section.choice("kind", &KIND, &mut self.findings).unwrap_or(Kind::Alerts);
        let source = match kind {
            Kind::Alerts => self.alert_source(tree, &key.name, &mut section).map(Entry::Alerts),
            Kind::Confirmation => self.confirmation_source(tree, &key.name, &mut section).map(Entry::Confirmation),
        };
        section.finish(&mut self.findings);
        source.filter(|_| named)
    }

    fn alert_source(&mut self, tree: &Node, name: &str, section: &mut Fields<'_>) -> Option<SourceConfig> {
        self.refuse_confirmation(tree, section);
        let live = self.rules(section);
        let shadow = self.shadow(section);
        let from = self.sender_name(section);
        let auth = self.auth(section);
        let allow_from = self.networks(section, "allow_from", "an empty list means anywhere");
        let rate_limit = self.source_rate_limit(section, (2_000, 20_000));
        let max_queued = self.max_queued(section);
        let accept = self.accept(section);
        let handshake = self.handshake(section);
        let respond = section.choice("respond", &RESPOND, &mut self.findings).unwrap_or(Respond::Queued);
        let respond_timeout = section.duration_within("respond_timeout", RESPOND_WAIT, &mut self.findings);
        let probes = self.probes(section);
        Some(SourceConfig {
            name: Arc::from(name),
            rules: SourceRules { live: live?.0, shadow },
            from,
            auth: auth?,
            allow_from,
            rate_limit,
            max_queued,
            respond,
            respond_timeout: respond_timeout.unwrap_or(Duration::from_secs(10)),
            accept,
            probes,
            handshake,
        })
    }

    pub(super) fn probes(&mut self, section: &mut Fields<'_>) -> bool {
        section.choice("probe", &PROBE, &mut self.findings).unwrap_or(false)
    }

    /// A path that is relative to the configuration file.
    fn beside(&self, written: &str) -> PathBuf {
        self.inputs.path.parent().unwrap_or(Path::new("")).join(written)
    }

    /// The rules of a source, and the file that they are from.
    pub(super) fn rules(&mut self, section: &mut Fields<'_>) -> Option<(Arc<RuleSet>, PathBuf)> {
        let (node, path) = (section.require("rules", &mut self.findings)?, section.path_of("rules"));
        let written = fields::string(node, &path, &mut self.findings)?;
        self.rule_file(&written, node, &path)
    }

    /// Rules in the shadow of others. What is wrong in their file is kept apart.
    fn shadow(&mut self, section: &mut Fields<'_>) -> Option<Arc<RuleSet>> {
        let (node, path) = (section.take_some("rules_shadow")?, section.path_of("rules_shadow"));
        let written = fields::string(node, &path, &mut self.findings)?;
        let findings = std::mem::take(&mut self.findings);
        let shadow = self.rule_file(&written, node, &path);
        self.shadow_findings.extend(std::mem::replace(&mut self.findings, findings));
        Some(shadow?.0)
    }

    /// A rule file, compiled once however many sources name it.
    fn rule_file(&mut self, written: &str, node: &Node, path: &str) -> Option<(Arc<RuleSet>, PathBuf)> {
        let file = self.beside(written);
        if let Some(read) = self.rules.get(&file) {
            return Some((read.clone()?, file));
        }
        self.files.note(&file);
        let compiled = match read_source(&file) {
            Ok(source) => {
                let mut findings = Findings::new();
                let compiled = RuleSet::compile(&source, &mut findings);
                self.findings.extend(findings);
                compiled.map(Arc::new)
            }
            Err(unreadable) => {
                self.error(node, path, unreadable.to_string())
                    .code("unreadable-file")
                    .help("the path of a rule file is relative to the configuration file");
                None
            }
        };
        self.rules.insert(file.clone(), compiled.clone());
        Some((compiled?, file))
    }

    pub(super) fn sender_name(&mut self, section: &mut Fields<'_>) -> Option<String> {
        let path = section.path_of("from");
        let node = section.take_some("from")?;
        let text = fields::string(node, &path, &mut self.findings)?;
        if text.trim().is_empty() || text.len() > FROM_BYTES_MAX || text.chars().any(char::is_control) {
            self.error(node, &path, format!("expected 1 to {FROM_BYTES_MAX} bytes of text on one line"))
                .help("Callgoose puts it before every title; leave the key out for none");
        }
        Some(text)
    }

    pub(super) fn auth(&mut self, section: &mut Fields<'_>) -> Option<Policy> {
        let path = section.path_of("auth");
        let Some(node) = section.take_some("auth") else {
            self.findings
                .error(section.place(), path, "`auth` is required here and missing: who may send?")
                .help(AUTH_HELP);
            return None;
        };
        match &node.value {
            Value::String(text) if text == "none" => Some(Policy::Open),
            Value::List(items) if items.is_empty() => {
                self.error(node, &path, "nobody could send: the list is empty").help(AUTH_HELP);
                None
            }
            Value::List(items) => {
                let credentials: Vec<_> = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.credentials(item, &format!("{path}[{index}]")))
                    .collect();
                let credentials: Option<Vec<_>> = credentials.into_iter().collect();
                Some(Policy::AnyOf(credentials?.into_iter().flatten().collect()))
            }
            _ => {
                self.error(node, &path, format!("expected a list or `none`, found {}", node.kind())).help(AUTH_HELP);
                None
            }
        }
    }

    fn max_queued(&mut self, section: &mut Fields<'_>) -> Share {
        let path = section.path_of("max_queued");
        let Some(node) = section.take_some("max_queued") else {
            return Share::Auto;
        };
        let share = match node.as_str().unwrap_or_default() {
            "auto" => Some(Share::Auto),
            text => (1..=100).find(|hundredths| text == format!("{hundredths}%")).map(Share::Percent),
        };
        if share.is_none() {
            let message = format!("expected auto, or a share from 1% to 100%, found {}", shown(node, &path, &["auto"]));
            self.error(node, &path, message).help(
                "auto: no more than is still free; 30%: that much of `journal.max_events` and `journal.max_bytes`",
            );
        }
        share.unwrap_or_default()
    }

    /// The bodies that a source takes: `json`, `accept` and `accept_encoding`.
    pub(super) fn accept(&mut self, section: &mut Fields<'_>) -> Accept {
        let json = section.choice("json", &JsonReading::CHOICES, &mut self.findings).unwrap_or_default();
        let path = section.path_of("accept");
        let node = section.take_some("accept");
        let kinds = node.map(|node| self.choices(node, &path, &ACCEPT)).unwrap_or_default();
        if let Some(node @ Node { value: Value::List(_), .. }) = node
            && kinds.iter().all(|kind| *kind != BodyKind::Json)
        {
            self.error(node, &path, "JSON is always taken: `json` has to be in the list")
                .help("such as [json], the default, or [json, form]");
        }
        let path = section.path_of("accept_encoding");
        let codings = section.take_some("accept_encoding").map(|node| self.choices(node, &path, &ACCEPT_ENCODING));
        Accept { json, form: kinds.contains(&BodyKind::Form), gzip: codings.is_some_and(|codings| !codings.is_empty()) }
    }

    /// A list of which each item is one of these.
    fn choices<T: Copy>(&mut self, node: &Node, path: &str, choices: &[(&'static str, T)]) -> Vec<T> {
        let Value::List(items) = &node.value else {
            let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            self.error(node, path, format!("expected a list, found {}", node.kind()))
                .help(format!("of these: [{names}]"));
            return Vec::new();
        };
        let choice = |(index, item)| fields::choice(item, &format!("{path}[{index}]"), choices, &mut self.findings);
        items.iter().enumerate().filter_map(choice).collect()
    }

    pub(super) fn handshake(&mut self, section: &mut Fields<'_>) -> Option<Handshake> {
        let mut section = section.section("handshake", &mut self.findings)?;
        let at = section.path_of("path");
        let node = section.require("path", &mut self.findings);
        let path = node.and_then(|node| Some((node, read_path(node, &at, &mut self.findings)?)));
        if let Some((node, path)) = path.as_ref().filter(|(_, path)| path.is_root()) {
            self.error(
                node,
                &at,
                format!("`{path}` is the payload itself: no alert that is a text would reach a rule"),
            )
            .help("name a text within the payload, one that no alert has: `$.challenge`");
        }
        let member_at = section.path_of("member");
        let member_node = section.take_some("member");
        let member = member_node.and_then(|node| fields::string(node, &member_at, &mut self.findings));
        if let Some(node) = member_node.filter(|_| member.as_ref().is_some_and(|member| member.trim().is_empty())) {
            self.error(node, &member_at, "a member's name can't be blank".to_owned())
                .help("such as `validationResponse`; without `member` the text goes back alone");
        }
        section.finish(&mut self.findings);
        Some(Handshake { path: path?.1, member })
    }

    /// `default`: how many a second, and at once.
    pub(super) fn source_rate_limit(&mut self, section: &mut Fields<'_>, default: (u32, u32)) -> RateLimit {
        let (per_second, burst, mut section) = self.rate_limit(section, default.0, default.1);
        let answer = section.take_some("answer").and_then(|node| {
            // A status is a number, however it is quoted.
            let text = match &node.value {
                Value::Number(number) => number.to_string(),
                Value::String(text) => text.clone(),
                _ => String::new(),
            };
            let answer = match text.as_str() {
                "429" => Some(OverLimit::TooManyRequests),
                "503" => Some(OverLimit::ServiceUnavailable),
                _ => None,
            };
            if answer.is_none() {
                let path = section.path_of("answer");
                let message = format!("expected 429 or 503, found {}", shown(node, &path, &[]));
                self.error(node, &path, message).help("many senders retry a 503 and give up on a 429");
            }
            answer
        });
        section.finish(&mut self.findings);
        RateLimit { per_second, burst, answer: answer.unwrap_or(OverLimit::ServiceUnavailable) }
    }

    /// `per_second` and `burst`, with what else the section holds.
    pub(super) fn rate_limit<'b>(
        &mut self,
        section: &mut Fields<'b>,
        per_second: u32,
        burst: u32,
    ) -> (NonZeroU32, NonZeroU32, Fields<'b>) {
        let mut limit = section.section_or_empty("rate_limit", &mut self.findings);
        let mut read = |name, default: u32| {
            let value = limit.integer(name, 1..=10_000_000, &mut self.findings);
            let value = value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default);
            NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
        };
        let (per_second, burst) = (read("per_second", per_second), read("burst", burst));
        (per_second, burst, limit)
    }
}

fn is_source_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

const AUTH_HELP: &str =
    "write `auth: [ { bearer: { env: NAME } } ]`; `auth: none` lets in everyone who can reach this address";
/// The kind of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyKind {
    Json,
    Form,
}

const ACCEPT: [(&str, BodyKind); 2] = [("json", BodyKind::Json), ("form", BodyKind::Form)];
const ACCEPT_ENCODING: [(&str, ()); 1] = [("gzip", ())];
const PROBE: [(&str, bool); 2] = [("refuse", false), ("ok", true)];
const RESPOND: [(&str, Respond); 2] = [("queued", Respond::Queued), ("delivered", Respond::Delivered)];
/// Senders hang up long before an hour.
const RESPOND_WAIT: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// It takes its place in every title, which Callgoose shows in lists and reads aloud.
const FROM_BYTES_MAX: usize = 100;
