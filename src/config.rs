//! Configuration: one YAML file, environment variables and flags laid over it, checked as a whole.

use crate::{admin, dedup, dispatcher, ingest, journal, listener, logging, upstream};

/// Everything the relay needs to run, checked.
#[derive(Debug)]
pub struct Config {
    pub listen: listener::Config,
    pub admin: admin::Config,
    pub sources: Vec<ingest::SourceConfig>,
    pub upstream: upstream::Config,
    pub dispatch: dispatcher::Config,
    pub dedup: dedup::Settings,
    pub journal: journal::Config,
    pub log: logging::Config,
}
