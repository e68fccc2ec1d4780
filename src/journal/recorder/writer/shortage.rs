//! Short of room: what the writer does before the volume is full, so that what is queued can always be delivered.
//!
//! First history makes room, within the same batch that needs it; then refused payloads do; then new events are refused
//! until there is some room ahead of them again. Deliveries, their ends and whatever removes something always go on.

use std::time::{Duration, Instant};

use crate::event::KeyId;
use crate::journal::dedup::Dedup;
use crate::journal::{self, AttemptRecord, Batch, Space};

/// How it stands with the room on the volume, as the last batch found it.
#[derive(Debug)]
pub(super) struct Shortage {
    pub(super) space: Space,
    /// New events are refused, until there is room ahead of them, so that they are not taken and refused in turn.
    pub(super) refusing: bool,
    /// When to try next to take the reserve, if there is room for it.
    pub(super) reserve_at: Instant,
    /// Finished events of which something was removed since the search began anew.
    found: usize,
    /// There was nothing more to remove; ends make more of it.
    search_at: Instant,
}

impl Shortage {
    pub(super) fn new(space: Space) -> Shortage {
        let now = Instant::now();
        Shortage { space, refusing: !space.takes(0), reserve_at: now, found: 0, search_at: now }
    }

    /// Looks at the room, and lets history make some if there is little. `events`: so many new ones may come with this
    /// batch. Returns whether anything was removed.
    pub(super) fn make_room(
        &mut self,
        batch: &mut Batch<'_>,
        dedup: &mut Dedup,
        events: usize,
    ) -> Result<bool, journal::Error> {
        self.space = batch.space()?;
        let mut removed = 0;
        if self.space.wants_removal() && Instant::now() >= self.search_at {
            // Twice as many as come, so that it gets ahead of them.
            let wanted = self.space.removed_at_once().max(2 * events);
            for _ in 0..SEARCHES_AT_ONCE {
                let pruned = batch
                    .prune(None, wanted - removed, |id, source, key| dedup.rests_on(KeyId::new(source, key), id))?;
                removed += pruned.events;
                self.found += pruned.events;
                if !pruned.more {
                    removed += self.searched_all(batch, dedup)?;
                    break;
                }
                if removed >= wanted {
                    break;
                }
            }
            self.space = batch.space()?;
        }
        self.look(self.space);
        Ok(removed > 0)
    }

    /// Refuses new events where there is no room for any, until there is some ahead of them.
    pub(super) fn look(&mut self, space: Space) {
        self.space = space;
        self.refusing = if self.refusing { space.is_short() } else { !space.takes(0) };
    }

    /// Every finished event was looked at: if there was none to remove, refused payloads are next, and then what is known
    /// of the keys that were taken longest ago, where that is much.
    fn searched_all(&mut self, batch: &mut Batch<'_>, dedup: &mut Dedup) -> Result<usize, journal::Error> {
        if std::mem::take(&mut self.found) > 0 {
            return Ok(0);
        }
        let most = self.space.removed_at_once();
        let mut removed = batch.drop_refused(most)?;
        if removed == 0 && self.space.is_much(batch.key_states().bytes) {
            removed = dedup.forget_oldest(batch.key_states().until, 10 * most);
            for last in dedup.take_forgotten() {
                batch.drop_key_state(last)?;
            }
        }
        if removed == 0 {
            self.search_at = Instant::now() + SEARCH_PAUSE;
        }
        Ok(removed)
    }
}

/// What is kept of a call while there is little room: that it was made and what came of it.
pub(super) fn shortened(attempt: &AttemptRecord) -> AttemptRecord {
    let detail = attempt.detail.as_ref().map(|text| text.chars().take(DETAIL_CHARACTERS_KEPT).collect());
    let answer = attempt.answer[..attempt.answer.len().min(ANSWER_BYTES_KEPT)].to_vec();
    AttemptRecord { detail, answer, ..attempt.clone() }
}

/// Between two batches that only remove.
pub(super) const REMOVAL_PAUSE: Duration = Duration::from_millis(5);
/// How often it is looked whether there is room again, while senders are silent.
pub(super) const ROOM_INTERVAL: Duration = Duration::from_millis(500);
/// Rounds of pruning in one batch: those that pass over a backlog find nothing.
const SEARCHES_AT_ONCE: usize = 10;
/// After a search that found nothing. Deliveries go on meanwhile, and what they leave is found by the next.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);
/// Both as counted in the room that is kept for the end of each event that is queued.
const DETAIL_CHARACTERS_KEPT: usize = 40;
const ANSWER_BYTES_KEPT: usize = 80;
