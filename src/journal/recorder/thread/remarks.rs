//! Warnings about the journal for `/readyz`, while events are taken.

use std::path::PathBuf;

use tokio::sync::watch;

use crate::clock::WallTime;
use crate::journal::recorder::Remark;
use crate::journal::{ASIDE_KEPT, Journal, Lack, LogSalvage, Repairs};

/// A warning, and when it was first seen.
#[derive(Debug)]
pub(super) struct Remarks {
    shown: watch::Sender<Vec<Remark>>,
    damage: DamageSeen,
}

/// DamageSeen met since the start.
#[derive(Debug, Default)]
struct DamageSeen {
    since: Option<WallTime>,
    /// Events that became dead letters by damage.
    events: u64,
    /// An upper bound for further events that could not be read.
    unreadable: u64,
    /// Copies of the damaged files.
    aside: Vec<PathBuf>,
}

impl Remarks {
    fn new() -> (Remarks, watch::Receiver<Vec<Remark>>) {
        let (shown, watched) = watch::channel(Vec::new());
        (Remarks { shown, damage: DamageSeen::default() }, watched)
    }

    /// The warnings about what a start repaired and found missing.
    pub(super) fn at_start(
        repairs: &Repairs,
        lack: Option<Lack>,
        now: WallTime,
    ) -> (Remarks, watch::Receiver<Vec<Remark>>) {
        let (mut remarks, watched) = Remarks::new();
        remarks.repairs(repairs, now);
        if let Some(lack) = lack {
            remarks.lack(lack, now);
        }
        (remarks, watched)
    }

    fn begin(&self, reason: &'static str, detail: String, remedy: &'static str, since: WallTime) {
        self.shown.send_modify(|remarks| {
            remarks.retain(|remark| remark.reason != reason);
            remarks.push(Remark { reason, detail, remedy, since });
        });
    }

    fn end(&self, reason: &'static str) {
        self.shown.send_modify(|remarks| remarks.retain(|remark| remark.reason != reason));
    }

    fn is_made(&self, reason: &'static str) -> bool {
        self.shown.borrow().iter().any(|remark| remark.reason == reason)
    }

    /// Warns about damage beyond the end of a log that a power cut leaves.
    pub(super) fn repairs(&mut self, repairs: &Repairs, now: WallTime) {
        let (mut events, damage) = (0, &mut self.damage);
        if let Some(salvage) = &repairs.journal {
            events += salvage.without_body + salvage.without_row + salvage.in_doubt;
            damage.unreadable += salvage.unreadable;
            damage.aside.extend(salvage.aside.clone());
        }
        if let Some(LogSalvage { aside: Some(aside), in_doubt, unreadable, .. }) = &repairs.log {
            events += in_doubt;
            damage.unreadable += unreadable;
            damage.aside.push(aside.clone());
        }
        // Older files were removed.
        damage.aside.drain(..damage.aside.len().saturating_sub(ASIDE_KEPT));
        if !damage.aside.is_empty() || repairs.journal.is_some() {
            self.damaged(events, now);
        }
    }

    /// Warns that more events became dead letters by damage.
    pub(super) fn damaged(&mut self, events: u64, now: WallTime) {
        self.damage.events += events;
        let since = *self.damage.since.get_or_insert(now);
        let DamageSeen { events, unreadable, aside, .. } = &self.damage;
        let mut detail = format!("{events} events are dead letters because they are damaged");
        if *unreadable > 0 {
            detail.push_str(&format!(", and up to {unreadable} more could not be read"));
        }
        for aside in aside {
            detail.push_str(&format!("; the file as it was: {}", aside.display()));
        }
        self.begin(DAMAGE, detail, LOOK_AT_DEAD, since);
    }

    /// Warns about what a start found missing.
    fn lack(&self, lack: Lack, now: WallTime) {
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
                    "the journal's log is gone, though the relay did not stop in order: another program checkpointed \
                     it, or deleted it; no event is known to be missing, but some may be sent again"
                );
                let detail =
                    "the journal's log was checkpointed or deleted by another program; no event is known to be missing";
                return self.begin(LACK, detail.to_owned(), WATCH, now);
            }
        };
        tracing::error!("{detail}; {RESTORE}");
        self.begin(LACK, detail, RESTORE, now);
    }

    /// Warns while another program keeps the log from being reset.
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
                "another program's open transaction keeps the journal's log from being reset, and it grows; {END_IT}"
            );
            let detail = format!("the log has {mebibytes} MiB, since another program has a transaction open{by}");
            self.begin(LONG_LOG, detail, END_IT, now);
        }
    }
}

/// The `/readyz` code.
const LACK: &str = "journal_incomplete";
const LONG_LOG: &str = "journal_log";
const DAMAGE: &str = "journal_damaged";

const RESTORE: &str = "where the files are kept elsewhere, stop the relay and put them back as they were; else have the \
                       senders send their open alerts again (shown until the next start)";
const WATCH: &str = "look into the journal with `sqlite3 -readonly` only, and keep other programs out of `data_dir` (shown \
                     until the next start)";
const LOOK_AT_DEAD: &str = "check the disk and the memory of this machine; see `gander events list --state dead` for the \
                            damaged events, and have the senders send them again if still needed (shown until the next \
                            start)";
const END_IT: &str = "end the transaction, or the program, that reads the journal";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Salvage;

    #[test]
    fn of_the_files_that_were_set_aside_those_are_named_that_are_kept() {
        let (mut remarks, shown) = Remarks::new();
        for at in 1..=10 {
            let salvage = Salvage {
                aside: Some(PathBuf::from(format!("journal-damaged-{at}.db"))),
                problem: String::new(),
                events: 2,
                queued: 1,
                without_body: 1,
                without_row: 0,
                in_doubt: 0,
                unreadable: 0,
                left_out: 0,
            };
            remarks.repairs(&Repairs { journal: Some(salvage), log: None }, WallTime(at));
        }
        let detail = shown.borrow()[0].detail.clone();
        assert!(detail.starts_with("10 events are dead letters"), "{detail}");
        let named: Vec<i64> = (1..=10).filter(|at| detail.contains(&format!("damaged-{at}.db"))).collect();
        assert_eq!(named, [8, 9, 10], "{detail}");
    }
}
