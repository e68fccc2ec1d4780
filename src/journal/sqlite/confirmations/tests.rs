use std::path::Path;
use std::time::Duration;

use super::*;
use crate::callgoose::confirmation::Told;
use crate::clock::WallTime;
use crate::journal::{Config, Journal, Lock, Shares};

fn journal(directory: &Path) -> Journal {
    let config = Config {
        data_dir: directory.to_owned(),
        max_events: 100,
        max_bytes: 1 << 20,
        keep_delivered: Duration::from_secs(60),
        keep_refused: 10,
        shares: Shares::default(),
        reserve: None,
    };
    Journal::open(&config, &Lock::take(directory).unwrap(), WallTime(0)).unwrap()
}

fn told(action: Option<IncidentAction>) -> Told {
    Told { incident_key: Some("k".into()), action }
}

fn keep(journal: &mut Journal, at: i64, told: &Told, about: Option<u64>, raw: &[u8]) -> u64 {
    let mut batch = journal.begin().unwrap();
    let about = about.map(|event| (EventId(event), "s"));
    let new = NewConfirmation { received_at: WallTime(at), source: "callgoose", request: "01", told, about, raw };
    let id = batch.next_confirmation().unwrap();
    batch.keep_confirmation(id, new).unwrap();
    batch.commit().unwrap();
    id
}

fn put_event(journal: &mut Journal, id: u64, action: &str, novelty: &str, received_at: i64) {
    journal.execute(&format!(
        "INSERT INTO event (id, source, action, incident_key, state, outcome, novelty, received_at, settled_at, bytes, request, \
         raw_in) VALUES ({id}, 's', '{action}', 'k', 'delivered', 'created', '{novelty}', {received_at}, {received_at}, 0, \
         '01', {id})"
    ));
}

fn ids(reader: &Reader, filter: ConfirmationFilter) -> Vec<String> {
    reader.confirmations(filter).unwrap().confirmations.into_iter().map(|one| one.id).collect()
}

const ALL: ConfirmationFilter = ConfirmationFilter { event: None, result: None, after: None, limit: 100_000 };

#[test]
fn confirmations_are_listed_by_event_and_result_newest_first() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path());
    keep(&mut journal, 1, &told(Some(IncidentAction::Opened)), Some(7), b"{}");
    keep(&mut journal, 2, &Told::default(), None, b"\xff<b>");
    keep(&mut journal, 3, &told(None), None, &[b'x'; RAW_BYTES_KEPT + 1]);
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(ids(&reader, ALL), ["3", "2", "1"]);
    assert_eq!(ids(&reader, ConfirmationFilter { event: Some(EventId(7)), ..ALL }), ["1"]);
    assert_eq!(ids(&reader, ConfirmationFilter { result: Some(Relation::Unmatched), ..ALL }), ["3"]);
    assert_eq!(ids(&reader, ConfirmationFilter { after: Some(3), limit: 1, ..ALL }), ["2"]);
    let page = reader.confirmations(ConfirmationFilter { limit: 2, ..ALL }).unwrap();
    assert_eq!(page.next.as_deref(), Some("2"));
    let [long, unknown] = page.confirmations.as_slice() else { panic!("{page:?}") };
    assert_eq!((long.raw.len(), long.bytes), (RAW_BYTES_KEPT, RAW_BYTES_KEPT as u64 + 1));
    assert_eq!((&*unknown.raw, &*unknown.result), ("\u{fffd}<b>", "unknown_shape"));
}

#[test]
fn a_flood_is_bounded_and_pushes_out_none_that_a_story_shows() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path());
    let first = keep(&mut journal, 1, &told(Some(IncidentAction::Opened)), Some(7), b"{}");
    let mut batch = journal.begin().unwrap();
    for number in 0..2 * UNRELATED_KEPT {
        let about = None;
        let (told, raw) = (&Told::default(), b"x".as_slice());
        let new = NewConfirmation { received_at: WallTime(number), source: "c", request: "01", told, about, raw };
        let id = batch.next_confirmation().unwrap();
        batch.keep_confirmation(id, new).unwrap();
    }
    batch.commit().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let kept = ids(&reader, ALL);
    let most = usize::try_from(RELATED_KEPT_MIN + TRIMMED_EVERY).unwrap() + 1;
    assert!(kept.len() <= most, "{}", kept.len());
    assert_eq!(kept.last(), Some(&first.to_string()), "about an event");
    assert_eq!(kept.first(), Some(&(first + 2 * UNRELATED_KEPT.cast_unsigned()).to_string()), "the newest");
}

#[test]
fn an_event_keeps_its_newest_confirmations_and_the_first_of_each_action() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path());
    let other = keep(&mut journal, 1, &told(None), Some(8), b"{}");
    let opened = keep(&mut journal, 2, &told(Some(IncidentAction::Opened)), Some(7), b"{}");
    let closed = keep(&mut journal, 3, &told(Some(IncidentAction::Closed)), Some(7), b"{}");
    let most = usize::try_from(KEPT_OF_EVENT).unwrap();
    for at in 0..3 * most {
        keep(&mut journal, 4 + at as i64, &told(Some(IncidentAction::Closed)), Some(7), b"{}");
    }
    let last = closed + 3 * KEPT_OF_EVENT.cast_unsigned();
    let newest = (0..KEPT_OF_EVENT.cast_unsigned()).map(|back| last - back);
    let expected: Vec<_> = newest.chain([closed, opened, other]).map(|id| id.to_string()).collect();
    assert_eq!(ids(&Reader::open(directory.path()).unwrap(), ALL), expected);
}

#[test]
fn the_event_is_the_one_that_led_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path());
    put_event(&mut journal, 1, "trigger", "opening", 1);
    put_event(&mut journal, 2, "resolve", "closing", 2);
    put_event(&mut journal, 3, "trigger", "reopening", 3);
    let about = |journal: &mut Journal, action| {
        let batch = journal.begin().unwrap();
        let candidates = batch.candidates_of_key(Some(action), ("s", "k"), EventId(3), false).unwrap();
        relate(Some(action), candidates.into_iter().map(Ok::<_, Error>)).unwrap()
    };
    assert_eq!(about(&mut journal, IncidentAction::Opened), Some(EventId(3)));
    assert_eq!(about(&mut journal, IncidentAction::Closed), Some(EventId(2)));
    keep(&mut journal, 4, &told(Some(IncidentAction::Opened)), Some(3), b"{}");
    assert_eq!(about(&mut journal, IncidentAction::Closed), Some(EventId(3)), "a person closed it");
    let last = |journal: &mut Journal| journal.begin().unwrap().last_without_effect("s", "k").unwrap();
    assert_eq!(last(&mut journal), None, "each had one");
    journal.execute("UPDATE event SET state = 'dead' WHERE id = 2");
    assert_eq!(last(&mut journal), Some(EventId(2)));
    let batch = journal.begin().unwrap();
    assert_eq!(batch.candidates_of_key(None, ("other", "k"), EventId(3), true).unwrap(), []);
    assert_eq!(batch.candidates_of_key(None, ("s", "k"), EventId(3), true).unwrap().len(), 3, "all that there are");
}

#[test]
fn an_incident_lacks_a_confirmation_only_where_others_were_confirmed_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path());
    put_event(&mut journal, 1, "trigger", "opening", 10);
    let reader = Reader::open(directory.path()).unwrap();
    let confirmed = |id| {
        let open = reader.summaries(&[EventId(id)]).unwrap();
        match reader.confirmed(&open).unwrap().remove(0) {
            IncidentConfirmation::By(last) => last.action,
            IncidentConfirmation::Missing => "missing".to_owned(),
            IncidentConfirmation::Unknown => "unknown".to_owned(),
        }
    };
    assert_eq!(confirmed(1), "unknown", "nobody points webhooks here");
    keep(&mut journal, 20, &told(None), Some(1), b"{}");
    assert_eq!(confirmed(1), "unknown", "nothing was confirmed");
    keep(&mut journal, 20, &told(Some(IncidentAction::Opened)), Some(1), b"{}");
    assert_eq!(confirmed(1), "opened");
    put_event(&mut journal, 4, "trigger", "opening", 15);
    journal.execute("UPDATE event SET incident_key = 'other' WHERE id = 4");
    assert_eq!(confirmed(4), "unknown", "it came before the first that was confirmed");
    put_event(&mut journal, 2, "trigger", "reminder", 30);
    assert_eq!(confirmed(2), "opened", "a reminder of what was opened before");
    put_event(&mut journal, 3, "trigger", "reopening", 40);
    assert_eq!(confirmed(3), "missing");
    keep(&mut journal, 50, &told(Some(IncidentAction::Closed)), Some(3), b"{}");
    assert_eq!(confirmed(3), "closed", "by a person, in Callgoose");
}

#[test]
fn a_confirmation_goes_with_the_history_of_its_event_and_by_its_age() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path());
    put_event(&mut journal, 1, "trigger", "opening", 10);
    put_event(&mut journal, 2, "trigger", "opening", 90);
    journal.next_id = EventId(3);
    keep(&mut journal, 10, &told(None), Some(1), b"{}");
    keep(&mut journal, 90, &told(None), Some(2), b"{}");
    keep(&mut journal, 10, &Told::default(), None, b"{}");
    keep(&mut journal, 90, &Told::default(), None, b"{}");
    let mut batch = journal.begin().unwrap();
    batch.prune(Some(WallTime(50)), 10, |_, _, _| true).unwrap();
    batch.commit().unwrap();
    assert_eq!(ids(&Reader::open(directory.path()).unwrap(), ALL), ["4", "2"]);
}
