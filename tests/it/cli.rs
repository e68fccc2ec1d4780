//! The command line as a process: what it prints, where, and with which exit code.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::process;
use crate::relay::{Relay, Setup, TOKEN, UPSTREAM_TOKEN, payload, within, write_configuration};
use crate::upstream::{Gate, Reply, Upstream};

/// How the program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program with both tokens in its environment and nothing else of this process's that could matter.
pub fn gander(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gander"));
    command.current_dir(directory).env_clear().env("SERVICEPILOT_TOKEN", TOKEN).env("CALLGOOSE_TOKEN", UPSTREAM_TOKEN);
    command
}

fn end_of(command: &mut Command) -> Ended {
    command.stdin(Stdio::null()).output().unwrap().into()
}

/// Runs the program off the test's tasks, with `input` as standard input.
pub async fn fed(mut command: Command, input: String) -> Ended {
    let run = move || -> Ended {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        feed(&mut child, &input);
        child.wait_with_output().unwrap().into()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Hands over what a child may read, and closes it. One that has ended by then, or reads none of it, did nothing wrong:
/// what it printed and its exit code tell how it ended.
fn feed(child: &mut Child, input: &str) {
    match child.stdin.take().unwrap().write_all(input.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.unwrap(),
    }
}

#[test]
fn a_command_that_ends_before_it_reads_is_fed_in_vain_and_that_is_all() {
    let mut child = Command::new("sh").args(["-c", "exit 3"]).stdin(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    feed(&mut child, "nobody reads this");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

/// A command that finds the relay, whose ports were free ones.
pub fn gander_beside(relay: &Relay, arguments: &[&str]) -> Command {
    let (listen, admin) = relay.ports();
    let mut command = gander(relay.directory.path());
    command.args(arguments).args(["--config", "gander.yaml"]);
    command.arg("--set").arg(format!("listen.address=127.0.0.1:{listen}"));
    command.arg("--set").arg(format!("admin.address=127.0.0.1:{admin}"));
    command
}

#[test]
fn the_shipped_configuration_is_fine_with_its_two_tokens() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let ended = end_of(gander(folder.path()).args(["check", "--config"]).arg(root.join("config/gander.yaml")));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.out.contains("is fine: 1 source on https://0.0.0.0:8443: servicepilot"), "{ended:?}");
}

#[test]
fn check_prints_findings_to_standard_output_and_exits_1() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gander.yaml"), "listen: { adress: x }\nsource: 1\n").unwrap();
    let ended = end_of(gander(folder.path()).args(["check", "--config", "gander.yaml"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains(" --> gander.yaml:1:11\n"), "{ended:?}");
    assert!(ended.out.contains("help: did you mean `address`?"), "{ended:?}");
    assert!(!ended.out.contains('\u{1b}'), "no colour where no terminal is: {ended:?}");
    assert_eq!(ended.err.trim(), "4 errors and 0 warnings", "{ended:?}");

    let ended = end_of(gander(folder.path()).args(["check", "--json", "--config", "gander.yaml"]));
    let findings = ended.json();
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""));
    let findings = findings.as_array().unwrap();
    assert_eq!(findings.len(), 4, "{findings:?}");
    let wrong = findings.iter().find(|finding| finding["path"] == "listen.adress").unwrap();
    assert_eq!((&wrong["line"], &wrong["column"]), (&1.into(), &11.into()), "{wrong}");
    assert_eq!((&wrong["end_line"], &wrong["end_column"]), (&1.into(), &17.into()), "{wrong}");
}

#[test]
fn check_holds_rules_against_filters_certificates_and_modes() {
    const RULES: &str = "version: 1
incident_key: [$.id, $.host]
validate:
  - { path: $.id, required: true }
rules:
  - name: problem
    when: { path: $.state, equals: BAD }
    then: trigger
  - name: recovery
    when: { path: $.state, equals: GOOD }
    then: resolve
emit:
  id: '{{ incident_key }}'
  state: { $by_action: { trigger: CRITICAL, resolve: OK } }
  title: $.title
";
    const FILTERS: &str = "services:
  - name: pay
    trigger:
      - { urgency: high, keys: [{ key: state, contains: [CRITICAL] }], title_from: title, description_from: title, map_incident_with: id }
    resolve: { keys: [{ key: state, contains: [OK] }], incident_mapped_with: id }
";
    let (required, other) = ("{ path: $.id, required: true }", "{ path: $.host, required: true }");
    let cases = [
        ("nothing", RULES.replace(required, &format!("{required}\n  - {other}")), FILTERS.to_owned(), 0, vec![]),
        ("a part of the key", RULES.to_owned(), FILTERS.to_owned(), 0, vec!["key-not-required rules.yaml:2"]),
        (
            "a part of the key that need not be there, as `validate` says",
            RULES.replace(required, &format!("{required}\n  - {{ path: $.host, type: string }}")),
            FILTERS.to_owned(),
            0,
            vec![],
        ),
        (
            "a trigger that no filter matches",
            RULES.replace("trigger: CRITICAL", "trigger: WARNING"),
            FILTERS.to_owned(),
            1,
            vec!["unmatched-rule rules.yaml:6", "key-not-required rules.yaml:2"],
        ),
        (
            "a resolve that no filter matches, and a mapped value",
            RULES.replace(
                "{ $by_action: { trigger: CRITICAL, resolve: OK } }",
                "{ $path: $.state, $map: { BAD: CRITICAL }, $default: CRITICAL }",
            ),
            FILTERS.to_owned(),
            1,
            vec!["unmatched-rule rules.yaml:9", "key-not-required rules.yaml:2"],
        ),
        (
            "a value from the payload, with the states that its rules ask for",
            RULES.replace("{ $by_action: { trigger: CRITICAL, resolve: OK } }", "{ $path: $.state, $upper: true }"),
            FILTERS.to_owned(),
            1,
            vec!["unmatched-rule rules.yaml:6", "unmatched-rule rules.yaml:9", "key-not-required rules.yaml:2"],
        ),
        (
            "a value from the payload may match",
            RULES
                .replace("{ $by_action: { trigger: CRITICAL, resolve: OK } }", "$.state")
                .replace("equals:", "contains:"),
            FILTERS.to_owned(),
            0,
            vec!["key-not-required rules.yaml:2"],
        ),
        (
            "the payload itself, with the states that its rules ask for",
            RULES.split("emit:").next().unwrap().to_owned(),
            FILTERS.to_owned(),
            1,
            vec!["unmatched-rule rules.yaml:6", "unmatched-rule rules.yaml:9", "key-not-required rules.yaml:2"],
        ),
        (
            "the payload itself may hold anything",
            RULES.split("emit:").next().unwrap().replace("equals:", "contains:"),
            FILTERS.to_owned(),
            0,
            vec!["key-not-required rules.yaml:2"],
        ),
        (
            "the payload itself, of which nothing here says that it has what the filters read",
            RULES.split("emit:").next().unwrap().replace("$.state", "$.type"),
            FILTERS.to_owned(),
            1,
            vec!["no-emit rules.yaml:5", "key-not-required rules.yaml:2"],
        ),
        (
            "the payload with more laid over it, of which nothing here says that it has what the filters read",
            format!("{}emit: {{ $merge: $, id: $.id }}\n", RULES.split("emit:").next().unwrap())
                .replace("$.state", "$.type"),
            FILTERS.to_owned(),
            1,
            vec!["no-emit rules.yaml:12", "key-not-required rules.yaml:2"],
        ),
        (
            "the payload itself, which has what the filters read, as `validate` says",
            RULES
                .split("emit:")
                .next()
                .unwrap()
                .replace("$.state", "$.type")
                .replace(required, &format!("{required}\n  - {{ path: $.state, required: true }}")),
            FILTERS.to_owned(),
            0,
            vec!["key-not-required rules.yaml:2"],
        ),
        (
            "rules of one kind",
            RULES.replace("then: resolve", "then: ignore"),
            FILTERS.to_owned(),
            0,
            vec!["one-direction rules.yaml:5", "key-not-required rules.yaml:2"],
        ),
        (
            "a mistyped key in a filter",
            RULES.to_owned(),
            FILTERS
                .replace("keys: [{ key: state, contains: [CRITICAL] }]", "keys: [{ key: stat, contains: [CRITICAL] }]"),
            1,
            vec!["unmatched-rule rules.yaml:6", "unsent-key callgoose-filters.yaml:4", "key-not-required rules.yaml:2"],
        ),
        (
            "nothing that incidents are mapped with",
            RULES.replace("  id: '{{ incident_key }}'", "  key: '{{ incident_key }}'"),
            FILTERS.to_owned(),
            1,
            vec!["unmapped-incident rules.yaml:6", "unmapped-incident rules.yaml:9", "key-not-required rules.yaml:2"],
        ),
        (
            "a title that is not sent",
            RULES.replace("  title: $.title\n", "  titel: $.title\n"),
            FILTERS.to_owned(),
            1,
            vec![
                "unsent-key callgoose-filters.yaml:4",
                "unsent-key callgoose-filters.yaml:4",
                "key-not-required rules.yaml:2",
            ],
        ),
    ];
    for (claim, rules, filters, code, expected) in cases {
        let (code_found, findings) = checked(&rules, &filters, 0o600);
        let mut found: Vec<String> = findings.iter().map(|one| one.0.clone()).collect();
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        found.sort();
        expected.sort();
        assert_eq!((code_found, found), (Some(code), expected), "{claim}: {findings:#?}");
    }
    let (code, findings) = checked(RULES, FILTERS, 0o644);
    assert_eq!(code, Some(1));
    let exposed = findings.iter().find(|one| one.0.starts_with("file-exposed gander.yaml:")).unwrap();
    assert!(exposed.1.contains("every user") && exposed.1.contains("0644"), "{findings:#?}");
}

#[test]
fn check_warns_of_an_alert_that_a_source_answers_as_a_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let rules = "version: 1
incident_key: $.id
validate: [{ path: $.id, required: true }]
rules:
  - { name: problem, when: { path: $.state, equals: BAD }, then: trigger }
  - { name: recovery, when: { path: $.state, equals: GOOD }, then: resolve }
  - { name: hello, when: { path: $.state, equals: HELLO }, then: ignore }
";
    put("rules.yaml", rules);
    put(
        "rules.test.yaml",
        "rules: rules.yaml
tests:
  - name: an alert with a text there
    payload: { id: a, state: BAD, text: the disk is full }
    expect: { events: [{ action: trigger }] }
  - name: an alert without
    payload: { id: b, state: BAD, text: '' }
    expect: { verdict: events }
  - name: the handshake
    payload: { id: c, state: HELLO, text: 3eZbrw1a }
    expect: { verdict: ignored }
",
    );
    put("other.yaml", rules);
    let found = |handshake: &str| {
        let sources = format!(
            "{{ s: {{ rules: rules.yaml, auth: none{handshake} }}, t: {{ rules: other.yaml, auth: none{handshake} }} }}"
        );
        put(
            "gander.yaml",
            &format!(
                "listen: {{ address: 127.0.0.1:8443 }}\nsources: {sources}
upstream: {{ url: 'https://callgoose.example/v1', authorization: {{ bearer: {{ env: CALLGOOSE_TOKEN }} }} }}\n"
            ),
        );
        let ended = end_of(gander(folder.path()).args(["check", "--json", "--config", "gander.yaml"]));
        let findings = ended.json();
        let of_handshakes = |finding: &&Value| finding["code"] == "alert-as-handshake";
        let found: Vec<Value> = findings.as_array().unwrap().iter().filter(of_handshakes).cloned().collect();
        (ended.code, found)
    };
    let (code, warnings) = found(", handshake: { path: $.text }");
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!((code, &warning["severity"]), (Some(1), &"warning".into()), "{warning}");
    assert_eq!((&warning["file"], &warning["line"]), (&"rules.test.yaml".into(), &5.into()), "{warning}");
    assert!(warning["message"].as_str().unwrap().contains("the source `s` answers this"), "{warning}");
    assert_eq!(found(", handshake: { path: $.challenge }").1, [] as [Value; 0]);
    assert_eq!(found("").1, [] as [Value; 0]);
}

/// What `check --json` says of these files and a secret file of this mode: the exit code, and each finding as
/// `code FILE:LINE` with its message.
pub fn checked(rules: &str, filters: &str, mode: u32) -> (Option<i32>, Vec<(String, String)>) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("rules.yaml", rules);
    put("callgoose-filters.yaml", filters);
    put("token", "a-secret-of-many-letters");
    std::fs::set_permissions(folder.path().join("token"), PermissionsExt::from_mode(mode)).unwrap();
    put(
        "gander.yaml",
        "listen: { address: 127.0.0.1:8443 }
sources: { s: { rules: rules.yaml, auth: [{ bearer: { file: token } }] } }
upstream: { url: 'https://callgoose.example/v1', authorization: { bearer: { env: CALLGOOSE_TOKEN } } }
",
    );
    let ended = end_of(gander(folder.path()).args(["check", "--json", "--config", "gander.yaml"]));
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let printed = ended.json();
    let findings =
        printed.as_array().unwrap().iter().map(|one| {
            (format!("{} {}:{}", word(&one["code"]), word(&one["file"]), one["line"]), word(&one["message"]))
        });
    (ended.code, findings.collect())
}

#[test]
fn editors_shells_and_man_get_what_they_read() {
    let folder = tempfile::tempdir().unwrap();
    let printed = |arguments: &[&str]| {
        let ended = end_of(gander(folder.path()).args(arguments));
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{arguments:?}: {ended:?}");
        ended.out
    };
    for kind in ["config", "rules", "tests", "filters"] {
        let schema: Value = serde_json::from_str(&printed(&["schema", kind])).unwrap();
        assert_eq!(schema["$id"], format!("urn:gander:schema:{kind}:1"));
    }
    let api: Value = serde_json::from_str(&printed(&["schema", "api"])).unwrap();
    assert_eq!(api["openapi"], "3.1.0");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("explain") && script.contains("coverage-min"), "{shell}");
    }
    assert!(printed(&["man"]).contains("gander\\-explain(1)"));
    assert!(printed(&["man", "events", "replay"]).contains(".SH NAME\ngander\\-events\\-replay"));
    printed(&["man", "--output", "."]);
    let pages = names(folder.path());
    for page in ["gander.1", "gander-check.1", "gander-events-replay.1"] {
        assert!(pages.iter().any(|name| name == page), "{pages:?}");
    }
}

#[test]
fn what_could_not_run_exits_2_and_prints_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    std::fs::write(directory.join("wrong.yaml"), "listen: 1\n").unwrap();
    for (arguments, said) in [
        (&["check", "--config", "none.yaml"][..], "can't read none.yaml: no such file"),
        (&["check", "--config", "."], "it is a directory"),
        (&["run", "--config", "wrong.yaml"], "wrong.yaml:1:9"),
        (&["send", "--source", "s", "--config", "wrong.yaml"], "wrong.yaml:1:9"),
        (&["chek"], "'check'"),
        (&["schema", "rule"], "'rules'"),
        (&["man", "no", "such"], "there is no command `no such`"),
        (&["man", "--output", "wrong.yaml/such"], "can't write into wrong.yaml/such"),
        (&["check", "--set", "nonsense"], "write KEY=VALUE"),
        (&["events", "list", "--state", "ded"], "similar value exists: 'dead'"),
        (&["sandbox", "--filters", "none.yaml"], "can't read none.yaml"),
        (&[], "Usage: gander <COMMAND>"),
    ] {
        let ended = end_of(gander(directory).args(arguments));
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_cant_start_says_one_thing_and_exits_2() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let folder = tempfile::tempdir().unwrap();
        write_configuration(folder.path(), &upstream, &Setup::default());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let blocked = folder.path().join("blocked");
        std::fs::write(&blocked, "a file, no directory").unwrap();
        for (setting, said) in [
            (format!("listen.address={address}"), "another process listens there"),
            (format!("data_dir={}", blocked.display()), "data_dir: "),
            (format!("listen.tls.certificate={}", blocked.display()), "listen.tls.private_key: "),
        ] {
            let mut command = gander(folder.path());
            command.args(["run", "--config", "gander.yaml", "--set", &setting]);
            let ended = fed(command, String::new()).await;
            assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{setting}: {ended:?}");
            assert!(ended.err.contains(said) && ended.err.contains("error: "), "{setting}: {}", ended.err);
            assert!(!ended.err.contains("panicked"), "{setting}: {}", ended.err);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_followed_to_its_outcome() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let send = || gander_beside(&relay, &["send", "--source", "servicepilot"]);

        let ended = fed(send(), payload("e1", "CRITICAL").to_string()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out.starts_with("trigger of e1: delivered, created (event "), "{ended:?}");
        let ended = fed(send(), payload("e1", "CRITICAL").to_string()).await;
        assert!(ended.code == Some(0) && ended.out.starts_with("trigger of e1: duplicate"), "{ended:?}");
        let mut json = send();
        json.arg("--json");
        let ended = fed(json, payload("e1", "OK").to_string()).await;
        assert_eq!((ended.code, &ended.json()["events"][0]["outcome"]), (Some(0), &"resolved".into()), "{ended:?}");

        let ended = fed(send(), "{".to_owned()).await;
        assert!(ended.code == Some(1) && ended.out.starts_with("refused: The body is not JSON"), "{ended:?}");
        assert!(
            ended.err.contains(
                "fix the sender's template, or write `json: lenient` for its source where the answer names that. For this one: `gander events show 1"
            ),
            "{ended:?}"
        );
        let odd = fed(send(), payload("e3", "disaster").to_string()).await;
        assert!(odd.out.contains("  $.state: no rule matches this (found disaster)\n"), "{odd:?}");
        assert!(odd.err.contains("`gander explain --event 1"), "{odd:?}");
        let mut stranger = send();
        stranger.env("SERVICEPILOT_TOKEN", "wrong");
        let ended = fed(stranger, payload("e2", "OK").to_string()).await;
        assert!(ended.code == Some(1) && ended.err.contains("these secrets? Its log says"), "{ended:?}");
        let mut nobody = send();
        nobody.env_remove("SERVICEPILOT_TOKEN");
        let ended = fed(nobody, payload("e2", "OK").to_string()).await;
        assert!(ended.code == Some(2) && ended.err.contains("no credential of `servicepilot`"), "{ended:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_still_queued_is_followed_through_the_admin_api() {
    within(async {
        let upstream = Upstream::start(|_, call| Reply::status(if call < 3 { 503 } else { 201 })).await;
        let setup = Setup {
            source: vec!["respond_timeout: 1ms".into()],
            upstream: vec!["retry: { initial: 10ms, factor: 1, max: 10ms }".into()],
            ..Setup::default()
        };
        let relay = Relay::start(&upstream, &setup).await;
        let command = gander_beside(&relay, &["send", "--source", "servicepilot"]);
        let ended = fed(command, payload("e1", "CRITICAL").to_string()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("following it through the admin API"), "{ended:?}");
        assert!(ended.out.starts_with("trigger of e1: delivered, "), "{ended:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_where_the_admin_token_is_not_at_hand_says_what_to_set_and_how_its_outcome_is_seen() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::status(503)).await;
        let setup = Setup {
            source: vec!["respond_timeout: 1ms".into()],
            admin: Some("address: '127.0.0.1:0', token: { env: ADMIN_TOKEN }".into()),
            environment: vec![("ADMIN_TOKEN".into(), "admin-token-that-nobody-else-has".into())],
            ..Setup::default()
        };
        let relay = Relay::start(&upstream, &setup).await;
        let command = gander_beside(&relay, &["send", "--source", "servicepilot"]);
        let ended = fed(command, payload("e1", "CRITICAL").to_string()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let id = ended.out.split(['(', ')']).nth_back(1).unwrap().trim_start_matches("event ").to_owned();
        for said in [
            "its outcome is not known: the admin token is not at hand: set the variable or file that `admin.token` names",
            "is on disk and goes out by itself",
            &format!("`gander events show {id}` tells its outcome"),
        ] {
            assert!(ended.err.contains(said), "{said}: {ended:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_end_badly_say_why_and_what_to_do() {
    within(async {
        let answer = Arc::new(Mutex::new(Reply::status(401)));
        let answering = Arc::clone(&answer);
        let upstream = Upstream::start(move |_, _| answering.lock().unwrap().clone()).await;
        let setup = Setup {
            source: vec!["respond_timeout: 1ms".into()],
            upstream: vec!["retry: { initial: 10ms, factor: 1, max: 10ms }".into(), "breaker: { open: 10ms }".into()],
            ..Setup::default()
        };
        let relay = Relay::start(&upstream, &setup).await;
        let run = |arguments: &[&str], input: String| fed(gander_beside(&relay, arguments), input);
        let send = |key: &str, state: &str, timeout: &str| {
            run(&["send", "--source", "servicepilot", "--timeout", timeout], payload(key, state).to_string())
        };
        // A token that is refused: known at once, and told while the event waits.
        let paused = send("e1", "CRITICAL", "3").await;
        assert_eq!(paused.code, Some(1), "{paused:?}");
        for said in [
            "why: deliveries are paused since ",
            "what to do: check the token in `upstream.authorization` and its scope; it was read from the environment variable \
             CALLGOOSE_TOKEN at the start: set the right one there, and restart the relay",
            "is still queued: it is kept",
        ] {
            assert_eq!(paused.err.matches(said).count(), 1, "{said}: {paused:?}");
        }
        assert!(!paused.err.contains("not known") && !paused.err.contains(UPSTREAM_TOKEN), "{paused:?}");
        let id = paused.out.split(['(', ')']).nth_back(1).unwrap().trim_start_matches("event ").to_owned();
        let shown = run(&["events", "show", &id], String::new()).await;
        assert!(shown.out.contains("Callgoose refuses the token (401)"), "{shown:?}");
        assert!(shown.out.contains("\nwhat to do: check the token"), "{shown:?}");
        let declined = run(&["events", "replay", &id, "--yes"], String::new()).await;
        assert!(declined.out.contains("declined: it waits until the upstream takes events again"), "{declined:?}");
        assert!(declined.err.contains(&format!("event {id} waits\n  why: deliveries are paused since ")), "{declined:?}");
        assert!(declined.err.contains("  what to do: check the token"), "{declined:?}");
        assert!(run(&["events", "hold", "--key", "e1"], String::new()).await.code == Some(0));
        let declined = run(&["events", "replay", &id, "--yes"], String::new()).await;
        assert!(declined.err.contains("  why: a person holds its key back\n"), "{declined:?}");
        assert!(declined.err.contains("what to do: `gander events release --source servicepilot --key e1`"), "{declined:?}");
        assert!(run(&["events", "release", "--key", "e1"], String::new()).await.code == Some(0));

        // Nobody is alerted: the filters there match nothing.
        let nothing = json!({"id": "c", "triggered": {"created": false, "duplicate": false},
                             "resolved": {"resolved": false, "duplicate": false}});
        *answer.lock().unwrap() = Reply::json(202, &nothing);
        let unmatched = send("e2", "CRITICAL", "30").await;
        assert_eq!(unmatched.code, Some(1), "{unmatched:?}");
        assert!(unmatched.err.contains("none of its API Filters matched: nobody was alerted"), "{unmatched:?}");
        let id = unmatched.out.split(['(', ')']).nth_back(1).unwrap().trim_start_matches("event ").to_owned();
        assert!(unmatched.err.contains(&format!("then `gander events replay {id} --wait`")), "{unmatched:?}");
        let shown = run(&["events", "show", &id], String::new()).await;
        assert!(shown.out.contains("\n  answer:\n    {\n      \"id\": \"c\",\n"), "{shown:?}");
        assert!(
            shown.out.contains(&format!("what to do: `gander explain --event {id}` shows what is sent")),
            "{shown:?}"
        );
        let again = run(&["events", "replay", &id, "--yes", "--wait=30"], String::new()).await;
        assert_eq!(again.code, Some(1), "{again:?}");
        assert!(again.out.lines().nth(1).is_some_and(|line| line.ends_with("delivered, unmatched")), "{again:?}");
        assert!(again.err.contains("nobody was alerted") && again.err.contains("1 replayed"), "{again:?}");
        *answer.lock().unwrap() = Reply::json(200, &nothing);
        let unresolved = send("e3", "OK", "30").await;
        assert!(unresolved.err.contains("nothing was closed") && unresolved.err.contains("--key e3"), "{unresolved:?}");

        *answer.lock().unwrap() = Reply::Done;
        let mended =
            run(&["events", "replay", "--outcome", "unmatched", "--key", "e1", "--yes", "--wait"], String::new()).await;
        assert!(mended.code == Some(0) && mended.out.contains("delivered, created"), "{mended:?}");
        let typo = run(&["events", "discard", "--source", "servicepilt", "--yes"], String::new()).await;
        assert!(typo.code == Some(1) && typo.err.contains("no source `servicepilt` is configured"), "{typo:?}");
        assert!(typo.err.contains("did you mean `servicepilot`?"), "{typo:?}");
        // What was replayed is told by its replay, and not to be replayed once more.
        let new = mended.out.lines().last().unwrap().split(' ').next().unwrap().to_owned();
        let old = run(&["events", "show", &new, "--json"], String::new()).await;
        let old = serde_json::from_str::<Value>(&old.out).unwrap()["replay_of"].as_str().unwrap().to_owned();
        let shown = run(&["events", "show", &old], String::new()).await;
        let said = format!("nobody was alerted; it was replayed as {new}: delivered, created");
        assert!(shown.out.contains(&said) && !shown.out.contains("what to do"), "{shown:?}");
        let again = run(&["events", "replay", &old, "--yes"], String::new()).await;
        let said = format!("{old} declined: already replayed as {new}: delivered, created");
        assert!(again.code == Some(1) && again.out.trim() == said, "{again:?}");
        let list = run(&["events", "list", "--key", "e1"], String::new()).await;
        assert!(list.out.lines().nth(2).is_some_and(|line| line.ends_with(&format!("replayed as {new}"))), "{list:?}");
        // What the rules could not use is listed with path and value.
        send("e4", "disaster", "30").await;
        let list = run(&["events", "list", "--state", "refused"], String::new()).await;
        assert!(list.out.lines().nth(1).is_some_and(|line| line.ends_with("  $.state disaster: no rule matches this")));
        let again = run(&["events", "replay", "--state", "refused", "--yes", "--wait"], String::new()).await;
        assert!(again.code == Some(1) && again.out.contains(" refused again: "), "{again:?}");
        assert!(again.err.contains("what to do: `gander explain --event "), "{again:?}");
        let found = run(&["events", "list", "--search", "disaster"], String::new()).await;
        assert!(found.out.contains("$.state disaster: "), "{found:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_for_a_better_answer_says_so_and_when() {
    within(async {
        let none = |duplicate| {
            Reply::json(
                200,
                &json!({"id": "c", "triggered": {"created": false, "duplicate": duplicate},
                        "resolved": {"resolved": false, "duplicate": false}}),
            )
        };
        let upstream = Upstream::start(move |call, number| match (call.key(), call.state()) {
            ("e1", _) if number == 2 => none(true),
            ("e2", "OK") => none(false),
            _ => Reply::Done,
        })
        .await;
        let setup = Setup { source: vec!["respond_timeout: 5s".into()], ..process::setup() };
        let relay = Relay::start(&upstream, &setup).await;
        let run = |arguments: &[&str], input: String| fed(gander_beside(&relay, arguments), input);
        let send = |key: &str, state: &str| {
            run(&["send", "--source", "servicepilot", "--timeout", "3"], payload(key, state).to_string())
        };
        for (key, before, state, why, remedy) in [
            ("e1", &["CRITICAL", "OK"][..], "CRITICAL", "why: Callgoose took it for a repeat", "start time"),
            ("e2", &["CRITICAL"], "OK", "why: Callgoose has no open incident", "`Incident Mapped With`"),
        ] {
            for state in before {
                assert_eq!(send(key, state).await.code, Some(0));
            }
            let sent = send(key, state).await;
            assert_eq!(sent.code, Some(1), "{sent:?}");
            assert!(sent.out.contains(": queued, last try: "), "{sent:?}");
            for said in [why, "; it is sent again at 20", remedy, "its next attempt is due at 20"] {
                assert!(sent.err.contains(said), "{said}: {sent:?}");
            }
            let id = sent.out.split(['(', ')']).nth_back(1).unwrap().trim_start_matches("event ").to_owned();
            let shown = run(&["events", "show", &id], String::new()).await;
            for said in ["next_attempt_at:  20", why, "; it is sent again at 20", remedy] {
                assert!(shown.out.contains(said), "{said}: {shown:?}");
            }
            let declined = run(&["events", "replay", &id, "--yes"], String::new()).await;
            assert!(declined.out.contains("is sent again by itself: its next attempt is due at 20"), "{declined:?}");
            assert_eq!(run(&["events", "hold", "--key", key], String::new()).await.code, Some(0));
            let declined = run(&["events", "replay", &id, "--yes"], String::new()).await;
            assert!(declined.out.contains("declined: a person holds its key back: it goes out when "), "{declined:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_as_good_as_its_original() {
    within(async {
        let gate = Gate::closed();
        let waiting = gate.clone();
        let upstream = Upstream::start(move |_, _| Reply::After(waiting.clone(), Box::new(Reply::Done))).await;
        let setup = Setup { source: vec!["respond_timeout: 1ms".into()], ..Setup::default() };
        let relay = Relay::start(&upstream, &setup).await;
        let payload = payload("e1", "CRITICAL");
        assert_eq!(relay.post(&payload).await.json["status"], "queued");
        let send = |timeout| {
            let command = gander_beside(&relay, &["send", "--source", "servicepilot", "--timeout", timeout]);
            fed(command, payload.to_string())
        };

        let ended = send("0").await;
        assert_eq!(ended.code, Some(1), "the original is not delivered: {ended:?}");
        assert!(ended.out.starts_with("trigger of e1: duplicate of event "), "{ended:?}");
        assert!(ended.err.contains("is still queued"), "{ended:?}");

        gate.open();
        let ended = send("30").await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended.out.starts_with("trigger of e1: duplicate of event ") && ended.out.trim_end().ends_with(" (created)"),
            "{ended:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_relay_with_the_configured_certificate_is_spoken_to() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let other = Relay::start(&upstream, &Setup::default()).await;
        let certificate = other.directory.path().join("server.pem");
        let mut command = gander_beside(&relay, &["send", "--source", "servicepilot"]);
        command.arg("--set").arg(format!("listen.tls.certificate={}", certificate.display()));
        let ended = fed(command, payload("e1", "CRITICAL").to_string()).await;
        assert!(ended.code == Some(2) && ended.err.contains("shows another certificate"), "{ended:?}");
        assert!(upstream.calls().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_listed_filtered_and_shown() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        for (key, state) in [("e1", "CRITICAL"), ("e2\u{1b}[31m", "CRITICAL"), ("e1", "OK")] {
            relay.post_with(&payload(key, state), &[("prefer", "wait=10")]).await;
        }
        let run = |arguments: &[&str]| fed(gander_beside(&relay, arguments), String::new());

        let ended = run(&["events", "list"]).await;
        let lines: Vec<&str> = ended.out.lines().collect();
        assert_eq!((ended.code, lines.len()), (Some(0), 4), "{ended:?}");
        assert!(lines[0].starts_with("ID") && lines[1].contains("resolved") && lines[3].contains("created"));
        assert!(!ended.out.contains('\u{1b}'), "a key moves no cursor: {ended:?}");
        let columns: Vec<_> = lines.iter().map(|line| line.find("servicepilot").or(line.find("SOURCE"))).collect();
        assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "aligned: {ended:?}");

        let ended = run(&["events", "list", "--outcome", "created", "--limit", "1", "--json"]).await;
        let list = ended.json();
        assert_eq!(list["events"].as_array().unwrap().len(), 1, "{list}");
        let id = list["events"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(list["next"], list["events"][0]["id"]);
        let ended = run(&["events", "list", "--key", "nothing"]).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{ended:?}");

        let ended = run(&["events", "show", &id]).await;
        assert!(ended.code == Some(0) && ended.out.contains("what is sent:\n  {"), "{ended:?}");
        assert!(ended.out.contains("attempt 1 at "), "{ended:?}");
        let ended = run(&["events", "show", "1"]).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        for (path, flags, said) in [("healthz", &[][..], "alive"), ("readyz", &["--ready"], "ready")] {
            let ended = run(&[&["health"], flags].concat()).await;
            let line = format!("http://127.0.0.1:{}/{path} answers 200: {said}\n", relay.ports().1);
            assert_eq!((ended.code, ended.out), (Some(0), line));
        }
        let ended = run(&["health", "--ready", "--json"]).await;
        assert!(ended.code == Some(0) && ended.json()["ready"] == true, "{ended:?}");

        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_desk_commands_need_no_relay_and_no_secret() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let configuration = root.join("config/gander.yaml").display().to_string();
        let tests = root.join("config/rules").display().to_string();
        let trigger = payload("e1", "CRITICAL").to_string();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let some = "version: 1\nincident_key: $.servicepilot_event_id\nrules: [{ name: everything, then: trigger }]\n";
        file("some.yaml", some);
        file("bad.yaml", "version: 1\nrules: 7\n");
        // Apart, since one of the commands below looks for tests in vain.
        let apart = tempfile::tempdir().unwrap();
        let thin = apart.path().join("thin.test.yaml").display().to_string();
        let rule =
            "version: 1\nincident_key: $.id\nrules: [{ name: a, when: { path: $.id, exists: true }, then: trigger }]\n";
        let test = "rules: thin.yaml\ntests: [{ name: a, payload: { id: 1 }, expect: { verdict: events } }]\n";
        std::fs::write(apart.path().join("thin.yaml"), rule).unwrap();
        std::fs::write(&thin, test).unwrap();
        let explain = ["explain", "--source", "servicepilot", "--config", &configuration];
        for (name, arguments, input, code, out, err) in [
            ("a node", &["query", "$.tags.policy_id"][..], trigger.as_str(), 0, "\"pol-77\"\n", ""),
            ("no node", &["query", "$.none", "-"], &trigger, 1, "", ""),
            ("a bad path", &["query", "$.a[?@ in [1]]"], &trigger, 2, "", "--> EXPR:1:8"),
            ("a bad document", &["query", "$"], "{", 2, "", "is no JSON"),
            ("a file that is not there", &["query", "$", "none.json"], "", 2, "", "can't read none.json"),
            ("an explanation", &explain, &trigger, 0, "contains_word [CRITICAL, ALARM, PROBLEM]", ""),
            (
                "other rules",
                &["explain", "--rules", "some.yaml"],
                &trigger,
                0,
                "everything → trigger  matched, always",
                "",
            ),
            ("other rules that are wrong", &["explain", "--rules", "bad.yaml"], &trigger, 2, "", "bad.yaml:2:8"),
            ("nobody's keys", &["explain", "--rules", "some.yaml", "--relay"], &trigger, 2, "", "Add --source"),
            ("a byte order mark", &explain, &format!("\u{feff}{trigger}"), 0, "trigger", ""),
            ("a refusal explained", &explain, "{}", 0, "refused", ""),
            ("no JSON to explain", &explain, "{", 2, "", "the payload is no JSON"),
            ("the shipped tests", &["test", &tests], "", 0, " tests passed", ""),
            (
                "what they cover",
                &["test", &tests, "--coverage-min", "90"],
                "",
                0,
                "servicepilot.yaml  100 % covered",
                "",
            ),
            ("too little covered", &["test", &thin, "--coverage-min", "100"], "", 1, "never failed", ""),
            ("an impossible share", &["test", "--coverage-min", "101"], "", 2, "", "101"),
            ("no such name", &["test", &tests, "--name", "no such"], "", 2, "no tests", "no test has `no such`"),
            ("no tests", &["test", "."], "", 2, "no tests", "there is no *.test.yaml in ."),
        ] {
            let mut command = gander(folder.path());
            command.env_remove("SERVICEPILOT_TOKEN").env_remove("CALLGOOSE_TOKEN").args(arguments);
            let ended = fed(command, input.to_owned()).await;
            assert_eq!(ended.code, Some(code), "{name}: {ended:?}");
            assert!(ended.out.contains(out) && out.is_empty() == ended.out.is_empty(), "{name}: {ended:?}");
            assert!(ended.err.contains(err) && err.is_empty() == ended.err.is_empty(), "{name}: {ended:?}");
        }
        let mut command = gander(folder.path());
        command.args(explain).arg("--json");
        let explained = fed(command, trigger).await.json();
        assert_eq!((&explained["verdict"], &explained["events"][0]["rule"]), (&"events".into(), &"problem".into()));
        let mut command = gander(folder.path());
        command.args(["test", "--json", "--coverage", "--junit", "report.xml", &tests]);
        let tested = fed(command, String::new()).await.json();
        assert_eq!((&tested["passed"], &tested["coverage"][0]["percent"]), (&true.into(), &100.into()));
        let report = std::fs::read_to_string(folder.path().join("report.xml")).unwrap();
        assert!(report.contains("failures=\"0\" errors=\"0\"") && report.ends_with("</testsuites>\n"), "{report}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_knows_what_the_relay_knows() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let relay = Relay::start(&upstream, &Setup::default()).await;
        let explain = ["explain", "--source", "servicepilot", "--relay"];
        let problem = payload("e1", "CRITICAL");
        let before = fed(gander_beside(&relay, &explain), problem.to_string()).await;
        assert!(before.out.contains("✓ would be taken: opening\n      the incident key is not known"), "{before:?}");

        let taken = relay.post_with(&problem, &[("prefer", "wait=10")]).await;
        let id = taken.json["id"].as_str().unwrap().to_owned();
        let after = fed(gander_beside(&relay, &explain), problem.to_string()).await;
        let told =
            format!("✗ a duplicate of event {id}: within_window\n      the incident key is open by event {id}, ");
        assert!(after.out.contains(&told), "{after:?}");
        let mut closing = gander_beside(&relay, &explain);
        closing.arg("--json");
        let closing = fed(closing, payload("e1", "OK").to_string()).await.json();
        let dedup = &closing["events"][0]["dedup"];
        assert_eq!((&dedup["decision"], &dedup["why"]), (&"taken".into(), &"closing".into()), "{dedup}");

        let refused = relay.post(&payload("e1", "PURPLE")).await;
        let refused = refused.json["id"].as_str().unwrap().to_owned();
        let event = |id: &str| gander_beside(&relay, &["explain", "--event", id]);
        let shown = end_of(&mut event(&id));
        assert!(
            shown.out.starts_with("recorded\n  trigger e1 by the rule problem, delivered (created), received "),
            "{shown:?}"
        );
        assert!(shown.out.contains("✓ problem → trigger   matched"), "{shown:?}");
        let shown = end_of(&mut event(&refused));
        assert!(shown.out.contains("refused (unprocessable)") && shown.out.contains("nearest rule"), "{shown:?}");
        let nothing = end_of(&mut event("1"));
        assert_eq!((nothing.code, nothing.err.trim()), (Some(2), "error: no event 1 is kept"), "{nothing:?}");

        let journal = |arguments: &[&str]| {
            let mut command = gander(relay.directory.path());
            command.args(["explain", "--config", "gander.yaml", "--journal", "data"]).args(arguments);
            command
        };
        let mut running = journal(&["--event", &id]);
        let running = end_of(&mut running);
        assert!(running.code == Some(2) && running.err.contains("a relay uses it"), "{running:?}");
        let (again, shown) = (journal(&["--source", "servicepilot"]), journal(&["--event", &id]));
        let directory = relay.stop().await;
        let before = names(&directory.path().join("data"));
        let again = fed(again, problem.to_string()).await;
        assert!(again.out.contains(&told), "{again:?}");
        let mut shown = shown;
        let shown = end_of(&mut shown);
        assert!(shown.out.starts_with("recorded\n  trigger e1 by the rule problem, delivered (created)"), "{shown:?}");
        assert_eq!(names(&directory.path().join("data")), before, "a journal that is looked at is left as it was");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_foreseen_as_the_relay_takes_it() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let rules = "version: 1
split: $[*]
rules:
  - { name: problem, when: { path: $.state, equals: CRITICAL }, then: trigger }
  - { name: recovery, when: { path: $.state, equals: OK }, then: resolve }
  - { name: noise, when: { path: $.state, equals: INFO }, then: ignore }
incident_key: $.id
update_on: [$.n]
emit: { servicepilot_event_id: $.id, state: $.state }
";
        let relay = Relay::start(&upstream, &Setup { rules: Some(rules.to_owned()), ..Setup::default() }).await;
        let alert = |id: &str, state: &str, n: u32| json!({"id": id, "state": state, "n": n});
        let batches = [
            json!([alert("a", "INFO", 1), alert("a", "CRITICAL", 1), alert("a", "CRITICAL", 1), alert("b", "OK", 1)]),
            json!([alert("a", "CRITICAL", 1), alert("a", "CRITICAL", 2), alert("a", "CRITICAL", 1)]),
            json!([alert("a", "OK", 1), alert("a", "OK", 1), alert("a", "CRITICAL", 1), alert("c", "CRITICAL", 1)]),
        ];
        for batch in batches {
            let explain = ["explain", "--source", "servicepilot", "--relay"];
            let page = fed(gander_beside(&relay, &explain), batch.to_string()).await;
            let mut command = gander_beside(&relay, &explain);
            command.arg("--json");
            let explained = fed(command, batch.to_string()).await.json();
            let foreseen: Vec<String> = explained["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| format!("{} {}", event["dedup"]["decision"].as_str().unwrap(), event["dedup"]["of_index"]))
                .collect();
            let answer = relay.post_with(&batch, &[("prefer", "wait=10")]).await;
            let lines = answer.json["events"].as_array().unwrap();
            let came = lines.iter().filter(|line| line["status"] != "ignored").map(|line| {
                match line["status"] == "duplicate" {
                    false => "taken null".to_owned(),
                    true => {
                        let of = lines.iter().find(|other| other["id"] == line["of"] && other["status"] != "duplicate");
                        format!("duplicate {}", of.map_or(&Value::Null, |of| &of["index"]))
                    }
                }
            });
            assert_eq!(foreseen, came.collect::<Vec<_>>(), "{batch} {page:?}");
            for (event, line) in foreseen.iter().zip(lines.iter().filter(|line| line["status"] != "ignored")) {
                if let Some(index) = event.strip_prefix("duplicate ").filter(|index| *index != "null") {
                    assert!(page.out.contains(&format!("a duplicate of element {index}: ")), "{line} {page:?}");
                }
            }
        }
    })
    .await;
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gander.yaml"), "listen: 1\n").unwrap();
    let mut command = gander(folder.path());
    let mut child = command
        .args(["check", "--config", "gander.yaml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before anything is written, or while it is: either way nobody reads.
    drop(child.stdout.take());
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.err.contains("panicked"), "{ended:?}");
}

#[test]
fn a_relay_that_is_not_there_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/gander.yaml");
    // Bound, so that no other test gets this port, and nobody listens there.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let free = socket.local_addr().unwrap();
    let setting = format!("admin.address={free}");
    for (arguments, code) in
        [(&["events", "list"][..], 2), (&["events", "show", "1"], 2), (&["status"], 2), (&["tap"], 2), (&["health"], 1)]
    {
        let mut command = gander(folder.path());
        let ended = end_of(command.args(arguments).args(["--set", &setting, "--config"]).arg(&root));
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.err.contains("is `gander run` up with this configuration?"), "{ended:?}");
    }
}

#[test]
fn before_the_first_start_it_is_told_who_makes_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let send = |certificate: &str, key: &str| {
        let mut command = gander(folder.path());
        command.args(["send", "--source", "servicepilot", "--set", certificate, "--set", key, "--config"]);
        end_of(command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/gander.yaml")))
    };
    // Not where the shipped one is, which a developer may have started.
    let absent = format!("listen.tls.certificate={}", folder.path().join("none.pem").display());
    let key = format!("listen.tls.private_key={}", folder.path().join("none.key").display());
    let made = send(&absent, &key);
    assert_eq!(made.code, Some(2), "{made:?}");
    assert!(made.err.contains("none.pem does not exist; the first start of `gander run` makes it: start"), "{made:?}");
    std::fs::write(folder.path().join("none.key"), "").unwrap();
    let own = send(&absent, &key);
    assert!(own.code == Some(2) && own.err.contains("none.pem does not exist"), "{own:?}");
    assert!(!own.err.contains("gander run"), "a key without its certificate is never overwritten: {own:?}");
}

#[test]
fn what_init_writes_is_fine_as_it_is() {
    let list = end_of(gander(Path::new("/")).args(["init", "--list"]));
    assert_eq!((list.code, list.err.as_str()), (Some(0), ""), "{list:?}");
    let senders: Vec<&str> = list.out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(senders, crate::presets::presets());
    for sender in senders {
        let folder = tempfile::tempdir().unwrap();
        // Where it writes by itself, in the other place where the commands look, and elsewhere.
        for (output, flags) in [
            (&[][..], &[][..]),
            (&["--output", "."], &[]),
            (&["--output", "of mine"], &["--config", "of mine/gander.yaml"]),
        ] {
            let init = end_of(gander(folder.path()).args(["init", sender]).args(output));
            assert_eq!((init.code, init.err.as_str()), (Some(0), ""), "{init:?}");
            let quoted = flags.join(" ").replace("of mine/gander.yaml", "'of mine/gander.yaml'");
            for command in ["check", "test", "run"] {
                let next = format!("     gander {command} {quoted}").trim_end().to_owned();
                assert!(init.out.contains(&format!("{next}\n")), "{next}: {init:?}");
            }
            assert!(init.out.contains(&format!("/hooks/{sender}\n")), "{init:?}");

            let token = format!("{}_TOKEN", sender.to_uppercase().replace('-', "_"));
            assert!(init.out.contains(&format!("export {token}=")), "{init:?}");
            let check = end_of(gander(folder.path()).arg("check").args(flags).env(token, TOKEN));
            let fine = format!("is fine: 1 source on https://0.0.0.0:8443: {sender}\n");
            let is_only_fine = check.out.ends_with(&fine) && check.out.lines().count() == 1;
            assert!(check.code == Some(0) && check.err.is_empty() && is_only_fine, "{sender}: {check:?}");
            let test = end_of(gander(folder.path()).arg("test").args(flags));
            assert!(test.code == Some(0) && test.err.is_empty(), "{sender}: {test:?}");
        }
    }
}

#[test]
fn all_commands_look_for_the_configuration_in_the_same_places() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    std::fs::write(directory.join("alert.json"), "{}").unwrap();
    let commands = [
        &["check"][..],
        &["validate"],
        &["run"],
        &["test"],
        &["explain", "--source", "s", "alert.json"],
        &["send", "--source", "s", "alert.json"],
        &["events", "list"],
        &["health"],
    ];
    let ended = |arguments: &[&str], named: &str| end_of(gander(directory).args(arguments).env("GANDER_CONFIG", named));
    for arguments in commands {
        let none = ended(arguments, "");
        let here = directory.canonicalize().unwrap();
        let looked = format!("in {} for gander.yaml, config/gander.yaml, /etc/gander/gander.yaml\n", here.display());
        assert_eq!(none.code, Some(2), "{none:?}");
        assert!(none.err.contains(&looked) && none.err.contains("`gander init` writes one here"), "{none:?}");
        let gone = ended(arguments, "gone.yaml");
        assert!(gone.err.contains("GANDER_CONFIG names gone.yaml, and nothing is there"), "{gone:?}");
    }
    // Each says its own name by what is wrong with it; the ones that come earlier in the order are added later.
    std::fs::create_dir(directory.join("config")).unwrap();
    for (place, arguments, named) in [
        ("config/gander.yaml", &[][..], ""),
        ("gander.yaml", &[], ""),
        ("named.yaml", &[], "named.yaml"),
        ("asked.yaml", &["--config", "asked.yaml"], "named.yaml"),
    ] {
        std::fs::write(directory.join(place), "listen: 1\n").unwrap();
        for command in commands.iter().filter(|command| **command != ["test"]) {
            let ended = ended(&[command, arguments].concat(), named);
            assert!(format!("{}{}", ended.out, ended.err).contains(&format!("> {place}:1:")), "{command:?}: {ended:?}");
        }
    }
    // The variable itself is no key.
    let named = ended(&["check"], "named.yaml");
    assert!(!named.out.contains("GANDER_CONFIG"), "{named:?}");
    // Tests and filters stand beside it.
    std::fs::create_dir(directory.join("elsewhere")).unwrap();
    let tests = ended(&["test"], "config/gander.yaml");
    assert!(tests.err.contains("config/rules"), "{tests:?}");
    std::fs::write(directory.join("elsewhere/callgoose-filters.yaml"), "nothing: known\n").unwrap();
    std::fs::write(directory.join("elsewhere/gander.yaml"), "").unwrap();
    let sandbox = ended(&["sandbox"], "elsewhere/gander.yaml");
    assert_eq!(sandbox.code, Some(2), "{sandbox:?}");
    assert!(sandbox.err.contains("> elsewhere/callgoose-filters.yaml:1:1"), "{sandbox:?}");
}

#[test]
fn errors_come_before_warnings_and_these_before_notes() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put(
        "rules.yaml",
        "version: 1
incident_key: $.id
rules:
  - { name: a, then: trigger }
  - { name: b, then: resolve }
",
    );
    put(
        "gander.yaml",
        "sources: { s: { rules: rules.yaml, auth: [{ bearer: hunter2 }] } }
upstream: { url: 'https://callgoose.example/v1', authorization: { bearer: { env: CALLGOOSE_TOKEN } } }
nothing: known
",
    );
    let ended = end_of(gander(folder.path()).arg("check"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let titles = ["error: ", "warning: ", "note: "].map(|title| ended.out.match_indices(title).collect::<Vec<_>>());
    let [errors, warnings, notes] = &titles;
    assert!(!errors.is_empty() && !warnings.is_empty() && !notes.is_empty(), "{ended:?}");
    assert!(errors.last() < warnings.first() && warnings.last() < notes.first(), "{ended:?}");
}

#[test]
fn init_never_overwrites_and_names_what_was_probably_meant() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("gander.yaml");
    std::fs::write(&mine, "# mine\n").unwrap();
    let ended = end_of(gander(folder.path()).arg("init"));
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
    assert!(ended.err.contains("error: gander.yaml is there already, so nothing was written"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "# mine\n");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    // The commands would go on reading the one that the variable names.
    let elsewhere = tempfile::tempdir().unwrap();
    let ended = end_of(gander(elsewhere.path()).arg("init").env("GANDER_CONFIG", &mine));
    assert!(ended.code == Some(0) && ended.out.contains("gander run --config config/gander.yaml\n"), "{ended:?}");

    let ended = end_of(gander(folder.path()).args(["init", "grafna"]));
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
    assert!(ended.err.contains("did you mean `grafana`?"), "{ended:?}");
}
