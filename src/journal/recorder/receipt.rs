//! Receipts: proof for each entry of a submission that it is on disk.

use super::PendingSettlement;
use crate::event::EventId;
use crate::journal::request::{Entry, Unavailable};

/// Proves that an entry is on disk. Only the recorder makes one, and hands it out after the commit.
#[derive(Debug)]
pub struct Receipt {
    /// The event or refused payload that was written; for a duplicate, the event that it repeats.
    pub(super) id: EventId,
    pub(super) duplicate: bool,
    /// Present if the submission waits for settlements and the entry is an event.
    pub(super) pending_settlement: Option<PendingSettlement>,
}

/// An entry of a submission with its receipt.
#[derive(Debug)]
pub struct Recorded {
    pub entry: Entry,
    pub receipt: Receipt,
}

impl Receipt {
    pub fn id(&self) -> EventId {
        self.id
    }

    /// True if nothing was written: [`Receipt::id`] is the event that was known already.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }

    #[cfg(test)]
    pub(crate) fn for_test(id: EventId, duplicate: bool) -> Receipt {
        Receipt { id, duplicate, pending_settlement: None }
    }

    /// A handle to wait for the settlement; present if the submission asked for it.
    pub fn into_pending_settlement(self) -> Option<PendingSettlement> {
        self.pending_settlement
    }
}

impl Recorded {
    /// Pairs each entry with its receipt, in order. A different number of receipts is a fault of the journal: the
    /// sender must not believe that its entries are kept.
    pub(super) fn pair(entries: Vec<Entry>, receipts: Vec<Receipt>) -> Result<Vec<Recorded>, Unavailable> {
        if entries.len() != receipts.len() {
            tracing::error!(entries = entries.len(), receipts = receipts.len(), "entries and receipts don't match");
            return Err(Unavailable::JournalFault);
        }
        Ok(entries.into_iter().zip(receipts).map(|(entry, receipt)| Recorded { entry, receipt }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(reason: &'static str) -> Entry {
        Entry::Refused { element: None, reason, violations: Vec::new() }
    }

    fn receipt(id: u64) -> Receipt {
        Receipt::for_test(EventId(id), false)
    }

    #[test]
    fn each_entry_comes_back_with_its_own_receipt() {
        let recorded = Recorded::pair(vec![entry("a"), entry("b")], vec![receipt(1), receipt(2)]).unwrap();
        let seen = recorded.iter().map(|Recorded { entry, receipt }| match entry {
            Entry::Refused { reason, .. } => (*reason, receipt.id()),
            Entry::Event { .. } => panic!("{entry:?}"),
        });
        assert_eq!(seen.collect::<Vec<_>>(), [("a", EventId(1)), ("b", EventId(2))]);
    }

    #[test]
    fn nothing_is_acknowledged_where_entries_and_receipts_do_not_match() {
        for (entries, receipts) in [(2, 1), (1, 0), (0, 1), (1, 2)] {
            let entries = (0..entries).map(|_| entry("a")).collect();
            let paired = Recorded::pair(entries, (0..receipts).map(receipt).collect());
            assert_eq!(paired.unwrap_err(), Unavailable::JournalFault);
        }
    }
}
