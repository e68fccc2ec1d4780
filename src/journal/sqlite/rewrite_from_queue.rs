//! Writes queued events again from memory after the journal's files were cut off or overwritten.

use super::sum::{self, Fixed, Standing};
use super::values::{event, sql};
use super::{Batch, Error, Journal};
use crate::clock::WallTime;
use crate::event::{EventId, Outgoing, Pending, Priority, Reason, Settlement, State};
use crate::trace_context::TraceContext;

/// Counts of events that were compared with the queue in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Events that were written again from memory.
    pub again: u64,
    /// Events of which nothing was readable. They are dead letters.
    pub lost: u64,
    /// Events that had ended; the details are lost.
    pub ended: u64,
}

impl Rewritten {
    pub fn add(&mut self, more: Rewritten) {
        let Rewritten { again, lost, ended } = more;
        (self.again, self.lost, self.ended) = (self.again + again, self.lost + lost, self.ended + ended);
    }
}

impl Batch<'_> {
    /// Writes a queued event again under its number, if its row or its body is missing.
    pub fn write_again(
        &mut self,
        waits: Pending,
        source: &str,
        outgoing: Option<&Outgoing>,
        now: WallTime,
        rewritten: &mut Rewritten,
    ) -> Result<(), Error> {
        let id = waits.event;
        let standing = self.standing(id)?;
        let fixed = fixed_of(&waits, source, outgoing, now);
        let trace_state = |outgoing: &Outgoing| outgoing.trace.as_ref().map_or(0, TraceContext::state_bytes);
        let bytes = outgoing.map_or(0, |outgoing| outgoing.body.len() + trace_state(outgoing)) as u64;
        match (standing, outgoing) {
            (Some(standing), Some(outgoing)) => {
                // A rebuilt journal may hold it as a dead letter.
                let is_dead_letter =
                    standing.state == State::Dead && sum::is_reason_of_damage(standing.reason.as_deref());
                if is_dead_letter {
                    let queued = Standing { state: State::Queued, reason: None, settled_at: None, ..standing };
                    self.write_end(id, &queued)?;
                }
                let is_whole = self.holds_body(id, &outgoing.body)?;
                if !is_whole {
                    self.prepare("DELETE FROM content WHERE id = ?1")?.execute([sql(id)])?;
                    self.insert_content(&fixed, None, &outgoing.body, None)?;
                }
                rewritten.again += u64::from(is_dead_letter || !is_whole);
            }
            (None, Some(outgoing)) => {
                self.clear(id)?;
                self.insert(&fixed, &Standing::new(State::Queued, bytes), id, outgoing.trace.as_ref())?;
                self.insert_content(&fixed, None, &outgoing.body, None)?;
                rewritten.again += 1;
            }
            (None, None) => {
                self.clear(id)?;
                let standing = Standing {
                    reason: Some(LOST.to_owned()),
                    settled_at: Some(now.0),
                    ..Standing::new(State::Dead, bytes)
                };
                self.insert(&fixed, &standing, id, None)?;
                rewritten.lost += 1;
            }
            (Some(_), None) => {}
        }
        Ok(())
    }

    fn holds_body(&self, id: EventId, body: &[u8]) -> Result<bool, Error> {
        let mut statement = self.prepare("SELECT body FROM content WHERE id = ?1")?;
        let mut rows = statement.query([sql(id)])?;
        Ok(rows.next()?.is_some_and(|row| row.get_ref(0).is_ok_and(|held| held.as_blob() == Ok(body))))
    }

    /// Removes an unreadable event.
    fn clear(&self, id: EventId) -> Result<(), Error> {
        self.prepare("DELETE FROM event WHERE id = ?1")?.execute([sql(id)])?;
        self.prepare("DELETE FROM content WHERE id = ?1")?.execute([sql(id)])?;
        Ok(())
    }

    /// Ends an event that is queued in the journal but unknown to the dispatcher: it was settled, and sent now it would
    /// overtake later events; or it was never acknowledged, or belongs to another journal.
    pub fn end_unknown(&mut self, id: EventId, now: WallTime, rewritten: &mut Rewritten) -> Result<(), Error> {
        rewritten.ended += 1;
        self.settle(&Settlement {
            id,
            state: State::Ended,
            outcome: None,
            reason: Some(Reason::Other(END_LOST.into())),
            attempts: 0,
            at: now,
        })?;
        Ok(())
    }
}

impl Journal {
    /// All queued events, in order.
    pub fn queued(&self) -> Result<Vec<EventId>, Error> {
        let mut statement = self
            .connection
            .prepare("SELECT id FROM event WHERE state = 'queued' AND state <> 'delivered' ORDER BY id")?;
        let rows = statement.query_map([], |row| row.get(0).map(event))?;
        Ok(rows.collect::<Result<Vec<EventId>, _>>()?)
    }
}

/// The unchanging part of an event's row, as far as memory has it.
fn fixed_of<'r>(waits: &Pending, source: &'r str, outgoing: Option<&'r Outgoing>, now: WallTime) -> Fixed<'r> {
    Fixed {
        id: waits.event,
        source: outgoing.map_or(source, |outgoing| &outgoing.source),
        action: Some(waits.action.as_str()),
        incident_key: Some(outgoing.map_or("", |outgoing| &outgoing.incident_key)),
        rule: None,
        novelty: None,
        received_at: outgoing.map_or(now, |outgoing| outgoing.acknowledged).0,
        request: "",
        update_hash: None,
        occurrence: None,
        past_occurrence: None,
        replay_of: None,
        charset: None,
        sender_request: None,
        priority: Some(waits.priority).filter(|priority| *priority != Priority::Normal).map(Priority::as_str),
    }
}

const LOST: &str = "lost: another program cut its row off the journal";
const END_LOST: &str = "end_lost";
