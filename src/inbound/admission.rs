//! Admission: a request is checked before its body is read: route, method, client certificate, address, credential, rate,
//! in this order.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::request::Parts;
use ipnet::IpNet;

use super::auth::{HeadChecked, Policy};
use super::body::{BodyMemory, BufferedBody, SourceMemory};
use super::handshake::Handshake;
use super::limits::Limiter;
use super::payload::{Payload, Reading};
use super::refusal::Refusal;
use super::{Accept, Respond, SourceConfig};
use crate::clock::Monotonic;
use crate::journal::Shares;
use crate::server::{ClientCertificate, Peer};
use crate::text::plain;
use crate::yaml::nearest;

/// A source that takes requests, without its rules, which change.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) respond: Respond,
    pub(super) respond_timeout: Duration,
    pub(super) accept: Accept,
    pub(super) handshake: Option<Handshake>,
    /// Holds the bodies of its requests.
    pub(super) memory: SourceMemory,
    probes: bool,
    auth: Policy,
    allow_from: Vec<IpNet>,
    limiter: Limiter,
}

/// Every source by its name.
#[derive(Debug)]
pub(super) struct Sources(HashMap<Arc<str>, Source>);

/// Proves that a request passed every check of its head, so that its body may be read. Only [`Sources::admit`] makes one.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    source: &'a Source,
    head: HeadChecked,
}

/// A request that is not refused by its head.
#[derive(Debug)]
pub(super) enum Admission<'a> {
    Admitted(Admitted<'a>),
    /// It asks whether anybody is there, and that is all.
    Probe,
}

/// A path that leads to no source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Astray {
    /// Its beginning, as it may stand in a line.
    pub(super) path: String,
    /// The source whose name is nearly the one that was asked for.
    pub(super) nearest: Option<String>,
}

/// A request that was not admitted.
#[derive(Debug)]
pub(super) struct NotAdmitted<'a> {
    /// Present as soon as the request names a source.
    pub(super) source: Option<&'a Arc<str>>,
    pub(super) refusal: Refusal,
}

impl Sources {
    /// `memory` holds the bodies of them all.
    pub(super) fn new(configs: Vec<SourceConfig>, memory: &BodyMemory) -> Sources {
        let shares = Shares::new(configs.iter().map(|config| (Arc::clone(&config.name), config.max_queued)));
        let source = |config: SourceConfig| {
            let memory = memory.of_source(shares.of(&config.name));
            (Arc::clone(&config.name), Source::new(config, memory))
        };
        Sources(configs.into_iter().map(source).collect())
    }

    /// The source of this name, for a payload that came in through it before.
    pub(super) fn named(&self, name: &str) -> Option<&Source> {
        self.0.get(name)
    }

    /// Checks a request by its head and counts it towards the rate limit of its source.
    pub(super) fn admit(&self, head: &Parts, peer: &Peer, now: Monotonic) -> Result<Admission<'_>, NotAdmitted<'_>> {
        let source = head.uri.path().strip_prefix(HOOKS).and_then(|name| self.named(name));
        let Some(source) = source else {
            return Err(NotAdmitted { source: None, refusal: Refusal::UnknownSource });
        };
        source.admit(head, peer, now).map_err(|refusal| NotAdmitted { source: Some(&source.name), refusal })
    }
}

impl Sources {
    /// Describes a path that leads to no source, for the log. It looks at all sources, so that it is asked for lines that
    /// are written, and not for each request of a stranger.
    pub(super) fn astray(&self, path: &str) -> Astray {
        let name = path.strip_prefix(HOOKS).unwrap_or(path).trim_matches('/');
        let nearest = nearest(name, self.0.keys().map(|name| &**name)).filter(|_| !name.is_empty()).map(str::to_owned);
        let is_secret = |segment: &str| self.0.values().any(|source| source.auth.is_secret(segment));
        // One who writes the token into the path shall not find it in the log.
        let segments = path.split('/').take(SEGMENTS_MAX);
        let segments = segments.map(|segment| if is_secret(segment) { "(secret)" } else { segment });
        let shown: String = segments.collect::<Vec<_>>().join("/").chars().take(PATH_CHARS_MAX).collect();
        Astray { path: plain(&shown), nearest }
    }
}

impl Source {
    fn new(config: SourceConfig, memory: SourceMemory) -> Source {
        let SourceConfig { name, auth, allow_from, rate_limit, respond, respond_timeout, .. } = config;
        let SourceConfig { accept, probes, handshake, .. } = config;
        let limiter = Limiter::new(rate_limit);
        Source { name, respond, respond_timeout, accept, handshake, memory, probes, auth, allow_from, limiter }
    }

    fn admit(&self, head: &Parts, peer: &Peer, now: Monotonic) -> Result<Admission<'_>, Refusal> {
        let is_probe = self.probes && [Method::GET, Method::HEAD].contains(&head.method);
        if head.method != Method::POST && !is_probe {
            return Err(Refusal::NotPost { probes: self.probes });
        }
        if peer.certificate == ClientCertificate::Missing {
            return Err(Refusal::CertificateNotAllowed);
        }
        if !self.allows(peer.address) {
            return Err(Refusal::AddressNotAllowed);
        }
        // Who probes shows no token, and learns nothing but that this source is there, as a 405 would tell, too.
        if is_probe {
            return Ok(Admission::Probe);
        }
        let checked = self.auth.check_head(&head.headers, head.uri.query());
        let head = checked.map_err(Refusal::NotAuthenticated)?;
        // Last, so that strangers never spend the limit of a source.
        self.limiter.check(now).map_err(Refusal::OverLimit)?;
        Ok(Admission::Admitted(Admitted { source: self, head }))
    }

    fn allows(&self, address: IpAddr) -> bool {
        // On a dual-stack socket an IPv4 sender has an IPv6 address that no IPv4 range contains.
        let address = address.to_canonical();
        self.allow_from.is_empty() || self.allow_from.iter().any(|range| range.contains(&address))
    }
}

impl<'a> Admitted<'a> {
    pub(super) fn source(&self) -> &'a Source {
        self.source
    }

    /// Checks the body against the credentials, the second half of authentication: only then it may be decoded.
    pub(super) fn check_body(&self, body: BufferedBody, reading: Reading) -> Result<Payload, Refusal> {
        let authenticated = self.head.check_body(&body.bytes).map_err(Refusal::NotAuthenticated)?;
        Ok(Payload::new(body, reading, authenticated))
    }

    /// Counts the other elements of a batch towards the rate limit.
    pub(super) fn count(&self, elements: usize, now: Monotonic) -> Result<(), Refusal> {
        self.source.limiter.count_batch(elements, now).map_err(Refusal::OverLimit)
    }
}

const HOOKS: &str = "/hooks/";
/// More than the path of any webhook has.
const SEGMENTS_MAX: usize = 8;
const PATH_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use http::Request;

    use super::*;
    use crate::credential::Credential;
    use crate::inbound::SourceRules;
    use crate::inbound::limits::{OverLimit, RateLimit};
    use crate::journal::Share;
    use crate::rules::RuleSet;
    use crate::secret::Secret;
    use crate::yaml::{self, Findings};

    /// One source `s` that takes one request a second.
    fn sources(probes: bool) -> Sources {
        let text = "version: 1\nrules: [{ name: a, then: ignore }]".to_owned();
        let file = Arc::new(yaml::Source::new("rules.yaml".into(), text));
        let config = SourceConfig {
            name: "s".into(),
            rules: SourceRules { live: Arc::new(RuleSet::compile(&file, &mut Findings::new()).unwrap()), shadow: None },
            from: None,
            auth: Policy::AnyOf(vec![Credential::Bearer(Secret::new("token".to_owned()))]),
            allow_from: vec!["192.0.2.0/24".parse().unwrap()],
            rate_limit: RateLimit {
                per_second: NonZeroU32::MIN,
                burst: NonZeroU32::MIN,
                answer: OverLimit::TooManyRequests,
            },
            max_queued: Share::Auto,
            respond: Respond::Queued,
            respond_timeout: Duration::from_secs(1),
            accept: Accept::default(),
            probes,
            handshake: None,
        };
        Sources::new(vec![config], &BodyMemory::new(1_000, Arc::default()))
    }

    #[test]
    fn checks_come_in_their_order_and_a_stranger_spends_nothing_of_the_limit() {
        let sources = sources(false);
        let admit = |path: &str, method: Method, certificate, address: &str, token: &str| {
            let request =
                Request::builder().uri(path).method(method).header("authorization", format!("Bearer {token}"));
            let (head, ()) = request.body(()).unwrap().into_parts();
            let peer = Peer { address: address.parse().unwrap(), certificate };
            match sources.admit(&head, &peer, Monotonic(0)) {
                Ok(Admission::Admitted(admitted)) => (&*admitted.source().name, "admitted"),
                Ok(Admission::Probe) => ("s", "probe"),
                Err(NotAdmitted { source, refusal }) => (source.map_or("none", |source| source), refusal.label()),
            }
        };
        let (missing, valid) = (ClientCertificate::Missing, ClientCertificate::Valid);
        let (here, elsewhere) = ("192.0.2.7", "203.0.113.7");
        // Each row mends what the row before was refused for.
        for (expected, found) in [
            (("none", "unknown_source"), admit("/hooks/other", Method::GET, missing, elsewhere, "wrong")),
            (("s", "method"), admit("/hooks/s", Method::GET, missing, elsewhere, "wrong")),
            (("s", "certificate"), admit("/hooks/s", Method::POST, missing, elsewhere, "wrong")),
            (("s", "address"), admit("/hooks/s", Method::POST, valid, elsewhere, "wrong")),
            (("s", "not_authenticated"), admit("/hooks/s", Method::POST, valid, here, "wrong")),
            (("s", "admitted"), admit("/hooks/s", Method::POST, valid, "::ffff:192.0.2.7", "token")),
            (("s", "rate_limit"), admit("/hooks/s", Method::POST, valid, here, "token")),
            (("s", "not_authenticated"), admit("/hooks/s", Method::POST, valid, here, "wrong")),
        ] {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_is_told_bounded_and_without_secrets_and_with_the_source_that_was_meant() {
        let sources = sources(false);
        let astray = |path: &str| {
            let Astray { path, nearest } = sources.astray(path);
            (path, nearest)
        };
        let near = Some("s".to_owned());
        assert_eq!(astray("/hooks/s/"), ("/hooks/s/".to_owned(), near.clone()));
        assert_eq!(astray("/S"), ("/S".to_owned(), near));
        assert_eq!(astray("/"), ("/".to_owned(), None));
        assert_eq!(astray("/hooks/s/token"), ("/hooks/s/(secret)".to_owned(), None));
        assert_eq!(astray("/hooks/a\u{1b}[2J").0, "/hooks/a\\u{1b}[2J");
        let long = format!("/hooks/{}", "x".repeat(10_000));
        assert_eq!((astray(&long).0.len(), astray(&"/".repeat(10_000)).0.len()), (PATH_CHARS_MAX, SEGMENTS_MAX - 1));
    }

    #[test]
    fn a_probe_shows_no_token_and_comes_from_where_senders_are() {
        let admit = |probes: bool, method: Method, certificate, address: &str| {
            let (head, ()) = Request::builder().uri("/hooks/s").method(method).body(()).unwrap().into_parts();
            let peer = Peer { address: address.parse().unwrap(), certificate };
            match sources(probes).admit(&head, &peer, Monotonic(0)) {
                Ok(Admission::Probe) => "probe",
                Ok(Admission::Admitted(_)) => "admitted",
                Err(NotAdmitted { refusal, .. }) => refusal.label(),
            }
        };
        let (missing, valid) = (ClientCertificate::Missing, ClientCertificate::Valid);
        let (here, elsewhere) = ("192.0.2.7", "203.0.113.7");
        for (expected, found) in [
            ("probe", admit(true, Method::GET, valid, here)),
            ("probe", admit(true, Method::HEAD, valid, here)),
            ("method", admit(true, Method::PUT, valid, here)),
            ("certificate", admit(true, Method::GET, missing, here)),
            ("address", admit(true, Method::GET, valid, elsewhere)),
            ("not_authenticated", admit(true, Method::POST, valid, here)),
            ("method", admit(false, Method::GET, valid, here)),
        ] {
            assert_eq!(found, expected);
        }
    }
}
