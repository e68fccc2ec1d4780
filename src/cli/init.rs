//! `gander init`: a starting configuration for one kind of sender, with rules, tests and filters that work as they are.

mod presets;
mod scaffold;

use std::path::{Path, PathBuf};

use clap::Args;

use super::terminal::{Terminal, quoted};
use super::{ConfigFile, Exit, Stop};
use crate::yaml::nearest;
use presets::{PRESETS, Preset};
use scaffold::{Failure, token_variable};

/// Write a starting configuration for a kind of sender
///
/// Writes gander.yaml, rules/SENDER.yaml with its tests, and callgoose-filters.yaml, all commented, with their schemas for
/// editors, into config/, where all commands find them, and says what is to be done next. A file that is there is never
/// overwritten: then nothing is written.
///
/// Exit codes: 0 written; 2 not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander init grafana\n  gander init --output /etc/gander\n  gander init --list")]
pub(crate) struct Arguments {
    /// The kind of sender, see --list
    #[arg(value_name = "SENDER", default_value = "servicepilot")]
    sender: String,
    /// The folder to write into, which is made where it is missing [default: config]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// List the kinds of senders, one a line, and write nothing
    #[arg(long)]
    list: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    if arguments.list {
        for Preset { name, about, .. } in PRESETS {
            terminal.print(&format!("{name:<25}{about}"));
        }
        return Ok(Exit::Fine);
    }
    let preset = PRESETS.iter().find(|preset| preset.name == arguments.sender);
    let preset = preset.ok_or_else(|| unknown(&arguments.sender))?;
    let files = scaffold::files(preset);
    let folder = arguments.folder()?;
    scaffold::write(folder, &files).map_err(|failure| told(&failure))?;
    for file in &files {
        terminal.print(&format!("wrote {}", folder.join(&file.name).display()));
    }
    // The variable may name another one, or one may be found before this.
    let found =
        ConfigFile { config: None }.locate().is_ok_and(|found| is_same_file(&found, &folder.join(CONFIGURATION)));
    terminal.print(&next_steps(preset, folder, found));
    Ok(Exit::Fine)
}

impl Arguments {
    fn folder(&self) -> Result<&Path, String> {
        let here = Path::new(CONFIGURATION);
        match &self.output {
            Some(folder) => Ok(folder),
            None if here.symlink_metadata().is_ok() => Err(told(&Failure::Exists(vec![here.to_owned()]))),
            None => Ok(Path::new(FOLDER)),
        }
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// The YAML files that are written for every kind of sender, by name.
#[cfg(test)]
pub(super) fn shipped_files() -> Vec<(String, String)> {
    let files = PRESETS.iter().flat_map(scaffold::files);
    files.filter(|file| file.name.ends_with(".yaml")).map(|file| (file.name, file.text)).collect()
}

fn unknown(sender: &str) -> String {
    let word = sender.to_lowercase();
    let about = |preset: &&Preset| !word.is_empty() && preset.about.to_lowercase().contains(&word);
    let near = nearest(sender, PRESETS.iter().map(|preset| preset.name))
        .or_else(|| PRESETS.iter().find(about).map(|preset| preset.name));
    let meant = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    format!(
        "there are no rules for `{sender}`{meant}\n  `gander init --list` shows all; `generic` takes what you make of it"
    )
}

fn told(failure: &Failure) -> String {
    match failure {
        Failure::Exists(paths) => {
            let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            let (verb, them) = if paths.len() == 1 { ("is", "it") } else { ("are", "them") };
            format!(
                "{} {verb} there already, so nothing was written\n  write elsewhere with --output DIR, or move {them} away",
                paths.join(", ")
            )
        }
        Failure::Failed { path, error } => {
            format!("{} can't be written, so nothing was: {error}", path.display())
        }
    }
}

/// The steps that are left for a person. `found`: the commands find the configuration by themselves.
fn next_steps(preset: &Preset, folder: &Path, found: bool) -> String {
    let Preset { name, title, enter, .. } = preset;
    let flag = if found {
        String::new()
    } else {
        format!(" --config {}", quoted(&folder.join(CONFIGURATION).display().to_string()))
    };
    let token = token_variable(name);
    let mut text = format!(
        "
1. Two secrets: the token from Callgoose (API Tokens), and one for {title} that you make up.
     export CALLGOOSE_TOKEN=…
     export {token}=$(openssl rand -hex 32)
2. Look it over. gander.yaml is readable by you only: give it to the user who runs the relay.
     gander check{flag}
     gander test{flag}
3. Start it.
     gander run{flag}
4. In {title}: {enter}.
     URL     https://YOUR-HOST:8443/hooks/{name}
     Header  Authorization: Bearer ${token}     (where none can be set: ?token=… at the end of the URL)
     The whole, step by step, stands at the top of {rules_file}.
5. In Callgoose, Services → your service → API Filters; without them nobody is alerted.
",
        rules_file = folder.join(format!("rules/{name}.yaml")).display(),
    );
    text.push_str(FILTERS);
    text
}

const CONFIGURATION: &str = "gander.yaml";
/// Where it is written to when nothing else is said: one of the places where all commands look.
const FOLDER: &str = "config";

/// A summary of `callgoose-filters.yaml`.
const FILTERS: &str = "\
\x20    Trigger  Payload JSON Key `state`, Key Value Contains `CRITICAL`, Map Incident With `servicepilot_event_id`,
              Incident Title From `title`, Incident Description From `description`
     Resolve  Payload JSON Key `state`, Key Value Contains `OK`, Incident Mapped With `servicepilot_event_id`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_known_is_told_the_nearest_name() {
        for (sender, meant) in [
            ("grafna", "did you mean `grafana`?"),
            ("Zabbix", "did you mean `zabbix`?"),
            ("icinga", "did you mean `icinga2`?"),
            ("prometheus", "did you mean `alertmanager`?"),
            ("cloudwatch", "did you mean `cloudwatch-sns`?"),
            ("azure", "did you mean `azure-monitor`?"),
            ("pagerduty", "no rules for `pagerduty`\n"),
            ("", "no rules for ``\n"),
        ] {
            let told = unknown(sender);
            assert!(told.contains(meant) && told.contains("gander init --list"), "{told}");
        }
    }
}
