//! The journal's totals by source, for shares and for people.

use std::sync::Arc;

use super::values::sql;
use super::{Error, Journal};
use crate::event::EventId;
use crate::journal::SourceTotals;

impl Journal {
    /// The part of each configured source.
    pub fn totals_by_source(&self) -> impl Iterator<Item = (&Arc<str>, SourceTotals)> {
        self.limits.shares.sources().map(|source| (source, self.totals.of(source)))
    }

    /// The part of one source.
    pub fn totals_of(&self, source: &str) -> SourceTotals {
        self.totals.of(source)
    }

    /// Returns true if one more event of a source fits into its share.
    pub fn admits_more_of(&self, source: &str) -> bool {
        self.totals.admits(&self.limits, source, 1, 1)
    }

    /// The source of a row by its text, even if the row is damaged otherwise. Empty if it is no text, or the row is not
    /// kept.
    pub(super) fn source_of(&self, id: EventId) -> Result<String, Error> {
        let mut statement = self.connection.prepare_cached("SELECT source FROM event WHERE id = ?1")?;
        let mut rows = statement.query([sql(id)])?;
        let source = rows.next()?.map(|row| row.get_ref(0).map(|text| text.as_str().unwrap_or_default().to_owned()));
        Ok(source.transpose()?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::event::{Reason, Settlement, State};

    use super::*;
    use crate::clock::WallTime;
    use crate::journal::fact::{NewEvent, NewRefusal, Raw};
    use crate::journal::sqlite::tests::{NOW, config, delivered, event, open};
    use crate::journal::sqlite::{Batch, Config};
    use crate::journal::totals::{Fit, Totals};
    use crate::journal::{Share, Shares};

    const SOURCES: [&str; 3] = ["a", "b", "c"];

    fn shared(directory: &std::path::Path, max_events: u64, shares: &[(&str, Share)]) -> Config {
        let shares = Shares::new(shares.iter().map(|(name, share)| (Arc::from(*name), *share)));
        Config { max_events, shares, ..config(directory) }
    }

    fn refusal(source: &'static str) -> NewRefusal<'static> {
        NewRefusal {
            source,
            received_at: NOW,
            request: "01REFUSED",
            sender_request: None,
            trace: None,
            raw: Raw::Bytes(b"{broken"),
            charset: None,
            element: None,
            reason: "not_json",
            errors: b"[]".into(),
        }
    }

    fn fit(batch: &Batch<'_>, source: Option<&str>, events: u64, bytes: u64) -> Fit {
        batch.totals.fit(&batch.journal.limits, source, events, bytes)
    }

    /// Appends events of a source as long as they fit; returns how many did, and why no more.
    fn fill(batch: &mut Batch<'_>, source: &str) -> (usize, Fit) {
        for count in 0.. {
            match fit(batch, Some(source), 1, 14) {
                Fit::Fits => drop(batch.append(NewEvent { source, ..event("k", b"{}") }).unwrap()),
                why => return (count, why),
            }
        }
        unreachable!()
    }

    #[test]
    fn each_source_gets_its_share_and_leaves_the_rest_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let auto = SOURCES.map(|source| (source, Share::Auto));
        let (mut journal, lock, _) = open(&shared(directory.path(), 60, &auto));
        let mut batch = journal.begin().unwrap();
        assert_eq!(fill(&mut batch, "a"), (30, Fit::BeyondShare));
        assert_eq!(fill(&mut batch, "b"), (15, Fit::BeyondShare), "as much as it leaves free");
        assert_eq!(fill(&mut batch, "a"), (0, Fit::BeyondShare));
        assert_eq!(fit(&batch, Some("c"), 7, 91), Fit::Fits);
        assert_eq!(fit(&batch, Some("c"), 15, 195), Fit::Fits, "whoever has nothing may send a batch");
        assert_eq!(fit(&batch, Some("c"), 16, 208), Fit::Full);
        assert_eq!(fit(&batch, None, 15, 195), Fit::Fits, "a person");
        assert_eq!(fit(&batch, Some("gone"), 15, 195), Fit::Fits, "and what is no source any more");
        batch.commit().unwrap();
        drop((journal, lock));

        let fixed = [("a", Share::Percent(50)), ("b", Share::Percent(30)), ("c", Share::Auto)];
        let (mut journal, _lock, _) = open(&shared(directory.path(), 60, &fixed));
        assert!(!journal.admits_more_of("a") && journal.admits_more_of("b") && journal.admits_more_of("c"));
        let mut batch = journal.begin().unwrap();
        assert_eq!(fill(&mut batch, "b"), (3, Fit::BeyondShare), "eighteen are 30 %");
    }

    #[test]
    fn bytes_are_shared_like_events() {
        let directory = tempfile::tempdir().unwrap();
        let auto = SOURCES.map(|source| (source, Share::Auto));
        let config = Config { max_bytes: 600, ..shared(directory.path(), 1_000, &auto) };
        let (mut journal, ..) = open(&config);
        let mut batch = journal.begin().unwrap();
        // Fourteen bytes each.
        assert_eq!(fill(&mut batch, "a"), (21, Fit::BeyondShare));
        assert_eq!(fit(&batch, Some("b"), 1, 154), Fit::BeyondShare, "c could not send as much");
        assert_eq!(fit(&batch, Some("b"), 1, 153), Fit::Fits);
    }

    #[test]
    fn what_was_refused_counts_for_no_source_and_gives_way() {
        let directory = tempfile::tempdir().unwrap();
        let config =
            Config { keep_refused: 100, ..shared(directory.path(), 20, &[("a", Share::Auto), ("b", Share::Auto)]) };
        let (mut journal, ..) = open(&config);
        let mut batch = journal.begin().unwrap();
        for _ in 0..20 {
            batch.refuse(refusal("b")).unwrap();
        }
        assert_eq!(fill(&mut batch, "a"), (10, Fit::BeyondShare));
        batch.keep_limits().unwrap();
        assert_eq!(batch.totals.all.refused, 10);
        assert_eq!(fill(&mut batch, "b"), (5, Fit::BeyondShare));
    }

    #[test]
    fn what_an_event_takes_over_of_its_request_counts_for_its_source() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, ..) =
            open(&Config { keep_refused: 0, ..shared(directory.path(), 20, &[("a", Share::Auto)]) });
        let (raw, body) = (b"the request as it came", b"{ }");
        for state in [None, Some(State::Delivered)] {
            let held_before = journal.totals_of("a").bytes;
            let mut batch = journal.begin().unwrap();
            // The first row of the request holds its raw body, and goes: as refused, or once it is delivered.
            let first = match state {
                None => batch.refuse(NewRefusal { request: "one", raw: Raw::Bytes(raw), ..refusal("a") }).unwrap(),
                Some(_) => batch
                    .append(NewEvent { source: "a", request: "two", raw: Raw::Bytes(raw), ..event("k", body) })
                    .unwrap(),
            };
            let request = if state.is_none() { "one" } else { "two" };
            batch.append(NewEvent { source: "a", request, raw: Raw::In(first), ..event("l", body) }).unwrap();
            match state {
                None => batch.trim_refused().unwrap(),
                Some(state) => {
                    batch.settle(&Settlement { state, ..delivered(first, NOW) }).unwrap();
                    batch.prune(Some(WallTime(NOW.0 + 1)), 100, |_, _, _| false).unwrap();
                }
            }
            batch.commit().unwrap();
            assert_eq!(journal.totals_of("a").bytes - held_before, (raw.len() + body.len()) as u64, "{state:?}");
            let counted = told(&journal);
            journal.restore(|_| {}).unwrap();
            assert_eq!(told(&journal), counted);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Events of one request, which share its raw body; by `refused` some are refused.
        Take {
            source: usize,
            refused: Vec<bool>,
        },
        Settle {
            which: usize,
            state: State,
        },
        End {
            which: usize,
        },
        KeepLimits,
        TrimRefused,
        Prune,
        RollBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        let state = prop_oneof![Just(State::Delivered), Just(State::Dead), Just(State::Ended)];
        prop_oneof![
            4 => (0..3_usize, proptest::collection::vec(any::<bool>(), 1..4))
                .prop_map(|(source, refused)| Step::Take { source, refused }),
            4 => (0..60_usize, state).prop_map(|(which, state)| Step::Settle { which, state }),
            2 => (0..60_usize).prop_map(|which| Step::End { which }),
            2 => Just(Step::KeepLimits),
            3 => Just(Step::TrimRefused),
            1 => Just(Step::Prune),
            1 => Just(Step::RollBack),
        ]
    }

    fn carry_out(batch: &mut Batch<'_>, step: &Step, ids: &mut Vec<EventId>, request: &str) {
        match step {
            Step::Take { source, refused } => {
                let source = SOURCES[*source];
                let mut raw_in = None;
                for refused in refused {
                    let raw = raw_in.map_or(Raw::Bytes(b"the request as it came"), Raw::In);
                    let id = match refused {
                        true => batch.refuse(NewRefusal { request, raw, element: Some(b"{}"), ..refusal(source) }),
                        false => batch.append(NewEvent { source, request, raw, ..event("k", b"{ }") }),
                    };
                    raw_in.get_or_insert(*id.as_ref().unwrap());
                    ids.push(id.unwrap());
                }
            }
            Step::Settle { which, state } => {
                let Some(id) = ids.get(which % ids.len().max(1)) else { return };
                batch.settle(&Settlement { state: *state, outcome: None, ..delivered(*id, NOW) }).unwrap();
            }
            Step::End { which } => {
                let Some(id) = ids.get(which % ids.len().max(1)) else { return };
                batch.end(*id, &Reason::Discarded, NOW).unwrap();
            }
            Step::KeepLimits => batch.keep_limits().unwrap(),
            Step::TrimRefused => batch.trim_refused().unwrap(),
            Step::Prune => drop(batch.prune(Some(WallTime(NOW.0 + 1)), 100, |_, _, _| false).unwrap()),
            Step::RollBack => {}
        }
    }

    fn told(journal: &Journal) -> (Totals, Vec<(String, SourceTotals)>) {
        let held = journal.totals_by_source().filter(|(_, held)| *held != SourceTotals::default());
        let mut held: Vec<_> = held.map(|(source, held)| (source.to_string(), held)).collect();
        held.sort_by(|one, other| one.0.cmp(&other.0));
        (journal.totals(), held)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// After any operations the journal's totals equal those of a start, overall and by source, and the sources'
        /// parts add up.
        #[test]
        fn totals_are_exact_in_all_and_by_source(
            batches in proptest::collection::vec(proptest::collection::vec(step(), 1..12), 1..6),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let auto = SOURCES.map(|source| (source, Share::Auto));
            let (mut journal, ..) = open(&shared(directory.path(), 40, &auto));
            let (mut ids, mut requests) = (Vec::new(), 0);
            for steps in batches {
                let known = ids.len();
                let mut batch = journal.begin().unwrap();
                for step in &steps {
                    requests += 1;
                    carry_out(&mut batch, step, &mut ids, &format!("{requests:026}"));
                }
                if steps.iter().any(|step| matches!(step, Step::RollBack)) {
                    drop(batch);
                    ids.truncate(known);
                } else {
                    batch.commit().unwrap();
                }
                let counted = told(&journal);
                let (totals, held) = &counted;
                let sum = |of: fn(&SourceTotals) -> u64| held.iter().map(|(_, held)| of(held)).sum::<u64>();
                prop_assert_eq!((sum(|held| held.queued), sum(|held| held.dead)), (totals.queued, totals.dead));
                prop_assert_eq!(sum(|held| held.bytes), totals.bytes - totals.refused_bytes);
                journal.restore(|_| {}).unwrap();
                prop_assert_eq!(told(&journal), counted);
            }
        }
    }
}
