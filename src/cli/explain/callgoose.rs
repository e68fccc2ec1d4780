//! Plays the events through Callgoose's filters, as the sandbox evaluates them.

use std::path::Path;

use serde_json::{Value, json};

use crate::callgoose::filters::{Filters, Match};
use crate::cli::terminal::Terminal;
use crate::cli::{FILTERS_BESIDE, Stop};
use crate::config::read_source;
use crate::event::Action;
use crate::rules::{Decision, Element};
use crate::yaml::Findings;

/// The filters, and what they make of each element.
#[derive(Debug)]
pub(super) struct Callgoose {
    /// The filters' file.
    pub(super) name: String,
    filters: Filters,
    /// In the order of the elements; none for what is no event.
    pub(super) sent: Vec<Option<Sent>>,
}

/// The filters' verdict on one event.
#[derive(Debug)]
pub(super) struct Sent {
    action: Action,
    matched: Match,
}

impl Callgoose {
    /// The filters that were asked for, else those beside the configuration, if there are any that can be used.
    pub(super) fn open(
        asked: Option<&Path>,
        configuration: Option<&Path>,
        terminal: &mut Terminal,
    ) -> Result<Option<Callgoose>, Stop> {
        let beside = || {
            configuration.map(|path| path.with_file_name(FILTERS_BESIDE)).filter(|path| path.symlink_metadata().is_ok())
        };
        let Some(path) = asked.map(Path::to_owned).or_else(beside) else {
            return Ok(None);
        };
        let source = read_source(&path)?;
        let mut findings = Findings::new();
        let Some(filters) = Filters::read(&source, &mut findings) else {
            return Err(Stop::Invalid(findings));
        };
        terminal.say_findings(&findings);
        Ok(Some(Callgoose { name: source.name.clone(), filters, sent: Vec::new() }))
    }

    /// Evaluates every event; `from` is put before the titles.
    pub(super) fn asked(mut self, decision: &Decision, from: Option<&str>) -> Callgoose {
        let sent = decision.elements.iter().map(|element| match element {
            Element::Event(draft) => {
                Some(Sent { action: draft.action, matched: self.filters.evaluate(&draft.body.value(), from) })
            }
            _ => None,
        });
        self.sent = sent.collect();
        self
    }
}

impl Sent {
    /// A trigger opens an incident there, a resolve closes one.
    pub(super) fn takes_effect(&self) -> bool {
        match self.action {
            Action::Trigger => self.matched.opens(),
            Action::Resolve => self.matched.closes(),
        }
    }

    /// A line for each service on what it does there, or that it does nothing.
    pub(super) fn said(&self) -> Vec<String> {
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
    pub(super) fn details(&self) -> Vec<String> {
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
    fn misses(&self) -> impl Iterator<Item = String> {
        let misses = self.matched.misses.iter();
        let trigger = self.action == Action::Trigger;
        misses.filter(move |miss| miss.trigger_filter.is_some() == trigger).map(ToString::to_string)
    }

    pub(super) fn to_json(&self) -> Value {
        let matches = self.matched.services.iter().map(|matched| {
            let opens = matched.trigger.as_ref().map(|opening| {
                json!({
                    "filter": opening.filter,
                    "urgency": &*opening.urgency,
                    "title": opening.title,
                    "mapped_with": opening.key,
                })
            });
            let closes = matched.resolve.as_ref().map(|closing| json!({ "mapped_with": closing.key }));
            json!({ "service": &*matched.service, "opens": opens, "closes": closes })
        });
        json!({
            "matched": self.takes_effect(),
            "matches": matches.collect::<Value>(),
            "misses": if self.takes_effect() { Vec::new() } else { self.misses().collect() },
        })
    }
}
