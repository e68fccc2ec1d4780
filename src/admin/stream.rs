//! `GET /api/v1/stream`: what becomes of requests and events, as it happens, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State as Extract};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::IntoResponse;
use bytes::Bytes;
use http_body::Frame;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::problem::{Reply, bad_request, meant, problem};
use super::{JournalView, State};
use crate::event::Outcome;
use crate::shutdown::Shutdown;
use crate::tap::{FOLLOWERS_MAX, Follower, STATES, TapLine, Told};

/// The lines that one who follows wants; everything that is given must hold. The words are those of a list.
#[derive(Debug, Default, Deserialize)]
struct Filter {
    /// One or several, with commas.
    state: Option<String>,
    outcome: Option<String>,
    source: Option<String>,
    key: Option<String>,
    /// A part of the incident key, in letters of either case.
    key_contains: Option<String>,
}

/// The pieces of a stream as the body of an answer. It ends when their sender is gone.
pub(super) struct Pieces(pub(super) mpsc::Receiver<Bytes>);

/// Follows until the client goes, reads nothing for too long, or the relay stops.
pub(super) async fn stream(Extract(state): Extract<State>, uri: Uri) -> Reply {
    let filter = Filter::of_query(&uri, &state.view.sources).map_err(bad_request)?;
    let Some(follower) = state.view.recorder.tap().follow() else {
        let detail = format!("{FOLLOWERS_MAX} streams are open already, and no more are served: end one of them");
        return Err(problem(StatusCode::SERVICE_UNAVAILABLE, &detail));
    };
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    let feed = Feed { follower, filter, journal: state.view.journal.clone(), pieces };
    // It ends with the body, which the connection holds, and with the relay.
    tokio::spawn(feed.run(state.shutdown));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::new(Pieces(received))).into_response())
}

/// One stream while it is open.
struct Feed {
    follower: Follower,
    filter: Filter,
    /// Tells the keys that those who end an event do not know.
    journal: JournalView,
    pieces: mpsc::Sender<Bytes>,
}

impl Feed {
    async fn run(mut self, shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.begun() => {}
            () = self.feed() => {}
        }
    }

    async fn feed(&mut self) {
        // At once, so that who follows knows that nothing is missed from now on.
        let mut next = Some(Bytes::from_static(b": following\n\n"));
        let mut silent_until = Instant::now();
        loop {
            if let Some(piece) = next.take() {
                if !matches!(timeout(READ_MAX, self.pieces.send(piece)).await, Ok(Ok(()))) {
                    return;
                }
                silent_until = Instant::now() + KEEP_ALIVE;
            }
            next = tokio::select! {
                () = self.pieces.closed() => return,
                told = self.follower.next() => match told {
                    Some(Told::Line(line)) => self.piece(line).await,
                    Some(Told::Missed(missed)) => Some(event(Some("missed"), &json!({ "missed": missed }).to_string())),
                    None => return,
                },
                () = sleep_until(silent_until) => Some(Bytes::from_static(b": still here\n\n")),
            };
        }
    }

    /// The line as it is sent; none if it is not wanted.
    async fn piece(&self, line: Arc<TapLine>) -> Option<Bytes> {
        if !self.filter.admits_but_for_key(&line) {
            return None;
        }
        let line = self.with_key(line).await;
        let text = self.filter.admits_key(&line).then(|| serde_json::to_string(&*line))?;
        Some(event(None, &text.unwrap_or_default()))
    }

    /// The line with the key of its event, from the journal where the line does not have it.
    async fn with_key(&self, line: Arc<TapLine>) -> Arc<TapLine> {
        // What was refused has none.
        let is_keyed = line.state != "refused" && line.incident_key.is_none();
        let Some(id) = line.id.filter(|_| is_keyed) else {
            return line;
        };
        let summary = self.journal.read(move |reader| reader.summaries(&[id])).await;
        let known = summary.ok().and_then(|mut summaries| summaries.pop()?.incident_key);
        match known {
            Some(key) => Arc::new(TapLine { incident_key: Some(key.into()), ..(*line).clone() }),
            None => line,
        }
    }
}

impl Filter {
    /// Reads a query. A name or word that there is not is told with the one that was probably meant.
    fn of_query(uri: &Uri, sources: &[String]) -> Result<Filter, String> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|rejection| rejection.body_text())?;
        if let Some((unknown, _)) = pairs.iter().find(|(name, _)| !NAMES.contains(&name.as_str())) {
            let meant = meant(unknown, NAMES);
            return Err(format!("there is no `{unknown}` to choose lines by{meant}; there are {}", NAMES.join(", ")));
        }
        let Query(filter) = Query::<Filter>::try_from_uri(uri).map_err(|rejection| rejection.body_text())?;
        if let Some(unknown) = filter.states().find(|word| !STATES.contains(word)) {
            let meant = meant(unknown, STATES);
            return Err(format!("`state` takes {}; it is `{unknown}`{meant}", STATES.join(", ")));
        }
        if let Some(unknown) = filter.source.as_ref().filter(|name| !sources.contains(name)) {
            let meant = meant(unknown, sources.iter().map(String::as_str));
            return Err(format!("there is no source `{unknown}`{meant}; there are {}", sources.join(", ")));
        }
        let outcomes = Outcome::ALL.map(Outcome::as_str);
        if let Some(unknown) = filter.outcome.as_deref().filter(|word| !outcomes.contains(word)) {
            let meant = meant(unknown, outcomes);
            return Err(format!("`outcome` takes {}; it is `{unknown}`{meant}", outcomes.join(", ")));
        }
        Ok(filter)
    }

    fn states(&self) -> impl Iterator<Item = &str> {
        self.state.iter().flat_map(|states| states.split(',')).map(str::trim)
    }

    fn admits_but_for_key(&self, line: &TapLine) -> bool {
        (self.state.is_none() || self.states().any(|state| state == line.state))
            && self.source.as_deref().is_none_or(|source| line.source.as_deref() == Some(source))
            && self.outcome.as_deref().is_none_or(|outcome| line.outcome == Some(outcome))
    }

    fn admits_key(&self, line: &TapLine) -> bool {
        let key = line.incident_key.as_deref();
        self.key.as_deref().is_none_or(|wanted| key == Some(wanted))
            && self
                .key_contains
                .as_deref()
                .is_none_or(|part| key.is_some_and(|key| key.to_lowercase().contains(&part.to_lowercase())))
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A server-sent event whose data is one line of JSON.
fn event(name: Option<&str>, json: &str) -> Bytes {
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    Bytes::from(format!("{name}data: {json}\n\n"))
}

/// The names of the fields of [`Filter`].
const NAMES: [&str; 5] = ["state", "outcome", "source", "key", "key_contains"];
/// Pieces between the feed and the connection; whatever is more waits in the tap.
const PIECES_MAX: usize = 16;
/// A client that takes nothing for so long is gone, or in nobody's hands.
const READ_MAX: Duration = Duration::from_secs(30);
/// Shorter than proxies usually let a connection be silent.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
