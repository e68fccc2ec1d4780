//! The past of a relay: the events that it keeps, and the answers of its deduplication. Asked of the running
//! relay, or read from the journal of a stopped one.

use std::path::Path;

use serde_json::Value;

use crate::admin::dedup::{Asked, Question, answer};
use crate::advice::list;
use crate::cli::admin_client::Relay;
use crate::cli::{ConfigArguments, Stop};
use crate::clock::{Clock, Now};
use crate::config::load_dedup;
use crate::event::{Draft, EventId};
use crate::journal::Reader;
use crate::journal::dedup::Dedup;
use crate::journal::recorder::restore_dedup;
use crate::journal::request::Expected;

#[derive(Debug)]
pub(super) enum Past {
    Relay(Box<Relay>),
    Journal { reader: Reader, dedup: Box<Dedup>, now: Now },
}

impl Past {
    pub(super) fn relay(config: &ConfigArguments) -> Result<Past, Stop> {
        Relay::open(config).map(|relay| Past::Relay(Box::new(relay)))
    }

    pub(super) fn journal(directory: &Path, config: &ConfigArguments) -> Result<Past, Stop> {
        let settings = config.part(load_dedup)?;
        let now = Clock::start().now();
        let reader = Reader::open_stopped(directory).map_err(|error| error.to_string())?;
        let dedup = restore_dedup(&reader, settings, now).map_err(|error| error.to_string())?;
        Ok(Past::Journal { reader, dedup: Box::new(dedup), now })
    }

    /// A kept event, as the API tells it.
    pub(super) fn event(&self, id: &str) -> Result<Value, Stop> {
        let details = match self {
            Past::Relay(relay) => relay.event(id)?,
            Past::Journal { reader, .. } => {
                let details = id.parse::<EventId>().ok().map(|id| reader.details(id)).transpose();
                let details = details.map_err(|error| error.to_string())?;
                details.flatten().map(|details| serde_json::to_value(details).unwrap_or_default())
            }
        };
        Ok(details.ok_or_else(|| format!("no event {id} is kept"))?)
    }

    /// Says so where the running relay decides by other rules than the files have now.
    pub(super) fn rules_in_force(&self) -> Result<Option<String>, Stop> {
        let Past::Relay(relay) = self else {
            return Ok(None);
        };
        let reload = &relay.ask("/api/v1/status")?["reload"];
        if reload["successful"] != false {
            return Ok(None);
        }
        let first = list(reload, "problems").first().and_then(Value::as_str).unwrap_or("see /api/v1/status");
        Ok(Some(format!(
            "the relay could not take the files as they are now over and decides by what it read before, at {}: {first}",
            reload["in_force_since"].as_str().unwrap_or("-")
        )))
    }

    /// Deduplication's answers for events that come together, in the API's words.
    pub(super) fn foresee(&self, source: &str, drafts: &[&Draft]) -> Result<Vec<Value>, Stop> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let asked = || drafts.iter().map(|draft| Asked::of(draft));
        let answer = match self {
            Past::Relay(relay) => {
                let question = Question { source: source.to_owned(), events: asked().collect() };
                let question = serde_json::to_value(question).unwrap_or_default();
                relay.understood(&relay.command("/api/v1/dedup", &question)?)?
            }
            Past::Journal { dedup, now, .. } => {
                let expected: Result<Vec<Expected>, String> = asked().map(|asked| asked.expected(source)).collect();
                answer(&dedup.preview(expected?.iter().map(Expected::arrival), *now))
            }
        };
        Ok(answer["events"].as_array().cloned().unwrap_or_default())
    }
}
