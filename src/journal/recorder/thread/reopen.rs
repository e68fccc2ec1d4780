//! Reopens the journal after a fault: everything is restored from it before anything is acknowledged again.

use std::sync::Arc;
use std::time::Instant;

use super::RecorderThread;
use super::fault::{Files, REOPEN_INTERVAL};
use super::replaced_files::FALSE_ALARMS_MAX;
use super::restore::{Restored, open_writable, restore};
use crate::journal::known::Known;
use crate::journal::recorder::Committed;
use crate::journal::state::RecorderState;
use crate::journal::{self, FileStates};

impl RecorderThread {
    /// Reopens the journal after a fault, restores from it, and writes held settlements. On failure it is tried again.
    pub(super) fn reopen(&mut self) {
        let Some(fault) = self.fault.as_mut().filter(|fault| Instant::now() >= fault.try_at) else {
            return;
        };
        fault.try_at = Instant::now() + REOPEN_INTERVAL;
        if let Err(error) = self.put_files_back() {
            self.log_obstacle(&error);
            return;
        }
        let mut accepted = Vec::new();
        let now = self.parts.clock.now();
        // The write test comes first, so that a large journal is not read again each second in vain.
        let opened = open_writable(&self.parts).and_then(|journal| self.rewrite_missing(journal));
        let restored = opened.and_then(|journal| {
            restore(&self.parts, journal, self.core.sources(), |event, _| accepted.extend(self.core.found(event, now)))
        });
        let Restored { mut journal, dedup, last, damaged } = match restored {
            Ok(restored) => restored,
            Err(error) => {
                self.log_obstacle(&error);
                return;
            }
        };
        journal.continue_after(&self.journal);
        journal.trust_times(self.false_alarms < FALSE_ALARMS_MAX);
        self.journal = journal;
        self.core.state = RecorderState::new(dedup, self.holds.borrow().to_vec(), self.parts.journal.limits());
        // The reopened files are known from now on.
        if let Some(fault) = &mut self.fault {
            (fault.files, fault.found) = (Files::default(), FileStates::INTACT);
        }
        let written =
            self.make_dead_letters(&damaged).and_then(|()| self.write_held()).and_then(|()| self.free_space());
        if let Err(error) = written {
            tracing::debug!(error = %error, "the journal can't be written yet");
            if matches!(error, journal::Error::Damaged(_) | journal::Error::Replaced(_)) {
                self.enter_fault(&error);
            }
            self.publish_commits();
            return;
        }
        let Some(fault) = self.fault.take() else {
            return;
        };
        self.drop_gone_waiters();
        self.hand_over(Committed { accepted, ..Committed::default() });
        self.core.handed_over(last);
        self.mark();
        self.log_put_back(&fault);
        tracing::info!("the journal can be written again");
        // Dead letters, a commit in doubt, and events written again from memory: any event may stand otherwise now.
        self.committed += 1;
        self.publish_state();
    }

    /// Writes held settlements in parts: there may be thousands, and little room. Written ones are published at once,
    /// so that a later failure does not write them twice.
    pub(super) fn write_held(&mut self) -> Result<(), journal::Error> {
        let (space, known) = (self.journal.space()?, Known::default());
        loop {
            let requests = self.core.held(space.ends_at_once());
            if requests.is_empty() {
                break;
            }
            let mut batch = self.journal.begin()?;
            self.core.state.room = batch.room(space, false);
            let (facts, due) = self.core.decide(&known, requests.iter(), self.parts.clock.now());
            batch.apply(&facts)?;
            batch.commit()?;
            self.committed += 1;
            self.core.held_written(requests.len());
            self.tell_settled(&due.settled);
            self.hand_over(Committed { settled: due.settled, ..Committed::default() });
            self.journal.checkpoint_long_log(true)?;
        }
        // Holds are as the person was told, even if the failed commit or the file says otherwise.
        let mut batch = self.journal.begin()?;
        let holds = Arc::clone(&self.holds.borrow());
        // Of a file whose content may be lost nobody knows which commit it is about.
        if self.fault.as_ref().is_some_and(|fault| !fault.altered) {
            batch.drop_undone_holds(&holds)?;
        }
        batch.set_holds(&holds)?;
        batch.commit()
    }
}
