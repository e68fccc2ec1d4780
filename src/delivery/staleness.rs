//! Stale triggers: after an outage an alert of last night must not page as if it were new.
//!
//! A resolve never goes stale: however late, it closes what would stay open. And a trigger ends unsent only if a
//! resolve of its key waits after it, so that every problem that still exists pages somebody.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::clock::{Now, WallTime};
use crate::event::{Action, Queued};

/// The `delivery.stale` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The age from which a trigger is stale.
    pub trigger: Duration,
    pub then: Then,
}

/// The treatment of a stale trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Send it with its delay.
    Mark,
    /// End it unsent if a resolve of its key waits after it, else mark it.
    End,
}

/// The decision about an event before its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleDecision {
    Send,
    /// Send it, marked with its age.
    SendMarked {
        age: Duration,
    },
    /// End it without a call.
    End,
}

/// Decides about an event. `resolve_waits`: a resolve of its key waits after it. Without settings nothing is stale.
pub fn decide(settings: Option<Settings>, event: &Queued, age: Duration, resolve_waits: bool) -> StaleDecision {
    match settings {
        Some(Settings { trigger, then }) if event.action == Action::Trigger && age > trigger => match then {
            Then::End if resolve_waits => StaleDecision::End,
            Then::End | Then::Mark => StaleDecision::SendMarked { age },
        },
        _ => StaleDecision::Send,
    }
}

/// The age of an event, for a process that began to deliver at `start`.
///
/// It is measured by the monotonic clock, so that a jump of the wall clock makes nothing old. For an event found in the
/// journal, its age at the start came from the wall clock; if that was turned back since, it was wrong, and the event
/// is as young as the clock says now.
pub fn age(event: &Queued, start: Now, now: Now) -> Duration {
    let age = now.monotonic.since(event.acknowledged);
    if event.acknowledged >= start.monotonic {
        return age;
    }
    let by_wall = WallTime(start.wall.0.saturating_sub(start.monotonic.0.saturating_sub(event.acknowledged.0)));
    age.min(now.wall.since(by_wall))
}

/// An [`age`] to the millisecond, where the time of the acknowledgement is at hand: the schedule keeps it in whole seconds,
/// rounded up. A wall clock that jumped moves it by no more than that second.
pub(crate) fn precise_age(age: Duration, acknowledged: Option<WallTime>, now: WallTime) -> Duration {
    acknowledged.map_or(age, |at| now.since(at).clamp(age, age + Duration::from_secs(1)))
}

/// A body to be sent, and a description of its mark for the record of the attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub body: Bytes,
    pub mark: String,
}

/// Marks a body with its age: in a member `stale`, and before the title. Everything else keeps its order. A body that
/// is no JSON object is sent unmarked.
pub(crate) fn mark(body: &Bytes, age: Duration) -> Marked {
    let age = format_age(age);
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
        return Marked {
            body: body.clone(),
            mark: format!("sent {age} late, without a mark: the body is no JSON object"),
        };
    };
    let mut mark = format!("sent {age} late, with the member `stale`");
    if let Some(Value::String(title)) = members.get_mut("title") {
        let prefix = format!("[{age} late] ");
        mark.push_str(&format!(" and `{prefix}` before the title"));
        title.insert_str(0, &prefix);
    }
    members.insert("stale".to_owned(), Value::String(age));
    Marked { body: Value::Object(members).to_string().into(), mark }
}

/// Formats an age for people, by its two largest units: `6h 12m`.
pub(crate) fn format_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let largest = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let (count, unit) = parts[largest];
    match parts.get(largest + 1) {
        Some((next, smaller)) if *next > 0 => format!("{count}{unit} {next}{smaller}"),
        _ => format!("{count}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Monotonic;
    use crate::event::{EventId, KeyId, Priority, SourceId};

    const HOUR: i64 = 3_600_000;

    fn hours(hours: i64) -> Duration {
        Duration::from_millis(u64::try_from(hours * HOUR).unwrap())
    }

    #[test]
    fn an_age_is_precise_within_the_second_that_the_schedule_knows() {
        let seconds = Duration::from_millis;
        for (age, acknowledged, precise) in [
            (0, Some(99_700), 300),
            (5_000, Some(94_300), 5_700),
            (5_000, Some(94_300 + 3_600_000), 5_000),
            (5_000, Some(0), 6_000),
            (5_000, None, 5_000),
        ] {
            let found = precise_age(seconds(age), acknowledged.map(WallTime), WallTime(100_000));
            assert_eq!(found, seconds(precise), "{age} {acknowledged:?}");
        }
    }

    /// An event acknowledged at this hour of the monotonic clock.
    fn event(action: Action, hour: i64) -> Queued {
        let acknowledged = Monotonic(hour * HOUR);
        Queued {
            id: EventId(1),
            key: KeyId(1),
            source: SourceId(0),
            action,
            priority: Priority::Normal,
            reopening: false,
            continues: false,
            acknowledged,
        }
    }

    #[test]
    fn a_stale_trigger_is_marked_or_ends_and_nothing_else_is_touched() {
        let (mark, end) = (Some(Then::Mark), Some(Then::End));
        let (marked, ended) = (StaleDecision::SendMarked { age: hours(7) }, StaleDecision::End);
        for (claim, then, action, age, resolve_waits, decision) in [
            ("off", None, Action::Trigger, 7, true, StaleDecision::Send),
            ("young enough", mark, Action::Trigger, 6, true, StaleDecision::Send),
            ("young enough to end", end, Action::Trigger, 6, true, StaleDecision::Send),
            ("late", mark, Action::Trigger, 7, false, marked),
            ("late, and closed since", mark, Action::Trigger, 7, true, marked),
            ("late, and still open", end, Action::Trigger, 7, false, marked),
            ("late, closed since, to end", end, Action::Trigger, 7, true, ended),
            ("a resolve, to mark", mark, Action::Resolve, 7, false, StaleDecision::Send),
            ("a resolve, to end", end, Action::Resolve, 7, true, StaleDecision::Send),
        ] {
            let settings = then.map(|then| Settings { trigger: hours(6), then });
            assert_eq!(decide(settings, &event(action, 0), hours(age), resolve_waits), decision, "{claim}");
        }
    }

    #[test]
    fn an_event_ages_by_the_clock_that_nobody_turns() {
        // It began at hour 100 of the wall clock, and has run for 50. Hours: how long after that the event was
        // acknowledged, negative where it was found in the journal; and the wall clock now.
        for (claim, acknowledged, now, age) in [
            ("it came while it runs", 40, 150, 10),
            ("it came at this moment", 50, 150, 0),
            ("it was found", -15, 150, 65),
            ("it came, and the clock was turned on", 40, 1_000, 10),
            ("it was found, and the clock was turned on", -15, 1_000, 65),
            ("it came, and the clock was turned back", 40, 3, 10),
            ("it was found, and the clock was turned back", -15, 90, 5),
            ("it was found, and the clock was turned back behind it", -15, 3, 0),
        ] {
            // The process's clock began before that.
            let start = Now { monotonic: Monotonic(7 * HOUR), wall: WallTime(100 * HOUR) };
            let now = Now { monotonic: Monotonic(57 * HOUR), wall: WallTime(now * HOUR) };
            let event = event(Action::Trigger, 7 + acknowledged);
            assert_eq!(super::age(&event, start, now), hours(age), "{claim}");
        }
    }

    #[test]
    fn the_mark_is_a_member_and_a_title_that_begins_with_it() {
        let age = Duration::from_secs(6 * 3_600 + 12 * 60 + 59);
        for (body, sent) in [
            (
                r#"{"z":1.5,"title":"Disk full","a":{"title":"inner"},"n":12345678901234567890}"#,
                r#"{"z":1.5,"title":"[6h 12m late] Disk full","a":{"title":"inner"},"n":12345678901234567890,"stale":"6h 12m"}"#,
            ),
            (r#"{"state":"CRITICAL"}"#, r#"{"state":"CRITICAL","stale":"6h 12m"}"#),
            (r#"{"title":7,"x":null}"#, r#"{"title":7,"x":null,"stale":"6h 12m"}"#),
            (r#"{"title":""}"#, r#"{"title":"[6h 12m late] ","stale":"6h 12m"}"#),
            (r#"{"stale":true,"x":1}"#, r#"{"stale":"6h 12m","x":1}"#),
            (r#"["title"]"#, r#"["title"]"#),
            ("no JSON", "no JSON"),
        ] {
            let marked = mark(&Bytes::from(body), age);
            assert_eq!(marked.body, sent, "{body}");
            assert!(marked.mark.starts_with("sent 6h 12m late, with"), "{}", marked.mark);
            assert_eq!(marked.mark.contains("`[6h 12m late] `"), sent.contains("[6h"), "{}", marked.mark);
            assert_eq!(marked.mark.contains("without a mark"), body == sent, "{}", marked.mark);
        }
    }

    #[test]
    fn an_age_is_spelled_by_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (45, "45s"),
            (60, "1m"),
            (754, "12m 34s"),
            (3_600, "1h"),
            (3_630, "1h"),
            (22_320, "6h 12m"),
            (86_399, "23h 59m"),
            (86_400, "1d"),
            (90_059, "1d 1h"),
            (864_000 * 100, "1000d"),
        ] {
            assert_eq!(format_age(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }
}
