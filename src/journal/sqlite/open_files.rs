//! Compares the open journal files with the files that their paths name.
//!
//! Another program may delete, move, replace, overwrite or truncate them while they are open. SQLite continues with the
//! open files, so whatever is acknowledged then is lost with the process. After each commit the open files are
//! therefore compared with the paths: by device and inode, by size, and by modification time.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::names::{FILE, LOCK};

/// The identity, size and modification time of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) bytes: u64,
    /// Modification time in seconds and nanoseconds.
    modified: (i64, i64),
}

/// The number of frames in the log, and of those that are in the main file too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    pub(super) log: u64,
    pub(super) checkpointed: u64,
}

/// The files at the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NamedFiles {
    pub(super) database: Option<Stat>,
    pub(super) log: Option<Stat>,
    pub(super) index: Option<Stat>,
    pub(super) lock: Option<Stat>,
}

/// The open files, as they were when last found intact.
#[derive(Clone, Debug)]
pub(super) struct OpenFiles {
    directory: PathBuf,
    noted: NamedFiles,
    frames: Frames,
    page_bytes: u64,
}

/// The files at the paths, and SQLite's own figures.
#[derive(Clone, Copy, Debug)]
struct Found {
    named: NamedFiles,
    frames: Frames,
    /// The size of the database according to SQLite, if that was asked.
    database_bytes: Option<u64>,
    /// True if modification times are reliable.
    times: bool,
}

/// The last writer, as far as this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Nobody,
    /// This process, to the log.
    Us,
    /// This process, which wrote the log into the main file.
    UsCheckpointing,
}

/// The way in which a journal is put back in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBackBy {
    /// Copy the open files to their place: nothing is lost.
    Copy,
    /// Checkpoint the open log into the main file, which is in its place: nothing is lost.
    Checkpoint,
    /// Reopen the files, which are in their place: nothing is lost.
    Reopen,
    /// Read the changed files as at a start, since nothing better is open.
    Reread,
}

/// The state of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileState {
    Intact,
    /// The path does not exist.
    Missing,
    /// The path leads to another file.
    Replaced,
    /// Shorter than what was written.
    Cut,
    /// Another program wrote to it.
    Overwritten,
}

/// The states of all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStates {
    pub(super) database: FileState,
    pub(super) log: FileState,
    pub(super) index: FileState,
    pub(super) lock: FileState,
}

impl OpenFiles {
    /// Notes the files that were just opened.
    pub(super) fn note(directory: &Path, frames: Frames, page_bytes: u64) -> io::Result<OpenFiles> {
        let directory = directory.to_owned();
        let noted = named(&directory);
        if noted.database.is_none() || noted.log.is_none() || noted.index.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "a file of the journal was removed while it was opened",
            ));
        }
        Ok(OpenFiles { directory, noted, frames, page_bytes })
    }

    /// The main file.
    pub(super) fn database(&self) -> Option<Stat> {
        self.noted.database
    }

    /// The open files.
    pub(super) fn files(&self) -> Vec<Stat> {
        let NamedFiles { database, log, index, lock } = self.noted;
        [database, log, index, lock].into_iter().flatten().collect()
    }

    /// Other programs that read from the log, by their locks on its index.
    pub(super) fn log_holders(&self) -> Vec<String> {
        let Some(index) = self.noted.index else {
            return Vec::new();
        };
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let own = std::process::id();
        let mut holders = locks_on(&locks, index.inode, READ_LOCKS);
        holders.retain(|process| *process != own);
        let name = |process: u32| {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            format!("{process} {}", name.trim()).trim_end().to_owned()
        };
        holders.into_iter().map(name).collect()
    }

    /// Opens the log to read it; none if another file is in its place. POSIX drops a process's locks on a file that it
    /// closes, but SQLite holds none on a log.
    pub(super) fn open_log(&self) -> io::Result<Option<File>> {
        let path = self.directory.join(format!("{FILE}-wal"));
        let is_ours = |found: Stat| self.noted.log.is_some_and(|noted| noted.is_same_file(&found));
        // A pipe in its place would be waited for.
        if !stat(&path).is_some_and(is_ours) {
            return Ok(None);
        }
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let found = Stat::from(&file.metadata()?);
        Ok(is_ours(found).then_some(file))
    }

    /// The length of the log.
    pub(super) fn log_bytes(&self) -> u64 {
        self.noted.log.map_or(0, |log| log.bytes)
    }

    /// Returns true if the files are as they were noted: nobody wrote.
    pub(super) fn is_untouched(&self) -> bool {
        let NamedFiles { database, log, index, lock } = named(&self.directory);
        let same = |noted: Option<Stat>, found: Option<Stat>| noted.zip(found).is_some_and(|(a, b)| a.is_same_file(&b));
        database == self.noted.database
            && log == self.noted.log
            && same(self.noted.index, index)
            && same(self.noted.lock, lock)
    }

    /// Returns true if the log became shorter since it was noted. Asked within a transaction, which keeps other
    /// programs from resetting the log.
    pub(super) fn is_log_shorter(&self) -> bool {
        let found = stat(&self.directory.join(format!("{FILE}-wal")));
        found.is_some_and(|found| found.bytes < self.log_bytes())
    }

    /// Compares the files; `frames` are SQLite's figures of its log, if known, and `database_bytes` the size of its
    /// database. Intact files are noted as they are now.
    pub(super) fn look(
        &mut self,
        wrote: Wrote,
        times: bool,
        frames: impl Fn() -> Option<Frames>,
        database_bytes: impl Fn() -> Option<u64>,
    ) -> FileStates {
        let mut looks = 0;
        loop {
            looks += 1;
            let frames = frames().unwrap_or(self.frames);
            let named = named(&self.directory);
            let shrank =
                self.noted.database.zip(named.database).is_some_and(|(noted, found)| found.bytes < noted.bytes);
            let database_bytes = if shrank { database_bytes() } else { None };
            let found = Found { named, frames, database_bytes, times };
            let states = judge(&self.noted, self.frames, &found, wrote, self.page_bytes);
            if states.is_intact() {
                (self.noted, self.frames) = (named, frames);
                return states;
            }
            // Another program may have checkpointed and reset the log between the two looks.
            if states.log != FileState::Cut || looks >= LOOKS {
                return states;
            }
        }
    }
}

impl Stat {
    pub(super) fn is_same_file(&self, other: &Stat) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<&Metadata> for Stat {
    fn from(metadata: &Metadata) -> Stat {
        Stat {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl FileStates {
    pub const INTACT: FileStates = FileStates {
        database: FileState::Intact,
        log: FileState::Intact,
        index: FileState::Intact,
        lock: FileState::Intact,
    };

    pub(super) const LOG_CUT: FileStates = FileStates { log: FileState::Cut, ..FileStates::INTACT };
    pub(super) const LOG_OVERWRITTEN: FileStates = FileStates { log: FileState::Overwritten, ..FileStates::INTACT };

    pub fn is_intact(&self) -> bool {
        *self == FileStates::INTACT
    }

    /// Adds the previous result: modification times were only valid then, and a truncated file that has grown since was
    /// overwritten.
    pub fn or_overwritten(self, before: FileStates) -> FileStates {
        let worse = |state, before| match (state, before) {
            (FileState::Intact, FileState::Cut | FileState::Overwritten) => FileState::Overwritten,
            _ => state,
        };
        FileStates { database: worse(self.database, before.database), log: worse(self.log, before.log), ..self }
    }

    /// Returns true if an open file was changed, so that a part of it may be lost.
    pub fn is_altered(&self) -> bool {
        [self.database, self.log].iter().any(|state| matches!(state, FileState::Cut | FileState::Overwritten))
    }

    /// Returns true if a file became shorter: a part of it is lost.
    pub fn is_cut(&self) -> bool {
        self.database == FileState::Cut || self.log == FileState::Cut
    }

    /// The way in which this journal is put back in its place.
    pub fn put_back_by(&self) -> PutBackBy {
        let gone = |state| matches!(state, FileState::Missing | FileState::Replaced);
        let changed = |state| matches!(state, FileState::Cut | FileState::Overwritten);
        if gone(self.database) || changed(self.database) && gone(self.log) {
            PutBackBy::Copy
        } else if gone(self.log) {
            PutBackBy::Checkpoint
        } else if changed(self.database) || changed(self.log) {
            PutBackBy::Reread
        } else {
            PutBackBy::Reopen
        }
    }
}

impl fmt::Display for FileStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (state, name) in [(self.database, ""), (self.log, "-wal"), (self.index, "-shm")]
            .map(|(state, beside)| (state, format!("{FILE}{beside}")))
            .into_iter()
            .chain([(self.lock, LOCK.to_owned())])
        {
            let what = match state {
                FileState::Intact => continue,
                FileState::Missing => "was deleted or moved away",
                FileState::Replaced => "was replaced by another file",
                FileState::Cut => "was cut off",
                FileState::Overwritten => "was written to by another program",
            };
            write!(f, "{between}{name} {what}")?;
            between = ", ";
        }
        Ok(())
    }
}

/// Processes that hold a POSIX lock on these bytes of a file, by `/proc/locks` (proc_locks(5)). Those of other
/// containers have no number.
fn locks_on(locks: &str, inode: u64, bytes: RangeInclusive<u64>) -> Vec<u32> {
    let mut processes: Vec<u32> = locks
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1).skip_while(|word| *word == "->");
            let (kind, _, _, process, file) =
                (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
            let first: u64 = words.next()?.parse().ok()?;
            let last = words.next()?.parse().unwrap_or(u64::MAX);
            let overlaps = first <= *bytes.end() && last >= *bytes.start();
            let of_file = file.rsplit(':').next()?.parse() == Ok(inode);
            (kind == "POSIX" && of_file && overlaps).then_some(process.parse().ok()?)
        })
        .collect();
    processes.sort_unstable();
    processes.dedup();
    processes.retain(|process| *process > 0);
    processes
}

/// The files in a directory. Links are not followed, as at a start.
pub(super) fn named(directory: &Path) -> NamedFiles {
    let beside = |name: &str| stat(&directory.join(format!("{FILE}{name}")));
    NamedFiles { database: beside(""), log: beside("-wal"), index: beside("-shm"), lock: stat(&directory.join(LOCK)) }
}

pub(super) fn stat(path: &Path) -> Option<Stat> {
    fs::symlink_metadata(path).ok().as_ref().map(Stat::from)
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The states of the files by their noted and their current data.
fn judge(noted: &NamedFiles, noted_frames: Frames, found: &Found, wrote: Wrote, page_bytes: u64) -> FileStates {
    let of_path = |noted: Option<Stat>, named: Option<Stat>| match (noted, named) {
        (_, None) => FileState::Missing,
        (Some(noted), Some(named)) if noted.is_same_file(&named) => FileState::Intact,
        _ => FileState::Replaced,
    };
    let named = &found.named;
    // Another writer of the log changes these numbers, and so does a checkpoint, which changes the main file.
    let same_frames = found.frames == noted_frames;
    let same_checkpoint =
        found.frames.checkpointed == noted_frames.checkpointed && found.frames.log >= noted_frames.log;
    let written = |noted: Option<Stat>, named: Option<Stat>| {
        found.times && noted.zip(named).is_some_and(|(noted, named)| noted.modified != named.modified)
    };

    let mut database = of_path(noted.database, named.database);
    if let (FileState::Intact, Some(before), Some(now)) = (database, noted.database, named.database) {
        // The file only shrinks with the database.
        if now.bytes < before.bytes && found.database_bytes.is_none_or(|bytes| now.bytes < bytes) {
            database = FileState::Cut;
        } else if same_checkpoint && wrote != Wrote::UsCheckpointing && written(noted.database, named.database) {
            database = FileState::Overwritten;
        }
    }
    let mut log = of_path(noted.log, named.log);
    if let (FileState::Intact, Some(now)) = (log, named.log) {
        if now.bytes < log_bytes_min(found.frames.log, page_bytes) {
            log = FileState::Cut;
        } else if same_frames && wrote == Wrote::Nobody && written(noted.log, named.log) {
            log = FileState::Overwritten;
        }
    }
    FileStates { database, log, index: of_path(noted.index, named.index), lock: of_path(noted.lock, named.lock) }
}

/// A log has a header, and each page has a frame header (https://www.sqlite.org/fileformat2.html#walformat).
fn log_bytes_min(frames: u64, page_bytes: u64) -> u64 {
    if frames == 0 { 0 } else { 32 + frames * (24 + page_bytes) }
}

/// The remedy against other programs that change the files.
pub(super) const LEAVE_ALONE: &str =
    "leave `data_dir` to the relay while it runs; stop it before anything in there is moved, restored or deleted";
/// The bytes that readers of the log lock in its index (https://www.sqlite.org/walformat.html#wal_locks).
const READ_LOCKS: RangeInclusive<u64> = 123..=127;
/// Enough to see past another program's occasional checkpoint.
const LOOKS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    fn file(inode: u64, bytes: u64, modified: i64) -> Option<Stat> {
        Some(Stat { device: 1, inode, bytes, modified: (modified, 0) })
    }

    /// A database of ten pages and a log of five frames of which two are checkpointed.
    fn noted() -> (NamedFiles, Frames) {
        let (database, log) = (file(1, 10 * PAGE, 100), file(2, 32 + 5 * (24 + PAGE), 100));
        (
            NamedFiles { database, log, index: file(3, 32_768, 100), lock: file(4, 0, 100) },
            Frames { log: 5, checkpointed: 2 },
        )
    }

    fn states(change: impl FnOnce(&mut Found), wrote: Wrote) -> FileStates {
        let (named, frames) = noted();
        let mut found = Found { named, frames, database_bytes: None, times: true };
        change(&mut found);
        judge(&named, frames, &found, wrote, PAGE)
    }

    #[test]
    fn each_thing_that_can_be_done_to_a_file_is_told_from_what_sqlite_does() {
        use FileState::{Cut, Intact, Missing, Overwritten, Replaced};
        type Change = fn(&mut Found);
        let cases: [(&str, Wrote, Change, [FileState; 4]); 23] = [
            ("nothing happened", Wrote::Nobody, |_| (), [Intact; 4]),
            ("the main file deleted", Wrote::Us, |f| f.named.database = None, [Missing, Intact, Intact, Intact]),
            ("the log deleted", Wrote::Us, |f| f.named.log = None, [Intact, Missing, Intact, Intact]),
            ("the index deleted", Wrote::Us, |f| f.named.index = None, [Intact, Intact, Missing, Intact]),
            ("the lock deleted", Wrote::Us, |f| f.named.lock = None, [Intact, Intact, Intact, Missing]),
            (
                "a copy put in the place of the main file",
                Wrote::Nobody,
                |f| f.named.database = file(9, 10 * PAGE, 100),
                [Replaced, Intact, Intact, Intact],
            ),
            (
                "a volume mounted over the directory, with the same inodes",
                Wrote::Nobody,
                |f| {
                    for stat in [&mut f.named.database, &mut f.named.log, &mut f.named.index, &mut f.named.lock] {
                        stat.as_mut().unwrap().device = 2;
                    }
                },
                [Replaced; 4],
            ),
            (
                "a commit of ours",
                Wrote::Us,
                |f| (f.named.log, f.frames.log) = (file(2, 32 + 6 * (24 + PAGE), 101), 6),
                [Intact; 4],
            ),
            (
                "a commit of another program",
                Wrote::Nobody,
                |f| (f.named.log, f.frames.log) = (file(2, 32 + 6 * (24 + PAGE), 101), 6),
                [Intact; 4],
            ),
            (
                "a commit over old frames of a log that began anew",
                Wrote::Us,
                |f| (f.named.log, f.frames) = (file(2, 32 + 5 * (24 + PAGE), 101), Frames { log: 1, checkpointed: 0 }),
                [Intact; 4],
            ),
            (
                "the log checkpointed, so that the main file grew",
                Wrote::Nobody,
                |f| (f.named.database, f.frames.checkpointed) = (file(1, 12 * PAGE, 101), 5),
                [Intact; 4],
            ),
            (
                "the log checkpointed and cut to nothing, as SQLite can",
                Wrote::Nobody,
                |f| {
                    f.named.database = file(1, 12 * PAGE, 101);
                    (f.named.log, f.frames) = (file(2, 0, 101), Frames::default());
                },
                [Intact; 4],
            ),
            (
                "a commit of ours, checkpointed and cut to nothing since it was looked at",
                Wrote::UsCheckpointing,
                |f| {
                    f.named.database = file(1, 12 * PAGE, 101);
                    f.named.log = file(2, 32 + 5 * (24 + PAGE), 101);
                },
                [Intact; 4],
            ),
            (
                "the log cut to nothing by somebody else",
                Wrote::Nobody,
                |f| f.named.log = file(2, 0, 101),
                [Intact, Cut, Intact, Intact],
            ),
            (
                "the log cut off within its last frame",
                Wrote::Us,
                |f| f.named.log = file(2, 31 + 5 * (24 + PAGE), 101),
                [Intact, Cut, Intact, Intact],
            ),
            (
                "the main file cut to nothing",
                Wrote::Nobody,
                |f| (f.named.database, f.database_bytes) = (file(1, 0, 101), None),
                [Cut, Intact, Intact, Intact],
            ),
            (
                "the main file cut off, though the database is as large as it was",
                Wrote::Us,
                |f| (f.named.database, f.database_bytes) = (file(1, 9 * PAGE, 101), Some(10 * PAGE)),
                [Cut, Intact, Intact, Intact],
            ),
            (
                "a database that gave room back",
                Wrote::Nobody,
                |f| {
                    (f.named.database, f.database_bytes) = (file(1, 4 * PAGE, 101), Some(4 * PAGE));
                    f.frames.checkpointed = 5;
                },
                [Intact; 4],
            ),
            (
                "another file copied into the main file",
                Wrote::Us,
                |f| f.named.database = file(1, 10 * PAGE, 101),
                [Overwritten, Intact, Intact, Intact],
            ),
            (
                "the same beside a commit of ours",
                Wrote::Us,
                |f| {
                    f.named.database = file(1, 10 * PAGE, 101);
                    (f.named.log, f.frames.log) = (file(2, 32 + 6 * (24 + PAGE), 101), 6);
                },
                [Overwritten, Intact, Intact, Intact],
            ),
            (
                "another file copied into the log",
                Wrote::Nobody,
                |f| f.named.log = file(2, 32 + 5 * (24 + PAGE), 101),
                [Intact, Overwritten, Intact, Intact],
            ),
            (
                "the same where times of writing are not to be believed",
                Wrote::Nobody,
                |f| (f.named.log, f.times) = (file(2, 32 + 5 * (24 + PAGE), 101), false),
                [Intact; 4],
            ),
            (
                "the index written to, which has no such time",
                Wrote::Nobody,
                |f| f.named.index = file(3, 65_536, 101),
                [Intact; 4],
            ),
        ];
        for (said, wrote, change, [database, log, index, lock]) in cases {
            assert_eq!(states(change, wrote), FileStates { database, log, index, lock }, "{said}");
        }
    }

    #[test]
    fn who_reads_from_the_log_is_told_by_the_locks_on_its_index() {
        let locks = "1: FLOCK  ADVISORY  WRITE 10 fe:00:77 0 EOF
2: POSIX  ADVISORY  READ  11 fe:00:77 124 124
3: POSIX  ADVISORY  READ  12 fe:00:78 124 124
4: POSIX  ADVISORY  READ  13 fe:00:77 128 128
5: POSIX  ADVISORY  WRITE 14 fe:00:77 120 127
5: -> POSIX  ADVISORY  READ 11 fe:00:77 123 123
6: POSIX  ADVISORY  READ  0 fe:00:77 125 125
7: POSIX  ADVISORY  WRITE 15 fe:00:77 0 EOF";
        assert_eq!(locks_on(locks, 77, READ_LOCKS), [11, 14, 15]);
    }

    #[test]
    fn a_file_that_was_cut_off_and_is_long_again_was_written_by_somebody_else() {
        let cut = FileStates { database: FileState::Cut, ..FileStates::INTACT };
        let found = FileStates::INTACT.or_overwritten(cut);
        assert_eq!((found.database, found.put_back_by()), (FileState::Overwritten, PutBackBy::Reread));
    }

    #[test]
    fn a_file_that_is_gone_is_copied_from_what_is_open_and_one_that_was_changed_is_read_anew() {
        use FileState::{Cut, Intact, Missing, Overwritten, Replaced};
        for (database, log, index, expected) in [
            (Missing, Missing, Missing, PutBackBy::Copy),
            (Replaced, Intact, Intact, PutBackBy::Copy),
            (Replaced, Replaced, Replaced, PutBackBy::Copy),
            (Cut, Missing, Intact, PutBackBy::Copy),
            (Intact, Missing, Missing, PutBackBy::Checkpoint),
            (Intact, Replaced, Intact, PutBackBy::Checkpoint),
            (Intact, Cut, Intact, PutBackBy::Reread),
            (Cut, Intact, Intact, PutBackBy::Reread),
            (Overwritten, Missing, Intact, PutBackBy::Copy),
            (Overwritten, Intact, Missing, PutBackBy::Reread),
            (Intact, Intact, Missing, PutBackBy::Reopen),
            (Intact, Intact, Intact, PutBackBy::Reopen),
        ] {
            let states = FileStates { database, log, index, lock: Missing };
            assert_eq!(states.put_back_by(), expected, "{states}");
        }
    }
}
