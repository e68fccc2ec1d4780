//! From YAML text to [`Node`]s.
//!
//! The parser's events are put together without recursion, so no depth of nesting costs stack, and with the
//! places of keys and scalars. What one can read on after (a key written twice, a tag) leaves a finding; only
//! what breaks the structure ends the reading.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};

use super::{Finding, Findings, Key, Node, Place, Source, Value, redact, scalar, syntax};

/// Reads one YAML document. A text that is no YAML leaves a finding and no tree; an empty text is null.
pub fn parse(source: &Arc<Source>, findings: &mut Findings) -> Option<Node> {
    let mut builder = Builder {
        source,
        findings,
        open: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        documents: 0,
        nodes: 0,
        copied_bytes: 0,
    };
    for next in Parser::new_from_str_with_options(&source.text, options()) {
        match next {
            Ok((event, span)) => match builder.take(event, span) {
                Ok(true) => {}
                Ok(false) => break,
                Err(TooMuch) => return None,
            },
            Err(error) => {
                builder.syntax_error(&error);
                return None;
            }
        }
    }
    let end = Place::Text { source: Arc::clone(source), span: 0..0 };
    Some(builder.root.unwrap_or_else(|| Node::new(Value::Null, end)))
}

/// The parser's settings. Comments are passed over, however many follow each other.
fn options() -> Options {
    granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        strict_indentation: false,
        emit_comments: false,
        max_buffered_comment_events: usize::MAX,
    }
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    findings: &'a mut Findings,
    /// The collections that are not closed yet, outermost first.
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Anchored>,
    documents: usize,
    nodes: usize,
    copied_bytes: usize,
}

/// A collection on its way.
struct Open {
    /// Where it begins, in bytes.
    start: usize,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map {
        entries: Vec<(Key, Node)>,
        /// Key names for finding a repeated one at once.
        seen: HashMap<String, usize>,
        /// The key whose value comes next; without one, a key comes next.
        pending: Option<Pending>,
        /// The mappings that `<<` names: their keys are taken where the mapping has none of its own.
        merged: Vec<Node>,
    },
}

/// A key whose value comes next.
enum Pending {
    Key(Key),
    /// One that can't be used, and was told: its value goes with it.
    Unusable,
}

impl Open {
    /// The parser is inside this mapping, at the value of a key that may hold a secret.
    fn may_hold_secret(&self) -> bool {
        match &self.items {
            Items::Map { pending: Some(Pending::Key(key)), .. } => redact::is_sensitive(&key.name),
            Items::Map { pending: Some(Pending::Unusable), .. } => true,
            _ => false,
        }
    }
}

/// A node that aliases may repeat, with what a repetition costs.
struct Anchored {
    node: Node,
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// A limit was reached; the finding is made.
struct TooMuch;

impl Builder<'_> {
    /// Takes one event; false when the document is read.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<bool, TooMuch> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let place = self.place(span);
                    self.mistake(place, "a second document begins here")
                        .help("one file is one document: remove the `---`, or split the file");
                    return Ok(false);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let place = self.place(span);
                let value = self.scalar(&text, style, tag.as_deref(), &place);
                self.node(Node { value, place }, anchor, 0)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", span);
                self.begin(span, anchor, Items::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", span);
                let items = Items::Map { entries: Vec::new(), seen: HashMap::new(), pending: None, merged: Vec::new() };
                self.begin(span, anchor, items)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
            Event::Alias(anchor) => self.alias(anchor, span)?,
            Event::UnresolvedAlias(_) => {
                let place = self.place(span);
                self.mistake(place.clone(), "this alias names no anchor that stands before it")
                    .help("a value that begins with `*` is written in quotes");
                self.node(Node::new(Value::Null, place), 0, 0)?;
            }
            _ => {}
        }
        Ok(true)
    }

    fn begin(&mut self, span: Span, anchor: usize, items: Items) -> Result<(), TooMuch> {
        if self.open.len() >= DEPTH_MAX {
            return self.too_much(self.place(span), &format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.open.push(Open { start: self.range(span).start, anchor, items });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), TooMuch> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let place = self.collection_place(&open, self.range(span).end);
        let value = match open.items {
            Items::List(items) => Value::List(items),
            Items::Map { entries, seen, merged, .. } => Value::Map(self.merge(entries, &seen, merged)),
        };
        self.node(Node { value, place }, open.anchor, 0)
    }

    /// A collection in brackets stands between them. One in block style is shown at its key, in a list at its first key:
    /// the lines themselves are many.
    fn collection_place(&self, open: &Open, end: usize) -> Place {
        if self.source.text[open.start..].starts_with(['{', '[']) {
            return self.text(open.start..end.max(open.start));
        }
        match (self.open.last().map(|outer| &outer.items), &open.items) {
            (Some(Items::Map { pending: Some(Pending::Key(key)), .. }), _) => key.place.clone(),
            (Some(Items::List(_)), Items::Map { entries, .. }) if !entries.is_empty() => entries[0].0.place.clone(),
            _ => self.text(open.start..open.start),
        }
    }

    /// Puts a finished node where it belongs: as a key, as the pending key's value, into the list, or as the root.
    /// `copied` is its number of nodes where an alias repeats it.
    fn node(&mut self, node: Node, anchor: usize, copied: usize) -> Result<(), TooMuch> {
        self.nodes += copied.max(1);
        if self.nodes > NODES_MAX {
            return self.too_much(node.place, &format!("more than {NODES_MAX} values"));
        }
        if anchor != 0 {
            let (nodes, bytes, depth) = weigh(&node);
            self.nodes += nodes;
            self.copied_bytes += bytes;
            if self.nodes > NODES_MAX || self.copied_bytes > COPIED_BYTES_MAX {
                return self.too_much(node.place, &format!("more than {NODES_MAX} values in anchors"));
            }
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, bytes, depth });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.items {
            Items::List(items) => items.push(node),
            Items::Map { pending: pending @ None, .. } => *pending = Some(key_of(node, self.findings)),
            Items::Map { entries, seen, pending, merged } => {
                let Some(Pending::Key(key)) = pending.take() else {
                    return Ok(());
                };
                if key.name == "<<" {
                    merged.push(node);
                } else if let Some(first) = seen.get(&key.name) {
                    let line = entries.get(*first).and_then(|(key, _)| key.place.line_column()).map_or(0, |at| at.0);
                    let may_be_secret = node.is_null() || self.open.iter().any(Open::may_hold_secret);
                    let private = self.source.private;
                    let name = if private { redact::key(&key.name, &[], may_be_secret) } else { &key.name };
                    self.findings
                        .error(key.place.clone(), "", format!("the key `{name}` is written twice"))
                        .code("duplicate-key")
                        .help(format!("it stands in line {line} already; keep one of them"));
                } else {
                    seen.insert(key.name.clone(), entries.len());
                    entries.push((key, node));
                }
            }
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), TooMuch> {
        let place = self.place(span);
        let Some(anchored) = self.anchors.get(&anchor) else {
            self.mistake(place.clone(), "this alias stands inside of what it repeats");
            return self.node(Node::new(Value::Null, place), 0, 0);
        };
        self.copied_bytes += anchored.bytes;
        if self.open.len() + anchored.depth > DEPTH_MAX {
            return self.too_much(place, &format!("nested deeper than {DEPTH_MAX} levels"));
        }
        if self.nodes + anchored.nodes > NODES_MAX || self.copied_bytes > COPIED_BYTES_MAX {
            return self.too_much(place, &format!("aliases that expand to more than {NODES_MAX} values"));
        }
        let (node, nodes) = (anchored.node.clone(), anchored.nodes);
        self.node(node, 0, nodes)
    }

    /// The mapping's own entries and, for keys that it lacks, those of what `<<` names, the first one first.
    fn merge(
        &mut self,
        mut entries: Vec<(Key, Node)>,
        seen: &HashMap<String, usize>,
        merged: Vec<Node>,
    ) -> Vec<(Key, Node)> {
        let mut taken: HashSet<String> = HashSet::new();
        let mut sources = Vec::new();
        for node in merged {
            match node.value {
                Value::List(items) => sources.extend(items),
                _ => sources.push(node),
            }
        }
        for node in sources {
            let Value::Map(more) = node.value else {
                self.findings.error(node.place, "", "`<<` takes a mapping or a list of mappings");
                continue;
            };
            for (key, node) in more {
                if !seen.contains_key(&key.name) && taken.insert(key.name.clone()) {
                    entries.push((key, node));
                }
            }
        }
        entries
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, place: &Place) -> Value {
        let string = || Value::String(text.to_owned());
        let resolved = match tag {
            None if style == ScalarStyle::Plain => scalar::plain(text),
            None => return string(),
            Some(tag) if tag.is_yaml_core_schema_tag("str") || tag.suffix() == "!" => return string(),
            Some(tag) if ["int", "float", "bool", "null"].iter().any(|name| tag.is_yaml_core_schema_tag(name)) => {
                scalar::plain(text)
            }
            Some(_) => {
                self.unknown_tag(place.clone());
                return string();
            }
        };
        resolved.unwrap_or_else(|scalar::NotFinite| {
            self.mistake(place.clone(), "infinity, NaN and what is as large are no numbers here");
            Value::Null
        })
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, expected: &str, span: Span) {
        if let Some(tag) = tag
            && !tag.is_yaml_core_schema_tag(expected)
            && tag.suffix() != "!"
        {
            self.unknown_tag(self.place(span));
        }
    }

    fn unknown_tag(&mut self, place: Place) {
        self.mistake(place, "a tag such as this (`!…`) means nothing here")
            .help("remove the tag; a value that begins with `!` is written in quotes");
    }

    fn mistake(&mut self, place: Place, message: impl Into<String>) -> &mut Finding {
        self.findings.error(place, "", message).code("invalid-yaml")
    }

    fn too_much<T>(&mut self, place: Place, what: &str) -> Result<T, TooMuch> {
        self.findings.error(place, "", format!("this document holds {what}")).code("invalid-yaml");
        Err(TooMuch)
    }

    fn syntax_error(&mut self, error: &granit_parser::ScanError) {
        let text = &self.source.text;
        let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
        // At the end of the text there is nothing to show: the last line with something in it stands for it.
        let at = if text[at..].trim().is_empty() { text.trim_end().len().saturating_sub(1) } else { at };
        let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
        let place = self.text(at..end);
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let (message, help) = syntax::explain(error.kind(), &text[line_start..at], &text[at..]);
        let finding = self.mistake(place, format!("this is not valid YAML: {message}"));
        if let Some(help) = help {
            finding.help(help);
        }
    }

    fn place(&self, span: Span) -> Place {
        self.text(self.range(span))
    }

    fn text(&self, span: Range<usize>) -> Place {
        Place::Text { source: Arc::clone(self.source), span }
    }

    fn range(&self, span: Span) -> Range<usize> {
        let length = self.source.text.len();
        let range = span.byte_range().unwrap_or(0..0);
        let start = range.start.min(length);
        let text = self.source.text.get(start..range.end.clamp(start, length)).unwrap_or_default();
        // A plain or block scalar may end with the line break that ended it.
        start..start + text.trim_end().len()
    }
}

/// The key that a node spells. Only scalars can be keys; a number or boolean is the text that was written.
fn key_of(node: Node, findings: &mut Findings) -> Pending {
    let name = match &node.value {
        Value::String(text) => text.clone(),
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match &node.place {
            Place::Text { source, span } => source.text.get(span.clone()).unwrap_or_default().to_owned(),
            _ => number.to_string(),
        },
        Value::List(_) | Value::Map(_) => {
            findings
                .error(node.place.clone(), "", "a key is a name, not a list or mapping")
                .help("a text that begins with `{` or `[` is written in quotes");
            return Pending::Unusable;
        }
    };
    Pending::Key(Key { name, place: node.place })
}

/// Nodes, bytes of text and depth of a tree.
fn weigh(node: &Node) -> (usize, usize, usize) {
    let join = |(nodes, bytes, depth): (usize, usize, usize), child: &Node, key: usize| {
        let weight = weigh(child);
        (nodes + weight.0, bytes + weight.1 + key, depth.max(weight.2 + 1))
    };
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) => (1, 0, 0),
        Value::String(text) => (1, text.len(), 0),
        Value::List(items) => items.iter().fold((1, 0, 1), |sum, item| join(sum, item, 0)),
        Value::Map(entries) => entries.iter().fold((1, 0, 1), |sum, (key, node)| join(sum, node, key.name.len())),
    }
}

/// A rule file of ten thousand rules has some 200,000 nodes; an expansion bomb has millions.
const NODES_MAX: usize = 500_000;
/// Text that aliases may repeat in all.
const COPIED_BYTES_MAX: usize = 16 << 20;
/// Deeper nesting than any rule or payload needs, shallow enough for every recursion over a tree.
const DEPTH_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Node>, Findings) {
        let source = Arc::new(Source::new("f.yaml".into(), text.into()));
        let mut findings = Findings::new();
        let node = parse(&source, &mut findings);
        (node, findings)
    }

    /// The text that a node's place covers, with line and column.
    fn at(place: &Place) -> (usize, usize, &str) {
        let (line, column) = place.line_column().unwrap();
        let Place::Text { source, span } = place else { unreachable!() };
        (line, column, &source.text[span.clone()])
    }

    #[test]
    fn every_scalar_keeps_its_place() {
        for (text, key, line, column, written) in [
            ("a: 1\nb: hello world  # note\n", "b", 2, 4, "hello world"),
            ("b: 'it''s'\n", "b", 1, 4, "'it''s'"),
            ("b: \"a\\tb\"\n", "b", 1, 4, "\"a\\tb\""),
            ("ünï: ö\nb: 'wört'\n", "b", 2, 4, "'wört'"),
            ("ünï: { ö: 1, b: x }\n", "ünï", 1, 6, "{ ö: 1, b: x }"),
            ("\u{feff}b: x\n", "b", 1, 4, "x"),
            ("a: 1\r\nb: two\r\nc: 3\r\n", "b", 2, 4, "two"),
            ("b: |\n  one\n  two\nc: 1\n", "b", 2, 3, "one\n  two"),
            ("b: one\n  two\n", "b", 1, 4, "one\n  two"),
            ("b: [x, 'y']\n", "b", 1, 4, "[x, 'y']"),
            ("b:\n  c: 1\n", "b", 1, 1, "b"),
            ("b:\n  - 1\n", "b", 1, 1, "b"),
            ("b: [x: 1]\n", "b", 1, 4, "[x: 1]"),
            ("a: &x secret\nb: *x\n", "b", 1, 7, "secret"),
        ] {
            let (tree, findings) = read(text);
            assert!(findings.is_empty(), "{text:?}: {findings:?}");
            assert_eq!(at(&tree.unwrap().get(key).unwrap().place), (line, column, written), "{text:?}");
        }
    }

    #[test]
    fn comments_may_be_as_long_as_one_likes() {
        let comments = "  # a comment\n".repeat(1_000);
        let (tree, findings) =
            read(&format!("{comments}a:\n{comments}  - b: 1\n{comments}  - c: [x,\n{comments}  y]\n"));
        assert!(tree.is_some() && findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn aliases_and_merges_repeat_what_they_name() {
        let (tree, findings) = read("base: &b { x: 1, y: 2 }\nm: { <<: *b, y: 3 }\nn: { <<: [{ y: 9 }, *b] }\n");
        assert!(findings.is_empty(), "{findings:?}");
        let tree = tree.unwrap().to_json();
        assert_eq!(tree["m"], serde_json::json!({ "y": 3, "x": 1 }));
        assert_eq!(tree["n"], serde_json::json!({ "y": 9, "x": 1 }));
    }

    #[test]
    fn an_empty_text_is_null() {
        for text in ["", "\n", "# a comment\n", "~", "---\n"] {
            let (tree, findings) = read(text);
            assert!(findings.is_empty());
            assert!(tree.unwrap().is_null(), "{text:?}");
        }
    }

    #[test]
    fn mistakes_that_leave_the_structure_whole_are_all_reported() {
        let (tree, findings) = read("a: 1\na: 2\nb: *none\nc: !odd x\n[d]: .inf\n");
        let found: Vec<_> = findings.iter().map(|f| (f.place.line_column().unwrap(), f.message.as_str())).collect();
        assert_eq!(
            found,
            [
                ((2, 1), "the key `a` is written twice"),
                ((3, 4), "this alias names no anchor that stands before it"),
                ((4, 9), "a tag such as this (`!…`) means nothing here"),
                ((5, 1), "a key is a name, not a list or mapping"),
                ((5, 6), "infinity, NaN and what is as large are no numbers here"),
            ]
        );
        assert_eq!(tree.unwrap().get("a").unwrap().to_json(), 1);
    }

    #[test]
    fn a_syntax_error_names_its_place_and_the_remedy() {
        for (text, line, column, message, help) in [
            ("a:\n\t- x\n", 2, 2, "a tab stands where only spaces may", "indent with spaces"),
            ("a: [1, 2\n", 1, 4, "this `[` is never closed", "add its `]`"),
            ("a: 1\nb: {x: 1\n", 2, 4, "this `{` is never closed", "add its `}`"),
            ("a: {p: $.a[0], q: 2}\n", 1, 11, "expected `,` or the closing bracket", "is written in quotes"),
            ("a: \"x\nb: 1\n", 1, 4, "this quote is never closed", "closing quote"),
            ("a: 'x' y\n", 1, 8, "something follows the closing quote", "written twice"),
            ("a: b: c\n", 1, 5, "a second `:` on one line", "in quotes"),
            ("a 1\nb: 2\n", 2, 2, "no key can stand here", "the line above lacks its `:`"),
            ("a:\n  b: 1\n c: 2\n", 3, 2, "expected a key in the column of the other keys", "indentation"),
            ("a:\n  - b\n  c: 2\n", 3, 3, "expected the next `- ` of this list", "indentation"),
            ("a: 1\nb\n", 2, 1, "expected `:` after this key", "blank"),
            ("a: \"\\d+\"\n", 1, 4, "a backslash in this text begins no escape that YAML knows", "single quotes"),
            ("a: @x\n", 1, 4, "a value can't begin with this character", "in quotes"),
            ("a: 1\n---\nb: 2\n", 2, 1, "a second document begins here", "one file is one document"),
        ] {
            let (_, findings) = read(text);
            let finding = findings.iter().next().unwrap_or_else(|| panic!("nothing found in {text:?}"));
            assert_eq!(finding.place.line_column(), Some((line, column)), "{text:?}");
            assert!(finding.message.ends_with(message), "{text:?}: {}", finding.message);
            assert!(finding.help.as_ref().unwrap().contains(help), "{text:?}: {:?}", finding.help);
        }
    }

    #[test]
    fn what_expands_or_nests_without_end_is_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","));
        }
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(","));
        let nested: String = (0..5000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        for text in [bomb, long, nested, "[".repeat(100_000), "- ".repeat(10_000), "{a: ".repeat(10_000)] {
            let (tree, findings) = read(&text);
            assert!(tree.is_none() && findings.has_errors(), "{:.40}", text);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_or_rendering_panic(text in "[-a-c:{}\\[\\]&*!|>'\"#%@,? \t\r\n~<\u{e9}\u{1f600}]{0,60}") {
            let (_, findings) = read(&text);
            let _ = (findings.render(false), findings.render(true), findings.to_json());
        }

        #[test]
        fn no_characters_make_reading_or_rendering_panic(text in "(?s).{0,60}") {
            let (_, findings) = read(&text);
            let _ = (findings.render(false), findings.to_json());
        }
    }
}
