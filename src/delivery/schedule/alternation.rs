//! Weighted alternation between two sides: one of them gets a turn in every so many.

/// The state of two sides that take turns: the preferred one, and another that gets one turn in `every` while both
/// wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alternation {
    every: u8,
    passed: u8,
}

/// The side whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Preferred,
    Other,
}

impl Alternation {
    pub(super) const fn one_in(every: u8) -> Alternation {
        Alternation { every, passed: 0 }
    }

    /// Chooses one of the waiting sides; none if neither waits.
    pub(super) fn choose(&mut self, preferred: bool, other: bool) -> Option<Side> {
        match (preferred, other) {
            (false, false) => None,
            (true, false) => Some(Side::Preferred),
            (false, true) => Some(Side::Other),
            (true, true) if self.passed + 1 >= self.every => {
                self.passed = 0;
                Some(Side::Other)
            }
            (true, true) => {
                self.passed += 1;
                Some(Side::Preferred)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_gets_one_turn_in_so_many_and_every_turn_that_nobody_else_wants() {
        for every in 1..20 {
            let mut alternation = Alternation::one_in(every);
            let turns: Vec<_> = (0..usize::from(every) * 3).filter_map(|_| alternation.choose(true, true)).collect();
            assert_eq!(turns.iter().filter(|side| **side == Side::Other).count(), 3, "one in {every}");
            assert_eq!(alternation.choose(false, true), Some(Side::Other));
            assert_eq!(alternation.choose(true, false), Some(Side::Preferred));
            assert_eq!(alternation.choose(false, false), None);
        }
    }
}
