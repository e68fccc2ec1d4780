//! What a relay knows already: the events that it keeps, and what its deduplication would say. Asked of the running
//! relay, or read from the journal of a stopped one.

use std::path::Path;

use serde_json::Value;

use crate::admin::dedup::answer;
use crate::cli::events::encode;
use crate::cli::kept::Kept;
use crate::cli::relay::Relay;
use crate::cli::terminal::Terminal;
use crate::cli::{ConfigArguments, Exit};
use crate::config::load_dedup;
use crate::dedup::{Arrival, Dedup};
use crate::event::{Draft, EventId, KeyId};
use crate::journal::Reader;
use crate::recorder::recollect;
use crate::time::{Clock, Now};

#[derive(Debug)]
pub(super) enum Past {
    Relay(Box<Relay>),
    Journal { reader: Reader, dedup: Box<Dedup>, now: Now },
}

impl Past {
    pub(super) fn relay(config: &ConfigArguments, terminal: &mut Terminal) -> Result<Past, Exit> {
        Relay::open(config, terminal).map(|relay| Past::Relay(Box::new(relay)))
    }

    pub(super) fn journal(directory: &Path, config: &ConfigArguments, terminal: &mut Terminal) -> Result<Past, Exit> {
        let settings = config.part(load_dedup, terminal)?;
        let now = Clock::start().now();
        let opened = Reader::open_stopped(directory).map_err(|error| error.to_string()).and_then(|reader| {
            let dedup = recollect(&reader, settings, now).map_err(|error| error.to_string())?;
            Ok(Past::Journal { reader, dedup: Box::new(dedup), now })
        });
        opened.map_err(|problem| could_not(&problem, terminal))
    }

    /// A kept event with what was received.
    pub(super) fn event(&self, id: &str, terminal: &mut Terminal) -> Result<Kept, Exit> {
        let details = match self {
            Past::Relay(relay) => relay.find(&format!("/api/v1/events/{}", encode(id)), terminal)?,
            Past::Journal { reader, .. } => {
                let details = id.parse::<EventId>().ok().map(|id| reader.details(id)).transpose();
                let details = details.map_err(|error| could_not(&error.to_string(), terminal))?;
                details.flatten().map(|details| serde_json::to_value(details).unwrap_or_default())
            }
        };
        let Some(details) = details else {
            return Err(could_not(&format!("no event {id} is kept"), terminal));
        };
        Kept::of(details).map_err(|problem| could_not(&format!("event {id}: {problem}"), terminal))
    }

    /// Says so where the running relay decides by other rules than the files have now.
    pub(super) fn rules_in_force(&self, terminal: &mut Terminal) -> Result<Option<String>, Exit> {
        let Past::Relay(relay) = self else {
            return Ok(None);
        };
        let reload = &relay.ask("/api/v1/status", terminal)?["reload"];
        if reload["successful"] != false {
            return Ok(None);
        }
        let problems = reload["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
        let first = problems.first().and_then(Value::as_str).unwrap_or("see /api/v1/status");
        Ok(Some(format!(
            "the relay could not take the files as they are now over and decides by what it read before, at {}: {first}",
            reload["in_force_since"].as_str().unwrap_or("-")
        )))
    }

    /// What deduplication would say of an event, in the API's words.
    pub(super) fn foresee(&self, source: &str, draft: &Draft, terminal: &mut Terminal) -> Result<Value, Exit> {
        match self {
            Past::Relay(relay) => {
                let mut query = format!(
                    "source={}&key={}&action={}&update_hash={}",
                    encode(source),
                    encode(&draft.incident_key),
                    draft.action,
                    draft.update.0
                );
                if let Some(occurrence) = &draft.occurrence {
                    query.push_str(&format!("&occurrence={}", encode(&occurrence.0)));
                }
                relay.ask(&format!("/api/v1/dedup?{query}"), terminal)
            }
            Past::Journal { dedup, now, .. } => {
                let key = KeyId::new(source, &draft.incident_key);
                let (action, update, occurrence) = (draft.action, draft.update, draft.occurrence.as_ref());
                Ok(answer(&dedup.foresee(Arrival { key, action, update, occurrence }, now.monotonic)))
            }
        }
    }
}

fn could_not(problem: &str, terminal: &mut Terminal) -> Exit {
    terminal.say(&format!("error: {problem}"));
    Exit::CouldNotRun
}
