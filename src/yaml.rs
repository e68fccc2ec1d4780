//! A YAML file as a tree that remembers where every node stands, and the findings that point at those
//! places.
//!
//! Configuration, rule files, rule tests and sandbox filters are all read through here, so that every
//! mistake is shown in one look: file, line, column, the line itself with a caret under the exact part,
//! what was expected and the nearest valid name. Reading never stops at the first mistake: a reader
//! takes what it can use and leaves a [`Finding`] for the rest.
//!
//! It reads no file and no environment: text comes in, a tree comes out.

pub(crate) mod fields;
mod finding;
mod parse;
mod redact;
mod report;
mod scalar;
mod snippet;
mod syntax;

pub(crate) use fields::Fields;
pub use finding::Findings;
pub(crate) use finding::{Finding, Severity, nearest};
pub use parse::parse;
pub(crate) use redact::{is_sensitive, shown};

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text with the name a person knows it by.
#[derive(PartialEq, Eq)]
pub struct Source {
    /// The path as the operator wrote it.
    pub name: String,
    pub text: String,
    /// Secrets may be written out in it, so that no value of it is shown.
    private: bool,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
}

/// The origin of a node; a finding about the node points there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Bytes of a file.
    Text { source: Arc<Source>, span: Range<usize> },
    /// An environment variable, by name.
    Environment(String),
    /// A command-line flag, as typed.
    Flag(String),
    /// A default of this program's own.
    Default,
}

/// One YAML node and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

/// The value of a node. Keys of a mapping are strings and keep their order and their own places.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub place: Place,
}

impl Source {
    pub fn new(name: String, text: String) -> Source {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { name, text, private: false, lines }
    }

    /// A copy of the text that counts as holding secrets: findings show its keys and not its values.
    pub fn as_private(&self) -> Source {
        let Source { name, text, lines, .. } = self;
        Source { name: name.clone(), text: text.clone(), private: true, lines: lines.clone() }
    }

    /// Line and column of a byte, both from 1, the column in characters. None within a character.
    fn line_column(&self, at: usize) -> Option<(usize, usize)> {
        let at = at.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let before = self.text.get(self.line_start(line).min(at)..at)?;
        Some((line, before.chars().count() + 1))
    }

    /// Where a line begins, in bytes; a byte order mark is no part of the first.
    fn line_start(&self, line: usize) -> usize {
        match self.lines.get(line - 1) {
            Some(0) if self.text.starts_with(BYTE_ORDER_MARK) => BYTE_ORDER_MARK.len_utf8(),
            Some(start) => *start,
            None => self.text.len(),
        }
    }
}

/// The text may hold secrets, and every place carries its source.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} bytes)", self.name, self.text.len())
    }
}

impl Place {
    /// The part `range` (in bytes of its text) of a scalar, however its lines and quotes are written; the whole scalar
    /// where the part itself is written otherwise than it reads, or stands in no file.
    pub fn within(&self, text: &str, range: Range<usize>) -> Place {
        self.part(text, range).unwrap_or_else(|| self.clone())
    }

    fn part(&self, text: &str, range: Range<usize>) -> Option<Place> {
        let Place::Text { source, span } = self else {
            return None;
        };
        let written = source.text.get(span.clone())?;
        // An empty part stands behind the character before it.
        let before = || text.get(..range.start)?.char_indices().next_back();
        let start = if range.is_empty() { before()?.0 } else { range.start };
        let part = text.get(start..range.end)?;
        // Where a text has as many of it as the file has, they are the same ones.
        let index = text.match_indices(part).position(|(at, _)| at == start)?;
        if text.matches(part).count() != written.matches(part).count() {
            return None;
        }
        let end = span.start + written.match_indices(part).nth(index)?.0 + part.len();
        Some(Place::Text { source: Arc::clone(source), span: end - range.len()..end })
    }

    /// Stands in a text that may hold secrets.
    fn is_private(&self) -> bool {
        matches!(self, Place::Text { source, .. } if source.private)
    }

    /// Line and column, both from 1 and in characters; none for a place outside a file.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        self.position(|span| span.start)
    }

    /// Line and column directly behind it, likewise.
    pub fn end_line_column(&self) -> Option<(usize, usize)> {
        self.position(|span| span.end)
    }

    fn position(&self, of: impl Fn(&Range<usize>) -> usize) -> Option<(usize, usize)> {
        let Place::Text { source, span } = self else {
            return None;
        };
        source.line_column(of(span))
    }
}

impl Node {
    /// A node that no file holds.
    pub fn new(value: Value, place: Place) -> Node {
        Node { value, place }
    }

    /// The kind of the value, as a person calls it.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::List(items) if items.is_empty() => "an empty list",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The node at `name`, if this is a mapping that has it.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Where the key `name` stands, as opposed to its value; this node where it has no such key.
    pub fn key_place(&self, name: &str) -> Place {
        let key = match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.name == name),
            _ => None,
        };
        key.map_or(&self.place, |(key, _)| &key.place).clone()
    }

    /// The tree as JSON, without places.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::String(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect(),
            ),
        }
    }
}

/// Some editors put it before a text; it is no part of it.
const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_pointed_at_where_it_is_written_as_it_reads() {
        for (yaml, needle, line, column, written) in [
            ("b: $.a-b # a-b\n", "a-b", 1, 6, "a-b"),
            ("b: '$.a-b'\n", "a-b", 1, 7, "a-b"),
            ("b: '$[''it''][x]'\n", "x", 1, 15, "x"),
            ("b: '$[''it''][x]'\n", "'it'", 1, 8, "'it'"),
            ("b: 'a-a-a-b'\n", "a-b", 1, 9, "a-b"),
            ("b: \"$['\\\"'][x]\"\n", "x", 1, 13, "x"),
            ("b: \"\\\\w(x\"\n", "(", 1, 8, "("),
            ("b: \"\\t(x\"\n", "(", 1, 7, "("),
            ("b: >-\n  $.a[\n", "[", 2, 6, "["),
            ("b: one\n  two (three\n", "(", 2, 7, "("),
            ("b: |\n  one\n    two (\n\n  end\nc: 1\n", "end", 5, 3, "end"),
            ("b: \"\\x28(\"\n", "(", 1, 4, "\"\\x28(\""),
            ("ü: ö\nb: 'ö(é'\n", "(", 2, 6, "("),
            ("x: &x '$.a-b'\nb: *x\n", "a-b", 1, 10, "a-b"),
        ] {
            let source = Arc::new(Source::new("f.yaml".into(), yaml.into()));
            let tree = parse(&source, &mut Findings::new()).unwrap();
            let node = tree.get("b").unwrap();
            let text = node.as_str().unwrap();
            let start = text.find(needle).unwrap();
            let place = node.place.within(text, start..start + needle.len());
            assert_eq!(place.line_column(), Some((line, column)), "{yaml:?}");
            let Place::Text { source, span } = place else { unreachable!() };
            assert_eq!(&source.text[span], written, "{yaml:?}");
        }
    }
}
