//! Calls as rules mean them, whatever the registers hold beside it.
//!
//! A 32-bit call's registers may have rubbish in their upper halves, which the kernel cuts off and audit records. An argument that
//! is an `int` is cut off in every ABI. And i386 has one call, socketcall, for all of the socket interface (net/socket.c).

use collector::record::RecordType;
use enricher::activity::{Activity, SyscallInfo};

/// `include/uapi/linux/net.h`, by number from 1.
const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// Name of the call; for socketcall that of the call that it stands for.
pub(crate) fn name(call: &SyscallInfo) -> &str {
    if call.name == "socketcall" {
        let wanted = int(call.args[0]);
        let name = wanted
            .checked_sub(1)
            .and_then(|n| SOCKETCALLS.get(n as usize));
        return name.copied().unwrap_or("socketcall");
    }
    &call.name
}

/// A register as the call's own ABI sees it.
pub(crate) fn register(call: &SyscallInfo, number: usize) -> u64 {
    let value = call.args[number];
    if is_32_bit(&call.arch) {
        u64::from(int(value))
    } else {
        value
    }
}

/// The lower half, all that the kernel sees of an `int`.
fn int(value: u64) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // That is the point.
    let low = value as u32;
    low
}

fn is_32_bit(arch: &str) -> bool {
    matches!(
        arch,
        "i386"
            | "arm"
            | "armeb"
            | "m68k"
            | "mips"
            | "mipsel"
            | "parisc"
            | "ppc"
            | "s390"
            | "sh"
            | "sparc"
    )
}

/// Arguments of a socket(2), family and protocol; those of a socketcall lie in memory, the kernel writes them into a record.
fn socket_arguments(activity: &Activity) -> Option<(u32, u32)> {
    let call = activity.syscall.as_ref()?;
    if name(call) != "socket" {
        return None;
    }
    if call.name == "socket" {
        return Some((int(call.args[0]), int(call.args[2])));
    }
    let record = activity.event.record(RecordType::SOCKETCALL)?;
    let argument = |name: &str| record.get(name)?.hex();
    Some((int(argument("a0")?), int(argument("a2")?)))
}

/// Family of the socket that a call asks for, `include/linux/socket.h`. Those that nothing here has a name for are all `other`:
/// a family can be made up.
pub(crate) fn socket_family(activity: &Activity) -> Option<&'static str> {
    Some(match socket_arguments(activity)?.0 {
        1 => "unix",
        2 => "inet",
        10 => "inet6",
        16 => "netlink",
        17 => "packet",
        31 => "bluetooth",
        38 => "alg",
        40 => "vsock",
        44 => "xdp",
        _ => "other",
    })
}

/// Protocol of the socket that a call asks for, a number of that family.
pub(crate) fn socket_protocol(activity: &Activity) -> Option<u32> {
    Some(socket_arguments(activity)?.1)
}

const S_IFMT: u32 = 0o170_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;

/// Kind and numbers of the device that mknod is to make. A character device 0:0 is none: overlay marks a deleted file by one.
fn device(activity: &Activity) -> Option<(&'static str, u32, u32)> {
    let call = activity.syscall.as_ref()?;
    let (mode, device) = match call.name.as_str() {
        "mknod" => (int(call.args[1]), int(call.args[2])),
        "mknodat" => (int(call.args[2]), int(call.args[3])),
        _ => return None,
    };
    // new_decode_dev, include/linux/kdev_t.h
    let (major, minor) = (
        (device & 0xf_ff00) >> 8,
        (device & 0xff) | ((device >> 12) & 0xf_ff00),
    );
    match mode & S_IFMT {
        S_IFBLK => Some(("block", major, minor)),
        S_IFCHR if (major, minor) == (0, 0) => Some(("whiteout", 0, 0)),
        S_IFCHR => Some(("char", major, minor)),
        _ => None,
    }
}

/// `block`, `char` or `whiteout`, of a call that makes a device node.
pub(crate) fn device_kind(activity: &Activity) -> Option<&'static str> {
    Some(device(activity)?.0)
}

/// `8:0`, of a call that makes a device node.
pub(crate) fn device_number(activity: &Activity) -> Option<String> {
    device(activity).map(|(_, major, minor)| format!("{major}:{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use collector::Event;
    use collector::event::EventId;
    use enricher::activity::{Attribution, Category, Phase, Process};

    fn activity(name: &str, arch: &str, args: [u64; 4]) -> Activity {
        Activity {
            event: Event::new(EventId::local(1, 1)),
            category: Category::Other,
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

    const RUBBISH: u64 = 0xdead_beef << 32;

    #[test]
    fn rubbish_in_the_upper_half_hides_nothing() {
        let family = |name, arch, args| socket_family(&activity(name, arch, args));
        assert_eq!(
            family("socket", "x86_64", [RUBBISH | 17, 3, 0, 0]),
            Some("packet")
        );
        assert_eq!(
            family("socket", "i386", [RUBBISH | 38, 5, 0, 0]),
            Some("alg")
        );
        assert_eq!(family("socket", "x86_64", [4711, 1, 0, 0]), Some("other"));
        assert_eq!(family("connect", "x86_64", [17, 0, 0, 0]), None);
        let call = activity("ptrace", "i386", [RUBBISH | 16, 1, 0, 0])
            .syscall
            .unwrap();
        assert_eq!(register(&call, 0), 16);
        let call = activity("ptrace", "x86_64", [RUBBISH | 16, 1, 0, 0])
            .syscall
            .unwrap();
        assert_eq!(
            register(&call, 0),
            RUBBISH | 16,
            "a long of this ABI is looked at as a whole"
        );
    }

    #[test]
    fn a_socketcall_is_the_call_that_it_stands_for() {
        let of = |args| {
            name(
                activity("socketcall", "i386", args)
                    .syscall
                    .as_ref()
                    .unwrap(),
            )
            .to_owned()
        };
        assert_eq!(of([3, 0, 0, 0]), "connect");
        assert_eq!(of([RUBBISH | 3, 0, 0, 0]), "connect");
        assert_eq!(of([0, 0, 0, 0]), "socketcall");
        assert_eq!(of([21, 0, 0, 0]), "socketcall");
        let mut socket = activity("socketcall", "i386", [1, 0xffd0_0000, 0, 0]);
        assert_eq!(socket_family(&socket), None, "its arguments are not known");
        socket
            .event
            .push(RecordType::SOCKETCALL, b"nargs=3 a0=11 a1=3 a2=300");
        assert_eq!(socket_family(&socket), Some("packet"));
        assert_eq!(socket_protocol(&socket), Some(0x300));
    }

    #[test]
    fn devices_are_told_from_whiteouts() {
        let of = |name, args| {
            let made = activity(name, "x86_64", args);
            (device_kind(&made), device_number(&made))
        };
        assert_eq!(
            of("mknod", [0, 0o060_644, 0x800, 0]),
            (Some("block"), Some("8:0".into()))
        );
        assert_eq!(
            of("mknodat", [0, 0, RUBBISH | 0o020_666, 0x101]),
            (Some("char"), Some("1:1".into()))
        );
        assert_eq!(of("mknod", [0, 0o020_000, 0, 0]).0, Some("whiteout"));
        assert_eq!(of("mknod", [0, 0o010_644, 0, 0]), (None, None), "a fifo");
        assert_eq!(
            of("mknod", [0, 0o060_644, 0x0010_0301, 0]).1,
            Some("3:257".into())
        );
    }
}
