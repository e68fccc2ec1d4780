//! The state of the journal for senders, taken or refused and why, and remarks on it for a person.

use std::sync::Arc;

use crate::clock::WallTime;
use crate::journal::SourceTotals;
use crate::journal::request::Unavailable;

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
