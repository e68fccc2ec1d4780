//! Removes old files that were set aside: each is a whole journal, and a failing disk makes one after the other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::clock::WallTime;

/// The number of damaged journals, and of foreign files found in a journal's place, that are kept.
pub(crate) const ASIDE_KEPT: usize = 3;

/// Removes all but the newest ones.
pub(in crate::journal::sqlite) fn keep_newest(directory: &Path, now: WallTime) {
    keep(directory, now, ASIDE_KEPT);
}

/// Removes all that were set aside before `now`. Returns true if there were any.
pub(super) fn keep_none_before(directory: &Path, now: WallTime) -> bool {
    keep(directory, now, 0)
}

/// A file that can't be removed stays: it only takes room.
fn keep(directory: &Path, now: WallTime, count: usize) -> bool {
    let mut removed = false;
    for kind in KINDS {
        let old = match older(directory, kind, now, count) {
            Ok(old) => old,
            Err(error) => {
                tracing::warn!(%error, "can't look for files that were set aside");
                continue;
            }
        };
        for path in old {
            match fs::remove_file(&path) {
                Ok(()) => {
                    removed = true;
                    tracing::warn!(path = %path.display(), kept = count.max(1), "an older file that was set aside was removed");
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an older file that was set aside can't be removed");
                }
            }
        }
    }
    removed
}

/// The files of a kind beyond the newest `count` times. Files of `now` are never among them, even if the clock was
/// turned back.
fn older(directory: &Path, kind: &str, now: WallTime, count: usize) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<(i64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(at) = entry.file_name().to_str().and_then(|name| moment(name, kind)) {
            found.push((at, entry.path()));
        }
    }
    let mut moments: Vec<i64> = found.iter().map(|(at, _)| *at).filter(|at| *at != now.0).collect();
    moments.sort_unstable_by(|one, other| other.cmp(one));
    moments.dedup();
    let has_now = found.iter().any(|(at, _)| *at == now.0);
    moments.truncate(count.saturating_sub(usize::from(has_now)));
    Ok(found.into_iter().filter(|(at, _)| *at != now.0 && !moments.contains(at)).map(|(_, path)| path).collect())
}

/// The time at which a file of this kind was set aside; none for any other file.
fn moment(name: &str, kind: &str) -> Option<i64> {
    let (at, end) = name.strip_prefix(kind)?.split_once('.')?;
    matches!(end, "db" | "db-wal" | "wal").then(|| at.parse().ok()).flatten()
}

const KINDS: [&str; 2] = ["journal-damaged-", "journal-replaced-"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_kind_are_kept_and_other_files_are_nobodys_business() {
        let directory = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<String> = fs::read_dir(directory.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let others = ["journal-damaged-8.db.copy", "journal-damaged-mine.db", "journal.db"];
        for name in others {
            fs::write(directory.path().join(name), "").unwrap();
        }
        for at in [9, 10, 11, 12] {
            for name in [format!("journal-damaged-{at}.db"), format!("journal-damaged-{at}.db-wal")] {
                fs::write(directory.path().join(name), "").unwrap();
            }
            fs::write(directory.path().join(format!("journal-replaced-{at}.db")), "").unwrap();
        }
        // The clock was turned back.
        fs::write(directory.path().join("journal-damaged-5.wal"), "").unwrap();
        keep_newest(directory.path(), WallTime(5));
        let kept = [
            "journal-damaged-11.db",
            "journal-damaged-11.db-wal",
            "journal-damaged-12.db",
            "journal-damaged-12.db-wal",
            "journal-damaged-5.wal",
            "journal-damaged-8.db.copy",
            "journal-damaged-mine.db",
            "journal-replaced-10.db",
            "journal-replaced-11.db",
            "journal-replaced-12.db",
            "journal.db",
        ];
        assert_eq!(names(), kept);
        assert!(keep_none_before(directory.path(), WallTime(12)));
        assert_eq!(names()[..2], ["journal-damaged-12.db", "journal-damaged-12.db-wal"]);
        assert_eq!(names().len(), 3 + others.len());
    }
}
