//! What a person should know of the journal though events are taken.

use tokio::sync::watch;

use crate::journal::{Journal, Lack};
use crate::recorder::Remark;
use crate::time::WallTime;

/// What is shown, and when it was seen first.
#[derive(Debug)]
pub(super) struct Remarks(watch::Sender<Vec<Remark>>);

impl Remarks {
    pub(super) fn new() -> (Remarks, watch::Receiver<Vec<Remark>>) {
        let (sender, watched) = watch::channel(Vec::new());
        (Remarks(sender), watched)
    }

    fn begin(&self, reason: &'static str, detail: String, remedy: &'static str, since: WallTime) {
        self.0.send_modify(|remarks| {
            remarks.retain(|remark| remark.reason != reason);
            remarks.push(Remark { reason, detail, remedy, since });
        });
    }

    fn end(&self, reason: &'static str) {
        self.0.send_modify(|remarks| remarks.retain(|remark| remark.reason != reason));
    }

    fn is_made(&self, reason: &'static str) -> bool {
        self.0.borrow().iter().any(|remark| remark.reason == reason)
    }

    /// Says what a start did not find of what was left.
    pub(super) fn lack(&self, lack: Lack, now: WallTime) {
        let detail = match lack {
            Lack::Emptied { waiting } => {
                format!("the journal that was here is gone; {waiting} of its events were still to be delivered")
            }
            Lack::Exchanged { waiting } => {
                format!(
                    "another journal is in the place of the one that was here, of whose events {waiting} were still to be delivered"
                )
            }
            Lack::LogGone { events } => {
                format!(
                    "the journal's log is gone, and with it up to {events} of the events that were acknowledged last"
                )
            }
            Lack::Older { events } => {
                format!(
                    "the journal is older than the one that was here: up to {events} events that were acknowledged after it are missing"
                )
            }
            Lack::Log => {
                tracing::warn!(
                    "the journal's log is gone, though the relay did not stop in order: another program folded it, or deleted it; \
                     no event is known to be missing, but some may be sent again"
                );
                let detail =
                    "the journal's log was folded or deleted by another program; no event is known to be missing";
                return self.begin(LACK, detail.to_owned(), WATCH, now);
            }
        };
        tracing::error!("{detail}; {RESTORE}");
        self.begin(LACK, detail, RESTORE, now);
    }

    /// Says so while another program keeps the log from beginning anew.
    pub(super) fn log(&self, journal: &Journal, now: WallTime) {
        let bytes = journal.log_bytes();
        if bytes <= journal.log_bytes_usual() {
            if self.is_made(LONG_LOG) {
                self.end(LONG_LOG);
                tracing::info!(bytes, "the journal's log is as short again as it should be");
            }
        } else if !self.is_made(LONG_LOG) {
            let holders = journal.log_holders().join(", ");
            let by = if holders.is_empty() { String::new() } else { format!(": process {holders}") };
            let mebibytes = bytes >> 20;
            tracing::warn!(
                bytes,
                holders,
                "another program's open transaction keeps the journal's log from beginning anew, and it grows; {END_IT}"
            );
            let detail = format!("the log has {mebibytes} MiB, since another program has a transaction open{by}");
            self.begin(LONG_LOG, detail, END_IT, now);
        }
    }
}

/// The words that `/readyz` uses.
const LACK: &str = "journal_incomplete";
const LONG_LOG: &str = "journal_log";

const RESTORE: &str = "where the files are kept elsewhere, stop the relay and put them back as they were; else have the \
                       senders send again what is open (told until the next start)";
const WATCH: &str = "look into the journal with `sqlite3 -readonly` only, and keep other programs out of `data_dir` (told \
                     until the next start)";
const END_IT: &str = "end the transaction, or the program, that reads the journal";
