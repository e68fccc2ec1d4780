//! Whether what rules make could ever match, told without a payload.

use std::fmt;

use super::{Filters, KeyFilter, Service, text_of};
use crate::event::Action;
use crate::rules::{Known, Outline};

/// A *Payload JSON Key* with items, and where it stands in its file.
#[derive(Clone, Copy, Debug)]
pub struct FilterKey<'f> {
    pub key: &'f str,
    pub action: Action,
    pub service: usize,
    /// None for the resolve filter.
    pub trigger: Option<usize>,
    /// Which of the filter's keys.
    pub index: usize,
}

/// Why a filter can't match the events of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Never<'f> {
    service: &'f str,
    trigger: Option<usize>,
    key: &'f str,
    item: &'f str,
    /// What the rule sends there; none where it does not send the key.
    sends: Option<Vec<String>>,
}

impl Filters {
    /// Why no filter can match the events of this rule, a reason for each filter; none if one might.
    pub fn never(&self, outline: &Outline) -> Option<Vec<Never<'_>>> {
        let mut reasons = Vec::new();
        for (service, trigger, keys) in self.filters(outline.action) {
            let excluded = keys.iter().find_map(|key| excluded(key, outline));
            let (key, item, sends) = excluded?;
            reasons.push(Never { service: &self.services[service].name, trigger, key, item, sends });
        }
        Some(reasons)
    }

    /// Every key that some item is compared with.
    pub fn compared(&self) -> Vec<FilterKey<'_>> {
        let mut compared = Vec::new();
        for action in [Action::Trigger, Action::Resolve] {
            for (service, trigger, keys) in self.filters(action) {
                let keys = keys.iter().enumerate();
                compared.extend(keys.map(|(index, key)| FilterKey { key: &key.key, action, service, trigger, index }));
            }
        }
        compared
    }

    /// Every key of a body that is read for anything; none where some incident is described by the whole body.
    pub fn reads(&self) -> Option<Vec<&str>> {
        let described = |service: &Service| service.triggers.iter().all(|trigger| trigger.description_from.is_some());
        if !self.services.iter().all(described) {
            return None;
        }
        let mut reads: Vec<&str> = self.compared().iter().map(|key| key.key).collect();
        for service in &self.services {
            for trigger in &service.triggers {
                let named = [&trigger.title_from, &trigger.description_from, &trigger.map_incident_with];
                reads.extend(named.into_iter().flatten().map(String::as_str));
            }
            reads.extend(service.resolve.iter().map(|resolve| resolve.incident_mapped_with.as_str()));
        }
        Some(reads)
    }

    /// The filters for an action: the service, which of its trigger filters, and the keys.
    fn filters(&self, action: Action) -> impl Iterator<Item = (usize, Option<usize>, &[KeyFilter])> {
        self.services.iter().enumerate().flat_map(move |(index, service)| {
            let (triggers, resolve) = match action {
                Action::Trigger => (service.triggers.as_slice(), None),
                Action::Resolve => (&[][..], service.resolve.as_ref()),
            };
            let triggers = triggers.iter().enumerate();
            let triggers = triggers.map(move |(number, trigger)| (index, Some(number), trigger.keys.as_slice()));
            triggers.chain(resolve.map(|resolve| (index, None, resolve.keys.as_slice())))
        })
    }
}

/// The item that can't be contained in what a rule sends, and what that is.
fn excluded<'f>(filter: &'f KeyFilter, outline: &Outline) -> Option<(&'f str, &'f str, Option<Vec<String>>)> {
    let first = filter.contains.first()?;
    match outline.keys.get(&filter.key) {
        None if outline.open => None,
        None => Some((&filter.key, first, None)),
        Some(Known::Anything) => None,
        Some(Known::OneOf(values)) => {
            let texts: Vec<String> = values.iter().filter_map(text_of).collect();
            // All items must be in one and the same text.
            let missing = |text: &String| filter.contains.iter().find(|item| !text.contains(*item));
            let lacking: Option<Vec<&String>> = texts.iter().map(missing).collect();
            lacking
                .map(|lacking| (filter.key.as_str(), lacking.first().map_or(first, |item| *item).as_str(), Some(texts)))
        }
    }
}

impl fmt::Display for Never<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Never { service, key, item, .. } = self;
        match self.trigger {
            Some(filter) => write!(f, "service {service}, trigger filter {}: ", filter + 1)?,
            None => write!(f, "service {service}, resolve filter: ")?,
        }
        match self.sends.as_deref() {
            None => write!(f, "`{key}` is not among the keys that it sends"),
            Some([]) => write!(f, "`{key}` has no text that could contain {item:?}"),
            Some([one]) => write!(f, "`{key}` is always {one:?}, which does not contain {item:?}"),
            Some(several) => write!(f, "`{key}` is one of {}, and none contains {item:?}", several.join(", ")),
        }
    }
}
