//! Shortage of disk space: keeps enough room to deliver everything that is queued.
//!
//! History makes room first, in the batch that needs it; then refused payloads; then new events are refused until there
//! is some headroom again. Deliveries, settlements and removals always go on.

use std::time::{Duration, Instant};

use crate::event::KeyId;
use crate::journal::dedup::Dedup;
use crate::journal::{self, Batch, Space};

/// The space on the volume, as the last batch found it.
#[derive(Debug)]
pub(super) struct Shortage {
    pub(super) space: Space,
    /// True while new events are refused: until there is headroom, so that they are not taken and refused in turn.
    pub(super) refusing: bool,
    /// When to try again to take the reserve.
    pub(super) reserve_at: Instant,
    /// Finished events from which something was removed in this search.
    found: usize,
    /// Nothing was left to remove; search again at this time.
    search_at: Instant,
}

impl Shortage {
    pub(super) fn new(space: Space) -> Shortage {
        let now = Instant::now();
        Shortage { space, refusing: !space.takes(0), reserve_at: now, found: 0, search_at: now }
    }

    /// Checks the space, and prunes history if there is little. `events`: the number of new events that this batch may
    /// bring. Returns true if anything was removed.
    pub(super) fn make_room(
        &mut self,
        batch: &mut Batch<'_>,
        dedup: &mut Dedup,
        events: usize,
    ) -> Result<bool, journal::Error> {
        self.space = batch.space()?;
        let mut removed = 0;
        if self.space.wants_removal() && Instant::now() >= self.search_at {
            // Twice as many as arrive, to get ahead of them.
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

    /// Starts or ends the refusal of new events by the space.
    pub(super) fn look(&mut self, space: Space) {
        self.space = space;
        self.refusing = if self.refusing { space.is_short() } else { !space.takes(0) };
    }

    /// Ends a search through all finished events. If nothing was removed, refused payloads go next, and then, if they
    /// take much room, the states of the oldest keys.
    fn searched_all(&mut self, batch: &mut Batch<'_>, dedup: &mut Dedup) -> Result<usize, journal::Error> {
        if std::mem::take(&mut self.found) > 0 {
            return Ok(0);
        }
        let most = self.space.removed_at_once();
        let mut removed = batch.drop_refused(most)?;
        if removed == 0 && self.space.is_much(batch.key_states().bytes) {
            removed = dedup.evict_oldest(batch.key_states().until, 10 * most);
            for last in dedup.take_evicted() {
                batch.drop_key_state(last)?;
            }
        }
        if removed == 0 {
            self.search_at = Instant::now() + SEARCH_PAUSE;
        }
        Ok(removed)
    }
}

/// The pause between two batches that only remove.
pub(super) const REMOVAL_PAUSE: Duration = Duration::from_millis(5);
/// The interval at which the space is checked while no events arrive.
pub(super) const ROOM_INTERVAL: Duration = Duration::from_millis(500);
/// Rounds of pruning in one batch: rounds that pass over a backlog find nothing.
const SEARCHES_AT_ONCE: usize = 10;
/// The pause after a search that found nothing. Deliveries go on meanwhile, and leave more to remove.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);
