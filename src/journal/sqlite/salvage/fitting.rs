//! Carrying over as much as the volume has room for: a start over a damaged journal ends in a relay that delivers, also
//! where there is no room for a second journal beside the damaged one.

use std::path::Path;

use rusqlite::ErrorCode;

use super::error::Error;
use super::kept;
use crate::clock::WallTime;
use crate::journal::sqlite::volume::{self, Reserve};

/// How much is carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    /// Of what has ended only its row, on which the state of its key rests: no payload, no body and no call.
    Open,
}

/// Carries over what fits, giving up first what is worth least: the reserve, the contents of what has ended,
/// journals that were damaged before.
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

/// Whether it failed for want of room.
fn is_full(error: &Error, directory: &Path) -> bool {
    match error {
        Error::Full => true,
        Error::Reading(error) => volume::is_of_room(error),
        Error::Writing(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => true,
            // A quota that is used up, and shared memory that finds no room.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => volume::is_full(directory),
            _ => false,
        },
    }
}
