//! Metrics and log lines about requests, but for those that the recorder counts.
//!
//! Each line is throttled, and tells how many of its kind were suppressed.

use std::sync::Arc;

use tracing::field::display;
use tracing::{Span, debug, info, warn};

use super::refusal::{self, Refusal, Refused, UNPROCESSABLE};
use super::request_id::RequestMetadata;
use super::response::{EventReply, Reply};
use crate::activity::Activity;
use crate::callgoose::confirmation::{IncidentAction, Relation, Told};
use crate::clock::Clock;
use crate::event::State;
use crate::journal::request::Confirmed;
use crate::logging::LogThrottle;
use crate::metrics::Metrics;
use crate::rules::{Decision, Element};
use crate::server::{Doubt, Peer};
use crate::tap::{self, Tap, TapLine};

/// Tells of requests.
#[derive(Debug)]
pub(super) struct RequestLog {
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Apart from each other: a flood of refused requests does not hide those that were taken.
    refused: LogThrottle,
    taken: LogThrottle,
    tap: Tap,
    activity: Activity,
}

/// The likely meaning of a path that leads to no source. It holds only words of the configuration and of the relay: the
/// path itself is not logged, as a secret may stand anywhere in it, in any encoding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Guess {
    /// The source whose name is the one that was asked for, or nearly.
    pub(super) nearest: Option<String>,
    /// The difference between the path and that of this source.
    pub(super) hint: Option<&'static str>,
}

impl RequestLog {
    pub(super) fn new(metrics: Arc<Metrics>, clock: Clock, tap: Tap, activity: Activity) -> RequestLog {
        RequestLog { metrics, clock, refused: LogThrottle::default(), taken: LogThrottle::default(), tap, activity }
    }

    /// Shows the metrics of these sources and of their refusals, before there are any.
    pub(super) fn show<'a>(
        &self,
        sources: impl Iterator<Item = &'a Arc<str>>,
        confirmations: impl Iterator<Item = &'a Arc<str>>,
    ) {
        self.metrics.show_refusals(None, Refusal::labels_without_source());
        for source in confirmations {
            self.metrics.show_messages_repeated(source);
            self.metrics.show_refusals(Some(source), Refusal::labels_of_source());
        }
        for source in sources {
            self.metrics.show_source(source);
            self.metrics.show_refusals(Some(source), Refusal::labels_of_source().chain([UNPROCESSABLE]));
        }
    }

    /// The rules decided a payload.
    pub(super) fn decided(&self, decision: &Decision, source: &Arc<str>, about: &RequestMetadata) {
        for element in &decision.elements {
            match element {
                Element::Event(draft) => {
                    let span = Span::current();
                    span.record("rule", &*draft.rule);
                    span.record("incident_key", &*draft.incident_key);
                }
                Element::Ignored { rule } => {
                    self.metrics.event_ignored(source);
                    self.activity.ignored(source);
                    self.tap.tell(|| TapLine {
                        source: Some(Arc::clone(source)),
                        rule: rule.clone(),
                        ..TapLine::new(tap::IGNORED, about.received_at)
                    });
                }
                Element::Refused { .. } => {
                    self.metrics.request_refused(Some(source), UNPROCESSABLE);
                    self.activity.refused(source, UNPROCESSABLE, true, about.received_at);
                }
            }
        }
        let failures = &decision.template_failures;
        for _ in 0..failures.count {
            self.metrics.template_failed(source);
        }
        if failures.count > 0
            && let Some(suppressed) = self.permit(&self.refused)
        {
            let (request_id, trace_id, source) = (&about.id, about.trace.id(), &**source);
            let (count, first) = (failures.count, failures.first.as_deref());
            warn!(
                %request_id, %trace_id, source, count, first, suppressed,
                "templates failed and left their text empty"
            );
        }
    }

    /// A handshake was answered, of which nothing is kept.
    pub(super) fn echoed(&self, source: &Arc<str>, about: &RequestMetadata) {
        self.metrics.handshake_answered(source);
        if let Some(suppressed) = self.permit(&self.taken) {
            let (request_id, sender_request_id, source) = (&about.id, about.sender_id.as_deref(), &**source);
            let trace_id = about.trace.id();
            info!(%request_id, sender_request_id, %trace_id, source, suppressed, "answered a handshake");
        }
    }

    /// A confirmation is on disk.
    pub(super) fn confirmed(
        &self,
        confirmed: Confirmed,
        told: &Told,
        relation: Relation,
        source: &Arc<str>,
        about: &RequestMetadata,
    ) {
        self.metrics.confirmed(relation);
        if let Some(suppressed) = self.permit(&self.taken) {
            let (request_id, trace_id, source, id) = (&about.id, about.trace.id(), &**source, confirmed.id);
            let (event, incident_key) = (confirmed.event.map(display), told.incident_key.as_deref());
            let (confirmed, relation) = (told.action.map(IncidentAction::as_str), relation.as_str());
            info!(
                %request_id, %trace_id, source, confirmation = id, event, incident_key, confirmed, relation, suppressed,
                "kept a confirmation"
            );
        }
    }

    /// A message came again that was acknowledged before: its sender did not get the answer, or somebody replays it.
    pub(super) fn repeated(&self, source: &Arc<str>, about: &RequestMetadata) {
        self.metrics.message_repeated(source);
        if let Some(suppressed) = self.permit(&self.taken) {
            let (request_id, sender_request_id, source) = (&about.id, about.sender_id.as_deref(), &**source);
            let trace_id = about.trace.id();
            info!(%request_id, sender_request_id, %trace_id, source, suppressed, "a message that was taken before came again");
        }
    }

    /// A request is on disk. Nobody is alerted of its refused elements: there a person should look.
    pub(super) fn recorded(&self, replies: &[Reply], source: &Arc<str>, about: &RequestMetadata) {
        let (request_id, sender_request_id, trace_id) = (&about.id, about.sender_id.as_deref(), about.trace.id());
        let (mut events, mut refused) = (Vec::new(), Vec::new());
        for reply in replies {
            match reply {
                Reply::Event(event) => {
                    debug!(action = %event.action, event = %event.id, status = event.status(), "kept");
                    events.push(event);
                }
                Reply::Refused { id, violations } => refused.push((id, violations)),
                Reply::Ignored { .. } => {}
            }
        }
        if let Some(first) = events.first()
            && let Some(suppressed) = self.permit(&self.taken)
        {
            let EventReply { id: event, action, incident_key, .. } = first;
            let (status, more, source) = (first.status(), events.len() - 1, &**source);
            info!(
                %request_id, sender_request_id, %trace_id, source, %event, %action, incident_key, status, more,
                suppressed,
                "took a request"
            );
        }
        if let Some((event, violations)) = refused.first() {
            let (path, elements) = (violations.first().map_or("$", |violation| &violation.path), refused.len());
            let refusal = refusal::unprocessable(**event);
            let first = self.activity.sender_refused(source, refusal, elements as u64, about.received_at);
            let (permitted, source) = (self.permit(&self.refused), &**source);
            let (suppressed, remedy) = (permitted.unwrap_or(0), refusal.remedy);
            if first {
                warn!(
                    %request_id, sender_request_id, %trace_id, source, %event, path, refused = elements, suppressed,
                    remedy,
                    "refused what the rules can't use; it is kept"
                );
            } else if permitted.is_some() {
                info!(
                    %request_id, sender_request_id, %trace_id, source, %event, path, refused = elements, suppressed,
                    "refused what the rules can't use; it is kept"
                );
            }
        }
    }

    /// A request was refused as a whole. A person should look where that is new of an authenticated sender, or where the
    /// journal does not take it. `guess` tells which source one was meant for that names none.
    pub(super) fn refused(
        &self,
        refused: &Refused,
        source: Option<&Arc<str>>,
        peer: &Peer,
        about: &RequestMetadata,
        guess: impl FnOnce() -> Option<Guess>,
    ) {
        let Refused { refusal, kept } = refused;
        self.metrics.request_refused(source, refusal.label());
        if let Some(source) = source {
            self.activity.refused(source, refusal.label(), refusal.is_authenticated(), about.received_at);
        }
        // What is kept was told as it was written.
        if kept.is_none() {
            self.tap.tell(|| TapLine {
                source: source.map(Arc::clone),
                reason: Some(refusal.label().to_owned()),
                ..TapLine::new(State::Refused.as_str(), about.received_at)
            });
        }
        let new = source
            .zip(refused.of_sender())
            .filter(|(source, refusal)| self.activity.sender_refused(source, *refusal, 1, about.received_at));
        let permitted = self.permit(&self.refused);
        if permitted.is_none() && new.is_none() {
            return;
        }
        let (request_id, sender_request_id, trace_id) = (&about.id, about.sender_id.as_deref(), about.trace.id());
        let suppressed = permitted.unwrap_or(0);
        let doubt = peer.doubt.filter(|_| matches!(refusal, Refusal::AddressNotAllowed)).map(Doubt::as_str);
        let (peer, source) = (peer.address, source.map_or("none", |source| source));
        let (status, reason, event) = (refusal.status().as_u16(), refusal.label(), kept.map(display));
        let credential = match refusal {
            Refusal::NotAuthenticated(denied) => Some(denied.as_str()),
            _ => None,
        };
        let remedy = new.map(|(_, refusal)| refusal.remedy);
        if remedy.is_some() || matches!(refusal, Refusal::Unavailable(_)) {
            warn!(
                %request_id, sender_request_id, %trace_id, %peer, source, event, status, reason, remedy, suppressed,
                "refused a request"
            );
        } else {
            let Guess { nearest, hint } = guess().unwrap_or(Guess { nearest: None, hint: doubt });
            info!(
                %request_id, sender_request_id, %trace_id, %peer, source, nearest, hint, event, credential, status, reason,
                suppressed,
                "refused a request"
            );
        }
    }

    fn permit(&self, throttle: &LogThrottle) -> Option<u64> {
        throttle.permit(self.clock.now().monotonic)
    }
}
