//! Measures how often something happens, such as a settlement.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Monotonic;

/// The counts of the last minute.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// The start of each interval, and the count in it.
    stretches: VecDeque<(Monotonic, u32)>,
}

impl Rate {
    /// Counts one.
    pub(super) fn count(&mut self, now: Monotonic) {
        self.forget(now);
        match self.stretches.back_mut() {
            Some((began, count)) if now.since(*began) < STRETCH => *count += 1,
            _ => self.stretches.push_back((now, 1)),
        }
    }

    /// The time for `number` more at this rate; none if there was none within the last minute.
    pub(super) fn time_for(&self, number: usize, now: Monotonic) -> Option<Duration> {
        if number == 0 {
            return Some(Duration::ZERO);
        }
        let recent = self.stretches.iter().filter(|(began, _)| now.since(*began) < WINDOW);
        let (mut first, mut count) = (None, 0_u64);
        for (began, happened) in recent {
            first.get_or_insert(*began);
            count += u64::from(*happened);
        }
        let measured = now.since(first?).max(Duration::from_secs(1));
        Some(measured.mul_f64(number as f64 / count as f64))
    }

    fn forget(&mut self, now: Monotonic) {
        while self.stretches.front().is_some_and(|(began, _)| now.since(*began) >= WINDOW) {
            self.stretches.pop_front();
        }
    }
}

const WINDOW: Duration = Duration::from_secs(60);
const STRETCH: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let mut rate = Rate::default();
        assert_eq!(rate.time_for(0, Monotonic(0)), Some(Duration::ZERO), "nothing takes no time");
        assert_eq!(rate.time_for(1, Monotonic(0)), None, "never yet");
        for second in 0..100 {
            (0..20).for_each(|_| rate.count(Monotonic(second * 1_000)));
        }
        let time = rate.time_for(1_000, Monotonic(100_000)).unwrap().as_secs_f64();
        assert!((45.0..55.0).contains(&time), "{time}");
        assert!(rate.stretches.len() <= 31, "it is bounded");
        assert_eq!(rate.time_for(1, Monotonic(200_000)), None, "not within the last minute");
        rate.count(Monotonic(200_000));
        assert_eq!(rate.time_for(3, Monotonic(200_000)), Some(Duration::from_secs(3)), "at least over a second");
    }
}
