//! The cookbook, run: every recipe's rules compile without a finding, and give the results that stand beside them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gander::exports::cli::test;
use gander::exports::rules::RuleSet;
use gander::exports::yaml::{Findings, Source};
use http::Method;
use serde_json::{Value, json};

use crate::bodies::gzip;
use crate::relay::{Relay, Setup, TOKEN, within};
use crate::upstream::{Reply, Upstream};

const COOKBOOK: &str = include_str!("../../config/rules/COOKBOOK.md");

/// A task, with what stands in its fences.
#[derive(Debug, Default)]
struct Recipe<'a> {
    title: &'a str,
    rules: Option<String>,
    /// Payloads with the results that follow them.
    cases: Vec<(String, String)>,
    tests: Vec<String>,
    /// Keys beside the rules in `gander.yaml`.
    source: String,
    /// Requests to such a source with their answers.
    exchanges: Vec<(String, String)>,
}

/// The recipes of the cookbook. What is no recipe in it is a mistake, so that none is left out unseen.
fn recipes(markdown: &str) -> Result<Vec<Recipe<'_>>, String> {
    let mut recipes: Vec<Recipe<'_>> = Vec::new();
    let mut fence: Option<(&str, String)> = None;
    let mut payload: Option<String> = None;
    let mut request: Option<String> = None;
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
                match (info, payload.take(), request.take()) {
                    ("yaml rules", None, None) if recipe.rules.is_none() => recipe.rules = Some(text),
                    ("yaml source", None, None) if recipe.source.is_empty() => recipe.source = text,
                    ("json payload" | "text payload", None, None) => payload = Some(text),
                    ("json result", Some(payload), None) => recipe.cases.push((payload, text)),
                    ("http request", None, None) => request = Some(text),
                    ("json answer", None, Some(request)) => recipe.exchanges.push((request, text)),
                    ("yaml tests", None, None) => recipe.tests.push(text),
                    _ => return mistake(&format!("a fence `{info}` that is not expected here")),
                }
                None
            }
        };
    }
    if fence.is_some() || payload.is_some() || request.is_some() {
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
    if recipe.cases.is_empty() && recipe.tests.is_empty() && recipe.exchanges.is_empty() {
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

/// Sends a request of a recipe: its method, headers and body, which is packed here where a header says that it is. An
/// alert shows the token; who looks first has none.
async fn answered(relay: &Relay, request: &str) -> Value {
    let (head, body) = request.split_once("\n\n").unwrap_or((request.trim_end(), ""));
    let mut lines = head.lines();
    let method: Method = lines.next().unwrap_or_default().parse().unwrap();
    let mut headers: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    let is_packed = headers.contains(&("Content-Encoding", "gzip"));
    let body = if is_packed { gzip(body.as_bytes()) } else { body.as_bytes().to_vec() };
    let bearer = format!("Bearer {TOKEN}");
    if method == Method::POST {
        headers.push(("Authorization", &bearer));
    }
    let answer = relay.client.send_bytes(method, &relay.hook("servicepilot"), &headers, body).await;
    json!({ "status": answer.status.as_u16(), "body": answer.json })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_recipe_is_answered_as_it_shows() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let mut wrong = Vec::new();
        let mut tried = 0;
        for recipe in recipes(COOKBOOK).unwrap() {
            assert_eq!(recipe.source.is_empty(), recipe.exchanges.is_empty(), "{}", recipe.title);
            if recipe.exchanges.is_empty() {
                continue;
            }
            let source = recipe.source.lines().map(str::to_owned).collect();
            let setup = Setup { source, rules: recipe.rules, ..Setup::default() };
            let relay = Relay::start(&upstream, &setup).await;
            for (request, expected) in &recipe.exchanges {
                let expected = serde_json::from_str(expected).unwrap();
                differences(recipe.title, &expected, &answered(&relay, request).await, &mut wrong);
                tried += 1;
            }
            relay.stop().await;
        }
        assert!(tried >= 6, "{tried} requests");
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    })
    .await;
}

#[test]
fn the_contents_name_every_recipe_in_its_order() {
    let listed =
        COOKBOOK.lines().filter_map(|line| line.strip_prefix("- [")?.split_once("](#").map(|(title, _)| title));
    let recipes = recipes(COOKBOOK).unwrap();
    assert_eq!(listed.collect::<Vec<_>>(), recipes.iter().map(|recipe| recipe.title).collect::<Vec<_>>());
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
