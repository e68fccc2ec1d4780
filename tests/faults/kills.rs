//! SIGKILL in a loop, under load, with an upstream that flaps.

use std::time::{Duration, Instant};

use crate::process::Site;
use crate::senders::{Connections, Senders, assert_some_lost};
use crate::upstream::{Reply, Upstream};
use crate::{seeded, setting};

/// Kills a relay again and again at random moments, and doing `between` to its files each time; then lets it
/// finish. Returns what is wrong and how much was acknowledged.
fn kill_in_a_loop(test: &str, kills: u64, between: impl Fn(&Site), patience: Duration) -> (Vec<String>, usize) {
    let mut dice = seeded(test);
    let upstream = Upstream::flapping(dice.fork());
    let site = Site::new(&upstream);
    let mut senders = Senders::new(4, &mut dice);
    let mut killed = 0;
    // More of them where a busy machine takes few events between two.
    while killed < kills || senders.acknowledged() < kills as usize * LOAD && killed < 4 * kills {
        killed += 1;
        let process = site.start(&[]);
        let port = process.port;
        // Also while it has hardly begun: the backlog is then being read back and delivered.
        let at = Duration::from_millis(dice.u64(5..400));
        senders.work(port, Connections::Kept, || {
            std::thread::sleep(at);
            process.kill();
        });
        between(&site);
    }
    upstream.follow(|| Reply::Done);
    let process = site.start(&[]);
    // What many kills left takes a while on a slow machine: late is not lost.
    let all = Duration::from_millis(DELIVERY_MILLIS_MAX * senders.acknowledged() as u64);
    let wrong = senders.settle(&upstream, patience + all);
    process.assert_no_panic();
    let (code, _) = process.terminate();
    assert_eq!(code, Some(0));
    (wrong, senders.acknowledged())
}

#[test]
fn nothing_acknowledged_is_lost_or_turned_around_by_kills() {
    let kills = setting("GANDER_KILLS", 30);
    let started = Instant::now();
    let (wrong, acknowledged) = kill_in_a_loop("kills", kills, |_| (), Duration::from_secs(180));
    eprintln!("{kills} kills, {acknowledged} acknowledged, {:?}", started.elapsed());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(acknowledged >= kills as usize * LOAD, "too little load to show anything: {acknowledged}");
}

/// The control: without its log the journal is what a power cut would leave of one that was never synced.
#[test]
fn control_a_journal_that_was_not_kept_is_seen_by_the_ledger() {
    let lose_the_log = |site: &Site| {
        let _ = std::fs::remove_file(site.data().join("journal.db-wal"));
        let _ = std::fs::remove_file(site.data().join("journal.db-shm"));
    };
    let (wrong, acknowledged) = kill_in_a_loop("kills, control", 4, lose_the_log, Duration::from_secs(2));
    assert_some_lost(&wrong, acknowledged);
}

/// Events between two kills, or power cuts, that they show something.
pub const LOAD: usize = 10;
/// Ten times what one event takes a test build.
pub const DELIVERY_MILLIS_MAX: u64 = 5;
