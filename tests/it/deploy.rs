//! The files of `config/deploy`, as the tools that use it read it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use regex::Regex;

use crate::pages::read;

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

#[test]
fn what_can_go_wrong_names_every_alert_and_every_reason_that_there_is_and_no_other() {
    let trouble = read("config/deploy/TROUBLE.md");
    let all = |pattern: &str, text: &str| -> BTreeSet<String> {
        Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
    };
    let alerts = all(r"- alert: (\w+)", &read("config/deploy/prometheus/alerts.yaml"));
    assert_eq!(all("`(Gander[A-Z][A-Za-z]+)`", &trouble), alerts);
    let monitoring = read("config/MONITORING.md");
    let (_, rest) = monitoring.split_once("## Alive and ready").unwrap();
    let (_, rows) = rest.split_once("| --- | --- | --- |").unwrap();
    let reasons = all(r"(?m)^\| `(\w+)` \|", rows.split("\n## ").next().unwrap());
    assert!(reasons.len() > 15, "{reasons:?}");
    let untold: Vec<_> = reasons.iter().filter(|reason| !trouble.contains(&format!("`{reason}`"))).collect();
    assert!(untold.is_empty(), "{untold:?}");
}

#[test]
fn the_secrets_of_the_pages_are_those_that_the_configurations_read() {
    let page = read("config/deploy/kubernetes/README.md");
    let configuration = read("config/deploy/kubernetes/base/gander.yaml");
    for found in Regex::new(r"/run/secrets/gander/([\w-]+)").unwrap().captures_iter(&configuration) {
        assert!(page.contains(&format!("--from-literal={}=", &found[1])), "{}", &found[1]);
    }
    let page = read("config/deploy/compose/README.md");
    for found in Regex::new(r"\$\{(\w+):\?").unwrap().captures_iter(&read("config/deploy/compose/compose.yaml")) {
        assert!(page.contains(&format!("{}=$(", &found[1])), "{}", &found[1]);
    }
}
