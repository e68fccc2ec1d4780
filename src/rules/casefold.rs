//! Texts in any case: Unicode's simple case folding, without locale, from the tables by which the crate `regex` folds.

use std::collections::HashSet;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// Texts, looked up in any case.
#[derive(Clone, Debug, Default)]
pub(super) struct FoldedTexts {
    texts: HashSet<String>,
    characters_max: usize,
}

impl FoldedTexts {
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> FoldedTexts {
        let texts: HashSet<String> = texts.into_iter().map(folded).collect();
        let characters_max = texts.iter().map(|text| text.chars().count()).max().unwrap_or_default();
        FoldedTexts { texts, characters_max }
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        // Folding keeps the number of characters, and one takes four bytes at most: what is longer needs no folding.
        text.len() <= 4 * self.characters_max && self.texts.contains(&folded(text))
    }
}

/// The text with each character in place of which any other case may stand replaced by the least of these: two texts
/// are equal in any case if and only if their folded ones are equal.
pub(super) fn folded(text: &str) -> String {
    text.chars().map(least).collect()
}

fn least(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_uppercase();
    }
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(character, character)]);
    match class.try_case_fold_simple() {
        Ok(()) => class.ranges().first().map_or(character, ClassUnicodeRange::start),
        // Only without the tables of Unicode, with which this is built.
        Err(_) => character,
    }
}

#[cfg(test)]
mod tests {
    use regex::RegexBuilder;

    use super::*;

    #[test]
    fn folded_texts_are_equal_exactly_where_any_case_is() {
        // Each character that has another case, beside all that equal it for `ignore_case`.
        for character in ('\0'..=char::MAX).filter(|c| c.is_alphabetic() || !c.is_alphanumeric()) {
            let least = least(character);
            if least == character {
                continue;
            }
            let pattern = format!(r"\A(?:{})\z", regex::escape(&character.to_string()));
            let any_case = RegexBuilder::new(&pattern).case_insensitive(true).build().unwrap();
            assert!(any_case.is_match(&least.to_string()), "{character:?} is filed under {least:?}");
        }
        for (left, right, expected) in [
            ("ok", "o\u{212A}", true),
            ("state", "\u{17F}TATE", true),
            ("straße", "STRA\u{1E9E}E", true),
            ("straße", "STRASSE", false),
            ("ΣΑΣ", "σας", true),
            ("i", "İ", false),
            ("ı", "I", false),
            ("é", "É", true),
            ("é", "e", false),
            ("a_1", "A_1", true),
            ("[", "{", false),
        ] {
            assert_eq!(folded(left) == folded(right), expected, "{left} and {right}");
        }
    }
}
