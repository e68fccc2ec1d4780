use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cli::init::shipped_files;
use crate::config::{self, Failure, Inputs, Secrets};
use crate::document::{Findings, Source, parse};
use crate::filters::Filters;
use crate::rule_tests;
use crate::rules::RuleSet;

fn schema(kind: Kind) -> Value {
    serde_json::from_str(kind.schema()).unwrap()
}

fn validator(kind: Kind) -> jsonschema::Validator {
    jsonschema::draft7::new(&schema(kind)).unwrap()
}

/// What the program finds in a document of this kind.
fn findings(kind: Kind, text: &str) -> Findings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    std::fs::write(&path, text).unwrap();
    let source = Arc::new(Source { name: path.display().to_string(), text: text.to_owned() });
    let mut findings = Findings::new();
    match kind {
        Kind::Config => {
            let environment = BTreeMap::new();
            match config::load(&Inputs { path, environment, flags: Vec::new(), secrets: Secrets::Optional }) {
                Err(Failure::Invalid(invalid)) => findings = invalid,
                Err(Failure::Unreadable(unreadable)) => panic!("{unreadable}"),
                Ok(loaded) => findings = loaded.warnings,
            }
        }
        Kind::Rules => drop(RuleSet::compile(&source, &mut findings)),
        Kind::Tests => drop(rule_tests::read(&source, None, &mut findings)),
        Kind::Filters => drop(Filters::read(&source, &mut findings)),
    }
    findings
}

#[test]
fn every_shipped_file_and_what_init_writes_fits_its_schema() {
    let mut files: Vec<(String, String)> = shipped_files();
    for folder in ["config", "config/rules"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                files.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(files.len() > 60, "{}", files.len());
    let validators = Kind::ALL.map(|kind| (kind, validator(kind)));
    for (name, text) in files {
        let kind = match name.rsplit('/').next().unwrap() {
            "gander.yaml" => Kind::Config,
            "callgoose-filters.yaml" => Kind::Filters,
            test if test.ends_with(".test.yaml") => Kind::Tests,
            _ => Kind::Rules,
        };
        let up = if matches!(kind, Kind::Rules | Kind::Tests) { "../" } else { "" };
        let line = format!("# yaml-language-server: $schema={up}{}\n", kind.file());
        assert!(text.starts_with(&line), "{name} has to begin with {line}");
        let source = Arc::new(Source { name: name.clone(), text });
        let document = parse(&source, &mut Findings::new()).unwrap().to_json();
        let (_, validator) = validators.iter().find(|(one, _)| *one == kind).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&document).map(|error| format!("{} {error}", error.instance_path())).collect();
        assert_eq!(errors, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_schemas_know_every_key_that_is_read_and_no_other() {
    for (kind, least) in [(Kind::Config, 20), (Kind::Rules, 6), (Kind::Tests, 6), (Kind::Filters, 6)] {
        let schema = schema(kind);
        let mut objects = Vec::new();
        visit(&schema, &schema, &|hole| hole, &[], &mut objects);
        // Whoever serves filters reads their token, and evaluating them needs none.
        objects.retain(|(_, document)| kind != Kind::Filters || document.get("token").is_none());
        let mut compared = 0;
        for (keys, document) in objects {
            let text = document.to_string();
            let found = findings(kind, &text).to_json();
            let unknown = found.as_array().unwrap().iter().find(|one| one["code"] == "unknown-key");
            let unknown = unknown.unwrap_or_else(|| panic!("{kind:?} {text}: {found:#}"));
            let help = unknown["help"].as_str().unwrap();
            let known: BTreeSet<String> =
                help.strip_prefix("valid here: ").unwrap().split(", ").map(str::to_owned).collect();
            assert_eq!(keys, known, "{kind:?}: {text}");
            compared += 1;
        }
        assert!(compared >= least, "{kind:?}: {compared}");
    }
    let found = findings(
        Kind::Rules,
        "{ version: 1, rules: [{ name: a, then: ignore }], emit: { a: { $path: $.a, $zzz: 1 } } }",
    );
    let operators: BTreeSet<String> = found
        .iter()
        .find_map(|one| one.help.as_ref()?.strip_prefix("valid here: ").map(str::to_owned))
        .unwrap()
        .split(", ")
        .map(str::to_owned)
        .collect();
    let definitions = &schema(Kind::Rules)["definitions"];
    let named = |name: &str| definitions[name]["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(operators, [named("operators"), named("literal"), named("mapping")].concat().into_iter().collect());
}

/// Every closed object of a schema: the keys that it may have, and a document with a hole in its place. Alternatives at
/// one place are one object. Those that only operators or combinators tell apart are left out.
fn visit(
    schema: &Value,
    root: &Value,
    wrap: &dyn Fn(Value) -> Value,
    stack: &[String],
    objects: &mut Vec<(BTreeSet<String>, Value)>,
) {
    let alternatives = resolved(schema, root, stack);
    let mut keys = BTreeSet::new();
    for (alternative, stack) in &alternatives {
        if let Some(items) = alternative.get("items") {
            visit(items, root, &|hole| wrap(json!([hole])), stack, objects);
        }
        if let Some(more @ Value::Object(_)) = alternative.get("additionalProperties") {
            visit(more, root, &|hole| wrap(json!({ "s": hole })), stack, objects);
        }
        let Some(properties) = alternative.get("properties").and_then(Value::as_object) else {
            continue;
        };
        let special =
            properties.keys().any(|key| key.starts_with('$') || ["all", "any", "not"].contains(&key.as_str()));
        for (name, property) in properties {
            visit(property, root, &|hole| wrap(json!({ name.as_str(): hole })), stack, objects);
            if !special && alternative["additionalProperties"] == false {
                keys.insert(name.clone());
            }
        }
    }
    if !keys.is_empty() {
        objects.push((keys, wrap(json!({ HOLE: 1 }))));
    }
}

/// What a schema stands for, once references and alternatives are followed; what is being visited is not again.
fn resolved<'s>(schema: &'s Value, root: &'s Value, stack: &[String]) -> Vec<(&'s Value, Vec<String>)> {
    if let Some(reference) = schema["$ref"].as_str() {
        if stack.iter().any(|one| one == reference) {
            return Vec::new();
        }
        let stack = [stack, &[reference.to_owned()]].concat();
        return resolved(root.pointer(&reference[1..]).unwrap(), root, &stack);
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        // A test has `payload` or `payload_file`: conditions on one object, no alternatives to it.
        Some(alternatives) if schema.get("properties").is_none() => {
            alternatives.iter().flat_map(|one| resolved(one, root, stack)).collect()
        }
        _ => vec![(schema, stack.to_vec())],
    }
}

/// A key that is near to none.
const HOLE: &str = "zzzzzzzzzzzzzzzz";

#[test]
fn what_a_schema_refuses_is_refused() {
    let config = |part: &str| {
        format!(
            "{{ sources: {{ s: {{ rules: r.yaml, auth: none }} }}, upstream: {{ url: 'https://a/', authorization: {{ bearer: {{ env: A }} }} }}, {part} }}"
        )
    };
    let rules =
        |part: &str| format!("{{ version: 1, incident_key: $.id, rules: [{{ name: a, then: trigger, {part} }}] }}");
    for (kind, text) in [
        (Kind::Config, config("dedup: { window: soon }")),
        (Kind::Config, config("dedup: { window: 10 }")),
        (Kind::Config, config("listen: { max_body: 1PB }")),
        (Kind::Config, config("listen: { tls: on }")),
        (Kind::Config, config("log: { level: loud }")),
        (Kind::Config, config("journal: { max_events: 0 }")),
        (Kind::Config, config("upstreams: {}")),
        (Kind::Config, "{ sources: {}, upstream: {} }".to_owned()),
        (Kind::Rules, rules("when: { path: state, equals: x }")),
        (Kind::Rules, rules("when: { path: $.a }")),
        (Kind::Rules, rules("when: { all: [] }")),
        (Kind::Rules, rules("when: { all: [{ path: $.a, exists: true }], path: $.a }")),
        (Kind::Rules, rules("when: { path: $.a, gt: high }")),
        (Kind::Rules, rules("when: { path: $.a, type: text }")),
        (Kind::Rules, rules("emit: { a: { $path: $.a, b: 1 } }")),
        (Kind::Rules, rules("emit: { a: { $truncate: 0, $path: $.a } }")),
        (Kind::Rules, rules("emit: { $path: $.a }")),
        (Kind::Rules, "{ version: 2, rules: [{ name: a, then: ignore }] }".to_owned()),
        (Kind::Rules, "{ version: 1, rules: [] }".to_owned()),
        (Kind::Tests, "{ rules: r.yaml, tests: [{ name: a, expect: { verdict: events } }] }".to_owned()),
        (Kind::Tests, "{ rules: r.yaml, tests: [{ name: a, payload: 1, expect: {} }] }".to_owned()),
        (Kind::Filters, "{ services: [{ name: a, trigger: [] }] }".to_owned()),
        (
            Kind::Filters,
            format!(
                "{{ services: [{{ name: a, trigger: [{{ urgency: high, keys: [{{ key: a, contains: [{}] }}] }}] }}] }}",
                "x".repeat(51)
            ),
        ),
    ] {
        let source = Arc::new(Source { name: "file.yaml".into(), text: text.clone() });
        let document = parse(&source, &mut Findings::new()).unwrap().to_json();
        assert!(!validator(kind).is_valid(&document), "the schema takes {text}");
        let found = findings(kind, &text);
        assert!(found.has_errors(), "the program takes {text}");
    }
}

#[test]
fn everything_is_described() {
    fn look(schema: &Value, at: &str, missing: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) && property.get("$ref").is_none() {
                missing.push(at.clone());
            }
            look(property, &at, missing);
        }
        for key in ["anyOf", "items", "additionalProperties"] {
            match &schema[key] {
                Value::Array(parts) => parts.iter().for_each(|part| look(part, at, missing)),
                part @ Value::Object(_) => look(part, at, missing),
                _ => {}
            }
        }
        for (name, definition) in schema["definitions"].as_object().into_iter().flatten() {
            look(definition, &format!("{at}#{name}"), missing);
        }
    }
    for kind in Kind::ALL {
        let mut missing = Vec::new();
        look(&schema(kind), "", &mut missing);
        assert_eq!(missing, Vec::<String>::new(), "{kind:?}");
    }
}
