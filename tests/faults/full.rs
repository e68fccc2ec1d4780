//! A disk that fills while events come, and is freed again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::failing::AGAIN;
use crate::process::{Site, words};
use crate::seeded;
use crate::senders::{Answer, Connections, Senders};
use crate::upstream::{Arrival, Reply, Upstream};

/// What starts a program with a mount of its own, which no one else sees and which ends with it.
///
/// Root may do that; others where the kernel grants user namespaces. Where neither is allowed the test fails: to pass
/// without a full disk would say something that was not looked at.
pub fn with_mount(mount: &str) -> Vec<String> {
    for unshare in ["unshare -m", "unshare -Urm"] {
        let words = words(unshare);
        let tried = Command::new(&words[0]).args(&words[1..]).args(["sh", "-c", mount]).output();
        if tried.is_ok_and(|output| output.status.success()) {
            let script = format!("{mount} && exec \"$@\"");
            return words.into_iter().chain(["sh".into(), "-c".into(), script, "sh".into()]).collect();
        }
    }
    panic!(
        "this machine lets nobody mount a volume of its own (`{mount}`): run the tests as root, \
         in a container with CAP_SYS_ADMIN, or where user namespaces are allowed"
    );
}

/// What starts a program beside a process that has a mount of its own, so that it sees the same volume.
pub fn beside(process: u32) -> Vec<String> {
    for enter in ["-m", "-U -m --preserve-credentials"] {
        let words = words(&format!("nsenter -t {process} {enter}"));
        if Command::new(&words[0]).args(&words[1..]).arg("true").output().is_ok_and(|output| output.status.success()) {
            return words;
        }
    }
    panic!("nsenter (util-linux) could not join the mounts of process {process}");
}

/// Fills the volume to its last byte, but for nothing.
pub fn fill(ballast: &Path) -> u64 {
    let mut file = File::create(ballast).unwrap();
    for size in [64 * 1024, 4096, 512, 1] {
        let piece = vec![0xA5; size];
        while file.write_all(&piece).and_then(|()| file.sync_data()).is_ok() {}
    }
    fs::metadata(ballast).unwrap().len()
}

fn last_status(answers: &[(Instant, Answer)], after: Instant) -> Option<u16> {
    answers.iter().filter(|(at, _)| *at > after).map(|(_, answer)| answer.status).next_back()
}

/// Events come, the disk fills, is full for a while and is freed, and all that time the upstream is there.
fn fills_and_is_freed(test: &str, mount: impl Fn(&Path) -> String) {
    let mut dice = seeded(test);
    let upstream = Upstream::start(|| Reply::Silence);
    let site = Site::new(&upstream);
    fs::create_dir(site.data()).unwrap();
    // Gently, so that it is not the log of the journal that fills the volume first.
    let mut senders = Senders::new(3, &mut dice).paced(Duration::from_millis(30));
    let process = site.start(&with_mount(&mount(&site.data())));
    // The volume as the process sees it.
    let ballast = PathBuf::from(format!("/proc/{}/root{}/ballast", process.id(), site.data().display()));
    let port = process.port;
    let work = |senders: &mut Senders, duration: Duration| {
        let (_, stops) = senders.work(port, Connections::Kept, || std::thread::sleep(duration));
        assert!(stops.iter().all(|stop| matches!(stop, crate::senders::Stop::Told)), "{stops:?}");
        senders.answers()
    };

    senders.work_for(port, Connections::Kept, 10);
    assert!(fill(&ballast) > 0);
    let full = Instant::now();
    let answers = work(&mut senders, Duration::from_secs(3));
    assert_eq!(last_status(&answers, full), Some(503), "a full disk takes nothing");
    let refused = answers.iter().rev().find(|(_, answer)| answer.status == 503).unwrap();
    assert!(refused.1.json["detail"].as_str().unwrap().contains("full"), "{refused:?}");
    let (status, ready) = process.get("/readyz");
    assert_eq!((status, &ready["degraded"][0]["reason"]), (503, &"journal".into()), "{ready}");

    // What was acknowledged before is delivered while nothing can be written: of each key the first, since the next
    // one waits until the end of the one before is on disk.
    let waiting = senders.keys().iter().filter(|key| key.acknowledged > 0).count();
    let before = upstream.arrivals().len();
    upstream.follow(|| Reply::Done);
    let delivered = |arrivals: &[Arrival]| {
        let keys: HashSet<_> = arrivals[before..].iter().map(|arrival| arrival.key.clone()).collect();
        keys.len()
    };
    let all = upstream.until(Duration::from_secs(180), |arrivals| delivered(arrivals) >= waiting);
    assert!(all, "{waiting} keys waited, {} were delivered", delivered(&upstream.arrivals()));
    assert_eq!(process.get("/readyz").0, 503, "the disk is still full");

    fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    let again = loop {
        let answers = work(&mut senders, Duration::from_millis(200));
        let taken = answers.iter().find(|(at, answer)| *at > freed && answer.status == 202);
        if let Some((at, _)) = taken {
            break *at;
        }
        assert!(freed.elapsed() < AGAIN, "events are taken again within five seconds");
    };
    eprintln!("{test}: taken again after {:?}", again - freed);
    assert_eq!(process.get("/readyz").0, 200);
    assert_eq!(senders.settle(&upstream, Duration::from_secs(180)), Vec::<String>::new());
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn an_ext4_volume_of_8_mb_fills_and_is_freed() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("volume");
    File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let made = Command::new("mkfs.ext4").arg("-q").arg(&image).output().expect("mkfs.ext4 is there (e2fsprogs)");
    assert!(made.status.success(), "{made:?}");
    fills_and_is_freed("full ext4", |data| format!("mount -o loop {} {}", image.display(), data.display()));
}

#[test]
fn a_volume_in_memory_fills_and_is_freed() {
    fills_and_is_freed("full tmpfs", |data| format!("mount -t tmpfs -o size=8m none {}", data.display()));
}
