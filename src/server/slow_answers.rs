//! Slows the answers to failed attempts to authenticate, for every service of the server alike.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::CONNECTION;
use http::{HeaderValue, Response, Version};

use super::attempt_log::AttemptLog;
use super::deadlines::{Deadlines, InFlight};
use super::failed_attempts::{FailedAttempts, Pace};
use super::service::{AnswerBody, FailedAttempt};
use super::shares::Holder;
use crate::clock::Clock;
use crate::shutdown::Shutdown;

/// The failed attempts at one listener.
pub(super) struct SlowAnswers {
    attempts: Mutex<FailedAttempts>,
    log: Arc<AttemptLog>,
    clock: Clock,
    shutdown: Shutdown,
}

/// One delayed answer. A peer that does not wait for it loses its connection, unless others come on it: waiting is what
/// an attempt costs.
struct Waiting<'a> {
    answers: &'a SlowAnswers,
    holder: Holder,
    deadlines: &'a Deadlines,
    waited: bool,
}

impl SlowAnswers {
    pub(super) fn new(log: Arc<AttemptLog>, shutdown: Shutdown) -> SlowAnswers {
        SlowAnswers { attempts: Mutex::default(), log, clock: Clock::start(), shutdown }
    }

    /// Holds an answer back where it tells `address` once more that its credential is wrong.
    pub(super) async fn pace(
        &self,
        mut response: Response<AnswerBody>,
        address: IpAddr,
        version: Version,
        in_flight: &InFlight,
    ) -> Response<AnswerBody> {
        if response.extensions().get::<FailedAttempt>().is_none() {
            return response;
        }
        let deadlines = &in_flight.deadlines;
        if in_flight.is_after_last {
            self.log.failed(address, Pace::Last);
            deadlines.defy();
            return response;
        }
        let holder = Holder::of(address);
        let pace = match self.attempts().fail(holder, self.clock.now().monotonic) {
            // To end it would cost others who come on it, and nothing the one who guesses.
            Pace::Last if deadlines.is_of_many() => Pace::AtOnce,
            pace => pace,
        };
        self.log.failed(address, pace);
        match pace {
            Pace::AtOnce => {}
            Pace::Delayed(delay) => {
                let _delay = deadlines.delay();
                let mut waiting = Waiting { answers: self, holder, deadlines, waited: false };
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = self.shutdown.begun() => {}
                }
                waiting.waited = true;
            }
            Pace::Last => {
                deadlines.last();
                // In HTTP/2 a frame says so.
                if version != Version::HTTP_2 {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
            }
        }
        response
    }

    fn attempts(&self) -> MutexGuard<'_, FailedAttempts> {
        // Counts that a panic left half done are wrong by one at most.
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.answers.attempts().answered(self.holder);
        if !self.waited {
            self.deadlines.last();
        }
    }
}
