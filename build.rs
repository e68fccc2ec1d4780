//! Tells the program which commit and features it is built from, and for which target; `src/version.rs` reads it.
//!
//! The commit is `GANDER_COMMIT` where a packager sets it. A release build without it reads the repository that it lies
//! in, if there is one, without running git. Other builds know none, so that a commit makes nothing compile again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let set = env::var(COMMIT).ok().filter(|commit| !commit.trim().is_empty());
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = set.or_else(|| {
        let root = env::var_os("CARGO_MANIFEST_DIR").filter(|_| is_release)?;
        let repository = repository(Path::new(&root))?;
        for file in watched(&repository) {
            println!("cargo::rerun-if-changed={}", file.display());
        }
        commit(&repository)
    });
    let commit = commit.map_or_else(|| "unknown".to_owned(), |commit| short(&commit));
    println!("cargo::rustc-env={COMMIT}={commit}");
    println!("cargo::rustc-env=GANDER_FEATURES={}", features(env::vars().map(|(name, _)| name)));
    println!("cargo::rustc-env=GANDER_TARGET={}", env::var("TARGET").unwrap_or_else(|_| "unknown".to_owned()));
}

/// The directory that keeps the state of the checkout at `root`: `.git`, or in a worktree what that file points to.
/// Directories above are another project's.
pub(crate) fn repository(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let pointer = fs::read_to_string(git).ok()?;
    Some(root.join(pointer.strip_prefix("gitdir: ")?.trim_end()))
}

/// The commit that is checked out, in hexadecimal.
pub(crate) fn commit(repository: &Path) -> Option<String> {
    let head = fs::read_to_string(repository.join("HEAD")).ok()?;
    let Some(reference) = head.trim_end().strip_prefix("ref: ") else {
        return hexadecimal(&head);
    };
    let common = fs::read_to_string(repository.join("commondir"));
    let common = common.map_or_else(|_| repository.to_owned(), |path| repository.join(path.trim_end()));
    if let Ok(loose) = fs::read_to_string(common.join(reference)) {
        return hexadecimal(&loose);
    }
    let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| hexadecimal(line.strip_suffix(reference)?.strip_suffix(' ')?))
}

/// The files of a repository that change with each commit and checkout. Only such as are there: cargo takes one that is
/// missing for changed.
pub(crate) fn watched(repository: &Path) -> Vec<PathBuf> {
    ["HEAD", "logs/HEAD"].map(|file| repository.join(file)).into_iter().filter(|file| file.is_file()).collect()
}

fn hexadecimal(text: &str) -> Option<String> {
    let text = text.trim_end();
    (text.len() >= SHORT && text.chars().all(|c| c.is_ascii_hexdigit())).then(|| text.to_owned())
}

/// As much of a commit as people write; a packager's own word stays as it is.
pub(crate) fn short(commit: &str) -> String {
    match hexadecimal(commit) {
        Some(commit) => commit[..SHORT].to_owned(),
        None => commit.trim().replace(char::is_control, ""),
    }
}

/// The features that cargo names in the environment of a build script, without `default`, which means nothing.
pub(crate) fn features(variables: impl Iterator<Item = String>) -> String {
    let names =
        variables.filter_map(|name| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase().replace('_', "-")));
    let mut names: Vec<String> = names.filter(|name| name != "default").collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

const COMMIT: &str = "GANDER_COMMIT";
const SHORT: usize = 12;
