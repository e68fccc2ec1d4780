//! The files of `config/deploy`, as the tools that use it read it.

use std::path::Path;
use std::process::Command;

/// The directory of what is shipped for systemd, with this build in place of the installed program.
fn units() -> tempfile::TempDir {
    let (directory, shipped) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    for unit in ["gander.service", "gander.socket"] {
        let text = std::fs::read_to_string(shipped.join("config/deploy/systemd").join(unit)).unwrap();
        let text = text.replace("ExecStart=/usr/bin/gander", concat!("ExecStart=", env!("CARGO_BIN_EXE_gander")));
        std::fs::write(directory.path().join(unit), text).unwrap();
    }
    directory
}

#[test]
fn systemd_reads_the_units_without_a_complaint() {
    let units = units();
    let files = ["gander.service", "gander.socket"].map(|unit| units.path().join(unit));
    let told = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(files).output().unwrap();
    // Of other units of this machine it complains, too.
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(!said.contains("gander."), "{said}");
}

#[test]
fn the_exposure_of_the_unit_is_at_most_two() {
    let units = units();
    let told = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
        .arg(units.path().join("gander.service"))
        .output()
        .unwrap();
    assert!(
        told.status.success(),
        "{}{}",
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr)
    );
}
