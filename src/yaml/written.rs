//! Where a part of a scalar's text stands in the file: through quotes, escapes and lines that YAML folds.
//!
//! The text and what is written are walked side by side. Where the two can't be told to agree there is no answer, and
//! the finding points at the whole scalar: a caret under the wrong part would be worse.

use std::ops::Range;

/// Where the bytes `part` of `text` stand in `written`, the scalar as the file has it.
pub(super) fn part(written: &str, text: &str, part: Range<usize>) -> Option<Range<usize>> {
    if part.start > part.end || !text.is_char_boundary(part.start) || !text.is_char_boundary(part.end) {
        return None;
    }
    let mut walk = Walk::of(written)?;
    let mut start = None;
    let mut end = None;
    let mut at = 0;
    while at < text.len() {
        let (length, stands) = walk.next(&text[at..])?;
        if at <= part.start && part.start < at + length {
            start = Some(stands.start);
        }
        if at < part.end && part.end <= at + length {
            end = Some(stands.end);
        }
        at += length;
    }
    let behind = walk.at;
    if part.start == text.len() {
        start = Some(behind);
    }
    let start = start?;
    Some(start..if part.is_empty() { start } else { end? })
}

/// How far the scalar was read, in the style that it is written in.
struct Walk<'a> {
    written: &'a str,
    at: usize,
    style: Style,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A plain or block scalar: nothing is escaped. Which of the two it is stands in no text, but only blanks differ.
    Bare,
    Single,
    Double,
}

impl<'a> Walk<'a> {
    fn of(written: &'a str) -> Option<Walk<'a>> {
        let style = match written.as_bytes().first()? {
            b'\'' => Style::Single,
            b'"' => Style::Double,
            _ => Style::Bare,
        };
        Some(Walk { written, at: usize::from(style != Style::Bare), style })
    }

    /// Reads on. Returns how many bytes of `text` that is, one character or a run of blanks, and where they stand.
    fn next(&mut self, text: &str) -> Option<(usize, Range<usize>)> {
        self.skip_continuation();
        let rest = self.written.get(self.at..)?;
        let expected = text.chars().next()?;
        let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
        if self.style == Style::Bare && is_blank(expected) {
            return Some(self.blanks(text, blanks));
        }
        if rest[..blanks].contains('\n') {
            // A line break and what is blank around it: one blank, or a break for each further one.
            let breaks = rest[..blanks].matches('\n').count();
            let folded = if breaks == 1 { 1 } else { breaks - 1 };
            let expected = if breaks == 1 { " " } else { "\n" };
            text.get(..folded).filter(|found| *found == expected.repeat(folded))?;
            return Some((folded, self.take(blanks)));
        }
        let (found, length) = match (self.style, rest.as_bytes()) {
            (Style::Single, [b'\'', b'\'', ..]) => ('\'', 2),
            (Style::Single, [b'\'', ..]) | (Style::Double, [b'"', ..]) => return None,
            (Style::Double, [b'\\', ..]) => escape(&rest[1..]).map(|(found, length)| (found, 1 + length))?,
            _ => rest.chars().next().map(|found| (found, found.len_utf8()))?,
        };
        (found == expected).then(|| (found.len_utf8(), self.take(length)))
    }

    /// Blanks of a plain or block scalar: in lines of their own or around a break there are others than in the text,
    /// but never none for some, save at the ends.
    fn blanks(&mut self, text: &str, written: usize) -> (usize, Range<usize>) {
        let length = text.len() - text.trim_start_matches(is_blank).len();
        (length, self.take(written))
    }

    /// Within double quotes a backslash before the line break hides both, and the blanks that begin the next line.
    fn skip_continuation(&mut self) {
        while self.style == Style::Double
            && let Some(rest) = self.written.get(self.at..)
            && let Some(after) = rest.strip_prefix("\\\n").or_else(|| rest.strip_prefix("\\\r\n"))
        {
            self.at = self.written.len() - after.trim_start_matches([' ', '\t']).len();
        }
    }

    fn take(&mut self, length: usize) -> Range<usize> {
        let start = self.at;
        self.at += length;
        start..self.at
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The character that an escape stands for, and the length of what follows its backslash.
fn escape(rest: &str) -> Option<(char, usize)> {
    let letter = rest.chars().next()?;
    let digits = match letter {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => {
            let found = match letter {
                '0' => '\0',
                'a' => '\u{7}',
                'b' => '\u{8}',
                't' | '\t' => '\t',
                'n' => '\n',
                'v' => '\u{b}',
                'f' => '\u{c}',
                'r' => '\r',
                'e' => '\u{1b}',
                ' ' | '"' | '/' | '\\' => letter,
                'N' => '\u{85}',
                '_' => '\u{a0}',
                'L' => '\u{2028}',
                'P' => '\u{2029}',
                _ => return None,
            };
            return Some((found, letter.len_utf8()));
        }
    };
    let code = u32::from_str_radix(rest.get(1..=digits)?, 16).ok()?;
    Some((char::from_u32(code)?, 1 + digits))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Findings, Place, Source, parse};

    /// What stands where `needle` of the value of `b` does, as line, column and text.
    fn found(yaml: &str, needle: &str) -> (usize, usize, String) {
        let source = Arc::new(Source::new("f.yaml".into(), yaml.into()));
        let mut findings = Findings::new();
        let tree = parse(&source, &mut findings).unwrap();
        assert!(findings.is_empty(), "{yaml:?}: {findings:?}");
        let node = tree.get("b").unwrap();
        let text = node.as_str().unwrap();
        let start = text.find(needle).unwrap_or_else(|| panic!("{needle:?} is not in {text:?}"));
        let place = node.place.within(text, start..start + needle.len());
        let (line, column) = place.line_column().unwrap();
        let Place::Text { source, span } = place else { unreachable!() };
        (line, column, source.text[span].to_owned())
    }

    #[test]
    fn a_part_is_found_however_its_scalar_is_written() {
        for (yaml, needle, line, column, written) in [
            ("b: $.a-b # a-b\n", "a-b", 1, 6, "a-b"),
            ("b: '$.a-b'\n", "a-b", 1, 7, "a-b"),
            ("b: '$[''it''][x]'\n", "x", 1, 15, "x"),
            ("b: '$[''it''][x]'\n", "'it'", 1, 7, "''it''"),
            ("b: \"$['\\\"'][x]\"\n", "x", 1, 13, "x"),
            ("b: \"\\u00e9\\t\\\\w(x\"\n", "(", 1, 16, "("),
            ("b: \"\\u00e9\\t\\\\w(x\"\n", "\\", 1, 13, "\\\\"),
            ("b: \"\\U0001F600 é x\"\n", "x", 1, 18, "x"),
            ("b: \"a \\n  b\"\n", "b", 1, 11, "b"),
            ("b: \"a \\\n     b c\"\n", "b c", 2, 6, "b c"),
            ("b: \"a\n  b\n\n\n  c\"\n", "c", 5, 3, "c"),
            ("b: 'one\n  two (three'\n", "(", 2, 7, "("),
            ("b: one\n  two (three\nc: 1\n", "(", 2, 7, "("),
            ("b: one\n\n  two\n  (three\n", "three", 4, 4, "three"),
            ("b: |\n  one\n    two (\n\n  end\nc: 1\n", "(", 3, 9, "("),
            ("b: |\n  one\n    two (\n\n  end\nc: 1\n", "end", 5, 3, "end"),
            ("b: >-\n  one\n  two [x\n", "[x", 3, 7, "[x"),
            ("b: >\n  one\n\n  two\n  three\n", "three", 5, 3, "three"),
            ("b: |2\n   one (\n", "(", 2, 8, "("),
            ("b: >-\r\n  one\r\n  two (\r\n", "(", 3, 7, "("),
            ("ü: ö\nb: 'ö(é'\n", "(", 2, 6, "("),
            ("x: &x '$.a-b'\nb: *x\n", "a-b", 1, 10, "a-b"),
            ("b: !!str a-(\n", "(", 1, 12, "("),
        ] {
            assert_eq!(found(yaml, needle), (line, column, written.to_owned()), "{yaml:?}");
        }
    }

    #[test]
    fn the_end_of_a_text_has_a_place_too() {
        for (written, text, at) in [("'ab'", "ab", 3), ("ab", "ab", 2), ("\"a\\n\"", "a\n", 4), ("''", "", 1)] {
            assert_eq!(super::part(written, text, text.len()..text.len()), Some(at..at), "{written}");
        }
    }

    #[test]
    fn a_text_that_was_not_written_so_has_no_part() {
        for (written, text) in [("0x10", "16"), ("'a", "b"), ("\"\\q\"", "q"), ("'a'", "ab"), ("a", "a b"), ("", "")] {
            assert_eq!(super::part(written, text, 0..text.len()), None, "{written}");
        }
        assert_eq!(super::part("é", "é", 0..1), None, "within a character");
    }

    proptest::proptest! {
        /// Whatever is found reads as what was looked for, where nothing is escaped or folded.
        #[test]
        fn no_scalar_is_pointed_at_wrongly(
            written in "['\"]?[a-c(é \\\\'\"\n\t-]{0,12}['\"]?",
            text in "[a-c(é \\\\'\"\n\t-]{0,12}",
            start in 0_usize..14,
            length in 0_usize..4,
        ) {
            if let Some(found) = super::part(&written, &text, start..start + length) {
                let (found, sought) = (&written[found], &text[start..start + length]);
                let visible = |text: &str| text.replace(['\\', '\'', ' ', '\n', '\t', '\r'], "");
                proptest::prop_assert_eq!(visible(found), visible(sought));
            }
        }
    }
}
