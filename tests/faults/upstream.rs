//! An upstream that notes what arrived and answers as badly as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A step of a key that arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub key: String,
    pub step: usize,
}

/// What to answer a call.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// What Callgoose would.
    Done,
    Unavailable,
    /// For good, and at length.
    Rejected,
    /// Nothing came of it.
    Unmatched,
    /// Read it whole and close without an answer.
    HangUp,
    /// What Callgoose would, so much later.
    Late(Duration),
    /// Nothing, for as long as the caller waits.
    Silence,
}

type Script = dyn FnMut() -> Reply + Send;

pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Box<Script>>,
    arrivals: Mutex<Vec<Arrival>>,
    arrived: Condvar,
    gone: AtomicBool,
}

impl Upstream {
    pub fn start(script: impl FnMut() -> Reply + Send + 'static) -> Upstream {
        Upstream::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// The same on a socket that the test bound.
    pub fn start_on(listener: TcpListener, script: impl FnMut() -> Reply + Send + 'static) -> Upstream {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            arrivals: Mutex::new(Vec::new()),
            arrived: Condvar::new(),
            gone: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.gone.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        Upstream { address, shared }
    }

    /// Answers badly in every way, as the dice say: most calls succeed in the end.
    pub fn flapping(mut dice: fastrand::Rng) -> Upstream {
        Upstream::start(move || match dice.u32(..100) {
            0..15 => Reply::Unavailable,
            15..25 => Reply::HangUp,
            25..35 => Reply::Late(Duration::from_millis(30)),
            // Later than `upstream.timeout`.
            35..38 => Reply::Late(Duration::from_millis(700)),
            _ => Reply::Done,
        })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/sqibs-api/v1/process", self.address.port())
    }

    /// Answers differently from now on.
    pub fn follow(&self, script: impl FnMut() -> Reply + Send + 'static) {
        *self.shared.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
    }

    /// Takes no connection any more, and answers nothing on those that are there.
    pub fn leave(&self) {
        self.shared.gone.store(true, Ordering::Relaxed);
        // Who waits for a connection looks up.
        drop(TcpStream::connect(self.address));
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap().clone()
    }

    /// Waits until what arrived is as wanted; returns whether it came to that. Looking through all of it takes a while
    /// when there is much, and nothing can arrive meanwhile: a tenth of the time may go by with that.
    pub fn until(&self, limit: Duration, wanted: impl Fn(&[Arrival]) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut arrivals = self.shared.arrivals.lock().unwrap();
        loop {
            let looked = Instant::now();
            if wanted(&arrivals) {
                return true;
            }
            let took = looked.elapsed();
            drop(arrivals);
            std::thread::sleep(took * 9);
            arrivals = self.shared.arrivals.lock().unwrap();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // What arrived since the look is not told again, so this wait is short.
            arrivals = self.shared.arrived.wait_timeout(arrivals, left.min(LOOK_AGAIN)).unwrap().0;
        }
    }
}

impl Shared {
    /// Serves calls until the caller is gone or is hung up on.
    fn serve(&self, stream: &TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().ok()?;
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            if self.gone.load(Ordering::Relaxed) {
                return None;
            }
            let body: Value = serde_json::from_slice(&body).ok()?;
            let arrival = Arrival {
                key: body["servicepilot_event_id"].as_str()?.to_owned(),
                step: body["title"].as_str()?.strip_prefix("step ")?.parse().ok()?,
            };
            self.arrivals.lock().unwrap().push(arrival);
            self.arrived.notify_all();
            let reply = (self.script.lock().unwrap_or_else(PoisonError::into_inner))();
            match reply {
                Reply::HangUp => return None,
                Reply::Silence => {
                    let _ = reader.read(&mut [0]);
                    return None;
                }
                Reply::Late(by) => std::thread::sleep(by),
                Reply::Done | Reply::Unavailable | Reply::Rejected | Reply::Unmatched => {}
            }
            let mut stream = stream;
            stream.write_all(answer(reply, body["state"] == "OK").as_bytes()).ok()?;
        }
    }
}

fn answer(reply: Reply, resolve: bool) -> String {
    if matches!(reply, Reply::Unavailable) {
        return "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned();
    }
    if matches!(reply, Reply::Rejected) {
        let body = "no such service; ".repeat(200);
        return format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    }
    let matched = !matches!(reply, Reply::Unmatched);
    let body = json!({
        "id": "1",
        "resolved": { "duplicate": false, "resolved": matched && resolve },
        "triggered": { "duplicate": false, "created": matched && !resolve },
    })
    .to_string();
    let status = if !matched {
        "202 Accepted"
    } else if resolve {
        "200 OK"
    } else {
        "201 Created"
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
}

const LOOK_AGAIN: Duration = Duration::from_millis(50);
