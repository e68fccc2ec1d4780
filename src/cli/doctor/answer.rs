//! The checks of the upstream's answers: HTTP, this machine's clock, the token.

use std::time::Duration;

use super::report::Found;
use crate::advice::LOOK_THERE;
use crate::callgoose::answer::{Trouble, Verdict, judge, judge_failure};
use crate::clock::WallTime;
use crate::delivery::client::{Answer, CallError};
use crate::event::{Action, Outcome};
use crate::secret::Origin;
use crate::text::length;

/// The answer to a GET without a token. It is no call, so a refusal is as good as any other answer.
pub(super) fn http(answer: &Result<Answer, CallError>) -> Found {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return failed(error),
    };
    let said = said(answer);
    match judge(Action::Trigger, answer.status, answer.body()).trouble() {
        None | Some(Trouble::Unauthorized | Trouble::Payload) => Found::ok(said),
        Some(Trouble::Endpoint) if answer.status == 405 => Found::ok(said),
        Some(Trouble::Endpoint) => Found::warning(
            said,
            "check `upstream.url`; an endpoint that takes nothing but POST may answer so, too: `--token` asks by POST",
        ),
        Some(trouble @ Trouble::ProxyUnauthorized) => Found::failed(said, trouble.remedy()),
        Some(trouble) => Found::warning(said, trouble.remedy()),
    }
}

/// This machine's clock beside the `Date` of an answer that was asked for and given at these times. None without a
/// readable `Date`.
pub(super) fn clock(date: Option<&str>, asked: WallTime, answered: WallTime) -> Option<Found> {
    let theirs = WallTime::of(httpdate::parse_http_date(date?).ok()?);
    // A `Date` is cut to the second.
    let behind = asked.since(theirs).saturating_sub(Duration::from_secs(1));
    let ahead = theirs.since(answered);
    let off = behind.max(ahead).as_secs();
    // If this clock shows more than theirs, it is fast.
    let which = if behind > ahead { "fast" } else { "slow" };
    if off <= CLOCK_SECONDS_MAX {
        return Some(Found::ok(format!("{off} s off the `Date` of the upstream's answer")));
    }
    Some(Found::warning(
        format!("this clock is {} {which} beside the `Date` of the upstream's answer", length(off)),
        "set the clock, and have it kept right (chrony, systemd-timesyncd): certificates and signatures go by it",
    ))
}

/// The answer to an empty event that carried the token, which was read from `origin`.
pub(super) fn token(answer: &Result<Answer, CallError>, origin: Option<&Origin>) -> Found {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return failed(error),
    };
    let said = said(answer);
    match judge(Action::Trigger, answer.status, answer.body()) {
        Verdict::Done(Outcome::Created) => Found::warning(
            format!("it is taken, and an incident was opened: {said}"),
            "a filter there matches an empty event: close the incident `Incident from gander doctor`, and fix the filter",
        ),
        Verdict::Done(Outcome::Unmatched) => Found::ok(format!("it is taken, and no filter matched: {said}")),
        Verdict::Done(Outcome::Accepted) => Found::warning(
            format!("it is not refused, and the answer does not say what came of the empty event: {said}"),
            LOOK_THERE,
        ),
        Verdict::Done(_) => Found::ok(format!("it is taken: {said}")),
        Verdict::Rejected(_) => Found::ok(format!("it is not refused, the empty event is: {said}")),
        Verdict::Again(trouble) => Found::warning(said, trouble.remedy()),
        Verdict::Blocked(trouble @ Trouble::Unauthorized) => {
            Found::failed(said, format!("{}; {}", trouble.remedy(), place(origin)))
        }
        Verdict::Blocked(trouble) => Found::failed(said, trouble.remedy()),
    }
}

/// The place of a token that was refused, never its value.
fn place(origin: Option<&Origin>) -> String {
    match origin {
        Some(Origin::Variable(name)) => format!(
            "it was read from the environment variable {name}: set the right one there, also where the relay is started, \
             and restart the relay"
        ),
        Some(Origin::File(file)) => format!(
            "it was read from the file {}: write the right one there, which a running relay takes within seconds",
            file.display()
        ),
        None => "it is written out in the configuration: `upstream.authorization`".to_owned(),
    }
}

fn failed(error: &CallError) -> Found {
    let CallError { trouble, detail, .. } = error;
    let remedy = match judge_failure(*trouble) {
        Verdict::Again(Trouble::Reset | Trouble::Timeout) => "try again; what is on the way may hold it up",
        _ => trouble.remedy(),
    };
    Found::failed(format!("{}: {detail}", trouble.as_str()), remedy)
}

/// `answered 302, Location: /login`.
fn said(answer: &Answer) -> String {
    let location = answer.location.as_ref().map(|location| format!(", Location: {location}"));
    let page = if answer.page { ", a page" } else { "" };
    format!("answered {}{}{page}", answer.status, location.unwrap_or_default())
}

/// More than any clock is off that is kept right.
const CLOCK_SECONDS_MAX: u64 = 60;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::report;
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        let body = Bytes::from_static(body.as_bytes());
        let page = body.starts_with(b"<");
        Answer { status, retry_after: None, location: None, date: None, shown: body.clone(), body, cut: None, page }
    }

    const UNMATCHED: &str =
        r#"{"id":"1","resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":false}}"#;
    const CREATED: &str =
        r#"{"id":"1","resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":true}}"#;

    #[test]
    fn any_refusal_of_a_get_without_a_token_shows_that_the_upstream_answers() {
        use report::Verdict::{Failed, Ok as Fine, Warning};
        for (status, body, verdict) in [
            (200, "", Fine),
            (200, "{}", Fine),
            (400, "", Fine),
            (401, "", Fine),
            (403, "", Fine),
            (405, "", Fine),
            (200, "<html>log in</html>", Warning),
            (302, "", Warning),
            (404, "", Warning),
            (429, "", Warning),
            (500, "", Warning),
            (503, "", Warning),
            (407, "", Failed),
        ] {
            let found = http(&Ok(answer(status, body)));
            assert_eq!(found.verdict, verdict, "{status} {body}");
            assert_eq!(found.remedy.is_some(), verdict != Fine, "{status} {body}");
        }
        let moved = Answer { location: Some("https://example.org/login".to_owned()), ..answer(302, "") };
        assert_eq!(http(&Ok(moved)).text, "answered 302, Location: https://example.org/login");
        let error = CallError { trouble: Trouble::Reset, status: None, detail: "it broke".to_owned() };
        assert_eq!((http(&Err(error.clone())).verdict, http(&Err(error)).text), (Failed, "reset: it broke".to_owned()));
    }

    #[test]
    fn a_token_is_judged_by_what_came_of_an_empty_event() {
        use report::Verdict::{Failed, Ok as Fine, Warning};
        for (status, body, verdict, words) in [
            (202, UNMATCHED, Fine, "it is taken, and no filter matched"),
            (200, "", Warning, "does not say what came of the empty event: answered 200"),
            (422, "", Fine, "it is not refused, the empty event is"),
            (201, CREATED, Warning, "an incident was opened"),
            (503, "", Warning, "answered 503"),
            (401, "", Failed, "answered 401"),
            (404, "", Failed, "answered 404"),
        ] {
            let found = token(&Ok(answer(status, body)), None);
            assert!(found.verdict == verdict && found.text.contains(words), "{status}: {found:?}");
            assert_eq!(found.remedy.is_some(), verdict != Fine, "{status}");
        }
        for (origin, place) in [
            (Some(Origin::Variable("CALLGOOSE_TOKEN".to_owned())), "the environment variable CALLGOOSE_TOKEN: set"),
            (Some(Origin::File("run/token".into())), "the file run/token: write"),
            (None, "written out in the configuration"),
        ] {
            let remedy = token(&Ok(answer(401, "")), origin.as_ref()).remedy.unwrap();
            assert!(remedy.starts_with("check the token in `upstream.authorization`"), "{remedy}");
            assert!(remedy.contains(place), "{remedy}");
            let elsewhere = token(&Ok(answer(404, "")), origin.as_ref()).remedy.unwrap();
            assert!(!elsewhere.contains(place), "the token is not at fault: {elsewhere}");
        }
    }

    #[test]
    fn a_clock_is_off_by_what_neither_the_way_nor_the_seconds_explain() {
        // 2025-11-24T16:00:00Z.
        const AT: i64 = 1_764_000_000_000;
        const DATE: &str = "Mon, 24 Nov 2025 16:00:00 GMT";
        for (asked, answered, text) in [
            (AT, AT + 900, "0 s off the `Date` of the upstream's answer"),
            (AT - 5_000, AT + 5_000, "0 s off the `Date` of the upstream's answer"),
            (AT + 61_999, AT + 62_100, "60 s off the `Date` of the upstream's answer"),
            (AT + 62_000, AT + 62_100, "this clock is 61 s fast beside the `Date` of the upstream's answer"),
            (AT - 61_100, AT - 61_000, "this clock is 61 s slow beside the `Date` of the upstream's answer"),
            (AT + 10_800_000, AT + 10_800_100, "this clock is 2 h fast beside the `Date` of the upstream's answer"),
        ] {
            let found = clock(Some(DATE), WallTime(asked), WallTime(answered)).unwrap();
            assert_eq!(found.text, text, "{asked}");
            assert_eq!(found.verdict == report::Verdict::Ok, found.text.contains(" off "), "{asked}");
        }
        assert_eq!(clock(None, WallTime(AT), WallTime(AT)), None);
        assert_eq!(clock(Some("soon"), WallTime(AT), WallTime(AT)), None);
    }
}
