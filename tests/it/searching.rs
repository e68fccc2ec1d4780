//! The search by key and title in a running relay, whose index grows beside the events.

use std::sync::Arc;
use std::time::Duration;

use gander::exports::clock::WallTime;
use gander::exports::event::{Action, Priority, UpdateHash};
use gander::exports::journal::dedup::Occurrences;
use gander::exports::journal::{self, Journal, Lock, NewEvent, Raw, Shares};
use serde_json::{Value, json};

use crate::relay::{Relay, Setup, payload, within};
use crate::upstream::{Reply, Upstream};

/// Writes events of keys `old-0` and so on, each with a title of its own, as a relay that ran before left them.
fn left_behind(directory: &std::path::Path, events: u64) {
    let config = journal::Config {
        data_dir: directory.join("data"),
        max_events: 100_000,
        max_bytes: 1 << 30,
        keep_delivered: Duration::from_secs(3_600),
        keep_refused: 1,
        shares: Shares::default(),
        reserve: None,
    };
    let lock = Lock::take(&config.data_dir).unwrap();
    let mut journal = Journal::open(&config, &lock, WallTime::now()).unwrap();
    journal.restore(|_| {}).unwrap();
    let mut batch = journal.begin().unwrap();
    for number in 0..events {
        let key = format!("old-{number}");
        let body = json!({ "servicepilot_event_id": key, "state": "CRITICAL", "title": format!("Disk {number} full") });
        let body = body.to_string();
        let event = NewEvent {
            source: "servicepilot",
            action: Action::Trigger,
            incident_key: &key,
            rule: "problem",
            priority: Priority::Normal,
            novelty: "first",
            acknowledged_at: WallTime::now(),
            request: "01REQUEST",
            sender_request: None,
            trace: None,
            raw: Raw::Bytes(body.as_bytes()),
            charset: None,
            body: body.as_bytes(),
            update: UpdateHash(number),
            occurrences: Occurrences::default(),
            follows: None,
            replay_of: None,
        };
        batch.append(event).unwrap();
    }
    batch.commit().unwrap();
    journal.close();
}

async fn found(relay: &Relay, query: &str) -> Vec<String> {
    let list = relay.admin(&format!("/api/v1/events?{query}")).await.json;
    let events = list["events"].as_array().unwrap_or_else(|| panic!("{query}: {list}"));
    events.iter().map(|event| event["incident_key"].as_str().unwrap().to_owned()).collect()
}

/// Searches for nothing that is there until the index answers for so many events.
async fn by_index(relay: &Relay, events: u64) -> Value {
    let is_used = move |list: &Value| list["searched"]["by_index"].as_u64().is_some_and(|used| used >= events);
    relay.admin_once("/api/v1/events?key_or_title=nowhere", is_used).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_made_beside_the_events_and_again_where_it_is_lost() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        left_behind(directory.path(), 2_300);
        let index = directory.path().join("data/search.db");
        let mut relay = Relay::start_in(Arc::clone(&directory), &upstream, &Setup::default()).await;
        for round in ["made", "kept", "deleted while stopped", "damaged while running"] {
            by_index(&relay, 2_000).await;
            let mut fresh = payload(&format!("{round}-1"), "CRITICAL");
            fresh["title"] = json!(format!("Fresh {round}"));
            relay.post_with(&fresh, &[("prefer", "wait=10")]).await;
            let title = format!("key_or_title=fresh+{}", round.replace(' ', "+"));
            assert_eq!(found(&relay, &title).await, [format!("{round}-1")], "right after it came");
            assert_eq!(found(&relay, "key_or_title=disk+17+full").await, ["old-17"], "{round}");
            assert_eq!(found(&relay, "key_contains=OLD-2017").await, ["old-2017"], "{round}");
            assert_eq!(found(&relay, "key_contains=disk").await, Vec::<String>::new(), "{round}");
            if round == "deleted while stopped" {
                // The index is open: what is written over it is met by the next search.
                std::fs::write(&index, vec![7; 300_000]).unwrap();
                continue;
            }
            relay.stop().await;
            if round == "kept" {
                std::fs::remove_file(&index).unwrap();
            }
            relay = Relay::start_in(Arc::clone(&directory), &upstream, &Setup::default()).await;
        }
        relay.stop().await;
    })
    .await;
}
