//! The values that tie events together: the incident key, the occurrence, and the values whose change makes an update.

use std::borrow::Cow;

use serde_json::Value;

use super::path::{JsonPath, Scope};
use super::pattern::Capture;
use super::placeholder::Placeholders;
use super::trace::{PartTrace, PathTrace};
use super::value::{kind_of, shortened, shown};
use super::{canonical, placeholder};
use crate::event::{Occurrence, UpdateHash, Violation};

/// A part of an incident key: paths, and how a text is made of what they find.
#[derive(Clone, Debug)]
pub(super) struct KeyPart {
    /// Asked in their order, up to the first that gives a text.
    pub(super) paths: Vec<JsonPath>,
    /// Takes the text out of a longer one.
    pub(super) capture: Option<Capture>,
    /// Where no path gives a text the part is left out.
    pub(super) optional: bool,
    /// An object gives a hash of its canonical JSON.
    pub(super) canonical: bool,
}

/// Contents that no part of a key may have: they could glue incidents together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refuse<'r> {
    /// Unrendered placeholders, by path.
    pub(super) placeholders: &'r Placeholders,
    /// U+FFFD, where it may stand for what could not be read.
    pub(super) replaced: bool,
}

/// The reason why a path gives no text.
struct NoText {
    violation: Violation,
    /// There is nothing, so that another path may give a text, or the part be left out. Else the payload is refused.
    is_absence: bool,
}

/// The incident key of an element, or everything that keeps it from having one.
///
/// The text of a part that stands alone is the key. Of several each has its place between the slashes, also where one before
/// it is left out: `[host, service, check]` without a service is `db-1//disk`. What is left out at the end leaves no
/// slash. So two payloads that differ in what a part says, or in which of them are there, have different keys.
pub(super) fn incident_key(parts: &[KeyPart], scope: Scope<'_>, refuse: Refuse<'_>) -> Result<String, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut key = String::new();
    let mut slashes = 0;
    for (index, part) in parts.iter().enumerate() {
        match part.text(scope, refuse) {
            Err(no_text) => violations.push(no_text.told(part, parts.len())),
            Ok(None) => {}
            Ok(Some(text)) if parts.len() == 1 => key = text,
            Ok(Some(text)) => {
                (slashes..index).for_each(|_| key.push('/'));
                slashes = index;
                push_encoded(&text, &mut key);
            }
        }
    }
    if violations.is_empty() && (key.is_empty() || key.len() > KEY_BYTES_MAX) {
        let path = joined(parts.iter().flat_map(|part| &part.paths));
        let (problem, found) = match key.len() {
            0 => ("the incident key needs one of its parts, and none is there".to_owned(), None),
            bytes => (
                format!("the incident key has {bytes} bytes, at most {KEY_BYTES_MAX} are allowed"),
                Some(shortened(&key)),
            ),
        };
        violations.push(Violation { path, problem, found });
    }
    if violations.is_empty() { Ok(key) } else { Err(violations) }
}

impl KeyPart {
    /// The value of one path, as it is.
    pub(super) fn of(path: JsonPath) -> KeyPart {
        KeyPart { paths: vec![path], capture: None, optional: false, canonical: false }
    }

    /// The path without which there is no key.
    pub(super) fn needed(&self) -> Option<&JsonPath> {
        match self.paths.as_slice() {
            [path] if !self.optional => Some(path),
            _ => None,
        }
    }

    /// The member of an element whose value, as it is, is this part.
    pub(super) fn member(&self) -> Option<&str> {
        self.needed().filter(|_| self.capture.is_none() && !self.canonical)?.member()
    }

    /// The operators beside the path, in the words of the rule file; none where the value stands for itself.
    fn describe(&self) -> Vec<String> {
        let first = (self.paths.len() > 1).then(|| "$first".to_owned());
        let capture = self.capture.as_ref().map(|capture| format!("capture {}", capture.as_str()));
        let flags = [("optional", self.optional), ("canonical", self.canonical)];
        let flags = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned());
        first.into_iter().chain(capture).chain(flags).collect()
    }

    /// The text of the part; none where it is left out.
    fn text(&self, scope: Scope<'_>, refuse: Refuse<'_>) -> Result<Option<String>, NoText> {
        let mut absence = None;
        for path in &self.paths {
            match self.text_at(path, scope, refuse) {
                Ok(text) => return Ok(Some(text)),
                Err(no_text) if no_text.is_absence => absence = Some(no_text),
                Err(no_text) => return Err(no_text),
            }
        }
        match (absence.filter(|_| !self.optional), self.paths.as_slice()) {
            (None, _) => Ok(None),
            (Some(no_text), [_]) => Err(no_text),
            (Some(_), paths) => {
                let problem = "the incident key needs one of these, and each is missing or gives no text".to_owned();
                Err(NoText { violation: Violation { path: joined(paths), problem, found: None }, is_absence: true })
            }
        }
    }

    /// The text that one of the paths gives.
    fn text_at(&self, path: &JsonPath, scope: Scope<'_>, refuse: Refuse<'_>) -> Result<String, NoText> {
        let nodes = path.select(scope);
        let node = match nodes.as_slice() {
            [] => return Err(NoText::absent(path, "needs this and it is missing", None)),
            [node] => *node,
            nodes => {
                let problem = format!("needs one value here and finds {}", nodes.len());
                return Err(NoText::refused(path, &problem, nodes[0]));
            }
        };
        let text = self.text_of(node, path, scope)?;
        scope.budget.spend_bytes(6 * text.len() as u64);
        let first = |find: Find| match node {
            Value::Object(_) => first_found(node, find),
            _ => find(&text),
        };
        let unrendered = first(placeholder::find).filter(|_| refuse.placeholders.are_refused_at(path));
        let problem = if let Some(found) = unrendered {
            format!("holds an unrendered placeholder, {}; {}", shortened(found), placeholder::remedy(path))
        } else if refuse.replaced && first(with_replacement).is_some() {
            "holds U+FFFD in the place of what could not be read; send UTF-8, or name the charset".to_owned()
        } else {
            return Ok(text);
        };
        Err(NoText::refused(path, &problem, node))
    }

    /// The text that is made of one node.
    fn text_of(&self, node: &Value, path: &JsonPath, scope: Scope<'_>) -> Result<String, NoText> {
        if self.canonical && holds_inexact(node)
            || matches!(node, Value::Number(number) if canonical::is_inexact(number))
        {
            let problem = "can't be a number too large to be exact; send it as a string";
            return Err(NoText::refused(path, problem, node));
        }
        let text = match node {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            Value::Number(number) => Cow::Owned(number.to_string()),
            Value::Object(members) if self.canonical && members.is_empty() => Cow::Borrowed(""),
            Value::Object(_) if self.canonical => Cow::Owned(canonical::hash(node, scope.budget)),
            other => {
                let or_object = if self.canonical { "a string, a number or an object" } else { "a string or a number" };
                let problem = format!("has to be {or_object}, not {}", kind_of(other));
                return Err(match other {
                    Value::Null => NoText::absent(path, &problem, Some(node)),
                    _ => NoText::refused(path, &problem, node),
                });
            }
        };
        if text.trim().is_empty() {
            return Err(NoText::absent(path, "can't be blank", Some(node)));
        }
        let Some(capture) = &self.capture else {
            return Ok(text.into_owned());
        };
        match scope.budget.capture(capture, &text).map(|range| &text[range]).filter(|found| !found.trim().is_empty()) {
            Some(found) => Ok(found.to_owned()),
            None => {
                let problem = format!("finds nothing here by /{}/", capture.as_str());
                Err(NoText::absent(path, &problem, Some(node)))
            }
        }
    }

    /// Tells how each path comes to give the text of the part, up to the one that does.
    pub(super) fn tell(&self, scope: Scope<'_>, refuse: Refuse<'_>, reads: &mut Vec<PathTrace>) {
        for (index, path) in self.paths.iter().enumerate() {
            let mut read = PathTrace::of("incident_key", path, scope);
            let how = self.describe();
            if how.is_empty() {
                reads.push(read);
                continue;
            }
            let (verdict, text) = match self.text_at(path, scope, refuse) {
                Ok(text) => ("taken", Some(text)),
                Err(NoText { is_absence: true, .. }) if index + 1 < self.paths.len() => ("next", None),
                Err(NoText { is_absence: true, .. }) if self.optional => ("left out", None),
                Err(_) => ("refused", None),
            };
            read.part = Some(PartTrace { how, verdict, text });
            reads.push(read);
            if !matches!(verdict, "next") {
                return;
            }
        }
    }
}

impl NoText {
    /// The violation; where the key has other parts, with the way to do without this one.
    fn told(self, part: &KeyPart, parts: usize) -> Violation {
        let NoText { mut violation, is_absence } = self;
        if is_absence && parts > 1 {
            let optional = match (part.paths.as_slice(), part.describe().is_empty()) {
                ([path], true) => format!("`{{ path: {}, optional: true }}`", path.as_yaml()),
                _ => "`optional: true` beside it".to_owned(),
            };
            violation.problem.push_str(&format!("; where it may be missing or blank, {optional} leaves it out"));
        }
        violation
    }

    /// There is nothing at this path.
    fn absent(path: &JsonPath, problem: &str, found: Option<&Value>) -> NoText {
        let (path, problem) = (path.as_str().to_owned(), format!("the incident key {problem}"));
        NoText { violation: Violation { path, problem, found: found.map(shown) }, is_absence: true }
    }

    /// There is something that can't be used.
    fn refused(path: &JsonPath, problem: &str, found: &Value) -> NoText {
        NoText { is_absence: false, ..NoText::absent(path, problem, Some(found)) }
    }
}

/// Finds a part of a text.
type Find = fn(&str) -> Option<&str>;

/// The first find among the texts and names of a value.
fn first_found(value: &Value, find: Find) -> Option<&str> {
    match value {
        Value::String(text) => find(text),
        Value::Array(items) => items.iter().find_map(|item| first_found(item, find)),
        Value::Object(members) => {
            members.iter().find_map(|(name, member)| find(name).or_else(|| first_found(member, find)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn with_replacement(text: &str) -> Option<&str> {
    text.contains(char::REPLACEMENT_CHARACTER).then_some(text)
}

fn holds_inexact(value: &Value) -> bool {
    match value {
        Value::Number(number) => canonical::is_inexact(number),
        Value::Array(items) => items.iter().any(holds_inexact),
        Value::Object(members) => members.values().any(holds_inexact),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn joined<'p>(paths: impl IntoIterator<Item = &'p JsonPath>) -> String {
    paths.into_iter().map(JsonPath::as_str).collect::<Vec<_>>().join(", ")
}

/// The values of the `occurrence` paths as a JSON list; none where the element has none of them. One in which something
/// could not be read (`replaced`) counts as missing: it may look like another, and the page be taken for a late copy.
pub(super) fn occurrence(
    paths: &[JsonPath],
    scope: Scope<'_>,
    refuse: Refuse<'_>,
) -> Result<Option<Occurrence>, Vec<Violation>> {
    let is_refused =
        |path: &JsonPath, text: &str| refuse.placeholders.are_refused_at(path) && placeholder::find(text).is_some();
    let values: Vec<Value> = paths
        .iter()
        .map(|path| match path.select(scope).as_slice() {
            [] => Value::Null,
            // It tells no occurrence from another: taken for a value, it would make the next page a copy of this one.
            [Value::String(text)] if text.trim().is_empty() || is_refused(path, text) => Value::Null,
            [node] => (*node).clone(),
            nodes => nodes.iter().map(|node| (*node).clone()).collect(),
        })
        .collect();
    if values.iter().all(Value::is_null) {
        return Ok(None);
    }
    let text = Value::Array(values).to_string();
    scope.budget.spend_bytes(text.len() as u64);
    if refuse.replaced && with_replacement(&text).is_some() {
        return Ok(None);
    }
    if text.len() > OCCURRENCE_BYTES_MAX {
        let path = joined(paths);
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
            canonical::push(node, &mut text, scope.budget);
            text.push(',');
        }
        text.push(']');
    }
    UpdateHash::of(&text)
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

/// An incident key is an index entry, a label and a line in a log.
const KEY_BYTES_MAX: usize = 512;
/// Kept in memory with its key.
const OCCURRENCE_BYTES_MAX: usize = 512;

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
        let parts: Vec<KeyPart> = paths(texts).into_iter().map(KeyPart::of).collect();
        let refuse = Refuse { placeholders: &Placeholders::default(), replaced: false };
        incident_key(&parts, Scope { element: payload, root: payload, budget: &budget }, refuse)
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
            let scope = Scope { element: &payload, root: &payload, budget: &budget };
            occurrence(
                &paths(&["$.start", "$.n"]),
                scope,
                Refuse { placeholders: &Placeholders::default(), replaced: false },
            )
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
        for nothing in ["", " ", "{{ start }}", "at <% event.start_time %>"] {
            assert_eq!(of(json!({"start": nothing})), None, "{nothing}");
            assert_eq!(of(json!({"start": nothing, "n": 1})).as_deref(), Some("[null,1]"), "{nothing}");
        }
    }
}
