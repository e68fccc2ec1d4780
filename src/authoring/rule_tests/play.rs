//! Playing a test file: a clock that only `after` moves, the relay's deduplication, the stand-in for Callgoose.

use std::collections::HashMap;
use std::sync::Arc;

use super::compare;
use super::read::{Test, TestFile};
use super::{Played, TestReport};
use crate::callgoose::answer::{Body, Verdict, judge};
use crate::callgoose::filters::Filters;
use crate::callgoose::sandbox::{Call, Callgoose, DUPLICATE_WINDOW};
use crate::clock::{Monotonic, Now, WallTime};
use crate::event::{Draft, EventId, KeyId, Outcome, State};
use crate::inbound::Decoded;
use crate::journal::dedup::{Arrival, Dedup, DedupDecision, Effect, Taken};
use crate::rules::{Context, Coverage, Decision, Element, RuleSet};
use crate::yaml::{Findings, Source};

/// Plays every test in its order.
pub(super) fn file(file: &TestFile, rules: &RuleSet, mut coverage: Option<&mut Coverage>) -> Vec<TestReport> {
    let mut now = Now { monotonic: Monotonic(0), wall: WallTime(START_MS) };
    let mut world = World::new(file);
    file.tests
        .iter()
        .map(|test| {
            let after = i64::try_from(test.after.as_millis()).unwrap_or(0);
            now = Now { monotonic: now.monotonic.after(test.after), wall: WallTime(now.wall.0.saturating_add(after)) };
            if test.fresh {
                world = World::new(file);
            }
            world.play(file, rules, test, now, coverage.as_deref_mut())
        })
        .collect()
}

/// The state that tests of a file share.
struct World {
    dedup: Dedup,
    callgoose: Option<Standin>,
    last: EventId,
    /// The test in which each event came.
    tests: HashMap<EventId, String>,
}

struct Standin {
    filters: Filters,
    callgoose: Callgoose,
}

impl World {
    fn new(file: &TestFile) -> World {
        World {
            dedup: Dedup::new(file.dedup),
            callgoose: file.filters.as_ref().and_then(Standin::new),
            last: EventId(0),
            tests: HashMap::new(),
        }
    }

    fn play(
        &mut self,
        file: &TestFile,
        rules: &RuleSet,
        test: &Test,
        now: Now,
        coverage: Option<&mut Coverage>,
    ) -> TestReport {
        let received_at = now.wall.rfc3339();
        let Decoded { value: payload, repairs } = &test.payload;
        let context = Context { source: &file.source, received_at: &received_at, json: file.json, repairs: *repairs };
        let decision = match coverage {
            None => rules.decide(payload, context),
            Some(coverage) => {
                let (decision, trace) = rules.explain(payload, context);
                trace.elements.iter().for_each(|trace| coverage.add(trace));
                decision
            }
        };
        let played: Vec<Played<'_>> = decision
            .elements
            .iter()
            .filter_map(|element| match element {
                Element::Event(draft) => Some(self.take(file, draft, &test.name, now)),
                _ => None,
            })
            .collect();
        TestReport {
            name: test.name.clone(),
            line: test.line,
            differences: compare::differences(test, rules, &decision, &played),
            warnings: warnings(&decision, &played, test),
        }
    }

    /// Takes an event and delivers it at once.
    fn take<'a>(&mut self, file: &TestFile, draft: &'a Draft, test: &str, now: Now) -> Played<'a> {
        let key = KeyId::new(&file.source, &draft.incident_key);
        let arrival =
            Arrival { key, action: draft.action, update: draft.update, occurrence: draft.occurrence.as_ref() };
        let next = EventId(self.last.0 + 1);
        if let DedupDecision::Duplicate { of, why } = self.dedup.decide(arrival, now) {
            let of = self.tests.get(&of).map_or("an earlier event", String::as_str);
            let why = Some(format!("of the event in \"{of}\", {}", why.as_str()));
            return Played { draft, status: "duplicate", why, outcome: None, misses: Vec::new() };
        }
        let (action, update, occurrences) = (draft.action, draft.update, self.dedup.occurrences_after(arrival));
        self.dedup.take(Taken { id: next, key, action, update, occurrences }, now.monotonic);
        self.last = next;
        self.tests.insert(self.last, test.to_owned());
        let (outcome, misses) = match &mut self.callgoose {
            Some(standin) => standin.deliver(draft, now),
            None => (None, Vec::new()),
        };
        if let Some(ending) = Effect::of(State::Delivered, outcome) {
            self.dedup.settle(key, self.last, ending);
        }
        Played { draft, status: "queued", why: None, outcome, misses }
    }
}

impl Standin {
    fn new(source: &Arc<Source>) -> Option<Standin> {
        // The text was checked when the file was read; two copies, because the stand-in owns its own.
        let read = || Filters::read(source, &mut Findings::new());
        Some(Standin { filters: read()?, callgoose: Callgoose::new(read()?, DUPLICATE_WINDOW) })
    }

    fn deliver(&mut self, draft: &Draft, now: Now) -> (Option<Outcome>, Vec<String>) {
        let answer = self.callgoose.process(Call { body: draft.body.bytes(), from: None }, now);
        let written = serde_json::to_vec(&answer).unwrap_or_default();
        let outcome = match judge(draft.action, answer.status.as_u16(), Body::whole(&written)) {
            Verdict::Done(outcome) => Some(outcome),
            Verdict::Again(_) | Verdict::Blocked(_) | Verdict::Rejected(_) => None,
        };
        let misses = match outcome {
            Some(Outcome::Unmatched) => {
                self.filters.evaluate(&draft.body.value(), None).misses.iter().map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        };
        (outcome, misses)
    }
}

fn warnings(decision: &Decision, played: &[Played<'_>], test: &Test) -> Vec<String> {
    let failures = &decision.template_failures;
    let template = failures.first.as_ref().map(|first| format!("a template failed and rendered empty: {first}"));
    let expected = |index: usize| {
        let events = test.expect.events.as_ref();
        events.and_then(|events| events.get(index)).and_then(|event| event.outcome) == Some(Outcome::Unmatched)
    };
    let unmatched = played
        .iter()
        .enumerate()
        .filter(|(index, played)| played.outcome == Some(Outcome::Unmatched) && !expected(*index))
        .map(|(index, played)| {
            format!("no filter matches event {index}, nobody would be alerted: {}", played.misses.join("; "))
        });
    template.into_iter().chain(unmatched).collect()
}

/// 2025-01-01T00:00:00Z: tests read the same on every day.
const START_MS: i64 = 1_735_689_600_000;
