//! `gander schema`: JSON Schemas of the files that people write, for editors.

use clap::{Args, ValueEnum};

use super::Exit;
use super::terminal::Terminal;

/// Print the JSON Schema of a kind of file, for editors
///
/// Editors with the YAML language server complete keys, explain them and mark mistakes while one types. The shipped files
/// name their schema in their first line: `# yaml-language-server: $schema=…`. What a schema can't say, `gander check`
/// does.
///
/// Exit codes: 0 fine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander schema config > gander.schema.json\n  gander schema rules")]
pub(crate) struct Arguments {
    /// The kind of file
    #[arg(value_name = "KIND")]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// The configuration, gander.yaml
    Config,
    /// Rules
    Rules,
    /// Rule tests, *.test.yaml
    Tests,
    /// Sandbox filters, callgoose-filters.yaml
    Filters,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Exit {
    terminal.print(arguments.kind.schema().trim_end());
    Exit::Fine
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Config, Kind::Rules, Kind::Tests, Kind::Filters];

    /// Its file beside the configuration.
    pub(super) fn file(self) -> &'static str {
        match self {
            Kind::Config => "schema/config.json",
            Kind::Rules => "schema/rules.json",
            Kind::Tests => "schema/tests.json",
            Kind::Filters => "schema/filters.json",
        }
    }

    pub(super) fn schema(self) -> &'static str {
        match self {
            Kind::Config => include_str!("../../config/schema/config.json"),
            Kind::Rules => include_str!("../../config/schema/rules.json"),
            Kind::Tests => include_str!("../../config/schema/tests.json"),
            Kind::Filters => include_str!("../../config/schema/filters.json"),
        }
    }
}

#[cfg(test)]
mod tests;
