//! Tests of the whole, over real sockets, real TLS and real files.

// Modules of one test crate: what one offers the others is `pub`.
#![allow(unreachable_pub)]

mod delivery;
mod process;
mod relay;
mod upstream;
