//! Out to the upstream where the way is hard: no route but to a proxy, real proxies that refuse or are killed, a name
//! that moves, a resolver that hangs.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::full::with_mount;
use crate::process::{Site, TOKEN, words};
use crate::seeded;
use crate::senders::{Connections, Senders};
use crate::upstream::{Reply, Upstream};

/// A network of its own that ends with it.
struct Network {
    holder: Child,
    /// What runs a command in it.
    enter: Vec<String>,
}

/// A program that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Network {
    /// Beside this machine's, or beside another one.
    fn new(beside: Option<&Network>) -> Network {
        let begun = |unshare: &str, enter: &str| {
            let outer = beside.map_or(Vec::new(), |network| network.enter.clone());
            let script = "ip link set lo up && echo up && exec sleep 1000";
            let all: Vec<String> = outer.into_iter().chain(words(unshare)).collect();
            let mut command = Command::new(&all[0]);
            command.args(&all[1..]).args(["sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut holder = command.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let enter = words(&format!("nsenter -t {} {enter}", holder.id()));
            if line == "up\n" {
                return Some(Network { holder, enter });
            }
            let _ = holder.wait();
            None
        };
        let network = match beside {
            Some(other) if other.enter.contains(&"-U".to_owned()) => {
                begun("unshare -n", "-U -n --preserve-credentials")
            }
            Some(_) => begun("unshare -n", "-n"),
            None => begun("unshare -n", "-n").or_else(|| begun("unshare -Urn", "-U -n --preserve-credentials")),
        };
        network.expect("this machine lets nobody make a network of its own: run the tests as root (needs iproute2)")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.enter[0]);
        command.args(&self.enter[1..]).arg(program);
        command.env("SERVICEPILOT_TOKEN", TOKEN).env("CALLGOOSE_TOKEN", "upstream-canary-93ab");
        command
    }

    fn run(&self, line: &str) -> bool {
        let words = words(line);
        let output = self.command(&words[0]).args(&words[1..]).output().unwrap();
        output.status.success()
    }

    fn start(&self, line: &str) -> Killed {
        let words = words(line);
        let mut command = self.command(&words[0]);
        Killed(command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Two networks: `outside`, with an upstream and proxies, and `inside`, which reaches nothing but the proxies.
struct Edge {
    outside: Network,
    inside: Network,
    _running: Vec<Killed>,
    directory: tempfile::TempDir,
}

const GANDER: &str = env!("CARGO_BIN_EXE_gander");
/// Addresses that are for documentation: nobody has them.
const UPSTREAM: &str = "198.51.100.1";
const PROXY: &str = "192.0.2.1";

impl Edge {
    fn new() -> Edge {
        let outside = Network::new(None);
        let inside = Network::new(Some(&outside));
        let directory = tempfile::tempdir().unwrap();
        for line in [
            format!("ip addr add {UPSTREAM}/32 dev lo"),
            format!("ip link add to-inside type veth peer name to-outside netns {}", inside.holder.id()),
            format!("ip addr add {PROXY}/30 dev to-inside"),
            "ip link set to-inside up".to_owned(),
        ] {
            assert!(outside.run(&line), "{line}");
        }
        for line in ["ip addr add 192.0.2.2/30 dev to-outside", "ip link set to-outside up"] {
            assert!(inside.run(line), "{line}");
        }
        let settings = directory.path().join("tinyproxy.conf");
        let text = format!("Port 3128\nListen {PROXY}\nTimeout 600\nBasicAuth user right\nConnectPort 8090\n");
        std::fs::write(&settings, text).unwrap();
        let running = vec![
            outside.start(&format!("{GANDER} sandbox --listen {UPSTREAM}:8090")),
            outside.start(&format!("tinyproxy -d -c {}", settings.display())),
            outside.start(&format!("microsocks -i {PROXY} -p 1080 -u user -P right")),
        ];
        let edge = Edge { outside, inside, _running: running, directory };
        for address in [format!("{UPSTREAM} 8090"), format!("{PROXY} 3128"), format!("{PROXY} 1080")] {
            let end = Instant::now() + Duration::from_secs(60);
            while !connects(&edge.outside, &address) {
                assert!(Instant::now() < end, "nobody listens on {address}: are tinyproxy and microsocks installed?");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        edge
    }

    /// Starts a relay inside, with this proxy.
    fn relay(&self, proxy: &str, upstream: &str) -> (Killed, PathBuf, BufReader<std::process::ChildStderr>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let rules = root.join("config/rules/servicepilot.yaml");
        let directory = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        let path = directory.join("gander.yaml");
        let text = format!(
            "listen: {{ address: '127.0.0.1:8443', tls: off }}
data_dir: '{shown}/data'
sources:
  servicepilot: {{ rules: '{rules}', auth: [ {{ bearer: {{ env: SERVICEPILOT_TOKEN }} }} ] }}
upstream:
  url: http://{upstream}/sqibs-api/v1/process
  insecure: true
  proxy: '{proxy}'
  authorization: {{ bearer: {{ env: CALLGOOSE_TOKEN }} }}
  timeout: 3s
  retry: {{ initial: 100ms, max: 200ms }}
log: {{ format: json }}
",
            shown = directory.display(),
            rules = rules.display(),
        );
        std::fs::write(&path, text).unwrap();
        let mut command = self.inside.command(GANDER);
        command.args(["run", "--config"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let relay = Killed(child);
        next(&mut log, "gander takes events");
        (relay, path, log)
    }

    /// Sends an event of a new key to the relay inside; returns whether it was delivered and opened an incident.
    fn send(&self, configuration: &Path, seconds: u32) -> bool {
        let mut send = self.inside.command(GANDER);
        send.args(["send", "--source", "servicepilot", "--timeout", &seconds.to_string(), "--config"]);
        let mut send = send
            .arg(configuration)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let key = format!("e{}", fastrand::u64(..));
        let payload = json!({ "servicepilot_event_id": key, "state": "CRITICAL", "title": "t" });
        send.stdin.take().unwrap().write_all(payload.to_string().as_bytes()).unwrap();
        let output = send.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("created")
    }
}

fn connects(network: &Network, address: &str) -> bool {
    let (host, port) = address.split_once(' ').unwrap();
    let mut command = network.command("bash");
    command.args(["-c", &format!("exec 3<>/dev/tcp/{host}/{port}")]).stderr(Stdio::null());
    command.status().unwrap().success()
}

/// The fields of the next line of a log that says so.
fn next(log: &mut impl BufRead, words: &str) -> Value {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "no {words}: {all}");
        if line.contains(words) {
            let line: Value = serde_json::from_str(&line).unwrap();
            return line.get("fields").unwrap_or(&line).clone();
        }
        all += &line;
    }
}

#[test]
fn a_relay_without_a_route_delivers_through_a_proxy() {
    let edge = Edge::new();
    // What is to be shown needs that there is no other way.
    assert!(!edge.inside.run(&format!("ip route get {UPSTREAM}")), "there is a route");
    assert!(
        !connects(&edge.inside, &format!("{UPSTREAM} 8090")) && connects(&edge.outside, &format!("{UPSTREAM} 8090"))
    );
    let upstream = format!("{UPSTREAM}:8090");
    let (relay, path, mut log) = edge.relay("off", &upstream);
    assert!(!edge.send(&path, 2));
    assert_eq!(next(&mut log, "the breaker is open")["reason"], "connect");
    drop(relay);
    for proxy in [
        format!("http://user:right@{PROXY}:3128"),
        format!("socks5h://user:right@{PROXY}:1080"),
        format!("socks5://user:right@{PROXY}:1080"),
    ] {
        let (_relay, path, _log) = edge.relay(&proxy, &upstream);
        assert!(edge.send(&path, 60), "{proxy}");
    }
}

#[test]
fn real_proxies_that_refuse_pause_deliveries_and_are_named() {
    let edge = Edge::new();
    for (proxy, upstream, reason, status) in [
        // tinyproxy says 401 of wrong ones.
        (format!("http://user:wrong@{PROXY}:3128"), format!("{UPSTREAM}:8090"), "proxy_unauthorized", json!(401)),
        (format!("http://{PROXY}:3128"), format!("{UPSTREAM}:8090"), "proxy_unauthorized", json!(407)),
        // The port is not one that it lets through.
        (format!("http://user:right@{PROXY}:3128"), format!("{UPSTREAM}:8091"), "proxy_refused", json!(403)),
        (format!("socks5h://user:wrong@{PROXY}:1080"), format!("{UPSTREAM}:8090"), "proxy_unauthorized", Value::Null),
        (format!("socks5h://{PROXY}:1080"), format!("{UPSTREAM}:8090"), "proxy_unauthorized", Value::Null),
    ] {
        let (_relay, path, mut log) = edge.relay(&proxy, &upstream);
        assert!(!edge.send(&path, 1));
        let paused = next(&mut log, "deliveries are paused");
        assert_eq!(
            (&paused["reason"], paused.get("status").unwrap_or(&Value::Null)),
            (&json!(reason), &status),
            "{paused}"
        );
        let (scheme, host) = proxy.split_once("://").unwrap();
        let shown = format!("{scheme}://{}", host.rsplit('@').next().unwrap());
        assert!(paused["detail"].as_str().unwrap().starts_with(&shown), "{paused}");
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn nothing_is_lost_while_the_proxy_and_the_relay_are_killed() {
    let mut dice = seeded("egress kills");
    let upstream = Upstream::flapping(dice.fork());
    let site = Site::new(&upstream);
    let port = free_port();
    let proxy = || {
        let mut command = Command::new("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]).stderr(Stdio::null());
        Killed(command.spawn().expect("microsocks is installed"))
    };
    let under = vec!["env".to_owned(), format!("GANDER_UPSTREAM__PROXY=socks5h://127.0.0.1:{port}")];
    let mut senders = Senders::new(4, &mut dice);
    for _ in 0..8 {
        let running = proxy();
        let process = site.start(&under);
        let (relay, at) = (process.port, |dice: &mut fastrand::Rng| Duration::from_millis(dice.u64(20..400)));
        let waits = [at(&mut dice), at(&mut dice), at(&mut dice)];
        senders.work(relay, Connections::Kept, || {
            std::thread::sleep(waits[0]);
            drop(running);
            std::thread::sleep(waits[1]);
            let _running = proxy();
            std::thread::sleep(waits[2]);
            process.kill();
        });
    }
    upstream.follow(|| Reply::Done);
    let _running = proxy();
    let process = site.start(&under);
    assert_eq!(senders.settle(&upstream, Duration::from_secs(60)), Vec::<String>::new());
    assert!(senders.acknowledged() > 100, "{}", senders.acknowledged());
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
}

/// Two listeners on one port of two addresses of this machine.
fn twins() -> (TcpListener, TcpListener) {
    loop {
        let first = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
        if let Ok(second) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), first.local_addr().unwrap().port())) {
            return (first, second);
        }
    }
}

#[test]
fn a_name_that_moves_is_followed_within_30_seconds_whatever_the_old_address_answers() {
    std::thread::scope(|scope| {
        for old_answers in [Reply::Done, Reply::Unavailable] {
            scope.spawn(move || follows(old_answers));
        }
    });
}

fn follows(old_answers: Reply) {
    let mut dice = seeded("egress failover");
    let (first, second) = twins();
    let port = first.local_addr().unwrap().port();
    let (old, new) = (Upstream::start_on(first, || Reply::Done), Upstream::start_on(second, || Reply::Done));
    let site = Site::new(&old);
    let hosts = site.directory.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.2 upstream.test\n").unwrap();
    let under = with_mount(&format!("mount --bind {} /etc/hosts", hosts.display()));
    let url = format!("http://upstream.test:{port}/sqibs-api/v1/process");
    let under: Vec<String> = under
        .into_iter()
        .chain(["env".to_owned(), format!("GANDER_UPSTREAM__URL={url}"), "GANDER_UPSTREAM__INSECURE=true".to_owned()])
        .collect();
    let process = site.start(&under);
    let mut senders = Senders::new(2, &mut dice).paced(Duration::from_millis(100));
    let took = senders.work(process.port, Connections::Kept, || {
        assert!(old.until(Duration::from_secs(60), |arrivals| arrivals.len() > 10));
        // The old address is there and answers, on connections that are kept.
        old.follow(move || old_answers);
        // In place: the mount is of this file.
        std::fs::write(&hosts, "127.0.0.3 upstream.test\n").unwrap();
        let moved = Instant::now();
        assert!(new.until(Duration::from_secs(60), |arrivals| !arrivals.is_empty()), "never followed");
        let took = moved.elapsed();
        let before = old.arrivals().len();
        std::thread::sleep(Duration::from_secs(1));
        // A call that was under way then may still have ended there.
        assert!(old.arrivals().len() <= before + 2, "both are used");
        took
    });
    eprintln!("{old_answers:?}: followed after {:?}", took.0);
    assert!(took.0 < Duration::from_secs(30), "{:?}", took.0);
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn a_resolver_that_hangs_is_told_and_what_was_known_is_used_meanwhile() {
    // Takes questions and answers none.
    let id = std::process::id().to_be_bytes();
    let silent = SocketAddr::from((Ipv4Addr::new(127, 77, id[2], id[3]), 53));
    let _silent = UdpSocket::bind(silent).expect("port 53 may be bound: run the tests as root");
    let upstream = Upstream::start(|| Reply::Done);
    let site = Site::new(&upstream);
    let file = |name: &str, text: &str| {
        let path = site.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let resolv = file("resolv.conf", &format!("nameserver {}\noptions timeout:30 attempts:1\n", silent.ip()));
    let hosts = file("hosts", "127.0.0.1 localhost\n");
    let mount =
        format!("mount --bind {} /etc/resolv.conf && mount --bind {} /etc/hosts", resolv.display(), hosts.display());
    let url = upstream.url().replace("127.0.0.1", "upstream.test");
    let under: Vec<String> = with_mount(&mount)
        .into_iter()
        .chain(["env".to_owned(), format!("GANDER_UPSTREAM__URL={url}"), "GANDER_UPSTREAM__INSECURE=true".to_owned()])
        .collect();
    let process = site.start(&under);
    let mut dice = seeded("egress resolver");
    let mut senders = Senders::new(1, &mut dice).paced(Duration::from_millis(100));
    let event = |senders: &mut Senders| drop(senders.work_for(process.port, Connections::OneEach, 1));
    event(&mut senders);
    let told = process.until_said("the breaker is open", Duration::from_secs(30)).expect("it is told");
    assert_eq!((&told["reason"], &told["fault"]), (&json!("dns"), &json!("network")), "{told}");
    // SIGTERM does not wait for the look-up.
    let (code, took) = process.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(10), "{code:?} {took:?}");

    std::fs::write(&hosts, "127.0.0.1 localhost upstream.test\n").unwrap();
    let process = site.start(&under);
    assert!(upstream.until(Duration::from_secs(30), |arrivals| !arrivals.is_empty()), "found in /etc/hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    // Longer than what was found is fresh.
    std::thread::sleep(Duration::from_secs(6));
    let before = upstream.arrivals().len();
    drop(senders.work_for(process.port, Connections::OneEach, 3));
    assert!(upstream.until(Duration::from_secs(30), |arrivals| arrivals.len() > before), "the last address is used");
    process.assert_no_panic();
}
