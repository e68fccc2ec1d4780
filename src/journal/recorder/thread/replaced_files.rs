//! Puts the journal back in its place after another program changed its files.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::RecorderThread;
use super::fault::{Fault, Files, REOPEN_INTERVAL};
use super::restore::log_repairs;
use crate::event::EventId;
use crate::journal::recorder::{Committed, Health, QueueCopy};
use crate::journal::request::Unavailable;
use crate::journal::{self, Batch, Journal, Lock, OpenError, PutBack, PutBackBy, Rewritten};

impl RecorderThread {
    /// If a restart would not find the open files: takes the directory again, writes a complete journal there, and
    /// closes the open files.
    pub(super) fn put_files_back(&mut self) -> Result<(), OpenError> {
        let now = self.parts.clock.now().wall;
        if !self.close_open_files()? {
            return Ok(());
        }
        let Some(fault) = &mut self.fault else {
            return Ok(());
        };
        if let Files::Closed(gone, copied) = &fault.files {
            let PutBack { aside, repairs } = gone.put_back(&self.parts.lock, now)?;
            let aside = [copied.aside.clone(), aside].concat();
            let repairs = if repairs.is_empty() { copied.repairs.clone() } else { repairs };
            fault.altered |= repairs.journal.is_some();
            fault.cut |= repairs.journal.is_some();
            fault.put_back.push((gone.how(), PutBack { aside, repairs }));
            fault.files = Files::Back;
        } else if matches!(fault.files, Files::Back) && journal::is_marked_damaged(self.parts.lock.directory()) {
            // Only opening it, or reading all of it, showed the damage.
            if !self.parts.lock.readers().close() {
                let busy = journal::Error::Fault("another connection still reads it".to_owned());
                return Err(obstacle(&self.parts.lock, &busy));
            }
            // Each repair sets files aside in place of those set aside before: a disk that damages every write must not
            // be tried every second.
            let before = u32::try_from(fault.put_back.len()).unwrap_or(u32::MAX);
            fault.try_at = Instant::now() + REOPEN_INTERVAL * (1 << before.min(REPAIR_WAIT_MAX));
            let repairs = journal::repair(&self.parts.lock, now)?;
            (fault.altered, fault.cut) = (true, true);
            fault.put_back.push((PutBackBy::Reread, PutBack { aside: Vec::new(), repairs }));
        }
        Ok(())
    }

    /// Writes what only the open files hold, and closes them. Returns false if they are those that a restart would find.
    fn close_open_files(&mut self) -> Result<bool, OpenError> {
        let Some(Fault { files: Files::Open { copied }, found, why, .. }) = &self.fault else {
            return Ok(true);
        };
        let is_copied = copied.is_some();
        let states = self.journal.file_states().or_overwritten(*found);
        let damaged = journal::is_marked_damaged(self.parts.lock.directory());
        if states.is_intact() && !is_copied && !damaged {
            return Ok(false);
        }
        if !states.is_intact() && *why != Unavailable::JournalReplaced {
            // The files were changed while the disk was full or failing.
            self.enter_fault(&journal::Error::Replaced(states));
            return self.close_open_files();
        }
        self.parts.lock.retake()?;
        let mut how = match states.put_back_by() {
            // The content is complete, and is read as at a start.
            PutBackBy::Reopen if damaged => PutBackBy::Reread,
            how => how,
        };
        if how == PutBackBy::Checkpoint && !matches!(self.journal.checkpoint(), Ok(true)) || is_copied {
            how = PutBackBy::Copy;
        }
        if how == PutBackBy::Copy {
            let copied = self.copy_out();
            if copied.is_err() && self.give_up_reserve() {
                // It takes as much room again as the open files.
                self.copy_out()?;
            } else {
                copied?;
            }
        }
        self.close_files(how)?;
        if let Some(fault) = &mut self.fault {
            fault.altered |= states.is_altered();
            fault.cut |= states.is_cut();
        }
        Ok(true)
    }

    /// Copies all open files, which may take long; senders meanwhile get 503.
    fn copy_out(&mut self) -> Result<(), OpenError> {
        let now = self.parts.clock.now().wall;
        let RecorderThread { journal, parts, messages, core, fault: Some(fault), .. } = self else {
            return Ok(());
        };
        if matches!(fault.files, Files::Open { copied: Some(_) }) {
            return Ok(());
        }
        let lock = &parts.lock;
        let copied = std::thread::scope(|scope| {
            let copying = scope.spawn(|| journal.copy_out(lock, now));
            let mut waiting = Vec::new();
            while !copying.is_finished() {
                while let Ok(message) = messages.try_recv() {
                    waiting.push(message);
                }
                fault.refuse(&mut waiting, core);
                std::thread::sleep(REFUSE_INTERVAL);
            }
            copying.join()
        });
        let copied = copied.unwrap_or_else(|_| Err(journal::Error::Fault("copying the journal failed".to_owned())));
        fault.files = Files::Open { copied: Some(copied.map_err(|error| obstacle(lock, &error))?) };
        Ok(())
    }

    fn close_files(&mut self, how: PutBackBy) -> Result<(), OpenError> {
        let gone = self.journal.close_files(how, &self.parts.lock);
        let Some(fault) = &mut self.fault else {
            return Ok(());
        };
        let copied = match std::mem::take(&mut fault.files) {
            Files::Open { copied } => copied,
            Files::Closed(..) | Files::Back => None,
        };
        match gone {
            Ok(Some(gone)) => fault.files = Files::Closed(gone, copied.unwrap_or_default()),
            Ok(None) => {
                fault.files = Files::Open { copied };
                let busy = journal::Error::Fault("another connection still reads it".to_owned());
                return Err(obstacle(&self.parts.lock, &busy));
            }
            // The copy is written again.
            Err(error) => return Err(obstacle(&self.parts.lock, &error)),
        }
        Ok(())
    }

    /// Logs why the journal is not back yet, once for each reason.
    pub(super) fn log_obstacle(&mut self, error: &OpenError) {
        let Some(fault) = &mut self.fault else {
            return;
        };
        let told = error.to_string();
        if fault.why != Unavailable::JournalReplaced {
            tracing::debug!(%error, "the journal can't be reopened yet");
            return;
        }
        if fault.told != told {
            tracing::error!(error = %error, "the journal can't be put back yet; it is tried again");
            self.health.send_modify(|health| {
                if let Health::Refusing { detail, .. } = health {
                    detail.clone_from(&told);
                }
            });
            fault.told = told;
        }
    }

    /// After files were truncated or overwritten: writes again the missing part of the queue that is in memory.
    pub(super) fn rewrite_missing(&mut self, mut journal: Journal) -> Result<Journal, OpenError> {
        if !self.fault.as_ref().is_some_and(|fault| fault.altered) {
            return Ok(journal);
        }
        let QueueCopy { waiting, ending, bodies } = self.queue_copy()?;
        let now = self.parts.clock.now().wall;
        let known: HashSet<EventId> = waiting.iter().map(|waits| waits.event).chain(ending).collect();
        if let Some(fault) = &mut self.fault {
            fault.rewritten.get_or_insert_default();
        }
        let sources = Arc::clone(self.core.sources());
        for some in waiting.chunks(REWRITTEN_AT_ONCE) {
            self.rewrite_some(&mut journal, |batch, rewritten| {
                some.iter().try_for_each(|waits| {
                    batch.write_again(*waits, &sources.name(waits.source), bodies.get(&waits.event), now, rewritten)
                })
            })?;
        }
        let mut unknown = journal.queued().map_err(|error| obstacle(&self.parts.lock, &error))?;
        unknown.retain(|id| !known.contains(id));
        for some in unknown.chunks(REWRITTEN_AT_ONCE) {
            self.rewrite_some(&mut journal, |batch, rewritten| {
                some.iter().try_for_each(|id| batch.end_unknown(*id, now, rewritten))
            })?;
        }
        Ok(journal)
    }

    /// Handles a part of the queue: it may hold a million events, and senders meanwhile get 503.
    fn rewrite_some(
        &mut self,
        journal: &mut Journal,
        write: impl FnOnce(&mut Batch<'_>, &mut Rewritten) -> Result<(), journal::Error>,
    ) -> Result<(), OpenError> {
        self.refuse_waiting();
        let mut rewritten = Rewritten::default();
        let mut batch = journal.begin().map_err(|error| obstacle(&self.parts.lock, &error))?;
        let written = write(&mut batch, &mut rewritten).and_then(|()| batch.commit());
        written.and_then(|()| journal.checkpoint_long_log(true)).map_err(|error| obstacle(&self.parts.lock, &error))?;
        if let Some(fault) = &mut self.fault {
            fault.rewritten.get_or_insert_default().add(rewritten);
        }
        Ok(())
    }

    /// Asks the dispatcher for its queue, or takes the copy that it left when it ended. Senders meanwhile get 503.
    /// Without an answer the journal can't be trusted to hold the whole queue.
    fn queue_copy(&mut self) -> Result<QueueCopy, OpenError> {
        let (reply, mut answer) = oneshot::channel();
        let mut asking = Some(Committed { queue_copy_request: Some(reply), ..Committed::default() });
        let until = Instant::now() + QUEUE_COPY_WAIT;
        loop {
            if let Some(committed) = asking.take()
                && let Err(TrySendError::Full(committed)) = self.parts.committed.try_send(committed)
            {
                asking = Some(committed);
            }
            if let Ok(queue) = answer.try_recv() {
                return Ok(queue);
            }
            if let Some(queue) = self.queue_backup.queue() {
                return Ok(queue.clone());
            }
            let ended = self.parts.committed.is_closed() && self.queue_backup.is_lost();
            if ended || Instant::now() >= until {
                let nobody =
                    "its files were truncated or overwritten, and the dispatcher does not answer what else is queued";
                return Err(obstacle(&self.parts.lock, &journal::Error::Fault(nobody.to_owned())));
            }
            self.refuse_waiting();
            std::thread::sleep(REFUSE_INTERVAL);
        }
    }

    fn refuse_waiting(&mut self) {
        let mut waiting = Vec::new();
        while let Ok(message) = self.messages.try_recv() {
            waiting.push(message);
        }
        if let Some(fault) = &self.fault {
            fault.refuse(&mut waiting, &mut self.core);
        }
    }

    /// Logs what was done to put the files back.
    pub(super) fn log_put_back(&mut self, fault: &Fault) {
        let (put_back, rewritten) = (&fault.put_back, fault.rewritten);
        let queued = self.journal.totals().queued;
        for aside in put_back.iter().flat_map(|(_, put_back)| &put_back.aside) {
            tracing::warn!(aside = %aside.display(), "a file that another program put in the journal's place was set aside");
        }
        for repairs in put_back.iter().map(|(_, put_back)| &put_back.repairs).filter(|repairs| !repairs.is_empty()) {
            log_repairs(repairs);
            self.remarks.repairs(repairs, self.parts.clock.now().wall);
        }
        if let Some(Rewritten { again, lost, ended }) = rewritten {
            if lost > 0 {
                tracing::error!(
                    queued,
                    again,
                    lost,
                    ended,
                    "the journal's files were cut off or overwritten: a part of the queue was written again from memory, and \
                     lost events became dead letters"
                );
            } else if again + ended > 0 {
                tracing::warn!(
                    queued,
                    again,
                    ended,
                    "the journal's files were cut off or overwritten: the missing part of the queue was written again from \
                     memory; nothing that waited is lost"
                );
            } else {
                tracing::warn!(queued, "the journal was opened anew as it was found: nothing that waited is lost");
                self.false_alarms += u32::from(!fault.cut);
                if !fault.cut && self.false_alarms == FALSE_ALARMS_MAX {
                    self.journal.trust_times(false);
                    tracing::warn!(
                        "modification times changed repeatedly on intact files: from now on only file sizes tell \
                         whether another program wrote to them"
                    );
                }
            }
            return;
        }
        match put_back.last().map(|(how, _)| how) {
            None => {}
            Some(PutBackBy::Copy) => tracing::warn!(
                queued,
                "the journal was copied to its place from the files that were still open: nothing in it is lost"
            ),
            Some(PutBackBy::Checkpoint) => tracing::warn!(
                queued,
                "the journal's log was still open and was brought into the main file: nothing in it is lost"
            ),
            Some(PutBackBy::Reopen) => tracing::warn!(queued, "the journal was opened anew: nothing in it is lost"),
            Some(PutBackBy::Reread) => {
                tracing::warn!(queued, "the journal was opened anew as it was found: all of it can be read");
            }
        }
    }
}

fn obstacle(lock: &Lock, error: &journal::Error) -> OpenError {
    let remedy = match error {
        journal::Error::Full(_) => "make room on the disk: the journal is copied",
        _ => "check the disk and the permissions of `data_dir`",
    };
    OpenError { path: lock.directory().to_owned(), problem: error.to_string(), remedy }
}

/// After so many changes of modification times without a write, the file system is not trusted to keep them.
pub(super) const FALSE_ALARMS_MAX: u32 = 3;
const REFUSE_INTERVAL: Duration = Duration::from_millis(5);
/// The dispatcher answers within milliseconds.
const QUEUE_COPY_WAIT: Duration = Duration::from_secs(10);
/// After a repair that did not help, the wait doubles, up to four minutes.
const REPAIR_WAIT_MAX: u32 = 8;
/// Events compared with memory in one batch: some tens of milliseconds.
const REWRITTEN_AT_ONCE: usize = 1_000;
