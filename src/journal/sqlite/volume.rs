//! The disk volume of the journal: the division of its space, the limit for new events, and a reserve for a full disk.
//!
//! SQLite needs room to make room: removals go to the log first, and checkpointing the log grows the database. So the
//! room for both, and for settling all queued events, is never given to new events: they are refused while there is
//! still enough to deliver and remove everything. Space used by other programs can't be refused; against that there is
//! the reserve, a file that is deleted when a write finds the disk full.

mod reserve;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::Config;
use super::names::FILE;

pub use reserve::Reserve;

/// The division of a volume, in bytes. Fixed when the journal is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// The size of the volume.
    volume: u64,
    /// The size of the reserve.
    reserve: u64,
    /// The log is checkpointed at this length.
    pub(super) log: u64,
}

/// The space on the volume at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    split: Split,
    /// Free on the volume.
    free: u64,
    /// The part of the reserve that is held.
    held: u64,
    /// The length of the log's file, which is reused when the log is reset.
    log: u64,
    /// The growth of the database when the log is checkpointed.
    not_checkpointed: u64,
    /// Free pages of the database: they are used before it grows.
    inside: u64,
    /// The room needed to settle all queued events.
    ends: u64,
    /// Used since then by events that are not written yet.
    promised: u64,
    /// True if free pages can be returned to the volume.
    gives_back: bool,
}

/// The journal's view of its volume.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    directory: PathBuf,
    pub(super) split: Split,
}

/// A volume too small for `journal.max_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// The size of the volume.
    pub volume: u64,
    /// The most that the journal may need, with its log and the reserve.
    pub needed: u64,
    /// The largest `max_bytes` that fits.
    pub max_bytes: u64,
}

/// A volume and the room that the journal needs on it, while the journal is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The size of the volume.
    pub volume: u64,
    /// Free on the volume.
    pub free: u64,
    /// The bytes that must be free for new events to be taken.
    pub needed: u64,
}

impl Split {
    /// Divides a volume. `asked`: `journal.reserve`; none for `auto`.
    fn of(asked: Option<u64>, volume: u64) -> Split {
        let reserve = asked.unwrap_or_else(|| (volume / AUTO_PART).min(AUTO_MAX));
        // The reserve must suffice to checkpoint a whole log, which may be all new pages, and to write another one and
        // its last batch.
        Split { volume, reserve, log: (reserve / 3).clamp(LOG_MIN, LOG_MAX) }
    }

    /// The greatest length of the log: it is checkpointed after the batch that exceeds the limit.
    pub(super) fn log_max(self) -> u64 {
        self.log + self.log / 2
    }

    /// The settlements in one batch that stay within half of the log, even with each on pages of its own.
    fn ends_at_once(self) -> usize {
        usize::try_from(self.log / 2 / END_LOG_BYTES).unwrap_or(usize::MAX).max(1)
    }

    /// The removals in one batch that stay within half of the log: removed events are neighbours.
    fn removed_at_once(self) -> usize {
        usize::try_from(self.log / 2 / REMOVAL_LOG_BYTES).unwrap_or(usize::MAX).clamp(1, REMOVED_AT_ONCE_MAX)
    }
}

impl Space {
    /// Returns true if new events of this many bytes fit, after all that was promised before.
    pub fn takes(&self, bytes: u64) -> bool {
        self.lacks_outside(bytes) == 0 && self.lacks_inside(bytes) == 0
    }

    /// Reserves room for new events of this many bytes.
    pub fn promise(&mut self, bytes: u64) {
        self.promised += bytes;
    }

    /// Returns true if there is soon no room for new events.
    pub fn is_short(&self) -> bool {
        !self.takes(self.headroom())
    }

    /// Returns true if removing finished events would help, and is still needed.
    pub fn wants_removal(&self) -> bool {
        let (outside, inside) = (self.lacks_outside(self.headroom()), self.lacks_inside(self.headroom()));
        inside > 0 || self.gives_back && outside > self.inside
    }

    /// The headroom for new events, for which history is removed.
    pub fn headroom(&self) -> u64 {
        self.split.log
    }

    /// Returns true if the reserve is complete.
    pub fn has_reserve(&self) -> bool {
        self.held >= whole(self.split.reserve)
    }

    /// Returns true if there is room to complete it.
    pub fn has_room_for_reserve(&self) -> bool {
        self.lacks_outside(0) == 0
    }

    /// Returns true if this many bytes are a quarter of the volume.
    pub fn is_much(&self, bytes: u64) -> bool {
        bytes > self.split.volume / 4
    }

    /// The size of the volume in bytes.
    pub fn size(&self) -> u64 {
        self.split.volume
    }

    /// The free bytes on the volume.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// The maximum number of events that one batch removes.
    pub fn removed_at_once(&self) -> usize {
        self.split.removed_at_once()
    }

    /// The maximum number of settlements in one batch.
    pub fn ends_at_once(&self) -> usize {
        self.split.ends_at_once()
    }

    /// The free pages to return to the volume, in bytes: as many as the volume needs, else those far beyond the coming
    /// need.
    pub(super) fn spare(&self, database: u64) -> u64 {
        if !self.gives_back {
            return 0;
        }
        let many = self.inside.saturating_sub((4 * self.split.log).max(database / 4));
        self.lacks_outside(self.headroom()).max(many).min(self.inside)
    }

    /// The bytes that the log, the checkpoint and the reserve would lack after new events of this size.
    fn lacks_outside(&self, bytes: u64) -> u64 {
        self.spoken_for(bytes).saturating_sub(self.free.saturating_add(self.held))
    }

    /// The bytes that the database would lack for new events of this size and the settlements of the queue.
    fn lacks_inside(&self, bytes: u64) -> u64 {
        let left = self.free.saturating_add(self.held).saturating_sub(self.spoken_for(bytes));
        (self.ends + self.promised + bytes).saturating_sub(left.saturating_add(self.inside))
    }

    /// The bytes that the volume must have free, however empty the database is.
    fn spoken_for(&self, bytes: u64) -> u64 {
        let log = (self.split.log_max() + self.promised + bytes).saturating_sub(self.log);
        self.split.reserve + log + self.not_checkpointed + SLACK
    }
}

impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Space { free, held, inside, split: Split { reserve, .. }, .. } = self;
        write!(f, "{} free on the volume, {} in the journal", Size(*free), Size(*inside))?;
        if self.has_reserve() { Ok(()) } else { write!(f, ", {} of the reserve of {}", Size(*held), Size(*reserve)) }
    }
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
pub fn too_small(config: &Config) -> Option<TooSmall> {
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
pub fn outlook(config: &Config) -> Option<Outlook> {
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

/// The size in the database of this many events with this many bytes of payloads and bodies: pages are never quite
/// full.
pub fn footprint(events: u64, bytes: u64) -> u64 {
    bytes + bytes / 4 + events * EVENT_BYTES
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

/// The size from which a reserve counts as complete: file systems round in both directions.
fn whole(reserve: u64) -> u64 {
    reserve / 8 * 7
}

/// The search index grows while this fraction of the volume is free, at least more than the longest logs and the
/// reserve take, at most far more than they do.
const BESIDE_PART: u64 = 16;
const BESIDE_MIN: u64 = 128 << 20;
const BESIDE_MAX: u64 = 1 << 30;

/// A number of bytes, formatted for people.
pub struct Size(pub u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            UNKNOWN.. => f.write_str("any number of bytes"),
            bytes if bytes >= 10 << 30 => write!(f, "{} GiB", bytes >> 30),
            bytes if bytes >= 10 << 20 => write!(f, "{} MiB", bytes >> 20),
            bytes => write!(f, "{} KiB", bytes >> 10),
        }
    }
}

/// SQLite's number for it.
const AUTO_VACUUM_INCREMENTAL: u64 = 2;
/// More than any volume has, and far from overflow in sums.
const UNKNOWN: u64 = 1 << 62;
/// `journal.reserve: auto` is this fraction of the volume, …
const AUTO_PART: u64 = 8;
/// … but at most three times the longest log.
const AUTO_MAX: u64 = 3 * LOG_MAX;
/// 16 MiB of log between two checkpoints: rare enough in a storm, and quickly read back.
const LOG_MAX: u64 = 16 << 20;
/// A few batches.
const LOG_MIN: u64 = 128 << 10;
/// The shared memory beside the log, and what a file system needs to note where things are.
const SLACK: u64 = 128 << 10;
/// The shared memory and the first pages of a log.
const TO_OPEN: u64 = 256 << 10;
/// The room for the settlement of a queued event: its row, which grows and may split its page, entries of two indexes,
/// its last call with a short answer.
const END_BYTES: u64 = 512;
/// The pages that it changes: its row, an index, its calls and a neighbour.
const END_LOG_BYTES: u64 = 4 * 8192;
/// The pages that a removal changes: half a page of contents, and a share of the other pages. Freed pages are not
/// written.
const REMOVAL_LOG_BYTES: u64 = 2 * 8192;
/// Few enough not to delay the batch noticeably.
const REMOVED_AT_ONCE_MAX: usize = 200;
/// A row with its key, its index entries, and its share of pages without payloads.
const EVENT_BYTES: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A volume of 64 MiB on which the journal has been for a while.
    fn space() -> Space {
        let split = Split::of(None, 64 * MIB);
        Space {
            split,
            free: 20 * MIB,
            held: split.reserve,
            log: split.log_max(),
            not_checkpointed: 0,
            inside: 0,
            ends: 0,
            promised: 0,
            gives_back: true,
        }
    }

    #[test]
    fn the_reserve_is_a_part_of_the_volume_up_to_three_of_the_longest_logs() {
        for (volume, reserve, log) in
            [(8 * MIB, MIB, MIB / 3), (64 * MIB, 8 * MIB, 8 * MIB / 3), (UNKNOWN, 48 * MIB, 16 * MIB)]
        {
            assert_eq!(Split::of(None, volume), Split { volume, reserve, log });
        }
        assert_eq!(Split::of(Some(6 * MIB), 8 * MIB), Split { volume: 8 * MIB, reserve: 6 * MIB, log: 2 * MIB });
        let split = Split::of(None, 8 * MIB);
        assert!(split.log + split.log_max() <= split.reserve, "checkpointing one log and writing the next");
    }

    #[test]
    fn new_events_leave_what_the_log_the_fold_the_ends_and_the_reserve_need() {
        let fits = |space: Space| (0..=64).rev().find(|mib| space.takes(mib * MIB));
        // Each event is written to the log and to the database.
        assert_eq!(fits(space()), Some(9));
        assert_eq!(fits(Space { held: 0, ..space() }), Some(5), "a reserve that is to come back");
        assert_eq!(fits(Space { not_checkpointed: 4 * MIB, ..space() }), Some(7));
        assert_eq!(fits(Space { ends: 4 * MIB, ..space() }), Some(7));
        assert_eq!(fits(Space { log: 0, ..space() }), Some(7), "a log that is to grow");
        assert_eq!(fits(Space { inside: 40 * MIB, ..space() }), Some(19), "only the log grows");
        assert_eq!(fits(Space { free: 0, inside: 40 * MIB, ..space() }), None, "what is inside helps no log");
        assert_eq!(fits(Space { free: MIB / 4, ..space() }), Some(0));
        let mut space = space();
        space.promise(9 * MIB);
        assert!(space.takes(0) && !space.takes(MIB));
    }

    #[test]
    fn pages_are_given_back_where_the_volume_lacks_them_and_where_they_are_many() {
        let lacking = Space { free: 0, inside: 40 * MIB, ..space() };
        assert_eq!(lacking.spare(48 * MIB), 40 * MIB - 12 * MIB);
        let few = Space { free: 0, inside: MIB, ..space() };
        assert_eq!(few.spare(48 * MIB), MIB);
        let usual = Space { inside: 10 * MIB, ..space() };
        assert_eq!(usual.spare(48 * MIB), 0, "they will be used");
    }

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
