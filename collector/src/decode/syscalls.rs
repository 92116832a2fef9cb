//! Architectures and system calls by name and number.
//!
//! In: the `arch=` and `syscall=` fields of a record. Out: names, and back again for the rule parser.

use super::syscall_tables::{AARCH64, I386, X32, X86_64};

/// `AUDIT_ARCH_X86_64`, `include/uapi/linux/audit.h`. The x32 ABI has it too, with bit 30 set in the call's number.
pub const ARCH_X86_64: u32 = 0xC000_003E;
/// `AUDIT_ARCH_I386`.
pub const ARCH_I386: u32 = 0x4000_0003;
/// `AUDIT_ARCH_AARCH64`.
pub const ARCH_AARCH64: u32 = 0xC000_00B7;
/// Ours, not the kernel's: the "architecture" of an io_uring operation, whose record (URINGOP) names none.
pub const ARCH_IO_URING: u32 = 0;

/// Bit that marks a call of the x32 ABI, `__X32_SYSCALL_BIT` in `asm/unistd.h`.
const X32_BIT: u32 = 0x4000_0000;
/// Number of the first call that is x32's alone.
const X32_FIRST: usize = 512;

/// Every architecture that audit can name: ELF machine with the 64-bit and little-endian flags (`AUDIT_ARCH_*`).
const ARCHES: [(u32, &str); 37] = [
    (ARCH_IO_URING, "io_uring"),
    (ARCH_X86_64, "x86_64"),
    (ARCH_I386, "i386"),
    (ARCH_AARCH64, "aarch64"),
    (0x4000_0028, "arm"),
    (0x0000_0028, "armeb"),
    (0xC000_9026, "alpha"),
    (0x4000_00C3, "arcompact"),
    (0x0000_00C3, "arcompactbe"),
    (0x4000_005D, "arcv2"),
    (0x4000_004C, "cris"),
    (0x0000_5441, "frv"),
    (0x0000_00A4, "hexagon"),
    (0xC000_0032, "ia64"),
    (0x0000_0004, "m68k"),
    (0x0000_0058, "m32r"),
    (0x4000_00BD, "microblaze"),
    (0x0000_0008, "mips"),
    (0x4000_0008, "mipsel"),
    (0x8000_0008, "mips64"),
    (0xA000_0008, "mips64n32"),
    (0xC000_0008, "mipsel64"),
    (0xE000_0008, "mipsel64n32"),
    (0x0000_005C, "openrisc"),
    (0x0000_000F, "parisc"),
    (0x8000_000F, "parisc64"),
    (0x0000_0014, "ppc"),
    (0x8000_0015, "ppc64"),
    (0xC000_0015, "ppc64le"),
    (0x4000_00F3, "riscv32"),
    (0xC000_00F3, "riscv64"),
    (0x0000_0016, "s390"),
    (0x8000_0016, "s390x"),
    (0x0000_002A, "sh"),
    (0x0000_0002, "sparc"),
    (0x8000_002B, "sparc64"),
    (0xC000_0102, "loongarch64"),
];

/// Names that libaudit's tables (and so people's rule files) use beside the kernel's own.
const ALIASES: [(&str, &str); 5] = [
    ("pread", "pread64"),
    ("pwrite", "pwrite64"),
    ("newfstat", "fstat"),
    ("sysctl", "_sysctl"),
    ("fadvise", "fadvise64"),
];

/// `x86_64` for `0xC000003E`.
pub fn arch_name(arch: u32) -> Option<&'static str> {
    ARCHES
        .iter()
        .find(|(code, _)| *code == arch)
        .map(|(_, name)| *name)
}

/// `0xC000003E` for `x86_64`. Also takes auditctl's `b64` and `b32`, which mean this machine's architectures.
pub fn arch_number(name: &str) -> Option<u32> {
    match name {
        "b64" if cfg!(target_arch = "aarch64") => Some(ARCH_AARCH64),
        "b64" => Some(ARCH_X86_64),
        "b32" if cfg!(target_arch = "aarch64") => Some(0x4000_0028),
        "b32" => Some(ARCH_I386),
        "i486" | "i586" | "i686" | "x86" => Some(ARCH_I386),
        "amd64" => Some(ARCH_X86_64),
        "arm64" => Some(ARCH_AARCH64),
        _ => ARCHES
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(code, _)| *code),
    }
}

/// Name of a system call, `execve` for (x86_64, 59). `None` for a number or an architecture that we have no name for
/// (x86_64, i386 and aarch64 are complete up to Linux 6.18). An io_uring operation is the pair ([`ARCH_IO_URING`], opcode).
pub fn syscall_name(arch: u32, number: u32) -> Option<&'static str> {
    let index = number as usize;
    let name = match arch {
        ARCH_X86_64 if number & X32_BIT != 0 => {
            let index = (number & !X32_BIT) as usize;
            if index >= X32_FIRST {
                X32.get(index - X32_FIRST)
            } else {
                X86_64.get(index)
            }
        }
        ARCH_X86_64 => X86_64.get(index),
        ARCH_I386 => I386.get(index),
        ARCH_AARCH64 => AARCH64.get(index),
        ARCH_IO_URING => return super::names::uring_op_name(number),
        _ => None,
    }?;
    (!name.is_empty()).then_some(*name)
}

/// Number of a system call, 59 for (x86_64, `execve`). Names of the kernel and of libaudit. For x32 ask for x86_64 and set bit 30.
pub fn syscall_number(arch: u32, name: &str) -> Option<u32> {
    let table: &[&str] = match arch {
        ARCH_X86_64 => &X86_64,
        ARCH_I386 => &I386,
        ARCH_AARCH64 => &AARCH64,
        ARCH_IO_URING => return super::names::uring_op_number(name),
        _ => return None,
    };
    if name.is_empty() {
        return None;
    }
    let find = |name: &str| table.iter().position(|n| *n == name);
    let index = find(name).or_else(|| {
        ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .and_then(|(_, real)| find(real))
    })?;
    u32::try_from(index).ok()
}

/// Every name of an architecture with its number, in order of number: for suggestions and `rules check`.
pub fn syscalls_of(arch: u32) -> impl Iterator<Item = (u32, &'static str)> {
    let table: &'static [&'static str] = match arch {
        ARCH_X86_64 => &X86_64,
        ARCH_I386 => &I386,
        ARCH_AARCH64 => &AARCH64,
        _ => &[],
    };
    (0u32..)
        .zip(table.iter().copied())
        .filter(|(_, name)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_calls_have_their_numbers() {
        let known = [
            (ARCH_X86_64, 0, "read"),
            (ARCH_X86_64, 59, "execve"),
            (ARCH_X86_64, 165, "mount"),
            (ARCH_X86_64, 335, "uretprobe"),
            (ARCH_X86_64, 442, "mount_setattr"),
            (ARCH_X86_64, 467, "open_tree_attr"),
            (ARCH_X86_64, 469, "file_setattr"),
            (ARCH_I386, 11, "execve"),
            (ARCH_I386, 21, "mount"),
            (ARCH_I386, 102, "socketcall"),
            (ARCH_I386, 469, "file_setattr"),
            (ARCH_AARCH64, 40, "mount"),
            (ARCH_AARCH64, 79, "newfstatat"),
            (ARCH_AARCH64, 221, "execve"),
            (ARCH_AARCH64, 447, "memfd_secret"),
            (ARCH_IO_URING, 18, "openat"),
        ];
        for (arch, number, name) in known {
            assert_eq!(syscall_name(arch, number), Some(name));
            assert_eq!(syscall_number(arch, name), Some(number));
        }
        assert_eq!(syscall_number(ARCH_X86_64, "pread"), Some(17));
        assert_eq!(syscall_name(ARCH_X86_64, X32_BIT | 520), Some("execve"));
        assert_eq!(syscall_name(ARCH_X86_64, X32_BIT), Some("read"));
    }

    #[test]
    fn holes_and_the_unknown_have_no_name() {
        for (arch, number) in [
            (ARCH_X86_64, 400),
            (ARCH_X86_64, 5000),
            (ARCH_AARCH64, 244),
            (1, 1),
            (ARCH_X86_64, u32::MAX),
        ] {
            assert_eq!(syscall_name(arch, number), None);
        }
        assert_eq!(syscall_number(ARCH_X86_64, ""), None);
        assert_eq!(syscall_number(ARCH_X86_64, "no_such_call"), None);
    }

    #[test]
    fn every_name_leads_back_to_its_number() {
        for arch in [ARCH_X86_64, ARCH_I386, ARCH_AARCH64] {
            let mut count = 0;
            for (number, name) in syscalls_of(arch) {
                assert_eq!(syscall_number(arch, name), Some(number), "{name}");
                assert_eq!(syscall_name(arch, number), Some(name));
                count += 1;
            }
            assert!(count > 300);
        }
        for (code, name) in ARCHES {
            assert_eq!(
                (arch_name(code), arch_number(name)),
                (Some(name), Some(code))
            );
        }
    }
}
