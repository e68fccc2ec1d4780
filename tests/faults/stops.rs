//! SIGTERM under load, many times.

use std::time::Duration;

use crate::process::{Site, words};
use crate::senders::{Connections, Failure, Senders, Stop};
use crate::upstream::{Reply, Upstream};
use crate::{seeded, setting};

#[test]
fn a_stop_under_load_cuts_no_request_and_exits_0() {
    let mut dice = seeded("stops");
    let upstream = Upstream::flapping(dice.fork());
    let site = Site::new(&upstream);
    let mut senders = Senders::new(6, &mut dice);
    let drains = setting("GANDER_DRAINS", 20);
    // More of them where a busy machine takes few events between two.
    for drain in 0..4 * drains {
        if drain >= drains && senders.acknowledged() > LOAD {
            break;
        }
        let seen = site.directory.path().join("accepted");
        let watch = format!("strace -D -f --seccomp-bpf -e trace=accept4 -o {}", seen.display());
        let process = site.start(&words(&watch));
        let at = Duration::from_millis(dice.u64(10..300));
        let ((code, took), stops) = senders.work(process.port, Connections::OneEach, || {
            std::thread::sleep(at);
            process.terminate()
        });
        assert_eq!(code, Some(0), "drain {drain}");
        assert!(took < Duration::from_secs(10), "drain {drain}: {took:?}");
        let seen = std::fs::read_to_string(seen).unwrap();
        for stop in stops {
            assert!(!is_cut(&stop, &seen), "drain {drain}: {stop:?}");
        }
    }
    upstream.follow(|| Reply::Done);
    let _process = site.start(&[]);
    assert_eq!(senders.settle(&upstream, Duration::from_secs(180)), Vec::<String>::new());
    assert!(senders.acknowledged() > LOAD, "too little load to show anything: {}", senders.acknowledged());
}

/// Events that show something.
const LOAD: usize = 100;

/// Whether the relay had accepted the connection on which an answer is missing. The kernel makes connections by
/// itself: one made in the microseconds before the socket closes is reset by it, and the relay never knew of it.
fn is_cut(stop: &Stop, accepted: &str) -> bool {
    match stop {
        Stop::Failed(Failure::Cut { port, .. }) => accepted.contains(&format!("htons({port})")),
        Stop::Failed(Failure::Refused) | Stop::Told => false,
    }
}

/// The control: a kill is a stop that cuts requests, and the same look at it says so.
#[test]
fn control_a_cut_request_is_seen() {
    let mut dice = seeded("stops, control");
    let upstream = Upstream::start(|| Reply::Done);
    let site = Site::new(&upstream);
    let mut senders = Senders::new(6, &mut dice);
    let cut = (0..5).any(|_| {
        let seen = site.directory.path().join("accepted");
        let process = site.start(&words(&format!("strace -D -f -e trace=accept4 -o {}", seen.display())));
        let (_, stops) = senders.work(process.port, Connections::OneEach, || {
            std::thread::sleep(Duration::from_millis(200));
            process.kill();
        });
        let seen = std::fs::read_to_string(seen).unwrap();
        stops.iter().any(|stop| is_cut(stop, &seen))
    });
    assert!(cut, "five kills, each under six senders, and no request was cut");
}
