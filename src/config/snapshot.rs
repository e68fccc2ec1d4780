//! A snapshot of what a configuration was read from. The next one tells what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;

use super::FileStamps;
use crate::rules::RuleSet;
use crate::yaml::Node;

/// The files, rules and settings that were read, whether they can be used or not.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Every file that was read, or was to be.
    pub files: FileStamps,
    /// The environment variables whose values are, or may be, secrets.
    pub secret_variables: BTreeSet<String>,
    /// The rule files that compiled.
    pub rules: BTreeMap<PathBuf, Arc<RuleSet>>,
    pub settings: SettingsTree,
}

/// The settings of a configuration, with environment and flags laid over the file; they may hold secrets.
#[derive(Clone, Default, PartialEq)]
pub struct SettingsTree(Json);

impl SettingsTree {
    pub(super) fn of(tree: &Node) -> SettingsTree {
        SettingsTree(tree.to_json())
    }

    /// The dotted paths of the keys that `other` sets otherwise, apart from what a reload takes over: the rules of
    /// sources that both have, and the self check. What is set to nothing is as if it were not there.
    pub fn changed(&self, other: &SettingsTree) -> Vec<String> {
        let mut paths = Vec::new();
        compare("", Some(&self.0), Some(&other.0), &mut paths);
        paths
    }
}

/// Paths alone: the values may be secrets.
impl fmt::Debug for SettingsTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SettingsTree(…)")
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
        if !is_rules(&path) && path != SELF_CHECK {
            compare(&path, members.get(name), others.get(name), paths);
        }
    }
}

/// Tells keys that name rules, which are exchanged while the relay runs. A source's name may hold dots.
fn is_rules(path: &str) -> bool {
    path.strip_prefix("sources.")
        .and_then(|path| path.rsplit_once('.'))
        .is_some_and(|(_, key)| RULES_KEYS.contains(&key))
}

/// The keys of a source that a reload takes over.
const RULES_KEYS: [&str; 2] = ["rules", "rules_shadow"];
/// The section that a reload takes over.
const SELF_CHECK: &str = "self_check";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_changed_key_is_named_and_rules_are_not() {
        let changed = |one: Json, other: Json| SettingsTree(one).changed(&SettingsTree(other));
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
            (
                "the self check",
                json!({ "self_check": { "every": "1m" } }),
                json!({ "self_check": { "every": "2m" } }),
                &[],
            ),
            ("no self check any more", json!({ "self_check": { "every": "1m" } }), json!({}), &[]),
            ("the order of keys", json!({ "a": 1, "b": 2 }), json!({ "b": 2, "a": 1 }), &[]),
        ] {
            assert_eq!(changed(one, other), paths, "{claim}");
        }
    }
}
