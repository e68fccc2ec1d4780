//! The search of one target: change, run, keep what is new, until the time is up.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs::File;
use std::io::{Seek, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::mutate;
use crate::targets::Target;

/// Runs changed inputs until the time is up; panics with the smallest input of the first that fails.
pub fn search(target: &Target) {
    let seconds = setting("GANDER_FUZZ_SECONDS", 1);
    let seed = setting("GANDER_SEED", fastrand::u64(..));
    eprintln!("{}: GANDER_SEED={seed} GANDER_FUZZ_SECONDS={seconds}", target.name);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pool = (target.corpus)();
    let mut known = HashSet::new();
    let mut under_way = UnderWay::new(target.name.to_owned());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0_u64;
    for input in pool.clone() {
        known.insert(judged(target, input, &mut under_way, seed));
    }
    while Instant::now() < end {
        let input = mutate::changed(&mut random, &pool, target.words);
        runs += 1;
        let said = judged(target, input.clone(), &mut under_way, seed);
        if known.insert(said) {
            if pool.len() < POOL_MAX {
                pool.push(input);
            } else {
                let place = random.usize(0..pool.len());
                pool[place] = input;
            }
        }
    }
    eprintln!("{}: {runs} runs, {} kinds of outcome", target.name, known.len());
    assert!(known.len() > 1, "the search never saw anything new: it does not reach the parser");
}

/// Runs one input; panics if it fails or takes too long.
pub fn run(target: &Target, input: Vec<u8>) {
    judged(target, input, &mut UnderWay::new(format!("{}-alone", target.name)), 0);
}

/// What is said of an input, without what only this input says.
fn judged(target: &Target, input: Vec<u8>, under_way: &mut UnderWay, seed: u64) -> String {
    match outcome(target, &input, under_way) {
        Ok(said) => kind_of(&said),
        Err(first) => {
            let smallest = mutate::smallest(input, |input| outcome(target, input, under_way).is_err());
            let problem = outcome(target, &smallest, under_way).err().unwrap_or(first);
            panic!(
                "{}: {problem}\n  the smallest input: b\"{}\"\n  found with GANDER_SEED={seed}",
                target.name,
                smallest.escape_ascii()
            );
        }
    }
}

/// One run: what is said of the input, or that it panicked or took too long.
fn outcome(target: &Target, input: &[u8], under_way: &mut UnderWay) -> Result<String, String> {
    under_way.begins(input);
    silence_panics();
    let started = cpu_time();
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    QUIET.set(false);
    let took = cpu_time().saturating_sub(started);
    under_way.ends();
    match result {
        Err(_) => Err(format!("it panicked: {}", PANIC.take())),
        Ok(_) if took > RUN_MAX => Err(format!("it took {:.1} s", took.as_secs_f64())),
        Ok(said) => Ok(said),
    }
}

/// The time that this thread worked: what else the machine does is not the input's.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The shape of a sentence: numbers and what is quoted in it differ from input to input.
fn kind_of(said: &str) -> String {
    let mut quoted = false;
    said.chars()
        .filter(|c| {
            quoted ^= *c == '`';
            !quoted && !c.is_ascii_digit()
        })
        .take(KIND_CHARACTERS_MAX)
        .collect()
}

/// The input that is being run: on disk, for whoever looks after the process was ended, and watched, so that one that
/// never ends is named.
struct UnderWay {
    file: File,
    watched: mpsc::Sender<Option<Vec<u8>>>,
}

impl UnderWay {
    fn new(name: String) -> UnderWay {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}.input"));
        let file = File::create(path).unwrap();
        let (watched, received) = mpsc::channel::<Option<Vec<u8>>>();
        thread::spawn(move || {
            let mut running: Option<Vec<u8>> = None;
            loop {
                let wait = if running.is_some() { HANG } else { Duration::MAX };
                match received.recv_timeout(wait) {
                    Ok(input) => running = input,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        let input = running.take().unwrap_or_default();
                        eprintln!("{name}: this runs longer than {HANG:?}: b\"{}\"", input.escape_ascii());
                        std::process::abort();
                    }
                }
            }
        });
        UnderWay { file, watched }
    }

    fn begins(&mut self, input: &[u8]) {
        self.file.rewind().unwrap();
        self.file.set_len(0).unwrap();
        self.file.write_all(input).unwrap();
        let _ = self.watched.send(Some(input.to_vec()));
    }

    fn ends(&mut self) {
        let _ = self.watched.send(None);
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a run panics with instead of printing it: making an input small panics a thousand times.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let otherwise = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if QUIET.get() {
                PANIC.set(panic.to_string());
            } else {
                otherwise(panic);
            }
        }));
    });
}

/// How many seconds, or which seed: from the environment.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// What one input may take, without optimisation and beside other tests.
const RUN_MAX: Duration = Duration::from_secs(5);
/// After this the process is ended.
const HANG: Duration = Duration::from_secs(60);
/// Inputs that are changed further.
const POOL_MAX: usize = 4_096;
const KIND_CHARACTERS_MAX: usize = 400;
