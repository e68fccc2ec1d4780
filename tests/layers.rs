//! Keeps the house in order: a room uses only rooms of its own layer and of lower ones, and neither rooms nor files use
//! each other in a circle.
//!
//! The map is the table of layers in `src/lib.rs`; a room that is not on it fails here.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module by its path within the crate, which is also that of its file.
type Module = Vec<String>;

/// The layer whose rooms are pure.
const DOMAIN: u8 = 1;

/// What the domain may not name. Of `std::net` addresses may be named, of `Instant` an instant that is given.
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
fn every_room_uses_only_its_own_layer_and_lower_ones() {
    let (layers, house) = (layers(), House::read());
    let mut wrong = Vec::new();
    for (module, used) in house.uses() {
        let Some((room, layer)) = room_of(&layers, &module) else {
            wrong.push(format!("{} is in no room of the map in src/lib.rs", module.join("/")));
            continue;
        };
        for used in used {
            if let Some((other, below)) = room_of(&layers, &used)
                && below > layer
            {
                let (module, used) = (module.join("/"), used.join("/"));
                wrong.push(format!("{module} ({room}, layer {layer}) uses {used} ({other}, layer {below})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_rooms_use_each_other_in_a_circle() {
    let layers = layers();
    let mut rooms: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, used) in House::read().uses() {
        let room = |module: &Module| room_of(&layers, module).map(|(room, _)| vec![room]);
        let Some(own) = room(&module) else { continue };
        rooms.entry(own.clone()).or_default().extend(used.iter().filter_map(room).filter(|other| *other != own));
    }
    assert_eq!(circles(&rooms), Vec::<String>::new());
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut uses = House::read().uses();
    for (module, used) in &mut uses {
        // A module knows its parts, and they what they are parts of.
        used.retain(|used| !used.starts_with(module) && !module.starts_with(used));
    }
    assert_eq!(circles(&uses), Vec::<String>::new());
}

#[test]
fn the_domain_is_pure() {
    let layers = layers();
    let mut wrong = Vec::new();
    for (module, code) in House::read().0 {
        if room_of(&layers, &module).is_some_and(|(_, layer)| layer == DOMAIN) {
            wrong.extend(impure(&code).map(|word| format!("{}: {word}", module.join("/"))));
        }
    }
    assert!(wrong.is_empty(), "the domain is pure:\n{}", wrong.join("\n"));
}

#[test]
fn one_file_has_unsafe_code() {
    let is_unsafe = |code: &String| code.contains("unsafe {") || code.contains("allow(unsafe_code");
    let files = House::read().0.into_iter().filter(|(_, code)| is_unsafe(code)).map(|(module, _)| module.join("/"));
    assert_eq!(files.collect::<Vec<_>>(), ["inherited"]);
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
fn no_spelling_of_a_path_hides_what_it_leads_to() {
    let house = House(
        [
            ("a", "pub mod b; mod c; pub use c::Thing; use b::Other;"),
            ("a/b", "use super::Thing; fn f() { super::d::g(); }"),
            ("a/c", "use crate::a::{b::{self, X}, d as e};"),
            ("a/d", "fn g() { crate::h::i() }"),
            ("h", "use crate::a::Thing;"),
        ]
        .map(|(path, code)| (module(path), code.to_owned()))
        .into(),
    );
    let expected: BTreeMap<Module, BTreeSet<Module>> = [
        ("a", vec!["a/b", "a/c"]),
        ("a/b", vec!["a/c", "a/d"]),
        ("a/c", vec!["a/b", "a/d"]),
        ("a/d", vec!["h"]),
        ("h", vec!["a/c"]),
    ]
    .map(|(path, uses)| (module(path), uses.into_iter().map(module).collect()))
    .into();
    assert_eq!(house.uses(), expected);
    assert_eq!(circles(&expected), ["a/b a/c a/d h"]);
}

#[test]
fn a_line_for_tests_hides_nothing_after_it() {
    let text = "mod a;\n#[cfg(test)]\nmod tests;\nuse b::C;\n#[cfg(test)]\nmod more {\n    use d::E;\n}\n";
    assert_eq!(without_tests(text), "mod a;\nuse b::C;\n");
}

#[test]
fn what_one_file_owns_no_other_names() {
    for (owner, word) in
        [("rules/path", "jsonpath_rust"), ("metrics", "prometheus_client"), ("journal/sqlite", "rusqlite")]
    {
        for (module, code) in House::read().0 {
            let named = code.contains(&format!("{word}::"));
            assert!(!named || module.starts_with(&self::module(owner)), "{} names {word}", module.join("/"));
        }
    }
}

/// The code of every module, without tests and comments.
struct House(BTreeMap<Module, String>);

impl House {
    fn read() -> House {
        let mut modules = BTreeMap::new();
        let mut folders = vec![root().join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                // Tests may read clocks and files, as those in a module's own file may.
                if path.is_dir() && !path.ends_with("tests") {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                    let inside = path.strip_prefix(root().join("src")).unwrap().with_extension("");
                    modules.insert(module(inside.to_str().unwrap()), code(&path));
                }
            }
        }
        modules.remove(&module("lib"));
        modules.remove(&module("main"));
        House(modules)
    }

    /// For every module: which others it uses, by whatever name they are told to it.
    fn uses(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let used_by = |module: &Module, code: &str| {
            let paths = self.paths(module, code);
            paths.iter().filter_map(|path| self.lead_to(path, 0)).filter(|used| used != module).collect()
        };
        self.0.iter().map(|(module, code)| (module.clone(), used_by(module, code))).collect()
    }

    /// The paths into the crate that a module's code names.
    fn paths(&self, module: &Module, code: &str) -> Vec<Module> {
        let mut paths = self.imports(module, code);
        let starts = ["crate::", "super::"].iter().flat_map(|start| code.match_indices(start));
        let inline = starts.map(|(at, _)| code[at..].chars().take_while(|c| is_of_path(*c)).collect::<String>());
        // Of an import this finds the beginning only.
        let inline = inline.filter(|path| !path.ends_with("::"));
        paths.extend(inline.filter_map(|path| self.absolute(module, &path)));
        // By the names of its own parts.
        let parts = self.0.keys().filter(|part| part.len() == module.len() + 1 && part.starts_with(module));
        for part in parts {
            let start = format!("{}::", part[module.len()]);
            for (at, _) in code.match_indices(&start) {
                if code[..at].chars().next_back().is_none_or(|before| !is_of_path(before)) {
                    let path: String = code[at..].chars().take_while(|c| is_of_path(*c)).collect();
                    paths.extend(self.absolute(module, &path));
                }
            }
        }
        paths
    }

    fn imports(&self, module: &Module, code: &str) -> Vec<Module> {
        let imports = code.split("use ").skip(1).filter_map(|rest| rest.split(';').next()).flat_map(spelled_out);
        imports.filter_map(|path| self.absolute(module, &path)).collect()
    }

    fn absolute(&self, module: &Module, path: &str) -> Option<Module> {
        let mut path: Vec<String> = path.split("::").map(str::to_owned).collect();
        let mut base = match path[0].as_str() {
            "crate" => return Some(path.split_off(1)),
            "self" | "super" => module.clone(),
            _ => {
                let part = [module.as_slice(), &path[..1]].concat();
                return self.0.contains_key(&part).then(|| [module.as_slice(), &path].concat());
            }
        };
        let up = path.iter().take_while(|word| *word == "super").count();
        base.truncate(base.len().saturating_sub(up));
        let rest = path.into_iter().skip_while(|word| word == "super" || word == "self");
        Some(base.into_iter().chain(rest).collect())
    }

    /// The module that a path leads to: the one that makes the thing, where another hands it on.
    fn lead_to(&self, path: &[String], hops: usize) -> Option<Module> {
        let found = (1..=path.len()).rev().map(|end| &path[..end]).find(|path| self.0.contains_key(*path))?.to_vec();
        if let Some(name) = path.get(found.len())
            && hops < 4
            && let Some(elsewhere) = self.imports(&found, &self.0[&found]).into_iter().find(|import| {
                import.last() == Some(name) && import.len() > found.len() + 1 && import.starts_with(&found)
            })
        {
            return self.lead_to(&elsewhere, hops + 1);
        }
        Some(found)
    }
}

fn module(path: &str) -> Module {
    path.split('/').map(str::to_owned).collect()
}

fn is_of_path(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == ':'
}

/// The groups of nodes that can be reached from each other, each as its names in order.
fn circles(uses: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let reached = |from: &Module| {
        let (mut reached, mut ahead) = (BTreeSet::new(), vec![from]);
        while let Some(next) = ahead.pop() {
            for used in uses.get(next).into_iter().flatten() {
                if reached.insert(used) {
                    ahead.push(used);
                }
            }
        }
        reached
    };
    let all: BTreeMap<&Module, BTreeSet<&Module>> = uses.keys().map(|module| (module, reached(module))).collect();
    let group = |module: &Module| {
        let in_circle = |other: &&Module| all.get(*other).is_some_and(|reached| reached.contains(module));
        all[module].iter().copied().filter(in_circle).map(|module| module.join("/")).collect::<Vec<_>>().join(" ")
    };
    let circles: BTreeSet<String> = uses.keys().map(group).filter(|group| !group.is_empty()).collect();
    circles.into_iter().collect()
}

/// The rooms of the table in `src/lib.rs`, by their paths, with their layers.
fn layers() -> BTreeMap<Module, u8> {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut layers = BTreeMap::new();
    for line in map.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = line.split('|').map(str::trim);
        let (Some(head), Some(rooms)) = (cells.next(), cells.next()) else { continue };
        let Some(layer) = head.split(' ').next().and_then(|number| number.parse().ok()) else { continue };
        for room in rooms.split('`').skip(1).step_by(2) {
            layers.insert(module(room), layer);
        }
    }
    assert!(layers.len() > 20, "the map in src/lib.rs was not read: {layers:?}");
    layers
}

/// The room that a module is in: the part of the house with the longest path that holds it.
fn room_of(layers: &BTreeMap<Module, u8>, module: &Module) -> Option<(String, u8)> {
    let rooms = (1..=module.len()).rev().map(|end| module[..end].to_vec());
    rooms.filter_map(|room| layers.get(&room).map(|layer| (room.join("/"), *layer))).next()
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
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// A file without its tests and comments.
fn code(path: &Path) -> String {
    let text = without_tests(&fs::read_to_string(path).unwrap());
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// A text up to its first block that only tests see, without the single lines before it.
fn without_tests(text: &str) -> String {
    let mut parts = text.split("#[cfg(test)]\n");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let Some((_, rest)) = part.split_once('\n').filter(|(item, _)| item.ends_with(';')) else { break };
        kept.push_str(rest);
    }
    kept
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
