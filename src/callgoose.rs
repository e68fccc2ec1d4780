//! Everything specific to Callgoose: the meaning of its answers, its filters, and a stand-in for tests.

pub mod answer;
pub mod confirmation;
pub mod filters;
pub mod sandbox;
