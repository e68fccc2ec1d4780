//! Fair shares: the part of a shared queue that one source may fill.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A source's `max_queued`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// A dynamic threshold: no more than is still free.
    #[default]
    Auto,
    /// A percentage of the whole, however much is free.
    Percent(u8),
}

/// The shares of the configured sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares(BTreeMap<Arc<str>, Share>);

/// The use of a queue at the moment in which a source asks for more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitUse {
    pub max: u64,
    /// Used by all, including sources that are no longer configured.
    pub used: u64,
    /// The part of `used` that belongs to the asking source.
    pub own: u64,
    /// Reserved for sources that have nothing queued.
    pub left: u64,
}

impl Share {
    /// Returns true if a source may take `wanted` more.
    ///
    /// The threshold is dynamic (Choudhury and Hahne, 1998): a source may hold as much as stays free afterwards. One
    /// source that floods fills half, two fill a third each, and the free part is always as large as each of theirs. So
    /// a source that starts later finds room, with nothing reserved for idle ones.
    ///
    /// A source that holds nothing may send one batch of any size that fits: otherwise a batch larger than its share
    /// would be refused for ever.
    pub fn admits(self, room: LimitUse, wanted: u64) -> bool {
        let Some(free) = room.max.checked_sub(room.used).and_then(|free| free.checked_sub(wanted)) else {
            return false;
        };
        if free < room.left {
            return false;
        }
        let own = room.own.saturating_add(wanted);
        match self {
            _ if room.own == 0 => true,
            Share::Auto => own <= free,
            Share::Percent(hundredths) => own <= part(room.max, hundredths),
        }
    }
}

impl Shares {
    pub fn new(sources: impl IntoIterator<Item = (Arc<str>, Share)>) -> Shares {
        Shares(sources.into_iter().collect())
    }

    /// A source's share; none if the source is alone and has no limit.
    pub fn of(&self, source: &str) -> Option<Share> {
        self.0.get(source).copied().filter(|share| self.0.len() > 1 || *share != Share::Auto)
    }

    /// The configured sources.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }
}

fn part(max: u64, hundredths: u8) -> u64 {
    let part = u128::from(max) * u128::from(hundredths) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_source_may_have_as_much_as_is_free() {
        use Share::{Auto, Percent};
        // Share, own, used, left, wanted of a room of a hundred.
        for (why, share, own, used, left, wanted, admitted) in [
            ("an empty room", Auto, 0, 0, 0, 1, true),
            ("half of the room for one", Auto, 49, 49, 0, 1, true),
            ("and no more than that", Auto, 50, 50, 0, 1, false),
            ("a third beside another third", Auto, 32, 65, 0, 1, true),
            ("and no more than that", Auto, 33, 66, 0, 1, false),
            ("what several want at once counts whole", Auto, 10, 10, 0, 40, true),
            ("one more than is free afterwards", Auto, 10, 10, 0, 41, false),
            ("whoever has nothing, beside two that flood", Auto, 0, 66, 0, 1, true),
            ("the last place for whoever has nothing", Auto, 0, 99, 0, 1, true),
            ("there is no room for anybody", Auto, 0, 100, 0, 1, false),
            ("a batch larger than any share, of whoever has nothing", Auto, 0, 0, 0, 80, true),
            ("but not what others need", Auto, 0, 0, 30, 80, false),
            ("the last places are for those that have nothing", Auto, 1, 97, 2, 1, true),
            ("also where little is held", Auto, 1, 97, 3, 1, false),
            ("a fixed share, however much is free", Percent(30), 29, 29, 0, 1, true),
            ("and no more than that", Percent(30), 30, 30, 0, 1, false),
            ("a fixed share, however little is free", Percent(30), 10, 90, 0, 5, true),
            ("as far as there is room", Percent(30), 10, 98, 0, 3, false),
            ("with something left", Percent(30), 10, 97, 3, 1, false),
            ("everything", Percent(100), 99, 99, 0, 1, true),
            ("more is held than the room has by now", Auto, 40, 120, 0, 1, false),
            ("also by somebody else", Auto, 0, 120, 0, 0, false),
        ] {
            let room = LimitUse { max: 100, used, own, left };
            assert_eq!(share.admits(room, wanted), admitted, "{why}: {share:?} {room:?} {wanted}");
        }
        let vast = LimitUse { max: u64::MAX, used: 5, own: 5, left: 0 };
        assert!(Percent(100).admits(vast, u64::MAX - 5) && !Percent(50).admits(vast, u64::MAX / 2));
    }

    #[test]
    fn a_source_that_is_alone_shares_with_nobody_unless_it_says_so() {
        let shares = |list: &[(&str, Share)]| Shares::new(list.iter().map(|(name, share)| (Arc::from(*name), *share)));
        assert_eq!(shares(&[("a", Share::Auto)]).of("a"), None);
        assert_eq!(shares(&[("a", Share::Percent(30))]).of("a"), Some(Share::Percent(30)));
        let two = shares(&[("a", Share::Auto), ("b", Share::Percent(5))]);
        assert_eq!((two.of("a"), two.of("b"), two.of("gone")), (Some(Share::Auto), Some(Share::Percent(5)), None));
        assert_eq!(two.sources().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
    }

    /// Sources that share a room for events: each sends batches, and some of what it has is delivered.
    struct World {
        max: u64,
        shares: Vec<Share>,
        own: Vec<u64>,
    }

    impl World {
        fn used(&self) -> u64 {
            self.own.iter().sum()
        }

        fn others_with_nothing(&self, source: usize) -> u64 {
            self.own.iter().enumerate().filter(|(other, own)| *other != source && **own == 0).count() as u64
        }

        fn send(&mut self, source: usize, wanted: u64) -> bool {
            let left = self.others_with_nothing(source);
            let room = LimitUse { max: self.max, used: self.used(), own: self.own[source], left };
            let admitted = self.shares[source].admits(room, wanted);
            if admitted {
                self.own[source] += wanted;
            }
            admitted
        }
    }

    fn share() -> impl Strategy<Value = Share> {
        prop_oneof![3 => Just(Share::Auto), 1 => (1_u8..=100).prop_map(Share::Percent)]
    }

    proptest! {
        /// For any sends and deliveries: the queue is never overfull, no source exceeds its share except by one batch,
        /// and a source with nothing queued is admitted.
        #[test]
        fn none_takes_what_others_need(
            shares in proptest::collection::vec(share(), 2..8),
            spare in 0_u64..200,
            steps in proptest::collection::vec((0_usize..8, 1_u64..20, 0_u8..3), 1..400),
        ) {
            let (count, max) = (shares.len(), shares.len() as u64 + spare);
            let mut world = World { max, own: vec![0; count], shares };
            for (source, number, what) in steps {
                let source = source % count;
                let before = world.own[source];
                if what == 0 {
                    world.own[source] = before.saturating_sub(number);
                } else if world.send(source, number) && before > 0 {
                    let free = max - world.used();
                    match world.shares[source] {
                        Share::Auto => prop_assert!(world.own[source] <= free),
                        Share::Percent(part) => prop_assert!(world.own[source] * 100 <= max * u64::from(part)),
                    }
                }
                prop_assert!(world.used() <= max);
                for late in (0..count).filter(|late| world.own[*late] == 0) {
                    let room = LimitUse { max, used: world.used(), own: 0, left: world.others_with_nothing(late) };
                    prop_assert!(world.shares[late].admits(room, 1), "{late} has nothing and is kept out: {:?}", world.own);
                }
            }
        }

        /// Sources that flood settle at equal parts, with one part left free, from any start and in any order; and one
        /// that comes later gets as much as each of them once they are served.
        #[test]
        fn whoever_floods_ends_at_an_equal_part(
            floods in 1_usize..6, max in 60_u64..5_000, order in proptest::collection::vec(0_usize..6, 30..60),
        ) {
            let count = floods + 1;
            let mut world = World { max, own: vec![0; count], shares: vec![Share::Auto; count] };
            let flood = |world: &mut World, sources: usize| {
                // After each delivered event, the next source that is admitted sends one.
                for round in 0..max as usize * 4 {
                    for source in order.iter().map(|source| source % sources) {
                        while world.send(source, 1) {}
                    }
                    let fullest = (0..count).max_by_key(|source| world.own[*source]).unwrap_or(0);
                    let even = (0..sources).all(|source| world.own[source] + 1 >= world.own[fullest]);
                    if even && round > 0 {
                        break;
                    }
                    world.own[fullest] -= 1;
                }
            };
            flood(&mut world, floods);
            let takes_part = |source: usize| order.iter().any(|one| one % floods == source);
            prop_assume!((0..floods).all(takes_part));
            let part = max / (floods as u64 + 1);
            for own in &world.own[..floods] {
                prop_assert!(own.abs_diff(part) <= floods as u64 + 1, "{:?} of {}", world.own, max);
            }
            prop_assert!(world.send(floods, part / 2), "half of a part is free for whoever comes: {:?}", world.own);
        }
    }
}
