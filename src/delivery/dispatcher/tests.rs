use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::callgoose::answer::Verdict;
use crate::credential::Credential;
use crate::delivery::client;
use crate::delivery::connector;
use crate::delivery::staleness::StaleDecision;
use crate::event::{Action, Body, Draft, Priority, UpdateHash};
use crate::journal::Shares;
use crate::journal::dedup;
use crate::journal::recorder::{RecorderParts, RecorderThread};
use crate::journal::request::{Entry, Submission};
use crate::journal::{self, Lock};
use crate::secret::Secret;

/// A dispatcher that a test drives itself, before an upstream that takes calls and never answers.
struct Context {
    dispatcher: Dispatcher,
    recorder: Recorder,
    sender: mpsc::Sender<Committed>,
    thread: std::thread::JoinHandle<()>,
    _upstream: std::net::TcpListener,
}

fn open(directory: &Path) -> Context {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/").parse().unwrap();
    let target = connector::Endpoint { host: address.ip().to_string(), port: address.port() };
    let way = connector::Config { targets: vec![target], route: connector::Route::Direct, tls: None };
    let timeout = Duration::from_secs(60);
    let authorization = Credential::Bearer(Secret::new("token".to_owned()));
    let calls = client::Config { url, authorization, timeout, concurrency: 1, way };
    let (sender, committed) = mpsc::channel(16);
    let (clock, metrics) = (Clock::start(), Arc::new(Metrics::new()));
    let parts = RecorderParts {
        journal: journal::Config {
            data_dir: directory.to_owned(),
            max_events: 100,
            max_bytes: 1 << 20,
            keep_delivered: timeout,
            keep_refused: 10,
            shares: Shares::default(),
            reserve: None,
        },
        lock: Lock::take(directory).unwrap(),
        dedup: dedup::Settings { window: timeout, remind: true, max_keys: 100 },
        superseded: Superseded::Send,
        clock,
        metrics: Arc::clone(&metrics),
        committed: sender.clone(),
    };
    let (recorder, thread) = RecorderThread::open(parts, |_, _| ()).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::spawn(move || thread.run(&runtime));
    let config = Config {
        concurrency: 1,
        per_second: NonZeroU32::MAX,
        burst: NonZeroU32::MAX,
        retry: retry::Settings {
            initial: timeout,
            factor: 1.0,
            max: timeout,
            give_up_after: timeout,
            unresolved: retry::Unresolved { attempts: 1, over: timeout },
        },
        breaker: BreakerConfig { failures: 9, open: timeout },
        stale: None,
        superseded: Superseded::Send,
    };
    let (dispatcher, _) = Dispatcher::new(Parts {
        config,
        upstream: Arc::new(Upstream::new(calls, []).unwrap()),
        recorder: recorder.clone(),
        reader: Arc::new(Reader::open(directory).unwrap()),
        clock,
        metrics,
        schedule: Schedule::new(config.limits()),
        recent_triggers: RecentTriggers::new(timeout),
        committed,
        resume: Arc::new(Notify::new()),
    });
    Context { dispatcher, recorder, sender, thread, _upstream: listener }
}

impl Context {
    /// Records an event and hands it to the dispatcher.
    async fn take(&mut self, key: &str) -> Queued {
        let draft = Draft {
            action: Action::Trigger,
            incident_key: key.to_owned(),
            rule: Arc::from("problem"),
            occurrence: None,
            update: UpdateHash(0),
            priority: Priority::Normal,
            body: Body::of(&serde_json::json!({})),
        };
        let submission = Submission {
            source: Arc::from("servicepilot"),
            request_id: Arc::from("01REQUEST"),
            sender_request_id: None,
            trace: None,
            received_at: WallTime::now(),
            raw: Bytes::from_static(b"{}"),
            charset: None,
            entries: vec![Entry::Event { key: KeyId::new("servicepilot", key), draft }],
            wait_for_settlement: false,
            earlier: Arc::default(),
        };
        self.recorder.record(submission).await.unwrap();
        let committed = self.dispatcher.committed.recv().await.unwrap();
        let event = committed.accepted[0].event;
        self.dispatcher.handle_commit(committed);
        event
    }

    fn discard_under_way(&mut self, event: &Queued) {
        self.discard_under_way_by("loopback", event);
    }

    fn discard_under_way_by(&mut self, by: &str, event: &Queued) {
        let now = self.dispatcher.context.clock.now();
        let origin = CommandOrigin { request_id: "01COMMAND".into(), by: by.into(), selection: None };
        let origin = Arc::new(origin);
        let discarding = self.dispatcher.discard(event.id, event.key, &origin, now);
        assert!(matches!(discarding, Discarding::UnderWay), "{discarding:?}");
    }

    /// Stops in order; returns the event's state and reason in the journal.
    async fn stop(self, directory: &Path, id: EventId) -> (String, Option<String>) {
        let Context { dispatcher, recorder, sender, thread, .. } = self;
        let shutdown = Shutdown::new();
        shutdown.begin();
        dispatcher.run(shutdown, Duration::from_millis(50)).await;
        drop((recorder, sender));
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
        let found = Reader::open(directory).unwrap().summaries(&[id]).unwrap().remove(0);
        (found.state.as_str().to_owned(), found.reason)
    }
}

fn discarded() -> (String, Option<String>) {
    ("ended".to_owned(), Some("discarded".to_owned()))
}

#[tokio::test]
async fn an_event_that_was_discarded_under_way_ends_where_its_call_was_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut context = open(directory.path());
    let event = context.take("a").await;
    let now = context.dispatcher.context.clock.now();
    let step = context.dispatcher.schedule.next(now.monotonic, |_, _| StaleDecision::Send);
    let Step::Start(delivery) = step else { panic!("{step:?}") };
    context.discard_under_way(&event);
    context.dispatcher.handle_report(CallReport::NotCalled(delivery));
    assert!(context.dispatcher.settling.contains(event.id), "it waits to be called again");
    let committed = context.dispatcher.committed.recv().await.unwrap();
    context.dispatcher.handle_commit(committed);
    assert!(context.dispatcher.schedule.is_empty() && context.dispatcher.schedule.is_quiet());
    assert_eq!(context.stop(directory.path(), event.id).await, discarded());
}

#[tokio::test]
async fn an_event_that_was_discarded_under_way_ends_where_a_stop_cuts_its_call_off() {
    let directory = tempfile::tempdir().unwrap();
    let mut context = open(directory.path());
    let event = context.take("a").await;
    context.dispatcher.start_deliveries();
    context.discard_under_way(&event);
    context.discard_under_way_by("another person", &event);
    assert_eq!(context.stop(directory.path(), event.id).await, discarded());
    let noted = Reader::open(directory.path()).unwrap().commands(Some(event.id), None, 10).unwrap().commands;
    let noted: Vec<(&str, &str)> = noted.iter().map(|one| (&*one.command, &*one.by)).collect();
    assert_eq!(noted, [("discard", "loopback")], "with its end, by whoever was first");
}

#[tokio::test]
async fn a_discard_is_not_noted_where_the_call_under_way_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let mut context = open(directory.path());
    let event = context.take("a").await;
    let now = context.dispatcher.context.clock.now();
    let step = context.dispatcher.schedule.next(now.monotonic, |_, _| StaleDecision::Send);
    let Step::Start(delivery) = step else { panic!("{step:?}") };
    context.discard_under_way(&event);
    context.dispatcher.schedule.call_ended(&delivery, Verdict::Done(Outcome::Created), None, now.monotonic);
    let outcome = Some(Outcome::Created);
    let settlement =
        Settlement { id: event.id, state: State::Delivered, outcome, reason: None, attempts: 1, at: now.wall };
    let unwritten = context.dispatcher.unwritten(event, Some(delivery.key), now);
    context.dispatcher.settle(unwritten, None, settlement, true);
    let committed = context.dispatcher.committed.recv().await.unwrap();
    context.dispatcher.handle_commit(committed);
    assert_eq!(context.stop(directory.path(), event.id).await, ("delivered".to_owned(), None));
    let noted = Reader::open(directory.path()).unwrap().commands(None, None, 10).unwrap().commands;
    assert!(noted.is_empty(), "{noted:?}");
}

#[tokio::test]
async fn what_waits_is_known_while_the_relay_stops_and_what_came_meanwhile_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut context = open(directory.path());
    let first = context.take("a").await;
    context.dispatcher.start_deliveries();
    let second = Queued { id: EventId(first.id.0 + 1), key: KeyId::new("servicepilot", "b"), ..first };
    let shutdown = Shutdown::new();
    shutdown.begin();
    // It drains, since a call is under way.
    let running = tokio::spawn(context.dispatcher.run(shutdown, Duration::from_secs(1)));
    tokio::task::yield_now().await;
    let accepted = vec![Accepted { event: second, outgoing: None }];
    context.sender.send(Committed { accepted, ..Committed::default() }).await.unwrap();
    let (reply, answer) = oneshot::channel();
    context.sender.send(Committed { queue_copy_request: Some(reply), ..Committed::default() }).await.unwrap();
    let mut known: Vec<EventId> = answer.await.unwrap().waiting.iter().map(|waits| waits.event).collect();
    known.sort();
    assert_eq!(known, [first.id, second.id]);
    running.await.unwrap();
}
