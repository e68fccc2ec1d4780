//! Out to the upstream where the way is hard: no route but to a proxy, real proxies that refuse or are killed, a name
//! that moves, a resolver that hangs.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
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
pub struct Killed(Child);

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
        let squid = squid_settings(directory.path(), &format!("{PROXY}:3129"), "8090 8099");
        let running = vec![
            outside.start(&format!("{GANDER} sandbox --listen {UPSTREAM}:8090")),
            outside.start(&squid),
            outside.start(&format!("tinyproxy -d -c {}", settings.display())),
            outside.start(&format!("microsocks -i {PROXY} -p 1080 -u user -P right")),
        ];
        let edge = Edge { outside, inside, _running: running, directory };
        for address in [(UPSTREAM, 8090), (PROXY, 3128), (PROXY, 3129), (PROXY, 1080)] {
            listens(|| connects(&edge.outside, &format!("{} {}", address.0, address.1)), &format!("{address:?}"));
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

/// Waits for a program that was started.
fn listens(connects: impl Fn() -> bool, address: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while !connects() {
        assert!(Instant::now() < end, "nobody listens on {address}: are tinyproxy, microsocks and squid installed?");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Writes what squid reads, for one user, `user:right`; returns the command that starts it.
fn squid_settings(directory: &Path, listen: &str, ports: &str) -> String {
    let hashed = Command::new("openssl").args(["passwd", "-apr1", "right"]).output().unwrap().stdout;
    let (users, settings) = (directory.join("squid.users"), directory.join("squid.conf"));
    std::fs::write(&users, format!("user:{}", String::from_utf8(hashed).unwrap())).unwrap();
    let text = format!(
        "http_port {listen}
auth_param basic program /usr/lib/squid/basic_ncsa_auth {}
acl known proxy_auth REQUIRED
acl allowed port {ports}
http_access deny !allowed
http_access allow known
http_access deny all
cache deny all
access_log none
cache_log /dev/null
pid_filename none
forward_max_tries 1
visible_hostname squid.test
max_filedescriptors 1024
",
        users.display()
    );
    std::fs::write(&settings, text).unwrap();
    // Started as root it becomes another user, who reads them too.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("squid -N -f {}", settings.display())
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
        format!("http://user:right@{PROXY}:3129"),
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
        // squid.
        (format!("http://user:wrong@{PROXY}:3129"), format!("{UPSTREAM}:8090"), "proxy_unauthorized", json!(407)),
        (format!("http://user:right@{PROXY}:3129"), format!("{UPSTREAM}:8091"), "proxy_refused", json!(403)),
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

#[test]
fn an_upstream_that_a_real_proxy_can_not_reach_is_the_proxys_503_and_pauses_nothing() {
    let edge = Edge::new();
    // squid lets this port through, and nobody listens on it.
    let (_relay, path, mut log) = edge.relay(&format!("http://user:right@{PROXY}:3129"), &format!("{UPSTREAM}:8099"));
    assert!(!edge.send(&path, 1));
    let told = next(&mut log, "the breaker is open");
    assert_eq!((&told["reason"], &told["status"], &told["fault"]), (&json!("proxy"), &json!(503), &json!("proxy")));
}

/// A SOCKS5 proxy on a port of 127.0.0.1.
pub fn microsocks(port: u16) -> Killed {
    let mut command = Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]).stderr(Stdio::null());
    Killed(command.spawn().expect("microsocks is installed"))
}

/// What a relay is started under that goes through it.
pub fn through_socks(port: u16) -> Vec<String> {
    words(&format!("env GANDER_UPSTREAM__PROXY=socks5h://127.0.0.1:{port}"))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn nothing_is_lost_while_the_proxy_and_the_relay_are_killed() {
    let mut dice = seeded("egress kills");
    let upstream = Upstream::flapping(dice.fork());
    let site = Site::new(&upstream);
    let port = free_port();
    let (proxy, under) = (|| microsocks(port), through_socks(port));
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
    assert_eq!(senders.settle(&upstream, Duration::from_secs(180)), Vec::<String>::new());
    assert!(senders.acknowledged() > 100, "{}", senders.acknowledged());
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
}

#[test]
fn nothing_is_lost_while_squid_is_killed_under_load() {
    let mut dice = seeded("egress squid");
    let upstream = Upstream::flapping(dice.fork());
    let site = Site::new(&upstream);
    let directory = tempfile::tempdir().unwrap();
    // Nobody is given a port of this address by chance while squid is down.
    let port = free_port();
    let upstreams = upstream.url().split(['/', ':']).nth(4).unwrap().to_owned();
    let command = words(&squid_settings(directory.path(), &format!("127.0.0.4:{port}"), &upstreams));
    let squid = || {
        let mut squid = Command::new(&command[0]);
        squid.args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Killed(squid.spawn().expect("squid is installed"));
        listens(|| TcpStream::connect(("127.0.0.4", port)).is_ok(), "squid's port");
        running
    };
    let mut running = Some(squid());
    let process = site.start(&["env".to_owned(), format!("GANDER_UPSTREAM__PROXY=http://user:right@127.0.0.4:{port}")]);
    let mut senders = Senders::new(4, &mut dice);
    senders.work(process.port, Connections::Kept, || {
        for _ in 0..3 {
            let before = upstream.arrivals().len();
            assert!(upstream.until(Duration::from_secs(180), |arrivals| arrivals.len() > before + 50), "through squid");
            drop(running.take());
            running = Some(squid());
        }
    });
    upstream.follow(|| Reply::Done);
    assert_eq!(senders.settle(&upstream, Duration::from_secs(180)), Vec::<String>::new());
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
}

/// Upstreams on one port of 127.0.0.2, 127.0.0.3, …
fn upstreams<const N: usize>() -> [Upstream; N] {
    loop {
        let port = free_port();
        let all: Vec<_> =
            (2..).take(N).map_while(|last| TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).ok()).collect();
        if let Ok(all) = <[TcpListener; N]>::try_from(all) {
            return all.map(|listener| Upstream::start_on(listener, || Reply::Done));
        }
    }
}

/// What a relay is started under that knows the upstream by name.
fn to_the_name(mut under: Vec<String>, upstream: &Upstream) -> Vec<String> {
    let url = upstream.url().replace("127.0.0.1", "upstream.test");
    under.extend([
        "env".to_owned(),
        format!("GANDER_UPSTREAM__URL={url}"),
        "GANDER_UPSTREAM__INSECURE=true".to_owned(),
    ]);
    under
}

/// A real name server, and what it has for `upstream.test`.
struct NameServer {
    running: Killed,
    hosts: PathBuf,
}

impl NameServer {
    fn start(directory: &Path, address: Ipv4Addr, addresses: &[&str]) -> NameServer {
        let hosts = directory.join("names");
        let settings =
            format!("--no-resolv --no-hosts --local-ttl=1 --addn-hosts={} --bind-interfaces", hosts.display());
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"]);
        command.arg(format!("--listen-address={address}")).args(words(&settings)).stderr(Stdio::null());
        write_names(&hosts, addresses);
        let server = NameServer { running: Killed(command.spawn().expect("dnsmasq is installed")), hosts };
        listens(|| TcpStream::connect((address, 53)).is_ok(), "port 53 of the name server");
        server
    }

    fn moves_to(&self, addresses: &[&str]) {
        write_names(&self.hosts, addresses);
        let told = Command::new("kill").args(["-HUP", &self.running.0.id().to_string()]).status();
        assert!(told.unwrap().success());
    }
}

fn write_names(hosts: &Path, addresses: &[&str]) {
    let lines: Vec<String> = addresses.iter().map(|address| format!("{address} upstream.test\n")).collect();
    std::fs::write(hosts, lines.concat()).unwrap();
}

#[test]
fn addresses_of_a_name_server_stand_in_for_each_other_and_are_followed() {
    let mut dice = seeded("egress name server");
    let [first, second, last] = upstreams();
    let site = Site::new(&first);
    let id = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 78, id[2], id[3]);
    let server = NameServer::start(site.directory.path(), address, &["127.0.0.2", "127.0.0.3"]);
    let resolv = site.directory.path().join("resolv.conf");
    std::fs::write(&resolv, format!("nameserver {address}\n")).unwrap();
    let under = with_mount(&format!("mount --bind {} /etc/resolv.conf", resolv.display()));
    let process = site.start(&to_the_name(under, &first));
    let mut senders = Senders::new(2, &mut dice).paced(Duration::from_millis(100));
    let arrives = |upstream: &Upstream, more: usize| {
        let (before, start) = (upstream.arrivals().len(), Instant::now());
        upstream.until(Duration::from_secs(180), |arrivals| arrivals.len() > before + more).then(|| start.elapsed())
    };
    let (took, stops) = senders.work(process.port, Connections::Kept, || {
        let mut either = [&first, &second];
        let end = Instant::now() + Duration::from_secs(60);
        while either[0].arrivals().len() <= 10 {
            assert!(Instant::now() < end, "neither address is used");
            either.swap(0, 1);
            std::thread::sleep(Duration::from_millis(10));
        }
        let [used, other] = either;
        used.leave();
        let replaced = arrives(other, 5).expect("the other address stands in");
        // The one that is left answers, and is no longer the name's.
        server.moves_to(&["127.0.0.4"]);
        let followed = arrives(&last, 0).expect("the name is followed");
        (replaced, followed)
    });
    eprintln!("one of two addresses gone: {:?}; the name moved: {:?}; {stops:?}", took.0, took.1);
    assert!(took.0 < Duration::from_secs(30) && took.1 < Duration::from_secs(30), "{took:?}");
    process.assert_no_panic();
    assert_eq!(process.terminate().0, Some(0));
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
    let [old, new] = upstreams();
    let site = Site::new(&old);
    let hosts = site.directory.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.2 upstream.test\n").unwrap();
    let under = with_mount(&format!("mount --bind {} /etc/hosts", hosts.display()));
    let process = site.start(&to_the_name(under, &old));
    let mut senders = Senders::new(2, &mut dice).paced(Duration::from_millis(100));
    let took = senders.work(process.port, Connections::Kept, || {
        assert!(old.until(Duration::from_secs(180), |arrivals| arrivals.len() > 10));
        // The old address is there and answers, on connections that are kept.
        old.follow(move || old_answers);
        // In place: the mount is of this file.
        std::fs::write(&hosts, "127.0.0.3 upstream.test\n").unwrap();
        let moved = Instant::now();
        assert!(new.until(Duration::from_secs(180), |arrivals| !arrivals.is_empty()), "never followed");
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
    let under = to_the_name(with_mount(&mount), &upstream);
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
    assert!(upstream.until(Duration::from_secs(120), |arrivals| !arrivals.is_empty()), "found in /etc/hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    // Longer than what was found is fresh.
    std::thread::sleep(Duration::from_secs(6));
    let before = upstream.arrivals().len();
    drop(senders.work_for(process.port, Connections::OneEach, 3));
    assert!(upstream.until(Duration::from_secs(120), |arrivals| arrivals.len() > before), "the last address is used");
    process.assert_no_panic();
}
