//! What one seed's world is like: drawn once, before anything happens in it.

use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use gander::exports::delivery::breaker;
use gander::exports::delivery::retry;
use gander::exports::delivery::schedule::Limits;
use gander::exports::delivery::staleness::{self, Then};
use gander::exports::event::Superseded;
use gander::exports::journal::dedup;

/// The settings of the relay and the troubles that it meets.
#[derive(Clone, Debug)]
pub struct Plan {
    pub keys: usize,
    /// How many different `update_on` values triggers have.
    pub updates: u64,
    /// Whether the sender names occurrences.
    pub occurrences: bool,
    /// Whether the upstream will never take the first key's events.
    pub poison: bool,
    pub requests: usize,
    /// Troubles last so long, in milliseconds; then everything works, and must come to rest.
    pub chaos: i64,
    /// How likely the relay is killed before any one step.
    pub crash: f64,
    /// How likely a commit fails.
    pub fault: f64,
    /// How often the wall clock jumps.
    pub jumps: u32,
    /// How often a person holds a key or a source for a while.
    pub holds: u32,
    pub dedup: dedup::Settings,
    pub limits: Limits,
    pub retry: retry::Settings,
    pub keep_delivered: Duration,
    pub stale: Option<staleness::Settings>,
}

/// Which mechanism a control's world lacks, to show that the ledger sees what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    Nothing,
    /// Every arrival is taken.
    Deduplication,
    /// Deduplication is never told how events ended.
    Endings,
    /// Every event is scheduled as if its key were its own.
    Order,
    /// A key goes on with its next event before the end of the one before is on disk.
    SettlingFirst,
    /// Senders are answered before the commit.
    CommitFirst,
    /// A failed commit leaves deduplication as it was decided.
    Rollback,
    /// A start takes up no queued events.
    RecoveredQueue,
    /// A start takes up ended events too.
    RecoveredEnds,
    /// A start knows no key.
    RecoveredKeys,
    /// A start takes every event that its keys rest on for waiting.
    RecoveredEndings,
    /// Pruning takes rows on which keys rest.
    KeptRows,
    /// Pruning takes what is old by the clock, whatever older rows stay.
    PruningInOrder,
    /// Any number of calls at once.
    Concurrency,
    /// Any number of calls a second.
    Pace,
    /// Any number of ends that wait for the disk.
    UnsettledLimit,
    /// While one key backs off, all wait.
    IndependentKeys,
    /// However many calls fail, the next go out as before.
    Breaker,
    /// The first failure is the last.
    Patience,
    /// Nobody looks again when a backoff is over.
    Waking,
    /// What failed is forgotten.
    Retry,
    /// Whatever was answered is a delivery.
    Judgement,
    /// Nothing is stale, however late.
    Staleness,
    /// A stale trigger ends whether or not a resolve waits behind it.
    ResolveBehind,
    /// What is stale ends, resolves too.
    StaleTriggersOnly,
    /// Events age by the wall clock alone.
    SteadyAge,
    /// Nobody tells the schedule what is held.
    Holds,
    /// Whatever was tried of it, a trigger that is undone ends.
    UntriedOnly,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Plan {
        let seconds = |rng: &mut Rng, least, most| Duration::from_secs(rng.u64(least..=most));
        let often = rng.u32(0..4);
        Plan {
            keys: rng.usize(1..=6),
            updates: rng.u64(1..=2),
            occurrences: rng.u32(0..4) == 0,
            poison: rng.u32(0..4) == 0,
            requests: rng.usize(20..=100),
            chaos: rng.i64(40_000..=180_000),
            crash: [0.0, 0.002, 0.005, 0.02][rng.usize(0..4)],
            fault: [0.0, 0.0, 0.02, 0.1][rng.usize(0..4)],
            jumps: if rng.bool() { 0 } else { rng.u32(1..=5) },
            holds: if rng.u32(0..3) == 0 { rng.u32(1..=6) } else { 0 },
            dedup: dedup::Settings {
                window: seconds(rng, 5, 60),
                remind: rng.u32(0..4) != 0,
                max_keys: if rng.u32(0..8) == 0 { rng.usize(1..=3) } else { 1_000 },
            },
            limits: Limits {
                concurrency: rng.usize(1..=4),
                per_second: positive(rng.u32(2..=40)),
                burst: positive(rng.u32(1..=10)),
                unsettled: if often == 0 { rng.usize(1..=2) } else { 100 },
                breaker: breaker::Settings {
                    failures: rng.u32(1..=6),
                    open: seconds(rng, 1, 10),
                    pause: seconds(rng, 1, 15),
                },
                superseded: if rng.u32(0..3) == 0 { Superseded::End } else { Superseded::Send },
            },
            retry: retry::Settings {
                initial: Duration::from_millis(rng.u64(100..=1_000)),
                factor: 2.0,
                max: seconds(rng, 2, 20),
                give_up_after: seconds(rng, 15, 90),
                unresolved: retry::Unresolved { attempts: rng.u32(0..=3), over: seconds(rng, 5, 60) },
            },
            keep_delivered: seconds(rng, 1, 120),
            stale: (rng.u32(0..3) == 0).then(|| staleness::Settings {
                trigger: seconds(rng, 2, 60),
                then: if rng.u32(0..3) == 0 { Then::Mark } else { Then::End },
            }),
        }
    }

    /// Whether keys are forgotten to stay within `dedup.max_keys`.
    pub fn forgets(&self) -> bool {
        self.keys > self.dedup.max_keys
    }
}

fn positive(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}
