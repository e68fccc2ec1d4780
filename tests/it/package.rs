//! What `config/deploy/package` makes: installed, used, upgraded, downgraded and taken away by dpkg itself.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const HIGHER: &str = "99.0.0";

/// The artefacts of this build in a directory; the Debian package in this version, else the program's.
fn packed(into: &Path, version: Option<&str>) -> String {
    let mut package = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/deploy/package"));
    package.args(["--fast", "--binary", env!("CARGO_BIN_EXE_gander"), "--output"]).arg(into);
    package.args(version.iter().flat_map(|version| ["--version", version]));
    done(&package.env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap())
}

fn done(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The one file of a directory with this end.
fn file(of: &Path, end: &str) -> std::path::PathBuf {
    let files = fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path());
    let mut found = files.filter(|path| path.to_string_lossy().ends_with(end));
    found.next().unwrap_or_else(|| panic!("no {end} in {}", of.display()))
}

#[test]
fn an_installed_package_keeps_its_events_through_upgrade_downgrade_and_restore_and_is_purged_without_a_trace() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for (name, version) in [("first", None), ("second", Some(HIGHER))] {
        packed(&at.join(name), version);
        fs::rename(file(&at.join(name), ".deb"), at.join(format!("{name}.deb"))).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/package.sh");
    fs::copy(script, at.join("package.sh")).unwrap();
    let mut life = Command::new("timeout");
    life.args(["300", "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "bash"]);
    let said = done(&life.arg(at.join("package.sh")).arg(at).output().unwrap());
    let (_, left) = said.split_once("== what is left\n").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(left, "", "{said}");
    assert!(said.contains("== done\n"), "{said}");
}

#[test]
fn the_same_program_makes_the_same_packages_and_their_sums_are_right() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(packed(one.path(), None), packed(two.path(), None));
    done(&Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(one.path()).output().unwrap());
    let listed = done(&Command::new("tar").arg("-tzf").arg(file(one.path(), ".tar.gz")).output().unwrap());
    for name in ["/gander", "/LICENSE", "/man/gander.1", "/config/gander.yaml", "/config/deploy/systemd/gander.service"]
    {
        assert!(listed.lines().any(|line| line.ends_with(name)), "{name}: {listed}");
    }
}
