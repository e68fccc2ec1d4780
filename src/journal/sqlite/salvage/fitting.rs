//! Carries over as much as the volume has room for: after damage the relay must start and deliver even without room for
//! a second whole journal.

use std::path::Path;

use rusqlite::ErrorCode;

use super::kept;
use super::salvage_error::Error;
use crate::clock::WallTime;
use crate::journal::sqlite::volume::{self, Reserve};

/// The extent of what is carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    /// Finished events lose payload, body and calls; their rows stay, because key states depend on them.
    Open,
}

/// Carries over what fits, and gives up the least valuable first: the reserve, contents of finished events, older
/// damaged journals.
pub(super) fn fitting<T>(
    directory: &Path,
    now: WallTime,
    mut carry: impl FnMut(Extent) -> Result<T, Error>,
) -> Result<T, Error> {
    let is_too_much = |carried: &Result<T, Error>| carried.as_ref().is_err_and(|error| is_full(error, directory));
    let mut carried = carry(Extent::All);
    if is_too_much(&carried) && Reserve::in_directory(directory).give_up_whole() {
        tracing::warn!("the volume of `data_dir` is full: the reserve was given up for a new journal");
        carried = carry(Extent::All);
    }
    if is_too_much(&carried) {
        carried = carry(Extent::Open);
    }
    if is_too_much(&carried) && kept::keep_none_before(directory, now) {
        carried = carry(Extent::All);
        if is_too_much(&carried) {
            carried = carry(Extent::Open);
        }
    }
    carried
}

/// Returns true if the error was a lack of room.
fn is_full(error: &Error, directory: &Path) -> bool {
    match error {
        Error::Full => true,
        Error::Reading(error) => volume::is_of_room(error),
        Error::Writing(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => true,
            // SQLite reports an exhausted quota, and shared memory without room, by these codes.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => volume::is_full(directory),
            _ => false,
        },
    }
}
