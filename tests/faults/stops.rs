//! SIGTERM under load, many times.

use std::time::Duration;

use crate::process::Site;
use crate::senders::{Connections, Failure, Senders, Stop};
use crate::upstream::{Reply, Upstream};
use crate::{seeded, setting};

#[test]
fn a_stop_under_load_cuts_no_request_and_exits_0() {
    let mut dice = seeded("stops");
    let upstream = Upstream::flapping(dice.fork());
    let site = Site::new(&upstream);
    let mut senders = Senders::new(6, &mut dice);
    for drain in 0..setting("GANDER_DRAINS", 20) {
        let process = site.start(&[]);
        let at = Duration::from_millis(dice.u64(10..300));
        let ((code, took), stops) = senders.work(process.port, Connections::OneEach, || {
            std::thread::sleep(at);
            process.terminate()
        });
        assert_eq!(code, Some(0), "drain {drain}");
        assert!(took < Duration::from_secs(10), "drain {drain}: {took:?}");
        for stop in stops {
            assert!(matches!(stop, Stop::Told | Stop::Failed(Failure::Refused)), "drain {drain}: {stop:?}");
        }
    }
    upstream.follow(|| Reply::Done);
    let _process = site.start(&[]);
    assert_eq!(senders.settle(&upstream, Duration::from_secs(60)), Vec::<String>::new());
    assert!(senders.acknowledged() > 100, "too little load to show anything: {}", senders.acknowledged());
}

/// The control: a kill is a stop that cuts requests, and the same look at it says so.
#[test]
fn control_a_cut_request_is_seen() {
    let mut dice = seeded("stops, control");
    let upstream = Upstream::start(|| Reply::Done);
    let site = Site::new(&upstream);
    let mut senders = Senders::new(6, &mut dice);
    let cut = (0..5).any(|_| {
        let process = site.start(&[]);
        let (_, stops) = senders.work(process.port, Connections::OneEach, || {
            std::thread::sleep(Duration::from_millis(200));
            process.kill();
        });
        stops.iter().any(|stop| matches!(stop, Stop::Failed(Failure::Cut(_))))
    });
    assert!(cut, "five kills, each under six senders, and no request was cut");
}
