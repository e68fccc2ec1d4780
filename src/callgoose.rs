//! All that is known of Callgoose: what an answer means, what its filters do with an event, and a stand-in for it.

pub mod answer;
pub mod filters;
pub mod sandbox;
