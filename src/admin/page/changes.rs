//! Tells a page that something changed, at most once a second: it then asks for its view again.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Extract;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::admin::problem::{Reply, problem};
use crate::admin::readiness::{Readiness, readiness};
use crate::admin::stream::Pieces;
use crate::admin::{State, View};

/// The state of the relay as far as a page shows it: where it differs, something changed.
#[derive(PartialEq)]
struct Seen {
    /// Commits of the journal: whatever becomes of events is committed.
    commits: u64,
    /// What is only counted.
    ignored: u64,
    refused: u64,
    readiness: Readiness,
}

impl Seen {
    fn of(view: &View) -> Seen {
        let total = view.recorder.activity().total();
        Seen {
            commits: view.metrics.commits(),
            ignored: total.ignored,
            refused: total.refused,
            readiness: readiness(view),
        }
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

async fn tell(view: &View, pieces: &mpsc::Sender<Bytes>) {
    let mut seen = Seen::of(view);
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0_u32.. {
        tokio::select! {
            () = pieces.closed() => return,
            _ = turns.tick() => {}
        }
        let now = Seen::of(view);
        let piece = match (now != seen, turn % COMMENT_EVERY) {
            (true, _) => "data: changed\n\n",
            // A reader that has gone is noticed by what can't be written.
            (false, 0) => ": nothing new\n\n",
            (false, _) => continue,
        };
        seen = now;
        if !matches!(timeout(READ_MAX, pieces.send(Bytes::from_static(piece.as_bytes()))).await, Ok(Ok(()))) {
            return;
        }
    }
}

const TURN: Duration = Duration::from_secs(1);
const COMMENT_EVERY: u32 = 5;
const READ_MAX: Duration = Duration::from_secs(30);
/// One for each browser.
pub(in crate::admin) const FOLLOWERS_MAX: usize = 32;
