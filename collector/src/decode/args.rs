//! The first four arguments of a system call, in words.
//!
//! The kernel logs a0 to a3 as bare numbers. Which of them is a flag word, a command, a descriptor, a signal depends on
//! the call; those of interest are described here, the others (pointers, lengths) are left out.

use super::flags::{
    at_flags, bpf_command, clone_flags, map_flags, mount_flags, namespace_flags, open_flags,
    prctl_operation, protection, ptrace_request, umount_flags,
};
use super::names::{signal_name, socket_family, socket_type};
use super::syscall::Syscall;
use super::syscalls::{ARCH_I386, ARCH_IO_URING};

mod more;

/// Describes the arguments of a call by name, in order: `[("request", "PTRACE_ATTACH"), ("pid", "77")]`. Empty for a
/// call that is not known here. Process ids are those of the caller's own namespace.
pub fn describe_args(call: &Syscall<'_>) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if let Some(name) = call.name() {
        describe(call.arch, name, call.args, &mut |name, text| {
            out.push((name, text));
        });
    }
    out
}

/// The same for a call of which architecture (`AUDIT_ARCH_*`), name and registers are known: each argument is given to `add`.
pub fn describe(arch: u32, call: &str, args: [u64; 4], add: &mut dyn FnMut(&'static str, String)) {
    // The kernel does not log what an io_uring operation was given.
    if arch == ARCH_IO_URING {
        return;
    }
    let [a0, a1, a2, a3] = args;
    let open = |flags: u64| open_flags(arch, flags);
    match call {
        "mount" => add("flags", mount_flags(a3)),
        "umount2" => add("flags", umount_flags(a1)),
        // Its flags, a4, are not logged: only the two directories are.
        "move_mount" => {
            add("from", dirfd(a0));
            add("to", dirfd(a2));
        }
        "open_tree" | "open_tree_attr" => {
            add("dir", dirfd(a0));
            add("flags", open_tree_flags(a2));
        }
        "fsopen" => add("flags", hex(a1)),
        "fsmount" => {
            add("fs", fd(a0));
            add("flags", hex(a1));
            add("attributes", hex(a2));
        }
        "fsconfig" => {
            add("fs", fd(a0));
            add("command", fsconfig_command(a1));
        }
        "mount_setattr" => {
            add("dir", dirfd(a0));
            add("flags", at_flags(a2));
        }
        "ptrace" => {
            add("request", named(ptrace_request(a0), a0));
            add("pid", int(a1));
        }
        "process_vm_readv" | "process_vm_writev" | "kcmp" => add("pid", int(a0)),
        "pidfd_open" => add("pid", int(a0)),
        "pidfd_getfd" => {
            add("pidfd", fd(a0));
            add("fd", fd(a1));
        }
        "kill" => {
            add("pid", int(a0));
            add("signal", signal(a1));
        }
        "tkill" => {
            add("tid", int(a0));
            add("signal", signal(a1));
        }
        "tgkill" => {
            add("pid", int(a0));
            add("tid", int(a1));
            add("signal", signal(a2));
        }
        // On aarch64 and x86_64 alike the flags come first.
        "clone" => add("flags", clone_flags(a0)),
        "unshare" => add("flags", namespace_flags(a0)),
        "setns" => {
            add("fd", fd(a0));
            add("type", namespace_flags(a1));
        }
        "open" => add("flags", open(a1)),
        "creat" => add("mode", octal(a1)),
        "openat" | "open_by_handle_at" => {
            add("dir", dirfd(a0));
            add("flags", open(a2));
            if a2 & 0o100 != 0 && call == "openat" {
                add("mode", octal(a3));
            }
        }
        "openat2" | "name_to_handle_at" => add("dir", dirfd(a0)),
        "execveat" => add("dir", dirfd(a0)),
        "unlinkat" => {
            add("dir", dirfd(a0));
            add(
                "flags",
                if a2 == 0x200 {
                    "AT_REMOVEDIR".to_owned()
                } else {
                    hex(a2)
                },
            );
        }
        "mkdirat" | "mknodat" | "fchmodat" | "fchmodat2" => {
            add("dir", dirfd(a0));
            add("mode", octal(a2));
        }
        "mkdir" | "mknod" | "chmod" => add("mode", octal(a1)),
        "fchmod" => {
            add("fd", fd(a0));
            add("mode", octal(a1));
        }
        "chown" | "lchown" | "fchown" => {
            add("owner", id(a1));
            add("group", id(a2));
        }
        "fchownat" => {
            add("dir", dirfd(a0));
            add("owner", id(a2));
            add("group", id(a3));
        }
        "setuid" | "setgid" | "setfsuid" | "setfsgid" => add("id", id(a0)),
        "setreuid" | "setregid" => {
            add("real", id(a0));
            add("effective", id(a1));
        }
        "setresuid" | "setresgid" => {
            add("real", id(a0));
            add("effective", id(a1));
            add("saved", id(a2));
        }
        "socket" | "socketpair" => {
            add("family", named(socket_family(a0), a0));
            add("type", named(socket_type(a1), a1));
            add("protocol", a2.to_string());
        }
        "connect" | "bind" | "accept" | "getpeername" | "getsockname" => add("fd", fd(a0)),
        "mmap" if arch != ARCH_I386 => {
            add("protection", protection(a2));
            add("flags", map_flags(a3));
        }
        "mmap2" => {
            add("protection", protection(a2));
            add("flags", map_flags(a3));
        }
        "mprotect" | "pkey_mprotect" => add("protection", protection(a2)),
        "bpf" => add("command", named(bpf_command(a0), a0)),
        "prctl" => {
            add("operation", named(prctl_operation(a0), a0));
            add("argument", hex(a1));
        }
        "seccomp" => {
            const OPERATIONS: [&str; 4] = [
                "SECCOMP_SET_MODE_STRICT",
                "SECCOMP_SET_MODE_FILTER",
                "SECCOMP_GET_ACTION_AVAIL",
                "SECCOMP_GET_NOTIF_SIZES",
            ];
            add(
                "operation",
                named(
                    OPERATIONS
                        .get(usize::try_from(a0).unwrap_or(usize::MAX))
                        .copied(),
                    a0,
                ),
            );
            if a0 == 1 {
                add("flags", more::seccomp_flags(a1));
            }
        }
        "memfd_create" => {
            const MEMFD: &[(u64, &str)] = &[
                (1, "MFD_CLOEXEC"),
                (2, "MFD_ALLOW_SEALING"),
                (4, "MFD_HUGETLB"),
                (8, "MFD_NOEXEC_SEAL"),
                (16, "MFD_EXEC"),
            ];
            add("flags", super::names::flags_text(a1, MEMFD, "0"));
        }
        "finit_module" => {
            add("fd", fd(a0));
            add("flags", more::module_flags(a2));
        }
        "exit" | "exit_group" => add("status", int(a0)),
        "umask" => add("mask", octal(a0)),
        _ => more::describe(arch, call, args, add),
    }
}

/// Flags of open_tree(2), `include/uapi/linux/mount.h`.
fn open_tree_flags(flags: u64) -> String {
    let mut text = if flags & 1 != 0 {
        "OPEN_TREE_CLONE".to_owned()
    } else {
        String::new()
    };
    // OPEN_TREE_CLOEXEC is O_CLOEXEC.
    for (bits, name) in [(0o2_000_000, "OPEN_TREE_CLOEXEC")] {
        if flags & bits != 0 {
            text = if text.is_empty() {
                name.to_owned()
            } else {
                format!("{text}|{name}")
            };
        }
    }
    match flags & !(1 | 0o2_000_000) {
        0 if text.is_empty() => "0".to_owned(),
        0 => text,
        rest if text.is_empty() => at_flags(rest),
        rest => format!("{text}|{}", at_flags(rest)),
    }
}

/// Command of fsconfig(2), `enum fsconfig_command`.
fn fsconfig_command(command: u64) -> String {
    const COMMANDS: [&str; 9] = [
        "FSCONFIG_SET_FLAG",
        "FSCONFIG_SET_STRING",
        "FSCONFIG_SET_BINARY",
        "FSCONFIG_SET_PATH",
        "FSCONFIG_SET_PATH_EMPTY",
        "FSCONFIG_SET_FD",
        "FSCONFIG_CMD_CREATE",
        "FSCONFIG_CMD_RECONFIGURE",
        "FSCONFIG_CMD_CREATE_EXCL",
    ];
    named(
        COMMANDS
            .get(usize::try_from(command).unwrap_or(usize::MAX))
            .copied(),
        command,
    )
}

fn named(name: Option<&'static str>, number: u64) -> String {
    name.map_or_else(|| hex(number), str::to_owned)
}

fn signal(number: u64) -> String {
    signal_name(number).map_or_else(|| number.to_string(), str::to_owned)
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}

fn octal(number: u64) -> String {
    format!("{number:#05o}")
}

/// A signed 32-bit number: registers hold it with or without its sign extended.
#[allow(clippy::cast_possible_truncation)]
fn int(number: u64) -> String {
    (number as i32).to_string()
}

/// A file descriptor.
fn fd(number: u64) -> String {
    int(number)
}

/// A directory descriptor.
fn dirfd(number: u64) -> String {
    match int(number) {
        text if text == "-100" => "AT_FDCWD".to_owned(),
        text => text,
    }
}

/// A user or group id, `-1` for "leave it".
fn id(number: u64) -> String {
    let low = number & 0xffff_ffff;
    if low == 0xffff_ffff {
        "-1".to_owned()
    } else {
        low.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ARCH_X86_64, syscall_number};
    use super::*;
    use crate::record::{Record, RecordType};

    fn describe(name: &str, args: [u64; 4]) -> Vec<(&'static str, String)> {
        let number = syscall_number(ARCH_X86_64, name).unwrap();
        let [a0, a1, a2, a3] = args;
        let body = format!(
            "arch=c000003e syscall={number} success=yes exit=0 a0={a0:x} a1={a1:x} a2={a2:x} a3={a3:x}"
        );
        let call = Syscall::from_record(Record {
            kind: RecordType::SYSCALL,
            body: body.as_bytes(),
        });
        describe_args(&call.unwrap())
    }

    #[test]
    fn a_call_of_the_old_socket_interface_is_named() {
        let mut out = Vec::new();
        super::describe(ARCH_I386, "socketcall", [3, 0, 0, 0], &mut |n, t| {
            out.push((n, t))
        });
        assert_eq!(out, [("call", "connect".to_owned())]);
    }

    #[test]
    fn no_value_of_any_call_is_too_strange() {
        for (_, name) in super::super::syscalls::syscalls_of(ARCH_X86_64) {
            for value in [0, 1, 31, 0xff, 0xffff_ffff, u64::MAX, 1 << 63, 0x8000_0000] {
                super::describe(ARCH_X86_64, name, [value; 4], &mut |_, text| {
                    assert!(!text.is_empty(), "{name} {value:#x}");
                });
            }
        }
    }

    #[test]
    fn calls_of_interest_are_described() {
        let expect = |name, args, expected: &[(&'static str, &str)]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(n, t)| (*n, (*t).to_owned()))
                .collect();
            assert_eq!(describe(name, args), expected, "{name}");
        };
        expect("mount", [1, 2, 3, 0x1000], &[("flags", "MS_BIND")]);
        expect(
            "ptrace",
            [16, 77, 0, 0],
            &[("request", "PTRACE_ATTACH"), ("pid", "77")],
        );
        expect(
            "ptrace",
            [0x9999, 0xffff_ffff, 0, 0],
            &[("request", "0x9999"), ("pid", "-1")],
        );
        let dir = u64::from(-100i32 as u32);
        expect(
            "openat",
            [dir, 0, 0o101, 0o644],
            &[
                ("dir", "AT_FDCWD"),
                ("flags", "O_WRONLY|O_CREAT"),
                ("mode", "0o644"),
            ],
        );
        expect(
            "openat",
            [-100i64 as u64, 0, 0, 0],
            &[("dir", "AT_FDCWD"), ("flags", "O_RDONLY")],
        );
        expect(
            "socket",
            [16, 0x80003, 9, 0],
            &[("family", "netlink"), ("type", "raw"), ("protocol", "9")],
        );
        expect(
            "kill",
            [-1i64 as u64, 9, 0, 0],
            &[("pid", "-1"), ("signal", "SIGKILL")],
        );
        expect(
            "open_tree",
            [dir, 0, 0x81001 | 0x8000, 0],
            &[
                ("dir", "AT_FDCWD"),
                (
                    "flags",
                    "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH|AT_RECURSIVE",
                ),
            ],
        );
        expect(
            "move_mount",
            [5, 0, dir, 0],
            &[("from", "5"), ("to", "AT_FDCWD")],
        );
        expect(
            "fsconfig",
            [3, 6, 0, 0],
            &[("fs", "3"), ("command", "FSCONFIG_CMD_CREATE")],
        );
        expect("getpid", [0; 4], &[]);
        expect("keyctl", [11, 5, 0, 0], &[("operation", "KEYCTL_READ")]);
        expect(
            "ioctl",
            [0, 0x5412, 0, 0],
            &[("fd", "0"), ("command", "TIOCSTI")],
        );
        expect(
            "ioctl",
            [3, 0x1234, 0, 0],
            &[("fd", "3"), ("command", "0x1234")],
        );
        expect(
            "renameat2",
            [dir, 0, 4, 0],
            &[("from", "AT_FDCWD"), ("to", "4")],
        );
        expect(
            "sendto",
            [3, 0, 8, 0x4040],
            &[
                ("fd", "3"),
                ("length", "8"),
                ("flags", "MSG_DONTWAIT|MSG_NOSIGNAL"),
            ],
        );
        expect(
            "accept4",
            [3, 0, 0, 0x80800],
            &[("fd", "3"), ("flags", "SOCK_NONBLOCK|SOCK_CLOEXEC")],
        );
        expect(
            "faccessat",
            [dir, 0, 5, 0],
            &[("dir", "AT_FDCWD"), ("mode", "R_OK|X_OK")],
        );
        expect("access", [0, 0, 0, 0], &[("mode", "F_OK")]);
        expect(
            "fcntl",
            [3, 1033, 0, 0],
            &[("fd", "3"), ("command", "F_ADD_SEALS")],
        );
        expect(
            "reboot",
            [0xfee1_dead, 0x2812_1969, 0x4321_fedc, 0],
            &[("command", "LINUX_REBOOT_CMD_POWER_OFF")],
        );
        expect(
            "personality",
            [0x004_0000, 0, 0, 0],
            &[("persona", "PER_LINUX|ADDR_NO_RANDOMIZE")],
        );
        expect(
            "personality",
            [0xffff_ffff, 0, 0, 0],
            &[("persona", "query")],
        );
        expect(
            "fanotify_init",
            [0x4c, 0, 0, 0],
            &[(
                "flags",
                "FAN_CLASS_CONTENT|FAN_ENABLE_AUDIT|FAN_CLASS_PRE_CONTENT",
            )],
        );
        expect(
            "prlimit64",
            [0, 7, 0, 0],
            &[("pid", "0"), ("resource", "RLIMIT_NOFILE")],
        );
        expect(
            "arch_prctl",
            [0x1002, 0, 0, 0],
            &[("operation", "ARCH_SET_FS")],
        );
        expect(
            "io_uring_register",
            [4, 11, 0, 0],
            &[("fd", "4"), ("operation", "IORING_REGISTER_RESTRICTIONS")],
        );
        expect(
            "perf_event_open",
            [0, -1i64 as u64, 2, -1i64 as u64],
            &[("pid", "-1"), ("cpu", "2"), ("group", "-1")],
        );
    }
}
