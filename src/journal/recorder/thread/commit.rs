//! One batch: everything that the messages ask is decided, appended and synced together.

use std::sync::Arc;
use std::time::Instant;

use super::RecorderThread;
use super::batch_decisions::{BatchDecisions, Owed};
use crate::journal;
use crate::journal::recorder::{Accepted, Message};

impl RecorderThread {
    /// Writes all messages as one batch and syncs it; without messages, the pending counts.
    pub(super) fn commit(&mut self, messages: &[Message]) -> Result<(Vec<Owed>, Vec<Accepted>), journal::Error> {
        let started = Instant::now();
        let now = self.parts.clock.now();
        let mut batch = self.journal.begin()?;
        let removed = self.shortage.make_room(&mut batch, &mut self.dedup, new_events(messages))?;
        let mut decisions = BatchDecisions {
            dedup: &mut self.dedup,
            sources: &self.sources,
            superseded: self.parts.superseded,
            settlement_waiters: &mut self.settlement_waiters,
            duplicates: &mut self.duplicates,
            holds: Arc::clone(&self.holds.borrow()),
            batch,
            accepted: Vec::new(),
            wrote: removed,
            space: self.shortage.space,
            refusing: self.shortage.refusing,
            now,
        };
        let owed = messages.iter().map(|message| decisions.handle(message)).collect::<Result<Vec<_>, _>>()?;
        let BatchDecisions { mut batch, dedup, accepted, wrote, duplicates, holds, space, refusing, .. } = decisions;
        (self.shortage.space, self.shortage.refusing) = (space, refusing);
        if !wrote && (duplicates.is_empty() || !messages.is_empty() && duplicates.len() < DUPLICATES_HELD) {
            // Only duplicates of events on disk: they need no sync. Their count is written with the next batch, or when
            // idle.
            return Ok((owed, accepted));
        }
        for (of, count) in duplicates.drain() {
            batch.count_duplicates(of, count)?;
        }
        for last in dedup.take_evicted() {
            batch.drop_key_state(last)?;
        }
        batch.commit()?;
        self.committed += 1;
        self.parts.metrics.committed(started.elapsed());
        self.holds.send_if_modified(|known| std::mem::replace(known, Arc::clone(&holds)) != holds);
        Ok((owed, accepted))
    }
}

/// The number of possibly new events in these messages.
fn new_events(messages: &[Message]) -> usize {
    let events = |message: &Message| match message {
        Message::Record { submission, .. } | Message::Replace { submission, .. } => submission.entries.len(),
        Message::Command { ids, .. } => ids.len(),
        _ => 0,
    };
    messages.iter().map(events).sum()
}

/// Counts of duplicates held for the next commit.
const DUPLICATES_HELD: usize = 10_000;
