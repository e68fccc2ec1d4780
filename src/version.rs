//! The version of this program, and what it was built from; `build.rs` finds that out.

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, or `unknown` where the build had no repository, or was no release.
pub(crate) const COMMIT: &str = env!("GANDER_COMMIT");

/// The answer to `--version` as far as the build knows it: the version, and in lines of their own the commit, the
/// features and the target.
pub(crate) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("GANDER_COMMIT"),
    "\nfeatures: ",
    env!("GANDER_FEATURES"),
    "\ntarget: ",
    env!("GANDER_TARGET"),
);
