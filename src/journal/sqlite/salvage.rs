//! Salvage: the damaged journal is set aside whole, and its readable rows go into a new one. A log with a
//! damaged end is set aside, and the commits after the damage are imported.
//!
//! This happens at a start, before anything else is open. A crash at any moment leaves either the damaged journal in
//! its place, and the salvage begins again, or the complete new one.

mod examine;
mod fitting;
mod harvest;
mod intake;
mod kept;
mod open;
mod salvage_error;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::connect::{connect, connect_unlogged};
use super::names::{FILE, PARTIAL, REBUILT};
use super::open_files::remove;
use super::pages::Pages;
use super::sectors;
use super::volume::Reserve;
use super::wal::{self, Remainder};
use super::{Error, Lock, OpenError, volume};
use crate::clock::WallTime;
use examine::Examined;
use fitting::{Extent, fitting};
use intake::{Intake, Taken};

pub(crate) use kept::ASIDE_KEPT;
pub(super) use kept::keep_newest;

/// The repairs of damaged files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// The repair of the journal as a whole.
    pub journal: Option<Salvage>,
    /// The repair of the end of its log.
    pub log: Option<LogSalvage>,
}

impl Repairs {
    /// Returns true if nothing was damaged.
    pub fn is_empty(&self) -> bool {
        *self == Repairs::default()
    }
}

/// The repair of a damaged journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// The whole damaged journal; none if its files had no name any more.
    pub aside: Option<PathBuf>,
    /// The damage in words.
    pub problem: String,
    /// Events carried over, in any state.
    pub events: u64,
    /// Events that are still to be delivered.
    pub queued: u64,
    /// Dead letters whose body is gone.
    pub without_body: u64,
    /// Dead letters of which only the body is left.
    pub without_row: u64,
    /// Dead letters that may have been delivered.
    pub in_doubt: u64,
    /// An upper bound for further events that were unreadable.
    pub unreadable: u64,
    /// Finished events for which there was only room for the row.
    pub left_out: u64,
}

/// The repair of a log that continues after the place where SQLite stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSalvage {
    /// The whole log, if it is damaged; none if a power cut may have ended it.
    pub aside: Option<PathBuf>,
    /// Pages after that place.
    pub pages: u64,
    /// Damaged pages among them.
    pub damaged: u64,
    /// Events found only there.
    pub events: u64,
    /// Events whose last state was found only there.
    pub states: u64,
    /// Dead letters that may have been delivered, as later events of their key were.
    pub in_doubt: u64,
    /// Rows that looked like events and were unreadable.
    pub unreadable: u64,
}

/// Checks whether the whole journal is readable; if not, sets it aside and makes a new one of the readable rows.
pub fn repair(lock: &Lock, now: WallTime) -> Result<Repairs, OpenError> {
    let directory = lock.directory();
    repair_in(directory, now).map_err(|problem| OpenError {
        path: directory.join(FILE),
        problem,
        remedy: "it is damaged and can't be set aside: make room for a copy of it, and check that `data_dir` can be written",
    })
}

/// Marks the journal as damaged for the next start, which may not notice by itself.
pub(crate) fn mark_damaged(directory: &Path) {
    if let Err(error) = File::create(directory.join(MARK)) {
        tracing::error!(%error, "can't note that the journal is damaged");
    }
}

pub fn is_marked_damaged(directory: &Path) -> bool {
    directory.join(MARK).exists()
}

fn repair_in(directory: &Path, now: WallTime) -> Result<Repairs, String> {
    let failed = |doing: &'static str| move |error: io::Error| format!("{doing}: {error}");
    clear(directory).map_err(failed("removing unfinished files of an earlier start"))?;
    if directory.join(REBUILT).exists() {
        replace(directory).map_err(failed("putting the new journal in its place"))?;
    }
    let Examined { log, problem } = examine_twice(directory).map_err(failed("reading the journal"))?;
    let mut repairs = Repairs::default();
    let remainder = log.as_ref().map_or(Remainder::Nothing, |log| log.remainder());
    let left = directory.join(LOG_LEFT);
    // SQLite can't open it like this.
    let mut of_log = log.as_ref().filter(|log| !log.is_readable).map(|_| "a part of its log can't be read".to_owned());
    if of_log.is_none() && matches!(remainder, Remainder::OneCommit | Remainder::Commits) {
        // SQLite overwrites it as soon as it opens the journal.
        let kept = copy_log(directory, &left).map_err(failed("setting the log of the journal aside"))?;
        of_log = (!kept).then(|| "its log is damaged, and there is no room for a copy of it".to_owned());
    }
    let with_log = of_log.is_some();
    let problem = of_log
        .or(problem)
        .or_else(|| is_marked_damaged(directory).then(|| "damage was met while it was in use".to_owned()))
        .or_else(|| is_orphaned(directory).then(|| "its log is there, but not its main file".to_owned()));
    if let Some(problem) = problem {
        let aside = set_aside(directory, now).map_err(failed("setting the damaged journal aside"))?;
        let salvage = rebuild(directory, aside, problem, with_log, now)
            .map_err(|error| format!("making a new journal: {error}"))?;
        fs::rename(directory.join(PARTIAL), directory.join(REBUILT)).map_err(failed("keeping the new journal"))?;
        replace(directory).map_err(failed("putting the new journal in its place"))?;
        repairs.journal = Some(salvage);
    }
    if left.exists() {
        let taken = take_in_log(directory, &left, now)
            .map_err(|error| format!("reading the damaged end of its log: {error}"))?;
        repairs.log = finish_log(directory, &left, taken).map_err(failed("storing the damaged end of its log"))?;
    }
    keep_newest(directory, now);
    Ok(repairs)
}

/// Examines twice: another program that reads the journal may checkpoint its log meanwhile. A problem must be found
/// both times.
fn examine_twice(directory: &Path) -> io::Result<Examined> {
    let looked = |directory: &Path| {
        let named = |beside: &str| fs::metadata(directory.join(format!("{FILE}{beside}"))).ok();
        let stat = |file: Option<fs::Metadata>| file.and_then(|file| Some((file.len(), file.modified().ok()?)));
        [stat(named("")), stat(named("-wal"))]
    };
    for _ in 0..LOOKS {
        let before = looked(directory);
        let examined = examine::examine(directory)?;
        if examined.problem.is_none() || looked(directory) == before {
            return Ok(examined);
        }
    }
    examine::examine(directory)
}

/// Links the files to second names, under which they stay when the first ones are removed.
fn set_aside(directory: &Path, now: WallTime) -> io::Result<PathBuf> {
    let aside = directory.join(format!("journal-damaged-{}.db", now.0));
    for beside in ["", "-wal"] {
        let from = directory.join(format!("{FILE}{beside}"));
        if from.exists() {
            let to = directory.join(format!("journal-damaged-{}.db{beside}", now.0));
            remove(&to)?;
            fs::hard_link(&from, &to).or_else(|_| sectors::copy(&from, &to))?;
        }
    }
    Ok(aside)
}

/// Copies the log. Returns true if there was room for it.
fn copy_log(directory: &Path, to: &Path) -> io::Result<bool> {
    let log = directory.join(format!("{FILE}-wal"));
    let full = |error: &io::Error| volume::is_of_room(error);
    let copied = match copy(&log, to) {
        Err(error) if full(&error) && Reserve::in_directory(directory).give_up_whole() => {
            tracing::warn!(
                "the volume of `data_dir` is full: the reserve was given up for a copy of the journal's log"
            );
            copy(&log, to)
        }
        copied => copied,
    };
    match copied {
        Err(error) if full(&error) => remove(to).map(|()| false),
        copied => copied.map(|()| true),
    }
}

/// Makes a copy whose existence means that it is complete.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let partial = to.with_extension("partial");
    let copied = sectors::copy(from, &partial).and_then(|()| fs::rename(&partial, to));
    if copied.is_err() {
        let _ = remove(&partial);
    }
    copied?;
    to.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Removes incomplete files.
pub(super) fn clear(directory: &Path) -> io::Result<()> {
    for beside in ["", "-wal", "-shm", "-journal"] {
        remove(&directory.join(format!("{PARTIAL}{beside}")))?;
    }
    remove(&directory.join(LOG_LEFT).with_extension("partial"))
}

/// Moves a complete new journal to the place of the damaged one, which has another name already.
pub(super) fn replace(directory: &Path) -> io::Result<()> {
    let sync = || File::open(directory)?.sync_all();
    sync()?;
    for beside in ["-wal", "-shm"] {
        remove(&directory.join(format!("{FILE}{beside}")))?;
    }
    fs::rename(directory.join(REBUILT), directory.join(FILE))?;
    remove(&directory.join(MARK))?;
    sync()
}

/// Returns true for a log without its main file: SQLite would delete it.
fn is_orphaned(directory: &Path) -> bool {
    let bytes = |name: &str| fs::metadata(directory.join(name)).map_or(0, |file| file.len());
    bytes(FILE) == 0 && bytes(&format!("{FILE}-wal")) > 0
}

/// Makes a new journal of all readable rows; `with_log`: also of the frames that SQLite ignores. The old files are only
/// read. On failure they have one name again.
fn rebuild(
    directory: &Path,
    aside: PathBuf,
    problem: String,
    with_log: bool,
    now: WallTime,
) -> Result<Salvage, salvage_error::Error> {
    let rebuilt = rebuild_of(directory, now, |intake| {
        let (mut pages, log) = examine::open(directory)?;
        let mut unreadable = harvest::database(&mut pages, intake)?;
        if let Some(log) = log.filter(|_| with_log) {
            pages.lay_over(log.frames.iter().map(|frame| (frame.page, frame.at)));
            harvest::versions(&mut pages, log.left(), intake)?;
            unreadable += log.left_damaged();
        }
        Ok(unreadable)
    });
    if rebuilt.is_err() {
        for beside in ["", "-wal"] {
            remove(&directory.join(format!("{}{beside}", aside.display())))?;
        }
    }
    Ok(Salvage { aside: Some(aside), problem, ..rebuilt? })
}

/// Makes a new journal of the readable rows of an open one.
pub(super) fn rebuild_from(directory: &Path, old: &Connection, now: WallTime) -> Result<Salvage, Error> {
    let salvage = rebuild_of(directory, now, |intake| open::connection(old, intake));
    salvage.map_err(|error| match error {
        salvage_error::Error::Reading(error) => Error::Fault(error.to_string()),
        salvage_error::Error::Writing(error) => error.into(),
        salvage_error::Error::Full => Error::Full(error.to_string()),
    })
}

/// Makes a new journal of the rows that `take` imports, as far as there is room.
fn rebuild_of(
    directory: &Path,
    now: WallTime,
    mut take: impl FnMut(&mut Intake<'_>) -> Result<u64, salvage_error::Error>,
) -> Result<Salvage, salvage_error::Error> {
    fitting(directory, now, |extent| {
        clear(directory)?;
        let rebuilt = rebuild_once(directory, extent, now, &mut take);
        if rebuilt.is_err() {
            clear(directory)?;
        }
        rebuilt
    })
}

/// Makes one attempt. `take` returns the number of events that may be missing. Written without a log and synced once,
/// since after a crash it begins again: a log would take the room for everything twice.
fn rebuild_once(
    directory: &Path,
    extent: Extent,
    now: WallTime,
    take: &mut impl FnMut(&mut Intake<'_>) -> Result<u64, salvage_error::Error>,
) -> Result<Salvage, salvage_error::Error> {
    let path = directory.join(PARTIAL);
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
    let mut new = connect_unlogged(&path, now)?;
    let batch = new.transaction()?;
    let mut intake = Intake::of(&batch, extent, now)?;
    let unreadable = take(&mut intake)? + intake.taken.unreadable;
    let without_body = intake.dead_letter_without_body()?;
    let in_doubt = intake.dead_letter_outdated()?;
    let without_row = intake.taken.without_row;
    number_on(&batch)?;
    let count = |condition: &str| {
        batch.query_row(&format!("SELECT count(*) FROM event WHERE {condition}"), [], |row| row.get::<_, u64>(0))
    };
    let (events, queued) = (count("TRUE")?, count("state = 'queued' AND state <> 'delivered'")?);
    let left_out = if extent == Extent::All { 0 } else { count("state IN ('delivered', 'ended')")? };
    batch.commit()?;
    new.close().map_err(|(_, error)| error)?;
    File::open(&path)?.sync_all()?;
    if !volume::has_room_to_open(directory) {
        return Err(salvage_error::Error::Full);
    }
    let problem = "not all of it can be read".to_owned();
    Ok(Salvage { aside: None, problem, events, queued, without_body, without_row, in_doubt, unreadable, left_out })
}

/// Imports the frames that SQLite ignores from a copy of the log, as far as there is room. Can be repeated: existing
/// rows stay as they are.
fn take_in_log(directory: &Path, left: &Path, now: WallTime) -> Result<LogSalvage, salvage_error::Error> {
    fitting(directory, now, |extent| take_in_log_once(directory, left, extent, now))
}

fn take_in_log_once(
    directory: &Path,
    left: &Path,
    extent: Extent,
    now: WallTime,
) -> Result<LogSalvage, salvage_error::Error> {
    let mut salvage =
        LogSalvage { aside: None, pages: 0, damaged: 0, events: 0, states: 0, in_doubt: 0, unreadable: 0 };
    let mut file = File::open(left)?;
    let Some(log) = wal::read(&mut file)? else {
        return Ok(salvage);
    };
    // Overflow pages were written to the log as well.
    let mut pages = Pages::of(File::open("/dev/null")?, log.page_bytes)?;
    pages.overlay(file, log.frames.iter().map(|frame| (frame.page, frame.at)));
    let mut journal = connect(&directory.join(FILE), now)?;
    let batch = journal.transaction()?;
    let mut intake = Intake::of(&batch, extent, now)?;
    harvest::versions(&mut pages, log.left(), &mut intake)?;
    salvage.in_doubt = intake.dead_letter_outdated()?;
    let Taken { events, versions: states, without_row, unreadable } = intake.taken;
    number_on(&batch)?;
    batch.commit()?;
    journal.close().map_err(|(_, error)| error)?;
    if log.remainder() == Remainder::Commits {
        salvage.aside = Some(directory.join(format!("journal-damaged-{}.wal", now.0)));
    }
    salvage.pages = log.left().len() as u64;
    salvage.damaged = log.left_damaged();
    Ok(LogSalvage { events: events + without_row, states, unreadable, ..salvage })
}

/// Continues the event numbers after the newest event.
fn number_on(journal: &Connection) -> Result<(), rusqlite::Error> {
    journal.execute(
        "UPDATE meta SET value = max(value, (SELECT coalesce(max(id), 0) + 1 FROM event), \
         (SELECT coalesce(max(id), 0) + 1 FROM key_state)) WHERE name = 'first_id'",
        [],
    )?;
    Ok(())
}

/// Renames the copy of a damaged log; removes one that a power cut ended.
fn finish_log(directory: &Path, left: &Path, salvage: LogSalvage) -> io::Result<Option<LogSalvage>> {
    match &salvage.aside {
        Some(aside) => fs::rename(left, aside)?,
        None => remove(left)?,
    }
    File::open(directory)?.sync_all()?;
    let found_nothing = salvage.aside.is_none() && salvage.events + salvage.states + salvage.in_doubt == 0;
    Ok((!found_nothing).then_some(salvage))
}

/// Present while the journal is known to be damaged.
const MARK: &str = "damaged";
/// A log whose end is still to be imported.
const LOG_LEFT: &str = "journal-left.wal";
/// The number of times that files are examined while another program changes them.
const LOOKS: usize = 3;
