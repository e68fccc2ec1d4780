//! A conversation with the admin API of the running relay.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::admin::{OPTIONS, SELECTION};
use crate::cli::client::{Answer, Client};
use crate::cli::{ConfigArguments, Stop, runtime};
use crate::config::load_addresses;

/// The relay that runs by this configuration.
#[derive(Debug)]
pub(crate) struct Relay {
    client: Client,
    runtime: Runtime,
}

impl Relay {
    pub(crate) fn open(config: &ConfigArguments) -> Result<Relay, Stop> {
        let admin = config.part(load_addresses)?.admin;
        Ok(Relay { client: Client::admin(&admin)?, runtime: runtime()? })
    }

    /// The body of a successful answer to a GET of `path`.
    pub(crate) fn ask(&self, path: &str) -> Result<Value, Stop> {
        self.understood(&self.runtime.block_on(self.client.get(path))?)
    }

    /// The body of a successful answer to a GET of `path`, piece by piece.
    pub(crate) fn open_stream(&self, path: &str) -> Result<Incoming, Stop> {
        let response = self.runtime.block_on(self.client.open(path))?;
        if response.status() == StatusCode::OK {
            return Ok(response.into_body());
        }
        let refusal = self.runtime.block_on(self.client.whole(response))?;
        self.understood(&refusal).and_then(|_| Err(Stop::Refused(refusal.detail())))
    }

    /// Where it is asked.
    pub(crate) fn base(&self) -> &str {
        self.client.base()
    }

    /// Runs what goes on with the conversation.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The event with this id, if it is kept.
    pub(crate) fn event(&self, id: &str) -> Result<Option<Value>, Stop> {
        let answer = self.runtime.block_on(self.client.get(&event_path(id)))?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.understood(&answer).map(Some)
    }

    /// The answer about the event once it stands otherwise than `change` says, and at the latest after `wait`, which is
    /// rounded up to seconds. Without `wait`, at once.
    pub(crate) fn event_within(&self, id: &str, change: Option<&str>, wait: Duration) -> Result<Answer, String> {
        let seconds = wait.as_millis().div_ceil(1_000);
        let after = change.map(|change| format!("&after={}", encode(change))).unwrap_or_default();
        let path = match seconds {
            0 => event_path(id),
            _ => format!("{}?wait={seconds}{after}", event_path(id)),
        };
        self.runtime.block_on(self.client.get(&path))
    }

    /// The newest of an event's replays, and of theirs, if there is one.
    pub(crate) fn newest_replay(&self, event: &Value) -> Result<Option<Value>, Stop> {
        let mut newest: Option<Value> = None;
        for _ in 0..REPLAYS_FOLLOWED {
            let replayed_by = &newest.as_ref().unwrap_or(event)["replayed_by"];
            let Some(id) = replayed_by.as_array().and_then(|ids| ids.last()?.as_str()) else {
                break;
            };
            let Some(replay) = self.event(id)? else {
                break;
            };
            newest = Some(replay);
        }
        Ok(newest)
    }

    /// The answer of `/readyz`, whether the relay is ready or not.
    pub(crate) fn readiness(&self) -> Result<Value, Stop> {
        Ok(self.runtime.block_on(self.client.get("/readyz"))?.json().unwrap_or_default())
    }

    /// Looks at the ids of all events that match a query, newest first, page by page, while `look` says to go on.
    pub(crate) fn each_event(
        &self,
        query: impl Fn(&[(&'static str, String)]) -> String,
        mut look: impl FnMut(&str) -> Result<bool, Stop>,
    ) -> Result<(), Stop> {
        let mut page = vec![("limit", PAGE.to_string())];
        loop {
            let found = self.ask(&format!("/api/v1/events?{}", query(&page)))?;
            for event in found["events"].as_array().into_iter().flatten() {
                if !look(event["id"].as_str().unwrap_or_default())? {
                    return Ok(());
                }
            }
            let Some(next) = found["next"].as_str() else { return Ok(()) };
            page.truncate(1);
            page.push(("after", next.to_owned()));
        }
    }

    /// Gives a command; the answer may be that it was declined.
    pub(crate) fn command(&self, path: &str, body: &Value) -> Result<Answer, Stop> {
        let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let body = Bytes::from(body.to_string());
        let answer = self.client.request(Method::POST, path, &headers, body, COMMAND);
        Ok(self.runtime.block_on(answer)?)
    }

    /// The body of a successful answer.
    pub(crate) fn understood(&self, answer: &Answer) -> Result<Value, Stop> {
        match answer.status {
            StatusCode::OK | StatusCode::ACCEPTED => {
                let body = answer.json();
                Ok(body.ok_or_else(|| format!("what answers at {} is no relay", self.client.base()))?)
            }
            StatusCode::UNAUTHORIZED => Err(Stop::Refused(WANTS_TOKEN.to_owned())),
            // The API's answers are problem documents.
            _ if !answer.is_problem() => {
                let (base, said) = (self.client.base(), answer.detail());
                Err(format!("what answers at {base} is no relay's admin API ({said}): `admin.address` and `admin.tls` say where it is").into())
            }
            _ => Err(Stop::Refused(as_flags(&answer.detail()))),
        }
    }
}

const WANTS_TOKEN: &str = "the relay wants its admin token, and was shown none or another: set the variable or file that \
                           `admin.token` names to the token in use";

/// A sentence of the API with its parameters as a command takes them: `state=refused` as `--state refused`.
pub(crate) fn as_flags(sentence: &str) -> String {
    let is_parameter = |name: &str| SELECTION.iter().chain(&OPTIONS).any(|known| *known == name);
    let flag = |name: &str| is_parameter(name).then(|| format!("--{}", name.replace('_', "-")));
    let shown = |code: &str| match code.split_once('=') {
        Some((name, value)) => flag(name).map(|flag| format!("{flag} {value}")),
        None => flag(code),
    };
    let parts = sentence.split('`').enumerate().map(|(index, part)| {
        let code = if index % 2 == 1 { shown(part) } else { None };
        code.unwrap_or_else(|| part.to_owned())
    });
    parts.collect::<Vec<_>>().join("`")
}

/// The path of an event in the API.
pub(crate) fn event_path(id: &str) -> String {
    format!("/api/v1/events/{}", encode(id))
}

/// A text as it may stand in a path or a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// More replays of replays than a person makes.
const REPLAYS_FOLLOWED: usize = 100;
/// Events that are listed at once.
const PAGE: usize = 200;
/// For a page of commands, each of which may wait for a slow disk.
const COMMAND: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_api_are_shown_as_flags() {
        for (sentence, shown) in [
            ("`search` looks, `state=refused` lists", "`--search` looks, `--state refused` lists"),
            ("`after=9` goes on; `key_contains` too", "`--after 9` goes on; `--key-contains` too"),
            ("see `journal.keep_delivered`", "see `journal.keep_delivered`"),
            ("no code", "no code"),
        ] {
            assert_eq!(as_flags(sentence), shown);
        }
    }
}
