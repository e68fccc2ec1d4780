//! The canonical body: `emit`, evaluated for one element that a rule made an event of.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::budget::Budget;
use super::path::{JsonPath, Scope};
use super::pattern::Capture;
use super::template::{Converted, TemplateId, Templates, Variables, convert};
use super::trace::{ElementTrace, Missed};
use super::value::text_of;
use super::{Context, TemplateFailures};
use crate::event::Action;

/// A value to make. What it makes may be missing: its key is then left out.
#[derive(Clone, Debug)]
pub(super) enum Emit {
    /// The first node of a path, with its type.
    Path(JsonPath),
    Template {
        id: TemplateId,
        /// The key's dotted path, for a warning.
        key: String,
    },
    Literal(Value),
    List(Vec<Emit>),
    Map(EmitMap),
    Operators(Box<Operators>),
}

/// A mapping to make: an object's keys first, then entries, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct EmitMap {
    pub(super) merge: Option<JsonPath>,
    pub(super) entries: Vec<(String, Arc<Emit>)>,
}

/// A mapping of `$` operators, in the order in which they apply.
#[derive(Clone, Debug)]
pub(super) struct Operators {
    pub(super) source: Source,
    pub(super) map: Option<HashMap<String, Emit>>,
    pub(super) default: Option<Emit>,
    /// Numbers and booleans become their JSON text.
    pub(super) string: bool,
    pub(super) trim: bool,
    pub(super) case: Option<Case>,
    /// The text that its group matches; a text without a match counts as missing.
    pub(super) capture: Option<Capture>,
    pub(super) truncate: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Path(JsonPath),
    /// The first that is neither missing, null nor empty.
    First(Vec<Emit>),
    ByAction {
        trigger: Option<Emit>,
        resolve: Option<Emit>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Lower,
    Upper,
}

/// The values that a body is made from.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) action: Action,
    pub(super) incident_key: &'a str,
    pub(super) rule: &'a str,
    pub(super) context: Context<'a>,
    pub(super) templates: &'a Templates,
    /// The whole payload as templates read it, made once a decision.
    pub(super) root: &'a OnceCell<Converted>,
    /// The values that templates read, made once an element; with the payload only where one reads it.
    pub(super) variables: [OnceCell<Converted>; 2],
    /// The fuel that templates may still take. Apart from the budget of steps: without fuel they render empty, while an
    /// element without steps is refused, and no template may cause that.
    pub(super) fuel: &'a Budget,
    pub(super) failures: &'a RefCell<TemplateFailures>,
}

/// The values that the paths of a body read.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) action: Action,
    pub(super) templates: &'a Templates,
}

impl Emit {
    pub(super) fn make(&self, setting: &Setting<'_>) -> Option<Value> {
        self.value(setting).map(Cow::into_owned)
    }

    fn value<'a>(&'a self, setting: &Setting<'a>) -> Option<Cow<'a, Value>> {
        match self {
            Emit::Path(path) => path.first(setting.scope).map(Cow::Borrowed),
            Emit::Template { id, key } => Some(Cow::Owned(setting.render(*id, key).into())),
            Emit::Literal(value) => Some(Cow::Borrowed(value)),
            Emit::List(items) => Some(Cow::Owned(items.iter().filter_map(|item| item.make(setting)).collect())),
            Emit::Map(map) => Some(Cow::Owned(map.make(setting))),
            Emit::Operators(operators) => operators.value(setting),
        }
    }
}

impl Emit {
    /// Writes the value as JSON, without making it first where it is not one of the payload's. Returns whether there is
    /// one; where not, nothing is written.
    fn write(&self, setting: &Setting<'_>, json: &mut Vec<u8>) -> bool {
        match self {
            Emit::Map(map) => map.write(setting, json),
            _ => match self.value(setting) {
                Some(value) => write(value.as_ref(), json),
                None => return false,
            },
        }
        true
    }
}

impl Emit {
    /// Tells which paths find something and which nothing. `key` is the dotted key of the body; `instead`: another value
    /// would be sent.
    fn read(&self, reading: &Reading<'_>, key: &str, instead: bool, trace: &mut ElementTrace) {
        match self {
            Emit::Path(path) => reading.note(path, key, instead, trace),
            // A template may well do without; only a name that is nearly there is told.
            Emit::Template { id, .. } => {
                for (name, path) in reading.templates.members(*id) {
                    let Ok(path) = JsonPath::parse(&path) else { continue };
                    if path.first(reading.scope).is_some() {
                        trace.found.push(name);
                        continue;
                    }
                    let missed =
                        Missed { key: key.to_owned(), path: name, instead, why: path.why_missing(reading.scope) };
                    trace.missed.extend(Some(missed).filter(Missed::is_near));
                }
            }
            Emit::Literal(_) => {}
            Emit::List(items) => {
                let items = items.iter().enumerate();
                items.for_each(|(at, item)| item.read(reading, &format!("{key}[{at}]"), instead, trace));
            }
            Emit::Map(map) => map.read(reading, key, trace),
            Emit::Operators(operators) => operators.read(reading, key, instead, trace),
        }
    }

    /// As a candidate of `$first` it gives a value. A template counts as one that does.
    fn gives(&self, scope: Scope<'_>) -> bool {
        match self {
            Emit::Path(path) => path.first(scope).is_some_and(|value| !is_empty(value)),
            _ => true,
        }
    }
}

impl Reading<'_> {
    fn note(&self, path: &JsonPath, key: &str, instead: bool, trace: &mut ElementTrace) {
        let (key, text) = (key.to_owned(), path.as_str().to_owned());
        match path.first(self.scope) {
            Some(_) => trace.found.push(text),
            None => trace.missed.push(Missed { key, path: text, instead, why: path.why_missing(self.scope) }),
        }
    }
}

impl EmitMap {
    /// Tells which paths find something and which nothing, for a person who asks.
    pub(super) fn read(&self, reading: &Reading<'_>, key: &str, trace: &mut ElementTrace) {
        let of = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        self.merge.iter().for_each(|path| reading.note(path, &of("$merge"), false, trace));
        self.entries.iter().for_each(|(name, emit)| emit.read(reading, &of(name), false, trace));
    }

    /// Writes the object as JSON; without the entries whose value is missing.
    pub(super) fn write(&self, setting: &Setting<'_>, json: &mut Vec<u8>) {
        // What `$merge` copies may be replaced by an entry: that is known only when the whole is made.
        if self.merge.is_some() {
            return write(&self.make(setting), json);
        }
        json.push(b'{');
        for (name, emit) in &self.entries {
            let before = json.len();
            if !json.ends_with(b"{") {
                json.push(b',');
            }
            write(name, json);
            json.push(b':');
            if !emit.write(setting, json) {
                json.truncate(before);
            }
        }
        json.push(b'}');
    }

    /// The object; without the entries whose value is missing.
    fn make(&self, setting: &Setting<'_>) -> Value {
        let mut object = match self.merge.as_ref().and_then(|path| path.first(setting.scope)) {
            Some(Value::Object(members)) => members.clone(),
            _ => Map::with_capacity(self.entries.len()),
        };
        for (name, emit) in &self.entries {
            // A missing value changes nothing: what `$merge` copied under this name stays.
            if let Some(value) = emit.make(setting) {
                object.insert(name.clone(), value);
            }
        }
        Value::Object(object)
    }

    /// This mapping with another laid over it: its entries replace and add.
    pub(super) fn overlaid(&self, over: &EmitMap) -> EmitMap {
        let mut map = self.clone();
        map.merge = over.merge.clone().or(map.merge);
        for (name, emit) in &over.entries {
            match map.entries.iter_mut().find(|(existing, _)| existing == name) {
                Some((_, existing)) => *existing = Arc::clone(emit),
                None => map.entries.push((name.clone(), Arc::clone(emit))),
            }
        }
        map
    }
}

impl Operators {
    fn value<'a>(&'a self, setting: &Setting<'a>) -> Option<Cow<'a, Value>> {
        let mut value = match &self.source {
            Source::Path(path) => path.first(setting.scope).map(Cow::Borrowed),
            Source::First(candidates) => {
                candidates.iter().filter_map(|candidate| candidate.value(setting)).find(|value| !is_empty(value))
            }
            Source::ByAction { trigger, resolve } => {
                let chosen = match setting.action {
                    Action::Trigger => trigger,
                    Action::Resolve => resolve,
                };
                chosen.as_ref().and_then(|emit| emit.value(setting))
            }
        };
        if let Some(map) = &self.map {
            value = value.and_then(|value| match text_of(&value).and_then(|text| map.get(text.as_ref())) {
                Some(mapped) => mapped.value(setting),
                None if self.default.is_some() => None,
                None => Some(value),
            });
        }
        if let Some(default) = &self.default
            && value.as_deref().is_none_or(Value::is_null)
        {
            value = default.value(setting);
        }
        value.and_then(|value| self.shape(value, setting.scope.budget))
    }

    /// Tells what the operand finds, and where `$capture` finds nothing in it.
    fn read(&self, reading: &Reading<'_>, key: &str, instead: bool, trace: &mut ElementTrace) {
        let or_default = instead || self.default.is_some();
        match &self.source {
            Source::Path(path) => {
                reading.note(path, key, or_default, trace);
                let value = path.first(reading.scope).map(Cow::Borrowed);
                if let (Some(capture), Some(value)) = (&self.capture, value)
                    && self.map.is_none()
                    && self.shape(value, reading.scope.budget).is_none()
                {
                    let (key, path) = (key.to_owned(), path.as_str().to_owned());
                    let why = Some(format!("/{}/ finds nothing in it", capture.as_str()));
                    trace.missed.push(Missed { key, path, instead, why });
                }
            }
            Source::First(candidates) => {
                let instead = or_default || candidates.iter().any(|candidate| candidate.gives(reading.scope));
                candidates.iter().for_each(|candidate| candidate.read(reading, key, instead, trace));
            }
            Source::ByAction { trigger, resolve } => {
                let chosen = if reading.action == Action::Trigger { trigger } else { resolve };
                chosen.iter().for_each(|chosen| chosen.read(reading, key, or_default, trace));
            }
        }
    }

    /// The operators on text. What is no text stays as it is; a text in which `$capture` finds nothing counts as missing.
    pub(super) fn shape<'a>(&self, value: Cow<'a, Value>, budget: &Budget) -> Option<Cow<'a, Value>> {
        let value = match value.as_ref() {
            Value::Number(_) | Value::Bool(_) if self.string => Cow::Owned(Value::String(value.to_string())),
            _ => value,
        };
        let Value::String(text) = value.as_ref() else {
            return Some(value);
        };
        let mut shaped: Cow<'_, str> = Cow::Borrowed(text);
        if self.trim {
            shaped = Cow::Owned(shaped.trim().to_owned());
        }
        match self.case {
            Some(Case::Lower) => shaped = Cow::Owned(shaped.to_lowercase()),
            Some(Case::Upper) => shaped = Cow::Owned(shaped.to_uppercase()),
            None => {}
        }
        if let Some(capture) = &self.capture {
            shaped = Cow::Owned(shaped[budget.capture(capture, &shaped)?].to_owned());
        }
        if let Some(most) = self.truncate
            && let Some((end, _)) = shaped.char_indices().nth(most)
        {
            shaped = Cow::Owned(shaped[..end].to_owned());
        }
        Some(match shaped {
            Cow::Borrowed(_) => value,
            Cow::Owned(shaped) => Cow::Owned(Value::String(shaped)),
        })
    }
}

impl Setting<'_> {
    fn render(&self, id: TemplateId, key: &str) -> String {
        let rendered = match self.fuel.is_exhausted() {
            true => Err("the templates of this payload take more work than the relay allows".to_owned()),
            false => {
                let reads_payload = self.templates.reads_payload(id);
                let variables =
                    self.variables[usize::from(reads_payload)].get_or_init(|| self.variables(reads_payload));
                let (fuel, rendered) = self.templates.render(id, variables);
                self.fuel.spend(fuel);
                rendered
            }
        };
        match rendered {
            Ok(text) => text,
            Err(problem) => {
                self.failures.borrow_mut().add(key, &problem);
                String::new()
            }
        }
    }

    fn variables(&self, reads_payload: bool) -> Converted {
        let whole = std::ptr::eq(self.scope.element, self.scope.root);
        let root = match reads_payload && (whole || self.templates.reads_root()) {
            true => self.root.get_or_init(|| convert(self.scope.root)).clone(),
            false => Converted::UNDEFINED,
        };
        let payload = match reads_payload {
            true if whole => root.clone(),
            true => convert(self.scope.element),
            false => Converted::UNDEFINED,
        };
        Variables {
            payload,
            root,
            action: self.action.as_str(),
            incident_key: self.incident_key,
            source: self.context.source,
            rule: self.rule,
            received_at: self.context.received_at,
        }
        .into_context()
    }
}

fn write(value: &(impl serde::Serialize + ?Sized), json: &mut Vec<u8>) {
    serde_json::to_writer(json, value).expect("a JSON value or a name can be written to memory");
}

/// Missing counts as empty too, but never comes here.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
