//! Quoted texts of a path, told from what stands around them.

/// A path of the same length in which `_` stands for each byte within quotes, so that whatever is found in it is
/// no part of a quoted text.
pub(super) struct Masked {
    pub(super) text: String,
    /// The place of a quote that is never closed.
    pub(super) unclosed: Option<usize>,
}

/// Masks quoted texts. A backslash in them stays where it begins no escape of RFC 9535: there is none to hide.
pub(super) fn masked(path: &str) -> Masked {
    let mut text = String::with_capacity(path.len());
    let mut open: Option<(usize, char)> = None;
    let mut characters = path.char_indices();
    while let Some((at, c)) = characters.next() {
        match open {
            None => {
                open = matches!(c, '\'' | '"').then_some((at, c));
                text.push(c);
            }
            Some((_, quote)) if c == quote => {
                open = None;
                text.push(c);
            }
            Some((_, quote)) if c == '\\' => {
                let escaped = characters.next().map_or(' ', |(_, escaped)| escaped);
                text.push(if escaped == quote || "bfnrtu/\\".contains(escaped) { '_' } else { '\\' });
                text.extend(std::iter::repeat_n('_', escaped.len_utf8()));
            }
            Some(_) => text.extend(std::iter::repeat_n('_', c.len_utf8())),
        }
    }
    // A backslash at the very end escapes nothing.
    text.truncate(path.len());
    Masked { text, unclosed: open.map(|(at, _)| at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_path_keeps_its_length_and_what_is_not_quoted() {
        for (path, expected) in [
            ("$.a['b.c']", "$.a['___']"),
            (r#"$["it's"]"#, r#"$["____"]"#),
            (r"$['\'']", "$['__']"),
            (r"$['\d']", r"$['\_']"),
            ("$['é']", "$['__']"),
            (r"$['a\", r"$['_\"),
        ] {
            assert_eq!(masked(path).text, expected);
        }
        assert_eq!(masked("$['a").unclosed, Some(2));
        assert_eq!(masked("$['a']").unclosed, None);
    }
}
