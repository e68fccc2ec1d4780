//! The durable state: requests are decided into facts, the recorder alone appends them, and the store keeps them.
//!
//! ```text
//! request ─▶ decide(state, known) ─▶ facts ─▶ append (SQLite, one sync) ─▶ replies
//!               ▲                      │
//!               └──── state: a fold ◀──┘   (at a start: over what the store kept)
//! ```

pub(crate) mod decide;
pub(crate) mod dedup;
pub(crate) mod fact;
pub(crate) mod known;
pub(crate) mod recorder;
pub(crate) mod request;
mod shares;
mod space;
mod sqlite;
pub(crate) mod state;
mod totals;

pub use fact::{NewEvent, NewRefusal, Raw};
pub(crate) use request::CommandOrigin;
pub use request::{AttemptRecord, StoredRetry};
pub(crate) use shares::LimitUse;
pub use shares::{Share, Shares};
pub(crate) use space::Size;
pub(crate) use space::Space;
#[cfg(test)]
pub(crate) use sqlite::Searched;
pub(crate) use sqlite::{
    ASIDE_KEPT, Outlook, Reserve, TooSmall, inspect, is_used, make_directory, mark_damaged, outlook, sqlite_version,
    too_small,
};
pub(crate) use sqlite::{
    AttemptDetails, ClosedJournal, CommandRecord, ConfirmationFilter, ConfirmationRecord, Damaged, Delivered, Fed,
    FileStates, FilesAtStart, IncidentConfirmation, LIST_MAX, Lack, LastConfirmation, LogSalvage, OpenError, Order,
    Page, PutBack, PutBackBy, Readers, RefusedPayload, Rewritten, Salvage, Scope, SearchIndex, Summary, Texts,
};
pub use sqlite::{
    Batch, Config, Details, Error, Filter, Found, Journal, Lock, Reader, Repairs, Sendable, is_marked_damaged, repair,
};
pub use state::RestoredEvent;
pub use totals::Limits;
pub(crate) use totals::{SourceTotals, Totals};

#[cfg(test)]
mod tests;
