//! Gander: a sidecar and edge relay between ServicePilot, which posts alert webhooks, and Callgoose SQIBS,
//! which opens and closes incidents.
//!
//! # The way of an event
//!
//! `server → inbound → rules → journal → delivery → callgoose`
//!
//! ```text
//! sender ─TLS─▶ server ─▶ inbound: admit ▶ read ▶ decode ▶ rules ─▶ journal: decide ▶ facts ▶ append ─▶ 202
//!                                                                               │ (durable)
//!                       upstream ◀─TLS─ delivery: pace, order, retry ◀──────────┘ ─▶ verdict ─▶ journal
//! admin, metrics: read snapshots, give few explicit commands
//! ```
//!
//! `relay::start` plugs `Ingest` of `inbound` into `server`. `inbound` calls the rules; `delivery/client` makes the call,
//! and `callgoose` says what its answer means. Data flows one way, and three types prove that a stage was passed:
//! `Admitted` before a body is read, `Authenticated` before it is decoded, `Receipt` before it is acknowledged. The
//! verdict comes back to the recorder, which alone writes to the journal.
//!
//! # Rooms
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`server`] | one HTTP server for all listeners: TCP and TLS connections, whose address counts, HTTP framing, deadlines |
//! | [`inbound`] | a request becomes a submission: who may, how much, body, charset, rules, the answer |
//! | [`rules`] | the language: conditions, validation, keys, what is sent; JSONPath |
//! | [`journal`] | what is known and durable: requests are decided into facts, the recorder appends them, SQLite keeps them |
//! | [`delivery`] | to the upstream, in order: schedule, calls, retries, circuit breaker |
//! | [`callgoose`] | what an answer means, the filters, what its webhooks confirm, a stand-in for Callgoose |
//! | [`admin`] | health, API, commands, the page |
//! | [`authoring`] | for those who write rules: rule tests, warnings about rules and filters together |
//! | [`config`] [`yaml`] | the configuration; a YAML tree with places, findings |
//! | [`tls`] | certificates and roots, for both directions |
//! | [`relay`] [`cli`] | start, stop, reload; one file a command |
//! | [`advice`] | why things stand as they do, what to do, what to type where: sentences for people, on the terminal and on the page |
//! | [`bounded_json`] | reads JSON within ten times the memory of its text |
//! | [`lenient_json`] | reads what strict JSON refuses, where it can be read in only one way |
//! | [`event`] [`trace_context`] [`clock`] [`text`] [`version`] | the vocabulary: what an event is and what becomes of it; the trace that it belongs to; time; words and times as people read them; what this was built from |
//! | [`self_check`] | a synthetic trigger and resolve, round after round: when, and what it means that one does not come back |
//! | [`metrics`] [`logging`] [`tap`] [`activity`] | for operators: counts, the log, the live stream, numbers by source |
//! | [`inherited`] | the environment and the sockets that the process was started with |
//! | [`confinement`] | gives up what the process does not need: writing elsewhere, starting programs, being looked into |
//! | [`credential`] [`secret`] [`token_bucket`] [`files`] [`shutdown`] [`supervision`] | what several rooms share |
//! | [`exports`] | the items that tests use; beside `main` nothing else is public |
//!
//! # Layers
//!
//! A room uses rooms of its own layer and of lower ones, and no two use each other, directly or in a circle; nor do two
//! files. `tests/layers.rs` keeps it so. A part of a room may stand on another layer than the room.
//!
//! | layer | rooms | rule |
//! | --- | --- | --- |
//! | 7 composition | `relay` `cli` `exports` | knows everything |
//! | 6 tools, configuration | `config` `authoring` | |
//! | 5 services of the server | `admin` `inbound` `callgoose/sandbox` | requests in; talk to what is below by handles and snapshots |
//! | 4 services | `delivery` `journal/recorder` | one task or thread owns the state |
//! | 3 resources | `server` `journal` `tls` | HTTP; SQLite; certificates and roots |
//! | 2 beside | `files` `metrics` `logging` `shutdown` `supervision` `tap` `activity` `confinement` `inherited` | |
//! | 1 domain | `rules` `journal/dedup` `journal/shares` `journal/totals` `journal/space` `journal/request` `journal/fact` `journal/known` `journal/state` `journal/decide` `journal/recorder/core` `server/shares` `server/failed_attempts` `inbound/body_shares` `delivery/schedule` `delivery/retry` `delivery/breaker` `delivery/staleness` `callgoose` `server/addresses` `server/forwarded` `server/proxy_header` `inbound/auth` `inbound/limits` `bounded_json` `lenient_json` `token_bucket` `secret` `credential` `advice` `self_check` | pure: no tokio, no hyper, no files, no clock |
//! | 0 vocabulary | `event` `trace_context` `clock` `text` `version` `yaml` | |
//!
//! # What is true everywhere, because something is absent
//!
//! - No 2xx leaves before what it acknowledges is on disk: the recorder hands out receipts after the commit.
//! - What becomes of a request is decided in one place (`journal/decide`), purely, and nothing is written but its facts.
//! - Deduplication keeps no state that the journal can't restore.
//! - One file maps refusals to statuses (`inbound/refusal.rs`; `server/service.rs` for heads that reach no service),
//!   one words the other replies to senders (`inbound/response.rs`), one makes all verdicts (`callgoose/answer.rs`), one
//!   names the JSONPath crate (`rules/path.rs`). One room spells metric names (`metrics`).
//! - Nothing is unbounded: each queue, body, header, depth, map, wait has a named limit.
//! - No secret type has a revealing `Debug`.
//! - A certificate that a person put there is never replaced: only what was made here is made anew, known by
//!   its fingerprint, or by its subject where no record is kept yet.
//! - No file but `inherited.rs` has unsafe code.
//! - A payload never chooses a host, a URL or a header name. Of a sender's headers only its trace goes on, written anew.
//! - Administration never holds a lock of the pipeline.
//! - No line of the log, no full pipe and no reader that is gone delays, ends or loses an event.

#![allow(rustdoc::private_intra_doc_links, reason = "the map links what is private")]

mod activity;
mod admin;
mod advice;
mod authoring;
mod bounded_json;
mod callgoose;
mod cli;
mod clock;
mod config;
mod confinement;
mod credential;
mod delivery;
mod event;
pub mod exports;
mod files;
mod inbound;
mod inherited;
mod journal;
mod lenient_json;
mod logging;
mod metrics;
mod relay;
mod rules;
mod secret;
mod self_check;
mod server;
mod shutdown;
mod supervision;
mod tap;
mod text;
mod tls;
mod token_bucket;
mod trace_context;
mod version;
mod yaml;

pub use cli::main;
