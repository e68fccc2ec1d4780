//! Power cuts in a loop, under load, with an upstream that flaps: of a volume nothing is left but what had been written
//! to the disk at that moment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::egress::{free_port, microsocks, through_socks};
use crate::full::with_mount;
use crate::kills::{DELIVERY_MILLIS_MAX, LOAD};
use crate::process::{Process, Site, preloaded};
use crate::senders::{Connections, Senders, assert_some_lost};
use crate::upstream::{Reply, Upstream};
use crate::{seeded, setting};

/// A disk with an ext4 volume, in a file.
struct Disk {
    directory: tempfile::TempDir,
    cuts: u64,
}

impl Disk {
    fn new() -> Disk {
        let disk = Disk { directory: tempfile::tempdir().unwrap(), cuts: 0 };
        File::create(disk.image()).unwrap().set_len(32 << 20).unwrap();
        let made =
            Command::new("mkfs.ext4").arg("-q").arg(disk.image()).output().expect("mkfs.ext4 is there (e2fsprogs)");
        assert!(made.status.success(), "{made:?}");
        disk
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join(format!("disk.{}", self.cuts))
    }

    fn mounted_at(&self, data: &Path) -> Vec<String> {
        with_mount(&format!("mount -o loop {} {}", self.image().display(), data.display()))
    }

    /// Ends the process. What the disk holds at this moment is what the next start finds; what the system would still
    /// write of its cache goes to the image that is left behind.
    fn cut(&mut self, process: Process) {
        process.stop();
        let old = self.image();
        let mut held = fs::read(&old).unwrap();
        // The system writes by itself from time to time: it must be one moment.
        loop {
            let again = fs::read(&old).unwrap();
            if again == held {
                break;
            }
            held = again;
        }
        self.cuts += 1;
        fs::write(self.image(), held).unwrap();
        process.kill();
        fs::remove_file(old).unwrap();
    }
}

/// Cuts the power of a relay again and again at random moments, then lets it finish. `under` starts the relay. Returns
/// what is wrong and how much was acknowledged.
fn cut_in_a_loop(
    test: &str,
    cuts: u64,
    under: impl Fn(&Site) -> Vec<String>,
    patience: Duration,
) -> (Vec<String>, usize) {
    let mut dice = seeded(test);
    let upstream = Upstream::flapping(dice.fork());
    let site = Site::new(&upstream);
    fs::create_dir(site.data()).unwrap();
    let under = under(&site);
    let start = |disk: &Disk| site.start(&[disk.mounted_at(&site.data()), under.clone()].concat());
    let mut disk = Disk::new();
    let mut senders = Senders::new(4, &mut dice);
    // More of them where a busy machine takes few events between two.
    while disk.cuts < cuts || senders.acknowledged() < cuts as usize * LOAD && disk.cuts < 4 * cuts {
        let process = start(&disk);
        let port = process.port;
        let at = Duration::from_millis(dice.u64(5..400));
        senders.work(port, Connections::Kept, || {
            std::thread::sleep(at);
            disk.cut(process);
        });
    }
    upstream.follow(|| Reply::Done);
    let process = start(&disk);
    let all = Duration::from_millis(DELIVERY_MILLIS_MAX * senders.acknowledged() as u64);
    let wrong = senders.settle(&upstream, patience + all);
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
    (wrong, senders.acknowledged())
}

#[test]
fn nothing_acknowledged_is_lost_or_turned_around_by_power_cuts() {
    let cuts = setting("GANDER_CUTS", 12);
    let started = Instant::now();
    let (wrong, acknowledged) = cut_in_a_loop("power cuts", cuts, |_| Vec::new(), Duration::from_secs(180));
    eprintln!("{cuts} power cuts, {acknowledged} acknowledged, {:?}", started.elapsed());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(acknowledged >= cuts as usize * LOAD, "too little load to show anything: {acknowledged}");
}

#[test]
fn nothing_acknowledged_is_lost_or_turned_around_by_power_cuts_with_a_proxy_between() {
    let cuts = setting("GANDER_CUTS", 6);
    let port = free_port();
    let _proxy = microsocks(port);
    let started = Instant::now();
    let patience = Duration::from_secs(180);
    let (wrong, acknowledged) = cut_in_a_loop("power cuts, proxy", cuts, |_| through_socks(port), patience);
    eprintln!("{cuts} power cuts with a proxy between, {acknowledged} acknowledged, {:?}", started.elapsed());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(acknowledged >= cuts as usize * LOAD, "too little load to show anything: {acknowledged}");
}

/// The control: where nothing is synced, a power cut takes what was acknowledged.
#[test]
fn control_a_relay_that_does_not_sync_loses_events_by_power_cuts() {
    let no_sync = |site: &Site| preloaded(site, "no_sync", "");
    let (wrong, acknowledged) = cut_in_a_loop("power cuts, control", 4, no_sync, Duration::from_secs(2));
    assert_some_lost(&wrong, acknowledged);
}
