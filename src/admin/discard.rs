//! Discarding what is queued: the dispatcher ends it, since a call of it may be under way.

use std::sync::Arc;
use std::time::Duration;

use super::View;
use crate::delivery::dispatcher::Discarding;
use crate::event::{EventId, KeyId};
use crate::journal::CommandOrigin;
use crate::journal::request::{Command, Commanded, Declined, Unavailable};

/// The end of a discard of a queued event.
#[derive(Clone, Copy, Debug)]
pub(super) enum DiscardResult {
    /// It ended, and that is on disk.
    Ended,
    /// A call of it is under way: it ends after that.
    UnderWay,
    Declined(Declined),
}

/// Ends queued events, in their order. Where that can't be gone on with, what was done until then and why.
pub(super) async fn discard_queued(
    view: &View,
    events: &[(EventId, KeyId)],
    origin: &Arc<CommandOrigin>,
) -> (Vec<DiscardResult>, Option<Unavailable>) {
    let Some(results) = view.queue.discard(events.to_vec(), origin).await else {
        return (Vec::new(), Some(Unavailable::Stopping));
    };
    let deadline = tokio::time::Instant::now() + DISK_TIMEOUT;
    let mut done = Vec::with_capacity(events.len());
    for ((id, key), discarding) in events.iter().zip(results) {
        let one = match discarding {
            Discarding::UnderWay => Ok(DiscardResult::UnderWay),
            Discarding::Ends(written) => match tokio::time::timeout_at(deadline, written).await {
                Ok(Ok(())) => Ok(DiscardResult::Ended),
                Ok(Err(_)) => Err(Unavailable::Stopping),
                Err(_) => Err(Unavailable::JournalFault),
            },
            Discarding::NotWaiting => ended_otherwise(view, *id, *key, origin).await,
        };
        match one {
            Ok(one) => done.push(one),
            Err(why) => return (done, Some(why)),
        }
    }
    (done, None)
}

/// It was queued a moment ago, and the dispatcher does not know it: it ended meanwhile, ends at this moment, or comes to
/// the dispatcher in the next one.
async fn ended_otherwise(
    view: &View,
    id: EventId,
    key: KeyId,
    origin: &Arc<CommandOrigin>,
) -> Result<DiscardResult, Unavailable> {
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        let commanded = view.recorder.command(Command::Discard, &[id], origin).await?;
        match commanded.into_iter().next() {
            Some(Commanded::Declined(Declined::Waiting { .. })) => {}
            Some(Commanded::Declined(declined)) => return Ok(DiscardResult::Declined(declined)),
            Some(_) => return Ok(DiscardResult::Ended),
            None => return Err(Unavailable::Stopping),
        }
        match view.queue.discard(vec![(id, key)], origin).await.and_then(|mut one| one.pop()) {
            Some(Discarding::UnderWay) => return Ok(DiscardResult::UnderWay),
            Some(Discarding::Ends(written)) => {
                return written.await.map(|()| DiscardResult::Ended).map_err(|_| Unavailable::Stopping);
            }
            Some(Discarding::NotWaiting) => {}
            None => return Err(Unavailable::Stopping),
        }
    }
    Ok(DiscardResult::Declined(Declined::Waiting { next: None }))
}

/// A commit takes milliseconds; while the journal can't be written nothing ends.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);
/// An event that was just acknowledged, or whose end is being written, is known in a few milliseconds.
const LOOKS: usize = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(25);
