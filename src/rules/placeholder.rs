//! Placeholders that a sender's template left unrendered: `<% … %>`, `{{ … }}`, `${ … }`.
//!
//! In an identity they would glue unrelated incidents together; a state that is nothing else says nothing. A text that
//! quotes one, as a title may, is a text.

use super::path::JsonPath;

/// The paths at which placeholders are refused.
#[derive(Clone, Debug)]
pub(super) enum Placeholders {
    Allow,
    /// Everywhere but at these.
    RefuseExceptAt(Vec<JsonPath>),
}

impl Placeholders {
    pub(super) fn are_refused(&self) -> bool {
        matches!(self, Placeholders::RefuseExceptAt(_))
    }

    pub(super) fn are_refused_at(&self, path: &JsonPath) -> bool {
        match self {
            Placeholders::Allow => false,
            Placeholders::RefuseExceptAt(allowed) => !allowed.iter().any(|allowed| allowed.is_same(path)),
        }
    }
}

impl Default for Placeholders {
    fn default() -> Placeholders {
        Placeholders::RefuseExceptAt(Vec::new())
    }
}

/// The remedy for a placeholder at a path, with the key that allows it as YAML takes it.
pub(super) fn remedy(path: &JsonPath) -> String {
    format!(
        "fix the sender's template; if it is meant so, `placeholders: {{ allow: [{}] }}` in the rule file takes it",
        path.as_yaml()
    )
}

/// The first placeholder in a text.
pub(super) fn find(text: &str) -> Option<&str> {
    FORMS.iter().filter_map(|(open, close)| within(text, open, close)).min_by_key(|found| found.as_ptr())
}

/// The first placeholder of a text that holds nothing else.
pub(super) fn alone(text: &str) -> Option<&str> {
    let (mut rest, mut first) = (text.trim_start(), None);
    while !rest.is_empty() {
        // Only the form that begins here: any other would be sought through the whole rest each time.
        let (open, close) = FORMS.iter().find(|(open, _)| rest.starts_with(open))?;
        let placeholder = within(rest, open, close)?;
        first = first.or(Some(placeholder));
        rest = rest[placeholder.len()..].trim_start();
    }
    first
}

fn within<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let start = text.find(open)?;
    let after = start + open.len();
    let end = after + text[after..].find(close)? + close.len();
    Some(&text[start..end])
}

const FORMS: [(&str, &str); 3] = [("<%", "%>"), ("{{", "}}"), ("${", "}")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_found_wherever_it_stands() {
        for (text, expected) in [
            ("<% event.id %>", Some("<% event.id %>")),
            ("a <%x%> b {{y}}", Some("<%x%>")),
            ("a {{ y }} b <%x%>", Some("{{ y }}")),
            ("cost: ${price}", Some("${price}")),
            ("<%\nx\n%>", Some("<%\nx\n%>")),
            ("<%%>", Some("<%%>")),
            ("90 <% 100", None),
            ("%> <%", None),
            ("{x} $x { {x} }", None),
            ("", None),
        ] {
            assert_eq!(find(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_text_that_quotes_a_placeholder_is_none() {
        for (text, expected) in [
            (" <% event.state %>\n", Some("<% event.state %>")),
            ("{{ a }}{{ b }}", Some("{{ a }}")),
            ("${a} ${b}", Some("${a}")),
            ("{{ a", None),
            ("Disk full on {{ $labels.instance }}", None),
            ("{{ a }}: CRITICAL", None),
            ("${HOME} ${", None),
            ("", None),
        ] {
            assert_eq!(alone(text), expected, "{text:?}");
        }
        // A megabyte of them takes a look at each, not at all for each.
        let started = std::time::Instant::now();
        assert!(alone(&"{{}}".repeat(1 << 18)).is_some() && alone(&"{{}} ".repeat(1 << 18)).is_some());
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
