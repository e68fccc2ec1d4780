//! Any bytes for every parser: a rule file, a test file, a configuration, filters, a path, a template, a payload, a
//! body, a trace, what a proxy says of its client, a signature. Each must be taken or refused within a bounded time; nothing
//! may panic, and what is said of it must hold.
//!
//! Inputs are made by changing known ones, with the words of each format at hand ([`mutate`]). An input of which
//! something new is said (another refusal, another outcome) joins those that are changed further, so that the search
//! gets ever deeper into what a parser tells apart. That needs no instrumented build: it runs on stable Rust, within
//! `cargo test`, with overflow checks on, and every run can be made again from its seed.
//!
//! How long it looks can be set: `GANDER_FUZZ_SECONDS` for each parser (1). `GANDER_SEED` repeats a search, whose seed
//! is printed. What fails is made as small as possible and printed; what ends or blocks the whole process stands in
//! `target/tmp/fuzz-NAME.input`.

// A test that panics is a test that fails.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod mutate;
mod origins;
mod properties;
mod search;
mod signatures;
mod targets;
mod words;

use search::{run, search};

#[test]
fn paths() {
    search(&targets::PATHS);
}

#[test]
fn rule_files() {
    search(&targets::RULE_FILES);
}

#[test]
fn test_files() {
    search(&targets::TEST_FILES);
}

#[test]
fn configurations() {
    search(&targets::CONFIGURATIONS);
}

#[test]
fn filters() {
    search(&targets::FILTERS);
}

#[test]
fn templates() {
    search(&targets::TEMPLATES);
}

#[test]
fn payloads() {
    search(&targets::PAYLOADS);
}

#[test]
fn bodies() {
    search(&targets::BODIES);
}

#[test]
fn traces() {
    search(&targets::TRACES);
}

#[test]
fn forwarded() {
    search(&targets::FORWARDED);
}

#[test]
fn x_forwarded_for() {
    search(&targets::X_FORWARDED_FOR);
}

#[test]
fn proxy_headers() {
    search(&targets::PROXY_HEADERS);
}

#[test]
fn signatures() {
    search(&targets::SIGNATURES);
}

/// Each mistake costs a look at its line, never one at the whole file.
#[test]
fn many_mistakes_are_told_in_time() {
    for target in [&targets::RULE_FILES, &targets::TEST_FILES, &targets::CONFIGURATIONS, &targets::FILTERS] {
        for (before, part, after) in
            [("services: [", "a,", "]"), ("rules: {", "a: b,", "}"), ("", "x: 1\n", ""), ("", "a: |\n  b # c\n", "")]
        {
            run(target, format!("{before}{}{after}", part.repeat(8_000)).into_bytes());
        }
    }
}
