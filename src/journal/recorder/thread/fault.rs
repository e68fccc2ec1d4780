//! The state while the journal can't be written: how it begins, and what is refused until it is over.

use std::time::{Duration, Instant};

use super::RecorderThread;
use crate::journal::recorder::core::Core;
use crate::journal::recorder::reply::Reply;
use crate::journal::recorder::{Health, Message};
use crate::journal::request::Unavailable;
use crate::journal::{self, ClosedJournal, FileStates, PutBack, PutBackBy, Rewritten};

/// The state while the journal can't be written. Nothing is acknowledged until it was reopened and a write was synced.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) try_at: Instant,
    pub(super) why: Unavailable,
    /// The state of the files when the fault began.
    pub(super) found: FileStates,
    pub(super) files: Files,
    /// Repairs of the files, logged when events are taken again.
    pub(super) put_back: Vec<(PutBackBy, PutBack)>,
    /// True if some of the open files' content may be lost.
    pub(super) altered: bool,
    /// True if some of it is certainly lost.
    pub(super) cut: bool,
    /// Events written again from memory; none if nothing was missing.
    pub(super) rewritten: Option<Rewritten>,
    /// The last logged reason why the journal is not back yet.
    pub(super) told: String,
}

/// The progress of putting the files back.
#[derive(Debug)]
pub(super) enum Files {
    /// The files are open and hold everything. `copied`: a complete copy stands beside their place.
    Open { copied: Option<PutBack> },
    /// Nothing is open; everything is on disk, perhaps not yet in its place.
    Closed(ClosedJournal, PutBack),
    /// In its place, and ready to be opened.
    Back,
}

impl Default for Files {
    fn default() -> Files {
        Files::Open { copied: None }
    }
}

impl Default for Fault {
    fn default() -> Fault {
        Fault {
            try_at: Instant::now(),
            why: Unavailable::JournalFault,
            found: FileStates::INTACT,
            files: Files::default(),
            put_back: Vec::new(),
            altered: false,
            cut: false,
            rewritten: None,
            told: String::new(),
        }
    }
}

impl Fault {
    /// Refuses messages while nothing can be written. Settlements are held: the deliveries happened, and are written
    /// later.
    pub(super) fn refuse(&self, messages: &mut Vec<Message>, core: &mut Core) {
        for Message { request, reply } in messages.drain(..) {
            if let Some(request) = core.hold(request) {
                Message { request, reply }.answer(Reply::Unavailable(self.why));
            }
        }
    }
}

impl RecorderThread {
    /// Handles a failed write. The batch may or may not be on disk, so it is not trusted: the journal is reopened and
    /// all state is restored from it before anything is acknowledged again.
    pub(super) fn enter_fault(&mut self, error: &journal::Error) {
        let found = match error {
            journal::Error::Replaced(states) => *states,
            // Truncated files look damaged, and a missing file causes all kinds of errors.
            _ => self.journal.file_states(),
        };
        let replaced = !found.is_intact();
        let why = match error {
            _ if replaced => Unavailable::JournalReplaced,
            journal::Error::Full(_) => Unavailable::DiskFull,
            journal::Error::Damaged(_) => {
                journal::mark_damaged(self.parts.lock.directory());
                Unavailable::JournalFault
            }
            journal::Error::Fault(_) | journal::Error::Replaced(_) => Unavailable::JournalFault,
        };
        let reason = why.as_str();
        if replaced {
            tracing::error!(
                reason, error = %error,
                "another program changed the journal's files: nothing is acknowledged until the journal is back at its place; \
                 leave `data_dir` to the relay while it runs"
            );
        } else {
            tracing::error!(reason, error = %error, "the journal can't be written; events are refused with 503 until it can");
        }
        self.health.send_replace(Health::Refusing {
            why,
            detail: error.to_string(),
            since: self.parts.clock.now().wall,
        });
        // They may repeat events of a batch that was never written.
        self.core.failed();
        // The open files are the only copy, and may vanish: the journal is put back at once.
        let at_once = replaced || why == Unavailable::DiskFull && self.give_up_reserve();
        let try_at = if at_once { Instant::now() } else { Instant::now() + REOPEN_INTERVAL };
        let before = self.fault.take().unwrap_or_default();
        self.fault = Some(Fault { try_at, why, found, files: Files::default(), told: String::new(), ..before });
    }
}

/// The interval at which a failed journal is tried again: events are taken again well within five seconds.
pub(super) const REOPEN_INTERVAL: Duration = Duration::from_secs(1);
