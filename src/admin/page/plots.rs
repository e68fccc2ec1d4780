//! Plots of the last hour or day, drawn as SVG: one for each thing counted, so that nothing depends on a colour, each with
//! its numbers in a table.

use std::fmt::Write;
use std::time::Duration;

use maud::{Markup, html};

use crate::admin::history::Span;
use crate::clock::WallTime;
use crate::text::{grouped, length_of};

/// How far back the plots go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Hour,
    Day,
}

impl Reach {
    /// The length of a bar, and the number of bars.
    pub(super) fn bars(self) -> (Duration, usize) {
        match self {
            Reach::Hour => (Duration::from_secs(60), 60),
            Reach::Day => (Duration::from_secs(15 * 60), 96),
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Reach::Hour => ("the last hour", "a bar is a minute"),
            Reach::Day => ("the last day", "a bar is 15 minutes"),
        }
    }
}

/// One line of bars.
struct Series {
    name: &'static str,
    /// A value for each span, in the unit that `written` knows; none where there is nothing to have a mean of.
    values: Vec<Option<u64>>,
    written: fn(u64) -> String,
    /// Counts add up, means do not.
    total: bool,
}

pub(super) fn plots(spans: &[Span], reach: Reach) -> Markup {
    let (words, bar) = reach.words();
    let series = series(spans);
    html! {
        section {
            h2 { "In " (words) }
            p.dim {
                (bar) ", the last one goes on; since the start at most. "
                @match reach {
                    Reach::Hour => a href="./?plots=day" { "The last day" },
                    Reach::Day => a href="./" { "The last hour" },
                }
            }
            div.plots { @for one in &series { (plot(one, reach.bars().1)) } }
            details { summary { "As a table" } (table(spans, &series)) }
        }
    }
}

fn series(spans: &[Span]) -> [Series; 5] {
    let of = |value: fn(&Span) -> u64| spans.iter().map(|span| Some(value(span))).collect();
    let micros = |mean: Option<Duration>| Some(u64::try_from(mean?.as_micros()).unwrap_or(u64::MAX));
    let took: fn(u64) -> String = |micros| length_of(Duration::from_micros(micros));
    [
        Series { name: "Accepted", values: of(|span| span.happened.accepted), written: grouped, total: true },
        Series { name: "Delivered", values: of(|span| span.happened.delivered), written: grouped, total: true },
        Series { name: "Refused", values: of(|span| span.happened.refused), written: grouped, total: true },
        Series {
            name: "Until the sender is answered, mean",
            values: spans.iter().map(|span| micros(span.happened.acknowledge.mean())).collect(),
            written: took,
            total: false,
        },
        Series {
            name: "Until it is delivered, mean",
            values: spans.iter().map(|span| micros(span.happened.delivery.mean())).collect(),
            written: took,
            total: false,
        },
    ]
}

fn plot(series: &Series, bars: usize) -> Markup {
    let highest = series.values.iter().copied().flatten().max();
    let most = highest.unwrap_or(0);
    let said = match highest {
        _ if series.total => (series.written)(series.values.iter().flatten().sum()),
        Some(most) => format!("at most {}", (series.written)(most)),
        None => "–".to_owned(),
    };
    html! {
        figure {
            figcaption { (series.name) " " b { (said) } @if series.total && most > 0 { span.dim { " at most " ((series.written)(most)) } } }
            svg viewBox={ "0 0 " (bars * WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label={ (series.name) ": " (said) } {
                path d=(path(&series.values, most, bars)) {}
            }
        }
    }
}

/// The bars as one shape, the newest at the right end.
fn path(values: &[Option<u64>], most: u64, bars: usize) -> String {
    let mut path = String::new();
    let before = bars.saturating_sub(values.len());
    let values =
        values.iter().enumerate().filter_map(|(index, value)| Some((index, (*value).filter(|value| *value > 0)?)));
    for (index, value) in values {
        // What happened is seen, however little it was beside the most.
        let height = (value.saturating_mul(HEIGHT as u64) / most.max(1)).max(1);
        let _ = write!(path, "M{} {HEIGHT}v-{height}h{}v{height}z", (before + index) * WIDTH, WIDTH - 1);
    }
    path
}

fn table(spans: &[Span], series: &[Series; 5]) -> Markup {
    let is_empty = |index: usize| series.iter().all(|one| one.values[index].unwrap_or(0) == 0);
    html! {
        div.scroll {
            table {
                thead { tr { th scope="col" { "From" } @for one in series { th.count scope="col" { (one.name) } } } }
                tbody {
                    @for (index, span) in spans.iter().enumerate().rev().filter(|(index, _)| !is_empty(*index)) {
                        tr {
                            td { (minute(span.at)) }
                            @for one in series { td.count { (one.values[index].map_or("–".to_owned(), one.written)) } }
                        }
                    }
                }
            }
        }
    }
}

fn minute(at: WallTime) -> String {
    at.rfc3339().get(11..16).unwrap_or_default().to_owned() + " UTC"
}

/// Of a bar, with the gap behind it.
const WIDTH: usize = 5;
const HEIGHT: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_at_the_right_end_and_are_seen_however_small() {
        assert_eq!(path(&[Some(0), Some(1), Some(600)], 600, 5), "M15 60v-1h4v1zM20 60v-60h4v60z");
        assert_eq!(path(&[None, Some(0)], 0, 5), "");
    }
}
