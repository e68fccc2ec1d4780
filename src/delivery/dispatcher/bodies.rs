//! The bodies of new events, kept in memory until the events end: so that they need not be read from disk, and as the
//! only copy if another program truncates the journal's files.

use std::collections::HashMap;

use crate::event::{EventId, Outgoing};
use crate::trace_context::TraceContext;

/// Bodies by event, up to a total size. Further ones are read from the journal.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    bodies: HashMap<EventId, Outgoing>,
    bytes: usize,
}

impl Bodies {
    pub(super) fn put(&mut self, id: EventId, outgoing: Outgoing) {
        let bytes = size(&outgoing);
        if self.bytes + bytes <= BYTES_MAX {
            self.bytes += bytes;
            self.bodies.insert(id, outgoing);
        }
    }

    pub(super) fn get(&self, id: EventId) -> Option<Outgoing> {
        self.bodies.get(&id).cloned()
    }

    pub(super) fn remove(&mut self, id: EventId) -> Option<Outgoing> {
        let outgoing = self.bodies.remove(&id)?;
        self.bytes -= size(&outgoing);
        Some(outgoing)
    }

    pub(super) fn all(&self) -> HashMap<EventId, Outgoing> {
        self.bodies.clone()
    }
}

fn size(outgoing: &Outgoing) -> usize {
    let trace = outgoing.trace.as_ref().map_or(0, TraceContext::state_bytes);
    outgoing.body.len() + outgoing.incident_key.len() + trace + OVERHEAD_BYTES
}

/// With more waiting events, the bodies of further ones are left to the journal.
pub(super) const WAITING_MAX: usize = 10_000;
/// Enough for a storm of some ten thousand alerts with a fast upstream.
const BYTES_MAX: usize = 8 << 20;
/// The overhead of an entry beside its body.
const OVERHEAD_BYTES: usize = 176;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use bytes::Bytes;

    #[test]
    fn what_does_not_fit_is_left_to_the_journal_and_what_ended_makes_room() {
        let outgoing = || Outgoing {
            source: "s".into(),
            incident_key: "".into(),
            body: Bytes::from(vec![b'x'; BYTES_MAX - OVERHEAD_BYTES]),
            acknowledged: WallTime(0),
            trace: None,
        };
        let mut bodies = Bodies::default();
        bodies.put(EventId(1), outgoing());
        bodies.put(EventId(2), outgoing());
        assert!(bodies.get(EventId(2)).is_none());
        assert!(bodies.get(EventId(1)).is_some());
        bodies.remove(EventId(1));
        bodies.put(EventId(3), outgoing());
        assert!(bodies.get(EventId(3)).is_some() && bodies.get(EventId(1)).is_none());
    }
}
