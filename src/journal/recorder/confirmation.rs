//! Confirmations of Callgoose: kept beside the events, and never one of them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Message, Recorder, Unavailable};
use crate::callgoose::confirmation::Told;
use crate::clock::WallTime;
use crate::event::EventId;

/// A confirmation to keep.
#[derive(Clone, Debug)]
pub struct Confirmation {
    /// The source through which it came.
    pub source: Arc<str>,
    /// The relay's own id of the request.
    pub request_id: Arc<str>,
    pub received_at: WallTime,
    /// The body as it came.
    pub raw: Bytes,
    pub told: Told,
    /// The sources whose events it may be about.
    pub of: Arc<[Arc<str>]>,
}

/// Proves that a confirmation is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Its number among the confirmations.
    pub id: u64,
    /// The event that it is about; none if none of its key is kept.
    pub event: Option<EventId>,
}

impl Recorder {
    /// Keeps a confirmation, related to the event that it is about; returns after the sync.
    pub async fn confirm(&self, confirmation: Confirmation) -> Result<Confirmed, Unavailable> {
        let (reply, confirmed) = oneshot::channel();
        self.put(Message::Confirm { confirmation, reply })?;
        self.reply(confirmed).await?
    }
}
