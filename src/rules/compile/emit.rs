//! `emit`: paths, templates, `$` operators and literals.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::emit::{Case, Emit, EmitMap, Operators, Source};
use super::super::path::JsonPath;
use super::super::template::{Templates, is_template};
use super::{all, path, scalar, usable};
use crate::yaml::{Fields, Findings, Key, Node, Place, Value};

/// The `emit` of a file or of a rule: a mapping of the body's keys.
pub(super) fn body(node: &Node, at: &str, templates: &mut Templates, findings: &mut Findings) -> Option<EmitMap> {
    let Value::Map(entries) = &node.value else {
        findings
            .error(node.place.clone(), at, format!("expected a mapping of the body's keys, found {}", node.kind()))
            .help("such as `title: $.title`; leave `emit` out to send the payload as it came");
        return None;
    };
    if let Some((key, _)) = entries.iter().find(|(key, _)| is_operator(&key.name)) {
        findings
            .error(key.place.clone(), at, format!("`{}` makes one value, and the body is a mapping", key.name))
            .help("to send a part of the payload as the body write `$merge: $.part`");
        return None;
    }
    Compiling { templates, findings }.map(entries, at)
}

/// A rule's own `emit` over the file's; without either, the payload itself.
pub(super) fn laid_over(file: Option<&EmitMap>, own: Option<EmitMap>) -> Option<EmitMap> {
    match (file, own) {
        (None, None) => None,
        (Some(file), None) => Some(file.clone()),
        (Some(file), Some(own)) => Some(file.overlaid(&own)),
        // What a rule's keys are laid over is then the payload.
        (None, Some(own)) => {
            let payload = EmitMap { merge: JsonPath::parse("$").ok(), entries: Vec::new() };
            Some(payload.overlaid(&own))
        }
    }
}

struct Compiling<'a> {
    templates: &'a mut Templates,
    findings: &'a mut Findings,
}

impl Compiling<'_> {
    fn value(&mut self, node: &Node, at: &str) -> Option<Emit> {
        match &node.value {
            Value::String(text) if text.starts_with('$') => self.path(node, text, at).map(Emit::Path),
            Value::String(text) if is_template(text) => self.template(node, text, at),
            Value::List(items) => all(items, at, |item, at| self.value(item, at)).map(Emit::List),
            Value::Map(entries) if entries.iter().any(|(key, _)| key.name.starts_with('$') && key.name != "$merge") => {
                self.operators(node, at)
            }
            Value::Map(entries) => self.map(entries, at).map(Emit::Map),
            _ => Some(Emit::Literal(node.to_json())),
        }
    }

    fn path(&mut self, node: &Node, text: &str, at: &str) -> Option<JsonPath> {
        let is_path = text.len() == 1 || text[1..].starts_with(['.', '[', '$', ' ']);
        if is_path && !is_template(text) {
            return path(node, at, self.findings);
        }
        let help = match is_template(text) {
            true => format!("a template that begins with `$`: `{{{{ '$' }}}}{}`", &text[1..]),
            false => format!("a text that begins with `$`: `{{ $literal: '{text}' }}`; a path: `$.{}`", &text[1..]),
        };
        self.findings
            .error(node.place.clone(), at, "a string that begins with `$` is a path, and this is none")
            .help(help);
        None
    }

    fn template(&mut self, node: &Node, text: &str, at: &str) -> Option<Emit> {
        let compiled = self.templates.add(text).and_then(|id| match self.templates.unknown_name(id) {
            Some(error) => Err(error),
            None => Ok(id),
        });
        match compiled {
            Ok(id) => {
                for doubt in self.templates.doubts(id) {
                    let place = doubt.range.map_or_else(|| node.place.clone(), |range| node.place.within(text, range));
                    self.findings.warning(place, at, doubt.message).code("doubtful-template").help = doubt.help;
                }
                Some(Emit::Template { id, key: at.to_owned() })
            }
            Err(error) => {
                let place = match error.range {
                    Some(range) => node.place.within(text, range),
                    None => node.place.clone(),
                };
                let finding = self.findings.error(place, at, format!("this template can't be used: {}", error.message));
                finding.code("invalid-template").help = error.help;
                None
            }
        }
    }

    fn map(&mut self, entries: &[(Key, Node)], at: &str) -> Option<EmitMap> {
        let mut map = EmitMap::default();
        let mut complete = true;
        for (key, node) in entries {
            let at = if at.is_empty() { key.name.clone() } else { format!("{at}.{}", key.name) };
            if key.name == "$merge" {
                map.merge = path(node, &at, self.findings);
                complete &= map.merge.is_some();
                continue;
            }
            match self.value(node, &at) {
                Some(emit) => map.entries.push((key.name.clone(), Arc::new(emit))),
                None => complete = false,
            }
        }
        complete.then_some(map)
    }

    fn operators(&mut self, node: &Node, at: &str) -> Option<Emit> {
        let mut fields = Fields::of(node, at, self.findings)?;
        if let Some(literal) = fields.take("$literal") {
            self.finish(fields, "`$literal` stands alone");
            return Some(Emit::Literal(literal.to_json()));
        }
        let sources = [
            self.taken("$path", &mut fields).map(|(node, at)| path(node, &at, self.findings).map(Source::Path)),
            self.taken("$first", &mut fields).map(|(node, at)| self.first(node, &at)),
            self.taken("$by_action", &mut fields).map(|(node, at)| self.by_action(node, &at)),
        ];
        let count = sources.iter().flatten().count();
        let mistyped = fields.unknown().any(|name| name.starts_with('$') && !OPERATORS.contains(&name));
        if count > 1 || (count == 0 && !mistyped) {
            let (place, message) = match count {
                0 => (node.place.clone(), "these operators have nothing to work on"),
                _ => (second_of(node, &SOURCES), "`$path`, `$first` and `$by_action` exclude each other"),
            };
            self.findings.error(place, at, message).help("one of `$path`, `$first` and `$by_action` gives the value");
        }
        let map = self.taken("$map", &mut fields).map(|(node, at)| self.table(node, &at));
        let default = self.taken("$default", &mut fields).map(|(node, at)| self.value(node, &at));
        let string = fields.boolean("$string", self.findings).unwrap_or(false);
        let trim = fields.boolean("$trim", self.findings).unwrap_or(false);
        let lower = fields.boolean("$lower", self.findings).unwrap_or(false);
        let upper = fields.boolean("$upper", self.findings).unwrap_or(false);
        let capture = fields.take_some("$capture");
        let capture = capture.map(|node| scalar::capture(node, &fields.path_of("$capture"), self.findings));
        let truncate = fields.integer("$truncate", 1..=TRUNCATE_MAX, self.findings);
        if lower && upper {
            let place = second_of(node, &["$lower", "$upper"]);
            self.findings.error(place, at, "`$lower` and `$upper` exclude each other").help("keep one of them");
        }
        self.finish(fields, "");
        let case = match (lower, upper) {
            (true, _) => Some(Case::Lower),
            (_, true) => Some(Case::Upper),
            _ => None,
        };
        let source = sources.into_iter().flatten().next()??;
        Some(Emit::Operators(Box::new(Operators {
            source,
            map: usable(map)?,
            default: usable(default)?,
            string,
            trim,
            case,
            capture: usable(capture)?,
            truncate: truncate.and_then(|most| usize::try_from(most).ok()),
        })))
    }

    fn taken<'n>(&self, name: &'static str, fields: &mut Fields<'n>) -> Option<(&'n Node, String)> {
        let node = fields.take(name)?;
        Some((node, fields.path_of(name)))
    }

    fn first(&mut self, node: &Node, at: &str) -> Option<Source> {
        match &node.value {
            Value::List(items) if !items.is_empty() => {
                all(items, at, |item, at| self.value(item, at)).map(Source::First)
            }
            _ => {
                self.findings
                    .error(node.place.clone(), at, format!("expected a list of values, found {}", node.kind()))
                    .help("the first that is neither missing, null nor empty is taken: `$first: [$.title, $.name]`");
                None
            }
        }
    }

    fn by_action(&mut self, node: &Node, at: &str) -> Option<Source> {
        let mut fields = Fields::of(node, at, self.findings)?;
        let trigger = self.taken("trigger", &mut fields).map(|(node, at)| self.value(node, &at));
        let resolve = self.taken("resolve", &mut fields).map(|(node, at)| self.value(node, &at));
        let mistyped = fields.unknown().next().is_some();
        fields.finish(self.findings);
        if trigger.is_none() && resolve.is_none() && !mistyped {
            self.findings
                .error(node.place.clone(), at, "`$by_action` needs `trigger` or `resolve`")
                .help("such as `$by_action: { trigger: CRITICAL, resolve: OK }`");
        }
        Some(Source::ByAction { trigger: usable(trigger)?, resolve: usable(resolve)? })
    }

    fn table(&mut self, node: &Node, at: &str) -> Option<HashMap<String, Emit>> {
        let Value::Map(entries) = &node.value else {
            self.findings
                .error(node.place.clone(), at, format!("expected a mapping, found {}", node.kind()))
                .help("such as `$map: { HIGH: high, LOW: low }`");
            return None;
        };
        let mut table = HashMap::new();
        for (key, node) in entries {
            if let Some(emit) = self.value(node, &format!("{at}.{}", key.name)) {
                table.insert(key.name.clone(), emit);
            }
        }
        (table.len() == entries.len()).then_some(table)
    }

    /// Reports the keys that are left, and among them those that are no operators.
    fn finish(&mut self, mut fields: Fields<'_>, alone: &str) {
        let at = fields.path().to_owned();
        for (key, _) in fields.rest() {
            let finding = self.findings.error(
                key.place.clone(),
                format!("{at}.{}", key.name),
                match (key.name.starts_with('$'), alone.is_empty()) {
                    (_, false) => alone.to_owned(),
                    (true, _) => format!("unknown operator `{}`", key.name),
                    (false, _) => format!("`{}` can't stand among `$` operators", key.name),
                },
            );
            if alone.is_empty() && key.name.starts_with('$') {
                finding.suggest(&key.name, OPERATORS);
            } else if alone.is_empty() {
                finding.help("a mapping is either keys of the body or `$` operators that make one value");
            }
        }
    }
}

/// The second key that is one of `names`, where only one of them may be.
fn second_of(node: &Node, names: &[&str]) -> Place {
    let keys = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        _ => &[],
    };
    let mut found = keys.iter().filter(|(key, _)| names.contains(&key.name.as_str()));
    found.nth(1).map_or(&node.place, |(key, _)| &key.place).clone()
}

fn is_operator(name: &str) -> bool {
    OPERATORS.contains(&name) && name != "$merge"
}

const SOURCES: [&str; 3] = ["$path", "$first", "$by_action"];
const OPERATORS: [&str; 13] = [
    "$path",
    "$first",
    "$by_action",
    "$map",
    "$default",
    "$string",
    "$trim",
    "$lower",
    "$upper",
    "$capture",
    "$truncate",
    "$literal",
    "$merge",
];
/// Longer than any body that is accepted.
const TRUNCATE_MAX: u64 = 1 << 40;
