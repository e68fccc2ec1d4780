//! The way of a request: admit, read the body, decode, decide, record, respond.
//!
//! [`Ingest`] takes it there in one straight line of steps, each of which needs the result of the step before.
//! A step that does not take the request leaves by a [`Refusal`]. Nothing here opens a socket or does TLS:
//! [`crate::server`] hands over requests and says who the peer is.

mod admission;
pub(crate) mod auth;
mod body;
mod body_shares;
mod charset;
mod confirmation;
mod confirmation_source;
mod elements;
mod explained;
mod form;
mod gzip;
mod handshake;
mod kept;
pub(crate) mod limits;
mod loaded_rules;
mod payload;
mod preference;
mod refusal;
mod replay;
mod request_id;
mod request_log;
mod response;
mod seen_messages;
mod self_check;
mod shadow;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use ipnet::IpNet;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, debug_span, field};

use crate::clock::Clock;
use crate::inbound::limits::RateLimit;
use crate::journal::Share;
use crate::journal::recorder::{PendingSettlement, Recorded, Recorder};
use crate::journal::request::{Entry, Submission};
use crate::lenient_json::JsonReading;
use crate::metrics::Metrics;
use crate::rules::{Context, Decision, RuleSet};
use crate::server::{self, AnswerBody, Answering, Authenticated, BadHead, Holder, Peer, RequestBody, Service};
use crate::shutdown::Shutdown;
use crate::tls;

use admission::{Admission, Admitted, NotAdmitted, Source, Sources};
use body::{BodyMemory, Upload};
use charset::Charset;
use elements::Elements;
use gzip::{Coding, looks_packed};
use handshake::Echo;
use loaded_rules::LoadedRules;
use payload::{Payload, Reading, beginning};
use refusal::Refused;
use request_id::RequestMetadata;
use request_log::RequestLog;
use response::Reply;
use shadow::Shadow;

pub use body::BodyLimits;
pub use confirmation_source::ConfirmationSource;
pub(crate) use explained::Explained;
pub use handshake::Handshake;
pub(crate) use kept::repairs_of_kept;
pub use loaded_rules::{RulesBySource, SourceRules};
pub(crate) use payload::Decoded;
pub use payload::json;
pub(crate) use payload::{read_kept, read_payload};
pub use refusal::Refusal;
pub(crate) use refusal::{NotJson, TakenBy};
pub(crate) use replay::Replayed;
pub(crate) use request_id::{request_id, request_time, sender_id};
pub(crate) use self_check::Submitted;

/// The `listen` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub address: SocketAddr,
    /// None: plain HTTP.
    pub tls: Option<tls::Config>,
    pub limits: server::Limits,
    /// The proxies before the listener.
    pub addresses: server::Addresses,
    pub bodies: BodyLimits,
}

/// One entry of the `sources` section.
#[derive(Debug)]
pub struct SourceConfig {
    pub name: Arc<str>,
    /// The rules until they are exchanged by [`Ingest::exchange_rules`].
    pub rules: SourceRules,
    /// Callgoose's `from` parameter.
    pub from: Option<String>,
    pub auth: auth::Policy,
    /// Empty: anywhere.
    pub allow_from: Vec<IpNet>,
    pub rate_limit: RateLimit,
    /// The share of the queue, and of the memory for bodies, that this source may use.
    pub max_queued: Share,
    pub respond: Respond,
    pub respond_timeout: Duration,
    pub accept: Accept,
    /// GET and HEAD are answered 200.
    pub probes: bool,
    pub handshake: Option<Handshake>,
}

/// The bodies that a source takes beside plain JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    pub json: JsonReading,
    /// A body that is no JSON may be a form.
    pub form: bool,
    pub gzip: bool,
}

/// When a sender is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Respond {
    /// Once the event is durable.
    Queued,
    /// Once every event is settled, or `respond_timeout` ran out.
    Delivered,
}

/// Takes requests. Clones share everything.
#[derive(Clone, Debug)]
pub struct Ingest(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sources: Sources,
    rules: LoadedRules,
    shadow: Shadow,
    limits: BodyLimits,
    recorder: Recorder,
    log: RequestLog,
    metrics: Arc<Metrics>,
    clock: Clock,
    shutdown: Shutdown,
    /// Bodies whose rest is read and dropped.
    draining: TaskTracker,
}

impl Ingest {
    pub fn new(
        sources: Vec<SourceConfig>,
        confirmations: Vec<ConfirmationSource>,
        limits: BodyLimits,
        recorder: Recorder,
        metrics: Arc<Metrics>,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Ingest {
        let memory = BodyMemory::new(limits.bytes_max, Arc::clone(&metrics));
        let unverified = BodyMemory::for_unverified(limits.bytes_max, Arc::clone(&metrics));
        let rules = sources.iter().map(|source| (Arc::clone(&source.name), source.rules.clone()));
        let log = RequestLog::new(Arc::clone(&metrics), clock, recorder.tap().clone(), recorder.activity().clone());
        log.show(sources.iter().map(|source| &source.name), confirmations.iter().map(|source| &source.name));
        Ingest(Arc::new(Shared {
            rules: LoadedRules::new(rules.collect()),
            shadow: Shadow::new(recorder.clone(), Arc::clone(&metrics), clock, shutdown.clone()),
            sources: Sources::new(sources, confirmations, &memory, &unverified),
            limits,
            recorder,
            log,
            metrics,
            clock,
            shutdown,
            draining: TaskTracker::new(),
        }))
    }

    /// Exchanges the rules. A request that has begun ends with those that it began with.
    pub fn exchange_rules(&self, rules: &RulesBySource) {
        self.0.rules.exchange(rules);
    }

    /// The limit of a body.
    pub fn body_bytes_max(&self) -> usize {
        self.0.limits.bytes_max
    }

    /// Waits until no body is being drained any more.
    pub async fn finished(&self) {
        self.0.draining.close();
        self.0.draining.wait().await;
    }

    async fn take_request(&self, request: Request<RequestBody>, peer: Peer) -> Response<Bytes> {
        let (head, body) = request.into_parts();
        let about = RequestMetadata::now(Some(&head.headers));
        let span = debug_span!(
            "request",
            request_id = %about.id,
            trace_id = %about.trace.id(),
            peer = %peer.address,
            source = field::Empty,
            rule = field::Empty,
            incident_key = field::Empty
        );
        let mut upload = Upload::new(body, Holder::of(peer.address));
        let mut response = self.0.respond(&head, &mut upload, &peer, &about).instrument(span).await;
        about.identify(&mut response);
        if let Some(upload) = upload.rest(&head, &mut response) {
            self.0.draining.spawn(upload.drain());
        }
        response
    }
}

impl Service for Ingest {
    fn answer(self: Arc<Self>, request: Request<RequestBody>, peer: Peer) -> Answering {
        Box::pin(async move { self.take_request(request, peer).await.map(AnswerBody::from) })
    }

    fn refuse(&self, head: BadHead, peer: Peer) -> Response<Bytes> {
        let about = RequestMetadata::now(None);
        let mut response = self.0.refuse(&Refusal::Head(head).into(), None, &peer, &about);
        about.identify(&mut response);
        response
    }
}

impl Shared {
    async fn respond<B: Body<Data = Bytes> + Unpin>(
        &self,
        head: &Parts,
        upload: &mut Upload<B>,
        peer: &Peer,
        about: &RequestMetadata,
    ) -> Response<Bytes> {
        let admitted = match self.sources.admit(head, peer, self.clock.now()) {
            Ok(Admission::Admitted(admitted)) => admitted,
            Ok(Admission::Probe) => return response::probe(),
            Err(NotAdmitted { source: None, refusal }) => {
                let refused = refusal.into();
                self.log.refused(&refused, None, peer, about, || Some(self.sources.guess(head.uri.path())));
                return refused.response(&about.id);
            }
            Err(NotAdmitted { source, refusal }) => return self.refuse(&refusal.into(), source, peer, about),
        };
        let source = &admitted.source().name;
        Span::current().record("source", &**source);
        let taken = self.take_admitted(&admitted, head, upload, about).await;
        let mut response = taken.unwrap_or_else(|refused| self.refuse(&refused, Some(source), peer, about));
        if admitted.is_authenticated() {
            response.extensions_mut().insert(Authenticated);
        }
        response
    }

    /// The way of an admitted request, from its body to its response.
    async fn take_admitted<B: Body<Data = Bytes> + Unpin>(
        &self,
        admitted: &Admitted<'_>,
        head: &Parts,
        upload: &mut Upload<B>,
        about: &RequestMetadata,
    ) -> Result<Response<Bytes>, Refused> {
        let source = admitted.source();
        if let Some(confirms) = &source.confirms {
            return self.confirm(admitted, confirms, head, upload, about).await;
        }
        // Looked up once: a request that is under way when the rules are exchanged ends with the old ones.
        let rules = self.rules.of(&source.name).ok_or(Refusal::UnknownSource)?;

        let coding = check_content_headers(&head.headers, source.accept);
        let body = admitted.read(upload, self.limits).await?;
        // Of what is refused by its headers too: it is kept, and read in its charset when it is replayed.
        let reading = Reading::new(Charset::declared(&head.headers), source.accept);
        let mut payload = admitted.check_body(body, reading, self.clock.now().monotonic)?;
        let message = payload.message();
        let earlier = message.and_then(|message| source.seen.earlier(message, self.clock.now().monotonic));
        if earlier.is_some() {
            self.log.repeated(&source.name, about);
        }
        if coding == Ok(Coding::Gzip) {
            payload.unpack(self.limits.bytes_max)?;
        }
        let decision = match self.check_and_decide(coding, &payload, &rules.live, source, about) {
            Ok(Decided::ByRules(decision)) => decision,
            Ok(Decided::Echo(echo)) => {
                self.log.echoed(&source.name, about);
                return Ok(response::echo(echo));
            }
            Err(refusal) => return Err(self.keep(refusal, head, &payload, source, about).await),
        };
        // Only now is it known how many events the request holds.
        admitted.count(decision.elements.len(), self.clock.now().monotonic)?;
        self.log.decided(&decision, &source.name, about);

        let preferred = preference::wait_seconds(&head.headers);
        let wait = wait(source, preferred);
        let Elements { entries, ignored, batch } = Elements::of(&source.name, decision);
        let mut submission = submission(source, &payload, about, entries, wait.is_some());
        submission.earlier = earlier.unwrap_or_default();
        let recorded = self.record(submission).await?;
        let became = elements::became(&recorded);
        self.metrics.acknowledged(about.started.elapsed());

        let replies = elements::replies(ignored, recorded);
        let events: Vec<_> = replies.iter().map(|(reply, _)| reply.id()).collect();
        // The payload is given up here: its memory is free while the sender waits for the upstream.
        self.shadow.decide_again(&source.name, payload, rules, about.received_at, events);
        let replies = self.wait_for_upstream(replies, wait).await;
        self.log.recorded(&replies, &source.name, about);
        let response = response::recorded(&replies, batch, preferred.and(wait), &about.id);
        // One that became no event is decided again: the rules may be others then.
        if let (Some(message), false, true) = (message, became.is_empty(), response.status().is_success()) {
            source.seen.remember(message, became, self.clock.now().monotonic);
        }
        Ok(response)
    }

    /// Decides a payload that is whole, has a coding and a type that its source takes, and is JSON.
    fn check_and_decide(
        &self,
        coding: Result<Coding, Refusal>,
        payload: &Payload,
        rules: &RuleSet,
        source: &Source,
        about: &RequestMetadata,
    ) -> Result<Decided, Refusal> {
        // First that it is whole: what is kept of a part must not pass for the whole.
        payload.check_whole(self.limits.bytes_max)?;
        coding.map_err(|refusal| refusal.of_body(looks_packed(payload.raw())))?;
        self.decide(rules, payload, source, about).map_err(Refusal::NotJson)
    }

    /// Decodes and decides in one step: the decoded payload, many times the size of its text, is gone before anything is
    /// waited for.
    fn decide(
        &self,
        rules: &RuleSet,
        payload: &Payload,
        source: &Source,
        about: &RequestMetadata,
    ) -> Result<Decided, NotJson> {
        let Decoded { value, repairs } = payload.decode()?;
        let repaired = |repairs| self.metrics.payload_repaired(&source.name, repairs);
        if let Some(echo) = source.handshake.as_ref().and_then(|handshake| handshake.echo(&value)) {
            repaired(repairs);
            return Ok(Decided::Echo(echo));
        }
        let received_at = about.received_at.rfc3339();
        let context = Context { source: &source.name, received_at: &received_at, json: source.accept.json, repairs };
        let decision = rules.decide(&value, context);
        repaired(repairs.and(decision.repairs));
        Ok(Decided::ByRules(decision))
    }

    async fn record(&self, submission: Submission) -> Result<Vec<Recorded>, Refusal> {
        if submission.entries.is_empty() {
            return Ok(Vec::new());
        }
        self.recorder.record(submission).await.map_err(Refusal::Unavailable)
    }

    /// Keeps what an authenticated sender sent, before it is told that it is refused: an alert may be in it.
    async fn keep(
        &self,
        refusal: Refusal,
        head: &Parts,
        payload: &Payload,
        source: &Source,
        about: &RequestMetadata,
    ) -> Refused {
        let violations = refusal.violations(&head.headers);
        let entry = Entry::Refused { element: None, reason: refusal.label(), violations };
        let mut submission = submission(source, payload, about, vec![entry], false);
        if let Refusal::BodyTooLarge { .. } = refusal {
            submission.raw = beginning(&submission.raw);
        }
        match self.record(submission).await {
            Ok(recorded) => Refused { refusal, kept: recorded.first().map(|recorded| recorded.receipt.id()) },
            Err(unavailable) => unavailable.into(),
        }
    }

    /// Waits until every event is settled, the time runs out, or the relay stops; not at all where `wait` is none.
    async fn wait_for_upstream(
        &self,
        replies: Vec<(Reply, Option<PendingSettlement>)>,
        wait: Option<Duration>,
    ) -> Vec<Reply> {
        let deadline = wait.and_then(|wait| Instant::now().checked_add(wait));
        let mut waited = Vec::with_capacity(replies.len());
        for (mut reply, pending) in replies {
            if let (Reply::Event(event), Some(pending), Some(deadline)) = (&mut reply, pending, deadline) {
                event.settled = tokio::select! {
                    biased;
                    settled = pending.settled() => settled,
                    () = tokio::time::sleep_until(deadline.into()) => None,
                    () = self.shutdown.begun() => None,
                };
            }
            waited.push(reply);
        }
        waited
    }

    fn refuse(
        &self,
        refused: &Refused,
        source: Option<&Arc<str>>,
        peer: &Peer,
        about: &RequestMetadata,
    ) -> Response<Bytes> {
        self.log.refused(refused, source, peer, about, || None);
        refused.response(&about.id)
    }
}

/// Checks by its headers that a body has a coding and a type that the source takes; returns the coding.
fn check_content_headers(headers: &HeaderMap, accept: Accept) -> Result<Coding, Refusal> {
    let coding = Coding::of(headers, accept.gzip)?;
    Charset::of(headers, accept.form)?;
    Ok(coding)
}

/// The decision over a payload: by the rules, or the text that a handshake asks for.
enum Decided {
    ByRules(Decision),
    /// It is a handshake, which no rule sees.
    Echo(Echo),
}

/// The time that this sender waits for the upstream; none where it does not.
fn wait(source: &Source, preferred_seconds: Option<u64>) -> Option<Duration> {
    let configured = (source.respond == Respond::Delivered).then_some(source.respond_timeout);
    preferred_seconds
        .map(Duration::from_secs)
        .or(configured)
        .map(|wait| wait.min(source.respond_timeout))
        .filter(|wait| !wait.is_zero())
}

fn submission(
    source: &Source,
    payload: &Payload,
    about: &RequestMetadata,
    entries: Vec<Entry>,
    wait_for_settlement: bool,
) -> Submission {
    Submission {
        source: Arc::clone(&source.name),
        request_id: Arc::clone(&about.id),
        sender_request_id: about.sender_id.clone(),
        trace: Some(about.trace.clone()),
        received_at: about.received_at,
        raw: payload.raw().clone(),
        charset: payload.reading().charset.label(),
        entries,
        wait_for_settlement,
        earlier: Arc::default(),
    }
}
