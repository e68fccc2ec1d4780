use super::*;
use crate::event::Outcome;

const SETTINGS: Settings = Settings { failures: 3, open: Duration::from_secs(10), pause: Duration::from_secs(60) };
const DONE: Verdict = Verdict::Done(Outcome::Created);
const REJECTED: Verdict = Verdict::Rejected(Trouble::Payload);
const DOWN: Verdict = Verdict::Again(Trouble::Connect);
const ERROR: Verdict = Verdict::Again(Trouble::ServerError);
const DENIED: Verdict = Verdict::Blocked(Trouble::Unauthorized);
const BOTH: Waiting = Waiting { untried: true, tried: true };
const TRIED: Waiting = Waiting { untried: false, tried: true };

fn at(second: i64) -> Monotonic {
    Monotonic(second * 1_000)
}

/// A call of this event that ends at the moment at which it started.
fn call(event: u64, verdict: Verdict, second: i64) -> Call {
    Call { event: EventId(event), started: at(second), failing_since: None, probe: false, verdict, retry_after: None }
}

/// A breaker after calls of different events, all at 0.
fn after(verdicts: &[Verdict]) -> Breaker {
    let mut breaker = Breaker::new(SETTINGS);
    for (event, verdict) in (1..).zip(verdicts) {
        breaker.record(call(event, *verdict, 0), at(0));
    }
    breaker
}

/// Starts a probe of this event and ends it with this verdict.
fn probe(breaker: &mut Breaker, event: u64, verdict: Verdict, second: i64) {
    assert!(breaker.started(CallKind::Untried));
    breaker.record(Call { probe: true, ..call(event, verdict, second) }, at(second));
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
    assert_eq!(after(&[DOWN, DOWN]).open_by(), None);
    assert_eq!(after(&[DOWN, DOWN, DONE, DOWN, DOWN]).open_by(), None);
    assert_eq!(after(&[DOWN, DOWN, REJECTED, DOWN, DOWN]).open_by(), None);
    assert_eq!(after(&[DOWN, DOWN, DOWN]).open_by(), Some(Cause::Failures));
    assert_eq!(after(&[ERROR, ERROR, ERROR]).open_by(), Some(Cause::Failures));
    assert_eq!(after(&[DENIED]).open_by(), Some(Cause::Pause(Trouble::Unauthorized)));
}

#[test]
fn what_fails_while_others_are_taken_is_the_events_own_fault() {
    let breaker = after(&[DONE]);
    for (sentence, verdict, started, failing_since, fault) in [
        ("another was taken shortly before", ERROR, 9, None, FailureOf::Event),
        ("a refusal likewise", DENIED, 9, None, FailureOf::Event),
        ("a page likewise", Verdict::Blocked(Trouble::NotJson), 9, None, FailureOf::Event),
        ("nothing was taken for long", ERROR, 10, None, FailureOf::Upstream),
        ("likewise a refusal", DENIED, 10, None, FailureOf::Upstream),
        ("another was taken since it failed first", ERROR, 1_000, Some(0), FailureOf::Event),
        ("none was taken since it failed first", ERROR, 1_000, Some(1), FailureOf::Upstream),
        ("the network is nobody's fault but its own", DOWN, 1, None, FailureOf::Upstream),
        ("and a proxy refuses all", Verdict::Blocked(Trouble::ProxyUnauthorized), 1, None, FailureOf::Upstream),
    ] {
        let failing_since = failing_since.map(at);
        let mut breaker = breaker.clone();
        let ended = Call { failing_since, ..call(7, verdict, started) };
        assert_eq!(breaker.record(ended, at(started + 5)), Some(fault), "{sentence}");
        let open = fault == FailureOf::Upstream && matches!(verdict, Verdict::Blocked(_));
        assert_eq!(breaker.open_by().is_some(), open, "{sentence}");
    }
}

#[test]
fn an_event_that_always_fails_opens_nothing_while_others_are_taken() {
    for verdict in [ERROR, DENIED] {
        let mut breaker = after(&[DONE]);
        for second in 1..1_000 {
            let failing_since = (second > 1).then_some(at(1));
            breaker.record(Call { failing_since, ..call(7, verdict, second) }, at(second));
            if second % 60 == 5 {
                breaker.record(call(8, DONE, second), at(second));
            }
            assert_eq!(breaker.open_by(), None, "{verdict:?} at {second} s");
        }
    }
}

#[test]
fn one_probe_goes_at_a_time() {
    let mut breaker = after(&[DOWN; 3]);
    assert_eq!(breaker.permit(0, BOTH, at(9)), Permit::NotBefore(at(10)));
    assert_eq!(breaker.permit(0, BOTH, at(10)), Permit::Probe(CallKind::Untried));
    assert!(breaker.started(CallKind::Untried));
    assert_eq!(breaker.permit(1, BOTH, at(11)), Permit::NotNow);
    breaker.record(Call { probe: true, ..call(4, DOWN, 10) }, at(12));
    assert_eq!(breaker.permit(0, BOTH, at(21)), Permit::NotBefore(at(22)));
}

#[test]
fn probes_are_in_turn_of_events_that_were_never_tried_and_of_those_that_failed() {
    let mut breaker = after(&[DOWN; 3]);
    let mut kinds = Vec::new();
    for round in 1..=4 {
        let Permit::Probe(kind) = breaker.permit(0, BOTH, at(10 * round)) else { panic!("a probe is due") };
        kinds.push(kind);
        assert!(breaker.started(kind));
        breaker.record(Call { probe: true, ..call(9, DOWN, 10 * round) }, at(10 * round));
    }
    assert_eq!(kinds, [CallKind::Untried, CallKind::Tried, CallKind::Untried, CallKind::Tried]);
    assert_eq!(breaker.permit(0, TRIED, at(50)), Permit::Probe(CallKind::Tried), "where no other waits, at every turn");
}

#[test]
fn where_one_event_alone_failed_another_tells_at_once_whether_it_is_the_upstream() {
    let mut breaker = Breaker::new(SETTINGS);
    for second in 0..3 {
        breaker.record(call(1, ERROR, second), at(second));
    }
    assert_eq!(breaker.open_by(), Some(Cause::Failures));
    assert_eq!(breaker.permit(0, TRIED, at(3)), Permit::NotBefore(at(12)), "not the same event again");
    assert_eq!(breaker.permit(0, BOTH, at(3)), Permit::Probe(CallKind::Untried));
    probe(&mut breaker, 2, ERROR, 3);
    assert_eq!(breaker.permit(0, BOTH, at(4)), Permit::NotBefore(at(13)), "the second one was the proof");

    let mut breaker = after(&[DENIED]);
    assert_eq!(breaker.permit(0, BOTH, at(0)), Permit::Probe(CallKind::Untried), "a refusal likewise");
    breaker.started(CallKind::Tried);
    breaker.record(Call { probe: true, ..call(1, DENIED, 60) }, at(60));
    assert_eq!(breaker.permit(0, BOTH, at(61)), Permit::Probe(CallKind::Untried), "still one event alone");
    probe(&mut breaker, 2, DONE, 61);
    assert_eq!(breaker.open_by(), None);
}

#[test]
fn stragglers_do_not_put_the_probe_off() {
    let mut breaker = after(&[DOWN; 3]);
    breaker.record(call(4, DOWN, 0), at(9));
    assert_eq!(breaker.permit(0, BOTH, at(10)), Permit::Probe(CallKind::Untried));
    breaker.started(CallKind::Untried);
    breaker.record(call(5, DOWN, 0), at(11));
    assert_eq!(breaker.permit(1, BOTH, at(30)), Permit::NotNow, "the probe is still under way");
}

#[test]
fn an_upstream_that_asks_to_be_left_alone_is_not_probed_before() {
    let busy = Verdict::Again(Trouble::Busy);
    let mut breaker = Breaker::new(SETTINGS);
    let asked = |event, second| Call { retry_after: Some(Duration::from_secs(40)), ..call(event, busy, second) };
    for event in 1..=3 {
        breaker.record(asked(event, 0), at(0));
    }
    assert_eq!(breaker.permit(0, BOTH, at(1)), Permit::NotBefore(at(40)));
    breaker.started(CallKind::Untried);
    breaker.record(Call { probe: true, ..asked(4, 40) }, at(40));
    assert_eq!(breaker.permit(0, BOTH, at(41)), Permit::NotBefore(at(80)));
    breaker.started(CallKind::Untried);
    let never = Call { retry_after: Some(Duration::from_secs(1_000_000)), probe: true, ..asked(5, 80) };
    breaker.record(never, at(80));
    assert_eq!(breaker.permit(0, BOTH, at(81)), Permit::NotBefore(at(80 + 300)), "up to a limit");
}

#[test]
fn recovery_ramps_up_with_successes_and_with_time() {
    let mut breaker = after(&[ERROR; 3]);
    probe(&mut breaker, 4, DONE, 10);
    assert_eq!(breaker.open_by(), None);
    assert_eq!(breaker.permit(1, BOTH, at(10)), Permit::Call);
    assert_eq!(breaker.permit(2, BOTH, at(10)), Permit::NotBefore(at(11)));
    assert_eq!(breaker.permit(3, BOTH, at(11)), Permit::Call, "calls that hang do not stop it");
    breaker.record(call(5, DONE, 10), at(10));
    assert_eq!(breaker.permit(3, BOTH, at(10)), Permit::Call);
    assert_eq!(breaker.permit(4, BOTH, at(10)), Permit::NotBefore(at(11)));
    assert_eq!(breaker.permit(1_000, BOTH, at(15)), Permit::Call, "after six seconds it is over");
    for event in 6..9 {
        breaker.record(call(event, ERROR, 21), at(21));
    }
    assert_eq!(breaker.open_by(), Some(Cause::Failures), "failures in a row open it again");
}

#[test]
fn one_denial_pauses_and_a_changed_secret_probes_at_once() {
    let mut breaker = after(&[DENIED]);
    let mut now = 0;
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(breaker.permit(0, TRIED, at(now)), Permit::NotBefore(at(now + wait)), "the first probes come soon");
        now += wait;
        probe(&mut breaker, 1, DENIED, now);
    }
    assert_eq!(breaker.permit(0, TRIED, at(now + 5)), Permit::NotBefore(at(now + 60)));
    breaker.resume(at(now + 5));
    assert_eq!(breaker.permit(0, TRIED, at(now + 5)), Permit::Probe(CallKind::Tried));
    probe(&mut breaker, 1, DONE, now + 6);
    assert_eq!(breaker.open_by(), None);
}

#[test]
fn a_changed_secret_does_not_hurry_the_breaker() {
    let mut breaker = after(&[DOWN; 3]);
    breaker.resume(at(5));
    assert_eq!(breaker.permit(0, BOTH, at(5)), Permit::NotBefore(at(10)));
}

#[test]
fn time_stands_still_during_a_pause_and_not_while_the_upstream_fails() {
    let mut breaker = after(&[DENIED]);
    assert_eq!(breaker.running(at(50)), at(0));
    probe(&mut breaker, 1, DENIED, 60);
    assert_eq!(breaker.running(at(100)), at(0), "a failed probe does not end the pause");
    probe(&mut breaker, 1, DONE, 120);
    assert_eq!(breaker.running(at(130)), at(10));

    let mut breaker = after(&[DOWN; 3]);
    assert_eq!(breaker.running(at(50)), at(50));
    probe(&mut breaker, 4, DENIED, 60);
    assert_eq!(breaker.running(at(70)), at(60), "failures gave way to a pause");
    probe(&mut breaker, 4, DOWN, 80);
    assert_eq!(breaker.running(at(90)), at(70), "and the pause to failures");
    probe(&mut breaker, 4, DOWN, 100);
    assert_eq!(breaker.running(at(110)), at(90), "a failed probe of these stops no clock");
}

#[test]
fn a_probe_that_was_not_made_is_still_owed() {
    let mut breaker = after(&[DOWN; 3]);
    breaker.started(CallKind::Untried);
    breaker.not_called(false);
    assert_eq!(breaker.permit(1, BOTH, at(10)), Permit::NotNow, "that was another call");
    breaker.not_called(true);
    assert_eq!(breaker.permit(0, TRIED, at(10)), Permit::Probe(CallKind::Tried));
}

#[test]
fn a_straggler_turns_failures_into_a_pause_and_a_pause_into_nothing_else() {
    let elsewhere = Verdict::Blocked(Trouble::Endpoint);
    let pause = Cause::Pause(Trouble::Unauthorized);
    // The verdict that opened it at 0, the straggler's at 5, then the cause and the running time at 20.
    for (sentence, opened, straggler, cause, running) in [
        ("one more failure is nothing new", DOWN, DOWN, Cause::Failures, 20),
        ("a denial is", DOWN, DENIED, pause, 5),
        ("one more denial is not", DENIED, DENIED, pause, 0),
        ("nor another trouble of that kind", DENIED, elsewhere, pause, 0),
        ("nor a failure", DENIED, DOWN, pause, 0),
    ] {
        for probing in [false, true] {
            let mut breaker = after(&[opened; 3]);
            if probing {
                breaker.started(CallKind::Untried);
            }
            breaker.record(call(9, straggler, 0), at(5));
            assert_eq!(breaker.open_by(), Some(cause), "{sentence}, probing {probing}");
            assert_eq!(breaker.permit(0, BOTH, at(6)) == Permit::NotNow, probing, "{sentence}");
            assert_eq!(breaker.running(at(20)), at(running), "{sentence}, probing {probing}");
        }
    }
}

#[test]
fn a_probe_that_meets_another_trouble_tells_it_and_the_pause_goes_on() {
    let mut breaker = after(&[DENIED]);
    probe(&mut breaker, 2, Verdict::Blocked(Trouble::Endpoint), 60);
    assert_eq!(breaker.open_by(), Some(Cause::Pause(Trouble::Endpoint)));
    assert_eq!(breaker.permit(0, BOTH, at(61)), Permit::NotBefore(at(62)));
    assert_eq!(breaker.running(at(61)), at(0));
}
