//! More calls: files, sockets, keys, limits, clocks, the machine. Numbers from the headers of Linux 6.1, checked with a compiler.

use super::super::flags::{at_flags, open_flags};
use super::super::names::flags_text;
use super::{dirfd, fd, hex, int, named, signal};

/// Bits and their names.
type Bits = &'static [(u64, &'static str)];

/// `fcntl.h`, access(2).
const ACCESS: Bits = &[(4, "R_OK"), (2, "W_OK"), (1, "X_OK")];
/// `linux/socket.h`.
const MESSAGE: Bits = &[
    (0x1, "MSG_OOB"),
    (0x2, "MSG_PEEK"),
    (0x4, "MSG_DONTROUTE"),
    (0x8, "MSG_CTRUNC"),
    (0x20, "MSG_TRUNC"),
    (0x40, "MSG_DONTWAIT"),
    (0x80, "MSG_EOR"),
    (0x100, "MSG_WAITALL"),
    (0x800, "MSG_CONFIRM"),
    (0x2000, "MSG_ERRQUEUE"),
    (0x4000, "MSG_NOSIGNAL"),
    (0x8000, "MSG_MORE"),
    (0x1_0000, "MSG_WAITFORONE"),
    (0x400_0000, "MSG_ZEROCOPY"),
    (0x2000_0000, "MSG_FASTOPEN"),
    (0x4000_0000, "MSG_CMSG_CLOEXEC"),
];
/// `linux/net.h`.
const SOCKET: Bits = &[(0x800, "SOCK_NONBLOCK"), (0x8_0000, "SOCK_CLOEXEC")];
/// `linux/fanotify.h`.
const FANOTIFY: Bits = &[
    (0x1, "FAN_CLOEXEC"),
    (0x2, "FAN_NONBLOCK"),
    (0x4, "FAN_CLASS_CONTENT"),
    (0x10, "FAN_UNLIMITED_QUEUE"),
    (0x20, "FAN_UNLIMITED_MARKS"),
    (0x40, "FAN_ENABLE_AUDIT"),
    (0x8, "FAN_CLASS_PRE_CONTENT"),
    (0x80, "FAN_REPORT_PIDFD"),
    (0x100, "FAN_REPORT_TID"),
    (0x200, "FAN_REPORT_FID"),
    (0x400, "FAN_REPORT_DIR_FID"),
    (0x800, "FAN_REPORT_NAME"),
    (0x1000, "FAN_REPORT_TARGET_FID"),
];
/// `linux/fanotify.h`.
const FANOTIFY_MARK: Bits = &[
    (0x1, "FAN_MARK_ADD"),
    (0x2, "FAN_MARK_REMOVE"),
    (0x4, "FAN_MARK_DONT_FOLLOW"),
    (0x8, "FAN_MARK_ONLYDIR"),
    (0x10, "FAN_MARK_MOUNT"),
    (0x20, "FAN_MARK_IGNORED_MASK"),
    (0x40, "FAN_MARK_IGNORED_SURV_MODIFY"),
    (0x80, "FAN_MARK_FLUSH"),
    (0x100, "FAN_MARK_FILESYSTEM"),
    (0x200, "FAN_MARK_EVICTABLE"),
    (0x400, "FAN_MARK_IGNORE"),
];
/// `linux/personality.h`.
const PERSONALITY: Bits = &[
    (0x2_0000, "UNAME26"),
    (0x4_0000, "ADDR_NO_RANDOMIZE"),
    (0x8_0000, "FDPIC_FUNCPTRS"),
    (0x10_0000, "MMAP_PAGE_ZERO"),
    (0x20_0000, "ADDR_COMPAT_LAYOUT"),
    (0x40_0000, "READ_IMPLIES_EXEC"),
    (0x80_0000, "ADDR_LIMIT_32BIT"),
    (0x100_0000, "SHORT_INODE"),
    (0x200_0000, "WHOLE_SECONDS"),
    (0x400_0000, "STICKY_TIMEOUTS"),
    (0x800_0000, "ADDR_LIMIT_3GB"),
];
/// `linux/ipc.h`.
const IPC: Bits = &[
    (0x200, "IPC_CREAT"),
    (0x400, "IPC_EXCL"),
    (0x800, "IPC_NOWAIT"),
];
/// `linux/module.h`.
const MODULE: Bits = &[
    (1, "MODULE_INIT_IGNORE_MODVERSIONS"),
    (2, "MODULE_INIT_IGNORE_VERMAGIC"),
    (4, "MODULE_INIT_COMPRESSED_FILE"),
];
/// `linux/kexec.h`.
const KEXEC: Bits = &[(1, "KEXEC_ON_CRASH"), (2, "KEXEC_PRESERVE_CONTEXT")];
/// `linux/seccomp.h`.
const SECCOMP_FILTER: Bits = &[
    (0x1, "SECCOMP_FILTER_FLAG_TSYNC"),
    (0x2, "SECCOMP_FILTER_FLAG_LOG"),
    (0x4, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    (0x8, "SECCOMP_FILTER_FLAG_NEW_LISTENER"),
    (0x10, "SECCOMP_FILTER_FLAG_TSYNC_ESRCH"),
    (0x20, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
];

/// `linux/keyctl.h`.
#[rustfmt::skip]
const KEYCTL: [&str; 33] = [
    "KEYCTL_GET_KEYRING_ID", "KEYCTL_JOIN_SESSION_KEYRING", "KEYCTL_UPDATE", "KEYCTL_REVOKE", "KEYCTL_CHOWN",
    "KEYCTL_SETPERM", "KEYCTL_DESCRIBE", "KEYCTL_CLEAR", "KEYCTL_LINK", "KEYCTL_UNLINK", "KEYCTL_SEARCH", "KEYCTL_READ",
    "KEYCTL_INSTANTIATE", "KEYCTL_NEGATE", "KEYCTL_SET_REQKEY_KEYRING", "KEYCTL_SET_TIMEOUT", "KEYCTL_ASSUME_AUTHORITY",
    "KEYCTL_GET_SECURITY", "KEYCTL_SESSION_TO_PARENT", "KEYCTL_REJECT", "KEYCTL_INSTANTIATE_IOV", "KEYCTL_INVALIDATE",
    "KEYCTL_GET_PERSISTENT", "KEYCTL_DH_COMPUTE", "KEYCTL_PKEY_QUERY", "KEYCTL_PKEY_ENCRYPT", "KEYCTL_PKEY_DECRYPT",
    "KEYCTL_PKEY_SIGN", "KEYCTL_PKEY_VERIFY", "KEYCTL_RESTRICT_KEYRING", "KEYCTL_MOVE", "KEYCTL_CAPABILITIES",
    "KEYCTL_WATCH_KEY",
];
/// `linux/net.h`, from 1 on.
#[rustfmt::skip]
const SOCKETCALL: [&str; 20] = [
    "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv", "sendto",
    "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
];
/// `asm-generic/resource.h`.
#[rustfmt::skip]
const LIMITS: [&str; 16] = [
    "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
    "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE",
    "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
];
/// `linux/io_uring.h`.
#[rustfmt::skip]
const URING_REGISTER: [&str; 26] = [
    "IORING_REGISTER_BUFFERS", "IORING_UNREGISTER_BUFFERS", "IORING_REGISTER_FILES", "IORING_UNREGISTER_FILES",
    "IORING_REGISTER_EVENTFD", "IORING_UNREGISTER_EVENTFD", "IORING_REGISTER_FILES_UPDATE",
    "IORING_REGISTER_EVENTFD_ASYNC", "IORING_REGISTER_PROBE", "IORING_REGISTER_PERSONALITY",
    "IORING_UNREGISTER_PERSONALITY", "IORING_REGISTER_RESTRICTIONS", "IORING_REGISTER_ENABLE_RINGS",
    "IORING_REGISTER_FILES2", "IORING_REGISTER_FILES_UPDATE2", "IORING_REGISTER_BUFFERS2",
    "IORING_REGISTER_BUFFERS_UPDATE", "IORING_REGISTER_IOWQ_AFF", "IORING_UNREGISTER_IOWQ_AFF",
    "IORING_REGISTER_IOWQ_MAX_WORKERS", "IORING_REGISTER_RING_FDS", "IORING_UNREGISTER_RING_FDS",
    "IORING_REGISTER_PBUF_RING", "IORING_UNREGISTER_PBUF_RING", "IORING_REGISTER_SYNC_CANCEL",
    "IORING_REGISTER_FILE_ALLOC_RANGE",
];
/// `linux/time.h`.
#[rustfmt::skip]
const CLOCKS: [&str; 12] = [
    "CLOCK_REALTIME", "CLOCK_MONOTONIC", "CLOCK_PROCESS_CPUTIME_ID", "CLOCK_THREAD_CPUTIME_ID", "CLOCK_MONOTONIC_RAW",
    "CLOCK_REALTIME_COARSE", "CLOCK_MONOTONIC_COARSE", "CLOCK_BOOTTIME", "CLOCK_REALTIME_ALARM", "CLOCK_BOOTTIME_ALARM",
    "CLOCK_SGI_CYCLE", "CLOCK_TAI",
];
/// `sched.h`.
#[rustfmt::skip]
const SCHEDULERS: [&str; 8] = [
    "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "4", "SCHED_IDLE", "SCHED_DEADLINE", "SCHED_EXT",
];

/// Commands of ioctl(2) that matter for security or are common.
fn ioctl(command: u64) -> Option<&'static str> {
    Some(match command {
        0x5401 => "TCGETS",
        0x5402 => "TCSETS",
        0x540e => "TIOCSCTTY",
        0x5412 => "TIOCSTI",
        0x5413 => "TIOCGWINSZ",
        0x541b => "FIONREAD",
        0x541c => "TIOCLINUX",
        0x5421 => "FIONBIO",
        0x5423 => "TIOCSETD",
        0x5451 => "FIOCLEX",
        0x4008_6602 => "FS_IOC_SETFLAGS",
        0x8008_6601 => "FS_IOC_GETFLAGS",
        0x4004_9409 => "FICLONE",
        0x890b => "SIOCADDRT",
        0x8913 => "SIOCGIFFLAGS",
        0x8914 => "SIOCSIFFLAGS",
        0x8916 => "SIOCSIFADDR",
        0x4004_54ca => "TUNSETIFF",
        0x1261 => "BLKFLSBUF",
        0x8008_1272 => "BLKGETSIZE64",
        0xc004_5877 => "FIFREEZE",
        0xc004_5878 => "FITHAW",
        _ => return None,
    })
}

/// Commands of fcntl(2).
fn fcntl(command: u64) -> Option<&'static str> {
    Some(match command {
        0 => "F_DUPFD",
        1 => "F_GETFD",
        2 => "F_SETFD",
        3 => "F_GETFL",
        4 => "F_SETFL",
        5 => "F_GETLK",
        6 => "F_SETLK",
        7 => "F_SETLKW",
        8 => "F_SETOWN",
        9 => "F_GETOWN",
        10 => "F_SETSIG",
        36 => "F_OFD_GETLK",
        37 => "F_OFD_SETLK",
        38 => "F_OFD_SETLKW",
        0x400 => "F_SETLEASE",
        0x401 => "F_GETLEASE",
        0x402 => "F_NOTIFY",
        0x406 => "F_DUPFD_CLOEXEC",
        0x407 => "F_SETPIPE_SZ",
        0x408 => "F_GETPIPE_SZ",
        0x409 => "F_ADD_SEALS",
        0x40a => "F_GET_SEALS",
        _ => return None,
    })
}

/// Commands of reboot(2).
fn reboot(command: u64) -> Option<&'static str> {
    Some(match command & 0xffff_ffff {
        0x0123_4567 => "LINUX_REBOOT_CMD_RESTART",
        0xcdef_0123 => "LINUX_REBOOT_CMD_HALT",
        0x4321_fedc => "LINUX_REBOOT_CMD_POWER_OFF",
        0xa1b2_c3d4 => "LINUX_REBOOT_CMD_RESTART2",
        0x89ab_cdef => "LINUX_REBOOT_CMD_CAD_ON",
        0 => "LINUX_REBOOT_CMD_CAD_OFF",
        0x4558_4543 => "LINUX_REBOOT_CMD_KEXEC",
        0xd000_fce2 => "LINUX_REBOOT_CMD_SW_SUSPEND",
        _ => return None,
    })
}

/// Operations of arch_prctl(2).
fn arch_prctl(operation: u64) -> Option<&'static str> {
    Some(match operation {
        0x1001 => "ARCH_SET_GS",
        0x1002 => "ARCH_SET_FS",
        0x1003 => "ARCH_GET_FS",
        0x1004 => "ARCH_GET_GS",
        0x1011 => "ARCH_GET_CPUID",
        0x1012 => "ARCH_SET_CPUID",
        0x1023 => "ARCH_REQ_XCOMP_PERM",
        _ => return None,
    })
}

fn at(table: &[&'static str], number: u64) -> Option<&'static str> {
    table.get(usize::try_from(number).ok()?).copied()
}

fn persona(value: u64) -> String {
    if value & 0xffff_ffff == 0xffff_ffff {
        return "query".to_owned();
    }
    let base = match value & 0xff {
        0 => "PER_LINUX".to_owned(),
        8 => "PER_LINUX32".to_owned(),
        other => hex(other),
    };
    match value & !0xff {
        0 => base,
        rest => format!("{base}|{}", flags_text(rest, PERSONALITY, "0")),
    }
}

/// Describes the arguments of a call that [`super::describe`] leaves to this file.
pub(super) fn describe(
    arch: u32,
    call: &str,
    [a0, a1, a2, a3]: [u64; 4],
    add: &mut dyn FnMut(&'static str, String),
) {
    match call {
        "access" => add("mode", flags_text(a1 & 7, ACCESS, "F_OK")),
        "faccessat" | "faccessat2" => {
            add("dir", dirfd(a0));
            add("mode", flags_text(a2 & 7, ACCESS, "F_OK"));
        }
        "renameat" | "renameat2" | "linkat" => {
            add("from", dirfd(a0));
            add("to", dirfd(a2));
        }
        "symlinkat" => add("dir", dirfd(a1)),
        "readlinkat" | "futimesat" => add("dir", dirfd(a0)),
        "newfstatat" | "utimensat" => {
            add("dir", dirfd(a0));
            add("flags", at_flags(a3));
        }
        "statx" => {
            add("dir", dirfd(a0));
            add("flags", at_flags(a2));
        }
        "fchdir" | "fsync" | "close" | "ftruncate" | "fallocate" | "fchown" | "fstat"
        | "getdents64" => {
            add("fd", fd(a0));
        }
        "read" | "write" | "pread64" | "pwrite64" => {
            add("fd", fd(a0));
            add("length", a2.to_string());
        }
        "dup" | "dup2" | "dup3" => add("fd", fd(a0)),
        "pipe2" => add("flags", open_flags(arch, a1)),
        "fcntl" | "fcntl64" => {
            add("fd", fd(a0));
            add("command", named(fcntl(a1), a1));
        }
        "ioctl" => {
            add("fd", fd(a0));
            add("command", named(ioctl(a1 & 0xffff_ffff), a1));
        }
        "listen" => {
            add("fd", fd(a0));
            add("backlog", int(a1));
        }
        "accept4" => {
            add("fd", fd(a0));
            add("flags", flags_text(a3, SOCKET, "0"));
        }
        "sendto" | "recvfrom" => {
            add("fd", fd(a0));
            add("length", a2.to_string());
            add("flags", flags_text(a3, MESSAGE, "0"));
        }
        "sendmsg" | "recvmsg" => {
            add("fd", fd(a0));
            add("flags", flags_text(a2, MESSAGE, "0"));
        }
        "sendmmsg" | "recvmmsg" => {
            add("fd", fd(a0));
            add("flags", flags_text(a3, MESSAGE, "0"));
        }
        "shutdown" => {
            add("fd", fd(a0));
            add(
                "how",
                named(at(&["SHUT_RD", "SHUT_WR", "SHUT_RDWR"], a1), a1),
            );
        }
        "socketcall" => add(
            "call",
            named(a0.checked_sub(1).and_then(|n| at(&SOCKETCALL, n)), a0),
        ),
        "setsockopt" | "getsockopt" => {
            add("fd", fd(a0));
            let level = match a1 {
                0 => Some("SOL_IP"),
                1 => Some("SOL_SOCKET"),
                6 => Some("SOL_TCP"),
                17 => Some("SOL_UDP"),
                41 => Some("SOL_IPV6"),
                263 => Some("SOL_PACKET"),
                270 => Some("SOL_NETLINK"),
                279 => Some("SOL_ALG"),
                _ => None,
            };
            add("level", named(level, a1));
            add("option", a2.to_string());
        }
        "keyctl" => add("operation", named(at(&KEYCTL, a0), a0)),
        "personality" => add("persona", persona(a0)),
        "reboot" => add("command", named(reboot(a2), a2)),
        "arch_prctl" => add("operation", named(arch_prctl(a0), a0)),
        "prlimit64" => {
            add("pid", int(a0));
            add("resource", named(at(&LIMITS, a1), a1));
        }
        "setrlimit" | "getrlimit" | "ugetrlimit" => add("resource", named(at(&LIMITS, a0), a0)),
        "sched_setscheduler" => {
            add("pid", int(a0));
            // SCHED_RESET_ON_FORK
            add("policy", named(at(&SCHEDULERS, a1 & !0x4000_0000), a1));
        }
        "sched_setparam" | "sched_setattr" | "sched_setaffinity" | "getpgid" | "getsid"
        | "setpgid" | "migrate_pages" | "move_pages" | "capget" => add("pid", int(a0)),
        "clock_settime" | "clock_adjtime" | "clock_gettime" | "clock_settime64"
        | "clock_adjtime64" => add("clock", named(at(&CLOCKS, a0), a0)),
        "rt_sigqueueinfo" => {
            add("pid", int(a0));
            add("signal", signal(a1));
        }
        "rt_tgsigqueueinfo" => {
            add("pid", int(a0));
            add("tid", int(a1));
            add("signal", signal(a2));
        }
        "pidfd_send_signal" => {
            add("pidfd", fd(a0));
            add("signal", signal(a1));
        }
        "process_madvise" | "process_mrelease" => add("pidfd", fd(a0)),
        "init_module" => add("length", a1.to_string()),
        "delete_module" => add("flags", open_flags(arch, a1)),
        "kexec_load" => add("flags", flags_text(a3, KEXEC, "0")),
        // Its flags are the fifth argument, which is not logged.
        "kexec_file_load" => {
            add("kernel", fd(a0));
            add("initrd", fd(a1));
        }
        "swapon" => add("flags", hex(a1)),
        "userfaultfd" => add(
            "flags",
            flags_text(
                a0,
                &[
                    (1, "UFFD_USER_MODE_ONLY"),
                    (0o4000, "O_NONBLOCK"),
                    (0o2_000_000, "O_CLOEXEC"),
                ],
                "0",
            ),
        ),
        "perf_event_open" => {
            add("pid", int(a1));
            add("cpu", int(a2));
            add("group", int(a3));
        }
        "fanotify_init" => add("flags", flags_text(a0, FANOTIFY, "FAN_CLASS_NOTIF")),
        "fanotify_mark" => {
            add("fd", fd(a0));
            add("flags", flags_text(a1, FANOTIFY_MARK, "0"));
        }
        "inotify_add_watch" => {
            add("fd", fd(a0));
            add("mask", hex(a2));
        }
        "io_uring_setup" => add("entries", a0.to_string()),
        "io_uring_enter" => add("fd", fd(a0)),
        "io_uring_register" => {
            add("fd", fd(a0));
            // IORING_REGISTER_USE_REGISTERED_RING
            add(
                "operation",
                named(at(&URING_REGISTER, a1 & !0x8000_0000), a1),
            );
        }
        "msgget" | "semget" | "shmget" => {
            let flags = if call == "msgget" { a1 } else { a2 };
            add("mode", format!("{:#05o}", flags & 0o777));
            add("flags", flags_text(flags & !0o777, IPC, "0"));
        }
        "landlock_restrict_self" => add("ruleset", fd(a0)),
        "clone3" => add("size", a1.to_string()),
        "ioperm" => {
            add("from", hex(a0));
            add("ports", a1.to_string());
        }
        "iopl" => add("level", a0.to_string()),
        _ => {}
    }
}

/// Flags of finit_module(2).
pub(super) fn module_flags(flags: u64) -> String {
    flags_text(flags, MODULE, "0")
}

/// Flags of seccomp(2) with a filter.
pub(super) fn seccomp_flags(flags: u64) -> String {
    flags_text(flags, SECCOMP_FILTER, "0")
}
