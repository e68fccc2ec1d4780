//! The memory for bodies, shared out per source and per address: where there is no room, the address that holds most gives
//! way.
//!
//! Of its bodies the one goes that comes slowest, or the newest where none had much time. Bodies that are whole stay: they
//! are written to the journal in a moment. Nothing here reads a clock.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::journal::{LimitUse, Share};
use crate::server::Holder;

/// The bodies in memory.
#[derive(Debug)]
pub(super) struct BodyShares {
    max: usize,
    /// Taken by each body that is coming, beside its bytes: for its head and its task. It bounds their number, and with
    /// that the search for one that gives way.
    charge: usize,
    /// With the charges.
    used: usize,
    charged: usize,
    bodies: HashMap<BodyId, Held>,
    sources: Vec<SourceShare>,
    next: u64,
}

/// A body in memory. A later one has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct BodyId(u64);

/// A source, by its place among those that share the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceNumber(usize);

/// The reason why a body can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// All of the memory is in use.
    Full,
    /// The bodies of its source take the share of that source.
    SourceShare,
    /// It gave way to another one.
    GaveWay,
}

/// The bodies that give way to one that grows, whose memory is free at once; and why it can't grow all the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub give_way: Vec<BodyId>,
    pub room: Result<(), NoRoom>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    holder: Holder,
    source: SourceNumber,
    /// With the charge.
    bytes: usize,
    charge: usize,
    /// Since when it is coming; none once it is whole.
    coming: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct SourceShare {
    used: usize,
    /// None: as much as there is.
    share: Option<Share>,
}

impl BodyShares {
    pub(super) fn new(max: usize, charge: usize) -> BodyShares {
        BodyShares { max, charge, used: 0, charged: 0, bodies: HashMap::new(), sources: Vec::new(), next: 0 }
    }

    /// The bytes of all bodies, without the charges.
    pub(super) fn used(&self) -> usize {
        self.used - self.charged
    }

    pub(super) fn add_source(&mut self, share: Option<Share>) -> SourceNumber {
        self.sources.push(SourceShare { used: 0, share });
        SourceNumber(self.sources.len() - 1)
    }

    /// Begins a body without a byte. `coming`: since when its sender sends it; none where it comes out of one that is whole.
    pub(super) fn begin(&mut self, holder: Holder, source: SourceNumber, coming: Option<Instant>) -> BodyId {
        self.next += 1;
        let charge = if coming.is_some() { self.charge } else { 0 };
        self.used += charge;
        self.charged += charge;
        self.sources[source.0].used += charge;
        self.bodies.insert(BodyId(self.next), Held { holder, source, bytes: charge, charge, coming });
        BodyId(self.next)
    }

    /// Takes more memory for a body. What does not fit is counted too, until the body is given up a moment later.
    pub(super) fn grow(&mut self, id: BodyId, bytes: usize, now: Instant) -> Growth {
        let mut give_way = Vec::new();
        let Some(body) = self.bodies.get_mut(&id) else {
            return Growth { give_way, room: Err(NoRoom::GaveWay) };
        };
        body.bytes += bytes;
        let body = *body;
        self.used += bytes;
        self.sources[body.source.0].used += bytes;
        loop {
            let room = self.room(body);
            let other = match room {
                Ok(()) => None,
                Err(NoRoom::SourceShare) => self.to_give_way(body, Some(body.source), now),
                Err(_) => self.to_give_way(body, None, now),
            };
            let Some(other) = other.filter(|other| *other != id) else {
                return Growth { give_way, room };
            };
            self.end(other);
            give_way.push(other);
        }
    }

    /// A body has come, and no longer gives way; false where it did already.
    pub(super) fn whole(&mut self, id: BodyId) -> bool {
        self.bodies.get_mut(&id).map(|body| body.coming = None).is_some()
    }

    /// Gives the memory of a body back.
    pub(super) fn end(&mut self, id: BodyId) {
        if let Some(Held { source, bytes, charge, .. }) = self.bodies.remove(&id) {
            self.used -= bytes;
            self.charged -= charge;
            self.sources[source.0].used -= bytes;
        }
    }

    fn room(&self, body: Held) -> Result<(), NoRoom> {
        if self.used > self.max {
            return Err(NoRoom::Full);
        }
        // This body is what the source asks for, as a whole: the first one of a source comes in however long it is.
        let SourceShare { used: own, share } = self.sources[body.source.0];
        let [max, used, own] = [self.max, self.used - body.bytes, own - body.bytes].map(|bytes| bytes as u64);
        match share {
            Some(share) if !share.admits(LimitUse { max, used, own, left: 0 }, body.bytes as u64) => {
                Err(NoRoom::SourceShare)
            }
            _ => Ok(()),
        }
    }

    /// The body that gives way to this one, of `within` or of all: one of the address that holds most, unless that is less
    /// than its own holds.
    fn to_give_way(&self, asking: Held, within: Option<SourceNumber>, now: Instant) -> Option<BodyId> {
        let bodies = || self.bodies.iter().filter(|(_, body)| within.is_none_or(|source| source == body.source));
        let mut sizes: HashMap<Holder, usize> = HashMap::new();
        for (_, body) in bodies() {
            *sizes.entry(body.holder).or_default() += body.bytes;
        }
        // Who holds little is not told from who holds less.
        let size = |holder: &Holder| sizes.get(holder).copied().unwrap_or(0).max(self.max / SMALL_PART);
        let least = size(&asking.holder);
        let candidates = bodies().filter_map(|(id, body)| {
            let (size, took) = (size(&body.holder), now.saturating_duration_since(body.coming?));
            let speed =
                if took < GRACE { u128::MAX } else { (((body.bytes - body.charge) as u128) << 32) / took.as_millis() };
            (size >= least).then_some((Reverse(size), speed, Reverse(*id)))
        });
        candidates.min().map(|(_, _, Reverse(id))| id)
    }
}

/// Addresses that hold no more than this part of the memory are alike.
const SMALL_PART: usize = 64;

/// A body that is coming for less than this is not called slow.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn holder(name: u8) -> Holder {
        Holder::of(Ipv4Addr::new(192, 0, 2, name).into())
    }

    /// One source without a share, and bodies of these holders and bytes, that have been coming for these milliseconds;
    /// none: whole.
    fn shares(max: usize, bodies: &[(u8, usize, Option<u64>)], now: Instant) -> (BodyShares, Vec<BodyId>) {
        let mut shares = BodyShares::new(max, 0);
        let source = shares.add_source(None);
        let mut ids = Vec::new();
        for (name, bytes, millis) in bodies {
            let coming = millis.map(|millis| now - Duration::from_millis(millis));
            let id = shares.begin(holder(*name), source, coming);
            assert_eq!(shares.grow(id, *bytes, now), Growth { give_way: Vec::new(), room: Ok(()) });
            ids.push(id);
        }
        (shares, ids)
    }

    #[test]
    fn where_the_memory_is_full_the_largest_holder_gives_way() {
        type Row<'a> = (&'a str, &'a [(u8, usize, Option<u64>)], (u8, usize), &'a [usize], Result<(), NoRoom>);
        let full = Err(NoRoom::Full);
        let (new, old, older) = (Some(10), Some(2_000), Some(9_000));
        let rows: &[Row<'_>] = &[
            ("there is room", &[(1, 90, old)], (2, 10), &[], Ok(())),
            ("its slowest body", &[(1, 40, old), (1, 40, older), (1, 20, new)], (2, 10), &[1], Ok(())),
            (
                "its newest, where none had much time",
                &[(1, 40, new), (1, 40, new), (1, 20, new)],
                (2, 10),
                &[2],
                Ok(()),
            ),
            ("as many as it takes", &[(1, 10, older), (1, 10, old), (1, 80, new)], (2, 15), &[0, 1], Ok(())),
            ("not one of another", &[(3, 20, older), (1, 80, new)], (2, 10), &[1], Ok(())),
            ("also to its own", &[(1, 50, old), (1, 50, older)], (1, 10), &[1], Ok(())),
            ("but not where its own is the newest", &[(1, 50, new), (1, 50, new)], (1, 10), &[], full),
            ("nothing that is whole", &[(1, 50, None), (1, 50, None)], (2, 10), &[], full),
            ("not to one that holds more", &[(1, 60, None), (3, 40, older)], (1, 10), &[], full),
        ];
        let now = Instant::now() + Duration::from_secs(100);
        for (claim, bodies, (name, bytes), chosen, room) in rows {
            let (mut shares, ids) = shares(100, bodies, now);
            let id = shares.begin(holder(*name), SourceNumber(0), Some(now));
            let growth = shares.grow(id, *bytes, now);
            let chosen = chosen.iter().map(|at| ids[*at]).collect();
            assert_eq!(growth, Growth { give_way: chosen, room: *room }, "{claim}");
        }
    }

    #[test]
    fn where_a_source_has_its_share_a_body_of_the_same_source_gives_way() {
        let now = Instant::now();
        let mut shares = BodyShares::new(100, 0);
        let [source, other] = [shares.add_source(Some(Share::Auto)), shares.add_source(Some(Share::Auto))];
        let of_other = shares.begin(holder(9), other, Some(now));
        assert_eq!(shares.grow(of_other, 30, now).room, Ok(()));
        let large = shares.begin(holder(1), source, Some(now));
        assert_eq!(shares.grow(large, 30, now).room, Ok(()));
        let small = shares.begin(holder(2), source, Some(now));
        assert_eq!(shares.grow(small, 10, now), Growth { give_way: vec![large], room: Ok(()) });
        assert_eq!(shares.grow(large, 1, now).room, Err(NoRoom::GaveWay));
        assert!(!shares.whole(large) && shares.whole(small));
        shares.end(large);
        assert_eq!(shares.used(), 40);
    }

    #[test]
    fn of_small_holders_the_slowest_gives_way_whoever_holds_a_byte_more() {
        let now = Instant::now() + Duration::from_secs(100);
        let bodies: Vec<_> = (0..200).map(|name| (name, 5, Some(if name == 77 { 9_000 } else { 1_500 }))).collect();
        let (mut shares, ids) = shares(1_000, &bodies, now);
        let id = shares.begin(holder(255), SourceNumber(0), Some(now));
        assert_eq!(shares.grow(id, 1, now), Growth { give_way: vec![ids[77]], room: Ok(()) });
    }

    #[test]
    fn bodies_without_a_byte_are_bounded_in_number_and_one_gives_way_for_each_that_begins() {
        let (mut shares, now) = (BodyShares::new(1_000, 10), Instant::now());
        let source = shares.add_source(None);
        for _ in 0..10_000 {
            let id = shares.begin(holder(1), source, Some(now));
            let Growth { give_way, .. } = shares.grow(id, 0, now);
            assert!(give_way.len() <= 1, "{}", give_way.len());
            if give_way.is_empty() && shares.used > shares.max {
                shares.end(id);
            }
            assert!(shares.bodies.len() <= 100);
        }
        // Who has little comes in beside them.
        let id = shares.begin(holder(2), source, Some(now));
        assert_eq!(shares.grow(id, 30, now).room, Ok(()));
        assert_eq!(shares.used(), 30);
    }

    proptest! {
        /// Whatever comes and goes: the sums are right, no more is held than there is beside what was refused, and who holds
        /// more than whoever asks loses nothing to it.
        #[test]
        fn the_memory_is_never_exceeded(steps in prop::collection::vec((0_u8..5, 0_usize..3, 1_usize..40, 0_u8..4), 1..200)) {
            let (mut shares, mut now) = (BodyShares::new(100, 0), Instant::now());
            let sources = [None, Some(Share::Auto), Some(Share::Percent(30))].map(|share| shares.add_source(share));
            let mut open: Vec<BodyId> = Vec::new();
            for (name, source, bytes, what) in steps {
                now += Duration::from_millis(300);
                match what {
                    0 if !open.is_empty() => shares.end(open.remove(bytes % open.len())),
                    1 if !open.is_empty() => drop(shares.whole(open[bytes % open.len()])),
                    _ => {
                        let id = shares.begin(holder(name), sources[source], Some(now));
                        let Growth { give_way, room } = shares.grow(id, bytes, now);
                        prop_assert!(!give_way.contains(&id));
                        open.retain(|other| !give_way.contains(other));
                        if room.is_ok() {
                            open.push(id);
                        } else {
                            shares.end(id);
                        }
                    }
                }
                prop_assert!(shares.used() <= 100);
                prop_assert_eq!(shares.bodies.len(), open.len());
                prop_assert_eq!(shares.used(), shares.bodies.values().map(|body| body.bytes).sum::<usize>());
                prop_assert_eq!(shares.used(), shares.sources.iter().map(|source| source.used).sum::<usize>());
            }
        }
    }
}
