//! Everything about an [`Activity`] that its own records say. What needs the process table, containers or `/proc` is added
//! by the enricher, and is what an encoded activity stores.

use collector::Event;
use collector::decode::{SocketAddress, Syscall, UNSET, errno_name};
use collector::text::{into_text, to_text};
use compact_str::{CompactString, format_compact};

use crate::activity::{
    Activity, Attribution, PathInfo, Phase, Process, SocketInfo, SyscallInfo, Target,
};
use crate::{classify, paths};

/// Relative to the working directory (`AT_FDCWD`).
const AT_FDCWD: i32 = -100;

/// Builds the activity of an event, attributed to nobody yet.
pub fn derive(event: Event) -> Activity {
    let call = event.syscall();
    let name = call.as_ref().and_then(Syscall::name);
    let category = classify::category(&event, name, call.as_ref().map_or(0, |c| c.args[0]));
    let cwd = event.cwd().map(into_text);
    let process = process(&event, call.as_ref(), cwd.clone());
    let paths = path_infos(&event, name, call.as_ref(), cwd.as_deref());
    let socket = event.sockaddr().map(|a| socket(&a));
    let target = event.targets().into_iter().next().map(|t| Target {
        pid: t.pid,
        comm: text(&t.comm),
        container: None,
    });
    let keys = call
        .as_ref()
        .map(|c| c.keys.iter().map(|k| to_text(k).as_ref().into()).collect());
    let syscall = call.as_ref().map(syscall_info);
    drop(call);
    Activity {
        keys: keys.unwrap_or_default(),
        event,
        category,
        phase: Phase::Host,
        entered: false,
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

fn syscall_info(call: &Syscall<'_>) -> SyscallInfo {
    SyscallInfo {
        name: call
            .name()
            .map_or_else(|| format_compact!("{}", call.number), CompactString::from),
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
