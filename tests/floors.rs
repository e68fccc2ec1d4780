//! Keeps the floors of the house: a module uses only modules of lower floors, and no two use each other.
//!
//! The map is the one in `src/lib.rs`; a module that is not on it fails here.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that stand beside floors 2 to 6: those may use them, and they use nothing above floor 0.
const BESIDE: [&str; 5] = ["files", "metrics", "logging", "shutdown", "supervision"];

/// Floors whose modules may use each other: words are made of words, decisions of decisions.
const SHARED_FLOORS: [f32; 3] = [0.0, 1.0, 6.0];

/// What floor 1 may not name: it is pure. Of `std::net` addresses may be named, of `Instant` an instant that is given.
const IMPURE: [&str; 14] = [
    "tokio",
    "hyper",
    "hyper_util",
    "std::fs",
    "std::process",
    "std::os::unix",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "UnixDatagram",
    "Instant::now",
    "SystemTime::now",
];

#[test]
fn every_module_uses_only_lower_floors() {
    let floors = floors();
    let mut wrong = Vec::new();
    for (module, uses) in uses() {
        let Some(floor) = floor_of(&floors, &module) else {
            wrong.push(format!("`{module}` is not on the map in src/lib.rs"));
            continue;
        };
        for used in uses.iter().filter(|used| **used != module) {
            let fits = match floor_of(&floors, used) {
                None => {
                    wrong.push(format!("`{module}` uses `{used}`, which is not on the map"));
                    continue;
                }
                Some(_) if BESIDE.contains(&used.as_str()) => floor >= 2.0,
                Some(_) if BESIDE.contains(&module.as_str()) => floors.get(used) == Some(&0),
                Some(other) => other < floor || other == floor && SHARED_FLOORS.contains(&floor),
            };
            if !fits {
                wrong.push(format!("`{module}` (floor {floor}) uses `{used}` on no lower floor"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_modules_use_each_other() {
    let uses = uses();
    for module in uses.keys() {
        let mut reached = BTreeSet::new();
        let mut ahead: Vec<&String> = uses[module].iter().filter(|used| *used != module).collect();
        while let Some(next) = ahead.pop() {
            assert_ne!(next, module, "a circle of uses leads back to `{module}`");
            if reached.insert(next)
                && let Some(further) = uses.get(next)
            {
                ahead.extend(further.iter().filter(|used| *used != next));
            }
        }
    }
}

#[test]
fn decisions_are_pure() {
    let pure: BTreeSet<String> =
        floors().into_iter().filter(|(_, floor)| *floor == 1).map(|(module, _)| module).collect();
    let mut wrong = Vec::new();
    for path in sources() {
        if !pure.contains(&module_of(&path)) {
            continue;
        }
        wrong.extend(impure(&code(&path)).map(|word| format!("{}: {word}", path.display())));
    }
    assert!(wrong.is_empty(), "floor 1 is pure:\n{}", wrong.join("\n"));
}

#[test]
fn no_spelling_of_an_import_hides_it() {
    for (code, word) in [
        ("use std::fs;", "std::fs"),
        ("use std::fs::File;", "std::fs"),
        ("use std::fs as files;", "std::fs"),
        ("use std::{fmt, fs};", "std::fs"),
        ("use std::{\n    collections::{BTreeMap, HashMap},\n    fs::{self, File},\n};", "std::fs"),
        ("use std::{net::{IpAddr, TcpStream}};", "TcpStream"),
        ("let socket = std::net::TcpListener::bind(a);", "TcpListener"),
        ("let now = std::time::Instant::now();", "Instant::now"),
        ("use tokio::time;", "tokio"),
        ("use {regex::Regex, tokio};", "tokio"),
    ] {
        assert_eq!(impure(code).collect::<Vec<_>>(), [word], "{code}");
    }
    let pure = "use std::{fmt, net::IpAddr};\nuse std::time::Instant;\nlet fs = tokio_free(hyperbola);";
    assert_eq!(impure(pure).count(), 0);
}

#[test]
fn what_one_file_owns_no_other_names() {
    for (owner, word) in
        [("src/rules/path.rs", "jsonpath_rust"), ("src/metrics.rs", "prometheus_client"), ("src/journal", "rusqlite")]
    {
        for path in sources() {
            let named = code(&path).contains(&format!("{word}::"));
            assert!(!named || path.to_string_lossy().contains(owner), "{} names {word}", path.display());
        }
    }
}

/// Which of [`IMPURE`] a code names, in whatever form of import or path.
fn impure(code: &str) -> impl Iterator<Item = &'static str> {
    let mut named = BTreeSet::new();
    for import in code.split("use ").skip(1).filter_map(|rest| rest.split(';').next()) {
        named.extend(spelled_out(import));
    }
    // Whole names only: `tokio_free` is not `tokio`.
    let names = |path: &str| {
        code.match_indices(path).any(|(at, _)| {
            let before = code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
            let after = code[at + path.len()..].chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
            before && after
        })
    };
    let found = IMPURE.into_iter().filter(move |path| {
        names(path) || named.iter().any(|import| import == path || import.starts_with(&format!("{path}::")))
    });
    found.collect::<Vec<_>>().into_iter()
}

/// The paths of one import: `std::{fs, io::{self, Read}}` are `std::fs`, `std::io::self` and `std::io::Read`.
fn spelled_out(import: &str) -> Vec<String> {
    let import = import.trim();
    let Some((prefix, group)) = import.split_once('{') else {
        let path = import.split(" as ").next().unwrap_or_default();
        return vec![path.split_whitespace().collect()];
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    parts(group).into_iter().flat_map(spelled_out).map(|path| format!("{prefix}{path}")).collect()
}

/// The floors of the table in `src/lib.rs`.
fn floors() -> BTreeMap<String, u8> {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut floors = BTreeMap::new();
    for line in map.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = line.split('|').map(str::trim);
        let (Some(head), Some(modules)) = (cells.next(), cells.next()) else { continue };
        let Some(floor) = head.split(' ').next().and_then(|number| number.parse().ok()) else { continue };
        for module in modules.split('[').skip(1).filter_map(|part| part.split(']').next()) {
            floors.insert(module.trim_matches('`').to_owned(), floor);
        }
    }
    assert!(floors.len() > 20, "the map in src/lib.rs was not read: {floors:?}");
    floors
}

fn floor_of(floors: &BTreeMap<String, u8>, module: &str) -> Option<f32> {
    if BESIDE.contains(&module) {
        return Some(1.5);
    }
    floors.get(module).map(|floor| f32::from(*floor))
}

/// For every module of the crate's root: which others its files name as `crate::…`.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources() {
        let module = module_of(&path);
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let text = code(&path);
        let used = uses.entry(module).or_default();
        for part in text.split("crate::").skip(1) {
            if let Some(group) = part.strip_prefix('{') {
                let group = group.split("};").next().unwrap_or_default();
                used.extend(top_level(group));
            } else {
                used.insert(word(part));
            }
        }
    }
    uses
}

/// The first words of a group of imports: `a::{b, c}, d` are `a` and `d`.
fn top_level(group: &str) -> Vec<String> {
    let mut words: Vec<String> = parts(group).into_iter().map(|part| word(part.trim())).collect();
    words.retain(|word| !word.is_empty());
    words
}

/// The parts of a group, split at its own commas.
fn parts(group: &str) -> Vec<&str> {
    let (mut depth, mut parts, mut start) = (0, Vec::new(), 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// A file without its tests and comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").map_or(first.clone(), str::to_owned)
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Tests may read clocks and files, as those in a module's own file may.
                if !path.ends_with("tests") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
