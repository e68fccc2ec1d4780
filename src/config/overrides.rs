//! Environment variables and flags, laid over the tree of the file.
//!
//! figment merges them among themselves and remembers which setting each value is from; here they become nodes
//! with that place, so that a finding about an override names the variable or flag.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Tag, Value as Setting};
use figment::{Figment, Metadata, Profile, Provider};

use super::{FILE_VARIABLE, Flag, Inputs};
use crate::yaml::{Findings, Key, Node, Place, Value, is_sensitive, nearest};

/// Lays the environment over `tree`, and the flags over that.
pub(super) fn lay_over(tree: &mut Node, inputs: &Inputs, findings: &mut Findings) {
    let is_misspelt = |name: &String| name.strip_prefix(PREFIX).is_some_and(is_near_file_variable);
    for name in inputs.environment.keys().filter(|name| is_misspelt(name)) {
        findings
            .warning(Place::Environment(name.clone()), "", "this variable has no effect")
            .code("unknown-key")
            .help(format!("did you mean {FILE_VARIABLE}?"));
    }
    let environment = inputs.environment.iter().filter_map(|(name, text)| {
        let key = name.strip_prefix(PREFIX).filter(|_| sets_a_key(name))?;
        let key = key.to_ascii_lowercase();
        let keys = key.split("__").map(str::to_owned).collect();
        Some(Override { place: Place::Environment(name.clone()), keys, text: text.clone() })
    });
    let flags = inputs.flags.iter().map(|Flag { name, key, value }| {
        let keys = key.split('.').map(str::to_owned).collect();
        Override { place: Place::Flag(name.clone()), keys, text: value.clone() }
    });
    let mut figment = Figment::new();
    let mut overrides = BTreeMap::new();
    for (index, setting) in environment.chain(flags).enumerate() {
        let id = index.to_string();
        figment = figment.merge(Numbered { id: &id, setting: &setting });
        overrides.insert(id, setting);
    }
    let Ok(Setting::Dict(_, merged)) = figment.extract::<Setting>() else {
        // Without any setting there is an empty dictionary, never an error.
        return;
    };
    let find = |tag: Tag| overrides.get(&*figment.get_metadata(tag)?.name);
    for (name, setting) in merged {
        lay(tree, &name, setting, &find, 0);
    }
}

/// Tells a variable that sets a key.
pub(super) fn sets_a_key(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|key| {
        // A bare `GANDER_` names nothing; one variable names the file itself, one the commit of a build.
        !key.is_empty() && name != FILE_VARIABLE && name != COMMIT_VARIABLE && !is_near_file_variable(key)
    })
}

/// Tells a misspelt [`FILE_VARIABLE`] by what stands behind the prefix: no key of the configuration is near it.
fn is_near_file_variable(name: &str) -> bool {
    let meant = FILE_VARIABLE.strip_prefix(PREFIX).unwrap_or(FILE_VARIABLE);
    name != meant && nearest(name, [meant]).is_some()
}

/// One variable or flag.
struct Override {
    place: Place,
    keys: Vec<String>,
    text: String,
}

/// An override as figment sees it: its metadata's name is its number.
struct Numbered<'a> {
    id: &'a str,
    setting: &'a Override,
}

impl Provider for Numbered<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.id.to_owned())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut keys = self.setting.keys.iter().take(DEPTH_MAX).rev();
        let text = &self.setting.text;
        let Some(last) = keys.next() else {
            return Ok(Map::new());
        };
        // Lists and tables are written as figment reads them, `[a, b]` and `{env=NAME}`. Its parser recurses.
        let shallow = text.matches(['[', '{']).count() <= BRACKETS_MAX;
        // figment 0.10 counts characters as bytes where a quoted text holds an escape, and panics or cuts elsewhere.
        let escapes_are_safe = text.is_ascii() || !text.contains('\\');
        let parsed = if shallow && escapes_are_safe { text.parse::<Setting>().ok() } else { None };
        let value = match parsed {
            Some(value) if !matches!(value, Setting::String(..) | Setting::Char(..)) => value,
            _ => Setting::from(text.as_str()),
        };
        // A secret is text, also one of digits only.
        let value = match value {
            Setting::Bool(..) | Setting::Num(..) if is_sensitive(last) => Setting::from(text.as_str()),
            value => value,
        };
        let mut dict = Dict::from([(last.clone(), value)]);
        for key in keys {
            dict = Dict::from([(key.clone(), Setting::from(dict))]);
        }
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// Puts one merged setting into the mapping `node`, replacing what is there unless both are mappings.
fn lay<'a>(node: &mut Node, name: &str, setting: Setting, find: &impl Fn(Tag) -> Option<&'a Override>, depth: usize) {
    let place = find(leaf_tag(&setting)).map_or(Place::Default, |setting| setting.place.clone());
    if !matches!(node.value, Value::Map(_)) {
        *node = Node::new(Value::Map(Vec::new()), place.clone());
    }
    let Value::Map(entries) = &mut node.value else {
        return;
    };
    // Variables can't spell `-`, `.` or capitals: a key of the file that differs only in them is meant.
    let exact = entries.iter().position(|(key, _)| key.name == name);
    let index = exact.or_else(|| entries.iter().position(|(key, _)| folded(&key.name) == folded(name)));
    let index = index.unwrap_or_else(|| {
        let key = Key { name: name.to_owned(), place: place.clone() };
        entries.push((key, Node::new(Value::Null, place.clone())));
        entries.len() - 1
    });
    let target = &mut entries[index].1;
    match setting {
        Setting::Dict(_, dict) if depth < DEPTH_MAX => {
            for (name, setting) in dict {
                lay(target, &name, setting, find, depth + 1);
            }
        }
        setting => *target = to_node(setting, &place),
    }
}

/// A dictionary that figment made of several settings has no one source; its first value has.
fn leaf_tag(setting: &Setting) -> Tag {
    match setting {
        Setting::Dict(_, dict) => dict.values().next().map_or_else(|| setting.tag(), leaf_tag),
        other => other.tag(),
    }
}

fn to_node(setting: Setting, place: &Place) -> Node {
    let value = match setting {
        Setting::String(_, text) => Value::String(text),
        Setting::Char(_, character) => Value::String(character.to_string()),
        Setting::Bool(_, value) => Value::Bool(value),
        Setting::Num(_, number) => match (number.to_u128().map(u64::try_from), number.to_i128().map(i64::try_from)) {
            (Some(Ok(value)), _) => Value::Number(value.into()),
            (_, Some(Ok(value))) => Value::Number(value.into()),
            _ => number.to_f64().and_then(serde_json::Number::from_f64).map_or(Value::Null, Value::Number),
        },
        Setting::Empty(..) => Value::Null,
        Setting::Array(_, items) => Value::List(items.into_iter().map(|item| to_node(item, place)).collect()),
        Setting::Dict(_, dict) => Value::Map(
            dict.into_iter()
                .map(|(name, setting)| (Key { name, place: place.clone() }, to_node(setting, place)))
                .collect(),
        ),
    };
    Node::new(value, place.clone())
}

fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}

const PREFIX: &str = "GANDER_";
/// Set by who packages Gander, and maybe still in the shell that tries it.
const COMMIT_VARIABLE: &str = "GANDER_COMMIT";
/// No key of the configuration is nested deeper.
const DEPTH_MAX: usize = 8;
/// More lists and tables than any key holds.
const BRACKETS_MAX: usize = 64;
