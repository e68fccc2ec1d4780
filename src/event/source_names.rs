//! Numbers for source names: two bytes for each of a million waiting events, instead of a text.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The number of a source in [`SourceNames`], valid within one run of the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u16);

/// All sources with events since the start or in the journal, including those no longer configured.
#[derive(Debug, Default)]
pub struct SourceNames(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    ids: HashMap<Arc<str>, SourceId>,
    names: Vec<Arc<str>>,
}

impl SourceNames {
    /// The number of a name, assigned at its first use.
    pub fn id(&self, name: &str) -> SourceId {
        self.find(name).unwrap_or_else(|| self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name))
    }

    /// The number of a name, if it has one.
    pub fn find(&self, name: &str) -> Option<SourceId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).ids.get(name).copied()
    }

    /// The name of a number.
    pub fn name(&self, id: SourceId) -> Arc<str> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.names.get(usize::from(id.0)).map_or_else(|| Arc::from(OTHERS), Arc::clone)
    }
}

impl Table {
    fn insert(&mut self, name: &str) -> SourceId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        // The last number is shared by all further sources.
        let Some(id) = u16::try_from(self.names.len()).ok().filter(|id| *id < u16::MAX).map(SourceId) else {
            return SourceId(u16::MAX);
        };
        let name: Arc<str> = Arc::from(name);
        self.names.push(Arc::clone(&name));
        self.ids.insert(name, id);
        id
    }
}

/// The name of all sources beyond the numbers: the journal outlives many configurations.
const OTHERS: &str = "(others)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_a_number_its_name() {
        let names = SourceNames::default();
        assert_eq!(names.find("a"), None);
        let (first, second) = (names.id("a"), names.id("b"));
        assert_eq!(names.find("b"), Some(second));
        assert_ne!(first, second);
        assert_eq!((names.id("a"), names.id("b")), (first, second));
        assert_eq!((&*names.name(first), &*names.name(second)), ("a", "b"));
    }

    #[test]
    fn sources_beyond_the_numbers_share_one() {
        let names = SourceNames::default();
        let ids: Vec<SourceId> = (0..=u32::from(u16::MAX) + 1).map(|number| names.id(&number.to_string())).collect();
        assert_eq!((ids[0], &*names.name(ids[0])), (SourceId(0), "0"));
        assert_eq!(&*names.name(SourceId(u16::MAX - 1)), "65534");
        assert_eq!(ids[65_535..], [SourceId(u16::MAX); 2]);
        assert_eq!(&*names.name(SourceId(u16::MAX)), OTHERS);
    }
}
