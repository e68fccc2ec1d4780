//! The likely meaning of a text that is no path: a table of the commonest mistakes, mostly other dialects' operators
//! and calls. Nothing is refused here; a mistake that the table lacks is refused without a hint.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::PathError;
use super::quotes::masked;

/// Describes a path that the parser refused, at `position` if it told one.
pub(super) fn explain(text: &str, position: Option<usize>) -> PathError {
    let (range, help) = match (first(text), position.filter(|position| text.is_char_boundary(*position))) {
        (Some((range, help)), _) => (range, Some(help)),
        (None, Some(at)) => (at..at + text[at..].chars().next().map_or(0, char::len_utf8), unclosed(text)),
        (None, None) => (0..text.len(), Some(FUNCTIONS.to_owned())),
    };
    let message = match &text[range.clone()] {
        "" => "this is no RFC 9535 path: it ends too early".to_owned(),
        whole if whole == text => "this is no RFC 9535 path".to_owned(),
        part => format!("this is no RFC 9535 path: `{part}` is not expected here"),
    };
    PathError { message, range, help }
}

/// The hint for the part that begins at a position.
pub(super) fn at(text: &str, position: usize) -> Option<String> {
    first(text).filter(|(range, _)| range.start == position).map(|(_, help)| help)
}

/// The first part that only a mistake of the table puts there, and what to write.
fn first(text: &str) -> Option<(Range<usize>, String)> {
    let masked = masked(text);
    let unclosed = masked.unclosed.map(|at| (at..text.len(), "the closing quote is missing".to_owned()));
    PATTERNS
        .iter()
        .filter_map(|(pattern, help)| {
            pattern.captures_iter(&masked.text).find_map(|found| {
                let part = found.name("part")?;
                (!matches!(part.as_str(), "true" | "false" | "null")).then(|| {
                    let left = found.name("left").map_or("@.name", |left| &text[left.range()]);
                    (part.range(), help.replace("{left}", left).replace("{part}", &text[part.range()]))
                })
            })
        })
        .chain(unclosed)
        .min_by_key(|(range, _)| range.start)
}

/// The closing bracket that a path lacks.
fn unclosed(text: &str) -> Option<String> {
    let masked = masked(text).text;
    let count = |bracket: char| masked.matches(bracket).count();
    let lacks = |(open, close): &(char, char)| count(*open) > count(*close);
    [('[', ']'), ('(', ')')].into_iter().find(lacks).map(|(_, close)| format!("a `{close}` is missing"))
}

/// RFC 9535's functions. The parser tells no place where one has the wrong arguments.
pub(super) const FUNCTIONS: &str = "`length`, `count` and `value` take one argument and are compared with something; \
     `match` and `search` take a value and a pattern, and stand alone";

/// The table, compiled when the first path is refused.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let compiled = |(pattern, help): &(&str, &'static str)| {
        let pattern = Regex::new(&pattern.replace("PATH", PATH));
        Some((pattern.ok()?, *help))
    };
    MISTAKES.iter().filter_map(compiled).collect()
});

/// Each mistake, and what to write instead. `part` is what is marked, `left` what stands before it. The patterns match
/// only what no path holds outside of quotes; where two begin at the same place, the one above counts.
const MISTAKES: [(&str, &str); 28] = [
    (
        r"PATH\s+(?<part>(?i:nin|not\s+in|none_?of))\b",
        "RFC 9535 has no `{part}`: compare one by one, `{left} != 'a' && {left} != 'b'`, or use `one_of` in a rule",
    ),
    (
        r"PATH\s+(?<part>(?i:in|any_?of|subset_?of))\b",
        "RFC 9535 has no `{part}`: compare one by one, `{left} == 'a' || {left} == 'b'`, or use `one_of` in a rule",
    ),
    (
        r#"(?<left>'_*'|"_*")\s+(?<part>(?i:in)\b)"#,
        "RFC 9535 has no `{part}`: a nested filter looks into a list, `@.items[?@ == {left}]`",
    ),
    (
        r"(?:PATH\s+|[?(!&|,]\s*)(?<part>(?i:like|regex|matches|contains|includes|starts_?with|ends_?with)\b)",
        "write `search({left}, 'pattern')`; `(?i)` in a pattern ignores case",
    ),
    (r"PATH\s*(?<part>=~|~=|!~)", "write `search({left}, 'pattern')`, or `match(…)` for the whole text"),
    (r"[^.\w](?<part>(?i:and)\b)", "write `&&`"),
    (r"[^&](?<part>&)(?:[^&]|$)", "write `&&`"),
    (r"[^.\w](?<part>(?i:or)\b)", "write `||`"),
    (r"[^|](?<part>\|)(?:[^|]|$)", "write `||`"),
    (r"[^.\w](?<part>(?i:not)\b)", "write `!` before a test, `!@.name` or `!(…)`, and `!=` between values"),
    (r"PATH\s+(?<part>(?i:is|eq|equals)\b)", "write `==`"),
    (r"[^=!<>](?<part>===|=)(?:[^=~<>]|$)", "write `==`"),
    (r"(?<part>!==|<>)", "write `!=`"),
    (r"(?<part>=>|=<)", "write `>=` or `<=`"),
    (r"[=<>]\s*(?<part>(?i:true|false|null|nil|none|undefined)\b)", "write `true`, `false` or `null`"),
    (r"[=<>]\s*(?<part>[A-Za-z_]\w*)\s*(?:[\])&|]|$)", "a text is quoted, `'{part}'`; a member is `@.{part}`"),
    (r"[?(]\s*(?<part>[A-Za-z_]\w*)\s*[=!<>]", "a filter reads from the item: `@.{part}`"),
    (r"\[(?<part>@)", "a filter begins with `?`: `[?@.name == 'x']`"),
    (r"[\[,]\s*(?<part>[A-Za-z_][\w.-]*)\s*[,\]]", "a name in brackets is quoted: `'{part}'`"),
    (
        r"PATH\.(?<part>\w+\()",
        "functions stand inside a filter, around what they read: `[?length({left}) > 0]`, `[?search({left}, 'pattern')]`",
    ),
    (r"[^\d](?<part>\.\d+)", "an index is `[0]`; a name that begins with a digit is quoted, `['1a']`"),
    (r"[^.](?<part>\.)\[", "no dot stands before a bracket"),
    (r"(?<part>\.)$", "a name is missing after the dot"),
    (r"[$@](?<part>[A-Za-z_]\w*)", "a dot is missing before `{part}`"),
    (
        r"(?<part>[@$][^\s=!<>&|(),?]*(?:\*|\.\.)[^\s=!<>&|(),?]*)\s*[=!<>]",
        "only a path to one node is compared; a nested filter looks into a list, `[?@.items[?@ == 1]]`",
    ),
    (r"(?<part>\\)", r"in quotes a backslash is written twice: `'\\d+'`"),
    (r"(?<part>/)", "a pattern is quoted, `'…'`; members are named by dots, `$.a.b`"),
    (r"(?<part>\b\d{16,})", "whole numbers beyond ±9007199254740991 are not exact in JSON"),
];

/// A path before an operator.
const PATH: &str = r"(?<left>[@$][^\s=!<>~&|?,()]*)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_the_table_is_looked_for() {
        assert_eq!(PATTERNS.len(), MISTAKES.len());
    }
}
