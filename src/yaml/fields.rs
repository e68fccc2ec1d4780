//! Reads a mapping key by key: each value is typed and checked, and a key that is left over is a mistake.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{Finding, Findings, Key, Node, Place, Value, redact, shown};

/// Finds something else where `expected` should stand, a mapping above all. One that was written into a variable or flag
/// as in a file is a text there.
pub(crate) fn not_a_mapping<'f>(
    node: &Node,
    path: impl Into<String>,
    expected: &str,
    findings: &'f mut Findings,
) -> &'f mut Finding {
    let path = path.into();
    let is_over = matches!(node.place, Place::Environment(_) | Place::Flag(_));
    let is_meant = is_over && node.as_str().is_some_and(|text| text.trim_start().starts_with('{'));
    let help =
        format!("a variable or flag takes {{key=value, key=value}}; or set one key each, as `--set {path}.KEY=VALUE`");
    let finding = findings.error(node.place.clone(), path, format!("expected {expected}, found {}", node.kind()));
    if is_meant { finding.help(help) } else { finding }
}

/// A mapping being read. Every `take` marks its key as known; [`Fields::finish`] reports the rest.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    entries: Vec<(&'a Key, &'a Node)>,
    place: &'a Place,
    path: String,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of a mapping at `path`; anything but a mapping is an error.
    pub(crate) fn of(node: &'a Node, path: impl Into<String>, findings: &mut Findings) -> Option<Fields<'a>> {
        let path = path.into();
        match &node.value {
            Value::Map(entries) => Some(Fields {
                entries: entries.iter().map(|(key, node)| (key, node)).collect(),
                place: &node.place,
                path,
                known: Vec::new(),
            }),
            _ => {
                not_a_mapping(node, path, "a mapping", findings);
                None
            }
        }
    }

    /// The mapping's own place, for a finding about something that is missing in it.
    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    /// The dotted path of this mapping.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The dotted path of one of its keys.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The node at `name`, null included.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'a Node> {
        self.known.push(name);
        let index = self.entries.iter().position(|(key, _)| key.name == name)?;
        Some(self.entries.remove(index).1)
    }

    /// The node at `name`, where null counts as absent.
    pub(crate) fn take_some(&mut self, name: &'static str) -> Option<&'a Node> {
        self.take(name).filter(|node| !node.is_null())
    }

    /// The node at `name`; an error if it is absent or null.
    pub(crate) fn require(&mut self, name: &'static str, findings: &mut Findings) -> Option<&'a Node> {
        let node = self.take_some(name);
        if node.is_none() {
            findings
                .error(self.place(), self.path_of(name), format!("`{name}` is required here and missing"))
                .code("missing-key");
        }
        node
    }

    /// A string.
    pub(crate) fn string(&mut self, name: &'static str, findings: &mut Findings) -> Option<String> {
        let path = self.path_of(name);
        string(self.take_some(name)?, &path, findings)
    }

    /// The path of a file or folder.
    pub(crate) fn file(&mut self, name: &'static str, findings: &mut Findings) -> Option<PathBuf> {
        let path = self.path_of(name);
        file(self.take_some(name)?, &path, findings)
    }

    /// A boolean.
    pub(crate) fn boolean(&mut self, name: &'static str, findings: &mut Findings) -> Option<bool> {
        let path = self.path_of(name);
        boolean(self.take_some(name)?, &path, findings)
    }

    /// A whole number within `range`.
    pub(crate) fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        findings: &mut Findings,
    ) -> Option<u64> {
        let path = self.path_of(name);
        integer(self.take_some(name)?, &path, range, findings)
    }

    /// A duration within `range`, such as `500ms`, `10s`, `5m`, `24h`, `7d`.
    pub(crate) fn duration_within(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
        findings: &mut Findings,
    ) -> Option<Duration> {
        let path = self.path_of(name);
        duration_within(self.take_some(name)?, &path, range, findings)
    }

    /// A size in bytes within `range`, such as `256KiB`, `4GiB`, `1MB`.
    pub(crate) fn size_within(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        findings: &mut Findings,
    ) -> Option<u64> {
        let path = self.path_of(name);
        size_within(self.take_some(name)?, &path, "", range, findings)
    }

    /// A size in bytes within `range`; none also for the word `auto`.
    pub(crate) fn size_or_auto(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        findings: &mut Findings,
    ) -> Option<u64> {
        let path = self.path_of(name);
        let node = self.take_some(name).filter(|node| node.as_str() != Some("auto"))?;
        size_within(node, &path, "`auto`, or ", range, findings)
    }

    /// A number, whole or not, within `range`.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<f64>,
        findings: &mut Findings,
    ) -> Option<f64> {
        let path = self.path_of(name);
        let node = self.take_some(name)?;
        let value = match &node.value {
            Value::Number(number) => number.as_f64().filter(|value| range.contains(value)),
            _ => None,
        };
        value
            .or_else(|| mismatch(node, &path, &format!("a number from {} to {}", range.start(), range.end()), findings))
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
        findings: &mut Findings,
    ) -> Option<T> {
        let path = self.path_of(name);
        choice(self.take_some(name)?, &path, choices, findings)
    }

    /// The fields of a mapping within this one.
    pub(crate) fn section(&mut self, name: &'static str, findings: &mut Findings) -> Option<Fields<'a>> {
        let path = self.path_of(name);
        Fields::of(self.take_some(name)?, path, findings)
    }

    /// The fields of a mapping within this one; where it is absent, fields of which all are absent.
    pub(crate) fn section_or_empty(&mut self, name: &'static str, findings: &mut Findings) -> Fields<'a> {
        let path = self.path_of(name);
        let node = self.take_some(name).unwrap_or(&EMPTY);
        let fields = Fields::of(node, path.clone(), findings);
        fields.unwrap_or(Fields { entries: Vec::new(), place: &node.place, path, known: Vec::new() })
    }

    /// The key `name` is there and not taken yet, null included.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key.name == name)
    }

    /// The keys that are not taken yet.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|(key, _)| key.name.as_str())
    }

    /// [`Fields::finish`] will report an error. The value that a misnamed key was to have is then no second mistake.
    pub(crate) fn misnamed(&self) -> bool {
        self.entries.iter().any(|(key, _)| !matches!(key.place, Place::Environment(_)))
    }

    /// The keys that are not taken yet, for a mapping whose keys are the user's own (sources, header names).
    pub(crate) fn rest(&mut self) -> Vec<(&'a Key, &'a Node)> {
        std::mem::take(&mut self.entries)
    }

    /// Reports every key that nobody asked for, with the nearest name that somebody did. An environment variable
    /// may have been set by others for themselves (Kubernetes names them after services), so it is only a warning.
    pub(crate) fn finish(self, findings: &mut Findings) {
        for (key, node) in &self.entries {
            // A key without a value may be a value without its key: `{ hunter }`.
            let may_be_secret = node.is_null() || redact::is_sensitive(&self.path);
            let private = key.place.is_private();
            let name = if private { redact::key(&key.name, &self.known, may_be_secret) } else { &key.name };
            let path = self.path_of(name);
            let finding = match &key.place {
                Place::Environment(_) => {
                    findings.warning(key.place.clone(), path, "no such setting: this variable has no effect")
                }
                place => findings.error(place.clone(), path, format!("unknown key `{name}`")),
            };
            finding.code("unknown-key").suggest(&key.name, self.known.iter().copied());
            if let Place::Environment(variable) = &key.place
                && let Some(meant) = with_levels(variable, &key.name, &self.known)
            {
                finding.help(format!("did you mean {meant}? `__` stands between levels"));
            }
        }
    }
}

/// The variable with two underscores behind the level that `name` begins with: GANDER_LISTEN__ADDRESS where one was
/// written.
fn with_levels(variable: &str, name: &str, known: &[&str]) -> Option<String> {
    let is_level = |known: &&str| name.strip_prefix(*known).is_some_and(|rest| rest.starts_with('_'));
    let level = known.iter().copied().find(is_level)?.to_uppercase();
    Some(variable.replacen(&format!("{level}_"), &format!("{level}__"), 1))
}

/// Reads each of a list's items by its path, so that all mistakes are found. Those that can't be used are left out.
pub(crate) fn each<'n, T>(items: &'n [Node], path: &str, mut read: impl FnMut(&'n Node, &str) -> Option<T>) -> Vec<T> {
    items.iter().enumerate().filter_map(|(index, item)| read(item, &format!("{path}[{index}]"))).collect()
}

/// A string, from a node at `path`.
pub(crate) fn string(node: &Node, path: &str, findings: &mut Findings) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        _ => mismatch(node, path, "a string", findings),
    }
}

/// The path of a file or folder, from a node at `path`.
pub(crate) fn file(node: &Node, path: &str, findings: &mut Findings) -> Option<PathBuf> {
    let text = string(node, path, findings)?;
    if text.trim().is_empty() || text.contains('\0') {
        findings.error(node.place.clone(), path, "expected a path, found an empty text");
        return None;
    }
    Some(PathBuf::from(text))
}

/// A boolean, from a node at `path`.
pub(crate) fn boolean(node: &Node, path: &str, findings: &mut Findings) -> Option<bool> {
    match &node.value {
        Value::Bool(value) => Some(*value),
        Value::String(text) if matches!(text.to_lowercase().as_str(), "yes" | "no" | "on" | "off" | "y" | "n") => {
            findings
                .error(node.place.clone(), path, format!("expected true or false, found the text `{text}`"))
                .help("only `true` and `false` are booleans here");
            None
        }
        _ => mismatch(node, path, "true or false", findings),
    }
}

/// A whole number within `range`, from a node at `path`.
pub(crate) fn integer(node: &Node, path: &str, range: RangeInclusive<u64>, findings: &mut Findings) -> Option<u64> {
    let value = match &node.value {
        Value::Number(number) => number.as_u64().filter(|value| range.contains(value)),
        _ => None,
    };
    value.or_else(|| {
        mismatch(node, path, &format!("a whole number from {} to {}", range.start(), range.end()), findings)
    })
}

/// A duration within `range`, from a node at `path`: a number and `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn duration_within(
    node: &Node,
    path: &str,
    range: RangeInclusive<Duration>,
    findings: &mut Findings,
) -> Option<Duration> {
    let value = node.as_str().and_then(parse_duration).filter(|value| range.contains(value));
    value.or_else(|| {
        let (least, most) = (spell_duration(*range.start()), spell_duration(*range.end()));
        unusable(node, path, &format!("a duration such as 10s, 5m or 7d, from {least} to {most}"), findings)
    })
}

/// A duration as text: a number and `ms`, `s`, `m`, `h` or `d`; none if it is anything else, or too long.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    quantity(text, &DURATIONS).map(Duration::from_millis).filter(|duration| ANY_DURATION.contains(duration))
}

/// A size within `range`, from a node at `path`: a number of bytes, or a number with `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB`,
/// `GB`. `or` names what else may stand there.
fn size_within(node: &Node, path: &str, or: &str, range: RangeInclusive<u64>, findings: &mut Findings) -> Option<u64> {
    let value = match &node.value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => quantity(text, &SIZES),
        _ => None,
    };
    let value = value.filter(|value| range.contains(value));
    value.or_else(|| {
        let (least, most) = (spell_size(*range.start()), spell_size(*range.end()));
        unusable(node, path, &format!("{or}a size such as 256KiB or 4GiB, from {least} to {most}"), findings)
    })
}

/// One of a few words, from a node at `path`.
pub(crate) fn choice<T: Copy>(
    node: &Node,
    path: &str,
    choices: &[(&'static str, T)],
    findings: &mut Findings,
) -> Option<T> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let Some(text) = node.as_str() else {
        return mismatch(node, path, &format!("one of {}", names.join(", ")), findings);
    };
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    if found.is_none() {
        findings
            .error(
                node.place.clone(),
                path,
                format!("expected one of {}, found {}", names.join(", "), shown(node, path, &names)),
            )
            .suggest(text, names.iter().copied());
    }
    found
}

/// Adds an error about the type of a value: a string is named as one.
fn mismatch<T>(node: &Node, path: &str, expected: &str, findings: &mut Findings) -> Option<T> {
    let found = if node.as_str().is_some() { node.kind().to_owned() } else { shown(node, path, &[]) };
    findings.error(node.place.clone(), path, format!("expected {expected}, found {found}"));
    None
}

/// Adds an error about a value of the right type: a string is shown where it may be.
fn unusable<T>(node: &Node, path: &str, expected: &str, findings: &mut Findings) -> Option<T> {
    findings.error(node.place.clone(), path, format!("expected {expected}, found {}", shown(node, path, &[])));
    None
}

/// `1.5h` by a table of units; none if the unit is unknown, the number malformed or the product too large.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(scale),
        Some((whole, fraction)) if !fraction.is_empty() && fraction.len() <= 6 => {
            let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
            let power = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
            let part = fraction.parse::<u64>().ok()?.checked_mul(scale)? / power;
            whole.checked_add(part)
        }
        Some(_) => None,
    }
}

/// A duration as one would write it here, by the largest unit that leaves it whole.
pub(crate) fn spell_duration(duration: Duration) -> String {
    spell(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

/// A size as one would write it here, by the largest unit that leaves it whole.
fn spell_size(bytes: u64) -> String {
    spell(bytes, &SIZES)
}

fn spell(quantity: u64, units: &[(&str, u64)]) -> String {
    let whole = |(_, scale): &&(&str, u64)| quantity >= *scale && quantity.is_multiple_of(*scale);
    let (unit, scale) = units.iter().find(whole).copied().unwrap_or(units[units.len() - 1]);
    format!("{}{unit}", quantity / scale)
}

/// Units in milliseconds, the largest first.
const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units in bytes; those of two are first, since sizes are shown in them.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Stands for a section that is absent.
static EMPTY: Node = Node { value: Value::Map(Vec::new()), place: Place::Default };

/// Up to a hundred years: beyond them, adding a duration to a clock could overflow.
pub(crate) const ANY_DURATION: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Source, parse};
    use super::*;

    fn read<T>(text: &str, take: impl FnOnce(&mut Fields<'_>, &mut Findings) -> Option<T>) -> (Option<T>, Vec<String>) {
        let source = Arc::new(Source::new("f.yaml".into(), text.into()));
        let mut findings = Findings::new();
        let tree = parse(&source, &mut findings).unwrap();
        let mut fields = Fields::of(&tree, "", &mut findings).unwrap();
        let taken = take(&mut fields, &mut findings);
        fields.finish(&mut findings);
        (taken, findings.lines())
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("1.5h", Some(5_400_000)),
            ("7 d", Some(604_800_000)),
            ("0s", Some(0)),
            ("10", None),
            ("'10'", None),
            ("-1s", None),
            ("1e3s", None),
            ("1.s", None),
            ("1.1234567s", None),
            ("1.2.3s", None),
            ("s", None),
            ("10 parsecs", None),
            ("99999999999999999999s", None),
            ("36501d", None),
        ] {
            let (value, lines) =
                read(&format!("x: {text}"), |fields, findings| fields.duration_within("x", ANY_DURATION, findings));
            assert_eq!(value.map(|value| value.as_millis()), millis, "{text}");
            assert_eq!(lines.is_empty(), millis.is_some(), "{text}: {lines:?}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in [
            ("1024", Some(1024)),
            ("256KiB", Some(262_144)),
            ("1.5 GiB", Some(1_610_612_736)),
            ("1MB", Some(1_000_000)),
            ("0B", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("256kb", None),
            ("20000000TiB", None),
            ("[]", None),
        ] {
            let (value, lines) =
                read(&format!("x: {text}"), |fields, findings| fields.size_within("x", 0..=u64::MAX, findings));
            assert_eq!(value, bytes, "{text}");
            assert_eq!(lines.is_empty(), bytes.is_some(), "{text}: {lines:?}");
        }
    }

    #[test]
    fn what_is_spelled_is_read_back() {
        for millis in [0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000] {
            let text = spell_duration(Duration::from_millis(millis));
            let (value, _) =
                read(&format!("x: {text}"), |fields, findings| fields.duration_within("x", ANY_DURATION, findings));
            assert_eq!(value, Some(Duration::from_millis(millis)), "{text}");
        }
        for bytes in [0, 1, 1024, 1536, 1 << 20, 3_000_000, 4 << 30, 1 << 44] {
            let text = spell_size(bytes);
            let (value, _) =
                read(&format!("x: {text}"), |fields, findings| fields.size_within("x", 0..=u64::MAX, findings));
            assert_eq!(value, Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_an_error_with_the_nearest_name() {
        let (_, lines) = read("window: 1\nwindwo: 2\nother-thing: 3\n", |fields, findings| {
            fields.take("max_keys");
            fields.integer("window", 0..=9, findings)
        });
        assert_eq!(
            lines,
            [
                "f.yaml:2:1: windwo: unknown key `windwo` (did you mean `window`?)",
                "f.yaml:3:1: other-thing: unknown key `other-thing` (valid here: max_keys, window)",
            ]
        );
    }

    #[test]
    fn null_is_absent() {
        let (value, lines) = read("x: ~\ny:\n", |fields, findings| {
            let section = fields.section_or_empty("y", findings);
            section.finish(findings);
            fields.string("x", findings)
        });
        assert_eq!((value, lines), (None, Vec::new()));
    }
}
