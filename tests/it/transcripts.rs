//! The commands on the pages that need no relay are run, and what a page says that one prints is what it prints.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::pages::{Page, invocations, pages, root};
use crate::process;
use crate::relay::{Relay, Setup, TOKEN, UPSTREAM_TOKEN, payload, within, write_configuration};
use crate::upstream::{Reply, Upstream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gander");
/// They read files, and ask nobody.
const AT_THE_DESK: [&str; 9] =
    ["check", "completions", "explain", "init", "man", "query", "schema", "test", "validate"];
/// Named in a sentence, without what they are to explain.
const NAMED: [&str; 2] = ["explain", "explain --json"];
const PAYLOAD: &str = r#"{ "servicepilot_event_id": "e1", "state": "CRITICAL", "tags": { "policy_id": "pol-77" } }"#;

/// Blocks that begin with a command behind a prompt: the command, and the lines below it.
fn transcripts(page: &Page) -> Vec<(String, Vec<String>)> {
    let blocks = page.text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once("\n$ "));
    let transcript = |(_, text): (&str, &str)| {
        let (command, printed) = text.split_once('\n').unwrap();
        (command.to_owned(), printed.trim_end().lines().map(str::to_owned).collect())
    };
    blocks.map(transcript).collect()
}

/// Tells whether the lines are those that a page shows; one that is `…` stands for any number of lines.
fn are_shown(lines: &[&str], shown: &[String]) -> bool {
    match (shown, lines) {
        ([], []) => true,
        ([first, rest @ ..], _) if first.trim() == "…" => {
            (0..=lines.len()).any(|skipped| are_shown(&lines[skipped..], rest))
        }
        ([first, shown @ ..], [line, lines @ ..]) => first == line && are_shown(lines, shown),
        _ => false,
    }
}

#[test]
fn what_a_page_says_that_a_command_prints_is_what_it_prints() {
    let mut run = 0;
    let path = format!("{}:/usr/bin:/bin", Path::new(PROGRAM).parent().unwrap().display());
    for page in pages() {
        for (command, shown) in transcripts(&page) {
            // Of the demonstration it is held elsewhere; the past of a relay is another one each time.
            if command.starts_with("gander demo") || command.starts_with("gander events") {
                continue;
            }
            run += 1;
            let mut shell = Command::new("sh");
            let ended =
                shell.args(["-c", &command]).current_dir(root()).env_clear().env("PATH", &path).output().unwrap();
            let printed = String::from_utf8_lossy(&ended.stdout);
            let lines: Vec<&str> = printed.trim_end().lines().collect();
            assert!(are_shown(&lines, &shown), "{}: {command}\n{printed}\n{shown:#?}", page.path);
        }
    }
    assert_eq!(run, 1, "transcripts that can be run");
}

#[test]
fn lines_that_a_page_leaves_out_are_any_and_others_are_as_they_are() {
    let shown = ["a", "  …", "d"].map(str::to_owned);
    assert!(are_shown(&["a", "b", "c", "d"], &shown) && are_shown(&["a", "d"], &shown));
    assert!(!are_shown(&["a", "b", "c"], &shown) && !are_shown(&["a", "b", "d", "e"], &shown));
}

/// The program in a folder, with the tokens that a configuration names.
fn gander(folder: &Path, arguments: &[String]) -> Command {
    let mut gander = Command::new(PROGRAM);
    gander.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    gander.env("SERVICEPILOT_TOKEN", TOKEN).env("CALLGOOSE_TOKEN", UPSTREAM_TOKEN);
    gander
}

/// Neither a placeholder for what a reader has, nor about what only a relay knows.
fn can_be_run(arguments: &[String]) -> bool {
    let is_placeholder = |word: &String| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
    let asks_a_relay = |word: &String| ["--relay", "--event", "--journal"].contains(&&**word);
    AT_THE_DESK.contains(&&*arguments[0])
        && !NAMED.contains(&&*arguments.join(" "))
        && !arguments.iter().any(|word| is_placeholder(word) || asks_a_relay(word))
}

#[test]
fn each_command_of_a_page_that_needs_no_relay_ends_well() {
    let desk = tempfile::tempdir().unwrap();
    let made = gander(desk.path(), &["init".to_owned()]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::copy(desk.path().join("config/rules/servicepilot.yaml"), desk.path().join("new.yaml")).unwrap();
    let payload = desk.path().join("payload.json");
    std::fs::write(&payload, PAYLOAD).unwrap();
    let mut run = BTreeSet::new();
    for page in pages() {
        for arguments in page.code().iter().flat_map(|line| invocations(line)) {
            if !can_be_run(&arguments) || !run.insert(arguments.join(" ")) {
                continue;
            }
            // It writes into none that has such files.
            let empty = tempfile::tempdir().unwrap();
            let folder = if arguments[0] == "init" { empty.path() } else { desk.path() };
            let ended = gander(folder, &arguments).stdin(File::open(&payload).unwrap()).output().unwrap();
            assert!(ended.status.success(), "{}: gander {}: {ended:?}", page.path, arguments.join(" "));
        }
    }
    for command in
        ["check", "test --coverage", "query $.tags.policy_id payload.json", "schema rules", "completions bash"]
    {
        assert!(run.contains(command), "{command}: {run:?}");
    }
}

/// They ask a relay, or all that is on the way to Callgoose.
const OF_A_RELAY: [&str; 5] = ["doctor", "events", "health", "queue", "status"];
/// It goes on until it is stopped.
const ENDLESS: &str = "--watch";
/// Named in a sentence, without the event that they are about.
const WITHOUT_EVENT: [&str; 5] =
    ["events follow", "events release", "events replay", "events replay --wait", "events show"];

#[tokio::test(flavor = "multi_thread")]
async fn each_command_of_a_page_that_asks_a_relay_is_answered() {
    within(async {
        let upstream =
            Upstream::start(|call, _| if call.key() == "dead" { Reply::status(422) } else { Reply::Done }).await;
        let relay = Relay::start(&upstream, &process::setup()).await;
        let answer = relay.post_with(&payload("dead", "CRITICAL"), &[("prefer", "wait=10")]).await;
        let id = answer.json["id"].as_str().unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let admin = Some(format!("address: '127.0.0.1:{}'", relay.ports().1));
        let configuration = write_configuration(folder.path(), &upstream, &Setup { admin, ..process::setup() });
        std::fs::copy(root().join("config/rules/servicepilot.yaml"), folder.path().join("new.yaml")).unwrap();
        std::fs::write(folder.path().join("FILE"), payload("again", "CRITICAL").to_string()).unwrap();
        let (mut run, mut wrong) = (BTreeSet::new(), Vec::new());
        for page in pages() {
            for arguments in page.code().iter().flat_map(|line| invocations(line)) {
                let whole = arguments.join(" ");
                if !OF_A_RELAY.contains(&&*arguments[0])
                    || whole.contains(ENDLESS)
                    || WITHOUT_EVENT.contains(&&*whole)
                    || !run.insert(whole.clone())
                {
                    continue;
                }
                let is_id = |word: &String| ["ID", "4711"].contains(&&**word);
                let mut filled: Vec<String> =
                    arguments.iter().map(|word| if is_id(word) { id.clone() } else { word.clone() }).collect();
                // Nobody is there to be asked.
                let asks = filled.get(1).is_some_and(|word| ["replay", "discard"].contains(&&**word));
                if asks && !filled.iter().any(|word| ["--yes", "--dry-run"].contains(&&**word)) {
                    filled.push("--yes".to_owned());
                }
                let mut command = gander(folder.path(), &filled);
                command.env("GANDER_CONFIG", &configuration);
                let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
                // 1: it was asked, and the answer is no.
                if !matches!(ended.status.code(), Some(0 | 1)) {
                    wrong.push(format!("{}: gander {whole}: {ended:?}", page.path));
                }
            }
        }
        assert_eq!(wrong, [""; 0]);
        for command in ["status --json", "events show ID", "events replay ID --wait", "doctor --token", "events log"] {
            assert!(run.contains(command), "{command}: {run:?}");
        }
    })
    .await;
}
