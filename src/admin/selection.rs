//! Selects the events of a list or a command, by a query or a JSON object.

use axum::extract::Query;
use axum::http::Uri;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::problem::meant;
use crate::clock::WallTime;
use crate::event::{EventId, Outcome, State};
use crate::inbound::sender_id;
use crate::journal::{Filter, LIST_MAX, Order, Texts};
use crate::yaml::fields::parse_duration;

/// The words of a selection. Unknown ones are refused: a filter that is ignored would lie.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// One or several, with commas.
    state: Option<String>,
    outcome: Option<String>,
    key: Option<String>,
    source: Option<String>,
    /// The reason of an event that ended otherwise than delivered, as a list shows it; empty: those without one.
    reason: Option<String>,
    /// Received at this time or later: an RFC 3339 time, or an age such as `2h`.
    since: Option<String>,
    /// Received before this time, or longer ago than this.
    older_than: Option<String>,
    /// The id of an event: that one and those after it.
    from: Option<String>,
    /// Shadow rules would have decided otherwise. For a list only, as the texts below.
    differs: Option<bool>,
    /// A part of the incident key.
    key_contains: Option<String>,
    /// A part of the incident key, or of the title of what is sent.
    key_or_title: Option<String>,
    /// A part of what came or is sent.
    search: Option<String>,
    /// The id of the request, the relay's or the sender's own, or of its trace.
    request: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

impl Selection {
    /// For a list: newest first.
    pub(super) fn list(&self, now: WallTime) -> Result<Filter, String> {
        let after = |text: &str| {
            text.parse().map_err(|_| format!("`after` takes the `next` of the page before; it is `{text}`"))
        };
        let after = self.after.as_deref().map(after).transpose()?;
        let differs = self.differs.unwrap_or(false);
        let texts = Texts {
            key: self.key_contains.clone(),
            key_or_title: self.key_or_title.clone(),
            payload: self.search.clone(),
            request: self.request.as_ref().map(|id| sender_id(id.as_bytes())),
        };
        texts.check()?;
        if let Some(limit) = self.limit.filter(|limit| *limit > LIST_MAX) {
            return Err(format!("`limit` takes a number from 1 to {LIST_MAX}; it is `{limit}`"));
        }
        Ok(Filter { after, differs, texts, limit: self.limit.unwrap_or(LIST_DEFAULT), ..self.filter(now)? })
    }

    /// For a command: oldest first, so that the order of a key is kept. Where neither state nor outcome is said, it is
    /// about what waits for a person.
    pub(super) fn command(&self, now: WallTime, limit_max: usize) -> Result<Filter, String> {
        let of_a_list = [
            ("differs", self.differs.is_some()),
            ("key_contains", self.key_contains.is_some()),
            ("key_or_title", self.key_or_title.is_some()),
            ("search", self.search.is_some()),
            ("request", self.request.is_some()),
        ];
        if let Some((name, _)) = of_a_list.iter().find(|(_, given)| *given) {
            return Err(format!("`{name}` is of a list only: list, and command by the ids"));
        }
        let times = [&self.since, &self.older_than, &self.from];
        let words = [&self.state, &self.outcome, &self.key, &self.source, &self.reason];
        if words.iter().chain(&times).all(|word| word.is_none()) {
            return Err(
                "name at least one of `state`, `outcome`, `key`, `source`, `reason`, `since`, `older_than` and `from`: this \
                        would be about every dead letter and refused payload"
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

    /// Reads a query. A name that is none of a selection's is told with the one that was probably meant.
    pub(super) fn of_query(uri: &Uri) -> Result<Selection, String> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|rejection| rejection.body_text())?;
        Selection::of_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Reads names and values of a query.
    pub(super) fn of_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Selection, String> {
        let mut members = Map::new();
        for (name, text) in pairs {
            check_names(std::iter::once(name), &[])?;
            let wrong = |takes: &str| format!("`{name}` takes {takes}; it is `{text}`");
            let value = match name {
                "limit" => text.parse::<usize>().map(Value::from).map_err(|_| wrong("a number from 1"))?,
                "differs" => text.parse::<bool>().map(Value::from).map_err(|_| wrong("true or false"))?,
                _ => Value::from(text),
            };
            if members.insert(name.to_owned(), value).is_some() {
                return Err(format!("`{name}` is there twice"));
            }
        }
        serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())
    }

    /// Reads what a command says beside its options.
    pub(super) fn of_command(members: Map<String, Value>) -> Result<Selection, String> {
        check_names(members.keys().map(String::as_str), &OPTIONS)?;
        serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())
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
            outcome: self.outcome.as_deref().map(outcome).transpose()?,
            key: self.key.clone(),
            source: self.source.clone(),
            reason: self.reason.clone(),
            since: moment("since", self.since.as_deref(), now)?,
            before: moment("older_than", self.older_than.as_deref(), now)?,
            from: self.from.as_deref().map(event).transpose()?,
            ..Filter::default()
        })
    }
}

/// `beside`: words that may stand beside the selection, and were taken out before.
fn check_names<'n>(mut names: impl Iterator<Item = &'n str>, beside: &[&str]) -> Result<(), String> {
    let Some(unknown) = names.find(|name| !SELECTION.contains(name)) else {
        return Ok(());
    };
    let meant = meant(unknown, SELECTION.iter().chain(beside).copied());
    Err(format!("there is no `{unknown}` to choose events by{meant}; there are {}", SELECTION.join(", ")))
}

/// Where the next page of a command starts: behind the last event, and with nothing that came since the first page,
/// so that a command never meets what it made itself.
pub(super) fn cursor(last: EventId, until: EventId) -> String {
    format!("{last}-{until}")
}

fn state(text: &str) -> Result<State, String> {
    text.trim().parse().map_err(|()| match text.trim().parse::<Outcome>() {
        Ok(outcome) => format!("`{}` is an outcome: choose by `outcome={0}`", outcome.as_str()),
        Err(()) => none_of("state", text, &State::ALL.map(State::as_str)),
    })
}

fn event(text: &str) -> Result<EventId, String> {
    text.parse().map_err(|_| format!("`from` takes the id of an event; it is `{text}`"))
}

fn outcome(text: &str) -> Result<Outcome, String> {
    text.parse().map_err(|()| none_of("outcome", text, &Outcome::ALL.map(Outcome::as_str)))
}

/// That a value is none of the valid ones, with the nearest of them.
fn none_of(name: &str, found: &str, valid: &[&str]) -> String {
    format!("`{name}` takes {}; it is `{found}`{}", valid.join(", "), meant(found, valid.iter().copied()))
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
/// Members of a command's body beside its selection.
pub(crate) const OPTIONS: [&str; 2] = ["force", "dry_run"];
/// The names of the fields of [`Selection`].
pub(crate) const SELECTION: [&str; 15] = [
    "state",
    "outcome",
    "key",
    "key_contains",
    "key_or_title",
    "search",
    "request",
    "source",
    "reason",
    "since",
    "older_than",
    "from",
    "differs",
    "limit",
    "after",
];

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
    fn a_list_of_more_than_a_page_holds_is_refused_and_not_cut() {
        assert_eq!(of(r#"{"limit": 1000}"#).list(NOW).unwrap().limit, 1_000);
        let said = of(r#"{"limit": 1001}"#).list(NOW).unwrap_err();
        assert_eq!(said, "`limit` takes a number from 1 to 1000; it is `1001`");
    }

    #[test]
    fn a_command_is_about_what_waits_for_a_person_unless_it_says_otherwise() {
        for (json, states) in [
            (r#"{"source": "s"}"#, &[State::Dead, State::Refused][..]),
            (r#"{"key": "k"}"#, &[State::Dead, State::Refused]),
            (r#"{"older_than": "1h"}"#, &[State::Dead, State::Refused]),
            (r#"{"from": "7"}"#, &[State::Dead, State::Refused]),
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
            (r#"{"state": "ded"}"#, "did you mean `dead`?"),
            (r#"{"outcome": "unmatchd"}"#, "did you mean `unmatched`?"),
            (r#"{"outcome": "good"}"#, "`outcome` takes created"),
            (r#"{"state": "dead", "after": "12"}"#, "`after` takes"),
            (r#"{"from": "here"}"#, "`from` takes the id of an event; it is `here`"),
        ] {
            let problem = of(json).command(NOW, 100).unwrap_err();
            assert!(problem.contains(said), "{json}: {problem}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_told_with_the_nearest_one() {
        for (name, meant) in [
            ("stat", Some("state")),
            ("key-contains", Some("key_contains")),
            ("olderthan", Some("older_than")),
            ("requst", Some("request")),
            ("dryrun", Some("dry_run")),
            ("q", None),
        ] {
            let of_query = Selection::of_query(&format!("/api/v1/events?limit=1&{name}=x").parse().unwrap());
            let members = serde_json::from_value(serde_json::json!({ name: "x" })).unwrap();
            for problem in [of_query.unwrap_err(), Selection::of_command(members).unwrap_err()] {
                assert!(problem.contains(&format!("no `{name}`")) && problem.contains("key_contains"), "{problem}");
                // A list has no dry run.
                let is_option = meant.is_some_and(|meant| OPTIONS.contains(&meant));
                let meant = if is_option && !problem.contains("did you mean") { None } else { meant };
                let nearest = meant.map(|meant| format!("did you mean `{meant}`?"));
                assert_eq!(problem.contains("did you mean"), nearest.is_some(), "{problem}");
                assert!(nearest.is_none_or(|nearest| problem.contains(&nearest)), "{problem}");
            }
        }
    }

    #[test]
    fn every_field_of_a_selection_has_its_name_in_the_list() {
        let members = SELECTION.map(|name| match name {
            "limit" => (name.to_owned(), 5.into()),
            "differs" => (name.to_owned(), true.into()),
            _ => (name.to_owned(), "x".into()),
        });
        assert!(Selection::of_command(members.into_iter().collect()).is_ok());
        let problem = serde_json::from_str::<Selection>(r#"{"x": 1}"#).unwrap_err().to_string();
        assert_eq!(
            SELECTION.iter().filter(|name| problem.contains(&format!("`{name}`"))).count(),
            SELECTION.len(),
            "{problem}"
        );
        assert_eq!(problem.matches('`').count(), 2 * (SELECTION.len() + 1), "{problem}");
    }

    #[test]
    fn texts_are_of_a_list_only() {
        let filter = of(r#"{"key_contains": "disk", "search": "full", "request": "a\"b"}"#).list(NOW).unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            filter.texts,
            Texts { key: text("disk"), payload: text("full"), request: text("a\\\"b"), ..Texts::default() }
        );
        for name in ["key_contains", "key_or_title", "search", "request"] {
            let problem = of(&format!(r#"{{"state": "dead", "{name}": "x"}}"#)).command(NOW, 100).unwrap_err();
            assert!(problem.contains("of a list only"), "{problem}");
        }
        assert!(of(r#"{"search": ""}"#).list(NOW).unwrap_err().contains("empty"));
    }

    #[test]
    fn a_page_starts_where_the_one_before_ended_and_meets_nothing_new() {
        let next = cursor(EventId(7), EventId(20));
        let filter =
            of(&format!(r#"{{"state": "dead", "after": "{next}", "limit": 5000}}"#)).command(NOW, 100).unwrap();
        assert_eq!((filter.after, filter.until, filter.limit), (Some(EventId(7)), Some(EventId(20)), 100));
    }
}
