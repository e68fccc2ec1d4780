//! Gander: a sidecar and edge relay between ServicePilot, which posts alert webhooks, and Callgoose SQIBS,
//! which opens and closes incidents.
//!
//! # How data flows
//!
//! ```text
//! sender ─TLS─▶ listener ─▶ ingest: authenticate ▶ limit ▶ decode ▶ rules ─▶ recorder: dedup + append ─▶ 202
//!                                                                               │ (durable)
//!                           upstream ◀─TLS─ dispatcher: pace, order, retry ◀────┘ ─▶ outcome ─▶ recorder
//! admin, metrics: read snapshots, give few explicit commands
//! ```
//!
//! It flows one way: each stage takes the previous stage's result as proof that the stage was passed. What the
//! upstream said comes back to the recorder, which alone writes to the journal.
//!
//! # Floors
//!
//! A module uses only modules of lower floors; within floors 0, 1 and 6 also of its own, without circles.
//! `tests/floors.rs` keeps it so.
//!
//! | floor | modules | rule |
//! | --- | --- | --- |
//! | 6 composition | [`app`] [`cli`] [`config`] [`rule_tests`] | the only place that knows everything |
//! | 5 faces | [`listener`] [`admin`] [`sandbox`] | HTTP in; talk to what is below by handles and snapshots |
//! | 4 shells | [`ingest`] [`dispatcher`] | call the decisions, drive IO |
//! | 3 owners | [`recorder`] (of dedup and the journal) [`upstream`] (of the connections to it) | one task or thread owns the state |
//! | 2 one resource each | [`journal`] (SQLite) [`tls`] (certificates and roots) | |
//! | 1 decisions, pure | [`auth`] [`limits`] [`rules`] [`dedup`] [`retry`] [`schedule`] [`breaker`] [`stale`] [`outcome`] [`filters`] [`secret`] | no tokio, no hyper, no files, no clock |
//! | 0 words | [`event`] [`time`] [`document`] | the vocabulary; a YAML tree with places |
//!
//! [`files`], [`metrics`], [`logging`], [`shutdown`] and [`supervision`] stand beside floors 2 to 6.
//!
//! # What is true everywhere, because something is absent
//!
//! - No 2xx leaves before the record is on disk: only the recorder makes receipts, after the commit.
//! - Deduplication keeps no state that the journal can't restore.
//! - One file maps reasons to the statuses we answer (`ingest/refusal.rs`), one upstream answers to outcomes
//!   (`outcome.rs`), one spells metric names (`metrics.rs`), one names the JSONPath crate (`rules/path.rs`).
//! - Nothing is unbounded: each queue, body, header, depth, map, wait has a named limit.
//! - No secret type has a revealing `Debug`.
//! - A payload never chooses a host, a URL or a header name.
//! - Administration never holds a lock of the pipeline.
//! - No line of the log, no full pipe and no reader that is gone delays, ends or loses an event.

pub mod admin;
pub mod app;
pub mod auth;
pub mod breaker;
pub mod cli;
pub mod config;
pub mod dedup;
pub mod dispatcher;
pub mod document;
pub mod event;
pub mod files;
pub mod filters;
pub mod ingest;
pub mod journal;
pub mod limits;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod outcome;
pub mod recorder;
pub mod retry;
pub mod rule_tests;
pub mod rules;
pub mod sandbox;
pub mod schedule;
pub mod secret;
pub mod shutdown;
pub mod stale;
pub mod supervision;
pub mod time;
pub mod tls;
pub mod upstream;
