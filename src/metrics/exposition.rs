//! The two text forms of metrics: OpenMetrics, as the library writes it, and the text format of Prometheus, translated
//! from it.

/// A text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text format 0.0.4: what every scraper reads, and `promtool check metrics`.
    Text,
    OpenMetrics,
}

impl Exposition {
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::Text => "text/plain; version=0.0.4; charset=utf-8",
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The form of a text in OpenMetrics.
    pub(super) fn of_openmetrics(self, text: String) -> String {
        match self {
            Exposition::Text => in_text_format(&text),
            Exposition::OpenMetrics => text,
        }
    }
}

/// Translates OpenMetrics, as the library writes it: samples are the same in both. The text format describes a metric by
/// the name of its samples, and has neither units, nor infos, nor an end.
fn in_text_format(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines();
    while let Some(line) = lines.next() {
        // The type of a metric follows its help.
        let help = line.strip_prefix("# HELP ").and_then(|help| help.split_once(' '));
        let kind = help.and_then(|_| lines.next()).and_then(|line| line.rsplit_once(' '));
        if let (Some((name, help)), Some((_, kind))) = (help, kind) {
            let (ending, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            text.extend(["# HELP ", name, ending, " ", help, "\n# TYPE ", name, ending, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_has_the_samples_of_openmetrics_and_its_own_names_of_metrics() {
        let openmetrics = "\
# HELP gander_panics Panics of a task.
# TYPE gander_panics counter
gander_panics_total 0
# HELP gander_queue_drain_seconds How long.
# TYPE gander_queue_drain_seconds gauge
# UNIT gander_queue_drain_seconds seconds
gander_queue_drain_seconds inf
# HELP gander_build The running version.
# TYPE gander_build info
gander_build_info{version=\"# HELP 1\"} 1
# EOF
";
        let text = "\
# HELP gander_panics_total Panics of a task.
# TYPE gander_panics_total counter
gander_panics_total 0
# HELP gander_queue_drain_seconds How long.
# TYPE gander_queue_drain_seconds gauge
gander_queue_drain_seconds inf
# HELP gander_build_info The running version.
# TYPE gander_build_info gauge
gander_build_info{version=\"# HELP 1\"} 1
";
        assert_eq!(Exposition::Text.of_openmetrics(openmetrics.to_owned()), text);
        assert_eq!(Exposition::OpenMetrics.of_openmetrics(openmetrics.to_owned()), openmetrics);
    }
}
