//! Placeholders that a sender's template left unrendered: `<% … %>`, `{{ … }}`, `${ … }`.
//!
//! In an identity they would glue unrelated incidents together, in a state they would decide at random.

/// The first placeholder in a text.
pub(super) fn find(text: &str) -> Option<&str> {
    FORMS.iter().filter_map(|(open, close)| within(text, open, close)).min_by_key(|found| found.as_ptr())
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
}
