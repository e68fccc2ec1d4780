//! The real program under real faults: killed, stopped, out of room, with calls that fail.
//!
//! Each test is a process of `gander run`, senders that note what was acknowledged, and an upstream that notes what
//! arrived; [`senders::check`] joins the two. Each thing that is looked for has a control beside it: a run with the
//! mechanism off that must be found wanting. No switch in the product does that: what a control takes away is taken
//! away from outside, as a disk or a power cut would, so that the program under test is always the one that ships.
//!
//! It needs Linux, cc, strace, faketime, mkfs.ext4, unshare, setpriv, ip, tinyproxy, microsocks, and the right to mount
//! volumes and to make networks: root, or user namespaces.
//! Nothing is skipped where something is missing; it fails and says what.
//!
//! How long it looks can be set: `GANDER_KILLS` (30), `GANDER_CUTS` (12), `GANDER_DRAINS` (20),
//! `GANDER_REQUESTS` (300). `GANDER_SEED`
//! repeats the random choices of a run, whose seed is printed; the timing of processes can't be repeated.

// A test that panics is a test that fails.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod clocks;
mod egress;
mod failing;
mod full;
mod kills;
mod locks;
mod log;
mod other;
mod place;
mod power;
mod process;
mod rebuild;
mod rot;
mod senders;
mod start;
mod stops;
mod syncs;
mod upstream;
mod volume;

/// How often, how many, or which seed: from the environment, else as in CI.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The random choices of one test, printed so that they can be made again.
fn seeded(test: &str) -> fastrand::Rng {
    let seed = setting("GANDER_SEED", fastrand::u64(..));
    eprintln!("{test}: GANDER_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
