//! What ties events together: the incident key, the occurrence, and the values whose change makes an update.

use std::fmt::Write as _;

use serde_json::Value;

use super::path::{JsonPath, Scope};
use super::placeholder;
use super::value::{kind_of, shortened, shown};
use crate::event::{Occurrence, UpdateHash, Violation};

/// The incident key of an element, or everything that keeps it from having one.
pub(super) fn incident_key(
    paths: &[JsonPath],
    scope: Scope<'_>,
    refuse_placeholders: bool,
) -> Result<String, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut key = String::new();
    for (index, path) in paths.iter().enumerate() {
        let part = match part(path, scope, refuse_placeholders) {
            Ok(part) => part,
            Err(violation) => {
                violations.push(violation);
                continue;
            }
        };
        match paths {
            [_] => key = part,
            _ => {
                if index > 0 {
                    key.push('/');
                }
                push_encoded(&part, &mut key);
            }
        }
    }
    if violations.is_empty() && key.len() > KEY_BYTES_MAX {
        let path = paths.iter().map(JsonPath::as_str).collect::<Vec<_>>().join(", ");
        let problem = format!("the incident key has {} bytes, at most {KEY_BYTES_MAX} are allowed", key.len());
        violations.push(Violation { path, problem, found: Some(shortened(&key)) });
    }
    if violations.is_empty() { Ok(key) } else { Err(violations) }
}

/// The values of the `occurrence` paths as a JSON list; none where the element has none of them.
pub(super) fn occurrence(paths: &[JsonPath], scope: Scope<'_>) -> Result<Option<Occurrence>, Vec<Violation>> {
    let values: Vec<Value> = paths
        .iter()
        .map(|path| match path.select(scope).as_slice() {
            [] => Value::Null,
            [node] => (*node).clone(),
            nodes => nodes.iter().map(|node| (*node).clone()).collect(),
        })
        .collect();
    if values.iter().all(Value::is_null) {
        return Ok(None);
    }
    let text = Value::Array(values).to_string();
    if text.len() > OCCURRENCE_BYTES_MAX {
        let path = paths.iter().map(JsonPath::as_str).collect::<Vec<_>>().join(", ");
        let problem =
            format!("the occurrence has {} bytes as JSON, at most {OCCURRENCE_BYTES_MAX} are allowed", text.len());
        return Err(vec![Violation { path, problem, found: Some(shortened(&text)) }]);
    }
    Ok(Some(Occurrence(text.into())))
}

/// A hash of the `update_on` values, in which a missing value and null differ.
pub(super) fn update_hash(paths: &[JsonPath], scope: Scope<'_>) -> UpdateHash {
    if paths.is_empty() {
        return UpdateHash::default();
    }
    let mut text = String::new();
    for path in paths {
        text.push('[');
        for node in path.select(scope).as_slice() {
            push_canonical(node, &mut text);
            text.push(',');
        }
        text.push(']');
    }
    UpdateHash::of(&text)
}

fn part(path: &JsonPath, scope: Scope<'_>, refuse_placeholders: bool) -> Result<String, Violation> {
    let nodes = path.select(scope);
    let violation = |problem: &str, found: Option<&Value>| Violation {
        path: path.as_str().to_owned(),
        problem: format!("the incident key {problem}"),
        found: found.map(shown),
    };
    let node = match nodes.as_slice() {
        [] => return Err(violation("needs this and it is missing", None)),
        [node] => *node,
        nodes => {
            return Err(violation(&format!("needs one value here and finds {}", nodes.len()), nodes.first().copied()));
        }
    };
    match node {
        Value::String(text) if text.trim().is_empty() => Err(violation("can't be blank", Some(node))),
        Value::String(text) => match placeholder::find(text) {
            Some(found) if refuse_placeholders => {
                Err(violation(&format!("holds an unrendered placeholder, {}", shortened(found)), Some(node)))
            }
            _ => Ok(text.clone()),
        },
        // An integer beyond 2^64 was read as the nearest double: two such numbers could become one key.
        Value::Number(number) if number.as_f64().is_some_and(|n| n.abs() >= EXACT_MAX) && number.is_f64() => {
            Err(violation("can't be a number too large to be exact; send it as a string", Some(node)))
        }
        Value::Number(number) => Ok(number.to_string()),
        other => Err(violation(&format!("has to be a string or a number, not {}", kind_of(other)), Some(node))),
    }
}

fn push_encoded(part: &str, key: &mut String) {
    for c in part.chars() {
        match c {
            '/' => key.push_str("%2F"),
            '%' => key.push_str("%25"),
            c => key.push(c),
        }
    }
}

/// JSON in which equal values have equal texts: members sorted by name, 1.0 as 1.
fn push_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for item in items {
                push_canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, member) in members {
                let _ = write!(text, "{}:", Value::from(name.as_str()));
                push_canonical(member, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Number(number) => match number.as_f64() {
            Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() < EXACT_MAX => {
                let _ = write!(text, "{:.0}", double + 0.0);
            }
            _ => {
                let _ = write!(text, "{number}");
            }
        },
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

/// An incident key is an index entry, a label and a line in a log.
const KEY_BYTES_MAX: usize = 512;
/// Kept in memory with its key.
const OCCURRENCE_BYTES_MAX: usize = 512;
/// From 2^53 on a double does not tell neighbouring integers apart.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::budget::Budget;
    use serde_json::json;

    fn paths(texts: &[&str]) -> Vec<JsonPath> {
        texts.iter().map(|text| JsonPath::parse(text).unwrap()).collect()
    }

    fn key(texts: &[&str], payload: &Value) -> Result<String, Vec<String>> {
        let budget = Budget::new(10_000);
        incident_key(&paths(texts), Scope { element: payload, root: payload, budget: &budget }, true)
            .map_err(|violations| violations.into_iter().map(|v| format!("{}: {}", v.path, v.problem)).collect())
    }

    fn update(texts: &[&str], payload: &Value) -> UpdateHash {
        let budget = Budget::new(10_000);
        update_hash(&paths(texts), Scope { element: payload, root: payload, budget: &budget })
    }

    #[test]
    fn one_path_gives_the_text_as_it_is() {
        for (value, expected) in [
            (json!("sp-evt-1001"), "sp-evt-1001"),
            (json!(" a/b%c "), " a/b%c "),
            (json!(1001), "1001"),
            (json!(-1), "-1"),
            (json!(1.50), "1.5"),
            (json!(18_446_744_073_709_551_615_u64), "18446744073709551615"),
        ] {
            assert_eq!(key(&["$.id"], &json!({"id": value})).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn several_paths_make_a_key_that_can_be_taken_apart_again() {
        let payload = json!({"host": "a/b", "service": "100%", "id": 7});
        assert_eq!(key(&["$.host", "$.service", "$.id"], &payload).as_deref(), Ok("a%2Fb/100%25/7"));
    }

    #[test]
    fn a_part_that_could_glue_incidents_together_is_refused() {
        for (payload, problem) in [
            (r#"{}"#, "missing"),
            (r#"{"id": ""}"#, "blank"),
            (r#"{"id": " \t\n\u00a0"}"#, "blank"),
            (r#"{"id": null}"#, "not null"),
            (r#"{"id": true}"#, "not boolean"),
            (r#"{"id": {"a": 1}}"#, "not object"),
            (r#"{"id": ["a"]}"#, "not array"),
            (r#"{"id": 18446744073709551616}"#, "too large"),
            (r#"{"id": 1e300}"#, "too large"),
            (r#"{"id": "<% event.id %>"}"#, "placeholder"),
            (r#"{"id": "x-${id}"}"#, "placeholder"),
        ] {
            let errors = key(&["$.id"], &serde_json::from_str(payload).unwrap()).unwrap_err();
            assert!(errors.len() == 1 && errors[0].contains(problem), "{payload}: {errors:?}");
        }
        let errors = key(&["$.ids[*]"], &json!({"ids": ["a", "b"]})).unwrap_err();
        assert!(errors[0].contains("finds 2"), "{errors:?}");
    }

    #[test]
    fn every_bad_part_is_reported_and_the_length_is_that_of_the_whole() {
        assert_eq!(key(&["$.a", "$.b", "$.c"], &json!({"b": "x"})).unwrap_err().len(), 2);
        assert!(key(&["$.a"], &json!({"a": "x".repeat(512)})).is_ok());
        assert!(key(&["$.a"], &json!({"a": "x".repeat(513)})).unwrap_err()[0].contains("513 bytes"));
        assert!(key(&["$.a", "$.b"], &json!({"a": "%".repeat(171), "b": "x"})).unwrap_err()[0].contains("515 bytes"));
    }

    #[test]
    fn an_update_is_a_change_of_value_not_of_writing() {
        let of = |payload: Value| update(&["$.severity", "$.tags"], &payload);
        let base = of(json!({"severity": 1, "tags": {"a": 1, "b": 2}}));
        assert_eq!(base, of(json!({"tags": {"b": 2.0, "a": 1}, "severity": 1.0, "else": 1})));
        for other in [
            json!({"severity": 2, "tags": {"a": 1, "b": 2}}),
            json!({"severity": "1", "tags": {"a": 1, "b": 2}}),
            json!({"severity": null, "tags": {"a": 1, "b": 2}}),
            json!({"tags": {"a": 1, "b": 2}}),
            json!({"severity": 1, "tags": {"a": 1}}),
        ] {
            assert_ne!(base, of(other.clone()), "{other}");
        }
        assert_ne!(of(json!({"severity": null})), of(json!({})), "missing and null differ");
        assert_ne!(update(&["$.a", "$.b"], &json!({"a": 1})), update(&["$.a", "$.b"], &json!({"b": 1})));
    }

    #[test]
    fn an_occurrence_is_the_bounded_list_of_its_values_and_absent_where_all_are() {
        let of = |payload: Value| {
            let budget = Budget::new(10_000);
            occurrence(&paths(&["$.start", "$.n"]), Scope { element: &payload, root: &payload, budget: &budget })
                .map(|occurrence| occurrence.map(|occurrence| occurrence.0.to_string()))
                .map_err(|violations| format!("{}: {}", violations[0].path, violations[0].problem))
        };
        let bare = r#"["",0]"#.len();
        let fits = of(json!({"start": "x".repeat(512 - bare), "n": 0})).unwrap();
        assert_eq!(fits.unwrap().len(), 512);
        let error = of(json!({"start": "x".repeat(513 - bare), "n": 0})).unwrap_err();
        assert!(error.starts_with("$.start, $.n: the occurrence has 513 bytes"), "{error}");
        let of = |payload| of(payload).unwrap();
        assert_eq!(of(json!({"start": "t1", "n": 2})).as_deref(), Some(r#"["t1",2]"#));
        assert_eq!(of(json!({"n": 2})).as_deref(), Some("[null,2]"));
        assert_eq!(of(json!({"start": null})), None);
    }
}
