//! `validate`.

use serde_json::json;

use super::*;

#[test]
fn every_validation_means_what_the_language_says() {
    type Row<'a> = (&'a str, &'a [Value], &'a [(Value, &'a str)]);
    // A validation of $.v, then values that pass, then values that are refused with this problem.
    let rows: &[Row<'_>] = &[
        ("required: true", &[json!(""), json!(0), json!(false)], &[(json!(null), "is required and null")]),
        (
            "type: string",
            &[json!("")],
            &[(json!(1), "has to be of type string, not number"), (json!(null), "not null")],
        ),
        ("type: [string, 'null']", &[json!(""), json!(null)], &[(json!({}), "string or null, not object")]),
        ("one_of: [a, 1]", &[json!("a"), json!(1.0)], &[(json!("1"), "one of a, 1"), (json!("A"), "one of")]),
        (
            "min_length: 2",
            &[json!("éé"), json!([1, 2]), json!(10)],
            &[(json!("é"), "length 1"), (json!(null), "length 0")],
        ),
        (
            "max_length: 2",
            &[json!("éé"), json!(null), json!({})],
            &[(json!("ééé"), "length 3"), (json!([1, 2, 3]), "length 3")],
        ),
        ("matches: '^a'", &[json!("ab")], &[(json!("b"), "/^a/"), (json!(null), "/^a/"), (json!(["a"]), "/^a/")]),
        ("matches: ['^a', '^1']", &[json!("a"), json!(12)], &[(json!("b"), "/^a/ or /^1/")]),
        (
            "not_matches: '[0-9]'",
            &[json!("a"), json!(null), json!([1])],
            &[(json!("a1"), "must not match"), (json!(5), "[0-9]")],
        ),
    ];
    for (check, passing, failing) in rows {
        let rules = with_rule(&format!("validate: [{{ path: $.v, {check} }}]"), "");
        for value in *passing {
            assert_eq!(verdict(&rules, &json!({"id": "x", "v": value})), "trigger only", "{check} on {value}");
        }
        for (value, problem) in *failing {
            let verdict = verdict(&rules, &json!({"id": "x", "v": value}));
            assert!(verdict.starts_with("refused $.v ") && verdict.contains(problem), "{check} on {value}: {verdict}");
        }
        let missing = verdict(&rules, &json!({"id": "x"}));
        let expected =
            if check.starts_with("required") { "refused $.v is required and missing" } else { "trigger only" };
        assert_eq!(missing, expected, "{check} on nothing");
    }
}

#[test]
fn every_violation_is_reported_with_what_was_found() {
    let rules = with_rule(
        "validate:
  - { path: $.a, required: true, type: string }
  - { path: $.b, type: string, max_length: 2, matches: '^x' }
  - { path: '$.c[*]', type: integer }",
        "",
    );
    let decision = decide(&rules, &json!({"id": "x", "b": "abc", "c": [1, "2", null]}));
    let [Element::Refused { violations, element: None }] = decision.elements.as_slice() else {
        panic!("{decision:?}");
    };
    let told: Vec<(&str, Option<&str>)> = violations.iter().map(|v| (v.path.as_str(), v.found.as_deref())).collect();
    assert_eq!(
        told,
        [("$.a", None), ("$.b", Some("abc")), ("$.b", Some("abc")), ("$.c[*]", Some("2")), ("$.c[*]", Some("null"))]
    );
}

#[test]
fn a_required_null_is_one_violation() {
    let rules = with_rule("validate: [{ path: $.a, required: true, type: string, min_length: 3 }]", "");
    assert_eq!(verdict(&rules, &json!({"id": "x", "a": null})), "refused $.a is required and null");
}
