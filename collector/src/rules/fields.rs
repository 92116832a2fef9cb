//! The fields that a rule can test: names, kinds of value, and where and how the kernel allows them
//! (`audit_field_valid` in `kernel/auditfilter.c`, `audit_rule_fieldpair_data` in libaudit).

use netlink_packet_audit::constants as c;

use super::rule::{FieldId, List, Op, SADDR_FAM};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    /// Shown in hexadecimal.
    Bits,
    User,
    Group,
    /// Number or "unset".
    Session,
    Arch,
    RecordType,
    /// 0 or 1.
    Flag,
    Exit,
    Perm,
    FileType,
    FsType,
    Family,
    Inode,
    Text,
    Path,
    Key,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) id: FieldId,
    pub(super) kind: Kind,
}

const fn spec(name: &'static str, id: u32, kind: Kind) -> Spec {
    Spec {
        name,
        id: FieldId(id),
        kind,
    }
}

/// The first name of an id is the one that is printed.
pub(super) const FIELDS: [Spec; 45] = [
    spec("pid", c::AUDIT_PID, Kind::Number),
    spec("uid", c::AUDIT_UID, Kind::User),
    spec("euid", c::AUDIT_EUID, Kind::User),
    spec("suid", c::AUDIT_SUID, Kind::User),
    spec("fsuid", c::AUDIT_FSUID, Kind::User),
    spec("gid", c::AUDIT_GID, Kind::Group),
    spec("egid", c::AUDIT_EGID, Kind::Group),
    spec("sgid", c::AUDIT_SGID, Kind::Group),
    spec("fsgid", c::AUDIT_FSGID, Kind::Group),
    spec("auid", c::AUDIT_LOGINUID, Kind::User),
    spec("loginuid", c::AUDIT_LOGINUID, Kind::User),
    spec("pers", c::AUDIT_PERS, Kind::Number),
    spec("arch", c::AUDIT_ARCH, Kind::Arch),
    spec("msgtype", c::AUDIT_MSGTYPE, Kind::RecordType),
    spec("subj_user", c::AUDIT_SUBJ_USER, Kind::Text),
    spec("subj_role", c::AUDIT_SUBJ_ROLE, Kind::Text),
    spec("subj_type", c::AUDIT_SUBJ_TYPE, Kind::Text),
    spec("subj_sen", c::AUDIT_SUBJ_SEN, Kind::Text),
    spec("subj_clr", c::AUDIT_SUBJ_CLR, Kind::Text),
    spec("ppid", c::AUDIT_PPID, Kind::Number),
    spec("obj_user", c::AUDIT_OBJ_USER, Kind::Text),
    spec("obj_role", c::AUDIT_OBJ_ROLE, Kind::Text),
    spec("obj_type", c::AUDIT_OBJ_TYPE, Kind::Text),
    spec("obj_lev_low", c::AUDIT_OBJ_LEV_LOW, Kind::Text),
    spec("obj_lev_high", c::AUDIT_OBJ_LEV_HIGH, Kind::Text),
    // Not in auditctl's table; the kernel has it.
    spec("loginuid_set", c::AUDIT_LOGINUID_SET, Kind::Flag),
    spec("sessionid", c::AUDIT_SESSIONID, Kind::Session),
    spec("fstype", c::AUDIT_FSTYPE, Kind::FsType),
    spec("devmajor", c::AUDIT_DEVMAJOR, Kind::Number),
    spec("devminor", c::AUDIT_DEVMINOR, Kind::Number),
    spec("inode", c::AUDIT_INODE, Kind::Inode),
    spec("exit", c::AUDIT_EXIT, Kind::Exit),
    spec("success", c::AUDIT_SUCCESS, Kind::Flag),
    spec("path", c::AUDIT_WATCH, Kind::Path),
    spec("perm", c::AUDIT_PERM, Kind::Perm),
    spec("dir", c::AUDIT_DIR, Kind::Path),
    spec("filetype", c::AUDIT_FILETYPE, Kind::FileType),
    spec("obj_uid", c::AUDIT_OBJ_UID, Kind::User),
    spec("obj_gid", c::AUDIT_OBJ_GID, Kind::Group),
    spec("exe", c::AUDIT_EXE, Kind::Path),
    spec("saddr_fam", SADDR_FAM, Kind::Family),
    spec("a0", c::AUDIT_ARG0, Kind::Bits),
    spec("a1", c::AUDIT_ARG1, Kind::Bits),
    spec("a2", c::AUDIT_ARG2, Kind::Bits),
    spec("a3", c::AUDIT_ARG3, Kind::Bits),
];

/// Beside the table, since its values are collected from all over the line.
pub(super) const KEY: Spec = spec("key", c::AUDIT_FILTERKEY, Kind::Key);

pub(super) fn by_name(name: &str) -> Option<Spec> {
    FIELDS
        .iter()
        .chain([&KEY])
        .find(|spec| spec.name == name)
        .copied()
}

pub(super) fn by_id(id: FieldId) -> Option<Spec> {
    FIELDS
        .iter()
        .chain([&KEY])
        .find(|spec| spec.id == id)
        .copied()
}

/// Does the kernel take this comparison for this field?
pub(super) fn op_allowed(spec: &Spec, op: Op) -> bool {
    match spec.id.0 {
        c::AUDIT_ARG0..=c::AUDIT_ARG3 | c::AUDIT_PERS | c::AUDIT_DEVMINOR => true,
        // libaudit and the kernel's tree and watch code want plain equality here.
        c::AUDIT_WATCH
        | c::AUDIT_DIR
        | c::AUDIT_PERM
        | c::AUDIT_FILTERKEY
        | c::AUDIT_LOGINUID_SET => op == Op::Equal,
        c::AUDIT_SUBJ_SEN | c::AUDIT_SUBJ_CLR | c::AUDIT_OBJ_LEV_LOW | c::AUDIT_OBJ_LEV_HIGH => {
            !matches!(op, Op::AnyBit | Op::AllBits)
        }
        c::AUDIT_ARCH | c::AUDIT_FSTYPE | c::AUDIT_FILETYPE | c::AUDIT_EXE => {
            matches!(op, Op::Equal | Op::NotEqual)
        }
        _ if matches!(spec.kind, Kind::Text) => matches!(op, Op::Equal | Op::NotEqual),
        _ => !matches!(op, Op::AnyBit | Op::AllBits),
    }
}

/// Does the kernel take this field in rules of this list?
pub(super) fn list_allowed(spec: &Spec, list: List) -> bool {
    let id = spec.id.0;
    match list {
        _ if id == c::AUDIT_FILTERKEY => true,
        List::Filesystem => id == c::AUDIT_FSTYPE,
        List::Exit => id != c::AUDIT_FSTYPE && id != c::AUDIT_MSGTYPE,
        // An operation has no architecture, no personality, no arguments, and its access is not classified.
        List::IoUring => !matches!(
            id,
            c::AUDIT_FSTYPE
                | c::AUDIT_MSGTYPE
                | c::AUDIT_PERM
                | c::AUDIT_ARCH
                | c::AUDIT_PERS
                | c::AUDIT_ARG0..=c::AUDIT_ARG3
        ),
        List::Exclude => {
            (id < c::AUDIT_DEVMAJOR && id != c::AUDIT_FSTYPE && id != c::AUDIT_ARCH)
                || id == c::AUDIT_EXE
        }
        List::User => before_the_call(id),
        List::Task => before_the_call(id) && id != c::AUDIT_MSGTYPE,
        List::Other(_) => true,
    }
}

/// What auditctl takes where there is no end of a system call: all that needs neither its result nor its files.
fn before_the_call(id: u32) -> bool {
    !matches!(
        id,
        c::AUDIT_FSTYPE
            | c::AUDIT_DEVMAJOR
            | c::AUDIT_DEVMINOR
            | c::AUDIT_INODE
            | c::AUDIT_EXIT
            | c::AUDIT_SUCCESS
            | c::AUDIT_WATCH
            | c::AUDIT_PERM
            | c::AUDIT_DIR
            | c::AUDIT_FILETYPE
    )
}

/// `-C`: the pairs of fields that can be compared with each other (`AUDIT_COMPARE_*`), the way round that auditctl prints them.
pub(super) const COMPARISONS: [(&str, &str, u32); 25] = [
    ("uid", "obj_uid", c::AUDIT_COMPARE_UID_TO_OBJ_UID),
    ("gid", "obj_gid", c::AUDIT_COMPARE_GID_TO_OBJ_GID),
    ("euid", "obj_uid", c::AUDIT_COMPARE_EUID_TO_OBJ_UID),
    ("egid", "obj_gid", c::AUDIT_COMPARE_EGID_TO_OBJ_GID),
    ("auid", "obj_uid", c::AUDIT_COMPARE_AUID_TO_OBJ_UID),
    ("suid", "obj_uid", c::AUDIT_COMPARE_SUID_TO_OBJ_UID),
    ("sgid", "obj_gid", c::AUDIT_COMPARE_SGID_TO_OBJ_GID),
    ("fsuid", "obj_uid", c::AUDIT_COMPARE_FSUID_TO_OBJ_UID),
    ("fsgid", "obj_gid", c::AUDIT_COMPARE_FSGID_TO_OBJ_GID),
    ("uid", "auid", c::AUDIT_COMPARE_UID_TO_AUID),
    ("uid", "euid", c::AUDIT_COMPARE_UID_TO_EUID),
    ("uid", "fsuid", c::AUDIT_COMPARE_UID_TO_FSUID),
    ("uid", "suid", c::AUDIT_COMPARE_UID_TO_SUID),
    ("auid", "fsuid", c::AUDIT_COMPARE_AUID_TO_FSUID),
    ("auid", "suid", c::AUDIT_COMPARE_AUID_TO_SUID),
    ("auid", "euid", c::AUDIT_COMPARE_AUID_TO_EUID),
    ("euid", "suid", c::AUDIT_COMPARE_EUID_TO_SUID),
    ("euid", "fsuid", c::AUDIT_COMPARE_EUID_TO_FSUID),
    ("suid", "fsuid", c::AUDIT_COMPARE_SUID_TO_FSUID),
    ("gid", "egid", c::AUDIT_COMPARE_GID_TO_EGID),
    ("gid", "fsgid", c::AUDIT_COMPARE_GID_TO_FSGID),
    ("gid", "sgid", c::AUDIT_COMPARE_GID_TO_SGID),
    ("egid", "fsgid", c::AUDIT_COMPARE_EGID_TO_FSGID),
    ("egid", "sgid", c::AUDIT_COMPARE_EGID_TO_SGID),
    ("sgid", "fsgid", c::AUDIT_COMPARE_SGID_TO_FSGID),
];
