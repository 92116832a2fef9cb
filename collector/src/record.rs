//! `Record`: one audit message, its type and its body.

/// Type of an audit message, `include/uapi/linux/audit.h` and libaudit's `audit-records.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(pub u16);

#[allow(missing_docs)]
impl RecordType {
    pub const LOGIN: Self = Self(1006);
    pub const SYSCALL: Self = Self(1300);
    pub const PATH: Self = Self(1302);
    pub const IPC: Self = Self(1303);
    pub const SOCKETCALL: Self = Self(1304);
    pub const CONFIG_CHANGE: Self = Self(1305);
    pub const SOCKADDR: Self = Self(1306);
    pub const CWD: Self = Self(1307);
    pub const EXECVE: Self = Self(1309);
    pub const FD_PAIR: Self = Self(1317);
    pub const OBJ_PID: Self = Self(1318);
    pub const EOE: Self = Self(1320);
    pub const BPRM_FCAPS: Self = Self(1321);
    pub const MMAP: Self = Self(1323);
    pub const SECCOMP: Self = Self(1326);
    pub const PROCTITLE: Self = Self(1327);
    pub const KERN_MODULE: Self = Self(1330);
    pub const URINGOP: Self = Self(1336);
    pub const OPENAT2: Self = Self(1337);
    pub const ANOM_PROMISCUOUS: Self = Self(1700);
    pub const ANOM_ABEND: Self = Self(1701);
}

/// One record of an event: what stands behind `audit(…): `, undecoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Type.
    pub kind: RecordType,
    /// `name=value` fields as the kernel wrote them.
    pub body: &'a [u8],
}
