//! The file `journal.id`, by which a start notices that the journal was emptied or exchanged, or lost its log.
//!
//! It is a hint: written after each commit and not synced, so that a commit costs no second sync. It never claims more
//! than is on disk, and after a power cut perhaps less.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::names::{FILE, MARKER, REBUILT};
use super::open_files::{self, Stat};
use crate::event::EventId;

/// The content of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The journal's random identity.
    pub(super) identity: u64,
    /// The newest event number.
    pub(super) last: EventId,
    /// The number of events waiting for delivery.
    pub(super) waiting: u64,
    /// True if a log may hold more than the main file.
    pub(super) log: bool,
}

/// The file that holds it.
#[derive(Debug)]
pub(super) struct Marker {
    directory: PathBuf,
    /// None if it could not be written: it is tried again.
    file: Option<(File, Stat)>,
    written: Option<Mark>,
}

/// The files before a start opens any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesAtStart {
    mark: Option<Mark>,
    /// True if there was a main file with content.
    database: bool,
    /// True if there was a log with content.
    log: bool,
    /// True if a rebuilt journal waits to be moved to its place, which says nothing about the files from before.
    rebuilt: bool,
}

/// The part of the last run's journal that a start does not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The journal is missing or empty.
    Emptied { waiting: u64 },
    /// Another journal is in its place.
    Exchanged { waiting: u64 },
    /// Up to this many of the newest events are missing, because its log is.
    LogGone { events: u64 },
    /// Up to this many of the newest events are missing: an older copy is in its place.
    Older { events: u64 },
    /// Its log is missing, but no event is known to be: another program may have checkpointed it.
    Log,
}

impl FilesAtStart {
    /// Checks the files. Called before anything is opened.
    pub fn in_directory(directory: &Path) -> FilesAtStart {
        let filled = |name: &str| open_files::stat(&directory.join(name)).is_some_and(|found| found.bytes > 0);
        FilesAtStart {
            mark: fs::read(directory.join(MARKER)).ok().and_then(|text| Mark::parse(&text)),
            database: filled(FILE),
            log: filled(&format!("{FILE}-wal")),
            rebuilt: filled(REBUILT),
        }
    }

    /// The missing part, by the identity and the next number of the journal opened now. `salvaged`: it was rebuilt
    /// after damage, so its identity means nothing.
    pub(super) fn lack(&self, identity: Option<u64>, next_id: EventId, salvaged: bool) -> Option<Lack> {
        let mark = self.mark?;
        let (waiting, salvaged) = (mark.waiting, salvaged || self.rebuilt);
        if !salvaged && identity.is_some_and(|identity| identity != mark.identity) {
            return Some(if self.database { Lack::Exchanged { waiting } } else { Lack::Emptied { waiting } });
        }
        let events = (mark.last.0 + 1).saturating_sub(next_id.0);
        match (events, mark.log && !self.log) {
            (0, true) if !salvaged => Some(Lack::Log),
            (0, _) => None,
            (events, true) => Some(Lack::LogGone { events }),
            (events, false) => Some(Lack::Older { events }),
        }
    }
}

impl Marker {
    pub(super) fn new(directory: &Path) -> Marker {
        Marker { directory: directory.to_owned(), file: None, written: None }
    }

    /// Writes and syncs the file anew, when the kind of state changes.
    pub(super) fn renew(&mut self, mark: Mark) -> io::Result<()> {
        (self.file, self.written) = (None, None);
        let (path, new) = (self.directory.join(MARKER), self.directory.join(NEW));
        open_files::remove(&new)?;
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all_at(&mark.text(), 0)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.directory)?.sync_all()?;
        let stat = Stat::from(&file.metadata()?);
        (self.file, self.written) = (Some((file, stat)), Some(mark));
        Ok(())
    }

    /// Updates the file after a commit, if there is one. An update that fails is made up for by the next.
    pub(super) fn update(&mut self, mark: Mark) {
        let (Some((file, _)), Some(written)) = (&self.file, self.written) else {
            return;
        };
        if mark != written && file.write_all_at(&mark.text(), 0).is_ok() {
            self.written = Some(mark);
        }
    }

    /// Returns true if the file was removed, or could not be written.
    pub(super) fn is_gone(&self) -> bool {
        let there = open_files::stat(&self.directory.join(MARKER));
        !self.file.as_ref().zip(there).is_some_and(|((_, stat), there)| there.is_same_file(stat))
    }
}

impl Mark {
    /// The text has a fixed length, so that it is overwritten in place, and fits into one sector.
    fn text(&self) -> Vec<u8> {
        let Mark { identity, last, waiting, log } = *self;
        let text =
            format!("{TITLE}\nidentity {identity:016x}\nlast {last}\nwaiting {waiting}\nlog {log}\n", last = last.0);
        let sum = crc32c::crc32c(text.as_bytes());
        let mut text = format!("{text}sum {sum:08x}\n").into_bytes();
        text.resize(TEXT_BYTES, b'\n');
        text
    }

    /// None if it is damaged.
    fn parse(text: &[u8]) -> Option<Mark> {
        let text = std::str::from_utf8(text).ok()?;
        let (summed, sum) = text.trim_end().rsplit_once("sum ")?;
        if u32::from_str_radix(sum, 16).ok()? != crc32c::crc32c(summed.as_bytes()) {
            return None;
        }
        let mut lines = summed.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
        Some(Mark {
            identity: u64::from_str_radix(&value("identity")?, 16).ok()?,
            last: EventId(value("last")?.parse().ok()?),
            waiting: value("waiting")?.parse().ok()?,
            log: value("log")?.parse().ok()?,
        })
    }
}

const NEW: &str = "journal.id.new";
const TITLE: &str = "gander journal";
/// A sector.
const TEXT_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { identity: 7, last: EventId(1_000), waiting: 12, log: true };

    #[test]
    fn what_is_remembered_is_read_back_and_what_is_broken_is_not() {
        let text = MARK.text();
        assert_eq!((Mark::parse(&text), text.len()), (Some(MARK), TEXT_BYTES));
        let broken = String::from_utf8(text).unwrap().replace("last 1000", "last 1001");
        assert_eq!(Mark::parse(broken.as_bytes()), None);
        assert_eq!(Mark::parse(b""), None);
    }

    #[test]
    fn a_start_tells_what_is_missing_from_what_was_merely_checkpointed() {
        let found = |mark, database, log| FilesAtStart { mark, database, log, rebuilt: false };
        let running = Some(MARK);
        let stopped = Some(Mark { log: false, ..MARK });
        for (said, left, identity, next, salvaged, lack) in [
            ("the first start", found(None, false, false), 9, 1, false, None),
            ("a journal that was made before there was a marker", found(None, true, true), 9, 500, false, None),
            ("stopped in order", found(stopped, true, false), 7, 1_001, false, None),
            ("killed", found(running, true, true), 7, 1_001, false, None),
            ("killed, with a commit that was not noted any more", found(running, true, true), 7, 1_003, false, None),
            (
                "stopped, then deleted",
                found(stopped, false, false),
                9,
                5_000,
                false,
                Some(Lack::Emptied { waiting: 12 }),
            ),
            (
                "another one restored",
                found(stopped, true, false),
                9,
                5_000,
                false,
                Some(Lack::Exchanged { waiting: 12 }),
            ),
            (
                "killed, then the log deleted",
                found(running, true, false),
                7,
                990,
                false,
                Some(Lack::LogGone { events: 11 }),
            ),
            (
                "killed, then the log checkpointed by another program",
                found(running, true, false),
                7,
                1_001,
                false,
                Some(Lack::Log),
            ),
            ("an older copy restored", found(stopped, true, false), 7, 901, false, Some(Lack::Older { events: 100 })),
            (
                "an older copy beside the log",
                found(running, true, true),
                7,
                901,
                false,
                Some(Lack::Older { events: 100 }),
            ),
            ("made anew of a damaged one", found(running, true, true), 9, 1_001, true, None),
            (
                "the same, and less than there was",
                found(running, true, true),
                9,
                999,
                true,
                Some(Lack::Older { events: 2 }),
            ),
            ("the same, and its log checkpointed", found(running, true, false), 9, 1_001, true, None),
        ] {
            assert_eq!(left.lack(Some(identity), EventId(next), salvaged), lack, "{said}");
        }
        let rebuilt = FilesAtStart { rebuilt: true, ..found(running, true, true) };
        assert_eq!(rebuilt.lack(Some(9), EventId(1_001), false), None, "a crash kept it from its place");
        assert_eq!(
            found(running, true, true).lack(None, EventId(1_001), false),
            None,
            "an identity that can't be read"
        );
    }
}
