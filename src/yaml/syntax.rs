//! A YAML syntax error in the words of someone who edits a configuration, with what fixes it.

use granit_parser::ErrorKind;

/// Names the mistake, and the remedy where the mistake is a usual one. `before` is the line up to the place of the error,
/// `rest` the text from there.
pub(super) fn explain(kind: &ErrorKind, before: &str, rest: &str) -> (String, Option<&'static str>) {
    use ErrorKind as Kind;
    let known = match kind {
        Kind::TabNotAllowed | Kind::TabInBlockIndentation | Kind::TabInIndentation | Kind::TabInPlainScalar => {
            Some(("a tab stands where only spaces may", "indent with spaces, never with tabs"))
        }
        Kind::UnclosedFlowCollection { open: '[' } | Kind::UnexpectedEofFlowSequence => {
            Some(("this `[` is never closed", "add its `]`"))
        }
        Kind::UnclosedFlowCollection { .. } | Kind::UnexpectedEofFlowMapping => {
            Some(("this `{` is never closed", "add its `}`"))
        }
        Kind::MisplacedFlowCollectionEnd => Some(("nothing is open that this bracket closes", "remove it")),
        Kind::ExpectedFlowMappingSeparator | Kind::ExpectedFlowSequenceSeparator => Some((
            "expected `,` or the closing bracket",
            "within `{…}` and `[…]`, a value that holds `[`, `]`, `{`, `}` or `,` is written in quotes",
        )),
        Kind::InvalidColonPlacement | Kind::FlowMappingValueAdjacentCollection => Some((
            "a `:` is out of place",
            "a bracket above may not be closed; within `{…}` and `[…]`, a value that holds `:` is written in quotes",
        )),
        Kind::MappingValueNotAllowed if before.trim_start_matches(['-', ' ']).contains(": ") => {
            Some(("a second `:` on one line", "a value that holds `: ` is written in quotes"))
        }
        Kind::MappingValueNotAllowed => Some((
            "no key can stand here",
            "it is indented deeper than the keys that it belongs to, or the line above lacks its `:`",
        )),
        Kind::SimpleKeyExpected => Some(("expected `:` after this key", "a key is followed by `:` and a blank")),
        Kind::ExpectedBlockMappingKey => Some((
            "expected a key in the column of the other keys",
            "fix the indentation: the keys of one mapping begin in the same column",
        )),
        Kind::ExpectedBlockSequenceEntry => Some((
            "expected the next `- ` of this list",
            "fix the indentation: the entries of one list begin in the same column, each with `- `",
        )),
        Kind::UnclosedQuotedScalar => Some(("this quote is never closed", "add the closing quote")),
        Kind::InvalidTrailingSingleQuotedScalar => Some((
            "something follows the closing quote",
            "within single quotes, a single quote is written twice: 'it''s'",
        )),
        Kind::InvalidTrailingDoubleQuotedScalar => {
            Some(("something follows the closing quote", "within double quotes, a double quote is written \\\""))
        }
        Kind::UnknownQuotedScalarEscape | Kind::InvalidQuotedScalarHexEscape | Kind::InvalidUnicodeEscape => Some((
            "a backslash in this text begins no escape that YAML knows",
            "use single quotes, in which a backslash is only a backslash",
        )),
        Kind::UnexpectedCharacter { character: '@' | '`' | '%' } => {
            Some(("a value can't begin with this character", "write the value in quotes"))
        }
        Kind::MissingAnchorOrAliasName => Some((
            "`*` and `&` begin an alias or an anchor of YAML here, and a name is missing",
            "a path or text that holds one of them is written in quotes: '$.alerts[*]'",
        )),
        Kind::RecursionLimitExceeded => Some(("nested too deep", "remove some levels of brackets or indentation")),
        _ if rest.starts_with('\t') => {
            Some(("a tab stands where only spaces may", "indent with spaces, never with tabs"))
        }
        _ => None,
    };
    match known {
        Some((message, help)) => (message.to_owned(), Some(help)),
        None => (kind.to_string(), None),
    }
}
