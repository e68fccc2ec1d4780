//! Which events a list or a command is about, as a query or a JSON object says it.

use serde::Deserialize;

use crate::document::fields::parse_duration;
use crate::event::{EventId, Outcome, State};
use crate::journal::{Filter, Order};
use crate::time::WallTime;

/// The words of a selection. Unknown ones are refused: a filter that is ignored would lie.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// One or several, with commas.
    state: Option<String>,
    outcome: Option<String>,
    key: Option<String>,
    source: Option<String>,
    /// Received at this time or later: an RFC 3339 time, or an age such as `2h`.
    since: Option<String>,
    /// Received before this time, or longer ago than this.
    older_than: Option<String>,
    /// Of which rules in the shadow of others would have decided otherwise. Of a list only.
    differs: Option<bool>,
    limit: Option<usize>,
    after: Option<String>,
}

impl Selection {
    /// For a list: newest first.
    pub(super) fn list(&self, now: WallTime) -> Result<Filter, String> {
        let after = word("after", self.after.as_deref(), "the `next` of the page before")?;
        let differs = self.differs.unwrap_or(false);
        Ok(Filter { after, differs, limit: self.limit.unwrap_or(LIST_DEFAULT), ..self.filter(now)? })
    }

    /// For a command: oldest first, so that the order of a key is kept. Where neither state nor outcome is said, it is
    /// about what waits for a person.
    pub(super) fn command(&self, now: WallTime, limit_max: usize) -> Result<Filter, String> {
        if self.differs.is_some() {
            return Err("`differs` is of a list only".to_owned());
        }
        let words = [&self.state, &self.outcome, &self.key, &self.source, &self.since, &self.older_than];
        if words.iter().all(|word| word.is_none()) {
            return Err(
                "name at least one of `state`, `outcome`, `key`, `source`, `since` and `older_than`: this would \
                        be about every dead letter and refused payload"
                    .to_owned(),
            );
        }
        let mut filter = self.filter(now)?;
        if self.state.is_none() && self.outcome.is_none() {
            filter.states = vec![State::Dead, State::Refused];
        }
        if let Some(cursor) = &self.after {
            let Some((after, until)) =
                cursor.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
            else {
                return Err(format!("`after` takes the `next` of the page before; it is `{cursor}`"));
            };
            (filter.after, filter.until) = (Some(after), Some(until));
        }
        filter.order = Order::OldestFirst;
        filter.limit = self.limit.unwrap_or(limit_max).clamp(1, limit_max);
        Ok(filter)
    }

    fn filter(&self, now: WallTime) -> Result<Filter, String> {
        if self.limit == Some(0) {
            return Err("`limit` takes a number from 1; it is `0`".to_owned());
        }
        let states = match &self.state {
            None => Vec::new(),
            Some(words) => words.split(',').map(state).collect::<Result<_, _>>()?,
        };
        Ok(Filter {
            states,
            outcome: word("outcome", self.outcome.as_deref(), &Outcome::ALL.map(Outcome::as_str).join(", "))?,
            key: self.key.clone(),
            source: self.source.clone(),
            since: moment("since", self.since.as_deref(), now)?,
            before: moment("older_than", self.older_than.as_deref(), now)?,
            ..Filter::default()
        })
    }
}

/// Where the next page of a command starts: behind the last event, and with nothing that came since the first page,
/// so that a command never meets what it made itself.
pub(super) fn cursor(last: EventId, until: EventId) -> String {
    format!("{last}-{until}")
}

fn state(word: &str) -> Result<State, String> {
    let valid = State::ALL.map(State::as_str).join(", ");
    word.trim().parse().map_err(|()| format!("`state` takes {valid}; it is `{word}`"))
}

fn word<T: std::str::FromStr>(name: &str, value: Option<&str>, valid: &str) -> Result<Option<T>, String> {
    let parse = |text: &str| text.parse().map_err(|_| format!("`{name}` takes {valid}; it is `{text}`"));
    value.map(parse).transpose()
}

fn moment(name: &str, value: Option<&str>, now: WallTime) -> Result<Option<WallTime>, String> {
    let Some(text) = value else {
        return Ok(None);
    };
    if let Some(at) = WallTime::parse_rfc3339(text) {
        return Ok(Some(at));
    }
    match parse_duration(text) {
        Some(age) => Ok(Some(WallTime(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))))),
        None => Err(format!("`{name}` takes an age such as 90s, 2h or 7d, or an RFC 3339 time; it is `{text}`")),
    }
}

const LIST_DEFAULT: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_764_000_000_000);

    fn of(json: &str) -> Selection {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn ages_and_times_are_bounds_of_what_was_received() {
        let filter = of(r#"{"since": "2h", "older_than": "2025-11-24T16:00:00Z"}"#).list(NOW).unwrap();
        assert_eq!(filter.since, Some(WallTime(NOW.0 - 7_200_000)));
        assert_eq!(filter.before, Some(WallTime(1_764_000_000_000)));
        for wrong in [r#"{"since": "yesterday"}"#, r#"{"older_than": "-1h"}"#, r#"{"older_than": "1"}"#] {
            assert!(of(wrong).list(NOW).unwrap_err().contains("an age such as"), "{wrong}");
        }
    }

    #[test]
    fn a_command_is_about_what_waits_for_a_person_unless_it_says_otherwise() {
        for (json, states) in [
            (r#"{"source": "s"}"#, &[State::Dead, State::Refused][..]),
            (r#"{"key": "k"}"#, &[State::Dead, State::Refused]),
            (r#"{"older_than": "1h"}"#, &[State::Dead, State::Refused]),
            (r#"{"state": "dead"}"#, &[State::Dead]),
            (r#"{"state": "ended, refused"}"#, &[State::Ended, State::Refused]),
            (r#"{"outcome": "unmatched"}"#, &[]),
        ] {
            let filter = of(json).command(NOW, 100).unwrap();
            assert_eq!((filter.states.as_slice(), filter.order), (states, Order::OldestFirst), "{json}");
        }
        for (json, said) in [
            ("{}", "at least one of"),
            (r#"{"limit": 5}"#, "at least one of"),
            (r#"{"state": "ded"}"#, "`state` takes queued"),
            (r#"{"outcome": "good"}"#, "`outcome` takes created"),
            (r#"{"state": "dead", "after": "12"}"#, "`after` takes"),
        ] {
            let problem = of(json).command(NOW, 100).unwrap_err();
            assert!(problem.contains(said), "{json}: {problem}");
        }
        assert!(serde_json::from_str::<Selection>(r#"{"stat": "dead"}"#).is_err());
    }

    #[test]
    fn a_page_starts_where_the_one_before_ended_and_meets_nothing_new() {
        let next = cursor(EventId(7), EventId(20));
        let filter =
            of(&format!(r#"{{"state": "dead", "after": "{next}", "limit": 5000}}"#)).command(NOW, 100).unwrap();
        assert_eq!((filter.after, filter.until, filter.limit), (Some(EventId(7)), Some(EventId(20)), 100));
    }
}
