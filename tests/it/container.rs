//! The image, run by a real container runtime as Kubernetes and compose run it: an ordinary user without powers, a root
//! that can't be written to, a volume and secrets that belong to somebody else.
//!
//! The image is made of this build by `config/deploy/container/Containerfile`, over a base of this machine's libraries.
//! With GANDER_IMAGE_ROOT it is the one that lies unpacked there; `tests/image` runs these so.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::compose::{environment, services};
use crate::pages::root;
use crate::support::PATIENCE;

/// Whom the image says it runs as, and the group to which volumes are opened.
const USER: u32 = 65532;
const GROUP: u32 = 2000;
const TOKEN: &str = "a-token-of-sixteen-or-more";

/// An image, unpacked.
struct Image {
    root: PathBuf,
    /// What its builder wrote down of it; none of one that was made before.
    settings: Option<Value>,
}

/// Runs a program to its end, which has to be a good one; returns what it prints.
fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> String {
    let ended = Command::new(program).args(arguments).output();
    let ended = ended.unwrap_or_else(|error| panic!("{program} can't be run ({error}): tests/run installs it"));
    assert!(ended.status.success(), "{program}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap().trim().to_owned()
}

impl Image {
    fn make() -> Image {
        if let Some(root) = std::env::var_os("GANDER_IMAGE_ROOT") {
            return Image { root: root.into(), settings: None };
        }
        // It stays there for the next run to replace: no test knows that it is the last one.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name).display().to_string();
        // A store of its own, without mounts that would outlive the test.
        let buildah = |arguments: &[&str]| {
            let store = ["--root", &at("store"), "--runroot", &at("run"), "--storage-driver", "vfs"].map(str::to_owned);
            run("buildah", store.into_iter().chain(arguments.iter().map(|&argument| argument.to_owned())))
        };
        base(&directory.join("base"));
        let container = buildah(&["from", "scratch"]);
        buildah(&["copy", "--quiet", &container, &at("base"), "/"]);
        buildah(&["commit", "--quiet", &container, "localhost/base"]);

        context(&directory.join("context"));
        let file = root().join("config/deploy/container/Containerfile").display().to_string();
        let base = ["--build-arg", "RUN_IMAGE=localhost/base"];
        let build = ["build", "--quiet", "--format", "docker", "--isolation", "chroot", "-t", "localhost/gander"];
        buildah(&[&build[..], &base, &["-f", &file, &at("context")]].concat());
        let told: Value = serde_json::from_str(&buildah(&["inspect", "--type", "image", "localhost/gander"])).unwrap();
        let container = buildah(&["from", "--pull-never", "localhost/gander"]);
        let root = buildah(&["mount", &container]).into();
        Image { root, settings: Some(told["Docker"]["config"].clone()) }
    }

    /// Made once for all tests of this file that need it.
    fn get() -> &'static Image {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        IMAGE.get_or_init(Image::make)
    }
}

/// Lays out what a base image has: the C library, and the names of users.
fn base(directory: &Path) {
    let libraries = run("ldd", [env!("CARGO_BIN_EXE_gander")]);
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = directory.join(&library[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
    fs::create_dir_all(directory.join("etc")).unwrap();
    fs::write(directory.join("etc/passwd"), "root:x:0:0::/:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n")
        .unwrap();
    for mounted in ["proc", "dev", "run"] {
        fs::create_dir_all(directory.join(mounted)).unwrap();
    }
}

/// Lays out what the Containerfile copies.
fn context(directory: &Path) {
    fs::create_dir_all(directory.join("target/release")).unwrap();
    for copied in ["LICENSE", "config"] {
        run("cp", [Path::new("-r"), &root().join(copied), directory]);
    }
    let (build, binary) = (env!("CARGO_BIN_EXE_gander"), directory.join("target/release/gander"));
    run("strip", ["-o", &binary.display().to_string(), build]);
}

/// What is mounted where, and the environment, of a container.
#[derive(Default)]
struct Run {
    mounts: Vec<(PathBuf, &'static str, &'static str)>,
    variables: Vec<String>,
}

/// A container that runs; ended with the test.
struct Container {
    id: String,
    bundle: tempfile::TempDir,
    relay: Child,
}

impl Container {
    /// Starts the relay in the image, with a sandbox of Callgoose beside it, and waits until events are taken.
    fn start(image: &Image, run: &Run) -> Container {
        let bundle = tempfile::tempdir().unwrap();
        fs::write(bundle.path().join("config.json"), specification(image, run).to_string()).unwrap();
        let id = format!("gander-test-{}", bundle.path().file_name().unwrap().to_str().unwrap().trim_matches('.'));
        let log = fs::File::create(bundle.path().join("log")).unwrap();
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(bundle.path().join("state")).args(["run", "--bundle"]).arg(bundle.path()).arg(&id);
        let relay = runc.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let relay = relay.unwrap_or_else(|error| panic!("runc can't be run ({error}): tests/run installs it"));
        let mut container = Container { id, bundle, relay };
        container.until("it is ready", &["health", "--ready"]);
        container.runc(&["exec", "--detach"], &["sandbox"]);
        container
    }

    /// Runs a command of gander in the container, as its health check does.
    fn gander(&self, arguments: &[&str]) -> (bool, String) {
        self.runc(&["exec"], arguments)
    }

    fn runc(&self, verb: &[&str], arguments: &[&str]) -> (bool, String) {
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(self.bundle.path().join("state")).args(verb);
        runc.args([&self.id, "/usr/local/bin/gander"]).args(arguments);
        // What is detached goes on writing to these.
        if verb.contains(&"--detach") {
            let status = runc.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            return (status.success(), String::new());
        }
        let ended = runc.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
        (ended.status.success(), said.into_owned())
    }

    /// Runs a command again and again until it succeeds; returns what it prints then.
    fn until(&mut self, what: &str, arguments: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let (succeeded, said) = self.gander(arguments);
            if succeeded {
                return said;
            }
            let log = || fs::read_to_string(self.bundle.path().join("log")).unwrap();
            assert!(self.relay.try_wait().unwrap().is_none(), "{what}: it ended: {}", log());
            assert!(begun.elapsed() < PATIENCE, "{what}: {said}{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.bundle.path().join("log")).unwrap()
    }

    /// SIGTERM to the first process of the container, as an orchestrator sends it; returns the exit code.
    fn terminate(mut self) -> Option<i32> {
        run("runc", ["--root", &self.bundle.path().join("state").display().to_string(), "kill", &self.id, "TERM"]);
        self.relay.wait().unwrap().code()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let state = self.bundle.path().join("state");
        let _ = Command::new("runc").arg("--root").arg(state).args(["delete", "--force", &self.id]).output();
        let _ = self.relay.wait();
    }
}

/// What the runtime is told, as Kubernetes tells it for `runAsNonRoot`, `readOnlyRootFilesystem`, `drop: [ALL]`,
/// `allowPrivilegeEscalation: false` and a group of its volumes.
fn specification(image: &Image, run: &Run) -> Value {
    let mounts = run.mounts.iter().map(|(from, to, mode)| {
        json!({"source": from, "destination": to, "type": "bind", "options": ["rbind", mode, "nosuid", "nodev"]})
    });
    let system = [
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
        json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=755"]}),
    ];
    let kinds = ["pid", "network", "ipc", "uts", "mount"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": USER, "gid": USER, "additionalGids": [GROUP]},
            "args": ["/usr/local/bin/gander", "run"],
            "env": run.variables,
            "cwd": "/var/lib/gander",
            "capabilities": {},
            "noNewPrivileges": true,
        },
        "root": {"path": image.root, "readonly": true},
        "hostname": "gander-0",
        "mounts": system.into_iter().chain(mounts).collect::<Vec<_>>(),
        "linux": {"namespaces": kinds.map(|kind| json!({"type": kind}))},
    })
}

/// A volume as Kubernetes hands it over for `fsGroup`: of root, open to a group.
fn volume() -> tempfile::TempDir {
    let volume = tempfile::tempdir().unwrap();
    open_to_the_group(volume.path());
    volume
}

/// What Kubernetes does to each file of a volume whose root has not the group yet.
fn open_to_the_group(path: &Path) {
    chown(path, None, Some(GROUP)).expect("the tests run as root");
    let mode = fs::metadata(path).unwrap().permissions().mode();
    let is_directory = path.is_dir();
    fs::set_permissions(path, Permissions::from_mode(mode | if is_directory { 0o2770 } else { 0o660 })).unwrap();
    if is_directory {
        fs::read_dir(path).unwrap().for_each(|entry| open_to_the_group(&entry.unwrap().path()));
    }
}

/// Files as the kubelet mounts those of a Secret or a ConfigMap: links to a directory that is exchanged as a whole.
fn project(directory: &Path, version: &str, files: &[(&str, String)]) {
    let data = directory.join(format!("..{version}"));
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    for (name, text) in files {
        fs::write(data.join(name), text).unwrap();
        chown(data.join(name), Some(0), Some(GROUP)).unwrap();
        fs::set_permissions(data.join(name), Permissions::from_mode(0o440)).unwrap();
        let link = directory.join(name);
        if link.symlink_metadata().is_err() {
            symlink(format!("..data/{name}"), link).unwrap();
        }
    }
    symlink(format!("..{version}"), directory.join("..new")).unwrap();
    fs::rename(directory.join("..new"), directory.join("..data")).unwrap();
}

/// A directory of such files.
fn projected(files: &[(&str, String)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    project(directory.path(), "1", files);
    directory
}

/// Writes an alert where the container finds it, and sends it there.
fn send(container: &mut Container, volume: &Path, id: &str, state: &str) -> String {
    let file = volume.join("alert.json");
    fs::write(&file, json!({"servicepilot_event_id": id, "state": state}).to_string()).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    container.until("it is delivered", &["send", "--source", "servicepilot", "/var/lib/gander/alert.json"])
}

fn upstream() -> String {
    "GANDER_UPSTREAM__URL=http://127.0.0.1:8090/sqibs-api/v1/process".to_owned()
}

#[test]
fn the_image_runs_as_nobody_on_a_read_only_root_and_ends_in_order() {
    let (image, volume) = (Image::get(), volume());
    let run = Run {
        mounts: vec![(volume.path().to_owned(), "/var/lib/gander", "rw")],
        variables: vec![upstream(), format!("SERVICEPILOT_TOKEN={TOKEN}"), format!("CALLGOOSE_TOKEN={TOKEN}")],
    };
    let mut container = Container::start(image, &run);
    assert!(container.gander(&["health"]).0, "what HEALTHCHECK runs");
    assert!(send(&mut container, volume.path(), "e1", "CRITICAL").contains("delivered, created"));
    let status: Value = serde_json::from_str(&container.gander(&["status", "--json"]).1).unwrap();
    let confinement = &status["confinement"];
    assert_eq!((&confinement["system_calls"], &confinement["memory"]), (&json!("enforced"), &json!("enforced")));
    assert!(["enforced", "partly enforced", "not supported"].contains(&confinement["files"].as_str().unwrap()));
    let data = fs::metadata(volume.path().join("data")).unwrap();
    assert_eq!(data.permissions().mode() & 0o777, 0o700);
    assert!(!container.log().contains("ERROR"), "{}", container.log());
    assert_eq!(container.terminate(), Some(0));

    // Another pod of the volume: every file belongs to the group now, and is open to it.
    open_to_the_group(volume.path());
    let mut again = Container::start(image, &run);
    assert!(again.gander(&["events", "list"]).1.contains("e1"), "the journal is the one of before");
    assert!(send(&mut again, volume.path(), "e2", "CRITICAL").contains("delivered, created"));
    assert_eq!(again.terminate(), Some(0));
}

#[test]
fn the_configuration_for_kubernetes_runs_from_its_mounts_and_what_changes_there_needs_no_restart() {
    let (image, volume) = (Image::get(), volume());
    let base = root().join("config/deploy/kubernetes/base");
    let read = |name: &'static str| (name, fs::read_to_string(base.join(name)).unwrap());
    let configuration = projected(&["gander.yaml", "servicepilot.yaml", "callgoose-filters.yaml"].map(read));
    let pair = || {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned(), "gander-0".to_owned()]).unwrap();
        [("tls.crt", pair.cert.pem()), ("tls.key", pair.signing_key.serialize_pem())]
    };
    let tls = projected(&pair());
    let secrets = |sender: &str| {
        [("callgoose-token", TOKEN), ("servicepilot-token", sender), ("admin-token", TOKEN)]
            .map(|(name, value)| (name, value.to_owned()))
    };
    let mounted = projected(&secrets("the-first-token-of-all"));
    let run = Run {
        mounts: vec![
            (volume.path().to_owned(), "/var/lib/gander", "rw"),
            (configuration.path().to_owned(), "/etc/gander", "ro"),
            (tls.path().to_owned(), "/run/secrets/gander-tls", "ro"),
            (mounted.path().to_owned(), "/run/secrets/gander", "ro"),
        ],
        variables: vec![upstream(), "GANDER_UPSTREAM__PROXY=off".to_owned(), format!("CALLGOOSE_TOKEN={TOKEN}")],
    };
    let mut container = Container::start(image, &run);
    assert!(send(&mut container, volume.path(), "e1", "CRITICAL").contains("delivered, created"));
    let (fine, said) = container.gander(&["check"]);
    assert!(fine, "{said}");
    // `gander send` reads the new token, and the new certificate, at once; the relay is not restarted and has to have
    // them, too.
    project(mounted.path(), "2", &secrets("the-second-token-of-all"));
    assert!(send(&mut container, volume.path(), "e2", "CRITICAL").contains("delivered, created"));
    project(tls.path(), "2", &pair());
    assert!(send(&mut container, volume.path(), "e3", "CRITICAL").contains("delivered, created"));
    let (name, rules) = read("servicepilot.yaml");
    let rules = rules.replace("[CRITICAL, ALARM, PROBLEM]", "[CRITICAL, ALARM, PROBLEM, DOWN]");
    let others = ["gander.yaml", "callgoose-filters.yaml"].map(read);
    project(configuration.path(), "2", &[&[(name, rules)], &others[..]].concat());
    assert!(send(&mut container, volume.path(), "e4", "DOWN").contains("delivered, created"));
    assert_eq!(container.log().matches("gander takes events").count(), 1);
    assert_eq!(container.terminate(), Some(0));
}

#[test]
fn the_environment_of_compose_runs_in_the_image() {
    let (image, volume) = (Image::get(), volume());
    let relay = &services()["gander"];
    // Both are in one container here.
    let given = [("CALLGOOSE_URL", "http://127.0.0.1:8090/sqibs-api/v1/process")];
    let variables = environment(relay, &given).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mounts = vec![(volume.path().to_owned(), "/var/lib/gander", "rw")];
    let mut container = Container::start(image, &Run { mounts, variables });
    let words: Vec<&str> =
        relay["healthcheck"]["test"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(words[..2], ["CMD", "/usr/local/bin/gander"]);
    assert!(container.gander(&words[2..]).0);
    assert!(send(&mut container, volume.path(), "e1", "CRITICAL").contains("delivered, created"));
    assert_eq!(container.terminate(), Some(0));
}

#[test]
fn the_image_says_how_it_is_run_and_both_containerfiles_end_alike() {
    let [whole, prebuilt] = ["Containerfile", "config/deploy/container/Containerfile"]
        .map(|path| fs::read_to_string(root().join(path)).unwrap());
    let end = |text: &str| {
        let (_, end) = text.split_once("# An empty directory").unwrap();
        end.lines().filter(|line| !line.ends_with(" /usr/local/bin/gander")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(end(&whole), end(&prebuilt));
    let Some(settings) = &Image::get().settings else { return };
    for (name, expected) in [
        ("User", json!("65532:65532")),
        ("WorkingDir", json!("/var/lib/gander")),
        ("Entrypoint", json!(["/usr/local/bin/gander"])),
        ("Cmd", json!(["run"])),
        ("StopSignal", json!("SIGTERM")),
        ("Volumes", json!({"/var/lib/gander": {}})),
        ("ExposedPorts", json!({"8443/tcp": {}})),
    ] {
        assert_eq!(settings[name], expected, "{name}");
    }
    assert_eq!(settings["Healthcheck"]["Test"], json!(["CMD", "/usr/local/bin/gander", "health"]));
}
