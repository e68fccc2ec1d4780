//! Waits until a changed file is no longer being written.

use crate::config::FileStamps;

/// The files when they were read, and at the last check.
#[derive(Debug)]
pub(super) struct Debounce {
    /// The stamps when the files were read.
    read: FileStamps,
    /// The stamps at the last check, if they differed.
    seen: Option<FileStamps>,
}

impl Debounce {
    pub(super) fn new(read: FileStamps) -> Debounce {
        Debounce { read, seen: None }
    }

    pub(super) fn files(&self) -> &FileStamps {
        &self.read
    }

    /// Takes the stamps of one check. Returns the changed files once two checks find the same: then an editor that
    /// writes in pieces, a copy, or a series of changes is complete.
    pub(super) fn look(&mut self, now: FileStamps) -> Option<String> {
        if now == self.read {
            self.seen = None;
            return None;
        }
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now);
            return None;
        }
        let changed: Vec<String> = self.read.changed(&now).map(|path| path.display().to_string()).collect();
        Some(format!("changed: {}", changed.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_when_two_looks_find_it_changed_and_alike() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.yaml");
        let at = |text: &str| {
            fs::write(&path, text).unwrap();
            let mut files = FileStamps::default();
            files.note(&path);
            files
        };
        let [read, half, whole] = ["1", "22", "333"].map(at);
        let mut debounce = Debounce::new(read.clone());
        let mut look = |now: &FileStamps| debounce.look(now.clone()).is_some();
        assert!(!look(&read) && !look(&half) && !look(&whole), "it is still being written");
        assert!(look(&whole), "now it is whole");
        assert!(!look(&read) && !look(&half) && !look(&read), "it was put back as it was");
        assert!(!look(&half) && look(&half));
    }
}
