//! The SQLite versions that may hold the journal.

use std::path::Path;

use super::OpenError;

/// The version of the SQLite that this program runs with: its own, or the system's.
pub(crate) fn linked() -> &'static str {
    rusqlite::version()
}

/// Refuses a SQLite that can lose commits.
pub(super) fn check(directory: &Path) -> Result<(), OpenError> {
    if is_sound(rusqlite::version_number()) {
        return Ok(());
    }
    Err(OpenError {
        path: directory.to_owned(),
        problem: format!("this gander is linked with SQLite {}, which can lose committed data", rusqlite::version()),
        remedy: "run a gander that is linked with SQLite 3.51.3 or later, as the released ones are",
    })
}

/// Returns true if a version has the fix for a log that is reset while a second connection is open: without it that
/// connection may write at its old place in the log and overwrite commits
/// (https://www.sqlite.org/wal.html#walresetbug). The number is SQLite's: three digits for the minor version, three for
/// the patch.
fn is_sound(version: i32) -> bool {
    let (minor, patch) = (version / 1_000, version % 1_000);
    match minor {
        3_044 => patch >= 6,
        3_050 => patch >= 7,
        3_051 => patch >= 3,
        // It was withdrawn.
        3_052 => patch > 0,
        _ => minor > 3_052,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_loses_commits_is_told_from_a_mended_one() {
        for (version, sound) in [
            (3_040_001, false),
            (3_044_005, false),
            (3_044_006, true),
            (3_045_000, false),
            (3_049_002, false),
            (3_050_006, false),
            (3_050_007, true),
            (3_051_000, false),
            (3_051_002, false),
            (3_051_003, true),
            (3_052_000, false),
            (3_052_001, true),
            (3_053_000, true),
            (3_054_001, true),
            (4_000_000, true),
        ] {
            assert_eq!(is_sound(version), sound, "{version}");
        }
        assert!(is_sound(rusqlite::version_number()), "the one that is linked here");
    }
}
