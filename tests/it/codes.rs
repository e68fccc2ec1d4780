//! The words that a program reads, held against the page that lists them: none is missing, none is there in vain.

use std::collections::BTreeSet;

use gander::exports::callgoose::answer::Trouble;
use gander::exports::event::{Outcome, Reason, State};

use crate::pages::read;

const MONITORING: &str = "config/MONITORING.md";

/// The words between back quotes.
fn code(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(|word| word.replace('\n', " ")).collect()
}

/// The text between two others, which are on the page once each.
fn between<'a>(page: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = page.split_once(begin).unwrap_or_else(|| panic!("{begin} is not there"));
    rest.split_once(end).unwrap_or_else(|| panic!("{end} is not there")).0
}

/// The cells of each row of the table under this heading.
fn table<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, rest) = page.split_once(heading).unwrap_or_else(|| panic!("{heading} is not there"));
    let rows = rest.lines().skip(2).take_while(|row| row.starts_with('|'));
    rows.map(|row| row.split('|').skip(1).map(str::trim).collect()).collect()
}

/// The words that stand as texts in a file's code, without its tests.
fn words_in(path: &str) -> BTreeSet<String> {
    let source = read(path);
    words(source.split("#[cfg(test)]").next().unwrap())
}

/// Texts of one word in code.
fn words(source: &str) -> BTreeSet<String> {
    let is_word = |text: &&str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    source.split('"').skip(1).step_by(2).filter(is_word).map(str::to_owned).collect()
}

fn set<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

/// The words behind `reason: ` in a file's code.
fn reasons_in(path: &str) -> BTreeSet<String> {
    let source = read(path);
    let code = source.split("#[cfg(test)]").next().unwrap();
    set(code.split("reason: \"").skip(1).filter_map(|rest| rest.split('"').next()))
}

#[test]
fn readyz_has_the_reasons_of_the_page_and_no_other() {
    let page = read(MONITORING);
    let documented: BTreeSet<String> =
        table(&page, "| `reason` | what is the matter | remedy |").iter().flat_map(|cells| code(cells[0])).collect();
    let mut known = words_in("src/admin/readiness.rs");
    known.extend(reasons_in("src/admin/reload_status.rs"));
    known.extend(
        words_in("src/admin/certificate_status.rs").into_iter().filter(|word| word.starts_with("certificate_")),
    );
    known.extend(reasons_in("src/admin/secret_status.rs"));
    known.extend(words_in("src/journal/recorder/thread/remarks.rs"));
    // Two are named as requests are that they refuse.
    known.extend(set(["journal_replaced", "source_share"]));
    assert!(known.len() > 10, "{known:?}");
    assert_eq!(documented, known);
}

#[test]
fn events_have_the_states_outcomes_and_reasons_of_the_page_and_no_other() {
    let page = read(MONITORING);
    let states = code(between(&page, "An event's `state` is", "."));
    assert_eq!(states, set(State::ALL.map(State::as_str)));
    let outcomes = code(between(&page, "`outcome` is `created`", "."));
    assert_eq!(outcomes.len() + 1, Outcome::ALL.len(), "{outcomes:?}");
    assert!(outcomes.is_subset(&set(Outcome::ALL.map(Outcome::as_str))), "{outcomes:?}");

    let reasons = [
        Reason::Rejected("payload".into()),
        Reason::TooOld("dns".into()),
        Reason::read("damaged: its body could not be read"),
        Reason::Stale,
        Reason::Superseded,
        Reason::Discarded,
        Reason::Replayed,
    ];
    // One more is one more for the page.
    let is_told = |reason: &Reason| match reason {
        Reason::Rejected(_) | Reason::TooOld(_) | Reason::Damaged(_) => true,
        Reason::Stale | Reason::Superseded | Reason::Discarded | Reason::Replayed => true,
        Reason::Other(_) => false,
    };
    assert!(reasons.iter().all(is_told));
    let known = set(reasons.iter().map(Reason::label));
    assert_eq!(code(between(&page, "`reason` of what is dead begins with", "; of what was refused")), known);
    let mut counted = known;
    counted.remove("replayed");
    assert_eq!(code(between(&page, "`reason` of what ended is", ". Replayed ones")), counted);
}

#[test]
fn failed_calls_have_the_results_and_sides_of_the_page_and_no_other() {
    let page = read(MONITORING);
    let rows = table(&page, "| `fault` | `result` |");
    let documented = rows.iter().flat_map(|cells| {
        let fault = code(cells[0]).pop_first().unwrap();
        code(cells[1]).into_iter().map(move |result| (fault.clone(), result))
    });
    let known = Trouble::ALL.map(|trouble| (trouble.attribution().as_str().to_owned(), trouble.as_str().to_owned()));
    assert_eq!(documented.collect::<BTreeSet<_>>(), BTreeSet::from(known));
}

#[test]
fn declined_commands_have_the_reasons_of_the_page_and_no_other() {
    let page = read(MONITORING);
    let mut documented = code(between(&page, "The `reason` of what is declined", "\n\n"));
    documented.remove("detail");
    let source = read("src/journal/request/command.rs");
    let declined = between(&source, "impl Declined {", "/// An explanation");
    let mut known = words(declined);
    known.extend(reasons_in("src/admin/commands.rs"));
    assert!(known.len() > 10, "{known:?}");
    assert_eq!(documented, known);
}
