//! The filters that `list`, `replay`, `discard` and `export` share.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value};

use crate::cli::admin_client::encode;
use crate::clock::WallTime;
use crate::event::{Outcome, State};
use crate::yaml::fields::parse_duration;

/// Which events; everything that is given must hold.
#[derive(Debug, Default, Args)]
pub(super) struct Selection {
    /// Only events in this state; several with commas
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(State::ALL.map(State::as_str)))]
    pub(super) state: Vec<String>,
    /// Only events with this outcome, by Callgoose's answer
    #[arg(long, value_parser = PossibleValuesParser::new(Outcome::ALL.map(Outcome::as_str)))]
    pub(super) outcome: Option<String>,
    /// Only events of this incident key
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Only events of this source
    #[arg(long)]
    pub(super) source: Option<String>,
    /// Only events that ended for this reason, as a list shows it
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Only events received since then: an age such as 2h, or an RFC 3339 time
    #[arg(long, value_name = "AGE", value_parser = moment)]
    pub(super) since: Option<String>,
    /// Only events received longer ago than this, or before this time
    #[arg(long, value_name = "AGE", value_parser = moment)]
    pub(super) older_than: Option<String>,
    /// Only this event and those after it
    #[arg(long, value_name = "ID")]
    pub(super) from: Option<String>,
}

/// Texts to find, of a list; letters of either case are the same.
#[derive(Debug, Default, Args)]
pub(super) struct Texts {
    /// Only events with this in their incident key
    #[arg(long, value_name = "TEXT")]
    pub(super) key_contains: Option<String>,
    /// Only events with this in their incident key or in the title of what is sent
    #[arg(long, value_name = "TEXT")]
    pub(super) key_or_title: Option<String>,
    /// Only events with this text in what came or what is sent; searches for two seconds, newest first
    #[arg(long, value_name = "TEXT")]
    pub(super) search: Option<String>,
    /// Only events of the request with this `X-Request-Id`, the relay's or the sender's own, or of this trace
    #[arg(long, value_name = "ID")]
    pub(super) request: Option<String>,
}

impl Texts {
    pub(super) fn words(&self) -> Vec<(&'static str, String)> {
        [
            ("key_contains", &self.key_contains),
            ("key_or_title", &self.key_or_title),
            ("search", &self.search),
            ("request", &self.request),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
    }
}

impl Selection {
    pub(super) fn is_empty(&self) -> bool {
        self.words().is_empty()
    }

    /// As a query, without the question mark.
    pub(super) fn query(&self, more: &[(&'static str, String)]) -> String {
        let words = self.words().into_iter().chain(more.iter().cloned());
        words.map(|(name, value)| format!("{name}={}", encode(&value))).collect::<Vec<_>>().join("&")
    }

    /// As the members of a command.
    pub(super) fn members(&self) -> Map<String, Value> {
        self.words().into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect()
    }

    fn words(&self) -> Vec<(&'static str, String)> {
        let states = (!self.state.is_empty()).then(|| self.state.join(","));
        [
            ("state", &states),
            ("outcome", &self.outcome),
            ("key", &self.key),
            ("source", &self.source),
            ("reason", &self.reason),
            ("since", &self.since),
            ("older_than", &self.older_than),
            ("from", &self.from),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
    }
}

fn moment(text: &str) -> Result<String, String> {
    if parse_duration(text).is_none() && WallTime::parse_rfc3339(text).is_none() {
        return Err("write an age such as 90s, 2h or 7d, or a time such as 2025-11-24T07:30:00Z".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_travels_encoded() {
        let selection = Selection {
            state: vec!["dead".into(), "refused".into()],
            key: Some("a/b&c=d é".into()),
            older_than: Some("1h".into()),
            ..Selection::default()
        };
        assert_eq!(
            selection.query(&[("limit", "5".into())]),
            "state=dead%2Crefused&key=a%2Fb%26c%3Dd%20%C3%A9&older%5Fthan=1h&limit=5"
                .replace("older%5Fthan", "older_than")
        );
        assert_eq!(selection.members()["state"], "dead,refused");
        assert!(Selection::default().is_empty() && !selection.is_empty());
    }

    #[test]
    fn an_age_or_a_time_is_understood() {
        for good in ["90s", "1.5h", "2025-11-24T07:30:00+01:00"] {
            assert_eq!(moment(good).as_deref(), Ok(good));
        }
        for wrong in ["", "1", "yesterday", "-1h", "2025-11-24"] {
            assert!(moment(wrong).is_err(), "{wrong:?}");
        }
    }
}
