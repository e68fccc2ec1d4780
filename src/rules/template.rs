//! Text templates: the one file that names MiniJinja.
//!
//! Undefined and null render empty at any depth, nothing is escaped, what is no text renders as JSON. A template
//! that fails while it renders gives an empty text and a failure to report, never a refusal: an incident without a
//! pretty title is better than no incident.

use std::fmt;
use std::io;
use std::ops::Range;

use minijinja::machinery::{Span, Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use crate::yaml::nearest;

/// The templates of a rule file, compiled.
pub(super) struct Templates {
    environment: Environment<'static>,
    /// By template: it reads `payload` or `root`.
    reads_payload: Vec<bool>,
    reads_root: bool,
}

/// One template of a [`Templates`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TemplateId(usize);

/// A mistake or a doubt about a template's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) message: String,
    /// Its place in the text, in bytes, if that is known.
    pub(super) range: Option<Range<usize>>,
    pub(super) help: Option<String>,
}

/// A value as templates read it.
pub(super) type Converted = Value;

/// The variables of a template.
#[derive(Debug)]
pub(super) struct Variables<'a> {
    pub(super) payload: Value,
    pub(super) root: Value,
    pub(super) action: &'a str,
    pub(super) incident_key: &'a str,
    pub(super) source: &'a str,
    pub(super) rule: &'a str,
    pub(super) received_at: &'a str,
}

impl Templates {
    pub(super) fn new() -> Templates {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_formatter(format);
        environment.set_fuel(Some(FUEL));
        environment.set_debug(false);
        Templates { environment, reads_payload: Vec::new(), reads_root: false }
    }

    /// Compiles a template.
    pub(super) fn add(&mut self, text: &str) -> Result<TemplateId, Problem> {
        let id = TemplateId(self.reads_payload.len());
        self.environment.add_template_owned(id.0.to_string(), text.to_owned()).map_err(|error| Problem {
            message: sentence(&error),
            range: error.range(),
            help: None,
        })?;
        let reads_root = self.reads(id, "root");
        self.reads_root |= reads_root;
        self.reads_payload.push(reads_root || self.reads(id, "payload"));
        Ok(id)
    }

    /// Doubts about a template that can be used: JSON has no methods to call, one without variables is rendered once, and
    /// variables that nobody sets stay empty for ever.
    pub(super) fn doubts(&self, id: TemplateId) -> Vec<Problem> {
        let Ok(template) = self.environment.get_template(&id.0.to_string()) else {
            return Vec::new();
        };
        let source = template.source();
        let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        names.sort_unstable();
        let mut doubts: Vec<Problem> =
            methods(source).into_iter().map(|range| no_method(&source[range.clone()], range)).collect();
        if doubts.is_empty() && names.is_empty() {
            doubts.extend(template.render(()).err().map(|error| Problem {
                message: format!("this template always fails and renders empty: {}", sentence(&error)),
                range: error.range(),
                help: Some("a text that is no template holds neither `{{` nor `{%`".to_owned()),
            }));
        }
        // A variable that a branch sets can be read behind it.
        let unset = names.into_iter().filter(|name| {
            let is_function = self.environment.globals().any(|(global, _)| global == name.as_str());
            !VARIABLES.contains(&name.as_str()) && !is_function && !is_set(source, name)
        });
        let unset = unset.map(|name| {
            let help = match nearest(&name, VARIABLES) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("a value of the payload is `payload.{name}`"),
            };
            let message = format!("nothing sets `{name}`: it is empty here, always");
            Problem { message, range: read_at(source, &name), help: Some(help) }
        });
        doubts.extend(unset);
        doubts
    }

    /// The name of a filter, test or function that does not exist, found by rendering with nothing.
    pub(super) fn unknown_name(&self, id: TemplateId) -> Option<Problem> {
        let template = self.environment.get_template(&id.0.to_string()).ok()?;
        let error = template.render(()).err()?;
        match error.kind() {
            ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction => {
                let detail = error.detail().and_then(|detail| detail.strip_suffix(" is unknown")).unwrap_or_default();
                let name = last_word(detail);
                let known: Vec<&str> = match error.kind() {
                    ErrorKind::UnknownFilter => FILTERS.split(' ').collect(),
                    ErrorKind::UnknownTest => TESTS.split(' ').collect(),
                    _ => self.environment.globals().map(|(name, _)| name).collect(),
                };
                let help = match nearest(name, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("there are {}", known.join(", ")),
                };
                let range = read_at(template.source(), name).or(error.range());
                Some(Problem { message: sentence(&error), range, help: Some(help) })
            }
            _ => None,
        }
    }

    /// Tells a template that reads `payload` or `root`: converting them costs time.
    pub(super) fn reads_payload(&self, id: TemplateId) -> bool {
        self.reads_payload.get(id.0).copied().unwrap_or(true)
    }

    /// Some template reads `root`.
    pub(super) fn reads_root(&self) -> bool {
        self.reads_root
    }

    /// Renders. Returns the fuel it took beside the text; the error is for a log.
    pub(super) fn render(&self, id: TemplateId, context: &Value) -> (u64, Result<String, String>) {
        let mut written = Bounded::default();
        let rendered = self
            .environment
            .get_template(&id.0.to_string())
            .and_then(|template| template.render_captured_to(context.clone(), &mut written));
        let fuel = match &rendered {
            Ok(captured) => captured.state().fuel_levels().map_or(FUEL, |(used, _)| used),
            Err(error) if error.kind() == ErrorKind::OutOfFuel => FUEL,
            Err(_) => FUEL_OF_FAILURE,
        };
        let text = rendered.map(drop).and_then(|()| {
            String::from_utf8(written.bytes).map_err(|_| Error::new(ErrorKind::WriteFailure, "not UTF-8"))
        });
        (fuel, text.map_err(|error| sentence(&error)))
    }

    /// The members of the payload that a template reads, as it names them and as paths.
    pub(super) fn members(&self, id: TemplateId) -> Vec<(String, String)> {
        let read = self.environment.get_template(&id.0.to_string()).map(|template| template.undeclared_variables(true));
        let mut names: Vec<String> = read.unwrap_or_default().into_iter().collect();
        names.sort_unstable();
        let path = |name: &str| match name.split_once('.')? {
            ("payload", rest) => Some(format!("$.{rest}")),
            ("root", rest) => Some(format!("$$.{rest}")),
            _ => None,
        };
        names.into_iter().filter_map(|name| path(&name).map(|path| (name, path))).collect()
    }

    fn reads(&self, id: TemplateId, name: &str) -> bool {
        self.environment
            .get_template(&id.0.to_string())
            .is_ok_and(|template| template.undeclared_variables(false).contains(name))
    }
}

impl Variables<'_> {
    /// The context that templates share.
    pub(super) fn into_context(self) -> Value {
        minijinja::context! {
            payload => self.payload,
            root => self.root,
            action => self.action,
            incident_key => self.incident_key,
            source => self.source,
            rule => self.rule,
            received_at => self.received_at,
        }
    }
}

/// A payload as templates read it.
pub(super) fn convert(payload: &serde_json::Value) -> Value {
    Value::from(minijinja::value::Serde(payload))
}

/// Tells a template from another text.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn format(output: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(());
    }
    if let Some(text) = value.as_str() {
        return output.write_str(text).map_err(Error::from);
    }
    let text = serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "can't be written as JSON").with_source(error))?;
    state.consume_fuel(text.len() as u64 / 4)?;
    output.write_str(&text).map_err(Error::from)
}

/// The place at which a template reads a name first: as a whole word within `{{ … }}` or `{% … %}`, not as a member of something.
fn read_at(source: &str, name: &str) -> Option<Range<usize>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut places = source.match_indices(name).filter(|_| !name.is_empty()).map(|(at, _)| at..at + name.len());
    places.find(|place| {
        let (before, after) = (&source[..place.start], &source[place.end..]);
        let opened = before.rfind("{{").max(before.rfind("{%"));
        let closed = before.rfind("}}").max(before.rfind("%}"));
        opened > closed && !before.ends_with(|c| is_word(c) || c == '.') && !after.starts_with(is_word)
    })
}

/// Tells a name to which some `{% set … %}` gives a value.
fn is_set(source: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    source.split("set ").skip(1).any(|rest| {
        let names = rest.split(['=', '%']).next().unwrap_or_default();
        names.split(|c| !is_word(c)).any(|set| set == name)
    })
}

/// The names of the methods that a template calls, in whatever branch. Those of a loop exist, whatever it is called.
fn methods(source: &str) -> Vec<Range<usize>> {
    let tokens: Vec<(Token<'_>, Span)> =
        tokenize(source, false, SyntaxConfig::default()).map_while(Result::ok).collect();
    let called = tokens.windows(3).filter_map(|three| match three {
        [(Token::Dot, _), (Token::Ident(name), span), (Token::ParenOpen, _)] if !LOOP_METHODS.contains(name) => {
            Some(usize::try_from(span.start_offset).ok()?..usize::try_from(span.end_offset).ok()?)
        }
        _ => None,
    });
    called.collect()
}

fn no_method(name: &str, range: Range<usize>) -> Problem {
    let help = match nearest(name, FILTERS.split(' ')) {
        Some(filter) => format!("a filter does such things: `{{{{ value | {filter} }}}}`"),
        None => "values are changed by filters: `{{ value | upper }}`".to_owned(),
    };
    let message = format!("no value has a method `{name}`: this template renders empty where it is called");
    Problem { message, range: Some(range), help: Some(help) }
}

fn last_word(text: &str) -> &str {
    text.rsplit(' ').next().unwrap_or_default()
}

fn sentence(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// The text that a template writes, up to a limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > RENDERED_BYTES_MAX {
            return Err(io::Error::other(format!("the text is longer than {RENDERED_BYTES_MAX} bytes")));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Templates({})", self.reads_payload.len())
    }
}

/// MiniJinja doesn't list what it has; these are offered to who mistypes one.
const FILTERS: &str = "abs attr batch bool capitalize chain count default dictsort escape first float format groupby indent \
    int items join last length lines list lower map max min replace reverse round select sort split \
    string title trim unique upper";
const TESTS: &str = "boolean defined divisibleby endingwith even float in integer iterable mapping none number odd \
    startingwith undefined";
const LOOP_METHODS: [&str; 2] = ["changed", "cycle"];
const VARIABLES: [&str; 7] = ["payload", "root", "action", "incident_key", "source", "rule", "received_at"];
/// Some 50,000 instructions or 3 MB of data: a title takes a hundred, a loop over a payload a few thousand.
const FUEL: u64 = 50_000;
/// A template that fails does not tell what it took; most fail at once.
const FUEL_OF_FAILURE: u64 = 500;
/// The fuel of all templates of one payload together, some 50 ms. Ten thousand elements with five templates each
/// take half of it.
pub(super) const FUEL_OF_PAYLOAD: u64 = 5_000_000;
/// No title, description or field of an incident is longer than a whole payload.
const RENDERED_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_exists() {
        let names = |names: &str, form: fn(&str) -> String| {
            for name in names.split(' ') {
                let mut templates = Templates::new();
                let id = templates.add(&form(name)).unwrap();
                assert_eq!(templates.unknown_name(id), None, "{name}");
            }
        };
        names(FILTERS, |name| format!("{{{{ payload | {name} }}}}"));
        names(TESTS, |name| format!("{{{{ payload is {name} }}}}"));
    }

    #[test]
    fn what_always_fails_is_doubtful() {
        let doubts = |text: &str| {
            let mut templates = Templates::new();
            let id = templates.add(text).unwrap();
            let doubts = templates.doubts(id).into_iter();
            doubts
                .map(|doubt| {
                    format!("{} | {}", doubt.range.map_or("", |range| &text[range]), doubt.help.unwrap_or_default())
                })
                .collect::<Vec<_>>()
        };
        for (text, told) in [
            ("{{ payload.title.upper() }}", "upper | a filter does such things: `{{ value | upper }}`"),
            ("{% if payload.x %}{{ payload.x['.a('].strip(1) }}{% endif %}", "strip | "),
            ("{% if payload.x %}a{% else %}{{ payload.a.items() }}{% endif %}", "items | a filter"),
            ("{% for x in payload.l %}{{ loop.index }}{{ x.lower () }}{% endfor %}", "lower | a filter"),
            ("a.b() {{ payload.x() }}", "x | values are changed by filters"),
            ("{% set sta = 1 %}{{ st }}{{ sta }}", "st | "),
            ("{{ 1/0 }}", "1/0 | a text that is no template"),
        ] {
            let found = doubts(text);
            assert!(matches!(found.as_slice(), [one] if one.starts_with(told)), "{text}: {found:?}");
        }
        for fine in [
            "{% if payload.s %}{% set st = 'CRITICAL' %}{% else %}{% set st, x = 'OK', 1 %}{% endif %}{{ st }}{{ x }}",
            "a.b() {{ '.x()' }} {{ payload.b }}.c()",
            "{% for x in payload.list %}{{ loop.cycle('a', 'b') }}{% endfor %}",
            "{# {{ payload.x.upper() }} #}{{ payload.a }}",
            "{% raw %}{{ a.b() }}{% endraw %} {%- raw -%} {{ a.b() }} {%- endraw -%}",
            r"{{ payload.t | replace('\'', '') }} isn't foo.bar()",
            "{% for x in payload.l %}{% set outer = loop %}{{ outer.cycle('a', 'b') }}{% endfor %} {",
            "{{ payload.a + 1 }} {{ range(3) | join }} {{ payload.n.o }}",
            "{{ 1.5 }}",
        ] {
            assert_eq!(doubts(fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn a_name_is_found_where_it_is_read() {
        for (source, name, at) in [
            ("title {{ title }}", "title", Some(9)),
            ("{{ payload.title }} {% if title %}", "title", Some(26)),
            ("{{ a }} title", "title", None),
            ("{{ titles }}", "title", None),
            ("{{ x | uper }}", "uper", Some(7)),
            ("{{ x }}", "", None),
        ] {
            assert_eq!(read_at(source, name).map(|range| range.start), at, "{source}");
        }
    }
}
