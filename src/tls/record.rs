//! Remembers which pairs were served and which of them were made here, so that after a restart a pair that a person put
//! there, and that is gone, is not replaced by a self-signed one.
//!
//! It is kept in `data_dir`, which outlives the process, and not beside the pair, with which it would be deleted.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::authority::says_made_here;
use super::whole_file::write_new;
use super::{Config, Error, fingerprint, pem, subject_names};
use crate::credential::SubjectName;
use crate::files;

/// The file of the record. Each use reads it: a start and a renewal are seldom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    file: PathBuf,
}

/// By the absolute path of the certificate.
type Entries = BTreeMap<PathBuf, Entry>;

/// The pair that was served last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Of the certificate.
    sha256: String,
    /// The configured names, where the pair was made here; none: a person put it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_with_names: Option<Vec<String>>,
}

impl Record {
    pub fn in_directory(data_dir: &Path) -> Record {
        Record { file: data_dir.join(FILE) }
    }

    /// An error where neither file of the pair exists, one would be made, and another one was served before.
    pub fn refuse_where_another_was_served(&self, config: &Config) -> Result<(), Error> {
        let is_missing = |file: &Path| matches!(file.try_exists(), Ok(false));
        if !config.self_signed || !is_missing(&config.certificate) || !is_missing(&config.private_key) {
            return Ok(());
        }
        // One that can't be read may tell of such a pair.
        let entries = self.read().map_err(|problem| Error::Unreadable { file: self.file.clone(), problem })?;
        match entries.get(&key(config)) {
            Some(Entry { made_with_names: None, .. }) => {
                Err(Error::PairGone { config: Box::new(config.clone()), record: self.file.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The configured names with which this certificate was made here; none if it was not.
    pub(super) fn names_of_made(&self, config: &Config, fingerprint: &str) -> Option<Vec<String>> {
        let entry = self.read().ok()?.remove(&key(config))?;
        entry.made_with_names.filter(|_| entry.sha256 == fingerprint)
    }

    /// Remembers a pair that was just made.
    pub(super) fn made(&self, config: &Config, fingerprint: &str) {
        self.put(config, Entry { sha256: fingerprint.to_owned(), made_with_names: Some(config.names.clone()) });
    }

    /// Remembers the pair that is served from now on. If it is not the one that was made here, a person put it there.
    pub fn served(&self, config: &Config, fingerprint: &str) {
        let known = self.read().ok().map(|mut entries| entries.remove(&key(config)));
        if known.as_ref().is_some_and(|known| known.as_ref().is_some_and(|entry| entry.sha256 == fingerprint)) {
            return;
        }
        // Versions that kept no record made pairs too. What is known of another pair at this place is never put aside.
        let made_with_names = if matches!(known, Some(None)) { names_of_unrecorded(config, fingerprint) } else { None };
        self.put(config, Entry { sha256: fingerprint.to_owned(), made_with_names });
    }

    /// No start fails because this can't be written: a full disk must not keep senders out.
    fn put(&self, config: &Config, entry: Entry) {
        let mut entries = self.read().unwrap_or_default();
        entries.insert(key(config), entry);
        let written = serde_json::to_string_pretty(&entries).map_err(|error| error.to_string());
        let written =
            written.and_then(|text| write_new(&self.file, text.as_bytes(), 0o600).map_err(|error| error.to_string()));
        if let Err(problem) = written {
            tracing::warn!(problem, "the certificate in use can't be remembered for the next start");
        }
    }

    fn read(&self) -> io::Result<Entries> {
        let file = match files::open(&self.file) {
            Ok(file) => file,
            // `data_dir` may be no directory, which is told elsewhere.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Entries::new());
            }
            Err(error) => return Err(error),
        };
        Ok(serde_json::from_reader(file.take(BYTES_MAX))?)
    }
}

/// The configured names that a certificate has which was made here before there were records; none if it was not.
fn names_of_unrecorded(config: &Config, sha256: &str) -> Option<Vec<String>> {
    let chain = pem::certificates(&config.certificate).ok()?;
    let certificate = chain.first().filter(|one| fingerprint(one) == sha256 && says_made_here(one))?;
    let certified = subject_names(certificate);
    let is_certified = |name: &&String| SubjectName::read(name).is_some_and(|name| certified.contains(&name));
    Some(config.names.iter().filter(is_certified).cloned().collect())
}

/// The entry's place: the path as it is written, with the working directory before it, and no link followed.
fn key(config: &Config) -> PathBuf {
    std::path::absolute(&config.certificate).unwrap_or_else(|_| config.certificate.clone())
}

const FILE: &str = "certificates.json";
/// Many times what two listeners need.
const BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::super::make_pair;
    use super::*;
    use crate::clock::WallTime;

    struct Place {
        directory: tempfile::TempDir,
        config: Config,
        record: Record,
    }

    impl Place {
        fn new() -> Place {
            let directory = tempfile::tempdir().unwrap();
            let config = Config {
                certificate: directory.path().join("server.pem"),
                private_key: directory.path().join("server.key"),
                ..Config::default()
            };
            let record = Record::in_directory(&directory.path().join("data"));
            Place { directory, config, record }
        }

        /// A start: makes what is to be made, and serves.
        fn start(&self) -> Result<bool, Error> {
            let made = make_pair(&self.config, &self.record, WallTime::now())?.is_some();
            let (identity, _) = super::super::load_identity(&self.config, WallTime::now())?;
            self.record.served(&self.config, &identity.fingerprint);
            Ok(made)
        }

        fn put_another(&self) {
            let pair = rcgen::generate_simple_self_signed(["gander.example".to_owned()]).unwrap();
            std::fs::write(&self.config.certificate, pair.cert.pem()).unwrap();
            std::fs::write(&self.config.private_key, pair.signing_key.serialize_pem()).unwrap();
        }

        fn remove(&self) {
            std::fs::remove_file(&self.config.certificate).unwrap();
            std::fs::remove_file(&self.config.private_key).unwrap();
        }
    }

    #[test]
    fn a_pair_of_a_person_is_never_replaced_by_one_made_here() {
        let place = Place::new();
        assert!(place.start().unwrap() && !place.start().unwrap(), "made once");
        place.remove();
        assert!(place.start().unwrap(), "one that was made here may be made again");
        place.put_another();
        assert!(!place.start().unwrap());
        place.remove();
        let text = place.start().unwrap_err().to_string();
        for part in ["server.pem", "server.key", "are gone", "put them back", "certificates.json"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!place.config.certificate.exists() && !place.config.private_key.exists());
        std::fs::write(&place.record.file, "{ half").unwrap();
        assert!(place.start().unwrap_err().to_string().contains("certificates.json can't be read"));
        std::fs::remove_file(&place.record.file).unwrap();
        assert!(place.start().unwrap(), "the remedy helps");
    }

    #[test]
    fn a_pair_that_was_there_before_any_start_is_a_persons() {
        let place = Place::new();
        place.put_another();
        assert!(!place.start().unwrap());
        place.remove();
        assert!(matches!(place.start(), Err(Error::PairGone { .. })));
    }

    #[test]
    fn a_pair_of_a_version_without_records_is_known_by_its_subject() {
        let mut place = Place::new();
        place.config.names = vec!["Gander.example".to_owned(), "192.0.2.7".to_owned()];
        place.start().unwrap();
        std::fs::remove_file(&place.record.file).unwrap();
        assert!(!place.start().unwrap() && !place.start().unwrap(), "its names are those that are configured");
        place.remove();
        assert!(place.start().unwrap(), "one that was made here may be made again");
        std::fs::remove_file(&place.record.file).unwrap();
        place.config.names.push("hooks.example".to_owned());
        assert!(!place.start().unwrap() && place.start().unwrap(), "the name that it lacks");

        // Where a person's pair was served before, one with that subject is that person's choice too.
        place.put_another();
        place.start().unwrap();
        place.remove();
        super::super::make_missing_pair(&place.config, WallTime::now()).unwrap().unwrap();
        place.start().unwrap();
        place.remove();
        assert!(matches!(place.start(), Err(Error::PairGone { .. })));
    }

    #[test]
    fn other_names_make_another_certificate_of_the_same_key_and_leave_those_of_others_alone() {
        let mut place = Place::new();
        place.start().unwrap();
        let key = std::fs::read(&place.config.private_key).unwrap();
        place.config.names = vec!["gander.example".to_owned()];
        assert!(place.start().unwrap() && !place.start().unwrap(), "once for each list");
        let (identity, _) = super::super::load_identity(&place.config, WallTime::now()).unwrap();
        assert!(identity.names.iter().any(|name| name == "gander.example"), "{:?}", identity.names);
        assert_eq!(std::fs::read(&place.config.private_key).unwrap(), key);
        place.put_another();
        let theirs = std::fs::read(&place.config.certificate).unwrap();
        place.config.names = vec!["other.example".to_owned()];
        assert!(!place.start().unwrap());
        assert_eq!(std::fs::read(&place.config.certificate).unwrap(), theirs);
        drop(place.directory);
    }

    #[test]
    fn one_of_two_files_is_never_completed() {
        for lost in ["server.pem", "server.key"] {
            let place = Place::new();
            place.start().unwrap();
            std::fs::remove_file(place.directory.path().join(lost)).unwrap();
            assert!(place.start().unwrap_err().to_string().contains(&format!("{lost} does not exist")));
        }
    }
}
