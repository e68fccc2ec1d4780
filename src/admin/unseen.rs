//! Explains an empty list of events: what the filter did not look at, so that nobody takes it for "there was nothing".

use super::problem::meant;
use crate::clock::WallTime;
use crate::event::State;
use crate::journal::{Filter, Page, Scope};

/// Says in sentences what the filter did not look at, or could not.
pub(super) fn not_looked_at(filter: &Filter, page: &Page, scope: Scope, sources: &[String]) -> Vec<String> {
    let mut sentences = Vec::new();
    let asks_for = |state| filter.states.is_empty() || filter.states.contains(&state);
    let by_key = filter.key.is_some() || filter.texts.key.is_some() || filter.texts.key_or_title.is_some();
    if let Some(searched) = &page.searched {
        if searched.stopped {
            let back_to = searched.back_to.as_deref().unwrap_or("-");
            let next = page.next.as_deref().unwrap_or("-");
            sentences.push(format!(
                "the search stopped after {} events, at what came at {back_to}: `after={next}` goes on from there",
                searched.looked_at
            ));
        }
        if searched.without_payload > 0 {
            sentences.push(format!("the payloads of {} events are not kept any more", searched.without_payload));
        }
    }
    if let Some(source) = filter.source.as_ref().filter(|source| !sources.contains(source)) {
        let meant = meant(source, sources.iter().map(String::as_str));
        sentences.push(format!("no source `{source}` is configured{meant}: only what an earlier one left is kept"));
    }
    if by_key && scope.refused && asks_for(State::Refused) {
        sentences.push(
            "refused payloads are kept and have no incident key: `search` looks into them, `state=refused` lists them"
                .to_owned(),
        );
    }
    if filter.outcome.is_some() && !asks_for(State::Delivered) {
        sentences.push("only delivered events have an outcome".to_owned());
    }
    if filter.texts.payload.is_some() {
        sentences.push("of what came in a batch only what is sent, and refused elements, are searched".to_owned());
    }
    if asks_for(State::Delivered) || asks_for(State::Ended) {
        sentences.push(match scope.oldest.map(WallTime::rfc3339) {
            Some(oldest) => format!(
                "delivered and ended events are kept for `journal.keep_delivered`, less where room is short: the oldest event \
                 that is kept came at {oldest}"
            ),
            None => "no event is kept".to_owned(),
        });
    }
    sentences.push("duplicates and ignored payloads are counted and not kept: they are no events".to_owned());
    sentences.push(
        "requests that were refused otherwise (401, 404, 413 and others) leave no event: `gander_requests_refused_total` \
         counts them; if none came, see the sender's own log, its URL and the firewall"
            .to_owned(),
    );
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Outcome;
    use crate::journal::{Searched, Texts};

    #[test]
    fn each_thing_that_was_not_looked_at_is_said_where_it_matters() {
        let sources = ["servicepilot".to_owned()];
        let scope = Scope { oldest: Some(WallTime(1_764_000_000_000)), refused: true };
        let searched =
            Searched { looked_at: 7, by_index: 0, without_payload: 2, back_to: Some("t".into()), stopped: true };
        let text = |text: &str| Some(text.to_owned());
        let any = Filter::default();
        let dead = Filter { states: vec![State::Dead], ..Filter::default() };
        for (filter, searched, scope, said) in [
            (any.clone(), None, scope, &["keep_delivered", "duplicates"][..]),
            (any.clone(), None, Scope::default(), &["no event is kept", "duplicates"]),
            (dead.clone(), None, scope, &["duplicates"]),
            (
                Filter { key: text("k"), ..any.clone() },
                None,
                scope,
                &["no incident key", "2025-11-24T16:00", "duplicates"],
            ),
            (
                Filter { key: text("k"), ..any },
                None,
                Scope { refused: false, ..scope },
                &["keep_delivered", "duplicates"],
            ),
            (Filter { key: text("k"), ..dead.clone() }, None, scope, &["duplicates"]),
            (
                Filter { source: text("servicepilott"), ..dead.clone() },
                None,
                scope,
                &["did you mean `servicepilot`?", "duplicates"],
            ),
            (
                Filter { outcome: Some(Outcome::Created), ..dead.clone() },
                None,
                scope,
                &["only delivered", "duplicates"],
            ),
            (
                Filter { texts: Texts { payload: text("x"), ..Texts::default() }, ..dead },
                Some(searched),
                scope,
                &["stopped after 7 events, at what came at t: `after=9`", "of 2 events", "in a batch", "duplicates"],
            ),
        ] {
            let page = Page { events: Vec::new(), next: text("9"), searched };
            let sentences = not_looked_at(&filter, &page, scope, &sources);
            let said: Vec<&str> = said.iter().copied().chain(["leave no event"]).collect();
            assert_eq!(sentences.len(), said.len(), "{filter:?}: {sentences:?}");
            for (sentence, said) in sentences.iter().zip(said) {
                assert!(sentence.contains(said), "{filter:?}: {sentence}");
            }
        }
    }
}
