//! Tasks that the rest can do without for a moment: one that panics is begun again, over what it had.
//!
//! A task without which nothing works is none of these: when it ends, so does the process, and whatever supervises that
//! starts it again.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Runs a task; returns whether it panicked and is to be begun again, after a pause. What it changed by then stays as it
/// is, so it must be such that any step of it may be the last.
///
/// ```text
/// while panicked("secrets", watch_secrets(…)).await {}
/// ```
pub(crate) async fn panicked(task: &'static str, run: impl Future<Output = ()>) -> bool {
    let panicked = caught(run).await.is_none();
    if panicked {
        tracing::error!(task, "a task panicked, as told before; it is begun again");
        tokio::time::sleep(PAUSE).await;
    }
    panicked
}

/// The output of a future; none if it panics.
async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Between a panic and the next beginning, so that a task that panics at once does not take the processor for itself.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_begun_again_over_what_it_had_until_it_returns() {
        async fn task(had: &mut Vec<&str>) {
            had.push("began");
            tokio::task::yield_now().await;
            assert!(had.len() > 1, "not yet");
            had.push("returned");
        }
        let mut had = Vec::new();
        let started = std::time::Instant::now();
        while panicked("a test's", task(&mut had)).await {}
        assert_eq!(had, ["began", "began", "returned"]);
        assert!(started.elapsed() >= PAUSE, "it takes its time");
    }
}
