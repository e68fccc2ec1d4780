//! Gives up what the process does not need, so that a fault in it is worth little to whoever finds one: it writes only
//! below its own directories, starts no program, is not read by its neighbours, and gains no privileges.
//!
//! It is applied before the first thread starts, since Landlock confines a thread and those that it starts. What the
//! kernel does not have is told and does not keep the relay from running.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// The directories and files that the process goes on using, beside those that every program reads.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
}

/// One kind of confinement, as far as it could be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Enforced,
    /// An older kernel does a part of it.
    Partly,
    /// The kernel, or this machine's architecture, does not have it.
    Unsupported,
    Failed(String),
}

/// The parts of the confinement, each with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Landlock: files.
    pub files: Outcome,
    /// seccomp: system calls.
    pub system_calls: Outcome,
    /// No core dump, and no look into the memory by another process of the same user.
    pub memory: Outcome,
}

/// The report of this process; none where it is not confined.
static REPORT: OnceLock<Report> = OnceLock::new();

/// Confines the process for the rest of its life. Has to come before the first thread.
pub(crate) fn apply(paths: &Paths) -> Report {
    let report = Report {
        memory: set_dumpable_behavior(DumpableBehavior::NotDumpable).map_or_else(failed, |()| Outcome::Enforced),
        files: confine_files(paths).unwrap_or_else(failed),
        system_calls: deny_system_calls().unwrap_or_else(Outcome::Failed),
    };
    REPORT.get_or_init(|| report).clone()
}

/// The confinement of this process; none where it is off.
pub(crate) fn report() -> Option<&'static Report> {
    REPORT.get()
}

/// The process may read only what it was started with, so that a file elsewhere can't be read before a restart.
pub(crate) fn limits_reading() -> bool {
    report().is_some_and(|report| matches!(report.files, Outcome::Enforced | Outcome::Partly))
}

impl Outcome {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Outcome::Enforced => "enforced",
            Outcome::Partly => "partly enforced",
            Outcome::Unsupported => "not supported",
            Outcome::Failed(_) => "failed",
        }
    }

    /// The outcome, with the error if there was one.
    pub(crate) fn with_error(&self) -> String {
        match self {
            Outcome::Failed(error) => format!("failed: {error}"),
            outcome => outcome.as_str().to_owned(),
        }
    }
}

impl Report {
    /// Each part with its name.
    pub(crate) fn parts(&self) -> [(&'static str, &Outcome); 3] {
        [("files", &self.files), ("system_calls", &self.system_calls), ("memory", &self.memory)]
    }

    /// What an operator can do about each part that is not wholly enforced.
    pub(crate) fn remedies(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.parts().into_iter().filter_map(|(part, outcome)| {
            let remedy = match (outcome, part) {
                (Outcome::Enforced, _) => return None,
                (Outcome::Failed(_), _) => {
                    "remove the cause and restart the relay; or say `confinement: off`, if something else confines it"
                }
                (_, "files") => {
                    "a kernel with Landlock confines it (since 5.13, where the boot parameter `lsm` does not leave it out), \
                     one of 6.10 or newer wholly; the unit for systemd does so on older ones"
                }
                _ => "a kernel with seccomp filters, on x86_64, aarch64 or riscv64, confines it",
            };
            Some((part, remedy))
        })
    }
}

fn failed(error: impl std::fmt::Display) -> Outcome {
    Outcome::Failed(error.to_string())
}

/// Landlock: reading below the system's directories and `paths.read`, writing below `paths.write`, executing nothing.
fn confine_files(paths: &Paths) -> Result<Outcome, RulesetError> {
    // Mapping a shared library, which name services are, is reading.
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_write(FILES_ABI) | read;
    let devices: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(FILES_ABI))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(DEVICES, devices))?
        .add_rules(path_beneath_rules(&paths.read, read))?
        .add_rules(path_beneath_rules(&paths.write, write))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Outcome::Enforced,
        RulesetStatus::PartiallyEnforced => Outcome::Partly,
        RulesetStatus::NotEnforced => Outcome::Unsupported,
    })
}

/// seccomp: what no relay asks of a kernel, and an intruder would, is answered with EPERM.
///
/// What is left is not listed one by one: the next C library or kernel may use another call for the same purpose, and an
/// alert would be lost for it. The unit for systemd does list them, where an operator can add to them.
fn deny_system_calls() -> Result<Outcome, String> {
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(Outcome::Unsupported);
    };
    let program = filter(architecture).map_err(|error| error.to_string())?;
    match seccompiler::apply_filter_all_threads(&program) {
        Ok(()) => Ok(Outcome::Enforced),
        Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error))
            if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) =>
        {
            Ok(Outcome::Unsupported)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The program that the kernel runs for each call.
fn filter(architecture: TargetArch) -> Result<BpfProgram, seccompiler::BackendError> {
    let errno = rustix::io::Errno::PERM.raw_os_error().unsigned_abs();
    let rules = SeccompFilter::new(denied()?, SeccompAction::Allow, SeccompAction::Errno(errno), architecture)?;
    // On x86_64 each call has a second number, of the x32 ABI, which no rule knows. No other number is that large.
    let refused = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, CALL_NUMBER_AT, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32_CALLS_FROM, 1),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno, 0),
    ];
    Ok(refused.into_iter().chain(BpfProgram::try_from(rules)?).collect())
}

/// One that jumps over so many others where its comparison is false.
fn instruction(code: u32, value: u32, over_if_false: u8) -> seccompiler::sock_filter {
    // Codes have a byte.
    seccompiler::sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt: 0, jf: over_if_false, k: value }
}

/// The denied calls, with the arguments at which they are.
fn denied() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let whole = |call: &i64| (*call, Vec::new());
    let mut rules: BTreeMap<_, _> = DENIED.iter().chain(DENIED_HERE).map(whole).collect();
    let families = FAMILIES
        .into_iter()
        .map(|family| SeccompCondition::new(0, Width::Dword, Compare::Ne, u64::try_from(family).unwrap_or(u64::MAX)))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(families)?]);
    // Memory that can be written and run.
    let both = u64::try_from(libc::PROT_WRITE | libc::PROT_EXEC).unwrap_or(u64::MAX);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let condition = SeccompCondition::new(2, Width::Dword, Compare::MaskedEq(both), both)?;
        rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
    }
    Ok(rules)
}

/// The directories of these files: by the names that they were given, and by those that links lead to now; and the
/// directories of the links on the way, which may lead elsewhere later.
pub(crate) fn directories<'a>(files: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
    let above = |file: &Path| match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let mut directories: Vec<_> = files
        .into_iter()
        .flat_map(|file| {
            let links = file.ancestors().filter(|part| part.is_symlink()).filter_map(above);
            [above(file), file.canonicalize().ok().and_then(|file| above(&file))].into_iter().flatten().chain(links)
        })
        .collect();
    directories.sort();
    directories.dedup();
    directories
}

/// The place of the number in what the kernel gives the program: `struct seccomp_data`.
const CALL_NUMBER_AT: u32 = 0;
/// The bit by which the kernel tells calls of the x32 ABI: `__X32_SYSCALL_BIT`.
const X32_CALLS_FROM: u32 = 0x4000_0000;

/// The rights that are asked for; an older kernel enforces those that it has.
const FILES_ABI: ABI = ABI::V5;

/// Read by the C library, name services, the roots of trust, and for the metrics of the process.
const SYSTEM: [&str; 12] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/opt",
    "/run",
    "/var/run",
    "/var/lib/sss",
    "/proc",
    "/sys",
];

const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/tty"];

/// Address families of the sockets that a relay opens; netlink is asked by name resolution.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Programs, other processes, mounts, modules, clocks, users, keys, and ways around other rules.
const DENIED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
];

/// Those that only this architecture has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    /// In a process of its own, since nothing takes a confinement back.
    #[test]
    fn a_confined_process_writes_elsewhere_reads_elsewhere_and_starts_programs_in_vain() {
        const ALONE: &str = "GANDER_TEST_CONFINED";
        let name =
            "confinement::tests::a_confined_process_writes_elsewhere_reads_elsewhere_and_starts_programs_in_vain";
        if let Some(directory) = std::env::var_os(ALONE) {
            confined(Path::new(&directory));
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        for part in ["own", "given", "elsewhere"] {
            fs::create_dir(directory.path().join(part)).unwrap();
            fs::write(directory.path().join(part).join("file"), "text").unwrap();
        }
        let mut process = Command::new(std::env::current_exe().unwrap());
        let ended = process
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, directory.path())
            .env("SQLITE_TMPDIR", directory.path().join("own"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{said}");
        assert_eq!(fs::read_to_string(directory.path().join("own/file")).unwrap(), "written");
    }

    /// Runs a filter as the kernel does, for a call without arguments. Returns its answer.
    fn answer(program: &BpfProgram, call: i64) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let one = &program[at];
            let code = u32::from(one.code);
            at += 1;
            let holds = match code & !(libc::BPF_K | libc::BPF_X) {
                0x20 => {
                    value = match one.k {
                        0 => u32::try_from(call).unwrap(),
                        4 => 62 | 0xc000_0000,
                        _ => 0,
                    };
                    continue;
                }
                0x54 => {
                    value &= one.k;
                    continue;
                }
                0x06 => return one.k,
                0x05 => {
                    at += usize::try_from(one.k).unwrap();
                    continue;
                }
                0x15 => value == one.k,
                0x25 => value > one.k,
                0x35 => value >= one.k,
                other => panic!("instruction {other:#x}"),
            };
            at += usize::from(if holds { one.jt } else { one.jf });
        }
    }

    #[test]
    fn a_call_by_its_number_of_the_x32_abi_is_refused_too() {
        let program = filter(TargetArch::x86_64).unwrap();
        let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
        assert_eq!(answer(&program, libc::SYS_getpid), libc::SECCOMP_RET_ALLOW);
        assert_eq!(answer(&program, libc::SYS_execve), eperm);
        for call in [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_getpid, 520] {
            assert_eq!(answer(&program, call | i64::from(X32_CALLS_FROM)), eperm, "{call}");
        }
    }

    fn confined(directory: &Path) {
        let at = |name: &str| directory.join(name);
        let report = apply(&Paths { read: directories([at("given/file").as_path()]), write: vec![at("own")] });
        assert_eq!(report.system_calls, Outcome::Enforced);
        assert_eq!(report.memory, Outcome::Enforced);
        let denied = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        denied(Command::new("true").status().unwrap_err());
        let family = rustix::net::AddressFamily::PACKET;
        let packets = rustix::net::socket(family, rustix::net::SocketType::DGRAM, None);
        denied(packets.unwrap_err().into());
        fs::write(at("own/file"), "written").unwrap();
        fs::rename(at("own/file"), at("own/moved")).unwrap();
        fs::rename(at("own/moved"), at("own/file")).unwrap();
        assert!(fs::read_to_string("/etc/passwd").is_ok() && fs::read_to_string(at("given/file")).is_ok());
        // What the kernel does not have is told, and hides nothing of the rest.
        if report.files == Outcome::Unsupported {
            return;
        }
        // Of a thread that came later, too.
        let other = at("elsewhere");
        std::thread::spawn(move || {
            denied(fs::write(other.join("new"), "").unwrap_err());
            denied(fs::read(other.join("file")).unwrap_err());
        })
        .join()
        .unwrap();
        denied(fs::write(at("given/file"), "").unwrap_err());
        // A sort that is too large for memory; SQLite looks for a place by the variable that is set for this process.
        let sort = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                    SELECT count(*) FROM (SELECT printf('%0400d', i * 7919 % 50000) AS text FROM n ORDER BY text LIMIT 49999)";
        let database = rusqlite::Connection::open(at("own/sorted.db")).unwrap();
        assert_eq!(database.query_row(sort, [], |row| row.get::<_, i64>(0)).unwrap(), 49_999);
        denied(fs::remove_file(at("given/file")).unwrap_err());
    }
}
