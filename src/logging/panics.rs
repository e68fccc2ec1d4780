//! Panics: each is a fault of this program, is counted, and gets a log line, on any thread.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// The number of panics so far, on any thread.
pub(crate) fn panics() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Logs panics from now on. The standard library would write them to standard error directly, which blocks on a slow
/// reader.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(note));
}

fn note(panic: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let said = message(panic.payload());
    let location = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    // Empty unless RUST_BACKTRACE is set.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        panic = said,
        location,
        thread = thread.name(),
        backtrace,
        "a part of gander panicked: a fault of this program; please report it with this line"
    );
}

/// The beginning of the panic's message, which may quote a payload and so is limited.
fn message(payload: &dyn std::any::Any) -> &str {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "",
    };
    let end = (0..=SAID_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

const SAID_BYTES_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_quoted_in_part() {
        assert_eq!(message(&"short"), "short");
        assert_eq!(message(&"é".repeat(1_000)), "é".repeat(250));
        assert_eq!(message(&format!("a{}", "é".repeat(1_000))).len(), 499);
        assert_eq!(message(&7), "");
    }
}
