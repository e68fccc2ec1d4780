//! From YAML text to [`Node`]s, by serde-saphyr.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{Findings, Key, Node, Place, Source, Value};

/// Reads one YAML document. A text that is no YAML leaves a finding and no tree; an empty text is null.
pub fn parse(source: &Arc<Source>, findings: &mut Findings) -> Option<Node> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        with_snippet: false,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        budget: serde_saphyr::budget! { max_nodes: NODES_MAX, max_depth: DEPTH_MAX },
    };
    match serde_saphyr::from_str_with_options::<Spanned<Tree>>(&source.text, options) {
        Ok(tree) => Some(locate(tree, source)),
        Err(error) => {
            let place = match error.location() {
                Some(location) => place(source, location),
                None => Place::Text { source: Arc::clone(source), span: 0..0 },
            };
            findings.error(place, "", format!("this is not valid YAML: {}", message(&error)));
            None
        }
    }
}

/// serde-saphyr puts the position into its text too; the finding has that already.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    match text.rsplit_once(" at line ") {
        Some((message, position)) if position.starts_with(|c: char| c.is_ascii_digit()) => message.to_owned(),
        _ => text,
    }
}

fn place(source: &Arc<Source>, location: Location) -> Place {
    let span = location.span();
    let length = usize::try_from(span.byte_len().unwrap_or(0)).unwrap_or(0);
    let start = span.byte_offset().and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0).min(source.text.len());
    let end = (start + length).min(source.text.len());
    Place::Text { source: Arc::clone(source), span: start..end }
}

fn locate(tree: Spanned<Tree>, source: &Arc<Source>) -> Node {
    let value = match tree.value {
        Tree::Null => Value::Null,
        Tree::Bool(value) => Value::Bool(value),
        Tree::Number(number) => Value::Number(number),
        Tree::String(text) => Value::String(text),
        Tree::List(items) => Value::List(items.into_iter().map(|item| locate(item, source)).collect()),
        Tree::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| {
                    let place = place(source, key.referenced);
                    (Key { name: key.value, place }, locate(node, source))
                })
                .collect(),
        ),
    };
    Node { value, place: place(source, tree.referenced) }
}

/// The shape that serde fills; it becomes a [`Node`] once the text is at hand for the places.
enum Tree {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        serde_json::Number::from_f64(value)
            .map(Tree::Number)
            .ok_or_else(|| E::custom("infinity and NaN are not numbers here"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}

/// A rule file of a thousand rules has some 20,000 nodes; an expansion bomb has millions.
const NODES_MAX: usize = 500_000;
/// Deeper nesting than any rule or payload needs, shallow enough for every recursion here.
const DEPTH_MAX: usize = 100;
