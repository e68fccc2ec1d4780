//! Opens SQLite's files.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// Opens an SQLite file that stands in a directory. Links on the way to the directory are followed, one in the place of
/// the file is not.
pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let whole = path.parent().and_then(|directory| directory.canonicalize().ok()).zip(path.file_name());
    let path = whole.map_or_else(|| path.to_owned(), |(directory, name)| directory.join(name));
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags)
}
