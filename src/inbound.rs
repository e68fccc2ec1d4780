//! The way of one request: route, allow, authenticate, limit, read, decode, apply the rules, record, answer.
//!
//! It is written as one straight line of stages, each of which needs the result of the one before. What a stage
//! refuses leaves by one door, [`Refusal`]. It opens no socket and knows nothing of TLS: [`crate::server`] hands it requests
//! and tells it who the peer is.

mod admission;
pub mod auth;
mod body;
mod charset;
mod elements;
pub mod limits;
mod loaded_rules;
mod payload;
mod preference;
mod refusal;
mod replay;
mod request_id;
mod response;
mod shadow;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use ipnet::IpNet;
use serde_json::Value;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, debug, debug_span, field, info, warn};

use crate::clock::{Clock, WallTime};
use crate::inbound::limits::RateLimit;
use crate::journal::Share;
use crate::journal::recorder::{Entry, Follow, Recorder, Settled, Submission};
use crate::logging::LogThrottle;
use crate::metrics::Metrics;
use crate::rules::{Context, Decision, Element, RuleSet};
use crate::server::{self, Answering, BadHead, Peer, Service};
use crate::shutdown::Shutdown;
use crate::tls;

use admission::{Admitted, Routed, Source, Sources};
use body::{Held, Memory, Upload};
use charset::Charset;
use elements::Elements;
use loaded_rules::CurrentRules;
use response::Part;
use shadow::{Shadow, Sighting};

pub use body::BodyLimits;
pub use loaded_rules::{RulesBySource, SourceRules};
pub use refusal::{NotJson, Refusal};
pub use replay::Replayed;
pub use request_id::{request_id, request_time, sender_id};

/// The `listen` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub address: SocketAddr,
    /// None: plain HTTP.
    pub tls: Option<tls::Config>,
    pub limits: server::Limits,
    pub bodies: BodyLimits,
}

/// One entry of the `sources` section.
#[derive(Debug)]
pub struct SourceConfig {
    pub name: Arc<str>,
    /// What decides until it is exchanged by [`Ingest::exchange_rules`].
    pub rules: SourceRules,
    /// Callgoose's `from` parameter.
    pub from: Option<String>,
    pub auth: auth::Policy,
    /// Empty: anywhere.
    pub allow_from: Vec<IpNet>,
    pub rate_limit: RateLimit,
    /// How much of what waits, and of the memory for bodies, may be its own.
    pub max_queued: Share,
    pub respond: Respond,
    pub respond_timeout: Duration,
}

/// When a sender is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Respond {
    /// Once the event is durable.
    Queued,
    /// Once the upstream answered, or `respond_timeout` ran out.
    Delivered,
}

/// What a body says that came with these headers: the first and the last word on any bytes, whoever sent them.
pub fn json(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    payload::decode(body, Charset::of(headers)?).map_err(Refusal::NotJson)
}

/// Takes requests. Clones share everything.
#[derive(Clone, Debug)]
pub struct Ingest(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sources: Sources,
    rules: CurrentRules,
    shadow: Shadow,
    limits: BodyLimits,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    clock: Clock,
    shutdown: Shutdown,
    /// Lines about what was refused, and about what was taken: a flood of one does not hide the other.
    throttle: LogThrottle,
    accepted_throttle: LogThrottle,
    /// The bodies that are being drained.
    draining: TaskTracker,
}

/// What the relay says of itself in an answer and in its records.
struct Ticket<'a> {
    request_id: &'a Arc<str>,
    /// The `X-Request-Id` that the sender gave.
    sender_request_id: Option<&'a HeaderValue>,
    received_at: WallTime,
    started: Instant,
}

/// A request that was recorded.
struct Recorded {
    parts: Vec<Part>,
    batch: bool,
    /// The preference of the sender that was followed.
    applied: Option<Duration>,
}

impl Ingest {
    pub fn new(
        sources: Vec<SourceConfig>,
        limits: BodyLimits,
        recorder: Recorder,
        metrics: Arc<Metrics>,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Ingest {
        let memory = Memory::new(limits.bytes_max, Arc::clone(&metrics));
        let rules = sources.iter().map(|source| (Arc::clone(&source.name), source.rules.clone()));
        Ingest(Arc::new(Shared {
            rules: CurrentRules::new(rules.collect()),
            shadow: Shadow::new(recorder.clone(), Arc::clone(&metrics), clock, shutdown.clone()),
            sources: Sources::new(sources, &memory),
            limits,
            recorder,
            metrics,
            clock,
            shutdown,
            throttle: LogThrottle::default(),
            accepted_throttle: LogThrottle::default(),
            draining: TaskTracker::new(),
        }))
    }

    async fn take_request(&self, request: Request<Incoming>, peer: Peer) -> Response<Bytes> {
        let received_at = WallTime::now();
        let request_id = request_id(received_at);
        let span = debug_span!(
            "request",
            %request_id,
            peer = %peer.address,
            source = field::Empty,
            rule = field::Empty,
            incident_key = field::Empty
        );
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let sender_request_id = head.headers.get(X_REQUEST_ID);
        let ticket = Ticket { request_id: &request_id, sender_request_id, received_at, started };
        let mut upload = Upload::new(body);
        let mut response = self.0.respond(&head, &mut upload, &peer, &ticket).instrument(span).await;
        identify(&mut response, &request_id);
        self.0.drain_upload(upload, &head, &mut response);
        response
    }

    /// Decides by other rules from now on. A request that has begun ends with those that it began with.
    pub fn exchange_rules(&self, rules: &RulesBySource) {
        self.0.rules.exchange(rules);
    }

    /// Waits until nothing is being drained any more.
    pub async fn finished(&self) {
        self.0.draining.close();
        self.0.draining.wait().await;
    }
}

impl Service for Ingest {
    fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Answering {
        Box::pin(async move { self.take_request(request, peer).await })
    }

    fn refuse(&self, head: BadHead, peer: Peer) -> Response<Bytes> {
        let received_at = WallTime::now();
        let request_id = request_id(received_at);
        let started = Instant::now();
        let ticket = Ticket { request_id: &request_id, sender_request_id: None, received_at, started };
        let mut response = self.0.refuse(&Refusal::Head(head), None, &peer, &ticket);
        identify(&mut response, &request_id);
        response
    }
}

impl Shared {
    async fn respond<B>(
        &self,
        head: &Parts,
        upload: &mut Upload<B>,
        peer: &Peer,
        ticket: &Ticket<'_>,
    ) -> Response<Bytes>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let routed = match self.sources.route(head) {
            Ok(routed) => routed,
            Err(refusal) => return self.refuse(&refusal, None, peer, ticket),
        };
        Span::current().record("source", &**routed.name());
        match self.take(routed, head, upload, peer, ticket).await {
            Ok(recorded) => recorded.response(ticket.request_id),
            Err(refusal) => self.refuse(&refusal, Some(routed.name()), peer, ticket),
        }
    }

    /// The pipeline.
    async fn take<B>(
        &self,
        routed: Routed<'_>,
        head: &Parts,
        upload: &mut Upload<B>,
        peer: &Peer,
        ticket: &Ticket<'_>,
    ) -> Result<Recorded, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // Once, at the beginning: a request that is under way when the rules are exchanged ends with the old ones.
        let rules = self.rules.of(routed.name()).ok_or(Refusal::UnknownSource)?;
        let posted = routed.post(head)?;
        let allowed = posted.allow(peer)?;
        let known = allowed.authenticate(head)?;
        let admitted = known.limit(self.clock.now().monotonic)?;
        let charset = Charset::of(&head.headers)?;
        let held = upload.read(self.limits, admitted.memory()).await?;

        let decision = match decide(admitted.source(), &rules.live, &held, charset, ticket) {
            Ok(decision) => decision,
            Err(not_json) => return Err(self.keep_not_json(admitted, &held, charset, not_json, ticket).await),
        };
        // Only now is it known how many events it is.
        let counted = admitted.count(decision.elements.len(), self.clock.now().monotonic)?;
        let source = counted.source();
        let preferred = preference::wait_seconds(&head.headers);
        let wait = wait(source, preferred);
        self.note(&decision, &source.name, ticket);
        let Elements { entries, ignored, batch } = Elements::of(&source.name, decision);
        let mut recorded = Vec::new();
        if !entries.is_empty() {
            let submission = submission(&source.name, &held, charset, ticket, entries, wait.is_some());
            recorded = self.recorder.record(submission).await.map_err(Refusal::Unavailable)?;
        }
        let raw = rules.shadow.is_some().then(|| held.bytes.clone());
        drop(held);
        self.metrics.acknowledged(ticket.started.elapsed());
        let joined = elements::replies(ignored, recorded);
        if let Some(raw) = raw {
            let (source, received_at) = (Arc::clone(&source.name), ticket.received_at);
            let events = joined.iter().map(|(part, _)| part.event()).collect();
            self.shadow.see(Sighting { source, raw, charset, received_at, rules, events });
        }
        let parts = self.settle(joined, wait).await;
        self.report(&parts, &source.name, ticket);
        Ok(Recorded { parts, batch, applied: preferred.and(wait) })
    }

    /// What an authenticated sender sent is kept before it is told that it was wrong.
    async fn keep_not_json(
        &self,
        admitted: Admitted<'_>,
        held: &Held,
        charset: Charset,
        not_json: NotJson,
        ticket: &Ticket<'_>,
    ) -> Refusal {
        let entry = Entry::Refused { element: None, reason: refusal::NOT_JSON, violations: Vec::new() };
        let submission = submission(&admitted.source().name, held, charset, ticket, vec![entry], false);
        match self.recorder.record(submission).await {
            Ok(recorded) => {
                let id = recorded.first().map(|recorded| recorded.receipt.id());
                Refusal::NotJson(NotJson { id, ..not_json })
            }
            Err(unavailable) => Refusal::Unavailable(unavailable),
        }
    }

    /// Waits for the upstream where that is asked for: until all events are settled, the time runs out, or the relay
    /// stops.
    async fn settle(&self, joined: Vec<(Part, Option<Follow>)>, wait: Option<Duration>) -> Vec<Part> {
        let deadline = wait.and_then(|wait| Instant::now().checked_add(wait));
        let mut parts = Vec::with_capacity(joined.len());
        for (part, follow) in joined {
            parts.push(match self.followed(follow, deadline).await {
                Some(settled) => part.settled(settled),
                None => part,
            });
        }
        parts
    }

    async fn followed(&self, follow: Option<Follow>, deadline: Option<Instant>) -> Option<Settled> {
        let (follow, deadline) = (follow?, deadline?);
        tokio::select! {
            biased;
            settled = follow.settled() => settled,
            () = tokio::time::sleep_until(deadline.into()) => None,
            () = self.shutdown.begun() => None,
        }
    }

    /// Counts what the recorder does not, and tells the span what was decided.
    fn note(&self, decision: &Decision, source: &Arc<str>, ticket: &Ticket<'_>) {
        for element in &decision.elements {
            match element {
                Element::Event(draft) => {
                    let span = Span::current();
                    span.record("rule", &*draft.rule);
                    span.record("incident_key", &*draft.incident_key);
                }
                Element::Ignored { .. } => self.metrics.event_ignored(source),
                Element::Refused { .. } => self.metrics.request_refused(Some(source), refusal::UNPROCESSABLE),
            }
        }
        let failures = &decision.template_failures;
        for _ in 0..failures.count {
            self.metrics.template_failed(source);
        }
        if failures.count > 0
            && let Some(suppressed) = self.throttle.permit(self.clock.now().monotonic)
        {
            let (request_id, count, first) = (ticket.request_id, failures.count, failures.first.as_deref());
            warn!(%request_id, source = &**source, count, first, suppressed, "templates failed and left their text empty");
        }
    }

    /// Logs what became of the events, and what nobody will be alerted of: there a person should look.
    fn report(&self, parts: &[Part], source: &str, ticket: &Ticket<'_>) {
        let mut refused = Vec::new();
        for part in parts {
            match part {
                Part::Event { action, standing, .. } => debug!(%action, ?standing, "kept"),
                Part::Refused { id, violations } => refused.push((id, violations)),
                Part::Ignored { .. } => {}
            }
        }
        let mut events = parts.iter().filter_map(|part| match part {
            Part::Event { action, incident_key, standing } => Some((action, incident_key, standing)),
            _ => None,
        });
        if let Some((action, incident_key, standing)) = events.next()
            && let Some(suppressed) = self.accepted_throttle.permit(self.clock.now().monotonic)
        {
            let (request_id, event, more) = (ticket.request_id, standing.event(), events.count());
            let (sender_request_id, status) =
                (ticket.sender_request_id.map(|id| sender_id(id.as_bytes())), standing.word());
            info!(
                %request_id, sender_request_id, source, %event, %action, incident_key, status, more, suppressed,
                "took a request"
            );
        }
        if let Some((event, violations)) = refused.first()
            && let Some(suppressed) = self.throttle.permit(self.clock.now().monotonic)
        {
            let (request_id, sender_request_id) =
                (ticket.request_id, ticket.sender_request_id.map(|id| sender_id(id.as_bytes())));
            let (path, refused) = (violations.first().map_or("$", |violation| &violation.path), refused.len());
            warn!(
                %request_id, sender_request_id, source, %event, path, refused, suppressed,
                "refused what the rules can't use; it is kept"
            );
        }
    }

    fn refuse(
        &self,
        refusal: &Refusal,
        source: Option<&Arc<str>>,
        peer: &Peer,
        ticket: &Ticket<'_>,
    ) -> Response<Bytes> {
        self.metrics.request_refused(source, refusal.label());
        if let Some(suppressed) = self.throttle.permit(self.clock.now().monotonic) {
            let source = source.map_or("none", |source| source);
            let sender_request_id = ticket.sender_request_id.map(|id| sender_id(id.as_bytes()));
            let (request_id, peer) = (ticket.request_id, peer.address);
            let (status, reason) = (refusal.status().as_u16(), refusal.label());
            // Something was kept and nobody alerted, or nothing could be kept: a person should look.
            if matches!(refusal, Refusal::NotJson(_) | Refusal::Unavailable(_)) {
                warn!(%request_id, sender_request_id, %peer, source, status, reason, suppressed, "refused a request");
            } else {
                info!(%request_id, sender_request_id, %peer, source, status, reason, suppressed, "refused a request");
            }
        }
        refusal.response(ticket.request_id)
    }

    /// Deals with what the sender still sends while it is being answered.
    ///
    /// A sender that is answered early reads its answer only after it sent its body, and loses it when the
    /// connection is reset under its hands. So a body of bearable size is drained beside the answer. One of which
    /// the sender has not sent a byte yet (it waits for `100 Continue`) may never come, and its place would be
    /// taken by the next request: there the connection ends with the answer.
    fn drain_upload<B>(&self, upload: Upload<B>, head: &Parts, response: &mut Response<Bytes>)
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        if upload.has_ended() {
            return;
        }
        if head.version <= Version::HTTP_11 && (head.headers.contains_key(EXPECT) || upload.exceeds(body::DRAIN_BYTES))
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if head.version == Version::HTTP_2 {
            // There a stream ends without its connection.
            response.headers_mut().remove(CONNECTION);
        } else if response.headers().contains_key(CONNECTION) {
            // The listener lets the sender finish, within the same limits, before it closes.
            return;
        }
        self.draining.spawn(upload.drain());
    }
}

impl Recorded {
    fn response(&self, request_id: &str) -> Response<Bytes> {
        let mut response = response::answer(&self.parts, self.batch, request_id);
        if let Some(wait) = self.applied
            && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", wait.as_secs()))
        {
            response.headers_mut().insert(preference::PREFERENCE_APPLIED, applied);
        }
        response
    }
}

/// Decodes and decides in one go: the decoded payload, many times the size of its text, is gone before anything is
/// waited for.
fn decide(
    source: &Source,
    rules: &RuleSet,
    held: &Held,
    charset: Charset,
    ticket: &Ticket<'_>,
) -> Result<Decision, NotJson> {
    let payload = payload::decode(&held.bytes, charset)?;
    let received_at = ticket.received_at.rfc3339();
    Ok(rules.decide(&payload, Context { source: &source.name, received_at: &received_at }))
}

/// How long this sender waits for the upstream; none where it does not.
fn wait(source: &Source, preferred_seconds: Option<u64>) -> Option<Duration> {
    let configured = (source.respond == Respond::Delivered).then_some(source.respond_timeout);
    preferred_seconds
        .map(Duration::from_secs)
        .or(configured)
        .map(|wait| wait.min(source.respond_timeout))
        .filter(|wait| !wait.is_zero())
}

fn submission(
    source: &Arc<str>,
    held: &Held,
    charset: Charset,
    ticket: &Ticket<'_>,
    entries: Vec<Entry>,
    follow: bool,
) -> Submission {
    Submission {
        source: Arc::clone(source),
        request_id: Arc::clone(ticket.request_id),
        sender_request_id: ticket.sender_request_id.map(|id| sender_id(id.as_bytes()).into()),
        received_at: ticket.received_at,
        raw: held.bytes.clone(),
        charset: charset.label(),
        entries,
        follow,
    }
}

fn identify(response: &mut Response<Bytes>, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A payload as it was received and kept, in its charset; none for UTF-8.
pub fn read_payload(raw: &[u8], charset: Option<&str>) -> Result<Value, NotJson> {
    payload::decode(raw, charset.and_then(Charset::named).unwrap_or_default())
}
