//! Feeds the search index from the journal, a block at a time, and removes from it what is pruned.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension;

use super::search_block::{BlockBuilder, BlockTexts, EVENTS_IN_BLOCK, SearchBlock, title_of};
use super::search_index::SearchIndex;
use super::values::{event, sql};
use super::{Error, Reader};
use crate::event::EventId;

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// A block was written: there may be more to read.
    Block,
    /// All but the newest events are in the index.
    UpToDate,
    /// The volume is short of room.
    NoRoom,
}

impl Reader {
    /// Opens the search index of this journal. Called before new events are taken.
    pub fn search_index(&self) -> Result<Option<SearchIndex>, Error> {
        let Some(directory) = self.directory() else {
            return Ok(None);
        };
        let newest = self.newest()?;
        let journal: Option<i64> = self.with(|connection| {
            let identity = "SELECT value FROM meta WHERE name = 'identity'";
            connection.prepare_cached(identity)?.query_row([], |row| row.get(0)).optional()
        })?;
        Ok(journal.map(|journal| SearchIndex::open(directory, journal, newest)))
    }

    /// Adds the next block to the index, as soon as there are enough events for one.
    pub fn feed(&self, index: &SearchIndex) -> Result<Fed, Error> {
        if index.has_room() { self.grow(index) } else { Ok(Fed::NoRoom) }
    }

    fn grow(&self, index: &SearchIndex) -> Result<Fed, Error> {
        match self.block_after(index.reach())? {
            Some(block) => {
                index.write(&block);
                Ok(Fed::Block)
            }
            None => Ok(Fed::UpToDate),
        }
    }

    /// Removes from the block after this event what is not in the journal any more. Returns the last event of the block;
    /// none if there is no such block.
    pub fn sweep(&self, index: &SearchIndex, after: EventId) -> Result<Option<EventId>, Error> {
        let Some((first, last, all)) = index.after(after, |block| {
            (block.first, block.last, BlockTexts::read(block.data).map_or(0, |texts| texts.len()))
        }) else {
            return Ok(None);
        };
        let kept: BTreeSet<EventId> = self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT id FROM event WHERE id BETWEEN ?1 AND ?2")?;
            statement.query_map([sql(first), sql(last)], |row| row.get(0).map(event))?.collect()
        })?;
        if kept.is_empty() {
            index.drop_block(last);
        } else if kept.len() <= all / 2 {
            let block = index.after(after, |block| {
                let texts = BlockTexts::read(block.data)?;
                Some(texts.kept(block.since, |id| kept.contains(&id)).build(block.first, block.last))
            });
            if let Some(block) = block.flatten() {
                index.write(&block);
            }
        }
        Ok(Some(last))
    }

    /// The texts of the next events; none if they are too few for a block.
    fn block_after(&self, reach: EventId) -> Result<Option<SearchBlock>, Error> {
        let builder = self.with(|connection| {
            // The numbers alone first: else what is too few would be read again with each commit.
            let mut enough =
                connection.prepare_cached("SELECT id FROM event WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2")?;
            if !enough.exists([sql(reach), EVENTS_IN_BLOCK as i64 - 1])? {
                return Ok(BlockBuilder::default());
            }
            let mut statement = connection.prepare_cached(
                "SELECT event.id, event.received_at, event.incident_key, content.body FROM event \
                 LEFT JOIN content ON content.id = event.id AND event.action IS NOT NULL \
                 WHERE event.id > ?1 ORDER BY event.id LIMIT ?2",
            )?;
            let mut rows = statement.query([sql(reach), EVENTS_IN_BLOCK as i64])?;
            let mut builder = BlockBuilder::default();
            while !builder.is_full()
                && let Some(row) = rows.next()?
            {
                let key = row.get_ref(2)?.as_bytes_or_null().unwrap_or_default();
                let title = row.get_ref(3)?.as_bytes_or_null().unwrap_or_default().and_then(title_of);
                builder.add(event(row.get(0)?), row.get(1).unwrap_or(0), key, title.as_deref());
            }
            Ok(builder)
        })?;
        let last = builder.last().filter(|_| builder.is_full());
        Ok(last.map(|last| builder.build(EventId(reach.0 + 1), last)))
    }
}

#[cfg(test)]
mod tests;
