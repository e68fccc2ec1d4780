//! The rules in force, by source, exchanged by a reload while requests are under way.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::rules::RuleSet;

/// The rules of each source by its name.
pub type RulesBySource = HashMap<Arc<str>, SourceRules>;

/// What decides the payloads of a source.
#[derive(Clone, Debug)]
pub struct SourceRules {
    pub live: Arc<RuleSet>,
    /// What is tried beside them, and decides nothing.
    pub shadow: Option<Arc<RuleSet>>,
}

/// Exchanged as a whole, so that no two sources are ever decided by rules of different readings. The lock is held for
/// the copy of a pointer, never while anything is decided or waited for.
#[derive(Debug)]
pub(super) struct CurrentRules(RwLock<RulesBySource>);

impl CurrentRules {
    pub(super) fn new(rules: RulesBySource) -> CurrentRules {
        CurrentRules(RwLock::new(rules))
    }

    /// Those of one source as they are now. Whoever holds them goes on with them, whatever is exchanged meanwhile.
    pub(super) fn of(&self, source: &str) -> Option<SourceRules> {
        // What is in it is only ever exchanged whole, so that a panic can't have left it half done.
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    /// Exchanges the rules of the sources that there are; what `rules` has of others is left out, and a source that it
    /// lacks keeps its own.
    pub(super) fn exchange(&self, mut rules: RulesBySource) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (name, current) in current.iter_mut() {
            if let Some(new) = rules.get_mut(name) {
                std::mem::swap(current, new);
            }
        }
        drop(current);
        // Thousands of old rules are given up only now, when nobody waits for the lock; those that a request still holds
        // go with it.
        drop(rules);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Findings, Source};

    fn rules() -> Arc<RuleSet> {
        let text = "version: 1\nrules: [{ name: a, then: ignore }]".to_owned();
        let source = Arc::new(Source::new("rules.yaml".into(), text));
        Arc::new(RuleSet::compile(&source, &mut Findings::new()).unwrap())
    }

    fn by_source(names: &[&str]) -> RulesBySource {
        names.iter().map(|name| (Arc::from(*name), SourceRules { live: rules(), shadow: Some(rules()) })).collect()
    }

    #[test]
    fn only_sources_that_there_are_change_and_what_was_loaded_before_stays() {
        let current = CurrentRules::new(by_source(&["a", "b"]));
        let [a, b] = ["a", "b"].map(|name| current.of(name).unwrap());
        let new = by_source(&["a", "c"]);
        let expected = new["a"].clone();
        current.exchange(new);
        let after = current.of("a").unwrap();
        let same = |one: &SourceRules, other: &SourceRules| {
            let shadows = one.shadow.as_ref().zip(other.shadow.as_ref());
            Arc::ptr_eq(&one.live, &other.live) && shadows.is_some_and(|(one, other)| Arc::ptr_eq(one, other))
        };
        assert!(same(&after, &expected) && !same(&a, &expected));
        assert!(same(&current.of("b").unwrap(), &b), "a source that was not named keeps its rules");
        assert!(current.of("c").is_none(), "a source that nobody can post to gets none");
    }
}
