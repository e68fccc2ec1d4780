//! The command line.

pub mod explain;
pub mod query;
pub mod sandbox;
pub mod test;
