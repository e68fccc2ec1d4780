//! What is known and durable: deduplication, the recorder that alone decides and appends, and the tables in SQLite.

pub mod dedup;
pub mod recorder;
mod shares;
mod sqlite;

pub use shares::{Room, Share, Shares};
pub use sqlite::*;
