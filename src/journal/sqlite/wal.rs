//! Reads a write-ahead log past the point where SQLite stops.
//!
//! SQLite silently ignores everything after the first frame with a wrong checksum, because after a power cut that is
//! how a log ends. A flipped bit looks alike, but then acknowledged commits follow it. This module tells the two apart:
//! a commit only begins once the one before it is synced, so whatever follows a commit proves that it was synced.
//!
//! The format is at <https://www.sqlite.org/fileformat2.html#walformat>. Each checksum continues from the stored one
//! before it, so each frame can be checked by itself, with the stored or the computed checksum of the frame before it.

use std::io::{self, BufReader, Read, Seek};

use super::pages::word;
use super::sectors;

/// The newest generation of frames in a log: a log is overwritten from its start, and may end in older frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) page_bytes: usize,
    pub(super) frames: Vec<Frame>,
    /// The number of frames that SQLite uses.
    pub(super) taken: usize,
    /// True if the disk returns everything that SQLite reads of the log.
    pub(super) is_readable: bool,
}

/// One page as written to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The offset of the page in the log.
    pub(super) at: u64,
    /// The page's number; reliable only if the frame is sound.
    pub(super) page: u32,
    /// True for the last frame of a commit.
    pub(super) commits: bool,
    /// True if its checksum matches.
    pub(super) sound: bool,
}

/// The frames after the end that SQLite finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remainder {
    Nothing,
    /// The beginning of an uncommitted transaction: a kill or a power cut interrupted it.
    Unfinished,
    /// One commit with an error in it: cut off by a power cut before its sync, or damaged after it.
    OneCommit,
    /// Damage to a commit that was synced, since more follows it.
    Commits,
}

/// The byte order of the words in a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

/// The two words of a checksum.
type Sum = (u32, u32);

/// Reads a log. None if it is empty, unrecognizable, or its first page was never written.
pub(super) fn read<R: Read + Seek>(log: &mut R) -> io::Result<Option<Log>> {
    let mut header = [0; HEADER_BYTES];
    let Some(is_readable) = fill(log, 0, &mut header)? else {
        return Ok(None);
    };
    let found = match Format::of(&header) {
        Some(format) => frames(log, format, &header, pair(&header, 16), true).map(Some)?,
        None => guess(log, &header)?,
    };
    Ok(found.map(|found| Log { is_readable: is_readable && found.is_readable, ..found }))
}

/// Returns true if a log begins with so many frames as SQLite wrote them.
pub(super) fn begins_with(log: impl Read, frames: u64) -> io::Result<bool> {
    let mut log = BufReader::with_capacity(READ_AT_ONCE, log);
    let mut header = [0; HEADER_BYTES];
    if !filled(&mut log, &mut header)? {
        return Ok(false);
    }
    let Some(format) = Format::of(&header) else { return Ok(false) };
    let (salts, mut sum) = (pair(&header, 16), pair(&header, 24));
    let mut frame = vec![0; FRAME_HEADER_BYTES + format.page_bytes];
    for _ in 0..frames {
        if !filled(&mut log, &mut frame)? {
            return Ok(false);
        }
        sum = format.after(sum, &frame);
        if pair(&frame, 8) != salts || pair(&frame, 16) != sum {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Fills `bytes`, or returns false if the log ends before.
fn filled(log: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The parameters of a log's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    order: Order,
    page_bytes: usize,
}

impl Format {
    /// Reads a header whose checksum is right.
    fn of(header: &[u8; HEADER_BYTES]) -> Option<Format> {
        let order = match word(header, 0) {
            MAGIC => Order::Little,
            magic if magic == MAGIC | 1 => Order::Big,
            _ => return None,
        };
        let page_bytes = word(header, 8) as usize;
        let is_sound = page_bytes.is_power_of_two()
            && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes)
            && add(order, (0, 0), &header[..24]) == pair(header, 24);
        is_sound.then_some(Format { order, page_bytes })
    }

    /// The offset of a frame.
    fn at(self, place: u64) -> u64 {
        HEADER_BYTES as u64 + place * (FRAME_HEADER_BYTES + self.page_bytes) as u64
    }

    /// The checksum of a frame that follows the one with checksum `before`.
    fn after(self, before: Sum, frame: &[u8]) -> Sum {
        add(self.order, add(self.order, before, &frame[..8]), &frame[FRAME_HEADER_BYTES..])
    }
}

/// Finds the parameters of a log with a damaged header by trying, until the checksum of some frame matches.
fn guess<R: Read + Seek>(log: &mut R, header: &[u8; HEADER_BYTES]) -> io::Result<Option<Log>> {
    for page_bytes in GUESSES {
        for order in [Order::Little, Order::Big] {
            let format = Format { order, page_bytes };
            if let Some(salts) = salts(log, format, header)? {
                return frames(log, format, header, salts, false).map(Some);
            }
        }
    }
    Ok(None)
}

/// The salts of the first frame that continues the one before it.
fn salts<R: Read + Seek>(log: &mut R, format: Format, header: &[u8; HEADER_BYTES]) -> io::Result<Option<Sum>> {
    let mut frame = vec![0; FRAME_HEADER_BYTES + format.page_bytes];
    let mut stored = pair(header, 24);
    for place in 0..GUESSED_BY {
        if fill(log, format.at(place), &mut frame)?.is_none() {
            break;
        }
        let own = pair(&frame, 16);
        if format.after(stored, &frame) == own && word(&frame, 0) != 0 {
            return Ok(Some(pair(&frame, 8)));
        }
        stored = own;
    }
    Ok(None)
}

/// Reads the frames of the generation with these salts.
fn frames<R: Read + Seek>(
    log: &mut R,
    format: Format,
    header: &[u8; HEADER_BYTES],
    salts: Sum,
    header_is_sound: bool,
) -> io::Result<Log> {
    let mut found = Log { page_bytes: format.page_bytes, frames: Vec::new(), taken: 0, is_readable: true };
    let (mut first_unreadable, mut last_ours) = (u64::MAX, 0);
    let mut frame = vec![0; FRAME_HEADER_BYTES + format.page_bytes];
    // The checksum before this frame, as stored and as computed.
    let (mut stored, mut computed) = (pair(header, 24), add(format.order, (0, 0), &header[..24]));
    let (mut unbroken, mut before_is_ours) = (header_is_sound, true);
    for place in 0_u64.. {
        let Some(is_readable) = fill(log, format.at(place), &mut frame)? else {
            break;
        };
        if !is_readable {
            first_unreadable = first_unreadable.min(place);
        }
        let (page, commits, own) = (word(&frame, 0), word(&frame, 4) != 0, pair(&frame, 16));
        let sum = format.after(stored, &frame);
        let goes_on = sum == own || stored != computed && format.after(computed, &frame) == own;
        let has_salts = pair(&frame, 8) == salts;
        // A frame with damaged salts continues one of ours; a frame of an older generation does not.
        let is_ours = has_salts || before_is_ours && goes_on;
        let sound = is_ours && goes_on && page != 0;
        if is_ours {
            last_ours = place;
            let at = format.at(place) + FRAME_HEADER_BYTES as u64;
            found.frames.push(Frame { at, page, commits, sound });
        }
        unbroken &= has_salts && sound && sum == own;
        if unbroken && commits {
            found.taken = found.frames.len();
        }
        (stored, computed, before_is_ours) = (own, if goes_on { own } else { sum }, is_ours);
    }
    // SQLite reads up to the first invalid frame; older generations do not matter.
    found.is_readable = first_unreadable > last_ours.max(found.taken as u64);
    Ok(found)
}

impl Log {
    /// The frames that SQLite ignores.
    pub(super) fn left(&self) -> &[Frame] {
        &self.frames[self.taken..]
    }

    /// The number of ignored frames that are damaged.
    pub(super) fn left_damaged(&self) -> u64 {
        self.left().iter().filter(|frame| !frame.sound).count() as u64
    }

    pub(super) fn remainder(&self) -> Remainder {
        let left = self.left();
        match left.iter().position(|frame| frame.commits) {
            None if left.is_empty() => Remainder::Nothing,
            None => Remainder::Unfinished,
            Some(commit) if commit + 1 == left.len() => Remainder::OneCommit,
            Some(_) => Remainder::Commits,
        }
    }
}

/// Fills `bytes` from an offset; none if the log is too short. Returns true if all of it could be read.
fn fill<R: Read + Seek>(log: &mut R, at: u64, bytes: &mut [u8]) -> io::Result<Option<bool>> {
    let piece = sectors::read_at(log, at, bytes.len())?;
    if piece.bytes.len() < bytes.len() {
        return Ok(None);
    }
    bytes.copy_from_slice(&piece.bytes);
    Ok(Some(piece.is_whole))
}

/// Continues a checksum with these bytes, whose number is a multiple of eight.
fn add(order: Order, before: Sum, bytes: &[u8]) -> Sum {
    let (mut first, mut second) = before;
    for eight in bytes.chunks_exact(8) {
        let words = [[eight[0], eight[1], eight[2], eight[3]], [eight[4], eight[5], eight[6], eight[7]]];
        let [one, two] = match order {
            Order::Little => words.map(u32::from_le_bytes),
            Order::Big => words.map(u32::from_be_bytes),
        };
        first = first.wrapping_add(one).wrapping_add(second);
        second = second.wrapping_add(two).wrapping_add(first);
    }
    (first, second)
}

fn pair(bytes: &[u8], at: usize) -> Sum {
    (word(bytes, at), word(bytes, at + 4))
}

const MAGIC: u32 = 0x377f_0682;
const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const PAGE_BYTES_MIN: usize = 512;
const PAGE_BYTES_MAX: usize = 65_536;
/// The page sizes of our journals, current and older.
const GUESSES: [usize; 2] = [8_192, 4_096];
const READ_AT_ONCE: usize = 256 << 10;
/// Frames that are tried for a guess.
const GUESSED_BY: u64 = 64;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;
    use std::path::Path;

    use rusqlite::Connection;

    use super::*;

    /// A log of `commits` commits with one row each, as SQLite wrote it, and the database.
    fn written(commits: i64) -> (Vec<u8>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "page_size", 4_096).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.execute_batch("CREATE TABLE line (number INTEGER PRIMARY KEY, text BLOB)").unwrap();
        for number in 1..=commits {
            connection.execute("INSERT INTO line VALUES (?1, zeroblob(600))", [number]).unwrap();
        }
        let read = |end: &str| fs::read(format!("{}{end}", path.display())).unwrap();
        (read(""), read("-wal"))
    }

    /// The number of rows that SQLite finds.
    fn rows(database: &[u8], log: &[u8], directory: &Path) -> usize {
        let path = directory.join("copy.db");
        fs::write(&path, database).unwrap();
        fs::write(directory.join("copy.db-wal"), log).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.query_row("SELECT count(*) FROM line", [], |row| row.get(0)).unwrap_or(0)
    }

    fn log_of(bytes: &[u8]) -> Log {
        read(&mut Cursor::new(bytes)).unwrap().unwrap()
    }

    /// The commits in the frames that SQLite uses, without the one that created the table.
    fn taken(log: &Log) -> usize {
        log.frames[..log.taken].iter().filter(|frame| frame.commits).count().saturating_sub(1)
    }

    #[test]
    fn a_sound_log_has_nothing_behind_its_end() {
        let (_, log) = written(40);
        let log = log_of(&log);
        assert!(log.frames.iter().all(|frame| frame.sound));
        assert_eq!((log.remainder(), log.page_bytes, taken(&log)), (Remainder::Nothing, 4_096, 40));
    }

    #[test]
    fn wherever_a_bit_flips_we_end_where_sqlite_ends_and_see_what_is_behind() {
        let (database, sound) = written(12);
        let directory = tempfile::tempdir().unwrap();
        let whole = log_of(&sound);
        let last =
            whole.frames.len() - whole.frames.iter().rev().skip(1).take_while(|frame| !frame.commits).count() - 1;
        let frame_bytes = FRAME_HEADER_BYTES + 4_096;
        let places = (0..200).chain((200..sound.len()).step_by(97)).chain(sound.len() - 30..sound.len());
        for at in places {
            let mut log = sound.clone();
            log[at] ^= 1 << (at % 8);
            let found = read(&mut Cursor::new(&log)).unwrap().unwrap_or_else(|| panic!("nothing at {at}"));
            assert_eq!(taken(&found), rows(&database, &log, directory.path()), "byte {at}");
            let frame = at.checked_sub(HEADER_BYTES).map(|at| at / frame_bytes);
            let broken = found.frames.iter().filter(|frame| !frame.sound).count();
            assert!(broken <= 1, "byte {at} breaks {broken} frames");
            assert_eq!(found.frames.len(), whole.frames.len(), "byte {at}");
            match (frame, found.remainder()) {
                // Only the last commit is left, and nothing proves that it was synced.
                (Some(frame), remainder) if frame >= last => assert_ne!(remainder, Remainder::Commits, "byte {at}"),
                (_, remainder) => assert_eq!(remainder, Remainder::Commits, "byte {at}"),
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_frames_in_use_is_seen() {
        let (_, sound) = written(5);
        let frames = log_of(&sound).frames.len() as u64;
        assert!(begins_with(sound.as_slice(), frames).unwrap());
        assert!(!begins_with(sound.as_slice(), frames + 1).unwrap(), "there are no more");
        for at in (0..sound.len()).step_by(61).chain(0..60) {
            let mut log = sound.clone();
            log[at] ^= 1 << (at % 8);
            assert!(!begins_with(log.as_slice(), frames).unwrap(), "byte {at}");
        }
        let last = sound.len() - 1;
        assert!(begins_with(&sound[..last], frames - 1).unwrap(), "what is not asked for may be anything");
    }

    #[test]
    fn a_log_that_ends_within_a_commit_is_no_damage() {
        let (database, sound) = written(12);
        let directory = tempfile::tempdir().unwrap();
        for end in (0..sound.len()).step_by(113) {
            let log = &sound[..end];
            let Some(found) = read(&mut Cursor::new(log)).unwrap() else {
                assert!(end < HEADER_BYTES);
                continue;
            };
            assert!(
                matches!(found.remainder(), Remainder::Nothing | Remainder::Unfinished),
                "{end}: {:?}",
                found.remainder()
            );
            assert_eq!(taken(&found), rows(&database, log, directory.path()), "{end}");
        }
    }

    #[test]
    fn what_is_left_of_an_older_generation_is_none_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.execute_batch("CREATE TABLE line (number INTEGER PRIMARY KEY, text BLOB)").unwrap();
        for _ in 0..30 {
            connection.execute("INSERT INTO line (text) VALUES (zeroblob(600))", []).unwrap();
        }
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        connection.execute("INSERT INTO line (text) VALUES (zeroblob(600))", []).unwrap();
        let bytes = fs::read(directory.path().join("some.db-wal")).unwrap();
        let log = log_of(&bytes);
        assert!(log.frames.len() < 5 && bytes.len() > 30 * 4_096, "{}", log.frames.len());
        assert_eq!(log.remainder(), Remainder::Nothing);
        // So it is after a power cut in the newest generation: the frames after the cut are older.
        let mut torn = bytes;
        torn[HEADER_BYTES + 2_000..HEADER_BYTES + 2_100].fill(7);
        let torn = log_of(&torn);
        assert_eq!(torn.frames.len(), log.frames.len());
    }

    #[test]
    fn a_page_that_never_came_to_the_disk_is_told_from_one_that_was_there() {
        let (_, sound) = written(12);
        let whole = log_of(&sound);
        let commits: Vec<usize> = (0..whole.frames.len()).filter(|frame| whole.frames[*frame].commits).collect();
        let frame_bytes = FRAME_HEADER_BYTES + 4_096;
        let zeroed = |frame: usize| {
            let mut log = sound.clone();
            log[HEADER_BYTES + frame * frame_bytes..][..frame_bytes].fill(0);
            log_of(&log)
        };
        let last_begins = commits[commits.len() - 2] + 1;
        assert_eq!(
            zeroed(*commits.last().unwrap()).remainder(),
            if last_begins == *commits.last().unwrap() { Remainder::Nothing } else { Remainder::Unfinished }
        );
        assert_eq!(zeroed(commits[3]).remainder(), Remainder::Commits);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3_000)) {
            static WRITTEN: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let _ = read(&mut Cursor::new(&bytes));
            let mut log = WRITTEN.get_or_init(|| written(1).1).clone();
            let at = bytes.len().min(log.len());
            log[..at].copy_from_slice(&bytes[..at]);
            let _ = read(&mut Cursor::new(&log));
        }
    }
}
