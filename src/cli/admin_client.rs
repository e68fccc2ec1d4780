//! A conversation with the admin API of the running relay.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::cli::client::{Answer, Client, could_not};
use crate::cli::terminal::Terminal;
use crate::cli::{ConfigArguments, Exit};
use crate::config::load_addresses;

/// The relay that runs by this configuration.
#[derive(Debug)]
pub(crate) struct Relay {
    client: Client,
    runtime: Runtime,
}

impl Relay {
    pub(crate) fn open(config: &ConfigArguments, terminal: &mut Terminal) -> Result<Relay, Exit> {
        let admin = config.part(load_addresses, terminal)?.admin;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = could_not(runtime.map_err(|error| format!("can't start: {error}")), terminal)?;
        let client = could_not(Client::admin(&admin), terminal)?;
        Ok(Relay { client, runtime })
    }

    /// What the API says at `path`; anything but a success is said and becomes the exit.
    pub(crate) fn ask(&self, path: &str, terminal: &mut Terminal) -> Result<Value, Exit> {
        let answer = could_not(self.runtime.block_on(self.client.get(path)), terminal)?;
        self.understood(&answer, terminal)
    }

    /// The same, with none for what is not there.
    pub(crate) fn find(&self, path: &str, terminal: &mut Terminal) -> Result<Option<Value>, Exit> {
        let answer = could_not(self.runtime.block_on(self.client.get(path)), terminal)?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.understood(&answer, terminal).map(Some)
    }

    /// Gives a command; the answer may be that it was declined.
    pub(crate) fn command(&self, path: &str, body: &Value, terminal: &mut Terminal) -> Result<Answer, Exit> {
        let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let body = Bytes::from(body.to_string());
        let answer = self.client.request(Method::POST, path, &headers, body, COMMAND);
        could_not(self.runtime.block_on(answer), terminal)
    }

    pub(crate) fn understood(&self, answer: &Answer, terminal: &mut Terminal) -> Result<Value, Exit> {
        match answer.status {
            StatusCode::OK | StatusCode::ACCEPTED => match answer.json() {
                Some(body) => Ok(body),
                None => {
                    terminal.say(&format!("error: what answers at {} is no relay", self.client.base()));
                    Err(Exit::CouldNotRun)
                }
            },
            StatusCode::UNAUTHORIZED => {
                terminal.say("error: the relay refused the admin token: does it run with this configuration?");
                Err(Exit::No)
            }
            _ => {
                terminal.say(&format!("error: {}", answer.detail()));
                Err(Exit::No)
            }
        }
    }
}

/// For a page of commands, each of which may wait for a slow disk.
const COMMAND: Duration = Duration::from_secs(120);
