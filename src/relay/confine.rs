//! Confines the process to what its configuration names.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, Snapshot};
use crate::confinement::{self, Outcome, Paths, Report, directories};
use crate::journal::{self, OpenError};

use super::reload;

/// Gives up what this configuration does not need. Has to come before the first thread; [`log`] tells of it.
pub(crate) fn confine(config: &Config, snapshot: &Snapshot) -> Result<Option<&'static Report>, OpenError> {
    if !config.confinement {
        return Ok(None);
    }
    // What is not there yet can't be allowed.
    journal::make_directory(&config.journal.data_dir)?;
    let mut files = snapshot.files.clone();
    // What the tests beside the rules read, a reload reads too.
    snapshot.rules.keys().for_each(|rules| reload::note_named(rules, &mut files));
    let mut read = directories(files.paths().chain(config.secret_files.paths()).chain(NAMES.map(Path::new)));
    // A directory that is renamed and put back anew is another one.
    read.extend(directories(read.iter().map(PathBuf::as_path)).into_iter().filter(|above| above.parent().is_some()));
    let mut paths = Paths { read, write: vec![config.journal.data_dir.clone()] };
    // What is put in the place of the directory while the relay runs is another one, which is made good from memory.
    let above = directories([config.journal.data_dir.as_path()]);
    paths.write.extend(above.into_iter().filter(|above| above.parent().is_some()));
    paths.write.extend(std::env::var_os("SQLITE_TMPDIR").map(PathBuf::from));
    for tls in [&config.listen.tls, &config.admin.tls].into_iter().flatten().filter(|tls| tls.self_signed) {
        let pair = directories([tls.certificate.as_path(), &tls.private_key]);
        pair.iter().for_each(|directory| make_directory(directory));
        paths.write.extend(pair);
    }
    confinement::apply(&paths);
    Ok(confinement::report())
}

/// Read whenever a name is looked up; on some systems links to elsewhere.
const NAMES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// Makes the directory of a pair; where that fails, making the pair will tell.
fn make_directory(directory: &Path) {
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(directory);
}

/// Logs what the process is confined by, and warns where somebody could do more with it than needed.
pub(crate) fn log(report: Option<&Report>) {
    match report {
        Some(report) => {
            let Report { files, system_calls, memory } = report;
            let [files, system_calls, memory] = [files, system_calls, memory].map(Outcome::as_str);
            tracing::info!(files, system_calls, memory, "confined: see `confinement`");
            for (part, outcome) in report.parts() {
                if let Outcome::Failed(error) = outcome {
                    tracing::warn!(part, error, "the process could not be confined in this");
                }
            }
        }
        None => tracing::warn!("not confined, since `confinement` is off"),
    }
    if rustix::process::geteuid().is_root() {
        tracing::warn!("running as root, which nothing here needs; run it as a user of its own");
    }
}
