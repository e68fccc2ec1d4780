//! Names of the files in `data_dir`.

use std::ffi::OsStr;

/// Returns true for the name of one of our files.
pub(super) fn is_ours(name: &OsStr) -> bool {
    [LOCK, FILE, MARKER, REBUILT, SEARCH].iter().any(|ours| name == *ours)
}

/// The journal's file in `data_dir`.
pub(super) const FILE: &str = "journal.db";
/// The file that the writing process locks.
pub(super) const LOCK: &str = "lock";
/// The file by which a start recognizes its journal.
pub(super) const MARKER: &str = "journal.id";
/// A new journal while it is written, and once it is complete.
pub(super) const PARTIAL: &str = "journal-partial.db";
pub(super) const REBUILT: &str = "journal-rebuilt.db";
/// The search index, which is made again from the journal wherever it is missing.
pub(super) const SEARCH: &str = "search.db";
