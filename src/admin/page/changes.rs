//! Tells a page that something changed, at most once a second: it then asks for its view again.
//!
//! The journal's change feed wakes it, so that a page costs next to nothing while nothing happens. The feed does not tell
//! of what is only counted: that is looked at once a second.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Extract;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::admin::problem::{Reply, problem};
use crate::admin::readiness::{Readiness, readiness};
use crate::admin::stream::Pieces;
use crate::admin::{State, View};

/// The state of the relay as far as a page shows it and no commit tells of it: where it differs, something changed.
#[derive(PartialEq)]
struct Seen {
    ignored: u64,
    refused: u64,
    readiness: Readiness,
}

impl Seen {
    fn of(view: &View) -> Seen {
        let total = view.recorder.activity().total();
        Seen { ignored: total.ignored, refused: total.refused, readiness: readiness(view) }
    }
}

/// `GET /changes`: server-sent events without content, until the reader goes or the relay stops.
pub(super) async fn changes(Extract(state): Extract<State>) -> Reply {
    let Ok(place) = state.followers.clone().try_acquire_owned() else {
        return Err(problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many pages are open: this one is not kept up to date",
        ));
    };
    let (pieces, received) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            () = state.shutdown.begun() => {}
            () = tell(&state.view, &pieces) => {}
        }
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::new(Pieces(received))).into_response())
}

/// Tells of changes until the reader is gone, or nothing changes any more.
async fn tell(view: &View, pieces: &mpsc::Sender<Bytes>) {
    let mut commits = view.recorder.commits();
    let mut seen = Seen::of(view);
    let mut piece = COMMENT;
    loop {
        if !matches!(timeout(READ_MAX, pieces.send(Bytes::from_static(piece))).await, Ok(Ok(()))) {
            return;
        }
        let sent = Instant::now();
        if piece == CHANGED {
            tokio::select! {
                () = pieces.closed() => return,
                () = sleep(TURN) => {}
            }
        }
        piece = loop {
            let committed = tokio::select! {
                () = pieces.closed() => return,
                committed = commits.changed() => committed.is_ok(),
                () = sleep(LOOK) => false,
            };
            if view.recorder.is_closed() {
                return;
            }
            let now = Seen::of(view);
            let differs = now != seen;
            seen = now;
            if committed || differs {
                break CHANGED;
            }
            // A reader that has gone is noticed by what can't be written.
            if sent.elapsed() >= SILENCE_MAX {
                break COMMENT;
            }
        };
    }
}

const CHANGED: &[u8] = b"data: changed\n\n";
const COMMENT: &[u8] = b": nothing new\n\n";
/// Between two words that something changed.
const TURN: Duration = Duration::from_secs(1);
/// Between two looks at what is only counted.
const LOOK: Duration = Duration::from_secs(1);
/// Shorter than proxies usually let a connection be silent.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const READ_MAX: Duration = Duration::from_secs(30);
/// One for each browser.
pub(in crate::admin) const FOLLOWERS_MAX: usize = 32;
