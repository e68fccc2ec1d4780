//! `incident_key`: paths, and parts that say how their text is found.

use super::super::key::KeyPart;
use super::super::path::JsonPath;
use super::{items, path, paths, scalar, usable};
use crate::yaml::{Fields, Findings, Node, Value};

/// The parts of a file's key, or of a rule's own: one or a list.
pub(in crate::rules) fn parts(node: &Node, at: &str, findings: &mut Findings) -> Vec<KeyPart> {
    let parts: Vec<KeyPart> =
        items(node, at, findings).into_iter().filter_map(|(item, at)| part(item, &at, findings)).collect();
    if let [KeyPart { optional: true, .. }] = parts.as_slice() {
        findings
            .warning(node.place.clone(), at, "the only part of a key can't be left out: without it there is no key")
            .help("remove `optional`, or name a part beside it");
    }
    parts
}

fn part(node: &Node, at: &str, findings: &mut Findings) -> Option<KeyPart> {
    if !matches!(node.value, Value::Map(_)) {
        return path(node, at, findings).map(KeyPart::of);
    }
    let mut fields = Fields::of(node, at, findings)?;
    let sources = [
        fields.take_some("path").map(|node| path(node, &fields.path_of("path"), findings).map(|path| vec![path])),
        fields.take_some("$first").map(|node| first(node, &fields.path_of("$first"), findings)),
    ];
    let capture = fields.take_some("capture").map(|node| scalar::capture(node, &fields.path_of("capture"), findings));
    let optional = fields.boolean("optional", findings).unwrap_or(false);
    let canonical = fields.boolean("canonical", findings).unwrap_or(false);
    match sources.iter().flatten().count() {
        1 => {}
        0 if fields.misnamed() => {}
        0 => {
            findings
                .error(node.place.clone(), at, "a part of the key needs a `path`")
                .help("such as `{ path: $.service, optional: true }`; `$first: [$.id, $.key]` asks several");
        }
        _ => {
            findings
                .error(node.place.clone(), at, "`path` and `$first` exclude each other")
                .help("put the path into the list of `$first`");
        }
    }
    if capture.is_some() && canonical {
        findings
            .error(node.place.clone(), at, "`capture` and `canonical` exclude each other")
            .help("`capture` reads a text, `canonical` makes a hash of an object");
    }
    fields.finish(findings);
    let paths = sources.into_iter().flatten().next()??;
    Some(KeyPart { paths, capture: usable(capture)?, optional, canonical })
}

/// The paths of `$first`, all of them usable.
fn first(node: &Node, at: &str, findings: &mut Findings) -> Option<Vec<JsonPath>> {
    let Value::List(items) = &node.value else {
        findings
            .error(node.place.clone(), at, format!("expected a list of paths, found {}", node.kind()))
            .help("the first that is neither missing, null nor blank is taken: `$first: [$.id, $.key]`");
        return None;
    };
    let paths = paths(node, at, findings);
    (!paths.is_empty() && paths.len() == items.len()).then_some(paths)
}
