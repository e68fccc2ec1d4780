//! The durable state: deduplication, the recorder that alone decides and appends, and the tables in SQLite.

pub mod dedup;
pub mod recorder;
mod shares;
mod sqlite;

pub use shares::{LimitUse, Share, Shares};
#[cfg(test)]
pub use sqlite::Searched;
pub use sqlite::{
    ASIDE_KEPT, AttemptDetails, AttemptRecord, Batch, Blob, CommandOrigin, CommandRecord, CommandTarget, Config,
    Damaged, Decided, Delivered, Details, Error, FileStates, Filter, Fit, Found, Journal, Lack, Later, Left, LetGo,
    Lock, LogSalvage, Mended, Mending, NewCommand, NewEvent, NewRefusal, OpenError, Order, Outlook, Page, Raw, Reader,
    Readers, Recovered, RefusedPayload, Repairs, Replay, Rescue, Reserve, Salvage, Scope, Sendable, Size, SourceTotals,
    Space, Stored, Summary, Texts, TooSmall, Totals, Tried, footprint, inspect, is_marked_damaged, is_used,
    mark_damaged, mend, outlook, too_small,
};
