//! Errors of carrying rows over to a new journal.

use std::io;

/// The reason why rows could not be carried over.
#[derive(Debug)]
pub(super) enum Error {
    Reading(io::Error),
    Writing(rusqlite::Error),
    /// The rows are carried over, but the volume has no room left to open the journal.
    Full,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Reading(error)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::Writing(error)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Reading(error) => error.fmt(f),
            Error::Writing(error) => error.fmt(f),
            Error::Full => f.write_str("the disk is full"),
        }
    }
}
