//! Opens SQLite files.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// Opens a SQLite file in a directory. The directory's path may contain links, but the file must not be one.
pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let whole = path.parent().and_then(|directory| directory.canonicalize().ok()).zip(path.file_name());
    let path = whole.map_or_else(|| path.to_owned(), |(directory, name)| directory.join(name));
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags)
}
