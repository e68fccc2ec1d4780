//! The durable state: deduplication, the recorder that alone decides and appends, and the tables in SQLite.

pub mod dedup;
pub mod recorder;
mod shares;
mod sqlite;

pub use shares::{LimitUse, Share, Shares};
#[cfg(test)]
pub use sqlite::Searched;
pub use sqlite::{
    ASIDE_KEPT, AttemptDetails, AttemptRecord, Batch, Blob, ClosedJournal, CommandOrigin, CommandRecord, CommandTarget,
    Config, ConfirmationFilter, ConfirmationRecord, Damaged, Decided, Delivered, Details, Error, Fed, FileStates,
    FilesAtStart, Filter, Fit, Found, IncidentConfirmation, Journal, Lack, LastConfirmation, Later, Lock, LogSalvage,
    NewCommand, NewConfirmation, NewEvent, NewRefusal, OpenError, Order, Outlook, Page, PutBack, PutBackBy,
    RAW_BYTES_KEPT, Raw, Reader, Readers, RefusedPayload, Repairs, Replay, Reserve, RestoredEvent, Rewritten, Salvage,
    Scope, SearchIndex, Sendable, Size, SourceTotals, Space, Stored, StoredRetry, Summary, Texts, TooSmall, Totals,
    footprint, inspect, is_marked_damaged, is_used, make_directory, mark_damaged, outlook, repair, sqlite_version,
    too_small,
};
