//! Keeps the search index up to date, beside the way of events: it reads what was committed, at its own pace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::EventId;
use crate::journal::recorder::Recorder;
use crate::journal::{self, Fed, Reader, SearchIndex};
use crate::shutdown::Shutdown;
use crate::supervision::panicked;

/// The journal that is read, and the index that is written.
pub(super) struct Feeder {
    /// A connection that nothing else waits for.
    pub(super) reader: Arc<Reader>,
    pub(super) index: Arc<SearchIndex>,
    pub(super) recorder: Recorder,
    pub(super) shutdown: Shutdown,
}

impl Feeder {
    /// Starts the task, which ends when the relay stops.
    pub(super) fn start(self) {
        tokio::spawn(async move { while panicked("search_index", self.run()).await {} });
    }

    async fn run(&self) {
        let mut commits = self.recorder.commits();
        let mut swept = EventId(0);
        loop {
            // A share of one processor at most, so that a long history is read without anyone noticing.
            let (step, took) = self.step(swept).await;
            swept = step.swept;
            let pause = if step.fed == Fed::Block { took * PAUSE_PARTS } else { PAUSE_MIN };
            tokio::select! {
                () = self.shutdown.begun() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if step.fed == Fed::Block {
                continue;
            }
            tokio::select! {
                () = self.shutdown.begun() => return,
                changed = commits.changed() => if changed.is_err() { return },
                // Another program may need the room.
                () = tokio::time::sleep(LOOK_AT_ROOM) => {}
            }
        }
    }

    async fn step(&self, swept: EventId) -> (Step, Duration) {
        let (reader, index) = (Arc::clone(&self.reader), Arc::clone(&self.index));
        let begun = Instant::now();
        let step = tokio::task::spawn_blocking(move || Step::take(&reader, &index, swept)).await;
        let step = match step {
            Ok(Ok(step)) => step,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the journal can't be read for the search index");
                Step { fed: Fed::UpToDate, swept }
            }
            Err(_) => Step { fed: Fed::UpToDate, swept },
        };
        (step, begun.elapsed())
    }
}

/// The result of one step.
struct Step {
    fed: Fed,
    /// The last event of the block that was swept; zero at the end.
    swept: EventId,
}

impl Step {
    /// Adds a block, and looks through an old one for what was pruned.
    fn take(reader: &Reader, index: &SearchIndex, swept: EventId) -> Result<Step, journal::Error> {
        let fed = reader.feed(index)?;
        let swept = reader.sweep(index, swept)?.unwrap_or(EventId(0));
        Ok(Step { fed, swept })
    }
}

/// So many times as long as a step took, nothing is done while there is more to read.
const PAUSE_PARTS: u32 = 3;
/// Between two looks at what is new.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Between two looks at the volume while nothing is committed.
const LOOK_AT_ROOM: Duration = Duration::from_secs(5);
