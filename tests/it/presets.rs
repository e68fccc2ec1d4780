//! The rule files that are shipped, one for each kind of sender: without a finding, and as good as their tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gander::exports::rules::RuleSet;
use gander::exports::yaml::{Findings, Source};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules")
}

/// The names of the presets: each rule file without `.yaml`.
fn presets() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .filter(|name| !name.ends_with(".test"))
        .collect();
    names.sort();
    names
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn a_preset_compiles_without_a_finding() {
    for preset in presets() {
        let name = format!("{preset}.yaml");
        let source = Arc::new(Source::new(name.clone(), text(&name)));
        let mut findings = Findings::new();
        let rules = RuleSet::compile(&source, &mut findings);
        assert!(rules.is_some() && findings.is_empty(), "{}", findings.render(false));
    }
}

/// What Callgoose would do with the events is part of it: the same two filters serve every sender. That the tests pass is
/// tested beside `gander test`.
#[test]
fn a_preset_is_tested_both_ways_with_a_repeat_and_a_refusal() {
    for preset in presets() {
        let tests = text(&format!("{preset}.test.yaml"));
        for part in [
            "filters: ../callgoose-filters.yaml",
            "outcome: created",
            "outcome: resolved",
            "status: duplicate",
            "verdict: refused",
        ] {
            assert!(tests.contains(part), "{preset}.test.yaml has no `{part}`");
        }
    }
}

/// Incident keys of two senders may be equal, and a resolve of the one must not close the other's incident.
#[test]
fn what_callgoose_maps_by_names_its_sender() {
    for preset in presets().iter().filter(|preset| *preset != "servicepilot") {
        let mapped = "\n  servicepilot_event_id: '{{ source }}/{{ incident_key }}'\n";
        assert!(text(&format!("{preset}.yaml")).contains(mapped), "{preset}");
    }
}
