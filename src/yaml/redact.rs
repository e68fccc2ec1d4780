//! Keeps secrets out of what is shown of a file that may hold some: keys are shown, values are not.
//!
//! Where a secret stands can't be told from a file that is broken or mistyped, so every value counts as one, except
//! numbers, addresses and the few words that no secret is. Within the value of a key that may hold a secret even those
//! count, and so do keys, unless they are near a known one. The finding still has its file, line, column and path.

use super::{Node, Place, Value, nearest};

/// Stands for what is not shown.
pub(super) const MASK: &str = "[hidden]";

/// The number of bytes of a line that may be shown: up to its first value that may be a secret. A value whose key stands
/// in a line above may always be one; `within_secret` as in [`key`].
pub(super) fn shown_length(line: &str, within_secret: bool) -> usize {
    let (mut at, mut has_key) = (0, false);
    loop {
        at += line[at..].len() - line[at..].trim_start_matches([' ', '\t', '-', '{', '}', '[', ']', ',']).len();
        let rest = &line[at..];
        let word = &rest[..rest.find([' ', '\t', '{', '}', '[', ']', ',']).unwrap_or(rest.len())];
        match word.strip_suffix(':') {
            Some(name) if is_plain_key(name) && key(name, &[], within_secret) == name => {
                (at, has_key) = (at + word.len(), true);
                if within_secret || is_sensitive(name) {
                    return at + usize::from(line[at..].starts_with(' '));
                }
            }
            None if has_key && is_plain_value(word) => at += word.len(),
            _ => return at,
        }
    }
}

/// Tells by the lines above a line whether it stands within the value of a key that may hold a secret: such a line is
/// indented less, or as much if it begins a list or ends with a bracket that is still open.
pub(super) fn is_within_secret(above: &str, line: &str) -> bool {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let is_item = |line: &str| line.trim_start().starts_with('-');
    let (mut depth, mut item, mut closed) = (indentation(line), is_item(line), false);
    for line in above.lines().rev().filter(|line| !line.trim().is_empty()) {
        let beside = indentation(line) == depth;
        closed |= beside && line.trim_start().starts_with(['}', ']']);
        let begins = (item && !is_item(line)) || (!closed && line.trim_end().ends_with(['{', '[']));
        if indentation(line) < depth || (beside && begins) {
            if line.len() > LINE_BYTES_MAX || is_sensitive(line) {
                return true;
            }
            (depth, item, closed) = (indentation(line), is_item(line), false);
        }
    }
    false
}

/// A key as a message may name it. `within_secret`: it stands within the value of a key that may hold a secret, where
/// it may be that secret.
pub(super) fn key<'a>(name: &'a str, known: &[&'static str], within_secret: bool) -> &'a str {
    let is_known = nearest(name, known.iter().chain(WORDS).chain(BESIDE).copied()).is_some();
    if is_known || (!within_secret && is_plain_key(name)) { name } else { MASK }
}

/// The value at `path` as a message may show it: a list or mapping is only named, and so is what may be a secret.
/// A text that is near one of the `known` ones is a mistyped word.
pub(crate) fn shown(node: &Node, path: &str, known: &[&str]) -> String {
    let is_public = matches!(&node.place, Place::Text { source, .. } if !source.private);
    let is_plain = |text: &str| is_plain_value(text) || nearest(text, known.iter().copied()).is_some();
    match &node.value {
        _ if !is_public && is_sensitive(path) => node.kind().to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if !node.place.is_private() || is_plain(text) => format!("`{text}`"),
        _ => node.kind().to_owned(),
    }
}

/// Tells by its name whether a key may hold a secret; mistyped names count too.
pub(crate) fn is_sensitive(name: &str) -> bool {
    let folded = name.to_lowercase().replace('-', "_");
    WORDS.iter().any(|word| folded.contains(word))
        || folded
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| nearest(word, WORDS.iter().copied()).is_some())
}

fn is_plain_key(name: &str) -> bool {
    (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-'))
}

/// A number, with a unit or without, an address, or a word that turns something off.
fn is_plain_value(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ':' | '/'));
    let is_number = unit.len() < text.len() && unit.len() <= 3 && unit.bytes().all(|b| b.is_ascii_alphabetic());
    is_number || matches!(text, "true" | "false" | "null" | "~" | "none" | "off" | "auto")
}

/// A longer line is hidden unread: each of its words would cost a comparison with all names.
const LINE_BYTES_MAX: usize = 1024;

/// Parts of the names of keys that hold secrets.
const WORDS: &[&str] =
    &["bearer", "secret", "token", "password", "passwd", "passphrase", "authorization", "auth", "credential", "proxy"];

/// Keys that usually stand within those.
const BESIDE: &[&str] = &["env", "file", "sha256", "header", "query", "name"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_even_when_mistyped() {
        for name in
            ["bearer", "Bearer", "baerer", "token", "tokn", "api_token", "client-secret", "autorization", "auth"]
        {
            assert!(is_sensitive(name), "{name}");
        }
        for name in ["listen", "address", "rules", "private_key", "timeout", "url", "name", "window", "query"] {
            assert!(!is_sensitive(name), "{name}");
        }
    }

    #[test]
    fn of_a_line_keys_are_shown_and_values_are_not() {
        for (line, shown) in [
            ("  max_body: 256KiB", "  max_body: 256KiB"),
            ("listen: { adress: 0.0.0.0:8443, tls: off }", "listen: { adress: 0.0.0.0:8443, tls: off }"),
            ("- rules: servicepilot.yaml # mine", "- rules: "),
            ("data_dir: data", "data_dir: "),
            ("self_check: { evry: 1m, source: shop.eu }", "self_check: { evry: 1m, source: "),
            ("rules:", "rules:"),
            ("listen: { adress: hunter2, tls: off }", "listen: { adress: "),
            ("  url: https://user:hunter2@host/v1", "  url: "),
            ("token: 123456", "token: "),
            ("tokn: 123456", "tokn: "),
            ("token:hunter2", ""),
            ("hunter2", ""),
            ("\t- hunter2: x", "\t- "),
            ("port: 8f14e45fceea167a", "port: "),
            ("x: 'a, b: c'", "x: "),
            ("x: *hunter2", "x: "),
            ("  20240101abc", "  "),
            ("  123456, port: 1", "  "),
            ("- 007123", "- "),
            ("- - port: 1", "- - port: 1"),
            ("", ""),
        ] {
            assert_eq!(&line[..shown_length(line, false)], shown, "{line}");
        }
        for (line, shown) in [
            ("  env: 123456", "  env: "),
            ("  rules: hunter2", "  "),
            ("  name: x, rules: hunter2", "  name: "),
            ("- nme: off, port: 1", "- nme: "),
            ("  swordfish: off", "  "),
            ("  123456", "  "),
        ] {
            assert_eq!(&line[..shown_length(line, true)], shown, "{line}");
        }
    }

    #[test]
    fn a_line_within_a_secret_is_known_by_the_lines_above() {
        for (above, line, within) in [
            ("token:\n", "  x: 1", true),
            ("token: |\n  a\n\n", "  x: 1", true),
            ("auth:\n- bearer:\n    a: 1\n", "    x: 1", true),
            ("auth:\n- a: 1\n", "- x: 1", true),
            ("token: {\n", "x: 1", true),
            (&format!("{}:\n", "x".repeat(LINE_BYTES_MAX)), "  x: 1", true),
            ("token:\n  a:\n    b: 1\n", "  x: 1", true),
            ("admin:\n  token: a\n", "  x: 1", false),
            ("auth:\n- bearer: a\n", "x: 1", false),
            ("auth: [\n  a,\n]\n", "x: 1", false),
            ("admin: { token: a }\nlisten:\n", "  x: 1", false),
            ("", "x: 1", false),
        ] {
            assert_eq!(is_within_secret(above, line), within, "{above}{line}");
        }
    }
}
