//! Delivery to the upstream: in order for each key, with retries, at the upstream's pace.

pub(crate) mod breaker;
pub(crate) mod client;
pub(crate) mod connector;
pub(crate) mod dispatcher;
mod mask;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod staleness;
