//! Keeps secrets out of what is shown of a file that may hold some: keys are shown, values are not.
//!
//! Where a secret stands can't be told from a file that is broken or mistyped, so every value counts as one, except
//! numbers, addresses and the few words that no secret is. The finding still has its file, line, column and key.

use super::nearest;

/// Stands for what is not shown.
pub(super) const MASK: &str = "[hidden]";

/// The number of bytes of a line that may be shown: up to its first value that may be a secret.
pub(super) fn shown_length(line: &str) -> usize {
    let mut at = 0;
    loop {
        at += line[at..].len() - line[at..].trim_start_matches([' ', '\t', '-', '{', '}', '[', ']', ',']).len();
        let rest = &line[at..];
        let word = &rest[..rest.find([' ', '\t', '{', '}', '[', ']', ',']).unwrap_or(rest.len())];
        match word.strip_suffix(':') {
            Some(key) if is_plain_key(key) => {
                at += word.len();
                if is_sensitive(key) {
                    return at + usize::from(line[at..].starts_with(' '));
                }
            }
            None if !word.is_empty() && is_plain_value(word) => at += word.len(),
            _ => return at,
        }
    }
}

/// A key as a message may name it.
pub(super) fn key<'a>(name: &'a str, known: &[&'static str]) -> &'a str {
    if is_plain_key(name) || nearest(name, known.iter().copied()).is_some() { name } else { MASK }
}

/// Tells by its name whether a key may hold a secret; mistyped names count too.
pub fn is_sensitive(name: &str) -> bool {
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

/// Parts of the names of keys that hold secrets.
const WORDS: &[&str] =
    &["bearer", "secret", "token", "password", "passwd", "passphrase", "authorization", "auth", "credential", "proxy"];

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
            ("", ""),
        ] {
            assert_eq!(&line[..shown_length(line)], shown, "{line}");
        }
    }
}
