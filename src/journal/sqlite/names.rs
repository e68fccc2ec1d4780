//! Names of the files in `data_dir`.

use std::ffi::OsStr;

/// Whether a file in the directory is one of ours.
pub(super) fn is_ours(name: &OsStr) -> bool {
    [LOCK, FILE, MARKER, REBUILT].iter().any(|ours| name == *ours)
}

pub(super) const FILE: &str = "journal.db";
/// Locked by the process that writes.
pub(super) const LOCK: &str = "lock";
/// What is remembered of the journal.
pub(super) const MARKER: &str = "journal.id";
/// A new journal while it is being made, and when it is complete.
pub(super) const PARTIAL: &str = "journal-partial.db";
pub(super) const REBUILT: &str = "journal-rebuilt.db";
