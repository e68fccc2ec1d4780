//! Help for who writes rules.

pub mod rule_tests;
