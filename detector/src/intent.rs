//! Does a call mean to change a file?
//!
//! Audit records the opening of a file, not the writes through it, so the intention is read from the call and its
//! flags (`include/uapi/asm-generic/fcntl.h`; the bits used here are the same on x86_64, i386 and aarch64).

use collector::record::RecordType;
use enricher::activity::{Activity, SyscallInfo};

/// `O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND`. The access mode 3 of ioctl-only opens has both low bits.
const WRITE_FLAGS: u64 = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000;

/// Keys of kernel rules that let only changes through (`perm=wa`, write flags).
const WRITE_KEYS: [&str; 2] = ["sm-trusted", "sm-proc"];

/// Does the call of this activity mean to create, write, truncate, rename, remove or change the attributes of a file?
pub(crate) fn changes_file(activity: &Activity) -> bool {
    let Some(call) = &activity.syscall else {
        return false;
    };
    // Of several operations of a ring in one event none hides behind the first.
    match call.operations.as_slice() {
        [] => changes(activity, call, &call.name),
        all => all.iter().any(|name| changes(activity, call, name)),
    }
}

fn changes(activity: &Activity, call: &SyscallInfo, name: &str) -> bool {
    match name {
        // The registers of a ring's operation are not recorded: what the kernel rule and the PATH records say must do.
        "open" | "openat" | "openat2" if call.arch == "io_uring" => {
            activity.paths.iter().any(|p| p.nametype == "CREATE")
                || activity
                    .keys
                    .iter()
                    .any(|k| WRITE_KEYS.contains(&k.as_str()))
        }
        "open" => flags_write(call, 1),
        "openat" | "open_by_handle_at" => flags_write(call, 2),
        "openat2" => openat2_flags(activity).is_some_and(|flags| flags & WRITE_FLAGS != 0),
        name => CHANGING_CALLS.contains(&name),
    }
}

fn flags_write(call: &SyscallInfo, register: usize) -> bool {
    call.args[register] & WRITE_FLAGS != 0
}

/// `oflag=0102 mode=0 resolve=0x0`: the flags lie in memory, the kernel writes them into a record of their own.
fn openat2_flags(activity: &Activity) -> Option<u64> {
    let record = activity.event.record(RecordType::OPENAT2)?;
    let body = std::str::from_utf8(record.body).ok()?;
    let digits = body
        .split_ascii_whitespace()
        .find_map(|field| field.strip_prefix("oflag="))?;
    u64::from_str_radix(digits, 8).ok()
}

/// Calls that change a file or a directory whatever their arguments are.
const CHANGING_CALLS: [&str; 45] = [
    "creat",
    "truncate",
    "truncate64",
    "ftruncate",
    "ftruncate64",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "chown32",
    "fchown32",
    "lchown32",
    "setxattr",
    "setxattrat",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "removexattrat",
    "lremovexattr",
    "fremovexattr",
    "utime",
    "utimes",
    "utimensat",
    "futimesat",
    "utimensat_time64",
    "file_setattr",
];

#[cfg(test)]
mod tests {
    use super::*;
    use collector::Event;
    use collector::event::EventId;
    use enricher::activity::{Attribution, Category, PathInfo, Phase, Process};

    fn call(name: &str, arch: &str, args: [u64; 4]) -> Activity {
        Activity {
            event: Event::new(EventId::local(1, 1)),
            category: Category::File,
            phase: Phase::Running,
            entered: false,
            health_check: false,
            syscall: Some(SyscallInfo {
                name: name.into(),
                arch: arch.into(),
                args,
                ..SyscallInfo::default()
            }),
            process: Process::default(),
            container: None,
            attribution: Attribution::default(),
            paths: Vec::new(),
            socket: None,
            target: None,
            keys: Vec::new(),
            alerts: Vec::new(),
        }
    }

    #[test]
    fn flags_tell_reading_from_writing() {
        assert!(
            !changes_file(&call("openat", "x86_64", [0, 0, 0o2000000, 0])),
            "O_CLOEXEC alone reads"
        );
        assert!(changes_file(&call("openat", "x86_64", [0, 0, 0o2, 0])));
        assert!(changes_file(&call("open", "i386", [0, 0o101, 0, 0])));
        assert!(
            changes_file(&call("openat", "x86_64", [0, 0, 0o2000, 0])),
            "O_APPEND"
        );
        assert!(changes_file(&call("renameat2", "x86_64", [0; 4])));
        assert!(!changes_file(&call("execve", "x86_64", [0; 4])));
        let mut openat2 = call("openat2", "x86_64", [0; 4]);
        assert!(!changes_file(&openat2));
        openat2
            .event
            .push(RecordType::OPENAT2, b"oflag=0101 mode=0600 resolve=0x0");
        assert!(changes_file(&openat2));
    }

    #[test]
    fn a_ring_is_judged_by_its_paths_and_keys() {
        let mut ring = call("openat", "io_uring", [0; 4]);
        assert!(!changes_file(&ring));
        ring.keys.push("sm-proc".into());
        assert!(changes_file(&ring));
        ring.keys.clear();
        ring.paths.push(PathInfo {
            nametype: "CREATE".into(),
            ..PathInfo::default()
        });
        assert!(changes_file(&ring));
        let mut several = call("socket", "io_uring", [0; 4]);
        several.syscall.as_mut().unwrap().operations = vec!["socket".into(), "unlinkat".into()];
        assert!(changes_file(&several));
    }
}
