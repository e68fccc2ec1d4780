//! The way of one request: authenticate, limit, decode, apply the rules, record, answer.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::auth;
use crate::limits::RateLimit;
use crate::rules::RuleSet;

/// One entry of the `sources` section.
#[derive(Debug)]
pub struct SourceConfig {
    pub name: Arc<str>,
    pub rules: Arc<RuleSet>,
    /// Callgoose's `from` parameter.
    pub from: Option<String>,
    pub auth: auth::Policy,
    /// Empty: anywhere.
    pub allow_from: Vec<IpNet>,
    pub rate_limit: RateLimit,
    pub respond: Respond,
    pub respond_timeout: Duration,
}

/// When a sender is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Respond {
    /// Once the event is durable.
    Queued,
    /// Once the upstream answered, or `respond_timeout` ran out.
    Delivered,
}
