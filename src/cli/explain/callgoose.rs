//! Plays the events through Callgoose's filters, as the sandbox evaluates them.

use std::path::Path;

use serde_json::{Value, json};

use crate::advice::filter_verdict::FilterVerdict;
use crate::callgoose::filters::Filters;
use crate::cli::terminal::Terminal;
use crate::cli::{Stop, input};
use crate::rules::{Decision, Element};
use crate::yaml::Findings;

/// The filters, and what they make of each element.
#[derive(Debug)]
pub(super) struct Callgoose {
    /// The filters' file.
    pub(super) name: String,
    filters: Filters,
    /// In the order of the elements; none for what is no event.
    pub(super) sent: Vec<Option<FilterVerdict>>,
}

impl Callgoose {
    /// The filters that were asked for, else those beside the configuration, if there are any that can be used.
    pub(super) fn open(
        asked: Option<&Path>,
        configuration: Option<&Path>,
        terminal: &mut Terminal,
    ) -> Result<Option<Callgoose>, Stop> {
        let Some(source) = input::filters(asked, configuration)? else {
            return Ok(None);
        };
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
            Element::Event(draft) => Some(FilterVerdict::of(draft, &self.filters, from)),
            _ => None,
        });
        self.sent = sent.collect();
        self
    }
}

/// A verdict, for a program.
pub(super) fn to_json(sent: &FilterVerdict) -> Value {
    let matches = sent.matched.services.iter().map(|matched| {
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
        "matched": sent.takes_effect(),
        "matches": matches.collect::<Value>(),
        "misses": if sent.takes_effect() { Vec::new() } else { sent.misses().collect() },
    })
}
