//! The upstream by script: up, down, slow, flapping, wrong about tokens, filters and incidents.

use std::time::{Duration, UNIX_EPOCH};

use fastrand::Rng;
use gander::exports::callgoose::answer::Trouble;
use gander::exports::clock::Now;
use gander::exports::event::Action;

/// The upstream and what is true there.
#[derive(Debug)]
pub struct Upstream {
    mode: Mode,
    poison: bool,
    /// Whether each key's incident is open there.
    open: Vec<bool>,
}

/// What it does with calls for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Up,
    Slow,
    /// Refuses connections.
    Down,
    /// Answers nothing; what it was told it may have done.
    Hanging,
    /// Hangs up after reading; what it was told it may have done.
    Resetting,
    Failing,
    /// 503, mostly with `Retry-After`.
    Busy,
    Unauthorized,
    /// 404.
    Misplaced,
    /// 200 with a page.
    BlockPage,
    /// 202: no filter matches.
    Unmatched,
    /// Finds no incident to resolve.
    Forgetful,
    /// Calls everything a duplicate.
    Doubting,
    /// 200 without a body.
    Silent,
    /// Each call meets another of these.
    Flapping,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Reply {
    pub took: i64,
    pub answer: Result<Answer, Trouble>,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: &'static str,
}

/// What the script meant by it, so that the ledger need not believe the relay's own judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Taken; and whether the incident is now as the event says.
    Done {
        true_now: bool,
    },
    Later,
    Blocked,
    Rejected,
}

impl Upstream {
    pub fn new(keys: usize, poison: bool) -> Upstream {
        Upstream { mode: Mode::Up, poison, open: vec![false; keys] }
    }

    pub fn turn(&mut self, mode: Mode) {
        self.mode = mode;
    }

    pub fn is_open(&self, key: usize) -> bool {
        self.open[key]
    }

    /// One call: what it does takes effect at once, the answer comes later.
    pub fn call(&mut self, key: usize, action: Action, now: Now, rng: &mut Rng) -> Reply {
        let mut mode = self.mode;
        while mode == Mode::Flapping {
            mode = Mode::any(rng);
        }
        let took = rng.i64(1..200);
        let failed = |took, trouble| Reply { took, answer: Err(trouble), kind: Kind::Later };
        let said = |status, body, kind| Reply { took, answer: Ok(Answer { status, retry_after: None, body }), kind };
        if self.poison && key == 0 && matches!(mode, Mode::Up | Mode::Slow) {
            return said(422, "{}", Kind::Rejected);
        }
        match mode {
            Mode::Up | Mode::Flapping => Reply { took, ..self.process(key, action) },
            Mode::Slow => Reply { took: rng.i64(1_000..9_000), ..self.process(key, action) },
            Mode::Down => failed(took, Trouble::Connect),
            Mode::Hanging => {
                self.perhaps(key, action, rng);
                failed(10_000, Trouble::Timeout)
            }
            Mode::Resetting => {
                self.perhaps(key, action, rng);
                failed(took, Trouble::Reset)
            }
            Mode::Failing => said(500, "{}", Kind::Later),
            Mode::Busy => {
                let after = rng.u64(0..20);
                let date = Duration::from_millis(u64::try_from(now.wall.0).unwrap()) + Duration::from_secs(after);
                let retry_after = match rng.u32(0..3) {
                    0 => None,
                    1 => Some(after.to_string()),
                    _ => Some(httpdate::fmt_http_date(UNIX_EPOCH + date)),
                };
                Reply { took, answer: Ok(Answer { status: 503, retry_after, body: "" }), kind: Kind::Later }
            }
            Mode::Unauthorized => said(401, "{}", Kind::Blocked),
            Mode::Misplaced => said(404, "nothing here", Kind::Blocked),
            Mode::BlockPage => said(200, "<html>log in</html>", Kind::Later),
            Mode::Unmatched => said(202, NOTHING, Kind::Done { true_now: false }),
            Mode::Forgetful if action == Action::Resolve => said(200, NOTHING, Kind::Done { true_now: false }),
            Mode::Forgetful => Reply { took, ..self.process(key, action) },
            Mode::Doubting => said(200, TWICE, Kind::Done { true_now: false }),
            Mode::Silent => said(200, "", Kind::Done { true_now: false }),
        }
    }

    fn perhaps(&mut self, key: usize, action: Action, rng: &mut Rng) {
        if rng.bool() {
            self.process(key, action);
        }
    }

    fn process(&mut self, key: usize, action: Action) -> Reply {
        let before = std::mem::replace(&mut self.open[key], action == Action::Trigger);
        let (status, body) = match (action, before) {
            (Action::Trigger, false) => (201, CREATED),
            (Action::Trigger, true) => (200, TWICE),
            (Action::Resolve, true) => (200, RESOLVED),
            (Action::Resolve, false) => (200, NOTHING),
        };
        Reply { took: 0, answer: Ok(Answer { status, retry_after: None, body }), kind: Kind::Done { true_now: true } }
    }
}

impl Mode {
    pub fn any(rng: &mut Rng) -> Mode {
        MODES[rng.usize(0..MODES.len())]
    }
}

/// Up more often than anything else, so that something is done between the troubles.
const MODES: [Mode; 19] = [
    Mode::Up,
    Mode::Up,
    Mode::Up,
    Mode::Up,
    Mode::Slow,
    Mode::Down,
    Mode::Down,
    Mode::Hanging,
    Mode::Resetting,
    Mode::Failing,
    Mode::Busy,
    Mode::Unauthorized,
    Mode::Misplaced,
    Mode::BlockPage,
    Mode::Unmatched,
    Mode::Forgetful,
    Mode::Doubting,
    Mode::Silent,
    Mode::Flapping,
];

const CREATED: &str =
    r#"{"resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":true}}"#;
const RESOLVED: &str =
    r#"{"resolved":{"duplicate":false,"resolved":true},"triggered":{"duplicate":false,"created":false}}"#;
const NOTHING: &str =
    r#"{"resolved":{"duplicate":false,"resolved":false},"triggered":{"duplicate":false,"created":false}}"#;
const TWICE: &str =
    r#"{"resolved":{"duplicate":true,"resolved":false},"triggered":{"duplicate":true,"created":false}}"#;
