//! The pages held against the program: nothing it has is undocumented, nothing is documented that it has not.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use gander::exports::clock::WallTime;
use gander::exports::metrics::{Exposition, Metrics};
use gander::exports::rules::RuleSet;
use gander::exports::yaml::{Findings, Source, parse};
use serde_json::{Value, json};

const README: &str = "README.md";
const DEMO: &str = "$ gander demo --once\n";
const LANGUAGE: &str = "config/rules/LANGUAGE.md";
const MONITORING: &str = "config/MONITORING.md";
const OPERATING: &str = "config/OPERATING.md";
const PROMETHEUS: &str = "config/deploy/prometheus/README.md";
const PAGES: [&str; 19] = [
    README,
    MONITORING,
    OPERATING,
    "config/rules/COOKBOOK.md",
    LANGUAGE,
    "config/rules/SENDERS.md",
    PROMETHEUS,
    "config/CHANGELOG.md",
    "config/deploy/PACKAGES.md",
    "config/deploy/RELEASES.md",
    "config/deploy/SECURITY.md",
    "config/deploy/SIZING.md",
    "config/deploy/TROUBLE.md",
    "config/deploy/compose/README.md",
    "config/deploy/container/README.md",
    "config/deploy/kubernetes/README.md",
    "config/deploy/proxies/README.md",
    "config/deploy/systemd/README.md",
    "tests/README.md",
];

/// A page of the manual.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path from the root.
    pub path: &'static str,
    pub text: String,
}

impl Page {
    /// The lines within fences.
    fn fenced(&self) -> Vec<String> {
        self.text.split("```").skip(1).step_by(2).flat_map(|fence| fence.lines().skip(1)).map(str::to_owned).collect()
    }

    /// The text without its fences.
    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// All code: the lines of fences, and what stands between two back quotes.
    pub fn code(&self) -> Vec<String> {
        let mut code = self.fenced();
        code.extend(self.prose().split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")));
        code
    }

    /// What `gander demo --once` prints.
    fn transcript(&self) -> &str {
        let (_, rest) = self.text.split_once(DEMO).unwrap_or_else(|| panic!("{}: no {DEMO:?}", self.path));
        rest.split("```").next().unwrap()
    }

    /// The anchors of its headings.
    fn anchors(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let headings =
            prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        headings.map(anchor).collect()
    }

    /// The blocks of YAML, as they stand.
    fn yaml(&self) -> Vec<String> {
        let fences = self.text.split("```").skip(1).step_by(2);
        fences.filter_map(|fence| fence.strip_prefix("yaml\n")).map(str::to_owned).collect()
    }
}

/// The anchor that a heading gets when it is shown.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn pages() -> Vec<Page> {
    PAGES.map(|path| Page { path, text: read(path) }).to_vec()
}

fn page<'a>(pages: &'a [Page], path: &str) -> &'a Page {
    pages.iter().find(|page| page.path == path).unwrap()
}

/// The words of a text: of letters, digits, `_`, and with a `$` before them.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_alphanumeric() || "_$".contains(c))).collect()
}

fn is_command_word(word: &str) -> bool {
    !word.is_empty() && !word.starts_with('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

/// The names of all `properties` in a schema.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                if let ("properties", Value::Object(properties)) = (name.as_str(), value) {
                    found.extend(properties.keys().cloned());
                }
                keys(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

/// The commands of a line, each with its arguments: what follows `gander` up to an operator of the shell.
pub fn invocations(line: &str) -> Vec<Vec<String>> {
    // What is quoted is one word.
    let pieces = (0..).zip(line.split(['\'', '"']));
    let line: String =
        pieces.map(|(n, piece)| if n % 2 == 1 { piece.replace(' ', "_") } else { piece.to_owned() }).collect();
    let words: Vec<&str> = line.split_whitespace().collect();
    let begins = words
        .windows(2)
        .enumerate()
        .filter(|(_, two)| two[0] == "gander" && is_command_word(two[1].trim_end_matches(';')));
    let ends =
        |word: &&&str| word.ends_with(';') || matches!(**word, "|" | ">" | "2>" | "&" | "&&" | "||" | "#" | "\\" | "…");
    let arguments = |at: usize| {
        let of = &words[at + 1..];
        let end =
            of.iter().position(|word| ends(&word)).map_or(of.len(), |end| end + usize::from(of[end].ends_with(';')));
        of[..end].iter().map(|word| word.trim_end_matches(';').to_owned()).collect()
    };
    begins.map(|(at, _)| arguments(at)).collect()
}

/// Commands on a page whose arguments the program does not take.
fn commands_that_do_not_parse(pages: &[Page]) -> Vec<String> {
    let mut wrong = BTreeSet::new();
    for page in pages {
        for arguments in page.code().iter().flat_map(|line| invocations(line)) {
            // What stands before `--help` is parsed, and what is missing is not asked for.
            let filled = arguments.iter().map(|argument| if argument == "ID" { "4711" } else { argument });
            let output = Command::new(env!("CARGO_BIN_EXE_gander")).args(filled).arg("--help").output().unwrap();
            if !output.status.success() {
                wrong.insert(format!("{}: gander {}", page.path, arguments.join(" ")));
            }
        }
    }
    wrong.into_iter().collect()
}

/// Keys of the four schemas that no page names.
fn keys_without_a_page(pages: &[Page]) -> Vec<String> {
    let (language, operating) = (page(pages, LANGUAGE).code().join("\n"), page(pages, OPERATING).code().join("\n"));
    let configuration = read("config/gander.yaml") + &operating;
    let mut wrong = Vec::new();
    for (schema, text) in
        [("rules", &language), ("tests", &language), ("filters", &language), ("config", &configuration)]
    {
        let named = words(text);
        let mut all = BTreeSet::new();
        keys(&serde_json::from_str(&read(&format!("config/schema/{schema}.json"))).unwrap(), &mut all);
        wrong.extend(all.iter().filter(|key| !named.contains(key.as_str())).map(|key| format!("{schema}: {key}")));
    }
    wrong
}

/// The names of all metrics, as scrapers know them.
pub fn metrics() -> BTreeSet<String> {
    let metrics = Metrics::new();
    metrics.show_source(&"servicepilot".into());
    metrics.show_refusals(None, ["reason"]);
    metrics.show_connections_refused(["reason"]);
    metrics.show_attempts_slowed("listen", ["answer"]);
    metrics.certificate_expires("listen.tls", Path::new("server.pem"), WallTime(0));
    metrics_in(&metrics.encode(Exposition::Text))
}

/// The names of the metrics in Prometheus text.
pub fn metrics_in(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, _)| name.to_owned()).collect()
}

/// The names in a text that are those of metrics.
pub fn metrics_named(text: &str) -> BTreeSet<String> {
    let is_metric = |word: &&str| ["gander_", "process_"].iter().any(|prefix| word.starts_with(prefix));
    words(text).into_iter().filter(is_metric).map(str::to_owned).collect()
}

/// Metrics that the page on monitoring does not name, and those that a page names and the program has not.
fn metrics_that_differ(pages: &[Page]) -> Vec<String> {
    let metrics = metrics();
    let monitoring = metrics_named(&page(pages, MONITORING).text);
    let missing = metrics.difference(&monitoring).map(|name| format!("not on the page: {name}"));
    let named = pages.iter().flat_map(|page| metrics_named(&page.text).into_iter().map(move |name| (page.path, name)));
    let unknown = named.filter(|(_, name)| !metrics.contains(name)).map(|(path, name)| format!("{path}: {name}"));
    missing.chain(unknown).collect()
}

/// The commands that `gander ARGUMENTS --help` lists, with their aliases.
fn commands(arguments: &[&str]) -> BTreeSet<String> {
    let mut gander = Command::new(env!("CARGO_BIN_EXE_gander"));
    let help = String::from_utf8(gander.args(arguments).arg("--help").output().unwrap().stdout).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // A line that begins farther in goes on with what the one above says.
    let names = list.lines().filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    // Other names stand behind what a command does.
    let others = list.split("[alias").skip(1).filter_map(|rest| rest.split(']').next()?.split_once(": "));
    let others = others.flat_map(|(_, names)| names.split(',')).map(str::trim);
    // `help` needs no page: `--help` says it is there.
    names.chain(others).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Commands that no page names, and those that a page names and the program has not.
fn commands_that_differ(pages: &[Page]) -> Vec<String> {
    let (all, of_events) = (commands(&[]), commands(&["events"]));
    let (mut named, mut wrong) = (BTreeSet::new(), Vec::new());
    for page in pages {
        for line in page.code() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for at in words.iter().enumerate().filter(|(_, word)| **word == "gander").map(|(at, _)| at) {
                let (Some(command), below) = (words.get(at + 1), words.get(at + 2)) else { continue };
                let command = command.trim_end_matches(';');
                if !is_command_word(command) {
                    continue;
                }
                named.insert(command.to_owned());
                if !all.contains(command) {
                    wrong.push(format!("{}: gander {command}", page.path));
                }
                if let ("events", Some(below)) = (command, below.filter(|word| is_command_word(word))) {
                    named.insert(format!("events {below}"));
                    if !of_events.contains(*below) {
                        wrong.push(format!("{}: gander events {below}", page.path));
                    }
                }
            }
        }
    }
    let all = all.into_iter().chain(of_events.into_iter().map(|command| format!("events {command}")));
    wrong.extend(all.filter(|command| !named.contains(command)).map(|command| format!("on no page: {command}")));
    wrong
}

/// Paths that the router of the admin API has and the page has not, and the other way round.
fn admin_paths_that_differ(pages: &[Page]) -> Vec<String> {
    let router = read("src/admin.rs");
    let routes: BTreeSet<&str> = router.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(routes.len() > 10, "{routes:?}");
    let code = page(pages, MONITORING).code();
    let named: BTreeSet<&str> = code
        .iter()
        .filter_map(|code| code.strip_prefix("GET ").or_else(|| code.strip_prefix("POST ")))
        .filter(|path| path.starts_with('/'))
        .collect();
    let missing = routes.difference(&named).map(|path| format!("not on the page: {path}"));
    missing.chain(named.difference(&routes).map(|path| format!("not in the program: {path}"))).collect()
}

/// Lines of the log that the page quotes and the program does not write.
fn log_lines_that_differ(pages: &[Page]) -> Vec<String> {
    let mut source = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                source.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    // A text goes on in the next line behind a backslash.
    let pieces: Vec<&str> = source.split("\\\n").map(str::trim_start).collect();
    let source = pieces.concat();
    let text = page(pages, MONITORING).prose();
    let log = text.split("\n## Log\n").nth(1).unwrap().split("\n## ").next().unwrap().replace('\n', " ");
    let quoted: Vec<&str> = log.split('"').skip(1).step_by(2).collect();
    assert!(quoted.len() > 30, "{quoted:?}");
    quoted.into_iter().filter(|line| !source.contains(line)).map(str::to_owned).collect()
}

/// Links to files that are not there, and to headings that a page has not.
fn broken_links(pages: &[Page]) -> Vec<String> {
    let mut wrong = Vec::new();
    for page in pages {
        let folder = root().join(page.path).parent().unwrap().to_owned();
        let prose = page.prose();
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { root().join(page.path) } else { folder.join(file) };
            let Ok(to) = to.canonicalize() else {
                wrong.push(format!("{}: no file {target}", page.path));
                continue;
            };
            let to = pages.iter().find(|page| root().join(page.path).canonicalize().is_ok_and(|path| path == to));
            if !heading.is_empty() && !to.is_some_and(|page| page.anchors().contains(heading)) {
                wrong.push(format!("{}: no heading {target}", page.path));
            }
        }
    }
    wrong
}

/// Lines, paragraphs and a front page that are too long to be read.
fn too_long(pages: &[Page]) -> Vec<String> {
    let mut wrong = Vec::new();
    for page in pages {
        let lines = (1..).zip(page.text.lines()).filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
        wrong.extend(lines.map(|(number, _)| format!("{}:{number}: more than {COLUMNS_MAX} columns", page.path)));
    }
    let readme = page(pages, README);
    // What it prints is there to be seen, not to be read.
    let text = readme.text.replace(readme.transcript(), "");
    let words = text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count();
    if words > README_WORDS_MAX {
        wrong.push(format!("{README}: {words} words, at most {README_WORDS_MAX}"));
    }
    let prose = readme.prose();
    let is_text = |line: &&str| !line.starts_with(['|', '-', '#']) && !line.starts_with(|c: char| c.is_ascii_digit());
    for paragraph in prose.split("\n\n") {
        if paragraph.trim().lines().filter(is_text).count() > PARAGRAPH_LINES_MAX
            && !paragraph.trim().starts_with(['-', '1'])
        {
            wrong.push(format!("{README}: a paragraph of more than {PARAGRAPH_LINES_MAX} lines: {paragraph}"));
        }
    }
    wrong
}

/// A transcript with what differs from run to run in other words, and in the order of the alphabet: events of different
/// incidents are delivered in any order.
fn comparable(transcript: &str) -> Vec<String> {
    let others = [
        (r"localhost:\d+", "localhost:PORT"),
        (r"\b\d{13}\b", "ID"),
        (r" *\d+\.\d s", "TIME"),
        (r"incident \d", "incident N"),
    ];
    let text = others.iter().fold(transcript.trim().to_owned(), |text, (pattern, other)| {
        regex::Regex::new(pattern).unwrap().replace_all(&text, *other).into_owned()
    });
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_demonstration_on_the_front_page_is_what_it_prints() {
    let output = Command::new(env!("CARGO_BIN_EXE_gander")).args(["demo", "--once"]).output().unwrap();
    let (printed, problems) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), problems.as_str()), (Some(0), ""), "{printed}");
    assert_eq!(
        comparable(page(&pages(), README).transcript()),
        comparable(printed.split("\n\nWithout").next().unwrap())
    );
}

#[test]
fn every_key_of_a_file_is_on_a_page() {
    assert_eq!(keys_without_a_page(&pages()), [""; 0]);
}

#[test]
fn every_metric_is_on_the_page_and_every_metric_on_a_page_exists() {
    assert_eq!(metrics_that_differ(&pages()), [""; 0]);
}

#[test]
fn every_command_is_on_a_page_and_every_command_on_a_page_exists() {
    assert_eq!(commands_that_differ(&pages()), [""; 0]);
}

#[test]
fn every_command_on_a_page_takes_the_arguments_that_it_is_shown_with() {
    assert_eq!(commands_that_do_not_parse(&pages()), [""; 0]);
}

#[test]
fn the_five_minutes_of_the_front_page_end_as_it_says() {
    let readme = page(&pages(), README).text.clone();
    let (_, rest) = readme.split_once("## Five minutes on the sandbox\n\n```sh\n").unwrap();
    let block = rest.split("```").next().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (program, at) = (Path::new(env!("CARGO_BIN_EXE_gander")), directory.path().display().to_string());
    assert!(block.contains("$PWD/target/release") && block.contains("/tmp/gander-try"), "{block}");
    let block = block
        .replace("$PWD/target/release", &program.parent().unwrap().display().to_string())
        .replace("/tmp/gander-try", &format!("{at}/try"));
    // The ports are those of the shipped files, so that it gets a network of its own.
    let script = format!("ip link set lo up\n{block}");
    let mut shell = Command::new("timeout");
    shell.args([
        "60",
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "bash",
        "-c",
    ]);
    let output = shell.arg(script).current_dir(directory.path()).output().unwrap();
    let (out, problems) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut rest = &*out;
    for expected in [
        "trigger of e1: delivered, created",
        "trigger of e1: duplicate",
        "resolve of e1: delivered, resolved",
        "\"state\": \"resolved\"",
    ] {
        let (_, after) = rest.split_once(expected).unwrap_or_else(|| panic!("{expected}: {out}\n{problems}"));
        rest = after;
    }
    let calls = std::fs::read_to_string(directory.path().join("try/sandbox.log")).unwrap();
    assert!(calls.contains("201 created incident 1 (e1)") && calls.contains("200 resolved incident 1 (e1)"), "{calls}");
}

#[test]
fn every_path_of_the_admin_api_is_on_the_page_and_every_path_on_it_exists() {
    assert_eq!(admin_paths_that_differ(&pages()), [""; 0]);
}

#[test]
fn every_line_of_the_log_on_the_page_is_written() {
    assert_eq!(log_lines_that_differ(&pages()), [""; 0]);
}

#[test]
fn every_test_that_the_page_on_security_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("config/deploy/SECURITY.md")).unwrap();
    let named = page.split('`').filter_map(|word| word.split_once("::"));
    let mut count = 0;
    for (file, test) in named {
        let text = std::fs::read_to_string(root.join("tests/it").join(file).with_extension("rs")).unwrap();
        assert!(text.contains(&format!("fn {test}()")), "{file}::{test}");
        count += 1;
    }
    assert!(count > 10, "{count}");
}

#[test]
fn every_link_leads_somewhere() {
    assert_eq!(broken_links(&pages()), [""; 0]);
}

#[test]
fn no_page_is_wider_than_a_screen_and_the_front_page_is_short() {
    assert_eq!(too_long(&pages()), [""; 0]);
}

#[test]
fn a_page_that_is_wrong_is_told() {
    type Check = fn(&[Page]) -> Vec<String>;
    let rows: &[(Check, &str, &str, &str, &str)] = &[
        (keys_without_a_page, LANGUAGE, "$truncate", "$cut", "rules: $truncate"),
        (keys_without_a_page, LANGUAGE, "body_exact", "body", "tests: body_exact"),
        (keys_without_a_page, LANGUAGE, "incident_mapped_with", "mapped_with", "filters: incident_mapped_with"),
        (metrics_that_differ, MONITORING, "gander_holds", "gander_held", "not on the page: gander_holds"),
        (metrics_that_differ, MONITORING, "gander_holds", "gander_held", "config/MONITORING.md: gander_held"),
        (commands_that_differ, OPERATING, "gander man", "gander manual", "config/OPERATING.md: gander manual"),
        (commands_that_differ, OPERATING, "gander man", "gander manual", "on no page: man"),
        (
            commands_that_do_not_parse,
            README,
            "send --source",
            "send --sender",
            "README.md: gander send --sender servicepilot problem.json",
        ),
        (commands_that_differ, OPERATING, "events export", "events dump", "config/OPERATING.md: gander events dump"),
        (admin_paths_that_differ, MONITORING, "/api/v1/holds", "/api/v1/held", "not on the page: /api/v1/holds"),
        (admin_paths_that_differ, MONITORING, "/api/v1/holds", "/api/v1/held", "not in the program: /api/v1/held"),
        (log_lines_that_differ, MONITORING, "\"took a request\"", "\"got a request\"", "got a request"),
        (broken_links, README, "config/OPERATING.md)", "OPERATING.md)", "README.md: no file OPERATING.md"),
        (broken_links, OPERATING, "(#reload)", "(#reloading)", "config/OPERATING.md: no heading #reloading"),
        (too_long, MONITORING, "# Watching Gander\n", WIDE, "config/MONITORING.md:1: more than 120 columns"),
    ];
    for (check, path, from, to, expected) in rows {
        let mut pages = pages();
        let page = pages.iter_mut().find(|page| page.path == *path).unwrap();
        assert!(page.text.contains(from), "{path} has no {from}");
        page.text = page.text.replace(from, to);
        let told = check(&pages);
        assert!(told.iter().any(|told| told == expected), "{expected}: {told:?}");
    }
    let mut long = pages();
    long[0].text.push_str(&"word ".repeat(200));
    assert!(too_long(&long).iter().any(|told| told.contains("words, at most 900")));
    let mut long = pages();
    long[0].text.push_str("\n\na line\na line\na line\na line\na line\n");
    assert!(too_long(&long).iter().any(|told| told.contains("a paragraph of more than 4 lines")));
}

/// The front page's configuration and rules pass `gander check`.
#[test]
fn the_configuration_and_the_rules_of_the_front_page_are_fine() {
    let yaml = page(&pages(), README).yaml();
    let [configuration, rules] = yaml.as_slice() else { panic!("{yaml:?}") };
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("config/gander.yaml", configuration);
    put("config/rules/servicepilot.yaml", rules);
    put("config/callgoose-filters.yaml", &read("config/callgoose-filters.yaml"));
    let mut gander = Command::new(env!("CARGO_BIN_EXE_gander"));
    gander.current_dir(folder.path()).env_clear().arg("check");
    gander.env("CALLGOOSE_TOKEN", "a-token-of-theirs").env("SERVICEPILOT_TOKEN", "a-long-token-of-ours");
    let ended = gander.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && out.contains("is fine") && !out.contains("note:"), "{out}{err}");
}

#[test]
fn every_yaml_block_of_a_page_is_a_part_of_a_file_that_is_taken() {
    let pages = pages();
    let blocks: usize = pages.iter().map(|page| page.yaml().len()).sum();
    assert!(blocks > 20, "{blocks}");
    assert_eq!(blocks_that_are_not_taken(&pages), Vec::<String>::new());
    let mut wrong = vec![Page { path: OPERATING, text: "```yaml\nupstream: { adresses: [a:1] }\n```\n".to_owned() }];
    assert!(blocks_that_are_not_taken(&wrong)[0].contains("adresses"));
    wrong[0].text = "```yaml\nwhen: { path: $.a, equals: 1 }\nwhen: { path: $.a, equal: 1 }\n```\n".to_owned();
    assert_eq!(blocks_that_are_not_taken(&wrong).len(), 1);
}

/// Blocks that the schema of their kind of file refuses, once what they leave out stands around them.
fn blocks_that_are_not_taken(pages: &[Page]) -> Vec<String> {
    let configuration = json!({
        "sources": { "servicepilot": { "rules": "r.yaml", "auth": "none" } },
        "upstream": { "url": "https://up.example/v1", "authorization": { "bearer": { "env": "TOKEN" } } },
    });
    let rules = json!({ "version": 1, "incident_key": "$.id", "rules": [{ "name": "all", "then": "trigger" }] });
    let kinds = [
        ("config", configuration),
        ("rules", rules),
        ("tests", json!({ "rules": "r.yaml", "tests": [{ "name": "a", "payload": {}, "expect": {} }] })),
        ("filters", json!({ "services": [{ "name": "a" }] })),
    ];
    let kinds = kinds.map(|(kind, around)| {
        let schema: Value = serde_json::from_str(&read(&format!("config/schema/{kind}.json"))).unwrap();
        (schema.clone(), around, jsonschema::draft7::new(&schema).unwrap())
    });
    let mut wrong = Vec::new();
    for (page, block) in pages.iter().flat_map(|page| page.yaml().into_iter().map(move |block| (page, block))) {
        for part in parts(&block) {
            let mut findings = Findings::new();
            let source = std::sync::Arc::new(Source::new(page.path.to_owned(), part.clone()));
            let tree = parse(&source, &mut findings).map(|node| node.to_json()).unwrap_or_default();
            wrong.extend(findings.has_errors().then(|| format!("{}: {}", page.path, findings.render(false))));
            // Alertmanager's own.
            if tree.get("receivers").is_some() {
                continue;
            }
            let problems: Vec<Vec<String>> = kinds
                .iter()
                .filter(|(schema, ..)| {
                    tree.as_object().unwrap().keys().all(|key| schema["properties"].get(key).is_some())
                })
                .map(|(_, around, validator)| {
                    let mut whole = around.clone();
                    lay(&mut whole, &tree);
                    validator.iter_errors(&whole).map(|error| error.to_string()).collect()
                })
                .collect();
            if !problems.iter().any(Vec::is_empty) {
                wrong.push(format!("{}: {part}{problems:?}", page.path));
            }
        }
    }
    wrong
}

/// The files of a block: what says `when` again and again shows one condition a line.
fn parts(block: &str) -> Vec<String> {
    match block.lines().filter(|line| line.starts_with("when: ")).count() > 1 {
        true => block.lines().map(|line| format!("rules: [{{ name: a, then: trigger, {} }}]\n", bare(line))).collect(),
        false if block.starts_with("when:") => {
            let indented: String = block.lines().map(|line| format!("    {line}\n")).collect();
            vec![format!("rules:\n  - name: a\n    then: trigger\n{indented}")]
        }
        false => vec![block.to_owned()],
    }
}

/// A line without its comment.
fn bare(line: &str) -> &str {
    line.split("  #").next().unwrap_or_default().trim_end()
}

/// Lays the members of an object over those of another.
fn lay(below: &mut Value, over: &Value) {
    match (below, over) {
        (Value::Object(below), Value::Object(over)) => {
            over.iter().for_each(|(name, value)| lay(below.entry(name).or_insert(Value::Null), value));
        }
        (below, over) => *below = over.clone(),
    }
}

#[test]
fn the_whole_rule_file_of_the_language_page_compiles() {
    let yaml = page(&pages(), LANGUAGE).yaml();
    let whole = yaml.iter().find(|yaml| yaml.starts_with("version: 1")).unwrap();
    let mut findings = Findings::new();
    let _ = RuleSet::compile(&std::sync::Arc::new(Source::new("rules.yaml".into(), whole.clone())), &mut findings);
    assert!(findings.is_empty(), "{}", findings.render(false));
}

const COLUMNS_MAX: usize = 120;
const README_WORDS_MAX: usize = 900;
const PARAGRAPH_LINES_MAX: usize = 4;
const WIDE: &str = concat!(
    "# Watching Gander, a heading that goes on and on and on, far beyond the edge of any screen that has a hundred and ",
    "twenty columns\n"
);
