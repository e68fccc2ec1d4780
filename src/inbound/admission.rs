//! Admission: a request is checked before its body is read: route, method, client certificate, address, credential, rate,
//! in this order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use http_body::Body;
use ipnet::IpNet;

use super::auth::{HeadChecked, Policy};
use super::body::{BodyLimits, BodyMemory, BufferedBody, SourceMemory, Upload};
use super::confirmation_source::{ConfirmationSource, Confirms};
use super::handshake::Handshake;
use super::limits::Limiter;
use super::payload::{Payload, Reading};
use super::refusal::Refusal;
use super::request_log::Guess;
use super::seen_messages::SeenMessages;
use super::{Accept, Respond, SourceConfig};
use crate::clock::{Monotonic, Now};
use crate::credential::RequestHead;
use crate::journal::{Share, Shares};
use crate::server::{ClientCertificate, Peer};
use crate::yaml::nearest;

/// A source that takes requests, without its rules, which change.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) respond: Respond,
    pub(super) respond_timeout: Duration,
    pub(super) accept: Accept,
    pub(super) handshake: Option<Handshake>,
    /// Present where it takes confirmations, which no rule sees, in place of alerts.
    pub(super) confirms: Option<Confirms>,
    /// Holds the bodies of its requests.
    pub(super) memory: SourceMemory,
    /// Holds the bodies of which only a signature will tell whether they are its senders'.
    unverified: SourceMemory,
    pub(super) seen: SeenMessages,
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
    /// Nothing of its authentication is left to the body.
    authenticated: AtomicBool,
}

/// A request that is not refused by its head.
#[derive(Debug)]
pub(super) enum Admission<'a> {
    Admitted(Admitted<'a>),
    /// It asks whether anybody is there, and that is all.
    Probe,
}

/// A request that was not admitted.
#[derive(Debug)]
pub(super) struct NotAdmitted<'a> {
    /// Present as soon as the request names a source.
    pub(super) source: Option<&'a Arc<str>>,
    pub(super) refusal: Refusal,
}

impl Sources {
    /// `memory` holds the bodies of them all, `unverified` those of strangers and of senders that are not known yet.
    pub(super) fn new(
        configs: Vec<SourceConfig>,
        confirmations: Vec<ConfirmationSource>,
        memory: &BodyMemory,
        unverified: &BodyMemory,
    ) -> Sources {
        let all = configs.iter().map(|config| (Arc::clone(&config.name), config.max_queued));
        let shares = Shares::new(all.chain(confirmations.iter().map(|config| (Arc::clone(&config.name), Share::Auto))));
        let names: Arc<[Arc<str>]> = configs.iter().map(|config| Arc::clone(&config.name)).collect();
        let confirmations = confirmations.into_iter().map(|config| {
            let memories = [memory, unverified].map(|memory| memory.of_source(shares.of(&config.name)));
            (Arc::clone(&config.name), Source::of_confirmations(config, &names, memories))
        });
        let confirmations: Vec<_> = confirmations.collect();
        let source = |config: SourceConfig| {
            let [memory, unverified] = [memory, unverified].map(|memory| memory.of_source(shares.of(&config.name)));
            (Arc::clone(&config.name), Source::new(config, memory, unverified))
        };
        Sources(configs.into_iter().map(source).chain(confirmations).collect())
    }

    /// The source of this name, for a payload that came in through it before.
    pub(super) fn named(&self, name: &str) -> Option<&Source> {
        self.0.get(name)
    }

    /// Checks a request by its head and counts it towards the rate limit of its source, once its sender is known.
    pub(super) fn admit(&self, head: &Parts, peer: &Peer, now: Now) -> Result<Admission<'_>, NotAdmitted<'_>> {
        let source = head.uri.path().strip_prefix(HOOKS).and_then(|name| self.named(name));
        let Some(source) = source else {
            return Err(NotAdmitted { source: None, refusal: Refusal::UnknownSource });
        };
        source.admit(head, peer, now).map_err(|refusal| NotAdmitted { source: Some(&source.name), refusal })
    }

    /// Guesses which source a path was meant for that leads to none. It looks at all sources, so that it is asked for
    /// lines that are written, and not for each request of a stranger.
    pub(super) fn guess(&self, path: &str) -> Guess {
        let rest = path.strip_prefix(HOOKS);
        let asked = rest.unwrap_or(path).trim_matches('/');
        let (name, more) = asked.split_at(asked.find(|c: char| !is_of_name(c)).unwrap_or(asked.len()));
        let nearest = nearest(name, self.0.keys().map(|name| &**name)).filter(|_| !name.is_empty()).map(str::to_owned);
        let hint = match nearest {
            None => None,
            Some(_) if rest.is_none() => Some("a webhook's path is `/hooks/` and the name of its source"),
            Some(_) if more.starts_with('&') => Some("the parameters of a URL begin with `?`, not with `&`"),
            Some(_) if !more.is_empty() || path.ends_with('/') => {
                Some("the path has to end with the name of the source")
            }
            Some(_) => Some("the name is spelled otherwise"),
        };
        Guess { nearest, hint }
    }
}

impl Source {
    fn new(config: SourceConfig, memory: SourceMemory, unverified: SourceMemory) -> Source {
        let SourceConfig { name, auth, allow_from, rate_limit, respond, respond_timeout, .. } = config;
        let SourceConfig { accept, probes, handshake, .. } = config;
        let (limiter, confirms, seen) = (Limiter::new(rate_limit), None, SeenMessages::default());
        Source {
            name,
            respond,
            respond_timeout,
            accept,
            handshake,
            confirms,
            memory,
            unverified,
            seen,
            probes,
            auth,
            allow_from,
            limiter,
        }
    }

    /// `alerts`: the names of the sources whose incidents may be confirmed.
    fn of_confirmations(
        config: ConfirmationSource,
        alerts: &Arc<[Arc<str>]>,
        [memory, unverified]: [SourceMemory; 2],
    ) -> Source {
        let ConfirmationSource { name, auth, allow_from, rate_limit, accept, probes, shape } = config;
        Source {
            name,
            respond: Respond::Queued,
            respond_timeout: Duration::ZERO,
            accept,
            handshake: None,
            confirms: Some(Confirms::new(shape, alerts)),
            memory,
            unverified,
            seen: SeenMessages::default(),
            probes,
            auth,
            allow_from,
            limiter: Limiter::new(rate_limit),
        }
    }

    fn admit(&self, head: &Parts, peer: &Peer, now: Now) -> Result<Admission<'_>, Refusal> {
        let is_probe = self.probes && [Method::GET, Method::HEAD].contains(&head.method);
        if head.method != Method::POST && !is_probe {
            return Err(Refusal::NotPost { probes: self.probes });
        }
        if peer.certificate == ClientCertificate::Missing {
            return Err(Refusal::CertificateNotAllowed);
        }
        if !self.allows(peer) {
            return Err(Refusal::AddressNotAllowed);
        }
        // Who probes shows no token, and learns nothing but that this source is there, as a 405 would tell, too.
        if is_probe {
            return Ok(Admission::Probe);
        }
        let shown = RequestHead { headers: &head.headers, query: head.uri.query(), names: &peer.names, now: now.wall };
        let head = self.auth.check_head(&shown).map_err(Refusal::NotAuthenticated)?;
        // Last, so that strangers never spend the limit of a source; where the body will tell, after that.
        if !head.awaits_body() {
            self.limiter.check(now.monotonic).map_err(Refusal::OverLimit)?;
        }
        let authenticated = AtomicBool::new(!head.awaits_body());
        Ok(Admission::Admitted(Admitted { source: self, head, authenticated }))
    }

    fn allows(&self, peer: &Peer) -> bool {
        // On a dual-stack socket an IPv4 sender has an IPv6 address that no IPv4 range contains.
        let address = peer.address.to_canonical();
        // Of a sender whose proxy does not tell its address only the proxy's is known, which would let everybody in.
        let is_within = || peer.doubt.is_none() && self.allow_from.iter().any(|range| range.contains(&address));
        self.allow_from.is_empty() || is_within()
    }
}

impl<'a> Admitted<'a> {
    pub(super) fn source(&self) -> &'a Source {
        self.source
    }

    /// Its sender is known by now.
    pub(super) fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// Reads the body, within the memory of its source where that sent it, else within what strangers may take.
    pub(super) async fn read<B>(&self, upload: &mut Upload<B>, limits: BodyLimits) -> Result<BufferedBody, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if !self.head.awaits_body() {
            return upload.read(limits, &self.source.memory).await;
        }
        // Nobody could tell whose it is by its beginning.
        if upload.exceeds(limits.bytes_max) {
            return Err(Refusal::BodyTooLarge { bytes_max: limits.bytes_max }.of_unverified());
        }
        let read = upload.read(limits, &self.source.unverified).await.map_err(Refusal::of_unverified)?;
        match read.cut_off {
            true => Err(Refusal::BodyTooLarge { bytes_max: limits.bytes_max }.of_unverified()),
            false => Ok(read),
        }
    }

    /// Checks the body against the credentials, the second half of authentication: only then it may be decoded. What is
    /// counted and set aside for senders counts a request that the body authenticates from here on.
    pub(super) fn check_body(
        &self,
        mut body: BufferedBody,
        reading: Reading,
        now: Monotonic,
    ) -> Result<Payload, Refusal> {
        let authenticated = self.head.check_body(&body.bytes).map_err(Refusal::NotAuthenticated)?;
        self.authenticated.store(true, Ordering::Relaxed);
        if self.head.awaits_body() {
            self.source.limiter.check(now).map_err(Refusal::OverLimit)?;
            body.move_to(&self.source.memory)?;
        }
        Ok(Payload::new(body, reading, &authenticated))
    }

    /// Counts the other elements of a batch towards the rate limit.
    pub(super) fn count(&self, elements: usize, now: Monotonic) -> Result<(), Refusal> {
        self.source.limiter.count_batch(elements, now).map_err(Refusal::OverLimit)
    }
}

/// A character that the name of a source may have.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

const HOOKS: &str = "/hooks/";

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use http::Request;

    use super::*;
    use crate::clock::WallTime;
    use crate::credential::Credential;
    use crate::inbound::SourceRules;
    use crate::inbound::limits::{OverLimit, RateLimit};
    use crate::rules::RuleSet;
    use crate::secret::Secret;
    use crate::server::Origin;
    use crate::yaml::{self, Findings};

    const NOW: Now = Now { monotonic: Monotonic(0), wall: WallTime(0) };

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
        let [memory, unverified] = [(); 2].map(|()| BodyMemory::new(1_000, Arc::default()));
        Sources::new(vec![config], Vec::new(), &memory, &unverified)
    }

    #[test]
    fn checks_come_in_their_order_and_a_stranger_spends_nothing_of_the_limit() {
        let sources = sources(false);
        let admit = |path: &str, method: Method, certificate, address: &str, token: &str| {
            let request =
                Request::builder().uri(path).method(method).header("authorization", format!("Bearer {token}"));
            let (head, ()) = request.body(()).unwrap().into_parts();
            let peer = Peer::of(Origin::known(address.parse().unwrap()), certificate);
            match sources.admit(&head, &peer, NOW) {
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
    fn of_a_path_that_leads_nowhere_the_source_that_was_meant_is_told_and_nothing_that_a_stranger_wrote() {
        let sources = sources(false);
        for (path, hint) in [
            ("/S", Some("a webhook's path")),
            ("/hooks/S", Some("spelled otherwise")),
            ("/hooks/s/", Some("has to end")),
            ("/hooks/s/token", Some("has to end")),
            ("/hooks/s/dG9r/ZW4=", Some("has to end")),
            ("/hooks/s%26token%3Dtoken", Some("has to end")),
            ("/hooks/s&token=token", Some("begin with `?`")),
            ("/hooks/s&token=%74oken", Some("begin with `?`")),
            ("/hooks/\u{1b}[2J", None),
            ("/hooks/token", None),
            ("/", None),
        ] {
            let Guess { nearest, hint: told } = sources.guess(path);
            assert_eq!(nearest.as_deref(), hint.map(|_| "s"), "{path}");
            assert_eq!(told.is_some(), hint.is_some(), "{path}: {told:?}");
            assert!(told.zip(hint).is_none_or(|(told, hint)| told.contains(hint)), "{path}: {told:?}");
        }
        let long = format!("/hooks/{}", "s".repeat(10_000));
        assert_eq!(sources.guess(&long), Guess { nearest: None, hint: None });
    }

    #[test]
    fn a_probe_shows_no_token_and_comes_from_where_senders_are() {
        let admit = |probes: bool, method: Method, certificate, address: &str| {
            let (head, ()) = Request::builder().uri("/hooks/s").method(method).body(()).unwrap().into_parts();
            let peer = Peer::of(Origin::known(address.parse().unwrap()), certificate);
            match sources(probes).admit(&head, &peer, NOW) {
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
