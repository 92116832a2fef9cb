//! What the number in one field of a record means, for the records that are not a call, a path or an address of their own.

use super::flags::{map_flags, open_flags};
use super::names::{capabilities, flags_text, signal_name, socket_family};
use super::sockaddr::SocketAddress;
use super::syscalls::{ARCH_X86_64, arch_name, syscall_name};
use crate::record::{RawValue, Record, RecordType};

/// Every capability of Linux 6.18.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// The meaning of one field of a record in words, where its value does not say it already: sets of capabilities, signals, flags, the
/// call and action of seccomp, a socket's address. `None` for all others, and for what cannot be decoded.
#[inline]
pub fn interpret(record: Record<'_>, name: &[u8], value: RawValue<'_>) -> Option<String> {
    match record.kind {
        // What nearly every event is made of has nothing here, or nearly nothing: settled without a call.
        RecordType::SYSCALL | RecordType::EXECVE | RecordType::CWD | RecordType::PROCTITLE => None,
        RecordType::PATH if !name.starts_with(b"cap_f") || value.bytes == b"0" => None,
        _ => words(record, name, value),
    }
}

fn words(record: Record<'_>, name: &[u8], value: RawValue<'_>) -> Option<String> {
    match record.kind {
        RecordType::PATH => match name {
            b"cap_fp" | b"cap_fi" => set(value),
            _ => None,
        },
        RecordType::BPRM_FCAPS | RecordType::CAPSET => match name {
            b"fp" | b"fi" | b"old_pp" | b"old_pi" | b"old_pe" | b"old_pa" | b"pp" | b"pi"
            | b"pe" | b"pa" | b"cap_pi" | b"cap_pp" | b"cap_pe" | b"cap_pa" => set(value),
            _ => None,
        },
        RecordType::SOCKADDR if name == b"saddr" => {
            let bytes = value.decode();
            let bytes = match value.encoded {
                true => bytes,
                false => crate::record::unhex(value.bytes)?.into(),
            };
            Some(SocketAddress::from_bytes(&bytes).to_string())
        }
        RecordType::SECCOMP => match name {
            b"sig" => value.u64().filter(|n| *n > 0).and_then(signal),
            b"arch" => arch_name(u32::try_from(value.hex()?).ok()?).map(str::to_owned),
            b"syscall" => {
                let arch = record.get("arch")?.hex()?;
                syscall_name(u32::try_from(arch).ok()?, value.u32()?).map(str::to_owned)
            }
            b"code" => seccomp_action(value.hex()?),
            _ => None,
        },
        RecordType::ANOM_ABEND if name == b"sig" => signal(value.u64()?),
        RecordType::ANOM_PROMISCUOUS => match (name, value.bytes) {
            (b"prom" | b"old_prom", b"0") => Some("normal".to_owned()),
            (b"prom" | b"old_prom", _) => Some("promiscuous".to_owned()),
            _ => None,
        },
        RecordType::MMAP if name == b"flags" => Some(map_flags(value.hex()?)),
        RecordType::MQ_OPEN if name == b"oflag" => Some(open_flags(ARCH_X86_64, value.hex()?)),
        RecordType::OPENAT2 => match name {
            b"oflag" => Some(open_flags(ARCH_X86_64, value.octal()?)),
            b"resolve" => Some(resolve(value.hex()?)),
            _ => None,
        },
        RecordType::NETFILTER_CFG if name == b"family" => match value.u64()? {
            1 => Some("inet (both)".to_owned()),
            3 => Some("arp".to_owned()),
            5 => Some("netdev".to_owned()),
            family => socket_family(family).map(str::to_owned),
        },
        RecordType::CONFIG_CHANGE if name == b"list" => {
            const LISTS: [&str; 8] = [
                "user",
                "task",
                "entry",
                "watch",
                "exit",
                "exclude",
                "filesystem",
                "io_uring",
            ];
            LISTS
                .get(usize::try_from(value.u64()?).ok()?)
                .map(|s| (*s).to_owned())
        }
        _ => None,
    }
}

fn set(value: RawValue<'_>) -> Option<String> {
    Some(match value.hex()? {
        0 => "none".to_owned(),
        all if all == ALL_CAPABILITIES => "all".to_owned(),
        some => capabilities(some),
    })
}

fn signal(number: u64) -> Option<String> {
    signal_name(number).map(str::to_owned)
}

/// `SECCOMP_RET_*`, `linux/seccomp.h`: what a filter decided, without its 16 bits of data.
fn seccomp_action(code: u64) -> Option<String> {
    let name = match code & 0xffff_0000 {
        0x8000_0000 => "SECCOMP_RET_KILL_PROCESS",
        0x0000_0000 => "SECCOMP_RET_KILL_THREAD",
        0x0003_0000 => "SECCOMP_RET_TRAP",
        0x0005_0000 => "SECCOMP_RET_ERRNO",
        0x7fc0_0000 => "SECCOMP_RET_USER_NOTIF",
        0x7ff0_0000 => "SECCOMP_RET_TRACE",
        0x7ffc_0000 => "SECCOMP_RET_LOG",
        0x7fff_0000 => "SECCOMP_RET_ALLOW",
        _ => return None,
    };
    Some(name.to_owned())
}

/// `RESOLVE_*`, `linux/openat2.h`.
fn resolve(flags: u64) -> String {
    flags_text(
        flags,
        &[
            (1, "RESOLVE_NO_XDEV"),
            (2, "RESOLVE_NO_MAGICLINKS"),
            (4, "RESOLVE_NO_SYMLINKS"),
            (8, "RESOLVE_BENEATH"),
            (16, "RESOLVE_IN_ROOT"),
            (32, "RESOLVE_CACHED"),
        ],
        "0",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words_of(kind: RecordType, body: &str) -> Vec<(String, String)> {
        let record = Record {
            kind,
            body: body.as_bytes(),
        };
        record
            .fields()
            .filter_map(|(name, value)| {
                Some((
                    String::from_utf8_lossy(name).into_owned(),
                    interpret(record, name, value)?,
                ))
            })
            .collect()
    }

    #[test]
    fn numbers_of_records_are_put_into_words() {
        let expect = |kind, body, expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            assert_eq!(words_of(kind, body), expected, "{body}");
        };
        expect(
            RecordType::SECCOMP,
            "auid=1 sig=31 arch=c000003e syscall=165 compat=0 ip=0x7f code=0x7ffc0000",
            &[
                ("sig", "SIGSYS"),
                ("arch", "x86_64"),
                ("syscall", "mount"),
                ("code", "SECCOMP_RET_LOG"),
            ],
        );
        expect(
            RecordType::CAPSET,
            "pid=7 cap_pi=0 cap_pp=1ffffffffff cap_pe=200400 cap_pa=0",
            &[
                ("cap_pi", "none"),
                ("cap_pp", "all"),
                ("cap_pe", "net_bind_service,sys_admin"),
                ("cap_pa", "none"),
            ],
        );
        expect(
            RecordType::PATH,
            "item=0 name=\"/x\" cap_fp=2000 cap_fi=0 cap_fe=1",
            &[("cap_fp", "net_raw")],
        );
        expect(
            RecordType::SOCKADDR,
            "saddr=02000050C0A80001",
            &[("saddr", "192.168.0.1:80")],
        );
        expect(
            RecordType::ANOM_ABEND,
            "pid=1 sig=11",
            &[("sig", "SIGSEGV")],
        );
        expect(
            RecordType::OPENAT2,
            "oflag=0100102 mode=0600 resolve=0x8",
            &[
                ("oflag", "O_RDWR|O_CREAT|O_LARGEFILE"),
                ("resolve", "RESOLVE_BENEATH"),
            ],
        );
        expect(
            RecordType::MMAP,
            "fd=3 flags=0x2",
            &[("flags", "MAP_PRIVATE")],
        );
        expect(
            RecordType::CONFIG_CHANGE,
            "op=add_rule key=\"x\" list=4 res=1",
            &[("list", "exit")],
        );
        expect(RecordType::SYSCALL, "arch=c000003e syscall=59", &[]);
    }

    proptest! {
        #[test]
        fn no_field_of_any_record_is_too_strange(kind: u16, body: Vec<u8>, name in "[a-z_]{1,8}", known in prop::sample::select(RecordType::ALL.to_vec())) {
            for kind in [RecordType(kind), known] {
                let record = Record { kind, body: &body };
                for (name, value) in record.fields() {
                    let _ = interpret(record, name, value);
                }
                for encoded in [false, true] {
                    let _ = interpret(record, name.as_bytes(), RawValue { bytes: &body, quoted: false, encoded });
                }
            }
        }
    }
}
