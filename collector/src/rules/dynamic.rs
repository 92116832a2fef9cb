//! Rules that are built while the monitor runs: for a container, for a path, for ourselves.
//!
//! What they cost: a rule of the exit list is looked at on every system call of its mask by every process of the machine, some
//! 45 ns each. So each one lists the calls that it is about and tests what is cheapest first: architecture, kind of access, then
//! device or directory. A rule with a plain `path=` is kept by inode and costs only those who touch that file.

use crate::decode::{ARCH_AARCH64, ARCH_I386, ARCH_X86_64, syscall_number};

use super::rule::{Action, Field, FieldId, List, Rule, SyscallMask};

/// Open for reading or writing: the calls that `perm=r` and `perm=w` look into.
const OPEN: [&str; 4] = ["open", "openat", "openat2", "creat"];
/// Calls that change a file or the tree (`asm-generic/audit_write.h`, `audit_dir_write.h`), beside those of [`OPEN`].
const WRITE: [&str; 20] = [
    "truncate",
    "truncate64",
    "ftruncate",
    "ftruncate64",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "mknod",
    "mknodat",
    "bind",
];
/// Calls that change a file's attributes (`asm-generic/audit_change_attr.h`).
const ATTRIBUTE: [&str; 22] = [
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "chown32",
    "fchown32",
    "lchown32",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "setxattrat",
    "removexattrat",
    "link",
    "linkat",
    "file_setattr",
];
/// Calls that read without opening (`asm-generic/audit_read.h`).
const READ: [&str; 9] = [
    "readlink",
    "readlinkat",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "getxattrat",
];
const EXECUTE: [&str; 2] = ["execve", "execveat"];

/// What a rule about a path watches for, as auditctl's `perm=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Perm {
    /// Reading.
    pub read: bool,
    /// Writing, and changing what a directory holds.
    pub write: bool,
    /// Execution.
    pub execute: bool,
    /// Change of attributes.
    pub attribute: bool,
}

impl Perm {
    /// `wa`: every change.
    pub const CHANGE: Self = Self {
        read: false,
        write: true,
        execute: false,
        attribute: true,
    };
    /// `rwa`: every access but execution.
    pub const ACCESS: Self = Self {
        read: true,
        write: true,
        execute: false,
        attribute: true,
    };
    /// `w`.
    pub const WRITE: Self = Self {
        read: false,
        write: true,
        execute: false,
        attribute: false,
    };

    fn bits(self) -> u32 {
        u32::from(self.execute)
            | u32::from(self.write) << 1
            | u32::from(self.read) << 2
            | u32::from(self.attribute) << 3
    }

    fn calls(self) -> impl Iterator<Item = &'static str> {
        let of = |wanted: bool, calls: &'static [&'static str]| {
            calls.iter().copied().filter(move |_| wanted)
        };
        of(self.read || self.write, &OPEN)
            .chain(of(self.write, &WRITE))
            .chain(of(self.attribute, &ATTRIBUTE))
            .chain(of(self.read, &READ))
            .chain(of(self.execute, &EXECUTE))
    }
}

/// The architectures of this machine whose calls have names here: 64 bits, and 32 bits where programs for it run.
fn abis() -> &'static [u32] {
    if cfg!(target_arch = "aarch64") {
        &[ARCH_AARCH64]
    } else {
        &[ARCH_X86_64, ARCH_I386]
    }
}

/// The calls by number; a name that the architecture does not have (`open` on aarch64) is left out.
fn mask(arch: u32, calls: impl Iterator<Item = &'static str>) -> SyscallMask {
    let mut mask = SyscallMask::none();
    calls
        .filter_map(|call| syscall_number(arch, call))
        .for_each(|number| {
            mask.insert(number);
        });
    mask
}

/// One rule for each architecture: `always,exit` on those calls, `arch=`, then `fields`, then the key.
fn both_abis(
    calls: impl Iterator<Item = &'static str> + Clone,
    fields: &[Field],
    key: &str,
) -> Vec<Rule> {
    abis()
        .iter()
        .map(|&arch| {
            let mut rule = Rule::new(List::Exit, Action::Always, mask(arch, calls.clone()));
            rule.fields.push(Field::number(FieldId::ARCH, arch));
            rule.fields.extend_from_slice(fields);
            rule.fields
                .push(Field::text(FieldId::KEY, key.replace('\0', "")));
            rule
        })
        .collect()
}

/// Opening for writing on a container's procfs, whose device has this minor number (its major is 0): `/proc/PID/mem`,
/// `/proc/sys/kernel/core_pattern`, `/proc/self/loginuid`, `/proc/sysrq-trigger`.
pub fn container_proc_writes(devminor: u32, key: &str) -> Vec<Rule> {
    both_abis(
        OPEN.into_iter(),
        &[
            Field::number(FieldId::PERM, Perm::WRITE.bits()),
            Field::number(FieldId::DEVMINOR, devminor),
        ],
        key,
    )
}

/// Access to a path of the host, which containers may have mounted: with `dir` to everything below it. The calls are
/// listed, and the kind of access is tested before the path.
///
/// A plain file is watched by inode and may not exist yet, but its directory must. A NUL in the path ends it.
pub fn watch_path(path: impl AsRef<[u8]>, dir: bool, perm: Perm, key: &str) -> Vec<Rule> {
    let path = path
        .as_ref()
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let trimmed = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(&b"/"[..], |last| &path[..=last]);
    let id = if dir { FieldId::DIR } else { FieldId::PATH };
    both_abis(
        perm.calls().collect::<Vec<_>>().into_iter(),
        &[
            Field::number(FieldId::PERM, perm.bits()),
            Field::text(id, trimmed),
        ],
        key,
    )
}

/// No record of what the process `pid` does itself, put in front of the exit list: for shared mode, where the kernel audits its
/// reader like anybody. It is looked at on every system call of the machine; [`except_pid_from`] costs less.
///
/// It does not reach rules with `path=`, which the kernel keeps apart.
pub fn except_pid(pid: u32) -> Rule {
    let mut rule = Rule::new(List::Exit, Action::Never, SyscallMask::all());
    rule.set_prepend(true);
    rule.fields.push(Field::number(FieldId::PID, pid));
    rule.fields.push(Field::text(
        FieldId::KEY,
        format!("{}self", super::KEY_PREFIX),
    ));
    rule
}

/// [`except_pid`], only on the calls that the exit list's `rules` are about. (Rules with `path=` are not in that list.)
pub fn except_pid_from(pid: u32, rules: &[Rule]) -> Rule {
    let mut rule = except_pid(pid);
    rule.syscalls = SyscallMask::none();
    for other in rules {
        if other.list == List::Exit
            && other.action == Action::Always
            && other.text_of(FieldId::PATH).is_none()
        {
            rule.syscalls.union(&other.syscalls);
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn rules_read_as_auditctl_would_write_them() {
        let rules = container_proc_writes(57, "sm-proc");
        assert_eq!(
            rules.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "-a always,exit -F arch=b64 -S open,creat,openat,openat2 -F perm=w -F devminor=57 -F key=sm-proc",
                "-a always,exit -F arch=b32 -S open,creat,openat,openat2 -F perm=w -F devminor=57 -F key=sm-proc",
            ]
        );
        let rules = watch_path("/srv/data//", true, Perm::CHANGE, "sm-hostfs");
        let text = rules[0].to_string();
        assert!(
            text.contains(" -F perm=wa -F dir=/srv/data -F key=sm-hostfs"),
            "{text}"
        );
        assert!(
            !text.contains("-S all") && rules[0].syscalls().contains(82),
            "{text}"
        );
        assert_eq!(rules.len(), 2);
    }

    #[test]
    fn our_exception_is_ours_first_and_as_narrow_as_the_rules() {
        let mut rules = watch_path("/x", true, Perm::WRITE, "sm-x");
        let mut file = Rule::new(List::Exit, Action::Always, SyscallMask::all());
        assert!(file.push(Field::text(FieldId::PATH, "/etc/passwd")));
        rules.push(file);
        let rule = except_pid_from(77, &rules);
        assert!(rule.is_ours() && rule.prepend() && !rule.syscalls().is_all());
        assert!(except_pid(77).syscalls().is_all());
    }

    #[test]
    fn a_hostile_path_stays_one_path() {
        let rules = watch_path(b"/a\0b", false, Perm::WRITE, "sm-x");
        assert_eq!(rules[0].text_of(FieldId::PATH), Some(&b"/a"[..]));
        assert_eq!(
            watch_path("/", true, Perm::WRITE, "k")[0].text_of(FieldId::DIR),
            Some(&b"/"[..])
        );
    }
}
