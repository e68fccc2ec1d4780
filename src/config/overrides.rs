//! Environment variables and flags, laid over the tree of the file one after the other.
//!
//! Each value has the place of its variable or flag, which a finding about it names.

use std::sync::Arc;

use regex::Regex;

use super::{Flag, Inputs};
use crate::yaml::{Findings, Key, Node, Place, Source, Value, is_sensitive, parse, plain_scalar};

/// Lays the environment over `tree`, and the flags over that.
pub(super) fn lay_over(tree: &mut Node, inputs: &Inputs) {
    for (name, text) in &inputs.environment {
        // A bare `GANDER_` names nothing.
        if let Some(key) = name.strip_prefix(PREFIX).filter(|key| !key.is_empty()) {
            lay(tree, key.to_ascii_lowercase().split("__"), text, &Place::Environment(name.clone()));
        }
    }
    for Flag { name, key, value } in &inputs.flags {
        lay(tree, key.split('.'), value, &Place::Flag(name.clone()));
    }
}

fn lay<'k>(tree: &mut Node, keys: impl Iterator<Item = &'k str>, text: &str, place: &Place) {
    let keys: Vec<&str> = keys.take(DEPTH_MAX).collect();
    put(tree, &keys, value(text, keys.last().unwrap_or(&""), place), place);
}

/// Replaces the value below `node` at these keys; a mapping replaces key by key.
fn put(node: &mut Node, keys: &[&str], value: Value, place: &Place) {
    let Some((name, keys)) = keys.split_first() else {
        match value {
            Value::Map(entries) => entries.into_iter().for_each(|(key, new)| put(node, &[&key.name], new.value, place)),
            value => *node = placed(value, place),
        }
        return;
    };
    if !matches!(node.value, Value::Map(_)) {
        *node = Node::new(Value::Map(Vec::new()), place.clone());
    }
    let Value::Map(entries) = &mut node.value else { return };
    // Variables can't spell `-`, `.` or capitals: a key of the file that differs only in them is meant.
    let exact = entries.iter().position(|(key, _)| key.name == *name);
    let index = exact.or_else(|| entries.iter().position(|(key, _)| folded(&key.name) == folded(name)));
    let index = index.unwrap_or_else(|| {
        let key = Key { name: (*name).to_owned(), place: place.clone() };
        entries.push((key, Node::new(Value::Null, place.clone())));
        entries.len() - 1
    });
    put(&mut entries[index].1, keys, value, place);
}

/// The value that a text means: a number or boolean, a text in quotes, a list `[a, b]`, a mapping `{key=value}`, else the
/// text itself.
fn value(text: &str, key: &str, place: &Place) -> Value {
    if text.starts_with(['[', '{', '"', '\'']) {
        let yaml = match Regex::new(r"([{,]\s*[\w-]+)\s*=") {
            Ok(assignment) if text.contains('{') => assignment.replace_all(text, "$1: ").into_owned(),
            _ => text.to_owned(),
        };
        let source = Arc::new(Source::new(String::new(), yaml));
        let mut findings = Findings::new();
        if let Some(node) = parse(&source, &mut findings).filter(|_| findings.is_empty()) {
            return placed(node.value, place).value;
        }
    }
    match plain_scalar(text) {
        // A secret is text, also one of digits only.
        Ok(value @ (Value::Bool(_) | Value::Number(_))) if !is_sensitive(key) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn placed(value: Value, place: &Place) -> Node {
    let value = match value {
        Value::List(items) => Value::List(items.into_iter().map(|item| placed(item.value, place)).collect()),
        Value::Map(entries) => {
            let entry = |(key, node): (Key, Node)| (Key { place: place.clone(), ..key }, placed(node.value, place));
            Value::Map(entries.into_iter().map(entry).collect())
        }
        value => value,
    };
    Node::new(value, place.clone())
}

fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}

const PREFIX: &str = "GANDER_";
/// No key of the configuration is nested deeper.
const DEPTH_MAX: usize = 8;
