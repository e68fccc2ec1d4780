//! Texts, numbers and times as a person reads them.

use std::borrow::Cow;
use std::time::Duration;

use crate::clock::WallTime;

/// A text from outside as it may stand in a line of a terminal: control characters, which could forge lines or move
/// the cursor, and what has no width, which could make two texts look alike, are escaped.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_unseen(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// A text from outside as [`plain`] shows it, of so many characters at most: an ellipsis stands for the rest.
pub(crate) fn shortened(text: &str, chars_max: usize) -> String {
    let plain = plain(text);
    match plain.chars().count() > chars_max {
        true => plain.chars().take(chars_max - 1).chain(['…']).collect(),
        false => plain,
    }
}

/// A value within a sentence. A blank one, which nobody would see there, stands between quotes.
pub(crate) fn visible(value: &str) -> Cow<'_, str> {
    if value.trim().is_empty() { Cow::Owned(format!("{value:?}")) } else { Cow::Borrowed(value) }
}

/// A word as a shell takes it.
pub(crate) fn quoted(text: &str) -> String {
    let bare = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(bare) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Breaks of lines and paragraphs, marks of direction, and what is not seen at all. The two joiners, which belong to some
/// scripts and to emoji, stay.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A time and how long ago it was: `12:03 UTC (4 min)`.
pub(crate) fn since(time: &str, now: WallTime) -> String {
    match WallTime::parse_rfc3339(time) {
        Some(at) => format!("{} ({})", clock(at, now), length(now.since(at).as_secs())),
        None => plain(time),
    }
}

/// A time to the minute, with its day where that is another one.
pub(crate) fn clock(at: WallTime, now: WallTime) -> String {
    let (at, now) = (at.rfc3339(), now.rfc3339());
    match (at.get(..10), at.get(11..16)) {
        (day, Some(minute)) if day == now.get(..10) => format!("{minute} UTC"),
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => at,
    }
}

/// A time to the second, with its day where that is another one.
pub(crate) fn second(at: WallTime, now: WallTime) -> String {
    let (time, today) = (at.to_second(), now.to_second());
    match (time.split_once(' '), today.split_once(' ')) {
        (Some((day, second)), Some((today, _))) if day == today => second.to_owned(),
        _ => time,
    }
}

/// The time to the second before which nothing happens, as [`second`] tells it: rounded up, so that one time that is told
/// at several places, from several sources, reads the same.
pub(crate) fn due(at: WallTime, now: WallTime) -> String {
    second(up_to_second(at), now)
}

/// A time rounded up to the second.
pub(crate) fn up_to_second(at: WallTime) -> WallTime {
    WallTime(at.0.saturating_add(999).div_euclid(1_000).saturating_mul(1_000))
}

/// A length of time in its largest unit.
pub(crate) fn length(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A short length of time: `12 ms`, `1.5 s`, `4 min`.
pub(crate) fn length_of(length: Duration) -> String {
    match length.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        millis @ 1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => self::length(length.as_secs()),
    }
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_moves_no_cursor() {
        assert_eq!(plain("a\u{1b}[2J\nb\u{202e}é"), "a\\u{1b}[2J\\nb\\u{202e}é");
        assert_eq!(plain("a\u{2028}b\u{200b}c\u{feff}"), "a\\u{2028}b\\u{200b}c\\u{feff}");
        assert_eq!(plain("👩\u{200d}🔧"), "👩\u{200d}🔧");
    }

    #[test]
    fn a_shortened_text_has_no_more_than_its_characters_as_they_are_shown() {
        for (text, shown) in [("abcd", "abcd"), ("äbcde", "äbc…"), ("a\n", "a\\n"), ("abc\n", "abc…")] {
            assert_eq!(shortened(text, 4), shown);
        }
    }

    #[test]
    fn a_blank_value_is_seen() {
        for (value, seen) in [("", "\"\""), ("  ", "\"  \""), ("\t", "\"\\t\""), ("OK", "OK"), (" OK", " OK")] {
            assert_eq!(visible(value), seen);
        }
    }

    #[test]
    fn a_word_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("./config/gander.yaml"), "./config/gander.yaml");
        assert_eq!(quoted("my files/it's"), r"'my files/it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_time_that_is_due_reads_the_same_with_and_without_its_milliseconds() {
        let now = WallTime(1_764_000_240_000);
        for (millis, said) in [(0, "16:04:00 UTC"), (1, "16:04:01 UTC"), (999, "16:04:01 UTC"), (1_000, "16:04:01 UTC")]
        {
            assert_eq!(due(WallTime(now.0 + millis), now), said, "{millis}");
        }
    }

    #[test]
    fn another_day_is_named_and_lengths_are_short() {
        assert_eq!(since("2025-11-22T16:00:00.000Z", WallTime(1_764_000_240_000)), "2025-11-22 16:00 UTC (2 d)");
        assert_eq!([119, 120, 7_200, 172_800].map(length), ["119 s", "2 min", "2 h", "2 d"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
