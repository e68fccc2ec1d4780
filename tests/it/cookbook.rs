//! The cookbook, run: every recipe's rules compile without a finding, and give the results that stand beside them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gander::exports::cli::test;
use gander::exports::rules::RuleSet;
use gander::exports::yaml::{Findings, Source};
use serde_json::Value;

const COOKBOOK: &str = include_str!("../../config/rules/COOKBOOK.md");

/// A task, with what stands in its fences.
#[derive(Debug, Default)]
struct Recipe<'a> {
    title: &'a str,
    rules: Option<String>,
    /// Payloads with the results that follow them.
    cases: Vec<(String, String)>,
    tests: Vec<String>,
}

/// The recipes of the cookbook. What is no recipe in it is a mistake, so that none is left out unseen.
fn recipes(markdown: &str) -> Result<Vec<Recipe<'_>>, String> {
    let mut recipes: Vec<Recipe<'_>> = Vec::new();
    let mut fence: Option<(&str, String)> = None;
    let mut payload: Option<String> = None;
    for (number, line) in (1..).zip(markdown.lines()) {
        let mistake = |what: &str| Err(format!("COOKBOOK.md:{number}: {what}"));
        fence = match (fence, line.strip_prefix("```")) {
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    recipes.push(Recipe { title, ..Recipe::default() });
                }
                None
            }
            (None, Some(info)) => Some((info, String::new())),
            (Some((info, text)), None) => Some((info, text + line + "\n")),
            (Some((info, text)), Some(_)) => {
                let Some(recipe) = recipes.last_mut() else {
                    return mistake("a fence before the first recipe");
                };
                match (info, payload.take()) {
                    ("yaml rules", None) if recipe.rules.is_none() => recipe.rules = Some(text),
                    ("json payload" | "text payload", None) => payload = Some(text),
                    ("json result", Some(payload)) => recipe.cases.push((payload, text)),
                    ("yaml tests", None) => recipe.tests.push(text),
                    _ => return mistake(&format!("a fence `{info}` that is not expected here")),
                }
                None
            }
        };
    }
    if fence.is_some() || payload.is_some() {
        return Err("the last fence or payload has no end".to_owned());
    }
    Ok(recipes)
}

/// Where `found` is not what is expected: of objects only the named members count, of all else everything.
fn differences(at: &str, expected: &Value, found: &Value, out: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (name, expected) in expected {
                differences(&format!("{at}.{name}"), expected, found.get(name).unwrap_or(&Value::Null), out);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                differences(&format!("{at}[{index}]"), expected, found, out);
            }
        }
        (expected, found) if expected == found => {}
        (expected, found) => out.push(format!("  {at}\n    expected  {expected}\n    found     {found}")),
    }
}

/// What `gander explain --json` says of a payload, by the rules in `folder`.
fn explained(folder: &Path, payload: &str) -> Value {
    std::fs::write(folder.join("payload.json"), payload).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_gander"))
        .current_dir(folder)
        .env_clear()
        .args(["explain", "--json", "--config", "gander.yaml", "--source", "recipe", "payload.json"])
        .output()
        .unwrap();
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// What is wrong with a recipe.
fn tried(recipe: &Recipe<'_>) -> Vec<String> {
    let Some(rules) = &recipe.rules else {
        return vec!["  it has no rules".to_owned()];
    };
    if recipe.cases.is_empty() && recipe.tests.is_empty() {
        return vec!["  it shows no result".to_owned()];
    }
    let mut findings = Findings::new();
    let _ = RuleSet::compile(&Arc::new(Source::new("rules.yaml".into(), rules.clone())), &mut findings);
    if !findings.is_empty() {
        return vec![findings.render(false)];
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gander.yaml"), CONFIGURATION).unwrap();
    std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    let mut wrong = Vec::new();
    for (payload, expected) in &recipe.cases {
        match serde_json::from_str(expected) {
            Ok(expected) => differences("result", &expected, &explained(folder.path(), payload), &mut wrong),
            Err(error) => wrong.push(format!("  a result is no JSON: {error}")),
        }
    }
    for tests in &recipe.tests {
        let file = folder.path().join("rules.test.yaml");
        std::fs::write(&file, tests).unwrap();
        let report = test::test(&[file], None);
        if report.exit_code() != 0 {
            let mut told = Vec::new();
            report.write(false, &mut told).unwrap();
            wrong.push(String::from_utf8(told).unwrap() + &report.findings.render(false));
        }
    }
    wrong
}

#[test]
fn every_recipe_gives_what_it_shows() {
    let recipes = recipes(COOKBOOK).unwrap();
    assert!(recipes.len() >= 15, "{} recipes", recipes.len());
    let wrong: Vec<String> = recipes
        .iter()
        .filter_map(|recipe| match tried(recipe) {
            wrong if wrong.is_empty() => None,
            wrong => Some(format!("{}\n{}", recipe.title, wrong.join("\n"))),
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

#[test]
fn a_recipe_that_is_wrong_is_told_by_its_title_and_what_differs() {
    let broken = COOKBOOK.replace(r#""index": 2, "action": "resolve""#, r#""index": 2, "action": "trigger""#);
    let recipe = recipes(&broken).unwrap().into_iter().find(|recipe| recipe.title.starts_with("A batch")).unwrap();
    let wrong = tried(&recipe);
    assert_eq!(wrong, ["  result.events[1].action\n    expected  \"trigger\"\n    found     \"resolve\""]);

    for (from, to, expected) in [
        ("```json result", "```json", "that is not expected here"),
        ("```yaml rules", "```yaml", "that is not expected here"),
        ("# Cookbook", "```yaml rules\n```", "a fence before the first recipe"),
    ] {
        let told = recipes(&COOKBOOK.replacen(from, to, 1)).unwrap_err();
        assert!(told.contains(expected), "{told}");
    }
    let end = COOKBOOK.trim_end().strip_suffix("```").unwrap();
    assert_eq!(recipes(end).unwrap_err(), "the last fence or payload has no end");
}

const CONFIGURATION: &str = "\
sources: { recipe: { rules: rules.yaml, auth: none, json: lenient, accept: [json, form] } }
upstream: { url: 'https://callgoose.example/', authorization: { bearer: { env: CALLGOOSE_TOKEN } } }
";
