//! What a configuration was read from: to see that it changed, what of it changed, and which rules came from which file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::rules::RuleSet;
use crate::yaml::Node;

/// One reading of a configuration, successful or not.
#[derive(Debug, Default)]
pub struct Reading {
    /// Every file that was read, or was to be.
    pub files: Files,
    /// The rule files that compiled.
    pub rules: BTreeMap<PathBuf, Arc<RuleSet>>,
    pub settings: Settings,
}

/// Files, each as it was just before it was read: what is written later than that is seen as a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<Stamp>>);

/// What tells one state of a file from another without reading it. Of a symbolic link it is what the link leads to, so
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

/// The settings of a configuration, with environment and flags laid over the file; they may hold secrets.
#[derive(Clone, Default, PartialEq)]
pub struct Settings(Json);

impl Files {
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

    /// The same files as they are now.
    pub fn now(&self) -> Files {
        Files(self.0.keys().map(|path| (path.clone(), Stamp::of(path))).collect())
    }

    /// Which of them another look found otherwise.
    pub fn changed<'a>(&'a self, later: &'a Files) -> impl Iterator<Item = &'a Path> {
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

impl Settings {
    pub(super) fn of(tree: &Node) -> Settings {
        Settings(tree.to_json())
    }

    /// The dotted paths of the keys that `other` sets otherwise, apart from the rules of sources that both have. What is
    /// set to nothing is as if it were not there.
    pub fn changed(&self, other: &Settings) -> Vec<String> {
        let mut paths = Vec::new();
        compare("", Some(&self.0), Some(&other.0), &mut paths);
        paths
    }
}

/// Paths alone: the values may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settings(…)")
    }
}

fn compare(path: &str, one: Option<&Json>, other: Option<&Json>, paths: &mut Vec<String>) {
    let [one, other] = [one, other].map(|value| value.filter(|value| !value.is_null()));
    if one == other {
        return;
    }
    let (Some(Json::Object(members)), Some(Json::Object(others))) = (one, other) else {
        paths.push(path.to_owned());
        return;
    };
    let added = others.keys().filter(|name| !members.contains_key(*name));
    for name in members.keys().chain(added) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if !is_rules(&path) {
            compare(&path, members.get(name), others.get(name), paths);
        }
    }
}

/// Whether a key names rules, which are exchanged while the relay runs. A source's name may hold dots.
fn is_rules(path: &str) -> bool {
    path.strip_prefix("sources.")
        .and_then(|path| path.rsplit_once('.'))
        .is_some_and(|(_, key)| RULES_KEYS.contains(&key))
}

/// The keys of a source that a reload takes over.
const RULES_KEYS: [&str; 2] = ["rules", "rules_shadow"];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_changed_key_is_named_and_rules_are_not() {
        let changed = |one: Json, other: Json| Settings(one).changed(&Settings(other));
        let source = |rules: &str, from: &str| json!({ "sources": { "a.b": { "rules": rules, "from": from } } });
        for (claim, one, other, paths) in [
            ("nothing", source("a", "x"), source("a", "x"), &[] as &[&str]),
            ("another rule file", source("a", "x"), source("b", "x"), &[]),
            (
                "rules in the shadow",
                json!({ "sources": { "a": { "rules_shadow": "x" } } }),
                json!({ "sources": { "a": {} } }),
                &[],
            ),
            ("a source's key", source("a", "x"), source("b", "y"), &["sources.a.b.from"]),
            ("a new source", json!({ "sources": {} }), source("a", "x"), &["sources.a.b"]),
            ("a source less", source("a", "x"), json!({ "sources": {} }), &["sources.a.b"]),
            ("nothing instead of no key", json!({ "a": null }), json!({}), &[]),
            ("a list as a whole", json!({ "a": [1, 2] }), json!({ "a": [1, 3] }), &["a"]),
            (
                "a mapping that is none any more",
                json!({ "l": { "tls": {} } }),
                json!({ "l": { "tls": "off" } }),
                &["l.tls"],
            ),
            ("the order of keys", json!({ "a": 1, "b": 2 }), json!({ "b": 2, "a": 1 }), &[]),
        ] {
            assert_eq!(changed(one, other), paths, "{claim}");
        }
    }

    #[test]
    fn a_file_that_is_made_after_the_look_is_no_change() {
        let directory = tempfile::tempdir().unwrap();
        let [made, written] = ["server.pem", "rules.yaml"].map(|name| directory.path().join(name));
        fs::write(&written, "1").unwrap();
        let mut files = Files::default();
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
            let mut files = Files::default();
            files.note(&path);
            files.note(&root.join("other"));
            assert_eq!(files.changed(&files.now()).count(), 0, "{claim}: nothing yet");
            change(&path);
            assert_eq!(files.changed(&files.now()).collect::<Vec<_>>(), [path], "{claim}");
        }
    }
}
