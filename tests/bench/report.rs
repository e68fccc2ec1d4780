//! The table.

use std::fmt::Write;
use std::time::Duration;

use crate::Run;
use crate::load::Sent;

/// The figures of one system; of several rounds the best of each figure, since other work on the machine
/// only adds to it; of the peak of memory the highest.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) first_answer: Duration,
    pub(crate) idle_kib: u64,
    /// At full speed over connections that are kept.
    pub(crate) peak_kib: u64,
    pub(crate) phases: Vec<Phase>,
}

/// The figures of one load.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) sent: Sent,
    /// From the first request until the last event was delivered.
    pub(crate) cpu_seconds: f64,
    /// The CPU time of load and upstream meanwhile, on their core.
    pub(crate) load_core_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) written_bytes: u64,
    pub(crate) delivered: Option<u64>,
}

impl Measured {
    /// Takes what another round did better.
    pub(crate) fn improve(&mut self, other: Measured) {
        self.first_answer = self.first_answer.min(other.first_answer);
        self.idle_kib = self.idle_kib.min(other.idle_kib);
        self.peak_kib = self.peak_kib.max(other.peak_kib);
        for (phase, other) in self.phases.iter_mut().zip(other.phases) {
            if other.cpu_us_per_event() < phase.cpu_us_per_event() {
                *phase = other;
            }
        }
    }
}

impl Phase {
    pub(crate) fn cpu_us_per_event(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.sent.acknowledged as f64
    }
}

/// Everything that was measured, as Markdown.
pub(crate) fn render(run: &Run, machine: &[String], rows: &[Measured]) -> String {
    let mut text = String::from("\n");
    for fact in machine {
        line(&mut text, format_args!("{fact}"));
    }
    line(
        &mut text,
        format_args!(
            "command: cargo bench --bench relay -- {}",
            std::env::args().skip(1).filter(|argument| argument != "--bench").collect::<Vec<_>>().join(" ")
        ),
    );
    line(
        &mut text,
        format_args!(
            "load: 1 KB bodies, an id each, {} connections, TLS 1.3; core {} for the system, core {} for load and \
             upstream ({}); best of {} round(s) by CPU",
            run.connections,
            run.machine.core,
            run.machine.load_core,
            if run.h2 { "HTTP/2" } else { "HTTP/1.1" },
            run.rounds,
        ),
    );
    text.push_str(
        "\n| system | load | 2xx/s | p50 ms | p99 ms | p99.9 ms | CPU µs/event | × bare proxy | core busy | \
         load core busy | delivered/s | written B/event |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        for (index, phase) in row.phases.iter().enumerate() {
            phase_row(&mut text, row, phase, proxy_cost(rows, index));
        }
    }
    text.push_str("\n| system | resident idle MiB | resident peak MiB | start to first 2xx ms |\n");
    text.push_str("| --- | --- | --- | --- |\n");
    for row in rows {
        line(
            &mut text,
            format_args!(
                "| {} | {:.1} | {:.1} | {:.0} |",
                row.name,
                row.idle_kib as f64 / 1024.0,
                row.peak_kib as f64 / 1024.0,
                row.first_answer.as_secs_f64() * 1000.0
            ),
        );
    }
    for row in rows {
        for phase in &row.phases {
            doubts(&mut text, row, phase);
        }
    }
    text
}

fn phase_row(text: &mut String, row: &Measured, phase: &Phase, proxy: Option<f64>) {
    let sent = &phase.sent;
    let cost = phase.cpu_us_per_event();
    let ratio = proxy.map_or("–".to_owned(), |proxy| format!("{:.2}", cost / proxy));
    let delivered = phase.delivered.map_or("–".to_owned(), |count| format!("{:.0}", count as f64 / phase.seconds));
    line(
        text,
        format_args!(
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {cost:.1} | {ratio} | {:.0} % | {:.0} % | {delivered} | {:.0} |",
            row.name,
            phase.name,
            sent.acknowledged as f64 / sent.seconds,
            f64::from(sent.p50_us) / 1000.0,
            f64::from(sent.p99_us) / 1000.0,
            f64::from(sent.p999_us) / 1000.0,
            phase.cpu_seconds / phase.seconds * 100.0,
            phase.load_core_seconds / phase.seconds * 100.0,
            phase.written_bytes as f64 / sent.acknowledged as f64,
        ),
    );
}

/// Doubts about a figure are said below the table.
fn doubts(text: &mut String, row: &Measured, phase: &Phase) {
    let sent = &phase.sent;
    if !sent.refused.is_empty() {
        line(text, format_args!("\n{}, {}: refused, by status: {:?}", row.name, phase.name, sent.refused));
    }
    if sent.failed > 0 {
        let first = sent.first_failure.as_deref().unwrap_or_default();
        line(
            text,
            format_args!("\n{}, {}: {} requests without an answer ({first})", row.name, phase.name, sent.failed),
        );
    }
    if let Some(delivered) = phase.delivered.filter(|delivered| *delivered != sent.acknowledged) {
        line(
            text,
            format_args!(
                "\n{}, {}: {} acknowledged, {delivered} arrived at the upstream",
                row.name, phase.name, sent.acknowledged
            ),
        );
    }
}

fn proxy_cost(rows: &[Measured], phase: usize) -> Option<f64> {
    let proxy = rows.iter().find(|row| row.name == "bare proxy")?;
    proxy.phases.get(phase).map(Phase::cpu_us_per_event)
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a String can't fail.
    let _ = writeln!(text, "{arguments}");
}
