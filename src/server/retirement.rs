//! Ends a connection in good order while it works: at its age, and where the client CA admits its peer no longer.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::tls;

/// Tells when a connection is to end. What is in flight is finished first.
pub(super) struct Retirement {
    /// None once it was told, or beyond all time.
    at: Option<Instant>,
    shown: Option<Shown>,
}

/// The certificate that the peer showed.
pub(super) struct Shown {
    pub(super) tls: Arc<tls::Served>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Of the CA by which it was verified, and of the listener's own certificates.
    pub(super) exchanges: watch::Receiver<()>,
}

/// The reason for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Age,
    NotAdmitted,
}

impl Retirement {
    /// For a connection that begins now.
    pub(super) fn new(age_max: Duration, shown: Option<Shown>) -> Retirement {
        Retirement { at: Instant::now().checked_add(spread(age_max, fastrand::f64())), shown }
    }

    /// Waits for a reason; none comes twice. It may be dropped, and called again.
    pub(super) async fn due(&mut self) -> Due {
        let (at, shown) = (self.at, &mut self.shown);
        tokio::select! {
            () = until(at) => {
                self.at = None;
                Due::Age
            }
            () = not_admitted(shown) => {
                self.shown = None;
                Due::NotAdmitted
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Verifies the certificate anew after each exchange; returns once it is refused.
async fn not_admitted(shown: &mut Option<Shown>) {
    if let Some(Shown { tls, chain, exchanges }) = shown {
        while exchanges.changed().await.is_ok() {
            if !tls.admits(chain) {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}

/// A tenth more or less, so that peers that connected together do not come back together. `chance` is from 0 to 1.
fn spread(age: Duration, chance: f64) -> Duration {
    Duration::try_from_secs_f64(age.as_secs_f64() * (0.9 + 0.2 * chance)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_spread_by_a_tenth_to_both_sides() {
        let hour = Duration::from_secs(3_600);
        let minutes = |chance| spread(hour, chance).as_secs_f64() / 60.0;
        assert!((minutes(0.0) - 54.0).abs() < 0.01 && (minutes(0.5) - 60.0).abs() < 0.01);
        assert!((minutes(1.0) - 66.0).abs() < 0.01);
        assert_eq!(spread(Duration::MAX, 1.0), Duration::MAX);
    }

    #[tokio::test]
    async fn the_age_is_told_once_however_often_it_is_asked_for() {
        let told =
            async |retirement: &mut Retirement| tokio::time::timeout(Duration::ZERO, retirement.due()).await.ok();
        let mut young = Retirement::new(Duration::from_secs(3_600), None);
        assert_eq!([told(&mut young).await, told(&mut young).await], [None, None]);
        let mut old = Retirement::new(Duration::ZERO, None);
        assert_eq!([told(&mut old).await, told(&mut old).await], [Some(Due::Age), None]);
    }
}
