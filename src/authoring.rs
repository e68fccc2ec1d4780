//! Help for those who write rules: their tests, and warnings about rules and filters together.

pub(crate) mod lint;
pub(crate) mod rule_tests;
