//! Checks a request before its body is read: route, method, address, credential, rate. Each stage takes the stage
//! before as its proof.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::request::Parts;
use ipnet::IpNet;

use super::body::{Memory, SourceMemory};
use super::refusal::Refusal;
use super::{Respond, SourceConfig};
use crate::clock::Monotonic;
use crate::inbound::auth::{HeadChecked, Policy};
use crate::inbound::limits::{Limiter, WithinLimit};
use crate::journal::Shares;
use crate::server::{ClientCertificate, Peer};

/// A source that takes requests, without its rules, which change.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) respond: Respond,
    pub(super) respond_timeout: Duration,
    auth: Policy,
    allow_from: Vec<IpNet>,
    limiter: Limiter,
    memory: SourceMemory,
}

/// Every source by its name.
#[derive(Debug)]
pub(super) struct Sources(HashMap<Arc<str>, Source>);

/// A request that names a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routed<'a>(&'a Source);

/// It is a POST.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posted<'a>(&'a Source);

/// It comes from where it may come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed<'a>(&'a Source);

/// It carries valid credentials.
#[derive(Debug)]
pub(super) struct Known<'a>(&'a Source, HeadChecked);

/// It fits the source's limit: its body may be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted<'a>(&'a Source, WithinLimit);

/// All of its elements fit the limit: they may be recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted<'a>(&'a Source);

impl Source {
    fn new(config: SourceConfig, memory: SourceMemory) -> Source {
        let SourceConfig { name, auth, allow_from, rate_limit, respond, respond_timeout, .. } = config;
        Source { name, respond, respond_timeout, auth, allow_from, limiter: Limiter::new(rate_limit), memory }
    }
}

impl Sources {
    /// `memory` is for the bodies of them all.
    pub(super) fn new(configs: Vec<SourceConfig>, memory: &Memory) -> Sources {
        let shares = Shares::new(configs.iter().map(|config| (Arc::clone(&config.name), config.max_queued)));
        let source = |config: SourceConfig| {
            let memory = memory.of_source(shares.of(&config.name));
            (Arc::clone(&config.name), Source::new(config, memory))
        };
        Sources(configs.into_iter().map(source).collect())
    }

    /// The source of this name, for what came in through it before.
    pub(super) fn named(&self, name: &str) -> Option<&Source> {
        self.0.get(name)
    }

    pub(super) fn route(&self, head: &Parts) -> Result<Routed<'_>, Refusal> {
        let name = head.uri.path().strip_prefix(HOOKS).ok_or(Refusal::UnknownSource)?;
        self.0.get(name).map(Routed).ok_or(Refusal::UnknownSource)
    }
}

impl<'a> Routed<'a> {
    pub(super) fn name(self) -> &'a Arc<str> {
        &self.0.name
    }

    pub(super) fn post(self, head: &Parts) -> Result<Posted<'a>, Refusal> {
        if head.method == Method::POST { Ok(Posted(self.0)) } else { Err(Refusal::NotPost) }
    }
}

impl<'a> Posted<'a> {
    pub(super) fn allow(self, peer: &Peer) -> Result<Allowed<'a>, Refusal> {
        if peer.certificate == ClientCertificate::Missing {
            return Err(Refusal::CertificateNotAllowed);
        }
        // On a dual-stack socket an IPv4 sender has an IPv6 address that no IPv4 range contains.
        let address = peer.address.to_canonical();
        let ranges = &self.0.allow_from;
        let allowed = ranges.is_empty() || ranges.iter().any(|range| range.contains(&address));
        if allowed { Ok(Allowed(self.0)) } else { Err(Refusal::AddressNotAllowed) }
    }
}

impl<'a> Allowed<'a> {
    pub(super) fn authenticate(self, head: &Parts) -> Result<Known<'a>, Refusal> {
        match self.0.auth.check_head(&head.headers, head.uri.query()) {
            Ok(proof) => Ok(Known(self.0, proof)),
            Err(_) => Err(Refusal::NotAuthenticated),
        }
    }
}

impl<'a> Known<'a> {
    pub(super) fn limit(self, now: Monotonic) -> Result<Admitted<'a>, Refusal> {
        self.0.limiter.check(now).map(|proof| Admitted(self.0, proof)).map_err(Refusal::OverLimit)
    }
}

impl<'a> Admitted<'a> {
    pub(super) fn source(self) -> &'a Source {
        self.0
    }

    /// Where its body may be held.
    pub(super) fn memory(self) -> &'a SourceMemory {
        &self.0.memory
    }

    pub(super) fn count(self, elements: usize, now: Monotonic) -> Result<Counted<'a>, Refusal> {
        self.0.limiter.count_batch(elements, now).map(|()| Counted(self.0)).map_err(Refusal::OverLimit)
    }
}

impl<'a> Counted<'a> {
    pub(super) fn source(self) -> &'a Source {
        self.0
    }
}

const HOOKS: &str = "/hooks/";
