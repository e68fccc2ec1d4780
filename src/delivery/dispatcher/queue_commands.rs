//! Commands for queued events: discard, hold, release, count, tell; and the handle that gives them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::sleep;

use crate::clock::{Monotonic, WallTime};
use crate::delivery::schedule::{Schedule, Survey};
use crate::event::{EventId, HoldTarget, KeyId, SourceNames};
use crate::journal::CommandOrigin;

/// A handle on the dispatcher's queue. Clones reach the same one.
#[derive(Clone, Debug)]
pub(crate) struct QueueHandle {
    commands: mpsc::Sender<QueueCommand>,
    /// One survey at a time, however many ask.
    surveys: Arc<Semaphore>,
}

#[derive(Debug)]
pub(super) enum QueueCommand {
    Discard {
        events: Vec<(EventId, KeyId)>,
        origin: Arc<CommandOrigin>,
        reply: oneshot::Sender<Vec<Discarding>>,
    },
    Hold {
        target: HoldTarget,
        held: bool,
        done: oneshot::Sender<()>,
    },
    /// Tells since when the call of an event is under way.
    CallSince {
        event: EventId,
        reply: oneshot::Sender<Option<WallTime>>,
    },
    /// Adds the next part; the reply is true with the last one.
    Survey {
        survey: Survey,
        reply: oneshot::Sender<(Survey, bool)>,
    },
}

/// The result of discarding a queued event.
#[derive(Debug)]
pub(crate) enum Discarding {
    /// It is being settled; the receiver resolves when that is on disk.
    Ends(oneshot::Receiver<()>),
    /// A call is under way: the event ends after it, delivered or not, and is not retried.
    UnderWay,
    /// It is not waiting, or is being settled already.
    NotWaiting,
}

impl QueueHandle {
    pub(super) fn new() -> (QueueHandle, mpsc::Receiver<QueueCommand>) {
        let (sender, receiver) = mpsc::channel(COMMANDS);
        (QueueHandle { commands: sender, surveys: Arc::new(Semaphore::new(1)) }, receiver)
    }

    /// Discards events; one result for each, in order. None if the relay is stopping.
    pub(crate) async fn discard(
        &self,
        events: Vec<(EventId, KeyId)>,
        origin: &Arc<CommandOrigin>,
    ) -> Option<Vec<Discarding>> {
        let (reply, results) = oneshot::channel();
        self.commands.send(QueueCommand::Discard { events, origin: Arc::clone(origin), reply }).await.ok()?;
        results.await.ok()
    }

    /// Holds or releases a key or a source; returns when no further call of it starts. A call under way is finished.
    /// The journal makes it survive a restart.
    pub(crate) async fn hold(&self, target: HoldTarget, held: bool) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(QueueCommand::Hold { target, held, done }).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// When the call of this event began; none if none is under way, or the relay is stopping.
    pub(crate) async fn call_since(&self, event: EventId) -> Option<WallTime> {
        let (reply, since) = oneshot::channel();
        self.commands.send(QueueCommand::CallSince { event, reply }).await.ok()?;
        since.await.ok()?
    }

    /// Completes a survey, part by part, with pauses in which deliveries go on. None if the relay is stopping.
    pub(crate) async fn survey(&self, mut survey: Survey) -> Option<Survey> {
        let _turn = self.surveys.acquire().await.ok()?;
        loop {
            let (reply, part) = oneshot::channel();
            self.commands.send(QueueCommand::Survey { survey, reply }).await.ok()?;
            match part.await.ok()? {
                (survey, true) => return Some(survey),
                (begun, false) => survey = begun,
            }
            sleep(SURVEY_PAUSE).await;
        }
    }
}

/// Holds a key or a source in the schedule, or releases it.
pub(super) fn set_hold(
    schedule: &mut Schedule,
    target: &HoldTarget,
    held: bool,
    sources: &SourceNames,
    now: Monotonic,
) {
    let key = target.incident_key.as_ref().map(|key| KeyId::new(&target.source, key));
    match (key, held) {
        (Some(key), true) => schedule.hold_key(key, now),
        (Some(key), false) => schedule.release_key(key, now),
        (None, true) => schedule.hold_source(sources.id(&target.source), now),
        (None, false) => schedule.release_source(sources.id(&target.source), now),
    }
}

/// The limit of waiting commands; one takes microseconds.
const COMMANDS: usize = 16;
/// Many times as long as a part of a survey takes: counting costs the dispatcher a few percent of its time at most.
const SURVEY_PAUSE: Duration = Duration::from_millis(1);
