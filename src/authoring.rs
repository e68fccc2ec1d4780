//! Help for those who write rules: their tests, and warnings about rules and filters together.

pub mod lint;
pub mod rule_tests;
