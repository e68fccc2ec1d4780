//! The disk volume of the journal: its space as it is now, and a reserve for a full disk.
//!
//! Space used by other programs can't be refused; against that there is the reserve, a file that is deleted when a write
//! finds the disk full.

mod reserve;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::Config;
use super::names::FILE;
use crate::journal::Space;
use crate::journal::space::{END_BYTES, SLACK, Split, UNKNOWN};

pub(crate) use reserve::Reserve;

/// The journal's view of its volume.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    directory: PathBuf,
    pub(super) split: Split,
}

/// A volume too small for `journal.max_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSmall {
    /// The size of the volume.
    pub volume: u64,
    /// The most that the journal may need, with its log and the reserve.
    pub needed: u64,
    /// The largest `max_bytes` that fits.
    pub max_bytes: u64,
}

/// A volume and the room that the journal needs on it, while the journal is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// The size of the volume.
    pub volume: u64,
    /// Free on the volume.
    pub free: u64,
    /// The bytes that must be free for new events to be taken.
    pub needed: u64,
}

impl Volume {
    pub(super) fn of(directory: &Path, asked: Option<u64>) -> Volume {
        let (_, size) = look(directory);
        Volume { directory: directory.to_owned(), split: Split::of(asked, size) }
    }

    /// The space now, for a database with `queued` waiting events. Also valid within a batch.
    pub(super) fn space(&self, connection: &Connection, queued: u64) -> Result<Space, rusqlite::Error> {
        let number = |pragma: &str| connection.prepare_cached(pragma)?.query_row([], |row| row.get::<_, u64>(0));
        let page = number("PRAGMA page_size")?;
        let database = number("PRAGMA page_count")? * page;
        Ok(Space {
            split: self.split,
            free: look(&self.directory).0,
            held: self.held(),
            log: self.length("-wal"),
            not_checkpointed: database.saturating_sub(self.length("")),
            inside: number("PRAGMA freelist_count")? * page,
            ends: queued * END_BYTES,
            promised: 0,
            gives_back: number("PRAGMA auto_vacuum")? == AUTO_VACUUM_INCREMENTAL,
        })
    }

    /// The length of the journal's file, or of one beside it.
    fn length(&self, beside: &str) -> u64 {
        fs::metadata(self.directory.join(format!("{FILE}{beside}"))).map_or(0, |file| file.len())
    }

    /// The bytes that the reserve holds.
    fn held(&self) -> u64 {
        self.reserve().held(fs::metadata(self.directory.join(FILE)).is_ok_and(|file| file.blocks() > 0))
    }

    pub(super) fn take_reserve(&self) -> io::Result<()> {
        self.reserve().take(self.split.reserve)
    }

    fn reserve(&self) -> Reserve {
        Reserve::in_directory(&self.directory)
    }
}

/// Warns if the volume of the journal is too small for `max_bytes`. Checks the directory, or its nearest existing
/// parent.
pub(crate) fn too_small(config: &Config) -> Option<TooSmall> {
    let (_, volume) = look(existing(&config.data_dir));
    if volume == UNKNOWN {
        return None;
    }
    let split = Split::of(config.reserve, volume);
    let beside = split.reserve + split.log_max() + SLACK;
    let needed = config.max_bytes + config.max_bytes / 4 + beside;
    (needed > volume).then(|| {
        let max_bytes = volume.saturating_sub(beside) / 5 * 4;
        TooSmall { volume, needed, max_bytes }
    })
}

/// The room for the journal on its volume, or on that of the nearest existing directory above. None if the file system
/// does not tell.
pub(crate) fn outlook(config: &Config) -> Option<Outlook> {
    let (free, volume) = look(existing(&config.data_dir));
    if volume == UNKNOWN {
        return None;
    }
    let split = Split::of(config.reserve, volume);
    let on_it = Volume { directory: config.data_dir.clone(), split };
    let taken = on_it.held() + on_it.length("-wal");
    let needed = (split.reserve + split.log_max() + SLACK).saturating_sub(taken);
    Some(Outlook { volume, free, needed })
}

/// The directory, or the nearest one above it that exists.
fn existing(directory: &Path) -> &Path {
    directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."))
}

/// The free bytes for this process, and the size of the volume. A file system that does not tell counts as endless: a
/// failed write will tell.
fn look(directory: &Path) -> (u64, u64) {
    match rustix::fs::statvfs(directory) {
        Ok(volume) if volume.f_blocks > 0 => {
            (volume.f_bavail.saturating_mul(volume.f_frsize), volume.f_blocks.saturating_mul(volume.f_frsize))
        }
        _ => (UNKNOWN, UNKNOWN),
    }
}

/// Returns true if there is too little room to open a journal.
pub(super) fn is_full(directory: &Path) -> bool {
    look(directory).0 < SLACK
}

/// Room on the volume for files that the journal can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoomBeside {
    /// There is enough for the search index to grow.
    pub(super) takes_index: bool,
    /// There is enough for it to stay.
    pub(super) keeps_index: bool,
}

/// The room on the volume for what the journal can do without.
pub(super) fn room_beside(directory: &Path) -> RoomBeside {
    let (free, volume) = look(directory);
    let wanted = (volume / BESIDE_PART).clamp(BESIDE_MIN, BESIDE_MAX);
    RoomBeside { takes_index: free >= wanted, keeps_index: free >= wanted / 2 }
}

/// Returns true if there is room to open a journal and to write the first settlements.
pub(super) fn has_room_to_open(directory: &Path) -> bool {
    look(directory).0 >= TO_OPEN + SLACK
}

/// Returns true if a write failed for lack of room.
pub(super) fn is_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The search index grows while this fraction of the volume is free, at least more than the longest logs and the
/// reserve take, at most far more than they do.
const BESIDE_PART: u64 = 16;
const BESIDE_MIN: u64 = 128 << 20;
const BESIDE_MAX: u64 = 1 << 30;

/// SQLite's number for it.
const AUTO_VACUUM_INCREMENTAL: u64 = 2;
/// The shared memory and the first pages of a log.
const TO_OPEN: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_limit_that_the_volume_can_not_hold_is_told_with_one_that_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let config = |max_bytes| Config {
            data_dir: directory.path().join("not/yet/there"),
            max_events: 1,
            max_bytes,
            keep_delivered: std::time::Duration::ZERO,
            keep_refused: 0,
            shares: crate::journal::Shares::default(),
            reserve: None,
        };
        let TooSmall { volume, needed, max_bytes } = too_small(&config(1 << 50)).unwrap();
        assert!(max_bytes < volume && volume < needed);
        assert_eq!(too_small(&config(max_bytes)), None);
    }

    #[test]
    fn before_a_start_the_room_that_is_needed_is_that_which_is_not_held_yet() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: directory.path().join("data"),
            max_events: 1,
            max_bytes: 1,
            keep_delivered: std::time::Duration::ZERO,
            keep_refused: 0,
            shares: crate::journal::Shares::default(),
            reserve: Some(MIB),
        };
        let before = outlook(&config).unwrap();
        let split = Split::of(Some(MIB), before.volume);
        assert_eq!(before.needed, MIB + split.log_max() + SLACK);
        fs::create_dir(&config.data_dir).unwrap();
        Reserve::in_directory(&config.data_dir).take(MIB).unwrap();
        fs::write(config.data_dir.join(format!("{FILE}-wal")), [0; 1_000]).unwrap();
        assert_eq!(outlook(&config).unwrap().needed, before.needed - MIB - 1_000);
    }
}
