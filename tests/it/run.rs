//! `tests/run`: what fails keeps nothing from being run, and is named at the end.

use std::path::Path;
use std::process::Command;

/// Says what cargo does of three test binaries, one with two failures and one that aborts.
const CARGO: &str = r#"#!/bin/sh
echo "     Running unittests src/lib.rs (target/debug/deps/gander-1)" >&2
printf 'test a::good ... ok\ntest a::bad ... FAILED\n'
printf '\033[1m\033[92m     Running\033[0m tests/it/main.rs (target/debug/deps/it-1)\n' >&2
printf 'test b::worse - should panic ... FAILED\ntest result: FAILED. 0 passed; 1 failed\n'
echo "     Running tests/sim/main.rs (target/debug/deps/sim-1)" >&2
echo "  process didn't exit successfully: \`sim\` (signal: 6, SIGABRT: process abort signal)" >&2
echo "asked: $*"
exit 101
"#;

#[test]
fn what_fails_is_named_at_the_end_and_keeps_nothing_from_being_run() {
    let stubs = tempfile::tempdir().unwrap();
    // Whatever this machine lacks is not installed for this.
    for (name, script) in [("cargo", CARGO), ("apt-get", "#!/bin/sh\n"), ("sudo", "#!/bin/sh\n")] {
        // By another process: one that a test beside this starts must not inherit a file that is being written, which
        // could not be run meanwhile.
        let mut put = Command::new("sh");
        put.args(["-c", "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"]);
        assert!(put.arg(stubs.path().join(name)).arg(script).status().unwrap().success());
    }
    let ended = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run"))
        .arg("NAME")
        .env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", stubs.path().display()))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.status.code(), Some(101), "{out}{err}");
    assert!(out.contains("asked: test --locked --no-fail-fast -- NAME\n"), "{out}");
    let failed = "failed:\n    src/lib.rs: a::bad\n    tests/it/main.rs: b::worse - should panic\n    \
                  tests/sim/main.rs: it was killed\n";
    assert!(err.ends_with(failed), "{err}");
}
