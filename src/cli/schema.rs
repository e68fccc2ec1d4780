//! `gander schema`: JSON Schemas of the files that people write, for editors, and the admin API's OpenAPI document.

use clap::{Args, ValueEnum};

use super::Exit;
use super::terminal::Terminal;

/// Print the JSON Schema of a kind of file, or the admin API as OpenAPI
///
/// Editors with the YAML language server complete keys, explain them and mark mistakes while one types. The shipped files
/// name their schema in their first line: `# yaml-language-server: $schema=…`. What a schema can't say, `gander check`
/// does.
///
/// Exit codes: 0 fine.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gander schema config > gander.schema.json\n  gander schema rules\n  gander schema api > gander.openapi.json"
)]
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
    /// The admin API, an OpenAPI 3.1 document
    Api,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Exit {
    terminal.print(arguments.kind.schema().trim_end());
    Exit::Fine
}

impl Kind {
    /// Those of files that people write.
    pub(super) const ALL: [Kind; 4] = [Kind::Config, Kind::Rules, Kind::Tests, Kind::Filters];

    /// Its file beside the configuration.
    pub(super) fn file(self) -> &'static str {
        match self {
            Kind::Config => "schema/config.json",
            Kind::Rules => "schema/rules.json",
            Kind::Tests => "schema/tests.json",
            Kind::Filters => "schema/filters.json",
            Kind::Api => "schema/api.json",
        }
    }

    pub(super) fn schema(self) -> &'static str {
        match self {
            Kind::Config => include_str!("../../config/schema/config.json"),
            Kind::Rules => include_str!("../../config/schema/rules.json"),
            Kind::Tests => include_str!("../../config/schema/tests.json"),
            Kind::Filters => include_str!("../../config/schema/filters.json"),
            Kind::Api => include_str!("../../config/schema/api.json"),
        }
    }
}

#[cfg(test)]
mod tests;
