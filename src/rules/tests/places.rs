//! Where each kind of mistake is shown: file, line, column and the width of its caret, however the YAML is written.

use super::*;
use crate::yaml::Place;

/// The lines before and behind those of a row, which begin in line 4.
const HEAD: &str = "version: 1\nincident_key: $.id\nvalidate: [{ path: $.id, required: true }]\n";

/// The findings as `line:column+width message (help)`; the width ends with the line.
fn findings(lines: &str) -> Vec<String> {
    let (_, findings) = try_compile(&format!("{HEAD}{lines}"));
    findings
        .iter()
        .map(|finding| {
            let (line, column) = finding.place.line_column().unwrap();
            let Place::Text { source, span } = &finding.place else { unreachable!() };
            let width = source.text[span.clone()].lines().next().unwrap_or_default().chars().count();
            let help = finding.help.as_deref().unwrap_or("");
            format!("{line}:{column}+{width} {} ({help})", finding.message)
        })
        .collect()
}

#[test]
fn each_kind_of_mistake_is_shown_at_its_place() {
    const RULE: &str = "rules:\n  - name: a\n    then: trigger\n";
    // Lines after the head, the place, then words of the message and of the help.
    let rows: Vec<(String, &str, &[&str])> = vec![
        // The structure.
        ("rules: x\n".into(), "4:8+1", &["expected a list of rules", "- name"]),
        ("rules:\n  - x\n".into(), "5:5+1", &["expected a mapping, found a string"]),
        ("rules:\n  - nam: a\n    then: trigger\n".into(), "5:5+3", &["unknown key `nam`", "did you mean `name`"]),
        ("rules:\n  - name: a\n    than: trigger\n".into(), "6:5+4", &["unknown key `than`", "`then`"]),
        ("rules:\n  - name: a\n".into(), "5:5+4", &["`then` is required"]),
        (
            "rules:\n  - name: a\n    then: triger\n".into(),
            "6:11+6",
            &["expected one of trigger", "did you mean `trigger`"],
        ),
        (format!("{RULE}  - name: b\n    then: resolve\n"), "7:11+1", &["never reached: `a`", "put it before `a`"]),
        (format!("{RULE}  - name: a\n    then: resolve\n"), "7:11+1", &["another rule in line 5", "its own name"]),
        (format!("{RULE}otherwise: ignor\n"), "7:12+5", &["reject, ignore", "did you mean `ignore`"]),
        (format!("{RULE}rules: []\n"), "7:1+5", &["written twice", "line 4"]),
        (format!("{RULE}split: $$.a\n"), "7:8+4", &["write `$.a`"]),
        (format!("{RULE}update_on:\n  - $.a\n  - $.b.\n"), "9:8+1", &["name is missing"]),
        // Conditions, in block style.
        (when("all: x"), "7:12+1", &["expected a list of conditions"]),
        (when("path: $.a"), "6:5+4", &["needs an operator", "contains_word"]),
        (when("equals: 1"), "6:5+4", &["needs a `path`", "equals: CRITICAL"]),
        (when("path: $.a\nequal: 1"), "8:7+5", &["unknown key `equal`", "did you mean `equals`"]),
        (when("path: $.a\nall: []"), "8:7+3", &["can't stand beside each other", "join them"]),
        (when("path: $.a\nexists: false\nequals: 1"), "8:7+6", &["can't be joined"]),
        (when("all:\n  - path: $.a\n    equals: 1\n  - path: $.b"), "10:11+4", &["needs an operator"]),
        (when("path: $.a\ntype:\n  - string\n  - text"), "10:11+4", &["string, number"]),
        (when("path: $.a\ngt: high"), "8:11+4", &["expected a number"]),
        (when("path: $.a\ncontains: ['x', '']"), "8:23+2", &["always match"]),
        (when("path: $.a\none_of: x"), "8:15+1", &["list of values", "`equals`"]),
        (when("path: $.a\ngt: 1\nignore_case: true"), "9:20+4", &["no operator here compares text"]),
        // Within a path.
        (when("path: $.a-b\nexists: true"), "7:15+3", &["has to be quoted", "['a-b']"]),
        (when("path: '$.a-b'\nexists: true"), "7:16+3", &["has to be quoted"]),
        (when("path: \"$.a-b\"\nexists: true"), "7:16+3", &["has to be quoted"]),
        (when("path: '$[''x''][?@.b = 1]'\nexists: true"), "7:28+1", &["`==`"]),
        (when("path: \"$['\\x78'][?@.b = 1]\"\nexists: true"), "7:29+1", &["`==`"]),
        (when("path: >-\n  $.a[?@.b\n  = 1]\nexists: true"), "9:9+1", &["`==`"]),
        (when("path: $.a[?@.b\n  = 1]\nexists: true"), "8:9+1", &["`==`"]),
        (when("path: |-\n  $.a-b\nexists: true"), "8:11+3", &["has to be quoted"]),
        // Within a regular expression.
        (when("path: $.a\nmatches: 'a(b'"), "8:18+1", &["unclosed group", "no look-around"]),
        (when("path: $.a\nmatches: \"\\\\w\\t(b\""), "8:22+1", &["unclosed group"]),
        (when("path: $.a\nmatches: 'it''s [b'"), "8:23+1", &["unclosed character class"]),
        (when("path: $.a\nmatches:\n  - x\n  - |-\n    one\n    t(wo"), "12:12+1", &["unclosed group"]),
        (when("path: $[?search(@.a, 'x(')]\nexists: true"), "7:29+2", &["unclosed group"]),
        (format!("{RULE}validate2: 1\n"), "7:1+9", &["unknown key", "`validate`"]),
        // Within a template, and beside it.
        (emit("title: 'x {{ payload.a | uper }}'"), "8:28+4", &["unknown filter", "did you mean `upper`"]),
        (emit("title: 'x {{ payload.a is defind }}'"), "8:29+6", &["unknown test", "did you mean `defined`"]),
        (emit("title: \"\\u00e9 {{ paylod.a }}\""), "8:21+6", &["nothing sets `paylod`", "did you mean `payload`"]),
        (emit("title: '{{ title }}'"), "8:14+5", &["nothing sets `title`", "`payload.title`"]),
        (emit("title: >-\n  it is\n  {{ payload.a | uper }}"), "10:20+4", &["unknown filter"]),
        (emit("title: |\n  {% if payload.a %}\n    {{ tilte }}\n  {% endif %}"), "10:10+5", &["nothing sets `tilte`"]),
        (emit("title: $100"), "8:10+4", &["is a path, and this is none", "$literal"]),
        (emit("title: { $path: $.a, $first: [$.b] }"), "8:24+6", &["exclude each other"]),
        (emit("title: { $path: $.a, $lower: true, $upper: true }"), "8:38+6", &["exclude each other"]),
        (emit("title: { $paht: $.a }"), "8:12+5", &["unknown operator `$paht`", "`$path`"]),
        (emit("title: { $path: $.a, b: 1 }"), "8:24+1", &["can't stand among"]),
        (emit("title:\n  $first:\n    - $.a\n    - '$.b-c'"), "11:12+3", &["has to be quoted"]),
        (emit("title:\n  $path: $.a\n  $map: { HIGH: $.h-i }"), "10:21+3", &["has to be quoted"]),
    ];
    let mut wrong = Vec::new();
    for (lines, place, words) in rows {
        let found = findings(&lines);
        let fits = |one: &String| {
            let rest = one.strip_prefix(&format!("{place} "));
            let after = |rest: Option<&str>, word: &&str| rest?.split_once(word).map(|(_, rest)| rest.to_owned());
            words.iter().fold(rest.map(str::to_owned), |rest, word| after(rest.as_deref(), word)).is_some()
        };
        // A required key that is mistyped is also missing, and a rule after one without `when` never reached.
        let is_one =
            found.len() == 1 || found.iter().any(|one| one.contains("unknown key") || one.contains("another rule"));
        if !is_one || !found.iter().any(fits) {
            wrong.push(format!("{place} {words:?}:\n{lines}{found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A rule whose `when` begins in line 7, each line indented by six.
fn when(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("      {line}\n")).collect();
    format!("rules:\n  - name: a\n    when:\n{lines}    then: trigger\n")
}

/// A file whose `emit` begins in line 8, each line indented by two.
fn emit(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    format!("rules:\n  - name: a\n    then: trigger\nemit:\n{lines}")
}

#[test]
fn all_mistakes_of_a_file_are_found_in_one_go() {
    let lines = "rules:\n  - name: a\n    when: { path: $.a-b, matches: 'x(' , equal: 1 }\n    then: triger\n\
                 emit: { a: $., b: '{{ x | nope }}', c: { $nope: 1 }, d: { $path: $.a, $trim: 1 } }\notherwise: never\n";
    let found = findings(lines);
    for part in [
        "has to be quoted",
        "unclosed group",
        "`equals`",
        "`trigger`",
        "name is missing",
        "nope",
        "`$nope`",
        "true or false",
        "reject, ignore",
    ] {
        assert!(found.iter().any(|one| one.contains(part)), "{part}: {found:#?}");
    }
}
