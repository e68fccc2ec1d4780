//! Masks secrets in what an upstream answers: an error page may repeat what it was sent, in the form in which it was sent
//! or written as JSON or HTML.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The forms of secrets, longest first.
#[derive(Default)]
pub(super) struct Mask(Vec<String>);

impl Mask {
    /// Adds the forms of a secret.
    pub(super) fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let json = serde_json::Value::from(secret).to_string();
        let json = json.trim_matches('"');
        let mut forms = vec![secret.to_owned(), BASE64_STANDARD.encode(secret)];
        forms.extend([json.to_owned(), json.replace('/', "\\/"), escaped_angles(json), ascii(json)]);
        forms.extend(html(secret));
        for set in [NON_ALPHANUMERIC, UNRESERVED] {
            let encoded = utf8_percent_encode(secret, set).to_string();
            forms.extend([lower_hex(&encoded), encoded]);
        }
        self.0.extend(forms);
        self.0.sort_by_key(|form| std::cmp::Reverse(form.len()));
        self.0.dedup();
    }

    /// The text without secrets; none if it has none. A text that was `cut` may end within one.
    pub(super) fn masked(&self, text: &str, cut: bool) -> Option<String> {
        let begun = |form: &String| if cut { prefix_len(text, form) } else { 0 };
        let begun = self.0.iter().map(begun).max().unwrap_or(0);
        if begun == 0 && !self.0.iter().any(|form| text.contains(form)) {
            return None;
        }
        let masked =
            self.0.iter().fold(text[..text.len() - begun].to_owned(), |text, form| text.replace(form, REPLACEMENT));
        Some(if begun > 0 { masked + REPLACEMENT } else { masked })
    }
}

/// The length of the longest prefix of the form with which the text ends.
fn prefix_len(text: &str, form: &str) -> usize {
    let longest = form.len().min(text.len() + 1) - 1;
    (1..=longest).rev().find(|length| form.is_char_boundary(*length) && text.ends_with(&form[..*length])).unwrap_or(0)
}

/// JSON as programs write it that may stand within HTML.
fn escaped_angles(json: &str) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// JSON of ASCII alone.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c.is_ascii() {
            true => text.push(c),
            false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text += &format!("\\u{unit:04x}")),
        }
    }
    text
}

/// HTML has several words for a quote.
fn html(text: &str) -> impl Iterator<Item = String> {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quotes = [("&quot;", "'"), ("&quot;", "&#39;"), ("&quot;", "&#x27;"), ("&#34;", "&#39;"), ("&#34;", "&apos;")];
    let quoted = quotes.map(|(double, single)| text.replace('"', double).replace('\'', single));
    quoted.into_iter().flat_map(|text| [text.replace('+', "&#43;"), text])
}

/// `%2F` as `%2f`.
fn lower_hex(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (hex, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        format!("{text}%{}{rest}", hex.to_ascii_lowercase())
    })
}

/// The set that leaves unreserved characters as they are (RFC 3986, section 2.3), as most programs do.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const REPLACEMENT: &str = "***";

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(secrets: &[&str]) -> Mask {
        let mut mask = Mask::default();
        secrets.iter().for_each(|secret| mask.add(secret));
        mask
    }

    #[test]
    fn a_secret_is_masked_in_every_form_in_which_it_may_come_back() {
        let mask = mask(&["hunter/2+\"c-d&=", "user:pass", "Zürich-1 😀"]);
        for (text, masked) in [
            ("the token hunter/2+\"c-d&=!", "the token ***!"),
            ("?token=hunter%2F2%2B%22c%2Dd%26%3D&x=1", "?token=***&x=1"),
            ("?token=hunter%2f2%2b%22c%2dd%26%3d&x=1", "?token=***&x=1"),
            ("?token=hunter%2F2%2B%22c-d%26%3D&x=1", "?token=***&x=1"),
            (r#"{"e":"hunter\/2+\"c-d&="}"#, r#"{"e":"***"}"#),
            (r#"{"e":"hunter/2+\"c-d&="}"#, r#"{"e":"***"}"#),
            ("<p>hunter/2+&quot;c-d&amp;=</p>", "<p>***</p>"),
            ("<p>hunter/2&#43;&#34;c-d&amp;=</p>", "<p>***</p>"),
            (r#"{"e":"hunter/2+\"c-d\u0026="}"#, r#"{"e":"***"}"#),
            (r#"{"e":"Z\u00fcrich-1 \ud83d\ude00"}"#, r#"{"e":"***"}"#),
            ("Basic dXNlcjpwYXNz", "Basic ***"),
        ] {
            assert_eq!(mask.masked(text, false).as_deref(), Some(masked), "{text}");
        }
        assert_eq!(mask.masked("nothing of it", false), None);
        assert_eq!(Mask::default().masked("x", true), None);
    }

    #[test]
    fn the_end_of_a_cut_text_may_be_the_beginning_of_a_secret() {
        let mask = mask(&["hunter2"]);
        assert_eq!(mask.masked("hunter2 and hunt", true).as_deref(), Some("*** and ***"));
        assert_eq!(mask.masked("and hunt", false), None);
        for (text, form, length) in [
            ("the token hunt", "hunter2", 4),
            ("the token hunter2", "hunter2", 0),
            ("the token hunter2h", "hunter2", 1),
            ("hu", "hunter2", 2),
            ("", "hunter2", 0),
            ("x", "h", 0),
            ("aab", "aaba", 3),
            ("Zü", "Zürich", 3),
        ] {
            assert_eq!(prefix_len(text, form), length, "{text:?} {form:?}");
        }
    }
}
