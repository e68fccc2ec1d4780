//! Any bytes, and any text that resembles a format: property tests of each parser, beside the search.

use proptest::prelude::*;

use crate::targets::{self, Target};

/// A target's words in any order, between any characters.
fn resembling(target: &'static Target) -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => prop::sample::select(target.words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => "\\PC{0,3}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..3),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

/// One of a target's known inputs with a part of it replaced by any bytes.
fn damaged(target: &'static Target) -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select((target.corpus)());
    (known, any::<prop::sample::Index>(), 0..40_usize, prop::collection::vec(any::<u8>(), 0..8)).prop_map(
        |(mut input, place, length, bytes)| {
            let start = place.index(input.len() + 1);
            let end = (start + length).min(input.len());
            input.splice(start..end, bytes);
            input
        },
    )
}

fn any_input(target: &'static Target) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), resembling(target), damaged(target)]
}

macro_rules! no_bytes_panic {
    ($($name:ident: $target:ident),*) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $name(input in any_input(&targets::$target)) {
                    (targets::$target.run)(&input);
                }
            )*
        }
    };
}

no_bytes_panic! {
    no_bytes_as_a_path_panic: PATHS,
    no_bytes_as_a_rule_file_panic: RULE_FILES,
    no_bytes_as_a_test_file_panic: TEST_FILES,
    no_bytes_as_a_configuration_panic: CONFIGURATIONS,
    no_bytes_as_filters_panic: FILTERS,
    no_bytes_as_a_template_panic: TEMPLATES,
    no_bytes_as_a_payload_panic: PAYLOADS,
    no_bytes_as_a_body_panic: BODIES,
    no_bytes_as_a_trace_panic: TRACES
}
