//! Text operators: words compiled once into what finds them fastest.
//!
//! Case is folded by Unicode's simple case folding, without locale, as the crate `regex` does it: `ſ` is an `s`,
//! the Kelvin sign a `k`, `ß` the capital `ẞ` but not `ss`.

use std::collections::HashSet;

use regex::RegexBuilder;
use serde_json::Value;

use super::budget::Budget;
use super::casefold::FoldedTexts;
use super::pattern::{Pattern, RegexError};
use super::value::equal;

/// The kinds of text operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Contains,
    ContainsAll,
    ContainsWord,
    StartsWith,
    EndsWith,
    Matches,
}

/// A text operator with its operands.
#[derive(Clone, Debug)]
pub(super) struct TextTest {
    pub(super) ask: Ask,
    pub(super) words: Vec<String>,
    pub(super) any_case: bool,
    find: Find,
}

#[derive(Clone, Debug)]
enum Find {
    /// By comparing bytes: the case matters and the operator needs no boundaries.
    Bytes,
    /// Any of them suffices; for `contains_all` every one is needed.
    Patterns(Vec<Pattern>),
}

/// The operands of `equals` and `one_of`: type and value.
#[derive(Clone, Debug)]
pub(super) struct OneOf {
    pub(super) values: Vec<Value>,
    pub(super) any_case: bool,
    strings: HashSet<String>,
    folded: FoldedTexts,
    others: Vec<Value>,
}

impl Ask {
    pub(super) const ALL: [Ask; 6] =
        [Ask::Contains, Ask::ContainsAll, Ask::ContainsWord, Ask::StartsWith, Ask::EndsWith, Ask::Matches];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Ask::Contains => "contains",
            Ask::ContainsAll => "contains_all",
            Ask::ContainsWord => "contains_word",
            Ask::StartsWith => "starts_with",
            Ask::EndsWith => "ends_with",
            Ask::Matches => "matches",
        }
    }
}

impl TextTest {
    /// Compiles an operator. The error names the word that can't be used by its index.
    pub(super) fn new(ask: Ask, words: Vec<String>, any_case: bool) -> Result<TextTest, (usize, RegexError)> {
        let find = match ask {
            Ask::Matches => Find::Patterns(
                words
                    .iter()
                    .enumerate()
                    .map(|(index, word)| Pattern::of_rule(word, any_case).map_err(|error| (index, error)))
                    .collect::<Result<_, _>>()?,
            ),
            Ask::ContainsWord => {
                // The half boundaries say: no word character before, none behind. Unlike `\b` they don't
                // ask that the word itself begins and ends with one.
                Find::Patterns(vec![words_regex(r"\b{start-half}", &words, r"\b{end-half}", any_case)?])
            }
            Ask::ContainsAll if any_case => Find::Patterns(
                words
                    .iter()
                    .map(|word| words_regex("", std::slice::from_ref(word), "", any_case))
                    .collect::<Result<_, _>>()?,
            ),
            Ask::Contains if any_case => Find::Patterns(vec![words_regex("", &words, "", any_case)?]),
            Ask::StartsWith if any_case => Find::Patterns(vec![words_regex(r"\A", &words, "", any_case)?]),
            Ask::EndsWith if any_case => Find::Patterns(vec![words_regex("", &words, r"\z", any_case)?]),
            Ask::Contains | Ask::ContainsAll | Ask::StartsWith | Ask::EndsWith => Find::Bytes,
        };
        Ok(TextTest { ask, words, any_case, find })
    }

    /// Runs the operator on a text. Where the budget ends, it does not hold.
    pub(super) fn holds(&self, text: &str, budget: &Budget) -> bool {
        // Each word runs through the text by itself.
        let mut words = self.words.iter().take_while(|_| budget.spend_bytes(text.len() as u64));
        match (&self.find, self.ask) {
            (Find::Patterns(patterns), Ask::ContainsAll) => patterns.iter().all(|pattern| budget.search(pattern, text)),
            (Find::Patterns(patterns), _) => patterns.iter().any(|pattern| budget.search(pattern, text)),
            (Find::Bytes, Ask::ContainsAll) => words.all(|word| text.contains(word.as_str())),
            (Find::Bytes, Ask::StartsWith) => words.any(|word| text.starts_with(word.as_str())),
            (Find::Bytes, Ask::EndsWith) => words.any(|word| text.ends_with(word.as_str())),
            (Find::Bytes, _) => words.any(|word| text.contains(word.as_str())),
        }
    }
}

impl OneOf {
    /// The operands; `any_case` applies to strings.
    pub(super) fn new(values: Vec<Value>, any_case: bool) -> OneOf {
        let strings = || values.iter().filter_map(Value::as_str);
        let folded = if any_case { FoldedTexts::new(strings()) } else { FoldedTexts::default() };
        let exact = if any_case { HashSet::new() } else { strings().map(str::to_owned).collect() };
        let others = values.iter().filter(|value| !value.is_string()).cloned().collect();
        OneOf { any_case, strings: exact, folded, others, values }
    }

    pub(super) fn holds(&self, value: &Value, budget: &Budget) -> bool {
        match value {
            Value::String(text) if self.any_case => self.folded.contains(text),
            Value::String(text) => self.strings.contains(text),
            other => self.others.iter().any(|expected| equal(expected, other, budget)),
        }
    }
}

/// One regex that finds any of some literal words, between `before` and `after`.
fn words_regex(before: &str, words: &[String], after: &str, any_case: bool) -> Result<Pattern, (usize, RegexError)> {
    let count = words.len();
    let words = words.iter().map(|word| regex::escape(word)).collect::<Vec<_>>().join("|");
    RegexBuilder::new(&format!("{before}(?:{words}){after}"))
        .case_insensitive(any_case)
        .size_limit(WORDS_BYTES_MAX)
        .build()
        .map(|regex| Pattern::of_words(regex, count))
        .map_err(|_| {
            let message = format!("these words take more than {} MiB when compiled", WORDS_BYTES_MAX / 1024 / 1024);
            (0, RegexError { message, range: 0..0 })
        })
}

/// The most that one list of literal words may take: several thousand host names.
const WORDS_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(ask: Ask, words: &[&str], any_case: bool, text: &str) -> bool {
        TextTest::new(ask, words.iter().map(|word| (*word).to_owned()).collect(), any_case)
            .unwrap()
            .holds(text, &Budget::new(1_000_000))
    }

    #[test]
    fn a_word_has_no_word_character_directly_before_or_after_it() {
        for (text, expected) in [
            ("OK", true),
            ("OK.", true),
            ("(OK)", true),
            ("state=OK;", true),
            ("OK-ish", true),
            ("is OK now", true),
            ("BROKEN", false),
            ("TOKEN EXPIRED", false),
            ("OKAY", false),
            ("OK_1", false),
            ("OK2", false),
            ("éOK", false),
            ("OKé", false),
            ("OK\u{301}", false),
            ("日OK", false),
            ("OK\u{a0}", true),
            ("BROKEN but OK", true),
            ("", false),
        ] {
            assert_eq!(holds(Ask::ContainsWord, &["OK"], false, text), expected, "{text:?}");
        }
    }

    #[test]
    fn several_words_are_a_phrase_and_a_word_may_end_in_a_sign() {
        assert!(holds(Ask::ContainsWord, &["NOT OK"], false, "is NOT OK"));
        assert!(!holds(Ask::ContainsWord, &["NOT OK"], false, "is NOT  OK"));
        assert!(!holds(Ask::ContainsWord, &["NOT OK"], false, "KNOT OK"));
        assert!(holds(Ask::ContainsWord, &["C++"], false, "in C++ code"));
        assert!(holds(Ask::ContainsWord, &["C++"], false, "C++"));
        assert!(!holds(Ask::ContainsWord, &["C++"], false, "C++x"));
        assert!(holds(Ask::ContainsWord, &["a.b"], false, "a.b"));
        assert!(!holds(Ask::ContainsWord, &["a.b"], false, "axb"));
    }

    #[test]
    fn every_occurrence_of_a_word_is_looked_at() {
        assert!(holds(Ask::ContainsWord, &["OK"], false, "OKOK OK"));
        assert!(holds(Ask::ContainsWord, &["AB", "A"], false, "ABC A"));
        assert!(holds(Ask::ContainsWord, &["A", "AB"], false, "AB"));
        assert!(holds(Ask::ContainsWord, &["aa"], false, "aaa aa"));
    }

    #[test]
    fn case_is_folded_simply_and_without_locale() {
        for (word, text, expected) in [
            ("ok", "OK", true),
            ("OK", "o\u{212A}", true),
            ("STATE", "\u{17F}tate", true),
            ("straße", "STRA\u{1E9E}E", true),
            ("straße", "STRASSE", false),
            ("ΣΑΣ", "σας", true),
            ("i", "İ", false),
            ("ı", "I", false),
            ("é", "É", true),
        ] {
            assert_eq!(holds(Ask::Contains, &[word], true, text), expected, "{word} in {text}");
            assert_eq!(OneOf::new(vec![json!(word)], true).holds(&json!(text), &Budget::new(9)), expected);
        }
        assert!(!holds(Ask::Contains, &["ok"], false, "OK"));
    }

    #[test]
    fn each_operator_means_what_it_says() {
        for (ask, words, text, expected) in [
            (Ask::Contains, vec!["b", "x"], "abc", true),
            (Ask::Contains, vec!["x", "y"], "abc", false),
            (Ask::ContainsAll, vec!["a", "c"], "abc", true),
            (Ask::ContainsAll, vec!["a", "x"], "abc", false),
            (Ask::StartsWith, vec!["b", "a"], "abc", true),
            (Ask::StartsWith, vec!["b"], "abc", false),
            (Ask::EndsWith, vec!["bc"], "abc", true),
            (Ask::EndsWith, vec!["b"], "abc", false),
            (Ask::Matches, vec!["^b", "c$"], "abc", true),
            (Ask::Matches, vec!["^b"], "abc", false),
        ] {
            assert_eq!(holds(ask, &words, false, text), expected, "{ask:?} {words:?}");
            assert_eq!(holds(ask, &words, true, &text.to_uppercase()), expected, "any case: {ask:?} {words:?}");
        }
    }

    #[test]
    fn a_bad_pattern_is_shown_where_it_is_bad() {
        let error = Pattern::of_rule("ab(cd", false).unwrap_err();
        assert_eq!((error.message.as_str(), error.range), ("unclosed group", 2..3));
        let error = Pattern::of_rule(r"\w{1000}{1000}", false).unwrap_err();
        assert!(error.message.contains("1024 KiB"), "{}", error.message);
    }

    #[test]
    fn one_of_goes_by_type_and_value() {
        let budget = Budget::new(1_000);
        let table = OneOf::new(vec![json!("1"), json!(2), json!(null), json!([1, {"a": 2}])], false);
        for value in [json!("1"), json!(2), json!(2.0), json!(null), json!([1.0, {"a": 2}])] {
            assert!(table.holds(&value, &budget), "{value}");
        }
        for value in [json!(1), json!("2"), json!(false), json!([1]), json!({}), json!("null")] {
            assert!(!table.holds(&value, &budget), "{value}");
        }
    }
}
