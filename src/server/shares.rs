//! Shares per address: which connections give way when a listener has as many as it may.
//!
//! Whoever holds the most gives way first, and of what it holds that which achieved the least. A flood of one address then
//! makes room for itself and for others, and costs nobody else a connection. Nothing here reads a clock.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

/// Who holds a share: an IPv4 address, or the /64 of an IPv6 address, all of which one host commonly has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Holder(IpAddr);

/// A connection's reason to stay, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// The last that it was told is that it may not.
    Refused,
    /// It has asked for nothing, though it had the time.
    Nothing,
    /// It has asked for nothing yet.
    Fresh,
    /// It was of use, and asks for nothing now.
    Idle,
    /// The body of its request is long in coming.
    Dribbling,
    /// The body of its request is coming.
    Sending,
    /// The relay owes it an answer.
    Served,
}

/// A connection's claim to its place, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub claim: Claim,
    pub since: Instant,
}

/// An open connection. Without a holder it is nobody's share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub holder: Option<Holder>,
    pub standing: Standing,
}

impl Holder {
    pub(crate) fn of(address: IpAddr) -> Holder {
        let IpAddr::V6(address) = address.to_canonical() else {
            return Holder(address.to_canonical());
        };
        let bits = address.to_bits();
        // Behind NAT64 (RFC 6052) one /64 is the whole of IPv4.
        if bits >> 32 == NAT64 {
            return Holder(Ipv4Addr::from_bits(u32::try_from(bits & u128::from(u32::MAX)).unwrap_or(0)).into());
        }
        Holder(Ipv6Addr::from_bits(bits & !u128::from(u64::MAX)).into())
    }
}

/// Chooses the connections that give way to a newcomer, as their places in `held`, of which there may be `max`.
///
/// What was refused goes first, whoever holds it. Then the largest holder gives way, the newcomer counted as its
/// address's; small holders are all alike. One that holds less than the newcomer's address loses nothing that is of use,
/// and a body that is still coming gives way only where its address holds more than twice as much. A request that the
/// relay is answering never does. Connections that were of use are kept before fresh ones where these are many, as in a
/// flood; else whichever is older goes.
///
/// Several at once, so that a flood does not search the whole table for each; but no holder falls below the next one.
pub(super) fn to_give_way(held: &[Held], newcomer: Option<Holder>, max: usize) -> Vec<usize> {
    let sizes = Sizes::of(held, newcomer, max);
    let own = sizes.of_holder(newcomer);
    let may = |size: usize, claim: Claim| match claim {
        Claim::Refused | Claim::Nothing => true,
        Claim::Fresh | Claim::Idle | Claim::Dribbling => size >= own,
        Claim::Sending => size > 2 * own,
        Claim::Served => false,
    };
    let fresh = held.iter().filter(|held| held.standing.claim == Claim::Fresh).count();
    let weigh = |claim: Claim| match claim {
        Claim::Fresh if fresh <= (max / FRESH_PART).max(1) => Claim::Idle,
        claim => claim,
    };
    let candidates = held.iter().enumerate().filter_map(|(at, Held { holder, standing })| {
        let size = sizes.of_holder(*holder);
        let rank = (standing.claim > Claim::Refused, Reverse(size), weigh(standing.claim), standing.since);
        may(size, standing.claim).then_some((rank, at, *holder))
    });
    let mut candidates: Vec<_> = candidates.collect();
    let count = (max / PART).max(1);
    // What the quotas pass over is made up for by the next newcomer.
    let first = candidates.len().min(4 * count);
    if first < candidates.len() {
        candidates.select_nth_unstable(first);
        candidates.truncate(first);
    }
    candidates.sort_unstable_by_key(|(rank, at, _)| (*rank, *at));
    let mut taken: HashMap<Option<Holder>, usize> = HashMap::new();
    let within_quota = candidates.into_iter().filter(|(_, _, holder)| {
        let taken = taken.entry(*holder).or_default();
        *taken += 1;
        *taken <= sizes.quota(*holder)
    });
    within_quota.map(|(_, at, _)| at).take(count).collect()
}

/// Chooses the connection of `holder` that gives way to one more of its own, where it has as many as one address may.
pub(super) fn to_give_way_within(held: &[Held], holder: Holder) -> Option<usize> {
    let own = held.iter().enumerate().filter(|(_, held)| held.holder == Some(holder));
    let may = own.filter(|(_, held)| held.standing.claim <= Claim::Dribbling);
    may.min_by_key(|(_, held)| (held.standing.claim, held.standing.since)).map(|(at, _)| at)
}

/// The connections of each address.
struct Sizes {
    of: HashMap<Holder, usize>,
    /// Up to here nobody is large.
    small: usize,
    /// The second largest number.
    next: usize,
}

impl Sizes {
    fn of(held: &[Held], newcomer: Option<Holder>, max: usize) -> Sizes {
        let mut of = HashMap::new();
        for holder in held.iter().map(|held| held.holder).chain([newcomer]).flatten() {
            *of.entry(holder).or_default() += 1;
        }
        let (mut largest, mut next) = (0, 0);
        for &size in of.values() {
            (largest, next) = if size > largest { (size, largest) } else { (largest, next.max(size)) };
        }
        Sizes { of, small: (max / PART).max(1), next }
    }

    fn of_holder(&self, holder: Option<Holder>) -> usize {
        holder.and_then(|holder| self.of.get(&holder)).map_or(self.small, |size| self.small.max(*size))
    }

    /// So many of its connections may give way at once.
    fn quota(&self, holder: Option<Holder>) -> usize {
        match self.of_holder(holder) {
            size if size <= self.small => usize::MAX,
            size => size.saturating_sub(self.next.max(self.small)).max(1),
        }
    }
}

/// So much of the table gives way at once; and an address that holds no more than this is small.
const PART: usize = 128;

/// Beyond this part of the table fresh connections are many.
const FRESH_PART: usize = 8;

/// The bits of 64:ff9b::/96 before the address.
const NAT64: u128 = 0x0064_ff9b_0000_0000_0000_0000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn holder(name: u8) -> Holder {
        Holder::of(Ipv4Addr::new(192, 0, 2, name).into())
    }

    /// Connections by their holder, claim, and the seconds since they achieved something.
    fn held(rows: &[(u8, Claim, u64)]) -> Vec<Held> {
        let now = Instant::now() + Duration::from_secs(1_000_000);
        let held = |(name, claim, ago): &(u8, Claim, u64)| Held {
            holder: (*name > 0).then(|| holder(*name)),
            standing: Standing { claim: *claim, since: now - Duration::from_secs(*ago) },
        };
        rows.iter().map(held).collect()
    }

    #[test]
    fn an_address_is_shared_by_whom_one_host_has_it() {
        let rows = [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("64:ff9b::192.0.2.1", "192.0.2.1", true),
            ("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2", false),
            ("64:ff9b:1::1", "64:ff9b:1::2", true),
            ("::1", "127.0.0.1", false),
        ];
        for (one, other, alike) in rows {
            let [first, second] = [one, other].map(|address| Holder::of(address.parse().unwrap()));
            assert_eq!(first == second, alike, "{one} {other}");
        }
    }

    #[test]
    fn the_largest_gives_way_and_of_its_connections_the_one_that_achieved_least() {
        use Claim::{Dribbling, Fresh, Idle, Nothing, Refused, Sending, Served};
        type Row<'a> = (&'a str, &'a [(u8, Claim, u64)], u8, Option<usize>);
        let rows: &[Row<'_>] = &[
            ("the longest idle of all, where all are small", &[(1, Idle, 1), (2, Idle, 9), (3, Idle, 5)], 4, Some(1)),
            ("the largest, however long others are idle", &[(1, Idle, 99), (2, Idle, 1), (2, Idle, 2)], 3, Some(2)),
            ("with the newcomer its address is the largest", &[(1, Idle, 99), (2, Idle, 1)], 2, Some(1)),
            ("nothing achieved before something long ago", &[(1, Idle, 99), (1, Nothing, 3)], 2, Some(1)),
            ("of many that are fresh one of them", &[(1, Idle, 99), (1, Fresh, 1), (1, Fresh, 2)], 2, Some(2)),
            ("idle before dribbling", &[(1, Dribbling, 99), (1, Idle, 1)], 2, Some(1)),
            ("dribbling, where nothing else is", &[(1, Dribbling, 3), (1, Sending, 9)], 1, Some(0)),
            (
                "a refusal before all, also of a small one",
                &[(1, Nothing, 9), (1, Idle, 9), (2, Refused, 0)],
                3,
                Some(2),
            ),
            ("bodies of who holds far more", &[(1, Sending, 1), (1, Sending, 2), (1, Sending, 0)], 2, Some(1)),
            ("not of who holds twice as much", &[(1, Sending, 1), (1, Sending, 2)], 2, None),
            ("never what is being answered", &[(1, Served, 9), (1, Served, 9), (1, Served, 9)], 2, None),
            ("a large one takes nothing from a small one", &[(1, Served, 9), (1, Served, 9), (2, Idle, 99)], 1, None),
            ("but what is of no use to anybody", &[(1, Served, 9), (1, Served, 9), (2, Nothing, 3)], 1, Some(2)),
            ("who is nobody's share is small", &[(0, Idle, 99), (0, Idle, 98), (1, Idle, 1), (1, Idle, 2)], 2, Some(3)),
            ("an empty table", &[], 1, None),
        ];
        for (claim, rows, newcomer, expected) in rows {
            let chosen = to_give_way(&held(rows), Some(holder(*newcomer)), rows.len());
            assert_eq!(chosen.first().copied(), *expected, "{claim}");
        }
    }

    #[test]
    fn a_limit_of_one_address_is_met_by_its_own() {
        use Claim::{Dribbling, Idle, Nothing, Sending, Served};
        type Row<'a> = (&'a [(u8, Claim, u64)], Option<usize>);
        let rows: &[Row<'_>] = &[
            (&[(2, Nothing, 99), (1, Idle, 1), (1, Idle, 2)], Some(2)),
            (&[(2, Nothing, 99), (1, Dribbling, 1), (1, Served, 2)], Some(1)),
            (&[(2, Nothing, 99), (1, Sending, 1), (1, Served, 2)], None),
        ];
        for (rows, expected) in rows {
            assert_eq!(to_give_way_within(&held(rows), holder(1)), *expected, "{rows:?}");
        }
    }

    #[test]
    fn many_give_way_at_once_and_no_holder_falls_below_the_next() {
        let idle = |name: u8, count: usize| vec![(name, Claim::Idle, 1); count];
        let flood = held(&[idle(1, 9_000), idle(2, 1_000)].concat());
        assert_eq!(to_give_way(&flood, Some(holder(3)), 10_000).len(), 78);
        let pair = held(&[idle(1, 5_010), idle(2, 4_990)].concat());
        let chosen = to_give_way(&pair, Some(holder(3)), 10_000);
        assert_eq!(chosen.iter().filter(|at| **at < 5_010).count(), 20);
    }

    #[test]
    fn few_that_are_fresh_are_no_worse_than_what_was_of_use_long_ago() {
        let rows = [vec![(1, Claim::Idle, 5); 98], vec![(1, Claim::Fresh, 1), (1, Claim::Fresh, 9)]].concat();
        let first = |rows: &[(u8, Claim, u64)]| to_give_way(&held(rows), Some(holder(1)), 100)[0];
        assert_eq!(first(&rows), 99, "it is older");
        assert_eq!(first(&rows[..99]), 0);
    }

    fn claims() -> impl Strategy<Value = Claim> {
        use Claim::{Dribbling, Fresh, Idle, Nothing, Refused, Sending, Served};
        prop::sample::select(vec![Refused, Nothing, Fresh, Idle, Dribbling, Sending, Served])
    }

    proptest! {
        /// Whoever holds less than the newcomer's address loses nothing that is of use, and what is being answered stays.
        #[test]
        fn a_newcomer_takes_nothing_of_use_from_a_smaller_one(
            rows in prop::collection::vec((0_u8..6, claims(), 0_u64..100), 0..300), newcomer in 1_u8..6, max in 1_usize..600,
        ) {
            let held = held(&rows);
            let count = |name: u8| rows.iter().filter(|row| row.0 == name).count() + usize::from(name == newcomer);
            let small = (max / PART).max(1);
            let size = |name: u8| if name == 0 { small } else { count(name).max(small) };
            let chosen = to_give_way(&held, Some(holder(newcomer)), max);
            prop_assert!(chosen.len() <= small);
            for at in &chosen {
                let (name, claim, _) = rows[*at];
                prop_assert!(claim < Claim::Served);
                prop_assert!(claim <= Claim::Nothing || size(name) >= size(newcomer));
                // Nobody who stays is larger and could have gone instead.
                let larger = rows.iter().enumerate().any(|(other, row)| {
                    !chosen.contains(&other) && size(row.0) > size(name).max(size(newcomer)) && row.1 <= Claim::Dribbling
                });
                prop_assert!(claim == Claim::Refused || !larger || chosen.iter().any(|at| size(rows[*at].0) > size(name)));
            }
            // While somebody is idle whose address holds no less, there is always one to give way.
            let any = rows.iter().any(|row| row.1 == Claim::Idle && size(row.0) >= size(newcomer));
            prop_assert!(!any || !chosen.is_empty());
        }
    }
}
