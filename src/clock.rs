//! The two clocks, passed in as values: decisions never read one themselves.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One moment on both clocks.
///
/// Waiting and windows go by `monotonic`, which no administrator and no time server can turn; what is
/// stored and shown goes by `wall`, which means something after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub monotonic: Monotonic,
    pub wall: WallTime,
}

/// Milliseconds since this process started its clock; negative for what happened before, as restored from the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub i64);

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub i64);

/// The process's clock. A copy tells the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now(&self) -> Now {
        Now { monotonic: Monotonic(millis(self.start.elapsed())), wall: WallTime::now() }
    }

    /// The instant at which this clock will show `at`, for a timer; the start for anything before it.
    pub fn instant(&self, at: Monotonic) -> Instant {
        self.start + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
    }
}

impl Now {
    /// Where on the monotonic clock a stored moment lies. One in the future (the clock was turned back)
    /// counts as long past: a window that it opened has elapsed.
    pub fn monotonic_of(&self, stored: WallTime) -> Monotonic {
        let age = self.wall.0.saturating_sub(stored.0);
        if age < 0 { Monotonic(i64::MIN / 2) } else { Monotonic(self.monotonic.0.saturating_sub(age)) }
    }
}

impl Monotonic {
    pub fn after(self, wait: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(millis(wait)))
    }

    pub fn before(self, wait: Duration) -> Monotonic {
        Monotonic(self.0.saturating_sub(millis(wait)))
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl WallTime {
    pub fn now() -> WallTime {
        WallTime::of(SystemTime::now())
    }

    pub fn of(time: SystemTime) -> WallTime {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => WallTime(millis(since)),
            Err(before) => WallTime(-millis(before.duration())),
        }
    }

    pub fn since(self, earlier: WallTime) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub fn before(self, wait: Duration) -> WallTime {
        WallTime(self.0.saturating_sub(millis(wait)))
    }

    /// RFC 3339 in UTC with milliseconds, as `2025-11-24T07:30:00.000Z`.
    pub fn rfc3339(self) -> String {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|at| at.format(&MILLIS).ok())
            .unwrap_or_else(|| self.0.to_string())
    }

    /// To the second, for a person: `2025-11-24 07:30:00 UTC`.
    pub fn to_second(self) -> String {
        let time = self.rfc3339();
        match (time.get(..10), time.get(11..19)) {
            (Some(day), Some(second)) => format!("{day} {second} UTC"),
            _ => time,
        }
    }

    /// Reads an RFC 3339 date-time; none if the text is anything else.
    pub fn parse_rfc3339(text: &str) -> Option<WallTime> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(WallTime)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

const MILLIS: &[time::format_description::BorrowedFormatItem<'static>] =
    time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_moment_keeps_its_age_on_the_monotonic_clock() {
        let now = Now { monotonic: Monotonic(1_000), wall: WallTime(1_000_000) };
        assert_eq!(now.monotonic_of(WallTime(999_000)), Monotonic(0));
        assert_eq!(now.monotonic_of(WallTime(990_000)), Monotonic(-9_000));
    }

    #[test]
    fn a_moment_from_the_future_counts_as_long_past() {
        let now = Now { monotonic: Monotonic(1_000), wall: WallTime(1_000_000) };
        let found = now.monotonic_of(WallTime(1_000_001));
        assert!(now.monotonic.since(found) > Duration::from_secs(1_000_000_000));
    }

    #[test]
    fn wall_time_is_written_and_read_as_rfc_3339() {
        let at = WallTime::parse_rfc3339("2025-11-24T08:30:00+01:00").unwrap();
        assert_eq!(at.rfc3339(), "2025-11-24T07:30:00.000Z");
        assert_eq!(at.to_second(), "2025-11-24 07:30:00 UTC");
        assert_eq!(WallTime::parse_rfc3339("yesterday"), None);
    }
}
