//! The recorder without its thread and its files: what is decided together and owed after the commit, what is held while
//! nothing can be written, and what was found after that. Pure: a simulation drives it as the thread does.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Now;
use crate::event::{EventId, Queued, Settlement, SourceNames, Superseded};
use crate::journal::decide::{Accepted, Context, Decided, Owed, decide, kept_up};
use crate::journal::fact::Fact;
use crate::journal::known::Known;
use crate::journal::request::{Request, Settle};
use crate::journal::state::RecorderState;

/// The recorder's state and what it holds.
#[derive(Debug)]
pub struct Core {
    pub state: RecorderState,
    superseded: Superseded,
    sources: Arc<SourceNames>,
    /// The newest event that was handed to the dispatcher.
    handed_over: EventId,
    /// Settlements that were reported while nothing could be written: the deliveries happened.
    held: VecDeque<Settle>,
}

/// The replies and notices that are owed once a batch is on disk.
#[derive(Debug, Default)]
pub struct Due {
    /// A reply to each request, in their order.
    pub owed: Vec<Owed>,
    /// New events, for the dispatcher.
    pub accepted: Vec<Accepted>,
    /// Settlements, for the dispatcher and for senders that wait.
    pub settled: Vec<Settlement>,
}

impl Core {
    /// `last`: the newest event in the journal, which the dispatcher was given at the start.
    pub fn new(state: RecorderState, superseded: Superseded, sources: Arc<SourceNames>, last: EventId) -> Core {
        Core { state, superseded, sources, handed_over: last, held: VecDeque::new() }
    }

    pub fn sources(&self) -> &Arc<SourceNames> {
        &self.sources
    }

    /// Returns whether triggers may end unsent: then the store is asked for incidents that may be open.
    pub fn ends_superseded(&self) -> bool {
        self.superseded == Superseded::End
    }

    /// Decides a batch. Without facts there is nothing to write, and what is due is due at once.
    ///
    /// Duplicates alone are events on disk, and need no sync: their count is written with the next batch, or with none to
    /// decide.
    pub fn decide<'a>(
        &mut self,
        known: &'a Known,
        requests: impl Iterator<Item = &'a Request> + Clone,
        now: Now,
    ) -> (Vec<Fact<'a>>, Due) {
        let context = Context { now, superseded: self.superseded, sources: &self.sources };
        let Decided { mut facts, owed, accepted } = decide(&mut self.state, known, requests.clone(), context);
        let repeated = self.state.repeated.len();
        if !facts.is_empty() || repeated > 0 && (owed.is_empty() || repeated >= REPEATED_HELD) {
            kept_up(&mut self.state, &mut facts);
        }
        let settled = requests.filter_map(|request| match request {
            Request::Settle(Settle { settlement, .. }) => Some(settlement.clone()),
            _ => None,
        });
        (facts, Due { owed, accepted, settled: settled.collect() })
    }

    /// The facts are on disk: what is due is handed over.
    pub fn committed(&mut self, due: &Due) {
        if let Some(last) = due.accepted.last() {
            self.handed_over = last.event.id;
        }
    }

    /// The facts may or may not be on disk: nothing is built on them, or on duplicates of them, until the state was
    /// restored.
    pub fn failed(&mut self) {
        self.state.repeated.clear();
    }

    /// Holds a settlement while nothing can be written. Any other request is returned, to be refused.
    pub fn hold(&mut self, request: Request) -> Option<Request> {
        match request {
            Request::Settle(settle) => {
                self.held.push_back(settle);
                None
            }
            other => Some(other),
        }
    }

    /// At most so many of the held settlements, the oldest first.
    pub fn held(&self, most: usize) -> Vec<Request> {
        self.held.iter().take(most).cloned().map(Request::Settle).collect()
    }

    /// The oldest held settlements are on disk.
    pub fn held_written(&mut self, written: usize) {
        self.held.drain(..written);
    }

    /// An event that was found in the journal after a fault, if the dispatcher does not know it: a commit that was
    /// reported as failed reached the disk. Its sender was told that it failed, so its age counts from now.
    pub fn found(&self, event: Queued, now: Now) -> Option<Accepted> {
        let is_new = event.id > self.handed_over;
        is_new.then_some(Accepted { event: Queued { acknowledged: now.monotonic, ..event }, outgoing: None })
    }

    /// All events up to this one were handed over.
    pub fn handed_over(&mut self, last: EventId) {
        self.handed_over = self.handed_over.max(last);
    }
}

/// Events of which repeats are counted until the next commit.
const REPEATED_HELD: usize = 10_000;
