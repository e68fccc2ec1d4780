//! Reads JSON into a tree that takes at most ten times the memory of the payload.
//!
//! A value takes 72 bytes, a member of an object some 115, however short its text: `[0,0,…]` would become 76 times as
//! large. So the containers of a text are counted before it is read, which gives each its exact
//! size at once, and says at which byte the room ends. A short text has more room than it can take, and is read
//! without.

use std::fmt;
use std::slice;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The memory that reading a payload may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room(usize);

/// The reason why a text is not read.
#[derive(Debug)]
pub(crate) enum Unread {
    Syntax(serde_json::Error),
    /// It holds more values than there is room for: those up to this byte fill it.
    TooDense {
        at: usize,
    },
}

impl Room {
    /// The room of a payload of so many bytes.
    pub(crate) fn of(bytes: usize) -> Room {
        Room(bytes.saturating_mul(TIMES).max(ROOM_MIN))
    }

    /// The room that is left beside so many bytes.
    pub(crate) fn beside(self, bytes: usize) -> Room {
        Room(self.0.saturating_sub(bytes))
    }

    /// The room of a text that stands in a value, beside that value.
    pub(crate) fn within(value: &Value) -> Room {
        let (mut memory, mut text) = (0, 0);
        weigh(value, &mut memory, &mut text);
        Room::of(text).beside(memory)
    }

    /// The longest text that may be made of a payload on the way to its values: while it grows it takes half as much more.
    pub(crate) fn text_bytes_max(self) -> usize {
        self.0 / 2
    }
}

/// Reads a text within a room.
pub(crate) fn read(text: &[u8], room: Room) -> Result<Value, Unread> {
    if text.len() <= room.0 / WORST {
        return serde_json::from_slice(text).map_err(Unread::Syntax);
    }
    let sizes = sizes(text, room)?;
    let mut sizes = sizes.iter();
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = Tree(&mut sizes).deserialize(&mut json).map_err(Unread::Syntax)?;
    json.end().map_err(Unread::Syntax)?;
    Ok(value)
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Syntax(problem) => problem.fmt(f),
            Unread::TooDense { .. } => f.write_str(TOO_DENSE),
        }
    }
}

/// The number of elements or members of each container, in the order in which they begin. Of a text that is no JSON it
/// holds up to the place where it stops being that.
fn sizes(text: &[u8], room: Room) -> Result<Vec<u32>, Unread> {
    let left = room.beside(COUNTING).0;
    let mut count = Count { sizes: Vec::new(), open: Vec::with_capacity(DEPTH_MAX), left, scratch: 0 };
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let length = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b':' => Some(1),
            // Deeper than serde_json reads.
            b'[' | b'{' if count.open.len() == DEPTH_MAX => break,
            b'[' | b'{' => count.begin(*byte == b'{'),
            b']' | b'}' => count.end(),
            b',' => count.next(),
            b'"' => count.string(&text[at..]),
            _ => count.word(&text[at..]),
        };
        at += length.ok_or(Unread::TooDense { at })?;
    }
    Ok(count.sizes)
}

/// The containers of a text while they are counted.
struct Count {
    sizes: Vec<u32>,
    /// Those that are open.
    open: Vec<Open>,
    /// Memory that is left.
    left: usize,
    /// Of what serde_json collects a number, or a string with escapes, in.
    scratch: usize,
}

struct Open {
    place: usize,
    is_object: bool,
}

/// Each takes a token, and returns its length; none where there is no room for it.
impl Count {
    fn begin(&mut self, is_object: bool) -> Option<usize> {
        self.first()?;
        self.open.push(Open { place: self.sizes.len(), is_object });
        self.sizes.push(0);
        // Of this list itself, which grows by doubling. While it moves it takes half as much again, but then there is no
        // tree yet.
        self.take(2 * size_of::<u32>())
    }

    fn end(&mut self) -> Option<usize> {
        match self.open.pop() {
            Some(Open { place, is_object: true }) => self.take(table(self.sizes[place] as usize)),
            _ => Some(1),
        }
    }

    fn next(&mut self) -> Option<usize> {
        let Some(Open { place, is_object }) = self.open.last() else { return Some(1) };
        self.sizes[*place] = self.sizes[*place].saturating_add(1);
        self.take(if *is_object { MEMBER } else { ELEMENT })
    }

    /// The first token in a container begins its first element.
    fn first(&mut self) -> Option<usize> {
        match self.open.last() {
            Some(Open { place, .. }) if self.sizes[*place] == 0 => self.next(),
            _ => Some(1),
        }
    }

    fn string(&mut self, text: &[u8]) -> Option<usize> {
        self.first()?;
        let (mut length, mut is_escaped) = (1, false);
        while let Some(found) = text[length..].iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            length += found + 1;
            if text[length - 1] == b'"' {
                break;
            }
            is_escaped = true;
            length = (length + 1).min(text.len());
        }
        if is_escaped {
            self.collected(length)?;
        }
        self.take(length.saturating_sub(QUOTES))?;
        Some(length)
    }

    fn word(&mut self, text: &[u8]) -> Option<usize> {
        self.first()?;
        let ends =
            |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r' | b':' | b'"' | b'[' | b'{');
        let length = text.iter().position(ends).unwrap_or(text.len()).max(1);
        self.collected(length)?;
        Some(length)
    }

    /// A number or an escaped string is collected in a buffer that grows by doubling, and is kept for the next one.
    fn collected(&mut self, length: usize) -> Option<usize> {
        let more = (3 * length).saturating_sub(self.scratch);
        self.scratch += more;
        self.take(more)
    }

    fn take(&mut self, bytes: usize) -> Option<usize> {
        self.left = self.left.checked_sub(bytes)?;
        Some(1)
    }
}

/// The memory of the table in which an object of so many members finds them.
fn table(members: usize) -> usize {
    if members == 0 { 0 } else { buckets(members) * (size_of::<usize>() + 1) + TABLE_END }
}

fn buckets(members: usize) -> usize {
    match members {
        0..4 => 4,
        4..8 => 8,
        8..15 => 16,
        more => (more.saturating_mul(8) / 7).next_power_of_two(),
    }
}

/// Adds up the memory of a value, without itself, and the least text that it can have come from.
fn weigh(value: &Value, memory: &mut usize, text: &mut usize) {
    *text += 1;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(string) => {
            *memory += string.capacity();
            *text += string.len() + 1;
        }
        Value::Array(items) => {
            *memory += items.capacity() * ELEMENT;
            *text += items.len();
            items.iter().for_each(|item| weigh(item, memory, text));
        }
        Value::Object(members) => {
            // In a short text serde_json let it grow by doubling.
            *memory += buckets(members.len()) * MEMBER + table(members.len());
            *text += members.len();
            for (name, value) in members {
                *memory += name.capacity();
                *text += name.len() + 3;
                weigh(value, memory, text);
            }
        }
    }
}

/// A value that is read with the sizes of its containers.
struct Tree<'s, 'c>(&'s mut slice::Iter<'c, u32>);

impl Tree<'_, '_> {
    fn size(&mut self) -> usize {
        self.0.next().map_or(0, |size| *size as usize)
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_, '_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::with_capacity(self.size());
        while let Some(item) = list.next_element_seed(Tree(self.0))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Value, A::Error> {
        let mut members = Map::with_capacity(self.size());
        while let Some(name) = object.next_key::<String>()? {
            members.insert(name, object.next_value_seed(Tree(self.0))?);
        }
        Ok(Value::Object(members))
    }
}

pub(crate) const TOO_DENSE: &str = "up to here it holds so many short values that reading it takes more than ten times its size \
                             in memory (and more than 1 MiB)";
/// What helps against that.
pub(crate) const SEND_LESS: &str = "Send fewer alerts at once, or leave lists out that no rule reads.";

/// So many times the size of a payload may be taken.
const TIMES: usize = 10;
/// The room of a short payload: what one of 100 KiB has. Alerts are short, and may be dense.
const ROOM_MIN: usize = 1024 * 1024;
/// The most memory that serde_json takes for a byte of text, that of `[[…]]`: two bytes make it a list with room for four.
const WORST: usize = 160;
/// As deep as serde_json reads.
const DEPTH_MAX: usize = 128;
const ELEMENT: usize = size_of::<Value>();
/// With the hash of its name.
const MEMBER: usize = size_of::<(u64, String, Value)>();
/// Memory for counting, beside some for each container.
const COUNTING: usize = DEPTH_MAX * size_of::<Open>() + 4 * size_of::<u32>();
/// The bytes of a group, which end a table. Its buckets need none before them: they are a multiple of a group.
const TABLE_END: usize = 16;
/// A string takes the memory of what stands between them.
const QUOTES: usize = 2;

#[cfg(test)]
mod tests;
