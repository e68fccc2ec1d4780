//! Everything specific to Callgoose: the meaning of its answers, its filters, and a stand-in for tests.

pub(crate) mod answer;
pub(crate) mod confirmation;
pub(crate) mod filters;
pub(crate) mod sandbox;
