//! The order of occurrences: which of two that a sender named is older.

use std::cmp::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::clock::WallTime;
use crate::event::Occurrence;

/// The age of an arrival's occurrence, compared with the one that the key's state knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Same,
    Older,
    Newer,
    /// One of the two has no occurrence.
    Unknown,
}

/// Compares part by part where both parts are RFC 3339 date-times or both are numbers; other parts are equal or not
/// comparable. Different occurrences without an order count as newer: an alert too many is better than one too few. An
/// occurrence older than a known one that lies in the future also counts as newer: a sender whose clock was wrong once
/// must not block its key until that time has come.
pub(super) fn compare(arrival: Option<&Occurrence>, known: Option<&Occurrence>, now: WallTime) -> Age {
    let (Some(arrival), Some(known)) = (arrival, known) else {
        return Age::Unknown;
    };
    if arrival == known {
        return Age::Same;
    }
    let parts = |occurrence: &Occurrence| serde_json::from_str::<Vec<Value>>(&occurrence.0);
    let (Ok(arrival), Ok(known)) = (parts(arrival), parts(known)) else {
        return Age::Newer;
    };
    for (arrival, known) in arrival.iter().zip(&known) {
        match part_order(arrival, known) {
            Some(Ordering::Less) if is_ahead(known, now) => return Age::Newer,
            Some(Ordering::Less) => return Age::Older,
            Some(Ordering::Equal) => {}
            Some(Ordering::Greater) | None => return Age::Newer,
        }
    }
    Age::Same
}

fn part_order(arrival: &Value, known: &Value) -> Option<Ordering> {
    if arrival == known {
        return Some(Ordering::Equal);
    }
    match (arrival, known) {
        (Value::String(arrival), Value::String(known)) => {
            Some(WallTime::parse_rfc3339(arrival)?.cmp(&WallTime::parse_rfc3339(known)?))
        }
        (Value::Number(arrival), Value::Number(known)) => arrival.as_f64()?.partial_cmp(&known.as_f64()?),
        _ => None,
    }
}

/// Returns true if a part is a time in the future. A number is a time since 1970 in the unit that its size suggests; a
/// counter is small, and so a second after 1970.
fn is_ahead(part: &Value, now: WallTime) -> bool {
    let millis = match part {
        Value::String(text) => WallTime::parse_rfc3339(text).map(|at| at.0 as f64),
        Value::Number(number) => number.as_f64().map(|number| match number {
            // 1e11 seconds are the year 5138, 1e11 milliseconds the year 1973; each limit after it is a thousand times
            // as large.
            ..1e11 => number * 1e3,
            1e11..1e14 => number,
            1e14..1e17 => number / 1e3,
            _ => number / 1e6,
        }),
        _ => None,
    };
    millis.is_some_and(|millis| millis > now.0 as f64 + AHEAD_MAX.as_millis() as f64)
}

/// Synchronized clocks differ by less. Beyond it an order by time can't be trusted, and that order makes events
/// duplicates.
const AHEAD_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-11-24T16:00:00Z.
    const NOW: WallTime = WallTime(1_764_000_000_000);

    #[test]
    fn occurrences_are_ordered_as_times_and_as_numbers_and_not_as_text() {
        let occurrence = |text: &str| Occurrence(text.into());
        for (arrival, known, expected) in [
            (r#"["2025-11-24T07:30:00Z"]"#, r#"["2025-11-24T08:30:00+01:00"]"#, Age::Same),
            (r#"["2025-11-24T07:29:00Z"]"#, r#"["2025-11-24T08:30:00+01:00"]"#, Age::Older),
            ("[9]", "[10]", Age::Older),
            ("[10]", "[9]", Age::Newer),
            (r#"["b"]"#, r#"["a"]"#, Age::Newer),
            (r#"["a"]"#, r#"["b"]"#, Age::Newer),
            (r#"["a",1]"#, r#"["a",2]"#, Age::Older),
            // An occurrence in the future blocks nothing.
            (r#"["2025-11-24T15:00:00Z"]"#, r#"["2025-11-24T16:04:00Z"]"#, Age::Older),
            (r#"["2025-11-24T15:00:00Z"]"#, r#"["2025-11-24T16:06:00Z"]"#, Age::Newer),
            (r#"["2025-11-24T15:00:00Z"]"#, r#"["2099-01-01T00:00:00Z"]"#, Age::Newer),
            (r#"["2099-01-01T00:00:00Z"]"#, r#"["2099-01-01T01:00:00+01:00"]"#, Age::Same),
            (r#"["a","2025-11-24T15:00:00Z"]"#, r#"["a","2099-01-01T00:00:00Z"]"#, Age::Newer),
            ("[1763999999]", "[1764000001]", Age::Older),
            ("[1763999999]", "[4070908800]", Age::Newer),
            ("[1763999999000]", "[1764000001000]", Age::Older),
            ("[1763999999000]", "[4070908800000]", Age::Newer),
            ("[1763999999000000]", "[1764000001000000]", Age::Older),
            ("[1763999999000000]", "[4070908800000000]", Age::Newer),
            ("[1763999999000000000]", "[1764000001000000000]", Age::Older),
            ("[5]", "[1e300]", Age::Newer),
        ] {
            let found = compare(Some(&occurrence(arrival)), Some(&occurrence(known)), NOW);
            assert_eq!(found, expected, "{arrival} to {known}");
        }
        assert_eq!(compare(None, Some(&occurrence("[1]")), NOW), Age::Unknown);
    }
}
