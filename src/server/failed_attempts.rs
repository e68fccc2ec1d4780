//! Failed attempts to authenticate, by address: who failed too often is answered slowly.
//!
//! Only what failed is slowed: a right credential of the same address (many senders behind one NAT) is neither delayed nor
//! refused, because it never comes here. Nothing here reads a clock.

use std::collections::HashMap;
use std::time::Duration;

use super::shares::Holder;
use crate::clock::Monotonic;

/// The addresses that failed of late. Small: an entry for each, and no more than [`HOLDERS_MAX`].
#[derive(Debug, Default)]
pub(super) struct FailedAttempts {
    holders: HashMap<Holder, Failures>,
    /// Answers that are being delayed.
    delayed: usize,
}

/// The answer to an attempt that failed: at once, late, or with the end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    AtOnce,
    /// Later; [`FailedAttempts::answered`] is told then.
    Delayed(Duration),
    /// At once, because too many answers are being delayed; and the connection is to end, so that further attempts cost one:
    /// over HTTP/1 each, over HTTP/2 as many as were under way together.
    Last,
}

/// The failures of one address, of which some are forgotten with every second.
#[derive(Clone, Copy, Debug)]
struct Failures {
    /// In milliseconds that it takes to forget them all.
    owed: u64,
    at: Monotonic,
    delayed: usize,
}

impl Pace {
    /// The labels of answers that are slowed.
    pub(super) const SLOWED: [&str; 2] = ["delayed", "connection_ended"];

    /// The word for metrics and logs; none for an answer as any other.
    pub(super) fn label(self) -> Option<&'static str> {
        match self {
            Pace::AtOnce => None,
            Pace::Delayed(_) => Some(Pace::SLOWED[0]),
            Pace::Last => Some(Pace::SLOWED[1]),
        }
    }
}

impl FailedAttempts {
    /// One more attempt of `holder` failed.
    pub(super) fn fail(&mut self, holder: Holder, now: Monotonic) -> Pace {
        self.make_room(now);
        let failures = self.holders.entry(holder).or_insert(Failures { owed: 0, at: now, delayed: 0 });
        *failures = Failures { owed: (failures.owed(now) + FORGOTTEN_MILLIS).min(OWED_MAX), at: now, ..*failures };
        let over = failures.owed.div_ceil(FORGOTTEN_MILLIS).saturating_sub(FREE);
        if over == 0 {
            return Pace::AtOnce;
        }
        if failures.delayed >= DELAYED_OF_HOLDER_MAX || self.delayed >= DELAYED_MAX {
            return Pace::Last;
        }
        failures.delayed += 1;
        self.delayed += 1;
        Pace::Delayed(Duration::from_millis((FIRST_DELAY_MILLIS << (over - 1).min(16)).min(DELAY_MILLIS_MAX)))
    }

    /// A delayed answer was given, or nobody waits for it any more.
    pub(super) fn answered(&mut self, holder: Holder) {
        self.delayed = self.delayed.saturating_sub(1);
        if let Some(failures) = self.holders.get_mut(&holder) {
            failures.delayed = failures.delayed.saturating_sub(1);
        }
    }

    /// Forgets those that owe nothing any more, and of the others the quarter that owes the least; never one with delayed
    /// answers, of which there are few.
    fn make_room(&mut self, now: Monotonic) {
        if self.holders.len() < HOLDERS_MAX {
            return;
        }
        self.holders.retain(|_, failures| failures.delayed > 0 || failures.owed(now) > 0);
        if self.holders.len() < HOLDERS_MAX {
            return;
        }
        let mut owed: Vec<u64> = self.holders.values().map(|failures| failures.owed(now)).collect();
        let (_, least, _) = owed.select_nth_unstable(HOLDERS_MAX / 4);
        let least = *least;
        self.holders.retain(|_, failures| failures.delayed > 0 || failures.owed(now) > least);
    }
}

impl Failures {
    fn owed(&self, now: Monotonic) -> u64 {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.owed.saturating_sub(passed)
    }
}

/// So many failures are free: a person's typing errors, a sender that is being set up.
const FREE: u64 = 10;

/// One failure is forgotten in this time, ten in a minute.
const FORGOTTEN_MILLIS: u64 = 6_000;

/// No more than this is remembered, so that an address is free again two minutes after its last failure.
const OWED_MAX: u64 = 2 * FREE * FORGOTTEN_MILLIS;

/// The first delay, which doubles with each failure.
const FIRST_DELAY_MILLIS: u64 = 250;
/// Shorter than a sender waits for its answer: it is to read why.
const DELAY_MILLIS_MAX: u64 = 4_000;

/// Delayed answers at once, each with a connection or a stream that waits for it.
const DELAYED_OF_HOLDER_MAX: usize = 16;
const DELAYED_MAX: usize = 256;

/// About a megabyte.
const HOLDERS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn holder(name: u32) -> Holder {
        Holder::of(Ipv4Addr::from_bits(0x0a00_0000 + name).into())
    }

    #[test]
    fn ten_failures_are_free_and_then_each_waits_twice_as_long() {
        let mut attempts = FailedAttempts::default();
        let mut fail = |at| {
            let pace = attempts.fail(holder(1), Monotonic(at));
            attempts.answered(holder(1));
            pace
        };
        for _ in 0..10 {
            assert_eq!(fail(0), Pace::AtOnce);
        }
        for millis in [250, 500, 1_000, 2_000, 4_000, 4_000, 4_000] {
            assert_eq!(fail(0), Pace::Delayed(Duration::from_millis(millis)));
        }
        assert_eq!(fail(30_000), Pace::Delayed(Duration::from_secs(1)), "five of seventeen are forgotten");
        assert_eq!(fail(30_000 + 60_000), Pace::AtOnce, "eight are left");
    }

    #[test]
    fn another_address_owes_nothing() {
        let mut attempts = FailedAttempts::default();
        for _ in 0..1_000 {
            attempts.fail(holder(1), Monotonic(0));
        }
        assert_eq!(attempts.fail(holder(2), Monotonic(0)), Pace::AtOnce);
    }

    #[test]
    fn a_sender_that_fails_every_ten_seconds_is_never_slowed() {
        let mut attempts = FailedAttempts::default();
        for at in 0..1_000 {
            assert_eq!(attempts.fail(holder(1), Monotonic(at * 10_000)), Pace::AtOnce);
        }
    }

    #[test]
    fn few_answers_are_delayed_at_once() {
        let mut attempts = FailedAttempts::default();
        let paces: Vec<_> = (0..1_000).map(|_| attempts.fail(holder(1), Monotonic(0))).collect();
        assert_eq!(paces.iter().filter(|pace| matches!(pace, Pace::Delayed(_))).count(), DELAYED_OF_HOLDER_MAX);
        assert_eq!(paces[999], Pace::Last);
        attempts.answered(holder(1));
        assert!(matches!(attempts.fail(holder(1), Monotonic(0)), Pace::Delayed(_)));
        for name in 2..1_000 {
            for _ in 0..50 {
                attempts.fail(holder(name), Monotonic(0));
            }
        }
        assert_eq!(attempts.delayed, DELAYED_MAX);
        assert_eq!(attempts.fail(holder(1_000_000), Monotonic(0)), Pace::AtOnce, "whoever begins is free");
    }

    #[test]
    fn of_many_addresses_those_that_failed_least_are_forgotten() {
        let mut attempts = FailedAttempts::default();
        for _ in 0..12 {
            attempts.fail(holder(0), Monotonic(0));
        }
        for name in 1..200_000 {
            attempts.fail(holder(name), Monotonic(1));
            assert!(attempts.holders.len() <= HOLDERS_MAX);
        }
        assert!(matches!(attempts.fail(holder(0), Monotonic(2)), Pace::Delayed(_)));
    }

    proptest! {
        /// However the failures of an address are spread, no more than its allowance is answered at once.
        #[test]
        fn the_allowance_holds(waits in prop::collection::vec(0_i64..20_000, 1..300)) {
            let (mut attempts, mut now, mut free) = (FailedAttempts::default(), 0, 0);
            for wait in waits {
                now += wait;
                match attempts.fail(holder(1), Monotonic(now)) {
                    Pace::AtOnce => free += 1,
                    Pace::Delayed(delay) => {
                        prop_assert!((FIRST_DELAY_MILLIS..=DELAY_MILLIS_MAX).contains(&(delay.as_millis() as u64)));
                        attempts.answered(holder(1));
                    }
                    Pace::Last => prop_assert!(false, "none is being delayed"),
                }
                let forgotten = now as u64 / FORGOTTEN_MILLIS;
                prop_assert!(free <= FREE + forgotten + 1);
            }
            prop_assert_eq!(attempts.delayed, 0);
        }
    }
}
