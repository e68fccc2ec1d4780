//! Changes to an input: bits, bytes, parts taken out, doubled, moved, and words of the format put in.

use std::ops::Range;
use std::time::{Duration, Instant};

/// An input made from `pool[…]` by one to a few changes.
pub fn changed(random: &mut fastrand::Rng, pool: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = pool[random.usize(0..pool.len())].clone();
    // Mostly few: what is changed a lot fails at its first part.
    for _ in 0..1 << random.u32(0..5) {
        change(random, &mut input, pool, words);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(random: &mut fastrand::Rng, input: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str]) {
    let at = random.usize(0..=input.len());
    match random.u32(0..12) {
        0 if at < input.len() => input[at] ^= 1 << random.u32(0..8),
        1 if at < input.len() => input[at] = *random.choice(INTERESTING).unwrap_or(&0),
        2 => {
            let part = part(random, input.len(), 64);
            input.drain(part);
        }
        3 => {
            let part = input[part(random, input.len(), 64)].to_vec();
            insert(input, at, &part);
        }
        // Nesting, and anything else that grows by being repeated.
        4 => {
            let part = input[part(random, input.len(), 8)].to_vec();
            insert(input, at, &part.repeat(1 << random.u32(0..11)));
        }
        5 => {
            let word = random.choice(words).copied().unwrap_or_default();
            insert(input, at, &word.as_bytes().repeat(1 << random.u32(0..11)));
        }
        6 => {
            let other = &pool[random.usize(0..pool.len())];
            let part = other[part(random, other.len(), 256)].to_vec();
            insert(input, at, &part);
        }
        7 => {
            let number = random.choice(NUMBERS).copied().unwrap_or_default();
            insert(input, at, number.as_bytes());
        }
        8 => {
            let byte = random.u8(..);
            insert(input, at, &[byte]);
        }
        // A word in place of a part, where a parser expects one.
        9 => {
            let part = part(random, input.len(), 8);
            let word = random.choice(words).copied().unwrap_or_default();
            input.splice(part, word.bytes());
        }
        _ => insert(input, at, random.choice(words).copied().unwrap_or_default().as_bytes()),
    }
}

/// A smaller input that still `fails`: parts are taken out, large ones first, as long as that helps and time is left:
/// each try of a slow input is slow.
pub fn smallest(mut input: Vec<u8>, mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let end = Instant::now() + SHRINK_MAX;
    let mut size = input.len().div_ceil(2);
    while size > 0 && Instant::now() < end {
        let mut at = 0;
        while at < input.len() && Instant::now() < end {
            let mut smaller = input.clone();
            smaller.drain(at..(at + size).min(input.len()));
            if fails(&smaller) {
                input = smaller;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    input
}

fn part(random: &mut fastrand::Rng, length: usize, longest: usize) -> Range<usize> {
    let start = random.usize(0..=length);
    start..(start + random.usize(0..=longest)).min(length)
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    input.splice(at..at, part.iter().copied());
}

/// Enough for whatever grows by the length, and small enough for many runs a second.
const INPUT_BYTES_MAX: usize = 16 * 1024;
const SHRINK_MAX: Duration = Duration::from_secs(30);
const INTERESTING: &[u8] = b"\0\t\n\r \"'#$%&()*+,-./0:;<=>?@[\\]^_`{|}~\x7f\x80\xbf\xc0\xe2\xed\xf0\xfe\xff";
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "-0",
    "1e400",
    "1e-400",
    "0.1",
    "9007199254740993",
    "18446744073709551616",
    "-9223372036854775809",
    "2147483648",
    "1_000",
    "0x10",
    ".5",
    "00",
    "1.7976931348623157e308",
];
