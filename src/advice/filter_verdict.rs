//! The verdict of Callgoose's filters on an event, in sentences.

use crate::callgoose::filters::{Filters, Match};
use crate::event::{Action, Draft};

/// The filters' verdict on one event.
#[derive(Debug)]
pub(crate) struct FilterVerdict {
    action: Action,
    pub(crate) matched: Match,
}

impl FilterVerdict {
    /// Evaluates an event; `from` is put before its title.
    pub(crate) fn of(draft: &Draft, filters: &Filters, from: Option<&str>) -> FilterVerdict {
        FilterVerdict { action: draft.action, matched: filters.evaluate(&draft.body.value(), from) }
    }

    /// A trigger opens an incident there, a resolve closes one.
    pub(crate) fn takes_effect(&self) -> bool {
        match self.action {
            Action::Trigger => self.matched.opens(),
            Action::Resolve => self.matched.closes(),
        }
    }

    /// A line for each service on what it does there, or that it does nothing.
    pub(crate) fn said(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for matched in &self.matched.services {
            let service = &matched.service;
            if let Some(opening) = &matched.trigger {
                let (filter, urgency) = (opening.filter, &opening.urgency);
                lines.push(format!("service {service}: trigger filter {filter} opens an incident, urgency {urgency}"));
            }
            if let Some(closing) = &matched.resolve {
                lines.push(match &closing.key {
                    Some(key) => {
                        format!("service {service}: the resolve filter closes the incident mapped with {key:?}")
                    }
                    None => format!("service {service}: the resolve filter matches and closes nothing"),
                });
            }
        }
        if !self.takes_effect() {
            lines.push(match self.action {
                Action::Trigger => "no trigger filter matches: nobody would be alerted".to_owned(),
                Action::Resolve => "no resolve filter matches: no incident would be closed".to_owned(),
            });
        }
        lines
    }

    /// The incident's title and key; what kept the filters from matching, or a later resolve from finding it.
    pub(crate) fn details(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for matched in &self.matched.services {
            if let Some(opening) = &matched.trigger {
                lines.push(format!("title        {}", opening.title));
                lines.push(match &opening.key {
                    Some(key) => format!("mapped with  {key}"),
                    None => "mapped with  nothing: no resolve will find this incident".to_owned(),
                });
            }
            if matched.resolve.as_ref().is_some_and(|closing| closing.key.is_none()) {
                lines.push("the value that the incident is mapped with is missing, blank or no text".to_owned());
            }
        }
        if !self.takes_effect() {
            lines.extend(self.misses());
        }
        lines
    }

    /// The reasons why the filters for its action did not match.
    pub(crate) fn misses(&self) -> impl Iterator<Item = String> {
        let misses = self.matched.misses.iter();
        let trigger = self.action == Action::Trigger;
        misses.filter(move |miss| miss.trigger_filter.is_some() == trigger).map(ToString::to_string)
    }
}
