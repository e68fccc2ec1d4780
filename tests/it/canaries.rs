//! A secret in every slot, and everything that a relay produces searched for it: log at trace level, answers, pages,
//! metrics, journal, the command line's output, what the kernel shows of the process, and what goes to Callgoose.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::relay::{payload, within};
use crate::upstream::{Reply, Upstream};

/// A slot for a secret: its name, and where its value comes from.
struct Slot {
    name: &'static str,
    from: From,
}

enum From {
    Variable(&'static str),
    File(&'static str),
    Literal,
    /// Shown by a stranger, and right nowhere.
    Typed,
}

const SLOTS: [Slot; 12] = [
    Slot { name: "bearer", from: From::Variable("SENDER_TOKEN") },
    Slot { name: "header", from: From::File("header-token") },
    Slot { name: "query", from: From::Literal },
    Slot { name: "basic", from: From::Variable("SENDER_PASSWORD") },
    Slot { name: "hmac", from: From::File("hmac-secret") },
    Slot { name: "webhook", from: From::Literal },
    Slot { name: "admin", from: From::Variable("GANDER_ADMIN__TOKEN") },
    Slot { name: "upstream", from: From::Variable("CALLGOOSE_TOKEN") },
    Slot { name: "wrong", from: From::Typed },
    Slot { name: "path", from: From::Typed },
    Slot { name: "page", from: From::Typed },
    Slot { name: "proxy", from: From::Typed },
];

/// The secret in a slot: nothing else is spelled like it.
fn canary(name: &str) -> String {
    assert!(SLOTS.iter().any(|slot| slot.name == name), "there is no slot {name}");
    format!("kanarienvogel-{name}-0123456789")
}

/// A relay of its own process, and all that was seen of it.
struct Cage {
    directory: tempfile::TempDir,
    child: Child,
    port: u16,
    admin_port: u16,
    seen: Vec<(String, Vec<u8>)>,
}

impl Cage {
    fn start(upstream: &Upstream) -> Cage {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for Slot { name, from } in &SLOTS {
            if let From::File(file) = from {
                fs::write(root.join(file), canary(name)).unwrap();
            }
        }
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules/servicepilot.yaml");
        fs::copy(rules, root.join("rules.yaml")).unwrap();
        fs::write(root.join("gander.yaml"), configuration(root, upstream)).unwrap();
        let log = fs::File::create(root.join("log")).unwrap();
        // Where a core were written if there were one.
        let script = "ulimit -c unlimited; exec \"$0\" run --config gander.yaml";
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_gander")]).current_dir(root).stdin(Stdio::null()).stderr(log);
        environment(&mut command);
        let child = command.spawn().unwrap();
        let (port, admin_port) = ports(&root.join("log"));
        Cage { directory, child, port, admin_port, seen: Vec::new() }
    }

    /// Keeps what an answer says, head and body; returns its status.
    fn ask(&mut self, method: &str, admin: bool, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        let url = match admin {
            true => format!("http://127.0.0.1:{}{path}", self.admin_port),
            false => format!("https://127.0.0.1:{}{path}", self.port),
        };
        let mut curl = Command::new("curl");
        curl.args(["-sik", "--noproxy", "*", "--max-time", "60", "-X", method, "--data-binary", body, &url]);
        for (name, value) in headers {
            curl.arg("-H").arg(format!("{name}: {value}"));
        }
        let answer = curl.output().unwrap().stdout;
        let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok());
        self.seen.push((format!("the answer to {path}"), answer));
        status.unwrap_or(0)
    }

    /// Keeps what a command prints.
    fn run(&mut self, arguments: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gander"));
        command.args(arguments).args(["--config", "gander.yaml"]).current_dir(self.directory.path());
        command.args(["--set", &format!("listen.address=127.0.0.1:{}", self.port)]);
        command.args(["--set", &format!("admin.address=127.0.0.1:{}", self.admin_port)]);
        environment(&mut command);
        let ended = command.stdin(Stdio::null()).output().unwrap();
        self.seen.push((format!("gander {}", arguments.join(" ")), [ended.stdout, ended.stderr].concat()));
    }

    fn keep_file(&mut self, path: &Path) {
        let bytes = fs::read(path).unwrap();
        self.seen.push((path.display().to_string(), bytes));
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn configuration(root: &Path, upstream: &Upstream) -> String {
    format!(
        "listen: {{ address: 127.0.0.1:0, tls: {{ certificate: server.pem, private_key: server.key }} }}
admin: {{ address: 127.0.0.1:0 }}
sources:
  servicepilot:
    rules: rules.yaml
    auth:
      - bearer: {{ env: SENDER_TOKEN }}
      - header: {{ name: X-Token, secret: {{ file: header-token }} }}
      - query: {{ name: token, secret: {query} }}
  by-password: {{ rules: rules.yaml, auth: [{{ basic: {{ user: sender, password: {{ env: SENDER_PASSWORD }} }} }}] }}
  by-signature: {{ rules: rules.yaml, auth: [{{ hmac: {{ preset: slack, secret: {{ file: hmac-secret }} }} }}] }}
  by-webhook: {{ rules: rules.yaml, auth: [{{ standard_webhooks: {{ secrets: ['whsec_{webhook}'] }} }}] }}
upstream:
  url: {url}
  authorization: {{ bearer: {{ env: CALLGOOSE_TOKEN }} }}
  retry: {{ initial: 10ms, factor: 1, max: 50ms }}
  tls: {{ ca: '{ca}' }}
data_dir: '{data}'
log: {{ level: trace }}
",
        query = canary("query"),
        webhook = BASE64_STANDARD.encode(canary("webhook")),
        url = upstream.url(),
        ca = upstream.ca.display(),
        data = root.join("data").display(),
    )
}

fn environment(command: &mut Command) {
    command.env_clear().env("PATH", "/usr/bin:/bin").env("NO_PROXY", "*");
    command.env("HTTPS_PROXY", format!("http://user:{}@127.0.0.1:9", canary("proxy")));
    for Slot { name, from } in &SLOTS {
        if let From::Variable(variable) = from {
            command.env(variable, canary(name));
        }
    }
}

/// The ports of senders and operators, once the log tells them.
fn ports(log: &Path) -> (u16, u16) {
    let port = |line: &serde_json::Value, name: &str| line[name].as_str()?.rsplit(':').next()?.parse().ok();
    loop {
        let text = fs::read_to_string(log).unwrap();
        let started = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let line = started.into_iter().find(|line| line["message"] == "gander takes events");
        if let Some(found) = line.and_then(|line| Some((port(&line, "listen")?, port(&line, "admin")?))) {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// The spellings in which a secret could come out.
fn spellings(secret: &str) -> [Vec<u8>; 4] {
    let basic = BASE64_STANDARD.encode(format!("user:{secret}"));
    // Without the beginning, which depends on what stands before the secret.
    let basic = basic[12..basic.len() - 4].to_owned();
    [secret.into(), hex::encode(secret).into_bytes(), basic.into_bytes(), BASE64_STANDARD.encode(secret).into_bytes()]
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_comes_out_anywhere() {
    within(async {
        // An upstream that says what it was shown.
        let upstream = Upstream::start(|call, earlier| {
            let shown = call.headers.get("authorization").map_or_else(String::new, |value| format!("{value:?}"));
            match call.key() {
                "echoed" => Reply::json(
                    403,
                    &json!({ "error": format!("no such token: {}", canary("upstream")), "shown": shown }),
                ),
                _ if earlier == 0 => Reply::json(500, &json!({ "error": shown })),
                _ => Reply::status(201),
            }
        })
        .await;
        let mut cage = Cage::start(&upstream);
        senders(&mut cage);
        operators(&mut cage).await;
        for kernel in ["cmdline", "environ"] {
            cage.keep_file(Path::new(&format!("/proc/{}/{kernel}", cage.child.id())));
        }
        // A configuration that can't be read, and then the end by a fault.
        let configuration = cage.directory.path().join("gander.yaml");
        let text = fs::read_to_string(&configuration).unwrap();
        fs::write(&configuration, text.replace("secret: kan", "secret: [kan").replace("admin:", "admin: {{")).unwrap();
        cage.signal("-HUP");
        while !fs::read_to_string(cage.directory.path().join("log")).unwrap().contains("not reloaded") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        cage.run(&["check"]);
        cage.signal("-ABRT");
        cage.child.wait().unwrap();
        search(&mut cage, &upstream);
    })
    .await;
}

/// Senders with right, wrong and misplaced secrets.
fn senders(cage: &mut Cage) {
    let (bearer, wrong) = (format!("Bearer {}", canary("bearer")), format!("Bearer {}", canary("wrong")));
    let (header, typed) = (canary("header"), BASE64_STANDARD.encode(format!("user:{}", canary("wrong"))));
    let by_query = format!("/hooks/servicepilot?token={}", canary("query"));
    let (basic, lonely) = (format!("Basic {typed}"), canary("wrong"));
    for (path, header, key, status) in [
        ("/hooks/servicepilot", ("authorization", bearer.as_str()), "a", 202),
        ("/hooks/servicepilot", ("x-token", header.as_str()), "b", 202),
        (by_query.as_str(), ("x-nothing", ""), "c", 202),
        ("/hooks/servicepilot", ("authorization", wrong.as_str()), "d", 401),
        ("/hooks/servicepilot", ("authorization", basic.as_str()), "d", 401),
        ("/hooks/servicepilot", ("authorization", lonely.as_str()), "d", 401),
        ("/hooks/servicepilot", ("x-token", lonely.as_str()), "d", 401),
        (&format!("/hooks/servicepilot?token={}", canary("wrong")), ("x-nothing", ""), "d", 401),
        (&format!("/hooks/servicepilot/{}", canary("path")), ("x-nothing", ""), "d", 404),
        (&format!("/{}", canary("path")), ("x-nothing", ""), "d", 404),
    ] {
        let headers = [header, ("content-type", "application/json")];
        let found = cage.ask("POST", false, path, &headers, &payload(key, "CRITICAL").to_string());
        assert_eq!(found, status, "{path} {key}");
    }
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    // `gander send` shows or signs by each of the others.
    for source in ["by-password", "by-signature", "by-webhook"] {
        let file = cage.directory.path().join(format!("{source}.json"));
        fs::write(&file, payload(source, "CRITICAL").to_string()).unwrap();
        cage.run(&["send", "--source", source, file.to_str().unwrap()]);
        let (_, said) = cage.seen.last().unwrap();
        assert!(holds(said, b"delivered") || holds(said, b"queued"), "{}", String::from_utf8_lossy(said));
    }
    for (body, status) in [("{", 400), ("{}", 422)] {
        assert_eq!(cage.ask("POST", false, "/hooks/servicepilot", &headers, body), status);
    }
}

/// An operator with the token, and somebody who has another one.
async fn operators(cage: &mut Cage) {
    let right = format!("Bearer {}", canary("admin"));
    let admin = [("authorization", right.as_str())];
    loop {
        cage.ask("GET", true, "/api/v1/events?state=delivered", &admin, "");
        let (_, answer) = cage.seen.last().unwrap();
        if ["a", "b", "c"].iter().all(|key| holds(answer, format!("\"incident_key\":\"{key}\"").as_bytes())) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // From now on the upstream is told to have another token, and says so.
    let bearer = format!("Bearer {}", canary("bearer"));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let payload = payload("echoed", "CRITICAL").to_string();
    assert_eq!(cage.ask("POST", false, "/hooks/servicepilot", &headers, &payload), 202);
    while !cage.seen.last().is_some_and(|(_, answer)| holds(answer, b"no such token")) {
        cage.ask("GET", true, "/readyz", &admin, "");
        cage.ask("GET", true, "/api/v1/events?key=echoed", &admin, "");
        let (_, answer) = cage.seen.last().unwrap();
        let text = String::from_utf8_lossy(answer).into_owned();
        let id = text.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned();
        cage.ask("GET", true, &format!("/api/v1/events/{id}"), &admin, "");
        cage.ask("GET", true, &format!("/events/{id}"), &admin, "");
    }
    for path in [
        "/",
        "/events",
        "/queue",
        "/incidents",
        "/attention",
        "/bench",
        "/connect",
        "/metrics",
        "/readyz",
        "/healthz",
        "/api/v1/status",
        "/api/v1/events",
        "/api/v1/queue",
        "/api/v1/commands",
        "/api/v1/incidents",
        "/api/v1/holds",
        "/api/v1/nothing",
    ] {
        cage.ask("GET", true, path, &admin, "");
        cage.ask("GET", true, &format!("{path}?token={}", canary("path")), &[], "");
    }
    let typed = format!("token={}", canary("page"));
    let form = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    cage.ask("POST", true, "/sign-in", &form, &typed);
    cage.ask("POST", true, "/sign-in", &form, &format!("token={}", canary("admin")));
    let wrong = format!("Bearer {}", canary("wrong"));
    cage.ask("GET", true, "/api/v1/status", &[("authorization", wrong.as_str())], "");
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["events", "list", "--json"],
        &["queue"],
        &["doctor"],
        &["check"],
        &["health", "--ready"],
        &["explain", "--source", "servicepilot"],
        &["send", "--source", "servicepilot", "--wait", "0"],
    ] {
        cage.run(command);
    }
}

/// Searches all that was seen, what lies on disk, and what the upstream was sent.
fn search(cage: &mut Cage, upstream: &Upstream) {
    let root = cage.directory.path().to_owned();
    cage.keep_file(&root.join("log"));
    for entry in fs::read_dir(root.join("data")).unwrap() {
        cage.keep_file(&entry.unwrap().path());
    }
    let key = fs::read_to_string(root.join("server.key")).unwrap();
    let key = key.lines().nth(1).unwrap().as_bytes().to_owned();
    for (place, bytes) in &cage.seen {
        // Who typed it into an address has it before them already.
        for slot in SLOTS.iter().filter(|slot| !place.contains(&canary(slot.name))) {
            let found = spellings(&canary(slot.name)).iter().any(|spelling| holds(bytes, spelling));
            assert!(!found, "the secret `{}` is in {place}:\n{}", slot.name, String::from_utf8_lossy(bytes));
        }
        assert!(!holds(bytes, &key), "the private key is in {place}");
    }
    // That this is a search at all: what was sent is in the journal, and the log tells more than usual.
    let all = |part: &[u8]| cage.seen.iter().any(|(_, bytes)| holds(bytes, part));
    for part in ["echoed", "DEBUG", "CALLGOOSE_TOKEN="] {
        assert!(all(part.as_bytes()), "{part} was not searched");
    }
    // `doctor` looks at the way to it without the token.
    let calls: Vec<_> = upstream.calls().into_iter().filter(|call| call.method == http::Method::POST).collect();
    assert!(
        calls.len() > 3
            && calls.iter().all(|call| call.headers["authorization"] == format!("Bearer {}", canary("upstream")))
    );
    for call in calls {
        let shown = format!("{call:?}");
        let others = SLOTS.iter().filter(|slot| slot.name != "upstream");
        let leaked: Vec<_> = others.map(|slot| slot.name).filter(|name| shown.contains(&canary(name))).collect();
        assert!(leaked.is_empty(), "{leaked:?} went to the upstream: {shown}");
    }
    let cores = fs::read_dir(&root)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("core"));
    assert_eq!(cores.count(), 0, "there is a core");
}
