//! Mistakes in a rule file: each a finding at its exact place.

use super::*;

/// A file around some lines, with everything that is required.
fn file(lines: &str) -> String {
    format!("version: 1\nincident_key: $.id\nrules:\n  - {{ name: a, then: trigger }}\n{lines}\n")
}

fn rule(keys: &str) -> String {
    format!("version: 1\nincident_key: $.id\nrules:\n  - {{ name: a, then: trigger, {keys} }}\n")
}

/// A file with this incident key.
fn key(key: &str) -> String {
    format!("version: 1\nincident_key: {key}\nrules:\n  - {{ name: a, then: trigger }}\n")
}

/// The findings as `path | marked text | message | help`.
fn findings(yaml: &str) -> Vec<String> {
    let (rules, findings) = try_compile(yaml);
    assert!(rules.is_none() || !findings.has_errors(), "a file with errors must not compile");
    findings
        .iter()
        .map(|finding| {
            let marked = match &finding.place {
                crate::yaml::Place::Text { span, .. } => yaml[span.clone()].to_owned(),
                other => format!("{other:?}"),
            };
            let help = finding.help.as_deref().unwrap_or("");
            format!("{} | {marked} | {} | {help}", finding.path, finding.message)
        })
        .collect()
}

#[test]
fn each_mistake_is_told_with_its_place_and_remedy() {
    // One row: the file, then parts that the one finding must have, in their order.
    let rows: Vec<(String, Vec<&str>)> = vec![
        ("".into(), vec!["empty", "version: 1"]),
        ("[1]".into(), vec!["expected a mapping"]),
        ("version: 1\nincident_key: $.id\nrules: [".into(), vec!["not valid YAML"]),
        ("incident_key: $.id\nrules: [{ name: a, then: trigger }]".into(), vec!["version |", "required and missing", "version: 1"]),
        (file("").replace("version: 1", "version: 2"), vec!["version | 2 |", "version 2 is not supported", "reads version 1"]),
        (file("").replace("version: 1", "version: '1'"), vec!["version | '1' |", "a number"]),
        ("version: 1\nincident_key: $.id".into(), vec!["rules |", "required"]),
        ("version: 1\nrules: [{ name: a, then: resolve }]".into(), vec!["incident_key |", "required and missing", "$.servicepilot_event_id"]),
        ("version: 1\nincident_key: $.id\nrules: []".into(), vec!["rules | [] |", "no rule"]),
        ("version: 1\nincident_key: $.id\nrules: { a: b }".into(), vec!["rules |", "expected a list of rules"]),
        (file("valdate: []"), vec!["valdate | valdate |", "unknown key", "`validate`"]),
        (file("otherwise: drop"), vec!["otherwise | drop |", "reject, ignore"]),
        (file("placeholders: yes"), vec!["placeholders | yes |", "refuse, allow"]),
        (file("placeholders: {}"), vec!["placeholders | {} |", "required here and missing", "{ allow: [$.text] }"]),
        (file("placeholders: { refuse: [$.id] }"), vec!["placeholders.refuse | refuse |", "valid here: allow"]),
        (file("placeholders: { allow: [id] }"), vec!["placeholders.allow[0] | i |", "`$.id`?"]),
        (file("placeholders: { allow: [\"$['id']\", $.titel] }"), vec!["placeholders.allow |", "no `when` and no key part reads `$.titel`"]),
        (file("incident_key: $.id").replacen("incident_key: $.id\n", "", 1).replace("$.id", "[]"), vec!["incident_key | [] |", "needs a path"]),
        (file("update_on: [$.a, b]"), vec!["update_on[1] | b |", "begins with `$`", "`$.b`?"]),
        (file("occurrence: 5"), vec!["occurrence | 5 |", "expected a path, found a number"]),
        (file("split: $$.a"), vec!["split | $$.a |", "write `$.a`"]),
        (file("unwrap: $.a-b"), vec!["unwrap | a-b |", "has to be quoted", "['a-b']"]),
        // Rules.
        (rule("whn: 1"), vec!["rules[0].whn | whn |", "`when`"]),
        ("version: 1\nincident_key: $.id\nrules: [{ then: trigger }]".into(), vec!["rules[0].name |", "required"]),
        ("version: 1\nincident_key: $.id\nrules: [{ name: ' ', then: trigger }]".into(), vec!["rules[0].name | ' ' |", "blank"]),
        ("version: 1\nincident_key: $.id\nrules: [{ name: a }]".into(), vec!["rules[0].then |", "required"]),
        ("version: 1\nincident_key: $.id\nrules: [{ name: a, then: triger }]".into(), vec!["rules[0].then | triger |", "did you mean `trigger`"]),
        (rule("priority: hihg"), vec!["rules[0].priority | hihg |", "high, normal, low", "did you mean `high`"]),
        (rule("priority: 1"), vec!["rules[0].priority | 1 |", "one of high, normal, low"]),
        (rule("priorty: high"), vec!["rules[0].priorty | priorty |", "`priority`"]),
        ("version: 1\nincident_key: $.id\nrules:\n - { name: b, when: { path: $.b, equals: 1 }, then: ignore, priority: high }\n - { name: a, then: trigger }".into(),
            vec!["rules[0].priority | high |", "`then: ignore` makes no event", "trigger or resolve"]),
        ("version: 1\nincident_key: $.id\nrules:\n - { name: a, when: { path: $.a, exists: true }, then: trigger }\n - { name: a, then: resolve }".into(),
            vec!["rules[1].name | a |", "another rule in line 4"]),
        ("version: 1\nincident_key: $.id\nrules:\n - { name: a, then: trigger }\n - { name: b, then: resolve }".into(),
            vec!["rules[1] |", "never reached: `a`"]),
        // Keys.
        (key("{ path: $.a, captur: '(a)' }"), vec!["incident_key.captur | captur |", "did you mean `capture`"]),
        (key("[$.a, { pth: $.b }]"), vec!["incident_key[1].pth | pth |", "did you mean `path`"]),
        (key("[{ optional: true }, $.b]"), vec!["incident_key[0] |", "needs a `path`", "`$first: ["]),
        (key("{ path: $.a, $first: [$.b] }"), vec!["exclude each other", "into the list of `$first`"]),
        (key("{ $first: $.a }"), vec!["incident_key.$first | $.a |", "expected a list of paths", "missing, null nor blank"]),
        (key("{ $first: [] }"), vec!["incident_key.$first | [] |", "needs a path"]),
        (key("{ $first: [$.a, b] }"), vec!["incident_key.$first[1] | b |", "`$.b`?"]),
        (key("{ path: $.a. }"), vec!["incident_key.path |", "name is missing"]),
        (key("{ path: $.a, capture: 'a(b' }"), vec!["incident_key.capture | ( |", "unclosed group"]),
        (key("{ path: $.a, capture: 'ab' }"), vec!["incident_key.capture | 'ab' |", "has 0 groups", "into parentheses"]),
        (key("{ path: $.a, capture: '(a)(b)' }"), vec!["incident_key.capture | '(a)(b)' |", "has 2 groups", "(?:…)"]),
        (key("{ path: $.a, capture: 5 }"), vec!["incident_key.capture | 5 |", "expected a regular expression, found a number"]),
        (key("{ path: $.a, capture: '(a)', canonical: true }"), vec!["`capture` and `canonical` exclude each other"]),
        (key("[$.a, { path: $.b, optional: yes }]"), vec!["incident_key[1].optional | yes |", "true or false"]),
        (key("{ path: $.a, optional: true }"), vec!["incident_key |", "only part of a key can't be left out", "remove `optional`"]),
        (rule("incident_key: [$.a, b]"), vec!["rules[0].incident_key[1] | b |", "`$.b`?"]),
        (rule("incident_ky: $.a"), vec!["rules[0].incident_ky | incident_ky |", "did you mean `incident_key`"]),
        ("version: 1\nincident_key: $.id\nrules:\n - { name: b, when: { path: $.b, equals: 1 }, then: reject, incident_key: $.b }\n - { name: a, then: trigger }".into(),
            vec!["rules[0].incident_key | $.b |", "`then: reject` makes no event", "trigger or resolve"]),
        ("version: 1\nrules:\n - { name: a, when: { path: $.a, exists: true }, then: trigger, incident_key: $.b }\n - { name: c, then: resolve }".into(),
            vec!["incident_key |", "required and missing: the rule `c` has none", "$.servicepilot_event_id"]),
        // Conditions.
        (rule("when: ~"), vec!["rules[0].when |", "expected a condition, found nothing"]),
        (rule("when: [{ path: $.a, equals: 1 }]"), vec!["expected a condition, found a list", "all: […]"]),
        (rule("when: {}"), vec!["rules[0].when | {} |", "needs a `path`", "equals: CRITICAL"]),
        (rule("when: { equals: 1 }"), vec!["rules[0].when |", "needs a `path`"]),
        (rule("when: { path: $.a }"), vec!["rules[0].when |", "needs an operator", "contains_word"]),
        (rule("when: { path: $.a, exists: ~ }"), vec!["rules[0].when |", "needs an operator"]),
        (rule("when: { path: $.a, equal: 1 }"), vec!["rules[0].when.equal | equal |", "`equals`"]),
        (rule("when: { path: $.a, equals: 1, evry: true }"), vec!["rules[0].when.evry | evry |", "`every`"]),
        (rule("when: { path: $.a, all: [] }"), vec!["can't stand beside"]),
        (rule("when: { all: [] }"), vec!["rules[0].when.all | [] |", "needs a condition"]),
        (rule("when: { any: { path: $.a, equals: 1 } }"), vec!["rules[0].when.any |", "expected a list of conditions"]),
        (rule("when: { not: [{ path: $.a, equals: 1 }] }"), vec!["rules[0].when.not |", "found a list"]),
        (rule("when: { all: [{ path: $.a, equals: 1 }, { path: $.b }] }"), vec!["rules[0].when.all[1] |", "needs an operator"]),
        (rule("when: { path: $.a, exists: false, equals: 1 }"), vec!["`exists: false` can't be joined"]),
        (rule("when: { path: $.a, exists: false, every: true }"), vec!["`exists: false` can't be joined"]),
        (rule("when: { path: $.a, exists: maybe }"), vec!["rules[0].when.exists | maybe |", "true or false"]),
        (rule("when: { path: $.a, gt: 5, ignore_case: true }"), vec!["rules[0].when.ignore_case | true |", "no operator here compares text"]),
        (rule("when: { path: $.a, equals: 5, ignore_case: true }"), vec!["rules[0].when.ignore_case | true |"]),
        (rule("when: { path: $.a, one_of: [] }"), vec!["rules[0].when.one_of | [] |", "list of values"]),
        (rule("when: { path: $.a, one_of: x }"), vec!["rules[0].when.one_of | x |", "`equals`"]),
        (rule("when: { path: $.a, contains: [] }"), vec!["rules[0].when.contains | [] |", "never matches"]),
        (rule("when: { path: $.a, contains: ['x', ''] }"), vec!["rules[0].when.contains[1] | '' |", "always match"]),
        (rule("when: { path: $.a, contains_word: true }"), vec!["rules[0].when.contains_word | true |", "boolean true", "equals: true"]),
        (rule("when: { path: $.a, starts_with: 1.50 }"), vec!["rules[0].when.starts_with | 1.50 |", "quotes"]),
        (rule("when: { path: $.a, contains: { a: b } }"), vec!["rules[0].when.contains |", "found a mapping"]),
        (rule("when: { path: $.a, gt: high }"), vec!["rules[0].when.gt | high |", "expected a number"]),
        (rule("when: { path: $.a, lt: ~ }"), vec!["rules[0].when.lt |", "expected a number, found nothing"]),
        (rule("when: { path: $.a, type: text }"), vec!["rules[0].when.type | text |", "string, number"]),
        (rule("when: { path: $.a, type: null }"), vec!["rules[0].when.type | null |", "'null'"]),
        (rule("when: { path: $.a, matches: 'a(b' }"), vec!["rules[0].when.matches | ( |", "unclosed group"]),
        (rule("when: { path: $.a, matches: [a, 'b[', c] }"), vec!["rules[0].when.matches[1] | [ |", "unclosed character class"]),
        (rule("when: { path: $.a, matches: '(?=x)' }"), vec!["look-around"]),
        (rule(r"when: { path: $.a, matches: '\w{1000}{1000}' }"), vec!["rules[0].when.matches |", "KiB"]),
        // Paths: what a JSONPath of another dialect probably meant.
        (rule(r#"when: { path: "$.a[?@.status in ['firing']].x", exists: true }"#), vec!["| in |", "`status in`", "one_of"]),
        (rule(r#"when: { path: "$.a[?@.name like 'x']", exists: true }"#), vec!["| like |", "search(@.name"]),
        (rule(r#"when: { path: "$.a[?@.b and @.c]", exists: true }"#), vec!["| and |", "`&&`"]),
        (rule(r#"when: { path: "$.a[?@.b == 1 or @.c == 2]", exists: true }"#), vec!["| or |", "`||`"]),
        (rule(r#"when: { path: "$.a[?@.b =~ /x/]", exists: true }"#), vec!["| =~ |", "match("]),
        (rule(r#"when: { path: "$.a[?@.b = 1]", exists: true }"#), vec!["| = |", "`==`"]),
        (rule(r#"when: { path: "$.a[?@.b === 1]", exists: true }"#), vec!["| === |", "`==`"]),
        (rule(r#"when: { path: "$.a[?@.b & @.c]", exists: true }"#), vec!["| & |", "`&&`"]),
        (rule(r#"when: { path: "$.host name", exists: true }"#), vec!["| name |", "`['host name']`"]),
        (rule("when: { path: '$.a. b', exists: true }"), vec!["blank can't stand after a dot"]),
        (rule("when: { path: $.items.0, exists: true }"), vec!["| .0 |", "`[0]`"]),
        (rule("when: { path: '$[state]', exists: true }"), vec!["| state |", "quoted", "`'state'`"]),
        (rule("when: { path: '$.a[(@.length-1)]', exists: true }"), vec!["`[-1]`"]),
        (rule("when: { path: '$.a[@.b]', exists: true }"), vec!["| @ |", "begins with `?`"]),
        (rule("when: { path: $.a., exists: true }"), vec!["name is missing"]),
        (rule("when: { path: '$.a[0', exists: true }"), vec!["a `]` is missing"]),
        (rule("when: { path: $state, exists: true }"), vec!["| state |", "dot is missing"]),
        (rule("when: { path: .state, exists: true }"), vec!["`$.state`?"]),
        (rule("when: { path: '$.state ', exists: true }"), vec!["end with a blank"]),
        (rule("when: { path: '', exists: true }"), vec!["path is missing"]),
        (rule("when: { path: \"$.a\u{a0}.b\", exists: true }"), vec!["U+00A0"]),
        (rule("when: { path: '$[?length(@.a)]', exists: true }"), vec!["| length |", "compared"]),
        (rule("when: { path: '$[?count(@.a, 1) > 1]', exists: true }"), vec!["| , |", "not expected here"]),
        (rule("when: { path: '$[?length(@.*) > 1]', exists: true }"), vec!["| length |", "one value"]),
        (rule("when: { path: '$[?count(1) > 1]', exists: true }"), vec!["no RFC 9535 path", "take one argument"]),
        (rule("when: { path: '$[?in(@.a, @.b)]', exists: true }"), vec!["| in |", "`in()` is no function of RFC 9535"]),
        (rule("when: { path: '$[?@.* == 1]', exists: true }"), vec!["only a path to one node is compared"]),
        (rule(r#"when: { path: "$[?match(@.a, 'x(')]", exists: true }"#), vec!["| x( |", "unclosed group"]),
        (rule("when: { path: '$[?@[?@[?@[?@[?@[?@[?@[?@[?@[?@[?@]]]]]]]]]]]', exists: true }"), vec!["10 deep"]),
        // Validations.
        (file("validate: { path: $.a }"), vec!["validate |", "expected a list"]),
        (file("validate: [{ path: $.a }]"), vec!["validate[0] |", "asks nothing"]),
        (file("validate: [{ required: true }]"), vec!["validate[0].path |", "required"]),
        (file("validate: [{ path: $.a, requierd: true, type: string }]"), vec!["validate[0].requierd |", "`required`"]),
        (file("validate: [{ path: $.a, max_length: -1 }]"), vec!["validate[0].max_length | -1 |", "whole number"]),
        (file("validate: [{ path: $.a, min_length: 5, max_length: 2 }]"), vec!["validate[0].max_length | 2 |", "at least 5"]),
        (file("validate: [{ path: $.a, matches: '*' }]"), vec!["validate[0].matches | * |", "repetition"]),
        (file("validate: [{ path: $.a, type: strin }]"), vec!["validate[0].type | strin |", "`string`"]),
        // Emit.
        (file("emit: $.a"), vec!["emit | $.a |", "expected a mapping"]),
        (file("emit: { $path: $.a }"), vec!["emit | $path |", "$merge"]),
        (file("emit: { a: $100 }"), vec!["emit.a | $100 |", "is a path, and this is none", "$literal"]),
        (file("emit: { a: $.a-b }"), vec!["emit.a | a-b |", "quoted"]),
        (file("emit: { a: '${{ payload.a }}' }"), vec!["emit.a |", "template that begins with `$`"]),
        (file("emit: { a: { $paht: $.a } }"), vec!["unknown operator `$paht`", "`$path`"]),
        (file("emit: { a: { $default: x } }"), vec!["nothing to work on"]),
        (file("emit: { a: { $path: $.a, $first: [$.b] } }"), vec!["exclude each other"]),
        (file("emit: { a: { $path: $.a, b: 1 } }"), vec!["emit.a.b | b |", "can't stand among"]),
        (file("emit: { a: { $literal: 1, $default: 2 } }"), vec!["stands alone"]),
        (file("emit: { a: { $path: $.a, $lower: true, $upper: true } }"), vec!["exclude each other"]),
        (file("emit: { a: { $path: $.a, $truncate: 0 } }"), vec!["emit.a.$truncate | 0 |", "whole number"]),
        (file("emit: { a: { $path: $.a, $capture: 'a' } }"), vec!["emit.a.$capture | 'a' |", "has 0 groups", "into parentheses"]),
        (file("emit: { a: { $path: $.a, $capture: '(' } }"), vec!["emit.a.$capture | ( |", "unclosed group"]),
        (file("emit: { a: { $path: $.a, $captur: '(a)' } }"), vec!["unknown operator `$captur`", "`$capture`"]),
        (file("emit: { a: { $path: $.a, $trim: 1 } }"), vec!["emit.a.$trim | 1 |", "true or false"]),
        (file("emit: { a: { $path: $.a, $map: [1] } }"), vec!["emit.a.$map |", "expected a mapping"]),
        (file("emit: { a: { $first: $.a } }"), vec!["emit.a.$first |", "list of values"]),
        (file("emit: { a: { $by_action: { triger: 1 } } }"), vec!["triger"]),
        (file("emit: { a: { $by_action: {} } }"), vec!["needs `trigger` or `resolve`"]),
        (file("emit: { $merge: tags }"), vec!["emit.$merge | t |", "`$.tags`?"]),
        (file("emit: { a: 'x {{ payload.a' }"), vec!["emit.a |", "template can't be used"]),
        (file("emit: { a: 'x {{ payload.a | uper }}' }"), vec!["emit.a |", "unknown filter", "uper"]),
        (file("emit: { a: '{{ title }}' }"), vec!["emit.a |", "nothing sets `title`", "payload.title"]),
    ];
    let mut wrong = Vec::new();
    for (yaml, parts) in rows {
        let found = findings(&yaml);
        let matching = found.iter().any(|finding| {
            let mut rest = finding.as_str();
            parts.iter().all(|part| {
                rest.find(part).is_some_and(|at| {
                    rest = &rest[at + part.len()..];
                    true
                })
            })
        });
        if !matching || found.len() != 1 {
            wrong.push(format!("{yaml}\nexpected one finding with {parts:?}, found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let found = findings(
        "version: 3
validate:
  - { path: $.a b, type: text }
rules:
  - { name: a, when: { path: $.x, matches: '(' }, then: trigr }
  - { name: a, when: { any: [{ path: '$[', equals: 1 }, { path: $.y, gt: x }] }, then: ignore }
emit: { t: '{{', u: $.a., v: { $nope: 1 } }
",
    );
    assert!(found.len() >= 10, "{found:#?}");
}

#[test]
fn no_mistake_hides_another_and_none_is_told_twice() {
    for (yaml, told) in [
        ("version: 1", vec!["`rules` is required", "`incident_key` is required"]),
        ("version: 1\nrules: [{ name: a, then: triger }]", vec!["found `triger`", "`incident_key` is required"]),
        (&rule("emit: { t: { $first: [] } }"), vec!["expected a list of values, found an empty list"]),
        (&rule("emit: { ? { a: b } : c, ? [d] : e }"), vec!["a key is a name", "a key is a name"]),
        (&rule("emit: {}").replace("trigger", "ignore"), vec!["nothing is ever sent"]),
        (
            "version: 1\nrules: [{ name: a, then: triger }, { name: b, then: ignore }]",
            vec!["found `triger`", "`incident_key` is required"],
        ),
        (&rule("when: { path: $.a, contains_word: 'BAD ' }"), vec!["a blank or a line break at the end"]),
        (&rule("when: { path: $.a, one_of: ['BAD', “BAD”] }"), vec!["these quotes are a part"]),
        (&rule("when: { path: $.a, contains: ' (' }"), vec![]),
        (&file("emit: { t: '{{ payload.t.upper() }}' }"), vec!["no value has a method `upper`"]),
        (&file("emit: { t: [$.a, *] }"), vec!["this is not valid YAML: `*` and `&` begin an alias"]),
    ] {
        let found = findings(yaml);
        assert_eq!(found.len(), told.len(), "{yaml}: {found:?}");
        assert!(found.iter().zip(&told).all(|(found, told)| found.contains(told)), "{yaml}: {found:?}");
    }
    let shown = try_compile(&rule("emit: { ? { a: b } : c }")).1.render(false);
    assert!(shown.contains("{ a: b }"), "a rule file holds no secrets: {shown}");
}
