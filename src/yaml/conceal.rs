//! Which parts of a file may hold a secret and so are never shown.
//!
//! The caller that knows a secret for one conceals it by its place. For everything else (a mistyped key, a value
//! in the wrong shape, a file that is not YAML) the names of keys have to do, and in doubt more is hidden than
//! needed: the finding keeps its file, line, column and key.

use std::sync::Arc;

use super::{Findings, Key, Node, Place, Source, Value, nearest};

/// What is known of the place of a syntax error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Near {
    /// A key that names a secret is being read.
    Secret,
    Unknown,
}

/// Whether what stands at a key of this name may be a secret, mistyped names included.
pub fn is_sensitive(name: &str) -> bool {
    let folded = name.to_lowercase().replace('-', "_");
    WORDS.iter().any(|word| folded.contains(word))
        || words(&folded).any(|word| nearest(&folded[word], WORDS.iter().copied()).is_some())
}

/// Conceals every value below `node`; its keys stay.
pub fn values(node: &Node, findings: &mut Findings) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| values(item, findings)),
        Value::Map(entries) => entries.iter().for_each(|(_, node)| values(node, findings)),
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => findings.conceal(node.place.clone()),
    }
}

/// Conceals what stands at a key that nobody knows, where the file may hold secrets, and the key itself unless it
/// looks like one.
pub(super) fn unknown(key: &Key, node: &Node, known: &[&'static str], findings: &mut Findings) {
    if !findings.is_discreet() {
        return;
    }
    values(node, findings);
    let plain = key.name.len() <= 32 && key.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if !plain && nearest(&key.name, known.iter().copied()).is_none() {
        findings.conceal(key.place.clone());
    }
}

/// Conceals all of `node`, its keys too.
pub(super) fn whole(node: &Node, findings: &mut Findings) {
    findings.conceal(node.place.clone());
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| whole(item, findings)),
        Value::Map(entries) => {
            for (key, node) in entries {
                findings.conceal(key.place.clone());
                whole(node, findings);
            }
        }
        _ => {}
    }
}

/// Conceals what may be a secret in a whole tree: the values below keys that name one, except where they only
/// say where the secret is (`env`, `file`, `name`), and whatever a URL carries beside scheme, host and path.
pub fn secrets(node: &Node, findings: &mut Findings) {
    walk(node, None, false, findings);
}

fn walk(node: &Node, key: Option<&str>, sensitive: bool, findings: &mut Findings) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| walk(item, key, sensitive, findings)),
        Value::Map(entries) => {
            for (key, node) in entries {
                let sensitive = sensitive || is_sensitive(&key.name);
                // `{ token:abc }` is a key `token:abc`, and `{ bearer, abc }` two keys.
                if sensitive && nearest(&key.name, KEYS.iter().copied()).is_none() {
                    findings.conceal(key.place.clone());
                }
                walk(node, Some(&key.name), sensitive, findings);
            }
        }
        Value::String(text) if sensitive => {
            let known_place = match key {
                Some("env" | "name") => is_name(text),
                Some("file") => true,
                _ => matches!(text.as_str(), "none"),
            };
            if !known_place {
                findings.conceal(node.place.clone());
            }
        }
        Value::String(text) => {
            if let Some(private) = private_part(text) {
                findings.conceal(node.place.within(text, private));
            }
        }
        Value::Bool(_) | Value::Number(_) if sensitive => findings.conceal(node.place.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A variable's, header's or parameter's name, as opposed to a value put in the wrong place.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The part of a URL that may carry credentials: user information, or the query.
fn private_part(text: &str) -> Option<std::ops::Range<usize>> {
    let Some(scheme) = text.find("://") else {
        // Something like a URL that is broken where one would look for its parts.
        return (text.starts_with("http") && text.contains(['@', '?'])).then_some(0..text.len());
    };
    let authority = scheme + 3;
    let path = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
    // User information, or the rest of it where its `@` is lost; a port is digits.
    let port = text[authority..path].rsplit_once(':').map_or("", |(_, port)| port.trim_end_matches(']'));
    if text.contains('@') || !port.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(authority..text.len());
    }
    text[path..].find(['?', '=', '&']).map(|at| path + at..text.len())
}

/// Conceals, in the line around `at`, what may be a secret. There is no tree to ask: the text has to do.
pub(super) fn line(source: &Arc<Source>, at: usize, near: Near, findings: &mut Findings) {
    let text = &source.text;
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let line = &text[start..end];
    let prefix = key_prefix(line);
    let continues = !line[..prefix].contains(':');
    let from = match near {
        Near::Secret => Some(prefix),
        // Without a key of its own the line may go on with the value of a key above.
        Near::Unknown if continues && text[..start].lines().rev().take(LINES_ABOVE).any(is_sensitive) => Some(prefix),
        Near::Unknown => words(line).find(|word| is_sensitive(&line[word.clone()])).map(|word| word.end),
    };
    // A URL's credentials or query are hidden wherever they stand, however the URL is broken.
    let url = line.contains(['?', '@']).then(|| line.find("://").map_or(prefix, |at| at + 3));
    let from = [from, url].into_iter().flatten().min();
    if let Some(from) = from {
        findings.conceal(Place::Text { source: Arc::clone(source), span: start + from..end });
    }
}

/// The length of `  - name:` at the start of a line, or of its blanks where no key begins it.
fn key_prefix(line: &str) -> usize {
    let content = line.find(|c: char| !c.is_whitespace() && c != '-').unwrap_or(line.len());
    let name = line[content..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    match name {
        Some(length) if length > 0 && line[content + length..].starts_with(':') => content + length + 1,
        _ => line.find(|c: char| !c.is_whitespace()).unwrap_or(line.len()),
    }
}

fn words(line: &str) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let start = at + line[at..].find(is_word)?;
        let end = line[start..].find(|c| !is_word(c)).map_or(line.len(), |length| start + length);
        at = end;
        Some(start..end)
    })
}

/// How far above a line the key of a value over several lines is looked for, where only the text can tell.
const LINES_ABOVE: usize = 5;
/// Keys that stand where secrets do, and are none themselves.
const KEYS: &[&str] = &[
    "admin",
    "auth",
    "authorization",
    "bearer",
    "env",
    "file",
    "header",
    "name",
    "proxy",
    "query",
    "secret",
    "sha256",
    "token",
];
/// Parts of names at which secrets stand.
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
    fn only_scheme_host_and_path_of_a_url_are_shown() {
        for (url, hidden) in [
            ("https://sqibs.callgoose.com/v1/process", None),
            ("https://host/v1?token=abc", Some("?token=abc")),
            ("https://host/v1token=abc", Some("=abc")),
            ("https://host:8443/v1", None),
            ("https://[::1]:8443/v1", None),
            ("https://user:passhost/v1", Some("user:passhost/v1")),
            ("https:/user:pass@host/v1", Some("https:/user:pass@host/v1")),
            ("https://user:pass@host/v1", Some("user:pass@host/v1")),
            ("http://user:p/a?s@host:3128", Some("user:p/a?s@host:3128")),
            ("$.tags.policy_id", None),
        ] {
            assert_eq!(private_part(url).map(|range| &url[range]), hidden, "{url}");
        }
    }
}
