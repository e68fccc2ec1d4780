//! Log lines: text on a terminal, JSON otherwise.

/// The `log` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub level: tracing::Level,
    pub format: Format,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}
