//! The errors of the journal: of one that is open, and of opening one.

use std::path::{Path, PathBuf};

use super::open_files::FileStates;

/// An error of the journal.
#[derive(Debug)]
pub enum Error {
    /// The disk has no room.
    Full(String),
    /// The file is damaged: opening it again does not help.
    Damaged(String),
    /// The open files are not those that a restart would find.
    Replaced(FileStates),
    /// Anything else: a failed write or sync.
    Fault(String),
}

/// An error while the journal is opened: an operator must fix it before a start.
#[derive(Debug)]
pub struct OpenError {
    pub path: PathBuf,
    pub problem: String,
    pub remedy: &'static str,
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Error::Full(error.to_string()),
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Error::Damaged(error.to_string())
            }
            _ if is_of_reading(&error) => Error::Damaged(error.to_string()),
            _ => Error::Fault(error.to_string()),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Full(text) => write!(f, "the disk is full: {text}"),
            Error::Damaged(text) => write!(f, "the journal is damaged: {text}"),
            Error::Replaced(states) => write!(f, "the journal's files are not those that are open: {states}"),
            Error::Fault(text) => write!(f, "the journal failed: {text}"),
        }
    }
}

impl OpenError {
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> OpenError {
        let remedy = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                "the file is damaged: keep it aside under another name and start again; \
                 `sqlite3 FILE .recover` saves what can be read"
            }
            Some(rusqlite::ErrorCode::DiskFull) => MAKE_ROOM,
            Some(rusqlite::ErrorCode::TypeMismatch) => "run the version of gander that wrote it",
            _ => "check the owner and the permissions of `data_dir` and that the disk works",
        };
        OpenError { path: path.to_owned(), problem: error.to_string(), remedy }
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.path.display(), self.problem, self.remedy)
    }
}

/// Returns true if an error on opening means a damaged file. If a table lacks a column that a definition names, SQLite
/// reports an error of the statement.
pub(super) fn is_of_damage(error: &rusqlite::Error) -> bool {
    let statement = error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_ERROR);
    let file = matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
    );
    statement || file || is_of_reading(error)
}

/// Returns true if the disk or file system can't read the file: that is handled like damage.
fn is_of_reading(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ};
    let codes = [SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA];
    error.sqlite_error().is_some_and(|error| codes.contains(&error.extended_code))
}

pub(super) const MAKE_ROOM: &str = "the disk is full: make room on it";
