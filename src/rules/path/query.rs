//! A JSONPath query and the walk over a document: RFC 9535's semantics and order, nothing cached, nothing
//! allocated for a singular path, and never more work than the [`Budget`] allows.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use crate::rules::budget::{BYTES_PER_STEP, Budget};
use crate::rules::pattern::Pattern as Compiled;
use crate::rules::value::{compare_numbers, equal};

/// The nodes that a path selects. One node, the common case, needs no memory.
#[derive(Clone, Debug)]
pub enum Nodes<'v> {
    None,
    One(&'v Value),
    Several(Vec<&'v Value>),
}

#[derive(Clone, Debug)]
pub(super) struct Query {
    start: Start,
    steps: Steps,
}

/// The node at which a query begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// `$`
    Root,
    /// `@`
    Current,
}

#[derive(Clone, Debug)]
enum Steps {
    /// Names and indexes only: a walk along pointers.
    Singular(Vec<Step>),
    General(Vec<Segment>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Name(String),
    Index(i64),
}

#[derive(Clone, Debug)]
pub(super) enum Segment {
    Child(Vec<Selector>),
    Descendant(Vec<Selector>),
}

#[derive(Clone, Debug)]
pub(super) enum Selector {
    Name(String),
    Wildcard,
    Index(i64),
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    Filter(Logical),
}

/// The test that a filter makes of a node.
#[derive(Clone, Debug)]
pub(super) enum Logical {
    Or(Vec<Logical>),
    And(Vec<Logical>),
    Not(Box<Logical>),
    Exists(Query),
    Compare { left: Operand, comparator: Comparator, right: Operand },
    Match { text: Operand, pattern: Pattern, whole: bool },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Something with one value or none.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Literal(Value),
    /// A singular query.
    Node(Query),
    Length(Box<Operand>),
    Count(Query),
    Value(Query),
}

#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Fixed(Compiled),
    /// One that the document brings.
    Read(Operand),
}

/// The surroundings of a filter: `@`, `$` and the budget.
#[derive(Clone, Copy)]
struct Sight<'v> {
    current: &'v Value,
    root: &'v Value,
    budget: &'v Budget,
}

impl<'v> Nodes<'v> {
    pub fn as_slice(&self) -> &[&'v Value] {
        match self {
            Nodes::None => &[],
            Nodes::One(node) => std::slice::from_ref(node),
            Nodes::Several(nodes) => nodes,
        }
    }
}

impl Query {
    pub(super) fn new(start: Start, segments: Vec<Segment>) -> Query {
        let singular: Option<Vec<Step>> = segments.iter().map(single_step).collect();
        Query { start, steps: singular.map_or(Steps::General(segments), Steps::Singular) }
    }

    pub(super) fn singular(start: Start, steps: Vec<Step>) -> Query {
        Query { start, steps: Steps::Singular(steps) }
    }

    pub(super) fn is_singular(&self) -> bool {
        matches!(self.steps, Steps::Singular(_))
    }

    /// Tells two singular queries that take the same steps.
    pub(super) fn is_same_singular(&self, other: &Query) -> bool {
        self.steps().is_some() && self.steps() == other.steps()
    }

    pub(super) fn begins_with_name(&self) -> bool {
        match &self.steps {
            Steps::Singular(steps) => matches!(steps.first(), Some(Step::Name(_))),
            Steps::General(segments) => match segments.first() {
                Some(Segment::Child(selectors)) => selectors.iter().all(|one| matches!(one, Selector::Name(_))),
                _ => false,
            },
        }
    }

    /// The way of a singular query.
    pub(super) fn steps(&self) -> Option<&[Step]> {
        match &self.steps {
            Steps::Singular(steps) => Some(steps),
            Steps::General(_) => None,
        }
    }

    /// The selected nodes, in order.
    pub(super) fn select<'v>(&self, current: &'v Value, root: &'v Value, budget: &'v Budget) -> Nodes<'v> {
        let sight = Sight { current, root, budget };
        match &self.steps {
            Steps::Singular(steps) => self.walk(steps, sight).map_or(Nodes::None, Nodes::One),
            Steps::General(segments) => Nodes::Several(self.collect(segments, sight)),
        }
    }

    fn begin<'v>(&self, sight: Sight<'v>) -> &'v Value {
        match self.start {
            Start::Root => sight.root,
            Start::Current => sight.current,
        }
    }

    fn walk<'v>(&self, steps: &[Step], sight: Sight<'v>) -> Option<&'v Value> {
        if !sight.budget.spend(1) {
            return None;
        }
        let mut node = self.begin(sight);
        for (depth, step) in steps.iter().enumerate() {
            // Most paths are short and their names as well: the one step above pays for them.
            if depth >= STEPS_PER_STEP && !sight.budget.spend(1) {
                return None;
            }
            node = match step {
                Step::Name(name) => named(node, name, sight)?,
                Step::Index(index) => item(node, *index)?,
            };
        }
        Some(node)
    }

    fn collect<'v>(&self, segments: &[Segment], sight: Sight<'v>) -> Vec<&'v Value> {
        let mut nodes = vec![self.begin(sight)];
        for segment in segments {
            let mut selected = Vec::new();
            for node in nodes {
                match segment {
                    Segment::Child(selectors) => select_children(selectors, node, sight, &mut selected),
                    Segment::Descendant(selectors) => descend(selectors, node, sight, &mut selected),
                }
                if selected.len() > NODES_MAX {
                    sight.budget.end();
                }
                if sight.budget.is_exhausted() {
                    return Vec::new();
                }
            }
            nodes = selected;
        }
        nodes
    }

    /// The value of a query that selects one node.
    fn value<'v>(&self, sight: Sight<'v>) -> Option<&'v Value> {
        match self.select(sight.current, sight.root, sight.budget).as_slice() {
            [node] => Some(node),
            _ => None,
        }
    }
}

/// Applies selectors to a node and to everything below it, parents before children.
fn descend<'v>(selectors: &[Selector], top: &'v Value, sight: Sight<'v>, selected: &mut Vec<&'v Value>) {
    let mut waiting = vec![top];
    while let Some(node) = waiting.pop() {
        if !sight.budget.spend(1) {
            return;
        }
        select_children(selectors, node, sight, selected);
        if selected.len() > NODES_MAX {
            sight.budget.end();
            return;
        }
        match node {
            Value::Array(items) => waiting.extend(items.iter().rev()),
            Value::Object(members) => waiting.extend(members.values().rev()),
            _ => {}
        }
    }
}

fn select_children<'v>(selectors: &[Selector], node: &'v Value, sight: Sight<'v>, selected: &mut Vec<&'v Value>) {
    for selector in selectors {
        match selector {
            Selector::Name(name) => {
                selected.extend(spend(sight).and_then(|()| named(node, name, sight)));
            }
            Selector::Index(index) => selected.extend(spend(sight).and_then(|()| item(node, *index))),
            Selector::Wildcard => {
                selected.extend(children(node).take_while(|_| spend(sight).is_some()));
            }
            Selector::Slice { start, end, step } => {
                if let Value::Array(items) = node {
                    selected.extend(slice(items, *start, *end, *step).take_while(|_| spend(sight).is_some()));
                }
            }
            Selector::Filter(logical) => {
                selected.extend(
                    children(node)
                        .take_while(|_| spend(sight).is_some())
                        .filter(|child| logical.holds(Sight { current: child, ..sight })),
                );
            }
        }
    }
}

/// A member by its name. Looking for a long name pays for its length.
fn named<'v>(node: &'v Value, name: &str, sight: Sight<'v>) -> Option<&'v Value> {
    let members = node.as_object()?;
    if name.len() as u64 >= BYTES_PER_STEP && !sight.budget.spend_bytes(name.len() as u64) {
        return None;
    }
    members.get(name)
}

fn spend(sight: Sight<'_>) -> Option<()> {
    sight.budget.spend(1).then_some(())
}

fn single_step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Child(selectors) => match selectors.as_slice() {
            [Selector::Name(name)] => Some(Step::Name(name.clone())),
            [Selector::Index(index)] => Some(Step::Index(*index)),
            _ => None,
        },
        Segment::Descendant(_) => None,
    }
}

/// A node's children: an array's items, or an object's values in the order of the document.
fn children(node: &Value) -> impl Iterator<Item = &Value> {
    let items = node.as_array().into_iter().flatten();
    let members = node.as_object().into_iter().flat_map(|members| members.values());
    items.chain(members)
}

/// An item by its index, from the end where that is negative.
fn item(node: &Value, index: i64) -> Option<&Value> {
    let items = node.as_array()?;
    let offset = usize::try_from(index.unsigned_abs()).ok()?;
    if index < 0 { items.get(items.len().checked_sub(offset)?) } else { items.get(offset) }
}

/// RFC 9535, 2.3.4.2.2, with the bounds clamped to the array before anything is counted.
fn slice(items: &[Value], start: Option<i64>, end: Option<i64>, step: i64) -> impl Iterator<Item = &Value> {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let from_end = |bound: i64| if bound < 0 { length.saturating_add(bound) } else { bound };
    let (first, last) = if step >= 0 {
        (from_end(start.unwrap_or(0)).clamp(0, length), from_end(end.unwrap_or(length)).clamp(0, length))
    } else {
        (start.map_or(length - 1, from_end).clamp(-1, length - 1), end.map_or(-1, from_end).clamp(-1, length - 1))
    };
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let index = next?;
        let inside = if step > 0 { index < last } else { step < 0 && index > last };
        next = index.checked_add(step);
        if inside { usize::try_from(index).ok().and_then(|index| items.get(index)) } else { None }
    })
}

impl Logical {
    fn holds(&self, sight: Sight<'_>) -> bool {
        if !sight.budget.spend(1) {
            return false;
        }
        match self {
            Logical::Or(logicals) => logicals.iter().any(|logical| logical.holds(sight)),
            Logical::And(logicals) => logicals.iter().all(|logical| logical.holds(sight)),
            Logical::Not(logical) => !logical.holds(sight),
            Logical::Exists(query) => !query.select(sight.current, sight.root, sight.budget).as_slice().is_empty(),
            Logical::Compare { left, comparator, right } => {
                comparator.holds(left.value(sight).as_deref(), right.value(sight).as_deref(), sight.budget)
            }
            Logical::Match { text, pattern, whole } => {
                let text = text.value(sight);
                let Some(text) = text.as_deref().and_then(Value::as_str) else {
                    return false;
                };
                match pattern {
                    Pattern::Fixed(pattern) => sight.budget.search(pattern, text),
                    Pattern::Read(pattern) => {
                        let pattern = pattern.value(sight);
                        let Some(pattern) = pattern.as_deref().and_then(Value::as_str) else {
                            return false;
                        };
                        sight.budget.matches(pattern, *whole, text)
                    }
                }
            }
        }
    }
}

impl Comparator {
    /// RFC 9535, 2.3.5.2.2; nothing equals nothing.
    fn holds(self, left: Option<&Value>, right: Option<&Value>, budget: &Budget) -> bool {
        let equals = || match (left, right) {
            (Some(left), Some(right)) => equal(left, right, budget),
            (left, right) => left.is_none() && right.is_none(),
        };
        let order = || match (left?, right?) {
            (Value::Number(left), Value::Number(right)) => Some(compare_numbers(left, right)),
            (Value::String(left), Value::String(right)) => {
                budget.spend_bytes(left.len().min(right.len()) as u64).then(|| left.cmp(right))
            }
            _ => None,
        };
        match self {
            Comparator::Equal => equals(),
            Comparator::NotEqual => !equals(),
            Comparator::Less => order() == Some(Ordering::Less),
            Comparator::Greater => order() == Some(Ordering::Greater),
            Comparator::LessOrEqual => order() == Some(Ordering::Less) || equals(),
            Comparator::GreaterOrEqual => order() == Some(Ordering::Greater) || equals(),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, sight: Sight<'a>) -> Option<Cow<'a, Value>> {
        match self {
            Operand::Literal(value) => Some(Cow::Borrowed(value)),
            Operand::Node(query) | Operand::Value(query) => query.value(sight).map(Cow::Borrowed),
            Operand::Length(operand) => {
                let length = match operand.value(sight)?.as_ref() {
                    Value::String(text) if sight.budget.spend_bytes(text.len() as u64) => text.chars().count(),
                    Value::Array(items) => items.len(),
                    Value::Object(members) => members.len(),
                    _ => return None,
                };
                Some(Cow::Owned(length.into()))
            }
            Operand::Count(query) => {
                let nodes = query.select(sight.current, sight.root, sight.budget);
                Some(Cow::Owned(nodes.as_slice().len().into()))
            }
        }
    }
}

/// The most nodes that a path may hold at once: 80 MB of pointers. `$..['a','a',…]` selects more nodes than there are.
const NODES_MAX: usize = 10_000_000;
/// Names and indexes of a singular path that are walked for the price of one visit.
const STEPS_PER_STEP: usize = 8;
