//! The durable state: requests are decided into facts, the recorder alone appends them, and the store keeps them.
//!
//! ```text
//! request ─▶ decide(state, known) ─▶ facts ─▶ append (SQLite, one sync) ─▶ replies
//!               ▲                      │
//!               └──── state: a fold ◀──┘   (at a start: over what the store kept)
//! ```

pub mod decide;
pub mod dedup;
pub mod fact;
pub mod known;
pub mod recorder;
pub mod request;
mod shares;
mod space;
mod sqlite;
pub mod state;
mod totals;

pub use fact::{NewEvent, NewRefusal, Raw};
pub use request::{AttemptRecord, CommandOrigin, StoredRetry};
pub use shares::{LimitUse, Share, Shares};
pub use space::{Size, Space};
#[cfg(test)]
pub use sqlite::Searched;
pub use sqlite::{
    ASIDE_KEPT, AttemptDetails, Batch, ClosedJournal, CommandRecord, Config, ConfirmationFilter, ConfirmationRecord,
    Damaged, Delivered, Details, Error, Fed, FileStates, FilesAtStart, Filter, Found, IncidentConfirmation, Journal,
    Lack, LastConfirmation, Lock, LogSalvage, OpenError, Order, Outlook, Page, PutBack, PutBackBy, Reader, Readers,
    RefusedPayload, Repairs, Reserve, Rewritten, Salvage, Scope, SearchIndex, Sendable, Summary, Texts, TooSmall,
    inspect, is_marked_damaged, is_used, make_directory, mark_damaged, outlook, repair, too_small,
};
pub use state::RestoredEvent;
pub use totals::{Limits, SourceTotals, Totals};

#[cfg(test)]
mod tests;
