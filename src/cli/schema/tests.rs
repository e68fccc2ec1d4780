use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::authoring::rule_tests;
use crate::callgoose::filters::Filters;
use crate::cli::init::shipped_files;
use crate::config::{self, Failure, Inputs, Secrets};
use crate::rules::RuleSet;
use crate::yaml::{Findings, Source, parse};

fn schema(kind: Kind) -> Value {
    serde_json::from_str(kind.schema()).unwrap()
}

fn validator(kind: Kind) -> jsonschema::Validator {
    jsonschema::draft7::new(&schema(kind)).unwrap()
}

/// The program's findings in a document of this kind.
fn findings(kind: Kind, text: &str) -> Findings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.path().join("rules.yaml"), "{ version: 1, rules: [{ name: a, then: ignore }] }").unwrap();
    let source = Arc::new(Source::new(path.display().to_string(), text.to_owned()));
    let mut findings = Findings::new();
    match kind {
        Kind::Config => {
            let environment = BTreeMap::new();
            match config::load(&Inputs { path, environment, flags: Vec::new(), secrets: Secrets::Optional }) {
                Err(Failure::Invalid(invalid)) => findings = invalid,
                Err(Failure::Unreadable(unreadable)) => panic!("{unreadable}"),
                Ok(loaded) => {
                    findings = loaded.warnings;
                    findings.extend(loaded.shadow);
                }
            }
        }
        Kind::Rules => drop(RuleSet::compile(&source, &mut findings)),
        Kind::Tests => drop(rule_tests::read(&source, None, &mut config::FileStamps::default(), &mut findings)),
        Kind::Filters => drop(Filters::read(&source, &mut findings)),
        Kind::Api => unreachable!("nobody writes a file of it"),
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
        let source = Arc::new(Source::new(name.clone(), text));
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
    let help = found.iter().find_map(|one| one.help.as_ref()?.strip_prefix("valid here: ")).unwrap();
    let operators: BTreeSet<&str> = help.split(", ").collect();
    let schema = schema(Kind::Rules);
    let named = schema["definitions"]["value"]["properties"].as_object().unwrap();
    assert_eq!(operators, named.keys().map(String::as_str).collect());
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
        for more in
            alternative.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(|all| all.values())
        {
            visit(more, root, &|hole| wrap(json!({ "s": hole })), stack, objects);
        }
        let Some(properties) = alternative.get("properties").and_then(Value::as_object) else {
            continue;
        };
        let special = |key: &str| ["all", "any", "not"].contains(&key);
        for (name, property) in properties {
            visit(property, root, &|hole| wrap(json!({ name.as_str(): hole })), stack, objects);
            if !special(name) && alternative["additionalProperties"] == false {
                keys.insert(name.clone());
            }
        }
    }
    // Operators make a value: what stands among them is told otherwise.
    if keys.iter().any(|key| !key.starts_with('$')) {
        objects.push((keys, wrap(json!({ HOLE: 1 }))));
    }
}

/// The schemas that one stands for, once references and alternatives are followed; one that is being visited is left out.
fn resolved<'s>(schema: &'s Value, root: &'s Value, stack: &[String]) -> Vec<(&'s Value, Vec<String>)> {
    if let Some(reference) = schema["$ref"].as_str() {
        if stack.iter().any(|one| one == reference) {
            return Vec::new();
        }
        let stack = [stack, &[reference.to_owned()]].concat();
        return resolved(root.pointer(&reference[1..]).unwrap(), root, &stack);
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        // With properties beside them they are conditions on one object, no alternatives to it.
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
        (Kind::Config, config("self_check: {}")),
        (Kind::Config, config("self_check: { source: s, trigger: [] }")),
        (Kind::Config, config("upstreams: {}")),
        (Kind::Config, config("").replace("authorization", "proxy: 'ftp://p:1', authorization")),
        (Kind::Config, config("").replace("authorization", "proxy: { ca: x }, authorization")),
        (Kind::Config, config("").replace("authorization", "addresses: [a], authorization")),
        (Kind::Config, config("").replace("authorization", "tls: { min_version: 1.1 }, authorization")),
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
        (Kind::Rules, rules("incident_key: { capture: '(a)' }")),
        (Kind::Rules, rules("incident_key: [{ path: $.a, $first: [$.b] }]")),
        (Kind::Rules, rules("incident_key: [{ $first: [] }]")),
        (Kind::Rules, rules("incident_key: [{ path: $.a, optional: 1 }]")),
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
        let source = Arc::new(Source::new("file.yaml".into(), text.clone()));
        let document = parse(&source, &mut Findings::new()).unwrap().to_json();
        assert!(!validator(kind).is_valid(&document), "the schema takes {text}");
        let found = findings(kind, &text);
        assert!(found.has_errors(), "the program takes {text}");
    }
}

/// Whole documents, with a value for nearly every key.
fn samples() -> Vec<(Kind, Value)> {
    let config = json!({
        "listen": {"address": "127.0.0.1:8443", "tls": "off", "insecure": true, "max_body": "256KiB",
            "max_connections": 10000, "trusted_proxies": ["10.0.0.0/8", "::1"], "proxy_protocol": "required", "header_timeout": "10s", "body_timeout": "1.5m", "idle_timeout": "75s"},
        "admin": {"address": "[::1]:9180", "token": {"env": "ADMIN"}, "tls": "off", "insecure": true,
            "trusted_proxies": ["::1"]},
        "data_dir": "data",
        "sources": {"one": {"rules": "rules.yaml", "rules_shadow": "rules.yaml", "from": "One",
            "auth": [{"bearer": {"env": "ONE"}}, {"header": {"name": "X-Token", "secret": {"file": "token"}}},
                {"query": {"name": "token", "secret": {"sha256": "0".repeat(64)}}},
                {"bearer": [{"env": "ONE"}, {"env": "UP"}]},
                {"basic": {"user": "one", "password": {"env": "ONE"}}},
                {"hmac": {"preset": "slack", "secret": [{"env": "ONE"}], "header": "X-S", "algorithm": "sha1",
                    "encoding": "base64", "prefix": "v1=", "timestamp_header": "X-At", "tolerance": "1m",
                    "signed": "{timestamp}.{body}"}},
                {"hmac": {"header": "X-S", "secret": {"file": "token"}}},
                {"standard_webhooks": {"secrets": [{"env": "HOOKS"}]}}],
            "allow_from": ["10.0.0.0/8", "::1"], "rate_limit": {"per_second": 1, "burst": 1, "answer": 429},
            "json": "lenient",
            "respond": "delivered", "respond_timeout": "10s", "accept": ["json", "form"], "accept_encoding": ["gzip"],
            "probe": "ok", "handshake": {"path": "$.challenge", "member": "answer"}},
            "two": {"kind": "confirmation", "auth": "none", "confirmation": {"source": "one",
                "incident_key": [{"path": "$.a", "capture": "(a)"}, "$.b"],
                "action": {"path": "$.b", "opened": "x", "closed": ["y", 2, true]}}}},
        "upstream": {"url": "https://example.org/path", "authorization": {"bearer": {"env": "UP"}}, "timeout": "10s",
            "concurrency": 16, "rate_limit": {"per_second": 20, "burst": 40}, "insecure": true,
            "proxy": {"url": "https://proxy.example:3128", "credentials": {"env": "PROXY"}, "ca": null,
                "headers": {"X-Team": "payments", "X-Token": {"file": "token"}}},
            "addresses": ["10.0.0.1:443", "[::1]:8443", "egress.example:443"],
            "retry": {"initial": "1ms", "factor": 2, "max": "10m", "give_up_after": "24h",
                "unresolved": {"attempts": 3, "over": "5m"}},
            "breaker": {"failures": 5, "open": "10s"},
            "tls": {"ca": "ca.pem", "client_certificate": "a.pem", "client_key": "a.key", "server_name": "a.example",
                "min_version": "1.3"}},
        "dedup": {"window": "10m", "remind": true, "max_keys": 1000},
        "delivery": {"stale": {"trigger": "6h", "do": "end"}},
        "journal": {"max_events": 1000, "max_bytes": "4GiB", "keep_delivered": "7d", "keep_refused": 100},
        "self_check": {"source": "one", "every": "15m", "limit": "5m", "trigger": {"id": 1}, "resolve": {"id": 1}},
        "confinement": "off",
        "log": {"level": "info", "format": "auto"}
    });
    let text = |operator: &str| json!({"path": "$.a", operator: ["a", "b"], "ignore_case": true});
    let number = |operator: &str| json!({"path": "$.a", operator: 1.5});
    let texts = ["contains", "contains_all", "contains_word", "starts_with", "ends_with", "matches"].map(text);
    let numbers = ["gt", "gte", "lt", "lte"].map(number);
    let mut all = vec![
        json!({"path": "$.a", "equals": "x", "every": true, "ignore_case": false}),
        json!({"path": "$.a", "one_of": [1, "x"]}),
        json!({"any": [{"path": "$.a", "exists": true}, {"path": "$.b", "exists": false}]}),
        json!({"not": {"path": "$.a", "type": "integer"}}),
    ];
    all.extend(texts.into_iter().chain(numbers));
    let rules = json!({
        "version": 1, "unwrap": "$.Message", "split": "$.alerts[*]",
        "validate": [
            {"path": "$.a", "required": true, "type": ["string", "null"], "min_length": 1, "max_length": 9},
            {"path": "$$.b", "one_of": [1, "a", null], "matches": "^a", "not_matches": ["b", "c"]}],
        "rules": [{"name": "one", "when": {"path": "$.c", "equals": 1}, "then": "trigger", "emit": {"a": "b"}},
            {"name": "two", "when": {"all": all}, "then": "ignore"},
            {"name": "three", "then": "resolve", "incident_key": {"path": "$.b", "capture": "^(a)"}}],
        "otherwise": "ignore", "incident_key": ["$.a", {"$first": ["$.b", "$.c"], "canonical": true, "optional": true}], "occurrence": "$.c", "update_on": ["$.d"],
        "placeholders": {"allow": ["$.a", "$.b"]},
        "emit": {"$merge": "$.labels", "path": "$.a", "template": "{{ payload.a }}", "literal": {"$literal": "$5"},
            "nested": {"list": [1, true, null, "x"], "$merge": "$$.b"},
            "operators": {"$path": "$.a", "$map": {"A": "a"}, "$default": "x", "$string": true, "$trim": true,
                "$lower": true, "$upper": false, "$capture": "(a)", "$truncate": 5},
            "first": {"$first": ["$.a", "b"]},
            "by_action": {"$by_action": {"trigger": "A", "resolve": {"$path": "$.b"}}}}
    });
    let filters = json!({"services": [{"name": "one",
        "trigger": [{"urgency": "high", "keys": [{"key": "state", "contains": ["CRITICAL"]}], "title_from": "title",
            "description_from": "description", "map_incident_with": "id"}],
        "resolve": {"keys": [{"key": "state", "contains": ["OK"]}], "incident_mapped_with": "id"}}]});
    let tests = json!({"rules": "rules.yaml", "source": "one", "json": "lenient", "dedup": {"window": "10m", "remind": true},
        "tests": [{"name": "one", "after": "5s", "fresh": true, "payload": {"a": 1}, "expect": {"verdict": "events",
            "events": [
                {"action": "trigger", "rule": "a", "incident_key": "k", "status": "queued", "body": {"a": 1}},
                {"body_exact": {"a": 1}}],
            "errors": [{"path": "$.a", "problem": "missing"}]}},
            {"name": "two", "payload": 1, "expect": {"verdict": "ignored"}}]});
    vec![(Kind::Config, config), (Kind::Rules, rules), (Kind::Filters, filters), (Kind::Tests, tests)]
}

/// The JSON Pointer of every place in a document.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            places(member, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
    found.push(at.to_owned());
}

/// Copies of a document with one value exchanged for another, or one key left out, for every place in it.
fn variants(document: &Value) -> Vec<Value> {
    let values = json!([
        null, true, 0, 1, 1.5, 1000, "", "x", "429", "off", "none", "trigger", "5m", "1.5 h", " 2s ", "5", "2MiB", "$.a", "$$.a",
        "{{ payload }}", "127.0.0.1:80", "https://example.org/a", [], ["x"], [1], [null], {}, {"x": 1}, {"$path": "$.a"},
        {"env": "A", "file": null}, {"path": "$.a", "exists": false}, {"$merge": "$.a", "b": {"$path": "$.b"}}
    ]);
    let mut at = Vec::new();
    places(document, "", &mut at);
    let mut variants = Vec::new();
    for place in &at {
        for value in values.as_array().unwrap() {
            let mut variant = document.clone();
            *variant.pointer_mut(place).unwrap() = value.clone();
            variants.push(variant);
        }
        for name in document.pointer(place).unwrap().as_object().into_iter().flat_map(|members| members.keys()) {
            let mut variant = document.clone();
            variant.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(name);
            variants.push(variant);
        }
    }
    variants
}

#[test]
fn what_is_read_is_no_mistake_by_the_schema() {
    for (kind, sample) in samples() {
        let validator = validator(kind);
        let wrong = |document: &Value| {
            let errors = validator.iter_errors(document);
            errors.map(|error| format!("{} {error}", error.instance_path())).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(wrong(&sample), "", "{kind:?}");
        let first = findings(kind, &sample.to_string());
        assert!(!first.has_errors(), "{kind:?}: {}", first.render(false));
        let suspects = variants(&sample).into_iter().filter(|variant| !validator.is_valid(variant));
        let alarms = suspects.filter(|variant| !findings(kind, &variant.to_string()).has_errors());
        let alarms: Vec<String> = alarms.map(|variant| wrong(&variant)).collect();
        assert_eq!(alarms, Vec::<String>::new(), "{kind:?}");
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
                // Conditions on one object describe nothing.
                _ if key == "anyOf" && schema.get("properties").is_some() => {}
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
