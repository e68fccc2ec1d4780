//! Stamps of files, by which a change is seen without reading them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files that a configuration was read from, each as it was just before: what is written later is seen as a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStamps(BTreeMap<PathBuf, Option<Stamp>>);

/// The state of a file, told from another one without reading it. Of a symbolic link it is what the link leads to, so
/// that a link turned elsewhere, as Kubernetes turns those of a ConfigMap, is a change too; `changed` also tells a file
/// that was moved here with an old date, and other permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds, as those of `changed`.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamps {
    /// Adds a file that is about to be read, whether it exists or not.
    pub fn note(&mut self, path: &Path) {
        self.0.insert(path.to_owned(), Stamp::of(path));
    }

    /// Adds one that has been made since it was to be read.
    pub fn note_made(&mut self, path: &Path) {
        if let Some(stamp @ None) = self.0.get_mut(path) {
            *stamp = Stamp::of(path);
        }
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// These files as they are now.
    pub fn now(&self) -> FileStamps {
        FileStamps(self.0.keys().map(|path| (path.clone(), Stamp::of(path))).collect())
    }

    /// The files that a later look found otherwise.
    pub fn changed<'a>(&'a self, later: &'a FileStamps) -> impl Iterator<Item = &'a Path> {
        self.0.iter().filter(|(path, stamp)| later.0.get(*path) != Some(stamp)).map(|(path, _)| path.as_path())
    }
}

impl Stamp {
    /// None where there is no such file, or no way to it.
    fn of(path: &Path) -> Option<Stamp> {
        let found = fs::metadata(path).ok()?;
        Some(Stamp {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_that_is_made_after_the_look_is_no_change() {
        let directory = tempfile::tempdir().unwrap();
        let [made, written] = ["server.pem", "rules.yaml"].map(|name| directory.path().join(name));
        fs::write(&written, "1").unwrap();
        let mut files = FileStamps::default();
        [&made, &written].into_iter().for_each(|file| files.note(file));
        fs::write(&made, "1").unwrap();
        fs::write(&written, "22").unwrap();
        [&made, &written].into_iter().for_each(|file| files.note_made(file));
        assert_eq!(files.changed(&files.now()).collect::<Vec<_>>(), [&written]);
    }

    #[test]
    fn every_way_to_change_a_file_is_seen() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 6] = [
            ("another text", |path| fs::write(path, "22").unwrap()),
            ("another file moved there", |path| {
                fs::write(path.with_extension("new"), "1").unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            }),
            ("removed", |path| fs::remove_file(path).unwrap()),
            ("other permissions", |path| {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
            }),
            ("a directory in its place", |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
            ("the folder's link turned elsewhere", |path| {
                let root = path.parent().unwrap().parent().unwrap();
                fs::create_dir(root.join("2")).unwrap();
                fs::write(root.join("2/file"), "1").unwrap();
                symlink("2", root.join("new")).unwrap();
                fs::rename(root.join("new"), root.join("data")).unwrap();
            }),
        ];
        for (claim, change) in changes {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path();
            fs::create_dir(root.join("1")).unwrap();
            fs::write(root.join("1/file"), "1").unwrap();
            symlink("1", root.join("data")).unwrap();
            let path = root.join("data/file");
            let mut files = FileStamps::default();
            files.note(&path);
            files.note(&root.join("other"));
            assert_eq!(files.changed(&files.now()).count(), 0, "{claim}: nothing yet");
            change(&path);
            assert_eq!(files.changed(&files.now()).collect::<Vec<_>>(), [path], "{claim}");
        }
    }
}
