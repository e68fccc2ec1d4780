//! Answers everyone after a commit: senders, those that wait for a settlement, the dispatcher, and whoever gave a
//! command.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::{RecorderThread, tap_lines};
use crate::event::{EventId, KeyId, Settlement, State};
use crate::journal::SourceTotals;
use crate::journal::decide::{EntryNumber, Owed};
use crate::journal::recorder::core::Due;
use crate::journal::recorder::reply::Reply;
use crate::journal::recorder::{Committed, Message, PendingSettlement, Receipt, Recorded, Tally};
use crate::journal::request::{Commanded, Entry, Request, Submission, Unavailable};

impl RecorderThread {
    /// Answers everyone after the commit.
    pub(super) fn acknowledge(&mut self, messages: &mut Vec<Message>, due: Due) {
        self.core.committed(&due);
        let Due { owed, accepted, settled } = due;
        self.tell_settled(&settled);
        self.hand_over(Committed { accepted, settled, queue_copy_request: None });
        for (Message { request, reply }, owed) in messages.drain(..).zip(owed) {
            let Some(waits) = reply else { continue };
            // Whoever asked may have gone.
            let _ = waits.send(self.reply(request, owed));
        }
    }

    /// The reply to a request whose facts are on disk.
    fn reply(&mut self, request: Request, owed: Owed) -> Reply {
        match (request, owed) {
            (Request::Record(submission) | Request::Replace { submission, .. }, Owed::Recorded(numbers)) => {
                self.recorded(submission, &numbers).map_or_else(Reply::Unavailable, Reply::Recorded)
            }
            (Request::Record(submission), Owed::Unavailable(why)) => {
                if why == Unavailable::SourceShare {
                    self.turn_away(&submission.source);
                }
                Reply::Unavailable(why)
            }
            (Request::Command { ids, .. }, Owed::Commanded(commanded)) => {
                self.count_commanded(&ids, &commanded);
                Reply::Commanded(commanded)
            }
            (Request::Tally { unmatched }, _) => Reply::Tally(self.tally(&unmatched)),
            (_, Owed::Confirmed(confirmed)) => Reply::Confirmed(confirmed),
            (_, Owed::HoldChange(change)) => Reply::HoldChange(change),
            (_, Owed::Open(ids)) => Reply::Open(ids),
            (_, Owed::Previews(previews)) => Reply::Previews(previews),
            (_, Owed::Declined(why)) => Reply::Declined(why),
            (_, Owed::Unavailable(why)) => Reply::Unavailable(why),
            // No other pair is made.
            (_, Owed::Recorded(_) | Owed::Commanded(_) | Owed::Tally | Owed::Nothing) => {
                Reply::Unavailable(Unavailable::JournalFault)
            }
        }
    }

    /// Hands committed events to the dispatcher.
    pub(super) fn hand_over(&mut self, committed: Committed) {
        if !committed.accepted.is_empty() || !committed.settled.is_empty() {
            // Fails only if the dispatcher has ended, while the process stops: the events are on disk.
            if let Err(mpsc::error::SendError(committed)) = self.parts.committed.blocking_send(committed) {
                self.queue_backup.note(committed);
            }
        }
    }

    /// Tells the senders that wait which settlements are on disk.
    pub(super) fn tell_settled(&mut self, settled: &[Settlement]) {
        for settlement in settled {
            if let Some(waiters) = self.settlement_waiters.remove(&settlement.id) {
                for waiter in waiters {
                    let _ = waiter.send(settlement.clone());
                }
            }
            if settlement.is_damaged() {
                self.remarks.damaged(1, settlement.at);
            }
        }
    }

    /// Drops senders that stopped waiting.
    pub(super) fn drop_gone_waiters(&mut self) {
        self.settlement_waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
    }

    /// Counts the events of a committed submission, and pairs its entries with their receipts.
    fn recorded(&mut self, submission: Submission, numbers: &[EntryNumber]) -> Result<Vec<Recorded>, Unavailable> {
        let Submission { source, entries, wait_for_settlement, .. } = submission;
        let receipts = entries.iter().zip(numbers).map(|(entry, EntryNumber { id, duplicate })| {
            let waits = wait_for_settlement && matches!(entry, Entry::Event { .. });
            let pending_settlement = waits.then(|| self.pending_settlement(*id, *duplicate));
            Receipt { id: *id, duplicate: *duplicate, pending_settlement }
        });
        let receipts = receipts.collect();
        let (recorded, now) = (Recorded::pair(entries, receipts)?, self.parts.clock.now().wall);
        for recorded in &recorded {
            let Recorded { entry, receipt } = recorded;
            self.tap.tell(|| tap_lines::of_recorded(recorded, &source, now));
            match entry {
                Entry::Event { draft, .. } if receipt.duplicate => {
                    self.parts.metrics.event_duplicate(&source, draft.action);
                    self.activity.duplicate(&source, now);
                }
                Entry::Event { draft, .. } => {
                    self.parts.metrics.event_accepted(&source, draft.action);
                    self.activity.taken(&source, now);
                }
                Entry::Refused { .. } => {}
            }
        }
        Ok(recorded)
    }

    /// A handle to wait for an event's settlement. One that a duplicate repeats may have it already.
    fn pending_settlement(&mut self, id: EventId, duplicate: bool) -> PendingSettlement {
        let (sender, receiver) = oneshot::channel();
        // What can't be read is not known: its sender waits, and asks again later.
        let settlement = if duplicate { self.journal.settlement(id).ok().flatten() } else { None };
        match settlement {
            Some(settlement) => drop(sender.send(settlement)),
            None => {
                let waiters = self.settlement_waiters.entry(id).or_default();
                // Whoever stopped waiting leaves its place to the next.
                waiters.retain(|waiter| !waiter.is_closed());
                waiters.push(sender);
            }
        }
        PendingSettlement(receiver)
    }

    fn turn_away(&mut self, source: &Arc<str>) {
        if self.turning_away.note(source, self.parts.clock.now().wall, Instant::now()) {
            let SourceTotals { queued, dead, bytes } = self.journal.totals_of(source);
            tracing::warn!(
                source = &**source,
                queued,
                dead,
                bytes,
                "this source has used up its share of the queue; its new events are refused with 503 until some \
                 are delivered or ended; events of other sources are taken"
            );
            // Published before the sender gets its answer.
            self.publish_turned_away();
        }
    }

    fn count_commanded(&self, ids: &[EventId], commanded: &[Commanded]) {
        for (id, one) in ids.iter().zip(commanded) {
            if let Some(line) = tap_lines::of_commanded(*id, one, self.parts.clock.now().wall) {
                self.tap.tell(|| line);
            }
            match one {
                Commanded::Replayed { source, action, .. } => {
                    self.parts.metrics.event_accepted(source, *action);
                    self.activity.taken(source, self.parts.clock.now().wall);
                }
                Commanded::Discarded { .. } => self.parts.metrics.event_ended(State::Ended.as_str(), "discarded"),
                Commanded::Declined(_) => {}
            }
        }
    }

    fn tally(&self, unmatched: &[(EventId, KeyId)]) -> Tally {
        let by_source = self.journal.totals_by_source().map(|(source, held)| (Arc::clone(source), held));
        let is_last = |(id, key): &&(EventId, KeyId)| self.core.state.dedup.last(*key).is_none_or(|last| last <= *id);
        Tally {
            totals: self.journal.totals(),
            unmatched: unmatched.iter().filter(is_last).count(),
            open_incidents: self.core.state.dedup.open_len() - self.core.state.dedup.open_waiting(),
            open_waiting: self.core.state.dedup.open_waiting(),
            by_source: by_source.collect(),
        }
    }
}
