//! The data directory: as private as possible, and locked by one process.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD};
use tracing::warn;

use super::names::{self, FILE, LOCK};
use super::open_files::{self, Stat};
use super::readers::Readers;
use super::{OpenError, sqlite_version};

/// Creates the directory if it is missing, and makes it private if it is empty or ours.
pub(crate) fn make_directory(directory: &Path) -> Result<(), OpenError> {
    inspect(directory)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| OpenError {
        path: directory.to_owned(),
        problem: format!("can't make this directory: {error}"),
        remedy: WRITABLE,
    })?;
    make_private(directory)
}

/// A lock on the data directory for this process. The kernel releases it when the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    directory: PathBuf,
    _file: File,
    /// The locked file.
    stat: Stat,
    readers: Arc<Readers>,
}

impl Lock {
    /// Makes the directory, and locks it.
    pub fn take(directory: &Path) -> Result<Lock, OpenError> {
        let fail = |problem: String, remedy| OpenError { path: directory.to_owned(), problem, remedy };
        make_directory(directory)?;
        // The journal syncs the files in the directory; the directory's own entry is synced here.
        if let Some(parent) = directory.canonicalize().ok().as_deref().and_then(Path::parent) {
            // If another user created it, the directory above may be closed to us.
            let synced = File::open(parent).and_then(|parent| parent.sync_all());
            match synced {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                    return Err(fail(format!("can't sync the directory above it: {error}"), WRITABLE));
                }
                _ => {}
            }
        }
        let path = directory.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| fail(format!("can't write here: {error}"), WRITABLE))?;
        match lock_patiently(&file) {
            Ok(()) => {
                let metadata =
                    file.metadata().map_err(|error| fail(format!("can't look at `lock`: {error}"), WRITABLE))?;
                let readers = Arc::new(Readers::new(directory));
                Ok(Lock { directory: directory.to_owned(), _file: file, stat: Stat::from(&metadata), readers })
            }
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

    /// The readers beside the writing end.
    pub fn readers(&self) -> Arc<Readers> {
        Arc::clone(&self.readers)
    }

    /// Locks the directory again if it, or its lock file, was removed: creates what is missing.
    pub fn retake(&mut self) -> Result<(), OpenError> {
        if open_files::stat(&self.directory.join(LOCK)).is_some_and(|found| found.is_same_file(&self.stat)) {
            return Ok(());
        }
        let again = Lock::take(&self.directory)?;
        *self = Lock { readers: self.readers(), ..again };
        Ok(())
    }
}

/// Locks the file. Whoever asks by [`is_used`] has it for a moment.
fn lock_patiently(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            ended => return ended,
        }
    }
    file.try_lock()
}

/// Tells whether a process holds the lock on the data directory. None if this user may not ask, or the file system does
/// not lock.
pub(crate) fn is_used(directory: &Path) -> Option<bool> {
    match File::open(directory.join(LOCK)) {
        // Shared, so that two who ask do not find each other; given back as the file is closed.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Some(false),
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// Checks, without writing, if this user can use `directory` as the data directory. Returns a warning if it is usable
/// but doubtful.
pub(crate) fn inspect(directory: &Path) -> Result<Option<String>, OpenError> {
    let fail = |problem: String, remedy| Err(OpenError { path: directory.to_owned(), problem, remedy });
    sqlite_version::check(directory)?;
    let existing = directory.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Some((path, fs::metadata(path).ok()?))
    });
    let Some((existing, metadata)) = existing else {
        return Ok(None);
    };
    if !metadata.is_dir() {
        return fail(format!("{} is no directory", existing.display()), ELSEWHERE);
    }
    if let Err(error) = may(existing, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        return fail(format!("can't write to {}: {error}", existing.display()), WRITABLE);
    }
    if existing != directory {
        return Ok(None);
    }
    match is_ours(directory) {
        Ok(true) => {}
        Ok(false) => {
            return fail("it holds files and none of them is gander's: it is somebody else's".to_owned(), ELSEWHERE);
        }
        Err(error) => return fail(format!("can't look into it: {error}"), WRITABLE),
    }
    for name in [LOCK, FILE, "journal.db-wal", "journal.db-shm"] {
        let path = directory.join(name);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if !metadata.is_file() {
            return Err(no_file(&path));
        }
        if let Err(error) = may(&path, Access::READ_OK | Access::WRITE_OK) {
            return fail(format!("can't write to {name} in it: {error}"), WRITABLE);
        }
        if !is_own(metadata.uid()) && open_to(metadata.mode(), false) == OpenTo::Others {
            return Err(exposed(&path, metadata.mode()));
        }
    }
    match open_to(metadata.mode(), true) {
        OpenTo::Group if !is_own(metadata.uid()) => Ok(Some(format!(
            "{} can't be made private, since it belongs to another user (mode {:04o}): whoever is in its group, {}, can \
             remove and replace files in it",
            directory.display(),
            metadata.mode() & 0o7777,
            metadata.gid(),
        ))),
        OpenTo::Others if !is_own(metadata.uid()) => Err(exposed(directory, metadata.mode())),
        _ => Ok(None),
    }
}

/// Returns true if a directory is empty or holds one of our files. Any other may be `/tmp`, or a user's home.
fn is_ours(directory: &Path) -> io::Result<bool> {
    let mut empty = true;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if names::is_ours(&name) {
            return Ok(true);
        }
        // The root of a file system, as a volume is, is never quite empty.
        empty &= name == "lost+found";
    }
    Ok(empty)
}

/// The users, besides the owner, who have access to a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenTo {
    Nobody,
    Group,
    Others,
}

/// Decodes a mode. A directory that others may only list counts as open to its group: platforms prepare volumes for a
/// group of users (root:group, 2775), and the files in it are closed.
fn open_to(mode: u32, is_directory: bool) -> OpenTo {
    let others = if is_directory { 0o002 } else { 0o007 };
    match (mode & others, mode & 0o077) {
        (0, 0) => OpenTo::Nobody,
        (0, _) => OpenTo::Group,
        _ => OpenTo::Others,
    }
}

/// Returns true if this process may change the mode of files of this user.
fn is_own(owner: u32) -> bool {
    let user = rustix::process::geteuid();
    user.is_root() || user.as_raw() == owner
}

/// Closes a file or directory to everyone but its owner. It needs to be ours; if only its group has access, the owner
/// wanted that, and it stays so.
fn make_private(path: &Path) -> Result<(), OpenError> {
    let fail = |error: io::Error| OpenError {
        path: path.to_owned(),
        problem: format!("can't be made private: {error}"),
        remedy: WRITABLE,
    };
    let metadata = fs::metadata(path).map_err(fail)?;
    let (mode, is_directory) = (metadata.mode() & 0o7777, metadata.is_dir());
    let open_to = open_to(mode, is_directory);
    if open_to == OpenTo::Nobody {
        return Ok(());
    }
    let private = if is_directory { 0o700 } else { 0o600 };
    let (shown, before) = (path.display(), format!("{mode:04o}"));
    match fs::set_permissions(path, Permissions::from_mode(private)) {
        Ok(()) => {
            let mode = format!("{private:04o}");
            warn!(path = %shown, before, mode, "other users had access to it; its mode was changed");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => match open_to {
            OpenTo::Others => Err(exposed(path, mode)),
            _ => {
                let group = metadata.gid();
                warn!(path = %shown, mode = before, group, "it belongs to another user and stays open to its group");
                Ok(())
            }
        },
        Err(error) => Err(fail(error)),
    }
}

fn exposed(path: &Path, mode: u32) -> OpenError {
    OpenError {
        path: path.to_owned(),
        problem: format!(
            "every user of this machine has access to it (mode {:04o}), and it belongs to another user than gander's",
            mode & 0o7777
        ),
        remedy: "give it to the user that runs gander, or take access from others: chmod o= (o-w for a directory)",
    }
}

/// Creates the journal's file with mode 0600 before SQLite does, or restricts it and the files beside it; SQLite gives
/// its further files the same mode.
///
/// An existing file is never opened: when a process closes any descriptor of a file, POSIX releases all its locks on
/// it, and another program would then believe to be the last one and delete the log. A file created here is new, so
/// nobody can hold a lock on it.
pub(super) fn private(path: &Path) -> Result<(), OpenError> {
    let fail = |error: io::Error| OpenError { path: path.to_owned(), problem: error.to_string(), remedy: WRITABLE };
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fail(error)),
    }
    for beside in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        let path = Path::new(&name);
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => make_private(path)?,
            Ok(_) => return Err(no_file(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
    }
    Ok(())
}

/// Checks that this user may read a file, without opening it.
pub(super) fn readable(path: &Path) -> io::Result<()> {
    may(path, Access::READ_OK)
}

fn may(path: &Path, access: Access) -> io::Result<()> {
    Ok(rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS)?)
}

/// The error for a link, which is not followed: an attacker could let gander write to any file of its user.
fn no_file(path: &Path) -> OpenError {
    OpenError {
        path: path.to_owned(),
        problem: "it is a symbolic link, or no file at all, and is not followed".to_owned(),
        remedy: "put the file itself there, or name the directory that holds it as `data_dir`",
    }
}

const ELSEWHERE: &str = "give gander a `data_dir` of its own: an empty directory, or one that it may make";
const WRITABLE: &str = "give the user that runs gander the ownership of `data_dir`, or choose another one";
/// A tenth of a second in all: who asks has the lock for microseconds.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_if_the_directory_is_used_keeps_no_relay_from_using_it() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(is_used(directory.path()), Some(false));
        let lock = Lock::take(directory.path()).unwrap();
        assert_eq!(is_used(directory.path()), Some(true));
        assert!(Lock::take(directory.path()).unwrap_err().to_string().contains("another gander"));
        drop(lock);
        assert_eq!(is_used(directory.path()), Some(false));

        let asking = File::open(directory.path().join(LOCK)).unwrap();
        asking.try_lock_shared().unwrap();
        assert_eq!(is_used(directory.path()), Some(false), "others may ask meanwhile");
        let asked = std::thread::spawn(move || {
            std::thread::sleep(LOCK_PAUSE);
            drop(asking);
        });
        assert!(Lock::take(directory.path()).is_ok());
        asked.join().unwrap();
    }

    #[test]
    fn a_volume_for_a_group_is_open_to_its_group_alone() {
        for (mode, is_directory, expected) in [
            (0o700, true, OpenTo::Nobody),
            (0o2700, true, OpenTo::Nobody),
            (0o2770, true, OpenTo::Group),
            (0o2775, true, OpenTo::Group),
            (0o755, true, OpenTo::Group),
            (0o1777, true, OpenTo::Others),
            (0o2777, true, OpenTo::Others),
            (0o600, false, OpenTo::Nobody),
            (0o660, false, OpenTo::Group),
            (0o640, false, OpenTo::Group),
            (0o664, false, OpenTo::Others),
            (0o644, false, OpenTo::Others),
        ] {
            assert_eq!(open_to(mode, is_directory), expected, "{mode:04o}");
        }
    }
}
