//! Everything about an [`Activity`] that its own records say. What needs the process table, containers or `/proc` is added
//! by the enricher, and is what an encoded activity stores.

use collector::Event;
use collector::decode::{ARCH_IO_URING, SocketAddress, Syscall, UNSET, errno_name};
use collector::text::{into_text, to_text};
use compact_str::{CompactString, format_compact};
use smallvec::SmallVec;

use crate::activity::{
    Activity, Attribution, Category, PathInfo, Phase, Process, SocketInfo, SyscallInfo, Target,
};
use crate::{classify, paths};

/// Relative to the working directory (`AT_FDCWD`).
const AT_FDCWD: i32 = -100;

/// Builds the activity of an event, attributed to nobody yet.
pub fn derive(event: Event) -> Activity {
    let call = event.syscall();
    // Who did it is said by the call, what was done in it by the operations of a ring.
    let operations: SmallVec<[Syscall<'_>; 1]> = event.operations().collect();
    let done = operations.first().or(call.as_ref());
    let name = done.and_then(Syscall::name);
    let category = operations
        .iter()
        .map(|o| classify::category(&event, o.name(), 0))
        .find(|c| *c != Category::Other)
        .unwrap_or_else(|| classify::category(&event, name, done.map_or(0, |c| c.args[0])));
    let cwd = event.cwd().map(into_text);
    let process = process(&event, call.as_ref(), cwd.clone());
    let paths = path_infos(&event, name, done, cwd.as_deref());
    let socket = event.sockaddr().map(|a| socket(&a));
    let target = event.targets().into_iter().next().map(|t| Target {
        pid: t.pid,
        comm: text(&t.comm),
        container: None,
    });
    let mut keys: Vec<CompactString> = Vec::new();
    for key in operations.iter().chain(&call).flat_map(|c| &c.keys) {
        let key = CompactString::from(to_text(key).as_ref());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut syscall = done.map(syscall_info);
    if let Some(info) = &mut syscall {
        info.within = call
            .as_ref()
            .filter(|c| !operations.is_empty() && c.arch != ARCH_IO_URING)
            .map(call_name);
        if operations.len() > 1 {
            info.operations = operations.iter().map(call_name).collect();
        }
    }
    drop(operations);
    drop(call);
    Activity {
        keys,
        event,
        category,
        phase: Phase::Host,
        entered: false,
        health_check: false,
        syscall,
        process,
        container: None,
        attribution: Attribution::default(),
        paths,
        socket,
        target,
        alerts: Vec::new(),
    }
}

fn text(bytes: &[u8]) -> String {
    to_text(bytes).into_owned()
}

fn set(id: u32) -> Option<u32> {
    (id != UNSET).then_some(id)
}

fn call_name(call: &Syscall<'_>) -> CompactString {
    call.name()
        .map_or_else(|| format_compact!("{}", call.number), CompactString::from)
}

fn syscall_info(call: &Syscall<'_>) -> SyscallInfo {
    SyscallInfo {
        name: call_name(call),
        number: call.number,
        arch: call
            .arch_name()
            .map_or_else(|| format_compact!("{:x}", call.arch), CompactString::from),
        success: call.success,
        exit: call.exit,
        errno: call.errno().map(CompactString::from).or_else(|| {
            // A call without `success` that returned an error number all the same.
            let failed = call.success.is_none() && (-4095..0).contains(&call.exit);
            failed
                .then(|| errno_name(-call.exit))
                .flatten()
                .map(CompactString::from)
        }),
        args: call.args,
        within: None,
        operations: Vec::new(),
    }
}

fn process(event: &Event, call: Option<&Syscall<'_>>, cwd: Option<String>) -> Process {
    let argv = event
        .argv()
        .map(|argv| argv.into_iter().map(into_text).collect());
    let title = event.title().map(|mut t| {
        t.pop_if(|last| *last == 0);
        t.iter_mut().filter(|b| **b == 0).for_each(|b| *b = b' ');
        into_text(t)
    });
    let mut process = Process {
        argv: argv.unwrap_or_default(),
        cwd,
        title,
        ..Process::default()
    };
    match call {
        Some(call) => {
            process.pid = call.pid;
            process.ppid = call.ppid;
            process.exe = text(&call.exe);
            process.comm = text(&call.comm);
            process.uid = set(call.uid);
            process.euid = set(call.euid);
            process.gid = set(call.gid);
            process.auid = set(call.auid);
            process.tty = call.tty.filter(|t| *t != b"(none)").map(text);
        }
        None => {
            let Some(record) = event.records().next() else {
                return process;
            };
            let number = |name: &str| record.get(name).and_then(|v| v.u32());
            let string = |name: &str| {
                record
                    .get(name)
                    .and_then(|v| v.text())
                    .map(|t| text(&t))
                    .unwrap_or_default()
            };
            process.pid = number("pid").unwrap_or(0);
            process.ppid = number("ppid").unwrap_or(0);
            process.exe = string("exe");
            process.comm = string("comm");
            process.uid = number("uid").and_then(set);
            process.gid = number("gid").and_then(set);
            process.auid = number("auid").and_then(set);
        }
    }
    process
}

/// Calls whose first argument is the directory that a relative name starts from.
fn has_dirfd(call: &str) -> bool {
    (call.ends_with("at")
        || call == "openat2"
        || call == "fchmodat2"
        || call == "faccessat2"
        || call == "statx")
        && !matches!(call, "stat" | "lstat" | "fstat" | "symlinkat")
}

/// The directory descriptor that relative names of a call start from, when it is not the working directory.
pub fn dirfd(call: &str, args: &[u64; 4]) -> Option<u32> {
    let fd = args[0] as i32;
    (has_dirfd(call) && fd != AT_FDCWD)
        .then(|| u32::try_from(fd).ok())
        .flatten()
}

fn path_infos(
    event: &Event,
    name: Option<&str>,
    call: Option<&Syscall<'_>>,
    cwd: Option<&str>,
) -> Vec<PathInfo> {
    let items = event.paths();
    let elsewhere = call.is_some_and(|c| name.is_some_and(|n| dirfd(n, &c.args).is_some()));
    // The kernel names the directory of what is made or removed in an item of its own.
    let parent = items
        .iter()
        .find(|i| i.nametype.name() == "PARENT")
        .and_then(|i| i.name.as_deref())
        .map(text)
        .filter(|p| p.starts_with('/'));
    let base = if elsewhere { parent.as_deref() } else { cwd };
    items
        .into_iter()
        .map(|item| {
            let named = item.name.is_some();
            let name = item.name.map(into_text).unwrap_or_default();
            let path = match named {
                false => String::new(),
                true => paths::join(base, &name).unwrap_or_else(|| name.clone()),
            };
            PathInfo {
                path,
                real_path: None,
                name,
                host_path: None,
                undeclared: false,
                inode: item.resolved.then_some(item.inode),
                dev: item.resolved.then(|| device_text(item.dev.0, item.dev.1)),
                mode: item.resolved.then_some(item.mode),
                ouid: item.resolved.then_some(item.ouid),
                nametype: item.nametype.name().into(),
            }
        })
        .collect()
}

/// `00:2b`. Nearly every device fits into two digits each, and each file of each event has one.
fn device_text(major: u32, minor: u32) -> CompactString {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u32| DIGITS[(n & 15) as usize];
    let text = [
        digit(major >> 4),
        digit(major),
        b':',
        digit(minor >> 4),
        digit(minor),
    ];
    match std::str::from_utf8(&text) {
        Ok(text) if major < 256 && minor < 256 => CompactString::from(text),
        _ => format_compact!("{major:02x}:{minor:02x}"),
    }
}

/// Device of a path as numbers, from its text.
pub fn dev_of(path: &PathInfo) -> Option<(u32, u32)> {
    let (major, minor) = path.dev.as_deref()?.split_once(':')?;
    Some((
        u32::from_str_radix(major, 16).ok()?,
        u32::from_str_radix(minor, 16).ok()?,
    ))
}

fn socket(address: &SocketAddress) -> SocketInfo {
    let info = |family: &str, address: String, port: Option<u16>| SocketInfo {
        family: family.into(),
        address,
        port,
    };
    match address {
        SocketAddress::Inet { address, port } => info("inet", address.to_string(), Some(*port)),
        SocketAddress::Inet6 { address, port, .. } => {
            info("inet6", address.to_string(), Some(*port))
        }
        SocketAddress::UnixPath(path) => info("unix", text(path), None),
        SocketAddress::UnixAbstract(name) => info("unix", format!("@{}", text(name)), None),
        SocketAddress::UnixUnnamed => info("unix", String::new(), None),
        SocketAddress::Netlink { port, groups } => {
            info("netlink", format!("{port}/{groups:x}"), None)
        }
        SocketAddress::Packet {
            protocol,
            interface,
            ..
        } => info("packet", format!("{interface}/{protocol:04x}"), None),
        SocketAddress::Alg { kind, name } => {
            info("alg", format!("{}/{}", text(kind), text(name)), None)
        }
        SocketAddress::Vsock { cid, port } => info("vsock", format!("{cid}:{port}"), None),
        SocketAddress::Bluetooth(_) => info("bluetooth", String::new(), None),
        SocketAddress::Xdp { interface, queue } => {
            info("xdp", format!("{interface}/{queue}"), None)
        }
        SocketAddress::Unspecified => info("unspec", String::new(), None),
        SocketAddress::Other { family, .. } => info(&family.to_string(), String::new(), None),
        SocketAddress::Short(_) => info("short", String::new(), None),
    }
}

#[cfg(test)]
mod tests {
    use collector::{EventId, RecordType};

    use super::*;

    fn ring(operations: &[u32]) -> Activity {
        let mut event = Event::new(EventId::local(1, 1));
        for op in operations {
            let body = format!(
                "uring_op={op} success=yes exit=3 items=1 ppid=1 pid=2 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key=\"sm-uring\""
            );
            event.push(RecordType::URINGOP, body.as_bytes());
        }
        event.push(
            RecordType::SYSCALL,
            b"arch=c000003e syscall=426 success=yes exit=1 a0=4 a1=1 a2=1 a3=1 items=1 ppid=1 pid=2 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=\"ring\" exe=\"/bin/ring\" key=\"sm-ring\"",
        );
        derive(event)
    }

    #[test]
    fn what_a_ring_did_within_a_call_is_the_operation_and_who_is_said_by_the_call() {
        let a = ring(&[18]);
        let call = a.syscall.as_ref().unwrap();
        assert_eq!(
            (call.name.as_str(), call.arch.as_str()),
            ("openat", "io_uring")
        );
        assert_eq!(call.within.as_deref(), Some("io_uring_enter"));
        assert_eq!((call.args, call.operations.len()), ([0; 4], 0));
        assert_eq!(a.category, Category::File);
        assert_eq!((a.process.exe.as_str(), a.process.pid), ("/bin/ring", 2));
        assert_eq!(a.keys, ["sm-uring", "sm-ring"]);
    }

    #[test]
    fn an_operation_does_not_hide_behind_another_one() {
        // 0 is nop, which is nothing; 45 socket; 18 openat.
        let a = ring(&[0, 45, 18]);
        assert_eq!(
            a.syscall.as_ref().unwrap().operations,
            ["nop", "socket", "openat"]
        );
        assert_eq!(a.category, Category::Network);
    }

    #[test]
    fn the_call_alone_is_the_call() {
        let a = ring(&[]);
        let call = a.syscall.as_ref().unwrap();
        assert_eq!(
            (call.name.as_str(), call.within.as_deref()),
            ("io_uring_enter", None)
        );
        assert_eq!(call.args, [4, 1, 1, 1]);
    }
}
