//! The files of a starting configuration: what is in them, and how they are written. All of them or none, each whole,
//! and never over one that is there.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::presets::Preset;
use crate::cli::schema::Kind;

/// One file to write.
#[derive(Debug)]
pub(super) struct File {
    /// Relative to the folder of the configuration.
    pub(super) name: String,
    pub(super) text: String,
    mode: u32,
}

/// The files of a preset's configuration.
pub(super) fn files(preset: &Preset) -> Vec<File> {
    let Preset { name, title, .. } = preset;
    let (own_token, token) = ("SERVICEPILOT_TOKEN", token_variable(name));
    // As long as each other, so that the comment behind it stays in its column.
    let accept = if FORMS.contains(name) { "    accept: [json, form]  " } else { TAKES_JSON };
    let json = if LENIENT.contains(name) { IS_LENIENT } else { "    # json: strict " };
    let configuration = [
        (TAKES_JSON, &accept.to_owned()),
        (IS_LENIENT, &json.to_owned()),
        ("  servicepilot:", &format!("  {name}:")),
        ("hooks/servicepilot", &format!("hooks/{name}")),
        ("rules/servicepilot.yaml", &format!("rules/{name}.yaml")),
        ("from: ServicePilot", &format!("from: {title}")),
        (own_token, &token),
    ];
    let filters = [
        ("config/rules/servicepilot.yaml", &format!("rules/{name}.yaml")),
        ("config/gander.yaml", &"gander.yaml".to_owned()),
        ("ServicePilot", &(*title).to_owned()),
    ];
    let file = |name: &str, text: String, mode| File { name: name.to_owned(), text, mode };
    let mut files = vec![
        // Secrets may be written into it, so it is the owner's alone: whoever runs the relay as somebody else gives the
        // file to him. The others hold none, and are what the umask makes of them.
        file("gander.yaml", fitted(CONFIGURATION, &configuration), 0o600),
        file("callgoose-filters.yaml", fitted(FILTERS, &filters), 0o666),
        file(&format!("rules/{name}.yaml"), preset.rules.to_owned(), 0o666),
        file(&format!("rules/{name}.test.yaml"), preset.tests.to_owned(), 0o666),
    ];
    // The first line of each of them names its schema, for editors.
    files.extend(Kind::ALL.map(|kind| file(kind.file(), kind.schema().to_owned(), 0o666)));
    files
}

const TAKES_JSON: &str = "    # accept: [json]      ";
const IS_LENIENT: &str = "    json: lenient  ";
/// Senders that post forms.
const FORMS: [&str; 2] = ["prtg", "statuscake"];

/// The environment variable in which the sender's token is looked for.
pub(super) fn token_variable(name: &str) -> String {
    format!("{}_TOKEN", name.to_uppercase().replace('-', "_"))
}

/// A text with some words in the place of others. A comment behind a value stays in its column where there is room.
fn fitted(text: &str, words: &[(&str, &String)]) -> String {
    text.split_inclusive('\n').map(|line| fitted_line(line, words)).collect()
}

fn fitted_line(line: &str, words: &[(&str, &String)]) -> String {
    let replaced = words.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
    let column = |line: &str| line.find(" # ").filter(|_| !line.trim_start().starts_with('#'));
    let (Some(before), Some(after)) = (column(line), column(&replaced)) else {
        return replaced;
    };
    let (value, comment) = replaced.split_at(after);
    format!("{:<before$}{comment}", value.trim_end())
}

/// The reason why nothing was written.
#[derive(Debug)]
pub(super) enum Failure {
    /// These are there already.
    Exists(Vec<PathBuf>),
    Failed {
        path: PathBuf,
        error: io::Error,
    },
}

/// Writes the files into `folder`.
pub(super) fn write(folder: &Path, files: &[File]) -> Result<(), Failure> {
    let there: Vec<PathBuf> =
        files.iter().map(|file| folder.join(&file.name)).filter(|path| path.symlink_metadata().is_ok()).collect();
    if !there.is_empty() {
        return Err(Failure::Exists(there));
    }
    let mut made = Made::default();
    write_all(folder, files, &mut made).inspect_err(|_| made.undo())
}

/// The files and folders that were made so far.
#[derive(Debug, Default)]
struct Made {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    /// A directory is removed only if nothing is in it: somebody else may have put something there meanwhile.
    fn undo(&self) {
        self.files.iter().for_each(|path| drop(fs::remove_file(path)));
        self.directories.iter().rev().for_each(|path| drop(fs::remove_dir(path)));
    }
}

/// First every file under a name of its own, whole and on disk; then all get their names, which nobody may have taken.
fn write_all(folder: &Path, files: &[File], made: &mut Made) -> Result<(), Failure> {
    let mut staged = Vec::new();
    for file in files {
        let path = folder.join(&file.name);
        let failed = |error| Failure::Failed { path: path.clone(), error };
        let beside = path.parent().unwrap_or(folder);
        directory(beside, made).map_err(failed)?;
        let mode = Permissions::from_mode(file.mode);
        let mut new = tempfile::Builder::new().permissions(mode).tempfile_in(beside).map_err(failed)?;
        new.write_all(file.text.as_bytes()).and_then(|()| new.as_file().sync_all()).map_err(failed)?;
        staged.push((new, path));
    }
    for (new, path) in staged {
        new.persist_noclobber(&path).map_err(|failed| Failure::Failed { path: path.clone(), error: failed.error })?;
        made.files.push(path);
    }
    Ok(())
}

/// Makes a directory and those above it, where they are missing.
fn directory(path: &Path, made: &mut Made) -> io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err()).collect();
    for path in missing.into_iter().rev() {
        DirBuilder::new().mode(0o755).create(path)?;
        made.directories.push(path.to_owned());
    }
    Ok(())
}

/// Senders whose JSON is a template that a person writes, into which texts are put as they are.
const LENIENT: [&str; 9] = [
    "datadog",
    "dynatrace",
    "gatus",
    "generic",
    "healthchecks-io",
    "librenms",
    "metoro",
    "servicepilot",
    "uptimerobot",
];

const CONFIGURATION: &str = include_str!("../../../config/gander.yaml");
const FILTERS: &str = include_str!("../../../config/callgoose-filters.yaml");

#[cfg(test)]
mod tests {
    use super::super::presets::PRESETS;
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_of_the_shipped_source_is_left_in_another_ones_files() {
        for preset in PRESETS.iter().filter(|preset| preset.name != "servicepilot") {
            for file in files(preset) {
                // The key that Callgoose maps by is the same for all senders.
                let rest = file.text.replace("servicepilot_event_id", "").to_lowercase();
                assert!(!rest.contains("servicepilot"), "{}: {}", preset.name, file.name);
            }
        }
    }

    #[test]
    fn a_source_of_a_sender_that_posts_forms_takes_them() {
        for preset in PRESETS {
            let written = files(preset).swap_remove(0).text;
            let key = if FORMS.contains(&preset.name) { "    accept: [json, form]  " } else { TAKES_JSON };
            assert_eq!(written.matches("accept: [json").count(), 1, "{}", preset.name);
            assert!(written.contains(&format!("{key}             # [json, form]: ")), "{}", preset.name);
        }
        assert!(FORMS.iter().all(|name| PRESETS.iter().any(|preset| preset.name == *name)));
    }

    #[test]
    fn senders_with_a_template_of_their_own_are_read_leniently() {
        assert!(LENIENT.iter().all(|name| PRESETS.iter().any(|preset| preset.name == *name)));
        for preset in PRESETS {
            let written = files(preset).swap_remove(0).text;
            let key = if LENIENT.contains(&preset.name) { IS_LENIENT } else { "    # json: strict " };
            let expected = format!("{key}                    # lenient repairs ");
            assert!(written.contains(&expected) && !written.contains("# json: lenient"), "{}", preset.name);
        }
    }

    #[test]
    fn comments_keep_their_column_where_there_is_room() {
        let words = [("servicepilot", &"x".to_owned())];
        for (line, expected) in [
            ("  servicepilot:   # here\n", "  x:              # here\n"),
            ("# servicepilot # b\n", "# x # b\n"),
            ("plain: servicepilot\n", "plain: x\n"),
        ] {
            assert_eq!(fitted(line, &words), expected);
        }
        let long = [("servicepilot", &"a-name-that-is-longer".to_owned())];
        assert_eq!(fitted("  servicepilot: # here\n", &long), "  a-name-that-is-longer: # here\n");
    }

    #[test]
    fn a_failure_half_way_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        // `rules` is no directory, so its files can't be written after the two before them.
        fs::write(folder.path().join("rules"), "mine").unwrap();
        let failure = write(folder.path(), &files(&PRESETS[0])).unwrap_err();
        assert!(
            matches!(&failure, Failure::Failed { path, .. } if path.ends_with("rules/aimbetter.yaml")),
            "{failure:?}"
        );
        assert_eq!(names(folder.path()), ["rules"]);
        // The directory can't be written to at all; root could.
        let below = folder.path().join("a/b");
        fs::write(folder.path().join("a"), "mine").unwrap();
        assert!(matches!(write(&below, &files(&PRESETS[0])), Err(Failure::Failed { .. })));
        assert_eq!(names(folder.path()), ["a", "rules"]);
    }

    #[test]
    fn what_is_there_is_named_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let filters = folder.path().join("callgoose-filters.yaml");
        // A link that leads nowhere is there, too.
        std::os::unix::fs::symlink("nowhere", &filters).unwrap();
        let failure = write(folder.path(), &files(&PRESETS[0])).unwrap_err();
        assert!(matches!(&failure, Failure::Exists(there) if *there == [filters]), "{failure:?}");
        assert_eq!(names(folder.path()), ["callgoose-filters.yaml"]);
    }

    #[test]
    fn a_name_that_is_taken_in_the_last_moment_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("callgoose-filters.yaml"), "mine").unwrap();
        let mut made = Made::default();
        let failure = write_all(folder.path(), &files(&PRESETS[0]), &mut made).unwrap_err();
        let Failure::Failed { error, .. } = &failure else { panic!("{failure:?}") };
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        made.undo();
        assert_eq!(names(folder.path()), ["callgoose-filters.yaml"]);
        assert_eq!(fs::read_to_string(folder.path().join("callgoose-filters.yaml")).unwrap(), "mine");
    }

    #[test]
    fn the_file_that_may_hold_secrets_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("etc/gander"), &files(&PRESETS[0])).unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join("etc/gander").join(name)).unwrap().permissions().mode();
        assert_eq!(mode("gander.yaml") & 0o777, 0o600);
        assert_eq!(mode("rules/aimbetter.yaml") & 0o400, 0o400);
        assert_eq!(
            names(&folder.path().join("etc/gander")),
            ["callgoose-filters.yaml", "gander.yaml", "rules", "schema"]
        );
    }
}
