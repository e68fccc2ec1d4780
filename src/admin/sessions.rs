//! Sessions of browsers: who showed the admin token gets a cookie that stands for it, for a while.
//!
//! A browser sends the cookie with requests of this page only (`SameSite=Strict`), no script sees it (`HttpOnly`), and it
//! ends with the token: a token that was changed opens nothing that was opened with the one before.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{digest, rand};
use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

use crate::clock::Monotonic;
use crate::logging::LogThrottle;
use crate::secret::Secret;

/// The sessions that are open.
pub(super) struct Sessions {
    /// Its own for each process: browsers send cookies of one host to every port of it.
    cookie: String,
    open: Mutex<HashMap<[u8; 32], Session>>,
    started: Instant,
    refusals: LogThrottle,
}

#[derive(Debug)]
struct Session {
    until: Instant,
    /// The SHA-256 of the token that was shown.
    token: [u8; 32],
}

impl Sessions {
    /// None is open, and none can be opened while the system gives no random bytes.
    pub(super) fn new() -> Sessions {
        Sessions {
            cookie: format!("gander-{}", random::<4>().unwrap_or_default()),
            open: Mutex::default(),
            started: Instant::now(),
            refusals: LogThrottle::default(),
        }
    }

    /// Permits a line of the log on a wrong token, and tells how many were suppressed before it: anybody may cause them.
    pub(super) fn permit_line(&self, now: Instant) -> Option<u64> {
        let millis = now.saturating_duration_since(self.started).as_millis();
        self.refusals.permit(Monotonic(i64::try_from(millis).unwrap_or(i64::MAX)))
    }

    /// Opens a session for `token`, and closes the oldest where there are too many. Returns the cookie's value.
    pub(super) fn open(&self, token: &Secret, now: Instant) -> Option<String> {
        let value = random::<32>()?;
        let mut open = self.lock();
        open.retain(|_, session| session.until > now);
        if open.len() >= SESSIONS_MAX
            && let Some(oldest) = open.iter().min_by_key(|(_, session)| session.until).map(|(hash, _)| *hash)
        {
            open.remove(&oldest);
        }
        open.insert(hash(value.as_bytes()), Session { until: now + SESSION_MAX, token: token.sha256() });
        Some(value)
    }

    /// A request carries the cookie of a session that is open, and was opened with this token.
    pub(super) fn admits(&self, headers: &HeaderMap, token: &Secret, now: Instant) -> bool {
        let Some(value) = self.value(headers) else { return false };
        let open = self.lock();
        // Looked up by its hash, so that no time tells how much of it is right.
        open.get(&hash(value.as_bytes())).is_some_and(|session| session.until > now && session.token == token.sha256())
    }

    pub(super) fn close(&self, headers: &HeaderMap) {
        if let Some(value) = self.value(headers) {
            self.lock().remove(&hash(value.as_bytes()));
        }
    }

    fn value<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie).map(|(_, value)| value)
    }

    pub(super) fn set_cookie(&self, value: &str, age: Duration, is_tls: bool) -> Option<HeaderValue> {
        let secure = if is_tls { "; Secure" } else { "" };
        // Without `Path`, so that it is for the path below which a proxy shows this page.
        let text = format!("{}={value}; HttpOnly; SameSite=Strict; Max-Age={}{secure}", self.cookie, age.as_secs());
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", self.lock().len())
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Random bytes in hexadecimal.
fn random<const N: usize>() -> Option<String> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    Some(hex::encode(bytes))
}

/// A working day.
pub(super) const SESSION_MAX: Duration = Duration::from_secs(12 * 3600);
const SESSIONS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(sessions: &Sessions, value: &str) -> HeaderMap {
        let text = format!("other=1; {}={value}", sessions.cookie);
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&text).unwrap())])
    }

    #[test]
    fn a_session_is_open_for_twelve_hours_until_it_is_closed_or_the_token_changes() {
        let (sessions, now) = (Sessions::new(), Instant::now());
        let token = Secret::new("one".into());
        let value = sessions.open(&token, now).unwrap();
        let headers = cookie(&sessions, &value);
        assert!(sessions.admits(&headers, &token, now + SESSION_MAX - Duration::from_secs(1)));
        assert!(!sessions.admits(&headers, &token, now + SESSION_MAX));
        assert!(!sessions.admits(&HeaderMap::new(), &token, now));
        assert!(!sessions.admits(&cookie(&sessions, &"0".repeat(64)), &token, now));
        let other = Sessions::new();
        assert!(!other.admits(&headers, &token, now), "another process's");
        token.replace("two".into());
        assert!(!sessions.admits(&headers, &token, now), "the token was changed");
        token.replace("one".into());
        sessions.close(&headers);
        assert!(!sessions.admits(&headers, &token, now), "signed out");
    }

    #[test]
    fn a_flood_of_wrong_tokens_is_a_few_lines_a_second() {
        let sessions = Sessions::new();
        let now = sessions.started + Duration::from_secs(5);
        let lines = (0..1_000).filter(|_| sessions.permit_line(now).is_some()).count();
        assert!((1..100).contains(&lines), "{lines}");
        assert!(sessions.permit_line(now + Duration::from_secs(1)).is_some_and(|suppressed| suppressed > 900));
    }

    #[test]
    fn sessions_are_few_and_the_oldest_gives_way() {
        let (sessions, now) = (Sessions::new(), Instant::now());
        let token = Secret::new("one".into());
        let open = |second| sessions.open(&token, now + Duration::from_secs(second)).unwrap();
        let (first, second) = (open(0), open(1));
        (2..=SESSIONS_MAX as u64).for_each(|second| drop(open(second)));
        let now = now + Duration::from_secs(1_000);
        assert!(!sessions.admits(&cookie(&sessions, &first), &token, now));
        assert!(sessions.admits(&cookie(&sessions, &second), &token, now));
        assert_eq!(sessions.lock().len(), SESSIONS_MAX);
    }
}
