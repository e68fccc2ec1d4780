//! Carrying over as much as the volume has room for: a start over a damaged journal ends in a relay that delivers, also
//! where there is no room for a second journal beside the damaged one.

use std::path::Path;

use rusqlite::ErrorCode;

use super::harvest::Error;
use crate::journal::volume::{self, Reserve};

/// How much is carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    /// Of what has ended only its row, on which the state of its key rests: no payload, no body and no call.
    Open,
}

/// Carries over what fits, giving up first what is worth least: the reserve, the contents of what has ended.
pub(super) fn fitting<T>(
    directory: &Path,
    mut carry: impl FnMut(Extent) -> Result<T, Error>,
) -> Result<(T, Extent), Error> {
    let mut failed = match carry(Extent::All) {
        Ok(carried) => return Ok((carried, Extent::All)),
        Err(error) => error,
    };
    if is_full(&failed, directory) && Reserve::in_directory(directory).give_up_whole() {
        tracing::warn!("the volume of `data_dir` is full: the reserve was given up for a new journal");
        failed = match carry(Extent::All) {
            Ok(carried) => return Ok((carried, Extent::All)),
            Err(error) => error,
        };
    }
    if is_full(&failed, directory) {
        return carry(Extent::Open).map(|carried| (carried, Extent::Open));
    }
    Err(failed)
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
