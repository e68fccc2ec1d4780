//! Waits until a changed file is no longer being written.

use crate::config::FileStamps;

/// The files as they were read and as the last look found them.
#[derive(Debug)]
pub(super) struct Debounce {
    /// As they were read.
    read: FileStamps,
    /// As the last look found them, where that was otherwise.
    seen: Option<FileStamps>,
}

impl Debounce {
    pub(super) fn new(read: FileStamps) -> Debounce {
        Debounce { read, seen: None }
    }

    pub(super) fn files(&self) -> &FileStamps {
        &self.read
    }

    /// Takes in one look. Names the changed files once a second look finds them as the first did: an editor that writes
    /// in pieces, a copy under way and files that are changed one after another have come to an end by then.
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
