//! The state of the journal for senders, taken or refused and why, and remarks on it for a person.

use std::sync::Arc;

use crate::clock::WallTime;
use crate::journal::SourceTotals;

/// Why nothing is acknowledged. The sender is asked to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// `journal.max_events` or `max_bytes` is reached.
    Backlog,
    /// The source has its share of the queue; others are taken.
    SourceShare,
    /// The disk is full.
    DiskFull,
    /// A write or sync failed; the journal is being reopened.
    JournalFault,
    /// Another program changed the journal's files; the journal is being put back.
    JournalReplaced,
    /// More requests wait than the recorder's queue holds.
    Overload,
    /// The relay is stopping.
    Stopping,
}

/// The state of the journal for senders: events are taken, or refused since then for this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Taking,
    Refusing { why: Unavailable, detail: String, since: WallTime },
}

/// A source whose events are refused because it has its share of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    pub source: Arc<str>,
    pub since: WallTime,
    pub totals: SourceTotals,
}

/// Something about the journal that a person should know though events are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The word that `/readyz` uses.
    pub reason: &'static str,
    pub detail: String,
    pub remedy: &'static str,
    pub since: WallTime,
}

impl Unavailable {
    pub const ALL: [Unavailable; 7] = [
        Unavailable::Backlog,
        Unavailable::SourceShare,
        Unavailable::DiskFull,
        Unavailable::JournalFault,
        Unavailable::JournalReplaced,
        Unavailable::Overload,
        Unavailable::Stopping,
    ];

    /// The word that logs, metrics and `/readyz` use.
    pub fn as_str(self) -> &'static str {
        match self {
            Unavailable::Backlog => "backlog",
            Unavailable::SourceShare => "source_share",
            Unavailable::DiskFull => "disk_full",
            Unavailable::JournalFault => "journal_fault",
            Unavailable::JournalReplaced => "journal_replaced",
            Unavailable::Overload => "overload",
            Unavailable::Stopping => "stopping",
        }
    }
}
