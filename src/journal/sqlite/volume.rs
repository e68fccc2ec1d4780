//! The volume that the journal is on: how its room is shared out, how much of it new events may take, and the reserve
//! that is kept for the moment when it is full.
//!
//! SQLite needs room to make room: what is removed is written to the log first, and folding the log makes the database
//! longer. So room for both, and for the ends of what is queued, is never given to new events: they are refused while
//! there is still enough to deliver everything and to remove it. What others take of the volume can't be refused; for
//! that there is the reserve, a file that is deleted when a write finds the disk full.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::Config;
use super::names::FILE;

/// How the room of a volume is shared out, in bytes. Settled when the journal is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// The size of the volume.
    volume: u64,
    /// The size of the reserve.
    reserve: u64,
    /// The log is folded when it is as long as this.
    pub(super) log: u64,
}

/// The space on the volume at a moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    split: Split,
    /// What the volume still gives.
    free: u64,
    /// As much of the reserve as is held.
    held: u64,
    /// The length of the log's file, which is written over when the log begins anew.
    log: u64,
    /// By as much the database grows when the log is folded.
    unfolded: u64,
    /// Pages of the database in which nothing is: they are used before it grows.
    inside: u64,
    /// As much as it takes to write down how all that is queued ended.
    ends: u64,
    /// Taken since the moment, by what is not written yet.
    promised: u64,
    /// Whether pages in which nothing is can be given back to the volume.
    gives_back: bool,
}

/// The journal's view of its volume.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    directory: PathBuf,
    pub(super) split: Split,
}

/// The file in the data directory that keeps room: nothing is in it.
#[derive(Clone, Debug)]
pub struct Reserve(PathBuf);

/// A volume that can't hold what `journal.max_bytes` allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// The size of the volume.
    pub volume: u64,
    /// As much as the journal may need with its log and the reserve.
    pub needed: u64,
    /// The largest `max_bytes` that fits.
    pub max_bytes: u64,
}

impl Split {
    /// `asked`: `journal.reserve`, none for `auto`.
    fn of(asked: Option<u64>, volume: u64) -> Split {
        let reserve = asked.unwrap_or_else(|| (volume / AUTO_PART).min(AUTO_MAX));
        // A reserve is folding a whole log, which may be all new pages, and then writing another and its last batch.
        Split { volume, reserve, log: (reserve / 3).clamp(LOG_MIN, LOG_MAX) }
    }

    /// The length that the log may come to: it is folded after the batch with which it became long.
    pub(super) fn log_max(self) -> u64 {
        self.log + self.log / 2
    }

    /// Ends that one batch may hold so that it stays within half of the log, though each is on pages of its own.
    fn ends_at_once(self) -> usize {
        usize::try_from(self.log / 2 / END_LOG_BYTES).unwrap_or(usize::MAX).max(1)
    }

    /// Finished events that one batch may remove, likewise: they stand side by side.
    fn removed_at_once(self) -> usize {
        usize::try_from(self.log / 2 / REMOVAL_LOG_BYTES).unwrap_or(usize::MAX).clamp(1, REMOVED_AT_ONCE_MAX)
    }
}

impl Space {
    /// Whether new events of so many bytes fit, with all that was promised before.
    pub fn takes(&self, bytes: u64) -> bool {
        self.lacks_outside(bytes) == 0 && self.lacks_inside(bytes) == 0
    }

    /// Notes that new events of so many bytes are about to be written.
    pub fn promise(&mut self, bytes: u64) {
        self.promised += bytes;
    }

    /// Whether it is short: soon nothing new would fit.
    pub fn is_short(&self) -> bool {
        !self.takes(self.headroom())
    }

    /// Whether to remove what is finished would help, and is not done enough yet.
    pub fn wants_removal(&self) -> bool {
        let (outside, inside) = (self.lacks_outside(self.headroom()), self.lacks_inside(self.headroom()));
        inside > 0 || self.gives_back && outside > self.inside
    }

    /// The room ahead of new events that history gives way to.
    pub fn headroom(&self) -> u64 {
        self.split.log
    }

    /// Whether the reserve is whole.
    pub fn has_reserve(&self) -> bool {
        self.held >= whole(self.split.reserve)
    }

    /// Whether there is room to make it whole.
    pub fn has_room_for_reserve(&self) -> bool {
        self.lacks_outside(0) == 0
    }

    /// Whether so many bytes are a quarter of the volume.
    pub fn is_much(&self, bytes: u64) -> bool {
        bytes > self.split.volume / 4
    }

    /// What the volume still gives.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Finished events that one batch may remove.
    pub fn removed_at_once(&self) -> usize {
        self.split.removed_at_once()
    }

    /// Ends that one batch may hold.
    pub fn ends_at_once(&self) -> usize {
        self.split.ends_at_once()
    }

    /// What is to be given back to the volume of the pages in which nothing is: as much as is wanted of it, else what is
    /// much more than will soon be used.
    pub(super) fn spare(&self, database: u64) -> u64 {
        if !self.gives_back {
            return 0;
        }
        let many = self.inside.saturating_sub((4 * self.split.log).max(database / 4));
        self.lacks_outside(self.headroom()).max(many).min(self.inside)
    }

    /// By how much new events of so many bytes would leave the log, the fold and the reserve too little.
    fn lacks_outside(&self, bytes: u64) -> u64 {
        self.spoken_for(bytes).saturating_sub(self.free.saturating_add(self.held))
    }

    /// By how much they and the ends of what is queued would not find room in the database.
    fn lacks_inside(&self, bytes: u64) -> u64 {
        let left = self.free.saturating_add(self.held).saturating_sub(self.spoken_for(bytes));
        (self.ends + self.promised + bytes).saturating_sub(left.saturating_add(self.inside))
    }

    /// What the volume must give however empty the database is.
    fn spoken_for(&self, bytes: u64) -> u64 {
        let log = (self.split.log_max() + self.promised + bytes).saturating_sub(self.log);
        self.split.reserve + log + self.unfolded + SLACK
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

    /// The space at this moment, for a database that `queued` events wait in. May be asked within a batch.
    pub(super) fn space(&self, connection: &Connection, queued: u64) -> Result<Space, rusqlite::Error> {
        let number = |pragma: &str| connection.prepare_cached(pragma)?.query_row([], |row| row.get::<_, u64>(0));
        let page = number("PRAGMA page_size")?;
        let database = number("PRAGMA page_count")? * page;
        let length =
            |beside: &str| fs::metadata(self.directory.join(format!("{FILE}{beside}"))).map_or(0, |file| file.len());
        Ok(Space {
            split: self.split,
            free: look(&self.directory).0,
            held: self.reserve().held(fs::metadata(self.directory.join(FILE)).is_ok_and(|file| file.blocks() > 0)),
            log: length("-wal"),
            unfolded: database.saturating_sub(length("")),
            inside: number("PRAGMA freelist_count")? * page,
            ends: queued * END_BYTES,
            promised: 0,
            gives_back: number("PRAGMA auto_vacuum")? == AUTO_VACUUM_INCREMENTAL,
        })
    }

    pub(super) fn take_reserve(&self) -> io::Result<()> {
        self.reserve().take(self.split.reserve)
    }

    fn reserve(&self) -> Reserve {
        Reserve::in_directory(&self.directory)
    }
}

impl Reserve {
    pub fn in_directory(directory: &Path) -> Reserve {
        Reserve(directory.join(RESERVE))
    }

    /// Gives all of it up if there may be too little room to open the journal. Returns whether there was one.
    pub fn make_way(directory: &Path, asked: Option<u64>) -> bool {
        let (free, size) = look(directory);
        let reserve = Reserve::in_directory(directory);
        free < Split::of(asked, size).log_max() + SLACK && reserve.give_up_whole()
    }

    /// Gives all of it up. Returns whether there was one.
    pub(super) fn give_up_whole(&self) -> bool {
        fs::remove_file(&self.0).is_ok()
    }

    /// Gives it up, but for as much as it takes to open the journal: who takes all the room there is must not keep the
    /// next start from that. Returns whether there was more.
    pub fn give_up(&self) -> bool {
        let mut options = OpenOptions::new();
        let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let file = options.write(true).custom_flags(no_link).open(&self.0);
        let length = |file: &fs::File| file.metadata().map_or(0, |file| file.len());
        file.is_ok_and(|file| length(&file) > TO_OPEN && file.set_len(TO_OPEN).is_ok())
    }

    /// How many bytes it keeps. `tells_blocks`: the file system says what files take, which not every one does.
    fn held(&self, tells_blocks: bool) -> u64 {
        let file = fs::symlink_metadata(&self.0).ok().filter(fs::Metadata::is_file);
        // A copy that a tool made of it may keep none of the room that its length tells.
        file.map_or(0, |file| if tells_blocks { file.len().min(file.blocks() * 512) } else { file.len() })
    }

    /// Takes the room, or nothing.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let _ = fs::remove_file(&self.0);
        let taken = self.fill(bytes);
        if taken.is_err() {
            let _ = fs::remove_file(&self.0);
        }
        taken
    }

    fn fill(&self, bytes: u64) -> io::Result<()> {
        // What is not made anew may be a link to somebody's file.
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&self.0)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => return Err(io::ErrorKind::StorageFull.into()),
            // Not every file system can do that.
            Err(_) => {}
        }
        // Some compress what they keep: of zeros nothing would be kept.
        let (mut piece, mut left) = (vec![0; PIECE_BYTES], bytes);
        while left > 0 {
            fastrand::fill(&mut piece);
            let length = left.min(PIECE_BYTES as u64);
            file.write_all(&piece[..usize::try_from(length).unwrap_or(PIECE_BYTES)])?;
            left -= length;
        }
        file.sync_all()
    }
}

/// Tells where the volume that will hold the journal is too small for what `max_bytes` allows. Looks at the directory, or
/// at the first one above it that is there.
pub fn too_small(config: &Config) -> Option<TooSmall> {
    let directory = config.data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let (_, volume) = look(directory);
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

/// What so many bytes of payloads and bodies take in the database, with the rows of so many events around them: pages are
/// never quite full.
pub fn footprint(events: u64, bytes: u64) -> u64 {
    bytes + bytes / 4 + events * EVENT_BYTES
}

/// What a volume still gives to this process, and its size. A file system that does not tell is taken for endless: a
/// write that fails will tell.
fn look(directory: &Path) -> (u64, u64) {
    match rustix::fs::statvfs(directory) {
        Ok(volume) if volume.f_blocks > 0 => {
            (volume.f_bavail.saturating_mul(volume.f_frsize), volume.f_blocks.saturating_mul(volume.f_frsize))
        }
        _ => (UNKNOWN, UNKNOWN),
    }
}

/// Whether there is too little room to open a journal.
pub(super) fn is_full(directory: &Path) -> bool {
    look(directory).0 < SLACK
}

/// Whether there is room to open a journal and to write the first events' ends.
pub(super) fn has_room_to_open(directory: &Path) -> bool {
    look(directory).0 >= TO_OPEN + SLACK
}

/// Whether there is no room for what was to be written.
pub(super) fn is_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A reserve this large is whole: file systems round in both directions.
fn whole(reserve: u64) -> u64 {
    reserve / 8 * 7
}

/// A number of bytes as a person reads it.
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

/// As SQLite numbers it.
const AUTO_VACUUM_INCREMENTAL: u64 = 2;
const RESERVE: &str = "reserve";
/// More than any volume has, and far from where sums overflow.
const UNKNOWN: u64 = 1 << 62;
/// `journal.reserve: auto` is this part of the volume, …
const AUTO_PART: u64 = 8;
/// … but at most three times the longest log.
const AUTO_MAX: u64 = 3 * LOG_MAX;
/// 16 MiB of log between two folds: rare enough for a storm, small enough to be read back in a moment.
const LOG_MAX: u64 = 16 << 20;
/// A few batches.
const LOG_MIN: u64 = 128 << 10;
/// The shared memory beside the log, and what a file system needs to note where things are.
const SLACK: u64 = 128 << 10;
/// The shared memory and the first pages of a log.
const TO_OPEN: u64 = 256 << 10;
/// What the end of a queued event adds: its row, which grows and may split its page, entries of two indexes, its last
/// call with a short answer.
const END_BYTES: u64 = 512;
/// What it changes: a page of its row, of an index, of its calls and of their neighbour.
const END_LOG_BYTES: u64 = 4 * 8192;
/// What removing an event changes: half a page of contents, and its part of the other pages. Those that become free are
/// not written.
const REMOVAL_LOG_BYTES: u64 = 2 * 8192;
/// Few enough that whoever waits for the batch hardly notices.
const REMOVED_AT_ONCE_MAX: usize = 200;
/// A row with its key, its entries in the indexes, its part of pages that hold no payload.
const EVENT_BYTES: u64 = 1024;
/// What is written at once where a file system can't set room aside.
const PIECE_BYTES: usize = 1 << 20;

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
            unfolded: 0,
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
        assert!(split.log + split.log_max() <= split.reserve, "folding one log and writing the next");
    }

    #[test]
    fn new_events_leave_what_the_log_the_fold_the_ends_and_the_reserve_need() {
        let fits = |space: Space| (0..=64).rev().find(|mib| space.takes(mib * MIB));
        // Each goes through the log and stays in the database.
        assert_eq!(fits(space()), Some(9));
        assert_eq!(fits(Space { held: 0, ..space() }), Some(5), "a reserve that is to come back");
        assert_eq!(fits(Space { unfolded: 4 * MIB, ..space() }), Some(7));
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
    fn a_reserve_keeps_the_room_that_it_says() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let reserve = Reserve::in_directory(directory.path());
        assert_eq!(reserve.held(true), 0);
        reserve.take(MIB).unwrap();
        assert_eq!(reserve.held(true), MIB);
        let file = fs::metadata(directory.path().join(RESERVE)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert!(reserve.give_up() && !reserve.give_up());
        assert_eq!(reserve.held(true), TO_OPEN);

        // A copy without its room.
        fs::remove_file(directory.path().join(RESERVE)).unwrap();
        fs::File::create(directory.path().join(RESERVE)).unwrap().set_len(MIB).unwrap();
        assert_eq!((reserve.held(true), reserve.held(false)), (0, MIB));
        // Somebody's file is not written through a link.
        let theirs = directory.path().join("theirs");
        fs::write(&theirs, "dear").unwrap();
        fs::remove_file(directory.path().join(RESERVE)).unwrap();
        std::os::unix::fs::symlink(&theirs, directory.path().join(RESERVE)).unwrap();
        reserve.take(MIB).unwrap();
        assert_eq!((reserve.held(true), fs::read(&theirs).unwrap()), (MIB, b"dear".to_vec()));
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
}
