//! Answers everyone after a commit: senders, those that wait for a settlement, the dispatcher, and whoever gave a
//! command.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::batch_decisions::Owed;
use super::{RecorderThread, tap_lines};
use crate::event::{EventId, KeyId, Settlement, State};
use crate::journal::SourceTotals;
use crate::journal::recorder::{
    Accepted, Commanded, Committed, Entry, Message, Receipt, Recorded, Settle, Submission, Tally, Unavailable,
};

impl RecorderThread {
    /// Answers everyone after the commit.
    pub(super) fn acknowledge(&mut self, messages: &mut Vec<Message>, owed: Vec<Owed>, accepted: Vec<Accepted>) {
        let settled = messages.iter().filter_map(|message| match message {
            Message::Settle(Settle { settlement, .. }) => Some(settlement.clone()),
            _ => None,
        });
        let settled = settled.collect::<Vec<_>>();
        self.tell_settled(&settled);
        self.hand_over(Committed { accepted, settled, queue_copy_request: None });
        for (message, owed) in messages.drain(..).zip(owed) {
            match (message, owed) {
                (Message::Record { submission, reply }, Owed::Receipts(receipts)) => {
                    if matches!(receipts, Err(Unavailable::SourceShare)) {
                        self.turn_away(&submission.source);
                    }
                    let _ = reply.send(receipts.and_then(|receipts| self.recorded(submission, receipts)));
                }
                (Message::Confirm { reply, .. }, Owed::Confirmed(confirmed)) => drop(reply.send(confirmed)),
                (Message::Open { reply, .. }, Owed::Ids(ids)) => drop(reply.send(ids)),
                (Message::Tally { unmatched, reply }, _) => drop(reply.send(self.tally(&unmatched))),
                (Message::Preview { reply, .. }, Owed::Previews(previews)) => drop(reply.send(Some(previews))),
                (Message::Command { ids, reply, .. }, Owed::Commanded(commanded)) => {
                    self.count_commanded(&ids, &commanded);
                    let _ = reply.send(Ok(commanded));
                }
                (Message::Hold { reply, .. }, Owed::HoldChange(change)) => drop(reply.send(Ok(change))),
                (Message::Replace { submission, reply, .. }, Owed::Replaced(replaced)) => {
                    let _ = reply.send(match replaced {
                        Ok(Ok(receipts)) => self.recorded(submission, receipts).map(Ok),
                        Ok(Err(declined)) => Ok(Err(declined)),
                        Err(why) => Err(why),
                    });
                }
                // Nobody waits for a reply to attempts and settlements, and no other pair is made.
                _ => {}
            }
        }
    }

    /// Hands committed events to the dispatcher.
    pub(super) fn hand_over(&mut self, committed: Committed) {
        if let Some(last) = committed.accepted.last() {
            self.handed_over = last.event.id;
        }
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
    fn recorded(&self, submission: Submission, receipts: Vec<Receipt>) -> Result<Vec<Recorded>, Unavailable> {
        let Submission { source, entries, .. } = submission;
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
        let is_last = |(id, key): &&(EventId, KeyId)| self.dedup.last(*key).is_none_or(|last| last <= *id);
        Tally {
            totals: self.journal.totals(),
            unmatched: unmatched.iter().filter(is_last).count(),
            open_incidents: self.dedup.open_len() - self.dedup.open_waiting(),
            open_waiting: self.dedup.open_waiting(),
            by_source: by_source.collect(),
        }
    }
}
