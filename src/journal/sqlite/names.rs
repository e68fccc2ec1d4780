//! Names of the files in `data_dir`.

use std::ffi::OsStr;

/// Tells a file of ours from others in the directory.
pub(super) fn is_ours(name: &OsStr) -> bool {
    [LOCK, FILE, MARKER, REBUILT].iter().any(|ours| name == *ours)
}

pub(super) const FILE: &str = "journal.db";
/// Locked by the process that writes.
pub(super) const LOCK: &str = "lock";
/// The note by which a start knows its journal again.
pub(super) const MARKER: &str = "journal.id";
/// A new journal while it is being made, and when it is complete.
pub(super) const PARTIAL: &str = "journal-partial.db";
pub(super) const REBUILT: &str = "journal-rebuilt.db";
