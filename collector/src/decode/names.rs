//! Numbers that the kernel writes, by name: errors, signals, io_uring operations, file types, open flags, mount flags and so on.
//!
//! One table a kind, taken from the kernel's headers (named at each); nothing here allocates but the functions that join flags.

/// `enum io_uring_op`, `include/uapi/linux/io_uring.h` of 6.18, named as libaudit names them.
#[rustfmt::skip]
const URING_OPS: [&str; 63] = [
    "nop", "readv", "writev", "fsync", "read_fixed", "write_fixed", "poll_add", "poll_remove", "sync_file_range", "sendmsg",
    "recvmsg", "timeout", "timeout_remove", "accept", "async_cancel", "link_timeout", "connect", "fallocate", "openat", "close",
    "files_update", "statx", "read", "write", "fadvise", "madvise", "send", "recv", "openat2", "epoll_ctl", "splice",
    "provide_buffers", "remove_buffers", "tee", "shutdown", "renameat", "unlinkat", "mkdirat", "symlinkat", "linkat", "msg_ring",
    "fsetxattr", "setxattr", "fgetxattr", "getxattr", "socket", "uring_cmd", "send_zc", "sendmsg_zc", "read_multishot", "waitid",
    "futex_wait", "futex_wake", "futex_waitv", "fixed_fd_install", "ftruncate", "bind", "listen", "recv_zc", "epoll_wait",
    "readv_fixed", "writev_fixed", "pipe",
];

/// Name of an io_uring operation, `openat` for 18.
pub fn uring_op_name(op: u32) -> Option<&'static str> {
    URING_OPS.get(op as usize).copied()
}

/// Number of an io_uring operation.
pub fn uring_op_number(name: &str) -> Option<u32> {
    URING_OPS
        .iter()
        .position(|n| *n == name)
        .and_then(|i| u32::try_from(i).ok())
}

/// `include/uapi/asm-generic/errno.h`: x86 and arm64 share these numbers.
#[rustfmt::skip]
const ERRORS: [&str; 134] = [
    "", "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC", "EBADF", "ECHILD", "EAGAIN",
    "ENOMEM", "EACCES", "EFAULT", "ENOTBLK", "EBUSY", "EEXIST", "EXDEV", "ENODEV", "ENOTDIR", "EISDIR", "EINVAL",
    "ENFILE", "EMFILE", "ENOTTY", "ETXTBSY", "EFBIG", "ENOSPC", "ESPIPE", "EROFS", "EMLINK", "EPIPE", "EDOM",
    "ERANGE", "EDEADLK", "ENAMETOOLONG", "ENOLCK", "ENOSYS", "ENOTEMPTY", "ELOOP", "", "ENOMSG", "EIDRM", "ECHRNG",
    "EL2NSYNC", "EL3HLT", "EL3RST", "ELNRNG", "EUNATCH", "ENOCSI", "EL2HLT", "EBADE", "EBADR", "EXFULL", "ENOANO",
    "EBADRQC", "EBADSLT", "", "EBFONT", "ENOSTR", "ENODATA", "ETIME", "ENOSR", "ENONET", "ENOPKG", "EREMOTE",
    "ENOLINK", "EADV", "ESRMNT", "ECOMM", "EPROTO", "EMULTIHOP", "EDOTDOT", "EBADMSG", "EOVERFLOW", "ENOTUNIQ",
    "EBADFD", "EREMCHG", "ELIBACC", "ELIBBAD", "ELIBSCN", "ELIBMAX", "ELIBEXEC", "EILSEQ", "ERESTART", "ESTRPIPE",
    "EUSERS", "ENOTSOCK", "EDESTADDRREQ", "EMSGSIZE", "EPROTOTYPE", "ENOPROTOOPT", "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT", "EOPNOTSUPP", "EPFNOSUPPORT", "EAFNOSUPPORT", "EADDRINUSE", "EADDRNOTAVAIL", "ENETDOWN",
    "ENETUNREACH", "ENETRESET", "ECONNABORTED", "ECONNRESET", "ENOBUFS", "EISCONN", "ENOTCONN", "ESHUTDOWN",
    "ETOOMANYREFS", "ETIMEDOUT", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "EALREADY", "EINPROGRESS", "ESTALE",
    "EUCLEAN", "ENOTNAM", "ENAVAIL", "EISNAM", "EREMOTEIO", "EDQUOT", "ENOMEDIUM", "EMEDIUMTYPE", "ECANCELED",
    "ENOKEY", "EKEYEXPIRED", "EKEYREVOKED", "EKEYREJECTED", "EOWNERDEAD", "ENOTRECOVERABLE", "ERFKILL", "EHWPOISON",
];

/// Name of an error number (positive), `EPERM` for 1. Also the few that the kernel uses inside itself.
pub fn errno_name(errno: i64) -> Option<&'static str> {
    let name = match errno {
        512 => "ERESTARTSYS",
        513 => "ERESTARTNOINTR",
        514 => "ERESTARTNOHAND",
        515 => "ENOIOCTLCMD",
        516 => "ERESTART_RESTARTBLOCK",
        524 => "ENOTSUPP",
        _ => ERRORS.get(usize::try_from(errno).ok()?)?,
    };
    (!name.is_empty()).then_some(name)
}

/// Number (positive) of an error, 1 for `EPERM`.
pub fn errno_number(name: &str) -> Option<i64> {
    let name = match name {
        "EWOULDBLOCK" => "EAGAIN",
        "EDEADLOCK" => "EDEADLK",
        "ENOTSUP" => "EOPNOTSUPP",
        "" => return None,
        name => name,
    };
    ERRORS
        .iter()
        .position(|n| *n == name)
        .and_then(|i| i64::try_from(i).ok())
}

/// `include/uapi/asm-generic/signal.h`, from 1 on.
#[rustfmt::skip]
const SIGNALS: [&str; 31] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
    "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
    "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
    "SIGSYS",
];

/// Name of a signal, `SIGKILL` for 9, `SIGRTMIN+3` is not named.
pub fn signal_name(signal: u64) -> Option<&'static str> {
    SIGNALS
        .get(usize::try_from(signal).ok()?.checked_sub(1)?)
        .copied()
}

/// Number of a signal, with or without `SIG` in front.
pub fn signal_number(name: &str) -> Option<u64> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let found = SIGNALS
        .iter()
        .position(|n| n.strip_prefix("SIG") == Some(name))?;
    u64::try_from(found + 1).ok()
}

/// `include/linux/socket.h`.
#[rustfmt::skip]
const FAMILIES: [&str; 46] = [
    "unspec", "unix", "inet", "ax25", "ipx", "appletalk", "netrom", "bridge", "atmpvc", "x25", "inet6", "rose",
    "decnet", "netbeui", "security", "key", "netlink", "packet", "ash", "econet", "atmsvc", "rds", "sna", "irda",
    "pppox", "wanpipe", "llc", "ib", "mpls", "can", "tipc", "bluetooth", "iucv", "rxrpc", "isdn", "phonet",
    "ieee802154", "caif", "alg", "nfc", "vsock", "kcm", "qipcrtr", "smc", "xdp", "mctp",
];

/// Name of a socket family, `inet` for 2.
pub fn socket_family(family: u64) -> Option<&'static str> {
    FAMILIES.get(usize::try_from(family).ok()?).copied()
}

/// Name of a socket type (`SOCK_*`) without its flags, `stream` for 1.
pub fn socket_type(kind: u64) -> Option<&'static str> {
    Some(match kind & 0xf {
        1 => "stream",
        2 => "dgram",
        3 => "raw",
        4 => "rdm",
        5 => "seqpacket",
        6 => "dccp",
        10 => "packet",
        _ => return None,
    })
}

/// `include/uapi/linux/capability.h`.
#[rustfmt::skip]
const CAPABILITIES: [&str; 41] = [
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
];

/// Name of a capability, `sys_admin` for 21.
pub fn capability_name(number: u32) -> Option<&'static str> {
    CAPABILITIES.get(number as usize).copied()
}

/// Names of a set of capabilities, `sys_admin,net_raw`; bits without a name as `0x…`.
pub fn capabilities(mut set: u64) -> String {
    let mut names = Vec::new();
    for (i, name) in CAPABILITIES.iter().enumerate() {
        if set & (1 << i) != 0 {
            names.push((*name).to_owned());
            set &= !(1 << i);
        }
    }
    if set != 0 {
        names.push(format!("{set:#x}"));
    }
    names.join(",")
}

/// Type and permissions of a file, `file,755`, `dir,1777`, `character,620`, `0,644` for an unknown type.
pub fn mode_text(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o140_000 => "socket",
        0o120_000 => "link",
        0o100_000 => "file",
        0o060_000 => "block",
        0o040_000 => "dir",
        0o020_000 => "character",
        0o010_000 => "fifo",
        other => return format!("{:o},{:03o}", other >> 12, mode & 0o7777),
    };
    format!("{kind},{:03o}", mode & 0o7777)
}

/// Joins the names of the bits of `value`; what is left over is hexadecimal. `none` is the text for no bit at all.
pub fn flags_text(mut value: u64, table: &[(u64, &'static str)], none: &'static str) -> String {
    let mut out = String::new();
    let mut add = |name: &str| {
        if !out.is_empty() {
            out.push('|');
        }
        out.push_str(name);
    };
    for (bits, name) in table {
        if *bits != 0 && value & bits == *bits {
            add(name);
            value &= !bits;
        }
    }
    if value != 0 {
        add(&format!("{value:#x}"));
    }
    if out.is_empty() { none.to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        assert_eq!(
            (errno_name(1), errno_name(13), errno_name(133)),
            (Some("EPERM"), Some("EACCES"), Some("EHWPOISON"))
        );
        assert_eq!(
            (
                errno_name(0),
                errno_name(41),
                errno_name(-1),
                errno_name(600)
            ),
            (None, None, None, None)
        );
        assert_eq!(
            (
                errno_number("EAGAIN"),
                errno_number("EWOULDBLOCK"),
                errno_number("")
            ),
            (Some(11), Some(11), None)
        );
        assert_eq!(
            (signal_name(9), signal_name(0), signal_name(64)),
            (Some("SIGKILL"), None, None)
        );
        assert_eq!(
            (signal_number("SIGSYS"), signal_number("KILL")),
            (Some(31), Some(9))
        );
        assert_eq!(
            (socket_family(16), socket_family(99)),
            (Some("netlink"), None)
        );
        assert_eq!(uring_op_number("pipe"), Some(62));
        assert_eq!(
            capabilities(1 << 21 | 1 << 63),
            "sys_admin,0x8000000000000000"
        );
        assert_eq!(mode_text(0o100_755), "file,755");
        assert_eq!(mode_text(0o041_777), "dir,1777");
        assert_eq!(mode_text(0o644), "0,644");
    }
}
