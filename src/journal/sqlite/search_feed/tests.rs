use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::event::State;
use crate::journal::fact::{NewEvent, NewRefusal, Raw};
use crate::journal::sqlite::tests::{NOW, config, delivered, event, open};
use crate::journal::sqlite::{Config, Filter, Journal, Lock, Texts};

/// A journal with events whose keys and titles hold what a search could stumble over.
struct Kept {
    directory: tempfile::TempDir,
    journal: Journal,
    lock: Lock,
    ids: Vec<EventId>,
}

const EVENTS: usize = 2_400;

/// Parts of keys and titles, and what is searched for: also a part of a part.
const WORDS: [&str; 20] = [
    "disk",
    "Disk FULL",
    "db-7",
    "100%",
    "a_b",
    "axb",
    "\"quoted\"",
    "it's",
    "NEAR",
    "OR",
    "AND NOT",
    "*",
    "Zürich",
    "ZÜRICH",
    "straße",
    "İstanbul",
    "🔥",
    "日本",
    "back\\slash",
    "-- ;",
];
const QUERIES: [&str; 34] = [
    "d",
    "k",
    "is",
    "disk",
    "DISK",
    "disk full",
    "%",
    "_",
    "0%",
    "a_b",
    "\"",
    "'",
    "\"quoted\"",
    "NEAR",
    "near",
    "OR",
    "or",
    "*",
    "ü",
    "Ü",
    "zürich",
    "STRASSE",
    "straße",
    "ß",
    "i",
    "İ",
    "🔥",
    "日",
    "\\",
    ";",
    "\n",
    "key-33",
    "key-2399",
    "nowhere",
];

const SOME: [&str; 4] = ["Disk", "ü", "%", "key-33"];

impl Kept {
    fn new() -> Kept {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { max_events: 1 << 20, max_bytes: 1 << 30, ..config(directory.path()) };
        let (mut journal, lock, _) = open(&config);
        let mut random = fastrand::Rng::with_seed(7);
        let mut batch = journal.begin().unwrap();
        let mut ids = Vec::new();
        for number in 0..EVENTS {
            let mut word = || WORDS[random.usize(..WORDS.len())];
            let key = format!("{}/key-{number}", word());
            let body = match number % 7 {
                0 => b"{\"title\":7}".to_vec(),
                1 => b"no json".to_vec(),
                _ => serde_json::to_vec(&serde_json::json!({ "title": word(), "note": "only here" })).unwrap(),
            };
            if number % 50 == 3 {
                let id = batch
                    .refuse(NewRefusal {
                        source: "servicepilot",
                        received_at: NOW,
                        request: "01REQUEST",
                        sender_request: None,
                        trace: None,
                        raw: Raw::Bytes(&body),
                        charset: None,
                        element: None,
                        reason: "unprocessable",
                        errors: br#"[{"title":"disk"}]"#.into(),
                    })
                    .unwrap();
                ids.push(id);
                continue;
            }
            let id = batch.append(NewEvent { acknowledged_at: at(number), ..event(&key, &body) }).unwrap();
            if number % 3 == 0 {
                batch.settle(&delivered(id, at(number))).unwrap();
            }
            ids.push(id);
        }
        batch.commit().unwrap();
        Kept { directory, journal, lock, ids }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("search.db")
    }

    fn plain(&self) -> Reader {
        Reader::open(self.directory.path()).unwrap()
    }

    /// A searcher with the index as a start opens it.
    fn searcher(&self) -> (Reader, Arc<SearchIndex>) {
        let index = Arc::new(self.plain().search_index().unwrap().unwrap());
        (self.plain().searching_in(Arc::clone(&index)), index)
    }

    fn fed(&self) -> (Reader, Arc<SearchIndex>) {
        let (reader, index) = self.searcher();
        feed(&reader, &index);
        (reader, index)
    }

    /// Compares every search with one that reads the journal alone.
    fn check(&self, reader: &Reader, when: &str) {
        self.check_some(reader, when, &QUERIES);
    }

    fn check_some(&self, reader: &Reader, when: &str, queries: &[&str]) {
        let plain = self.plain();
        let middle = self.ids[EVENTS / 2];
        for query in queries {
            let text = Some((*query).to_owned());
            let key = Texts { key: text.clone(), ..Texts::default() };
            let key_or_title = Texts { key_or_title: text.clone(), ..Texts::default() };
            let both = Texts { key: Some("k".to_owned()), ..key_or_title.clone() };
            let payload = Texts { payload: Some("only".to_owned()), ..key_or_title.clone() };
            for texts in [key, key_or_title.clone(), both, payload] {
                let filter = Filter { texts, limit: 400, ..Filter::default() };
                assert_eq!(found(reader, &filter), found(&plain, &filter), "{when}: {filter:?}");
            }
            let filter = Filter { texts: key_or_title, limit: 1_000, ..Filter::default() };
            for filter in [
                Filter { states: vec![State::Delivered], ..filter.clone() },
                Filter { states: vec![State::Queued], limit: 300, ..filter.clone() },
                Filter { since: Some(at(EVENTS / 3)), before: Some(at(EVENTS / 2)), ..filter.clone() },
                Filter { from: Some(middle), ..filter.clone() },
                Filter { until: Some(middle), ..filter.clone() },
                Filter { after: Some(middle), limit: 200, ..filter },
            ] {
                assert_eq!(found(reader, &filter), found(&plain, &filter), "{when}: {filter:?}");
            }
        }
    }
}

fn at(number: usize) -> crate::clock::WallTime {
    crate::clock::WallTime(NOW.0 + i64::try_from(number).unwrap())
}

fn feed(reader: &Reader, index: &SearchIndex) {
    while reader.grow(index).unwrap() == Fed::Block {}
}

/// The events of all pages.
fn found(reader: &Reader, filter: &Filter) -> Vec<String> {
    let (mut filter, mut ids) = (filter.clone(), Vec::new());
    loop {
        let page = reader.list(&filter).unwrap();
        ids.extend(page.events.into_iter().map(|event| event.id));
        let Some(next) = page.next else { return ids };
        filter.after = Some(next.parse().unwrap());
    }
}

/// The number of events that a search for nothing that is there takes from the index, and reads.
fn used(reader: &Reader) -> (usize, usize) {
    let texts = Texts { key_or_title: Some("nowhere".to_owned()), ..Texts::default() };
    let page = reader.list(&Filter { texts, limit: 10, ..Filter::default() }).unwrap();
    let searched = page.searched.unwrap();
    (searched.by_index, searched.looked_at - searched.by_index)
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_search_with_the_index_finds_what_one_without_it_finds() {
    let kept = Kept::new();
    let (reader, index) = kept.searcher();
    assert_eq!(used(&reader), (0, EVENTS));
    kept.check_some(&reader, "before there is an index", &SOME);
    assert_eq!(reader.grow(&index).unwrap(), Fed::Block);
    assert_eq!(used(&reader), (1_000, EVENTS - 1_000));
    kept.check_some(&reader, "while it catches up", &SOME);
    feed(&reader, &index);
    assert_eq!(used(&reader), (2_000, EVENTS - 2_000), "the newest are read");
    kept.check(&reader, "with all of it");
    drop((reader, index));
    let (reader, _index) = kept.searcher();
    assert_eq!(used(&reader), (2_000, EVENTS - 2_000));
    kept.check_some(&reader, "after a restart", &SOME);
}

#[test]
fn an_event_is_found_right_after_its_commit() {
    let mut kept = Kept::new();
    let (reader, index) = kept.fed();
    for number in 0..2_100 {
        let key = format!("new-{number}");
        let mut batch = kept.journal.begin().unwrap();
        let id = batch.append(event(&key, b"{}")).unwrap();
        batch.commit().unwrap();
        if number % 300 == 0 {
            let texts = Texts { key_or_title: Some(key), ..Texts::default() };
            let filter = Filter { texts, limit: 1, ..Filter::default() };
            assert_eq!(found(&reader, &filter).first(), Some(&id.to_string()));
            feed(&reader, &index);
        }
    }
}

#[test]
fn a_deleted_or_damaged_index_costs_no_result_and_is_made_again() {
    let kept = Kept::new();
    let (reader, index) = kept.fed();
    drop((reader, index));
    let whole = fs::read(kept.path()).unwrap();
    let length = whole.len() as u64;
    let cut = |length: u64| fs::File::options().write(true).open(kept.path()).unwrap().set_len(length).unwrap();
    type Damage<'d> = (&'d str, &'d dyn Fn());
    let damages: [Damage<'_>; 7] = [
        ("deleted", &|| fs::remove_file(kept.path()).unwrap()),
        ("empty", &|| cut(0)),
        ("cut within the head", &|| cut(50)),
        ("cut in the middle", &|| cut(length / 2)),
        ("cut at the end", &|| cut(length - 20_000)),
        ("something else", &|| fs::write(kept.path(), b"something else").unwrap()),
        ("one byte", &|| overwrite(&kept.path(), length - 60_000, &[whole[whole.len() - 60_000] ^ 1])),
    ];
    for (name, damage) in damages {
        // While stopped.
        fs::write(kept.path(), &whole).unwrap();
        damage();
        let (reader, index) = kept.searcher();
        kept.check_some(&reader, name, &SOME);
        feed(&reader, &index);
        assert_eq!(used(&reader), (2_000, EVENTS - 2_000), "{name}");
        drop((reader, index));
        // While it is open.
        fs::write(kept.path(), &whole).unwrap();
        let (reader, index) = kept.searcher();
        assert_eq!(used(&reader).0, 2_000);
        damage();
        kept.check_some(&reader, name, &SOME);
        // A file that was deleted is there as long as it is open.
        assert_eq!(used(&reader).0 == 2_000, name == "deleted", "{name}: it is noticed");
        feed(&reader, &index);
        assert_eq!(used(&reader), (2_000, EVENTS - 2_000), "{name}, while it was open");
        kept.check_some(&reader, name, &SOME);
    }
}

#[test]
fn an_index_of_another_journal_or_of_another_state_of_it_is_not_used() {
    let kept = Kept::new();
    let other = Kept::new();
    drop(other.fed());
    fs::copy(other.path(), kept.path()).unwrap();
    let (reader, index) = kept.searcher();
    assert_eq!(used(&reader).0, 0, "of another journal");
    kept.check_some(&reader, "of another journal", &SOME);
    feed(&reader, &index);
    drop((reader, index));
    // A copy of the journal from before its last events, and beside it the index of now.
    let Kept { directory, journal, lock, ids } = kept;
    drop((journal, lock));
    let database = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
    database.execute("DELETE FROM event WHERE id >= ?1", [sql(ids[1_500])]).unwrap();
    drop(database);
    let index = Reader::open(directory.path()).unwrap().search_index().unwrap().unwrap();
    assert_eq!(index.reach(), EventId(0), "of another state");
    assert!(!directory.path().join("search.db").exists());
}

#[test]
fn what_is_pruned_leaves_the_index_too() {
    let mut kept = Kept::new();
    let (reader, index) = kept.fed();
    let mut batch = kept.journal.begin().unwrap();
    for (number, id) in kept.ids.iter().enumerate().filter(|(number, _)| *number < 1_000 || number % 4 != 0) {
        batch.settle(&delivered(*id, at(number))).unwrap();
    }
    batch.commit().unwrap();
    for _ in 0..100 {
        let mut batch = kept.journal.begin().unwrap();
        batch.prune(None, 1_000, |_, _, _| false).unwrap();
        batch.drop_refused(1_000).unwrap();
        batch.commit().unwrap();
    }
    kept.check_some(&reader, "pruned, and not yet swept", &SOME);
    let before = used(&reader).0;
    let mut after = EventId(0);
    while let Some(last) = reader.sweep(&index, after).unwrap() {
        after = last;
    }
    let swept = used(&reader).0;
    assert!(before == 2_000 && (1..500).contains(&swept), "{swept}");
    kept.check_some(&reader, "swept", &SOME);
    assert_eq!(reader.grow(&index).unwrap(), Fed::UpToDate, "it goes on where it was");
}
