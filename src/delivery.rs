//! Delivery to the upstream: in order for each key, with retries, at the upstream's pace.

pub mod breaker;
pub mod client;
pub mod connector;
pub mod dispatcher;
mod mask;
pub mod retry;
pub mod schedule;
pub mod staleness;
