//! What kind of thing an event is: the category, from the call's name or the record's type.

use collector::{Event, RecordType};

use crate::activity::Category;

/// Category of an event. `call` is the name of its system call; `flags` its first argument, which tells a clone that makes a
/// namespace from one that makes a process.
pub fn category(event: &Event, call: Option<&str>, flags: u64) -> Category {
    if let Some(call) = call {
        return of_call(call, flags);
    }
    let kind = event.records().next().map_or(0, |r| r.kind.0);
    match RecordType(kind) {
        RecordType::SECCOMP => Category::Seccomp,
        RecordType::CONFIG_CHANGE => Category::Config,
        RecordType::KERN_MODULE => Category::Module,
        RecordType::ANOM_ABEND => Category::Process,
        RecordType::ANOM_PROMISCUOUS => Category::Network,
        RecordType::LOGIN => Category::Credential,
        RecordType(1324 | 1325) => Category::Network, // NETFILTER_PKT, NETFILTER_CFG
        _ => Category::Other,
    }
}

const CLONE_NEW: u64 = 0x7e02_0080;

fn of_call(call: &str, flags: u64) -> Category {
    match call {
        "clone" if flags & CLONE_NEW != 0 => Category::Namespace,
        "execve" | "execveat" | "fork" | "vfork" | "clone" | "clone3" | "exit" | "exit_group"
        | "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "pidfd_send_signal"
        | "memfd_create" | "prctl" | "personality" => Category::Process,
        "mount" | "umount" | "umount2" | "pivot_root" | "fsopen" | "fsconfig" | "fsmount"
        | "fspick" | "move_mount" | "open_tree" | "open_tree_attr" | "mount_setattr" | "chroot"
        | "swapon" => Category::Mount,
        "ptrace" | "process_vm_readv" | "process_vm_writev" | "pidfd_getfd" | "kcmp"
        | "process_madvise" => Category::Ptrace,
        "init_module" | "finit_module" | "delete_module" | "kexec_load" | "kexec_file_load"
        | "bpf" => Category::Module,
        "unshare" | "setns" => Category::Namespace,
        "socket" | "connect" | "bind" | "listen" | "accept" | "accept4" | "sendto" | "sendmsg"
        | "sendmmsg" | "recvfrom" | "recvmsg" | "recvmmsg" | "socketpair" | "setsockopt"
        | "getsockopt" | "getpeername" | "getsockname" | "shutdown" | "socketcall" | "send"
        | "recv" => Category::Network,
        "capset" | "add_key" | "keyctl" | "request_key" => Category::Credential,
        call if call.starts_with("set")
            && (call.contains("uid") || call.contains("gid") || call == "setgroups") =>
        {
            Category::Credential
        }
        "seccomp" => Category::Seccomp,
        "settimeofday" | "clock_settime" | "adjtimex" | "clock_adjtime" | "sethostname"
        | "setdomainname" | "reboot" | "acct" | "syslog" | "quotactl" => Category::Config,
        call if is_file_call(call) => Category::File,
        _ => Category::Other,
    }
}

fn is_file_call(call: &str) -> bool {
    const STARTS: [&str; 27] = [
        "open",
        "creat",
        "truncate",
        "ftruncate",
        "unlink",
        "rename",
        "link",
        "symlink",
        "mkdir",
        "rmdir",
        "mknod",
        "chmod",
        "fchmod",
        "chown",
        "fchown",
        "lchown",
        "setxattr",
        "lsetxattr",
        "fsetxattr",
        "removexattr",
        "lremovexattr",
        "fremovexattr",
        "readlink",
        "stat",
        "access",
        "faccessat",
        "name_to_handle",
    ];
    const MORE: [&str; 14] = [
        "read",
        "write",
        "fallocate",
        "utime",
        "utimes",
        "utimensat",
        "futimesat",
        "chdir",
        "fchdir",
        "getxattr",
        "lgetxattr",
        "statx",
        "newfstatat",
        "file_setattr",
    ];
    STARTS.iter().any(|s| call.starts_with(s)) || MORE.contains(&call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use collector::EventId;

    #[test]
    fn calls_have_their_category() {
        for (call, flags, wanted) in [
            ("execve", 0, Category::Process),
            ("openat2", 0, Category::File),
            ("open_tree", 0, Category::Mount),
            ("open_by_handle_at", 0, Category::File),
            ("umount2", 0, Category::Mount),
            ("ptrace", 0, Category::Ptrace),
            ("setresuid", 0, Category::Credential),
            ("setns", 0, Category::Namespace),
            ("clone", 0x1000_0000, Category::Namespace),
            ("clone", 0x11, Category::Process),
            ("connect", 0, Category::Network),
            ("getpid", 0, Category::Other),
        ] {
            assert_eq!(of_call(call, flags), wanted, "{call}");
        }
    }

    #[test]
    fn messages_that_stand_alone_have_one_too() {
        let mut event = Event::new(EventId::local(1, 1));
        event.push(RecordType::SECCOMP, b"pid=1");
        assert_eq!(category(&event, None, 0), Category::Seccomp);
    }
}
