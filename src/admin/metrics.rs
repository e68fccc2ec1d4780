//! `GET /metrics`: the metrics in the form that the scraper prefers.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::State;
use super::certificate_status::certificates_in_use;
use super::problem::problem;
use crate::clock::WallTime;
use crate::logging;
use crate::metrics::Exposition;

/// Answers with what is counted, and with what only a scrape looks at.
pub(super) async fn scrape(Extract(state): Extract<State>, headers: HeaderMap) -> Response {
    let metrics = Arc::clone(&state.view.metrics);
    let oldest = state.view.journal.oldest_queued().await;
    let age = oldest.map_or(0.0, |oldest| WallTime::now().since(oldest).as_secs_f64());
    metrics.delivery.queue_oldest_age.set(age);
    metrics.process_counted(logging::lines_dropped(), logging::panics());
    for (section, one) in certificates_in_use(&state.view.certificates, &state.view.upstream, WallTime::now()) {
        metrics.certificate_expires(section, &one.file, one.expiry.at);
    }
    let form = preferred(&headers);
    // Thousands of open files take milliseconds to count: no request waits for that.
    match tokio::task::spawn_blocking(move || metrics.encode(form)).await {
        Ok(text) => ([(CONTENT_TYPE, HeaderValue::from_static(form.content_type()))], text).into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written; see the log"),
    }
}

/// The form by `Accept` (RFC 9110, section 12.5.1): OpenMetrics for whoever prefers it, else text, which everybody reads.
fn preferred(headers: &HeaderMap) -> Exposition {
    let lists = headers.get_all(ACCEPT).iter().filter_map(|list| list.to_str().ok());
    let ranges: Vec<Range<'_>> = lists.flat_map(|list| list.split(',')).filter_map(Range::read).collect();
    if quality(&ranges, "application", "openmetrics-text") > quality(&ranges, "text", "plain") {
        Exposition::OpenMetrics
    } else {
        Exposition::Text
    }
}

/// The quality of a type: that of the most exact range that has it.
fn quality(ranges: &[Range<'_>], kind: &str, subtype: &str) -> f32 {
    let exactness = |range: &Range<'_>| match (range.kind, range.subtype) {
        ("*", "*") => Some(0),
        (of, "*") if of.eq_ignore_ascii_case(kind) => Some(1),
        (of, sub) if of.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => Some(2),
        _ => None,
    };
    let fitting = ranges.iter().filter_map(|range| Some((exactness(range)?, range.quality)));
    // Of two that are as exact the better one counts: they differ in parameters.
    fitting.max_by(|(a, p), (b, q)| a.cmp(b).then(p.total_cmp(q))).map_or(0.0, |(_, quality)| quality)
}

/// A media range of `Accept`.
#[derive(Clone, Copy, Debug)]
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
}

impl<'a> Range<'a> {
    /// None if it is malformed, or for a version of OpenMetrics that is not spoken here.
    fn read(text: &'a str) -> Option<Range<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut quality = 1.0;
        for parameter in parts {
            let (name, value) = parameter.split_once('=')?;
            if name.eq_ignore_ascii_case("q") {
                quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
            } else if name.eq_ignore_ascii_case("version") && kind.eq_ignore_ascii_case("application") {
                (value == "1.0.0").then_some(())?;
            }
        }
        Some(Range { kind, subtype, quality })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_openmetrics_if_it_prefers_it_and_everybody_else_text() {
        use Exposition::{OpenMetrics, Text};
        for (claim, lists, form) in [
            ("nothing is said", &[][..], Text),
            ("curl", &["*/*"], Text),
            ("a browser", &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Text),
            ("promtool, and others that want text", &["text/plain"], Text),
            ("only OpenMetrics", &["application/openmetrics-text"], OpenMetrics),
            ("its letters are of no account", &["Application/OpenMetrics-Text; Version=1.0.0; Q=1"], OpenMetrics),
            (
                "Prometheus 2",
                &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                OpenMetrics,
            ),
            (
                "Prometheus 3",
                &["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                   text/plain;version=0.0.4;q=0.2,*/*;q=0.1"],
                OpenMetrics,
            ),
            (
                "Prometheus that was told to prefer text",
                &["text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,*/*;q=0.1"],
                Text,
            ),
            ("in two headers", &["text/plain;q=0.1", "application/openmetrics-text;q=0.2"], OpenMetrics),
            ("both alike", &["application/openmetrics-text, text/plain"], Text),
            ("a version that is not spoken here", &["application/openmetrics-text;version=0.0.1"], Text),
            ("anything but text", &["*/*, text/plain;q=0"], OpenMetrics),
            ("anything of applications", &["application/*"], OpenMetrics),
            ("the exact range counts", &["application/openmetrics-text;q=0.1, application/*, text/*;q=0.2"], Text),
            ("not acceptable", &["application/openmetrics-text;q=0"], Text),
            ("neither", &["application/json"], Text),
            ("a quality that is none", &["application/openmetrics-text;q=2, text/plain;q=0.1"], Text),
            ("a quality that is no number", &["application/openmetrics-text;q=nan"], Text),
            ("nonsense", &[";;,=,q/;q", "/", "application/openmetrics-text;q"], Text),
        ] {
            let headers = lists.iter().map(|list| (ACCEPT, HeaderValue::from_str(list).unwrap())).collect();
            assert_eq!(preferred(&headers), form, "{claim}");
        }
    }
}
