//! When a changed file is worth reading: not while it is still being written.

use crate::config::Files;

/// What is known of the files, look by look.
#[derive(Debug)]
pub(super) struct Settling {
    /// As they were read.
    read: Files,
    /// As the last look found them, where that was otherwise.
    seen: Option<Files>,
}

impl Settling {
    pub(super) fn new(read: Files) -> Settling {
        Settling { read, seen: None }
    }

    pub(super) fn files(&self) -> &Files {
        &self.read
    }

    /// Takes in one look. Names the changed files once a second look finds them as the first did: an editor that writes
    /// in pieces, a copy under way and files that are changed one after another have come to an end by then.
    pub(super) fn look(&mut self, now: Files) -> Option<String> {
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
            let mut files = Files::default();
            files.note(&path);
            files
        };
        let [read, half, whole] = ["1", "22", "333"].map(at);
        let mut settling = Settling::new(read.clone());
        let mut look = |now: &Files| settling.look(now.clone()).is_some();
        assert!(!look(&read) && !look(&half) && !look(&whole), "it is still being written");
        assert!(look(&whole), "now it is whole");
        assert!(!look(&read) && !look(&half) && !look(&read), "it was put back as it was");
        assert!(!look(&half) && look(&half));
    }
}
