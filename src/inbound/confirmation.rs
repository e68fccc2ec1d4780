//! Takes the requests of a source of `kind: confirmation`: kept as they came, shown beside their event, and no events.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body::Body;

use super::admission::Admitted;
use super::body::Upload;
use super::charset::Charset;
use super::confirmation_source::Confirms;
use super::gzip::{Coding, looks_packed};
use super::payload::Reading;
use super::refusal::{Refusal, Refused};
use super::request_id::RequestMetadata;
use super::{Shared, response};
use crate::callgoose::confirmation::{Relation, Told};
use crate::journal::request::Confirmation;

impl Shared {
    /// The way of an admitted confirmation. Whatever its content type, and whether or not it is JSON, it is kept: it is
    /// shown as it came, so that a person can write the paths for it.
    pub(super) async fn confirm<B: Body<Data = Bytes> + Unpin>(
        &self,
        admitted: &Admitted<'_>,
        confirms: &Confirms,
        head: &Parts,
        upload: &mut Upload<B>,
        about: &RequestMetadata,
    ) -> Result<Response<Bytes>, Refused> {
        let source = admitted.source();
        let coding = Coding::of(&head.headers, source.accept.gzip);
        let body = admitted.read(upload, self.limits).await?;
        let reading = Reading::new(Charset::declared(&head.headers), source.accept);
        let mut payload = admitted.check_body(body, reading, self.clock.now().monotonic)?;
        let message = payload.message();
        if message.is_some_and(|message| source.seen.earlier(message, self.clock.now().monotonic).is_some()) {
            self.log.repeated(&source.name, about);
            return Ok(response::repeated());
        }
        if coding == Ok(Coding::Gzip) {
            payload.unpack(self.limits.bytes_max)?;
        }
        payload.check_whole(self.limits.bytes_max)?;
        coding.map_err(|refusal| refusal.of_body(looks_packed(payload.raw())))?;
        let told = payload.decode().map_or_else(|_| Told::default(), |decoded| confirms.shape().read(&decoded.value));
        let confirmation = Confirmation {
            source: Arc::clone(&source.name),
            request_id: Arc::clone(&about.id),
            received_at: about.received_at,
            raw: payload.raw().clone(),
            told: told.clone(),
            of: Arc::clone(confirms.of()),
        };
        let confirmed = self.recorder.confirm(confirmation).await.map_err(Refusal::Unavailable)?;
        // Until it is on disk it takes memory.
        drop(payload);
        self.metrics.acknowledged(about.started.elapsed());
        // One that was about nothing known is related anew when it comes again.
        if let Some(message) = message.filter(|_| confirmed.event.is_some()) {
            source.seen.remember(message, Arc::default(), self.clock.now().monotonic);
        }
        let relation = Relation::of(&told, confirmed.event);
        self.log.confirmed(confirmed, &told, relation, &source.name, about);
        Ok(response::confirmed(confirmed, &told, relation))
    }
}
