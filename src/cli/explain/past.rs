//! What a relay knows already: the events that it keeps, and what its deduplication would say. Asked of the running
//! relay, or read from the journal of a stopped one.

use std::path::Path;

use serde_json::Value;

use crate::admin::dedup::answer;
use crate::cli::events::encode;
use crate::cli::relay::Relay;
use crate::cli::terminal::{Terminal, plain};
use crate::cli::{ConfigArguments, Exit};
use crate::config::Secrets;
use crate::dedup::{Arrival, Dedup};
use crate::event::{Draft, EventId, KeyId};
use crate::ingest::read_payload;
use crate::journal::Reader;
use crate::recorder::recollect;
use crate::time::{Clock, Now};

#[derive(Debug)]
pub(super) enum Past {
    Relay(Box<Relay>),
    Journal { reader: Reader, dedup: Box<Dedup>, now: Now },
}

/// An event that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) source: String,
    pub(super) received_at: String,
    pub(super) payload: Value,
    /// The element of a batch that was refused; `payload` is then the whole.
    pub(super) element: Option<Value>,
    /// What was made of it, as the API tells.
    pub(super) details: Value,
}

impl Past {
    pub(super) fn relay(config: &ConfigArguments, terminal: &mut Terminal) -> Result<Past, Exit> {
        Relay::open(config, terminal).map(|relay| Past::Relay(Box::new(relay)))
    }

    pub(super) fn journal(directory: &Path, config: &ConfigArguments, terminal: &mut Terminal) -> Result<Past, Exit> {
        let settings = config.load(Secrets::Optional, terminal)?.config.dedup;
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

impl Kept {
    fn of(details: Value) -> Result<Kept, String> {
        let text = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
        let received = match details["received_hex"].as_str() {
            Some(hex) => bytes(hex),
            None => details["received"].as_str().map(|text| text.as_bytes().to_vec()),
        };
        let received = received.ok_or("what was received is not kept any more; see `journal.keep_delivered`")?;
        let payload = read_payload(&received, details["charset"].as_str())
            .map_err(|not_json| format!("what was received is no JSON: {}", not_json.problem))?;
        let element = details.get("element").filter(|element| !element.is_null()).cloned();
        Ok(Kept { source: text("source"), received_at: text("received_at"), payload, element, details })
    }

    /// Whether this is what became of it then.
    pub(super) fn is_of(&self, draft: &Draft) -> bool {
        self.details["action"] == draft.action.as_str() && self.details["incident_key"] == draft.incident_key.as_str()
    }

    /// What became of it, in a line.
    pub(super) fn told(&self) -> String {
        let word = |name: &str| self.details[name].as_str();
        let event = match (word("action"), word("incident_key")) {
            (Some(action), Some(key)) => format!("{action} {key} by the rule {}, ", word("rule").unwrap_or("-")),
            _ => String::new(),
        };
        let state = word("state").unwrap_or("-");
        let why = word("outcome").or(word("reason")).map_or_else(String::new, |why| format!(" ({why})"));
        plain(&format!("{event}{state}{why}, received {}", self.received_at))
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

fn could_not(problem: &str, terminal: &mut Terminal) -> Exit {
    terminal.say(&format!("error: {problem}"));
    Exit::CouldNotRun
}
