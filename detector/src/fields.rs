//! The field names that rules may use: a closed list, so that a misspelt one is an error and not a rule that never fires.
//!
//! `docs/fields.md` explains each; a test holds the two together.

/// Our own fields, usable with every log source.
pub const OURS: &[&str] = &[
    "phase",
    "category",
    "entered",
    "health_check",
    "keys",
    "a0",
    "a1",
    "a2",
    "a3",
    "syscall",
    "syscall.name",
    "syscall.within",
    "syscall.arch",
    "syscall.success",
    "syscall.exit",
    "syscall.errno",
    "ptrace.request",
    "container.id",
    "container.name",
    "container.image",
    "container.profile",
    "container.agent",
    "container.privileged",
    "container.source",
    "container.certain",
    "process.pid",
    "process.ppid",
    "process.exe",
    "process.program",
    "process.comm",
    "process.argv",
    "process.command_line",
    "process.cwd",
    "process.uid",
    "process.euid",
    "process.user",
    "process.tty",
    "process.previous_exe",
    "process.ancestors",
    "process.parent.exe",
    "process.parent.comm",
    "path.name",
    "path.path",
    "path.host",
    "path.undeclared_host",
    "path.kind",
    "path.nametype",
    "open.write",
    "socket.domain",
    "socket.protocol",
    "device.kind",
    "device.number",
    "socket.family",
    "socket.address",
    "socket.port",
    "target.pid",
    "target.comm",
    "target.container",
    "target.same_container",
];

/// SigmaHQ's fields of `process_creation`, `file_event` and `network_connection` that an activity can answer.
pub const SIGMA: &[&str] = &[
    "Image",
    "CommandLine",
    "ParentImage",
    "CurrentDirectory",
    "User",
    "ProcessId",
    "ParentProcessId",
    "LogonId",
    "TargetFilename",
    "DestinationIp",
    "DestinationPort",
    "Initiated",
];

/// SigmaHQ's fields that are known and that audit does not carry: a rule may name them, and such a selection does not match.
pub const SIGMA_ABSENT: &[&str] = &[
    "ParentCommandLine",
    "ParentUser",
    "OriginalFileName",
    "Hashes",
    "Protocol",
    "DestinationHostname",
    "SourceIp",
    "SourcePort",
    "SourceHostname",
];

/// Fields of audit records (`service: auditd`) beside the arguments `a0`, `a1`, ….
pub const AUDITD: &[&str] = &[
    "type",
    "arch",
    "syscall",
    "SYSCALL",
    "success",
    "exit",
    "items",
    "ppid",
    "pid",
    "auid",
    "uid",
    "gid",
    "euid",
    "suid",
    "fsuid",
    "egid",
    "sgid",
    "fsgid",
    "tty",
    "ses",
    "comm",
    "exe",
    "subj",
    "key",
    "argc",
    "cwd",
    "item",
    "name",
    "inode",
    "dev",
    "mode",
    "ouid",
    "ogid",
    "rdev",
    "nametype",
    "objtype",
    "cap_fp",
    "cap_fi",
    "cap_fe",
    "cap_fver",
    "cap_frootid",
    "proctitle",
    "saddr",
    "saddr_fam",
    "laddr",
    "lport",
    "addr",
    "hostname",
    "terminal",
    "res",
    "op",
    "acct",
    "unit",
    "cmd",
    "msg",
    "sig",
    "code",
    "ip",
    "compat",
    "fd",
    "flags",
    "oflag",
    "resolve",
    "opid",
    "oauid",
    "ouid",
    "oses",
    "ocomm",
    "old-auid",
    "old-ses",
    "old",
    "prom",
    "list",
    "audit_enabled",
    "audit_backlog_limit",
    "audit_failure",
    "audit_pid",
    "uring_op",
    "kernel_params",
    "prog-id",
    "family",
    "entries",
    "table",
    "vm",
    "reason",
    "id",
    "data",
    "new-disk",
    "grantors",
    "AUID",
    "UID",
];

/// Is it the name of an argument, `a0`, `a12`?
pub fn is_argument(name: &str) -> bool {
    name.strip_prefix('a')
        .is_some_and(|n| !n.is_empty() && n.len() <= 4 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// May a rule name this field? `auditd`: is its log source the single records?
pub fn is_known(name: &str, auditd: bool) -> bool {
    let record_field = |name| auditd && (AUDITD.contains(&name) || is_argument(name));
    OURS.contains(&name)
        || record_field(name)
        || (!auditd && (SIGMA.contains(&name) || SIGMA_ABSENT.contains(&name)))
}

/// Every name that may be suggested.
pub(crate) fn suggestions(auditd: bool) -> impl Iterator<Item = &'static str> {
    let more: &[&str] = if auditd { AUDITD } else { SIGMA };
    OURS.iter().chain(more).copied()
}

/// Name of a ptrace request, `include/uapi/linux/ptrace.h` and the architectures' own.
pub(crate) fn ptrace_request(request: u64) -> Option<&'static str> {
    Some(match request {
        0 => "TRACEME",
        1 => "PEEKTEXT",
        2 => "PEEKDATA",
        3 => "PEEKUSR",
        4 => "POKETEXT",
        5 => "POKEDATA",
        6 => "POKEUSR",
        7 => "CONT",
        8 => "KILL",
        9 => "SINGLESTEP",
        12 => "GETREGS",
        13 => "SETREGS",
        14 => "GETFPREGS",
        15 => "SETFPREGS",
        16 => "ATTACH",
        17 => "DETACH",
        18 => "GETFPXREGS",
        19 => "SETFPXREGS",
        24 => "SYSCALL",
        0x4200 => "SETOPTIONS",
        0x4201 => "GETEVENTMSG",
        0x4202 => "GETSIGINFO",
        0x4203 => "SETSIGINFO",
        0x4204 => "GETREGSET",
        0x4205 => "SETREGSET",
        0x4206 => "SEIZE",
        0x4207 => "INTERRUPT",
        0x4208 => "LISTEN",
        0x4209 => "PEEKSIGINFO",
        0x420a => "GETSIGMASK",
        0x420b => "SETSIGMASK",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_from_other_names() {
        assert!(is_argument("a0") && is_argument("a12"));
        assert!(!is_argument("a") && !is_argument("auid") && !is_argument("b0"));
        assert!(is_known("a7", true) && !is_known("a7", false));
        assert!(is_known("CommandLine", false) && !is_known("CommandLine", true));
    }

    #[test]
    fn every_field_is_explained_in_the_document() {
        let document = include_str!("../../docs/fields.md");
        for field in OURS.iter().chain(SIGMA).chain(SIGMA_ABSENT) {
            let shown = match *field {
                "a0" | "a1" | "a2" | "a3" => "`a0`…`a3`".to_owned(),
                field => format!("`{field}`"),
            };
            assert!(
                document.contains(&shown),
                "docs/fields.md does not explain {field}"
            );
        }
    }
}
