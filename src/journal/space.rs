//! The division of a volume's space, and the limit for new events in it.
//!
//! SQLite needs room to make room: removals go to the log first, and checkpointing the log grows the database. So the
//! room for both, and for settling all queued events, is never given to new events: they are refused while there is
//! still enough to deliver and remove everything.

/// The division of a volume, in bytes. Fixed when the journal is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// The size of the volume.
    pub(super) volume: u64,
    /// The size of the reserve.
    pub(super) reserve: u64,
    /// The log is checkpointed at this length.
    pub(super) log: u64,
}

/// The space on the volume at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub(super) split: Split,
    /// Free on the volume.
    pub(super) free: u64,
    /// The part of the reserve that is held.
    pub(super) held: u64,
    /// The length of the log's file, which is reused when the log is reset.
    pub(super) log: u64,
    /// The growth of the database when the log is checkpointed.
    pub(super) not_checkpointed: u64,
    /// Free pages of the database: they are used before it grows.
    pub(super) inside: u64,
    /// The room needed to settle all queued events.
    pub(super) ends: u64,
    /// Used since then by events that are not written yet.
    pub(super) promised: u64,
    /// True if free pages can be returned to the volume.
    pub(super) gives_back: bool,
}

impl Split {
    /// Divides a volume. `asked`: `journal.reserve`; none for `auto`.
    pub(super) fn of(asked: Option<u64>, volume: u64) -> Split {
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
    /// The space on a volume that does not tell its size: it counts as endless, and a failed write will tell.
    pub fn endless() -> Space {
        let split = Split::of(None, UNKNOWN);
        Space {
            split,
            free: UNKNOWN,
            held: split.reserve,
            log: 0,
            not_checkpointed: 0,
            inside: 0,
            ends: 0,
            promised: 0,
            gives_back: false,
        }
    }

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

/// The size in the database of this many events with this many bytes of payloads and bodies: pages are never quite
/// full.
pub(super) fn footprint(events: u64, bytes: u64) -> u64 {
    bytes + bytes / 4 + events * EVENT_BYTES
}

/// A number of bytes, formatted for people.
pub(crate) struct Size(pub u64);

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

/// The size from which a reserve counts as complete: file systems round in both directions.
fn whole(reserve: u64) -> u64 {
    reserve / 8 * 7
}

/// More than any volume has, and far from overflow in sums.
pub(super) const UNKNOWN: u64 = 1 << 62;
/// `journal.reserve: auto` is this fraction of the volume, …
const AUTO_PART: u64 = 8;
/// … but at most three times the longest log.
const AUTO_MAX: u64 = 3 * LOG_MAX;
/// 16 MiB of log between two checkpoints: rare enough in a storm, and quickly read back.
const LOG_MAX: u64 = 16 << 20;
/// A few batches.
const LOG_MIN: u64 = 128 << 10;
/// The shared memory beside the log, and what a file system needs to note where things are.
pub(super) const SLACK: u64 = 128 << 10;
/// The room for the settlement of a queued event: its row, which grows and may split its page, entries of two indexes,
/// its last call with a short answer.
pub(super) const END_BYTES: u64 = 512;
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
}
