//! Bits and commands in arguments of system calls, by name. Each table says which header it follows.

use super::names::flags_text;
use super::syscalls::ARCH_AARCH64;

/// `O_*` without the access mode, `include/uapi/asm-generic/fcntl.h` (x86). `O_SYNC` before `O_DSYNC`, which it contains, and
/// `O_TMPFILE` before `O_DIRECTORY`.
const OPEN: &[(u64, &str)] = &[
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o4_010_000, "O_SYNC"),
    (0o10_000, "O_DSYNC"),
    (0o20_000, "O_ASYNC"),
    (0o40_000, "O_DIRECT"),
    (0o100_000, "O_LARGEFILE"),
    (0o20_200_000, "O_TMPFILE"),
    (0o200_000, "O_DIRECTORY"),
    (0o400_000, "O_NOFOLLOW"),
    (0o1_000_000, "O_NOATIME"),
    (0o2_000_000, "O_CLOEXEC"),
    (0o10_000_000, "O_PATH"),
];

/// Where arm64 differs, `arch/arm64/include/uapi/asm/fcntl.h`: its bits as x86's.
const ARM64_OPEN: [(u64, u64); 4] = [
    (0o40_000, 0o200_000),
    (0o100_000, 0o400_000),
    (0o200_000, 0o40_000),
    (0o400_000, 0o100_000),
];

/// Flags of open(2) and its relatives, `O_WRONLY|O_CREAT|O_CLOEXEC`. Their values depend on the architecture.
pub fn open_flags(arch: u32, flags: u64) -> String {
    let access = match flags & 3 {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        2 => "O_RDWR",
        _ => "O_ACCMODE",
    };
    let mut rest = flags & !3;
    if arch == ARCH_AARCH64 {
        let moved = ARM64_OPEN
            .iter()
            .filter(|(arm, _)| rest & arm != 0)
            .fold(0, |bits, (_, x86)| bits | x86);
        rest = rest & !0o740_000 | moved;
    }
    match flags_text(rest, OPEN, "") {
        rest if rest.is_empty() => access.to_owned(),
        rest => format!("{access}|{rest}"),
    }
}

/// `MS_*`, `include/uapi/linux/mount.h`.
const MOUNT: &[(u64, &str)] = &[
    (1, "MS_RDONLY"),
    (2, "MS_NOSUID"),
    (4, "MS_NODEV"),
    (8, "MS_NOEXEC"),
    (16, "MS_SYNCHRONOUS"),
    (32, "MS_REMOUNT"),
    (64, "MS_MANDLOCK"),
    (128, "MS_DIRSYNC"),
    (256, "MS_NOSYMFOLLOW"),
    (1024, "MS_NOATIME"),
    (2048, "MS_NODIRATIME"),
    (4096, "MS_BIND"),
    (8192, "MS_MOVE"),
    (16384, "MS_REC"),
    (32768, "MS_SILENT"),
    (1 << 16, "MS_POSIXACL"),
    (1 << 17, "MS_UNBINDABLE"),
    (1 << 18, "MS_PRIVATE"),
    (1 << 19, "MS_SLAVE"),
    (1 << 20, "MS_SHARED"),
    (1 << 21, "MS_RELATIME"),
    (1 << 23, "MS_I_VERSION"),
    (1 << 24, "MS_STRICTATIME"),
    (1 << 25, "MS_LAZYTIME"),
];

/// Flags of mount(2), `MS_BIND|MS_REC`; the old magic number in the upper half is left out.
pub fn mount_flags(flags: u64) -> String {
    let flags = if flags & 0xffff_0000 == 0xc0ed_0000 {
        flags & 0xffff
    } else {
        flags
    };
    flags_text(flags, MOUNT, "0")
}

/// Flags of umount2(2).
pub fn umount_flags(flags: u64) -> String {
    flags_text(
        flags,
        &[
            (1, "MNT_FORCE"),
            (2, "MNT_DETACH"),
            (4, "MNT_EXPIRE"),
            (8, "UMOUNT_NOFOLLOW"),
        ],
        "0",
    )
}

/// `CLONE_*`, `include/uapi/linux/sched.h`; also for unshare(2) and setns(2).
const CLONE: &[(u64, &str)] = &[
    (0x80, "CLONE_NEWTIME"),
    (0x100, "CLONE_VM"),
    (0x200, "CLONE_FS"),
    (0x400, "CLONE_FILES"),
    (0x800, "CLONE_SIGHAND"),
    (0x1000, "CLONE_PIDFD"),
    (0x2000, "CLONE_PTRACE"),
    (0x4000, "CLONE_VFORK"),
    (0x8000, "CLONE_PARENT"),
    (0x1_0000, "CLONE_THREAD"),
    (0x2_0000, "CLONE_NEWNS"),
    (0x4_0000, "CLONE_SYSVSEM"),
    (0x8_0000, "CLONE_SETTLS"),
    (0x10_0000, "CLONE_PARENT_SETTID"),
    (0x20_0000, "CLONE_CHILD_CLEARTID"),
    (0x40_0000, "CLONE_DETACHED"),
    (0x80_0000, "CLONE_UNTRACED"),
    (0x100_0000, "CLONE_CHILD_SETTID"),
    (0x200_0000, "CLONE_NEWCGROUP"),
    (0x400_0000, "CLONE_NEWUTS"),
    (0x800_0000, "CLONE_NEWIPC"),
    (0x1000_0000, "CLONE_NEWUSER"),
    (0x2000_0000, "CLONE_NEWPID"),
    (0x4000_0000, "CLONE_NEWNET"),
    (0x8000_0000, "CLONE_IO"),
];

/// Flags of clone(2), whose lowest byte is the signal at the end: `CLONE_NEWNS|CLONE_NEWPID|SIGCHLD`.
pub fn clone_flags(flags: u64) -> String {
    let names = flags_text(flags & !0xff, CLONE, "");
    let signal = match flags & 0xff {
        0 => None,
        n => Some(super::names::signal_name(n).map_or_else(|| n.to_string(), str::to_owned)),
    };
    match (names.is_empty(), signal) {
        (false, Some(signal)) => format!("{names}|{signal}"),
        (true, Some(signal)) => signal,
        (false, None) => names,
        (true, None) => "0".to_owned(),
    }
}

/// Namespaces of unshare(2) and setns(2).
pub fn namespace_flags(flags: u64) -> String {
    flags_text(flags, CLONE, "0")
}

/// Name of a ptrace(2) request, `include/uapi/linux/ptrace.h` and x86's own.
pub fn ptrace_request(request: u64) -> Option<&'static str> {
    Some(match request {
        0 => "PTRACE_TRACEME",
        1 => "PTRACE_PEEKTEXT",
        2 => "PTRACE_PEEKDATA",
        3 => "PTRACE_PEEKUSR",
        4 => "PTRACE_POKETEXT",
        5 => "PTRACE_POKEDATA",
        6 => "PTRACE_POKEUSR",
        7 => "PTRACE_CONT",
        8 => "PTRACE_KILL",
        9 => "PTRACE_SINGLESTEP",
        12 => "PTRACE_GETREGS",
        13 => "PTRACE_SETREGS",
        14 => "PTRACE_GETFPREGS",
        15 => "PTRACE_SETFPREGS",
        16 => "PTRACE_ATTACH",
        17 => "PTRACE_DETACH",
        18 => "PTRACE_GETFPXREGS",
        19 => "PTRACE_SETFPXREGS",
        21 => "PTRACE_OLDSETOPTIONS",
        24 => "PTRACE_SYSCALL",
        25 => "PTRACE_GET_THREAD_AREA",
        26 => "PTRACE_SET_THREAD_AREA",
        30 => "PTRACE_ARCH_PRCTL",
        31 => "PTRACE_SYSEMU",
        32 => "PTRACE_SYSEMU_SINGLESTEP",
        33 => "PTRACE_SINGLEBLOCK",
        0x4200 => "PTRACE_SETOPTIONS",
        0x4201 => "PTRACE_GETEVENTMSG",
        0x4202 => "PTRACE_GETSIGINFO",
        0x4203 => "PTRACE_SETSIGINFO",
        0x4204 => "PTRACE_GETREGSET",
        0x4205 => "PTRACE_SETREGSET",
        0x4206 => "PTRACE_SEIZE",
        0x4207 => "PTRACE_INTERRUPT",
        0x4208 => "PTRACE_LISTEN",
        0x4209 => "PTRACE_PEEKSIGINFO",
        0x420a => "PTRACE_GETSIGMASK",
        0x420b => "PTRACE_SETSIGMASK",
        0x420c => "PTRACE_SECCOMP_GET_FILTER",
        0x420d => "PTRACE_SECCOMP_GET_METADATA",
        0x420e => "PTRACE_GET_SYSCALL_INFO",
        0x420f => "PTRACE_GET_RSEQ_CONFIGURATION",
        0x4210 => "PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG",
        0x4211 => "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG",
        0x4212 => "PTRACE_SET_SYSCALL_INFO",
        _ => return None,
    })
}

/// Protection of mmap(2) and mprotect(2).
pub fn protection(prot: u64) -> String {
    flags_text(
        prot,
        &[
            (1, "PROT_READ"),
            (2, "PROT_WRITE"),
            (4, "PROT_EXEC"),
            (8, "PROT_SEM"),
        ],
        "PROT_NONE",
    )
}

/// Flags of mmap(2), `include/uapi/asm-generic/mman.h`.
pub fn map_flags(flags: u64) -> String {
    const MAP: &[(u64, &str)] = &[
        (3, "MAP_SHARED_VALIDATE"),
        (1, "MAP_SHARED"),
        (2, "MAP_PRIVATE"),
        (0x10, "MAP_FIXED"),
        (0x20, "MAP_ANONYMOUS"),
        (0x40, "MAP_32BIT"),
        (0x100, "MAP_GROWSDOWN"),
        (0x800, "MAP_DENYWRITE"),
        (0x1000, "MAP_EXECUTABLE"),
        (0x2000, "MAP_LOCKED"),
        (0x4000, "MAP_NORESERVE"),
        (0x8000, "MAP_POPULATE"),
        (0x1_0000, "MAP_NONBLOCK"),
        (0x2_0000, "MAP_STACK"),
        (0x4_0000, "MAP_HUGETLB"),
        (0x8_0000, "MAP_SYNC"),
        (0x10_0000, "MAP_FIXED_NOREPLACE"),
    ];
    flags_text(flags, MAP, "0")
}

/// `AT_*` flags of the calls that take a directory, `include/uapi/linux/fcntl.h`.
pub fn at_flags(flags: u64) -> String {
    const AT: &[(u64, &str)] = &[
        (0x100, "AT_SYMLINK_NOFOLLOW"),
        (0x200, "AT_EACCESS"),
        (0x400, "AT_SYMLINK_FOLLOW"),
        (0x800, "AT_NO_AUTOMOUNT"),
        (0x1000, "AT_EMPTY_PATH"),
        (0x8000, "AT_RECURSIVE"),
    ];
    flags_text(flags, AT, "0")
}

/// Name of a bpf(2) command, `enum bpf_cmd`.
pub fn bpf_command(command: u64) -> Option<&'static str> {
    #[rustfmt::skip]
    const COMMANDS: [&str; 38] = [
        "BPF_MAP_CREATE", "BPF_MAP_LOOKUP_ELEM", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_ELEM", "BPF_MAP_GET_NEXT_KEY",
        "BPF_PROG_LOAD", "BPF_OBJ_PIN", "BPF_OBJ_GET", "BPF_PROG_ATTACH", "BPF_PROG_DETACH", "BPF_PROG_TEST_RUN",
        "BPF_PROG_GET_NEXT_ID", "BPF_MAP_GET_NEXT_ID", "BPF_PROG_GET_FD_BY_ID", "BPF_MAP_GET_FD_BY_ID",
        "BPF_OBJ_GET_INFO_BY_FD", "BPF_PROG_QUERY", "BPF_RAW_TRACEPOINT_OPEN", "BPF_BTF_LOAD", "BPF_BTF_GET_FD_BY_ID",
        "BPF_TASK_FD_QUERY", "BPF_MAP_LOOKUP_AND_DELETE_ELEM", "BPF_MAP_FREEZE", "BPF_BTF_GET_NEXT_ID",
        "BPF_MAP_LOOKUP_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_BATCH", "BPF_MAP_UPDATE_BATCH", "BPF_MAP_DELETE_BATCH",
        "BPF_LINK_CREATE", "BPF_LINK_UPDATE", "BPF_LINK_GET_FD_BY_ID", "BPF_LINK_GET_NEXT_ID", "BPF_ENABLE_STATS",
        "BPF_ITER_CREATE", "BPF_LINK_DETACH", "BPF_PROG_BIND_MAP", "BPF_TOKEN_CREATE", "BPF_PROG_STREAM_READ_BY_FD",
    ];
    COMMANDS.get(usize::try_from(command).ok()?).copied()
}

/// Name of the prctl(2) operations that matter for security, `include/uapi/linux/prctl.h`.
pub fn prctl_operation(operation: u64) -> Option<&'static str> {
    Some(match operation {
        1 => "PR_SET_PDEATHSIG",
        3 => "PR_GET_DUMPABLE",
        4 => "PR_SET_DUMPABLE",
        7 => "PR_GET_KEEPCAPS",
        8 => "PR_SET_KEEPCAPS",
        15 => "PR_SET_NAME",
        16 => "PR_GET_NAME",
        21 => "PR_GET_SECCOMP",
        22 => "PR_SET_SECCOMP",
        23 => "PR_CAPBSET_READ",
        24 => "PR_CAPBSET_DROP",
        27 => "PR_GET_SECUREBITS",
        28 => "PR_SET_SECUREBITS",
        35 => "PR_SET_MM",
        36 => "PR_SET_CHILD_SUBREAPER",
        38 => "PR_SET_NO_NEW_PRIVS",
        39 => "PR_GET_NO_NEW_PRIVS",
        47 => "PR_CAP_AMBIENT",
        0x5961_6d61 => "PR_SET_PTRACER",
        0x5356_4d41 => "PR_SET_VMA",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::syscalls::ARCH_X86_64;
    use super::*;

    #[test]
    fn open_flags_depend_on_the_architecture() {
        assert_eq!(open_flags(ARCH_X86_64, 0), "O_RDONLY");
        assert_eq!(
            open_flags(ARCH_X86_64, 0o2_001_101),
            "O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC"
        );
        assert_eq!(open_flags(ARCH_X86_64, 0o20_200_002), "O_RDWR|O_TMPFILE");
        assert_eq!(open_flags(ARCH_X86_64, 0o4_010_000), "O_RDONLY|O_SYNC");
        assert_eq!(
            open_flags(ARCH_X86_64, 0o600_000),
            "O_RDONLY|O_DIRECTORY|O_NOFOLLOW"
        );
        assert_eq!(
            open_flags(ARCH_AARCH64, 0o140_000),
            "O_RDONLY|O_DIRECTORY|O_NOFOLLOW"
        );
        assert_eq!(
            open_flags(ARCH_AARCH64, 0o600_000),
            "O_RDONLY|O_DIRECT|O_LARGEFILE"
        );
        assert_eq!(
            open_flags(ARCH_X86_64, 1 << 40 | 3),
            "O_ACCMODE|0x10000000000"
        );
    }

    #[test]
    fn bits_are_named_and_the_rest_is_kept() {
        assert_eq!(mount_flags(0x1000 | 0x4000), "MS_BIND|MS_REC");
        assert_eq!(mount_flags(0xc0ed_0001), "MS_RDONLY");
        assert_eq!(mount_flags(0), "0");
        assert_eq!(clone_flags(0x2002_0011), "CLONE_NEWNS|CLONE_NEWPID|SIGCHLD");
        assert_eq!(clone_flags(17), "SIGCHLD");
        assert_eq!(namespace_flags(0x80 | 1), "CLONE_NEWTIME|0x1");
        assert_eq!(umount_flags(2), "MNT_DETACH");
        assert_eq!(map_flags(0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(protection(0), "PROT_NONE");
        assert_eq!(ptrace_request(16), Some("PTRACE_ATTACH"));
        assert_eq!(bpf_command(5), Some("BPF_PROG_LOAD"));
        assert_eq!(bpf_command(36), Some("BPF_TOKEN_CREATE"));
    }
}
