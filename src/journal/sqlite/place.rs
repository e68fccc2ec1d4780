//! Compares the open journal files with the files that their paths name.
//!
//! Another program may delete, move, replace, overwrite or cut off any of them while they are open. SQLite goes on with
//! what it has open, so what is acknowledged then is gone with the process. Each commit is therefore held against what the
//! paths name: by device and inode, by size, and by the time at which a file was written to.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::names::{FILE, LOCK};

/// What is known of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

/// How many frames the log holds, and how many of them are in the main file too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    pub(super) log: u64,
    pub(super) folded: u64,
}

/// The files as paths name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) database: Option<Stat>,
    pub(super) log: Option<Stat>,
    pub(super) index: Option<Stat>,
    pub(super) lock: Option<Stat>,
}

/// The files that are open, as they were when they were last known to be whole.
#[derive(Clone, Debug)]
pub(super) struct Place {
    directory: PathBuf,
    noted: Named,
    frames: Frames,
    page_bytes: u64,
}

/// How the files are found, and what SQLite knows of them.
#[derive(Clone, Copy, Debug)]
struct Found {
    named: Named,
    frames: Frames,
    /// What the database takes by its own account, where that was asked.
    database_bytes: Option<u64>,
    /// Whether times of writing are to be believed.
    times: bool,
}

/// Who wrote since the files were looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Nobody,
    /// This process, to the log.
    Us,
    /// This process, which brought the log into the main file.
    UsFolding,
}

/// How a journal comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mending {
    /// The open files are copied there: nothing is lost.
    Copy,
    /// The log that is open is brought into the main file, which is in its place: nothing is lost.
    Fold,
    /// The open files are in their place, and are opened anew: nothing is lost.
    Reopen,
    /// The files were changed by somebody else, and nothing better is open: they are read as a start reads them.
    Reread,
}

/// What became of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Intact,
    /// Its path names nothing.
    Missing,
    /// Its path names another file.
    Replaced,
    /// It is shorter than what was written to it.
    Cut,
    /// Somebody else wrote to it.
    Overwritten,
}

/// What became of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fates {
    pub(super) database: Fate,
    pub(super) log: Fate,
    pub(super) index: Fate,
    pub(super) lock: Fate,
}

impl Place {
    /// Notes the files that were just opened.
    pub(super) fn note(directory: &Path, frames: Frames, page_bytes: u64) -> io::Result<Place> {
        let directory = directory.to_owned();
        let noted = named(&directory);
        if noted.database.is_none() || noted.log.is_none() || noted.index.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "a file of the journal was removed while it was opened",
            ));
        }
        Ok(Place { directory, noted, frames, page_bytes })
    }

    /// The main file.
    pub(super) fn database(&self) -> Option<Stat> {
        self.noted.database
    }

    /// The files that are open.
    pub(super) fn files(&self) -> Vec<Stat> {
        let Named { database, log, index, lock } = self.noted;
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

    /// How long the log is.
    pub(super) fn log_bytes(&self) -> u64 {
        self.noted.log.map_or(0, |log| log.bytes)
    }

    /// Whether everything is as it was noted: then nobody wrote, and there is nothing to look into.
    pub(super) fn is_untouched(&self) -> bool {
        let Named { database, log, index, lock } = named(&self.directory);
        let same = |noted: Option<Stat>, found: Option<Stat>| noted.zip(found).is_some_and(|(a, b)| a.is_same_file(&b));
        database == self.noted.database
            && log == self.noted.log
            && same(self.noted.index, index)
            && same(self.noted.lock, lock)
    }

    /// Whether the log was cut off since it was noted. To be asked while a transaction keeps every other program from
    /// making it begin anew.
    pub(super) fn is_log_shorter(&self) -> bool {
        let found = stat(&self.directory.join(format!("{FILE}-wal")));
        found.is_some_and(|found| found.bytes < self.log_bytes())
    }

    /// Looks at the files; `frames` tells what SQLite knows of its log, none where it can't, and `database_bytes` what the
    /// database takes. Where they are intact they are noted as they are now.
    pub(super) fn look(
        &mut self,
        wrote: Wrote,
        times: bool,
        frames: impl Fn() -> Option<Frames>,
        database_bytes: impl Fn() -> Option<u64>,
    ) -> Fates {
        let mut looks = 0;
        loop {
            looks += 1;
            let frames = frames().unwrap_or(self.frames);
            let named = named(&self.directory);
            let shrank =
                self.noted.database.zip(named.database).is_some_and(|(noted, found)| found.bytes < noted.bytes);
            let database_bytes = if shrank { database_bytes() } else { None };
            let found = Found { named, frames, database_bytes, times };
            let fates = judge(&self.noted, self.frames, &found, wrote, self.page_bytes);
            if fates.is_intact() {
                (self.noted, self.frames) = (named, frames);
                return fates;
            }
            // Another program may have folded the log, and begun it anew, between the question and the look.
            if fates.log != Fate::Cut || looks >= LOOKS {
                return fates;
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

impl Fates {
    pub const INTACT: Fates =
        Fates { database: Fate::Intact, log: Fate::Intact, index: Fate::Intact, lock: Fate::Intact };

    pub(super) const LOG_CUT: Fates = Fates { log: Fate::Cut, ..Fates::INTACT };

    pub fn is_intact(&self) -> bool {
        *self == Fates::INTACT
    }

    /// With what was found before: times of writing were only asked for then, and a file that was cut off and is long again
    /// was written by somebody else.
    pub fn or_overwritten(self, before: Fates) -> Fates {
        let worse = |fate, before| match (fate, before) {
            (Fate::Intact, Fate::Cut | Fate::Overwritten) => Fate::Overwritten,
            _ => fate,
        };
        Fates { database: worse(self.database, before.database), log: worse(self.log, before.log), ..self }
    }

    /// An open file was changed itself, so that some of it may be gone.
    pub fn is_altered(&self) -> bool {
        [self.database, self.log].iter().any(|fate| matches!(fate, Fate::Cut | Fate::Overwritten))
    }

    /// A file is shorter than it was: some of it is gone.
    pub fn is_cut(&self) -> bool {
        self.database == Fate::Cut || self.log == Fate::Cut
    }

    /// How a journal of which this became comes back.
    pub fn mending(&self) -> Mending {
        let gone = |fate| matches!(fate, Fate::Missing | Fate::Replaced);
        let changed = |fate| matches!(fate, Fate::Cut | Fate::Overwritten);
        if gone(self.database) || changed(self.database) && gone(self.log) {
            Mending::Copy
        } else if gone(self.log) {
            Mending::Fold
        } else if changed(self.database) || changed(self.log) {
            Mending::Reread
        } else {
            Mending::Reopen
        }
    }
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (fate, name) in [(self.database, ""), (self.log, "-wal"), (self.index, "-shm")]
            .map(|(fate, beside)| (fate, format!("{FILE}{beside}")))
            .into_iter()
            .chain([(self.lock, LOCK.to_owned())])
        {
            let what = match fate {
                Fate::Intact => continue,
                Fate::Missing => "was deleted or moved away",
                Fate::Replaced => "was replaced by another file",
                Fate::Cut => "was cut off",
                Fate::Overwritten => "was written to by another program",
            };
            write!(f, "{between}{name} {what}")?;
            between = ", ";
        }
        Ok(())
    }
}

/// Processes that hold a POSIX lock on these bytes of a file, each once, as `/proc/locks` tells (proc_locks(5)). Those of
/// other containers have no number.
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

/// What the paths in a directory name. Links are not followed: a start does not follow them either.
pub(super) fn named(directory: &Path) -> Named {
    let beside = |name: &str| stat(&directory.join(format!("{FILE}{name}")));
    Named { database: beside(""), log: beside("-wal"), index: beside("-shm"), lock: stat(&directory.join(LOCK)) }
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

/// What became of the files, by what was noted and what is found.
fn judge(noted: &Named, noted_frames: Frames, found: &Found, wrote: Wrote, page_bytes: u64) -> Fates {
    let of_path = |noted: Option<Stat>, named: Option<Stat>| match (noted, named) {
        (_, None) => Fate::Missing,
        (Some(noted), Some(named)) if noted.is_same_file(&named) => Fate::Intact,
        _ => Fate::Replaced,
    };
    let named = &found.named;
    // Whoever writes to the log as SQLite does changes these; and whoever folds it, of which the main file is written.
    let same_frames = found.frames == noted_frames;
    let same_fold = found.frames.folded == noted_frames.folded && found.frames.log >= noted_frames.log;
    let written = |noted: Option<Stat>, named: Option<Stat>| {
        found.times && noted.zip(named).is_some_and(|(noted, named)| noted.modified != named.modified)
    };

    let mut database = of_path(noted.database, named.database);
    if let (Fate::Intact, Some(before), Some(now)) = (database, noted.database, named.database) {
        // It becomes shorter only where the database does.
        if now.bytes < before.bytes && found.database_bytes.is_none_or(|bytes| now.bytes < bytes) {
            database = Fate::Cut;
        } else if same_fold && wrote != Wrote::UsFolding && written(noted.database, named.database) {
            database = Fate::Overwritten;
        }
    }
    let mut log = of_path(noted.log, named.log);
    if let (Fate::Intact, Some(now)) = (log, named.log) {
        if now.bytes < log_bytes_min(found.frames.log, page_bytes) {
            log = Fate::Cut;
        } else if same_frames && wrote == Wrote::Nobody && written(noted.log, named.log) {
            log = Fate::Overwritten;
        }
    }
    Fates { database, log, index: of_path(noted.index, named.index), lock: of_path(noted.lock, named.lock) }
}

/// A log has a header, and each frame of it one before its page (https://www.sqlite.org/fileformat2.html#walformat).
fn log_bytes_min(frames: u64, page_bytes: u64) -> u64 {
    if frames == 0 { 0 } else { 32 + frames * (24 + page_bytes) }
}

/// What keeps other programs' hands from the files.
pub(super) const HANDS_OFF: &str =
    "leave `data_dir` to the relay while it runs; stop it before anything in there is moved, restored or deleted";
/// Where a reader of the log locks its index (https://www.sqlite.org/walformat.html#wal_locks).
const READ_LOCKS: RangeInclusive<u64> = 123..=127;
/// Enough for another program to be done with what it does at most once in a while.
const LOOKS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    fn file(inode: u64, bytes: u64, modified: i64) -> Option<Stat> {
        Some(Stat { device: 1, inode, bytes, modified: (modified, 0) })
    }

    /// A database of ten pages and a log of five frames of which two are folded.
    fn noted() -> (Named, Frames) {
        let (database, log) = (file(1, 10 * PAGE, 100), file(2, 32 + 5 * (24 + PAGE), 100));
        (Named { database, log, index: file(3, 32_768, 100), lock: file(4, 0, 100) }, Frames { log: 5, folded: 2 })
    }

    fn fates(change: impl FnOnce(&mut Found), wrote: Wrote) -> Fates {
        let (named, frames) = noted();
        let mut found = Found { named, frames, database_bytes: None, times: true };
        change(&mut found);
        judge(&named, frames, &found, wrote, PAGE)
    }

    #[test]
    fn each_thing_that_can_be_done_to_a_file_is_told_from_what_sqlite_does() {
        use Fate::{Cut, Intact, Missing, Overwritten, Replaced};
        type Change = fn(&mut Found);
        let cases: [(&str, Wrote, Change, [Fate; 4]); 23] = [
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
                |f| (f.named.log, f.frames) = (file(2, 32 + 5 * (24 + PAGE), 101), Frames { log: 1, folded: 0 }),
                [Intact; 4],
            ),
            (
                "the log folded, so that the main file grew",
                Wrote::Nobody,
                |f| (f.named.database, f.frames.folded) = (file(1, 12 * PAGE, 101), 5),
                [Intact; 4],
            ),
            (
                "the log folded and cut to nothing, as SQLite can",
                Wrote::Nobody,
                |f| {
                    f.named.database = file(1, 12 * PAGE, 101);
                    (f.named.log, f.frames) = (file(2, 0, 101), Frames::default());
                },
                [Intact; 4],
            ),
            (
                "a commit of ours, folded and cut to nothing since it was looked at",
                Wrote::UsFolding,
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
                    f.frames.folded = 5;
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
            assert_eq!(fates(change, wrote), Fates { database, log, index, lock }, "{said}");
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
        let cut = Fates { database: Fate::Cut, ..Fates::INTACT };
        let found = Fates::INTACT.or_overwritten(cut);
        assert_eq!((found.database, found.mending()), (Fate::Overwritten, Mending::Reread));
    }

    #[test]
    fn a_file_that_is_gone_is_copied_from_what_is_open_and_one_that_was_changed_is_read_anew() {
        use Fate::{Cut, Intact, Missing, Overwritten, Replaced};
        for (database, log, index, expected) in [
            (Missing, Missing, Missing, Mending::Copy),
            (Replaced, Intact, Intact, Mending::Copy),
            (Replaced, Replaced, Replaced, Mending::Copy),
            (Cut, Missing, Intact, Mending::Copy),
            (Intact, Missing, Missing, Mending::Fold),
            (Intact, Replaced, Intact, Mending::Fold),
            (Intact, Cut, Intact, Mending::Reread),
            (Cut, Intact, Intact, Mending::Reread),
            (Overwritten, Missing, Intact, Mending::Copy),
            (Overwritten, Intact, Missing, Mending::Reread),
            (Intact, Intact, Missing, Mending::Reopen),
            (Intact, Intact, Intact, Mending::Reopen),
        ] {
            let fates = Fates { database, log, index, lock: Missing };
            assert_eq!(fates.mending(), expected, "{fates}");
        }
    }
}
