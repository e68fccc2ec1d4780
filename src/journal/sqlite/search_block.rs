//! A block of the search index: the incident keys and titles of neighbouring events, one after another.
//!
//! A search looks through the texts of a block as through one text, and so says no to a thousand events at once. A yes is
//! only a hint: the event is read from the journal and looked at there, so nothing that a block says is ever shown.

use std::ops::RangeInclusive;

use regex::bytes::Regex;
use serde::Deserialize;

use super::sum;
use crate::event::EventId;

/// The texts of the events from `first` to `last`, as they are stored: their number, their ids, the ends of their texts,
/// the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SearchBlock {
    pub(super) first: EventId,
    pub(super) last: EventId,
    /// When the first of the events was received.
    pub(super) since: i64,
    pub(super) data: Vec<u8>,
}

/// A block while events are added, oldest first.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    ids: Vec<EventId>,
    ends: Vec<u32>,
    texts: Vec<u8>,
    since: Option<i64>,
}

/// A block as it is read.
#[derive(Clone, Copy)]
pub(super) struct BlockTexts<'b> {
    ids: &'b [[u8; ID_BYTES]],
    ends: &'b [[u8; END_BYTES]],
    texts: &'b [u8],
}

impl BlockBuilder {
    pub(super) fn last(&self) -> Option<EventId> {
        self.ids.last().copied()
    }

    /// Adds an event, which is newer than those before.
    pub(super) fn add(&mut self, id: EventId, received_at: i64, key: Option<&[u8]>, title: Option<&str>) {
        self.since.get_or_insert(received_at);
        for text in [key, title.map(str::as_bytes)].into_iter().flatten() {
            self.texts.extend_from_slice(text);
            self.texts.push(b'\n');
        }
        self.ids.push(id);
        self.ends.push(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
    }

    /// Returns true if the texts are many enough for a block.
    pub(super) fn is_full(&self) -> bool {
        self.ids.len() >= EVENTS_IN_BLOCK || self.texts.len() >= TEXTS_MAX
    }

    /// The block of all events between these.
    pub(super) fn build(self, first: EventId, last: EventId) -> SearchBlock {
        let count = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        let mut data = Vec::with_capacity(COUNT_BYTES + self.ids.len() * (ID_BYTES + END_BYTES) + self.texts.len());
        data.extend_from_slice(&count.to_le_bytes());
        self.ids.iter().for_each(|id| data.extend_from_slice(&id.0.to_le_bytes()));
        self.ends.iter().for_each(|end| data.extend_from_slice(&end.to_le_bytes()));
        data.extend_from_slice(&self.texts);
        SearchBlock { first, last, since: self.since.unwrap_or(0), data }
    }
}

impl SearchBlock {
    /// The checksum under which it is stored.
    pub(super) fn sum(&self) -> i64 {
        block_sum(self.first, self.last, self.since, &self.data)
    }
}

/// The checksum of a block: over its texts and the events that it stands for.
pub(super) fn block_sum(first: EventId, last: EventId, since: i64, data: &[u8]) -> i64 {
    sum::of_search_block([first.0.cast_signed(), last.0.cast_signed(), since], data)
}

impl<'b> BlockTexts<'b> {
    /// None if the data is none of a block.
    pub(super) fn read(data: &'b [u8]) -> Option<BlockTexts<'b>> {
        let (count, rest) = data.split_first_chunk::<COUNT_BYTES>()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let (ids, rest) = rest.split_at_checked(count.checked_mul(ID_BYTES)?)?;
        let (ends, texts) = rest.split_at_checked(count.checked_mul(END_BYTES)?)?;
        Some(BlockTexts { ids: ids.as_chunks().0, ends: ends.as_chunks().0, texts })
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn ids(&self) -> Vec<EventId> {
        self.ids.iter().map(|id| EventId(u64::from_le_bytes(*id))).collect()
    }

    /// The events before this one whose texts may match, as ranges of neighbours, oldest first.
    pub(super) fn matching(&self, pattern: &Regex, below: EventId) -> Vec<RangeInclusive<EventId>> {
        let end_of = |entry: usize| self.ends.get(entry).map_or(0, |end| u32::from_le_bytes(*end) as usize);
        let (mut ranges, mut at, mut last) = (Vec::<RangeInclusive<EventId>>::new(), 0, None);
        while let Some(found) = self.texts.get(at..).and_then(|_| pattern.find_at(self.texts, at)) {
            let entry = self.ends.partition_point(|end| u32::from_le_bytes(*end) as usize <= found.start());
            let Some(id) = self.id(entry).filter(|id| *id < below) else { break };
            match (ranges.last_mut(), last) {
                (Some(range), Some(last)) if entry <= last + NEIGHBOURS => *range = *range.start()..=id,
                _ => ranges.push(id..=id),
            }
            last = Some(entry);
            at = end_of(entry).max(at + 1);
        }
        ranges
    }

    /// A builder with those of the events that are kept.
    pub(super) fn kept(&self, since: i64, is_kept: impl Fn(EventId) -> bool) -> BlockBuilder {
        let mut builder = BlockBuilder { since: Some(since), ..BlockBuilder::default() };
        let mut start = 0;
        for (entry, end) in self.ends.iter().enumerate() {
            let end = u32::from_le_bytes(*end) as usize;
            if let Some(id) = self.id(entry).filter(|id| is_kept(*id)) {
                builder.ids.push(id);
                builder.texts.extend_from_slice(self.texts.get(start..end).unwrap_or_default());
                builder.ends.push(u32::try_from(builder.texts.len()).unwrap_or(u32::MAX));
            }
            start = end;
        }
        builder
    }

    fn id(&self, entry: usize) -> Option<EventId> {
        self.ids.get(entry).map(|id| EventId(u64::from_le_bytes(*id)))
    }
}

/// The title of what is sent, as far as it is searched: the member `title`, if it is a text.
pub(super) fn title_of(body: &[u8]) -> Option<String> {
    let Titled { title } = serde_json::from_slice(body).ok()?;
    let mut title = title?;
    let end = (0..=TITLE_BYTES_MAX.min(title.len())).rev().find(|at| title.is_char_boundary(*at));
    title.truncate(end.unwrap_or(0));
    Some(title)
}

#[derive(Deserialize)]
struct Titled {
    #[serde(default)]
    title: Option<String>,
}

/// Few enough that those which are newer than the newest block are searched within some milliseconds.
pub(super) const EVENTS_IN_BLOCK: usize = 1_000;
/// Of long keys and titles a block holds fewer: each is read whole.
const TEXTS_MAX: usize = 256 * 1024;
/// Longer than any title that a person reads.
const TITLE_BYTES_MAX: usize = 1024;
/// Matches with no more than so many others between them are read as one range.
const NEIGHBOURS: usize = 8;
const COUNT_BYTES: usize = 4;
const ID_BYTES: usize = 8;
const END_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn block(texts: &[(&str, &str)]) -> SearchBlock {
        let mut builder = BlockBuilder::default();
        for (id, (key, title)) in (10..).zip(texts) {
            builder.add(EventId(id), 7, Some(key.as_bytes()), Some(title));
        }
        let last = builder.last().unwrap();
        builder.build(EventId(1), last)
    }

    fn found(block: &SearchBlock, text: &str, below: u64) -> Vec<RangeInclusive<u64>> {
        let pattern = regex::bytes::RegexBuilder::new(&regex::escape(text)).case_insensitive(true).build().unwrap();
        let ranges = BlockTexts::read(&block.data).unwrap().matching(&pattern, EventId(below));
        ranges.iter().map(|range| range.start().0..=range.end().0).collect()
    }

    #[test]
    fn matches_are_found_with_their_events_and_far_ones_apart() {
        let texts: Vec<_> = (0..40).map(|n| if n % 20 == 3 { ("db/disk", "Disk FULL") } else { ("k", "") }).collect();
        let block = block(&texts);
        assert_eq!(found(&block, "disk", u64::MAX), [13..=13, 33..=33]);
        assert_eq!(found(&block, "full", 33), [13..=13]);
        assert_eq!(found(&block, "k", u64::MAX), [10..=49], "neighbours are one range");
        assert_eq!(found(&block, "nowhere", u64::MAX), []);
    }

    #[test]
    fn what_is_kept_stays_searchable_and_data_that_is_none_is_no_block() {
        let block = block(&[("a", "x"), ("b", "y"), ("c", "z")]);
        let texts = BlockTexts::read(&block.data).unwrap();
        assert_eq!(texts.ids(), [10, 11, 12].map(EventId));
        let kept = texts.kept(block.since, |id| id != EventId(11)).build(block.first, block.last);
        assert_eq!(found(&kept, "y", u64::MAX), []);
        assert_eq!(found(&kept, "z", u64::MAX), [12..=12]);
        for cut in 0..16 {
            assert!(BlockTexts::read(&block.data[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn the_title_is_the_member_of_that_name_and_shortened() {
        for (body, title) in [
            (r#"{"title":"Disk full","x":{"title":"no"}}"#, Some("Disk full")),
            (r#"{"title":"Z\u00fcrich"}"#, Some("Zürich")),
            (r#"{"title":7}"#, None),
            (r#"{"x":{"title":"no"}}"#, None),
            ("[]", None),
            ("not json", None),
        ] {
            assert_eq!(title_of(body.as_bytes()).as_deref(), title, "{body}");
        }
        let long = format!(r#"{{"title":"x{}"}}"#, "é".repeat(1_000));
        assert_eq!(title_of(long.as_bytes()).unwrap().len(), 1023);
    }
}
