//! The recorded past through changed rules: what would have been decided otherwise.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::progress::Progress;
use super::selection::Selection;
use super::{difference, heading};
use crate::cli::admin_client::Relay;
use crate::cli::recorded::Recorded;
use crate::cli::terminal::{Terminal, plain, table};
use crate::cli::{ConfigArguments, Exit, Stop, input};
use crate::config::{Inputs, LoadedRules, Secrets, load_rules, load_source_names};
use crate::event::Draft;
use crate::inbound::Accept;
use crate::rules::diff::{Difference, element_differences, event_differences};
use crate::rules::{Context, Decision, Element, RuleSet};

/// Which events, and how they are told.
pub(super) struct Past<'a> {
    pub(super) config: &'a ConfigArguments,
    pub(super) selection: &'a Selection,
    pub(super) ids: &'a [String],
    pub(super) json: bool,
}

/// Tries the events, and counts.
struct Trial<'a> {
    relay: &'a Relay,
    /// The rules of each source as they are configured; none where they can't be used.
    configured: HashMap<String, Option<LoadedRules>>,
    inputs: Inputs,
    rules: Arc<RuleSet>,
    json: bool,
    /// Each event was asked for by its id.
    named: bool,
    progress: Progress,
    tried: usize,
    differ: usize,
    /// Events that could not be tried, and why the first of them.
    untried: usize,
    why: Option<String>,
    /// Replays, which are what was recorded before.
    replays: usize,
    /// The request that was decided last: a batch is decided once for all its events.
    last: Option<Request>,
    terminal: &'a mut Terminal,
}

/// One request, decided by the rules that are configured, where they can be used, and by the changed ones.
struct Request {
    id: String,
    now: Option<Decision>,
    changed: Decision,
    /// The elements that are known to be other events.
    taken: Vec<usize>,
}

/// Runs them all through the rules in `file`; nothing is written and nothing is sent.
pub(super) fn run(file: &Path, past: &Past<'_>, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let rules = input::rules(file, terminal)?;
    let names = past.config.part(load_source_names)?;
    if past.ids.is_empty() && past.selection.source.is_none() && names.len() > 1 {
        let problem = format!("for which source are these rules? Add --source, one of {}", names.join(", "));
        return Err(problem.into());
    }
    let relay = Relay::open(past.config)?;
    let mut trial = Trial {
        relay: &relay,
        configured: HashMap::new(),
        inputs: past.config.inputs(Secrets::Optional)?,
        rules,
        json: past.json,
        named: !past.ids.is_empty(),
        progress: Progress::new("looked at"),
        tried: 0,
        differ: 0,
        untried: 0,
        replays: 0,
        why: None,
        last: None,
        terminal,
    };
    match past.ids {
        [] => relay.each_event(
            |page| past.selection.query(page),
            |id| {
                trial.event(id)?;
                Ok(!trial.terminal.is_unread())
            },
        )?,
        ids => ids.iter().try_for_each(|id| trial.event(id))?,
    }
    Ok(trial.end())
}

impl Trial<'_> {
    fn event(&mut self, id: &str) -> Result<(), Stop> {
        let details = self.relay.event(id)?;
        self.progress.add(1, self.terminal);
        let recorded = match details {
            Some(details) => match details["replay_of"].as_str() {
                // What it replays is among what is looked at.
                Some(_) if !self.named => {
                    self.replays += 1;
                    return Ok(());
                }
                Some(of) => Err(format!("it is a replay of event {}", plain(of))),
                None => {
                    let configured = self.configured(details["source"].as_str().unwrap_or_default());
                    let accept = configured.map_or(Accept::default(), |configured| configured.accept);
                    Recorded::of(details, accept)
                }
            },
            None => Err("it is not kept".to_owned()),
        };
        match recorded.and_then(|recorded| self.differences(&recorded).map(|differences| (recorded, differences))) {
            Ok((recorded, differences)) => {
                self.tried += 1;
                if !differences.is_empty() {
                    self.differ += 1;
                    self.tell(&recorded.details, &differences);
                }
            }
            Err(why) => {
                self.untried += 1;
                self.why.get_or_insert_with(|| format!("event {}: {why}", plain(id)));
            }
        }
        Ok(())
    }

    /// The differences that the changed rules would have made to an event.
    fn differences(&mut self, recorded: &Recorded) -> Result<Vec<Difference>, String> {
        let &Recorded { ref source, ref received_at, json, repairs, .. } = recorded;
        let context = Context { source, received_at, json, repairs };
        let compared = |changed: &Element| {
            let occurrence = match changed {
                Element::Event(draft) => draft.occurrence.as_ref(),
                _ => None,
            };
            element_differences(0, &recorded.decided(occurrence), changed)
        };
        if let Some(element) = &recorded.element {
            let decision = self.rules.decide_element(element, &recorded.payload, context);
            return Ok(decision.elements.first().map(compared).unwrap_or_default());
        }
        let request = self.request(recorded, context);
        let alone = request.now.as_ref().is_none_or(|now| now.elements.len() == 1);
        if let (true, [changed]) = (alone, request.changed.elements.as_slice()) {
            return Ok(compared(changed));
        }
        let place = request.place(recorded).and_then(|place| request.changed.elements.get(place));
        let changed = &request.changed.elements;
        match (place, recorded.decided(None)) {
            (Some(changed), _) => Ok(compared(changed)),
            // What was refused as a whole is otherwise if anything comes of it.
            (None, Element::Refused { .. }) => {
                let event = changed.iter().find(|element| matches!(element, Element::Event(_)));
                Ok(event.or(changed.first()).map(compared).unwrap_or_default())
            }
            (None, event) => Ok(event_differences(&event, changed)),
        }
    }

    fn request(&mut self, recorded: &Recorded, context: Context<'_>) -> &mut Request {
        let id = recorded.details["request_id"].as_str().unwrap_or_default();
        let last = self.last.take().filter(|last| last.id == id);
        let request = last.unwrap_or_else(|| Request {
            id: id.to_owned(),
            now: self.configured(&recorded.source).map(|now| now.rules.decide(&recorded.payload, context)),
            changed: self.rules.decide(&recorded.payload, context),
            taken: Vec::new(),
        });
        self.last.insert(request)
    }

    /// The rules that are configured for a source. They only help to tell the elements of a batch apart, so it goes
    /// without them where they can't be used.
    fn configured(&mut self, source: &str) -> Option<&LoadedRules> {
        let read = || load_rules(&self.inputs, source).ok();
        self.configured.entry(source.to_owned()).or_insert_with(read).as_ref()
    }

    fn tell(&mut self, details: &Value, differences: &[Difference]) {
        if self.json {
            let mut line = json!({ "differences": differences });
            for name in ["id", "received_at", "source", "action", "incident_key", "rule", "state"] {
                line[name] = details[name].clone();
            }
            return self.terminal.print(&line.to_string());
        }
        if self.differ <= SHOWN_MAX {
            self.terminal.print(&table(&[heading(details)]).join(""));
            for one in differences {
                self.terminal.print(&format!("  {}", difference(&json!(one))));
            }
        }
    }

    fn end(self) -> Exit {
        let Trial { tried, differ, untried, replays, named, why, terminal, json, .. } = self;
        if differ > SHOWN_MAX && !json {
            terminal.print(&format!("… and {} more; --json prints all", differ - SHOWN_MAX));
        }
        if let Some(why) = why {
            terminal.say(&format!("{untried} could not be tried, the first: {why}"));
        }
        if tried == 0 && untried == 0 && replays == 0 {
            terminal.say("error: no event that is kept matches these filters");
            return Exit::CouldNotRun;
        }
        let skipped = match replays {
            0 => String::new(),
            1 => ", 1 replay left out".to_owned(),
            _ => format!(", {replays} replays left out"),
        };
        terminal
            .say(&format!("{tried} tried{skipped}, {differ} would be decided otherwise; nothing was written or sent"));
        match (tried, differ, untried) {
            (0, ..) => Exit::CouldNotRun,
            // What was not tried may differ.
            (_, differ, 1..) if named || differ == 0 => Exit::CouldNotRun,
            (_, 0, _) => Exit::Fine,
            _ => Exit::No,
        }
    }
}

impl Request {
    /// Which element of the batch an event was: by what the rules that are configured make of it, else by what the
    /// changed ones do. Of several with its key it is the one with its body; else the last, as events come newest first.
    fn place(&mut self, recorded: &Recorded) -> Option<usize> {
        let changed = self.changed.elements.as_slice();
        let now = self.now.as_ref().map(|now| now.elements.as_slice()).filter(|now| now.len() == changed.len());
        let taken = &self.taken;
        let found = |elements: &[Element]| {
            let places = elements.iter().enumerate().filter_map(|(place, element)| match element {
                Element::Event(draft) if recorded.is_of(draft) && !taken.contains(&place) => Some((place, draft)),
                _ => None,
            });
            let places: Vec<(usize, &Draft)> = places.collect();
            let same = places.iter().rfind(|(_, draft)| recorded.is_exactly(draft));
            same.or(places.last()).map(|(place, _)| *place)
        };
        let place = now.and_then(found).or_else(|| found(changed))?;
        self.taken.push(place);
        Some(place)
    }
}

/// More than a person reads.
const SHOWN_MAX: usize = 100;
