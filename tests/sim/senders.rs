//! Those who send: each key's incident opens and closes, and what they tell of it comes twice, late, in another
//! order, or again because nobody answered.

use fastrand::Rng;
use gander::exports::event::{Action, Body, Draft, KeyId, Occurrence, Priority, UpdateHash};
use gander::exports::journal::dedup::Arrival;
use gander::exports::journal::request::Entry;

use crate::plan::Plan;

/// One request: a batch, all or nothing.
#[derive(Clone, Debug)]
pub struct Request {
    pub elements: Vec<Element>,
    /// How often it was sent.
    pub sent: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: usize,
    pub action: Action,
    pub update: u64,
    /// Grows with each incident of the key.
    pub occurrence: Option<u64>,
}

/// The requests, and when each arrives: some more than once.
pub fn stories(plan: &Plan, rng: &mut Rng) -> (Vec<Request>, Vec<(i64, usize)>) {
    let mut open = vec![false; plan.keys];
    let mut incident = vec![0_u64; plan.keys];
    let (mut requests, mut arrivals) = (Vec::new(), Vec::new());
    let mut times: Vec<i64> = (0..plan.requests).map(|_| rng.i64(0..plan.chaos)).collect();
    times.sort_unstable();
    for (number, time) in times.into_iter().enumerate() {
        let elements = (0..if rng.u32(0..5) == 0 { rng.usize(2..=4) } else { 1 })
            .map(|_| {
                let key = rng.usize(0..plan.keys);
                // Mostly what is so is said again, as monitoring does.
                if rng.u32(0..3) == 0 {
                    open[key] = !open[key];
                    incident[key] += u64::from(open[key]);
                }
                Element {
                    key,
                    action: if open[key] { Action::Trigger } else { Action::Resolve },
                    update: if open[key] { rng.u64(0..plan.updates) } else { 0 },
                    occurrence: (plan.occurrences && rng.u32(0..4) != 0).then_some(incident[key]),
                }
            })
            .collect();
        requests.push(Request { elements, sent: 0 });
        // Late, so that it may be overtaken, and now and then twice.
        for _ in 0..if rng.u32(0..4) == 0 { 2 } else { 1 } {
            let late = if rng.u32(0..4) == 0 { rng.i64(0..20_000) } else { rng.i64(0..50) };
            arrivals.push((time + late, number));
        }
    }
    (requests, arrivals)
}

impl Element {
    /// The occurrence as rules spell it.
    pub fn named(&self) -> Option<Occurrence> {
        self.occurrence.map(|number| Occurrence(format!("[{number}]").into()))
    }

    /// As the recorder gets it.
    pub fn entry(&self, key: KeyId) -> Entry {
        let draft = Draft {
            action: self.action,
            rule: "rule".into(),
            incident_key: self.key.to_string(),
            occurrence: self.named(),
            update: UpdateHash(self.update),
            priority: priority(self.key),
            body: Body::of(&self.key),
        };
        Entry::Event { key, draft }
    }

    pub fn arrival<'a>(&self, occurrence: Option<&'a Occurrence>) -> Arrival<'a> {
        Arrival { key: key_id(self.key), action: self.action, update: UpdateHash(self.update), occurrence }
    }
}

/// The source of everything.
pub const SOURCE: &str = "servicepilot";

/// Every key has one, and each is there.
pub fn priority(key: usize) -> Priority {
    Priority::ALL[key % Priority::ALL.len()]
}

/// A key's identity; spread like a hash.
pub fn key_id(key: usize) -> KeyId {
    KeyId((key as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}
