//! Tests of the whole, over real sockets, real TLS and real files.

// Modules of one test crate: what one offers the others is `pub`. A test that panics is a test that fails.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod admin;
mod answers;
mod bodies;
mod browser;
mod cases;
mod certificates;
mod cli;
mod codes;
mod commands;
mod connections;
mod cookbook;
mod delivery;
mod demo;
mod doctor;
mod egress;
mod floods;
mod following;
mod framing;
mod lenient;
mod page;
mod pages;
mod presets;
mod process;
mod prometheus;
mod proxies;
mod queue;
mod refusals;
mod relay;
mod reload;
mod run;
mod self_check;
mod shares;
mod stale;
mod status;
mod support;
mod tap;
mod traces;
mod transcripts;
mod upstream;
mod upstream_answers;
mod version;
mod waiting;
