//! JSONPath (RFC 9535): the one file that names the crate which parses it.
//!
//! The crate gives a syntax tree; this file checks the tree, refuses what the parser takes by mistake and turns
//! the rest into the project's own [`Query`], which is walked without the crate. Beside `$…` there is `$$…`: a
//! path into the whole payload, where `$` is one element of a batch.

mod hints;
mod miss;
mod query;
mod quotes;
mod spelling;

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use jsonpath_rust::parser::errors::JsonPathError;
use jsonpath_rust::parser::model as parsed;
use jsonpath_rust::parser::parse_json_path;
use serde_json::Value;

use super::budget::Budget;
use super::pattern;

pub(super) use self::miss::{MEANT, spelled};
pub(crate) use self::query::Nodes;
use self::query::{Comparator, Logical, Operand, Pattern, Query, Segment, Selector, Start, Step};

/// A path, parsed and checked.
#[derive(Clone, Debug)]
pub struct JsonPath {
    text: String,
    /// `$$…`: begins at the whole payload.
    whole: bool,
    query: Query,
}

/// The reason why a text is no usable path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// The problem, in a sentence.
    pub message: String,
    /// Its place in the text, in bytes.
    pub range: Range<usize>,
    /// The likely meaning, or a remedy.
    pub help: Option<String>,
}

/// The values that a path reads, and the work it may still do.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'v> {
    /// `$`.
    pub element: &'v Value,
    /// `$$`.
    pub root: &'v Value,
    pub budget: &'v Budget,
}

impl JsonPath {
    /// Parses `$…` or `$$…`.
    pub fn parse(text: &str) -> Result<JsonPath, PathError> {
        spelling::check(text)?;
        let whole = text.starts_with("$$");
        let offset = usize::from(whole);
        let tree = parse_json_path(&text[offset..]).map_err(|error| refused(text, offset, &error))?;
        let reading = Reading { text, masked: quotes::masked(text).text, next: Cell::new(0) };
        let query = reading.query(Start::Root, &tree.segments)?;
        Ok(JsonPath { text: text.to_owned(), whole, query })
    }

    /// The nodes that the path selects, in RFC 9535's order. Where the budget ends, so do the nodes.
    pub fn select<'v>(&self, scope: Scope<'v>) -> Nodes<'v> {
        let root = if self.whole { scope.root } else { scope.element };
        self.query.select(root, root, scope.budget)
    }

    /// The first node that the path selects.
    pub fn first<'v>(&self, scope: Scope<'v>) -> Option<&'v Value> {
        self.select(scope).as_slice().first().copied()
    }

    /// Tells why it selects nothing, where more is wrong than that the last name is missing.
    pub fn why_missing(&self, scope: Scope<'_>) -> Option<String> {
        let (start, root) = if self.whole { ("$$", scope.root) } else { ("$", scope.element) };
        miss::why_missing(self.query.steps()?, start, root)
    }

    /// Tells a path that selects one node at most, whatever the payload.
    pub fn is_singular(&self) -> bool {
        self.query.is_singular()
    }

    /// Tells a path that asks its beginning for a member by name.
    pub fn begins_with_name(&self) -> bool {
        self.query.begins_with_name()
    }

    /// Tells a path without a step: all that it begins at.
    pub fn is_root(&self) -> bool {
        self.query.steps().is_some_and(<[Step]>::is_empty)
    }

    /// Tells a path into the whole payload (`$$…`).
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Tells two spellings of one path, as `$.a` and `$['a']`. Two paths that are not singular are the same only if they
    /// are spelled alike.
    pub fn is_same(&self, other: &JsonPath) -> bool {
        self.whole == other.whole && (self.text == other.text || self.query.is_same_singular(&other.query))
    }

    /// The member of an element that it names, where it is no more than that.
    pub fn member(&self) -> Option<&str> {
        match self.query.steps()? {
            [Step::Name(name)] if !self.whole => Some(name),
            _ => None,
        }
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path as a list or a mapping of YAML in one line takes it.
    pub(super) fn as_yaml(&self) -> String {
        let plain = self.text.chars().all(|c| c.is_ascii_alphanumeric() || "$._-".contains(c));
        if plain { self.text.clone() } else { format!("'{}'", self.text.replace('\'', "''")) }
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Turns the parser's error into ours, with the place where it stopped.
fn refused(text: &str, offset: usize, error: &JsonPathError) -> PathError {
    let position = match error {
        // The location's type belongs to the parser's own parser; its debug form begins with the byte where it stopped.
        JsonPathError::PestError(error) => first_number(&format!("{:?}", error.location)),
        _ => None,
    };
    hints::explain(text, position.map(|position| position + offset))
}

fn first_number(text: &str) -> Option<usize> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let digits = &text[start..];
    digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())].parse().ok()
}

/// Turns the parser's tree into ours. The tree has no positions; it is walked in the order of the text, so that the
/// functions met in it are those in the text, one after the other.
struct Reading<'a> {
    text: &'a str,
    /// The text without what is quoted in it.
    masked: String,
    /// The byte behind the name of the function that was met last.
    next: Cell<usize>,
}

impl Reading<'_> {
    fn query(&self, start: Start, segments: &[parsed::Segment]) -> Result<Query, PathError> {
        let segments = segments.iter().map(|segment| self.segment(segment)).collect::<Result<_, _>>()?;
        Ok(Query::new(start, segments))
    }

    fn segment(&self, segment: &parsed::Segment) -> Result<Segment, PathError> {
        Ok(match segment {
            parsed::Segment::Descendant(inner) => match self.segment(inner)? {
                Segment::Child(selectors) | Segment::Descendant(selectors) => Segment::Descendant(selectors),
            },
            parsed::Segment::Selector(selector) => Segment::Child(vec![self.selector(selector)?]),
            parsed::Segment::Selectors(selectors) => {
                Segment::Child(selectors.iter().map(|selector| self.selector(selector)).collect::<Result<_, _>>()?)
            }
        })
    }

    fn selector(&self, selector: &parsed::Selector) -> Result<Selector, PathError> {
        Ok(match selector {
            parsed::Selector::Name(name) => Selector::Name(name.clone()),
            parsed::Selector::Wildcard => Selector::Wildcard,
            parsed::Selector::Index(index) => Selector::Index(*index),
            parsed::Selector::Slice(start, end, step) => {
                Selector::Slice { start: *start, end: *end, step: step.unwrap_or(1) }
            }
            parsed::Selector::Filter(filter) => Selector::Filter(self.filter(filter)?),
        })
    }

    fn filter(&self, filter: &parsed::Filter) -> Result<Logical, PathError> {
        let all = |filters: &[parsed::Filter]| {
            filters.iter().map(|filter| self.filter(filter)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match filter {
            parsed::Filter::Or(filters) => Logical::Or(all(filters)?),
            parsed::Filter::And(filters) => Logical::And(all(filters)?),
            parsed::Filter::Atom(parsed::FilterAtom::Filter { expr, not }) => negated(*not, self.filter(expr)?),
            parsed::Filter::Atom(parsed::FilterAtom::Test { expr, not }) => negated(*not, self.test(expr)?),
            parsed::Filter::Atom(parsed::FilterAtom::Comparison(comparison)) => self.comparison(comparison)?,
        })
    }

    fn test(&self, test: &parsed::Test) -> Result<Logical, PathError> {
        match test {
            parsed::Test::RelQuery(segments) => Ok(Logical::Exists(self.query(Start::Current, segments)?)),
            parsed::Test::AbsQuery(query) => Ok(Logical::Exists(self.query(Start::Root, &query.segments)?)),
            parsed::Test::Function(function) => {
                let call = self.call();
                match &**function {
                    parsed::TestFunction::Match(text, pattern) => self.pattern(&call, text, pattern, true),
                    parsed::TestFunction::Search(text, pattern) => self.pattern(&call, text, pattern, false),
                    parsed::TestFunction::Custom(..) => Err(self.unknown_function(&call)),
                    parsed::TestFunction::Length(_)
                    | parsed::TestFunction::Count(_)
                    | parsed::TestFunction::Value(_) => {
                        Err(self.misused(&call, "has to be compared with something", "for example `{}(…) > 0`"))
                    }
                }
            }
        }
    }

    fn pattern(
        &self,
        call: &Range<usize>,
        text: &parsed::FnArg,
        pattern: &parsed::FnArg,
        whole: bool,
    ) -> Result<Logical, PathError> {
        let text = self.value_argument(call, text)?;
        let pattern = match self.value_argument(call, pattern)? {
            Operand::Literal(Value::String(literal)) => match pattern::Pattern::of_path(&literal, whole) {
                Ok(regex) => Pattern::Fixed(regex),
                Err(error) => {
                    return Err(PathError {
                        message: format!("`{literal}` is no regular expression: {}", error.message),
                        range: self.pattern_place(call),
                        help: Some(
                            "the syntax is that of the Rust crate `regex`: no look-around, no back-references".into(),
                        ),
                    });
                }
            },
            other => Pattern::Read(other),
        };
        Ok(Logical::Match { text, pattern, whole })
    }

    fn comparison(&self, comparison: &parsed::Comparison) -> Result<Logical, PathError> {
        let comparator = match comparison {
            parsed::Comparison::Eq(..) => Comparator::Equal,
            parsed::Comparison::Ne(..) => Comparator::NotEqual,
            parsed::Comparison::Gt(..) => Comparator::Greater,
            parsed::Comparison::Gte(..) => Comparator::GreaterOrEqual,
            parsed::Comparison::Lt(..) => Comparator::Less,
            parsed::Comparison::Lte(..) => Comparator::LessOrEqual,
        };
        let (left, right) = comparison.vals();
        Ok(Logical::Compare { left: self.comparable(left)?, comparator, right: self.comparable(right)? })
    }

    fn comparable(&self, comparable: &parsed::Comparable) -> Result<Operand, PathError> {
        match comparable {
            parsed::Comparable::Literal(value) => Ok(Operand::Literal(literal(value))),
            parsed::Comparable::Function(function) => self.value_function(function),
            parsed::Comparable::SingularQuery(parsed::SingularQuery::Current(steps)) => {
                Ok(Operand::Node(Query::singular(Start::Current, steps.iter().map(step).collect())))
            }
            parsed::Comparable::SingularQuery(parsed::SingularQuery::Root(steps)) => {
                Ok(Operand::Node(Query::singular(Start::Root, steps.iter().map(step).collect())))
            }
        }
    }

    /// A function whose result is a value.
    fn value_function(&self, function: &parsed::TestFunction) -> Result<Operand, PathError> {
        let call = self.call();
        match function {
            parsed::TestFunction::Length(argument) => {
                Ok(Operand::Length(Box::new(self.value_argument(&call, argument)?)))
            }
            parsed::TestFunction::Count(argument) => Ok(Operand::Count(self.nodes_argument(&call, argument)?)),
            parsed::TestFunction::Value(argument) => Ok(Operand::Value(self.nodes_argument(&call, argument)?)),
            parsed::TestFunction::Custom(..) => Err(self.unknown_function(&call)),
            parsed::TestFunction::Match(..) | parsed::TestFunction::Search(..) => Err(self.no_value(&call)),
        }
    }

    /// An argument that must be one value: a literal, a singular path or a function that gives a value.
    fn value_argument(&self, call: &Range<usize>, argument: &parsed::FnArg) -> Result<Operand, PathError> {
        let query = match argument {
            parsed::FnArg::Literal(value) => return Ok(Operand::Literal(literal(value))),
            parsed::FnArg::Filter(_) => return Err(self.not_a_value(call)),
            parsed::FnArg::Test(test) => match &**test {
                parsed::Test::Function(inner) => return self.value_function(inner),
                parsed::Test::RelQuery(segments) => self.query(Start::Current, segments)?,
                parsed::Test::AbsQuery(query) => self.query(Start::Root, &query.segments)?,
            },
        };
        if query.is_singular() { Ok(Operand::Node(query)) } else { Err(self.not_a_value(call)) }
    }

    /// An argument that must be a path, which may select any number of nodes.
    fn nodes_argument(&self, call: &Range<usize>, argument: &parsed::FnArg) -> Result<Query, PathError> {
        if let parsed::FnArg::Test(test) = argument {
            match &**test {
                parsed::Test::RelQuery(segments) => return self.query(Start::Current, segments),
                parsed::Test::AbsQuery(query) => return self.query(Start::Root, &query.segments),
                parsed::Test::Function(_) => {}
            }
        }
        Err(self.misused(call, "takes a path", "such as `{}(@.items[*])`"))
    }

    /// Refuses a function for what is told of it; `{}` in the help is its name.
    fn misused(&self, call: &Range<usize>, problem: &str, help: &str) -> PathError {
        let name = &self.text[call.clone()];
        PathError {
            message: format!("`{name}()` {problem}"),
            range: call.clone(),
            help: Some(help.replace("{}", name)),
        }
    }

    fn no_value(&self, call: &Range<usize>) -> PathError {
        let problem = "is true or false and can't be compared or passed on";
        self.misused(call, problem, "write it alone: `[?{}(@.name, 'pattern')]`")
    }

    fn not_a_value(&self, call: &Range<usize>) -> PathError {
        let help = "use a path without `*`, `..`, slices, lists or filters, or wrap it in `value(…)`";
        self.misused(call, "takes one value here, and this path may select several", help)
    }

    fn unknown_function(&self, call: &Range<usize>) -> PathError {
        let help = hints::at(self.text, call.start);
        let help = help.unwrap_or_else(|| hints::FUNCTIONS.to_owned());
        self.misused(call, "is no function of RFC 9535", &help)
    }

    /// The place of the next function's name.
    fn call(&self) -> Range<usize> {
        let from = self.next.get();
        let calls = self.masked.match_indices('(').map(|(open, _)| open).filter(|open| *open >= from);
        let mut names = calls.map(|open| self.masked[..open].trim_end_matches(is_function_name).len()..open);
        let found = names.find(|name| !name.is_empty()).unwrap_or(0..self.text.len());
        self.next.set(found.end + 1);
        found
    }

    /// The place of a function's pattern: of the last text among its arguments, without the quotes.
    fn pattern_place(&self, call: &Range<usize>) -> Range<usize> {
        let behind = &self.masked[call.end..];
        let arguments = &behind[..behind.find(')').unwrap_or(behind.len())];
        let quoted = |end: usize| Some(arguments[..end].rfind(['\'', '"'])? + 1..end);
        let place = arguments.rfind(['\'', '"']).and_then(quoted);
        place.map_or(call.clone(), |place| call.end + place.start..call.end + place.end)
    }
}

fn is_function_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn negated(not: bool, logical: Logical) -> Logical {
    if not { Logical::Not(Box::new(logical)) } else { logical }
}

fn literal(literal: &parsed::Literal) -> Value {
    match literal {
        parsed::Literal::Int(value) => (*value).into(),
        // JSON holds no infinity: a literal beyond the range of a double counts as the largest one.
        parsed::Literal::Float(value) => (*value).clamp(f64::MIN, f64::MAX).into(),
        parsed::Literal::String(text) => text.clone().into(),
        parsed::Literal::Bool(value) => (*value).into(),
        parsed::Literal::Null => Value::Null,
    }
}

fn step(segment: &parsed::SingularQuerySegment) -> Step {
    match segment {
        parsed::SingularQuerySegment::Index(index) => Step::Index(*index),
        parsed::SingularQuerySegment::Name(name) => Step::Name(name.clone()),
    }
}
