//! The rules in force, by source, exchanged by a reload while requests are under way.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::rules::RuleSet;

/// The rules of each source by its name.
pub type RulesBySource = HashMap<Arc<str>, SourceRules>;

/// The rules of a source.
#[derive(Clone, Debug)]
pub struct SourceRules {
    pub live: Arc<RuleSet>,
    /// Rules that are tried beside them and decide nothing.
    pub shadow: Option<Arc<RuleSet>>,
}

/// The rules of all sources, exchanged as a whole: no two sources are ever decided by rules of different reloads.
#[derive(Debug)]
pub(super) struct LoadedRules(ArcSwap<RulesBySource>);

impl LoadedRules {
    pub(super) fn new(rules: RulesBySource) -> LoadedRules {
        LoadedRules(ArcSwap::from_pointee(rules))
    }

    /// The rules of one source as they are now. Their holder goes on with them, whatever is exchanged meanwhile.
    pub(super) fn of(&self, source: &str) -> Option<SourceRules> {
        self.0.load().get(source).cloned()
    }

    /// Exchanges the rules of the sources that are served: those that `rules` has besides are left out, and a source that
    /// it lacks keeps its own.
    pub(super) fn exchange(&self, rules: &RulesBySource) {
        self.0.rcu(|current| -> RulesBySource {
            current.iter().map(|(name, old)| (Arc::clone(name), rules.get(name).unwrap_or(old).clone())).collect()
        });
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
        let current = LoadedRules::new(by_source(&["a", "b"]));
        let [a, b] = ["a", "b"].map(|name| current.of(name).unwrap());
        let new = by_source(&["a", "c"]);
        let expected = new["a"].clone();
        current.exchange(&new);
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
