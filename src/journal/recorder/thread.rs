//! The recorder's thread: takes all waiting messages, decides, appends, syncs once, and answers everyone.

mod acknowledge;
mod coalesce;
mod commit;
mod fault;
mod maintenance;
mod publish;
mod queue_backup;
mod remarks;
mod reopen;
mod replaced_files;
mod restore;
mod shortage;
mod tap_lines;
#[cfg(test)]
mod tests;
mod turning_away;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::core::Core;
use super::write_progress::WriteProgress;
use super::{Committed, Health, Message, QUEUE, QueueCopy, Recorder, Remark, TurnedAway};
use crate::activity::Activity;
use crate::clock::Clock;
use crate::event::{EventId, HoldRecord, Queued, Settlement, SourceNames, Superseded};
use crate::journal::dedup;
use crate::journal::request::{StoredRetry, Unavailable};
use crate::journal::state::RecorderState;
use crate::journal::{self, Damaged, FilesAtStart, Journal, Lock};
use crate::metrics::Metrics;
use crate::tap::Tap;
use coalesce::Coalesce;
use fault::Fault;
use maintenance::LOOK_INTERVAL;
use queue_backup::QueueBackup;
use remarks::Remarks;
use restore::{Restored, holds_of, open_repaired, restore};
use shortage::{REMOVAL_PAUSE, Shortage};
use turning_away::TurningAway;

pub(crate) use restore::restore_dedup;

/// The owner of deduplication and the journal. It has a thread of its own, because a sync blocks.
#[derive(Debug)]
pub struct RecorderThread {
    parts: RecorderParts,
    journal: Journal,
    core: Core,
    messages: mpsc::Receiver<Message>,
    health: watch::Sender<Health>,
    turning_away: TurningAway,
    turned_away: watch::Sender<Vec<TurnedAway>>,
    remarks: Remarks,
    /// The holds, as they are on disk.
    holds: watch::Sender<Arc<Vec<HoldRecord>>>,
    /// Senders that wait for an event's settlement.
    settlement_waiters: HashMap<EventId, Vec<oneshot::Sender<Settlement>>>,
    queue_backup: QueueBackup,
    /// Commits since the start, and as they were published last.
    committed: u64,
    commits: watch::Sender<u64>,
    progress: Arc<WriteProgress>,
    /// Settlements that wait to share a batch.
    coalesce: Coalesce,
    shortage: Shortage,
    fault: Option<Fault>,
    prune_at: Instant,
    /// The time of the next check of the files while nothing is written.
    look_at: Instant,
    /// Counts changes of modification times on intact files.
    false_alarms: u32,
    tap: Tap,
    activity: Activity,
}

/// The configuration, handles and channels of the recorder's thread.
#[derive(Debug)]
pub struct RecorderParts {
    pub journal: journal::Config,
    pub lock: Lock,
    pub dedup: dedup::Settings,
    pub superseded: Superseded,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// The dispatcher's channel for each commit.
    pub committed: mpsc::Sender<Committed>,
}

impl RecorderThread {
    /// Opens the journal and restores everything from it. `each` gets the undelivered events in order, with the state
    /// of their retries.
    pub fn open(
        parts: RecorderParts,
        each: impl FnMut(Queued, Option<StoredRetry>),
    ) -> Result<(Recorder, RecorderThread), journal::OpenError> {
        let now = parts.clock.now().wall;
        let files = FilesAtStart::in_directory(parts.lock.directory());
        let (journal, repairs) = open_repaired(&parts, now)?;
        let salvaged = repairs.journal.is_some();
        let sources = Arc::new(SourceNames::default());
        let Restored { mut journal, dedup, last, damaged } = restore(&parts, journal, &sources, each)?;
        let (sender, messages) = mpsc::channel(QUEUE);
        let (last_queue, queue_backup) = QueueBackup::new();
        let (remarks, remarked) = Remarks::at_start(&repairs, journal.lack(&files, salvaged), now);
        let state = RecorderState::new(dedup, holds_of(&parts, &journal)?, parts.journal.limits());
        let shortage = Shortage::new(journal.space().map_err(|error| unreadable(&parts, &error))?);
        let superseded = parts.superseded;
        let mut thread = RecorderThread {
            parts,
            journal,
            holds: watch::Sender::new(Arc::clone(&state.holds)),
            core: Core::new(state, superseded, sources, last),
            messages,
            health: watch::Sender::new(Health::Taking),
            turning_away: TurningAway::default(),
            turned_away: watch::Sender::new(Vec::new()),
            remarks,
            settlement_waiters: HashMap::new(),
            queue_backup,
            committed: 0,
            commits: watch::Sender::new(0),
            progress: Arc::new(WriteProgress::new()),
            coalesce: Coalesce::default(),
            shortage,
            fault: None,
            prune_at: Instant::now(),
            look_at: Instant::now() + LOOK_INTERVAL,
            false_alarms: 0,
            tap: Tap::default(),
            activity: Activity::default(),
        };
        // Before anything is published, so that nothing of it is missed.
        let recorder = thread.handle(sender, last_queue, remarked);
        thread.prepare(&damaged);
        Ok((recorder, thread))
    }

    /// The handle by which others reach this thread.
    fn handle(
        &self,
        messages: mpsc::Sender<Message>,
        last_queue: mpsc::Sender<QueueCopy>,
        remarks: watch::Receiver<Vec<Remark>>,
    ) -> Recorder {
        Recorder {
            messages,
            health: self.health.subscribe(),
            turned_away: self.turned_away.subscribe(),
            remarks,
            holds: self.holds.subscribe(),
            sources: Arc::clone(self.core.sources()),
            last_queue,
            commits: self.commits.subscribe(),
            progress: Arc::clone(&self.progress),
            tap: self.tap.clone(),
            activity: self.activity.clone(),
        }
    }

    /// Prepares an opened journal for its first batch.
    fn prepare(&mut self, damaged: &[Damaged]) {
        // A leftover log may end in a commit whose sync failed: nothing may be appended to that.
        match self.journal.checkpoint() {
            Ok(true) => {}
            Ok(false) => tracing::warn!("another process reads the journal; its log is checkpointed later"),
            Err(error) => self.enter_fault(&error),
        }
        if self.fault.is_none()
            && let Err(error) = self.make_dead_letters(damaged).and_then(|()| self.free_space().map(drop))
        {
            self.enter_fault(&error);
        }
        self.mark();
        self.publish_state();
    }

    /// Works until every [`Recorder`] is gone, then checkpoints the log and closes the journal.
    pub fn run(mut self, runtime: &Handle) {
        let mut waiting = Vec::with_capacity(QUEUE);
        loop {
            let now = Instant::now();
            let patience = match &self.fault {
                Some(fault) => fault.try_at.saturating_duration_since(now),
                None => self.prune_at.min(self.look_at).saturating_duration_since(now).max(REMOVAL_PAUSE),
            };
            let patience = self.coalesce.until().map_or(patience, |at| patience.min(at.saturating_duration_since(now)));
            let patience = if self.turning_away.is_empty() { patience } else { patience.min(turning_away::CALM_AFTER) };
            // Where the volume is nearly full, a batch stays within the reserved room.
            let short = self.shortage.space.is_short();
            let most = if short { self.shortage.space.ends_at_once().min(QUEUE) } else { QUEUE };
            let received = runtime
                .block_on(async { tokio::time::timeout(patience, self.messages.recv_many(&mut waiting, most)).await });
            if received == Ok(0) {
                break;
            }
            if waiting.len() >= BUSY {
                // Under load more messages are coming: a short wait lets them share this sync.
                std::thread::sleep(BATCH_WAIT);
                while waiting.len() < most
                    && let Ok(message) = self.messages.try_recv()
                {
                    waiting.push(message);
                }
            }
            // Without room, the room that settlements free is needed at once.
            let at_once = self.fault.is_some() || short || self.journal.is_full();
            let waiters = &self.settlement_waiters;
            self.coalesce.sort_out(&mut waiting, Instant::now(), at_once, |event| waiters.contains_key(&event));
            self.progress.begin();
            self.turn(&mut waiting);
            self.progress.end();
        }
        let mut last = self.coalesce.take();
        self.turn(&mut last);
        self.finish();
    }

    /// Writes pending counts and closes the journal. If its files are gone, they are put back first.
    fn finish(mut self) {
        let end = Instant::now() + FINISH_MAX;
        loop {
            if self.fault.is_none() {
                match self.commit(&[]).and_then(|_| self.journal.verify_frames()) {
                    Ok(()) => break,
                    Err(error) => self.enter_fault(&error),
                }
            }
            let Some(fault) = self.fault.as_mut().filter(|fault| fault.why == Unavailable::JournalReplaced) else {
                // The queue is on disk.
                return;
            };
            fault.try_at = Instant::now();
            self.reopen();
            if self.fault.is_some() {
                if Instant::now() >= end {
                    tracing::error!(
                        "the journal could not be put back: its queue may be lost; the next start \
                         reports missing events"
                    );
                    return;
                }
                std::thread::sleep(FINISH_PAUSE);
            }
        }
        // A copy of the main file is then complete. A log that can't be checkpointed now is checkpointed at the next
        // start.
        self.journal.close();
    }

    /// Handles all waiting messages as one batch.
    fn turn(&mut self, messages: &mut Vec<Message>) {
        self.reopen();
        if let Some(fault) = &self.fault {
            fault.refuse(messages, &mut self.core);
            return;
        }
        let prune = Instant::now() >= self.prune_at;
        if messages.is_empty() && !prune {
            self.look();
            self.publish_turned_away();
            return;
        }
        match self.commit(messages) {
            Ok(due) => {
                self.acknowledge(messages, due);
                self.checkpoint_long_log();
            }
            Err(error) => {
                self.enter_fault(&error);
                let core = &mut self.core;
                self.fault.iter().for_each(|fault| fault.refuse(messages, core));
            }
        }
        if prune
            && self.fault.is_none()
            && let Err(error) = self.prune()
        {
            self.enter_fault(&error);
        }
        if prune {
            self.notice_damage();
        }
        self.publish_state();
    }
}

fn unreadable(parts: &RecorderParts, error: &journal::Error) -> journal::OpenError {
    journal::OpenError {
        path: parts.lock.directory().to_owned(),
        problem: error.to_string(),
        remedy: "check that the disk of `data_dir` works",
    }
}

/// The time in which a stop tries to put back a journal whose files are gone.
const FINISH_MAX: Duration = Duration::from_secs(15);
const FINISH_PAUSE: Duration = Duration::from_millis(200);
/// Messages in one turn that are a sign of load.
const BUSY: usize = 8;
/// A commit costs as much as ten events, so under load a short wait pays; a sync takes as long on a good disk.
const BATCH_WAIT: Duration = Duration::from_millis(1);
