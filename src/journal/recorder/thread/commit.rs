//! One batch: everything that the messages ask is decided, appended and synced together.

use std::time::Instant;

use super::RecorderThread;
use crate::journal;
use crate::journal::recorder::Message;
use crate::journal::recorder::core::Due;
use crate::journal::request::Request;

impl RecorderThread {
    /// Writes all messages as one batch and syncs it; without messages, the pending counts.
    pub(super) fn commit(&mut self, messages: &[Message]) -> Result<Due, journal::Error> {
        let started = Instant::now();
        let core = &mut self.core;
        let mut batch = self.journal.begin()?;
        let removed = self.shortage.make_room(&mut batch, &mut core.state.dedup, new_events(messages))?;
        core.state.room = batch.room(self.shortage.space, self.shortage.refusing);
        let requests = messages.iter().map(|message| &message.request);
        let known = batch.look_up(requests.clone(), &core.state, core.ends_superseded())?;
        let (facts, due) = core.decide(&known, requests, self.parts.clock.now());
        (self.shortage.space, self.shortage.refusing) = (core.state.room.space, core.state.room.refusing);
        if facts.is_empty() && !removed {
            return Ok(due);
        }
        batch.apply(&facts)?;
        batch.commit()?;
        self.committed += 1;
        self.parts.metrics.committed(started.elapsed());
        self.publish_holds();
        Ok(due)
    }
}

/// The number of possibly new events in these messages.
fn new_events(messages: &[Message]) -> usize {
    let events = |message: &Message| match &message.request {
        Request::Record(submission) | Request::Replace { submission, .. } => submission.entries.len(),
        Request::Command { ids, .. } => ids.len(),
        _ => 0,
    };
    messages.iter().map(events).sum()
}
