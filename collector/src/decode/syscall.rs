//! SYSCALL, URINGOP, OBJ_PID and OPENAT2: who called what, and with which result.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{ARCH_IO_URING, UNSET, arch_name, errno_name, syscall_name};
use crate::event::Event;
use crate::record::{RawValue, Record, RecordType};

/// One system call, or one io_uring operation, as `audit_log_exit` and `audit_log_uring` in the kernel's `auditsc.c` write it.
///
/// An id that the record does not have (URINGOP has no auid, session, comm and exe) is [`UNSET`] or empty.
/// Process ids are the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syscall<'a> {
    /// `AUDIT_ARCH_*`; [`ARCH_IO_URING`] for an io_uring operation.
    pub arch: u32,
    /// Number of the call, or the io_uring opcode.
    pub number: u32,
    /// Did it succeed? `None` when the call never returned (exit, exec of another thread).
    pub success: Option<bool>,
    /// What it returned: a result, or a negative error number. 0 when the record does not say.
    pub exit: i64,
    /// The first four arguments, as they were at the call. 0 for an io_uring operation.
    pub args: [u64; 4],
    /// How many PATH records belong to it.
    pub items: u32,
    /// Parent's process id.
    pub ppid: u32,
    /// Process id (of the thread that called).
    pub pid: u32,
    /// Audit login id. A process in a container may set its own: never trust it.
    pub auid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// File system user id.
    pub fsuid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// File system group id.
    pub fsgid: u32,
    /// Controlling terminal, `None` for none.
    pub tty: Option<&'a [u8]>,
    /// Session number; [`UNSET`] when there is none.
    pub ses: u32,
    /// Name of the thread, at most 15 bytes, which it may set itself.
    pub comm: Cow<'a, [u8]>,
    /// Path of the executable, in the mount namespace of the process.
    pub exe: Cow<'a, [u8]>,
    /// Keys of the rule that matched.
    pub keys: SmallVec<[Cow<'a, [u8]>; 2]>,
    /// Security label of the process.
    pub subj: Option<&'a [u8]>,
}

impl<'a> Syscall<'a> {
    /// Reads a SYSCALL or URINGOP record; `None` for another one, or when it does not even say which call it was.
    pub fn from_record(record: Record<'a>) -> Option<Self> {
        let mut call = Self {
            arch: ARCH_IO_URING,
            number: 0,
            success: None,
            exit: 0,
            args: [0; 4],
            items: 0,
            ppid: 0,
            pid: 0,
            auid: UNSET,
            uid: UNSET,
            gid: UNSET,
            euid: UNSET,
            suid: UNSET,
            fsuid: UNSET,
            egid: UNSET,
            sgid: UNSET,
            fsgid: UNSET,
            tty: None,
            ses: UNSET,
            comm: Cow::Borrowed(b""),
            exe: Cow::Borrowed(b""),
            keys: SmallVec::new(),
            subj: None,
        };
        let number_field: &[u8] = match record.kind {
            RecordType::SYSCALL => b"syscall",
            RecordType::URINGOP => b"uring_op",
            _ => return None,
        };
        let mut number = None;
        for (name, value) in record.fields() {
            if name == number_field {
                number = value.u32();
            } else {
                call.take(name, value);
            }
        }
        call.number = number?;
        Some(call)
    }

    fn take(&mut self, name: &[u8], value: RawValue<'a>) {
        let id = |value: RawValue<'_>| value.u32().unwrap_or(UNSET);
        let hex = |value: RawValue<'_>| value.hex().unwrap_or(0);
        match name {
            b"arch" => {
                self.arch = value
                    .hex()
                    .and_then(|n| u32::try_from(n).ok())
                    .unwrap_or(UNSET)
            }
            b"success" => {
                self.success = match value.bytes {
                    b"yes" => Some(true),
                    b"no" => Some(false),
                    _ => None,
                }
            }
            b"exit" => self.exit = value.i64().unwrap_or(0),
            b"a0" => self.args[0] = hex(value),
            b"a1" => self.args[1] = hex(value),
            b"a2" => self.args[2] = hex(value),
            b"a3" => self.args[3] = hex(value),
            b"items" => self.items = value.u32().unwrap_or(0),
            b"ppid" => self.ppid = value.u32().unwrap_or(0),
            b"pid" => self.pid = value.u32().unwrap_or(0),
            b"auid" => self.auid = id(value),
            b"uid" => self.uid = id(value),
            b"gid" => self.gid = id(value),
            b"euid" => self.euid = id(value),
            b"suid" => self.suid = id(value),
            b"fsuid" => self.fsuid = id(value),
            b"egid" => self.egid = id(value),
            b"sgid" => self.sgid = id(value),
            b"fsgid" => self.fsgid = id(value),
            b"tty" => self.tty = (!value.is_null()).then_some(value.bytes),
            b"ses" => self.ses = id(value),
            b"comm" => self.comm = value.text().unwrap_or_default(),
            b"exe" => self.exe = value.text().unwrap_or_default(),
            b"subj" => self.subj = (!value.is_null()).then_some(value.bytes),
            b"key" => self.keys = split_keys(value),
            _ => {}
        }
    }

    /// Name of the call.
    pub fn name(&self) -> Option<&'static str> {
        syscall_name(self.arch, self.number)
    }

    /// Name of the architecture, `io_uring` for an io_uring operation.
    pub fn arch_name(&self) -> Option<&'static str> {
        arch_name(self.arch)
    }

    /// Name of the error that it failed with, `EPERM`.
    pub fn errno(&self) -> Option<&'static str> {
        match self.success {
            Some(false) => errno_name(self.exit.checked_neg()?),
            _ => None,
        }
    }
}

/// Several keys of one rule are joined by 0x01 (`audit_log_key`), so that the value becomes hex.
fn split_keys(value: RawValue<'_>) -> SmallVec<[Cow<'_, [u8]>; 2]> {
    match value.text() {
        None => SmallVec::new(),
        Some(Cow::Borrowed(text)) => text.split(|b| *b == 1).map(Cow::Borrowed).collect(),
        Some(Cow::Owned(text)) => text
            .split(|b| *b == 1)
            .map(|key| Cow::Owned(key.to_vec()))
            .collect(),
    }
}

/// A process that a call was aimed at (kill, ptrace, …): record OBJ_PID, `audit_log_pid_context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjPid {
    /// Process id, the host's.
    pub pid: u32,
    /// Audit login id.
    pub auid: u32,
    /// User id.
    pub uid: u32,
    /// Session.
    pub ses: u32,
    /// Name of the thread.
    pub comm: Vec<u8>,
}

/// `struct open_how` of openat2(2): record OPENAT2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenHow {
    /// `O_*`, for [`super::open_flags`].
    pub flags: u64,
    /// Mode of a file that it creates.
    pub mode: u64,
    /// `RESOLVE_*`.
    pub resolve: u64,
}

impl Event {
    /// The system call of the event, or its first io_uring operation when it has no call; `None` when there is neither or it is
    /// not readable.
    ///
    /// An operation that runs within io_uring_enter(2) is written into that call's event, before the call itself: then this is
    /// the call, which says who it was, and [`Event::operations`] has what was done.
    pub fn syscall(&self) -> Option<Syscall<'_>> {
        let of = |kind| self.records().find(move |r| r.kind == kind);
        of(RecordType::SYSCALL)
            .and_then(Syscall::from_record)
            .or_else(|| of(RecordType::URINGOP).and_then(Syscall::from_record))
    }

    /// The io_uring operations of the event, in the order in which they ended.
    pub fn operations(&self) -> impl Iterator<Item = Syscall<'_>> {
        self.records()
            .filter(|r| r.kind == RecordType::URINGOP)
            .filter_map(Syscall::from_record)
    }

    /// Processes that the call was aimed at.
    pub fn targets(&self) -> Vec<ObjPid> {
        let number = |record: &Record<'_>, name: &str| record.get(name).and_then(|v| v.u32());
        self.records()
            .filter(|r| r.kind == RecordType::OBJ_PID)
            .filter_map(|r| {
                Some(ObjPid {
                    pid: number(&r, "opid")?,
                    auid: number(&r, "oauid").unwrap_or(UNSET),
                    uid: number(&r, "ouid").unwrap_or(UNSET),
                    ses: number(&r, "oses").unwrap_or(UNSET),
                    comm: r
                        .get("ocomm")
                        .and_then(|v| v.text())
                        .unwrap_or_default()
                        .into_owned(),
                })
            })
            .collect()
    }

    /// What openat2(2) was asked for, since its flags are not among the arguments.
    pub fn openat2_flags(&self) -> Option<OpenHow> {
        let record = self.record(RecordType::OPENAT2)?;
        Some(OpenHow {
            flags: record.get("oflag")?.octal()?,
            mode: record.get("mode").and_then(|v| v.octal()).unwrap_or(0),
            resolve: record.get("resolve").and_then(|v| v.hex()).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;

    fn event(records: &[(RecordType, &str)]) -> Event {
        let mut event = Event::new(EventId::local(1, 1));
        records
            .iter()
            .for_each(|(kind, body)| event.push(*kind, body.as_bytes()));
        event
    }

    #[test]
    fn a_call_is_read_whole() {
        let event = event(&[
            (
                RecordType::SYSCALL,
                "arch=c000003e syscall=165 per=400000 success=no exit=-1 a0=7ffd a1=1 a2=2 a3=fffffffffffffffe items=2 ppid=10 \
                 pid=11 auid=4294967295 uid=1 gid=2 euid=3 suid=4 fsuid=5 egid=6 sgid=7 fsgid=8 tty=pts0 ses=9 comm=\"mount\" \
                 exe=2F746D702F61 subj=docker-default (enforce) key=6B310161\u{1d}ARCH=x86_64 SYSCALL=mount UID=\"x\"",
            ),
            (
                RecordType::OBJ_PID,
                "opid=77 oauid=-1 ouid=0 oses=-1 ocomm=73682078",
            ),
        ]);
        let call = event.syscall().unwrap();
        assert_eq!(
            (call.arch, call.number, call.name()),
            (0xc000_003e, 165, Some("mount"))
        );
        assert_eq!(
            (call.success, call.exit, call.errno()),
            (Some(false), -1, Some("EPERM"))
        );
        assert_eq!(call.args, [0x7ffd, 1, 2, 0xffff_ffff_ffff_fffe]);
        assert_eq!(
            [call.items, call.ppid, call.pid, call.auid, call.ses],
            [2, 10, 11, UNSET, 9]
        );
        assert_eq!([call.uid, call.gid, call.euid, call.suid], [1, 2, 3, 4]);
        assert_eq!([call.fsuid, call.egid, call.sgid, call.fsgid], [5, 6, 7, 8]);
        assert_eq!(
            (&*call.comm, &*call.exe, call.tty),
            (&b"mount"[..], &b"/tmp/a"[..], Some(&b"pts0"[..]))
        );
        assert_eq!(
            call.keys.iter().map(|k| &**k).collect::<Vec<_>>(),
            [&b"k1"[..], b"a"]
        );
        assert_eq!(call.subj, Some(&b"docker-default (enforce)"[..]));
        let target = event.targets();
        assert_eq!(
            target,
            [ObjPid {
                pid: 77,
                auid: UNSET,
                uid: 0,
                ses: UNSET,
                comm: b"sh x".to_vec()
            }]
        );
    }

    #[test]
    fn an_operation_and_the_call_around_it_are_told_apart() {
        let event = event(&[
            (
                RecordType::URINGOP,
                "uring_op=45 success=yes exit=5 items=0 ppid=1 pid=2 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key=\"ring\"",
            ),
            (
                RecordType::URINGOP,
                "uring_op=18 success=no exit=-13 items=1 ppid=1 pid=2 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key=\"ring\"",
            ),
            (
                RecordType::SYSCALL,
                "arch=c000003e syscall=426 success=yes exit=2 a0=4 a1=2 a2=2 a3=1 items=1 ppid=1 pid=2 auid=7 uid=0 gid=0 euid=0 \
                 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=3 comm=\"ring\" exe=\"/bin/ring\" key=(null)",
            ),
        ]);
        let call = event.syscall().unwrap();
        assert_eq!(
            (call.name(), call.auid, &*call.exe),
            (Some("io_uring_enter"), 7, &b"/bin/ring"[..])
        );
        let operations: Vec<_> = event
            .operations()
            .map(|o| (o.name(), o.arch_name(), o.exit))
            .collect();
        assert_eq!(
            operations,
            [
                (Some("socket"), Some("io_uring"), 5),
                (Some("openat"), Some("io_uring"), -13)
            ]
        );
    }

    #[test]
    fn an_io_uring_operation_is_a_call_without_names() {
        let event = event(&[(
            RecordType::URINGOP,
            "uring_op=18 success=yes exit=0 items=1 ppid=1 pid=2 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key=(null)",
        )]);
        let call = event.syscall().unwrap();
        assert_eq!(
            (call.arch_name(), call.name()),
            (Some("io_uring"), Some("openat"))
        );
        assert_eq!(
            (call.pid, call.auid, call.comm.len(), call.keys.len()),
            (2, UNSET, 0, 0)
        );
    }

    #[test]
    fn what_is_missing_is_none() {
        assert_eq!(
            event(&[(RecordType::SYSCALL, "arch=c000003e success=yes")]).syscall(),
            None
        );
        assert_eq!(event(&[(RecordType::PATH, "syscall=1")]).syscall(), None);
        let exit_group = event(&[(RecordType::SYSCALL, "arch=c000003e syscall=231 a0=0")]);
        assert_eq!(exit_group.syscall().unwrap().success, None);
        let open = event(&[(RecordType::OPENAT2, "oflag=0100102 mode=0600 resolve=0x8")]);
        assert_eq!(
            open.openat2_flags(),
            Some(OpenHow {
                flags: 0o100_102,
                mode: 0o600,
                resolve: 8
            })
        );
    }
}
