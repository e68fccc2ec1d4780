//! The data directory: private, and held by one process.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::{FILE, OpenError};

/// Holds the data directory for this process, as long as it lives. The kernel lets go of it when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    directory: PathBuf,
    _file: File,
}

impl Lock {
    /// Makes the directory if it is missing, makes it private if it is empty or ours, and takes it.
    pub fn take(directory: &Path) -> Result<Lock, OpenError> {
        let fail = |problem: String, remedy| OpenError { path: directory.to_owned(), problem, remedy };
        inspect(directory)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| fail(format!("can't make this directory: {error}"), WRITABLE))?;
        make_private(directory)
            .map_err(|error| fail(format!("can't make this directory private: {error}"), WRITABLE))?;
        // The journal syncs what is in the directory; that the directory itself is there is synced here.
        if let Some(parent) = directory.canonicalize().ok().as_deref().and_then(Path::parent) {
            let synced = File::open(parent).and_then(|parent| parent.sync_all());
            synced.map_err(|error| fail(format!("can't sync the directory above it: {error}"), WRITABLE))?;
        }
        let path = directory.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| fail(format!("can't write here: {error}"), WRITABLE))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { directory: directory.to_owned(), _file: file }),
            Err(TryLockError::WouldBlock) => Err(fail(
                "another gander uses this directory".to_owned(),
                "stop the other process, or give this one a `data_dir` of its own",
            )),
            Err(TryLockError::Error(error)) => Err(fail(
                format!("can't lock `lock` in it: {error}"),
                "put `data_dir` on a local file system; network file systems may not lock",
            )),
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Whether `directory` can be the data directory, as far as looking tells: nothing is written.
pub fn inspect(directory: &Path) -> Result<(), OpenError> {
    let fail = |problem: String, remedy| Err(OpenError { path: directory.to_owned(), problem, remedy });
    let existing = directory.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)));
    let Some((existing, metadata)) = existing else {
        return Ok(());
    };
    if !metadata.is_dir() {
        return fail(format!("{} is no directory", existing.display()), ELSEWHERE);
    }
    if existing != directory {
        return Ok(());
    }
    match is_ours(directory) {
        Ok(true) => Ok(()),
        Ok(false) => fail("it holds files and none of them is gander's: it is somebody else's".to_owned(), ELSEWHERE),
        Err(error) => fail(format!("can't look into it: {error}"), WRITABLE),
    }
}

/// Whether a directory is empty or holds one of our files. Another may be `/tmp`, or somebody's home.
fn is_ours(directory: &Path) -> io::Result<bool> {
    let mut empty = true;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if name == LOCK || name == FILE {
            return Ok(true);
        }
        // The root of a file system of its own, as a volume is, is never quite empty.
        empty &= name == "lost+found";
    }
    Ok(empty)
}

fn make_private(directory: &Path) -> io::Result<()> {
    let mode = fs::metadata(directory)?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    let (directory, mode) = (directory.display(), format!("{mode:04o}"));
    warn!(%directory, mode, "others could look into the data directory; it has mode 0700 now");
    Ok(())
}

/// Makes the journal's file with mode 0600 before SQLite does, or tightens it; SQLite gives the files beside it
/// the same mode.
pub(super) fn private(path: &Path) -> Result<(), OpenError> {
    let fail = |error: io::Error| OpenError { path: path.to_owned(), problem: error.to_string(), remedy: WRITABLE };
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(fail)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(fail)
}

const LOCK: &str = "lock";
const ELSEWHERE: &str = "give gander a `data_dir` of its own: an empty directory, or one that it may make";
const WRITABLE: &str = "give the user that runs gander the ownership of `data_dir`, or choose another one";
