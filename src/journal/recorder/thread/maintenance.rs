//! Care of the files between commits: pruning, space, the log, and the checks that a restart would find the queue.

use std::time::{Duration, Instant};

use super::RecorderThread;
use super::restore::log_damaged;
use super::shortage::{REMOVAL_PAUSE, ROOM_INTERVAL, Shortage};
use crate::clock::WallTime;
use crate::event::KeyId;
use crate::journal::{self, Damaged, Reserve};

impl RecorderThread {
    /// Makes dead letters of damaged rows, and logs each once.
    pub(super) fn make_dead_letters(&mut self, damaged: &[Damaged]) -> Result<(), journal::Error> {
        if damaged.is_empty() {
            return Ok(());
        }
        let now = self.parts.clock.now().wall;
        self.journal.make_dead_letters(damaged, now)?;
        log_damaged(&self.parts.metrics, damaged);
        self.remarks.damaged(damaged.len() as u64, now);
        Ok(())
    }

    /// Checks the files from time to time while nothing is written: a restart must find the queue.
    pub(super) fn look(&mut self) {
        if self.fault.is_none() && Instant::now() >= self.look_at {
            self.look_at = Instant::now() + LOOK_INTERVAL;
            if let Err(error) = self.journal.verify() {
                self.enter_fault(&error);
            } else if self.journal.is_mark_gone() {
                self.mark();
            }
            self.notice_damage();
        }
    }

    /// Repairs damage that a reader found like damage that a write meets.
    pub(super) fn notice_damage(&mut self) {
        if self.fault.is_none() && journal::is_marked_damaged(self.parts.lock.directory()) {
            self.enter_fault(&journal::Error::Damaged("a part of it could not be read".to_owned()));
        }
    }

    /// Updates `journal.id`, by which a start notices missing events. Events are taken even if this fails.
    pub(super) fn mark(&mut self) {
        if let Err(error) = self.journal.mark() {
            tracing::warn!(%error, "can't write `journal.id` beside the journal; it is tried again");
        }
    }

    /// Removes a few finished events that are too old or exceed the limits.
    pub(super) fn prune(&mut self) -> Result<(), journal::Error> {
        let now = self.parts.clock.now().wall;
        let keep = i64::try_from(self.parts.journal.keep_delivered.as_millis()).unwrap_or(i64::MAX);
        let before = if self.journal.is_large()? { None } else { Some(WallTime(now.0.saturating_sub(keep))) };
        let dedup = &mut self.core.state.dedup;
        let mut batch = self.journal.begin()?;
        let pruned =
            batch.prune(before, PRUNED_AT_ONCE, |id, source, key| dedup.rests_on(KeyId::new(source, key), id))?;
        let removed = self.shortage.make_room(&mut batch, dedup, 0)?;
        batch.commit()?;
        // Whoever waits for a change of an event that is gone is answered.
        self.committed += u64::from(pruned.events > 0 || removed);
        let gave = self.free_space()?;
        self.checkpoint_long_log();
        let pause = match &self.shortage {
            _ if removed => REMOVAL_PAUSE,
            _ if pruned.more || gave => PRUNE_PAUSE,
            Shortage { space, refusing, .. } if *refusing || space.is_short() || !space.has_reserve() => ROOM_INTERVAL,
            _ => PRUNE_INTERVAL,
        };
        self.prune_at = Instant::now() + pause;
        self.drop_gone_waiters();
        Ok(())
    }

    /// Returns free pages to the volume, takes the reserve again if there is room for it, and ends the refusal of new
    /// events. Returns true if there may be more to return.
    pub(super) fn free_space(&mut self) -> Result<bool, journal::Error> {
        let gave = self.journal.give_back()?;
        let mut space = self.journal.space()?;
        if !space.has_reserve() && space.has_room_for_reserve() && Instant::now() >= self.shortage.reserve_at {
            self.shortage.reserve_at = Instant::now() + PRUNE_INTERVAL;
            match self.journal.take_reserve() {
                Ok(()) => tracing::debug!("the reserve is held"),
                Err(error) => tracing::warn!(%error, "the reserve can't be allocated although there is room"),
            }
            space = self.journal.space()?;
        }
        self.shortage.look(space);
        Ok(gave)
    }

    /// Checkpoints a long log. If the main file has no room to grow, the reserve is given up; a log that can't be
    /// checkpointed now is checkpointed after a later batch.
    pub(super) fn checkpoint_long_log(&mut self) {
        if self.fault.is_some() {
            return;
        }
        let short = self.shortage.space.is_short();
        let mut checkpointed = self.journal.checkpoint_long_log(short);
        if matches!(checkpointed, Err(journal::Error::Full(_))) && self.give_up_reserve() {
            checkpointed = self.journal.checkpoint_long_log(short);
        }
        match checkpointed {
            Err(error @ (journal::Error::Damaged(_) | journal::Error::Replaced(_))) => self.enter_fault(&error),
            Err(error) => tracing::debug!(%error, "the log of the journal can't be checkpointed yet"),
            Ok(()) => {}
        }
    }

    /// Deletes the reserve. Returns true if there was one.
    pub(super) fn give_up_reserve(&mut self) -> bool {
        let given_up = Reserve::in_directory(self.parts.lock.directory()).give_up();
        if given_up {
            // Taken again as soon as there is room.
            let at = Instant::now() + ROOM_INTERVAL;
            (self.prune_at, self.shortage.reserve_at) = (self.prune_at.min(at), at);
            tracing::warn!("the volume of `data_dir` is full: the reserve was given up, so that deliveries go on");
        }
        given_up
    }
}

/// The interval at which the files are checked while nothing is written: a kill meanwhile would lose the queue.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which old history is looked for.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// Few enough not to delay the next batch noticeably.
const PRUNED_AT_ONCE: usize = 100;
/// The pause between two rounds of pruning while there is more to prune.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);
