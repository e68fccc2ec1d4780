//! The texts to type into a sender and into Callgoose, so that both meet the relay: out of its configuration and rules.
//! No secret is among them, only where it is.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;

use super::Advice;
use crate::callgoose::filters::{Filters, KeyFilter, TRIGGER_FILTERS_MAX};
use crate::credential::{Credential, Hmac};
use crate::event::Action;
use crate::inbound::auth::Policy;
use crate::rules::{BodyShape, Known};
use crate::secret::{Origin, Secret};

/// The listener that senders reach.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub address: SocketAddr,
    pub transport: Transport,
    /// Senders must show a client certificate, too.
    pub asks_certificate: bool,
    /// A connection without a PROXY header is refused.
    pub proxy_protocol: bool,
}

/// The transport under a listener's HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// `tls: off`
    Plain,
    Certified,
    /// By a certificate that signed itself, in this file.
    SelfSigned(String),
}

/// A source as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct SourceEntry {
    pub name: Arc<str>,
    /// Callgoose puts it before every title.
    pub from: Option<String>,
    /// Any of these lets a request in; empty: `auth: none`.
    pub proofs: Vec<Proof>,
    pub takes_forms: bool,
    /// Networks; empty means anywhere.
    pub allow_from: Vec<String>,
    /// Callgoose's outgoing webhooks are its sender.
    pub confirms: bool,
}

/// One way in which a sender proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    means: Means,
    /// Places of its secrets, of which any will do; empty where there is none.
    kept: Vec<String>,
}

/// The means by which a request proves its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Means {
    Bearer,
    Header(String),
    Query(String),
    Basic {
        user: String,
    },
    Hmac {
        header: String,
        /// The header of the timestamp.
        timestamp: Option<String>,
        /// The text that is signed, and how.
        recipe: String,
    },
    StandardWebhooks,
    Certificate(String),
}

/// One thing to type somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    /// The field.
    pub field: &'static str,
    pub value: String,
    /// The value tells in words which one to choose: it is none to copy.
    pub in_words: bool,
}

/// The texts for one sender, and what to mind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SenderSetup {
    /// One way to show a secret each; any of them will do.
    pub(crate) ways: Vec<Way>,
    pub(crate) doubts: Vec<Advice>,
}

/// The texts to type into a sender that shows its secret in one place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) typed: Vec<Typed>,
    /// Where the secret is; none where there is no secret.
    pub(crate) secret: Option<String>,
}

/// A filter to enter in Callgoose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterSetup {
    pub(crate) heading: String,
    pub(crate) typed: Vec<Typed>,
}

impl SourceEntry {
    pub(crate) fn new(
        name: &Arc<str>,
        from: Option<&str>,
        auth: &Policy,
        takes_forms: bool,
        allow_from: Vec<String>,
    ) -> SourceEntry {
        let proofs = match auth {
            Policy::Open => Vec::new(),
            Policy::AnyOf(credentials) => Proof::of_all(credentials),
        };
        let (name, from) = (Arc::clone(name), from.map(str::to_owned));
        SourceEntry { name, from, proofs, takes_forms, allow_from, confirms: false }
    }

    /// The same as a source of `kind: confirmation`.
    pub(crate) fn of_confirmations(self) -> SourceEntry {
        SourceEntry { confirms: true, ..self }
    }

    /// The texts to type into the sender of this source.
    pub(crate) fn setup(&self, listener: &Listener) -> SenderSetup {
        let mut ways: Vec<Way> = self.proofs.iter().map(|proof| self.way(listener, Some(proof))).collect();
        if ways.is_empty() {
            ways.push(self.way(listener, None));
        }
        SenderSetup { ways, doubts: self.doubts() }
    }

    fn way(&self, listener: &Listener, proof: Option<&Proof>) -> Way {
        let url = format!("{}/hooks/{}", listener.base(), self.name);
        let means = proof.map(|proof| &proof.means);
        let url = match means {
            Some(Means::Query(name)) => format!("{url}?{name}=TOKEN"),
            _ => url,
        };
        let mut all = vec![Typed::value("URL", url), Typed::value("Method", "POST")];
        all.extend(means.map(Means::typed).unwrap_or_default());
        all.push(match self.takes_forms {
            true => Typed::in_words("Content-Type", "application/json (or application/x-www-form-urlencoded)"),
            false => Typed::value("Content-Type", "application/json"),
        });
        let kept = proof.map(|proof| proof.kept.join("; or ")).filter(|kept| !kept.is_empty());
        Way { typed: all, secret: kept }
    }

    /// The settings that are not as they should be, or need something more of the sender.
    fn doubts(&self) -> Vec<Advice> {
        let mut doubts = Vec::new();
        if self.confirms && !self.proofs.is_empty() && !self.proofs.iter().any(Proof::is_in_url) {
            doubts.push(Advice::new(
                "Callgoose does not document whether its webhooks can carry a header of yours",
                format!("where they can't, add `query: {{ name: token, secret: … }}` to `sources.{}.auth`", self.name),
            ));
        }
        if self.proofs.is_empty() {
            let can = if self.confirms { "say that incidents were opened" } else { "open and close incidents" };
            doubts.push(Advice::new(
                format!("`auth: none`: whoever reaches this address can {can}"),
                format!("write `auth: [ {{ bearer: {{ env: NAME }} }} ]` under `sources.{}`", self.name),
            ));
        }
        if !self.allow_from.is_empty() {
            doubts.push(Advice::new(
                format!("only senders in {} are let in", self.allow_from.join(", ")),
                format!("where its address is another one, add it to `sources.{}.allow_from`", self.name),
            ));
        }
        doubts
    }
}

impl Typed {
    pub(crate) fn value(field: &'static str, value: impl Into<String>) -> Typed {
        Typed { field, value: value.into(), in_words: false }
    }

    fn in_words(field: &'static str, words: &str) -> Typed {
        Typed { field, value: words.to_owned(), in_words: true }
    }
}

impl Proof {
    fn is_in_url(&self) -> bool {
        matches!(self.means, Means::Query(_))
    }

    /// One for each means; two secrets for one are two places where its secret may be.
    fn of_all(credentials: &[Credential]) -> Vec<Proof> {
        let mut proofs: Vec<Proof> = Vec::new();
        for credential in credentials {
            let (means, kept) = (Means::of(credential), credential.secret().map(kept));
            match proofs.iter_mut().find(|proof| proof.means == means) {
                Some(proof) => proof.kept.extend(kept),
                None => proofs.push(Proof { means, kept: kept.into_iter().collect() }),
            }
        }
        proofs
    }
}

impl Means {
    fn of(credential: &Credential) -> Means {
        match credential {
            Credential::Bearer(_) => Means::Bearer,
            Credential::Header { name, .. } => Means::Header(name.to_string()),
            Credential::Query { name, .. } => Means::Query(name.clone()),
            Credential::Basic { user, .. } => Means::Basic { user: user.clone() },
            Credential::Hmac(Hmac { header, algorithm, encoding, prefix, timestamp, signed, .. }) => Means::Hmac {
                header: header.to_string(),
                timestamp: timestamp.as_ref().map(|timestamp| timestamp.header.to_string()),
                recipe: format!("{prefix}HMAC-{} of {signed} in {}", algorithm.as_str(), encoding.as_str()),
            },
            Credential::StandardWebhooks(_) => Means::StandardWebhooks,
            Credential::Certificate(names) => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                Means::Certificate(names.join(" or "))
            }
        }
    }

    /// The fields beside URL, method and content type. TOKEN stands for the secret.
    fn typed(&self) -> Vec<Typed> {
        match self {
            Means::Bearer => vec![Typed::value("Header", "Authorization: Bearer TOKEN")],
            Means::Header(name) => vec![Typed::value("Header", format!("{name}: TOKEN"))],
            Means::Query(_) => Vec::new(),
            Means::Basic { user } => vec![Typed::value("User", user), Typed::value("Password", "TOKEN")],
            Means::Hmac { header, timestamp, recipe } => {
                let mut typed = vec![Typed::value("Secret", "TOKEN"), Typed::value("Signature header", header)];
                typed.extend(timestamp.as_ref().map(|header| Typed::value("Timestamp header", header)));
                typed.push(Typed::in_words("Signature", recipe));
                typed
            }
            Means::StandardWebhooks => {
                vec![Typed::value("Secret", "TOKEN"), Typed::in_words("Signature", "Standard Webhooks, version v1")]
            }
            Means::Certificate(names) => {
                vec![Typed::in_words("Client certificate", &format!("one for the name {names}"))]
            }
        }
    }
}

impl Listener {
    /// The URL without a path.
    fn base(&self) -> String {
        let scheme = if self.transport == Transport::Plain { "http" } else { "https" };
        let ip = self.address.ip();
        match (ip.is_unspecified(), ip.is_loopback()) {
            (true, _) => format!("{scheme}://{HOST}:{}", self.address.port()),
            (_, true) => format!("{scheme}://localhost:{}", self.address.port()),
            _ => format!("{scheme}://{}", self.address),
        }
    }

    /// The properties of the listener that every sender has to know.
    pub(crate) fn doubts(&self) -> Vec<Advice> {
        let mut doubts = Vec::new();
        if self.address.ip().is_loopback() {
            doubts.push(Advice::new(
                "`listen.address` is loopback: only senders on this machine reach it",
                format!("write `0.0.0.0:{}`, or give senders the URL of the proxy before it", self.address.port()),
            ));
        }
        match &self.transport {
            Transport::Certified => {}
            Transport::Plain => doubts.push(Advice::new(
                "`tls: off`: whoever is on the way reads the token and the alerts",
                "give senders the https URL of the proxy before it, or take `tls: off` away",
            )),
            Transport::SelfSigned(file) => doubts.push(Advice::new(
                "the certificate is self-signed: a sender takes it only if it is told to",
                format!("let the sender trust `{file}`, or give the relay a certificate of an authority it trusts"),
            )),
        }
        if self.asks_certificate {
            doubts.push(Advice::new(
                "senders must show a client certificate that `listen.tls.client_ca` signed",
                "give the sender its certificate and key",
            ));
        }
        if self.proxy_protocol {
            doubts.push(Advice::new(
                "`listen.proxy_protocol` is required: who connects without the load balancer is refused",
                "give senders the URL of the load balancer, not the one here",
            ));
        }
        doubts
    }
}

/// The steps in Callgoose to the form for an outgoing webhook, of which its documentation says no more.
pub(crate) const CONFIRMATION_STEPS: &str = "Callgoose: Webhook → Add Webhook. `Webhook related with`: Global for every \
    team, else the team or service whose incidents Gander opens. Choose its events about incidents that are created and \
    resolved, and type these";

/// Where the value of a secret is found.
fn kept(secret: &Secret) -> String {
    match secret.origin() {
        Some(Origin::Variable(name)) => format!("TOKEN is the value of the relay's environment variable `{name}`"),
        Some(Origin::File(path)) => format!("TOKEN is what the file `{}` holds", path.display()),
        None if secret.expose(|_| ()).is_none() => {
            "the configuration has only the hash of TOKEN: who made it knows it".to_owned()
        }
        None => "TOKEN is written out in the configuration".to_owned(),
    }
}

/// The body that a shipped rule file expects, where SENDERS.md has one. `stem`: the file's name without `.yaml`.
pub(crate) fn body_template(stem: &str) -> Option<&'static str> {
    let link = format!("[{stem}.yaml]({stem}.yaml)");
    let section = SENDERS.split("\n## ").find(|section| section.contains(&link))?;
    let body = section.split("```json\n").nth(1)?.split("\n```").next()?;
    Some(body)
}

/// The filters of a file, as a person enters them in Callgoose.
pub(crate) fn of_filters(filters: &Filters) -> Vec<FilterSetup> {
    let mut setups = Vec::new();
    for service in &filters.services {
        for (index, trigger) in service.triggers.iter().enumerate() {
            let mut typed = of_keys(&trigger.keys);
            typed.push(Typed::value("Urgency", trigger.urgency.to_string()));
            let more = [
                ("Incident Title From", &trigger.title_from),
                ("Incident Description From", &trigger.description_from),
                ("Map Incident With", &trigger.map_incident_with),
            ];
            typed.extend(more.into_iter().filter_map(|(field, key)| Some(Typed::value(field, key.clone()?))));
            let number = index + 1;
            setups.push(FilterSetup { heading: format!("Service {}, trigger filter {number}", service.name), typed });
        }
        setups.extend(service.resolve.iter().map(|resolve| {
            let mut typed = of_keys(&resolve.keys);
            typed.push(Typed::value("Incident Mapped With", &*resolve.incident_mapped_with));
            FilterSetup { heading: format!("Service {}, resolve filter", service.name), typed }
        }));
    }
    setups
}

fn of_keys(keys: &[KeyFilter]) -> Vec<Typed> {
    let one = |key: &KeyFilter| {
        [Typed::value("Payload JSON Key", &*key.key), Typed::value("Key Value Contains", key.contains.join(", "))]
    };
    keys.iter().flat_map(one).collect()
}

/// The filters that match what rules send; none where the rules do not say by which texts a problem and its recovery are
/// told apart.
pub(crate) fn of_rules(body_shapes: &[BodyShape]) -> Option<Vec<FilterSetup>> {
    let of = |action| -> Vec<&BodyShape> { body_shapes.iter().filter(|shape| shape.action == action).collect() };
    let (triggers, resolves) = (of(Action::Trigger), of(Action::Resolve));
    let keys = triggers.first()?.keys.keys().map(String::as_str);
    // As the shipped rules do, where these do so, too.
    let (key, problems, recovery) = std::iter::once(STATE).chain(keys).find_map(|key| {
        let (problems, recoveries) = (texts(&triggers, key)?, texts(&resolves, key)?);
        // A resolve filter wants all of its items, so there is room for one.
        let [recovery] = recoveries.as_slice() else { return None };
        let are_apart = problems.iter().all(|problem| !problem.contains(recovery) && !recovery.contains(problem));
        (are_apart && problems.len() <= TRIGGER_FILTERS_MAX).then(|| (key, problems, (*recovery).to_owned()))
    })?;
    let mapped = |field| match mapped_with(&triggers, &resolves) {
        Some(key) => Typed::value(field, key),
        None => Typed::in_words(field, "a key whose value a trigger and its resolve share"),
    };
    let one = |text: &str| vec![Typed::value("Payload JSON Key", key), Typed::value("Key Value Contains", text)];
    let mut setups: Vec<FilterSetup> = Vec::new();
    for problem in problems {
        let mut entries = one(problem);
        let titles = [("Incident Title From", "title"), ("Incident Description From", "description")];
        let sent = titles.into_iter().filter(|(_, key)| triggers.iter().any(|one| one.keys.contains_key(*key)));
        entries.extend(sent.map(|(field, key)| Typed::value(field, key)));
        entries.push(mapped("Map Incident With"));
        setups.push(FilterSetup { heading: "Trigger filter".to_owned(), typed: entries });
    }
    let mut entries = one(&recovery);
    entries.push(mapped("Incident Mapped With"));
    setups.push(FilterSetup { heading: "Resolve filter".to_owned(), typed: entries });
    Some(setups)
}

/// The key at the top of all bodies that a trigger and its resolve share: that of the shipped rules, or the payload's member
/// that is the incident key.
fn mapped_with<'s>(triggers: &[&'s BodyShape], resolves: &[&'s BodyShape]) -> Option<&'s str> {
    let mut all = triggers.iter().chain(resolves);
    if all.clone().all(|shape| shape.keys.contains_key(MAPPED)) {
        return Some(MAPPED);
    }
    let key = all.next()?.incident_key.as_deref()?;
    all.all(|shape| shape.incident_key.as_deref() == Some(key)).then_some(key)
}

/// The texts that a key can have in the events of these rules; none where they are not written out, or there is no rule.
fn texts<'o>(body_shapes: &[&'o BodyShape], key: &str) -> Option<Vec<&'o str>> {
    let mut texts = Vec::new();
    for shape in body_shapes {
        let Some(Known::OneOf(values)) = shape.keys.get(key) else { return None };
        texts.extend(values.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?);
    }
    texts.sort_unstable();
    texts.dedup();
    (!texts.is_empty()).then_some(texts)
}

/// Stands where the relay can't know how senders call its machine.
pub(crate) const HOST: &str = "YOUR-HOST";
/// The keys of the shipped rules.
const STATE: &str = "state";
const MAPPED: &str = "servicepilot_event_id";
const SENDERS: &str = include_str!("../../config/rules/SENDERS.md");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Algorithm, Encoding, SignedText, Timestamp};
    use crate::rules::RuleSet;
    use crate::yaml::{Findings, Source};

    fn listener(address: &str, transport: Transport) -> Listener {
        Listener { address: address.parse().unwrap(), transport, asks_certificate: false, proxy_protocol: false }
    }

    fn source(auth: &Policy) -> SourceEntry {
        SourceEntry::new(&Arc::from("grafana"), None, auth, false, Vec::new())
    }

    fn lines(way: &Way) -> String {
        way.typed.iter().map(|typed| format!("{}={}\n", typed.field, typed.value)).collect()
    }

    #[test]
    fn a_sender_is_told_where_its_secret_goes_and_where_it_is_and_never_the_secret() {
        let secret = || Secret::new("hunter2".to_owned()).read_from(Origin::Variable("GRAFANA_TOKEN".to_owned()));
        let auth = Policy::AnyOf(vec![
            Credential::Bearer(secret()),
            Credential::Header { name: http::HeaderName::from_static("x-token"), secret: secret() },
            Credential::Query { name: "token".to_owned(), secret: Secret::from_sha256([7; 32]) },
            Credential::Bearer(Secret::new("hunter3".to_owned()).read_from(Origin::File("next".into()))),
            Credential::Basic { user: "gander".to_owned(), password: secret() },
            Credential::StandardWebhooks(secret()),
            Credential::Certificate(vec![crate::credential::SubjectName::dns("sender.example")]),
            Credential::Hmac(Hmac {
                header: http::HeaderName::from_static("x-slack-signature"),
                secret: secret(),
                algorithm: Algorithm::Sha256,
                encoding: Encoding::Hex,
                prefix: "v0=".to_owned(),
                timestamp: Some(Timestamp {
                    header: http::HeaderName::from_static("x-at"),
                    tolerance: std::time::Duration::from_secs(300),
                }),
                signed: SignedText::parse("v0:{timestamp}:{body}").unwrap(),
            }),
        ]);
        let setup = source(&auth).setup(&listener("0.0.0.0:8443", Transport::Certified));
        let [bearer, header, query, basic, webhooks, certificate, hmac] = &setup.ways[..] else { panic!("{setup:?}") };
        assert_eq!(
            lines(bearer),
            "URL=https://YOUR-HOST:8443/hooks/grafana\nMethod=POST\nHeader=Authorization: Bearer TOKEN\n\
             Content-Type=application/json\n"
        );
        assert!(lines(header).contains("Header=x-token: TOKEN\n"));
        assert!(lines(query).contains("/hooks/grafana?token=TOKEN\n") && !lines(query).contains("Header"));
        assert!(bearer.secret.as_ref().unwrap().contains("`GRAFANA_TOKEN`; or TOKEN is what the file `next` holds"));
        assert!(lines(basic).contains("User=gander\nPassword=TOKEN\n") && lines(webhooks).contains("Secret=TOKEN\n"));
        assert!(lines(certificate).contains("sender.example") && certificate.secret.is_none());
        assert!(lines(hmac).contains(
            "Secret=TOKEN\nSignature header=x-slack-signature\nTimestamp header=x-at\n\
             Signature=v0=HMAC-sha256 of v0:{timestamp}:{body} in hex\n"
        ));
        assert!(query.secret.as_ref().unwrap().contains("only the hash"));
        assert_eq!(setup.doubts, []);
        assert!(!format!("{setup:?}").contains("hunter"));
    }

    #[test]
    fn what_is_not_right_is_told() {
        for (address, transport, said) in [
            ("0.0.0.0:80", Transport::Plain, &["auth: none", "tls: off"][..]),
            ("127.0.0.1:1", Transport::Certified, &["auth: none", "loopback"]),
            ("[::]:1", Transport::SelfSigned("certs/server.pem".to_owned()), &["auth: none", "self-signed"]),
        ] {
            let listener = listener(address, transport);
            let setup = source(&Policy::Open).setup(&listener);
            let doubts = [setup.doubts, listener.doubts()].concat();
            let whys: Vec<&str> = doubts.iter().map(|doubt| &*doubt.why).collect();
            assert_eq!(whys.len(), said.len(), "{whys:?}");
            assert!(whys.iter().zip(said).all(|(why, said)| why.contains(said)), "{whys:?}");
            assert_eq!((setup.ways.len(), &setup.ways[0].secret), (1, &None));
        }
        let url = |address, transport| {
            source(&Policy::Open).setup(&listener(address, transport)).ways[0].typed[0].value.clone()
        };
        assert_eq!(url("[::1]:9", Transport::Plain), "http://localhost:9/hooks/grafana");
        assert_eq!(url("192.0.2.7:443", Transport::Certified), "https://192.0.2.7:443/hooks/grafana");
    }

    fn body_shapes(rules: &str) -> Vec<BodyShape> {
        let source = Arc::new(Source::new("rules.yaml".into(), rules.to_owned()));
        RuleSet::compile(&source, &mut Findings::new()).unwrap().body_shapes()
    }

    #[test]
    fn filters_are_told_from_what_the_rules_send() {
        let setups = of_rules(&body_shapes(include_str!("../../config/rules/servicepilot.yaml"))).unwrap();
        let told: Vec<String> = setups.iter().flat_map(|setup| &setup.typed).map(|typed| typed.value.clone()).collect();
        assert_eq!(
            told,
            [
                "state",
                "CRITICAL",
                "title",
                "description",
                "servicepilot_event_id",
                "state",
                "OK",
                "servicepilot_event_id"
            ]
        );
        let as_it_came = "version: 1\nrules: [{ name: a, then: trigger }]\nincident_key: $.id\n";
        assert_eq!(of_rules(&body_shapes(as_it_came)), None);
        assert!(setups.iter().flat_map(|setup| &setup.typed).all(|typed| !typed.in_words), "{setups:?}");
    }

    #[test]
    fn the_key_of_a_payload_that_is_sent_as_it_came_is_named_and_one_that_is_made_of_parts_is_told_in_words() {
        let mapped = |key: &str| {
            let rules = format!(
                "version: 1\nincident_key: {key}\nrules:\n  \
                 - {{ name: a, when: {{ path: $.state, equals: BAD }}, then: trigger }}\n  \
                 - {{ name: b, when: {{ path: $.state, equals: GOOD }}, then: resolve }}\n"
            );
            let setups = of_rules(&body_shapes(&rules)).unwrap();
            let last = setups.iter().map(|setup| setup.typed.last().unwrap());
            last.map(|typed| (typed.field, typed.value.clone(), typed.in_words)).collect::<Vec<_>>()
        };
        let fields = ["Map Incident With", "Incident Mapped With"];
        assert_eq!(mapped("$.id"), fields.map(|field| (field, "id".to_owned(), false)));
        let words = "a key whose value a trigger and its resolve share";
        assert_eq!(mapped("[$.host, $.check]"), fields.map(|field| (field, words.to_owned(), true)));
    }

    #[test]
    fn a_loopback_listener_is_told_its_own_port() {
        let doubts = listener("127.0.0.1:47102", Transport::Certified).doubts();
        assert!(doubts[0].remedy.as_ref().unwrap().starts_with("write `0.0.0.0:47102`, or"), "{doubts:?}");
    }

    #[test]
    fn a_listener_behind_the_proxy_protocol_is_no_address_for_senders() {
        let behind = Listener { proxy_protocol: true, ..listener("192.0.2.7:443", Transport::Certified) };
        let doubts = behind.doubts();
        assert!(doubts.len() == 1 && doubts[0].remedy.as_ref().unwrap().contains("load balancer"), "{doubts:?}");
    }

    #[test]
    fn the_body_of_a_preset_is_what_the_page_for_senders_says() {
        assert!(body_template("servicepilot").unwrap().contains("\"servicepilot_event_id\": \"<% event.id %>\""));
        assert_eq!(body_template("nobody"), None);
    }
}
