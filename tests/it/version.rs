//! What the program says of its own build, and where the build finds the commit.

use std::fs;
use std::path::Path;
use std::process::Command;

#[allow(dead_code, unused_qualifications)]
#[path = "../../build.rs"]
mod build;

const OLD: &str = "1111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222";

fn put(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn the_version_stands_in_the_first_line_and_the_build_below_it() {
    let said = |flag| {
        let ended = Command::new(env!("CARGO_BIN_EXE_gander")).arg(flag).output().unwrap();
        assert!(ended.status.success());
        String::from_utf8(ended.stdout).unwrap()
    };
    let (short, long) = (said("-V"), said("--version"));
    assert_eq!(short, format!("gander {}\n", env!("CARGO_PKG_VERSION")));
    let lines: Vec<&str> = long.lines().collect();
    let [version, commit, features, target, sqlite] = lines[..] else { panic!("{long}") };
    assert_eq!(version, short.trim_end());
    assert!(commit.strip_prefix("commit: ").is_some_and(|commit| !commit.is_empty()), "{long}");
    assert!(features.strip_prefix("features: ").is_some_and(|features| !features.is_empty()), "{long}");
    assert!(target.strip_prefix("target: ").is_some_and(|target| target.contains(std::env::consts::ARCH)), "{long}");
    let linked = sqlite.strip_prefix("SQLite: ").unwrap_or_else(|| panic!("{long}"));
    assert_eq!(linked.split('.').filter(|number| number.parse::<u32>().is_ok()).count(), 3, "{long}");
}

#[test]
fn the_commit_is_read_from_whatever_kind_of_checkout_lies_around_the_manifest() {
    type File<'a> = (&'a str, String);
    let branch = || (".git/HEAD", "ref: refs/heads/main\n".to_owned());
    let packed = format!("# pack-refs with: peeled\n{OLD} refs/heads/mains\n{NEW} refs/heads/main\n^{OLD}\n");
    let rows: [(&str, Vec<File<'_>>, Option<&str>); 8] = [
        ("a branch", vec![branch(), (".git/refs/heads/main", format!("{NEW}\n"))], Some(NEW)),
        ("a branch of a fresh clone", vec![branch(), (".git/packed-refs", packed.clone())], Some(NEW)),
        (
            "a branch that has moved since it was packed",
            vec![branch(), (".git/packed-refs", packed), (".git/refs/heads/main", format!("{OLD}\n"))],
            Some(OLD),
        ),
        ("no branch", vec![(".git/HEAD", format!("{NEW}\n"))], Some(NEW)),
        (
            "a worktree",
            vec![
                (".git", "gitdir: main/.git/worktrees/w\n".to_owned()),
                ("main/.git/worktrees/w/HEAD", "ref: refs/heads/w\n".to_owned()),
                ("main/.git/worktrees/w/commondir", "../..\n".to_owned()),
                ("main/.git/refs/heads/w", format!("{NEW}\n")),
            ],
            Some(NEW),
        ),
        ("a branch without a commit", vec![branch()], None),
        ("a file that is none of git's", vec![(".git", "hello".to_owned())], None),
        ("a tarball", vec![], None),
    ];
    for (claim, files, commit) in rows {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(file, text)| put(folder.path(), file, text));
        let found = build::repository(folder.path()).and_then(|repository| build::commit(&repository));
        assert_eq!(found.as_deref(), commit, "{claim}");
    }
}

#[test]
fn a_repository_further_up_is_another_projects() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), ".git/HEAD", NEW);
    put(folder.path(), "vendored/gander/Cargo.toml", "");
    assert_eq!(build::repository(&folder.path().join("vendored/gander")), None);
}

#[test]
fn the_build_waits_for_no_file_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "HEAD", NEW);
    assert_eq!(build::watched(folder.path()), [folder.path().join("HEAD")]);
}

#[test]
fn commits_are_shortened_and_features_named() {
    assert_eq!(build::short(NEW), "222222222222");
    assert_eq!(build::short("1.0-3~deb\n12"), "1.0-3~deb12");
    let variables = ["CARGO_FEATURE_TWO_WORDS", "CARGO_FEATURE_DEFAULT", "CARGO_FEATURE_ONE", "PATH"];
    assert_eq!(build::features(variables.map(str::to_owned).into_iter()), "one two-words");
    assert_eq!(build::features(std::iter::once("CARGO_FEATURE_DEFAULT".to_owned())), "none");
}
